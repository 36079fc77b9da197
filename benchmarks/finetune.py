"""What unfreezing is worth on few posters: the same split and seed, several ways of fine-tuning, accuracy on the validation rows. `python benchmarks/finetune.py [--csv FILE] [--arch NAME] [--seeds 1] [--out finetune.csv]`

Without --csv it takes romance_horror_superhero.csv of GENRE_POSTERS. The csv of figures goes on where it was stopped. Test rows are not looked at: this is where choices are made."""
import argparse
from pathlib import Path
from genre_fastai.core import posters_path
from genre_fastai.experiments import Experiments, grid
from genre_fastai.train.recipes import train
from genre_fastai.course.benchmark import result_catalog

trained = dict(recipe='stages', freeze_epochs=8, cache_features=True)
WAYS = {
    'solved head, body frozen': dict(recipe='probe'),
    'solved head, small steps, statistics kept': dict(recipe='finetune'),
    'solved head, small steps above the cut': dict(recipe='finetune_top'),
    'solved head, larger steps, statistics kept': dict(recipe='finetune', lr=5e-4),
    'trained head, body frozen': dict(trained, epochs=0),
    'trained head, unfrozen, statistics kept': dict(trained, epochs=3),
    'trained head, unfrozen, statistics move': dict(trained, epochs=3, freeze_bn=False),
}

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--csv', type=Path)
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--seeds', type=int, default=1)
    p.add_argument('--out', default='finetune.csv')
    a = p.parse_args()
    if not a.csv and not posters_path(): p.error('give --csv, a file of file,label; or set GENRE_POSTERS')
    cat = result_catalog(a.csv or posters_path()/'romance_horror_superhero.csv')
    def one(way, seed, arch):
        valid = train(cat, arch=arch, seed=seed, cache_pixels=True, label_smoothing=.1, **WAYS[way]).run_info.valid
        return dict(accuracy=valid['accuracy'], n_valid=valid['n'])
    exp = Experiments(a.out).run(grid(seeds=range(a.seeds), way=list(WAYS), arch=[a.arch]), one)
    print(exp.summary('way', n='n_valid').to_string(index=False))

if __name__=='__main__': main()
