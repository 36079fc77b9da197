"""How well label errors are found: `python benchmarks/clean.py [--seeds 5] [--n 450] [--heights 256,384] [--cache FOLDER]`

Drawn posters: recall and precision of planted wrong labels; `wrong or mixed` also counts posters drawn between two genres, whose label is one of the two by chance, as the real posters' column does. Real posters (GENRE_POSTERS set): precision and recall of the rows that the column `clean` calls doubtful, at equal numbers
of flagged rows, beside the ranking by in-sample loss (as fastai's top losses), cleanlab on in-sample probabilities, and chance. Features are kept in --cache, so that seeds are cheap."""
import argparse, tempfile, warnings
from pathlib import Path
import numpy as np, pandas as pd
from scipy.stats import t
from genre_fastai.core import posters_path
from genre_fastai.catalog.core import read_catalog
from genre_fastai.clean.evaluate import true_label_errors
from genre_fastai.sample.dataset import make_sample
from genre_fastai.features.probe import _fit_predict, _turn, cross_val_probs
from genre_fastai.vision.data import _targets
from genre_fastai.clean.issues import label_issues
from genre_fastai.features.extract import stage_features

def cached(file, make):
    if not file.exists(): np.savez(file, x=make())
    return np.load(file)['x']

def score(flag, wrong, mixed=None):
    share = lambda good: (flag&good).sum()/max(flag.sum(), 1)
    return dict(flagged=int(flag.sum()), recall=(flag&wrong).sum()/wrong.sum(), precision=share(wrong)) | ({} if mixed is None else {'wrong or mixed': share(wrong|mixed)})
def top(rank, k): return np.isin(np.arange(len(rank)), np.argsort(-rank)[:k])

def methods(cat, X, seed, wrong):
    "Flags of each method for one seed; rankings flag as many rows as there are wrong ones, the first two as many as they find"
    y,rows = _targets(cat).argmax(1), np.arange(len(cat))
    oof = cross_val_probs(cat, X, seed=10*seed)
    boot = np.random.default_rng(seed).permutation(len(cat))[:int(.9*len(cat))]
    seen = _fit_predict(_turn(X), _targets(cat), boot, np.ones(len(cat), bool), 2e-3, False)
    loss = lambda p: -np.log(np.clip(p[rows,y], 1e-7, 1))
    return {'ours: confident learning, out of fold': label_issues(cat, oof), 'cleanlab alone, in sample': label_issues(cat, seen),
            'ours: margin, out of fold, at K': top(oof.max(1)-oof[rows,y], wrong.sum()), 'top losses, in sample (fastai), at K': top(loss(seen), wrong.sum()),
            'chance, at K': top(np.random.default_rng(seed).random(len(cat)), wrong.sum())}

def table(res):
    "Means over seeds, and half the width of the 95 % interval"
    g = pd.DataFrame(res).groupby('method', sort=False)
    n = g.size()
    half = g[[c for c in ('recall','precision','wrong or mixed') if c in res[0]]].sem().mul(t.ppf(.975, np.maximum(n-1, 1)), axis=0).add_suffix(' ±')
    return g.mean().drop(columns='seed').join(half).round(3).to_string()

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, default=5); p.add_argument('--n', type=int, default=450); p.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir())/'genre_clean')
    p.add_argument('--only', choices=['sample','real']); p.add_argument('--heights', default='256', help='heights at which posters are looked at, in pixels, such as 256,384')
    a = p.parse_args()
    sizes = [(h, round(h*176/256/8)*8) for h in map(int, a.heights.split(','))]
    name = a.heights.replace(',', '_')
    a.cache.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter('ignore')
    if a.only!='real':
        res = []
        for seed in range(1, a.seeds+1):
            cat = make_sample(a.cache/f'{a.n}_{seed}', n=a.n, seed=seed).where(kind=['clean','wrong_label'])
            X,wrong,mixed = cached(a.cache/f'sample_{a.n}_{seed}_{name}.npz', lambda: stage_features(cat, size=sizes)), true_label_errors(cat), (cat.df['also']!='').to_numpy()
            res += [dict(method=m, seed=seed, **score(f, wrong, mixed)) for m,f in methods(cat, X, seed, wrong).items()]
        print(f'Drawn posters, n={a.n}, {a.seeds} samples\n{table(res)}\n')
    if a.only!='sample' and posters_path():
        cat = read_catalog(posters_path()/'romance_horror_superhero.csv')
        X,wrong = cached(a.cache/f'real_{name}.npz', lambda: stage_features(cat, size=sizes)), true_label_errors(cat)
        res = [dict(method=m, seed=s, **score(f, wrong)) for s in range(a.seeds) for m,f in methods(cat, X, s, wrong).items()]
        print(f'Real posters, {len(cat)} rows, {wrong.sum()} doubtful ({wrong.mean():.3f}), {a.seeds} seeds\n{table(res)}')

if __name__=='__main__': main()
