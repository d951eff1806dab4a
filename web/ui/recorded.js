// A recorded run of the small judge. It shows what this page does before anything is loaded, and where nothing can run.

import { h } from "./dom.js";
import { scoreView } from "./score-view.js";

/** @import { Score } from "../types.js" */

const ABOUT = { scale: { texts: ["1", "2", "3", "4", "5"], values: [1, 2, 3, 4, 5] } };
const ROW = {
  rubric: "structure minor clarity minor depth minor",
  response: "detail excellent , attitude faulty , voice not poor , phrasing strong , layout faulty , but order great ,",
  score: 4.33,
};
// Chromium 156, software adapter, temperature 0.
/** @type {Score} */
const RESULT = {
  score: 4.2448,
  decoded: 5,
  distribution: [0.0041, 0.0388, 0.172, 0.2785, 0.5067],
  scoreMass: 0.9987,
  std: 0,
  chains: [{ text: "structure ok clarity ok depth ok", score: 4.2448, distribution: [], forced: false }],
  tokens: 7,
  seconds: 0.0264,
};

/** The recorded run as a section of the page. */
export function recordedRun() {
  const view = scoreView(ABOUT, { quiet: true });
  view.showResult(RESULT, ROW.score);
  const note = "The small judge that comes with this page speaks a language of 95 words. The rubric is first, then the response.";
  return h(
    "section",
    { class: "recorded", "aria-labelledby": "recorded-title" },
    h("h2", { id: "recorded-title" }, "What it looks like: a recorded run"),
    h("p", { class: "note" }, note),
    h("p", { class: "cited" }, ROW.rubric, h("br"), ROW.response),
    view.element,
  );
}
