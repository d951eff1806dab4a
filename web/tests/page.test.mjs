// What a visitor does on one page, in the usual order.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { unzip } from "../lib/zip.js";
import { goTo, loadJudge, numberIn, open, SLOW, WEB } from "./browser.mjs";

const JURIST = process.env.JURIST ?? join(WEB, "../target/release/jurist");
const manifest = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8"));

const scratch = mkdtempSync(join(tmpdir(), "jurist-page-"));
const archive = join(scratch, "saved.zip");
const saved = join(scratch, "saved");

let world;
let tab;
let seen;
let context;

before(async () => {
  world = await open();
  ({ tab, seen, context } = await world.page());
});
after(async () => {
  rmSync(scratch, { recursive: true });
  await world?.close();
});

test("before any download, the page shows its size and the adapter", async () => {
  const offer = await tab.waitForSelector("#offer .facts");
  const text = await offer.innerText();
  assert.match(text, /Download\s+\d+ KB/);
  assert.match(text, /Adapter\s+.*SwiftShader.*software/i);
  assert.match(text, /Its limits\s+.*per binding/);
  const weights = world.server.requests.filter(({ path }) => path.endsWith(".safetensors"));
  assert.deepEqual(weights, [], "no weights before the visitor presses the button");
});

test("the judge loads, and the form has an example", async () => {
  await loadJudge(tab);
  assert.equal(await tab.innerText("#current-name"), manifest.name);
  assert.ok((await tab.inputValue("#judge-fields textarea >> nth=0")).length > 0);
});

test("it judges: chain, score, distribution, figures", async () => {
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
  const shares = await tab.locator("#judge-result .share").allInnerTexts();
  const sum = shares.reduce((total, text) => total + Number(text.replace(/[<%\s]/g, "")), 0);
  assert.ok(Math.abs(sum - 100) < 1, `${shares}`);
  const score = await numberIn(tab.locator("#judge-result .score-value"));
  assert.ok(score >= 1 && score <= 5, `${score}`);
  const expected = shares.reduce((total, text, index) => total + ((index + 1) * Number(text.replace(/[<%\s]/g, ""))) / 100, 0);
  assert.ok(Math.abs(expected - score) < 0.02, "the score is the mean of the bars");
  assert.match(await tab.innerText("#judge-result .figures"), /Decoded\s+[1-5]\s+Score mass\s+[\d.]+ %[^]*Speed\s+\d+ tokens\/s/);
  assert.match(await tab.innerText("#judge-result .chain-text"), /\b(ok|bad)\b/);
});

test("several chains stream side by side, show their spread, and repeat with their seed", async () => {
  await tab.fill("#judge-chains", "4");
  await tab.dispatchEvent("#judge-chains", "change");
  assert.equal(await tab.inputValue("#judge-temperature"), "1", "greedy chains would all be the same");
  const states = tab.evaluate(
    () =>
      new Promise((done) => {
        const seen = new Set();
        const check = () => {
          const text = document.querySelector("#judge-result .chain-text")?.textContent ?? "";
          if (!document.querySelector("#judge-result .score") && text) seen.add(text);
          if (document.querySelector("#judge-result .score") && seen.size) done(seen.size);
        };
        new MutationObserver(check).observe(document.querySelector("#judge-result"), {
          subtree: true,
          childList: true,
          characterData: true,
        });
      }),
  );
  await tab.click("#judge-form .primary");
  assert.ok((await states) >= 2, "the chain is read while it is written");
  const first = await tab.innerText("#judge-result");
  assert.equal(await tab.locator("#judge-result .chain").count(), 4);
  assert.match(first, /Spread\s+± [\d.]+/);
  const chains = () => tab.locator("#judge-result .chains").innerText();
  const once = await chains();
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
  assert.equal(await chains(), once, "the same seed");
});

test("Stop works at once, and the next judgement works", async () => {
  await tab.fill("#judge-chains", "16");
  const took = await tab.evaluate(
    () =>
      new Promise((done) => {
        const result = document.querySelector("#judge-result");
        let pressed = 0;
        new MutationObserver((_, observer) => {
          if (!pressed && result.querySelector(".chain-text")?.textContent) {
            pressed = performance.now();
            document.querySelector("#judge-form .stop").click();
          }
          if (pressed && /Stopped/.test(result.textContent)) {
            observer.disconnect();
            done(performance.now() - pressed);
          }
        }).observe(result, { subtree: true, childList: true, characterData: true });
        document.querySelector("#judge-form").requestSubmit();
      }),
  );
  assert.ok(took < 200, `${took} ms`);
  await tab.waitForSelector("#judge-form .stop", { state: "hidden" });
  assert.equal(await tab.locator("[data-failure]").count(), 0, "a stop is not a failure");
  await tab.fill("#judge-chains", "1");
  await tab.fill("#judge-temperature", "0");
  await tab.keyboard.press("Control+Enter");
  await tab.waitForSelector("#judge-result .score");
});

test("words that the judge does not know are marked", async () => {
  const field = tab.locator("#judge-fields textarea").last();
  const before = await field.inputValue();
  await field.fill(`${before} zebra`);
  assert.equal(await tab.locator("#judge-fields mark").innerText(), "zebra");
  assert.match(await tab.innerText("#judge-fields .unknown:not(:empty)"), /Unknown to this judge: zebra/);
  await field.fill(before);
  assert.equal(await tab.locator("#judge-fields mark").count(), 0);
  await tab.click(".words summary");
  await tab.click(".chip:text-is('good')");
  assert.match(await field.inputValue(), /good\s*$/);
});

test("the page shows what the judge reads", async () => {
  await tab.click(".prompt summary");
  await tab.waitForFunction(() => /\d+ tokens/.test(document.querySelector(".prompt .note").textContent));
  assert.ok((await tab.innerText(".prompt pre")).includes("good"));
});

test("two responses are compared", async () => {
  await goTo(tab, "compare");
  await tab.click("#compare-form .primary");
  await tab.waitForSelector("#compare-verdict:not(:empty)");
  assert.equal(await tab.locator("#compare-results .score").count(), 2);
  const [a, b] = [
    await numberIn(tab.locator("#compare-results .score-value").first()),
    await numberIn(tab.locator("#compare-results .score-value").last()),
  ];
  const verdict = await tab.innerText("#compare-verdict");
  const ahead = Math.abs(a - b) < 0.011 ? /./ : a > b ? /^A is ahead/ : /^B is ahead/;
  assert.match(verdict, ahead);
});

test("a batch: pasted rows, table, histogram, agreement with people, CSV and JSON Lines", async () => {
  await goTo(tab, "batch");
  const rows = manifest.examples.slice(0, 10);
  const people = rows.filter((row) => typeof row.score === "number").length;
  await tab.fill("#batch-rows", rows.map((row) => JSON.stringify(row)).join("\n") + "\nnot json");
  const read = await tab.innerText("#batch-read");
  assert.match(read, /10 rows/);
  assert.match(read, new RegExp(`${people} with people`));
  assert.match(read, /1 cannot be read \(line 11/);
  assert.doesNotMatch(read, /column/);
  await tab.fill("#batch-rows", JSON.stringify({ ...rows[0], judge: null }));
  assert.match(await tab.innerText("#batch-read"), /1 with a column “judge”, which will be replaced/);
  await tab.fill("#batch-rows", rows.map((row) => JSON.stringify(row)).join("\n") + "\nnot json");
  await tab.click("#batch-form .primary");
  await tab.waitForSelector("#batch-table");
  await tab.waitForSelector("#batch-form .stop", { state: "hidden" });
  assert.equal(await tab.locator("#batch-table tbody tr").count(), 10);
  const figures = await tab.innerText("#batch-figures");
  for (const name of ["Pearson", "Spearman", "RMSE"]) assert.match(figures, new RegExp(`${name}\\s+[−\\d.]+`));
  assert.ok((await tab.locator("#batch-result rect.judge").count()) > 0);
  const save = async (name) => {
    const [download] = await Promise.all([tab.waitForEvent("download"), tab.click(`button:text-is("${name}")`)]);
    return readFileSync(await download.path(), "utf8");
  };
  const lines = (await save("Save as JSONL"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    lines.map(({ judge, ...row }) => row),
    rows,
    "every column is kept",
  );
  assert.ok(lines.every(({ judge }) => judge.expected >= 1 && judge.expected <= 5 && judge.error === null));
  assert.equal((await save("Save as CSV")).trim().split("\r\n").length, 11);
});

test("a batch that is stopped keeps what it has", async () => {
  const rows = Array.from({ length: 10 }, () => manifest.examples).flat();
  await tab.fill("#batch-rows", rows.map((row) => JSON.stringify(row)).join("\n"));
  await tab.click("#batch-form .primary");
  await tab.waitForFunction((n) => document.querySelector("#batch-figures")?.innerText.includes(`of ${n}`), rows.length);
  await tab.click("#batch-form .stop");
  await tab.waitForSelector("#batch-form .stop", { state: "hidden" });
  const done = Number(/Rows\s+(\d+) of/.exec(await tab.innerText("#batch-figures"))?.[1]);
  assert.ok(done >= 32 && done < rows.length, `${done}`);
  assert.equal(await tab.locator("[data-failure]").count(), 0);
});

test("it is trained: corrected scores, a live curve, before and after", async () => {
  await goTo(tab, "train");
  const corrections = tab.locator("#train-rows .case-correction input");
  for (let n = 0; n < 3; n += 1) await corrections.nth(n).fill("1");
  assert.match(await tab.innerText("#train-count"), /^3 corrected, \d+ held out/);
  await tab.click(".settings summary");
  for (const [name, value] of Object.entries({ steps: 3, groupSize: 4, batchSize: 3, learningRate: 0.003 }))
    await tab.fill(`#train-${name}`, String(value));
  await tab.click("#train-form .primary");
  await tab.waitForSelector("#train-result polyline.strong[points]", { state: "attached" });
  await tab.waitForSelector("#train-figures", { timeout: 2 * SLOW });
  assert.match(await tab.innerText("#train-figures"), /RMSE\s+[\d.]+ → [\d.]+/);
  assert.match(await tab.innerText("#train-result"), /3 steps in/);
});

test("what it learned is saved as a bundle that the command line reads", async () => {
  const [download] = await Promise.all([tab.waitForEvent("download"), tab.click("#train-save")]);
  assert.match(download.suggestedFilename(), /-trained\.zip$/);
  mkdirSync(saved);
  await download.saveAs(archive);
  const files = await unzip(new Blob([readFileSync(archive)]));
  for (const file of files) writeFileSync(join(saved, file.name), Buffer.from(await file.arrayBuffer()));
  const rows = manifest.examples.slice(0, 3);
  const input = join(scratch, "rows.jsonl");
  writeFileSync(input, rows.map((row) => JSON.stringify(row) + "\n").join(""));
  const judged = execFileSync(JURIST, ["score", "--model", saved, "--input", input], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const native = judged
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).judge.expected);
  await goTo(tab, "batch");
  await tab.fill("#batch-rows", readFileSync(input, "utf8"));
  await tab.click("#batch-form .primary");
  await tab.waitForSelector("#batch-form .stop", { state: "hidden" });
  await tab.waitForFunction(() => document.querySelectorAll("#batch-table tbody tr").length === 3);
  const page = await tab.locator("#batch-table tbody tr td:nth-child(2)").allInnerTexts();
  // Two decimals are shown; a near-tie between two words of a greedy chain may go either way on another adapter.
  const close = native.filter((score, index) => Math.abs(score - Number(page[index])) < 0.01).length;
  assert.ok(close >= 2, `page ${page}, command line ${native}`);
});

test("reset brings the loaded judge back", async () => {
  await goTo(tab, "train");
  await tab.click("#train-reset");
  await tab.waitForSelector("#train-result :text('as it was loaded')");
});

test("a training that is stopped ends after its step and keeps what it learned", async () => {
  await tab.fill("#train-steps", "500");
  await tab.click("#train-form .primary");
  await tab.waitForSelector("#train-result polyline.strong[points]", { state: "attached" });
  await tab.click("#train-form .stop");
  await tab.waitForSelector("#train-figures", { timeout: 2 * SLOW });
  const steps = Number(/(\d+) steps? in/.exec(await tab.innerText("#train-result"))[1]);
  assert.ok(steps >= 1 && steps < 500, `${steps}`);
});

test("a judge is kept in this browser, loaded from there, and deleted", async () => {
  await goTo(tab, "train");
  await tab.click("#train-keep");
  await tab.waitForSelector("#train-result :text('listed under Models')");
  await goTo(tab, "models");
  await tab.waitForFunction(() => document.querySelectorAll("#models-kept li").length === 2);
  await tab.click(`[aria-label="Load ${manifest.name}, trained"]`);
  await tab.waitForFunction((name) => document.querySelector("#current-name").textContent === name, `${manifest.name}, trained`);
  await goTo(tab, "models");
  await tab.waitForFunction(() => document.querySelectorAll("#models-kept li").length === 2);
  await tab.click(`[aria-label="Delete ${manifest.name}, trained"]`);
  await tab.waitForFunction(() => document.querySelectorAll("#models-kept li").length === 1);
});

test("a folder from the disk is opened, and so is an archive that the page saved", async () => {
  await goTo(tab, "models");
  await tab.setInputFiles("#models-folder", join(WEB, "judge"));
  await tab.waitForSelector("#models-offer #load");
  assert.match(await tab.innerText("#models-offer"), /from your disk|kept here/);
  await tab.click("#models-offer #load");
  await tab.waitForSelector("#judge-form:visible");
  await goTo(tab, "models");
  await tab.setInputFiles("#models-files", archive);
  await tab.click("#models-offer #load");
  await tab.waitForSelector("#judge-form:visible");
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
});

test("nothing left the origin, and the console stayed clean", () => {
  const strangers = seen.requests.filter((url) => !url.startsWith(world.server.origin) && !/^(blob|data):/.test(url));
  assert.deepEqual(strangers, []);
  assert.ok(
    seen.requests.some((url) => url.endsWith(".safetensors")),
    "the worker's requests are seen too",
  );
  assert.deepEqual(seen.errors, []);
});

test("a second visit opens the kept judge without a download", async () => {
  world.server.requests.length = 0;
  await tab.reload();
  await tab.waitForSelector("#judge-form:visible");
  assert.deepEqual(
    world.server.requests.filter(({ path }) => /safetensors|tokenizer/.test(path)),
    [],
  );
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
  await context.close();
});

test("after the first visit the page works offline", async () => {
  const { tab, context, seen } = await world.page({ workers: "allow" });
  await tab.waitForSelector("#load");
  await loadJudge(tab);
  await tab.evaluate(() => navigator.serviceWorker.ready);
  await context.setOffline(true);
  await tab.reload();
  await tab.waitForSelector("#judge-form:visible");
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
  assert.deepEqual(
    seen.errors.filter((text) => !/ERR_INTERNET_DISCONNECTED/.test(text)),
    [],
  );
  await context.close();
});

test("another page uses the module: load with progress, score with tokens, stop", async () => {
  world.server.overrides.set("/elsewhere/", (request, response) =>
    response
      .writeHead(200, { "content-type": "text/html" })
      .end("<!doctype html><link rel=icon href=data:,><title>Another page</title>"),
  );
  const { tab, context, seen } = await world.page({ path: "/elsewhere/" });
  const said = await tab.evaluate(async () => {
    const { Judge } = await import("/judge.js");
    const phases = new Set();
    const judge = await Judge.load("/judge/", { keep: false, onProgress: ({ phase }) => phases.add(phase) });
    const row = judge.manifest.examples[0];
    let text = "";
    const result = await judge.score(row, { onToken: (token) => (text += token.text) });
    const stopping = new AbortController();
    const stopped = judge.score(row, { chains: 8, signal: stopping.signal, onToken: () => stopping.abort() }).then(
      () => null,
      (failure) => failure.name,
    );
    const again = async () => (await judge.score(row)).score;
    return {
      phases: [...phases],
      text,
      chain: result.chains[0].text,
      score: result.score,
      stopped: await stopped,
      again: await again(),
      kept: await Judge.models(),
    };
  });
  assert.deepEqual(said.phases, ["download", "compile"]);
  assert.ok(said.text.trim().startsWith(said.chain), `${said.text} and ${said.chain}`);
  assert.equal(said.stopped, "Stopped");
  assert.equal(said.again, said.score);
  assert.deepEqual(said.kept, [], "keep: false leaves nothing behind");
  assert.deepEqual(seen.errors, []);
  await context.close();
});

test("jurist serve serves the page and a bundle, under a strict policy", async (t) => {
  const server = spawn(JURIST, ["serve", "--dir", WEB, "--bundle", saved, "--port", "0"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  t.after(() => server.kill());
  server.stdout.setEncoding("utf8");
  const [line] = await once(server.stdout, "data");
  const origin = line.split("\n")[0].replace(/\/$/, "");
  const { tab, context, seen } = await world.page({ origin, path: "/?judge=bundle/" });
  const answer = await tab.request.get(origin);
  assert.match(answer.headers()["content-security-policy"], /default-src 'none'/);
  await loadJudge(tab);
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
  assert.deepEqual(seen.errors, []);
  await context.close();
});
