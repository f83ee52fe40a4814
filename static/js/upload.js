/* The queue of own uploads: two at a time, each with its own end, one question for each name that is taken. */

import { announce } from "./announce.js";
import { focusFirst, setText } from "./dom.js";
import { nameIsTaken, put } from "./put.js";
import { UploadRow } from "./uploadrow.js";

const AT_ONCE = 2;
const OVERRIDES = new Set(["replace", "rename"]);
const ENDED = new Set(["done", "failed", "cancelled", "skipped"]);
const byId = (id) => document.getElementById(id);

export class Uploads {
  #all = [];
  #running = 0;
  #askAboutName;
  #onStored;

  /* askAboutName({ name, batch }) resolves to "replace", "rename" or "skip". */
  constructor(askAboutName, onStored) {
    this.#askAboutName = askAboutName;
    this.#onStored = onStored;
    byId("uploads").addEventListener("click", (event) => this.#clicked(event));
    byId("uploads-clear").addEventListener("click", () => this.#clear());
    window.addEventListener("beforeunload", (event) => { if (this.active) event.preventDefault(); });
  }

  get active() {
    return this.#all.some((upload) => !ENDED.has(upload.state));
  }

  /* files: [{ file, name }], what was chosen or dropped at one time. */
  add(files) {
    if (!files.length) return;
    const batch = { size: files.length, answer: null };
    for (const { file, name } of files) {
      // Some systems hand out names decomposed (NFD); the server takes composed ones (NFC).
      const upload = { file, name: name.normalize("NFC"), batch, state: "waiting" };
      upload.row = new UploadRow(upload.name, file.size);
      this.#all.push(upload);
      byId("uploads").append(upload.row.element);
      this.#state(upload, "waiting");
    }
    announce(files.length === 1 ? `Uploading ${files[0].name}.` : `Uploading ${files.length} files.`);
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE) {
      const upload = this.#all.find((candidate) => candidate.state === "waiting" && !candidate.abort);
      if (!upload) return;
      this.#running += 1;
      this.#run(upload).finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }

  async #run(upload) {
    upload.abort = new AbortController();
    const { signal } = upload.abort;
    // An answer for the whole batch may be known already; "skip" is only for names that are taken, so it is tried like none.
    const first = OVERRIDES.has(upload.batch.answer) ? upload.batch.answer : "fail";
    const taken = first === "fail" && await nameIsTaken(upload.name, upload.file.size, signal);
    let result = taken ? { status: 409 } : await this.#send(upload, first, signal);
    if (result.status === 409) {
      this.#state(upload, "waiting");
      const answer = await this.#askAboutName(upload);
      if (answer === "skip") return this.#end(upload, "skipped", "Left out: there is a file of this name already.");
      result = await this.#send(upload, answer, signal);
    }
    if (signal.aborted) this.#end(upload, "cancelled");
    else if (result.status !== 201) this.#end(upload, "failed", result.message);
    else this.#stored(upload, result.name);
  }

  #stored(upload, name) {
    this.#end(upload, "done", name === upload.name ? "" : `Stored as ${name}`);
    this.#onStored();
  }

  async #send(upload, exists, signal) {
    if (signal.aborted) return { status: -1 };
    this.#state(upload, "sending");
    return put(upload, exists, { signal, onProgress: (loaded) => { if (!signal.aborted) upload.row.sent(loaded); } });
  }

  #state(upload, state, sentence) {
    upload.state = state;
    upload.row.state(state, sentence);
    this.#summary();
  }

  #end(upload, state, sentence) {
    this.#state(upload, state, sentence);
    const words = { done: "uploaded", failed: "failed", cancelled: "cancelled", skipped: "left out" }[state];
    announce(`${upload.name} ${words}.${sentence ? ` ${sentence}` : ""}`);
  }

  #summary() {
    const done = this.#all.filter((upload) => upload.state === "done").length;
    byId("uploads-panel").hidden = this.#all.length === 0;
    setText(byId("uploads-count"), `${done} of ${this.#all.length} done`);
    byId("uploads-clear").hidden = !this.#all.some((upload) => ENDED.has(upload.state));
  }

  #clicked(event) {
    const button = event.target.closest("[data-act]");
    const upload = button && this.#all.find((candidate) => candidate.row.element.contains(button));
    if (!upload) return;
    if (button.dataset.act === "retry") this.#retry(upload);
    else if (ENDED.has(upload.state)) this.#remove(upload);
    else this.#cancel(upload);
  }

  #cancel(upload) {
    if (upload.abort) upload.abort.abort();
    else this.#end(upload, "cancelled");
  }

  #retry(upload) {
    upload.abort = null;
    upload.batch = { size: 1, answer: null };
    this.#state(upload, "waiting");
    upload.row.cancel.focus(); // the button that was pressed is gone
    this.#next();
  }

  #remove(upload) {
    const { element } = upload.row;
    const near = (element.nextElementSibling ?? element.previousElementSibling)?.querySelector("[data-act=cancel]");
    this.#all.splice(this.#all.indexOf(upload), 1);
    element.remove();
    this.#summary();
    focusFirst(near, byId("file-input"));
  }

  #clear() {
    const gone = this.#all.filter((upload) => ENDED.has(upload.state));
    this.#all = this.#all.filter((upload) => !ENDED.has(upload.state));
    for (const { row } of gone) row.element.remove();
    this.#summary();
    byId("file-input").focus();
  }
}
