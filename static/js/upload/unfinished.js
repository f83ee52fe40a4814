/* The uploads that this browser has begun and not finished, as tus-js-client keeps them in localStorage; and which of them are
   in the hands of a page: of two tabs, one must neither go on with nor throw away what the other is sending. */

const ANSWER = 200; // ms within which the other tabs say what they have
const tab = `${Date.now()}-${Math.random()}`;
const mine = new Set(); // addresses
const theirs = new Map(); // tab → addresses
const listeners = new Set();
const channel = "BroadcastChannel" in window ? new BroadcastChannel("uploads") : null;

const storage = () => window.tus.defaultOptions.urlStorage;
const tell = () => channel?.postMessage({ tab, urls: [...mine] });

function changed() {
  for (const listener of listeners) listener();
}

channel?.addEventListener("message", ({ data }) => {
  if (data.roll) return tell();
  theirs.set(data.tab, new Set(data.urls));
  changed();
});
window.addEventListener("pagehide", () => channel?.postMessage({ tab, urls: [] }));
window.addEventListener("pageshow", (event) => { if (event.persisted) tell(); });

export const isTaken = (url) => mine.has(url) || [...theirs.values()].some((urls) => urls.has(url));

export const onClaims = (listener) => listeners.add(listener);

export function claim(url) {
  if (mine.has(url)) return;
  mine.add(url);
  tell();
  changed();
}

export function release(url) {
  if (mine.delete(url)) tell();
}

/* Resolves when all other tabs have had the time to say what they are sending. */
export function rollCall() {
  channel?.postMessage({ roll: true });
  return new Promise((done) => setTimeout(done, channel ? ANSWER : 0));
}

/* [{ uploadUrl, size, metadata: { filename }, … }] that no page is sending. */
export async function unfinished() {
  return (await storage().findAllUploads()).filter(({ uploadUrl }) => uploadUrl && !isTaken(uploadUrl));
}

export async function forget(url) {
  release(url);
  for (const { uploadUrl, urlStorageKey } of await storage().findAllUploads()) {
    if (uploadUrl === url) await storage().removeUpload(urlStorageKey);
  }
}
