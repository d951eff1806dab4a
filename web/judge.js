// A judge that runs in a web page, on the visitor's own GPU.
//
//   const judge = await Judge.load("judges/example/", { onProgress, signal });
//   const { score, distribution } = await judge.score({ instruction, response, rubric }, { onToken, signal });
//
// One module worker beside this file does all the work. types.ts has the types and their units.

import { Failure } from "./lib/failure.js";

/**
 * @typedef {import("./types.js").About} About
 * @typedef {import("./types.js").Adapter} Adapter
 * @typedef {import("./types.js").Agreement} Agreement
 * @typedef {import("./types.js").BatchScore} BatchScore
 * @typedef {import("./types.js").Calls} Calls
 * @typedef {import("./types.js").Inspection} Inspection
 * @typedef {import("./types.js").KeptModel} KeptModel
 * @typedef {import("./types.js").LoadOptions} LoadOptions
 * @typedef {import("./types.js").Manifest} Manifest
 * @typedef {import("./types.js").Progress} Progress
 * @typedef {import("./types.js").Row} Row
 * @typedef {import("./types.js").Score} Score
 * @typedef {import("./types.js").ScoreOptions} ScoreOptions
 * @typedef {import("./types.js").Source} Source
 * @typedef {import("./types.js").StorageUse} StorageUse
 * @typedef {import("./types.js").Token} Token
 * @typedef {import("./types.js").Training} Training
 * @typedef {import("./types.js").TrainOptions} TrainOptions
 * @typedef {import("./types.js").TrainStep} TrainStep
 */
/** @import { ExportedFile, LoadedJudge, Reply, SourceMessage } from "./types.js" */

export { Failure };

const STOP_TIMEOUT = 5000; // ms after a stop until the worker has to confirm it
const STOPPED_CALL_TIMEOUT = 30_000; // ms after that until the call has to end, if nobody waits for its result

/**
 * A call that waits for its reply.
 * @typedef {{ onEvent?: (event: any) => void, resolve: (value: any) => void, reject: (failure: Failure) => void }} PendingCall
 */

/** @type {Worker | null} */
let worker = null;
let lastId = 0;
/** @type {Map<number, PendingCall>} */
const pending = new Map(); // by the call's id
/** @type {Map<number, ReturnType<typeof setTimeout>>} */
const stopTimers = new Map(); // by the id of a call that was stopped and has not ended yet
/** @type {(failure: Failure) => void} */
let endListener = () => {};

/** The worker, which is started if there is none. */
function getWorker() {
  if (worker) return worker;
  const started = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "jurist" });
  worker = started;
  started.onmessage = ({ data }) => {
    if (worker === started) handleReply(data);
  };
  started.onerror = (event) => {
    event.preventDefault();
    const why = event.message ?? "its files cannot be read";
    if (worker === started) endWorker(new Failure("Internal", `The engine failed: ${why}.`));
  };
  started.onmessageerror = () => {
    if (worker === started) endWorker(new Failure("Internal", "The engine’s answer cannot be read."));
  };
  return started;
}

/** @param {Reply} reply */
function handleReply(reply) {
  const { id } = reply;
  const call = pending.get(id);
  if ("event" in reply) {
    call?.onEvent?.(reply.event);
    return;
  }
  clearStopTimer(id);
  if ("stopReceived" in reply) {
    // The worker is alive. A call whose result is wanted may take its time. Any other call only has to end.
    if (reply.running && !call) startStopTimer(id, STOPPED_CALL_TIMEOUT);
    return;
  }
  pending.delete(id);
  if ("value" in reply) {
    call?.resolve(reply.value);
    return;
  }
  const failure = new Failure(reply.failure.name, reply.failure.message);
  if (reply.failure.breaksEngine) endWorker(failure, call);
  else call?.reject(failure);
}

/**
 * Ends the worker and rejects every pending call. The next call starts a fresh worker, because a wasm instance that failed must
 * not be used again.
 * @param {Failure} failure
 * @param {PendingCall} [failedCall] the call that failed; without it, any pending call may have failed
 */
function endWorker(failure, failedCall) {
  worker?.terminate();
  worker = null;
  for (const id of stopTimers.keys()) clearStopTimer(id);
  const calls = [...pending.values()];
  pending.clear();
  const inAnotherCall = new Failure("EngineEnded", `The engine failed in another call. ${failure.message}`);
  failedCall?.reject(failure);
  for (const call of calls) call.reject(failedCall ? inAnotherCall : failure);
  endListener(failure);
}

/**
 * Ends the worker unless the stopped call `id` makes progress within this time.
 * @param {number} id
 * @param {number} milliseconds
 */
function startStopTimer(id, milliseconds) {
  const message = `The engine did not stop within ${milliseconds / 1000} seconds, so it was ended.`;
  stopTimers.set(
    id,
    setTimeout(() => endWorker(new Failure("EngineEnded", message)), milliseconds),
  );
}

/** @param {number} id */
function clearStopTimer(id) {
  clearTimeout(stopTimers.get(id));
  stopTimers.delete(id);
}

/**
 * Calls the worker. A stop rejects at once. With `finishOnStop`, the work ends by itself instead and gives what it has.
 * @template {keyof Calls} Name
 * @param {Name} name
 * @param {Calls[Name]["args"]} args
 * @param {{ onEvent?: (event: Calls[Name]["event"]) => void, signal?: AbortSignal, finishOnStop?: boolean }} [options]
 * @returns {Promise<Calls[Name]["value"]>}
 */
function callWorker(name, args, { onEvent, signal, finishOnStop = false } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(new Failure("Stopped", "Stopped."));
      return;
    }
    lastId += 1;
    const id = lastId;
    const stop = () => {
      worker?.postMessage({ id, stop: true });
      startStopTimer(id, STOP_TIMEOUT);
      if (finishOnStop) return;
      pending.get(id)?.reject(new Failure("Stopped", "Stopped."));
      pending.delete(id);
    };
    /** @template T @param {(result: T) => void} then @returns {(result: T) => void} */
    const ending = (then) => (result) => {
      signal?.removeEventListener("abort", stop);
      then(result);
    };
    pending.set(id, { onEvent, resolve: ending(resolve), reject: ending(reject) });
    signal?.addEventListener("abort", stop, { once: true });
    getWorker().postMessage({ id, call: name, args });
  });
}

/**
 * A source as a message to the worker.
 * @param {Source} source
 * @returns {SourceMessage}
 */
function sourceMessage(source) {
  if (typeof source === "string" || source instanceof URL) {
    if (URL.canParse(source, document.baseURI)) return { address: new URL(source, document.baseURI).href };
    throw new Failure("Unreachable", `${source} is not an address.`);
  }
  if ("key" in source) return { key: source.key };
  return { files: Array.from(source) };
}

/** A loaded judge. */
export class Judge {
  /** @type {number} */
  #id;
  /** The worker that has the judge. @type {Worker | null} */
  #worker;

  /**
   * `Judge.load` makes judges.
   * @param {LoadedJudge} loaded
   */
  constructor({ judge, about, manifest, key, kept, kernels }) {
    this.#id = judge;
    this.#worker = worker;
    /** @readonly */
    this.about = about;
    /** @readonly */
    this.manifest = manifest;
    /** The bundle's name by content. @readonly */
    this.key = key;
    /** Whether the judge is kept in this browser. @readonly */
    this.kept = kept;
    /** The optional kernels that were tried on this adapter before the judge was loaded. @readonly */
    this.kernels = kernels;
  }

  /**
   * Downloads (or continues to download), checks and opens a judge.
   * @param {Source} source
   * @param {LoadOptions & {
   *   onProgress?: (progress: Progress) => void,
   *   onNotice?: (failure: Failure) => void,
   *   signal?: AbortSignal,
   * }} [options] `onNotice` is called about failures that do not stop the loading, such as a full disk
   * @returns {Promise<Judge>}
   */
  static async load(source, { onProgress, onNotice, signal, keep = true, keepHalfPrecision = false } = {}) {
    /** @param {Calls["load"]["event"]} event */
    const onEvent = (event) => {
      if ("notice" in event) onNotice?.(new Failure(event.notice.name, event.notice.message));
      else onProgress?.(event);
    };
    const args = { source: sourceMessage(source), keep, keepHalfPrecision };
    return new Judge(await callWorker("load", args, { onEvent, signal }));
  }

  /**
   * Reads the manifest of a bundle and nothing else: its size, what it needs, and the adapter.
   * @param {Source} source
   * @param {{ signal?: AbortSignal, keepHalfPrecision?: boolean }} [options]
   * @returns {Promise<Inspection>}
   */
  static async inspect(source, { signal, keepHalfPrecision = false } = {}) {
    return callWorker("inspect", { source: sourceMessage(source), keepHalfPrecision }, { signal });
  }

  /**
   * The adapter that judges run on.
   * @returns {Promise<Adapter>}
   */
  static adapter() {
    return callWorker("adapter", {});
  }

  /**
   * How well scores agree with people's, pair by pair: the metrics of `jurist eval`.
   * @param {Iterable<number>} human
   * @param {Iterable<number>} judge
   * @returns {Promise<Agreement>}
   */
  static agreement(human, judge) {
    return callWorker("agreement", { human: Float64Array.from(human), judge: Float64Array.from(judge) });
  }

  /**
   * The judges that are kept in this browser, the newest first.
   * @returns {Promise<KeptModel[]>}
   */
  static models() {
    return callWorker("models", {});
  }

  /**
   * Deletes a judge from this browser.
   * @param {string} key
   * @returns {Promise<void>}
   */
  static forget(key) {
    return callWorker("forget", { key });
  }

  /**
   * The storage that this page uses and may use, if the browser tells.
   * @returns {Promise<StorageUse | null>}
   */
  static storageEstimate() {
    return callWorker("storageEstimate", {});
  }

  /**
   * Sets the function that is called when the worker was ended: the engine failed, or did not stop within some seconds. The next
   * call starts a fresh worker. Judges that were loaded before are lost with what they have learned: their methods reject with
   * "EngineEnded".
   * @param {(failure: Failure) => void} listener
   */
  static onEnd(listener) {
    endListener = listener;
  }

  /** Whether this judge was freed, or the engine that had it was ended. */
  get gone() {
    return worker === null || worker !== this.#worker;
  }

  /**
   * Calls the worker about this judge.
   * @template {"prompt" | "score" | "scoreBatch" | "train" | "reset" | "bundle" | "keep" | "free"} Name
   * @param {Name} name
   * @param {Omit<Calls[Name]["args"], "judge">} args
   * @param {Parameters<typeof callWorker<Name>>[2]} [options]
   * @returns {Promise<Calls[Name]["value"]>}
   */
  #call(name, args, options) {
    if (!this.gone) return callWorker(name, { judge: this.#id, ...args }, options);
    const message = "The engine that had this judge was ended, or the judge was freed. Load it again.";
    return Promise.reject(new Failure("EngineEnded", message));
  }

  /**
   * The prompt of a row.
   * @param {Row} row
   */
  prompt(row) {
    return this.#call("prompt", { row });
  }

  /**
   * Scores one row.
   * @param {Row} row
   * @param {ScoreOptions & { onToken?: (token: Token) => void, signal?: AbortSignal }} [options]
   * @returns {Promise<Score>}
   */
  score(row, { onToken, signal, ...options } = {}) {
    return this.#call("score", { row, options }, { onEvent: onToken, signal });
  }

  /**
   * Scores many rows. The result of a row that cannot be judged has `error`.
   * @param {Row[]} rows
   * @param {ScoreOptions & { onProgress?: (done: number) => void, signal?: AbortSignal }} [options]
   * @returns {Promise<BatchScore[]>}
   */
  scoreBatch(rows, { onProgress, signal, ...options } = {}) {
    return this.#call("scoreBatch", { rows, options }, { onEvent: ({ done }) => onProgress?.(done), signal });
  }

  /**
   * Trains this judge in place with REAL on rows that have scores. Weights in f32 are all trained. Others stay as they are (q8,
   * q4, and f16 or bf16 loaded with `keepHalfPrecision`), and a LoRA adapter is trained (rank 8 on every projection of the
   * layers). A stop ends the training after the current step, and what was learned stays.
   * @param {Row[]} rows
   * @param {TrainOptions & { heldOut?: Row[], onStep?: (step: TrainStep) => void, signal?: AbortSignal }} [options]
   * @returns {Promise<Training>}
   */
  train(rows, { heldOut = [], onStep, signal, ...options } = {}) {
    return this.#call("train", { rows, heldOut, options }, { onEvent: onStep, signal, finishOnStop: true });
  }

  /** Restores the weights that were loaded, and drops an adapter. */
  async reset() {
    await this.#call("reset", {});
  }

  /**
   * The judge as it is now, as the files of a bundle.
   * @returns {Promise<ExportedFile[]>}
   */
  bundle() {
    return this.#call("bundle", {});
  }

  /**
   * Keeps the judge as it is now in this browser, under a name.
   * @param {string} name
   * @returns {Promise<{ key: string }>}
   */
  keep(name) {
    return this.#call("keep", { name });
  }

  /** Frees the judge's memory. */
  async free() {
    if (this.gone) return;
    const freed = this.#call("free", {});
    this.#worker = null;
    await freed;
  }
}
