// The page at its narrowest, by keyboard alone, and for screen readers.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";

import { goTo, loadJudge, open } from "./browser.mjs";

let world;
before(async () => (world = await open()));
after(() => world?.close());

for (const [width, colorScheme] of [
  [320, "light"],
  [1440, "dark"],
]) {
  test(`nothing overflows at ${width} px, every control has a name, text has contrast (${colorScheme})`, async () => {
    const { tab, context } = await world.page({ width, colorScheme });
    await tab.waitForSelector("#load");
    await loadJudge(tab);
    await tab.click("#judge-form .primary");
    await tab.waitForSelector("#judge-result .score");
    for (const view of ["judge", "compare", "batch", "train", "models"]) {
      await goTo(tab, view);
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `${view}: ${wide} px too wide`);
      assert.deepEqual(await tab.evaluate(unnamed), [], `${view}: controls without a name`);
      assert.deepEqual(await tab.evaluate(faint), [], `${view}: text with a contrast below 4.5`);
    }
    await context.close();
  });
}

test("the keyboard alone: load, judge, read", async () => {
  const { tab, context } = await world.page();
  await tab.waitForSelector("#load");
  await tab.keyboard.press("Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.className), "skip", "the first stop skips the navigation");
  const tabTo = async (selector) => {
    for (let n = 0; n < 40; n += 1) {
      if (await tab.evaluate((s) => document.activeElement.matches(s), selector)) return;
      await tab.keyboard.press("Tab");
    }
    assert.fail(`Tab never reached ${selector}`);
  };
  await tabTo("#load");
  await tab.keyboard.press("Enter");
  await tab.waitForSelector("#judge-form:visible");
  await tabTo("#judge-form textarea");
  await tab.keyboard.press("Control+Enter");
  await tab.waitForSelector("#judge-result .score");
  assert.match(await tab.innerText("#announcement"), /Expected score [\d.]+/, "the result is announced");
  await tabTo("#judge-form .primary");
  const ring = await tab.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(ring, "solid", "the focus is visible");
  await context.close();
});

test("the rubric is written score by score, in the judge's own scale", async () => {
  // The judge that comes with the page has a language of its own. This is the form of a judge that reads plain language.
  const { tab, context } = await world.page();
  await tab.waitForSelector("#load");
  await tab.evaluate(async () => {
    const { textField, rubricEditor } = await import("/ui/fields.js");
    const about = { scale: { texts: ["bad", "fair", "good"], values: [0, 1, 2] } };
    const rubric = textField({ name: "rubric", optional: true }, about);
    document.querySelector("#offer").replaceChildren(rubric.element, rubricEditor(about, rubric));
  });
  await tab.click("#offer .rubric summary");
  await tab.getByLabel("Question").fill("Is the answer right?");
  await tab.getByLabel("good").fill("right throughout");
  await tab.getByLabel("bad").fill("wrong");
  assert.equal(
    await tab.getByLabel("Rubric", { exact: false }).first().inputValue(),
    "[Is the answer right?]\nScore bad: wrong\nScore good: right throughout",
  );
  await context.close();
});

/** Form controls and buttons that are shown and have no accessible name. Runs in the page. */
function unnamed() {
  const shown = [...document.querySelectorAll("input, textarea, select, button, a[href], summary")].filter((e) =>
    e.checkVisibility(),
  );
  const named = (e) =>
    e.getAttribute("aria-label") || e.innerText?.trim() || [...(e.labels ?? [])].some((label) => label.innerText.trim());
  return shown.filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 80));
}

/** Shown texts whose contrast against their background is below WCAG's 4.5. Runs in the page. */
function faint() {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const hidden = !element.checkVisibility() || element.closest(".unseen, .backdrop, .skip, :disabled, [aria-hidden=true]");
    if (hidden || !walker.currentNode.textContent.trim()) continue;
    const backgrounds = [];
    for (let e = element; e; e = e.parentElement) backgrounds.unshift(getComputedStyle(e).backgroundColor);
    const back = paint("white", ...backgrounds);
    const front = paint("white", ...backgrounds, getComputedStyle(element).color);
    const [low, high] = [luminance(back), luminance(front)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${walker.currentNode.textContent.trim().slice(0, 30)}`);
  }
  return found;
}
