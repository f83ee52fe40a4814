/* "There is a file of this name already": asks, one question at a time, and remembers an answer that is meant for the whole batch. */

import { ask, closeOnBackdrop } from "../common/dialogs.js";
import { size } from "../common/format.js";
import { stateOf } from "../common/site.js";
import { short } from "../common/times.js";

const ANSWERS = new Set(["replace", "rename", "skip"]);

export function takenNames() {
  const dialog = document.getElementById("exists");
  const all = dialog.querySelector("[data-slot=all]");
  let previous = Promise.resolve();
  closeOnBackdrop(dialog);

  async function question({ name, file, batch }) {
    if (batch.answer) return batch.answer; // given while this one waited for its turn
    all.checked = false;
    dialog.querySelector("[data-slot=all-label]").hidden = batch.size < 2;
    const theirs = await stateOf(name);
    const mine = { size: file.size, changed: new Date(file.lastModified) };
    const given = await ask(dialog, { name, theirs: words(theirs, mine), mine: words(mine, theirs) });
    const answer = ANSWERS.has(given) ? given : "skip";
    if (all.checked && ANSWERS.has(given)) batch.answer = answer;
    return answer;
  }

  return (upload) => {
    previous = previous.then(() => question(upload));
    return previous;
  };
}

/* "2.0 MiB, changed today, 12:30 (newer)". other: what it is compared with. Either may be null. */
function words(state, other) {
  if (!state) return "not known";
  const times = other && state.changed - other.changed;
  const newer = times >= 1_000 ? " (newer)" : "";
  return `${size(state.size)}, changed ${short(state.changed)}${newer}`;
}
