"""A body that has seen posters, beside ImageNet's: `python benchmarks/pretrain.py --posters FOLDER [--targets overview 'genres+decade'] [--ways probe finetune] [--seeds 5]`

FOLDER holds the csv files of the course's data sets. All posters are put into one table by film; the test rows of every set, and all that are linked to
them, are kept out of pretraining. Each entry of --targets is one pretraining (columns joined by +; a trailing `-NAME` keeps the whole set NAME out, not
only its test rows), each is then asked on every set: `probe` solves a head on frozen features, from nine tenths of the training rows a seed; `finetune`
trains the whole network, `finetune_top` what lies above a cut. Figures go to OUT/pretrain.csv run by run, so that a stopped benchmark goes on; weights to OUT/*.safetensors.
--vectors takes vectors of texts from another machine (a .npz of `keys`, SHA-256 cut to 16 hex digits, and `v`)."""
import argparse, hashlib, time
from functools import cache, partial
from pathlib import Path
import numpy as np, pandas as pd
from genre_fastai.catalog.build import build_catalog
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import read_table
from genre_fastai.course.benchmark import probe_predictions, result_catalog, sets, test_scores
from genre_fastai.experiments import Experiments
from genre_fastai.features.extract import extract_features
from genre_fastai.features.probe import LinearProbe
from genre_fastai.multilabel import multi_scores
from genre_fastai.train.pretrain import pretrain
from genre_fastai.train.recipes import train
from genre_fastai.vision.weights import lite0

forms = dict(genres='labels', decade='decade', overview='text', title='text', first='classes')
names = dict(genres='tmdb_genres', decade='year', overview='overview', title='title', first='first')
several = 'posters_overviews'

def all_posters(posters):
    "One row a film of all csv files, with what any of them knows, grouped"
    tables = {o: read_table(posters/f'{o}.csv') for o in (several, 'action_comedy_drama', 'action_decades', 'romance_horror_superhero') if (posters/f'{o}.csv').exists()}
    tables['action_comedy_drama']['first'] = tables['action_comedy_drama']['label']
    df = pd.concat([t.rename(columns=dict(genres='tmdb_genres')).drop(columns=['label','clean'], errors='ignore') for t in tables.values()], ignore_index=True).fillna('')
    df = df.replace('', None).groupby('imdb_id', sort=False).first().reset_index().fillna('')
    cat = Catalog(df, posters).verify(progress=False).ok
    return cat.with_pairs(cat.find_duplicates(progress=False)).add_groups()

def lookup(file):
    "A function from texts to the vectors of a file"
    with np.load(file) as z: known = dict(zip(z['keys'], z['v']))
    return lambda texts: np.stack([known[hashlib.sha256(t.encode()).hexdigest()[:16]] for t in texts])

def many_scores(cat, feats, C):
    "Several labels: a linear probe on all training rows"
    tr,te = cat.where(split='train'), cat.where(split='test')
    p = LinearProbe(C, multi=True).fit(feats.of(tr).X, tr.one_hot(cat.classes)).predict_proba(feats.of(te).X)
    s = multi_scores(te.one_hot(cat.classes), p)
    return dict(n_test=len(te), **{k: s[k] for k in ('auc','top3_precision','top3_recall')})

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--posters', type=Path, required=True)
    p.add_argument('--out', type=Path, default=Path('pretrained'))
    p.add_argument('--targets', nargs='*', default=['genres','decade','overview','title','genres+decade+overview+title'])
    p.add_argument('--ways', nargs='+', default=['probe'], choices=['probe','finetune','finetune_top','none'])
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--epochs', type=int, default=8)
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--bs', type=int, default=128)
    p.add_argument('--cut', help="train from the middle: 'auto', or a layer")
    p.add_argument('--vectors', type=Path)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    cats = {o: result_catalog(a.posters/f'{o}.csv') for o in sets if (a.posters/f'{o}.csv').exists()}
    cats[several] = build_catalog(a.posters/f'{several}.csv', progress=False).ok
    union = all_posters(a.posters)
    print(f'{len(union)} posters; {", ".join(f"{k} {len(c)}" for k,c in cats.items())}', flush=True)
    files = {'ImageNet': 'auto'}
    for what in a.targets:
        cols,_,apart = what.partition('-')
        name = f'{what}, {a.epochs} epochs at {a.lr:g}'
        file = files[name] = a.out/f'{what.replace("+", "_")}-e{a.epochs}-lr{a.lr:g}{"-cut" if a.cut else ""}.safetensors'
        if file.exists(): continue
        rest = [c.new(c.df.drop(columns='split')) if k==apart else c for k,c in cats.items()]
        start = time.perf_counter()
        learn = pretrain(union, {names[o]: forms[o] for o in cols.split('+')}, file, keep_out=rest, epochs=a.epochs, lr=a.lr, bs=a.bs, cut=a.cut,
            embed=a.vectors and lookup(a.vectors))
        h = learn.run_info.history
        print(f'{name}: {time.perf_counter()-start:.0f} s, {h[-1]}', flush=True)
    feats = cache(lambda data, body: extract_features(cats[data], lite0, files[body], pool='avgmax', cache_pixels=True, bs=256))
    def one(way, body, data, seed, C):
        cat = cats[data]
        if cat.multi: return many_scores(cat, feats(data, body), C)
        if way=='probe': return test_scores(cat, probe_predictions(cat, feats(data, body), seed, C))
        learn = train(cat, way, arch=lite0, weights=files[body], seed=seed, cache_pixels=True, probe=C)
        return test_scores(cat, learn.predictions(cat.where(split='test')))
    todo = [dict(way=w, body=b, data=d, seed=s, C=c) for w in a.ways for b in files for d,cat in cats.items() for c in ((1e-3,1e-4) if w=='probe' else (1e-3,))
        for s in range(1 if cat.multi else a.seeds) if w=='probe' or w!='none' and not cat.multi]
    if not todo: return
    exp = Experiments(a.out/'pretrain.csv').run(todo, one, None)
    df = exp.df
    for (w,d,c),g in df.groupby(['way','data','C'], sort=False):
        print(f'\n{w}, {d}, C={c:g}')
        cols = [k for k in ('accuracy','accuracy_clean','auc','top3_precision','top3_recall') if k in g and g[k].notna().any()]
        print(g.groupby('body', sort=False)[cols].mean().round(4).to_string())

if __name__=='__main__': main()
