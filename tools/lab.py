"Run lessons as a reader does, in JupyterLab or Notebook 7 in a headless Chromium: `python tools/lab.py [--notebook] [--out FOLDER] [03_train ...]`; with --out, a picture of each whole page is kept"
import argparse, io, itertools, shutil, sys, tempfile, time
from pathlib import Path
import nbformat
from PIL import Image

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tests'))
from labsite import Page, chromium, server, wait

lessons = sorted(p.stem for p in (root/'nbs/lessons').glob('*.ipynb'))
paths = dict(lab='lab/tree', notebook='notebooks')

panel = "const p = [...jupyterapp.shell.widgets('main')].find(o => o.sessionContext);"
# what the interface knows of its notebook: the kernel's state, and number, text and outputs of each code cell
state = panel + "return {kernel: p.sessionContext.session.kernel.status, cells: [...p.content.model.cells].map((c, i) => ({n: i+1, ...c.toJSON()})).filter(c => c.cell_type === 'code')}"
show = panel + "p.content.activeCellIndex = arguments[0]; p.content.scrollToItem(arguments[0], 'start')"
no_widget = "return [...document.querySelectorAll('.jp-OutputArea-output')].map(o => o.innerText).filter(o => /^(Error (displaying|creating) widget|Loading widget)/.test(o))"
# put the part of the page that scrolls at a height, and say what came of it
scroll = """const all = [...document.querySelectorAll('.jp-Notebook, .jp-WindowedPanel-outer, .jp-NotebookPanel-notebook, #main-panel')];
const o = all.find(o => o.scrollHeight > o.clientHeight+1 && getComputedStyle(o).overflowY !== 'hidden') || all[0];
o.scrollTop = arguments[0]; const r = o.getBoundingClientRect(); return [o.scrollTop, r.left, r.top, o.clientWidth, o.clientHeight]"""

class LessonFailed(Exception): pass

def copy(name, dest):
    "A lesson as a reader gets it, without outputs, beside what it shows; its address from the root of the server"
    shutil.copytree(root/'nbs/lessons/images', dest/'nbs/lessons/images')
    shutil.copytree(root/'results', dest/'results')
    p = dest/f'nbs/lessons/{name}.ipynb'
    nb = nbformat.read(root/f'nbs/lessons/{name}.ipynb', as_version=4)
    for c in nb.cells:
        if c.cell_type=='code': c.outputs,c.execution_count = [],None
    nbformat.write(nb, p)
    return p.relative_to(dest).as_posix()

def outputs(cells, **want): return [(c,o) for c in cells for o in c['outputs'] if all(o.get(k)==v for k,v in want.items())]

def ended(p):
    "The code cells, once all have run; an error in one of them ends it"
    s = p.js(state)
    for c,o in outputs(s['cells'], output_type='error'):
        raise LessonFailed(f'cell {c["n"]} gives {o["ename"]}: {o["evalue"]}\n\n{"".join(c["source"])}')
    return s['kernel']=='idle' and all(c['execution_count'] for c in s['cells']) and s['cells']

def run_all(p, secs):
    "Run > Run All Cells, by mouse; seconds and code cells"
    next(o for o in p.find('.lm-MenuBar-itemLabel') if o.text=='Run').click()
    p.find('.lm-Menu-item[data-command="runmenu:run-all"]')[0].click()
    t = time.monotonic()
    while not (cells := ended(p)):
        if time.monotonic()-t>secs: raise LessonFailed(f'{secs} s were not enough; these cells have not run: {[c["n"] for c in p.js(state)["cells"] if not c["execution_count"]]}')
        time.sleep(.5)
    return time.monotonic()-t, cells

def see_widgets(p, cells):
    "Every widget is on the page, and the posters of a cleaner have come; how many there are"
    views = [c for c,o in outputs(cells) if 'application/vnd.jupyter.widget-view+json' in o.get('data', {})]
    for c in views:
        p.js(show, c['n']-1)
        if 'Cleaner' in ''.join(c['source']): wait(lambda: p.d.find_elements('css selector', '.gc-card[data-file] img.gc-there'), f'the posters of cell {c["n"]}')
    if bad := p.js(no_widget): raise LessonFailed(f'in place of a widget: {bad[0]}')
    return len(views)

def shoot(p, to):
    "Keep the whole page, screen by screen: cells out of sight are not drawn"
    screens,y = [],0
    while True:
        p.js(scroll, y); time.sleep(.7) # widgets and pictures come when they are in sight
        now,left,up,w,h = map(int, p.js(scroll, y))
        im = Image.open(io.BytesIO(p.d.get_screenshot_as_png())).convert('RGB')
        screens.append(im.crop((left, up+y-now, left+w, up+h)))
        if now<y: break # less than a screen was left
        y += h
    page = Image.new('RGB', (w, sum(o.height for o in screens)))
    for o,at in zip(screens, itertools.accumulate([0]+[o.height for o in screens])): page.paste(o, (0,at))
    to.parent.mkdir(parents=True, exist_ok=True)
    page.save(to)

def run_lesson(name, where='lab', out=None, secs=600):
    "Open a lesson, run it, look at it; a line about it"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp, chromium() as d:
        at = copy(name, Path(tmp))
        with server(tmp) as url:
            p = Page(d)
            p.open(f'{url}/{paths[where]}/{at}')
            try:
                took,cells = run_all(p, secs)
                n = see_widgets(p, cells)
            except LessonFailed as e: raise LessonFailed(f'{name} in {where}: {e}') from None
            finally:
                if out: shoot(p, Path(out)/f'{name}-{where}.png')
    for c,o in outputs(cells, name='stderr'): print(f'  cell {c["n"]} on stderr: {"".join(o["text"]).strip()[:300]}')
    return f'{name} in {where}: {len(cells)} code cells in {took:.0f} s, {n} widgets'

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', default=lessons, metavar='lesson', help=', '.join(lessons))
    parser.add_argument('--notebook', action='store_true', help='Notebook 7 in place of JupyterLab')
    parser.add_argument('--out', help='folder for pictures of the pages')
    parser.add_argument('--secs', type=int, default=600, help='the longest that a lesson may take')
    a = parser.parse_args()
    if odd := set(a.names)-set(lessons): parser.error(f'there is no lesson {sorted(odd)[0]}; lessons: {", ".join(lessons)}')
    failed = 0
    for name in a.names:
        try: print(run_lesson(name, 'notebook' if a.notebook else 'lab', a.out, a.secs), flush=True)
        except (LessonFailed, AssertionError) as e: failed += 1; print(f'FAILED {e}', flush=True)
    return failed

if __name__=='__main__': sys.exit(main())
