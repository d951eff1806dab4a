// The page of `jurist serve --model`: where the browser has no WebGPU, the server's judge is used, and its scores are those of
// `jurist score`.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { failureOf, goTo, loadJudge, numberIn, open, WEB } from "./browser.mjs";

const JURIST = process.env.JURIST ?? join(WEB, "../target/release/jurist");
const JUDGE = join(WEB, "judge");
const KEY = "a-key-of-the-tests";

const scratch = mkdtempSync(join(tmpdir(), "jurist-served-"));
const { examples } = JSON.parse(readFileSync(join(JUDGE, "manifest.json"), "utf8"));
const rows = examples.slice(0, 12);

let world;
before(async () => (world = await open({ webgpu: false })));
after(async () => {
  rmSync(scratch, { recursive: true });
  await world?.close();
});

/** The objects `judge` that the command line adds to rows. */
function native(name, rows, ...flags) {
  const input = join(scratch, name);
  writeFileSync(input, rows.map((row) => JSON.stringify(row) + "\n").join(""));
  const args = ["score", "--quiet", "--model", JUDGE, "--input", input, ...flags];
  const said = execFileSync(JURIST, args, { encoding: "utf8" });
  return said
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).judge);
}

/** Starts `jurist serve --model` with the page; ready unless told otherwise. Gives its address, and ends it. */
async function serve(t, ...flags) {
  const args = ["serve", "--quiet", "--model", JUDGE, "--dir", WEB, ...flags];
  if (!flags.includes("--port")) args.push("--port", "0");
  const child = spawn(JURIST, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(child.stdout, "data");
  const origin = String(line).trim().split("\n")[0].replace(/\/$/, "");
  const end = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  };
  t.after(end);
  while ((await fetch(`${origin}/health`)).status !== 200) await new Promise((done) => setTimeout(done, 50));
  return { origin, end };
}

async function visit(t, origin) {
  const opened = await world.page({ origin });
  t.after(() => opened.context.close());
  return opened;
}

async function fill(tab, form, row) {
  const fields = tab.locator(`#${form}-fields textarea`);
  assert.equal(await fields.count(), 2);
  await fields.nth(0).fill(row.rubric);
  await fields.nth(1).fill(row.response);
}

/** Score, decoded score and the chance of each score, as the page shows them. */
async function shown(tab) {
  const score = await numberIn(tab.locator("#judge-result .score-value"));
  const shares = await tab.locator("#judge-result .share").allInnerTexts();
  return { score, shares: shares.map((text) => (text.startsWith("<") ? 0 : Number.parseFloat(text) / 100)) };
}

/** The page shows the judgement of the command line, to its two decimals. */
function same({ score, shares }, expected) {
  assert.ok(Math.abs(score - expected.expected) <= 0.005001, `${score} is not ${expected.expected}`);
  Object.values(expected.probs).forEach((p, n) => assert.ok(Math.abs(shares[n] - p) < 0.0011, `${shares[n]} is not ${p}`));
}

test("without WebGPU, the server's judge judges by itself, as the command line does", async (t) => {
  const { origin } = await serve(t);
  const { tab, seen } = await visit(t, origin);
  await tab.waitForSelector("#judge-form:visible");
  assert.equal(await tab.innerText("#current-name"), "judge, on this server");
  assert.match(await tab.innerText("#uses-server"), /judge on this server is used instead: what you judge is sent there/);

  await t.test("one case: score, distribution and chain", async () => {
    await fill(tab, "judge", rows[0]);
    await tab.click("#judge-form .primary");
    await tab.waitForSelector("#judge-result .score");
    const [expected] = native("one.jsonl", [rows[0]]);
    same(await shown(tab), expected);
    assert.equal(await tab.innerText("#judge-result .chain-text"), expected.feedback);
    assert.equal(await tab.locator(".prompt").count(), 0, "a server shows no prompts");
  });

  await t.test("several chains", async () => {
    await tab.fill("#judge-chains", "4");
    await tab.dispatchEvent("#judge-chains", "change"); // sets the temperature to 1
    await tab.fill("#judge-seed", "7");
    await tab.click("#judge-form .primary");
    await tab.waitForSelector("#judge-result .chain >> nth=3");
    same(await shown(tab), native("chains.jsonl", [rows[0]], "--chains", "4", "--temperature", "1", "--seed", "7")[0]);
  });

  await t.test("a pair: two scores", async () => {
    await goTo(tab, "compare");
    await tab.locator("#compare-shared textarea").fill(rows[0].rubric);
    for (const side of [0, 1]) await tab.locator("#compare-responses textarea").nth(side).fill(rows[side].response);
    await tab.click("#compare-form .primary");
    await tab.waitForSelector("#compare-verdict:not(:empty)");
    const pair = [rows[0], { ...rows[0], response: rows[1].response }];
    const scores = tab.locator("#compare-results .score-value");
    for (const [side, { expected }] of native("pair.jsonl", pair).entries()) {
      assert.ok(Math.abs((await numberIn(scores.nth(side))) - expected) <= 0.005001, `side ${side}`);
    }
  });

  await t.test("many rows, one of them faulty: the saved rows are those of jurist score", async () => {
    await goTo(tab, "batch");
    const all = [...rows.slice(0, 3), { response: "good" }, ...rows.slice(3)];
    await tab.fill("#batch-rows", all.map((row) => JSON.stringify(row)).join("\n"));
    await tab.click("#batch-form .primary");
    await tab.waitForSelector("#batch-figures");
    const [download] = await Promise.all([tab.waitForEvent("download"), tab.click("text=Save as JSONL")]);
    const saved = readFileSync(await download.path(), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).judge);
    assert.equal(saved.length, all.length);
    assert.match(saved[3].error, /rubric/);
    const expected = native("batch.jsonl", rows);
    const judged = saved.filter(({ error }) => error === null);
    let worst = 0;
    for (const [n, judge] of judged.entries()) {
      assert.deepEqual([judge.decoded, judge.feedback], [expected[n].decoded, expected[n].feedback], `row ${n}`);
      worst = Math.max(worst, Math.abs(judge.expected - expected[n].expected));
    }
    console.log(`largest difference of an expected score: ${worst.toExponential(1)}`);
    assert.ok(judged.length === rows.length && worst < 1e-6, `${worst}`);
  });

  await t.test("it is not trained here, and Models says where it runs", async () => {
    await goTo(tab, "train");
    assert.match(await tab.innerText("#train-served"), /runs on the server/);
    assert.ok(!(await tab.isVisible("#train-form")));
    await goTo(tab, "models");
    assert.match(await tab.innerText("#models-loaded"), /Runs\s+on this server/);
    assert.ok(!(await tab.isVisible("#models-server")), "it is open already");
  });
  assert.deepEqual(seen.errors, []);
});

test("a key is asked for, and kept until the tab is closed", async (t) => {
  const keys = join(scratch, "keys.txt");
  writeFileSync(keys, `${KEY}\n`);
  const { origin } = await serve(t, "--api-key-file", keys);
  const { tab } = await visit(t, origin);
  const form = tab.locator("#offer-server .server-key");
  await form.waitFor();
  assert.match(await tab.innerText("#offer-server [data-failure=KeyNeeded]"), /No key was sent yet/);
  await form.locator("input").fill("a-wrong-key-of-the-tests");
  await form.locator("button").click();
  await tab.waitForSelector("#offer-server [data-failure=KeyNeeded]:has-text('does not accept this key')");
  await form.locator("input").fill(KEY);
  await form.locator("button").click();
  await tab.waitForSelector("#judge-form:visible");
  await tab.reload();
  await tab.waitForSelector("#judge-form:visible");
  await fill(tab, "judge", rows[1]);
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
});

test("a full queue, a loading server, a server that is gone and comes back", async (t) => {
  const { origin, end } = await serve(t);
  const { tab } = await visit(t, origin);
  await tab.waitForSelector("#judge-form:visible");
  await fill(tab, "judge", rows[0]);
  const press = () => tab.click("#judge-form .primary");
  for (const [status, code, name, says] of [
    [429, "queue_full", "ServerBusy", /queue of the server is full. There may be room in 3 s/],
    [503, "loading", "ServerLoading", /still loading its judge/],
    [503, "ending", "ServerGone", /takes no new requests/],
    [503, null, "ServerFailed", /the GPU was lost/],
    [401, "invalid_api_key", "KeyNeeded", /No key was sent yet/],
  ]) {
    const body = JSON.stringify({ error: { message: "the GPU was lost", code } });
    await tab.route("**/v1/judge", (route) => route.fulfill({ status, headers: { "retry-after": "3" }, body }));
    await press();
    await tab.waitForSelector(`#failures [data-failure=${name}]`);
    assert.match((await failureOf(tab)).text, says);
    await tab.unroute("**/v1/judge");
  }
  await tab.waitForSelector("#failures .server-key");
  await end();
  await press();
  await tab.waitForSelector("#failures [data-failure=ServerGone]");
  assert.match((await failureOf(tab)).text, /does not answer/);
  await serve(t, "--port", new URL(origin).port);
  await press();
  await tab.waitForSelector("#judge-result .score");
  assert.equal(await tab.locator("#failures [data-failure]").count(), 0);
});

test("over an insecure address of a machine nearby, the server's judge judges", async (t) => {
  const { origin } = await serve(t, "--allow-host", "insecure.test");
  const { tab } = await visit(t, `http://insecure.test:${new URL(origin).port}`);
  await tab.waitForSelector("#uses-server");
  await fill(tab, "judge", rows[3]);
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
  same(await shown(tab), native("insecure.jsonl", [rows[3]])[0]);
});

test("with WebGPU, the server's judge is offered beside the page's own", async (t) => {
  const other = await open();
  t.after(() => other.close());
  const { origin } = await serve(t);
  const { tab, context } = await other.page({ origin });
  t.after(() => context.close());
  await loadJudge(tab);
  await goTo(tab, "models");
  await tab.click("#models-server .use-server");
  await tab.waitForSelector("#current-name:has-text('judge, on this server')");
  assert.equal(await tab.locator("#uses-server").count(), 0);
  await fill(tab, "judge", rows[2]);
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
  same(await shown(tab), native("offered.jsonl", [rows[2]])[0]);
  // And back.
  await goTo(tab, "models");
  await tab.click("#models-kept button:text-is('Load')");
  await tab.waitForSelector("#judge-examples select");
  assert.equal(await tab.locator(".prompt").count(), 1);
});

test("the server's bundle is offered first, with what its maker says of it", async (t) => {
  const bundle = join(scratch, "bundle");
  cpSync(JUDGE, bundle, { recursive: true });
  const manifest = join(bundle, "manifest.json");
  const description = "Good for short answers.\n\nNot for <b>essays</b>.";
  const shown = { ...JSON.parse(readFileSync(manifest, "utf8")), name: "answers", description };
  writeFileSync(manifest, JSON.stringify(shown));
  const other = await open();
  t.after(() => other.close());
  const { origin } = await serve(t, "--bundle", bundle);
  const { tab, context, seen } = await other.page({ origin });
  t.after(() => context.close());
  await tab.waitForSelector("#load");
  assert.match(await tab.innerText("#offer"), /answers, .* parameters/);
  assert.deepEqual(await tab.locator("#offer .description p").allInnerTexts(), description.split("\n\n"));
  await loadJudge(tab);
  assert.equal(await tab.innerText("#current-name"), "answers");
  await goTo(tab, "models");
  assert.match(await tab.innerText("#models-loaded"), /Not for <b>essays<\/b>/);
  await tab.goto(`${origin}/`);
  await tab.waitForSelector("#judge-form:visible"); // kept, so opened again
  await tab.goto(`${origin}/?judge=judge/`); // where the link of the offer leads
  await tab.waitForSelector("#load");
  assert.match(await tab.innerText("#offer"), /demo judge/);
  assert.ok(!(await tab.isVisible("#offer-small")));
  assert.deepEqual(seen.errors, []);
});

test("a page without a server's judge is as ever", async (t) => {
  const { tab } = await visit(t, undefined);
  assert.match((await failureOf(tab)).name, /^No(WebGpu|Adapter)$/);
  assert.ok(!(await tab.isVisible("#offer-server")));
  assert.equal(await tab.locator(".use-server").count(), 0);
});
