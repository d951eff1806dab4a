// Gives the judge of the page two columns instead of one. Its prompts are always "rubric … response … judge", so rubric and
// response become columns, and the words around them become its template. The judge reads the same text as before.
//
//   node scripts/web-judge.mjs web/judge

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const TEMPLATE = "rubric {{ rubric }} response {{ response }} judge";

const path = join(process.argv[2], "manifest.json");
const manifest = JSON.parse(readFileSync(path, "utf8"));
if (manifest.judge.template !== "plain")
  throw new Error(
    `${path}: its template is ${manifest.judge.template}; expected plain, as exported`,
  );

const examples = manifest.examples.map(({ id, prompt, score }) => {
  const [, rubric, response] =
    /^rubric (.+?) response (.+) judge$/.exec(prompt) ?? [];
  const again = TEMPLATE.replace("{{ rubric }}", rubric).replace(
    "{{ response }}",
    response,
  );
  if (again !== prompt)
    throw new Error(
      `${path}: example ${id} is not "rubric … response … judge": ${prompt}`,
    );
  return { id, rubric, response, score: Number(score.toFixed(2)) }; // the mean of three people
});
const judge = {
  ...manifest.judge,
  template: "rubric and response",
  template_source: TEMPLATE,
};
writeFileSync(
  path,
  JSON.stringify({ ...manifest, judge, examples }, null, 2) + "\n",
);
