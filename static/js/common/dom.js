/* Rows from <template> elements, written to as text only: a file's name is whatever somebody chose to call it. */

/* The template's first element, and its parts by their data-slot. */
export function fromTemplate(id) {
  const element = document.getElementById(id).content.firstElementChild.cloneNode(true);
  const slots = {};
  for (const slot of element.querySelectorAll("[data-slot]")) slots[slot.dataset.slot] = slot;
  return { element, slots };
}

/* Writing an unchanged text would still cost a layout: rows are updated four times a second. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setIcon(svg, name) {
  svg.firstElementChild.setAttribute("href", `#${name}`);
  svg.removeAttribute("hidden");
}

/* The first of the candidates that is there and can be seen gets the focus. */
export function focusFirst(...candidates) {
  for (const candidate of candidates) {
    if (candidate?.isConnected && candidate.getClientRects().length) {
      candidate.focus();
      return;
    }
  }
}
