/* The list of own uploads as a person sees it: what moves comes first, and above it stands how far all of them are together. */

import { setText } from "../common/dom.js";
import { percent, rate, size, timeLeft } from "../common/format.js";
import { Meter } from "./meter.js";

const PAUSE = 150; // ms: a folder of small files changes its rows many times a second
const RANK = { sending: 0, retrying: 0, waiting: 1, paused: 2, failed: 3, cancelled: 4, skipped: 4, done: 4 };
const COUNTED = new Set(["sending", "retrying", "waiting", "paused", "done"]); // in the bytes of all
const byId = (id) => document.getElementById(id);
const sum = (uploads, bytes) => uploads.reduce((total, upload) => total + bytes(upload), 0);

export class UploadList {
  #element = byId("uploads");
  #uploads;
  #meter = new Meter();
  #timer = null;
  #pointed = false; // a row must not move away from under a pointer that is about to press its button

  /* uploads() gives [{ state, row, bytes }] in the order in which they came. */
  constructor(uploads) {
    this.#uploads = uploads;
    this.#element.addEventListener("pointerenter", () => { this.#pointed = true; });
    this.#element.addEventListener("pointerleave", () => {
      this.#pointed = false;
      this.changed();
    });
  }

  /* Shown a moment later, together with other changes. */
  changed() {
    this.#timer ??= setTimeout(() => this.show(), PAUSE);
  }

  show() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const uploads = this.#uploads();
    if (!this.#pointed) this.#arrange(uploads);
    byId("uploads-panel").hidden = uploads.length === 0;
    setText(byId("uploads-count"), counts(uploads));
    this.#total(uploads);
  }

  #arrange(uploads) {
    const rows = [...uploads].sort((a, b) => RANK[a.state] - RANK[b.state]).map(({ row }) => row.element);
    // What has the focus would lose it if it were moved: all others are moved around it.
    const fixed = rows.findIndex((row) => row.contains(document.activeElement));
    let next = null;
    for (let at = rows.length - 1; at >= 0; at -= 1) {
      if (at !== fixed && (rows[at].nextElementSibling !== next || !rows[at].isConnected)) this.#element.insertBefore(rows[at], next);
      next = rows[at];
    }
  }

  #total(uploads) {
    const counted = uploads.filter(({ state }) => COUNTED.has(state));
    const open = counted.filter(({ state }) => state !== "done");
    byId("uploads-total").hidden = uploads.length < 2 || open.length === 0;
    const all = sum(counted, ({ bytes }) => bytes);
    const sent = sum(counted, ({ row }) => row.sent);
    this.#meter.add(sent);
    const done = all ? percent(sent, all) : percent(counted.length - open.length, counted.length);
    byId("uploads-bar").value = done;
    setText(byId("uploads-percent"), `${done}\u00a0%`);
    setText(byId("uploads-amount"), `${size(sent)} of ${size(all)}`);
    const speed = this.#meter.rate;
    setText(byId("uploads-rate"), speed ? rate(speed) : "");
    // What is paused does not come by itself, however long one waits.
    const coming = open.filter(({ state }) => state !== "paused");
    setText(byId("uploads-left"), timeLeft(sum(coming, ({ bytes, row }) => bytes - row.sent), speed));
  }
}

function counts(uploads) {
  const count = (state) => uploads.filter((upload) => upload.state === state).length;
  const failed = count("failed");
  return `${count("done")} of ${uploads.length} done${failed ? `, ${failed} failed` : ""}`;
}
