/* One row in the list of own uploads: what it shows in each state. */

import { fromTemplate, setIcon, setText } from "./dom.js";
import { percent, rate, size, timeLeft } from "./format.js";

const WORDS = { waiting: "Waiting", sending: "Sending", done: "Done", failed: "Failed", cancelled: "Cancelled", skipped: "Skipped" };
const ICONS = { done: "o-complete", failed: "o-failed", cancelled: "o-cancelled", skipped: "o-aborted" };
const ACTIVE = new Set(["waiting", "sending"]);
const WINDOW = 4_000; // ms over which the rate is taken

export class UploadRow {
  #slots;
  #samples = [];
  #bytes;

  constructor(name, bytes) {
    const { element, slots } = fromTemplate("upload-row");
    this.element = element;
    this.#slots = slots;
    this.#bytes = bytes;
    this.progress = element.querySelector("progress");
    this.cancel = element.querySelector("[data-act=cancel]");
    this.retry = element.querySelector("[data-act=retry]");
    element.dataset.name = name;
    slots.name.textContent = name;
    slots.name.title = name;
    this.progress.setAttribute("aria-label", `Upload of ${name}`);
    this.retry.setAttribute("aria-label", `Try ${name} again`);
    this.retry.title = "Try again";
  }

  state(state, sentence = "") {
    const { name } = this.element.dataset;
    this.element.dataset.state = state;
    setText(this.#slots.state, WORDS[state]);
    const icon = this.element.querySelector(".u-state svg");
    if (ICONS[state]) setIcon(icon, ICONS[state]); else icon.setAttribute("hidden", "");
    this.#foot(sentence || size(this.#bytes));
    this.#samples = [];
    this.retry.hidden = state !== "failed" && state !== "cancelled";
    // One button, so that whoever has just pressed it keeps the focus.
    const action = ACTIVE.has(state) ? "Cancel" : "Remove from the list";
    this.cancel.title = action;
    this.cancel.setAttribute("aria-label", `${action}: ${name}`);
    if (state === "waiting") this.progress.value = 0;
    if (state === "done") this.progress.value = 100;
  }

  sent(loaded) {
    const now = performance.now();
    const bytes = Math.min(loaded, this.#bytes);
    this.#samples.push({ now, bytes });
    while (now - this.#samples[0].now > WINDOW) this.#samples.shift();
    const speed = this.#speed();
    const done = percent(bytes, this.#bytes);
    this.progress.value = done;
    setText(this.#slots.state, `${done}\u00a0%`);
    // All bytes have left; the server still writes and checks them.
    if (bytes >= this.#bytes) this.#foot(`${size(this.#bytes)}, being stored …`);
    else this.#foot(`${size(bytes)} of ${size(this.#bytes)}`, speed ? rate(speed) : "", timeLeft(this.#bytes - bytes, speed));
  }

  #speed() {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    const elapsed = (last.now - first.now) / 1000;
    return elapsed > 0.2 ? (last.bytes - first.bytes) / elapsed : 0;
  }

  #foot(amount, speed = "", left = "") {
    setText(this.#slots.amount, amount);
    setText(this.#slots.rate, speed);
    setText(this.#slots.left, left);
  }
}
