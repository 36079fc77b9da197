"The learner on drawn posters: parameters counted, same seed same figures, runs that are stopped, killed and continued"
import json, signal, subprocess, sys
import numpy as np, pytest, timm, torch, torchvision
from fastai.vision.all import Callback, LabelSmoothingCrossEntropyFlat, MixUp, Normalize, risinstance, store_attr
from torch import nn
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError
from genre_fastai.vision.data import get_dls
from genre_fastai.deploy.folder import load_predictor, model_config, save_predictor
from genre_fastai.train.learner import poster_learner
from genre_fastai.train.recipes import train
from genre_fastai.sample.dataset import make_sample
from genre_fastai.vision.precision import has_bf16
from genre_fastai.vision.weights import lite0

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    cat = make_sample(tmp_path_factory.mktemp('sample'), n=60, seed=1).where(kind='clean')
    cat = cat.assign(split=[['train','train','valid','test'][i%4] for i in range(len(cat))])
    cat.save(cat.path/'catalog.csv')
    return cat

@pytest.fixture(scope='module')
def dls(cat): return get_dls(cat, bs=8, seed=1, size=64)

def fit(cat, **kwargs):
    kw = dict(recipe='stages', arch=lite0, freeze_epochs=1, epochs=1, size=64, bs=8, precision='fp32')
    if kwargs.get('recipe', 'stages')!='stages': kw.pop('freeze_epochs')
    return train(cat, **{**kw, **kwargs})

def figures(learn): return [{k:v for k,v in h.items() if k!='time'} for h in learn.run_info.history]
def same_weights(a, b): return all(torch.equal(x, y) for x,y in zip(a.model.state_dict().values(), b.model.state_dict().values()))

# --- parameters, counted from the networks themselves and not by our own code

norms = nn.modules.batchnorm._BatchNorm
def count(o): return sum(p.numel() for p in o.parameters())
def head_size(nf, n): return 2*2*nf + 2*nf*512 + 2*512 + 512*n # batch norm, linear without bias, batch norm, linear without bias
def n_norm(m): return sum(count(o) for o in m.modules() if isinstance(o, norms))

# all parameters as their authors publish them, those of the classifier, the features that it reads, and the mean of their pixels
published = dict(resnet18=(11_689_512, 513_000, 512, .485), resnet34=(21_797_672, 513_000, 512, .485), resnet50=(25_557_032, 2_049_000, 2048, .485),
                 vgg16=(138_357_544, 123_642_856, 512, .485), mobilenet_v2=(3_504_872, 1_281_000, 1280, .485), tf_efficientnet_lite0=(4_652_008, 1_281_000, 1280, .5))

def red(dls):
    "The mean that the one normalisation of these loaders takes off the red channel"
    norm = dls.after_batch.fs.filter(risinstance(Normalize))
    assert len(norm)==1
    return pytest.approx(norm[0].mean.flatten()[0].item())

@pytest.mark.parametrize('arch', published)
def test_trainable_parameters(dls, arch):
    total,classifier,nf,mean = published[arch]
    with torch.device('meta'): plain = timm.create_model(arch) if arch==lite0 else getattr(torchvision.models, arch)(weights=None)
    assert count(plain)==total
    learn = poster_learner(dls, arch, weights=None)
    assert mean==red(dls)
    learn.freeze()
    head = head_size(nf, 3)
    assert learn.n_trainable()==head+n_norm(plain) # the batch norms of a frozen body go on learning
    learn.unfreeze()
    assert learn.n_trainable()==total-classifier+head
    groups = [sum(p.numel() for p in g) for g in learn.opt.param_lists]
    assert sum(groups)==total-classifier+head and groups[-1]==head and len(groups)==(3 if arch.startswith('resnet') else 2)

def test_trainable_parameters_of_poster_cnn(dls):
    learn = poster_learner(dls, 'PosterCNN')
    assert red(dls)==0
    body,head = 448+4640+18496, (64*6*6+1)*1024 + 1025*3 # 64 pixels become 6
    assert learn.n_trainable()==body+head
    learn.freeze()
    assert learn.n_trainable()==head

# --- same seed, same figures

@pytest.mark.parametrize('workers', [0, 2])
def test_same_seed_same_figures(cat, workers):
    a,b = (fit(cat, arch='PosterCNN' if workers else lite0, seed=5, num_workers=workers, mixup=.2, label_smoothing=.1, balance=True) for _ in range(2))
    assert figures(a)==figures(b) and same_weights(a, b)
    assert a.run_info.settings['label_smoothing']==.1 and a.run_info.settings['callbacks']=='MixUp'

# --- interrupted

class Stop(Callback):
    "Stand in for the stop button: raise in one batch, inside the forward pass's precision if there is one"
    order = -5
    def __init__(self, e, epoch, batch=1, training=True): store_attr()
    def after_pred(self):
        if self.learn.training==self.training and (self.learn.epoch,self.iter)==(self.epoch,self.batch) and not hasattr(self, 'gather_preds'): raise self.e

no_bf16 = pytest.mark.skipif(not has_bf16(), reason='this processor has no bfloat16, and would emulate it')

@pytest.mark.parametrize('precision,training', [pytest.param('bf16', True, marks=no_bf16), ('fp32',True), ('fp32',False)])
def test_interrupt_leaves_a_usable_learner(cat, capsys, precision, training):
    "The stop comes before the callback that would leave the precision has run"
    dls = get_dls(cat, bs=8, seed=1, size=64)
    learn = poster_learner(dls, lite0, precision=precision, loss_func=LabelSmoothingCrossEntropyFlat())
    loss,cbs = learn.loss_func,len(learn.cbs)
    with pytest.raises(KeyboardInterrupt): learn.fit_stages(3, 1, cbs=[MixUp(), Stop(KeyboardInterrupt(), 1, 0, training)])
    assert 'Stopped in epoch 1 of 3' in capsys.readouterr().out
    assert len(learn.run_info.history)==1 and learn.loss_func is loss and len(learn.cbs)==cbs and not learn.model.training
    assert not torch.is_autocast_enabled('cpu')
    assert torch.rand(2,2).mm(torch.rand(2,2)).dtype==torch.float32
    assert all(p.grad is None or not p.grad.any() for p in learn.model.parameters())
    assert all(0 < h['lr'] < 1 and 0 < h['mom'] < 1 for h in learn.opt.hypers)
    probs = learn.predictions(cat.where(split='test')).probs
    assert np.allclose(probs.sum(1), 1, atol=1e-4)
    learn.fit_stages(1, 1)
    assert [h['frozen'] for h in learn.run_info.history]==[True,True,False]
    assert len(learn.plot_history().axes)==2

def test_interrupted_search_for_a_rate_changes_nothing(dls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn = poster_learner(dls, lite0)
    before = {k:v.clone() for k,v in learn.model.state_dict().items()}
    learn.add_cb(Stop(KeyboardInterrupt(), 2, 1)) # after five steps
    with pytest.raises(KeyboardInterrupt): learn.find_lr()
    assert all(torch.equal(v, before[k]) for k,v in learn.model.state_dict().items())
    assert not list(tmp_path.iterdir())

def test_a_rate_is_found(cat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn = fit(cat, arch='PosterCNN', freeze_epochs=0, base_lr='find', out=tmp_path/'run')
    assert 0 < learn.recorder.lrs[0] < 10 and [p.name for p in tmp_path.iterdir()]==['run']

# --- out of memory

@pytest.mark.parametrize('error', [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError('[enforce fail at alloc_cpu.cpp:98] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.'),
    torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), RuntimeError('MPS backend out of memory'), MemoryError('Unable to allocate 9 GiB')])
def test_out_of_memory_says_which_batch_size(dls, error):
    learn = poster_learner(dls, 'PosterCNN')
    with pytest.raises(GenreError, match='A batch of 8 does not fit.*`bs=4`') as e: learn.fit_stages(0, 1, cbs=Stop(error, 0))
    assert e.value.__context__ is None # nothing holds the tensors of the batch
    learn.fit_stages(0, 1)

def test_memory_that_is_really_refused(dls):
    "The allocator's own message, not one that we wrote"
    class Greedy(Callback):
        def after_pred(self): torch.empty(1<<50, dtype=torch.uint8, device=self.dls.device)
    with pytest.raises(GenreError, match='does not fit into the memory'): poster_learner(dls, 'PosterCNN').fit_stages(0, 1, cbs=Greedy())

# --- killed

script = '''
import os, signal, sys
from genre_fastai.all import *
class Kill(Callback):
    order = 90 # after the checkpoint
    def after_epoch(self):
        if len(self.learn.run_info.history)==int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)
train(read_catalog(sys.argv[1]), 'stages', arch='tf_efficientnet_lite0', freeze_epochs=1, epochs=3, size=64, bs=8, precision='fp32', mixup=.2,
    patience=3, keep_best='accuracy', out=sys.argv[2], cbs=Kill())
'''

class Kill(Callback):
    "Stands for the script's, because a recipe names its callbacks; counts epochs"
    epochs,stop = 0,None
    def before_epoch(self):
        if len(self.learn.run_info.history)==Kill.stop: raise KeyboardInterrupt
        Kill.epochs += 1

kill_recipe = dict(freeze_epochs=1, epochs=3, mixup=.2, patience=3, keep_best='accuracy')

@pytest.fixture(scope='module')
def whole(cat): return fit(cat, **kill_recipe, cbs=Kill())

def goes_on(cat, out, whole, after):
    "The run in `out` ends as the whole one does, and trains no epoch twice"
    torch.rand(7) # the process that goes on has another past
    Kill.epochs,Kill.stop = 0,None
    on = fit(cat, **kill_recipe, out=out, resume=True, cbs=Kill())
    assert Kill.epochs==4-after
    assert figures(on)==figures(whole) and len(on.run_info.history)==4
    assert same_weights(on, whole)
    assert on.run_info.seconds>0 and [p.name for p in out.iterdir()]==['checkpoint.pth']

def test_killed_run_goes_on(cat, whole, tmp_path):
    "In the middle of the unfrozen stage"
    (tmp_path/'run.py').write_text(script)
    done = subprocess.run([sys.executable, tmp_path/'run.py', cat.path/'catalog.csv', tmp_path/'run', '2'], capture_output=True, text=True)
    assert done.returncode==-signal.SIGKILL, done.stderr
    goes_on(cat, tmp_path/'run', whole, 2)

def test_run_stopped_between_the_stages_goes_on(cat, whole, tmp_path):
    Kill.stop = 1
    with pytest.raises(KeyboardInterrupt): fit(cat, **kill_recipe, out=tmp_path, cbs=Kill())
    goes_on(cat, tmp_path, whole, 1)

def test_resume_refuses_another_run(cat, tmp_path):
    fit(cat, out=tmp_path, epochs=0)
    kw = dict(out=tmp_path, resume=True, epochs=0)
    assert len(fit(cat, **kw).run_info.history)==1
    for other,words in ((dict(base_lr=.01), 'base_lr is 0.01 here and 0.003 there'), (dict(arch='PosterCNN'), 'arch is PosterCNN here'), (dict(seed=7), 'seed is 7 here'), (dict(mixup=.3), 'mixup is 0.3')):
        with pytest.raises(GenreError, match=words): fit(cat, **{**kw, **other})
    relabelled = cat.assign(label=cat.df['label'].tolist()[1:]+['horror'])
    with pytest.raises(GenreError, match='catalog is'): fit(relabelled, **kw)
    (tmp_path/'checkpoint.pth').write_bytes((tmp_path/'checkpoint.pth').read_bytes()[:1000])
    with pytest.raises(GenreError, match='cannot be read as a checkpoint'): fit(cat, **kw)
    with pytest.raises(GenreError, match='`out`'): fit(cat, resume=True)

def test_a_full_disk_is_said(cat, tmp_path, monkeypatch):
    def full(*args, **kw): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(GenreError, match='could not be written.*No space left'): fit(cat, arch='PosterCNN', freeze_epochs=0, out=tmp_path)

# --- the config and the card

def test_config_tells_the_run(cat, tmp_path):
    learn = fit(cat, seed=3, epochs=0)
    config = json.loads((save_predictor(learn, tmp_path)/'config.json').read_text())
    assert config['catalog']==cat.hash and config['arch']==lite0 and config['weights'].startswith('efficientnet-lite0')
    assert config['recipe']=='stages' and config['settings']['seed']==3 and config['settings']['freeze_epochs']==1 and config['seconds']>0
    assert {'python','torch','fastai','genre_fastai'} <= set(config['versions'])
    v = config['valid']
    assert v['n']==len(cat.where(split='valid')) and v['low']<=v['accuracy']<=v['high'] and 0<v['baseline']<1
    assert abs(v['accuracy']-learn.run_info.history[-1]['accuracy'])<1e-4
    card = (tmp_path/'README.md').read_text()
    assert cat.hash in card and str(v['accuracy']) in card and all(c in card for c in cat.classes)

def test_saving_does_not_predict(cat, tmp_path, monkeypatch):
    learn = fit(cat, recipe='probe', epochs=0)
    def asked(*args, **kw): raise AssertionError('the model was asked while it was saved')
    monkeypatch.setattr(type(learn), 'get_preds', asked)
    monkeypatch.setattr(type(learn.model), 'forward', asked)
    assert json.loads((save_predictor(learn, tmp_path)/'config.json').read_text())['valid']==learn.run_info.valid

def same_probs(learn, path, test):
    return np.allclose(load_predictor(save_predictor(learn, path)).predictions(test).probs, learn.predictions(test).probs, atol=1e-4)

@pytest.mark.parametrize('arch', ['PosterCNN', 'resnet18'])
def test_saved_models_say_the_same(cat, tmp_path, arch):
    assert same_probs(fit(cat, arch=arch, weights=None, freeze_epochs=0), tmp_path, cat.where(split='test'))

def test_a_solved_head_is_saved_too(cat, tmp_path):
    learn = fit(cat, recipe='probe', epochs=0)
    assert len(learn.model[1])==5 and learn.run_info.linear
    assert same_probs(learn, tmp_path, cat.where(split='test'))

def test_a_config_of_another_network_is_said(cat, tmp_path):
    learn = fit(cat, recipe='probe', epochs=0)
    config = json.loads((save_predictor(learn, tmp_path)/'config.json').read_text())
    for odd,says in ((dict(linear=False), 'not the network that its config describes'), (dict(linear=[10**9]), '`linear` is')):
        (tmp_path/'config.json').write_text(json.dumps(config | odd))
        with pytest.raises(GenreError, match=says): load_predictor(tmp_path)

# --- several labels

def test_several_labels(cat):
    multi = Catalog(cat.df.drop(columns='label').assign(labels=[l+('|film' if i%3 else '') for i,l in enumerate(cat.df['label'])]), cat.path)
    learn = fit(multi, recipe='finetune', epochs=1)
    assert 0<=learn.run_info.history[-1]['f1']<=1 and {'f1','auc','hamming_baseline'} <= set(model_config(learn)['valid'])
    learn = fit(multi, balance=True, epochs=0, mixup=.2)
    n,k = len(multi.where(split='train')),sum('film' in t for t in multi.where(split='train').targets)
    assert learn.loss_func.func.pos_weight[list(learn.dls.vocab).index('film')].item()==pytest.approx((n-k)/k)
    with pytest.raises(GenreError, match='Label smoothing is for one label'): fit(multi, label_smoothing=.1)

def test_the_default_recipe_takes_several_labels(cat, capsys):
    multi = Catalog(cat.df.drop(columns='label').assign(labels=cat.df['label']), cat.path)
    learn = fit(multi, recipe='auto', epochs=1)
    assert 'F1' in learn.run_info.kept and learn.run_info.settings['kept'] in ('probe','finetune','finetune_top')
