/* Wires the page together. Every page has the header's status; the front page and the history have more. */

import { wireDropzone } from "./dropzone.js";
import { wireFiles } from "./files.js";
import { throttled, watchFragments } from "./fragments.js";
import { wireInterrupted } from "./interrupted.js";
import { Live } from "./live.js";
import { cancelTransfer } from "./site.js";
import { AWAY } from "./state.js";
import { Status } from "./status.js";
import { wireDirect } from "./direct.js";
import { takenNames } from "./taken.js";
import { localise } from "./times.js";
import { Transfers } from "./transfers.js";
import { Uploads } from "./upload.js";

const WRITTEN = 400; // ms: the history is written in another process, a moment after the news
const AGAIN = 2_000; // ms after which it is asked for once more, as it may have been busy

/* Each page is a function (state, message, isBack): message is there unless the site is out of reach; isBack: the state was another one. */
function frontPage() {
  const refreshFiles = throttled(document.getElementById("files-refresh"));
  const refreshRecent = throttled(document.getElementById("recent"));
  const transfers = new Transfers(cancelTransfer);
  const uploads = new Uploads(takenNames(), refreshFiles);
  wireDropzone((files) => uploads.add(files));
  wireInterrupted();
  const findDirect = wireDirect();
  wireFiles({ refresh: refreshFiles, uploading: () => uploads.active });

  let again = Infinity; // when the recent transfers are to be asked for once more
  function news(message) {
    if (message.files_changed) refreshFiles();
    if (message.files_changed && message.full) refreshRecent(); // of what this page has missed
    if (Date.now() >= again) {
      again = Infinity;
      refreshRecent();
      refreshFiles(); // the download counts come from the history too
    }
    if (message.ended.length) {
      refreshRecent(WRITTEN);
      again = Date.now() + AGAIN;
    }
  }
  function back() {
    refreshFiles();
    refreshRecent();
    uploads.hurry();
    findDirect();
  }
  return (state, message, isBack) => {
    transfers.show(state, message);
    if (state === "online") news(message);
    if (isBack) back();
  };
}

/* What is listed as not ended is asked for anew when it may have ended. The rest of the history does not change any more. */
function historyPage() {
  const refresh = throttled(document.getElementById("history-refresh"));
  return (state, message, isBack) => {
    if (state !== "online" || !document.querySelector('#history [data-outcome="running"]')) return;
    if (isBack || message.full || message.ended.length) refresh(WRITTEN);
  };
}

function pageOf() {
  if (document.getElementById("transfers")) return frontPage();
  return document.getElementById("history") ? historyPage() : () => {};
}

function start() {
  watchFragments();
  localise(document);
  if (!document.getElementById("status")) return;
  const status = new Status();
  const page = pageOf();
  let state = "connecting";
  const turn = (next, message) => {
    const isBack = next === "online" && AWAY.has(state);
    state = next;
    status.show(state, message);
    page(state, message, isBack);
  };
  new Live(document.body.dataset.liveUrl, {
    onMessage: (message) => turn(message.online ? "online" : "offline", message),
    onLost: () => turn("unreachable"),
  }).start();
}

start();
