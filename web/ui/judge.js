// The view "Judge": one case, one opinion.

import { cellText, columnOf } from "../lib/rows.js";
import { $, h } from "./dom.js";
import { exampleList, rubricEditor, sampling, textField, vocabularyPanel } from "./fields.js";
import { opinion } from "./opinion.js";
import { workForm } from "./work.js";

export function judgeView(state) {
  let fields = [];
  let picked = null; // the example that the fields hold, with its columns that have no field
  const choice = sampling("judge");
  $("judge-sampling").append(choice.element);

  function row() {
    const filled = fields.filter(({ value }) => value.trim()).map(({ name, value }) => [name, value]);
    return Object.fromEntries(filled);
  }

  function fill(example) {
    for (const field of fields) field.value = cellText(columnOf(example, field.name));
    picked = example;
  }

  function rebuild() {
    const { about, manifest } = state.judge;
    picked = null;
    fields = state.columns.map((column) => textField(column, about, { onChange: () => (picked = null) }));
    const rubric = fields.find(({ name }) => name === "rubric");
    const reads = readsPanel(() => state.judge.prompt(row()));
    $("judge-fields").replaceChildren(
      ...fields.map(({ element }) => element),
      ...[rubricEditor(about, rubric), vocabularyPanel(about, fields), reads].filter(Boolean),
    );
    $("judge-examples").replaceChildren(...[exampleList("judge-example", manifest.examples, fill)].filter(Boolean));
    $("judge-opinion").replaceChildren(h("p", { class: "waiting" }, "Choose an example or write a case, then press Judge."));
    if (manifest.examples?.length) fill(manifest.examples[0]);
  }

  workForm($("judge-form"), async (signal) => {
    const view = opinion(state.judge.about);
    const human = typeof picked?.score === "number" ? picked.score : null;
    const asked = human === null ? row() : { ...row(), score: human };
    $("judge-opinion").replaceChildren(view.element);
    bringIntoSight($("opinion-title"));
    try {
      const result = await state.judge.score(row(), { ...choice.options(), signal, onToken: view.token });
      view.done(result, human);
      state.remember(asked, result);
    } catch (error) {
      view.stopped();
      throw error;
    }
  });

  return { rebuild, shown: () => fields.forEach((field) => field.refit()) };
}

/** On a phone the opinion is below the form. */
function bringIntoSight(heading) {
  const { top } = heading.getBoundingClientRect();
  if (top > 0.8 * window.innerHeight) heading.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth" });
}

/** "What the judge reads": the prompt as text, made when it is opened. */
function readsPanel(prompt) {
  const text = h("pre", {});
  const note = h("p", { class: "note" });
  const panel = h("details", { class: "reads" }, h("summary", {}, "What the judge reads"), note, text);
  panel.addEventListener("toggle", async () => {
    if (!panel.open) return;
    try {
      const read = await prompt();
      text.textContent = read.text;
      note.textContent = `${read.tokens} tokens`;
    } catch (failure) {
      text.textContent = "";
      note.textContent = failure.message;
    }
  });
  return panel;
}
