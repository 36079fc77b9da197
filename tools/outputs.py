"Run notebooks and keep their visible outputs: `python tools/outputs.py nbs/44_vision.data.ipynb ...`; warnings, progress bars and outputs of hidden cells are left out"
import re, subprocess, sys
from pathlib import Path
import nbformat

bin_ = Path(sys.executable).parent
hidden = re.compile(r'^#\|\s*(hide|default_exp|export)', re.M)
bar = re.compile(r'\|[█-]{10,}\|') # a progress bar as text, where it was left standing

def plain(text):
    "Text as a terminal leaves it, without progress bars: of a line that was written over, the last version"
    return '\n'.join(l for l in (o.rsplit('\r', 1)[-1].rstrip(' █') for o in text.split('\n')) if not bar.search(l))

def _tidy_output(o):
    "An output as a reader should see it, or None"
    if o.get('name')=='stderr' or 'application/vnd.jupyter.widget-view+json' in o.get('data', {}): return None
    if o.output_type=='stream': o.text = plain(o.text)
    return o if o.output_type!='stream' or o.text.strip() else None

def tidy(path):
    "Drop what no reader should see, and say how large the notebook is"
    nb = nbformat.read(path, as_version=4)
    for c in nb.cells:
        if c.cell_type!='code': continue
        c.outputs = [] if hidden.search(c.source) else [o for o in map(_tidy_output, c.outputs) if o]
    nbformat.write(nb, path)
    subprocess.run([bin_/'nbdev_clean', '--fname', path], check=True)
    print(f'{path}: {Path(path).stat().st_size/1000:.0f} KB')

if __name__=='__main__':
    for p in sys.argv[1:]:
        subprocess.run([bin_/'nbdev_test', p, '--save'], check=True)
        tidy(p)
