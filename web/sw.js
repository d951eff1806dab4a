// The page without a network: its own files are kept at the first visit and used when the network does not answer. Online, the
// network comes first, so that page, engine and judge always belong together. Weights are not here: lib/shelf.js keeps them.
//
// Kept are the files of one build, all or none, each with the SHA-256 that engine/files.js states. What a captive portal, a
// proxy or a host's error page says in their place is shown as it comes, and never kept.

importScripts("engine/files.js"); // self.PAGE: {version, files: {address: SHA-256}}; a new build brings a new one

const PREFIX = "jurist-page";
const KEPT = `${PREFIX}-${self.PAGE.version}`;
const addressOf = (file) => new URL(file, self.location.href).href;
const FILES = new Map(Object.entries(self.PAGE.files).map(([file, hash]) => [addressOf(file), hash]));

self.addEventListener("install", (event) => event.waitUntil(fill().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(dropOthers().then(() => self.clients.claim())));
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  url.search = url.hash = "";
  const address = url.href === addressOf("index.html") ? addressOf("./") : url.href;
  if (event.request.method === "GET" && FILES.has(address)) event.respondWith(answer(event.request, address));
});

/** Fetches every file of this build and keeps them, or leaves no trace. */
async function fill() {
  try {
    const cache = await caches.open(KEPT);
    await Promise.all(Array.from(FILES, async ([address, hash]) => cache.put(address, await checked(address, hash))));
  } catch (error) {
    await caches.delete(KEPT);
    throw error;
  }
}

async function checked(address, hash) {
  const response = await fetch(address, { cache: "no-cache", redirect: "error" });
  if (response.status !== 200 || response.type !== "basic") throw new Error(`${address}: the server answered ${response.status}`);
  const digest = await crypto.subtle.digest("SHA-256", await response.clone().arrayBuffer());
  const found = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== hash) throw new Error(`${address} is not the file of this build`);
  return response;
}

/** Drops what earlier builds kept. */
async function dropOthers() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== KEPT).map((name) => caches.delete(name)));
}

async function answer(request, address) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await caches.match(address, { cacheName: KEPT, ignoreVary: true });
    if (kept) return kept;
    throw error;
  }
}
