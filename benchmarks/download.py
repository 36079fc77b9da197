"""Downloaders side by side: ours, fastai's download_images + verify_images, and img2dataset, in alternating rounds against one loopback server.

    python benchmarks/download.py [--urls 3000] [--rounds 3] [--latency 30] [--tools ours,fastai,img2dataset,img2dataset-raw] [--faults 0,1]
    python benchmarks/download.py --memory 1000000

The server is a process of its own, with a pause of `--latency` milliseconds before each answer and JPEGs of about 45 KB. With faults, one address
in seven is not plain: see `FAULTS`. Every tool runs in a process of its own; the clock stands around its call, so imports do not count. For
img2dataset, which takes several seconds to start its workers, both clocks are shown: around the call, and its own from the start of the first shard
to the end of the last. It is run with 256 threads in two ways: `img2dataset` decodes every image and keeps its bytes, as ours does;
`img2dataset-raw` is its fastest way, which stores whatever came and checks nothing. It downgrades pandas, so it gets a virtual environment in the
user's cache folder, made on the first run (uv where it is there, else venv and pip).

Printed: images per second, the ratio of ours to each other tool round by round, and what each tool made of the good and the bad addresses.
"""
import argparse, asyncio, hashlib, io, json, os, random, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

# kind: share of the addresses; the first five cannot give a picture, the others can
FAULTS = {'404': .03, 'html': .03, 'truncated': .03, 'cut': .01, 'refused': .01,
    'redirect': .02, 'query': .02, 'php': .02, 'busy': .01, 'slow': .005}
BAD = {'404': 'not-found', 'html': 'html', 'truncated': 'truncated', 'cut': 'cut', 'refused': 'connect'}

def make_images(n=40, seed=0):
    "JPEGs of about 45 KB that differ from each other"
    import numpy as np
    from PIL import Image
    rng,out = np.random.default_rng(seed), []
    for _ in range(n):
        small = Image.fromarray(rng.integers(0, 255, (75,50,3), dtype=np.uint8)).resize((500,750), Image.Resampling.BICUBIC)
        noisy = np.clip(np.asarray(small, dtype=np.int16) + rng.normal(0, 7, (750,500,1)), 0, 255).astype(np.uint8)
        b = io.BytesIO()
        Image.fromarray(noisy).save(b, 'JPEG', quality=45)
        out.append(b.getvalue())
    return out

def tagged(jpeg, i):
    "The same picture with a comment that makes its bytes unique"
    note = f'poster {i}'.encode()
    end = 4+int.from_bytes(jpeg[4:6], 'big') # the JFIF header stays the first, since some tools know a JPEG by it
    return jpeg[:end] + b'\xff\xfe' + (len(note)+2).to_bytes(2, 'big') + note + jpeg[end:]

def head(status, body, *more): return '\r\n'.join([f'HTTP/1.1 {status}', f'Content-Length: {len(body)}', *more, '', '']).encode()

class Site(asyncio.Protocol):
    "GET /kind/number.jpg"
    images,latency,seen = [],.03,set()
    def connection_made(self, transport): self.transport,self.buffer = transport, b''
    def data_received(self, data):
        self.buffer += data
        if b'\r\n\r\n' in self.buffer:
            path,self.buffer = self.buffer.split(b' ', 2)[1].decode(), b''
            asyncio.get_running_loop().call_later(1 if '/slow/' in path else self.latency, self.answer, path)

    def answer(self, path):
        if self.transport.is_closing(): return
        _,kind,name = path.split('/')
        i = int(name.split('.')[0].split('?')[0])
        body = tagged(self.images[i%len(self.images)], i)
        send,first = self.transport.write, path not in self.seen
        self.seen.add(path)
        if kind=='404' or (kind=='query' and '?' not in path): send(head('404 Not Found', b'')) 
        elif kind=='html': send(head('200 OK', b'<!DOCTYPE html>not here', 'Content-Type: image/jpeg') + b'<!DOCTYPE html>not here')
        elif kind=='busy' and first: send(head('503 Busy', b'', 'Retry-After: 1'))
        elif kind=='redirect': send(head('302 Found', b'', f'Location: /ok/{i}.jpg'))
        elif kind=='truncated': send(head('200 OK', body[:len(body)//2], 'Content-Type: image/jpeg') + body[:len(body)//2])
        elif kind=='cut':
            send(head('200 OK', body, 'Content-Type: image/jpeg') + body[:len(body)//2])
            self.transport.close()
        else: send(head('200 OK', body, 'Content-Type: image/jpeg') + body)

def serve(latency):
    Site.images,Site.latency = make_images(), latency/1000
    async def main():
        server = await asyncio.get_running_loop().create_server(Site, '127.0.0.1', 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
    try: from uvloop import run # the less the server takes of the machine, the more the tools are measured
    except ImportError: run = asyncio.run
    run(main())

def make_list(port, n, faults, seed):
    "Addresses with their kind; `seed` makes them new for every run, so that the 503s are the first again"
    rng = random.Random(seed)
    kinds = rng.choices([*FAULTS, 'ok'], [*FAULTS.values(), 1-sum(FAULTS.values())], k=n) if faults else ['ok']*n
    form = dict(query='http://127.0.0.1:{p}/query/{i}.jpg?size=large', php='http://127.0.0.1:{p}/php/{i}.php?id={i}',
        refused='http://127.0.0.1:1/refused/{i}.jpg')
    return [(k, form.get(k, 'http://127.0.0.1:{p}/'+k+'/{i}.jpg').format(p=port, i=seed*100_000+i)) for i,k in enumerate(kinds)]

# ---- the tools, each in a process of its own: the imports, and then the part under the clock,
# which may return a reason for each address, or its own seconds
def ours(**kw):
    from genre_fastai.collect.download import download_posters
    def run(dest, urls):
        cat = download_posters(urls, dest, allow_private=True, progress=False, **kw)
        return dict(zip(cat.df['url'], cat.df['reason']))
    return run

def fastai(**kw):
    from fastai.vision.all import download_images, get_image_files, verify_images
    def run(dest, urls):
        download_images(dest, urls=urls, max_pics=len(urls), **kw)
        verify_images(get_image_files(dest)).map(Path.unlink)
    return run

def img2dataset(**kw):
    from img2dataset import download
    def run(dest, urls):
        (lst := dest.parent/'list.txt').write_text('\n'.join(urls))
        n = os.cpu_count()
        download(url_list=str(lst), input_format='txt', output_folder=str(dest), output_format='files', processes_count=n, thread_count=256,
            number_sample_per_shard=max(1, -(-len(urls)//n)), timeout=10, retries=2, **(kw or dict(resize_mode='no', skip_reencode=True)))
        spans = [json.loads(o.read_text()) for o in dest.glob('*_stats.json')]
        return max(o['end_time'] for o in spans)-min(o['start_time'] for o in spans)
    return run

TOOLS = dict(ours=ours, fastai=fastai, fastai64=lambda: fastai(n_workers=64), img2dataset=img2dataset)
TOOLS['img2dataset-raw'] = lambda: img2dataset(disable_all_reencoding=True)

def run_tool(tool, folder):
    "Run a tool in this process, and leave what is to be known in a file"
    urls,run = json.loads((folder/'spec.json').read_text()), TOOLS[tool]()
    cpu,start = sum(os.times()[:4]), time.perf_counter()
    got = run(folder/'to', urls)
    wall,cpu = time.perf_counter()-start, sum(os.times()[:4])-cpu
    reasons,inner = (got, None) if isinstance(got, dict) else (None, got)
    (folder/'result.json').write_text(json.dumps(dict(seconds=wall, inner=inner, cpu=cpu, reasons=reasons)))

def venv():
    "The Python of an environment with img2dataset"
    root = Path(os.environ.get('XDG_CACHE_HOME', Path.home()/'.cache'))/'genre_fastai'/'img2dataset'
    py = root/('Scripts/python.exe' if os.name=='nt' else 'bin/python')
    if not (root/'ready').exists():
        uv = shutil.which('uv')
        need = 'img2dataset','setuptools<81'
        make = [uv,'venv','-q','--clear',root,'-p',sys.executable] if uv else [sys.executable,'-m','venv','--clear',root]
        subprocess.run(make, check=True)
        subprocess.run([uv,'pip','install','-q','--python',py,*need] if uv else [py,'-m','pip','install','-q',*need], check=True)
        (root/'ready').touch()
    return str(py)

def good_files(dest, jpegs):
    "How many of the wanted pictures lie in the folder with a name that an image loader would open"
    have = {hashlib.sha256(p.read_bytes()).digest() for p in Path(dest).rglob('*') if p.suffix in ('.jpg','.jpeg')}
    return sum(hashlib.sha256(o).digest() in have for o in jpegs)

def one(tool, py, listing, images):
    "Run one tool once"
    with tempfile.TemporaryDirectory() as dest:
        (spec := Path(dest)/'spec.json').write_text(json.dumps([u for _,u in listing]))
        (Path(dest)/'to').mkdir()
        env = {**os.environ, 'NO_ALBUMENTATIONS_UPDATE': '1', 'XDG_CACHE_HOME': f'{dest}/cache'} # nothing is known from an earlier run
        out = subprocess.run([py, __file__, '--run', tool, dest], capture_output=True, text=True, env=env)
        if out.returncode: sys.exit(f'{tool} failed:\n{out.stdout[-2000:]}\n{out.stderr[-2000:]}')
        res = json.loads((Path(dest)/'result.json').read_text())
        number = lambda u: int(u.split('/')[-1].split('.')[0])
        res['kept'] = good_files(Path(dest)/'to', [tagged(images[number(u)%len(images)], number(u)) for k,u in listing if k not in BAD])
        if (why := res['reasons']):
            res['named'] = sum(why.get(u)==BAD[k] for k,u in listing if k in BAD)
            res['lost'] = [(u, why.get(u)) for k,u in listing if k not in BAD and why.get(u)!='']
        return res

def compare(port, args, faults):
    images = make_images()
    times = {t: [] for t in args.tools}
    for r in range(args.rounds):
        for t in args.tools if r%2==0 else args.tools[::-1]:
            compare.seed += 1
            listing = make_list(port, args.urls, faults, compare.seed)
            res = one(t, venv() if t.startswith('img2dataset') else sys.executable, listing, images)
            times[t].append(res['seconds'])
            if res['inner']: times.setdefault(f'{t} without its start', []).append(res['inner'])
            bad = sum(k in BAD for k,_ in listing)
            said = [f'{"faults" if faults else "clean":6} round {r+1} {t:15} {res["seconds"]:7.2f} s {len(listing)/res["seconds"]:7.0f}/s ',
                f'{1000*res["cpu"]/len(listing):5.2f} ms of CPU each  good kept byte for byte {res["kept"]}/{len(listing)-bad}']
            if 'named' in res: said.append(f' bad named {res["named"]}/{bad}')
            print(*said, *res.get('lost', ()), flush=True)
    for t in times:
        if t!='ours' and 'ours' in times:
            ratios = [b/a for a,b in zip(times['ours'], times[t])]
            rounds = ', '.join(f'{o:.1f}' for o in sorted(ratios))
            print(f'==> {"with faults" if faults else "clean"}: ours is {statistics.median(ratios):.1f} times {t} (rounds: {rounds})', flush=True)
compare.seed = 0

def memory(port, n):
    "Peak memory for a list of `n` addresses: one in 500 is a picture, the others are refused at once; then the same again from the journal"
    code = '''
import resource, sys, time
from genre_fastai.collect.download import download_posters
start = time.perf_counter()
report = download_posters(sys.argv[1], sys.argv[2], allow_private=True, as_catalog=False, progress=False)
scale = 1e6 if sys.platform=="darwin" else 1e3
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/scale
print(f"{sum(report.counts.values()):,} addresses {report.counts}: {time.perf_counter()-start:.0f} s, peak {peak:.0f} MB", flush=True)
'''
    with tempfile.TemporaryDirectory() as tmp:
        with open(lst := Path(tmp)/'list.csv', 'w') as f:
            f.write('url,label,rank,title\n')
            for i in range(n):
                bad = f'ftp://poster-host-{i%1000}.example.com/a/long/path/poster_{i}.jpg'
                f.write((bad if i%500 else f'http://127.0.0.1:{port}/ok/{i}.jpg') + f',horror,{i},The Film {i}\n')
        for _ in range(2): subprocess.run([sys.executable, '-c', code, str(lst), str(Path(tmp)/'to')], check=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--urls', type=int, default=3000)
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--latency', type=float, default=30)
    p.add_argument('--tools', type=lambda s: s.split(','), default=['ours','fastai','img2dataset','img2dataset-raw'])
    p.add_argument('--faults', type=lambda s: [int(o) for o in s.split(',')], default=[0,1])
    p.add_argument('--memory', type=int, default=0, help='measure only our peak memory, for a list of this length')
    p.add_argument('--run', nargs=2, help=argparse.SUPPRESS)
    p.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.serve: return serve(args.latency)
    if args.run: return run_tool(args.run[0], Path(args.run[1]))
    server = subprocess.Popen([sys.executable, __file__, '--serve', '--latency', str(args.latency)], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        print(f'{args.urls} addresses, {args.latency:g} ms latency, {os.cpu_count()} cores, load before: {os.getloadavg()[0]:.1f};',
            f'JPEGs of about {len(make_images(1)[0])/1000:.0f} KB')
        if args.memory: return memory(port, args.memory)
        for f in args.faults: compare(port, args, f)
    finally: server.kill()

if __name__=='__main__': main()
