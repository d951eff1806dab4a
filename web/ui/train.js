// The view "Train": the visitor corrects scores, the judge learns from them with REAL, and is measured on rows it has not seen.

import { cellText, columnOf, readRows } from "../lib/rows.js";
import { comparedColumn } from "../lib/template.js";
import { zip } from "../lib/zip.js";
import { curve, key, scaleLine } from "./charts.js";
import { $, download, duration, h, number, put, say } from "./dom.js";
import { fail, progress, workForm } from "./work.js";

const SHOWN = 8; // cases listed at first
const RATES = { weights: 0.0001, adapter: 0.0005 }; // an adapter has to move further for the same effect
const SETTINGS = [
  { name: "steps", label: "Steps", value: 20, min: 1, max: 2000, step: 1 },
  { name: "learningRate", label: "Learning rate", value: RATES.weights, min: 0, max: 1, step: "any" },
  { name: "groupSize", label: "Chains a row", value: 8, min: 2, max: 32, step: 1 },
  { name: "batchSize", label: "Rows a step", value: 8, min: 1, max: 64, step: 1 },
  { name: "seed", label: "Seed", value: 0, min: 0, step: 1 },
];

export function trainView(state) {
  const inputs = Object.fromEntries(SETTINGS.map(({ name, label, ...attributes }) => {
    const input = h("input", { type: "number", id: `train-${name}`, ...Object.fromEntries(Object.entries(attributes).map(([k, v]) => [k, String(v)])) });
    return [name, { label, input }];
  }));
  $("train-settings").append(
    h("details", { class: "settings" },
      h("summary", {}, "Settings"),
      h("div", { class: "sampling" }, Object.values(inputs).map(({ label, input }) => h("div", {}, h("label", { for: input.id }, label), input)))),
  );

  /** Labelled rows that are nobody's correction: what the judge is measured on. */
  const heldOut = () => {
    const taught = new Set(state.cases.filter((one) => one.correction !== null).map((one) => one.text));
    const rows = new Map();
    for (const row of [...(state.judge.manifest.examples ?? []), ...state.cases.map((one) => one.row)]) {
      if (typeof row.score === "number" && !taught.has(state.textOf(row))) rows.set(state.textOf(row), row);
    }
    return [...rows.values()];
  };
  const taught = () => state.cases.filter((one) => one.correction !== null).map((one) => ({ ...one.row, score: one.correction }));

  function tell() {
    const [learn, test] = [taught().length, heldOut().length];
    $("train-count").textContent = learn ? `${learn} corrected, ${test} held out` : "No score corrected yet";
  }

  /** Quantised weights stay as they are; an adapter learns beside them. */
  const packed = () => ["q8", "q4"].includes(state.judge.about.weights);

  function rebuild() {
    $("train-result").replaceChildren();
    const { input } = inputs.learningRate;
    const untouched = Object.values(RATES).includes(input.valueAsNumber); // a visitor's own stays
    if (untouched) input.value = String(packed() ? RATES.adapter : RATES.weights);
    list();
  }

  function list(all = false) {
    const examples = state.judge.manifest.examples ?? [];
    const fetchSome = h("button", { type: "button", class: "quiet", id: "train-examples", onclick: async () => {
      fetchSome.disabled = true;
      try {
        const known = new Set(state.cases.map((one) => one.text));
        const some = examples.filter((row) => !known.has(state.textOf(row))).slice(0, 4);
        const results = await state.judge.scoreBatch(some, { chains: 1, temperature: 0, seed: 0 });
        results.forEach((result, index) => result.error || state.remember(some[index], result));
        list();
        say(`${some.length} cases added.`);
        $("train-rows").querySelector("input")?.focus();
      } catch (error) {
        fail(error);
      } finally {
        fetchSome.disabled = false;
      }
    } }, "Judge four examples");
    const paste = h("textarea", { id: "train-paste", rows: 3, class: "code", spellcheck: "false" });
    const take = h("button", { type: "button", class: "quiet", onclick: () => {
      const rows = readRows(paste.value).rows.filter((row) => typeof row.score === "number");
      rows.forEach((row) => state.remember(row, null, row.score));
      paste.value = "";
      list();
    } }, "Add as corrections");
    const shown = all ? state.cases : state.cases.slice(0, SHOWN);
    const open = (one) => one.correction === null && typeof one.row.score === "number";
    const rest = state.cases.length - shown.length;
    put(
      $("train-rows"),
      shown.length > 0 && h("div", { class: "cases" }, shown.map((one, index) => caseRow(one, index, state, tell))),
      state.cases.length === 0 && h("p", { class: "waiting" }, "What you judge is listed here. Judge some cases, or let the judge read a few examples."),
      h("div", { class: "inline" },
        examples.length > 0 && fetchSome,
        shown.some(open) && h("button", { type: "button", class: "quiet", id: "train-people", onclick: () => {
          shown.filter(open).forEach((one) => (one.correction = one.row.score));
          list(all);
        } }, "Take people’s scores for these"),
        rest > 0 && h("button", { type: "button", class: "quiet", onclick: () => list(true) }, `Show ${rest} more`)),
      h("details", {}, h("summary", {}, "Or paste rows with scores"), h("label", { for: paste.id }, "JSON Lines with a score in each"), paste, h("div", { class: "inline" }, take)),
    );
    tell();
  }

  workForm($("train-form"), async (signal) => {
    const rows = taught();
    const held = heldOut();
    if (rows.length === 0) {
      $("train-count").textContent = "Correct at least one score first: type your own beside the judge’s.";
      $("train-rows").querySelector("input, button")?.focus();
      return;
    }
    const options = Object.fromEntries(Object.entries(inputs).map(([name, { input }]) => [name, input.valueAsNumber]));
    const bar = progress($("train-progress"));
    const chart = curve(options.steps, "Reward, step by step");
    $("train-result").replaceChildren(chart.element);
    bar.set(0, options.steps, "Measuring the judge before…");
    signal.addEventListener("abort", () => bar.set(0, 0, "Stopping after this step…"));
    try {
      const result = await state.judge.train(rows, {
        ...options,
        heldOut: held,
        signal,
        onStep: (event) => {
          chart.add(event.reward);
          bar.set(event.step, event.steps, `Step ${event.step} of ${event.steps}, reward ${number(event.reward)}, ${duration(event.secondsLeft)} left`);
        },
      });
      state.trained = true;
      $("train-result").replaceChildren(outcome(result, rows, held, chart.element));
      say(`Trained for ${result.steps} steps. Error on held-out rows before ${number(result.before.rmse)}, after ${number(result.after.rmse)}.`);
    } finally {
      bar.end();
    }
  });

  function outcome(result, rows, held, chart) {
    const { before, after, steps, seconds } = result;
    const change = (name, from, to) => h("div", {}, h("dt", {}, name), h("dd", {}, `${number(from)} `, h("span", { class: "arrow", "aria-label": "then" }, "→"), ` ${number(to)}`));
    const status = h("p", { class: "note", role: "status" });
    const work = (action) => async () => {
      try {
        status.textContent = await action();
      } catch (error) {
        fail(error);
      }
    };
    const { name } = state.judge.manifest;
    const file = `${name.replace(/[^\w.-]+/g, "-")}-taught`;
    const button = (id, text, action, kind = "") => h("button", { type: "button", id, class: kind, onclick: work(action) }, text);
    const { values } = state.judge.about.scale;
    return h("div", {},
      h("div", { class: "columns charts" },
        chart,
        h("figure", {},
          h("figcaption", {}, held.length ? `On ${held.length} rows it has not seen` : "No held-out rows"),
          h("dl", { class: "figures large", id: "train-figures" }, change("RMSE", before.rmse, after.rmse), before.pearson !== null && change("Pearson", before.pearson, after.pearson)),
          h("p", { class: "note" }, `${steps} ${steps === 1 ? "step" : "steps"} in ${number(seconds, 1)} s on ${rows.length} corrected ${rows.length === 1 ? "row" : "rows"}.`,
            packed() && ` Its ${state.judge.about.weights} weights stay as they are: an adapter learned beside them, and a saved bundle has both as one, in f32.`,
            held.length < 20 && " So few held-out rows say little.",
            after.rmse > before.rmse && " On the rows it has not seen it got worse: correct more rows, or train with fewer steps or a smaller learning rate."),
          held.length > 0 && h("details", { class: "numbers" }, h("summary", {}, "Row by row"),
            key([["before", "before"], ["judge round", "after"], ["ring-swatch", "people"]]),
            h("ul", { class: "shifts" }, held.map((row, i) => h("li", {},
              h("span", { class: "unseen" }, `People ${number(row.score)}, before ${number(before.rows[i])}, after ${number(after.rows[i])}`),
              scaleLine(values, { score: after.rows[i], before: before.rows[i], human: row.score }))))))),
      h("div", { class: "inline" },
        button("train-save", "Save as a bundle", async () => {
          download(`${file}.zip`, zip(file, await state.judge.bundle()));
          return "Saved. Unpacked, the folder is a model for the command line: jurist score --model FOLDER.";
        }, "primary"),
        button("train-keep", "Keep in this browser", async () => {
          await state.judge.keep(`${name}, taught`);
          await state.shelfChanged();
          return "Kept: it is listed under Models.";
        }),
        button("train-reset", "Reset the judge", async () => {
          await state.judge.reset();
          state.trained = false;
          return "The judge is again as it was loaded.";
        })),
      status);
  }

  return { rebuild, shown: () => list() };
}

/** One judged case with the field for the visitor's own score. */
function caseRow(one, index, state, tell) {
  const { values } = state.judge.about.scale;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const id = `correction-${index}`;
  const value = one.correction === null ? "" : String(one.correction);
  const input = h("input", { id, type: "number", min: String(low), max: String(high), step: "any", inputmode: "decimal", value });
  input.addEventListener("input", () => {
    const typed = input.valueAsNumber;
    one.correction = Number.isFinite(typed) && typed >= low && typed <= high ? typed : null;
    input.setCustomValidity(input.value === "" || one.correction !== null ? "" : `Between ${low} and ${high}`);
    tell();
  });
  const compared = comparedColumn(state.columns);
  const around = state.columns.filter(({ name }) => name !== compared && columnOf(one.row, name));
  const score = (label, number_) => h("p", { class: "case-score" }, h("span", { class: "small-label" }, label), " ", number(number_));
  return h("div", { class: "taught" },
    h("div", { class: "case-text" },
      around.map(({ name }) => h("p", { class: "note" }, cellText(columnOf(one.row, name)))),
      h("p", {}, cellText(columnOf(one.row, compared)))),
    score("Judge", one.score),
    score("People", one.row.score),
    h("div", { class: "case-mine" }, h("label", { for: id, class: "small-label" }, "Yours"), input));
}
