#!/usr/bin/env bash
# Prepares the English rows of results/real-llm/protocol.toml in target/english, with Python's standard library.
#
#   scripts/english-data.sh [SOURCE]
#
# SAF is in the repository (results/real-llm/data). STS-B is read from SOURCE/data/stsb_en.jsonl.gz; SOURCE is $JURIST_SHARED if it
# is not given. WordSim353 and SimLex-999 are in the Python package gensim, fetched with pip (28 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
source="${1:-${JURIST_SHARED:-}}"
if [ ! -f "$source/data/stsb_en.jsonl.gz" ]; then
    echo "english-data: there is no data/stsb_en.jsonl.gz in '${source:-(no folder given)}': name the folder, or leave STS-B out" >&2
    exit 1
fi
python3 -m pip --version >/dev/null 2>&1 || { echo "english-data: python3 with pip is needed to fetch gensim" >&2; exit 1; }
mkdir -p target
folder="$(mktemp -d target/words.XXXXXX)"
trap 'rm -rf "$folder"' EXIT
echo "english-data: fetching gensim 4.4.0 with pip, 28 MB, for the word pairs of its tests" >&2
python3 -m pip download --quiet --no-deps --disable-pip-version-check --only-binary :all: --dest "$folder" gensim==4.4.0 >&2
python3 scripts/english_data.py "$source/data" --words "$folder"/gensim-*.whl
