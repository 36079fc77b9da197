"Poster and text together: fastai's batches by the quick way, words of training rows only, films that lack one, and Kaggle's table by commands"
import contextlib, json, sys, warnings
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from fastai.vision.all import Learner, Module, Pipeline, TensorImage, TfmdDL, aug_transforms, load_learner, nn, plt, set_seed
from fastai.text.data import TensorText
from genre_fastai.catalog.blank import blank_file, blank_name, is_blank
from genre_fastai.catalog.build import build_catalog
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.core import GenreError
from genre_fastai.sample.site import SampleSite
from genre_fastai.tables import TableWarning
from genre_fastai.text.data import join_texts, parse_modalities, text_mask
from genre_fastai.text.tokens import SentenceTokenizer, WordTokenizer
from genre_fastai.text.embed import has_text
from genre_fastai.train.learner import PosterLearner
from genre_fastai.vision.data import get_dls, poster_mask
from genre_fastai.vision.seen import check_unseen, row_keys

plots = dict(horror='A ghost haunts the old house of a vampire.', romance='They meet in Paris and marry.', comedy='A clown falls from the stage.')
words = lambda **kw: WordTokenizer(**{**dict(clean=False, min_count=1, length=12), **kw})

def picture(path, seed, size=(60,90)):
    "A picture of coloured squares"
    a = np.random.default_rng(seed).integers(0, 255, (12,8,3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(a).resize(size, Image.Resampling.NEAREST).save(path)

@pytest.fixture(scope='module')
def cat(tmp_path_factory):
    "24 films, the first without a poster, each fifth without an overview; each film's number is a word that no other has"
    root = tmp_path_factory.mktemp('films')
    for i in range(24): picture(root/f'{i}.png', i)
    label = [[*plots][i%3] for i in range(24)]
    cat = Catalog(dict(file=[f'{i}.png' for i in range(24)], label=label, title=[f'Film {i}' for i in range(24)], year=[str(1970+10*(i%4)) for i in range(24)],
        overview=[f'{plots[l]} film{i}' if i%5 else '' for i,l in enumerate(label)], split=[['train','train','valid','test'][i//3%4] for i in range(24)]), root)
    file = blank_file(root).relative_to(root).as_posix()
    return cat.assign(file=[file, *cat.df['file'][1:]], overview=[plots['horror'], *cat.df['overview'][1:]])

def slow(dl):
    "The same rows in fastai's own loader"
    return TfmdDL(dl.dataset, bs=dl.bs, num_workers=0, **{o: Pipeline(getattr(dl, o).fs) for o in ('after_item','after_batch')})

def same(a, b):
    a,b = list(a),list(b)
    assert len(a)==len(b)
    for p,q in zip(a, b):
        assert [*map(type, p)]==[*map(type, q)]
        for s,t in zip(p, q): assert s.dtype==t.dtype and torch.equal(s, t)

class Both(Module):
    "A network that looks at the mean colour and at the words"
    def __init__(self, n, c): self.emb,self.lin = nn.Embedding(n, 4, padding_idx=0),nn.Linear(7, c)
    def forward(self, x, t): return self.lin(torch.cat([x.as_subclass(torch.Tensor).mean((2,3)), self.emb(t.as_subclass(torch.Tensor)).mean(1)], 1))

class Words(Module):
    def __init__(self, n, c): self.emb = nn.Embedding(n, c)
    def forward(self, t): return self.emb(t.as_subclass(torch.Tensor)).mean(1)

# --- batches

@pytest.mark.parametrize('cached', [False, True])
@pytest.mark.parametrize('modalities', ['poster,overview', ('poster','title','overview'), 'overview'])
def test_the_quick_way_gives_fastais_batches(cat, tmp_path, modalities, cached):
    dls = get_dls(cat, modalities=modalities, tokenizer=words(), size=(48,32), bs=5, batch_tfms=[], cache_pixels=tmp_path if cached else None)
    kinds = ['TensorImage']*('poster' in modalities) + ['TensorText','TensorCategory']
    assert [type(o).__name__ for o in dls.one_batch()]==kinds and dls.train.n_inp==dls.valid.n_inp==len(kinds)-1
    for dl in (dls.valid, dls.test_dl(cat), dls.test_dl(cat.where(split='test'), with_labels=True)):
        assert dl.source() is not None and dl.n_inp==len(kinds)-1
        same(slow(dl), dl)
    assert (dls.valid.find() is not None)==(cached and 'poster' in modalities)
    train = dls.train.new(shuffle=False, drop_last=False)
    same(slow(train), train)

def test_a_poster_alone_is_as_before(cat):
    with pytest.warns(UserWarning, match='1 of 24 rows have no poster, and take no part'): dls = get_dls(cat, size=(48,32), bs=5, batch_tfms=[])
    assert dls.modalities==('poster',) and dls.tokenizer is None and len(dls.cat)==23
    assert [type(o).__name__ for o in dls.one_batch()]==['TensorImage','TensorCategory'] and dls.valid.source() is not None
    assert len(list(dls.test_dl(cat))[0])==1

def test_words_of_training_rows_only(cat):
    mine = words()
    dls = get_dls(cat, modalities='poster,overview', tokenizer=mine, size=32)
    seen = set(dls.tokenizer.words)
    for i,(split,text) in enumerate(zip(cat.df['split'], cat.df['overview'])):
        if f'film{i}' in text: assert (f'film{i}' in seen)==(split=='train')
    assert mine.words is None # a copy was fitted
    rows = cat.where(split='valid')
    t = dls.test_dl(rows[np.array([bool(o) for o in rows.df['overview']])]).one_batch()[1]
    assert ((t==1).sum(1)==1).all() # its number is the one word that is not known

def test_several_labels_and_decades(cat):
    many = Catalog(cat.df.drop(columns='label').assign(labels=cat.df['label']+'|film'), cat.path)
    for modalities,n in (('poster,overview', 3), ('overview', 2)):
        dls = get_dls(many, modalities=modalities, size=32, tokenizer=words()) if n==3 else get_dls(many, modalities=modalities, tokenizer=words())
        b = dls.valid.one_batch()
        assert len(b)==n and type(b[-1]).__name__=='TensorMultiCategory' and b[-1].shape[1]==4 and dls.valid.source() is not None
    dls = get_dls(cat, modalities='poster,title', target='decade', size=32, tokenizer=words())
    assert dls.vocab==['70s','80s','90s','00s']
    assert [dls.vocab[i] for i in dls.valid.one_batch()[-1]]==dls.cat.where(split='valid').df['label'].tolist()

@pytest.mark.skipif(not has_text(), reason='the extra text')
def test_pieces_of_words(cat):
    dls = get_dls(cat, modalities='poster,overview', tokenizer='sentence', size=32, bs=5)
    t = dls.valid.one_batch()[1]
    assert isinstance(dls.tokenizer, SentenceTokenizer) and t.shape[1]==128 and 'haunts' in ' '.join(dls.tokenizer.decode(o) for o in t)

def test_augmentation_leaves_words_and_blank_posters(cat):
    kw = dict(modalities='poster,overview', size=(48,32), bs=16, tokenizer=words())
    for tfms in (None, aug_transforms(max_rotate=30, max_zoom=1.5, max_lighting=.6, p_affine=1, p_lighting=1)):
        dls = get_dls(cat, batch_tfms=tfms, **kw)
        train = dls.train.new(shuffle=False, drop_last=False)
        for loader in (train, slow(train)): # in blocks, and by fastai
            set_seed(3)
            (x,t,_),(x2,t2,_) = next(iter(loader)),next(iter(loader))
            assert torch.equal(t, t2) and not torch.equal(x, x2) and torch.equal(t, train.source()[1][0])
            for o in (x, x2, (x-.45)/.22, x.half(), x.bfloat16()): assert poster_mask(o).tolist()==[False]+[True]*(len(x)-1)
    raw = TensorImage(torch.from_numpy(train.source()[0](range(3))))
    assert raw.dtype==torch.uint8 and poster_mask(raw).tolist()==[False,True,True]

# --- predictions, export, what is shown

def test_learners_predict_catalogs_and_are_exported(cat, tmp_path):
    for modalities,net in (('poster,overview', Both), ('overview', Words)):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore') # rows without an overview are left out of the text's training
            dls = get_dls(cat, modalities=modalities, size=(48,32), bs=8, tokenizer=words()) if net is Both else get_dls(cat, modalities=modalities, bs=8, tokenizer=words())
        learn = PosterLearner(dls, net(dls.tokenizer.vocab_size, 3), path=tmp_path)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
        p = learn.predictions(cat)
        assert p.probs.shape==(24,3) and p.cat.df['id'].tolist()==cat.df['id'].tolist()
        order = np.random.default_rng(0).permutation(24)
        assert np.allclose(learn.predictions(cat[order]).probs, p.probs[order], atol=1e-6)
        learn.export('both.pkl')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            again = load_learner(tmp_path/'both.pkl')
        assert again.dls.modalities==dls.modalities and len(again.dls.cat)==0 and again.dls.tokenizer.words==dls.tokenizer.words
        assert np.allclose(again.predictions(cat).probs, p.probs, atol=1e-6)
        with learn.no_bar(): learn.show_results(max_n=3)
        plt.close('all')
    assert Path(tmp_path/'models').exists() is False

def test_texts_alone_need_no_files(cat, tmp_path):
    bare = Catalog(cat.df.drop(columns='file'), tmp_path).assign(overview=cat.df['title']+' '+cat.df['overview'])
    dls = get_dls(bare, modalities='overview', tokenizer=words(), bs=8)
    learn = PosterLearner(dls, Words(dls.tokenizer.vocab_size, 3), path=tmp_path)
    assert len(learn.predictions(bare).probs)==24
    assert torch.equal(dls.test_dl(['a ghost', 'zzz']).one_batch()[0][1], torch.tensor([1]+[0]*11))
    with pytest.raises(GenreError, match='reads texts'): dls.test_dl([np.zeros((8,8,3), np.uint8)])

def test_what_is_missing_is_masked(cat):
    dls = get_dls(cat, modalities=('poster','title','overview'), tokenizer=words(), size=(48,32))
    film = dict(file='1.png', title='Film', overview='A ghost.')
    for row,masks in ((film, (True,True)), ({**film, 'file':''}, (False,True)), ({**film, 'title':'', 'overview':' '}, (True,False)), (dict(title='A', overview=''), (False,True))):
        x,t = dls.test_dl(row).one_batch()
        assert (poster_mask(x).item(), text_mask(t).item())==masks
    im = Image.open(cat.path/'1.png').convert('RGB')
    x,t = dls.test_dl(pd.DataFrame(dict(file=[im, ''], title='', overview=['A ghost.', '']))).one_batch() # a picture in memory, and nothing at all
    assert poster_mask(x).tolist()==text_mask(t).tolist()==[True,False]
    x,t = dls.test_dl([im, str(cat.path/'2.png')]).one_batch()
    assert poster_mask(x).tolist()==[True,True] and text_mask(t).tolist()==[False,False]
    with pytest.raises(GenreError, match='no column `overview`'): dls.test_dl(cat.df[['file','title']])
    with pytest.raises(GenreError, match='1 of 1 files are not there'): dls.test_dl(dict(film, file='gone.png'))
    with pytest.raises(GenreError, match='no labels'): dls.test_dl(list(cat.files[1:3]), with_labels=True)
    with pytest.raises(GenreError, match="no column 'plot'"): get_dls(cat, modalities='poster,plot')
    with pytest.raises(GenreError, match='is no modality'): get_dls(cat, modalities='poster,label')

def test_what_is_shown(cat, capsys):
    from genre_fastai.vision import data as vision_data
    dls = get_dls(cat, modalities='poster,overview', tokenizer=words(), size=(48,32), bs=16, batch_tfms=[], seed=1)
    train = dls.train.new(shuffle=False, drop_last=False)
    train.show_batch(max_n=4, film=True)
    said = [' '.join(o.get_text().split()) for ax in plt.gcf().axes for o in ax.texts]
    titles = [ax.get_title() for ax in plt.gcf().axes]
    assert titles[1]=='romance\nFilm 1 (1980)' and said[0]=='a ghost haunts the old house of a vampire .' and '(no poster)' in said
    wide,high = plt.gcf().get_size_inches()
    many = [(*o[:2], ['Science Fiction']*9) for o in train._pre_show_batch(train.one_batch(), max_n=4)[2]]
    vision_data._show_texts(many, [(['Documentary']*9,)]*4) # long labels get the height that they need
    assert plt.gcf().get_size_inches()[1] > high+.3
    dls.show_batch(max_n=2, unique=True)
    assert len({ax.get_title() for ax in plt.gcf().axes})==1 and 'get_idxs' not in dls.train.__dict__
    plt.close('all')
    words_alone = get_dls(cat.assign(overview=cat.df['title']+' $5'), modalities='overview', tokenizer=words(), bs=4)
    words_alone.show_batch(max_n=2, film=True)
    assert not plt.get_fignums() and words_alone.train.show_batch(show=False, max_n=2)[2]

# --- films without a poster

def films(tmp_path, n=30, **kw):
    "Films of which each sixth has no poster; two films have two rows"
    for i in range(n): picture(tmp_path/f'p/{i}.png', 100+i, (182,268))
    status = ['failed' if i%6==0 else 'ok' for i in range(n)]
    cat = Catalog(dict(file=['' if s=='failed' else f'p/{i}.png' for i,s in enumerate(status)], status=status, reason=['http 404' if s=='failed' else '' for s in status],
        label=[[*plots][i%3] for i in range(n)], imdb_id=[f'tt{i+100}' for i in range(n)], overview=[f'Plot {i}.' if i!=6 else '' for i in range(n)], **kw), tmp_path)
    return cat

def test_films_without_a_poster_take_part(tmp_path):
    from genre_fastai.features.extract import extract_features
    source = films(tmp_path)
    cat = build_catalog(source, keep_films='overview', progress=False)
    blank = is_blank(cat.df['file'])
    assert blank.sum()==4 and len(cat.ok)==29 and set(cat.df['reason'][blank])=={'no poster: http 404'} and set(cat.df['sha256'][blank])=={''}
    assert len(build_catalog(source, progress=False).ok)==25 # nobody asked for them
    assert not len(cat.leaks()) and not len(cat.pairs) and cat.df['group'][blank].is_unique and set(cat.df['split'][blank])-{''}
    cat.ok.check_files()
    cat.save(tmp_path/'c.csv')
    again = read_catalog(tmp_path/'c.csv')
    assert again.df.equals(cat.df) and build_catalog(tmp_path/'c.csv', progress=False).hash==cat.hash
    cat.save(tmp_path.parent/'above.csv')
    above = read_catalog(tmp_path.parent/'above.csv')
    assert is_blank(above.df['file']).tolist()==blank.tolist() and build_catalog(above, progress=False).hash==cat.hash
    more = build_catalog(above, resplit=True, seed=7, progress=False)
    assert len(more.ok)==29 and not len(more.leaks())
    folds = cat.ok.folds(3)
    assert len(set(folds[is_blank(cat.ok.df['file'])]))>1 # they are no group of copies
    with pytest.warns(TableWarning, match='4 of 29 rows have no poster'): assert not list(cat.to_folders(tmp_path/'out').rglob('poster.png'))
    assert 'Without a poster' in str(cat.card())
    feats = extract_features(cat.ok, arch='resnet18', weights=None, size=(32,32), progress=False)
    assert len(feats)==29
    X = feats.of(cat.ok[is_blank(cat.ok.df['file'])]).X
    assert np.ptp(X, axis=0).max()==0
    assert len(cat.find_duplicates(features=feats, progress=False))==0

def test_blank_rows_are_no_test_rows_that_were_seen(tmp_path):
    "A body that saw one blank row has seen no other"
    cat = build_catalog(films(tmp_path), keep_films='overview', progress=False).ok
    keys = row_keys(cat)
    blank = np.flatnonzero(is_blank(cat.df['file']))
    for i in blank:
        for j in blank: assert i==j or not keys[i] & keys[j]

def test_rows_without_films_are_films_of_their_own(tmp_path):
    "No column names the film, and all files are the same: still no two of them belong together, and none is a repeat of a file"
    source = films(tmp_path)
    source = Catalog(source.df.drop(columns=['imdb_id']), tmp_path)
    cat = build_catalog(source, keep_films='overview', progress=False)
    assert cat.df['group'][is_blank(cat.df['file'])].is_unique
    cat.save(tmp_path/'c.csv')
    assert build_catalog(tmp_path/'c.csv', progress=False).hash==cat.hash

def test_a_film_takes_part_once(tmp_path):
    "It has a poster elsewhere, or several rows that failed, or nobody knows its label"
    source = films(tmp_path)
    ids = source.df['imdb_id'].tolist()
    ids[0],ids[18] = ids[1],ids[12]     # 0 has a poster as row 1; 18 is the film of 12
    cat = source.assign(imdb_id=ids).keep_films()
    assert np.flatnonzero(is_blank(cat.df['file'])).tolist()==[12,24] and cat.df['status'][18]=='failed'
    label = source.df['label'].tolist()
    label[18] = 'romance'
    assert np.flatnonzero(is_blank(source.assign(imdb_id=ids, label=label).keep_films().df['file'])).tolist()==[24]
    assert source.assign(overview='N/A').keep_films() is not None and not is_blank(source.assign(overview='N/A').keep_films().df['file']).any()
    with pytest.raises(GenreError, match="no column 'plot'"): source.keep_films('plot')

# --- Kaggle's own file

def run(*args):
    "A command in this process: its exit code"
    from genre_fastai.cli import main
    with pytest.raises(SystemExit) as e, contextlib.suppress(KeyboardInterrupt): main([str(o) for o in args]) or sys.exit(0)
    return e.value.code or 0

def movies_metadata(paths):
    "A table of the shape that Kaggle documents for The Movies Dataset, with its oddities"
    genre = [[{'id':27,'name':'Horror'}], [{'id':10749,'name':'Romance'},{'id':35,'name':'Comedy'}], [{'id':35,'name':'Comedy'}]]
    for i,p in enumerate(paths):
        yield dict(adult='False', belongs_to_collection=str({'id':1,'name':'A Collection'}) if i%4==0 else '', budget='0', genres=str(genre[i%3]), homepage='', id=str(862+i),
            imdb_id=f'tt{114709+i:07d}', original_language='en', original_title=f'Film {i}', overview='' if i%7==3 else f'Plot {i}, with "quotes",\nand a second line.',
            popularity='21.9', poster_path=p, production_companies='[]', production_countries='[]', release_date=f'{1970+i}-10-30', revenue='0', runtime='81.0',
            spoken_languages="[{'iso_639_1': 'en', 'name': 'English'}]", status='Released', tagline='', title=f'Film {i}', video='False', vote_average='7.7', vote_count='5415')

def test_kaggles_table_to_two_modalities(tmp_path, monkeypatch, capsys):
    "`urls kaggle`, `download`, `catalog --keep-films overview`, loaders of poster and overview, and `train --modalities`"
    from genre_fastai.multimodal import fusion
    monkeypatch.setattr(fusion, 'has_text', lambda *_: False) # words alone: quick
    monkeypatch.chdir(tmp_path)
    for i in range(30): picture(tmp_path/f'site/{i}.jpg', i, (182,268))
    served = Catalog(dict(file=[f'{i}.jpg' for i in range(30)], label='x', title='', year='', fault='', url_path=[f'/p{i}.jpg' for i in range(30)]), tmp_path/'site')
    paths = [f'/p{i}.jpg' if i not in (4,10) else f'/gone{i}.jpg' for i in range(30)] # 10 has no overview either
    pd.DataFrame(movies_metadata(paths)).to_csv('movies_metadata.csv', index=False)
    assert run('urls', 'kaggle', 'movies_metadata.csv', '--out', 'list.csv')==0, capsys.readouterr().err
    listed = Path('list.csv').read_text()
    assert listed.count('https://image.tmdb.org/t/p/w342/')==30
    with SampleSite(served) as site:
        Path('list.csv').write_text(listed.replace('https://image.tmdb.org/t/p/w342', site.url))
        assert run('download', 'list.csv', '--dest', 'p', '--allow-private')==0, capsys.readouterr().err
    assert run('catalog', 'p/journal.jsonl', '--out', 'p/bare.csv')==0 and len(read_catalog('p/bare.csv').ok)==28
    assert run('catalog', 'p/journal.jsonl', '--out', 'p/c.csv', '--keep-films', 'overview')==0, capsys.readouterr().err
    cat = read_catalog('p/c.csv')
    row = {r['imdb_id']: r for _,r in cat.df.iterrows()}
    assert row['tt0114709']['overview']=='Plot 0, with "quotes", and a second line.' and row['tt0114709']['title']=='Film 0' and len(cat)==30
    assert row['tt0114713']['status']=='ok' and row['tt0114713']['file']==blank_name and row['tt0114713']['reason'].startswith('no poster: ')
    assert row['tt0114719']['status']=='failed' and row['tt0114712']['status']=='ok' and row['tt0114712']['overview']=='' and len(cat.ok)==29
    assert cat.multi and set(cat.classes)=={'Horror','Romance','Comedy'}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # so few films
        dls = get_dls(cat, modalities='poster,overview', tokenizer=words(), size=(48,32))
    x,t = (torch.cat(o) for o in list(zip(*dls.test_dl(cat.ok, with_labels=True)))[:2])
    assert (~poster_mask(x)).sum()==1 and (~text_mask(t)).sum()==int((cat.ok.df['overview']=='').sum())==3
    assert run('train', 'p/c.csv', '--modalities', 'poster,overview', '--out', 'm', '--no-evaluate')==0, capsys.readouterr().err
    capsys.readouterr()
    assert run('predict', 'm', 'p/'+row['tt0114709']['file'], '--overview', row['tt0114709']['overview'])==0 and 'Horror' in capsys.readouterr().out
    assert run('catalog', 'p/journal.jsonl', '--out', 'p/d.csv', '--keep-films', 'plot')!=0 and "no column 'plot'" in capsys.readouterr().err

def test_views_and_loading_processes(cat, tmp_path):
    "Test-time augmentation changes the posters alone; processes give the same batches"
    kw = dict(modalities='poster,overview', size=(48,32), bs=8, tokenizer=words())
    dls = get_dls(cat, **kw)
    learn = PosterLearner(dls, Both(dls.tokenizer.vocab_size, 3), path=tmp_path)
    plain,views = learn.predictions(cat),learn.predictions(cat, tta=1)
    assert views.probs.shape==(24,3) and not np.array_equal(views.probs, plain.probs)
    work = get_dls(cat, num_workers=1, **kw)
    assert work.valid.source() is None
    same(work.valid, dls.valid)
