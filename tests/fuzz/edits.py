"Bytes that are changed here and there: what hypothesis draws is small, so that it can make a failure smaller"
from hypothesis import strategies as st

odd_ints = [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff]

def _int(n): return n.to_bytes(4, 'big'), n.to_bytes(4, 'little'), (n&0xffff).to_bytes(2, 'big'), (n&0xffff).to_bytes(2, 'little'), bytes([n&0xff])

edits = st.tuples(st.sampled_from('flip set cut insert repeat truncate int'.split()), st.floats(0, 1, exclude_max=True), st.integers(1, 64), st.integers(0, 255))

def edit(data, op, extra=()):
    "One change: what, where (0 to 1), how many bytes, and a number for it"
    what,at,n,v = op
    i = int(at*len(data))
    if what=='flip': return data[:i] + bytes(b^(1<<v%8) for b in data[i:i+1]) + data[i+1:]
    if what=='set': return data[:i] + bytes([v])*min(n, len(data)-i) + data[i+n:]
    if what=='cut': return data[:i] + data[i+n:]
    if what=='repeat': return data[:i] + data[i:i+n]*(v+1) + data[i+n:]
    if what=='truncate': return data[:i]
    new = _int(odd_ints[v%len(odd_ints)])[n%5] if what=='int' else (extra[v%len(extra)] if extra else bytes([v])*n)
    return data[:i] + new + data[i+(len(new) if what=='int' else 0):]

def changed(bases, extra=(), most=6):
    "One of some valid inputs, with a few changes"
    def make(base, ops):
        for op in ops: base = edit(base, op, extra)
        return base[:1<<20]
    return st.builds(make, st.sampled_from(bases), st.lists(edits, max_size=most))
