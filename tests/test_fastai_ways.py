"What the docs of fastai, chapter 2 of its book and its course call on a Learner, its DataLoaders and its interpretation works on ours, with the same arguments"
import inspect, subprocess, sys
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
import fastai.vision.all as fastai
from fastai.vision.all import (CSVLogger, ClassificationInterpretation, DataLoaders, EarlyStoppingCallback, GradientAccumulation, GradientClip, Image, Learner, MixUp, Path, PILImage,
    ProgressCallback, RandomResizedCrop, ReduceLROnPlateau, Resize, SaveModelCallback, ShortEpochCallback, TensorImage, TfmdDL, get_c, get_image_files, image2tensor, load_learner, noop,
    plt, slide, tensor, valley)
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.sample.dataset import make_sample
from genre_fastai.train.learner import poster_learner
from genre_fastai.train.recipes import train
from genre_fastai.vision.data import PosterDataLoaders, PosterDL, get_dls
from genre_fastai.vision.weights import lite0

plt.switch_backend('agg')

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    cat = make_sample(tmp_path_factory.mktemp('sample'), n=32, seed=1).where(kind='clean')
    return cat.assign(split=[['train','train','valid','test'][i%4] for i in range(len(cat))])

def several(cat): return Catalog(cat.df.drop(columns='label').assign(labels=[l+('|film' if i%3 else '') for i,l in enumerate(cat.df['label'])]), cat.path)
def by_hand(cat): return poster_learner(get_dls(cat, size=32, bs=4, num_workers=0, seed=1), 'PosterCNN', precision='fp32')

makers = dict(one=by_hand, several=lambda cat: by_hand(several(cat)), trained=lambda cat: train(cat, 'probe', arch=lite0, size=32, bs=4, precision='fp32'))

@pytest.fixture(scope='module', params=makers)
def w(request, cat, tmp_path_factory):
    "A learner, and what the ways take"
    learn = makers[request.param](cat)
    learn.path = tmp_path_factory.mktemp('run')
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    cat = learn.dls.cat if request.param!='several' else several(cat)
    f = learn.dls.cat.files[0]
    return SimpleNamespace(learn=learn, dls=learn.dls, cat=cat, f=f, files=list(learn.dls.cat.files[:3]), multi=request.param=='several')

# --- the arguments are those of fastai, by its public signatures

def arguments(f): return [(p.name, p.default) for p in inspect.signature(f).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]

learner_ways = ('fit fit_one_cycle fit_flat_cos fit_sgdr fine_tune lr_find predict get_preds validate show_results tta freeze freeze_to unfreeze save load export summary add_cb add_cbs '
    'remove_cb no_bar no_logging no_mbar to_fp16 to_fp32 to_bf16 create_opt one_batch').split()

@pytest.mark.parametrize('way', learner_ways)
def test_same_arguments_of_a_learner(w, way): assert arguments(getattr(type(w.learn), way))==arguments(getattr(Learner, way))

@pytest.mark.parametrize('ours,theirs', [(PosterDataLoaders.test_dl, DataLoaders.test_dl), (PosterDataLoaders.new_empty, DataLoaders.new_empty),
    (PosterDL.show_results, TfmdDL.show_results), (PosterDL.decode_batch, TfmdDL.decode_batch)], ids=lambda f: f.__qualname__)
def test_same_arguments_of_loaders(ours, theirs): assert arguments(ours)==arguments(theirs)

def test_show_batch_begins_with_theirs():
    theirs = arguments(TfmdDL.show_batch)
    assert arguments(PosterDL.show_batch)[:len(theirs)]==theirs

def test_the_working_import_hides_nothing_of_fastai():
    import genre_fastai.all as ours
    for n in fastai.__dict__:
        if not n.startswith('_'): assert getattr(ours, n) is getattr(fastai, n), n
    assert all(hasattr(ours, n) for n in 'verify_images get_image_files untar_data download_images Resize RandomResizedCrop aug_transforms ImageDataLoaders load_learner resnet34'.split())

# --- each way, on a learner made by hand, one with several labels, and a trained one

def shapes(w, ps, n, k=0): assert ps[k].shape==(n, len(w.dls.vocab)) and torch.isfinite(ps[k]).all()
def n_valid(w): return len(w.dls.valid_ds)

def one_label(w, r):
    label,i,p = r
    assert p.shape==(len(w.dls.vocab),)
    assert (set(label)<=set(w.dls.vocab) and i.shape==p.shape) if w.multi else (label==w.dls.vocab[int(i)] and int(i)==int(p.argmax()))

def pixels(w): return np.array(Image.open(w.f).convert('RGB'))
inputs = dict(path=lambda w: w.f, text=lambda w: str(w.f), PILImage=lambda w: PILImage.create(w.f), pillow=lambda w: Image.open(w.f), array=pixels, grey=lambda w: pixels(w)[...,0],
    tensor=lambda w: tensor(pixels(w)), channels_first=lambda w: image2tensor(Image.open(w.f)), TensorImage=lambda w: TensorImage(image2tensor(Image.open(w.f))),
    fractions=lambda w: pixels(w)/255, bytes=lambda w: w.f.read_bytes(), file=lambda w: open(w.f, 'rb'), row=lambda w: w.cat.df.iloc[0])

@pytest.mark.parametrize('kind', inputs)
def test_predict(w, kind):
    one_label(w, w.learn.predict(inputs[kind](w)))
    if kind!='grey': assert torch.allclose(w.learn.predict(inputs[kind](w))[2], w.learn.predict(w.f)[2], atol=.02)

def with_input(w):
    im,*r = w.learn.predict(w.f, with_input=True)
    assert isinstance(im, PILImage)
    one_label(w, r)

def fits(w, f, n):
    had = len(w.learn.run_info.history)
    f(w.learn)
    assert len(w.learn.run_info.history)==had+n and len(w.learn.recorder.values)

def saved(w):
    at = w.learn.save('one')
    assert at.exists() and w.learn.load('one') is w.learn and w.learn.load('one', with_opt=False) is w.learn

def with_callbacks(w):
    cbs = [SaveModelCallback(monitor='valid_loss', fname='best'), EarlyStoppingCallback(monitor='valid_loss', patience=3), CSVLogger(), ReduceLROnPlateau(monitor='valid_loss')]
    fits(w, lambda l: l.fit_one_cycle(1, 1e-4, cbs=cbs), 1)
    assert (w.learn.path/'models'/'best.pth').exists() and (w.learn.path/'history.csv').exists()

def lr_found(w):
    r = w.learn.lr_find(suggest_funcs=(valley, slide))
    assert 0<r.valley<10 and 0<r.slide<10

def labelled(w):
    "Rows, a catalog, and files by their rows or folders"
    test = w.cat.where(split='test') if 'test' in set(w.cat.df['split']) else w.cat
    for items in (test.df, test): assert len(w.learn.validate(dl=w.dls.test_dl(items, with_labels=True)))==1+len(w.learn.metrics)
    dl = w.dls.test_dl(w.files, with_labels=True)
    y = dl.one_batch()[1]
    said = [{w.dls.vocab[int(i)] for i in (t.nonzero().flatten() if w.multi else [t])} for t in y]
    assert said==[set(t) for t in w.dls.cat[:3].targets]

def reads(w, items, n, **kw): shapes(w, w.learn.get_preds(dl=w.dls.test_dl(items, **kw)), n)

def shown(f):
    plt.close('all')
    f()
    assert plt.get_fignums()
    plt.close('all')

def blends(w):
    if w.dls.train_ds[0][0] is not None: fits(w, lambda l: l.fit_one_cycle(1, 1e-4, cbs=[MixUp(), GradientAccumulation(8), GradientClip]), 1)

def precision(w):
    for f in (w.learn.to_fp16, w.learn.to_fp32, w.learn.to_bf16, w.learn.to_fp32): assert f() is w.learn
    fits(w, lambda l: l.fit_one_cycle(1, 1e-4), 1)

def added(w):
    w.learn.add_cb(ShortEpochCallback(pct=.1))
    assert w.learn.cbs[-1].learn is w.learn
    w.learn.remove_cb(ShortEpochCallback)
    assert not w.learn._grab_cbs(ShortEpochCallback)

def exported(w):
    w.learn.export()
    learn = load_learner(w.learn.path/'export.pkl')
    one_label(w, learn.predict(w.f))
    assert list(learn.dls.vocab)==list(w.dls.vocab)
    shapes(w, learn.get_preds(dl=learn.dls.test_dl(w.files)), 3)
    want = w.learn.predictions(w.cat[:3]).probs
    assert np.allclose(learn.predictions(w.cat[:3]).probs, want, atol=1e-4)
    assert np.allclose(load_predictor(save_predictor(learn, w.learn.path/'again')).predictions(w.cat[:3]).probs, want, atol=1e-3)

def items(w):
    dls = w.dls
    assert len(dls.train.items)==len(dls.train_ds.items)==len(dls.train_ds)==dls.train.n and len(dls.valid_ds.items)==n_valid(w)
    assert len(dls.train_ds[0])==2 and dls.n_inp==1 and dls.c==len(dls.vocab)==get_c(dls) and len(dls)==2 and dls[1] is dls.valid
    assert {'file', w.dls.cat.label_column} <= set(dls.valid_ds.items)

def renewed(w):
    assert w.dls.train.new(bs=2).one_batch()[0].shape[0]==2 and len(w.dls.new(w.dls.train_ds))==2 and w.dls.new_empty().vocab==w.dls.vocab

def interpreted(w, **kw): return ClassificationInterpretation.from_learner(w.learn, **kw)

def confused(w):
    i = interpreted(w)
    shown(lambda: i.plot_confusion_matrix(figsize=(5,5), dpi=60))
    assert all(len(o)==3 for o in i.most_confused(min_val=1)) and i.confusion_matrix().shape==(w.dls.c, w.dls.c)

def top_losses(w):
    i = interpreted(w)
    shown(lambda: i.plot_top_losses(3, nrows=1))
    losses,idx = i.top_losses(3)
    assert len(losses)==len(idx)==3

ways = {
    'predict with_input': with_input,
    'get_preds': lambda w: shapes(w, w.learn.get_preds(), n_valid(w)),
    'get_preds ds_idx': lambda w: shapes(w, w.learn.get_preds(ds_idx=0), len(w.dls.train_ds)),
    'get_preds with everything': lambda w: shapes(w, w.learn.get_preds(ds_idx=1, with_input=True, with_decoded=True, with_loss=True), n_valid(w), 1),
    'get_preds act, reorder': lambda w: shapes(w, w.learn.get_preds(act=noop, reorder=False), n_valid(w)),
    'get_preds of files': lambda w: reads(w, w.files, 3),
    'get_preds of names': lambda w: reads(w, [str(o) for o in w.files], 3),
    'get_preds of get_image_files': lambda w: reads(w, get_image_files(w.cat.path), len(get_image_files(w.cat.path)), bs=4),
    'get_preds of pictures': lambda w: reads(w, [PILImage.create(w.f), pixels(w), w.f], 3),
    'get_preds of rows': lambda w: reads(w, w.cat.df[:3], 3),
    'get_preds of a catalog': lambda w: reads(w, w.cat[:3], 3, num_workers=0),
    'test_dl with_labels': labelled,
    'show_results': lambda w: shown(lambda: w.learn.show_results(max_n=4)),
    'show_results ds_idx': lambda w: shown(lambda: w.learn.show_results(ds_idx=0, max_n=2, shuffle=False, figsize=(4,4), nrows=1)),
    'validate': lambda w: [len(w.learn.validate()), len(w.learn.validate(ds_idx=0)), len(w.learn.validate(dl=w.dls.valid))]==[1+len(w.learn.metrics)]*3 or 1/0,
    'lr_find': lr_found,
    'fine_tune': lambda w: fits(w, lambda l: l.fine_tune(1, base_lr=1e-4, freeze_epochs=1), 2),
    'fine_tune by position': lambda w: fits(w, lambda l: l.fine_tune(1, 1e-4, 0), 1),
    'fit_one_cycle': lambda w: fits(w, lambda l: l.fit_one_cycle(1, lr_max=slice(1e-6,1e-4)), 1),
    'fit, fit_flat_cos': lambda w: fits(w, lambda l: (l.fit(1, 1e-4), l.fit_flat_cos(1, 1e-4)), 2),
    'freeze': lambda w: [w.learn.freeze(), w.learn.freeze_to(-1), w.learn.unfreeze()],
    'save, load': saved,
    'export, load_learner': exported,
    'summary': lambda w: 'Total params' in str(w.learn.summary()) or 1/0,
    'recorder': lambda w: [shown(w.learn.recorder.plot_loss), shown(w.learn.recorder.plot_sched), w.learn.recorder.metric_names[1]=='train_loss' or 1/0],
    'tta': lambda w: [shapes(w, w.learn.tta(n=2), n_valid(w)), shapes(w, w.learn.tta(ds_idx=0, n=1, beta=.1), len(w.dls.train_ds)), shapes(w, w.learn.tta(dl=w.dls.test_dl(w.files), n=1, use_max=True), 3)],
    'precision': precision,
    'add_cb': added,
    'callbacks': with_callbacks,
    'MixUp and others': blends,
    'show_batch': lambda w: [shown(lambda: w.dls.show_batch(max_n=4, nrows=1)), shown(lambda: w.dls.show_batch(unique=True, max_n=3)), shown(lambda: w.dls.valid.show_batch(max_n=4, nrows=1)),
        shown(lambda: w.dls.train.show_batch(w.dls.one_batch(), 2)), len(w.dls.valid.show_batch(show=False))==3 or 1/0],
    'one_batch': lambda w: len(w.dls.one_batch())==2 and w.dls.one_batch()[0].shape[1:]==(3,32,32) or 1/0,
    'decode_batch': lambda w: len(w.dls.decode_batch(w.dls.one_batch()))==w.dls.bs or 1/0,
    'items': items,
    'new': renewed,
    'confusion matrix': lambda w: w.multi or confused(w),
    'top losses': top_losses,
    'interpretation of training rows': lambda w: len(interpreted(w, ds_idx=0).losses) or 1/0,
}

@pytest.mark.parametrize('way', ways)
def test_ways(w, way):
    if way in ('recorder',): w.learn.fit_one_cycle(1, 1e-4)
    ways[way](w)

def test_fastais_cleaner(w, monkeypatch):
    "`delete` and `change` give numbers of `fns`, which are files"
    from fastai.vision import widgets
    monkeypatch.setattr(widgets, 'display', noop, raising=False) # there is no notebook
    cleaner = widgets.ImageClassifierCleaner(w.learn, max_n=4)
    assert len(cleaner.fns) and all(f.is_file() for f in cleaner.fns)
    assert {f for f,_,_ in cleaner.iwis[0]}=={w.dls.cat.path/f for f in w.dls.train_ds.items['file']}
    cleaner.widget.children[2].children[0].children[1].value = '<Delete>'
    assert list(cleaner.delete())==[0] and list(cleaner.change())==[]

def test_a_learner_opens_in_another_process(cat, tmp_path):
    learn = by_hand(cat)
    learn.export(tmp_path/'export.pkl')
    code = 'import sys; from fastai.vision.all import *; print(load_learner(sys.argv[1]).predict(Path(sys.argv[2]))[0])'
    r = subprocess.run([sys.executable, '-c', code, tmp_path/'export.pkl', cat.files[0]], capture_output=True, text=True, check=True)
    assert r.stdout.split()[-1] in cat.classes

# --- what cannot be meant is said

@pytest.mark.parametrize('kw', [dict(bs=0), dict(bs='8'), dict(size=-1), dict(size='x'), dict(size=7), dict(num_workers=-1), dict(seed='a'), dict(item_tfms='Resize'), dict(item_tfms=RandomResizedCrop(32)),
    dict(batch_tfms=3), dict(method='stretch')], ids=str)
def test_loaders_refuse(cat, kw):
    with pytest.raises(GenreError): get_dls(cat, **kw)

def test_item_tfms_as_in_fastai(cat): assert get_dls(cat, item_tfms=Resize(32), bs=4).one_batch()[0].shape==(4,3,32,32)

@pytest.mark.parametrize('kw', [dict(epochs=-1), dict(epochs=1, base_lr=0), dict(epochs=1, base_lr=float('nan')), dict(epochs='2'), dict(epochs=1, freeze_epochs=-1), dict(epochs=1, lr_mult=0)], ids=str)
def test_fits_refuse(w, kw):
    had = len(w.learn.run_info.history)
    with pytest.raises(GenreError): w.learn.fine_tune(**kw)
    assert len(w.learn.run_info.history)==had

@pytest.mark.parametrize('kw', [dict(epochs=-1), dict(epochs=1.5), dict(base_lr=0), dict(base_lr='x'), dict(lr=float('inf')), dict(seed=-1), dict(bs=0), dict(size='x'), dict(num_workers=-1), dict(mixup='a'),
    dict(label_smoothing=2), dict(patience=0), dict(out=7)], ids=str)
def test_training_refuses(cat, kw):
    with pytest.raises(GenreError): train(cat, 'stages', arch='PosterCNN', **kw)

def test_odd_splits(cat):
    "A class without training rows is said; one training row, or one class, is refused"
    df = cat.df
    with pytest.warns(UserWarning, match="No training row has 'horror'"): get_dls(cat[df['label'].ne('horror') | df['split'].ne('train')], size=32)
    with pytest.raises(GenreError, match='nothing to tell apart'): get_dls(cat[df['label'].eq('horror') | df['split'].ne('train')], size=32)
    with pytest.raises(GenreError, match="split 'valid'"): get_dls(cat[df['split'].ne('valid')], size=32)
    two = cat[df['split'].eq('valid') | df.index.isin([df.index[(df['label']==l) & df['split'].eq('train')][0] for l in ('horror','romance')])]
    with pytest.warns(UserWarning): dls = get_dls(two, size=32, bs=1)
    learn = poster_learner(dls, 'resnet18', None, precision='fp32')
    with learn.no_bar(), learn.no_logging(), pytest.raises(GenreError, match='no spread to normalise by'): learn.fit(1, 1e-4)

# --- our interpretation and cleaner: names, arguments and meaning as in the lessons of fastai

@pytest.fixture(scope='module')
def rooms(tmp_path_factory):
    "Posters in three splits, one class of which has dollars in its name, and a learner that has seen them"
    path = tmp_path_factory.mktemp('rooms')
    names,n = ['$a$ b$','b','c'], 30
    for i in range(n): Image.new('RGB', (40,60), (i*7%256, 90*(i%3), 40)).save(path/f'{i}.jpg')
    split = [('train','train','valid','test','valid')[i%5] for i in range(n)]
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(n)], label=[names[i%3] for i in range(n)], split=split), path)
    learn = poster_learner(get_dls(cat, bs=4, size=(32,32)), 'resnet18', weights=None, precision='fp32', path=path)
    return SimpleNamespace(cat=cat, learn=learn, path=path)

def parameters(f): return [k for k,p in inspect.signature(f).parameters.items() if k not in ('self','cls') and p.kind!=p.VAR_KEYWORD]

@pytest.mark.parametrize('name', 'from_learner top_losses plot_top_losses show_results confusion_matrix plot_confusion_matrix most_confused '
    'print_classification_report'.split())
def test_interpretation_takes_fastais_arguments(name):
    from fastai.vision.all import ClassificationInterpretation
    from genre_fastai.interpret.interpret import PosterInterpretation
    theirs,ours = (parameters(getattr(o, name)) for o in (ClassificationInterpretation, PosterInterpretation))
    assert set(theirs) <= set(ours) and (name=='from_learner' or ours[:len(theirs)]==theirs)

def test_interpretation_as_in_the_book(rooms, capsys):
    from fastai.vision.all import range_of
    from genre_fastai.interpret.interpret import PosterInterpretation
    learn,cat = rooms.learn, rooms.cat
    interp = PosterInterpretation.from_learner(learn)
    parts = {k: cat.where(split=k).df['id'].tolist() for k in ('train','valid','test')}
    of = lambda **kw: PosterInterpretation.from_learner(learn, **kw).cat.df['id'].tolist()
    assert interp.cat.df['id'].tolist()==of(ds_idx=1)==of(dl=learn.dls.valid)==parts['valid'] and of(ds_idx=0)==parts['train']
    assert of(dl=learn.dls.test_dl(cat.where(split='test').df, with_labels=True))==parts['test']==of(cat=cat.where(split='test'))
    assert PosterInterpretation.from_learner(learn, 0).cat.df['id'].tolist()==parts['train']
    losses,idxs,files = interp.top_losses(4, largest=True, items=True)
    assert np.allclose(sorted(interp.losses)[::-1][:4], losses) and [Path(f).name for f in files]==interp.cat.df['file'].iloc[idxs].tolist()
    theirs = learn.get_preds(dl=learn.dls.valid.new(shuffle=False, drop_last=False), with_loss=True)[2].numpy()
    assert np.allclose(theirs, interp.losses, atol=1e-3)
    assert np.asarray(interp.confusion_matrix()).shape==(3,3)
    fig = interp.plot_confusion_matrix(normalize=True, title='Confusion matrix', cmap='Greens', norm_dec=3, plot_txt=True, figsize=(5,5), dpi=60).fig
    assert fig.get_suptitle()=='Confusion matrix' and fig.get_size_inches().tolist()==[5,5] and len(fig.axes[0].texts[0].get_text())==5
    assert len(interp.plot_top_losses(5, nrows=1).df)==5 and len(interp.plot_top_losses(9, largest=False, figsize=(15,11)).df)==9
    assert interp.plot_top_losses(range(2,5)).df['row'].tolist()==interp.top_losses()[1][2:5].tolist()
    assert interp.show_results([0,2], figsize=(6,3)).df['row'].tolist()==[0,2]
    wrong = interp.most_confused(min_val=1)
    assert wrong['count'].sum()==(interp.y!=interp.probs.argmax(1)).sum() and (interp.most_confused(2)['count']>=2).all()
    interp.print_classification_report()
    assert '$a$ b$' in capsys.readouterr().out
    with pytest.raises(GenreError, match='Leave it out'): PosterInterpretation.from_learner(learn, act=lambda o: o)

def test_interpretation_of_a_learner_that_is_fastais_alone(rooms, tmp_path):
    from fastai.vision.all import ImageDataLoaders, Learner, Resize, nn
    from genre_fastai.interpret.interpret import PosterInterpretation
    labels = dict(zip(map(str, rooms.cat.files), rooms.cat.df['label']))
    dls = ImageDataLoaders.from_path_func(rooms.path, list(rooms.cat.files), lambda f: labels[str(f)], item_tfms=Resize(16), bs=4, num_workers=0, seed=1)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)), path=tmp_path)
    for ds_idx in (0,1):
        interp = PosterInterpretation.from_learner(learn, ds_idx)
        assert [str(f) for f in interp.cat.files]==[str(o) for o in learn.dls[ds_idx].items]
        assert interp.cat.df['label'].tolist()==[labels[str(f)] for f in interp.cat.files]
    assert len(interp.plot_top_losses(2).df)==2 and interp.plot_confusion_matrix().df.to_numpy().sum()==len(interp)

def test_cleaner_takes_fastais_arguments():
    from fastai.vision.widgets import ImageClassifierCleaner as theirs, ImagesCleaner
    from genre_fastai.clean.widget import ImageClassifierCleaner
    assert {*parameters(theirs.__init__), *parameters(ImagesCleaner.__init__)} <= set(parameters(ImageClassifierCleaner.__init__))
    assert all(hasattr(ImageClassifierCleaner, o) for o in ('delete','change','values'))

def test_the_loops_of_the_book(rooms, tmp_path):
    "Files are deleted and moved by the reader's own loops, as in the book; no file of a test row is among them"
    import shutil
    from genre_fastai.clean.widget import ImageClassifierCleaner
    root = shutil.copytree(rooms.path, tmp_path/'copy')
    # a test row that is a row of the training set, too
    cat = Catalog(pd.concat([rooms.cat.df, rooms.cat.where(split='test').df[:1].assign(id='twin', split='train')]), root)
    learn = poster_learner(get_dls(cat, bs=4, size=(32,32)), 'resnet18', weights=None, precision='fp32', path=tmp_path)
    cleaner = ImageClassifierCleaner(learn, opts=(), height=128, width=256, max_n=30)
    test = {f for f in cat.where(split='test').df['file']}
    for o in cleaner.rows['id']: cleaner.answer(dict(ask='mark', id=o, action='delete'))
    with pytest.warns(UserWarning, match='1 marked files are left out'): assert not test & {cleaner.fns[i].name for i in cleaner.delete()}
    while cleaner.session.undo(): pass
    first,second = [o for o in cleaner.rows['id'] if o!='twin'][:2]
    was = cleaner.row(cleaner.at[second])['was'][0]
    new = next(o for o in cat.classes if o!=was)
    cleaner.answer(dict(ask='mark', id=first, action='delete'))
    cleaner.answer(dict(ask='mark', id=second, action='relabel', label=new))
    gone,moved = cleaner.fns[cleaner.at[first]], cleaner.fns[cleaner.at[second]]
    assert [v for v in cleaner.values() if v!='<Keep>'] in (['<Delete>', new], [new, '<Delete>'])
    for idx in cleaner.delete(): cleaner.fns[idx].unlink()
    for idx,label in cleaner.change():
        (tmp_path/label).mkdir(exist_ok=True)
        shutil.move(str(cleaner.fns[idx]), tmp_path/label)
    assert not gone.exists() and (tmp_path/new/moved.name).is_file() and all((root/f).is_file() for f in test)
    said,buffers = cleaner.answer(dict(ask='pictures', ids=[first, second, cleaner.rows['id'].iloc[-1]]))
    assert len(said['errors'])==2 and len(buffers)==1 # the widget goes on
    assert cleaner.session.apply().df.set_index('id').loc[[first,second], 'status'].tolist()==['dropped','ok']
