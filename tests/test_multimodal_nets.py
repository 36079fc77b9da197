"Networks of posters and texts: what is missing counts for nothing, what is frozen stays, and encodings kept are what the network says"
import json, warnings
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from torch import nn
from genre_fastai.core import GenreError
from genre_fastai.catalog.core import Catalog
from genre_fastai.features.store import weights_digest
from genre_fastai.multimodal.models import ConcatFusion, FusionHead, PosterEncoder, PosterPlotNet, PosterTextNet, encoded, fusions, poster_text_splitter
from genre_fastai.text.embed import has_text
from genre_fastai.text.models import SentenceEncoder, WordLSTM
from genre_fastai.text.tokens import SentenceTokenizer
from genre_fastai.train import multimodal as mm
from genre_fastai.train.learner import poster_loss
from genre_fastai.train.multimodal import multimodal_learner, poster_plot_learner, poster_text_learner
from genre_fastai.vision.data import get_dls

needs_text = pytest.mark.skipif(not has_text(), reason='the extra `text` is not installed')
colours = dict(horror=(30,20,60), love=(230,140,160), space=(60,180,230))
said = dict(horror='ghost house', love='love paris', space='w1 w2')

@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "Twenty-four noisy pictures of three colours, with texts; the second has no text, the third no poster"
    path,rng,rows = tmp_path_factory.mktemp('films'), np.random.default_rng(0), []
    for i in range(24):
        k = list(colours)[i%3]
        noise = rng.integers(-25, 25, (48,36,3))*(i!=2)
        Image.fromarray(np.clip(np.array(colours[k])+noise, 0, 255).astype('uint8')).save(path/f'{i}.png')
        rows.append(dict(file=f'{i}.png', label=k, labels=f'{k}|any' if i%2 else k, overview='' if i==1 else said[k], split='valid' if i%4==3 else 'train'))
    return Catalog(pd.DataFrame(rows), path)

def of(films, multi): return Catalog(films.df.drop(columns='label' if multi else 'labels'), films.path)

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A tiny BERT with random weights"
    if not has_text(): pytest.skip('the extra `text` is not installed')
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from genre_fastai.text.embed import text_network
    path = tmp_path_factory.mktemp('bert')/'tiny'
    path.mkdir()
    words = '<pad> <s> </s> [UNK] ghost house love paris w1 w2'.split()
    t = Tokenizer(models.WordLevel({o:i for i,o in enumerate(words)}, unk_token='[UNK]'))
    t.pre_tokenizer,t.post_processor = pre_tokenizers.Whitespace(), processors.RobertaProcessing(('</s>',2), ('<s>',1))
    t.add_special_tokens(words[:4])
    t.save(str(path/'tokenizer.json'))
    (path/'config.json').write_text(json.dumps(dict(model_type='bert', vocab_size=len(words), hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=34, pad_token_id=0)))
    (path/'model.safetensors').touch()
    torch.manual_seed(0)
    save_file({k:v.contiguous() for k,v in text_network(path, pretrained=False).state_dict().items()}, path/'model.safetensors')
    return path

def convs(): return nn.Sequential(nn.Conv2d(3,6,5,2), nn.BatchNorm2d(6), nn.ReLU())

def net(fusion='gated', n=3, vocab=40, **kw):
    torch.manual_seed(0)
    return PosterTextNet(PosterEncoder(convs()), WordLSTM(vocab, dims=8), n, fusion, hidden=16, **kw)

def batch(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 24, 18, generator=g), torch.randint(1, 40, (n,9), generator=g)

# ---- the networks

@pytest.mark.parametrize('fusion', fusions)
def test_what_is_missing_counts_for_nothing(fusion):
    model,(x,t) = net(fusion).eval(), batch()
    x[1],t[2],x[3],t[3] = .3,0,.3,0
    first = model(x, t)
    x[1],x[3] = .8,.1 # other colours
    t[2,:3] = 0 # still none
    assert torch.equal(model(x, t), first)
    x2,t2 = batch(seed=1)
    x2[1],t2[1] = .5,t[1] # the same text beside other films, again without a poster
    t2[2],x2[2] = 0,x[2]
    other = model(x2, t2)
    assert torch.allclose(other[1:3], first[1:3], atol=1e-5) and not torch.allclose(other[0], first[0], atol=1e-3)
    assert torch.isfinite(first).all()

@pytest.mark.parametrize('fusion', fusions)
def test_missing_rows_are_in_no_statistics(fusion):
    "In training, too, the pixels of a missing poster change nothing"
    (x,t),outs = batch(),[]
    for colour in (.2,.9):
        model = net(fusion, dropout=0.).train()
        x[1],t[2] = colour,0
        outs.append((model(x, t), model.head.norms[0].running_mean.clone(), model.poster.body[1].running_mean.clone()))
    for a,b in zip(*outs): assert torch.equal(a, b)

def test_batches_of_one_and_of_nothing():
    model,(x,t) = net().train(), batch()
    assert torch.isfinite(model(x[:1], t[:1])).all() # no spread in one row
    none = torch.zeros_like(t[:2])
    assert model.eval()(torch.full_like(x[:2], .5), none).shape==(2,3)
    assert torch.equal(model.gates(torch.full_like(x[:2], .5), none), torch.zeros(2,16))

def test_modality_dropout_leaves_out_one_never_both():
    seen = []
    class Look(ConcatFusion):
        def forward(self, xs, has):
            seen.append(torch.stack(has, 1))
            return super().forward(xs, has)
    head = FusionHead([4,3], 2, 'concat', hidden=5, drop_modality=1.)
    head.fuse = Look([4,3], 2, 5)
    a,b = torch.ones(400,4),torch.ones(400,3)
    b[:50] = 0 # no text from the first: their poster stays
    head.train()(a, b)
    has, = seen
    assert has[:50,0].all() and (has[50:].sum(1)==1).all() and 100<has[50:,0].sum()<250
    head.eval()(a, b)
    assert seen[1][50:].all() # only in training

def test_gates_follow_what_is_there_and_learn():
    model,(x,t) = net(dropout=0.).eval(), batch()
    x[1],t[2] = .3,0
    z = model.gates(x, t)
    assert (z[1]==0).all() and (z[2]==1).all() and ((z[0]>0)&(z[0]<1)).all()
    h = model.head
    xs,has = h.prepare(model.encode(x, t))
    want = z*torch.tanh(h.fuse.unit.lins[0](xs[0])) + (1-z)*torch.tanh(h.fuse.unit.lins[1](xs[1]))
    assert torch.allclose(h.fuse.unit(xs, has)[[0,3,4,5]], want[[0,3,4,5]], atol=1e-6)
    model(x, t).sum().backward()
    assert h.fuse.unit.z.weight.grad.abs().sum()>0

def test_the_articles_sizes():
    model = PosterPlotNet(100, 18).eval()
    lins = [m for m in model.head.modules() if isinstance(m, nn.Linear)]
    assert [(o.in_features,o.out_features) for o in lins]==[(640,256),(256,128),(128,18)]
    assert [m.out_channels for m in model.poster.modules() if isinstance(m, nn.Conv2d)]==[32,64,128,128]
    assert (model.text.lstm.num_layers,model.text.lstm.hidden_size)==(2,64) and model.text.embed.weight.requires_grad
    x,t = torch.rand(2,3,115,75),torch.randint(1,100,(2,12))
    x[1] = .4
    assert encoded(model.poster(x)).tolist()==[True,False]
    a,t[1] = model(x, t),t[0]
    assert not torch.equal(model(x, t)[1], a[1])

@pytest.mark.parametrize('kw', [dict(fusion='sum'), dict(poster=None, text=None)])
def test_what_cannot_be_built_is_refused(kw):
    kw = {**dict(poster=PosterEncoder(convs()), text=None, n=2), **kw}
    with pytest.raises(GenreError): PosterTextNet(**kw)

# ---- freezing

def loaders(films, multi=False, modalities='poster,overview', **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return get_dls(of(films, multi), **{**dict(bs=6, seed=1, size=(48,36), modalities=modalities, batch_tfms=[]), **kw})

def learner(films, fusion='gated', **kw):
    dls = loaders(films)
    return multimodal_learner(dls, net(fusion, vocab=dls.tokenizer.vocab_size, **kw), precision='fp32')

def reached(learn):
    "Which groups the gradients of a batch reach, and which weights a step changes"
    names,b = [*learn.model.encoders(), 'head'], learn.dls.one_batch()
    was = [[p.detach().clone() for p in g] for g in learn.opt.param_lists]
    learn.model.train()
    learn.loss_func(learn.model(*b[:-1]), b[-1]).backward()
    got = [k for k,g in zip(names, learn.opt.param_lists) if any(p.grad is not None and p.grad.abs().sum()>0 for p in g)]
    learn.opt.set_hyper('lr', .1)
    learn.opt.step()
    moved = [k for k,g,w in zip(names, learn.opt.param_lists, was) if not all(map(torch.equal, g, w))]
    assert got==moved
    return got

def test_gradients_reach_only_what_learns(films):
    learn = learner(films)
    for f,want in ((lambda: learn.freeze_modality('poster'), ['text','head']), (lambda: learn.freeze_modality('text'), ['head']),
            (lambda: learn.unfreeze_modality('poster'), ['poster','head']), (learn.unfreeze, ['poster','text','head']),
            (learn.freeze, ['head']), (lambda: learn.freeze_to(1), ['text','head'])):
        f()
        for p in learn.model.parameters(): p.grad = None
        assert reached(learn)==want

def test_what_is_frozen_after_it_learned_stays(films):
    learn = learner(films)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-2, wd=.1)
        learn.freeze_modality('text')
        was = weights_digest(learn.model.text),weights_digest(learn.model.poster)
        learn.fit(1, 1e-2, wd=.1) # neither weight decay nor old averages move it
    assert weights_digest(learn.model.text)==was[0] and weights_digest(learn.model.poster)!=was[1]
    with pytest.raises(GenreError, match='poster and text'): learn.freeze_modality('title')

def test_groups_of_one_modality():
    model = PosterTextNet(None, WordLSTM(40, dims=8), 3)
    assert [len(o) for o in poster_text_splitter(model)]==[9, len(list(model.head.parameters()))]

# ---- learners

cases = [(False,'poster,overview'), (True,'poster'), (True,'overview'), (False,'overview')]

@needs_text
@pytest.mark.parametrize('multi,modalities', cases)
def test_encodings_train_what_the_whole_predicts(films, folder, multi, modalities):
    dls = loaders(films, multi, modalities, tokenizer=SentenceTokenizer(folder, length=6))
    torch.manual_seed(0)
    learn = poster_text_learner(dls, 'concat' if multi else 'late', hidden=16, precision='fp32', drop_modality=.3)
    assert list(learn.origin)==list(learn.model.encoders())
    with learn.no_bar(), learn.no_logging(): learn.fit_encodings(6, 2e-2)
    best = min(o['valid_loss'] for o in learn.run_info.history)
    with learn.no_bar(), learn.no_logging(): assert learn.validate()[0]==pytest.approx(best, rel=1e-2, abs=1e-3)
    p = learn.predictions(dls.cat.where(split='valid'))
    assert p.probs.shape==(6, len(dls.vocab)) and (multi or np.allclose(p.probs.sum(1), 1, atol=1e-4))
    assert learn.run_info.history[0]['frozen'] and learn.dls is dls
    if not multi and modalities!='overview': assert (p.probs.argmax(1)==p.cat.one_hot(p.vocab).argmax(1)).all()

@needs_text
@pytest.mark.parametrize('precision', ['fp32','bf16'])
def test_kept_encodings_are_what_the_network_says(films, folder, precision, monkeypatch):
    dls = loaders(films, tokenizer=SentenceTokenizer(folder, length=4)) # two words and two marks fill it
    learn = poster_text_learner(dls, hidden=16, precision=precision)
    for dl in dls.loaders:
        enc = learn.encodings(dl)
        rows = dl.new(shuffle=False, drop_last=False, get_idxs=lambda: list(range(len(dl.dataset))))
        encode = lambda *xb: learn.autocast.apply(learn.model.encode, *xb, narrow=learn.autocast.predict) # as it validates and predicts
        with torch.no_grad(): want = [torch.cat(o) for o in zip(*(encode(*b[:2]) for b in rows))]
        for a,b in zip(enc, want):
            assert torch.equal(encoded(a), encoded(b)) # the film without a poster, and the one without a text
            assert torch.allclose(a, b, rtol=1e-2, atol=1e-4*float(b.abs().max())) and (a-b).norm()<1e-2*b.norm()
    assert not encoded(learn.encodings(dls.train)[0])[2] and not encoded(learn.encodings(dls.train)[1])[1]
    no = lambda *a, **k: pytest.fail('computed again')
    again = poster_text_learner(loaders(films, tokenizer=SentenceTokenizer(folder, length=6)), hidden=16, precision=precision)
    again.encodings(again.dls.train)
    monkeypatch.setattr(again.model.poster.body, 'forward', no)
    monkeypatch.setattr('genre_fastai.features.extract._Posters.one', no)
    monkeypatch.setattr('genre_fastai.text.embed._forward', no)
    monkeypatch.setattr(mm, '_pass', no)
    again.encodings(again.dls.train) # a second run costs nothing

@needs_text
def test_the_sentence_encoder_learns_end_to_end(films, folder):
    dls = loaders(films, tokenizer=SentenceTokenizer(folder, length=6))
    torch.manual_seed(0)
    text = SentenceEncoder(folder, pretrained=False)
    model = PosterTextNet(PosterEncoder(convs()), text, 3, hidden=16)
    learn = multimodal_learner(dls, model, precision='fp32')
    was = weights_digest(text),weights_digest(model.poster)
    learn.unfreeze()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(8, slice(5e-3, 2e-2))
    assert weights_digest(text)!=was[0] and weights_digest(model.poster)!=was[1]
    h = learn.run_info.history
    assert h[-1]['train_loss']<.7*h[0]['train_loss']
    with pytest.raises(GenreError, match="freeze_modality\\('poster'\\)"): learn.fit_encodings(1)
    learn.freeze_modality('poster', 'text')
    with learn.no_bar(), learn.no_logging(): learn.fit_encodings(1) # by one pass: these weights are in no cache

@needs_text
def test_a_tuned_encoder_takes_nothing_from_the_cache(films, folder, monkeypatch):
    learn = poster_text_learner(loaders(films, tokenizer=SentenceTokenizer(folder, length=6)), hidden=16, precision='fp32')
    first = learn.encodings(learn.dls.valid)
    learn.unfreeze_modality('text')
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert learn.encodings(learn.dls.valid)[1].dtype==torch.int64 # it learns: its tokens
    learn.freeze_modality('text')
    monkeypatch.setattr(mm, 'embed_texts', lambda *a, **k: pytest.fail('from the cache'))
    poster,text = learn.encodings(learn.dls.valid)
    assert torch.equal(poster, first[0]) and not torch.allclose(text, first[1], atol=1e-3)

def test_rates_are_found_and_strange_rows_refused(films):
    learn = learner(films).freeze_modality('poster')
    with learn.no_bar(), learn.no_logging(): learn.fit_encodings(1, 'find')
    assert len(learn.run_info.history)==1
    other = films[:4].assign(id=[f'other {i}' for i in range(4)])
    with pytest.raises(GenreError, match='other 0'): learn.encodings(learn.dls.test_dl(other))

def test_best_epoch_is_kept_and_patience_ends_it(films, capsys):
    learn = learner(films, 'concat', dropout=0.)
    learn.freeze_modality('poster', 'text')
    with learn.no_bar(), learn.no_logging(): learn.fit_encodings(40, 3., patience=3) # far too fast: it gets worse at once
    losses = [o['valid_loss'] for o in learn.run_info.history]
    best = int(np.argmin(losses))
    assert len(losses)==best+4<40 and learn.run_info.kept.startswith(f'Epoch {best} of')
    with learn.no_bar(), learn.no_logging(): assert learn.validate()[0]==pytest.approx(losses[best], rel=1e-3, abs=1e-3)

@pytest.mark.parametrize('loss', ['bce','asymmetric'])
def test_article2_and_losses_of_several_labels(films, loss):
    dls = loaders(films, True, size=(115,75))
    learn = poster_plot_learner(dls, vectors=None, loss_func=poster_loss(dls, loss=loss), precision='bf16')
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, 1e-3)
    h = learn.run_info.history[-1]
    assert np.isfinite(h['valid_loss']) and {'f1','auc'}<=set(h) and learn.run_info.settings['clip']==5
    for odd in (('0.png','a text'), dict(plot='ghost house')): # nothing of it would be looked at
        with pytest.raises(GenreError, match='A film is told by file and overview'): learn.predict(odd)
    label,mask,probs = learn.predict(dict(overview='ghost house'))
    assert len(mask)==len(probs)==len(dls.vocab) and [v for v,o in zip(dls.vocab, mask) if o]==list(label)

def test_one_film_from_either_alone(films):
    learn = learner(films)
    row = films.df.iloc[3]
    both = learn.predict(row)[2]
    assert torch.allclose(both, torch.tensor(learn.predictions(of(films, False)[3:4]).probs[0]), atol=1e-4)
    text,poster = learn.predict(dict(overview=row['overview']))[2],learn.predict(dict(file=row['file']))[2]
    assert torch.equal(poster, learn.predict(films.path/row['file'])[2])
    assert not torch.allclose(both, text, atol=1e-4) and not torch.allclose(both, poster, atol=1e-4)

def test_words_without_posters_are_refused_for_article2(films):
    with pytest.raises(GenreError, match='posters and words'): poster_plot_learner(loaders(films, modalities='overview'))
