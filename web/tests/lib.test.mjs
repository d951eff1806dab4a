// The parts that need no browser: the page's library, and what it takes from the engine without a GPU.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { agreement, initSync, Sha256 } from "../engine/jurist.js";
import { readManifest } from "../lib/manifest.js";
import { oddsOfOrders, oddsOfScores, winnerOf } from "../lib/odds.js";
import { cellText, columnOf, comparedColumn, judgedRow, readRows, toCsv, toJsonLines } from "../lib/rows.js";
import { unzip, zip } from "../lib/zip.js";
import { listFiles, WEB } from "./browser.mjs";

initSync({ module: readFileSync(join(WEB, "engine/jurist_bg.wasm")) });

test("the engine's SHA-256 equals node's, in any pieces and around every block boundary", () => {
  for (const length of [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 100_003]) {
    const bytes = randomBytes(length);
    const wanted = createHash("sha256").update(bytes).digest("hex");
    const whole = new Sha256();
    whole.update(bytes);
    assert.equal(whole.hex(), wanted);
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
  const calibrated = { score: 3, low: 2, high: 4, level: 0.9 };
  assert.deepEqual(judgedRow({}, { ...result, calibrated }, ["3", "4"]).judge, { ...row.judge, calibrated });
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

test("CSV has no formula, numbers stay numbers, and every text can be restored", () => {
  const formulas = [
    "=1+1",
    '=HYPERLINK("http://x";"y")',
    "+1+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "-",
    "- a list",
    "+a",
    "\uff1d1+1",
    "-1.5.2",
    "-1,5",
  ];
  const harmless = [
    "",
    "text",
    "a=b",
    "1-1",
    "it's",
    "'tis",
    "' or 1",
    "-1.5",
    "+2",
    "-.5",
    "-1e-7",
    "12",
    "\u00fcber",
    "a;b",
    'say "x"',
    "a\nb",
  ];
  const escaped = ["'=1", "''=1", "'-1.5", "'\t"];
  const cells = (text) => cellsOf(toCsv([{ text }]).slice(1)).slice(1, 2);
  for (const text of harmless) assert.deepEqual(cells(text), [text]);
  for (const text of [...formulas, ...escaped]) assert.deepEqual(cells(text), [`'${text}`]);
  assert.deepEqual(
    [-1.5, 3, 1e-7, -2e22, true, null].map((value) => cells(value)[0]),
    ["-1.5", "3", "1e-7", "-2e+22", "true", ""],
  );
  assert.equal(toCsv([{ "=cmd": 1 }]), "\ufeff'=cmd\r\n1\r\n", "names of columns too");
  const back = (cell) => (/^'+\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^'+[\t\r\n]/.test(cell) ? cell.slice(1) : cell);
  for (const text of [...formulas, ...harmless, ...escaped]) assert.equal(back(cells(text)[0]), text);
});

test("columns may have the names of properties that every object has", () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "toJSON", "valueOf", "setAttribute"];
  const text = `{${names.map((name) => `"${name}":"${name} text"`)}}\n{"response":"r"}\n`;
  const { rows, faults } = readRows(text);
  assert.deepEqual(faults, []);
  for (const name of names) assert.deepEqual([columnOf(rows[0], name), columnOf(rows[1], name)], [`${name} text`, undefined]);
  assert.equal(toJsonLines(rows), text);
  assert.deepEqual(cellsOf(toCsv(rows).slice(1)).slice(0, 16), [
    ...names,
    "response",
    ...names.map((name) => `${name} text`),
    "",
  ]);
  const judged = judgedRow(rows[0], { distribution: [1] }, ["__proto__"]);
  assert.ok(JSON.stringify(judged).includes('"probs":{"__proto__":1}') && Object.getPrototypeOf(judged) === Object.prototype);
  assert.deepEqual([null, undefined, "a", 0, false, { toString: 1 }, [1]].map(cellText), [
    "",
    "",
    "a",
    "0",
    "false",
    '{"toString":1}',
    "[1]",
  ]);
});

test("the engine's agreement: ties share ranks, and a figure that does not exist is null", () => {
  const of = (human, judge) => JSON.parse(agreement(Float64Array.from(human), Float64Array.from(judge)));
  // Worked out: 4.5 / sqrt(9 * 6.75), and the ranks 1 2.5 2.5 4 against 2 1 3.5 3.5.
  const { pearson, spearman, rmse } = of([1, 2, 2, 5], [2, 1, 4, 4]);
  assert.ok(Math.abs(pearson - 1 / Math.sqrt(3)) < 1e-12);
  assert.ok(Math.abs(spearman - 0.5) < 1e-12);
  assert.ok(Math.abs(rmse - Math.sqrt(7 / 4)) < 1e-12);
  assert.deepEqual(of([1, 1, 1], [1, 2, 3]), { rmse: Math.sqrt(5 / 3), pearson: null, spearman: null });
  assert.deepEqual(of([1], [1]), { rmse: 0, pearson: null, spearman: null });
  assert.deepEqual(of([], []), { rmse: null, pearson: null, spearman: null });
});

test("the better response, from two scores or from both orders", () => {
  const near = (odds, expected) => {
    for (const [index, key] of ["a", "b", "tie"].entries()) assert.ok(Math.abs(odds[key] - expected[index]) < 1e-12, key);
  };
  // A is 3 or 2, B is 2 or 1.
  near(oddsOfScores([0.5, 0, 0.5], [0, 0.25, 0.75], [3, 1, 2]), [0.5 + 0.5 * 0.25, 0, 0.5 * 0.75]);
  // Given: A wins with 0.6. Swapped, the response read first (now B) wins with 0.7.
  const odds = oddsOfOrders([0.6, 0.1, 0.3], [0.7, 0.2, 0.1], [1, 0.5, 0]);
  near(odds, [(0.6 + 0.1) / 2, (0.3 + 0.7) / 2, 0.15]);
  assert.equal(winnerOf(odds), "B");
  // A judge that always prefers the first response has no opinion.
  assert.equal(winnerOf(oddsOfOrders([0.9, 0.1], [0.9, 0.1], [1, 0])), null);
  assert.equal(winnerOf({ a: 0.3, b: 0.2, tie: 0.5 }), null);
});

test("two responses are compared, or two prompts where a judge reads no response", () => {
  const named = (...names) => names.map((name) => ({ name, optional: false }));
  assert.equal(comparedColumn(named("rubric", "response", "task")), "response");
  assert.equal(comparedColumn(named("prompt")), "prompt");
  assert.equal(comparedColumn(named("question", "answer")), "answer");
});

test("what is not a manifest is refused by its kind", async () => {
  const failure = (text) =>
    readManifest(text, "here").then(
      () => null,
      (error) => error.name,
    );
  assert.equal(await failure("<!doctype html><title>Not found</title>"), "NotAModel");
  assert.equal(await failure('{"architectures": ["Qwen3ForCausalLM"]}'), "NotAModel");
  assert.equal(await failure('{"format": '), "BadBundle");
  const bundle = (file) => JSON.stringify({ format: "jurist-bundle", tokenizer: file, shards: [] });
  const sound = { file: "tokenizer.json", bytes: 3, sha256: "0".repeat(64) };
  assert.equal(await failure(bundle(sound)), null);
  for (const file of ["../tokenizer.json", "a/b", ".hidden", ""])
    assert.equal(await failure(bundle({ ...sound, file })), "BadBundle");
  assert.equal(await failure(bundle({ ...sound, sha256: undefined })), "BadBundle");
  const withExamples = (examples) => JSON.stringify({ format: "jurist-bundle", tokenizer: sound, examples });
  assert.equal(await failure(withExamples([{}, { response: "r" }])), null);
  for (const examples of ["abc", { length: 1 }, [null], [[]], ["row"]])
    assert.equal(await failure(withExamples(examples)), "BadBundle");
});

test("a saved archive comes back as it was", async () => {
  const files = [
    { name: "manifest.json", bytes: new TextEncoder().encode("{}") },
    { name: "weights-00001.safetensors", bytes: new Uint8Array(randomBytes(70_000)) },
  ];
  const back = await unzip(zip("judge", files));
  assert.deepEqual(
    back.map((file) => file.name),
    files.map((file) => file.name),
  );
  for (const [index, file] of back.entries()) assert.deepEqual(new Uint8Array(await file.arrayBuffer()), files[index].bytes);
  assert.equal(await unzip(new Blob(["not an archive"])), null);
});

test("every file of the page is listed for offline use, with its hash", () => {
  listFiles();
  const self = {};
  new Function("self", readFileSync(join(WEB, "engine/files.js"), "utf8"))(self);
  const { files, version } = self.PAGE;
  const of = (folder, ending) =>
    readdirSync(join(WEB, folder))
      .filter((name) => name.endsWith(ending))
      .map((name) => join(folder, name));
  const own = [
    ...of("lib", ".js"),
    ...of("ui", ".js"),
    ...of(".", ".js"),
    ...of("css", ".css"),
    ...of(".", ".svg"),
    ...of(".", ".webmanifest"),
  ];
  const rest = ["./", "engine/jurist.js", "engine/jurist_bg.wasm"];
  assert.deepEqual(Object.keys(files).sort(), [...own.filter((name) => name !== "sw.js"), ...rest].sort());
  for (const [file, hash] of Object.entries(files)) {
    assert.equal(
      createHash("sha256")
        .update(readFileSync(join(WEB, file === "./" ? "index.html" : file)))
        .digest("hex"),
      hash,
      file,
    );
  }
  assert.match(version, /^[0-9a-f]{16}$/);
});

test("npm pack makes a package of the module, its types and the engine, without the page", () => {
  const [{ files }] = JSON.parse(
    execFileSync("npm", ["pack", "--dry-run", "--json", "--silent"], { cwd: WEB, encoding: "utf8" }),
  );
  const names = files.map(({ path }) => path);
  const wanted = ["judge.js", "worker.js", "lib/download.js", "engine/jurist.js", "engine/jurist_bg.wasm", "README.md"];
  const declarations = ["judge", "types", "lib/failure"].map((name) => `declarations/${name}.d.ts`);
  for (const name of [...wanted, ...declarations]) assert.ok(names.includes(name), `${name} is missing in ${names}`);
  assert.deepEqual(
    names.filter((name) => /^(tests|ui|css|judge)\/|index\.html|sw\.js/.test(name)),
    [],
  );
});

const PROGRAM = `
  import { Failure, Judge, type Agreement, type Row } from "./judge.js";

  const row: Row = { instruction: "Explain tides.", response: "The moon pulls" };
  const judge = await Judge.load("judge/", { keepHalfPrecision: true, onProgress: ({ done, total }) => done / total });
  const { score, chains } = await judge.score(row, { chains: 5, onToken: ({ text }) => text.trim() });
  const [first] = await judge.scoreBatch([row]);
  const error: string | undefined = first.error;
  const after: Agreement = (await judge.train([{ ...row, score }], { steps: 3 })).after;
  const { pearson }: Agreement = await Judge.agreement([1, 2, 3], [score, ...chains.map((chain) => chain.score)]);
  Judge.onEnd((failure: Failure) => [failure.name === "DeviceLost", failure.breaksEngine, error, after, pearson]);

  // @ts-expect-error
  judge.scores(row);
  // @ts-expect-error
  judge.score(3);
  // @ts-expect-error
  (await Judge.adapter()).limit;
  // @ts-expect-error
  new Failure("AnotherName", "");
`;

test("the package's types serve a program in TypeScript", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "jurist-types-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const tsc = (...args) => execFileSync(join(WEB, "tests/node_modules/.bin/tsc"), args, { encoding: "utf8" });
  const file = join(folder, "program.ts");
  writeFileSync(file, PROGRAM);
  try {
    tsc("-p", join(WEB, "tsconfig.declarations.json"), "--outDir", folder);
    tsc("--noEmit", "--strict", "--target", "es2023", "--module", "esnext", "--moduleResolution", "bundler", file);
  } catch (error) {
    assert.fail(error.stdout);
  }
});
