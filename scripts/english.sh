#!/usr/bin/env bash
# `make english`: a judge of short English answers from SmolLM2-135M-Instruct, by SFT and then REAL with LoRA, into english/.
# What was finished is kept: after an interruption the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

jurist=target/release/jurist
protocol=results/real-llm/english.toml
data=results/real-llm/data
out=english
judge="$out/work/saf/real/seed-1"

say() { echo "english: $*" >&2; }

scripts/setup.sh pip
scripts/fetch-model.sh smollm2 >/dev/null
compare=("$jurist" compare --config "$protocol" --results "$out" --work "$out/work")
say "what is left to do, with the time it takes on two cores without a GPU and with Mesa 26.2 (half as long again on Debian 12's;"
say "on a GPU it was not measured). Ctrl-C stops it, and make english goes on"
"${compare[@]}" --estimate >&2
"${compare[@]}"

for cell in sft real; do
    if cmp -s "$out/cells/saf/$cell/seed-1.json" "results/real-llm/cells/saf/$cell/seed-1.json"; then
        say "$cell: the figures published in results/real-llm, byte for byte"
    else
        say "$cell: not quite the figures published in results/real-llm; another GPU or driver rounds otherwise"
    fi
done

# Writes a bundle or a GGUF file of the judge, unless it is there and newer than the judge.
name="short English answers"
export_as() {
    local to="$1" file="$2"
    shift 2
    if [ "$file" -nt "$judge/adapter_model.safetensors" ]; then return; fi
    say "writing $to"
    "$jurist" export "$judge" --out "$to" --name "$name" --description "$(cat results/real-llm/english.txt)" "$@" >&2
}
rows=(--examples "$data/saf-unseen-answers.jsonl.gz")
export_as "$out/q8" "$out/q8/manifest.json" --weights q8 "${rows[@]}"
export_as "$out/q4" "$out/q4/manifest.json" --weights q4 "${rows[@]}" --calibrate "$data/saf-train.jsonl.gz"
export_as "$out/judge.gguf" "$out/judge.gguf" --format gguf --weights q8

say "done:"
cat <<END
report   $out/index.html
judge    $judge
bundles  $out/q8, $out/q4 (make serve offers the first)
GGUF     $out/judge.gguf
END
