"The site: built from the notebooks, links checked, nothing loaded from elsewhere, read at two widths"
import re, shutil, sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('material', reason='mkdocs-material is not installed (pip install "genre_fastai[docs]")')
    import docs
    dest = tmp_path_factory.mktemp('site')
    docs.build(dest)
    return dest

def test_links(site):
    import docs
    assert docs.check(site)==[]

def test_readme_links():
    import docs
    assert docs.check_readme()==[]

def test_all_pages_are_there(site):
    want = {p.relative_to(root/'nbs').with_suffix('.html') for p in [*(root/'nbs').glob('*.ipynb'), *(root/'nbs/lessons').glob('*.ipynb')]}
    assert want <= {p.relative_to(site) for p in site.rglob('*.html')}

def test_arguments_are_shown(site):
    page = (site/'14_catalog.splits.html').read_text(encoding='utf-8')
    assert 'id="Catalog.leaks"' in page and 'Columns that name the film' in page
    assert '#| export' not in page

def test_names_lead_to_their_pages(site):
    "A function by its name, a method by the name of a variable before it"
    page = (site/'lessons/02_dataloaders.html').read_text(encoding='utf-8')
    assert '16_catalog.build.html#build_catalog' in page and '14_catalog.splits.html#Catalog.split"><code>cat.split()' in page

def test_pages_stand_by_package():
    import docs
    groups = docs.by_package(sorted((root/'nbs').glob('[0-9]*.ipynb')))
    assert list(groups)[:2]==['base','catalog'] and [p.stem for p in groups['features']][:3]==['49_features.store','50_features.extract','51_features.probe']

def test_notebooks_link_to_notebooks():
    "In Jupyter and on GitHub a link leads to a file, not to a page of the site"
    import nbformat
    bad = []
    for p in [*(root/'nbs').glob('*.ipynb'), *(root/'nbs/lessons').glob('*.ipynb')]:
        text = '\n'.join(c.source for c in nbformat.read(p, as_version=4).cells if c.cell_type=='markdown')
        found = {u.split('#')[0] for u in re.findall(r'\]\(([^)\s]+)\)', text) if not re.match(r'\w+:|#', u)}
        bad += [f'{p.name}: {u}' for u in found if not (p.parent/u).exists()]
    assert not bad, bad

def test_bars_are_left_out():
    import outputs
    assert outputs.plain('█\r |█████████-------| 50.00%\r         \rPrecision: fp32\nEpoch 6/6 : |████████████--------| 57.14%')=='Precision: fp32'

def test_check_finds_what_is_wrong(tmp_path):
    import docs
    (tmp_path/'a.html').write_text('<p id="x"><a href="b.html">b</a><a href="#y">y</a><a href="a.html#x">x</a><img src="http://elsewhere.example/i.png"><a href="http://elsewhere.example">ok</a>')
    assert [o.split(': ')[1] for o in docs.check(tmp_path)]==['b.html is not there', '#y has no such place', 'loads http://elsewhere.example/i.png']

def test_two_widths_and_search(site):
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed (pip install "genre_fastai[dev]")')
    if not (shutil.which('chromedriver') and any(map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome')))): pytest.skip('no chromium and chromedriver on this machine (Debian: apt-get install chromium chromium-driver)')
    import pictures
    from selenium.webdriver.support.ui import WebDriverWait
    d = pictures.browser()
    try:
        for width in (1280, 390):
            d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=844, deviceScaleFactor=1, mobile=width<600))
            for p in ('index.html', 'lessons/02_dataloaders.html', '14_catalog.splits.html', '99_glossary.html'):
                d.get((site/p).as_uri())
                assert d.execute_script('return document.documentElement.scrollWidth')<=width, f'{p} is wider than {width} pixels'
        # opened as a file, without a server
        d.get((site/'index.html').as_uri())
        d.execute_script("document.querySelector('[for=__search]').click(); const i = document.querySelector('.md-search__input'); i.focus(); i.value = 'duplicates';"
                         "i.dispatchEvent(new Event('input', {bubbles: true})); i.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}))")
        WebDriverWait(d, 20).until(lambda d: d.execute_script("return document.querySelectorAll('.md-search-result__link').length")>2)
    finally: d.quit()
