// Which file is which channel, for models of several images: guessed by the names of the files, and asked.

import { byId, make } from "./dom.js";

/** Answers the question that is asked; another drop takes its place. */
let settle = () => null;

/**
 * The files in the order of the channels, as the user confirms it; null where the user cancels. What is not one file for
 * each channel goes as it is: a single file may hold all channels, and many may be slices.
 */
export function askOrder(files, channels) {
  if (channels.length < 2 || files.length !== channels.length) return files;
  settle(null);
  const dialog = byId("order");
  const guess = guessOrder(files, channels);
  const selects = channels.map((channel, number) => make("select", { on: { change: (event) => swap(event.target) } },
    ...files.map(({ name }, file) => make("option", { value: file, textContent: name, selected: file === guess[number] }))));
  for (const select of selects) select.dataset.file = select.value;
  const swap = (changed) => { // each file is one channel
    const other = selects.find((select) => select !== changed && select.value === changed.value);
    if (other) other.value = other.dataset.file = changed.dataset.file;
    changed.dataset.file = changed.value;
  };
  byId("order-rows").replaceChildren(...selects.map((select, number) =>
    make("label", { className: "field" }, channels[number], select)));
  dialog.returnValue = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => { // the event comes later, and may be that of an earlier question
      if (!dialog.open) settle(dialog.returnValue === "send" ? selects.map(({ value }) => files[value]) : null);
    };
    settle = (answer) => {
      dialog.removeEventListener("close", closed);
      resolve(answer);
    };
    dialog.addEventListener("close", closed);
  });
}

/** For each channel the number of its file: the one whose name holds that of the channel, else the next by name. */
function guessOrder(files, channels) {
  const plain = (text) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const byName = [...files.keys()].sort((one, other) =>
    files[one].name.localeCompare(files[other].name, "en", { numeric: true }));
  const named = channels.map((channel) => byName.filter((file) => plain(files[file].name).includes(plain(channel))));
  const sure = named.every((found) => found.length === 1) && new Set(named.flat()).size === channels.length;
  return sure ? named.flat() : byName;
}
