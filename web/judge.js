// jurist in a web page: a judge that runs on the visitor's own GPU.
//
//   const judge = await Judge.load("judges/miniature/", { onProgress, signal });
//   const { score, distribution } = await judge.score({ instruction, response, rubric }, { onToken, signal });
//
// All work is done in one module worker beside this file. Types and units: judge.d.ts.

import { Failure } from "./lib/failure.js";

export { Failure };

let worker = null;
let lastId = 0;
const waiting = new Map();

function office() {
  if (worker) return worker;
  worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "jurist" });
  worker.onmessage = ({ data: { id, event, value, failure } }) => {
    const call = waiting.get(id);
    if (event) {
      call?.onEvent?.(event);
      return;
    }
    waiting.delete(id);
    if (failure?.broken) close(new Failure(failure.name, failure.message));
    if (failure) call?.reject(new Failure(failure.name, failure.message));
    else call?.resolve(value);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    close(new Failure("Internal", `The worker failed: ${event.message ?? "its files cannot be read"}.`));
  };
  return worker;
}

/** Ends the worker and everything that waits for it; the next call starts a fresh one. */
function close(failure) {
  worker?.terminate();
  worker = null;
  for (const call of waiting.values()) call.reject(failure);
  waiting.clear();
}

/** Asks the worker. With `finish`, a stop lets the work end by itself and give what it has; else it rejects at once. */
function ask(call, args, { onEvent, signal, finish = false } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(new Failure("Stopped", "Stopped."));
      return;
    }
    lastId += 1;
    const id = lastId;
    const stop = () => {
      worker?.postMessage({ id, stop: true });
      if (finish) return;
      waiting.delete(id);
      reject(new Failure("Stopped", "Stopped."));
    };
    const settled = (then) => (what) => {
      signal?.removeEventListener("abort", stop);
      then(what);
    };
    waiting.set(id, { onEvent, resolve: settled(resolve), reject: settled(reject) });
    signal?.addEventListener("abort", stop);
    office().postMessage({ id, call, args });
  });
}

/** An address, files, or {key} of a kept judge, as the worker takes it. */
function sourceOf(source) {
  if (typeof source === "string" || source instanceof URL) return { address: new URL(source, document.baseURI).href };
  if (source?.key) return { key: source.key };
  return { files: Array.from(source) };
}

export class Judge {
  #id;

  constructor({ judge, about, manifest, key, kept }) {
    this.#id = judge;
    this.about = about;
    this.manifest = manifest;
    this.key = key;
    this.kept = kept;
  }

  static async load(source, { onProgress, onNotice, signal, keep = true, halves = false } = {}) {
    const onEvent = (event) => (event.notice ? onNotice?.(new Failure(event.notice.name, event.notice.message)) : onProgress?.(event));
    return new Judge(await ask("load", { source: sourceOf(source), keep, halves }, { onEvent, signal }));
  }

  static inspect(source, { signal, halves = false } = {}) {
    return ask("inspect", { source: sourceOf(source), halves }, { signal });
  }

  static adapter() {
    return ask("adapter");
  }

  static models() {
    return ask("models");
  }

  static forget(key) {
    return ask("forget", { key });
  }

  static room() {
    return ask("room");
  }

  prompt(row) {
    return ask("prompt", { judge: this.#id, row });
  }

  score(row, { onToken, signal, ...options } = {}) {
    return ask("score", { judge: this.#id, row, options }, { onEvent: onToken, signal });
  }

  scoreBatch(rows, { onProgress, signal, ...options } = {}) {
    return ask("scoreBatch", { judge: this.#id, rows, options }, { onEvent: ({ done }) => onProgress?.(done), signal });
  }

  train(rows, { heldOut = [], onStep, signal, ...options } = {}) {
    return ask("train", { judge: this.#id, rows, heldOut, options }, { onEvent: onStep, signal, finish: true });
  }

  async reset() {
    await ask("reset", { judge: this.#id });
  }

  bundle() {
    return ask("bundle", { judge: this.#id });
  }

  keep(name) {
    return ask("keep", { judge: this.#id, name });
  }

  async free() {
    await ask("free", { judge: this.#id });
  }
}
