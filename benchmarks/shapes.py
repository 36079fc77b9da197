"Crop, squish, pad or rectangle for posters? Accuracy of a linear probe (or of fine-tuning), over several seeds, with intervals"
import argparse, tempfile
import numpy as np, pandas as pd

shapes = {'crop 224 x 224': dict(size=224, method='crop'), 'squish 224 x 224': dict(size=224, method='squish'),
          'pad 224 x 224': dict(size=224, method='pad'), 'rectangle 256 x 176': dict(size=(256,176), method='squish')}
rectangle = 'rectangle 256 x 176'

def load(posters, n, seed=0):
    "A catalog of real posters from a csv, without its doubtful rows, or of drawn ones"
    from genre_fastai.catalog.core import read_catalog
    from genre_fastai.sample.dataset import make_sample
    if not posters: return make_sample(tempfile.mkdtemp(), n=n or 240, seed=1).where(kind='clean')
    cat = read_catalog(posters)
    if 'clean' in cat.df: cat = cat.where(clean='1')
    return cat.new(cat.df.sample(min(n, len(cat)), random_state=seed)) if n else cat

def folds(cat, seed, k=4):
    "Training and validation rows of `k` folds, the same for all shapes: posters of a film stay together, classes keep their shares"
    from sklearn.model_selection import StratifiedGroupKFold
    film = cat.df['imdb_id'] if 'imdb_id' in cat.df else cat.df['file']
    return list(StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(film, cat.df['label'], film))

def features(cat, arch, weights, size, method):
    "Averages and maxima of the last feature maps: (rows, 2 x channels)"
    import torch
    from genre_fastai.core import keep_memory
    from genre_fastai.features.extract import pooled_body
    from genre_fastai.vision.data import image_dl
    from genre_fastai.vision.weights import load_pretrained
    keep_memory()
    net = load_pretrained(arch, weights)
    f,dl = pooled_body(net, 'avgmax'), image_dl(cat.files, size, method, stats=net.stats, bs=32)
    with torch.inference_mode(): return np.concatenate([f(x).cpu().numpy() for x, in dl])

def probe(feats, Y, folds):
    "For each row: is a linear classifier right that was trained on the other folds?"
    from genre_fastai.features.probe import LinearProbe
    right = np.full(len(Y), np.nan)
    for tr,va in folds: right[va] = LinearProbe(C=1e-3).fit(feats[tr], Y[tr]).predict_proba(feats[va]).argmax(1)==Y[va].argmax(1)
    return right

def finetune(cat, arch, weights, folds, seed, folder, size, method, epochs):
    "For each row of the first fold: is a network right that was fine-tuned on the others? The other rows are nan"
    from fastai.vision.all import set_seed
    from genre_fastai.vision.data import get_dls
    from genre_fastai.train.learner import poster_learner
    import genre_fastai.train.recipes # it gives a Learner `fit_stages`
    set_seed(seed, reproducible=True)
    va,split = folds[0][1], np.full(len(cat), 'train', dtype=object)
    split[va] = 'valid'
    dls = get_dls(cat.assign(split=split), seed=seed, size=size, method=method, cache_pixels=folder)
    learn = poster_learner(dls, arch, weights)
    with learn.no_bar(), learn.no_logging(): learn.fit_stages(epochs, epochs)
    probs,targs = learn.get_preds()
    right = np.full(len(cat), np.nan)
    right[va] = (probs.argmax(1)==targs).numpy()
    return right

def mean_pm(v):
    "Mean and half width of the 95 % interval over posters"
    v = v[~np.isnan(v)]
    return f'{v.mean():+.3f} +- {1.96*v.std(ddof=1)/len(v)**.5:.3f}'

def table(right):
    "Accuracy of each shape and its difference from the rectangle, poster by poster, each poster's seeds averaged first"
    import warnings
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning) # posters that no seed validated
        means = {k:np.nanmean(v, axis=0) for k,v in right.items()}
    for k,v in means.items():
        less = '' if k==rectangle else mean_pm(v-means[rectangle])
        by_seed = ' '.join(f'{o:.3f}' for o in np.nanmean(right[k], axis=1))
        rows.append({'shape': k, 'accuracy': mean_pm(v)[1:], 'less the rectangle': less, 'by seed': by_seed})
    return pd.DataFrame(rows).to_string(index=False)

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--posters', help='csv of a catalog of real posters; drawn ones if not given')
    ap.add_argument('--n', type=int, default=0, help='posters to take; all if 0')
    ap.add_argument('--seeds', type=int, default=5)
    ap.add_argument('--arch', default='tf_efficientnet_lite0')
    ap.add_argument('--weights', default='auto')
    ap.add_argument('--finetune', action='store_true', help='train the network instead of a linear probe')
    ap.add_argument('--epochs', type=int, default=3, help='epochs of each of the two stages of --finetune')
    args = ap.parse_args()
    cat = load(args.posters, args.n)
    y,Y,parts = cat.df['label'].to_numpy(), cat.one_hot(), [folds(cat, s) for s in range(args.seeds)]
    how = 'fine-tuned' if args.finetune else 'frozen, linear probe'
    print(f'{len(cat):,} posters, {", ".join(cat.classes)}; {args.arch}, {how}; {args.seeds} seeds; '
          f'majority-class baseline: {pd.Series(y).value_counts(normalize=True).iloc[0]:.3f}', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        right = {}
        for k,fit in shapes.items():
            if args.finetune:
                one = lambda s,p: finetune(cat, args.arch, args.weights, p, s, folder, epochs=args.epochs, **fit)
                right[k] = [one(s, p) for s,p in enumerate(parts)]
            else:
                feats = features(cat, args.arch, args.weights, **fit)
                right[k] = [probe(feats, Y, p) for p in parts]
            print(f'{k:20s}', *(f'{np.nanmean(o):.3f}' for o in right[k]), flush=True)
    print(table(right))
