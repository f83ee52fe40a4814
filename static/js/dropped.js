/* Files out of a drop, folders opened: [{ file, name }] with the name as a path from the folder that was dropped. */

/* Hidden things in a folder (.DS_Store, .git) were not meant; the server would refuse each of them. */
export const isHidden = (name) => name.split("/").some((part) => part.startsWith("."));

export async function droppedFiles(transfer) {
  // Entries are to be had only while the event is handled: all are taken before the first await.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  const lists = await Promise.all(entries.map((entry) => walk(entry, "")));
  return lists.flat();
}

async function walk(entry, folder) {
  const name = folder + entry.name;
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed)).catch(() => null);
    return file ? [{ file, name }] : [];
  }
  const children = await readAll(entry.createReader());
  const visible = children.filter((child) => !isHidden(child.name));
  const lists = await Promise.all(visible.map((child) => walk(child, `${name}/`)));
  return lists.flat();
}

/* A reader hands out a folder in portions, until an empty one. */
async function readAll(reader) {
  const all = [];
  for (;;) {
    const portion = await new Promise((done, failed) => reader.readEntries(done, failed)).catch(() => []);
    if (!portion.length) return all;
    all.push(...portion);
  }
}
