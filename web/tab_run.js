// What trains now: a strip that is always in sight, the room with curves and previews, and the queue.

import { Curves, draw } from "./chart.js";
import { made } from "./elements.js";

const SMALL_STATES = { waiting: "waits", running: "trains", stopped: "stopped", failed: "failed", finished: "done" };

const RESUMABLE = ["stopped", "failed"];

/** One line with a bar: how far the run is, and the buttons that stop and resume it. */
export class StripPanel {
  constructor(look) {
    this.look = look;
    this.title = made("strong");
    this.text = made("span", "lazylora-text");
    this.stopButton = made("button", "lazylora-button", "Stop");
    this.stopButton.onclick = () => this.ask(this.stopButton, "stop");
    this.resumeButton = made("button", "lazylora-button lazylora-main", "Resume");
    this.resumeButton.onclick = () => this.ask(this.resumeButton, "resume", { id: this.look.status.entry.id });
    this.fill = made("div", "lazylora-fill");
    const bar = made("div", "lazylora-bar", this.fill);
    bar.setAttribute("role", "progressbar");
    this.bar = bar;
    const line = made("div", "lazylora-line", this.title, this.text, this.stopButton, this.resumeButton);
    this.element = made("div", "lazylora-strip", line, bar);
    this.element.hidden = true;
  }

  async ask(button, path, values) {
    button.disabled = true;
    const said = await this.look.change(path, values);
    if (said) {
      this.text.textContent = said;
    }
  }

  show(status) {
    const { entry, state } = status;
    this.element.hidden = !entry;
    if (!entry) {
      return;
    }
    const isBusy = state !== "idle";
    this.title.textContent = entry.title;
    this.text.textContent = words(status);
    this.element.classList.toggle("lazylora-trouble", Boolean(status.error));
    this.stopButton.hidden = !isBusy;
    this.stopButton.disabled = state === "stopping";
    this.stopButton.textContent = state === "stopping" ? "Stopping…" : "Stop";
    this.resumeButton.hidden = isBusy || !RESUMABLE.includes(entry.state);
    this.resumeButton.disabled = false;
    const share = entry.state === "finished" ? 1 : status.total_steps ? status.step / status.total_steps : 0;
    this.fill.style.width = `${100 * share}%`;
    this.bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  }

  /** Why nothing can be shown, in place of it. */
  trouble(words) {
    this.element.hidden = false;
    this.element.classList.add("lazylora-trouble");
    this.title.textContent = "";
    this.text.textContent = words;
    this.stopButton.hidden = this.resumeButton.hidden = true;
  }
}

/** Where the run stands, in words. */
export function words(status) {
  if (status.error) {
    return status.error;
  }
  if (status.state === "idle") {
    return status.entry.said || (status.entry.state === "finished" ? "done: look at its epochs" : status.entry.state);
  }
  return status.text;
}

/** The run's curves with the marks of leaps, its newest previews, and what there is to know of it. */
export class RunPanel {
  constructor(look) {
    this.look = look;
    this.curves = new Curves();
    this.shown = { entry: null, turnedBack: 0 };
    this.empty = made(
      "p",
      "lazylora-empty",
      "Nothing has trained yet. Give a folder and a name above and press Train: the curves, and a picture for every "
        + "epoch, appear here.",
    );
    this.canvas = made("canvas", "lazylora-curves");
    this.explained = made(
      "p",
      "lazylora-hint",
      "Above the loss, which is noisy and falls slowly; below the learning rate in effect. A red line marks a sudden "
        + "leap of it: epochs before that are often the better ones.",
    );
    this.previews = made("div", "lazylora-previews");
    this.notes = made("ul", "lazylora-notes");
    this.full = made("div", "", this.canvas, this.explained, this.previews, this.notes);
    this.element = made("div", "lazylora-run", this.empty, this.full);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  async show(status) {
    this.empty.hidden = Boolean(status.entry);
    this.full.hidden = !status.entry;
    if (!status.entry || !this.element.isConnected) {
      return;
    }
    this.showPreviews(status.previews ?? []);
    this.showNotes(status);
    await this.followCurve(status);
  }

  /** Ask only for the steps that are new; from the first again where the run has gone back. */
  async followCurve(status) {
    const isOther = this.shown.entry !== status.entry.id;
    if (isOther) {
      this.curves.clear();
      this.shown = { entry: status.entry.id, turnedBack: 0, revision: -1 };
    }
    if (this.shown.revision === status.revision) {
      return;
    }
    let found = await this.look.server.read(`events?after=${this.curves.lastStep}`);
    if (found.turned_back !== this.shown.turnedBack) {
      this.curves.clear();
      found = await this.look.server.read("events?after=0");
    }
    Object.assign(this.shown, { turnedBack: found.turned_back, revision: status.revision });
    this.curves.totalSteps = found.total_steps || status.total_steps;
    this.curves.add(found.measurements);
    this.curves.spikes = found.spikes;
    this.redraw();
  }

  showPreviews(ids) {
    if (this.previews.dataset.ids === ids.join()) {
      return;
    }
    this.previews.dataset.ids = ids.join();
    this.previews.replaceChildren(...ids.map((id) => {
      const image = made("img");
      Object.assign(image, { src: this.look.server.address(`previews/${id}`), alt: "the newest preview" });
      return image;
    }));
  }

  showNotes({ announced, warnings }) {
    const lines = [...announced.map((text) => ["", text]), ...warnings.map((text) => ["lazylora-warning", text])];
    if (this.notes.dataset.lines !== JSON.stringify(lines)) {
      this.notes.dataset.lines = JSON.stringify(lines);
      this.notes.replaceChildren(...lines.map(([className, text]) => made("li", className, text)));
    }
  }

  redraw() {
    requestAnimationFrame(() => draw(this.canvas, this.curves, inkOf(this.canvas)));
  }
}

/** The recipes that wait, with what became of those that are done: reorder, resume, remove. */
export class QueuePanel {
  constructor(look) {
    this.look = look;
    this.list = made("ol", "lazylora-queue");
    this.said = made("p", "lazylora-hint");
    this.startButton = made("button", "lazylora-button", "Start the queue");
    this.startButton.onclick = () => this.change("queue/start", {});
    this.empty = made("p", "lazylora-empty", "It is empty.");
    this.element = made("div", "", this.empty, this.list, this.startButton, this.said);
  }

  show({ queue, state }) {
    this.empty.hidden = queue.length > 0;
    this.startButton.hidden = state !== "idle" || !queue.some((each) => each.state === "waiting");
    const seen = JSON.stringify(queue);
    if (this.list.dataset.seen !== seen) {
      this.list.dataset.seen = seen;
      this.list.replaceChildren(...queue.map((entry, place) => this.row(entry, place, queue.length)));
    }
  }

  row(entry, place, count) {
    const badge = made("span", `lazylora-badge lazylora-${entry.state}`, SMALL_STATES[entry.state] ?? entry.state);
    const text = made("span", "lazylora-text", entry.said);
    const buttons = made("span", "lazylora-buttons");
    const add = (label, help, path, values) => {
      const button = made("button", "lazylora-button", label);
      button.title = help;
      button.onclick = () => this.change(path, { id: entry.id, ...values });
      buttons.append(button);
    };
    if (RESUMABLE.includes(entry.state)) {
      add("Resume", "go on from where it stands", "resume", {});
    }
    if (entry.state === "waiting" && place > 0) {
      add("↑", "earlier", "queue/move", { position: place - 1 });
    }
    if (entry.state === "waiting" && place < count - 1) {
      add("↓", "later", "queue/move", { position: place + 1 });
    }
    if (entry.state !== "running") {
      add("✕", "take it out of the queue; its epochs stay", "queue/remove", {});
    }
    return made("li", "", made("strong", "", entry.title), badge, text, buttons);
  }

  async change(path, values) {
    this.said.textContent = await this.look.change(path, values);
  }
}

/** The colour of an element's text as #rrggbb, as the chart takes it. */
function inkOf(element) {
  const parts = getComputedStyle(element).color.match(/[\d.]+/g) ?? [];
  const hex = parts.slice(0, 3).map((each) => Math.round(Number(each)).toString(16).padStart(2, "0"));
  return hex.length === 3 ? `#${hex.join("")}` : "#888888";
}
