// Collects the results of a Google Images page into NAME.csv (url,label,rank,width,height,source).
// Paste it into the browser's console on a page of results. It sends nothing anywhere; the rules are those of genre_fastai.collect.google.google_urls.
// It reads what stands in the page, scrolls for more, and opens the tiles that hold nothing but a thumbnail, one by one, without leaving the page.
((name, wanted, tick = 600, patience = 15) => {
  if (window.genreUrls && window.genreUrls.stop) window.genreUrls.stop('Started again.');
  const found = new Map(), thumbs = new Map(), pages = new Map(), ids = new Set(), smalls = new Set(), tileIds = new Set();
  const state = {done: false, rows: [], csv: '', message: '', tiles: 0, full: 0, left: 0};

  // ---- reading: the same shapes and the same order of trust as in Python
  const n = '\\s{0,20},\\s{0,20}(\\d{1,5})', pair = '\\[\\s{0,20}"(https?://[^"\\s]{1,4000})"' + n + n;
  const triples = '"([^"\\s]{1,100})"\\s{0,20},\\s{0,20}' + pair + '\\s{0,20}\\]\\s{0,20},\\s{0,20}' + pair;
  const page2003 = /"2003"\s{0,20}:\s{0,20}\[[^\[\]"]{0,100}(?:"[^"]{0,300}"\s{0,20},\s{0,20}){0,2}"(https?:\/\/[^"\s]{1,4000})"/;
  const googles = /^(?:https?:\/\/(?:[\w.-]*\.)?(?:gstatic\.com|www\.google\.[a-z.]{2,6})(?:[:\/?]|$)|https?:\/\/[^?]{0,300}\/images\?q=tbn:)/i;
  const amp = s => s.replace(/&(?:amp|#38|#x26);/g, '&');
  const tbn = /^https?:\/\/(?:encrypted-tbn\d{0,2}\.gstatic\.com\/(?!favicon)|[^?]{0,300}\/images\?q=tbn:)/i;
  const outside = u => u && /^https?:/.test(u) && !googles.test(u) ? u : '';

  const plain = text => {
    for (let i = 0; i < 4 && text.includes('\\'); i++)
      text = text.replace(/\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))/g,
        (_, u, x, c) => u || x ? String.fromCharCode(parseInt(u || x, 16)) : 'bfnrt'.includes(c) ? ' ' : c);
    return text;
  };

  // what nobody sees (marks that turn the direction of writing, say) is written as %XX
  const shown = url => url.replace(/[\0-\x20\x7f-\xa0\xad\u061c\u115f\u180e\u200b-\u200f\u2028-\u202f\u205f-\u206f\ufeff\ufff9-\ufffb]/g, encodeURIComponent);

  const clean = url => {
    url = String(url || '').trim().split('#', 1)[0];
    if (!/^https?:\/\/[^\/?]/i.test(url) || url.length > 8192 || /[\x00-\x1f\x7f]/.test(url)) return '';
    try { new URL(url); } catch (e) { return ''; }
    return shown(url.replace(/\s/g, '%20'));
  };
  const source = url => clean(url) && outside(shown(url.trim()));

  const add = (row, into = found) => {
    const url = clean(row.url);
    if (!url || (into === found && googles.test(url))) return '';
    const old = into.get(url) || {};
    if (!old.url && row.viewer && state.tiles) state.full++;
    for (const [k, v] of Object.entries({...row, url})) old[k] = old[k] || v || '';
    into.set(url, old);
    if (row.id) ids.add(row.id);
    return url;
  };

  const finders = [
    (text, add) => {
      for (const m of text.matchAll(new RegExp(triples, 'g'))) {
        let after = text.slice(m.index + m[0].length, m.index + m[0].length + 3000);
        const next = after.search(new RegExp(triples));
        if (next >= 0) after = after.slice(0, next);
        smalls.add(m[2]);
        add({id: m[1], url: m[5], height: m[6], width: m[7], source: (page2003.exec(after) || [])[1]});
      }
    },
    (text, add) => {
      const small = new Set(Array.from(text.matchAll(new RegExp(triples, 'g')), m => m[2]));
      for (const m of text.matchAll(new RegExp(pair, 'g'))) if (!small.has(m[1])) add({url: m[1], height: m[2], width: m[3]});
    },
    (text, add) => {
      for (const m of text.matchAll(/imgres\?([^"'\s<>\\]{1,9000})/g)) {
        const q = new URLSearchParams(amp(m[1]));
        if (q.get('imgurl')) add({id: q.get('tbnid'), url: q.get('imgurl'), width: q.get('w'), height: q.get('h'), source: q.get('imgrefurl')});
      }
    },
    (text, add) => {
      for (const m of text.matchAll(/"ou"\s{0,5}:\s{0,5}"(https?:\/\/[^"\s]{1,4000})"/g)) {
        const end = m.index + m[0].length, before = text.slice(Math.max(0, m.index - 3000), m.index), after = text.slice(end, end + 3000);
        const near = before.slice(before.lastIndexOf('{') + 1) + ',' + (after.includes('}') ? after.slice(0, after.indexOf('}')) : '');
        const of = (k, v) => (new RegExp('"' + k + '"\\s{0,5}:\\s{0,5}"?(' + v + ')').exec(near) || [])[1];
        smalls.add(amp(of('tu', 'https?://[^"\\s]{1,4000}') || ''));
        add({url: amp(m[1]), width: of('ow', '\\d{1,5}'), height: of('oh', '\\d{1,5}'), source: amp(of('ru', 'https?://[^"\\s]{1,4000}') || '')});
      }
    },
  ];
  // an open viewer asks for pictures that are like its own: from then on an answer only counts for the tiles of the search
  const read = (text, strict = false) => {
    if (!text || text.length > 32 << 20) return;
    const t = plain(text);
    finders.forEach(f => f(t, row => (strict && !tileIds.has(row.id)) || add(row)));
  };

  // ---- the viewer: what stands beside its picture, and is none of the tiles seen so far, is no result
  let known = [], picture = null;
  const viewerRoom = () => {
    const holds = el => known.some(t => el.contains(t));
    let room = document.querySelector(viewer) || picture;
    if (!room || !known.length || !room.isConnected) return () => false;
    while (room.parentElement && !holds(room.parentElement)) room = room.parentElement;
    return el => room.contains(el);
  };

  // ---- the elements: source pages of tiles, the viewer, thumbnails
  const viewer = 'img[jsname=kn3ccd], img.n3VNCb, img.iPVvYb, img.r48jcc, img.sFlh5c', idNames = ['data-docid', 'data-tbnid', 'data-id'];
  const get = (el, k) => el.getAttribute(k) || '';
  const linkOf = el => { const a = el.closest('a[href]'); return a ? outside(get(a, 'href')) : ''; };
  const thumbOf = el => get(el, 'data-iurl') || [get(el, 'data-src'), get(el, 'src')].find(u => tbn.test(u)) || '';
  const readViewer = () => document.querySelectorAll(viewer).forEach(el => add({url: get(el, 'src'), source: linkOf(el), viewer: true}));
  const readElements = () => {
    const put = (el, page) => idNames.forEach(a => { const i = get(el, a); if (i && page && !pages.has(i)) pages.set(i, page); });
    document.querySelectorAll('[data-lpage]').forEach(el => put(el, get(el, 'data-lpage')));
    document.querySelectorAll('a[href]').forEach(a => {
      const page = outside(get(a, 'href'));
      for (let el = a.parentElement, i = 0; page && el && i < 8; el = el.parentElement, i++) put(el, page);
    });
    readViewer();
    const inRoom = viewerRoom();
    document.querySelectorAll('img').forEach(el => {
      const url = thumbOf(el);
      if (url && !el.matches(viewer) && !inRoom(el)) add({url, kind: 'thumbnail'}, thumbs);
    });
  };

  // ---- what is new on the page: each script and link is read once
  const seen = new WeakMap();
  const readNew = () => {
    const texts = [], links = [], inRoom = viewerRoom();
    document.querySelectorAll('script:not([src]), .rg_meta, a[href*="imgres"]').forEach(el => {
      const isLink = el.tagName === 'A', text = isLink ? get(el, 'href') : el.textContent;
      if (seen.get(el) === text || (isLink && inRoom(el))) return;
      seen.set(el, text);
      (isLink ? links : texts).push(text);
    });
    if (state.tiles) { read(texts.join('\n'), true); read(links.join('\n')); } else read(texts.concat(links).join('\n'));
    readElements();
  };

  // ---- hooks come before the first scroll: what arrives later never stands in the page's own scripts
  const fetch0 = window.fetch, send0 = XMLHttpRequest.prototype.send;
  const answerOf = x => x.responseType === '' || x.responseType === 'text' ? x.responseText :
    x.responseType === 'json' ? JSON.stringify(x.response) : x.response instanceof ArrayBuffer ? new TextDecoder().decode(x.response) : '';
  const quietly = f => { try { f(); } catch (e) { console.warn('genre_fastai: an answer could not be read', e); } };
  const fetch1 = async function (...args) {
    const answer = await fetch0.apply(window, args);
    quietly(() => answer.clone().text().then(t => quietly(() => read(t, state.tiles > 0)), () => console.warn('genre_fastai: an answer was cut off')));
    return answer;
  };
  const send1 = function (...args) {
    this.addEventListener('load', () => quietly(() => read(answerOf(this), state.tiles > 0)));
    return send0.apply(this, args);
  };
  window.fetch = fetch1;
  XMLHttpRequest.prototype.send = send1;

  // ---- the panel: elements and texts only, because innerHTML throws under Trusted Types
  const make = (tag, text, css, parent = document.body || document.documentElement) => {
    const el = document.createElement(tag);
    el.textContent = text;
    el.style.cssText = css;
    parent.append(el);
    return el;
  };
  const panel = make('div', '', 'position:fixed;right:16px;bottom:16px;z-index:2147483647;width:300px;padding:14px 16px;background:#fff;color:#202124;' +
    'border:1px solid #dadce0;border-radius:10px;box-shadow:0 4px 16px rgba(0,0,0,.3);font:14px/1.4 system-ui,sans-serif');
  panel.id = 'genre-urls';
  panel.setAttribute('role', 'status');
  const head = make('div', 'Collecting "' + name + '"', 'font-weight:600;margin-bottom:6px;overflow-wrap:anywhere', panel);
  const bar = make('progress', '', 'width:100%;height:10px', panel);
  bar.max = wanted; bar.value = 0;
  bar.setAttribute('aria-label', 'addresses found');
  const line = make('div', 'Reading the page ...', 'margin:6px 0 10px;overflow-wrap:anywhere', panel);
  const button = make('button', 'Stop and save', 'font:inherit;padding:4px 12px;cursor:pointer', panel);
  button.type = 'button';
  const say = text => {
    line.textContent = state.message = text;
    bar.value = Math.min(found.size, wanted);
    if (!panel.isConnected) (document.body || document.documentElement).append(panel); // the page has made itself anew
  };

  // ---- the csv: quoted where needed; a cell that a spreadsheet would execute gets an apostrophe
  const cell = v => {
    v = String(v === undefined || v === null ? '' : v);
    if (/^'*[=+\-@\t\r]/.test(v) && !/^[+-]?\d+(\.\d+)?$/.test(v)) v = "'" + v;
    return /[",\r\n]/.test(v) ? '"' + v.replace(/"/g, '""') + '"' : v;
  };
  const save = () => {
    const list = found.size ? found : thumbs, columns = ['url', 'label', 'rank', 'width', 'height', 'source'].concat(found.size ? [] : ['kind']);
    state.rows = Array.from(list.values()).slice(0, wanted).map((o, i) =>
      ({...o, label: name, rank: i + 1, source: source(o.source) || source(pages.get(o.id))}));
    state.csv = [columns].concat(state.rows.map(o => columns.map(c => o[c]))).map(r => r.map(cell).join(',')).join('\n') + '\n';
    if (state.rows.length) offer();
  };
  const offer = () => {
    const a = make('a', '', 'display:none');
    a.href = URL.createObjectURL(new Blob([state.csv], {type: 'text/csv;charset=utf-8'}));
    a.download = name + '.csv';
    a.click();
    setTimeout(() => { URL.revokeObjectURL(a.href); a.remove(); }, 60000);
  };

  const some = (n, what, s = 's') => n + ' ' + what + (n === 1 ? '' : s);
  const missing = () => Math.max(0, state.tiles - state.full);
  const opened = () => (state.tiles ? ' Opened ' + some(state.tiles, 'tile') + ': ' + some(state.full, 'full picture') + ', ' + missing() + ' without a new one.' : '') +
    (state.left ? ' ' + some(state.left, 'tile') + ' led elsewhere (advertisements, related searches).' : '');
  const finish = (why, same = true) => {
    if (state.done) return;
    state.done = true;
    clearInterval(timer);
    unhook();
    if (same) quietly(() => { if (!state.tiles) read(document.documentElement.outerHTML); readNew(); });
    save();
    const count = state.rows.length;
    if (found.size) say(why + opened() + ' Saved ' + some(count, 'address', 'es') + ' to ' + name + '.csv.');
    else if (count) say('Only thumbnails were found: saved ' + some(count, 'small picture') + ' to ' + name + '.csv, marked in the column "kind".' + opened());
    else say('Nothing was found on this page. Looked for: addresses with sizes in scripts and answers, links to /imgres, result JSON ("ou"), the viewer, thumbnails. ' +
      'Is this a page of image results, with no consent form or robot check before it? Nothing was saved.');
    console.log('genre_fastai: ' + state.message);
    head.textContent = 'Collected "' + name + '"';
    button.textContent = 'Close';
    button.onclick = () => panel.remove();
    if (!count) return;
    const again = make('button', 'Save again', 'font:inherit;padding:4px 12px;margin-left:8px;cursor:pointer', panel);
    again.type = 'button';
    again.onclick = offer;
  };
  state.stop = why => { finish(why || 'Stopped.'); panel.remove(); };
  button.onclick = () => finish('Stopped.');

  // ---- the tiles: results that show a thumbnail, each once
  const tile = '[data-docid], [data-tbnid], [data-id], [jsname=dTDiAc], .isv-r, .eA0Zlc, .ivg-i';
  const done = new WeakSet(), doneIds = new Set();
  const tiles = () => {
    const list = new Map(), inRoom = viewerRoom();
    document.querySelectorAll('img').forEach(img => {
      const el = img.closest(tile) || img.closest('a, [role=button], [role=listitem]') || img, width = img.getBoundingClientRect().width;
      if (list.has(el) || !el.getClientRects().length || panel.contains(img) || inRoom(img) || img.matches(viewer) || (width && width < 40)) return;
      if (!thumbOf(img) && !(el.matches(tile) && /^(data:|x-raw-image:|$)/.test(get(img, 'src')))) return;
      list.set(el, {el, img, ids: Array.from(new Set(idNames.map(a => get(el, a)).filter(i => i))), thumb: thumbOf(img), page: outside(get(el, 'data-lpage'))});
    });
    return Array.from(list.values());
  };
  const imgres = el => Array.from(el.querySelectorAll('a[href*="imgres?"]')).concat(el.closest('a[href*="imgres?"]') || [])
    .map(a => new URLSearchParams(get(a, 'href').split('?')[1])).find(q => outside(q.get('imgurl')));
  const isKnown = t => t.ids.some(i => ids.has(i)) || (t.thumb && smalls.has(t.thumb)) || !!imgres(t.el);
  // an advertisement or a related search: its link leads to other results, or out of the page
  const elsewhere = t => {
    const a = t.img.closest('a[href]'), to = a ? get(a, 'href') : '';
    return /\/aclk\?|googleadservices\.|doubleclick\.|^(https?:\/\/www\.google\.[a-z.]{2,6})?\/(search|url|maps)\?/.test(to) || (!t.ids.length && !!outside(to));
  };
  const toOpen = () => {
    const all = tiles(), twice = new Set(doneIds), again = i => twice.has(i) || !twice.add(i); // a result may be listed twice
    const fresh = all.filter(t => !done.has(t.el) && !t.ids.filter(again).length);
    known = Array.from(new Set(all.map(t => t.el).concat(known.filter(el => el.isConnected)))).slice(0, 2000);
    all.forEach(t => t.ids.forEach(i => tileIds.add(i)));
    fresh.filter(elsewhere).forEach(t => { done.add(t.el); state.left++; });
    // what the scripts hold without naming its tile belongs to the first tiles
    const loose = Array.from(found.values()).filter(o => !o.viewer).length - all.filter(isKnown).length;
    return fresh.filter(t => !done.has(t.el) && !isKnown(t)).slice(Math.max(0, loose));
  };

  // ---- opening a tile, as a mouse does it; the page is not left, and no tab opens
  const mouse = kind => new MouseEvent(kind, {bubbles: true, cancelable: true, composed: true, view: window, button: 0, detail: 1});
  const press = el => {
    const click = mouse('click'), stay = () => click.preventDefault();
    for (const k of ['stopPropagation', 'stopImmediatePropagation']) click[k] = () => { stay(); Event.prototype[k].call(click); };
    window.addEventListener('click', stay);
    try {
      ['mouseover', 'mousedown', 'mouseup'].forEach(k => el.dispatchEvent(mouse(k)));
      el.dispatchEvent(click);
    } finally { window.removeEventListener('click', stay); }
  };
  const isFull = el => { const u = clean(get(el, 'src')); return u && !googles.test(u); };
  const inSight = (el, least = 2) => {
    const b = el.getBoundingClientRect();
    return b.width >= least && b.height >= least && b.bottom > 0 && b.right > 0 && b.top < window.innerHeight && b.left < window.innerWidth;
  };
  // the viewer's pictures; where its names are new, any large picture that is no tile
  const pictures = () => {
    const list = Array.from(document.querySelectorAll(viewer));
    if (list.some(el => inSight(el))) return list.filter(isFull);
    return Array.from(document.querySelectorAll('img')).filter(el => inSight(el, 150) && isFull(el) && !known.some(t => t.contains(el)));
  };
  const host = u => new URL(u).host.replace(/^www\./, '');
  const nap = ms => new Promise(f => setTimeout(f, ms));
  let late = false; // the last tile's picture did not come in time: it may still come, while the next tile is open

  const openTile = async t => {
    done.add(t.el);
    t.ids.forEach(i => doneIds.add(i));
    state.tiles++;
    t.el.scrollIntoView({block: 'center'});
    const old = new Set(pictures().map(el => get(el, 'src'))), oldInSight = new Set(pictures().filter(el => inSight(el)).map(el => get(el, 'src')));
    const isNew = el => { const u = get(el, 'src'); return !old.has(u) || (inSight(el) && !oldInSight.has(u)); };
    let end = performance.now() + 10 * tick;
    const got = () => { late = false; return true; };
    press(t.img);
    while (!state.done && performance.now() < end) {
      await nap(tick / 6);
      if (document.hidden) end = performance.now() + 10 * tick; // nothing is shown meanwhile
      const q = imgres(t.el); // the link of a tile may tell as soon as it is pressed
      if (q) { add({url: q.get('imgurl'), width: q.get('w'), height: q.get('h'), source: t.page, id: t.ids[0], viewer: true}); return got(); }
      const el = pictures().find(isNew);
      if (!el) continue;
      picture = el;
      const link = linkOf(el), url = add({url: get(el, 'src'), source: link, viewer: true});
      if (late && link && t.page && host(link) !== host(t.page)) { old.add(get(el, 'src')); oldInSight.add(get(el, 'src')); continue; }
      if (!late) add({url, id: t.ids[0], source: t.page});
      return got();
    }
    late = true;
    return false;
  };

  const awake = async () => {
    while (document.hidden && !state.done) { say('Waiting: bring this tab to the front, or the page shows no pictures.'); await nap(tick); }
  };
  let opening = false, closed = false;
  const openAll = async list => {
    opening = true;
    arriving.observe(document, {subtree: true, childList: true, attributes: true, attributeFilter: ['src']});
    const began = performance.now();
    let missed = 0;
    for (const [i, t] of list.entries()) {
      await awake();
      if (state.done || found.size >= wanted || another()) break;
      if (!t.el.isConnected) continue;
      const ahead = list.length - i, secs = Math.ceil((performance.now() - began) / i * Math.min(ahead, wanted - found.size) / 1000);
      say('Opening tile ' + (state.tiles + 1) + ' of ' + (state.tiles + ahead) + '. Found ' + found.size + ' of ' + wanted +
        (missing() ? '; ' + some(missing(), 'tile') + ' gave no new picture' : '') +
        (i < 5 ? '.' : '. About ' + (secs < 90 ? some(secs, 'second') : Math.round(secs / 60) + ' minutes') + ' left.'));
      missed = await openTile(t) ? 0 : missed + 1;
      if (missed >= (state.full ? patience : 5)) { closed = true; break; }
      await nap(tick / 4);
    }
    opening = false; still = 0; last = '';
    if (!state.done) step();
  };

  // ---- nothing that the page does costs what was found: leaving is refused where a click of ours began it, and saved before otherwise
  const query = () => new URLSearchParams(location.search).get('q'), asked = query(), another = () => !!query() && query() !== asked;
  const stay = e => { if (opening && !e.userInitiated && !e.destination.sameDocument && !e.downloadRequest && e.cancelable) e.preventDefault(); };
  const leave = () => finish('The page was left.');
  const arriving = new MutationObserver(() => quietly(readViewer));
  const open0 = window.open, open1 = function (...args) { return opening ? null : open0.apply(window, args); };
  window.open = open1;
  window.addEventListener('pagehide', leave);
  if (window.navigation) window.navigation.addEventListener('navigate', stay);
  const unhook = () => {
    arriving.disconnect();
    if (window.fetch === fetch1) window.fetch = fetch0;
    if (XMLHttpRequest.prototype.send === send1) XMLHttpRequest.prototype.send = send0;
    if (window.open === open1) window.open = open0;
    window.removeEventListener('pagehide', leave);
    if (window.navigation) window.navigation.removeEventListener('navigate', stay);
  };

  // ---- scroll until there are enough, or nothing more comes; then open what shows a thumbnail only
  const more = () => {
    const el = document.querySelector('input.mye4qd, .GNJvt, a[jsname=oHxHid]');
    if (el && el.getClientRects().length) el.click();
  };
  let still = 0, last = '', faults = 0;
  const look = () => {
    if (another()) return finish('The page shows another search now.', false);
    quietly(readNew);
    say(found.size + ' of ' + wanted + ' found');
    if (found.size >= wanted) return finish('Done.');
    const list = closed ? [] : toOpen(), now = [found.size, thumbs.size, list.length, document.documentElement.scrollHeight].join();
    still = now === last ? still + 1 : 0;
    last = now;
    if (list.length && (found.size + list.length >= wanted || still >= patience / 3)) return openAll(list).catch(broken);
    if (still >= patience) return finish(closed ? 'Too many tiles gave no full picture, so the rest stayed closed.' : 'The page has no more.');
    window.scrollTo(0, document.documentElement.scrollHeight);
    more();
  };
  const broken = e => { console.warn('genre_fastai:', e); finish('The page broke (' + e.message + ').'); };
  const step = () => {
    if (opening || state.done) return;
    try { look(); faults = 0; } catch (e) { if (++faults >= 5) broken(e); }
  };
  window.genreUrls = state;
  const timer = setInterval(step, tick);
  step();
})('images', 200);
