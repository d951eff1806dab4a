// Where a bundle's files come from: an address, files that the visitor chose, or the model cache.

import { Failure } from "./failure.js";

/** @import { ModelCache } from "./model-cache.js" */

/** @typedef {{ stream: ReadableStream<Uint8Array>, offset: number }} OpenFile a file's bytes from `offset` on */
/**
 * `manifest` gives the manifest's text. `open` gives a file from `offset` on, or from 0 if the server cannot continue.
 * @typedef {object} BundleSource
 * @property {string} name for messages
 * @property {string} [address]
 * @property {(signal?: AbortSignal) => Promise<string>} manifest
 * @property {(file: string, offset: number, signal?: AbortSignal) => Promise<OpenFile>} open
 */

/** @implements {BundleSource} */
export class AddressSource {
  /** @param {string} address absolute, of a bundle's folder or its manifest.json */
  constructor(address) {
    const url = new URL(address);
    url.hash = "";
    if (!url.pathname.endsWith(".json")) {
      url.pathname = url.pathname.replace(/\/?$/, "/");
      url.pathname += "manifest.json";
    }
    this.address = url.href;
    this.name = this.address;
  }

  /** @param {AbortSignal} [signal] */
  async manifest(signal) {
    return (await this.#fetch(this.address, {}, signal)).text();
  }

  /** @param {string} file @param {number} offset @param {AbortSignal} [signal] */
  async open(file, offset, signal) {
    const url = new URL(file, this.address).href;
    const response = await this.#fetch(url, offset > 0 ? { Range: `bytes=${offset}-` } : {}, signal);
    if (/^text\/html/i.test(response.headers.get("content-type") ?? "")) {
      await response.body?.cancel();
      throw new Failure("NotAModel", `${url}: the server answered with a web page instead of the file.`);
    }
    const continued = response.status === 206 && response.headers.get("content-range")?.startsWith(`bytes ${offset}-`);
    return { stream: response.body ?? new Blob().stream(), offset: continued ? offset : 0 };
  }

  /** @param {string} url @param {HeadersInit} headers @param {AbortSignal} [signal] @returns {Promise<Response>} */
  async #fetch(url, headers, signal) {
    let response;
    try {
      response = await fetch(url, { headers, signal, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      const online = "no connection, a wrong address, or a server that does not let other pages read it (CORS)";
      const why = navigator.onLine === false ? "this device is offline" : online;
      throw new Failure("Unreachable", `${url} cannot be reached: ${why}.`);
    }
    if (response.status === 416) return this.#fetch(url, {}, signal); // what was kept is longer than the file: from its start
    if (response.ok) return response;
    const answer = `${response.status} ${response.statusText}`.trim();
    throw new Failure("Unreachable", `${url}: the server answered ${answer}.`);
  }
}

/** @implements {BundleSource} */
export class FileSource {
  /** @param {File[]} files the files of a bundle's folder */
  constructor(files) {
    this.files = new Map(Array.from(files, (file) => [file.name, file]));
    this.name = "these files";
  }

  async manifest() {
    const file = this.files.get("manifest.json");
    if (file) return file.text();
    const names = [...this.files.keys()].slice(0, 4).join(", ") || "nothing";
    const message = `There is no manifest.json among the files (found: ${names}). Choose a folder made by jurist export.`;
    throw new Failure("NotAModel", message);
  }

  /** @param {string} name */
  async open(name) {
    const file = this.files.get(name);
    if (!file) throw new Failure("BadBundle", `${name} is missing: choose the whole folder that jurist export made.`);
    return { stream: file.stream(), offset: 0 };
  }
}

/**
 * A bundle that the model cache has already. Only files that are not kept whole come from its address.
 * @implements {BundleSource}
 */
export class CacheSource {
  /** @param {ModelCache | null} cache @param {string} key */
  constructor(cache, key) {
    this.cache = cache;
    this.key = key;
    this.name = "this browser's storage";
  }

  async manifest() {
    const record = await this.cache?.record(this.key);
    if (record) return record.text;
    throw new Failure("Unreachable", "This judge is no longer kept in this browser. Load it again from where it came.");
  }

  /** @param {string} name @param {number} offset @param {AbortSignal} [signal] */
  async open(name, offset, signal) {
    const record = await this.cache?.record(this.key);
    if (record?.address) return new AddressSource(record.address).open(name, offset, signal);
    throw new Failure("Unreachable", `${name} is not kept whole in this browser. Load the judge again from where it came.`);
  }
}
