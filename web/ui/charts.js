// Charts as SVG, each with its numbers as text for those who do not see it.

import { h, number, s } from "./dom.js";

const scaleTo = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

/**
 * The expected score on its scale: dot, one tick a chain, whisker of one standard deviation, ring for a person's score.
 * `values`: the scale's values; all numbers in its units.
 */
export function scaleLine(values, { score, std = 0, chains = [], human = null, before = null }) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = scaleTo(low, high, 12, 348);
  const y = 18;
  const within = (v) => x(Math.min(high, Math.max(low, v)));
  return s(
    "svg",
    { viewBox: "0 0 360 46", class: "scale-line", "aria-hidden": "true", focusable: "false" },
    s("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: "axis" }),
    values.map((v) => s("line", { x1: x(v), x2: x(v), y1: y - 5, y2: y + 5, class: "axis" })),
    values.map((v) => s("text", { x: x(v), y: 42, "text-anchor": "middle" }, String(v))),
    std > 0 && s("line", { x1: within(score - std), x2: within(score + std), y1: y, y2: y, class: "whisker" }),
    chains.length > 1 && chains.map((c) => s("line", { x1: within(c), x2: within(c), y1: y - 9, y2: y + 9, class: "tick" })),
    before !== null && s("circle", { cx: within(before), cy: y, r: 5, class: "before" }),
    human !== null && s("circle", { cx: within(human), cy: y, r: 9.5, class: "human" }),
    score !== null && s("circle", { cx: within(score), cy: y, r: 6, class: "mark-dot" }),
  );
}

/** Counts of expected scores in equal bins over the scale, people's beside them where there are any. */
export function histogram(scores, people, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const bins = Math.min(24, Math.max(8, 4 * (values.length - 1)));
  const tally = (list) => {
    const counts = new Array(bins).fill(0);
    for (const v of list) counts[Math.min(bins - 1, Math.max(0, Math.floor(((v - low) / (high - low)) * bins)))] += 1;
    return counts;
  };
  const series = [["judge", tally(scores)], ...(people.length ? [["people", tally(people)]] : [])];
  const top = Math.max(1, ...series.flatMap(([, counts]) => counts));
  const x = scaleTo(0, bins, 30, 488);
  const y = scaleTo(0, top, 150, 12);
  const width = (x(1) - x(0) - 3) / series.length;
  const bars = series.flatMap(([name, counts], k) =>
    counts.map((c, i) => c > 0 && s("rect", { x: x(i) + 1.5 + k * width, y: y(c), width: width - 0.5, height: 150 - y(c), class: name })),
  );
  const at = scaleTo(low, high, 30, 488);
  return figure(
    "How the scores fall",
    s(
      "svg",
      { viewBox: "0 0 500 176", "aria-hidden": "true", focusable: "false" },
      s("line", { x1: 30, x2: 488, y1: 150, y2: 150, class: "axis" }),
      s("text", { x: 24, y: y(top) + 5, "text-anchor": "end" }, String(top)),
      bars,
      values.map((v) => s("text", { x: at(v), y: 170, "text-anchor": "middle" }, String(v))),
    ),
    people.length > 0 && key([["judge", "judge"], ["people", "people"]]),
    numbers(["from", "to", ...series.map(([name]) => name)], Array.from({ length: bins }, (_, i) => {
      const edge = (k) => number(low + ((high - low) * k) / bins);
      return [edge(i), edge(i + 1), ...series.map(([, counts]) => counts[i])];
    })),
  );
}

/** Judge against people, one dot a row; on the dashed line they agree. `names`: the two words of the axes. */
export function scatter(points, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = scaleTo(low, high, 34, 296);
  const y = scaleTo(low, high, 262, 12);
  const clip = (v) => Math.min(high, Math.max(low, v));
  return figure(
    "Judge and people",
    s(
      "svg",
      { viewBox: "0 0 310 300", class: "square", "aria-hidden": "true", focusable: "false" },
      s("line", { x1: x(low), x2: x(high), y1: y(low), y2: y(high), class: "diagonal" }),
      s("line", { x1: x(low), x2: x(high), y1: 270, y2: 270, class: "axis" }),
      values.map((v) => s("text", { x: x(v), y: 288, "text-anchor": "middle" }, String(v))),
      values.map((v) => s("text", { x: 22, y: y(v) + 5, "text-anchor": "end" }, String(v))),
      points.map(([human, judge]) => s("circle", { cx: x(clip(judge)), cy: y(clip(human)), r: 4, class: "point" })),
    ),
    h("p", { class: "note" }, "Across: the judge. Up: people."),
  );
}

/** The reward of each training step, faint, and its running mean. Returns {element, add(value)}. */
export function curve(steps, label) {
  const faint = s("polyline", { class: "faint" });
  const strong = s("polyline", { class: "strong" });
  const last = s("circle", { r: 4, class: "mark-dot", visibility: "hidden" });
  const lowText = s("text", { x: 38, y: 160, "text-anchor": "end" });
  const highText = s("text", { x: 38, y: 20, "text-anchor": "end" });
  const seen = [];
  const body = h("tbody");
  const element = figure(
    label,
    s(
      "svg",
      { viewBox: "0 0 500 186", "aria-hidden": "true", focusable: "false" },
      s("line", { x1: 46, x2: 488, y1: 160, y2: 160, class: "axis" }),
      lowText,
      highText,
      s("text", { x: 46, y: 180 }, "1"),
      s("text", { x: 488, y: 180, "text-anchor": "end" }, `step ${steps}`),
      faint,
      strong,
      last,
    ),
    h("details", { class: "numbers" }, h("summary", {}, "Numbers"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "step"), h("th", {}, "reward"))), body))),
  );
  const add = (value) => {
    seen.push(value);
    body.append(h("tr", {}, h("td", {}, String(seen.length)), h("td", {}, number(value, 3))));
    const finite = seen.filter(Number.isFinite);
    if (finite.length === 0) return;
    const [low, high] = [Math.min(...finite), Math.max(...finite)];
    const x = scaleTo(1, Math.max(2, steps), 46, 488);
    const y = scaleTo(low, high === low ? low + 1 : high, 156, 16);
    let mean = finite[0];
    const smooth = finite.map((v) => (mean += (v - mean) * 0.25));
    const line = (list) => list.map((v, i) => `${x(i + 1).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    faint.setAttribute("points", line(finite));
    strong.setAttribute("points", line(smooth));
    last.setAttribute("visibility", "visible");
    last.setAttribute("cx", x(finite.length));
    last.setAttribute("cy", y(smooth.at(-1)));
    lowText.textContent = number(low, 1);
    highText.textContent = number(high, 1);
  };
  return { element, add };
}

export const key = (entries) => h("p", { class: "key" }, entries.map(([kind, text]) => h("span", {}, h("i", { class: `swatch ${kind}` }), text)));

function figure(title, ...children) {
  return h("figure", {}, h("figcaption", {}, title), children);
}

/** The table behind a chart. */
function numbers(heads, rows) {
  const head = h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)));
  const body = rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, String(cell)))));
  return h("details", { class: "numbers" }, h("summary", {}, "Numbers"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body))));
}
