"Loaders and the pixel cache: fastai's own behaviour kept, several processes, full disks, real posters"
import errno, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from fastai.vision.all import AffineCoordTfm, Learner, MixUp, PadMode, Pipeline, TensorImage, TfmdDL, accuracy, nn, partial, plt, set_seed
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.core import GenreError, posters_path
from genre_fastai.sample.dataset import make_sample
from genre_fastai.vision.augment import presets, shift_mat
from genre_fastai.vision.cache import PixelCache, PosterImage, clear_pixels, fit_poster, pixel_cache, pixels_folder
from genre_fastai.vision.data import get_dls

@pytest.fixture(scope='module')
def truth(tmp_path_factory): return make_sample(tmp_path_factory.mktemp('data')/'sample', n=50, seed=4)

@pytest.fixture(scope='module')
def cat(truth):
    cat = truth.where(kind=['clean','cmyk','alpha','exif','grey'])
    return cat.assign(split=[['train','train','valid','test'][i%4] for i in range(len(cat))])

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('pixels')

def same(a, b):
    a,b = list(a),list(b)
    assert len(a)==len(b)
    for p,q in zip(a, b):
        assert len(p)==len(q) and [*map(type, p)]==[*map(type, q)]
        for s,t in zip(p, q): assert s.dtype==t.dtype and torch.equal(s, t)

def plain(dls):
    "The validation rows in fastai's own loader"
    valid = dls.valid
    return TfmdDL(dls.valid_ds, bs=8, after_item=valid.after_item, after_batch=Pipeline(valid.after_batch.fs), num_workers=0)

@pytest.mark.parametrize('size,method', [((64,44),'squish'), (48,'crop'), (48,'pad'), ((40,72),'crop'), ((40,72),'pad'), (320,'squish')])
def test_same_validation_pixels_to_the_byte(cat, folder, size, method):
    kw = dict(bs=8, size=size, method=method, batch_tfms=[])
    files,cached = get_dls(cat, **kw),get_dls(cat, cache_pixels=folder, **kw)
    assert cached.valid.find() is not None and files.valid.find() is None
    same(files.valid, cached.valid)
    same(plain(files), cached.valid)

def test_same_augmented_training_batches(cat, folder):
    kw = dict(bs=8, size=(64,44), seed=3)
    batches = []
    for cache in (None, folder):
        dls = get_dls(cat, cache_pixels=cache, **kw)
        set_seed(5)
        batches.append(list(dls.train))
    same(*batches)

def test_several_labels_and_decades(cat, folder):
    labels = [f'{l}|film' if i%2 else l for i,l in enumerate(cat.df['label'])]
    multi = cat.assign(labels=labels, year=[str(1970+i) for i in range(len(cat))])
    for target in ('labels','label','decade'):
        kw = dict(bs=8, size=32, target=target, batch_tfms=[])
        files,cached = get_dls(multi, **kw),get_dls(multi, cache_pixels=folder, **kw)
        assert cached.valid.find() is not None and list(files.vocab)==list(cached.vocab)
        same(files.valid, cached.valid)
    assert cached.vocab[0]=='70s' and cached.cat.multi is False

def test_targets_of_a_catalog(cat):
    both = cat.assign(labels='a|b', year=['']+[str(1964+i*7%55) for i in range(1, len(cat))])
    decades = both.with_target('decade')
    assert len(decades.ok)==len(cat)-1 and decades.df['label'].tolist()[1:7]==['70s','70s','80s','90s','90s','00s']
    assert both.with_target('labels').multi and not both.with_target('label').multi and both.with_target(None) is both
    with pytest.raises(GenreError, match='column `year`'): cat.new(cat.df.drop(columns='year', errors='ignore')).with_target('decade')

def test_shuffle_drop_last_and_order(cat, folder):
    dls = get_dls(cat, bs=8, size=32, cache_pixels=folder, seed=1, batch_tfms=[])
    n = len(dls.train_ds)
    assert n%8 and len(dls.train)==n//8==len(list(dls.train)) and all(len(b[1])==8 for b in dls.train)
    assert sorted(dls.train.order)==list(range(n)) and dls.train.order!=list(range(n))
    whole = dls.train.new(shuffle=False, drop_last=False)
    y = torch.cat([b[1] for b in whole])
    assert [dls.vocab[i] for i in y]==dls.train_ds.items['label'].tolist()

def test_the_seed_settles_every_epoch(cat, folder):
    def epochs():
        dls = get_dls(cat, bs=8, size=32, cache_pixels=folder, seed=1, batch_tfms=[])
        return [(list(dls.train), dls.train.order)[1] for _ in range(2)]
    a,_,b = epochs(),get_dls(cat, size=32).train.get_idxs(),epochs()
    assert a==b and a[0]!=a[1]

def test_rows_outside_the_cache_come_from_files(truth, cat, folder):
    dls = get_dls(cat, bs=8, size=32, cache_pixels=folder)
    other = truth.where(kind='reencoded').df
    assert len(other) and dls.test_dl(other).find() is None
    assert len(dls.test_dl(other).one_batch()[0])==min(8, len(other))
    with_labels = dls.test_dl(cat.where(split='test').df, with_labels=True)
    assert with_labels.find() is not None and len(with_labels.one_batch())==2 and len(dls.test_dl(cat.df).one_batch())==1

def test_learner_habits(cat, folder):
    "Fitting with mixup, predictions, `predict` on files and images, show_batch, show_results and export of labels"
    dls = get_dls(cat, bs=8, size=32, cache_pixels=folder, seed=1)
    set_seed(1)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, len(dls.vocab))), metrics=accuracy, cbs=MixUp())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        probs,y = learn.get_preds()
        on_train = learn.get_preds(ds_idx=0)[1]
        row = cat.where(split='valid').df.iloc[0]
        one = learn.predict(row)[2]
        image = learn.predict(PosterImage.create(cat.path/row['file']))[2]
    assert torch.allclose(one, probs[0], atol=1e-5) and torch.allclose(image, probs[0], atol=1e-5)
    assert len(y)==len(dls.valid_ds) and len(on_train)==len(dls.train_ds)
    dls.show_batch(max_n=2); dls.valid.show_batch(film=True, max_n=2); dls.show_batch(unique=True, max_n=2)
    with learn.no_bar(): learn.show_results(max_n=2)
    empty = dls.new_empty()
    assert len(empty.train_ds)==0 and list(empty.vocab)==list(dls.vocab)

def test_workers_give_the_same(cat, folder):
    kw = dict(bs=8, size=32, batch_tfms=[], cache_pixels=folder)
    same(get_dls(cat, num_workers=2, **kw).valid, get_dls(cat, **kw).valid)

def test_film_titles_with_dollars_and_without(cat, folder):
    odd = cat.assign(title=['$9.99 a $ay' if i%2 else '' for i in range(len(cat))], year='1999')
    dls = get_dls(odd, bs=8, size=32, cache_pixels=folder)
    _,axs = plt.subplots(1, 6)
    dls.show_batch(film=True, max_n=6, ctxs=list(axs))
    axs[0].figure.canvas.draw()
    assert {t for ax in axs for t in ax.get_title().split('\n')[1:]} - set(Path(f).stem for f in cat.df['file'])=={'$9.99 a $ay (1999)'}
    plt.close('all')

def test_a_changed_file_is_decoded_again(truth, tmp_path):
    import shutil
    shutil.copytree(truth.path, tmp_path/'s')
    cat = Catalog(truth.where(kind='clean').df[:6], tmp_path/'s')
    a = pixel_cache(cat, 16, folder=tmp_path/'c', progress=False)
    shutil.copy(cat.files[1], cat.files[0])
    b = pixel_cache(cat, 16, folder=tmp_path/'c', progress=False)
    assert a.path!=b.path and np.array_equal(*b[b.rows(cat.df['file'][:2])])

def test_two_processes_make_one_cache(cat, tmp_path):
    cat.save(tmp_path/'cat.csv')
    code = '''import sys, genre_fastai.vision.cache as p
from genre_fastai.catalog.core import read_catalog
made = []
write = p._write_pixels
p._write_pixels = lambda *a: (made.append(1), write(*a))
cat = read_catalog(sys.argv[1], sys.argv[2])
cache = p.pixel_cache(cat, (64,44), folder=sys.argv[3], progress=False)
assert cache.ready and cache[cache.rows(cat.df["file"])].shape[1:]==(3,64,44)
print(len(made))'''
    cmd = [sys.executable, '-W', 'ignore', '-c', code, str(tmp_path/'cat.csv'), str(cat.path), str(tmp_path/'c')]
    ps = [subprocess.Popen(cmd, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [p.communicate(timeout=120)[0].split()[-1] for p in ps]
    assert sorted(outs)==['0','1'] and all(p.returncode==0 for p in ps)
    assert {o.suffix for o in (tmp_path/'c').iterdir()} <= {'.npy','.json','.lock'}

def test_a_cut_cache_is_made_again(cat, tmp_path):
    cache = pixel_cache(cat, 16, folder=tmp_path, progress=False)
    data = cache.path.read_bytes()
    cache.path.write_bytes(data[:-100])
    assert not PixelCache(cache.path).ready
    (tmp_path/f'.{cache.path.name}.123.tmp').write_bytes(b'x')
    pixel_cache(cat, 16, folder=tmp_path, progress=False)
    assert cache.path.read_bytes()==data and not list(tmp_path.glob('.*.tmp'))
    cache.path.with_suffix('.json').write_text('{')
    assert not PixelCache(cache.path).ready and pixel_cache(cat, 16, folder=tmp_path, progress=False).ready

def test_a_disk_that_fills_up_on_the_way(cat, tmp_path, monkeypatch):
    done = []
    def fit(*args):
        done.append(1)
        if len(done)>3: raise OSError(errno.ENOSPC, 'No space left on device')
        return fit_poster(*args)
    monkeypatch.setattr('genre_fastai.vision.cache.fit_poster', fit)
    with pytest.raises(GenreError, match='the disk is full'): pixel_cache(cat, 16, folder=tmp_path, threads=1, progress=False)
    assert {o.suffix for o in tmp_path.iterdir()} <= {'.lock'}

def test_bad_files_and_folders(cat, tmp_path):
    bad = tmp_path/'bad.jpg'
    bad.write_text('<html>')
    one = lambda file, path: pixel_cache(Catalog([dict(file=file, label='x')], path), 16, folder=tmp_path/'c')
    with pytest.raises(GenreError, match='bad.jpg cannot be decoded'): one('bad.jpg', tmp_path)
    with pytest.raises(GenreError, match='cannot be written'): pixel_cache(cat, 16, folder=bad/'c')
    with pytest.raises(GenreError, match='leaves the folder'): one('../x.jpg', tmp_path/'sub')

def test_default_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert pixels_folder()==tmp_path/'genre_fastai'/'pixels' and clear_pixels()==0

def test_presets_are_new_each_time():
    a,b = presets['article1'](),presets['article1']()
    assert a['batch_tfms'][0] is not b['batch_tfms'][0] and set(presets)=={'article0','article1'}

def test_keras_shifts_move_by_a_fifth_at_most():
    set_seed(1)
    x = torch.zeros(200,3,50,50); x[:,:,25,25] = 1
    f = AffineCoordTfm(partial(shift_mat, max_shift=.2), pad_mode=PadMode.Border, align_corners=True)
    at = [(o[0]*1e3).softmax(-1).amax(0).argmax().item() for o in f(TensorImage(x), split_idx=0)]
    assert 12<=min(at)<=18 and 32<=max(at)<=37

@pytest.mark.skipif(posters_path() is None, reason='GENRE_POSTERS is not set')
def test_real_posters(tmp_path, monkeypatch):
    cat = read_catalog(posters_path()/'action_decades.csv')
    cat = cat.new(cat.df.sample(96, random_state=1)).assign(split=['valid' if i%3==0 else 'train' for i in range(96)])
    kw = dict(bs=32, batch_tfms=[])
    files,cached = get_dls(cat, **kw),get_dls(cat, cache_pixels=tmp_path, **kw)
    assert cached.vocab==['70s','80s','90s','00s','10s']
    same(files.valid, cached.valid)
    def refuse(*args): raise AssertionError('a file was opened')
    monkeypatch.setattr('genre_fastai.vision.cache.open_poster', refuse)
    assert len(list(cached.train))==2 and len(list(cached.valid))==1
    with pytest.raises(AssertionError, match='opened'): files.train.one_batch()
