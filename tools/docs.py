"Build the site of pages and lessons from the notebooks: `python tools/docs.py [FOLDER]`, by default _docs; `--check [FOLDER]` only checks the links of one that is built, and of README.md"
import ast, base64, io, json, os, re, shutil, subprocess, sys, tempfile, textwrap, tokenize
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
import nbformat
from outputs import plain
from readme import by_package, directive, lessons as lesson_files, lists, repository

root = Path(__file__).resolve().parent.parent
nbs = root/'nbs'

# ---- what is exported, from the source alone: nothing is imported

def _comments(src):
    "The comment of each line"
    return {t.start[0]: t.string[1:].strip() for t in tokenize.generate_tokens(io.StringIO(src).readline) if t.type==tokenize.COMMENT}

def _name(node):
    "The name of a definition; a patched method has its class before it"
    dec = [ast.unparse(d).split('(')[0] for d in node.decorator_list]
    a = node.args.args[:1] if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else []
    return f'{ast.unparse(a[0].annotation)}.{node.name}' if 'patch' in dec and a and a[0].annotation else node.name

def _args(f):
    "Name, default and line of each argument"
    a = f.args
    pos = [*a.posonlyargs, *a.args]
    for o,d in zip(pos, [None]*(len(pos)-len(a.defaults))+a.defaults): yield o.arg, o.annotation, d, o.lineno
    if a.vararg: yield f'*{a.vararg.arg}', None, None, a.vararg.lineno
    for o,d in zip(a.kwonlyargs, a.kw_defaults): yield o.arg, o.annotation, d, o.lineno
    if a.kwarg: yield f'**{a.kwarg.arg}', None, None, a.kwarg.lineno

def _cell(s): return s.replace('|', r'\|').replace('<', '&lt;')
def _code(s): return f'`{s}`'.replace('|', r'\|')

def _table(f, comments):
    "A table of arguments and result, where there is something to say about them"
    args = [o for o in _args(f) if o[0] not in ('self','cls')]
    lines = [o[3] for o in args]
    says = lambda line: comments.get(line, '') if lines.count(line)==1 else ''
    end = f.body[0].lineno
    gives = next((comments[i] for i in range(end-1, f.lineno-1, -1) if i in comments and i not in lines), '')
    rows = [(_code(n + (f':{ast.unparse(t)}' if t else '')), _code(ast.unparse(d)) if d else '', _cell(says(line))) for n,t,d,line in args]
    if gives or f.returns: rows.append(('*gives*' + (f' {_code(ast.unparse(f.returns))}' if f.returns else ''), '', _cell(gives)))
    if not any(r[2] for r in rows): return ''
    return '| argument | default | |\n|---|---|---|\n' + '\n'.join('| '+' | '.join(r)+' |' for r in rows) + '\n\n'

def api(src, public):
    "What a cell exports: a heading, a sentence and a table for each public definition, then the source to unfold"
    out,comments,names = [],_comments(src),[]
    for node in ast.parse(src).body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): continue
        name = _name(node)
        names.append(name)
        if name not in public: continue
        f = node if not isinstance(node, ast.ClassDef) else next((o for o in node.body if isinstance(o, ast.FunctionDef) and o.name=='__init__'), None)
        sig = '' if f is None else '(' + ', '.join(a + (f'={ast.unparse(d)}' if d is not None else '') for a,_,d,_ in _args(f) if a not in ('self','cls')) + ')'
        if any(ast.unparse(d).startswith('patch(as_prop') for d in node.decorator_list): sig = ''
        sig = textwrap.fill(f'{"class " if isinstance(node, ast.ClassDef) else ""}{name}{sig}', 88, subsequent_indent=' '*4, break_long_words=False)
        out.append(f'### `{name}` {{ #{name} }}\n\n```python\n{sig}\n```\n\n'
                   f'{_cell(ast.get_docstring(node) or "")}\n\n{_table(f, comments) if f else ""}')
    body = '\n'.join(f'    {l}'.rstrip() for l in ['```python', *src.strip().splitlines(), '```'])
    title = 'Source' + (f' of {", ".join(names[:4])}{" ..." if len(names)>4 else ""}' if names else '')
    return '\n'.join(out) + f'\n??? quote "{title}"\n\n{body}\n'

# ---- a notebook as markdown

_styles = re.compile(r'<(style|script)\b.*?</\1>', re.S|re.I)
_ansi = re.compile(r'\x1b\[[0-9;]*[A-Za-z]')

def as_text(s):
    "A text as it is printed; fences in it, such as a model card has, must not end it"
    inside = re.sub('^```', '\u200b```', _ansi.sub('', s).rstrip(), flags=re.M)
    return f'```text\n{inside}\n```\n'

def _output(o, n, files):
    "An output as markdown; its picture goes into `files`"
    if o.output_type=='stream': return as_text(plain(o.text)) if o.name=='stdout' and plain(o.text).strip() else ''
    data = o.get('data', {})
    for kind in ('image/png', 'image/jpeg', 'image/webp'):
        if kind in data:
            files[f := f'{n}.{kind[6:]}'] = base64.b64decode(data[kind])
            return f'![Output of the cell above]({{files}}/{f})\n'
    if html := _styles.sub('', data.get('text/html', '')).strip():
        return '<div class="output">\n' + re.sub(r'\n\s*\n', '\n', html) + '\n</div>\n' if re.search(r'<(img|table|textarea|p|pre)\b', html) else ''
    return data.get('text/markdown') or (as_text(data['text/plain']) if data.get('text/plain', '').strip() else '')

def _cells(nb, files, public):
    for i,c in enumerate(nb.cells):
        flags = dict(directive.findall(c.source)) if c.cell_type=='code' else {}
        if c.cell_type=='markdown': yield c.source
        if c.cell_type!='code' or flags.keys() & {'hide', 'default_exp'}: continue
        src = directive.sub('', c.source).strip()
        if 'export' in flags:
            if src and not re.fullmatch(r'(?:(?:import|from|with contextlib\.suppress\(ImportError\): from) .*\n?|\s+.*\n?)*', src): yield api(src, public)
        elif flags.get('echo')!='false' and src: yield f'```python\n{src}\n```'
        for j,o in enumerate(c.get('outputs', [])):
            if s := _output(o, f'{i}-{j}', files): yield s

def exported(p):
    "The public names of the module that a notebook exports, and its patched methods"
    cells = [c.source for c in nbformat.read(p, as_version=4).cells if c.cell_type=='code']
    module = next((m[1] for c in cells if (m := re.match(r'#\|\s*default_exp\s+(\S+)', c))), None)
    if not module: return []
    top = ast.parse((root/'genre_fastai'/f'{module.replace(".", "/")}.py').read_text(encoding='utf-8')).body
    names = next((ast.literal_eval(o.value) for o in top if isinstance(o, ast.Assign) and ast.unparse(o.targets[0])=='__all__'), [])
    here = [_name(o) for o in top if isinstance(o, (ast.FunctionDef, ast.ClassDef))]
    return [n for n in here if n in names or '.' in n and '._' not in n and not n.startswith('_')]

# what the pages call an object of a class
_called = dict(Catalog=['cat'], Learner=['learn'], PosterLearner=['learn'], Predictions=['preds'], PosterInterpretation=['interp'], CleaningSession=['sess','session'])

def _also(name):
    "How prose writes the name of a patched method: after a variable, or alone if it could be no other word"
    cls,_,method = name.rpartition('.')
    return [f'{o}.{method}' for o in _called.get(cls, [])] + [method]*bool(cls and '_' in method)

def symbols(notebooks):
    "Page and anchor of each public definition, by the names that prose has for it; names that two have are left out"
    found,also = {}, {}
    for p in notebooks:
        for n in exported(p):
            found.setdefault(n, []).append((p, n))
            for o in _also(n): also.setdefault(o, []).append((p, n))
    return {k: v[0] for k,v in {**also, **found}.items() if len(v)==1}

def link_names(text, syms, here):
    "Link `name` and `name(...)` in prose to the page that defines it; code, headings, tables of arguments and links stay as they are"
    def one(m):
        page,anchor = syms.get(m[1].split('(')[0].removeprefix('genre_fastai.'), (here, ''))
        return m[0] if page==here else f'[`{m[1]}`]({os.path.relpath(page, here.parent)}#{anchor})'
    parts = re.split(r'(^```.*?^```|^#.*?$|^    .*?$|\[[^\]]*\]\([^)\n]*\)|^\| `.*?$)', text, flags=re.M|re.S)
    return ''.join(p if i%2 else re.sub(r'`([A-Za-z_][\w.]*(?:\([^`\n]*\))?)`', one, p) for i,p in enumerate(parts))

_badge = re.compile(r'\[!\[[^\]]*\]\(https?://[^)]*\)\]\((https?://colab[^)]*)\)')

def page(path, syms):
    "A notebook as the markdown of its page, and its pictures by name"
    files = {}
    text = '\n\n'.join(_cells(nbformat.read(path, as_version=4), files, exported(path)))
    if path.stem=='index': text = start_page(text)
    text = _badge.sub(r'[Open in Colab](\1){ .md-button }', text)
    text = link_names(text, syms, path).replace('{files}', f'{path.stem}_files')
    return site_links(text), files

def site_links(text):
    "Links to notebooks as links to pages; twins and solutions are for Jupyter, not for reading"
    text = re.sub(r'\]\((?:lessons/)?((?:clean|solutions)/)\)', rf'](https://github.com/{repository()}/tree/main/nbs/lessons/\1)', text)
    text = re.sub(r'\]\(solutions/(\w+\.ipynb)\)', rf'](https://github.com/{repository()}/blob/main/nbs/lessons/solutions/\1)', text)
    return re.sub(r'(\]\((?!https?:)[^)\s]*?)\.ipynb\b', r'\1.md', text)

def start_page(text):
    "The start page: nothing beside it, and below the picture where to begin"
    go = '[Begin with lesson 0](lessons/00_whole_game.ipynb){ .md-button .md-button--primary } [All lessons](lessons/README.md){ .md-button } [Results](98_results.ipynb){ .md-button }'
    return '---\nhide: [navigation]\n---\n\n' + re.sub(r'^(!\[[^\]]*\]\(lessons/images/path\.webp\))', rf'\1{{ .path }}\n\n{go}', text, count=1, flags=re.M)

# ---- the site

_css = '''.md-typeset .output{overflow-x:auto;margin:1em 0}.md-typeset .output table{display:table;font-size:.65rem;border-collapse:collapse;border:0;width:max-content;max-width:max(100%,40rem)}.md-typeset .output :is(td,th){padding:.3em .8em;border:0;border-bottom:.05rem solid var(--md-default-fg-color--lightest);text-align:left;vertical-align:top}
.md-typeset .output thead th{border-bottom-color:var(--md-default-fg-color--light)}.md-typeset h3 code{font-size:1em;background:none;padding:0}.md-typeset img{border-radius:.2rem}[data-md-color-scheme=slate] .md-typeset img{background:#fff}
.md-typeset .output button{border:.05rem solid var(--md-default-fg-color--light);border-radius:.2rem}
.md-typeset blockquote{border-left:.2rem solid var(--md-accent-fg-color);font-size:.85rem}.md-typeset table:not([class]) td:first-child{white-space:nowrap}
.md-typeset img.path{display:block;margin:auto;width:100%;max-width:30rem}.md-typeset .md-button{margin:.2em .3em .2em 0}
.md-typeset td code{word-break:normal}
@media(max-width:44em){.md-typeset table:not([class]) td:first-child{white-space:normal}.md-typeset h1{font-size:1.6em}}'''

# a page opened as a file may start no Worker, so a hidden frame does the work of the search there
_worker = '''if (location.protocol === 'file:') window.Worker = class extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.body.appendChild(document.createElement('iframe'));
    this.frame.hidden = true;
    const w = this.frame.contentWindow, s = w.document.createElement('script');
    w.postMessage = data => this.dispatchEvent(new MessageEvent('message', {data}));
    this.ready = new Promise(ok => { s.onload = ok; });
    s.src = new URL(url, location);
    w.document.body.append(s);
  }
  postMessage(data) { this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent('message', {data}))); }
  terminate() { this.frame.remove(); }
};
'''

def own_worker(dest):
    "Put our own file in place of the one that MkDocs's offline search would load from a server"
    (dest/'assets/file-worker.js').write_text(_worker)
    for p in dest.rglob('*.html'):
        up = os.path.relpath(dest, p.parent)
        p.write_text(re.sub(r'https://unpkg\.com/iframe-worker/shim', f'{up}/assets/file-worker.js', p.read_text(encoding='utf-8')), encoding='utf-8')

def titles(paths):
    "The H1 of each notebook"
    for p in paths:
        first = next(c.source for c in nbformat.read(p, as_version=4).cells if c.cell_type=='markdown')
        yield re.match(r'#\s+(.+)', first)[1], p

def config(docs, dest, pages, lessons):
    "The configuration of MkDocs: nothing is loaded from elsewhere, and the search works without a server"
    rel = lambda p: p.relative_to(nbs).with_suffix('.md').as_posix()
    md = lambda ps: [{t: rel(p)} for t,p in titles(ps)]
    alone = {'97_machines': 'When to leave one machine', '98_results': 'All figures', '99_glossary': 'Glossary'}
    groups = [{k: md(ps)} for k,ps in by_package([p for p in pages if p.stem not in alone]).items()]
    nav = [{'Home': 'index.md'}, {'Lessons': [{'For whom, in which order': 'lessons/README.md'}, *md(lessons)]},
        {'Results': [{alone[k]: f'{k}.md'} for k in ('98_results','97_machines')]}, {'Pages': [{'All pages': 'pages.md'}, *groups]}, {'Glossary': '99_glossary.md'}]
    palette = [dict(scheme=s, primary='indigo', accent='pink', media=f'(prefers-color-scheme: {m})', toggle=dict(icon=f'material/{i}', name=f'Switch to {o} mode'))
               for s,m,i,o in (('default', 'light', 'weather-night', 'dark'), ('slate', 'dark', 'weather-sunny', 'light'))]
    return dict(site_name='genre_fastai', site_url='', site_description='From an image search to an honest, cleaned, usable genre classifier, with fastai', docs_dir=str(docs), site_dir=str(dest), use_directory_urls=False, nav=nav,
        theme=dict(name='material', font=False, palette=palette, icon=dict(logo='material/movie-open'), features=['navigation.tabs', 'navigation.sections', 'navigation.top', 'navigation.footer', 'toc.follow', 'search.highlight', 'content.code.copy']),
        plugins=['search', 'offline'], extra=dict(generator=False), extra_css=['extra.css'], validation=dict(links=dict(anchors='warn', unrecognized_links='warn')),
        markdown_extensions=['attr_list', 'tables', 'md_in_html', 'admonition', 'pymdownx.details', 'pymdownx.superfences', {'pymdownx.highlight': dict(use_pygments=True)}, {'toc': dict(permalink=True, toc_depth=3)}])

def build(dest):
    "Write the site to `dest`; anything that MkDocs warns of is an error"
    pages,lessons = sorted(nbs.glob('[0-9]*.ipynb')), lesson_files()
    syms = symbols(pages)
    with tempfile.TemporaryDirectory() as tmp:
        docs = Path(tmp)/'docs'
        for p in [nbs/'index.ipynb', *pages, *lessons]:
            text,files = page(p, syms)
            out = docs/p.relative_to(nbs).with_suffix('.md')
            (out.parent/f'{p.stem}_files').mkdir(parents=True, exist_ok=True)
            out.write_text(text, encoding='utf-8')
            for name,data in files.items(): (out.parent/f'{p.stem}_files'/name).write_bytes(data)
        for p,text in lists().items(): (docs/p.relative_to(nbs)).write_text(site_links(re.sub('<!--.*?-->', '', text, flags=re.S)), encoding='utf-8')
        shutil.copytree(nbs/'lessons/images', docs/'lessons/images')
        (docs/'extra.css').write_text(_css)
        (Path(tmp)/'mkdocs.yml').write_text(json.dumps(config(docs, Path(dest).resolve(), pages, lessons))) # json is yaml
        env = dict(os.environ, DISABLE_MKDOCS_2_WARNING='true', NO_MKDOCS_2_WARNING='true')
        r = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '-q', '--strict', '-f', f'{tmp}/mkdocs.yml'], env=env, capture_output=True, text=True)
    if r.returncode: sys.exit(r.stdout + r.stderr)
    own_worker(Path(dest))

# ---- links

_loads = dict(img='src', script='src', source='srcset', iframe='src')

class _Links(HTMLParser):
    "The anchors of a page, and every address of it: what it links to, and what it loads"
    def __init__(self): super().__init__(); self.ids,self.found = set(), []
    def handle_starttag(self, tag, attrs):
        o = dict(attrs)
        self.ids |= {v for k in ('id',)+('name',)*(tag=='a') if (v := o.get(k))}
        if tag in ('a','link') and o.get('href'):
            self.found.append((o['href'], tag=='link' and not {'canonical','prev','next'} & set(o.get('rel', '').split())))
        if tag in _loads and o.get(_loads[tag]): self.found.append((o[_loads[tag]], True))

def _links(p):
    res = _Links()
    res.feed(p.read_text(encoding='utf-8'))
    return res

def check(site):
    "What is wrong with the links of a built site: files and anchors that are not there, and anything that would be loaded from elsewhere"
    site,bad = Path(site).resolve(), []
    pages = {p: _links(p) for p in sorted(site.rglob('*.html'))}
    for p,page in pages.items():
        for url,loads in page.found:
            u = urlsplit(url)
            if u.scheme or u.netloc:
                if loads and u.scheme!='data': bad.append(f'{p.relative_to(site)}: loads {url}')
                continue
            f = (site/u.path.lstrip('/') if u.path.startswith('/') else p.parent/unquote(u.path)).resolve() if u.path else p
            if f.is_dir(): f = f/'index.html'
            if p.name=='404.html' and u.path.startswith('/'): f = site/u.path.lstrip('/')
            if not f.is_file(): bad.append(f'{p.relative_to(site)}: {url} is not there')
            elif u.fragment and f in pages and unquote(u.fragment) not in pages[f].ids: bad.append(f'{p.relative_to(site)}: {url} has no such place')
    return bad

def check_readme():
    "Links of README.md to files that are not there"
    text = (root/'README.md').read_text(encoding='utf-8')
    found = [u.split('#')[0] for u in re.findall(r'\]\(([^)\s]+)\)', text) if not urlsplit(u).scheme]
    return [f'README.md: {u} is not there' for u in found if u and not (root/u).exists()]

def main(args):
    dest = Path(next((a for a in args if not a.startswith('-')), root/'_docs'))
    if '--check' not in args: build(dest)
    bad = check(dest) + check_readme()
    if bad: sys.exit('\n'.join(bad))
    print(f'{len(list(dest.rglob("*.html")))} pages in {dest}, all links lead somewhere')

if __name__=='__main__': main(sys.argv[1:])
