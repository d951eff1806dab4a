// The parts that need no browser.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { readManifest } from "../lib/manifest.js";
import { judgedRow, readRows, toCsv, toJsonLines } from "../lib/rows.js";
import { sha256, Sha256 } from "../lib/sha256.js";
import { pearson, rmse, spearman } from "../lib/stats.js";
import { comparedColumn, columnsOf } from "../lib/template.js";
import { unzip, zip } from "../lib/zip.js";

const WEB = join(import.meta.dirname, "..");

test("SHA-256 equals node's, in any pieces and around every block boundary", () => {
  for (const length of [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 100_003]) {
    const bytes = randomBytes(length);
    const wanted = createHash("sha256").update(bytes).digest("hex");
    assert.equal(sha256(bytes), wanted);
    const pieces = new Sha256();
    for (let at = 0, step = 1; at < length; at += step, step = (step * 7 + 3) % 150) pieces.update(bytes.subarray(at, at + step));
    assert.equal(pieces.hex(), wanted);
  }
});

test("rows come from JSON Lines or a list, and faults name their line", () => {
  assert.deepEqual(readRows('{"a":1}\n\n{"a":2}\r\n').rows, [{ a: 1 }, { a: 2 }]);
  assert.deepEqual(readRows('[{"a":1},{"a":2}]').rows, [{ a: 1 }, { a: 2 }]);
  const { rows, faults } = readRows('{"a":1}\n{"a"\n[3]\n');
  assert.equal(rows.length, 1);
  assert.match(faults[0], /^line 2: /);
  assert.match(faults[1], /^line 3: expected an object/);
});

test("a judged row has the columns of jurist score, and CSV quotes what it must", () => {
  const result = { score: 3.5, decoded: 4, distribution: [0.25, 0.75], scoreMass: 0.9, feedback: "ok" };
  const row = judgedRow({ response: 'a, "b"\nc', score: 4 }, result, ["3", "4"]);
  assert.deepEqual(row.judge, { expected: 3.5, decoded: 4, probs: { 3: 0.25, 4: 0.75 }, mass: 0.9, feedback: "ok", error: null });
  assert.equal(row.score, 4, "a person's score is never overwritten");
  assert.deepEqual(readRows(toJsonLines([row])).rows, [row]);
  const [head, ...rest] = toCsv([row]).split("\r\n");
  assert.equal(head, "response,score,judge_expected,judge_decoded,judge_probs,judge_mass,judge_feedback,judge_error");
  assert.ok(rest.join("\r\n").startsWith('"a, ""b""\nc",4,3.5,4,'));
});

test("agreement: ties share ranks, and what is undefined is null", () => {
  // By hand: 4.5 / sqrt(9 * 6.75), and the ranks 1 2.5 2.5 4 against 2 1 3.5 3.5.
  assert.ok(Math.abs(pearson([1, 2, 2, 5], [2, 1, 4, 4]) - 1 / Math.sqrt(3)) < 1e-12);
  assert.ok(Math.abs(spearman([1, 2, 2, 5], [2, 1, 4, 4]) - 0.5) < 1e-12);
  assert.equal(pearson([1, 1, 1], [1, 2, 3]), null);
  assert.equal(pearson([1], [1]), null);
  assert.equal(rmse([1, 3], [2, 1]), Math.sqrt(2.5));
  assert.equal(rmse([], []), null);
});

test("the form asks for the columns that the template reads", () => {
  assert.deepEqual(columnsOf({ template: "plain" }), [{ name: "prompt", optional: false }]);
  assert.deepEqual(columnsOf({ template: "judge" }).map(({ name, optional }) => [name, optional]), [
    ["instruction", false],
    ["response", false],
    ["reference", true],
    ["rubric", true],
  ]);
  const own = columnsOf({
    template: "mine.j2",
    template_source: 'rubric {{ rubric | trim }} of {{ task.name }} {% if notes is defined %}{{ notes }}{% endif %} response {{ response }} "{{ phrase }}" {{ scores | join(", ") }}',
  });
  assert.deepEqual(own, [
    { name: "rubric", optional: false },
    { name: "response", optional: false },
    { name: "task", optional: false },
    { name: "notes", optional: true },
  ]);
  assert.equal(comparedColumn(own), "response");
  assert.equal(comparedColumn(columnsOf({ template: "plain" })), "prompt");
});

test("a manifest that is none is refused by what it is", () => {
  const failure = (text) => {
    try {
      readManifest(text, "here");
    } catch (error) {
      return error.name;
    }
    return null;
  };
  assert.equal(failure("<!doctype html><title>Not found</title>"), "NotAModel");
  assert.equal(failure('{"architectures": ["Qwen3ForCausalLM"]}'), "NotAModel");
  assert.equal(failure('{"format": '), "BadBundle");
  const bundle = (file) => JSON.stringify({ format: "jurist-bundle", tokenizer: file, shards: [] });
  const sound = { file: "tokenizer.json", bytes: 3, sha256: "0".repeat(64) };
  assert.equal(failure(bundle(sound)), null);
  for (const file of ["../tokenizer.json", "a/b", ".hidden", ""]) assert.equal(failure(bundle({ ...sound, file })), "BadBundle");
  assert.equal(failure(bundle({ ...sound, sha256: undefined })), "BadBundle");
});

test("a saved archive comes back as it was", async () => {
  const files = [
    { name: "manifest.json", bytes: new TextEncoder().encode("{}") },
    { name: "weights-00001.safetensors", bytes: new Uint8Array(randomBytes(70_000)) },
  ];
  const back = await unzip(zip("judge", files));
  assert.deepEqual(back.map((file) => file.name), files.map((file) => file.name));
  for (const [index, file] of back.entries()) assert.deepEqual(new Uint8Array(await file.arrayBuffer()), files[index].bytes);
  assert.equal(await unzip(new Blob(["not an archive"])), null);
});

test("every file of the page is kept for offline use", () => {
  const kept = [...readFileSync(join(WEB, "sw.js"), "utf8").matchAll(/^ {2}"(.+)",$/gm)].map(([, file]) => file);
  const of = (folder, ending) => readdirSync(join(WEB, folder)).filter((name) => name.endsWith(ending)).map((name) => join(folder, name));
  const own = [...of("lib", ".js"), ...of("ui", ".js"), ...of(".", ".js"), ...of(".", ".css"), ...of(".", ".svg"), ...of(".", ".webmanifest")];
  for (const file of own.filter((name) => name !== "sw.js")) assert.ok(kept.includes(file), `${file} is missing in sw.js`);
  for (const file of kept.filter((name) => name !== "./")) readFileSync(join(WEB, file));
});

test("npm pack makes a package of the module, its types and the engine, without the page", () => {
  const [{ files }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--silent"], { cwd: WEB, encoding: "utf8" }));
  const names = files.map(({ path }) => path);
  for (const name of ["judge.js", "judge.d.ts", "worker.js", "lib/store.js", "engine/jurist.js", "engine/jurist_bg.wasm", "README.md"]) {
    assert.ok(names.includes(name), `${name} is missing in ${names}`);
  }
  assert.deepEqual(names.filter((name) => /^(tests|ui|judge)\/|index\.html|sw\.js/.test(name)), []);
});

test("the types name every method of the module", async () => {
  const { Judge } = await import("../judge.js");
  const types = readFileSync(join(WEB, "judge.d.ts"), "utf8");
  const own = (of) => Object.getOwnPropertyNames(of).filter((name) => typeof of[name] === "function" && name !== "constructor");
  for (const name of own(Judge)) assert.match(types, new RegExp(`static ${name}\\(`), name);
  for (const name of own(Judge.prototype)) assert.match(types, new RegExp(`^  ${name}\\(`, "m"), name);
});
