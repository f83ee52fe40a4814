/* What the answers of the upload server (files_app/views/tus.py) mean to a client of it. */

import { sentenceOf } from "../common/announce.js";

/* Bytes of one request. The server keeps every byte of a part that breaks, so one endless part would do as well, were there nothing
   in between: but a proxy that gathers a request before it passes it on makes all of a broken part lost, and many refuse more than
   100 MB. A part costs one round trip, about 1 % of the time of sending it over a gigabit network. */
export const PART = 64 * 1024 * 1024;
/* Bytes of a file that is sent together with its announcement: half the round trips for a folder of small files, and little
   is lost with a connection that breaks before the upload has an address. */
export const ONE_REQUEST = 256 * 1024;
/* Milliseconds between two tries. The library counts anew whenever a byte has got through; without one it is tried for an hour,
   as long as a computer may well be without its network. */
export const PAUSES = [0, 250, 500, 1000, 2000, 3000, 4000, ...Array(720).fill(5000)];

/* The error with which a response is turned down that the library would take for something else. */
export class Refusal extends Error {
  constructor(kind, message = "") {
    super(message);
    this.kind = kind; // see verdict
  }
}

export const endpoint = () => new URL(document.getElementById("dropzone").dataset.uploadsUrl, location.href).href;

/* Who hands it in, where the page asks for that. */
export function sender() {
  const field = document.getElementById("sender");
  return field ? { sender: field.value } : {};
}

/* What the file is called in the end, if the response is that of an upload that is a file by now. */
export function storedName(text) {
  return text === null ? null : decodeURIComponent(text);
}

const PASSING = new Set([408, 423, 425, 429]);

/* Is it only for now, and worth another try? 409 is a wrong offset (the next try asks for the right one), unless it says that the
   name is taken; 507 will not be better in a moment. */
export function isPassing(status, conflict) {
  if (status === 409) return !conflict;
  return status === 0 || PASSING.has(status) || (status >= 500 && status !== 507);
}

/* A request that the server turns down (4xx) would be turned down again; a full disk (507) may have room tomorrow. */
const failure = (status) => (status < 500 ? "refused" : "failed");

/* { kind, message } of an error of the library. kind: "taken" (the name; the bytes are all there) · "gone" (the upload) · "again" (it is
   only for now) · "refused" (for good) · "failed" (a person may try again later). */
export function verdict(error) {
  const response = error.originalResponse;
  const request = error.originalRequest;
  if (error.causingError instanceof Refusal) return { kind: error.causingError.kind, message: error.causingError.message };
  if (!request) return { kind: "failed", message: error.message };
  const status = response?.getStatus() ?? 0;
  // An answer to HEAD has no text, and "somebody else is writing" (423) is mostly ourselves, a moment ago.
  const silent = !status || status === 423 || request.getMethod() === "HEAD";
  const message = silent ? "" : sentenceOf(status, response.getHeader("Content-Type"), response.getBody());
  const creating = request.getMethod() === "POST";
  const conflict = status === 409 && (creating || response.getHeader("Conflict") === "exists");
  if (conflict) return { kind: "taken", message };
  if (isPassing(status, conflict)) return { kind: "again", message };
  return { kind: !creating && (status === 404 || status === 410) ? "gone" : failure(status), message };
}

/* An empty part at the end of an upload: makes it a file whose name was taken when its last byte came. Returns the name it got. */
export async function publish(url, size, exists) {
  const headers = {
    Accept: "text/plain",
    "Content-Type": "application/offset+octet-stream",
    "Tus-Resumable": "1.0.0",
    "Upload-Exists": exists,
    "Upload-Offset": String(size),
  };
  const answer = await fetch(url, { method: "PATCH", headers, body: "" });
  if (answer.ok) return storedName(answer.headers.get("Stored-Name"));
  const message = sentenceOf(answer.status, answer.headers.get("Content-Type"), await answer.text());
  const conflict = answer.headers.get("Conflict") === "exists";
  if (conflict) throw new Refusal("taken", message);
  throw new Refusal(isPassing(answer.status, conflict) ? "again" : failure(answer.status), message);
}
