"The stages on a Ray cluster of two nodes, one of which is taken away while it works: every row once, and what one machine gives"
import os, signal, sys, threading, time
from collections import Counter
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image

from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog
from genre_fastai.deploy.batch import predict_stream
from genre_fastai.deploy.films import SavedModel
from genre_fastai.engines import connect_ray, ray_map
from genre_fastai.parallel import map_rows

os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
ray = pytest.importorskip('ray', reason="Ray is not installed: pip install 'genre_fastai[ray]'")
pytestmark = pytest.mark.skipif(os.name=='nt', reason='a cluster of two nodes on one machine needs Linux or macOS')
costly = pytest.mark.skipif(not os.environ.get('GENRE_RAY'), reason='workers that import torch or Ray Data cost a minute: GENRE_RAY=1 runs these too')
_node = dict(num_cpus=1, object_store_memory=80<<20, include_log_monitor=False)

class Nodes:
    "A cluster of two nodes; `kill` takes the second away, at once and without a word"
    def __init__(self):
        from ray.cluster_utils import Cluster
        quick = dict(health_check_initial_delay_ms=5000, health_check_period_ms=1000, health_check_failure_threshold=5)
        self.cluster = Cluster(initialize_head=True, head_node_args=dict(_node, include_dashboard=False, no_monitor=True, _system_config=quick))
        self.second = self.cluster.add_node(**_node)
        os.environ['RAY_ADDRESS'] = self.cluster.address
    def kill(self):
        if self.second: self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None
    def close(self):
        ray.shutdown()
        self.cluster.shutdown()

def where(i):
    time.sleep(.1)
    return i, ray.get_runtime_context().get_node_id()

@pytest.fixture(scope='module')
def nodes():
    had = os.environ.get('RAY_ADDRESS')
    try: c = Nodes()
    except Exception as e: pytest.skip(f'A cluster of Ray did not start; its raylets give up after 15 seconds on a machine that is busy: {e}')
    connect_ray()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__]) # workers cannot import a file of tests
    for _ in range(60):
        if len({n for _,n in ray_map(where, range(4))})==2: break # both nodes have a worker
    yield c
    c.close()
    os.environ.pop('RAY_ADDRESS')
    if had: os.environ['RAY_ADDRESS'] = had

def jpeg(i, size=(48,72)):
    b = BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (9,6,3), dtype=np.uint8)).resize(size).save(b, 'JPEG')
    return b.getvalue()

class Site:
    "A server that counts how often it is asked, and how many ask at the same time"
    def __init__(self):
        self.hits,self.now,self.most,self.lock,site = Counter(), 0, 0, threading.Lock(), self
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *a): pass
            def do_GET(self):
                with site.lock:
                    site.hits[self.path] += 1
                    site.now += 1
                    site.most = max(site.most, site.now)
                time.sleep(.15)
                with site.lock: site.now -= 1
                data = jpeg(int(self.path[1:-4]))
                self.send_response(200)
                for k,v in (('Content-Type','image/jpeg'), ('Content-Length',str(len(data)))): self.send_header(k, v)
                self.end_headers()
                self.wfile.write(data)
        self.server = ThreadingHTTPServer(('127.0.0.1',0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{self.server.server_port}'

def test_rows_keep_their_order_and_errors_come_out_as_they_are(nodes):
    got = list(ray_map(where, range(12)))
    assert [i for i,_ in got]==list(range(12))
    assert map_rows(lambda o: o*o, range(100), engine='ray')==[o*o for o in range(100)]
    def bad(o): raise GenreError(f'row {o}')
    with pytest.raises(GenreError, match='row 3'): map_rows(bad, [3], engine='ray')
    def lacks(o): import genre_fastai_of_another_version
    with pytest.raises(GenreError, match='cannot import'): map_rows(lacks, [3], engine='ray')
    with pytest.raises(GenreError, match='ended 1 times'): list(ray_map(lambda o: os.kill(os.getpid(), signal.SIGKILL), [0], retries=0))

def test_what_goes_on_is_called_off_when_a_portion_fails(nodes):
    def bad(o):
        for _ in range(600 if o>9 else 0): time.sleep(.1)
        raise GenreError(f'row {o}')
    for parts in [[3]]*20+[[1,2,3,4,5,6]]*20: # Ray ends this process where a task is cancelled that has just ended
        with pytest.raises(GenreError, match=f'row {parts[0]}'): list(ray_map(bad, parts))
    with pytest.raises(GenreError, match='row 1'): list(ray_map(bad, [1]+[10]*6))
    assert [i for i,_ in ray_map(where, range(2))]==[0,1], 'the two workers are free again'

def test_guards_hold_on_workers(nodes, tmp_path):
    from genre_fastai.collect.download import download_posters
    got = download_posters([f'{Site().url}/1.jpg', 'http://[::1]/2.jpg'], tmp_path, engine='ray', progress=False)
    assert set(got.df['reason'])=={'private-address'}

def test_a_node_is_taken_away_while_posters_are_fetched(nodes, tmp_path, monkeypatch):
    import genre_fastai.collect.download as download
    site,n = Site(), 160
    monkeypatch.setattr(download, 'host_shares', partial(download.host_shares, most=20)) # two workers divide this host
    urls = pd.DataFrame(dict(url=[f'{site.url}/{i}.jpg' for i in range(n)], label='horror', rank=range(n)))
    def kill():
        while sum(site.hits.values())<n//4: time.sleep(.02)
        nodes.kill()
    t = threading.Thread(target=kill)
    t.start()
    got = download.download_posters(urls, tmp_path, per_host=6, engine='ray', allow_private=True, progress=False)
    t.join()
    assert nodes.second is None and got.df['url'].tolist()==urls['url'].tolist() and len(got.ok)==n
    assert [o.read_bytes() for o in got.files]==[jpeg(i) for i in range(n)]
    assert site.most<=6 and len(site.hits)==n, 'no more than `per_host` connections over all workers'
    assert max(site.hits.values())<=2 and sum(o>1 for o in site.hits.values())<=6, 'only what was in flight is fetched again'
    lines = [o for o in (tmp_path/'journal.jsonl').read_text().splitlines()]
    assert len(lines)==n and not (tmp_path/'.parts').exists()
    assert set(download.download_posters(urls, tmp_path, engine='ray', allow_private=True, progress=False).df['status'])=={'ok'} and sum(site.hits.values())<=n+6

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    d = tmp_path_factory.mktemp('posters')
    for i in range(60): (d/f'{i}.jpg').write_bytes(jpeg(i, (100,150)))
    (d/'3.jpg').write_bytes(jpeg(3, (100,150))[:-900])
    (d/'5.jpg').write_text('<html>')
    (d/'7.jpg').write_bytes((d/'6.jpg').read_bytes())
    return Catalog(dict(file=[f'{i}.jpg' for i in range(60)], label=['horror','romance']*30), d)

def test_verify_and_copies_are_those_of_one_machine(nodes, folder, tmp_path, monkeypatch):
    from genre_fastai.catalog.parquet import iter_catalog
    far = folder.verify(engine='ray', progress=False)
    pairs = far.find_duplicates(progress=False)
    folder.save(tmp_path/'c.parquet')
    stream = iter_catalog(tmp_path/'c.parquet', rows=25, folder=folder.path).verify(engine='ray').read()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    here = folder.verify(progress=False)
    assert far.hash==here.hash==stream.hash and (far.df['status']=='failed').sum()==2
    pd.testing.assert_frame_equal(far.df, here.df)
    pd.testing.assert_frame_equal(pairs, here.find_duplicates(progress=False))

def test_what_is_verified_there_is_not_decoded_here(nodes, folder, tmp_path, monkeypatch):
    import genre_fastai.measure as measure
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path)) # of this process alone
    monkeypatch.setattr(measure, 'measure_image', lambda im: pytest.fail('decoded here'))
    assert len(folder.verify(engine='ray', progress=False).ok)==58

@costly
def test_features_are_those_of_one_machine(nodes, folder):
    from genre_fastai.features.extract import extract_features
    cat,kw = folder.ok[range(12)], dict(size=(64,48), pool='avgmax', cache_features=False, progress=False)
    with pytest.warns(UserWarning, match='2 of 12 files'): far,here = (extract_features(cat, engine=o, **kw) for o in ('ray','local'))
    assert far.ids==here.ids and far.settings==here.settings and np.allclose(far.X, here.X, atol=1e-4)
    assert far.failed.values.tolist()==here.failed.values.tolist() and len(far.failed)==2

class Pale(SavedModel):
    def batch_probs(self, pixels, posters, texts): return np.stack([1-(p := pixels[8,8].mean((1,2,3))/255), p], 1)

def test_predictions_are_those_of_one_machine(nodes, folder, tmp_path):
    m = Pale(dict(vocab=['dark','pale'], multi=False, size=[8,8]))
    for o in ('local','ray'): predict_stream(m, folder, tmp_path/f'{o}.csv', engine=o, progress=False)
    assert (tmp_path/'ray.csv').read_bytes()==(tmp_path/'local.csv').read_bytes() and pd.read_csv(tmp_path/'ray.csv')['error'].notna().sum()==2

@costly
def test_ray_data_uses_the_same_function(nodes, folder, tmp_path):
    from genre_fastai.catalog.parquet import catalog_batches
    folder.save(tmp_path/'c.parquet')
    check = catalog_batches(lambda o: o.verify(progress=False), folder.path)
    got = ray.data.read_parquet(str(tmp_path/'c.parquet')).map_batches(check, batch_format='pandas', batch_size=30).to_pandas()
    here = folder.verify(progress=False).df
    assert got.set_index('id')['status'].loc[here['id']].tolist()==here['status'].tolist()

def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(ray, 'is_initialized', lambda: False)
    monkeypatch.setenv('RAY_ADDRESS', '127.0.0.1:1')
    with pytest.raises(GenreError, match='RAY_ADDRESS=127.0.0.1:1'): connect_ray()
