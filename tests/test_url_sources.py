"TMDB and DuckDuckGo, asked over real sockets: a stand-in server on this machine gives answers of the documented shapes"
import json, logging, threading, time, warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
import pytest
from genre_fastai.core import GenreError
from genre_fastai.collect.urls import UrlWarning, url_columns
from genre_fastai.collect.providers import duckduckgo_urls, film_table, kaggle_movie_genre, kaggle_movies_metadata, tmdb_urls

key = 'k3y-that-nobody-may-see'

class StandIn:
    "Answers by path; `faults` is a list of (status, headers, body) that come before the right answers"
    def __init__(self): self.faults,self.asked,self.answers = [], [], {}
    def __enter__(self):
        outer = self
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                u = urlsplit(self.path)
                outer.asked.append((u.path, parse_qs(u.query), dict(self.headers), time.monotonic()))
                status,headers,body = outer.faults.pop(0) if outer.faults else (200, {}, None)
                if status=='cut': return self.connection.close()
                if body is None and status==200:
                    body = outer.answers.get(u.path)
                    if callable(body): body = body(parse_qs(u.query))
                    if body is None: status,body = 404, dict(success=False, status_code=34)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for k,v in {**headers, 'Content-Length': len(body)}.items(): self.send_header(k, str(v))
                self.end_headers()
                self.wfile.write(body)
            def log_message(self, *args): return None
        self.srv = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.srv.serve_forever, kwargs=dict(poll_interval=.02), daemon=True).start()
        self.url = f'http://127.0.0.1:{self.srv.server_port}'
        return self
    def __exit__(self, *args):
        self.srv.shutdown()
        self.srv.server_close()

def film(i, **kw):
    return dict(id=i, title=f'Film {i}', genre_ids=[27, 53], poster_path=f'/p{i}.jpg', release_date='1999-03-31', overview='=1+1', **kw)

@pytest.fixture
def tmdb(monkeypatch):
    monkeypatch.setenv('TMDB_API_KEY', key)
    def page(q):
        n = int(q['page'][0])
        films = [film(i) for i in range(20*n-19, 20*n+1)]
        films[3]['poster_path'] = None
        return dict(page=n, results=films, total_pages=3, total_results=60)
    with StandIn() as s:
        images = dict(secure_base_url='https://images.example.com/t/p/', poster_sizes=['w92', 'w342', 'original'])
        s.answers = {'/3/configuration': dict(images=images),
            '/3/genre/movie/list': dict(genres=[dict(id=27, name='Horror'), dict(id=53, name='Thriller')]), '/3/discover/movie': page,
            '/3/movie/7': {**film(7), 'imdb_id': 'tt0000007', 'genres': [dict(id=27, name='Horror')]}}
        s.base = s.url + '/3'
        yield s

@pytest.mark.filterwarnings('ignore::genre_fastai.collect.urls.UrlWarning')
def test_discover(tmdb):
    "Pages until there are enough posters; films without one are named"
    bad = []
    df = tmdb_urls(genre='horror', n=30, bad=bad, base=tmdb.base, primary_release_year=1999)
    assert len(df)==30 and df['rank'].tolist() == [str(i+1) for i in range(30)] and set(df['label']) == {'horror'}
    want = ['https://images.example.com/t/p/w342/p1.jpg', 'https://www.themoviedb.org/movie/1', '1999', 'Horror|Thriller', '1']
    assert df.loc[0, ['url', 'source', 'year', 'genres', 'tmdb_id']].tolist() == want
    assert list(df)[:6] == url_columns and [o['line'] for o in bad] == ['id 4', 'id 24']
    asked = [q for p,q,*_ in tmdb.asked if p=='/3/discover/movie']
    assert [q['page'] for q in asked] == [['1'], ['2']]
    assert all(q['with_genres']==['27'] and q['primary_release_year']==['1999'] for q in asked)
    assert len(tmdb_urls(n=1000, base=tmdb.base)) == 57

def test_by_id(tmdb):
    with pytest.warns(UrlWarning, match='1 x TMDB has no such film.*id 8'): df = tmdb_urls([7, '8'], label='mine', base=tmdb.base)
    assert df[['title', 'imdb_id', 'genres', 'label']].values.tolist() == [['Film 7', 'tt0000007', 'Horror', 'mine']]
    with pytest.raises(GenreError, match='w92, w342, original'): tmdb_urls([7], size='w500', base=tmdb.base)
    with pytest.raises(GenreError, match="'seven' is no TMDB id"): tmdb_urls(['seven'], base=tmdb.base)
    with pytest.raises(GenreError, match='Horror, Thriller'): tmdb_urls(genre='western', base=tmdb.base)

def test_waits_as_told(tmdb, monkeypatch):
    "429 with Retry-After is obeyed; 500, a cut connection and half an answer are asked again, later each time"
    waits = []
    monkeypatch.setattr(time, 'sleep', waits.append)
    tmdb.faults = [(429, {'Retry-After': '17'}, dict(status_code=25)), (500, {}, {}), ('cut', {}, None), (200, {}, b'{"images": {')]
    assert len(tmdb_urls([7], base=tmdb.base)) == 1
    assert [o for o in waits if o>=.1] == [17, 1, 2, 4] # the others keep the pace
    assert len([p for p,*_ in tmdb.asked if p=='/3/configuration']) == 5
    tmdb.faults = [(429, {'Retry-After': '7200'}, {})]
    with pytest.raises(GenreError, match='wait 7200 seconds'): tmdb_urls([7], base=tmdb.base)

def test_keeps_its_pace(tmdb):
    "No more than 30 requests a second, whatever the service allows"
    with pytest.warns(UrlWarning, match='a repeat'): tmdb_urls([7, 7, 7, 7], base=tmdb.base)
    times = [t for *_,t in tmdb.asked]
    assert len(times)==6 and times[-1]-times[0] >= 5/30*.9

@pytest.mark.parametrize('fault,match', [((401, {}, dict(status_code=7)), 'refuses the key'), ((422, {}, {}), 'status 422'),
    ((302, {'Location': 'http://127.0.0.1:1/'}, {}), 'status 302'), (('cut', {}, None), 'no usable answer')])
def test_the_key_stays_secret(tmdb, caplog, capsys, monkeypatch, fault, match):
    "Neither message, traceback, log nor table shows the key, whatever goes wrong"
    monkeypatch.setattr(time, 'sleep', lambda s: None)
    caplog.set_level(logging.DEBUG)
    tmdb.faults = [fault]*9
    with pytest.raises(GenreError, match=match) as e: tmdb_urls([7], base=tmdb.base)
    chain,ex = '', e.value
    while ex: chain,ex = chain+repr(ex), ex.__cause__ or (None if ex.__suppress_context__ else ex.__context__)
    tmdb.faults = []
    df = tmdb_urls([7], base=tmdb.base)
    assert tmdb.asked[0][1]['api_key'] == [key] # it was sent
    out = capsys.readouterr()
    for s in (chain, caplog.text, out.out, out.err, df.to_csv()): assert key not in s
    assert 'api_key=***' in caplog.text

def test_a_token_travels_in_a_header(tmdb, monkeypatch):
    monkeypatch.setenv('TMDB_API_KEY', 'aaa.bbb.ccc')
    tmdb_urls([7], base=tmdb.base)
    assert all('api_key' not in q and h['Authorization']=='Bearer aaa.bbb.ccc' for _,q,h,_ in tmdb.asked)

def test_refuses_before_asking(monkeypatch):
    monkeypatch.delenv('TMDB_API_KEY', raising=False)
    with pytest.raises(GenreError, match='TMDB_API_KEY'): tmdb_urls([7])
    monkeypatch.setenv('TMDB_API_KEY', key)
    with pytest.raises(GenreError, match='https'): tmdb_urls([7], base='http://tmdb.example.com/3')

@pytest.fixture
def duck(monkeypatch):
    "ddgs as it is, with its requests led to the stand-in"
    client = pytest.importorskip('ddgs.http_client', reason='ddgs is not installed (pip install "genre_fastai[duckduckgo]")').HttpClient
    with StandIn() as s:
        def images(q):
            start,word = int(q.get('s', ['0'])[0]), q['q'][0][:6]
            def result(i): return dict(image=f'https://img.example.com/{i}%20{word}.jpg?a=1&b=2', thumbnail='https://thumbs.example.com/t',
                url=f'https://films.example.com/{i}', title=f'Film {i}', width=1000+i, height=1500, source='Bing')
            return dict(results=[result(i) for i in range(start, min(start+100, 230))])
        s.answers = {'': b'<script>vqd="4-123"</script>', '/': b'<script>vqd="4-123"</script>', '/i.js': images}
        real = client.request
        def request(self, method, url, **kw): return real(self, method, url.replace('https://duckduckgo.com', s.url), **kw)
        monkeypatch.setattr(client, 'request', request)
        yield s

def test_duckduckgo(duck):
    "Addresses and order stay as they came"
    df = duckduckgo_urls('horror movie poster', 'horror', n=150, wait=0)
    assert len(df)==150 and df['rank'].tolist() == [str(i+1) for i in range(150)]
    url,page = 'https://img.example.com/149%20horror.jpg?a=1&b=2', 'https://films.example.com/149'
    assert df.loc[149].tolist() == [url, 'horror', '150', '1149', '1500', page, 'Film 149']
    asked = [q for p,q,*_ in duck.asked if p=='/i.js']
    assert len(asked)==2 and asked[0]['vqd']==['4-123'] and asked[0]['q']==['horror movie poster']

def test_duckduckgo_refuses_and_is_asked_again(duck):
    token = (200, {}, b'vqd="4-1"')
    duck.faults = [token, (403, {}, b''), token, (200, {}, dict(results=[])), token, (200, {}, b'not json'), (200, {}, b'no token')]
    assert len(duckduckgo_urls('horror', n=50, wait=0)) == 50
    duck.faults = [token, (403, {}, b'')]*9
    with pytest.raises(GenreError, match=r'nothing for .horror. in 3 tries; the last was a refused request.*google_snippet'):
        duckduckgo_urls('horror', retries=2, wait=0)

def test_duckduckgo_ends(duck):
    "All there is, when that is less than was wanted"
    assert len(duckduckgo_urls('horror', n=1000, retries=1, wait=0)) == 230
    with pytest.raises(GenreError, match='query is empty'): duckduckgo_urls(' ')

def test_without_ddgs(monkeypatch):
    import sys
    for m in [o for o in sys.modules if o.startswith('ddgs')]: monkeypatch.delitem(sys.modules, m)
    monkeypatch.setitem(sys.modules, 'ddgs', None)
    with pytest.raises(GenreError, match=r'genre_fastai\[duckduckgo\]'): duckduckgo_urls('horror')

# --- answers of strangers

odd_values = [None, 7, 1.5, True, 'x', '', [], {}, [None], {'a': 1}, 'a\x00b\x1b[31m', '\ud800', [[[]]], 10**30, float('nan')]

@pytest.mark.filterwarnings('ignore::genre_fastai.collect.urls.UrlWarning')
@pytest.mark.parametrize('at', ['id', 'title', 'genre_ids', 'genres', 'poster_path', 'release_date', 'overview', 'imdb_id'])
def test_tmdb_answers_of_strangers(tmdb, at, tmp_path):
    "A field of another type costs at most its own row, and what comes can be saved and read"
    from genre_fastai.collect.urls import read_urls, save_urls
    films = [film(i, imdb_id=f'tt{i:07d}') | {at: v} for i,v in enumerate(odd_values, 1)] + [film(99), None, 'x', 7, []]
    tmdb.answers['/3/discover/movie'] = lambda q: dict(page=1, results=films, total_pages='1')
    bad = []
    df = tmdb_urls(n=100, bad=bad, base=tmdb.base)
    assert df['tmdb_id'].iloc[-1]=='99' and len(df)+len(bad)==len(odd_values)+1
    assert read_urls(save_urls(df, tmp_path/'l.csv')).equals(df)
    if at in ('title', 'overview'): assert len(df)==len(odd_values)+1 and not any(c in t for t in df[at] for c in '\x00\x1b\ud800')
    if at=='poster_path': assert len(df)==1 and {o['reason'] for o in bad}=={'no poster', 'its poster_path is not a path'}

@pytest.mark.filterwarnings('ignore::genre_fastai.collect.urls.UrlWarning')
@pytest.mark.parametrize('path', ['/3/configuration', '/3/genre/movie/list', '/3/discover/movie', '/3/movie/7'])
def test_tmdb_of_another_shape(tmdb, monkeypatch, path):
    "Whatever JSON stands at an address: a table or a message"
    monkeypatch.setattr(time, 'sleep', lambda s: None)
    right = tmdb.answers[path]
    for v in odd_values:
        for body in (v, dict(images=v, genres=v, results=v, total_pages=v), dict(images=dict(poster_sizes=v, secure_base_url=v), genres=[dict(id=v, name=v)], results=[v]*3)):
            if body is None: continue
            tmdb.answers[path] = body
            for ask in (dict(n=5), dict(ids=[7])):
                try: assert len(tmdb_urls(base=tmdb.base, **ask))
                except GenreError as e: assert str(e)
    tmdb.answers[path] = right
    for html in (b'<!doctype html><title>Busy</title>', b'', b'['*50_000, b'{"results": ['):
        tmdb.faults = [(200, {'Content-Type': 'text/html'}, html)]*6
        with pytest.raises(GenreError, match='an answer that is no JSON object'): tmdb_urls([7], base=tmdb.base)

def test_pages_that_repeat_for_ever(tmdb):
    "The end is where a page brings nothing new, whatever total_pages says"
    for total in ('3', 10**9, None, 'many', -1, 0):
        tmdb.answers['/3/discover/movie'] = lambda q: dict(page=int(q['page'][0]), results=[film(1), film(2)], total_pages=total)
        tmdb.asked.clear()
        assert len(tmdb_urls(n=100, base=tmdb.base))==2 and sum(p=='/3/discover/movie' for p,*_ in tmdb.asked)==2
    tmdb.answers['/3/discover/movie'] = lambda q: dict(results=[film(int(q['page'][0]))], total_pages='3')
    assert len(tmdb_urls(n=100, base=tmdb.base))==3

def test_genre_numbers(tmdb):
    "Numbers that the answer does not name are TMDB's own, and what nobody knows is said"
    films = [film(1) | dict(genre_ids=['27', 18]), film(2) | dict(genre_ids=[27.0, 4711])]
    tmdb.answers['/3/discover/movie'] = dict(results=films, total_pages=1)
    with pytest.warns(UrlWarning, match='1 numbers of genres that its list does not name, such as 4711'):
        assert tmdb_urls(base=tmdb.base)['genres'].tolist()==['Horror|Drama', 'Horror']

def test_ids_of_films(tmdb):
    "Ids as tables have them: texts, floats, IMDb's, and gaps"
    tmdb.answers['/3/find/tt0000007'] = dict(movie_results=[film(7)])
    tmdb.answers['/3/find/tt0000008'] = dict(movie_results=[])
    bad = []
    df = tmdb_urls(['7.0', 7, float('nan'), None, 'N/A', 'tt0000007', 'tt0000008'], bad=bad, base=tmdb.base)
    assert df[['tmdb_id', 'imdb_id']].values.tolist()==[['7', 'tt0000007']]
    assert [o['reason'] for o in bad]==['repeats line id 7', 'no id', 'no id', 'no id', 'repeats line id 7', 'TMDB has no such film']
    asked = [q for p,q,*_ in tmdb.asked if p=='/3/find/tt0000007']
    assert asked[0]['external_source']==['imdb_id']
    for odd in (['7a'], [[7]], [-7], ['https://www.themoviedb.org/movie/7']):
        with pytest.raises(GenreError, match='is no TMDB id'): tmdb_urls(odd, base=tmdb.base)
    for n in (0, -1, 1.5, '7', True):
        with pytest.raises(GenreError, match='Give 1 or more'): tmdb_urls(genre='horror', n=n, base=tmdb.base)

class Engine:
    "Pages of an image search"
    def __init__(self, *pages): self.pages,self.asked = pages, 0
    def search(self, query, page, **kw):
        self.asked += 1
        return self.pages[min(page, len(self.pages))-1]

def duck_urls(*pages, n=10, **kw): return duckduckgo_urls('horror', n=n, engine=Engine(*pages), wait=0, retries=0, **kw)

def test_results_of_strangers():
    "What is no picture is counted and does not fill the number that was asked for"
    odd = [dict(image=v, title=v, url=v, width=v, height=v) for v in odd_values] + [None, 'x', 7, {}]
    odd += [dict(image='data:image/png;base64,AA'), dict(image='/i/1.jpg'), dict(image='http://[::1/x.jpg')]
    good = [dict(image=f'https://e.org/{i}.jpg', title=odd_values[i%len(odd_values)], width='800', height=None) for i in range(30)]
    bad = []
    df = duck_urls(odd+good[:5], odd+good[5:], n=20, bad=bad)
    assert df['url'].tolist()==[o['image'] for o in good[:20]] and set(df['width'])=={'800'} and len(bad)>20
    assert not any(c in t for t in df['title'] for c in '\x00\x1b')
    assert duck_urls([dict(image='//e.org/1.jpg')], [])['url'].tolist()==['https://e.org/1.jpg']
    with pytest.raises(GenreError, match='gave nothing.*another form .dict'): duck_urls(dict(results=[]), {'x': 1})
    with pytest.raises(GenreError, match='gave .*horror|no web address'): duck_urls(odd)
    for n in (0, -5, 'x', None):
        with pytest.raises(GenreError, match='Give 1 or more'): duck_urls(good, n=n)

def test_search_pages_that_repeat_for_ever():
    e = Engine([dict(image='https://e.org/1.jpg'), dict(image='https://e.org/1.jpg#a')])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert len(duckduckgo_urls('horror', n=1000, engine=e, wait=0))==1 and e.asked==2

# --- tables of films

def films(tmp_path, text, **kw):
    "What `film_table` makes of a text, and what it says"
    (tmp_path/'t.csv').write_bytes(text if isinstance(text, bytes) else text.encode())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        df = film_table(tmp_path/'t.csv', **kw)
    return df, ' '.join(str(o.message) for o in told)

two = 'https://e.org/1.jpg', 'https://e.org/2.jpg'

@pytest.mark.parametrize('first,second,want', [('Action, Science Fiction', 'Drama', 'Action|Science Fiction'), ('Action,Drama', r'\N', 'Action|Drama'),
    ('Action|Drama', '(no genres listed)', 'Action|Drama'), ('Action;Drama', 'N/A', 'Action|Drama'), ("['Action', 'Drama']", '[]', 'Action|Drama'),
    ('["Action", "Drama"]', '', 'Action|Drama'), ("[{'id': 28, 'name': 'Action'}]", 'nan', 'Action'), ('[{"id": 28, "name": "Action"}]', 'None', 'Action'),
    ('[28, 18]', '[18]', 'Action|Drama'), ('28|18', '18', 'Action|Drama'), ('Action / Drama', 'Drama / Action', 'Action|Drama'), ('  Action ,\u200b Drama', 'War', 'Action|Drama')])
def test_genres_of_every_form(tmp_path, first, second, want):
    q = lambda s: '"' + s.replace('"', '""') + '"'
    df,told = films(tmp_path, f'title,genres,poster\nA,{q(first)},{two[0]}\nB,{q(second)},{two[1]}\n')
    assert df['genres'][0]==want
    assert bool(df['genres'][1]) != ('1 have no genre, the first in row 2 (B)' in told)

def test_what_cannot_be_read_is_counted(tmp_path):
    "Half a list, a number of no genre, a year in words: said, with the first"
    df,told = films(tmp_path, 'title,genres,poster,release_date\n' + '\n'.join([f'A,"[{{\'name\': \'Dra",{two[0]},1/2/1999', f'B,[4711],{two[1]},in spring',
        'C,[18],https://e.org/3.jpg,10/30/95', 'D,Drama,N/A,x']))
    assert df['genres'].tolist()==['', '', 'Drama'] and df['year'].tolist()==['1999', '', '']
    assert 'of 3 films the genres of 2 cannot be read, the first in row 1' in told and "the year of 2 cannot be read, the first in row 2: 'in spring'" in told
    assert '1 kept out (1 x no poster)' in told
    with pytest.raises(GenreError, match="no genre can be read in genres; the first cell is '.4711.'.*--label"): films(tmp_path, f'genres,poster\n[4711],{two[0]}\n')
    assert films(tmp_path, f'genres,poster\n[4711],{two[0]}\n', label='x')[0]['label'].tolist()==['x']

@pytest.mark.parametrize('day', ['30/10/1995', '10/30/1995', '1995-10-30', '30-Oct-1995', '30 Oct 1995', '1995.0', '1995–', '1995–2001', '34989', '1995-10-30 00:00:00', '19951030'])
def test_years_of_every_form(tmp_path, day):
    assert films(tmp_path, f'Title,Genre,Poster Path,Release_Date\nA,Drama,/a.jpg,{day}\n')[0]['year'].tolist()==['1995']

heads = {'Title,Year,Released,Genre,Plot,Poster,imdbID,Response': 'A,2001–2005,N/A,"Action, Drama",p,https://e.org/1.jpg,tt0000123,True',
    'id,title,status,release_date,adult,poster_path,imdb_id,overview,genres': '27205,A,Released,2001-07-15,False,/a.jpg,tt0000123,x,"Action, Drama"',
    'Poster_Link,Series_Title,Released_Year,Genre,IMDB_Rating,tconst': 'https://e.org/1.jpg,A,2001,"Action, Drama",9.2,tt123',
    'tconst\tprimaryTitle\tstartYear\tgenres\tposter_url': 'tt0000123\tA\t2001\tAction,Drama\thttps://e.org/1.jpg',
    'movieId,title,genres,imdbId,tmdbId,poster': '1,A (2001),Action|Drama,0000123,862.0,https://e.org/1.jpg',
    'imdbId,Imdb Link,Title,IMDB Score,Genre,Poster': '123,http://www.imdb.com/title/tt123,A (2001),7,Action|Drama,https://e.org/1.jpg',
    'url;TITLE;genre;Image;YEAR': 'https://www.imdb.com/title/tt0000123/;A;Action, Drama;https://e.org/1.jpg;2001.0',
    'id,title,genre_1,genre_2,cover,year': 'tt0000123,A,Action,Drama,//e.org/1.jpg,2001', 'imdb_id,name,Action,Drama,War,poster,year': 'tt0000123,A,1,1,0,https://e.org/1.jpg,2001'}

@pytest.mark.parametrize('head', heads)
def test_tables_of_films(tmp_path, head):
    "The tables of the trade give the same columns"
    df,told = films(tmp_path, f'{head}\n{heads[head]}\n')
    assert df.loc[0, ['title', 'year', 'genres', 'imdb_id']].tolist()==['A', '2001', 'Action|Drama', 'tt0000123'] and not told
    assert df['url'][0] in ('https://e.org/1.jpg', 'https://image.tmdb.org/t/p/w342/a.jpg') and not {'status', 'adult', 'Released'} & set(df)
    for f in (kaggle_movie_genre, kaggle_movies_metadata): assert f(tmp_path/'t.csv').equals(df)

@pytest.mark.parametrize('text,why', [('movieId,title,genres\n1,A,Drama\n', 'no column with addresses of posters; it has movieId, title, genres.*poster_url.*links.csv'),
    ('id,title,genres\n7,A,Drama\n', 'TMDB has posters for the ids in `id`.*urls tmdb --ids'), ('tconst,genres\ntt7000000,Drama\n', 'ids in `tconst`'),
    ('title,poster\nA,https://e.org/1.jpg\n', 'no column with genres; it has title, poster.*--label'), ('poster,genres\nposters/1.jpg,Drama\n', 'no cell of poster.*posters/1.jpg.*`file`'),
    ('poster,genres\n', 'no rows'), ('poster,genres\nN/A,Drama\n', 'poster says nothing in any of 1 rows'), (b'PK\x03\x04', 'packed'), (b'\x1f\x8b\x08', 'packed'), ('', 'csv|table'), ('<!doctype html>\n<html>', 'is a web page')])
def test_tables_that_will_not_do(tmp_path, text, why):
    with pytest.raises(GenreError, match=why): films(tmp_path, text)

def test_films_without_ids_are_known_by_name(tmp_path):
    df,_ = films(tmp_path, 'title,year,genre,poster\n' + ''.join(f'{t},{y},Drama,https://e.org/{i}.jpg\n' for i,(t,y) in enumerate([('A', 1999), ('A', 1999), ('A', ''), ('', 1999)])))
    assert df['film'].tolist()==['A (1999)', 'A (1999)', '', '']
