/* Downloads directly from the file server, if this browser reaches its port. If not, the site passes the bytes on, and nobody need know. */

const PATIENCE = 1_500; // ms: a firewall that throws packets away never answers

let reached = false;

/* Whether the file server itself answers there, and not some other program that has the same port on this machine. */
async function answers(url) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), PATIENCE);
  try {
    return (await fetch(url, { cache: "no-store", credentials: "omit", signal: giveUp.signal })).status === 204;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
  }
}

/* In the link itself, so that it is there for "copy link" and the middle button too. */
export function lead(link, direct = true) {
  const wishes = new URLSearchParams(link.search);
  if (direct && reached) wishes.set("direct", "1");
  else wishes.delete("direct");
  link.search = wishes;
}

/* Returns what is to be called when the file server is back: one that was not there could not be found. */
export function wireDirect() {
  const { probe } = document.getElementById("files-section").dataset;
  const files = document.getElementById("files");
  const leadAll = () => files.querySelectorAll("a[data-act=download], a[data-act=slow-motion]").forEach((link) => lead(link));
  const find = async () => {
    if (!probe || reached || !await answers(probe) || reached) return;
    reached = true;
    leadAll();
    // Every search, sort and refresh brings new rows.
    new MutationObserver(leadAll).observe(files, { childList: true });
  };
  find();
  return find;
}
