#!/usr/bin/env bash
# Builds the engine of the page, web/engine/jurist.js and web/engine/jurist_bg.wasm, and its types. Prints its size, and lists the
# page's files for offline use in web/engine/files.js.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo rustc --profile web --locked --lib --target wasm32-unknown-unknown --crate-type cdylib
target/bindgen/release/bindgen target/wasm32-unknown-unknown/web/jurist.wasm web/engine
scripts/web-files.sh

wasm=web/engine/jurist_bg.wasm
echo "$wasm: $(wc -c <"$wasm") bytes, $(gzip -9 -c "$wasm" | wc -c) compressed (gzip -9)"
