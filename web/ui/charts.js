// Charts as SVG, each with its numbers as text for those who do not see it.

import { h, number, svg } from "./dom.js";

/** @import { Child } from "./types.js" */

const HIDDEN = { "aria-hidden": "true", focusable: "false" }; // for screen readers, which get the numbers

/**
 * Maps [low, high] to [from, to].
 * @param {number} low
 * @param {number} high
 * @param {number} from
 * @param {number} to
 * @returns {(value: number) => number}
 */
const linear = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/**
 * The expected score on its scale. A dot is the score, a tick each chain's score, the whisker one standard deviation, a ring a
 * person's score, and an empty dot the score before training.
 * @param {number[]} values the scale's; all numbers have its units
 * @param {{ score: number | null, std?: number, chains?: number[], human?: number | null, before?: number | null }} figures
 */
export function scaleLine(values, { score, std = 0, chains = [], human = null, before = null }) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = linear(low, high, 12, 348);
  const y = 18;
  const within = (/** @type {number} */ value) => x(clamp(value, low, high));
  const vertical = (/** @type {number} */ at, /** @type {number} */ half, /** @type {string} */ kind) =>
    svg("line", { x1: at, x2: at, y1: y - half, y2: y + half, class: kind });
  const circle = (/** @type {number | null} */ value, /** @type {number} */ r, /** @type {string} */ kind) =>
    value !== null && svg("circle", { cx: within(value), cy: y, r, class: kind });
  return svg(
    "svg",
    { viewBox: "0 0 360 46", class: "scale-line", ...HIDDEN },
    svg("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: "axis" }),
    values.map((value) => vertical(x(value), 5, "axis")),
    values.map((value) => svg("text", { x: x(value), y: 42, "text-anchor": "middle" }, String(value))),
    score !== null &&
      std > 0 &&
      svg("line", { x1: within(score - std), x2: within(score + std), y1: y, y2: y, class: "whisker" }),
    chains.length > 1 && chains.map((chain) => vertical(within(chain), 9, "tick")),
    circle(before, 5, "before"),
    circle(human, 9.5, "human"),
    circle(score, 6, "score-dot"),
  );
}

/**
 * How many expected scores lie in equal bins of the scale, with people's beside them if there are any.
 * @param {number[]} scores
 * @param {number[]} people
 * @param {number[]} values the scale's
 */
export function histogram(scores, people, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const bins = clamp(4 * (values.length - 1), 8, 24);
  const countsOf = (/** @type {number[]} */ list) => {
    const counts = new Array(bins).fill(0);
    for (const value of list) counts[clamp(Math.floor(((value - low) / (high - low)) * bins), 0, bins - 1)] += 1;
    return counts;
  };
  const series = [{ name: "judge", counts: countsOf(scores) }];
  if (people.length) series.push({ name: "people", counts: countsOf(people) });
  const highest = Math.max(1, ...series.flatMap(({ counts }) => counts));
  const x = linear(0, bins, 30, 488);
  const y = linear(0, highest, 150, 12);
  const width = (x(1) - x(0) - 3) / series.length;
  const bar = (
    /** @type {string} */ name,
    /** @type {number} */ column,
    /** @type {number} */ count,
    /** @type {number} */ bin,
  ) =>
    count > 0 &&
    svg("rect", { x: x(bin) + 1.5 + column * width, y: y(count), width: width - 0.5, height: 150 - y(count), class: name });
  const valueX = linear(low, high, 30, 488);
  const edge = (/** @type {number} */ bin) => number(low + ((high - low) * bin) / bins);
  const rows = Array.from({ length: bins }, (_, bin) => [edge(bin), edge(bin + 1), ...series.map(({ counts }) => counts[bin])]);
  return figure(
    "Distribution of scores",
    svg(
      "svg",
      { viewBox: "0 0 500 176", ...HIDDEN },
      svg("line", { x1: 30, x2: 488, y1: 150, y2: 150, class: "axis" }),
      svg("text", { x: 24, y: y(highest) + 5, "text-anchor": "end" }, String(highest)),
      series.map(({ name, counts }, column) => counts.map((count, bin) => bar(name, column, count, bin))),
      values.map((value) => svg("text", { x: valueX(value), y: 170, "text-anchor": "middle" }, String(value))),
    ),
    people.length > 0 &&
      legend([
        ["judge", "judge"],
        ["people", "people"],
      ]),
    numbersTable(["from", "to", ...series.map(({ name }) => name)], rows),
  );
}

/**
 * Judge against people, one dot per row. They agree on the dashed line.
 * @param {{ human: number, score: number }[]} pairs
 * @param {number[]} values the scale's
 */
export function scatter(pairs, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = linear(low, high, 34, 296);
  const y = linear(low, high, 262, 12);
  const dot = (/** @type {{ human: number, score: number }} */ { human, score }) =>
    svg("circle", { cx: x(clamp(score, low, high)), cy: y(clamp(human, low, high)), r: 4, class: "point" });
  return figure(
    "Judge and people",
    svg(
      "svg",
      { viewBox: "0 0 310 300", class: "square", ...HIDDEN },
      svg("line", { x1: x(low), x2: x(high), y1: y(low), y2: y(high), class: "diagonal" }),
      svg("line", { x1: x(low), x2: x(high), y1: 270, y2: 270, class: "axis" }),
      values.map((value) => svg("text", { x: x(value), y: 288, "text-anchor": "middle" }, String(value))),
      values.map((value) => svg("text", { x: 22, y: y(value) + 5, "text-anchor": "end" }, String(value))),
      pairs.map(dot),
    ),
    h("p", { class: "note" }, "Horizontal: the judge. Vertical: people."),
  );
}

/**
 * A curve that grows while training runs: each value faint, and the running mean.
 * @param {number} steps
 * @param {string} label
 * @returns {{ element: HTMLElement, add(value: number): void }}
 */
export function curve(steps, label) {
  const faint = svg("polyline", { class: "faint" });
  const strong = svg("polyline", { class: "strong" });
  const last = svg("circle", { r: 4, class: "score-dot", visibility: "hidden" });
  const lowText = svg("text", { x: 38, y: 160, "text-anchor": "end" });
  const highText = svg("text", { x: 38, y: 20, "text-anchor": "end" });
  const body = h("tbody");
  /** @type {number[]} */
  const values = [];
  const element = figure(
    label,
    svg(
      "svg",
      { viewBox: "0 0 500 186", ...HIDDEN },
      svg("line", { x1: 46, x2: 488, y1: 160, y2: 160, class: "axis" }),
      lowText,
      highText,
      svg("text", { x: 46, y: 180 }, "1"),
      svg("text", { x: 488, y: 180, "text-anchor": "end" }, `step ${steps}`),
      faint,
      strong,
      last,
    ),
    numbersDetails(h("thead", {}, h("tr", {}, h("th", {}, "step"), h("th", {}, "reward"))), body),
  );
  const add = (/** @type {number} */ value) => {
    values.push(value);
    body.append(h("tr", {}, h("td", {}, values.length), h("td", {}, number(value, 3))));
    const finite = values.filter(Number.isFinite);
    if (finite.length === 0) return;
    const [low, high] = [Math.min(...finite), Math.max(...finite)];
    const x = linear(1, Math.max(2, steps), 46, 488);
    const y = linear(low, high === low ? low + 1 : high, 156, 16);
    let mean = finite[0];
    const means = finite.map((v) => (mean += (v - mean) * 0.25));
    const line = (/** @type {number[]} */ list) => list.map((v, i) => `${x(i + 1).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    faint.setAttribute("points", line(finite));
    strong.setAttribute("points", line(means));
    last.setAttribute("visibility", "visible");
    last.setAttribute("cx", String(x(finite.length)));
    last.setAttribute("cy", String(y(mean)));
    lowText.textContent = number(low, 1);
    highText.textContent = number(high, 1);
  };
  return { element, add };
}

/**
 * The legend of a chart.
 * @param {[kind: string, text: string][]} entries
 */
export function legend(entries) {
  return h(
    "p",
    { class: "legend" },
    entries.map(([kind, text]) => h("span", {}, h("i", { class: `swatch ${kind}` }), text)),
  );
}

/** @param {string} title @param {...Child} children */
function figure(title, ...children) {
  return h("figure", {}, h("figcaption", {}, title), children);
}

/** The numbers behind a chart. @param {string[]} heads @param {(string | number)[][]} rows */
function numbersTable(heads, rows) {
  const head = h(
    "thead",
    {},
    h(
      "tr",
      {},
      heads.map((text) => h("th", { scope: "col" }, text)),
    ),
  );
  const body = h(
    "tbody",
    {},
    rows.map((row) =>
      h(
        "tr",
        {},
        row.map((cell) => h("td", {}, cell)),
      ),
    ),
  );
  return numbersDetails(head, body);
}

/** @param {HTMLElement} head @param {HTMLElement} body */
function numbersDetails(head, body) {
  return h(
    "details",
    { class: "numbers" },
    h("summary", {}, "Numbers"),
    h("div", { class: "scroll" }, h("table", {}, head, body)),
  );
}
