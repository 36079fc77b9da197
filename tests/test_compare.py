"Several models on the same rows, and models on the hub"
import inspect, json, shutil
from pathlib import Path
from types import SimpleNamespace
import huggingface_hub, numpy as np, pandas as pd, pytest
from huggingface_hub import errors
from scipy import stats
from sklearn.metrics import f1_score
from typer.testing import CliRunner
from genre_fastai.cli import app
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.deploy.hub import from_hub, hub_name, push_to_hub
from genre_fastai.multilabel import bootstrap_draws, bootstrap_scores
from genre_fastai.multimodal.fusion import LinearFusion
from genre_fastai.predictions import Comparison, Predictions, bootstrap_difference, compare_predictions, holm, mcnemar

names = ['horror','romance']

def films(n=300, per=1, **kw):
    return Catalog(dict(id=[f'r{i}' for i in range(n)], file=[f'{i}.jpg' for i in range(n)], label=(names*n)[:n], group=[f'film {i//per}' for i in range(n)], **kw))

def that_knows(cat, right): return Predictions(cat, np.where(cat.one_hot(names)==np.asarray(right)[:,None], .9, .1), names)

# --- comparing

def test_mcnemar_is_the_binomial_test_of_the_discordant_rows():
    rng = np.random.default_rng(0)
    a,b = rng.random(200)<.6, rng.random(200)<.75
    k,m = (a&~b).sum(), (b&~a).sum()
    assert mcnemar(a, b)==mcnemar(b, a)==pytest.approx(stats.binomtest(k, k+m).pvalue)
    assert mcnemar(a, b, range(200))==pytest.approx(mcnemar(a, b), abs=.01) and mcnemar(a, a)==mcnemar(a, a, range(200))==1
    assert mcnemar([1,0], [0,1], [1,1])==1 # the film is as right with either

def test_copies_are_no_evidence():
    "Each row ten times: rows alone grow sure of it, films do not"
    rng = np.random.default_rng(3)
    a,b = rng.random(60)<.6, rng.random(60)<.7
    ten = lambda o: np.repeat(o, 10)
    assert mcnemar(ten(a), ten(b))<.001<mcnemar(a, b)/10 and mcnemar(ten(a), ten(b), ten(np.arange(60)))==pytest.approx(mcnemar(a, b), abs=.02)
    cat = films(600, 10)
    many,few = (compare_predictions(dict(a=that_knows(c, x), b=that_knows(c, y))) for c,x,y in ((cat,ten(a),ten(b)), (films(60),a,b)))
    t,u = many.table.iloc[1],few.table.iloc[1]
    assert (t[['diff_low','diff_high']]-u[['diff_low','diff_high']]).abs().max()<.05 and 'On 600 rows of 60 films: b is not shown to differ' in many.text
    alone = compare_predictions(dict(a=that_knows(films(600), ten(a)), b=that_knows(films(600), ten(b))))
    assert 'b is better than a' in alone.text and 'films' not in alone.text

def test_the_false_alarms_of_grouped_rows_are_few():
    "Two models of one quality on 40 films of five posters: about 5 % are called different, not more"
    rng,called = np.random.default_rng(5),0
    for i in range(60):
        cat = films(200, 5)
        a,b = (that_knows(cat, np.repeat(rng.random(40)<.6, 5)) for _ in range(2))
        called += 'not shown' not in compare_predictions(dict(a=a, b=b), n_boot=300, seed=i).text
    assert called<=9, called

def test_holm():
    assert holm([.01,.04,.03]).tolist()==pytest.approx([.03,.06,.06]) and holm([]).tolist()==[] and np.isnan(holm([np.nan]))[0]
    assert holm([.04]).tolist()==[.04] and holm([.5,.9]).tolist()==[1,1]

def test_many_models_need_more_evidence():
    rng,cat = np.random.default_rng(0),films(200)
    right = rng.random(200)<.6
    better = right.copy()
    better[np.flatnonzero(~right)[:11]] = True
    better[np.flatnonzero(right)[:2]] = False
    two,more = dict(a=that_knows(cat, right), b=that_knows(cat, better)), {f'm{i}':that_knows(cat, right) for i in range(9)}
    assert 'b is better than a in accuracy' in (one := compare_predictions(two)).text and one.text.endswith('1 comparison was made.')
    res = compare_predictions(two|more)
    assert 'b is not shown to differ' in res.text and '10 comparisons were made, and p is corrected' in res.text
    r = res.table.set_index('model').loc['b']
    assert r['diff_low']>0 and r['p']==pytest.approx(min(1, 10*one.table['p'][1]), abs=.001)
    assert len(res.plot().df)==10 and isinstance(res, Comparison) and 'NaN' not in res._repr_html_()+repr(res)

def test_the_order_of_rows_and_classes_does_not_matter():
    rng,cat = np.random.default_rng(0),films(120)
    a,b = (that_knows(cat, rng.random(120)<p) for p in (.5,.8))
    turned = Predictions(cat[::-1], b.probs[::-1,::-1], names[::-1])
    want,got = (compare_predictions(dict(a=a, b=o)).table for o in (b,turned))
    pd.testing.assert_frame_equal(want, got)
    back = compare_predictions(dict(a=a, b=b), baseline='b').table
    assert back['model'].tolist()==['b','a'] and back['difference'][1]==-want['difference'][1] and want['score'][1]==b.scores()['accuracy']
    assert want.loc[1, ['low','high']].tolist()==[b.scores()[k] for k in ('low','high')]

def test_what_cannot_be_compared_is_said():
    cat = films(20)
    a = that_knows(cat, np.ones(20, bool))
    for preds,kw,why in (({}, {}, 'two models'), ([a,a], {}, 'as a dict'), (dict(a=a), {}, 'two models'), (dict(a=a, b=a), dict(metric='f1'), 'by accuracy'), (dict(a=a, b=a), dict(baseline='c'), "no model 'c'"),
        (dict(a=a, b=a.of(cat[:3])), {}, 'b cannot be compared with a'), (dict(a=a.of(cat[:0]), b=a.of(cat[:0])), {}, 'no rows'),
        (dict(a=a, b=Predictions(cat.assign(label='horror'), np.ones((20,2))/2, ['horror','war'])), {}, 'different classes')):
        with pytest.raises(GenreError, match=why): compare_predictions(preds, **kw)
    with pytest.raises(GenreError): compare_predictions(dict(a=a, b=Predictions(films(21)[1:], a.probs, names))) # other rows

def several(n=150, per=3):
    rng = np.random.default_rng(0)
    Y = np.c_[rng.random((n,2))<.4, np.ones(n, bool)]
    cat = Catalog(dict(file=[f'{i}.jpg' for i in range(n)], labels=['|'.join(np.array(['a','b','c'])[o]) for o in Y], group=[f'film {i//per}' for i in range(n)]))
    worse = Predictions(cat, (.3+.2*Y+rng.random(Y.shape)*.3).clip(0, 1), list('abc'))
    return worse, Predictions(cat, (worse.probs+.1*Y).clip(0, 1), list('abc'))

def test_several_labels():
    worse,better = several()
    t = compare_predictions(dict(worse=worse, better=better), n_boot=300).table
    diff = [bootstrap_difference(worse, better, m, n_boot=300) for m in ('f1','auc')]
    assert [(r['low'],r['high'],r['difference']) for r in diff]==[tuple(o) for o in t.loc[[1,3], ['diff_low','diff_high','difference']].values]
    assert t['metric'].tolist()==['f1','f1','auc','auc'] and t['score'][1]==pytest.approx(f1_score(better.Y, better.pred, average='samples', zero_division=0), abs=1e-4)
    assert compare_predictions(dict(a=worse, b=better), ['ap','hamming'], n_boot=50).table['metric'].tolist()==['ap','ap','hamming','hamming']
    low = compare_predictions(dict(a=worse, b=Predictions(worse.cat, worse.Y*.9, list('abc'))), 'hamming', n_boot=50)
    assert low.table['difference'][1]<0 and 'b is better than a in hamming' in low.text # fewer errors
    cat = worse.cat.assign(labels='c')[:9] # no label has rows without it
    res = compare_predictions(dict(a=worse.of(cat), b=better.of(cat)), n_boot=50)
    assert 'cannot be compared in auc' in res.text and '1 comparison was made' in res.text

def test_groups_are_drawn_whole():
    g = np.array(list('aabbbc'))
    for w in bootstrap_draws(6, 50, 0, g): assert all(len(set(o[g==k]))==1 for o in w for k in 'abc') and (w[:,[0,2,5]].sum(1)==3).all()
    worse,_ = several()
    alone = Predictions(worse.cat.new(worse.cat.df.drop(columns="group")), worse.probs, worse.vocab)
    pd.testing.assert_frame_equal(bootstrap_scores(alone, n_boot=20), bootstrap_scores(worse, n_boot=20, groups=np.arange(len(worse)))) # as row by row

# --- the command

told = dict(horror=['a scream in a dark house','blood in the old cellar'], romance=['two strangers fall in love','a wedding in paris'])

@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "Models that read overviews or titles, one of other classes, and their catalog"
    d = tmp_path_factory.mktemp('models')
    n = 60
    cat = Catalog(pd.DataFrame(dict(id=[f'{i}' for i in range(n)], file=[f'{i}.png' for i in range(n)], label=(names*n)[:n], status='ok', split=[['train','train','valid','test'][i//2%4] for i in range(n)],
        overview=[told[names[i%2]][i//2%2] for i in range(n)], title=[f'Film {i//8}' for i in range(n)])), d)
    for o in ('overview','title'): save_predictor(LinearFusion(o, text=None).fit(cat), d/o)
    save_predictor(LinearFusion('overview', text=None).fit(cat.assign(label=['war','romance']*(n//2))), d/'other')
    cat.save(d/'c.csv')
    return d

def run(line, code=0):
    r = CliRunner().invoke(app, line.split(), prog_name='genre-fastai')
    if code==0: assert r.exit_code==0, (line, r.output, r.exception)
    return r.output if code==0 else str(r.exception)

def test_models_are_compared_by_a_command(made, monkeypatch):
    monkeypatch.chdir(made)
    said = run('evaluate title overview c.csv')
    assert 'overview is better than title in accuracy' in said and '1 comparison was made' in said
    o = json.loads(run('evaluate title overview c.csv --json --split all'))
    assert o['n']==60 and [r['model'] for r in o['models']]==['title','overview'] and o['models'][0]['p'] is None and o['models'][1]['difference']>0
    alone = json.loads(run('evaluate overview c.csv --json'))
    assert alone['accuracy']==json.loads(run('evaluate overview title c.csv --json'))['models'][0]['score']
    shutil.copytree('overview', 'more/overview')
    assert 'more/overview is not shown to differ from overview' in run('evaluate overview more/overview c.csv')
    for line,why in {'overview ./overview c.csv': 'named twice', 'overview other c.csv': 'other knows', 'overview none c.csv': 'no folder', 'overview title': 'is a folder'}.items():
        assert why in run(f'evaluate {line}', 2), line

# --- the hub

class LocalHub:
    "What is used of the hub, in folders; calls are bound to the signatures of the library"
    def __init__(self, root, monkeypatch):
        self.root,self.private,self.tokens,self.fail,self.sizes = Path(root),True,[],None,{}
        self.api,self.get = huggingface_hub.HfApi,huggingface_hub.hf_hub_download
        monkeypatch.setattr(huggingface_hub, 'HfApi', self.opened)
        monkeypatch.setattr(huggingface_hub, 'hf_hub_download', self.download)
        monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', self.cached)
    def args(self, f, *args, **kw):
        if self.fail: raise self.fail
        return inspect.signature(f).bind(*args, **kw).arguments
    def opened(self, **kw):
        self.tokens.append(inspect.signature(self.api).bind(**kw).arguments['token'])
        return self
    def create_repo(self, *args, **kw):
        a = self.args(self.api.create_repo, self, *args, **kw)
        assert a['exist_ok'] and isinstance(a['private'], bool)
        (self.root/a['repo_id']).mkdir(parents=True, exist_ok=True)
    def repo_info(self, *args, **kw):
        a = self.args(self.api.repo_info, self, *args, **kw)
        d = self.root/a['repo_id']/(a.get('revision') or 'main')
        files = [SimpleNamespace(rfilename=o.name, size=self.sizes.get(o.name, o.stat().st_size)) for o in d.iterdir()] if d.exists() else []
        return SimpleNamespace(sha=d.resolve().name, private=self.private, siblings=files)
    def create_commit(self, *args, **kw):
        a = self.args(self.api.create_commit, self, *args, **kw)
        repo = self.root/a['repo_id']
        d,main = repo/f'{len([*repo.iterdir()]):040x}',repo/'main'
        d.mkdir()
        for o in a['operations']:
            assert isinstance(o, huggingface_hub.CommitOperationAdd)
            blob = self.root/f'{d.name}-{o.path_in_repo}.blob'
            shutil.copy(o.path_or_fileobj, blob)
            (d/o.path_in_repo).symlink_to(blob) # as in the cache of the library
        main.unlink(missing_ok=True)
        main.symlink_to(d)
        return SimpleNamespace(oid=d.name)
    def download(self, *args, **kw):
        a = self.args(self.get, *args, **kw)
        return str(self.root/a['repo_id']/a['revision']/a['filename'])
    def cached(self, repo_id, filename, revision):
        p = self.root/repo_id/revision/filename
        return str(p) if p.exists() else None

@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    return LocalHub(tmp_path/'hub', monkeypatch)

def test_a_model_goes_to_the_hub_and_back(hub, made, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(made/'overview', tmp_path/'m'))
    (folder/'private.txt').write_text('mine')
    first = push_to_hub(folder, 'me/films')
    assert sorted(o.name for o in (tmp_path/'hub/me/films/main').iterdir())==['README.md','config.json','model.safetensors'] and set(hub.tokens)=={'hf_secret'}
    m = from_hub('hub:me/films')
    text = told['horror'][0]
    assert m.source==f'hub:me/films@{first}' and m.predict(texts=text).equals(load_predictor(folder).predict(texts=text))
    second = push_to_hub(made/'title', 'me/films')
    assert from_hub('me/films').source.endswith(second) and from_hub('me/films').modalities==('title',)
    hub.fail = ConnectionError('no network') # what was fetched is there
    assert from_hub(m.source).modalities==('overview',) and from_hub('me/films', first).source==m.source
    with pytest.raises(GenreError, match='cannot be reached'): from_hub('me/films')
    monkeypatch.delenv('HF_TOKEN')
    hub.fail = None
    from_hub('me/films')
    assert hub.tokens[-1] is False # none that a login left is sent
    with pytest.raises(GenreError, match='set the environment variable HF_TOKEN'): push_to_hub(folder, 'me/films')

def http_error(cls, status=500):
    "An error as the library makes it, with the token in what was sent"
    response = SimpleNamespace(status_code=status, headers={}, request=SimpleNamespace(headers=dict(authorization='Bearer hf_secret')), text='hf_secret')
    e = cls.__new__(cls)
    Exception.__init__(e, 'Bearer hf_secret')
    e.response = response
    return e

lost = {'no model me/films': http_error(errors.RepositoryNotFoundError, 404), 'no such revision': http_error(errors.RevisionNotFoundError, 404), 'terms to be accepted': http_error(errors.GatedRepoError, 403),
    r'not allow this for me/films \(403\)': http_error(errors.HfHubHTTPError, 403), 'answered 503': http_error(errors.HfHubHTTPError, 503), r'reached for me/films \(OfflineModeIsEnabled\)': errors.OfflineModeIsEnabled('hf_secret'),
    r'reached for me/films \(LocalEntryNotFoundError\)': errors.LocalEntryNotFoundError('hf_secret'), r'reached for me/films \(ConnectionRefusedError\)': ConnectionRefusedError(111, 'refused hf_secret')}

@pytest.mark.parametrize('why', lost)
def test_errors_of_the_hub_are_said_without_the_token(hub, made, why):
    hub.fail = lost[why]
    for f in (lambda: from_hub('me/films'), lambda: push_to_hub(made/'overview', 'me/films')):
        with pytest.raises(GenreError, match=why) as e: f()
        assert 'hf_secret' not in str(e.value) and e.value.__suppress_context__

def test_a_full_disk_is_not_called_a_network(hub):
    hub.fail = OSError(28, 'No space left on device')
    with pytest.raises(OSError, match='No space'): from_hub('me/films')

def test_without_a_network(monkeypatch, made, tmp_path):
    "The library itself, to an address where nothing listens"
    import huggingface_hub.constants as c
    monkeypatch.setattr(c, 'ENDPOINT', 'http://127.0.0.1:9')
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, 'HfApi', lambda **kw: real(endpoint='http://127.0.0.1:9', **kw))
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    for f in (lambda: from_hub('me/none'), lambda: push_to_hub(made/'overview', 'me/none')):
        with pytest.raises(GenreError, match='cannot be reached for me/none') as e: f()
        assert 'hf_secret' not in str(e.value)

def test_what_is_no_model_is_neither_sent_nor_fetched(hub, made, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(made/'overview', tmp_path/'m'))
    push_to_hub(folder, 'me/films')
    for k in ('config.json','model.safetensors'):
        hub.sizes = {k:5<<30}
        with pytest.raises(GenreError, match=f'{k} of me/films has'): from_hub('me/films')
        hub.sizes = {k:None}
        with pytest.raises(GenreError, match='has None bytes'): from_hub('me/films')
    hub.sizes = {}
    (folder/'model.safetensors').write_bytes((folder/'model.safetensors').read_bytes()[:-3])
    n = len(hub.tokens)
    with pytest.raises(GenreError): push_to_hub(folder, 'me/other')
    assert len(hub.tokens)==n and not (tmp_path/'hub/me/other').exists()
    d = (tmp_path/'hub/me/films/main').resolve()
    shutil.copy(folder/'model.safetensors', (d/'model.safetensors').resolve())
    with pytest.raises(GenreError, match=f'me/films of the hub, commit {d.name}, cannot be loaded'): from_hub('me/films')
    (d/'config.json').unlink()
    with pytest.raises(GenreError, match='no config.json'): from_hub('me/films')
    hub.private = False
    with pytest.raises(GenreError, match='is public already'): push_to_hub(made/'overview', 'me/films')
    push_to_hub(made/'overview', 'me/films', private=False)

@pytest.mark.parametrize('name', ['name','a/b/c','../b','a/..','a--b/c','/a','a/b.git','a/-b','https://a.example/b','a/b c','a/b\n','a/'+'x'*97,'ä/b','',None,3])
def test_odd_names(hub, name):
    for f in (hub_name, from_hub, lambda o: push_to_hub('none', o)):
        with pytest.raises(GenreError, match='as user/name'): f(name)
    assert not hub.tokens

def test_odd_revisions_and_tokens(hub, made, monkeypatch):
    for rev in ('../main','a b','-x','x\n','x'*300,3):
        with pytest.raises(GenreError, match='no revision'): from_hub('a/b', rev)
    with pytest.raises(GenreError, match='Leave @v1 out'): push_to_hub(made/'overview', 'a/b@v1')
    monkeypatch.setenv('HF_TOKEN', 'hf_secret\nX: y')
    for f in (lambda: from_hub('a/b'), lambda: push_to_hub(made/'overview', 'a/b')):
        with pytest.raises(GenreError, match='holds no token') as e: f()
        assert 'secret' not in str(e.value)

def test_push_is_a_command(hub, made, monkeypatch):
    monkeypatch.chdir(made)
    said = run('push overview --to me/films')
    assert said.startswith('hub:me/films@') and 'hf_secret' not in said and from_hub(said.split()[0]).modalities==('overview',)
    hub.private = False
    assert 'is public already' in run('push overview --to me/films', 2)
    run('push overview --to me/films --public')
