"Classifiers on features and posters like one: what they agree with, what they may see, what is refused"
import contextlib, io, shlex, tracemalloc
import numpy as np, pandas as pd, pytest
from fastcore.test import expect_fail
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog
from genre_fastai.features.extract import Features
from genre_fastai.features.mlp import FeatureMLP
from genre_fastai.features.neighbors import KNNProbe, build_index, load_index
from genre_fastai.features.probe import LinearProbe, feature_predictions
from genre_fastai.predictions import Predictions

rng = np.random.default_rng(0)

def labelled(n=240, d=12, multi=True, seed=0):
    "A catalog of made-up films with a split, and features that tell some of its labels"
    r = np.random.default_rng(seed)
    X = r.normal(size=(n,d)).astype('float32')
    Y = X[:,:3]+.5*r.normal(size=(n,3))>.3
    Y[~Y.any(1),0] = True
    labels = ['|'.join(np.array(['a','b','c'])[y]) for y in Y]
    split = np.array(['train','train','train','valid','test'])[np.arange(n)%5]
    df = pd.DataFrame(dict(file=[f'{i}.jpg' for i in range(n)], split=split, film=[f'f{i}' for i in range(n)]))
    cat = Catalog(df.assign(**(dict(labels=labels) if multi else dict(label=[o[0] for o in labels]))), '/nowhere')
    return cat, Features(cat.df['id'], X)

classifiers = [lambda: LinearProbe(C=.1), lambda: LinearProbe(C='valid'), lambda: KNNProbe(k=9),
    lambda: FeatureMLP(hidden=(32,), epochs=15, lr=3e-3, bs=16), lambda: FeatureMLP(hidden=(32,), epochs=15, lr=3e-3, bs=16, best=True)]

@pytest.mark.parametrize('multi', [False, True])
@pytest.mark.parametrize('new', classifiers, ids=lambda f: repr(f())[:24])
def test_one_seam_for_all_classifiers(new, multi):
    cat,feats = labelled(multi=multi)
    preds = feature_predictions(cat, feats, new())
    test = cat.where(split='test')
    assert isinstance(preds, Predictions) and preds.vocab==['a','b','c'] and list(preds.cat.df['id'])==list(test.df['id'])
    Y = test.one_hot(preds.vocab)
    loss = lambda P: -np.log(np.clip(np.where(Y, P, 1-P), 1e-6, 1)).mean()
    assert loss(preds.probs)<.9*loss(np.tile(cat.where(split='train').one_hot(preds.vocab).mean(0), (len(Y),1)))
    assert multi or np.allclose(preds.probs.sum(1), 1, atol=1e-4)

@pytest.mark.parametrize('new', classifiers, ids=lambda f: repr(f())[:24])
def test_labels_and_features_of_test_rows_change_nothing(new):
    cat,feats = labelled()
    first = feature_predictions(cat, feats, new(), rows='valid').probs
    test = (cat.df['split']=='test').to_numpy()
    flipped = cat.assign(labels=np.where(test, 'a|b|c', cat.df['labels']))
    X = feats.X.copy()
    X[test] = 1e3
    assert np.array_equal(first, feature_predictions(flipped, Features(feats.ids, X), new(), rows='valid').probs)

@pytest.mark.parametrize('new', [classifiers[i] for i in (0,2,3)], ids=lambda f: repr(f())[:24])
def test_validation_rows_are_for_choices_only(new):
    cat,feats = labelled()
    flipped = cat.assign(labels=np.where(cat.df['split']=='valid', 'a', cat.df['labels']))
    assert np.array_equal(feature_predictions(cat, feats, new()).probs, feature_predictions(flipped, feats, new()).probs)

def test_training_rows_are_not_predicted():
    cat,feats = labelled()
    for rows in ('train', cat, cat.where(split='train')[:1]):
        with expect_fail(GenreError, contains='training rows'): feature_predictions(cat, feats, KNNProbe(), rows)
    with expect_fail(GenreError, contains='takes'): feature_predictions(cat, feats, KNNProbe(), 'tset')
    with expect_fail(GenreError, contains='no training rows'): feature_predictions(cat.assign(split='test'), feats, KNNProbe())
    new = Catalog(cat.df.assign(id=[f'n{i}' for i in range(len(cat))]).drop(columns='split'), '/nowhere')
    assert len(feature_predictions(cat, Features([*feats.ids, *new.df['id']], np.tile(feats.X, (2,1))), KNNProbe(), new))==len(new)

def test_a_list_of_Cs_without_validation_rows_is_tried_by_folds_of_films():
    cat,feats = labelled()
    cat = cat.assign(split=np.where(cat.df['split']=='valid', 'train', cat.df['split']))
    asked = []
    class Spy(LinearProbe):
        def fit(self, X, Y, valid=None, folds=None):
            asked.append(folds)
            return super().fit(X, Y, valid, folds)
    clf = Spy([1e-5, 1e-2, 1])
    feature_predictions(cat, feats, clf)
    assert len(asked[0])==len(cat.where(split='train')) and len(set(asked[0]))==5 and clf.best_C>1e-5
    with expect_fail(GenreError, contains='needs validation rows'): feature_predictions(cat, feats, LinearProbe('valid'))

@pytest.mark.parametrize('C', [1e-4, 1e-2])
def test_labels_are_solved_as_exactly_as_scikit_learn_can(C):
    from sklearn.linear_model import LogisticRegression
    X = (rng.normal(size=(300,80))/np.arange(1,81)**.5).astype('float32')
    Y = X@rng.normal(size=(80,4))+rng.normal(size=(300,4))>0
    probe = LinearProbe(C, multi=True).fit(X, Y)
    Z = probe.scaler.transform(X).astype(float)
    exact = np.stack([LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(Z, y).predict_proba(Z)[:,1] for y in Y.T], 1)
    assert abs(probe.predict_proba(X)-exact).max()<1e-3
    assert abs(probe.predict_proba(X.astype('float16'))-exact).max()<1e-2

def test_article_3_in_half_precision_needs_no_second_copy():
    X = np.zeros((1200,5000), np.float16)
    X[:,0] = rng.normal(size=1200)
    tracemalloc.start()
    clf = FeatureMLP(hidden=(4,), multi=True, epochs=1).fit(X, X[:,:1]>0)
    clf.predict_proba(X[:10])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak<1.5*X.nbytes # in single precision X alone would be twice, in double precision four times

def test_the_network_of_article_3():
    clf = FeatureMLP(multi=True, scale=False, epochs=1).fit(rng.random((70,50), np.float32), np.eye(20)[np.arange(70)%20])
    from torch import nn
    layers = [m for m in clf.learn.model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers]==[(50,1024),(1024,256),(256,20)]
    h = clf.learn.opt.hypers[0]
    assert (clf.epochs, clf.bs, h['lr'], h['sqr_mom'], h['wd'])==(1, 64, 1e-4, .9, 0) and FeatureMLP().epochs==60
    assert clf.learn.recorder.values[0][1] is None and len(clf.learn.recorder.losses)==2

def test_nothing_is_printed_by_training():
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out): FeatureMLP(hidden=(4,), epochs=2).fit(rng.random((20,3)), np.eye(2)[np.arange(20)%2])
    assert out.getvalue()==''

# ---- neighbours

def made(n=3000, d=600, seed=1):
    "Features whose spectrum decays, as that of a network does"
    r = np.random.default_rng(seed)
    turn = np.linalg.qr(r.normal(size=(d,d)))[0]
    return Features([f'r{i}' for i in range(n)], ((r.normal(size=(n,d))/np.arange(1, d+1)**.7)@turn).astype('float32'))

def test_256_axes_find_the_neighbours_that_all_features_find():
    feats = made()
    index = build_index(feats)
    Z = (feats.X-feats.X.mean(0))/feats.X.std(0)
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    true = (-Z[:100]@Z.T).argsort(1)[:,1:11]
    found = [set(index.neighbors(f'r{i}', 10).df['id']) for i in range(100)]
    assert index.vectors.shape==(3000,256)
    assert np.mean([len({f'r{j}' for j in t} & f)/10 for t,f in zip(true, found)])>=.9

def test_copies_and_films_are_left_out(tmp_path):
    feats = made(8, 5)
    pairs = pd.DataFrame(dict(id_a=['r0'], id_b=['r1'], kind=['near']))
    df = pd.DataFrame(dict(id=feats.ids, file=[f'{o}.jpg' for o in feats.ids], label='x', film=['','','m','m','','','',''], title='A title'))
    index = build_index(feats, Catalog(df, tmp_path, pairs))
    ids = lambda *args, **kw: set(index.neighbors(*args, **kw).df['id'])
    assert ids('r0')=={'r2','r3','r4','r5','r6','r7'} and ids('r2')==set(feats.ids)-{'r2','r3'}
    assert ids('r0', same_film=True)==set(feats.ids)-{'r0'}
    assert list(index.neighbors('r0', 2).df)==['id','file','title','film','label','distance']
    assert list(index.neighbors(str(tmp_path/'r0.jpg')).df['id'])==list(index.neighbors('r0').df['id']) # by its name, which is not even there

def test_rows_that_take_no_part_are_no_neighbours(tmp_path):
    feats = made(8, 5)
    cat = Catalog(pd.DataFrame(dict(id=feats.ids, file=[f'{o}.jpg' for o in feats.ids], label='x', status=['ok']*6+['dropped']*2)), tmp_path)
    assert set(build_index(feats, cat).neighbors('r0', 99).df['id'])=={'r1','r2','r3','r4','r5'}

def test_an_index_is_whole_or_refused(tmp_path):
    file = build_index(made(20, 6)).save(tmp_path/'i.safetensors')
    data = file.read_bytes()
    for n in (0, 7, 100, len(data)//2, len(data)-1):
        (tmp_path/'cut.safetensors').write_bytes(data[:n])
        with expect_fail(GenreError): load_index(tmp_path/'cut.safetensors')
    for old,new in ((b'"ids"', b'"idz"'), (b'"vectors"', b'"vectorz"'), (b'"settings": {}', b'"settings": []'), (b'"weights": "auto"', b'"weights": [["o"]]'[:17])):
        assert old in data
        (tmp_path/'bad.safetensors').write_bytes(data.replace(old, new))
        with expect_fail(GenreError): load_index(tmp_path/'bad.safetensors')
    assert load_index(file).neighbors('r3', 4).df.equals(build_index(made(20, 6)).neighbors('r3', 4).df)

def test_the_command(tmp_path, monkeypatch):
    "From a csv to neighbours and their pictures; a second call computes nothing"
    from genre_fastai import cli
    from genre_fastai.sample.dataset import make_sample
    import genre_fastai.features.neighbors as nb
    cat = make_sample(tmp_path/'p', n=20, seed=3, classes=['horror','romance'], size=(40,60)).where(kind='clean')
    cat.save(tmp_path/'c.csv')
    calls = []
    def extract(c, arch='a', weights='auto', pool='avg', size=(1,1), engine='local'):
        calls.append(len(c))
        return Features(c.df['id'], np.stack([np.asarray(nb.thumbnail(f, 6, 4).resize((4,6)), 'float32').ravel() for f in c.files]),
            dict(arch=arch, weights=weights, pool=pool, size=size))
    monkeypatch.setattr(nb, 'extract_features', extract)
    def say(line):
        out,err = io.StringIO(),io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end: cli.main(shlex.split(line))
        return end.value.code, out.getvalue(), err.getvalue()
    c,path = tmp_path/'c.csv', ''
    code,out,err = say(f'neighbors {c} {cat.files[0]} --k 3 --out {tmp_path}/g.html {path}')
    assert code==0 and len(out.splitlines())==5 and 'data:image' in (tmp_path/'g.html').read_text(), err
    assert say(f'neighbors {c} {cat.df["id"][0]} --k 3 {path}')[1].splitlines()==out.splitlines()[:-1] and calls==[len(cat)]
    assert say(f'neighbors {c} {cat.df["id"][0]} --arch b {path}')[0]==0 and calls==[len(cat)]*2 # other settings, another index
    (tmp_path/'t.jpg').write_text('no picture')
    (tmp_path/'cut.safetensors').write_bytes((tmp_path/'c.index.safetensors').read_bytes()[:-9])
    for line,why in ((f'{c} {cat.files[0]} --index {tmp_path}/cut.safetensors', 'another file (--index)'), (f'{c} nobody.jpg', 'is no file'), (f'{c} {tmp_path}', 'is a folder'), (f'{c} {tmp_path}/t.jpg', ''), (f'{c} {cat.files[0]} --out x.gif', '.html, .png or .jpg'),
        (f'{c} {cat.files[0]} --index {c}', 'is what is read'), (f'{c} {cat.files[0]} --out {cat.files[0]}', 'is what is read'), (f'{c} https://a.example/b.jpg', 'is an address')):
        code,out,err = say(f'neighbors {line} {path}')
        assert code==2 and out=='' and why in err and len(err.splitlines())==1, (line, out, err)

def test_all_rows_of_a_catalog_without_a_split_are_kept_out_of_pretraining(tmp_path, monkeypatch):
    "From the command line as in Python"
    import shlex
    from types import SimpleNamespace
    import genre_fastai.train.pretrain as module
    from genre_fastai.cli import _run
    for name in ('mine','other'):
        (tmp_path/'images').mkdir(exist_ok=True)
        (tmp_path/f'{name}.csv').write_text(f'file,label{",split" if name=="mine" else ""}\nimages/{name}.jpg,a{",train" if name=="mine" else ""}\n')
    seen = {}
    monkeypatch.setattr(module, 'pretrain', lambda cat, targets, out, kept, *args, **kw: seen.update(kept=kept) or SimpleNamespace(dls=SimpleNamespace(cat=cat)))
    _run(shlex.split(f'pretrain {(tmp_path/"mine.csv").as_posix()} {(tmp_path/"b.safetensors").as_posix()} --targets label=classes --keep-out {(tmp_path/"other.csv").as_posix()}'))
    assert [list(o.df['file']) for o in seen['kept']]==[['images/mine.jpg'],['images/other.jpg']]
