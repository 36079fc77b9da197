"""Training by two processes on a CPU: the curve of one with twice the batch, one of them killed, resumed, and the command"""
import importlib.util, json, os, signal, socket, subprocess, sys
from pathlib import Path
import pytest

pytestmark = [pytest.mark.skipif(importlib.util.find_spec('accelerate') is None, reason='accelerate is not installed'),
    pytest.mark.skipif(not hasattr(os, 'fork'), reason='two processes are forked here')]

BASE = dict(recipe='article0', size=32, epochs=2, seed=3, precision='fp32')
SIDE = dict(batch_tfms=[], **BASE)

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def start(n, f, *args):
    "Exit codes of `n` forked processes that call `f`, with what a launcher sets"
    import multiprocessing as mp
    port = str(free_port())
    def child(rank):
        os.environ |= dict(WORLD_SIZE=str(n), RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1', MASTER_PORT=port,
            ACCELERATE_USE_CPU='yes', GLOO_SOCKET_IFNAME='lo')
        sys.stdout = open(f'said{rank}', 'a')
        f(*args)
        sys.stdout.flush()
    ps = [mp.get_context('fork').Process(target=child, args=(r,)) for r in range(n)]
    for p in ps: p.start()
    for p in ps: p.join(120)
    return [p.exitcode for p in ps]

def figures(learn): return [{k:v for k,v in h.items() if k!='time'} for h in learn.run_info.history]

def state(learn): return {k:v.double().sum().item() for k,v in learn.model.state_dict().items()}

def keep(name, o): Path(f'{name}{os.environ.get("RANK", "")}.json').write_text(json.dumps(o))

# what the processes do
def train_and_judge(cat, name, kw):
    from fastai.metrics import F1Score
    from genre_fastai.train.recipes import train
    from genre_fastai.train.distributed import alone, distributed
    learn = train(cat, **kw)
    learn.metrics = F1Score(average='macro') # computed from all rows at once
    with distributed(learn), learn.no_bar(): together,preds = list(learn.validate()), learn.get_preds()[0]
    with alone(), learn.no_bar(): by_itself,own = list(learn.validate()), learn.get_preds()[0]
    keep(name, dict(history=figures(learn), state=state(learn), valid=learn.run_info.valid, together=together, by_itself=by_itself,
        n=len(preds), apart=float((preds-own).abs().max())))

def train_only(cat, name, kw, killed=False):
    from genre_fastai.core import GenreError
    from genre_fastai.train.checkpoint import Checkpoint
    from genre_fastai.train.recipes import train
    after = Checkpoint.after_epoch
    def then_killed(self):
        after(self)
        if os.environ['RANK']=='1': os.kill(os.getpid(), signal.SIGKILL)
    if killed: Checkpoint.after_epoch = then_killed
    try: learn = train(cat, **kw)
    except GenreError as e: return keep(name, dict(error=str(e)))
    keep(name, dict(history=figures(learn), state=state(learn)))

def scenario():
    "Everything that needs fastai in one process, which is imported once and forked"
    import torch
    torch.set_num_threads(1)
    from genre_fastai.catalog.build import build_catalog
    from genre_fastai.sample.dataset import make_sample
    from genre_fastai.train.recipes import train
    import accelerate, fastai.distributed
    cat = make_sample('s', n=60, seed=1)
    cat = cat.where(kind=['clean']).dedupe().split()
    cat.save('cat.csv')
    one = train(cat, **SIDE, bs=12)
    keep('one', dict(history=figures(one), state=state(one), valid=one.run_info.valid))
    assert start(2, train_and_judge, cat, 'two', dict(SIDE, bs=6))==[0,0]
    assert start(2, train_only, cat, 'whole', dict(BASE, bs=6))==[0,0]
    keep('codes', start(2, train_only, cat, 'killed', dict(BASE, bs=6, out='run'), True))
    keep('left', sorted(o.name for o in Path('run').iterdir()))
    assert start(2, train_only, cat, 'resumed', dict(BASE, bs=6, out='run', resume=True))==[0,0]
    start(2, train_only, cat, 'large', dict(BASE, bs=5000))
    keep('fusion_codes', start(2, train_only, cat, 'fusion', dict(recipe='fusion', modalities='poster,title')))
    start(2, train_only, cat, 'probe', dict(recipe='probe', size=64, precision='fp32'))

@pytest.fixture(scope='module')
def done(tmp_path_factory):
    d = tmp_path_factory.mktemp('two')
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH': str(Path(__file__).parents[1])}
    r = subprocess.run([sys.executable, __file__], cwd=d, env=env, capture_output=True, text=True, timeout=400)
    assert r.returncode==0, r.stdout[-2000:]+r.stderr[-6000:]
    return d

@pytest.fixture
def read(done): return lambda name: json.loads((done/f'{name}.json').read_text())

def assert_close(a, b, tol=1e-3):
    assert len(a)==len(b)
    for x,y in zip(a, b): assert x==pytest.approx(y, abs=tol, rel=tol)

def test_two_processes_learn_as_one_with_twice_the_batch(read):
    one,two = read('one'),read('two0')
    assert_close(two['history'], one['history'])
    assert two['valid']==one['valid']
    assert_close([two['state']], [one['state']], 1e-2)

def test_both_processes_end_alike(read):
    assert read('two0')['history']==read('two1')['history']
    assert read('two0')['state']==read('two1')['state']
    assert read('probe0')['state']==read('probe1')['state']

def test_every_row_counts_once(read):
    for two in (read('two0'), read('two1')):
        assert two['n']==two['valid']['n'] and two['n']%2 # rows that do not divide evenly
        assert two['apart']<1e-5
        assert two['together']==pytest.approx(two['by_itself'], abs=1e-5)

def test_only_the_first_process_speaks(done):
    assert 'epoch' in (done/'said0').read_text() and 'A first model after' in (done/'said0').read_text()
    assert (done/'said1').read_text().strip()==''

def test_a_killed_process_is_said_and_leaves_no_model(read):
    assert read('codes')==[0,-signal.SIGKILL]
    assert 'Another process of this training has ended' in read('killed0')['error'] and '--resume' in read('killed0')['error']
    assert read('left')==['checkpoint.pth']

def test_a_resumed_run_is_the_run_without_a_stop(read):
    "Each process goes on with its own augmentation"
    assert read('resumed0')==read('whole0') and read('resumed1')==read('whole1')

def test_what_makes_no_sense_is_said_once(read, done):
    assert 'several processes gain nothing' in read('fusion0')['error']
    assert read('fusion_codes')==[0,1] and not (done/'fusion1.json').exists()
    assert 'Give `bs=' in read('large0')['error'] and 'fewer processes' in read('large0')['error']

def test_the_command(done):
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH': str(Path(__file__).parents[1]), 'ACCELERATE_USE_CPU':'yes'}
    cmd = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(free_port()), '-m', 'genre_fastai.cli',
        'train', 'cat.csv', '--out', 'model', '--recipe', 'article0', '--size', '32', '--bs', '6', '--epochs', '1']
    r = subprocess.run(cmd, cwd=done, env=env, capture_output=True, text=True, timeout=400)
    assert r.returncode==0, r.stdout[-2000:]+r.stderr[-4000:]
    assert r.stdout.count('model in model')==1 and r.stdout.count('accuracy ')>=1 and 'test rows' in r.stdout
    assert {'config.json','model.safetensors','README.md'} <= {o.name for o in (done/'model').iterdir()}
    assert not list((done/'model').glob('*checkpoint*'))
    assert json.loads((done/'model'/'config.json').read_text())['settings']['processes']==2

if __name__=='__main__': scenario()
