"""What a GPU makes of the same work: plain fastai in fp32 and in half precision, and this package, in posters a second and as a share of the ceiling. `python benchmarks/gpu.py --posters CSV [--n 2048] [--rounds 3]`

The ceiling of training is the same network on batches that lie in the GPU's memory already, in the best precision, with nothing but forward, backward
and step; that of prediction is its forward pass. Each task is done once to warm up, then the ways take turns; figures are medians of the rounds. Loaders
use the processors as each way does by default: fastai opens files in worker processes, this package reads pixels that it has decoded once."""
import argparse, contextlib, io, os, statistics, tempfile, time, warnings
from pathlib import Path

def clock(f):
    import torch
    torch.cuda.synchronize()
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()): f()
    torch.cuda.synchronize()
    return time.perf_counter()-start

def raw(arch, size, bs, dtype, train, steps=40):
    "Posters a second of the network alone, on a batch that is there"
    import timm, torch
    m = timm.create_model(arch, num_classes=3).cuda().to(memory_format=torch.channels_last).train(train)
    x,y = torch.randn(bs, 3, *size, device='cuda').to(memory_format=torch.channels_last), torch.randint(3, (bs,), device='cuda')
    opt = torch.optim.Adam(m.parameters(), 1e-4, fused=True)
    def step():
        with torch.autocast('cuda', dtype, enabled=dtype!=torch.float32), torch.set_grad_enabled(train): out = m(x)
        if not train: return
        torch.nn.functional.cross_entropy(out.float(), y).backward()
        opt.step()
        opt.zero_grad()
    def run():
        for _ in range(steps): step()
    run()
    return bs*steps/min(clock(run) for _ in range(3))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--posters', required=True)
    p.add_argument('--n', type=int, default=2048)
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--bs', type=int, default=128)
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--size', type=int, nargs=2, default=[256,176])
    a = p.parse_args()
    warnings.simplefilter('ignore')
    import torch
    from fastai.vision.all import ImageDataLoaders, Resize, accuracy, vision_learner
    from genre_fastai.catalog.core import Catalog
    from genre_fastai.catalog.sources import catalog_from
    from genre_fastai.features.extract import extract_features
    from genre_fastai.train.learner import poster_learner
    from genre_fastai.vision.augment import poster_tfms
    from genre_fastai.vision.data import get_dls
    from genre_fastai.deploy.folder import load_predictor, save_predictor
    size,tmp = tuple(a.size), Path(tempfile.mkdtemp())
    cat = catalog_from(a.posters).ok
    cat = Catalog(cat.df.sample(min(a.n, len(cat)), random_state=1), cat.path)
    cat = cat.assign(split=['valid' if i%8==7 else 'train' for i in range(len(cat))])
    n = len(cat)
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, {os.cpu_count()} processors, {n} posters, {a.arch}, {size[0]} x {size[1]}, batches of {a.bs}', flush=True)
    ceil = {}
    for train in (True, False):
        for name,dt in dict(fp32=torch.float32, bf16=torch.bfloat16).items():
            ceil[train,name] = raw(a.arch, size, a.bs, dt, train)
            print(f'network alone, {"training" if train else "inference"}, {name}: {ceil[train,name]:8.0f} posters/s', flush=True)
    def theirs():
        df = cat.df.assign(is_valid=cat.df['split']=='valid')
        dls = ImageDataLoaders.from_df(df, cat.path, fn_col='file', label_col='label', valid_col='is_valid', bs=a.bs, item_tfms=Resize(size, method='squish'), batch_tfms=poster_tfms())
        return vision_learner(dls, a.arch, pretrained=False, metrics=accuracy)
    half = theirs().to_fp16()
    learners = dict(fastai=theirs(), fastai_fp16=half)
    for name,kw in dict(ours=dict(cache_pixels=str(tmp/'pixels')), ours_files={}).items(): learners[name] = poster_learner(get_dls(cat, bs=a.bs, size=size, **kw), a.arch, metrics=accuracy)
    for o in learners.values(): o.unfreeze()
    ours = learners['ours']
    save_predictor(ours, tmp/'model')
    pred = load_predictor(tmp/'model')
    files = list(cat.files)
    tasks = {f'an epoch: {k}': (lambda o=o: o.fit(1, 1e-4), n) for k,o in learners.items()}
    for k in ('fastai','fastai_fp16'): tasks[f'predict rows: {k}'] = lambda o=learners[k]: o.get_preds(dl=o.dls.test_dl(cat.df)), n
    tasks['predict rows: ours'] = lambda: ours.predictions(cat), n
    tasks['predict files one by one: fastai'] = lambda: [learners['fastai'].predict(f) for f in files[:32]], 32
    tasks['predict files: ours'] = lambda: pred.predict(files), n
    kw = dict(cache_features=False) if 'cache_features' in extract_features.__code__.co_varnames else {}
    tasks['features: ours, pixels kept'] = lambda: extract_features(cat, a.arch, pool='avgmax', size=size, bs=a.bs, cache_pixels=str(tmp/'pixels'), **kw), n
    got = {}
    for k,(f,m) in list(tasks.items()):
        try: clock(f)
        except Exception as e:
            print(f'{k}: failed, {type(e).__name__}: {str(e)[:300]}', flush=True)
            tasks.pop(k)
    for _ in range(a.rounds):
        for k,(f,m) in tasks.items(): got.setdefault(k, []).append(m/clock(f))
    for k,v in got.items():
        top = ceil['epoch' in k, 'bf16']
        print(f'{k:36s} {statistics.median(v):8.0f} posters/s ({min(v):.0f} to {max(v):.0f}), {statistics.median(v)/top:.0%} of the ceiling', flush=True)

if __name__=='__main__': main()
