// Draws what vcpuid's answers say, out of one document (vcpuid/explore/1). It works out nothing but which of it matches a filter, and
// puts text into the page as text alone. The state of the view is the address's fragment; nothing is stored, nothing is sent elsewhere.

const VIEWS = { bits: "Bits", table: "Table", compare: "Compare", models: "Models", leaves: "Leaves", hazards: "Hazards" };
const CHANGES = { lost: "▼ lost", gained: "▲ made up", "put back": "▲ added by KVM", "not told": "? not told" };
const VALUES = { yes: "yes", no: "no", open: "not told", none: "–" };
const PART = { models: "models", leaves: "leaves", hazards: "hazards" };
const ASKED = ["host", "cpu", "kernel", "qemu", "machine", "smp", "params", "what_if", "domain", "libvirt"];

// ---- the page's parts

const $ = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return node;
}

// What is there already stays as it is, with its focus and its place.
function put(node, child) {
  if (node.firstChild !== child || node.childNodes.length > 1) fill(node, child);
}

const behind = (text, mark, made = (part) => part) => text.split(mark).flatMap((part, at) => [at ? el("wbr") : null, made(part)]);

// Text with names and options in it: a line breaks between its words, behind a comma or a low line, and not inside of -cpu or avx512-fp16.
function prose(text) {
  const word = (one) => behind(one, /(?<=[,_])/, (part) => part.length > 32 ? part : el("span", { class: "whole" }, part));
  return (text ?? "").split(/(\s+)/).map((one) => (/[-_].|,./.test(one) ? word(one) : one));
}

function unpack({ shapes, values }) {
  const whole = [];
  values.forEach((value, here) => {
    if (!Array.isArray(value)) return whole.push(value);
    const parts = value.slice(1).map((place) => whole[place < 0 ? here + place : place]);
    return whole.push(value[0] ? Object.fromEntries(shapes[value[0] - 1].map((key, at) => [key, parts[at]])) : parts);
  });
  return whole.at(-1);
}

// ---- where the document comes from: this file, or whoever answers behind it

class Saved {
  constructor(document_) {
    this.live = false;
    this.begun = document_;
    this.first = "0";
    this.subjects = document_.subjects.map((parts, at) => subjectOf(parts, String(at)));
  }
  async begin() { return this.begun; }
  async subject(key) { return this.subjects[Number(key)] ?? this.subjects[0]; }
  async part(subject, name) { return subject.parts[name]; }
}

class Live {
  constructor(ask) {
    this.live = true;
    this.ask = ask;
    this.first = "";
    this.kept = new Map();
  }
  async begin() { return unpack(await this.ask("begin", {})); }
  async subject(key) {
    if (!this.kept.has(key)) {
      const parts = unpack(await this.ask("path", fromKey(key)));
      if (this.kept.size > 7) this.kept.delete(this.kept.keys().next().value);
      this.kept.set(key, subjectOf(parts, key));
    }
    return this.kept.get(key);
  }
  async part(subject, name) {
    if (!(name in subject.parts)) subject.parts[name] = unpack(await this.ask(name, fromKey(subject.key)));
    return subject.parts[name];
  }
}

async function fromServer(route, body) {
  const sent = body instanceof Blob
    ? { method: "POST", body, headers: { "Content-Type": "application/octet-stream", "X-Name": encodeURIComponent(body.name ?? "the text") } }
    : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await fetch(route, { ...sent, cache: "no-store" });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

const fromKey = (key) => Object.fromEntries([...new URLSearchParams(key)].map(([name, value]) => [name, name === "params" ? value.split(" ").filter(Boolean) : name === "what_if" ? true : value]));

function toKey(asked) {
  const found = new URLSearchParams();
  for (const name of ASKED) {
    const value = Array.isArray(asked[name]) ? asked[name].join(" ") : asked[name];
    if (value) found.set(name, value === true ? "1" : value);
  }
  return found.toString();
}

// ---- a subject as the views need it

const valueOf = (stage) => stage.value === true ? "yes" : stage.value === false ? "no" : stage.basis === "not told" ? "open" : "none";
const seen = (feature) => feature.visible === true ? "yes" : feature.visible === false ? "no" : feature.change === "not told" ? "open" : "none";

function subjectOf(parts, key) {
  const path = parts.path;
  const byId = new Map(path.features.map((feature) => [feature.id, feature]));
  const words = new Map(path.words.map((word) => [word.word, { ...word, features: new Map() }]));
  path.features.forEach((feature, at) => {
    feature.at = at;
    words.get(feature.word).features.set(feature.position, feature);
  });
  return { key, parts, path, byId, words, drawn: {} };
}

// ---- names

let names;

function index(found) {
  const cards = new Map(found.features.map((card) => [card.id, card]));
  const keys = new Map();
  for (const card of found.features) for (const text of card.spellings) add(keys, keyOf(text), card.id);
  names = { cards, keys, shared: new Map(Object.entries(found.shared)) };
}

function add(map, key, value) {
  if (!map.has(key)) map.set(key, []);
  if (!map.get(key).includes(value)) map.get(key).push(value);
}

const keyOf = (text) => text.toLowerCase().replaceAll("_", "-");
const cardOf = (feature) => names.cards.get(feature.id) ?? { id: feature.id, name: feature.feature, ask: feature.id, about: null, spellings: [feature.id] };

function places(subject) {
  if (subject.places) return subject.places;
  subject.places = new Map();
  for (const word of subject.words.values()) {
    for (const feature of word.features.values()) {
      for (const text of word.spellings) {
        add(subject.places, `${keyOf(text)} [bit ${feature.position}]`, feature.id);
        add(subject.places, `${keyOf(text)}.${feature.position}`, feature.id);
      }
    }
  }
  return subject.places;
}

function haystack(subject, feature) {
  if (!feature.haystack) {
    const card = cardOf(feature), word = subject.words.get(feature.word);
    feature.spelled = card.spellings.map(keyOf);
    feature.haystack = keyOf([...card.spellings, card.about ?? "", ...word.spellings].join("\n"));
  }
  return feature.haystack;
}

// The features that a text means, the likeliest first: those that are called so, those whose name begins so, those that have it anywhere.
function search(subject, text) {
  const bare = keyOf(text.trim()).replace(/^[+-]/, "");
  const key = bare.replace(/^(.*[:.]e[abcd]x|msr\([^)]*\))\.[\w.-]+ (\[bit \d+\])$/, "$1 $2");
  const called = names.shared.get(key) ?? names.keys.get(key) ?? places(subject).get(key) ?? [];
  const exact = called.filter((id) => subject.byId.has(id));
  const ranks = new Map(exact.map((id, at) => [id, at]));
  const begins = [], has = [], about = [];
  for (const feature of subject.path.features) {
    if (ranks.has(feature.id) || !haystack(subject, feature).includes(bare)) continue;
    (feature.spelled.some((name) => name.startsWith(bare)) ? begins : feature.spelled.some((name) => name.includes(bare)) ? has : about).push(feature.id);
  }
  for (const id of [...begins, ...has, ...about]) ranks.set(id, ranks.size);
  return { ranks, exact: exact.length };
}

// ---- the state, which the address's fragment holds

const FIRST = { view: "bits", f: "", p: "", q: "", bit: "", sort: "", side: "guest", all: "" };
let state = { ...FIRST, a: "", b: null };
let source, a, b, found;

function readState() {
  const told = new URLSearchParams(location.hash.slice(1));
  state = { a: source.first, b: null };
  for (const name of Object.keys(FIRST)) state[name] = told.get(name) ?? FIRST[name];
  if (!(state.view in VIEWS)) state.view = "bits";
  if (!source.live) {
    state.a = told.get("a") ?? "0";
    state.b = told.get("b");
    return;
  }
  const asked = (prefix) => toKey(Object.fromEntries(ASKED.filter((name) => told.has(prefix + name)).map((name) => [name, told.get(prefix + name)])));
  state.a = asked("");
  state.b = [...told.keys()].some((key) => key.startsWith("b.")) ? asked("b.") : null;
}

function fragment(changes = {}) {
  const next = { ...state, ...changes }, told = new URLSearchParams();
  if (source.live) {
    for (const [key, value] of new URLSearchParams(next.a)) told.set(key, value);
    if (next.b !== null) for (const [key, value] of new URLSearchParams(next.b)) told.set(`b.${key}`, value);
  } else {
    if (next.a !== "0") told.set("a", next.a);
    if (next.b !== null) told.set("b", next.b);
  }
  for (const name of Object.keys(FIRST)) if (next[name] !== FIRST[name]) told.set(name, next[name]);
  return `#${told}`;
}

function go(changes, replace = false) {
  const next = fragment(changes);
  Object.assign(state, changes);
  history[replace ? "replaceState" : "pushState"](null, "", next);
  return draw();
}

// ---- which features match

function filtered() {
  found = state.q ? search(a, state.q) : null;
  const wanted = (feature) =>
    (!found || found.ranks.has(feature.id)) &&
    (!state.p || feature.by === state.p) &&
    (!state.f || (state.f === "diff" ? differs(feature.id) : feature.change === state.f));
  return new Set(a.path.features.filter(wanted).map((feature) => feature.id));
}

const differs = (id) => Boolean(b) && seenIn(a, id) !== seenIn(b, id);

// What a path's guest sees of a feature, or of a bit without a name, of which there is no more than its values.
function seenIn(subject, id) {
  const feature = subject.byId.get(id);
  if (feature) return seen(feature);
  const [word, position] = unnamed(subject, id);
  return word ? unnamedValues(subject, word, position).at(-1) : "none";
}

function unnamed(subject, id) {
  subject.shorts ??= new Map([...subject.words.values()].map((word) => [word.spellings[1], word]));
  const at = id.lastIndexOf("."), word = subject.shorts.get(id.slice(0, at)), position = Number(id.slice(at + 1));
  return word && !names.cards.has(id) && position < word.width ? [word, position] : [null, 0];
}

// ---- the strip: where bits change hands

function strip(subject) {
  const features = subject.path.features;
  return subject.path.parties.map(({ party, title }) => {
    const made = features.filter((feature) => feature.by === party);
    const count = (change) => made.filter((feature) => feature.change === change).length;
    const on = features.filter((feature) => feature.stages.find((stage) => stage.party === party)?.value).length;
    const open = features.filter((feature) => feature.stages.some((stage) => stage.party === party && valueOf(stage) === "open")).length;
    return { party, title, on, open, lost: count("lost"), gained: count("gained"), returned: count("put back") };
  });
}

function drawStrip() {
  a.strip ??= strip(a);
  fill($("strip"), a.strip.map((one, at) => el("li", {},
    el("button", { type: "button", "aria-pressed": String(state.p === one.party), title: one.title, onclick: () => go({ p: state.p === one.party ? "" : one.party }) },
      el("b", {}, `${at ? "→ " : ""}${one.party}`), el("small", { class: "dim" }, prose(one.title)),
      el("span", {}, `${one.on} set `),
      one.lost ? el("span", { class: "lost" }, `▼${one.lost} lost `) : null,
      one.gained ? el("span", { class: "gained" }, `▲${one.gained} made up `) : null,
      one.returned ? el("span", { class: "gained" }, `▲${one.returned} added by KVM `) : null,
      one.open ? el("span", {}, `?${one.open} not told`) : null))));
}

// ---- the grid

const glyphs = new Map();

function glyph(values) {
  const key = values.join();
  if (!glyphs.has(key)) {
    let before = null;
    const bars = values.map((value) => {
      const known = value === "yes" || value === "no";
      const kind = known && before !== null && before !== value ? (value === "yes" ? "rise" : "fall") : value;
      if (known) before = value;
      return el("i", { class: kind });
    });
    glyphs.set(key, el("span", { class: "bits-of", "aria-hidden": "true" }, bars));
  }
  return glyphs.get(key).cloneNode(true);
}

// What the parties hand on of a bit without a name; a word's numbers are read once.
function unnamedValues(subject, word, position) {
  word.rows ??= subject.path.parties.map(({ party }) => {
    const row = word.unnamed.find((one) => one.party === party);
    return row ? [BigInt(`0x${row.open}`), row.value === null ? null : BigInt(`0x${row.value}`)] : [0n, null];
  });
  const bit = 1n << BigInt(position);
  return word.rows.map(([open, value]) => (open & bit ? "open" : value === null ? "none" : value & bit ? "yes" : "no"));
}

const fateOf = (feature) => feature.change ? `${feature.change}${feature.by ? ` by ${feature.by}` : ""}` : "";

const cellOf = new Map();

// A cell of the grid, made by copying one that looks the same.
function cell(values, named) {
  const key = `${named} ${values.join()}`;
  if (!cellOf.has(key)) {
    cellOf.set(key, el("div", { class: named ? "bit" : "bit unnamed", role: "gridcell", tabindex: "-1", "aria-selected": "false" }, glyph(values), el("b", { "aria-hidden": "true" })));
  }
  return cellOf.get(key).cloneNode(true);
}

const GUEST = { yes: "the guest sees it", no: "the guest does not see it", open: "not told whether the guest sees it", none: "of no matter to the guest" };

function grid(subject) {
  const cells = new Map(), sections = [];
  for (const word of subject.words.values()) {
    const bits = [];
    for (let position = word.width - 1; position >= 0; position -= 1) {
      const feature = word.features.get(position), values = feature ? feature.stages.map(valueOf) : unnamedValues(subject, word, position);
      const id = feature?.id ?? `${word.spellings[1]}.${position}`, made = cell(values, Boolean(feature)), fate = feature ? fateOf(feature) : "";
      made.dataset.id = id;
      made.setAttribute("aria-label", `${feature ? cardOf(feature).name : "no name"}, bit ${position}: ${GUEST[feature ? seen(feature) : values.at(-1)]}${fate ? `, ${fate}` : ""}`);
      made.lastChild.textContent = position;
      cells.set(id, made);
      bits.push(made);
    }
    sections.push(el("div", { class: "word", role: "row", "data-word": word.word },
      el("div", { class: "word-name", role: "rowheader" }, word.word, el("span", {}, word.about.replace(`${word.word} is `, ""))),
      el("div", { class: "bits", role: "none" }, bits)));
  }
  const node = el("div", { role: "grid", "aria-label": "Words of features, bit by bit", "aria-readonly": "true" }, sections);
  node.addEventListener("click", (event) => { const cell = event.target.closest(".bit"); if (cell) choose(cell.dataset.id); });
  node.addEventListener("keydown", (event) => move(event, node));
  node.addEventListener("pointerover", (event) => { const bit = event.target.closest(".bit"); if (bit) bit.title = bit.getAttribute("aria-label"); });
  const legend = el("ul", { class: "legend", "aria-label": "What the bars mean" },
    [["yes", "yes"], ["no", "no"], ["open", "not told"], ["fall", "taken away here"], ["rise", "put there here"]].map(([kind, text]) =>
      el("li", {}, el("span", { class: "bits-of" }, el("i", { class: kind })), text)),
    el("li", {}, `bars, top to bottom: ${subject.path.parties.map((one) => one.party).join(", ")}`),
    el("li", { class: "keys" }, "arrows move, Enter explains, / searches"));
  const nothing = el("p", { hidden: true }, "No feature matches.");
  return { node, cells, sections, nothing, whole: el("div", {}, legend, nothing, node) };
}

function drawBits(main) {
  const drawn = (a.drawn.grid ??= grid(a));
  const wanted = filtered(), active = Boolean(state.q || state.p || state.f);
  for (const [id, cell] of drawn.cells) {
    cell.classList.toggle("hit", active && wanted.has(id));
    cell.classList.toggle("off", active && !wanted.has(id));
    if ((cell.getAttribute("aria-selected") === "true") !== (id === state.bit)) cell.setAttribute("aria-selected", String(id === state.bit));
  }
  for (const section of drawn.sections) section.hidden = active && !section.querySelector(".hit");
  const current = drawn.cells.get(state.bit) ?? drawn.node.querySelector(".word:not([hidden]) .bit:not(.off)");
  drawn.node.querySelector('.bit[tabindex="0"]')?.setAttribute("tabindex", "-1");
  current?.setAttribute("tabindex", "0");
  drawn.nothing.hidden = wanted.size > 0 || !active;
  put(main, drawn.whole);
}

function move(event, node) {
  const cell = event.target.closest(".bit");
  if (!cell) return;
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(cell.dataset.id); return; }
  const all = [...node.querySelectorAll(".word:not([hidden]) .bit:not(.off)")], at = all.indexOf(cell);
  const word = cell.closest(".word"), own = all.filter((one) => word.contains(one));
  const steps = { ArrowRight: () => all[at + 1], ArrowLeft: () => all[at - 1], Home: () => (event.ctrlKey ? all[0] : own[0]), End: () => (event.ctrlKey ? all.at(-1) : own.at(-1)),
    PageDown: () => all[all.indexOf(own.at(-1)) + 1], PageUp: () => { const before = all[all.indexOf(own[0]) - 1]; return before && all.find((one) => before.closest(".word").contains(one)); },
    ArrowDown: () => beside(all, cell, 1), ArrowUp: () => beside(all, cell, -1) };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const next = steps[event.key]();
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// The nearest cell in the next line of cells above or below.
function beside(all, cell, way) {
  const from = cell.getBoundingClientRect(), at = all.indexOf(cell), column = from.left;
  let line = null, best = null, gap = Infinity;
  for (let number = at + way; number >= 0 && number < all.length; number += way) {
    const box = all[number].getBoundingClientRect();
    if (way * (box.top - from.top) < 5) continue;
    line ??= box.top;
    if (Math.abs(box.top - line) > 5) break;
    if (Math.abs(box.left - column) < gap) { gap = Math.abs(box.left - column); best = all[number]; }
  }
  return best;
}

// ---- tables

const td = (value, text = VALUES[value]) => el("td", { class: `value ${value}` }, text);
const ORDER = { yes: 0, open: 1, no: 2, none: 3 };

// A table that can be sorted by each column; `columns` are [key, title], `rows` have their keys to sort by.
function sorted(caption, columns, rows, sort, onsort) {
  const [key, down] = sort.startsWith("-") ? [sort.slice(1), true] : [sort, false];
  const heads = columns.map(([name, title]) => el("th", { scope: "col", "aria-sort": name === key ? (down ? "descending" : "ascending") : null },
    name ? el("button", { type: "button", onclick: () => onsort(name === key && !down ? `-${name}` : name) }, title) : title));
  const ordered = key ? [...rows].sort((one, other) => (down ? -1 : 1) * compare(one.keys[key], other.keys[key])) : rows;
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, el("table", {},
    el("caption", { class: "sr" }, caption), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, ordered.map((row) => row.node))));
}

const compare = (one, other) => one < other ? -1 : one > other ? 1 : 0;
const link = (feature) => el("a", { href: fragment({ bit: feature.id }), "data-id": feature.id }, behind(cardOf(feature).name, /(?<=_)/));

const placeOf = (feature) => [`${feature.word} `, el("span", { class: "whole" }, `[bit ${feature.position}]`)];

function tableRows(subject) {
  return subject.path.features.map((feature) => {
    const keys = { feature: cardOf(feature).name, place: feature.at, change: fateOf(feature) || "~" };
    const cells = feature.stages.map((stage) => { const value = valueOf(stage); keys[`p.${stage.party}`] = ORDER[value]; return td(value); });
    const node = el("tr", {}, el("th", { scope: "row" }, link(feature)), el("td", { class: "mono" }, placeOf(feature)), cells, el("td", {}, fateOf(feature)));
    return { keys, node, id: feature.id };
  });
}

function drawTable(main) {
  const rows = (a.drawn.rows ??= tableRows(a)), wanted = filtered();
  const columns = [["feature", "feature"], ["place", "place"], ...a.path.parties.map(({ party }) => [`p.${party}`, party]), ["change", "change"]];
  if (found) for (const row of rows) row.keys.rank = found.ranks.get(row.id) ?? Infinity;
  const sort = state.sort || (found ? "rank" : "place");
  if (a.drawn.sort !== sort || a.drawn.query !== state.q || !a.drawn.table) {
    a.drawn.table = sorted("All features, layer by layer", columns, rows, sort, (next) => go({ sort: next }));
    a.drawn.sort = sort;
    a.drawn.query = state.q;
  }
  for (const row of rows) if (row.node.hidden === wanted.has(row.id)) row.node.hidden = !row.node.hidden;
  a.drawn.counted ??= el("p", { class: "dim" });
  a.drawn.counted.textContent = `${wanted.size} of ${rows.length} features.`;
  a.drawn.listed ??= el("div", {}, a.drawn.counted);
  if (a.drawn.table.parentNode !== a.drawn.listed) fill(a.drawn.listed, a.drawn.counted, a.drawn.table);
  put(main, a.drawn.listed);
}

function drawCompare(main) {
  const choices = source.live ? null : source.subjects;
  if (!b) {
    fill(main, el("p", {}, choices && choices.length < 2 ? "This file has one path: there is nothing to compare it with." : source.live
      ? "Choose another host, CPU or software above, and press “Compare with this”." : "Choose what to compare with, above."));
    return;
  }
  const ids = [...new Set([...a.byId.keys(), ...b.byId.keys()])];
  const query = state.q ? search(a, state.q).ranks : null;
  const shown = ids.filter((id) => (state.all || differs(id)) && (!query || query.has(id)) && (!state.p || a.byId.get(id)?.by === state.p || b.byId.get(id)?.by === state.p));
  const side = (subject, id) => {
    const feature = subject.byId.get(id), value = seenIn(subject, id);
    if (feature) return [td(value), el("td", {}, glyphText(feature), fateOf(feature))];
    return [td(value, names.cards.has(id) ? "not in this kernel" : VALUES[value]), el("td", {})];
  };
  const rows = shown.map((id) => {
    const one = a.byId.get(id), other = b.byId.get(id), any = one ?? other;
    const keys = { feature: cardOf(any).name, place: one?.at ?? 1e6 + other.at, a: ORDER[seenIn(a, id)], b: ORDER[seenIn(b, id)], by: one ? fateOf(one) : "", by2: other ? fateOf(other) : "" };
    return { keys, node: el("tr", {}, el("th", { scope: "row" }, link(any)), el("td", { class: "mono" }, placeOf(any)), side(a, id), side(b, id)) };
  });
  const columns = [["feature", "feature"], ["place", "place"], ["a", "A"], ["by", "A, by layer"], ["b", "B"], ["by2", "B, by layer"]];
  fill(main,
    el("p", {}, el("button", { type: "button", "aria-pressed": String(Boolean(state.all)), onclick: () => go({ all: state.all ? "" : "1" }) }, "also what is the same"),
      ` ${shown.length} of ${ids.length} features; ${ids.filter(differs).length} differ for the guest.`),
    sorted("Two paths, bit by bit", columns, rows, state.sort || "place", (next) => go({ sort: next })));
}

const glyphText = (feature) => el("span", { class: "mono", title: feature.stages.map((stage) => `${stage.party}: ${VALUES[valueOf(stage)]}`).join(", ") },
  el("span", { "aria-hidden": "true" }, `${feature.stages.map((stage) => ({ yes: "●", no: "○", open: "?", none: "–" })[valueOf(stage)]).join("")} `),
  el("span", { class: "sr" }, feature.stages.map((stage) => `${stage.party} ${VALUES[valueOf(stage)]}`).join(", ")));

// ---- the other parts

function drawModels(main, told) {
  if (!told) { fill(main, el("p", {}, "This VMM has no CPU models.")); return; }
  const asks = (model) => [model.model, ...model.missing].some((text) => keyOf(text).includes(keyOf(state.q)));
  const rows = told.models.filter(asks).map((model) => {
    const runs = model.runs === true ? "yes" : model.runs === false ? "no" : "open";
    const open = model.depends.map((fact) => fact.name ? `${fact.name} (${fact.place})` : fact.place).join(", ");
    const apply = source.live ? el("td", {}, el("button", { type: "button", "aria-label": `Show the path of ${model.model}`, onclick: () => go({ a: toKey({ ...asked(a), cpu: model.model, domain: "" }), view: "bits" }) }, "apply")) : null;
    const lacks = [...model.missing, ...model.not_told.map((name) => `${name}?`)].join(" ");
    return { keys: { model: model.model.toLowerCase(), runs: ORDER[runs], lacks: model.missing.length, old: model.deprecated ? 0 : 1 },
      node: el("tr", {}, el("th", { scope: "row" }, prose(model.model), model.alias_of ? [" ", el("small", { class: "dim whole" }, `= ${model.alias_of}`)] : null), td(runs), el("td", {}, model.deprecated ? "deprecated" : ""),
        el("td", {}, prose(lacks), open ? el("small", { class: "dim" }, ` depends on ${open}`) : null), apply) };
  });
  const columns = [["model", "model"], ["runs", "runs"], ["old", "deprecated"], ["lacks", "what the host lacks"], ...(source.live ? [["", "show"]] : [])];
  fill(main, el("p", {}, `${told.models.filter((model) => model.runs).length} of ${told.models.length} models of this QEMU run on ${a.path.host}.`),
    told.assumes.map((one) => el("p", { class: "dim" }, `Taken for granted: ${one.taken}, ${one.because}; with ${one.otherwise} it would be otherwise: ${one.what.join(" ")}`)),
    sorted("CPU models of QEMU", columns, rows, state.sort || "model", (next) => go({ sort: next })));
}

function drawLeaves(main, told) {
  const one = told[state.side === "host" ? "host" : "guest"];
  const word = (text) => keyOf(text).includes(keyOf(state.q));
  const leaves = one.leaves.filter((leaf) => !state.q || word(`${leaf.function}.${leaf.index} ${leaf.title}`) || leaf.fields.some((field) => word(`${field.name} ${field.description}`)));
  fill(main,
    el("p", { class: "bar" }, ["guest", "host"].map((side) => el("button", { type: "button", "aria-pressed": String((state.side === "host") === (side === "host")), onclick: () => go({ side }) }, side === "guest" ? "what the guest reads" : "the host's")),
      el("span", { class: "dim" }, one.what)),
    state.q ? null : [el("pre", { class: "wrap" }, one.head.join("\n")), el("pre", { tabindex: "0", "aria-label": "Caches, topology and the XSAVE area, drawn" }, one.foot.join("\n").trim())],
    el("p", { class: "dim" }, `${leaves.length} of ${one.leaves.length} leaves and sub-leaves.`),
    leaves.map((leaf) => {
      const body = el("div", { class: "scroll" });
      const node = el("details", { open: Boolean(state.q) && leaves.length < 6 }, el("summary", {}, el("b", { class: "mono" }, `${leaf.function}.${leaf.index} `), leaf.title, " ",
        el("span", { class: "dim" }, `${leaf.fields.filter((field) => field.raw).length} of ${leaf.fields.length} fields are not 0`)), body);
      const open = () => body.childElementCount || fill(body, el("table", {}, el("thead", {}, el("tr", {}, ["register", "bits", "field", "value", "about"].map((title) => el("th", { scope: "col" }, title)))),
        el("tbody", {}, leaf.fields.map((field) => el("tr", {}, el("td", { class: "mono" }, field.register), el("td", { class: "mono" }, field.bits), el("th", { scope: "row" }, field.name),
          el("td", { class: "mono" }, `${field.text ?? field.value}${field.unit ? ` ${field.unit}` : ""}`), el("td", {}, field.description))))));
      node.addEventListener("toggle", () => node.open && open());
      if (node.open) open();
      return node;
    }));
}

function drawHazards(main, told) {
  const runs = "runs" in told ? told.runs === true ? "It runs, with all that was asked." : told.runs === false ? "It does not run with all that was asked." : "Whether it runs with all that was asked is not told." : null;
  const list = (title, texts) => texts.length ? [el("h2", {}, title), el("ul", {}, texts.map((text) => el("li", {}, prose(text))))] : null;
  const facts = (depends) => depends.map((fact) => fact.name ? `${fact.name} (${fact.place})` : fact.place).join(", ");
  fill(main,
    runs ? el("p", { class: "verdict" }, runs) : null,
    told.refusal ? el("p", { class: "said bad" }, prose(told.refusal)) : null,
    told.proposal && told.proposal !== a.path.cpu ? el("p", { class: "said" }, "This runs: ", el("code", {}, prose(`-cpu ${told.proposal}`)), source.live ? el("button", { type: "button", onclick: () => go({ a: toKey({ ...asked(a), cpu: told.proposal, domain: "" }), view: "bits" }) }, "apply") : null) : null,
    list("The VMM warns", a.path.warnings), list("Whether the VMM warns is not told", a.path.warnings_not_told.map((one) => `${one.what}: depends on ${facts(one.depends)}`)),
    list("Remarks", a.path.remarks),
    el("h2", {}, "Hazards"),
    told.hazards.length ? el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Hazards" }, el("table", { class: "stacks" }, el("thead", {}, el("tr", {}, ["what", "rule", "about", "why", "what you can do"].map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, told.hazards.map((one) => el("tr", {}, el("th", { scope: "row" }, one.depends.length ? `${one.severity}, not told whether` : one.severity), el("td", { class: "mono" }, prose(one.rule)), el("td", {}, prose(one.subjects.join(" "))),
        el("td", {}, prose(one.consequence), one.depends.length ? el("small", { class: "dim" }, ` Depends on ${facts(one.depends)}.`) : null), el("td", { "data-head": "What you can do: " }, prose(one.remedy)))))))
      : el("p", {}, "Nothing in the guest's CPUID is known to hurt."));
}

// ---- the panel: one bit, explained

const origin = (reason) => [reason.rule, reason.source, reason.since ? `since ${reason.since}` : null, reason.until ? `until ${reason.until}` : null,
  reason.commit ? `commit ${reason.commit}${reason.subject ? `, “${reason.subject}”` : ""}` : null,
  !reason.since && reason.first_tables ? `in tables from ${reason.first_tables} on` : null,
  reason.known === "read" ? "read from the source, no capture has shown it" : reason.known === "captured" ? "shown by a capture" : null].filter(Boolean).join("; ");

const known = (stage) => stage.basis + (stage.modelled !== null && stage.value !== null ? ` (model: ${stage.modelled ? "yes" : "no"})` : "");

function fate(feature, subject, title) {
  const command = ["vcpuid", "explain", cardOf(feature).ask, ...subject.path.options].map(quoted).join(" ");
  return [
    title ? el("h3", {}, prose(title)) : null,
    el("p", { class: "verdict" }, prose(feature.verdict)),
    feature.chain.length ? el("ol", { class: "chain" }, feature.chain.map((reason) => el("li", {}, prose(`${reason.feature}: ${reason.reason}`), el("small", {}, prose(origin(reason)))))) : null,
    feature.depends.length ? el("ul", {}, feature.depends.map((fact) => el("li", {}, prose(`${fact.name ? `${fact.name} (${fact.place})` : fact.place}: ${fact.how}`)))) : null,
    feature.remedy && feature.visible !== true ? el("p", { class: "said" }, el("b", {}, "What you can do: "), prose(feature.remedy)) : null,
    feature.assumes.map((one) => el("p", { class: "dim" }, `Taken for granted: ${one.taken}, ${one.because}; with ${one.otherwise} it would be otherwise.`)),
    feature.why_hidden ? el("p", { class: "dim" }, prose(feature.why_hidden)) : null,
    el("table", {}, el("thead", {}, el("tr", {}, ["layer", "value", "known, and why"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, feature.stages.map((stage) => el("tr", {}, el("th", { scope: "row", title: stage.title }, stage.party), td(valueOf(stage)), el("td", {}, known(stage), stage.why ? el("div", { class: "dim" }, prose(stage.why)) : null))))),
    el("pre", { class: "wrap", tabindex: "0", "aria-label": "The command that says the same" }, prose(command)),
  ];
}

const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;

function drawPanel() {
  const panel = $("panel");
  const feature = a.byId.get(state.bit), other = b?.byId.get(state.bit);
  const pull = el("button", { type: "button", id: "pull", "aria-expanded": String(panel.classList.contains("pulled")), onclick: () => { panel.classList.toggle("pulled"); drawPanel(); } }, panel.classList.contains("pulled") ? "less" : "more");
  if (!feature && !other) {
    const [word, position] = state.bit ? unnamed(a, state.bit) : [null, 0];
    if (!word) { fill(panel, el("p", { class: "dim" }, "Choose a bit: what became of it on the way, by whose doing, and what can be done.")); return; }
    const values = unnamedValues(a, word, position);
    fill(panel, pull, el("h2", {}, "No name"), el("div", { class: "mono dim" }, `${word.word} [bit ${position}]`), el("p", {}, "No layer has a name for this bit."),
      el("table", {}, el("tbody", {}, a.path.parties.map(({ party }, at) => el("tr", {}, el("th", { scope: "row" }, party), td(values[at]))))));
    return;
  }
  const any = feature ?? other, card = cardOf(any);
  const spelled = card.spellings.filter((text) => text !== card.name);
  fill(panel, pull,
    el("h2", {}, card.name), el("div", { class: "mono dim" }, `${any.word} [bit ${any.position}]`),
    card.about ? el("div", {}, card.about) : null,
    spelled.length ? el("div", { "aria-label": "Other spellings", role: "group" }, spelled.map((text) => el("span", { class: "tag mono" }, text))) : null,
    el("div", { role: "status", class: "sr" }, any.verdict),
    feature ? fate(feature, a, b ? `A: ${a.path.headline}` : null) : null,
    other ? fate(other, b, `B: ${b.path.headline}`) : null);
}

function choose(id) {
  go({ bit: id });
}

// ---- asking: only where somebody answers

const asked = (subject) => subject?.parts.asked ?? {};
let domain = "";

function askForm(begun) {
  const choice = (values, none) => [el("option", { value: "" }, none), values.map((value) => el("option", { value }, value))];
  const field = (label, control) => el("label", {}, label, control);
  const form = el("form", { id: "ask", "aria-label": "What is asked", onsubmit: (event) => { event.preventDefault(); go({ a: formKey() }); } },
    el("details", { open: !begun.hosts.length }, el("summary", {}, "Choose host, CPU and software"),
      el("fieldset", {}, el("legend", { class: "sr" }, "The path"),
        field("Host", el("select", { name: "host" }, begun.hosts.map((name) => el("option", { value: name }, name)))),
        field("-cpu", el("input", { name: "cpu", list: "models", autocomplete: "off", spellcheck: "false" })), el("datalist", { id: "models" }, begun.choices.models.map((value) => el("option", { value }))),
        field("QEMU", el("select", { name: "qemu" }, choice(begun.choices.qemu, "the one here, else the newest"))),
        field("Linux on the host", el("select", { name: "kernel" }, choice(begun.choices.kernel, "the host's own"))),
        field("-machine", el("input", { name: "machine", autocomplete: "off", spellcheck: "false", placeholder: "q35" })), field("-smp", el("input", { name: "smp", autocomplete: "off", placeholder: "1" })),
        field("Parameters (nested=0 tsx=on)", el("input", { name: "params", autocomplete: "off", spellcheck: "false" })),
        el("label", { class: "check" }, el("input", { type: "checkbox", name: "what_if" }), "the host did not run so (what if)"),
        field("libvirt, for a domain", el("select", { name: "libvirt" }, choice(begun.choices.libvirt, "newest"))),
        el("div", { class: "wide bar" }, el("button", { type: "submit" }, "Show"), el("button", { type: "button", onclick: () => go({ b: formKey(), view: "compare" }) }, "Compare with this"),
          el("span", { id: "domain", class: "tag", hidden: true }), el("button", { type: "button", id: "no-domain", hidden: true, onclick: () => { setDomain(""); go({ a: formKey() }); } }, "without the domain")))),
    el("details", { open: !begun.hosts.length }, el("summary", {}, "Read a dump, a domain or an error"),
      el("fieldset", {}, el("legend", { class: "sr" }, "Something to read"),
        el("label", { class: "wide" }, "A dump or snapshot, a domain's XML, or an error: paste it here, or drop a file anywhere on the page", el("textarea", { id: "paste", spellcheck: "false" })),
        el("div", { class: "wide bar" }, el("button", { type: "button", onclick: () => take(new Blob([$("paste").value])) }, "Read"), el("label", {}, "or a file ", el("input", { type: "file", id: "file", onchange: (event) => event.target.files[0] && take(event.target.files[0]) }))),
        el("div", { id: "said", class: "wide", role: "status" }))));
  return form;
}

function formKey() {
  const told = Object.fromEntries(new FormData($("ask")));
  return toKey({ ...told, what_if: told.what_if ? true : "", domain });
}

function setDomain(text) {
  domain = text;
  $("domain").hidden = $("no-domain").hidden = !text;
  $("domain").textContent = text ? "the domain's XML says with which -cpu, -machine and -smp" : "";
}

function fillForm() {
  const form = $("ask");
  if (!form) return;
  for (const name of ASKED) {
    const control = form.elements.namedItem(name), value = asked(a)[name];
    if (!control) continue;
    if (control.type === "checkbox") control.checked = Boolean(value);
    else control.value = Array.isArray(value) ? value.join(" ") : value ?? "";
  }
  setDomain(asked(a).domain ?? "");
}

async function take(blob) {
  const said = $("said");
  try {
    const told = unpack(await busy(source.ask("read", blob)));
    if (told.kind === "host") {
      const select = $("ask").elements.namedItem("host");
      if (![...select.options].some((option) => option.value === told.host)) select.append(el("option", { value: told.host }, told.host));
      fill(said, el("p", { class: "said" }, `Read: ${told.host}. `, told.remarks.join("; ")));
      await go({ a: toKey({ ...asked(a), host: told.host, kernel: "" }) });
    } else if (told.kind === "domain") {
      fill(said, el("p", { class: "said" }, "A domain's XML: libvirt leads from it to the guest's CPU."));
      await go({ a: toKey({ ...asked(a), domain: told.text }) });
    } else {
      drawDiagnosis(said, unpack(await busy(source.ask("diagnose", { ...asked(a), text: told.text }))));
    }
  } catch (error) {
    fill(said, el("p", { class: "said bad" }, error.message));
  }
}

function drawDiagnosis(said, told) {
  fill(said, el("div", { class: "said" },
    told.recognised ? null : el("p", {}, "Nothing of this is known."),
    [...new Set(told.matches.map((match) => match.meaning ?? match.text))].map((text) => el("p", {}, text)),
    told.findings.length ? el("ul", {}, told.findings.map((finding) => {
      const id = finding.bit === null ? null : a?.path.features.find((feature) => `${feature.word} [bit ${feature.position}]` === finding.bit || feature.feature === finding.feature)?.id;
      return el("li", {}, id ? el("a", { href: fragment({ bit: id }), "data-id": id }, finding.feature) : finding.text, `: ${finding.state}`, finding.fate ? `; ${finding.fate.verdict ?? ""}` : "");
    })) : null,
    told.remedies.map((text) => el("p", {}, el("b", {}, "What you can do: "), prose(text)))));
}

// ---- the whole

async function busy(promise) {
  const sign = $("busy"), timer = setTimeout(() => { sign.hidden = false; }, 150);
  try { return await promise; } finally { clearTimeout(timer); sign.hidden = true; }
}

const picked = () => !source.live && source.subjects.length > 1;

function skeleton(begun) {
  const filters = el("div", { class: "bar", role: "group", "aria-label": "Filters" },
    el("label", { class: "sr", for: "q" }, "Search a feature, in any spelling"),
    el("input", { type: "search", id: "q", autocomplete: "off", spellcheck: "false", placeholder: "avx2, X86_FEATURE_AVX2, spec_ctrl, CPUID.07H:EBX … ( / )", list: "found",
      oninput: (event) => go({ q: event.target.value, sort: "" }, true), onkeydown: (event) => { if (event.key === "Enter" && found?.ranks.size) choose([...found.ranks].sort((x, y) => x[1] - y[1])[0][0]); } }),
    Object.entries(CHANGES).map(([change, text]) => el("button", { type: "button", "data-f": change, onclick: () => go({ f: state.f === change ? "" : change }) }, text)),
    el("button", { type: "button", "data-f": "diff", onclick: () => go({ f: state.f === "diff" ? "" : "diff" }) }, "A ≠ B"),
    el("button", { type: "button", id: "share", onclick: share }, "Copy link"));
  const pick = (which, none) => el("select", { id: which, "aria-label": which === "a" ? "Path" : "Compare with", onchange: (event) => go({ [which]: event.target.value === "" ? null : event.target.value }) },
    none ? el("option", { value: "" }, none) : null, source.subjects.map((one) => el("option", { value: one.key }, `${one.path.host}: ${one.path.headline}`)));
  const picks = picked() ? el("div", { class: "picks" }, el("b", {}, "A"), pick("a"), el("b", {}, "B"), pick("b", "compare with …")) : null;
  fill($("app"),
    el("header", {}, el("a", { class: "skip", href: "#view=table", "data-view": "table" }, "Skip to the table of all features"), el("h1", {}, "vcpuid explorer"), " ", el("span", { class: "dim motto" }, "Which CPU does this guest see, and why?"),
      el("div", { class: "subject", id: "subject" }), picks,
      el("nav", { "aria-label": "Views", class: "bar" }, Object.entries(VIEWS).map(([view, title]) => el("a", { href: `#view=${view}`, "data-view": view }, title))),
      filters, el("ol", { class: "strip", id: "strip", "aria-label": "The path, layer by layer" })),
    source.live ? askForm(begun) : null,
    el("div", { id: "trouble", role: "alert" }),
    el("main", { id: "main" }, el("section", { id: "view", "aria-label": "View" }), el("aside", { id: "panel", "aria-label": "Explanation", tabindex: "0" })),
    el("div", { id: "busy", role: "status", hidden: true }, "working the path …"));
}

async function share() {
  const button = $("share");
  try { await navigator.clipboard.writeText(location.href); button.textContent = "Copied"; }
  catch { prompt("The link", location.href); }
  setTimeout(() => { button.textContent = "Copy link"; }, 2000);
}

const DRAW = { bits: drawBits, table: drawTable, compare: drawCompare, models: drawModels, leaves: drawLeaves, hazards: drawHazards };
let turn = 0;

async function draw() {
  const mine = ++turn;
  document.documentElement.dataset.drawing = "1";
  try {
    const [one, other] = [await ready(state.a), state.b === null ? null : await ready(state.b)];
    const part = state.view in PART ? await ready2(one, PART[state.view]) : null;
    if (mine !== turn) return;
    const another = one !== a;
    a = one;
    b = other;
    if (another) fillForm();
    fill($("trouble"));
    show(part);
  } catch (error) {
    if (mine === turn) fill($("trouble"), el("p", { class: "said bad" }, error.message));
  } finally {
    if (mine === turn) delete document.documentElement.dataset.drawing;
  }
}

const ready = (key) => source.live ? busy(source.subject(key)) : source.subject(key);
const ready2 = (subject, name) => source.live ? busy(source.part(subject, name)) : source.part(subject, name);

function show(part) {
  document.title = `${a.path.headline}: vcpuid explorer`;
  const other = b && source.live ? el("button", { type: "button", onclick: () => go({ b: null, f: state.f === "diff" ? "" : state.f }) }, "stop comparing") : null;
  fill($("subject"), el("div", { class: picked() ? "printed" : null }, el("div", {}, b ? el("b", {}, "A") : null, `${a.path.host}: ${a.path.headline}`), b ? el("div", {}, el("b", {}, "B"), `${b.path.host}: ${b.path.headline} `, other) : null),
    (a.path.libvirt ?? []).map((line) => el("div", { class: "dim" }, line)));
  for (const anchor of document.querySelectorAll("nav a")) {
    if (anchor.dataset.view === state.view) anchor.setAttribute("aria-current", "page"); else anchor.removeAttribute("aria-current");
  }
  for (const button of document.querySelectorAll("[data-f]")) button.setAttribute("aria-pressed", String(state.f === button.dataset.f));
  if ($("a")) { $("a").value = state.a; $("b").value = state.b ?? ""; }
  if (document.activeElement !== $("q")) $("q").value = state.q;
  drawStrip();
  const bitwise = !(state.view in PART);
  $("panel").hidden = $("strip").hidden = !bitwise;
  $("q").hidden = state.view === "hazards";
  for (const button of document.querySelectorAll("[data-f]")) button.hidden = !bitwise || (button.dataset.f === "diff" && !b);
  $("main").classList.toggle("alone", !bitwise);
  DRAW[state.view]($("view"), part);
  drawPanel();
  const height = getComputedStyle(document.querySelector("header")).position === "sticky" ? document.querySelector("header").offsetHeight + 12 : 16;
  document.documentElement.style.setProperty("--below-header", `${height}px`);
}

addEventListener("popstate", () => { readState(); draw(); });
const leads = (anchor) => anchor.dataset.view ? { view: anchor.dataset.view, sort: "" } : { bit: anchor.dataset.id };
addEventListener("click", (event) => {
  const anchor = event.target.closest("a[data-id], a[data-view]");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(leads(anchor));
});
for (const kind of ["focusin", "pointerover"]) addEventListener(kind, (event) => {
  const anchor = event.target.closest?.("a[data-id], a[data-view]");
  if (anchor) anchor.href = fragment(leads(anchor)); // what is copied or opened elsewhere is this very view
});
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !typing) { event.preventDefault(); $("q").focus(); }
  if (event.key === "Escape" && (event.target.id === "q" || !typing)) { $("q").value = ""; go({ q: "", f: "", p: "" }); }
});
addEventListener("dragover", (event) => { if (source?.live) { event.preventDefault(); document.body.classList.add("dropping"); } });
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  if (!source?.live) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = event.dataTransfer.files[0], text = event.dataTransfer.getData("text");
  if (file || text) take(file ?? new Blob([text]));
});

async function start() {
  const held = JSON.parse($("document").textContent);
  source = held ? new Saved(unpack(held)) : new Live(globalThis.vcpuidAsk ?? fromServer);
  const begun = await source.begin();
  index(begun.names);
  readState();
  skeleton(begun);
  if (!source.live || begun.hosts.length) await draw();
  else fill($("trouble"), el("p", { class: "said" }, "Read a dump or a snapshot of a host first."));
  document.documentElement.dataset.ready = "1";
}

start().catch((error) => fill($("app"), el("p", { class: "said bad" }, error.message)));
