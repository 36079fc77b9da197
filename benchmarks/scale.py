"""A catalog that grows: near-duplicates among N fingerprints, and N rows of a catalog as csv and as parquet. `python benchmarks/scale.py
[--fingerprints 1000000] [--rows 1000000] [--thumbnails 50000] [--probes 8] [--tree] [--seed 0]`

`--fingerprints` makes so many of random pictures (low frequencies strongest, as in posters), of which every hundredth is a planted copy (at a distance of .05 to .4; half of
them mirrored), and prints seconds to build the index and to search all of them in it, the peak of memory of the process, and the share of copies found. `--tree` does the
same with the kd-tree that smaller catalogs use. `--thumbnails` measures the whole of `candidates` (36 windows of each poster, mirrored too) on so many random thumbnails,
with planted crops. `--rows` measures a catalog of so many rows: write and read, as csv and as parquet, and through `iter_catalog(...).split().save(...)`; each in a process of
its own, so that its memory is its own."""
import argparse, os, resource, subprocess, sys, tempfile, time
from pathlib import Path
import numpy as np

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

def timed(what, f):
    start = time.perf_counter()
    res = f()
    print(f'{what:<46} {time.perf_counter()-start:9.1f} s   peak {peak():8,.0f} MB', flush=True)
    return res

def made(n, seed):
    "Fingerprints, and for the last hundredth of them the rows that they are copies of"
    from genre_fastai.catalog.duplicates import n_cos
    rng = np.random.default_rng(seed)
    u,v = np.divmod(np.arange(1, n_cos**2), n_cos)
    scale = (1/(1+u*u+v*v)**.5).astype(np.float32)
    X = np.empty((n,n_cos**2-1), np.float32)
    for i in range(0, n, 100_000): X[i:i+100_000] = rng.standard_normal((min(100_000, n-i), len(u)), dtype=np.float32)*scale
    unit = lambda A: A/np.linalg.norm(A, axis=1, keepdims=True)
    for i in range(0, n, 100_000): X[i:i+100_000] = unit(X[i:i+100_000])
    k = n//100
    of = rng.choice(n-k, k, replace=False)
    flip = np.where(v%2, -1, 1).astype(np.float32)
    noise = unit(rng.standard_normal((k, len(u)), dtype=np.float32)*scale)*rng.uniform(.05, .4, (k,1)).astype(np.float32)
    copies = unit(X[of]+noise)
    copies[::2] *= flip
    X[n-k:] = copies
    return X,of,flip

def recall(pairs, of, n): return len(set(map(tuple, np.sort(pairs, 1).astype(int))) & set(zip(of.tolist(), range(n-len(of), n))))/len(of)

def fingerprints(n, probes, seed, tree):
    from genre_fastai.catalog.ivf import CellIndex
    from genre_fastai.parallel import n_cpus
    X,of,flip = timed(f'{n:,} fingerprints made ({n_cpus()} threads)', lambda: made(n, seed))
    if tree: found = timed('kd-tree: all pairs', lambda: by_tree(X, flip))
    else:
        index = timed('index', lambda: CellIndex(X))
        found = timed(f'search, {probes} of {index.cells} cells', lambda: by_cells(index, X, flip, probes))
    print(f'{len(found):,} pairs, {recall(found, of, n):.4f} of {len(of):,} planted copies among them', flush=True)

def by_cells(index, X, flip, probes, k=6, chunk=65_536):
    "As `candidates` does it for large catalogs, of the whole pictures alone: each asks as it is and mirrored, in threads"
    from threadpoolctl import threadpool_limits
    from genre_fastai.parallel import map_rows
    def found(i):
        res = []
        for Q in (X[i:i+chunk], X[i:i+chunk]*flip):
            q,b,_ = index.search(Q, k+1, probes=probes)
            res.append(np.column_stack([np.minimum(q+i, b), np.maximum(q+i, b)])[q+i!=b])
        return np.concatenate(res)
    with threadpool_limits(1, 'blas'): return np.unique(np.concatenate(map_rows(found, range(0, len(X), chunk))), axis=0)

def by_tree(X, flip, k=6):
    "As `candidates` does it for small catalogs, of the whole pictures alone"
    from scipy.spatial import cKDTree
    proj = np.linalg.svd(X[:50_000]-X[:50_000].mean(0), full_matrices=False)[2][:12].T
    tree = cKDTree(np.concatenate([X@proj, (X*flip)@proj]))
    res = []
    for i in range(0, len(X), 4096):
        Q = X[i:i+4096]
        j = tree.query(Q@proj, k=k+1, distance_upper_bound=.3, eps=1, workers=-1)[1]
        q,c = np.nonzero(j<2*len(X))
        b = j[q,c]
        d = np.linalg.norm(Q[q]*np.where((b>=len(X))[:,None], flip, 1)-X[b%len(X)], axis=1)
        res.append(np.column_stack([q+i, b%len(X)])[(d<.45) & (q+i!=b%len(X))])
    return np.concatenate(res)

def thumbnails(n, seed):
    "The whole of `candidates`, on random thumbnails of which every hundredth is a crop of another"
    from PIL import Image
    from genre_fastai.catalog.duplicates import candidates
    from genre_fastai.measure import thumb_h, thumb_w
    rng = np.random.default_rng(seed)
    T = np.empty((n,thumb_h,thumb_w), np.uint8)
    for i in range(n): T[i] = Image.fromarray(rng.integers(0, 256, (8,6), dtype=np.uint8)).resize((thumb_w,thumb_h), Image.BICUBIC)
    k = n//100
    of = rng.choice(n-k, k, replace=False)
    for j,i in enumerate(of, n-k): T[j] = Image.fromarray(T[i]).resize((thumb_w,thumb_h), Image.BILINEAR, (3, 4, thumb_w-3, thumb_h-4))
    found = timed(f'candidates of {n:,} thumbnails', lambda: candidates(T))
    print(f'{len(found):,} candidates, {recall(found[:,1:3], of, n):.4f} of {k:,} planted crops among them', flush=True)

# --- the table

def table(n, folder):
    import hashlib, pandas as pd
    from genre_fastai.catalog.arrow import write_parquet
    from genre_fastai.core import csv_text
    def part(i, m):
        sha = [hashlib.sha256(str(j).encode()).hexdigest() for j in range(i, i+m)]
        return pd.DataFrame(dict(id=[o[:16] for o in sha], file=[f'{j//1000:05}/{j:09}.jpg' for j in range(i, i+m)], label=[('drama','comedy','horror','romance')[int(o[0], 16)//4] for o in sha],
            url=[f'https://image.example/t/p/w500/{o[20:47]}.jpg' for o in sha], sha256=sha, width='500', height='750', mode='RGB', status='ok', imdb_id=[f'tt{j//2+1:07}' for j in range(i, i+m)]))
    parts = lambda: (part(i, min(100_000, n-i)) for i in range(0, n, 100_000))
    timed('write parquet', lambda: write_parquet(parts(), folder/'c.parquet'))
    def csv():
        with open(folder/'c.csv', 'w') as f:
            for i,o in enumerate(parts()): f.write(csv_text(o) if not i else csv_text(o).partition('\n')[2])
    timed('write csv', csv)
    for f in ('c.parquet','c.csv'): print(f'{f}: {(folder/f).stat().st_size/1e6:,.0f} MB')

def one(what, folder):
    from genre_fastai.catalog.parquet import iter_catalog
    from genre_fastai.catalog.core import read_catalog
    jobs = {'read csv whole': lambda: read_catalog(folder/'c.csv'), 'read parquet whole': lambda: read_catalog(folder/'c.parquet'),
        'counts of two columns, csv, 100,000 a time': lambda: iter_catalog(folder/'c.csv', columns=['label']).counts('label','status'),
        'counts of two columns, parquet, 100,000 a time': lambda: iter_catalog(folder/'c.parquet', columns=['label']).counts('label','status'),
        'split and save, 100,000 a time': lambda: iter_catalog(folder/'c.parquet').split().save(folder/'split'),
        'split and save, 10,000 a time': lambda: iter_catalog(folder/'c.parquet', rows=10_000).split().save(folder/'split10')}
    if what is None: return list(jobs)
    timed(what, jobs[what])

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for o,d in (('fingerprints',0), ('rows',0), ('thumbnails',0), ('probes',8), ('seed',0)): p.add_argument(f'--{o}', type=int, default=d)
    p.add_argument('--tree', action='store_true')
    p.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one: return one(a.one[0], Path(a.one[1]))
    if a.fingerprints: fingerprints(a.fingerprints, a.probes, a.seed, a.tree)
    if a.thumbnails: thumbnails(a.thumbnails, a.seed)
    if a.rows:
        with tempfile.TemporaryDirectory() as t:
            table(a.rows, Path(t))
            for o in one(None, Path(t)): subprocess.run([sys.executable, __file__, '--one', o, t], check=True)
    if not (a.fingerprints or a.thumbnails or a.rows): p.print_help()

if __name__=='__main__': main()
