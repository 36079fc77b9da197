"The web app of a model: its endpoint and its limits, the folder of a Space started from that folder alone, and its page in headless Chromium"
import contextlib, http.server, json, os, socket, subprocess, sys, threading, time, urllib.request
from pathlib import Path
import pytest
pytest.importorskip('gradio')
from fastapi.testclient import TestClient
import genre_fastai.deploy.serve as serving
from genre_fastai.core import GenreError
from genre_fastai.deploy.answer import answer
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.deploy.serve import RateLimit, fetch_picture, serve, serve_app
from genre_fastai.deploy.space import save_space
from genre_fastai.sample.dataset import make_sample
from genre_fastai.train.learner import poster_learner
from genre_fastai.vision.data import get_dls
from labsite import browser, chromium, driver, wait

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A small model, and its Space, which starts while other tests run"
    path = tmp_path_factory.mktemp('serve')
    cat = make_sample(path, n=20, seed=1).where(kind='clean')
    cat = cat.assign(split=[['train','valid'][i%2] for i in range(len(cat))])
    learn = poster_learner(get_dls(cat, size=64, bs=4, seed=1), 'tf_efficientnet_lite0', weights=None, precision='fp32')
    save_predictor(learn, path/'model')
    save_space(path/'model', path/'space')
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {k:v for k,v in os.environ.items() if k not in ('PYTHONPATH','SPACE_ID','GRADIO_TEMP_DIR')} | dict(GRADIO_SERVER_PORT=str(port), TMPDIR=str(path))
    with open(path/'log', 'w') as log: p = subprocess.Popen([sys.executable, 'app.py'], cwd=path/'space', env=env, stdout=log, stderr=log)
    yield path, load_predictor(path/'model'), [o for o in cat.files], f'http://127.0.0.1:{port}'
    is_up = False
    with contextlib.suppress(OSError): is_up = bool(urllib.request.urlopen(f'http://127.0.0.1:{port}/api/health', timeout=5))
    p.terminate()
    p.wait(20)
    assert not is_up or not list(path.glob('genre-fastai-*')), 'the folder of uploads is left'

@pytest.fixture(scope='module')
def app(made): return serve_app(made[1], max_mb=1, per_minute=10_000)

@pytest.fixture
def web(app):
    with TestClient(app, raise_server_exceptions=False) as c: yield c

def test_the_endpoint_says_what_the_model_says(web, made):
    _,m,files,_ = made
    said = web.post('/api/predict', files=dict(file=('x', files[0].read_bytes()))).json()
    want = answer(m, files[0].read_bytes(), cam=False).to_dict()
    assert said['pred']==want['pred'] and said['classes']==want['classes']
    assert web.get('/api/health').json()==dict(status='ok', classes=list(m.vocab), modalities=['poster'], multi=False)

def test_nothing_is_kept(web, made):
    assert web.post('/api/predict', files=dict(file=made[2][0].read_bytes())).status_code==200
    assert not [o for o in Path(os.environ['GRADIO_TEMP_DIR']).rglob('*') if o.is_file()]

form = {'content-type': 'multipart/form-data; boundary=x'}
hostile = dict(html=(422, dict(files=dict(file=b'<html>'))), bomb=(422, dict(files=dict(file=b'\x89PNG\r\n\x1a\n'+bytes(999)))), empty=(422, dict(files=dict(file=b''))),
    nothing=(422, dict(json={})), list=(422, dict(json=[])), number=(422, dict(json=dict(url=3))), key=(422, dict(json=dict(path='/etc/passwd'))),
    texts=(422, dict(json=dict(texts=dict(overview='x')))), odd_texts=(422, dict(json=dict(texts=[1]))), file_url=(422, dict(json=dict(url='file:///etc/passwd'))),
    private=(422, dict(json=dict(url='http://127.0.0.1:1/'))), linklocal=(422, dict(json=dict(url='http://169.254.169.254/latest'))),
    half=(422, dict(content=b'{', headers={'content-type':'application/json'})), deep=(422, dict(content=b'['*90_000, headers={'content-type':'application/json'})),
    boundary=(422, dict(content=b'x', headers={'content-type':'multipart/form-data'})), part=(422, dict(content=b'--x\r\nbad', headers=form)),
    two=(422, dict(files=[('file',b'x'),('file',b'y')])), field=(422, dict(data=dict(other='x'), files=dict(file=b'x'))), text_as_file=(415, dict(data=dict(file='x'))),
    plain=(415, dict(content=b'x', headers={'content-type':'text/plain'})), large=(413, dict(files=dict(file=bytes(2_000_000)))),
    just_over=(413, dict(files=dict(file=bytes(1_000_001)))))

@pytest.mark.parametrize('o', hostile)
def test_what_is_not_answered_is_said_in_words(web, o):
    code,kw = hostile[o]
    r = web.post('/api/predict', **kw)
    assert r.status_code==code, r.text
    assert r.json()['error'] and 'Traceback' not in r.text

@pytest.mark.parametrize('method', 'GET PUT PATCH DELETE'.split())
def test_predictions_are_asked_for_by_post(web, method):
    r = web.request(method, '/api/predict')
    assert r.status_code==405 and r.headers['allow']=='POST' and 'curl -F file=@poster.jpg' in r.json()['error']

def test_a_wrong_field_names_the_right_ones(web):
    assert 'There are file, url' in web.post('/api/predict', files=dict(picture=b'x')).json()['error']

def test_size_is_counted_not_believed(app):
    web = TestClient(app) # which raises what would be a traceback in the log
    for path in ('/api/predict','/gradio_api/queue/join','/gradio_api/upload'):
        r = web.post(path, content=(bytes(100_000) for _ in range(300)), headers=form)
        assert r.status_code==413 and 'larger than the 1 MB' in r.json()['error'], (path, r.text)

@pytest.mark.parametrize('path', ['http://127.0.0.1:9/x', '/etc/passwd', '../x', None, 3])
def test_gradio_reads_no_other_files(web, path):
    data = dict(data=[[dict(path=path, meta=dict(_type='gradio.FileData'))],''], fn_index=0, session_hash='a')
    r = web.post('/gradio_api/queue/join', json=data)
    assert r.status_code==422 and r.json()['error']=='This is no request that the page makes.'
    for odd in (dict(data=[]), dict(data=[None,'',3]), dict(data=[[3],'']), dict(data=[None,''], fn_index=99)): # Gradio would write a traceback into the log
        assert web.post('/gradio_api/queue/join', json=dict(fn_index=0, session_hash='a')|odd).status_code==422
    for to in ('run/predict','call/upload','run/upload','component_server','process_recording'): assert web.post(f'/gradio_api/{to}', json=data).status_code==404

def test_uploads_leave_room_on_the_disk(web, monkeypatch):
    monkeypatch.setattr(serving.shutil, 'disk_usage', lambda p: type('Usage', (), dict(free=100_000_000)))
    assert web.post('/gradio_api/upload', files=dict(files=b'x')).status_code==503 # 20 files of 1 MB, five times
    monkeypatch.undo()
    assert web.post('/gradio_api/upload', files=dict(files=('x.jpg', b'x'))).status_code==200

def test_pictures_that_are_not_answered_are_deleted_too(app):
    folder = Path(os.environ['GRADIO_TEMP_DIR'])
    folder.mkdir(exist_ok=True)
    files = [folder/f'{i}.jpg' for i in range(3)]
    for o in files: o.write_bytes(b'x')
    sent = [dict(path=str(o), orig_name='<b>.jpg') for o in files]
    said, = serving._page_answers(app.state.service, 2, sent, '', [], 'me')
    assert 'At most 2' in said and not any(o.exists() for o in files)
    files[0].write_bytes(b'x')
    said, = serving._page_answers(app.state.service, 2, sent[:1], None, [], 'me')
    assert '&lt;b&gt;.jpg' in said and not files[0].exists()
    for odd in ([dict(path='/etc/passwd')], [3], 'x', [{}]):
        said, = serving._page_answers(app.state.service, 2, odd, '', [], 'me')
        assert 'was not uploaded' in said or 'no request' in said

def test_two_who_upload_the_same_poster_share_no_file(web, app, made):
    data,folder = made[2][0].read_bytes(), Path(os.environ['GRADIO_TEMP_DIR'])
    (one,),(other,) = (web.post('/gradio_api/upload', files=dict(files=('a/../b.jpg', data))).json() for _ in range(2))
    assert one!=other and {Path(o).parent for o in (one,other)}=={folder}
    for o in (one,other):
        said, = serving._page_answers(app.state.service, 2, [dict(path=o, orig_name='b.jpg')], '', [], 'me')
        assert 'genre-answer' in said and not os.path.exists(o)
    assert 'done' in web.get('/gradio_api/upload_progress?upload_id=x').text
    (old := folder/'old').write_bytes(data)
    os.utime(old, (1,1))
    (new := folder/'new').write_bytes(data)
    serving._sweep(folder)
    assert new.exists() and not old.exists()

def test_slow_addresses_keep_nobody_else_waiting(web, made, monkeypatch):
    monkeypatch.setattr(serving, '_fetching', serving._Turns(1, 0, 'Many addresses are being fetched.'))
    with serving._fetching.take():
        r = web.post('/api/predict', json=dict(url='http://example.invalid/a.jpg'))
        assert r.status_code==503 and r.headers['retry-after']=='10' and 'Try again in a few seconds' in r.json()['error']
        assert web.post('/api/predict', files=dict(file=made[2][0].read_bytes())).status_code==200
    assert web.post('/api/predict', json=dict(url='http://127.0.0.1:1/a.jpg')).status_code==422

def test_a_page_of_another_name_is_not_answered(tmp_path):
    "DNS rebinding, and requests that a page of a stranger sends"
    async def ok(scope, receive, send):
        await send(dict(type='http.response.start', status=200, headers=[]))
        await send(dict(type='http.response.body', body=b'ok'))
    def ask(hosts, to, **headers):
        c = TestClient(serving._Guard(ok, 1000, 1, 1000, tmp_path, hosts=hosts), base_url=to)
        return [c.get('/').status_code, c.post('/api/predict', headers=headers).status_code]
    own = serving.own_names('127.0.0.1')
    assert ask(own, 'http://localhost:7860', origin='http://localhost:7860')==ask(own, 'http://[::1]:1')==[200,200]
    assert ask(own, 'http://evil.example:7860')==[403,403] and ask(own, 'http://localhost', origin='http://evil.example')==[200,403]
    assert ask(serving.own_names('127.0.0.1', ['films.example']), 'https://films.example', origin='https://films.example')==[200,200]
    for o in ('0.0.0.0', '::'): assert ask(serving.own_names(o), 'https://user-name.hf.space', origin='https://huggingface.co')==[200,200] # a Space

def test_nothing_else_is_served(web):
    for path in ('/docs','/openapi.json','/gradio_api/file=http://example.com/','/gradio_api/proxy=http://example.com/'):
        assert web.get(path, follow_redirects=False).status_code==404
    assert web.get('/gradio_api/file=/etc/passwd').status_code==403
    assert "default-src 'self'" in web.get('/').headers['content-security-policy']

def test_rate_limit(made):
    with TestClient(serve_app(made[1], per_minute=3)) as c:
        codes = [(r := c.post('/api/predict', json={})).status_code for _ in range(4)]
        assert codes==[422]*3+[429] and 'Try again in' in r.json()['error'] and 1<=int(r.headers['retry-after'])<=20
    limit = RateLimit(5, most=3)
    for i in range(1000): assert limit.wait(str(i))==0
    assert len(limit.seen)==3

@contextlib.contextmanager
def site(data):
    "A web site on this machine"
    class Answers(http.server.BaseHTTPRequestHandler):
        def log_message(self, *a): pass
        def do_GET(self):
            if self.path=='/slow': time.sleep(1)
            self.send_response(302 if self.path=='/away' else 200)
            self.send_header('Location', 'file:///etc/passwd')
            self.end_headers()
            with contextlib.suppress(OSError): self.wfile.write(bytes(2_000_000) if self.path=='/large' else data)
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answers)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{s.server_port}'
    finally: s.shutdown()

def test_addresses(made):
    data = made[2][0].read_bytes()
    with site(data) as url:
        assert fetch_picture(f'{url}/x', allow_private=True)==data
        for path,kw,why in (('/x', {}, 'private network'), ('/away', dict(allow_private=True), 'Only http'),
            ('/large', dict(allow_private=True, max_bytes=100_000), 'larger|large'), ('/slow', dict(allow_private=True, timeout=.2), 'did not come in time')):
            with pytest.raises(GenreError, match=why) as e: fetch_picture(url+path, **kw)
            assert str(e.value).startswith(url)
        with TestClient(serve_app(made[1], allow_private=True)) as c:
            a,b = c.post('/api/predict', json=dict(url=f'{url}/x')), c.post('/api/predict', files=dict(file=data))
            assert a.json()['classes']==b.json()['classes']

def test_a_port_that_is_taken(made):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        with pytest.raises(GenreError, match='Give another one'): serve(made[1], port=s.getsockname()[1])

def test_a_space_is_whole_or_not_there(made, tmp_path, monkeypatch):
    path,m,*_ = made
    (tmp_path/'full').mkdir()
    (tmp_path/'full/x').touch()
    with pytest.raises(GenreError, match='written over'): save_space(path/'model', tmp_path/'full')
    import genre_fastai.deploy.space as space
    monkeypatch.setattr(space, 'space_card', lambda *a: 3)
    with pytest.raises(TypeError): save_space(path/'model', tmp_path/'out')
    assert [o.name for o in tmp_path.iterdir()]==['full']

def test_a_space_of_a_model_on_the_hub(made, tmp_path, monkeypatch):
    hub = pytest.importorskip('huggingface_hub')
    import genre_fastai.deploy.space as space
    path,sha = made[0], 'a'*40
    def opened(name):
        m = load_predictor(path/'model' if name=='hub:user/name' else name)
        m.source = f'hub:user/name@{sha}'
        return m
    monkeypatch.setattr(space, 'open_predictor', opened)
    monkeypatch.setattr(hub, 'try_to_load_from_cache', lambda repo, file, revision: str(path/'model'/file) if (repo,revision)==('user/name',sha) else None)
    out = save_space('hub:user/name', tmp_path/'out')
    for o in ('config.json','model.safetensors','README.md'): assert (out/'model'/o).read_bytes()==(path/'model'/o).read_bytes()

def test_a_space_starts_from_its_folder_alone(made):
    path,m,files,url = made
    wait(lambda: json.load(urllib.request.urlopen(f'{url}/api/health'))['classes']==list(m.vocab), f'the Space ({(path/"log").read_text()[-500:]})', 60)

@pytest.mark.skipif(not (browser and driver), reason='needs Chromium and its driver')
def test_the_page(made, tmp_path):
    path,m,files,url = made
    test_a_space_starts_from_its_folder_alone(made)
    (tmp_path/'bad <b>.jpg').write_text('no picture')
    with chromium() as d:
        def see(n, what): wait(lambda: len(d.find_elements('css selector', '#said .genre-answer'))==n, what)
        for width in (1280, 390):
            d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=900, deviceScaleFactor=1, mobile=width<500))
            d.get(url)
            box = wait(lambda: d.find_elements('css selector', '#posters input[type=file]'), 'the page')[0]
            box.send_keys('\n'.join(map(str, [*files[:2], tmp_path/'bad <b>.jpg'])))
            see(2, 'two answers')
            assert 'Text, JSON or XML' in wait(lambda: d.find_elements('css selector', '#said .said-error'), 'why one is none')[0].text
            assert d.execute_script('return document.documentElement.scrollWidth')<=width
        assert d.title.startswith('Movie genres: horror')
        paste = '''const c = new OffscreenCanvas(60, 90), g = c.getContext('2d'); g.fillStyle = 'teal'; g.fillRect(9, 9, 30, 30);
            c.convertToBlob({type: 'image/png'}).then(b => { const t = new DataTransfer(); t.items.add(new File([b], 'pasted.png', {type: 'image/png'}));
            document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: t, bubbles: true, cancelable: true})) })'''
        d.execute_script(paste)
        wait(lambda: 'pasted.png' in d.find_element('css selector', '#said').text, 'an answer to a pasted picture')
        d.find_element('css selector', '#url textarea, #url input').send_keys('http://127.0.0.1:1/poster.jpg\n')
        wait(lambda: 'private network' in d.find_element('css selector', '#said').text, 'a refusal of a private address')
        away = d.execute_script('''return performance.getEntriesByType('resource').map(o => o.name).filter(o => !o.startsWith(location.origin) && !/^(data|blob):/.test(o))''')
        assert not away, away
    assert not [o for o in path.glob('genre-fastai-*/**/*') if o.is_file()], 'an upload is kept'
