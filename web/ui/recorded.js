// A recorded run of the small judge: what this page does, before anything is loaded and where nothing can run.

import { h } from "./dom.js";
import { opinion } from "./opinion.js";

const ABOUT = { scale: { texts: ["1", "2", "3", "4", "5"], values: [1, 2, 3, 4, 5] } };
const ROW = {
  rubric: "structure minor clarity minor depth minor",
  response: "detail excellent , attitude faulty , voice not poor , phrasing strong , layout faulty , but order great ,",
  score: 4.33,
};
// Chromium 156, software adapter, temperature 0.
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

export function recordedRun() {
  const view = opinion(ABOUT, { quiet: true });
  view.done(RESULT, ROW.score);
  return h("section", { class: "recorded", "aria-labelledby": "recorded-title" },
    h("h2", { id: "recorded-title" }, "What it looks like: a recorded run"),
    h("p", { class: "note" }, "The small judge that comes with this page speaks a language of 97 words. First the rubric, then the response."),
    h("p", { class: "cited" }, ROW.rubric, h("br"), ROW.response),
    view.element);
}
