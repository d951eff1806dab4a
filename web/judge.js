// jurist in a web page: a judge that runs on the visitor's own GPU.
//
//   const judge = await Judge.load("judges/miniature/", { onProgress, signal });
//   const { score, distribution } = await judge.score({ instruction, response, rubric }, { onToken, signal });
//
// All work is done in one module worker beside this file. Types and units: judge.d.ts.

import { Failure } from "./lib/failure.js";

export { Failure };

const GRACE = 5000; // ms after a stop until the worker has at least to hear it
const LONGEST = 30_000; // ms after a stop until its call has to end, where nobody waits for a result

let worker = null;
let lastId = 0;
const waiting = new Map(); // id → the call that waits for its answer
const stopping = new Map(); // id → the timer of a call that was stopped and has not ended yet
let tell = () => {};

function office() {
  if (worker) return worker;
  const own = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "jurist" });
  worker = own;
  own.onmessage = ({ data }) => {
    if (worker === own) hear(data);
  };
  own.onerror = (event) => {
    event.preventDefault();
    if (worker === own) end(new Failure("Internal", `The engine failed: ${event.message ?? "its files cannot be read"}.`));
  };
  own.onmessageerror = () => {
    if (worker === own) end(new Failure("Internal", "The engine’s answer cannot be read."));
  };
  return own;
}

function hear({ id, event, heard, running, value, failure }) {
  const call = waiting.get(id);
  if (event) {
    call?.onEvent?.(event);
    return;
  }
  if (heard) {
    // The worker lives. A call whose result is wanted may take its time; another has been given up and only has to end.
    settle(id);
    if (running && !call) allow(id, LONGEST);
    return;
  }
  settle(id);
  waiting.delete(id);
  const error = failure && new Failure(failure.name, failure.message);
  if (failure?.broken) {
    end(error, call);
    return;
  }
  if (error) call?.reject(error);
  else call?.resolve(value);
}

/**
 * Ends the worker and everything that waits for it; the next call starts a fresh one. A wasm instance that failed is never used
 * again. `culprit` is the call that failed; without one it may be any that waits.
 */
function end(failure, culprit) {
  worker?.terminate();
  worker = null;
  for (const id of stopping.keys()) settle(id);
  const calls = [...waiting.values()];
  waiting.clear();
  const another = new Failure("EngineEnded", `The engine failed in another call. ${failure.message}`);
  culprit?.reject(failure);
  for (const call of calls) call.reject(culprit ? another : failure);
  tell(failure);
}

/** Lets a stopped call go on for so long. */
function allow(id, time) {
  const late = () => end(new Failure("EngineEnded", `The engine did not stop within ${time / 1000} seconds, so it was ended.`));
  stopping.set(id, setTimeout(late, time));
}

function settle(id) {
  clearTimeout(stopping.get(id));
  stopping.delete(id);
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
      worker.postMessage({ id, stop: true });
      allow(id, GRACE);
      if (finish) return;
      waiting.get(id).reject(new Failure("Stopped", "Stopped."));
      waiting.delete(id);
    };
    const settled = (then) => (what) => {
      signal?.removeEventListener("abort", stop);
      then(what);
    };
    waiting.set(id, { onEvent, resolve: settled(resolve), reject: settled(reject) });
    signal?.addEventListener("abort", stop, { once: true });
    office().postMessage({ id, call, args });
  });
}

/** An address, files, or {key} of a kept judge, as the worker takes it. */
function sourceOf(source) {
  if (typeof source === "string" || source instanceof URL) {
    if (URL.canParse(source, document.baseURI)) return { address: new URL(source, document.baseURI).href };
    throw new Failure("Unreachable", `${source} is no address.`);
  }
  if (source?.key) return { key: source.key };
  return { files: Array.from(source) };
}

export class Judge {
  #id;
  #home; // the worker that has it

  constructor({ judge, about, manifest, key, kept }) {
    this.#id = judge;
    this.#home = worker;
    this.about = about;
    this.manifest = manifest;
    this.key = key;
    this.kept = kept;
  }

  static async load(source, { onProgress, onNotice, signal, keep = true, halves = false } = {}) {
    const onEvent = (event) => (event.notice ? onNotice?.(new Failure(event.notice.name, event.notice.message)) : onProgress?.(event));
    return new Judge(await ask("load", { source: sourceOf(source), keep, halves }, { onEvent, signal }));
  }

  static async inspect(source, { signal, halves = false } = {}) {
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

  /** Has `listener(failure)` called whenever the worker was ended: it failed, or did not stop. Its judges are gone then. */
  static onEnd(listener) {
    tell = listener;
  }

  /** Whether this judge was closed, or the engine that had it was ended. */
  get gone() {
    return worker === null || worker !== this.#home;
  }

  #ask(call, args, options) {
    if (!this.gone) return ask(call, { judge: this.#id, ...args }, options);
    return Promise.reject(new Failure("EngineEnded", "The engine that had this judge was ended, or the judge was closed. Load it again."));
  }

  prompt(row) {
    return this.#ask("prompt", { row });
  }

  score(row, { onToken, signal, ...options } = {}) {
    return this.#ask("score", { row, options }, { onEvent: onToken, signal });
  }

  scoreBatch(rows, { onProgress, signal, ...options } = {}) {
    return this.#ask("scoreBatch", { rows, options }, { onEvent: ({ done }) => onProgress?.(done), signal });
  }

  train(rows, { heldOut = [], onStep, signal, ...options } = {}) {
    return this.#ask("train", { rows, heldOut, options }, { onEvent: onStep, signal, finish: true });
  }

  async reset() {
    await this.#ask("reset", {});
  }

  bundle() {
    return this.#ask("bundle", {});
  }

  keep(name) {
    return this.#ask("keep", { name });
  }

  async free() {
    if (this.gone) return;
    const freed = this.#ask("free", {});
    this.#home = null;
    await freed;
  }
}
