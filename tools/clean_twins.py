"Make the clean twin of each lesson, headings and code only, in nbs/lessons/clean: `python tools/clean_twins.py`, or `--check` to see whether they are in step"
import hashlib, re, sys
from pathlib import Path
import nbformat

root = Path(__file__).resolve().parent.parent
lessons = root/'nbs/lessons'
twins = lessons/'clean'

def headings(src):
    "The headings of a markdown cell, without its prose"
    return '\n\n'.join(o for o in re.sub(r'^```.*?^```', '', src, flags=re.M|re.S).splitlines() if re.match(r'#{1,6} ', o))

def twin(path):
    "The text of the clean twin of a lesson"
    nb = nbformat.read(path, as_version=4)
    cells = [c for c in nb.cells if c.cell_type=='code' or headings(c.source)]
    for i,c in enumerate(cells):
        if c.cell_type=='code': c.outputs,c.execution_count = [],None
        else: c.source = headings(c.source)
        # a twin's cells are other cells than the lesson's, and stay the same from run to run
        c.id = hashlib.sha256(f'{path.stem} {i} {c.source}'.encode()).hexdigest()[:8]
        c.metadata = {}
    first = next(c for c in cells if c.cell_type=='markdown')
    first.source += f'\n\nHeadings and code only. The text is in [the lesson](../{path.name}).'
    nb.cells = cells
    # the form that nbdev_clean leaves
    return nbformat.writes(nb, version=4) + '\n'

def build(): return {p.name: twin(p) for p in sorted(lessons.glob('*.ipynb'))}

def in_step():
    "Are the twins what the lessons give?"
    return build()=={p.name: p.read_text(encoding='utf-8') for p in twins.glob('*.ipynb')}

def write():
    "Write the twins; .notest keeps nbdev_test from running the same cells twice"
    new = build()
    twins.mkdir(exist_ok=True)
    (twins/'.notest').touch()
    for p in twins.glob('*.ipynb'):
        if p.name not in new: p.unlink()
    for name,text in new.items(): (twins/name).write_text(text, encoding='utf-8')

if __name__=='__main__':
    if sys.argv[1:]==['--check']: sys.exit(0 if in_step() else 'The clean twins are not what the lessons give: run `python tools/clean_twins.py`')
    write()
