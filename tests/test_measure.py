"Each picture is decoded once: what is known of bytes is remembered, noticed to be old, and never worth an error"
import hashlib, inspect, io, os, pickle, random, shutil, subprocess, sys, warnings
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
import genre_fastai.catalog.duplicates as duplicates, genre_fastai.measure as measure
from genre_fastai.catalog.build import build_catalog
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError
from genre_fastai.measure import MeasureStore, clear_measures, decode_to_measure, fit_pixels, measure_image, poster_size
from genre_fastai.sample.drawing import draw_poster, genres
from genre_fastai.store import RecordFile, StoreWarning, cache_folder

root = Path(__file__).resolve().parent.parent
sha = lambda o: hashlib.sha256(o).digest()

@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    "A cache folder for each test"
    folder = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
    return folder

@pytest.fixture
def decodes(monkeypatch):
    "The decoders that Pillow has made since the list was cleared, one for each JPEG; what only copies pixels is none"
    seen,real = [],Image._getdecoder
    def spy(mode, name, *args):
        if name!='raw': seen.append(name)
        return real(mode, name, *args)
    monkeypatch.setattr(Image, '_getdecoder', spy)
    return seen

def encoded(im, fmt='JPEG', **kw):
    im.save(b := io.BytesIO(), fmt, **kw)
    return b.getvalue()

@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    "A folder of 18 posters; one of them twice, one once more in other bytes, one CMYK, one turned, one cut, one a page"
    d = tmp_path_factory.mktemp('drawn')
    for i in range(18):
        (f := d/genres[i%3]/f'{i}.jpg').parent.mkdir(exist_ok=True)
        im = draw_poster(genres[i%3], random.Random(f'measure {i}'))
        im.save(f, quality=90)
        if i==0: im.save(d/genres[0]/'near.jpg', quality=40)
        if i==1: im.convert('CMYK').save(d/genres[1]/'cmyk.jpg')
    turned = Image.Exif()
    turned[0x0112] = 6
    draw_poster(genres[2], random.Random('turned')).save(d/genres[2]/'turned.jpg', exif=turned)
    shutil.copy(d/genres[0]/'3.jpg', d/genres[0]/'again.jpg')
    (d/genres[0]/'cut.jpg').write_bytes((d/genres[0]/'6.jpg').read_bytes()[:-3000])
    (d/genres[0]/'page.jpg').write_text('<html>gone</html>')
    return d

@pytest.fixture
def posters(drawn, tmp_path): return Path(shutil.copytree(drawn, tmp_path/'posters'))

def built(d, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return build_catalog(d, progress=False, **kw)

# --- decodes

def test_one_decode_a_picture_and_none_the_second_time(posters, decodes, monkeypatch):
    "18 posters, a near copy and a cut file are decoded once each; two are decoded whole, converted, and their copies measured"
    first = built(posters, cache_pixels=True)
    assert len(decodes)==18+2+2*2
    monkeypatch.setattr(duplicates, 'compare_pairs', None) # not even the comparison is done again
    for kw in ({}, dict(seed=7), dict(cache_pixels=True), dict(policy=dict(grey='drop', odd='drop')), dict(valid=.3, test=.1)):
        del decodes[:]
        again = built(posters, **kw)
        assert not decodes, kw
        if kw in ({}, dict(cache_pixels=True)): assert again.df.equals(first.df) and again.pairs.equals(first.pairs)
    for o in (['cmyk.jpg'], ['turned.jpg']): assert first.df['converted_from'].str.endswith(o[0]).sum()==1

def test_a_cold_cache_says_the_same_as_a_warm_one(posters):
    warm = [built(posters) for _ in range(2)][1]
    clear_measures()
    cold = built(posters)
    assert warm.df.equals(cold.df) and warm.pairs.equals(cold.pairs) and {'exact','near'}==set(warm.pairs['kind'])
    assert {r.partition(':')[0] for r in cold.df['reason'] if r} >= {'truncated','html'}

def test_known_files_are_not_read(posters, monkeypatch):
    files = sorted(posters.rglob('*.jpg'))
    for f in files: os.utime(f) # the time of change is now
    store = MeasureStore()
    store.note(files, [sha(f.read_bytes()) for f in files])
    monkeypatch.setattr(measure, 'read_bytes', None)
    assert [bytes(o) for o in MeasureStore().digests(files)]==[sha(f.read_bytes()) for f in files]

def test_pixels_come_from_the_same_decode(posters, decodes):
    from fastai.vision.all import PILImage, Resize
    files = sorted(posters.rglob('[0-9]*.jpg'))
    store = MeasureStore()
    digests,*_ = store.measure_files(files, [poster_size, (60,40)])
    assert len(decodes)==18
    for size in (poster_size, (60,40)):
        pix = store.pixels(size)
        want = np.asarray(Resize(size, 'squish')(PILImage.create(files[0]), split_idx=1))
        assert (pix[pix.find(digests)][0]==want.transpose(2,0,1)).all()
    del decodes[:]
    store.measure_files(files, [(80,60)])
    assert len(decodes)==18 # a new size; nothing is measured again
    assert (store.digests(files)==digests).all()

def test_same_bytes_in_many_threads_are_decoded_once(tmp_path, decodes):
    for i in range(40): (tmp_path/f'{i}.jpg').write_bytes(encoded(draw_poster(genres[0], random.Random(i%2))))
    _,got,why = MeasureStore().measure_files(sorted(tmp_path.glob('*.jpg')), n_workers=4)
    assert len(decodes)==2 and not any(why) and (got['width']>0).all()

def test_pairs_do_not_depend_on_the_order_of_rows(posters, monkeypatch):
    cat = Catalog(dict(file=[f.relative_to(posters).as_posix() for f in sorted(posters.rglob('*.jpg'))], label='x'), posters).verify(progress=False)
    pairs = cat.find_duplicates(progress=False)
    monkeypatch.setattr(duplicates, 'compare_pairs', None)
    mixed = cat[np.random.default_rng(0).permutation(len(cat))].find_duplicates(progress=False)
    key = lambda df: {(frozenset(o[:2]),*o[2:]) for o in df[['file_a','file_b','kind','score']].itertuples(index=False)}
    assert key(pairs)==key(mixed) and len(pairs)==3 # the same bytes, compressed again, and the CMYK one
    with pytest.raises(TypeError): cat.find_duplicates(min_score=.5, progress=False) # other settings are compared anew

# --- nothing is less safe

def test_limits_hold_for_known_pictures(posters):
    cat = Catalog(dict(file=[f.relative_to(posters).as_posix() for f in sorted(posters.rglob('*.jpg'))], label='x'), posters)
    cat.verify(progress=False)
    for kw in (dict(max_pixels=20_000), dict(max_bytes=5_000)):
        warm = cat.verify(progress=False, **kw).df
        clear_measures()
        cold = cat.verify(progress=False, **kw).df
        assert warm.equals(cold) and (warm['status']=='failed').sum()>15, kw
        cat.verify(progress=False)

@pytest.mark.skipif(os.name=='nt', reason='the time of change is that of creation there')
def test_a_changed_file_is_noticed_though_size_and_time_are_the_same(tmp_path):
    f,black,white = tmp_path/'a.bmp',*(encoded(Image.new('RGB', (90,120), c), 'BMP') for c in ('black','white'))
    f.write_bytes(black)
    time = f.stat().st_mtime_ns
    for k in range(3):
        for data in (black,white):
            f.write_bytes(data)
            os.utime(f, ns=(time,time))
            digest,got,_ = MeasureStore().measure_files([f])
            assert bytes(digest[0])==sha(data) and (got['bright'][0]>.5)==(data is white)

def test_another_file_under_an_old_name_is_noticed(tmp_path):
    for name,c in (('a','black'), ('b','white')): (tmp_path/name).write_bytes(encoded(Image.new('RGB', (90,120), c), 'BMP'))
    for f in tmp_path.iterdir(): os.utime(f, ns=(10**18,10**18))
    store = MeasureStore()
    before = store.digests([tmp_path/'a', tmp_path/'b'])
    os.replace(tmp_path/'b', tmp_path/'a')
    assert (store.digests([tmp_path/'a'])[0]==before[1]).all()

def test_what_may_pass_is_not_remembered(tmp_path, monkeypatch):
    (tmp_path/'a.jpg').write_bytes(encoded(draw_poster(genres[0], random.Random(0))))
    def full(*args): raise MemoryError
    with monkeypatch.context() as m:
        m.setattr(Image, '_getdecoder', full)
        assert MeasureStore().measure_files([tmp_path/'a.jpg'])[2][0].startswith('memory')
    assert MeasureStore().measure_files([tmp_path/'a.jpg'])[2]==['']

def test_a_conversion_is_made_again_where_its_copy_is_gone_or_changed(posters, decodes):
    cat = Catalog(dict(file=['comedy/cmyk.jpg' if (posters/'comedy/cmyk.jpg').exists() else next(posters.rglob('cmyk.jpg')).relative_to(posters).as_posix()],
        label='x'), posters)
    copy = posters/cat.verify(progress=False).df['file'][0]
    good = copy.read_bytes()
    for spoil in (copy.unlink, lambda: copy.write_bytes(good[:-9])):
        spoil()
        assert cat.verify(progress=False).df['status'][0]=='ok' and copy.read_bytes()==good
    del decodes[:]
    cat.verify(progress=False)
    assert not decodes and cat.verify(dict(cmyk='keep'), progress=False).df['file'][0].endswith('cmyk.jpg')

# --- the files of the cache

def numbers(i, n=5):
    "Keys and records that tell each other"
    keys = [sha(f'{i} {k}'.encode()) for k in range(n)]
    return keys, np.array([(int.from_bytes(k[:4], 'little'), 7) for k in keys], [('a','u4'), ('b','u4')])

alone = f'import hashlib, sys, numpy as np\nsha = lambda o: hashlib.sha256(o).digest()\n{inspect.getsource(numbers)}' # in a process of its own

def right(rf, keys, recs):
    rows = rf.find(keys)
    return (rows>=0).all() and (rf[rows]==recs).all()

def test_a_writer_that_is_killed_loses_only_what_it_was_adding(tmp_path):
    code = (alone+"import os, genre_fastai.store as s\n"
        "rf = s.RecordFile(sys.argv[1], numbers(0)[1].dtype); rf.add(*numbers(0))\n"
        "real = open\n"
        "def dies(path, *args):\n"
        "    if str(path).endswith('.keys') and args==('r+b',): os._exit(9)\n"
        "    return real(path, *args)\n"
        "s.open = dies; rf.add(*numbers(1))")
    assert subprocess.run([sys.executable, '-c', code, str(tmp_path/'x')], cwd=root).returncode==9
    rf = RecordFile(tmp_path/'x', numbers(0)[1].dtype)
    assert rf.file('dat').stat().st_size==64+10*8 and right(rf, *numbers(0)) and (rf.find(numbers(1)[0])<0).all()
    rf.add(*numbers(2))
    with open(rf.file('keys'), 'ab') as f: f.write(b'half a key')
    rf.add(*numbers(1))
    for o in (rf, RecordFile(rf.path, rf.dtype)): assert all(right(o, *numbers(i)) for i in range(3)) and len(o)==15

def test_processes_add_at_the_same_time(tmp_path):
    code = (alone+"from genre_fastai.store import RecordFile\n"
        "rf = RecordFile(sys.argv[1], numbers(0)[1].dtype)\n"
        "for i in range(int(sys.argv[2]), int(sys.argv[2])+60): rf.add(*numbers(i))")
    many = [subprocess.Popen([sys.executable, '-c', code, str(tmp_path/'x'), str(k)], cwd=root) for k in (0,30)]
    assert [o.wait() for o in many]==[0,0]
    rf = RecordFile(tmp_path/'x', numbers(0)[1].dtype)
    assert len(rf)==90*5 and all(right(rf, *numbers(i)) for i in range(90))

def test_a_store_that_another_process_clears(tmp_path):
    rf,other = (RecordFile(tmp_path/'x', numbers(0)[1].dtype) for _ in range(2))
    rf.add(*numbers(0))
    rows = rf.find(numbers(0)[0])
    other.clear()
    other.add(*numbers(1))
    rf.add(*numbers(2))
    assert (rf[rows]==numbers(0)[1]).all() and (rf.find(numbers(0)[0])<0).all() and all(right(o, *numbers(i)) for i in (1,2) for o in (rf,other))

def test_a_cache_that_cannot_be_written_is_said_once_and_costs_only_time(posters, cache, monkeypatch, decodes):
    want = built(posters)
    (cache/'file').write_text('no folder')
    monkeypatch.setenv('XDG_CACHE_HOME', str(cache/'file'))
    del decodes[:]
    with pytest.warns(StoreWarning) as said: got = build_catalog(posters, progress=False)
    assert sum('cannot be written' in str(o.message) for o in said)==1 and got.df.equals(want.df) and got.pairs.equals(want.pairs)
    assert len(decodes)==18+2+2*2 # what `verify` finds out is kept in memory for what follows
    del decodes[:]
    built(posters)
    assert not decodes

def test_a_full_disk(tmp_path, monkeypatch):
    import genre_fastai.store as store
    rf = RecordFile(tmp_path/'x', numbers(0)[1].dtype)
    rf.add(*numbers(0))
    def full(path, mode='r', *args):
        if mode!='r+b': return open(path, mode, *args)
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(store, 'open', full, raising=False)
    with pytest.raises(OSError): rf.add(*numbers(1), strict=True)
    with pytest.warns(StoreWarning, match='No space left'): rf.add(*numbers(1))
    assert all(right(rf, *numbers(i)) for i in (0,1))
    with pytest.raises(IndexError): rf[rf.find(numbers(2)[0])]

def spoil_head(f): f.write_bytes(b'something else entirely '*40)
def spoil_body(f):
    b = bytearray(f.read_bytes())
    b[min(100, len(b)-1)] ^= 1 # files that were just written are not noted, so nothing but a head may be there
    f.write_bytes(b)
def spoil_short(f): f.write_bytes(f.read_bytes()[:-100])
def spoil_empty(f): f.write_bytes(b'')
def spoil_folder(f):
    f.unlink()
    f.mkdir()

@pytest.mark.parametrize('spoil', [spoil_head, spoil_body, spoil_short, spoil_empty, spoil_folder])
@pytest.mark.parametrize('what', ['*.dat','*.keys','looks-*.dat'])
def test_a_corrupt_cache_is_made_again(posters, cache, spoil, what):
    cat = Catalog(dict(file=[f.relative_to(posters).as_posix() for f in sorted(posters.rglob('[0-3ct]*.jpg'))], label='x'), posters)
    want = cat.verify(progress=False)
    pairs = want.find_duplicates(progress=False)
    for f in (cache/'genre_fastai'/'measures').glob(what): spoil(f)
    for f in (cache/'genre_fastai'/'measures').glob('pairs-*'): f.write_bytes(b'no pairs')
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', StoreWarning)
            got = cat.verify(progress=False)
            assert got.df.equals(want.df) and got.find_duplicates(progress=False).equals(pairs)

def test_spoilt_training_pixels_are_noticed_and_made_again(posters, decodes):
    files,size = sorted(posters.rglob('[0-9]*.jpg')),(81,61) # no whole number of words
    digests,*_ = MeasureStore().measure_files(files, [size])
    pix = MeasureStore().pixels(size)
    want = pix[pix.find(digests)]
    with open(pix.file('dat'), 'r+b') as f:
        f.seek(-1, 2)
        last = f.read(1)[0]
        f.seek(-1, 2)
        f.write(bytes([last^16])) # one bit of the last record
    assert (pix[pix.find(digests[:3])]==want[:3]).all() # this object has tested them
    other = MeasureStore().pixels(size)
    with pytest.warns(StoreWarning, match='put aside'), pytest.raises(GenreError, match='was damaged'): other[other.find(digests)]
    assert (other.find(digests)<0).all() and pix.file('dat.bad').exists()
    del decodes[:]
    MeasureStore().measure_files(files, [size])
    assert len(decodes)==18 and (other[other.find(digests)]==want).all()

def test_sums_and_no_sums_do_not_mix(tmp_path):
    keys,recs = [sha(bytes([i])) for i in range(9)],np.arange(9*16).reshape(9,4,4).astype(np.uint8)
    old,new = (RecordFile(tmp_path/'x', (np.uint8, (4,4)), sums=o) for o in (False,True))
    old.add(keys, recs)
    assert (new.find(keys)<0).all()
    for i in range(0, 9, 2): new.add(keys[i:i+2], recs[i:i+2]) # sums come in pieces
    again = pickle.loads(pickle.dumps(new))
    for o in (new,again): assert (o[o.find(keys[:4])]==recs[:4]).all() and (o[o.find(keys)]==recs).all()
    assert (old.find(keys)<0).all() and new.file('keys').stat().st_size==64+9*40

def test_portions_hold_each_row_once():
    for n in (0, 1, 7, 8, 9, 300, 11_462):
        for k in (1, 2, 16):
            parts = list(measure._portions(rows := np.arange(n), k))
            assert n==0 and not parts or (np.concatenate(parts)==rows).all() and max(map(len, parts))<=128

def test_many_bytes_do_not_wait_in_memory(posters, monkeypatch):
    "what the store is asked for at once is bounded by bytes, and known bytes under new names are not decoded"
    store = MeasureStore()
    files = sorted(posters.rglob('*.jpg'))
    whole = store.measure_files(files)
    clear_measures()
    run = measure._Run(store, files, (), None, 50_000_000, 50_000_000, None, None)
    got = dict(run.fresh(np.arange(len(files)), most=1))
    assert len(got)==len({sha(f.read_bytes()) for f in files})
    shutil.copytree(posters, posters.parent/'other')
    store.measure_files(files)
    monkeypatch.setattr(measure, 'measure_image', None)
    other = store.measure_files([posters.parent/'other'/f.relative_to(posters) for f in files])
    assert (other[0]==whole[0]).all() and (other[1]==whole[1]).all() and other[2]==whole[2]

@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names')
def test_a_pipe_in_place_of_a_file_blocks_nobody(tmp_path):
    for what in ('keys','dat'): os.mkfifo(tmp_path/f'x.{what}')
    rf = RecordFile(tmp_path/'x', numbers(0)[1].dtype)
    assert (rf.find(numbers(0)[0])<0).all()
    rf.add(*numbers(0))
    assert right(rf, *numbers(0)) and len(list(tmp_path.glob('*.bad')))==2

def test_nothing_lies_in_the_cache_that_names_a_file(posters, cache):
    built(posters)
    for f in cache.rglob('*'):
        if f.is_file(): assert b'.jpg' not in f.read_bytes() and posters.name.encode() not in f.read_bytes()

def test_a_million_keys(tmp_path):
    "are found in arrays, and fit into 100 MB"
    from genre_fastai.store import _Index
    K = np.random.default_rng(0).integers(0, 256, (1_000_000,32), dtype=np.uint8)
    ix = _Index()
    ix.add(K, np.arange(len(K)))
    at = np.random.default_rng(1).integers(0, len(K), 1000)
    assert (ix.find(K[at])==at).all() and sum(o.nbytes for o in (ix.keys, ix.fronts, ix.rows))<=50_000_000

def test_other_code_has_another_version():
    """Who changes what is measured must raise `_version` of measure.py, and then this sum: else old measures would be taken for new ones.
    Code that was shown to give the same numbers, bit by bit, only changes the sum."""
    parts = [measure._loss, measure.blur_effect, measure._level, measure._planes, measure._share, measure._colours, measure.colour_tint, measure.measure_image,
        measure.header_record, measure.draft_size, measure.failure, measure._fact_types, measure._look_types]
    code = ''.join(inspect.getsource(o) if callable(o) else repr(o) for o in parts)
    assert (measure._version, hashlib.sha256(code.encode()).hexdigest()[:12])==(1, '2acdd5fa2439')
