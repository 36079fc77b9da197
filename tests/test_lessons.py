"Lessons: their frame, their clean twins, and exercises that can be solved (nbs/lessons/solutions solves them, and runs with all notebooks)"
import importlib, re, sys
from pathlib import Path
import pytest, nbformat

root = Path(__file__).resolve().parent.parent
lessons = sorted((root/'nbs/lessons').glob('[0-9]*.ipynb'))
bonus = sorted(set((root/'nbs/lessons').glob('*.ipynb'))-set(lessons))
solutions = root/'nbs/lessons/solutions'
sys.path.insert(0, str(root/'tools'))
ids = dict(ids=lambda p: p.stem)

def cells(p, kind): return [c.source for c in nbformat.read(p, as_version=4).cells if c.cell_type==kind]
def code(p): return '\n'.join(cells(p, 'code'))
def section(prose, name): return re.split(r'^## ', prose.split(f'\n## {name}\n')[1], maxsplit=1, flags=re.M)[0]

def test_clean_twins_are_in_step():
    import clean_twins
    assert clean_twins.in_step(), 'nbs/lessons/clean is not what the lessons give: run `python tools/clean_twins.py`'
    assert (root/'nbs/lessons/clean/.notest').is_file()

@pytest.mark.parametrize('p', lessons, **ids)
def test_frame(p):
    prose,code = '\n'.join(cells(p, 'markdown')), cells(p, 'code')
    assert re.match(rf'# Lesson {int(p.stem[:2])}: .+\n\n> .+', prose)
    for part in ('You will be able to', '**Time**', '## Recap', '**New names in this lesson**: ', '## Exercises', '## Where to go next', f'/nbs/lessons/{p.name})', f'](solutions/{p.name})'):
        assert part in prose, part
    assert code[0].startswith('#| hide') and "'google.colab' in sys.modules" in code[0]
    assert all(len(c.strip().splitlines())<=12 for c in code), 'a few lines a cell'

@pytest.mark.parametrize('p', lessons, **ids)
def test_questions_and_ideas(p):
    prose = '\n'.join(cells(p, 'markdown'))
    asked = [int(o) for o in re.findall(r"^(\d+)\. \S", section(prose, "Questions"), re.M)]
    assert 8<=len(asked)<=12 and asked==list(range(1, len(asked)+1)), asked
    assert len(re.findall(r'^- \S', section(prose, 'Further research'), re.M))==2

@pytest.mark.parametrize('p', bonus, **ids)
def test_frame_of_a_bonus(p):
    prose,code = '\n'.join(cells(p, 'markdown')), cells(p, 'code')
    assert re.match(r'# .+\n\n> .+', prose) and f'/nbs/lessons/{p.name})' in prose
    assert code[0].startswith('#| hide') and "'google.colab' in sys.modules" in code[0]

@pytest.mark.parametrize('p', lessons, **ids)
def test_lessons_define_nothing_to_copy(p):
    assert not [c for c in cells(p, 'code') if re.search(r'^(def|class) |^#\|\s*export', c, re.M)]

@pytest.fixture(scope='module')
def checks():
    "Of the pages of all lessons"
    for p in sorted((root/'genre_fastai/course').glob('exercises_*.py')): importlib.import_module(f'genre_fastai.course.{p.stem}')
    from genre_fastai.course.exercises import checks
    return checks

@pytest.mark.parametrize('p', lessons, **ids)
def test_every_exercise_has_a_check_and_a_solution(p, checks):
    asked = re.findall(r"check\('([\d.]+)'", code(p))
    assert asked and asked==[k for k in sorted(checks) if k.startswith(f'{int(p.stem[:2])}.')]
    solved = re.findall(r"assert check\('([\d.]+)'", code(solutions/p.name))
    assert list(dict.fromkeys(solved))==asked, 'each exercise is solved in nbs/lessons/solutions, in its order'

def test_solutions_are_run_and_have_lessons():
    assert not (solutions/'.notest').exists() and {p.name for p in solutions.glob('*.ipynb')}<={p.name for p in lessons}

def test_the_whole_game_leads_to_every_lesson():
    prose = '\n'.join(cells(lessons[0], 'markdown'))
    assert lessons[0].stem=='00_whole_game' and all(f'({p.name})' in prose for p in [*lessons[1:], *bonus])

@pytest.mark.parametrize('p', [*lessons, *bonus], **ids)
def test_pictures_are_there(p):
    for name in re.findall(r'!\[[^]]*\]\((?!https?:)([^)]+)\)', '\n'.join(cells(p, 'markdown'))): assert (p.parent/name).is_file(), name

def test_drawings_are_what_the_code_draws():
    import ideas
    for name,draw in ideas.drawings.items():
        assert (root/f'nbs/lessons/images/{name}.svg').read_text(encoding='utf-8')==draw(), f'{name}.svg: run `python tools/pictures.py ideas`'
        assert any(f'](images/{name}.svg)' in '\n'.join(cells(p, 'markdown')) for p in lessons), name
