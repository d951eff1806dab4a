// The browser of the tests: a headless Chromium from the PATH, with WebGPU on its software adapter. Every console message,
// exception and request of its pages is recorded.

import { execFileSync } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

import { chromium } from "playwright-core";

import { serve } from "./server.mjs";

const PROGRAMS = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"];
const FLAGS = [
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--disable-dev-shm-usage",
  "--disable-quic",
];
const WITHOUT_WEBGPU = ["--no-sandbox", "--disable-blink-features=WebGPU", "--disable-dev-shm-usage", "--disable-quic"];
const QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];

export const WEB = join(import.meta.dirname, "..");
export const SLOW = 60_000; // ms that a software adapter on a loaded machine may take

/** Lists the page's files again, since they may have been edited. */
export const listFiles = () => execFileSync("bash", [join(WEB, "../scripts/web-files.sh")]);

function program() {
  const places = (process.env.PATH ?? "").split(delimiter).flatMap((folder) => PROGRAMS.map((name) => join(folder, name)));
  const runs = (path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  const found = PROGRAMS.flatMap((name) => places.filter((path) => path.endsWith(`/${name}`))).find(runs);
  if (!found) throw new Error("no Chromium was found on the PATH; scripts/setup.sh browser installs it");
  return found;
}

/** A browser, with WebGPU or without, and a server of the page: {browser, server, page(options), close}. */
export async function open({ webgpu = true } = {}) {
  for (const file of ["engine/jurist.js", "engine/jurist_bg.wasm"]) {
    readFileSync(join(WEB, file)); // `make web` builds them; no test can run without them
  }
  listFiles();
  const server = await serve({ "/": WEB });
  const browser = await chromium.launch({
    executablePath: program(),
    args: [...(webgpu ? FLAGS : WITHOUT_WEBGPU), ...QUIET, "--host-resolver-rules=MAP insecure.test 127.0.0.1"],
  });

  /** A page in a context of its own (nothing kept, no service worker unless asked for). */
  async function page({ origin = server.origin, path = "/", workers = "block", width = 1280, height = 800, ...options } = {}) {
    const context = await browser.newContext({
      viewport: { width, height },
      serviceWorkers: workers,
      reducedMotion: "reduce",
      acceptDownloads: true,
      ...options,
    });
    context.setDefaultTimeout(SLOW);
    const tab = await context.newPage();
    const seen = { errors: [], requests: [] };
    tab.on("console", (message) => {
      const own = /blocked by Playwright/.test(message.text()); // the tests themselves cause these
      if (["error", "warning"].includes(message.type()) && !own) seen.errors.push(`${message.type()}: ${message.text()}`);
    });
    tab.on("pageerror", (error) => seen.errors.push(`exception: ${error.message}`));
    context.on("request", (request) => seen.requests.push(request.url()));
    await tab.goto(origin + path);
    return { tab, context, seen };
  }

  async function close() {
    await browser.close();
    await server.close();
  }
  return { browser, server, page, close };
}

/** Opens the judge that comes with the page. */
export async function loadJudge(tab) {
  await tab.click("#load");
  await tab.waitForSelector("#judge-form:visible");
}

/** Goes to a view by its link, as visitors do. */
export async function goTo(tab, view) {
  await tab.click(`nav a[href="#${view}"]`);
  await tab.waitForSelector(`#view-${view}:visible`);
}

/** The failure that the page shows: {name, text}. */
export async function failureOf(tab) {
  const notice = tab.locator("[data-failure]").first();
  await notice.waitFor();
  return { name: await notice.getAttribute("data-failure"), text: await notice.innerText() };
}

export const numberIn = async (locator) => Number((await locator.innerText()).replace("\u2212", "-"));
