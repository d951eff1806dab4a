// The form of a case: a text field for each column that the judge reads, unknown words underlined, and the rubric editor.

import { cellText } from "../lib/rows.js";
import { h } from "./dom.js";

/** @import { About, Column, Row, ScoreOptions } from "../types.js" */

// By the names of columns, which a template may choose freely.
const LABELS = new Map([
  ["instruction", "Instruction"],
  ["response", "Response"],
  ["response_a", "Response A"],
  ["response_b", "Response B"],
  ["reference", "Reference answer"],
  ["rubric", "Rubric"],
  ["prompt", "Prompt"],
]);
const HEIGHTS = new Map([
  ["response", 4],
  ["response_a", 4],
  ["response_b", 4],
  ["prompt", 5],
  ["instruction", 3],
]); // in lines
const MOST_UNKNOWN = 12; // unknown words that are named below a field
const MOST_CHAINS = 16;
const TITLE_LENGTH = 44; // characters of an example in the list

let lastId = 0;

const newId = () => {
  lastId += 1;
  return `field-${lastId}`;
};

/**
 * A text field. Setting `value` updates its height and its underlined words.
 * @typedef {{ name: string, element: HTMLElement, area: HTMLTextAreaElement, fitHeight(): void, value: string }} TextField
 */

/**
 * The text field of a column. Neither `name` nor `id` of the text area is the column's name: a form has its elements as
 * properties, which would hide its own properties and methods.
 * @param {Column} column
 * @param {Pick<About, "vocabulary">} about
 * @param {{ suffix?: string, onChange?: () => void }} [options] `suffix` distinguishes two fields of one column
 * @returns {TextField}
 */
export function textField({ name, optional }, about, { suffix = "", onChange } = {}) {
  const id = newId();
  const known = about.vocabulary ? new Set(about.vocabulary) : null;
  const note = h("p", { class: "note unknown", id: `${id}-note`, "aria-live": "polite" });
  const backdrop = h("div", { class: "backdrop", "aria-hidden": "true" });
  const attributes = { rows: HEIGHTS.get(name) ?? 2, spellcheck: known ? "false" : "true", "aria-describedby": `${id}-note` };
  const area = h("textarea", { id, ...attributes });
  const update = () => {
    fitHeight(area);
    if (known) underlineUnknown(area.value, known, backdrop, note);
  };
  area.addEventListener("input", () => {
    update();
    onChange?.();
  });
  const mark = optional && h("span", { class: "optional" }, "optional");
  const label = h("label", { for: id }, LABELS.get(name) ?? name, suffix && ` ${suffix}`, mark);
  const element = h("div", { class: "field" }, label, h("div", { class: "underlined" }, backdrop, area), note);
  return {
    name,
    element,
    area,
    fitHeight: () => fitHeight(area),
    get value() {
      return area.value;
    },
    set value(text) {
      area.value = text;
      update();
    },
  };
}

/**
 * Makes a text area as tall as its text.
 * @param {HTMLTextAreaElement} area
 */
function fitHeight(area) {
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}

/**
 * Underlines unknown words in the backdrop of a text area, and names them in its note.
 * @param {string} text
 * @param {Set<string>} known
 * @param {HTMLElement} backdrop
 * @param {HTMLElement} note
 */
function underlineUnknown(text, known, backdrop, note) {
  /** @type {Set<string>} */
  const unknown = new Set();
  const parts = text.split(/(\s+)/).map((part) => {
    if (!part.trim() || known.has(part)) return part;
    unknown.add(part);
    return h("mark", {}, part);
  });
  backdrop.replaceChildren(...parts, "\u200b");
  const list = [...unknown];
  const more = list.length > MOST_UNKNOWN ? ` and ${list.length - MOST_UNKNOWN} more` : "";
  note.textContent = list.length ? `Unknown to this judge: ${list.slice(0, MOST_UNKNOWN).join(", ")}${more}` : "";
}

/**
 * All words of a judge that knows few. A press inserts a word into the field that had the focus last.
 * @param {Pick<About, "vocabulary">} about
 * @param {TextField[]} fields
 */
export function vocabularyPanel(about, fields) {
  if (!about.vocabulary) return null;
  let target = fields.find(({ name }) => name === "response") ?? fields[fields.length - 1];
  for (const field of fields) field.area.addEventListener("focus", () => (target = field));
  const insert = (/** @type {string} */ word) => {
    const { area } = target;
    const at = area.selectionEnd;
    const before = area.value.slice(0, at);
    const space = before && !/\s$/.test(before) ? " " : "";
    target.value = `${before}${space}${word} ${area.value.slice(at).trimStart()}`;
    area.selectionStart = area.selectionEnd = (before + space + word).length + 1;
    area.dispatchEvent(new Event("input"));
  };
  const words = about.vocabulary.filter((word) => !/^<.*>$/.test(word));
  const chip = (/** @type {string} */ word) => h("button", { type: "button", class: "chip", onclick: () => insert(word) }, word);
  const hint = "This small judge was trained from scratch on a language of its own. Press a word to add it.";
  return h(
    "details",
    { class: "words" },
    h("summary", {}, `The ${words.length} words it knows`),
    h("p", { class: "note" }, hint),
    h("div", { class: "chips" }, words.map(chip)),
  );
}

/**
 * The rubric score by score, for judges that read plain language. It writes into the rubric's field.
 * @param {Pick<About, "scale" | "vocabulary">} about
 * @param {TextField | undefined} rubric
 */
export function rubricEditor(about, rubric) {
  if (!rubric || about.vocabulary) return null;
  const criterion = h("input", { type: "text", id: newId() });
  const levels = about.scale.texts.map((text) => ({ text, input: h("input", { type: "text", id: newId() }) }));
  const write = () => {
    const filled = levels.filter(({ input }) => input.value.trim());
    const lines = filled.map(({ text, input }) => `Score ${text}: ${input.value.trim()}`);
    const question = criterion.value.trim();
    rubric.value = [question && `[${question}]`, ...lines].filter(Boolean).join("\n");
  };
  for (const input of [criterion, ...levels.map((level) => level.input)]) input.addEventListener("input", write);
  const row = (/** @type {string} */ label, /** @type {HTMLInputElement} */ input) => [
    h("label", { for: input.id }, label),
    input,
  ];
  return h(
    "details",
    { class: "rubric" },
    h("summary", {}, "Write the rubric score by score"),
    h(
      "div",
      { class: "levels" },
      row("Question", criterion),
      levels.map(({ text, input }) => row(text, input)),
    ),
  );
}

/**
 * The fields for chains, temperature and seed.
 * @param {string} prefix of the fields' ids
 * @returns {{ element: HTMLElement, options(): Required<Pick<ScoreOptions, "chains" | "temperature" | "seed">> }}
 */
export function samplingFields(prefix) {
  const input = (/** @type {string} */ name, /** @type {number} */ value, /** @type {object} */ attributes) =>
    h("input", { type: "number", id: `${prefix}-${name}`, value: String(value), ...attributes });
  const chains = input("chains", 1, { min: "1", max: String(MOST_CHAINS), step: "1" });
  const temperature = input("temperature", 0, { min: "0", max: "4", step: "0.1" });
  const seed = input("seed", 0, { min: "0", step: "1" });
  chains.addEventListener("change", () => {
    // Greedy chains are all the same, so several chains need a temperature.
    if (chains.valueAsNumber > 1 && temperature.valueAsNumber === 0) temperature.value = "1";
  });
  const part = (/** @type {string} */ label, /** @type {HTMLInputElement} */ field) =>
    h("div", {}, h("label", { for: field.id }, label), field);
  const parts = [part("Chains", chains), part("Temperature", temperature), part("Seed", seed)];
  return {
    element: h("div", { class: "sampling" }, parts),
    options: () => ({
      chains: Math.max(1, Math.min(MOST_CHAINS, Math.round(chains.valueAsNumber || 1))),
      temperature: Math.max(0, temperature.valueAsNumber || 0),
      seed: Math.max(0, Math.floor(seed.valueAsNumber || 0)),
    }),
  };
}

/**
 * A list of the bundle's examples. `onPick` is called with the chosen row.
 * @param {string} id
 * @param {Row[] | undefined} examples
 * @param {(row: Row) => void} onPick
 */
export function exampleList(id, examples, onPick) {
  if (!examples?.length) return null;
  const title = (/** @type {Row} */ row, /** @type {number} */ index) => {
    const text = cellText(row.response ?? row.prompt);
    const start = text.length > TITLE_LENGTH ? `${text.slice(0, TITLE_LENGTH - 2).trimEnd()}…` : text;
    return `${index + 1}  ${start}`;
  };
  const select = h(
    "select",
    { id, "aria-label": "Examples" },
    h("option", { value: "" }, `Examples (${examples.length})`),
    examples.map((row, index) => h("option", { value: String(index) }, title(row, index))),
  );
  select.addEventListener("change", () => select.value !== "" && onPick(examples[Number(select.value)]));
  return select;
}
