"The cleaner: its answers without a browser, and the widget itself in headless Chromium against a real JupyterLab, Notebook 7 and Voila"
import hashlib, io, json, time, types
import numpy as np, pandas as pd, pytest
from PIL import Image
from genre_fastai.clean.decisions import CleaningSession, replay
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError
from genre_fastai.clean.thumbs import Thumbs
from genre_fastai.clean.widget import ImageCleaner, items_catalog
from genre_fastai.predictions import Predictions
from labsite import Page, browser, chromium, driver, missing, notebook, server, wait

classes = ['horror', 'romance', 'superhero']

def posters(path, n=60, **cols):
    "Plain pictures, their catalog with a split, and an issue of every third row that is no test row"
    (path/'images').mkdir(parents=True, exist_ok=True)
    for i in range(n): Image.new('RGB', (80,120), (i*37%256, i*91%256, i*53%256)).save(path/f'images/{i:03d}.jpg')
    split = [('train','train','valid','test')[i%4] for i in range(n)]
    cols = dict(label=[classes[i%3] for i in range(n)], split=split, url=[f'https://example.com/{i}' for i in range(n)], **cols)
    cat = Catalog(dict(file=[f'images/{i:03d}.jpg' for i in range(n)], **cols), path)
    odd = cat[[i%3==0 and s!='test' for i,s in enumerate(cat.df['split'])]].df
    fix = dict(action='relabel', suggested='romance', other='', reason='confident learning', prob=.9, prob_label=.05)
    return cat, pd.DataFrame(dict(id=odd['id'], file=odd['file'], **fix))

def said(w, ask, **m): return w.answer(dict(ask=ask, **m))[0]
def id_of(cat, i): return cat.df['id'][cat.df['file'].tolist().index(f'images/{i:03d}.jpg')]

# ---- without a browser
def test_two_widgets_on_one_journal(tmp_path):
    cat,sugg = posters(tmp_path)
    a,b = (ImageCleaner(cat, tmp_path/'j.jsonl', sugg) for _ in range(2))
    f,g = sugg['id'][:2]
    said(a, 'mark', id=f, action='delete')
    said(b, 'mark', id=g, action='keep')
    said(a, 'mark', id=f, action='relabel', label='romance')
    want = dict(keep=1, delete=0, relabel=1, add_label=0, remove_label=0, copy_of=0, left=0)
    for w in (a, b): assert said(w, 'page', fresh=True)['counts'] | dict(left=0) == want
    assert {r['id']:r['state']['labels'] for r in said(b, 'page')['rows']}[f]==['romance']
    assert a.session.apply().to_csv()==replay(cat, tmp_path/'j.jsonl').to_csv()

def test_no_page_and_no_picture_is_kept_in_the_state(tmp_path):
    cat,sugg = posters(tmp_path)
    w = ImageCleaner(cat, tmp_path/'j.jsonl', sugg)
    before = json.dumps(w.get_state(), default=str)
    for p in range(3): said(w, 'pictures', ids=[r['id'] for r in said(w, 'page', page=p)['rows']])
    after = json.dumps(w.get_state(), default=str)
    assert after==before and len(after) < 60_000
    assert 'images/' not in after.replace('image/jpeg', '')

def test_memory_does_not_grow_with_the_pages(tmp_path):
    cat,_ = posters(tmp_path)
    t = Thumbs(cat.path, size=10)
    for f in cat.df['file']: t.get([f])
    assert len(t.made)==10

def test_pages_from_stored_pixels(tmp_path, monkeypatch):
    "What was decoded for training is not decoded to be shown; a changed file is"
    import genre_fastai.clean.thumbs as small
    from genre_fastai.measure import MeasureStore, fit_pixels
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    cat,_ = posters(tmp_path, 12)
    Image.new('RGB', (120,80), 'navy').save(cat.files[3]) # a wide one
    tall,decode = tmp_path/'images/004.jpg', small.thumbnail
    exif = Image.Exif(); exif[0x0112] = 6
    Image.new('RGB', (120,80), 'teal').save(tall, exif=exif) # lies on its side
    pixels = [fit_pixels(small.open_image(f.read_bytes()), (96,64)) for f in cat.files[:11]]
    MeasureStore().pixels((96,64)).add([hashlib.sha256(f.read_bytes()).digest() for f in cat.files[:11]], np.stack(pixels))
    made = []
    monkeypatch.setattr(small, 'thumbnail', lambda data, *args: (made.append(data), decode(data, *args))[1])
    w = ImageCleaner(cat, tmp_path/'j.jsonl')
    rows = said(w, 'page')['rows']
    r,buffers = w.answer(dict(ask='pictures', ids=[o['id'] for o in rows]))
    got = {o['file'][7:10]: Image.open(io.BytesIO(b)) for o,b in zip(rows, buffers)}
    assert made==[cat.files[11].read_bytes()] and len(got)==12 and not r['errors']
    assert got['000'].size==(64,96) and got['003'].size==(120,80) and got['004'].size==(64,96) and got['011'].size==(80,120)
    for k,im in got.items():
        want = np.asarray(decode(cat.path/f'images/{k}.jpg', 320)).mean((0,1))
        assert np.abs(np.asarray(im).mean((0,1))-want).max()<3
    tall.write_bytes(cat.files[0].read_bytes()+b'x')
    Thumbs(cat.path).get(['images/004.jpg'])
    assert len(made)==2

def test_hostile_catalog(tmp_path):
    cat,_ = posters(tmp_path, 8)
    urls = ['javascript:alert(1)', 'data:text/html,x', ' https://a.b', 'HTTPS://a.b', '', 'file:///etc/passwd', '//a.b', 'http://a.b']
    cat = cat.assign(url=urls)
    (tmp_path/'images/001.jpg').write_bytes(b'<html>no</html>')
    (tmp_path/'images/002.jpg').unlink()
    w = ImageCleaner(cat, tmp_path/'j.jsonl')
    assert [r['url'] for r in said(w, 'page')['rows']]==['', '', '', 'HTTPS://a.b', '', '', '', 'http://a.b']
    ids = cat.df['id'][:4].tolist()
    r,buffers = w.answer(dict(ask='pictures', ids=ids))
    assert {o: why.split(':')[0] for o,why in r['errors'].items()}=={ids[1]: 'html', ids[2]: 'missing'}
    assert r['ids']==[ids[0], ids[3]] and len(buffers)==2

first = Catalog(dict(file=['images/000.jpg'], label='')).df['id'][0]

@pytest.mark.parametrize('m', [3, None, [], {}, dict(ask=3), dict(ask='page', filters=dict(nothing=1)), dict(ask='page', page='x'),
    dict(ask='mark'), dict(ask='mark', id=['a'], action='keep'), dict(ask='mark', id='images/000.jpg', action='keep'), dict(ask='pictures'),
    dict(ask='mark', id=first, action='copy_of', other=first), dict(ask='mark', id=first, action='relabel')], ids=str)
def test_bad_messages_are_answered(tmp_path, m):
    cat,_ = posters(tmp_path, 8)
    assert first==id_of(cat, 0)
    w = ImageCleaner(cat, tmp_path/'j.jsonl')
    assert w.answer(m)[0]['tell']=='error' and w.answer(m)[0]['error']
    assert said(w, 'page')['counts']['left']==6

def test_suggested_pairs(tmp_path):
    cat,_ = posters(tmp_path, 8)
    ids = [id_of(cat, i) for i in (4,5,1)]
    sugg = pd.DataFrame(dict(id=ids[:2], action=['copy_of','delete'], suggested='', other=[ids[2],''], reason=['near duplicate','blurry']))
    w = ImageCleaner(cat, tmp_path/'j.jsonl', sugg)
    row, = said(w, 'page', view='pairs')['rows']
    assert (row['a']['file'], row['b']['file'])==('images/001.jpg', 'images/004.jpg')
    assert row['b']['fix']==dict(action='copy_of', label='', other=ids[2], name='001.jpg')
    assert said(w, 'open')['reasons']==['blurry', 'near duplicate'] and said(w, 'page', filters=dict(reason='blurry'))['total']==1

def test_several_labels_and_predictions(tmp_path):
    cat,_ = posters(tmp_path, 6)
    cat = Catalog(cat.df.drop(columns='label').assign(labels=['a|b','b','','a','c|a','c']), tmp_path)
    p = np.array([[.9,.2,.1],[.6,.7,.1],[.1,.1,.2],[.9,.1,.1],[.4,.1,.9],[.2,.1,.6]])
    w = ImageCleaner(cat, tmp_path/'j.jsonl', interp=Predictions(cat, p, ['a','b','c']))
    rows = {r['file'][-7:-4]:r for r in said(w, 'page')['rows']}
    assert [rows[f'00{i}']['pred'] for i in range(6)]==['a', 'a|b', '', 'a', 'c', 'c']
    assert [rows[f'00{i}'][k] for i,k in ((0,'prob_label'), (1,'prob'), (2,'prob'))]==[.2, .6, .2]
    assert rows['000']['n']==1 # the label b with 20 % has the highest loss
    assert said(w, 'page', filters=dict(label='a'))['total']==3

@pytest.mark.parametrize('multi', [False, True])
def test_in_place_of_fastais(tmp_path, multi):
    "A learner that was made with fastai alone"
    from fastai.vision.all import ImageBlock, CategoryBlock, MultiCategoryBlock, DataBlock, Learner, RandomSplitter, Resize, accuracy, nn
    from genre_fastai.clean.widget import ImageClassifierCleaner
    cat,_ = posters(tmp_path, 12)
    labels = {str(f):(t + ['dark'] if multi else t[0]) for f,t in zip(cat.files, cat.targets)}
    block = ImageBlock, MultiCategoryBlock if multi else CategoryBlock
    db = DataBlock(block, get_y=lambda o: labels[str(o)], splitter=RandomSplitter(seed=1), item_tfms=Resize(32))
    dls = db.dataloaders(list(cat.files), bs=4, num_workers=0)
    made = items_catalog(dls)
    assert made.multi==multi
    want = {f:sorted(t if multi else [t]) for f,t in labels.items()}
    assert {str(f):sorted(t) for f,t in zip(made.files, made.targets)}==want
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, dls.c)), path=tmp_path)
    c = ImageClassifierCleaner(learn, max_n=5)
    ids = c.rows['id'].tolist()
    said(c, 'mark', id=ids[7], action='delete')
    said(c, 'mark', id=ids[2], action='add_label' if multi else 'relabel', label='horror' if 'horror' not in c.row(2)['was'] else 'romance')
    assert c.delete()==[7] and [i for i,_ in c.change()]==[2] and c.fns[7].is_file()
    assert len(said(c, 'page')['rows'])==5 and (tmp_path/'cleaning.jsonl').is_file()
    for o in c.delete(): c.fns[o].unlink() # the loop of the fastai book, and once more
    for _ in range(2):
        learn.dls = db.dataloaders([o for o in cat.files if o.exists()], bs=4, num_workers=0)
        c = ImageClassifierCleaner(learn, max_n=5)
        assert len(c.fns)==11 and not c.delete() and len(c.change())==_
        said(c, 'mark', id=c.ids[2], action='add_label' if multi else 'relabel', label='horror' if 'horror' not in c.row(2)['was'] else 'romance')
    assert len([*tmp_path.glob('cleaning*.jsonl')])==2 and len(c.session.log.done)==2
    odd = types.SimpleNamespace(train_ds=types.SimpleNamespace(items=[1]), valid_ds=types.SimpleNamespace(items=[]))
    with pytest.raises(GenreError, match='not image files'): items_catalog(odd)

# ---- the list that learns
def learning_posters(path, n=160, seed=0):
    "A catalog with every seventh label wrong, `Features` that know the right one, and which rows are wrong"
    from genre_fastai.features.extract import Features
    cat,_ = posters(path, n)
    rng,true = np.random.default_rng(seed), cat.df['label'].tolist()
    wrong = (np.arange(n)%7==0) & (cat.df['split']!='test').to_numpy()
    cat = cat.assign(label=[classes[(classes.index(t)+1)%3] if o else t for o,t in zip(wrong, true)])
    X = rng.normal(size=(n, 12)) + 4*np.eye(12)[[classes.index(t) for t in true]]
    return cat, Features(cat.df['id'], X), dict(zip(cat.df['id'], wrong)), dict(zip(cat.df['id'], true))

def learnt(w, n=None):
    "The news, once the probes are solved"
    def there():
        l = said(w, 'live')['live']
        return not l['busy'] and (n is None or l['marked']>=n) and l
    return wait(there, 'the new order')

undecided = dict(filters=dict(decided='undecided'), view_id='v')

def test_the_list_learns(tmp_path):
    "Wrong labels come first, each mark names the model that was shown, and what was seen stays where it is"
    cat,feats,wrong,true = learning_posters(tmp_path)
    w = ImageCleaner(cat, tmp_path/'j.jsonl', live=True, feats=feats, page_size=10)
    first = learnt(w)
    assert first['model'].startswith('probe-1-') and not first['error'] and first['left']['low']<=first['left']['n']<=first['left']['high']
    page = said(w, 'page', **undecided)
    assert sum(wrong[r['id']] for r in page['rows'])>=6 and page['live']['model']==first['model']
    seen = [r['id'] for r in page['rows']]
    for r in page['rows'][:6]:
        assert r['model']==first['model'] and r['pred'] in classes
        got = said(w, 'mark', id=r['id'], action='relabel', label=true[r['id']], model=r['model'])
        assert got['states'][0]['labels']==[true[r['id']]]
    news = learnt(w, 5)
    assert news['model']!=first['model'] and news['model'].startswith('probe-2-')
    assert [r['id'] for r in said(w, 'page', **undecided)['rows']]==seen # not even the decided ones go
    after = said(w, 'page', page=1, **undecided)
    order = [o for o in w.live.order() if o not in seen]
    assert [r['id'] for r in after['rows']]==order[:10] and {r['model'] for r in after['rows']}=={news['model']}
    assert after['total']==len(cat) # nothing is shown twice, and nothing is lost
    audits = [i for i,o in enumerate(w.ids) if w.live.kind(o)=='audit' and not w.session.decision(o)]
    assert audits and all(w.row(i)['why'].startswith('audit: drawn at random') for i in audits)
    lines = [json.loads(o) for o in (tmp_path/'j.jsonl').read_text().splitlines()][1:]
    assert [d['model'] for d in lines]==[first['model']]*6
    assert said(w, 'mark', id=order[0], action='keep', model='gpt')['states'][0]['action']=='keep' # a name that was never shown
    assert 'model' not in json.loads((tmp_path/'j.jsonl').read_text().splitlines()[-1])
    assert w.session.apply().to_csv()==replay(cat, tmp_path/'j.jsonl').to_csv()

def test_posters_that_look_alike_are_marked_at_once(tmp_path):
    cat,feats,wrong,true = learning_posters(tmp_path)
    w = ImageCleaner(cat, tmp_path/'j.jsonl', live=True, feats=feats)
    learnt(w)
    id = next(r['id'] for r in said(w, 'page', **undecided)['rows'] if wrong[r['id']])
    assert said(w, 'alike', id=id)['rows']==[] # before its mark
    said(w, 'mark', id=id, action='relabel', label=true[id])
    offer = said(w, 'alike', id=id)
    ids = [r['id'] for r in offer['rows']]
    assert len(ids)>=2 and id not in ids and offer['mark']==dict(action='relabel', label=true[id])
    got = said(w, 'mark_all', of=id, ids=ids, model=offer['model'])
    assert {tuple(s['labels']) for s in got['states']}=={(true[id],)} and got['counts']['relabel']==len(ids)+1
    lines = [json.loads(o) for o in (tmp_path/'j.jsonl').read_text().splitlines()][2:]
    assert len({d['batch'] for d in lines})==1 and {d['model'] for d in lines}=={offer['model']} and len(lines)==len(ids)
    learnt(w) # an order in between does not matter to undo
    back = said(w, 'undo')
    assert {s['id'] for s in back['states']}=={*ids} and not any(s['action'] for s in back['states']) and f'{len(ids)} posters' in back['note']
    assert said(w, 'undo')['states'][0]['id']==id and said(w, 'redo')['states'][0]['id']==id
    assert {s['id'] for s in said(w, 'redo')['states']}=={*ids}
    frozen = cat.where(split='test').df['id'][0]
    assert 'frozen' in said(w, 'mark_all', of=id, ids=[frozen])['error']
    for bad in ({}, dict(of=id), dict(of='x', ids=[]), dict(of=id, ids='abc'), dict(of=id, ids=[3])):
        assert said(w, 'mark_all', **bad)['tell']=='error'
    plain = ImageCleaner(cat, tmp_path/'other.jsonl')
    assert said(plain, 'alike', id=id)['rows']==[] and 'does not learn' in said(plain, 'mark_all', of=id, ids=[id])['error']
    assert said(plain, 'live')['live'] is None

def test_answers_come_while_the_probes_are_solved(tmp_path, monkeypatch):
    "A thread that hangs or fails holds up no answer, and is told"
    import threading
    from genre_fastai.clean.live import LiveIssues
    cat,feats,_,_ = learning_posters(tmp_path)
    hold,solve = threading.Event(), LiveIssues._learn
    monkeypatch.setattr(LiveIssues, '_learn', lambda *args: (hold.wait(20), solve(*args))[1])
    w = ImageCleaner(cat, tmp_path/'j.jsonl', live=True, feats=feats)
    page = said(w, 'page', **undecided)
    for r in page['rows'][:12]: assert r['state']['frozen'] or said(w, 'mark', id=r['id'], action='keep')['live']['busy']
    assert said(w, 'undo')['tell']=='marked' and said(w, 'page', page=1, **undecided)['rows']
    hold.set()
    model = learnt(w)['model'] # of the marks that were made meanwhile, too
    assert model.startswith('probe-')
    monkeypatch.setattr(LiveIssues, '_learn', lambda *args: 1/0)
    said(w, 'live', now=True)
    news = learnt(w)
    assert 'ZeroDivisionError' in news['error'] and news['model']==model and said(w, 'page', **undecided)['rows']
    with pytest.raises(GenreError, match='as `feats`'): ImageCleaner(cat, tmp_path/'j.jsonl', live=True)

# ---- in a browser
no_browser = 'no chromium and chromedriver on this machine (Debian: apt-get install chromium chromium-driver)'
needs_browser = pytest.mark.skipif(not (browser and driver), reason=no_browser)
needs_lab = pytest.mark.skipif(bool(missing), reason=f'{", ".join(missing)} not installed (pip install "genre_fastai[dev,lab]")')

cells = ['''import pandas as pd
from genre_fastai.core import *
from genre_fastai.catalog.core import *
from genre_fastai.clean.widget import *
cat = read_catalog('catalog.csv')
sugg = pd.read_csv('sugg.csv')
id_of = cat.df.set_index('file')['id']
pairs = pd.DataFrame(dict(id_a=[id_of['images/001.jpg']], id_b=[id_of['images/004.jpg']], kind='near', how='mirrored', score=.9))''',
         "ImageCleaner(cat, 'cleaning.jsonl', sugg, pairs=pairs, page_size=12)"]

accept = '''copy = dict(id=pairs['id_b'], action='copy_of', other=pairs['id_a'], reason='near copy')
ImageCleaner(cat, 'copies.jsonl', pd.DataFrame(copy), page_size=12)'''

learns = '''import numpy as np
from genre_fastai.catalog.core import *
from genre_fastai.features.extract import Features
from genre_fastai.clean.widget import *
cat = read_catalog('learns/catalog.csv')
feats = Features(cat.df['id'], np.load('learns/X.npy'))'''

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "One server, and a folder with a notebook for each of its front ends"
    root = tmp_path_factory.mktemp('jupyter')
    cat,sugg = posters(root)
    cat.save(root/'catalog.csv')
    sugg.to_csv(root/'sugg.csv', index=False)
    for f in ('lab', 'seven', 'voila'): notebook(root/f'{f}.ipynb', cells)
    notebook(root/'copies.ipynb', [cells[0], accept])
    cat2,feats,wrong,_ = learning_posters(root/'learns')
    cat2.save(root/'learns/catalog.csv')
    np.save(root/'learns/X.npy', feats.X)
    notebook(root/'learns.ipynb', [learns, "w = ImageCleaner(cat, 'learns.jsonl', live=True, feats=feats, page_size=12)\nw.live.every = 2\nw"])
    with server(root) as url: yield types.SimpleNamespace(url=url, root=root, cat=cat, sugg=sugg, journal=root/'cleaning.jsonl')

@pytest.fixture(scope='module')
def chrome():
    with chromium() as d: yield d

def decisions(site):
    lines = map(json.loads, site.journal.read_text().splitlines())
    return [(d['action'], d['file'][7:10]) for d in lines if 'action' in d]

@needs_browser
@needs_lab
def test_in_jupyterlab(chrome, site):
    "Mark, switch the class, switch back, undo, restart the kernel, run again: the marks are there; and the notebook keeps its cells"
    p = Page(chrome)
    p.open(f'{site.url}/lab/tree/lab.ipynb')
    p.command('notebook:run-all-cells')
    p.cards()
    first = site.sugg['file'].str[7:10].tolist()
    p.focus()
    # D D deletes a cell, where the notebook hears it; the cursor is on the fourth poster after the third mark
    p.press('k', 'd', 'd', 'u', '3')
    want = {f'_{first[0]}':'keep', f'_{first[1]}':'delete', f'_{first[3]}':'relabel'}
    p.see(**want)
    lines = [('keep', first[0]), ('delete', first[1]), ('delete', first[2]), ('undo', first[2]), ('relabel', first[3])]
    wait(lambda: decisions(site)==lines, 'the lines of the journal')
    assert p.js("return document.querySelectorAll('.jp-Notebook .jp-CodeCell').length")==len(cells)
    p.choose('reason', ''); p.choose('label', 'romance')
    wait(lambda: p.total()=='20 posters', 'the posters of romance')
    p.see()
    p.choose('label', 'horror')
    wait(lambda: p.total()=='20 posters' and p.marks(), 'the posters of horror')
    p.see(**want)
    p.find('.gc-next')[0].click()
    p.cards(8)
    p.choose('label', ''); p.choose('reason', 'suggested'); p.choose('decided', 'undecided')
    wait(lambda: p.total()==f'{len(first)-3} posters', 'what is undecided')
    p.command('kernelmenu:restart')
    p.find('.jp-Dialog .jp-mod-accept')[0].click()
    wait(lambda: not p.d.find_elements('css selector', '.jp-Dialog'), 'the end of the question')
    wait(lambda: 'Run the cell again' in p.find('.gc-over')[0].text and p.js("return document.querySelector('.gc-grid').inert"), 'the end of the old view')
    p.command('notebook:run-all-cells')
    wait(lambda: p.total()==f'{len(first)} posters', 'the widget after the restart')
    p.cards()
    p.see(**want)
    assert replay(site.cat, site.journal).df.set_index('file').loc[f'images/{first[3]}.jpg', 'label']=='superhero'

@needs_browser
@needs_lab
def test_in_notebook_7(chrome, site):
    "The same journal in Notebook 7; a page that is loaded again shows the marks, and the saved notebook holds no picture"
    p = Page(chrome)
    had = decisions(site) if site.journal.exists() else []
    p.open(f'{site.url}/notebooks/seven.ipynb')
    p.command('notebook:run-all-cells')
    p.cards()
    p.focus(5)
    p.press('k')
    wait(lambda: len(decisions(site))==len(had)+1, 'the line of the journal')
    marks = p.marks()
    p.command('docmanager:save')
    wait(lambda: 'widget-view' in (site.root/'seven.ipynb').read_text(), 'the saved notebook')
    assert 'image/jpeg' not in (site.root/'seven.ipynb').read_text()
    chrome.refresh()
    p.cards()
    wait(lambda: p.marks()==marks, 'the marks after the page was loaded again')

@needs_browser
@needs_lab
def test_in_voila(chrome, site):
    "By mouse, on a narrow window: boxes, pairs, the enlarged poster, and a picture that is gone"
    p = Page(chrome)
    site.journal.unlink(missing_ok=True)
    chrome.set_window_size(420, 900)
    chrome.get(f'{site.url}/voila/render/voila.ipynb')
    c = p.cards()[0]
    assert p.js('return document.documentElement.scrollWidth <= innerWidth')
    c.find_element('css selector', '.gc-fix').click()
    p.see(_000='relabel')
    new = lambda: c.find_element('css selector', '.gc-now').text=='romance' and 'romance' in c.get_attribute('aria-label')
    wait(new, 'the new label') # painted again when Python answers
    p.js("arguments[0].querySelector('.gc-pic').click()", c)
    p.find('dialog[open] img.gc-there')
    p.press('d')
    p.see(_000='relabel') if not p.marks().get('000')=='delete' else p.see(_000='delete')
    p.press('\ue00c')
    wait(lambda: not p.d.find_elements('css selector', 'dialog[open]'), 'the closed picture')
    p.js("document.querySelectorAll('.gc-tab')[1].click()")
    p.find('.gc-pair img.gc-there')
    p.focus(0, '.gc-pair')
    p.press('r')
    wait(lambda: ('copy_of', '004') in decisions(site), 'the copy in the journal')
    wait(lambda: p.find('.gc-side')[1].get_attribute('data-mark')=='delete', 'the mark of the copy')
    assert replay(site.cat, site.journal).df.set_index('file').loc['images/004.jpg', 'status']=='dropped'
    p.press('l') # a change of mind: the other one goes, and this one stays
    wait(lambda: decisions(site)[-2:]==[('keep', '004'), ('copy_of', '001')], 'the other copy')
    p.press('k')
    wait(lambda: decisions(site)[-1]==('keep', '001'), 'both kept') # what was decided about 004 already holds
    assert decisions(site).count(('keep', '004'))==1
    assert replay(site.cat, site.journal).where(file=['images/001.jpg','images/004.jpg']).df['status'].eq('ok').all()

@needs_browser
@needs_lab
def test_a_proposed_copy_is_accepted(chrome, site):
    "The button names the file that stays, and the journal its id; the pair is shown without being given"
    p = Page(chrome)
    chrome.get(f'{site.url}/voila/render/copies.ipynb')
    fix, = p.find('.gc-fix')
    assert fix.text=='copy of 001.jpg' and 'Duplicates 1' in [o.text for o in p.find('.gc-tab')]
    fix.click()
    p.see(_004='delete')
    lines = lambda: (site.root/'copies.jsonl').read_text().splitlines()
    wait(lambda: len(lines())==2, 'the line of the journal')
    d = json.loads(lines()[-1])
    assert (d['id'], d['file'], d['action'], d['other'])==(id_of(site.cat, 4), 'images/004.jpg', 'copy_of', id_of(site.cat, 1))

@needs_browser
@needs_lab
def test_the_list_learns_in_voila(chrome, site):
    "A mark offers those alike, B marks them, U takes them back, O orders anew, and nothing in view moves"
    p,journal = Page(chrome), site.root/'learns.jsonl'
    chrome.set_window_size(1280, 900)
    chrome.get(f'{site.url}/voila/render/learns.ipynb')
    news = lambda: p.js("return document.querySelector('.gc-live')?.textContent || ''")
    wait(lambda: 'probably left' in news() and 'ordered after 0 marks' in news(), 'the first order')
    lines = lambda: [json.loads(o) for o in journal.read_text().splitlines()][1:] if journal.exists() else []
    files = lambda: [o.get_attribute('data-file') for o in p.cards()]
    tops = lambda: p.js("return [...document.querySelectorAll('.gc-card')].map(o => o.offsetTop)")
    time.sleep(.3)
    was,at = files(), tops()
    p.focus()
    p.press('a')
    wait(lambda: len(p.d.find_elements('css selector', '.gc-one img[src]'))>=2, 'posters that look alike')
    n = len(p.find('.gc-one'))
    box = "const r = document.querySelector('.gc-alike').getBoundingClientRect(); return [r.top, r.bottom, innerHeight, r.left, r.right, innerWidth]"
    def inside(top, bottom, height, left, right, width): return 0<=top<bottom<=height and 0<=left<right<=width
    for width in (390, 1280): # before everything, within the window
        chrome.set_window_size(width, 900)
        wait(lambda: p.js('return document.documentElement.scrollWidth <= innerWidth') and inside(*p.js(box)), 'the offer in the window')
    p.press('b')
    wait(lambda: len(lines())==n+1, 'the batch in the journal')
    assert len({d.get('batch') for d in lines()[1:]})==1 and all(d['model'].startswith('probe-1-') for d in lines())
    wait(lambda: f'ordered after {n+1} marks' in news(), 'the second order')
    assert files()==was and tops()==at
    p.press('u')
    wait(lambda: len(lines())==2*n+1 and len(p.marks())==1, 'the batch taken back')
    p.press('o')
    wait(lambda: 'ordered after 1 mark' in news(), 'the order on a key')
    assert files()==was and tops()==at
    p.press('n')
    wait(lambda: was[0] not in files(), 'the next page')
    assert not {*files()} & {*was}
