// The page's judge agrees with the command line's: the same bundle and rows, on the browser's adapter and on the machine's.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { open, WEB } from "./browser.mjs";

const JURIST = process.env.JURIST ?? join(WEB, "../target/release/jurist");
const ROWS = 50;
const OPTIONS = { temperature: 1, seed: 7 };

const scratch = mkdtempSync(join(tmpdir(), "jurist-parity-"));
const { examples } = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8"));
// The judge comes with fewer rows than this test needs. The other rows combine one row's response with another's rubric.
const rows = Array.from({ length: ROWS }, (_, n) => {
  const { rubric, response } = examples[n % examples.length];
  return { rubric, response: n < examples.length ? response : examples[(n * 7 + 3) % examples.length].response };
});

/** The objects `judge` that the command line adds to rows. */
function native(name, rows, ...flags) {
  const input = join(scratch, name);
  writeFileSync(input, rows.map((row) => JSON.stringify(row) + "\n").join(""));
  const said = execFileSync(JURIST, ["score", "--quiet", "--model", join(WEB, "judge"), "--input", input, ...flags], {
    encoding: "utf8",
  });
  return said
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).judge);
}

let world;
let tab;
let context;

before(async () => {
  world = await open();
  world.server.overrides.set("/blank/", (request, response) =>
    response
      .writeHead(200, { "content-type": "text/html" })
      .end("<!doctype html><link rel=icon href=data:,><title>Parity</title>"),
  );
  ({ tab, context } = await world.page({ path: "/blank/" }));
  await tab.evaluate(async () => {
    const { default: init, Engine, Loader } = await import("/engine/jurist.js");
    await init();
    const bytes = async (file) => new Uint8Array(await (await fetch(`/judge/${file}`)).arrayBuffer());
    const manifest = new TextDecoder().decode(await bytes("manifest.json"));
    const { tokenizer, shards } = JSON.parse(manifest);
    const loader = new Loader(await Engine.open(), manifest, await bytes(tokenizer.file));
    for (const [n, { file }] of shards.entries()) loader.push(n, await bytes(file));
    window.judge = await loader.finish();
  });
});
after(async () => {
  rmSync(scratch, { recursive: true });
  await context?.close();
  await world?.close();
});

const inPage = (rows, options) =>
  tab.evaluate(
    async ([rows, options]) =>
      JSON.parse(await window.judge.score_batch(JSON.stringify(rows), JSON.stringify(options), () => true)),
    [rows, options],
  );

test(`${ROWS} rows on the same chains: expected scores within 1e-3`, async () => {
  const chains = native("rows.jsonl", rows, "--temperature", "1", "--seed", "3").map((judge) => judge.feedback);
  const given = rows.map((row, n) => ({ ...row, feedback: chains[n] }));
  const theirs = native("given.jsonl", given, "--given-chains");
  const ours = await inPage(given, { givenChains: true });
  const worst = Math.max(...ours.map((judged, n) => Math.abs(judged.score - theirs[n].expected)));
  console.log(`largest difference of an expected score: ${worst.toExponential(1)}`);
  assert.ok(new Set(theirs.map((judged) => judged.expected)).size > ROWS / 2, "rows that differ");
  assert.ok(worst < 1e-3, `${worst}`);
});

test("one seed: the sampled chains are the same, up to near-ties", async () => {
  const theirs = native("sampled.jsonl", rows, "--temperature", "1", "--seed", String(OPTIONS.seed));
  const ours = await inPage(rows, OPTIONS);
  const same = ours.filter((judged, n) => judged.feedback === theirs[n].feedback).length;
  console.log(`${same} of ${ROWS} sampled chains are the same`);
  assert.ok(new Set(theirs.map((judged) => judged.feedback)).size > ROWS / 2, "chains that differ");
  assert.ok(same >= ROWS - 3, `${same} of ${ROWS}`);
});
