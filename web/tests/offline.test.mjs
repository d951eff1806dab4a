// What the service worker caches: all files of one build, and nothing that another server answered instead.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { open, WEB } from "./browser.mjs";

const PORTAL = "<!doctype html><title>Sign in to this network</title>";

let world;
before(async () => (world = await open()));
after(() => world?.close());

/** Answers `paths` with `status`, `headers` and `body` until the test ends, or until the function that it returns is called. */
function answerWith(t, paths, status, headers, body = "") {
  for (const path of paths)
    world.server.overrides.set(path, (request, response) => response.writeHead(status, headers).end(body));
  const stop = () => paths.forEach((path) => world.server.overrides.delete(path));
  t.after(stop);
  return stop;
}

async function visit(t) {
  const opened = await world.page({ workers: "allow" });
  t.after(() => opened.context.close());
  return opened;
}

/** The names of the page's caches, and the files in the one of this build. */
const kept = (tab) =>
  tab.evaluate(async () => {
    const names = (await caches.keys()).filter((name) => name.startsWith("jurist-page")).sort();
    const requests = names.length ? await (await caches.open(names[0])).keys() : [];
    return { names, files: requests.map(({ url }) => url.slice(location.origin.length)) };
  });

/** Waits until the page's service worker is active, or has given up: its last state. */
const workerState = (tab) =>
  tab.evaluate(async () => {
    const registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
    const worker = registration.installing ?? registration.waiting ?? registration.active;
    const ends = ["activated", "redundant"];
    while (!ends.includes(worker.state))
      await new Promise((done) => worker.addEventListener("statechange", done, { once: true }));
    return worker.state;
  });

test("what a captive portal answers is shown once and never cached", async (t) => {
  const { tab, context } = await visit(t);
  assert.equal(await workerState(tab), "activated");
  const before = await kept(tab);
  assert.deepEqual(
    [before.names.length, before.files.includes("/"), before.files.includes("/engine/jurist_bg.wasm")],
    [1, true, true],
  );
  const online = answerWith(
    t,
    ["/", "/app.js", "/sw.js", "/engine/files.js", "/css/page.css"],
    200,
    { "content-type": "text/html" },
    PORTAL,
  );
  await tab.reload();
  assert.equal(await tab.title(), "Sign in to this network");
  online();
  await context.setOffline(true);
  for (const address of ["/", "/index.html", "/?judge=judge/"]) {
    await tab.goto(world.server.origin + address);
    assert.match(await tab.title(), /^jurist/, address);
    await tab.waitForSelector("#offer [data-failure=Unreachable], #offer [data-failure=NoAdapter], #load");
  }
  assert.deepEqual(await kept(tab), before);
});

test("a first visit through a proxy that changes, redirects or refuses a file caches nothing", async (t) => {
  const file = readFileSync(join(WEB, "ui/charts.js"));
  for (const [what, status, headers, body] of [
    ["another text of the right type", 200, { "content-type": "text/javascript" }, `${file}\n// injected`],
    ["a redirect to the right file", 302, { location: "/elsewhere.js" }],
    ["the right file with a status other than 200", 203, { "content-type": "text/javascript" }, file],
    ["an error", 503, { "content-type": "text/html" }, PORTAL],
  ]) {
    await t.test(what, async (t) => {
      // The page itself is not changed, only what the service worker fetches.
      const { tab } = await visit(t);
      await tab.evaluate(async () => {
        for (const registration of await navigator.serviceWorker.getRegistrations()) await registration.unregister();
        for (const name of await caches.keys()) await caches.delete(name);
      });
      answerWith(t, ["/elsewhere.js"], 200, { "content-type": "text/javascript" }, file);
      const right = answerWith(t, ["/ui/charts.js"], status, headers, body);
      await tab.goto(`${world.server.origin}/icon.svg`);
      await tab.goto(`${world.server.origin}/judge/manifest.json`);
      const state = await tab.evaluate(async () => {
        try {
          const { installing } = await navigator.serviceWorker.register("/sw.js");
          while (!["activated", "redundant"].includes(installing.state))
            await new Promise((done) => installing.addEventListener("statechange", done, { once: true }));
          return installing.state;
        } catch (error) {
          return error.name;
        }
      });
      assert.equal(state, "redundant");
      assert.deepEqual((await kept(tab)).names, []);
      right();
    });
  }
});

test("the caches of earlier versions are deleted, and kept judges stay", async (t) => {
  answerWith(
    t,
    ["/elsewhere/"],
    200,
    { "content-type": "text/html" },
    "<!doctype html><link rel=icon href=data:,><title>Another page</title>",
  );
  const opened = await world.page({ workers: "allow", path: "/elsewhere/" });
  t.after(() => opened.context.close());
  await opened.tab.evaluate(async (portal) => {
    for (const name of ["jurist-page", "jurist-page-0123456789abcdef"])
      await (await caches.open(name)).put("/", new Response(portal));
    await (await caches.open("jurist-models")).put("/shelf/a", new Response("weights"));
  }, PORTAL);
  await opened.tab.goto(world.server.origin);
  assert.equal(await workerState(opened.tab), "activated");
  const { names } = await kept(opened.tab);
  assert.ok(
    names.length === 1 && /^jurist-page-[0-9a-f]{16}$/.test(names[0]) && !names[0].endsWith("0123456789abcdef"),
    `${names}`,
  );
  assert.ok(await opened.tab.evaluate(() => caches.has("jurist-models")));
});
