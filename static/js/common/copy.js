/* Buttons that copy an address. Where a page may not write to the clipboard (over plain http), it is selected instead. */

import { announce, notice } from "./announce.js";

export function wireCopying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    if (await copied(button.dataset.copy)) {
      announce("Copied.");
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = before; }, 1500);
    } else notice(`This browser lets no page copy here. The address: ${button.dataset.copy}`);
  });
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text);
  }
}

/* The old way, which browsers still have for pages that came over plain http. */
function copiedByHand(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const worked = document.execCommand("copy");
  field.remove();
  return worked;
}
