"Catalogs as parquet, streams of them, near-duplicates in cells, and what img2dataset writes"
import io, json, os, subprocess, sys, tarfile
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from genre_fastai.core import GenreError, csv_text
from genre_fastai.tables import TableWarning
pytest.importorskip('pyarrow', reason='parquet needs pyarrow')
import genre_fastai.catalog.build
from genre_fastai.catalog.arrow import is_parquet, iter_parquet, parquet_columns, read_parquet, write_parquet, write_shards
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.catalog.duplicates import candidates
from genre_fastai.catalog.ivf import CellIndex
from genre_fastai.catalog.parquet import iter_catalog
from genre_fastai.catalog.sources import catalog_from
from genre_fastai.cli import main
from genre_fastai.collect.img2dataset import img2dataset_input, read_img2dataset

def folder_of_posters(path, n=8):
    "Two classes of small posters"
    rng = np.random.default_rng(0)
    for i in range(n):
        f = path/('horror','romance')[i%2]/f'{i}.jpg'
        f.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12,8,3), dtype=np.uint8)).resize((80,120), Image.BICUBIC).save(f)
    return path

def run(*words):
    "The exit code of a command, words of which may be paths"
    with pytest.raises(SystemExit) as e: main([w for o in words for w in ([str(o)] if isinstance(o, Path) else o.split())])
    return e.value.code

# --- parquet where a csv was

def test_commands_take_parquet_as_they_take_csv(tmp_path, capsys):
    posters = folder_of_posters(tmp_path/'p')
    for out in ('c.csv','c.parquet'): assert not run('catalog', posters, '--out', tmp_path/out)
    a,b = (read_catalog(tmp_path/o) for o in ('c.csv','c.parquet'))
    assert a.hash==b.hash and a.df.equals(b.df) and (a.pairs is None)==(b.pairs is None)
    assert sorted(o.name for o in tmp_path.iterdir())==['c.csv','c.pairs.csv','c.pairs.parquet','c.parquet','p']
    assert not run('catalog', tmp_path/'c.parquet', '--out', tmp_path/'again.parquet')
    assert read_catalog(tmp_path/'again.parquet').df['split'].tolist()==a.df['split'].tolist()
    assert not run('clean', tmp_path/'c.parquet', '--rule', 'duplicates', '--out', tmp_path/'clean.parquet')
    assert len(read_catalog(tmp_path/'clean.parquet'))==8

def test_a_catalog_beside_class_folders_does_not_hide_them(tmp_path):
    posters = folder_of_posters(tmp_path/'p', 4)
    catalog_from(posters).save(posters/'c.parquet')
    assert not is_parquet(posters) and len(catalog_from(posters))==4

def test_a_torn_file_is_refused_by_name(tmp_path, capsys):
    write_parquet([pd.DataFrame(dict(file=['a.jpg'], label=['x']))], tmp_path/'c.parquet')
    (tmp_path/'torn.parquet').write_bytes((tmp_path/'c.parquet').read_bytes()[:-9])
    for line in ('catalog {} --out o.csv', 'clean {} --out o.csv', 'train {} --out m'):
        assert run(line.format(tmp_path/'torn.parquet')) and 'torn.parquet' in capsys.readouterr().err

def test_what_a_csv_says_parquet_says(tmp_path):
    odd = dict(file=['a.jpg','b.jpg','c.jpg'], label=['=1+1','x\ny',"it's"], note=['007','', 'é\u2028'], id=['a'*16,'b'*16,'c'*16])
    cat = Catalog(odd, tmp_path)
    for o in ('c.csv','c.parquet'): cat.save(tmp_path/o)
    assert read_catalog(tmp_path/'c.csv').df.equals(read_catalog(tmp_path/'c.parquet').df)
    assert read_catalog(tmp_path/'c.parquet').df.to_dict('list')==cat.df.to_dict('list')

def test_tables_of_strangers(tmp_path):
    theirs = pd.DataFrame(dict(image=['a.jpg','b.jpg','c.jpg'], genres=[['Horror','Drama'],['Drama'],[]], year=[1999,None,2001], seen=pd.to_datetime(['2020-01-01']*3),
        kind=pd.Categorical(['x','y','x']), pixels=[b'1',b'2',None]))
    theirs.to_parquet(tmp_path/'t.parquet')
    with pytest.warns(TableWarning): cat = read_catalog(tmp_path/'t.parquet')
    assert cat.targets==[['Horror','Drama'],['Drama'],[]] and cat.df['year'].tolist()==['1999','','2001'] and 'pixels' not in cat.df
    assert cat.df['kind'].tolist()==['x','y','x'] and cat.df['seen'][0].startswith('2020-01-01')

def test_without_pyarrow_it_is_said(tmp_path):
    code = "import sys; sys.modules['pyarrow'] = None\nfrom genre_fastai.catalog.core import *\nCatalog(dict(file=['a.jpg'], label=['x'])).save(sys.argv[1]+'/c.csv'); read_catalog(sys.argv[1]+'/c.csv')\n" \
        "try: Catalog(dict(file=['a.jpg'], label=['x'])).save(sys.argv[1]+'/c.parquet')\nexcept Exception as e: print(type(e).__name__, e)"
    r = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True)
    assert r.stdout.startswith('GenreError Parquet needs pyarrow') and not (tmp_path/'c.parquet').exists(), r.stderr

# --- streams

@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "A table of 3,000 rows of 1,000 films, in three files"
    path = tmp_path_factory.mktemp('films')
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(3000)], label=['xyz'[i%3] for i in range(3000)], imdb_id=[f'tt{i%1000+1:07}' for i in range(3000)]), path)
    write_shards([cat.df[i:i+1000] for i in range(0, 3000, 1000)], path/'films')
    return cat,path/'films'

def test_a_stream_is_the_table(films):
    cat,path = films
    for rows in (70, 999, 5000): assert [i for o in iter_catalog(path, rows=rows) for i in o.df['id']]==cat.df['id'].tolist()
    assert max(len(o) for o in iter_catalog(path, rows=250))==250 and iter_catalog(path).read().hash==cat.hash

def test_a_stream_reads_no_more_than_is_asked(films):
    first = next(iter(iter_parquet(films[1], rows=10)))
    assert len(first)==10 and list(next(iter(iter_catalog(films[1], columns=['imdb_id']))).df)==['id','file','status','imdb_id']

def test_the_hash_split_does_not_depend_on_what_is_around(films):
    cat,path = films
    whole = dict(zip(cat.df['id'], cat.hash_split().df['split']))
    assert all(whole[i]==s for o in iter_catalog(path, rows=130).split() for i,s in zip(o.df['id'], o.df['split']))
    some = cat[np.arange(0, 3000, 7)].hash_split()
    assert all(whole[i]==s for i,s in zip(some.df['id'], some.df['split']))
    df = cat.hash_split().df
    assert df.groupby('imdb_id')['split'].nunique().max()==1
    share = df.drop_duplicates('imdb_id')['split'].value_counts(normalize=True)
    assert abs(share['test']-.2)<.05 and abs(share['valid']-.2)<.05 # four standard deviations of 1,000 films
    assert cat.hash_split(seed=1).df['split'].tolist()!=df['split'].tolist()
    kept = cat.hash_split(valid=.3, test=.2).df['split']
    assert ((kept=='test')==(df['split']=='test')).all() and not cat.hash_split().leaks().size

def test_pairs_hold_films_together_over_the_stream(films):
    cat,path = films
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame(dict(id_a=cat.df['id'].to_numpy()[rng.integers(0, 3000, 300)], id_b=cat.df['id'].to_numpy()[rng.integers(0, 3000, 300)]))
    out = iter_catalog(path, rows=101).add_groups(pairs).split().read()
    split = dict(zip(out.df['id'], out.df['split']))
    assert all(split[a]==split[b] for a,b in zip(pairs['id_a'], pairs['id_b'])) and out.df.groupby('imdb_id')['split'].nunique().max()==1
    with pytest.raises(GenreError, match='speaks of the row'): iter_catalog(path).add_groups(pairs.assign(id_a='nobody')).read()

def test_what_fails_in_the_stream_leaves_nothing(films, tmp_path):
    def breaks(cat):
        if '2000.jpg' in set(cat.df['file']): raise GenreError('broken')
        return cat
    for out in ('s','s.parquet'):
        with pytest.raises(GenreError, match='broken'): iter_catalog(films[1]).map(breaks).save(tmp_path/out)
    assert not list(tmp_path.iterdir())

def test_verify_streams(tmp_path):
    cat = catalog_from(folder_of_posters(tmp_path/'p'))
    Path(cat.files[3]).write_bytes(b'<html>')
    cat.save(tmp_path/'c.parquet')
    seen = iter_catalog(tmp_path/'c.parquet', rows=3).verify()
    assert seen.save(tmp_path/'seen')==8 and len(list((tmp_path/'seen').iterdir()))==3
    got,want = read_catalog(tmp_path/'seen'), read_catalog(tmp_path/'c.parquet').verify(progress=False)
    assert got.df[list(want.df)].equals(want.df) and len(got.ok)==7

# --- near-duplicates

def thumbs_with_crops(n=300, crops=30):
    rng = np.random.default_rng(0)
    T = np.stack([np.asarray(Image.fromarray(rng.integers(0, 256, (8,6), dtype=np.uint8)).resize((64,96), Image.BICUBIC)) for _ in range(n)])
    for i in range(crops):
        im = Image.fromarray(T[i]).resize((64,96), Image.BILINEAR, (3,4,61,92))
        T[n-1-i] = np.asarray(im)[:,::-1] if i%3==0 else np.asarray(im)
    return T,{(i, n-1-i) for i in range(crops)}

def test_cells_find_what_the_tree_finds():
    T,planted = thumbs_with_crops()
    tree,cells = ({tuple(sorted(o)) for o in candidates(T, many=m)[:,1:3].astype(int).tolist()} for m in (10**9, 0))
    assert planted<=cells and len(planted & tree)<=len(planted & cells)
    c = candidates(T, many=0)
    assert c.shape[1]==8 and (c[:,0]<.45).all() and all(m==((min(a,b))%3==0) for _,a,b,m,*_ in c if tuple(sorted((int(a),int(b)))) in planted)

def test_cells_against_all_distances():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2000,63))/(1+np.arange(63))
    X[1000:] = X[:1000]+rng.normal(size=(1000,63))*.02
    X = (X/np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    D = np.sqrt(np.maximum(2-2*X@X.T, 0))
    for f in (X, X.astype(np.float16)):
        q,row,d = CellIndex(f).search(X[:200], k=3, far=.4, probes=8)
        assert np.bincount(q).max()<=3 and np.abs(D[q,row]**2-d**2).max()<.003 and (np.diff(q)>=0).all()
        assert {(i,i) for i in range(200)}<=set(zip(q.tolist(), row.tolist()))
    q,row,_ = CellIndex(X).search(X, k=5, far=.4) # each finds itself, too
    found = {(min(a, b), max(a, b)) for a,b in zip(q.tolist(), row.tolist())}
    near = {(i, int(j)) for i in range(1000) for j in [np.argsort(D[i])[1]] if D[i,j]<.35 and i<j}
    assert len(near & found)/len(near)>.98

# --- img2dataset

@pytest.fixture
def downloaded(tmp_path):
    "What img2dataset makes of a list of six, as files: four pictures"
    urls = pd.DataFrame(dict(url=[f'https://a.example/{i}' for i in range(6)], label=['x','y']*3))
    img2dataset_input(urls, tmp_path/'list.parquet')
    status = ['success']*4+['failed_to_download','failed_to_resize']
    df = read_parquet(tmp_path/'list.parquet').assign(key=[f'{i:05}{i:04}' for i in range(6)], status=status, error_message=[None]*4+['<urlopen error timed out>','too small'],
        width=[60]*4+[None]*2, height=[90]*4+[None]*2, original_width=[60]*4+[None]*2, original_height=[90]*4+[None]*2, exif=['{}']*4+[None]*2, sha256=['0'*64]*4+[None]*2)
    (tmp_path/'out/00000').mkdir(parents=True)
    df.to_parquet(tmp_path/'out/00000.parquet')
    for i,k in enumerate(df['key'][:4]): Image.new('RGB', (60,90), (40*i,9,9)).save(tmp_path/f'out/00000/{k}.jpg')
    return tmp_path/'out',df

def test_files_of_img2dataset(downloaded):
    cat = read_img2dataset(downloaded[0])
    assert cat.df['reason'].tolist()==['']*4+['timeout','too-small'] and cat.df['id'].tolist()==downloaded[1]['id'].tolist()
    assert cat.df['label'].tolist()==['x','y']*3 and cat.df['width'].tolist()==['60']*4+['']*2 and 'sha256' not in cat.df and not cat.ok.check_files()

def tar_of(path, entries):
    with tarfile.open(path, 'w') as t:
        for name,data,kw in entries:
            m = tarfile.TarInfo(name)
            m.size = len(data)
            for k,v in kw.items(): setattr(m, k, v)
            t.addfile(m, io.BytesIO(data))

def test_a_tar_of_strangers(downloaded, tmp_path):
    out,df = downloaded
    jpg,keys = (out/f'00000/{df["key"][0]}.jpg').read_bytes(), df['key'].tolist()
    shards = tmp_path/'shards'
    shards.mkdir()
    df.to_parquet(shards/'00000.parquet')
    tar_of(shards/'00000.tar', [(f'../../{keys[0]}.jpg', jpg, {}), (f'/tmp/{keys[1]}.jpg', jpg, {}), (f'{keys[2]}.jpg', b'', dict(type=tarfile.SYMTYPE, linkname='/etc/passwd')),
        (f'{keys[2]}.jpg/../../x.jpg', jpg, {}), ('other.jpg', jpg, {}), (f'{keys[3]}.sh', b'rm', {}), (f'{keys[3]}.jpg', jpg*3, {}), (f'{keys[4]}.jpg', jpg, {})])
    before = {o for o in tmp_path.rglob('*')}
    cat = read_img2dataset(shards, out=tmp_path/'pics', max_bytes=2*len(jpg))
    assert {str(o.relative_to(tmp_path)) for o in set(tmp_path.rglob('*'))-before}=={'pics','pics/00000',f'pics/00000/{keys[0]}.jpg',f'pics/00000/{keys[1]}.jpg'}
    assert cat.df['reason'].tolist()==['','','missing','missing','timeout','too-small'] # a link, and one that is too large
    (shards/'00000.tar').write_bytes((shards/'00000.tar').read_bytes()[:700])
    with pytest.warns(TableWarning, match='torn'): cat = read_img2dataset(shards, out=tmp_path/'pics2')
    assert not len(cat.ok)

def test_a_tar_of_very_many(downloaded, tmp_path):
    (tmp_path/'s').mkdir()
    downloaded[1].to_parquet(tmp_path/'s/00000.parquet')
    tar_of(tmp_path/'s/00000.tar', [(f'{i}.txt', b'', {}) for i in range(1200)])
    with pytest.raises(GenreError, match='far more entries'): read_img2dataset(tmp_path/'s', out=tmp_path/'o')

def test_compressed_tars_are_not_unpacked(downloaded, tmp_path):
    (tmp_path/'s').mkdir()
    downloaded[1].to_parquet(tmp_path/'s/00000.parquet')
    with tarfile.open(tmp_path/'s/00000.tar', 'w:gz') as t: t.add(downloaded[0], 'x')
    with pytest.warns(TableWarning, match='torn'): assert not len(read_img2dataset(tmp_path/'s', out=tmp_path/'o').ok)

def test_the_downloader_goes_on(downloaded):
    from genre_fastai.collect.download import read_journal
    read_img2dataset(downloaded[0], journal=True)
    back = read_journal(downloaded[0])
    assert back.df['status'].tolist()==['ok']*4+['failed']*2 and back.df['label'].tolist()==['x','y']*3 and (back.ok.df['format']=='JPEG').all()
    with pytest.raises(GenreError, match='written over'): read_img2dataset(downloaded[0], journal=True)

def test_train_takes_the_split_of_parquet(tmp_path, capsys):
    from genre_fastai.commands.train import _with_splits
    posters = folder_of_posters(tmp_path/'p', 10)
    genre_fastai.catalog.build.build_catalog(posters, progress=False, seed=3).save(tmp_path/'c.parquet')
    cat,is_new = _with_splits(tmp_path/'c.parquet', None, 42, None)
    assert not is_new and cat.hash==read_catalog(tmp_path/'c.parquet').hash
    catalog_from(posters).save(tmp_path/'bare.parquet')
    cat,is_new = _with_splits(tmp_path/'bare.parquet', None, 42, None)
    assert is_new and 'split' in cat.df and 'one was built' in capsys.readouterr().out
