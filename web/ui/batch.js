// The view "Batch": many rows, judged in portions so that results come early and Stop loses nothing.

import { cellText, judgedRow, readRows, toCsv, toJsonLines } from "../lib/rows.js";
import { pearson, rmse, spearman } from "../lib/stats.js";
import { histogram, scatter } from "./charts.js";
import { $, download, duration, h, number, percent, rowName, say } from "./dom.js";
import { sampling } from "./fields.js";
import { progress, workForm } from "./work.js";

const PORTION = 32; // rows a call; sampled chains are drawn by a row's place in its call, so these rows come in one
const SHOWN = 100; // rows of the table at first

export function batchView(state) {
  const area = $("batch-rows");
  const choice = sampling("batch");
  $("batch-sampling").append(choice.element);
  let read = { rows: [], faults: [] };

  function look() {
    read = readRows(area.value);
    const { rows, faults } = read;
    const scored = rows.filter((row) => typeof row.score === "number").length;
    const judged = rows.filter((row) => Object.hasOwn(row, "judge")).length;
    const parts = [
      rows.length > 0 && `${rows.length} rows`,
      scored > 0 && `${scored} with people’s scores`,
      judged > 0 && `${judged} with a column “judge”, which will be replaced`,
    ];
    const bad = faults.length > 0 && `${faults.length} cannot be read (${faults[0]})`;
    $("batch-read").textContent = [...parts, bad].filter(Boolean).join(", ");
  }

  const put = (text) => {
    area.value = text;
    look();
  };
  area.addEventListener("input", look);
  $("batch-file").addEventListener("change", async ({ target }) => {
    if (target.files[0]) put(await target.files[0].text());
    target.value = "";
  });
  $("batch-examples").addEventListener("click", () => put(toJsonLines(state.judge.manifest.examples ?? [])));

  workForm($("batch-form"), async (signal) => {
    look();
    const { rows } = read;
    if (rows.length === 0) {
      $("batch-read").textContent = "There is no row to judge: paste some, or use the examples.";
      area.focus();
      return;
    }
    const { values, texts } = state.judge.about.scale;
    const bar = progress($("batch-progress"));
    const start = performance.now();
    const results = [];
    const options = choice.options();
    const portionSize = options.temperature > 0 ? rows.length : PORTION;
    const tell = (done) => {
      const left = ((performance.now() - start) / 1000 / Math.max(1, done)) * (rows.length - done);
      bar.set(done, rows.length, `${done} of ${rows.length} rows, ${done ? duration(left) : "…"} left`);
    };
    const show = () => {
      const judged = results.map((result, index) => judgedRow(rows[index], result, texts));
      $("batch-result").replaceChildren(report(judged, values, results.length < rows.length && rows.length));
    };
    tell(0);
    $("batch-result").replaceChildren();
    try {
      for (let from = 0; from < rows.length; from += portionSize) {
        const portion = rows.slice(from, from + portionSize);
        const found = await state.judge.scoreBatch(portion, { ...options, signal, onProgress: (done) => tell(from + done) });
        results.push(...found);
        found.forEach((result, index) => result.error || state.remember(portion[index], result));
        show();
      }
      say(`${results.length} rows judged.`);
    } finally {
      bar.end();
      if (results.length > 0) show();
    }
  });

  return { rebuild: () => $("batch-result").replaceChildren(), shown: look, take: put };
}

function report(judged, values, outOf) {
  const good = judged.filter(({ judge }) => judge.error === null);
  const scored = good.filter((row) => typeof row.score === "number");
  const [judge, people] = [scored.map((row) => row.judge.expected), scored.map((row) => row.score)];
  const mean = good.length ? good.reduce((sum, row) => sum + row.judge.expected, 0) / good.length : null;
  const figures = [
    ["Rows", outOf ? `${judged.length} of ${outOf}` : String(judged.length)],
    ["Mean score", number(mean)],
    good.length < judged.length && ["Not judged", String(judged.length - good.length)],
    scored.length > 0 && ["Pearson", number(pearson(judge, people), 3)],
    scored.length > 0 && ["Spearman", number(spearman(judge, people), 3)],
    scored.length > 0 && ["RMSE", number(rmse(judge, people), 3)],
  ].filter(Boolean);
  const save = (extension, type, write) => () => download(`judged.${extension}`, new Blob([write(judged)], { type }));
  return h("div", {},
    h("dl", { class: "figures large", id: "batch-figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("div", { class: "columns charts" },
      histogram(good.map((row) => row.judge.expected), people, values),
      scored.length > 1 && scatter(scored.map((row) => [row.score, row.judge.expected]), values)),
    h("div", { class: "heading" },
      h("h3", {}, "Rows"),
      h("div", { class: "inline" },
        h("button", { type: "button", class: "quiet", onclick: save("csv", "text/csv;charset=utf-8", toCsv), title: "For spreadsheets; JSONL keeps every text as it is" }, "Save as CSV"),
        h("button", { type: "button", class: "quiet", onclick: save("jsonl", "application/jsonl", toJsonLines) }, "Save as JSONL"))),
    table(judged));
}

function table(judged) {
  const withPeople = judged.some((row) => typeof row.score === "number");
  const heads = ["Row", "Score", ...(withPeople ? ["People"] : []), "Mass", "Response", "Chain of thought"];
  const line = (row, index) => {
    const { judge } = row;
    const text = cellText(row.response ?? row.prompt);
    return h("tr", {},
      h("th", { scope: "row" }, rowName(row, index)),
      h("td", { class: "figure" }, judge.error === null ? number(judge.expected) : "–"),
      withPeople && h("td", { class: "figure" }, number(row.score)),
      h("td", { class: "figure" }, judge.error === null ? percent(judge.mass) : "–"),
      h("td", { class: "text" }, text),
      h("td", { class: judge.error === null ? "text opinion-text" : "text wrong" }, judge.error ?? judge.feedback ?? ""));
  };
  const body = h("tbody", {}, judged.slice(0, SHOWN).map(line));
  const more = h("button", { type: "button", class: "quiet", onclick: () => {
    body.append(...judged.slice(SHOWN).map((row, index) => line(row, SHOWN + index)));
    more.remove();
  } }, `Show all ${judged.length}`);
  return h("div", {},
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Judged rows" },
      h("table", { class: "rows", id: "batch-table" },
        h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))), body)),
    judged.length > SHOWN && more);
}
