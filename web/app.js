// The page: which judge is open, which view is shown, and what was judged so far.

import { Judge } from "./judge.js";
import { columnOf } from "./lib/rows.js";
import { ServedJudge, findBundle } from "./lib/served.js";
import { batchView } from "./ui/batch.js";
import { compareView } from "./ui/compare.js";
import { $, announce, h, replaceContent } from "./ui/dom.js";
import { judgeView } from "./ui/judge.js";
import { modelsView, progressText, showOffer } from "./ui/models.js";
import { recordedRun } from "./ui/recorded.js";
import { showServerOffer } from "./ui/server.js";
import { trainView } from "./ui/train.js";
import { blockUntil, clearFailures, progressBar, setReload, showFailure } from "./ui/work.js";

/**
 * @import { PageState } from "./ui/types.js"
 * @import { Source } from "./types.js"
 */

const LINKED = new URLSearchParams(location.search).get("judge"); // …/?judge=ADDRESS offers that judge
const SMALL = "judge/"; // the small judge that comes with the page
const LAST = "jurist.last"; // in local storage: the key of the judge that was open
const MOST_CASES = 200;
const NO_GPU = ["InsecureContext", "NoWebGpu", "NoAdapter", "NoEngine"]; // failures after which no judge runs in this browser

/** The judge that is open, or what to offer if none is. @type {Source} */
let source = LINKED ?? SMALL;
let reopening = false;

/** @type {PageState} */
const state = {
  judge: null,
  trained: false,
  cases: [],

  get openJudge() {
    if (!state.judge) throw new Error("No judge is open.");
    return state.judge;
  },

  get ownJudge() {
    if (!(state.judge instanceof Judge)) throw new Error("No judge is open in this browser.");
    return state.judge;
  },

  caseKey: (row) => JSON.stringify(state.openJudge.about.columns.map(({ name }) => columnOf(row, name) ?? "")),

  addCase(row, score, correction = null) {
    const key = state.caseKey(row);
    const known = state.cases.find((entry) => entry.key === key);
    const others = state.cases.filter((entry) => entry !== known).slice(0, MOST_CASES - 1);
    state.cases = [{ key, row, score, correction: correction ?? known?.correction ?? null }, ...others];
  },

  async open(wanted, options = {}) {
    clearFailures();
    const isServed = wanted instanceof ServedJudge;
    const judge = isServed ? wanted : await Judge.load(wanted, { ...options, onNotice: showFailure });
    await state.judge?.free().catch(() => {}); // its worker may be gone with it
    state.judge = judge;
    state.trained = false;
    state.cases = [];
    if (!isServed) source = wanted;
    if (judge instanceof Judge && judge.kept) store(LAST, judge.key);
    $("reopening").replaceChildren();
    $("current-name").textContent = isServed ? `${judge.manifest.name}, on this server` : judge.manifest.name;
    $("current").classList.add("on");
    $("opening").hidden = true;
    for (const view of Object.values(views)) view.rebuild();
    announce(`${judge.manifest.name} is loaded.`);
    location.hash = "#judge";
    showView();
  },

  updateKeptModels: () => views.models.showKept(),
};

const views = {
  judge: judgeView(state),
  compare: compareView(state),
  batch: batchView(state),
  train: trainView(state),
  models: modelsView(state),
};

/** Shows the view that the address names. */
function showView() {
  const name = Object.keys(views).find((view) => `#${view}` === location.hash) ?? "judge";
  // Without a judge there is one thing to do: load one.
  const shown = state.judge || name === "models" ? name : null;
  $("opening").hidden = shown !== null;
  for (const [view, { onShow }] of Object.entries(views)) {
    $(`view-${view}`).hidden = view !== shown;
    if (view === shown) onShow();
  }
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("nav a"))) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** @param {string} name @param {string} value */
function store(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Local storage may be forbidden. Then the page begins with its offer every time.
  }
}

/** @param {string} name */
function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/**
 * Opens the judge that was open last, if it is kept whole and needs no download. Otherwise offers one to load: the linked one, the
 * server's bundle, or the small one; and the judge that runs on this page's server, if there is one. Where no judge can run in this browser, the server's is opened.
 */
async function start() {
  const container = $("offer");
  replaceContent($("recorded"), recordedRun());
  const served = showServerOffer($("offer-server"), state.open);
  const last = LINKED ? null : stored(LAST);
  const models = last ? await Judge.models().catch(() => []) : [];
  const kept = models.find(({ key, cachedBytes, bytes }) => key === last && cachedBytes >= bytes);
  if (kept) {
    const bar = h("div", { class: "progress" });
    container.replaceChildren(h("p", { class: "waiting" }, `Opening ${kept.manifest.name}…`), bar);
    const progress = progressBar(bar);
    try {
      await state.open({ key: kept.key }, { onProgress: progressText(progress) });
      container.replaceChildren();
      return;
    } catch (error) {
      showFailure(error);
    } finally {
      progress.end();
    }
  }
  const bundle = LINKED ? null : await findBundle();
  if (bundle) source = bundle;
  $("offer-small").hidden = bundle === null;
  const failure = await showOffer(container, source, state.open);
  const offered = await served;
  if (offered && failure && NO_GPU.includes(failure) && !LINKED && !state.judge && (await offered.use())) {
    const text = `This browser cannot run a judge. ${offered.name} on this server is used instead: what you judge is sent there.`;
    const close = h("button", { type: "button", class: "quiet", onclick: () => notice.remove() }, "Close");
    const notice = h("div", { class: "failure", role: "status", id: "uses-server" }, h("p", {}, text), close);
    $("reopening").replaceChildren(notice);
  }
}

/** Accepts files that are dropped anywhere: rows for the batch, or a judge. */
function acceptDrops() {
  const cover = $("drop");
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    cover.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) cover.hidden = true;
  });
  window.addEventListener("drop", async (event) => {
    if (!event.dataTransfer || !hasFiles(event)) return;
    event.preventDefault();
    cover.hidden = true;
    const files = await filesOf(event.dataTransfer);
    const isRows = files.length === 1 && /\.(jsonl|ndjson)$/i.test(files[0].name);
    if (isRows && state.judge) {
      location.hash = "#batch";
      views.batch.setText(await files[0].text());
    } else {
      location.hash = "#models";
      showView();
      await views.models.offerFiles(files);
    }
  });
}

/**
 * The dropped files, and those in dropped folders.
 * @param {DataTransfer} transfer
 * @returns {Promise<File[]>}
 */
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null).filter((entry) => entry !== null);
  return entries.some((entry) => entry.isDirectory) ? filesBelow(entries) : [...transfer.files];
}

/** @param {FileSystemEntry[]} entries @returns {Promise<File[]>} */
async function filesBelow(entries) {
  const files = [];
  for (const entry of entries) {
    if (entry.isFile) {
      const fileEntry = /** @type {FileSystemFileEntry} */ (entry);
      files.push(await new Promise((/** @type {(file: File) => void} */ done, failed) => fileEntry.file(done, failed)));
      continue;
    }
    const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
    for (;;) {
      const next = () =>
        new Promise((/** @type {(list: FileSystemEntry[]) => void} */ done, failed) => reader.readEntries(done, failed));
      const list = await next(); // some of the folder's entries; none after the last
      if (list.length === 0) break;
      files.push(...(await filesBelow(list.filter((inner) => inner.isFile))));
    }
  }
  return files;
}

/** Closes the judge and offers it again. */
function offerAgain() {
  state.judge = null;
  $("current-name").textContent = "no judge loaded";
  $("current").classList.remove("on");
  clearFailures();
  showView();
  showOffer($("offer"), source, state.open);
}

/**
 * Opens a judge again from this browser's storage, after its engine was ended. What was typed and judged stays.
 * @param {Judge} lost
 */
async function reopen(lost) {
  const { name } = lost.manifest;
  const { trained } = state;
  const control = new AbortController();
  const bar = h("div", { class: "progress" });
  const note = h("p", {}, `The engine starts again and opens ${name} from this browser…`);
  const button = h("button", { type: "button", class: "stop", onclick: () => control.abort() }, "Stop");
  const notice = h("div", { class: "failure", role: "status" }, note, bar, h("div", { class: "inline" }, button));
  $("reopening").replaceChildren(notice);
  const progress = progressBar(bar);
  reopening = true;
  try {
    const options = { onProgress: progressText(progress), onNotice: showFailure, signal: control.signal };
    const judge = await Judge.load({ key: lost.key }, options);
    if (state.judge !== lost) return void judge.free(); // the visitor has opened another
    state.judge = judge;
    state.trained = false;
    note.textContent = `${name} is open again${trained ? ", as it was before it was trained here" : ""}.`;
    button.className = "quiet";
    button.textContent = "Close";
    button.onclick = () => notice.remove();
    progress.end();
  } catch (error) {
    notice.remove();
    if (state.judge !== lost) return;
    offerAgain();
    showFailure(error);
  } finally {
    reopening = false;
  }
}

// After a lost or full GPU, the visitor has to act first.
Judge.onEnd((failure) => {
  const lost = state.judge;
  const reopens = ["Internal", "EngineEnded"].includes(failure.name) && lost?.gone && !reopening;
  if (reopens && lost instanceof Judge && lost.kept) blockUntil(reopen(lost));
  if (failure.name === "EngineEnded") showFailure(failure);
});
setReload(offerAgain, () => Boolean(state.judge?.gone) && !reopening);
window.addEventListener("hashchange", () => {
  showView();
  $("main").focus({ preventScroll: true });
});
acceptDrops();
showView();
start().catch(showFailure);
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }).catch(() => {}); // the page works without it
}
