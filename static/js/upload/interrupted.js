/* The note on uploads that a reload or the end of the browser has interrupted. The page cannot open their files by itself: whoever
   chooses or drops them again goes on where they stopped; whoever does not want them any more can have them thrown away. */

import { announce, notice } from "../common/announce.js";
import { focusFirst, setText } from "../common/dom.js";
import { count, percent } from "../common/format.js";
import { endpoint, verdict } from "./tus.js";
import { forget, isTaken, onClaims, rollCall, unfinished } from "./unfinished.js";

const LISTED = 5;
const GONE = new Set([404, 410]);
const byId = (id) => document.getElementById(id);

export async function wireInterrupted() {
  await rollCall();
  const asked = await Promise.all((await unfinished()).filter(isOfThisSite).map(look));
  let uploads = asked.filter(Boolean);
  const show = () => {
    uploads = uploads.filter(({ url }) => !isTaken(url));
    render(uploads);
  };
  onClaims(show);
  byId("interrupted-forget").addEventListener("click", async () => {
    uploads = await throwAway(uploads);
    show();
  });
  show();
}

const isOfThisSite = ({ uploadUrl }) => uploadUrl.startsWith(endpoint());

/* How far it is, or null for one that there is no more to go on with. */
async function look({ uploadUrl: url, size, metadata }) {
  const headers = { "Tus-Resumable": "1.0.0" };
  const answer = await fetch(url, { method: "HEAD", headers }).catch(() => null);
  if (answer && (GONE.has(answer.status) || answer.headers.has("Stored-Name"))) {
    await forget(url);
    return null;
  }
  const offset = answer?.ok ? Number(answer.headers.get("Upload-Offset")) : null; // null: not known for now
  return { url, size, offset, name: metadata.filename };
}

function render(uploads) {
  const box = byId("interrupted");
  const focused = box.contains(document.activeElement);
  box.hidden = uploads.length === 0;
  if (box.hidden && focused) focusFirst(byId("file-input"));
  const [were, files, they] = uploads.length === 1 ? ["upload was", "file", "it goes"] : ["uploads were", "files", "they go"];
  setText(byId("interrupted-text"), `${count(uploads.length)} ${were} interrupted. Choose or drop the same ${files} again and ${they} on:`);
  byId("interrupted-names").replaceChildren(...uploads.slice(0, LISTED).map(item));
  if (uploads.length > LISTED) byId("interrupted-names").append(entry(`and ${count(uploads.length - LISTED)} more`));
}

function item({ name, size, offset }) {
  const done = offset === null ? "" : ` (${percent(offset, size)}\u00a0% there)`;
  const name_ = document.createElement("bdi");
  name_.textContent = name;
  return entry(name_, done);
}

function entry(...content) {
  const element = document.createElement("li");
  element.append(...content);
  return element;
}

/* Those that could not be thrown away now. */
async function throwAway(uploads) {
  const kept = await Promise.all(uploads.map(async (upload) => {
    const error = await window.tus.Upload.terminate(upload.url, { retryDelays: null }).then(() => null, (reason) => reason);
    if (error && verdict(error).kind !== "gone") return upload;
    await forget(upload.url);
    return null;
  }));
  const left = kept.filter(Boolean);
  if (left.length) notice("Not all of them could be thrown away now. Try again when the file server is running.");
  else announce("Forgotten.");
  return left;
}
