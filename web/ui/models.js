// The view "Models", and the offer of a judge before any of its weights are downloaded.

import { Judge } from "../judge.js";
import { ServedJudge } from "../lib/served.js";
import { unzip } from "../lib/zip.js";
import { $, bytes, count, duration, h, replaceContent } from "./dom.js";
import { failureNotice } from "./failures.js";
import { showServerOffer } from "./server.js";
import { clearFailures, progressBar, showFailure } from "./work.js";

/**
 * @import { ProgressBar } from "./work.js"
 * @import { OpenJudge, PageState, View } from "./types.js"
 * @import { Adapter, FailureName, Inspection, KernelVerdict, KeptModel, Progress, Source } from "../types.js"
 */

const SPARE_SPACE = 1.02; // records and rounding
const BARE_HOST = /^[\w.-]+\.[a-z]{2,}\//i; // an address without https://

/**
 * @param {PageState} state
 * @returns {View & { showKept(): Promise<void>, offerFiles(files: File[]): Promise<void> }}
 */
export function modelsView(state) {
  $("models-address").addEventListener("submit", (event) => {
    event.preventDefault();
    const address = $("models-url", HTMLInputElement).value.trim();
    if (address) offer(BARE_HOST.test(address) ? `https://${address}` : address);
  });
  for (const input of [$("models-folder", HTMLInputElement), $("models-files", HTMLInputElement)]) {
    input.addEventListener("change", async () => {
      await offerFiles([...(input.files ?? [])]);
      input.value = "";
    });
  }

  const offer = (/** @type {Source} */ source) => showOffer($("models-offer"), source, state.open);

  /** @param {File[]} files */
  async function offerFiles(files) {
    const archive = files.length === 1 && /\.zip$/i.test(files[0].name) ? await unzip(files[0]) : null;
    await offer(archive ?? files);
  }

  function showLoaded() {
    if (!state.judge) return;
    const { judge } = state;
    const { about, manifest } = judge;
    const own = judge instanceof ServedJudge ? null : judge.about;
    /** @type {Fact[]} */
    const facts = [
      ["Judge", manifest.name],
      own
        ? ["Parameters", `${count(own.parameters)}, ${own.weights}`]
        : ["Runs", "on this server, to which what you judge is sent"],
      ["Scale", about.scale.texts.join(" · ")],
      ["Chain of thought", about.chain ? `at most ${about.maxCompletionLength} tokens` : "none"],
    ];
    if (own) facts.push(["Context", `at most ${count(own.maxLength)} tokens`]);
    replaceContent($("models-loaded"), factList(facts), descriptionOf(manifest));
  }

  /** @param {KeptModel} model */
  function keptItem({ key, manifest, address, date, bytes: size, cachedBytes }) {
    const whole = cachedBytes >= size;
    const action = whole ? "Load" : "Continue";
    const open = () => (whole || !address ? state.open({ key }) : offer(address));
    const forget = async () => {
      await Judge.forget(key);
      await showKept();
      $("models-title").focus();
    };
    const facts = [
      whole ? bytes(size) : `${bytes(cachedBytes)} of ${bytes(size)}`,
      new Date(date).toLocaleDateString(),
      address ?? "from files",
    ];
    const button = (/** @type {string} */ name, /** @type {() => void} */ onclick) =>
      h("button", { type: "button", class: "quiet", onclick, "aria-label": `${name} ${manifest.name}` }, name);
    return h(
      "li",
      {},
      h("div", {}, h("strong", {}, manifest.name), h("p", { class: "note" }, facts.join(", "))),
      h(
        "div",
        { class: "inline" },
        button(action, () => open().catch(showFailure)),
        button("Delete", forget),
      ),
    );
  }

  async function showKept() {
    const container = $("models-kept");
    try {
      const [models, storage] = await Promise.all([Judge.models(), Judge.storageEstimate()]);
      const list = models.length ? h("ul", { class: "kept" }, models.map(keptItem)) : h("p", { class: "note" }, "None yet.");
      const used = storage && `This page uses ${bytes(storage.usage)} of the ${bytes(storage.quota)} that the browser allows.`;
      replaceContent(container, list, used && h("p", { class: "note" }, used));
    } catch (error) {
      container.replaceChildren(h("p", { class: "note" }, error.message));
    }
  }

  async function showAdapter() {
    try {
      $("models-adapter").replaceChildren(factList(adapterFacts(await Judge.adapter())));
    } catch (error) {
      $("models-adapter").replaceChildren(h("p", { class: "note" }, error.message));
    }
  }

  const onShow = () => {
    showLoaded();
    showKept();
    showAdapter();
    if (state.judge instanceof ServedJudge) $("models-server").hidden = true;
    else showServerOffer($("models-server"), state.open);
  };
  return { rebuild: showLoaded, onShow, showKept, offerFiles };
}

/**
 * Shows in `container` how large a judge is, what it needs, and the adapter. A press on its button loads it by `open`.
 * @param {HTMLElement} container
 * @param {Source} source
 * @param {OpenJudge} open
 * @returns {Promise<FailureName | null>} why there is no offer
 */
export async function showOffer(container, source, open) {
  clearFailures();
  container.replaceChildren(h("p", { class: "waiting" }, "Looking…"));
  try {
    const inspection = await Judge.inspect(source);
    replaceContent(container, offerOf(inspection, container, source, open));
    return null;
  } catch (failure) {
    const again = h("button", { type: "button", class: "quiet", onclick: () => showOffer(container, source, open) }, "Try again");
    container.replaceChildren(failureNotice(failure, again));
    return failure.name;
  }
}

/**
 * @param {Inspection} inspection
 * @param {HTMLElement} container
 * @param {Source} source
 * @param {OpenJudge} open
 */
function offerOf({ manifest, bytes: size, cachedBytes, gpuBytes, fits, why, adapter, storage }, container, source, open) {
  const missing = Math.max(0, size - cachedBytes);
  const isLocal = typeof source !== "string";
  const free = storage && storage.quota - storage.usage;
  const facts = factList([
    ["Judge", `${manifest.name}, ${count(manifest.parameters)} parameters, ${manifest.weights}`],
    ["Download", downloadFact(size, missing, isLocal)],
    ["GPU memory", `about ${bytes(gpuBytes)}`],
    ...adapterFacts(adapter),
    ...(free === null ? [] : [/** @type {Fact} */ (["Free for this page", bytes(free)])]),
  ]);
  const about = descriptionOf(manifest);
  if (!fits) return [facts, about, failureNotice({ name: "LimitTooSmall", message: why ?? "" })];
  const text = missing === 0 || isLocal ? "Open the judge" : `Load the judge (${bytes(missing)})`;
  const button = h("button", { type: "button", class: "primary", id: "load" }, text);
  const stop = h("button", { type: "button", class: "stop", hidden: true }, "Stop");
  const bar = h("div", { class: "progress", hidden: true });
  button.addEventListener("click", async () => {
    const control = new AbortController();
    stop.hidden = false;
    stop.onclick = () => control.abort();
    button.disabled = true;
    const progress = progressBar(bar);
    try {
      await open(source, { signal: control.signal, onProgress: progressText(progress) });
      container.replaceChildren();
    } catch (error) {
      if (error.name !== "Stopped") container.append(failureNotice(error));
    } finally {
      progress.end();
      stop.hidden = true;
      button.disabled = false;
    }
  });
  const lacksSpace = free !== null && missing * SPARE_SPACE > free;
  const warning = "The browser has not enough space to keep it. It works until the page is closed.";
  return [facts, about, lacksSpace && h("p", { class: "note" }, warning), h("div", { class: "actions" }, button, stop), bar];
}

/**
 * @param {number} size
 * @param {number} missing
 * @param {boolean} isLocal
 */
function downloadFact(size, missing, isLocal) {
  if (missing === 0) return "nothing, it is kept here";
  if (isLocal) return `none, ${bytes(size)} from your disk`;
  return missing < size ? `${bytes(missing)} (of ${bytes(size)}, the rest is here)` : bytes(size);
}

/**
 * A function that shows progress as bytes, rate and time left.
 * @param {ProgressBar} bar
 * @returns {(progress: Progress) => void}
 */
export function progressText(bar) {
  /** @type {{ done: number, time: number } | null} */
  let start = null; // of the download
  return ({ phase, done, total }) => {
    if (phase === "compile") {
      bar.set(total, total, "Preparing the shaders…");
      return;
    }
    const time = performance.now();
    if (phase === "read" || start === null) start = { done, time };
    const rate = ((done - start.done) / Math.max(1, time - start.time)) * 1000;
    const isRunning = rate > 0 && phase === "download";
    const speed = isRunning ? `, ${bytes(rate)}/s, ${duration((total - done) / rate)} left` : "";
    bar.set(done, total, `${Math.floor((100 * done) / total)} %, ${bytes(done)} of ${bytes(total)}${speed}`);
  };
}

/** @typedef {[name: string, value: string]} Fact */

/** @param {Adapter} adapter @returns {Fact[]} */
function adapterFacts({ adapter, vendor, architecture, software, limits, kernels }) {
  const name = adapter || [vendor, architecture].filter(Boolean).join(" ") || "not named by the browser";
  const { maxStorageBufferBindingSize: binding, maxBufferSize: buffer } = limits;
  return [
    ["Adapter", software ? `${name} (software: slow)` : name],
    ["Its limits", `${bytes(binding)} per binding, ${bytes(buffer)} per buffer`],
    ...kernelFacts(kernels),
  ];
}

/** @param {KernelVerdict[] | null} kernels @returns {Fact[]} */
function kernelFacts(kernels) {
  if (!kernels) return [];
  const used = kernels.filter((kernel) => kernel.used).map(({ name }) => name);
  const failed = kernels.filter((kernel) => !kernel.used);
  return [
    ["Kernels", used.length > 0 ? `${used.join(", ")}: compared here with sums in f64` : "plain"],
    ...failed.map(({ name, why }) => /** @type {Fact} */ ([`Left out: ${name}`, why])),
  ];
}

/**
 * What a judge's maker says it is good for.
 * @param {{ description?: string }} manifest
 */
function descriptionOf({ description }) {
  if (!description) return null;
  return h(
    "div",
    { class: "description" },
    description.split(/\n\s*\n/).map((text) => h("p", { class: "note" }, text)),
  );
}

/** @param {Fact[]} facts */
function factList(facts) {
  return h(
    "dl",
    { class: "facts" },
    facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}
