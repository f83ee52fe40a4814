/* Wires the page together. Every page has the header's status; the front page and the history have more. */

import { wireCopying } from "./common/copy.js";
import { wireEnds } from "./common/ends.js";
import { throttled, watchFragments } from "./common/fragments.js";
import { cancelTransfer } from "./common/site.js";
import { AWAY } from "./common/state.js";
import { localise } from "./common/times.js";
import { wireDirect } from "./files/direct.js";
import { wireFiles } from "./files/files.js";
import { Live } from "./live/live.js";
import { wireReach } from "./live/reach.js";
import { Status } from "./live/status.js";
import { Transfers } from "./live/transfers.js";
import { wireDropzone } from "./upload/dropzone.js";
import { wireInterrupted } from "./upload/interrupted.js";
import { takenNames } from "./upload/taken.js";
import { Uploads } from "./upload/uploads.js";

const WRITTEN = 400; // ms: the history is written in another process, a moment after the news
const AGAIN = 2_000; // ms after which it is asked for once more, as it may have been busy

/* Each page is a function (state, message, isBack): message is there unless the site is out of reach; isBack: the state was another one. */
function frontPage() {
  // Whoever may not list, or may not upload, has no such part on the page.
  const list = document.getElementById("files-refresh");
  const refreshFiles = list ? throttled(list) : () => {};
  const refreshRecent = throttled(document.getElementById("recent"));
  const transfers = new Transfers(cancelTransfer);
  const uploads = document.getElementById("dropzone") ? frontDoor(refreshFiles) : null;
  const findDirect = list ? wireDirect() : () => {};
  if (list) wireFiles({ refresh: refreshFiles, uploading: () => uploads?.active });

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
    uploads?.hurry();
    findDirect();
  }
  return (state, message, isBack) => {
    transfers.show(state, message);
    if (state === "online") news(message);
    if (isBack) back();
  };
}

function frontDoor(refreshFiles) {
  const uploads = new Uploads(takenNames(), refreshFiles);
  wireDropzone((files) => uploads.add(files));
  wireInterrupted();
  return uploads;
}

/* What is listed as not ended is asked for anew when it may have ended. The rest of the history does not change any more. */
function historyPage() {
  const refresh = throttled(document.getElementById("history-refresh"));
  return (state, message, isBack) => {
    if (state !== "online" || !document.querySelector('#history [data-outcome="running"]')) return;
    if (isBack || message.full || message.ended.length) refresh(WRITTEN);
  };
}

/* Whoever hands in files by a link has no live news: nothing there is theirs but what they send. Names never collide there. */
function dropPage() {
  const uploads = new Uploads(() => Promise.resolve("rename"), throttled(document.getElementById("receipts")));
  wireDropzone((files) => uploads.add(files));
  wireInterrupted();
}

function pageOf() {
  if (document.getElementById("transfers")) return frontPage();
  return document.getElementById("history") ? historyPage() : () => {};
}

function start() {
  watchFragments();
  localise(document);
  wireCopying();
  wireEnds();
  if (document.getElementById("receipts")) dropPage();
  if (!document.getElementById("status")) return;
  const status = new Status();
  const reach = wireReach();
  const page = pageOf();
  let state = "connecting";
  const turn = (next, message) => {
    const isBack = next === "online" && AWAY.has(state);
    state = next;
    status.show(state, message);
    reach(message);
    page(state, message, isBack);
  };
  new Live(document.body.dataset.liveUrl, {
    onMessage: (message) => turn(message.online ? "online" : "offline", message),
    onLost: () => turn("unreachable"),
  }).start();
}

start();
