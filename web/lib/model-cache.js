// The model cache: judges that are kept in this browser. There are two with one interface. OPFS continues a broken download. The
// Cache API serves browsers without OPFS, and keeps only whole files.

/**
 * What is kept about a judge: its manifest as text, its address if it has one, and when it was kept (ms since 1970).
 * @typedef {{ text: string, address: string | null, date: number }} CacheRecord
 */

/**
 * Writes one file. It calls `finish`, `close` or `moveToMemory` as its last method.
 * @typedef {object} FileWriter
 * @property {Blob | null} partial what an earlier, broken download has left
 * @property {(bytes: Uint8Array) => void} write
 * @property {() => void} clear drops what was written, and `partial`
 * @property {() => Promise<Blob>} finish keeps the file as a whole one
 * @property {() => void} close keeps what was written as `partial` of the next writer
 * @property {() => Promise<Blob>} moveToMemory gives what was written and removes it from the cache
 */

/**
 * @typedef {object} ModelCache
 * @property {() => Promise<(CacheRecord & { key: string })[]>} records all judges, the newest first
 * @property {(key: string) => Promise<(CacheRecord & { key: string }) | null>} record
 * @property {(key: string, record: CacheRecord) => Promise<void>} putRecord
 * @property {(key: string) => Promise<void>} remove removes a judge
 * @property {(key: string, name: string) => Promise<Blob | null>} file a whole file
 * @property {(key: string, name: string) => Promise<void>} removeFile
 * @property {(key: string) => Promise<number>} bytes the size of a judge's files, whole or partial
 * @property {(key: string, name: string) => Promise<FileWriter>} openWriter
 */

const ROOT = "jurist";
const RECORD = "record.json";
const WHOLE = ".whole"; // an empty file beside each file whose hash was right

/**
 * The best model cache that this browser has.
 * @returns {Promise<ModelCache | null>}
 */
export async function openModelCache() {
  try {
    if (navigator.storage?.getDirectory && "createSyncAccessHandle" in self.FileSystemFileHandle.prototype) {
      const root = await navigator.storage.getDirectory();
      return new OpfsModelCache(await root.getDirectoryHandle(ROOT, { create: true }));
    }
  } catch {
    // Private windows of some browsers refuse OPFS but have the Cache API.
  }
  try {
    return self.caches ? new CacheApiModelCache(await caches.open(`${ROOT}-models`)) : null;
  } catch {
    return null;
  }
}

/** @template {CacheRecord} Entry @param {(Entry | null)[]} records */
function newestFirst(records) {
  return records.filter((record) => record !== null).sort((a, b) => b.date - a.date);
}

/** @implements {ModelCache} */
class OpfsModelCache {
  /** @type {FileSystemDirectoryHandle} */
  #root;

  /** @param {FileSystemDirectoryHandle} root */
  constructor(root) {
    this.#root = root;
  }

  async records() {
    const found = [];
    for await (const key of this.#root.keys()) found.push(await this.record(key));
    return newestFirst(found);
  }

  /** @param {string} key @returns {Promise<(CacheRecord & { key: string }) | null>} */
  async record(key) {
    const handle = await this.#file(key, RECORD);
    if (!handle) return null;
    try {
      return { key, ...JSON.parse(await (await handle.getFile()).text()) };
    } catch {
      return null; // the page was closed while the record was written
    }
  }

  /** @param {string} key @param {CacheRecord} record */
  async putRecord(key, record) {
    const bytes = new TextEncoder().encode(JSON.stringify(record));
    const access = await (await this.#createFile(key, RECORD)).createSyncAccessHandle();
    try {
      access.truncate(0);
      access.write(bytes, { at: 0 });
      access.flush();
    } finally {
      access.close();
    }
  }

  /** @param {string} key */
  async remove(key) {
    await this.#root.removeEntry(key, { recursive: true }).catch(nullIfMissing);
  }

  /** @param {string} key @param {string} name */
  async file(key, name) {
    if (!(await this.#file(key, name + WHOLE))) return null;
    const handle = await this.#file(key, name);
    return handle ? handle.getFile() : null;
  }

  /** @param {string} key @param {string} name */
  async removeFile(key, name) {
    const folder = await this.#folder(key);
    for (const file of [name + WHOLE, name]) await folder?.removeEntry(file).catch(nullIfMissing);
  }

  /** @param {string} key */
  async bytes(key) {
    let bytes = 0;
    for await (const [name, handle] of (await this.#folder(key))?.entries() ?? []) {
      if (name !== RECORD && handle instanceof FileSystemFileHandle) bytes += (await handle.getFile()).size;
    }
    return bytes;
  }

  /** @param {string} key @param {string} name @returns {Promise<FileWriter>} */
  async openWriter(key, name) {
    const handle = await this.#createFile(key, name);
    const access = await handle.createSyncAccessHandle();
    let at = access.getSize();
    return {
      partial: at > 0 ? await handle.getFile() : null,
      write(bytes) {
        const written = access.write(bytes, { at });
        if (written < bytes.length) throw new DOMException("The disk took only a part.", "QuotaExceededError");
        at += written;
      },
      clear() {
        access.truncate(0);
        at = 0;
      },
      finish: async () => {
        access.flush();
        access.close();
        await this.#createFile(key, name + WHOLE);
        return handle.getFile();
      },
      close() {
        access.truncate(at); // a write that failed may have left a part
        access.close();
      },
      moveToMemory: async () => {
        access.close(); // closing twice does nothing
        const bytes = await (await handle.getFile()).slice(0, at).arrayBuffer();
        await this.removeFile(key, name);
        return new Blob([bytes]);
      },
    };
  }

  /** @param {string} key @returns {Promise<FileSystemDirectoryHandle | null>} */
  async #folder(key) {
    return this.#root.getDirectoryHandle(key).catch(nullIfMissing);
  }

  /** @param {string} key @param {string} name @returns {Promise<FileSystemFileHandle | null>} */
  async #file(key, name) {
    return (await this.#folder(key))?.getFileHandle(name).catch(nullIfMissing) ?? null;
  }

  /** @param {string} key @param {string} name */
  async #createFile(key, name) {
    const folder = await this.#root.getDirectoryHandle(key, { create: true });
    return folder.getFileHandle(name, { create: true });
  }
}

/** @param {DOMException} error @returns {null} */
function nullIfMissing(error) {
  if (error.name !== "NotFoundError") throw error;
  return null;
}

/** @implements {ModelCache} */
class CacheApiModelCache {
  /** @type {Cache} */
  #cache;

  /** @param {Cache} cache */
  constructor(cache) {
    this.#cache = cache;
  }

  /** The address that a file is kept under. @param {string} key @param {string} name */
  #url(key, name) {
    return new URL(`shelf/${key}/${name}`, self.location.href).href; // "shelf" stays: browsers have judges under it
  }

  async records() {
    const requests = await this.#cache.keys();
    const keys = requests.map(({ url }) => url.match(/shelf\/([^/]+)\/record\.json$/)?.[1] ?? "").filter(Boolean);
    return newestFirst(await Promise.all(keys.map((key) => this.record(key))));
  }

  /** @param {string} key @returns {Promise<(CacheRecord & { key: string }) | null>} */
  async record(key) {
    const response = await this.#cache.match(this.#url(key, RECORD));
    return response ? { key, ...(await response.json()) } : null;
  }

  /** @param {string} key @param {CacheRecord} record */
  async putRecord(key, record) {
    await this.#cache.put(this.#url(key, RECORD), Response.json(record));
  }

  /** @param {string} key */
  async remove(key) {
    for (const request of await this.#cache.keys()) {
      if (request.url.startsWith(this.#url(key, ""))) await this.#cache.delete(request);
    }
  }

  /** @param {string} key @param {string} name */
  async file(key, name) {
    return (await (await this.#cache.match(this.#url(key, name)))?.blob()) ?? null;
  }

  /** @param {string} key @param {string} name */
  async removeFile(key, name) {
    await this.#cache.delete(this.#url(key, name));
  }

  /** @param {string} key */
  async bytes(key) {
    let bytes = 0;
    for (const request of await this.#cache.keys()) {
      const counts = request.url.startsWith(this.#url(key, "")) && !request.url.endsWith(RECORD);
      if (counts) bytes += (await (await this.#cache.match(request))?.blob())?.size ?? 0;
    }
    return bytes;
  }

  /** @param {string} key @param {string} name @returns {Promise<FileWriter>} */
  async openWriter(key, name) {
    const memory = memoryWriter();
    return {
      ...memory,
      finish: async () => {
        const blob = await memory.finish();
        await this.#cache.put(this.#url(key, name), new Response(blob));
        return blob;
      },
    };
  }
}

/**
 * A writer that keeps its file in memory.
 * @param {BlobPart[]} [chunks] what was written before
 * @returns {FileWriter}
 */
export function memoryWriter(chunks = []) {
  const blob = async () => new Blob(chunks);
  return {
    partial: null,
    write: (bytes) => void chunks.push(bytes.slice()),
    clear: () => void (chunks.length = 0),
    finish: blob,
    close: () => {},
    moveToMemory: blob,
  };
}
