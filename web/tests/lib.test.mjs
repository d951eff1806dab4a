// The parts that need no browser.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { readManifest } from "../lib/manifest.js";
import { cellText, columnOf, judgedRow, readRows, toCsv, toJsonLines } from "../lib/rows.js";
import { sha256, Sha256 } from "../lib/sha256.js";
import { pearson, rmse, spearman } from "../lib/stats.js";
import { comparedColumn, columnsOf } from "../lib/template.js";
import { unzip, zip } from "../lib/zip.js";
import { listFiles } from "./browser.mjs";

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
  assert.equal(head, "\ufeffresponse,score,judge_expected,judge_decoded,judge_probs,judge_mass,judge_feedback,judge_error");
  assert.ok(rest.join("\r\n").startsWith('"a, ""b""\nc",4,3.5,4,'));
});

/** CSV as a spreadsheet reads it. */
function cellsOf(csv) {
  const cells = csv.matchAll(/(?:^|,|\r\n)(?:"((?:[^"]|"")*)"|([^",\r\n]*))/g);
  return Array.from(cells, ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain);
}

test("CSV holds no formula, numbers stay numbers, and every text can be had back", () => {
  const formulas = ["=1+1", "=HYPERLINK(\"http://x\";\"y\")", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "-", "- a list", "+a", "\uff1d1+1", "-1.5.2", "-1,5"];
  const harmless = ["", "text", "a=b", "1-1", "it's", "'tis", "' or 1", "-1.5", "+2", "-.5", "-1e-7", "12", "\u00fcber", "a;b", 'say "x"', "a\nb"];
  const escaped = ["'=1", "''=1", "'-1.5", "'\t"];
  const cells = (text) => cellsOf(toCsv([{ text }]).slice(1)).slice(1, 2);
  for (const text of harmless) assert.deepEqual(cells(text), [text]);
  for (const text of [...formulas, ...escaped]) assert.deepEqual(cells(text), [`'${text}`]);
  assert.deepEqual([-1.5, 3, 1e-7, -2e22, true, null].map((value) => cells(value)[0]), ["-1.5", "3", "1e-7", "-2e+22", "true", ""]);
  assert.equal(toCsv([{ "=cmd": 1 }]), "\ufeff'=cmd\r\n1\r\n", "names of columns too");
  const back = (cell) => (/^'+\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^'+[\t\r\n]/.test(cell) ? cell.slice(1) : cell);
  for (const text of [...formulas, ...harmless, ...escaped]) assert.equal(back(cells(text)[0]), text);
});

test("columns may be called like what every object has", () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "toJSON", "valueOf", "setAttribute"];
  const text = `{${names.map((name) => `"${name}":"${name} text"`)}}\n{"response":"r"}\n`;
  const { rows, faults } = readRows(text);
  assert.deepEqual(faults, []);
  for (const name of names) assert.deepEqual([columnOf(rows[0], name), columnOf(rows[1], name)], [`${name} text`, undefined]);
  assert.equal(toJsonLines(rows), text);
  assert.deepEqual(cellsOf(toCsv(rows).slice(1)).slice(0, 16), [...names, "response", ...names.map((name) => `${name} text`), ""]);
  const judged = judgedRow(rows[0], { distribution: [1] }, ["__proto__"]);
  assert.ok(JSON.stringify(judged).includes('"probs":{"__proto__":1}') && Object.getPrototypeOf(judged) === Object.prototype);
  assert.deepEqual([null, undefined, "a", 0, false, { toString: 1 }, [1]].map(cellText), ["", "", "a", "0", "false", '{"toString":1}', "[1]"]);
  const columns = columnsOf({ template: "own", template_source: names.map((name) => `{{ ${name} }}`).join(" ") });
  assert.deepEqual(columns.map(({ name }) => name), names);
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
  const set = '{% set n = namespace(x=1) %}{% set n.x = 2 %}{% for key, value in notes %}{{ key }}{{ value | tojson(indent=2) }}{% endfor %}{% if tone == mood %}{{ range(3) }}{% endif %}{{ response }}';
  assert.deepEqual(columnsOf({ template: "own", template_source: set }).map(({ name }) => name), ["response", "notes", "tone", "mood"]);
  const trimmed = columnsOf({ template: "own", template_source: "{% set response = response | trim %}{{ response }}" });
  assert.deepEqual(trimmed.map(({ name }) => name), ["response"]);
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
  const withExamples = (examples) => JSON.stringify({ format: "jurist-bundle", tokenizer: sound, examples });
  assert.equal(failure(withExamples([{}, { response: "r" }])), null);
  for (const examples of ["abc", { length: 1 }, [null], [[]], ["row"]]) assert.equal(failure(withExamples(examples)), "BadBundle");
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

test("every file of the page is kept for offline use, by its hash", () => {
  listFiles();
  const self = {};
  new Function("self", readFileSync(join(WEB, "engine/files.js"), "utf8"))(self);
  const { files, version } = self.PAGE;
  const of = (folder, ending) => readdirSync(join(WEB, folder)).filter((name) => name.endsWith(ending)).map((name) => join(folder, name));
  const own = [...of("lib", ".js"), ...of("ui", ".js"), ...of(".", ".js"), ...of(".", ".css"), ...of(".", ".svg"), ...of(".", ".webmanifest")];
  const rest = ["./", "engine/jurist.js", "engine/jurist_bg.wasm"];
  assert.deepEqual(Object.keys(files).sort(), [...own.filter((name) => name !== "sw.js"), ...rest].sort());
  for (const [file, hash] of Object.entries(files)) {
    assert.equal(createHash("sha256").update(readFileSync(join(WEB, file === "./" ? "index.html" : file))).digest("hex"), hash, file);
  }
  assert.match(version, /^[0-9a-f]{16}$/);
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
