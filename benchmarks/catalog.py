"""Duplicates found by us, imagededup and cleanvision, on the same posters with planted copies: recall by kind, false pairs, seconds.

    GENRE_POSTERS=... python benchmarks/catalog.py [--n 1000] [--each 100] [--seed 0] [--csv out.csv]

Without GENRE_POSTERS the posters are drawn by `make_sample`. Needs imagededup and cleanvision beside the package; a tool that is not installed is named and left out.
A pair is true if both files come from the same original; recall counts the planted copies that are linked to their original by the pairs found, directly or by way of others.
"""
import argparse, contextlib, io, os, random, shutil, tempfile, time
from pathlib import Path
import pandas as pd
from PIL import Image, ImageOps
from genre_fastai.catalog import find_duplicates, find_images, linked, verify
from genre_fastai.core import Catalog, posters_path

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

kinds = dict(exact=None, reencoded=lambda im,r: im, resized=lambda im,r: im.resize([round(s*f) for s,f in zip(im.size, [r.uniform(.4,1.6)]*2)]), cropped=lambda im,r: cut(im, r, .05, .12), cropped_each_side=cut_sides,
             framed=framed, barred=barred, mirrored=lambda im,r: ImageOps.mirror(im), mirrored_cropped=lambda im,r: cut(ImageOps.mirror(im), r, .05, .12), grey=lambda im,r: im.convert('L'))

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

def ours(dest):
    cat = verify(Catalog(dict(file=find_images(dest), label=''), dest), dict.fromkeys(['tiny','plain'], 'keep'), progress=False)
    p = find_duplicates(cat, progress=False)
    return zip(p['file_a'], p['file_b'])

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

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name,default in (('--n',1000), ('--each',100), ('--seed',0)): ap.add_argument(name, type=int, default=default)
    ap.add_argument('--csv', help='also write the table here')
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        if root := posters_path(): posters = sorted((root/'images').glob('*.jpg'))
        else:
            from genre_fastai.sample import make_sample
            posters = make_sample(Path(tmp)/'sample', n=args.n).where(kind=['clean','wrong_label']).files
        dest = Path(tmp)/'planted'
        dest.mkdir()
        truth = plant(dest, list(posters), args.n, args.each, args.seed)
        table = {}
        for f in (ours, imagededup, cleanvision):
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
