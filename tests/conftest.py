"What is cached of pictures lies in a temporary folder while the tests run: none depends on what an earlier run has left, and none adds to the user's own"
import os, shutil, tempfile
from pathlib import Path

def pytest_configure(config):
    own = Path(os.environ.get('XDG_CACHE_HOME') or Path.home()/'.cache')
    for name,folder in (('TORCH_HOME','torch'), ('HF_HOME','huggingface')): os.environ.setdefault(name, str(own/folder)) # weights are not fetched again
    config.cache_folder = os.environ['XDG_CACHE_HOME'] = tempfile.mkdtemp(prefix='genre-fastai-tests-')

def pytest_unconfigure(config): shutil.rmtree(config.cache_folder, ignore_errors=True)
