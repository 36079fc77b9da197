"A model as one ONNX file: the same as in PyTorch, and what strangers may put into such files"
import json, os, subprocess, sys
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from fuzz.model_folders import small_model
from genre_fastai.cli import main
from genre_fastai.core import GenreError
from genre_fastai.deploy.base import BadFiles
from genre_fastai.deploy.folder import load_predictor
from genre_fastai.deploy.onnx import OnnxPredictor, export_onnx

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')
root = Path(__file__).parents[1]
rng = np.random.default_rng(0)
sizes = dict(dot=(1,1), long=(7,3000), large=(3000,2000), poster=(300,200), wide=(90,160))

@pytest.fixture(scope='module')
def model(tmp_path_factory): return small_model(tmp_path_factory.mktemp('m')/'m', 'PosterCNN', 2, (32,24), False)

def change(model, **kw): (model/'config.json').write_text(json.dumps(json.loads((model/'config.json').read_text()) | kw))

def command(*args):
    "The exit code of `genre-fastai onnx`"
    with pytest.raises(SystemExit) as e: main(['onnx', *map(str, args)])
    return e.value.code

@pytest.fixture(scope='module')
def made(model):
    change(model, multi=True, thresh=[.2,.7])
    assert command(model, '--out', model.parent/'m.onnx')==0
    return OnnxPredictor(model.parent/'m.onnx')

@pytest.fixture(scope='module')
def posters(tmp_path_factory):
    "Pictures of soft colours, which a resize changes little, and noise, which it changes most"
    d = tmp_path_factory.mktemp('posters')
    for k,(h,w) in sizes.items():
        Image.fromarray(rng.integers(0, 256, (h,w,3), dtype=np.uint8)).save(d/f'{k}.png', compress_level=1)
        Image.fromarray(rng.integers(0, 256, (3,2,3), dtype=np.uint8)).resize((w,h), Image.Resampling.BICUBIC).save(d/f'{k}.jpg')
    Image.fromarray(rng.integers(0, 256, (40,30,4), dtype=np.uint8)).save(d/'alpha.png')
    Image.fromarray(rng.integers(0, 256, (40,30), dtype=np.uint8)).save(d/'grey.gif')
    return sorted(d.iterdir())

def test_says_what_torch_says(model, made, posters):
    torch_model = load_predictor(model)
    want,got = torch_model.predict(posters), made.predict(posters)
    assert list(got)==list(want) and got['file'].tolist()==want['file'].tolist() and got['pred'].tolist()==want['pred'].tolist()
    assert np.abs(made.predict_probs(posters)-torch_model.predict_probs(posters)).max()<1e-4
    some = [p for p in posters if p.stem=='poster']
    inside = np.stack([made.picture_probs(np.asarray(Image.open(p))) for p in some]) # resized by the file itself
    assert np.abs(inside-torch_model.predict_probs(some)).max()<1e-4
    assert made.vocab==torch_model.vocab and np.array_equal(made.thresh, torch_model.thresh)
    assert made.predict(posters[:1], thresh=0)['pred'][0]=='|'.join(made.vocab)

def test_bad_files_are_named(made, posters, tmp_path):
    (tmp_path/'bad.jpg').write_bytes(b'no picture')
    with pytest.raises(BadFiles, match='2 of 3 files cannot be predicted.*bad.jpg.*none.jpg: missing') as e:
        made.predict([posters[0], tmp_path/'bad.jpg', tmp_path/'none.jpg'])
    assert [o.name for o in e.value.bad]==['bad.jpg','none.jpg']

def test_no_torch(made, model, posters):
    code = f'''import sys, time
from genre_fastai.deploy.onnx import OnnxPredictor
at_import = [o for o in ('torch','fastai','pandas','sklearn','onnx') if o in sys.modules]
assert len(OnnxPredictor({str(model.parent/"m.onnx")!r}).predict({[str(p) for p in posters[:2]]!r}))==2
print(at_import, [o for o in ('torch','fastai','sklearn','onnx') if o in sys.modules])'''
    r = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True)
    assert r.stdout.strip()=='[] []', r.stdout

def test_commands_need_no_torch(made, model, posters, tmp_path):
    "predict and evaluate of an .onnx file; and a stream of it is what the folder says"
    rows = [f'{p.name},{["a","b","a;b"][i%3]},test' for i,p in enumerate(posters[:6])]
    (few := tmp_path/'few.csv').write_text('\n'.join(['file,labels,split', *rows]))
    code = f"""import sys
from genre_fastai.cli import main
for line in (['predict', sys.argv[1], sys.argv[2], '--csv', sys.argv[3]], ['evaluate', sys.argv[1], sys.argv[4], '--path', sys.argv[5]]):
    try: main(line)
    except SystemExit as e: assert not e.code, e.code
    print('loaded', [o for o in ('torch','fastai','aiohttp','sklearn') if o in sys.modules])"""
    args = model.parent/'m.onnx', posters[0], tmp_path/'o.csv', few, posters[0].parent
    r = subprocess.run([sys.executable, '-c', code, *map(str, args)], cwd=root, capture_output=True, text=True)
    assert r.returncode==0, r.stderr
    assert [o for o in r.stdout.splitlines() if o.startswith('loaded')]==['loaded []', "loaded ['sklearn']"], r.stdout
    from genre_fastai.deploy.batch import predict_stream
    torch_model,bad = load_predictor(model), tmp_path/'bad.jpg'
    bad.write_bytes(b'no picture')
    got,want = (list(predict_stream(m, [*posters[:3], bad])) for m in (made, torch_model))
    assert [o['pred'] for o in got]==[o['pred'] for o in want] and got[3]['error']==want[3]['error']!=''
    assert np.allclose([[o['a'],o['b']] for o in got[:3]], [[o['a'],o['b']] for o in want[:3]], atol=2e-4)

def test_any_name_opens(model, made):
    from genre_fastai.deploy.open import open_predictor
    assert isinstance(open_predictor(model.parent/'m.onnx'), OnnxPredictor) and open_predictor(str(model)).vocab==made.vocab
    for odd,why in ((model.parent/'none.onnx', 'cannot be read'), ('hub:x', 'as user/name'), (model.parent, 'no config.json')):
        with pytest.raises(GenreError, match=why): open_predictor(odd)

def test_no_machine_paths(made, model):
    assert not any(str(o).encode() in (model.parent/'m.onnx').read_bytes() for o in (root, Path.home(), model))

def test_missing_packages(model, made, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(GenreError, match=r"pip install 'genre_fastai\[onnx\]'"): OnnxPredictor(model.parent/'m.onnx')
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(GenreError, match=r"pip install 'genre_fastai\[onnx\]'"): export_onnx(model, tmp_path/'x.onnx')

# --- strangers

def changed(model, f):
    m = onnx.load(model.parent/'m.onnx')
    f(m)
    return m.SerializeToString()

def elsewhere(m): onnx.external_data_helper.set_external_data(m.graph.initializer[-1], '/etc/hostname')
def elsewhere_in_a_node(m):
    t = onnx.helper.make_tensor('x', 1, [1], [1.])
    onnx.external_data_helper.set_external_data(t, '../x') if t.HasField('raw_data') else t.external_data.add(key='location', value='../x')
    t.data_location = 1
    m.graph.node.insert(0, onnx.helper.make_node('Constant', [], ['x'], value=t))
def loop(m): m.graph.node.append(onnx.helper.make_node('Loop', ['a','b'], ['c'], body=m.graph))
def functions(m): m.functions.add(name='f', domain='d')
def about(**kw):
    def f(m):
        c = json.loads(m.metadata_props[0].value)
        m.metadata_props[0].value = json.dumps(c | kw)
    return f
def nothing(m): del m.metadata_props[:]
def deep(m): m.metadata_props[0].value = '['*100_000
def not_finite(m):
    for t in m.graph.initializer:
        if t.data_type==1 and len(t.dims)>1: t.raw_data = np.full(tuple(t.dims), np.nan, np.float32).tobytes()
def unknown_op(m): m.graph.node[-1].op_type = 'Explode'

def lacks_an_input(m): next(n for n in m.graph.node if n.op_type=='Max').input[1] = '' # of which onnxruntime crashed

@pytest.mark.parametrize('f,says', [(lacks_an_input,'lacks an input'), (elsewhere,'other files'), (elsewhere_in_a_node,'other files'), (loop,'loops'), (functions,'functions'), (nothing,'which classes'), (deep,'not a whole'),
    (about(vocab=['a']),'classes, thresholds'), (about(vocab=['a','a']),'classes, thresholds'), (about(thresh=[.5]),'classes, thresholds'), (about(thresh=float('nan')),'classes, thresholds'),
    (about(vocab=['a','b','c'], thresh=None),'3 prob'), (about(size=[10**6,3]),'classes, thresholds'), (about(format=2),'classes, thresholds'), (unknown_op,'cannot open')],
    ids=lambda o: getattr(o, '__name__', o))
def test_files_of_strangers(made, model, tmp_path, f, says):
    (tmp_path/'m.onnx').write_bytes(changed(model, f))
    with pytest.raises(GenreError, match=says): OnnxPredictor(tmp_path/'m.onnx')

def test_a_file_that_onnxruntime_does_not_survive(made, model, tmp_path, posters, monkeypatch):
    "A crash is an error, and models that are open go on"
    import genre_fastai.deploy.onnx as ours
    from genre_fastai.deploy import worker
    monkeypatch.setattr(ours, '_takes_all', ()) # a fault that we know is let through, like one that nobody knows yet
    (tmp_path/'m.onnx').write_bytes(changed(model, lacks_an_input))
    with pytest.raises(GenreError, match='m.onnx'): OnnxPredictor(tmp_path/'m.onnx').picture_probs(np.zeros((9,9,3), np.uint8))
    (tmp_path/'n.onnx').write_bytes((model.parent/'m.onnx').read_bytes())
    m = OnnxPredictor(tmp_path/'n.onnx')
    monkeypatch.setattr(worker._Worker, 'ask', lambda self, *a, **kw: (_ for _ in ()).throw(EOFError))
    with pytest.raises(GenreError, match='it crashes, or takes too much memory'): m.predict(posters[:1])
    monkeypatch.undo()
    assert len(made.predict(posters[:1]))==len(m.predict(posters[:1]))==1

def test_numbers_in_the_place_of_texts_take_no_memory(made, model, tmp_path):
    "A length of a petabyte, where a name should stand"
    from genre_fastai.deploy.onnx import _as_field
    data = (model.parent/'m.onnx').read_bytes()
    for odd in (_as_field(14, _as_field(1, 1<<45)), _as_field(7, _as_field(1, _as_field(2, 1<<45)))):
        (tmp_path/'m.onnx').write_bytes(data+odd)
        with pytest.raises(GenreError, match='number stands where a text'): OnnxPredictor(tmp_path/'m.onnx')
    (tmp_path/'m.onnx').write_bytes(data+_as_field(7, _as_field(1, b'')*1_000_001)) # of nothing
    with pytest.raises(GenreError, match='too many parts'): OnnxPredictor(tmp_path/'m.onnx')

def test_a_file_that_computes_no_numbers(made, model, tmp_path, posters):
    (tmp_path/'m.onnx').write_bytes(changed(model, not_finite))
    m = OnnxPredictor(tmp_path/'m.onnx')
    for f in (lambda: m.predict(posters[:1]), lambda: m.picture_probs(np.zeros((40,30,3), np.uint8))):
        with pytest.raises(GenreError, match='a number for each'): f()

def test_damaged_files(made, model, tmp_path):
    "Whatever bytes change, a file opens or is a `GenreError`"
    data,p = (model.parent/'m.onnx').read_bytes(), tmp_path/'m.onnx'
    for i in range(60):
        b = bytearray(data[:rng.integers(len(data))] if i%3==0 else data)
        for k in rng.integers(min(len(b), 3000) or 1, size=4) if len(b) else (): b[k] = rng.integers(256)
        p.write_bytes(b)
        try: OnnxPredictor(p)
        except GenreError: pass

@pytest.mark.parametrize('precision,method,most', [('fp16','crop',.005), ('int8','pad',.05)])
def test_smaller_files(made, model, posters, tmp_path, precision, method, most):
    some = [p for p in posters if p.stem not in ('dot','long')] # fastai crops one pixel to none
    change(model, method=method)
    try: p,want = export_onnx(model, tmp_path/'m.onnx', precision, posters=some), load_predictor(model).predict_probs(some)
    finally: change(model, method='squish')
    assert np.abs(OnnxPredictor(p).predict_probs(some)-want).max()<most
    assert p.stat().st_size<.6*(model.parent/'m.onnx').stat().st_size

def test_models_of_texts_are_refused(tmp_path):
    from genre_fastai.deploy.multimodal import FilmPredictor
    film = FilmPredictor.__new__(FilmPredictor)
    film.config = dict(modalities=['poster','overview'], vocab=['a','b'])
    with pytest.raises(GenreError, match='reads texts'): export_onnx(film, tmp_path/'x.onnx')

def test_command(model, tmp_path, capsys):
    assert command(model, '--out', tmp_path/'d.onnx', '--precision', 'int8')==2
    assert '--posters' in capsys.readouterr().err and not (tmp_path/'d.onnx').exists()

def test_real_posters(model, made):
    if not os.environ.get('GENRE_POSTERS'): pytest.skip('no posters')
    real = sorted(Path(os.environ['GENRE_POSTERS']).rglob('*.jpg'))[::97][:30]
    want = load_predictor(model).predict_probs(real)
    inside = np.stack([made.picture_probs(np.asarray(Image.open(p).convert('RGB'))) for p in real if Image.open(p).size[0]<600])
    print('largest difference', np.abs(made.predict_probs(real)-want).max())
    assert np.abs(made.predict_probs(real)-want).max()<1e-3 and (len(inside)<len(real) or np.abs(inside-want).max()<1e-3)
