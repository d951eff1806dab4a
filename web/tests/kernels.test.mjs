// Optional kernels are tried on the visitor's adapter before a judge is loaded. Right ones are used; one that is wrong, or that the
// browser refuses, is left out, and the page names it. Scores are right in each case.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { goTo, loadJudge, open, SLOW, WEB } from "./browser.mjs";

const { examples } = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8"));
const TOLERANCE = 1e-4; // kernels add in different orders
const FOR_CPUS = ["attention_subgroup", "matmul_subgroup"];
const FOR_GPUS = ["attention_tiled", "matmul_staged"];

let world;
before(async () => (world = await open()));
after(() => world?.close());

/** A page whose worker runs `code` first. */
async function pageAfter(t, code) {
  const worker = readFileSync(join(WEB, "worker.js"), "utf8");
  world.server.overrides.set("/worker.js", (_, response) =>
    response.writeHead(200, { "content-type": "text/javascript" }).end(`${worker}\n;${code}`),
  );
  t.after(() => world.server.overrides.delete("/worker.js"));
  const opened = await world.page();
  t.after(() => opened.context.close());
  return opened;
}

/** Code that replaces `from` in the shaders whose label begins with `kernel`. */
const changing = (kernel, from, to) => `{
  const create = GPUDevice.prototype.createShaderModule;
  GPUDevice.prototype.createShaderModule = function (wanted) {
    const changed = wanted.label.startsWith("${kernel}") ? wanted.code.replaceAll("${from}", "${to}") : wanted.code;
    return create.call(this, { ...wanted, code: changed });
  };
}`;
const LIKE_A_GPU = `Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });`;
const WITHOUT_SUBGROUPS = `GPUSupportedFeatures.prototype.has = () => false;`;

/** The kernels of the demo's judge, and its scores of the examples after the chains that plain kernels write. */
async function judged(tab, chained) {
  return tab.evaluate(
    async ({ examples, chained }) => {
      const { Judge } = await import("/judge.js");
      const judge = await Judge.load("/judge/", { keep: false });
      const rows = chained ?? (await judge.scoreBatch(examples)).map(({ feedback }, n) => ({ ...examples[n], chain: feedback }));
      const scores = (await judge.scoreBatch(rows, { givenChains: true })).map((row) => row.score ?? row.error);
      const alone = [];
      for (const row of rows.slice(0, 2)) alone.push((await judge.score(row, { givenChains: [row.chain] })).score);
      return { kernels: judge.kernels, adapter: await Judge.adapter(), rows, scores, alone };
    },
    { examples: examples.slice(0, 6), chained },
  );
}

const apart = (a, b) => Math.max(...a.map((score, n) => Math.abs(score - b[n])));
const names = (kernels, used) =>
  kernels
    .filter((kernel) => kernel.used === used)
    .map(({ name }) => name)
    .sort();

/** What the page shows of the kernels once the judge is open. */
async function shown(tab) {
  await tab.reload();
  await loadJudge(tab);
  await goTo(tab, "models");
  await tab.waitForSelector("#models-adapter dt:text-is('Kernels')");
  return tab.innerText("#models-adapter");
}

/** @type {{ rows: object[], scores: number[] }} */
let plain;

test("an adapter without subgroups that stands in for a GPU runs plain kernels", async (t) => {
  const { tab, seen } = await pageAfter(t, WITHOUT_SUBGROUPS);
  plain = await judged(tab);
  assert.deepEqual(plain.kernels, []);
  assert.match(await shown(tab), /Kernels\s+plain/);
  assert.deepEqual(seen.errors, []);
});

test("kernels with subgroups are tried and used where the browser offers them", async (t) => {
  const { tab, seen } = await pageAfter(t, "");
  const { kernels, adapter, scores, alone } = await judged(tab, plain.rows);
  assert.deepEqual(names(kernels, true), FOR_CPUS);
  assert.deepEqual(adapter.kernels, kernels, "the adapter's facts have them too");
  for (const { name, why } of kernels) assert.match(why, new RegExp(`${name} is in use: .* is off by \\d`));
  assert.ok(apart(scores, plain.scores) < TOLERANCE, `${scores} and not ${plain.scores}`);
  assert.ok(apart(alone, scores) < TOLERANCE);
  assert.match(await shown(tab), /matmul_subgroup, attention_subgroup: compared here with sums in f64/);
  assert.deepEqual(seen.errors, []);
});

test("kernels for GPUs are tried and used where the adapter is one", { timeout: 4 * SLOW }, async (t) => {
  const { tab, seen } = await pageAfter(t, LIKE_A_GPU);
  const { kernels, scores } = await judged(tab, plain.rows);
  assert.deepEqual(names(kernels, true), FOR_GPUS);
  assert.ok(apart(scores, plain.scores) < TOLERANCE, `${scores} and not ${plain.scores}`);
  assert.deepEqual(seen.errors, []);
});

test("a kernel that computes something else is left out, and the page says which", async (t) => {
  const { tab, seen } = await pageAfter(t, changing("matmul_quad", "quadBroadcast(x0, 1u)", "quadBroadcast(x0, 2u)"));
  const { kernels, scores } = await judged(tab, plain.rows);
  assert.deepEqual([names(kernels, false), names(kernels, true)], [["matmul_subgroup"], ["attention_subgroup"]]);
  assert.match(kernels.find(({ used }) => !used).why, /matmul_subgroup is switched off .*: matmul nt .* is off by/);
  assert.ok(apart(scores, plain.scores) < TOLERANCE, `${scores} and not ${plain.scores}`);
  assert.match(await shown(tab), /Left out: matmul_subgroup/);
  assert.deepEqual(seen.errors, []);
});

test("a kernel that the browser refuses is left out, and the others are used on another device", async (t) => {
  const { tab } = await pageAfter(t, changing("attention_subgroup", "fn forward(", "fn forward(("));
  const { kernels, scores } = await judged(tab, plain.rows);
  assert.deepEqual([names(kernels, false), names(kernels, true)], [["attention_subgroup"], ["matmul_subgroup"]]);
  assert.match(
    kernels.find(({ used }) => !used).why,
    /^attention_subgroup is switched off .*: attention_subgroup \(the GPU rejected a command: .*$/,
  );
  assert.ok(apart(scores, plain.scores) < TOLERANCE, `${scores} and not ${plain.scores}`);
  assert.match(await shown(tab), /Left out: attention_subgroup/);
});

test("a kernel that is wrong on the way back alone is left out of training", { timeout: 4 * SLOW }, async (t) => {
  const { tab, seen } = await pageAfter(t, changing("attention_subgroup:backward_kv", "dk0 += ds0 *", "dk0 += p0 *"));
  const found = await tab.evaluate(
    async (examples) => {
      const { Judge } = await import("/judge.js");
      const judge = await Judge.load("/judge/", { keep: false });
      const rows = examples.map((row) => ({ ...row, score: 1 }));
      const { kernels } = await judge.train(rows, { heldOut: rows, steps: 1, groupSize: 2, batchSize: 2 });
      return { loaded: judge.kernels, trained: kernels };
    },
    examples.slice(0, 2),
  );
  assert.deepEqual(names(found.loaded, true), FOR_CPUS);
  assert.deepEqual([names(found.trained, false), names(found.trained, true)], [["attention_subgroup"], ["matmul_subgroup"]]);
  assert.deepEqual(seen.errors, []);
});
