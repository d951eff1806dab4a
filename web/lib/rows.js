// Rows from text and back: JSON Lines (or one JSON array) in, JSON Lines or CSV out.

/** {rows, faults: ["line 3: …"]}. Empty lines are skipped; a line that is no JSON object is a fault. */
export function readRows(text) {
  const rows = [];
  const faults = [];
  const take = (value, place) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) rows.push(value);
    else faults.push(`${place}: expected an object like {"response": "…"}`);
  };
  if (text.trimStart().startsWith("[")) {
    try {
      JSON.parse(text).forEach((value, index) => take(value, `item ${index + 1}`));
    } catch (error) {
      faults.push(`the list is no JSON: ${error.message}`);
    }
    return { rows, faults };
  }
  text.replace(/^\ufeff/, "").split(/\r?\n/).forEach((line, index) => {
    if (!line.trim()) return;
    try {
      take(JSON.parse(line), `line ${index + 1}`);
    } catch (error) {
      faults.push(`line ${index + 1}: ${error.message}`);
    }
  });
  return { rows, faults };
}

export const toJsonLines = (rows) => rows.map((row) => JSON.stringify(row) + "\n").join("");

/** Every column of any row, then the judge's; texts are quoted where CSV needs it. */
export function toCsv(rows) {
  const flat = rows.map(({ judge, ...row }) => ({ ...row, ...Object.fromEntries(Object.entries(judge ?? {}).map(([k, v]) => [`judge_${k}`, v])) }));
  const columns = [...new Set(flat.flatMap((row) => Object.keys(row)))];
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...flat.map((row) => columns.map((name) => row[name]))].map((line) => line.map(cell).join(",") + "\r\n").join("");
}

/** A row with what the judge said, in the form of `jurist score`. */
export function judgedRow(row, result, texts) {
  const { score, decoded, distribution, scoreMass, feedback, error } = result;
  const probs = distribution && Object.fromEntries(texts.map((text, i) => [text, distribution[i]]));
  return { ...row, judge: { expected: score, decoded, probs, mass: scoreMass, feedback, error: error ?? null } };
}
