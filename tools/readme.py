"""Build README.md from nbs/index.ipynb, without Quarto, and two lists from the notebooks: nbs/pages.md and nbs/lessons/README.md.
`python tools/readme.py`, or `--check` to see whether they are in step"""
import functools, json, re, shutil, sys
from pathlib import Path
try: import tomllib
except ImportError: import tomli as tomllib
import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import TagRemovePreprocessor
from traitlets.config import Config

root = Path(__file__).resolve().parent.parent
pics = 'README_files'
directive = re.compile(r'^#\|\s*(\w+)(?::\s*(\S+))?\s*\n?', re.M)

def visible(nb):
    "Without hidden cells; directives are taken out of the source, and `echo: false` hides a cell's input"
    cells = []
    for c in nb.cells:
        flags = dict(directive.findall(c.source)) if c.cell_type=='code' else {}
        if flags.keys() & {'hide','default_exp','export'}: continue
        if flags.get('echo')=='false': c.metadata['tags'] = ['hide_input']
        if c.cell_type=='code': c.source = directive.sub('', c.source)
        cells.append(c)
    nb.cells = cells
    return nb

def build(path=root/'nbs/index.ipynb'):
    "The text of the README and its pictures by name"
    nb = visible(nbformat.read(path, as_version=4))
    conf = Config(TagRemovePreprocessor=dict(enabled=True, remove_input_tags={'hide_input'}))
    exp = MarkdownExporter(config=conf)
    exp.register_preprocessor(TagRemovePreprocessor(config=conf), enabled=True)
    text,res = exp.from_notebook_node(nb, resources=dict(output_files_dir=pics))
    text = re.sub(rf'\]\((?![\w+.-]+:|[#/]|{pics})', '](nbs/', text) # the notebook's links start in nbs, those of the README one folder above
    text = '<!-- Built from nbs/index.ipynb by `make readme`. Edit that. -->\n\n' + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'
    return text, {Path(k).name:v for k,v in res.get('outputs', {}).items()}

# ---- the lists

@functools.cache
def _texts(path, changed): return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type']=='markdown']
def texts(path): return _texts(path, path.stat().st_mtime_ns)
def first_cell(path): return texts(path)[0]
def prose(path): return '\n'.join(texts(path))
def title(path): return re.match(r'#\s+(?:Lesson\s+)?(.+)', first_cell(path))[1]
def summary(path): return m[1].strip() if (m := re.search(r'^>\s+(.+)', prose(path), re.M)) else ''
def time(path): return m[1] if (m := re.search(r'\*\*Time\*\*:\s*(.+?)(?: to read| and |[;.,])', prose(path))) else ''
def lessons(): return sorted((root/'nbs/lessons').glob('*.ipynb'), key=lambda p: (not p.stem[0].isdigit(), p.stem))

def repository():
    "Owner and name on GitHub, from pyproject.toml, the one place where they stand"
    url = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']['urls']['Repository']
    return url.removeprefix('https://github.com/').strip('/')

def colab(path): return f'https://colab.research.google.com/github/{repository()}/blob/main/{path.relative_to(root).as_posix()}'
def kaggle(path): return f'https://kaggle.com/kernels/welcome?src=https://github.com/{repository()}/blob/main/{path.relative_to(root).as_posix()}'
def row(*cells): return '| ' + ' | '.join(cells) + ' |'
def named(path): return re.sub(r'^(\d+): ', r'\1 ', title(path))

def lessons_markdown():
    "A line a lesson, with links as of nbs"
    return '\n'.join([row('lesson', 'what'), row('---', '---'), *(row(f'[{named(p)}](lessons/{p.name})', summary(p)) for p in lessons())])

def lessons_readme():
    "nbs/lessons/README.md"
    lines = [row('lesson', 'time', 'run it elsewhere'), row('---', '---', '---')]
    lines += [row(f'[{named(p)}]({p.name})', time(p), f'[Colab]({colab(p)}) · [Kaggle]({kaggle(p)})') for p in lessons()]
    return (root/'tools/lessons.md').read_text(encoding='utf-8').replace('{lessons}', '\n'.join(lines))

def by_package(pages):
    "Pages by their package, in order; what stands before the first package is the base, and a later module without one has a group of its own"
    groups = {}
    for p in pages:
        package,dot,_ = p.stem.split('_', 1)[1].partition('.')
        groups.setdefault(package if dot or p.name[0]!='0' else 'base', []).append(p)
    return groups

def pages_md():
    "nbs/pages.md: every page with its summary, by package"
    parts = ['# All pages\n\nEvery module is a notebook that explains and tests it, from the ground floor up. The [lessons](lessons/README.md) come first for a reader who learns.']
    for group,pages in by_package(sorted((root/'nbs').glob('[0-9]*.ipynb'))).items():
        parts.append(f'## {group}\n\n' + '\n'.join(f'- [{title(p)}]({p.name}): {summary(p)}' for p in pages))
    return '\n\n'.join(parts) + '\n'

def lists(): return {root/'nbs/pages.md': pages_md(), root/'nbs/lessons/README.md': lessons_readme()}

def in_step():
    "Are the README and the lists what the notebooks give?"
    text,files = build()
    have = {p.name:p.read_bytes() for p in (root/pics).glob('*')} if (root/pics).is_dir() else {}
    wanted = {root/'README.md': text, **lists()}
    return all(p.is_file() and p.read_text(encoding='utf-8')==t for p,t in wanted.items()) and have==files

def refresh(path=root/'nbs/index.ipynb'):
    "Put the lessons as they are now into the stored output of the index"
    nb = json.loads(path.read_text(encoding='utf-8'))
    for c in nb['cells']:
        if 'Markdown(lessons_markdown())' not in ''.join(c['source']): continue
        for o in c['outputs']: o['data']['text/markdown'] = lessons_markdown().splitlines(True)
    path.write_text(json.dumps(nb, indent=1, ensure_ascii=False)+'\n', encoding='utf-8')

def write():
    "Write README.md, its pictures, and the lists"
    refresh()
    text,files = build()
    shutil.rmtree(root/pics, ignore_errors=True)
    for name,data in files.items():
        (root/pics).mkdir(exist_ok=True)
        (root/pics/name).write_bytes(data)
    for p,t in {root/'README.md': text, **lists()}.items(): p.write_text(t, encoding='utf-8')

if __name__=='__main__':
    if sys.argv[1:]==['--check']: sys.exit(0 if in_step() else 'README.md, nbs/pages.md or nbs/lessons/README.md is not what the notebooks give: run `make readme`')
    write()
