/* Wires the page together. Every page has the header's status; the front page has the rest as well. */

import { wireDropzone } from "./dropzone.js";
import { wireFiles } from "./files.js";
import { throttled, watchFragments } from "./fragments.js";
import { wireInterrupted } from "./interrupted.js";
import { Live } from "./live.js";
import { cancelTransfer } from "./site.js";
import { Status } from "./status.js";
import { wireStraight } from "./straight.js";
import { takenNames } from "./taken.js";
import { localise } from "./times.js";
import { Transfers } from "./transfers.js";
import { Uploads } from "./upload.js";

const RECENT_DELAY = 400; // ms: the history is written in another process, a moment after the news
const RECENT_AGAIN = 2_000;

function frontPage() {
  const refreshFiles = throttled(document.getElementById("files-refresh"));
  const refreshRecent = throttled(document.getElementById("recent"));
  const transfers = new Transfers(cancelTransfer);
  const uploads = new Uploads(takenNames(), refreshFiles);
  wireDropzone((files) => uploads.add(files));
  wireInterrupted();
  wireStraight();
  wireFiles({ refresh: refreshFiles, uploading: () => uploads.active });

  let again = Infinity; // when the recent transfers are to be asked for once more
  function news(message, began) {
    if (message.files_changed) refreshFiles();
    if (message.files_changed && message.full) refreshRecent(); // of what this page has missed
    if (Date.now() >= again) {
      again = Infinity;
      refreshRecent();
      refreshFiles(); // the download counts come from the history too
    }
    if (began || message.ended.length) {
      refreshRecent(RECENT_DELAY);
      again = Date.now() + RECENT_AGAIN;
    }
  }
  return {
    online(message) {
      const began = transfers.apply(message);
      news(message, began);
    },
    back() {
      refreshFiles();
      refreshRecent();
      uploads.hurry();
    },
    away: () => transfers.clear(),
  };
}

function start() {
  watchFragments();
  localise(document);
  if (!document.getElementById("status")) return;
  const status = new Status();
  const front = document.getElementById("transfers") ? frontPage() : null;
  new Live(document.body.dataset.liveUrl, {
    onMessage(message) {
      const wasAway = status.state === "offline" || status.state === "unreachable";
      status.show(message);
      if (!message.online) return front?.away();
      front?.online(message);
      if (wasAway) front?.back();
    },
    onLost() {
      status.lost();
      front?.away();
    },
  }).start();
}

start();
