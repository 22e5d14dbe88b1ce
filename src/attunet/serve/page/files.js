// Files of a scan, however they come: dropped, dropped as a folder, or chosen.

/** The files of a drop, with those of folders, as [{file, name}]. */
export async function droppedFiles(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const dropped = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile()); // a script's drop has no entries
  const found = await Promise.all(dropped.map((one) => (one instanceof File ? [{ file: one, name: one.name }] : walk(one))));
  return found.flat().filter(isOfScan);
}

/** The files of an <input>. */
export const chosenFiles = (input) =>
  [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })).filter(isOfScan);

/** What people call these files: the name of the only one, or how many there are. */
export function nameOf(files) {
  return files.length === 1 ? lastOf(files[0].name) : `${files.length} files`;
}

/** Folders hold files that are part of no scan. */
function isOfScan({ name }) {
  return !lastOf(name).startsWith(".") && !["DICOMDIR", "Thumbs.db", "desktop.ini"].includes(lastOf(name));
}

const lastOf = (path) => path.split("/").at(-1);

async function walk(entry) {
  if (entry.isFile) {
    return new Promise((resolve, reject) => {
      entry.file((file) => resolve([{ file, name: entry.fullPath.replace(/^\//, "") }]), reject);
    });
  }
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (batch.length === 0) break; // a reader gives a hundred at a time
    children.push(...batch);
  }
  return (await Promise.all(children.map(walk))).flat();
}
