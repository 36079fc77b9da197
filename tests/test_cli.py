"The commands as strangers call them: chains that need no notebook, odd consoles, names and numbers, and what is said when something stops"
import contextlib, errno, importlib, io, json, os, re, shlex, signal, subprocess, sys, time
from pathlib import Path
import pandas as pd, pytest, typer
from genre_fastai.cli import app, main
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import read_catalog
from genre_fastai.sample.dataset import make_sample
from genre_fastai.sample.site import SampleSite

root = Path(__file__).resolve().parent.parent
lite = '--arch tf_efficientnet_lite0'

@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    "Bars are switched off for the whole process; not for the tests after these"
    import fastprogress.fastprogress as fp
    monkeypatch.setattr(fp, 'NO_BAR', fp.NO_BAR)
    monkeypatch.setattr(fp.ConsoleProgressBar, 'fill', fp.ConsoleProgressBar.fill)

def cli(line):
    "Exit code, output and errors of a command line"
    out,err = io.StringIO(),io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end: main(shlex.split(line) if isinstance(line, str) else line)
    return end.value.code, out.getvalue(), err.getvalue()

def works(line):
    code,out,err = cli(line)
    assert code==0, (line, out, err)
    return out

def refused(line, say=''):
    "The one line of a command that is refused"
    code,out,err = cli(line)
    assert code==2 and out=='' and len(err.splitlines())==1, (line, code, out, err)
    assert say in err, (line, err)
    return err

def commands():
    "Every command as (words, click command)"
    top = typer.main.get_command(app)
    res = {(): top}
    for k,c in top.commands.items():
        res[k,] = c
        for k2,c2 in getattr(c, 'commands', {}).items(): res[k,k2] = c2
    return res

@pytest.fixture(scope='module')
def truth(tmp_path_factory): return make_sample(tmp_path_factory.mktemp('sample'), n=48, seed=3, classes=['horror','romance'], size=(100,150))

@pytest.fixture(scope='module')
def made(truth, tmp_path_factory):
    "A catalog and a probe, made by commands"
    d = tmp_path_factory.mktemp('made')
    truth.where(kind=['clean','wrong_label']).save(d/'posters.csv')
    works(f'catalog {d}/posters.csv --out {d}/catalog.csv --path {truth.path}')
    works(f'train {d}/catalog.csv --out {d}/model --recipe probe {lite} --path {truth.path}')
    return d

# ---- chains

def test_rows_that_a_model_was_trained_on_are_known_after_cleaning(made, truth, tmp_path):
    cat = read_catalog(made/'catalog.csv', truth.path)
    n,gone = len(cat.ok.where(split='train')), cat.ok.where(split='train').df['id'][:2].tolist()
    cat[(~cat.df['id'].isin(gone)).to_numpy()].save(tmp_path/'cleaned.csv')
    works(f'train {tmp_path}/cleaned.csv --out {tmp_path}/model --recipe probe {lite} --path {truth.path}')
    for o in tmp_path.glob('model/catalog.*'): o.unlink() # as of a model that was given away
    anew = cat.new(cat.df.drop(columns='split').assign(id=[f'row {i}' for i in range(len(cat))])) # put together and divided anew
    anew.split(seed=5).save(tmp_path/'anew.csv')
    test = read_catalog(tmp_path/'anew.csv', truth.path).ok.where(split='test')
    seen = sum(o in set(cat.ok.where(split='train').df['sha256'])-set(cat.where(id=gone).df['sha256']) for o in test.df['sha256'])
    assert 0<seen<len(test)
    for csv,split,k,m in (('anew.csv','test',seen,len(test)), ('anew.csv','all',n-2,len(cat.ok)), ('cleaned.csv','all',n-2,len(cat.ok)-2)):
        code,_,err = cli(f'evaluate {tmp_path}/model {tmp_path/csv} --split {split} --path {truth.path}')
        assert code==0 and f'model was trained on {k} of these {m} rows' in err, err
    for split in ('test','train'): assert 'was trained on' not in cli(f'evaluate {tmp_path}/model {tmp_path}/cleaned.csv --split {split} --path {truth.path}')[2]

def readme_lines():
    block = next(o for o in re.findall(r'^```\w*\n(.*?)^```', (root/'README.md').read_text(encoding='utf-8'), re.S|re.M) if o.startswith('genre-fastai'))
    return [shlex.split(o, comments=True)[1:] for o in block.splitlines() if o.strip()]

def test_the_chain_of_the_readme(truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = dict(download=['--allow-private'], train=['--recipe', 'probe', *lite.split()])
    with SampleSite(truth, slow=.1) as site:
        for o in ('horror', 'romance'): Path(f'{o}.html').write_text(site.search_page(o))
        (tmp_path/'new.jpg').write_bytes(truth.files[0].read_bytes())
        works('urls google romance.html --label romance --out romance.csv') # the README shows the first of the lists
        seen = [words[0] for words in readme_lines() if works(words + more.get(words[0], [])) is not None]
    assert seen[0]=='urls' and {'download','catalog','train','evaluate','clean','predict'} <= set(seen)
    works(['train', 'posters/clean.csv', '--out', 'third', *more['train']])
    assert json.loads(works('evaluate third posters/clean.csv --json'))['n']>0

def film_table(site, entries):
    rows = [dict(imdbId=i, Title=f'Film {i} (1999)', Genre='Horror|Romance' if i%3==0 else e['label'].title(), Poster=site.url+e['url_path']) for i,e in enumerate(entries)]
    return pd.DataFrame(rows).assign(**{'Imdb Link': 'http://imdb.example/1', 'IMDB Score': 7})

def test_from_a_film_table_with_several_genres(truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SampleSite(truth, slow=.1) as site:
        film_table(site, [e for e in site.entries if not e['fault'] and e['kind']=='clean']).to_csv('MovieGenre.csv', index=False)
        works('urls kaggle MovieGenre.csv --out films.csv')
        works('download films.csv --dest posters --allow-private')
    works('catalog posters/journal.jsonl --out posters/catalog.csv')
    cat = read_catalog('posters/catalog.csv')
    assert cat.multi and {len(o) for o in cat.ok.targets}=={1,2}
    works(f'train posters/catalog.csv --out model --recipe probe {lite}')
    assert 'f1' in json.loads(works('evaluate model posters/catalog.csv --json'))
    works('clean posters/catalog.csv --out posters/clean.csv --rule relabel')
    assert '|' in Path('posters/clean.csv').read_text()
    works(f'predict model {shlex.quote(str(truth.files[0]))}')

def test_from_words_to_a_catalog(truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SampleSite(truth, slow=.1) as site:
        for o in ('horror', 'romance'): Path(f'{o}.html').write_text(site.search_page(o))
        said = works(['collect', 'horror', 'romance=romance.html', '--source', 'google', '--dest', 'my posters', '--n', '15', '--allow-private'])
    following = next(o for o in said.splitlines() if o.startswith('genre-fastai'))
    works(shlex.split(following)[1:])
    assert read_catalog('my posters/catalog.csv').classes==['horror','romance']
    refused('collect horror=a horror=b --dest d', 'twice')
    refused('collect horror romance --source gogle --dest d', 'Did you mean google')

def test_small_catalogs(truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(8):
        f = tmp_path/'d'/'ab'[i%2]/f'{i}.jpg'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_bytes(truth.files[i].read_bytes())
    works('catalog d --out d/c.csv')
    works('clean d/c.csv --out d/e.csv')
    works(f'train d/c.csv --out m --recipe probe {lite}')
    said = works(f'train d --out first --recipe probe {lite}') # of a folder, a catalog is built first
    assert 'd is no catalog with splits, so one was built' in said and '--path' in said
    rows = read_catalog('first/catalog.csv', 'd').where(split='test')
    assert f'{len(rows.ok)} test rows' in said and works('evaluate first first/catalog.csv --path d') in said
    assert 'test rows' not in works(f'train d/c.csv --out m --recipe probe --no-evaluate {lite}')
    read_catalog('d/c.csv').assign(split='train').save('d/t.csv')
    refused('evaluate m d/t.csv', 'it has 8 train')
    works('evaluate m d/t.csv --split Train')
    refused('train d/t.csv --out m2', 'valid')
    assert not list(Path('m2').glob('*'))
    for i in range(2, 8): (tmp_path/'d'/'ab'[i%2]/f'{i}.jpg').unlink()
    works('catalog d --out d/two.csv')
    for o in ('clean d/two.csv --out d/e2.csv', f'train d/two.csv --out m3 --recipe probe {lite}'):
        code,_,err = cli(o)
        assert code==2 and 'Choose a number' not in err and 'ollect more' in err, err # no command has an option for folds

def test_predict_takes_folders_and_patterns(made, truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('new').mkdir()
    for i in range(3): Path(f'new/{i}.jpg').write_bytes(truth.files[i].read_bytes())
    assert works(f'predict {made}/model new').count('new/')==3
    assert works(['predict', f'{made}/model', 'new/*.jpg', '--csv', 'p.csv']).startswith('3 predictions')
    Path('new/cut.jpg').write_bytes(truth.files[0].read_bytes()[:500])
    code,out,err = cli(f'predict {made}/model new')
    assert code==2 and out.count('new/')==3 and '1 of 4' in err and 'cut.jpg' in err
    refused(['predict', f'{made}/model', '*.png'], 'no pictures')
    refused(['predict', f'{made}/model', 'http://127.0.0.1:9/1.jpg'], 'http://127.0.0.1:9/1.jpg: private-address')
    refused(f'predict {made}/model nothing.jpg')
    refused(f'predict {made}/model new/0.jpg --csv new/0.jpg', 'table')

def test_a_second_cleaning_is_not_bound_to_the_first(made, truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    works(f'clean {made}/catalog.csv --out a.csv --path {truth.path}')
    first = Path('a.csv').read_text()
    works(f'clean {made}/catalog.csv --out a.csv --rule relabel --path {truth.path}')
    works(f'clean {made}/catalog.csv --out b.csv --rule relabel --path {truth.path}')
    assert Path('a.csv').read_text()==Path('b.csv').read_text()!=first
    works(f'catalog {made}/catalog.csv --out other.csv --resplit --seed 7 --path {truth.path}')
    works(f'clean other.csv --out a.csv --path {truth.path}') # the journal beside it was another catalog's

# ---- words, numbers, names

numbers = ['train C --out m --bs 0', 'train C --out m --bs -4', 'train C --out m --bs 1.5', 'train C --out m --epochs -1', 'train C --out m --freeze-epochs -1',
    'train C --out m --seed -1', 'train C --out m --seed 99999999999999999999', 'train C --out m --base-lr nan', 'train C --out m --base-lr 0',
    'train C --out m --base-lr -1', 'train C --out m --base-lr inf', 'train C --out m --base-lr high', 'train C --out m --size 0', 'train C --out m --size 9999',
    'catalog C --out o.csv --valid nan', 'catalog C --out o.csv --valid -0.1', 'catalog C --out o.csv --valid 1', 'catalog C --out o.csv --valid .5 --test .5',
    'catalog C --out o.csv --test inf', 'catalog C --out o.csv --valid a', 'download L --dest d --timeout 0', 'download L --dest d --timeout nan',
    'download L --dest d --timeout inf', 'download L --dest d --timeout -1', 'download L --dest d --per-host 0', 'download L --dest d --max-side 0',
    'download L --dest d --max-side -5', 'download L --dest d --min-pixels -1', 'download L --dest d --min-pixels 99999999999', 'collect a b --dest d --n 0',
    'urls duckduckgo horror --out o.csv --n 0', 'urls tmdb --genre Horror --out o.csv --n -1', 'urls snippet horror --n 0', 'demo --n 5 --out d', 'demo --epochs -1 --out d',
    'results --posters C --out r --seeds 0', 'results --posters C --out r --sizes 1,a', 'results --posters C --out r --sizes \u00b2', 'clean C --out o.csv --seed -1']
words = ['train C --out m --recipe magic', 'train C --out m --weights nothing.pth', 'train C --out m --weights ""', 'demo --weights nothing.pth --out d', 'urls tmdb --out o.csv --ids ,', 'urls read L --label null --out o.csv', 'evaluate m C --path nowhere', 'train C --out m --keep-best f1', 'catalog C --out o.csv --contradictions kep', 'catalog C --out o.csv --policy gray=drop',
    'catalog C --out o.csv --policy grey', 'catalog C --out o.csv --policy grey=', 'catalog C --out o.csv --policy grey=burn', 'evaluate m C --split tset', 'evaluate m C --split ""',
    'clean C --out o.csv --rule dorp', 'clean C --out o.csv --rule drop,relabel', 'demo --rule x --out d', 'urls merge L --out o.csv --conflicts best,keep', 'urls tmdb --out o.csv --size w1',
    'urls kaggle L --out o.csv --size big', 'collect a b --dest d --source bing', 'results --posters C --out r --recipes probe,magic', 'trian C --out m', 'train C --out m --epoch', 'train', 'train C', 'urls gogle']

@pytest.fixture
def nothing_runs(made, tmp_path, monkeypatch):
    "A folder with a catalog C and a list L, where every long work is an error"
    monkeypatch.chdir(tmp_path)
    (tmp_path/'C').write_text((made/'catalog.csv').read_text())
    (tmp_path/'L').write_text('https://a.example/1.jpg\n')
    (tmp_path/'m').mkdir()
    def no(*a, **kw): raise AssertionError('the work began')
    for o in 'catalog.build.build_catalog train.recipes.train collect.download.download_posters collect.posters.collect_posters features.extract.extract_features deploy.folder.load_predictor course.demo.run_demo course.benchmark.run_leaks'.split():
        mod,_,name = o.rpartition('.')
        monkeypatch.setattr(importlib.import_module(f'genre_fastai.{mod}'), name, no)

@pytest.mark.parametrize('line', numbers+words)
def test_numbers_and_words_are_refused_before_the_work(line, nothing_runs, tmp_path):
    before = sorted(tmp_path.rglob('*'))
    refused(line)
    assert sorted(tmp_path.rglob('*'))==before

def test_words_in_any_case_and_place(made, truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    works(f'catalog --contradictions KEEP --out=c.csv {made}/posters.csv --path {truth.path} --valid=.25')
    assert works(f'evaluate --split VALIDATION {made}/model {made}/catalog.csv --path {truth.path}')==works(f'evaluate {made}/model {made}/catalog.csv --path {truth.path} --split valid')
    refused('trian c.csv', "Did you mean 'train'")

outs = dict(file=['catalog SRC --out {}', 'urls read L --out {}', 'urls kaggle L --out {}', 'urls merge L L --out {}', 'urls google L --out {}', 'urls tmdb --genre Horror --out {}',
    'urls duckduckgo horror --out {}', 'clean C --out {}', 'predict m 1.jpg --csv {}', 'catalog SRC --out o.csv --card {}'],
    folder=['download L --dest {}', 'collect a b --dest {}', 'train C --out {}', 'demo --out {}', 'results --posters C --out {}'])

@pytest.mark.parametrize('kind,line', [(k,o) for k,v in outs.items() for o in v])
def test_what_cannot_be_written_is_known_before_the_work(kind, line, nothing_runs, tmp_path):
    for o in ('SRC', 'sub'): (tmp_path/o).mkdir()
    line = line.replace('{}', '{!r}')
    for name in ('', ' ', '-', 'C/below/o.html', 'x'*300, 'https://a.example/o'): refused(line.format(name))
    refused(line.format('sub' if kind=='file' else 'C'), 'is a f')
    if os.name!='nt' and os.geteuid():
        (tmp_path/'sub').chmod(0o500)
        refused(line.format('sub/o.html'), 'cannot be written to')

ins = dict(file=['train {} --out o', 'evaluate m {}', 'clean {} --out o.csv', 'urls read {} --out o.csv', 'urls kaggle {} --out o.csv', 'urls google {} --out o.csv', 'urls merge {} --out o.csv',
    'download {} --dest d', 'demo --posters {} --out d', 'results --posters {} --out r --no-leaks --no-cleaning', 'catalog {} --out o.csv'])
odd_files = {'a.zip': b'PK\3\4 and more\0', 'a.xlsx': b'PK\3\4 and more\0', 'a.tgz': b'\x1f\x8b\x08\0', 'a.tar': b'a'*100+b'\0'*157+b'ustar', 'a.parquet': b'PAR1\0\0', 'a.pkl': b'\x80\x04\x95\0',
    'a.json': b'[{"file": "1.jpg", "label": "a"}]', 'a.jpg': b'\xff\xd8\xff\xe0\0\x10JFIF', 'a.pdf': b'%PDF-1.4\0'}

@pytest.mark.parametrize('line', ins['file'])
def test_what_is_read_is_of_its_kind(line, nothing_runs, tmp_path, made):
    line = line.replace('evaluate m', f'evaluate {made}/model')
    for name in ('', '-', 'none.csv', 'x'*300, 'https://a.example/l.csv'): refused(line.replace('{}', repr(name)))
    for name,data in odd_files.items():
        (tmp_path/name).write_bytes(data)
        if 'urls google' not in line or name in ('a.jpg', 'a.json', 'a.pdf'): refused(line.replace('{}', name), name)
    (tmp_path/'empty').mkdir()
    if line.split()[0] not in ('catalog', 'train'): refused(line.replace('{}', 'empty'), 'empty')

def test_a_model_is_a_folder(nothing_runs, made, tmp_path):
    (tmp_path/'export.pkl').write_bytes(b'\x80\4')
    for line in ('evaluate {} C', 'predict {} C'):
        refused(line.format('export.pkl'), 'a model is a folder')
        refused(line.format(f'{made}/model/config.json'), f'Give its folder {made}/model')
        refused(line.format("''"), 'is empty')

def test_a_catalog_of_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'empty').mkdir()
    (tmp_path/'a.csv').write_text('')
    for o in ('empty', 'a.csv', 'none'): refused(f'catalog {o} --out c.csv', o)
    assert not Path('c.csv').exists()

def test_names_that_the_shell_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    monkeypatch.setenv('USERPROFILE', str(tmp_path/'home'))
    Path('l.txt').write_text('https://a.example/1.jpg\n')
    works(['urls', 'read', ' l.txt ', '--out=~/lists/a.csv'])
    assert Path('home/lists/a.csv').exists() and not Path('~').exists()
    works(['urls', 'read', './l.txt', '--out', 'l.csv '])
    assert Path('l.csv').exists()
    Path(' odd.txt').write_text('https://a.example/1.jpg\n')
    works(['urls', 'read', ' odd.txt', '--out', 'o.csv']) # a name that really begins with a blank
    refused('urls read l.txt --out l.txt', 'a way back')

def test_a_source_is_not_written_over(made, truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('c.csv').write_text((made/'posters.csv').read_text())
    before = Path('c.csv').read_text()
    refused(f'catalog c.csv --out ./c.csv --path {truth.path}', 'a way back')
    assert Path('c.csv').read_text()==before

# ---- consoles, ends

odd = '\U0001F3AC \u6620\u753b \u0130 \x1b[2J'
def python(*args, **env):
    "This command line in a process of its own"
    return subprocess.Popen([sys.executable, '-c', 'from genre_fastai.cli import main; main()', *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ|env)

@pytest.mark.parametrize('env', [dict(PYTHONIOENCODING='cp1252:strict'), dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')], ids=str)
def test_a_console_costs_no_result(env, tmp_path):
    lists = [tmp_path/o for o in ('a.csv', 'b.csv')]
    for i,o in enumerate(lists): o.write_text(f'url,label,title\nhttps://a.example/1.jpg,{odd} {i},{odd}\n', encoding='utf-8')
    p = python('urls', 'merge', *map(str, lists), '--out', str(tmp_path/'c.csv'), **env)
    out,err = p.communicate(timeout=60)
    assert p.returncode==0 and b'1 addresses stand under two labels' in out and b'\\u6620' in out and b'Traceback' not in err
    assert len(read_text := (tmp_path/'c.csv').read_text(encoding='utf-8').splitlines())==3 and '\u6620' in read_text[1]

@pytest.mark.skipif(os.name=='nt', reason='needs a POSIX shell')
@pytest.mark.parametrize('after,code', [('| true', 0), ('>&-', 0), ('>&- 2>&-', 0), ('2>&-', 0), ('> /dev/full', 2)])
def test_a_reader_that_went_away(after, code, tmp_path):
    if 'full' in after and not Path('/dev/full').exists(): pytest.skip('no /dev/full')
    (tmp_path/'l.txt').write_text('https://a.example/1.jpg\n'*3+'no address\n')
    line = f'set -o pipefail; {sys.executable} -c "from genre_fastai.cli import main; main()" urls read l.txt --label a --out l.csv {after}'
    res = subprocess.run(['bash', '-c', line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert res.returncode==code and 'Traceback' not in res.stderr and 'Exception ignored' not in res.stderr, res.stderr
    assert len((tmp_path/'l.csv').read_text().splitlines())==2

def ends(monkeypatch, target, error, line):
    "What a command says when a function in it ends with an error"
    def f(*args, **kw):
        if callable(error): error()
        raise error
    mod,_,name = target.rpartition('.')
    monkeypatch.setattr(importlib.import_module(f'genre_fastai.{mod}'), name, f)
    code,_,err = cli(line)
    assert len(err.strip().splitlines())==1 and 'Traceback' not in err, err
    return code, err

long_work = {'catalog C --out o.csv': ('catalog.build.build_catalog', 'run the same command again'), 'train C --out m': ('train.recipes.train', '--resume'),
    'download L --dest d': ('collect.download.download_posters', 'goes on'), 'collect a b --dest d': ('collect.posters.collect_posters', 'goes on'),
    'clean C --out o.csv': ('features.extract.extract_features', 'run the same command again'), 'demo --out d': ('course.demo.run_demo', 'begins anew'),
    'results --posters C --out r': ('course.benchmark.run_leaks', 'goes on'), 'evaluate m C': ('deploy.folder.load_predictor', 'Nothing was written')}

@pytest.mark.parametrize('line', long_work)
def test_ctrl_c_says_how_to_go_on(line, nothing_runs, monkeypatch, truth):
    target,say = long_work[line]
    if 'evaluate' in line: line += f' --path {truth.path}'
    code,err = ends(monkeypatch, target, KeyboardInterrupt(), line)
    assert code==130 and err.startswith('genre-fastai: Stopped.') and say in err
    for o in re.findall(r'--[a-z-]+', err): assert any(o in p.opts for p in commands()[line.split()[0],].params), err
    def term():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    if os.name!='nt': assert ends(monkeypatch, target, term, line)[0]==143

def test_what_the_machine_lacks_is_no_bug(nothing_runs, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor
    def in_a_thread(e):
        def f(): raise e
        def run():
            with ThreadPoolExecutor(1) as p: p.submit(f).result()
        return run
    lacks = {MemoryError(): 'memory', OSError(errno.ENOSPC, 'No space left on device'): 'Make room', PermissionError(errno.EACCES, 'Permission denied', 'o.csv'): 'o.csv',
        OSError(errno.ENAMETOOLONG, 'File name too long'): 'shorter', OSError(errno.EMFILE, 'Too many open files'): 'ulimit', OSError(errno.EROFS, 'Read-only file system', 'o'): 'written to',
        RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'): '--bs', GenreError('two\nlines'): 'two lines'}
    for e,say in lacks.items():
        for o in (e, in_a_thread(e)):
            code,err = ends(monkeypatch, 'catalog.build.build_catalog', o, 'catalog C --out o.csv')
            assert code==2 and say in err, err
    def bug(*args, **kw): raise ZeroDivisionError('a bug')
    monkeypatch.setattr('genre_fastai.catalog.build.build_catalog', bug)
    with pytest.raises(ZeroDivisionError): main(['catalog', 'C', '--out', 'o.csv'])

# ---- what is imported

_no_torch = '''
import io, sys, contextlib
for o in 'torch fastai torchvision timm sklearn cleanlab'.split(): sys.modules[o] = None # an import of these is an error
from genre_fastai.cli import main
def run(line):
    with contextlib.suppress(SystemExit) as end, contextlib.redirect_stdout(io.StringIO()) as out: main(line.split())
    return out.getvalue()
for line in sys.argv[1].splitlines(): assert run(line), line
assert not {'pandas','numpy','PIL','aiohttp'} & set(sys.modules), 'a help or version needs no table'
for line in sys.argv[2].splitlines(): assert run(line), line
'''

def test_what_does_not_train_imports_nothing_that_does(truth, tmp_path):
    (tmp_path/'l.txt').write_text('http://127.0.0.1:9/a.jpg\n')
    rows = truth.where(kind='clean')[:20]
    rows.save(tmp_path/'posters.csv')
    helps = ['--version', *(' '.join([*names, '--help']) for names in commands())]
    work = ['urls read l.txt --out u.csv --label a', 'urls merge u.csv l.txt --out m.csv', 'urls snippet horror', 'download u.csv --dest d --allow-private --timeout 5',
        f'catalog posters.csv --out c.csv --card c.html --path {truth.path}']
    res = subprocess.run([sys.executable, '-c', _no_torch, '\n'.join(helps), '\n'.join(work)], cwd=tmp_path, capture_output=True, text=True, env=os.environ|dict(PYTHONPATH=str(root)))
    assert res.returncode==0 and (tmp_path/'c.html').exists(), res.stderr

# ---- help

def test_help_reads_well(monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    for names,c in commands().items():
        said = works([*names, '--help'])
        assert max(map(len, said.splitlines()))<=80, names
        assert not re.search(r'\bNone\b|<function|typing', said) and '...' not in said.partition('Commands:')[2], said
        for p in c.params: assert p.name=='help' or p.help, (names, p.name)
    assert works([])==works(['--help']) and works(['urls'])==works(['urls', '--help'])
    assert re.fullmatch(r'genre-fastai \d+\.\d+\.\d+\S*\n', works('--version'))

def test_every_option_that_a_message_names_is_one():
    have = {o for c in commands().values() for p in c.params for o in p.opts+p.secondary_opts} | {'--help'}
    text = {p: p.read_text(encoding='utf-8') for p in (root/'genre_fastai').rglob('*.py')}
    named = {(p.name, o) for p,t in text.items() for o in re.findall(r'(?<![\w-])--[a-z][a-z-]*[a-z]', t)}
    others = {'embed.py': ['--no-deps'], 'img2dataset.py': None, 'distributed.py': None, 'engines.py': ['--head','--address']} # options of pip, img2dataset, accelerate, torchrun, ray
    odd = [o for o in named if o[1] not in have and o[1]!='--gc-cell' and o[1] not in (others.get(o[0], []) or [o[1]]*(o[0] in others))]
    assert not odd, odd

def test_commands_that_a_message_names_are_there():
    have = {' '.join(k) for k in commands()}
    for p in (root/'genre_fastai').rglob('*.py'):
        for o in re.findall(r'`genre-fastai ([a-z ]+?)(?= [A-Z{<-]|`)', p.read_text(encoding='utf-8')): assert o in have or o.rpartition(' ')[0] in have, (p.name, o)

def test_a_benchmark_is_refused_or_goes_on(nothing_runs, monkeypatch):
    refused('benchmark --posters C --out r --only recipes,magic', '--only takes')
    refused('benchmark --posters C --out r --seeds 0')
    refused('benchmark --posters C --out r --only multimodal', 'is no csv with a column overview')
    code,err = ends(monkeypatch, 'course.suite.run_benchmarks', KeyboardInterrupt(), 'benchmark --posters C --out r --only leaks')
    assert code==130 and err.startswith('genre-fastai: Stopped.') and 'Finished runs are kept in r' in err
