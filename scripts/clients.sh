#!/usr/bin/env bash
# Installs evaluation tools into target/clients, serves a judge, and has each tool ask it: its own code parses the answer.
# Prints a table: client, version, call, answer. With CLIENT=NAME, one of openai deepeval openevals inspect prometheus npm promptfoo.
set -uo pipefail
cd "$(dirname "$0")/.."
root="$PWD"
dir="$root/target/clients"
only="${CLIENT:-openai deepeval openevals inspect prometheus npm promptfoo}"
jurist="${JURIST:-target/release/jurist}"
python="$dir/python/bin/python"
[ -x "$jurist" ] || { echo "clients: $jurist is missing; run make build" >&2; exit 1; }

# A small model that reads English. It has never been trained to judge: what is shown is that answers arrive and are parsed.
model="${MODEL:-$(scripts/fetch-model.sh smollm2)}" || exit 1
mkdir -p "$dir/node"
if [ ! -e "$dir/python/installed" ]; then
    echo "clients: installing with pip into target/clients/python" >&2
    python3 -m venv "$dir/python" && "$python" -m pip install --quiet --disable-pip-version-check \
        openai deepeval openevals langchain-openai inspect_ai && touch "$dir/python/installed" || exit 1
fi
# It wants other versions than the others.
if [ ! -e "$dir/prometheus/installed" ]; then
    python3 -m venv "$dir/prometheus" && "$dir/prometheus/bin/python" -m pip install --quiet --disable-pip-version-check \
        prometheus-eval && touch "$dir/prometheus/installed" || exit 1
fi
if [ ! -e "$dir/node/installed" ]; then
    echo "clients: installing with npm into target/clients/node" >&2
    (cd "$dir/node" && npm init --yes && npm install --no-audit --no-fund openai promptfoo) >/dev/null && touch "$dir/node/installed" || exit 1
fi

log="$(mktemp)" table="$(mktemp)"
"$jurist" serve --model "$model" --name small --port 0 --max-completion-length 32 --quiet >"$log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -f "$log" "$table"' EXIT
for _ in $(seq 600); do
    address="$(head -n 1 "$log")"
    [ -n "$address" ] && node -e "fetch('${address}health').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))" && break
    kill -0 "$server" 2>/dev/null || { echo "clients: the server has ended" >&2; exit 1; }
    sleep 0.2
done
export JUDGE_URL="${address}v1" OPENAI_API_KEY=none PROMPTFOO_DISABLE_TELEMETRY=1 PROMPTFOO_DISABLE_UPDATE=1 NO_COLOR=1
export PROMPTFOO_CONFIG_DIR="$dir/promptfoo" LANGSMITH_TRACING=false

failed=0
ask() {
    local name="$1"
    shift
    if ! timeout "${SECONDS_EACH:-600}" "$@" >"$dir/$name.out" 2>"$dir/$name.err"; then
        echo "clients: $name failed:" >&2
        tail -n 20 "$dir/$name.err" | cut -c 1-300 >&2
        failed=$((failed + 1))
    fi
    grep '^\[' "$dir/$name.out" >>"$table"
}
promptfoo() {
    cd "$dir/node" || return
    # Exit code 100: an assertion failed, which is an answer as well.
    node_modules/.bin/promptfoo eval -c "$root/scripts/clients/promptfoo.yaml" --no-cache --no-write -o "$dir/promptfoo.json" >&2
    node -e '
        const { results } = JSON.parse(require("fs").readFileSync(process.argv[1]));
        const { version } = JSON.parse(require("fs").readFileSync("node_modules/promptfoo/package.json"));
        const [one] = results.results[0].gradingResult.componentResults;
        if (typeof one.score !== "number" || !one.reason) throw new Error(JSON.stringify(one));
        console.log(JSON.stringify(["promptfoo", version, "llm-rubric", `score ${one.score.toFixed(3)}, pass ${one.pass}`]));
    ' "$dir/promptfoo.json"
}
export -f promptfoo
export dir root
for client in $only; do
    case "$client" in
        npm) cd "$dir/node" && ask npm node "$root/scripts/clients/openai.mjs"; cd "$root" || exit ;;
        prometheus) ask prometheus "$dir/prometheus/bin/python" scripts/clients/prometheus_client.py ;;
        promptfoo) ask promptfoo bash -c promptfoo ;;
        *) ask "$client" "$python" "scripts/clients/${client}_client.py" ;;
    esac
done
node -e '
    const rows = require("fs").readFileSync(process.argv[1], "utf8").trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));
    console.log(["client", "version", "call", "answer"].join("|"));
    rows.forEach((row) => console.log(row.join("|")));
' "$table" | column -t -s '|'
[ "$failed" -eq 0 ] || { echo "$failed clients failed" >&2; exit 1; }
