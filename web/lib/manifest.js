// A bundle's manifest: what the page and the model cache need of it. The engine checks the rest.

import { Failure } from "./failure.js";
import { isRow } from "./rows.js";

/** @import { BundleFile, FailureName, Manifest } from "../types.js" */

/**
 * A manifest, its text, its files (the tokenizer first, then the adapter, if any), their bytes together, and the bundle's name by content.
 * @typedef {{ text: string, key: string, manifest: Manifest, files: BundleFile[], bytes: number }} ReadBundle
 */

const PLAIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const KEY_BYTES = 12; // of the manifest's SHA-256

/**
 * Reads a manifest's text.
 * @param {string} text
 * @param {string} where the name of its source, for messages
 * @returns {Promise<ReadBundle>}
 */
export async function readManifest(text, where) {
  const bad = (/** @type {FailureName} */ name, /** @type {string} */ message) => new Failure(name, `${where}: ${message}`);
  if (/^\s*</.test(text)) {
    const message = "this is a web page, not a judge's manifest. The address must be that of a folder made by jurist export.";
    throw bad("NotAModel", message);
  }
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch (error) {
    throw bad("BadBundle", `this is not JSON (${error.message}). Export the judge again with jurist export.`);
  }
  if (manifest?.format !== "jurist-bundle") {
    throw bad("NotAModel", 'this is not a judge bundle: expected "format": "jurist-bundle". Make one with jurist export.');
  }
  /** @type {BundleFile[]} */
  const files = [
    manifest.tokenizer,
    ...(manifest.adapter ? [manifest.adapter] : []),
    ...(Array.isArray(manifest.shards) ? manifest.shards : []),
  ];
  for (const entry of files) {
    const whole = PLAIN_NAME.test(entry?.file) && Number.isSafeInteger(entry.bytes) && /^[0-9a-f]{64}$/.test(entry.sha256);
    if (!whole)
      throw bad("BadBundle", "a file in it lacks its name, size or SHA-256. Export the judge again with jurist export.");
  }
  const { examples = [], description = "" } = manifest;
  if (typeof description !== "string") {
    throw bad("BadBundle", "its description is not a text. Export the judge again with jurist export.");
  }
  if (!Array.isArray(examples) || !examples.every(isRow)) {
    throw bad("BadBundle", "its examples are not a list of rows. Export the judge again with jurist export.");
  }
  const bytes = files.reduce((sum, entry) => sum + entry.bytes, 0);
  return { text, key: await keyOf(text), manifest, files, bytes };
}

/** @param {string} text */
async function keyOf(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest).slice(0, KEY_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
