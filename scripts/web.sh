#!/usr/bin/env bash
# Builds the engine of the page: web/engine/jurist.js and web/engine/jurist_bg.wasm. Says how large it is, and lists the page's
# files for offline use in web/engine/files.js.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo rustc --profile web --locked --lib --target wasm32-unknown-unknown --crate-type cdylib
wasm-bindgen --target web --no-typescript --remove-name-section --remove-producers-section \
    --out-dir web/engine target/wasm32-unknown-unknown/web/jurist.wasm
scripts/web-files.sh

wasm=web/engine/jurist_bg.wasm
echo "$wasm: $(wc -c <"$wasm") bytes, $(gzip -9 -c "$wasm" | wc -c) compressed (gzip -9)"
