// The view "Compare": two responses to one case, judged one after the other with the same seed; by a judge that reads both at once,
// in both orders.

import { BOTH, oddsOfOrders, oddsOfScores, TIE_MARGIN, winnerOf } from "../lib/odds.js";
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

/**
 * @param {PageState} state
 * @returns {View}
 */
export function compareView(state) {
  /** @type {TextField[]} */
  let shared = [];
  /** @type {TextField[]} */
  let pair = []; // the fields of the two responses
  let together = false; // whether the judge reads both at once
  const sampling = samplingFields("compare");
  $("compare-sampling").append(sampling.element);

  /**
   * The row with one response, or with both: A first, or with `side` 1 B first.
   * @param {number} side
   * @returns {Row}
   */
  function rowOf(side) {
    const filled = [...shared, ...(together ? [] : [pair[side]])].filter(({ value }) => value.trim());
    const row = Object.fromEntries(filled.map(({ name, value }) => [name, value]));
    return together ? { ...row, [BOTH[0]]: pair[side].value, [BOTH[1]]: pair[1 - side].value } : row;
  }

  /** @param {Row} example */
  function fill(example) {
    const { examples = [] } = state.openJudge.manifest;
    const set = (/** @type {TextField} */ field, /** @type {Row} */ row) => (field.value = cellText(columnOf(row, field.name)));
    for (const field of [...shared, ...(together ? pair : [])]) set(field, example);
    if (together) return;
    // The other response is the next example's. It was written for another rubric, so the two differ.
    const other = examples[(examples.indexOf(example) + 1) % examples.length];
    set(pair[0], example);
    set(pair[1], other);
  }

  function rebuild() {
    const { about, manifest } = state.openJudge;
    together = BOTH.every((name) => about.columns.some((column) => column.name === name));
    const compared = together ? BOTH : [comparedColumn(about.columns)];
    shared = about.columns.filter(({ name }) => !compared.includes(name)).map((column) => textField(column, about));
    pair = SIDES.map((suffix, side) =>
      together
        ? textField({ name: BOTH[side], optional: false }, about)
        : textField({ name: compared[0], optional: false }, about, { suffix }),
    );
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
    replaceContent($("compare-results"), (together ? ["A before B", "B before A"] : SIDES).map(section));
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
    const [first, second] = results;
    const { values } = about.scale;
    const found = together ? verdictOfOrders(first, second, values) : verdict(first, second, values);
    replaceContent($("compare-verdict"), found);
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
  if (Math.abs(difference) < TIE_MARGIN) return ["The judge sees no difference."];
  const { a: wins, b: loses, tie } = oddsOfScores(a.distribution, b.distribution, values);
  const [winner, share] = difference > 0 ? ["A", wins] : ["B", loses];
  const odds = `it wins ${number(100 * share, 0)} % and ties ${number(100 * tie, 0)} % of the time.`;
  return [h("strong", {}, winner), ` is ahead by ${number(Math.abs(difference))}. Drawn from both distributions, ${odds}`];
}

/**
 * Which response is better, from both orders.
 * @param {Score} given where A is read first
 * @param {Score} swapped where B is
 * @param {number[]} values the scale's
 * @returns {Child[]}
 */
function verdictOfOrders(given, swapped, values) {
  const odds = oddsOfOrders(given.distribution, swapped.distribution, values);
  const percent = (/** @type {number} */ share) => `${number(100 * share, 0)} %`;
  const shares = `A is better with ${percent(odds.a)}, B with ${percent(odds.b)}, neither with ${percent(odds.tie)}.`;
  const winner = winnerOf(odds);
  if (!winner) return [`The judge prefers neither. In both orders together ${shares}`];
  return [h("strong", {}, winner), ` is better. In both orders together ${shares}`];
}
