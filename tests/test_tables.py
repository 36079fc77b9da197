"Tables of results as markdown (tools/tables.py), from csv files as `genre-fastai results` writes them"
import sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))

@pytest.fixture(scope='module')
def out(tmp_path_factory):
    "A folder with the csv files of two sizes, a leakage curve and a cleaning"
    from genre_fastai.experiments import Experiments, grid
    d = tmp_path_factory.mktemp('results')
    score = dict(n_train=60, n_test=20, accuracy=.7, low=.5, high=.9, macro_f1=.7, baseline=.4, accuracy_clean=.8, n_clean=15)
    Experiments(d/'main.csv').run(grid(range(2), data=['my_set'], recipe=['probe'], n=[0,5], catalog='c', arch='net'), lambda **_: score, show=None)
    curve = [dict(share=s, valid=.5+.4*s, test=.5, low=.4, high=.6, baseline=.4) for s in (0.,1.)]
    Experiments(d/'leaks.csv').run(grid(data='my_set', catalog='c', labels=['true','random']), lambda **_: curve, show=None)
    arms = [dict(arm=o, mean=.7, low=.6, high=.8) for o in ('raw','cleaned','flattering','control')]
    Experiments(d/'cleaning.csv').run(grid(data='my_set', catalog='c'), lambda **_: arms, show=None)
    return d

def test_results(out):
    from tables import results_markdown
    lines = results_markdown(out).splitlines()
    assert lines[0]=='**my set**: 60 training and 20 test posters, baseline 0.400, network net'
    assert lines[2].startswith('| recipe | accuracy | clean labels |') and lines[4].startswith('| probe | 0.700 [')
    assert len(lines)==5

def test_sizes(out):
    from tables import sizes_markdown
    lines = sizes_markdown(out).splitlines()
    assert lines[0]=='| set | recipe | 5 a class | all |'
    assert len(lines)==3 and lines[2].count('0.700 [')==2

def test_findings(out):
    from tables import findings_markdown
    text = findings_markdown(out)
    assert 'goes from 0.500 to 0.900' in text and 'removed at random, so no difference is seen' in text
