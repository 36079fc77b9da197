"""From addresses to a trained model: what the way costs, side by side with others and with another state of this package, in alternating rounds.

    python benchmarks/pipeline.py [--only addresses,folder,decodes,chain,share] [--rounds 3] [--n N] [--against CHECKOUT] [--posters FOLDER]

`addresses`: 2,000 addresses of a loopback server (that of download.py: JPEGs of about 45 KB, 30 ms before each answer; exact and near copies are
  planted) to a checked, deduplicated and split catalog. Ours is `download_posters` and `build_catalog`; the other is fastai's `download_images` and
  `verify_images`, imagededup's PHash (`encode_images`, `find_duplicates`) and fastai's `RandomSplitter`, in one process. imagededup and what it lacks
  goes into an environment of its own in the user's cache folder, made on the first run; it sees the packages of this one, so both tools run with the
  same fastai, Pillow and numpy. Defaults everywhere, but imagededup gets a process for each core and no progress bar. With `--faults 1` one
  address in seven is not plain, see download.py.
`folder`: all posters of a folder (GENRE_POSTERS, else drawn ones) to a catalog: the first time, again, with another seed, with another policy; each in
  a process of its own, one cache folder for the four. Seconds, posters a second, and how many pictures Pillow decoded.
`decodes`: no timing: how often a poster is decoded from its address to the cleaner's first page, stage by stage.
`chain`: addresses, catalog, `get_dls(cache_pixels=True)`, features, linear probe: seconds of the stages and in total.
`share`: `train(recipe='finetune', epochs=6)` on a catalog of 1,000 drawn posters: which share of the time is not forward and backward. What is
  called as a module counts as forward, losses and validation rows included; decoding, augmentation, optimizer and everything else does not.

`--against` names another checkout of this package, such as a git worktree of an older commit; `folder`, `chain` and `share` then run in both, by turns,
and `decodes` shows both. Every measurement is a process of its own, the clock stands around the calls, so imports do not count, and each round has a
fresh cache folder (XDG_CACHE_HOME), so that nothing is known beforehand. Temporary files lie in TMPDIR: a disk that writes slowly is measured too.
"""
import argparse, hashlib, json, os, platform, random, shutil, statistics, subprocess, sys, tempfile, time
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
import download

here,genres = Path(__file__).resolve().parent.parent, ['action','comedy','horror']

# ---- posters and their server
def near_copy(jpeg, kind):
    "The same picture in other bytes: compressed anew, smaller, or brighter"
    from PIL import Image
    im,b = Image.open(BytesIO(jpeg)), BytesIO()
    if kind=='smaller': im = im.resize((im.width*3//5, im.height*3//5), Image.Resampling.LANCZOS)
    if kind=='brighter': im = im.point(lambda o: min(255, int(o*1.1)))
    im.save(b, 'JPEG', quality=70 if kind=='compressed' else 45)
    return b.getvalue()

def make_posters(folder, n, seed=1, exact=.04, near=.06):
    "Write `n` posters, some of them copies of others; for each, the number of its original and the kind of copy"
    rng = random.Random(seed)
    n_exact,n_near = round(exact*n), round(near*n)
    n_own = n-n_exact-n_near
    parts = [(min(50, n_own-i), seed*1000+i) for i in range(0, n_own, 50)]
    with ProcessPoolExecutor() as ex: own = sum(ex.map(download.make_images, *zip(*parts)), [])
    kinds = ['']*n_own + ['exact']*n_exact + [rng.choice(['compressed','smaller','brighter']) for _ in range(n_near)]
    origin = [*range(n_own)] + rng.choices(range(n_own), k=n-n_own)
    order = rng.sample(range(n), n)
    for i,j in enumerate(order):
        jpeg = own[origin[j]]
        (folder/f'{i}.jpg').write_bytes(jpeg if kinds[j] in ('','exact') else near_copy(jpeg, kinds[j]))
    about = lambda i,j: dict(origin=origin[j], kind=kinds[j], label=genres[origin[j]%len(genres)], sha=sha(folder/f'{i}.jpg'))
    return [about(i, j) for i,j in enumerate(order)]

def serve(folder, latency):
    "The server of download.py with the posters of a folder, each with the bytes that it has there"
    n = len(list(Path(folder).glob('*.jpg')))
    images = [(Path(folder)/f'{i}.jpg').read_bytes() for i in range(n)]
    download.make_images,download.tagged = lambda: images, lambda jpeg, i: jpeg
    download.serve(latency)

class Server:
    "Posters behind addresses, for a `with` block"
    def __init__(self, n, latency, tmp): self.n,self.latency,self.tmp,self.seed = n, latency, Path(tmp), 0
    def __enter__(self):
        (folder := self.tmp/'posters').mkdir()
        self.truth = make_posters(folder, self.n)
        cmd = [sys.executable, __file__, '--serve', str(folder), '--latency', str(self.latency)]
        self.process = subprocess.Popen(cmd, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self
    def __exit__(self, *args): self.process.kill()

    def listing(self, faults=False):
        "New addresses of all posters, and the truth about each"
        self.seed += 1
        urls = download.make_list(self.port, self.n, faults, self.seed)
        truth = [self.truth[(self.seed*100_000+i)%self.n] for i in range(self.n)]
        return [dict(o, url=u, title=f'The Film {o["origin"]}', good=k not in download.BAD) for (k,u),o in zip(urls, truth)]

# ---- what is measured: each function runs in a process of its own, imports first, and gives what goes under the clock
def known(f, **kw):
    "Those arguments that this state of the package knows"
    import inspect
    return {k:v for k,v in kw.items() if k in inspect.signature(f).parameters}

class Clock:
    "Seconds of wall and processor and decoded pictures, by stage"
    def __init__(self, log): self.log,self.stages = Path(log), []
    def now(self): return time.perf_counter(), sum(os.times()[:4]), self.log.stat().st_size
    def __call__(self, name, f, *args, **kw):
        start = self.now()
        res = f(*args, **kw)
        self.stages.append((name, *(b-a for a,b in zip(start, self.now()))))
        return res

def spy(log):
    "From now on each picture that Pillow decodes, in this process or a child of it, is a byte in a file"
    from PIL import ImageFile
    fd,load = os.open(log, os.O_CREAT|os.O_WRONLY|os.O_APPEND), ImageFile.ImageFile.load
    def counted(self):
        if self.tile: os.write(fd, b'.')
        return load(self)
    ImageFile.ImageFile.load = counted

def table(rows):
    import pandas as pd
    return pd.DataFrame(rows)[['url','label','title']]

def ours(spec, clock):
    from genre_fastai.collect.download import download_posters
    from genre_fastai.catalog.build import build_catalog
    df = table(spec['rows'])
    def run():
        got = clock('download', download_posters, df, spec['to'], allow_private=True, progress=False)
        cat = clock('catalog', build_catalog, got, progress=False)
        at = dict(zip(df['url'], range(len(df))))
        return dict(kept=[at[o] for o in cat.ok.df['url']], splits=cat.ok.df['split'].value_counts().to_dict())
    return run

def sha(path): return hashlib.sha256(Path(path).read_bytes()).hexdigest()

def numbers(files, rows):
    "Which rows files with made-up names belong to, by their bytes"
    at = {}
    for i,o in enumerate(rows): at.setdefault(o['sha'], []).append(i)
    return [at[sha(o)].pop() for o in files]

def others(spec, clock):
    from fastai.vision.all import RandomSplitter, download_images, get_image_files, verify_images
    from imagededup.methods import PHash
    urls,to,n = [o['url'] for o in spec['rows']], Path(spec['to']), os.cpu_count()
    def verify(): verify_images(get_image_files(to)).map(Path.unlink)
    def dedupe():
        hasher = PHash(verbose=False)
        codes = hasher.encode_images(to, num_enc_workers=n)
        drop,found = set(), hasher.find_duplicates(encoding_map=codes, num_dist_workers=n)
        for k in codes: drop.update(() if k in drop else found[k])
        return [o for o in get_image_files(to) if o.name in codes and o.name not in drop]
    def run():
        clock('download', download_images, to, urls=urls, max_pics=len(urls))
        clock('verify', verify)
        files = clock('duplicates', dedupe)
        train,valid = clock('split', RandomSplitter(), files)
        return dict(kept=numbers(files, spec['rows']), splits=dict(train=len(train), valid=len(valid)))
    return run

def folder(spec, clock):
    from genre_fastai.catalog.build import build_catalog
    def run():
        cat = clock(spec['step'], build_catalog, Path(spec['folder']), progress=False, **spec['kw'])
        return dict(n=len(cat), ok=len(cat.ok), pairs=len(cat.pairs), splits=cat.ok.df['split'].value_counts().to_dict())
    return run

def probe(cat, feats):
    "Accuracy of the validation rows by a linear classifier of the training rows"
    from genre_fastai.features.probe import LinearProbe
    train,valid = (cat.ok.where(split=o) for o in ('train','valid'))
    p = LinearProbe().fit(feats.of(train).X, train.one_hot()).predict_proba(feats.of(valid).X)
    return float((p.argmax(1)==valid.one_hot().argmax(1)).mean())

def chain(spec, clock, rest=False):
    "The way from addresses to a solved classifier; `rest` adds two epochs and the cleaner's first page"
    from genre_fastai.collect.download import download_posters
    from genre_fastai.catalog.build import build_catalog
    from genre_fastai.vision.data import get_dls
    from genre_fastai.features.extract import extract_features
    from genre_fastai.features.probe import LinearProbe
    from sklearn.linear_model import LogisticRegression
    df,cache = table(spec['rows']), dict(cache_pixels=True)
    def run():
        got = clock('download', download_posters, df, spec['to'], allow_private=True, progress=False, **known(download_posters, **cache))
        cat = clock('catalog', build_catalog, got, progress=False, **known(build_catalog, **cache))
        dls = clock('get_dls(cache_pixels=True)', get_dls, cat, **cache)
        feats = clock('features', extract_features, cat, **known(extract_features, **cache))
        res = dict(ok=len(cat.ok), accuracy=clock('probe', probe, cat, feats))
        if rest: more(cat, dls, clock)
        return res
    return run

def decodes(spec, clock): return chain(spec, clock, rest=True)

def more(cat, dls, clock):
    "Two epochs of training, and the first page that the cleaner shows"
    from genre_fastai.train.learner import poster_learner
    from genre_fastai.clean.widget import ImageCleaner
    learn = poster_learner(dls, 'tf_efficientnet_lite0')
    with learn.no_bar(), learn.no_logging(): clock('two epochs', learn.fit, 2)
    def page():
        c = ImageCleaner(cat, Path(cat.path)/'cleaning.jsonl')
        m,_ = c.answer(dict(ask='page', view_id='a', seq=1))
        got,pictures = c.answer(dict(ask='pictures', ids=[o['id'] for o in m['rows']], view_id='a', seq=2))
        assert len(pictures)==len(m['rows']), got
        c.thumbs.pool.shutdown() # those of the next page
    clock("the cleaner's first page and the next", page)

def share(spec, clock):
    "Which functions the time of `finetune` goes to"
    from fastai.vision.all import Optimizer, torch
    from genre_fastai.catalog.build import build_catalog
    from genre_fastai.train.recipes import recipes, train
    cat = build_catalog(spec['source'], progress=False, seed=1)
    times = dict(forward=0., backward=0., step=0.)
    def timed(cls, name, kind):
        "The outermost calls count: modules are called by modules"
        f = getattr(cls, name)
        def g(*args, **kw):
            if timed.deep: return f(*args, **kw)
            timed.deep,start = True, time.perf_counter()
            try: return f(*args, **kw)
            finally: timed.deep,times[kind] = False, times[kind]+time.perf_counter()-start
        setattr(cls, name, g)
    timed.deep = False
    timed(torch.nn.Module, '__call__', 'forward')
    timed(torch.Tensor, 'backward', 'backward')
    for o in (Optimizer, *Optimizer.__subclasses__()):
        if 'step' in vars(o): timed(o, 'step', 'step')
    recipe = spec['recipe'] if spec['recipe'] in recipes else 'finetune'
    def run():
        learn = clock(recipe, train, cat, recipe, epochs=6, cache_pixels=True, arch='tf_efficientnet_lite0')
        return dict(times, n=len(cat.ok.where(split='train')), accuracy=learn.run_info.valid.get('accuracy'))
    return run

JOBS = dict(ours=ours, others=others, folder=folder, chain=chain, decodes=decodes, share=share)

def run_job(tmp):
    "Run one job in this process, and leave what is to be known in a file"
    tmp = Path(tmp)
    spec = json.loads((tmp/'spec.json').read_text())
    if repo := spec.get('repo'):
        sys.path.insert(0, repo)
        import genre_fastai
        if not Path(file := genre_fastai.__file__).resolve().is_relative_to(repo): sys.exit(f'genre_fastai is that of {file}, not of {repo}')
    (tmp/'decodes').touch()
    clock = Clock(tmp/'decodes')
    run = JOBS[spec['job']](spec, clock)
    spy(tmp/'decodes')
    res = run()
    res.update(zip(('seconds','cpu','decodes'), map(sum, list(zip(*clock.stages))[1:])), stages=clock.stages)
    (tmp/'result.json').write_text(json.dumps(res))

def one(job, cache, py=sys.executable, **spec):
    "Run one job once in a process of its own"
    real = Path(os.environ.get('XDG_CACHE_HOME') or Path.home()/'.cache')
    with tempfile.TemporaryDirectory() as tmp:
        (to := Path(tmp)/'to').mkdir()
        (Path(tmp)/'spec.json').write_text(json.dumps(dict(job=job, to=str(to), **spec)))
        env = dict(MPLCONFIGDIR=str(real/'matplotlib'), TORCH_HOME=str(real/'torch')) | os.environ | dict(XDG_CACHE_HOME=str(cache))
        out = subprocess.run([py, __file__, '--run', tmp], capture_output=True, text=True, env=env)
        if out.returncode: sys.exit(f'{job} failed:\n{out.stdout[-3000:]}\n{out.stderr[-3000:]}')
        return json.loads((Path(tmp)/'result.json').read_text())

def venv():
    "The Python of an environment with imagededup, which sees the packages of this one too"
    root = Path(os.environ.get('XDG_CACHE_HOME') or Path.home()/'.cache')/'genre_fastai'/'imagededup'
    py = str(root/('Scripts/python.exe' if os.name=='nt' else 'bin/python'))
    if not (root/'ready').exists():
        print('Making an environment for imagededup, once.', flush=True)
        make = [uv,'venv','-q','--seed','--clear',root,'-p',sys.executable] if (uv := shutil.which('uv')) else [sys.executable,'-m','venv','--clear',root]
        subprocess.run(make, check=True)
        paths = lambda p: subprocess.run([p, '-c', 'import sysconfig as s; print(s.get_path("purelib"), s.get_path("platlib"), sep="\\n")'],
            check=True, capture_output=True, text=True).stdout
        (Path(paths(py).split('\n')[0])/'beside.pth').write_text(paths(sys.executable))
        subprocess.run([py,'-m','pip','install','-qq','imagededup'], check=True)
        (root/'ready').touch()
    return py

# ---- the rows
def turns(names, rounds, f):
    "`f(name)` for each name in each round, the order turned round by round: a list of results for each name"
    res = {o: [] for o in names}
    for r in range(rounds):
        for name in names[::-1] if r%2 else names: res[name].append(f(name, r+1))
    return res

def verdict(what, a, b, first, second):
    "A line with the ratio of `b` to `a`, which are seconds of the rounds"
    ratios = [y/x for x,y in zip(a, b)]
    print(f'==> {what}: {first} {statistics.median(a):.2f} s, {second} {statistics.median(b):.2f} s (medians); ratio '
        f'{statistics.median(ratios):.1f} (rounds: {", ".join(f"{o:.1f}" for o in ratios)})', flush=True)

def stages(res): return ', '.join(f'{k} {s:.2f}' for k,s,*_ in res['stages'])

def states(args):
    "The checkouts to compare, by the names that are printed"
    return dict(ours=str(here), **({'before': str(Path(args.against).resolve())} if args.against else {}))

def judged(rows, kept):
    "What became of the planted copies and of the originals"
    kept,left = set(kept), {}
    for i in kept: left[rows[i]['origin']] = left.get(rows[i]['origin'], 0)+1
    came = {}
    for o in rows:
        if o['good']: came.setdefault(o['origin'], []).append(o)
    extra = sum(len(v)-1 for v in came.values())
    found = sum(len(v)-max(1, left.get(k, 0)) for k,v in came.items())
    return f'{found} of {extra} copies left out, {sum(k not in left for k in came)} of {len(came)} posters lost'

def addresses(args, tmp):
    py = {'ours': sys.executable, 'fastai + imagededup': venv()}
    with Server(args.n or 2000, args.latency, tmp) as site:
        def f(name, r):
            rows = site.listing(args.faults)
            with tempfile.TemporaryDirectory() as cache:
                res = one('ours' if name=='ours' else 'others', cache, py[name], rows=rows, **(dict(repo=str(here)) if name=='ours' else {}))
            print(f'addresses round {r} {name:20} {res["seconds"]:7.2f} s {len(rows)/res["seconds"]:6.0f}/s  {1000*res["cpu"]/len(rows):6.2f} ms of CPU',
                f'and {res["decodes"]/len(rows):.2f} decodes each  ({stages(res)});  {judged(rows, res["kept"])}; split {res["splits"]}', flush=True)
            return res['seconds']
        got = turns(list(py), args.rounds, f)
    verdict(f'addresses to a catalog, {site.n} posters{", faults" if args.faults else ""}', got['ours'], got['fastai + imagededup'], *py)

STEPS = dict(first={}, again={}, seed=dict(seed=43), policy=dict(policy=dict(grey='drop', blurry='drop')))

def drawn(n, tmp):
    "Files and labels of `n` drawn posters without faults"
    from genre_fastai.sample.dataset import make_sample
    cat = make_sample(tmp/'drawn', n=n+n//4+20, seed=1).where(kind='clean')
    return list(cat.files)[:n], list(cat.df['label'])[:n]

def own_copy(posters, n, tmp):
    "Folders of classes where nothing else touches them: the posters of a folder by turns, or drawn ones"
    to = tmp/'images'
    if posters:
        files = sorted(o for o in Path(posters).rglob('*') if o.is_file())[:n]
        labels = [genres[i%len(genres)] for i in range(len(files))]
    else: files,labels = drawn(n or 1000, tmp)
    for o in set(labels): (to/o).mkdir(parents=True)
    for i,(o,c) in enumerate(zip(files, labels)): shutil.copyfile(o, to/c/f'{i}_{o.name}')
    size = sum(o.stat().st_size for o in files)/1e6
    print(f'{len(files):,} files of {posters or "drawn posters"}, {size:,.0f} MB', flush=True)
    return to,len(files)

def folders(args, tmp):
    (where,n),repos,secs = own_copy(args.posters, args.n, tmp), states(args), {}
    def f(name, r):
        with tempfile.TemporaryDirectory() as cache:
            for step,kw in STEPS.items():
                res = one('folder', cache, repo=repos[name], folder=str(where), step=step, kw=kw)
                secs.setdefault((step,name), []).append(res['seconds'])
                print(f'folder round {r} {name:7} {step:7} {res["seconds"]:7.2f} s {n/res["seconds"]:7.0f}/s  CPU {res["cpu"]:6.1f} s ',
                    f'{res["decodes"]:6} decodes;  {res["ok"]} of {res["n"]} usable, {res["pairs"]} pairs, split {res["splits"]}', flush=True)
    turns(list(repos), args.rounds, f)
    for step in STEPS:
        if 'before' in repos: verdict(f'folder, {step}', secs[step,'ours'], secs[step,'before'], 'ours', 'before')
        else: print(f'==> folder, {step}: {statistics.median(secs[step,"ours"]):.2f} s (median)', flush=True)

def count_decodes(args, tmp):
    repos,out = states(args), {}
    with Server(args.n or 100, args.latency, tmp) as site:
        for name,repo in repos.items():
            with tempfile.TemporaryDirectory() as cache: out[name] = one('decodes', cache, rows=site.listing(), repo=repo)
    print(f'{"decodes of " + str(site.n) + " posters":40}', *(f'{o:>8}' for o in repos))
    for rows in zip(*(o['stages'] for o in out.values())): print(f'{rows[0][0]:40}', *(f'{o[-1]:8}' for o in rows))
    total = {k: o['decodes'] for k,o in out.items()}
    print(f'{"in all":40}', *(f'{o:8}' for o in total.values()))
    print(f'{"a poster":40}', *(f'{o/site.n:8.2f}' for o in total.values()), flush=True)

def chains(args, tmp):
    repos = states(args)
    with Server(args.n or 1000, args.latency, tmp) as site:
        def f(name, r):
            with tempfile.TemporaryDirectory() as cache: res = one('chain', cache, rows=site.listing(), repo=repos[name])
            print(f'chain round {r} {name:7} {res["seconds"]:7.2f} s  CPU {res["cpu"]:6.1f} s  ({stages(res)}); ',
                f'{res["ok"]} usable, accuracy {res["accuracy"]:.3f}', flush=True)
            return res
        got = {k: [o['seconds'] for o in v] for k,v in turns(list(repos), args.rounds, f).items()}
    if args.against: verdict(f'addresses to a solved classifier, {site.n} posters', got['ours'], got['before'], 'ours', 'before')
    else: print(f'==> chain: {statistics.median(got["ours"]):.2f} s (median)')

def shares(args, tmp):
    repos,(where,_) = states(args), own_copy(None, args.n, tmp)
    def f(name, r):
        with tempfile.TemporaryDirectory() as cache: res = one('share', cache, repo=repos[name], source=str(where), recipe=args.recipe)
        s = res['seconds']
        rest = s-res['forward']-res['backward']
        print(f'share round {r} {name:7} {res["stages"][0][0]} {s:7.2f} s: forward {res["forward"]:.1f}, backward {res["backward"]:.1f},',
            f'not these {100*rest/s:.1f} % (of it steps of the optimizer {100*res["step"]/s:.1f} %);  {res["n"]} training posters, accuracy {res["accuracy"]:.3f}', flush=True)
        return s
    got = turns(list(repos), args.rounds, f)
    if args.against: verdict(f'six epochs of {args.recipe}', got['ours'], got['before'], 'ours', 'before')

ROWS = dict(addresses=addresses, folder=folders, decodes=count_decodes, chain=chains, share=shares)

def machine():
    "Processor, cores, what torch makes of it, and the load"
    info = Path('/proc/cpuinfo')
    lines = [o.split(':', 1) for o in info.read_text().split('\n') if ':' in o] if info.exists() else []
    told = {k.strip(): v.strip() for k,v in lines[::-1]}
    code = 'import torch; print(torch.backends.cpu.get_cpu_capability(), "torch", torch.__version__, torch.get_num_threads(), "threads")'
    torch = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip()
    bf16 = [o for o in ('avx512_bf16','amx_bf16') if o in told.get('flags', '').split()]
    load = os.getloadavg()[0]
    print(f'{told.get("model name") or platform.processor()}, {os.cpu_count()} cores, {torch}, bf16: {", ".join(bf16) or "no"};',
        f'load before: {load:.2f}')
    if load>.5: print(f'WARNING: something else runs here (load {load:.2f}): do not trust these times.')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--only', type=lambda s: s.split(','), default=list(ROWS), help='names of rows, with commas between them')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--n', type=int, help='posters of each row, in place of its own number')
    p.add_argument('--against', help='another checkout of this package')
    real = os.environ.get('GENRE_POSTERS')
    p.add_argument('--posters', default=real and str(Path(real)/'images'), help='folder, for `folder`')
    p.add_argument('--recipe', default='finetune', help='for `share`; a checkout that does not know it trains by `finetune`')
    p.add_argument('--latency', type=float, default=30)
    p.add_argument('--faults', type=int, default=0)
    p.add_argument('--run', help=argparse.SUPPRESS)
    p.add_argument('--serve', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.serve: return serve(args.serve, args.latency)
    if args.run: return run_job(args.run)
    if odd := [o for o in args.only if o not in ROWS]: p.error(f'there is no row {odd[0]}; rows: {", ".join(ROWS)}')
    if args.against and not (Path(args.against)/'genre_fastai').is_dir(): p.error(f'{args.against} has no genre_fastai')
    machine()
    for name in args.only:
        with tempfile.TemporaryDirectory() as tmp: ROWS[name](args, Path(tmp))

if __name__=='__main__': main()
