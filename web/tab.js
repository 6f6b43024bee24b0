// The live parts of the tab in A1111, Forge and our own page: what trains now, the queue, the runs with their epochs.
// They sit in empty places that the server's page has left for them, and poll the /lazylora/ routes that this file
// came from.
//
// A UI with txt2img says how to reach it by setting, at any time,
//   globalThis.lazyloraUi = {sendToTxt2img(text), openXyzPlot({prompt, stems})};
// buttons for what is not there are not shown.

import { EpochsPanel } from "./tab_epochs.js";
import { QueuePanel, RunPanel, StripPanel } from "./tab_run.js";
import { Server } from "./tab_server.js";

const [FAST, SLOW] = [1000, 4000]; // milliseconds between looks while something trains, and while nothing does
const PREFIX = "lazylora_live_";

/** Put the panels into their places, now and whenever the page makes these anew, and keep them up to date. */
export function start(server = new Server(new URL("../", import.meta.url))) {
  const look = new Look(server);
  const panels = {
    strip: new StripPanel(look),
    run: new RunPanel(look),
    queue: new QueuePanel(look),
    epochs: new EpochsPanel(look),
  };
  look.listeners.push(...Object.values(panels));
  document.head.append(stylesheet(new URL("./tab.css", import.meta.url)));
  const settle = () => Object.entries(panels).forEach(([name, panel]) => place(panel.element, PREFIX + name));
  new MutationObserver(settle).observe(document.body, { childList: true, subtree: true });
  document.addEventListener("visibilitychange", () => document.hidden || look.soon());
  settle();
  look.soon();
  return look;
}

/** Asks the server how things are, again and again while anybody can see it, and tells the panels. */
class Look {
  constructor(server) {
    this.server = server;
    this.listeners = [];
    this.status = null;
    this.timer = 0;
  }

  /** Look at once, as something has just changed. */
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.once(), 0);
  }

  async once() {
    if (document.hidden || !this.listeners.some((each) => each.element.isConnected)) {
      this.again(SLOW);
      return;
    }
    try {
      this.status = await this.server.read("status");
      const shown = await Promise.allSettled(this.listeners.map(async (each) => each.show(this.status)));
      const failed = shown.find((each) => each.status === "rejected");
      if (failed) {
        throw failed.reason;
      }
    } catch (error) {
      this.listeners.forEach((each) => each.trouble?.(error.message));
    }
    this.again(this.status?.state === "idle" ? SLOW : FAST);
  }

  /** Have the server do something; what it says against it is given back as words, "" is none. */
  async change(path, values) {
    try {
      await this.server.change(path, values);
      return "";
    } catch (error) {
      return error.message;
    } finally {
      this.soon();
    }
  }

  again(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.once(), milliseconds);
  }
}

function place(element, id) {
  const there = document.getElementById(id);
  if (there && element.parentNode !== there) {
    there.replaceChildren(element);
  }
}

function stylesheet(address) {
  return Object.assign(document.createElement("link"), { rel: "stylesheet", href: address.href });
}

// ComfyUI imports every file of this folder, from elsewhere, and has no such tab
if (new URL(import.meta.url).pathname.endsWith("/lazylora/web/tab.js") && !globalThis.lazyloraTab) {
  globalThis.lazyloraTab = start();
}
