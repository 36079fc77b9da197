"Lessons: their frame, their clean twins, and exercises that can be solved"
import re, sys, warnings
from pathlib import Path
import pytest, nbformat

root = Path(__file__).resolve().parent.parent
lessons = sorted((root/'nbs/lessons').glob('*.ipynb'))
sys.path.insert(0, str(root/'tools'))
ids = dict(ids=lambda p: p.stem)

def cells(p, kind): return [c.source for c in nbformat.read(p, as_version=4).cells if c.cell_type==kind]

def test_clean_twins_are_in_step():
    import clean_twins
    assert clean_twins.in_step(), 'nbs/lessons/clean is not what the lessons give: run `python tools/clean_twins.py`'
    assert (root/'nbs/lessons/clean/.notest').is_file()

@pytest.mark.parametrize('p', lessons, **ids)
def test_frame(p):
    prose,code = '\n'.join(cells(p, 'markdown')), cells(p, 'code')
    assert re.match(rf'# Lesson {int(p.stem[:2])}: .+\n\n> .+', prose)
    for part in ('You will be able to', '**Time**', '## Recap', '## Exercises', '## Where to go next', f'/nbs/lessons/{p.name})'): assert part in prose, part
    assert code[0].startswith('#| hide') and "'google.colab' in sys.modules" in code[0]
    assert all(len(c.strip().splitlines())<=12 for c in code), 'a few lines a cell'

@pytest.mark.parametrize('p', lessons, **ids)
def test_lessons_define_nothing_to_copy(p):
    assert not [c for c in cells(p, 'code') if re.search(r'^(def|class) |^#\|\s*export', c, re.M)]

@pytest.mark.parametrize('p', lessons, **ids)
def test_every_exercise_has_a_check(p):
    from genre_fastai.course.exercises import checks
    asked = re.findall(r"check\('([\d.]+)'", '\n'.join(cells(p, 'code')))
    assert asked and asked==[k for k in sorted(checks) if k.startswith(f'{int(p.stem[:2])}.')]

@pytest.fixture(scope='module')
def got(tmp_path_factory):
    from genre_fastai.course.exercises import lesson_download
    return lesson_download(tmp_path_factory.mktemp('lesson'), n=36)

def test_exercises_of_lesson_1(got):
    from genre_fastai.sample.site import SampleSite
    from genre_fastai.collect.download import download_posters
    from genre_fastai.collect.google import google_urls
    from genre_fastai.collect.net import reasons
    from genre_fastai.course.exercises import check
    tmp = got.path.parent
    page = google_urls(tmp/'pages/romance.html', 'romance')
    assert bool(check('1.1', page.head(20)))==(len(page)>=20)
    assert not check('1.1', google_urls(tmp/'pages/romance.html').head(20))
    assert check('1.2', [k for k,v in reasons.items() if 'etry' in v])
    with SampleSite(tmp/'sample/truth.csv') as site:
        urls = [f'{site.url}{e["url_path"]}' for e in site.entries if not e['fault']][:5]
        small = download_posters(urls, tmp/'small', max_side=100, allow_private=True, progress=False)
    assert check('1.3', small)

def test_exercises_of_lesson_2(got):
    from genre_fastai.all import RandomSplitter, range_of
    from genre_fastai.catalog.build import build_catalog
    from genre_fastai.vision.data import get_dls
    from genre_fastai.course.exercises import check
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # few films
        assert check('2.1', build_catalog(got, policy=dict(grey='drop'), progress=False))
        cat = build_catalog(got, progress=False)
        fair = cat.split(test=.3, freeze=False)
    assert check('2.2', fair)
    whole = got.verify(progress=False)
    _,valid = RandomSplitter(.2, seed=1)(range_of(whole.df))
    careless = whole.assign(split=['valid' if i in set(valid) else 'train' for i in range(len(whole))])
    assert check('2.3', careless.leaks(whole.find_duplicates(progress=False)))
    assert check('2.4', get_dls(fair, bs=4, size=128, method='pad'))
