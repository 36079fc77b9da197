"Labels from nothing: simulated people who click, batches of a model, two sessions, and what a stranger's journal may say"
import json, os
import numpy as np, pytest
from PIL import Image
from genre_fastai.catalog.core import Catalog, read_catalog
from genre_fastai.clean.decisions import CleaningSession, replay
from genre_fastai.clean.evaluate import effort, simulate_cleaning, simulated_catalog, true_label_errors
from genre_fastai.clean.label import PosterLabeler, UnlabelledCatalog, label_posters, unlabelled_catalog
from genre_fastai.clean.live import LiveIssues
from genre_fastai.core import GenreError
from genre_fastai.features.extract import Features

def labeler_of(path, n=300, seed=0, **kw):
    cat,feats = simulated_catalog(n, flip=0, seed=seed, **kw)
    blank = UnlabelledCatalog(cat.df[['id','file']], cat.classes, path)
    return PosterLabeler(blank, feats, path/'labels.csv', path/'labels.jsonl'), dict(zip(cat.df['id'], cat.df['true_label'])), feats

def click(labeler, truth, n, each=15):
    for _ in range(n//each):
        for id in labeler.ask(each): labeler.mark(id, truth[id])

def test_what_is_sure_is_right_and_the_rest_stays_open(tmp_path):
    "Over several catalogs, labels that a probe is 90 % sure of are right at least so often, and no row is labelled that nobody is sure of"
    right,n = 0,0
    for seed in range(3):
        (path := tmp_path/str(seed)).mkdir()
        labeler,truth,_ = labeler_of(path, seed=seed, apart=.6)
        click(labeler, truth, 50, 25)
        fill = labeler.propose(.9)
        done = {d['id'] for d in fill.accept()}
        cat = labeler.catalog()
        assert set(cat.ok.df['id'])==done | {o for o,d in labeler.session.decided.items() if d['who']=='person'}
        assert cat.classes==labeler.session.classes and '' not in set(cat.ok.df['label'])
        assert cat.where(status='dropped').df['reason'].str.startswith('no label').all() and len(cat)==300
        right,n = right+sum(truth[o]==l for o,l in zip(fill.df['id'], fill.df['label'])), n+len(fill)
    assert n>200 and right/n>=.9

def test_journal_says_who(tmp_path):
    labeler,truth,_ = labeler_of(tmp_path)
    click(labeler, truth, 30)
    fill = labeler.propose(.8)
    fill.accept()
    lines = [json.loads(o) for o in (tmp_path/'labels.jsonl').read_text().splitlines()[1:]]
    assert [o['who'] for o in lines[:30]]==['person']*30 and {o['who'] for o in lines[30:]}=={f'model {fill.model}'}
    assert len({o['batch'] for o in lines[30:]})==1 and {o['model'] for o in lines[30:]}=={fill.model}
    assert replay(labeler.session.cat, tmp_path/'labels.jsonl').to_csv()==labeler.session.apply().to_csv()

def test_one_undo_from_another_session(tmp_path):
    one,truth,feats = labeler_of(tmp_path)
    click(one, truth, 30)
    one.propose(.8).accept()
    two = PosterLabeler(one.session.cat, feats, tmp_path/'labels.csv', tmp_path/'labels.jsonl')
    assert two.counts==one.counts and two.counts['model']>50
    two.undo()
    assert two.counts['model']==0 and two.counts['person']==30
    assert len(one.catalog().ok)==30 # it reads what the other has done

def test_marked_in_the_meantime(tmp_path):
    "What another session decided after the proposal was made is not written over"
    one,truth,feats = labeler_of(tmp_path)
    click(one, truth, 30)
    fill = one.propose(.8)
    two = PosterLabeler(one.session.cat, feats, tmp_path/'labels.csv', tmp_path/'labels.jsonl')
    id,label = fill.df['id'].iloc[-1], next(o for o in one.session.classes if o!=fill.df['label'].iloc[-1])
    two.mark(id, label)
    assert len(fill.accept())==len(fill)-1
    assert one.session.state(id)['label']==label

def test_people_decide_after_the_model(tmp_path):
    "A label that a model gave can be changed; then it is a person's, and the probe learns from it"
    labeler,truth,_ = labeler_of(tmp_path)
    click(labeler, truth, 30)
    id = labeler.propose(.8).accept()[0]['id']
    labeler.mark(id, truth[id])
    assert labeler.counts['person']==31
    labeler.live.update()
    assert labeler.live.said.labels[labeler.live.at[id]]==truth[id]

def test_labels_that_are_there_are_kept(tmp_path):
    cat,feats = simulated_catalog(200, flip=0, seed=2)
    some = cat.assign(label=cat.df['label'].where(np.arange(200)<40, ''), split='test')
    labeler = label_posters(some, cat.classes, tmp_path/'labels.csv', feats=feats)
    assert labeler.counts==dict(person=0, model=0, deleted=0, left=160)
    assert not set(labeler.ask(200)) & set(some.df['id'][:40])
    fill = labeler.propose(.9)
    assert fill.tried==0 or fill.right<=fill.tried
    fill.accept()
    out = read_catalog(labeler.save())
    assert out.df['label'][:40].tolist()==cat.df['label'][:40].tolist() and len(out.ok)==40+len(fill) and 'split' not in out.df

def test_classes_may_come_but_not_go(tmp_path):
    labeler,truth,feats = labeler_of(tmp_path)
    click(labeler, truth, 10, 10)
    more = UnlabelledCatalog(labeler.session.cat.df, [*labeler.session.classes, 'western'], tmp_path)
    assert PosterLabeler(more, feats, tmp_path/'labels.csv', tmp_path/'labels.jsonl').counts['person']==10
    fewer = UnlabelledCatalog(labeler.session.cat.df, ['opera','western'], tmp_path)
    with pytest.raises(GenreError, match='line 2 is damaged.*There is no label'): CleaningSession(fewer, tmp_path/'labels.jsonl')

def test_odd_things_are_refused(tmp_path):
    labeler,truth,_ = labeler_of(tmp_path)
    with pytest.raises(GenreError, match="no label 'unlabelled'"): labeler.mark('row1', 'unlabelled')
    with pytest.raises(GenreError, match="no label ''"): labeler.mark('row1', '')
    with pytest.raises(GenreError, match='There is no row'): labeler.mark('row9999', 'horror')
    for odd in ('horror', ['horror'], ['horror','horror'], ['horror',''], ['horror','a|b'], ['horror',3]):
        with pytest.raises(GenreError): unlabelled_catalog(Catalog(dict(file=['a.jpg'])), odd)
    with pytest.raises(GenreError, match='several labels'): unlabelled_catalog(Catalog(dict(file=['a.jpg'], labels=['a|b'])), ['a','b'], False)

def test_few_rows(tmp_path):
    "Two posters, one class marked, then both"
    blank = UnlabelledCatalog(dict(id=['a','b'], file=['a.jpg','b.jpg']), ['horror','romance'], tmp_path)
    labeler = PosterLabeler(blank, Features(['a','b'], np.eye(2)), tmp_path/'l.csv', tmp_path/'l.jsonl')
    assert sorted(labeler.ask())==['a','b']
    labeler.mark('a', 'horror')
    with pytest.raises(GenreError, match='learned nothing'): labeler.propose()
    labeler.mark('b', 'romance')
    assert len(labeler.propose(.5))==0 and labeler.ask()==[]

def test_simulated_people(tmp_path):
    "Live or fixed, each row is looked at once, and all errors are found in the end"
    cat,feats = simulated_catalog(150, flip=.15, seed=4)
    wrong = true_label_errors(cat)
    run = simulate_cleaning(cat, LiveIssues(CleaningSession(cat, tmp_path/'j.jsonl'), feats, every=30), wrong)
    assert sorted(run['id'])==sorted(cat.df['id']) and run['found'].iloc[-1]==wrong.sum()
    assert effort(run)['share_85']<.6
    now = replay(cat, tmp_path/'j.jsonl')
    assert (now.df['label']==cat.df['true_label']).all()

def test_cleaner_shows_rows_without_labels(tmp_path):
    labeler,truth,_ = labeler_of(tmp_path, 60)
    say = lambda **m: labeler.widget.answer(m)[0]
    assert say(ask='open')['classes']==labeler.session.classes
    row = say(ask='page')['rows'][0]
    assert row['was']==[] and row['state']['labels']==[]
    assert say(ask='mark', id=row['id'], action='relabel', label=truth[row['id']])['states'][0]['labels']==[truth[row['id']]]
    assert 'no label' in say(ask='mark', id='row1', action='keep')['error']
    assert labeler.counts['person']==1

def test_cleaner_says_how_far_the_labels_are(tmp_path):
    "In place of errors that are left; none of what is said asks to stop, and what the probe suggests stands on the card"
    labeler,truth,_ = labeler_of(tmp_path, 90)
    click(labeler, truth, 30)
    w = labeler.widget
    w._learn(True)
    w._looks.result(20)
    assert w.news['left'] is None and w.news['enough'].startswith('30 of 90 posters are decided.') and not w.news['error']
    id = labeler.live.order()[0]
    fix = w.row(w.at[id])['fix']
    assert fix['label']==labeler.live.opinion(id)['suggested'] and fix['action']=='relabel'

def several_labeler(path, n=240, seed=0):
    "Rows of several labels or none, and what a person would say of each"
    rng,names = np.random.default_rng(seed), ['action','comedy','drama']
    Y = rng.random((n,3))<[.5,.4,.3]
    X = 2*Y@rng.normal(size=(3,24)) + rng.normal(size=(n,24))
    cat = Catalog(dict(id=[f'film{i}' for i in range(n)], file=[f'{i}.jpg' for i in range(n)]), path)
    labeler = label_posters(cat, names, path/'l.csv', feats=Features(cat.df['id'], X), several=True)
    return labeler, {id: [v for v,o in zip(names, y) if o] for id,y in zip(cat.df['id'], Y)}

def test_several_labels_from_nothing(tmp_path):
    "Nothing is proposed before each label is known; then what is sure in every label, mostly rightly; it ends in a catalog of several labels"
    labeler,truth = several_labeler(tmp_path)
    only = [o for o in truth if 'drama' not in truth[o]]
    for id in only[:12]: labeler.mark(id, truth[id])
    with pytest.raises(GenreError, match='too little of drama'): labeler.propose()
    assert 'too little of drama' in labeler.live.progress and labeler.live.said.probs[:,2].tolist()==[.5]*240
    click(labeler, truth, 80, 20)
    fill = labeler.propose(.9)
    live,at = labeler.live, labeler.live.at
    p = live.said.probs[[at[o] for o in fill.df['id']]]
    assert len(fill)>20 and ((p>=.9) | (p<=.1)).all() and (p>=.9).any(1).all()
    assert np.mean([{*l.split('|')}=={*truth[o]} for o,l in zip(fill.df['id'], fill.df['labels'])])>=.8
    asked = labeler.ask(5, 'comedy')
    assert max(abs(live.said.probs[at[o]][1]-.5) for o in asked) <= min(abs(live.said.probs[at[o]][1]-.5) for o in live.order() if o not in asked)
    fill.accept()
    out = read_catalog(labeler.save())
    none = [o for o,d in labeler.session.decided.items() if d['after']=='']
    assert none and set(out.df['reason'][out.df['id'].isin(none)])=={'none of the classes'}
    assert out.multi and out.classes==['action','comedy','drama'] and len(out.ok)==labeler.counts['person']+len(fill)-len(none)
    assert set(out.ok.df['labelled_by'])=={'person', f'model {fill.model}'}
    labeler.undo()
    assert labeler.counts['model']==0

def test_several_labels_in_the_cleaner(tmp_path):
    "A key switches a label on, the card says what is in question, and words fit rows that had no label"
    labeler,truth = several_labeler(tmp_path, 60)
    click(labeler, truth, 30, 30)
    w = labeler.widget
    w._learn(True)
    w._looks.result(20)
    opened = w.answer(dict(ask='open'))[0]
    assert opened['multi'] and opened['labelling']
    rows = [w.row(w.at[o]) for o in labeler.live.order()]
    assert any(r['why'].startswith('is it ') for r in rows) and not any('errors' in r['why'] for r in rows)
    for label in ('comedy','drama'): said = w.answer(dict(ask='mark', id=rows[0]['id'], action='add_label', label=label))[0]
    assert said['states'][0]['labels']==['comedy','drama'] and labeler.session.decision(rows[0]['id'])['before']=='comedy'

def test_only_what_is_sure_is_offered_as_alike(tmp_path):
    labeler,truth,_ = labeler_of(tmp_path, 90)
    click(labeler, truth, 15)
    labeler.live.update()
    for id in list(labeler.session.decided): assert all(labeler.live.opinion(o)['prob']>=.7 for o in labeler.live.alike(id))

# ---- what is there is not written over
def test_labels_go_over_nothing_else(tmp_path):
    "The source, a table of one's own, the journal, a link to one of them, or labels whose journal is elsewhere"
    one,_,feats = labeler_of(tmp_path)
    own = tmp_path/'own.csv'
    one.session.cat.df[['id','file','label']].to_csv(own, index=False)
    (tmp_path/'link.csv').symlink_to(own)
    os.link(own, tmp_path/'hard.csv')
    one.save()
    assert label_posters(one.session.cat, one.session.classes, one.path, feats=feats).counts['left']==300 # nothing was marked
    one.mark('row1', one.session.classes[0])
    one.save()
    (tmp_path/'labels.jsonl').rename(tmp_path/'moved.jsonl')
    there = {p: p.read_bytes() for p in tmp_path.glob('*.csv')}
    for files,path,journal in [(own,'own.csv',None), (str(own),'link.csv',None), (own,'hard.csv',None), (own,'new.csv',own), (own,'new.csv','new.csv'),
            (one.session.cat,'own.csv',None), (own,'labels.csv',None), (own,'labels.csv','none.jsonl')]:
        with pytest.raises(GenreError, match='another name'):
            label_posters(files, one.session.classes, tmp_path/path, journal and tmp_path/journal, feats=feats)
    assert {p: p.read_bytes() for p in tmp_path.glob('*.csv')}==there and not (tmp_path/'none.jsonl').exists()
    again = label_posters(own, one.session.classes, tmp_path/'new.csv', feats=feats)
    again.mark(again.session.cat.df['id'][0], one.session.classes[0])
    again.save()
    assert label_posters(own, one.session.classes, tmp_path/'new.csv', feats=feats).counts['person']==1
    assert label_posters(own, one.session.classes, again.save(), feats=feats).counts['person']==1
    assert own.read_bytes()==there[own]

def test_posters_come_and_go(tmp_path):
    "The next day a poster is new, one is gone, one is broken, and one is another picture: the other marks hold"
    rng,d = np.random.default_rng(0), tmp_path/'p'
    d.mkdir()
    draw = lambda i: Image.fromarray(rng.integers(0, 255, (40,30,3), np.uint8)).save(d/f'{i}.png')
    for i in range(9): draw(i)
    feats = lambda: Features(ids := unlabelled_catalog(d, ['a','b']).df['id'], rng.normal(size=(len(ids),4)))
    first = label_posters(d, ['a','b'], tmp_path/'l.csv', feats=feats())
    file = dict(zip(first.session.cat.df['file'], first.session.cat.df['id']))
    for i in range(8): first.mark(file[f'{i}.png'], 'ab'[i%2])
    draw(9), draw(1)
    (d/'0.png').unlink()
    have = (whole := feats()).of(unlabelled_catalog(d, ['a','b'])[[f!='2.png' for f in unlabelled_catalog(d, ['a','b']).df['file']]])
    with pytest.warns(UserWarning, match='3 decisions were left out'): second = label_posters(d, ['a','b'], tmp_path/'l.csv', feats=have)
    assert second.counts['person']==5 and len(second.session.cat)==9 and len(whole)==9
    second.mark(file['1.png'], 'a')
    assert second.counts['person']==6 and second.undo()['id']==file['1.png']
