// Asks the switch for what the open view needs, every two seconds, and draws it.

import {map, shape, short, si, stateOf} from "/page/topology.js";
import {path} from "/page/trace.js";

const PERIOD = 2000, SLOW_PERIOD = 5000, LIMIT = 50, COLOURS = 6, QUEUES = 8;
const $ = id => document.getElementById(id);

function element(name, attributes = {}, ...inside) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value); else node.setAttribute(key, value);
  }
  node.append(...inside.filter(item => item !== null && item !== undefined));
  return node;
}

async function ask(path, parameters = {}) {
  const wanted = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== ""));
  const answer = await fetch(`/page/${path}?${wanted}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

const count = n => n.toLocaleString("en").replaceAll(",", " ");
function age(seconds) {
  if (seconds === null) return "never";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

// The view, and what it is asked for: #ports?bridge=br0&search=p1&sort=rx&offset=50
function view() {
  const [name, query] = location.hash.slice(1).split("?");
  return {name: name || "topology", query: new URLSearchParams(query)};
}
function go(name, changes) {
  const query = view().name === name ? view().query : new URLSearchParams();
  for (const [key, value] of Object.entries(changes)) value === "" || value === 0 ? query.delete(key) : query.set(key, value);
  history.replaceState(null, "", `#${name}?${query}`);
  open();
}

// Tables: title, key to sort by, class, content of the cell.
const LISTS = {
  ports: {
    first: "", columns: [
      ["Port", "name", "word", p => [element("span", {class: "dot " + stateOf(p), title: p.link_state}), " ", p.name]],
      ["Bridge", "", "word", p => p.bridge],
      ["Type", "type", "word", p => p.type + (p.options.key ? ` ${p.options.key}` : "") + (p.tag !== null ? `, vlan ${p.tag}` : "")],
      ["State", "state", "", p => p.error ?? (p.remotes.length ? p.remotes.slice(0, 3).map(r => `${r.ip} ${r.state}`).join(", ") + (p.remotes.length > 3 ? ` and ${p.remotes.length - 3} more` : "")
        : `${p.admin_state === "down" ? "set down, " : ""}link ${p.link_state}`)],
      ["In", "rx", "number", p => `${si(p.rates.rx_bits, "bit/s")}, ${si(p.rates.rx_packets, "pps")}`],
      ["Out", "tx", "number", p => `${si(p.rates.tx_bits, "bit/s")}, ${si(p.rates.tx_packets, "pps")}`],
      ["Packets in", "", "number", p => count(p.statistics.rx_packets ?? 0)],
      ["Packets out", "", "number", p => count(p.statistics.tx_packets ?? 0)],
      ["Dropped", "dropped", "number", p => count(p.dropped)],
    ],
  },
  megaflows: {
    first: "packets", columns: [
      ["Lcore", "", "number", m => m.lcore],
      ["Bridge", "", "word", m => m.bridge ?? "–"],
      ["Megaflow", "", "mono", m => m.flow || "any packet"],
      ["Actions", "", "mono", m => m.actions],
      ["Packets", "packets", "number", m => count(m.packets)],
      ["Bytes", "bytes", "number", m => count(m.bytes)],
      ["Used", "used", "number", m => age(m.used)],
    ],
  },
  fdb: {
    first: "mac", columns: [
      ["MAC address", "mac", "mono", f => f.mac],
      ["VLAN", "", "number", f => f.vlan],
      ["Bridge", "", "word", f => f.bridge],
      ["Port", "port", "word", f => f.port],
      ["VTEP", "", "word", f => f.remote ?? ""],
      ["Age", "age", "number", f => f.fixed ? "static" : age(f.age)],
    ],
  },
  neighbours: {
    first: "", columns: [
      ["Address", "", "mono", n => n.ip],
      ["MAC address", "", "mono", n => n.mac ?? ""],
      ["Bridge", "", "word", n => n.bridge],
      ["State", "", "word", n => n.state],
      ["For", "", "number", n => age(n.age)],
    ],
  },
};

function table(columns, rows, sorted, sort) {
  const head = columns.map(([title, key, kind]) => element("th", {class: kind, scope: "col", "aria-sort": key && key === sorted ? "descending" : null},
    key && sort ? element("button", {type: "button", onclick: () => sort(key)}, title) : title));
  const line = row => element("tr", {}, ...columns.map(([, , kind, cell]) => element("td", {class: kind}, ...[cell(row)].flat())));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows.map(line)));
}

async function showList(name, query) {
  const {first, columns} = LISTS[name];
  const offset = Number(query.get("offset") ?? 0), sort = query.get("sort") ?? first;
  const answer = await ask(name, {bridge: query.get("bridge") ?? "", search: query.get("search") ?? "", sort, offset, limit: LIMIT});
  if (view().name !== name) return;
  const until = Math.min(answer.found, offset + LIMIT);
  $("found").textContent = answer.found ? `${count(Math.min(offset + 1, answer.found))} to ${count(until)} of ${count(answer.found)}` : "nothing found";
  $("back").disabled = offset === 0;
  $("on").disabled = until >= answer.found;
  $("rows").replaceChildren(table(columns, answer.rows, sort, key => go(name, {sort: key, offset: 0})));
}

function worker(row) {
  const shown = row.queues.slice(0, QUEUES), total = row.queues.reduce((sum, q) => sum + q.rate, 0);
  const bar = element("div", {class: "bar", role: "img", "aria-label": `${row.busy.toFixed(0)} percent busy`});
  const part = (label, share, colour) => {
    const span = element("span", {class: "k" + colour, title: label}, share > 8 ? label : "");
    span.style.width = `${share}%`;
    bar.append(span);
  };
  if (total > 0) {
    shown.forEach((q, at) => part(`${q.port}/${q.queue}`, row.busy * q.rate / total, at % COLOURS));
    const rest = row.queues.slice(QUEUES).reduce((sum, q) => sum + q.rate, 0);
    if (rest > 0) part("others", row.busy * rest / total, 6);
  } else {
    part("", row.busy, 6);
  }
  const queues = element("div", {class: "facts"}, ...shown.map((q, at) => element("span", {class: "word"},
    element("span", {class: "key k" + at % COLOURS}), `${q.port}/${q.queue} ${si(q.rate, "pps")}\u2003`)),
    row.queues.length > QUEUES ? `and ${row.queues.length - QUEUES} more queues` : "");
  const facts = `rx ${si(row.rx_rate, "pps")}, tx ${si(row.tx_rate, "pps")}, dropped ${si(row.drop_rate, "/s")}, upcalls ${si(row.upcall_rate, "/s")}; `
    + `lookups: ${row.lookups[0].toFixed(1)} % cache, ${row.lookups[1].toFixed(1)} % megaflows, ${row.lookups[2].toFixed(1)} % missed; `
    + `${count(row.megaflows)} megaflows with ${row.masks} masks; ${count(row.held)} packets held`;
  return element("div", {class: "card worker"}, element("b", {}, `lcore ${row.lcore}`), bar, element("b", {class: "number"}, `${row.busy.toFixed(0)} %`),
    queues, element("div", {class: "facts faint"}, facts));
}

function chart(history) {
  const wide = 1200, high = 190, left = 70, bottom = 22;
  const totals = Object.entries(history.reasons).map(([name, rates]) => ({name, rates, sum: rates.reduce((a, b) => a + b, 0)})).sort((a, b) => b.sum - a.sum);
  if (!totals.length) return element("p", {class: "card faint"}, "Nothing was dropped in the last 15 minutes.");
  const series = totals.slice(0, COLOURS), rest = totals.slice(COLOURS);
  if (rest.length) series.push({name: "others", rates: rest[0].rates.map((_, at) => rest.reduce((sum, s) => sum + s.rates[at], 0))});
  const n = series[0].rates.length, floor = Array(n).fill(0);
  const most = Math.max(...floor.map((_, at) => series.reduce((sum, s) => sum + s.rates[at], 0))) || 1;
  const step = (wide - left) / Math.max(n, 12);
  const svg = shape("svg", {viewBox: `0 0 ${wide} ${high + bottom}`, role: "img", "aria-label": "Drops per second by reason"});
  for (const part of [0, .5, 1]) {
    const y = high - part * (high - 14);
    svg.append(shape("path", {d: `M${left} ${y}H${wide}`, class: "grid"}),
      shape("text", {x: left - 8, y: y + 4, class: "small", "text-anchor": "end"}, si(most * part, "/s")));
  }
  series.forEach((s, colour) => s.rates.forEach((rate, at) => {
    if (!(rate > 0)) return;
    const height = rate / most * (high - 14);
    floor[at] += height;
    svg.append(shape("rect", {x: wide - (n - at) * step, y: high - floor[at], width: Math.max(1, step - 1), height, class: "k" + colour},
      shape("title", {}, `${s.name}: ${si(rate, "/s")}, ${age((n - at - 1) * history.step)} ago`)));
  }));
  svg.append(shape("text", {x: wide, y: high + 16, class: "small", "text-anchor": "end"}, "now"),
    shape("text", {x: wide - n * step, y: high + 16, class: "small"}, `${age(n * history.step)} ago`));
  const keys = series.map((s, colour) => element("span", {}, element("span", {class: "key k" + colour}), s.name + "\u2003"));
  return element("div", {class: "card"}, svg, element("div", {}, ...keys));
}

const drawn = new Map();
// Replaces what is there if it is another: who selects or points at something keeps it.
function put(id, text, make) {
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  $(id).replaceChildren(make());
}

function showLoad(o) {
  $("workers").replaceChildren(...o.workers.map(worker));
  put("chart", JSON.stringify(o.history), () => chart(o.history));
  const ports = row => row.ports.slice(0, 4).map(([port, n]) => `${port} ${count(n)}`).join(", ") + (row.ports.length > 4 ? ` and ${row.ports.length - 4} more` : "");
  $("drops").replaceChildren(o.drops.length ? table([
    ["Reason", "", "word", d => d.reason], ["What happened", "", "", d => d.description], ["Ports", "", "", ports],
    ["Now", "", "number", d => si(d.rate, "/s")], ["Packets", "", "number", d => count(d.packets)],
  ], o.drops.toSorted((a, b) => b.rate - a.rate || b.packets - a.packets)) : element("p", {class: "faint"}, "No packet was dropped since the start."));
  $("unknown").replaceChildren(...o.unknown_tunnels.length ? [element("h2", {}, "Tunnel packets that no port takes"), table([
    ["VNI or key", "", "number", u => u.key], ["From", "", "mono", u => u.remote], ["To", "", "mono", u => u.local], ["Last", "", "number", u => age(u.age) + " ago"],
  ], o.unknown_tunnels)] : []);
  $("span").textContent = `by reason, ${o.history.step} s a bar`;
}

let bridges = "";
function fill(o) {
  const names = o.bridges.map(b => b.name), key = names.join("\n");
  $("version").textContent = `${o.version}, up ${age(o.uptime)}`;
  if (key === bridges) return;
  bridges = key;
  const options = () => names.map(name => element("option", {value: name}, name));
  $("bridge").replaceChildren(element("option", {value: ""}, "all"), ...options());
  $("where").replaceChildren(...options());
  const {name, query} = view();
  if (name !== "trace") $("bridge").value = query.get("bridge") ?? "";
  if (query.has("bridge")) $("where").value = query.get("bridge");
}

async function showTrace(query) {
  if (!query.get("flow")) return;
  const place = $("answer");
  try {
    const t = await ask("trace", {bridge: query.get("bridge") ?? "", flow: query.get("flow")});
    const fact = (name, text) => text ? [element("dt", {}, name), element("dd", {class: "mono"}, ...[text].flat())] : [];
    place.replaceChildren(element("div", {class: "card scroll"}, path(t)), element("dl", {class: "card"},
      ...fact("Megaflow", t.megaflow || "any packet"), ...fact("Datapath", t.actions), ...fact("Final", t.final_flow || "unchanged"),
      ...fact("Headers", t.headers.length ? t.headers.map(h => element("div", {}, h)) : "")));
  } catch (error) {
    place.replaceChildren(element("p", {class: "alert"}, error.message));
  }
}

async function refresh() {
  const {name, query} = view();
  const o = await ask("overview");
  fill(o);
  if (view().name !== name) return;
  if (name === "topology") $("map").replaceChildren(map(o));
  if (name === "load") showLoad(o);
  if (LISTS[name]) await showList(name, query);
}

// One round at a time; a hidden page asks nothing.
let timer = 0, round = 0;
async function turn() {
  clearTimeout(timer);
  const mine = ++round;
  try {
    if (!document.hidden) await refresh();
    $("state").textContent = "";
  } catch (error) {
    $("state").textContent = `no answer: ${error.message}`;
  }
  document.body.dataset.ready = "yes";
  if (mine === round) timer = setTimeout(turn, ["megaflows", "fdb"].includes(view().name) ? SLOW_PERIOD : PERIOD);
}

function open() {
  const {name, query} = view();
  for (const link of $("tabs").children) {
    link.getAttribute("href") === "#" + name ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  for (const id of ["topology", "load", "trace"]) $(id).hidden = id !== name;
  $("list").hidden = !LISTS[name];
  if (LISTS[name]) {
    if (document.activeElement !== $("search")) $("search").value = query.get("search") ?? "";
    $("bridge").value = query.get("bridge") ?? "";
  }
  if (name === "trace") {
    $("flow").value = query.get("flow") ?? $("flow").value;
    showTrace(query);
  }
  turn();
}

function theme() {
  const kinds = ["auto", "light", "dark"], dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const kind = localStorage.getItem("theme") ?? "auto";
    document.documentElement.dataset.theme = kind === "auto" ? (dark.matches ? "dark" : "light") : kind;
    $("theme").textContent = "Theme: " + kind;
  };
  $("theme").addEventListener("click", () => {
    localStorage.setItem("theme", kinds[(kinds.indexOf(localStorage.getItem("theme") ?? "auto") + 1) % 3]);
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go(view().name, {search: $("search").value, offset: 0}), 250);
});
$("filter").addEventListener("submit", event => event.preventDefault());
$("bridge").addEventListener("change", () => go(view().name, {bridge: $("bridge").value, offset: 0}));
$("back").addEventListener("click", () => go(view().name, {offset: Math.max(0, Number(view().query.get("offset") ?? 0) - LIMIT)}));
$("on").addEventListener("click", () => go(view().name, {offset: Number(view().query.get("offset") ?? 0) + LIMIT}));
$("ask").addEventListener("submit", event => {
  event.preventDefault();
  go("trace", {bridge: $("where").value, flow: $("flow").value});
});
addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => document.hidden || turn());
theme();
open();
