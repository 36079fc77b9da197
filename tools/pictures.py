"Make the pictures of the lessons from drawn posters, in a headless Chromium: `python tools/pictures.py [search cleaner learning learning_gif ideas]`"
import contextlib, io, shutil, sys, tempfile, time
from pathlib import Path
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from genre_fastai.sample.site import SampleSite
from genre_fastai.sample.dataset import make_sample
from genre_fastai.collect.google import google_snippet
from ideas import ideas

dest = Path(__file__).resolve().parent.parent/'nbs/lessons/images'

def browser(width=1000, height=640):
    "A headless Chromium whose page has this size"
    opts = webdriver.ChromeOptions()
    for a in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', f'--window-size={width},{height}', '--hide-scrollbars'): opts.add_argument(a)
    opts.binary_location = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))))
    d = webdriver.Chrome(options=opts, service=Service(shutil.which('chromedriver')))
    d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=height, deviceScaleFactor=1, mobile=width<600))
    return d

def shoot(d, name, quality=55, part=None):
    "Keep what the browser shows, or one element of it, as a small WebP"
    im = Image.open(io.BytesIO(part.screenshot_as_png if part else d.get_screenshot_as_png())).convert('RGB')
    im.thumbnail((1000,1000))
    keep(im, name, quality)

def keep(im, name, quality):
    "Write a picture as a small WebP"
    dest.mkdir(parents=True, exist_ok=True)
    im.save(dest/name, 'WEBP', quality=quality, method=6)
    print(f'{name}: {(dest/name).stat().st_size/1000:.0f} KB')

def search():
    "The search page of lesson 1, and the snippet's panel on it"
    with tempfile.TemporaryDirectory() as tmp, SampleSite(make_sample(tmp, n=150, seed=7)) as site:
        d = browser()
        try:
            d.get(site.search_url('horror'))
            time.sleep(1)
            shoot(d, 'search.webp')
            d.execute_script(google_snippet('horror', 50))
            for _ in range(60):
                if d.execute_script('return window.genreUrls.done'): break
                time.sleep(.25)
            d.execute_script('window.scrollTo(0, 0)')
            time.sleep(.5)
            shoot(d, 'snippet.webp')
        finally: d.quit()

widget = """import pandas as pd
from genre_fastai.catalog.core import read_catalog
from genre_fastai.clean.widget import ImageCleaner
issues = pd.read_csv('issues.csv', keep_default_na=False)
w = ImageCleaner(read_catalog('catalog.csv'), 'cleaning.jsonl', issues, page_size=6)
first = w.rows.iloc[:3]
w.session.relabel(first['id'][0], first['suggested'][0])
w.session.keep(first['id'][1])
w.session.delete(first['id'][2])
w"""

def cleaner():
    "The widget of lesson 5 in JupyterLab, with some marks"
    from genre_fastai.catalog.core import Catalog
    from genre_fastai.features.extract import extract_features
    from genre_fastai.features.probe import cross_val_probs
    from genre_fastai.clean.issues import find_issues
    sys.path.insert(0, str(dest.parents[2]/'tests'))
    from labsite import Page, notebook, server
    with tempfile.TemporaryDirectory() as tmp:
        drawn = make_sample(tmp, n=90, seed=3).where(kind=['clean','wrong_label'])
        cat = Catalog(drawn.df[['id','file','label']], tmp)
        cat.save(Path(tmp)/'catalog.csv')
        find_issues(cat, cross_val_probs(cat, extract_features(cat))).to_csv(Path(tmp)/'issues.csv', index=False)
        notebook(Path(tmp)/'nb.ipynb', [widget])
        with server(tmp) as url:
            d = browser(1240, 1300)
            try:
                p = Page(d)
                p.open(f'{url}/doc/tree/nb.ipynb')
                p.command('notebook:run-all-cells')
                p.cards(6)
                time.sleep(.5)
                shoot(d, 'cleaner.webp', quality=38, part=p.find('.gc-root')[0])
            finally: d.quit()

live_widget = """import pandas as pd
from genre_fastai.catalog.core import read_catalog
from genre_fastai.features.extract import Features
from genre_fastai.clean.widget import ImageCleaner
import numpy as np
cat = read_catalog('catalog.csv')
ImageCleaner(cat, '{journal}', live=True, feats=Features(cat.df['id'], np.load('feats.npy')), page_size=3)"""

def mark_drawn(tmp, n, stops):
    "Drawn posters, their features, and a journal for each number of looks of a simulated person"
    import numpy as np
    from genre_fastai.catalog.core import Catalog
    from genre_fastai.features.extract import extract_features
    from genre_fastai.clean.decisions import CleaningSession
    from genre_fastai.clean.live import LiveIssues
    from genre_fastai.clean.evaluate import simulate_cleaning, true_label_errors
    drawn = make_sample(tmp, n=n, seed=3).where(kind=['clean','wrong_label'])
    cat = Catalog(drawn.df[['id','file','label']], tmp)
    cat.save(tmp/'catalog.csv')
    feats = extract_features(cat)
    np.save(tmp/'feats.npy', feats.of(cat).X)
    for looks in stops:
        live = LiveIssues(CleaningSession(cat, tmp/f'{looks}.jsonl', who='me'), feats)
        if looks: simulate_cleaning(drawn, live, true_label_errors(drawn), looks=looks)
    return drawn

def beside(shots, captions, width, gap=16):
    "Pictures in a row, each with a line above it"
    from PIL import ImageDraw, ImageFont
    shots = [o.resize((width, round(o.height*width/o.width)), Image.Resampling.LANCZOS) for o in shots]
    font,head = ImageFont.load_default(20), 40
    im = Image.new('RGB', (len(shots)*(width+gap)-gap, max(o.height for o in shots)+head), 'white')
    for i,(o,text) in enumerate(zip(shots, captions)):
        im.paste(o, (i*(width+gap), head))
        ImageDraw.Draw(im).text((i*(width+gap)+4, 8), text, 'black', font)
    return im

def opened(d, url, name, cards):
    "The notebook of a widget that learns, run, with so many undecided posters in sight"
    from labsite import Page, wait
    p = Page(d)
    p.open(f'{url}/doc/tree/{name}.ipynb')
    p.command('notebook:run-all-cells')
    wait(lambda: p.js("return document.querySelector('.gc-live')?.textContent.includes(' left')"), 'what is left', 120)
    p.choose('decided', 'undecided')
    time.sleep(2)
    p.cards(cards)
    return p

def state_of(url, name, act=False):
    "The widget of a notebook as a picture; with `act` after a mark, when it offers posters that look alike"
    from labsite import wait
    d = browser(760, 1300)
    try:
        p = opened(d, url, name, 3)
        if act:
            for i in [i for i,c in enumerate(p.find('.gc-card')) if '→' in c.text]: # not each has posters that look like it
                p.focus(i)
                p.press('a')
                with contextlib.suppress(AssertionError):
                    wait(lambda: p.d.find_elements('css selector', '.gc-alike:popover-open'), 'those alike', 15)
                    break
        # the offer stands before the window's lower edge, over the notebook's frame: here it goes where browsers without popovers have it
        p.js("document.querySelector('.gc-alike').removeAttribute('popover')")
        time.sleep(1.5)
        p.js("document.querySelector('.gc-root').scrollIntoView()")
        box,im = p.find('.gc-root')[0].rect, Image.open(io.BytesIO(d.get_screenshot_as_png())).convert('RGB')
        top = p.js("return document.querySelector('.gc-root').getBoundingClientRect().top")
        return im.crop((int(box['x']), int(top), int(box['x']+box['width']), int(top+box['height'])))
    finally: d.quit()

def learning(n=300, stops=(0,10,120)):
    "The widget that learns, three times: before the first mark, with posters that look alike, and when few errors are left"
    sys.path.insert(0, str(dest.parents[2]/'tests'))
    from labsite import notebook, server
    with tempfile.TemporaryDirectory() as tmp:
        mark_drawn(Path(tmp), n, stops)
        for o in stops: notebook(Path(tmp)/f'{o}.ipynb', [live_widget.replace('{journal}', f'{o}.jsonl')])
        with server(tmp) as url: shots = [state_of(url, o, act=o==stops[1]) for o in stops]
    says = 'before the first mark', f'after {stops[1]} marks: those that look alike', f'after {stops[2]} marks'
    keep(beside(shots, says, 480), 'learning.webp', 60)

# ---- the whole path, in one picture
ink,grey,good,bad,blue = '#1b1f24','#6a737d','#1a7f37','#cf222e','#3949ab'

def mark_all(p, truth, size):
    "Mark what is right and what is wrong on a page by keys, as a person would, and give a picture after each, and when the list has learnt"
    frames = []
    def see():
        time.sleep(.4)
        frames.append(Image.open(io.BytesIO(p.d.get_screenshot_as_png())).convert('RGB').crop((0, 0, *size)))
    see()
    for i,c in enumerate(cards := p.find('.gc-card')):
        name,label = c.get_attribute('data-file').split('/')[-1], c.find_element('css selector', '.gc-label').text
        fix = c.find_elements('css selector', '.gc-fix')
        p.js("arguments[0].focus({preventScroll: true})", c)
        key = 'k' if label==truth[name] else 'a' if fix and fix[0].text.endswith(truth[name]) else str(sorted(set(truth.values())).index(truth[name])+1)
        p.press(key)
        if i<len(cards)-1: see() # the last mark turns the page
    return frames

def learning_gif(n=300, pages=3, size=(660,800)):
    "The widget that learns, moving: six posters a page are marked by keys, and the rest is ordered anew"
    sys.path.insert(0, str(dest.parents[2]/'tests'))
    from labsite import notebook, server, wait
    with tempfile.TemporaryDirectory() as tmp:
        drawn = mark_drawn(Path(tmp), n, ())
        truth = {f.split('/')[-1]: l for f,l in zip(drawn.df['file'], drawn.df['true_label'])}
        notebook(Path(tmp)/'nb.ipynb', [live_widget.replace('{journal}', 'j.jsonl').replace('page_size=3', 'page_size=6')])
        with server(tmp) as url:
            d,frames = browser(*size),[]
            try:
                p = opened(d, url, 'nb', 6)
                # the widget alone, without the offers of posters that look alike
                p.js("const r = document.querySelector('.gc-root'), s = document.createElement('style'); document.body.replaceChildren(r);"
                    "s.textContent = 'body {overflow: hidden; background: #fff} .gc-root {margin: 0; border: 0} .gc-alike, .gc-chip, .gc-keys, .gc-tools, .gc-foot, .gc-file, .gc-note, .gc-keep, .gc-delete, .gc-relabel {display: none !important}"
                    ".gc-grid {grid-template-columns: repeat(3, 1fr)} .gc-pic {aspect-ratio: 1} .gc-pic img {object-fit: cover}'; document.head.append(s)")
                for i in range(pages+1):
                    wait(lambda: p.js("return document.querySelector('.gc-number').value")==str(i+1), 'the next page')
                    p.cards(6)
                    wait(lambda: not p.js("return document.querySelector('.gc-live').classList.contains('gc-busy')"), 'a new order')
                    frames += mark_all(p, truth, size)[:6 if i<pages else 1]
            finally: d.quit()
    ms = [1600 if i%6==0 else 500 for i in range(len(frames))]
    small = [o.resize((o.width*4//5, o.height*4//5), Image.Resampling.LANCZOS) for o in frames]
    small[0].save(dest/'learning_moves.webp', save_all=True, append_images=small[1:], duration=ms, loop=0, quality=40, method=6, minimize_size=True)
    print(f'learning_moves.webp: {len(small)} frames, {(dest/"learning_moves.webp").stat().st_size/1000:.0f} KB')

def steps(n, seed):
    "The path on drawn posters: the sample, its catalog, what a model says of a test row, rows that were relabelled, and accuracies before and after"
    from genre_fastai.catalog.build import build_catalog
    from genre_fastai.clean.decisions import CleaningSession
    from genre_fastai.clean.evaluate import cleaning_report, linear_recipe, true_label_errors
    from genre_fastai.clean.issues import auto_clean
    from genre_fastai.features.extract import extract_features
    with tempfile.TemporaryDirectory() as tmp:
        cat = build_catalog(make_sample(tmp, n=n, seed=seed), progress=False)
        feats = extract_features(cat.ok, progress=False)
        fit = linear_recipe(feats)
        test = cat.ok.where(split='test')
        preds = fit(cat.ok.where(split='train'), test, 0)
        auto_clean(cat.ok, Path(tmp)/'marks.jsonl', rule='relabel', features=feats)
        after = CleaningSession(cat.ok, Path(tmp)/'marks.jsonl').apply()
        new = dict(zip(after.df['id'], after.df['label']))
        fixed = [(poster(cat.path/f), a, new[i]) for i,f,a,t in cat.ok.df[['id','file','label','true_label']].values if new.get(i, a)!=a and new[i]==t]
        rep = cleaning_report(cat.ok, Path(tmp)/'marks.jsonl', fit, range(10)).summary.set_index('arm')
        sure = int((preds.probs.max(1)*(preds.probs.argmax(1)==preds.y)).argmax())
        rows = [(poster(cat.path/f), l, r, f) for f,l,r in cat.df[['file','label','reason']].values]
        return rows, (poster(test.files[sure]), dict(zip(preds.vocab, preds.probs[sure]))), fixed, rep, len(test)

def poster(file, width=110):
    im = Image.open(file).convert('RGB')
    return im.resize((width, round(width*1.48)), Image.Resampling.LANCZOS)

def path(n=300, seed=3):
    "Search, catalog, model, cleaned, better: what the README and the site begin with"
    from PIL import ImageDraw, ImageFont
    rows,(shown,probs),fixed,rep,n_test = steps(n, seed)
    kept = {k: [o for o,l,r,_ in rows if not r and l==k] for k in ('horror','romance','superhero')}
    twin,first = next((o, r.split(' of ')[1]) for o,_,r,_ in rows if r.startswith('near duplicate'))
    first,tiny = next(o for o,_,_,f in rows if f==first), next(o for o,_,r,_ in rows if 'tiny' in r)
    im = Image.new('RGB', (1200, 1010), 'white')
    d,font = ImageDraw.Draw(im), lambda size: ImageFont.load_default(size)
    text = lambda x, y, s, size=30, fill=ink, anchor='la': d.text((x, y), s, fill, font(size), anchor=anchor)
    def panel(i, x, y, w, title, says):
        d.rounded_rectangle((x, y, x+w, y+490), 18, outline='#d0d7de', width=3)
        text(x+20, y+16, f'{i} {title}', 46, blue)
        text(x+20, y+74, says, 32, grey)
    def cross(x, y, w=110, h=163):
        for a,b in (((x,y),(x+w,y+h)), ((x+w,y),(x,y+h))): d.line((*a, *b), bad, 7)
    # search: an address bar and what it finds
    panel(1, 0, 0, 388, 'Search', 'words to files')
    d.rounded_rectangle((20, 126, 368, 170), 22, fill='#eef1f5')
    text(40, 130, 'horror film poster', 30)
    for k,o in enumerate(kept['horror'][:6]): im.paste(o if k<3 else o.crop((0,0,110,116)), (20+119*(k%3), (188,360)[k//3]))
    # catalog: copies and odd files are left out, the others split into training and test
    panel(2, 406, 0, 388, 'Catalog', 'checked, split by film')
    for k,(o,out) in enumerate([(first,0), (twin,1), (kept['romance'][2],0), (tiny,1), (kept['superhero'][1],0), (kept['horror'][7],0)]):
        x,y = 426+119*(k%3), (126,308)[k//3]
        im.paste(o if k<3 else o.crop((0,0,110,130)), (x, y))
        if out: cross(x, y, 110, 163 if k<3 else 130)
        elif k<3 or k==4: d.rectangle((x-3, y-3, x+112, y+(165 if k<3 else 132)), outline=blue, width=6)
        else: d.rectangle((x-3, y-3, x+112, y+132), outline='#bf8700', width=6)
    text(426, 446, 'train', 30, blue), text(524, 446, 'test', 30, '#bf8700'), text(608, 446, 'left out', 30, bad)
    # model: a poster and what is said of it
    panel(3, 812, 0, 388, 'Model', 'in seconds')
    im.paste(shown.resize((150, 222)), (931, 122))
    for k,(name,p) in enumerate(sorted(probs.items(), key=lambda o: -o[1])):
        y = 356+42*k
        text(832, y, name, 30), text(1180, y, f'{p:.0%}', 30, anchor='ra')
        d.rectangle((992, y+8, 992+int(110*p)+1, y+30), fill=blue if k==0 else '#a9b4c2')
    # cleaned: labels that a model doubts
    panel(4, 0, 510, 592, 'Cleaned', 'labels that the model doubts, looked at')
    for k,(o,a,b) in enumerate(fixed[:3]):
        x = 28+188*k
        im.paste(o.resize((150, 222)), (x, 634))
        text(x, 868, a, 32, bad)
        w = d.textlength(a, font(32))
        d.line((x, 888, x+w, 888), bad, 4)
        text(x, 908, b, 32, good)
    # better: the same test rows before and after
    panel(5, 608, 510, 592, 'Better', f'accuracy on the same {n_test} test rows')
    low,high = .6, .9
    at = lambda v: round(650+(v-low)/(high-low)*500)
    for k,(arm,name,c) in enumerate((('raw → raw test','as found',grey), ('cleaned → raw test','cleaned',good), ('as many removed at random → raw test','as many removed at random',grey))):
        r,y = rep.loc[arm], 680+96*k
        text(640, y-44, name, 32, c)
        d.line((at(r['low']), y+16, at(r['high']), y+16), c, 6)
        d.ellipse((at(r['mean'])-12, y+4, at(r['mean'])+12, y+28), fill=c)
        text(1172, y-4, f"{r['mean']:.2f}", 36, c, 'ra')
    for v in (.6,.7,.8):
        text(at(v), 960, f'{v:.1f}', 26, grey, 'ma')
        d.line((at(v), 944, at(v), 956), grey, 2)
    d.line((at(low), 944, at(high)-60, 944), grey, 2)
    keep(im, 'path.webp', 62)

pictures = dict(path=path, search=search, cleaner=cleaner, learning=learning, learning_gif=learning_gif, ideas=ideas)
def main():
    for name in sys.argv[1:] or pictures: pictures[name]()

if __name__=='__main__': sys.exit(main())
