// The frontend side of the nodes: live curves and warnings in TrainLoRA, reports in LoadDataset and TagDataset, the
// browser of pictures and tags in PreviewDataset.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { DatasetBrowser } from "./browser.js";
import { Curves, draw } from "./chart.js";

const CHART_HEIGHT = 190;
const TEXT_HEIGHT = 110;
const BROWSER_SIZE = [620, 380];
const WITH_TEXT = new Set(["LazyLoRA_LoadDataset", "LazyLoRA_TagDataset"]);

app.registerExtension({
  name: "LazyLoRA",

  setup() {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet" });
    style.href = new URL("./browser.css", import.meta.url).href;
    document.head.append(style);
    listen("planned", (view, { total_steps }) => view.begin(total_steps));
    listen("measured", (view, { measurements }) => view.add(measurements));
    listen("announced", (view, { text }) => view.note(text));
    listen("spiked", (view, { spikes }) => view.mark(spikes));
    listen("turned_back", (view, { step, total_steps }) => view.turnBack(step, total_steps));
    listen("warned", (view, { message }) => view.note(message));
  },

  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("LazyLoRA_")) {
      return;
    }
    foldAdvanced(node);
    if (node.comfyClass === "LazyLoRA_TrainLoRA") {
      node.lazylora = new TrainingView(node);
      onExecuted(node, (output) => node.lazylora.finish(output));
    } else if (node.comfyClass === "LazyLoRA_PreviewDataset") {
      onExecuted(node, (output) => output.lazylora_dataset && browse(node, output.lazylora_dataset[0]));
    } else if (WITH_TEXT.has(node.comfyClass)) {
      const text = addText(node, "report", "What the node found appears here when it has run.");
      onExecuted(node, (output) => show(text, (output.text ?? []).join("\n")));
    }
  },
});

/** Show the dataset with this id in the node, which grows when it does so for the first time. */
function browse(node, dataset) {
  if (!node.lazyloraBrowser) {
    node.lazyloraBrowser = new DatasetBrowser(datasets);
    const [width, height] = BROWSER_SIZE;
    addElement(node, "browser", node.lazyloraBrowser.element, height, 4 * height);
    node.setSize([Math.max(node.size[0], width), node.size[1] + height]);
  }
  node.lazyloraBrowser.open(dataset);
}

/** The pack's routes, as DatasetBrowser wants them. */
const datasets = {
  read: (dataset) => answered(api.fetchApi(datasetPath(dataset))),
  edit: (dataset, what, values) => {
    const headers = { "Content-Type": "application/json" };
    return answered(api.fetchApi(datasetPath(dataset, what), { method: "POST", headers, body: JSON.stringify(values) }));
  },
  thumbnail: (dataset, picture) => api.apiURL(datasetPath(dataset, "thumbnails", picture)),
};

function datasetPath(...parts) {
  return ["/lazylora/datasets", ...parts.map(encodeURIComponent)].join("/");
}

async function answered(request) {
  const response = await request;
  const values = await response.json();
  if (!response.ok) {
    throw new Error(values.error);
  }
  return values;
}

/** Advanced inputs behind a button. Frontends that draw nodes as elements have a button of their own for it. */
function foldAdvanced(node) {
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  const specs = Object.fromEntries(Object.entries({ ...required, ...optional }).map(([name, spec]) => [name, spec[1]]));
  const advanced = (node.widgets ?? []).filter((widget) => specs[widget.name]?.advanced);
  if (!advanced.length || window.LiteGraph?.vueNodesMode) {
    return;
  }
  const button = node.addWidget("button", "", null, () => fold(!advanced[0].hidden));
  button.serialize = false;
  const fold = (isFolded) => {
    const height = node.computeSize()[1];
    advanced.forEach((widget) => hide(widget, isFolded));
    button.label = isFolded ? `show ${advanced.length} advanced settings` : "hide advanced settings";
    // what a person has made the node taller by stays
    node.setSize([node.size[0], node.size[1] + node.computeSize()[1] - height]);
    node.setDirtyCanvas(true, true);
  };
  fold(true);
  const before = node.onConfigure;
  node.onConfigure = function () {
    before?.apply(this, arguments);
    if (advanced.some((widget) => widget.value !== specs[widget.name].default) && advanced[0].hidden) {
      fold(false); // nothing that counts may be out of sight
    }
  };
}

function hide(widget, isHidden) {
  widget.hidden = isHidden;
  if (isHidden) {
    widget.computeSize = () => [0, -4]; // older frontends leave room for what is hidden, and 4 between widgets
  } else {
    delete widget.computeSize;
  }
}

/** What TrainLoRA shows while it trains and afterwards. */
class TrainingView {
  constructor(node) {
    this.node = node;
    this.curves = new Curves();
    this.canvas = document.createElement("canvas");
    this.canvas.style.width = "100%";
    this.canvas.style.height = "100%";
    this.canvas.style.display = "block";
    addElement(node, "curves", this.canvas, CHART_HEIGHT, 3 * CHART_HEIGHT);
    new ResizeObserver(() => draw(this.canvas, this.curves)).observe(this.canvas);
    this.notes = null;
  }

  begin(totalSteps) {
    this.curves.clear();
    this.curves.totalSteps = totalSteps;
    this.noted = new Set();
    if (this.notes) {
      show(this.notes, "");
    }
    this.redraw();
  }

  add(measurements) {
    this.curves.add(measurements);
    this.redraw();
  }

  mark(spikes) {
    this.curves.mark(spikes);
    this.redraw();
  }

  turnBack(step, totalSteps) {
    this.curves.turnBack(step, totalSteps);
    this.redraw();
  }

  /** A line under the curves: what the run will take, and warnings. */
  note(line) {
    this.noted ??= new Set();
    this.noted.add(line);
    this.notes ??= addText(this.node, "notes", "", TEXT_HEIGHT);
    show(this.notes, [...this.noted].join("\n"));
  }

  /** The whole curve of the run, earlier sessions included, once it has ended or was there already. */
  finish(output) {
    if (output.lazylora_curve) {
      this.curves.clear();
      this.curves.add(output.lazylora_curve);
      this.curves.mark(output.lazylora_spikes ?? []);
    }
    [...(output.lazylora_announced ?? []), ...(output.lazylora_warnings ?? [])].forEach((line) => this.note(line));
    this.redraw();
  }

  redraw() {
    requestAnimationFrame(() => draw(this.canvas, this.curves));
  }
}

function listen(kind, act) {
  api.addEventListener(`lazylora.${kind}`, ({ detail }) => {
    const view = findNode(detail.node)?.lazylora;
    if (view) {
      act(view, detail);
    }
  });
}

/** The node with this id; "5:3" is node 3 inside subgraph node 5. */
function findNode(id) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

function onExecuted(node, act) {
  const before = node.onExecuted;
  node.onExecuted = function (output) {
    before?.apply(this, arguments);
    act(output ?? {});
  };
}

function addElement(node, name, element, height, tallest) {
  const widget = node.addDOMWidget(name, "lazylora", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
    getMaxHeight: () => tallest,
  });
  widget.serialize = false; // not one of the node's inputs: it must not shift the saved values of those
  return widget;
}

function addText(node, name, placeholder, tallest = 5 * TEXT_HEIGHT) {
  const text = document.createElement("textarea");
  text.placeholder = placeholder;
  text.readOnly = true;
  text.className = "comfy-multiline-input";
  addElement(node, name, text, TEXT_HEIGHT, tallest);
  return text;
}

function show(text, words) {
  text.value = words;
}
