/* The queue of own uploads: two at a time, each with its own end, one question for each name that is taken. */

import { announce } from "../common/announce.js";
import { focusFirst } from "../common/dom.js";
import { Sending } from "./sending.js";
import { UploadList } from "./list.js";
import { UploadRow } from "./row.js";

const AT_ONCE = 2;
const OVERRIDES = new Set(["replace", "rename"]);
const ENDED = new Set(["done", "failed", "cancelled", "skipped"]);
const ON_ITS_WAY = new Set(["sending", "retrying"]);
const ASKING = "There is a file of this name already: waiting for your answer.";
const byId = (id) => document.getElementById(id);

export class Uploads {
  #all = [];
  #running = 0;
  #list = new UploadList(() => this.#all);
  #askAboutName;
  #onStored;

  /* askAboutName({ name, file, batch }) resolves to "replace", "rename" or "skip". */
  constructor(askAboutName, onStored) {
    this.#askAboutName = askAboutName;
    this.#onStored = onStored;
    byId("uploads").addEventListener("click", (event) => this.#clicked(event));
    byId("uploads-clear").addEventListener("click", () => this.#clear());
    window.addEventListener("beforeunload", (event) => { if (this.active) event.preventDefault(); });
    window.addEventListener("online", () => this.hurry());
  }

  get active() {
    return this.#all.some((upload) => !ENDED.has(upload.state));
  }

  /* Site or file server are back: no need to wait for the next try. */
  hurry() {
    for (const { sending } of this.#all) sending?.hurry();
  }

  /* files: [{ file, name } | { name, problem }], what was chosen or dropped at one time. */
  add(files) {
    if (!files.length) return;
    const batch = { size: files.length, answer: null };
    const added = files.map((file) => this.#added(file, batch));
    this.#all.push(...added);
    for (const upload of added) if (upload.problem) this.#end(upload, "failed", upload.problem, true);
    this.#list.show();
    this.#scrollTo(added[0].row.element);
    const readable = files.filter(({ file }) => file);
    if (readable.length) announce(readable.length === 1 ? `Uploading ${readable[0].name}.` : `Uploading ${readable.length} files.`);
    this.#next();
  }

  #added({ file, name, problem }, batch) {
    // Some systems hand out names decomposed (NFD); the server takes composed ones (NFC).
    const upload = { name: name.normalize("NFC"), file, problem, batch, exists: null, running: false, sending: null };
    upload.bytes = file?.size ?? 0;
    upload.row = new UploadRow(upload.name, file ? file.size : null);
    upload.state = "waiting";
    upload.row.state(upload.state);
    if (file) {
      upload.sending = new Sending(file, upload.name, {
        onProgress: (bytes) => this.#progress(upload, bytes),
        onWaiting: (sentence) => { if (ON_ITS_WAY.has(upload.state)) this.#state(upload, "retrying", sentence); },
      });
    }
    return upload;
  }

  /* Within the list only: the page stays where it is. */
  #scrollTo(element) {
    byId("uploads").scrollTop += element.getBoundingClientRect().top - byId("uploads").getBoundingClientRect().top;
  }

  #next() {
    while (this.#running < AT_ONCE) {
      const upload = this.#all.find(({ state, running }) => state === "waiting" && !running);
      if (!upload) return;
      this.#running += 1;
      upload.running = true;
      this.#run(upload).finally(() => {
        this.#running -= 1;
        upload.running = false;
        this.#next();
      });
    }
  }

  async #run(upload) {
    for (;;) {
      // An answer for the whole batch may be known already; "skip" is only for names that are taken, so it is tried like none.
      const { answer } = upload.batch;
      const exists = upload.exists ?? (OVERRIDES.has(answer) ? answer : "fail");
      this.#state(upload, "sending");
      const result = await upload.sending.run(exists);
      if (result.end === "stored") return this.#stored(upload, result.name);
      if (result.end === "failed") return this.#end(upload, "failed", result.message, result.isFinal);
      if (result.end === "stopped") return; // whoever stopped it has said why
      this.#state(upload, "waiting", ASKING);
      if (!await this.#asked(upload)) return;
    }
  }

  /* Whether the upload is to be tried with the answer. It may have been stopped while others were asked about. */
  async #asked(upload) {
    const answer = await this.#askAboutName(upload);
    if (ENDED.has(upload.state)) return false;
    if (answer !== "skip") {
      upload.exists = answer;
      return upload.state === "waiting";
    }
    upload.sending.cancel();
    this.#end(upload, "skipped", "Left out: there is a file of this name already.");
    return false;
  }

  #progress(upload, bytes) {
    if (upload.state === "retrying") this.#state(upload, "sending");
    upload.row.progress(bytes);
    this.#list.changed();
  }

  #stored(upload, name) {
    this.#end(upload, "done", name === upload.name ? "" : `Stored as ${name}`);
    this.#onStored();
  }

  #state(upload, state, sentence, isFinal) {
    upload.state = state;
    upload.row.state(state, sentence, isFinal);
    this.#summary();
  }

  /* isFinal: trying again would not help. */
  #end(upload, state, sentence, isFinal = false) {
    this.#state(upload, state, sentence, isFinal);
    const words = { done: "uploaded", failed: "failed", cancelled: "cancelled", skipped: "left out" }[state];
    announce(`${upload.name} ${words}.${sentence ? ` ${sentence}` : ""}`);
  }

  #summary() {
    this.#list.changed();
    byId("uploads-clear").hidden = !this.#all.some((upload) => ENDED.has(upload.state));
  }

  // --- what the row's buttons do

  #clicked(event) {
    const button = event.target.closest("[data-act]");
    const upload = button && this.#all.find((candidate) => candidate.row.element.contains(button));
    if (!upload) return;
    const acts = { pause: this.#pause, resume: this.#wait, retry: this.#retry, cancel: this.#cancel };
    acts[button.dataset.act].call(this, upload);
  }

  #pause(upload) {
    upload.sending.pause();
    this.#state(upload, "paused");
    announce(`${upload.name} paused.`);
  }

  #wait(upload) {
    this.#state(upload, "waiting");
    this.#next();
  }

  #retry(upload) {
    upload.batch = { size: 1, answer: null };
    upload.exists = null;
    this.#wait(upload);
  }

  #cancel(upload) {
    if (ENDED.has(upload.state)) return this.#remove(upload);
    upload.sending.cancel();
    this.#end(upload, "cancelled");
  }

  #remove(upload) {
    const { element } = upload.row;
    const near = (element.nextElementSibling ?? element.previousElementSibling)?.querySelector("[data-act=cancel]");
    this.#all.splice(this.#all.indexOf(upload), 1);
    element.remove();
    this.#summary();
    this.#list.show();
    focusFirst(near, byId("file-input"));
  }

  #clear() {
    const gone = this.#all.filter((upload) => ENDED.has(upload.state));
    this.#all = this.#all.filter((upload) => !ENDED.has(upload.state));
    for (const { row } of gone) row.element.remove();
    this.#summary();
    this.#list.show();
    byId("file-input").focus();
  }
}
