"What strangers bring, by kind: how an input is made, and what must hold of it"
import io, json, os, random, shutil, tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import pandas as pd
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from genre_fastai.core import GenreError
from genre_fastai.images import BadImage, check_image, convert_image, decode, image_formats, jpeg_bytes, strict_pillow, thumbnail
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.catalog.sources import catalog_from
import genre_fastai.catalog.splits # `split` of a catalog
from genre_fastai.catalog.verify import image_flags, plain_copy
from .edits import changed

fixtures = Path(__file__).parent.parent/'fixtures'
kinds = {}
needs = dict(onnx=['onnx','onnxruntime'], requests=['onnx','onnxruntime','gradio']) # packages of extras

def kind(inputs):
    "Register a check under its name, with what makes its inputs"
    def register(check):
        kinds[check.__name__] = SimpleNamespace(inputs=inputs, check=check)
        return check
    return register

def refused(f, *args, errors=GenreError, **kw):
    "What a call gives, or None where it refuses in plain words"
    try: return f(*args, **kw)
    except errors as e: assert str(e).strip()

# images

def _picture(mode='RGB', size=(24,32)):
    a = np.random.default_rng(0).integers(0, 255, (size[1]//8, size[0]//8, 3), dtype=np.uint8)
    return Image.fromarray(a).resize(size, Image.Resampling.BICUBIC).convert(mode)

def _file(fmt, mode='RGB', **kw):
    _picture(mode).save(out := io.BytesIO(), fmt, **kw)
    return out.getvalue()

@cache
def image_files():
    "Small valid files of every format, with what formats have: turns, frames, passes, texts, profiles"
    exif,text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112],exif[0x011a] = 6, 72.
    text.add_text('comment', 'x'*100, zip=True)
    text.add_itxt('title', 'é'*20)
    more = dict(save_all=True, append_images=[_picture().rotate(90), _picture('L').convert('RGB')])
    res = [_file('JPEG'), _file('JPEG', progressive=True), _file('JPEG', 'CMYK'), _file('JPEG', 'L', exif=exif), _file('JPEG', exif=exif, comment=b'hi'),
        _file('PNG'), _file('PNG', 'RGBA', pnginfo=text), _file('PNG', 'P'), _file('PNG', 'I;16'), _file('PNG', '1'), _file('PNG', exif=exif, **more),
        _file('GIF', 'P'), _file('GIF', **more), _file('WEBP', exif=exif), _file('WEBP', lossless=True), _file('WEBP', **more),
        _file('BMP'), _file('BMP', 'P'), _file('BMP', '1'), _file('TIFF'), _file('TIFF', compression='tiff_lzw'), _file('TIFF', compression='jpeg')]
    if 'AVIF' in image_formats: res += [_file('AVIF'), _file('AVIF', **more)]
    return res

@kind(lambda: changed(image_files(), [b[:64] for b in image_files()]))
def images(data):
    "Every way in which a picture is read gives pixels, or `BadImage`"
    with strict_pillow():
        for f in (check_image, lambda b: convert_image(b, max_side=16), lambda b: convert_image(b, rgb=True), lambda b: image_flags(decode(b))):
            refused(f, data, errors=BadImage)
        if (im := refused(thumbnail, data, 16, errors=BadImage)): assert jpeg_bytes(im)[:2]==b'\xff\xd8'
        with tempfile.TemporaryDirectory() as d:
            Path(d, 'a.jpg').write_bytes(data)
            refused(plain_copy, data, d, errors=(BadImage,GenreError))
            cat = Catalog(dict(file=['a.jpg'], label=['a']), d).verify(progress=False)
            assert cat.df['status'][0] in ('ok','failed','dropped')

# tables and lists

_words = ['', 'horror', 'Horror', ' drama', 'Action|Comedy', 'Action, Comedy', "['Action', 'Comedy']", '[{"id": 1, "name": "Drama"}]', '[{', 'N/A', 'nan', 'None',
    '\\N', '0', '1', 'True', 'false', 'train', 'Valid', 'test', 'TEST ', 'val', 'Released', 'ok', 'dropped', 'tt0000000', 'tt0111161', '1999', '30/10/1995',
    '../x.jpg', '/etc/passwd', 'C:\\a\\b.jpg', 'a/1.jpg', 'a/2.jpg', 'b/3.png', 'http://example.com/1.jpg', 'https://example.com/2.jpg?x=1,2', 'javascript:1',
    '=1+1', '$x$', '\u202e', '\u200b', 'e\u0301', 'é', '-', '1e999', '9'*400, '\x00', '\ud800', '"', "'", ',', '\r', '\n', '(' * 300]
_names = ('id file fname filename image path label labels genres Genre split is_valid status group rank width height sha256 url poster link title year '
    'imdb_id tmdb_id overview reason set').split() + ['', 'a b', '=x', '$y$']
_cells = st.sampled_from(_words) | st.text(max_size=8)

def _csv(names, rows, delim, end, enc, quote):
    cell = lambda s: '"' + s.replace('"', '""') + '"' if quote or delim in s or '\n' in s else s
    text = end.join(delim.join(map(cell, r)) for r in [names, *rows])
    return text.encode(enc, 'surrogatepass' if enc.startswith('utf') else 'replace')

_tables = st.builds(_csv, st.lists(st.sampled_from(_names), min_size=1, max_size=6), st.lists(st.lists(_cells, max_size=6), max_size=6),
    st.sampled_from(',;\t|'), st.sampled_from(['\n', '\r\n', '\r']), st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'cp1252']), st.booleans())

_plain = [b'file,label,split\na/1.jpg,a,train\na/2.jpg,b,valid\nb/3.png,a,test\nb/4.png,b,train\n', b'fname,labels,is_valid\na/1.jpg,x y,True\na/2.jpg,x,False\n',
    b'url,label,rank\nhttp://example.com/1.jpg,horror,1\nhttp://example.com/2.jpg,drama,1\n', b'http://example.com/1.jpg\nhttp://example.com/2.jpg\n# no\n']

def _holds(cat):
    "What must hold of every catalog that was taken"
    assert set(cat.df.get('split', [])) <= {'', 'train', 'valid', 'test'}, set(cat.df['split'])
    assert cat.df['id'].is_unique and cat.hash and repr(cat) and cat._repr_html_()
    assert 'split' not in cat.df or 'test' not in set(cat.dev.df['split'])
    refused(lambda: cat.split(seed=1))
    with tempfile.TemporaryDirectory() as d:
        again = refused(lambda: read_catalog(cat.save(Path(d)/'c.csv'), cat.path))
        if again is not None: assert again.hash==cat.hash, 'saved and read, it is another catalog'

@kind(lambda: _tables | changed(_plain, [o.encode('utf-8', 'surrogatepass') for o in _words]))
def tables(data):
    "A csv becomes a catalog, a list of addresses, a film table, or is refused"
    from genre_fastai.collect.urls import read_urls
    from genre_fastai.core import read_table
    with tempfile.TemporaryDirectory() as d:
        (p := Path(d)/'t.csv').write_bytes(data)
        for f in (catalog_from, read_catalog):
            if (cat := refused(f, p)) is not None: _holds(cat)
        if (df := refused(read_table, p)) is not None:
            if (cat := refused(Catalog, df, d)) is not None: refused(_holds, cat)
        if (df := refused(read_urls, p)) is not None: assert df['url'].str.match('(?i)https?://').all()
        _films(p)

def _films(p):
    from genre_fastai.collect import providers
    for f in ('film_table', 'kaggle_movie_genre', 'kaggle_movies_metadata'): refused(getattr(providers, f), p)

# saved search pages

@cache
def page_files(): return [p.read_bytes()[:30_000] for p in sorted((fixtures/'google').glob('*.html'))]

_tags = st.sampled_from([b'<div>', b'</div>', b'<a href="/imgres?imgurl=http://example.com/1.jpg">', b'<img src="data:image/gif;base64,R0lGOD">', b'<img class=n3VNCb src=http://a/1>',
    b'<script>', b'AF_initDataCallback({key: \'ds:1\', data:[', b'[["http://example.com/1.jpg",100,100]]', b']', b'[', b'"', b"'", b'\\u', b'&#x;', b'&#999999999;', b'<!--', b'<![CDATA[', b'\x00', b'\xff'])

@kind(lambda: changed(page_files(), page_files()[:2]) | st.builds(lambda tags, n: b'<html>'+b''.join(tags*n), st.lists(_tags, max_size=8), st.integers(1, 2000)))
def pages(data):
    "A saved page gives addresses of the web, or is refused"
    from genre_fastai.collect.google import google_urls
    with tempfile.TemporaryDirectory() as d:
        (p := Path(d)/'p.html').write_bytes(data)
        if (df := refused(google_urls, p)) is not None: assert df['url'].str.match('(?i)https?://').all()

# journals

_json = st.recursive(st.sampled_from([None, True, 0, -1, 1.5, 10**30, float('nan'), '', 'ok', 'failed', 'keep', 'undo', '0'*16, 'http://x.invalid/1', '../x', '\ud800', 'é']),
    lambda o: st.lists(o, max_size=3) | st.dictionaries(st.sampled_from('a url id file status label'.split()), o, max_size=3), max_leaves=4)

_download = dict(url='http://x.invalid/1', final_url='http://x.invalid/1', label='a', rank='1', status='ok', reason='', http=200, sha256='0'*64, bytes=3, format='JPEG',
    width=2, height=2, mode='RGB', ms=1, time='2026-01-01T00:00:00Z', file='images/'+'0'*32+'.jpg')
_failed = dict(_download, status='failed', reason='timeout', file='', url='http://x.invalid/2')

def _lines(rows, changes):
    "Journal lines whose fields are replaced or left out"
    rows = [dict(o) for o in rows]
    for i,k,gone,v in changes:
        r = rows[i%len(rows)]
        name = list(r)[k%len(r)] if r else 'x'
        if gone: r.pop(name, None)
        else: r[name] = v
    return b''.join(json.dumps(o).encode() + b'\n' for o in rows)

def _journals(rows):
    some = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20), st.booleans(), _json), max_size=4)
    return st.builds(_lines, st.just(rows), some) | changed([_lines(rows, [])])

@kind(lambda: _journals([_download, _failed]))
def downloads(data):
    "A download journal costs no more than its odd lines"
    from genre_fastai.collect.download import download_posters, read_journal
    with tempfile.TemporaryDirectory() as d:
        (p := Path(d)/'journal.jsonl').write_bytes(data)
        os.mkdir(Path(d)/'images')
        (Path(d)/_download['file']).write_bytes(b'xyz')
        for f in (read_journal, catalog_from):
            if (cat := refused(f, d if f is read_journal else p)) is not None and len(cat): _holds(cat)
        refused(download_posters, ['data:x'], d, progress=False)

@cache
def _catalog(): return Catalog([dict(file=f'{i}.jpg', label='ab'[i%2], split=['train','valid','test'][i%3]) for i in range(6)], '.')

@cache
def _decisions():
    from genre_fastai.clean.decisions import CleaningSession
    with tempfile.TemporaryDirectory() as d:
        s,ids = CleaningSession(_catalog(), p := Path(d)/'j.jsonl'), list(_catalog().dev.df['id'])
        s.relabel(ids[0], 'b')
        s.delete(ids[1], why='blurred')
        s.copy_of(ids[2], ids[0])
        s.undo()
        s.keep(ids[3])
        return [json.loads(o) for o in p.read_text().splitlines()]

@kind(lambda: _journals(_decisions()))
def decisions(data):
    "A cleaning journal is read, gone on with, and applied without touching test rows; or it is refused"
    from genre_fastai.clean.decisions import CleaningSession, replay
    cat = _catalog()
    with tempfile.TemporaryDirectory() as d:
        (p := Path(d)/'j.jsonl').write_bytes(data)
        s = refused(CleaningSession, cat, p)
        if s is not None:
            for f in (lambda: s.keep(cat.dev.df['id'][0]), s.undo, s.redo, lambda: s.counts, lambda: s.pending): refused(f)
            clean = refused(s.apply)
            if clean is not None:
                test = lambda c: c.df[c.df['split']=='test'].drop(columns='reason', errors='ignore').values.tolist()
                assert test(clean)==test(cat)
        refused(replay, cat, p, force=True)

# model folders

@cache
def _models():
    "Two small models, kept while the process lives"
    from .model_folders import small_model
    d = tempfile.TemporaryDirectory()
    return d, [small_model(Path(d.name)/'a'), small_model(Path(d.name)/'b', 'PosterCNN', 2, (22,22), False)]

def _seeds(prepare):
    "Seeds as four bytes; what is prepared, torch among it, comes in before the memory of the first input is looked at"
    def made():
        prepare()
        return st.integers(0, 2**32-1).map(lambda n: n.to_bytes(4, 'big'))
    return made

def _changed(folders, data, check):
    "Change one of some folders by a seed, and look at it"
    from .model_folders import mutate
    rng = random.Random(int.from_bytes(data, 'big'))
    with tempfile.TemporaryDirectory() as d:
        shutil.copytree(rng.choice(folders), m := Path(d)/'m')
        mutate(m, rng)
        check(m)

@kind(_seeds(_models))
def models(data):
    "A model folder that was changed by a seed predicts, or is refused"
    from .model_folders import check
    _changed(_models()[1], data, check)

@cache
def _film_models():
    "A small folder of each kind of model that reads, kept while the process lives"
    from .film_folders import small_films
    d = tempfile.TemporaryDirectory()
    return d, small_films(d.name)

@kind(_seeds(_film_models))
def films(data):
    "A folder of a model that reads, changed by a seed, predicts or is refused"
    from .film_folders import check
    _changed(_film_models()[1], data, check)

# .onnx files

@cache
def _onnx_files():
    from .onnx_files import small_onnx
    return [small_onnx(), small_onnx(True, 'squish')]

def _onnx_opened():
    from .onnx_files import OnnxPredictor
    with tempfile.NamedTemporaryFile(suffix='.onnx') as f:
        f.write(_onnx_files()[0])
        f.flush()
        OnnxPredictor(f.name)

@kind(_seeds(_onnx_opened))
def onnx(data):
    "An .onnx file that was changed by a seed predicts, or is refused"
    from .onnx_files import check, mutate
    rng = random.Random(int.from_bytes(data, 'big'))
    with tempfile.TemporaryDirectory() as d:
        (p := Path(d)/'m.onnx').write_bytes(mutate(rng.choice(_onnx_files()), rng))
        check(p)

# requests

def _requests():
    from .web_requests import inputs
    return inputs()

@kind(_requests)
def requests(data):
    "A request to a web app is answered or refused in words"
    from .web_requests import check
    check(data)
