/* Files out of a drop, folders opened: [{ file, name } | { name, problem }] with the name as a path from the folder that was dropped.
   What cannot be read is in the list too, with a sentence: nobody would miss it in a folder of a hundred files. */

const NAMELESS = "(a name that the browser cannot read)";
const UNREADABLE_NAME = "The browser cannot read the name. Rename it, and drop it again.";
const UNREADABLE_FOLDER = "The browser cannot read this folder, so not all in it was uploaded. Are you allowed to open it?";
const GONE = "It was moved or deleted before the browser could read it.";
const UNREADABLE_FILE = "The browser cannot read it. Are you allowed to open it, and is it a file or a folder?";

/* Hidden things in a folder (.DS_Store, .git) were not meant; the server would refuse each of them. */
export const isHidden = (name) => name.split("/").some((part) => part.startsWith("."));

export async function droppedFiles(transfer) {
  // Entries are to be had only while the event is handled: all are taken before the first await.
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const things = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const lists = await Promise.all(things.map((thing) => (thing instanceof File ? [{ file: thing, name: thing.name }] : walk(thing, ""))));
  return lists.flat();
}

async function walk(entry, folder) {
  if (!entry?.name) return [{ name: folder + NAMELESS, problem: entry ? UNREADABLE_NAME : UNREADABLE_FILE }];
  const name = folder + entry.name;
  if (entry.isFile) return [await fileOf(entry, name)];
  const { children, problem } = await readAll(entry.createReader());
  const visible = children.filter((child) => !isHidden(child.name));
  const lists = await Promise.all(visible.map((child) => walk(child, `${name}/`)));
  return problem ? [{ name: `${name}/`, problem }, ...lists.flat()] : lists.flat();
}

function fileOf(entry, name) {
  return new Promise((done) => {
    entry.file((file) => done({ file, name }), (error) => done({ name, problem: why(error, UNREADABLE_FILE) }));
  });
}

const why = (error, otherwise) => (error.name === "NotFoundError" ? GONE : otherwise);

/* A reader hands out a folder in portions, until an empty one. */
async function readAll(reader) {
  const children = [];
  for (;;) {
    const answer = await new Promise((done) => reader.readEntries((portion) => done({ portion }), (error) => done({ error })));
    if (answer.error) return { children, problem: why(answer.error, UNREADABLE_FOLDER) };
    if (!answer.portion.length) return { children };
    children.push(...answer.portion);
  }
}
