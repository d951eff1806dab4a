// The judge of the server that this page came from: `jurist serve --model`. It judges through POST v1/judge, beside the page.
//
// A static host has no judge. Its GET health is the file `health` beside this page, which says so, in the words of a server that
// serves the page alone.

import { Failure } from "./failure.js";

/**
 * @import { BatchScore, Chain, Row, Score, ScoreOptions, ServedAbout, ServerHealth, ServedRecord } from "../types.js"
 */

const KEY = "jurist.key"; // in session storage: the server's API key, until the tab is closed

/** The server's API key, if one was typed. @type {string | null} */
let apiKey = null;

/**
 * Sets the key that every request sends, and keeps it until the tab is closed.
 * @param {string} key
 */
export function useKey(key) {
  apiKey = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Session storage may be forbidden. Then the key is asked for again after a reload.
  }
}

function currentKey() {
  try {
    apiKey ??= sessionStorage.getItem(KEY);
  } catch {
    // As above.
  }
  return apiKey;
}

const addressOf = (/** @type {string} */ path) => new URL(path, document.baseURI).href;

/**
 * What this page's server offers; nothing if it does not answer.
 * @returns {Promise<Partial<ServerHealth>>}
 */
async function health() {
  if (navigator.onLine === false) return {};
  try {
    const response = await fetch(addressOf("health"), { cache: "no-store", credentials: "omit" });
    return (await response.json()) ?? {};
  } catch {
    return {};
  }
}

/**
 * The judge of this page's server, or null if there is no such server, or it has no judge.
 * @returns {Promise<{ status: string, model: string } | null>}
 */
export async function findServed() {
  const { status, model } = await health();
  return typeof status === "string" && typeof model === "string" ? { status, model } : null;
}

/**
 * The address of the bundle that this page's server hands out (`jurist serve --bundle`), or null.
 * @returns {Promise<string | null>}
 */
export async function findBundle() {
  const { bundle } = await health();
  return bundle === true ? "bundle/" : null;
}

/**
 * Asks the server.
 * @param {string} path
 * @param {{ body?: object, signal?: AbortSignal }} [options]
 * @returns {Promise<any>} the answer's JSON
 */
async function ask(path, { body, signal } = {}) {
  const key = currentKey();
  /** @type {Record<string, string>} */
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const text = body && JSON.stringify(body);
  if (text) headers["content-type"] = "application/json";
  let response, answer;
  try {
    const method = text ? "POST" : "GET";
    response = await fetch(addressOf(path), { method, headers, body: text, signal, cache: "no-store", credentials: "omit" });
    answer = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw new Failure("Stopped", "Stopped.");
    throw new Failure("ServerGone", `${addressOf("./")} does not answer: the server has ended, or the connection is broken.`);
  }
  let json;
  try {
    json = JSON.parse(answer);
  } catch {
    throw new Failure(
      "ServerFailed",
      `${addressOf(path)}: the server answered ${response.status} with something other than JSON.`,
    );
  }
  if (response.ok) return json;
  throw refusal(response, json?.error ?? {}, Boolean(key));
}

/**
 * A server's refusal as a Failure.
 * @param {Response} response
 * @param {{ message?: string, code?: string | null }} error
 * @param {boolean} hadKey
 */
function refusal({ status, headers }, { message, code }, hadKey) {
  const said = message ?? `The server answered ${status}.`;
  if (status === 401) {
    return new Failure("KeyNeeded", hadKey ? "The server does not accept this key." : "No key was sent yet.");
  }
  if (status === 429) {
    const seconds = headers.get("retry-after");
    return new Failure("ServerBusy", `The queue of the server is full.${seconds ? ` There may be room in ${seconds} s.` : ""}`);
  }
  if (code === "loading") return new Failure("ServerLoading", "The server is still loading its judge.");
  if (code === "ending") return new Failure("ServerGone", "The server is ending and takes no new requests.");
  if (status === 400 || status === 413) return new Failure("BadRow", said);
  return new Failure("ServerFailed", said);
}

/** The judge of this page's server. Its methods are those of `Judge` with the same names. */
export class ServedJudge {
  /**
   * `ServedJudge.open` makes them.
   * @param {ServedAbout} about
   */
  constructor(about) {
    /** @readonly */
    this.about = about;
    /** What the page shows of a bundle: a served judge has a name and no examples. @readonly */
    this.manifest = {
      name: about.name,
      description: /** @type {string | undefined} */ (undefined),
      examples: /** @type {Row[] | undefined} */ (undefined),
    };
  }

  /** The engine of this browser has no part in it. */
  get gone() {
    return false;
  }

  /** Opens the server's judge: asks what it is, with the key if there is one. */
  static async open() {
    const { data } = await ask("v1/models");
    const own = Array.isArray(data) ? data.find((model) => model?.jurist?.scale && model.jurist.columns) : null;
    if (own) return new ServedJudge({ name: own.id, ...own.jurist });
    throw new Failure("ServerFailed", "The server does not say which columns and scale its judge has: it is of another version.");
  }

  /**
   * Scores one row. The server sends no tokens while it judges.
   * @param {Row} row
   * @param {ScoreOptions & { onToken?: unknown, signal?: AbortSignal }} [options]
   * @returns {Promise<Score>}
   */
  async score(row, { onToken: _, signal, ...options } = {}) {
    const start = performance.now();
    const { judge, chains, usage } = await ask("v1/judge", { body: { row, ...options }, signal });
    const seconds = (performance.now() - start) / 1000;
    /** @type {Chain[]} */
    const shown = chains.map((/** @type {ServedRecord} */ chain) => ({
      text: chain.feedback ?? "",
      score: chain.expected,
      distribution: this.#distribution(chain),
      forced: chain.forced,
    }));
    const { score, decoded, distribution, scoreMass, calibrated } = this.#figures(judge);
    const std = deviation(shown.map((chain) => chain.score));
    return { score, decoded, distribution, scoreMass, std, calibrated, chains: shown, tokens: usage.completion_tokens, seconds };
  }

  /**
   * Scores many rows. The result of a row that cannot be judged has `error`.
   * @param {Row[]} rows
   * @param {ScoreOptions & { onProgress?: (done: number) => void, signal?: AbortSignal }} [options]
   * @returns {Promise<BatchScore[]>}
   */
  async scoreBatch(rows, { onProgress, signal, ...options } = {}) {
    if (rows.length === 0) return [];
    const { data } = await ask("v1/judge", { body: { rows, ...options }, signal });
    onProgress?.(rows.length);
    const judged = data.map((/** @type {{ judge: ServedRecord }} */ row) => row.judge);
    return judged.map((/** @type {ServedRecord} */ judge) =>
      judge.error === null ? this.#figures(judge) : { error: judge.error },
    );
  }

  /** The server keeps its judge. */
  async free() {}

  /** @param {ServedRecord} record */
  #figures(record) {
    const { expected: score, decoded, mass: scoreMass, feedback, calibrated } = record;
    return { score, decoded, distribution: this.#distribution(record), scoreMass, feedback, calibrated };
  }

  /** @param {ServedRecord} record */
  #distribution({ probs }) {
    return this.about.scale.texts.map((text) => probs[text]);
  }
}

/**
 * The standard deviation of all of these scores.
 * @param {number[]} scores
 */
function deviation(scores) {
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  return Math.sqrt(scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / scores.length);
}
