"""How well label errors are found: `python benchmarks/clean.py [--seeds 5] [--n 450] [--heights 256,384] [--cache FOLDER]`

Drawn posters: recall and precision of planted wrong labels; `wrong or mixed` also counts posters drawn between two genres, whose label is one of the
two by chance, as the real posters' column does. Real posters (GENRE_POSTERS set): precision and recall of the rows that the column `clean` calls
doubtful, at equal numbers of flagged rows, beside the ranking by in-sample loss (as fastai's top losses), cleanlab on in-sample probabilities, and
chance. Features are kept in --cache, so that seeds are cheap.

With what effort they are found, whether the count of those that are left is true, and what a few labels are worth where there are none is measured by
`genre-fastai benchmark --posters FOLDER --only effort,coverage,labels`."""
import argparse, tempfile, warnings
from pathlib import Path
import numpy as np, pandas as pd
from scipy.stats import t
from genre_fastai.core import posters_path
from genre_fastai.catalog.core import read_catalog
from genre_fastai.sample.dataset import make_sample
from genre_fastai.features.extract import Features, extract_features
from genre_fastai.features.probe import cross_val_probs
from genre_fastai.clean.evaluate import true_label_errors
from genre_fastai.course.effort import in_sample_predictions

def cached(file, cat, sizes):
    "Features of the rows of `cat`, kept in a file"
    if not file.exists(): np.savez(file, x=extract_features(cat, size=sizes).of(cat).X)
    return Features(cat.df['id'], np.load(file)['x'])

def score(flag, wrong, mixed=None):
    share = lambda good: (flag&good).sum()/max(flag.sum(), 1)
    more = {} if mixed is None else {'wrong or mixed': share(wrong|mixed)}
    return dict(flagged=int(flag.sum()), recall=(flag&wrong).sum()/wrong.sum(), precision=share(wrong)) | more

def top(rank, k): return np.isin(np.arange(len(rank)), np.argsort(-rank)[:k])

def methods(cat, feats, seed, wrong):
    "Flags of each method for one seed; rankings flag as many rows as there are wrong ones, the first two as many as they find"
    oof,seen,k = cross_val_probs(cat, feats, seed=10*seed), in_sample_predictions(cat, feats, seed), wrong.sum()
    margin = oof.probs.max(1)-oof.probs[np.arange(len(cat)), oof.y]
    return {'ours: confident learning, out of fold': oof.label_issues(), 'cleanlab alone, in sample': seen.label_issues(),
        'ours: margin, out of fold, at K': top(margin, k), 'top losses, in sample (fastai), at K': top(seen.losses, k),
        'chance, at K': top(np.random.default_rng(seed).random(len(cat)), k)}

def table(res):
    "Means over seeds, and half the width of the 95 % interval"
    g = pd.DataFrame(res).groupby('method', sort=False)
    n,cols = g.size(), [c for c in ('recall','precision','wrong or mixed') if c in res[0]]
    half = g[cols].sem().mul(t.ppf(.975, np.maximum(n-1, 1)), axis=0).add_suffix(' ±')
    return g.mean().drop(columns='seed').join(half).round(3).to_string()

def on_sample(n, seeds, cache, name, sizes):
    res = []
    for seed in range(1, seeds+1):
        cat = make_sample(cache/f'{n}_{seed}', n=n, seed=seed).where(kind=['clean','wrong_label'])
        feats,wrong = cached(cache/f'sample_{n}_{seed}_{name}.npz', cat, sizes), true_label_errors(cat)
        mixed = (cat.df['also']!='').to_numpy()
        res += [dict(method=m, seed=seed, **score(f, wrong, mixed)) for m,f in methods(cat, feats, seed, wrong).items()]
    print(f'Drawn posters, n={n}, {seeds} samples\n{table(res)}\n')

def on_real(seeds, cache, name, sizes):
    cat = read_catalog(posters_path()/'romance_horror_superhero.csv')
    feats,wrong = cached(cache/f'real_{name}.npz', cat, sizes), true_label_errors(cat)
    res = [dict(method=m, seed=s, **score(f, wrong)) for s in range(seeds) for m,f in methods(cat, feats, s, wrong).items()]
    print(f'Real posters, {len(cat)} rows, {wrong.sum()} doubtful ({wrong.mean():.3f}), {seeds} seeds\n{table(res)}')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--n', type=int, default=450)
    p.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir())/'genre_clean')
    p.add_argument('--only', choices=['sample','real'])
    p.add_argument('--heights', default='256', help='heights at which posters are looked at, in pixels, such as 256,384')
    a = p.parse_args()
    sizes = [(h, round(h*176/256/8)*8) for h in map(int, a.heights.split(','))]
    args = a.cache, a.heights.replace(',', '_'), sizes
    a.cache.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter('ignore')
    if a.only!='real': on_sample(a.n, a.seeds, *args)
    if a.only!='sample' and posters_path(): on_real(a.seeds, *args)

if __name__=='__main__': main()
