// The view "Judge": one case and its score.

import { cellText, columnOf } from "../lib/rows.js";
import { ServedJudge } from "../lib/served.js";
import { $, h, replaceContent } from "./dom.js";
import { exampleList, rubricEditor, samplingFields, textField, vocabularyPanel } from "./fields.js";
import { scoreView } from "./score-view.js";
import { workForm } from "./work.js";

/**
 * @import { TextField } from "./fields.js"
 * @import { PageState, View } from "./types.js"
 * @import { Row } from "../types.js"
 */

const FAR_DOWN = 0.8; // of the window's height

/**
 * @param {PageState} state
 * @returns {View}
 */
export function judgeView(state) {
  /** @type {TextField[]} */
  let fields = [];
  /** @type {Row | null} */
  let example = null; // the example that the fields hold unchanged
  const sampling = samplingFields("judge");
  $("judge-sampling").append(sampling.element);

  /** @returns {Row} */
  function rowOfFields() {
    const filled = fields.filter(({ value }) => value.trim());
    return Object.fromEntries(filled.map(({ name, value }) => [name, value]));
  }

  /** @param {Row} row */
  function fill(row) {
    for (const field of fields) field.value = cellText(columnOf(row, field.name));
    example = row;
  }

  function rebuild() {
    const { about, manifest } = state.openJudge;
    example = null;
    fields = about.columns.map((column) => textField(column, about, { onChange: () => (example = null) }));
    const rubric = fields.find(({ name }) => name === "rubric");
    const isServed = state.openJudge instanceof ServedJudge; // a server shows no prompts
    const prompt = isServed ? null : promptPanel(() => state.ownJudge.prompt(rowOfFields()));
    replaceContent(
      $("judge-fields"),
      fields.map(({ element }) => element),
      rubricEditor(about, rubric),
      vocabularyPanel(about, fields),
      prompt,
    );
    replaceContent($("judge-examples"), exampleList("judge-example", manifest.examples, fill));
    replaceContent($("judge-result"), h("p", { class: "waiting" }, "Choose an example or write a case, then press Judge."));
    if (manifest.examples?.length) fill(manifest.examples[0]);
  }

  workForm($("judge-form", HTMLFormElement), async (signal) => {
    const view = scoreView(state.openJudge.about);
    const row = rowOfFields();
    const human = typeof example?.score === "number" ? example.score : null;
    $("judge-result").replaceChildren(view.element);
    scrollToResult();
    try {
      const result = await state.openJudge.score(row, { ...sampling.options(), signal, onToken: view.addToken });
      view.showResult(result, human);
      state.addCase(human === null ? row : { ...row, score: human }, result.score);
    } catch (error) {
      view.showStopped();
      throw error;
    }
  });

  return { rebuild, onShow: () => fields.forEach((field) => field.fitHeight()) };
}

/** On a phone the result is below the form. */
function scrollToResult() {
  const heading = $("result-title");
  if (heading.getBoundingClientRect().top <= FAR_DOWN * window.innerHeight) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  heading.scrollIntoView({ block: "start", behavior: still ? "instant" : "smooth" });
}

/**
 * "What the judge reads": the prompt as text, which is made when the panel is opened.
 * @param {() => Promise<{ text: string, tokens: number }>} prompt
 */
function promptPanel(prompt) {
  const text = h("pre", {});
  const note = h("p", { class: "note" });
  const panel = h("details", { class: "prompt" }, h("summary", {}, "What the judge reads"), note, text);
  panel.addEventListener("toggle", async () => {
    if (!panel.open) return;
    try {
      const found = await prompt();
      text.textContent = found.text;
      note.textContent = `${found.tokens} tokens`;
    } catch (error) {
      text.textContent = "";
      note.textContent = error.message;
    }
  });
  return panel;
}
