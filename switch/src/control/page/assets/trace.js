// The path of a traced packet, drawn: one box a step, under the step that led to it, then what the datapath does.

import {shape, short} from "/page/topology.js";

const ROW = 34, INDENT = 34, WHOLE = 1200, LETTER = 7.3;

// Datapath actions at the top level: a,b(c,d),e.
export function split(actions) {
  const parts = [];
  let depth = 0, part = "";
  for (const letter of actions) {
    if (letter === "(" || letter === "{") depth++;
    if (letter === ")" || letter === "}") depth--;
    if (letter === "," && depth === 0) { parts.push(part); part = ""; } else part += letter;
  }
  if (part) parts.push(part);
  return parts;
}

function rows(trace) {
  const list = [{depth: 0, text: trace.flow, kind: "box", label: "packet"}];
  for (const step of trace.steps) {
    const depth = Math.floor((step.length - step.trimStart().length) / 4);
    const text = step.trim();
    const kind = /^bridge\(/.test(text) ? "bridge" : /(^|: |=)drop\b|no tunnel port|is set down/.test(text) ? "end-bad" : "box";
    list.push({depth: depth + 1, text, kind, label: ""});
  }
  const ends = split(trace.actions);
  if (trace.reason) {
    list.push({depth: 1, text: `dropped: ${trace.reason.reason}: ${trace.reason.description}`, kind: "end-bad", label: "datapath"});
  } else {
    ends.forEach((text, at) => list.push({depth: 1, text, kind: text.startsWith("drop") ? "end-bad" : "end-good", label: at ? "" : "datapath"}));
  }
  return list;
}

export function path(trace) {
  const list = rows(trace), svg = shape("svg", {role: "img", "aria-label": "Path of the packet"});
  const last = [];
  list.forEach((row, at) => {
    const x = 76 + row.depth * INDENT, y = 4 + at * ROW, letters = Math.floor((WHOLE - x - 30) / LETTER);
    const text = short(row.text, letters);
    // Under the nearest box that stands less deep.
    let up = row.depth - 1;
    while (up >= 0 && last[up] === undefined) up--;
    if (up >= 0) {
      const px = 76 + up * INDENT + 14;
      svg.append(shape("path", {d: `M${px} ${4 + last[up] * ROW + 26}V${y + 13}H${x}`, class: "wire", "stroke-width": 1.5}));
    }
    last[row.depth] = at;
    last.length = row.depth + 1;
    svg.append(shape("g", {"data-step": at}, shape("title", {}, row.text),
      shape("rect", {x, y, width: Math.max(40, text.length * LETTER + 22), height: 26, rx: 6, class: row.kind}),
      shape("text", {x: x + 11, y: y + 17, class: "mono"}, text)));
    if (row.label) svg.append(shape("text", {x: 4, y: y + 17, class: "small"}, row.label));
  });
  svg.setAttribute("viewBox", `0 0 ${WHOLE} ${list.length * ROW + 8}`);
  return svg;
}
