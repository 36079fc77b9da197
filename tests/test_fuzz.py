"Every input that ever failed, and some new ones of a fixed seed; `make fuzz` makes them by the million"
import pytest
from fuzz.runner import examples, found, limited
from fuzz.targets import kinds, needs

@pytest.mark.parametrize('path', sorted(found.glob('*/*')), ids=lambda p: f'{p.parent.name}-{p.name}')
def test_failed_once(path):
    for o in needs.get(path.parent.name, ()): pytest.importorskip(o)
    kinds[path.parent.name].inputs() # what is made once is not counted
    limited(kinds[path.parent.name].check, path.read_bytes())

@pytest.mark.parametrize('kind', kinds)
def test_seeded_inputs(kind):
    for o in needs.get(kind, ()): pytest.importorskip(o)
    examples(kinds[kind], 40, number=1)[0]()
