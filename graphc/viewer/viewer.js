"use strict";
// The viewer: a layered layout computed here, drawn as SVG. Every text of the graph reaches the page
// as textContent, never as markup.
const model = JSON.parse(document.getElementById("model").textContent);
const SVG = "http://www.w3.org/2000/svg";
const ROW = 36, GAP_X = 18, GAP_Y = 40, PAD = 14, HEAD = 22;
const OPEN_LIMIT = 200; // a scene with more nodes starts with its groups closed
const READABLE = 0.55;
const CHUNK_ABOVE = 150, CHUNK = 50; // a group with more nodes is shown in pieces

const canvas = document.getElementById("canvas");
const world = document.getElementById("world");
const details = document.getElementById("details");
const search = document.getElementById("search");
const count = document.getElementById("count");
const state = { scene: 0, selected: null, view: { x: 0, y: 0, k: 1 }, found: [], at: -1 };
const scenes = model.scenes.map(prepare);

// -- the tree of groups ---------------------------------------------------------------------------

function prepare(scene) {
  const root = group("", null, 0);
  const nodes = scene.nodes.map((raw, number) => ({ raw, number, users: [], parent: null }));
  for (const node of nodes) {
    let place = root;
    for (const name of node.raw.group) {
      if (!place.byName.has(name)) place.byName.set(name, group(name, place, place.depth + 1));
      place = place.byName.get(name);
    }
    node.parent = place;
    place.nodes.push(node);
    for (const i of node.raw.inputs) nodes[i].users.push(node.number);
  }
  const groups = [];
  collect(root, groups);
  for (const g of groups) split(g);
  groups.length = 0;
  collect(root, groups);
  const small = nodes.length <= OPEN_LIMIT;
  for (const g of groups) g.open = g === root || small;
  connect(nodes);
  return { raw: scene, root, nodes, groups };
}

function group(name, parent, depth) {
  return { name, parent, depth, byName: new Map(), nodes: [], edges: [], open: false, size: 0 };
}

function collect(g, into) {
  into.push(g);
  g.size = g.nodes.length;
  for (const child of g.byName.values()) { collect(child, into); g.size += child.size; }
}

// A group with very many nodes of its own is cut into pieces in their order.
function split(g) {
  if (g.nodes.length <= CHUNK_ABOVE) return;
  const all = g.nodes;
  g.nodes = [];
  for (let k = 0; k < all.length; k += CHUNK) {
    const part = all.slice(k, k + CHUNK);
    let name = `nodes ${k} to ${k + part.length - 1}`;
    while (g.byName.has(name)) name += " ";
    const piece = group(name, g, g.depth + 1);
    piece.nodes = part;
    for (const node of part) node.parent = piece;
    g.byName.set(name, piece);
  }
}

// Every edge is kept at the innermost group that holds both ends, between its children there.
function connect(nodes) {
  for (const node of nodes) {
    for (const i of node.raw.inputs) {
      let a = nodes[i], b = node;
      while (depth(a) > depth(b)) a = a.parent;
      while (depth(b) > depth(a)) b = b.parent;
      while (a.parent !== b.parent) { a = a.parent; b = b.parent; }
      if (a !== b && a.parent) a.parent.edges.push([a, b]);
    }
  }
}

function depth(item) {
  return item.raw ? item.parent.depth + 1 : item.depth;
}

// -- layout ---------------------------------------------------------------------------------------

const letters = (text) => Math.min(text.length, 42);
const cut = (text) => (text.length > 42 ? text.slice(0, 41) + "…" : text);

function measure(item) {
  if (item.raw) {
    const what = item.raw.op + " : " + item.raw.type;
    item.w = Math.max(60, letters(item.raw.label) * 7.2 + 16, letters(what) * 5.8 + 16);
    item.h = ROW;
  } else if (item.open) {
    layout(item);
  } else {
    item.w = Math.max(90, letters(item.name) * 7.6 + 24);
    item.h = ROW + 6;
  }
}

function layout(g) {
  const items = [...g.byName.values(), ...g.nodes];
  const index = new Map(items.map((item, k) => [item, k]));
  items.forEach(measure);
  const after = items.map(() => new Set()), before = items.map(() => new Set());
  for (const [a, b] of g.edges) {
    const i = index.get(a), j = index.get(b);
    if (i !== undefined && j !== undefined) { after[i].add(j); before[j].add(i); }
  }
  const rank = ranks(after, before);
  const layers = [];
  rank.forEach((r, k) => (layers[r] = layers[r] || []).push(k));
  const rows = layers.filter(Boolean);
  order(rows, after, before);
  place(g, items, rows, after, before);
}

// Longest paths from the sources; groups may depend on each other in a circle, whose closing edges
// are left out. Sources then move down to just above their first user.
function ranks(after, before) {
  const n = after.length, mark = new Uint8Array(n), done = [], back = new Set();
  for (let start = 0; start < n; start++) {
    if (mark[start]) continue;
    const stack = [[start, after[start].values()]];
    mark[start] = 1;
    while (stack.length) {
      const [v, rest] = stack[stack.length - 1];
      const next = rest.next();
      if (next.done) { mark[v] = 2; done.push(v); stack.pop(); continue; }
      const w = next.value;
      if (mark[w] === 1) back.add(v * n + w);
      else if (!mark[w]) { mark[w] = 1; stack.push([w, after[w].values()]); }
    }
  }
  const rank = new Array(n).fill(0);
  for (const v of done.reverse())
    for (const w of after[v]) if (!back.has(v * n + w)) rank[w] = Math.max(rank[w], rank[v] + 1);
  for (let v = 0; v < n; v++) {
    if (before[v].size || !after[v].size) continue;
    let first = Infinity;
    for (const w of after[v]) first = Math.min(first, rank[w]);
    rank[v] = Math.max(0, first - 1);
  }
  return rank;
}

function order(rows, after, before) {
  const position = [];
  const renumber = (row) => row.forEach((v, k) => (position[v] = k / Math.max(1, row.length - 1)));
  rows.forEach(renumber);
  for (let sweep = 0; sweep < 10; sweep++) {
    const down = sweep % 2 === 0;
    for (const row of down ? rows : [...rows].reverse()) {
      const near = down ? before : after;
      const key = new Map(row.map((v) => {
        let sum = 0;
        for (const w of near[v]) sum += position[w];
        return [v, near[v].size ? sum / near[v].size : position[v]];
      }));
      row.sort((a, b) => key.get(a) - key.get(b));
      renumber(row);
    }
  }
}

function place(g, items, rows, after, before) {
  for (const row of rows) {
    let x = 0;
    for (const v of row) { items[v].x = x; x += items[v].w + GAP_X; }
  }
  const centre = (v) => items[v].x + items[v].w / 2;
  for (let sweep = 0; sweep < 12; sweep++) {
    for (const row of sweep % 2 ? [...rows].reverse() : rows) {
      const want = row.map((v) => {
        const near = [...before[v], ...after[v]];
        if (!near.length) return items[v].x;
        return near.reduce((s, w) => s + centre(w), 0) / near.length - items[v].w / 2;
      });
      settle(row, want, items);
    }
  }
  let y = g.parent ? HEAD + 6 : 0, left = Infinity, right = 0;
  for (const row of rows) {
    const high = Math.max(...row.map((v) => items[v].h));
    for (const v of row) {
      items[v].y = y + (high - items[v].h) / 2;
      left = Math.min(left, items[v].x);
    }
    y += high + GAP_Y;
  }
  for (const item of items) { item.x += PAD - left; right = Math.max(right, item.x + item.w); }
  g.w = Math.max(right + PAD, letters(g.name) * 7.6 + 40);
  g.h = y - GAP_Y + PAD;
}

// As near to the wanted places as the order and the widths allow: the mean of pushing to the right
// and pushing to the left.
function settle(row, want, items) {
  const a = [], b = [];
  let edge = -Infinity;
  row.forEach((v, k) => { a[k] = Math.max(want[k], edge); edge = a[k] + items[v].w + GAP_X; });
  edge = Infinity;
  for (let k = row.length - 1; k >= 0; k--) {
    const w = items[row[k]].w;
    b[k] = Math.min(want[k], edge - w - GAP_X);
    edge = b[k];
  }
  row.forEach((v, k) => (items[v].x = (a[k] + b[k]) / 2));
}

// -- drawing --------------------------------------------------------------------------------------

function svg(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
}

function draw() {
  const scene = scenes[state.scene];
  layout(scene.root);
  world.replaceChildren();
  const boxes = svg("g", {}, world), edges = svg("g", {}, world), tops = svg("g", {}, world);
  scene.root.ax = scene.root.ay = 0;
  drawGroup(scene.root, boxes, tops);
  drawEdges(scene, edges);
  document.querySelectorAll("[data-scene]").forEach((button, k) =>
    button.setAttribute("aria-pressed", String(k === state.scene)));
  world.dataset.nodes = tops.children.length;
}

function drawGroup(g, boxes, tops) {
  for (const item of [...g.byName.values(), ...g.nodes]) {
    item.ax = g.ax + item.x;
    item.ay = g.ay + item.y;
    if (item.raw) { drawNode(item, tops); continue; }
    const host = svg("g", { class: item.open ? "group" : "group closed" }, item.open ? boxes : tops);
    svg("rect", { x: item.ax, y: item.ay, width: item.w, height: item.h, rx: 6 }, host);
    const sign = item.open ? "− " : "+ ";
    svg("text", { x: item.ax + 8, y: item.ay + 16 }, host, sign + cut(item.name));
    if (!item.open)
      svg("text", { x: item.ax + 8, y: item.ay + 32, class: "what" }, host,
        item.size + (item.size === 1 ? " node" : " nodes"));
    const title = svg("rect", { class: "title", x: item.ax, y: item.ay, width: item.w,
      height: item.open ? HEAD : item.h }, host);
    svg("title", {}, title, item.name + ": click to " + (item.open ? "close" : "open"));
    title.addEventListener("click", () => toggle(item));
    if (item.open) drawGroup(item, boxes, tops);
  }
}

function drawNode(node, tops) {
  let kind = "node " + node.raw.kind;
  if (state.selected === node.number) kind += " selected";
  else if (state.found.includes(node.number)) kind += " found";
  const host = svg("g", { class: kind }, tops);
  svg("rect", { x: node.ax, y: node.ay, width: node.w, height: node.h, rx: 4 }, host);
  svg("text", { class: "name", x: node.ax + 8, y: node.ay + 15 }, host, cut(node.raw.label));
  const what = node.raw.op + " : " + node.raw.type;
  svg("text", { class: "what", x: node.ax + 8, y: node.ay + 28 }, host, cut(what));
  svg("title", {}, host, node.raw.label + "\n" + what);
  host.addEventListener("click", () => select(node.number));
}

function shown(item) {
  let top = item;
  for (let g = item.parent; g; g = g.parent) if (!g.open) top = g;
  return top;
}

function drawEdges(scene, host) {
  const seen = new Map();
  for (const node of scene.nodes) {
    for (const i of node.raw.inputs) {
      const a = shown(scene.nodes[i]), b = shown(node);
      if (a === b) continue;
      const near = state.selected === node.number || state.selected === i;
      if (!seen.has(a)) seen.set(a, new Map());
      seen.get(a).set(b, near || seen.get(a).get(b) || false);
    }
  }
  const late = [];
  for (const [a, targets] of seen)
    for (const [b, near] of targets) near ? late.push([a, b]) : line(a, b, "edge", host);
  for (const [a, b] of late) line(a, b, "edge near", host);
}

function line(a, b, kind, host) {
  const x1 = a.ax + a.w / 2, y1 = a.ay + a.h, x2 = b.ax + b.w / 2, y2 = b.ay;
  const bend = Math.max(14, Math.min(60, Math.abs(y2 - y1) / 2));
  svg("path", { class: kind, "marker-end": "url(#arrow)",
    d: `M${x1},${y1} C${x1},${y1 + bend} ${x2},${y2 - bend} ${x2},${y2 - 2}` }, host);
}

// -- what the user does ---------------------------------------------------------------------------

function toggle(g) {
  const before = [g.ax, g.ay];
  g.open = !g.open;
  draw();
  // The box stays under the pointer.
  state.view.x += (before[0] - g.ax) * state.view.k;
  state.view.y += (before[1] - g.ay) * state.view.k;
  look();
}

function select(number, centre) {
  state.selected = number;
  const node = scenes[state.scene].nodes[number];
  if (centre) for (let g = node.parent; g; g = g.parent) g.open = true;
  draw();
  if (centre) {
    const box = canvas.getBoundingClientRect();
    state.view.k = Math.max(state.view.k, 0.8);
    state.view.x = box.width / 2 - (node.ax + node.w / 2) * state.view.k;
    state.view.y = box.height / 2 - (node.ay + node.h / 2) * state.view.k;
    look();
  }
  describe(node);
}

function html(name, text, parent) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  parent.appendChild(element);
  return element;
}

function describe(node) {
  details.replaceChildren();
  const scene = scenes[state.scene];
  html("h2", node.raw.label, details);
  const list = html("dl", undefined, details);
  const facts = [["op", node.raw.op], ["type", node.raw.type], ...node.raw.facts];
  if (node.raw.group.length) facts.push([scene.raw.groups, node.raw.group.join("/")]);
  for (const [key, value] of facts) { html("dt", key, list); html("dd", value, list); }
  links("Inputs", node.raw.inputs);
  links("Used by", node.users);
  const path = JSON.stringify(node.raw.group);
  for (const [group, notes] of scene.raw.notes) {
    if (JSON.stringify(group) !== path) continue;
    html("h2", scene.raw.groups + " " + group.join("/"), details);
    const inner = html("dl", undefined, details);
    for (const [key, value] of notes) { html("dt", key, inner); html("dd", value, inner); }
  }
}

function links(title, numbers) {
  html("h2", numbers.length ? title : title + ": none", details);
  for (const number of [...new Set(numbers)]) {
    const raw = scenes[state.scene].nodes[number].raw;
    const button = html("button", raw.label + "  " + raw.type, details);
    button.addEventListener("click", () => select(number, true));
  }
}

function find(step) {
  const text = search.value.trim().toLowerCase();
  const nodes = scenes[state.scene].nodes;
  const holds = (raw) => [raw.label, raw.op, raw.type, ...raw.facts.map((f) => f[1])]
    .some((part) => part.toLowerCase().includes(text));
  state.found = text ? nodes.filter((n) => holds(n.raw)).map((n) => n.number) : [];
  if (!state.found.length) {
    state.at = -1;
    count.textContent = text ? "none" : "";
    draw();
    return;
  }
  const total = state.found.length;
  state.at = step ? (state.at + step + total) % total : 0;
  count.textContent = `${state.at + 1} of ${total}`;
  select(state.found[state.at], true);
}

function look() {
  const { x, y, k } = state.view;
  world.setAttribute("transform", `translate(${x},${y}) scale(${k})`);
}

// The whole scene; `least` is a scale below which nothing can be read: its top is shown then.
function fit(least) {
  const root = scenes[state.scene].root, box = canvas.getBoundingClientRect();
  const k = Math.min(1.4, (box.width - 24) / root.w, (box.height - 24) / root.h);
  state.view.k = Math.max(k, least || 0.02);
  state.view.x = (box.width - root.w * state.view.k) / 2;
  state.view.y = Math.max(12, (box.height - root.h * state.view.k) / 2);
  look();
}

// A node of the same name stays selected where the other scene has one.
function show(number) {
  const old = scenes[state.scene].nodes[state.selected];
  state.scene = number;
  const same = old && scenes[number].nodes.find((n) => n.raw.label === old.raw.label);
  state.selected = same ? same.number : null;
  state.found = [];
  count.textContent = "";
  draw();
  fit(READABLE);
  if (same) describe(same);
  else overview();
}

function overview() {
  details.replaceChildren();
  const scene = scenes[state.scene];
  html("h2", scene.raw.title, details);
  const list = html("dl", undefined, details);
  const counts = new Map();
  for (const n of scene.nodes) counts.set(n.raw.op, (counts.get(n.raw.op) || 0) + 1);
  const facts = [["nodes", String(scene.nodes.length)], [scene.raw.groups + "s",
    String(scene.groups.filter((g) => g.parent).length)],
    ...[...counts].sort((a, b) => b[1] - a[1]).map(([op, n]) => [op, String(n)])];
  for (const [key, value] of facts) { html("dt", key, list); html("dd", value, list); }
}

function openAll(open) {
  for (const g of scenes[state.scene].groups) if (g.parent) g.open = open;
  draw();
  fit(READABLE);
}

const tabs = document.getElementById("tabs");
scenes.forEach((scene, k) => {
  const button = html("button", scene.raw.title, tabs);
  button.dataset.scene = k;
  button.addEventListener("click", () => show(k));
});
document.getElementById("fit").addEventListener("click", () => fit());
document.getElementById("open").addEventListener("click", () => openAll(true));
document.getElementById("close").addEventListener("click", () => openAll(false));
search.addEventListener("input", () => find(0));
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") find(event.shiftKey ? -1 : 1);
});
document.addEventListener("keydown", (event) => {
  if (event.target === search) return;
  if (event.key === "/") { search.focus(); event.preventDefault(); }
  if (event.key === "f") fit();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  const k = Math.min(5, Math.max(0.02, state.view.k * Math.exp(-event.deltaY * 0.0015)));
  state.view.x = x - (x - state.view.x) * (k / state.view.k);
  state.view.y = y - (y - state.view.y) * (k / state.view.k);
  state.view.k = k;
  look();
}, { passive: false });
let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX - state.view.x, y: event.clientY - state.view.y };
});
window.addEventListener("pointermove", (event) => {
  if (!drag || !event.buttons) { drag = null; canvas.classList.remove("dragging"); return; }
  canvas.classList.add("dragging");
  state.view.x = event.clientX - drag.x;
  state.view.y = event.clientY - drag.y;
  look();
});
window.addEventListener("pointerup", () => { drag = null; canvas.classList.remove("dragging"); });
window.addEventListener("resize", () => fit(READABLE));
show(0);
