// The worker: it owns the engine, the model cache and the judges. types.ts has its messages (Request, Reply) and calls (Calls).
//
// Calls run one after another, except those that do not need the GPU. A stop is received whenever the engine waits for the GPU.
// After a failure that breaks the engine, or an error that no call caught, nothing runs on this engine any more.

import { download } from "./lib/download.js";
import { Failure } from "./lib/failure.js";
import { readManifest } from "./lib/manifest.js";
import { openModelCache } from "./lib/model-cache.js";
import { AddressSource, CacheSource, FileSource } from "./lib/source.js";
import { requestSubgroups } from "./lib/subgroups.js";

/**
 * @import { Engine, WebJudge } from "./engine/jurist.js"
 * @import { BundleSource } from "./lib/source.js"
 * @import { CacheRecord, ModelCache } from "./lib/model-cache.js"
 * @import { ReadBundle } from "./lib/manifest.js"
 * @import { BundleFile, Calls, ExportedFile, LoadEvent, Request, Row, SourceMessage, StorageUse } from "./types.js"
 */

/** @typedef {typeof import("./engine/jurist.js")} EngineModule */

const NOT_QUEUED = ["agreement", "models", "forget", "storageEstimate"]; // calls that do not need the GPU
const PUSH_BYTES = 1 << 20; // bytes handed to the engine at once

/** @type {Promise<EngineModule> | null} */
let engineModule = null;
/** @type {Engine | null} */
let engine = null;
/** @type {Map<number, WebJudge>} */
const judges = new Map();
let lastJudge = 0;
/** @type {ModelCache | null | undefined} */
let modelCache; // undefined: not yet looked for; null: this browser has none
/** @type {Map<number, AbortController>} */
const stops = new Map(); // by the call's id
let queue = Promise.resolve();
/** @type {number | null} */
let running = null; // the id of the call that the engine works on
let broken = false;

self.addEventListener("message", (/** @type {MessageEvent<Request>} */ { data }) => {
  const { id } = data;
  if ("stop" in data) {
    self.postMessage({ id, stopReceived: true, running: running === id });
    stops.get(id)?.abort();
    return;
  }
  const controller = new AbortController();
  stops.set(id, controller);
  const work = () => answer(id, data.call, data.args ?? {}, controller.signal);
  const next = async () => {
    running = id;
    await work();
    running = null;
  };
  if (NOT_QUEUED.includes(data.call)) work();
  else queue = queue.then(next);
});

// A rejected promise of the engine that nothing awaits becomes an error of the worker, which the page receives.
self.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  broken = true;
  setTimeout(() => {
    throw event.reason;
  });
});
self.addEventListener("error", () => (broken = true));

/**
 * Runs a call and posts its result or its failure.
 * @param {number} id
 * @param {keyof Calls} call
 * @param {any} args
 * @param {AbortSignal} signal
 */
async function answer(id, call, args, signal) {
  try {
    if (broken) throw new Failure("EngineEnded", "The engine has failed. Load the judge again.");
    if (signal.aborted) throw new Failure("Stopped", "Stopped.");
    const onEvent = (/** @type {any} */ event) => self.postMessage({ id, event });
    const { value, transfer } = /** @type {Answer<any>} */ ((await CALLS[call](args, onEvent, signal)) ?? { value: undefined });
    self.postMessage({ id, value }, transfer ?? []);
  } catch (error) {
    const failure = Failure.of(error);
    const { name, message, breaksEngine } = failure;
    if (breaksEngine) broken = true;
    if (name === "Internal") console.warn(error);
    self.postMessage({ id, failure: { name, message, breaksEngine } });
  } finally {
    stops.delete(id);
  }
}

/**
 * The result of a call, and what of it is moved to the page instead of copied.
 * @template T
 * @typedef {{ value: T, transfer?: Transferable[] }} Answer
 */
/**
 * @template {keyof Calls} Name
 * @typedef {(
 *   args: Calls[Name]["args"],
 *   onEvent: (event: Calls[Name]["event"]) => void,
 *   signal: AbortSignal,
 * ) => Promise<Answer<Calls[Name]["value"]> | void>} Handler
 */

/** @type {{ [Name in keyof Calls]: Handler<Name> }} */
const CALLS = {
  adapter: async () => ({ value: JSON.parse((await openEngine()).info()) }),

  async agreement({ human, judge }) {
    const { agreement } = await loadEngineModule();
    return { value: JSON.parse(agreement(human, judge)) };
  },

  async inspect({ source, keepHalfPrecision }, onEvent, signal) {
    const open = await openEngine();
    const { bundle } = await resolveSource(source, signal);
    const { check_bundle } = await loadEngineModule();
    const fit = JSON.parse(check_bundle(open, bundle.text, keepHalfPrecision));
    const cachedBytes = (await (await getModelCache())?.bytes(bundle.key)) ?? 0;
    const { manifest, key, bytes } = bundle;
    const [adapter, storage] = [JSON.parse(open.info()), await storageEstimate()];
    return { value: { key, manifest, bytes, cachedBytes, ...fit, adapter, storage } };
  },

  async load({ source, keep, keepHalfPrecision }, onEvent, signal) {
    const open = await openEngine();
    const { bundle, from } = await resolveSource(source, signal);
    const { check_bundle } = await loadEngineModule();
    const fit = JSON.parse(check_bundle(open, bundle.text, keepHalfPrecision));
    if (!fit.fits) throw new Failure("LimitTooSmall", fit.why);
    const kernels = JSON.parse(await open.choose_kernels(bundle.text, keepHalfPrecision));
    const { judge, kept } = await loadShards(open, bundle, from, { keep, keepHalfPrecision }, onEvent, signal);
    lastJudge += 1;
    judges.set(lastJudge, judge);
    const about = JSON.parse(judge.about());
    return { value: { judge: lastJudge, about, manifest: bundle.manifest, key: bundle.key, kept, kernels } };
  },

  prompt: async ({ judge, row }) => ({ value: JSON.parse(judgeOf(judge).prompt(JSON.stringify(row))) }),

  async score({ judge, row, options }, onEvent, signal) {
    const onToken = (/** @type {string} */ token) => {
      onEvent(JSON.parse(token));
      return !signal.aborted;
    };
    return { value: JSON.parse(await judgeOf(judge).score(JSON.stringify(row), JSON.stringify(options), onToken)) };
  },

  async scoreBatch({ judge, rows, options }, onEvent, signal) {
    const onProgress = (/** @type {number} */ done) => {
      onEvent({ done });
      return !signal.aborted;
    };
    return { value: JSON.parse(await judgeOf(judge).score_batch(JSON.stringify(rows), JSON.stringify(options), onProgress)) };
  },

  async train({ judge, rows, heldOut, options }, onEvent, signal) {
    const onStep = (/** @type {string} */ step) => {
      onEvent(JSON.parse(step));
      return !signal.aborted;
    };
    const training = judgeOf(judge).train(JSON.stringify(rows), JSON.stringify(heldOut), JSON.stringify(options), onStep);
    return { value: JSON.parse(await training) };
  },

  reset: async ({ judge }) => void (await judgeOf(judge).reset()),

  async bundle({ judge }) {
    const files = await exportFiles(judge);
    return { value: files, transfer: files.map(({ bytes }) => bytes.buffer) };
  },

  async keep({ judge, name }) {
    const cache = await getModelCache();
    if (!cache) throw new Failure("QuotaFull", "This browser offers pages no storage. Save the judge as a file instead.");
    const files = new Map((await exportFiles(judge)).map(({ name: file, bytes }) => [file, bytes]));
    const manifest = { ...JSON.parse(new TextDecoder().decode(files.get("manifest.json"))), name };
    const bundle = await readManifest(JSON.stringify(manifest), "the exported judge");
    await cache.putRecord(bundle.key, recordOf(bundle, null));
    try {
      for (const { file } of bundle.files) {
        const writer = await cache.openWriter(bundle.key, file);
        writer.clear();
        writer.write(files.get(file) ?? new Uint8Array());
        await writer.finish();
      }
    } catch (error) {
      await cache.remove(bundle.key);
      throw error;
    }
    return { value: { key: bundle.key } };
  },

  async free({ judge }) {
    judges.get(judge)?.free();
    judges.delete(judge);
  },

  async models() {
    const cache = await getModelCache();
    const found = [];
    for (const { key, text, address, date } of (await cache?.records()) ?? []) {
      const { manifest, bytes } = await readManifest(text, "the kept judge");
      found.push({ key, manifest, address, date, bytes, cachedBytes: (await cache?.bytes(key)) ?? 0 });
    }
    return { value: found };
  },

  forget: async ({ key }) => void (await (await getModelCache())?.remove(key)),

  storageEstimate: async () => ({ value: await storageEstimate() }),
};

/** The wasm module, which is loaded once. It needs no GPU. */
function loadEngineModule() {
  engineModule ??= importEngine();
  return engineModule;
}

async function importEngine() {
  try {
    const imported = await import("./engine/jurist.js");
    await imported.default();
    return imported;
  } catch (error) {
    engineModule = null; // the next call tries again
    throw new Failure("NoEngine", `The engine beside this page cannot be read (${error.message}).`);
  }
}

/** The engine on the visitor's GPU, which is opened if it is not yet. */
async function openEngine() {
  if (engine) return engine;
  if (!self.isSecureContext) {
    const { origin } = self.location;
    const message = `Browsers offer WebGPU only to pages from https:// or this machine; this page came from ${origin}.`;
    throw new Failure("InsecureContext", message);
  }
  if (!navigator.gpu) throw new Failure("NoWebGpu", "This browser offers no WebGPU (navigator.gpu is missing).");
  const { Engine } = await loadEngineModule();
  engine = await Engine.open(await requestSubgroups());
  return engine;
}

async function getModelCache() {
  if (modelCache === undefined) modelCache = await openModelCache();
  return modelCache;
}

/** @param {number} id */
function judgeOf(id) {
  const judge = judges.get(id);
  if (!judge) throw new Failure("Internal", "This judge was freed: load it again.");
  return judge;
}

/**
 * @param {ReadBundle} bundle
 * @param {string | null} address
 * @returns {CacheRecord}
 */
const recordOf = (bundle, address) => ({ text: bundle.text, address, date: Date.now() });

/**
 * The manifest of a source, and where its files come from. Without a network, the manifest is that of the model cache.
 * @param {SourceMessage} source
 * @param {AbortSignal} signal
 * @returns {Promise<{ bundle: ReadBundle, from: BundleSource }>}
 */
async function resolveSource({ address, files, key }, signal) {
  const cache = await getModelCache();
  if (address) {
    const from = new AddressSource(address);
    try {
      return { bundle: await readManifest(await from.manifest(signal), from.address), from };
    } catch (error) {
      const records = error.name === "Unreachable" ? await cache?.records() : [];
      const cached = records?.find((record) => record.address === from.address);
      if (!cached) throw error;
      return { bundle: await readManifest(cached.text, from.address), from };
    }
  }
  /** @type {BundleSource} */
  const from = files ? new FileSource(files) : new CacheSource(cache, key ?? "");
  return { bundle: await readManifest(await from.manifest(signal), from.name), from };
}

/**
 * Loads a bundle's files into the engine, shard by shard.
 * @param {Engine} open
 * @param {ReadBundle} bundle
 * @param {BundleSource} from
 * @param {{ keep: boolean, keepHalfPrecision: boolean }} options
 * @param {(event: LoadEvent) => void} onEvent
 * @param {AbortSignal} signal
 */
async function loadShards(open, bundle, from, { keep, keepHalfPrecision }, onEvent, signal) {
  const { Loader, Sha256 } = await loadEngineModule();
  let cache = keep || from instanceof CacheSource ? await getModelCache() : null;
  const onNotice = (/** @type {Failure} */ failure) => {
    cache = null;
    onEvent({ notice: { name: failure.name, message: failure.message } });
  };
  if (cache && !(await cache.record(bundle.key))) {
    try {
      await cache.putRecord(bundle.key, recordOf(bundle, from.address ?? null));
    } catch (error) {
      const message = `This browser does not keep the judge (${error.message}): it works until this page is closed.`;
      onNotice(new Failure("QuotaFull", message));
    }
  }
  let done = 0;
  const fetchFile = async (/** @type {BundleFile} */ entry) => {
    const onBytes = (/** @type {number} */ count, /** @type {boolean} */ cached) => {
      done += count;
      onEvent({ phase: cached ? "read" : "download", file: entry.file, done, total: bundle.bytes });
    };
    return download(from, cache, bundle.key, entry, { newHash: () => new Sha256(), signal, onBytes, onNotice });
  };
  const [tokenizer, ...weights] = bundle.files;
  const [adapter, shards] = bundle.manifest.adapter ? [weights[0], weights.slice(1)] : [null, weights];
  const text = await (await fetchFile(tokenizer)).arrayBuffer();
  const loader = new Loader(open, bundle.text, new Uint8Array(text), keepHalfPrecision);
  try {
    if (adapter) loader.adapter(new Uint8Array(await (await fetchFile(adapter)).arrayBuffer()));
    for (const [index, shard] of shards.entries()) {
      const blob = await fetchFile(shard);
      for (let at = 0; at < blob.size; at += PUSH_BYTES) {
        if (signal.aborted) throw new Failure("Stopped", "Stopped. What has arrived is kept.");
        loader.push(index, new Uint8Array(await blob.slice(at, at + PUSH_BYTES).arrayBuffer()));
      }
    }
  } catch (error) {
    freeUnlessBroken(loader, error);
    throw error;
  }
  onEvent({ phase: "compile", done, total: bundle.bytes });
  const judge = await loader.finish();
  await prepare(judge, bundle.manifest.examples?.[0]);
  return { judge, kept: Boolean(cache) };
}

/**
 * Has the shaders compiled that scoring an example needs, before the first score is asked for.
 * @param {WebJudge} judge
 * @param {Row | undefined} example
 */
async function prepare(judge, example) {
  if (!example) return;
  try {
    await judge.prepare(JSON.stringify(example));
  } catch (error) {
    if (error.name === "BadRow") return; // the judge can be used even if it cannot read this example
    freeUnlessBroken(judge, error);
    throw error;
  }
}

/**
 * Frees an object of the engine, unless the error broke the engine: then it must not be called again.
 * @param {{ free(): void }} object
 * @param {any} error
 */
function freeUnlessBroken(object, error) {
  if (!Failure.of(error).breaksEngine) object.free();
}

/**
 * @param {number} id
 * @returns {Promise<ExportedFile[]>}
 */
async function exportFiles(id) {
  const files = await judgeOf(id).export_bundle();
  try {
    return files.names().map((name) => ({ name, bytes: /** @type {Uint8Array<ArrayBuffer>} */ (files.file(name)) }));
  } finally {
    files.free();
  }
}

/** @returns {Promise<StorageUse | null>} */
async function storageEstimate() {
  const { usage = 0, quota } = (await navigator.storage?.estimate?.()) ?? {};
  return quota === undefined ? null : { usage, quota };
}
