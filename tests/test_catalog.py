"The catalog stage on the sample's ground truth, on hostile files, and by properties"
import functools, http.server, io, json, os, random, struct, threading, tracemalloc, warnings, zlib
from collections import Counter
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from genre_fastai.core import GenreError, posters_path
from genre_fastai.images import BadImage, decode
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.catalog.sources import catalog_from, find_images
from genre_fastai.catalog.duplicates import candidates, compare_pairs
from genre_fastai.catalog.build import build_catalog
from genre_fastai.sample.drawing import draw_poster, genres
from genre_fastai.sample.dataset import make_sample

@pytest.fixture(scope='module')
def truth(tmp_path_factory): return make_sample(tmp_path_factory.mktemp('sample'), n=150, seed=3)

@pytest.fixture(scope='module')
def blind(truth): return Catalog(truth.df[['file','label','rank']], truth.path).verify(dict(tiny='keep'), progress=False)

@pytest.fixture(scope='module')
def pairs(blind): return blind.find_duplicates(progress=False)

# --- the sample's ground truth

def test_every_planted_copy_is_found(truth, blind, pairs):
    group = dict(zip(truth.df['file'], blind.add_groups(pairs).df['group']))
    copies = truth.df[truth.df['original']!='']
    found = Counter(k for f,o,k in zip(copies['file'], copies['original'], copies['kind']) if group[f]==group[o])
    planted = Counter(copies['kind'])
    assert set(planted) >= {'exact_duplicate','cross_class_duplicate','reencoded','resized','cropped','bordered','mirrored'}
    plain = 'exact_duplicate','cross_class_duplicate','reencoded','resized'
    for kind,n in planted.items(): assert found[kind] >= n*(.95 if kind in plain else .9), (kind, found[kind], n)

def test_few_false_pairs(truth, blind, pairs):
    "Fewer than one false pair in a thousand posters: none here, though drawn posters share templates"
    film = dict(zip(blind.df['id'], truth.df['film']))
    assert sum(film[a]!=film[b] for a,b in zip(pairs['id_a'], pairs['id_b'])) < max(1, len(truth)/1000)

def test_flags_match_what_was_planted(truth, blind):
    for kind,flag in (('cmyk','cmyk'), ('alpha','alpha'), ('exif','rotated'), ('tiny','tiny'), ('grey','grey')):
        assert (blind.df.loc[truth.df['kind']==kind, f'is_{flag}']=='1').all(), kind
    for flag in ('cmyk','alpha','rotated','tiny'): assert set(truth.df.loc[blind.df[f'is_{flag}']=='1', 'kind']) <= {flag, 'exif'}

def test_build_leaves_no_copy_and_no_leak(truth):
    cat = build_catalog(Catalog(truth.df[['file','label','rank']], truth.path), progress=False)
    film = dict(zip(truth.df['file'], truth.df['film']))
    originals = cat.df['converted_from'].where(cat.df['converted_from']!='', cat.df['file']).map(film)
    assert originals[cat.df['status']=='ok'].is_unique
    assert not len(cat.assign(film=originals).leaks())

def test_cross_class_copies_by_rule(truth, blind, pairs):
    cross = truth.df[truth.df['kind']=='cross_class_duplicate']
    names = dict(zip(truth.df['file'], range(len(truth))))
    both = [(names[f], names[o]) for f,o in zip(cross['file'], cross['original'])]
    status = blind.dedupe(pairs).df['status']
    assert all(status[a]==status[b]=='dropped' for a,b in both)
    ranked = blind.dedupe(pairs, 'rank').df
    assert all(ranked['status'][a]!='ok' or ranked['status'][b]!='ok' for a,b in both)
    assert ranked['reason'].str.contains('contradiction').any()

def test_features_find_heavier_crops(tmp_path):
    "A fifth cut off each side is beyond the fingerprints' windows; a network's features propose such pairs, the verification takes them and no others"
    from genre_fastai.features.extract import extract_features
    for i in range(12):
        im = draw_poster(genres[i%3], random.Random(f'heavy crop {i}'))
        im.save(tmp_path/f'{i}.jpg')
        im.crop([round(.2*s) for s in im.size] + [round(.8*s) for s in im.size]).save(tmp_path/f'{i}_cut.jpg', quality=75)
    cat = Catalog(dict(file=find_images(tmp_path), label=''), tmp_path)
    film = lambda f: f.split('.')[0].split('_')[0]
    plain,more = (cat.find_duplicates(f, progress=False) for f in (None, extract_features(cat, pool='avgmax', size=(144,96))))
    assert all(film(a)==film(b) for a,b in zip(more['file_a'], more['file_b']))
    assert len(plain)<=3 and len(more)>=10

# --- hostile and broken files

def png_bomb(w, h):
    chunk = lambda t,d: struct.pack('>I', len(d)) + t + d + struct.pack('>I', zlib.crc32(t+d))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 0, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'\0'*1000)) + chunk(b'IEND', b'')

def jpeg(seed=0, size=(60,90)):
    b = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(b, 'JPEG')
    return b.getvalue()

@pytest.mark.parametrize('name,data,why', [
    ('empty', b'', 'empty'), ('html', b'  <!DOCTYPE HTML><title>x', 'html'), ('svg', b'<?xml version="1.0"?><svg>', 'svg'), ('text', b'hello', 'text'),
    ('pdf', b'%PDF\0\1', 'not-image'), ('eps', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'text'),
    ('bomb', png_bomb(20_000, 20_000), 'too-many-pixels'), ('large', png_bomb(9_000, 9_000), 'too-many-pixels'),
    ('cut', jpeg()[:-700], 'truncated'), ('zeros', jpeg()[:300]+bytes(3000), 'damaged'), ('huge', jpeg()+bytes(2_000_000), 'too-large')])
def test_bad_files_get_their_reason(tmp_path, name, data, why):
    (tmp_path/'good.jpg').write_bytes(jpeg(1))
    (tmp_path/f'{name}.jpg').write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        df = Catalog(dict(file=[f'{name}.jpg','good.jpg'], label='x'), tmp_path).verify(dict(tiny='keep'), max_bytes=1_000_000, progress=False).df
    assert df['status'].tolist()==['failed','ok'] and df['reason'][0].startswith(f'{why}: ')

def test_files_outside_the_folder(tmp_path):
    (tmp_path/'in').mkdir()
    (tmp_path/'secret.jpg').write_bytes(jpeg())
    (tmp_path/'in'/'ok.jpg').write_bytes(jpeg())
    (tmp_path/'in'/'link.jpg').symlink_to(tmp_path/'secret.jpg')
    df = Catalog(dict(file=['ok.jpg','link.jpg','../secret.jpg'], label='x'), tmp_path/'in').verify(dict(tiny='keep'), progress=False).df
    assert df['status'].tolist()==['ok','failed','failed'] and all(r.startswith('unsafe') for r in df['reason'][1:])

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.binary(min_size=1, max_size=8))
def test_damaged_bytes_never_crash(at, junk):
    data = jpeg()
    at %= len(data)
    try: im = decode(data[:at]+junk+data[at+len(junk):])
    except BadImage as e: assert str(e)
    else: assert im.full_size[0]>0

def test_unreadable_for_comparison(tmp_path):
    (tmp_path/'a.jpg').write_bytes(b'no')
    (tmp_path/'b.jpg').write_bytes(jpeg())
    with pytest.raises(GenreError, match='Call `verify` first'): Catalog(dict(file=['a.jpg','b.jpg'], label='x'), tmp_path).find_duplicates(progress=False)

@pytest.mark.skipif(os.name=='nt' or not hasattr(os, 'geteuid') or os.geteuid()==0, reason='this user may write anywhere')
def test_convert_in_a_read_only_folder(tmp_path):
    Image.new('CMYK', (90,90)).save(tmp_path/'a.jpg')
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(GenreError, match='cannot be written'): Catalog(dict(file=['a.jpg'], label='x'), tmp_path).verify(dict(plain='keep'), progress=False)
    finally: tmp_path.chmod(0o700)

# --- sources

def test_same_names_do_not_collide(tmp_path):
    for i,f in enumerate(('a/1.jpg', 'b/1.jpg', 'a.1.jpg')):
        (tmp_path/'src'/f).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'src'/f).write_bytes(jpeg(i))
    cat = Catalog(dict(file=['a/1.jpg','b/1.jpg','a.1.jpg'], label='horror'), tmp_path/'src')
    out = cat.to_folders(tmp_path/'out')
    assert len({f.read_bytes() for f in out.rglob('*.jpg')})==3

@pytest.mark.parametrize('label', ['../x', '', '.hidden', 'a/b', 'a\\b', 'c:'])
def test_labels_that_are_no_folder(tmp_path, label):
    (tmp_path/'a.jpg').write_bytes(jpeg())
    with pytest.raises(GenreError, match='row 1'): Catalog(dict(file=['a.jpg'], label=label), tmp_path).to_folders(tmp_path/'out')
    assert not (tmp_path/'out').exists()

def test_download_rows_of_one_file_are_left_to_dedupe(tmp_path):
    (tmp_path/'a.jpg').write_bytes(jpeg(size=(182,268)))
    cat = Catalog([dict(file='a.jpg', label='horror', url='https://a.example', rank=4), dict(file='a.jpg', label='romance', url='https://b.example', rank=2),
        dict(file='', label='drama', url='https://c.example', status='failed', reason='404')], tmp_path)
    cat = cat.verify(progress=False).dedupe(contradictions='rank', progress=False)
    assert cat.df['status'].tolist()==['dropped','ok','failed'] and cat.df['reason'][0].startswith('contradiction')

# --- identity

def journal(root):
    "A download journal of a folder of posters, with a failed try"
    tries = [dict(url=f'https://img.example/{f}', label=f.split('/')[0], status='ok', file=f) for f in find_images(root)]
    with open(root/'journal.jsonl', 'w') as j:
        for o in [dict(url='https://img.example/gone', label='horror', status='failed', reason='404'), *tries]: print(json.dumps(o), file=j)
    return root/'journal.jsonl'

@pytest.fixture
def sources(tmp_path):
    "The same posters as a folder, a csv and a journal: horror/0.jpg is there twice, once with another label"
    root = tmp_path/'here'
    for i in range(24):
        p = root/('horror' if i%2 else 'romance')/f'{i}.jpg'
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_bytes(jpeg(i, (182,268)))
    (root/'horror/0.jpg').write_bytes(jpeg(0, (182,268)))
    files = find_images(root)
    pd.DataFrame(dict(file=files, label=[f.split('/')[0] for f in files])).to_csv(root/'list.csv', index=False)
    return dict(folder=root, csv=root/'list.csv', journal=journal(root))

@pytest.mark.parametrize('kind', ['folder', 'csv', 'journal'])
def test_a_source_read_again_has_the_same_ids(sources, tmp_path, kind):
    first = catalog_from(sources[kind])
    assert first.df['id'].is_unique and catalog_from(sources[kind]).df['id'].tolist()==first.df['id'].tolist()
    (tmp_path/'here').rename(tmp_path/'there')
    assert catalog_from(tmp_path/'there'/sources[kind].relative_to(tmp_path/'here')).df['id'].tolist()==first.df['id'].tolist()

@pytest.mark.parametrize('kind', ['folder', 'csv', 'journal'])
def test_no_stage_rewrites_an_id(sources, tmp_path, kind):
    raw = catalog_from(sources[kind])
    ids,by_file = set(raw.df['id']), dict(zip(raw.df['file'], raw.df['id']))
    cat = build_catalog(raw, progress=False)
    for c in (cat, Catalog(cat.df[::-1], cat.path), cat.assign(label='horror'), quiet_split(cat, seed=7, freeze=False), cat.dedupe(contradictions='keep')):
        assert set(c.df['id'])==ids and all(by_file[f]==o for f,o in zip(c.df['file'], c.df['id']))
    assert (cat.df['status']=='dropped').sum()==2 and cat.pairs['kind'].tolist()==['exact']
    cat.save(tmp_path/'up.csv')
    cat.save(cat.path/'same.csv')
    again,up = build_catalog(cat.path/'same.csv', progress=False), read_catalog(tmp_path/'up.csv')
    for c in (again, up): assert c.hash==cat.hash and c.df['id'].tolist()==cat.df['id'].tolist() and c.pairs.equals(cat.pairs)
    (tmp_path/'here').rename(tmp_path/'there')
    moved = read_catalog(tmp_path/'there'/'same.csv')
    assert moved.hash==cat.hash and all(f.is_file() for f in moved.ok.files)
    assert not len(moved.leaks()) and not len(up.leaks())

def test_converted_rows_keep_their_id(tmp_path):
    Image.open(io.BytesIO(jpeg(size=(182,268)))).convert('CMYK').save(tmp_path/'a.jpg')
    raw = Catalog(dict(file=['a.jpg'], label='x'), tmp_path)
    cat = raw.verify(progress=False)
    assert cat.df['converted_from'][0]=='a.jpg' and cat.df['file'][0]!='a.jpg' and cat.df['id'].tolist()==raw.df['id'].tolist()

# --- splits, by properties

rows = st.lists(st.tuples(st.sampled_from('horror drama comedy western'.split()), st.integers(0, 60)), min_size=12, max_size=150)
def table(rows): return Catalog([dict(file=f'{i}.jpg', label=l, group=f'film{g}') for i,(l,g) in enumerate(rows)])
def quiet_split(cat, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return cat.split(**kw)

@settings(max_examples=25, deadline=None)
@given(rows, st.integers(0, 5))
def test_no_split_divides_a_film(rows, seed):
    cat = quiet_split(table(rows), seed=seed)
    assert not len(cat.leaks()) and (cat.df['split']!='').all()
    shuffled = quiet_split(Catalog(cat.df.drop(columns='split').sample(frac=1, random_state=seed)), seed=seed)
    assert dict(zip(shuffled.df['file'], shuffled.df['split']))==dict(zip(cat.df['file'], cat.df['split']))

@settings(max_examples=20, deadline=None)
@given(rows, rows)
def test_frozen_rows_stay(old, new):
    before = quiet_split(table(old))
    test = set(before.where(split='test').df['file'])
    extra = Catalog([dict(file=f'n{i}.jpg', label=l, group=f'film{g+30}') for i,(l,g) in enumerate(new)])
    after = quiet_split(Catalog(pd.concat([before.df, extra.df])))
    assert test <= set(after.where(split='test').df['file']) and not len(after.leaks())
    if test: assert set(after.where(split='test').df['group'])==set(before.where(split='test').df['group'])

@settings(max_examples=20, deadline=None)
@given(rows, st.integers(2, 5))
def test_folds_are_whole(rows, k):
    cat = table(rows)
    if cat.df['group'].nunique()<k: return
    f = cat.folds(k)
    assert set(f)<=set(range(k)) and pd.Series(f).groupby(cat.df['group']).nunique().max()==1

def test_shares_of_every_label_of_many():
    rng = random.Random(0)
    labels = ['Drama']*8+['Comedy']*5+['Action']*3+['Western']
    cat = Catalog([dict(file=f'{i}.jpg', labels='|'.join(sorted({rng.choice(labels) for _ in range(3)}))) for i in range(2000)])
    t = cat.split(valid=.1, test=.2).class_counts()
    assert abs(t['test']/t['all']-.2).max()<.02 and abs(t['valid']/t['all']-.1).max()<.02

# --- size

def test_memory_of_many_posters():
    "3,000 posters of noise: a table of all pairs of windows would need 3,000 x 147,000 floats, 1.7 GB"
    thumbs = np.random.default_rng(0).integers(0, 255, (3000, 24, 16), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    thumbs[2999] = thumbs[0][:,::-1]
    tracemalloc.start()
    c = candidates(thumbs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    hits = c[compare_pairs(thumbs, c)[:,0]>.6]
    assert peak<400e6 and [sorted(map(int, r[1:3])) for r in hits]==[[0,2999]]

# --- articles

def test_movies_dataset_from_a_server(tmp_path):
    from genre_fastai.course.articles import movies_dataset
    (tmp_path/'www'/'w342').mkdir(parents=True)
    for i in range(12): (tmp_path/'www'/'w342'/f'{i}.jpg').write_bytes(jpeg(i, (120,180)))
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=tmp_path/'www')) as srv:
        threading.Thread(target=srv.serve_forever, daemon=True).start()
        genre = lambda i: ', '.join(f"{{'id': 1, 'name': '{g}'}}" for g in ('Drama', 'Aniplex', *(['Comedy'] if i%2 else [])))
        films = [dict(genres=f'[{genre(i)}]', id=i, imdb_id=f'tt{i}', overview=f'Plot {i}.', poster_path=f'/{i}.jpg', release_date='1999-01-01',
            title=f'Film {i}') for i in range(12)]
        pd.DataFrame(films).to_csv(tmp_path/'movies.csv', index=False)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            cat = movies_dataset(tmp_path/'movies.csv', tmp_path/'out', n=10, images=f'http://127.0.0.1:{srv.server_port}', allow_private=True, progress=False)
        srv.shutdown()
    assert len(cat.ok)==10 and cat.classes==['Comedy','Drama'] and cat.df['overview'].str.startswith('Plot').all() and not len(cat.leaks())

# --- real posters

@pytest.mark.skipif(posters_path() is None, reason='GENRE_POSTERS is not set')
def test_real_posters_have_no_false_pairs():
    root = posters_path()
    cat = catalog_from(root/'romance_horror_superhero.csv')
    cat = cat[cat.df.index<600].verify(progress=False)
    assert len(cat.ok)==600 and len(cat.find_duplicates(progress=False))<=1

def test_export_loses_nothing(tmp_path):
    for i in range(4):
        p = tmp_path/f'in/{"ab"[i%2]}/{i}.jpg'
        p.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8,12), (i*60,0,0)).save(p)
    cat = catalog_from(tmp_path/'in')
    out = cat.to_folders(tmp_path/'out')
    again = catalog_from(out)
    with pytest.raises(GenreError, match='holds the files of this catalog'): again.to_folders(out)
    with pytest.raises(GenreError, match='4 of 4 files'): Catalog(cat.df, tmp_path/'gone').to_folders(out)
    (tmp_path/'away').mkdir(); (tmp_path/'linked').mkdir(); (tmp_path/'linked/a').symlink_to(tmp_path/'away')
    with pytest.raises(GenreError, match='leaves the folder'): cat.to_folders(tmp_path/'linked')
    (tmp_path/'full').mkdir(); Image.new('RGB', (8,12)).save(tmp_path/'full/x.jpg')
    with pytest.raises(GenreError, match='no export made'): cat.to_folders(tmp_path/'full')
    assert len(catalog_from(out))==4 and not list((tmp_path/'away').iterdir()) and (tmp_path/'full/x.jpg').exists()
