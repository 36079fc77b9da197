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

def test_exercises_of_lesson_0(tmp_path):
    "With a small model, whose answers may be wrong: the check says so, and takes what is right"
    from genre_fastai.all import build_catalog, load_predictor, make_sample, save_predictor, train, unseen_poster
    from genre_fastai.deploy.answer import answer
    from genre_fastai.course.exercises import check
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # few films
        cat = build_catalog(make_sample(tmp_path, n=36, seed=4, size=(80,120)), progress=False)
        save_predictor(train(cat, 'probe', arch='tf_efficientnet_lite0', size=(64,48)), tmp_path/'model')
    model,test = load_predictor(tmp_path/'model'), cat.ok.where(split='test')
    answers = [answer(model, unseen_poster('superhero', i, size=(80,120)), cam=False) for i in range(12)]
    assert [bool(check('0.1', o)) for o in answers]==[o.pred=='superhero' for o in answers] and any(o.pred=='superhero' for o in answers)
    assert check('0.2', (test, model.predict(test.files))) and not check('0.2', (cat.ok, model.predict(cat.ok.files)))

def test_exercise_5_4(tmp_path):
    "A live list without an audit, looked at 40 times by a simulated person"
    from genre_fastai.clean.decisions import CleaningSession
    from genre_fastai.clean.evaluate import simulate_cleaning, simulated_catalog, true_label_errors
    from genre_fastai.clean.live import LiveIssues
    from genre_fastai.course.exercises import check
    cat,feats = simulated_catalog(150, seed=2)
    for audit,looks,right in ((0,40,True), (0,20,False), (.1,40,False)):
        live = LiveIssues(CleaningSession(cat, tmp_path/f'{audit} {looks}.jsonl'), feats, audit=audit)
        simulate_cleaning(cat, live, true_label_errors(cat), looks=looks)
        assert bool(check('5.4', live))==right

def test_the_whole_game_leads_to_every_lesson():
    prose = '\n'.join(cells(lessons[0], 'markdown'))
    assert lessons[0].stem=='00_whole_game' and all(f'({p.name})' in prose for p in lessons[1:])

@pytest.mark.parametrize('p', lessons, **ids)
def test_pictures_are_there(p):
    for name in re.findall(r'!\[[^]]*\]\((?!https?:)([^)]+)\)', '\n'.join(cells(p, 'markdown'))): assert (p.parent/name).is_file(), name
