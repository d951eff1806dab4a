// How many judgements a second `jurist serve` gives, beside llama.cpp's server with the same model, for 1, 8 and 32 clients.
//
//   scripts/llama-cpp.sh fetch vulkan
//   node scripts/serve-peer.mjs MODEL.gguf [CHAIN_TOKENS=24] [JUDGEMENTS_PER_CLIENT=2]
//
// A judgement: the model reads a prompt, writes a chain of thought of so many tokens (the likeliest ones), and the probabilities of
// the scores after "So the overall score is " are read. `jurist serve` does that in one request. llama.cpp's server takes two: the
// chain, and one token more with its probabilities; its cache keeps what the two share. Every prompt is another one, and all begin
// with the same instructions. The chains of the two are compared, so that nobody is faster by doing something else.
import { spawn } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const [model, tokens = "24", each = "2"] = process.argv.slice(2);
if (!model) {
  console.error(
    "usage: node scripts/serve-peer.mjs MODEL.gguf [CHAIN_TOKENS] [JUDGEMENTS_PER_CLIENT]",
  );
  process.exit(2);
}
const CLIENTS = [1, 8, 32];
const PHRASE = "So the overall score is ";
const program = process.env.JURIST ?? "target/release/jurist";
const llama = join(dirname(fileURLToPath(import.meta.url)), "llama-cpp.sh");
const length = Number(tokens);

// Requests of different politeness, as a judge might get them.
const things =
  "close the door,send me the file,help me with this,wait a moment,turn the music down,call me back".split(
    ",",
  );
const forms = [
  "{}, you fool!",
  "{}. Now.",
  "You should {}.",
  "Can you {}?",
  "Could you please {}?",
  "Would you be so kind as to {}? Thank you.",
];
const prompt = (n) => {
  const text = forms[n % forms.length].replace(
    "{}",
    things[Math.floor(n / forms.length) % things.length],
  );
  return `You are a fair judge of how people speak to each other. Read the request below, say briefly what is polite or rude about it, and then rate it from 0 (insulting) to 5 (very polite).\n\nRequest number ${n}: "${text}"\n\nReason:`;
};

async function post(address, path, body) {
  const answer = await fetch(address + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

// Each gives the chain and the expected score of prompt n.
async function askJurist(address, n) {
  const { judge } = await post(address, "v1/judge", {
    row: { prompt: prompt(n) },
  });
  return { chain: judge.feedback, expected: judge.expected };
}

async function askLlama(address, n) {
  const text = prompt(n);
  const settings = { temperature: 0, cache_prompt: true, ignore_eos: true };
  const { content: chain } = await post(address, "completion", {
    prompt: text,
    n_predict: length,
    ...settings,
  });
  const stem = chain.trimEnd() + "\n" + PHRASE.trimEnd();
  const answer = await post(address, "completion", {
    prompt: text + stem,
    n_predict: 1,
    n_probs: 50,
    ...settings,
  });
  let [mass, sum] = [0, 0];
  for (const { token, logprob } of answer.completion_probabilities[0]
    .top_logprobs) {
    if (!/^ ?[0-5]$/.test(token)) continue;
    mass += Math.exp(logprob);
    sum += Number(token) * Math.exp(logprob);
  }
  return { chain, expected: mass > 0 ? sum / mass : null };
}

// Starts a server and waits until it is ready.
async function start(name, command, args, env = {}) {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    detached: true,
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (text) => (said = (said + text).slice(-3000)));
  const end = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {} // it has ended
  };
  process.on("exit", end);
  for (const signal of ["SIGINT", "SIGTERM"])
    process.on(signal, () => process.exit(130));
  const port = args[args.indexOf("--port") + 1];
  const address = `http://127.0.0.1:${port}/`;
  while (
    !(await fetch(`${address}health`).then(
      ({ status }) => status === 200,
      () => false,
    ))
  ) {
    if (child.exitCode !== null)
      throw new Error(`${name} did not start:\n${said}`);
    await new Promise((done) => setTimeout(done, 100));
  }
  return { address, end };
}

// All judgements by so many clients, each with one at a time.
async function load(ask, address, clients, first) {
  const all = new Array(clients * Number(each));
  let next = 0;
  const begun = performance.now();
  const client = async () => {
    while (next < all.length) {
      const n = next++;
      all[n] = await ask(address, first + n);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { all, rate: all.length / ((performance.now() - begun) / 1000) };
}

const file = resolve(model);
const most = String(Math.max(...CLIENTS));
const context = String(384 * Number(most));
const common = ["-m", file, "-c", context, "-np", most, "--host", "127.0.0.1"];
const servers = [
  {
    name: "jurist",
    ask: askJurist,
    command: program,
    args: [
      ...["serve", "--model", file, "--port", "18101", "-q"],
      ...["--template", "plain", "--chat", "never", "--scale", "0..5"],
      ...["--phrase", PHRASE, "--max-completion-length", tokens],
    ],
  },
  {
    name: "llama.cpp, Vulkan",
    ask: askLlama,
    command: llama,
    args: ["best", "llama-server", ...common, "--port", "18102", "-ngl", "99"],
    env: { GGML_VK_VISIBLE_DEVICES: "0" },
  },
  {
    name: "llama.cpp, CPU",
    ask: askLlama,
    command: llama,
    args: ["best", "llama-server", ...common, "--port", "18103", "-ngl", "0"],
  },
];

const rates = new Map();
let reference = [];
for (const { name, ask, command, args, env } of servers) {
  const server = await start(name, command, args, env);
  await load(ask, server.address, 1, 10_000); // kernels are compiled, memory is there
  const row = [];
  const judged = [];
  for (const clients of CLIENTS) {
    const { all, rate } = await load(
      ask,
      server.address,
      clients,
      100 * clients,
    );
    row.push(rate);
    judged.push(...all);
  }
  server.end();
  rates.set(name, row);
  if (reference.length === 0) reference = judged;
  const same = judged.filter(
    ({ chain }, n) => chain.trim() === reference[n].chain.trim(),
  ).length;
  const shown = CLIENTS.map(
    (clients, k) => `${clients}: ${row[k].toFixed(2)}/s`,
  ).join("  ");
  console.log(
    `${name.padEnd(18)} ${shown}  ${same} of ${judged.length} chains as jurist's`,
  );
}
const ours = rates.get("jurist");
for (const [name, row] of rates) {
  if (name === "jurist") continue;
  const ratios = row.map(
    (rate, k) => `${CLIENTS[k]}: ${(ours[k] / rate).toFixed(2)}`,
  );
  console.log(`jurist over ${name}: ${ratios.join("  ")}`);
}
