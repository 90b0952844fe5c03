// The map: device ports on the left of their bridge, tunnels on the right, and behind these the remote VTEPs.

const SPACE = "http://www.w3.org/2000/svg";
const ROW = 42, GAP = 26, HEAD = 66, WIDE = 230;
const LEFT = 70, BRIDGE = 400, RIGHT = 730, REMOTE = 1080, WHOLE = 1300;
const MOST_REMOTES = 24;

export function shape(name, attributes, ...inside) {
  const node = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...inside);
  return node;
}

export function short(text, letters) {
  return text.length > letters ? text.slice(0, letters - 1) + "…" : text;
}

export function si(value, unit) {
  if (!(value > 0)) return "0 " + unit;
  const steps = ["", "k", "M", "G", "T"];
  let at = 0;
  while (value >= 999.5 && at < steps.length - 1) { value /= 1000; at++; }
  return (value < 9.95 && (at > 0 || value % 1) ? value.toFixed(1) : Math.round(value)) + " " + steps[at] + unit;
}

export function stateOf(port) {
  if (port.trouble || port.admin_state === "down") return "bad";
  if (port.remotes.length && !port.remotes.some(r => r.state === "ready")) return "wait";
  return port.link_state === "unknown" ? "wait" : "good";
}

function wireState(remote) {
  return remote.state === "ready" ? "good" : remote.state === "resolving" ? "wait" : "bad";
}

const width = bits => Math.min(7, 1.5 + Math.log10(1 + bits / 1e4)).toFixed(1);
const curve = (x1, y1, x2, y2) => `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;

function chip(x, y, port, over) {
  const rates = port.rates;
  const line = over === null ? port.type : `▸ ${si(rates.rx_bits, "bit/s")}  ◂ ${si(rates.tx_bits, "bit/s")}`;
  const vlan = port.tag !== null ? ` vlan ${port.tag}` : port.trunks.length ? " trunk" : "";
  const key = port.options.key ? ` ${port.type === "gre" ? "key" : "VNI"} ${port.options.key}` : "";
  const title = [`${port.name}: ${port.type}, port ${port.ofport}${vlan}${key}`, `link ${port.link_state}, admin ${port.admin_state}`,
    port.error, port.driver && `driver ${port.driver}`, port.dropped ? `${port.dropped} dropped` : null].filter(Boolean).join("\n");
  const group = shape("g", {"data-port": port.name},
    shape("title", {}, title),
    shape("rect", {x, y: y + 2, width: WIDE, height: ROW - 6, rx: 6, class: "box"}),
    shape("circle", {cx: x + 13, cy: y + ROW / 2 - 1, r: 5, class: stateOf(port)}),
    shape("text", {x: x + 26, y: y + 17, class: "strong"}, short(port.name + (key || vlan), 24)),
    shape("text", {x: x + 26, y: y + 32, class: "small"}, port.error ? short(port.error, 34) : line));
  if (port.rates.dropped > 0) {
    group.append(shape("text", {x: x + WIDE - 8, y: y + 17, class: "small", "text-anchor": "end"}, "✕ " + si(port.rates.dropped, "/s")));
  }
  return group;
}

export function map(overview) {
  const wires = shape("g", {}), boxes = shape("g", {});
  const ports = new Map(), remotes = new Map();
  let y = 10, hidden = 0;
  for (const bridge of overview.bridges) {
    const isRight = port => port.remotes.length > 0 || port.options.remote_ip !== undefined;
    const right = bridge.shown.filter(isRight), left = bridge.shown.filter(port => !isRight(port));
    const more = bridge.count - bridge.shown.length;
    const rows = Math.max(left.length + (more > 0 ? 1 : 0), right.length, 1);
    const height = Math.max(HEAD + 20, rows * ROW);
    const x = BRIDGE, facts = [bridge.mac, ...bridge.addresses.map(a => "VTEP " + a)];
    boxes.append(shape("g", {"data-bridge": bridge.name},
      shape("rect", {x, y, width: WIDE, height, rx: 10, class: "bridge"}),
      shape("text", {x: x + 14, y: y + 24, class: "strong"}, short(bridge.name, 26)),
      ...facts.slice(0, 2).map((fact, at) => shape("text", {x: x + 14, y: y + 42 + 15 * at, class: "small"}, short(fact, 34))),
      shape("text", {x: x + 14, y: y + height - 12, class: "small"},
        `${bridge.count} ports, ${bridge.flows} flows, ${bridge.fdb_entries} in FDB`)));
    left.forEach((port, at) => {
      const py = y + at * ROW + (height - rows * ROW) / 2;
      boxes.append(chip(LEFT, py, port, overview.over));
      ports.set(port.name, {x: LEFT, y: py + ROW / 2 - 1, port});
      wires.append(shape("path", {d: curve(LEFT + WIDE, py + ROW / 2 - 1, BRIDGE, py + ROW / 2 - 1), class: "wire " + stateOf(port),
        "stroke-width": width(port.rates.rx_bits + port.rates.tx_bits)}));
    });
    if (more > 0) {
      const py = y + left.length * ROW + (height - rows * ROW) / 2;
      boxes.append(shape("a", {href: "#ports?bridge=" + encodeURIComponent(bridge.name)},
        shape("text", {x: LEFT + 26, y: py + 24}, `and ${more} more ports`)));
    }
    right.forEach((port, at) => {
      const py = y + at * ROW + (height - rows * ROW) / 2;
      boxes.append(chip(RIGHT, py, port, overview.over));
      wires.append(shape("path", {d: curve(BRIDGE + WIDE, py + ROW / 2 - 1, RIGHT, py + ROW / 2 - 1), class: "wire " + stateOf(port),
        "stroke-width": width(port.rates.rx_bits + port.rates.tx_bits)}));
      for (const remote of port.remotes) {
        if (!remotes.has(remote.ip) && remotes.size >= MOST_REMOTES) { hidden++; continue; }
        if (!remotes.has(remote.ip)) remotes.set(remote.ip, []);
        remotes.get(remote.ip).push({y: py + ROW / 2 - 1, remote, port});
      }
    });
    y += height + GAP;
  }
  // Patch ports are joined around the left.
  let lane = 0;
  for (const [name, {y: from, port}] of ports) {
    const peer = ports.get(port.options.peer);
    if (port.type !== "patch" || !peer || name > port.options.peer) continue;
    const out = LEFT - 24 - 8 * (lane++ % 5);
    wires.append(shape("path", {d: `M${LEFT} ${from}H${out}V${peer.y}H${LEFT}`, class: "patch"}));
  }
  const order = [...remotes].map(([ip, from]) => ({ip, from, y: from.reduce((sum, f) => sum + f.y, 0) / from.length})).sort((a, b) => a.y - b.y);
  let free = 10;
  for (const vtep of order) {
    vtep.y = Math.max(free, vtep.y - ROW / 2 + 1);
    free = vtep.y + ROW;
    const states = vtep.from.map(f => wireState(f.remote));
    const state = states.includes("good") ? "good" : states.includes("wait") ? "wait" : "bad";
    const why = vtep.from.map(f => f.remote).find(r => r.state !== "ready") ?? vtep.from[0].remote;
    const say = why.state === "ready" ? `by ${why.next_hop_mac}` : why.state === "resolving" ? `resolving ${why.next_hop ?? ""}` : why.state;
    boxes.append(shape("g", {"data-vtep": vtep.ip},
      shape("title", {}, vtep.from.map(f => `${f.port.name}: ${f.remote.state}${f.remote.source ? " from " + f.remote.source : ""}`).join("\n")),
      shape("rect", {x: REMOTE, y: vtep.y + 2, width: WHOLE - REMOTE - 10, height: ROW - 6, rx: 18, class: "box"}),
      shape("circle", {cx: REMOTE + 16, cy: vtep.y + ROW / 2 - 1, r: 5, class: state}),
      shape("text", {x: REMOTE + 30, y: vtep.y + 17, class: "strong"}, short(vtep.ip, 24)),
      shape("text", {x: REMOTE + 30, y: vtep.y + 32, class: "small"}, short(say, 28))));
    for (const f of vtep.from) {
      wires.append(shape("path", {d: curve(RIGHT + WIDE, f.y, REMOTE, vtep.y + ROW / 2 - 1), class: "wire " + wireState(f.remote),
        "stroke-width": width((f.port.rates.rx_bits + f.port.rates.tx_bits) / f.port.remotes.length)}));
    }
  }
  if (hidden) {
    boxes.append(shape("a", {href: "#ports?search=" + encodeURIComponent("remote")}, shape("text", {x: REMOTE + 16, y: free + 18}, `and ${hidden} more remotes`)));
    free += ROW;
  }
  const height = Math.max(y, free + 6, 60);
  const svg = shape("svg", {viewBox: `0 0 ${WHOLE} ${height}`, role: "img", "aria-label": "Bridges, ports, tunnels and VTEPs"}, wires, boxes);
  if (!overview.bridges.length) svg.append(shape("text", {x: 20, y: 34}, "There is no bridge yet: vxctl add-br br0"));
  return svg;
}
