"Precision, blocks of a batch, networks made quick, and the frozen stage on cached features, with the real networks; bfloat16 only where the device does not emulate it"
import contextlib, io
import pytest, torch
from fastai.vision.all import BCEWithLogitsLossFlat, Callback, CrossEntropyLossFlat, GradientAccumulation, GradientClip, LabelSmoothingCrossEntropyFlat, MixUp, SGD, nn, np, set_seed
import genre_fastai.train.head, genre_fastai.train.recipes # they give a Learner `fit_head` and `fit_stages`
from genre_fastai.core import GenreError
from genre_fastai.sample.dataset import make_sample
from genre_fastai.train.learner import poster_learner
from genre_fastai.vision.data import get_dls
from genre_fastai.features import extract
from genre_fastai.train.callbacks import FreezeBNStats
from genre_fastai.vision import inference, precision
from genre_fastai.vision.models import poster_model
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

@pytest.mark.parametrize('caps,isa,why', [('avx2', '', ''), ('avx2 avx512_f avx512_bw avx512_vnni', '', ''), ('avx512_f avx512_bf16', '', 'avx512_bf16'), ('amx_bf16', '', 'amx_bf16'),
    ('avx512_bf16 amx_bf16', 'AVX512_CORE_BF16', 'amx_bf16 and avx512_bf16'), ('avx512_bf16', 'AVX512_CORE', ''), ('avx512_bf16', 'avx2', ''), ('neon', '', ''), ('neon bf16', '', 'bf16')])
@pytest.mark.parametrize('old_torch', [False, True])
def test_bf16_only_where_the_processor_has_it(monkeypatch, tmp_path, caps, isa, why, old_torch):
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', isa)
    monkeypatch.setenv('DNNL_MAX_CPU_ISA', '')
    if old_torch: # it cannot list instructions, and Linux is asked
        (tmp_path/'cpuinfo').write_text(f'processor : 0\nmodel name : x\nflags : fpu {caps}\n\nprocessor : 1\nflags : fpu\n')
        monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
        monkeypatch.setattr(precision._listed, '__defaults__', (tmp_path/'cpuinfo',))
    else: monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict.fromkeys(caps.split(), True) | dict(avx512_bf16='avx512_bf16' in caps), raising=False)
    kind,said = choose_precision(device=torch.device('cpu'))
    assert (kind=='bf16', why in said)==(bool(why), True)

def test_bf16_is_emulated_without_onednn(monkeypatch):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: dict(avx512_bf16=True, bf16=True), raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert choose_precision(device=torch.device('cpu'))[0]=='fp32'

# --- a batch in parts

tiny_net = 'test_efficientnet'

class Rows(Callback):
    "How many posters the body is given at once"
    def before_fit(self):
        self.seen,body = set(),self.model[0].model
        self.had,body.forward_features = body.forward_features,lambda x: (self.seen.add((self.learn.training, len(x))), type(body).forward_features(body, x))[1]
    def after_fit(self): del self.model[0].model.forward_features

weights = torch.tensor([.5,1.,3.])
losses = dict(plain=dict(), smooth=dict(loss=lambda: LabelSmoothingCrossEntropyFlat(eps=.2, weight=weights)), weighted=dict(loss=lambda: CrossEntropyLossFlat(weight=weights)), mixup=dict(cbs=lambda: [MixUp(.4)]),
    accumulated=dict(cbs=lambda: [GradientAccumulation(16)]), clipped=dict(cbs=lambda: [GradientClip(.1)]), several=dict(loss=BCEWithLogitsLossFlat))

def steps(cat, rows, monkeypatch, loss=None, cbs=list, freeze_bn=True):
    monkeypatch.setattr(inference, 'block_rows', lambda x: rows or len(x))
    learn = make(cat, arch=tiny_net, weights=None, opt_func=SGD, loss_func=loss and loss(), cbs=[Rows()], **(dict(linear=True) if freeze_bn is None else {}))
    if freeze_bn is not False: learn.add_cb(FreezeBNStats(head=freeze_bn is None))
    quiet(learn, lambda: (learn.fit(1, 3e-4, cbs=cbs()), learn.fit_one_cycle(1, 3e-4, cbs=cbs())))
    return learn, torch.cat([o.flatten() for o in learn.model.state_dict().values()]), [list(h.values())[1:4] for h in learn.run_info.history]

@pytest.mark.parametrize('kind', losses)
def test_a_batch_in_parts_is_the_batch(cat, monkeypatch, kind):
    "Weights, losses and metrics after two fits, with dropout, and with batch norms in the head that learn"
    cat,how = multi(cat) if kind=='several' else cat, losses[kind]
    (a,whole,told),(b,parts,said) = (steps(cat, rows, monkeypatch, **how) for rows in (None, 3))
    near = 1e-3 if kind=='smooth' else 1e-5 # with these weights a maximum of two near values is another one, with some versions of Pillow
    assert torch.allclose(parts, whole, rtol=near, atol=near) and np.allclose(said, told, atol=near)
    assert np.allclose(a.recorder.losses, b.recorder.losses, atol=near)
    assert {n for t,n in a.rows.seen if t}=={8} and {n for _,n in b.rows.seen} <= {1,2,3}

def test_a_batch_stays_whole_where_norms_learn(cat, monkeypatch):
    learn,*_ = steps(cat, 3, monkeypatch, freeze_bn=False)
    assert {n for t,n in learn.rows.seen if t}=={8} and max(n for t,n in learn.rows.seen if not t)<=3 # validation is cut

def test_a_rate_is_found_in_parts(cat, monkeypatch):
    found = []
    for rows in (None, 3):
        monkeypatch.setattr(inference, 'block_rows', lambda x: rows or len(x))
        learn = make(cat, arch=tiny_net, weights=None, cbs=FreezeBNStats())
        quiet(learn, learn.find_lr)
        found.append(learn.recorder.losses)
    assert np.allclose(*[o[:20] for o in found], atol=1e-4) # the last ones diverge

# --- quick networks

@pytest.mark.parametrize('arch', ['resnet18', 'vgg11_bn', 'mobilenet_v2', 'tf_efficientnet_lite0', 'PosterCNN', 'test_convnext', 'test_vit'])
def test_a_quick_network_says_the_same(arch):
    size = (160,160) if arch=='test_vit' else (96,64)
    torch.manual_seed(1)
    net = poster_model(arch, 3, None, size)[0].eval()
    for m in net[0].modules():
        if isinstance(m, nn.BatchNorm2d):
            for t in (m.running_mean, m.weight, m.bias): nn.init.normal_(t, .5, .2)
    x = torch.rand(9, 3, *size)
    quick = inference.InferenceModel(net)
    with torch.no_grad(): assert (quick(x).softmax(1)-net(x).softmax(1)).abs().max() < 1e-5
    assert not any(isinstance(m, nn.BatchNorm2d) for m in quick.made[1].modules()) and quick.made[1] is not net

@pytest.mark.parametrize('pool', ['stages', 'avgmax', 'flat'])
@pytest.mark.parametrize('arch', ['resnet18', 'tf_efficientnet_lite0'])
def test_features_of_every_stage_stay(arch, pool):
    from genre_fastai.vision.weights import load_pretrained
    torch.manual_seed(1)
    net = load_pretrained(arch, None)
    for m in net.model.modules():
        if isinstance(m, nn.BatchNorm2d): nn.init.normal_(m.running_mean)
    quick,x = extract.pooled_body(net, pool), torch.rand(5,3,64,64)
    with torch.no_grad(): want = quick.f(x)
    got = quick(x)
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-5*float(want.abs().max())) and quick.made[1] is not quick.f

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
