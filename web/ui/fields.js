// The form of a case: one text field for each column that the judge reads, unknown words marked, and the rubric editor.

import { cellText } from "../lib/rows.js";
import { h } from "./dom.js";

// By the names of columns, which a template may choose freely.
const LABELS = new Map([["instruction", "Instruction"], ["response", "Response"], ["reference", "Reference answer"], ["rubric", "Rubric"], ["prompt", "Prompt"]]);
const ROWS = new Map([["response", 4], ["prompt", 5], ["instruction", 3]]);
const WORD_LIMIT = 12; // unknown words named below a field

let lastId = 0;

export const labelOf = (name) => LABELS.get(name) ?? name;

const newId = () => {
  lastId += 1;
  return `field-${lastId}`;
};

/**
 * A text field: {element, get value, set value}. `about` is the judge's; `suffix` distinguishes two fields of one column. Neither
 * `name` nor `id` of the element is the column's name: a form has its elements as properties, and they hide its own.
 */
export function textField({ name, optional }, about, { suffix = "", onChange } = {}) {
  const id = newId();
  const known = about.vocabulary ? new Set(about.vocabulary) : null;
  const note = h("p", { class: "note unknown", id: `${id}-note`, "aria-live": "polite" });
  const behind = h("div", { class: "behind", "aria-hidden": "true" });
  const area = h("textarea", { id, rows: ROWS.get(name) ?? 2, spellcheck: known ? "false" : "true", "aria-describedby": `${id}-note` });
  const look = () => {
    fit(area);
    if (known) markUnknown(area.value, known, behind, note);
  };
  area.addEventListener("input", () => {
    look();
    onChange?.();
  });
  const label = h("label", { for: id }, labelOf(name), suffix && ` ${suffix}`, optional && h("span", { class: "optional" }, "optional"));
  const element = h("div", { class: "field" }, label, h("div", { class: "marked" }, behind, area), note);
  return {
    name,
    element,
    area,
    refit: () => fit(area),
    get value() {
      return area.value;
    },
    set value(text) {
      area.value = text;
      look();
    },
  };
}

/** As tall as its text. */
function fit(area) {
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}

function markUnknown(text, known, behind, note) {
  const unknown = new Set();
  const pieces = text.split(/(\s+)/).map((piece) => {
    if (!piece.trim() || known.has(piece)) return piece;
    unknown.add(piece);
    return h("mark", {}, piece);
  });
  behind.replaceChildren(...pieces, "\u200b");
  const list = [...unknown];
  const more = list.length > WORD_LIMIT ? ` and ${list.length - WORD_LIMIT} more` : "";
  note.textContent = list.length ? `Unknown to this judge: ${list.slice(0, WORD_LIMIT).join(", ")}${more}` : "";
}

/** All words of a judge that knows few; a press puts one into the field that was last used. */
export function vocabularyPanel(about, fields) {
  if (!about.vocabulary) return null;
  let target = fields.find(({ name }) => name === "response") ?? fields.at(-1);
  for (const field of fields) field.area.addEventListener("focus", () => (target = field));
  const insert = (word) => {
    const { area } = target;
    const at = area.selectionEnd;
    const before = area.value.slice(0, at);
    const space = before && !/\s$/.test(before) ? " " : "";
    target.value = `${before}${space}${word} ${area.value.slice(at).trimStart()}`;
    area.selectionStart = area.selectionEnd = (before + space + word).length + 1;
    area.dispatchEvent(new Event("input"));
  };
  const words = about.vocabulary.filter((word) => !/^<.*>$/.test(word));
  return h(
    "details",
    { class: "words" },
    h("summary", {}, `The ${words.length} words it knows`),
    h("p", { class: "note" }, "This small judge speaks a language of its own, made to learn judging from nothing. A press adds a word."),
    h("div", { class: "chips" }, words.map((word) => h("button", { type: "button", class: "chip", onclick: () => insert(word) }, word))),
  );
}

/** The rubric score by score, for judges that read plain language: it writes into the rubric's field. */
export function rubricEditor(about, rubric) {
  if (!rubric || about.vocabulary) return null;
  const criterion = h("input", { type: "text", id: newId() });
  const levels = about.scale.texts.map((text) => ({ text, input: h("input", { type: "text", id: newId() }) }));
  const write = () => {
    const lines = levels.filter(({ input }) => input.value.trim()).map(({ text, input }) => `Score ${text}: ${input.value.trim()}`);
    rubric.value = [criterion.value.trim() && `[${criterion.value.trim()}]`, ...lines].filter(Boolean).join("\n");
  };
  for (const input of [criterion, ...levels.map((level) => level.input)]) input.addEventListener("input", write);
  const row = (label, input) => [h("label", { for: input.id }, label), input];
  return h(
    "details",
    { class: "rubric" },
    h("summary", {}, "Write the rubric score by score"),
    h("div", { class: "levels" }, row("Asks", criterion), levels.map(({ text, input }) => row(text, input))),
  );
}

/** Chains, temperature and seed: {element, options()}. */
export function sampling(prefix, { chains = 1 } = {}) {
  const input = (name, value, attributes) => h("input", { type: "number", id: `${prefix}-${name}`, value: String(value), ...attributes });
  const several = input("chains", chains, { min: "1", max: "16", step: "1" });
  const temperature = input("temperature", chains > 1 ? 1 : 0, { min: "0", max: "4", step: "0.1" });
  const seed = input("seed", 0, { min: "0", step: "1" });
  several.addEventListener("change", () => {
    // Greedy chains are all the same: several need some chance.
    if (several.valueAsNumber > 1 && temperature.valueAsNumber === 0) temperature.value = "1";
  });
  const part = (label, field) => h("div", {}, h("label", { for: field.id }, label), field);
  const element = h("div", { class: "sampling" }, part("Chains", several), part("Temperature", temperature), part("Seed", seed));
  const options = () => ({
    chains: Math.max(1, Math.min(16, Math.round(several.valueAsNumber || 1))),
    temperature: Math.max(0, temperature.valueAsNumber || 0),
    seed: Math.max(0, Math.floor(seed.valueAsNumber || 0)),
  });
  return { element, options };
}

/** A list of the bundle's examples; `pick(row)` is called with the chosen one. */
export function exampleList(id, examples, pick) {
  if (!examples?.length) return null;
  const title = (row, index) => {
    const text = cellText(row.response ?? row.prompt);
    const start = text.length > 44 ? `${text.slice(0, 42).trimEnd()}…` : text;
    return `${index + 1}  ${start}`;
  };
  const select = h(
    "select",
    { id, "aria-label": "Examples" },
    h("option", { value: "" }, `Examples (${examples.length})`),
    examples.map((row, index) => h("option", { value: String(index) }, title(row, index))),
  );
  select.addEventListener("change", () => select.value !== "" && pick(examples[Number(select.value)]));
  return select;
}
