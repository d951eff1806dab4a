// Which columns of a row a judge reads, by the template in its manifest.

const JUDGE = ["instruction", "response", "reference", "rubric"];
const GIVEN = ["scores", "phrase"]; // the template gets these from the judge itself
const WORDS = new Set(["and", "or", "not", "is", "in", "if", "else", "elif", "endif", "for", "endfor", "set", "true", "false", "none", "loop", "defined"]);

/** Columns in the order in which the visitor fills them: {name, optional}. */
export function columnsOf({ template, template_source: source }) {
  if (!source) {
    if (template !== "judge") return [{ name: "prompt", optional: false }];
    return JUDGE.map((name) => ({ name, optional: name === "reference" || name === "rubric" }));
  }
  const used = new Set();
  const tested = new Set();
  const own = new Set(); // what the template has set itself so far
  for (const [, block, inside] of source.matchAll(/\{([{%])-?(.*?)-?[}%]\}/gs)) {
    // What follows a dot is a part, what follows a bar is a filter, what is quoted is text; a name before "(" is a function, one
    // before "=" an argument.
    const bare = inside.replace(/(["']).*?\1/g, " ").replace(/[.|]\s*\w+/g, " ");
    const [target = ""] = (block === "%" && bare.match(/^\s*(?:for\b.*?\bin\b|set\s+\w+)/)) || [];
    const names = bare.slice(target.length).match(/\b[A-Za-z_]\w*\b(?!\s*\(|\s*=(?!=))/g) ?? [];
    for (const name of names.filter((word) => !WORDS.has(word) && !GIVEN.includes(word) && !own.has(word))) {
      used.add(name);
      if (block === "%") tested.add(name);
    }
    for (const name of target.match(/\w+/g) ?? []) own.add(name);
  }
  const order = (name) => (JUDGE.includes(name) ? JUDGE.indexOf(name) : JUDGE.length);
  const named = [...used].sort((a, b) => order(a) - order(b)).map((name) => ({ name, optional: tested.has(name) }));
  // With a rubric and no instruction, the rubric is what the response is read against: it comes first.
  if (used.has("rubric") && !used.has("instruction")) named.sort((a, b) => (b.name === "rubric") - (a.name === "rubric"));
  return named.length ? named : [{ name: "prompt", optional: false }];
}

/** The column that differs when two answers to one case are compared. */
export const comparedColumn = (columns) => (columns.some(({ name }) => name === "response") ? "response" : columns.at(-1).name);
