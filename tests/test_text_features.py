"Texts as features: embeddings kept and offline, TF-IDF of training rows only, print read from posters, franchises that stay together"
import importlib.util, os, socket, subprocess, sys, warnings
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image, ImageDraw, ImageFont
from genre_fastai.core import *
from genre_fastai.catalog.core import *
from genre_fastai.catalog.splits import *
from genre_fastai.text import embed, title
from genre_fastai.text.embed import *
from genre_fastai.text.title import *

root = Path(__file__).resolve().parent.parent
needs_text = pytest.mark.skipif(not has_text(), reason="needs the extra `text`: pip install 'genre_fastai[text]'")
needs_ocr = pytest.mark.skipif(not has_ocr(), reason="needs the extra `ocr`: pip install 'genre_fastai[ocr]'")

@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch): monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))

def films(titles, **kw):
    return Catalog(dict(file=[f'{i}.jpg' for i in range(len(titles))], imdb_id=[f'tt{i+1:07d}' for i in range(len(titles))], title=titles, label='x') | kw)

def test_imports_are_light():
    code = "import sys, genre_fastai.text.embed, genre_fastai.text.title; print([o for o in ('torch','fastai','transformers','rapidocr_onnxruntime','cv2','sklearn') if o in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True).stdout.strip()=='[]'

# ---- embeddings

def fake(calls):
    "A model that notes what it is asked"
    def f(texts, model, bs):
        for i in range(0, len(texts), bs):
            calls.extend(texts[i:i+bs])
            X = np.array([np.random.default_rng(len(o)).normal(size=384) for o in texts[i:i+bs]], np.float32)
            yield list(range(i, min(i+bs, len(texts)))), X/np.linalg.norm(X, axis=1, keepdims=True)
    return f

def test_a_text_is_embedded_once(monkeypatch):
    calls = []
    monkeypatch.setattr(embed, '_embed', fake(calls))
    X = embed_texts(['a', 'bb', 'a', ' bb '])
    assert sorted(calls)==['a','bb'] and (X[0]==X[2]).all() and (X[1]==X[3]).all() and X.dtype==np.float32
    assert (embed_texts(['bb','a'])==X[[1,0]]).all() and len(calls)==2
    embed_texts(['ccc', 'a'])
    assert calls[2:]==['ccc']

def test_a_stopped_run_keeps_its_batches(monkeypatch):
    calls = []
    def stops(texts, model, bs):
        for n,part in enumerate(fake(calls)(texts, model, bs)):
            if n==2: raise KeyboardInterrupt
            yield part
    monkeypatch.setattr(embed, '_embed', stops)
    texts = ['x'*(i+1) for i in range(6)]
    with pytest.raises(KeyboardInterrupt): embed_texts(texts, bs=2)
    calls.clear()
    monkeypatch.setattr(embed, '_embed', fake(calls))
    embed_texts(texts, bs=2)
    assert calls==texts[4:]

def test_damaged_embeddings_are_made_again(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(embed, '_embed', fake(calls))
    X = embed_texts(['a'], folder=tmp_path/'t')
    dat = next((tmp_path/'t').glob('*.dat'))
    b = bytearray(dat.read_bytes())
    b[200] ^= 255
    dat.write_bytes(b)
    with pytest.warns(UserWarning, match='damaged'): again = embed_texts(['a'], folder=tmp_path/'t')
    assert (again==X).all() and calls==['a','a']

def test_empty_texts_are_zero_and_counted():
    with pytest.warns(UserWarning, match='3 of 3 plots are empty'): X = embed_texts(['', None, float('nan')], what='plots')
    assert X.shape==(3,384) and not X.any()

def test_without_the_model_one_message(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None)
    assert not has_text() and not has_ocr()
    with pytest.raises(GenreError, match=r"pip install 'genre_fastai\[text\]'"): embed_texts(['a'])
    monkeypatch.setattr(title, '_readers', type('None', (), {})())
    with pytest.raises(GenreError, match=r"pip install 'genre_fastai\[ocr\]'"): read_title(Image.new('RGB', (20,30)))

@needs_text
def test_weights_that_are_not_the_official_ones_are_refused(monkeypatch):
    monkeypatch.setitem(text_models, 'all-MiniLM-L6-v2', text_models['all-MiniLM-L6-v2'] | dict(sha256='0'*64))
    with pytest.raises(GenreError, match='SHA-256 differs'): embed._model_files('all-MiniLM-L6-v2')

@needs_text
def test_the_model_is_quiet_and_offline():
    code = '''
import socket
def no(*a, **k): raise AssertionError('network')
socket.socket.connect = socket.create_connection = socket.getaddrinfo = no
from genre_fastai.text.embed import embed_texts
E = embed_texts(['A ghost haunts a house.', 'A vampire in the night.', 'They fall in love.'])
assert E[0]@E[1]>E[0]@E[2]'''
    r = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)
    assert (r.returncode, r.stdout, r.stderr)==(0, '', '')

# ---- TF-IDF

def test_tfidf_learns_from_training_rows_only():
    cat = films(['ghost house','haunted house','love wedding','wedding kiss','alien','alien house'], split=['train']*4+['test']*2)
    t = TfidfFeatures().fit(cat.where(split='train'))
    assert not any('alien' in c.vocabulary_ for c in t.counters)
    X = t.transform(cat)
    assert np.abs(X[4]).max()<.2*np.abs(X[5]).max() and X.dtype==np.float32
    with pytest.raises(GenreError, match='2 of these 6 rows are test rows'): TfidfFeatures().fit(cat)
    with pytest.raises(GenreError, match='Only 2 of 2'): TfidfFeatures().fit(cat[:2])

# ---- print

def drawn(*lines, size=(182,268)):
    d = ImageDraw.Draw(im := Image.new('RGB', size, '#203050'))
    for i,(t,s) in enumerate(lines): d.text((12, 30+70*i), t, 'white', font=ImageFont.load_default(s))
    return im

@needs_ocr
def test_largest_print_first_from_file_bytes_or_picture(tmp_path, capfd):
    im = drawn(('a film by Mary', 14), ('HORROR', 38))
    im.save(p := tmp_path/'a.png')
    for o in (im, p, str(p), p.read_bytes()): assert read_title(o).lines[0]=='HORROR'
    assert read_title(drawn()).text=='' and capfd.readouterr()==('','')

@pytest.mark.parametrize('size', [(1,1), (3,4000), (4000,3), (5000,7000)])
def test_pixels_are_bounded(size):
    w,h = title._prepared(Image.new('RGB', size), 8).size
    assert max(w, h)<=1600 and max(w, h)<=3*min(w, h)+3

def test_titles_of_a_catalog(tmp_path, monkeypatch):
    "Copies are read once, a bad picture costs its own row, a stopped run goes on"
    for f,c in zip('abc', ('red','green','red')): Image.new('RGB', (20,30), c).save(tmp_path/f'{f}.png')
    (tmp_path/'d.png').write_bytes(b'<html>')
    cat,seen = Catalog(dict(file=['a.png','b.png','c.png','d.png','gone.png'], label='x', status=['ok']*5), tmp_path), []
    def read(p, scale):
        title.decode(title.read_bytes(p))
        seen.append(Path(p).name)
        if len(seen)==2 and stop: raise KeyboardInterrupt
        return PosterText([f'Title {Path(p).name}'])
    stop = [True]
    monkeypatch.setattr(title, 'read_title', read)
    monkeypatch.setattr(title, '_reader', lambda: None)
    with pytest.raises(KeyboardInterrupt): read_titles(cat, n_workers=0, progress=False)
    stop.clear()
    with pytest.warns(UserWarning, match='2 of 5 posters'): res = read_titles(cat, n_workers=0, progress=False)
    assert seen==['a.png','b.png','b.png']
    assert res.df['printed'].tolist()==['Title a.png','Title b.png','Title a.png','','']
    assert res.df['reason'].tolist()[:3]==['']*3 and 'html' in res.df['reason'][3] and 'missing' in res.df['reason'][4]
    assert unread_rows(res).tolist()==[False]*3+[True]*2 and set(res.df['status'])=={'ok'}
    res.save(tmp_path/'c.csv')
    assert read_catalog(tmp_path/'c.csv').df['printed'].tolist()==res.df['printed'].tolist()

def test_print_is_written_in_batches(tmp_path, monkeypatch):
    "From threads, each once, the last few too; a second run reads nothing"
    n,seen,sizes,add = 100, [], [], title.RecordFile.add
    for i in range(n): Image.new('RGB', (4,6), (i,9,9)).save(tmp_path/f'{i}.png')
    def read(p, scale):
        seen.append(p)
        return PosterText([Path(p).stem])
    def counted(self, keys, records, **kw):
        if 'printed' in self.path.name: sizes.append(len(keys))
        return add(self, keys, records, **kw)
    monkeypatch.setattr(title, 'read_title', read)
    monkeypatch.setattr(title, '_reader', lambda: None)
    monkeypatch.setattr(title.RecordFile, 'add', counted)
    cat = Catalog(dict(file=[f'{i}.png' for i in range(n)], label='x'), tmp_path)
    for _ in range(2): assert read_titles(cat, n_workers=4, progress=False).df['printed'].tolist()==[str(i) for i in range(n)]
    assert len(seen)==n==sum(sizes) and len(sizes)<=n//title._together+1

@needs_ocr
def test_command(tmp_path, capsys):
    from genre_fastai.cli import main
    drawn(('GHOST', 40)).save(tmp_path/'a.png')
    drawn().save(tmp_path/'b.png')
    Catalog(dict(file=['a.png','b.png'], label='x'), tmp_path).save(csv := tmp_path/'c.csv')
    with pytest.raises(SystemExit) as e: main(['titles', str(csv), '--out', str(csv)])
    assert not e.value.code and 'Print was read on 1 of 2 posters, 1 show none, 0 could not be read' in capsys.readouterr().out
    assert read_catalog(csv).df['printed'].tolist()==['GHOST','']

@needs_ocr
@pytest.mark.skipif(not os.environ.get('GENRE_POSTERS'), reason='needs GENRE_POSTERS')
def test_real_titles():
    df = pd.read_csv(posters_path()/'romance_horror_superhero.csv').sample(4, random_state=7)
    got = [read_title(posters_path()/f).text for f in df['file']]
    assert sum(map(bool, got))>=3

# ---- franchises

table = {'saw': ['Saw','Saw II','Saw III','Saw: The Final Chapter'], 'halloween': ['Halloween','Halloween: H20','Halloween 5: The Revenge'],
    'spider man': ['Spider-Man','Spider-Man 2','The Amazing Spider-Man'], 'nightmare on elm street': ['A Nightmare on Elm Street','A Nightmare on Elm Street 3: Dream Warriors'],
    'harry potter': ['Harry Potter and the Goblet of Fire','Harry Potter and the Chamber of Secrets'], 'the mummy': ['The Mummy','The Mummy'],
    '': ['I Saw the Devil','Love Story','Love Actually','Night of the Living','Dawn of the Dead','Part II','Chapter Two','Her','Amélie','Hard Eight','']}

def test_franchises_of_a_table():
    titles = [o for v in table.values() for o in v]
    assert franchise_names(titles)==[k for k,v in table.items() for _ in v]
    order = np.random.default_rng(0).permutation(len(titles))
    assert franchise_names([titles[i] for i in order])==[[k for k,v in table.items() for _ in v][i] for i in order]

def test_franchises_stay_together():
    cat = franchise_groups(films([o for v in table.values() for o in v]))
    assert cat.df['group'].nunique()==6+len(table[''])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for seed in range(4):
            df = cat.split(seed=seed).df
            assert df[df['franchise']!=''].groupby('franchise')['split'].nunique().max()==1
        fold = cat.folds(3)
    assert all(len(set(fold[(cat.df['franchise']==k).to_numpy()]))==1 for k in table if k)
    assert franchise_groups(cat).df['group'].tolist()==cat.df['group'].tolist()

def test_film_groups_join_franchises():
    cat = films(['Saw','Saw II','Gothika','Gothika poster'])
    cat = franchise_groups(cat.assign(imdb_id=['tt1','tt2','tt2','tt3']))
    assert cat.df['group'].tolist()[:3]==['tt1']*3 and cat.df['group'][3]=='tt3'

def test_no_giant_groups():
    names = franchise_names(['movie poster']*50 + [f'Word {i} tale{i}' for i in range(60)])
    assert set(names)=={''}
    with pytest.warns(UserWarning, match='one group of franchises'): franchise_groups(films([f'Saw: tale{i}' for i in range(4)]*4), most=12)
