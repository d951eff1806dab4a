// The view "Compare": two responses to one case, judged one after the other with the same seed.

import { cellText, columnOf } from "../lib/rows.js";
import { comparedColumn } from "../lib/template.js";
import { $, h, number, say } from "./dom.js";
import { exampleList, sampling, textField } from "./fields.js";
import { opinion } from "./opinion.js";
import { workForm } from "./work.js";

const SIDES = ["A", "B"];

export function compareView(state) {
  let shared = [];
  let pair = [];
  const choice = sampling("compare");
  $("compare-sampling").append(choice.element);

  const put = (field, example) => (field.value = cellText(columnOf(example, field.name)));
  const rowOf = (side) => Object.fromEntries([...shared, pair[side]].filter(({ value }) => value.trim()).map(({ name, value }) => [name, value]));

  function fill(example) {
    const { examples } = state.judge.manifest;
    for (const field of shared) put(field, example);
    // The other response is the next example's: written for another rubric, so there is something to tell apart.
    const other = examples[(examples.indexOf(example) + 1) % examples.length];
    put(pair[0], example);
    put(pair[1], other);
  }

  function rebuild() {
    const { about, manifest } = state.judge;
    const compared = comparedColumn(state.columns);
    shared = state.columns.filter(({ name }) => name !== compared).map((column) => textField(column, about));
    pair = SIDES.map((suffix) => textField({ name: compared, optional: false }, about, { suffix }));
    $("compare-shared").replaceChildren(...shared.map(({ element }) => element));
    $("compare-responses").replaceChildren(...pair.map(({ element }) => element));
    $("compare-examples").replaceChildren(...[exampleList("compare-example", manifest.examples, fill)].filter(Boolean));
    $("compare-opinions").replaceChildren();
    $("compare-verdict").replaceChildren();
    if (manifest.examples?.length) fill(manifest.examples[0]);
  }

  workForm($("compare-form"), async (signal) => {
    const { about } = state.judge;
    const views = SIDES.map(() => opinion(about, { quiet: true }));
    $("compare-verdict").replaceChildren();
    $("compare-opinions").replaceChildren(
      ...views.map(({ element }, side) => h("section", { "aria-label": `Opinion on ${SIDES[side]}` }, h("h3", {}, SIDES[side]), element)),
    );
    const results = [];
    for (const [side, view] of views.entries()) {
      try {
        const result = await state.judge.score(rowOf(side), { ...choice.options(), signal, onToken: view.token });
        view.done(result);
        results.push(result);
        state.remember(rowOf(side), result);
      } catch (error) {
        views.slice(side).forEach((rest) => rest.stopped());
        throw error;
      }
    }
    const words = verdict(...results, about.scale.values);
    $("compare-verdict").replaceChildren(...words);
    say($("compare-verdict").textContent);
  });

  return { rebuild, shown: () => [...shared, ...pair].forEach((field) => field.refit()) };
}

/** Who is ahead, by how much, and how sure that is if both scores were drawn from their distributions. */
function verdict(a, b, values) {
  const gap = a.score - b.score;
  let [wins, ties] = [0, 0];
  a.distribution.forEach((p, i) =>
    b.distribution.forEach((q, k) => {
      if (values[i] > values[k]) wins += p * q;
      if (values[i] === values[k]) ties += p * q;
    }),
  );
  if (Math.abs(gap) < 0.005) return ["The judge sees no difference."];
  const [winner, sure] = gap > 0 ? ["A", wins] : ["B", 1 - wins - ties];
  return [h("strong", {}, winner), ` is ahead by ${number(Math.abs(gap))}. Drawn from both distributions, it wins ${number(100 * sure, 0)} % and ties ${number(100 * ties, 0)} % of the time.`];
}
