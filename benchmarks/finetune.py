"""What unfreezing is worth on few posters: the same split and seed, several ways of fine-tuning, accuracy on the validation rows. `python benchmarks/finetune.py [--csv FILE] [--arch NAME] [--seeds 1] [--out finetune.csv]`

Without --csv it takes romance_horror_superhero.csv of GENRE_POSTERS. The csv of figures goes on where it was stopped. Test rows are not looked at: this is where choices are made."""
import argparse
from pathlib import Path
from genre_fastai.core import posters_path
from genre_fastai.experiments import Experiments, grid
from genre_fastai.train.recipes import train
from genre_fastai.course.benchmark import result_catalog

WAYS = {
    'solved head, body frozen': dict(probe=1e-3, epochs=0),
    'solved head, small steps, statistics kept': dict(probe=1e-3, epochs=3, unfrozen_lr=5e-5),
    'solved head, larger steps, statistics kept': dict(probe=1e-3, epochs=3, unfrozen_lr=5e-4),
    'trained head, body frozen': dict(freeze_epochs=8, epochs=0, cached=True),
    'trained head, unfrozen, statistics kept': dict(freeze_epochs=8, epochs=3, cached=True),
    'trained head, unfrozen, statistics move': dict(freeze_epochs=8, epochs=3, cached=True, freeze_bn=False),
}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--csv', type=Path); p.add_argument('--arch', default='tf_efficientnet_lite0'); p.add_argument('--seeds', type=int, default=1); p.add_argument('--out', default='finetune.csv')
    a = p.parse_args()
    if not a.csv and not posters_path(): p.error('give --csv, a file of file,label; or set GENRE_POSTERS')
    cat = result_catalog(a.csv or posters_path()/'romance_horror_superhero.csv')
    n = len(cat.where(split='valid'))
    def one(way, seed, arch):
        learn = train(cat, arch, seed=seed, cache=True, label_smoothing=.1, **WAYS[way])
        return dict(accuracy=round(float(learn.validate()[1]), 4), n_valid=n)
    exp = Experiments(a.out).run(grid(seeds=range(a.seeds), way=list(WAYS), arch=[a.arch]), one)
    print(exp.summary('way', n='n_valid').to_string(index=False))

if __name__=='__main__': main()
