"Heavier checks of the drawn sample and its site: other processes, other catalogs, many clients"
import hashlib, io, os, random, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen
import pytest
from PIL import Image
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.core import GenreError
from genre_fastai.sample.drawing import genres, parts, words
from genre_fastai.sample.dataset import *
from genre_fastai.sample.site import *
from genre_fastai.collect.google import google_urls

def digest(folder):
    h = hashlib.sha256()
    for f in sorted(folder.rglob('*')):
        if f.is_file(): h.update(f.relative_to(folder).as_posix().encode() + f.read_bytes())
    return h.hexdigest()

@pytest.fixture(scope='module')
def truth(tmp_path_factory): return make_sample(tmp_path_factory.mktemp('sample'), n=60, seed=3)

def get(url):
    with urlopen(url, timeout=10) as r: return r.read()

def test_same_bytes_in_another_process(truth, tmp_path):
    code = 'import sys; from genre_fastai.sample.dataset import make_sample; make_sample(sys.argv[1], n=60, seed=3)'
    subprocess.run([sys.executable, '-c', code, str(tmp_path/'s')], check=True, env={**os.environ, 'PYTHONHASHSEED':'7'})
    assert digest(tmp_path/'s')==digest(truth.path)

def test_rows_keep_their_ids(truth, tmp_path):
    read = read_catalog(truth.path/'truth.csv')
    assert read.df.to_dict('list')==truth.df.to_dict('list') and read.hash==truth.hash
    assert make_sample(tmp_path, n=60, seed=4).df['id'].isin(truth.df['id']).mean()>.5 # an id is that of a file, not of a drawing
    with SampleSite(truth) as site:
        assert [e['id'] for e in site.entries]==truth.df['id'].tolist()
        rows = Catalog(dict(file='', url=[site.url+e['url_path'] for e in site.entries], label='horror'), tmp_path)
        for known in (truth, read, site): assert add_truth(rows, known).df['film'].tolist()==truth.df['film'].tolist()

@pytest.mark.parametrize('kind', web_copy_kinds)
def test_web_copies_are_those_of_the_sample(truth, kind):
    for r in truth.where(kind=kind).df.to_dict('records'):
        rng = random.Random(f'store 3 {r["file"]}')
        assert web_copy(Image.open(truth.path/r['original']), kind, rng)==(truth.path/r['file']).read_bytes()

def test_rates_and_balance(truth):
    df = truth.df
    base = df[df['original']=='']
    assert len(base)==60 and base['true_label'].value_counts().tolist()==[20]*3
    wrong = base[base['kind']=='wrong_label']
    assert len(wrong)==round(.08*60) and wrong['true_label'].value_counts().max()<=2
    assert df['url_path'].is_unique and df['file'].is_unique
    assert df.groupby('label')['rank'].apply(lambda s: sorted(map(int, s))==list(range(1, len(s)+1))).all()
    assert set(df['fault'])=={'', *fault_kinds}

def test_links_that_fail_spare_originals_and_planted_errors(truth):
    df = truth.df
    lost = df[df['fault'].isin(['404', 'html', 'truncated', 'cut'])]
    assert set(lost['kind'])=={'clean'} and not set(lost['file']) & set(df['original'])

def test_exact_copies_are_exact_and_others_are_not(truth):
    for r in truth.df[truth.df['original']!=''].to_dict('records'):
        a,b = ((truth.path/r[c]).read_bytes() for c in ('file', 'original'))
        assert (a==b)==(r['kind'] in ('exact_duplicate', 'cross_class_duplicate')), r
        Image.open(truth.path/r['file']).load()

def test_search_pages_are_read_completely(truth):
    with SampleSite(truth) as site:
        for label in genres:
            want = truth.where(label=label).df.sort_values('rank', key=lambda s: s.astype(int))
            got = google_urls(get(site.search_url(label)).decode(), label)
            assert got['url'].tolist()==[site.url+p for p in want['url_path']]
            assert got['source'].str.startswith(site.url+'/film/').all()

def test_more_than_a_hundred_results_and_odd_titles(tmp_path):
    Image.new('RGB', (20,30)).save(tmp_path/'a.jpg')
    odd = '</script><b onmouseover="x()">&amp; "Ünder" \\u003d'
    cat = Catalog([dict(file='a.jpg', label='R&B <i>', title=odd, year=str(1900+i)) for i in range(130)], tmp_path)
    with SampleSite(cat) as site:
        page = get(site.search_url('R&B <i>')).decode()
        assert len(google_urls(page, 'x'))==130
        assert '<b onmouseover' not in page and '<b onmouseover' not in get(site.url+'/film/0').decode()

def test_any_catalog_and_several_labels(tmp_path):
    for n in 'ab': Image.new('RGB', (20,30), n=='a' and 'red' or 'blue').save(tmp_path/f'{n}.png')
    cat = Catalog(dict(file=['a.png', 'b.png'], labels=['Action|Comedy', 'Comedy']), tmp_path)
    with SampleSite(cat) as site:
        assert site.labels==['Action', 'Comedy']
        assert [len(google_urls(get(site.search_url(l)).decode(), l)) for l in site.labels]==[1, 2]
        with urlopen(site.url+site.entries[0]['url_path']) as r: assert r.headers['Content-Type']=='image/png'
        assert b'No results' in get(site.search_url('western'))
    with pytest.raises(GenreError, match='leaves the folder'): SampleSite(Catalog(dict(file=['../a.png'], label=['x']), tmp_path/'sub'))

def test_thumbnails_are_small_upright_jpegs(truth):
    with SampleSite(truth) as site:
        for i,e in enumerate(site.entries):
            im = Image.open(io.BytesIO(get(f'{site.url}/thumb/{i}')))
            assert im.format=='JPEG' and im.mode=='RGB' and max(im.size)<=300 and im.height>im.width, e['kind']

def test_many_clients_at_once_and_a_clean_end(truth):
    before = threading.active_count()
    good = truth.df[truth.df['fault'].isin(['', 'query', 'redirect'])]
    with SampleSite(truth) as site:
        with ThreadPoolExecutor(32) as ex: got = list(ex.map(get, [site.url+p for p in good['url_path']]*3))
        url = site.url
    assert got==[(truth.path/f).read_bytes() for f in good['file']]*3
    with pytest.raises(OSError): get(url)
    assert threading.active_count()<=before+1

@pytest.mark.parametrize('path',
    ['/posters/..%2f..%2ftruth.csv', '/truth.csv', '//etc/passwd', '/images/0000.jpg', '/film/99999', '/thumb/-1', '/thumb/٣'])
def test_nothing_else_is_served(truth, path):
    with SampleSite(truth) as site, pytest.raises(HTTPError) as e: get(site.url+quote(path, safe='/%'))
    assert e.value.code==404

def test_a_genre_of_ones_own(tmp_path):
    "Weights for each kind of part and a few words make a genre that can be drawn"
    before,titles = {k: {n: dict(w) for n,(_,w) in ps.items()} for k,ps in parts.items()}, dict(words)
    try:
        used = dict(palette='golden', backdrop='rays', scene='peaks', figure='walker', decor='birds', lettering='torn')
        for k,name in used.items(): parts[k][name][1]['western'] = 1
        words['western'] = words['horror']
        cat = make_sample(tmp_path, n=20, classes=['western', 'horror'])
        assert cat.classes==['horror', 'western']
    finally:
        words.pop('western')
        for ps in parts.values():
            for _,w in ps.values(): w.pop('western', None)
    assert before=={k: {n: dict(w) for n,(_,w) in ps.items()} for k,ps in parts.items()} and titles==words
