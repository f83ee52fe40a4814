/* "There is a file of this name already": asks, one question at a time, and remembers an answer that is meant for the whole batch. */

import { ask, closeOnBackdrop } from "./dialogs.js";

const ANSWERS = new Set(["replace", "rename", "skip"]);

export function takenNames() {
  const dialog = document.getElementById("exists");
  const all = dialog.querySelector("[data-slot=all]");
  let previous = Promise.resolve();
  closeOnBackdrop(dialog);

  async function question({ name, batch }) {
    if (batch.answer) return batch.answer; // given while this one waited for its turn
    all.checked = false;
    dialog.querySelector("[data-slot=all-label]").hidden = batch.size < 2;
    const given = await ask(dialog, { name });
    const answer = ANSWERS.has(given) ? given : "skip";
    if (all.checked && ANSWERS.has(given)) batch.answer = answer;
    return answer;
  }

  return (upload) => {
    previous = previous.then(() => question(upload));
    return previous;
  };
}
