// A recorded run of the small judge, shown where none can run: what this page does, when it can.

import { h } from "./dom.js";
import { opinion } from "./opinion.js";

const ABOUT = { scale: { texts: ["1", "2", "3", "4", "5"], values: [1, 2, 3, 4, 5] } };
const ROW = {
  rubric: "clarity major evidence plain tone minor",
  response: "wording strong , sources not poor , voice awful ,",
};
const RESULT = {
  score: 4.21,
  decoded: 4,
  distribution: [0.004, 0.021, 0.118, 0.474, 0.383],
  scoreMass: 0.998,
  std: 0,
  chains: [{ text: "clarity ok evidence ok tone bad", score: 4.21, distribution: [], forced: false }],
  tokens: 7,
  seconds: 0.2,
};

export function recordedRun() {
  const view = opinion(ABOUT, { quiet: true });
  view.done(RESULT);
  return h("section", { class: "recorded", "aria-labelledby": "recorded-title" },
    h("h2", { id: "recorded-title" }, "What it looks like: a recorded run"),
    h("p", { class: "note" }, "The small judge that comes with this page speaks a language of 97 words."),
    h("p", { class: "cited" }, `${ROW.rubric}: ${ROW.response}`),
    view.element);
}
