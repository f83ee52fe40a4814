/* One row in the list of own uploads: what it shows in each state, and what its buttons do. */

import { fromTemplate, setIcon, setText } from "../common/dom.js";
import { percent, rate, size, timeLeft } from "../common/format.js";
import { Meter } from "./meter.js";

const WORDS = {
  waiting: "Waiting",
  sending: "Sending",
  paused: "Paused",
  retrying: "Reconnecting",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  skipped: "Skipped",
};
const ICONS = {
  paused: "i-pause",
  retrying: "o-interrupted",
  done: "o-complete",
  failed: "o-failed",
  cancelled: "o-cancelled",
  skipped: "o-aborted",
};
const PAUSE = { act: "pause", icon: "i-pause", title: "Pause", label: (name) => `Pause ${name}` };
const RESUME = { act: "resume", icon: "i-play", title: "Go on", label: (name) => `Go on with ${name}` };
const RETRY = { act: "retry", icon: "i-retry", title: "Try again", label: (name) => `Try ${name} again` };
const MAIN = { waiting: PAUSE, sending: PAUSE, retrying: PAUSE, paused: RESUME, failed: RETRY, cancelled: RETRY };
const ACTIVE = new Set(["waiting", "sending", "paused", "retrying"]);

export class UploadRow {
  #name;
  #bytes;
  #sent = 0;
  #slots;
  #progress;
  #main; // one button for pause, go on and try again, so that whoever has pressed it keeps the focus
  #cancel;
  #meter = new Meter();

  /* bytes: null for what could not even be read. */
  constructor(name, bytes) {
    const { element, slots } = fromTemplate("upload-row");
    this.element = element;
    this.#slots = slots;
    this.#name = name;
    this.#bytes = bytes;
    this.#progress = element.querySelector("progress");
    [this.#main, this.#cancel] = element.querySelectorAll("button");
    element.dataset.name = name;
    // The folder may be cut short, the file's own name is to be seen.
    const base = name.lastIndexOf("/", name.length - 2) + 1;
    slots.folder.textContent = name.slice(0, base);
    slots.base.textContent = name.slice(base);
    slots.name.title = name;
    this.#progress.setAttribute("aria-label", `Upload of ${name}`);
  }

  get sent() {
    return this.#sent;
  }

  /* isFinal: trying again would not help. */
  state(state, sentence = "", isFinal = false) {
    this.element.dataset.state = state;
    setText(this.#slots.state, WORDS[state]);
    const icon = this.element.querySelector(".u-state svg");
    if (ICONS[state]) setIcon(icon, ICONS[state]);
    else icon.setAttribute("hidden", "");
    if (state === "done") this.#sent = this.#bytes;
    if (state === "retrying") this.#foot(this.#amount(), sentence || `Waiting for the ${navigator.onLine ? "server" : "network"} …`);
    else this.#foot(sentence || this.#amount());
    this.#meter.reset();
    this.#buttons(state, isFinal);
  }

  progress(bytes) {
    this.#sent = Math.min(bytes, this.#bytes);
    this.#meter.add(this.#sent);
    const done = percent(this.#sent, this.#bytes);
    this.#progress.value = done;
    setText(this.#slots.state, `${done}\u00a0%`);
    const speed = this.#meter.rate;
    // All bytes have left; the server still writes and checks them.
    if (this.#sent >= this.#bytes) this.#foot(`${size(this.#bytes)}, being stored …`);
    else this.#foot(this.#amount(), speed ? rate(speed) : "", timeLeft(this.#bytes - this.#sent, speed));
  }

  #buttons(state, isFinal) {
    const title = ACTIVE.has(state) ? "Cancel" : "Remove from the list";
    this.#cancel.title = title;
    this.#cancel.setAttribute("aria-label", `${title}: ${this.#name}`);
    const main = isFinal ? null : MAIN[state];
    if (!main) {
      if (document.activeElement === this.#main) this.#cancel.focus();
      this.#main.hidden = true;
      return;
    }
    this.#main.hidden = false;
    this.#main.dataset.act = main.act;
    this.#main.title = main.title;
    this.#main.setAttribute("aria-label", main.label(this.#name));
    setIcon(this.#main.firstElementChild, main.icon);
  }

  #amount() {
    if (this.#bytes === null) return "";
    const all = size(this.#bytes);
    return this.#sent > 0 && this.#sent < this.#bytes ? `${size(this.#sent)} of ${all}` : all;
  }

  #foot(amount, speed = "", left = "") {
    setText(this.#slots.amount, amount);
    setText(this.#slots.rate, speed);
    setText(this.#slots.left, left);
  }
}
