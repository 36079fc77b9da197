"Requests to a web app, from a stranger: what `make fuzz FUZZ=requests` tries. A site on this machine notes whether it is ever asked"
import atexit, contextlib, http.server, io, json, os, tempfile, threading, warnings
from functools import cache
from pathlib import Path
from hypothesis import strategies as st
from PIL import Image
from .edits import changed

def picture():
    Image.new('RGB', (20,30), (9,99,30)).save(b := io.BytesIO(), 'JPEG')
    return b.getvalue()

@cache
def site():
    "The port of a server of private pictures, and the paths that it was asked for"
    asked = []
    class Answers(http.server.BaseHTTPRequestHandler):
        def log_message(self, *a): pass
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answers)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    return s.server_port, asked

@cache
def app():
    "A client of an app of a model of eight numbers"
    from fastapi.testclient import TestClient
    from genre_fastai.deploy.onnx import OnnxPredictor
    from genre_fastai.deploy.serve import serve_app
    from .onnx_files import small_onnx
    with tempfile.TemporaryDirectory() as d:
        (p := Path(d)/'m.onnx').write_bytes(small_onnx())
        made = serve_app(OnnxPredictor(p), max_mb=.1, per_minute=1_000_000, max_files=3)
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(TestClient(made, raise_server_exceptions=False)) # started once: it takes a while

hosts = ['127.0.0.1','127.1','0','0.0.0.0','localhost','LOCALHOST','localhost.','[::1]','[::]','[::ffff:127.0.0.1]','[::ffff:7f00:1]','[0:0:0:0:0:ffff:127.0.0.1]','2130706433',
    '0x7f000001','0x7f.1','017700000001','0177.0.0.1','127.0.0.1.','１２７.０.０.１','①②⑦.0.0.1','127。0。0。1','u:p@127.0.0.1','example.com@127.0.0.1','127.0.0.1\\@example.com','[64:ff9b::7f00:1]',
    '[2002:7f00:1::]','169.254.169.254','10.'+'0.0.1','[fe80::1]','','[','a b','127.0.0.1%00','%31%32%37.0.0.1','x'*300,'\u202e']
addresses = st.builds('{}{}{}{}'.format, st.sampled_from(['http://','https://','HTTP://','http:/','http:','//','file://','ftp://','data:,','gopher://','javascript:','',' http://','\thttp://']),
    st.sampled_from(hosts), st.sampled_from(['',':PORT',':PORT',':0',':99999',':x',':-1']), st.sampled_from(['','/x','/..','?a=b','#c','/%0d%0aX: y','/\ud800','/é'])) | st.text(max_size=20)

_odd = st.recursive(st.sampled_from([None, True, 0, -1, 1.5, 10**400, float('nan'), '', 'x', '\ud800', 'é'*50, '../x', '/etc/passwd', 'http://127.0.0.1/x']),
    lambda o: st.lists(o, max_size=3) | st.dictionaries(st.sampled_from(['url','texts','overview','path','data','fn_index','session_hash','meta','_type','x']), o, max_size=3), max_leaves=6)
_object = st.fixed_dictionaries({}, optional=dict(url=addresses|_odd, texts=_odd, file=_odd))

def _form(parts):
    "A body of several parts"
    return b''.join(b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (k, b'; filename="%s"' % f if f is not None else b'', v) for k,f,v in parts) + b'--x--\r\n'

_names,_files = st.sampled_from([b'file',b'url',b'overview',b'files',b'',b'"',b'x'*300,b'\xff']), st.sampled_from([None,None,b'a.jpg',b'',b'../../x',b'a\0b',b'<b>.jpg',b'\xff\xfe',b'x'*300,b'/etc/passwd'])
_parts = st.lists(st.tuples(_names, _files, st.sampled_from([picture(), b'', b'x', b'<html>', b'/etc/passwd', b'http://127.0.0.1:PORT/x', bytes(200_000)])), max_size=4)
_whole = _form([(b'file', b'a.jpg', picture())])
_bodies = st.one_of(st.tuples(st.just('application/json'), (_object | _odd).map(lambda o: json.dumps(o).encode())),
    st.tuples(st.just('multipart/form-data; boundary=x'), _parts.map(_form) | changed([_whole])),
    st.tuples(st.sampled_from(['','application/json','application/json; charset=utf-16','text/plain','multipart/form-data','multipart/form-data; boundary=','multipart/form-data; boundary="\xff"',
        'application/x-www-form-urlencoded','x'*300]), changed([b'{"url": "http://127.0.0.1:PORT/x"}', b'url=http://127.0.0.1:PORT/x', b'['*3000, picture()])))

@cache
def _fn(): return json.dumps(dict(data=[[dict(path='/etc/passwd', meta=dict(_type='gradio.FileData'))],'http://127.0.0.1:PORT/x'], fn_index=0, session_hash='a')).encode()

_joins = st.builds(lambda data, fn: json.dumps(dict(data=data, fn_index=fn, session_hash='a')).encode(), st.lists(_odd | st.lists(st.builds(dict, path=_odd), max_size=2) | addresses, max_size=4), st.sampled_from([0,1,2,3,99,-1]))
_paths = st.sampled_from(['/api/predict']*6 + ['/gradio_api/queue/join']*3 + ['/gradio_api/run/predict','/gradio_api/call/upload','/gradio_api/run/upload','/gradio_api/upload','/gradio_api/component_server',
    '/gradio_api/process_recording','/gradio_api/cancel','/gradio_api/reset','/gradio_api/stream/x','/gradio_api/file=/etc/passwd','/gradio_api/file=../../etc/passwd','/gradio_api/proxy=http://127.0.0.1:PORT/x',
    '/gradio_api/file=http://127.0.0.1:PORT/x','/GRADIO_API/upload','/login','/api/health','/..//api/predict','/%2e%2e/etc/passwd','/static/../../../etc/passwd'])

def _request(method, path, body, join):
    kind,data = body
    if 'gradio_api' in path and method=='POST' and join and not path.endswith('/gradio_api/upload'): kind,data = 'application/json',join
    return f'{method} {path}\n{kind}\n'.encode('utf-8', 'surrogatepass') + data

def inputs():
    app(), site()
    return st.builds(_request, st.sampled_from(['POST']*8+['GET','PUT','DELETE','HEAD','OPTIONS']), _paths, _bodies, st.just(b'') | _joins | changed([_fn()]))

def check(data):
    "A request is answered or refused in words; nothing private is fetched or read, nothing fails, nothing is kept of what was asked"
    port,asked = site()
    head,kind,body = (data.replace(b'PORT', str(port).encode()).split(b'\n', 2)+[b'']*2)[:3]
    method,_,path = head.decode('utf-8', 'replace').partition(' ')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: r = app().request(method, path, content=body, headers={'content-type': kind})
        except (ValueError, TypeError) as e: return # the client itself does not send this
    assert not asked, f'{asked.pop()} was fetched'
    # Gradio echoes odd fields of its own requests, and fails at half a character in them
    assert r.status_code<500 or r.status_code==503 or 'gradio_api' in path and r.text=='Internal Server Error', (r.status_code, r.text[:300])
    assert 'Traceback' not in r.text and 'root:' not in r.text[:5000]
    if path=='/api/predict' and r.status_code not in (200,404,405): assert r.json()['error']
    if path=='/api/predict': assert not [o for o in Path(os.environ['GRADIO_TEMP_DIR']).glob('*') if o.suffix=='.jpg']
