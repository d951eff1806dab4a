#!/usr/bin/env bash
# Ranks over OpenMPI on this machine.
#
#   scripts/mpi.sh test    builds jurist with MPI and runs tests/mpi; the last line counts them, and says what was skipped and why
#   scripts/mpi.sh cost    what 2 ranks of one thread cost against 1 process of two threads, and what the sum of gradients takes.
#                          Needs a quiet machine of two cores, ten minutes and Mesa's lavapipe. ROUNDS=2 STEPS=8 ROWS=128
set -euo pipefail
cd "$(dirname "$0")/.."
export INSTA_UPDATE=no NODEVICE_SELECT=1

FLAGS=(--allow-run-as-root --oversubscribe --bind-to none --mca mpi_yield_when_idle 1)

say() { echo "mpi: $*" >&2; }

build() { cargo build --quiet --release --locked --features mpi "$@"; }

test_ranks() {
    local skipped status=0
    build
    scripts/setup.sh driver target/release/jurist
    cargo clippy --quiet --release --locked --features mpi --all-targets -- -D warnings
    skipped="$(mktemp)"
    cargo test --release --locked --features mpi --lib ranks:: || status=1
    SKIPPED_TESTS="$skipped" cargo test --release --locked --features mpi --test mpi || status=1
    [ -s "$skipped" ] && { echo "skipped:"; sort "$skipped" | sed 's/^/  /'; }
    rm -f "$skipped"
    exit $status
}

# Rows with chains from random words: their content does not matter, only their lengths.
rows() {
    awk -v rows="$1" 'BEGIN {
        srand(5)
        for (r = 0; r < rows; r++) {
            prompt = chain = ""
            for (w = 0; w < 60; w++) prompt = prompt " w" int(rand() * 400)
            for (w = 0; w < 24; w++) chain = chain " w" int(rand() * 400)
            printf "{\"prompt\": \"%s\", \"chain\": \"%s\", \"score\": %d}\n", substr(prompt, 2), substr(chain, 2), 1 + int(rand() * 5)
        }
    }'
}

# The median of the numbers on standard input.
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }

# one COMMAND…: a process of two threads; two COMMAND…: two ranks of one.
one() { LP_NUM_THREADS=2 "$@"; }
two() { LP_NUM_THREADS=1 mpirun "${FLAGS[@]}" -n 2 "$@"; }

cost() {
    local rounds="${ROUNDS:-2}" steps="${STEPS:-8}" rows="${ROWS:-128}" jurist="${JURIST:-target/release/jurist}" dir how what round
    if [ -z "${JURIST:-}" ]; then build; fi
    dir="$(mktemp -d)"
    # shellcheck disable=SC2064
    trap "rm -rf '$dir'" EXIT
    rows 200 >"$dir/train.jsonl"
    rows "$rows" >"$dir/few.jsonl"
    rows $((2 * rows)) >"$dir/many.jsonl"
    cat >"$dir/config.json" <<'C'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 279, "hidden_size": 192, "intermediate_size": 512,
 "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "hidden_act": "silu",
 "max_position_embeddings": 512, "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "attention_bias": false, "mlp_bias": false,
 "tie_word_embeddings": true, "torch_dtype": "float32"}
C
    local sft=("$jurist" train --quiet --adapter llvmpipe --init "$dir/config.json" --vocab-size 279 --train-file "$dir/train.jsonl"
        --per-device-train-batch-size 4 --gradient-accumulation-steps 4 --max-steps "$steps" --save-steps 0 --logging-steps 1)
    local real=("$jurist" train --quiet --adapter llvmpipe --method real --model "$dir/sft-one-1" --train-file "$dir/train.jsonl"
        --per-device-train-batch-size 2 --gradient-accumulation-steps 4 --num-generations 4 --max-completion-length 32
        --max-steps "$steps" --save-steps 0 --logging-steps 1)
    say "training steps ($rounds times, $steps steps each, with one process and two ranks in turn)"
    for what in sft real; do
        for round in $(seq "$rounds"); do
            for how in one two; do
                local -n command=$what
                $how "${command[@]}" --output-dir "$dir/$what-$how-$round"
                # The first two steps compile pipelines and touch fresh memory.
                sed 1,2d "$dir/$what-$how-$round/metrics.jsonl" | sed -nE 's/.*"step_time": ?([0-9.eE+-]+).*/\1/p' >>"$dir/$what-$how"
            done
        done
    done
    cmp "$dir/sft-one-1/model.safetensors" "$dir/sft-two-1/model.safetensors" || say "the two have other weights: that is a bug"
    cmp "$dir/real-one-1/model.safetensors" "$dir/real-two-1/model.safetensors" || say "the two have other weights: that is a bug"
    say "scoring: $rows rows, as the difference between $((2 * rows)) and $rows"
    local began ended
    for what in plain chains; do
        local score=("$jurist" score --quiet --adapter llvmpipe --model "$dir/sft-one-1" --batch-size 4)
        [ "$what" = chains ] && score+=(--max-completion-length 32) || score+=(--max-completion-length 0)
        for round in $(seq "$rounds"); do
            for how in one two; do
                for input in few many; do
                    began=$(date +%s.%N)
                    $how "${score[@]}" --input "$dir/$input.jsonl" --output "$dir/$what-$how-$input.jsonl"
                    ended=$(date +%s.%N)
                    echo "$began $ended" | awk '{ print $2 - $1 }' >"$dir/time-$input"
                done
                paste "$dir/time-few" "$dir/time-many" | awk '{ print $2 - $1 }' >>"$dir/score-$what-$how"
            done
        done
        cmp "$dir/$what-one-many.jsonl" "$dir/$what-two-many.jsonl" || say "the two have other scores: that is a bug"
    done
    echo
    echo "| work | 1 process of 2 threads | 2 ranks of 1 thread | efficiency |"
    echo "|---|---|---|---|"
    while IFS=: read -r name file; do
        awk -v name="$name" -v a="$(median <"$dir/$file-one")" -v b="$(median <"$dir/$file-two")" \
            'BEGIN { printf "| %s | %.3f s | %.3f s | %.2f |\n", name, a, b, a / b }'
    done <<T
training step, SFT (16 rows):sft
training step, REAL (8 prompts, 4 chains of 32 tokens):real
$rows rows scored, without a chain:score-plain
$rows rows scored, with a chain of 32 tokens:score-chains
T
    echo
    echo "| gradient of SmolLM2-135M | ranks | bytes | sum, least | sum, median |"
    echo "|---|---|---|---|---|"
    local program
    program="${GRADIENT_SUM:-$(cargo bench --quiet --locked --features mpi --bench gradient_sum --no-run --message-format json |
        sed -nE 's/.*"executable":"([^"]+gradient_sum[^"]*)".*/\1/p' | tail -n 1)}"
    JURIST_ADAPTER=llvmpipe LP_NUM_THREADS=1 mpirun "${FLAGS[@]}" -n 1 "$program"
    JURIST_ADAPTER=llvmpipe LP_NUM_THREADS=1 mpirun "${FLAGS[@]}" -n 2 "$program"
}

case "${1:-}" in
    test) test_ranks ;;
    cost) cost ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
