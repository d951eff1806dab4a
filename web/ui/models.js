// The view "Models", and the offer of a judge before anything of it is downloaded.

import { Judge } from "../judge.js";
import { unzip } from "../lib/zip.js";
import { $, bytes, count, duration, h, put } from "./dom.js";
import { failureNotice } from "./failures.js";
import { clearFailures, fail, progress } from "./work.js";

const SPACE_TO_SPARE = 1.02; // records and rounding

export function modelsView(state) {
  $("models-address").addEventListener("submit", (event) => {
    event.preventDefault();
    const address = $("models-url").value.trim();
    if (address) look(/^[\w.-]+\.[a-z]{2,}\//i.test(address) ? `https://${address}` : address);
  });
  for (const id of ["models-folder", "models-files"]) {
    $(id).addEventListener("change", async ({ target }) => {
      await lookAtFiles([...target.files]);
      target.value = "";
    });
  }

  const look = (source) => offer($("models-offer"), source, state.open);

  async function lookAtFiles(files) {
    const archive = files.length === 1 && /\.zip$/i.test(files[0].name) ? await unzip(files[0]) : null;
    await look(archive ?? files);
  }

  function loaded() {
    const { judge } = state;
    if (!judge) return;
    const { about, manifest } = judge;
    const facts = [
      ["Judge", manifest.name],
      ["Parameters", `${count(about.parameters)}, ${about.weights}`],
      ["Scale", about.scale.texts.join(" · ")],
      ["Chain of thought", about.chain ? `at most ${about.maxCompletionLength} tokens` : "none"],
      ["Reads", `at most ${count(about.maxLength)} tokens`],
    ];
    $("models-loaded").replaceChildren(factList(facts));
  }

  async function kept() {
    const place = $("models-kept");
    try {
      const [models, room] = await Promise.all([Judge.models(), Judge.room()]);
      const list = models.map((model) => {
        const whole = model.held >= model.bytes;
        const size = whole ? bytes(model.bytes) : `${bytes(model.held)} of ${bytes(model.bytes)}`;
        const open = () => (whole || !model.address ? state.open({ key: model.key }) : look(model.address));
        const forget = async () => {
          await Judge.forget(model.key);
          await kept();
          $("models-title").focus();
        };
        return h("li", {},
          h("div", {}, h("strong", {}, model.manifest.name), h("p", { class: "note" }, `${size}, ${new Date(model.date).toLocaleDateString()}, ${model.address ?? "from files"}`)),
          h("div", { class: "inline" },
            h("button", { type: "button", class: "quiet", onclick: () => open().catch(fail), "aria-label": `${whole ? "Load" : "Continue"} ${model.manifest.name}` }, whole ? "Load" : "Continue"),
            h("button", { type: "button", class: "quiet", onclick: forget, "aria-label": `Delete ${model.manifest.name}` }, "Delete")));
      });
      const used = room && h("p", { class: "note" }, `This page uses ${bytes(room.usage)} of the ${bytes(room.quota)} that the browser allows.`);
      put(place, list.length ? h("ul", { class: "kept" }, list) : h("p", { class: "note" }, "None yet."), used);
    } catch (error) {
      place.replaceChildren(h("p", { class: "note" }, error.message));
    }
  }

  async function adapter() {
    try {
      $("models-adapter").replaceChildren(factList(adapterFacts(await Judge.adapter())));
    } catch (error) {
      $("models-adapter").replaceChildren(h("p", { class: "note" }, error.message));
    }
  }

  return {
    rebuild: loaded,
    shown: () => {
      loaded();
      kept();
      adapter();
    },
    kept,
    take: lookAtFiles,
    look,
  };
}

/** Shows a judge's size, needs and the adapter in `place`; a press fetches it. `open(source, ui)` loads it. */
export async function offer(place, source, open) {
  clearFailures();
  place.replaceChildren(h("p", { class: "waiting" }, "Looking…"));
  let found;
  try {
    found = await Judge.inspect(source);
  } catch (failure) {
    const again = h("button", { type: "button", class: "quiet", onclick: () => offer(place, source, open) }, "Try again");
    place.replaceChildren(failureNotice(failure, again));
    return;
  }
  const { manifest, bytes: size, held, gpuBytes, fits, why, adapter, room } = found;
  const missing = Math.max(0, size - held);
  const local = typeof source !== "string";
  const tight = room && missing * SPACE_TO_SPARE > room.quota - room.usage;
  const facts = [
    ["Judge", `${manifest.name}, ${count(manifest.parameters)} parameters, ${manifest.weights}`],
    ["Download", missing === 0 ? "nothing, it is kept here" : local ? `none, ${bytes(size)} from your disk` : held > 0 ? `${bytes(missing)} (of ${bytes(size)}, the rest is here)` : bytes(size)],
    ["GPU memory", `about ${bytes(gpuBytes)}`],
    ...adapterFacts(adapter),
    room && ["Free for this page", bytes(room.quota - room.usage)],
  ].filter(Boolean);
  const text = missing === 0 ? "Open the judge" : local ? "Open the judge" : `Load the judge (${bytes(missing)})`;
  const button = h("button", { type: "button", class: "primary", id: "load" }, text);
  const stop = h("button", { type: "button", class: "stop", hidden: true }, "Stop");
  const bar = h("div", { class: "progress", hidden: true });
  button.addEventListener("click", async () => {
    const control = new AbortController();
    stop.hidden = false;
    stop.onclick = () => control.abort();
    button.disabled = true;
    const shown = progress(bar);
    try {
      await open(source, { signal: control.signal, onProgress: progressText(shown) });
      place.replaceChildren();
    } catch (error) {
      if (error.name !== "Stopped") place.append(failureNotice(error));
    } finally {
      shown.end();
      stop.hidden = true;
      button.disabled = false;
    }
  });
  put(
    place,
    factList(facts),
    !fits && failureNotice({ name: "LimitTooSmall", message: why }),
    fits && tight && h("p", { class: "note" }, "There is not room enough to keep it: it will work until the page is closed."),
    fits && h("div", { class: "actions" }, button, stop),
    bar,
  );
}

/** Turns progress events into bytes, rate and time left. */
export function progressText(bar) {
  let [from, since] = [null, 0];
  return ({ phase, done, total }) => {
    if (phase === "compile") {
      bar.set(total, total, "Preparing the shaders…");
      return;
    }
    const now = performance.now();
    if (phase === "read" || from === null) [from, since] = [done, now];
    const rate = ((done - from) / Math.max(1, now - since)) * 1000;
    const speed = rate > 0 && phase === "download" ? `, ${bytes(rate)}/s, ${duration((total - done) / rate)} left` : "";
    bar.set(done, total, `${Math.floor((100 * done) / total)} %, ${bytes(done)} of ${bytes(total)}${speed}`);
  };
}

function adapterFacts({ adapter, vendor, architecture, software, limits }) {
  const name = adapter || [vendor, architecture].filter(Boolean).join(" ") || "not named by the browser";
  return [
    ["Adapter", software ? `${name} (software: slow)` : name],
    ["Its limits", `${bytes(limits.maxStorageBufferBindingSize)} a binding, ${bytes(limits.maxBufferSize)} a buffer`],
  ];
}

const factList = (facts) => h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
