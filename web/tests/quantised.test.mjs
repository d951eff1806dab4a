// A quantised judge in the page: the packed weights reach the GPU as they are, and score as they do on the command line.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { open, WEB } from "./browser.mjs";

const JURIST = process.env.JURIST ?? join(WEB, "../target/release/jurist");
const ROWS = 8;
const AS_NATIVE = 1e-3; // two adapters, one sum in another order

const scratch = mkdtempSync(join(tmpdir(), "jurist-quantised-"));
let world;

before(async () => {
  const jurist = (...args) => execFileSync(JURIST, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const examples = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8")).examples.slice(0, ROWS);
  const lines = (rows) => rows.map((row) => JSON.stringify(row)).join("\n") + "\n";
  writeFileSync(join(scratch, "rows.jsonl"), lines(examples));
  for (const form of ["q8", "q4"]) {
    const out = join(scratch, form);
    jurist("export", join(WEB, "judge"), "--out", out, "--weights", form);
    // Chains that both read, so that only the reading is compared.
    const written = jurist("score", "--model", out, "--input", join(scratch, "rows.jsonl"), "-q");
    const rows = written.trim().split("\n").map((line) => JSON.parse(line));
    const chained = rows.map(({ judge, ...row }) => ({ ...row, chain: judge.feedback }));
    writeFileSync(join(scratch, `${form}.jsonl`), lines(chained));
    const read = jurist("score", "--model", out, "--input", join(scratch, `${form}.jsonl`), "--given-chains", "-q");
    const scores = read.trim().split("\n").map((line) => JSON.parse(line).judge.expected);
    writeFileSync(join(scratch, `${form}.expected.json`), JSON.stringify({ chained, scores }));
  }
  world = await open();
});
after(async () => {
  rmSync(scratch, { recursive: true });
  await world?.close();
});

for (const form of ["q8", "q4"]) {
  test(`${form}: loaded packed, scored as on the command line, saved as it came`, async () => {
    const { chained, scores } = JSON.parse(readFileSync(join(scratch, `${form}.expected.json`), "utf8"));
    const manifest = JSON.parse(readFileSync(join(scratch, form, "manifest.json"), "utf8"));
    const { tab, context, seen } = await world.page();
    // The page may only fetch from its own origin: the bundle is laid over its folder.
    for (const file of ["manifest.json", "tokenizer.json", ...manifest.shards.map((shard) => shard.file)]) {
      world.server.overrides.set(`/${form}/${file}`, (_, response) => response.end(readFileSync(join(scratch, form, file))));
    }
    const found = await tab.evaluate(
      async ({ form, rows }) => {
        const { Judge } = await import("/judge.js");
        const { gpuBytes } = await Judge.inspect(`/${form}/`);
        const judge = await Judge.load(`/${form}/`, { keep: false });
        const batch = await judge.scoreBatch(rows, { givenChains: true });
        const refused = await judge.train(rows, { steps: 1 }).then(() => "", (failure) => `${failure.name}: ${failure.message}`);
        const files = await judge.bundle();
        const { weights } = judge.about;
        const hex = (digest) => [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
        const hash = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));
        const hashes = Object.fromEntries(await Promise.all(files.map(async ({ name, bytes }) => [name, await hash(bytes)])));
        await judge.free();
        return { gpuBytes, weights, scores: batch.map((row) => row.score ?? row.error), refused, hashes };
      },
      { form, rows: chained },
    );
    assert.equal(found.weights, form);
    assert.ok(found.gpuBytes < manifest.parameters * 2.5, `${found.gpuBytes} bytes for ${manifest.parameters} weights`);
    const off = Math.max(...scores.map((score, i) => Math.abs(score - found.scores[i])));
    assert.ok(off < AS_NATIVE, `${found.scores} and not ${scores}`);
    assert.match(found.refused, /training needs weights in f32/);
    for (const { file, sha256 } of manifest.shards) assert.equal(found.hashes[file], sha256, `${file} is saved as it came`);
    assert.deepEqual(seen.errors, []);
    await context.close();
  });
}
