// A bundle's manifest: what the page and the store read of it. The engine checks the rest.

import { Failure } from "./failure.js";
import { isRow } from "./rows.js";
import { sha256 } from "./sha256.js";

const PLAIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/**
 * Reads a manifest's text.
 * Gives {text, key, manifest, files: [{file, bytes, sha256}] (the tokenizer first), bytes}; `key` names the bundle by content.
 */
export function readManifest(text, where) {
  const bad = (name, message) => new Failure(name, `${where}: ${message}`);
  if (/^\s*</.test(text)) {
    throw bad("NotAModel", "this is a web page, not a judge's manifest. The address must be that of a folder made by jurist export.");
  }
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch (error) {
    throw bad("BadBundle", `this is no JSON (${error.message}). Export the judge again with jurist export.`);
  }
  if (manifest?.format !== "jurist-bundle") {
    throw bad("NotAModel", 'this is not a judge bundle: expected "format": "jurist-bundle". Make one with jurist export.');
  }
  const files = [manifest.tokenizer, ...(Array.isArray(manifest.shards) ? manifest.shards : [])];
  for (const entry of files) {
    const sound = PLAIN_NAME.test(entry?.file) && Number.isSafeInteger(entry.bytes) && /^[0-9a-f]{64}$/.test(entry.sha256);
    if (!sound) throw bad("BadBundle", "a file in it lacks its name, size or SHA-256. Export the judge again with jurist export.");
  }
  const { examples = [] } = manifest;
  if (!Array.isArray(examples) || !examples.every(isRow)) {
    throw bad("BadBundle", "its examples are no list of rows. Export the judge again with jurist export.");
  }
  const bytes = files.reduce((sum, entry) => sum + entry.bytes, 0);
  return { text, key: sha256(text).slice(0, 24), manifest, files, bytes };
}
