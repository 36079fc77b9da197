"Several labels a poster: scores that cannot flatter, thresholds that no test row reaches, and models that keep them"
import json, warnings
import numpy as np, pytest
from PIL import Image
from sklearn import metrics as skm
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog
from genre_fastai.multilabel import bootstrap_scores, label_prior, label_report, label_scores, multilabel_report, over_thresh, top_labels
from genre_fastai.predictions import Predictions, bootstrap_difference
from genre_fastai.tables import tmdb_genre_ids, tmdb_genre_names
from genre_fastai.thresholds import fit_thresholds, threshold_curves

vocab = 'Drama Comedy Horror War Western'.split()

def make(n=200, seed=0, split='valid', ties=False):
    "Predictions of rows with labels, some of them rare"
    rng,freq = np.random.default_rng(seed), np.array([.5,.35,.2,.08,.04])
    Y = rng.random((3*n,5)) < freq
    Y = Y[Y.any(1)][:n]
    probs = np.clip(freq+.25*Y+rng.normal(0, .15, Y.shape), 0, 1).round(1 if ties else 6)
    split = split if isinstance(split, str) else np.array(split)[np.arange(n)%len(split)]
    return Predictions(Catalog(dict(file=[f'{seed}-{i}.jpg' for i in range(n)], labels=['|'.join(np.array(vocab)[o]) for o in Y], split=split)), probs, vocab)

# --- scores

@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(2))
def test_a_resample_has_the_scores_of_scikit_learn(seed, ties):
    preds = make(60, seed, ties=ties).with_thresh([.5,.4,.3,.2,.1])
    draws = bootstrap_scores(preds, n_boot=8, seed=seed)
    rng = np.random.default_rng(seed)
    for i,rows in enumerate(rng.integers(0, 60, (8,60))):
        want = label_scores(preds.Y[rows], preds.probs[rows], preds.pred[rows])
        for k,v in want.items(): assert draws.loc[i,k]==pytest.approx(v, abs=1e-6, nan_ok=True), (i, k)

def test_scores_are_those_of_scikit_learn():
    preds = make()
    s,(Y,P,pred) = label_scores(preds.Y, preds.probs, preds.pred), (preds.Y, preds.probs, preds.pred)
    for avg in ('micro','macro','weighted'):
        assert [s[f'{avg}_{k}'] for k in ('precision','recall','f1')]==pytest.approx(skm.precision_recall_fscore_support(Y, pred, average=avg, zero_division=0)[:3])
    assert s['auc']==pytest.approx(skm.roc_auc_score(Y, P)) and s['ap']==pytest.approx(skm.average_precision_score(Y, P))
    best = np.argsort(-P, 1, kind='stable')[:,:3]
    hits = np.take_along_axis(Y, best, 1).sum(1)
    assert s['top3_precision']==pytest.approx((hits/3).mean()) and s['top3_recall']==pytest.approx((hits/Y.sum(1)).mean())

def test_no_score_comes_without_its_baselines():
    preds = make()
    df = multilabel_report(preds, preds.cat.assign(split='train'), n_boot=50).set_index('metric')
    assert set(df.columns)=={'value','low','high','all_zero','constant','prior'} and (df['low']<=df['high']).all()
    assert df.loc['hamming','all_zero']==pytest.approx(preds.Y.mean(), abs=1e-4) and (df.loc['auc',['all_zero','constant','prior']]==.5).all()
    const = np.tile(top_labels(preds.Y.mean(0)[None])[0], (200,1)) # the commonest three
    assert df.loc['f1','constant']==pytest.approx(skm.f1_score(preds.Y, const, average='samples'), abs=1e-4)
    s = preds.scores()
    scores = {k for k in s if f'{k}_baseline' in s}
    assert {'precision','recall','f1','micro_f1','macro_f1','auc','ap','hamming','top3_recall'}<=scores and json.dumps(s)
    assert scores | {f'{k}_baseline' for k in scores} | {'n','threshold'}==set(s)
    one = label_report(preds, n_boot=20)
    assert (one['accuracy_baseline']==np.maximum(one['share'], 1-one['share']).round(4)).all()

def test_the_prior_is_that_of_training_rows():
    preds = make(200, split=['train','valid','test'])
    cat,train = preds.cat, (preds.cat.df['split']=='train').to_numpy()
    assert label_prior(cat, vocab)==pytest.approx(preds.Y[train].mean(0))
    others = cat.assign(labels=np.where(train, cat.df['labels'], 'Western'))
    assert (label_prior(others, vocab)==label_prior(cat, vocab)).all()
    with pytest.raises(GenreError, match='each of the 5'): multilabel_report(preds, [.5])

def test_labels_that_no_row_has():
    preds = make(40)
    more = Predictions(preds.cat, np.c_[preds.probs, np.full(40, .2)], [*vocab,'Music'])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        df,one = multilabel_report(more, n_boot=30).set_index('metric'), label_report(more, n_boot=30).set_index('class')
    assert df.loc['auc','value']==pytest.approx(label_scores(preds.Y, preds.probs, preds.pred)['auc'], abs=1e-4)
    assert np.isnan(one.loc['Music',['auc','ap','auc_low']].astype(float)).all() and one.loc['Music','n']==0

def test_refused_without_several_labels():
    one = Predictions(Catalog(dict(file=['a.jpg'], label='x')), [[.6,.4]], ['x','y'])
    for f in (multilabel_report, label_report, bootstrap_scores):
        with pytest.raises(GenreError, match='several labels'): f(one)
        with pytest.raises(GenreError, match='no rows'): f(make(9).of(make(9).cat[:0]))
    with pytest.raises(GenreError, match='no threshold'): fit_thresholds(one)

def test_a_difference_is_paired():
    a = make(150)
    b = Predictions(a.cat, (a.probs+.04*a.Y).clip(0, 1), vocab)
    d = bootstrap_difference(a, b, 'ap', n_boot=200)
    alone = multilabel_report(a, n_boot=200).set_index('metric').loc['ap']
    assert d['low']>0 and d['high']-d['low']<(alone['high']-alone['low'])/2 and d['difference']==pytest.approx(d['second']-d['first'], abs=1e-4)
    back = bootstrap_difference(b, a, 'ap', n_boot=200)
    assert (back['low'],back['high'])==(-d['high'],-d['low'])
    turned = Predictions(a.cat[::-1], b.probs[::-1,::-1], vocab[::-1]) # other rows first, and other classes
    assert bootstrap_difference(a, turned, 'ap', n_boot=200)==d
    with pytest.raises(GenreError, match='different classes'): bootstrap_difference(a, Predictions(a.cat, b.probs, [*vocab[:4],'Music']))

# --- thresholds

def test_test_rows_cannot_reach_the_fit():
    every = make(300, split=['train','valid','test'])
    split,fit = every.cat.df['split'].to_numpy(), lambda p, **kw: fit_thresholds(p.of(p.cat.where(split='valid')), **kw)
    for oof in (False, True):
        with pytest.raises(GenreError, match="100 of the split 'test'"): fit_thresholds(every, oof=oof)
        with pytest.raises(GenreError, match="1 of the split 'test'"): fit_thresholds(every.of(every.cat[np.r_[np.flatnonzero(split=='valid'), 2]]), oof=oof)
    rng = np.random.default_rng(1)
    labels,probs = every.cat.df['labels'].to_numpy(object).copy(), every.probs.copy()
    labels[split!='valid'],probs[split!='valid'] = rng.permutation(labels[split!='valid']), rng.random(((split!='valid').sum(),5))
    scrambled = Predictions(every.cat.assign(labels=labels), probs, vocab)
    for kw in (dict(), dict(kind='one'), dict(by='mcc'), dict(prior=0)): assert (fit(every, **kw)==fit(scrambled, **kw)).all()
    labels[split=='valid'] = rng.permutation(labels[split=='valid'])
    assert (fit(Predictions(every.cat.assign(labels=labels), every.probs, vocab))!=fit(every)).any() # and valid rows do decide

def test_training_rows_only_out_of_fold():
    for split in ('train',''):
        with pytest.raises(GenreError, match='validation rows'): fit_thresholds(make(50, split=split))
        assert (fit_thresholds(make(50, split=split), oof=True)==fit_thresholds(make(50))).all()
    assert fit_thresholds(make(60, split=['train','valid']), oof=True).shape==(5,)

@pytest.mark.parametrize('by,f', [('f1',skm.f1_score), ('mcc',skm.matthews_corrcoef)])
def test_no_threshold_is_better(by, f):
    for seed in range(2):
        preds = make(40, seed)
        for y,p,t in zip(preds.Y.T, preds.probs.T, fit_thresholds(preds, by=by, prior=0)):
            if y.any(): assert f(y, p>=t)==pytest.approx(max(f(y, p>=o) for o in np.unique(p)))
        t = fit_thresholds(preds, 'one', by)
        assert f(preds.Y.ravel(), over_thresh(preds.probs, t).ravel())>=f(preds.Y.ravel(), (preds.probs>=.5).ravel())

def test_rare_labels_lean_on_the_others():
    preds = make(300)
    alone,drawn,common = (fit_thresholds(preds, prior=o) for o in (0, 20, 1e9))
    odds = lambda t: np.log(t/(1-t))
    kept,n = (odds(drawn)-odds(common))/(odds(alone)-odds(common)), preds.Y.sum(0)
    assert kept==pytest.approx(n/(n+20), abs=.05)
    assert (np.argsort(common)==np.argsort(n)).all() # the rarer, the lower

def test_curves_have_the_counts():
    preds = make(100)
    df = threshold_curves(preds, [.3,.6])
    for t in (.3,.6):
        got = df[df['threshold']==t][['precision','recall','f1']].to_numpy()
        want = np.array(skm.precision_recall_fscore_support(preds.Y, preds.probs>=t, average=None, zero_division=np.nan)[:3]).T
        assert np.allclose(got[:,1], want[:,1], atol=1e-4) and np.allclose(got[:,0], want[:,0], atol=1e-4, equal_nan=True)

def test_predictions_take_a_threshold_for_each_class():
    preds = make(20)
    own = preds.with_thresh([0,1,.5,1,1])
    assert own.pred[:,0].all() and (own.pred[:,2]==preds.pred[:,2]).all() and own.of(own.cat[5:7]).labels==own.labels[5:7]
    assert own.table()['pred'].str.startswith('Drama').all() and own.scores()['threshold']=='0 to 1' and preds.scores()['threshold']==.5
    assert (preds.with_thresh(np.full(5, .3)).pred==preds.with_thresh(.3).pred).all()
    edge = Predictions(preds.cat[:1], np.full((1,5), .7), vocab) # as float32, .7 is a little less
    assert edge.with_thresh(.7).pred.all() and edge.with_thresh([.7]*5).pred.all()

def test_doubtful_labels_are_those_that_the_model_gives_next_to_nothing():
    preds = make(300, split='train')
    probs = preds.probs.copy()
    Y = preds.Y
    probs[:20,0] = np.where(Y[:20,0], .01, .995) # planted errors
    preds = Predictions(preds.cat, probs, vocab)
    bad,given = preds.label_issues(), np.where(Y, probs, 1-probs)
    assert bad[:20,0].all() and (given[bad]<.03).all()
    for t in (.2,.999): assert not (preds.with_thresh(t).label_issues() & (preds.with_thresh(t).pred==Y)).any()

def test_top_names():
    preds = Predictions(Catalog(dict(file=['a.jpg'], labels='Drama')), [[.81,.4,.64,0,1]], vocab)
    row = preds.top(3).iloc[0]
    assert row['top']=='Western 1.00, Drama .81, Horror .64' and (row['label_2'],row['prob_2'])==('Drama',.81) and row['id']==preds.cat.df['id'][0]
    assert len(tmdb_genre_ids)==19 and tmdb_genre_names('[878, 10770]')==['Science Fiction','TV Movie']
    with pytest.raises(GenreError, match="'5' is no id"): tmdb_genre_names('28|5')

# --- kept with a model

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A model of several labels with its thresholds, and the learner"
    from fastai.vision.all import set_seed
    from genre_fastai.deploy.folder import save_predictor
    from genre_fastai.train.learner import poster_learner
    from genre_fastai.vision.data import get_dls
    path = tmp_path_factory.mktemp('labels')
    for i in range(6): Image.new('RGB', (32,48), (40*i, 200-30*i, 90)).save(path/f'{i}.jpg')
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(6)], labels=['Drama','Drama|War','War','Drama|Horror','Horror','War'], split=['train']*4+['valid']*2), path)
    set_seed(0)
    learn = poster_learner(get_dls(cat, size=32, bs=2, seed=0), 'PosterCNN', weights=None)
    learn.run_info.thresh = np.array([.1234,.5,.9])
    return save_predictor(learn, path/'model'), learn, cat

def test_a_folder_keeps_the_thresholds(folder, tmp_path):
    from genre_fastai.deploy.folder import load_predictor, save_predictor
    path,learn,cat = folder
    config = json.loads((path/'config.json').read_text())
    assert config['thresh']==[.1234,.5,.9] and '0.1234 to 0.9' in (path/'README.md').read_text()
    m = load_predictor(path)
    preds = m.predictions(cat)
    assert preds.thresh.tolist()==[.1234,.5,.9] and m.predictions(cat, thresh=.5).thresh==.5
    assert m.predict(cat.files)['pred'].tolist()==preds.labels and m.predict(cat.files, thresh=0)['pred'].tolist()==['Drama|Horror|War']*6
    again = load_predictor(save_predictor(learn, tmp_path/'m', thresh=.25))
    assert again.predictions(cat).thresh==.25
    with pytest.raises(GenreError, match='each of the 3'): save_predictor(learn, tmp_path/'n', thresh=[.5,.5])
    assert not (tmp_path/'n').exists()

def test_folders_with_other_thresholds(folder):
    from genre_fastai.deploy.folder import load_predictor
    path,_,cat = folder
    text = (path/'config.json').read_text()
    config = json.loads(text)
    try:
        for odd,says in (([.5,.5],'2 thresholds'), ([.5]*4,'4 thresholds'), ([.5,.5,1.1],'`thresh`'), ([.5,.5,None],'`thresh`'), ('.5','`thresh`'), ([.5,.5,True],'`thresh`'), (-1,'`thresh`')):
            (path/'config.json').write_text(json.dumps(config|dict(thresh=odd)))
            with pytest.raises(GenreError, match=says): load_predictor(path)
        for kept,want in ((None,.5), (.3,.3)): # one number; and none, as in folders of earlier versions
            (path/'config.json').write_text(json.dumps({k:v for k,v in config.items() if k!='thresh'} | ({} if kept is None else dict(thresh=kept))))
            assert load_predictor(path).predictions(cat[:1]).thresh==want
    finally: (path/'config.json').write_text(text)

# --- plots

def test_plots_of_labels():
    from genre_fastai.interpret.interpret import PosterInterpretation
    import genre_fastai.interpret.labels
    preds = make(120, split=['train','valid'])
    both = preds.cat.plot_cooccurrence().df
    assert both.loc['Drama','Comedy']==(preds.Y[:,0]&preds.Y[:,1]).sum() and (both.to_numpy()==both.to_numpy().T).all()
    plot = PosterInterpretation(preds).plot_thresholds([.1,.2,.3,.4,.5])
    marks = [ax.lines[3].get_xdata()[0] for ax in plot.fig.axes if ax.get_visible()]
    assert marks==[.1,.2,.3,.4,.5] and plot.df['threshold'].tolist()==[.1,.2,.3,.4,.5] and plot.df['class'].tolist()==vocab
