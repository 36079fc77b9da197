"Make the pictures of the lessons from drawn posters, in a headless Chromium: `python tools/pictures.py [search cleaner learning]`"
import contextlib, io, shutil, sys, tempfile, time
from pathlib import Path
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from genre_fastai.sample.site import SampleSite
from genre_fastai.sample.dataset import make_sample
from genre_fastai.collect.google import google_snippet

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

def state_of(url, name, act=False):
    "The widget of a notebook as a picture; with `act` after a mark, when it offers posters that look alike"
    from labsite import Page, wait
    d = browser(760, 1300)
    try:
        p = Page(d)
        p.open(f'{url}/doc/tree/{name}.ipynb')
        p.command('notebook:run-all-cells')
        wait(lambda: p.js("return document.querySelector('.gc-live')?.textContent.includes(' left')"), 'what is left', 120)
        p.choose('decided', 'undecided')
        time.sleep(2)
        p.cards(3)
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

pictures = dict(search=search, cleaner=cleaner, learning=learning)
def main():
    for name in sys.argv[1:] or pictures: pictures[name]()

if __name__=='__main__': sys.exit(main())
