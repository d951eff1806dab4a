// What the visitor reads when something fails: what it is, and what to do about it.

import { h } from "./dom.js";

/**
 * @import { Child } from "./types.js"
 * @import { FailureMessage, FailureName } from "../types.js"
 */

const LOAD_AGAIN = "If the judge is kept in this browser, it is opened again by itself. Otherwise load it again.";

/** @type {Partial<Record<FailureName, { title: string, advice: string[] }>>} */
const MESSAGES = {
  InsecureContext: {
    title: "This page came over an insecure address",
    advice: ["Open it with https://, or from this machine as http://localhost."],
  },
  NoWebGpu: {
    title: "This browser offers no WebGPU",
    advice: [
      "Use a current Chrome or Edge, Safari 26 or later, or Firefox on Windows or macOS.",
      "On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu.",
      "webgpureport.org shows what a browser offers.",
    ],
  },
  NoAdapter: {
    title: "The browser found no GPU that it may use",
    advice: [
      "chrome://gpu (about:support in Firefox) says why a GPU is blocked.",
      "A virtual machine or a remote desktop may have none.",
    ],
  },
  LimitTooSmall: {
    title: "This GPU’s limits are too small for this judge",
    advice: ["On a machine with two GPUs, let the browser use the larger one.", "webgpureport.org shows the limits of each."],
  },
  OutOfMemory: {
    title: "The GPU ran out of memory",
    advice: [
      "Use fewer chains, or train with fewer rows per step.",
      "If the judge does not load at all, this GPU needs a smaller one.",
    ],
  },
  DeviceLost: {
    title: "The GPU was lost",
    advice: [
      "Load the judge again. If it is kept in this browser, nothing is downloaded.",
      "If it happens again, use fewer chains, a smaller judge, or a newer driver.",
    ],
  },
  NoEngine: {
    title: "The engine beside this page is missing or broken",
    advice: ["Reload the page.", "If you host it yourself, run make web and serve the whole folder."],
  },
  NotAModel: {
    title: "There is no judge at this address",
    advice: [
      "Give the address of the folder that jurist export wrote. The folder has a manifest.json.",
      "Some hosts answer a wrong address with a web page instead of an error. Open the address of manifest.json in a tab to see.",
    ],
  },
  BadBundle: {
    title: "This judge’s files are damaged or incomplete",
    advice: ["Export it again with jurist export and choose the whole folder."],
  },
  HashMismatch: {
    title: "A file is not the one that was exported",
    advice: [
      "Load the judge again: the connection or a proxy may have changed the file.",
      "If it fails again, the copy on the server is broken: export and upload the folder again.",
    ],
  },
  Unreachable: {
    title: "The judge could not be downloaded",
    advice: [
      "Check the address and the connection, then load again: the download continues where it stopped.",
      "Another site must allow it (Access-Control-Allow-Origin). Or download the folder and drop it here.",
    ],
  },
  QuotaFull: {
    title: "The judge is not kept in this browser",
    advice: [
      "Delete judges that you no longer need under Models, or free disk space. Then load the judge again to keep it.",
      "Private windows keep nothing.",
    ],
  },
  BadRow: {
    title: "This case cannot be judged",
    advice: ["Change what the message names and judge again."],
  },
  KeyNeeded: {
    title: "The server asks for a key",
    advice: ["Type one of the keys in the server’s --api-key-file. It is kept until this tab is closed."],
  },
  ServerBusy: {
    title: "The server is busy",
    advice: ["Judge again later. What was judged so far stays.", "jurist serve --max-queue lets more rows wait."],
  },
  ServerLoading: {
    title: "The server is not ready yet",
    advice: ["Judge again in a moment."],
  },
  ServerGone: {
    title: "The server is gone",
    advice: ["Start jurist serve again, then judge again. What you typed stays here."],
  },
  ServerFailed: {
    title: "The server could not judge",
    advice: ["Judge again. If it happens again, look at what the server printed."],
  },
  EngineEnded: {
    title: "The engine was ended",
    advice: [LOAD_AGAIN, "A template that never ends, or a text far too long for this GPU, can be the cause."],
  },
};

const INTERNAL = {
  title: "Something went wrong inside the engine",
  advice: [LOAD_AGAIN, "If it happens again, please report it with the message above."],
};

/**
 * The notice about a failure. Screen readers read it at once.
 * @param {FailureMessage} failure
 * @param {...Child} actions buttons
 */
export function failureNotice(failure, ...actions) {
  const { title, advice } = MESSAGES[failure.name] ?? INTERNAL;
  const notice = h(
    "div",
    { class: "failure", role: "alert", "data-failure": failure.name },
    h("h3", {}, title),
    h("p", {}, failure.message),
    h(
      "ul",
      {},
      advice.map((text) => h("li", {}, text)),
    ),
    h(
      "div",
      { class: "inline" },
      actions,
      h("button", { type: "button", class: "quiet", onclick: () => notice.remove() }, "Close"),
    ),
  );
  return notice;
}
