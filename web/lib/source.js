// Where a bundle's files come from: an address, files that the visitor picked, or this browser's own shelf.
// Each has `manifest(signal)` → text and `open(file, from, signal)` → {stream, from}: the bytes from that offset on, or from 0
// where the server cannot continue.

import { Failure } from "./failure.js";

export class AddressSource {
  /** `address`: a bundle's folder or its manifest.json, absolute. */
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

  async manifest(signal) {
    return (await this.#get(this.address, {}, signal)).text();
  }

  async open(file, from, signal) {
    const url = new URL(file, this.address).href;
    const headers = from > 0 ? { Range: `bytes=${from}-` } : {};
    const response = await this.#get(url, headers, signal);
    if (/^text\/html/i.test(response.headers.get("content-type") ?? "")) {
      await response.body?.cancel();
      throw new Failure("NotAModel", `${url}: the server answered with a web page instead of the file.`);
    }
    const continued = response.status === 206 && response.headers.get("content-range")?.startsWith(`bytes ${from}-`);
    return { stream: response.body, from: continued ? from : 0 };
  }

  async #get(url, headers, signal) {
    let response;
    try {
      response = await fetch(url, { headers, signal, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      const why = navigator.onLine === false ? "this device is offline" : "no connection, a wrong address, or a server that does not let other pages read it (CORS)";
      throw new Failure("Unreachable", `${url} cannot be reached: ${why}.`);
    }
    if (response.status === 416) return this.#get(url, {}, signal); // what was kept is longer than the file: from its start
    if (!response.ok) throw new Failure("Unreachable", `${url}: the server answered ${response.status} ${response.statusText}`.trim() + ".");
    return response;
  }
}

export class FileSource {
  /** `files`: the files of a bundle's folder. */
  constructor(files) {
    this.files = new Map(Array.from(files, (file) => [file.name, file]));
    this.name = "these files";
  }

  async manifest() {
    const file = this.files.get("manifest.json");
    if (file) return file.text();
    const names = [...this.files.keys()].slice(0, 4).join(", ") || "nothing";
    throw new Failure("NotAModel", `There is no manifest.json among the files (found: ${names}). Choose a folder made by jurist export.`);
  }

  async open(name) {
    const file = this.files.get(name);
    if (!file) throw new Failure("BadBundle", `${name} is missing: choose the whole folder that jurist export made.`);
    return { stream: file.stream(), from: 0 };
  }
}

/** A bundle that is on the shelf already: nothing to fetch. */
export class ShelfSource {
  constructor(shelf, key) {
    this.shelf = shelf;
    this.key = key;
    this.name = "this browser's store";
  }

  async manifest() {
    const record = await this.shelf?.record(this.key);
    if (record) return record.text;
    throw new Failure("Unreachable", "This judge is no longer kept in this browser. Load it again from where it came.");
  }

  async open(name, from, signal) {
    const record = await this.shelf.record(this.key);
    if (record.address) return new AddressSource(record.address).open(name, from, signal);
    throw new Failure("Unreachable", `${name} is not kept whole in this browser. Load the judge again from where it came.`);
  }
}
