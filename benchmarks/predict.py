"""From image files to predictions, end to end, by ways that take turns: plain fastai (`learn.predict` in a loop, `learn.get_preds` of a `test_dl`), ours
(`predict_stream`, in float32 and in the precision that the device gains from, and `Predictor.predict`), ours by `OnnxPredictor`, and onnxruntime with
Pillow by hand, of the same network. `python benchmarks/predict.py [--csv FILE] [--n 200] [--rounds 5] [--threads 2] [--ways loop,test_dl,...]
[--stream 100000] [--isa avx2] [--no-imports] [--no-serve]`

Without --csv it takes romance_horror_superhero.csv of GENRE_POSTERS, or draws posters where that is not set. A round has every way once, in an order that
moves on; what is printed is the median of seconds and of files a second, and the median of the ratios to `loop` and `test_dl` in the same round. `--isa
avx2` keeps PyTorch from AVX-512 and bfloat16. `--stream` asks for so many rows, the same files again and again, and prints the memory at each tenth."""
import argparse, itertools, os, resource, statistics, subprocess, sys, tempfile, time
from pathlib import Path

def made(csv, n, folder):
    "Files, a learner, its folder, its .onnx file, and the network alone as an .onnx file that takes normalised batches of one"
    import torch
    from genre_fastai.catalog.core import read_catalog
    from genre_fastai.core import posters_path
    from genre_fastai.deploy.folder import save_predictor
    from genre_fastai.deploy.onnx import export_onnx
    from genre_fastai.sample.dataset import make_sample
    from genre_fastai.train.learner import poster_learner
    from genre_fastai.vision.data import get_dls
    source = csv or (posters_path() and posters_path()/'romance_horror_superhero.csv')
    cat = read_catalog(source).ok if source else make_sample(folder/'drawn', max(2*n, 40), size=(500,750)).where(kind='clean')
    cat = cat.assign(split=['valid' if i%5==0 else 'train' for i in range(len(cat))])
    learn = poster_learner(get_dls(cat, bs=16, num_workers=0), 'tf_efficientnet_lite0', precision='fp32')
    save_predictor(learn, folder/'model')
    export_onnx(folder/'model', folder/'model.onnx')
    net = learn.model.cpu().eval()
    torch.onnx.export(net, (torch.zeros(1, 3, *learn_size(learn)),), folder/'net.onnx', dynamo=True, verbose=False, input_names=['x'], output_names=['y'])
    return list(itertools.islice(itertools.cycle(cat.files), n)), learn

def learn_size(learn):
    from genre_fastai.train.learner import dls_shape
    return dls_shape(learn.dls)[0]

def plain(learn, cat_files):
    "The same network as a Learner of plain fastai's loaders"
    from fastai.vision.all import CategoryBlock, CrossEntropyLossFlat, ImageDataLoaders, Learner, Normalize, Resize
    size,stats = learn_size(learn), learn.run_info.pretrained.stats
    files = cat_files[:8]
    dls = ImageDataLoaders.from_lists('/', files, [learn.dls.vocab[i%len(learn.dls.vocab)] for i in range(len(files))], valid_pct=.5, bs=64, num_workers=0, y_block=CategoryBlock(learn.dls.vocab),
        item_tfms=Resize(size, method='squish'), batch_tfms=Normalize.from_stats(*stats))
    return Learner(dls, learn.model, loss_func=CrossEntropyLossFlat())

def by_hand(file, size, stats):
    "onnxruntime and Pillow, as one writes it"
    import numpy as np, onnxruntime
    from PIL import Image
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    mean,std = (np.array(o, np.float32).reshape(3, 1, 1) for o in stats)
    def predict(files):
        res = []
        for f in files:
            x = np.asarray(Image.open(f).convert('RGB').resize(size[::-1], Image.BILINEAR), np.float32).transpose(2, 0, 1)/255
            y = session.run(None, dict(x=((x-mean)/std)[None]))[0][0]
            res.append(np.exp(y-y.max())/np.exp(y-y.max()).sum())
        return np.stack(res)
    return predict

def all_ways(files, learn, folder):
    "Name -> a function without arguments that gives the probabilities of all files"
    import numpy as np, torch
    from genre_fastai.deploy.batch import predict_stream
    from genre_fastai.deploy.folder import load_predictor
    from genre_fastai.deploy.onnx import OnnxPredictor
    from genre_fastai.vision.precision import has_bf16
    ours,half = load_predictor(folder/'model'), load_predictor(folder/'model').to_precision('auto')
    onnx,theirs = OnnxPredictor(folder/'model.onnx'), plain(learn, files)
    hand = by_hand(folder/'net.onnx', learn_size(learn), learn.run_info.pretrained.stats)
    def stream(m): return np.array([[o[v] for v in m.vocab] for o in predict_stream(m, files)], float)
    def loop():
        with theirs.no_bar(), theirs.no_logging(): return torch.stack([theirs.predict(f)[2] for f in files]).numpy()
    def test_dl():
        with theirs.no_bar(), theirs.no_logging(): return theirs.get_preds(dl=theirs.dls.test_dl(files))[0].numpy()
    ways = dict(loop=loop, test_dl=test_dl, stream=lambda: stream(ours), predict=lambda: ours.predict(files)[ours.vocab].to_numpy())
    if has_bf16(learn.dls.device): ways['stream_bf16'] = lambda: stream(half)
    return ways | dict(onnx=lambda: stream(onnx), hand=lambda: hand(files))

def rounds(ways, n_files, n):
    "Ways take turns; medians, ratios by round, and the largest difference of a probability to `stream`"
    import numpy as np
    said = {k:f() for k,f in ways.items()} # warm, and kept
    took = {k:[] for k in ways}
    for i in range(n):
        names = list(ways)
        for k in names[i%len(names):]+names[:i%len(names)]:
            start = time.perf_counter()
            ways[k]()
            took[k].append(time.perf_counter()-start)
    print('way           seconds  files/s' + ''.join(f'  x {o}' for o in ('loop','test_dl') if o in took) + '  largest difference')
    for k,v in took.items():
        ratios = ''.join(f'{statistics.median(a/b for a,b in zip(took[o], v)):{len(o)+4}.2f}' for o in ('loop','test_dl') if o in took)
        odd = f'{np.abs(said[k]-said["stream"]).max():.4f}' if 'stream' in said else ''
        print(f'{k:12s} {statistics.median(v):8.2f} {n_files/statistics.median(v):8.1f}{ratios}  {odd}', flush=True)

_imports = dict(fastai='from fastai.vision.all import *', folder='from genre_fastai.deploy.batch import *; from genre_fastai.deploy.folder import *',
    onnx='from genre_fastai.deploy.batch import *; from genre_fastai.deploy.onnx import *; import onnxruntime',
    hand='import numpy, onnxruntime; from PIL import Image', command='from genre_fastai.cli import main')

def imports(n):
    "Seconds of import in processes of their own"
    for k,code in _imports.items():
        code = f'import time; t = time.perf_counter(); exec({code!r}); print(time.perf_counter()-t)'
        took = [float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()[-1]) for _ in range(n)]
        print(f'import {k:8s} {statistics.median(took):.2f} s', flush=True)

def memory():
    "Megabytes that this process holds now (Linux), or held at most"
    try: return int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGE_SIZE')/1e6
    except OSError: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e3

def stream(model, files, n):
    "Memory over a stream of `n` rows"
    from genre_fastai.deploy.batch import predict_stream
    print(f'stream of {n:,} rows by {type(model).__name__}, MB at each tenth:', end='', flush=True)
    for i,_ in enumerate(predict_stream(model, itertools.islice(itertools.cycle(files), n)), 1):
        if i%max(1, n//10)==0: print(f' {memory():.0f}', end='', flush=True)
    print()

def served(model, file, n):
    "Milliseconds of the first and of later answers of the endpoint"
    from fastapi.testclient import TestClient
    from genre_fastai.deploy.serve import serve_app
    took = []
    with TestClient(serve_app(model, per_minute=10_000)) as client:
        for _ in range(n+1):
            start = time.perf_counter()
            res = client.post('/api/predict', files={'file': (Path(file).name, Path(file).read_bytes())})
            took.append(1000*(time.perf_counter()-start))
            assert res.status_code==200, res.text
    print(f'serve by {type(model).__name__}: first answer {took[0]:.0f} ms, then {statistics.median(took[1:]):.0f} ms', flush=True)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--csv'), p.add_argument('--isa'), p.add_argument('--ways')
    for k,v in dict(n=200, rounds=5, threads=0, stream=0).items(): p.add_argument(f'--{k}', type=int, default=v)
    for k in ('no-imports','no-serve'): p.add_argument(f'--{k}', action='store_true')
    a = p.parse_args()
    if a.isa: os.environ['ONEDNN_MAX_CPU_ISA'] = os.environ['ATEN_CPU_CAPABILITY'] = a.isa
    if a.threads: os.environ['OMP_NUM_THREADS'] = str(a.threads)
    if not a.no_imports: imports(a.rounds)
    from genre_fastai.deploy.open import open_predictor
    with tempfile.TemporaryDirectory() as d:
        files,learn = made(a.csv, a.n, folder := Path(d))
        ways = all_ways(files, learn, folder)
        rounds({k:ways[k] for k in (a.ways.split(',') if a.ways else ways) if k in ways}, a.n, a.rounds)
        for o in ('model','model.onnx'):
            model = open_predictor(str(folder/o))
            if a.stream: stream(model, files, a.stream)
            if not a.no_serve: served(model, files[0], a.rounds)
