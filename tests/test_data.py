"Loaders and the pixel cache: fastai's own behaviour kept, several processes, full disks, real posters"
import errno, functools, multiprocessing, shutil
from pathlib import Path
import numpy as np, pytest, torch
from fastai.vision.all import AffineCoordTfm, Learner, MixUp, PadMode, Pipeline, TensorImage, TfmdDL, accuracy, nn, partial, plt, set_seed
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.core import GenreError, posters_path
from genre_fastai.sample.dataset import make_sample
from genre_fastai.vision.augment import presets, shift_mat
from genre_fastai.measure import pixels_folder
from genre_fastai.vision.cache import PixelCache, PosterImage, clear_pixels, digest_and_pixels, fit_poster, pixel_cache
from genre_fastai.vision.data import get_dls, image_dl

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

@pytest.fixture
def decoded(monkeypatch):
    "The number of files that were decoded since"
    import genre_fastai.vision.cache as cache
    n,decode = [],cache.decode
    monkeypatch.setattr(cache, 'decode', lambda *args, **kw: (n.append(1), decode(*args, **kw))[1])
    return lambda: (len(n), n.clear())[0]

@pytest.fixture
def some(truth, tmp_path):
    shutil.copytree(truth.path, tmp_path/'s')
    return Catalog(truth.where(kind='clean').df[:6], tmp_path/'s')

def test_a_changed_file_is_decoded_again(some, decoded, tmp_path):
    a = pixel_cache(some, 16, folder=tmp_path/'c', progress=False)
    rows = a.rows(some.df['file'])
    shutil.copy(some.files[1], some.files[0])
    assert a.find(some.df['file'])[0]==rows[1] and decoded()==6
    some.files[2].write_bytes(some.files[2].read_bytes()+b'x') # the same picture, but who knows that
    b = pixel_cache(some, 16, folder=tmp_path/'c', progress=False)
    assert len(b)==7 and decoded()==1 and np.array_equal(*b[b.rows(some.df['file'][:2])])

def test_only_what_is_new_is_decoded(truth, some, decoded, tmp_path):
    fill = functools.partial(pixel_cache, size=16, folder=tmp_path/'c', progress=False)
    cache = fill(some)
    assert decoded()==6
    some.files[0].rename(some.path/'moved.jpg')
    moved = some.new(some.df.assign(file=['moved.jpg', *some.df['file'][1:]]))
    more = Catalog(truth.where(kind='clean').df[:8], truth.path) # two more, and the others from another folder
    for cat,n in ((some.new(some.df[3:]), 0), (moved, 0), (more, 2), (more.assign(split='train'), 0)):
        assert fill(cat).rows(cat.df['file']) is not None and decoded()==n
    assert len(cache)==8 and fill(some.new(some.df[1:]), method='crop') is not None and decoded()==5

def _made(cat, folder, queue):
    "Make a cache in a process of its own, and tell how many files that one decoded"
    import genre_fastai.vision.cache as vision
    n,decode = [],vision.decode
    vision.decode = lambda *args, **kw: (n.append(1), decode(*args, **kw))[1]
    cache = vision.pixel_cache(cat, (64,44), folder=folder, progress=False)
    queue.put((len(n), cache[cache.rows(cat.df['file'])].shape))

def test_two_processes_make_one_cache(cat, tmp_path):
    ctx = multiprocessing.get_context('fork' if 'fork' in multiprocessing.get_all_start_methods() else 'spawn')
    queue = ctx.Queue()
    ps = [ctx.Process(target=_made, args=(cat, tmp_path/'c', queue)) for _ in range(2)]
    for p in ps: p.start()
    outs = [queue.get(timeout=120) for _ in ps]
    for p in ps: p.join(60)
    n = len(set(cat.df['file']))
    assert sorted(outs)==[(0, (n,3,64,44)), (n, (n,3,64,44))] and all(p.exitcode==0 for p in ps)
    assert {o.suffix for o in (tmp_path/'c').iterdir()} <= {'.dat','.keys','.lock','.fill'}

def test_a_cut_cache_is_made_again(cat, decoded, tmp_path):
    fill = functools.partial(pixel_cache, cat, 16, folder=tmp_path, progress=False)
    cache = fill()
    want,n = cache[cache.rows(cat.df['file'])],decoded()
    for what,at,lost in (('dat', -100, 1), ('keys', -32*3, 3), ('keys', 5, n), ('dat', 0, n)):
        f = cache.records.file(what)
        f.write_bytes(f.read_bytes()[:at])
        again = fill()
        assert decoded()==lost and np.array_equal(again[again.rows(cat.df['file'])], want), (what, at)

def test_a_disk_that_fills_up_on_the_way(cat, decoded, tmp_path, monkeypatch):
    monkeypatch.setattr('genre_fastai.vision.cache.chunked', lambda o, n: [o[:4], o[4:]])
    done = []
    def add(self, keys, records, strict=False, old=PixelCache(16, folder=tmp_path).records.__class__.add):
        done.append(len(keys))
        if len(done)==2: raise OSError(errno.ENOSPC, 'No space left on device')
        return old(self, keys, records, strict)
    monkeypatch.setattr('genre_fastai.store.RecordFile.add', add)
    with pytest.raises(GenreError, match='the disk is full'): pixel_cache(cat, 16, folder=tmp_path, progress=False)
    monkeypatch.undo()
    cache = PixelCache(16, folder=tmp_path, root=cat.path)
    assert len(cache)==4 and (cache.find(cat.df['file'])>=0).sum()==4
    assert pixel_cache(cat, 16, folder=tmp_path, progress=False).rows(cat.df['file']) is not None

def test_room_counts_the_whole_store(cat, truth, tmp_path):
    one = 3*16*16
    pixel_cache(cat, 16, folder=tmp_path, progress=False, max_gb=len(cat)*one/1e9)
    more = truth.where(kind='reencoded')
    with pytest.raises(GenreError, match='more than max_gb'): pixel_cache(more, 16, folder=tmp_path, max_gb=len(cat)*one/1e9)
    assert len(PixelCache(16, folder=tmp_path))==len(cat)
    assert pixel_cache(cat, 16, folder=tmp_path, max_gb=0) # nothing comes in

def test_images_are_decoded_once_and_in_order(cat, decoded, tmp_path):
    files,n = list(cat.files),len(set(cat.df['file']))
    plain = torch.cat([x for x, in image_dl(files, 32, bs=7)])
    assert decoded()==n
    for want in (n, 0): # kept on the way, and then there
        got = torch.cat([x for x, in image_dl(files, 32, bs=7, cache_pixels=tmp_path)])
        assert torch.equal(got, plain) and decoded()==want
    part = image_dl(files[::-1], 32, bs=5, cache_pixels=tmp_path)
    assert torch.equal(torch.cat([x for x, in part]), plain.flip(0)) and decoded()==0
    half = PixelCache(32, folder=tmp_path/'half', fill=False)
    got = [digest_and_pixels(f, (32,32)) for f in files[::2]]
    half.records.add([d for d,_ in got], np.stack([a for _,a in got]))
    mixed = part.new(get_idxs=lambda: range(n), cache=half)
    decoded()
    assert torch.equal(torch.cat([x for x, in mixed]), plain.flip(0)) and decoded()==n-len(got)

def test_a_bad_file_among_good_ones_is_named(cat, tmp_path):
    (tmp_path/'bad.jpg').write_text('<html>')
    for bad in ('bad.jpg', 'gone.jpg'):
        with pytest.raises(Exception, match=bad): list(image_dl([*cat.files[:5], tmp_path/bad], 32, bs=2))

def test_new_rows_through_the_loaders_use_what_is_there(cat, truth, folder, decoded):
    dls = get_dls(cat, bs=8, size=32, cache_pixels=folder)
    decoded()
    assert dls.test_dl(cat.where(split='test')).one_batch() and decoded()==0
    elsewhere = [str(f) for f in cat.files[:4]]
    assert torch.equal(dls.test_dl(elsewhere).one_batch()[0], dls.test_dl(cat.df[:4]).one_batch()[0]) and decoded()==0
    both = truth.new(truth.where(kind='reencoded').df[:3])
    mixed = Catalog([*cat.df[:2].to_dict('records'), *both.df.to_dict('records')], cat.path)
    assert len(dls.test_dl(mixed).one_batch()[0])==2+len(both) and decoded()==len(both)>0

def test_looking_at_one_batch_of_files_does_not_decode_them_all(cat, decoded):
    files = list(cat.files)*20
    assert len(image_dl(files, 32, bs=4).one_batch()[0])==4 and decoded()<60

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

def test_each_poster_is_decoded_once(cat, tmp_path, monkeypatch):
    "Cache, loaders, two epochs, predictions, features and the cleaner's first page; counted where Pillow begins to decode"
    from PIL import ImageFile
    from genre_fastai.clean.widget import ImageCleaner
    from genre_fastai.features.extract import extract_features
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    n,load,size = [],ImageFile.ImageFile.load,(120,80)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: ([n.append(1) for _ in self.tile[:1]], load(self))[1])
    pixel_cache(cat, size, progress=False)
    assert len(n)==len(cat)
    dls = get_dls(cat, bs=8, size=size, cache_pixels=True)
    learn = Learner(dls, nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, len(dls.vocab))), metrics=accuracy)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
        learn.get_preds(dl=dls.test_dl(cat))
    assert len(extract_features(cat, size=size, pool='avg'))==len(cat)
    w = ImageCleaner(cat, tmp_path/'j.jsonl', height=150)
    rows = w.answer(dict(ask='page'))[0]['rows']
    assert len(w.answer(dict(ask='pictures', ids=[o['id'] for o in rows]))[1])==24
    w.thumbs.pool.shutdown() # it has the next page in work
    assert len(n)==len(cat)

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
    def refuse(*args, **kw): raise AssertionError('a file was opened')
    monkeypatch.setattr('genre_fastai.vision.cache.decode', refuse)
    assert len(list(cached.train))==2 and len(list(cached.valid))==1
    with pytest.raises(AssertionError, match='opened'): files.train.one_batch()
