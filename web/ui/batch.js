// The view "Batch": many rows, judged in portions, so that results come early and a stop loses none of them.

import { Judge } from "../judge.js";
import { cellText, judgedRow, readRows, toCsv, toJsonLines } from "../lib/rows.js";
import { histogram, scatter } from "./charts.js";
import { $, announce, duration, h, number, percent, replaceContent, rowName, saveFile } from "./dom.js";
import { samplingFields } from "./fields.js";
import { progressBar, workForm } from "./work.js";

/**
 * @import { PageState, View } from "./types.js"
 * @import { JudgedRow } from "../lib/rows.js"
 * @import { Agreement, BatchScore } from "../types.js"
 */

const PORTION = 32; // greedy rows per call; sampled rows come in one call, where each row's index chooses its random numbers
const SHOWN = 100; // rows of the table at first

/**
 * @param {PageState} state
 * @returns {View & { setText(text: string): void }}
 */
export function batchView(state) {
  const area = $("batch-rows", HTMLTextAreaElement);
  const sampling = samplingFields("batch");
  $("batch-sampling").append(sampling.element);
  let read = readRows("");

  function update() {
    read = readRows(area.value);
    const { rows, faults } = read;
    const scored = rows.filter((row) => typeof row.score === "number").length;
    const judged = rows.filter((row) => Object.hasOwn(row, "judge")).length;
    const parts = [
      rows.length > 0 && `${rows.length} rows`,
      scored > 0 && `${scored} with people’s scores`,
      judged > 0 && `${judged} with a column “judge”, which will be replaced`,
      faults.length > 0 && `${faults.length} cannot be read (${faults[0]})`,
    ];
    $("batch-read").textContent = parts.filter(Boolean).join(", ");
  }

  function setText(/** @type {string} */ text) {
    area.value = text;
    update();
  }

  area.addEventListener("input", update);
  const input = $("batch-file", HTMLInputElement);
  input.addEventListener("change", async () => {
    if (input.files?.[0]) setText(await input.files[0].text());
    input.value = "";
  });
  $("batch-examples").addEventListener("click", () => setText(toJsonLines(state.openJudge.manifest.examples ?? [])));

  workForm($("batch-form", HTMLFormElement), async (signal) => {
    update();
    const { rows } = read;
    if (rows.length === 0) {
      $("batch-read").textContent = "There is no row to judge: paste some, or use the examples.";
      area.focus();
      return;
    }
    const judge = state.openJudge;
    const { values, texts } = judge.about.scale;
    const bar = progressBar($("batch-progress"));
    const start = performance.now();
    const options = sampling.options();
    const portion = options.temperature > 0 ? rows.length : PORTION;
    const showProgress = (/** @type {number} */ done) => {
      const left = ((performance.now() - start) / 1000 / Math.max(1, done)) * (rows.length - done);
      bar.set(done, rows.length, `${done} of ${rows.length} rows, ${done ? duration(left) : "…"} left`);
    };
    showProgress(0);
    $("batch-result").replaceChildren();
    /** @type {BatchScore[]} */
    const results = [];
    try {
      while (results.length < rows.length) {
        const done = results.length;
        const next = rows.slice(done, done + portion);
        const onProgress = (/** @type {number} */ count) => showProgress(done + count);
        const found = await judge.scoreBatch(next, { ...options, signal, onProgress });
        results.push(...found);
        found.forEach((result, index) => result.error === undefined && state.addCase(next[index], result.score));
        const judged = results.map((result, index) => judgedRow(rows[index], result, texts));
        replaceContent($("batch-result"), await report(judged, values, rows.length));
      }
      announce(`${results.length} rows judged.`);
    } finally {
      bar.end();
    }
  });

  return { rebuild: () => $("batch-result").replaceChildren(), onShow: update, setText };
}

/**
 * Figures, charts and the table of judged rows.
 * @param {JudgedRow[]} judged
 * @param {number[]} values the scale's
 * @param {number} total how many rows there are to judge
 */
async function report(judged, values, total) {
  const scores = judged.map((row) => row.judge.expected).filter((score) => score !== undefined);
  /** @type {{ human: number, score: number }[]} */
  const pairs = [];
  for (const { score: human, judge } of judged) {
    if (typeof human === "number" && judge.expected !== undefined) pairs.push({ human, score: judge.expected });
  }
  const people = pairs.map(({ human }) => human);
  const agreement =
    pairs.length > 0
      ? await Judge.agreement(
          people,
          pairs.map(({ score }) => score),
        )
      : null;
  const save =
    (/** @type {string} */ extension, /** @type {string} */ type, /** @type {(rows: JudgedRow[]) => string} */ write) => () =>
      saveFile(`judged.${extension}`, new Blob([write(judged)], { type }));
  const saveButton = (/** @type {string} */ name, /** @type {() => void} */ onclick, attributes = {}) =>
    h("button", { type: "button", class: "quiet", onclick, ...attributes }, `Save as ${name}`);
  const saveCsv = save("csv", "text/csv;charset=utf-8", toCsv);
  return h(
    "div",
    {},
    figureList(judged.length, total, scores, agreement),
    h("div", { class: "columns charts" }, histogram(scores, people, values), pairs.length > 1 && scatter(pairs, values)),
    h(
      "div",
      { class: "heading" },
      h("h3", {}, "Rows"),
      h(
        "div",
        { class: "inline" },
        saveButton("CSV", saveCsv, { title: "For spreadsheets; JSONL keeps every text as it is" }),
        saveButton("JSONL", save("jsonl", "application/jsonl", toJsonLines)),
      ),
    ),
    table(judged),
  );
}

/**
 * @param {number} rows
 * @param {number} total
 * @param {number[]} scores
 * @param {Agreement | null} agreement
 */
function figureList(rows, total, scores, agreement) {
  const mean = scores.length ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
  const figure = (/** @type {string} */ name, /** @type {string} */ value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h(
    "dl",
    { class: "figures large", id: "batch-figures" },
    figure("Rows", rows < total ? `${rows} of ${total}` : String(rows)),
    figure("Mean score", number(mean)),
    scores.length < rows && figure("Not judged", String(rows - scores.length)),
    agreement && [
      figure("Pearson", number(agreement.pearson, 3)),
      figure("Spearman", number(agreement.spearman, 3)),
      figure("RMSE", number(agreement.rmse, 3)),
    ],
  );
}

/** @param {JudgedRow[]} judged */
function table(judged) {
  const hasHuman = judged.some((row) => typeof row.score === "number");
  const heads = ["Row", "Score", ...(hasHuman ? ["People"] : []), "Mass", "Response", "Chain of thought"];
  const line = (/** @type {JudgedRow} */ row, /** @type {number} */ index) => {
    const { expected, mass, feedback, error } = row.judge;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, rowName(row, index)),
      h("td", { class: "figure" }, number(expected)),
      hasHuman && h("td", { class: "figure" }, number(row.score)),
      h("td", { class: "figure" }, mass === undefined ? "–" : percent(mass)),
      h("td", { class: "text" }, cellText(row.response ?? row.prompt)),
      h("td", { class: error === null ? "text chain-cell" : "text wrong" }, error ?? feedback ?? ""),
    );
  };
  const body = h("tbody", {}, judged.slice(0, SHOWN).map(line));
  const showAll = () => {
    body.append(...judged.slice(SHOWN).map((row, index) => line(row, SHOWN + index)));
    more.remove();
  };
  const more = h("button", { type: "button", class: "quiet", onclick: showAll }, `Show all ${judged.length}`);
  return h(
    "div",
    {},
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Judged rows" },
      h(
        "table",
        { class: "rows", id: "batch-table" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            heads.map((text) => h("th", { scope: "col" }, text)),
          ),
        ),
        body,
      ),
    ),
    judged.length > SHOWN && more,
  );
}
