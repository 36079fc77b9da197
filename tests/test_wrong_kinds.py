"Another kind of thing than is meant, sizes of which nothing is left, and two processes that write runs: a clear word each"
from threading import Thread
import numpy as np, pytest
from genre_fastai.all import (Catalog, CleaningSession, Experiments, GenreError, ImageCleaner, LinearFusion, PosterInterpretation, PosterUploader,
    Predictions, average_predictions, bootstrap_difference, build_index, compare_predictions, extract_features, find_issues, find_label_issues,
    fit_thresholds, get_dls, load_learner, load_predictor, poster_learner, save_predictor, train)
from genre_fastai.thresholds import threshold_curves
from genre_fastai.text.title import franchise_groups, read_titles
from genre_fastai.features.probe import cross_val_probs
from genre_fastai.features.neighbors import catalog_index
from genre_fastai.features.text import text_features, tfidf_features
from genre_fastai.vision.cache import pixel_cache
from genre_fastai.interpret.leakage import copy_rows
from genre_fastai.interpret.modalities import mask_modalities
from genre_fastai.clean.evaluate import true_label_errors
from genre_fastai.multimodal.fusion import has_modality
from genre_fastai.vision.models import poster_model

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    from PIL import Image
    d = tmp_path_factory.mktemp('kinds')
    for i in range(8): Image.new('RGB', (24,24), (30*i,9,9)).save(d/f'{i}.png')
    return Catalog(dict(file=[f'{i}.png' for i in range(8)], label=['war','love']*4, split=['train']*4+['valid']*4), d)

@pytest.fixture(scope='module')
def learn(cat): return poster_learner(get_dls(cat, size=24, bs=4), 'PosterCNN', None, precision='fp32')

@pytest.fixture(scope='module')
def several(cat): return Catalog(dict(file=cat.df['file'], labels=['war|love']*8, split=cat.df['split']), cat.path)

class Saved:
    "As much of a saved model as has to be there"
    def predictions(self, cat): return Predictions(cat, np.full((len(cat),2), .5), ['love','war'])

wrong = dict(
    train=lambda c, l: train('catalog.csv'), train_df=lambda c, l: train(c.df), dls=lambda c, l: get_dls('catalog.csv'),
    features=lambda c, l: extract_features('posters'), learn_df=lambda c, l: l.predictions(c.df), learn_files=lambda c, l: l.predictions(list(c.files)),
    fusion=lambda c, l: LinearFusion('overview').fit(c.df), preds=lambda c, l: Predictions(c.df, np.zeros((8,2)), ['love','war']),
    of=lambda c, l: Saved().predictions(c).of(c.df), session=lambda c, l: CleaningSession('catalog.csv', c.path/'j'), issues=lambda c, l: find_issues(c.df),
    interp_cat=lambda c, l: PosterInterpretation.from_learner(l, c.df), cross=lambda c, l: cross_val_probs('catalog.csv', None),
    texts=lambda c, l: text_features(c.df), tfidf=lambda c, l: tfidf_features(c.df), franchise=lambda c, l: franchise_groups(c.df),
    printed=lambda c, l: read_titles('posters'), pixels=lambda c, l: pixel_cache(c.df, 24), copies=lambda c, l: copy_rows(c.df, c.path/'m'),
    errors=lambda c, l: true_label_errors(c.df), looked_up=lambda c, l: catalog_index('posters', c.path/'m'),
    masked=lambda c, l: mask_modalities(c.df, ['poster'], ['poster','overview'], c.path), has=lambda c, l: has_modality(c.df, 'poster'))
needs_predictions = dict(
    issues=lambda c, l: find_issues(c, np.zeros((8,2))), interp=lambda c, l: PosterInterpretation(l), thresh=lambda c, l: fit_thresholds(l),
    curves=lambda c, l: threshold_curves(np.zeros((8,2))), average=lambda c, l: average_predictions([Saved().predictions(c), l]),
    compare=lambda c, l: compare_predictions(dict(a=Saved().predictions(c), b=np.zeros((8,2)))),
    labels=lambda c, l: find_label_issues(np.zeros((8,2))), difference=lambda c, l: bootstrap_difference(l, l))
others = dict(
    saved=(lambda c, l: PosterInterpretation.from_learner(Saved(), c), 'PosterInterpretation(model.predictions(cat))'),
    issues=(lambda c, l: CleaningSession(c, c.path/'j', 'issues.csv'), 'find_issues(cat)'),
    cleaner=(lambda c, l: ImageCleaner(l), 'ImageClassifierCleaner(learn)'), model=(lambda c, l: save_predictor(l.model, c.path/'m'), 'should be a learner'),
    swapped=(lambda c, l: save_predictor('m', l), 'name of a folder'), none=(lambda c, l: average_predictions([]), 'no predictions to average'),
    uploader=(lambda c, l: PosterUploader('model'), 'load_predictor(folder)'), learner=(lambda c, l: PosterUploader(l), 'load_predictor(folder)'),
    index=(lambda c, l: build_index('posters'), 'should be features'), size=(lambda c, l: poster_model('squeezenet1_1', weights=None, size=16), 'too small for squeezenet1_1'))

@pytest.mark.parametrize('f,says', [(f, 'should be a catalog') for f in wrong.values()] + [(f, '`Predictions`') for f in needs_predictions.values()]
    + list(others.values()), ids=[*wrong, *needs_predictions, *others])
def test_another_kind_is_said(cat, learn, f, says):
    with pytest.raises(GenreError) as e: f(cat, learn)
    assert says in str(e.value)
    assert not (cat.path/'m').exists() and not (cat.path/'j').exists()

def test_the_right_kinds_go_on(cat, learn):
    preds = learn.predictions(cat)
    both = average_predictions([preds, PosterInterpretation(preds, learn)]) # what holds predictions is as good as they are
    np.testing.assert_allclose(both.probs, preds.probs, atol=1e-5)

def test_an_exported_learner_has_no_rows(cat, learn, tmp_path):
    learn.export(tmp_path/'l.pkl')
    again = load_learner(tmp_path/'l.pkl')
    with pytest.raises(GenreError, match='exported learner holds no rows'): PosterInterpretation.from_learner(again)
    assert len(PosterInterpretation.from_learner(again, cat.where(split='valid')))==4

def test_what_would_be_ignored_is_refused(cat, several, learn, tmp_path):
    preds = Predictions(several, np.full((8,2), .5), ['love','war'])
    with pytest.raises(GenreError, match='Leave `baseline` out'): preds.scores('western')
    assert preds.scores()['n']==8
    saved = load_predictor(save_predictor(learn, tmp_path/'m'))
    for f in (lambda: saved.predict(cat.files[0], thresh=.3), lambda: saved.predictions(cat, thresh=.3)):
        with pytest.raises(GenreError, match='this model gives one'): f()
    assert len(saved.predict(cat.files[0]))==1
    with pytest.raises(GenreError, match='should be a catalog'): saved.predictions(cat.df)
    with pytest.raises(GenreError, match='should be a learner'): save_predictor(saved, tmp_path/'again')

def test_small_sizes_and_random_weights(cat):
    films = cat.assign(overview=['a war', 'a kiss']*4)
    for size in (32,40,(115,45)):
        with pytest.raises(GenreError, match="too small for article 2's network"): train(films, 'article2', size=size, cache_pixels=True)
    with pytest.raises(GenreError, match='at least 22 pixels'):
        train(films, 'gated', arch='PosterCNN', weights=None, size=8, freeze_epochs=0, tokenizer='words')
    for weights in (None,'auto'):
        with pytest.raises(GenreError, match='PosterCNN would be random'):
            train(films, modalities='poster,overview', arch='PosterCNN', weights=weights, tokenizer='words')

def test_two_who_share_a_csv_of_experiments_lose_no_run(tmp_path):
    def runs(who):
        settings = [dict(seed=i, who=w) for i in range(5) for w in ('both', who)]
        Experiments(tmp_path/'new'/'runs.csv').run(settings, lambda **_: dict(accuracy=.5), show=None)
    ts = [Thread(target=runs, args=[o]) for o in 'ab']
    for o in ts: o.start()
    for o in ts: o.join()
    df = Experiments(tmp_path/'new'/'runs.csv').df
    assert df['who'].value_counts().to_dict()==dict(a=5, b=5, both=5)
    assert list(df['settings'])==list(dict.fromkeys(df['settings']))
