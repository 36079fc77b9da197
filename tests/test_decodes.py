"Each picture is decoded once in its life: from its address over catalog, training and features to the cleaner's first page"
import random, threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import pandas as pd, pytest
from PIL import ImageFile
from genre_fastai.all import build_catalog, download_posters, extract_features, get_dls, poster_learner
from genre_fastai.clean.widget import ImageCleaner
from genre_fastai.sample.drawing import draw_poster, genres

@pytest.fixture
def cache(tmp_path, monkeypatch): monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))

@pytest.fixture
def urls(tmp_path):
    "Addresses of 40 drawn posters on loopback"
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    (tmp_path/'site').mkdir()
    df = pd.DataFrame([dict(file=f'{i}.jpg', label=genres[i%3], title=f'Film {i}', year=str(1980+i)) for i in range(40)])
    for i,r in df.iterrows(): draw_poster(r['label'], random.Random(i)).save(tmp_path/'site'/r['file'])
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(tmp_path/'site')))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield df.assign(url=[f'http://127.0.0.1:{server.server_port}/{f}' for f in df['file']])[['url','label','title','year']]
    server.shutdown()

@pytest.fixture
def decodes(monkeypatch):
    "A counter of the pictures that Pillow decodes"
    n,load = Counter(), ImageFile.ImageFile.load
    def counted(self):
        if self.tile: n['decodes'] += 1
        return load(self)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', counted)
    return n

def first_page(cat):
    "The pictures that the cleaner shows first"
    c = ImageCleaner(cat, Path(cat.path)/'cleaning.jsonl')
    m,_ = c.answer(dict(ask='page', view_id='a', seq=1))
    got,pictures = c.answer(dict(ask='pictures', ids=[o['id'] for o in m['rows']], view_id='a', seq=2))
    c.thumbs.pool.shutdown()
    assert len(pictures)==len(m['rows'])>0, got

def test_from_address_to_trained_model_each_picture_is_decoded_once(cache, urls, decodes, tmp_path):
    got = download_posters(urls, tmp_path/'got', allow_private=True, progress=False, cache_pixels=True)
    assert len(got.ok)==len(urls)==decodes['decodes']
    cat = build_catalog(got, cache_pixels=True, progress=False)
    dls = get_dls(cat, cache_pixels=True, bs=8)
    feats = extract_features(cat)
    learn = poster_learner(dls, 'PosterCNN')
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    learn.predictions(cat.where(split='valid'))
    first_page(cat)
    assert len(feats)==len(cat.ok) and decodes['decodes']==len(urls)

def test_a_second_catalog_another_split_or_policy_decodes_nothing(cache, urls, decodes, tmp_path):
    got = download_posters(urls, tmp_path/'got', allow_private=True, progress=False)
    folder = got.path/'images'
    a = build_catalog(folder.parent/'journal.jsonl', progress=False)
    b = build_catalog(folder.parent/'journal.jsonl', progress=False, seed=1)
    c = build_catalog(folder.parent/'journal.jsonl', progress=False, policy=dict(blurry='drop', dark='drop'))
    assert decodes['decodes']==len(urls)
    assert a.df['sha256'].tolist()==b.df['sha256'].tolist()==c.df['sha256'].tolist()
    assert a.df['split'].tolist()!=b.df['split'].tolist()
