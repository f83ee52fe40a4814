/* One row of the live table: built once, then only the texts that changed are written. */

import { fromTemplate, setIcon, setText } from "../common/dom.js";
import { percent, rate, size, timeLeft } from "../common/format.js";

const WORDS = { download: "Download", upload: "Upload" };
const STATES = { running: "", paused: "Paused", waiting: "Waiting for the sender" };
const OUTCOMES = { complete: "Complete", aborted: "Broken off", cancelled: "Cancelled", failed: "Failed" };
const VIAS = { tcp: "TCP", web: "Web" };

export class LiveRow {
  #slots;
  #progress;
  #button;

  constructor(id) {
    const { element, slots } = fromTemplate("live-row");
    this.element = element;
    this.#slots = slots;
    this.#progress = element.querySelector("progress");
    this.#button = element.querySelector("button");
    element.dataset.id = id;
  }

  show(transfer) {
    if (this.element.dataset.name !== transfer.name) this.#name(transfer);
    const done = percent(transfer.done, transfer.length);
    if (this.#progress.value !== done) this.#progress.value = done;
    setText(this.#slots.percent, `${done}\u00a0%`);
    setText(this.#slots.amount, `${size(transfer.done)} of ${size(transfer.length)}`);
    const moving = !transfer.outcome && transfer.state === "running";
    setText(this.#slots.rate, moving ? rate(transfer.rate) : "–");
    setText(this.#slots.left, moving ? timeLeft(transfer.length - transfer.done, transfer.rate) : "");
    setText(this.#slots.client, transfer.client);
    setText(this.#slots.thread, [transfer.user, VIAS[transfer.via], transfer.thread].filter(Boolean).join(" · "));
    this.#state(transfer);
  }

  cancelling() {
    // Not disabled: that would take the focus away from whoever pressed it.
    this.#button.setAttribute("aria-disabled", "true");
    setText(this.#slots.state, "Cancelling …");
  }

  get isCancelling() {
    return this.#button.hasAttribute("aria-disabled");
  }

  notCancelled() {
    this.#button.removeAttribute("aria-disabled");
    setText(this.#slots.state, "");
  }

  #name({ name, direction }) {
    this.element.dataset.name = name;
    this.element.dataset.direction = direction;
    this.#slots.name.textContent = name;
    this.#slots.name.title = name;
    this.#slots.direction.textContent = WORDS[direction];
    setIcon(this.element.querySelector(".direction svg"), `i-${direction}`);
    this.#progress.setAttribute("aria-label", `${WORDS[direction]} of ${name}`);
    this.#button.setAttribute("aria-label", `Cancel the ${direction} of ${name}`);
    this.#button.title = "Cancel";
  }

  #state(transfer) {
    const state = transfer.outcome ?? transfer.state;
    if (this.element.dataset.state !== state) this.element.dataset.state = state;
    if (transfer.outcome) this.#button.setAttribute("aria-disabled", "true"); // hidden, it would lose the focus
    else if (this.isCancelling) return;
    const words = [OUTCOMES[transfer.outcome] ?? STATES[transfer.state] ?? "", transfer.outcome ? "" : pace(transfer.pace)];
    setText(this.#slots.state, words.filter(Boolean).join(" · "));
  }
}

function pace(value) {
  if (!value) return "";
  const words = value.chunk === 1000 && value.pause === 0.2 ? "Slow motion" : "Paced";
  return `${words}, ${value.chunk} bytes each ${value.pause} s`;
}
