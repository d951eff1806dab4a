// Elements, numbers as text, and the voice for screen readers.

import { cellText } from "../lib/rows.js";

/** An element: h("button", {class: "quiet", onclick}, "Text"). Properties with "-" and role, for, class become attributes. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element. */
export function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") || (name in element && !(element instanceof SVGElement) && typeof value !== "string")) element[name] = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces what is in an element; null and false are left out. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

export const $ = (id) => document.getElementById(id);

let said = 0;

/** Tells screen readers something that the eye sees elsewhere. */
export function say(text) {
  said += 1;
  $("say").textContent = said % 2 ? text : `${text}\u00a0`; // the same text twice is said twice
}

/** Bytes, as 431 KB or 1.2 GB (powers of ten). */
export function bytes(n) {
  const units = ["B", "KB", "MB", "GB"];
  const power = Math.min(3, Math.max(0, Math.floor(Math.log10(Math.max(1, n)) / 3)));
  const value = n / 1000 ** power;
  return `${value.toFixed(power > 0 && value < 10 ? 1 : 0)} ${units[power]}`;
}

/** A count, as 107 K or 1.2 B. */
export function count(n) {
  if (n < 1e4) return String(n);
  const [unit, scale] = n < 1e6 ? ["K", 1e3] : n < 1e9 ? ["M", 1e6] : ["B", 1e9];
  const value = n / scale;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}

/** Seconds, as 4 s or 2 min. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "…";
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** A number with so many decimals and a true minus; "–" for none. */
export function number(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return value.toFixed(digits).replace("-", "\u2212");
}

export function percent(p) {
  if (p > 0 && p < 0.001) return "< 0.1 %";
  return `${(100 * p).toFixed(1)} %`;
}

/** The name of a row, for lists. */
export const rowName = (row, index) => cellText(row.id ?? row.idx ?? index + 1);

/** Saves a blob as a file of the visitor's. */
export function download(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
