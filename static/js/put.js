/* One PUT of one file. XMLHttpRequest, because fetch tells nothing of how much has been sent. */

import { sentenceOf } from "./announce.js";

const ASK_FIRST = 4 * 1024 * 1024; // bytes: from here on a HEAD is cheaper than sending all to hear that the name is taken

export function fileUrl(name) {
  const base = document.getElementById("dropzone").dataset.filesUrl.slice(0, -1); // written for a file "x"
  return base + name.split("/").map(encodeURIComponent).join("/");
}

/* Does a file of this name exist? Only asked where it saves sending a large body in vain; the PUT itself decides. */
export async function nameIsTaken(name, bytes, signal) {
  if (bytes < ASK_FIRST) return false;
  try {
    return (await fetch(fileUrl(name), { method: "HEAD", signal })).ok;
  } catch {
    return false;
  }
}

/* Resolves to { status, name, message }; status 0: the connection broke, -1: aborted by the signal. */
export function put({ file, name }, exists, { onProgress, signal }) {
  return new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    const end = (status, message) => resolve({ status, message });
    xhr.open("PUT", `${fileUrl(name)}?exists=${exists}`);
    xhr.setRequestHeader("Accept", "application/json, text/plain");
    xhr.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    xhr.addEventListener("load", () => {
      if (xhr.status === 201) resolve({ status: 201, name: nameIn(xhr.responseText) ?? name });
      else end(xhr.status, sentenceOf(xhr.status, xhr.getResponseHeader("Content-Type"), xhr.responseText));
    });
    xhr.addEventListener("error", () => end(0, "The connection to the site broke off, or the file cannot be read any more."));
    xhr.addEventListener("abort", () => end(-1, "Cancelled"));
    signal.addEventListener("abort", () => xhr.abort());
    xhr.send(file);
  });
}

function nameIn(text) {
  try { return JSON.parse(text).name; } catch { return null; }
}
