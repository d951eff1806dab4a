// One piece of work at a time: the buttons of its form, Stop, and what is shown when it fails.

import { Failure } from "../judge.js";
import { $, h } from "./dom.js";
import { failureNotice } from "./failures.js";
import { keyForm } from "./server.js";

/** @type {HTMLButtonElement[]} */
const startButtons = [];
/** @type {AbortController | null} */
let current = null;
/** @type {Promise<unknown> | null} */
let blocker = null;
let reload = () => {};
let canReload = () => false;

/**
 * Sets what "Load the judge again" does, and when it is offered.
 * @param {() => void} action
 * @param {() => boolean} isOffered
 */
export function setReload(action, isOffered) {
  [reload, canReload] = [action, isOffered];
}

/**
 * Lets no form start until a promise is settled.
 * @param {Promise<unknown>} promise
 */
export function blockUntil(promise) {
  blocker = promise;
  updateStartButtons();
  const done = () => {
    blocker = null;
    updateStartButtons();
  };
  promise.then(done, done);
}

const updateStartButtons = () => startButtons.forEach((button) => (button.disabled = Boolean(current || blocker)));

/**
 * Makes a form run `work(signal)`: its button and Ctrl+Enter start it, Stop and Escape stop it.
 * @param {HTMLFormElement} form
 * @param {(signal: AbortSignal) => Promise<void>} work
 */
export function workForm(form, work) {
  const start = /** @type {HTMLButtonElement} */ (form.querySelector("[type=submit]"));
  const stop = /** @type {HTMLButtonElement} */ (form.querySelector(".stop"));
  startButtons.push(start);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form, start, stop, work);
  });
  stop.addEventListener("click", () => current?.abort());
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
    if (event.key === "Escape") current?.abort();
  });
}

/**
 * @param {HTMLFormElement} form
 * @param {HTMLButtonElement} start
 * @param {HTMLButtonElement} stop
 * @param {(signal: AbortSignal) => Promise<void>} work
 */
async function run(form, start, stop, work) {
  if (current || blocker) return;
  clearFailures();
  current = new AbortController();
  updateStartButtons();
  stop.hidden = false;
  form.setAttribute("aria-busy", "true");
  if (form.contains(document.activeElement)) stop.focus();
  try {
    await work(current.signal);
  } catch (error) {
    showFailure(error);
  } finally {
    const stopHasFocus = document.activeElement === stop;
    current = null;
    stop.hidden = true;
    form.removeAttribute("aria-busy");
    updateStartButtons();
    if (stopHasFocus) start.focus();
  }
}

/**
 * Shows a failure at the top of the page. A stop is not a failure.
 * @param {any} error
 */
export function showFailure(error) {
  const failure = Failure.of(error);
  if (failure.name === "Stopped") return;
  const again =
    failure.breaksEngine &&
    canReload() &&
    h("button", { type: "button", class: "primary", onclick: () => reload() }, "Load the judge again");
  const notice = failureNotice(failure, failure.name === "KeyNeeded" ? keyForm(clearFailures) : again);
  $("failures").replaceChildren(notice);
  notice.scrollIntoView({ block: "nearest" });
}

/** Removes the failure that is shown at the top of the page. */
export const clearFailures = () => $("failures").replaceChildren();

/**
 * A progress bar with a text below it.
 * @typedef {{ set(done: number, total: number, text: string): void, end(): void }} ProgressBar
 */

/**
 * Shows a progress bar in `container` until its `end` is called.
 * @param {HTMLElement} container
 * @returns {ProgressBar}
 */
export function progressBar(container) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const note = h("p", { class: "note", "aria-live": "off" });
  container.replaceChildren(bar, note);
  container.hidden = false;
  return {
    set(done, total, text) {
      bar.max = total || 1;
      bar.value = done;
      note.textContent = text;
    },
    end() {
      container.hidden = true;
      container.replaceChildren();
    },
  };
}
