import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const OpenAI = require("openai").default;

// docs: openai-npm
const client = new OpenAI({ baseURL: process.env.JUDGE_URL, apiKey: "none" });
const answer = await client.chat.completions.create({
  model: "judge",
  messages: [{ role: "user", content: "Score from 1 to 5: is “Have a nice day!” polite?" }],
});
const { expected } = answer.jurist;
// end
if (!(expected >= 1 && expected <= 5)) throw new Error(JSON.stringify(answer));
const { version } = JSON.parse(readFileSync("node_modules/openai/package.json", "utf8"));
console.log(JSON.stringify(["openai (npm)", version, "chat.completions.create", `expected ${expected.toFixed(3)}`]));
