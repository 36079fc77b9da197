"The readers of lists of genre_fastai.collect: properties over any input, and hostile ones by name"
import csv, io, json, time, warnings
from pathlib import Path
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from genre_fastai.core import GenreError, escape_cell, unescape_cell
from genre_fastai.collect.urls import *
from genre_fastai.collect.google import *
from genre_fastai.collect.providers import *
from genre_fastai.collect.download import iter_urls

pytestmark = pytest.mark.filterwarnings('ignore::genre_fastai.collect.urls.UrlWarning')
fixtures = Path(__file__).parent/'fixtures'/'google'
quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

# addresses as lists have them: commas, queries, quotes, escapes, letters of any kind
letters = st.characters(codec='utf-8', categories=['L', 'N'], include_characters="-_.~%!$&'()*+,;=:@|")
part = st.text(letters, min_size=1, max_size=12).map(lambda s: s.rstrip(',;') or 'x')
addresses = st.builds(lambda scheme, host, path, q: f'{scheme}://{host}.example.com/{path}' + (f'?{q}' if q else ''),
    st.sampled_from(['http', 'https', 'HTTPS']), st.from_regex(r'[a-z0-9]{1,8}', fullmatch=True), part, st.one_of(st.just(''), part))
text = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20)

def unique(xs): return list(dict.fromkeys(xs))

@quick
@given(st.lists(addresses, min_size=1, max_size=8), st.sampled_from(['\n', '\r\n', '\r']), st.booleans(),
    st.sampled_from(['', 'url', 'Poster', 'some header']), st.booleans())
def test_one_address_a_line(tmp_path, xs, eol, bom, header, quoted):
    "Any line ends, a byte-order mark, blank lines, quotes, a header or none: the same addresses"
    lines = ([header] if header else ['']) + [f'"{x}"' if quoted else x for x in xs] + ['', '  ']
    (tmp_path/'l.txt').write_bytes(eol.join(lines).encode('utf-8-sig' if bom else 'utf-8'))
    assert read_urls(tmp_path/'l.txt', label='horror')['url'].tolist() == unique(xs)

@quick
@given(st.lists(st.tuples(addresses, text), min_size=1, max_size=6), st.sampled_from(',;\t'),
    st.sampled_from(['url', 'Poster', 'LINK', 'image']), st.sampled_from(['\n', '\r\n']))
def test_a_csv_of_any_kind(tmp_path, rows, delim, name, eol):
    "Whatever a spreadsheet writes beside the addresses comes back as it was"
    out = io.StringIO(newline='')
    w = csv.writer(out, delimiter=delim, lineterminator=eol, quoting=csv.QUOTE_ALL)
    w.writerows([['Title', name], *[(t, u) for u,t in rows]])
    (tmp_path/'l.csv').write_bytes(out.getvalue().encode())
    df = read_urls(tmp_path/'l.csv')
    first = {u:t for u,t in reversed(rows)}
    assert dict(zip(df['url'], df['Title'])) == {u:unescape_cell(t) for u,t in first.items()}

@quick
@given(st.lists(st.tuples(addresses, text, text), min_size=1, max_size=6))
def test_saved_and_read_again(tmp_path, rows):
    df = url_table([dict(url=u, label=l, title=t) for u,l,t in rows], bad=[])
    assert read_urls(save_urls(df, tmp_path/'u.csv')).equals(df)
    cells = [c for r in csv.reader(open(tmp_path/'u.csv', newline='', encoding='utf-8')) for c in r]
    assert not [c for c in cells if c[:1] in '=+-@\t\r' and c and not escape_cell(c)==c]

@quick
@given(st.binary(max_size=400))
def test_any_bytes(tmp_path, data):
    "A table, or a message for the user; nothing else"
    (tmp_path/'x').write_bytes(data)
    for read in (read_urls, google_urls, kaggle_movie_genre, kaggle_movies_metadata):
        try: df = read(tmp_path/'x')
        except GenreError: continue
        assert len(df) and list(df)[:6] == url_columns

@quick
@given(text)
def test_clean_url(s):
    try: u = clean_url(s)
    except ValueError: return
    assert u.lower().startswith(('http://', 'https://')) and not any(c in u for c in ' \t\r\n#') and clean_url(u) == u

@quick
@given(st.text(st.characters(codec='utf-8', exclude_characters='\\\0\b\f\n\r\t'), max_size=30), st.integers(1, 3))
def test_escapes_of_any_depth(s, depth):
    t = s
    for _ in range(depth): t = json.dumps(t)[1:-1]
    assert unescape_script(t) == s

@quick
@given(st.sampled_from(sorted(fixtures.glob('*.html'))), st.integers(0, 5000), st.integers(0, 400), st.text(max_size=5))
def test_a_mangled_page(f, at, n, insert):
    "A page that is cut or damaged gives its results or a message"
    s = f.read_text()
    at %= len(s)
    try: df = google_urls(s[:at] + insert + s[at+n:] + '\n')
    except GenreError: return
    assert df['url'].is_unique and list(df)[:6] == url_columns and df['source'].map(lambda o: o=='' or o.startswith('http')).all()

want = {'gen1':5, 'gen1b':4, 'gen2':4, 'gen3':6, 'gen4':4, 'gen5':4, 'gen5_saved':5, 'gen6':4, 'gen6_pairs':5}

@pytest.mark.parametrize('gen', want)
def test_every_generation(gen):
    df = google_urls(fixtures/f'{gen}.html', label='horror')
    assert len(df) == want[gen] and df['rank'].tolist() == [str(i+1) for i in range(len(df))]
    if gen=='gen1b': assert set(df['kind']) == {'thumbnail'}
    else:
        assert df['url'][:2].tolist() == ['https://img.example.com/alien.jpg?w=1000&fit=crop', 'https://img.example.com/it,1990.jpg']
        assert df['url'][2]=='https://cdn.example.org/the%20thing.png' and 'kind' not in df
    if gen not in ('gen1b', 'gen4'): assert df.loc[0, ['width', 'height']].tolist() == ['1000', '1500']
    if gen not in ('gen1b', 'gen3', 'gen6_pairs'): assert df['source'][0]=='https://films.example.com/alien?id=1&lang=en'

def test_a_single_file_page(tmp_path):
    "Chrome's .mhtml holds the page as quoted-printable"
    import email.mime.multipart, email.mime.text, email.charset
    cs = email.charset.Charset('utf-8'); cs.body_encoding = email.charset.QP
    m = email.mime.multipart.MIMEMultipart('related')
    m['From'] = '<Saved by Blink>'
    m.attach(email.mime.text.MIMEText((fixtures/'gen5.html').read_text(), 'html', cs))
    (tmp_path/'p.mhtml').write_bytes(m.as_bytes())
    assert google_urls(tmp_path/'p.mhtml')['url'].tolist() == google_urls(fixtures/'gen5.html')['url'].tolist()

@pytest.mark.parametrize('unit', ['\\', '\\u003d', '["https://x/', '"id",["https://x.example.com/a",1,2],', 'imgres?',
    'imgres?imgurl=http://x&', '{"ou":"http://x/', '<a href="https://x.example.com/"><div data-id="1">', '"2003":[',
    '["https://x.example.com/' + 'a.'*500])
def test_a_hostile_page_ends(unit):
    "Half a megabyte of what each pattern begins with: read in passing, not to the end of days"
    try: google_urls(unit*(500_000//len(unit)) + '\n')
    except GenreError as e: assert 'Looked for' in str(e)

def repeated(unit): return lambda n: unit*(n//len(unit)) + '\n'
def nested(n): return '<div>'*(n//14) + ''.join(f'<img class=n3VNCb src=http://a.example.com/{i}>' for i in range(n//80)) + '\n'
growing = dict(nested=nested, attributes=repeated('<a a='), quotes=repeated('<a href="'), comments=repeated('<!--'), ends=repeated('</'),
    questions=repeated('<?'), sections=repeated('<![CDATA['), blanks=repeated('<a'+' '*500), entities=lambda n: f'<img src="&#{"9"*n};">\n',
    scripts=repeated('<script>'),
    single=lambda n: 'Content-Type: multipart/related; boundary="b"\n' + '\n--b\nContent-Type: text/html\n\n<p>'*(n//30))

@pytest.mark.parametrize('kind', growing)
def test_time_grows_with_the_size(kind):
    "Four times the page, about four times the work (each of these once took the square of it, or a raw error)"
    def cpu(n):
        page,t = growing[kind](n), time.process_time()
        try: google_urls(page.encode() if kind=='single' else page)
        except GenreError: pass
        return time.process_time()-t
    cpu(2000) # what is loaded once
    assert cpu(80_000) < 8*cpu(20_000) + .1

def test_what_a_page_is_instead(tmp_path):
    "A page that is none of Google Images is named, with the way on, and no logo or lazy picture of it passes for a result"
    lazy = '<img data-src="https://th.bing.com/th/id/1"><img src="https://www.gstatic.com/images/logo.png">'
    bing = '<title>horror - Search Images</title><a class="iusc" m="{&quot;murl&quot;:&quot;https://a.example.com/1.jpg&quot;}">'
    for page,why in ((bing + lazy, 'Bing'), ('<title>horror at DuckDuckGo</title>' + lazy, 'duckduckgo_urls'),
        ('<title>Before you continue to Google Search</title>' + lazy, 'consent'),
        ('<form action="https://consent.google.com/save">' + lazy, 'consent'), ('<title>My \u202eblog</title>' + lazy, "'My blog'"),
        ('<div data-docid="x"><img src="data:image/gif;base64,R0"></div>', 'opens the tiles one by one')):
        with pytest.raises(GenreError, match=why): google_urls(page)
    for data,why in ((b'%PDF-1.7', 'PDF'), (b'\x1f\x8b\x08', 'gzip'), (b'bplist00', 'webarchive.*Page Source'),
        (b'[InternetShortcut]\nURL=x', 'shortcut'),
        (b'url,label,rank\nhttps://a.example.com/1.jpg,x,1\n', 'read_urls')):
        (tmp_path/'p').write_bytes(data)
        with pytest.raises(GenreError, match=why): google_urls(tmp_path/'p')
    for page,why in ((None, 'NoneType'), ('https://www.google.com/search?q=x', 'open it in a browser'), ('x'*5000, 'no results')):
        with pytest.raises(GenreError, match=why): google_urls(page)

@pytest.mark.parametrize('enc', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'latin-1', 'cp1252'])
def test_a_page_in_any_encoding(tmp_path, enc):
    s = (fixtures/'gen5.html').read_text()
    (tmp_path/'p.html').write_bytes(s.replace('charset="utf-8"', f'charset="{enc}"').encode(enc))
    assert google_urls(tmp_path/'p.html').equals(google_urls(s))

def test_old_single_files_are_nested(tmp_path):
    "Internet Explorer's and Outlook's .mht hold the page two levels down, in base64"
    from email.mime.multipart import MIMEMultipart
    from email.mime.text import MIMEText
    m,inner = MIMEMultipart('related'), MIMEMultipart('alternative')
    inner.attach(MIMEText((fixtures/'gen5.html').read_text(), 'html', 'utf-8'))
    m.attach(inner)
    (tmp_path/'p.mht').write_bytes(m.as_bytes())
    assert google_urls(tmp_path/'p.mht').equals(google_urls(fixtures/'gen5.html'))

def test_what_a_page_says_is_text():
    "Marks that turn the direction of writing, controls and scripts never reach a cell as they are"
    df = google_urls(fixtures/'odd.html', label=' horror\u202e ')
    assert df['label'].tolist() == ['horror']*4 and all(v.isprintable() for v in df.values.flat)
    assert df['source'].tolist() == ['https://films.example.com/=1+1%E2%80%AEgpj.exe', '', '', 'https://films.example.com/#:~:text=alien']
    assert google_urls('<img class=n3VNCb src="https://a.example.com/\ud800.jpg">')['url'].str.encode('utf-8').notna().all()

def test_sizes_are_capped(tmp_path):
    (tmp_path/'p.html').write_text('<html>' + ' '*5000)
    for read in (google_urls, read_urls):
        with pytest.raises(GenreError, match='max_bytes'): read(tmp_path/'p.html', max_bytes=4000)
    with pytest.raises(GenreError, match='MB'): google_urls('<html>' + ' '*5000, max_bytes=4000)

def test_bad_lines_are_named(tmp_path):
    p = tmp_path/'l.csv'
    p.write_text('# mine\nurl,label\nhttps://a.example.com/1.jpg,horror\nfile:///etc/passwd,horror\n\n'
        'https://b.example.com/x,y.jpg,horror\n"https://c.example.com/\n2.jpg",horror\n,horror\nhttps://me:secret@\n')
    bad = []
    with pytest.warns(UrlWarning, match='5 kept out.*at line 4, 6, 7, 9, 10'): df = read_urls(p, bad=bad)
    assert len(df)==1
    assert [(o['line'], o['reason'].split(' ')[0]) for o in bad] == [('4', 'does'), ('6', '3'), ('7', 'holds'), ('9', 'no'), ('10', 'the')]
    assert 'secret' not in str(bad)

@pytest.mark.parametrize('text,match', [('', 'is empty'), ('\n\n# x\n', 'is empty'), ('url\n', 'no web address'),
    ('url,title,title\nhttps://a.example.com/1,b,c\n', 'several columns'),
    ('url,title\nhttps://a.example.com/1,"never closed\n', 'line 2.*quotes'),
    ('title,scan\nAlien,1.jpg\n', 'no web address.*column `url`'),
    ('https://a.example.com/1.jpg,https://a.example.com/2.jpg\n', 'several values on a line')])
def test_refused(tmp_path, text, match):
    (tmp_path/'l.csv').write_text(text)
    with pytest.raises(GenreError, match=match): read_urls(tmp_path/'l.csv')

def test_binary_and_missing(tmp_path):
    (tmp_path/'l.csv').write_bytes(b'\x89PNG\0\0')
    with pytest.raises(GenreError, match='not a text file'): read_urls(tmp_path/'l.csv')
    with pytest.raises(GenreError, match='no file'): read_urls(tmp_path/'none.csv')
    with pytest.raises(GenreError, match='no file'): google_urls(tmp_path)

def test_kaggle_columns(tmp_path):
    (tmp_path/'k.csv').write_text('a,b\n1,2\n')
    for f in (kaggle_movie_genre, kaggle_movies_metadata):
        with pytest.raises(GenreError, match='no column with addresses of posters; it has a, b'): f(tmp_path/'k.csv')
    with pytest.raises(GenreError, match='w92'): kaggle_movies_metadata(tmp_path/'k.csv', size='w1000')

def test_kaggle_shared_links(tmp_path):
    "The same film twice is a repeat; two films with one link are not"
    def row(i): return f'{i},http://films.example.com/{i},Heat ({i}),7,Crime|Drama,https://a.example.com/h.jpg'
    (tmp_path/'k.csv').write_text('\n'.join(['imdbId,Imdb Link,Title,IMDB Score,Genre,Poster', *map(row, (1986, 1995, 1986)), '']))
    bad = []
    assert kaggle_movie_genre(tmp_path/'k.csv', bad=bad)['year'].tolist() == ['1986', '1995']
    assert bad[0]['line']=='4' and bad[0]['reason']=='repeats line 2'

def test_merge(tmp_path):
    a = url_table([dict(url=f'https://a.example.com/{i}', rank=i) for i in (1, 2, 3)], label='horror')
    b = url_table([dict(url=f'https://a.example.com/{i}', rank=r) for i,r in ((3, 1), (2, 9), (4, 2))], label='romance')
    save_urls(b, tmp_path/'b.csv')
    with pytest.warns(UrlWarning, match='2 of 4 addresses.*horror, romance'): keep = merge_urls(a, tmp_path/'b.csv', a)
    assert len(keep)==6 and keep['rank'].tolist() == ['1', '2', '3', '1', '9', '2']
    assert url_conflicts(keep)['labels'].tolist() == ['horror|romance']*2
    assert merge_urls(a, b, conflicts='drop')['url'].str[-1].tolist() == ['1', '4']
    best = merge_urls(a, b, conflicts='best')
    assert [(u[-1], l) for u,l in best[['url', 'label']].values] == [('1', 'horror'), ('2', 'horror'), ('3', 'romance'), ('4', 'romance')]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(merge_urls(a)) == 3 and len(url_conflicts(a)) == 0
    with pytest.raises(GenreError, match='unknown'): merge_urls(a, conflicts='ask')
    with pytest.raises(GenreError, match='No list'): merge_urls()

def test_merge_of_a_list_in_conflict_with_itself():
    a = url_table([dict(url='https://a.example.com/1', label=l) for l in ('horror', 'romance')])
    with pytest.warns(UrlWarning): assert len(merge_urls(a, conflicts='drop')) == 0

def test_a_picture_rather_than_its_page(tmp_path):
    (tmp_path/'u.csv').write_text('title,link,image\nAlien,https://films.example.com/alien,https://img.example.com/a.jpg\n')
    assert read_urls(tmp_path/'u.csv')['url'].tolist()==['https://img.example.com/a.jpg']

def test_merge_without_labels():
    a = pd.DataFrame(dict(url=['https://a.b/1.jpg','https://a.b/1.jpg','https://a.b/2.jpg']))
    assert merge_urls(a)[['url','label','rank']].values.tolist()==[['https://a.b/1.jpg','','1'],['https://a.b/2.jpg','','2']]
    with pytest.raises(GenreError, match='column `url`'): merge_urls(pd.DataFrame(dict(address=['x'])))

# --- lists of strangers: headers, labels, secrets

@pytest.mark.parametrize('text', ['poster_url,genre\n{},horror\n', 'image_link,label\n{},horror\n', 'film;afiche;genre\nA;{};horror\n',
    'sep=;\nurl;label\n{};horror\n', '"sep=,"\r\nPosterURL, label\r\n{}, "horror"\r\n', 'url|label\n{}|horror\n', 'id\tpic\tgenre\n1\t{}\thorror\n',
    '# mine\n\nPlot,Poster link,genre\n"a\nb",{},horror\n', 'url,image,genre\n/p/1,{},horror\n', 'page,cover,genre\nhttp://x.org/1,{},horror\n'])
def test_a_header_by_any_name(tmp_path, text):
    "The column with the addresses is found, and the label beside each stays with it; the same row by row"
    (tmp_path/'l.csv').write_bytes(text.format('http://x.org/1.jpg').encode())
    row = read_urls(tmp_path/'l.csv').iloc[0]
    assert (row['url'], row.get('genre') or row['label'])==('http://x.org/1.jpg', 'horror')
    assert [(o['url'], o.get('genre') or o['label']) for o in iter_list(tmp_path/'l.csv')]==[(row['url'], 'horror')]

@pytest.mark.parametrize('name', ['genre','Category','class'])
def test_an_address_in_two_genres(tmp_path, name):
    "What means `label` is the label, in a list, a table and dicts: the second genre is no repeat, and a given one does not hide it"
    rows = [('http://x.org/1.jpg', 'horror'), ('http://x.org/1.jpg', 'romance'), ('http://x.org/2.jpg', '')]
    (tmp_path/'l.csv').write_text(f'url,{name}\n' + ''.join(f'{u},{l}\n' for u,l in rows))
    assert read_urls(tmp_path/'l.csv', label='drama')['label'].tolist()==['horror','romance','drama']
    df = pd.DataFrame(rows, columns=['url',name])
    for o in (tmp_path/'l.csv', df, df.to_dict('records')): assert [r['label'] for r in iter_urls(o)]==[l for _,l in rows]
    with pytest.warns(UrlWarning, match='two classes'): assert len(merge_urls(tmp_path/'l.csv', conflicts='drop'))==1

def test_labels_without_a_header_are_said(tmp_path):
    for sep in (',', ';', ' ', '|'):
        (tmp_path/'l.txt').write_text(f'http://x.org/1.jpg{sep}horror\nhttp://x.org/2.jpg{sep}romance\n')
        with pytest.warns(UrlWarning, match='line url,label above'): read_urls(tmp_path/'l.txt')
    (tmp_path/'l.txt').write_text('a,b\nhttp://x.org/1,http://y.org/2\n')
    with pytest.raises(GenreError, match='Call the one with the pictures'): read_urls(tmp_path/'l.txt')
    (tmp_path/'l.txt').write_text('My list, of posters\nhttps://x.org/casablanca,1942.jpg\nhttps://x.org/w_1,h_2/3.jpg\n')
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        assert len(read_urls(tmp_path/'l.txt'))==2
    assert len(told)==1 and 'line 1' in str(told[0].message)

def test_one_label_in_two_spellings_is_no_contradiction(tmp_path):
    for name,label in (('a', 'horror'), ('b', 'Horror ')): (tmp_path/f'{name}.csv').write_text(f'url,label\nhttp://x.org/1.jpg,{label}\n')
    for how in ('keep', 'drop', 'best'):
        with warnings.catch_warnings(record=True) as told: urls = merge_urls(tmp_path/'a.csv', tmp_path/'b.csv', conflicts=how)
        assert urls[['url', 'label']].values.tolist()==[['http://x.org/1.jpg', 'horror']] and not told

secret_forms = ['http://u:{}@x.org/1.jpg', 'htp://u:{}@x.org/1.jpg', 'u:{}@x.org/1.jpg', 'http://u:a/{}@x.org/1.jpg', 'http://u:a#{}@x.org/1.jpg',
    'http://x.org/?api_key={}', 'htp://x.org/?api_key={}', 'http://x.org/?a=1&X-Amz-Signature={}', 'http://x.org/1?authtoken={}#top',
    'http://x.org/1;jsessionid={}', 'http://x.org/r?to=http://u:{}@y.org/', 'http://x.org/?password={}&b=2', 'http://x y.org/?client_secret={}']

@pytest.mark.parametrize('form', secret_forms)
def test_no_message_tells_a_secret(tmp_path, form):
    url,bad = form.format('S3CRET'), []
    (tmp_path/'l.csv').write_text(f'url,label\n{url},horror\n{url},romance\nhtp:{url},a,b\n')
    said = []
    of_rows = lambda: merge_urls(tmp_path/'l.csv'), lambda: read_urls(tmp_path/'l.csv', bad=bad), lambda: url_table([dict(url=f'x{url}')], bad=bad)
    of_names = lambda: read_urls(url), lambda: merge_urls(pd.DataFrame({url: [1]}))
    for f in of_rows + of_names*('//' in url):
        with warnings.catch_warnings(record=True) as told:
            try: f()
            except GenreError as e: said.append(e)
        said += [o.message for o in told]
    assert said and 'S3CRET' not in ' '.join(map(str, [*said, bad]))
