"Several labels a poster, from the loss to the model folder: what is trained, judged, kept and said"
import json, math
import numpy as np, pandas as pd, pytest, torch
from torch.nn import functional as F
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog
from genre_fastai.predictions import Predictions
from genre_fastai.train import recipes
from genre_fastai.train.losses import AsymmetricLoss
from genre_fastai.train.learner import check_loss, multi_metrics
from genre_fastai.train.recipes import recipe_settings, train

# --- the loss

def test_without_exponents_and_margin_it_is_bce():
    x,y = torch.randn(20, 6, generator=torch.manual_seed(0))*5,(torch.arange(120).reshape(20,6)%4==0).float()
    a,b = (x.clone().requires_grad_() for _ in range(2))
    one,two = AsymmetricLoss(0, 0, 0)(a, y),F.binary_cross_entropy_with_logits(b, y)
    one.backward(), two.backward()
    assert one.item()==pytest.approx(two.item(), abs=1e-6) and torch.allclose(a.grad, b.grad, atol=1e-7)

@pytest.mark.parametrize('p,y,kw,expected', [(.8, 1, {}, -math.log(.8)), (.8, 0, {}, .75**4*-math.log(.25)), (.05, 0, {}, 0),
    (.6, 1, dict(gamma_pos=1), .4*-math.log(.6)), (.6, 0, dict(gamma_neg=2, margin=0), .6**2*-math.log(.4))])
def test_by_hand(p, y, kw, expected):
    assert AsymmetricLoss(**kw)(torch.tensor([[math.log(p/(1-p))]]), torch.tensor([[float(y)]])).item()==pytest.approx(expected, abs=1e-6)

def test_an_easy_absent_label_moves_nothing():
    x = torch.logit(torch.tensor([[.001,.02,.049,.06,.5]])).requires_grad_()
    AsymmetricLoss()(x, torch.zeros(1,5)).backward()
    assert (x.grad[0,:3]==0).all() and (x.grad[0,3:]>0).all()

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('kw', [{}, dict(gamma_pos=.5, gamma_neg=.5), dict(margin=0)])
def test_it_is_finite_everywhere(dtype, kw):
    x = torch.tensor([[-6e4,-90,-5,0,5,90,6e4]]).to(dtype).requires_grad_(True)
    for y in (0.,1.):
        x.grad = None
        AsymmetricLoss(**kw)(x, torch.full((1,7), y)).backward()
        assert x.grad.isfinite().all()

def test_what_cannot_be_meant_is_refused():
    for kw,says in ((dict(loss='asymmetric', multi=False), 'several labels'), (dict(loss='hinge', multi=True), "'bce' or 'asymmetric'"),
        (dict(loss='asymmetric', multi=True, balance=True), 'by itself')):
        with pytest.raises(GenreError, match=says): check_loss(**kw)
    with pytest.raises(GenreError, match='`thresholds`'): recipe_settings(thresholds='all')

def test_metrics_do_not_flatter_who_says_nothing():
    f1,auc = multi_metrics()
    y,p = torch.eye(4)[:3].int(),torch.full((3,4), .1)
    assert f1(p>.5, y)==0 and auc(p, y)==.5 # the last label has no rows

# --- judged on rows that thresholds were not fitted on

def valid_rows(n=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = ['|'.join(c for c in 'abc' if rng.random()<.4) or 'a' for _ in range(n)]
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(n)], labels=labels, split='valid'))
    return Predictions(cat, rng.random((n,3)), 'abc')

def test_the_judged_half_does_not_fit_its_own_thresholds():
    preds = valid_rows()
    fold = preds.cat.folds(2)
    said = recipes._cross_fitted(preds, 'each').pred
    Y = [t if f else ['a'] for t,f in zip(preds.cat.targets, fold)] # other labels in one half
    other = Predictions(Catalog(preds.cat.df.assign(labels=['|'.join(t) for t in Y])), preds.probs, 'abc')
    for i in (0,1):
        t = recipes.fit_thresholds(preds.of(preds.cat[fold!=i]), 'each')
        assert (said[fold==i]==recipes.over_thresh(preds.probs[fold==i], t)).all()
    t = recipes.fit_thresholds(other.of(other.cat[fold==1]), 'each') # these labels are as they were
    assert (said[fold==0]==recipes.over_thresh(preds.probs[fold==0], t)).all()

@pytest.mark.parametrize('n', [1, 2, 3])
def test_few_validation_rows_are_enough(n):
    assert len(recipes._cross_fitted(valid_rows(n), 'each'))==n
