"What strangers write into tables, folders and names of files: understood and said, or refused; never passed over"
import json, mimetypes, os, warnings
from collections import Counter
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from genre_fastai.core import GenreError, read_table
from genre_fastai.vision.seen import row_keys
from genre_fastai.tables import TableWarning, clean_label, foreign_table, is_unknown, label_key, read_labels, relative_names, split_name, year_of
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.catalog.sources import catalog_from, find_images, image_suffixes, look_into
from genre_fastai.catalog.build import build_catalog
from genre_fastai.clean.decisions import CleaningSession

def posters(root, n=12, folders=('x',)):
    "Small pictures of noise, each different"
    for j,c in enumerate(folders):
        (root/c).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            a = Image.fromarray(np.random.default_rng(100*j+i).integers(0, 255, (9,7,3), dtype=np.uint8)).resize((90,130), Image.BICUBIC)
            a.save(root/c/f'{i}.jpg', quality=92)
    return root

@pytest.fixture(scope='module')
def root(tmp_path_factory): return posters(tmp_path_factory.mktemp('tables'), folders=('a','b'))

F = [f'{i}.jpg' for i in range(12)]
def table(vals, col='label', **kw): return pd.DataFrame({'file': F[:len(vals)], col: list(vals)} | kw)

def heard(f):
    "What a function gives, and what it says"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        res = f()
    return res, ' '.join(str(w.message) for w in said)

def via_csv(tmp_path, df, sep=',', encoding='utf-8', **kw):
    df.to_csv(tmp_path/'c.csv', index=False, sep=sep, encoding=encoding)
    return heard(lambda: read_catalog(tmp_path/'c.csv', **kw))

# --- labels

want = [['Action','Comedy'], ['Action'], ['Comedy','Drama']]
forms = {'bar': ['Action|Comedy','Action','Comedy|Drama'], 'comma': ['Action, Comedy','Action','Comedy, Drama'], 'tight': ['Action,Comedy','Action','Comedy,Drama'],
    'semicolon': ['Action; Comedy','Action','Comedy; Drama'], 'slash': ['Action/Comedy','Action','Comedy/Action'], 'python': ["['Action', 'Comedy']","['Action']","['Comedy', 'Drama']"],
    'json': ['["Action", "Comedy"]','["Action"]','["Comedy", "Drama"]'], 'numpy': ["['Action' 'Comedy']","['Action']","['Comedy' 'Drama']"],
    'tuple': ["('Action', 'Comedy')","('Action',)","('Comedy', 'Drama')"], 'bare': ['[Action, Comedy]','[Action]','[Comedy, Drama]'],
    'tmdb': ['[{"id": 28, "name": "Action"}, {"id": 35, "name": "Comedy"}]','[{"id": 28, "name": "Action"}]','[{"id": 35, "name": "Comedy"}, {"id": 18, "name": "Drama"}]'],
    'tmdb in Python': ["[{'id': 28, 'name': 'Action'}, {'id': 35, 'name': 'Comedy'}]","[{'id': 28, 'name': 'Action'}]","[{'id': 35, 'name': 'Comedy'}, {'id': 18, 'name': 'Drama'}]"]}

@pytest.mark.parametrize('col', ['labels', 'label', 'Genre', 'genres', 'tags'])
@pytest.mark.parametrize('form', forms)
def test_lists_of_labels(tmp_path, form, col):
    "However several labels stand in a cell, in a csv as in a DataFrame; and how they were read is said, except for our own form"
    right = want if form!='slash' else [*want[:2], ['Comedy','Action']]
    for cat,said in (via_csv(tmp_path, table(forms[form], col)), heard(lambda: Catalog(table(forms[form], col)))):
        assert cat.multi and cat.targets==right
        assert ('was read as' in said) == (form!='bar' or col in ('label', 'Genre'))

@pytest.mark.parametrize('cells', [[['Action','Comedy'],['Action'],['Comedy','Drama']], [('Action','Comedy'),('Action',),('Comedy','Drama')],
    [{'Comedy','Action'},{'Action'},{'Drama','Comedy'}], [np.array(o) for o in want], [[dict(name=n) for n in o] for o in want]])
def test_real_lists(cells):
    for cat in (Catalog(table(cells, 'labels')), Catalog(table(cells)), Catalog(table(['x']*3)).assign(labels=cells)): assert cat.targets==want

@pytest.mark.parametrize('vals', [['Action, Adventure','Drama','Drama'], ['Sci-Fi & Fantasy','Drama','War'], ['Sci-Fi/Fantasy','Drama','War'], ['[REC]','Drama','War'],
    ['Science Fiction','Romantic Comedy','Comedy'], ['(500) Days','Drama','War']])
def test_one_label_is_not_torn(tmp_path, vals):
    cat,said = via_csv(tmp_path, table(vals))
    assert not cat.multi and cat.targets==[[o] for o in vals] and ('Action, Adventure' in said) == (vals[0]=='Action, Adventure')

def test_the_form_can_be_given(tmp_path):
    df = table(['Action, Adventure','Drama','Action'], 'labels')
    assert via_csv(tmp_path, df)[0].classes==['Action','Adventure','Drama']
    assert via_csv(tmp_path, df, label_form='one')[0].classes==['Action','Action, Adventure','Drama']
    with pytest.raises(GenreError, match='cannot be separated by'): via_csv(tmp_path, df, label_form='!')

def test_fastai_tables_of_blanks(tmp_path):
    cat,said = via_csv(tmp_path, pd.DataFrame(dict(image_name=['train_0','train_1','train_2'], tags=['haze primary','haze','primary'])))
    assert cat.targets==[['haze','primary'],['haze'],['primary']] and '`image_name`' in said and 'blanks' in said

def test_cells_of_another_form_are_said():
    (lists,_),said = heard(lambda: read_labels(pd.Series(['Action|Comedy','Comedy; Action','Drama'], name='labels')))
    assert lists[1]==['Comedy','Action'] and 'row 2' in said
    assert "'x, y'" in heard(lambda: Catalog(table(['Action|Comedy','x, y'], 'labels')))[1]

def test_columns_of_zeros_and_ones():
    cat,said = heard(lambda: Catalog(table([1,0,1], 'Action', Comedy=[0,1,1])))
    assert cat.targets==[['Action'],['Comedy'],['Action','Comedy']] and 'were taken for labels' in said

@pytest.mark.parametrize('word', ['nan','N/A','None','null','-','?','NaN','<NA>','\\N','[]'])
def test_a_word_for_unknown_is_no_class(tmp_path, word):
    cat,said = via_csv(tmp_path, table(['a','b',word]*3))
    assert cat.classes==['a','b'] and '3 rows' in said and Counter(cat.df['status'])==dict(ok=6, dropped=3)
    assert set(cat.df['reason'])=={'', f'no label: {word}'}
    with pytest.raises(GenreError, match='no row has a label'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        catalog_from(table([word]*3))

@pytest.mark.parametrize('odd', ['drama','DRAMA','Dra\u200bma','Dra\u00adma',' Drama\u00a0','\uff24rama','Drama\ufeff'])
def test_labels_that_look_the_same(odd):
    cat,said = heard(lambda: Catalog(table(['Drama','Drama',odd,'War'])))
    assert cat.classes==['Drama','War'] and (odd in said or ascii(odd)[1:-1] in said)

def test_accents_and_classes(tmp_path):
    nfc,nfd = 'Com\u00e9die','Come\u0301die'
    assert Catalog(table([nfc,nfd])).classes==[nfc]
    assert Catalog(table([nfc,'War'])).one_hot(['war', nfd]).tolist()==[[False,True],[True,False]]
    assert catalog_from(table(['drama','WAR']), classes=['Drama','War']).classes==['Drama','War']
    posters(tmp_path, 1, (nfd, 'None', 'War', 'war'))
    cat,said = heard(lambda: catalog_from(tmp_path))
    assert cat.classes in ([nfc,'None','War'], ['Com\u00e9die','None','war']) and "'None' (1 rows) is a class" in said
    assert all(p.is_file() for p in cat.files)

def test_single_letters_are_left_alone(): assert Catalog(table(list('aAbB'))).classes==['A','B','a','b']

# --- splits

@pytest.mark.parametrize('word,split', {'Training':'train','TRAIN ':'train','trn':'train','val':'valid','Valid':'valid','validation':'valid','dev':'valid',
    'Test':'test','testing':'test','TEST':'test','eval':'test','test_set':'test','':''}.items())
def test_words_for_splits(tmp_path, word, split):
    df = table(['a','b'], split=[word,'train'])
    for cat in (via_csv(tmp_path, df)[0], Catalog(df), Catalog(df.rename(columns={'split':'Split'})), Catalog(table(['a','b'])).assign(split=[word,'train'])):
        assert cat.df['split'].tolist()==[split,'train'] and len(cat.dev)==2-(split=='test')

@pytest.mark.parametrize('word', ['trian','holdouts','0','True','all','validd'])
def test_other_words_for_splits_are_refused(tmp_path, word):
    for f in (lambda: via_csv(tmp_path, table(['a','b'], split=['train',word])), lambda: Catalog(table(['a','b'])).assign(split=['train',word])):
        with pytest.raises(GenreError, match=rf"row 2 \(1.jpg\): The split '{word}' is none of train, valid and test"): f()

def test_test_rows_cannot_be_cleaned(tmp_path, root):
    "Whatever the split was called, and whoever wrote it where"
    made = Catalog(pd.DataFrame(dict(file=['a/0.jpg','a/1.jpg','b/0.jpg'], label=['a','a','b'], split=['train','Test','train'])), root)
    by_hand = made.assign(split='train')
    by_hand.df['split'] = ['train','Test','train']
    for i,cat in enumerate((made, made.assign(split=['Train','TESTING','train']), by_hand, Catalog(made.df, root), made[::-1])):
        assert len(cat.dev)==2
        sess = CleaningSession(cat, tmp_path/f'{i}.jsonl')
        with pytest.raises(GenreError, match='is a test row'): sess.delete(made.df['id'][1])
        assert len(cat.where(split='TEST'))==1 or cat is by_hand

@pytest.mark.parametrize('yes,no', [(True,False), (1,0), ('1','0'), ('yes','no'), ('Y','n'), ('T','F'), (1.0,0.0), (1.0,np.nan), ('TRUE','FALSE')])
@pytest.mark.parametrize('col', ['label','labels','genre'])
def test_is_valid(tmp_path, yes, no, col):
    df = pd.DataFrame({'Image Path':F[:4], col:list('abab'), 'is_valid':[no,yes,no,no]})
    for cat,said in (via_csv(tmp_path, df), heard(lambda: Catalog(df))):
        assert cat.df['split'].tolist()==['train','valid','train','train'] and '`is_valid`' in said and '`Image Path`' in said

def test_marks_that_cannot_be_right():
    for kw,why in ((dict(is_valid=['maybe','no']), "row 1 (0.jpg): `is_valid` is 'maybe'"), (dict(split=['train','test'], is_valid=[1,0]), '`split` is train'),
        (dict(split=['valid','test'], is_valid=[0,0]), '`split` is valid'), (dict(is_valid=[1,0], is_test=[1,0]), 'is marked as test and as valid')):
        with pytest.raises(GenreError) as e: Catalog(table(['a','b'], **kw))
        assert why in str(e.value)
    assert Catalog(table(['a','b','a'], split=['val','test',''], is_valid=[1,0,0])).df['split'].tolist()==['valid','test','train']

def test_marked_rows_stay(root):
    df = pd.DataFrame(dict(file=find_images(root), label=[f[0] for f in find_images(root)], is_valid=[i%4==0 for i in range(24)]))
    cat,said = heard(lambda: build_catalog(df, root, progress=False))
    assert (cat.df['split']=='valid').tolist()==df['is_valid'].tolist() and 'makes 18 train, 6 valid rows' in said
    again,said = heard(lambda: build_catalog(df, root, resplit=True, progress=False))
    assert set(again.df['split'])=={'train','valid','test'} and 'is_valid' not in again.df # it would say what held before
    Catalog(again.df.drop(columns='id'), root)

def test_splits_by_other_names():
    assert Catalog(table(['a','b'], Subset=['train','dev'])).df['split'].tolist()==['train','valid']
    assert 'is not used' in heard(lambda: Catalog(table(['a','b'], note=['train','test'])))[1]
    assert 'split' not in Catalog(table(['a','b'], fold=[0,1])).df

def test_rows_without_a_split_are_said(root):
    df = pd.DataFrame(dict(file=find_images(root), label=[f[0] for f in find_images(root)], split=['test']*3+['train']*20+['']))
    cat,said = heard(lambda: build_catalog(df, root, progress=False))
    assert '1 of 24 rows have no split' in said and (cat.df['split'][:3]=='test').all()
    assert 'no valid rows' in heard(lambda: build_catalog(df.assign(split=['test']*3+['train']*21), root, progress=False))[1]

def test_a_class_that_training_never_sees(root):
    df = pd.DataFrame(dict(file=find_images(root), label=[f[0] for f in find_images(root)], split=['train']*12+['valid']*11+['test']))
    _,said = heard(lambda: build_catalog(df, root, progress=False))
    assert "No training row has 'b' (11 in valid, 1 in test)" in said

@pytest.mark.parametrize('kw', [dict(valid=1.5), dict(test=-1), dict(valid='x'), dict(valid=.5, test=.5), dict(seed=-1), dict(seed='x'), dict(seed=1.5)])
def test_numbers_out_of_range(kw):
    with pytest.raises(GenreError): Catalog(table(list('ab')*6)).split(**kw)

# --- films and columns called as ours

@pytest.mark.parametrize('word', ['N/A','0','nan','None','tt0000000','-','unknown','0.0',0,np.nan])
@pytest.mark.parametrize('col', ['imdb_id','tmdbId','group','film','movie_id'])
def test_unknown_films_are_no_film(tmp_path, word, col):
    df = table(list('ab')*6, **{col: [word]*10+['tt1','tt1']})
    cat,said = via_csv(tmp_path, df)
    assert cat.add_groups().df['group'].nunique()==11 and (str(word) in said or word!=word)
    given = Catalog(table(list('ab')*6, id=[f'{i:016x}' for i in range(12)], **{col: [word]*10+['tt1','tt1']}, split=['train','test']*5+['train']*2))
    assert not len(given.leaks()) and given.add_groups().df['group'].nunique()==11 # a table of ours from before

def test_columns_called_as_ours():
    df = table(list('ab'), status='Released', width=[68.5,70], height=[100,'?'], mode=['dark','light'], rank=['A','B'], url=['/x','/y'], reason=['good','bad'], id=[7,7])
    cat,said = heard(lambda: Catalog(df))
    assert len(cat.ok)==2 and {'film_status','film_width','film_mode','film_rank','film_url','film_reason','film_id','height'} <= set(cat.df)
    assert all(f'`{c}`' in said for c in ('status','width','mode','rank','url','reason','id'))
    ours = table(list('ab'), status=['ok','failed'], width=[100,200], mode='RGB', rank=[1,2], url='https://e.org', reason=['','404'], id=['x','y'])
    cat,said = heard(lambda: Catalog(ours))
    assert not said and cat.df['id'].tolist()==['x','y'] and len(cat.ok)==1
    assert "the status 'blurred'" in heard(lambda: Catalog(table(list('ab'), status=['OK','blurred'])))[1]

# --- tables as files

@pytest.mark.parametrize('sep', [',', ';', '\t', '|'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'cp1252'])
def test_separators_and_encodings(tmp_path, sep, encoding):
    cat,_ = via_csv(tmp_path, table(['Com\u00e9die','War'], title=['a, b','c; d']), sep, encoding)
    assert cat.classes==['Com\u00e9die','War'] and cat.df['title'].tolist()==['a, b','c; d']

def test_what_spreadsheets_leave(tmp_path):
    (tmp_path/'c.csv').write_text('sep=;\nfile;label;;\n0.jpg;"x;\ny";;\n;;;\n')
    cat,said = heard(lambda: read_catalog(tmp_path/'c.csv'))
    assert cat.classes==['x; y'] and '1 rows without any value' in said

def test_json_lines_of_a_hub(tmp_path):
    (tmp_path/'metadata.jsonl').write_text('\n'.join(json.dumps(dict(file_name=f, genres=['a','b'][:i+1], split='Test')) for i,f in enumerate(F[:2])))
    cat = catalog_from(tmp_path/'metadata.jsonl')
    assert cat.targets==[['a'],['a','b']] and cat.df['split'].tolist()==['test']*2

def test_a_journal_goes_through_the_gate(tmp_path):
    rows = [dict(url=f'https://e.org/{i}', status='ok', file=f, genres=g, imdb_id='N/A') for i,(f,g) in enumerate(zip(F, ['Action|Drama','drama','Drama']))]
    (tmp_path/'journal.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    cat,said = heard(lambda: catalog_from(tmp_path/'journal.jsonl'))
    assert cat.targets==[['Action','Drama'],['Drama'],['Drama']] and "'N/A' in `imdb_id`" in said and len(cat.ok)==3

def test_own_tables_pass_as_they_are(tmp_path):
    "What was decided once is not decided again: names of classes, a class called None, ids of the user's own"
    for kw in (dict(), dict(id=[f'poster {i}' for i in range(4)])):
        cat = Catalog(table(['Action, Adventure','Drama','drama','a/b'], is_valid=[1,0,0,0], imdb_id=['0','5','5','N/A'], **kw), tmp_path)
        cat = cat.assign(label=['None','Drama','Action, Drama','|']).save(tmp_path/'own.csv')
        a,said = heard(lambda: read_catalog(cat))
        assert not said and a.df['label'].tolist()==['None','Drama','Action, Drama','|'] and Catalog(a.df).hash==a.hash==read_catalog(cat).hash
    same = heard(lambda: catalog_from(read_catalog(cat).assign(label=['None','Drama','drama','War']).save(tmp_path/'own.csv')))[1]
    assert "'None' (1 rows) is a class" in same and 'are two classes, and look the same' in same

@pytest.mark.parametrize('joined', ['Action + Drama','Action+Drama','Action & Drama','Action and Drama','Action - Drama','Action \u2013 Drama','Action-Drama'])
def test_labels_joined_in_words(tmp_path, joined):
    "Read as several where the column says so; where it does not, a class that consists of others is named"
    cat,said = via_csv(tmp_path, table(['Action','Drama',joined]))
    if joined!='Action-Drama': assert cat.targets[2]==['Action','Drama'] and 'was read as labels with' in said
    else: assert cat.targets[2]==[joined]
    cat,said = heard(lambda: catalog_from(Catalog(table(['Action','Drama','War']), tmp_path).assign(label=['Action','Drama',joined]).save(tmp_path/'own.csv')))
    assert cat.classes==sorted(['Action','Drama',joined]) and 'is a class of its own, beside Action and Drama' in said

@pytest.mark.parametrize('vals', [['Action & Adventure','Sci-Fi & Fantasy','Drama'], ['Action & Adventure','Action','Drama'], ['LGBTQ+','Drama','Sci-Fi']])
def test_names_that_hold_a_joint(tmp_path, vals):
    for col in ('label','genres'): assert via_csv(tmp_path, table(vals, col))[0].targets==[[o] for o in vals]

# --- names of files

@pytest.mark.parametrize('name', ['x\\0.jpg','C:\\Users\\me\\posters\\x\\0.jpg','/data/posters/x/0.jpg','./x/0.jpg',' x/0.jpg','file:///d/x/0.jpg','X/0.JPG','x/0','x/0.jpeg',
    '0.jpg','posters/x/0.jpg','\\\\srv\\share\\x\\0.jpg','x%2F0.jpg','"x/0.jpg"'])
def test_names_from_elsewhere(tmp_path, name):
    root = posters(tmp_path/'posters', 2)
    names = [name, name.replace('0.', '1.') if '0.' in name else name[:-1]+'1']
    for path in (root, str(root)):
        cat,said = heard(lambda: catalog_from(pd.DataFrame(dict(file=names, label=['a','b'])), path))
        assert cat.df['file'].tolist()==['x/0.jpg','x/1.jpg'] and names[0] in said.replace('\\\\', '\\')
    assert not len(cat.df['id'][cat.df['id'].duplicated()])

def test_names_that_stay(tmp_path):
    root = posters(tmp_path/'posters', 2)
    (tmp_path/'secret.jpg').write_bytes(b'x')
    for f,why in {'../secret.jpg':'leaves the folder', '..\\secret.jpg':'', str(tmp_path/'secret.jpg'):f'Give path={str(tmp_path)!r}', '/gone/z.jpg':'Put the pictures there',
        'C:\\gone\\z.jpg':'of absolute and of Windows names only the end counts'}.items():
        if not why:
            assert Catalog(pd.DataFrame(dict(file=[f], label='a')), root).verify(progress=False, n_workers=0) if os.name=='nt' else relative_names([f], root)==[f]
            continue
        with pytest.raises(GenreError) as e: catalog_from(pd.DataFrame(dict(file=[f, 'x/1.jpg'], label=['a','b'])), root)
        assert why in str(e.value)
    assert catalog_from(pd.DataFrame(dict(file=[str(tmp_path/'secret.jpg')], label='a')), tmp_path).df['file'][0]=='secret.jpg' # as the message says

def test_pictures_called_after_films(tmp_path):
    posters(tmp_path, 3, ('Images',))
    cat,said = via_csv(tmp_path, pd.DataFrame(dict(Id=[0,1,2], Genre=["['a', 'b']","['a']","['b']"])))
    assert cat.df['file'].tolist()==['Images/0.jpg','Images/1.jpg','Images/2.jpg'] and '`Id`' in said

@pytest.mark.skipif(os.name=='nt', reason='links need rights there')
def test_linked_pictures(tmp_path):
    posters(tmp_path/'blobs', 3)
    (tmp_path/'snap/a').mkdir(parents=True)
    for i in range(3): os.symlink(tmp_path/f'blobs/x/{i}.jpg', tmp_path/f'snap/a/{i}.jpg')
    pd.DataFrame(dict(file=[f'a/{i}.jpg' for i in range(3)], label='a')).to_csv(tmp_path/'snap/c.csv', index=False)
    for source in (tmp_path/'snap', tmp_path/'snap/c.csv'):
        with pytest.raises(GenreError, match='link') as e: catalog_from(source)
        assert 'cp -rL' in str(e.value)
    posters(tmp_path/'snap', 2, ('b',))
    cat,said = heard(lambda: build_catalog(tmp_path/'snap', progress=False))
    assert '3 of 5 pictures are links' in said and len(cat.ok)==2 and all('link' in r for r in cat.df['reason'][:3])
    (tmp_path/'far').mkdir()
    os.symlink(tmp_path/'snap/b', tmp_path/'far/b')
    with pytest.raises(GenreError, match='1 links to folders'): catalog_from(tmp_path/'far')

# --- folders

def test_files_of_a_folder(tmp_path):
    posters(tmp_path, 1, ('a','b'))
    data = (tmp_path/'a/0.jpg').read_bytes()
    taken = ['1','2.jpg_large','3.jpg?w=200','4.JPG ','5.jpeg~','6.php']
    for f in taken: (tmp_path/'a'/f).write_bytes(data)
    for f in ('7.txt','8.part','9','notes.md'): (tmp_path/'a'/f).write_bytes(b'no picture')
    for f in ('Thumbs.db','.DS_Store','._0.jpg'): (tmp_path/'a'/f).write_bytes(b'x')
    (tmp_path/'b/empty.jpg').write_bytes(b'')
    (tmp_path/'b/b.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    (tmp_path/'b/dir.jpg').mkdir()
    (tmp_path/'list.csv').write_text('beside the folders')
    files,left = look_into(tmp_path)
    assert files==sorted([f'a/{f}' for f in ('0.jpg', *taken)] + ['b/0.jpg','b/empty.jpg','b/b.heic'])
    assert {k: len(v) for k,v in left.items()}=={'.txt':1, '.part':1, '.md':1, 'without a suffix':1}
    cat,said = heard(lambda: catalog_from(tmp_path))
    assert len(cat)==len(files) and '4 files are no pictures' in said and '1 .txt' in said

@pytest.mark.skipif(os.name=='nt', reason='no such files there')
def test_odd_entries(tmp_path):
    posters(tmp_path, 1)
    os.mkfifo(tmp_path/'x/pipe.jpg')
    os.symlink('gone.jpg', tmp_path/'x/broken.jpg')
    os.symlink('loop.jpg', tmp_path/'x/loop.jpg')
    os.symlink('..', tmp_path/'x/up')
    files,left = look_into(tmp_path)
    assert files==['x/0.jpg'] and {k: len(v) for k,v in left.items()}=={'links that lead nowhere':2, 'links to folders':1, 'no plain files':1}

def test_suffixes_do_not_depend_on_the_machine():
    before = set(image_suffixes)
    mimetypes.add_type('image/x-odd', '.odd')
    assert before==set(image_suffixes) and {'.jpg','.webp','.avif','.heic','.jfif'}<=before

# --- anything

cells = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(['a','A','a|b','a, b','["a"]',"['a']",'[','N/A','0','train','Test','../a.jpg','/a.jpg','yes',1,0,1.5,float('nan'),
    True, ['a','b'], {'a'}, b'x', pd.Timestamp('2001-01-01'), {'name':'q'}, [['a'],['b']]]))
names = st.sampled_from('file fname Image label labels genres Genre split is_valid set id group imdb_id status rank width reason url'.split())

@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, st.lists(cells, min_size=3, max_size=3), max_size=5))
def test_any_table_is_read_or_refused(cols):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: cat = Catalog(pd.DataFrame(cols))
        except GenreError: return
        assert set(cat.df.get('split', ())) <= {'','train','valid','test'} and len(cat.dev)<=3
        if 'file' in cat.df and {'label','labels'} & set(cat.df): assert Catalog(cat.df).to_csv()==cat.to_csv()

@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20))
def test_words(s):
    assert clean_label(clean_label(s))==clean_label(s) and label_key(clean_label(s))==label_key(s)
    assert is_unknown(s)==is_unknown(clean_label(s)) and year_of(s) in ('', *map(str, range(1800, 2100)))
    try: assert split_name(s) in ('','train','valid','test')
    except GenreError: pass

# --- smaller things

def test_assigned_cells():
    cat = Catalog(table(['x','y']))
    assert cat.assign(label=[['a','b'],['c']]).targets==[['a','b'],['c']] and not cat.assign(label=[['a'],['c']]).multi
    assert '`is_valid` is kept' in heard(lambda: cat.assign(is_valid=[1,0]))[1]
    assert cat.assign(released=['30/10/1985','1999-01-01']).with_target('decade').classes==['80s','90s']

def test_what_a_table_lacks(tmp_path):
    for text,why in {'x/0.jpg,a\nx/1.jpg,b\n': "The first line has 'x/0.jpg'", 'Poster,Genre\nhttps://e.org/1.jpg,a\n': 'download them first',
        'file,label\na.jpg,x\nb.jpg,y\na.jpg,y\n': 'write one row with both in `labels`', 'file,label\na.jpg,x\nb.jpg,\n': 'write N/A there'}.items():
        (tmp_path/'c.csv').write_text(text)
        with pytest.raises(GenreError) as e: catalog_from(tmp_path/'c.csv')
        assert why in str(e.value)

def test_folders_of_splits(tmp_path):
    for f in ('Train/a','Dev/a','TESTING/a','Train/b'): posters(tmp_path, 1, (f,))
    cat = catalog_from(tmp_path)
    assert cat.df['split'].tolist()==['valid','test','train','train'] and len(cat.dev)==3

def test_time_of_a_large_table(tmp_path):
    "20,000 rows of lists, of names from elsewhere and of hostile cells: seconds, not minutes"
    import time
    start = time.perf_counter()
    n = 20_000
    df = pd.DataFrame(dict(file=[f'C:\\p\\{i}.jpg' for i in range(n)], genres=[f"['g{i%19}', 'g{i%7}']" for i in range(n)], imdb_id=[f'tt{i//3}' for i in range(n)],
        split=['Train','Val','TEST','train']*(n//4)))
    assert len(Catalog(df).classes)==19
    read_labels(pd.Series(['"\\"'*1300, '['*3000+']'*3000, "['"+'a'*3000, '('*3999+')']*50, name='labels'))
    assert time.perf_counter()-start<8

# --- what programs and hands do to tables

def raw(tmp_path, data, name='t.csv', **kw):
    (tmp_path/name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return heard(lambda: catalog_from(tmp_path/name, **kw))

@pytest.mark.parametrize('mark', ['\n', '\r\n', '\t', '\\', ' \u2022 ', ' \u00b7 ', '\uff0c', '\u3001', '\u060c ', '\uff1b', '\n- ', ' \u25cf '])
@pytest.mark.parametrize('col', ['genres', 'label'])
def test_marks_between_labels(tmp_path, mark, col):
    "In a column for several each mark separates; in one for a single label where the parts turn up elsewhere"
    cat,said = raw(tmp_path, table([f'Action{mark}Comedy','Action',f'Comedy{mark}Action'], col).to_csv(index=False))
    assert cat.classes==['Action','Comedy'] and cat.multi and 'was read as labels' in said
    cat,said = raw(tmp_path, table([f'Action{mark}Comedy','Drama','War'], col).to_csv(index=False))
    assert cat.classes==(['Action','Comedy','Drama','War'] if col=='genres' else cat.classes) and (cat.multi or 'name of one class' in said)

def test_marks_that_belong_to_names(tmp_path):
    for vals in (['Pel\u00b7l\u00edcula','Drama'], ['Sci-Fi & Fantasy','Fantasy'], ['AC-DC','Drama'], ['Sci-Fi - Space','Drama']):
        cat,said = raw(tmp_path, table(vals, 'genres').to_csv(index=False))
        assert cat.classes==sorted(vals) and not said

@pytest.mark.parametrize('cell', ["['Action', 'Dra", "[{'id': 18, 'name': 'Dra", '[{"id": 28, "name": "Action"}, {"id"', "['Action', 'Dra]", "'name': 'Drama'}]"])
def test_a_list_that_is_cut_off(tmp_path, cell):
    cat,said = raw(tmp_path, table([cell, "['Action']", "['Drama', nan]", 'array(["Action"], dtype=object)'], 'genres').to_csv(index=False))
    assert cat.targets==[[],['Action'],['Drama'],['Action']] and cat.df['status'].tolist()==['dropped','ok','ok','ok']
    assert 'cut off or damaged takes no part; the first is row 1' in said

def test_one_row_without_a_label_is_told_by_its_own_column(tmp_path):
    said = raw(tmp_path, table(['N/A', 'Drama|Action', 'Drama'], 'Genre').to_csv(index=False))[1]
    assert "1 row with 'N/A' in `Genre`, which says that nothing is known, takes no part; the first is row 1." in said

def test_quotes_that_take_in_rows(tmp_path):
    rows = [f'p/{i}.jpg,{"ab"[i%2]*3},{2000+i}' for i in range(6)]
    text = lambda r, sep=',', head='file,label,year': '\n'.join([head, *r]).replace(',', sep) + '\n'
    for a,b in ((1, 4), (1, 2), (2, None)): # a mark that opens in row a, and one that closes it in row b
        for where in (lambda o: '"'+o, lambda o: o.replace(',', ',"', 1)):
            r = [where(o) if i in (a, b) else o for i,o in enumerate(rows)]
            for sep in ',;\t':
                with pytest.raises(GenreError, match=f'line {a+2}: a '): raw(tmp_path, text(r, sep))
    fine = 'file,label,overview\n1.jpg,a,"Three men, a plan,\nand, well, a dog"\n2.jpg,b,"See https://e.org, or\n1984, once, again\n\nend"\n'
    cat,said = raw(tmp_path, fine)
    assert len(cat)==2 and not said and '\n\nend' in cat.df['overview'][1]

def test_ends_of_lines_and_blanks_before_quotes(tmp_path):
    for text in ('file,label\r0.jpg,a b\r1.jpg,c\r', 'file;label\r0.jpg;a b\r1.jpg;c', 'file, label\n"0.jpg", "a b"\n"1.jpg", "c"\n', ' "file" ; "label"\n"0.jpg"; "a b"\n1.jpg; c\n'):
        assert raw(tmp_path, text)[0].df[['file','label']].values.tolist()==[['0.jpg','a b'],['1.jpg','c']]

@pytest.mark.parametrize('enc,word', [('cp1251','\u043a\u043e\u043c\u0435\u0434\u0438\u044f'), ('mac_roman','com\u00e9die'), ('cp1250','P\u0159\u00edb\u011bh'), ('shift_jis','\u604b\u611b'),
    ('gbk','\u7231\u60c5'), ('koi8_r','\u0434\u0440\u0430\u043c\u0430'), ('euc_kr','\uc0ac\ub791'), ('big5','\u611b\u60c5'), ('cp1253','\u03b4\u03c1\u03ac\u03bc\u03b1')])
def test_letters_of_other_encodings(tmp_path, enc, word):
    assert 'line 2 says' in raw(tmp_path, f'file,label\n0.jpg,{word}\n1.jpg,x\n'.encode(enc))[1]

def test_letters_of_every_day(tmp_path):
    for words in ('com\u00e9die \u0153uvre', '\u00c4rger s\u00fc\u00df', 'acci\u00f3n \u00bfqu\u00e9?', 'com\u00e9dia a\u00e7\u00e3o', 'sm\u00f8rrebr\u00f8d p\u00e5', '\u201cDrama\u201d \u2013 5 \u20ac'):
        cat,said = raw(tmp_path, f'file,label\n0.jpg,{words}\n1.jpg,x\n'.encode('cp1252'))
        assert words in cat.classes and not said
    cat,said = raw(tmp_path, 'file,label\n0.jpg,com\u00e9die\n'.encode()+'1.jpg,com\u00e9die\n2.jpg,x\n'.encode('cp1252'))
    assert cat.classes==['com\u00e9die','x'] and 'mixes encodings' in said and 'line 3' in said
    both = ''.join(f'{f},com\u00e9die,' for f in F[:1]).encode()+'\u00e9\n'.encode('cp1252')+b'1.jpg,x,\n'
    cat,said = raw(tmp_path, b'file,label,title\n'+both)
    assert cat.classes==['com\u00e9die','x'] and cat.df['title'][0]=='\u00e9' and 'mixes encodings' in said
    assert raw(tmp_path, 'file,label\n0.jpg,a\n1.jpg,b"\n')[1].count('quotation mark at one end')==1

def test_damaged_lines_are_counted(tmp_path):
    rows = [json.dumps(dict(file=f, label='ab'[i%2])) for i,f in enumerate(F)]
    assert len(raw(tmp_path, ',\n'.join(rows), 'm.jsonl')[0])==12 and len(raw(tmp_path, '[\n'+',\n'.join(rows)+'\n]', 'm.jsonl')[0])==12
    cat,said = raw(tmp_path, '\n'.join([*rows[:5], rows[5][:-1], *rows[6:11], rows[11][:9]]), 'm.jsonl')
    assert len(cat)==10 and '2 of 12 lines' in said and 'line 6' in said
    with pytest.raises(GenreError, match="no line is a JSON object; the first is 'hello'"): raw(tmp_path, 'hello\nworld', 'm.jsonl')

def test_a_picture_of_another_row(tmp_path):
    posters(tmp_path, 3)
    for name in ('x/2.png', 'x/2', 'C:\\me\\x\\2.gif'):
        cat,_ = heard(lambda: relative_names(['x/0.jpg','x/2.jpg',name], tmp_path))
        assert cat==['x/0.jpg','x/2.jpg',name]
        assert heard(lambda: relative_names(['x/0.jpg',name], tmp_path))[0]==['x/0.jpg','x/2.jpg']

def test_whole_numbers_as_labels(tmp_path):
    for vals in (['1','1.0','2.0'], ['1,0','1,0','2,0'], ['1.00','1','2']):
        cat,said = raw(tmp_path, table(vals).to_csv(index=False, sep=';'))
        assert cat.df['label'].tolist()==['1','1','2'] and 'are whole numbers' in said
    assert Catalog(table([1.0,2.0])).classes==['1','2'] and raw(tmp_path, table(['1.5','2.0']).to_csv(index=False))[0].classes==['1.5','2.0']

def test_columns_of_unequal_length_and_ids_that_repeat(tmp_path):
    for make in (Catalog, catalog_from):
        with pytest.raises(GenreError, match='unequal length: 12 values in `file`, 1 in `label`'): make(dict(file=F, label=['x']))
    cat,said = raw(tmp_path, table(list('abab'), id=['alien','alien','brazil','heat']).to_csv(index=False))
    assert cat.df['film_id'].tolist()==['alien','alien','brazil','heat'] and 'names 3 films' in said
    with pytest.raises(GenreError, match='t.csv: two rows of the catalog, 1 and 2'): raw(tmp_path, table(['a','b'], id=['0123456789abcdef']*2).to_csv(index=False))

# --- films, however their columns and they themselves are written

def films_across(col, vals):
    "How many of 20 films with two posters each a split divides, how many of 20 divided ones `leaks` finds, and what is said"
    df = pd.DataFrame({'file': [f'{i}.jpg' for i in range(40)], 'label': ['ab'[i//20] for i in range(40)], col: vals})
    cat,said = heard(lambda: Catalog(df))
    torn = cat.assign(split=['train','test']*20).leaks()
    return int((cat.split().df.groupby([i//2 for i in range(40)])['split'].nunique()>1).sum()), len(torn), said

number = [i//2+114700 for i in range(40)]

@pytest.mark.parametrize('col', ['imdb_id','IMDB_ID','imdb id','IMDb ID','imdb.id','Film','FILM','Group','MovieID','movieid','TMDB_ID','tconst'])
def test_columns_of_films_in_any_case(col): assert films_across(col, [f'tt{n:07d}' for n in number])==(0, 20, '')

@pytest.mark.parametrize('col', ['movie','Movie','imdb','tmdb','group_id','Groups','movie_title','IMDb Link'])
def test_columns_that_seem_to_name_films(col):
    link = 'https://www.imdb.com/title/' if 'Link' in col else ''
    torn,found,said = films_across(col, [f'{link}tt{n:07d}' for n in number])
    assert (torn,found)==(0,20) and f'`{col}`' in said and 'Call it otherwise' in said

@pytest.mark.parametrize('col', ['movie','groups','group_id'])
def test_a_column_that_says_nearly_always_the_same_joins_nothing(col):
    df = table(list('ab')*6, **{col: ['x']*10+['y','z']})
    cat,said = heard(lambda: Catalog(df))
    assert cat.add_groups().df['group'].nunique()==12 and 'is not used' in said
    for vals in (['x']*12, [0,1]*6, ['yes','no']*6): # nor do marks
        cat,said = heard(lambda: Catalog(table(list('ab')*6, **{col: vals})))
        assert cat.add_groups().df['group'].nunique()==12

@pytest.mark.parametrize('vals', [[7.3,7,8,8]*3, [1,2,3,3]*3, ['7.0','8.0','6.0']*4])
def test_scores_are_no_films(vals):
    cat,said = heard(lambda: Catalog(table(list('ab')*6, imdb=vals, tmdb=vals)))
    assert cat.add_groups().df['group'].nunique()==12 and not said and {'imdb','tmdb'}<=set(cat.df)

def test_a_column_that_surely_names_films_is_enough():
    cat,said = heard(lambda: Catalog(table(list('ab')*6, film_id=range(1,13), movie=list('ab')*6, Film=list('uvwxyz')*2)))
    assert {'film_id','movie','film'}<=set(cat.df) and not said and cat.add_groups().df['group'].nunique()==6
    own = Catalog(cat.df.rename(columns=dict(film='FILM')))
    assert 'FILM' in own.df # a table of ours passes as it is

ways = dict(points=lambda n: (f'{n}', f'{n}.0'), prefix=lambda n: (f'tt{n:07d}', f'{n}'), zeros=lambda n: (f'tt{n:07d}', f'tt{n}'),
    case=lambda n: (f'TT{n:07d}', f'tt{n:07d}'), blanks=lambda n: (f'tt{n:07d} ', f'tt{n:07d}'))
titles = dict(case=lambda n: (f'The Ring {n}', f'the RING {n}'), blanks=lambda n: (f' The  Ring {n}', f'The Ring {n}'),
    nfc=lambda n: (f'Am\u00e9lie {n}', f'Ame\u0301lie {n}'))

@pytest.mark.parametrize('col,way', [('imdb_id', o) for o in ways.values()] + [('film', o) for o in titles.values()] + [('group', ways['points'])])
def test_films_written_otherwise_are_one_film(col, way):
    vals = [way(n)[i%2] for i,n in enumerate(number)]
    assert films_across(col, vals)==(0, 20, '')
    a,b = (Catalog(dict(file=[f'{c}.jpg'], label='x', **{k: [v]})) for c,k,v in zip('ab', (col, col.upper()), vals))
    assert row_keys(a)[0] & row_keys(b)[0]

def test_groups_count_from_zero():
    torn,_,said = films_across('group', [i//2 for i in range(40)])
    assert torn==0 and not said
    for col in ('imdb_id','tmdb_id','movie_id'): assert 'which names no film' in films_across(col, [i//2 for i in range(40)])[2]
    cat,said = heard(lambda: Catalog(table(list('ab')*6, group=[0]*10+[1,1])))
    assert cat.add_groups().df['group'].nunique()==11 and 'names no film' in said # no film has nearly all rows
    assert Catalog(table(list('abab'), group=[0,0.0,1,np.nan])).add_groups().df['group'].nunique()==3

def test_names_of_files_are_no_titles():
    cat = Catalog(table(list('ab'))).assign(group=['a/X.jpg','a/x.jpg'])
    assert cat.add_groups().df['group'].nunique()==2

def test_decades_of_two_centuries():
    cat = Catalog(table(list('xxx'), year=[1925,2025,1984]))
    both,said = heard(lambda: cat.with_target('decade'))
    assert both.classes==['1920s','1980s','2020s'] and '1920s and 2020s would have the same name' in said
    part,said = heard(lambda: both[[0,2]].with_target('decade'))
    assert part.classes==['1920s','1980s'] and not said
    assert heard(lambda: cat[[1,2]].with_target('decade').classes)==(['80s','20s'], '')
