// Judges kept in this browser. Two shelves with one interface: OPFS, which continues a broken download, and the Cache API
// where a browser has no OPFS (there only whole files are kept).
//
//   records()            [{key, text, address, date}]         record(key), put(key, record), forget(key)
//   file(key, name)      a kept file as a Blob, or null       drop(key, name)
//   held(key)            bytes kept, whole files and pieces
//   writer(key, name)    {start: Blob|null, write(bytes), restart(), keep() → Blob, pause(), rescue() → Blob}: `start` is what
//                        an earlier, broken download left; `pause` keeps the piece for the next time; `rescue` takes what
//                        was written into memory and frees its place on the shelf.

const ROOT = "jurist";
const RECORD = "record.json";
const WHOLE = ".whole"; // an empty file beside a file whose hash was right

/** The best shelf that this browser has, or null. */
export async function openShelf() {
  try {
    if (navigator.storage?.getDirectory && self.FileSystemFileHandle?.prototype.createSyncAccessHandle) {
      const home = await navigator.storage.getDirectory();
      return new OpfsShelf(await home.getDirectoryHandle(ROOT, { create: true }));
    }
  } catch {
    // Private windows of some browsers refuse OPFS; the cache may still be there.
  }
  try {
    return self.caches ? new CacheShelf(await caches.open(`${ROOT}-models`)) : null;
  } catch {
    return null;
  }
}

const newestFirst = (records) => records.sort((a, b) => b.date - a.date);

class OpfsShelf {
  #root;

  constructor(root) {
    this.#root = root;
  }

  async records() {
    const found = [];
    for await (const key of this.#root.keys()) found.push(await this.record(key));
    return newestFirst(found.filter(Boolean));
  }

  async record(key) {
    const handle = await this.#handle(key, RECORD);
    if (!handle) return null;
    try {
      return { key, ...JSON.parse(await (await handle.getFile()).text()) };
    } catch {
      return null; // the page was closed while it was written
    }
  }

  async put(key, record) {
    const bytes = new TextEncoder().encode(JSON.stringify(record));
    await overwrite(await this.#handle(key, RECORD, true), bytes);
  }

  async forget(key) {
    await this.#root.removeEntry(key, { recursive: true }).catch(unlessMissing);
  }

  async file(key, name) {
    if (!(await this.#handle(key, name + WHOLE))) return null;
    const handle = await this.#handle(key, name);
    return handle ? handle.getFile() : null;
  }

  async drop(key, name) {
    const folder = await this.#folder(key);
    for (const file of [name + WHOLE, name]) await folder?.removeEntry(file).catch(unlessMissing);
  }

  async held(key) {
    let bytes = 0;
    for await (const [name, handle] of (await this.#folder(key))?.entries() ?? []) {
      if (name !== RECORD) bytes += (await handle.getFile()).size;
    }
    return bytes;
  }

  async writer(key, name) {
    const handle = await this.#handle(key, name, true);
    const access = await handle.createSyncAccessHandle();
    let at = access.getSize();
    const start = at > 0 ? await handle.getFile() : null;
    return {
      start,
      write(bytes) {
        const written = access.write(bytes, { at });
        if (written < bytes.length) throw new DOMException("The disk took only a part.", "QuotaExceededError");
        at += written;
      },
      restart() {
        access.truncate(0);
        at = 0;
      },
      pause() {
        access.truncate(at); // a write that failed may have left a part
        access.close();
      },
      keep: async () => {
        access.flush();
        access.close();
        await this.#handle(key, name + WHOLE, true);
        return handle.getFile();
      },
      rescue: async () => {
        access.close(); // closing twice does nothing
        const bytes = await (await handle.getFile()).slice(0, at).arrayBuffer();
        await this.drop(key, name);
        return new Blob([bytes]);
      },
    };
  }

  async #folder(key, create = false) {
    return this.#root.getDirectoryHandle(key, { create }).catch(unlessMissing);
  }

  async #handle(key, name, create = false) {
    const folder = await this.#folder(key, create);
    return folder ? folder.getFileHandle(name, { create }).catch(unlessMissing) : null;
  }
}

async function overwrite(handle, bytes) {
  const access = await handle.createSyncAccessHandle();
  try {
    access.truncate(0);
    access.write(bytes, { at: 0 });
    access.flush();
  } finally {
    access.close();
  }
}

function unlessMissing(error) {
  if (error.name !== "NotFoundError") throw error;
  return null;
}

class CacheShelf {
  #cache;

  constructor(cache) {
    this.#cache = cache;
  }

  #url(key, name) {
    return new URL(`shelf/${key}/${name}`, self.location.href).href;
  }

  async records() {
    const requests = await this.#cache.keys();
    const keys = requests.map(({ url }) => url.match(/shelf\/([^/]+)\/record\.json$/)?.[1]).filter(Boolean);
    return newestFirst(await Promise.all(keys.map((key) => this.record(key))));
  }

  async record(key) {
    const response = await this.#cache.match(this.#url(key, RECORD));
    return response ? { key, ...(await response.json()) } : null;
  }

  async put(key, record) {
    await this.#cache.put(this.#url(key, RECORD), Response.json(record));
  }

  async forget(key) {
    for (const request of await this.#cache.keys()) {
      if (request.url.startsWith(this.#url(key, ""))) await this.#cache.delete(request);
    }
  }

  async file(key, name) {
    return (await (await this.#cache.match(this.#url(key, name)))?.blob()) ?? null;
  }

  async drop(key, name) {
    await this.#cache.delete(this.#url(key, name));
  }

  async held(key) {
    let bytes = 0;
    for (const request of await this.#cache.keys()) {
      const kept = request.url.startsWith(this.#url(key, "")) && !request.url.endsWith(RECORD);
      if (kept) bytes += (await (await this.#cache.match(request)).blob()).size;
    }
    return bytes;
  }

  async writer(key, name) {
    let pieces = [];
    return {
      start: null,
      write: (bytes) => pieces.push(bytes.slice()),
      restart: () => (pieces = []),
      pause: () => {},
      keep: async () => {
        const blob = new Blob(pieces);
        await this.#cache.put(this.#url(key, name), new Response(blob));
        return blob;
      },
      rescue: async () => new Blob(pieces),
    };
  }
}
