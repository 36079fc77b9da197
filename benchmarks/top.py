"""Fine-tuning above a cut on maps that are computed once, beside the solved head and beside fine-tuning of the whole network: accuracy, paired differences and seconds. `python benchmarks/top.py [--csv FILE] [--target decade] [--seeds 3] [--ways NAME...] [--rows test] [--out top.csv]`

Without --csv it draws posters, which shows only that it runs. Choices are made on validation rows (--rows valid); the frozen test rows (--rows test) are for the last comparison. The csv of figures goes on where it was stopped."""
import argparse, os, tempfile, time
from pathlib import Path
import numpy as np
from genre_fastai.experiments import Experiments, grid
from genre_fastai.metrics import mean_interval
from genre_fastai.sample.dataset import make_sample
from genre_fastai.train.recipes import train
from genre_fastai.course.benchmark import result_catalog, split_text

top = dict(recipe='finetune_top')
WAYS = {
    'solved head': dict(recipe='probe'),
    'whole network': dict(recipe='finetune'),
    'above a cut': top,
    'above a cut, plain maps': dict(top, copies=0),
    'above a cut, 1 copy': dict(top, copies=1),
    'above a cut, 2 copies': dict(top, copies=2),
    'above a cut, 4 copies': dict(top, copies=4),
    'above a cut, 6 epochs': dict(top, epochs=6, lr=1e-4),
    'above a cut, 15 epochs': dict(top, epochs=15),
    'above a cut, larger steps': dict(top, epochs=6, lr=3e-4),
    'behind the fourth block': dict(top, cut='blocks.3'),
    'behind the fifth block': dict(top, cut='blocks.4'),
    'behind the sixth block': dict(top, cut='blocks.5'),
}

def one(cat, way, seed, arch, rows, size):
    "One training: seconds of it, of the clock and of the processor, and a 1 for each row that is right"
    clock,cpu = time.perf_counter(),time.process_time()
    learn = train(cat, arch=arch, seed=seed, size=size, cache_pixels=True, **WAYS[way])
    res = dict(wall=round(time.perf_counter()-clock, 1), cpu=round(time.process_time()-cpu, 1))
    preds = learn.predictions(cat.where(split=rows))
    right = preds.probs.argmax(1)==preds.y
    return dict(res, accuracy=round(float(right.mean()), 4), n=len(preds), cut=learn.run_info.settings.get('cut') or '', right=''.join('x' if o else '.' for o in right))

def row_scores(df):
    "The share of seeds in which each row is right"
    return np.array([[o=='x' for o in r] for r in df['right']]).mean(0)

def report(df, base='solved head'):
    "A line for each way: accuracy, and the difference to the solved head and to the whole network, row by row, with 95 % intervals"
    means = {w: row_scores(df[df['way']==w]) for w in dict.fromkeys(df['way'])}
    pm = lambda d: f'{d.mean():+.3f} [{d.mean()-mean_interval(d):+.3f}, {d.mean()+mean_interval(d):+.3f}]'
    print(f'{"way":28s} accuracy                 against the solved head     against the whole network   CPU s  wall s')
    for w,m in means.items():
        g,half = df[df['way']==w],mean_interval(m)
        against = [pm(m-means[o]) if o in means and o!=w else '' for o in (base,'whole network')]
        print(f'{w:28s} {m.mean():.3f} [{m.mean()-half:.3f}, {m.mean()+half:.3f}]   {against[0]:27s} {against[1]:27s} {g["cpu"].mean():5.0f}  {g["wall"].mean():5.0f}')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--csv', type=Path, help='a csv of file,label; drawn posters if not given')
    p.add_argument('--target', help="what is learned: 'decade', say; the label if not given")
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--size', type=int, nargs=2, default=(256,176), help='height and width')
    p.add_argument('--seeds', type=int, default=1)
    p.add_argument('--ways', nargs='+', default=['solved head','whole network','above a cut'], choices=list(WAYS), metavar='NAME', help=', '.join(WAYS))
    p.add_argument('--rows', default='valid', choices=['valid','test'])
    p.add_argument('--out', default='top.csv')
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        cat = result_catalog(a.csv or make_sample(Path(tmp), n=120, seed=1).where(kind='clean'))
        if a.target: cat = cat.with_target(a.target)
        print(split_text(cat), f'{os.cpu_count()} cores', flush=True)
        settings = grid(seeds=range(a.seeds), way=a.ways, arch=[a.arch], rows=[a.rows], size=[f'{a.size[0]}x{a.size[1]}'], catalog=[cat.hash])
        exp = Experiments(a.out).run(settings, lambda way, seed, **_: one(cat, way, seed, a.arch, a.rows, tuple(a.size)))
        report(exp.rows(settings))

if __name__=='__main__': main()
