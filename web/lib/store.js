// One file of a bundle, from the shelf or its source, hashed before anybody reads it.

import { Failure } from "./failure.js";
import { Sha256 } from "./sha256.js";

/**
 * The verified file as a Blob. `shelf` may be null: then it stays in memory.
 *
 * `onBytes(n, kept)` is told of every n bytes that are there; `onNotice(failure)` of what did not stop the work: no room on
 * the shelf. Throws a Failure: HashMismatch, Unreachable, NotAModel, BadBundle, Stopped.
 */
export async function obtain(source, shelf, key, entry, { signal, onBytes, onNotice }) {
  const kept = await shelf?.file(key, entry.file);
  if (kept) {
    if (kept.size === entry.bytes && (await hashOf(kept, signal)) === entry.sha256) {
      onBytes(entry.bytes, true);
      return kept;
    }
    await shelf.drop(key, entry.file); // the disk changed it: fetch it again
  }
  let place = await openPlace(shelf, key, entry.file, onNotice);
  let hash = new Sha256();
  let size = 0;
  const take = (bytes, isKept) => {
    hash.update(bytes);
    size += bytes.length;
    onBytes(bytes.length, isKept);
  };
  try {
    if (place.start) for await (const bytes of chunks(place.start.stream(), signal)) take(bytes, true);
    if (size > entry.bytes) size = discard();
    const { stream, from } = size < entry.bytes ? await source.open(entry.file, size, signal) : { stream: null, from: size };
    if (from !== size) size = discard();
    if (stream) {
      for await (const bytes of chunks(stream, signal)) {
        place = await writeTo(place, bytes, onNotice);
        take(bytes, false);
        if (size > entry.bytes) break;
      }
    }
  } catch (error) {
    await place.pause();
    if (signal?.aborted) throw new Failure("Stopped", "Stopped. What has arrived is kept.");
    if (error instanceof Failure) throw error;
    throw broken(entry, size);
  }
  if (size < entry.bytes) {
    await place.pause();
    throw broken(entry, size);
  }
  const found = hash.hex();
  if (size === entry.bytes && found === entry.sha256) return keep(place, onNotice);
  await place.pause();
  await shelf?.drop(key, entry.file);
  const why = size > entry.bytes ? `it is longer than the ${entry.bytes} bytes that its manifest states` : `its SHA-256 is ${found.slice(0, 12)}…, its manifest states ${entry.sha256.slice(0, 12)}…`;
  throw new Failure("HashMismatch", `${entry.file} is not the file that was exported: ${why}. It was thrown away.`);

  function discard() {
    place.restart();
    onBytes(-size, false);
    hash = new Sha256();
    return 0;
  }
}

const broken = (entry, size) =>
  new Failure("Unreachable", `The connection broke off after ${size} of ${entry.bytes} bytes of ${entry.file}. What has arrived is kept.`);

async function openPlace(shelf, key, name, onNotice) {
  if (!shelf) return memoryPlace([]);
  try {
    return await shelf.writer(key, name);
  } catch (error) {
    onNotice(notKept(error)); // another tab writes the same file, or there is no room
    return memoryPlace([]);
  }
}

/** Writes, and moves to memory where the disk is full. */
async function writeTo(place, bytes, onNotice) {
  try {
    place.write(bytes);
    return place;
  } catch (error) {
    onNotice(notKept(error));
    const memory = memoryPlace([await place.rescue()]);
    memory.write(bytes);
    return memory;
  }
}

async function keep(place, onNotice) {
  try {
    return await place.keep();
  } catch (error) {
    onNotice(notKept(error));
    return place.rescue();
  }
}

const notKept = (error) => {
  const full = error.name === "QuotaExceededError";
  const why = full ? "This browser has no room left for it" : `This browser does not keep it (${error.message})`;
  return new Failure("QuotaFull", `${why}: the judge works until this page is closed, then it has to be loaded again.`);
};

function memoryPlace(pieces) {
  return {
    start: null,
    write: (bytes) => pieces.push(bytes.slice()),
    restart: () => (pieces.length = 0),
    pause: () => {},
    keep: async () => new Blob(pieces),
  };
}

async function hashOf(blob, signal) {
  const hash = new Sha256();
  for await (const bytes of chunks(blob.stream(), signal)) hash.update(bytes);
  return hash.hex();
}

/** The chunks of a stream; stops reading when aborted. */
async function* chunks(stream, signal) {
  const reader = stream.getReader();
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {}); // already closed, or broken: nobody reads it any more
  }
}
