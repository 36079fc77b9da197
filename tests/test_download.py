"The downloader over real sockets on loopback: each fault, each refusal, death and resume"
import importlib.util, asyncio, contextlib, email.utils, errno, gzip, hashlib, io, json, os, random, shutil, signal, socket, ssl, subprocess, sys, threading, time
import tracemalloc, warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import aiohttp, pandas as pd, pytest
from PIL import Image, ImageFile
from genre_fastai.core import GenreError, atomic_write, redact
from genre_fastai.catalog.core import read_catalog, row_ids
from genre_fastai.catalog.build import build_catalog
from genre_fastai.collect import folder, net
from genre_fastai.collect.urls import UrlWarning
from genre_fastai.collect.download import Downloader, DownloadReport, download_posters, download_report, iter_urls, journal_rows, read_journal
from genre_fastai.collect.folder import ImageFolder, MeasureQueue
from genre_fastai.images import BadImage, check_image, upright_rgb
from genre_fastai.measure import MeasureStore
from genre_fastai.store import StoreWarning

def fetch(urls, dest, **kw): return download_posters(urls, dest, allow_private=True, progress=False, **kw)

def picture(i=0, size=(60,90), fmt='JPEG', mode='RGB', **kw):
    "The bytes of an image that no other number has"
    im = Image.frombytes('L', size, random.Random(i).randbytes(size[0]*size[1])).convert(mode)
    im.save(b := io.BytesIO(), fmt, **kw)
    return b.getvalue()

jpeg,png,webp,gif = picture(), picture(fmt='PNG'), picture(fmt='WEBP'), picture(fmt='GIF')
turned = picture(exif=(e := Image.Exif(), e.__setitem__(0x0112, 6))[0])

def bomb():
    "A PNG of 100 million pixels in a few KB"
    Image.new('1', (10_000,10_000)).save(b := io.BytesIO(), 'PNG')
    return b.getvalue()

class Server:
    "Answers by path from `routes`: bytes of a whole response, a number of seconds, or a function of (writer, times asked)"
    def __init__(self, routes=None, host='127.0.0.1', port=0, tls=None):
        self.routes,self.host,self.port,self.tls = routes or {}, host, port, tls
        self.hits,self.heads,self.open,self.most = Counter(), {}, 0, 0
    def __enter__(self):
        ready = threading.Event()
        def run():
            self.loop = asyncio.new_event_loop()
            self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, self.host, self.port, backlog=500, ssl=self.tls))
            self.port = self.server.sockets[0].getsockname()[1]
            ready.set()
            self.loop.run_forever()
            self.loop.close()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert ready.wait(10)
        return self
    def __exit__(self, *args):
        async def close():
            self.server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for t in tasks: t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.run_coroutine_threadsafe(close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
    def url(self, path): return f'http://127.0.0.1:{self.port}{path}'
    async def serve(self, r, w):
        try:
            while head := await r.readuntil(b'\r\n\r\n'):
                path = head.split(b' ', 2)[1].decode()
                self.hits[path] += 1
                self.heads[path] = head.decode()
                self.open += 1
                self.most = max(self.most, self.open)
                try: await self.answer(path, w)
                finally: self.open -= 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError): pass
        finally: w.close()
    async def answer(self, path, w):
        route = self.routes.get(path, self.routes.get('*'))
        if callable(route): route = await route(w, path, self.hits[path])
        if route: w.write(route)
        await w.drain()

def reply(body=b'', status='200 OK', *heads):
    return '\r\n'.join([f'HTTP/1.1 {status}', f'Content-Length: {len(body)}', *heads, '', '']).encode() + body
def cut(body): return b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(body) + body[:len(body)//2]
def go(where, status='302 Found'): return reply(b'', status, f'Location: {where}')

async def half(w, path, n): w.write(cut(jpeg)); w.close()
async def half_chunks(w, path, n):
    w.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n' + jpeg[:1024] + b'\r\n')
    w.close()
async def reset(w, path, n):
    w.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
    w.transport.abort()
async def endless(w, path, n):
    w.write(b'HTTP/1.1 200 OK\r\n\r\n' + jpeg)
    while True:
        w.write(b'\0'*100_000)
        await w.drain()
async def drip(w, path, n):
    w.write(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n')
    for b in jpeg:
        w.write(bytes([b]))
        await w.drain()
        await asyncio.sleep(.1)
async def silent(w, path, n): await asyncio.sleep(60)

faults = {
    '404': (reply(b'gone', '404 Not Found'), 'not-found'), '410': (reply(b'', '410 Gone'), 'not-found'),
    '403': (reply(b'', '403 Forbidden'), 'denied'),
    '451': (reply(b'', '451 No'), 'denied'), '418': (reply(b'', '418 Teapot'), 'http-error'),
    '204': (reply(b'', '204 No Content'), 'http-error'),
    '500': (reply(b'', '500 Broken'), 'server-error'), '304': (b'HTTP/1.1 304 Not Modified\r\n\r\n', 'http-error'),
    'html': (reply(b'\n <!DOCTYPE html><p>no', '200 OK', 'Content-Type: image/jpeg'), 'html'),
    'svg': (reply(b'<?xml version="1.0"?>\n<svg xmlns="x"></svg>'), 'svg'),
    'json': (reply(b'{"error": "\xc3\xa9"}'), 'text'), 'pdf': (reply(b'%PDF-1.4\0\1\2'), 'not-image'),
    'eps': (reply(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'), 'text'),
    'empty': (reply(), 'empty'), 'noise': (reply(bytes(range(256))*9), 'not-image'),
    'jpeg-half': (reply(jpeg[:len(jpeg)//2]), 'truncated'), 'jpeg-end': (reply(jpeg[:-40]), 'truncated'),
    'png-half': (reply(png[:len(png)//2]), 'truncated'),
    'webp-half': (reply(webp[:len(webp)//2]), 'truncated'), 'gif-half': (reply(gif[:len(gif)//2]), 'truncated'),
    'jpeg-head': (reply(jpeg[:10]), 'truncated'),
    'png-damaged': (reply(png[:60]+b'\xff'*30+png[90:]), 'damaged'),
    'cut': (half, 'cut'), 'cut-chunks': (half_chunks, 'cut'), 'reset': (reset, 'cut'), 'not-http': (b'hello\r\n\r\n', 'http-error'),
    'silent': (silent, 'timeout'), 'drip': (drip, 'timeout'), 'endless': (endless, 'too-large'),
    'said-large': (b'HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n', 'too-large'),
    'gzip-bomb': (reply(gzip.compress(b'\0'*60_000_000), '200 OK', 'Content-Encoding: gzip'), 'too-large'),
    'not-gzip': (reply(jpeg, '200 OK', 'Content-Encoding: gzip'), 'cut'),
    'pixel-bomb': (reply(bomb()), 'too-many-pixels'), 'noai': (reply(jpeg, '200 OK', 'X-Robots-Tag: noindex, NoAI'), 'noai'),
    'loop': (go('/loop'), 'redirects'), 'to-file': (go('file:///etc/hostname'), 'scheme'), 'to-ftp': (go('ftp://e.org/a.jpg'), 'scheme'),
    'to-nowhere': (reply(b'', '302 Found'), 'http-error'), 'to-nonsense': (go('http://['), 'redirects'),
}

def test_every_fault_has_its_reason(tmp_path):
    with Server({f'/{k}': v for k,(v,_) in faults.items()}) as s:
        start = time.monotonic()
        cat = fetch([s.url(f'/{k}') for k in faults], tmp_path/'to', timeout=3, max_bytes=5_000_000)
        assert time.monotonic()-start < 20
    got = {u.split('/')[-1]: r for u,r in zip(cat.df['url'], cat.df['reason'])}
    assert got == {k: r for k,(_,r) in faults.items()}
    assert set(cat.df['status']) == {'failed'} and not any((tmp_path/'to'/'images').iterdir()) and not (tmp_path/'to'/'.partial').exists()
    assert s.hits['/cut'] == s.hits['/500'] == 3 and s.hits['/404'] == s.hits['/html'] == 1
    assert dict(zip(cat.df['url'], cat.df['http']))[s.url('/500')] == '500'

def test_reasons_before_the_network(tmp_path, monkeypatch):
    def unknown(*args, **kw): raise socket.gaierror(socket.EAI_NONAME, 'unknown')
    def plain():
        with tls.accept()[0] as c: c.sendall(b'no certificate here\r\n')
    with socket.create_server(('127.0.0.1', 0)) as tls, socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        threading.Thread(target=plain, daemon=True).start()
        want = {'': 'bad-url', 'poster.jpg': 'bad-url', 'http://': 'bad-url', 'file:///etc/hostname': 'scheme',
            'data:image/png;base64,AAAA': 'scheme', 'ftp://e.org/a': 'scheme', 'javascript:alert(1)': 'scheme',
            f'http://127.0.0.1:{closed.getsockname()[1]}/a': 'connect', f'https://127.0.0.1:{tls.getsockname()[1]}/a': 'tls',
            'http://no-such-host.invalid/a.jpg': 'dns', 'http://2130706433/a': 'bad-url'}
        real = socket.getaddrinfo
        monkeypatch.setattr(socket, 'getaddrinfo', lambda h, *a, **kw: (unknown if 'no-such' in str(h) else real)(h, *a, **kw))
        cat = fetch(list(want), tmp_path, timeout=5)
    assert dict(zip(cat.df['url'], cat.df['reason'])) == want

def test_good_answers_in_odd_ways(tmp_path):
    async def twice(w, path, n): return reply(picture(n), '200 OK') if n>1 else reply(b'', '503 Busy', 'Retry-After: 1')
    async def second(w, path, n):
        if n>1: return reply(jpeg)
        await reset(w, path, n)
    async def slow(w, path, n):
        await asyncio.sleep(1)
        return reply(webp)
    routes = {'/a.php?id=7&x=%2B1': reply(png), '/a.php': reply(b'', '404 Not Found'), '/busy': twice, '/second': second, '/slow': slow,
        '/turned': reply(turned), '/gif': reply(gif), '/%C3%A9%20a.jpg': reply(picture(9)),
        '/gz': reply(gzip.compress(picture(8)), '200 OK', 'Content-Encoding: gzip'),
        **{f'/{c}': go('/there?k=v', f'{c} Moved') for c in (301,302,303,307,308)}, '/there?k=v': reply(picture(5)),
        '/other-bot': reply(picture(6), '200 OK', 'X-Robots-Tag: otherbot: noai'), '/%2e%2e/%2e%2e/etc/passwd.sh': reply(picture(7))}
    urls = ['/a.php?id=7&x=%2B1', '/busy', '/second', '/slow', '/turned', '/gif', '/é a.jpg', '/gz',
        '/301', '/302', '/303', '/307', '/308', '/other-bot', '/%2e%2e/%2e%2e/etc/passwd.sh#frag']
    with Server(routes) as s: cat = fetch([s.url(u) for u in urls], tmp_path)
    assert set(cat.df['reason']) == {''} and s.hits['/busy'] == s.hits['/second'] == 2
    row = {u: r for u,r in zip(urls, cat.df.to_dict('records'))}
    assert int(row['/busy']['ms']) >= 1000 and int(row['/slow']['ms']) >= 1000
    assert row['/302']['final_url'] == s.url('/there?k=v') and row['/slow']['final_url'] == s.url('/slow')
    assert len({row[f'/{c}']['file'] for c in (301,302,303,307,308)}) == 1
    assert [row[u]['file'].split('.')[-1] for u in urls[:6]] == ['png','jpg','jpg','webp','jpg','gif']
    assert (tmp_path/row['/turned']['file']).read_bytes() == turned
    assert all(p.resolve().parent == (tmp_path/'images').resolve() for p in cat.files)
    found = [(check_image(p.read_bytes())['format'], str(p.stat().st_size)) for p in cat.files]
    assert found == list(zip(cat.df['format'], cat.df['bytes']))

@pytest.mark.skipif(not shutil.which('openssl'), reason='openssl makes the certificate')
def test_a_certificate_that_nobody_signed(tmp_path):
    subprocess.run(['openssl','req','-x509','-newkey','rsa:2048','-nodes','-days','1','-subj','/CN=localhost',
        '-keyout',tmp_path/'key.pem','-out',tmp_path/'cert.pem'], check=True, capture_output=True)
    (ctx := ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).load_cert_chain(tmp_path/'cert.pem', tmp_path/'key.pem')
    with Server({'*': reply(jpeg)}, tls=ctx) as s:
        cat = fetch([f'https://localhost:{s.port}/a.jpg'], tmp_path/'to')
    assert cat.df['reason'].tolist()==['tls'] and not s.hits

def test_noai_can_be_switched_off(tmp_path):
    with Server({'*': reply(jpeg, '200 OK', 'X-Robots-Tag: noimageai')}) as s:
        assert fetch([s.url('/a')], tmp_path/'a').df['reason'][0] == 'noai'
        assert fetch([s.url('/a')], tmp_path/'b', noai=False).df['status'][0] == 'ok'

# ---- the guard
@pytest.fixture
def asyncio_loop(monkeypatch):
    "uvloop looks up names without Python's socket module, where these tests put theirs"
    monkeypatch.setitem(sys.modules, 'uvloop', None)

def test_private_addresses_are_refused_by_the_quicker_loop(tmp_path):
    with Server({'*': reply(jpeg)}) as s:
        urls = [f'http://{h}:{s.port}/a.jpg' for h in ('127.0.0.1', 'localhost', '[::1]', '[::ffff:127.0.0.1]')]
        cat = download_posters(urls, tmp_path, progress=False)
        assert set(cat.df['reason'])=={'private-address'} and not s.hits

def test_private_addresses_are_refused(tmp_path, monkeypatch, asyncio_loop):
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, 'getaddrinfo', lambda h, *a, **kw: real('127.0.0.1' if h=='poster.example' else h, *a, **kw))
    with Server({'*': reply(jpeg)}) as s:
        hosts = '127.0.0.1', 'localhost', 'poster.example', '[::1]', '[::ffff:127.0.0.1]', '0.0.0.0', '[::]'
        urls = [f'http://{h}:{s.port}/a.jpg' for h in hosts]
        cat = download_posters(urls, tmp_path, progress=False)
    assert set(cat.df['reason']) == {'private-address'} and not s.hits

def test_every_hop_is_checked(tmp_path, monkeypatch):
    # this machine plays the internet, and its other addresses the private network
    monkeypatch.setattr(net, 'is_public', lambda a: a=='127.0.0.1')
    with Server({'*': reply(jpeg)}, host='0.0.0.0') as inner, Server() as s:
        s.routes = {'/in': go(f'http://127.0.0.2:{inner.port}/secret.jpg'), '/twice': go('/in'),
            '/out': go(f'http://127.0.0.1:{inner.port}/open.jpg')}
        cat = download_posters([s.url(o) for o in ('/in', '/twice', '/out')], tmp_path, progress=False)
    assert cat.df['reason'].tolist() == ['private-address', 'private-address', ''] and dict(inner.hits) == {'/open.jpg': 1}

def test_a_name_that_changes_its_address(tmp_path, monkeypatch, asyncio_loop):
    real,answers = socket.getaddrinfo, iter(['127.0.0.1', '127.0.0.2'])
    monkeypatch.setattr(net, 'is_public', lambda a: a=='127.0.0.1')
    monkeypatch.setattr(socket, 'getaddrinfo', lambda h, *a, **kw: real(next(answers) if h=='rebind.example' else h, *a, **kw))
    with Server({'*': reply(jpeg, '200 OK', 'Connection: close')}, host='0.0.0.0') as s:
        for i,want in enumerate(['', 'private-address']):
            assert download_posters([f'http://rebind.example:{s.port}/{i}.jpg'], tmp_path, progress=False).df['reason'].tolist() == [want]
    assert list(s.hits) == ['/0.jpg']

def test_secrets_are_never_written(tmp_path, capsys):
    async def page(w, path, n): return reply(picture(len(path)))
    with Server({'*': page}) as s:
        s.routes['/move'] = go('/moved?token=hunter2b')
        named = s.url('/a?api_key=hunter2').replace('http://', 'http://me:hunter2@')
        bad = 'ftp://me:hunter2@e.org/', 'http://me:hunter2@:x/'
        urls = pd.DataFrame(dict(url=[named, s.url('/b?w=5&X-Amz-Signature=hunter2a'), s.url('/move'), *bad],
            source=['https://e.org/page?sid=hunter2', 'see https://e.org/#hunter', '', '', ''], title='hunter3'))
        cat = download_posters(urls, tmp_path, allow_private=True)
        assert cat.df['reason'].tolist() == ['', '', '', 'scheme', 'bad-url']
        assert 'Basic bWU6aHVudGVyMg==' in s.heads['/a?api_key=hunter2'] and s.hits['/moved?token=hunter2b'] == 1
        hits = s.hits.copy()
        assert download_posters(urls, tmp_path, allow_private=True).hash == cat.hash and s.hits == hits
    everything = (tmp_path/'journal.jsonl').read_text() + cat.to_csv() + repr(cat) + ''.join(capsys.readouterr())
    assert 'hunter2' not in everything and 'hunter3' in everything and cat.df['source'][1] == 'see https://e.org/#hunter'

def test_own_headers_stay_with_their_host(tmp_path):
    "Over a redirect to another host, port or scheme only what is harmless goes along"
    own = {'X-Api-Key': 'hunter2', 'Referer': 'hunter3', 'Cookie': 'hunter4', 'Authorization': 'hunter5', 'User-Agent': 'me'}
    with Server({'*': reply(jpeg)}) as there, Server({'*': reply(jpeg)}) as s:
        s.routes = {'/away': go(there.url('/x')), '/home': go('/2'), '/back': go(there.url('/back')), '/2': reply(jpeg), '/y': reply(jpeg)}
        there.routes['/back'] = go(s.url('/y'))
        named = s.url('/away?me').replace('http://', 'http://me:hunter6@')
        s.routes['/away?me'] = go(there.url('/z'))
        cat = fetch([s.url('/away'), s.url('/home'), s.url('/back'), named], tmp_path, headers=own)
    assert len(cat.ok)==4 and all('hunter2' in s.heads[o] for o in ('/away', '/home', '/2', '/back')) and 'bWU6aHVudGVyNg' in s.heads['/away?me']
    assert not any('hunter' in o or 'bWU6' in o for o in there.heads.values()) and all('User-Agent: me' in o for o in there.heads.values())
    assert 'hunter' in s.heads['/y'] # it has led home again

def test_a_header_for_one_host(tmp_path):
    with Server({'*': reply(jpeg)}) as a, Server({'*': reply(picture(1))}) as b:
        fetch([a.url('/1'), b.url('/1')], tmp_path, headers={f'127.0.0.1:{a.port}': {'X-Api-Key': 'hunter2'}, 'X-Me': 'all'})
    assert 'hunter2' in a.heads['/1'] and 'hunter2' not in b.heads['/1'] and 'X-Me: all' in b.heads['/1']
    assert 'hunter2' not in (tmp_path/'journal.jsonl').read_text()
    for bad in ({'X-Api-Key': None}, {'a\n': 'b'}, {'a': 'b\r\nc: d'}, {'h': {'a': 1j}}, 'X-Api-Key: 1'):
        with pytest.raises(GenreError): fetch([], tmp_path, headers=bad)

# ---- answers without end
def flood(head, unit, left=10_000):
    async def go_on(w, path, n):
        w.write(b'HTTP/1.1 '+head)
        for _ in range(left):
            w.write(unit)
            await w.drain()
    return go_on
ok,chunks = b'200 OK\r\n', b'200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
unzipped = b'\0\0\0\xff\xff' # an empty block
endless_answers = dict(
    c100=(flood(b'100 Continue\r\n\r\n', b'HTTP/1.1 100 Continue\r\n\r\n'*1000), 'http-error'),
    c103=(flood(b'103 Early Hints\r\n\r\n', b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'*1000), 'http-error'),
    headers=(flood(ok, b'X-A: b\r\n'*1000), 'http-error'), line=(flood(ok+b'X-A: ', b'b'*60_000), 'http-error'),
    status=(flood(b'200 ', b'b'*60_000), 'http-error'), size=(flood(chunks, b'0'*60_000), 'too-large'),
    extension=(flood(chunks+b'5;', b'a=b;'*16_000), 'too-large'), extensions=(flood(chunks, (b'1;'+b'a'*1000+b'\r\nx\r\n')*60), 'too-large'),
    trailers=(flood(chunks+b'1\r\nx\r\n0\r\n', b'X-A: b\r\n'*1000), 'http-error'), trailer=(flood(chunks+b'1\r\nx\r\n0\r\nX: ', b'b'*60_000), 'http-error'),
    gzip=(flood(ok+b'Content-Encoding: gzip\r\n\r\n'+gzip.compress(b'')[:10], unzipped*10_000), 'too-large'),
    deflate=(flood(ok+b'Content-Encoding: deflate\r\n\r\n', unzipped*10_000), 'too-large'),
    more=(flood(b'200 OK\r\nContent-Length: %d\r\n\r\n' % len(jpeg) + jpeg, b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx'*1000), ''),
    br=(reply(b'x'*100, '200 OK', 'Content-Encoding: br'), 'http-error'), length=(b'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n', 'http-error'),
    lengths=(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n', 'http-error'))

def test_answers_without_end(tmp_path):
    "Each ends by the bytes that it brought, long before the time is over"
    with Server({f'/{k}': v for k,(v,_) in endless_answers.items()}) as s:
        start = time.monotonic()
        cat = fetch([s.url(f'/{k}') for k in endless_answers], tmp_path, timeout=25, max_bytes=1_000_000)
        assert time.monotonic()-start < 15
    got = {u.split('/')[-1]: r for u,r in zip(cat.df['url'], cat.df['reason'])}
    if importlib.util.find_spec('brotli'): assert got.pop('br')=='cut' # it is decoded then, and is none
    assert got=={k: endless_answers[k][1] for k in got} and len(got)>=len(endless_answers)-1

def test_the_connections_are_counted():
    "`guarded_session` sets an attribute of aiohttp that has no public name"
    async def made():
        async with net.guarded_session() as sess: return sess.connector._factory()
    assert type(asyncio.run(made())).__name__=='_Meter'

# ---- what the machine lacks
few_files = 'import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n'

def test_few_file_descriptors(tmp_path):
    "Everything comes with 64 of them, from one host and from many: idle connections are not kept where they are short"
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Server({'*': steady})) for _ in range(40)]
        urls = [o.url(f'/{i}.jpg') for i,o in enumerate(servers*5)]
        code = few_files + 'import json, sys; from genre_fastai.collect.download import download_posters\n' \
            'print(download_posters(json.loads(sys.argv[1]), sys.argv[2], allow_private=True, progress=False, retries=0))'
        out,err = start(code, json.dumps(urls), tmp_path).communicate()
    assert 'Catalog(200 rows, 200 ok' in out and '64' not in out and 'ulimit -n' in err

def test_fewer_than_nothing_goes_with(tmp_path):
    code = 'import resource, sys; from genre_fastai.collect.download import download_posters\n' \
        'resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\ndownload_posters(["http://127.0.0.1:1/"], sys.argv[1])'
    err = start(code, tmp_path/'to').communicate()[1]
    assert 'GenreError: This machine has no free file descriptor' in err and not (tmp_path/'to'/'journal.jsonl').exists()

lacks = dict(files=OSError(errno.EMFILE, 'x'), ports=OSError(errno.EADDRNOTAVAIL, 'x'), memory=MemoryError(), network=socket.gaierror(socket.EAI_AGAIN, 'x'))

@pytest.mark.parametrize('what', lacks)
def test_what_the_machine_lacks_is_not_the_address_fault(tmp_path, monkeypatch, what):
    "It is tried again; if it lasts, the run ends with the reason, and the next one tries what was not settled"
    key = aiohttp.client_reqrep.ConnectionKey('e.org', 80, False, True, None, None, None)
    real,left = Downloader._answer, [5]
    async def answer(self, *args):
        if not left[0]: return await real(self, *args)
        left[0] -= 1
        e = lacks[what]
        raise aiohttp.ClientConnectorDNSError(key, e) if what=='network' else aiohttp.ClientConnectorError(key, e) if isinstance(e, OSError) else e
    monkeypatch.setattr(Downloader, '_answer', answer)
    monkeypatch.setattr(net, 'is_online', lambda: False)
    monkeypatch.setattr(Downloader, '_pause', lambda self, e, i, used: .01 if i<4 else None)
    with Server({'*': steady}) as s:
        urls = [s.url(f'/{i}.jpg') for i in range(60)]
        assert len(fetch(urls[:3], tmp_path).ok)==3
        left[0] = 10_000
        with pytest.raises(GenreError, match=r'This machine has n.*run the same command again'): fetch(urls, tmp_path)
        assert {r['reason'] for r in journal_rows(tmp_path/'journal.jsonl')} <= {'', 'machine'}
        left[0] = 0
        assert len(fetch(urls, tmp_path).ok)==60

def test_descriptors_that_run_out_while_a_picture_is_stored(tmp_path, monkeypatch):
    real,left = os.open, [3]
    def few(path, *args, **kw):
        if '.partial' not in str(path) or not left[0]: return real(path, *args, **kw)
        left[0] -= 1
        raise OSError(errno.EMFILE, 'Too many open files')
    with Server({'*': steady}) as s:
        with monkeypatch.context() as m:
            m.setattr(os, 'open', few)
            with pytest.raises(GenreError, match='no free file descriptor'): fetch([s.url('/1.jpg')], tmp_path)
        assert len(fetch([s.url('/1.jpg')], tmp_path).ok)==1

def test_a_host_that_has_stopped_answering_is_left_alone(tmp_path):
    "Of many addresses of a dead host a few are tried; the others are postponed, and come by themselves when it is back"
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        port = closed.getsockname()[1]
        cat = fetch([f'http://127.0.0.1:{port}/{i}.jpg' for i in range(1000)], tmp_path)
    counts = Counter(cat.df['reason'])
    assert set(counts)=={'connect','postponed'} and 64<=counts['connect']<=64+96
    with Server({'*': steady}, port=port) as s:
        assert len(fetch([f'http://127.0.0.1:{port}/{i}.jpg' for i in range(1000)], tmp_path).ok)==counts['postponed']

def test_memory_of_many_failures(tmp_path):
    "A row of a catalog shares what it has in common with the others"
    line = dict(url='http://e.org/{}.jpg', final_url='http://e.org/{}.jpg', label='horror', rank=1, status='failed', reason='connect', http='', ms=300,
        time='2026-01-01T00:00:00Z', sha256='', bytes='', format='', width='', height='', mode='', file='')
    with open(tmp_path/'journal.jsonl', 'w') as f:
        for i in range(5000): print(json.dumps(line).replace('{}', str(i)), file=f)
    tracemalloc.start()
    try:
        cat = read_journal(tmp_path)
        now,peak = tracemalloc.get_traced_memory()
    finally: tracemalloc.stop()
    assert len(cat)==5000 and peak/5000<2500 # bytes a row; 4400 as dicts

def test_two_threads_and_a_killed_process_write_one_file(tmp_path):
    def many(i):
        for _ in range(50):
            with atomic_write(tmp_path/'a.txt') as f: f.write(str(i)*1000)
    with ThreadPoolExecutor(4) as ex: list(ex.map(many, range(4)))
    assert len(set((tmp_path/'a.txt').read_text()))==1 and [o.name for o in tmp_path.iterdir()]==['a.txt']
    code = 'import os, sys; from genre_fastai.core import atomic_write\n' \
        'with atomic_write(sys.argv[1]) as f: f.write("half"); f.flush(); os.kill(os.getpid(), 9)'
    start(code, tmp_path/'a.txt').communicate()
    assert len(list(tmp_path.iterdir()))==2
    for _ in range(100): # a sweep that took long, beside other work, is not repeated at once
        time.sleep(.05)
        many(7)
        if len(list(tmp_path.iterdir()))==1: break
    assert [o.name for o in tmp_path.iterdir()]==['a.txt']

# ---- stopped by hand
stopped = '''
import os, signal, sys, threading, time; from genre_fastai.collect.download import download_posters
signal.signal(signal.SIGINT, signal.default_int_handler)
def later(sig, *waits):
    for w in waits: time.sleep(w); os.kill(os.getpid(), sig)
sig,times = signal.Signals(int(sys.argv[3])),int(sys.argv[4])
threading.Thread(target=later, args=(sig, *[.7]*times), daemon=True).start()
def slow():
    for i in range(1000):
        if sys.argv[5]=='list': time.sleep(.05)
        yield f'{sys.argv[1]}/{i}.jpg'
try: download_posters(slow(), sys.argv[2], allow_private=True, conns=2, progress=False)
except KeyboardInterrupt as e: sys.exit(f'<{e}>')
'''

@pytest.mark.parametrize('sig,where', [(signal.SIGINT, 'net'), (signal.SIGINT, 'list'), (signal.SIGTERM, 'net')])
def test_stopped(tmp_path, sig, where):
    "It ends soon, says what is kept and how to go on, and leaves nothing half done"
    async def slow(w, path, n):
        await asyncio.sleep(.1)
        return await steady(w, path, n)
    with Server({'*': slow}) as s:
        began = time.monotonic()
        p = start(stopped, s.url(''), tmp_path, int(sig), 1, where)
        err = p.communicate()[1]
    assert time.monotonic()-began<15 and not (tmp_path/'.partial').exists()
    n = sum(r['status']=='ok' for r in journal_rows(tmp_path/'journal.jsonl'))
    assert 0<n<1000
    if sig==signal.SIGTERM: assert p.returncode==143 and not err
    else: assert p.returncode==1 and err.startswith(f'<Stopped. {n} images came, and the journal in {tmp_path} has') and 'goes on there' in err

# ---- resume
def start(code, *args):
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
script = '''
import signal, sys; from genre_fastai.collect.download import download_posters
signal.signal(signal.SIGINT, signal.default_int_handler) # a shell starts jobs in the background with SIGINT ignored
urls = [sys.argv[1]+f'/{i}.jpg' for i in range(int(sys.argv[3]))]
try: print(download_posters(urls, sys.argv[2], allow_private=True, conns=8))
except KeyboardInterrupt: sys.exit('stopped')
except Exception as e: sys.exit(f'{type(e).__name__}: {e}')
'''
async def steady(w, path, n):
    await asyncio.sleep(.03)
    return reply(picture(int(path[1:-4]) if path.endswith('.jpg') else 0))
def journaled(dest, n):
    "Wait until the journal has at least `n` lines"
    for _ in range(4000):
        with contextlib.suppress(FileNotFoundError):
            if (dest/'journal.jsonl').read_bytes().count(b'\n')>=n: return
        time.sleep(.01)
    raise AssertionError('nothing was written')

@pytest.mark.parametrize('sig', [signal.SIGKILL, signal.SIGINT])
def test_killed_and_started_again(tmp_path, sig):
    n,free = 150,threading.Event()
    async def held(w, path, k): # the first program cannot reach its end before it is stopped
        while sum(s.hits.values())>60 and not free.is_set(): await asyncio.sleep(.01)
        return await steady(w, path, k)
    with Server({'*': held}) as s:
        p = start(script, s.url(''), tmp_path, n)
        journaled(tmp_path, 20)
        with pytest.raises(GenreError, match='Another program'): download_posters([], tmp_path)
        p.send_signal(sig)
        err = p.communicate()[1]
        free.set()
        assert p.returncode == (-9 if sig==signal.SIGKILL else 1) and (sig==signal.SIGKILL or err=='stopped\n')
        with open(tmp_path/'journal.jsonl', 'rb+') as f: # the death may have torn the last line
            if sig==signal.SIGKILL: f.truncate(f.seek(0, 2)-7)
        done = {r['url'] for r in journal_rows(tmp_path/'journal.jsonl')}
        assert 15 <= len(done) < n
        time.sleep(.1)
        before = s.hits.copy()
        p = start(script, s.url(''), tmp_path, n)
        out = p.communicate()[0]
        again = {u for u in s.hits if s.hits[u]>before[u]}
        assert p.returncode==0 and f'Catalog({n} rows, {n} ok' in out and 'passed over' in out
        assert again == {f'/{i}.jpg' for i in range(n)} - {u[len(s.url('')):] for u in done}
        assert max(s.hits.values()) <= 2
        before = s.hits.copy()
        cat = fetch([s.url(f'/{i}.jpg') for i in range(n)], tmp_path)
        assert s.hits == before and all(p.stat().st_size==int(b) for p,b in zip(cat.files, cat.df['bytes']))
    assert not (tmp_path/'.partial').exists() and (tmp_path/'journal.jsonl').read_bytes().count(b'\n') == n

def test_a_file_that_is_gone_or_short_is_fetched_again(tmp_path):
    with Server({'*': steady}) as s:
        urls = [s.url(f'/{i}.jpg') for i in range(4)]
        cat = fetch(urls, tmp_path)
        cat.files[1].unlink()
        cat.files[2].write_bytes(b'')
        assert fetch(urls, tmp_path).df['sha256'].tolist() != []
    assert [s.hits[f'/{i}.jpg'] for i in range(4)] == [1,2,2,1]
    assert all(check_image(p.read_bytes()) for p in read_journal(tmp_path).files)

def test_a_server_that_dies_half_way(tmp_path):
    n = 60
    with Server() as s:
        async def dying(w, path, k):
            if sum(s.hits.values())<25: return await steady(w, path, k)
            s.server.close()
            w.transport.abort()
        s.routes = {'*': dying}
        urls = [s.url(f'/{i}.jpg') for i in range(n)]
        cat = fetch(urls, tmp_path, conns=8)
    counts = Counter(cat.df['reason'])
    assert counts[''] >= 15 and set(counts) <= {'', 'cut', 'connect'} and len(cat) == n
    with Server({'*': steady}, port=s.port) as s2:
        assert len(fetch(urls, tmp_path).ok) == counts[''] and not s2.hits
        assert len(fetch(urls, tmp_path, retry_failed=True).ok) == n
        assert sum(s2.hits.values()) == n-counts['']

def test_a_damaged_line_costs_only_its_own_address(tmp_path):
    with Server({'*': steady}) as s:
        urls = [s.url(f'/{i}.jpg') for i in range(4)]
        fetch(urls, tmp_path)
        lines = (tmp_path/'journal.jsonl').read_bytes().splitlines(keepends=True)
        (tmp_path/'journal.jsonl').write_bytes(lines[0]+b'\0\0\0\n'+b'[1]\n'+b'{"url": 7}\n'+lines[2]+b''.join(lines[3:])+lines[3][:50])
        assert len(fetch(urls, tmp_path).ok) == 4
    assert sum(s.hits.values()) == 5

def test_a_journal_from_a_stranger_cannot_point_outside(tmp_path):
    (outside := tmp_path/'outside.jpg').write_bytes(jpeg)
    with Server({'*': steady}) as s:
        (tmp_path/'to').mkdir()
        line = dict(url=s.url('/1.jpg'), status='ok', file='../outside.jpg', bytes=len(jpeg))
        (tmp_path/'to'/'journal.jsonl').write_text(json.dumps(line)+'\n')
        assert len(read_journal(tmp_path/'to'))==0
        cat = fetch([s.url('/1.jpg')], tmp_path/'to')
    assert cat.df['file'][0].startswith('images/') and outside.read_bytes()==jpeg

good_line = dict(url='http://x.invalid/1', label='horror', status='failed', reason='dns')
bad_lines = [b'{"url": "http://x.invalid/2"}', b'[]', b'7', b'\xff\xfe', b'{"url": "http://x.invalid/2", "status": "ok", "label": "\0"}',
    b'{"url": "http://x.invalid/2", "status": "failed", "x": '+b'['*100_000+b']'*100_000+b'}',
    b'{"url": "http://x.invalid/2", "status": "failed", "x": '+b'['*90+b']'*90+b'}',
    b'{"url": "http://x.invalid/2", "status": "failed", "bytes": '+b'9'*10_000+b'}', b'{"url": "http://x.invalid/2", "status": "failed", "x": "'+b'x'*(2<<20)+b'"}',
    *(json.dumps({**good_line, **o}).encode() for o in (dict(url=None), dict(url=[]), dict(status=7), dict(status='great'), dict(label=[1]),
        dict(label={}), dict(bytes=-1), dict(bytes='many'), dict(bytes=True), dict(bytes=float('nan')), dict(width=[1]), dict(http={}),
        dict(reason=3), dict(file=7), dict(status='ok', file='../x.jpg'), dict(status='ok', file='/etc/passwd'), dict(status='ok', file='C:\\x'),
        dict(status='ok', file='a/../../x'), dict(status='ok'), dict(rank=[]), {f'c{i}': 1 for i in range(300)}))]

def test_a_line_from_a_stranger_costs_only_itself(tmp_path):
    "Lines that lack a field or hold another type: counted, said, and nothing raw, in the first reading and in the run that goes on"
    (tmp_path/'images').mkdir()
    half = json.dumps({**good_line, 'url': 'http://x.invalid/3', 'title': 'a\ud800b', 'note\udfff': '\0', 'list': [dict(a='\ud800')]})
    lines = [json.dumps(good_line).encode(), *bad_lines, half.encode(), b'x'*140_000]
    (tmp_path/'journal.jsonl').write_bytes(b'\n'.join(lines)+b'\n')
    with pytest.warns(UserWarning, match=f'{len(bad_lines)+1} of {len(bad_lines)+3} lines'): cat = read_journal(tmp_path)
    assert cat.df['url'].str[-1].tolist()==['1','3'] and cat.df['title'][1]=='a\ufffdb'
    back = read_catalog(cat.save(tmp_path/'catalog.csv'))
    assert back.df['title'].tolist()==cat.df['title'].tolist() and '\0' not in back.to_csv()
    (json.dumps(cat.df.to_dict('records'), ensure_ascii=False)).encode()
    with pytest.warns(UserWarning): again = download_posters(['data:x'], tmp_path, progress=False)
    assert again.df['reason'].tolist()==['scheme']

def test_stored_without_its_size_is_fetched_again(tmp_path):
    with Server({'*': steady}) as s:
        row = json.loads((fetch([s.url('/1.jpg')], tmp_path), (tmp_path/'journal.jsonl').read_text())[1])
        for bad in (dict(bytes=''), dict(bytes=None), dict(file='images/'+'0'*32+'.jpg'), dict(file='images')):
            (tmp_path/'journal.jsonl').write_text(json.dumps({**row, **bad})+'\n')
            before = s.hits['/1.jpg']
            assert len(fetch([s.url('/1.jpg')], tmp_path).ok)==1 and s.hits['/1.jpg']==before+1

def test_texts_that_no_file_can_hold(tmp_path):
    "Half a surrogate and zero bytes in a list: the row is kept, can be written, and is known again"
    odd = [dict(url='ftp://e.org/\ud800', label='a\udfffb', title='\0', **{'x\ud800': {('a', 1): 2}, 'n': 10**6000, 'settings': 'mine'})]
    first = download_posters(odd, tmp_path, progress=False)
    size = (tmp_path/'journal.jsonl').stat().st_size
    again = download_posters(odd, tmp_path, progress=False)
    assert first.df['label'].tolist()==['a\ufffdb'] and first.df['list_settings'].tolist()==['mine'] and again.hash==first.hash
    assert (tmp_path/'journal.jsonl').stat().st_size==size
    assert read_catalog(first.save(tmp_path/'c.csv')).hash==first.hash

# ---- what a mistake has journalled does not bind the run that mends it
def test_a_mended_setting(tmp_path):
    "Failures that were due to a setting are tried again when it has changed, and only those; the same settings again ask for nothing"
    async def page(w, path, n): return reply(b'', '404 Not Found') if path=='/gone.jpg' else reply(picture(int(path[1:-4])))
    async def closed(w, path, n):
        return reply(picture(9)) if 'X-Api-Key: right' in s.heads[path] else reply(b'', '403 Forbidden')
    wrong = dict(min_pixels=10_000_000), dict(max_bytes=100), dict(max_pixels=100), dict(headers={'X-Api-Key': 'wrong'})
    for i,bad in enumerate(wrong):
        with Server({'*': closed if 'headers' in bad else page, '/gone.jpg': page}) as s:
            urls,good = [s.url(f'/{o}.jpg') for o in ('1', '2', 'gone')], dict(headers={'X-Api-Key': 'right'}) if 'headers' in bad else {}
            assert not len(fetch(urls, tmp_path/str(i), **bad).ok)
            asked = s.hits.copy()
            assert not len(fetch(urls, tmp_path/str(i), **bad).ok) and s.hits==asked
            assert len(fetch(urls, tmp_path/str(i), **good).ok)==2 and s.hits['/1.jpg']==asked['/1.jpg']+1
            assert s.hits['/gone.jpg']==asked['/gone.jpg']+('headers' in bad) # without a key some hosts say 404
            asked = s.hits.copy()
            assert len(fetch(urls, tmp_path/str(i), **good).ok)==2 and s.hits==asked

def test_a_mended_private_address(tmp_path):
    with Server({'*': steady}) as s:
        assert download_posters([s.url('/1.jpg')], tmp_path, progress=False).df['reason'].tolist()==['private-address']
        assert len(fetch([s.url('/1.jpg')], tmp_path).ok)==1

def test_a_mended_size(tmp_path):
    "Pictures that were shrunk too far come again; those that no setting touched do not"
    async def big(w, path, n): return reply(picture(1, (300,450)) if path=='/big.jpg' else picture(2, (20,30)))
    with Server({'*': big}) as s:
        urls = [s.url('/big.jpg'), s.url('/small.jpg')]
        def height(**kw): return fetch(urls, tmp_path, **kw).df['height'].tolist()
        assert height(max_side=45)==height(max_side=45)==['45','30'] and sum(s.hits.values())==2
        assert height(max_side=225)==['225','30'] and height()==height()==['450','30']
        assert dict(s.hits)=={'/big.jpg': 3, '/small.jpg': 1}

def test_mended_labels(tmp_path):
    "The corrected list counts, in what comes back and in the journal; a further list does not take the first one's place"
    with Server({'*': steady}) as s:
        def rows(*pairs): return pd.DataFrame([dict(url=s.url(f'/{i}.jpg'), label=l) for i,l in pairs])
        fetch(rows((1, ''), (2, '')), tmp_path)
        with pytest.warns(UserWarning, match='2 rows of the journal'): fetch(rows((1, 'horor'), (2, 'drama')), tmp_path)
        with pytest.warns(UserWarning, match="1 rows.*'horor'"): cat = fetch(rows((1, 'horror'), (2, 'drama')), tmp_path)
        assert cat.df['label'].tolist()==['horror','drama'] and read_journal(tmp_path).classes==['drama','horror']
        fetch(rows((2, 'comedy'), (3, 'comedy')), tmp_path)
        assert sorted(read_journal(tmp_path).ok.df['label'])==['comedy','comedy','drama','horror']
        with pytest.warns(UserWarning, match='3 rows'): fetch(rows((1, 'horor'), (2, 'comedy'), (3, 'x')), tmp_path) # and back
        assert sorted(read_journal(tmp_path).ok.df['label'])==['comedy','horor','x']

def test_mended_columns(tmp_path):
    "What a list says besides the label is corrected too, whether it comes as a table or as a file; what it does not speak of stays"
    with Server({'*': steady}) as s:
        df = pd.DataFrame([dict(url=s.url(f'/{i}.jpg'), genres=g, year=y) for i,g,y in ((1, 'Drama|War', 1990), (2, 'War', 1991), (3, 'War', None))])
        fetch(df, tmp_path)
        df.to_csv(tmp_path/'l.csv', index=False)
        with warnings.catch_warnings():
            warnings.simplefilter('error', UrlWarning)
            fetch(df[['url','genres']], tmp_path), fetch(df, tmp_path), fetch(df.astype(object), tmp_path)
        n = len((tmp_path/'journal.jsonl').read_text().splitlines())
        df.loc[0, 'genres'],df.loc[2, 'year'] = 'Horror',1992
        with pytest.warns(UrlWarning, match='2 rows that were downloaded before are corrected from this list: genres, year'):
            cat = fetch(df.assign(year=df['year'].map('{:.0f}'.format)), tmp_path)
        cat = cat.assign(year=cat.df['year'].str.removesuffix('.0')) # as the float of a table came
        assert cat.df[['genres','year']].values.tolist()==[['Horror','1990'],['War','1991'],['War','1992']] and len(cat.ok)==3
        assert len((tmp_path/'journal.jsonl').read_text().splitlines())==n+2 and sum(s.hits.values())==3

def test_a_mended_label_in_a_part_of_a_list_is_said(tmp_path):
    with Server({'*': steady}) as s:
        fetch(pd.DataFrame([dict(url=s.url(f'/{i}.jpg'), label='a') for i in (1,2)]), tmp_path)
        with pytest.warns(UrlWarning, match="1 addresses .*another label in this list.*'a' before"):
            fetch(pd.DataFrame([dict(url=s.url('/1.jpg'), label='b')]), tmp_path)

# ---- identity
def test_a_row_keeps_its_identity(tmp_path):
    "Failed and tried again, with further lists, in another order, saved and read: the same address and label has the same id"
    async def late(w, path, n): return reply(picture(int(path[1:-4]))) if path!='/2.jpg' or n>1 else reply(b'', '404 Not Found')
    with Server({'*': late}) as s:
        urls = pd.DataFrame(dict(url=[s.url(f'/{i}.jpg') for i in (1, 2, 3, 3)], label=['horror']*3 + ['romance']))
        first = fetch(urls, tmp_path)
        ids = first.df['id'].tolist()
        assert first.df['reason'].tolist()==['', 'not-found', '', ''] and first.df['id'].is_unique
        assert ids == row_ids(['']*4, urls['url'], urls['label'])
        assert fetch(urls, tmp_path, retry_failed=True).df[['id','status']].values.tolist() == [[i,'ok'] for i in ids]
        fetch([s.url(f'/{i}.jpg') for i in (9, 1, 8)], tmp_path)
        assert fetch(urls[::-1], tmp_path).df['id'].tolist() == ids[::-1]
    grown = read_journal(tmp_path) # in the order in which they came
    by_key = {(u,l):i for i,u,l in grown.df[['id','url','label']].values}
    assert [by_key[u,l] for u,l in urls[['url','label']].values] == ids and len(grown)==len(set(by_key.values()))==7
    assert read_catalog(grown.save(tmp_path/'catalog.csv')).hash == grown.hash

def test_an_identity_holds_no_secret_and_does_not_hang_on_one_word(tmp_path):
    "Made of the address as it is written down; a column `id` of the list is kept as `list_id`"
    with Server({'*': reply(jpeg)}) as s:
        urls = pd.DataFrame(dict(url=[s.url('/a?token=one'), s.url('/a?token=two')], label='horror', id=['7', '7']))
        cat = fetch(urls, tmp_path)
    assert cat.df['id'].tolist() == row_ids(['']*2, [redact(u) for u in urls['url']], urls['label']) and cat.df['id'].is_unique
    assert cat.df['list_id'].tolist() == ['7', '7']

# ---- what the disk says
def test_disk_full(tmp_path):
    limited = 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n' + script
    async def growing(w, path, n): return reply(picture(1, (400,400)) if path=='/9.jpg' else picture(int(path[1:-4])))
    with Server({'*': growing}) as s:
        assert len(growing and picture(1, (400,400))) > 20_000
        p = start(limited, s.url(''), tmp_path, 12)
        err = p.communicate()[1]
        assert p.returncode==1 and err.startswith('GenreError: Cannot write to') and 'run the same command again' in err
        assert not (tmp_path/'.partial').exists()
        cat = fetch([s.url(f'/{i}.jpg') for i in range(12)], tmp_path)
    assert len(cat.ok) == 12 and all(check_image(p.read_bytes()) for p in cat.files)

@pytest.fixture
def small_disk(tmp_path):
    "A file system of 200 KB"
    (d := tmp_path/'disk').mkdir()
    mount = 'mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', d
    if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('a small file system cannot be mounted here')
    yield d
    subprocess.run(['umount', '-l', d], check=True)

def test_a_disk_that_is_really_full(tmp_path, small_disk):
    async def big(w, path, n): return reply(picture(int(path[1:-4]), (200,200)))
    with Server({'*': big}) as s:
        urls = [s.url(f'/{i}.jpg') for i in range(80)]
        # with many on the way at once, none may find room to end
        with pytest.raises(GenreError, match='No space left'): fetch(urls, small_disk/'to', conns=2)
        kept = read_journal(small_disk/'to')
        assert 0<len(kept.ok)<80 and all(check_image(p.read_bytes()) for p in kept.ok.files)
        subprocess.run(['mount', '-o', 'remount,size=20m', small_disk], check=True)
        asked = Counter(s.hits)
        assert len(fetch(urls, small_disk/'to').ok)==80
        assert all(s.hits[f'/{i}.jpg']==asked[f'/{i}.jpg'] for i in range(80) if s.url(f'/{i}.jpg') in set(kept.ok.df['url']))

def test_disk_full_in_the_middle_of_a_line(tmp_path, monkeypatch):
    real,left = os.write, [1500]
    def write(fd, data):
        if data[:2]==b'\xff\xd8': return real(fd, data) # a picture
        if not left[0]: raise OSError(errno.ENOSPC, 'No space left on device')
        data = data[:left[0]]
        left[0] -= len(data)
        return real(fd, data)
    with Server({'*': steady}) as s:
        urls = [s.url(f'/{i}.jpg') for i in range(12)]
        with monkeypatch.context() as m:
            m.setattr(os, 'write', write)
            with pytest.raises(GenreError, match='No space left'): fetch(urls, tmp_path)
        assert (tmp_path/'journal.jsonl').stat().st_size == 1500
        assert len(fetch(urls, tmp_path).ok) == 12

def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(GenreError, match='Cannot write'): download_posters([], tmp_path/'file'/'to')
    if os.geteuid()==0: # permissions do not bind the superuser, so a file stands where the folder should be
        (tmp_path/'to').mkdir()
        (tmp_path/'to'/'images').write_text('')
    else: (tmp_path/'to').mkdir(mode=0o555)
    with pytest.raises(GenreError, match='Cannot write'): fetch(['http://127.0.0.1:1/a'], tmp_path/'to')

# ---- lists
def test_no_addresses(tmp_path):
    cat = download_posters([], tmp_path, progress=False)
    assert len(cat)==0 and list(cat.df)[:4]==['id','file','label','url'] and repr(download_report(cat))=='no addresses'
    assert repr(download_posters(iter(()), tmp_path, as_catalog=False, progress=False))=='no addresses'

def test_a_long_list(tmp_path):
    with open(tmp_path/'list.csv', 'w') as f:
        f.write('url,label,rank\n')
        for i in range(20_000): f.write(f'ftp://e.org/{i}.jpg,horror,{i}\n')
    for want in ({'scheme': 20_000}, {'before': 20_000}):
        assert download_posters(tmp_path/'list.csv', tmp_path/'to', as_catalog=False, progress=False).counts == want
    assert sum(1 for _ in open(tmp_path/'to'/'journal.jsonl')) == 20_000

def test_labels_order_and_further_columns(tmp_path):
    with Server({'*': steady}) as s:
        urls = pd.DataFrame([dict(url=s.url('/3.jpg'), label='horror', year=1979, title='Ünï "x"\n'),
            dict(url=s.url('/1.jpg'), label='romance', year=None, title='=1+1'),
            dict(url=s.url('/3.jpg'), label='romance', year=1979, title=''),
            dict(url=s.url('/3.jpg'), label='horror', year=2000, title='')])
        fetch([s.url('/1.jpg')], tmp_path)
        cat = fetch(urls, tmp_path)
        assert s.hits['/3.jpg']==2 # once for each label
    got = [(u[-5],l,y) for u,l,y in cat.df[['url','label','year']].itertuples(index=False)]
    assert got == [('3','horror','1979.0'), ('1','romance',''), ('3','romance','1979.0')]
    assert cat.df['title'].tolist() == ['Ünï "x"\n', '=1+1', ''] and cat.df['file'][0]==cat.df['file'][2]
    assert len(read_journal(tmp_path)) == 4

@pytest.mark.parametrize('bad', ['nothing.csv', 'endless.csv', 'twice.csv'])
def test_lists_that_cannot_be_read(tmp_path, bad):
    (tmp_path/'endless.csv').write_text('url,label\n"https://e.org/1.jpg,a\nhttps://e.org/2.jpg,b\n')
    (tmp_path/'twice.csv').write_text('url,label,Label\nhttps://e.org/1.jpg,a,b\n')
    with pytest.raises(GenreError): download_posters(tmp_path/bad, tmp_path/'to', progress=False)

@pytest.mark.parametrize('line', ['x'*140_000, '"'+'x'*140_000+'"', 'ftp://e.org/\0', '"half', 'https://a b/', ','*140_000])
def test_a_line_that_is_no_address_costs_only_itself(tmp_path, line):
    "In a text file and under a header of any form, read whole or streamed"
    for name,head,row in (('l.txt', '', '{}'), ('l.csv', 'url,label\n', '{},a'), ('m.csv', 'Title;Poster\n', 'x;{}')):
        if line=='"half' and head: continue # a quote that never ends is an error with its line
        (tmp_path/name).write_text(head+'\n'.join(row.format(o) for o in ('ftp://e.org/1', line, 'ftp://e.org/2'))+'\n')
        df = download_posters(tmp_path/name, tmp_path/f'to_{name}', progress=False).df
        assert [u for u in df['url'] if u.startswith('ftp://e.org/') and u[-1] in '12']==['ftp://e.org/1', 'ftp://e.org/2']
        assert len(df)==3-(line==','*140_000 and not head) and set(df['reason'])<={'scheme','bad-url'}

def test_text_lists(tmp_path):
    (tmp_path/'l.txt').write_bytes('\ufeffftp://e.org/1\r\n\r\n  ftp://e.org/2,b \n'.encode())
    assert download_posters(tmp_path/'l.txt', tmp_path/'to', progress=False).df['url'].tolist() == ['ftp://e.org/1', 'ftp://e.org/2,b']

# ---- how it runs
def test_inside_a_running_event_loop(tmp_path):
    async def notebook(): return fetch([s.url('/1.jpg')], tmp_path)
    with Server({'*': steady}) as s: assert len(asyncio.run(notebook()).ok)==1

def test_connections_to_one_host(tmp_path):
    with Server({'*': steady}) as s: fetch([s.url(f'/{i}.jpg') for i in range(30)], tmp_path, per_host=3)
    assert s.most == 3

def test_a_host_that_only_says_429(tmp_path):
    "After five pauses without a picture it is left alone, and what was not had is left for another run"
    with Server({'*': reply(b'', '429 Too Many')}) as s:
        start = time.monotonic()
        cat = fetch([s.url(f'/{i}.jpg') for i in range(300)], tmp_path, timeout=.5, per_host=8)
    counts = Counter(cat.df['reason'])
    assert set(counts) <= {'rate-limited', 'postponed'} and counts['postponed']>200
    assert sum(s.hits.values()) <= 5*8 and 1.5 < time.monotonic()-start < 10

def test_a_host_that_wants_an_hour_is_left_alone(tmp_path):
    gone = email.utils.formatdate(time.time()+3600)
    for i,wait in enumerate(('3600', '9'*4000, gone)):
        with Server({'*': reply(b'', '429 Too Many', f'Retry-After: {wait}')}) as s, Server({'*': steady}) as other:
            n = 60 if i else 300
            urls = [s.url(f'/{o}.jpg') for o in range(n)] + [other.url('/1.jpg')]
            start = time.monotonic()
            cat = fetch(urls, tmp_path/str(i), per_host=8)
            assert Counter(cat.df['reason'])=={'postponed': n, '': 1} and sum(s.hits.values())<=8 and time.monotonic()-start<5
            s.routes = {'*': steady} # the hour is over: no option is needed
            assert len(fetch(urls, tmp_path/str(i)).ok)==n+1 and sum(other.hits.values())==1

@pytest.mark.parametrize('wait', ['-5', 'soon', '\xb2', '1e9', 'Mon, ', '', '0'])
def test_a_pause_that_means_nothing(tmp_path, wait):
    async def once(w, path, n): return reply(jpeg) if n>1 else reply(b'', '503 Busy', f'Retry-After: {wait}')
    with Server({'*': once}) as s: assert len(fetch([s.url('/a')], tmp_path).ok)==1 and s.hits['/a']==2

def test_retry_after_holds_for_the_whole_host(tmp_path):
    times = []
    async def busy(w, path, n):
        times.append(time.monotonic())
        return reply(b'', '429 Too Many', 'Retry-After: 1') if len(times)==1 else reply(picture(int(path[1:-4])))
    with Server({'*': busy}) as s: cat = fetch([s.url(f'/{i}.jpg') for i in range(10)], tmp_path, per_host=1)
    assert len(cat.ok)==10 and times[1]-times[0] >= .95 and len(times)==11

def test_a_setting_that_passes_truncated_images(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
    with Server({'*': reply(jpeg[:len(jpeg)//2])}) as s: assert fetch([s.url('/a')], tmp_path).df['reason'][0]=='truncated'
    assert ImageFile.LOAD_TRUNCATED_IMAGES

def test_conversion(tmp_path):
    routes = {'/big': reply(picture(1, (300,450))), '/grey': reply(picture(1, (90,120), 'PNG', 'L')), '/small': reply(picture(2, (20,30)))}
    with Server(routes) as s:
        cat = fetch([s.url(o) for o in ('/big','/grey','/small')], tmp_path, max_side=200, rgb=True, min_pixels=1000)
    got = cat.df[['width','height','mode','reason']].values.tolist()
    assert got == [['133','200','RGB',''], ['90','120','RGB',''], ['','','','too-small']]
    for p,sha in zip(cat.ok.files, cat.ok.df['sha256']): assert hashlib.sha256(p.read_bytes()).hexdigest()==sha and p.stem==sha[:32]

def test_what_is_printed(tmp_path):
    pty = pytest.importorskip('pty')
    with Server({'*': steady}) as s:
        out,again = (start(script, s.url(''), tmp_path/'pipe', 20).communicate()[0] for _ in range(2))
        main,sub = pty.openpty()
        p = subprocess.Popen([sys.executable, '-c', script, s.url(''), str(tmp_path/'tty'), '60'], stdout=sub)
        os.close(sub)
        shown = b''
        with contextlib.suppress(OSError): # how a terminal says that its program is gone
            while b := os.read(main, 10_000): shown += b
        assert p.wait()==0
        os.close(main)
    assert len(out.splitlines())==2 and out.startswith('20 images stored in')
    assert again.startswith('Nothing to fetch: the journal in') and 'all 20 addresses' in again
    assert '█'.encode() in shown and b'0 failed' in shown and b'\r\n60 images stored in' in shown

def test_report():
    r = DownloadReport({'ok': 3, 'dns': 5})
    assert r.df['result'].tolist()==['dns','ok'] and 'Check the spelling' in repr(r) and '<table' in r._repr_html_()
    assert set(net.reasons) >= {r for _,r in faults.values()}

@pytest.mark.parametrize('k', ['conns','per_host'])
def test_no_connection_is_refused(tmp_path, k):
    with pytest.raises(GenreError, match=f'{k}=0'): download_posters(['https://a.b/1.jpg'], tmp_path, **{k: 0}, progress=False)

def test_long_lists_read_as_short_ones_do(tmp_path):
    (tmp_path/'a.txt').write_text('# horror\nnot-an-address\n')
    (tmp_path/'b.csv').write_text("url,title\nnot-an-address,'=1+1\n")
    assert [r['url'] for r in iter_urls(tmp_path/'a.txt')]==['not-an-address']
    assert [r['title'] for r in iter_urls(tmp_path/'b.csv')]==['=1+1']

# ---- measured at the door
@pytest.fixture
def cache(tmp_path, monkeypatch):
    "A cache of its own, and what is decoded"
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    decoded,load = Counter(), ImageFile.ImageFile.load
    def counted(self):
        if self.tile: decoded[self.format] += 1
        return load(self)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', counted)
    return decoded

pictures = {'/jpg': picture(1, (300,450)), '/png': picture(2, (300,450), 'PNG'), '/webp': picture(3, (200,300), 'WEBP'), '/gif': picture(4, (90,60), 'GIF'),
    '/bmp': picture(5, (90,60), 'BMP', 'RGB'), '/cmyk': picture(6, (200,300), mode='CMYK'), '/turned': turned, '/progressive': picture(7, (300,450), progressive=True)}

def have(tmp_path, pictures=pictures, **kw):
    with Server({k: reply(v) for k,v in pictures.items()}) as s: cat = fetch([s.url(o) for o in pictures], tmp_path/'to', **kw)
    assert set(cat.df['reason'])=={''}
    return cat

def unread(monkeypatch):
    "From here on no file is read as a picture"
    def read(path, *args): raise AssertionError(f'{path} was read')
    monkeypatch.setattr('genre_fastai.measure.read_bytes', read)

def test_one_decode_a_picture(tmp_path, cache, monkeypatch):
    cat = have(tmp_path)
    assert sum(cache.values())==len(pictures)
    unread(monkeypatch)
    store = MeasureStore()
    got = store.digests(cat.files)
    assert [o.tobytes().hex() for o in got]==cat.df['sha256'].tolist()
    known = store[store.find(got)]
    assert [known[o].tolist() for o in ('width','height','bytes')]==[cat.df[o].astype(int).tolist() for o in ('width','height','bytes')]
    assert [p.read_bytes() for p in cat.files]==list(pictures.values())

def test_the_catalog_of_a_journal_decodes_nothing(tmp_path, cache, monkeypatch):
    jpegs = {f'/{i}.jpg': picture(i, (200,300)) for i in range(12)}
    with Server({k: reply(v) for k,v in jpegs.items()}) as s:
        fetch([dict(url=s.url(o), label='ab'[i%2]) for i,o in enumerate(jpegs)], tmp_path/'to')
    unread(monkeypatch)
    assert len(build_catalog(tmp_path/'to'/'journal.jsonl', progress=False).ok)==12 and cache=={'JPEG': 12}

@pytest.mark.parametrize('cache_pixels', [True, (80,60)])
def test_training_pixels_of_the_same_decode(tmp_path, cache, cache_pixels):
    cat = have(tmp_path, cache_pixels=cache_pixels)
    assert sum(cache.values())==len(pictures)
    size = (256,176) if cache_pixels is True else cache_pixels
    pixels = MeasureStore().pixels(size)
    got = pixels[pixels.find(cat.df['sha256'])]
    for a,p in zip(got, cat.files):
        seen = upright_rgb(Image.open(p)).resize(size[::-1], Image.Resampling.BILINEAR)
        assert [o.tobytes() for o in a]==[o.tobytes() for o in seen.split()]

def test_what_is_written_again_is_what_is_measured(tmp_path, cache):
    cat = have(tmp_path, max_side=200)
    changed = sum(max(Image.open(io.BytesIO(o)).size)>200 for o in pictures.values())
    assert changed==5 and sum(cache.values())==len(pictures)+changed
    store = MeasureStore()
    assert store[store.find(cat.df['sha256'])]['height'].max()==200

@pytest.mark.parametrize('kw', [{}, dict(cache_pixels=True), dict(max_side=100), dict(most=0)])
def test_truncation_is_found_whatever_is_measured(tmp_path, cache, monkeypatch, kw):
    monkeypatch.setattr(MeasureQueue, 'most', kw.get('most', MeasureQueue.most))
    rng,convert = random.Random(0), {k:v for k,v in kw.items() if k=='max_side'}
    with MeasureQueue(kw.get('cache_pixels')) as q, ImageFolder(tmp_path/'to', measures=q, **convert) as f:
        for i in range(100):
            data = picture(i, (120,180), progressive=i%2==0)
            with pytest.raises(BadImage, match='truncated'): f.add(data[:rng.randrange(len(data)//4, len(data)-2)])
        assert not q.waiting and not q.found and not any((tmp_path/'to'/'images').iterdir())

def test_a_full_queue(tmp_path, cache, monkeypatch):
    "What finds no room is stored as ever, decoded no more often, and left to later stages"
    monkeypatch.setattr(MeasureQueue, 'most', 0)
    cat = have(tmp_path)
    assert sum(cache.values())==len(pictures) and [p.read_bytes() for p in cat.files]==list(pictures.values())
    store = MeasureStore()
    assert (store.find(cat.df['sha256'])==-1).all()
    store.measure_files(cat.files, progress=False)
    assert (store.find(cat.df['sha256'])>=0).all()

def test_large_pictures_do_not_wait(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(MeasureQueue, 'most', 8*300_000)
    with MeasureQueue() as q, ImageFolder(tmp_path/'to', measures=q) as f:
        for o in ('/gif','/png'): f.add(picture(1, (700,500), 'PNG') if o=='/png' else pictures[o])
        assert len(q.waiting)==1 and len(q.found)==1

def test_measured_while_the_processor_idles(cache, monkeypatch):
    q = MeasureQueue()
    for _ in range(2): q.put(Image.new('RGB', (20,30)), bytes(32), '', passes=1, bytes=9)
    q.waiting = type(q.waiting)((n, (check(o), *more)) for n,(o,*more) in q.waiting)
    clock,cpu = [q.at], [q.cpu]
    monkeypatch.setattr(folder.time, 'monotonic', lambda: clock[0])
    monkeypatch.setattr(folder.time, 'process_time', lambda: cpu[0])
    def later(seconds, used):
        clock[0],cpu[0] = clock[0]+seconds, cpu[0]+used*os.cpu_count()
        return q.work_if_idle()
    assert [later(.1, 0), later(.3, .3), later(.3, .01), later(.3, .01), later(.3, 0)]==[False, False, True, True, False]

def check(im):
    "An image as `open_image` leaves it"
    im.format,im.full_size,im.turn,im.moves = 'PNG', im.size, 1, False
    return im

def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path/'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'file'/'cache'))
    with pytest.warns(StoreWarning, match='cannot be written'): cat = have(tmp_path, cache_pixels=(80,60))
    assert [p.read_bytes() for p in cat.files]==list(pictures.values())

def test_a_store_that_fails(tmp_path, cache, monkeypatch):
    def add(*args): raise RuntimeError('no')
    monkeypatch.setattr(MeasureStore, 'add', add)
    with pytest.warns(StoreWarning, match='8 pictures is not kept .RuntimeError: no'): cat = have(tmp_path)
    assert [p.read_bytes() for p in cat.files]==list(pictures.values())

def test_stopped_and_what_was_measured_is_kept(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(MeasureQueue, 'work_if_idle', MeasureQueue.work)
    async def soon(w, path, n): return await (silent if path=='/9.jpg' else steady)(w, path, n)
    def interrupt():
        journaled(tmp_path/'to', 9)
        time.sleep(.3)
        os.kill(os.getpid(), signal.SIGINT)
    old = signal.signal(signal.SIGINT, signal.default_int_handler) # a shell lets its background jobs ignore it
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with Server({'*': soon}) as s, pytest.raises(KeyboardInterrupt, match='Stopped. 9 images came'):
            fetch([s.url(f'/{i}.jpg') for i in range(10)], tmp_path/'to', timeout=90)
    finally: signal.signal(signal.SIGINT, old)
    assert not [t.name for t in threading.enumerate() if t.name.endswith('(_thread)')], 'the event loop has ended, too'
    assert (MeasureStore().find(read_journal(tmp_path/'to').df['sha256'])>=0).all()

@pytest.mark.parametrize('bad', [256, (0,60), 'large', (80,60,3)])
def test_pixels_of_no_size(tmp_path, bad):
    with pytest.raises(GenreError, match='is no size'): fetch(['https://a.b/1.jpg'], tmp_path, cache_pixels=bad)

# --- lists of strangers

@pytest.mark.parametrize('stream', [False, True])
def test_a_journal_tells_no_secret(tmp_path, stream, capsys):
    "Wherever an address stands in a list, its secrets stay out of what is written and printed"
    (tmp_path/'l.csv').write_text('url,label,note\n' + ''.join(f'{o},{l},{n}\n' for o,l,n in [
        ('http://u:S3CRET@127.0.0.1:9/1.jpg', 'horror', 'see http://u:S3CRET@x.org'), ('http://127.0.0.1:9/?sig=S3CRET', 'http://x.org/?token=S3CRET', ''),
        ('http://u:S3CRET@127.0.0.1:9/1,2.jpg', 'horror', ''), ('u:S3CRET@127.0.0.1:9/1.jpg', '(http://x.org/?key=S3CRET)', '"""http://x.org/?key=S3CRET"", x"')]))
    for _ in range(2): got = download_posters(tmp_path/'l.csv', tmp_path/'o', progress=None, as_catalog=not stream)
    wrote = ''.join(p.read_text() for p in (tmp_path/'o').rglob('*') if p.is_file())
    assert 'S3CRET' not in wrote + ''.join(capsys.readouterr()) and 'see http://x.org' in wrote
    assert len(list(journal_rows(tmp_path/'o'/'journal.jsonl')))==4
    assert dict(got.counts)=={'before': 4} if stream else len(got)==4
    rows = [dict(url='http://127.0.0.1:9/1.jpg', meta={'page': ['//u:S3CRET@x.org', {'b': 'http://x.org/?key=S3CRET'}]})]
    download_posters(rows, tmp_path/'p', progress=False)
    assert 'S3CRET' not in (tmp_path/'p'/'journal.jsonl').read_text()

@pytest.mark.parametrize('enc', ['utf-8-sig', 'utf-16', 'cp1252'])
def test_a_list_in_any_encoding(tmp_path, enc):
    text = 'sep=;\r\nposter_url;label\r\nhttp://127.0.0.1:9/1.jpg;comédie\r\n'
    (tmp_path/'l.csv').write_bytes(text.encode(enc))
    with warnings.catch_warnings(record=True) as told:
        download_posters(tmp_path/'l.csv', tmp_path/'o', progress=False, as_catalog=False)
    assert [(o['url'], o['label']) for o in journal_rows(tmp_path/'o'/'journal.jsonl')]==[('http://127.0.0.1:9/1.jpg', 'comédie')]
    assert len(told)==(enc=='cp1252')
