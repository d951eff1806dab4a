// The view "Compare": two responses to one case, judged one after the other with the same seed.

import { cellText, columnOf, comparedColumn } from "../lib/rows.js";
import { $, announce, h, number, replaceContent } from "./dom.js";
import { exampleList, samplingFields, textField } from "./fields.js";
import { scoreView } from "./score-view.js";
import { workForm } from "./work.js";

/**
 * @import { Child } from "./types.js"
 * @import { TextField } from "./fields.js"
 * @import { PageState, View } from "./types.js"
 * @import { Row, Score } from "../types.js"
 */

const SIDES = ["A", "B"];
const EQUAL = 0.005; // smaller differences are none in two decimals

/**
 * @param {PageState} state
 * @returns {View}
 */
export function compareView(state) {
  /** @type {TextField[]} */
  let shared = [];
  /** @type {TextField[]} */
  let pair = []; // the fields of the two responses
  const sampling = samplingFields("compare");
  $("compare-sampling").append(sampling.element);

  /** @param {number} side @returns {Row} */
  function rowOf(side) {
    const filled = [...shared, pair[side]].filter(({ value }) => value.trim());
    return Object.fromEntries(filled.map(({ name, value }) => [name, value]));
  }

  /** @param {Row} example */
  function fill(example) {
    const { examples = [] } = state.openJudge.manifest;
    const set = (/** @type {TextField} */ field, /** @type {Row} */ row) => (field.value = cellText(columnOf(row, field.name)));
    for (const field of shared) set(field, example);
    // The other response is the next example's. It was written for another rubric, so the two differ.
    const other = examples[(examples.indexOf(example) + 1) % examples.length];
    set(pair[0], example);
    set(pair[1], other);
  }

  function rebuild() {
    const { about, manifest } = state.openJudge;
    const compared = comparedColumn(about.columns);
    shared = about.columns.filter(({ name }) => name !== compared).map((column) => textField(column, about));
    pair = SIDES.map((suffix) => textField({ name: compared, optional: false }, about, { suffix }));
    replaceContent(
      $("compare-shared"),
      shared.map(({ element }) => element),
    );
    replaceContent(
      $("compare-responses"),
      pair.map(({ element }) => element),
    );
    replaceContent($("compare-examples"), exampleList("compare-example", manifest.examples, fill));
    replaceContent($("compare-results"));
    replaceContent($("compare-verdict"));
    if (manifest.examples?.length) fill(manifest.examples[0]);
  }

  workForm($("compare-form", HTMLFormElement), async (signal) => {
    const { about } = state.openJudge;
    const views = SIDES.map(() => scoreView(about, { quiet: true }));
    const section = (/** @type {string} */ name, /** @type {number} */ side) =>
      h("section", { "aria-label": `Score of ${name}` }, h("h3", {}, name), views[side].element);
    replaceContent($("compare-verdict"));
    replaceContent($("compare-results"), SIDES.map(section));
    const results = [];
    for (const [side, view] of views.entries()) {
      try {
        const options = { ...sampling.options(), signal, onToken: view.addToken };
        const result = await state.openJudge.score(rowOf(side), options);
        view.showResult(result);
        results.push(result);
        state.addCase(rowOf(side), result.score);
      } catch (error) {
        views.slice(side).forEach((rest) => rest.showStopped());
        throw error;
      }
    }
    replaceContent($("compare-verdict"), verdict(results[0], results[1], about.scale.values));
    announce($("compare-verdict").textContent ?? "");
  });

  return { rebuild, onShow: () => [...shared, ...pair].forEach((field) => field.fitHeight()) };
}

/**
 * Which response is ahead, by how much, and how often it wins if both scores are drawn from their distributions.
 * @param {Score} a
 * @param {Score} b
 * @param {number[]} values the scale's
 * @returns {Child[]}
 */
function verdict(a, b, values) {
  const difference = a.score - b.score;
  if (Math.abs(difference) < EQUAL) return ["The judge sees no difference."];
  let [wins, ties] = [0, 0]; // probabilities that A wins, and that neither does
  a.distribution.forEach((p, i) =>
    b.distribution.forEach((q, k) => {
      if (values[i] > values[k]) wins += p * q;
      if (values[i] === values[k]) ties += p * q;
    }),
  );
  const [winner, share] = difference > 0 ? ["A", wins] : ["B", 1 - wins - ties];
  const odds = `it wins ${number(100 * share, 0)} % and ties ${number(100 * ties, 0)} % of the time.`;
  return [h("strong", {}, winner), ` is ahead by ${number(Math.abs(difference))}. Drawn from both distributions, ${odds}`];
}
