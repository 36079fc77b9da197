"Make the pictures of the lessons from drawn posters, in a headless Chromium: `python tools/pictures.py [search cleaner]`"
import io, shutil, sys, tempfile, time
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

pictures = dict(search=search, cleaner=cleaner)
def main():
    for name in sys.argv[1:] or pictures: pictures[name]()

if __name__=='__main__': sys.exit(main())
