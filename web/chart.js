// A run's curves on a canvas: the loss above, the learning rates in effect (d·lr) below, over optimizer steps.
// Knows nothing of any host: measurements in, pixels out. A measurement is {step, epoch, loss, grad_norm, lr: {group:
// rate}, d}, numbers that are none being null.

const MOST_NAMES = 6;
const COLOURS = ["#60a5fa", "#f59e0b", "#34d399", "#a78bfa"];
const SPIKE = "#f87171";
const MARGIN = { left: 52, right: 10, top: 18, bottom: 18 };
const MOST_POINTS = 4000;

export class Curves {
  /** Collects measurements in the order of their steps; one that comes again replaces the earlier one. */
  constructor() {
    this.clear();
  }

  clear() {
    this.steps = [];
    this.spikes = [];
    this.totalSteps = 0;
  }

  /** Mark the steps at which d·lr leapt up. */
  mark(spikes) {
    this.spikes = [...new Set([...this.spikes, ...spikes])];
  }

  /** Forget the steps after this one: the run goes on from it, to another end. */
  turnBack(step, totalSteps) {
    this.steps = this.steps.filter((known) => known.step <= step);
    this.totalSteps = totalSteps;
  }

  add(measurements) {
    for (const each of measurements) {
      const last = this.steps.at(-1);
      if (last && each.step <= last.step) {
        this.steps = this.steps.filter((known) => known.step < each.step);
      }
      this.steps.push(each);
    }
    if (this.steps.length > 2 * MOST_POINTS) {
      this.steps = thinned(this.steps, MOST_POINTS);
    }
  }

  /** The names of the groups that have a learning rate. */
  get groups() {
    return Object.keys(this.steps.at(-1)?.lr ?? {});
  }

  get lastStep() {
    return this.steps.at(-1)?.step ?? 0;
  }
}

/** Every n-th of the points, so that about `most` remain, the last among them. */
export function thinned(points, most) {
  const stride = Math.max(1, Math.ceil(points.length / most));
  return points.filter((_, index) => index % stride === 0 || index === points.length - 1);
}

/** The mean of each value and up to window - 1 before it; null where there is none. */
export function movingAverage(values, window) {
  const averages = [];
  let total = 0;
  let count = 0;
  values.forEach((value, index) => {
    if (Number.isFinite(value)) {
      total += value;
      count += 1;
    }
    const gone = index >= window ? values[index - window] : null;
    if (Number.isFinite(gone)) {
      total -= gone;
      count -= 1;
    }
    averages.push(count ? total / count : null);
  });
  return averages;
}

/** How many steps the loss is averaged over: a twentieth of the run, 5 to 200. */
export function smoothingWindow(steps) {
  return Math.min(200, Math.max(5, Math.floor(steps / 20)));
}

/** Round values from `low` to `high`, about `count` of them. */
export function ticks(low, high, count) {
  if (!(high > low)) {
    return [low];
  }
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high * (1 + 1e-9); index++) {
    found.push(index * step);
  }
  return found;
}

/** A number as short as can be read: 0.081, 1.2e-4. */
export function shortNumber(value) {
  if (value === 0) {
    return "0";
  }
  const size = Math.abs(value);
  const text = size < 1e-3 || size >= 1e5 ? value.toExponential(1) : Number(value.toPrecision(3)).toString();
  return text.replace(".0e", "e");
}

/** How values become heights: {toUnit, ticks}, 0 at the bottom, 1 at the top. */
export function scaleFor(values) {
  const finite = values.some(Number.isFinite) ? values.filter(Number.isFinite) : [0, 1];
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  const [bottom, top] = [Math.max(0, low - room), high + room];
  return { toUnit: (value) => (value - bottom) / (top - bottom), ticks: ticks(bottom, top, 3) };
}

/** Draw the curves onto a canvas, at the size that it has on the screen. `ink`: the colour of the text. */
export function draw(canvas, curves, ink = "#c8c8c8") {
  const ratio = globalThis.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) {
    return;
  }
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "10px sans-serif";
  const points = thinned(curves.steps, 2 * width);
  if (!points.length) {
    context.fillStyle = withAlpha(ink, 0.6);
    context.textAlign = "center";
    context.fillText("Loss and learning rate appear here while it trains.", width / 2, height / 2);
    return;
  }
  const half = Math.floor(height / 2);
  const steps = points.map((each) => each.step);
  const xs = { steps, first: curves.steps[0].step, last: Math.max(curves.totalSteps, curves.lastStep) };
  const losses = points.map((each) => each.loss);
  const smooth = movingAverage(losses, smoothingWindow(points.length));
  panel(context, { x: 0, y: 0, width, height: half }, ink, xs, [
    { name: "", colour: withAlpha(COLOURS[0], 0.35), values: losses, thickness: 1 },
    { name: "loss", colour: COLOURS[0], values: smooth, thickness: 2 },
  ]);
  const title = points.at(-1).d == null ? "lr" : "d·lr";
  const rates = rateLines(curves.groups).map(({ name, group, colour, thickness }) => ({
    name: name && `${title} ${name}`,
    colour,
    values: points.map((each) => each.lr[group] ?? null),
    thickness,
  }));
  const marks = curves.spikes.filter((step) => step >= xs.first && step <= xs.last);
  panel(context, { x: 0, y: half, width, height: height - half }, ink, xs, rates, marks);
}

/** How each group's rate is drawn: "unet x0.5", some blocks at half the rate, as a thin line in the colour of "unet".
 *  Where there are too many to name them all, each component is named once. */
export function rateLines(groups) {
  const components = [...new Set(groups.map(componentOf))];
  return groups.map((group) => {
    const component = componentOf(group);
    const isFirst = group === groups.find((each) => componentOf(each) === component);
    return {
      group,
      name: isFirst || groups.length <= MOST_NAMES ? group.replace(" x", " ×") : "",
      colour: COLOURS[(components.indexOf(component) + 1) % COLOURS.length],
      thickness: isFirst ? 2 : 1,
    };
  });
}

const componentOf = (group) => group.split(" ")[0];

/** Lines over steps in a box; `marks`: steps with a red upright line and their number. */
function panel(context, box, ink, xs, lines, marks = []) {
  const scale = scaleFor(lines.flatMap((line) => line.values));
  const [left, right] = [box.x + MARGIN.left, box.x + box.width - MARGIN.right];
  const [top, bottom] = [box.y + MARGIN.top, box.y + box.height - MARGIN.bottom];
  const x = (step) => left + ((step - xs.first) / Math.max(1, xs.last - xs.first)) * (right - left);
  const y = (value) => bottom - scale.toUnit(value) * (bottom - top);
  context.lineWidth = 1;
  context.strokeStyle = withAlpha(ink, 0.2);
  context.fillStyle = ink;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of scale.ticks) {
    stroke(context, [[left, y(tick)], [right, y(tick)]]);
    context.fillText(shortNumber(tick), left - 6, y(tick));
  }
  context.textAlign = "center";
  for (const tick of ticks(xs.first, xs.last, 5).filter(Number.isInteger)) {
    context.fillText(String(tick), x(tick), bottom + 10);
  }
  for (const line of lines) {
    context.strokeStyle = line.colour;
    context.lineWidth = line.thickness;
    stroke(context, line.values.map((value, index) => Number.isFinite(value) ? [x(xs.steps[index]), y(value)] : null));
  }
  context.strokeStyle = context.fillStyle = SPIKE;
  context.lineWidth = 1;
  for (const mark of marks) {
    stroke(context, [[x(mark), top], [x(mark), bottom]]);
    context.textAlign = x(mark) < (left + right) / 2 ? "left" : "right";
    context.fillText(` leap at ${mark} `, x(mark), top + 6);
  }
  legend(context, left, box.y + 8, lines);
}

/** A line through the points, broken where one is null. */
function stroke(context, points) {
  context.beginPath();
  let isDown = false;
  for (const each of points) {
    if (each && isDown) {
      context.lineTo(...each);
    } else if (each) {
      context.moveTo(...each);
    }
    isDown = each !== null;
  }
  context.stroke();
}

function legend(context, x, y, lines) {
  context.textAlign = "left";
  for (const line of lines.filter((each) => each.name)) {
    const last = line.values.findLast(Number.isFinite);
    const text = last === undefined ? line.name : `${line.name} ${shortNumber(last)}`;
    context.fillStyle = line.colour;
    context.fillText(text, x, y);
    x += context.measureText(text).width + 14;
  }
}

function withAlpha(colour, alpha) {
  const hex = Math.round(alpha * 255).toString(16).padStart(2, "0");
  return /^#[0-9a-f]{6}$/i.test(colour) ? colour + hex : colour;
}
