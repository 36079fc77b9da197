"Run notebooks and keep their visible outputs: `python tools/outputs.py nbs/10_data.ipynb ...`; warnings and outputs of hidden cells are left out"
import re, subprocess, sys
from pathlib import Path
import nbformat

bin_ = Path(sys.executable).parent
hidden = re.compile(r'^#\|\s*(hide|default_exp|export)', re.M)
bar = re.compile(r'\|[█-]{10,}\|') # a progress bar as text

def tidy(path):
    "Drop what no reader should see, and say how large the notebook is"
    nb = nbformat.read(path, as_version=4)
    for c in nb.cells:
        if c.cell_type!='code': continue
        c.outputs = [] if hidden.search(c.source) else [o for o in c.outputs if o.get('name')!='stderr' and not bar.search(o.get('text', '')) and 'application/vnd.jupyter.widget-view+json' not in o.get('data', {})]
    nbformat.write(nb, path)
    subprocess.run([bin_/'nbdev_clean', '--fname', path], check=True)
    print(f'{path}: {Path(path).stat().st_size/1000:.0f} KB')

if __name__=='__main__':
    for p in sys.argv[1:]:
        subprocess.run([bin_/'nbdev_test', p, '--save'], check=True)
        tidy(p)
