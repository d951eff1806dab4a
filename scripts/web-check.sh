#!/usr/bin/env bash
# Checks the types of the page's JavaScript, which are in its JSDoc comments, and its format. This needs the engine's types, which
# `make web` writes, and the tools that `scripts/setup.sh page` installs.
set -euo pipefail
cd "$(dirname "$0")/../web"

tools=tests/node_modules/.bin
for project in tsconfig.json tsconfig.worker.json; do
    "$tools/tsc" --project "$project"
done
"$tools/prettier" --check --log-level warn ./*.js ./*.ts {lib,ui}/*.js ui/*.ts tests/*.mjs css/*.css ../scripts/*.mjs
