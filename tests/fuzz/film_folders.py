"Folders of models that read, changed at random from a seed: what `make fuzz FUZZ=films` tries"
from pathlib import Path
from types import SimpleNamespace
import numpy as np, torch
from PIL import Image
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.deploy.multimodal import FilmPredictor
from genre_fastai.multimodal.fusion import LinearFusion
from genre_fastai.multimodal.models import PosterEncoder, PosterPlotNet, PosterTextNet
from genre_fastai.text.models import WordLSTM
from genre_fastai.text.tokens import WordTokenizer
from genre_fastai.train.callbacks import RunInfo
from genre_fastai.vision.data import get_dls
from genre_fastai.vision.models import make_body
from genre_fastai.vision.weights import load_pretrained
from .runner import rss

def _catalog(folder):
    rng,rows = np.random.default_rng(0), []
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (20,20,3), dtype=np.uint8)).save(folder/f'{i}.png')
        rows.append(dict(file=f'{i}.png', label='ab'[i%2], overview=['a scream in a house','a wedding in paris'][i%2], split=['train','train','valid'][i//2%3], status='ok'))
    return Catalog(rows, folder)

def _network(cat, modalities, plot=False, **kw):
    "What a folder is saved from: a learner that was never trained"
    dls = get_dls(cat, size=(50,48), bs=4, modalities=modalities, tokenizer=WordTokenizer(clean=False, length=8, min_count=1))
    net,poster = None,None
    if 'poster' in dls.modalities and not plot:
        net = load_pretrained('test_efficientnet', None)
        body,nf,_,is_map = make_body(net)
        poster = PosterEncoder(body, nf, pool=is_map)
    n = dls.tokenizer.vocab_size
    if plot: model = PosterPlotNet(n, 2, np.ones((n,3)))
    else: model = PosterTextNet(poster, WordLSTM(n, np.zeros((n,5)), dims=6, layers=1), 2, **kw)
    return SimpleNamespace(dls=dls, model=model.eval(), run_info=RunInfo(pretrained=net))

def small_films(folder):
    "Folders of each kind: a gated network, article 2's, one of texts alone, a fusion of texts"
    folder = Path(folder)
    torch.manual_seed(0)
    cat = _catalog(folder)
    learns = dict(gated=_network(cat, 'poster,overview', fusion='gated', hidden=8), plot=_network(cat, 'poster,overview', plot=True),
        words=_network(cat, 'overview', fusion='late', hidden=8), fusion=LinearFusion(('overview',), text=None).fit(cat))
    return [save_predictor(o, folder/k) for k,o in learns.items()]

def check(folder, megabytes=300):
    "A folder gives a model that predicts numbers of posters and texts, or a `GenreError` that says why, in little memory"
    before = rss()
    try:
        m = load_predictor(folder)
        assert repr(m) and isinstance(m, FilmPredictor)
        pixels = {o: np.random.default_rng(0).integers(0, 256, (2,3,*o), dtype=np.uint8) for o in m.sizes}
        texts = {o: ['a scream in a house',''] for o in m.columns}
        if all(h*w<=224*224 for h,w in m.sizes): assert m.batch_probs(pixels, np.array([True,False]), texts).shape==(2,len(m.vocab))
    except GenreError as e: assert str(e).strip() and len(str(e))<2000
    assert rss()-before<megabytes, f'{rss()-before:,.0f} MB more'
