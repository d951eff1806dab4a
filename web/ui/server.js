// The judge of this page's own server: its offer, and the form for the server's API key.

import { ServedJudge, findServed, useKey } from "../lib/served.js";
import { h, replaceContent } from "./dom.js";
import { failureNotice } from "./failures.js";

/** @import { OpenJudge } from "./types.js" */

const NOT_READY = new Map([
  ["loading", "The server is still loading it."],
  ["ending", "The server is ending and takes no new requests."],
  ["lost", "The server has lost it: it has to be started again."],
]);

let forms = 0;

/**
 * The form for the server's key. `then` is called once a key is set.
 * @param {() => void} then
 */
export function keyForm(then) {
  forms += 1;
  const id = `server-key-${forms}`;
  const input = h("input", { type: "password", id, autocomplete: "off", required: true, spellcheck: "false" });
  const form = h(
    "form",
    { class: "case server-key", autocomplete: "off" },
    h("label", { for: id }, "API key of the server"),
    h("div", { class: "inline grow" }, input, h("button", { type: "submit" }, "Use this key")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(input.value.trim());
    then();
  });
  return form;
}

/**
 * Looks for the server's judge and offers it in `container`, which stays hidden if there is none.
 * @param {HTMLElement} container
 * @param {OpenJudge} open
 * @returns {Promise<{ name: string, use(): Promise<boolean> } | null>} `use` opens it, and shows in `container` why it cannot
 */
export async function showServerOffer(container, open) {
  const found = await findServed();
  container.hidden = found === null;
  if (!found) return null;
  const fault = h("div", { class: "server-fault" });
  const use = async () => {
    fault.replaceChildren();
    button.disabled = true;
    try {
      await open(await ServedJudge.open());
      return true;
    } catch (failure) {
      replaceContent(fault, failureNotice(failure, failure.name === "KeyNeeded" && keyForm(use)));
      return false;
    } finally {
      button.disabled = false;
    }
  };
  const button = h("button", { type: "button", class: "use-server", onclick: use }, "Use the server’s judge");
  const note = ["It runs on this server, to which what you judge is sent.", NOT_READY.get(found.status)];
  replaceContent(
    container,
    h("h3", {}, `On this server: ${found.model}`),
    h("p", { class: "note" }, note.filter(Boolean).join(" ")),
    h("div", { class: "actions" }, button),
    fault,
  );
  return { name: found.model, use };
}
