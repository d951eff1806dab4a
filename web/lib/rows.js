// Rows from text and back: JSON Lines or one JSON array in, JSON Lines or CSV out.
//
// The page reads rows itself, although the engine can: it shows on every key press how many rows there are and which lines are
// faulty, also while the engine works, and it saves rows with all their columns. JSON.parse does the reading. The command line
// writes no CSV.

/** @import { BatchScore, Calibrated, Column, Row, RowError, RowScore } from "../types.js" */

/**
 * What the judge said about a row, as in the rows of `jurist score`. Without an error all figures are there.
 * @typedef {{
 *   expected?: number, decoded?: number, probs?: Record<string, number>, mass?: number, feedback?: string | null,
 *   calibrated?: Calibrated, error: string | null,
 * }} Judgement
 */
/** @typedef {Row & { judge: Judgement }} JudgedRow */

/**
 * Whether a value is a row: an object of columns.
 * @param {unknown} value
 * @returns {value is Row}
 */
export const isRow = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * A row's own column, or undefined. Columns may have names that every object has, such as constructor and toString.
 * @param {Row} row
 * @param {string} name
 */
export const columnOf = (row, name) => (Object.hasOwn(row, name) ? row[name] : undefined);

/**
 * A value of a row as people read it: nothing for a missing one, JSON for lists and objects.
 * @param {unknown} value
 */
export function cellText(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/**
 * The column that differs when two responses to one case are compared.
 * @param {Column[]} columns
 */
export const comparedColumn = (columns) =>
  columns.some(({ name }) => name === "response") ? "response" : columns[columns.length - 1].name;

/**
 * The rows of a text, and its faults, such as "line 3: …". Empty lines are skipped. A line that is not a JSON object is a fault.
 * @param {string} text
 * @returns {{ rows: Row[], faults: string[] }}
 */
export function readRows(text) {
  /** @type {Row[]} */
  const rows = [];
  /** @type {string[]} */
  const faults = [];
  const add = (/** @type {unknown} */ value, /** @type {string} */ where) => {
    if (isRow(value)) rows.push(value);
    else faults.push(`${where}: expected an object like {"response": "…"}`);
  };
  if (text.trimStart().startsWith("[")) {
    try {
      /** @type {unknown[]} */
      const items = JSON.parse(text);
      items.forEach((value, index) => add(value, `item ${index + 1}`));
    } catch (error) {
      faults.push(`the list is not JSON: ${error.message}`);
    }
    return { rows, faults };
  }
  text
    .replace(/^\ufeff/, "")
    .split(/\r?\n/)
    .forEach((line, index) => {
      if (!line.trim()) return;
      try {
        add(JSON.parse(line), `line ${index + 1}`);
      } catch (error) {
        faults.push(`line ${index + 1}: ${error.message}`);
      }
    });
  return { rows, faults };
}

/** @param {Row[]} rows */
export const toJsonLines = (rows) => rows.map((row) => JSON.stringify(row) + "\n").join("");

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const FORMULA = /^'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^'*[\t\r\n]/;

/**
 * CSV for spreadsheets: every column of any row, then the judge's; UTF-8 with a byte order mark; quotes where CSV needs them.
 *
 * A text that a spreadsheet would run as a formula gets an apostrophe in front. So does a text that would be a formula without
 * the apostrophes it begins with. Removing one apostrophe from such a cell therefore restores the text. Numbers stay numbers.
 * @param {Row[]} rows
 */
export function toCsv(rows) {
  const flat = rows.map(({ judge, ...row }) => {
    const figures = Object.entries(judge ?? {}).map(([name, value]) => [`judge_${name}`, value]);
    return { ...row, ...Object.fromEntries(figures) };
  });
  const columns = [...new Set(flat.flatMap((row) => Object.keys(row)))];
  const cell = (/** @type {unknown} */ value) => {
    const text = cellText(value);
    const safe = FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
    return /[",;\t\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [columns, ...flat.map((row) => columns.map((name) => columnOf(row, name)))];
  return `\ufeff${lines.map((line) => line.map(cell).join(",") + "\r\n").join("")}`;
}

/**
 * A row with what the judge said, in the form of `jurist score`.
 * @param {Row} row
 * @param {BatchScore} result
 * @param {string[]} texts the scale's
 * @returns {JudgedRow}
 */
export function judgedRow(row, result, texts) {
  const found = /** @type {Partial<RowScore> | (Partial<RowScore> & RowError)} */ (result);
  const { score, decoded, distribution, scoreMass, feedback, calibrated, error } = found;
  const probs = distribution && Object.fromEntries(texts.map((text, index) => [text, distribution[index]]));
  const judge = { expected: score, decoded, probs, mass: scoreMass, feedback, error: error ?? null };
  return { ...row, judge: calibrated ? { ...judge, calibrated } : judge };
}
