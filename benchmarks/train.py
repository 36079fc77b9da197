"Both stages of transfer learning: plain fastai, a plain PyTorch loop, and this package, alternating, one process each. Same rows, pixels, epochs and seed."
import argparse, json, subprocess, sys, tempfile, time
from pathlib import Path

kinds = {'fastai': dict(), 'pytorch': dict(), 'ours': dict(), 'ours, cached features': dict(cached=True), 'ceiling': dict()}
lr = 3e-3

def prepare(posters, n, tmp):
    "A catalog with a split, 5 training rows to 3 validation rows, of real posters from a csv or of drawn ones: its csv and the folder of its files"
    from genre_fastai.catalog.core import Catalog, read_catalog
    from genre_fastai.core import atomic_write
    from genre_fastai.sample.dataset import make_sample
    cat = read_catalog(posters) if posters else make_sample(Path(tmp)/'sample', n=n, seed=1).where(kind='clean')
    if posters and 'clean' in cat.df: cat = cat.where(clean='1')
    cat = Catalog(cat.df.sample(min(n, len(cat)), random_state=1), cat.path)
    cat = cat.assign(split=['valid' if i%8<3 else 'train' for i in range(len(cat))])
    csv = Path(tmp)/'catalog.csv'
    with atomic_write(csv) as f: f.write(cat.to_csv())
    return dict(csv=str(csv), path=str(cat.path))

def fastai_run(cat, arch, weights, bs, size):
    "What a user of fastai writes; both stages as functions, and the loaders"
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, accuracy, vision_learner
    from genre_fastai.vision.augment import poster_tfms
    from genre_fastai.vision.weights import load_pretrained
    pretrained = load_pretrained(arch, weights)
    df = cat.df.assign(is_valid=cat.df['split']=='valid')
    dls = ImageDataLoaders.from_df(df, cat.path, fn_col='file', label_col='label', valid_col='is_valid', bs=bs, item_tfms=Resize(size, method='squish'),
                                   batch_tfms=[*poster_tfms(), Normalize.from_stats(*pretrained.stats)])
    learn = vision_learner(dls, loaded_arch(pretrained.arch), pretrained=False, normalize=False, metrics=accuracy)
    if weights: give_weights(learn.model[0], pretrained.model.state_dict())
    return dls, *stages(learn)

def give_weights(body, state):
    "Load a body whose tensors bear the names of `state` (timm), or stand in the same order (torchvision)"
    body = getattr(body, 'model', body)
    own = body.state_dict()
    new = {k:state[k] for k in own} if set(own)<=set(state) else dict(zip(own, state.values()))
    body.load_state_dict(new)

def loaded_arch(name):
    "fastai takes torchvision's functions and timm's names"
    import torchvision
    return getattr(torchvision.models, name, name)

def stages(learn):
    "The two stages of `fine_tune`, apart, and the share of validation rows that are right"
    def frozen(n):
        learn.freeze()
        learn.fit_one_cycle(n, lr)
    def unfrozen(n):
        learn.unfreeze()
        learn.fit_one_cycle(n, slice(lr/200, lr/10))
    return frozen, unfrozen, lambda: float(learn.validate()[1])

def ours_run(cat, arch, weights, bs, size, cache, cached=False):
    from genre_fastai.vision.data import get_dls
    from genre_fastai.train.learner import poster_learner
    import genre_fastai.train.head # it gives a Learner `fit_head`
    learn = poster_learner(dls := get_dls(cat, bs=bs, size=size, cache_pixels=cache), arch, weights)
    frozen,unfrozen,acc = stages(learn)
    return dls, (lambda n: learn.fit_head(n, lr)) if cached else frozen, unfrozen, acc

def torch_run(cat, arch, weights, bs, size):
    "A loop as torchvision's and timm's examples have it: the network's own classifier, AdamW, one cycle"
    import torch, torch.nn as nn, torch.nn.functional as F
    from PIL import Image
    from torchvision.transforms import v2 as T
    from genre_fastai.vision.weights import load_pretrained
    pretrained = load_pretrained(arch, weights)
    model,last = pretrained.model, list(pretrained.model.named_children())[-1][0]
    head = getattr(model, last)
    if isinstance(head, nn.Sequential): head[-1] = nn.Linear(head[-1].in_features, len(cat.classes))
    else: setattr(model, last, nn.Linear(head.in_features, len(cat.classes)))
    plain = [T.Resize(size), T.ToImage(), T.ToDtype(torch.float32, scale=True), T.Normalize(*pretrained.stats)]
    class Posters(torch.utils.data.Dataset):
        def __init__(self, split, tfms): self.cat,self.tfms = cat.where(split=split),T.Compose(tfms)
        def __len__(self): return len(self.cat)
        def __getitem__(self, i): return self.tfms(Image.open(self.cat.files[i]).convert('RGB')), cat.classes.index(self.cat.df['label'].iloc[i])
    aug = [T.RandomAffine(4, scale=(1, 1.1)), T.ColorJitter(.2, .2)]
    train = torch.utils.data.DataLoader(Posters('train', aug+plain), bs, shuffle=True, drop_last=True, num_workers=2)
    valid = torch.utils.data.DataLoader(Posters('valid', plain), bs*2, num_workers=2)
    dev = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model.to(dev)
    def right():
        model.eval()
        with torch.no_grad(): return sum((model(x.to(dev)).argmax(1).cpu()==y).sum().item() for x,y in valid)/len(valid.dataset)
    def fit(n, rate):
        ps = [p for p in model.parameters() if p.requires_grad]
        opt = torch.optim.AdamW(ps, rate)
        sched = torch.optim.lr_scheduler.OneCycleLR(opt, rate, total_steps=n*len(train))
        for _ in range(n):
            model.train()
            for x,y in train:
                F.cross_entropy(model(x.to(dev)), y.to(dev)).backward()
                opt.step(); sched.step(); opt.zero_grad()
            right()
    def frozen(n):
        model.requires_grad_(False)
        getattr(model, last).requires_grad_(True)
        fit(n, lr)
    def unfrozen(n):
        model.requires_grad_(True)
        fit(n, lr/10)
    return type('', (), dict(train=train)), frozen, unfrozen, right

def ceiling_run(cat, arch, weights, bs, size):
    "The unfrozen stage with one batch that is on the device already, for as many steps: what the model alone can do"
    from genre_fastai.vision.data import get_dls
    from genre_fastai.train.learner import poster_learner
    learn = poster_learner(dls := get_dls(cat, bs=bs, size=size), arch, weights)
    b = dls.one_batch()
    class Same:
        def __init__(self, n): self.n = n
        def __len__(self): return self.n
        def __iter__(self): return iter([b]*self.n)
    sizes = [len(dls.train), len(dls.valid)]
    learn.dls = type(dls)(*map(Same, sizes), device=dls.device)
    return (learn.dls, *stages(learn))

def measure(kind, csv, path, tmp, arch, weights, bs, size, epochs, seed):
    "Seconds of both stages, images a second of loading alone, peak memory in MB, and accuracy"
    import resource, fastprogress.fastprogress as fp, torch
    from fastai.vision.all import set_seed
    from genre_fastai.catalog.core import read_catalog
    fp.NO_BAR = True
    cat,size = read_catalog(csv, path), tuple(size)
    set_seed(seed, reproducible=True)
    run = dict(fastai=fastai_run, pytorch=torch_run, ceiling=ceiling_run).get(kind, ours_run)
    extra = dict(cache=Path(tmp)/'pixels', **kinds[kind]) if run is ours_run else {}
    start = time.perf_counter()
    dls,frozen,unfrozen,acc = run(cat, arch, weights, bs, size, **extra)
    res = dict(setup=time.perf_counter()-start)
    for _ in range(2): # the first pass reads the files from the disk
        n,clock = 0,time.perf_counter()
        for b in dls.train: n += len(b[0])
        res['load'] = n/(time.perf_counter()-clock)
    def sync(): torch.cuda.synchronize() if torch.cuda.is_available() else None
    for name,f,e in (('frozen', frozen, epochs[0]), ('unfrozen', unfrozen, epochs[1])):
        clock = time.perf_counter()
        if e: f(e)
        sync()
        res[name] = time.perf_counter()-clock
    res['acc'] = acc()
    res['mb'] = sum(resource.getrusage(o).ru_maxrss for o in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))/1024
    return dict(res, n=n, valid=len(cat.where(split='valid')))

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--posters', help='csv of a catalog of real posters; drawn ones if not given')
    ap.add_argument('--n', type=int, default=256, help='posters, 3 of 8 for validation')
    ap.add_argument('--rounds', type=int, default=2)
    ap.add_argument('--arch', default='resnet34')
    ap.add_argument('--weights', default='none', help="'none' (random: for speed) or 'auto', 'imagenet' or a file")
    ap.add_argument('--epochs', type=int, nargs=2, default=(3,1), help='frozen and unfrozen')
    ap.add_argument('--bs', type=int, default=32)
    ap.add_argument('--size', type=int, nargs=2, default=(256,176), help='height and width')
    ap.add_argument('--seed', type=int, default=1, help='of the first round; each round adds one')
    ap.add_argument('--kinds', nargs='+', default=list(kinds), choices=list(kinds))
    ap.add_argument('--one', help='internal: one measurement, as JSON')
    args = ap.parse_args()
    if args.one: print(json.dumps(measure(**json.loads(args.one)))); sys.exit()
    import torch
    from genre_fastai.metrics import wilson_interval
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'No GPU here: every figure, the ceiling too, is of the CPU.')
    got = {k:[] for k in args.kinds}
    with tempfile.TemporaryDirectory() as tmp:
        where = prepare(args.posters, args.n, tmp)
        for r in range(args.rounds):
            for k in args.kinds: # each in a process of its own
                one = dict(kind=k, tmp=tmp, arch=args.arch, weights=None if args.weights=='none' else args.weights, bs=args.bs, size=args.size, epochs=args.epochs, seed=args.seed+r, **where)
                p = subprocess.run([sys.executable, '-W', 'ignore', __file__, '--one', json.dumps(one)], capture_output=True, text=True)
                if p.returncode: sys.exit(f'{k} failed:\n{p.stderr[-3000:]}')
                got[k].append(o := json.loads(p.stdout.splitlines()[-1]))
                e,n = args.epochs, o['n']
                print(f'{k:22s} frozen {o["frozen"]/max(e[0],1):6.2f} s an epoch ({n*e[0]/max(o["frozen"],1e-9):5.0f} images/s), unfrozen {o["unfrozen"]/max(e[1],1):6.2f} s ({n*e[1]/max(o["unfrozen"],1e-9):4.0f}/s), '
                      f'loading alone {o["load"]:6.0f}/s, setup {o["setup"]:4.1f} s, peak {o["mb"]:5.0f} MB, accuracy {o["acc"]:.3f} ({"{:.3f} to {:.3f}".format(*wilson_interval(round(o["acc"]*o["valid"]), o["valid"]))})', flush=True)
    for k in [k for k in got if k!='ceiling']: # ratios within a round, since rounds differ
        for base in [b for b in ('fastai','pytorch') if b in got and b!=k]:
            q = {s:sorted((a[s]/b[s] if s=='load' else b[s]/max(a[s],1e-9)) for a,b in zip(got[k], got[base])) for s in ('frozen','unfrozen','load')}
            print(f'{k:22s} / {base:8s}', ', '.join(f'{s} {v[0]:.2f} to {v[-1]:.2f}' for s,v in q.items()))
    if {'ours','ceiling'} <= set(got):
        q = sorted(c['unfrozen']/o['unfrozen'] for o,c in zip(got['ours'], got['ceiling']))
        print(f'ours, of its ceiling: {q[0]:.0%} to {q[-1]:.0%} (unfrozen)')
