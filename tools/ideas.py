"The drawings of ideas in the lessons, as small SVG files: `python tools/pictures.py ideas`"
from pathlib import Path
from xml.sax.saxutils import escape

dest = Path(__file__).resolve().parent.parent/'nbs/lessons/images'
# Each drawing brings its own light ground, so that it reads the same on a dark page. 480 wide and letters of 15: readable at 390 pixels too.
width,ink,soft = 480,'#1f2937','#6b7280'
blue,orange,grey,green,red = ('#dbeafe','#2563eb'), ('#ffedd5','#ea580c'), ('#e5e7eb','#9ca3af'), ('#dcfce7','#16a34a'), ('#fee2e2','#dc2626')
films = ('#7c3aed','#e11d48'), ('#0891b2','#facc15'), ('#15803d','#fb923c')

def text(x, y, s, size=15, anchor='middle', fill=ink, bold=False):
    weight = ' font-weight="bold"' if bold else ''
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"{weight}>{escape(s)}</text>'

def box(x, y, w, h, colours, s='', size=15, dash=False):
    "A box with a word in each of its lines"
    (fill,line),dashes = colours, ' stroke-dasharray="5 4"' if dash else ''
    lines,mid = s.split('\n') if s else [], y+h/2+size*.35
    at = [mid+(i-(len(lines)-1)/2)*(size+3) for i in range(len(lines))]
    return (f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="{line}" stroke-width="1.5"{dashes}/>'
        + ''.join(text(x+w/2, round(a, 1), o, size) for a,o in zip(at, lines)))

def arrow(x1, y1, x2, y2, colour=soft, w=2):
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="{w}" marker-end="url(#{colour[1:]})"/>'

def poster(x, y, film, kind=0, h=48, seen=False):
    "A small poster of a film: the colours are the film's, the motif is this poster's own; with `seen` it has a red frame"
    (a,b),w = film,round(h*2/3)
    motif = (f'<circle cx="{x+w/2}" cy="{y+h*.38}" r="{w*.26}" fill="{b}"/>', f'<path d="M{x+w*.2} {y+h*.6} L{x+w/2} {y+h*.15} L{x+w*.8} {y+h*.6} Z" fill="{b}"/>',
        f'<rect x="{x+w*.22}" y="{y+h*.18}" width="{w*.56}" height="{h*.36}" fill="{b}"/>')[kind]
    frame = f'<rect x="{x-3}" y="{y-3}" width="{w+6}" height="{h+6}" rx="3" fill="none" stroke="{red[1]}" stroke-width="3"/>' if seen else ''
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="2" fill="{a}"/>{motif}<rect x="{x+w*.15}" y="{y+h*.74}" width="{w*.7}" height="{h*.1}" fill="#fff"/>{frame}'

def svg(height, title, *parts):
    "The drawing: a light card, arrow heads, and a title for those who cannot see it"
    heads = ''.join(f'<marker id="{c[1:]}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" orient="auto"><path d="M0 0 L8 4 L0 8 Z" fill="{c}"/></marker>'
        for c in (soft, blue[1], orange[1], green[1], red[1]) if any(f'#{c[1:]})' in p for p in parts))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="Helvetica,Arial,sans-serif" role="img">'
        f'<title>{escape(title)}</title><defs>{heads}</defs><rect x=".5" y=".5" width="{width-1}" height="{height-1}" rx="10" fill="#fff" stroke="#d1d5db"/>\n' + '\n'.join(parts) + '\n</svg>\n')

def network(y, who, body, head, what, crossed=False):
    "A line of a network: what goes in, three blocks of the body, a head"
    names = 'edges','textures','shapes'
    out = [box(14, y, 96, 54, ('#fff',soft), who), arrow(112, y+27, 126, y+27)]
    out += [box(130+i*68, y, 64, 54, body, o, 14) for i,o in enumerate(names)]
    out += [arrow(332, y+27, 346, y+27), box(350, y, 116, 54, head, what, dash=crossed)]
    if crossed: out.append(f'<path d="M356 {y+6} L460 {y+48} M460 {y+6} L356 {y+48}" stroke="{red[1]}" stroke-width="2" opacity=".6"/>')
    return ''.join(out)

def transfer():
    return svg(250, 'Transfer learning: the body is kept, the head is new',
        text(230, 28, 'body', bold=True), text(408, 28, 'head', bold=True),
        network(40, 'a million\nphotographs', blue, grey, 'a thousand\nthings', crossed=True),
        arrow(230, 100, 230, 136, blue[1], 3), text(244, 123, 'is kept', anchor='start'), text(408, 123, 'is replaced'),
        network(144, 'your\nposters', blue, orange, 'your genres'),
        text(240, 230, 'What the body has learned to see serves your posters too.', 15, fill=soft))

def steps(y, lengths):
    "How large the steps of each block are, as arrows"
    at = [162+i*68 for i in range(3)]+[408]
    return ''.join(arrow(x-n/2, y, x+n/2, y, orange[1], 3) if n else text(x, y+5, 'none', 14, fill=soft) for x,n in zip(at, lengths))

def frozen():
    return svg(292, 'Frozen, only the head learns; unfrozen, all layers do, the first ones by the smallest steps',
        text(14, 26, '1  Frozen: only the head learns', anchor='start', bold=True),
        network(38, 'your\nposters', grey, orange, 'new head'), text(62, 117, 'steps', 14, fill=soft), steps(112, (0,0,0,80)),
        text(14, 162, '2  Unfrozen: everything learns, gently', anchor='start', bold=True),
        network(174, 'your\nposters', blue, orange, 'the head'), text(62, 253, 'steps', 14, fill=soft), steps(248, (14,24,36,50)),
        text(240, 280, 'The new head is random at first, and would spoil the body.', 15, fill=soft))

def split():
    a,b,c = films
    return svg(306, 'Divided poster by poster, a film stands on both sides; divided by film, it does not',
        text(14, 26, 'Poster by poster', anchor='start', bold=True), text(466, 26, 'two films are on both sides', anchor='end', fill=red[1]),
        box(14, 36, 282, 80, blue), text(24, 109, 'train', 14, 'start', soft), box(312, 36, 154, 80, orange), text(322, 109, 'test', 14, 'start', soft),
        *(poster(30+i*52, 44, f, k) for i,(f,k) in enumerate([(a,0),(a,1),(b,0),(c,0),(c,1)])), poster(344, 44, a, 2, seen=True), poster(404, 44, b, 1, seen=True),
        text(14, 150, 'Film by film', anchor='start', bold=True), text(466, 150, 'nothing to remember', anchor='end', fill=green[1]),
        box(14, 160, 282, 80, blue), text(24, 233, 'train', 14, 'start', soft), box(312, 160, 154, 80, orange), text(322, 233, 'test', 14, 'start', soft),
        *(poster(30+i*52, 168, f, k) for i,(f,k) in enumerate([(a,0),(a,1),(a,2),(b,0),(b,1)])), poster(344, 168, c, 0), poster(404, 168, c, 1),
        text(240, 268, 'Same colours, same film. Who has seen one of its posters', 15, fill=soft), text(240, 288, 'can know the other by heart.', 15, fill=soft))

def folds(n=5):
    x0,y0,w,h = 92,44,66,28
    rows = [box(x0+j*(w+4), y0+i*(h+6), w, h, orange if i==j else blue, 'asked' if i==j else '', 14) for i in range(n) for j in range(n)]
    end = y0+n*(h+6)
    return svg(end+92, 'Out of fold: each fifth of the rows is judged by the model that has not learned from it',
        text(x0+(n*(w+4))/2, 28, 'the rows, in five parts (blue: learned from)'), *rows,
        *(text(82, y0+i*(h+6)+19, f'model {i+1}', anchor='end') for i in range(n)),
        *(arrow(x0+j*(w+4)+w/2, end-2, x0+j*(w+4)+w/2, end+14, orange[1], 2) for j in range(n)),
        box(x0, end+20, n*(w+4)-4, 30, orange, 'an answer for each row'),
        text(240, end+76, 'Each answer is from the model that has not seen the row.', 15, fill=soft))

def cleaned():
    return svg(300, 'The model trained on raw and on cleaned rows, asked about raw and about cleaned test rows',
        text(214, 28, 'test rows as they came', 15, bold=True), text(394, 28, 'cleaned test rows', 15, bold=True),
        text(14, 76, 'trained', anchor='start', bold=True), text(14, 95, 'on raw', anchor='start', bold=True),
        box(120, 44, 188, 74, grey, '1  raw → raw\nthe number to beat'), box(322, 44, 144, 74, ('#fff',grey[1]), 'of no use', dash=True),
        arrow(214, 122, 214, 156, green[1], 4), text(228, 145, 'what cleaning was worth', 15, 'start', green[1]),
        text(14, 196, 'trained on', anchor='start', bold=True), text(14, 215, 'cleaned', anchor='start', bold=True),
        box(120, 164, 188, 74, green, '2  cleaned → raw\nthe honest result'), box(322, 164, 144, 74, red, '3  cleaned\n→ cleaned\nflattering'),
        text(240, 266, 'From 1 to 2 the model is another. From 2 to 3 the model', 15, fill=soft), text(240, 286, 'is the same, and only the exam has become easier.', 15, fill=soft))

drawings = dict(transfer=transfer, frozen=frozen, split=split, folds=folds, cleaned=cleaned)

def ideas():
    "Write all of them"
    dest.mkdir(parents=True, exist_ok=True)
    for name,draw in drawings.items():
        (dest/f'{name}.svg').write_text(draw(), encoding='utf-8')
        print(f'{name}.svg: {(dest/f"{name}.svg").stat().st_size/1000:.0f} KB')
