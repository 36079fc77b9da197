"Small .onnx files, changed field by field from a seed: what `make fuzz FUZZ=onnx` tries"
import json
import numpy as np
from genre_fastai.core import GenreError
from genre_fastai.deploy.onnx import OnnxPredictor, _as_field, _fields, _joined, _preprocessing
from .model_folders import changed_config, flipped

_config = dict(arch='small', vocab=['a','b'], multi=False, thresh=None, size=[12,8], method='crop', stats=[[.5]*3,[.5]*3], catalog='0'*16, recipe='auto')
_network = '''<ir_version: 8, opset_import: ["" : 18]>
network (uint8[1,3,12,8] pixels) => (float[1,2] probs) <float[2,3] w = {0.1,0.2,0.3,0.4,0.5,0.6}, float[2] b = {0.0,0.1}> {
  x = Cast<to=1>(pixels)
  means = GlobalAveragePool(x)
  flat = Flatten(means)
  logits = Gemm<transB=1>(flat, w, b)
  probs = Softmax<axis=1>(logits)
}'''

def small_onnx(multi=False, method='crop'):
    "The bytes of a file as `export_onnx` writes them, of a network of eight numbers"
    import onnx
    return _joined(_preprocessing([12,8], method), onnx.parser.parse_model(_network), _config|dict(multi=multi, method=method)).SerializeToString()

odd_numbers = [0, 1, 2, 3, 7, 8, 11, 64, 127, 1<<15, 1<<31, 1<<40, (1<<63)-1, 1<<63, (1<<64)-1, (1<<70)-1]
# fields that hold messages: of a model its graph, of that nodes, tensors, inputs and so on
nested = {'':{7:'graph', 8:'opset', 14:'prop'}, 'graph':{1:'node', 5:'tensor', 11:'value', 12:'value', 13:'value'}, 'node':{5:'attribute'}, 'attribute':{5:'tensor'},
    'value':{2:'type'}, 'type':{1:'shaped'}, 'shaped':{2:'dims'}, 'dims':{1:'dim'}}

def _written(fields): return b''.join(_as_field(k, v) for k,v in fields)

def changed_field(data, rng, kind=''):
    "A message in which one field, somewhere in it, is another one"
    fields = [(k, v if isinstance(v, int) else bytes(v)) for k,v in _fields(memoryview(data))]
    if not fields: return _as_field(rng.randrange(1, 26), rng.choice(odd_numbers))
    i = rng.randrange(len(fields))
    if kind=='' and rng.random()<.8: i = next(j for j,(k,_) in enumerate(fields) if k==7)
    k,v = fields[i]
    inner = nested.get(kind, {}).get(k)
    if inner=='prop' and rng.random()<.8: return _written(fields[:i] + [(14, _prop(v, rng))] + fields[i+1:])
    if inner and rng.random()<.85: return _written(fields[:i] + [(k, changed_field(v, rng, inner))] + fields[i+1:])
    what = rng.choice('number odd delete double move bytes swap long'.split())
    if what=='number': fields[i] = k, rng.choice(odd_numbers)
    elif what=='odd': fields[i] = rng.randrange(1, 26), v
    elif what=='delete': del fields[i]
    elif what=='double': fields.insert(i, fields[i])
    elif what=='move': fields.append(fields.pop(i))
    elif what=='swap': fields[i] = k, fields[rng.randrange(len(fields))][1]
    elif what=='long' and isinstance(v, bytes): fields[i] = k, (v*rng.choice([0, 2, 100, 10_000]))[:1<<20]
    elif isinstance(v, bytes): fields[i] = k, flipped(v, rng)
    else: fields[i] = k, v ^ 1<<rng.randrange(64)
    return _written(fields)

def _prop(v, rng):
    "The metadata with something odd in it"
    p = dict(_fields(v))
    about = changed_config(json.loads(bytes(p[2])), rng)
    return _as_field(1, bytes(p[1])) + _as_field(2, about[:1<<20])

def mutate(data, rng):
    "A file with up to three changes"
    for _ in range(rng.randint(1, 3)):
        try: data = flipped(data, rng, rng.choice([200, None])) if rng.random()<.1 else changed_field(data, rng)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, StopIteration, RecursionError): return data # an earlier change left no message, or no graph
    return data

def check(path):
    "A file gives a model that predicts numbers, or a `GenreError` that says why, also where onnxruntime crashes"
    try:
        m = OnnxPredictor(path)
        assert repr(m)
        pixels = np.random.default_rng(0).integers(0, 256, (2,3,*m.sizes[0]), dtype=np.uint8) if np.prod(m.sizes[0])<1e6 else None
        if pixels is not None: assert m.batch_probs({m.sizes[0]: pixels}).shape==(2,len(m.vocab))
        assert m.picture_probs(np.full((30,20,3), 99, np.uint8)).shape==(len(m.vocab),) # resized by the file
    except GenreError as e: assert str(e).strip() and len(str(e))<2000
