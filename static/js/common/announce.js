/* What happened, for those who listen (a polite live region) and, where something needs to be read, as a notice on the page. */

const PAUSE = 700; // ms: news that come together are read out together
const AT_ONCE = 3;

let waiting = [];
let timer = null;

export function announce(sentence) {
  waiting.push(sentence);
  timer ??= setTimeout(speak, PAUSE);
}

function speak() {
  timer = null;
  const news = waiting.slice(-AT_ONCE).join(" ");
  const left = waiting.length - AT_ONCE;
  waiting = [];
  document.getElementById("announce").textContent = left > 0 ? `${news} And ${left} more.` : news;
}

/* Stays until it is dismissed: a sentence on what went wrong must not vanish while it is being read. */
export function notice(sentence) {
  const box = document.createElement("p");
  const text = document.createElement("span");
  const dismiss = document.createElement("button");
  text.textContent = sentence;
  dismiss.type = "button";
  dismiss.className = "quiet";
  dismiss.textContent = "Dismiss";
  const before = document.activeElement;
  dismiss.addEventListener("click", () => {
    box.remove();
    if (before?.isConnected) before.focus();
  });
  box.append(text, dismiss);
  document.getElementById("notices").append(box);
}

/* The server's errors are one sentence of plain text; anything else (a proxy's page, say) is not shown. */
export function sentenceOf(status, contentType, body) {
  if (contentType?.startsWith("text/plain") && body.trim() && body.length < 500) return body.trim();
  if (status === 403) return "This page is too old to do that, or you may not. Load it again and repeat the step.";
  if (status === 413) return "The file is larger than this site takes.";
  return `The site answered with an error (${status}).`;
}
