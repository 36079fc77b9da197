"Upload and classify: answers to hostile pictures and from several threads, and the uploader in headless Chromium before a real Voila"
import importlib.util, io, json, os, socket, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pytest
from PIL import Image
from fastai.vision.all import set_seed
from genre_fastai.core import GenreError
from genre_fastai.deploy.answer import model_lock, answer
from genre_fastai.deploy.base import SavedModel
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.deploy.uploader import PosterUploader, uploader_notebook, voila_app
from genre_fastai.sample.dataset import make_sample
from genre_fastai.train.learner import poster_learner
from genre_fastai.vision.data import get_dls
from labsite import browser, chromium, driver, wait

lacks = [o for o in ('voila','ipykernel','selenium') if importlib.util.find_spec(o) is None]
needs_browser = pytest.mark.skipif(not browser or not driver or bool(lacks), reason='no Chromium, chromedriver, Voila or selenium')

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "A model folder, and the catalog that it was made of"
    root = tmp_path_factory.mktemp('uploader')
    cat = make_sample(root/'data', n=20, seed=1, size=(160,240)).where(kind='clean')
    cat = cat.assign(split=[['train','valid'][i%2] for i in range(len(cat))])
    cat[:8].save(root/'data/catalog.csv')
    set_seed(1)
    save_predictor(poster_learner(get_dls(cat, bs=4, size=(96,64), seed=1), 'tf_efficientnet_lite0', precision='fp32'), root/'model')
    return root, cat

@pytest.fixture(scope='module')
def model(site): return load_predictor(site[0]/'model')

def jpeg(im, **kw):
    im.save(b := io.BytesIO(), 'JPEG', **kw)
    return b.getvalue()

# ---- answers
@pytest.mark.parametrize('data', [b'', b'x', b'\0'*99, b'<html></html>', b'\xff\xd8\xff\xe0'+b'\0'*99, jpeg(Image.new('RGB', (90,90)))[:400],
    b'GIF89a', b'%PDF-1.4', '/etc/passwd', '/dev/zero', '/', 'a\0b', np.zeros((4,4,7), np.uint8), np.zeros((0,0,3), np.uint8),
    np.full((4,4,3), np.nan), 3, [], Image.new('RGB', (70_000,1))], ids=lambda o: repr(o)[:20] if not hasattr(o, 'shape') else str(o.shape))
def test_what_is_no_picture_is_said_in_words(model, data):
    with pytest.raises(GenreError) as e: answer(model, data)
    assert ': ' in str(e.value)

@pytest.mark.parametrize('im', [Image.new('L', (1,1)), Image.new('RGBA', (3,900), (255,0,0,9)), Image.new('CMYK', (40,60)), Image.new('P', (50,50)),
    Image.new('I;16', (20,30)), Image.new('1', (20,30)), Image.new('LA', (20,30))], ids=lambda o: o.mode)
def test_any_kind_of_picture_is_answered(model, im):
    a = answer(model, im)
    assert a.cam is None and a.picture.mode=='RGB' and a.pred in model.vocab
    json.dumps(a.to_dict(pictures=True), allow_nan=False)

def test_upright(site, model):
    "A photograph that lies on its side is turned, and says the same as the upright one"
    im = Image.open(site[1].files[0]).convert('RGB')
    exif = Image.Exif(); exif[0x0112] = 6
    lying = answer(model, jpeg(im.transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95))
    assert lying.picture.size==answer(model, jpeg(im, quality=95)).picture.size==(160,240) and lying.cam.size==(160,240)
    assert np.abs(lying.probs['prob']-answer(model, im).probs['prob']).max()<.05

def test_one_thread_at_a_time():
    "A model whose buffers are its own is never entered twice, by answers or otherwise"
    inside,worst = [],[]
    class Slow(SavedModel):
        modalities,sizes = ('poster','overview'), [(16,12)]
        def batch_probs(self, pixels, posters, texts):
            inside.append(1); worst.append(len(inside)); threading.Event().wait(.005); inside.pop()
            return np.array([[.5,.5]])
    m = Slow(dict(vocab=['a','b'], multi=False))
    def ask(i):
        with model_lock(m): pass
        return answer(m, Image.new('RGB', (20,30), (i,0,0)), 'A shark.', cam=False)
    with ThreadPoolExecutor(8) as ex: assert len(list(ex.map(ask, range(24))))==24
    assert max(worst)==1

def test_poster_and_text(site, tmp_path):
    "Grad-CAM beside a text, which leaves the network as it was; from either alone there is an answer, too"
    from genre_fastai.train.multimodal import poster_text_learner
    cat = site[1].assign(overview=[f'A {o} story.' for o in site[1].df['label']])
    dls = get_dls(cat, bs=4, size=(64,48), modalities=('poster','overview'), tokenizer='words', seed=1)
    save_predictor(poster_text_learner(dls, 'gated', arch='tf_efficientnet_lite0'), tmp_path/'m')
    m,file = load_predictor(tmp_path/'m'), cat.files[0]
    want = m.predict_probs(file, 'A horror story.')[0].max()
    for _ in range(3): a = answer(m, file, 'A horror story.')
    assert abs(a.probs['prob'][0]-want)<1e-3 and a.cam.size==a.picture.size and not m.model.training
    assert answer(m, file).cam is not None and answer(m, None, dict(overview='A horror story.')).picture is None
    for args,why in (((file, dict(plot='x')), 'does not read'), ((), 'poster or overview'), ((None, 'x'*200_000), 'Shorten it')):
        with pytest.raises(GenreError, match=why): answer(m, *args)

def test_onnx_answers_without_torch(site):
    "As the model in PyTorch, and torch is not imported"
    from genre_fastai.deploy.onnx import export_onnx
    root,cat = site
    export_onnx(root/'model', root/'m.onnx')
    code = ('import sys, json; from genre_fastai.deploy.onnx import OnnxPredictor; from genre_fastai.deploy.answer import answer\n'
        'a = answer(OnnxPredictor(sys.argv[1]), sys.argv[2]); assert a.cam is None and "torch" not in sys.modules, "torch"\n'
        'assert "ga-bar" in a.html(); print(json.dumps(a.to_dict()))')
    said = subprocess.run([sys.executable, '-c', code, root/'m.onnx', cat.files[0]], capture_output=True, text=True)
    assert said.returncode==0, said.stderr
    got = {o['class']: o['probability'] for o in json.loads(said.stdout)['classes']}
    want = answer(load_predictor(root/'model'), cat.files[0]).to_dict()['classes']
    assert max(abs(got[o['class']]-o['probability']) for o in want)<2e-3

# ---- the widget without a browser
def test_a_model_that_fails_costs_one_file():
    class Broken(SavedModel):
        sizes = [(16,12)]
        def batch_probs(self, *args): raise RuntimeError('<b>out of memory</b>')
    w = PosterUploader(Broken(dict(vocab=['a','b'], multi=False)))
    w.predict([('a.jpg', jpeg(Image.new('RGB', (9,9))))])
    assert 'RuntimeError: &lt;b&gt;out of memory' in w.answers.children[0].value and w.status.value==''

def test_colab_has_an_older_ipywidgets(model):
    "There `value` is a dict, and a counter shows how many files there were"
    w = PosterUploader(model)
    class Upload:
        value,_counter = {'a.jpg': dict(metadata={}, content=jpeg(Image.new('RGB', (20,30), 'red')))}, 1
    w.upload = Upload()
    w._uploaded(dict(new=w.upload.value))
    assert (w.upload.value, w.upload._counter)==({}, 0) and 'ga-bar' in w.answers.children[0].value

# ---- in a browser
def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

@needs_browser
def test_in_voila(site, monkeypatch, tmp_path):
    "Three files at once, one of them no picture; more than the 10 MB that a websocket takes by default; wide and narrow"
    root,cat = site
    for o in 'JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR IPYTHONDIR'.split(): monkeypatch.setenv(o, str(tmp_path/o))
    (tmp_path/'page.jpg').write_text('<html>not found</html>')
    (tmp_path/'big.jpg').write_bytes(cat.files[2].read_bytes() + b'\0'*12_000_000)
    with voila_app(root/'model', free_port(), neighbors=root/'data/catalog.csv') as (url,p), chromium() as d:
        wait(lambda: socket.create_connection(url[7:-1].split(':'), 5).close() is None, 'Voila')
        d.get(url)
        def button():
            if found := d.find_elements('css selector', '.widget-upload'): return found[0]
            raise AssertionError(d.find_element('css selector', 'body').text[:1000])
        button = wait(button, 'the button')
        # a click opens the system's window for files, which nobody can use here: the input that it belongs to is shown instead
        d.execute_script("HTMLInputElement.prototype.click = function() { this.id = 'files'; document.body.append(this) }")
        button.click()
        box = d.find_element('css selector', '#files')
        shown = lambda n: wait(lambda: len(o := d.find_elements('css selector', '.genre-answer'))==n and o, f'{n} answers')
        box.send_keys('\n'.join(map(str, [*cat.files[:2], tmp_path/'page.jpg'])))
        a = shown(2)[0]
        assert 'Grad-CAM' in a.text and 'distance 0.00' in a.text and len(a.find_elements('css selector', 'img'))==7
        assert 'A web page instead of a picture' in d.find_element('css selector', 'body').text
        for w,h in ((1280,900), (390,844)):
            d.set_window_size(w, h)
            assert d.execute_script('return document.documentElement.scrollWidth <= innerWidth')
            if shots := os.environ.get('GENRE_SHOTS'): d.save_screenshot(f'{shots}/uploader-{w}.png')
        d.execute_script("arguments[0].value = ''", box)
        box.send_keys(f'{tmp_path/"big.jpg"}\n{cat.files[3]}')
        shown(3) # 12 MB in one message: one file is too large, the other is answered
        assert 'up to 10 MB are taken' in d.find_element('css selector', 'body').text
