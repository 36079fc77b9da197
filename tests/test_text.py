"Labels and titles are text, never code: one list of names that break things, through every plot, table, page, file and journal that shows them"
import html, json, os, re, shutil, warnings, xml.dom.minidom
from io import BytesIO
import numpy as np, pandas as pd, pytest
from PIL import Image
from genre_fastai.core import *
from genre_fastai.metrics import *
from genre_fastai.figure import *
from genre_fastai.catalog.core import *
from genre_fastai.catalog.build import *
from genre_fastai.catalog.card import *
from genre_fastai.catalog.sources import *
from genre_fastai.predictions import *
from genre_fastai.clean.decisions import *
from genre_fastai.clean.issues import *
from genre_fastai.clean.widget import ImageCleaner

code = ['$a$ b$', '$\\frac{', 'a_b^c', '{x}', '{0}', '%s %d %', '<script>alert(1)</script>', '<img src=x onerror=alert(2)>', '&amp;', '"quoted"', "'", 'back\\slash',
    '\x1b[31mred', '\x1b]0;title\x07', 'new\nline', 'tab\tbed', '=1+1', '@cmd', 'evil\u202egpj.exe', 'zero\u200bwidth', 'a|b', '```', '**bold**', '[x](javascript:1)']
scripts = ['\U0001f9db\u200d\u2640\ufe0f vampire', '怪獣映画', 'مرعب', 'комедия', 'x'*300, 'word '*60]
columns = ('count support file pred prob loss label id accuracy index n total rows all true predicted class tp none split reason status').split() + ['macro avg', 'weighted avg']
members = 'df values T shape name items mean self cls size index.name __class__ constructor __proto__ toString'.split()
alike = ['1', '01', '1.0', 'True', 'Horror', 'horror', 'HORROR', 'con', 'aux', 'LPT1', 'a.', 'a/b', 'a:b', '~', '-rf', '.hidden', 'train', 'test']
nasty = list(dict.fromkeys([*code, *scripts, *columns, *members, *alike]))

def raw(df, path='.'):
    "A catalog as it is, past the gates that clean labels: for what stands behind them"
    cat = Catalog(dict(file=df['file']) | {c: 'x' for c in ('label','labels') if c in df}, path)
    cat.df = cat.df.assign(**{k: v if isinstance(v, str) else list(v) for k,v in df.items() if k!='file'})
    return cat

@pytest.fixture(scope='module')
def posters(tmp_path_factory):
    "A picture a name, one of them broken and one gone, whose labels and titles are all of them"
    path,n = tmp_path_factory.mktemp('posters'), len(nasty)
    for i in range(n): Image.new('RGB', (8,12), (i*37%256, i*91%256, 99)).save(path/f'{i}.jpg')
    (path/'1.jpg').write_bytes(b'<html>')
    (path/'2.jpg').unlink()
    return raw(dict(file=[f'{i}.jpg' for i in range(n)], label=nasty, title=nasty[::-1], year='1999', url='https://a.b/"><script>', split='valid'), path)

def predicted(cat, multi=False):
    "Predictions that are mostly wrong, so that all names are confused"
    n,vocab = len(cat), list(dict.fromkeys(cat.df['label']))
    p = np.full((n,len(vocab)), .1/len(vocab), np.float32)
    p[np.arange(n), (np.arange(n)+1)%len(vocab)] = .9
    if multi:
        keep = [i for i,v in enumerate(vocab) if '|' not in v]
        df = cat.df.iloc[keep].reset_index(drop=True)
        cat = raw(dict(file=df['file'], labels=[f'{a}|{b}' for a,b in zip(df['label'], np.roll(df['label'], 3))], title=df['title'], split='valid'), cat.path)
        return Predictions(cat, p[np.ix_(keep, keep)], [vocab[i] for i in keep])
    return Predictions(cat, p, vocab)

unprintable = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]')

def check_svg(plot):
    "The figure as svg is well-formed, and nothing steers what shows it"
    plot.fig.savefig(buf := BytesIO(), format='svg')
    text = buf.getvalue().decode()
    xml.dom.minidom.parseString(text)
    assert not unprintable.search(text)

plots = 'plot_confusion_matrix plot_most_confused plot_classification_report plot_calibration plot_roc plot_pr'.split()

@pytest.mark.parametrize('multi', [False, True])
def test_plots(posters, multi, tmp_path):
    "All plots of an interpretation, of a few names at a time, as png and svg, without a warning of a missing sign"
    from genre_fastai.interpret.interpret import PosterInterpretation
    interp = PosterInterpretation(predicted(posters[:len(code)], multi))
    few = PosterInterpretation(predicted(posters[len(code):len(code)+6], multi))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        made = [interp.plot_most_confused(k=30), interp.show_results([0,1]), *[getattr(few, v)() for v in plots[::1+2*multi]]]
        if not multi: made.append(interp.plot_confusion_matrix())
        for o in made: check_svg(o)
        few.plot_top_losses(6).fig.savefig(BytesIO(), format='png', dpi=30)
    assert {str(o.message) for o in said if 'ont' in str(o.message)} <= {next((str(o.message) for o in said if 'fonts of this machine' in str(o.message)), '')}
    assert not [o for o in said if 'Glyph' in str(o.message)] and max(o.fig.get_size_inches().max() for o in made)<40

def test_names_stand_in_the_plot_as_they_are(posters):
    from genre_fastai.interpret.interpret import PosterInterpretation
    few = raw(dict(file=[f'{i}.jpg' for i in range(4)], label=['$a$ b$','$\\frac{','x'*300,'%s'], split='valid'), posters.path)
    interp = PosterInterpretation(predicted(few))
    ticks = [o.get_text() for o in interp.plot_confusion_matrix().fig.axes[0].get_yticklabels()]
    assert ticks[:2]==['$a$ b$', '$\\frac{'] and len(ticks[2])==40 and ticks[3]=='%s'
    assert interp.plot_classification_report().fig.axes[0].get_yticklabels()[0].get_text()=='$a$ b$  (n=1)'
    bars = few.plot_classes()
    assert '$\\frac{' in [o.get_text() for o in bars.fig.axes[0].get_yticklabels()]
    check_svg(bars)

def test_grad_cam_and_leakage(posters):
    from genre_fastai.interpret.gradcam import plot_cam
    from genre_fastai.interpret.leakage import plot_leakage
    fig = plot_cam(np.zeros((8,8,3), np.uint8), np.ones((len(code),2,2)), code, '$a$ b$')
    check_svg(Plot(fig))
    curve = pd.DataFrame(dict(share=[0,1], valid=.5, test=.5, low=.4, high=.6, baseline=.5))
    check_svg(Plot(plot_leakage({'$a$ b$': curve, '\x1b[31mred': curve})))

def test_a_broken_picture_costs_its_own_place(posters):
    from genre_fastai.interpret.interpret import PosterInterpretation
    fig = PosterInterpretation(predicted(posters[:4])).show_results([0,1,2,3]).fig
    assert sorted(len(ax.images) for ax in fig.axes)==[0,0,1,1]
    assert {o.get_text().split(':')[0] for ax in fig.axes for o in ax.texts}=={'html','missing'}
    card = posters[:4].card(pictures=2)._repr_html_()
    assert card.count('<img alt')==2 and card.count('background:#ddd')==2 and '1.jpg: html' in card and '2.jpg: missing' in card

# ---- tables
def test_metrics_of_any_names():
    n = len(nasty)
    y,pred = np.arange(n), (np.arange(n)+1)%n
    m = most_confused(confusion_matrix(y, pred, nasty))
    assert len(m)==n and set(m['true'])==set(nasty)
    df = classification_report(np.eye(n), np.eye(n)[pred], nasty)
    assert df['class'].tolist()==nasty and df['n'].tolist()==[1]*n
    assert multilabel_confusion_matrix(np.eye(n), np.eye(n), nasty)['tp'].tolist()==[1]*n
    assert ranking_scores(np.eye(n), np.eye(n), nasty)['class'].tolist()==nasty
    twice = confusion_matrix([0,1,1], [1,0,0], ['a','a']) # names that a caller gives twice are two classes
    assert most_confused(twice)['count'].tolist()==[2,1]

def test_catalog_counts_of_any_names(posters):
    counts = posters.class_counts()
    assert counts.iloc[:-1]['all'].tolist()==[1]*len(nasty) and counts.iloc[-1].tolist()==[len(nasty)]*2
    assert len(posters.plot_classes().df)==len(nasty)

def test_plots_as_csv(posters, tmp_path):
    from genre_fastai.interpret.interpret import PosterInterpretation
    p = predicted(raw(dict(file=[f'{i}.jpg' for i in range(4)], label=['true','predicted','count','=1+1']), posters.path))
    interp = PosterInterpretation(p)
    df = read_table(interp.plot_confusion_matrix().save(tmp_path/'m.csv'))
    assert list(df)==['true_','true','predicted','count','=1+1'] and df['true_'].tolist()==p.vocab
    for f in ('plot_most_confused','plot_top_losses','plot_classification_report','plot_roc'): assert len(read_table(getattr(interp, f)().save(tmp_path/'t.csv')))==4
    assert read_table(posters[:3].plot_classes().save(tmp_path/'c.csv'))['class'].tolist()!=[]

def test_issues_of_any_names(posters):
    preds = predicted(posters)
    df = find_label_issues(preds, n_losses=500)
    assert set(df['id'])==set(posters.df['id']) and df.set_index('id')['label'].to_dict()==posters.df.set_index('id')['label'].to_dict()
    many = predicted(posters, True)
    assert set(find_label_issues(many, n_losses=500)['id'])==set(many.cat.df['id'])

# ---- what a terminal prints
def test_nothing_steers_the_terminal(posters, capsys):
    from genre_fastai.interpret.interpret import PosterInterpretation
    preds = predicted(posters)
    interp = PosterInterpretation(preds)
    interp.print_classification_report()
    print(posters.card(), text_table(preds.table()), text_table(interp.confusion_matrix()))
    try: preds.cat.assign(label='war').one_hot(preds.vocab)
    except GenreError as e: print(e)
    out = capsys.readouterr().out
    assert not unprintable.search(out) and '\\x1b[31mred' in out and '\\u202e' in out
    assert not unprintable.search(str(GenreError('\x1b]0;x\x07\x9b31m')))

def test_printable():
    family,arabic = '\U0001f468\u200d\U0001f469\u200d\U0001f467', 'م\u200cر'
    assert printable(family)==family and printable(arabic)==arabic and printable('é\n\t龍')=='é\n\t龍'
    assert printable('\ud83d')=='\\ud83d' and printable('\x00\r\x85')=='\\x00\\x0d\\x85' and printable('\ufeff')=='\\ufeff'

# ---- html
class Seen:
    "Tags and text of a page"
    def __init__(self, text):
        from html.parser import HTMLParser
        self.tags,self.text = [],[]
        class P(HTMLParser):
            def handle_starttag(_, tag, attrs): self.tags.append((tag, dict(attrs)))
            def handle_data(_, data): self.text.append(data)
        P().feed(text)

def check_html(text):
    seen = Seen(text)
    assert 'script' not in {t for t,_ in seen.tags}
    assert not [a for _,at in seen.tags for a in at if a.startswith('on')], 'an attribute runs code'
    assert all(at.get('src', 'data:').startswith('data:') for t,at in seen.tags if t=='img')
    assert not unprintable.search(text)
    return ''.join(seen.text)

def test_pages(posters, tmp_path):
    from genre_fastai.interpret.interpret import PosterInterpretation
    card = posters.card(title='<b>$a$ b$</b>', pictures=1)
    text = check_html(card.save(tmp_path/'card.html').read_text())
    assert '<script>alert(1)</script>' in text and '$a$ b$' in text and '\\x1b[31mred' in text
    check_html(card._repr_html_()), check_html(posters._repr_html_())
    interp = PosterInterpretation(predicted(posters[:12]))
    plot = interp.plot_confusion_matrix()
    check_html(plot.save(tmp_path/'plot.html').read_text())
    rep = Report('<script>1</script>', '\x1b[2J').add('<img src=x onerror=1>', '<script>', plot, interp.most_confused(), card, posters)
    assert '<img src=x onerror=1>' in check_html(rep.save(tmp_path/'r.html').read_text())

def test_folders_are_names_too(tmp_path):
    "A folder called like a tag or like a template"
    from genre_fastai.experiments import Experiments, grid
    from genre_fastai.vision.tensors import TensorFile
    for name in ('<script>alert(1)<', '{x}', '{0}', '%s'):
        (tmp_path/name).mkdir()
        check_html(raw(dict(file=['a.jpg'], label=['a']), tmp_path/name)._repr_html_())
        runs = Experiments(tmp_path/name/'e.csv').run(grid(range(1), data=['$a$ b$','<b>']), lambda **_: dict(accuracy=.5, n_test=10), show=None)
        check_html(runs._repr_html_()), check_svg(Plot(runs.plot('data', 'data')))
        (tmp_path/name/'m.safetensors').write_bytes(b'x'*99)
        with pytest.raises(GenreError, match='not a whole'): TensorFile(tmp_path/name/'m.safetensors')

def test_no_formulas_in_a_notebook(posters):
    "Jupyter takes what stands between two dollars for a formula, but not below an element of this class"
    for o in (posters, posters.card(), Report('r').add('$a$ b$', '$a$ b$')): assert 'mathjax_ignore' in o._repr_html_().split('$')[0]
    assert 'mathjax_ignore' in to_html(pd.DataFrame(dict(a=['$a$ b$'])))

@pytest.mark.parametrize('kind', ['txt','md'])
def test_card_as_text(posters, kind, tmp_path):
    text = posters.card().save(tmp_path/f'card.{kind}').read_text()
    assert not unprintable.search(text)
    if kind=='md': # one block of code, which no name ends
        first,*_,last = text.splitlines()
        fence = first.removesuffix('text')
        assert fence==last and set(fence)=={'`'} and text.count(fence)==2

# ---- the widget
def test_widget(posters, tmp_path):
    "Whatever the names are, a page is JSON that a browser reads, and marks name rows and labels exactly"
    w = ImageCleaner(posters, tmp_path/'j.jsonl', interp=predicted(posters), page_size=len(nasty))
    page = w.answer(dict(ask='page'))[0]
    json.loads(json.dumps(page, allow_nan=False))
    assert {r['was'][0] for r in page['rows']}==set(nasty) and all(len(r['was'])==1 for r in page['rows'])
    assert {r['url'] for r in page['rows']}=={'https://a.b/"><script>'}
    for label in nasty:
        id = posters.df['id'][nasty.index(label)]
        said = w.answer(dict(ask='mark', id=id, action='relabel', label=label))[0]
        assert said['tell']=='marked' and said['states'][0]['labels']==[label], said
        assert w.answer(dict(ask='page', filters=dict(label=label)))[0]['total']==1
    assert w.session.apply().df['label'].tolist()==nasty
    r,buffers = w.answer(dict(ask='pictures', ids=posters.df['id'].tolist()))
    assert len(buffers)==len(nasty)-2 and len(r['errors'])==2

def test_widget_takes_nothing_from_columns_of_strangers(posters, tmp_path):
    "A film table has columns that are called as ours"
    odd = {c: ['inf','nan','x','']*(len(posters)//4) + ['9']*(len(posters)%4) for c in 'action suggested other why pred prob prob_label loss order'.split()}
    a = ImageCleaner(posters, tmp_path/'a.jsonl', predicted(posters).table().assign(prob=np.inf)[['id','prob']])
    b = ImageCleaner(raw({**posters.df.to_dict('list'), **odd}, posters.path), tmp_path/'b.jsonl')
    assert {r['pred'] for r in b.answer(dict(ask='page'))[0]['rows']}=={''}
    assert b.answer(dict(ask='open'))[0]['suggested']==0 and b.answer(dict(ask='page', page=0))[0]['rows'][0]['loss'] is None
    json.dumps(a.answer(dict(ask='page'))[0], allow_nan=False)

def test_the_browser_escapes_what_python_escapes():
    "One list of signs that steer, on both sides"
    from genre_fastai import clean
    from pathlib import Path
    js = (Path(clean.__path__[0])/'cleaner.js').read_text(encoding='utf-8')
    signs = re.search(r'const unseen = /(\[.*?\])/g', js)[1]
    assert 'innerHTML' not in js and 'insertAdjacentHTML' not in js
    for c in map(chr, [*range(0xd800), *range(0xe000, 0x10000)]): assert bool(re.match(signs, c))==(printable(c)!=c), hex(ord(c))

# ---- exports
def test_exported_folders_read_back(posters, tmp_path):
    "A name that some system refuses is refused, before anything is written; the others come back as they were"
    good,bad = [], []
    for i,label in enumerate(nasty):
        if i in (1,2): continue
        cat = raw(dict(file=[f'{i}.jpg'], label=[label]), posters.path)
        try: out = cat.to_folders(tmp_path/f'out{i}')
        except GenreError as e:
            bad.append(label)
            assert 'cannot be the name of a folder' in str(e) and not (tmp_path/f'out{i}').exists() and not unprintable.search(str(e))
            continue
        good.append(label)
        assert [o.name for o in out.iterdir() if o.is_dir()]==[label]
        if label in ('train','test','all','none'): continue
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            assert catalog_from(out).df['label'].tolist()==[label]
    assert {'con','aux','LPT1','a.','a/b','a:b','.hidden','x'*300,'new\nline','tab\tbed','"quoted"','back\\slash'} <= set(bad)
    assert {'$a$ b$','{x}','%s %d %','&amp;','=1+1','@cmd','-rf','~','怪獣映画','مرعب','file','T','01','1.0'} <= set(good)

def test_exported_names_fit_every_system(tmp_path):
    names = ['x'*245+'.jpg', 'con.jpg', 'A.jpg', 'a.jpg', 'what?.jpg', 'é'*120+'.jpg', 'tail. .jpg', 'a.b.jpg']
    files = []
    for i,n in enumerate(names):
        for d in 'pq':
            (tmp_path/d).mkdir(exist_ok=True)
            Image.new('RGB', (4,6), (i*20, 'pq'.index(d)*99, 5)).save(tmp_path/d/n)
            files.append(f'{d}/{n}')
    out = Catalog(dict(file=files, label='horror'), tmp_path).to_folders(tmp_path/'out')
    made = sorted(o.name for o in (out/'horror').iterdir())
    assert len(made)==len({o.casefold() for o in made})==16 and max(len(o.encode()) for o in made)<=210
    assert not [o for o in made if re.search(r'[<>:"/\\|?*]|[. ]$', o) or o.lower().startswith('con.')]
    assert len({o.read_bytes() for o in (out/'horror').iterdir()})==16
    Catalog(dict(file=files[:2], label='horror'), tmp_path).to_folders(out)
    assert len(list((out/'horror').iterdir()))==2 # the list of an export names its files exactly

def test_fastai_csv_says_what_it_escapes(tmp_path):
    cat = Catalog(dict(file=['@a/1.jpg','b/1.jpg'], label=['=1+1','b'], split=['train','valid']), tmp_path)
    with pytest.warns(UserWarning, match='1 names or labels begin like a formula'): csv = cat.to_fastai_csv(tmp_path/'f.csv')
    assert read_table(csv)['fname'].tolist()==['@a/1.jpg','b/1.jpg']

def test_a_catalog_comes_back_from_its_csv(tmp_path):
    "All names that a catalog takes stand in its csv and are read again"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        cat = Catalog(dict(file=[f'{i}.jpg' for i in range(len(nasty))], label=[re.sub(r'[|\[{]', '/', o) for o in nasty], title=nasty), tmp_path)
        again = read_catalog(cat.save(tmp_path/'c.csv'))
    for c in (cat.label_column, 'title'): assert again.df[c].tolist()==cat.df[c].tolist()
    assert again.hash==cat.hash

# ---- journals of the cleaner
def cleaning(path, n=6):
    cat = Catalog(dict(id=[f'r{i}' for i in range(n)], file=[f'{i}.jpg' for i in range(n)], label=['a','b']*(n//2), split=['train']*(n-1)+['test']), path)
    sess = CleaningSession(cat, path/'j.jsonl')
    sess.relabel('r0', 'b', 'because')
    sess.copy_of('r1', 'r2')
    return cat, path/'j.jsonl', [json.loads(o) for o in (path/'j.jsonl').read_text().splitlines()]

changes = dict(id=[7, None, ['r0'], {}, True, 1.5, 'x', ''], n=['1', None, 1.5, True, [1], 'NaN'], action=['burn', None, 3, [], {}, ''], before=[None, 3, []],
    after=[None, 3, ['b'], 'war', 'a|b'], who=[None, 3, {}], why=[None, 3, ['x'], '\ud800'], when=[None, 0], session=[None, 1], file=[None, 5])

@pytest.mark.parametrize('field', changes)
def test_a_line_that_is_none_is_refused_with_its_number(tmp_path, field):
    cat,j,lines = cleaning(tmp_path)
    for v in [*changes[field], ...]:
        bad = {k:o for k,o in lines[1].items() if k!=field} if v is ... else lines[1] | {field: v}
        if field=='action' and v=='': bad['action'] = ''
        j.write_text('\n'.join(map(json.dumps, [lines[0], bad, lines[2]]))+'\n')
        before = j.read_bytes()
        for f in (lambda: CleaningSession(cat, j), lambda: replay(cat, j), lambda: CleaningSession(cat, j).keep('r3'), lambda: ImageCleaner(cat, j)):
            with pytest.raises(GenreError, match='line 2 is damaged'): f()
        assert j.read_bytes()==before

def test_copies_and_undos_of_strangers(tmp_path):
    cat,j,lines = cleaning(tmp_path)
    for bad in (lines[2] | dict(other=7), lines[2] | dict(other='x'), lines[2] | dict(id='r5'), {k:v for k,v in lines[2].items() if k!='other'},
                lines[2] | dict(action='undo', of=9), lines[2] | dict(action='redo', of=[1]), lines[2] | dict(action='undo')):
        j.write_text('\n'.join(map(json.dumps, [*lines[:2], bad]))+'\n')
        with pytest.raises(GenreError, match='line 3 is damaged'): CleaningSession(cat, j)

bytes_of = {'NUL': b'\0'*64+b'\n', 'nested': b'['*200_000+b'\n', 'nested objects': b'{"a":'*50_000+b'\n', 'not UTF-8': b'\xff\xfe\n', 'a csv': b'file,label\n',
    'long': b'{"n": "'+b'x'*1_100_000+b'"}\n', 'a number': b'1e999\n', 'big number': b'9'*5000+b'\n', 'NaN': b'NaN\n', 'a second head': b'{"journal": 2, "catalog": "x"}\n'}

@pytest.mark.parametrize('what', bytes_of)
def test_bytes_that_are_no_line(tmp_path, what):
    cat,j,lines = cleaning(tmp_path)
    whole = j.read_bytes().splitlines(True)
    for at in (0, 1, 3):
        j.write_bytes(b''.join([*whole[:at], bytes_of[what], *whole[at:]]))
        if what=='a second head' and at==0: continue
        with pytest.raises(GenreError, match=f'line {at+1} is damaged'): CleaningSession(cat, j)

def test_a_giant_file_is_refused_at_its_first_line(tmp_path):
    "A file that is no journal at all is not read to its end"
    cat,j,_ = cleaning(tmp_path)
    with open(j, 'wb') as f: f.truncate(3<<30) # a hole of 3 GB
    with pytest.raises(GenreError, match='line 1 is damaged'): CleaningSession(cat, j)
    j.unlink(); j.mkdir()
    with pytest.raises(GenreError, match='is a folder'): CleaningSession(cat, j)

def test_what_cannot_be_decided_is_refused_before_it_is_written(tmp_path):
    cat,j,_ = cleaning(tmp_path)
    sess,before = CleaningSession(cat, j), j.read_bytes()
    for d in ('keep', 3, None, {}, dict(id='r3'), dict(action='keep'), dict(id=['r3'], action='keep'), dict(id=3, action='keep'), dict(id='r3', action=None),
              dict(id='r3', action='relabel'), dict(id='r3', action='relabel', after=3), dict(id='r3', action='relabel', after=None), dict(id='r3', action='copy_of'),
              dict(id='r3', action='copy_of', other=['r4']), dict(id='r3', action='keep', before=3), dict(id='r3', action='keep', why='x'*1_000_001)):
        with pytest.raises(GenreError): sess.decide([d])
    for d in ([dict(id='r0', action='keep')], [dict(id='r0', action='relabel', before='a')], [dict(id='r0', action='relabel', before='a', after='war')], ['x'], [None]):
        with pytest.raises(GenreError, match='Decision 1'): apply_decisions(cat, d)
    assert j.read_bytes()==before
    sess.decide(o for o in [dict(id='r3', action='keep', why='half \ud800, \0 and \x1b[2J')]) # a generator can be gone through once
    assert sess.decision('r3')['why'].encode()
    sess.delete('r4', 'nul \0 byte')
    assert 'nul' in sess.apply().df['reason'][4] and '\0' not in sess.apply().to_csv()

def test_a_journal_of_another_catalog_by_force(tmp_path):
    "What fits is applied, what does not is counted"
    cat,j,lines = cleaning(tmp_path)
    other = Catalog(cat.df.assign(label=['a','b','c']*2), tmp_path)
    odd = [lines[1] | dict(n=3, id='gone'), lines[1] | dict(n=4, id='r2', before='c', after='war')]
    j.write_text('\n'.join(map(json.dumps, [*lines, *odd]))+'\n')
    with pytest.warns(UserWarning, match='2 decisions were left out'): cleaned = replay(other, j, force=True)
    assert cleaned.df['label'].tolist()==['b','b','c','a','b','c'] and cleaned.df['status'][1]=='dropped'

def test_lists_of_issues_of_strangers(tmp_path):
    "Ids that a csv made numbers of, rows that are not there, empty cells"
    cat = Catalog(dict(id=['1','2','3'], file=['1.jpg','2.jpg','3.jpg'], label=['a','b','a']), tmp_path)
    (tmp_path/'i.csv').write_text('id,file,label,suggested,other,action,kind,score,reason\n1,1.jpg,a,b,,relabel,label,.9,why\n2,2.jpg,b,,,delete,label,.5,\n9,9.jpg,a,b,,relabel,label,.4,x\n')
    issues = pd.read_csv(tmp_path/'i.csv')
    with pytest.warns(UserWarning, match='1 of 3 issues are about rows'): w = ImageCleaner(cat, tmp_path/'j.jsonl', issues)
    assert [r['id'] for r in w.answer(dict(ask='page', filters=dict(reason='suggested')))[0]['rows']]==['1','2']
    w.session.decide(apply_rule(issues[:2], 'relabel'))
    assert w.session.apply().df['label'].tolist()==['b','b','a'] and w.session.counts['delete']==1
    with pytest.raises(GenreError, match='no column `id_a`'): ImageCleaner(cat, tmp_path/'k.jsonl', pairs=pd.DataFrame(dict(a=[1])))

def test_few_films_get_fewer_folds():
    "A small catalog is cleaned all the same, and it is said"
    from genre_fastai.features.extract import Features
    from genre_fastai.features.probe import cross_val_probs
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(4)], label=['a','b']*2))
    feats = Features(cat.df['id'], np.eye(4))
    with pytest.warns(UserWarning, match='4 folds instead of 5'): assert len(cross_val_probs(cat, feats))==4
    one = cat.assign(group='film')
    with pytest.raises(GenreError, match='Collect posters of more films'): cross_val_probs(one, feats)
