// The page: which judge is open, which view is shown, what was judged so far.

import { Judge } from "./judge.js";
import { columnOf } from "./lib/rows.js";
import { columnsOf } from "./lib/template.js";
import { batchView } from "./ui/batch.js";
import { compareView } from "./ui/compare.js";
import { $, h, put, say } from "./ui/dom.js";
import { judgeView } from "./ui/judge.js";
import { modelsView, offer, progressText } from "./ui/models.js";
import { recordedRun } from "./ui/recorded.js";
import { trainView } from "./ui/train.js";
import { clearFailures, fail, hold, onBreak, progress } from "./ui/work.js";

const LINKED = new URLSearchParams(location.search).get("judge"); // …/?judge=ADDRESS offers that judge
const FIRST = LINKED ?? "judge/"; // else the small judge that comes with the page
const LAST = "jurist.last"; // local storage: the key of the judge that was open
const CASES = 200; // judgements remembered for the view "Train"
const VIEWS = ["judge", "compare", "batch", "train", "models"];

const state = {
  judge: null,
  columns: [],
  trained: false,
  cases: [],
  source: FIRST,

  /** What the judge reads of a row: two rows with the same are the same case. */
  textOf: (row) => JSON.stringify(state.columns.map(({ name }) => columnOf(row, name) ?? "")),

  /** Keeps a judgement for the view "Train"; the newest first. */
  remember(row, result, correction = null) {
    const text = state.textOf(row);
    const known = state.cases.find((one) => one.text === text);
    state.cases = state.cases.filter((one) => one.text !== text).slice(0, CASES - 1);
    state.cases.unshift({ row, text, score: result?.score ?? null, correction: correction ?? known?.correction ?? null });
  },

  /** Loads a judge in place of the open one. */
  async open(source, options = {}) {
    clearFailures();
    const judge = await Judge.load(source, { ...options, onNotice: fail });
    await state.judge?.free().catch(() => {}); // its worker may be gone with it
    state.judge = judge;
    $("again").replaceChildren();
    state.source = source;
    state.trained = false;
    state.cases = [];
    state.columns = columnsOf(judge.manifest.judge);
    if (judge.kept) remember(LAST, judge.key);
    $("current-name").textContent = judge.manifest.name;
    $("current").classList.add("on");
    $("opening").hidden = true;
    for (const view of Object.values(views)) view.rebuild();
    say(`${judge.manifest.name} is loaded.`);
    location.hash = "#judge";
    show();
  },

  shelfChanged: () => views.models.kept(),
};

const views = {
  judge: judgeView(state),
  compare: compareView(state),
  batch: batchView(state),
  train: trainView(state),
  models: modelsView(state),
};

function show() {
  const asked = location.hash.slice(1);
  const name = VIEWS.includes(asked) ? asked : "judge";
  // Without a judge there is one thing to do: load one.
  const shown = state.judge || name === "models" ? name : null;
  $("opening").hidden = shown !== null;
  for (const view of VIEWS) $(`view-${view}`).hidden = view !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown) views[shown].shown();
}

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage may be forbidden; then the page starts with its offer every time.
  }
}

function recalled(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Opens what was open last, if it is kept whole: that needs no download. Else offers the small judge. */
async function start() {
  const place = $("offer");
  put($("recorded"), recordedRun());
  const last = LINKED ? null : recalled(LAST);
  const kept = last && (await Judge.models().catch(() => [])).find(({ key, held, bytes }) => key === last && held >= bytes);
  if (kept) {
    const bar = h("div", { class: "progress" });
    place.replaceChildren(h("p", { class: "waiting" }, `Opening ${kept.manifest.name}…`), bar);
    const shown = progress(bar);
    try {
      await state.open({ key: last }, { onProgress: progressText(shown) });
      place.replaceChildren();
      return;
    } catch (error) {
      fail(error);
    } finally {
      shown.end();
    }
  }
  await offer(place, FIRST, state.open);
}

/** Files that are dropped anywhere: rows go to the batch, everything else is a judge. */
function acceptDrops() {
  const cover = $("drop");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    cover.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) cover.hidden = true;
  });
  window.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    cover.hidden = true;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
    const files = entries.some((entry) => entry?.isDirectory) ? await filesBelow(entries) : [...event.dataTransfer.files];
    const isRows = files.length === 1 && /\.(jsonl|ndjson)$/i.test(files[0].name);
    if (isRows && state.judge) {
      location.hash = "#batch";
      views.batch.take(await files[0].text());
    } else {
      location.hash = "#models";
      show();
      await views.models.take(files);
    }
  });
}

async function filesBelow(entries) {
  const files = [];
  for (const entry of entries.filter(Boolean)) {
    if (entry.isFile) files.push(await new Promise((done, wrong) => entry.file(done, wrong)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, wrong) => reader.readEntries(done, wrong));
        if (some.length === 0) break;
        files.push(...(await filesBelow(some.filter((inner) => inner.isFile))));
      }
    }
  }
  return files;
}

/** Puts the judge away and offers it again. */
function offerAgain() {
  state.judge = null;
  $("current-name").textContent = "no judge loaded";
  $("current").classList.remove("on");
  clearFailures();
  show();
  offer($("offer"), state.source, state.open);
}

let reopening = false;

/** Opens the judge that was open anew, from this browser's store. What is typed and judged stays. */
async function reopen(lost) {
  const { name } = lost.manifest;
  const { trained } = state;
  const control = new AbortController();
  const bar = h("div", { class: "progress" });
  const words = h("p", {}, `The engine is started anew and opens ${name} again from this browser…`);
  const button = h("button", { type: "button", class: "stop", onclick: () => control.abort() }, "Stop");
  put($("again"), h("div", { class: "failure", role: "status" }, words, bar, h("div", { class: "inline" }, button)));
  const shown = progress(bar);
  reopening = true;
  try {
    const judge = await Judge.load({ key: lost.key }, { onProgress: progressText(shown), onNotice: fail, signal: control.signal });
    if (state.judge !== lost) return void judge.free(); // the visitor has opened another
    state.judge = judge;
    state.trained = false;
    words.textContent = `${name} is open again${trained ? ", as it was before it was taught here" : ""}.`;
    button.className = "quiet";
    button.textContent = "Close";
    button.onclick = () => $("again").replaceChildren();
    shown.end();
  } catch (error) {
    $("again").replaceChildren();
    if (state.judge !== lost) return;
    offerAgain();
    fail(error);
  } finally {
    reopening = false;
  }
}

// A lost GPU, or a full one, is left for the visitor to deal with first.
Judge.onEnd((failure) => {
  const opensItself = ["Internal", "EngineEnded"].includes(failure.name) && state.judge?.gone && state.judge.kept && !reopening;
  if (opensItself) hold(reopen(state.judge));
  if (failure.name === "EngineEnded") fail(failure);
});
onBreak(offerAgain, () => Boolean(state.judge?.gone) && !reopening);
window.addEventListener("hashchange", () => {
  show();
  $("main").focus({ preventScroll: true });
});
acceptDrops();
show();
start().catch(fail);
if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }).catch(() => {}); // the page works without it
