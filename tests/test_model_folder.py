"Model folders from strangers, two that save at once, and other files of weights"
import hashlib, json, os, random, shutil, signal, threading, time
from types import SimpleNamespace
import pytest, torch
from safetensors.torch import load_file, save_file
from genre_fastai.core import GenreError
import genre_fastai.deploy.folder as folder
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.train.checkpoint import Checkpoint, folder_lock, run_lock
from genre_fastai.vision.models import poster_model
from genre_fastai.vision.weights import load_pretrained, read_weights
from fuzz.model_folders import check, flipped, small_model
from fuzz.runner import rss
from fuzz.targets import kinds

@pytest.fixture
def model(tmp_path): return small_model(tmp_path/'m')

def config(model, **kw): (model/'config.json').write_text(json.dumps(json.loads((model/'config.json').read_text()) | kw))
def signed(model): config(model, sha256=hashlib.sha256((model/'model.safetensors').read_bytes()).hexdigest())
def tensors(model, f):
    state = load_file(model/'model.safetensors')
    save_file({k:v.contiguous() for k,v in f(state).items()}, model/'model.safetensors')
    signed(model)

# --- strangers

def test_changed_folders(): # `make fuzz FUZZ=models` tries more
    for seed in range(7, 107): kinds['models'].check(seed.to_bytes(4, 'big'))

def test_a_folder_that_loads(model):
    m = load_predictor(model)
    assert m.vocab==['a','b'] and not m.model.training
    config(model, more='x', weights=[1,2]) # what decides nothing may be anything
    assert load_predictor(model).vocab==['a','b']

@pytest.mark.parametrize('what', [dict(size=[4096,4096]), dict(vocab=[str(i) for i in range(20_000)]), dict(vocab=[str(i) for i in range(400_000)]), dict(arch='regnet_y_128gf'),
    dict(arch='vit_giant_patch14_224', size=[224,224]), dict(size=[10**6,10**6])], ids=lambda o: '-'.join(o))
def test_nothing_is_built_that_the_file_does_not_hold(tmp_path, what):
    m = small_model(tmp_path/'m', 'PosterCNN', 2, (22,22), False)
    check(m)
    before = rss()
    config(m, **what)
    with pytest.raises(GenreError): load_predictor(m)
    assert rss()-before<150

def test_numbers_of_other_kinds(model):
    want = load_predictor(model).model(torch.ones(1,3,32,32))
    tensors(model, lambda s: {k: v.half() if v.is_floating_point() else v for k,v in s.items()})
    assert torch.allclose(load_predictor(model).model(torch.ones(1,3,32,32)), want, atol=.05)
    tensors(model, lambda s: {k: v.int() for k,v in s.items()})
    with pytest.raises(GenreError, match='of the kind int32'): load_predictor(model)

@pytest.mark.parametrize('change,says', [(lambda s: {k: v*float('nan') if v.is_floating_point() else v for k,v in s.items()}, 'no numbers'), (lambda s: s | dict(more=torch.ones(1)), 'more'),
    (lambda s: dict(list(s.items())[1:]), 'is missing'), (lambda s: {k: v[:1] if v.ndim else v for k,v in s.items()}, 'has the shape')])
def test_tensors_that_do_not_fit(model, change, says):
    tensors(model, change)
    with pytest.raises(GenreError, match=says): load_predictor(model)

def odd_file(p, how):
    p.unlink()
    if how=='pipe': os.mkfifo(p)
    elif how=='folder': p.mkdir()
    else: p.symlink_to(how)

@pytest.mark.parametrize('name', ['config.json','model.safetensors'])
@pytest.mark.parametrize('how', ['pipe','folder','/dev/zero','nowhere','config.json'])
def test_what_is_no_file(model, name, how):
    odd_file(model/name, how)
    with pytest.raises(GenreError): load_predictor(model)

def test_links_to_files_are_followed(model):
    "The cache of a hub is made of them"
    for o in ('config.json','model.safetensors'):
        shutil.move(model/o, model.parent/o)
        (model/o).symlink_to(f'../{o}')
    load_predictor(model)

def test_paths_that_are_no_model(model, tmp_path):
    (tmp_path/'old').mkdir()
    (tmp_path/'old/card.json').write_text('{}')
    (tmp_path/'export.pkl').write_bytes(b'x')
    for p,says in ((tmp_path/'export.pkl', 'no.*pickle|is a pickle'), (tmp_path/'none.pth', 'is a pickle'), (tmp_path/'old', 'older version'), (model/'config.json', 'Give the folder'),
        (tmp_path, 'no config.json'), (tmp_path/'none', 'There is no folder'), ('x'*5000, 'There is no folder'), ('a\0b', 'There is no folder'), (None, 'is none'), (3, 'is none')):
        with pytest.raises(GenreError, match=says): load_predictor(p)
    config(model, format=1)
    with pytest.raises(GenreError, match='format 1'): load_predictor(model)
    config(model, format=3)
    with pytest.raises(GenreError, match='newer'): load_predictor(model)

# --- two at once

def learners(n):
    for i in range(n):
        torch.manual_seed(i)
        yield SimpleNamespace(model=poster_model('PosterCNN', 2, None, (22,22))[0])

def stub(learn, **kw): return dict(format=2, arch='PosterCNN', vocab=['a','b'], multi=False, size=[22,22], method='squish', stats=[[0.]*3,[1.]*3], **kw)

def test_savers_and_readers_at_once(tmp_path, monkeypatch):
    "A reader gets one model or another, whole"
    monkeypatch.setattr(folder, 'model_config', stub)
    ls,errs,stop = list(learners(3)),[],threading.Event()
    def go(f):
        try: f()
        except Exception as e: errs.append(e)
    def saver(l):
        for _ in range(8): save_predictor(l, tmp_path/'m')
    def reader():
        while not stop.is_set():
            if (tmp_path/'m/config.json').exists(): one_of(load_predictor(tmp_path/'m'))
    def one_of(m):
        s = m.model.state_dict()
        assert any(all(torch.equal(v.cpu(), l.model.state_dict()[k]) for k,v in s.items()) for l in ls)
    save,read = [threading.Thread(target=go, args=(lambda l=l: saver(l),)) for l in ls], threading.Thread(target=go, args=(reader,))
    for t in [*save, read]: t.start()
    for t in save: t.join()
    stop.set()
    read.join()
    assert not errs
    one_of(load_predictor(tmp_path/'m'))
    assert sorted(os.listdir(tmp_path/'m'))==['README.md','config.json','model.safetensors']

@pytest.mark.parametrize('at', range(1, 5))
def test_killed_while_saving(tmp_path, monkeypatch, at):
    "The process ends at one of the moves: the old model is there, or the new one"
    monkeypatch.setattr(folder, 'model_config', stub)
    old,new = learners(2)
    m = save_predictor(old, tmp_path/'m')
    class Killed(BaseException): pass
    moves,real = [],os.replace
    def replace(a, b):
        if len(moves)==at-1: raise Killed
        moves.append(b)
        return real(a, b)
    with monkeypatch.context() as c, pytest.raises(Killed):
        c.setattr(os, 'replace', replace)
        save_predictor(new, m)
    got = load_predictor(m).model.state_dict()
    assert any(all(torch.equal(v.cpu(), l.model.state_dict()[k]) for k,v in got.items()) for l in (old, new))
    save_predictor(new, m)
    assert sorted(os.listdir(m))==['README.md','config.json','model.safetensors']

def test_a_lock_ends_with_its_process(tmp_path):
    r,w = os.pipe()
    if not (child := os.fork()):
        with run_lock(tmp_path):
            os.write(w, b'in')
            time.sleep(60)
        os._exit(1)
    assert os.read(r, 2)==b'in'
    with pytest.raises(GenreError, match='Another training is writing'):
        with run_lock(tmp_path): pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with run_lock(tmp_path), run_lock(tmp_path): pass # who holds it may ask again
    assert not os.listdir(tmp_path)

@pytest.mark.skipif(os.geteuid()==0, reason='root writes everywhere')
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(GenreError, match='cannot be written'):
        with folder_lock(tmp_path, '.x.lock', 'busy'): pass

# --- other files of weights

def test_changed_weights(tmp_path):
    "Pretrained weights in both kinds of files: read, or refused in plain words"
    state,rng = poster_model('PosterCNN', 2, None, (22,22))[0][0].state_dict(), random.Random(3)
    torch.save(state, p := tmp_path/'a.pth')
    save_file(state, s := tmp_path/'a.safetensors')
    torch.save(state, old := tmp_path/'old.pth', _use_new_zipfile_serialization=False)
    for f in (p, s, old):
        assert load_pretrained('PosterCNN', f).weights==f.name
        data = f.read_bytes()
        for _ in range(60):
            f.write_bytes(flipped(data, rng, rng.choice([300, None])))
            try: load_pretrained('PosterCNN', f)
            except GenreError as e: assert str(e)

def test_weights_that_are_none(tmp_path):
    for o,says in ((dict(w=torch.ones(2)*float('inf')), 'no numbers'), (dict(w=torch.eye(2).to_sparse()), 'table of tensors'), (dict(w=torch.empty(2, device='meta')), 'table of tensors'),
        (dict(w=1), 'table of tensors'), (3, 'table of tensors'), ({}, 'table of tensors'), ({1: torch.ones(1)}, 'table of tensors')):
        torch.save(o, tmp_path/'w.pth')
        with pytest.raises(GenreError, match=says): read_weights(tmp_path/'w.pth')
    (tmp_path/'export.pkl').write_bytes(b'x')
    with pytest.raises(GenreError, match='is a pickle'): load_pretrained('resnet18', tmp_path/'export.pkl')
    torch.save({f'{i}.0.weight': torch.ones(2) for i in (0,1)}, tmp_path/'learner.pth')
    with pytest.raises(GenreError, match='learn.load'): load_pretrained('resnet18', tmp_path/'learner.pth')

def _checkpoint(path):
    from fastai.vision.all import CrossEntropyLossFlat, DataLoaders, L, nn, params
    from genre_fastai.train.callbacks import HistoryCallback
    from genre_fastai.train.checkpoint import PosterLearner
    x = torch.randn(16, 4)
    ds = list(zip(x, (x.sum(1)>0).long()))
    dls = DataLoaders.from_dsets(ds, ds, bs=8, num_workers=0, device=torch.device('cpu'))
    return PosterLearner(dls, nn.Sequential(nn.Linear(4,4), nn.Linear(4,2)), loss_func=CrossEntropyLossFlat(), splitter=lambda m: L(m[0], m[1]).map(params), cbs=HistoryCallback())

def test_changed_checkpoints(tmp_path):
    "A run goes on, or says that it cannot, whatever a checkpoint holds"
    rng,p = random.Random(4), tmp_path/'checkpoint.pth'
    learn = _checkpoint(p)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=Checkpoint(p, dict(a=1)))
    data,state = p.read_bytes(), torch.load(p, weights_only=True)
    def resume():
        learn = _checkpoint(p)
        try:
            with learn.no_bar(), learn.no_logging(): learn.fit(2, cbs=Checkpoint(p, dict(a=1), resume=True))
        except GenreError as e: return str(e)
    assert resume() is None
    for k in state:
        for v in (None, 3, -1, 'x', [], {}, (), [1], dict(a=1), dict(a=torch.ones(2)), float('nan'), True, torch.ones(2)):
            torch.save(state | {k: v}, p)
            resume()
        torch.save({n:v for n,v in state.items() if n!=k}, p)
        assert 'rom the beginning' in resume()
    for _ in range(40):
        p.write_bytes(flipped(data, rng))
        resume()

# --- quick

def test_a_network_with_tensors_that_are_in_no_file(model, monkeypatch):
    "What is only a shape after loading is made as ever"
    real,built = folder._network,[]
    def with_places(config):
        net = real(config)
        net[0].register_buffer('places', torch.arange(3).float(), persistent=False)
        built.append(net)
        return net
    want = load_predictor(model).model(torch.ones(1,3,32,32))
    monkeypatch.setattr(folder, '_network', with_places)
    m = load_predictor(model)
    assert len(built)==2 and m.model[0].places.tolist()==[0,1,2] and torch.equal(m.model(torch.ones(1,3,32,32)), want)

@pytest.fixture
def posters(tmp_path):
    from PIL import Image
    rng = random.Random(1)
    files = [tmp_path/f'{i}.png' for i in range(40)]
    for f in files: Image.frombytes('RGB', (20,30), rng.randbytes(20*30*3)).save(f)
    return files

def count(monkeypatch, module, name, log):
    real = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **kw: (log.append(a), real(*a, **kw))[1])

def test_each_file_is_decoded_once(model, posters, monkeypatch):
    from genre_fastai.deploy import films
    from genre_fastai.vision import cache
    decoded = []
    for m in (cache, films): count(monkeypatch, m, 'decode', decoded)
    m = load_predictor(model)
    res = m.predict(posters)
    assert len(decoded)==40 and res['file'].tolist()==[str(f) for f in posters]
    decoded.clear()
    m.predict_probs(posters, tta=2)
    assert len(decoded)==40

def test_all_bad_files_are_named(model, posters, monkeypatch):
    for i in (3, 20, 39): posters[i].write_bytes(b'no picture')
    m,asked = load_predictor(model), []
    monkeypatch.setattr(m, 'quick', lambda x, quick=m.quick: (asked.append(len(x)), quick(x))[1])
    with pytest.raises(folder.BadFiles, match='3 of 40 files cannot be predicted.*3.png: text.*20.png: text.*39.png: text') as e: m.predict(posters)
    assert [o.name for o in e.value.bad]==['3.png','20.png','39.png'] and not asked # the first block is bad, and nothing is predicted after it
    posters[3].unlink()
    with pytest.raises(folder.BadFiles, match='3.png: missing'): m.predict_probs(posters)

@pytest.mark.parametrize('arch', ['test_efficientnet','test_resnet','PosterCNN'])
def test_predictions_are_those_of_the_network(tmp_path, posters, arch):
    from genre_fastai.vision.cache import fit_poster
    m = load_predictor(small_model(tmp_path/'m', arch))
    x = torch.stack([torch.from_numpy(fit_poster(f, (32,32))) for f in posters])
    with torch.no_grad(): want = m.model((x/255-.5)/.5).softmax(1).numpy()
    assert abs(m.predict_probs(posters)-want).max() < 1e-5 and abs(m.predict_probs(posters, bs=7)-want).max() < 1e-5
    with torch.no_grad(): m.model[1][-1].bias.add_(torch.tensor([1.,0])) # edited since: the quick copy is made anew
    assert (m.predict_probs(posters)[:,0]>want[:,0]).all()
