#!/usr/bin/env bash
# What a machine with a GPU should run once, in under 8 minutes: are the kernels right there, how fast are they, and does a real
# run take the memory that its plan says. Every step has a time limit, and a step that fails does not stop the others.
#
#   scripts/gpu.sh [FOLDER]          figures go to FOLDER (default target/gpu); JURIST_ADAPTER chooses the GPU
#
# It wants target/release/jurist (or $JURIST) and nothing else. With python3 and PyTorch for the GPU, PyTorch's times stand beside
# ours, and nvidia-smi (or amdgpu's files in /sys) tells the memory used. QUICK=1 is for trying the script on a software adapter:
# a model of two layers, few samples, and ten times the time.
set -uo pipefail
cd "$(dirname "$0")/.."
jurist="${JURIST:-target/release/jurist}"
out="${1:-target/gpu}"
[ -x "$jurist" ] || { echo "gpu.sh: no program $jurist; run make build first, or set JURIST" >&2; exit 2; }
mkdir -p "$out" && work="$(mktemp -d)" || exit 2
trap 'rm -r "$work"' EXIT

failed=()

# step NAME SECONDS COMMAND…: output to OUT/NAME.txt.
step() {
    local name="$1" limit="$2" begin=$SECONDS status
    shift 2
    printf '%-22s ' "$name"
    timeout -k 5 $((limit * patience)) "$@" >"$out/$name.txt" 2>"$out/$name.err"
    status=$?
    if [ "$status" -eq 0 ]; then
        echo "ok, $((SECONDS - begin)) s"
    else
        echo "FAILED with code $status after $((SECONDS - begin)) s; see $out/$name.err"
        failed+=("$name")
    fi
}

# Sizes of Qwen3-0.6B for `bench` and PyTorch, and samples.
shape=(--hidden 1024 --layers 28 --heads 16 --kv-heads 8 --head-dim 128 --ffn 3072 --vocab 151936)
layers=28 samples=() growing=512 patience=1
if [ "${QUICK:-}" = 1 ]; then
    shape=(--hidden 256 --layers 2 --heads 4 --kv-heads 2 --head-dim 64 --ffn 512 --vocab 4096)
    layers=2 samples=(--repeat 1) growing=64 patience=10
fi

# 1. Are the kernels right? Against the reference in f64, then whole models against PyTorch's values.
step adapters 20 "$jurist" doctor --list
step doctor 90 "$jurist" doctor
for golden in tests/fixtures/golden/*/; do
    step "golden-$(basename "$golden")" 20 "$jurist" doctor --against "$golden"
done

# 2. How fast? PyTorch first, on the same card, so that ratios come from one run.
torch() { python3 -c 'import torch, transformers; raise SystemExit(not torch.cuda.is_available())' 2>/dev/null; }
baseline=() baseline_qwen=()
if torch; then
    step pytorch 60 python3 benches/peers/pytorch/bench.py --device cuda "${samples[@]}"
    step pytorch-qwen3 60 python3 benches/peers/pytorch/bench.py --device cuda --only step,decode --repeat 3 "${shape[@]}" --batch 2 --tokens 512
    [ -s "$out/pytorch.txt" ] && baseline=(--baseline "$out/pytorch.txt")
    [ -s "$out/pytorch-qwen3.txt" ] && baseline_qwen=(--baseline "$out/pytorch-qwen3.txt")
else
    echo "pytorch                not here: no ratios"
fi
quick=()
[ ${#samples[@]} -gt 0 ] && quick=(--quick)
step bench 90 "$jurist" bench "${quick[@]}" "${baseline[@]}"
step bench-qwen3 90 "$jurist" bench --quick --only ceilings,step,decode "${shape[@]}" --batch 2 --tokens 512 "${baseline_qwen[@]}"
step profile 60 "$jurist" bench --quick --only step,decode --profile "${shape[@]}" --batch 2 --tokens "$growing"

# 3. A run of that shape, and its memory: a start from random weights, then REAL with LoRA, beside the plan.
cat >"$work/config.json" <<C
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": $layers,
 "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 512,
 "max_position_embeddings": 4096, "rope_theta": 1000000, "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "hidden_act": "silu",
 "attention_bias": false, "initializer_range": 0.02, "torch_dtype": "bfloat16"}
C
echo 'rubric {{ rubric }} response {{ response }} judge' >"$work/prompt.jinja"
rows=(--train-file docs/owner.jsonl --skip-bad --template "$work/prompt.jinja" --phrase score --max-length 512)
real=(--method real --model-name-or-path "$work/start" --lora-r 16 --learning-rate 1e-4 --per-device-train-batch-size 4
    --num-generations 4 --max-completion-length "$growing" --max-steps 3 --save-steps 0 "${rows[@]}" --output-dir "$work/real")

memory_used() { # MiB on the card
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -n 1
    else
        local files=(/sys/class/drm/card*/device/mem_info_vram_used)
        [ -e "${files[0]}" ] && echo $(($(cat "${files[0]}") >> 20))
    fi
}
watch_memory() {
    local most=0 now
    while sleep 0.2; do
        now="$(memory_used)"
        [ "${now:-0}" -gt "$most" ] && most="$now" && echo "$most" >"$work/peak"
    done
}

step start 60 "$jurist" train --init "$work/config.json" --vocab-size 512 --method sft --max-steps 1 --save-steps 0 --save-dtype bfloat16 \
    --per-device-train-batch-size 1 "${rows[@]}" --output-dir "$work/start"
step plan 30 "$jurist" train --dry-run "${real[@]}"
before="$(memory_used)"
watch_memory &
watcher=$!
step real 90 "$jurist" train "${real[@]}"
kill "$watcher" 2>/dev/null
if [ -s "$work/peak" ]; then
    echo "memory                 $(($(cat "$work/peak") - ${before:-0})) MiB at most on the card, beside the plan in $out/plan.txt"
else
    echo "memory                 not measured: no nvidia-smi, and no amdgpu"
fi

echo "$SECONDS s in all; figures in $out"
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
