"From words to a folder in one call: searches that fail, names from strangers, and calls that go on"
import contextlib, json, random, re, sys, threading, warnings
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
import pandas as pd, pytest
from PIL import Image
from genre_fastai.core import GenreError
from genre_fastai.catalog.build import build_catalog
from genre_fastai.catalog.core import read_catalog
from genre_fastai.catalog.sources import catalog_from
from genre_fastai.collect import posters, providers
from genre_fastai.collect.download import download_posters, read_journal
from genre_fastai.measure import MeasureStore
from genre_fastai.collect.posters import SearchLists, collect_posters, list_name, search_sources
from genre_fastai.collect.providers import duckduckgo_urls, film_table, tmdb_urls
from genre_fastai.collect.urls import UrlWarning, read_urls, save_urls

def picture(seed):
    "The bytes of a small picture that no other number has"
    im = Image.frombytes('L', (9, 7), random.Random(seed).randbytes(63)).resize((100, 150))
    im.save(b := BytesIO(), 'JPEG')
    return b.getvalue()

@pytest.fixture(scope='module')
def site():
    "A server with a picture at every address that ends in .jpg, and its address"
    asked = []
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = picture(self.path) if self.path.endswith('.jpg') else b''
            self.send_response(200 if body else 404)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *args): return None
    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as srv:
        threading.Thread(target=srv.serve_forever, kwargs=dict(poll_interval=.02), daemon=True).start()
        yield f'http://127.0.0.1:{srv.server_port}', asked
        srv.shutdown()

class Search:
    "A source that has pictures of every class, but fails for those in `broken`"
    def __init__(self, base, broken=()): self.base,self.broken,self.asked = base, dict(broken), []
    def __call__(self, query, label, n):
        self.asked.append(query)
        if label in self.broken: raise self.broken[label]
        return [dict(url=f'{self.base}/{query.split()[0]}/{i}.jpg', title=f'{query} {i}') for i in range(n)]

def go(words, dest, source, n=3, **kw): return collect_posters(words, dest, n=n, source=source, allow_private=True, progress=False, **kw)

words = dict(horror='horror film', comedy='comedy film')

def test_goes_on(site, tmp_path):
    "Nothing is asked twice: neither the search nor the site"
    base,hits = site
    search = Search(base)
    cat = go(words, tmp_path/'p', search)
    assert cat.df['label'].value_counts().to_dict()=={'horror': 3, 'comedy': 3} and len(cat.ok)==6 and cat.df['title'][0]=='horror film 0'
    assert sorted(o.name for o in (tmp_path/'p/lists').iterdir())==['comedy.csv', 'horror.csv', 'searches.json']
    asked,seen = list(search.asked),len(hits)
    again = go(words, tmp_path/'p', search)
    assert search.asked==asked and len(hits)==seen and again.df.equals(cat.df)
    assert read_catalog(tmp_path/'p/collected.csv').df['id'].tolist()==cat.df['id'].tolist()
    fewer = go(words, tmp_path/'p', search, n=2)
    assert len(fewer)==4 and search.asked==asked and len(hits)==seen
    more = go(words, tmp_path/'p', search, n=5)
    assert len(more.ok)==10 and search.asked==asked*2 and len(hits)==seen+4
    assert go(words, tmp_path/'p', search, n=5, refresh=True).df['url'].tolist()==more.df['url'].tolist() and search.asked==asked*3

def test_other_words_are_searched_anew(site, tmp_path, capsys):
    search = Search(site[0])
    go(words, tmp_path, search)
    collect_posters(words | dict(horror='scary film'), tmp_path, n=3, source=search, allow_private=True)
    said = capsys.readouterr().out
    assert "horror: 3 addresses searched anew (query was 'horror film')" in said and 'comedy: 3 addresses from an earlier search' in said
    assert search.asked==['horror film', 'comedy film', 'scary film']
    assert 'genre-fastai catalog' in said and 'collected.csv' in said
    cat = read_catalog(tmp_path/'collected.csv')
    assert len(cat)==6 and sorted(cat.df.loc[cat.df['label']=='horror', 'title'])==[f'scary film {i}' for i in range(3)]
    assert len(read_journal(tmp_path))==9 # the journal has the old ones too
    go(words | dict(horror='scary film'), tmp_path, lambda q, l, n: search(q, l, n))
    assert len(search.asked)==5 # another source is another question

def test_one_search_fails(site, tmp_path):
    "All are tried, the lists of the others stay, and a rerun asks only for what is missing"
    three = words | dict(drama='drama film', war='war film')
    search = Search(site[0], dict(horror=GenreError('Too many requests. Wait.'), war=GenreError('Too many requests. Wait.')))
    with pytest.raises(GenreError, match=r'failed for 2 of 4 classes. horror, war: Too many requests. Wait. The lists of the others.*run the same again'):
        go(three, tmp_path, search)
    assert search.asked==list(three.values()) and not (tmp_path/'journal.jsonl').exists()
    search.broken,search.asked = dict(war=ZeroDivisionError('of its own')), []
    with pytest.raises(GenreError, match='1 of 4 classes. war: ZeroDivisionError: of its own'): go(three, tmp_path, search)
    assert search.asked==['horror film', 'war film']
    search.broken,search.asked = {}, []
    assert len(go(three, tmp_path, search).ok)==12 and search.asked==['war film']
    for nothing in (None, [], ''):
        with pytest.raises(GenreError, match="gave nothing for 'war film'"): go(three, tmp_path, lambda q, l, n: nothing, refresh=True)
    assert len(read_urls(tmp_path/'lists/war.csv'))==3 # a search that failed costs no list

def test_a_stopped_search_goes_on(site, tmp_path):
    "Ctrl-C in the second search: the first list is there"
    search = Search(site[0], dict(comedy=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt): go(words, tmp_path, search)
    search.broken,search.asked = {}, []
    assert len(go(words, tmp_path, search).ok)==6 and search.asked==['comedy film']

strange = ['A/B', 'A:B', 'CON', 'con', 'nul.txt', '../../up', '.', 'horror-1a2b3c4d', '=1+1', "it's", 'ужасы', '恐怖', '😱 horror', 'x'*300, '-rf', '%s {} $x$', '<b>', 'a,b;c', '"q"']

def test_names_of_strangers(site, tmp_path):
    "No name of a class leaves the folder, meets another's, or is changed on the way through lists, journal and catalog"
    files = [list_name(o) for o in strange]
    assert len(set(files))==len(files) and all(re.fullmatch(r'[a-z0-9][a-z0-9-]{0,60}\.csv', o) for o in files)
    assert not {o[:-4] for o in files} & {'con', 'nul', 'aux', 'com1'} and list_name('horror')=='horror.csv'
    named = [o for o in strange if o!='con' and o!='.']
    search = Search(site[0])
    for _ in range(2): cat = go({o: f'{i} film' for i,o in enumerate(named)}, tmp_path, search, n=1)
    assert cat.df['label'].tolist()==named and read_catalog(tmp_path/'collected.csv').df['label'].tolist()==named and len(cat.ok)==len(named)
    assert len(search.asked)==len(named) and len(list((tmp_path/'lists').iterdir()))==len(named)+1
    assert go({'Cafe\u0301\u200b ': 'cafe film'}, tmp_path/'two', search, n=1).df['label'].tolist()==['Caf\xe9']

@pytest.mark.parametrize('args,why', [(dict(queries={}), 'no class'), (dict(queries=None), 'no class'), (dict(queries={'a|b': 'x'}), 'stands between labels'),
    (dict(queries={'\ud800': 'x', 'b': 'y'}), 'half a character'), (dict(queries=['Horror', 'horror ']), 'case only'), (dict(queries={'a': ' '}), 'nothing to search'),
    (dict(queries={'a': ['x', 'y']}), 'nothing to search'), (dict(queries={'a': 'X', 'b': 'x '}), 'same pictures'), (dict(queries={float('nan'): 'x'}), 'no name'),
    (dict(queries={'unknown': 'x'}), 'unknown'), (dict(n=0), 'n=0'), (dict(n=-1), 'n=-1'), (dict(n=2.5), 'n=2.5'), (dict(n=True), 'n=True'), (dict(n='9'), "n='9'"),
    (dict(source='bing'), 'duckduckgo, tmdb, google, list'), (dict(source=['tmdb']), 'no source'), (dict(source=None), 'no source'), (dict(queries=7), 'no class'), (dict(conflicts='x'), "'keep', 'drop' or 'best'"), (dict(per_host=0), 'per_host=0'), (dict(sise=1), "'sise'")])
def test_refused_before_any_search(tmp_path, args, why):
    search = Search('http://127.0.0.1')
    args = dict(queries=words, dest=tmp_path/'p', source=search) | args
    with pytest.raises(GenreError, match=why): collect_posters(**args)
    assert not search.asked and not (tmp_path/'p').exists()

def test_a_file_for_a_folder(tmp_path):
    (tmp_path/'f').write_text('x')
    with pytest.raises(GenreError, match='is a file'): collect_posters(words, tmp_path/'f', source=Search('http://127.0.0.1'))
    (tmp_path/'p').mkdir(); (tmp_path/'p/lists').write_text('x')
    with pytest.raises(GenreError): collect_posters(words, tmp_path/'p', source=Search('http://127.0.0.1'))

def test_an_address_in_two_classes(site, tmp_path):
    base = site[0]
    both = lambda q, l, n: [f'{base}/{l}/1.jpg', f'{base}/both.jpg'] if l=='horror' else [f'{base}/both.jpg', f'{base}/{l}/1.jpg']
    for rule,n in (('keep', 4), ('drop', 2), ('best', 3)):
        with pytest.warns(UrlWarning, match='1 of [23] addresses stand in two classes'): assert len(go(words, tmp_path, both, conflicts=rule))==n
    assert list(go(words, tmp_path, lambda q, l, n: [f'{base}/{l}/1.jpg'], refresh=True).df['label'])==['horror', 'comedy']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UrlWarning)
        same = lambda q, l, n: [f'{base}/both.jpg']
        with pytest.raises(GenreError, match="All addresses of horror stand in other classes too, and conflicts='drop'"):
            go(words, tmp_path, same, conflicts='drop', refresh=True)

def test_what_a_source_answers(site, tmp_path):
    "Tables, dicts and addresses; what is none is counted, repeats are one, too many are cut, and the label is the class"
    base = site[0]
    rows = [dict(url=f'{base}/1.jpg', label='wrong', rank=7), dict(url=None), dict(url='data:image/png;base64,AA'), dict(url='/rel.jpg'), dict(url=f'{base}/1.jpg')]
    with pytest.warns(UrlWarning, match='4 kept out'): cat = go(['a'], tmp_path/'a', lambda q, l, n: rows)
    assert cat.df[['label', 'rank']].values.tolist()==[['a', '7']]
    with pytest.warns(UrlWarning, match='has 5 addresses of a; the first 3 are taken'):
        assert len(go(['a'], tmp_path/'b', lambda q, l, n: pd.DataFrame(dict(url=[f'{base}/{i}.jpg' for i in range(5)]))))==3
    with pytest.raises(GenreError, match='1 of 1 classes. a: .*no web address'): go(['a'], tmp_path/'c', lambda q, l, n: ['x', 7])
    with pytest.warns(UrlWarning, match='No picture came of b'):
        cat = go(['a', 'b'], tmp_path/'d', lambda q, l, n: [f'{base}/{l}.jpg' if l=='a' else f'{base}/gone'])
    assert cat.df['status'].tolist()==['ok', 'failed'] and len(read_catalog(tmp_path/'d/collected.csv'))==2

def test_lists_of_your_own_and_damaged_ones(site, tmp_path):
    "A list that was put there is used as it is; what cannot be read is said, and nothing is written over"
    search = Search(site[0])
    (tmp_path/'lists').mkdir(parents=True)
    (tmp_path/'lists/horror.csv').write_text(f'url,label\n{site[0]}/mine.jpg,other\n')
    cat = go(words, tmp_path, search)
    assert cat.df[['label']].values.ravel().tolist()==['horror']+['comedy']*3 and search.asked==['comedy film']
    (tmp_path/'lists/searches.json').write_bytes(b'{"comedy": [1], "horror": {"query": 7')
    assert len(go(words, tmp_path, search))==4 and search.asked==['comedy film'] # lists without a record will do
    (tmp_path/'lists/comedy.csv').write_bytes(b'url,label\n\x00')
    with pytest.raises(GenreError, match='comedy.csv is not a text file.*Or delete that list'): go(words, tmp_path, search)
    (tmp_path/'lists/comedy.csv').unlink()
    assert len(go(words, tmp_path, search))==4 and search.asked==['comedy film']*2

# --- the sources by name

class Engine:
    "Answers as ddgs's engine does"
    def __init__(self, base): self.base = base
    def search(self, query, page, **kw):
        return [dict(image=f'{self.base}/{query.split()[0]}{i}.jpg', title='T', url=f'{self.base}/page') for i in range(3)] if page==1 else []

def test_duckduckgo_by_name(site, tmp_path, monkeypatch):
    monkeypatch.setattr(providers, '_duckduckgo', lambda: Engine(site[0]))
    assert len(go(['horror', 'comedy'], tmp_path, ' DuckDuckGo').ok)==6
    assert json.loads((tmp_path/'lists/searches.json').read_text())['horror']==dict(query='horror movie poster', source='duckduckgo', n=3)

def test_without_the_extra(tmp_path, monkeypatch):
    for m in [o for o in sys.modules if o.startswith('ddgs')]: monkeypatch.delitem(sys.modules, m)
    monkeypatch.setitem(sys.modules, 'ddgs', None)
    with pytest.raises(GenreError, match=r'2 of 2 classes. horror, comedy: .*genre_fastai\[duckduckgo\]'): go(words, tmp_path, 'duckduckgo')

def test_files_by_name(site, tmp_path):
    "The words of `list` and `google` are files"
    for l in words: save_urls(pd.DataFrame(dict(url=[f'{site[0]}/{l}/{i}.jpg' for i in range(3)], label='')), tmp_path/f'{l}.csv')
    assert len(go({l: tmp_path/f'{l}.csv' for l in words}, tmp_path/'p', 'list').ok)==6
    with pytest.raises(GenreError, match='horror: .*no-such.html'): go(dict(horror='no-such.html'), tmp_path/'q', 'google')

def test_tmdb_by_name(site, tmp_path, monkeypatch):
    "The names of classes are genres, and what TMDB knows of a film goes along"
    from test_url_sources import StandIn, film
    monkeypatch.setenv('TMDB_API_KEY', 'k')
    with StandIn() as s:
        genres = [dict(id=27, name='Horror'), dict(id=18, name='Drama')]
        page = lambda q: dict(results=[film(10*int(q['with_genres'][0])+i) for i in range(3)], total_pages=1)
        s.answers = {'/configuration': dict(images=dict(secure_base_url=site[0], poster_sizes=['w342'])), '/genre/movie/list': dict(genres=genres), '/discover/movie': page}
        monkeypatch.setattr(posters, 'tmdb_urls', partial(tmdb_urls, base=s.url))
        cat = go(['Horror', 'drama'], tmp_path, 'tmdb')
        assert len(cat.ok)==6 and set(cat.df['label'])=={'Horror', 'drama'} and cat.df['tmdb_id'].is_unique and set(cat.df['genres'])=={'Horror|Thriller'}
        with pytest.raises(GenreError, match="1 of 2 classes. western: TMDB has no genre 'western'. It has Drama, Horror"): go(['Horror', 'western'], tmp_path, 'tmdb')

# --- by command

def run(*args):
    "A command in this process: its exit code"
    from genre_fastai.cli import main
    with pytest.raises(SystemExit) as e, contextlib.suppress(KeyboardInterrupt): main([str(o) for o in args]) or sys.exit(0)
    return e.value.code or 0

def film_csv(path, base, n, genres, **kw):
    pd.DataFrame([{'imdbId': i//2+1, 'Imdb Link': '', 'Title': f'Film {i//2} (1999)', 'Genre': genres(i), 'Poster': f'{base}/f{i}.jpg' if i%7 else 'N/A', **kw} for i in range(n)]).to_csv(path, index=False)

def test_a_table_of_films_by_command(site, tmp_path, monkeypatch, capsys):
    "`urls kaggle`, `download`, `catalog`: several genres a film, films that have none, and no film on two sides"
    monkeypatch.chdir(tmp_path)
    film_csv('MovieGenre.csv', site[0], 30, lambda i: ['Action|Drama', 'Drama', 'War|Drama', 'N/A', ''][i%5])
    assert run('urls', 'kaggle', 'MovieGenre.csv', '--out', 'u.csv')==0
    said = capsys.readouterr()
    assert '25 addresses in u.csv' in said.out and 'have no genre' in said.err and 'no poster' in said.err
    assert run('download', 'u.csv', '--dest', 'p', '--allow-private')==0 and run('catalog', 'p/journal.jsonl', '--out', 'p/c.csv')==0, capsys.readouterr().err
    cat = read_catalog(tmp_path/'p/c.csv')
    assert cat.multi and set(cat.classes)=={'Action', 'Drama', 'War'} and len(cat)==25
    bare = cat.df[cat.df['labels']=='']
    assert len(bare)>7 and set(bare['status'])=={'dropped'} and len(cat.ok)==25-len(bare)
    assert set(cat.df['title'])>={'Film 1'} and cat.df['year'].eq('1999').all() and cat.df['imdb_id'].str.fullmatch(r'tt00000\d\d').all()
    assert cat.ok.df.groupby('imdb_id')['split'].nunique().max()==1 and cat.ok.df.groupby('imdb_id').size().max()==2
    film_csv('bare.csv', site[0], 5, lambda i: '')
    assert run('urls', 'kaggle', 'bare.csv', '--out', 'b.csv')==2 and '--label' in capsys.readouterr().err
    assert run('urls', 'kaggle', 'bare.csv', '--label', 'film', '--out', 'b.csv')==0 and set(read_urls('b.csv')['label'])=={'film'}

def test_one_label_and_genres_together(site, tmp_path, monkeypatch, capsys):
    "A list with `label` and `genres` is of one label; rows that lack it are said"
    monkeypatch.chdir(tmp_path)
    film_csv('a.csv', site[0]+'/a', 12, lambda i: 'Action|Drama')
    film_csv('b.csv', site[0]+'/b', 12, lambda i: 'War')
    for l in 'ab': assert run('urls', 'kaggle', f'{l}.csv', '--label', l, '--out', f'{l}u.csv')==0
    assert run('urls', 'merge', 'au.csv', 'bu.csv', '--out', 'u.csv')==0 and run('download', 'u.csv', '--dest', 'p', '--allow-private')==0
    assert run('catalog', 'p/journal.jsonl', '--out', 'p/c.csv')==0, capsys.readouterr().err
    cat = read_catalog(tmp_path/'p/c.csv')
    assert not cat.multi and cat.classes==['a', 'b'] and 'Action|Drama' in set(cat.df['genres'])

def test_the_same_in_python(site, tmp_path):
    "A table of films, as a DataFrame with real lists, to a catalog of several genres; a mixed folder says what it leaves out"
    rows = [dict(imdb_id=i//2+1, title=f'Film {i}', year=1999., genres=[['Action', 'Drama'], ['Drama'], None][i%3], poster=f'{site[0]}/py{i}.jpg') for i in range(18)]
    with pytest.warns(UrlWarning, match='6 have no genre, the first in row 3 .Film 2.'): urls = film_table(pd.DataFrame(rows))
    got = download_posters(urls, tmp_path, allow_private=True, progress=False)
    with pytest.warns(UserWarning, match='6 rows have no label and take no part'): cat = build_catalog(got, progress=False)
    assert cat.multi and cat.classes==['Action', 'Drama'] and len(cat.ok)==12 and cat.ok.df.groupby('imdb_id')['split'].nunique().max()==1
    with pytest.warns(UserWarning, match='6 rows have no label'): assert len(build_catalog(tmp_path/'journal.jsonl', progress=False).ok)==12
    download_posters([dict(url=f'{site[0]}/h{i}.jpg', label='horror') for i in range(3)], tmp_path, allow_private=True, progress=False)
    with pytest.warns(UserWarning, match='18 rows have no label.*They have `genres`.*folders of their own'): catalog_from(tmp_path/'journal.jsonl')
    download_posters([f'{site[0]}/n{i}.jpg' for i in range(3)], tmp_path/'n', allow_private=True, progress=False)
    with pytest.raises(GenreError, match='column `label` or `genres`, or one label for all .`genre-fastai urls read'): catalog_from(tmp_path/'n/journal.jsonl')

def test_training_pixels_come_along(site, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    got = go(words, tmp_path/'to', Search(site[0]), cache_pixels=(80,60))
    assert len(MeasureStore().pixels((80,60)))==got.ok.df['sha256'].nunique()>0
