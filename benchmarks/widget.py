"""The cleaner on many posters in a real JupyterLab, in headless Chromium: seconds to the first page (beside fastai's cleaner, alternating),
milliseconds to a mark, memory while paging.

--kernel measures the list that learns without a browser: milliseconds of an answer to a mark, of the posters that look alike and of a page, with the
probes at rest and while they are solved; seconds to a new order; memory after some hundred marks.

    python benchmarks/widget.py                      # 10,000 posters in a real JupyterLab
    python benchmarks/widget.py --live               # the same with a list that learns
    python benchmarks/widget.py --live --marking 300 # only so many marks: milliseconds from key to repaint, the page's memory before and after
    python benchmarks/widget.py --kernel --n 10000   # the kernel's side of `live`, no browser needed"""
import argparse, os, statistics, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'tests'))
from labsite import Page, chromium, notebook, server, wait

setup = '''import os, warnings; warnings.filterwarnings('ignore')
import pandas as pd
from fastai.vision.all import *
from fastai.vision.widgets import ImagesCleaner
from genre_fastai.core import *
from genre_fastai.catalog.core import *
from genre_fastai.clean.widget import *
cat = read_catalog('catalog.csv')
odd = cat.where(split='train').df['id'][::5]
issues = pd.DataFrame(dict(id=odd, action='relabel', suggested=cat.classes[0], reason='confident learning'))
def rss(): return int(next(o for o in open('/proc/self/status') if o.startswith('VmRSS')).split()[1])/1024
kept = []'''
ours = "kept.append(ImageCleaner(cat, 'cleaning.jsonl', issues)); kept[-1]"
learns = "kept.append(ImageCleaner(cat, 'cleaning.jsonl', live=True, feats=feats)); kept[-1]"
random_features = '''
import numpy as np
from genre_fastai.features.extract import Features
names = cat.classes
of = np.array([names.index(o) for o in cat.df['label']])
X = np.random.default_rng(0).normal(size=(len(cat), 512)) + np.random.default_rng(1).normal(size=(len(names), 512))[of]/3
feats = Features(cat.df['id'], X)'''
fastais = "c = ImagesCleaner(cat.classes, max_n=24); c.set_fns(cat.files); c"

def posters(root, n):
    "`n` files, links to some hundred drawn posters"
    from genre_fastai.catalog.core import Catalog
    from genre_fastai.sample.dataset import make_sample
    drawn = make_sample(root/'drawn', n=100, seed=1, size=(500,750)).where(kind='clean')
    (root/'posters').mkdir()
    for i in range(n): os.link(drawn.files[i%len(drawn)], root/f'posters/{i:05d}.jpg')
    labels,split = [drawn.df['label'][i%len(drawn)] for i in range(n)], ['train' if i%5 else 'valid' for i in range(n)]
    Catalog(dict(file=[f'posters/{i:05d}.jpg' for i in range(n)], label=labels, split=split), root).save(root/'catalog.csv')

def run(p, cell):
    "Run the `cell`-th cell, and give the seconds until its output shows 24 pictures"
    js = '''const [cell, done] = arguments, start = performance.now();
      const nb = [...jupyterapp.shell.widgets('main')].find(o => o.sessionContext);
      nb.content.activeCellIndex = cell;
      const out = nb.content.widgets[cell].outputArea.node, old = new Set(out.querySelectorAll('img'));
      const tick = () => { const n = [...out.querySelectorAll('img')].filter(o => !old.has(o) && o.complete && o.naturalWidth).length;
        n >= 24 ? done((performance.now() - start)/1000) : performance.now() - start > 60000 ? done(null) : requestAnimationFrame(tick); };
      jupyterapp.commands.execute('notebook:run-cell'); tick();'''
    return p.d.execute_async_script(js, cell)

def value(p, code):
    "What the kernel says to `code`"
    js = '''const [code, done] = arguments;
      const k = [...jupyterapp.shell.widgets('main')].find(o => o.sessionContext).sessionContext.session.kernel;
      const f = k.requestExecute({code: '', user_expressions: {x: code}});
      f.done.then(r => done(r.content.user_expressions.x.data['text/plain']))'''
    return float(p.d.execute_async_script(js, code))

def mark(p):
    "Milliseconds from a key until it is handled, to the repainted page, and to Python's answer that the mark is in the journal"
    js = '''const done = arguments[0], root = document.querySelector('.gc-root'), left = root.querySelector('.gc-left').textContent;
      const card = root.querySelector('.gc-card[data-id]:not([data-mark=keep])'), after = new MessageChannel();
      card.focus(); const start = performance.now(); let handled = 0, painted = 0;
      after.port1.onmessage = () => { painted = performance.now() - start; after.port1.close(); }; // when the frame has been drawn
      card.dispatchEvent(new KeyboardEvent('keydown', {key: 'k', bubbles: true, composed: true})); handled = performance.now() - start;
      requestAnimationFrame(() => after.port2.postMessage(0));
      const tick = () => painted && root.querySelector('.gc-left').textContent !== left ? done([handled, painted, performance.now() - start])
        : requestAnimationFrame(tick);
      tick();'''
    return p.d.execute_async_script(js)

def told(ms):
    "Print what `mark` has measured"
    for name,o in zip(('handled', 'repainted', 'in the journal'), zip(*ms)):
        print(f'mark {name}: median {statistics.median(o):.1f} ms, 95 % {sorted(o)[int(.95*len(o))]:.1f} ms, worst {max(o):.0f} ms, of {len(o)}')

def browser_memory(d):
    d.execute_cdp_cmd('HeapProfiler.collectGarbage', {})
    m = {o['name']:o['value'] for o in d.execute_cdp_cmd('Performance.getMetrics', {})['metrics']}
    return m['JSHeapUsedSize']/2**20, int(m['Nodes'])

def rss(): return int(next(o for o in open('/proc/self/status') if o.startswith('VmRSS')).split()[1])/1024

def learning(root, n, d=2560, classes=12):
    "A widget on `n` rows without files, every seventh of them with a wrong label, whose features know the right one"
    import numpy as np
    from genre_fastai.catalog.core import Catalog
    from genre_fastai.features.extract import Features
    from genre_fastai.clean.decisions import CleaningSession
    from genre_fastai.clean.live import LiveIssues
    from genre_fastai.clean.widget import ImageCleaner
    rng,names = np.random.default_rng(0), [f'genre {i}' for i in range(classes)]
    true = rng.integers(classes, size=n)
    given = np.where(np.arange(n)%7==0, (true+1)%classes, true)
    split = ['train' if i%5 else 'valid' for i in range(n)]
    cat = Catalog(dict(file=[f'posters/{i:05d}.jpg' for i in range(n)], label=[names[i] for i in given], split=split), root)
    X = rng.normal(size=(n, d)).astype('float32') + 3*rng.normal(size=(classes, d)).astype('float32')[true]*(rng.random((n, 1))<.9)/8
    live = LiveIssues(CleaningSession(cat, root/'cleaning.jsonl'), Features(cat.df['id'], X))
    return ImageCleaner(live.session, live=live), {o:names[i] for o,i in zip(cat.df['id'], true)}

def kernel(n, marks=400):
    "Milliseconds of the kernel's answers, and what they leave in memory"
    with tempfile.TemporaryDirectory() as tmp:
        w,true = learning(Path(tmp), n)
        said,ms = lambda **m: w.answer(dict(view_id='v', **m))[0], {}
        def clock(name, **m):
            busy,start = w.live.learning, time.perf_counter()
            res = said(**m)
            assert res['tell']!='error', res
            ms.setdefault(f'{name}{", probes being solved" if busy else ""}', []).append((time.perf_counter()-start)*1000)
            return res
        def order():
            start = time.perf_counter()
            while said(ask='live')['live']['busy']: time.sleep(.005)
            return time.perf_counter()-start
        print(f'{n:,} posters: the first order after {order():.1f} s', flush=True)
        opened,secs,done,page = dict(filters=dict(decided='undecided')), [], 0, 0
        while done<marks:
            for r in (rows := clock('page', ask='page', page=page, **opened)['rows']):
                clock('mark', ask='mark', id=r['id'], action='relabel', label=true[r['id']], model=r.get('model', ''))
                clock('alike', ask='alike', id=r['id'])
                done += 1
                if done%25==0: secs.append(order())
                if done in (marks//4, marks//2, marks): print(f'after {done} marks: {rss():.0f} MB', flush=True)
            page += 1
            if not rows: break
        for k,v in sorted(ms.items()):
            print(f'{k}: median {statistics.median(v):.1f} ms, 95 % {sorted(v)[int(.95*len(v))]:.1f} ms, worst {max(v):.0f} ms, of {len(v)}')
        print(f'a new order, waited for: median {statistics.median(secs):.2f} s, worst {max(secs):.2f} s')

def main(n, rounds, pages, live=False):
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(tmp)
        posters(root, n)
        notebook(root/'nb.ipynb', [setup + random_features, fastais, learns] if live else [setup, fastais, ours])
        with server(root) as url, chromium() as d:
            d.set_script_timeout(120)
            p = Page(d)
            p.open(f'{url}/lab/tree/nb.ipynb')
            p.js("[...jupyterapp.shell.widgets('main')].find(o => o.sessionContext).content.activeCellIndex = 0")
            p.command('notebook:run-cell')
            wait(lambda: value(p, 'len(kept)')==0, 'the imports', 120)
            times = [(run(p, 1), run(p, 2)) for _ in range(rounds)]
            for a,b in times: print(f'first page of {n:,} posters: fastai {a:.2f} s, ours {b:.2f} s, ratio {a/b:.1f}', flush=True)
            theirs,own = (statistics.median(o) for o in zip(*times))
            ratios = [a/b for a,b in times]
            print(f'median: fastai {theirs:.2f} s, ours {own:.2f} s; ratio {min(ratios):.1f} to {max(ratios):.1f}')
            told([mark(p) for _ in range(20)])
            if live:
                news = lambda: p.js("return document.querySelector('.gc-learnt').textContent")
                wait(lambda: news().startswith('ordered after'), 'an order', 120)
                p.choose('decided', '')
            p.choose('reason', '')
            wait(lambda: p.total()==f'{n:,} posters', 'all posters')
            d.execute_cdp_cmd('Performance.enable', {})
            secs = []
            for i in range(pages+1):
                if i in (0, pages//4, pages//2, 3*pages//4, pages):
                    heap,nodes = browser_memory(d)
                    print(f'after {i:3d} pages: kernel {value(p, "rss()"):.0f} MB, browser heap {heap:.0f} MB, {nodes:,} nodes', flush=True)
                start = time.perf_counter()
                d.execute_async_script('''const done = arguments[0], root = document.querySelector('.gc-root');
                  const old = root.querySelector('.gc-rank').textContent;
                  const shown = () => root.querySelectorAll('.gc-card img.gc-there').length;
                  const there = () => root.querySelector('.gc-rank').textContent !== old && shown() === 24;
                  const tick = () => there() ? done() : requestAnimationFrame(tick);
                  root.querySelector('.gc-next').click(); tick();''')
                secs.append(time.perf_counter()-start)
            print(f'a page turned: median {statistics.median(secs)*1000:.0f} ms, worst {max(secs)*1000:.0f} ms')

def marking(n, marks, live):
    "Mark one poster after the other, page by page, and see what it leaves in the page's memory"
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(tmp)
        posters(root, n)
        notebook(root/'nb.ipynb', [setup + random_features, learns if live else ours])
        with server(root) as url, chromium() as d:
            d.set_script_timeout(120)
            p = Page(d)
            p.open(f'{url}/lab/tree/nb.ipynb')
            p.command('notebook:run-all-cells')
            try: wait(lambda: p.cards(24), 'the first page', 200)
            except AssertionError as e: raise SystemExit(f"{e}: {p.find('.jp-Notebook')[0].text[-1500:]}")
            if live: wait(lambda: p.js("return document.querySelector('.gc-learnt').textContent").startswith('ordered after'), 'an order', 300)
            p.choose('reason', '')
            p.cards(24)
            d.execute_cdp_cmd('Performance.enable', {})
            ms = []
            for i in range(marks+1):
                if i in (0, marks//3, 2*marks//3, marks):
                    heap,nodes = browser_memory(d)
                    print(f'after {i:3d} marks: kernel {value(p, "rss()"):.0f} MB, browser heap {heap:.1f} MB, {nodes:,} nodes', flush=True)
                if not p.js("return !!document.querySelector('.gc-card[data-id]:not([data-mark=keep])')"):
                    old = p.js("return document.querySelector('.gc-rank').textContent")
                    p.js("document.querySelector('.gc-next').click()")
                    wait(lambda: p.js("return document.querySelector('.gc-rank').textContent")!=old, 'the next page')
                    p.cards(24)
                if i<marks: ms.append(mark(p))
            told(ms)

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--n', type=int, default=10_000, help='posters; at least 150')
    ap.add_argument('--rounds', type=int, default=5)
    ap.add_argument('--pages', type=int, default=120, help='pages to turn')
    ap.add_argument('--live', action='store_true', help='in the browser, with a list that learns')
    ap.add_argument('--kernel', action='store_true', help="the kernel's side of the list that learns, without a browser")
    ap.add_argument('--marks', type=int, default=400, help='marks, with --kernel')
    ap.add_argument('--marking', type=int, default=0, help='in the browser: only so many marks')
    args = ap.parse_args()
    if args.kernel: kernel(args.n, args.marks)
    elif args.marking: marking(args.n, args.marking, args.live)
    else: main(args.n, args.rounds, args.pages, args.live)
