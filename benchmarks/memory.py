"What `keep_memory` is worth on this machine: seconds of a training epoch with and without, alternating, one process each"
import argparse, json, subprocess, sys

def epoch(keep, bf16, n):
    "Seconds of one unfrozen epoch on drawn posters, after one to warm up"
    import tempfile, time
    import fastprogress.fastprogress as fp
    from genre_fastai import core
    if not keep: core.keep_memory = lambda: False # before the other modules take it from there
    import genre_fastai.catalog.splits # it gives a Catalog `split`
    from genre_fastai.sample.dataset import make_sample
    from genre_fastai.train import learner
    from genre_fastai.vision import data
    fp.NO_BAR = True
    cat = make_sample(tempfile.mkdtemp(), n=n, seed=1).where(kind='clean').split()
    learn = learner.poster_learner(data.get_dls(cat, seed=1), 'tf_efficientnet_lite0', precision='bf16' if bf16 else 'fp32')
    learn.unfreeze()
    with learn.no_logging(): learn.fit_one_cycle(1, 1e-3)
    start = time.perf_counter()
    with learn.no_logging(): learn.fit_one_cycle(1, 1e-3)
    return time.perf_counter()-start

def one(keep, bf16, n):
    "The same in a process of its own"
    cmd = [sys.executable, __file__, '--n', str(n), '--one', json.dumps(dict(keep=keep, bf16=bf16))]
    p = subprocess.run(cmd, capture_output=True, text=True)
    if p.returncode: sys.exit(f'{"with" if keep else "without"} failed:\n{p.stderr[-3000:]}')
    return float(p.stdout.splitlines()[-1])

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--n', type=int, default=300, help='posters to draw')
    ap.add_argument('--one', help='internal: one measurement, as JSON')
    args = ap.parse_args()
    if args.one: print(json.dumps(epoch(**json.loads(args.one), n=args.n))); sys.exit()
    from genre_fastai.vision.precision import has_bf16
    for bf16 in (False, True) if has_bf16() else (False,): # emulated bfloat16 is no measure
        ratios = []
        for _ in range(args.rounds):
            a,b = (one(keep, bf16, args.n) for keep in (False, True))
            ratios.append(a/b)
            print(f'{"bfloat16" if bf16 else "float32":9s} without {a:5.1f} s, with {b:5.1f} s, ratio {a/b:.2f}', flush=True)
        print(f'{"bfloat16" if bf16 else "float32":9s} ratio {min(ratios):.2f} to {max(ratios):.2f}')
