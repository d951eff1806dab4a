// A static file server for the tests, which can also make it misbehave.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/**
 * Serves `folders` ({"/": path, "/big/": path}, longest prefix first). Gives {origin, port, requests, overrides, close}:
 * `requests` is a log of {path, range}; `overrides` maps a path to a function (request, response) that answers instead.
 */
export async function serve(folders, port = 0) {
  const requests = [];
  const overrides = new Map();
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    requests.push({ path, range: request.headers.range ?? null });
    if (overrides.has(path)) {
      overrides.get(path)(request, response);
      return;
    }
    const prefix = prefixes.find((p) => path.startsWith(p));
    const file = join(folders[prefix], path.slice(prefix.length), path.endsWith("/") ? "index.html" : "");
    const size = await stat(file).then(
      (s) => (s.isFile() ? s.size : null),
      () => null,
    );
    if (size === null) {
      response.writeHead(404, { "content-type": "text/html" }).end("<!doctype html><title>Not found</title>");
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const head = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-length": size - from };
    if (from > 0) head["content-range"] = `bytes ${from}-${size - 1}/${size}`;
    response.writeHead(from > 0 ? 206 : 200, head);
    createReadStream(file, { start: from }).pipe(response);
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  const close = () => new Promise((closed) => server.close(closed).closeAllConnections());
  return { origin: `http://127.0.0.1:${server.address().port}`, port: server.address().port, requests, overrides, close };
}

if (process.argv[1] === import.meta.filename) {
  const [root, ...over] = process.argv.slice(2);
  const folders = Object.fromEntries(over.map((pair) => pair.split("=")));
  console.log((await serve({ "/": root, ...folders }, Number(process.env.PORT ?? 8000))).origin);
}
