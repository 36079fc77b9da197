"""Duplicates found by us, imagededup and cleanvision, on the same posters with planted copies: recall by kind, false pairs, seconds.

    GENRE_POSTERS=... python benchmarks/catalog.py [--n 1000] [--each 100] [--seed 0] [--csv out.csv]
    GENRE_POSTERS=... python benchmarks/catalog.py --features [--n 1000] ...   ours again, with candidates from a pretrained body's features
    GENRE_POSTERS=... python benchmarks/catalog.py --flags [--n 2000] ...      flags of odd images by us and by cleanvision, image by image

Without GENRE_POSTERS the posters are drawn by `make_sample`. Needs imagededup and cleanvision beside the package; a tool that is not installed is named
and left out.
With --flags a part of the posters is darkened, blurred and so on, so that it is known which flags are due; the other posters show how often the tools agree.
A pair is true if both files come from the same original; recall counts the planted copies that are linked to their original by the pairs found, directly
or by way of others.
Our threshold was chosen on --seed 7, so score with another.
"""
import argparse, contextlib, io, os, random, shutil, tempfile, time
from pathlib import Path
import pandas as pd
from PIL import Image, ImageFilter, ImageOps
from genre_fastai.core import posters_path
from genre_fastai.catalog.core import Catalog
from genre_fastai.catalog.sources import find_images
from genre_fastai.catalog.splits import linked
import genre_fastai.catalog.verify # adds `verify` to catalogs

def cut(im, rng, lo, hi):
    "Cut a share between `lo` and `hi` off each axis, divided at random between its two sides"
    w,h = im.size
    (l,r),(t,b) = ((p*k, p*(1-k)) for p,k in ((rng.uniform(lo,hi), rng.random()) for _ in range(2)))
    return im.crop((round(w*l), round(h*t), round(w*(1-r)), round(h*(1-b))))

def cut_sides(im, rng):
    "Cut 5 to 12 % off each of the four sides"
    w,h = im.size
    l,t,r,b = (rng.uniform(.05,.12) for _ in range(4))
    return im.crop((round(w*l), round(h*t), round(w*(1-r)), round(h*(1-b))))

def framed(im, rng): return ImageOps.expand(im, round(im.width*rng.uniform(.02,.1)), rng.choice(['white','black','grey','navy','gold']))

def barred(im, rng):
    p = rng.uniform(.03,.2)
    return ImageOps.expand(im, *rng.choice([((round(im.width*p), 0), 'white'), ((0, round(im.height*p)), 'black')]))

def resized(im, rng):
    f = rng.uniform(.4,1.6)
    return im.resize([round(s*f) for s in im.size])

kinds = dict(exact=None, reencoded=lambda im,r: im, resized=resized, cropped=lambda im,r: cut(im, r, .05, .12), cropped_each_side=cut_sides,
    framed=framed, barred=barred, mirrored=lambda im,r: ImageOps.mirror(im), mirrored_cropped=lambda im,r: cut(ImageOps.mirror(im), r, .05, .12),
    grey=lambda im,r: im.convert('L'))

def plant(dest, posters, n, each, seed):
    "Copy `n` posters to `dest` and plant `each` copies of every kind; a table of file, original and kind"
    rng = random.Random(seed)
    base = rng.sample(posters, min(n, len(posters)))
    rows = [dict(file=f'{i:05d}.jpg', original=i, kind='') for i in range(len(base))]
    for r,p in zip(rows, base): shutil.copyfile(p, dest/r['file'])
    for kind,f in kinds.items():
        for i in rng.sample(range(len(base)), min(each, len(base))):
            name,src = f'{i:05d}_{kind}.jpg', dest/f'{i:05d}.jpg'
            if f is None: shutil.copyfile(src, dest/name)
            else: f(Image.open(src).convert('RGB'), rng).save(dest/name, quality=rng.randint(30,85))
            rows.append(dict(file=name, original=i, kind=kind))
    return pd.DataFrame(rows)

def verified(dest, files): return Catalog(dict(file=files, label=''), dest).verify(dict.fromkeys(['tiny','plain'], 'keep'), progress=False)

def ours(dest, features=None):
    cat = verified(dest, find_images(dest))
    p = cat.find_duplicates(features and features(cat), progress=False)
    return zip(p['file_a'], p['file_b'])

def ours_with_features(dest):
    from genre_fastai.features.extract import extract_features
    return ours(dest, lambda cat: extract_features(cat, pool='avgmax'))

def imagededup(dest):
    from imagededup.methods import PHash
    res = PHash(verbose=False).find_duplicates(image_dir=str(dest), max_distance_threshold=10)
    return {tuple(sorted((a,b))) for a,bs in res.items() for b in bs}

def cleanvision(dest):
    from cleanvision import Imagelab
    lab = Imagelab(data_path=str(dest))
    lab.find_issues({'exact_duplicates':{}, 'near_duplicates':{}}, verbose=False)
    sets = [s for k in ('exact_duplicates','near_duplicates') for s in lab.info[k]['sets']]
    return {tuple(sorted((Path(a).name, Path(b).name))) for s in sets for i,a in enumerate(s) for b in s[i+1:]}

def judge(truth, pairs, seconds):
    "One row of the table"
    row = {f:i for i,f in enumerate(truth['file'])}
    pairs = [(row[a],row[b]) for a,b in pairs]
    orig = truth['original'].to_numpy()
    chain = linked(len(truth), [(a,b) for a,b in pairs if orig[a]==orig[b]])
    found = pd.Series(chain==chain[orig]) # the original of copy i is row `original`
    res = {k: f'{found[truth["kind"]==k].mean():.1%}' for k in kinds}
    false = sum(orig[a]!=orig[b] for a,b in pairs)
    return res | {'false pairs': false, 'per 1,000 posters': round(1000*false/len(truth), 2), 'seconds': round(seconds, 1)}

spoilt = dict(dark=lambda im,r: im.point(lambda v: v*r.uniform(.1,.25)), blurry=lambda im,r: im.filter(ImageFilter.GaussianBlur(im.width*r.uniform(.011,.03))),
    grey=lambda im,r: im.convert('L'), grey_rgb=lambda im,r: im.convert('L').convert('RGB'),
    odd=lambda im,r: im.resize((im.width, round(im.width*r.uniform(.1,.3)))),
    plain=lambda im,r: Image.blend(im, Image.new('RGB', im.size, im.getpixel((0,0))), r.uniform(.95,1)))
theirs = dict(dark='dark', blurry='blurry', grey='grayscale', odd='odd_aspect_ratio', plain='low_information', tiny='odd_size')

def spoil(dest, posters, n, each, seed):
    "Copy `n` posters to `dest`, and `each` of them again spoilt in every way; a table of file and kind"
    rng = random.Random(seed)
    base = rng.sample(posters, min(n, len(posters)))
    for i,p in enumerate(base): shutil.copyfile(p, dest/f'{i:05d}.jpg')
    rows = [dict(file=f'{i:05d}.jpg', kind='') for i in range(len(base))]
    for kind,f in spoilt.items():
        for i in rng.sample(range(len(base)), min(each, len(base))):
            f(Image.open(base[i]).convert('RGB'), rng).save(dest/f'{i:05d}_{kind}.jpg', quality=85)
            rows.append(dict(file=f'{i:05d}_{kind}.jpg', kind=kind))
    return pd.DataFrame(rows)

def our_flags(dest, files):
    df = verified(dest, files).df
    return pd.DataFrame({f: df[f'is_{f}']=='1' for f in theirs}).set_axis(files)

def their_flags(dest, files):
    from cleanvision import Imagelab
    lab = Imagelab(data_path=str(dest))
    lab.find_issues(dict.fromkeys([*theirs.values(), 'light'], {}), verbose=False)
    df = lab.issues.set_axis([Path(f).name for f in lab.issues.index]).loc[files]
    return pd.DataFrame({f: df[f'is_{t}_issue'] for f,t in theirs.items()} | dict(light=df['is_light_issue']))

def flagged(truth, kind, real, tables):
    "How many posters spoilt in the way `kind` got its flag, and how many spoilt in another way"
    flag = kind.removesuffix('_rgb')
    rows = {'': truth['kind']==kind, ' (other)': ~real & (truth['kind'].str.replace('_rgb', '')!=flag)}
    return {f'{n}{w}': f'{t[flag].to_numpy()[m].mean():.1%}' for n,t in tables.items() for w,m in rows.items()}

def agreement(a, b, real):
    "Print how often both tools set a flag on the same poster as it is, and how often one alone"
    agree = {f: dict(both=(a[f]&b[f])[real].sum(), ours=(a[f]&~b[f])[real].sum(), cleanvision=(b[f]&~a[f])[real].sum()) for f in theirs}
    print(pd.DataFrame(agree).T.to_string())
    print(f'cleanvision has one flag more: light, {b["light"][real].sum()} posters\n')

def compare_flags(dest, posters, args):
    "How often both set a flag, on posters as they are and on spoilt ones"
    truth = spoil(dest, posters, args.n, args.each, args.seed)
    seconds,res,real = {}, {}, (truth['kind']=='').to_numpy()
    for name,f in dict(ours=our_flags, cleanvision=their_flags).items():
        t = time.perf_counter()
        try:
            with contextlib.redirect_stdout(io.StringIO()): res[name] = f(dest, truth['file'].tolist())
        except ImportError as e: print(f'{name} is left out: {e}')
        else: seconds[name] = round(time.perf_counter()-t, 1)
    print(f'{real.sum()} posters as they are; {seconds}')
    if 'cleanvision' in res: agreement(*res.values(), real)
    print('spoilt posters that got their flag, and of all spoilt in another way those that got it too')
    print(pd.DataFrame({k: flagged(truth, k, real, res) for k in spoilt}).T.to_string())
    return pd.concat([truth, *(r.add_prefix(f'{n} ').reset_index(drop=True) for n,r in res.items())], axis=1)

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name,default in (('--n',1000), ('--each',100), ('--seed',0)): ap.add_argument(name, type=int, default=default)
    ap.add_argument('--features', action='store_true', help='ours once more, with candidates by the features of EfficientNet-Lite0')
    ap.add_argument('--flags', action='store_true', help='compare the flags of odd images instead')
    ap.add_argument('--csv', help='also write the table here')
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        os.environ['XDG_CACHE_HOME'] = f'{tmp}/cache' # what an earlier run measured would be known there
        if root := posters_path(): posters = sorted((root/'images').glob('*.jpg'))
        else:
            from genre_fastai.sample.dataset import make_sample
            posters = make_sample(Path(tmp)/'sample', n=args.n).where(kind=['clean','wrong_label']).files
        dest = Path(tmp)/'planted'
        dest.mkdir()
        if args.flags:
            df = compare_flags(dest, list(posters), args)
            if args.csv: df.to_csv(args.csv)
            return
        truth = plant(dest, list(posters), args.n, args.each, args.seed)
        table = {}
        for f in (ours, *[ours_with_features]*args.features, imagededup, cleanvision):
            t = time.perf_counter()
            try:
                with contextlib.redirect_stdout(io.StringIO()): pairs = list(f(dest))
            except ImportError as e:
                print(f'{f.__name__} is left out: {e}')
                continue
            table[f.__name__] = judge(truth, pairs, time.perf_counter()-t)
    df = pd.DataFrame(table)
    print(f'{len(truth)} posters, {args.each} copies of each kind, {os.cpu_count()} processors, seed {args.seed}\n{df.to_string()}')
    if args.csv: df.to_csv(args.csv)

if __name__=='__main__': main()
