// Elements, numbers as text, and messages for screen readers.

import { cellText } from "../lib/rows.js";

/**
 * @import { Child } from "./types.js"
 * @import { Row } from "../types.js"
 */

/** @typedef {Record<string, any>} Properties */

/**
 * An HTML element: h("button", { class: "quiet", onclick }, "Text"). Texts become attributes, other values properties.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Properties} [properties]
 * @param {...Child} children
 */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/**
 * An SVG element.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Properties} [properties]
 * @param {...Child} children
 */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

/**
 * @template {HTMLElement | SVGElement} E
 * @param {E} element
 * @param {Properties} properties
 * @param {Child[]} children
 */
function fill(element, properties, children) {
  /** @type {Properties} */
  const own = element;
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    const isProperty = name in element && !(element instanceof SVGElement) && typeof value !== "string";
    if (name.startsWith("on") || name === "value" || isProperty) own[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...nodesOf(children));
  return element;
}

/** @param {Child[]} children @returns {(Node | string)[]} */
function nodesOf(children) {
  const nodes = [];
  for (const child of children) {
    if (Array.isArray(child)) nodes.push(...nodesOf(child));
    else if (child !== null && child !== undefined && child !== false) nodes.push(child instanceof Node ? child : String(child));
  }
  return nodes;
}

/**
 * Replaces the content of an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function replaceContent(element, ...children) {
  element.replaceChildren(...nodesOf(children));
}

/**
 * The element with this id. `type` is its class, if it is more than an HTMLElement.
 * @template {HTMLElement} [E=HTMLElement]
 * @param {string} id
 * @param {{ new (): E }} [type]
 * @returns {E}
 */
export function $(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof (type ?? HTMLElement))) throw new Error(`the page has no such element as #${id}`);
  return /** @type {E} */ (element);
}

let announcements = 0;

/**
 * Tells screen readers what is to be seen elsewhere.
 * @param {string} text
 */
export function announce(text) {
  announcements += 1;
  $("announcement").textContent = announcements % 2 ? text : `${text}\u00a0`; // so that the same text twice is read twice
}

/**
 * Bytes as 431 KB or 1.2 GB, in powers of ten.
 * @param {number} n
 */
export function bytes(n) {
  const units = ["B", "KB", "MB", "GB"];
  const power = Math.min(3, Math.max(0, Math.floor(Math.log10(Math.max(1, n)) / 3)));
  const value = n / 1000 ** power;
  return `${value.toFixed(power > 0 && value < 10 ? 1 : 0)} ${units[power]}`;
}

/**
 * A count as 107 K or 1.2 B.
 * @param {number} n
 */
export function count(n) {
  if (n < 1e4) return String(n);
  /** @type {[string, number]} */
  const [unit, scale] = n < 1e6 ? ["K", 1e3] : n < 1e9 ? ["M", 1e6] : ["B", 1e9];
  const value = n / scale;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}

/**
 * Seconds as 4 s or 2 min.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "…";
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/**
 * A number with so many decimals and a minus sign; "–" for a missing one.
 * @param {number | null | undefined} value
 */
export function number(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return value.toFixed(digits).replace("-", "\u2212");
}

/**
 * A probability in percent.
 * @param {number} p
 */
export function percent(p) {
  if (p > 0 && p < 0.001) return "< 0.1 %";
  return `${(100 * p).toFixed(1)} %`;
}

/**
 * The name of a row in a list.
 * @param {Row} row
 * @param {number} index
 */
export const rowName = (row, index) => cellText(row.id ?? row.idx ?? index + 1);

/**
 * Offers the visitor a blob as a file to save.
 * @param {string} name
 * @param {Blob} blob
 */
export function saveFile(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
