// The page without a network: its own files are kept at the first visit and used when the network does not answer. Online, the
// network comes first, so that page, engine and judge always belong together. Weights are not here: lib/shelf.js keeps them.

const KEPT = "jurist-page";
const FILES = [
  "./",
  "app.js",
  "app.webmanifest",
  "icon.svg",
  "judge.js",
  "style.css",
  "worker.js",
  "engine/jurist.js",
  "engine/jurist_bg.wasm",
  "judge/manifest.json",
  "lib/failure.js",
  "lib/manifest.js",
  "lib/rows.js",
  "lib/sha256.js",
  "lib/shelf.js",
  "lib/source.js",
  "lib/stats.js",
  "lib/store.js",
  "lib/template.js",
  "lib/zip.js",
  "ui/batch.js",
  "ui/charts.js",
  "ui/compare.js",
  "ui/dom.js",
  "ui/failures.js",
  "ui/fields.js",
  "ui/judge.js",
  "ui/models.js",
  "ui/opinion.js",
  "ui/recorded.js",
  "ui/train.js",
  "ui/work.js",
];
const OWN = new Set(FILES.map((file) => new URL(file, self.location.href).href));

self.addEventListener("install", (event) => {
  const fill = async () => (await caches.open(KEPT)).addAll(FILES);
  event.waitUntil(fill().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  url.search = url.hash = "";
  if (event.request.method === "GET" && OWN.has(url.href)) event.respondWith(answer(event.request, url.href));
});

async function answer(request, address) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(address, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(address);
    if (kept) return kept;
    throw error;
  }
}
