// The view "Train": the visitor corrects scores, the judge learns from them with REAL, and is measured on held-out rows.

import { cellText, columnOf, comparedColumn, readRows } from "../lib/rows.js";
import { ServedJudge } from "../lib/served.js";
import { zip } from "../lib/zip.js";
import { curve, legend, scaleLine } from "./charts.js";
import { $, announce, duration, h, number, replaceContent, saveFile } from "./dom.js";
import { progressBar, showFailure, workForm } from "./work.js";

/**
 * @import { Case, PageState, View } from "./types.js"
 * @import { Row, TrainStep, Training } from "../types.js"
 */

const SHOWN = 8; // cases listed at first
const EXAMPLES = 4; // examples judged by one press
const FEW_ROWS = 20; // held-out rows that say little
const RATES = { weights: 0.0001, adapter: 0.0005 }; // an adapter needs larger steps for the same effect
const SETTINGS = [
  { name: "steps", label: "Steps", value: 20, min: 1, max: 2000, step: 1 },
  { name: "learningRate", label: "Learning rate", value: RATES.weights, min: 0, max: 1, step: "any" },
  { name: "groupSize", label: "Chains per row", value: 8, min: 2, max: 32, step: 1 },
  { name: "batchSize", label: "Rows per step", value: 8, min: 1, max: 64, step: 1 },
  { name: "seed", label: "Seed", value: 0, min: 0, step: 1 },
];

/**
 * @param {PageState} state
 * @returns {View}
 */
export function trainView(state) {
  const settings = SETTINGS.map(({ name, label, ...attributes }) => {
    const texts = Object.entries(attributes).map(([key, value]) => [key, String(value)]);
    return { name, label, input: h("input", { type: "number", id: `train-${name}`, ...Object.fromEntries(texts) }) };
  });
  const inputOf = Object.fromEntries(settings.map(({ name, input }) => [name, input]));
  const fields = settings.map(({ label, input }) => h("div", {}, h("label", { for: input.id }, label), input));
  $("train-settings").append(
    h("details", { class: "settings" }, h("summary", {}, "Settings"), h("div", { class: "sampling" }, fields)),
  );

  const examples = () => state.openJudge.manifest.examples ?? [];

  /** The rows to learn from: those with a correction, which becomes their score. @returns {Row[]} */
  const correctedRows = () =>
    state.cases.filter(isCorrected).map(({ row, correction }) => ({ ...row, score: correction ?? undefined }));

  /** The rows to measure the judge on: those with a person's score and without a correction. @returns {Row[]} */
  function heldOutRows() {
    const corrected = new Set(state.cases.filter(isCorrected).map(({ key }) => key));
    /** @type {Map<string, Row>} */
    const rows = new Map();
    for (const row of [...examples(), ...state.cases.map((entry) => entry.row)]) {
      const key = state.caseKey(row);
      if (typeof row.score === "number" && !corrected.has(key)) rows.set(key, row);
    }
    return [...rows.values()];
  }

  function showCounts() {
    const [corrected, heldOut] = [correctedRows().length, heldOutRows().length];
    $("train-count").textContent = corrected ? `${corrected} corrected, ${heldOut} held out` : "No score corrected yet";
  }

  /** Whether training trains an adapter, as beside quantised weights. */
  const trainsAdapter = () => state.ownJudge.about.trainsAdapter;

  const isServed = () => state.openJudge instanceof ServedJudge;

  function rebuild() {
    $("train-result").replaceChildren();
    $("train-served").hidden = !isServed();
    $("train-rows").hidden = $("train-form").hidden = isServed();
    if (isServed()) return;
    const { learningRate } = inputOf;
    const isDefault = Object.values(RATES).includes(learningRate.valueAsNumber); // the visitor's own value stays
    if (isDefault) learningRate.value = String(trainsAdapter() ? RATES.adapter : RATES.weights);
    showCases();
  }

  async function judgeExamples() {
    const known = new Set(state.cases.map(({ key }) => key));
    const rows = examples()
      .filter((row) => !known.has(state.caseKey(row)))
      .slice(0, EXAMPLES);
    const results = await state.openJudge.scoreBatch(rows, { chains: 1, temperature: 0, seed: 0 });
    results.forEach((result, index) => result.error === undefined && state.addCase(rows[index], result.score));
    showCases();
    announce(`${rows.length} cases added.`);
    $("train-rows").querySelector("input")?.focus();
  }

  function showCases(all = false) {
    const shown = all ? state.cases : state.cases.slice(0, SHOWN);
    const hidden = state.cases.length - shown.length;
    const scored = shown.filter((entry) => !isCorrected(entry) && typeof entry.row.score === "number");
    const judgeButton = quietButton("Judge four examples", {
      id: "train-examples",
      onclick: async () => {
        judgeButton.disabled = true;
        await judgeExamples().catch(showFailure);
        judgeButton.disabled = false;
      },
    });
    const peopleButton = quietButton("Use people’s scores for these", {
      id: "train-people",
      onclick: () => {
        for (const entry of scored) entry.correction = entry.row.score ?? null;
        showCases(all);
      },
    });
    const hint = "What you judge is listed here. Judge some cases, or let the judge read a few examples.";
    replaceContent(
      $("train-rows"),
      shown.length > 0 &&
        h(
          "div",
          { class: "cases" },
          shown.map((entry, index) => caseRow(entry, index, state, showCounts)),
        ),
      state.cases.length === 0 && h("p", { class: "waiting" }, hint),
      h(
        "div",
        { class: "inline" },
        examples().length > 0 && judgeButton,
        scored.length > 0 && peopleButton,
        hidden > 0 && quietButton(`Show ${hidden} more`, { onclick: () => showCases(true) }),
      ),
      pastePanel(),
    );
    showCounts();
  }

  function pastePanel() {
    const text = h("textarea", { id: "train-paste", rows: 3, class: "code", spellcheck: "false" });
    const add = () => {
      for (const row of readRows(text.value).rows) {
        if (typeof row.score === "number") state.addCase(row, null, row.score);
      }
      text.value = "";
      showCases();
    };
    return h(
      "details",
      {},
      h("summary", {}, "Or paste rows with scores"),
      h("label", { for: text.id }, "JSON Lines, each with a score"),
      text,
      h("div", { class: "inline" }, quietButton("Add as corrections", { onclick: add })),
    );
  }

  workForm($("train-form", HTMLFormElement), async (signal) => {
    const rows = correctedRows();
    const heldOut = heldOutRows();
    if (rows.length === 0) {
      $("train-count").textContent = "Correct at least one score first: type your own beside the judge’s.";
      /** @type {HTMLElement | null} */ ($("train-rows").querySelector("input, button"))?.focus();
      return;
    }
    const options = Object.fromEntries(settings.map(({ name, input }) => [name, input.valueAsNumber]));
    const bar = progressBar($("train-progress"));
    const chart = curve(options.steps, "Reward per step");
    $("train-result").replaceChildren(chart.element);
    bar.set(0, options.steps, "Measuring the judge before training…");
    signal.addEventListener("abort", () => bar.set(0, 0, "Stopping after this step…"));
    const onStep = (/** @type {TrainStep} */ { step, steps, reward, secondsLeft }) => {
      chart.add(reward);
      bar.set(step, steps, `Step ${step} of ${steps}, reward ${number(reward)}, ${duration(secondsLeft)} left`);
    };
    try {
      const training = await state.ownJudge.train(rows, { ...options, heldOut, signal, onStep });
      state.trained = true;
      replaceContent($("train-result"), report(training, rows.length, heldOut, chart.element));
      const [before, after] = [training.before.rmse, training.after.rmse].map((rmse) => number(rmse));
      announce(`Trained for ${counted(training.steps, "step")}. RMSE on held-out rows before ${before}, after ${after}.`);
    } finally {
      bar.end();
    }
  });

  /**
   * @param {Training} training
   * @param {number} corrected how many rows it learned from
   * @param {Row[]} heldOut
   * @param {HTMLElement} chart
   */
  function report(training, corrected, heldOut, chart) {
    const { steps, seconds, before, after } = training;
    const { about } = state.ownJudge;
    const gotWorse = (after.rmse ?? 0) > (before.rmse ?? 0);
    const notes = [
      `${counted(steps, "step")} in ${number(seconds, 1)} s on ${counted(corrected, "corrected row")}.`,
      trainsAdapter() &&
        `Its ${about.weights} weights stay as they are: an adapter was trained. A saved bundle has both together, in f32.`,
      heldOut.length < FEW_ROWS && "So few held-out rows say little.",
      gotWorse && "On the held-out rows it got worse: correct more rows, or train with fewer steps or a smaller learning rate.",
    ];
    const change = (/** @type {string} */ name, /** @type {number | null} */ from, /** @type {number | null} */ to) => {
      const arrow = h("span", { class: "arrow", "aria-label": "then" }, "→");
      return h("div", {}, h("dt", {}, name), h("dd", {}, `${number(from)} `, arrow, ` ${number(to)}`));
    };
    return h(
      "div",
      {},
      h(
        "div",
        { class: "columns charts" },
        chart,
        h(
          "figure",
          {},
          h("figcaption", {}, heldOut.length ? `On ${counted(heldOut.length, "held-out row")}` : "No held-out rows"),
          h(
            "dl",
            { class: "figures large", id: "train-figures" },
            change("RMSE", before.rmse, after.rmse),
            before.pearson !== null && change("Pearson", before.pearson, after.pearson),
          ),
          h("p", { class: "note" }, notes.filter(Boolean).join(" ")),
          heldOut.length > 0 && rowsBeforeAndAfter(training, heldOut, about.scale.values),
        ),
      ),
      resultButtons(),
    );
  }

  function resultButtons() {
    const { name } = state.openJudge.manifest;
    const folder = `${name.replace(/[^\w.-]+/g, "-")}-trained`;
    const status = h("p", { class: "note", role: "status" });
    const button = (
      /** @type {string} */ id,
      /** @type {string} */ text,
      /** @type {() => Promise<string>} */ action,
      kind = "",
    ) =>
      h(
        "button",
        {
          type: "button",
          id,
          class: kind,
          onclick: async () => {
            try {
              status.textContent = await action();
            } catch (error) {
              showFailure(error);
            }
          },
        },
        text,
      );
    const save = async () => {
      saveFile(`${folder}.zip`, zip(folder, await state.ownJudge.bundle()));
      return "Saved. The unpacked folder is a model for the command line: jurist score --model FOLDER.";
    };
    const keep = async () => {
      await state.ownJudge.keep(`${name}, trained`);
      await state.updateKeptModels();
      return "Kept: it is listed under Models.";
    };
    const reset = async () => {
      await state.ownJudge.reset();
      state.trained = false;
      return "The judge is again as it was loaded.";
    };
    return [
      h(
        "div",
        { class: "inline" },
        button("train-save", "Save as a bundle", save, "primary"),
        button("train-keep", "Keep in this browser", keep),
        button("train-reset", "Reset the judge", reset),
      ),
      status,
    ];
  }

  return { rebuild, onShow: () => isServed() || showCases() };
}

const isCorrected = (/** @type {Case} */ { correction }) => correction !== null;

/** @param {number} count @param {string} noun */
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** @param {string} text @param {object} attributes */
const quietButton = (text, attributes) => h("button", { type: "button", class: "quiet", ...attributes }, text);

/**
 * Each held-out row on the scale: the judge before and after training, and people.
 * @param {Training} training
 * @param {Row[]} heldOut
 * @param {number[]} values the scale's
 */
function rowsBeforeAndAfter({ before, after }, heldOut, values) {
  const item = (/** @type {Row} */ row, /** @type {number} */ index) => {
    const [human, old, now] = [row.score ?? null, before.rows[index], after.rows[index]];
    return h(
      "li",
      {},
      h("span", { class: "unseen" }, `People ${number(human)}, before ${number(old)}, after ${number(now)}`),
      scaleLine(values, { score: now, before: old, human }),
    );
  };
  return h(
    "details",
    { class: "numbers" },
    h("summary", {}, "Row by row"),
    legend([
      ["before", "before"],
      ["judge round", "after"],
      ["ring-swatch", "people"],
    ]),
    h("ul", { class: "changes" }, heldOut.map(item)),
  );
}

/**
 * One judged case with the field for the visitor's own score.
 * @param {Case} entry
 * @param {number} index
 * @param {PageState} state
 * @param {() => void} onChange
 */
function caseRow(entry, index, state, onChange) {
  const { columns, scale } = state.openJudge.about;
  const [low, high] = [Math.min(...scale.values), Math.max(...scale.values)];
  const id = `correction-${index}`;
  const value = entry.correction === null ? "" : String(entry.correction);
  const limits = { min: String(low), max: String(high), step: "any" };
  const input = h("input", { id, type: "number", inputmode: "decimal", value, ...limits });
  input.addEventListener("input", () => {
    const typed = input.valueAsNumber;
    entry.correction = Number.isFinite(typed) && typed >= low && typed <= high ? typed : null;
    input.setCustomValidity(input.value === "" || entry.correction !== null ? "" : `Between ${low} and ${high}`);
    onChange();
  });
  const compared = comparedColumn(columns);
  const others = columns.filter(({ name }) => name !== compared && columnOf(entry.row, name));
  const score = (/** @type {string} */ label, /** @type {number | null | undefined} */ figure) =>
    h("p", { class: "case-score" }, h("span", { class: "small-label" }, label), " ", number(figure));
  return h(
    "div",
    { class: "case-row" },
    h(
      "div",
      { class: "case-text" },
      others.map(({ name }) => h("p", { class: "note" }, cellText(columnOf(entry.row, name)))),
      h("p", {}, cellText(columnOf(entry.row, compared))),
    ),
    score("Judge", entry.score),
    score("People", entry.row.score),
    h("div", { class: "case-correction" }, h("label", { for: id, class: "small-label" }, "Yours"), input),
  );
}
