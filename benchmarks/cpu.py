"""What a CPU makes of one network: posters a second of plain fastai, of the way before (NCHW, batches of 64, memory given back) and of this package,
for files one by one, many files, features, and the two stages of `fine_tune`. `python benchmarks/cpu.py [--isa avx2] [--threads 1] [--posters FOLDER]`

Three processes take turns, since memory that is kept (`keep_memory`) cannot be given back: `fastai` and the predictions of `before` run where it is not,
`before` trains and extracts features where it is, as it did. Each task is done once to warm up, then once a round. Each figure is the median of the
rounds; ratios are taken within a round. --isa avx2 shows a processor without AVX-512, on one that has it."""
import argparse, json, os, statistics, subprocess, sys, tempfile, time
from functools import partial
from pathlib import Path

tasks = { # by what is done, and by whom
    'one file at a time': ('fastai','before','ours'), 'many files': ('fastai','before','ours'), 'rows by the learner': ('fastai','before','ours'),
    'features': ('before','ours'), 'fine_tune(1)': ('fastai','before','ours')}
kept = {'features','fine_tune(1)','rows by the learner'} # where the way before kept its memory

def prepare(posters, n, folder):
    "A catalog of `n` posters with a split, three of four to train on: its csv and the folder of its files"
    from genre_fastai.catalog.core import Catalog
    from genre_fastai.catalog.sources import catalog_from
    from genre_fastai.sample.dataset import make_sample
    cat = catalog_from(posters).ok if posters else make_sample(folder/'posters', n=3*n, seed=1).where(kind='clean')
    cat = Catalog(cat.df.sample(min(n, len(cat)), random_state=1), cat.path)
    cat = cat.assign(split=['valid' if i%4==3 else 'train' for i in range(len(cat))])
    (folder/'catalog.csv').write_text(cat.to_csv(), encoding='utf-8')
    return str(cat.path), len(cat)

# --- one function a task and a way; each gives a function without arguments and the number of posters that it goes over

def theirs(cat, arch, size, bs):
    "A Learner as a user of fastai makes it"
    from fastai.vision.all import ImageDataLoaders, Resize, accuracy, vision_learner
    from genre_fastai.vision.augment import poster_tfms
    import torchvision
    df = cat.df.assign(is_valid=cat.df['split']=='valid')
    dls = ImageDataLoaders.from_df(df, cat.path, fn_col='file', label_col='label', valid_col='is_valid', bs=bs, item_tfms=Resize(size, method='squish'), batch_tfms=poster_tfms(), num_workers=0)
    return vision_learner(dls, getattr(torchvision.models, arch, arch), pretrained=False, metrics=accuracy)

def fastai_way(task, cat, arch, size, bs, **_):
    learn = theirs(cat, arch, size, bs)
    files = list(cat.files)
    def one():
        for f in files[:24]: learn.predict(f)
    def many(): learn.get_preds(dl=learn.dls.test_dl(cat.df, bs=64))
    return {'one file at a time': (one, 24), 'many files': (many, len(files)), 'rows by the learner': (many, len(files)), 'fine_tune(1)': (lambda: learn.fine_tune(1), 2*len(files))}[task]

def before_predict(model, files, size, stats):
    "Every file decoded twice, NCHW, 64 a batch"
    import numpy as np, torch
    from PIL import Image
    def pixels(f): return torch.from_numpy(np.array(Image.open(f).convert('RGB').resize(size[::-1], Image.BILINEAR))).permute(2,0,1)
    mean,std = (torch.tensor(o).view(3,1,1) for o in stats)
    for f in files: Image.open(f).load()
    with torch.inference_mode():
        for i in range(0, len(files), 64): model(((torch.stack([pixels(f) for f in files[i:i+64]]).float()/255-mean)/std).contiguous()).softmax(1)

def ours_learner(cat, arch, size, bs):
    from genre_fastai.train.learner import poster_learner
    from genre_fastai.vision.data import get_dls
    return poster_learner(get_dls(cat, bs=bs, size=size), arch)

def ours_model(cat, arch, size):
    "A saved model with the body's pretrained weights"
    import genre_fastai.deploy.folder as folder
    from genre_fastai.vision.models import poster_model
    model,net,_ = poster_model(arch, len(cat.classes), size=size)
    return folder.Predictor(model, dict(arch=arch, vocab=cat.classes, multi=cat.multi, size=size, method='squish', stats=[list(o) for o in net.stats]))

def our_way(task, cat, arch, size, bs, before):
    files = list(cat.files)
    if task in ('one file at a time', 'many files'):
        m,fs = ours_model(cat, arch, size), files[:24] if task=='one file at a time' else files
        f = (lambda fs: before_predict(m.model, fs, size, m.config['stats'])) if before else m.predict
        return (lambda: [f([o]) for o in fs]) if task=='one file at a time' else (lambda: f(fs)), len(fs)
    if before: # whole batches, and features in NCHW
        from genre_fastai.vision import inference
        inference.block_rows = lambda x: len(x)
    if task=='features': return features(cat, arch, size, before), len(files)
    learn = ours_learner(cat, arch, size, bs)
    if task=='fine_tune(1)': return lambda: learn.fine_tune(1), 2*len(files)
    if before: return lambda: learn.get_preds(dl=learn.dls.test_dl(cat)), len(files)
    return lambda: learn.predictions(cat), len(files)

def features(cat, arch, size, before):
    from genre_fastai.features import extract
    from genre_fastai.vision.data import image_dl
    from genre_fastai.vision.weights import load_pretrained
    import numpy as np, torch
    net = load_pretrained(arch)
    f = extract.pooled_body(net)
    dl = image_dl(cat.files, size, stats=net.stats, bs=32)
    def go():
        with torch.no_grad(): np.concatenate([(f.f if before else f)(x).float().numpy() for x, in dl])
    return go

def worker(csv, path, arch, size, bs, threads, keeps):
    "Do what the lines of stdin ask for, and write seconds, seconds of the processor, and posters"
    import torch, fastprogress.fastprogress as fp, warnings
    warnings.simplefilter('ignore')
    out,sys.stdout = sys.stdout,open(os.devnull, 'w')
    fp.NO_BAR = True
    from genre_fastai import core
    from genre_fastai.catalog.core import read_catalog
    import genre_fastai.features.extract, genre_fastai.train.learner, genre_fastai.vision.inference, genre_fastai.vision.data
    if threads: torch.set_num_threads(threads)
    core.keep_memory() if keeps else None
    if not keeps: # nobody of this process may change how memory is handled
        for m in (core, genre_fastai.vision.inference, genre_fastai.vision.data, genre_fastai.train.learner, genre_fastai.features.extract): m.keep_memory = lambda: False
    cat,made = read_catalog(csv, path), {}
    def run(f):
        wall,cpu = time.perf_counter(),time.process_time()
        f()
        return time.perf_counter()-wall, time.process_time()-cpu
    for line in sys.stdin:
        task,who = json.loads(line)
        way = partial(fastai_way, task) if who=='fastai' else partial(our_way, task, before=who=='before')
        new = (task,who) not in made
        if new: made[task,who] = way(cat=cat, arch=arch, size=size, bs=bs)
        f,n = made[task,who]
        if new: run(f)
        print(json.dumps([*run(f), n, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]), file=out, flush=True)

def start(args, keeps):
    return subprocess.Popen([sys.executable, '-W', 'ignore', __file__, '--worker', json.dumps(dict(args, keeps=keeps))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

def ask(p, *what):
    p.stdin.write(json.dumps(what)+'\n')
    p.stdin.flush()
    if line := p.stdout.readline(): return json.loads(line)
    sys.exit(f'{what} failed, see above')

def main(a, folder):
    path,n = prepare(a.posters, a.n, folder)
    args = dict(csv=str(folder/'catalog.csv'), path=path, arch=a.arch, size=a.size, bs=a.bs, threads=a.threads)
    workers = dict(plain=start(args, False), before=start(args, True), ours=start(args, True))
    where = lambda task,who: 'ours' if who=='ours' else 'before' if who=='before' and task in kept else 'plain'
    for task,whos in tasks.items():
        if a.tasks and task not in a.tasks: continue
        got = {w:[] for w in whos}
        for _ in range(a.rounds):
            for w in whos: got[w].append(ask(workers[where(task, w)], task, w))
        for w,rs in got.items():
            mid = lambda i: statistics.median(r[i]/r[2] for r in rs)
            ratio = '' if w=='ours' else '; ours {:.1f} times as fast ({:.1f} to {:.1f}), {:.1f} of the processor'.format(
                *(f([r[0]/r[2]/(o[0]/o[2]) for r,o in zip(rs, got['ours'])]) for f in (statistics.median, min, max)), statistics.median(r[1]/r[2]/(o[1]/o[2]) for r,o in zip(rs, got['ours'])))
            print(f'{task:20s} {w:7s} {1/mid(0):7.1f} posters/s, {mid(1)*1000:6.1f} ms of the processor each{ratio}', flush=True)
    print(f'{a.arch}, {a.size[0]} x {a.size[1]}, {rs[0][3]}, {rs[0][4]} threads, {n} posters, {a.rounds} rounds')
    for p in workers.values(): p.stdin.close(); p.wait()

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--isa', choices=['avx2'], help='hold torch and oneDNN to these instructions')
    ap.add_argument('--posters', help='folder or csv of real posters; drawn ones if not given')
    ap.add_argument('--n', type=int, default=192)
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--threads', type=int, help="torch's own number if not given")
    ap.add_argument('--arch', default='tf_efficientnet_lite0')
    ap.add_argument('--size', type=int, nargs=2, default=[256,176])
    ap.add_argument('--bs', type=int, default=32)
    ap.add_argument('--tasks', nargs='+', choices=list(tasks))
    ap.add_argument('--worker', help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.worker: worker(**json.loads(a.worker)); sys.exit()
    if a.isa: os.environ |= dict(ATEN_CPU_CAPABILITY=a.isa, ONEDNN_MAX_CPU_ISA=a.isa.upper())
    with tempfile.TemporaryDirectory() as tmp:
        os.environ['XDG_CACHE_HOME'] = f'{tmp}/cache' # pixels of an earlier run would spare the decoding
        main(a, Path(tmp))
