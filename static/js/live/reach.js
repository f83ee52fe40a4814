/* The header of a server on the network: the page's address for others, which may change while the page is open. */

import { announce } from "../common/announce.js";
import { throttled } from "../common/fragments.js";

/* Returns what is to be told of each message of the site. */
export function wireReach() {
  const root = document.getElementById("reach");
  if (!root) return () => {};
  root.addEventListener("click", (event) => {
    const button = event.target.closest('[data-act="copy"]');
    if (button) copy(button, document.getElementById("reach-url"));
  });
  const refresh = throttled(root);
  return (message) => {
    if (message?.page && message.page !== document.getElementById("reach-url").value) refresh();
  };
}

/* Over plain http browsers have no clipboard for scripts but this old way, which copies what is selected. */
async function copy(button, input) {
  let done = true;
  try {
    await navigator.clipboard.writeText(input.value);
  } catch {
    input.select();
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Select and copy";
  announce(done ? "The address is copied." : "The address could not be copied. It is selected.");
}
