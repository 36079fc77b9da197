"""How well label errors are found: `python benchmarks/clean.py [--seeds 5] [--n 450] [--heights 256,384] [--cache FOLDER]`,
with what effort: `... --effort [--csv results/effort.csv] [--only sample]`, whether `remaining_errors` tells the truth: `... --coverage [--seeds 50]`,
and what a few clicks a class are worth where there are no labels: `... --labels`

Drawn posters: recall and precision of planted wrong labels; `wrong or mixed` also counts posters drawn between two genres, whose label is one of the
two by chance, as the real posters' column does. Real posters (GENRE_POSTERS set): precision and recall of the rows that the column `clean` calls
doubtful, at equal numbers of flagged rows, beside the ranking by in-sample loss (as fastai's top losses), cleanlab on in-sample probabilities, and
chance. Features are kept in --cache, so that seeds are cheap.

With --effort a person is simulated who knows the truth and looks at posters in an order (`order` in the table): at random; by in-sample loss (fastai);
as cleanlab ranks five-fold predictions; as `find_issues` does; as `LiveIssues` does, anew after every few marks. `looks_85` is after how many looks 85 %
of the errors were found, `share_85` the same divided by rows, `found_100` the share of the errors found within 100 looks; `recall_100`, `precision_100`
those of all that is known to be wrong or flagged by a classifier that learned from 100 looks. The csv is gone on with where a run was stopped.
With --coverage, 90 % intervals of the errors that are left are compared with the truth on simulated catalogs, at several numbers of looks.
With --labels, a person gives 5 to 40 labels a class to posters that `label_posters` asks for, or to random ones; then `filled` is the share of the other
rows of which the probe is 90 % sure, `right` how much of that is right, and `accuracy` that of its opinion about all of them."""
import argparse, itertools, tempfile, warnings
from pathlib import Path
import numpy as np, pandas as pd
from scipy.stats import t
from genre_fastai.core import posters_path
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.predictions import Predictions
from genre_fastai.sample.dataset import make_sample
from genre_fastai.features.extract import Features, extract_features
from genre_fastai.features.probe import LinearProbe, cross_val_probs, rotate
from genre_fastai.clean.decisions import CleaningSession
from genre_fastai.clean.evaluate import effort, flagged_after, simulate_cleaning, simulated_catalog, true_label_errors
from genre_fastai.clean.issues import find_issues
from genre_fastai.clean.label import label_posters
from genre_fastai.clean.live import LiveIssues
from genre_fastai.clean.remaining import remaining_errors
from genre_fastai.experiments import Experiments, grid
from genre_fastai.metrics import wilson_interval

def cached(file, cat, sizes):
    "Features of the rows of `cat`, kept in a file"
    if not file.exists(): np.savez(file, x=extract_features(cat, size=sizes).of(cat).X)
    return Features(cat.df['id'], np.load(file)['x'])

def score(flag, wrong, mixed=None):
    share = lambda good: (flag&good).sum()/max(flag.sum(), 1)
    more = {} if mixed is None else {'wrong or mixed': share(wrong|mixed)}
    return dict(flagged=int(flag.sum()), recall=(flag&wrong).sum()/wrong.sum(), precision=share(wrong)) | more

def top(rank, k): return np.isin(np.arange(len(rank)), np.argsort(-rank)[:k])

def in_sample(cat, feats, seed, share=.9):
    "Predictions of all rows by a linear classifier that was trained on most of them"
    seen = np.random.default_rng(seed).permutation(len(cat))[:int(share*len(cat))]
    X,Y = rotate(feats.of(cat).X), cat.one_hot()
    return Predictions(cat, LinearProbe(2e-3, scale=False).fit(X[seen], Y[seen]).predict_proba(X), cat.classes)

def methods(cat, feats, seed, wrong):
    "Flags of each method for one seed; rankings flag as many rows as there are wrong ones, the first two as many as they find"
    oof,seen,k = cross_val_probs(cat, feats, seed=10*seed), in_sample(cat, feats, seed), wrong.sum()
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

# ---- effort against gain
def ids_by(cat, score): return cat.df['id'].to_numpy()[np.argsort(-np.asarray(score), kind='stable')].tolist()

def first_then(first, rest): return list(dict.fromkeys([*first, *rest]))

def by_cleanlab(cat, feats, seed):
    "What cleanlab flags in its order, by five-fold predictions, and then the others, those of which the label is least likely first"
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    preds = cross_val_probs(cat, feats, seed=10*seed, repeats=1, rounds=1)
    args = preds.y, preds.probs.astype(float)
    flagged = find_label_issues(*args, return_indices_ranked_by='self_confidence', n_jobs=1)
    return first_then(cat.df['id'].iloc[flagged], ids_by(cat, -get_label_quality_scores(*args)))

def by_issues(cat, feats, seed):
    preds = cross_val_probs(cat, feats, seed=10*seed)
    return first_then(find_issues(cat, preds)['id'], ids_by(cat, preds.losses))

def by_live(cat, feats, seed):
    journal = Path(tempfile.mkdtemp())/'journal.jsonl'
    return LiveIssues(CleaningSession(cat, journal, who='simulated'), feats, seed=seed)

orders = {'random': lambda cat, feats, seed: ids_by(cat, np.random.default_rng(seed).random(len(cat))),
    'loss, in sample (fastai)': lambda cat, feats, seed: ids_by(cat, in_sample(cat, feats, seed).losses),
    'cleanlab, fixed': by_cleanlab, 'ours, fixed': by_issues, 'ours, live': by_live}

def data_of(data, n, seed, cache, name, sizes):
    "Catalog and features: another drawn sample for each seed, or the real posters"
    if data=='real': cat,file = read_catalog(posters_path()/'romance_horror_superhero.csv'), f'real_{name}.npz'
    else: cat,file = make_sample(cache/f'{n}_{seed}', n=n, seed=seed).where(kind=['clean','wrong_label']), f'sample_{n}_{seed}_{name}.npz'
    return cat, cached(cache/file, cat, sizes)

def measure_effort(a, args):
    "Every order on every catalog, into the csv, and a table of it"
    from functools import lru_cache
    data = lru_cache(2)(lambda data, n, seed: data_of(data, n, seed, *args))
    def one(data_name, n, order, heights, seed):
        cat,feats = data(data_name, n, seed)
        wrong = true_label_errors(cat)
        run = simulate_cleaning(cat, orders[order](cat, feats, seed), wrong)
        after = flagged_after(cat, feats, run, wrong, looks=100)
        return dict(rows=len(cat), planted=int(wrong.sum())) | effort(run) | {f'{k}_100': after[k] for k in ('recall','precision')}
    wanted = [('sample', a.n)]*(a.only!='real') + [('real', 0)]*(a.only!='sample' and bool(posters_path()))
    for name,n in wanted:
        settings = grid(range(1, a.seeds+1), data_name=name, n=n, order=list(orders), heights=args[1])
        print(effort_table(Experiments(a.csv).run(settings, one).rows(settings), name), '\n')

def mean_half(v):
    "Mean, and half the width of its 95 % interval"
    if len(v)<2: return f'{v[0]:.3f}' if len(v) else ''
    return f'{np.mean(v):.3f} ± {t.ppf(.975, len(v)-1)*np.std(v, ddof=1)/len(v)**.5:.3f}'

def effort_table(df, name):
    "Means over seeds with 95 % intervals, and looks beside those of cleanlab's order, seed by seed"
    cols = [*(f'share_{s}' for s in (50,85,95)), 'found_50', 'found_100', 'found_200', 'recall_100', 'precision_100']
    cleanlab,rows = df[df['order']=='cleanlab, fixed'].set_index('seed')['looks_85'], []
    for order,g in df.groupby('order', sort=False):
        ratio = (g.set_index('seed')['looks_85']/cleanlab).to_numpy()
        rows.append(dict(order=order, **{c: mean_half(g[c].to_numpy(float)) for c in cols}, looks_85_by_cleanlab=mean_half(ratio)))
    head = f'{name}: {df["rows"].iloc[0]} rows, {df["planted"].mean():.0f} errors, {df["seed"].nunique()} seeds'
    return f'{head}\n{pd.DataFrame(rows).to_string(index=False)}'

# ---- does the interval hold the truth?
def coverage_of(seed, stops, n):
    "At several numbers of looks: the errors that are left, and the interval that was given"
    cat,feats = simulated_catalog(n, flip=(.1,.15,.2)[seed%3], apart=(.5,.7,1.)[seed//3%3], seed=seed)
    live,wrong,done,res = by_live(cat, feats, seed), true_label_errors(cat), 0, []
    for stop in stops:
        done += len(simulate_cleaning(cat, live, wrong, looks=stop-done))
        left = int((wrong & ~cat.df['id'].isin(live.session.decided).to_numpy()).sum())
        r = remaining_errors(live)
        res.append(dict(looks=done, left=left, estimated=r.n, low=r.low, high=r.high, held=int(r.low<=left<=r.high)))
    return res

def measure_coverage(csv, seeds, n, stops=(30,60,100,150)):
    settings = grid(range(1, seeds+1), n=n)
    df = Experiments(csv).run(settings, lambda n, seed: coverage_of(seed, stops, n)).rows(settings)
    for looks,g in [*df.groupby('looks'), ('all', df)]:
        k,low_high = int(g['held'].sum()), wilson_interval(int(g['held'].sum()), len(g))
        print(f'{looks} looks: the 90 % interval held the truth {k} of {len(g)} times (95 % interval of that share {low_high}), '
            f'mean of the errors left {g["left"].mean():.1f}, estimated {g["estimated"].mean():.1f}, mean width {(g["high"]-g["low"]).mean():.1f}')

# ---- from zero labels
def labels_of(cat, feats, seed, marks, way):
    "After so many marks a class: what the probe would fill in, how much of it is right, and how often it is right about all rows that are left"
    truth = dict(zip(cat.df['id'], cat.df['true_label' if 'true_label' in cat.df else 'label']))
    folder = Path(tempfile.mkdtemp())
    labeler = label_posters(Catalog(cat.df[['id','file']], cat.path), cat.classes, folder/'labels.csv', feats=feats, seed=seed)
    luck = np.random.default_rng(seed).permutation(cat.df['id']).tolist()
    done = {}
    while len(done) < marks*len(cat.classes):
        todo = [o for o in luck if o not in done] if way=='random' else labeler.ask()
        if not todo: break
        for id in todo[:labeler.live.every]: labeler.mark(id, truth[id])
        done = labeler.session.decided
    fill,live = labeler.propose(.9), labeler.live
    right = lambda ids, labels: float(np.mean([truth[o]==l for o,l in zip(ids, labels)] or [np.nan]))
    rest = [(o, live.opinion(o)['suggested']) for o in live.order()]
    return dict(marked=len(done), filled=round(len(fill)/max(len(rest), 1), 4), right=round(right(fill.df['id'], fill.df['label']), 4),
        accuracy=round(right(*zip(*rest)), 4) if rest else np.nan)

def measure_labels(a, args):
    "Asked or random posters, 5 to 40 marks a class, into the csv, and a table"
    def one(data_name, n, way, marks, heights, seed):
        cat,feats = data_of(data_name, n, seed, *args)
        if 'clean' in cat.df: cat = cat.where(clean='1') # rows whose own labels are doubtful have no truth
        return labels_of(cat, feats, seed, marks, way)
    wanted = [('sample', a.n)]*(a.only!='real') + [('real', 0)]*(a.only!='sample' and bool(posters_path()))
    for name,n in wanted:
        settings = grid(range(1, a.seeds+1), data_name=name, n=n, way=['asked','random'], marks=[5,10,20,40], heights=args[1])
        df = Experiments(a.csv).run(settings, one).rows(settings)
        cols = 'filled','right','accuracy'
        rows = [dict(way=w, marks=m, **{c: mean_half(g[c].dropna().to_numpy(float)) for c in cols}) for (w,m),g in df.groupby(['way','marks'])]
        print(f'{name}: shares of the rows without a mark, {df["seed"].nunique()} seeds\n{pd.DataFrame(rows).to_string(index=False)}\n')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--n', type=int, default=450)
    p.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir())/'genre_clean')
    p.add_argument('--only', choices=['sample','real'])
    p.add_argument('--heights', default='256', help='heights at which posters are looked at, in pixels, such as 256,384')
    p.add_argument('--effort', action='store_true', help='errors found against posters looked at')
    p.add_argument('--coverage', action='store_true', help='does the interval of the errors that are left hold the truth?')
    p.add_argument('--labels', action='store_true', help='from zero labels: what is filled in after some marks a class, and how much is right')
    p.add_argument('--csv', type=Path, help='file of the figures of these three; results/effort.csv, coverage.csv or labels.csv')
    a = p.parse_args()
    sizes = [(h, round(h*176/256/8)*8) for h in map(int, a.heights.split(','))]
    args = a.cache, a.heights.replace(',', '_'), sizes
    a.cache.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter('ignore')
    if what := next((o for o in ('effort','coverage','labels') if getattr(a, o)), None):
        a.csv = a.csv or Path(__file__).parents[1]/f'results/{what}.csv'
        return measure_coverage(a.csv, a.seeds, a.n) if a.coverage else (measure_effort if a.effort else measure_labels)(a, args)
    if a.only!='real': on_sample(a.n, a.seeds, *args)
    if a.only!='sample' and posters_path(): on_real(a.seeds, *args)

if __name__=='__main__': main()
