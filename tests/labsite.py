"A real Jupyter server (JupyterLab, Notebook 7, Voila) and a headless Chromium before it, for test_widgets.py and benchmarks/widget.py"
import contextlib, importlib.util, json, os, shutil, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
driver = shutil.which('chromedriver')
missing = [o for o in ('jupyterlab', 'notebook', 'voila', 'selenium', 'nbformat') if importlib.util.find_spec(o) is None]
flags = ('--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1300,1000')

folders = 'JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR IPYTHONDIR JUPYTERLAB_SETTINGS_DIR JUPYTERLAB_WORKSPACES_DIR'

def wait(f, what, secs=40):
    end,err = time.monotonic()+secs, None
    while time.monotonic()<end:
        try:
            if res := f(): return res
        except Exception as e: err = e # a page that is just changing has not the elements yet
        time.sleep(.05)
    raise AssertionError(f'{what} did not come within {secs} s{f" ({err})" if err else ""}')

def notebook(path, cells):
    "Write a notebook of code cells"
    import nbformat
    spec = dict(name='python3', display_name='Python 3', language='python')
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=dict(kernelspec=spec))
    nbformat.write(nb, path)

@contextlib.contextmanager
def server(root):
    "A server with settings of its own, whose address is given"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
        dirs = {k:str(Path(tmp)/k) for k in folders.split()}
        quiet = Path(dirs['JUPYTERLAB_SETTINGS_DIR'])/'@jupyterlab/apputils-extension/notification.jupyterlab-settings'
        quiet.parent.mkdir(parents=True)
        quiet.write_text(json.dumps(dict(fetchNews='false', checkForUpdates=False))) # else it asks the network
        with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
        opts = dict(root_dir=root, ip='127.0.0.1', port=port, port_retries=0, password='', allow_root=True)
        expose = [f'--{o}.expose_app_in_browser=True' for o in ('LabApp','JupyterNotebookApp')]
        expose += [f'--ServerApp.{k}={v}' for k,v in opts.items()]
        cmd = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--IdentityProvider.token=', *expose]
        with open(Path(tmp)/'log', 'w') as log: p = subprocess.Popen(cmd, cwd=root, env=dict(os.environ, **dirs), stdout=log, stderr=log)
        url = f'http://127.0.0.1:{port}'
        def up():
            if p.poll() is not None: raise SystemExit(f'The Jupyter server ended: {(Path(tmp)/"log").read_text()[-2000:]}')
            return urllib.request.urlopen(f'{url}/api/status', timeout=5)
        try:
            wait(up, 'the Jupyter server')
            yield url
        finally: p.terminate(); p.wait(20)

@contextlib.contextmanager
def chromium():
    "A headless Chromium with a profile of its own"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
        o = webdriver.ChromeOptions()
        o.binary_location = browser
        for f in flags.split() + [f'--user-data-dir={tmp}']: o.add_argument(f)
        d = webdriver.Chrome(options=o, service=Service(driver))
        try: yield d
        finally: d.quit()

class Page:
    "What a person does with the widget"
    def __init__(self, d): self.d,self.js = d,d.execute_script
    def find(self, css): return wait(lambda: self.d.find_elements('css selector', css), css)
    def cards(self, n=12):
        there = lambda: self.js("return document.querySelectorAll('.gc-card img.gc-there').length")
        return wait(lambda: len(o := self.d.find_elements('css selector', '.gc-card[data-file]'))==n and there()==n and o, f'{n} posters')
    def focus(self, i=0, css='.gc-card[data-file]'):
        "As a person does: a notebook takes the focus back from a script"
        wait(lambda: self.find(f'{css} .gc-file')[i].click() is None, 'the focus')
    def press(self, *keys):
        from selenium.webdriver import ActionChains
        for k in keys: ActionChains(self.d).send_keys(k).perform()
    def marks(self):
        "The marked posters, by the number in the names of their files"
        return self.js("const all = [...document.querySelectorAll('.gc-card[data-file]')];"
            "return Object.fromEntries(all.map(o => [o.dataset.file.slice(7, 10), o.dataset.mark]).filter(o => o[1]))")
    def see(self, **want): wait(lambda: self.marks()=={k[1:]:v for k,v in want.items()}, f'the marks {want}, now {self.marks()}')
    def choose(self, name, value):
        self.js("const s = document.querySelector('.gc-select[name=' + arguments[0] + ']'); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change'))", name, value)
    def total(self): return self.js("return document.querySelector('.gc-total').textContent")
    def command(self, name): self.js('window.jupyterapp.commands.execute(arguments[0])', name)
    def open(self, url):
        "Open a notebook in JupyterLab or Notebook 7, and wait for its kernel"
        self.d.get(url)
        wait(lambda: self.js("const w = [...(window.jupyterapp?.shell?.widgets('main') || [])].find(o => o.sessionContext);"
            "if (w?.sessionContext?.session?.kernel?.status !== 'idle') return false;"
            "jupyterapp.shell.activateById(w.id); return true"), 'the kernel')
