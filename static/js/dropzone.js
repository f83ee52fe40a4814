/* Files come in: chosen with the button, or dropped anywhere on the page (a drop that misses the field must not
   make the browser leave the page for the file). */

import { droppedFiles } from "./dropped.js";

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

export function wireDropzone(add) {
  const zone = document.getElementById("dropzone");
  const input = document.getElementById("file-input");
  const over = (is) => zone.classList.toggle("over", is);

  input.addEventListener("change", () => {
    const files = [...input.files].map((file) => ({ file, name: file.name }));
    input.value = ""; // else choosing the same file again would be no change
    add(files);
  });
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
    add(await droppedFiles(event.dataTransfer));
  });
}
