// One piece of work at a time: the buttons of its form, Stop, and what is shown when it fails.

import { Failure } from "../judge.js";
import { $, h } from "./dom.js";
import { failureNotice } from "./failures.js";

const forms = [];
let current = null;
let held = null; // what has to be done before any form may start
let afterBreak = () => {};
let mayLoad = () => false;

/** What "Load the judge again" does, and whether it is offered. */
export function onBreak(action, offered) {
  [afterBreak, mayLoad] = [action, offered];
}

/** Lets no form start until this promise is settled. */
export function hold(promise) {
  held = promise;
  showIdle();
  const done = () => {
    held = null;
    showIdle();
  };
  promise.then(done, done);
}

const showIdle = () => forms.forEach(({ start }) => (start.disabled = Boolean(current || held)));

/** Makes a form run `work(signal)`: its button starts, Stop stops, Ctrl+Enter starts, Escape stops. */
export function workForm(form, work) {
  const start = form.querySelector("[type=submit]");
  const stop = form.querySelector(".stop");
  forms.push({ start, stop });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(form, stop, work);
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

async function run(form, stop, work) {
  if (current || held) return;
  clearFailures();
  current = new AbortController();
  showIdle();
  stop.hidden = false;
  form.setAttribute("aria-busy", "true");
  const hadFocus = form.contains(document.activeElement);
  if (hadFocus) stop.focus();
  try {
    await work(current.signal);
  } catch (error) {
    fail(error);
  } finally {
    const focused = document.activeElement === stop;
    current = null;
    stop.hidden = true;
    form.removeAttribute("aria-busy");
    showIdle();
    if (focused) form.querySelector("[type=submit]").focus();
  }
}

/** Shows a failure on top of the page. A stop is none. */
export function fail(error) {
  const failure = Failure.of(error);
  if (failure.name === "Stopped") return;
  const again = failure.breaksEngine && mayLoad() && h("button", { type: "button", class: "primary", onclick: () => afterBreak() }, "Load the judge again");
  const notice = failureNotice(failure, again);
  $("failures").replaceChildren(notice);
  notice.scrollIntoView({ block: "nearest" });
}

export const clearFailures = () => $("failures").replaceChildren();

/** A progress bar with words: {set(done, total, words), end()}. */
export function progress(place) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const words = h("p", { class: "note", "aria-live": "off" });
  place.replaceChildren(bar, words);
  place.hidden = false;
  return {
    set(done, total, text) {
      bar.max = total || 1;
      bar.value = done;
      words.textContent = text;
    },
    end() {
      place.hidden = true;
      place.replaceChildren();
    },
  };
}
