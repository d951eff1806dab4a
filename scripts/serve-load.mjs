// How many rows a second `jurist serve` judges for many clients at once, over `jurist score` on the same rows in the same run.
// Usage: node scripts/serve-load.mjs JUDGE ROWS.jsonl [REQUESTS=2000] [CLIENTS=64] [flags of serve and score …]
// Each request is one row, as a client of a tool sends it. Every answer is compared with what `score` wrote for that row.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [judge, file, requests = "2000", clients = "64", ...flags] =
  process.argv.slice(2);
if (!file) {
  console.error(
    "usage: node scripts/serve-load.mjs JUDGE ROWS.jsonl [REQUESTS] [CLIENTS] [flags of serve and score …]",
  );
  process.exit(2);
}
const ROUNDS = 9;
const program = process.env.JURIST ?? "target/release/jurist";
const dir = mkdtempSync(join(tmpdir(), "jurist-load-"));
const own = readFileSync(file, "utf8").split("\n").filter(Boolean);
const rows = Array.from(
  { length: Number(requests) },
  (_, n) => own[n % own.length],
);

let server;

function fail(message) {
  console.error(message);
  server?.kill();
  rmSync(dir, { recursive: true });
  process.exit(1);
}
process.on("unhandledRejection", (error) => fail(error.message));
process.on("uncaughtException", (error) => fail(error.message));

// Seconds of `score` on rows, and what it wrote.
function score(rows, name) {
  const [input, output] = [
    join(dir, `${name}.jsonl`),
    join(dir, `${name}.out.jsonl`),
  ];
  writeFileSync(input, rows.join("\n") + "\n");
  const start = performance.now();
  const args = [
    "score",
    "--model",
    judge,
    "--input",
    input,
    "--output",
    output,
    "-q",
    ...flags,
  ];
  const timed = 'TIMEFORMAT="cpu %U %S"; time "$0" "$@"';
  const run = spawnSync("bash", ["-c", timed, program, ...args], {
    encoding: "utf8",
  });
  if (run.status !== 0) fail(run.stderr);
  const judged = readFileSync(output, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line).judge);
  const cpu = run.stderr.match(/cpu ([\d.]+) ([\d.]+)/);
  return {
    seconds: (performance.now() - start) / 1000,
    cpu: Number(cpu[1]) + Number(cpu[2]),
    judged,
  };
}

function ask(agent, address, row) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      `${address}v1/judge`,
      { method: "POST", agent },
      (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("error", reject);
        answer.on("end", () => {
          const text = Buffer.concat(parts).toString();
          answer.statusCode === 200
            ? resolve(JSON.parse(text))
            : reject(new Error(`${answer.statusCode}: ${text}`));
        });
      },
    );
    request.on("error", reject);
    request.end(row);
  });
}

// All rows, by so many clients, each with one request at a time.
async function load(address, rows, clients) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: clients });
  const [judged, times, ids] = [new Array(rows.length), [], new Set()];
  let next = 0;
  const start = performance.now();
  const client = async () => {
    while (next < rows.length) {
      const n = next++;
      const asked = performance.now();
      const answer = await ask(agent, address, rows[n]);
      times.push(performance.now() - asked);
      ids.add(answer.id);
      judged[n] = answer.judge;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - start) / 1000;
  agent.destroy();
  times.sort((a, b) => a - b);
  const at = (p) =>
    times[Math.min(times.length - 1, Math.floor(p * times.length))];
  return { judged, seconds, p50: at(0.5), p95: at(0.95), ids: ids.size };
}

// How many judgements are those of `score`, and how far the others are from it.
function compare(found, expected) {
  let [wrong, gap] = [0, 0];
  found.forEach((judge, n) => {
    const same =
      judge.feedback === expected[n].feedback &&
      judge.decoded === expected[n].decoded;
    if (!same) wrong += 1;
    else gap = Math.max(gap, Math.abs(judge.expected - expected[n].expected));
  });
  return { wrong, gap };
}

server = spawn(
  program,
  ["serve", "--model", judge, "--port", "0", "-q", ...flags],
  { stdio: ["ignore", "pipe", "inherit"] },
);
const address = await new Promise((resolve) =>
  server.stdout.once("data", (line) => resolve(String(line).trim())),
);
const status = async () =>
  fetch(`${address}health`).then(
    (answer) => answer.status,
    () => 0,
  );
while ((await status()) !== 200) {
  if (server.exitCode !== null) fail("the server has ended");
  await new Promise((resolve) => setTimeout(resolve, 50));
}
const ticks = () => {
  const fields = readFileSync(`/proc/${server.pid}/stat`, "utf8")
    .split(") ")[1]
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
};
const median = (values) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const line = (name, rate, rest) =>
  console.log(
    `${name.padEnd(22)} ${rate.toFixed(1).padStart(8)} rows/s  ${rest}`,
  );
const times = ({ p50, p95 }) =>
  `p50 ${p50.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms`;

// The same work before the clock starts: kernels are compiled, caches made.
await load(address, rows.slice(0, 64), Number(clients));
const few = rows.slice(0, Math.min(rows.length, 200));
let [ratios, gains, bad] = [[], [], 0];
// In turns, because other programs use the machine too.
for (let round = 0; round < ROUNDS; round++) {
  const before = ticks();
  const together = await load(address, rows, Number(clients));
  const cpu = ticks() - before;
  const single = await load(address, few, 1);
  // Starting and loading are not counted: the time of many rows less that of one.
  const [whole, one] = [score(rows, "all"), score(rows.slice(0, 1), "one")];
  const scoring = (rows.length - 1) / (whole.seconds - one.seconds);
  const serving = rows.length / together.seconds;
  const alone = few.length / single.seconds;
  ratios.push(serving / scoring);
  gains.push(serving / alone);
  line("score", scoring, `${(whole.cpu - one.cpu).toFixed(1)} s of CPU`);
  line(
    `serve, ${clients} clients`,
    serving,
    `${times(together)}; ${cpu.toFixed(1)} s of CPU; ${(serving / scoring).toFixed(2)} of score`,
  );
  line(
    "serve, one at a time",
    alone,
    `${times(single)}; ${clients} clients gain ${(serving / alone).toFixed(1)}`,
  );
  const { wrong, gap } = compare(together.judged, whole.judged);
  const single_wrong = compare(
    single.judged,
    whole.judged.slice(0, few.length),
  ).wrong;
  console.log(
    `${rows.length} asked, ${together.ids} ids; ${wrong} and ${single_wrong} differ from score, the others by at most ${gap.toExponential(1)}`,
  );
  bad += wrong + single_wrong + rows.length - together.ids;
}
const memory = readFileSync(`/proc/${server.pid}/status`, "utf8").match(
  /VmHWM:\s+(\d+)/,
)?.[1];
server.kill("SIGTERM");
await new Promise((resolve) => server.once("exit", resolve));
console.log(
  `median: ${median(ratios).toFixed(2)} of score, ${median(gains).toFixed(1)} times one at a time; at most ${(memory / 1024).toFixed(0)} MiB`,
);
rmSync(dir, { recursive: true });
process.exitCode = bad === 0 ? 0 : 1;
