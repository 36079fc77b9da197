"The project's own promises: notebooks clean, exports and README in step, settings in agreement, nothing private committed"
import configparser, json, re, shutil, subprocess, sys
from pathlib import Path
import pytest

try: import tomllib
except ImportError: import tomli as tomllib

root = Path(__file__).resolve().parent.parent
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
sys.path.insert(0, str(root/'tools'))

@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of notebooks, package and settings in which nbdev's commands may write"
    d = tmp_path_factory.mktemp('project')/'genre_fastai'
    d.mkdir()
    for f in ('pyproject.toml', 'settings.ini'): shutil.copy(root/f, d)
    for f in ('nbs', 'genre_fastai'): shutil.copytree(root/f, d/f, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    return d

def run(cmd, cwd): subprocess.run([str(Path(sys.executable).parent/cmd)], cwd=cwd, check=True, capture_output=True, text=True)
def texts(d, pat): return {p.relative_to(d).as_posix():p.read_text(encoding='utf-8') for p in sorted(d.rglob(pat)) if '__pycache__' not in p.parts}

def test_exports_are_in_sync(copy):
    before = texts(root/'genre_fastai', '*.py')
    for p in (copy/'genre_fastai').glob('*.py'):
        if p.name not in ('__init__.py', 'all.py'): p.unlink()
    (copy/'genre_fastai/_modidx.py').write_text('d = {}\n')
    run('nbdev_export', copy)
    after = texts(copy/'genre_fastai', '*.py')
    assert before.keys()==after.keys()
    for k in before: assert before[k]==after[k], f'genre_fastai/{k} is not what the notebooks export: run `make export`'

def test_notebooks_are_clean(copy):
    run('nbdev_clean', copy)
    for nb in notebooks: assert (copy/nb.relative_to(root)).read_text(encoding='utf-8')==nb.read_text(encoding='utf-8'), f'{nb.name} is not clean: run `make export`'

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.name)
def test_notebook_is_small_and_stateless(nb):
    assert nb.stat().st_size <= 100_000, 'a committed notebook stays under 100 KB'
    d = json.loads(nb.read_text(encoding='utf-8'))
    assert 'widgets' not in d['metadata']
    assert 'application/vnd.jupyter.widget' not in json.dumps([c.get('outputs') for c in d['cells']])
    assert not any(o.get('output_type')=='error' for c in d['cells'] for o in c.get('outputs', []))

def test_readme_is_in_step():
    import readme
    assert readme.in_step(), 'README.md, nbs/pages.md or nbs/lessons/README.md is not what the notebooks give: run `make readme`'

def test_lessons_are_opened_where_the_repository_is():
    "Colab's and Kaggle's links have the address of pyproject.toml"
    import readme
    for p in readme.lessons(): assert f']({readme.colab(p)})' in readme.prose(p), p.name
    text = readme.lessons_readme()
    assert all(o in text for p in readme.lessons() for o in (f'({p.name})', readme.colab(p), readme.kaggle(p)))

def test_the_readme_is_short_and_leads_to_every_page():
    import readme
    text = readme.build()[0]
    assert len(text.splitlines())<=150 and '(nbs/pages.md)' in text and '(nbs/lessons/README.md)' in text
    assert readme.lessons_markdown().replace('](', '](nbs/') in text, 'the lessons have changed: run `make readme`'
    assert all(f']({p.name})' in readme.pages_md() for p in (root/'nbs').glob('[0-9]*.ipynb'))

def test_settings_agree():
    ini = configparser.ConfigParser(); ini.read(root/'settings.ini')
    ini,toml = ini['DEFAULT'], tomllib.loads((root/'pyproject.toml').read_text())
    proj,nbdev = toml['project'], toml['tool']['nbdev']
    version = re.search(r'"(.+)"', (root/'genre_fastai/__init__.py').read_text())[1]
    words = lambda s: sorted(s.split())
    assert ini['version']==version
    assert ini['lib_name']==proj['name'] and ini['description']==proj['description']
    assert ini['min_python']==proj['requires-python'].lstrip('>=')
    assert words(ini['keywords'])==sorted(proj['keywords'])
    assert ini['git_url']==proj['urls']['Repository'] and ini['doc_host']+ini['doc_baseurl']==proj['urls']['Documentation']
    assert ini['author']==proj['authors'][0]['name']
    assert dict(apache2='Apache-2.0')[ini['license']]==proj['license']
    assert words(ini['requirements'])==sorted(r.replace(' ', '') for r in proj['dependencies'])
    assert words(ini['dev_requirements'])==sorted(r.replace(' ', '') for r in proj['optional-dependencies']['dev'])
    assert dict(o.split('=') for o in words(ini['console_scripts']))==proj['scripts']
    for k in ('nbs_path', 'lib_path', 'tst_flags'): assert ini[k]==nbdev[k]

def tracked():
    "The files that a commit would hold: git's list where there is git, else everything outside ignored folders"
    r = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=root, capture_output=True, text=True)
    if r.returncode==0: return [root/f for f in r.stdout.splitlines() if (root/f).is_file()]
    skip = {'.venv', '.git', '__pycache__', 'demo', 'model', 'build'}
    return [p for p in root.rglob('*') if p.is_file() and not skip & set(p.relative_to(root).parts)]

private = re.compile('|'.join([r'(?<!=)\b10\.\d+\.\d+\.\d+\b', r'\b192\.168\.\d+\.\d+\b', r'\b172\.(1[6-9]|2\d|3[01])\.\d+\.\d+\b', r'pythonhosted\.org', r'pypi\.org', r'registry\.npmjs', r'deb\.debian',
                               r'(?<![\w.])/(work|root|home)/\w']))
def test_nothing_private_is_committed():
    found = []
    for p in tracked():
        if p==Path(__file__).resolve(): continue
        data = p.read_bytes()
        if b'\0' in data[:4096]: continue
        found += [f'{p.relative_to(root)}:{i}: {m[0]}' for i,line in enumerate(data.decode('utf-8', 'replace').splitlines(), 1) if (m := private.search(line))]
    assert not found, found

def test_import_is_light():
    code = 'import sys, genre_fastai; sys.exit("torch" in sys.modules or "pandas" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=root).returncode==0
