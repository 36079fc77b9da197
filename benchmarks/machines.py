"""When to leave one machine: rows a second of each stage, on one machine and by Ray with so many workers on the same machine, in alternating rounds.

    python benchmarks/machines.py [--rows 2000] [--rounds 3] [--workers 2] [--latency 30] [--out results]

`download`: addresses of a loopback server (that of download.py: JPEGs of about 45 KB, `--latency` milliseconds before each answer) to checked files.
`catalog`: those files verified, fingerprinted, without duplicates, split. `features`: 2,560 numbers a poster by EfficientNet-Lite0. `predict`: a csv of
answers by a model folder with that body. `start`: seconds until the engine takes work; imports do not count. Every run is a process of its own with a
fresh cache folder, so nothing is known beforehand. Workers share the processors of the machine with everything else, so this says what the engine
costs and not what a second machine gains. Each run is appended to machines.csv in the folder of `--out`."""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path
import pandas as pd
import pipeline

stages = 'download','catalog','features','predict'

def run(engine, folder, workers):
    "All stages one after the other; seconds of each"
    from genre_fastai.engines import connect_ray
    from genre_fastai.catalog.build import build_catalog
    from genre_fastai.collect.download import download_posters
    from genre_fastai.deploy.batch import predict_stream
    from genre_fastai.deploy.folder import load_predictor, save_predictor
    from genre_fastai.features.extract import extract_features
    from genre_fastai.train.recipes import train
    urls,took = pd.read_csv(folder/'urls.csv'), {}
    def timed(name, f):
        start = time.perf_counter()
        res = f()
        took[name] = time.perf_counter()-start
        return res
    if engine=='ray': timed('start', lambda: connect_ray(workers))
    got = timed('download', lambda: download_posters(urls, folder/'posters', allow_private=True, progress=False, engine=engine))
    cat = timed('catalog', lambda: build_catalog(got, progress=False, engine=engine))
    timed('features', lambda: extract_features(cat.ok, progress=False, engine=engine))
    model = folder/'model'
    save_predictor(train(cat, recipe='probe', arch='tf_efficientnet_lite0'), model)
    files = [str(o) for o in cat.ok.files]
    os.environ['XDG_CACHE_HOME'] = str(folder/'cache2') # what the features found is not known to the model
    timed('predict', lambda: [0 for _ in predict_stream(load_predictor(model), files, engine=engine)])
    rows = dict(download=len(urls), catalog=len(got), features=len(cat.ok), predict=len(files))
    print(json.dumps([dict(stage=k, rows=rows.get(k, 0), seconds=round(v, 3)) for k,v in took.items()]))

def one(engine, server, workers):
    "A run in a process of its own"
    with tempfile.TemporaryDirectory() as tmp:
        pipeline.table(server.listing()).to_csv(f'{tmp}/urls.csv', index=False)
        env = {**os.environ, 'XDG_CACHE_HOME': f'{tmp}/cache', 'TORCH_HOME': os.environ.get('TORCH_HOME', str(Path.home()/'.cache/torch'))}
        res = subprocess.run([sys.executable, __file__, '--run', engine, tmp, '--workers', str(workers)], capture_output=True, text=True, env=env)
        if res.returncode: sys.exit(f'{engine} failed:\n{res.stdout[-2000:]}\n{res.stderr[-2000:]}')
        return json.loads(res.stdout.strip().splitlines()[-1])

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for o,d in (('rows',2000), ('rounds',3), ('workers',2), ('latency',30)): p.add_argument(f'--{o}', type=int, default=d)
    p.add_argument('--out', default='results')
    p.add_argument('--run', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.run: return run(a.run[0], Path(a.run[1]), a.workers)
    found,out = [], Path(a.out)/'machines.csv'
    with tempfile.TemporaryDirectory() as tmp, pipeline.Server(a.rows, a.latency, tmp) as server:
        for r in range(a.rounds):
            for e in ('local','ray') if r%2==0 else ('ray','local'):
                found += [dict(engine=e, round=r, workers=a.workers if e=='ray' else 1, cores=os.cpu_count(), **o) for o in one(e, server, a.workers)]
                print(r, e, {o['stage']: o['seconds'] for o in found[-5:] if o['engine']==e}, flush=True)
    df = pd.DataFrame(found)
    df.to_csv(out, mode='a', header=not out.is_file(), index=False)
    rate = df[df['rows']>0].assign(rate=lambda d: d['rows']/d['seconds']).groupby(['stage','engine'], sort=False)['rate'].median().unstack()
    print(rate.round(1).assign(ratio=(rate['ray']/rate['local']).round(2)).to_string())

if __name__=='__main__': main()
