"Crop, squish, pad or rectangle for posters? Accuracy of a linear probe on frozen features (or of fine-tuning), over several seeds, with intervals"
import argparse, tempfile
import numpy as np, pandas as pd

shapes = {'crop 224 x 224': dict(size=224, method='crop'), 'squish 224 x 224': dict(size=224, method='squish'),
          'pad 224 x 224': dict(size=224, method='pad'), 'rectangle 256 x 176': dict(size=(256,176), method='squish')}

def load(posters, n, seed=0):
    "A catalog of real posters from a csv, without its doubtful rows, or of drawn ones"
    from genre_fastai.catalog.core import Catalog, read_catalog
    from genre_fastai.sample.dataset import make_sample
    if not posters: return make_sample(tempfile.mkdtemp(), n=n or 240, seed=1).where(kind='clean')
    cat = read_catalog(posters)
    if 'clean' in cat.df: cat = cat.where(clean='1')
    return Catalog(cat.df.sample(min(n, len(cat)), random_state=seed), cat.path) if n else cat

def folds(cat, seed, k=4):
    "Training and validation rows of `k` folds, the same for all shapes: posters of a film stay together, classes keep their shares"
    from sklearn.model_selection import StratifiedGroupKFold
    film = cat.df['imdb_id'] if 'imdb_id' in cat.df else cat.df['file']
    return list(StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(film, cat.df['label'], film))

def features(cat, arch, weights, size, method, folder):
    "Averages and maxima of the last feature maps: (rows, 2 x channels)"
    import torch
    from fastai.vision.all import AdaptiveConcatPool2d, Flatten, nn, tensor
    from genre_fastai.core import keep_memory
    from genre_fastai.vision.cache import pixel_cache
    from genre_fastai.vision.weights import load_pretrained
    keep_memory()
    loaded,cache = load_pretrained(arch, weights), pixel_cache(cat, size, method, folder=folder, progress=False)
    pool = nn.Sequential(AdaptiveConcatPool2d(), Flatten())
    mean,std = (tensor(o)[None,:,None,None] for o in pretrained.stats)
    model,rows,out = pretrained.model.eval().to(memory_format=torch.channels_last), cache.rows(cat.df['file']), []
    with torch.inference_mode():
        for i in range(0, len(rows), 32):
            x = (torch.from_numpy(cache[rows[i:i+32]]).float()/255 - mean)/std
            out.append(pool(model.forward_features(x.contiguous(memory_format=torch.channels_last))).numpy())
    return np.concatenate(out)

def probe(feats, y, folds):
    "For each row: is a linear classifier right that was trained on the other folds?"
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    right = np.full(len(y), np.nan)
    for tr,va in folds: right[va] = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=500)).fit(feats[tr], y[tr]).predict(feats[va])==y[va]
    return right

def finetune(cat, arch, weights, folds, seed, folder, size, method, epochs):
    "For each row of the first fold: is a network right that was fine-tuned on the others? The other rows are nan"
    from fastai.vision.all import set_seed
    from genre_fastai.vision.data import get_dls
    from genre_fastai.train.learner import poster_learner
    set_seed(seed, reproducible=True)
    va,split = folds[0][1], np.full(len(cat), 'train', dtype=object)
    split[va] = 'valid'
    learn = poster_learner(get_dls(cat.assign(split=split), seed=seed, size=size, method=method, cache=folder), arch, weights)
    with learn.no_bar(), learn.no_logging(): learn.fit_stages(epochs, epochs)
    probs,targs = learn.get_preds()
    right = np.full(len(cat), np.nan)
    right[va] = (probs.argmax(1)==targs).numpy()
    return right

def wilson_interval(v):
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
        rows.append({'shape': k, 'accuracy': wilson_interval(v)[1:], 'less the rectangle': wilson_interval(v-means['rectangle 256 x 176']) if 'rect' not in k else '',
                     'by seed': ' '.join(f'{o:.3f}' for o in np.nanmean(right[k], axis=1))})
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
    y,parts = cat.df['label'].to_numpy(), [folds(cat, s) for s in range(args.seeds)]
    print(f'{len(cat):,} posters, {", ".join(cat.classes)}; {args.arch}, {"fine-tuned" if args.finetune else "frozen, linear probe"}; {args.seeds} seeds; '
          f'always the commonest class: {pd.Series(y).value_counts(normalize=True).iloc[0]:.3f}', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        right = {}
        for k,fit in shapes.items():
            if args.finetune: right[k] = [finetune(cat, args.arch, args.weights, p, s, folder, epochs=args.epochs, **fit) for s,p in enumerate(parts)]
            else:
                feats = features(cat, args.arch, args.weights, folder=folder, **fit)
                right[k] = [probe(feats, y, p) for p in parts]
            print(f'{k:20s}', *(f'{np.nanmean(o):.3f}' for o in right[k]), flush=True)
    print(table(right))
