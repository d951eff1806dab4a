#!/usr/bin/env bash
# Fuzzes each target of fuzz/ for so many seconds: scripts/fuzz.sh SECONDS [TARGET]. Stable Rust is enough.
#
# Ends with a table, and with 1 if anything was found. Inputs that break a promise are kept in fuzz/artifacts/TARGET, what
# libFuzzer learned in fuzz/learned/TARGET, the figures in fuzz/artifacts/runs.jsonl.
set -uo pipefail
cd "$(dirname "$0")/.."
seconds="${1:?seconds for each target}"
targets="${2:-$(cd fuzz/fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')}"

# Most seconds and MiB for one input, and its most bytes.
readonly TIMEOUT=10 MEMORY=2048 LENGTH=4096

# What `cargo fuzz build --sanitizer none` passes, which needs no nightly: the compiler counts edges and comparisons, in
# everything that is linked. Named by --target, so that build scripts and macros are left as they are.
host="$(rustc -vV | sed -n 's/^host: //p')"
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="$coverage" cargo build --quiet --release --locked --target "$host" --manifest-path fuzz/Cargo.toml || exit 2

# Targets write small files; memory is the fastest place for them.
[ -w /dev/shm ] && export TMPDIR=/dev/shm
mkdir -p fuzz/artifacts
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
table=()
found=0
for target in $targets; do
    mkdir -p "fuzz/artifacts/$target" "fuzz/learned/$target"
    before="$(ls "fuzz/artifacts/$target" | wc -l)"
    echo "== $target: $seconds s"
    "fuzz/target/$host/release/$target" "fuzz/learned/$target" "fuzz/corpus/$target" -max_total_time="$seconds" \
        -timeout="$TIMEOUT" -rss_limit_mb="$MEMORY" -max_len="$LENGTH" -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" > "$log" 2>&1
    status=$?
    new=$(($(ls "fuzz/artifacts/$target" | wc -l) - before))
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
    runs="$(stat number_of_executed_units)" speed="$(stat average_exec_per_sec)" memory="$(stat peak_rss_mb)"
    edges="$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | grep -oE '[0-9]+')"
    # A target that ends badly and leaves nothing behind is a finding as well.
    [ "$status" -ne 0 ] && [ "$new" -eq 0 ] && new=1
    [ "$status" -ne 0 ] && grep -vE '^(#[0-9]|INFO|stat::)' "$log" | tail -25
    found=$((found + new))
    table+=("$(printf '%s|%s|%s|%s|%s|%s' "$target" "$seconds" "${runs:-?}" "${speed:-?}" "${edges:-?}" "$new")")
    printf '{"target": "%s", "seconds": %s, "executions": %s, "per_second": %s, "edges": %s, "peak_mib": %s, "findings": %s}\n' \
        "$target" "$seconds" "${runs:-null}" "${speed:-null}" "${edges:-null}" "${memory:-null}" "$new" >> fuzz/artifacts/runs.jsonl
done

echo
printf '%s\n' 'target|seconds|executions|exec/s|edges|findings' "${table[@]}" | column -t -s '|'
[ "$found" -eq 0 ] || { echo "$found findings: fuzz/target/$host/release/TARGET fuzz/artifacts/TARGET/FILE runs one again"; exit 1; }
