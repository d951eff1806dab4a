#!/usr/bin/env bash
# Lists the page's own files with their SHA-256 in web/engine/files.js. web/sw.js caches these files, and no others, for offline
# use.
set -euo pipefail
cd "$(dirname "$0")/../web"
export LC_ALL=C

hash=(sha256sum)
command -v sha256sum >/dev/null || hash=(shasum -a 256)
files=(index.html ./*.js app.webmanifest icon.svg css/*.css engine/jurist.js engine/jurist_bg.wasm lib/*.js ui/*.js)
# The address of the page itself is its folder: some hosts redirect index.html there.
list="$("${hash[@]}" "${files[@]}" | sed -E -e '/ \.\/sw\.js$/d' -e 's/^([0-9a-f]{64}) [ *](\.\/)?(.*)$/    "\3": "\1",/' -e 's/"index\.html"/".\/"/')"
version="$("${hash[@]}" <<<"$list" | cut -c 1-16)"
cat >engine/files.js <<END
// Made by scripts/web-files.sh.
self.PAGE = {
  version: "$version",
  files: {
$list
  },
};
END
