/* Requests to the site other than uploads. Those that change something return whether it worked; if not, the server's sentence is on
   the page. */

import { notice, sentenceOf } from "./announce.js";

async function send(url, options) {
  let answer;
  try {
    answer = await fetch(url, { ...options, headers: { Accept: "text/plain", ...options.headers } });
  } catch {
    notice("The site could not be reached. Nothing was changed.");
    return false;
  }
  if (answer.ok) return true;
  notice(sentenceOf(answer.status, answer.headers.get("Content-Type"), await answer.text()));
  return false;
}

export function cancelTransfer(id) {
  const template = document.getElementById("transfers").dataset.cancelUrl; // …/0/cancel/
  const token = document.querySelector("input[name=csrfmiddlewaretoken]").value;
  return send(template.replace("/0/", `/${id}/`), { method: "POST", headers: { "X-CSRFToken": token } });
}

export const deleteFile = (url) => send(url, { method: "DELETE" });

const PATIENCE = 2_000; // ms

/* { size, changed } of a file on the server, in bytes and as a date; null if that cannot be known now. */
export async function stateOf(name) {
  const url = document.getElementById("dropzone").dataset.filesUrl + name.split("/").map(encodeURIComponent).join("/");
  const answer = await fetch(url, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
  if (!answer?.ok) return null;
  return { size: Number(answer.headers.get("Content-Length")), changed: new Date(answer.headers.get("Last-Modified")) };
}
