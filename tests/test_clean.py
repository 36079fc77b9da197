"The journal under kills, two writers and damage, and replay by properties"
import json, os, random, re, signal, subprocess, sys, time, warnings
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from genre_fastai.clean.decisions import *
from genre_fastai.catalog.core import Catalog
from genre_fastai.core import GenreError

def catalog(path, n=40, multi=False):
    rng = np.random.default_rng(0)
    names = ['horror','romance','superhero']
    if multi: labels = dict(labels=['|'.join(sorted(rng.choice(names, 2, False))) for _ in range(n)])
    else: labels = dict(label=[names[i%3] for i in range(n)])
    split = ['test' if i%5==0 else 'train' for i in range(n)]
    return Catalog(dict(id=[f'row{i}' for i in range(n)], file=[f'{i}.jpg' for i in range(n)], split=split, **labels), path)

def act(sess, kind, i, label):
    a,b = f'row{i}', f'row{(i+1)%40}'
    if kind in ('undo','redo'): return getattr(sess, kind)()
    if kind in ('keep','delete'): return getattr(sess, kind)(a)
    return getattr(sess, kind)(a, b if kind=='copy_of' else label)

labels = st.sampled_from(['horror','romance','superhero'])
one_step = st.tuples(st.sampled_from([*actions, 'undo', 'undo', 'redo']), st.integers(0, 39), labels, st.booleans())

@settings(max_examples=25, deadline=None)
@given(st.lists(one_step, max_size=20), st.booleans())
def test_replay_gives_the_same_bytes(tmp_path_factory, steps, multi):
    "Whatever was done, by two sessions in turn: replay, either session and a new one agree, and undoing everything gives the raw labels"
    path = tmp_path_factory.mktemp('j')
    cat = catalog(path, multi=multi)
    before = cat.to_csv()
    two = [CleaningSession(cat, path/'j.jsonl'), CleaningSession(cat, path/'j.jsonl', who='other')]
    for kind,i,label,which in steps:
        try: act(two[which], kind, i, label)
        except GenreError: assert i%5==0 or kind in ('add_label','remove_label')
    csvs = {s.refresh().apply().to_csv() for s in two} | {CleaningSession(cat, path/'j.jsonl').apply().to_csv()}
    if (path/'j.jsonl').exists(): csvs.add(replay(cat, path/'j.jsonl').to_csv())
    assert len(csvs)==1
    now = two[0].apply().df
    for i in range(40): assert two[0].state(f'row{i}')['status']==now['status'][i]
    while two[0].undo(): pass
    assert Catalog(two[0].apply().df.drop(columns='reason')).to_csv()==before==cat.to_csv()

_writer = '''
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_clean import catalog
from genre_fastai.clean.decisions import CleaningSession
path,who = Path(sys.argv[1]), sys.argv[2]
sess = CleaningSession(catalog(path), path/'j.jsonl', who=who)
print('ready', flush=True)
n = 0
while n<int(sys.argv[3]):
    n += 1
    sess.relabel(f'row{{1+n%4}}', ['horror','romance','superhero'][n%3])
    print(n, flush=True)
'''
def writer(path, who, n):
    code = _writer.format(tests=os.path.dirname(__file__))
    return subprocess.Popen([sys.executable, '-c', code, str(path), who, str(n)], stdout=subprocess.PIPE, text=True)

def test_two_processes_lose_no_line(tmp_path):
    procs = [writer(tmp_path, w, 40) for w in 'ab']
    assert [p.wait(60) for p in procs]==[0,0]
    sess = CleaningSession(catalog(tmp_path), tmp_path/'j.jsonl')
    assert [sum(d['who']==w for d in sess.log.done) for w in 'ab']==[40,40]
    assert [d['n'] for d in sess.log.done]==list(range(1, 81))

def test_killed_writer_loses_nothing_that_it_reported(tmp_path):
    p = writer(tmp_path, 'a', 10**6)
    for line in p.stdout:
        if line.strip()=='30': break
    os.kill(p.pid, signal.SIGKILL)
    reported = max([30, *[int(o) for o in p.stdout.read().split() if o.isdigit()]])
    p.wait()
    sess = CleaningSession(catalog(tmp_path), tmp_path/'j.jsonl')
    assert len(sess.log.done)>=reported
    sess.delete('row1')
    assert replay(sess.cat, tmp_path/'j.jsonl').to_csv()==sess.apply().to_csv()

def test_a_cut_last_line_is_repaired(tmp_path):
    cat = catalog(tmp_path)
    sess = CleaningSession(cat, tmp_path/'j.jsonl')
    sess.delete('row1')
    sess.relabel('row2', 'horror', 'é')
    data = (tmp_path/'j.jsonl').read_bytes()
    start,end,half = data.rindex(b'\n', 0, -1)+1, len(data), data.rindex('é'.encode())+1 # half a letter
    for cut in {*range(start, start+6), *range(start, end, 9), half, *range(end-6, end)}:
        j = tmp_path/'cut.jsonl'
        j.write_bytes(data[:cut])
        again = CleaningSession(cat, j)
        whole = cut==len(data)-1 # only the end of line is missing
        assert len(again.log.done)==1+whole
        again.keep('row3')
        assert len(CleaningSession(cat, j).log.done)==2+whole

@pytest.mark.parametrize('line', [b'{', b'[]', b'"x"', b'{"n":1}', b'\xff\xfe', b'null'])
def test_damage_before_the_end_names_its_line(tmp_path, line):
    cat = catalog(tmp_path)
    sess = CleaningSession(cat, tmp_path/'j.jsonl')
    for i in (1,2,3): sess.delete(f'row{i}')
    lines = (tmp_path/'j.jsonl').read_bytes().split(b'\n')
    lines[2] = line
    (tmp_path/'j.jsonl').write_bytes(b'\n'.join(lines))
    with pytest.raises(GenreError, match='line 3 is damaged'): replay(cat, tmp_path/'j.jsonl')

def test_another_catalog_is_refused(tmp_path):
    cat = catalog(tmp_path)
    CleaningSession(cat, tmp_path/'j.jsonl').delete('row1')
    other = cat.assign(label='horror')
    with pytest.raises(GenreError, match='another catalog'): CleaningSession(other, tmp_path/'j.jsonl')
    with pytest.warns(UserWarning, match='left out'): assert len(replay(other, tmp_path/'j.jsonl', force=True).ok)==40

def test_ten_thousand_rows_stay_quick(tmp_path):
    n = 10_000
    cat = Catalog(dict(id=[f'row{i}' for i in range(n)], file=[f'{i}.jpg' for i in range(n)], label=['horror','romance']*(n//2)), tmp_path)
    sess = CleaningSession(cat, tmp_path/'j.jsonl')
    start = time.perf_counter()
    for i in range(50): sess.relabel(f'row{i}', 'horror')
    assert (time.perf_counter()-start)/50 < .1

def test_of_two_copies_one_stays(tmp_path):
    cat = Catalog(dict(id=['a','b','c'], file=[f'{i}.jpg' for i in range(3)], label='horror'), tmp_path)
    sess = CleaningSession(cat, tmp_path/'j.jsonl')
    sess.copy_of('a', 'b')
    sess.copy_of('b', 'c')
    for id,o in (('b','a'), ('c','a')):
        with pytest.raises(GenreError, match='both would be gone'): sess.copy_of(id, o)
    assert sess.apply().df['status'].tolist()==['dropped','dropped','ok']
    sess.keep('a')
    sess.copy_of('c', 'a')
    assert sess.apply().df['status'].tolist()==['ok','dropped','dropped']

def test_a_journal_that_was_written_by_hand(tmp_path):
    cat = Catalog(dict(id=['a'], file=['0.jpg'], label='horror'), tmp_path)
    CleaningSession(cat, tmp_path/'j.jsonl').delete('a')
    text = (tmp_path/'j.jsonl').read_text()
    odd = [('"file": "0.jpg"', '"file": ["0.jpg"]', 'not all texts'),
           ('"id": "a"', '"id": 7', 'not all texts'), ('"n": 1', '"n": "1"', 'n is no number')]
    for old,new,why in odd:
        (tmp_path/'j.jsonl').write_text(text.replace(old, new))
        assert text!=(tmp_path/'j.jsonl').read_text()
        with pytest.raises(GenreError, match=why): replay(cat, tmp_path/'j.jsonl')

def test_a_journal_of_format_1_is_refused(tmp_path):
    "It names rows by file; nobody can say which rows those are today"
    cat = Catalog(dict(file=['0.jpg'], label='horror'), tmp_path)
    head = dict(journal=1, catalog=cat.hash, rows=1, when='2026-11-01T00:00:00Z')
    line = dict(id=1, session='s', file='0.jpg', action='delete', before='horror', after='', who='person', why='', when=head['when'])
    (tmp_path/'j.jsonl').write_text(json.dumps(head)+'\n'+json.dumps(line)+'\n')
    before = (tmp_path/'j.jsonl').read_bytes()
    j = tmp_path/'j.jsonl'
    for f in (lambda: CleaningSession(cat, j), lambda: replay(cat, j), lambda: replay(cat, j, force=True)):
        with pytest.raises(GenreError, match='a journal of format 1, and this version reads format 2'): f()
    assert (tmp_path/'j.jsonl').read_bytes()==before

def test_two_rows_of_one_file_are_two_rows(tmp_path):
    "A poster that stands under two labels is decided on row by row"
    cat = Catalog(dict(file=['0.jpg','0.jpg'], label=['horror','romance']), tmp_path)
    first,second = cat.df['id']
    sess = CleaningSession(cat, tmp_path/'j.jsonl')
    sess.copy_of(second, first)
    assert sess.apply().df['status'].tolist()==['ok','dropped'] and sess.counts['copy_of']==1

def test_messages_name_file_and_id(tmp_path):
    cat = catalog(tmp_path)
    sess = CleaningSession(cat, tmp_path/'j.jsonl')
    with pytest.raises(GenreError, match=r'5.jpg \(id row5\) is a test row'): sess.keep('row5')
    with pytest.raises(GenreError, match="that of this file is 'row6'"): sess.keep('6.jpg')
    sess.delete('row6')
    again = [dict(id='row6', action='keep', before='')]
    with pytest.raises(GenreError, match=r'Decision 1: 6.jpg \(id row6\) does not take part already'): apply_decisions(sess.apply(), again)

# ---- rules decide anew
by_rule = st.tuples(st.sampled_from([o for o in actions if o!='copy_of']), st.integers(0, 39), labels, st.booleans())

def mixed(sess, steps):
    "Decisions of a person and of a rule in turn; what the person's last one left of each row"
    told = dict(model='m', why='looked at it')
    for kind,i,label,rule in steps:
        d = dict(id=f'row{i}', action=kind, after=label) | (dict(who='rule x') if rule else told)
        try: sess.decide([d])
        except GenreError: assert i%5==0 or kind in ('add_label','remove_label')
    return {d['id']: (d['action'], d['after'], d['why'], d['model'], d['when']) for d in sess.log.done if by_person(d)}

@settings(max_examples=15, deadline=None)
@given(st.lists(by_rule, max_size=16), st.booleans())
def test_rules_go_and_persons_stay(tmp_path_factory, steps, multi):
    path = tmp_path_factory.mktemp('r')
    sess = CleaningSession(catalog(path, multi=multi), path/'j.jsonl')
    mine,start = mixed(sess, steps), (path/'j.jsonl').read_bytes() if steps else b''
    sess.undo_rules()
    again = CleaningSession(sess.cat, path/'j.jsonl')
    assert {d['id']: (d['action'], d['after'], d['why'], d['model'], d['when']) for d in again.log.done}==mine=={
        k: (d['action'], d['after'], d['why'], d['model'], d['when']) for k,d in sess.decided.items()}
    assert not steps or (path/'j.jsonl').read_bytes().startswith(start) # nothing is ever erased
    assert again.apply().to_csv()==sess.apply().to_csv()
    assert not sess.undo_rules()

def rules_over_persons(path, n=30):
    sess = CleaningSession(catalog(path), path/'j.jsonl')
    sess.decide([dict(id='row1', action='delete', who='rule drop')])
    sess.decide_many([dict(id=f'row{i}', action='relabel', after='superhero') for i in range(2, n) if i%5])
    sess.relabel('row1', 'superhero')
    return sess, {k:d for k,d in sess.decided.items() if by_person(d)}

@pytest.mark.parametrize('at', ['os.fsync', 'os.replace', 'shutil.copymode', 'genre_fastai.clean.decisions.apply_decisions',
    'genre_fastai.clean.decisions._write_whole', 'genre_fastai.clean.decisions._now'])
def test_stopped_while_rules_are_taken_back(tmp_path, monkeypatch, at):
    "Ctrl-C or a full disk at any point: the journal is as it was, or as it should be"
    sess,mine = rules_over_persons(tmp_path)
    data = (tmp_path/'j.jsonl').read_bytes()
    for e in (KeyboardInterrupt, OSError):
        with monkeypatch.context() as m:
            m.setattr(at, lambda *a, **kw: (_ for _ in ()).throw(e()))
            with pytest.raises(e): CleaningSession(sess.cat, tmp_path/'j.jsonl').undo_rules()
        assert (tmp_path/'j.jsonl').read_bytes()==data and [o.name for o in tmp_path.glob('*.tmp')]==[]
    sess.undo_rules()
    assert {k: d['after'] for k,d in sess.decided.items()}=={k: d['after'] for k,d in mine.items()}
    assert len(mine)==len(sess.decided) and len({d.get('batch') for d in sess.log.done})==2
    sess.undo(), sess.undo() # the one, and the batch
    assert not sess.decided

def test_killed_while_rules_are_taken_back(tmp_path):
    "SIGKILL between any two steps of the file system"
    sess,mine = rules_over_persons(tmp_path)
    code = f'''
import os, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from pathlib import Path
from test_clean import catalog
from genre_fastai.clean.decisions import CleaningSession
sess = CleaningSession(catalog(Path(sys.argv[1])), Path(sys.argv[1])/'j.jsonl')
for at in (0, 1):
    if not os.fork():
        f = os.replace
        def stop(*a): at and f(*a); os.kill(os.getpid(), signal.SIGKILL)
        os.replace = stop
        sess.undo_rules()
    os.wait()
    print({{k: d['after'] for k,d in CleaningSession(sess.cat, sess.journal).decided.items() if d['who']=='person'}}
        =={ {k: d['after'] for k,d in mine.items()} !r}, flush=True)
'''
    assert subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True).stdout.split()==['True']*2
    assert sess.refresh().undo_rules()==[]

def test_a_journal_keeps_its_name_and_mode(tmp_path):
    sess,_ = rules_over_persons(tmp_path)
    (tmp_path/'j.jsonl').chmod(0o664)
    (tmp_path/'link.jsonl').symlink_to(tmp_path/'j.jsonl')
    assert len(CleaningSession(sess.cat, tmp_path/'link.jsonl').undo_rules())==1
    assert (tmp_path/'link.jsonl').is_symlink() and (tmp_path/'j.jsonl').stat().st_mode&0o777==0o664
    assert sess.refresh().undo_rules()==[]

def test_a_person_marks_while_rules_decide(tmp_path):
    "What was marked after the rules looked is not overruled"
    sess = CleaningSession(catalog(tmp_path), tmp_path/'j.jsonl')
    CleaningSession(sess.cat, tmp_path/'j.jsonl').keep('row1')
    assert sess.decide([dict(id=f'row{i}', action='delete', who='rule drop') for i in (1,2)], rest=True)[0]['id']=='row2'
    assert sess.state('row1')['action']=='keep'

def seen(path, n=12):
    "A catalog that knows its pictures"
    return Catalog(dict(id=[f'row{i}' for i in range(n)], file=[f'{i}.jpg' for i in range(n)], label=['horror','romance']*(n//2), split='train',
        sha256=[f'{i:064x}' for i in range(n)]), path)

def test_other_pictures_under_the_same_names(tmp_path):
    "Ids, labels and splits are the same, so only the pictures' sha256 tell; a copy is one of two pictures"
    cat,j = seen(tmp_path), tmp_path/'j.jsonl'
    sess = CleaningSession(cat, j)
    for i in range(3): sess.delete(f'row{i}')
    sess.copy_of('row4', 'row5')
    lines = j.read_text()
    new = cat.assign(sha256=[f'{i+90 if i in (0,1,5) else i:064x}' for i in range(12)])
    assert new.hash==cat.hash
    for f in (replay, lambda *a: CleaningSession(*a).apply(), lambda *a: replay(*a, force=True)):
        with pytest.warns(UserWarning, match=r'3 decisions were left out, the first because: 0.jpg \(id row0\) is another picture'): out = f(new, j)
        assert out.df['status'].tolist()==['ok','ok','dropped']+['ok']*9
    assert j.read_text()==lines and replay(cat, j).df['status'].tolist().count('dropped')==4
    for bare in (cat.new(cat.df.drop(columns='sha256')), cat.assign(sha256='')): assert len(replay(bare, j).ok)==8 # nobody can tell
    j.write_text(re.sub(r'"(other_)?sha256": "\w+",? ?', '', lines).replace(', }', '}')) # a journal of before
    assert 'sha256' not in j.read_text() and len(replay(new, j).ok)==8

@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11), st.sampled_from(['delete','relabel','keep','undo','redo'])), max_size=20))
def test_a_catalog_that_comes_and_goes(tmp_path_factory, steps):
    "Sessions of a sorted, a smaller and a larger catalog write into one journal; each reads all of it, and what fits holds"
    path = tmp_path_factory.mktemp('j')
    whole = seen(path)
    cats = whole, whole[np.r_[11:5:-1,0:5]], whole[:9]
    for c in cats: CleaningSession(c, path/'j.jsonl').keep('row0')
    for which,i,action in steps:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            sess = CleaningSession(cats[which], path/'j.jsonl')
            if action in ('undo','redo'): getattr(sess, action)()
            elif f'row{i}' in sess.at: sess.decide([dict(id=f'row{i}', action=action, **(dict(after='horror') if action=='relabel' else {}))])
            states = [CleaningSession(c, path/'j.jsonl').decided for c in cats]
            for c,s in zip(cats, states):
                assert s=={k:d for k,d in states[0].items() if k in set(c.df['id'])}
                assert sorted(replay(c, path/'j.jsonl').where(status='dropped').df['id'])==sorted(k for k,d in s.items() if d['action']=='delete')

def test_rows_come_and_go_and_another_catalog_is_refused(tmp_path):
    cat,j = seen(tmp_path), tmp_path/'j.jsonl'
    sess = CleaningSession(cat, j)
    for i in range(5): sess.delete(f'row{i}')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(replay(cat[::-1], j).ok)==7 # sorted otherwise
    with pytest.warns(UserWarning, match="2 decisions were left out, the first because: There is no row 'row0'"): less = CleaningSession(cat[2:], j)
    with pytest.raises(GenreError, match='belongs to another catalog.*3 of 5 decisions do not fit'): CleaningSession(cat[3:], j)
    less.keep('row7')
    with warnings.catch_warnings(record=True): assert CleaningSession(cat[2:], j).undo()['id']=='row7'
    assert len(replay(cat, j).ok)==7 and sum('also' in json.loads(o) for o in j.read_text().splitlines())==1
