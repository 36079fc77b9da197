"What the interpretation promises beyond the notebook: 50,000 rows in little memory, maps that point at the evidence, reports of plots"
import gc, time, tracemalloc
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from torch import nn
from fastai.vision.all import set_seed
from genre_fastai.core import *
from genre_fastai.catalog.core import *
from genre_fastai.figure import Report
from genre_fastai.predictions import *
from genre_fastai.vision.data import get_dls, image_dl
from genre_fastai.train.learner import poster_learner
from genre_fastai.train.recipes import train
from genre_fastai.interpret.gradcam import *
from genre_fastai.interpret.interpret import *

genres = ('action adventure animation comedy crime documentary drama family fantasy '
    'history horror music mystery romance science-fiction thriller war western').split()
plots = 'plot_confusion_matrix plot_most_confused plot_classification_report plot_calibration plot_roc plot_pr'.split()

def made_up(n, multi, path='.', classes=genres):
    "Rows, and probabilities that agree with their labels more often than not"
    rng = np.random.default_rng(0)
    Y = np.eye(len(classes), dtype=bool)[rng.integers(0, len(classes), n)]
    if multi: Y |= rng.random(Y.shape)<.08
    z = 2.5*Y + rng.normal(size=Y.shape)
    p = 1/(1+np.exp(-z)) if multi else np.exp(z)/np.exp(z).sum(1, keepdims=True)
    labels = ['|'.join(np.array(classes)[o]) for o in Y]
    rows = {'file':[f'{i}.png' for i in range(n)], 'title':[f'Film $ <{i}>' for i in range(n)], 'labels' if multi else 'label':labels}
    return Catalog(rows, path), p.astype(np.float32)

def seconds(cat, probs):
    "CPU that all plots and tables take which read no file: of two times the smaller, and without collecting what other tests left"
    took = []
    for _ in range(2):
        gc.collect()
        gc.disable()
        try:
            start = time.process_time()
            interp = PosterInterpretation(Predictions(cat, probs, genres))
            for v in plots: getattr(interp, v)()
            interp.table(), interp.scores()
            took.append(time.process_time()-start)
        finally: gc.enable()
    return min(took)

@pytest.mark.parametrize('multi', [False,True])
def test_5_000_rows(multi, tmp_path):
    "Every plot within 40 MB on top of the catalog, in at most proportion to the rows; only the shown files are there to be read"
    cat,probs = made_up(5_000, multi, tmp_path)
    worst = PosterInterpretation(Predictions(cat, probs, genres)).top_losses(8)[1]
    for i in worst: Image.new('RGB', (60,90), (int(i)%255,80,80)).save(tmp_path/f'{i}.png')
    interp = PosterInterpretation(Predictions(cat, probs, genres))
    few,many = (seconds(*made_up(n, multi, tmp_path)) for n in (500, 5_000))
    print(f'{many/few:.1f} times the CPU for 10 times the rows')
    assert many < 4*few
    assert interp.plot_top_losses(8).df['row'].tolist()==worst.tolist()
    tracemalloc.start()
    interp = PosterInterpretation(Predictions(cat, probs, genres))
    held = tracemalloc.get_traced_memory()[0]
    interp.plot_top_losses(8)
    for v in plots: getattr(interp, v)()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f'{"multi" if multi else "single"}: held {held/1e6:.0f} MB, peak {peak/1e6:.0f} MB')
    assert held<2.5e6 and peak<40e6

def test_report_takes_plots(tmp_path):
    "Pictures and tables arrive, and titles from a catalog are escaped"
    cat,probs = made_up(12, False, tmp_path)
    for f in cat.files: Image.new('RGB', (40,60)).save(f)
    interp = PosterInterpretation(Predictions(cat, probs, genres))
    report = Report('r').add('Losses', interp.plot_top_losses(3)).add('Confusion', interp.plot_confusion_matrix())
    text = report.save(tmp_path/'r.html').read_text()
    assert text.count('data:image/')==2 and 'Film $ &lt;' in text and 'Film $ <' not in text

def test_absent_classes():
    "A class without rows is NaN in the table, has a panel that says so, and does not spoil the others"
    cat,probs = made_up(200, True)
    cat = cat.assign(labels=['|'.join(o for o in t if o!='war') or 'drama' for t in cat.targets])
    interp = PosterInterpretation(Predictions(cat, probs, genres))
    df = interp.plot_roc().df.set_index('class')
    assert np.isnan(df.loc['war','auc']) and df.drop('war')['auc'].notna().all()
    assert any(t.get_text()=='in none of the rows' for ax in interp.plot_pr().fig.axes for t in ax.texts)

@pytest.fixture(scope='module')
def patches(tmp_path_factory):
    "Noise with a red square (`a`), a blue one (`b`) or, for several labels, both; `at` is the third of the picture where it is"
    path,rng,rows = tmp_path_factory.mktemp('patches'), np.random.default_rng(0), []
    for i in range(72):
        im,at = rng.integers(60, 140, (96,96,3), dtype=np.uint8), rng.integers(0, 3, 2)
        y,x = at*32
        im[y:y+32, x:x+32] = [[230,20,20],[20,20,230]][i%2]
        Image.fromarray(im).save(path/f'{i}.png')
        rows.append(dict(file=f'{i}.png', label='ab'[i%2], split='valid' if i>=48 else 'train', row=at[0], col=at[1]))
    return Catalog(pd.DataFrame(rows), path)

def test_gradcam_finds_the_patch(patches):
    "From file to map: on a trained network whose cells see only their own 16 x 16 pixels, the strongest cell lies in the square"
    set_seed(0)
    conv = lambda ni,nf: nn.Sequential(nn.Conv2d(ni, nf, 2, stride=2), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16,2))
    model = nn.Sequential(nn.Sequential(conv(3,8), conv(8,16), conv(16,16), conv(16,16)), head)
    x = next(iter(image_dl(patches.files, 96, bs=len(patches))))[0].cpu()
    y,seen = torch.tensor(patches.one_hot(['a','b']).argmax(1)), torch.tensor((patches.df['split']=='train').values)
    opt = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        torch.nn.functional.cross_entropy(model(x[seen]), y[seen]).backward()
        opt.step()
        opt.zero_grad()
    hits = []
    valid = patches.where(split='valid')
    for f,r in zip(valid.files, valid.df.to_dict('records')):
        plot = explain(model, f, ['a','b'], 96, cls=r['label'])
        assert plot.maps.shape==(1,6,6) and plot.maps.min()>=0 and plot.df['prob'][0]>.5
        hits.append((plot.df['row'][0]//2, plot.df['col'][0]//2)==(int(r['row']), int(r['col'])))
    assert np.mean(hits)>.9, f'{np.mean(hits):.2f} of the maps point at the square; chance is 0.11'

@pytest.mark.parametrize('arch,grid', [('resnet18',(4,3)), ('mobilenetv3_small_050',(4,3)), ('resnet10t',(4,3))])
@pytest.mark.parametrize('multi', [False,True])
def test_gradcam_of_bodies(patches, arch, grid, multi):
    "torchvision's and timm's bodies, one label and several, without a change of the model"
    cat = patches
    if multi: cat = cat.new(cat.df.drop(columns='label').assign(labels=['a|b' if i%3==0 else t[0] for i,t in enumerate(cat.targets)]))
    learn = poster_learner(get_dls(cat, bs=8, size=(128,96)), arch, weights=None, precision='fp32')
    model,before = learn.model, {k:v.clone() for k,v in learn.model.state_dict().items()}
    interp = PosterInterpretation.from_learner(learn, thresh=0)
    plot = interp.plot_gradcam(3, ['a','b'])
    assert plot.maps.shape==(2,*grid) and plot.maps.min()>=0 and np.isfinite(plot.maps).all()
    assert all(torch.equal(v, before[k]) for k,v in model.state_dict().items()) and all(p.grad is None for p in model.parameters())
    assert np.allclose(plot.df['prob'], interp.probs[3], atol=1e-3)

def test_gradcam_needs_a_map(patches):
    "A body without a map of features is refused, and the model is as before"
    learn = poster_learner(get_dls(patches, bs=8, size=96), 'resnet18', weights=None)
    with pytest.raises(GenreError, match='spatial axes'): learn.gradcam(patches.files[0], layer=learn.model[1][1])
    assert not learn.model[1][1]._forward_hooks
    with pytest.raises(GenreError, match='does not know'): learn.gradcam(patches.files[0], 'c')

def test_real_posters():
    "One quick training on real posters: every plot has figures, none of which is NaN by mistake"
    if not posters_path(): pytest.skip('GENRE_POSTERS is not set')
    cat = read_catalog(posters_path()/'romance_horror_superhero.csv')
    cat = cat.new(cat.df.sample(60, random_state=0)).ok
    cat = cat.assign(split=['train' if i%3 else 'valid' for i in range(len(cat))])
    learn = train(cat, 'stages', arch='tf_efficientnet_lite0', freeze_epochs=1, epochs=0, size=128)
    interp = PosterInterpretation.from_learner(learn)
    for v in plots: assert getattr(interp, v)()._repr_html_()
    assert interp.plot_top_losses(3).df['film'].str.contains(r'\(\d{4}\)').all()
    assert len(interp.plot_gradcam(0).maps)
