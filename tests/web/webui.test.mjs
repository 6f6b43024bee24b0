import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import vm from "node:vm";

const SCRIPT = readFileSync(new URL("../../javascript/lazylora.js", import.meta.url), "utf8");

/** The page of A1111 or Forge as far as the script meets it, with the script run in it. */
function page(prompt, hasPlot = true) {
  const area = { value: prompt };
  const said = [];
  const button = hasPlot ? { click: () => said.push("filled") } : null;
  const elements = { "#txt2img_prompt textarea": area, "#lazylora_open_plot": button };
  const context = vm.createContext({
    gradioApp: () => ({ querySelector: (what) => elements[what] ?? null }),
    updateInput: (target) => said.push(`updated: ${target.value}`),
    switch_to_txt2img: () => said.push("txt2img"),
    onUiLoaded: () => {},
  });
  vm.runInContext(SCRIPT, context);
  return { area, said, ui: context.lazyloraUi };
}

test("an epoch comes behind the prompt, with the words that call it", () => {
  const { area, said, ui } = page("a cat on a wall,");
  ui.sendToTxt2img("<lora:cat-000003:1>, zwx");
  assert.equal(area.value, "a cat on a wall, <lora:cat-000003:1>, zwx");
  assert.deepEqual(said, ["updated: a cat on a wall, <lora:cat-000003:1>, zwx", "txt2img"]);
});

test("an empty prompt gets nothing else", () => {
  const { area, ui } = page("");
  ui.sendToTxt2img("<lora:cat-000003:1>");
  assert.equal(area.value, "<lora:cat-000003:1>");
});

test("another epoch of the run goes, other LoRAs and words stay as they are", () => {
  const { area, ui } = page("zwx, (a cat:1.2)\nBREAK <lora:style-000003:0.5> <lora:cat-000001:0.8>");
  ui.sendToTxt2img("<lora:cat-000003:1>, zwx");
  assert.equal(area.value, "zwx, (a cat:1.2)\nBREAK <lora:style-000003:0.5>, <lora:cat-000003:1>");
});

test("the plot is filled in with the plain model first, and left to the person", () => {
  const { area, said, ui } = page("a wall");
  ui.openXyzPlot({ prompt: "zwx", stems: ["cat-000001", "cat-000002"] });
  assert.equal(JSON.stringify(ui.wantedPlot), '{"epochs":["","cat-000001","cat-000002"],"weights":[]}');
  assert.equal(area.value, "a wall, zwx");
  assert.deepEqual(said.slice(1), ["filled", "txt2img"]);
});

test("a page without a plot script is still led to txt2img", () => {
  const { said, ui } = page("", false);
  ui.openXyzPlot({ prompt: "", stems: ["cat-000001"] });
  assert.equal(said.at(-1), "txt2img");
});
