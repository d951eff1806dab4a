// The page without a network. The service worker caches the page's own files at the first visit, and uses them when the network
// does not answer. If it does, the network's files come first, so that page, engine and judge always belong together. The weights
// are in the model cache (lib/model-cache.js).
//
// The files of one build are cached together or not at all, each only with the SHA-256 that engine/files.js states. What a
// captive portal, a proxy or a host's error page answers instead is shown as it comes and is never cached.

importScripts("engine/files.js"); // a new build brings another

/** The list of engine/files.js. @type {{ version: string, files: Record<string, string> }} */
const PAGE = /** @type {any} */ (self).PAGE;
const scope = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));

const PREFIX = "jurist-page";
const CACHE = `${PREFIX}-${PAGE.version}`;
const addressOf = (/** @type {string} */ file) => new URL(file, self.location.href).href;
const HASHES = new Map(Object.entries(PAGE.files).map(([file, hash]) => [addressOf(file), hash]));

scope.addEventListener("install", (event) => event.waitUntil(cacheFiles().then(() => scope.skipWaiting())));
scope.addEventListener("activate", (event) => event.waitUntil(deleteOtherCaches().then(() => scope.clients.claim())));
scope.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  url.search = url.hash = "";
  const address = url.href === addressOf("index.html") ? addressOf("./") : url.href;
  if (event.request.method === "GET" && HASHES.has(address)) event.respondWith(answer(event.request, address));
});

/** Downloads and caches every file of this build, or none. */
async function cacheFiles() {
  try {
    const cache = await caches.open(CACHE);
    await Promise.all(Array.from(HASHES, async ([address, hash]) => cache.put(address, await fetchChecked(address, hash))));
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
}

/** @param {string} address @param {string} hash */
async function fetchChecked(address, hash) {
  const response = await fetch(address, { cache: "no-cache", redirect: "error" });
  if (response.status !== 200 || response.type !== "basic") throw new Error(`${address}: the server answered ${response.status}`);
  const digest = await crypto.subtle.digest("SHA-256", await response.clone().arrayBuffer());
  const found = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== hash) throw new Error(`${address} is not the file of this build`);
  return response;
}

/** Deletes the caches of other builds. */
async function deleteOtherCaches() {
  const names = await caches.keys();
  const others = names.filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(others.map((name) => caches.delete(name)));
}

/** @param {Request} request @param {string} address */
async function answer(request, address) {
  try {
    return await fetch(request);
  } catch (error) {
    const cached = await caches.match(address, { cacheName: CACHE, ignoreVary: true });
    if (cached) return cached;
    throw error;
  }
}
