/* Questions in <dialog>s. The browser gives the focus back to where it was when a modal dialog closes. */

export function ask(dialog, texts) {
  for (const [slot, text] of Object.entries(texts)) {
    dialog.querySelector(`[data-slot="${slot}"]`).textContent = text;
  }
  dialog.returnValue = ""; // else Escape would repeat the last answer
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => answer(dialog.returnValue), { once: true });
  });
}

/* A click beside the dialog's box says no, as Escape does. */
export function closeOnBackdrop(dialog) {
  dialog.addEventListener("pointerdown", (event) => {
    if (!event.target.closest("article")) dialog.close("");
  });
}
