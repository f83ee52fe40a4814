/* Files come in: chosen with the button, or dropped anywhere on the page (a drop that misses the field must not
   make the browser leave the page for the file). */

import { notice } from "../common/announce.js";
import { droppedFiles, isHidden } from "./dropped.js";

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

export function wireDropzone(add) {
  const zone = document.getElementById("dropzone");
  const over = (is) => zone.classList.toggle("over", is);

  const give = (files) => {
    if (files.length) add(files);
    else notice("There is no file in that folder.");
  };

  wireInput(document.getElementById("file-input"), give);
  const folder = document.getElementById("folder-input");
  if ("webkitdirectory" in folder) {
    folder.closest("label").hidden = false;
    wireInput(folder, give);
  }
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    over(true);
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    over(false);
    give(await droppedFiles(event.dataTransfer));
  });
}

function wireInput(input, give) {
  input.addEventListener("change", () => {
    const files = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    input.value = ""; // else choosing the same file again would be no change
    give(files.filter(({ file, name }) => !file.webkitRelativePath || !isHidden(name)));
  });
}
