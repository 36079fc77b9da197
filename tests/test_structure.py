"The house: imports between packages go downwards only, nothing private is shared, names mean one thing, and pages keep their measure"
import ast, importlib, json, re, subprocess, sys
from collections import defaultdict
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
package = root/'genre_fastai'
# from the ground floor up: a module may import what stands before it, and modules of its own package
floors = 'core containers images metrics logistic multilabel figure experiments engines parallel tables store measure catalog predictions thresholds sample collect text vision features multimodal train interpret clean deploy course console options commands cli all'.split()

def name_of(p):
    "The dotted name of a module below the package, '' for the package itself"
    return '.'.join(p.relative_to(package).with_suffix('').parts).removesuffix('__init__').rstrip('.')

modules = {name_of(p): p for p in sorted(package.rglob('*.py')) if p.name!='_modidx.py'}
trees = {m: ast.parse(p.read_text(encoding='utf-8')) for m,p in modules.items()}

def imports(m):
    "What a module imports of the package, wherever in it: (module, names)"
    here = (m.split('.')[:-1] if modules[m].name!='__init__.py' else m.split('.')) if m else []
    for node in ast.walk(trees[m]):
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.name.startswith('genre_fastai'): yield a.name.removeprefix('genre_fastai').lstrip('.'), []
        elif isinstance(node, ast.ImportFrom):
            if node.level: base = here[:len(here)-node.level+1] + (node.module.split('.') if node.module else [])
            elif (node.module or '').split('.')[0]=='genre_fastai': base = node.module.split('.')[1:]
            else: continue
            for a in node.names: yield ('.'.join([*base, a.name]), []) if '.'.join([*base, a.name]) in modules else ('.'.join(base), [a.name])

edges = {m: {o for o,_ in imports(m) if o} for m in modules if m}
floor = lambda m: m.split('.')[0]

def test_every_module_has_its_floor(): assert {floor(m) for m in modules if m} == set(floors)

@pytest.mark.parametrize('m', edges)
def test_imports_go_downwards(m):
    up = [o for o in edges[m] if floors.index(floor(o))>floors.index(floor(m))]
    assert not up, f'{m} imports {up[0]}, which stands above it'

def test_no_module_imports_itself_by_way_of_others():
    left = {m: set(es) for m,es in edges.items()}
    while free := [m for m,es in left.items() if not es & left.keys()]:
        for m in free: del left[m]
    assert not left, f'a cycle among {", ".join(sorted(left))}'

def test_no_private_name_is_imported():
    found = [f'{m}: {n} of {o}' for m in modules for o,names in imports(m) for n in names if n.startswith('_') and n!='__version__']
    assert not found, found

light = {'genre_fastai': ('torch','pandas','fastai'), 'genre_fastai.store': ('torch','fastai','PIL'), 'genre_fastai.measure': ('torch','aiohttp','fastai'), 'genre_fastai.tables': ('torch','aiohttp'), 'genre_fastai.catalog.build': ('torch','aiohttp'), 'genre_fastai.predictions': ('torch',), 'genre_fastai.sample.site': ('torch',),
    'genre_fastai.collect.download': ('torch',), 'genre_fastai.clean.widget': ('torch','aiohttp'), 'genre_fastai.clean.issues': ('torch','aiohttp'),
    'genre_fastai.deploy.serve': ('torch','fastai','sklearn','gradio'), 'genre_fastai.deploy.space': ('torch','fastai','gradio'), 'genre_fastai.deploy.folder': ('aiohttp','anywidget'), 'genre_fastai.deploy.onnx': ('torch','fastai','pandas','sklearn'), 'genre_fastai.interpret.words': ('torch',), 'genre_fastai.interpret.modalities': ('torch',), 'genre_fastai.cli': ('torch','aiohttp','pandas','numpy','fastprogress')}

heavy = {out: [m for m in light if light[m]==out] for out in light.values()} # one process for all that are to be free of the same

@pytest.mark.parametrize('out', heavy, ids=','.join)
def test_import_is_light(out):
    code = f'import sys, importlib\nfor m in {heavy[out]!r}:\n    importlib.import_module(m)\n    print(*[f"{{m}} pulls {{o}}" for o in {out!r} if o in sys.modules])'
    r = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True)
    assert not r.stdout.strip(), r.stdout

# --- names

def listed(m):
    "The names that a module exports"
    a = next((n for n in trees[m].body if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '')=='__all__'), None)
    return ast.literal_eval(a.value) if a else []

def test_no_name_is_exported_twice():
    at = defaultdict(list)
    for m in modules:
        for n in listed(m): at[n].append(m)
    twice = {n: ms for n,ms in at.items() if len(ms)>1}
    assert not twice, twice

def test_no_name_of_fastai_means_something_else():
    import fastai.vision.all as fastai
    theirs = {n for n in dir(fastai) if not n.startswith('_')}
    clash = [f'{m}.{n}' for m in modules for n in listed(m) if n in theirs and getattr(importlib.import_module(f'genre_fastai.{m}'), n) is not getattr(fastai, n)]
    assert not clash, clash

def working_names(): return [a.asname or a.name for node in trees['all'].body if isinstance(node, ast.ImportFrom) and node.module.startswith('genre_fastai') for a in node.names]

def test_the_working_import_lists_its_names():
    names = working_names()
    assert '*' not in names and len(names)==len(set(names)) and 50<=len(names)<=130
    import genre_fastai.all as a, fastai.vision.all as fastai
    assert not [n for n in names if getattr(fastai, n, getattr(a, n)) is not getattr(a, n)]
    assert all(getattr(a, n) is getattr(fastai, n) for n in ('Learner','DataBlock','accuracy','Path','L'))

# --- pages

notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
pages = [p for p in notebooks if re.match(r'\d\d_', p.name) and p.parent.name=='nbs' and p.stem not in ('97_machines','98_results','99_glossary')]

def cells(p, kind='code'): return [''.join(c['source']) for c in json.loads(p.read_text(encoding='utf-8'))['cells'] if c['cell_type']==kind]

@pytest.mark.parametrize('p', notebooks, ids=lambda p: p.name)
def test_no_code_line_is_long(p):
    long = [l for c in cells(p) for l in c.splitlines() if len(l)>140]
    assert not long, f'{len(long)} lines over 140 columns, the first: {long[0][:80]} ...'

@pytest.mark.parametrize('p', pages, ids=lambda p: p.name)
def test_a_page_begins_with_its_name_and_its_use(p):
    prose,code = cells(p, 'markdown'), cells(p)
    mod = p.stem.split('_', 1)[1]
    assert re.match(rf'# {re.escape(mod)}\n\n> \S', prose[0]), 'H1 is the name of the module, then its summary'
    assert code[0]==f'#| default_exp {mod}'

@pytest.mark.parametrize('p', notebooks, ids=lambda p: p.name)
def test_style(p):
    "At most three definitions an exported cell, and no long line, by the checker of fast.ai's style"
    import chkstyle
    found = [f'{line}: {msg}' for _,line,_,msg,_ in chkstyle.check_path(str(p)) if 'top-level definitions' in msg or re.match(r'>\d+ chars', msg)]
    assert not found, found
