"Explanations of poster and text together: words, parts of the poster, gates, and films of which the two disagree"
import numpy as np, pandas as pd, pytest
from PIL import Image
from genre_fastai.core import *
from genre_fastai.catalog.core import *
from genre_fastai.predictions import *
from genre_fastai.figure import Plot, Report
from genre_fastai.interpret.film import *
from genre_fastai.interpret.patches import *
from genre_fastai.interpret.words import *
from genre_fastai.interpret.modalities import *
from genre_fastai.clean.issues import *

sigmoid = lambda z: 1/(1+np.exp(-z))

class Fake:
    "Horror by *ghost*, war by *tank*; a bright upper left speaks for horror, and nothing else of the poster"
    vocab,modalities,multi = ['horror','war'], ('poster','title','overview'), True
    def __init__(self): self.calls = []
    def predictions(self, cat, tta=0, thresh=None):
        assert cat.multi and not any(cat.targets) # it is told no label
        self.calls.append(len(cat))
        texts = (cat.df['title']+' '+cat.df['overview']).str.lower()
        z = np.stack([texts.str.count(w) for w in ('ghost','tank')], 1)*2.-1
        for i,f in enumerate(cat.files):
            x = np.asarray(Image.open(f).convert('L'), float)
            if x.min()<x.max(): z[i,0] += (x[:x.shape[0]//3,:x.shape[1]//2].mean()-x.mean())/50
        return Predictions(cat, sigmoid(z), self.vocab)

@pytest.fixture
def poster(tmp_path):
    x = np.full((90,60,3), 40, np.uint8)
    x[5:25,5:25] = 255
    Image.fromarray(x).save(tmp_path/'poster.png')
    return tmp_path/'poster.png'

# --- words

def test_words_are_found_in_one_batch(poster):
    "The words that count have the change that they make, whatever their case and comma, and the model is asked once"
    fake = Fake()
    parts = explain_words(fake, dict(overview='The Ghost, a tank and a ghost', title='Tank'), poster, ['horror','war'])
    assert fake.calls==[1,8]
    df = parts.table('horror').set_index('word')['change']
    assert df['Ghost,']==df['ghost']==pytest.approx(2, abs=1e-3) and (df.drop(['Ghost,','ghost'])==0).all()
    assert parts.table('war').set_index('word')['change']['tank']==pytest.approx(2, abs=1e-3)
    assert explain_words(fake, dict(title='Tank'), poster, 'war', column='title').table()['change'].tolist()==pytest.approx([2], abs=1e-3)

def test_strange_texts_are_shown_and_not_obeyed():
    "Script, quotes, what turns the direction of writing, other scripts and emoji; also in the name of a class"
    text = '<script>alert(1)</script> "a" \u202eevil \u202b 幽霊 שלום 👻 $x_1$ &lt; \x1b[31m'
    parts = word_occlusion(lambda ts: np.array([[.5+.4/(1+len(t)), .5] for t in ts]), text, ['<b onload="x">','b'], '<b onload="x">')
    page = parts._repr_html_()
    assert '<script' not in page and '<b onload' not in page and '\u202e' not in page and '\x1b' not in page
    assert '幽霊' in page and 'שלום' in page and '&amp;lt;' in page and 'mathjax_ignore' in page
    assert isinstance(parts.plot(), Plot)

@pytest.mark.parametrize('text', ['', '   ', None, float('nan'), 'one'])
def test_hardly_any_text(text):
    f = lambda ts: np.array([[.7,.3] if t else [.5,.5] for t in ts])
    parts = word_occlusion(f, text, ['a','b'], window=2)
    assert len(parts.table())==0 and parts.tried==0 and parts._repr_html_() and parts.plot().fig

def test_long_texts_are_bounded_and_say_so():
    asked = []
    f = lambda ts: (asked.append(len(ts)), np.full((len(ts),2), .5))[1]
    parts = word_occlusion(f, 'word '*1000, ['a','b'], most=100)
    assert asked==[101] and parts.tried==100 and '900 words in grey were not tried' in parts._repr_html_()
    assert not parts.changes.any() and 'darkest' not in parts._repr_html_()

def test_probabilities_of_0_and_1_give_numbers():
    parts = word_occlusion(lambda ts: np.array([[1.,0.] if 'x' in t else [0.,1.] for t in ts]), 'x y', ['a','b'])
    assert np.isfinite(parts.changes).all() and parts.parts('a')[0]>20

# --- posters

def test_the_part_of_the_poster_is_found(poster):
    fake = Fake()
    heat = explain_patches(fake, poster, cls=['horror','war'])
    assert heat.maps.shape==(2,9,6) and not heat.maps[1].any()
    best = heat.table('horror').nlargest(1, 'change')
    assert best['row'].item()<3 and best['column'].item()<3
    assert sum(fake.calls)==42 and heat.plot().save(poster.with_suffix('.csv')).is_file()
    fake.modalities = ('overview',)
    with pytest.raises(GenreError, match='not at the poster'): explain_patches(fake, poster)
    fake.modalities = ('poster',)
    with pytest.raises(GenreError, match='poster alone'): explain_words(fake, '', poster)

def test_the_film_is_left_as_it_was(poster):
    before = sorted(o.name for o in poster.parent.iterdir())
    film = FilmProbs(Fake(), poster, 'ghost')
    folder = film.path
    film.of_pictures([Image.new('RGB', (6,9))]*3)
    assert sorted(o.name for o in folder.iterdir())==['.blank','poster.png']
    del film
    assert not folder.exists() and sorted(o.name for o in poster.parent.iterdir())==before

def test_one_display_of_a_film(poster):
    "Masked, each modality says what it says alone; without a poster, without a text, and with neither there is still a display"
    why = explain_film(Fake(), poster, dict(overview='A ghost.', title='Tank'), 'horror')
    row = why.alone.set_index('class').loc['horror']
    assert list(row.index)==['poster','title','overview','together'] and row['overview']==pytest.approx(sigmoid(1), abs=1e-3)
    assert row['title']==pytest.approx(sigmoid(-1), abs=1e-3) and row['together']>row['overview']>row['poster']
    for film in (dict(file=poster), dict(text='ghost'), {}):
        shown = explain_film(Fake(), **film)
        gone = {'poster':'file' not in film, 'text':'text' not in film} # what is not there is said, and has no bars
        assert shown._repr_html_() and shown.notes==[f'There is no {k} that could have spoken.' for k in ('text','poster') if gone[k]]
        assert [*shown.alone]==['class', *['poster']*(not gone['poster']), *['overview']*(not gone['text']), 'together'] and len(repr(shown))<100
    with pytest.raises(GenreError, match='One film is explained'): explain_film(Fake(), [poster])
    page = Report('r').add('why', why).save(poster.parent/'r.html').read_text()
    assert page.count('data:image/')==1 and 'A <span' in page

# --- networks

@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    "Films with a poster, and some without a text, and a gated network"
    from genre_fastai.vision.data import get_dls
    from genre_fastai.multimodal.models import PosterEncoder, PosterTextNet, plot_convs
    from genre_fastai.text.models import WordLSTM
    from genre_fastai.train.multimodal import multimodal_learner
    import torch
    path,rng = tmp_path_factory.mktemp('films'), np.random.default_rng(0)
    for i in range(12): Image.fromarray(rng.integers(0, 255, (90,60,3), np.uint8)).save(path/f'{i}.png')
    texts = ['' if i==11 else f'a ghost of war number {i%4}' for i in range(12)]
    cat = Catalog(dict(file=[f'{i}.png' for i in range(12)], overview=texts, labels=['horror','war','horror|war']*4,
        split=(['train']*2+['valid'])*4), path)
    torch.manual_seed(0)
    dls = get_dls(cat, bs=4, size=(96,64), modalities='poster,overview', tokenizer='words', num_workers=0)
    net = PosterTextNet(PosterEncoder(plot_convs(), nf=128), WordLSTM(dls.tokenizer.vocab_size, dims=8), 2, 'gated', hidden=16)
    return multimodal_learner(dls, net), cat

def test_a_network_is_explained_by_both_ways(learned):
    learn,cat = learned
    f,text = cat.files[0], cat.df['overview'][0]
    whole = learn.predictions(cat[:1]).probs[0]
    cam = film_gradcam(learn, f, text, ['horror','war'])
    assert cam.maps.ndim==3 and len(cam.maps)==2 and cam.maps.min()>=0
    np.testing.assert_allclose(cam.df['prob'], whole, atol=2e-3)
    assert not np.allclose(film_gradcam(learn, f, '', ['horror','war']).df['prob'], whole, atol=1e-5)
    why = explain_film(learn, f, text, 'war', heat='gradcam')
    assert why.patches.maps.shape[1:]==cam.maps.shape[1:] and why.words.tried==6
    np.testing.assert_allclose(why.alone['together'], whole, atol=1e-3)
    with pytest.raises(GenreError, match='does not know'): explain_film(learn, f, text, 'western')

def test_gates_by_label(learned):
    learn,cat = learned
    was = learn.model.training
    gates = gate_values(learn, cat)
    assert np.isnan(gates[11]) and np.isfinite(gates[:11]).all() and learn.model.training==was
    assert ((gates[:11]>0)&(gates[:11]<1)).all()
    with pytest.warns(UserWarning, match='1 of 12 rows lack'): plot = plot_gates(learn, cat)
    df = plot.df.set_index('class')
    assert set(df.index)=={'horror','war'} and (df['low']<df['gate']).all() and df['n'].tolist()==[7]*2
    learn.model.settings['fusion'],fusion = 'late', learn.model.settings['fusion']
    with pytest.raises(GenreError, match='gates'): gate_values(learn, cat)
    learn.model.settings['fusion'] = fusion

def test_masks_of_a_network(learned):
    "Rows keep their ids and files, and nothing is written beside the posters"
    learn,cat = learned
    before = sorted(o.name for o in cat.path.iterdir())
    preds = mask_predictions(learn, cat)
    assert list(preds)==['poster','overview','together'] and all(o.cat.df['id'].equals(cat.df['id']) for o in preds.values())
    assert sorted(o.name for o in cat.path.iterdir())==before
    np.testing.assert_allclose(preds['poster'].probs[11], preds['together'].probs[11], atol=1e-5) # it had no text
    assert not np.allclose(preds['poster'].probs[0], preds['together'].probs[0], atol=1e-5)

def test_a_probe_of_words_is_explained():
    from genre_fastai.text.tfidf import TfidfProbe
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(20)], overview=['a ghost in the house','a tank at the front']*10,
        label=['horror','war']*10, split=(['train']*3+['valid'])*5))
    probe = TfidfProbe('overview', C=10.).fit(cat)
    parts = explain_words(probe, 'the ghost drives a tank', cls='horror')
    v = parts.table().set_index('word')['change']
    assert v.idxmax()=='ghost' and v.idxmin()=='tank'
    assert list(mask_predictions(probe, cat))==['together']
    with pytest.raises(GenreError, match='cannot be masked'): modality_importance(probe, cat)

# --- disagreements

def opinions(p, q, labels, **kw):
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(len(labels))], labels=labels, **kw))
    return [Predictions(cat, o, ['horror','war']) for o in (p, q)]

def test_only_sure_opinions_disagree():
    "A weak opinion is none; of several classes the one counts of which both are sure; order of rows and classes does not matter"
    p,q = opinions([[.95,.1],[.95,.5],[.6,.2],[.3,.9]], [[.05,.1],[.45,.1],[.55,.2],[.3,.95]], ['war','horror','war','horror|war'])
    df = disagreements(p, q)
    assert df['file'].tolist()==['0.jpg'] and df[['poster','text','right']].values.tolist()==[['horror','not horror','text']]
    turned = Predictions(q.cat[[3,1,0,2]], q.probs[[3,1,0,2]][:,::-1], ['war','horror'])
    pd.testing.assert_frame_equal(disagreements(p, turned), df)
    assert disagreements(p, q, sure=.5)['file'].tolist()==['0.jpg','1.jpg']
    with pytest.raises(GenreError, match='Two opinions are compared'): disagreements(p, p.cat)
    by = disagreements(p, q, by='loss')
    assert by['file'][0]=='0.jpg' and len(by)==4 and (by['loss_poster']-by['loss_text']).abs().is_monotonic_decreasing

def test_rows_without_a_label_may_disagree():
    p,q = opinions([[.95,.1],[.1,.1]], [[.05,.1],[.1,.9]], ['',''])
    df = disagreements(p, q, ('poster','overview'))
    assert len(df)==2 and df['right'].tolist()==['',''] and df['loss_poster'].isna().all()

def test_disagreements_become_suggestions_and_nothing_else(tmp_path):
    "They stand in the widget like others, no rule decides on them, and a label issue of the same row keeps its place"
    from genre_fastai.clean.decisions import CleaningSession
    from genre_fastai.clean.widget import ImageCleaner
    p,q = opinions([[.95,.1],[.1,.9],[.1,.9],[.8,.1]], [[.05,.9],[.1,.9],[.1,.05],[.1,.9]], ['horror','war','war','horror'], split=['train']*3+['test'])
    for f in p.cat.df['file']: Image.new('RGB', (6,9)).save(tmp_path/f)
    cat = Catalog(p.cat.df, tmp_path)
    said = dict(poster=p.of(cat.dev), overview=q.of(cat.dev))
    issues = find_issues(cat, opinions=said)
    assert issues['file'].tolist()==['0.jpg','2.jpg'] # the fourth one is a test row
    assert set(issues['kind'])=={'modalities disagree'} and issues['score'].between(0, 1).all()
    assert apply_rule(issues, 'relabel,duplicates,contradictions,leaks,flags')==[]
    issues.to_csv(tmp_path/'issues.csv', index=False)
    sess = CleaningSession(cat, tmp_path/'j.jsonl', issues)
    widget = ImageCleaner(sess)
    assert len(widget.choose(reason='modalities disagree'))==2 and sess.apply().df['labels'].equals(cat.df['labels'])
    with pytest.raises(GenreError, match='lack'): find_issues(cat, opinions={k: o.of(cat[:1]) for k,o in said.items()})
