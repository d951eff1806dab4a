// Every failure that can be provoked, and what the page says about it. Most are provoked inside the worker, whose file is served
// with lines added to it that remove or break something.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { failureOf, goTo, loadJudge, open, WEB } from "./browser.mjs";

const manifest = readFileSync(join(WEB, "judge/manifest.json"), "utf8");
const shard = JSON.parse(manifest).shards[0].file;
const weights = readFileSync(join(WEB, "judge", shard));

let world;
before(async () => (world = await open()));
after(() => world?.close());

/** A page whose worker runs `patch` first. */
async function patched(t, patch, options) {
  const text = readFileSync(join(WEB, "worker.js"), "utf8");
  answerWith(t, "/worker.js", "text/javascript", `${text}\n;${patch}`);
  return page(t, options);
}

async function page(t, options) {
  const opened = await world.page(options);
  t.after(() => opened.context.close());
  return opened.tab;
}

function answerWith(t, path, type, body, status = 200) {
  world.server.overrides.set(path, (request, response) => response.writeHead(status, { "content-type": type }).end(body));
  t.after(() => world.server.overrides.delete(path));
}

/** The page shows this failure with `message`, and advises what to do. */
async function shows(tab, name, message) {
  const failure = await failureOf(tab);
  assert.equal(failure.name, name, failure.text);
  assert.match(failure.text, message);
  assert.ok((await tab.locator("[data-failure] li").count()) > 0, "it advises what to do");
}

async function findJudge(tab, address) {
  await goTo(tab, "models");
  await tab.fill("#models-url", address);
  await tab.press("#models-url", "Enter");
}

test("no WebGPU: the page says so and shows a recorded run", async (t) => {
  const tab = await patched(t, 'Object.defineProperty(navigator, "gpu", { value: undefined });');
  await shows(tab, "NoWebGpu", /offers no WebGPU/);
  assert.match(await tab.innerText(".recorded"), /recorded run/i);
});

test("no adapter", async (t) => {
  const tab = await patched(t, "GPU.prototype.requestAdapter = async () => null;");
  await shows(tab, "NoAdapter", /no GPU/);
});

test("limits too small for 32 rows of a matrix: no download is offered", async (t) => {
  const limited = (bytes) =>
    patched(
      t,
      `for (const name of ["maxStorageBufferBindingSize", "maxBufferSize"]) {
        Object.defineProperty(GPUSupportedLimits.prototype, name, { get: () => ${bytes} });
      }`,
    );
  const tab = await limited(8192);
  await shows(tab, "LimitTooSmall", /limit/i);
  assert.equal(await tab.locator("#load").count(), 0);
  // The largest matrix has 90 KB, which is no obstacle: it is split by rows.
  await (await limited(32768)).waitForSelector("#load");
});

test("an insecure address, a real one", async (t) => {
  const tab = await page(t, { origin: `http://insecure.test:${world.server.port}` });
  await shows(tab, "InsecureContext", /insecure address[^]*https:/);
});

test("the engine is missing", async (t) => {
  answerWith(t, "/engine/jurist.js", "text/html", "<!doctype html>Not found", 404);
  await shows(await page(t), "NoEngine", /engine beside this page/);
});

test("a web page instead of a judge, a broken manifest, an address without a file", async (t) => {
  answerWith(t, "/html/manifest.json", "text/html", "<!doctype html><title>Welcome</title>");
  answerWith(t, "/broken/manifest.json", "application/json", manifest.slice(0, 100));
  answerWith(t, "/other/manifest.json", "application/json", '{"name": "something else"}');
  const tab = await page(t);
  await tab.waitForSelector("#load");
  for (const [address, name, message] of [
    ["html", "NotAModel", /this is a web page/],
    ["broken", "BadBundle", /not JSON/],
    ["other", "NotAModel", /not a judge bundle/],
    ["nowhere", "Unreachable", /404/],
  ]) {
    await findJudge(tab, `${world.server.origin}/${address}/`);
    await tab.waitForSelector(`#models-offer [data-failure=${name}]`);
    await shows(tab, name, message);
  }
});

test("a web page instead of weights", async (t) => {
  answerWith(t, `/judge/${shard}`, "text/html", "<!doctype html><title>Sign in</title>");
  const tab = await page(t);
  await tab.click("#load");
  await shows(tab, "NotAModel", /web page instead of the file/);
});

test("weights that differ from the exported ones are thrown away", async (t) => {
  const changed = Buffer.from(weights);
  changed[changed.length - 1] ^= 1;
  answerWith(t, `/judge/${shard}`, "application/octet-stream", changed);
  const tab = await page(t);
  await tab.click("#load");
  await shows(tab, "HashMismatch", /SHA-256/);
  world.server.overrides.delete(`/judge/${shard}`);
  world.server.requests.length = 0;
  await loadJudge(tab);
  const again = world.server.requests.find(({ path }) => path.endsWith(shard));
  assert.equal(again.range, null, "from the first byte");
});

test("a download that breaks off continues where it stopped", async (t) => {
  const half = Math.floor(weights.length / 2);
  world.server.overrides.set(`/judge/${shard}`, (request, response) => {
    response.writeHead(200, { "content-type": "application/octet-stream", "content-length": weights.length });
    response.write(weights.subarray(0, half), () => setTimeout(() => response.destroy(), 300));
  });
  t.after(() => world.server.overrides.delete(`/judge/${shard}`));
  const tab = await page(t);
  await tab.click("#load");
  await shows(tab, "Unreachable", /broke off after \d+ of \d+ bytes/);
  world.server.overrides.delete(`/judge/${shard}`);
  world.server.requests.length = 0;
  await loadJudge(tab);
  const again = world.server.requests.find(({ path }) => path.endsWith(shard));
  assert.match(again.range ?? "", /^bytes=[1-9]\d*-$/, "only the rest is asked for");
});

test("a download is stopped, and the page is as before", async (t) => {
  world.server.overrides.set(`/judge/${shard}`, (request, response) => {
    response.writeHead(200, { "content-type": "application/octet-stream", "content-length": weights.length });
    response.write(weights.subarray(0, 1000));
  });
  t.after(() => world.server.overrides.delete(`/judge/${shard}`));
  const tab = await page(t);
  await tab.click("#load");
  await tab.click("#offer .stop");
  await tab.waitForSelector("#load:enabled");
  assert.equal(await tab.locator("[data-failure]").count(), 0);
  world.server.overrides.delete(`/judge/${shard}`);
  await loadJudge(tab);
});

test("no space in this browser: the judge works all the same", async (t) => {
  const tab = await patched(
    t,
    'FileSystemSyncAccessHandle.prototype.write = () => { throw new DOMException("full", "QuotaExceededError"); };',
  );
  await loadJudge(tab);
  await shows(tab, "QuotaFull", /works until this page is closed/);
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
});

test("a browser without OPFS keeps judges in its cache", async (t) => {
  const tab = await patched(t, "delete FileSystemFileHandle.prototype.createSyncAccessHandle;");
  await loadJudge(tab);
  await goTo(tab, "models");
  await tab.waitForSelector("#models-kept li");
  world.server.requests.length = 0;
  await tab.reload();
  await tab.waitForSelector("#judge-form:visible");
  assert.deepEqual(
    world.server.requests.filter(({ path }) => path.endsWith(shard)),
    [],
  );
});

const EXPOSE_DEVICE = `
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (wanted) {
    self.device = await request.call(this, wanted);
    return self.device;
  };
`;

test("the device is lost: the page says so, and one press loads the judge again", async (t) => {
  const tab = await patched(t, EXPOSE_DEVICE);
  await loadJudge(tab);
  await tab.workers()[0].evaluate(() => self.device.destroy());
  await tab.click("#judge-form .primary");
  await shows(tab, "DeviceLost", /GPU/);
  await tab.click("[data-failure] button:text-is('Load the judge again')");
  await loadJudge(tab);
  await tab.click("#judge-form .primary");
  await tab.waitForSelector("#judge-result .score");
});

const FILL_MEMORY = `
  const make = GPUDevice.prototype.createBuffer;
  GPUDevice.prototype.createBuffer = function (wanted) {
    const error = new GPUOutOfMemoryError("full");
    if (self.full) this.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error, cancelable: true }));
    return make.call(this, wanted);
  };
`;

test("the GPU runs out of memory", async (t) => {
  const tab = await patched(t, FILL_MEMORY);
  await tab.waitForSelector("#load");
  await tab.workers()[0].evaluate(() => (self.full = true));
  await tab.click("#load");
  await shows(tab, "OutOfMemory", /memory/);
});

test("a case that cannot be judged says what is missing", async (t) => {
  const tab = await page(t);
  await tab.waitForSelector("#load");
  await loadJudge(tab);
  for (const field of await tab.locator("#judge-fields textarea").all()) await field.fill("");
  await tab.click("#judge-form .primary");
  await shows(tab, "BadRow", /row|prompt|column/i);
});
