// The runs on disk and their epochs: previews side by side, a name for the best, the way into txt2img.

import { made } from "./elements.js";

const MOST_RUNS = 30;
const [LOOK_EVERY, LOOK_AT_MOST_EVERY] = [5000, 1500]; // milliseconds, while nothing has changed and while much does

export class EpochsPanel {
  constructor(look) {
    this.look = look;
    this.runs = [];
    this.chosen = null; // a run's id
    this.compared = new Set(); // stems
    this.seen = "";
    this.lookedAt = { revision: -1, when: 0 };
    this.names = made("div", "lazylora-names");
    this.said = made("div", "lazylora-hint");
    this.said.setAttribute("role", "status");
    this.room = made("div", "lazylora-epochs");
    this.empty = made("p", "lazylora-empty", "No run yet. Every epoch of a run appears here the moment it is saved.");
    this.element = made("div", "", this.empty, this.names, this.said, this.room);
  }

  async show({ revision }) {
    const patience = revision === this.lookedAt.revision ? LOOK_EVERY : LOOK_AT_MOST_EVERY;
    if (this.element.isConnected && Date.now() - this.lookedAt.when > patience) {
      await this.lookAgain(revision);
    }
  }

  async lookAgain(revision = -1) {
    this.lookedAt = { revision, when: Date.now() };
    const { runs } = await this.look.server.read("runs");
    this.runs = runs.slice(0, MOST_RUNS);
    this.render();
  }

  get run() {
    return this.runs.find((each) => each.id === this.chosen) ?? this.runs[0];
  }

  render() {
    const seen = JSON.stringify([this.runs, this.chosen, [...this.compared], Boolean(globalThis.lazyloraUi)]);
    if (seen === this.seen) {
      return;
    }
    this.seen = seen;
    this.empty.hidden = this.runs.length > 0;
    this.names.replaceChildren(...this.runs.map((run) => this.nameOf(run)));
    this.room.replaceChildren(...(this.run ? this.contentsOf(this.run) : []));
  }

  nameOf(run) {
    const button = made("button", "lazylora-name", made("span", "", run.name));
    button.append(made("small", "", run.finished ? many(run.epochs.length) : `${many(run.epochs.length)} so far`));
    button.setAttribute("aria-pressed", String(run === this.run));
    button.onclick = () => {
      this.chosen = run.id;
      this.compared.clear();
      this.render();
    };
    return button;
  }

  contentsOf(run) {
    const cards = made("div", "lazylora-cards", ...run.epochs.map((epoch) => this.card(run, epoch)));
    const compared = run.epochs.filter((epoch) => this.compared.has(epoch.stem));
    return [this.barOf(run), ...(compared.length ? [this.comparison(compared)] : []), cards];
  }

  barOf(run) {
    const bar = made("div", "lazylora-buttons");
    const ui = globalThis.lazyloraUi;
    const stems = run.epochs.map((epoch) => epoch.stem);
    if (ui?.openXyzPlot && stems.length) {
      bar.append(this.button("X/Y/Z plot over these epochs", "opens txt2img with the axis filled in", () =>
        ui.openXyzPlot({ prompt: run.trigger, stems })));
    }
    if (!run.finished && this.look.status?.run !== run.id) {
      bar.append(this.button("Resume", "go on from where it stands", () => this.resume(run)));
    }
    const other = this.runs.find((each) => each.id !== run.id);
    if (other) {
      bar.append(this.button(`What differs from ${other.name}?`, "the settings of both", () => this.tell(run, other)));
    }
    bar.append(this.button("Delete the run…", "its epochs, previews and curves", () => this.deleteRun(run)));
    return bar;
  }

  resume(run) {
    // the page of its own asks which model; in a UI it is the one that is loaded
    const model = document.querySelector("#lazylora_model input")?.value ?? "";
    this.change("resume", { run: run.id, model }, `${run.name} goes on`);
  }

  async tell(run, other) {
    const { differences } = await this.look.server.read(`compare?first=${run.id}&second=${other.id}`);
    const lines = differences.map(({ setting, first, second }) =>
      made("li", "", `${setting}: ${said(first)}, in ${other.name} ${said(second)}`));
    this.said.replaceChildren(...(lines.length ? lines : [`${other.name} has the same settings`]));
  }

  card(run, epoch) {
    const pictures = epoch.previews.map((id) => this.picture(id, `epoch ${epoch.number}`));
    const stage = made("div", "lazylora-stage", ...(pictures.length ? pictures : [made("span", "", "no preview")]));
    const title = made("strong", "", `Epoch ${epoch.number}`);
    const size = made("small", "", bytes(epoch.bytes));
    const buttons = made("div", "lazylora-buttons");
    const ui = globalThis.lazyloraUi;
    if (ui?.sendToTxt2img) {
      const words = promptOf(run, epoch);
      buttons.append(this.button("Send to txt2img", `puts ${words} into the prompt`, () => ui.sendToTxt2img(words)));
    } else {
      buttons.append(this.button("Copy words", `copies ${promptOf(run, epoch)}`, () => this.copy(run, epoch)));
    }
    buttons.append(this.button("Keep…", "copy it under a final name, with its preview and words", () =>
      this.askForName(run, epoch, card)));
    const compare = this.button("Compare", "beside others, large", () => this.toggle(epoch.stem));
    compare.setAttribute("aria-pressed", String(this.compared.has(epoch.stem)));
    buttons.append(compare);
    const remove = this.button("✕", "delete this epoch…", () => this.deleteEpoch(run, epoch));
    const card = made("figure", "lazylora-card", stage, made("figcaption", "", title, size, remove), buttons);
    return card;
  }

  comparison(epochs) {
    const columns = epochs.map((epoch) => {
      const pictures = epoch.previews.map((id) => this.picture(id, `epoch ${epoch.number}, enlarged`));
      return made("figure", "", made("figcaption", "", `Epoch ${epoch.number}`), ...pictures);
    });
    return made("div", "lazylora-comparison", ...columns);
  }

  toggle(stem) {
    if (!this.compared.delete(stem)) {
      this.compared.add(stem);
    }
    this.render();
  }

  /** A form in the card: the final name, and what to remember about it. */
  askForName(run, epoch, card) {
    const name = Object.assign(made("input"), { value: run.name, placeholder: "final name" });
    const notes = Object.assign(made("input"), { placeholder: "notes, if you like" });
    name.setAttribute("aria-label", "final name");
    notes.setAttribute("aria-label", "notes");
    const form = made("form", "lazylora-form", name, notes);
    const save = made("button", "lazylora-button lazylora-main", "Keep it");
    save.type = "submit";
    form.append(save, this.button("Cancel", "", () => form.remove()));
    form.onsubmit = (event) => {
      event.preventDefault();
      const values = { run: run.id, number: epoch.number, final_name: name.value.trim(), notes: notes.value };
      this.change("promote", values, `epoch ${epoch.number} is kept as ${values.final_name}`);
      form.remove();
    };
    card.querySelector("form")?.remove();
    card.append(form);
    name.select();
  }

  deleteEpoch(run, epoch) {
    if (confirm(`Delete epoch ${epoch.number} of ${run.name}? This cannot be undone.`)) {
      const values = { run: run.id, number: epoch.number, confirmed: true };
      this.change("delete", values, `epoch ${epoch.number} is deleted`);
    }
  }

  deleteRun(run) {
    if (confirm(`Delete the run ${run.name} with ${many(run.epochs.length)}? This cannot be undone.`)) {
      this.change("delete", { run: run.id, number: null, confirmed: true }, `${run.name} is deleted`);
    }
  }

  async copy(run, epoch) {
    await navigator.clipboard?.writeText(promptOf(run, epoch));
    this.said.textContent = `copied: ${promptOf(run, epoch)}`;
  }

  async change(path, values, done) {
    const refusal = await this.look.change(path, values);
    this.said.textContent = refusal || done;
    this.said.classList.toggle("lazylora-trouble", Boolean(refusal));
    await this.lookAgain();
  }

  picture(id, alt) {
    return Object.assign(made("img"), { loading: "lazy", alt, src: this.look.server.address(`previews/${id}`) });
  }

  button(label, help, act) {
    const button = made("button", "lazylora-button", label);
    button.title = help;
    button.onclick = act;
    return button;
  }
}

/** What a prompt needs to have the epoch: `<lora:cat-000003:1>, zwx`. */
export function promptOf(run, epoch) {
  return [`<lora:${epoch.stem}:1>`, run.trigger].filter(Boolean).join(", ");
}

function said(value) {
  return value === null || value === "" ? "none" : typeof value === "string" ? value : JSON.stringify(value);
}

function bytes(size) {
  return size < 1e6 ? `${Math.round(size / 1e3)} KB` : `${(size / 1e6).toPrecision(3)} MB`;
}

function many(count) {
  return count === 1 ? "1 epoch" : `${count} epochs`;
}
