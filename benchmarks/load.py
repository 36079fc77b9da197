"Loading alone, without a model: images a second of plain fastai and of `get_dls` with and without its cache; alternating, one process each"
import argparse, json, subprocess, sys, tempfile
from pathlib import Path

kinds = {'fastai, 0 workers': dict(plain=True, num_workers=0), 'fastai, 2 workers': dict(plain=True, num_workers=2),
         'get_dls': dict(), 'get_dls, cache_pixels': dict(cache=True)}

def loaders(csv, path, tmp, augment, size, plain=False, num_workers=0, cache=False):
    "The same rows, resizing, augmentation, normalisation and batch size, by fastai alone or by this package"
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, aug_transforms, imagenet_stats
    from genre_fastai.catalog.core import read_catalog
    from genre_fastai.vision.data import get_dls
    cat = read_catalog(csv, path)
    tfms = [*(aug_transforms() if augment else []), Normalize.from_stats(*imagenet_stats)]
    if not plain: return get_dls(cat, bs=64, num_workers=0, size=size, batch_tfms=tfms, cache_pixels=Path(tmp)/'pixels' if cache else None)
    df = cat.df.assign(is_valid=cat.df['split']=='valid')
    return ImageDataLoaders.from_df(df, cat.path, fn_col='file', label_col='label', valid_col='is_valid', bs=64, num_workers=num_workers,
                                    item_tfms=Resize(size, method='squish'), batch_tfms=tfms)

def measure(kind, csv, path, tmp, augment, size, seconds):
    "Images a second over whole epochs of the training rows, until `seconds` are over, after a first batch; the cache is made before"
    import time, fastprogress.fastprogress as fp
    fp.NO_BAR = True
    dls = loaders(csv, path, tmp, augment, tuple(size), **kinds[kind])
    dls.one_batch()
    n,start = 0,time.perf_counter()
    while time.perf_counter()-start < seconds:
        for x,_y in dls.train: n += len(x)
    return n/(time.perf_counter()-start)

def prepare(posters, n, tmp):
    "A catalog with a split, of real posters from a csv or of drawn ones: its csv and the folder of its files"
    from genre_fastai.catalog.core import read_catalog
    from genre_fastai.core import atomic_write
    from genre_fastai.sample.dataset import make_sample
    cat = read_catalog(posters) if posters else make_sample(Path(tmp)/'sample', n=n, seed=1).where(kind='clean')
    cat = cat.new(cat.df.sample(min(n, len(cat)), random_state=1))
    cat = cat.assign(split=['valid' if i%8==0 else 'train' for i in range(len(cat))])
    csv = Path(tmp)/'catalog.csv'
    with atomic_write(csv) as f: f.write(cat.to_csv())
    return dict(csv=str(csv), path=str(cat.path))

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--posters', help='csv of a catalog of real posters; drawn ones if not given')
    ap.add_argument('--n', type=int, default=512, help='posters, an eighth of them for validation; at least 100')
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--seconds', type=float, default=3, help='of each measurement; it ends with the epoch')
    ap.add_argument('--size', type=int, nargs=2, default=(256,176), help='height and width')
    ap.add_argument('--augment', choices=('no','yes','both'), default='both', help="fastai's aug_transforms on the batch?")
    ap.add_argument('--one', help='internal: one measurement, as JSON')
    args = ap.parse_args()
    if args.one: print(json.dumps(measure(**json.loads(args.one)))); sys.exit()
    with tempfile.TemporaryDirectory() as tmp:
        where = prepare(args.posters, args.n, tmp)
        for augment in dict(no=[False], yes=[True], both=[False,True])[args.augment]:
            print(f'decode, resize, {"augment, " if augment else ""}normalise ({args.size[0]} x {args.size[1]}, images a second)')
            rates = {k:[] for k in kinds}
            for r in range(args.rounds+1): # the first round warms up: it makes the cache and reads the files once
                for k in kinds: # each in a process of its own
                    one = dict(kind=k, tmp=tmp, augment=augment, size=args.size, seconds=args.seconds, **where)
                    cmd = [sys.executable, __file__, '--one', json.dumps(one)]
                    p = subprocess.run(cmd, capture_output=True, text=True)
                    if p.returncode: sys.exit(f'{k} failed:\n{p.stderr[-3000:]}')
                    if r: rates[k].append(float(p.stdout.splitlines()[-1]))
                if r: print('  '.join(f'{k}: {v[-1]:,.0f}' for k,v in rates.items()), flush=True)
            for k,v in rates.items():
                for base in list(kinds)[:2]:
                    q = sorted(a/b for a,b in zip(v, rates[base]))
                    print(f'{k:21s} / {base}: {q[0]:.2f} to {q[-1]:.2f}', flush=True)
