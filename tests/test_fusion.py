"Linear experts of posters and texts, and the regression on their logits"
import contextlib, io, json, warnings
import numpy as np, pytest
from PIL import Image
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog
from genre_fastai.metrics import row_losses
from genre_fastai.multimodal.fusion import LinearFusion, LogitStack, fusion_networks, has_modality
from genre_fastai.train.recipes import train

names = np.array(['comedy','drama','horror'])
words = 'joke laugh silly wedding', 'tears family court loss', 'ghost blood night knife'
colours = np.array([[240,200,60],[90,90,160],[40,0,0]])

def films(d, n=150, seed=0, multi=True):
    "Tiny posters coloured by genre, and overviews of words of the genre and of any genre; some films lack one of them"
    rng = np.random.default_rng(seed)
    Y = np.eye(3, dtype=bool)[np.arange(n)%3]
    if multi: Y |= rng.random((n,3))<.25
    some,texts = (lambda w, k=2: list(rng.choice(w.split(), k))), []
    for i,y in enumerate(Y):
        a = np.clip(colours[y].mean(0) + rng.normal(size=3)*45 + rng.normal(size=(24,16,3))*60, 0, 255)
        Image.fromarray((a*(i%11!=5)).astype('uint8')).save(d/f'{i}.png')
        texts.append(' '.join([o for w in np.array(words)[y] for o in some(w)] + some(' '.join(words), 3)) if i%10!=7 else '')
    label = {'labels' if multi else 'label': ['|'.join(names[y]) for y in Y]}
    split = ['train','train','train','valid','test']*(n//5)
    return Catalog(dict(file=[f'{i}.png' for i in range(n)], overview=texts, split=split, **label), d)

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    with pytest.MonkeyPatch.context() as m:
        m.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield films(tmp_path_factory.mktemp('films'))

def make(cat, modalities='poster,overview', **kw):
    return LinearFusion(modalities, None, size=32, folds=3, own=(.1,.4), cross=(.02,), **kw).fit(cat)

@pytest.fixture(scope='module')
def fusion(cat): return make(cat)

def test_both_know_more_than_either(cat, fusion):
    test = cat.where(split=['valid','test'])
    both,alone = fusion.predictions(test), fusion.by_modality(test)
    assert both.losses.mean() < min(o.losses.mean() for o in alone.values())
    assert both.scores()['auc'] > max(o.scores()['auc'] for o in alone.values())
    assert [*fusion.experts(test)]==['poster','overview words'] and (np.asarray(both.thresh)==fusion.thresh).all()

def test_probabilities_are_as_sure_as_the_best_expert(cat, fusion):
    valid = cat.where(split='valid')
    assert fusion.predictions(valid).losses.mean() <= min(o.losses.mean() for o in fusion.experts(valid).values())
    probs = fusion.predictions(cat.where(split='test')).probs
    assert abs(probs.mean() - cat.where(split='test').one_hot(cat.classes).mean()) < .1

def test_what_is_missing_is_left_out(cat, fusion):
    test = cat.where(split='test')
    alone = fusion.by_modality(test)
    assert (fusion.predictions(test.assign(overview='')).probs==alone['poster'].probs).all()
    no_file = fusion.predictions(test.assign(file=''))
    assert (no_file.probs==alone['overview'].probs).all()
    Image.new('RGB', (30,40), 'red').save(cat.path/'blank.jpg') # of another size and colour, and still of one colour
    assert (fusion.predictions(test.assign(file='blank.jpg')).probs==no_file.probs).all()
    prior = fusion.predictions(test.assign(file='', overview=' ')).probs
    assert np.allclose(prior, prior[0]) and np.abs(prior[0]-cat.where(split='train').one_hot(cat.classes).mean(0)).max()<.08
    assert has_modality(cat, 'poster').sum()==len(cat)-sum(i%11==5 for i in range(len(cat)))

def test_test_rows_reach_no_fit_and_the_same_seed_gives_the_same(cat, fusion):
    test = (cat.df['split']=='test').to_numpy()
    other = cat.assign(overview=cat.df['overview'].where(~test, 'ghost ghost sheriff'), labels=cat.df['labels'].where(~test, 'drama'),
        file=cat.df['file'].where(~test, '0.png'))
    a,b = fusion.state(), make(other).state()
    assert set(a[0])==set(b[0]) and all((v==b[0][k]).all() for k,v in a[0].items())
    assert a[1]['thresh']==b[1]['thresh']

def test_one_label(tmp_path, cat):
    one = films(tmp_path, 90, multi=False)
    model = make(one)
    test = one.where(split=['valid','test'])
    both = model.predictions(test)
    assert np.allclose(both.probs.sum(1), 1, atol=1e-4) and both.scores()['accuracy']>.6 and model.chosen_by=='accuracy'
    assert both.losses.mean() < min(o.losses.mean() for o in model.experts(test).values())
    again = LinearFusion.from_state(*model.state())
    assert np.allclose(again.predictions(test).probs, both.probs, atol=1e-4)

def test_state_needs_no_pickle_and_holds_the_bodys_digest(cat, fusion):
    arrays,config = fusion.state()
    config = json.loads(json.dumps(config))
    test,nets = cat.where(split='test'), fusion_networks(config)
    with pytest.raises(GenreError, match='are others'): LinearFusion.from_state(arrays, config, nets).predictions(test)
    for new,old in zip(nets, fusion.networks()): new.model.load_state_dict(old.model.state_dict())
    for body in (None, nets):
        again = LinearFusion.from_state(arrays, config, body)
        assert np.allclose(again.predictions(test).probs, fusion.predictions(test).probs, atol=1e-5)
        assert again.state()[1]['vocab']==config['vocab']

def test_a_strangers_state_is_refused(fusion):
    arrays,config = fusion.state()
    odd = dict(vocab=['a']*3, modalities=['poster']*9, seen=[], experts=[dict(modality='poster', kind='pickle')], multi=1,
        weights='/x', kind='')
    for k,v in odd.items():
        with pytest.raises(GenreError): LinearFusion.from_state(arrays, config|{k:v})
    for k in arrays:
        for bad in (np.full(np.shape(arrays[k]), np.nan, 'f4'), np.zeros(np.shape(arrays[k])+(1,), 'f4'), np.array('x')):
            with pytest.raises(GenreError): LinearFusion.from_state(arrays|{k:bad}, config)

def test_rare_labels_are_drawn_to_all():
    rng,n = np.random.default_rng(0), 300
    Y = rng.random((n,3))<[.5,.3,.02]
    Z = np.stack([2*Y-1+rng.normal(size=Y.shape)*s for s in (1,2)], 1)
    prior = np.log(Y.mean(0)/(1-Y.mean(0)))
    near,far = (LogitStack(own, 0).fit(Z, Y, prior).W for own in (.05,5.))
    assert np.ptp(near, 1).max() < .3 < np.ptp(far, 1).max()
    base = row_losses(Y, 1/(1+np.exp(-prior-0*Z[:,0])), True).mean()
    assert row_losses(Y, 1/(1+np.exp(-prior-LogitStack().fit(Z, Y, prior)(Z))), True).mean() < base

def test_errors_say_what_to_do(cat, fusion):
    for kw,says in ((dict(by='accuracy'), 'several labels'), (dict(thresholds='all'), '`kind`')):
        with pytest.raises(GenreError, match=says): make(cat, 'overview', **kw)
    with pytest.raises(GenreError, match='training and validation'): make(cat.where(split='train'), 'overview')
    few = cat.assign(overview=cat.df['overview'].where(cat.df.index<5, ''))
    with pytest.raises(GenreError, match='too few to learn'): make(few, 'overview')
    with pytest.raises(GenreError, match="no column 'plot'"): make(cat, 'poster,plot')
    with pytest.raises(GenreError, match='tta'): fusion.predictions(cat, tta=2)
    one = Catalog(dict(file=['0.png'], label='drama', overview=''), cat.path)
    with pytest.raises(GenreError, match='the column'): fusion.predictions(one)

def test_without_the_extra_words_stand_alone_and_say_so(cat, monkeypatch):
    monkeypatch.setattr('genre_fastai.multimodal.fusion.has_text', lambda model: False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        model = LinearFusion('overview', folds=2).fit(cat)
    assert sum('genre_fastai[text]' in str(o.message) for o in said)==1 and [e.kind for e in model.parts]==['words']

def test_the_recipe(cat):
    with contextlib.redirect_stdout(io.StringIO()):
        model = train(cat, modalities='overview,poster', tokenizer='words', size=32, precision='fp32', thresholds='each')
    run = model.run_info
    assert run.recipe=='fusion' and model.modalities==('poster','overview') and run.thresh==model.thresh.tolist()
    assert len(set(run.thresh))>1 and 'poster alone' in run.kept and run.settings['modalities']=='poster,overview' and run.valid['f1']>.5
    with pytest.raises(GenreError, match='posters alone'): train(cat, 'probe', modalities='overview')
    with pytest.raises(GenreError, match='no setting of the recipe'): train(cat, 'fusion', preset='article1')

def test_explaining_a_film_fills_no_cache(cat, fusion):
    from genre_fastai.interpret.film import explain_film
    from genre_fastai.store import cache_folder
    fusion.predictions(cat[:3])
    kept = lambda: {p: p.stat().st_size for p in cache_folder().rglob('*') if p.is_file()}
    before = kept()
    assert explain_film(fusion, cat.files[0], cat.df['overview'][0]).patches.maps.any()
    assert before and kept()==before # no variant of the poster or the text is kept

def test_validation_rows_may_lack_the_text(cat):
    lacks = cat.assign(overview=cat.df['overview'].mask(cat.df['split']=='valid', ''))
    assert LinearFusion('overview', None, folds=2, own=(.1,), cross=(0,)).fit(lacks).parts[0].C==1
