// Judges whose weights are not f32: the weights stay as stored on the GPU, and score as on the command line. Training trains an
// adapter, which is saved with the weights.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { goTo, loadJudge, open, SLOW, WEB } from "./browser.mjs";

const JURIST = process.env.JURIST ?? join(WEB, "../target/release/jurist");
const ROWS = 8;
const TOLERANCE = 1e-3; // two GPU adapters add in different orders

const scratch = mkdtempSync(join(tmpdir(), "jurist-quantised-"));
let world;

const jurist = (...args) => execFileSync(JURIST, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
const lines = (rows) => rows.map((row) => JSON.stringify(row)).join("\n") + "\n";
const shards = (form) => JSON.parse(readFileSync(join(scratch, form, "manifest.json"), "utf8")).shards.map(({ file }) => file);
/** The scores of rows with chains. */
const readByCommandLine = (model, rows) =>
  jurist("score", "--model", model, "--input", rows, "--given-chains", "-q")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).judge.expected);
const apart = (a, b) => Math.max(...a.map((score, i) => Math.abs(score - b[i])));

before(async () => {
  const examples = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8")).examples.slice(0, ROWS);
  writeFileSync(join(scratch, "rows.jsonl"), lines(examples));
  for (const form of ["q8", "q4"]) {
    const out = join(scratch, form);
    jurist("export", join(WEB, "judge"), "--out", out, "--weights", form);
    // Both get the same chains, so that only the scores after them are compared.
    const written = jurist("score", "--model", out, "--input", join(scratch, "rows.jsonl"), "-q");
    const rows = written
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const chained = rows.map(({ judge, ...row }) => ({ ...row, chain: judge.feedback }));
    writeFileSync(join(scratch, `${form}.jsonl`), lines(chained));
    const scores = readByCommandLine(out, join(scratch, `${form}.jsonl`));
    writeFileSync(join(scratch, `${form}.expected.json`), JSON.stringify({ chained, scores }));
  }
  world = await open();
  // The page may only fetch from its own origin, so its server serves the bundles too.
  for (const form of ["q8", "q4"]) {
    for (const file of ["manifest.json", "tokenizer.json", ...shards(form)]) {
      world.server.overrides.set(`/${form}/${file}`, (_, response) => response.end(readFileSync(join(scratch, form, file))));
    }
  }
});
after(async () => {
  rmSync(scratch, { recursive: true });
  await world?.close();
});

for (const form of ["q8", "q4"]) {
  test(`${form}: stays ${form} on the GPU, scores as on the command line, is saved as it was loaded`, async () => {
    const { chained, scores } = JSON.parse(readFileSync(join(scratch, `${form}.expected.json`), "utf8"));
    const manifest = JSON.parse(readFileSync(join(scratch, form, "manifest.json"), "utf8"));
    const { tab, context, seen } = await world.page();
    const found = await tab.evaluate(
      async ({ form, rows }) => {
        const { Judge } = await import("/judge.js");
        const { gpuBytes } = await Judge.inspect(`/${form}/`);
        const judge = await Judge.load(`/${form}/`, { keep: false });
        const batch = await judge.scoreBatch(rows, { givenChains: true });
        const files = await judge.bundle();
        const { weights } = judge.about;
        const hex = (digest) => [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
        const hash = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));
        const hashes = Object.fromEntries(await Promise.all(files.map(async ({ name, bytes }) => [name, await hash(bytes)])));
        await judge.free();
        return { gpuBytes, weights, scores: batch.map((row) => row.score ?? row.error), hashes };
      },
      { form, rows: chained },
    );
    assert.equal(found.weights, form);
    assert.ok(found.gpuBytes < manifest.parameters * 2.5, `${found.gpuBytes} bytes for ${manifest.parameters} weights`);
    assert.ok(apart(scores, found.scores) < TOLERANCE, `${found.scores} and not ${scores}`);
    for (const { file, sha256 } of manifest.shards) assert.equal(found.hashes[file], sha256, `${file} is saved as it was loaded`);
    assert.deepEqual(seen.errors, []);
    await context.close();
  });
}

// The judge that comes with the page is f16, and can stay f16. Training works the same way for every dtype but f32.
for (const [form, at, options] of [
  ["q8", "/q8/", {}],
  ["q4", "/q4/", {}],
  ["f16", "/judge/", { keepHalfPrecision: true }],
]) {
  test(`${form}: training trains an adapter; reset drops it, and the saved bundle has it`, async () => {
    const rows = join(scratch, `${form === "f16" ? "q8" : form}.jsonl`);
    const chained = readFileSync(rows, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const { tab, context, seen } = await world.page();
    const found = await tab.evaluate(
      async ({ at, options, chained }) => {
        const { Judge } = await import("/judge.js");
        const judge = await Judge.load(at, { keep: false, ...options });
        const scores = async () => (await judge.scoreBatch(chained, { givenChains: true })).map((row) => row.score ?? row.error);
        const corrected = chained.map(({ chain, ...row }) => ({ ...row, score: 1 }));
        const train = () =>
          judge.train(corrected, { heldOut: corrected, steps: 3, groupSize: 4, batchSize: 4, learningRate: 0.004, seed: 5 });
        const loaded = await scores();
        const first = await train();
        const trained = await scores();
        const files = (await judge.bundle()).map(({ name, bytes }) => [name, Array.from(bytes)]);
        await judge.reset();
        const reset = await scores();
        await train();
        const again = await scores();
        await judge.free();
        return { loaded, first, trained, files, reset, again };
      },
      { at, options, chained },
    );
    console.log(`${form}: RMSE ${found.first.before.rmse.toFixed(3)} → ${found.first.after.rmse.toFixed(3)}`);
    assert.ok(apart(found.trained, found.loaded) > 0.05, `${found.loaded} → ${found.trained}`);
    assert.ok(found.first.after.rmse < found.first.before.rmse, "it comes closer to the corrections");
    assert.ok(Math.max(...found.trained) - Math.min(...found.trained) > 0.1, `rows that differ: ${found.trained}`);
    assert.deepEqual(found.reset, found.loaded, "exactly");
    assert.deepEqual(found.again, found.trained, "a judge that was reset learns as one that was just loaded");

    const saved = join(scratch, `${form}-trained`);
    mkdirSync(saved);
    for (const [name, bytes] of found.files) writeFileSync(join(saved, name), Uint8Array.from(bytes));
    assert.equal(JSON.parse(readFileSync(join(saved, "manifest.json"), "utf8")).weights, "f32");
    const native = readByCommandLine(saved, rows);
    console.log(`${form}: saved and read by the command line, off by ${apart(native, found.trained).toExponential(1)}`);
    assert.ok(apart(native, found.trained) < TOLERANCE, `${found.trained} and not ${native}`);
    assert.deepEqual(seen.errors, []);
    await context.close();
  });
}

test("on the page: a quantised judge is trained with larger steps, and the page says how", async () => {
  const { tab, context, seen } = await world.page({ path: "/?judge=q8/" });
  await loadJudge(tab);
  await goTo(tab, "train");
  await tab.click("#train-rows summary");
  await tab.fill("#train-paste", lines(JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8")).examples.slice(0, 2)));
  await tab.click("button:text-is('Add as corrections')");
  await tab.click(".settings summary");
  assert.equal(await tab.inputValue("#train-learningRate"), "0.0005");
  for (const [name, value] of Object.entries({ steps: 2, groupSize: 2, batchSize: 2 }))
    await tab.fill(`#train-${name}`, String(value));
  await tab.click("#train-form .primary");
  await tab.waitForSelector("#train-figures", { timeout: 2 * SLOW });
  assert.match(await tab.innerText("#train-result"), /2 steps in[^]*q8 weights stay as they are: an adapter was trained/);
  assert.deepEqual(seen.errors, []);
  await context.close();
});

test("keepHalfPrecision: less memory, the same scores, saved as it was loaded", async () => {
  const { shards } = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8"));
  const chained = readFileSync(join(scratch, "q8.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const { tab, context, seen } = await world.page();
  const found = await tab.evaluate(async (chained) => {
    const { Judge } = await import("/judge.js");
    const load = async (keepHalfPrecision) => {
      const { gpuBytes } = await Judge.inspect("/judge/", { keepHalfPrecision });
      const judge = await Judge.load("/judge/", { keep: false, keepHalfPrecision });
      const scores = (await judge.scoreBatch(chained, { givenChains: true })).map((row) => row.score ?? row.error);
      const files = (await judge.bundle()).map(({ name, bytes }) => [name, Array.from(bytes)]);
      await judge.free();
      return { gpuBytes, scores, files };
    };
    return { widened: await load(false), kept: await load(true) };
  }, chained);
  const share = found.kept.gpuBytes / found.widened.gpuBytes;
  assert.ok(share > 0.5 && share < 0.62, `${share}`); // rows of 176 are not whole blocks, and stay f32
  assert.ok(apart(found.kept.scores, found.widened.scores) < TOLERANCE, `${found.kept.scores} and not ${found.widened.scores}`);
  for (const { files } of Object.values(found)) {
    for (const { file, sha256 } of shards) {
      const bytes = Uint8Array.from(files.find(([name]) => name === file)[1]);
      assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256, `${file} is saved as it was loaded`);
    }
  }
  assert.deepEqual(seen.errors, []);
  await context.close();
});

// Bindings of so many bytes hold 32 rows of the widest matrix (176 columns, in f32 everywhere). A word less is too little.
const LEAST = 4 * 32 * 176;
for (const [form, at, keepHalfPrecision] of [
  ["f32", "/judge/", false],
  ["f16", "/judge/", true],
  ["q8", "/q8/", false],
  ["q4", "/q4/", false],
]) {
  test(`${form}: the bytes that are announced are those of the buffers, matrices cut into slabs`, async () => {
    world.server.overrides.set("/blank/", (_, response) =>
      response
        .writeHead(200, { "content-type": "text/html" })
        .end("<!doctype html><link rel=icon href=data:,><title>Slabs</title>"),
    );
    const { tab, context } = await world.page({ path: "/blank/" });
    const found = await tab.evaluate(
      async ({ at, keepHalfPrecision, least }) => {
        let allowed = least;
        for (const name of ["maxStorageBufferBindingSize", "maxBufferSize"])
          Object.defineProperty(GPUSupportedLimits.prototype, name, { get: () => allowed });
        const made = [];
        const make = GPUDevice.prototype.createBuffer;
        GPUDevice.prototype.createBuffer = function (wanted) {
          made.push({ label: wanted.label, size: wanted.size });
          return make.call(this, wanted);
        };
        const { default: init, Engine, Loader, check_bundle } = await import("/engine/jurist.js");
        await init();
        const manifest = await (await fetch(`${at}manifest.json`)).text();
        const tokenizer = new Uint8Array(await (await fetch(`${at}tokenizer.json`)).arrayBuffer());
        const engine = await Engine.open();
        const fit = JSON.parse(check_bundle(engine, manifest, keepHalfPrecision));
        new Loader(engine, manifest, tokenizer, keepHalfPrecision).free();
        allowed = least - 4;
        const tooSmall = JSON.parse(check_bundle(await Engine.open(), manifest, keepHalfPrecision));
        return { fit, tooSmall, made: made.filter(({ label }) => label.endsWith("(weights)")) };
      },
      { at, keepHalfPrecision, least: LEAST },
    );
    assert.ok(found.fit.fits);
    assert.ok(!found.tooSmall.fits);
    assert.match(found.tooSmall.why, /largest matrix needs 0\.0 MB in one buffer/);
    assert.ok(
      found.made.some(({ label }) => label.includes("[1]")),
      "there are slabs",
    );
    assert.ok(found.made.every(({ size }) => size <= LEAST));
    assert.equal(
      found.made.reduce((sum, { size }) => sum + size, 0),
      found.fit.gpuBytes,
    );
    await context.close();
  });
}
