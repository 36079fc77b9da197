"Runs one kind of input until its time is over; the smallest input of each failure is kept in a file, which the tests then repeat"
import argparse, hashlib, resource, sys, time, traceback, warnings
from pathlib import Path
from hypothesis import HealthCheck, Phase, given, seed, settings

found = Path(__file__).parent/'found'

class TooMuch(Exception): "An input that took more time or memory than its size allows"

def rss(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

def limited(check, data, seconds=5, megabytes=400):
    "Run a check, and fail where it takes too much of this machine"
    t,m = time.process_time(),rss()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        check(data)
    t,m = time.process_time()-t, rss()-m
    if t>seconds: raise TooMuch(f'{t:.1f} s of CPU for {len(data):,} bytes')
    if m>megabytes: raise TooMuch(f'{m:.0f} MB of memory for {len(data):,} bytes')

def keep(kind, data):
    "Keep an input that failed"
    p = found/kind/hashlib.sha256(data).hexdigest()[:16]
    p.parent.mkdir(parents=True, exist_ok=True)
    p.write_bytes(data)
    return p

def place(e):
    "Where an error came from: two failures of one place are one"
    where = traceback.extract_tb(e.__traceback__)[-1]
    return type(e).__name__, Path(where.filename).name, where.lineno

def examples(target, n, number, known=()):
    "A test of `n` inputs of one seed, and the list of those that failed; the last one is as small as it could be made"
    last = []
    @seed(number)
    @settings(max_examples=n, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False)
    @given(target.inputs())
    def run(data):
        try: limited(target.check, data)
        except Exception as e:
            if place(e) in known: return
            last.append((data, e))
            raise
    return run,last

def fuzz(kind, target, seconds, start=0):
    "Seed after seed until the time is over: the places of the failures that came, each with the file of its input"
    end,number,n,bad = time.time()+seconds, start, 0, {}
    while time.time()<end:
        run,last = examples(target, 200, number, bad)
        try: run()
        except Exception:
            data,e = last[-1]
            bad[place(e)] = p = keep(kind, data)
            print(f'{kind}, seed {number}: {": ".join(map(str, place(e)))}: {str(e)[:200]}; kept in {p.relative_to(found.parent)}', flush=True)
        number,n = number+1, n+200
    print(f'{kind}: seeds {start} to {number-1}, about {n:,} inputs in {seconds} s, {len(bad)} failures', flush=True)
    return bad

def main():
    from . import targets
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('kinds', nargs='*', help=f'Which of {", ".join(targets.kinds)}; all if none is given')
    p.add_argument('--seconds', type=int, default=600, help='For each kind')
    p.add_argument('--seed', type=int, default=0, help='The first seed; the same seed gives the same inputs')
    a = p.parse_args()
    bad = [b for k in a.kinds or targets.kinds for b in fuzz(k, targets.kinds[k], a.seconds, a.seed)]
    sys.exit(bool(bad))
