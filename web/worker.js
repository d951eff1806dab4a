// The one worker: it owns the engine, the shelf and the judges. Messages in: {id, call, args} and {id, stop: true}; out:
// {id, event}, {id, heard} for a stop, and {id, value} or {id, failure: {name, message, broken}}. Calls run one after another, but
// those that only look at the shelf; a stop is heard whenever the engine waits for the GPU. After a broken failure, or an error
// that no call caught, this worker is ended: nothing runs on its engine any more.

import { Failure } from "./lib/failure.js";
import { readManifest } from "./lib/manifest.js";
import { openShelf } from "./lib/shelf.js";
import { AddressSource, FileSource, ShelfSource } from "./lib/source.js";
import { obtain } from "./lib/store.js";

const AT_ONCE = ["models", "forget", "room"];
const PIECE = 1 << 20; // bytes handed to the engine at once

let engineModule = null;
let engine = null;
const judges = new Map();
let lastJudge = 0;
let shelf; // undefined: not yet looked for; null: this browser has none
const stops = new Map();
let queue = Promise.resolve();
let running = null; // the id of the call that the engine works on
let broken = false;

self.addEventListener("message", ({ data }) => {
  const { id, call, args, stop } = data;
  if (stop) {
    self.postMessage({ id, heard: true, running: running === id });
    stops.get(id)?.abort();
    return;
  }
  const controller = new AbortController();
  stops.set(id, controller);
  const work = () => answer(id, call, args ?? {}, controller.signal);
  const next = async () => {
    running = id;
    await work();
    running = null;
  };
  if (AT_ONCE.includes(call)) work();
  else queue = queue.then(next);
});

// A promise of the engine that fails where nobody waits for it is an error of the worker, which the page hears.
self.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  broken = true;
  setTimeout(() => {
    throw event.reason;
  });
});
self.addEventListener("error", () => (broken = true));

async function answer(id, call, args, signal) {
  try {
    if (broken) throw new Failure("EngineEnded", "The engine has failed. Load the judge again.");
    if (signal.aborted) throw new Failure("Stopped", "Stopped.");
    const event = (what) => self.postMessage({ id, event: what });
    const { value, transfer = [] } = (await CALLS[call](args, event, signal)) ?? {};
    self.postMessage({ id, value }, transfer);
  } catch (error) {
    const failure = Failure.of(error);
    if (failure.breaksEngine) broken = true;
    if (failure.name === "Internal") console.warn(error);
    self.postMessage({ id, failure: { name: failure.name, message: failure.message, broken: failure.breaksEngine } });
  } finally {
    stops.delete(id);
  }
}

const CALLS = {
  /** The adapter that judges will run on. */
  adapter: async () => ({ value: JSON.parse((await openEngine()).info()) }),

  /** A bundle before its weights are fetched: {manifest, bytes, held, fits, gpuBytes, why, adapter, room}. */
  async inspect({ source, halves }, event, signal) {
    const open = await openEngine();
    const { bundle } = await examine(source, signal);
    const fit = JSON.parse(engineModule.check_bundle(open, bundle.text, halves));
    const held = (await (await getShelf())?.held(bundle.key)) ?? 0;
    const { manifest, key, bytes } = bundle;
    return { value: { key, manifest, bytes, held, ...fit, adapter: JSON.parse(open.info()), room: await room() } };
  },

  /** Fetches, checks and opens a judge: {judge, about, manifest, key, kept}. Events: {phase, file, done, total, kept}. */
  async load({ source, keep, halves }, event, signal) {
    const open = await openEngine();
    const { bundle, from } = await examine(source, signal);
    const fit = JSON.parse(engineModule.check_bundle(open, bundle.text, halves));
    if (!fit.fits) throw new Failure("LimitTooSmall", fit.why);
    const { judge, kept } = await carry(open, bundle, from, { keep, halves }, event, signal);
    lastJudge += 1;
    judges.set(lastJudge, judge);
    const about = JSON.parse(judge.about());
    return { value: { judge: lastJudge, about, manifest: bundle.manifest, key: bundle.key, kept } };
  },

  prompt: async ({ judge, row }) => ({ value: JSON.parse(judgeOf(judge).prompt(JSON.stringify(row))) }),

  async score({ judge, row, options }, event, signal) {
    const heard = (token) => {
      event(JSON.parse(token));
      return !signal.aborted;
    };
    return { value: JSON.parse(await judgeOf(judge).score(JSON.stringify(row), JSON.stringify(options), heard)) };
  },

  async scoreBatch({ judge, rows, options }, event, signal) {
    const heard = (done) => {
      event({ done });
      return !signal.aborted;
    };
    return { value: JSON.parse(await judgeOf(judge).score_batch(JSON.stringify(rows), JSON.stringify(options), heard)) };
  },

  async train({ judge, rows, heldOut, options }, event, signal) {
    const heard = (step) => {
      event(JSON.parse(step));
      return !signal.aborted;
    };
    const learned = judgeOf(judge).train(JSON.stringify(rows), JSON.stringify(heldOut), JSON.stringify(options), heard);
    return { value: JSON.parse(await learned) };
  },

  reset: async ({ judge }) => void (await judgeOf(judge).reset()),

  /** The judge as it is now, as files: [{name, bytes}]. */
  async bundle({ judge }) {
    const files = await exported(judge);
    return { value: files, transfer: files.map(({ bytes }) => bytes.buffer) };
  },

  /** Puts the judge as it is now on the shelf, under a name: {key}. */
  async keep({ judge, name }) {
    const place = await getShelf();
    if (!place) throw new Failure("QuotaFull", "This browser offers pages no store. Save the judge as a file instead.");
    const files = new Map((await exported(judge)).map(({ name: file, bytes }) => [file, bytes]));
    const manifest = { ...JSON.parse(new TextDecoder().decode(files.get("manifest.json"))), name };
    const bundle = readManifest(JSON.stringify(manifest), "the exported judge");
    await place.put(bundle.key, recordOf(bundle, null));
    try {
      for (const { file } of bundle.files) {
        const writer = await place.writer(bundle.key, file);
        writer.restart();
        writer.write(files.get(file));
        await writer.keep();
      }
    } catch (error) {
      await place.forget(bundle.key);
      throw error;
    }
    return { value: { key: bundle.key } };
  },

  async free({ judge }) {
    judges.get(judge)?.free();
    judges.delete(judge);
  },

  /** The judges on the shelf: [{key, manifest, address, date, bytes, held}]. */
  async models() {
    const place = await getShelf();
    const found = [];
    for (const record of (await place?.records()) ?? []) {
      const { manifest, bytes } = readManifest(record.text, "the kept judge");
      const { key, address, date } = record;
      found.push({ key, manifest, address, date, bytes, held: await place.held(key) });
    }
    return { value: found };
  },

  forget: async ({ key }) => void (await (await getShelf())?.forget(key)),

  room: async () => ({ value: await room() }),
};

async function openEngine() {
  if (engine) return engine;
  if (!self.isSecureContext) {
    throw new Failure("InsecureContext", `Browsers offer WebGPU only to pages from https:// or this machine; this page came from ${self.location.origin}.`);
  }
  if (!navigator.gpu) throw new Failure("NoWebGpu", "This browser offers no WebGPU (navigator.gpu is missing).");
  try {
    engineModule ??= await import("./engine/jurist.js");
    await engineModule.default();
  } catch (error) {
    engineModule = null;
    throw new Failure("NoEngine", `The engine beside this page cannot be read (${error.message}).`);
  }
  engine = await engineModule.Engine.open();
  return engine;
}

async function getShelf() {
  if (shelf === undefined) shelf = await openShelf();
  return shelf;
}

function judgeOf(id) {
  const judge = judges.get(id);
  if (!judge) throw new Failure("Internal", "This judge was closed: load it again.");
  return judge;
}

const recordOf = (bundle, address) => ({ text: bundle.text, address, date: Date.now() });

/** The manifest of a source ({address}, {files} or {key}), and where its files come from. Without a network, the shelf's. */
async function examine({ address, files, key }, signal) {
  const place = await getShelf();
  if (address) {
    const from = new AddressSource(address);
    try {
      return { bundle: readManifest(await from.manifest(signal), from.address), from };
    } catch (error) {
      const known = error.name === "Unreachable" && (await place?.records())?.find((record) => record.address === from.address);
      if (!known) throw error;
      return { bundle: readManifest(known.text, from.address), from };
    }
  }
  const from = files ? new FileSource(files) : new ShelfSource(place, key);
  return { bundle: readManifest(await from.manifest(signal), from.name), from };
}

/** Carries a bundle's files to the engine, shard by shard: {judge, kept}. */
async function carry(open, bundle, from, { keep, halves }, event, signal) {
  let place = keep || from instanceof ShelfSource ? await getShelf() : null;
  const onNotice = (failure) => {
    place = null;
    event({ notice: { name: failure.name, message: failure.message } });
  };
  if (place && !(await place.record(bundle.key))) {
    try {
      await place.put(bundle.key, recordOf(bundle, from.address ?? null));
    } catch (error) {
      onNotice(new Failure("QuotaFull", `This browser does not keep the judge (${error.message}): it works until this page is closed.`));
    }
  }
  let done = 0;
  const fetched = async (entry) => {
    const onBytes = (n, kept) => {
      done += n;
      event({ phase: kept ? "read" : "download", file: entry.file, done, total: bundle.bytes });
    };
    return obtain(from, place, bundle.key, entry, { signal, onBytes, onNotice });
  };
  const [tokenizer, ...shards] = bundle.files;
  const text = await (await fetched(tokenizer)).arrayBuffer();
  const loader = new engineModule.Loader(open, bundle.text, new Uint8Array(text), halves);
  try {
    for (const [index, shard] of shards.entries()) {
      const blob = await fetched(shard);
      for (let at = 0; at < blob.size; at += PIECE) {
        if (signal.aborted) throw new Failure("Stopped", "Stopped. What has arrived is kept.");
        loader.push(index, new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()));
      }
    }
  } catch (error) {
    freed(loader, error);
    throw error;
  }
  event({ phase: "compile", done, total: bundle.bytes });
  const judge = await loader.finish();
  await warmUp(judge, bundle.manifest.examples?.[0], signal);
  return { judge, kept: Boolean(place) };
}

/** One judgement that nobody sees: the shaders are compiled now, and the first one that is seen is not slow. */
async function warmUp(judge, example, signal) {
  if (!example) return;
  try {
    await judge.score(JSON.stringify(example), "{}", () => !signal.aborted);
  } catch (error) {
    if (error.name === "BadRow") return; // an example that this judge cannot read is no reason not to open it
    freed(judge, error);
    throw error;
  }
}

/** Frees what the engine holds, unless the engine itself has failed: then it may not be entered again. */
function freed(held, error) {
  if (!Failure.of(error).breaksEngine) held.free();
}

async function exported(id) {
  const files = await judgeOf(id).export_bundle();
  try {
    return files.names().map((name) => ({ name, bytes: files.file(name) }));
  } finally {
    files.free();
  }
}

/** Bytes used and free in this browser's store for this page, as far as it says. */
async function room() {
  const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
  return quota === undefined ? null : { usage, quota };
}
