// Rows from text and back: JSON Lines (or one JSON array) in, JSON Lines or CSV out.

/** Whether a value is a row: an object of columns. */
export const isRow = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** A row's own column, else undefined. Columns may be called like what every object has: constructor, toString. */
export const columnOf = (row, name) => (Object.hasOwn(row, name) ? row[name] : undefined);

/** A value of a row as people read it: nothing for a missing one, JSON for lists and objects. */
export function cellText(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** {rows, faults: ["line 3: …"]}. Empty lines are skipped; a line that is no JSON object is a fault. */
export function readRows(text) {
  const rows = [];
  const faults = [];
  const take = (value, place) => {
    if (isRow(value)) rows.push(value);
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

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const FORMULA = /^'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^'*[\t\r\n]/;

/**
 * Every column of any row, then the judge's, for spreadsheets: UTF-8 with its mark, texts quoted where CSV needs it. A text that
 * a spreadsheet would run as a formula has an apostrophe before it, and so has one that begins with apostrophes and then would:
 * taking one apostrophe away from such a cell gives the text back. Numbers stay numbers.
 */
export function toCsv(rows) {
  const flat = rows.map(({ judge, ...row }) => ({ ...row, ...Object.fromEntries(Object.entries(judge ?? {}).map(([k, v]) => [`judge_${k}`, v])) }));
  const columns = [...new Set(flat.flatMap((row) => Object.keys(row)))];
  const cell = (value) => {
    const text = cellText(value);
    const safe = FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
    return /[",;\t\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [columns, ...flat.map((row) => columns.map((name) => columnOf(row, name)))];
  return `\ufeff${lines.map((line) => line.map(cell).join(",") + "\r\n").join("")}`;
}

/** A row with what the judge said, in the form of `jurist score`. */
export function judgedRow(row, result, texts) {
  const { score, decoded, distribution, scoreMass, feedback, error } = result;
  const probs = distribution && Object.fromEntries(texts.map((text, i) => [text, distribution[i]]));
  return { ...row, judge: { expected: score, decoded, probs, mass: scoreMass, feedback, error: error ?? null } };
}
