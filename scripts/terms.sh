#!/usr/bin/env bash
# What each of REAL's two terms does on the demo's task: training with one term alone, from the demo's own supervised judge and
# with its settings for REAL, then all judges on the four test sets. Wants finished runs of `jurist demo --seed S`.
#
#   scripts/terms.sh demo 1 2 3 4 5      then    python3 scripts/demo_table.py demo
set -euo pipefail
jurist="${JURIST:-./target/release/jurist}"
demo="$1"
shift
for seed in "$@"; do
    d="$demo/full-seed$seed"
    train() {
        [ -f "$d/$1/model.safetensors" ] && return
        "$jurist" train --quiet --method real --model-name-or-path "$d/sft" --train-file "$d/data/train.jsonl" --output-dir "$d/$1" \
            --phrase score --template plain --chat never --max-completion-length 20 --adam-beta2 0.98 --weight-decay 0.01 \
            --lr-scheduler-type constant --warmup-steps 10 --learning-rate 3e-4 --per-device-train-batch-size 32 \
            --num-generations 8 --max-steps 200 --save-steps 0 --seed "$seed" "${@:2}"
    }
    train term1 --refinement-weight 0
    train term2 --exploration-weight 0
    for judge in sft real term1 term2 reinforce; do
        for set in test ood1 ood2 ood3; do
            "$jurist" eval --quiet --model "$d/$judge" --input "$d/data/$set.jsonl" --temperature 1 --seed "$seed" \
                --batch-size 512 --json >"$d/$judge/eval-$set.json"
        done
    done
done
