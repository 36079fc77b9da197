"Code blocks in the prose of pages, lessons and README: they parse, what they import and call is there, and takes the arguments they give"
import ast, builtins, importlib, inspect, json, re
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
_block = re.compile(r'^```python\n(.*?)^```', re.S|re.M)

def _cells(f, kind): return [''.join(c['source']) for c in json.loads(f.read_text(encoding='utf-8'))['cells'] if c['cell_type']==kind]

def _parsed(src):
    try: return ast.parse('\n'.join(l for l in src.split('\n') if not l.lstrip().startswith(('%','!'))))
    except SyntaxError: return ast.Module([], [])

def _imported(tree):
    "What the imports of some code bring, as name -> object; fails where one is not there"
    res = {}
    for o in ast.walk(tree):
        if isinstance(o, ast.Import): res.update({(a.asname or a.name).split('.')[0]: None for a in o.names})
        if not isinstance(o, ast.ImportFrom): continue
        if not o.module.startswith('genre_fastai'):
            res.update({a.asname or a.name: None for a in o.names})
            continue
        mod = importlib.import_module(o.module)
        for a in o.names:
            if a.name=='*': res.update({n: getattr(mod, n) for n in getattr(mod, '__all__', dir(mod))})
            else: res[a.asname or a.name] = getattr(mod, a.name) if hasattr(mod, a.name) else importlib.import_module(f'{o.module}.{a.name}')
    return res

def _made(tree):
    "Names that a block gives a meaning itself"
    for o in ast.walk(tree):
        if isinstance(o, ast.Name) and isinstance(o.ctx, ast.Store): yield o.id
        if isinstance(o, (ast.FunctionDef, ast.ClassDef)): yield o.name
        if isinstance(o, ast.arg): yield o.arg

def _takes(f, name):
    "Does a function take an argument of this name? Unknown ones take all"
    try: ps = inspect.signature(f).parameters
    except (TypeError, ValueError): return True
    return name in ps or any(p.kind==p.VAR_KEYWORD for p in ps.values())

def _named(f):
    "What a page may name besides what it imports: what it exports"
    m = re.search(r'^#\| *default_exp (\S+)', '\n'.join(_cells(f, 'code')), re.M)
    return vars(importlib.import_module(f'genre_fastai.{m[1]}')) if m else {}

def wrong_in(block, known):
    "What does not hold in a block of code"
    tree = ast.parse(block)
    there = {**known, **_imported(tree)}
    made = {*_made(tree), *dir(builtins)}
    methods = [o for o in there.values() if inspect.isclass(o) and o.__module__.startswith('genre_fastai')]
    for o in ast.walk(tree):
        if not isinstance(o, ast.Call): continue
        keys = [k.arg for k in o.keywords if k.arg]
        if isinstance(o.func, ast.Name):
            if o.func.id in made: continue
            if o.func.id not in there: yield f'{o.func.id} is not imported'
            elif bad := [k for k in keys if not _takes(there[o.func.id], k)]: yield f'{o.func.id} has no argument {bad[0]}'
        elif isinstance(o.func, ast.Attribute):
            fs = [getattr(c, o.func.attr) for c in methods if callable(getattr(c, o.func.attr, None))]
            if bad := [k for k in keys if fs and not any(_takes(f, k) for f in fs)]: yield f'.{o.func.attr} has no argument {bad[0]}'

pages = sorted(f for f in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in f.parts)

@pytest.mark.parametrize('f', [o for o in pages if '```python' in o.read_text(encoding='utf-8')], ids=lambda f: f.stem)
def test_blocks_of_code_hold(f):
    import genre_fastai.all
    known = {n: getattr(genre_fastai.all, n) for n in dir(genre_fastai.all) if not n.startswith('_')} | _named(f)
    for c in _cells(f, 'code'): known |= _imported(_parsed(c)) if f.parent.name=='lessons' else {}
    wrong = [o for c in _cells(f, 'markdown') for b in _block.findall(c) for o in wrong_in(b, known)]
    assert not wrong, wrong

@pytest.mark.parametrize('block,why', [("extract_features(cat, poll='avg')", 'extract_features has no argument poll'), ('train_all(cat)', 'train_all is not imported'),
    ('Catalog.of_folder(path)\ncat.split(vaild=.2)', '.split has no argument vaild')])
def test_a_dead_block_is_found(block, why):
    import genre_fastai.all
    assert list(wrong_in(block, vars(genre_fastai.all)))==[why]
