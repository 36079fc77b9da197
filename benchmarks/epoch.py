"""What of a training's time is not forward and backward: `python benchmarks/epoch.py [--posters CSV] [--n 1000] [--epochs 6] [--precision fp32]`

Fine-tunes by the recipe `finetune` on `--n` posters with cached pixels, on one thread, and counts processor time: of the forward passes (of validation
rows, too) and the backward passes, of the optimizer, of getting augmented batches, and of the whole process, so that threads that work ahead are
counted. What remains are callbacks, metrics, progress bars and copies of weights. Drawn posters, or those of a csv. Filling the cache and solving the
head are not part of it: they happen once."""
import os
os.environ['OMP_NUM_THREADS'] = '1'
import argparse, contextlib, functools, io, tempfile, time, warnings
from collections import Counter
from pathlib import Path

spent,active = Counter(), set()

def timed(name, f):
    "`f`, with its processor time in this thread added to `spent`"
    @functools.wraps(f)
    def g(*args, **kwargs):
        if name in active: return f(*args, **kwargs) # it calls itself
        active.add(name)
        start = time.thread_time()
        try: return f(*args, **kwargs)
        finally:
            spent[name] += time.thread_time()-start
            active.remove(name)
    return g

def timed_iter(f):
    "A generator function each of whose steps is timed"
    def g(*args):
        step = timed('batches', functools.partial(next, f(*args), g))
        while (o := step()) is not g: yield o
    return g

def watch(model):
    "Have the parts of a training timed"
    import torch
    from fastai.optimizer import Optimizer
    from genre_fastai.vision.data import PosterDL
    torch.Tensor.backward = timed('backward', torch.Tensor.backward)
    for cls in (Optimizer, *Optimizer.__subclasses__()):
        for k in {'step','zero_grad'} & set(vars(cls)): setattr(cls, k, timed('optimizer', vars(cls)[k]))
    PosterDL.__iter__ = timed_iter(PosterDL.__iter__)
    start = []
    model.register_forward_pre_hook(lambda *args: start.append(time.thread_time()))
    model.register_forward_hook(lambda *args: spent.update(forward=time.thread_time()-start.pop()))

def catalog(posters, n, tmp):
    "Posters of a csv, or drawn ones, four of five to train with"
    from genre_fastai.catalog.core import read_catalog
    from genre_fastai.sample.dataset import make_sample
    cat = read_catalog(posters) if posters else make_sample(Path(tmp)/'sample', n=round(n*1.6), seed=1).where(kind=['clean','wrong_label'])
    cat = cat.new(cat.ok.df.sample(min(n, len(cat.ok)), random_state=1))
    return cat.assign(split=['valid' if i%5==0 else 'train' for i in range(len(cat))])

def fit(cat, a, tmp):
    "Fine-tune, and count: seconds of the whole process"
    from fastai.vision.all import set_seed
    from genre_fastai.train.learner import poster_learner, poster_loss
    from genre_fastai.vision.data import get_dls
    import genre_fastai.train.recipes # and with it every way to train
    set_seed(1)
    dls = get_dls(cat, bs=a.bs, seed=1, cache_pixels=Path(tmp)/'pixels')
    learn = poster_learner(dls, a.arch, loss_func=poster_loss(dls, .1), linear=True, precision=a.precision).fit_probe()
    watch(learn.model)
    start = time.process_time()
    learn.fit_stages(0, a.epochs, lr=5e-5, lr_mult=1., keep_best='accuracy')
    return time.process_time()-start

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--posters', help='csv of a catalog of real posters; drawn ones if not given')
    p.add_argument('--n', type=int, default=1000)
    p.add_argument('--epochs', type=int, default=6)
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--precision', default='auto')
    p.add_argument('--bs', type=int, default=32)
    p.add_argument('--tmp', help='a folder for the cache; one that goes when it is done if not given')
    a = p.parse_args()
    warnings.simplefilter('ignore')
    import torch
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=a.tmp) as tmp, contextlib.redirect_stdout(io.StringIO()):
        cat = catalog(a.posters, a.n, tmp)
        total = fit(cat, a, tmp)
    n = a.epochs*(cat.df['split']=='train').sum()
    rest = total-sum(spent.values())
    print(f'{a.arch}, {len(cat):,} posters, {a.epochs} epochs, batches of {a.bs}, precision {a.precision}: {total:.1f} s on one thread, '
        f'{n/total:.1f} posters trained a second')
    for k,v in {**{k:spent[k] for k in ('forward','backward','batches','optimizer')}, 'all else': rest}.items():
        print(f'{k:10s} {v:7.2f} s  {v/total:6.1%}  {v/n*1e3:6.2f} ms a training poster')
    other = total-spent['forward']-spent['backward']
    print(f'not forward and backward: {other/total:.1%}, {other/n*1e3:.2f} ms a training poster')

if __name__=='__main__': main()
