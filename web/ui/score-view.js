// What a judge says about one case: the chains while they are written, then the score, its distribution and its figures.

import { scaleLine } from "./charts.js";
import { announce, h, number, percent } from "./dom.js";

/** @import { About, Score, Token } from "../types.js" */

const ANNOUNCE_INTERVAL = 2500; // ms between two pieces of a chain for screen readers

/**
 * @typedef {object} ScoreView
 * @property {HTMLElement} element
 * @property {(token: Token) => void} addToken adds text to a chain
 * @property {(result: Score, human?: number | null) => void} showResult `human` is a person's score of the case
 * @property {() => void} showStopped
 */

/**
 * An empty view that fills as tokens come. A `quiet` one announces nothing to screen readers.
 * @param {Pick<About, "scale">} about
 * @param {{ quiet?: boolean }} [options]
 * @returns {ScoreView}
 */
export function scoreView(about, { quiet = false } = {}) {
  const waiting = h("p", { class: "waiting" }, "Reading the case…");
  const head = h("div", { class: "score-head" }, waiting);
  const bars = h("div");
  const chains = h("div", { class: "chains" });
  const element = h("div", { class: "score-view" }, head, bars, chains);
  /** @type {{ text: HTMLElement, score: HTMLElement }[]} */
  const blocks = [];
  let unannounced = "";
  let announcedAt = performance.now();

  const blockOf = (/** @type {number} */ chain) => {
    if (!blocks[chain]) {
      blocks[chain] = { text: h("p", { class: "chain-text" }), score: h("p", { class: "chain-score" }) };
      chains.append(h("div", { class: "chain" }, blocks[chain].text, blocks[chain].score));
    }
    return blocks[chain];
  };
  return {
    element,
    addToken({ chain, text }) {
      waiting.textContent = "Writing the chain of thought…";
      const paragraph = blockOf(chain).text;
      paragraph.append(paragraph.childNodes.length ? text : text.trimStart());
      if (quiet || chain > 0) return;
      unannounced += text;
      if (performance.now() - announcedAt > ANNOUNCE_INTERVAL && /\s$|^\s/.test(text)) {
        announce(unannounced);
        unannounced = "";
        announcedAt = performance.now();
      }
    },
    showResult(result, human = null) {
      head.replaceChildren(scoreLine(result, about, human), figures(result, about, human));
      bars.replaceChildren(distributionTable(result.distribution, result.decoded, about));
      result.chains.forEach((chain, index) => {
        const block = blockOf(index);
        block.text.textContent = chain.text.trim();
        const notes = [
          result.chains.length > 1 && `Chain ${index + 1}: ${number(chain.score)}`,
          chain.forced && "the score phrase had to be added",
        ];
        block.score.textContent = notes.filter(Boolean).join(", ");
      });
      if (!quiet) announce(`${unannounced} Expected score ${number(result.score)}.`);
    },
    showStopped() {
      head.replaceChildren(h("p", { class: "waiting" }, "Stopped."));
    },
  };
}

/**
 * The expected score as a number and on its scale.
 * @param {Score} result
 * @param {Pick<About, "scale">} about
 * @param {number | null} human
 */
function scoreLine({ score, std, chains }, about, human) {
  const label = h("span", { class: "unseen" }, "Expected score ");
  return h(
    "div",
    { class: "score-line" },
    h("p", { class: "score" }, label, h("span", { class: "score-value" }, number(score))),
    scaleLine(about.scale.values, { score, std, chains: chains.map((chain) => chain.score), human }),
  );
}

/**
 * @param {Score} result
 * @param {Pick<About, "scale">} about
 * @param {number | null} human
 */
function figures(result, about, human) {
  const { texts, values } = about.scale;
  const { calibrated } = result;
  const speed = result.seconds > 0 ? `${number(result.tokens / result.seconds, 0)} tokens/s` : "–";
  const figure = (
    /** @type {string} */ name,
    /** @type {string} */ value,
    /** @type {HTMLElement | undefined} */ mark = undefined,
  ) => h("div", {}, h("dt", {}, name, mark), h("dd", {}, value));
  return h(
    "dl",
    { class: "figures" },
    figure("Decoded", texts[values.indexOf(result.decoded)] ?? number(result.decoded)),
    figure("Score mass", percent(result.scoreMass)),
    calibrated && figure("Calibrated", number(calibrated.score)),
    calibrated &&
      figure(`Interval, ${number(100 * calibrated.level, 0)} %`, `${number(calibrated.low)} to ${number(calibrated.high)}`),
    result.chains.length > 1 && figure("Spread", `± ${number(result.std)}`),
    human !== null && figure("People", number(human), h("i", { class: "ring" })),
    figure("Speed", speed),
  );
}

/**
 * The score distribution as a table whose middle column is a bar.
 * @param {number[]} probabilities
 * @param {number} decoded
 * @param {Pick<About, "scale">} about
 */
function distributionTable(probabilities, decoded, about) {
  const { texts, values } = about.scale;
  const row = (/** @type {number} */ p, /** @type {number} */ index) => {
    const bar = h("span", { class: "bar" });
    bar.style.width = `${(100 * p).toFixed(2)}%`;
    return h(
      "tr",
      { class: values[index] === decoded && "best" },
      h("th", { scope: "row" }, texts[index]),
      h("td", { class: "track" }, bar),
      h("td", { class: "share" }, percent(p)),
    );
  };
  return h(
    "table",
    { class: "distribution" },
    h("caption", { class: "unseen" }, "Probability of each score"),
    h("thead", { class: "unseen" }, h("tr", {}, h("th", {}, "score"), h("th", {}, "bar"), h("th", {}, "probability"))),
    h("tbody", {}, probabilities.map(row)),
  );
}
