"Features: computed once a picture, in whatever catalog; stopped, damaged and foreign files; several bodies, views and precisions"
import warnings
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from safetensors.torch import save_file
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError, sha256_file
from genre_fastai.features import extract
from genre_fastai.features.extract import Features, extract_features, join_features, load_features
from genre_fastai.features.store import FeatureFile, clear_features, features_folder, weights_digest
from genre_fastai.store import StoreWarning
from genre_fastai.vision import cache as pixels, models, weights as W

size = 32,24

@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch): monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))

def draw(folder, n, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(n): Image.fromarray(rng.integers(0, 255, (40,30,3), np.uint8)).save(folder/f'{i}.png')
    return Catalog(dict(file=[f'{i}.png' for i in range(n)], label='x'), folder)

@pytest.fixture
def cat(tmp_path): return draw(tmp_path/'a', 10)

@pytest.fixture
def file(tmp_path):
    "Weights that a later call has too"
    torch.manual_seed(0)
    save_file(W.PosterCNN().state_dict(), f := tmp_path/'cnn.safetensors')
    return f

@pytest.fixture
def counts(monkeypatch):
    "How many images pass the network, and how many are decoded"
    n = dict(forward=0, decode=0)
    forward,decode = extract._runner, pixels.digest_and_pixels
    def runner(*args):
        run = forward(*args)
        def f(x):
            n['forward'] += len(x)
            return run(x)
        return f
    def one(*args):
        n['decode'] += 1
        return decode(*args)
    monkeypatch.setattr(extract, '_runner', runner)
    monkeypatch.setattr(pixels, 'digest_and_pixels', one)
    return n

def features(cat, file, **kwargs): return extract_features(cat, 'PosterCNN', file, **{**dict(pool='avgmax', size=size, bs=2, progress=False), **kwargs})

# --- a picture seen once

def test_a_second_call_and_another_catalog_compute_nothing(cat, file, counts, tmp_path):
    a = features(cat, file)
    assert counts==dict(forward=10, decode=10) and a.X.shape==(10,128)
    b = features(cat, file)
    other = tmp_path/'b'
    other.mkdir()
    for i in (7,2): (other/f'copy{i}.png').write_bytes((Path(cat.path)/f'{i}.png').read_bytes())
    c = features(Catalog(dict(file=['copy7.png','copy2.png'], label='y'), other), file)
    assert counts==dict(forward=10, decode=10)
    assert np.array_equal(a.X, b.X) and np.array_equal(c.X, a.X[[7,2]])

def test_what_is_kept_is_what_the_network_says(cat, file):
    from genre_fastai.vision.data import image_dl
    net = W.load_pretrained('PosterCNN', file)
    f = extract.pooled_body(net, 'avgmax')
    want = np.concatenate([f(x).numpy() for x, in image_dl(cat.files, size, stats=net.stats, bs=4)])
    for o in (features(cat, file), features(cat, file), features(cat, file, cache_features=False)): assert np.allclose(o.X, want, rtol=1e-4, atol=1e-5)

def test_files_of_the_same_bytes_pass_once(cat, file, counts):
    root = Path(cat.path)
    for i in (1,2): (root/f'{i}.png').write_bytes((root/'0.png').read_bytes())
    X = features(cat, file).X
    assert counts['forward']==8 and np.array_equal(X[1], X[0]) and np.array_equal(X[2], X[0]) and not np.array_equal(X[3], X[0])

def test_other_weights_size_pooling_or_precision_are_another_file(cat, file, tmp_path, counts):
    features(cat[:2], file)
    state = W.read_weights(file)
    state['0.bias'] = state['0.bias']+1e-3
    save_file(state, tmp_path/'tuned.safetensors')
    for kwargs in (dict(file=tmp_path/'tuned.safetensors'), dict(size=(32,32)), dict(pool='avg'), dict(precision='bf16')):
        before = counts['forward']
        features(cat[:2], **{'file': file, **kwargs})
        assert counts['forward']==before+2, kwargs
    save_file(W.read_weights(file), tmp_path/'renamed.safetensors')
    features(cat[:2], tmp_path/'renamed.safetensors')
    assert counts['forward']==before+2 # the name of a file changes nothing

def test_a_changed_file_is_another_picture(cat, file, counts):
    a = features(cat, file)
    Image.new('RGB', (30,40), 'red').save(Path(cat.path)/'3.png')
    b = features(cat, file)
    assert counts['forward']==11 and (a.X!=b.X).any(1).tolist()==[i==3 for i in range(10)]

def test_a_stopped_call_keeps_what_it_has(cat, file, counts, monkeypatch):
    run = extract._runner
    def stops(*args):
        f = run(*args)
        def g(x):
            if counts['forward']>=6: raise KeyboardInterrupt
            return f(x)
        return g
    with monkeypatch.context() as m:
        m.setattr(extract, '_runner', stops)
        with pytest.raises(KeyboardInterrupt): features(cat, file)
    assert counts['forward']==6
    assert len(features(cat, file))==10 and counts['forward']==10

def test_nothing_is_kept_of_random_weights_or_when_not_asked(cat, file, counts, tmp_path):
    features(cat[:2], None)
    features(cat[:2], file, cache_features=False)
    assert not features_folder().exists()
    features(cat[:2], file, cache_features=tmp_path/'mine')
    features(cat[:2], file, cache_features=tmp_path/'mine')
    assert counts['forward']==6 and not features_folder().exists() and clear_features(tmp_path/'mine')>2*128*4

def test_a_damaged_cache_is_computed_again(cat, file, counts):
    a = features(cat, file)
    dat = next(features_folder().glob('*.dat'))
    raw = bytearray(dat.read_bytes())
    raw[-100] ^= 255
    dat.write_bytes(raw)
    with pytest.warns(StoreWarning, match='damaged'): b = features(cat, file)
    assert np.array_equal(a.X, b.X) and counts['forward']==20
    assert np.array_equal(features(cat, file).X, a.X) and counts['forward']==20

def test_a_folder_that_cannot_be_written_costs_only_time(cat, file, tmp_path):
    (tmp_path/'f').write_text('a file')
    with pytest.warns(StoreWarning, match='cannot be written'): got = features(cat, file, cache_features=tmp_path/'f')
    assert np.array_equal(got.X, features(cat, file).X)

# --- files that fail

def spoil(cat):
    root = Path(cat.path)
    (root/'2.png').unlink()
    (root/'5.png').write_bytes((root/'5.png').read_bytes()[:900])
    (root/'6.png').write_text('<html>not found</html>')

def test_failed_files_are_named_and_left_out(cat, file):
    want = features(cat, file, cache_features=False)
    spoil(cat)
    with pytest.warns(UserWarning, match='3 of 10 files cannot be read: 2.png') as said: got = features(cat, file)
    assert len(said)==1 and got.failed['file'].tolist()==['2.png','5.png','6.png'] and got.failed['id'].tolist()==cat.df['id'].iloc[[2,5,6]].tolist()
    assert [o.partition(':')[0] for o in got.failed['reason']]==['missing','truncated','html']
    assert str(cat.path) not in ' '.join(got.failed['reason'])
    rest = got.known(cat)
    assert len(rest)==7 and np.allclose(got.of(rest).X, want.of(rest).X, rtol=1e-4, atol=1e-5) # batches of other rows
    with pytest.raises(GenreError, match=r'2.png \(missing.*feats.known'): got.of(cat)
    with pytest.raises(GenreError, match='strict=False'): features(cat, file, strict=True)

def test_all_failed_is_an_error(tmp_path, file):
    with pytest.raises(GenreError, match='None of 2 files can be read, the first is .*x.png'): features(Catalog(dict(file=['x.png','y.png'], label='x'), tmp_path), file)

def test_failures_hold_for_all_bodies_and_views(cat, file, counts):
    spoil(cat)
    with pytest.warns(UserWarning, match='3 of 10') as said:
        got = features(cat, file, bodies=[dict(crops=3), dict(pool='avg')])
    assert len(said)==1 and got.X.shape==(7,128+64) and counts['decode']==10+2*7 # what failed is not tried again

# --- bodies, views

def test_bodies_stand_side_by_side(cat, file, tmp_path):
    save_file(W.PosterCNN().state_dict(), tmp_path/'other.safetensors')
    got = features(cat, file, bodies=['PosterCNN', ('PosterCNN', tmp_path/'other.safetensors'), dict(pool='avg', size=(24,32))])
    parts = [features(cat, file), features(cat, tmp_path/'other.safetensors'), features(cat, file, pool='avg', size=(24,32))]
    assert np.array_equal(got.X, np.concatenate([o.X for o in parts], 1)) and got.settings==join_features(parts).settings
    assert [o['weights'] for o in got.settings['bodies']]==['cnn.safetensors','other.safetensors','cnn.safetensors']
    assert len({o['digest'] for o in got.settings['bodies']})==2
    shuffled = Features(parts[1].ids[::-1], parts[1].X[::-1])
    assert np.array_equal(join_features([parts[0], shuffled]).X, got.X[:,:256])

@pytest.mark.parametrize('crops', [3, 5])
def test_views_are_averaged(cat, file, crops, counts):
    got = features(cat[:3], file, crops=crops)
    whole,(big,corners) = features(cat[:3], file), extract.crop_views(size, crops)[1]
    assert counts['forward']==3*crops # the whole poster is that of a call without views
    f = extract.pooled_body(W.load_pretrained('PosterCNN', file), 'avgmax', ([0.]*3, [1.]*3))
    x = torch.from_numpy(np.stack([pixels.fit_poster(o, big) for o in cat[:3].files]))
    want = (whole.X+sum(f(x[:,:,t:t+size[0],l:l+size[1]]).numpy() for t,l in corners))/crops
    assert len(corners)==crops-1 and np.allclose(got.X, want, rtol=1e-4, atol=1e-5) and got.settings['crops']==crops

def test_bf16_is_near_and_named(cat, file):
    a,b = (features(cat, file, precision=o) for o in ('fp32','bf16'))
    assert b.settings['precision']=='bf16' and 'precision' not in a.settings
    assert 0<np.abs(a.X-b.X).max()<.02*np.abs(a.X).max()
    with pytest.raises(GenreError, match='no precision'): features(cat, file, precision='half')

def test_a_broken_network_is_not_kept(cat, tmp_path):
    net = W.PosterCNN()
    f = tmp_path/'big.safetensors'
    save_file({k: v*0+1e30 for k,v in net.state_dict().items()}, f)
    with pytest.raises(GenreError, match='NaN or infinite'): features(cat, f)
    assert not list(features_folder().glob('*.dat'))

# --- one file

def test_saved_features_are_those_that_were_saved(cat, file, tmp_path):
    spoil(cat)
    with pytest.warns(UserWarning): got = features(cat, file, bodies=[{}, dict(pool='avg')])
    again = load_features(got.save(tmp_path/'f.safetensors'))
    assert again.ids==got.ids and np.array_equal(again.X, got.X) and again.settings==got.settings and again.failed.equals(got.failed)
    assert len(again.of(got.known(cat)))==7
    old = load_features(tmp_path/'f.safetensors')
    Features(['x'], [[1.]]).save(tmp_path/'f.safetensors')
    assert np.array_equal(old.X, got.X) and load_features(tmp_path/'f.safetensors').ids==['x'] # who has the old one open keeps it

def test_ids_and_widths_of_other_kinds(tmp_path):
    for ids,X in (([np.int64(3),4], np.zeros((2,3))), ([], np.zeros((0,3))), (['é',''], np.zeros((2,0)))):
        got = load_features(Features(ids, X, dict(n=np.float32(2), p=Path('a'))).save(tmp_path/'f.safetensors'))
        assert got.ids==list(ids) and got.X.shape==X.shape and got.settings==dict(n=2., p='a')

def test_foreign_torn_and_changed_files_are_refused(tmp_path):
    f = Features(['a','b'], np.arange(6).reshape(2,3), dict(arch='x')).save(tmp_path/'f.safetensors')
    raw,bad = f.read_bytes(), tmp_path/'bad.safetensors'
    for n in range(len(raw)):
        bad.write_bytes(raw[:n])
        with pytest.raises(GenreError): load_features(bad)
    start = 8+int.from_bytes(raw[:8], 'little')
    for i in range(start, len(raw)):
        bad.write_bytes(raw[:i]+bytes([raw[i]^64])+raw[i+1:])
        with pytest.raises(GenreError, match='not as it was written'): load_features(bad)
    save_file(dict(X=torch.zeros(2,3), ids=torch.zeros(4, dtype=torch.uint8)), bad)
    with pytest.raises(GenreError, match='holds no features'): load_features(bad)
    with pytest.raises(GenreError, match='is not there'): load_features(tmp_path/'none')

def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    f = Features(['a'], [[1.]]).save(tmp_path/'f.safetensors')
    def fails(*args, **kwargs): raise OSError('full')
    monkeypatch.setattr('safetensors.numpy.save_file', fails)
    with pytest.raises(OSError): Features(['b'], [[2.]]).save(f)
    assert load_features(f).ids==['a'] and [o.name for o in tmp_path.iterdir()]==['f.safetensors']

# --- bodies with a network

def test_a_file_of_convolutions_alone_is_enough(tmp_path, cat, counts):
    "As with article 3's VGG16; here a small network whose layers have the same names"
    from torchvision.models import squeezenet1_1
    net = squeezenet1_1(weights=None)
    save_file({f'features.{k}': v.half() for k,v in net.features.state_dict().items()}, f := tmp_path/'conv.safetensors')
    for _ in range(2): X = extract_features(cat[:2], 'squeezenet1_1', f, 'flat', 64, progress=False).X
    assert X.shape==(2,3*3*512) and counts['forward']==2 # the classifier, random each time, has no part in it
    with pytest.raises(GenreError, match='does not fit this architecture.*Give the `arch`'): W.load_pretrained('PosterCNN', f)

names = {'vit_base_patch16_clip_quickgelu_224.openai': (224,224), 'vit_base_patch16_siglip_224.webli': (224,224), 'vit_small_patch14_dinov2.lvd142m': (518,518),
    'resnet34': None, 'convnext_tiny.fb_in1k': None}

@pytest.mark.parametrize('name', names)
def test_names_with_the_name_of_their_weights(name):
    assert W.arch_name(name)==name and models.own_size(name)==names[name]
    if name.startswith('vit_base_patch16_siglip'): assert list(W._stats(name)[0])==[.5]*3
    if 'clip' in name: assert W._stats(name)[0][0]==pytest.approx(.48145466)

def test_a_name_with_unknown_weights_is_refused():
    with pytest.raises(GenreError, match='Near it: vit_base_patch16_siglip_224.webli'): W.arch_name('vit_base_patch16_siglip_224.webl')

@pytest.mark.parametrize('pool', extract.pools)
def test_a_transformer_gives_its_vector_at_its_own_size(cat, pool):
    torch.manual_seed(0)
    got = extract_features(cat[:2], 'test_vit.r160_in1k', None, pool, progress=False)
    assert got.X.shape==(2,64) and got.settings['size']==[[160,160]] and got.settings['arch']=='test_vit.r160_in1k'

def test_a_network_without_a_classifier_needs_all_its_tensors(tmp_path):
    "SigLIP and DINOv2 end in features: nothing of them may stay random"
    import timm
    net = timm.create_model('test_vit', num_classes=0)
    assert not W._classifier(net)
    state = net.state_dict()
    last = list(state)[-1]
    del state[last]
    with pytest.raises(GenreError, match=f'1 of {len(state)+1} tensors are missing'): W._load_state(net, state, 'f')

def test_pictures_that_the_catalog_does_not_know_are_said(cat, file):
    known = cat.assign(sha256=[sha256_file(o) for o in cat.files])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        features(known, file)
    known.files[3].write_bytes(known.files[4].read_bytes())
    with pytest.warns(UserWarning, match=f'1 of 10 pictures are others than the catalog knows.*{known.df["file"][3]}'): features(known, file)

@pytest.mark.parametrize('kind', ['RGBA','I;16','turned','LA','1'])
def test_a_picture_in_memory_is_seen_as_its_file(file, tmp_path, kind):
    from PIL import Image
    from genre_fastai.features.neighbors import features_like
    im = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90,60,3), np.uint8))
    if kind=='RGBA': im.putalpha(Image.linear_gradient('L').resize(im.size))
    elif kind=='I;16': im = Image.fromarray(np.asarray(im.convert('L')).astype(np.uint16)*257)
    elif kind!='turned': im = im.convert(kind)
    (exif := Image.Exif())[0x0112] = 6 if kind=='turned' else 1
    im.save(p := tmp_path/'p.png', exif=exif)
    made = dict(arch='PosterCNN', weights=file, pool='avgmax', size=size)
    made = extract_features(Catalog(dict(file=['p.png']), tmp_path), **made, progress=False).settings
    assert np.allclose(features_like(p, made, file), features_like(Image.open(p), made, file), atol=1e-5)
