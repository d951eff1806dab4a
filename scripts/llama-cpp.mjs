// Asks llama.cpp what jurist was asked, and compares the two.
//
//   node scripts/llama-cpp.mjs MODEL.gguf SCORED.jsonl PHRASE [MOST]
//
// SCORED.jsonl is what `jurist score` wrote, of rows with a `prompt` and a judge whose template is plain. For each row the text of
// the prompt comes from llama.cpp's own rendering of the chat template, chain and phrase follow, and the probabilities of the
// scores as next token are compared. Ends with 1 if one of them differs by more than MOST.

import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [model, scored, phrase, most = Infinity] = process.argv.slice(2);
const port = 18080;
const script = join(dirname(fileURLToPath(import.meta.url)), "llama-cpp.sh");

const rows = readFileSync(scored, "utf8").trim().split("\n").map(JSON.parse);
const server = spawn(
  script,
  [
    "run",
    "llama-server",
    "-m",
    model,
    "--port",
    String(port),
    "-c",
    "2048",
    "-np",
    "1",
  ],
  {
    stdio: ["ignore", "ignore", "pipe"],
  },
);
let log = "";
server.stderr.on("data", (text) => (log = (log + text).slice(-4000)));
let ended = false;
server.on("exit", () => (ended = true));

const post = async (path, body) => {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  if (!answer.ok)
    throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
};
const ready = async () => {
  for (;;) {
    if (ended) throw new Error(`llama.cpp did not load ${model}:\n${log}`);
    const answer = await fetch(`http://127.0.0.1:${port}/health`).catch(
      () => undefined,
    );
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};
const tokens = async (content) =>
  (await post("/tokenize", { content, parse_special: true })).tokens;

/** The probabilities of the score tokens behind a text, and their expected score. */
const judge = async (text, labels) => {
  const before = (await tokens(text)).length;
  const ids = await Promise.all(
    labels.map(async (label) => (await tokens(text + label))[before]),
  );
  const body = {
    prompt: text,
    n_predict: 1,
    n_probs: 4000,
    temperature: 0,
    cache_prompt: false,
  };
  const { completion_probabilities: drawn } = await post("/completion", body);
  const found = new Map(
    drawn[0].top_logprobs.map(({ id, logprob }) => [id, Math.exp(logprob)]),
  );
  return ids.map((id) => found.get(id) ?? 0);
};

try {
  await ready();
  let worst = 0;
  let shift = 0;
  for (const row of rows) {
    const { prompt, judge: own } = row;
    const rendered = await post("/apply-template", {
      messages: [{ role: "user", content: prompt }],
    });
    const text = rendered.prompt + (own.feedback ?? "") + phrase;
    const labels = Object.keys(own.probs);
    const theirs = await judge(text, labels);
    const mass = theirs.reduce((sum, p) => sum + p, 0);
    const expected =
      theirs.reduce((sum, p, k) => sum + p * Number(labels[k]), 0) / mass;
    worst = Math.max(
      worst,
      ...labels.map((label, k) =>
        Math.abs(own.probs[label] * own.mass - theirs[k]),
      ),
    );
    shift = Math.max(shift, Math.abs(expected - own.expected));
  }
  const [probabilities, expected] = [worst, shift].map((x) =>
    x.toExponential(1),
  );
  console.log(
    `${rows.length} rows: probabilities of the scores within ${probabilities}, expected scores within ${expected}`,
  );
  if (worst > Number(most)) process.exitCode = 1;
} finally {
  server.kill();
}
