import json, os, shlex, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from fuzz.model_folders import small_model
from genre_fastai.catalog.core import Catalog
from genre_fastai.cli import main
from genre_fastai.core import GenreError, csv_text
from genre_fastai.deploy.base import BadFiles, SavedModel, read_posters
from genre_fastai.deploy.batch import predict_stream
from genre_fastai.deploy.folder import load_predictor

class Pale(SavedModel):
    "A model of pale and dark posters, which may die after some batches"
    def __init__(self, dies=None, modalities=('poster',), multi=False, **config):
        super().__init__(dict(vocab=['dark','pale','grey'], multi=multi, size=[8,8], **config))
        self.modalities,self.dies,self.seen = modalities, dies, []
    def batch_probs(self, pixels, posters, texts):
        if len(self.seen)==self.dies: raise KeyboardInterrupt
        p = pixels[8,8].mean((1,2,3))/255 if pixels else np.array([len(o)/10 for o in texts['overview']])
        self.seen.append((len(posters), texts))
        return np.stack([1-p, p, p*0], 1)

@pytest.fixture
def files(tmp_path):
    "Ten posters, the third and the last of which are none"
    res = [tmp_path/f'{i}.png' for i in range(10)]
    for i,f in enumerate(res): Image.new('RGB', (6,9), (i*25,)*3).save(f)
    for i in (2, 9): res[i].write_bytes(b'no picture')
    return res

def rows_of(f): return pd.read_csv(f, keep_default_na=False)

def test_a_bad_file_is_a_row(files, tmp_path):
    got = list(predict_stream(Pale(), [*files, tmp_path/'none.jpg'], bs=3))
    assert [bool(o['error']) for o in got]==[i in (2,9,10) for i in range(11)] and got[2]['error'].startswith('text: ') and got[10]['error'].startswith('missing')
    assert [o['file'] for o in got]==[str(f) for f in files]+[str(tmp_path/'none.jpg')] and got[2]['pred']=='' and got[2]['dark'] is None
    assert got[1]['pred']=='dark' and got[8]['pred']=='pale' and list(got[0])==['file','pred','dark','pale','grey','error']
    assert all(o['error'] for o in predict_stream(Pale(), [files[2]])) # all are bad

def test_a_real_model_goes_on_and_predict_does_not(files, tmp_path):
    m = load_predictor(small_model(tmp_path/'m'))
    good = [f for i,f in enumerate(files) if i not in (2,9)]
    got,want = [o for o in predict_stream(m, files, bs=4) if not o['error']], m.predict(good)
    assert [o['pred'] for o in got]==want['pred'].tolist() and np.allclose([o['a'] for o in got], want['a'], atol=2e-4)
    with pytest.raises(BadFiles, match='2 of 10'): m.predict(files)

def test_pictures_of_any_kind_are_the_same(files, tmp_path):
    f,m = files[5], Pale()
    sources = [f, str(f), f.read_bytes(), memoryview(f.read_bytes()), Image.open(f), Image.open(f).convert('L')]
    got = list(predict_stream(m, sources))
    assert {o['pale'] for o in got}=={got[0]['pale']} and got[2]['file']=='picture 3'
    for o in sources[:5]: assert len(list(predict_stream(m, o)))==1
    assert [o['error'][:4] for o in predict_stream(m, iter([3, None, f]))]==['3 is','noth','']
    assert next(iter(predict_stream(m, f.parent)))['file'].endswith('0.png') and len(list(predict_stream(m, [f.parent, f])))==11

def test_large_and_tiny_posters(tmp_path):
    Image.new('L', (6000,9000), 'white').save(tmp_path/'large.jpg', quality=20)
    Image.new('RGB', (1,1), 'white').save(tmp_path/'one.png')
    got = list(predict_stream(Pale(), [tmp_path/o for o in ('large.jpg','one.png')]))
    assert [o['pred'] for o in got]==['pale']*2 and not any(o['error'] for o in got)
    m = load_predictor(small_model(tmp_path/'m'))
    assert len(m.predict([tmp_path/'large.jpg', tmp_path/'one.png']))==2

@pytest.mark.parametrize('end', ['csv','jsonl'])
@pytest.mark.parametrize('torn', [b'', b'"a,b\n', b'torn', b'{"file": "', b'x,pale,1,2\n'])
def test_what_a_crash_keeps_is_gone_on_with(files, tmp_path, end, torn):
    out,whole = tmp_path/f'out.{end}', tmp_path/f'whole.{end}'
    predict_stream(Pale(), files, whole, bs=3)
    with pytest.raises(KeyboardInterrupt): predict_stream(Pale(dies=2), files, out, bs=3)
    part = tmp_path/f'out.{end}.part'
    assert not out.exists() and len(part.read_text().splitlines())==6+(end=='csv')
    with open(part, 'ab') as f: f.write(torn)
    m = Pale()
    r = predict_stream(m, files, out, bs=3, resume=True)
    assert out.read_bytes()==whole.read_bytes() and (r.n,r.before,r.failed)==(10,6,2) and [o[0] for o in r.errors]==[3,10]
    assert sum(n for n,_ in m.seen)==3 and sorted(o.name for o in tmp_path.iterdir() if 'out' in o.name)==[out.name]

def test_resume_mixes_nothing(files, tmp_path):
    out = tmp_path/'out.csv'
    def begin():
        with pytest.raises(KeyboardInterrupt): predict_stream(Pale(dies=2), files, out, bs=3)
    begin()
    with pytest.raises(GenreError, match='several labels'): predict_stream(Pale(), files, out, resume=True, thresh=.3)
    for m,kw in ((Pale(sha256='1'), {}), (Pale(), dict(top=1)), (Pale(multi=True), dict(thresh=.3))):
        with pytest.raises(GenreError, match='another model'): predict_stream(m, files, out, resume=True, **kw)
    for other in (files[1:], files[:4]):
        with pytest.raises(GenreError, match='other films'): predict_stream(Pale(), other, out, resume=True)
    os.remove(tmp_path/'out.csv.part.json')
    with pytest.raises(GenreError, match='another model'): predict_stream(Pale(), files, out, resume=True)
    predict_stream(Pale(), files, out) # begins anew
    assert len(rows_of(out))==10
    with pytest.raises(GenreError, match='is whole'): predict_stream(Pale(), files, out, resume=True)
    assert predict_stream(Pale(), files, tmp_path/'new.csv', resume=True).n==10 # nothing is there yet

def test_tables_keep_their_columns(files, tmp_path):
    df = pd.DataFrame(dict(id=[1,2,3,4], file=['1.png','../x.png','','2.png'], overview=['a,b\n"c"','=1+1','\rx',' '], pale='old', pred='old', error='old'))
    (tmp_path/'f.csv').write_text(csv_text(df), newline='')
    m,out = Pale(modalities=('poster','overview')), tmp_path/'out.csv'
    r = predict_stream(m, tmp_path/'f.csv', out, bs=1)
    got = rows_of(out)
    assert list(got)==['id','file','overview','pale','pred','dark','prob_pale','grey','error'] and got['id'].tolist()==[1,2,3,4] and got['overview'][1]=="'=1+1"
    assert ['leaves the folder' in o for o in got['error']]==[False,True,False,False] and r.failed==2 and got['error'][3].startswith('text')
    assert [t['overview'] for _,t in m.seen]==[['a,b\n"c"'],['\rx']]
    with pytest.raises(KeyboardInterrupt): predict_stream(Pale(1, ('poster','overview')), tmp_path/'f.csv', tmp_path/'o2.csv', bs=1)
    predict_stream(m, tmp_path/'f.csv', tmp_path/'o2.csv', bs=1, resume=True) # texts with line ends are found again
    assert (tmp_path/'o2.csv').read_bytes()==out.read_bytes()
    assert [o['id'] for o in predict_stream(m, Catalog(df.assign(label='x'), tmp_path))]==['1','2','3','4']
    with pytest.raises(GenreError, match='none of the columns file'): predict_stream(Pale(), pd.DataFrame(dict(a=[1])))

def test_texts_beside_pictures(files):
    m,words = Pale(modalities=('overview',)), Pale(modalities=('poster','overview'))
    assert [o['pred'] for o in predict_stream(m, texts=['', 'words', 'many words'])]==['','dark','pale']
    assert len(list(predict_stream(words, [files[0],None], texts=['a','b'])))==2
    for model,args,says in ((m, ([files[0]],'x'), 'alone'), (words, (files,['a','b']), 'one text of each kind'), (Pale(), (files[0],'x'), 'posters alone'), (words, (None,), 'nothing to predict')):
        with pytest.raises(GenreError, match=says): predict_stream(model, args[0], texts=args[1] if len(args)>1 else None)

def test_top_and_thresholds(files):
    row = next(iter(predict_stream(Pale(), files[8], top=2)))
    assert list(row)==['file','pred','top_1','prob_1','top_2','prob_2','error'] and (row['top_1'],row['top_2'])==('pale','dark') and row['prob_1']>row['prob_2']
    several = lambda t: next(iter(predict_stream(Pale(multi=True), files[8], thresh=t)))['pred']
    assert several(.1)=='dark|pale' and several(.9)=='' and several([.1,.9,.9])=='dark'

def test_addresses_go_through_the_guards(files):
    data = files[8].read_bytes()
    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if 'ok' in self.path else 404)
            self.end_headers()
            self.wfile.write(data if 'ok' in self.path else b'gone')
        def log_message(self, *a): pass
    site = HTTPServer(('127.0.0.1',0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    base = f'http://127.0.0.1:{site.server_port}'
    sources = [f'{base}/ok?token=secret', files[1], f'{base}/none', f'{base}/ok?token=secret', 'http://']
    try:
        assert ['private-address' in o['error'] for o in predict_stream(Pale(), sources[:2])]==[True,False]
        got = list(predict_stream(Pale(), sources, allow_private=True))
    finally: site.shutdown(), site.server_close()
    assert [o['error'].split(':')[0] for o in got]==['','','not-found','','bad-url'] and got[0]['pred']=='pale' and 'secret' not in str(got)

def test_nothing_is_held_of_what_is_done(files):
    asked = []
    def many():
        for i in range(1000):
            asked.append(i)
            yield files[8]
    got = predict_stream(Pale(), many(), bs=10)
    next(got)
    assert len(asked)<=40 # what is decoded and what is ahead

def test_blank_pictures_are_no_posters(files):
    im = Image.new('RGB', (600,900), 'white')
    im.putpixel((0,0), (250,255,255)) # lost where it is small
    _,there,bad = read_posters([files[0], im, Image.new('RGB', (5,5)), None], [(8,8)])
    assert there.tolist()==[False,True,False,False] and not bad

def cli(line):
    with pytest.raises(SystemExit) as end: main(shlex.split(line))
    return end.value.code

def test_the_command_goes_on_and_resumes(files, tmp_path, monkeypatch, capsys):
    from genre_fastai.deploy.folder import Predictor
    monkeypatch.chdir(tmp_path)
    small_model(tmp_path/'m')
    assert cli('predict m *.png --json o.jsonl --top 1')==2
    assert '8 predictions in o.jsonl' in (said := capsys.readouterr()).out and '2 of 10 files cannot be predicted. 2.png: text' in said.err
    got = [json.loads(o) for o in Path('o.jsonl').read_text().splitlines()]
    assert len(got)==10 and list(got[0])==['file','pred','top_1','prob_1','error'] and got[2]['prob_1'] is None
    real = Predictor.batch_probs
    monkeypatch.setattr(Predictor, 'batch_probs', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli('predict m *.png --csv o.csv')==130 and '--resume' in capsys.readouterr().err and Path('o.csv.part').exists()
    monkeypatch.setattr(Predictor, 'batch_probs', real)
    assert cli('predict m *.png --csv o.csv --resume')==2 and len(rows_of('o.csv'))==10
    for line,says in {'m 0.png --resume': 'Give --csv', 'm 0.png --csv a.csv --json a.jsonl': 'not both', 'm 0.png --json a.csv': '.jsonl', 'm 0.png --thresh .3': 'several labels'}.items():
        assert cli(f'predict {line}')==2 and says in capsys.readouterr().err
    capsys.readouterr()
    assert cli('predict m 0.png --top 1')==0 and 'top 1' in capsys.readouterr().out
