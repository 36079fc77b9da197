"Model folders, changed at random from a seed: what `make fuzz FUZZ=models` tries"
import copy, hashlib, json, os, struct
from pathlib import Path
import numpy as np, torch
from safetensors.torch import load_file, save
from genre_fastai.core import GenreError
from genre_fastai.deploy.folder import Predictor, load_predictor
from genre_fastai.vision.models import poster_model
from .runner import rss

def small_model(folder, arch='test_efficientnet', n=2, size=(32,32), linear=True):
    "A folder of a few kilobytes with everything that a saved model has"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    data = save({k:v.contiguous() for k,v in poster_model(arch, n, None, size, linear)[0].state_dict().items()})
    config = dict(format=2, arch=arch, linear=linear, head={}, weights='random', stats=[[.5]*3,[.5]*3], vocab=list('abcdefgh')[:n], multi=False, size=list(size),
        method='squish', device='cpu', catalog='0'*16, rows=dict(train=4, valid=2), recipe='auto', settings=dict(seed=1), kept='', seconds=1.5,
        valid=dict(accuracy=.5), history=[dict(epoch=0, train_loss=.7)], versions=dict(python='3.11'), sha256=hashlib.sha256(data).hexdigest())
    (folder/'model.safetensors').write_bytes(data)
    (folder/'config.json').write_text(json.dumps(config, indent=1))
    (folder/'README.md').write_text('# a model')
    return folder

# --- values that nobody expects

def deep(n=3000): return '['*n + ']'*n # as text: Python cannot write it either

odd = [None, True, False, 0, 1, -1, 2, 3, 7.5, 1e308, 10**12, 10**30, 10**400, float('nan'), float('inf'), '', ' ', 'a', 'x'*300, 'x'*200_000, '\ud800', '\x00', '../..', '\u202e',
    'resnet18', 'vit_giant_patch14_224', 'regnet_y_128gf', 'hf-hub:timm/resnet18', 'PosterCNN', 'tf_efficientnet_lite0', 'squish', [], {}, [1], [[]], ['a','a'], ['a',1], ['a',''],
    ['a','\ud800'], [str(i) for i in range(400_000)], ['a']*400_000, [1000,1000], [4096,4096], [10**6,10**6], [32.,32.], [-32,32], [32], [32,32,32], [True,True], [[0]*3,[0]*3],
    [[0]*3,[-1]*3], [[0]*3], [[0]*2,[1]*2], [[float('nan')]*3,[1]*3], [['0']*3,['1']*3], [[10**400]*3,[1]*3], dict(a=1), dict(lin_ftrs=[10**9]), dict(pool=False), dict(init='x'),
    dict(y_range=[0,1]), [None,None], dict(concat_pool=1), [[[[[[]]]]]]]

def _changed_inside(o, rng):
    "Something odd somewhere in nested dicts and lists"
    k = rng.choice(list(o) if isinstance(o, dict) else range(len(o)))
    if isinstance(o[k], (dict,list)) and o[k] and rng.random()<.8: return _changed_inside(o[k], rng)
    what = rng.choice('set set number delete twice'.split())
    if what=='number' and type(o[k]) in (int,float): o[k] = rng.choice([o[k]+1, o[k]-1, -o[k], o[k]*1000, float(o[k]), str(o[k])])
    elif what=='delete': del o[k]
    elif what=='twice' and isinstance(o, list): o.insert(k, o[k])
    else: o[k] = rng.choice(odd)

def changed_config(config, rng):
    "The text of a config with something odd in it"
    config,what = copy.deepcopy(config), rng.choice('set set set inside inside inside delete rename nest text text bytes'.split())
    k = rng.choice(list(config))
    if what=='set': config[k] = rng.choice(odd)
    elif what=='inside': _changed_inside(config, rng)
    elif what=='delete': del config[k]
    elif what=='rename': config[rng.choice([k.upper(), k+' ', '', '\ud800', 'x'*9999])] = config.pop(k)
    elif what=='nest' and isinstance(config[k], list) and config[k]: config[k][rng.randrange(len(config[k]))] = rng.choice(odd)
    text = json.dumps(config)
    if what=='text': text = rng.choice([text[:rng.randrange(len(text))], text+text, f'[{text}]', text.replace(':', ': '+deep()+',"x":', 1), deep(100_000), text.replace(',', f',"{k}":1,', 1),
        '', 'null', '3', '"x"', '\ufeff'+text, text.replace('false', '1'*5000), text.replace('2', '2.0', 1), '{'*99, text+' '*(5<<20)])
    data = text.encode('utf-8', 'surrogatepass')
    return flipped(data, rng) if what=='bytes' else data

def flipped(data, rng, upto=None):
    "A few bytes changed, cut out, doubled, or the end cut off"
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data: break
        i,n = rng.randrange(min(len(data), upto or len(data))), rng.randint(1, 64)
        how = rng.choice('flip flip set cut double end'.split())
        if how=='flip': data[i] ^= 1<<rng.randrange(8)
        elif how=='set': data[i:i+n] = bytes([rng.randrange(256)])*min(n, len(data)-i)
        elif how=='cut': del data[i:i+n]
        elif how=='double': data[i:i] = data[i:i+n]
        else: del data[i:]
    return bytes(data)

def changed_header(data, rng):
    "A safetensors file whose header says something odd"
    n = int.from_bytes(data[:8], 'little')
    header,body = json.loads(data[8:8+n]), data[8+n:]
    k,what = rng.choice([k for k in header if k!='__metadata__']), rng.choice('dtype shape ends delete add rename meta body empty'.split())
    e = header[k]
    if what=='dtype': e['dtype'] = rng.choice(['F16','BF16','F64','I32','I64','BOOL','U8','F8_E4M3','C64','', None, 3, [], 'X'*999])
    elif what=='shape': e['shape'] = rng.choice([[], [0], [-1], [1<<40], [1<<62]*4, [10**30], [2]*99, [1.5], ['2'], None, 'x', {}, [True], e['shape'][::-1], [int(np.prod(e['shape']))], [1,*e['shape']]])
    elif what=='ends': e['data_offsets'] = rng.choice([[0,0], [0,1<<60], [-8,0], [8,0], [0], None, 'x', [0.,4.], [True,False], [o+4 for o in e['data_offsets']], [10**30]*2])
    elif what=='delete': del header[k]
    elif what=='add': header[rng.choice(['x', k.upper(), '', '\ud800'])] = rng.choice([e, {}, None, 3, dict(dtype='F32', shape=[0], data_offsets=[len(body)]*2)])
    elif what=='rename': header[rng.choice(['x', '', '__metadata__', '../x'])] = header.pop(k)
    elif what=='meta': header['__metadata__'] = rng.choice([None, 3, [], 'x', dict(a=[1]), dict(a='x'*99_999)])
    elif what=='body': body = rng.choice([body[:-4], body+bytes(4), b'', body*2])
    else: header = {}
    text = json.dumps(header).encode()
    return struct.pack('<Q', rng.choice([len(text)]*20+[0, 1, 1<<20, 1<<40, (1<<64)-1, len(text)-1, len(text)+1]))+text+body

def other_tensors(file, rng):
    "Whole files of tensors, but not of this network"
    state = load_file(file)
    k,what = rng.choice(list(state)), rng.choice('half bfloat double int bool nan inf huge missing more other empty'.split())
    as_type = dict(half=torch.float16, bfloat=torch.bfloat16, double=torch.float64, int=torch.int32, bool=torch.bool)
    if what in as_type: state = {n: v.to(as_type[what]) if rng.random()<.5 or n==k else v for n,v in state.items()}
    elif what in ('nan','inf','huge'): state[k] = torch.full_like(state[k].float(), dict(nan=float('nan'), inf=float('inf'), huge=3e38)[what])
    elif what=='missing': del state[k]
    elif what=='more': state['more'] = torch.ones(3)
    elif what=='other': state[k] = torch.ones(5)
    else: state = {}
    return save(state)

def odd_file(path, rng):
    "Something that is no file in the place of one"
    path.unlink()
    what = rng.choice('none folder pipe loop gone device empty link'.split())
    if what=='folder': path.mkdir()
    elif what=='pipe': os.mkfifo(path)
    elif what=='loop': path.symlink_to(path.name)
    elif what=='gone': path.symlink_to('nowhere')
    elif what=='device': path.symlink_to(rng.choice(['/dev/zero', '/dev/null', '/dev/tty', '/']))
    elif what=='empty': path.touch()
    elif what=='link': path.symlink_to('README.md')

def signed(folder):
    "Let the config name the hash of the tensors, so that more than the hash is looked at"
    config = json.loads((folder/'config.json').read_text())
    config['sha256'] = hashlib.sha256((folder/'model.safetensors').read_bytes()).hexdigest()
    (folder/'config.json').write_text(json.dumps(config))

def mutate(folder, rng):
    "Change a folder from `small_model` in place, by numbers of `rng`"
    folder = Path(folder)
    c,t = folder/'config.json',folder/'model.safetensors'
    what = rng.choice('config config config header header tensors tensors bytes file'.split())
    if what=='config': c.write_bytes(changed_config(json.loads(c.read_text()), rng))
    elif what=='header': t.write_bytes(changed_header(t.read_bytes(), rng))
    elif what=='tensors': t.write_bytes(other_tensors(t, rng))
    elif what=='bytes': t.write_bytes(flipped(t.read_bytes(), rng, rng.choice([8, 2000, None])))
    else: odd_file(rng.choice([c, t]), rng)
    if what in ('header','tensors','bytes') and rng.random()<.9: signed(folder)
    return what

def check(folder, megabytes=300):
    "A folder gives a model that predicts numbers, or a `GenreError` that says why, in little memory"
    before = rss()
    try:
        model = load_predictor(folder)
        assert isinstance(model, Predictor) and repr(model)
        h,w = model.config['size']
        if h*w<=224*224:
            with torch.inference_mode(): assert model.model(torch.rand(1,3,h,w)).shape==(1,len(model.vocab))
    except GenreError as e: assert str(e).strip() and len(str(e))<2000
    assert rss()-before<megabytes, f'{rss()-before:,.0f} MB more'
