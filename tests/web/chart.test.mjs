import assert from "node:assert/strict";
import test from "node:test";
import { Curves, draw, movingAverage, rateLines, scaleFor, shortNumber, smoothingWindow, thinned, ticks } from "../../web/chart.js";

const measurement = (step, loss = 0.1, rate = 1e-4) => ({ step, epoch: 1, loss, grad_norm: 1, lr: { unet: rate }, d: 1 });

test("steps that are done again replace the earlier ones", () => {
  const curves = new Curves();
  curves.add([1, 2, 3].map((step) => measurement(step)));
  curves.add([measurement(2, 0.5)]);
  assert.deepEqual(curves.steps.map((each) => [each.step, each.loss]), [[1, 0.1], [2, 0.5]]);
});

test("a run that turns back forgets the steps after, and keeps its spikes marked", () => {
  const curves = new Curves();
  curves.add([1, 2, 3, 4].map((step) => measurement(step)));
  curves.mark([3]);
  curves.mark([3]);
  curves.turnBack(2, 3);
  assert.deepEqual([curves.steps.map((each) => each.step), curves.spikes, curves.totalSteps], [[1, 2], [3], 3]);
  const words = [];
  const context = { ...recordingContext([]), fillText: (text) => words.push(text) };
  draw({ clientWidth: 300, clientHeight: 200, getContext: () => context }, curves);
  assert.ok(words.some((text) => text.includes("leap at 3")));
  curves.clear();
  assert.deepEqual(curves.spikes, []);
});

test("blocks with a rate of their own are thin lines in their component's colour", () => {
  const [text, unet, half] = rateLines(["te1", "unet", "unet x0.5"]);
  assert.deepEqual([text.name, unet.name, half.name], ["te1", "unet", "unet ×0.5"]);
  assert.ok(half.colour === unet.colour && unet.colour !== text.colour && half.thickness < unet.thickness);
  const many = rateLines(["te1", ...[0.1, 0.2, 0.3, 0.4, 0.5, 0.6].map((rate) => `unet x${rate}`)]);
  assert.deepEqual(many.map((each) => each.name).filter(Boolean), ["te1", "unet ×0.1"]);
});

test("a long run stays small and keeps its last step", () => {
  const curves = new Curves();
  curves.add(Array.from({ length: 20000 }, (_, index) => measurement(index + 1)));
  assert.ok(curves.steps.length <= 8001);
  assert.equal(curves.lastStep, 20000);
  assert.equal(thinned(curves.steps, 100).at(-1).step, 20000);
});

test("the moving average passes over losses that are no numbers", () => {
  assert.deepEqual(movingAverage([1, null, 3], 2), [1, 1, 3]);
  assert.deepEqual(movingAverage([null, 2], 5), [null, 2]);
  assert.deepEqual(movingAverage([2, 4, 6, 8], 2), [2, 3, 5, 7]);
});

test("the window is a twentieth of the run", () => {
  assert.deepEqual([10, 400, 100000].map(smoothingWindow), [5, 20, 200]);
});

test("ticks are round numbers inside the range", () => {
  assert.deepEqual(ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(ticks(3, 3, 5), [3]);
});

test("heights are between bottom and top, whatever the values", () => {
  const losses = scaleFor([0.1, null, 0.2]);
  assert.ok(Math.abs(losses.toUnit(0.15) - 0.5) < 1e-9);
  for (const values of [[], [null], [0, 0], [0.3], [1e-8, 1e-4]]) {
    const unit = scaleFor(values).toUnit(values[0] ?? 0);
    assert.ok(unit >= 0 && unit <= 1, `${values}: ${unit}`);
  }
});

test("numbers are short", () => {
  assert.deepEqual([0, 0.0812345, 1e-4, 0.00012].map(shortNumber), ["0", "0.0812", "1e-4", "1.2e-4"]);
});

test("drawing survives no step, one step and losses that are no numbers", () => {
  for (const losses of [[], [0.1], [null], [0.1, null, 0.3]]) {
    const curves = new Curves();
    curves.add(losses.map((loss, index) => measurement(index + 1, loss)));
    const drawn = [];
    const canvas = { clientWidth: 300, clientHeight: 200, getContext: () => recordingContext(drawn) };
    draw(canvas, curves);
    assert.ok(drawn.every((numbers) => numbers.every(Number.isFinite)), "every coordinate is a number");
  }
});

function recordingContext(drawn) {
  const nothing = () => {};
  return {
    setTransform: nothing, clearRect: nothing, beginPath: nothing, stroke: nothing,
    moveTo: (...at) => drawn.push(at), lineTo: (...at) => drawn.push(at),
    fillText: (_, ...at) => drawn.push(at), measureText: () => ({ width: 40 }),
  };
}
