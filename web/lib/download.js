// One file of a bundle, from the model cache or its source. Its hash is checked before the file is used.

import { Failure } from "./failure.js";
import { memoryWriter } from "./model-cache.js";

/**
 * @import { FileWriter, ModelCache } from "./model-cache.js"
 * @import { BundleSource } from "./source.js"
 * @import { BundleFile } from "../types.js"
 */

/**
 * A SHA-256 under way. `hex` ends it.
 * @typedef {{ update(bytes: Uint8Array): void, hex(): string }} Hash
 */

/**
 * @typedef {object} DownloadOptions
 * @property {() => Hash} newHash
 * @property {AbortSignal} [signal]
 * @property {(count: number, cached: boolean) => void} onBytes is called after every `count` bytes that have arrived
 * @property {(failure: Failure) => void} onNotice is called if the file cannot be kept, which does not stop the download
 */

/**
 * Gives the checked file, downloaded as far as the model cache lacks it. Without a cache, the file stays in memory.
 *
 * The Failure that it throws is HashMismatch, Unreachable, NotAModel, BadBundle or Stopped.
 * @param {BundleSource} source
 * @param {ModelCache | null} cache
 * @param {string} key the bundle's, in the cache
 * @param {BundleFile} entry
 * @param {DownloadOptions} options
 * @returns {Promise<Blob>}
 */
export async function download(source, cache, key, entry, { newHash, signal, onBytes, onNotice }) {
  const cached = await cache?.file(key, entry.file);
  if (cached) {
    if (cached.size === entry.bytes && (await hashOf(cached, newHash(), signal)) === entry.sha256) {
      onBytes(entry.bytes, true);
      return cached;
    }
    await cache?.removeFile(key, entry.file); // it was changed on the disk: download it again
  }
  let writer = await openWriter(cache, key, entry.file, onNotice);
  let hash = newHash();
  let size = 0;
  const count = (/** @type {Uint8Array} */ bytes, /** @type {boolean} */ isCached) => {
    hash.update(bytes);
    size += bytes.length;
    onBytes(bytes.length, isCached);
  };
  const startAgain = () => {
    writer.clear();
    onBytes(-size, false);
    hash = newHash();
    size = 0;
  };
  try {
    if (writer.partial) for await (const bytes of chunksOf(writer.partial.stream(), signal)) count(bytes, true);
    if (size > entry.bytes) startAgain();
    if (size < entry.bytes) {
      const { stream, offset } = await source.open(entry.file, size, signal);
      if (offset !== size) startAgain();
      for await (const bytes of chunksOf(stream, signal)) {
        writer = await writeTo(writer, bytes, onNotice);
        count(bytes, false);
        if (size > entry.bytes) break;
      }
    }
  } catch (error) {
    writer.close();
    if (signal?.aborted) throw new Failure("Stopped", "Stopped. What has arrived is kept.");
    if (error instanceof Failure) throw error;
    throw connectionLost(entry, size);
  }
  if (size < entry.bytes) {
    writer.close();
    throw connectionLost(entry, size);
  }
  const digest = hash.hex();
  if (size === entry.bytes && digest === entry.sha256) return finish(writer, onNotice);
  writer.close();
  await cache?.removeFile(key, entry.file);
  throw mismatch(entry, size, digest);
}

/** @param {BundleFile} entry @param {number} size */
function connectionLost(entry, size) {
  const message = `The connection broke off after ${size} of ${entry.bytes} bytes of ${entry.file}. What has arrived is kept.`;
  return new Failure("Unreachable", message);
}

/** @param {BundleFile} entry @param {number} size @param {string} digest */
function mismatch(entry, size, digest) {
  const short = (/** @type {string} */ hex) => `${hex.slice(0, 12)}…`;
  const why =
    size > entry.bytes
      ? `it is longer than the ${entry.bytes} bytes that its manifest states`
      : `its SHA-256 is ${short(digest)}, its manifest states ${short(entry.sha256)}`;
  return new Failure("HashMismatch", `${entry.file} is not the file that was exported: ${why}. It was thrown away.`);
}

/**
 * @param {ModelCache | null} cache
 * @param {string} key
 * @param {string} name
 * @param {DownloadOptions["onNotice"]} onNotice
 */
async function openWriter(cache, key, name, onNotice) {
  if (!cache) return memoryWriter();
  try {
    return await cache.openWriter(key, name);
  } catch (error) {
    onNotice(notKept(error)); // another tab writes the same file, or the disk is full
    return memoryWriter();
  }
}

/**
 * Writes, and moves to memory if the disk is full.
 * @param {FileWriter} writer
 * @param {Uint8Array} bytes
 * @param {DownloadOptions["onNotice"]} onNotice
 */
async function writeTo(writer, bytes, onNotice) {
  try {
    writer.write(bytes);
    return writer;
  } catch (error) {
    onNotice(notKept(error));
    const memory = memoryWriter([await writer.moveToMemory()]);
    memory.write(bytes);
    return memory;
  }
}

/** @param {FileWriter} writer @param {DownloadOptions["onNotice"]} onNotice */
async function finish(writer, onNotice) {
  try {
    return await writer.finish();
  } catch (error) {
    onNotice(notKept(error));
    return writer.moveToMemory();
  }
}

/** @param {DOMException} error */
function notKept(error) {
  const full = error.name === "QuotaExceededError";
  const why = full ? "This browser has no space left for it" : `This browser does not keep it (${error.message})`;
  return new Failure("QuotaFull", `${why}: the judge works until this page is closed, then it has to be loaded again.`);
}

/** @param {Blob} blob @param {Hash} hash @param {AbortSignal} [signal] */
async function hashOf(blob, hash, signal) {
  for await (const bytes of chunksOf(blob.stream(), signal)) hash.update(bytes);
  return hash.hex();
}

/**
 * The chunks of a stream. It stops reading when the signal is aborted.
 * @param {ReadableStream<Uint8Array>} stream
 * @param {AbortSignal} [signal]
 */
async function* chunksOf(stream, signal) {
  const reader = stream.getReader();
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {}); // the stream may be closed or broken already
  }
}
