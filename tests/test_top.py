"Fine-tuning above a cut: the place, maps computed once, a learner that stays an ordinary one, runs that are stopped and continued"
import contextlib, io
import numpy as np, pytest, torch
from fastai.vision.all import Callback, MixUp
from genre_fastai.core import GenreError
from genre_fastai.sample.dataset import make_sample
from genre_fastai.train import top
from genre_fastai.train.learner import poster_learner
from genre_fastai.train.recipes import recipe_settings, train
from genre_fastai.train.top import MapFile, find_cut
from genre_fastai.vision.data import get_dls
from genre_fastai.vision.models import poster_model
from genre_fastai.vision.precision import has_bf16
from genre_fastai.vision.weights import lite0

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    cat = make_sample(tmp_path_factory.mktemp('sample'), n=60, seed=1).where(kind='clean')
    return cat.assign(split=[['train','train','valid','test'][i%4] for i in range(len(cat))])

def fit(cat, recipe='finetune_top', **kw):
    with contextlib.redirect_stdout(io.StringIO()): return train(cat, recipe, **{**dict(arch=lite0, size=48, bs=8, epochs=2), **kw})

def figures(learn): return [{k:v for k,v in h.items() if k!='time'} for h in learn.run_info.history]
def same(a, b): return all(torch.equal(x, y) for x,y in zip(a.model.state_dict().values(), b.model.state_dict().values()))

# --- the place

@pytest.mark.parametrize('arch,above', [(lite0,.302), ('resnet34',.444), ('mobilenet_v2',.398)])
def test_place(arch, above):
    model,x = poster_model(arch, 3, None, size=64, linear=True)[0],torch.rand(2, 3, 64, 64)
    cut = find_cut(model, 'auto', x)
    n = lambda ms: sum(p.numel() for m in ms for p in m.parameters())
    assert n(cut.below)+n(cut.above)==n([model]) and n(cut.above[:-len(model[1])])/n([model[0]])==pytest.approx(above, abs=.01)
    model.eval()
    with torch.no_grad():
        whole,maps = model(x),cut.lower(x)
        with cut.on_maps(): assert torch.allclose(model(maps), whole, atol=1e-4)
    assert not any('forward' in m.__dict__ for m in model.modules())

def test_no_place():
    model,x = poster_model('vit_tiny_patch16_224', 3, None, size=224)[0],torch.rand(1, 3, 224, 224)
    with pytest.raises(GenreError, match='no chain of stages.*--recipe finetune'): find_cut(model, 'auto', x)
    model = poster_model('resnet18', 3, None, size=64)[0]
    with pytest.raises(GenreError, match="no layer 'layer3'.*6.1"): find_cut(model, 'layer3', torch.rand(1, 3, 64, 64))

# --- the recipe

@pytest.fixture(scope='module')
def whole(cat): return fit(cat)

def test_only_the_top_learns(cat, whole):
    solved,cut = fit(cat, 'probe', epochs=0, label_smoothing=.1), whole.find_cut('auto')
    before,after = solved.model.state_dict(), whole.model.state_dict()
    below = {k for k in before if k.startswith('0.') and int((k.split('.')+['','','0'])[3] if 'blocks' in k else 6 if 'head' in k or 'bn2' in k else 0)<6}
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert cut.name=='blocks.5.3'==whole.run_info.settings['cut'] and moved and not moved & below
    assert [h['frozen'] for h in whole.run_info.history]==[False]*2
    assert type(whole.dls.train).__name__=='PosterDL' and len(whole.predictions(cat.where(split='test')))
    valid = dict(whole.run_info.valid)
    assert len(valid.pop('confusion'))==3 and valid==whole.predictions(cat.where(split='valid')).scores()

def test_same_seed_same_figures(cat, whole):
    assert figures(fit(cat))==figures(whole) and figures(fit(cat, seed=1))!=figures(whole)

def test_each_epoch_takes_another_copy(cat):
    learn,seen = poster_learner(get_dls(cat, bs=8, seed=1, size=48), lite0, linear=True, precision='fp32'), []
    class Look(Callback):
        def before_batch(self):
            if self.training and not self.iter: seen.append(self.x.mean().item())
    def run(copies):
        seen.clear()
        learn.dls.train.get_idxs = lambda: list(range(len(learn.dls.train_ds)))
        with learn.no_bar(), learn.no_logging(), learn.cached_body(cut='auto', copies=copies): learn.fit(3, 1e-5, cbs=Look())
        return len({round(o, 7) for o in seen}), seen[0]==seen[-1]
    assert run(0)==(1,True) and run(2)==(2,True) and run(3)==(3,False)

class Stop(Callback):
    def __init__(self, epoch): self.at = epoch
    def before_epoch(self):
        if self.learn.epoch==self.at: raise KeyboardInterrupt

def test_a_stopped_run_goes_on(cat, tmp_path):
    kw = dict(copies=2,  keep_best='valid_loss')
    with pytest.raises(KeyboardInterrupt): fit(cat, out=tmp_path, cbs=type('Named', (Stop,), {})(1), **kw)
    assert {o.name for o in tmp_path.iterdir()}=={'checkpoint.pth'} # the maps are gone
    class Named(Callback): pass # callbacks are known by their names
    on,at_once = fit(cat, out=tmp_path, resume=True, cbs=Named(), **kw), fit(cat, **kw, cbs=Named())
    assert figures(on)==figures(at_once) and same(on, at_once)

def test_an_interrupt_leaves_a_usable_learner(cat):
    learn = poster_learner(dls := get_dls(cat, bs=8, seed=1, size=48), lite0, linear=True)
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(KeyboardInterrupt), learn.cached_body(cut='auto'): learn.fit(1, cbs=Stop(0))
    assert learn.dls is dls and not any('forward' in m.__dict__ for m in learn.model.modules())
    assert len(learn.predictions(cat.where(split='test')))==len(cat.where(split='test'))

def test_several_labels_and_full_width(cat):
    many = cat.new(cat.df.drop(columns='label').assign(labels=cat.df['label']+'|film'))
    learn = fit(many, precision='fp32', epochs=1, copies=0)
    assert 'f1' in learn.run_info.valid and len(learn.run_info.history)==1

@pytest.mark.skipif(not has_bf16(torch.device('cpu')), reason='no bf16 here')
def test_narrow_and_wide_agree(cat, whole):
    assert np.abs(fit(cat, precision='fp32').predictions(cat).probs-whole.predictions(cat).probs).mean()<.05

# --- what `auto` does

def test_auto_on_a_cpu(cat):
    auto = lambda **kw: fit(cat, 'auto', epochs=1, **kw).run_info
    run = auto()
    assert 'above the layer blocks.5.3' in run.kept and run.settings['kept'] in ('probe','finetune_top')
    assert 'whole network' in auto(mixup=.2).kept # needs the images in every epoch

# --- what cannot be

def test_refused(cat, tmp_path):
    for kw,says in ((dict(mixup=.4), 'blends images'), (dict(cbs=MixUp()), 'blends images'), (dict(cut=3), '`cut`'), (dict(copies=-1), '`copies`')):
        with pytest.raises(GenreError, match=says): recipe_settings('finetune_top', **kw)
    (tmp_path/'file').write_text('')
    learn = poster_learner(get_dls(cat, bs=8, size=48), lite0, linear=True)
    for kw,says in ((dict(folder=tmp_path/'file'), 'cannot be kept'), (dict(max_gb=1e-6), 'more than max_gb'), (dict(cut='stem'), 'blocks.0.0')):
        with learn.no_bar(), pytest.raises(GenreError, match=says), learn.cached_body(**{**dict(cut='auto'), **kw}): pass

def test_a_full_disk_is_said(monkeypatch):
    maps,x = MapFile(n=4),torch.rand(4, 8, 2, 2)
    monkeypatch.setattr(top.shutil, 'disk_usage', lambda f: type('', (), dict(free=100)))
    with pytest.raises(GenreError, match='100|0 MB are free'): maps.add(x)
    monkeypatch.undo()
    class Full:
        def write(self, b): raise OSError(28, 'No space left on device')
        def close(self): pass
    maps = MapFile(n=4)
    maps.f = Full()
    with pytest.raises(GenreError, match='No space left on device.*--recipe finetune'): maps.add(x)
