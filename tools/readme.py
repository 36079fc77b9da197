"Build README.md from nbs/index.ipynb, without Quarto: `python tools/readme.py`, or `--check` to see whether it is in step"
import re, shutil, sys
from pathlib import Path
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

def in_step():
    "Is the README what the notebook gives?"
    text,files = build()
    have = {p.name:p.read_bytes() for p in (root/pics).glob('*')} if (root/pics).is_dir() else {}
    return (root/'README.md').is_file() and (root/'README.md').read_text(encoding='utf-8')==text and have==files

def write():
    "Write README.md and its pictures"
    text,files = build()
    shutil.rmtree(root/pics, ignore_errors=True)
    for name,data in files.items():
        (root/pics).mkdir(exist_ok=True)
        (root/pics/name).write_bytes(data)
    (root/'README.md').write_text(text, encoding='utf-8')

if __name__=='__main__':
    if sys.argv[1:]==['--check']: sys.exit(0 if in_step() else 'README.md is not what nbs/index.ipynb gives: run `make readme`')
    write()
