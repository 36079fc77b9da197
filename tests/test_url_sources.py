"TMDB and DuckDuckGo, asked over real sockets: a stand-in server on this machine gives answers of the documented shapes"
import json, logging, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
import pytest
from genre_fastai.core import GenreError
from genre_fastai.collect.urls import UrlWarning, url_columns
from genre_fastai.collect.providers import duckduckgo_urls, tmdb_urls

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
