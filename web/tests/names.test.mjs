// A template may choose the names of its columns, also names of properties that every form or every object has.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { goTo, loadJudge, open, WEB } from "./browser.mjs";

const manifest = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8"));

let world;
before(async () => (world = await open()));
after(() => world?.close());

/** A page with the small judge, with another template and other examples. */
async function judgeWith(t, template, examples) {
  const judge = { ...manifest.judge, template: "own", template_source: template };
  const text = JSON.stringify({ ...manifest, judge, name: "own template", examples: [] }).replace(
    '"examples":[]',
    `"examples":${examples}`,
  );
  world.server.overrides.set("/named/manifest.json", (request, response) =>
    response.writeHead(200, { "content-type": "application/json" }).end(text),
  );
  for (const { file } of [manifest.tokenizer, ...manifest.shards]) {
    world.server.overrides.set(`/named/${file}`, (request, response) =>
      response.writeHead(200, { "content-type": "application/octet-stream" }).end(readFileSync(join(WEB, "judge", file))),
    );
  }
  const { tab, context, seen } = await world.page({ path: "/?judge=named/" });
  t.after(() => context.close());
  await loadJudge(tab);
  return { tab, seen };
}

for (const [what, names] of [
  [
    "a form",
    [
      "setAttribute",
      "addEventListener",
      "querySelector",
      "requestSubmit",
      "contains",
      "removeAttribute",
      "elements",
      "submit",
      "name",
      "id",
      "response",
    ],
  ],
  ["an object", ["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "toJSON", "then", "response"]],
]) {
  test(`columns with the names of properties that ${what} has`, async (t) => {
    const example = `{${names.map((name, n) => `"${name}":"${n % 2 ? "good" : "clarity"}"`)},"score":3}`;
    const odd = '{"response":{"toString":1},"score":2}'; // not a text, and other columns are missing
    const { tab, seen } = await judgeWith(t, names.map((name) => `{{ ${name} }}`).join(" "), `[${example},${odd}]`);
    const fields = tab.locator("#judge-fields textarea");
    assert.equal(await fields.count(), names.length);
    for (let pass = 0; pass < 2; pass += 1) {
      await tab.click("#judge-form .primary");
      await tab.waitForSelector("#judge-result .score");
      await tab.waitForSelector("#judge-form .primary:enabled");
    }
    await tab.click(".prompt summary");
    await tab.waitForFunction(() => /\d+ tokens/.test(document.querySelector(".prompt .note").textContent));
    const read = (await tab.innerText(".prompt pre")).match(/clarity|good/g);
    assert.equal(read.length, names.length, `every column reaches the prompt: ${read}`);
    await tab.selectOption("#judge-example", "1");
    const values = await fields.evaluateAll((all) => all.map((area) => area.value));
    assert.deepEqual(values.filter(Boolean), ['{"toString":1}'], "a column that is missing is empty");

    await goTo(tab, "compare");
    await tab.click("#compare-form .primary");
    await tab.waitForSelector("#compare-form .primary:enabled");
    await goTo(tab, "batch");
    await tab.click("#batch-examples");
    await tab.fill("#batch-rows", example);
    await tab.click("#batch-form .primary");
    await tab.waitForSelector("#batch-table");
    await tab.waitForSelector("#batch-form .primary:enabled");
    const [download] = await Promise.all([tab.waitForEvent("download"), tab.click('button:text-is("Save as JSONL")')]);
    assert.ok(readFileSync(await download.path(), "utf8").startsWith(`${example.slice(0, -1)},"judge":`));
    await goTo(tab, "train");
    assert.equal(await tab.locator("#train-rows .case-row").count(), 2, "of Judge and Batch, and of Compare");
    assert.ok(!/function|native code/.test(await tab.innerText("#train-rows")));
    assert.deepEqual(seen.errors, []);
  });
}
