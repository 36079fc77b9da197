"Make the pictures of the lessons from the drawn sample site, in a headless Chromium: `python tools/pictures.py`"
import io, shutil, sys, tempfile, time
from pathlib import Path
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from genre_fastai.sample import SampleSite, make_sample
from genre_fastai.urls import google_snippet

dest = Path(__file__).resolve().parent.parent/'nbs/lessons/images'

def browser(width=1000, height=640):
    "A headless Chromium whose page has this size"
    opts = webdriver.ChromeOptions()
    for a in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', f'--window-size={width},{height}', '--hide-scrollbars'): opts.add_argument(a)
    opts.binary_location = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))))
    d = webdriver.Chrome(options=opts, service=Service(shutil.which('chromedriver')))
    d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=height, deviceScaleFactor=1, mobile=width<600))
    return d

def shoot(d, name, quality=55):
    "Keep what the browser shows as a small WebP"
    im = Image.open(io.BytesIO(d.get_screenshot_as_png())).convert('RGB')
    dest.mkdir(parents=True, exist_ok=True)
    im.save(dest/name, 'WEBP', quality=quality, method=6)
    print(f'{name}: {(dest/name).stat().st_size/1000:.0f} KB')

def main():
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

if __name__=='__main__': sys.exit(main())
