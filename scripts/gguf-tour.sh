#!/usr/bin/env bash
# A judge from a GGUF file and back: SmolLM2 as people have it, LoRA on it, scores, merged, written as GGUF and as a page's bundle,
# and each GGUF asked by llama.cpp, too. Everything is in target/gguf-tour.
# `make llama-cpp` runs it, and its output is docs/gguf-tour.md.
set -euo pipefail
cd "$(dirname "$0")/.."
model="$(scripts/fetch-model.sh smollm2)"
scripts/llama-cpp.sh fetch >&2
jurist=target/release/jurist
out=target/gguf-tour
rm -rf "$out"
mkdir -p "$out"

# Runs a command, and prints it and what it says.
show() {
    echo
    local words
    printf -v words ' %q' "${@//target\/release\//}"
    echo "    \$$words"
    "$@" 2> >(tee "$out/log" >&2) | sed 's/^/    /'
}
section() { printf '\n## %s\n' "$1"; }

# Rows of our own: how polite a request is, from 0 to 5.
node > "$out/rows.jsonl" <<'END'
const things = ["close the door", "send me the file", "help me with this", "wait a moment", "turn the music down", "call me back"];
const forms = [
  [0, (t) => `${t.toUpperCase()}, you fool!`],
  [1, (t) => `${t}. Now.`],
  [2, (t) => `You should ${t}.`],
  [3, (t) => `Can you ${t}?`],
  [4, (t) => `Could you please ${t}?`],
  [5, (t) => `I am sorry to bother you, but would you be so kind as to ${t}? Thank you very much.`],
];
for (const thing of things)
  for (const [score, form] of forms)
    console.log(JSON.stringify({ prompt: `Rate from 0 to 5 how polite this is: "${form(thing)}"`, score }));
END
head -n 30 "$out/rows.jsonl" > "$out/train.jsonl"
tail -n 6 "$out/rows.jsonl" > "$out/test.jsonl"

echo "# A judge from a GGUF file and back"
echo
echo "Written by \`scripts/gguf-tour.sh\` (\`make llama-cpp\`). The model is SmolLM2-135M-Instruct in Q4_1 and Q8_0, as a Python package"
echo "brings it; the rows are made by the script: 30 to train, 6 to score. llama.cpp is that of Debian's newest suite."

section "As it is"
phrase="So the overall score is "
judging=(--scale 0..5 --phrase "$phrase" --template plain)
show $jurist score --model "$model" --input "$out/test.jsonl" --output "$out/base.jsonl" "${judging[@]}"
show node scripts/llama-cpp.mjs "$model" "$out/base.jsonl" "$phrase"
echo
echo "llama.cpp rounds what enters a product with Q4_1 or Q8_0 to 8 bits; jurist computes with the decoded weights."

section "LoRA on it"
show $jurist train --method raft --model-name-or-path "$model" --train-file "$out/train.jsonl" --output-dir "$out/judge" \
    --lora-r 8 --max-steps 12 --learning-rate 0.001 "${judging[@]}"
show $jurist score --model "$out/judge" --input "$out/test.jsonl" --output "$out/judge.jsonl"

section "Merged, as Hugging Face"
show $jurist merge "$out/judge" --out "$out/merged"
show $jurist score --model "$out/merged" --input "$out/test.jsonl" --output "$out/merged.jsonl"

section "Written as GGUF, and asked by both"
for weights in f16 bf16 q8 q4_1 q4_0; do
    show $jurist export "$out/judge" --format gguf --weights $weights --out "$out/judge-$weights.gguf"
    show $jurist score --model "$out/judge-$weights.gguf" --input "$out/test.jsonl" --output "$out/$weights.jsonl"
    most=(); [ $weights = f16 ] && most=(0.002)
    show node scripts/llama-cpp.mjs "$out/judge-$weights.gguf" "$out/$weights.jsonl" "$phrase" "${most[@]}"
done
echo
echo "The same judge in Q8_0 by llama.cpp's own hand, from the file in F16:"
show scripts/llama-cpp.sh run llama-quantize "$out/judge-f16.gguf" "$out/own-q8.gguf" q8_0 >/dev/null
show node scripts/llama-cpp.mjs "$out/own-q8.gguf" "$out/q8.jsonl" "$phrase"

section "A bundle for the page, from the GGUF"
show $jurist export "$out/judge-q8.gguf" --weights q8 --out "$out/bundle"
show $jurist score --model "$out/bundle" --input "$out/test.jsonl" --output "$out/bundle.jsonl"

section "The expected scores of the test rows"
echo
node - "$out" judge merged f16 bf16 q8 q4_1 q4_0 bundle <<'END'
const { readFileSync } = require("node:fs");
const [out, ...names] = process.argv.slice(2);
const read = (name) => readFileSync(`${out}/${name}.jsonl`, "utf8").trim().split("\n").map(JSON.parse);
const all = names.map(read);
console.log(`| label | ${names.join(" | ")} |\n|${"---|".repeat(names.length + 1)}`);
all[0].forEach((row, k) => console.log(`| ${row.score} | ${all.map((rows) => rows[k].judge.expected.toFixed(4)).join(" | ")} |`));
END
