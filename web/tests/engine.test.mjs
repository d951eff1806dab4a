// An engine that hangs, traps or dies is ended and replaced, and the open judge is opened again from this browser. The worker's
// file is served with lines added to it that make it fail if a row says "zebra".

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { failureOf, goTo, loadJudge, open, SLOW, WEB } from "./browser.mjs";

const manifest = JSON.parse(readFileSync(join(WEB, "judge/manifest.json"), "utf8"));
const TRAP = 'new WebAssembly.RuntimeError("unreachable")';

let world;
before(async () => (world = await open()));
after(() => world?.close());

function answerWith(t, path, type, body) {
  world.server.overrides.set(path, (request, response) => response.writeHead(200, { "content-type": type }).end(body));
  t.after(() => world.server.overrides.delete(path));
}

/** Serves a file of the page with what `change` makes of its text. */
function changed(t, file, change) {
  answerWith(t, `/${file}`, "text/javascript", change(readFileSync(join(WEB, file), "utf8")));
}

/** A page whose worker runs `code` instead of `call` if a row says zebra. The items of a list run for zebra0, zebra1, … */
async function failing(t, call, code, options) {
  const cases = [code].flat().map((body, n) => `if (text.includes("zebra${Array.isArray(code) ? n : ""}")) { ${body} }`);
  const patched = `(args, ...more) => { const text = JSON.stringify(args); ${cases.join(" ")} return own(args, ...more); }`;
  const patch = `{ const own = CALLS.${call}; CALLS.${call} = ${patched}; }`;
  changed(t, "worker.js", (text) => `${text}\n;${patch}`);
  const opened = await world.page(options);
  t.after(() => opened.context.close());
  return opened.tab;
}

const shortenTimeouts = (t) =>
  changed(t, "judge.js", (text) =>
    text
      .replace(/STOP_TIMEOUT = \d+/, "STOP_TIMEOUT = 1500")
      .replace(/STOPPED_CALL_TIMEOUT = [\d_]+/, "STOPPED_CALL_TIMEOUT = 1500"),
  );

test("an engine that hangs, dies or traps is replaced, and the judge is opened again by itself", async (t) => {
  shortenTimeouts(t);
  const faults = [
    ["never comes to its end", "for (;;);", "EngineEnded", /did not stop within 1.5 seconds/],
    ["is gone without a message", "self.close(); return new Promise(() => {});", "EngineEnded", /did not stop/],
    ["traps", `throw ${TRAP};`, "Internal", /unreachable/],
    [
      "traps in code that nothing awaits",
      `queueMicrotask(() => { throw ${TRAP}; }); return new Promise(() => {});`,
      "Internal",
      /unreachable/,
    ],
    [
      "rejects a promise that nothing awaits",
      `Promise.reject(${TRAP}); return new Promise(() => {});`,
      "Internal",
      /unreachable/,
    ],
    ["runs out of stack", "const deep = () => deep() + 1; deep();", "Internal", /call stack/],
  ];
  const tab = await failing(
    t,
    "score",
    faults.map(([, code]) => code),
  );
  await loadJudge(tab);
  world.server.requests.length = 0;
  const field = tab.locator("#judge-fields textarea").last();
  const good = await field.inputValue();
  for (const [n, [fault, , name, message]] of faults.entries()) {
    await t.test(fault, async () => {
      await field.fill(`${good} zebra${n}`);
      await tab.click("#judge-form .primary");
      if (name === "EngineEnded") {
        await tab.click("#judge-form .stop");
        await tab.waitForSelector("#judge-result :text('Stopped')", { timeout: 1000 });
      }
      const failure = await failureOf(tab);
      assert.equal(failure.name, name, failure.text);
      assert.match(failure.text, message);
      await tab.waitForSelector("#reopening :text('is open again')");
      assert.equal(await field.inputValue(), `${good} zebra${n}`, "what was typed is still there");
      await tab.click("#reopening button:text-is('Close')");
      await field.fill(good);
      await tab.click("#judge-form .primary");
      await tab.waitForSelector("#judge-result .score");
      assert.equal(await tab.locator("[data-failure]").count(), 0);
    });
  }
  assert.deepEqual(
    world.server.requests.filter(({ path }) => path.endsWith(".safetensors")),
    [],
    "nothing is downloaded again",
  );
});

test("a training that does not stop ends the engine, and the page says that its result is lost", async (t) => {
  shortenTimeouts(t);
  const tab = await failing(t, "train", "for (;;);");
  await loadJudge(tab);
  await goTo(tab, "train");
  await tab.click("#train-examples");
  await tab.locator("#train-rows .case-correction input").first().fill("1");
  for (const [name, value] of Object.entries({ steps: 1, groupSize: 2, batchSize: 1 }))
    await tab.locator(`#train-${name}`).evaluate((input, v) => (input.value = v), String(value));
  await tab.click("#train-form .primary");
  await tab.waitForSelector("#train-figures", { timeout: 2 * SLOW });
  await tab.locator("#train-rows details summary").click();
  await tab.fill("#train-paste", JSON.stringify({ ...manifest.examples[0], response: "zebra", score: 2 }));
  await tab.click("button:text-is('Add as corrections')");
  await tab.click("#train-form .primary");
  await tab.click("#train-form .stop");
  assert.equal((await failureOf(tab)).name, "EngineEnded");
  await tab.waitForSelector("#reopening :text('as it was before it was trained here')");
  await tab.waitForSelector("#train-form .primary:enabled");
});

test("loading another judge traps: the one that was open comes back", async (t) => {
  const other = JSON.stringify({ ...manifest, name: "another judge" });
  answerWith(t, "/zebra/manifest.json", "application/json", other);
  const tab = await failing(t, "load", `throw ${TRAP};`);
  await loadJudge(tab);
  await goTo(tab, "models");
  await tab.fill("#models-url", `${world.server.origin}/zebra/`);
  await tab.press("#models-url", "Enter");
  await tab.click("#models-offer #load");
  await tab.waitForSelector("#models-offer [data-failure=Internal]");
  await tab.waitForSelector("#reopening :text('is open again')");
  assert.equal(await tab.innerText("#current-name"), manifest.name);
});

/** Another page that uses the module, with shorter timeouts. */
async function anotherPage(t, code) {
  answerWith(t, "/elsewhere/", "text/html", "<!doctype html><link rel=icon href=data:,><title>Another page</title>");
  shortenTimeouts(t);
  return failing(t, "score", code, { path: "/elsewhere/" });
}

test("other pending calls are rejected, and a judge of the ended engine is gone", async (t) => {
  const tab = await anotherPage(t, `throw ${TRAP};`);
  const found = await tab.evaluate(async () => {
    const { Judge } = await import("/judge.js");
    const ended = [];
    Judge.onEnd((failure) => ended.push(failure.name));
    const judge = await Judge.load("/judge/", { keep: false });
    const row = judge.manifest.examples[0];
    const outcome = (promise) =>
      promise.then(
        () => "done",
        (failure) => failure.name,
      );
    const names = await Promise.all(
      [judge.score({ ...row, response: "zebra" }), judge.score(row), judge.prompt(row)].map(outcome),
    );
    const [gone, after] = [judge.gone, await outcome(judge.score(row))];
    await judge.free();
    const fresh = await Judge.load("/judge/", { keep: false });
    return { ended, names, gone, after, fresh: await outcome(fresh.score(row)), still: await outcome(judge.score(row)) };
  });
  assert.deepEqual(found, {
    ended: ["Internal"],
    names: ["Internal", "EngineEnded", "EngineEnded"],
    gone: true,
    after: "EngineEnded",
    fresh: "done",
    still: "EngineEnded",
  });
});

test("a stopped call that does not end ends its worker, and a queued call that is stopped does not", async (t) => {
  const tab = await anotherPage(
    t,
    `const time = JSON.stringify(args).includes("zebra short") ? 4000 : 600_000;
    return new Promise((done) => setTimeout(done, time, { value: "late" }));`,
  );
  const found = await tab.evaluate(async () => {
    const { Judge } = await import("/judge.js");
    const ended = [];
    Judge.onEnd((failure) => ended.push(failure.message));
    const judge = await Judge.load("/judge/", { keep: false });
    const row = judge.manifest.examples[0];
    const outcome = (promise) =>
      promise.then(
        (value) => (value === "late" ? value : "done"),
        (failure) => failure.name,
      );
    const stopped = (wait, response) => {
      const control = new AbortController();
      const result = outcome(judge.score({ ...row, response }, { signal: control.signal }));
      setTimeout(() => control.abort(), wait);
      return result;
    };
    // The first call takes longer than a stop may. The second is stopped while it is queued.
    const first = outcome(judge.score({ ...row, response: "zebra short" }));
    const queued = [await stopped(100, "good"), await first, await outcome(judge.score(row)), ended.length];
    const stuck = [await stopped(100, "zebra"), await outcome(judge.score(row))];
    return { queued, stuck, ended };
  });
  assert.deepEqual(found.queued, ["Stopped", "late", "done", 0]);
  assert.deepEqual(found.stuck, ["Stopped", "EngineEnded"]);
  assert.match(found.ended.join(), /did not stop within 1.5 seconds/);
});
