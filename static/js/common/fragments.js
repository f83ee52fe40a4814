/* The parts of the page that the server writes: asked for anew when the news say so, and swapped in without taking away the focus.
   htmx does the swapping; what it does not do is to find the same row again in a new table. */

import { announce } from "./announce.js";
import { focusFirst } from "./dom.js";
import { localise } from "./times.js";

const PAUSE = 1_000; // ms: a hundred changes in a second are one refresh
const FRAGMENTS = new Set(["files", "recent", "history", "receipts"]);
const REFRESHERS = new Set(["files-refresh", "history-refresh"]);

/* Calls of the returned function within PAUSE of the last refresh are put together into one. */
export function throttled(element) {
  let last = 0;
  let timer = null;
  const fire = () => {
    last = Date.now();
    timer = null;
    element.dispatchEvent(new Event("refresh"));
  };
  return (delay = 0) => {
    timer ??= setTimeout(fire, Math.max(delay, last + PAUSE - Date.now()));
  };
}

/* Where the focus is, in words that survive a swap: the file's name, its place, and which of the row's controls. */
function place(target) {
  const active = document.activeElement;
  const row = active && target.contains(active) ? active.closest("[data-name]") : null;
  if (!row) return active && target.contains(active) ? { id: active.id } : null;
  const rows = [...target.querySelectorAll("tbody [data-name]")];
  return { name: row.dataset.name, index: rows.indexOf(row), act: active.dataset.act };
}

/* The same control of the same row; if the row is gone, of the row that has taken its place, else of the last one. */
function restore(target, { id, name, index, act }) {
  const rows = [...target.querySelectorAll("tbody [data-name]")];
  const row = rows.find((candidate) => candidate.dataset.name === name) ?? rows[Math.min(index, rows.length - 1)];
  const control = act && row?.querySelector(`[data-act="${act}"]`);
  focusFirst(id && document.getElementById(id), control, document.getElementById("search"), document.getElementById("content"));
}

export function watchFragments() {
  const lastText = new Map(); // element id → response text
  let focus = null;
  markFresh(document);

  document.body.addEventListener("htmx:configRequest", (event) => {
    // A refresh shows the very list that is being looked at: its search, sort and page are in the address.
    if (REFRESHERS.has(event.detail.elt.id)) event.detail.path = location.pathname + location.search;
  });
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (!FRAGMENTS.has(target?.id) || xhr.status !== 200) return;
    // Nothing new: swapping would only lose selections and hover.
    if (lastText.get(target.id) === xhr.responseText) event.detail.shouldSwap = false;
    lastText.set(target.id, xhr.responseText);
    focus = place(target);
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    const { target, requestConfig } = event.detail; // neither is there when history is restored
    if (!FRAGMENTS.has(target?.id)) return;
    localise(target);
    if (target.id === "recent") markFresh(target);
    if (focus && !target.contains(document.activeElement)) restore(target, focus);
    focus = null;
    if (requestConfig?.elt.matches("form")) announceSummary(target);
  });
  document.body.addEventListener("htmx:historyRestore", () => {
    lastText.clear();
    localise(document);
    const search = document.querySelector("input[type=search]");
    if (search) search.value = new URLSearchParams(location.search).get("q") ?? "";
  });
}

/* Recent transfers that were not in the list before light up for a moment. */
let seen = null;

function markFresh(root) {
  const items = [...root.querySelectorAll("[data-key]")];
  for (const item of items) item.classList.toggle("fresh", seen !== null && !seen.has(item.dataset.key));
  seen = new Set(items.map((item) => item.dataset.key));
}

function announceSummary(target) {
  const summary = target.querySelector("[data-summary]");
  if (summary) announce(summary.dataset.summary || summary.textContent.trim());
}
