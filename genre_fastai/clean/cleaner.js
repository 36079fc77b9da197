// The browser's side of ImageCleaner (nbs/82_clean.widget.ipynb). It asks Python for pages and pictures, and tells it of marks; it keeps nothing that Python does not know.
// `id` is that of a row of the catalog, `file` its name for people; `view_id` says which view of the browser asks.
// All texts go in by textContent: they come from catalogs, and those from anywhere. What would hide or turn round a part of a name is shown as \u202e.

const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060-\u2069\ufeff]/g;
const plain = text => String(text).replace(unseen, c => (c > '\u00ff' ? '\\u' : '\\x') + c.charCodeAt(0).toString(16).padStart(c > '\u00ff' ? 4 : 2, '0'));
const make = (tag, cls, text, attrs) => {
  const el = document.createElement(tag);
  if (cls) el.className = cls;
  if (text !== undefined && text !== null) el.textContent = plain(text);
  // names in attributes are read by people, too; values and ids stay what Python knows
  for (const [k, v] of Object.entries(attrs || {})) if (v !== null && v !== false) el.setAttribute(k, ['title', 'aria-label', 'alt'].includes(k) ? plain(v) : v);
  return el;
};
// a name inside a line is read in its own direction, and does not turn the rest of the line
const own = (tag, cls, text, attrs) => make(tag, cls, text, {dir: 'auto', ...attrs});
const button = (cls, text, label, onclick, attrs) => {
  const b = make('button', 'gc-btn ' + cls, text, {type: 'button', 'aria-label': label, title: label, ...attrs});
  b.addEventListener('click', onclick);
  return b;
};
const percent = v => v === null ? '' : Math.round(v * 100) + ' %';
const words = {keep: 'kept', delete: 'deleted', relabel: 'relabelled', add_label: 'relabelled', remove_label: 'relabelled', copy_of: 'copy', left: 'left'};
const marks = {keep: 'keep', delete: 'delete', copy_of: 'delete', relabel: 'relabel', add_label: 'relabel', remove_label: 'relabel'};
const learns = [['B', 'the same for those alike'], ['O', 'order anew']];
const help = {grid: [['arrows', 'move'], ['K', 'keep'], ['D', 'delete'], ['A', 'accept the proposal'], ['1–9', 'label'], ['R', 'choose label'], ['U', 'undo'], ['⇧U', 'redo'], ['N P', 'page'], ['Enter', 'enlarge']],
  pairs: [['arrows', 'move'], ['L', 'delete left'], ['R', 'delete right'], ['K', 'keep both'], ['U', 'undo'], ['⇧U', 'redo'], ['N P', 'page'], ['Enter', 'enlarge']]};

function render({model, el}) {
  const viewId = Math.random().toString(36).slice(2);
  let info = null, view = 'grid', page = 0, pages = 1, filters = {}, rows = [], items = [], cur = 0, seq = 0, timer = 0, hadFocus = false;
  let urls = []; // of the pictures of this page: set free with the next
  let live = null, poll = 0, touched = false, gone = false, marked = null, offer = null; // where the list learns: its news, what was marked last, what is offered

  // a kernel answers before it is idle again; one that was restarted is idle without an answer, also when it is asked once more: then this view has ended
  let heard = 0, misses = 0, dead = false;
  const quiet = m => {
    if (dead) return;
    const had = heard, missed = () => { if (heard === had && !gone) { misses += 1; if (misses > 1) die(); else quiet({ask: 'live'}); } };
    try { model.send({...m, view_id: viewId}, {iopub: {status: o => { if (o.content.execution_state === 'idle') setTimeout(missed, 1500); }}}); } catch (e) { die(); }
  };
  const ask = m => {
    clearTimeout(timer);
    timer = setTimeout(() => say('Python has not answered yet: the kernel is busy, or it was restarted. In the latter case run the cell again; the marks are in the journal.', 'wait'), 5000);
    quiet(m);
  };

  // ---- the frame
  const root = make('div', 'gc-root', null, {role: 'region', 'aria-label': 'Image cleaner'});
  const bar = make('div', 'gc-bar'), tools = make('div', 'gc-bar gc-tools'), note = make('div', 'gc-note', '', {'aria-live': 'polite'});
  const grid = make('div', 'gc-grid'), foot = make('div', 'gc-bar gc-foot'), keys = make('div', 'gc-keys');
  const counts = make('div', 'gc-counts', null, {'aria-live': 'polite'}), meter = make('div', 'gc-meter', null, {role: 'progressbar', 'aria-label': 'decided'});
  meter.append(make('i'));
  const tabs = make('div', 'gc-tabs', null, {role: 'tablist'});
  const big = make('dialog', 'gc-big', null, {'aria-label': 'Enlarged poster'});
  const news = make('div', 'gc-live', null, {role: 'status', hidden: ''});
  const alike = make('div', 'gc-alike', null, {role: 'group', 'aria-label': 'Posters that look alike', popover: 'manual', hidden: ''});
  // the news follow into the window where they are scrolled out of it: a popover stands before everything, in each front end
  const chip = make('div', 'gc-chip', null, {popover: 'manual', hidden: '', 'aria-hidden': 'true'});
  const inView = {news: true, grid: false};
  const chipped = () => {
    const on = !!live && !!live.left && !offer && !inView.news && inView.grid && !!chip.showPopover;
    if (on !== chip.hidden) return;
    chip.hidden = !on;
    if (on) chip.showPopover(); else if (chip.matches(':popover-open')) chip.hidePopover();
  };
  // an offer does not lie over the cells that one has gone on to
  const aside = () => {
    if (!offer || !alike.showPopover || inView.grid === alike.matches(':popover-open')) return;
    if (inView.grid) alike.showPopover(); else alike.hidePopover();
  };
  const watch = new IntersectionObserver(es => { for (const e of es) inView[e.target === grid ? 'grid' : 'news'] = e.isIntersecting; chipped(); aside(); });
  const over = make('div', 'gc-over', null, {role: 'alert', tabindex: '-1', hidden: ''});
  root.append(over, bar, meter, news, tools, note, grid, foot, keys, chip, alike, big);
  el.append(root);

  const say = (text, kind) => {
    note.textContent = plain(text || '');
    note.className = 'gc-note' + (text ? ' gc-' + (kind || 'info') : '');
    note.setAttribute('role', kind === 'error' ? 'alert' : 'status');
  };

  const word = a => info && info.labelling && words[a] === 'relabelled' ? 'labelled' : words[a];
  const die = () => {
    if (dead || gone) return;
    const inside = root.contains(document.activeElement);
    dead = true;
    clearTimeout(timer);
    clearTimeout(poll);
    say('');
    unoffer();
    if (big.open) big.close();
    root.classList.add('gc-dead');
    for (const o of root.children) if (o !== over) o.inert = true;
    over.hidden = false;
    over.textContent = 'Python was restarted, and this view has ended. Run the cell again: all marks up to then are in the journal.';
    if (inside) over.focus(); // else the next key is the notebook's, and D D deletes a cell
  };
  const parted = () => setTimeout(() => { if (!gone) quiet({ask: 'live'}); }); // an answer, or none

  const choice = (name, label, options) => {
    const s = make('select', 'gc-select', null, {'aria-label': label, title: label, name});
    for (const [v, t] of options) s.append(own('option', '', t, {value: v}));
    s.value = filters[name] || '';
    s.addEventListener('change', () => { filters = {...filters, [name]: s.value}; go(0); });
    return s;
  };
  const labels = s => info.multi ? s.split('|') : [s]; // a single label may hold a bar
  const each = (list, all) => [['', all], ...list.map(o => [o, o])];

  const frame = () => {
    tabs.replaceChildren();
    for (const [v, t] of [['grid', 'Posters'], ['pairs', 'Duplicates ' + info.pairs]]) {
      if (v === 'pairs' && !info.pairs) continue;
      const b = button('gc-tab', t, t, () => { view = v; frame(); go(0); }, {role: 'tab', 'aria-selected': view === v ? 'true' : 'false'});
      tabs.append(b);
    }
    bar.replaceChildren(tabs, counts, make('span', 'gc-space'),
      button('gc-undo', '↶ Undo', 'Undo the last decision (U)', () => back('undo')), button('gc-redo', '↷ Redo', 'Redo (Shift U)', () => back('redo')));
    const pagers = [0, 1].map(() => {
      const p = make('div', 'gc-pager', null, {role: 'group', 'aria-label': 'Pages'});
      const number = make('input', 'gc-number', null, {type: 'number', min: 1, 'aria-label': 'Page'});
      number.addEventListener('change', () => go(number.value - 1));
      p.append(button('gc-prev', '‹', 'Previous page (P)', () => go(page - 1)), number, make('span', 'gc-of'), button('gc-next', '›', 'Next page (N)', () => go(page + 1)));
      return p;
    });
    tools.replaceChildren();
    if (view === 'grid') tools.append(
      ...(info.labelling && !info.suggested ? [] : [choice('reason', 'Reason', [['', 'all posters'], ['suggested', 'suggested (' + info.suggested + ')'], ...info.reasons.map(o => [o, o])])]),
      choice('label', 'Class', each(info.classes, 'every class')),
      ...(info.labelling && !info.splits.length ? [] : [choice('split', 'Split', each(info.splits, 'every split'))]),
      choice('decided', 'Decided', [['', 'decided or not'], ['undecided', 'undecided'], ['decided', 'decided'], ...(info.labelling ? [] : [['keep', 'kept']]), ['delete', 'deleted'], ...(info.multi ? [] : [['relabel', word('relabel')]])]));
    tools.append(button('gc-fresh', '⟳', 'Make the list again, with the decisions of other sessions', () => go(0, true)), make('span', 'gc-total'), make('span', 'gc-space'), pagers[0]);
    foot.replaceChildren(make('span', 'gc-journal', 'journal: ' + info.journal), make('span', 'gc-space'), pagers[1]);
    const known = help[view].filter(([k]) => !(info.labelling && k === 'K' && view === 'grid'));
    keys.replaceChildren(...(live && view === 'grid' ? [...known, ...learns] : known).map(([k, t]) => { const s = make('span'); s.append(make('kbd', '', k), ' ' + t); return s; }));
  };

  const back = how => { marked = null; unoffer(); ask({ask: how}); };
  const tally = c => {
    const sums = {};
    for (const [k, n] of Object.entries(c)) if (k !== 'left' && n) sums[word(k) || k] = (sums[word(k) || k] || 0) + n;
    const done = Object.values(sums).reduce((a, b) => a + b, 0);
    counts.replaceChildren(...Object.entries(sums).map(([w, n]) => make('span', 'gc-count gc-' + w, n + ' ' + w)), make('b', 'gc-count gc-left', c.left + ' left'));
    const share = done + c.left ? done / (done + c.left) : 0;
    meter.firstChild.style.width = (share * 100) + '%';
    meter.setAttribute('aria-valuenow', Math.round(share * 100));
  };

  // ---- the list that learns: what Python says of it, and posters that look alike
  const several = (n, word) => n.toLocaleString('en') + ' ' + word + (n === 1 ? '' : 's');
  const look = now => { clearTimeout(poll); poll = 0; quiet({ask: 'live', now: !!now, view, filters}); };
  const estimate = e => '≈ ' + several(Math.round(e.n), 'error');
  const between = e => '(' + Math.round(e.low).toLocaleString('en') + ' to ' + Math.round(e.high).toLocaleString('en') + ' among ' + e.left.toLocaleString('en') + ' undecided)';
  const learnt = l => {
    if (!l) return;
    const was = live ? live.model : null, first = was !== null && !was;
    live = l;
    if (news.hidden) { news.hidden = false; root.classList.add('gc-learns'); watch.observe(news); watch.observe(grid); }
    news.classList.toggle('gc-busy', l.busy);
    news.classList.toggle('gc-stop', !!l.stop);
    const e = l.left, text = make('span', 'gc-left-errors');
    if (e) text.append(make('b', '', estimate(e)), ' probably left ', make('span', 'gc-range', between(e), {title: '90 % interval, from the marks so far'}));
    else if (!l.error) text.append(l.model ? own('span', '', l.enough || '') : 'The first order is being learnt …'); // posters that have no labels have no errors
    if (e) chip.replaceChildren(make('b', '', estimate(e)), ' left ' + between(e));
    chipped();
    const state = make('span', 'gc-learnt', l.busy ? 'learning …' : l.error ? '' : 'ordered after ' + several(l.marked, 'mark'), {title: l.model});
    news.replaceChildren(text, make('span', 'gc-space'), state, button('gc-again', '⟲ Order', 'Order the rest of the list anew, below what you look at (O)', () => look(true)),
      ...(l.error ? [make('span', 'gc-enough gc-wrong', l.error)] : l.enough && (e || !l.model) ? [own('span', 'gc-enough', l.enough)] : []));
    if (l.busy && !poll) poll = setTimeout(() => look(), 400);
    if (first && l.model && !touched && !page && view === 'grid') go(0, true); // nobody has looked at anything yet
  };
  const unoffer = () => {
    if (!offer) return;
    const inside = alike.contains(document.activeElement);
    offer.urls.forEach(u => URL.revokeObjectURL(u));
    offer = null;
    if (alike.hidePopover && alike.matches(':popover-open')) alike.hidePopover();
    alike.hidden = true;
    root.classList.remove('gc-offering');
    alike.replaceChildren();
    chipped();
    if (inside && items[cur]) focus(cur);
  };
  const means = o => ({keep: 'Keep', delete: 'Delete', relabel: info.labelling ? 'Label' : 'Relabel'})[o.action];
  const offered = m => {
    if (!marked || m.of !== marked.id) return;
    unoffer();
    if (m.rows.length < 2 || !means(m.mark)) return;
    offer = {...m.mark, of: m.of, model: m.model, urls: [], parts: []};
    const strip = make('div', 'gc-strip'), go = button('gc-all', '', '', () => markAll()), n = m.rows.length;
    const count = () => {
      const k = offer.parts.filter(p => p.on).length;
      go.replaceChildren(means(offer) + ' ' + (k === n ? 'all ' + n : k) + ' ', ...(offer.action === 'relabel' ? offer.label ? ['→ ', own('bdi', '', labels(offer.label).join(', '))] : ['as proposed'] : []), ' ', make('kbd', '', 'B'));
      go.setAttribute('aria-label', plain(means(offer) + ' ' + several(k, 'poster') + (offer.label ? ': ' + offer.label : '') + ' (B)'));
      go.disabled = !k;
    };
    offer.parts = m.rows.map(row => {
      const one = {row, on: true, img: make('img', '', null, {alt: '', draggable: 'false'})};
      const b = button('gc-one', null, row.name + ', label ' + (row.was.join(', ') || 'none'), () => { one.on = !one.on; b.setAttribute('aria-pressed', one.on); count(); }, {'aria-pressed': 'true'});
      b.append(one.img);
      strip.append(b);
      return one;
    });
    const what = make('div', 'gc-what');
    what.append(make('b', '', 'These ' + n + ' look like '), own('bdi', '', marked.name), make('b', '', m.rows.some(o => o.was.length) ? ' and are doubted too.' : ' and have no label.'), ' A click leaves one out.');
    const acts = make('div', 'gc-offer');
    acts.append(go, button('gc-no', 'No', 'Leave them (Esc)', () => unoffer()));
    if (live.left) acts.append(make('span', 'gc-space'), make('span', 'gc-range', estimate(live.left) + ' left'));
    alike.dataset.mark = offer.action;
    alike.replaceChildren(what, strip, acts);
    count();
    alike.hidden = false;
    root.classList.add('gc-offering');
    chipped();
    if (alike.showPopover) alike.showPopover();
    for (let i = 0; i < n; i += 4) ask({ask: 'pictures', ids: m.rows.slice(i, i + 4).map(o => o.id), seq: 'alike'});
  };
  const offerPictures = (m, buffers) => {
    if (!offer) return;
    m.ids.forEach((id, i) => {
      const p = offer.parts.find(o => o.row.id === id);
      if (!p) return;
      offer.urls.push(URL.createObjectURL(new Blob([buffers[i]], {type: 'image/jpeg'})));
      p.img.src = offer.urls[offer.urls.length - 1];
    });
  };
  const markAll = () => {
    const o = offer, ids = o.parts.filter(p => p.on).map(p => p.row.id);
    if (!ids.length) return say('None of them is chosen.');
    unoffer();
    marked = null;
    ask({ask: 'mark_all', of: o.of, ids, model: o.model});
  };

  // ---- pages
  const go = (p, fresh) => {
    hadFocus = hadFocus || grid.contains(document.activeElement) || big.open;
    seq += 1;
    grid.classList.add('gc-loading');
    grid.setAttribute('aria-busy', 'true');
    ask({ask: 'page', view, page: p > 0 ? p : 0, filters, fresh: !!fresh, seq});
  };

  const skeleton = n => grid.replaceChildren(...Array.from({length: n}, () => make('div', 'gc-card gc-empty-card')));

  const show = m => {
    ({view, page, pages, rows} = m);
    grid.classList.remove('gc-loading');
    grid.setAttribute('aria-busy', 'false');
    grid.className = view === 'grid' ? 'gc-grid' : 'gc-grid gc-pairs';
    items = rows.map(r => view === 'grid' ? card(r) : pair(r));
    if (items.length) grid.replaceChildren(...items.map(o => o.el));
    else grid.replaceChildren(make('div', 'gc-nothing', m.filters.decided === 'undecided' ? 'Nothing is left here: every poster of this choice is decided.' : 'No poster passes these filters. Choose others above.'));
    for (const n of root.querySelectorAll('.gc-number')) { n.value = page + 1; n.max = pages; }
    for (const n of root.querySelectorAll('.gc-of')) n.textContent = 'of ' + pages.toLocaleString('en');
    for (const b of root.querySelectorAll('.gc-prev')) b.disabled = page === 0;
    for (const b of root.querySelectorAll('.gc-next')) b.disabled = page >= pages - 1;
    learnt(m.live);
    const total = tools.querySelector('.gc-total');
    if (total) total.textContent = m.total.toLocaleString('en') + (view === 'grid' ? (m.total === 1 ? ' poster' : ' posters') : (m.total === 1 ? ' pair' : ' pairs'));
    tally(m.counts);
    cur = 0;
    items.forEach((o, i) => { o.el.tabIndex = i ? -1 : 0; });
    if (hadFocus && items.length) { focus(0); }
    hadFocus = false;
    urls.forEach(u => URL.revokeObjectURL(u));
    urls = [];
    const ids = [...new Set(items.flatMap(o => o.parts.map(p => p.row.id)))];
    for (let i = 0; i < ids.length; i += 8) ask({ask: 'pictures', ids: ids.slice(i, i + 8), seq});
  };

  const parts = () => items.flatMap(o => o.parts);
  const pictures = (m, buffers) => {
    m.ids.forEach((id, i) => {
      const imgs = m.large ? [big.querySelector('img')].filter(o => o && o.dataset.id === id) : parts().filter(p => p.row.id === id).map(p => p.img);
      if (!imgs.length) return;
      urls.push(URL.createObjectURL(new Blob([buffers[i]], {type: 'image/jpeg'})));
      for (const img of imgs) { img.onload = () => img.classList.add('gc-there'); img.src = urls[urls.length - 1]; }
    });
    for (const [id, why] of Object.entries(m.errors)) for (const p of parts()) if (p.row.id === id) { p.pic.classList.add('gc-broken'); p.pic.dataset.why = plain(why); }
  };

  // ---- one poster: picture, what is known of it, and its mark
  const poster = row => {
    const pic = make('div', 'gc-pic'), img = make('img', '', null, {alt: 'Poster ' + row.name + ', label ' + (row.was.join(', ') || 'none'), draggable: 'false'});
    const flag = make('span', 'gc-flag');
    pic.append(img, make('span', 'gc-rank', '#' + row.n), flag);
    if (row.state.frozen) pic.append(make('span', 'gc-lock', 'test', {title: 'Test rows are frozen: a test set that is cleaned flatters'}));
    const label = make('div', 'gc-label'), text = make('div', 'gc-text');
    const named = make('div', 'gc-pred');
    named.append(label, make('span', 'gc-dim', percent(row.prob_label), {title: 'probability of the label'}));
    text.append(named);
    if (row.pred) {
      const p = make('div', 'gc-pred', null, {title: 'What the model ' + (row.model || '') + ' says'});
      const pred = labels(row.pred).join(', '), says = make('span', 'gc-says', null, {title: pred});
      says.append(make('span', 'gc-dim gc-model', 'model '), own('bdi', '', pred));
      p.append(says, make('b', '', percent(row.prob)));
      if (row.prob !== null) { const m = make('i', 'gc-prob'); m.style.setProperty('--p', row.prob); p.append(m); }
      text.append(p);
    }
    if (row.why) text.append(own('div', 'gc-why', row.why, {title: row.why}));
    const meta = make('div', 'gc-meta');
    const add = (t, title) => t && meta.append(make('span', '', t, {title}));
    add(row.loss === null ? '' : 'loss ' + row.loss.toFixed(2), 'loss: how much the label surprises the model');
    add(row.split, 'split');
    add(row.rank ? 'rank ' + row.rank : '', 'rank in the search');
    add(row.size, 'pixels');
    if (row.url) meta.append(make('a', '', 'source', {href: row.url, target: '_blank', rel: 'noopener noreferrer', title: row.url}));
    text.append(meta, own('div', 'gc-file', row.name, {title: row.file}));
    const part = {row, pic, img, flag, label, text};
    pic.addEventListener('click', () => enlarge(part));
    return part;
  };

  const paint = (part, host) => {
    const s = part.row.state, kind = marks[s.action] || '';
    const was = part.row.was, now = s.labels, same = was.join('|') === now.join('|');
    host.dataset.mark = kind;
    host.dataset.action = s.action;
    part.flag.textContent = {keep: '✓ kept', delete: s.action === 'copy_of' ? '✕ copy' : '✕ deleted', relabel: info.labelling && !now.length ? '✎ none of these' : '✎ ' + word('relabel')}[kind] || '';
    part.label.replaceChildren(...(same || !was.length ? [own('b', same ? '' : 'gc-now', now.join(', ') || 'no label')] : [own('s', '', was.join(', ') || 'no label'), ' ', make('span', 'gc-to', '→'), ' ', own('b', 'gc-now', now.join(', ') || 'no label')]));
  };

  const spoken = r => ['Poster ' + r.n, r.name, 'label ' + (r.state.labels.join(', ') || 'none'), r.pred && 'predicted ' + r.pred + ' ' + percent(r.prob), r.why, word(r.state.action) || 'undecided', r.state.frozen && 'test row, frozen'].filter(Boolean).join(', ');

  const card = row => {
    const node = make('div', 'gc-card', null, {role: 'group', 'data-id': row.id, 'data-file': row.file}), p = poster(row), acts = make('div', 'gc-acts');
    const item = {el: node, parts: [p], row};
    node.append(p.pic, p.text, acts);
    const off = row.state.frozen, disabled = off ? '' : null;
    const keep = button('gc-keep', 'Keep', 'Keep ' + row.name, () => mark(item, 'keep'), {disabled}), del = button('gc-delete', 'Delete', 'Delete ' + row.name, () => mark(item, 'delete'), {disabled});
    if (info.labelling && !row.was.length) del.classList.add('gc-wide'); // there is nothing to keep
    else acts.append(keep);
    acts.append(del);
    let select = null, boxes = [];
    if (info.multi) {
      const set = make('div', 'gc-boxes', null, {role: 'group', 'aria-label': 'Labels of ' + row.name});
      const first = o => row.was.includes(o) ? 0 : labels(row.pred).includes(o) ? 1 : 2;
      for (const c of [...info.classes].sort((a, b) => first(a) - first(b))) {
        const b = make('input', '', null, {type: 'checkbox', 'aria-label': c + ' for ' + row.name, value: c, disabled}), l = make('label', 'gc-box');
        l.append(b, own('span', '', c));
        b.addEventListener('change', () => toggle(item, c));
        boxes.push(b);
        set.append(l);
      }
      acts.append(set);
    } else {
      select = make('select', 'gc-select gc-relabel', null, {'aria-label': (info.labelling ? 'Label ' : 'Relabel ') + row.name, disabled});
      select.append(make('option', '', info.labelling ? 'label …' : 'relabel …', {value: ''}), ...info.classes.map(c => own('option', '', c, {value: c})));
      select.addEventListener('change', () => { if (select.value) mark(item, 'relabel', select.value); node.focus(); });
      acts.append(select);
    }
    if (row.fix && !off && propose(item)) {
      const [action, what] = propose(item), to = action === 'copy_of' ? row.fix.name : labels(what).join(', ');
      const t = action === 'relabel' ? '→ ' + to : action.replace('_', ' ') + (to ? ' ' + to : '');
      item.fix = button('gc-fix', t, 'Accept the proposal (A): ' + t, () => accept(item));
      acts.append(item.fix);
    }
    item.paint = () => {
      paint(p, node);
      node.setAttribute('aria-label', plain(spoken(row)));
      keep.setAttribute('aria-pressed', row.state.action === 'keep');
      del.setAttribute('aria-pressed', marks[row.state.action] === 'delete');
      if (select) select.value = row.state.action === 'relabel' ? row.state.labels[0] || '' : '';
      for (const b of boxes) b.checked = row.state.labels.includes(b.value);
    };
    item.select = select || boxes[0];
    node.addEventListener('focusin', () => at(items.indexOf(item)));
    item.paint();
    return item;
  };

  const pair = r => {
    const node = make('div', 'gc-pair', null, {role: 'group', 'data-pair': r.n}), a = poster(r.a), b = poster(r.b);
    const item = {el: node, parts: [a, b], row: r};
    const sides = [a, b].map(p => { const d = make('div', 'gc-side', null, {'data-id': p.row.id, 'data-file': p.row.file}); d.append(p.pic, p.text); return d; });
    const mid = make('div', 'gc-mid'), nameOf = p => p.row.name;
    mid.append(make('b', '', r.kind), make('span', '', r.how), make('span', '', r.score === null ? '' : 'score ' + r.score));
    if (r.a.was.join('|') !== r.b.was.join('|')) mid.append(make('span', 'gc-clash', 'labels differ'));
    const left = button('gc-delete', '✕ left', 'Delete the left one, ' + nameOf(a), () => mark(item, 'left'), {disabled: r.a.state.frozen ? '' : null});
    const both = button('gc-keep', '✓ both', 'Keep both', () => mark(item, 'both'));
    const right = button('gc-delete', '✕ right', 'Delete the right one, ' + nameOf(b), () => mark(item, 'right'), {disabled: r.b.state.frozen ? '' : null});
    const acts = make('div', 'gc-acts');
    acts.append(left, both, right);
    mid.append(acts);
    node.append(sides[0], mid, sides[1]);
    item.paint = () => {
      paint(a, sides[0]);
      paint(b, sides[1]);
      node.setAttribute('aria-label', plain('Pair ' + r.n + ': ' + spoken(r.a) + '; and ' + spoken(r.b)));
      node.dataset.mark = sides.some(s => s.dataset.mark) ? 'done' : '';
    };
    node.addEventListener('focusin', () => at(items.indexOf(item)));
    item.paint();
    return item;
  };

  // ---- marks: painted at once, sent to Python, and painted again as Python says
  const tell = (row, action, more, state) => {
    row.state = {...row.state, action, ...state};
    touched = true;
    marked = live && view === 'grid' ? {id: row.id, name: row.name, action} : null;
    ask({ask: 'mark', id: row.id, action, model: row.model, ...more});
  };
  const frozen = row => { if (row.state.frozen) say(row.name + ' is a test row. Test rows are frozen: a test set that is cleaned flatters.', 'error'); return row.state.frozen; };
  const mark = (item, action, label) => {
    say('');
    if (view === 'pairs') {
      const {a, b} = item.row, [gone, stays] = action === 'left' ? [a, b] : [b, a];
      const copy = (o, p) => o.state.action === 'copy_of' && o.state.other === p.id;
      const keep = o => tell(o, 'keep', {}, {labels: o.was, other: ''});
      // both stay: what else was decided about either holds
      if (action === 'both') [[a, b], [b, a]].forEach(([o, p]) => { if (!o.state.frozen && (!o.state.action || copy(o, p))) keep(o); });
      else if (!frozen(gone)) {
        if (copy(stays, gone)) keep(stays); // a change of mind
        tell(gone, 'copy_of', {other: stays.id}, {other: stays.id});
      }
    } else {
      if (frozen(item.row)) return;
      tell(item.row, action, label ? {label} : {}, action === 'relabel' ? {labels: labels(label)} : action === 'keep' ? {labels: item.row.was} : {});
    }
    repaint([item]);
  };
  const toggle = (item, c) => {
    if (frozen(item.row)) return;
    const has = item.row.state.labels.includes(c);
    tell(item.row, has ? 'remove_label' : 'add_label', {label: c}, {labels: has ? item.row.state.labels.filter(o => o !== c) : [...item.row.state.labels, c]});
    repaint([item]);
  };
  const propose = item => {
    const f = item.row.fix;
    if (!f) return null;
    if (['relabel', 'add_label', 'remove_label'].includes(f.action)) return labels(f.label).every(o => info.classes.includes(o)) ? [f.action, f.label] : null;
    return f.action === 'delete' ? ['delete', ''] : f.action === 'keep' ? ['keep', ''] : f.action === 'copy_of' ? ['copy_of', f.other] : null;
  };
  const accept = item => {
    const [action, what] = propose(item) || [];
    if (!action) return say('There is no proposal for this poster.');
    if (action === 'add_label' || action === 'remove_label') { if (item.row.state.labels.includes(what) === (action === 'remove_label')) toggle(item, what); }
    else if (action === 'copy_of') { if (!frozen(item.row)) { tell(item.row, 'copy_of', {other: what}); repaint([item]); } }
    else mark(item, action, what);
  };
  const repaint = some => { for (const o of some) o.paint(); if (big.open) fill(); };

  const told = m => {
    const states = new Map((m.states || []).map(s => [s.id, s]));
    const changed = items.filter(o => o.parts.some(p => states.has(p.row.id)));
    for (const o of changed) for (const p of o.parts) p.row.state = states.get(p.row.id) || p.row.state;
    repaint(changed);
    if (m.counts) tally(m.counts);
  };

  // ---- the enlarged picture
  let shown = null;
  const fill = () => {
    const host = big.querySelector('.gc-card');
    if (host && shown) paint(shown, host);
  };
  const enlarge = part => {
    const row = part.row, copy = poster(row), node = make('div', 'gc-card');
    shown = copy;
    copy.img.dataset.id = row.id;
    node.append(copy.pic, copy.text);
    copy.pic.addEventListener('click', () => big.close());
    big.replaceChildren(button('gc-close', '✕', 'Close (Esc)', () => big.close()), node);
    if (part.img.src) { copy.img.src = part.img.src; copy.img.classList.add('gc-there'); }
    paint(copy, node);
    if (!big.open) big.showModal();
    ask({ask: 'pictures', ids: [row.id], large: true, seq});
  };
  big.addEventListener('close', () => { shown = null; big.replaceChildren(); if (items[cur]) focus(cur); });
  big.addEventListener('click', e => { if (e.target === big) big.close(); });

  // ---- keys
  const at = i => {
    if (i < 0 || !items[i]) return;
    if (items[cur]) items[cur].el.tabIndex = -1;
    cur = i;
    items[i].el.tabIndex = 0;
  };
  const focus = i => {
    i = Math.min(Math.max(i, 0), items.length - 1);
    if (!items[i]) return;
    at(i);
    if (big.open) enlarge(items[i].parts[0]);
    else items[i].el.focus({preventScroll: false});
  };
  const columns = () => {
    const top = items[0].el.offsetTop;
    const n = items.findIndex(o => o.el.offsetTop !== top);
    return n < 0 ? items.length : n;
  };
  const step = d => {
    const to = cur + d;
    if (to >= items.length && page < pages - 1 && d === 1) go(page + 1);
    else if (to < 0 && page > 0 && d === -1) go(page - 1);
    else if (to >= 0 && to < items.length) focus(to);
  };
  const onKey = e => {
    // the notebook has shortcuts for the same keys (D D deletes a cell) and hears them first, but for the window: what is pressed here stays here, except for Ctrl S and the like
    if (!e.composedPath().includes(root) || e.ctrlKey || e.metaKey || e.altKey || (e.shiftKey && e.key === 'Enter')) return;
    e.stopImmediatePropagation();
    if (!info) return;
    touched = true;
    const tag = e.target.tagName, item = items[cur];
    if (tag === 'SELECT' || (tag === 'INPUT' && e.target.type === 'number')) { if (e.key === 'Escape') focus(cur); return; }
    if ((tag === 'BUTTON' || tag === 'A') && (e.key === 'Enter' || e.key === ' ')) return;
    const k = e.key.toLowerCase(), here = item && (big.open || item.el.contains(e.target));
    const done = () => e.preventDefault();
    if (dead) return;
    if (k === 'u') { done(); return back(e.shiftKey ? 'redo' : 'undo'); }
    if (k === 'b' && offer && !big.open) { done(); return markAll(); }
    if (k === 'o' && live && view === 'grid') { done(); return look(true); }
    if (k === 'escape' && offer && !big.open) { done(); return unoffer(); }
    if (k === 'n' || k === 'pagedown') { done(); return page < pages - 1 && go(page + 1); }
    if (k === 'p' || k === 'pageup') { done(); return page > 0 && go(page - 1); }
    if (!here) return;
    if (k === 'arrowright') { done(); return step(1); }
    if (k === 'arrowleft') { done(); return step(-1); }
    if (k === 'arrowdown') { done(); return step(columns()); }
    if (k === 'arrowup') { done(); return step(-columns()); }
    if (k === 'home') { done(); return focus(0); }
    if (k === 'end') { done(); return focus(items.length - 1); }
    if (k === 'enter') { done(); return enlarge(item.parts[0]); }
    if (view === 'pairs') {
      const act = {l: 'left', r: 'right', k: 'both'}[k];
      if (act) { done(); mark(item, act); step(1); }
      return;
    }
    if (k === 'k' && info.labelling && !item.row.was.length) { done(); return say('This poster has no label yet that could be kept. Give it one: by its number, or R.'); }
    if (k === 'k') { done(); mark(item, 'keep'); return step(1); }
    if (k === 'd' || k === 'delete') { done(); mark(item, 'delete'); return step(1); }
    if (k === 'a') { done(); accept(item); return step(1); }
    if (k === 'r' && !big.open) { done(); item.select.focus(); if (item.select.showPicker) try { item.select.showPicker(); } catch (err) { item.select.focus(); } return; }
    if (/^[1-9]$/.test(k) && info.classes[k - 1]) {
      done();
      if (info.multi) return toggle(item, info.classes[k - 1]);
      mark(item, 'relabel', info.classes[k - 1]);
      return step(1);
    }
  };
  window.addEventListener('keydown', onKey, true);

  // ---- Python's answers
  const onMsg = (m, buffers) => {
    heard += 1;
    misses = 0;
    if (m.view_id === viewId) { clearTimeout(timer); if (note.classList.contains('gc-wait')) say(''); }
    if (m.tell === 'marked') {
      told(m);
      learnt(m.live);
      if (m.view_id !== viewId) return;
      if (m.note) say(m.note);
      // who marks one after the other is not held up by what is looked for meanwhile
      const of = marked;
      if (of && m.states.some(s => s.id === of.id && s.action === of.action)) setTimeout(() => { if (marked === of && !gone) quiet({ask: 'alike', id: of.id}); }, 120);
      return;
    }
    if (m.view_id !== viewId) return;
    if (m.tell === 'alike') return offered(m);
    if (m.tell === 'live') return learnt(m.live);
    if (m.tell === 'pictures' && m.seq === 'alike') return offerPictures(m, buffers);
    if (m.tell === 'error') { told(m); grid.classList.remove('gc-loading'); return say(m.error, 'error'); }
    if (m.tell === 'open') {
      info = m;
      ({view = 'grid', page = 0, filters = {}} = m.where);
      if (!m.where.filters && m.live) filters = {decided: 'undecided'};
      else if (!m.where.filters && m.suggested) filters = {reason: 'suggested'};
      learnt(m.live);
      frame();
      tally(m.counts);
      return go(page);
    }
    if (m.seq !== seq && !m.large) return;
    if (m.tell === 'page') show(m);
    if (m.tell === 'pictures') pictures(m, buffers);
  };
  model.on('msg:custom', onMsg);
  model.on('comm_live_update', parted); // what front ends tell when a kernel is restarted
  skeleton(12);
  ask({ask: 'open'});
  return () => {
    gone = true;
    model.off('msg:custom', onMsg);
    model.off('comm_live_update', parted);
    window.removeEventListener('keydown', onKey, true);
    clearTimeout(timer);
    clearTimeout(poll);
    watch.disconnect();
    inView.grid = false;
    unoffer();
    chipped();
    urls.forEach(u => URL.revokeObjectURL(u));
    if (big.open) big.close();
  };
}

export default {render};
