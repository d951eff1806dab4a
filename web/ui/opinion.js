// What a judge says about one case: the chains as they come, then the score, its distribution and its figures.

import { scaleLine } from "./charts.js";
import { h, number, percent, say } from "./dom.js";

const SAY_EVERY = 2500; // ms between pieces read to screen readers while chains stream

/** An empty opinion that fills as tokens come: {element, token(event), done(result, human), stopped()}. */
export function opinion(about, { quiet = false } = {}) {
  const head = h("div", { class: "score-head" });
  const bars = h("div");
  const chains = h("div", { class: "chains" });
  const element = h("div", { class: "opinion-body" }, head, bars, chains);
  const texts = [];
  let unsaid = "";
  let saidAt = performance.now();
  head.append(h("p", { class: "waiting" }, "Reading the case…"));

  const block = (index) => {
    texts[index] ??= chains.appendChild(h("div", { class: "chain" }, h("p", { class: "chain-text" }), h("p", { class: "chain-score" })));
    return texts[index];
  };
  return {
    element,
    token({ chain, text }) {
      head.querySelector(".waiting")?.replaceChildren("Reasoning…");
      const paragraph = block(chain).firstChild;
      paragraph.append(paragraph.childNodes.length ? text : text.trimStart());
      if (quiet || chain > 0) return;
      unsaid += text;
      if (performance.now() - saidAt > SAY_EVERY && /\s$|^\s/.test(text)) {
        say(unsaid);
        unsaid = "";
        saidAt = performance.now();
      }
    },
    done(result, human = null) {
      head.replaceChildren(...headOf(result, about, human));
      bars.replaceChildren(distribution(result.distribution, result.decoded, about));
      result.chains.forEach((chain, index) => {
        const [text, score] = block(index).childNodes;
        text.textContent = chain.text.trim();
        const parts = [result.chains.length > 1 && `Chain ${index + 1}: ${number(chain.score)}`, chain.forced && "the score had to be asked for"];
        score.textContent = parts.filter(Boolean).join(", ");
      });
      if (!quiet) say(`${unsaid} Expected score ${number(result.score)}.`);
    },
    stopped() {
      head.replaceChildren(h("p", { class: "waiting" }, "Stopped."));
    },
  };
}

function headOf(result, about, human) {
  const { texts, values } = about.scale;
  const speed = result.seconds > 0 ? `${number(result.tokens / result.seconds, 0)} tokens/s` : "–";
  const figures = [
    ["Decoded", texts[values.indexOf(result.decoded)] ?? number(result.decoded)],
    ["Score mass", percent(result.scoreMass)],
    result.chains.length > 1 && ["Spread", `± ${number(result.std)}`],
    human !== null && ["People", number(human)],
    ["Speed", speed],
  ].filter(Boolean);
  const chainScores = result.chains.map((chain) => chain.score);
  return [
    h("div", { class: "score-line" },
      h("p", { class: "score" }, h("span", { class: "unseen" }, "Expected score "), h("span", { class: "score-value" }, number(result.score))),
      scaleLine(values, { score: result.score, std: result.std, chains: chainScores, human })),
    h("dl", { class: "figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name, name === "People" && h("i", { class: "ring" })), h("dd", {}, value)))),
  ];
}

/** The score distribution as a table whose middle column is a bar. */
export function distribution(probabilities, decoded, about) {
  const { texts, values } = about.scale;
  const row = (p, index) => {
    const bar = h("span", { class: "bar" });
    bar.style.width = `${(100 * p).toFixed(2)}%`;
    return h("tr", { class: values[index] === decoded && "best" }, h("th", { scope: "row" }, texts[index]), h("td", { class: "track" }, bar), h("td", { class: "share" }, percent(p)));
  };
  return h("table", { class: "distribution" },
    h("caption", { class: "unseen" }, "Probability of each score"),
    h("thead", { class: "unseen" }, h("tr", {}, h("th", {}, "score"), h("th", {}, "bar"), h("th", {}, "probability"))),
    h("tbody", {}, probabilities.map(row)));
}
