"""From a csv of posters to figures, in a process of its own each time, imports included, nothing cached: `genre-fastai train --recipe probe`
(catalog, model folder, test accuracy with its interval) against plain fastai (`ImageDataLoaders.from_df`, `vision_learner` of the same body with the
same weights, `fine_tune(3)`, a validation accuracy). `python benchmarks/first.py [--csv FILE] [--n 600] [--rounds 3] [--isa avx2] [--threads 2]`

Without --csv it takes romance_horror_superhero.csv of GENRE_POSTERS, or draws posters where that is not set. `--isa avx2` keeps PyTorch from AVX-512
and bfloat16, as on many laptops. Rounds alternate; the ratio is that of the medians."""
import argparse, os, re, statistics, subprocess, sys, tempfile, time
from pathlib import Path

ours = 'from genre_fastai.cli import main; main()'
theirs = '''
import sys
import pandas as pd, timm, torch
from fastai.vision.all import *
csv,path,arch,weights = sys.argv[1:]
cfg = timm.get_pretrained_cfg(arch)
set_seed(42)
dls = ImageDataLoaders.from_df(pd.read_csv(csv), path, valid_pct=.2, seed=42, fn_col='file', label_col='label', item_tfms=Resize(224),
    batch_tfms=[*aug_transforms(), Normalize.from_stats(cfg.mean, cfg.std)])
learn = vision_learner(dls, arch, pretrained=False, metrics=accuracy, normalize=False)
learn.model[0].model.load_state_dict(torch.load(weights), strict=False) # without a hub: the same file as ours
learn.fine_tune(3)
print(f'accuracy {learn.validate()[1]:.4f}')
'''

def posters(csv, n, folder):
    "A csv with `file,label` of `n` posters, and the folder of the files"
    from genre_fastai.catalog.core import read_catalog
    from genre_fastai.core import posters_path
    from genre_fastai.sample.dataset import make_sample
    source = csv or (posters_path() and posters_path()/'romance_horror_superhero.csv')
    cat = read_catalog(source).ok if source else make_sample(folder/'drawn', n).where(original='')
    cat.df.sample(min(n, len(cat)), random_state=42)[['file','label']].to_csv(folder/'posters.csv', index=False)
    return folder/'posters.csv', cat.path

def weights(arch, file):
    "The pretrained tensors under timm's names"
    import torch
    from genre_fastai.vision.weights import load_pretrained
    net = load_pretrained(arch)
    torch.save({k:v for k,v in net.model.state_dict().items() if not k.startswith('classifier')}, file)
    return file

def run(code, args, folder, a):
    "Wall and CPU seconds of a process with empty caches, and what it printed"
    env = dict(os.environ, XDG_CACHE_HOME=tempfile.mkdtemp(dir=folder), OMP_NUM_THREADS=str(a.threads), PYTHONWARNINGS='ignore')
    if a.isa=='avx2': env |= dict(ATEN_CPU_CAPABILITY='avx2', ONEDNN_MAX_CPU_ISA='AVX2')
    before,start = os.times(),time.perf_counter()
    res = subprocess.run([sys.executable, '-c', code, *map(str, args)], env=env, cwd=folder, capture_output=True, text=True)
    wall,after = time.perf_counter()-start, os.times()
    if res.returncode: sys.exit(res.stdout+res.stderr)
    return wall, after.children_user+after.children_system-before.children_user-before.children_system, res.stdout

def said(out):
    "The last figures that were printed"
    found = [re.findall(rf'^{k}\s+([0-9.]+)', out, re.M) for k in ('accuracy','low','high')]
    return ' '.join(o[-1] for o in found if o)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--csv', type=Path)
    p.add_argument('--n', type=int, default=600)
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--isa', choices=['native','avx2'], default='native')
    p.add_argument('--only', choices=['ours','fastai'])
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        csv,path = posters(a.csv and a.csv.resolve(), a.n, Path(d))
        ways = dict(ours=lambda: run(ours, ['train', csv, '--path', path.resolve(), '--out', tempfile.mkdtemp(dir=d)+'/model', '--recipe', 'probe',
            '--arch', a.arch], d, a))
        if a.only!='ours':
            file = weights(a.arch, Path(d)/'weights.pth')
            ways['fastai'] = lambda: run(theirs, [csv, path.resolve(), a.arch, file], d, a)
        if a.only=='fastai': del ways['ours']
        got = {k:[] for k in ways}
        for i in range(a.rounds):
            for k,f in ways.items():
                wall,cpu,out = f()
                got[k].append((wall, cpu))
                print(f'round {i+1} {k:7s} {wall:6.1f} s, CPU {cpu:6.1f} s, accuracy {said(out)}', flush=True)
    mid = {k: [statistics.median(o) for o in zip(*v)] for k,v in got.items()}
    for k,(wall,cpu) in mid.items(): print(f'median  {k:7s} {wall:6.1f} s, CPU {cpu:6.1f} s')
    if len(mid)==2: print(f'fastai takes {mid["fastai"][0]/mid["ours"][0]:.1f} times as long, {mid["fastai"][1]/mid["ours"][1]:.1f} times the CPU')

if __name__=='__main__': main()
