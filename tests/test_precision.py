"Precision and the frozen stage on cached features, with the real networks; bfloat16 only where the device does not emulate it"
import contextlib, io
import pytest, torch
from fastai.vision.all import Callback, MixUp, nn, np, set_seed
import genre_fastai.train.head, genre_fastai.train.recipes # they give a Learner `fit_head` and `fit_stages`
from genre_fastai.core import GenreError
from genre_fastai.sample.dataset import make_sample
from genre_fastai.train.learner import poster_learner
from genre_fastai.vision.data import get_dls
from genre_fastai.vision.precision import choose_precision, has_bf16
from genre_fastai.vision.weights import lite0

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    cat = make_sample(tmp_path_factory.mktemp('posters'), n=80, seed=1).where(kind='clean')
    return cat.assign(split=['valid' if i%3==2 else 'train' for i in range(len(cat))])

def make(cat, precision='fp32', arch=lite0, weights='auto', **kwargs):
    set_seed(3, reproducible=True)
    return poster_learner(get_dls(cat, bs=8, seed=1, size=64, batch_tfms=[]), arch, weights, precision=precision, **kwargs)

def quiet(learn, f):
    with learn.no_bar(), learn.no_logging(): return f()

needs_bf16 = pytest.mark.skipif(not has_bf16(), reason='this device has no bfloat16, and would emulate it')

@needs_bf16
@pytest.mark.parametrize('arch,weights', [(lite0,'auto'), ('resnet18',None)])
def test_probabilities_do_not_depend_on_the_precision(cat, arch, weights):
    learn = make(cat, 'bf16', arch, weights)
    quiet(learn, lambda: learn.fit_one_cycle(2, 3e-3))
    def probs(): return quiet(learn, lambda: learn.get_preds()[0])
    ours,learn.autocast.predict = probs(),True
    narrow,wide = probs(),learn.to_fp32() and probs()
    assert narrow.dtype==torch.float32
    assert (ours-wide).abs().max() < 1e-4
    assert (narrow-wide).abs().mean() < .05

@needs_bf16
@pytest.mark.parametrize('predict', [False, True])
def test_what_is_narrow(cat, predict):
    learn,seen = make(cat, 'bf16'),[]
    learn.to_precision('bf16', predict=predict)
    conv = next(m for m in learn.model.modules() if isinstance(m, nn.Conv2d))
    h = conv.register_forward_hook(lambda m,i,o: seen.append((m.training,o.dtype)))
    calls = [lambda: learn.validate(), lambda: learn.get_preds(), lambda: learn.tta(n=1), lambda: learn.fit(1), learn.find_lr]
    for f in calls[:-1] if predict else calls:
        seen.clear()
        quiet(learn, f)
        assert all((t==torch.bfloat16)==(training or predict) for training,t in seen) and seen
    h.remove()
    assert 'forward' not in learn.model.__dict__ and not torch.is_autocast_enabled('cpu')

@pytest.mark.parametrize('variable', ['ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'])
def test_a_cpu_that_is_held_to_older_instructions(monkeypatch, variable):
    cpu = torch.device('cpu')
    for name in ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(avx512_bf16=True), raising=False)
    assert choose_precision(device=cpu)[0]=='bf16'
    monkeypatch.setenv(variable, 'avx2')
    assert choose_precision(device=cpu)==('fp32', 'this cpu device does not report bfloat16')

class FixedBody(Callback):
    def before_train(self): self.model[0].eval()

def multi(cat): return cat.new(cat.df.drop(columns='label').assign(labels=cat.df['label']+'|film'))

@pytest.mark.parametrize('several', [False, True])
def test_cached_features_give_what_the_slow_way_gives(cat, several):
    cat,values = multi(cat) if several else cat, []
    for fast in (True, False):
        learn = make(cat, ps=0.)
        before = {k:v.clone() for k,v in learn.model[0].state_dict().items()}
        if fast: quiet(learn, lambda: learn.fit_head(3, 3e-3))
        else:
            learn.train_bn = False
            learn.create_opt()
            learn.freeze()
            quiet(learn, lambda: learn.fit_one_cycle(3, 3e-3, cbs=FixedBody()))
        after = learn.model[0].state_dict()
        assert all(torch.equal(v, after[k]) for k,v in before.items())
        values.append([h[k] for h in learn.run_info.history for k in ('train_loss','valid_loss')])
        assert [h['frozen'] for h in learn.run_info.history]==[True]*3
    assert np.allclose(*values, rtol=2e-3)

def test_learner_goes_on_after_cached_features(cat):
    learn = make(cat, 'auto')
    quiet(learn, lambda: learn.fit_stages(2, 0, base_lr='find', cache_features=True, keep_best='valid_loss').fit_stages(0, 1))
    assert [h['frozen'] for h in learn.run_info.history]==[True,True,False]
    assert learn.dls.train.__class__.__name__=='PosterDL' and 'forward' not in learn.model.__dict__
    with pytest.raises(GenreError, match='blends images'): quiet(learn, lambda: learn.fit_head(1, cbs=MixUp()))

@pytest.mark.parametrize('precision', ['fp32', pytest.param('bf16', marks=needs_bf16)])
def test_interrupted_head(cat, precision):
    class Stop(Callback):
        def after_pred(self):
            if self.training: raise KeyboardInterrupt
    learn = make(cat, precision)
    dls = learn.dls
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(KeyboardInterrupt): quiet(learn, lambda: learn.fit_head(1, cbs=Stop()))
    assert learn.dls is dls and 'forward' not in learn.model.__dict__
    quiet(learn, lambda: learn.fit(1))

@pytest.mark.parametrize('arch', ['resnet18','vgg16','mobilenet_v2'])
def test_every_family_has_cached_features(cat, arch):
    learn = make(cat, 'fp32', arch, None)
    quiet(learn, lambda: learn.fit_head(1, 1e-3))
    assert len(learn.run_info.history)==1

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_on_a_gpu(cat):
    learn = make(cat, 'auto')
    assert choose_precision(device=learn.dls.device)[0]=='bf16' if has_bf16() else 'fp16'
    quiet(learn, lambda: learn.fit_stages(1, 1, cache_features=True))
    assert quiet(learn, lambda: learn.get_preds()[0]).dtype==torch.float32
