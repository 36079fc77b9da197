"What `keep_memory` is worth on this machine: seconds of a training epoch with and without, alternating, one process each"
import argparse, json, subprocess, sys

def epoch(keep, bf16, n):
    "Seconds of one unfrozen epoch on drawn posters, after one to warm up"
    import tempfile, time
    import fastprogress.fastprogress as fp
    from genre_fastai import data, learner
    from genre_fastai.catalog.splits import split
    from genre_fastai.vision.data import get_dls
    from genre_fastai.sample.dataset import make_sample
    fp.NO_BAR = True
    if not keep: data.keep_memory = learner.keep_memory = lambda: False
    cat = split(make_sample(tempfile.mkdtemp(), n=n, seed=1).where(kind='clean'))
    learn = learner.poster_learner(get_dls(cat, seed=1), 'tf_efficientnet_lite0', precision='bf16' if bf16 else 'fp32')
    learn.unfreeze()
    with learn.no_logging(): learn.fit_one_cycle(1, 1e-3)
    start = time.perf_counter()
    with learn.no_logging(): learn.fit_one_cycle(1, 1e-3)
    return time.perf_counter()-start

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--n', type=int, default=300, help='posters to draw')
    ap.add_argument('--one', help='internal: one measurement, as JSON')
    args = ap.parse_args()
    if args.one: print(json.dumps(epoch(**json.loads(args.one), n=args.n))); sys.exit()
    for bf16 in (False, True):
        ratios = []
        for _ in range(args.rounds):
            a,b = (float(subprocess.run([sys.executable, __file__, '--n', str(args.n), '--one', json.dumps(dict(keep=k, bf16=bf16))], check=True, capture_output=True, text=True).stdout.splitlines()[-1]) for k in (False, True))
            ratios.append(a/b)
            print(f'{"bfloat16" if bf16 else "float32":9s} without {a:5.1f} s, with {b:5.1f} s, ratio {a/b:.2f}', flush=True)
        print(f'{"bfloat16" if bf16 else "float32":9s} ratio {min(ratios):.2f} to {max(ratios):.2f}')
