// Gemma 3 in the page: a small judge of that family, whole and as an adapter on weights of 4 bits, scores as on the command line.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { open, WEB } from "./browser.mjs";

const JURIST = process.env.JURIST ?? join(WEB, "../target/release/jurist");
const MODEL = join(WEB, "../tests/fixtures/gguf/gemma3.gguf");
const TOLERANCE = 1e-3; // two GPU adapters add in different orders
const ROWS = [
  { prompt: "the cat", score: 5 },
  { prompt: " the cat  in 2", score: 1 },
];

const scratch = mkdtempSync(join(tmpdir(), "jurist-families-"));
const expected = {};
let world;

const jurist = (...args) => execFileSync(JURIST, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });

before(async () => {
  const rows = join(scratch, "rows.jsonl");
  writeFileSync(rows, ROWS.map((row) => JSON.stringify(row)).join("\n") + "\n");
  world = await open();
  for (const [form, weights, adapter] of [
    ["whole", "f32", []],
    ["adapted", "q4", ["--lora-r", "2"]],
  ]) {
    const [judge, bundle] = [join(scratch, `${form}-judge`), join(scratch, form)];
    const files = ["--model-name-or-path", MODEL, "--train-file", rows, "--output-dir", judge];
    jurist("train", "--method", "raft", ...files, "--max-steps", "3", "--learning-rate", "0.05", "--chat", "never", ...adapter);
    jurist("export", judge, "--out", bundle, "--weights", weights);
    const scored = jurist("score", "--model", bundle, "--input", rows, "-q").trim().split("\n");
    expected[form] = scored.map((line) => JSON.parse(line).judge.expected);
    const manifest = JSON.parse(readFileSync(join(bundle, "manifest.json"), "utf8"));
    assert.equal(Boolean(manifest.adapter), form === "adapted");
    const names = [manifest.tokenizer, ...(manifest.adapter ? [manifest.adapter] : []), ...manifest.shards].map(
      ({ file }) => file,
    );
    // The page may only fetch from its own origin, so its server serves the bundles too.
    for (const file of ["manifest.json", ...names]) {
      world.server.overrides.set(`/${form}/${file}`, (_, response) => response.end(readFileSync(join(bundle, file))));
    }
  }
});
after(async () => {
  rmSync(scratch, { recursive: true });
  await world?.close();
});

for (const form of ["whole", "adapted"]) {
  test(`gemma 3, ${form}: scores in the page are those of the command line`, async () => {
    const { tab, context, seen } = await world.page();
    const scores = await tab.evaluate(
      async ({ form, rows }) => {
        const { Judge } = await import("/judge.js");
        const judge = await Judge.load(`/${form}/`, { keep: false });
        const batch = await judge.scoreBatch(rows, {});
        await judge.free();
        return batch.map((row) => row.score ?? row.error);
      },
      { form, rows: ROWS.map(({ prompt }) => ({ prompt })) },
    );
    const off = Math.max(...scores.map((score, i) => Math.abs(score - expected[form][i])));
    assert.ok(off < TOLERANCE, `${scores} and not ${expected[form]}`);
    assert.notEqual(expected[form][0], expected[form][1]);
    assert.deepEqual(seen.errors, []);
    await context.close();
  });
}
