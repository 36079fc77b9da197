// Collects the results of a Google Images page into NAME.csv (url,label,rank,width,height,source).
// Paste it into the browser's console on a page of results. It sends nothing anywhere; the rules are those of genre_fastai.collect.google.google_urls.
((name, wanted, tick = 600, patience = 15) => {
  if (window.genreUrls && window.genreUrls.stop) window.genreUrls.stop('Started again.');
  const found = new Map(), thumbs = new Map(), pages = new Map(), state = {done: false, rows: [], csv: '', message: ''};

  // ---- reading: the same shapes and the same order of trust as in Python
  const n = '\\s{0,20},\\s{0,20}(\\d{1,5})', pair = '\\[\\s{0,20}"(https?://[^"\\s]{1,4000})"' + n + n;
  const triples = '"([^"\\s]{1,100})"\\s{0,20},\\s{0,20}' + pair + '\\s{0,20}\\]\\s{0,20},\\s{0,20}' + pair;
  const page2003 = /"2003"\s{0,20}:\s{0,20}\[[^\[\]"]{0,100}(?:"[^"]{0,300}"\s{0,20},\s{0,20}){0,2}"(https?:\/\/[^"\s]{1,4000})"/;
  const googles = /^(?:https?:\/\/(?:[\w.-]*\.)?(?:gstatic\.com|www\.google\.[a-z.]{2,6})(?:[:\/?]|$)|https?:\/\/[^?]{0,300}\/images\?q=tbn:)/i;
  const amp = s => s.replace(/&(?:amp|#38|#x26);/g, '&');
  const outside = u => u && /^https?:/.test(u) && !googles.test(u) ? u : '';

  const plain = text => {
    for (let i = 0; i < 4 && text.includes('\\'); i++)
      text = text.replace(/\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))/g,
        (_, u, x, c) => u || x ? String.fromCharCode(parseInt(u || x, 16)) : 'bfnrt'.includes(c) ? ' ' : c);
    return text;
  };

  const clean = url => {
    url = String(url || '').trim().split('#', 1)[0];
    if (!/^https?:\/\/[^\/?]/i.test(url) || url.length > 8192 || /[\x00-\x1f\x7f]/.test(url)) return '';
    try { new URL(url); } catch (e) { return ''; }
    return url.replace(/\s/g, '%20');
  };

  const add = (row, into = found) => {
    const url = clean(row.url);
    if (!url || (into === found && googles.test(url))) return;
    const old = into.get(url) || {};
    for (const [k, v] of Object.entries({...row, url})) old[k] = old[k] || v || '';
    into.set(url, old);
  };

  const finders = [
    text => {
      for (const m of text.matchAll(new RegExp(triples, 'g'))) {
        let after = text.slice(m.index + m[0].length, m.index + m[0].length + 3000);
        const next = after.search(new RegExp(triples));
        if (next >= 0) after = after.slice(0, next);
        add({id: m[1], url: m[5], height: m[6], width: m[7], source: (page2003.exec(after) || [])[1]});
      }
    },
    text => {
      const small = new Set(Array.from(text.matchAll(new RegExp(triples, 'g')), m => m[2]));
      for (const m of text.matchAll(new RegExp(pair, 'g'))) if (!small.has(m[1])) add({url: m[1], height: m[2], width: m[3]});
    },
    text => {
      for (const m of text.matchAll(/imgres\?([^"'\s<>\\]{1,9000})/g)) {
        const q = new URLSearchParams(amp(m[1]));
        if (q.get('imgurl')) add({id: q.get('tbnid'), url: q.get('imgurl'), width: q.get('w'), height: q.get('h'), source: q.get('imgrefurl')});
      }
    },
    text => {
      for (const m of text.matchAll(/"ou"\s{0,5}:\s{0,5}"(https?:\/\/[^"\s]{1,4000})"/g)) {
        const end = m.index + m[0].length, before = text.slice(Math.max(0, m.index - 3000), m.index), after = text.slice(end, end + 3000);
        const near = before.slice(before.lastIndexOf('{') + 1) + ',' + (after.includes('}') ? after.slice(0, after.indexOf('}')) : '');
        const of = (k, v) => (new RegExp('"' + k + '"\\s*:\\s*"?(' + v + ')').exec(near) || [])[1];
        add({url: amp(m[1]), width: of('ow', '\\d+'), height: of('oh', '\\d+'), source: amp(of('ru', 'https?://[^"\\s]+') || '')});
      }
    },
  ];
  const read = text => {
    if (!text || text.length > 32 << 20) return;
    const t = plain(text);
    finders.forEach(f => f(t));
  };

  const readElements = () => {
    const ids = ['data-docid', 'data-tbnid', 'data-id'];
    const put = (el, page) => ids.forEach(a => { const i = el.getAttribute(a); if (i && page && !pages.has(i)) pages.set(i, page); });
    document.querySelectorAll('[data-lpage]').forEach(el => put(el, el.getAttribute('data-lpage')));
    document.querySelectorAll('a[href]').forEach(a => {
      const page = outside(a.getAttribute('href'));
      for (let el = a.parentElement, i = 0; page && el && i < 8; el = el.parentElement, i++) put(el, page);
    });
    document.querySelectorAll('img[jsname=kn3ccd], img.n3VNCb, img.iPVvYb, img.r48jcc, img.sFlh5c').forEach(el => {
      const a = el.closest('a[href]');
      add({url: el.getAttribute('src'), source: a && outside(a.getAttribute('href'))});
    });
    document.querySelectorAll('img').forEach(el => {
      const lazy = el.getAttribute('data-iurl') || el.getAttribute('data-src'), url = lazy || el.getAttribute('src') || '';
      if (lazy || googles.test(url)) add({url, kind: 'thumbnail'}, thumbs);
    });
  };

  // ---- what is new on the page: each script and link is read once
  const seen = new WeakMap();
  const readNew = () => {
    const texts = [];
    document.querySelectorAll('script:not([src]), .rg_meta, a[href*="imgres"]').forEach(el => {
      const text = el.tagName === 'A' ? el.getAttribute('href') : el.textContent;
      if (seen.get(el) !== text) { seen.set(el, text); texts.push(text); }
    });
    read(texts.join('\n'));
    readElements();
  };

  // ---- hooks come before the first scroll: what arrives later never stands in the page's own scripts
  const fetch0 = window.fetch, send0 = XMLHttpRequest.prototype.send;
  const answerOf = x => x.responseType === '' || x.responseType === 'text' ? x.responseText :
    x.responseType === 'json' ? JSON.stringify(x.response) : x.response instanceof ArrayBuffer ? new TextDecoder().decode(x.response) : '';
  const quietly = f => { try { f(); } catch (e) { console.warn('genre_fastai: an answer could not be read', e); } };
  const fetch1 = async function (...args) {
    const answer = await fetch0.apply(window, args);
    quietly(() => answer.clone().text().then(t => quietly(() => read(t)), () => console.warn('genre_fastai: an answer was cut off')));
    return answer;
  };
  const send1 = function (...args) {
    this.addEventListener('load', () => quietly(() => read(answerOf(this))));
    return send0.apply(this, args);
  };
  window.fetch = fetch1;
  XMLHttpRequest.prototype.send = send1;
  const unhook = () => {
    if (window.fetch === fetch1) window.fetch = fetch0;
    if (XMLHttpRequest.prototype.send === send1) XMLHttpRequest.prototype.send = send0;
  };

  // ---- the panel: elements and texts only, because innerHTML throws under Trusted Types
  const make = (tag, text, css, parent) => {
    const el = document.createElement(tag);
    el.textContent = text;
    el.style.cssText = css;
    parent.append(el);
    return el;
  };
  const panel = make('div', '', 'position:fixed;right:16px;bottom:16px;z-index:2147483647;width:300px;padding:14px 16px;background:#fff;color:#202124;' +
    'border:1px solid #dadce0;border-radius:10px;box-shadow:0 4px 16px rgba(0,0,0,.3);font:14px/1.4 system-ui,sans-serif', document.body);
  panel.id = 'genre-urls';
  panel.setAttribute('role', 'status');
  make('div', 'Collecting "' + name + '"', 'font-weight:600;margin-bottom:6px;overflow-wrap:anywhere', panel);
  const bar = make('progress', '', 'width:100%;height:10px', panel);
  bar.max = wanted; bar.value = 0;
  const line = make('div', 'Reading the page ...', 'margin:6px 0 10px;overflow-wrap:anywhere', panel);
  const button = make('button', 'Stop and save', 'font:inherit;padding:4px 12px;cursor:pointer', panel);
  button.type = 'button';
  const say = text => { line.textContent = state.message = text; };

  // ---- the csv: quoted where needed; a cell that a spreadsheet would execute gets an apostrophe
  const cell = v => {
    v = String(v === undefined || v === null ? '' : v);
    if (/^'*[=+\-@\t\r]/.test(v) && !/^[+-]?\d+(\.\d+)?$/.test(v)) v = "'" + v;
    return /[",\r\n]/.test(v) ? '"' + v.replace(/"/g, '""') + '"' : v;
  };
  const save = () => {
    const list = found.size ? found : thumbs, columns = ['url', 'label', 'rank', 'width', 'height', 'source'].concat(found.size ? [] : ['kind']);
    state.rows = Array.from(list.values()).slice(0, wanted).map((o, i) =>
      ({...o, label: name, rank: i + 1, source: outside(o.source) || outside(pages.get(o.id))}));
    state.csv = [columns].concat(state.rows.map(o => columns.map(c => o[c]))).map(r => r.map(cell).join(',')).join('\n') + '\n';
    if (!state.rows.length) return;
    const a = make('a', '', 'display:none', document.body);
    a.href = URL.createObjectURL(new Blob([state.csv], {type: 'text/csv;charset=utf-8'}));
    a.download = name + '.csv';
    a.click();
    setTimeout(() => { URL.revokeObjectURL(a.href); a.remove(); }, 60000);
  };

  const finish = why => {
    if (state.done) return;
    state.done = true;
    clearInterval(timer);
    unhook();
    quietly(() => { read(document.documentElement.outerHTML); readElements(); });
    save();
    const count = state.rows.length;
    bar.value = Math.min(count, wanted);
    if (found.size) say(why + ' Saved ' + count + ' addresses to ' + name + '.csv.');
    else if (count) say('Only thumbnails were found: saved ' + count + ' small pictures to ' + name + '.csv, marked in the column "kind".');
    else say('Nothing was found on this page. Looked for: addresses with sizes in scripts and answers, links to /imgres, result JSON ("ou"), the viewer, thumbnails. ' +
      'Is this a page of image results, with no consent form or robot check before it? Nothing was saved.');
    console.log('genre_fastai: ' + state.message);
    button.textContent = 'Close';
    button.onclick = () => panel.remove();
  };
  state.stop = why => { finish(why || 'Stopped.'); panel.remove(); };
  button.onclick = () => finish('Stopped.');

  // ---- scroll until there are enough, or nothing more comes
  const more = () => {
    const el = document.querySelector('input.mye4qd, .GNJvt, a[jsname=oHxHid]');
    if (el && el.getClientRects().length) el.click();
  };
  let still = 0, last = '';
  const step = () => {
    quietly(readNew);
    bar.value = Math.min(found.size, wanted);
    say(found.size + ' of ' + wanted + ' found');
    if (found.size >= wanted) return finish('Done.');
    const now = found.size + ' ' + thumbs.size + ' ' + document.documentElement.scrollHeight;
    still = now === last ? still + 1 : 0;
    last = now;
    if (still >= patience) return finish('The page has no more.');
    window.scrollTo(0, document.documentElement.scrollHeight);
    more();
  };
  window.genreUrls = state;
  const timer = setInterval(step, tick);
  step();
})('images', 200);
