"The console snippet in a real headless Chromium, on one page for each generation of Google Images (tests/fixtures/google)"
import functools, http.server, json, shutil, threading, time
from pathlib import Path
import pytest
from genre_fastai.core import GenreError
from genre_fastai.collect.google import google_snippet, google_urls
from genre_fastai.collect.urls import read_urls

pages = Path(__file__).parent/'fixtures'/'google'
programs = ('chromium', 'chromium-browser', 'google-chrome'), ('chromedriver',)
browser,driver = [next(filter(None, map(shutil.which, o)), None) for o in programs]
needs_browser = pytest.mark.skipif(not (browser and driver),
    reason='no chromium and chromedriver on this machine (Debian: apt-get install chromium chromium-driver)')
flags = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update '
    '--disable-sync --disable-dev-shm-usage')

class Site(http.server.SimpleHTTPRequestHandler):
    "The fixtures, with the Trusted Types policy as a header too; a POST is answered like a GET"
    def end_headers(self):
        self.send_header('Content-Security-Policy', "require-trusted-types-for 'script'; trusted-types 'none'")
        super().end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self.do_GET()
    def log_message(self, *args): return None

@pytest.fixture(scope='module')
def site():
    srv = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Site, directory=str(pages)))
    threading.Thread(target=srv.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{srv.server_port}'
    srv.shutdown()
    srv.server_close()

@pytest.fixture(scope='module')
def chrome(tmp_path_factory):
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed (pip install "genre_fastai[dev]")')
    from selenium.webdriver.chrome.service import Service
    tmp = tmp_path_factory.mktemp('chrome')
    o = webdriver.ChromeOptions()
    o.binary_location = browser
    for f in flags.split() + [f'--user-data-dir={tmp/"profile"}', '--window-size=1100,700']: o.add_argument(f)
    o.add_experimental_option('prefs', {'download.default_directory': str(tmp/'saved'), 'download.prompt_for_download': False})
    d = webdriver.Chrome(options=o, service=Service(driver))
    d.saved = tmp/'saved'
    yield d
    d.quit()

def console(d, js):
    "Run `js` as a text pasted into the console"
    r = d.execute_cdp_cmd('Runtime.evaluate', dict(expression=js, awaitPromise=True, returnByValue=True))
    assert 'exceptionDetails' not in r, r['exceptionDetails']
    return r['result'].get('value')

def wait(f, what, secs=15):
    end = time.monotonic()+secs
    while time.monotonic()<end:
        if res := f(): return res
        time.sleep(.05)
    raise AssertionError(f'{what} did not come within {secs} s')

def paste(d, url, name='horror', n=200, patience=8, tick=60):
    "Open the page, paste the snippet (with a quicker clock), wait for its end, give its rows as the csv that was saved"
    shutil.rmtree(d.saved, ignore_errors=True)
    d.get(url)
    wait(lambda: console(d, "document.readyState==='complete' && !!document.body"), 'the page') # a person pastes into a page that is there
    snippet = str(google_snippet(name, n))
    assert snippet.rstrip().endswith(f', {n});')
    console(d, snippet.rstrip()[:-2] + f', {tick}, {patience});')
    wait(lambda: console(d, 'genreUrls.done'), 'the end of the snippet')
    if not console(d, 'genreUrls.rows.length'): return None
    return saved_csv(d)

def saved_csv(d): return wait(lambda: next(iter(d.saved.glob('*.csv')), None) if d.saved.is_dir() else None, 'the saved csv')

both = ['odd', 'gen1', 'gen2', 'gen3', 'gen4', 'gen5', 'gen5_saved', 'gen6', 'gen6_pairs']
more = dict(gen2='gen2_more', gen5='gen5_more', gen6='gen6_more')
counts = dict(odd=4, gen1=5, gen2=7, gen3=6, gen4=4, gen5=7, gen5_saved=5, gen6=6, gen6_pairs=5)

@needs_browser
@pytest.mark.parametrize('gen', both)
def test_every_generation(chrome, site, gen):
    "What the snippet saves is what Python reads from the page and from the answers that arrive on scrolling"
    # where more arrives on scrolling the wanted count ends the run, and a slow machine gets the time it needs
    csv = paste(chrome, f'{site}/{gen}.html', **(dict(n=counts[gen], patience=200) if gen in more else {}))
    assert csv.name == 'horror.csv' and console(chrome, 'genreUrls.message').endswith(f'Saved {counts[gen]} addresses to horror.csv.')
    got = read_urls(csv)
    page = (pages/f'{gen}.html').read_text()
    if gen in more: page += (pages/f'{more[gen]}.txt').read_text()
    want = google_urls(page, label='horror')
    assert list(got) == 'url label rank width height source'.split()
    assert len(got) == counts[gen] and got['rank'].tolist() == [str(i+1) for i in range(len(got))]
    assert got.drop(columns='source').to_dict('list') == want.drop(columns='source').to_dict('list')
    assert got['source'].tolist() == want['source'].tolist()
    assert console(chrome, 'genreUrls.tiles') == 0 # nothing is opened where the page tells

@needs_browser
def test_the_search_page_of_the_sample(chrome, tmp_path):
    "The package's own search site: every result, in the order and with the sizes that Python reads"
    from urllib.request import urlopen
    from genre_fastai.sample.site import SampleSite
    from genre_fastai.sample.dataset import make_sample
    with SampleSite(make_sample(tmp_path, n=24, seed=1)) as s:
        got = read_urls(paste(chrome, s.search_url('horror')))
        want = google_urls(urlopen(s.search_url('horror')).read().decode(), label='horror')
    assert len(got)>=5 and got.to_dict('list') == want.to_dict('list')

@needs_browser
def test_policy_holds(chrome, site):
    "The page really refuses what the snippet must not do"
    chrome.get(f'{site}/gen6.html')
    r = chrome.execute_cdp_cmd('Runtime.evaluate', dict(expression="document.createElement('div').innerHTML = '<b>x</b>'"))
    assert 'TrustedHTML' in json.dumps(r)

@needs_browser
def test_thumbnails_are_the_last_resort(chrome, site):
    got = read_urls(paste(chrome, f'{site}/gen1b.html', tick=20))
    assert got['kind'].tolist() == ['thumbnail']*4
    message = console(chrome, 'genreUrls.message')
    assert 'Only thumbnails' in message and message.endswith('Opened 4 tiles: 0 full pictures, 4 without a new one.')

@needs_browser
@pytest.mark.parametrize('gen', ['empty', 'consent'])
def test_nothing_found_is_said(chrome, site, gen):
    assert paste(chrome, f'{site}/{gen}.html', patience=3) is None
    text = console(chrome, "document.getElementById('genre-urls').textContent")
    assert 'Nothing was found' in text and 'imgres' in text and 'Nothing was saved' in text

@needs_browser
def test_stops_at_the_wanted_count_and_escapes(chrome, site):
    csv = paste(chrome, f'{site}/gen3.html', name='horreur à 2', n=2)
    assert csv.name == 'horreur à 2.csv' and read_urls(csv)['label'].tolist() == ['horreur à 2']*2
    assert console(chrome, 'genreUrls.message').startswith('Done.')

@needs_browser
def test_stop_button_panel_and_hooks(chrome, site):
    "The button saves what is there, a second click closes the panel, and the page gets its own fetch back"
    chrome.get(f'{site}/gen3.html')
    shutil.rmtree(chrome.saved, ignore_errors=True)
    console(chrome, 'window.fetch0 = fetch; window.send0 = XMLHttpRequest.prototype.send')
    console(chrome, str(google_snippet('horror', 500)))
    assert console(chrome, 'fetch !== fetch0 && XMLHttpRequest.prototype.send !== send0')
    assert console(chrome, "document.querySelector('#genre-urls progress').max") == 500
    console(chrome, "document.querySelector('#genre-urls button').click()")
    assert console(chrome, 'fetch === fetch0 && XMLHttpRequest.prototype.send === send0')
    assert console(chrome, 'genreUrls.message') == 'Stopped. Saved 6 addresses to horror.csv.'
    assert len(read_urls(saved_csv(chrome))) == 6
    console(chrome, "document.querySelector('#genre-urls button').click()")
    assert console(chrome, "document.getElementById('genre-urls')") is None

@needs_browser
def test_the_page_still_gets_its_answers(chrome, site):
    "The hooks read a copy: the page's own code sees every answer whole, errors included"
    chrome.get(f'{site}/empty.html')
    console(chrome, str(google_snippet('horror', 500)))
    assert console(chrome, "fetch('gen5_more.txt').then(r => r.text()).then(t => t.length)") == len((pages/'gen5_more.txt').read_text())
    assert console(chrome, "fetch('http://127.0.0.1:1/').catch(e => e.name)") == 'TypeError'
    assert console(chrome, """new Promise(f => { const x = new XMLHttpRequest(); x.responseType = 'arraybuffer';
        x.open('GET', 'gen2_more.txt');
        x.onload = () => f(x.response.byteLength); x.send(); })""") == len((pages/'gen2_more.txt').read_bytes())
    console(chrome, 'genreUrls.stop()')
    assert console(chrome, 'genreUrls.rows.length') == 4 # three from the one, and one more from the other

@needs_browser
def test_copy_button(chrome, site, tmp_path):
    "The notebook's button puts the whole snippet on the clipboard"
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    snippet = google_snippet('horror', 300)
    (tmp_path/'cell.html').write_text(f'<!doctype html><meta charset="utf-8">{snippet._repr_html_()}<p><textarea id="to"></textarea>')
    chrome.get((tmp_path/'cell.html').as_uri())
    chrome.find_element(By.TAG_NAME, 'button').click()
    wait(lambda: chrome.find_element(By.TAG_NAME, 'button').text=='Copied', 'the word Copied')
    chrome.find_element(By.ID, 'to').send_keys(Keys.CONTROL, 'v')
    assert chrome.execute_script("return document.getElementById('to').value") == str(snippet)

def test_nothing_found_in_python():
    with pytest.raises(GenreError, match='imgres.*Scroll through'): google_urls(pages/'empty.html')
    with pytest.raises(GenreError, match='consent form'): google_urls(pages/'consent.html')
    with pytest.raises(GenreError, match='no file'): google_urls(pages/'none.html')

# ---- tiles.html has thumbnails only: the full picture appears in the viewer when a tile is opened
def film(i): return f'https://img.example.com/t{i}.jpg?w=1000&fit=crop'

@needs_browser
def test_tiles_are_opened(chrome, site):
    "Each tile is opened once and gives its picture with its own source page: a stale one, one that comes too late; two give none"
    df = read_urls(paste(chrome, f'{site}/tiles.html?q=horror'))
    assert console(chrome, 'opened') == [f't{i}' for i in range(13)] # no advertisement, no related picture, none twice, lazy ones too
    assert sorted(df['url']) == sorted(map(film, (0, 1, 2, 5, 6, 7, 8, 10, 11, 12)))
    page = dict(zip(df['url'], df['source']))
    assert page.pop(film(6)) == 'https://films6.example.com/%E2%80%AEgpj.film'
    assert page == {film(i): f'https://films{i}.example.com/film' for i in (0, 1, 2, 5, 7, 8, 10, 11, 12)}
    assert df['rank'].tolist() == [str(i+1) for i in range(10)]
    assert df.loc[df['url']==film(10), ['width', 'height']].values.tolist() == [['800', '1200']]
    assert console(chrome, 'genreUrls.message') == ('The page has no more. Opened 13 tiles: 10 full pictures, 3 without a new one. '
        '2 tiles led elsewhere (advertisements, related searches). Saved 10 addresses to horror.csv.')
    # the page was never left, whatever its links and scripts wanted, and has its own functions back
    assert chrome.current_url == f'{site}/tiles.html?q=horror' and len(chrome.window_handles) == 1
    assert console(chrome, "String(window.open)").startswith('function open() { [native')
    assert len(list(chrome.saved.glob('*'))) == 1

@needs_browser
def test_a_viewer_with_new_names(chrome, site):
    "The viewer's picture is known without its names too: large, no tile, and new"
    df = read_urls(paste(chrome, f'{site}/tiles.html?plain=1', n=3))
    assert df['url'].tolist() == [film(0), film(1), film(2)] and console(chrome, 'genreUrls.tiles') == 3

def start(d, url, n=200, before='0', tick=60):
    "The snippet on a page, begun and not waited for"
    shutil.rmtree(d.saved, ignore_errors=True)
    d.get(url)
    wait(lambda: console(d, "document.readyState==='complete'"), 'the page')
    console(d, before)
    console(d, str(google_snippet('horror', n)).rstrip()[:-2] + f', {tick}, 8);')

@needs_browser
@pytest.mark.parametrize('how,why', [("document.querySelector('#genre-urls button').click()", 'Stopped.'),
    ("history.pushState({}, '', '?q=romance')", 'The page shows another search now.'), ('away.html', ''),
    ("document.querySelectorAll = 0; document.body.textContent = ''", 'The page broke')])
def test_what_was_found_is_kept(chrome, site, how, why):
    "Stopped, led to another search, left or broken in the middle of the tiles: one csv with what was there"
    start(chrome, f'{site}/tiles.html?q=horror', tick=40)
    wait(lambda: console(chrome, 'genreUrls.full>2'), 'the third picture')
    if how=='away.html': chrome.get(f'{site}/away.html')
    else: console(chrome, how)
    if why: wait(lambda: console(chrome, f'genreUrls.message.startsWith({json.dumps(why)})'), why)
    assert read_urls(saved_csv(chrome))['url'].tolist()[:3] == [film(0), film(1), film(2)]
    time.sleep(.3)
    assert len(list(chrome.saved.glob('*'))) == 1

@needs_browser
def test_a_viewer_that_never_comes(chrome, site):
    "Five tiles without a picture are enough to leave the others closed; the thumbnails are the last resort"
    start(chrome, f'{site}/tiles.html', before='window.dead = true', tick=20)
    wait(lambda: console(chrome, 'genreUrls.done'), 'the end')
    assert console(chrome, 'opened.length') == 5
    assert set(read_urls(saved_csv(chrome))['kind']) == {'thumbnail'}

@needs_browser
def test_a_hidden_tab_waits(chrome, site):
    "A browser shows nothing in a hidden tab, so no tile is given up there"
    start(chrome, f'{site}/tiles.html', n=2, before="Object.defineProperty(document, 'hidden', {get: () => !window.shown})")
    wait(lambda: 'bring this tab to the front' in console(chrome, 'genreUrls.message'), 'the message')
    assert console(chrome, 'genreUrls.tiles') == 0
    console(chrome, 'window.shown = true')
    assert read_urls(saved_csv(chrome))['url'].tolist() == [film(0), film(1)]
