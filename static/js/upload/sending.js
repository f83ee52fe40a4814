/* One file on its way to the site. tus-js-client does the requests, the tries and the book-keeping in localStorage; here is what it
   leaves open: a name that is taken, an upload that somebody has thrown away, pause and cancel at any moment. */

import { ONE_REQUEST, PART, PAUSES, Refusal, endpoint, publish, sender, storedName, verdict } from "./tus.js";
import { claim, forget, isTaken, release } from "./unfinished.js";

const GONE = "The upload was ended from elsewhere, or it has waited for too long. “Try again” sends the file from its beginning.";
const UNREADABLE = "The browser cannot read the file: it has changed since it was chosen, or you may not open it. Choose it again.";
const UNREACHABLE = "The site could not be reached for a long time. “Try again” goes on where the upload has stopped.";
const CANNOT_READ = { end: "failed", message: UNREADABLE, isFinal: true };

export class Sending {
  #file;
  #name;
  #on;
  #exists = "fail";
  #upload = null;
  #settle = null; // there is one while it runs
  #stored = null; // the name, once it is a file
  #known = false; // the server has known the upload since the last start
  #creating = false;
  #waiting = false;
  #cancelled = false;

  /* onProgress(bytes): so many are there; onWaiting(sentence): a try has failed, another one follows. */
  constructor(file, name, { onProgress, onWaiting }) {
    this.#file = file;
    this.#name = name;
    this.#on = { progress: onProgress, waiting: onWaiting };
  }

  /* Begins, or goes on. Resolves to { end: "stored", name } | { end: "taken" | "stopped" } | { end: "failed", message, isFinal }; may be run
     again after each of the last three unless isFinal, after "taken" with another answer. */
  run(exists) {
    this.#exists = exists;
    this.#known = this.#cancelled = false;
    return new Promise((settle) => {
      this.#settle = settle;
      if (this.#stored !== null) this.#end({ end: "stored", name: this.#stored });
      else if (!this.#creating) this.#start(settle);
    });
  }

  pause() {
    // An upload that is just being announced has no address yet; without one it could neither go on nor be thrown away.
    if (!this.#creating) this.#upload?.abort();
    this.#end({ end: "stopped" });
  }

  /* Nothing of it stays on the server: tried in the background for as long as everything else is. */
  async cancel() {
    const upload = this.#upload;
    this.#cancelled = true;
    this.#end({ end: "stopped" });
    if (this.#creating || !upload) return; // see #begun
    this.#upload = null;
    const failed = await upload.abort(true).then(() => null, (error) => error);
    // What cannot be reached even so is offered after the next reload: see interrupted.js.
    if (upload.url && (!failed || verdict(failed).kind === "gone")) forget(upload.url);
  }

  /* The network is back: whoever waits for the next try need not wait any longer. */
  hurry() {
    if (!this.#waiting || !this.#settle) return;
    this.#waiting = false; // else a second call would begin twice
    this.#upload.abort();
    this.#upload.start();
  }

  async #start(settle) {
    // Asked first, so that a file that cannot be read leaves nothing on the server.
    if (!await this.#isReadable()) return this.#settle === settle && this.#end(CANNOT_READ);
    this.#upload ??= await this.#prepared();
    if (this.#settle !== settle) return; // stopped meanwhile
    this.#upload.options.metadata = { filename: this.#name, exists: this.#exists, ...sender() };
    if (this.#exists !== "fail") this.#upload.options.headers["Upload-Exists"] = this.#exists;
    this.#upload.start();
  }

  async #prepared() {
    const upload = new window.tus.Upload(this.#file, {
      endpoint: endpoint(),
      chunkSize: PART,
      retryDelays: PAUSES,
      uploadDataDuringCreation: this.#file.size <= ONE_REQUEST,
      removeFingerprintOnSuccess: true,
      metadata: { filename: this.#name },
      headers: { Accept: "text/plain" },
      fingerprint: (file, options) => Promise.resolve([options.endpoint, file.size, file.lastModified, this.#name].join("-")),
      onBeforeRequest: (request) => this.#asks(request),
      onAfterResponse: (request, response) => this.#hears(request, response),
      onUploadUrlAvailable: () => this.#begun(upload),
      onProgress: (bytes) => { if (this.#settle) this.#on.progress(bytes); },
      onShouldRetry: (error) => this.#isWorthATry(error),
      onError: (error) => this.#fail(error),
      onSuccess: ({ lastResponse }) => this.#succeed(upload, lastResponse),
    });
    const previous = (await upload.findPreviousUploads()).filter(({ uploadUrl }) => !isTaken(uploadUrl));
    if (previous.length) {
      upload.resumeFromPreviousUpload(previous.at(-1));
      claim(upload.url);
    }
    return upload;
  }

  #asks(request) {
    if (request.getMethod() === "DELETE") return;
    this.#waiting = false;
    // With the whole file in it, it may be stored at any moment: better broken off than waited for.
    this.#creating = request.getMethod() === "POST" && this.#file.size > ONE_REQUEST;
  }

  /* HEAD answers that the library would misread: what is complete may still be no file, for want of a name; and after any failure it would
     begin a new upload. Throwing here makes it an error of the network's kind, which #isWorthATry then looks at. */
  async #hears(request, response) {
    if (request.getMethod() === "POST") this.#creating = false;
    if (request.getMethod() !== "HEAD") return;
    const status = response.getStatus();
    if (status === 423) return;
    if (status >= 400 && status < 500 && this.#known) throw new Refusal("gone");
    if (status >= 500) throw new Refusal("again");
    const complete = Number(response.getHeader("Upload-Offset")) === this.#file.size && status < 300;
    if (complete && response.getHeader("Stored-Name") === null) {
      this.#stored = await publish(request.getURL(), this.#file.size, this.#exists);
    }
  }

  #begun(upload) {
    this.#creating = false;
    this.#known = true;
    claim(upload.url);
    if (!this.#settle) upload.abort();
    if (this.#cancelled) this.cancel();
  }

  #isWorthATry(error) {
    const { kind, message } = verdict(error);
    if (error.originalRequest.getMethod() === "DELETE") return this.#cancelled && kind === "again";
    this.#creating = false;
    if (kind !== "again" || !this.#settle) return false;
    this.#waiting = true;
    this.#on.waiting(message);
    if (!error.originalResponse) this.#checkFile();
    return true;
  }

  /* A browser reports a file that it cannot read like a network that is down; no try would help. */
  async #checkFile() {
    if (await this.#isReadable() || !this.#settle) return;
    this.#upload.abort();
    this.#end(CANNOT_READ);
  }

  /* One that is not there has 0 bytes too, and no browser opens a file to read a part of nothing: so that one is read as a whole. */
  #isReadable() {
    const start = this.#file.size ? this.#file.slice(0, 1) : this.#file;
    return start.arrayBuffer().then(() => true, () => false);
  }

  #fail(error) {
    const { kind, message } = verdict(error);
    if (kind === "taken") return this.#end({ end: "taken" });
    const url = this.#upload?.url;
    // The next run begins with a new count of tries, and with what localStorage knows then.
    this.#upload = null;
    if (url && kind === "gone") forget(url);
    else if (url) release(url);
    this.#end({ end: "failed", message: kind === "gone" ? GONE : message || UNREACHABLE, isFinal: kind === "refused" });
  }

  #succeed(upload, response) {
    if (upload.url) release(upload.url);
    this.#stored ??= storedName(response.getHeader("Stored-Name")) ?? this.#name;
    this.#end({ end: "stored", name: this.#stored });
  }

  #end(result) {
    const settle = this.#settle;
    this.#settle = null;
    this.#waiting = false;
    settle?.(result);
  }
}
