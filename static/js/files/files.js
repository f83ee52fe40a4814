/* The file table's controls that are no plain links: delete, after asking, and "show all" beside the search. */

import { announce } from "../common/announce.js";
import { ask, closeOnBackdrop } from "../common/dialogs.js";
import { deleteFile } from "../common/site.js";
import { lead } from "./direct.js";

export function wireFiles({ refresh, uploading }) {
  const files = document.getElementById("files");
  const dialog = document.getElementById("confirm-delete");
  closeOnBackdrop(dialog);

  files.addEventListener("click", (event) => {
    const control = event.target.closest("[data-act]");
    if (control?.dataset.act === "delete") remove(control, dialog, refresh);
  });
  // While uploads run, leaving the page is asked about first. A download is no leaving, and the attribute says so; at other
  // times the plain link is better: if the file is gone, the site's page can say it.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-act=download], a[data-act=slow-motion]");
    if (!link) return;
    link.toggleAttribute("download", Boolean(uploading()));
    lead(link, !uploading()); // on the way to another port the attribute would be forgotten
  });
}

async function remove(button, dialog, refresh) {
  const { name } = button.closest("tr").dataset;
  if (await ask(dialog, { name }) !== "delete") return;
  const deleted = await deleteFile(button.dataset.url);
  if (deleted) announce(`${name} deleted.`);
  refresh();
}
