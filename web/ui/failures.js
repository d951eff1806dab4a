// What the visitor reads when something fails: what it is, and what to do.

import { h } from "./dom.js";

const MESSAGES = {
  InsecureContext: ["This page came over an insecure address", "Open it with https://, or from this machine as http://localhost."],
  NoWebGpu: ["This browser offers no WebGPU", "Use a current Chrome or Edge, Safari 26 or later, or Firefox on Windows or macOS.", "On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu.", "webgpureport.org shows what a browser offers."],
  NoAdapter: ["The browser found no GPU it may use", "chrome://gpu (about:support in Firefox) says why a GPU is blocked.", "A virtual machine or a remote desktop may have none."],
  LimitTooSmall: ["This GPU’s limits are too small for this judge", "On a machine with two GPUs, let the browser use the larger one.", "webgpureport.org shows the limits of each."],
  OutOfMemory: ["The GPU ran out of memory", "Ask for fewer chains, or train with fewer rows a step.", "If it does not load at all, this GPU needs a smaller judge."],
  DeviceLost: ["The GPU was taken away", "Load the judge again: if it is kept in this browser, nothing is downloaded.", "If it happens again: fewer chains, a smaller judge, or an updated driver."],
  NoEngine: ["The engine beside this page is missing or broken", "Reload the page. If you host it yourself: run make web and serve the whole folder."],
  NotAModel: ["There is no judge at this place", "Give the address of the folder that jurist export wrote; it has a manifest.json.", "Some hosts answer a wrong address with a web page instead of an error: open the address of manifest.json in a tab and look."],
  BadBundle: ["This judge’s files are damaged or incomplete", "Export it again with jurist export and choose the whole folder."],
  HashMismatch: ["A file is not the one that was exported", "Load again: the connection or a proxy may have changed it.", "If it stays, the copy on the server is broken: export and upload the folder again."],
  Unreachable: ["The judge could not be fetched", "Check the address and the connection, then load again: it goes on where it stopped.", "Another site must allow it (Access-Control-Allow-Origin). Or download the folder and drop it here."],
  QuotaFull: ["Not kept in this browser", "Delete judges you no longer need under Models, or free disk space, then load again to keep it.", "Private windows keep nothing."],
  BadRow: ["This case cannot be judged", "Change what the message names and judge again."],
  EngineEnded: ["The engine was ended", "A judge that is kept in this browser is opened again by itself; another has to be loaded again.", "A template that never comes to its end, or a text far too long for this GPU, can be the cause."],
  Internal: ["Something went wrong inside the engine", "A judge that is kept in this browser is opened again by itself; another has to be loaded again.", "If it happens again, please report it with the message above."],
};

/** The notice for a failure; `actions` are buttons. It is announced at once. */
export function failureNotice(failure, ...actions) {
  const [title, ...todo] = MESSAGES[failure.name] ?? MESSAGES.Internal;
  const notice = h(
    "div",
    { class: "failure", role: "alert", "data-failure": failure.name },
    h("h3", {}, title),
    h("p", {}, failure.message),
    h("ul", {}, todo.map((text) => h("li", {}, text))),
    h("div", { class: "inline" }, actions, h("button", { type: "button", class: "quiet", onclick: () => notice.remove() }, "Close")),
  );
  return notice;
}
