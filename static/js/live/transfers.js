/* The table of everything that moves, for every client. Rows have keys and are changed in place; a row that
   has ended stays a moment, so that its end can be seen. */

import { focusFirst, setText } from "../common/dom.js";
import { count } from "../common/format.js";
import { LiveRow } from "./row.js";
import { STATES } from "../common/state.js";

const SHOWN = 50;
const LINGER = 1_500; // ms

const byId = (id) => document.getElementById(id);

export class Transfers {
  #body = byId("live");
  #more = byId("live-more");
  #data = new Map(); // id → the newest known state
  #rows = new Map(); // id → LiveRow, for those on the page
  #total = 0; // the server counts more than it lists when there are very many
  #expanded = false;

  constructor(cancel) {
    this.#body.addEventListener("click", (event) => {
      const row = event.target.closest("[data-act=cancel]")?.closest("tr");
      if (row) this.#cancel(Number(row.dataset.id), cancel);
    });
    this.#more.addEventListener("click", () => {
      this.#expanded = !this.#expanded;
      this.#layout();
    });
  }

  /* message: the news, if the state is "online"; else nothing is known of what moves. */
  show(state, message) {
    setText(byId("live-empty").querySelector("span"), STATES[state].idle);
    if (state === "online") this.#apply(message);
    else this.#clear();
  }

  #apply(message) {
    const before = this.#data.size;
    let changed = message.full && this.#dropAllBut(message.transfers);
    changed ||= message.transfers.some((transfer) => !this.#data.has(transfer.id));
    for (const transfer of message.transfers) {
      this.#data.set(transfer.id, transfer);
      this.#rows.get(transfer.id)?.show(transfer);
    }
    for (const transfer of message.ended) this.#end(transfer);
    changed ||= this.#total !== message.status.transfers || before !== this.#data.size;
    this.#total = message.status.transfers;
    if (changed) this.#layout();
  }

  #clear() {
    this.#data.clear();
    this.#total = 0;
    this.#layout();
  }

  #dropAllBut(transfers) {
    const ids = new Set(transfers.map((transfer) => transfer.id));
    const gone = [...this.#data].filter(([id, transfer]) => !ids.has(id) && !transfer.outcome);
    for (const [id] of gone) this.#data.delete(id);
    return gone.length > 0;
  }

  #end(transfer) {
    const row = this.#rows.get(transfer.id);
    if (!row) return void this.#data.delete(transfer.id);
    this.#data.set(transfer.id, transfer);
    row.show(transfer);
    setTimeout(() => {
      // The id may have come back meanwhile: a restarted server counts from one again.
      if (this.#data.get(transfer.id) !== transfer) return;
      this.#data.delete(transfer.id);
      this.#layout();
    }, LINGER);
  }

  #layout() {
    const ids = [...this.#data.keys()].sort((a, b) => b - a); // newest first
    const shown = this.#expanded ? ids : ids.slice(0, SHOWN);
    this.#removeAllBut(new Set(shown));
    let next = this.#body.firstElementChild;
    for (const id of shown) {
      const { element } = this.#rows.get(id) ?? this.#build(id);
      if (element === next) next = next.nextElementSibling;
      else this.#body.insertBefore(element, next);
    }
    this.#summary(ids.length, shown.length);
  }

  #build(id) {
    const row = new LiveRow(id);
    row.show(this.#data.get(id));
    this.#rows.set(id, row);
    return row;
  }

  #removeAllBut(ids) {
    for (const [id, { element }] of this.#rows) {
      if (ids.has(id)) continue;
      const neighbours = element.contains(document.activeElement) ? [element.nextElementSibling, element.previousElementSibling] : null;
      element.remove();
      this.#rows.delete(id);
      if (neighbours) focusFirst(...neighbours.map((row) => row?.querySelector("button")), byId("live-scroller"), byId("content"));
    }
  }

  #summary(known, shown) {
    const total = Math.max(this.#total, known);
    byId("live-scroller").hidden = known === 0;
    byId("live-empty").hidden = known > 0;
    byId("live-count").hidden = total === 0;
    setText(byId("live-count"), count(total));
    setText(byId("live-note"), this.#expanded && total > known ? `the newest ${count(known)} are listed` : "");
    this.#more.hidden = known <= SHOWN;
    this.#more.setAttribute("aria-expanded", String(this.#expanded));
    setText(this.#more, this.#expanded ? `Show only the newest ${SHOWN}` : `and ${count(total - shown)} more`);
  }

  async #cancel(id, cancel) {
    const row = this.#rows.get(id);
    if (row.isCancelling) return;
    row.cancelling();
    if (!await cancel(id)) row.notCancelled();
  }
}
