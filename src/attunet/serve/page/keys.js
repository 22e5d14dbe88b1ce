// Keys of the viewer; they work while it has the focus, so that no key is taken from somebody who types.

import { announce, byId, make } from "./dom.js";

const KEYS = [
  ["← → ↑ ↓", "move the cross-hairs by a voxel, with Shift by ten"],
  ["Page Up, Page Down", "next or previous slice"],
  ["1 to 5", "all planes, axial, coronal, sagittal, 3-D"],
  ["M", "mask on or off"],
  ["A", "next map: attention of each gate, probabilities"],
  ["[ and ]", "less or more opacity of the map"],
  ["P, E, Space", "during corrections: paint, erase, and apply at the cross-hairs"],
  ["Ctrl + Z", "undo a correction"],
  ["Home", "back to the centre"],
];
const STEPS = {
  ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};
const SOON = 400;

export function bindKeys(opened) {
  byId("help").querySelector("dl").replaceChildren(...KEYS.flatMap(([keys, words]) =>
    [make("dt", {}, make("kbd", { textContent: keys })), make("dd", { textContent: words })]));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  let timer = null;
  const canvas = byId("canvas");
  for (const kind of ["keydown", "keyup"]) {
    canvas.addEventListener(kind, (event) => {
      if (event.key === "Tab") return;
      event.stopImmediatePropagation(); // NiiVue has keys of its own
      if (kind === "keyup" || !opened.viewer?.image) return;
      if (!press(opened, event)) return;
      event.preventDefault();
      clearTimeout(timer);
      timer = setTimeout(() => announce(opened.words()), SOON);
    }, { capture: true });
  }
}

/** Do what a key is for; whether it is for anything. */
function press(opened, event) {
  const { viewer, corrections } = opened;
  const { active } = corrections.editor;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" || !active) return false;
    corrections.undo();
    return true;
  }
  const actions = {
    m: () => opened.toggleMask(),
    a: () => opened.nextMap(),
    "[": () => opened.changeMap(-0.1),
    "]": () => opened.changeMap(0.1),
    Home: () => viewer.center(),
    ...(active ? { p: () => corrections.use(false), e: () => corrections.use(true), " ": () => corrections.editor.dab() } : {}),
  };
  if (STEPS[key]) viewer.step(...STEPS[key].map((step) => step * (event.shiftKey ? 10 : 1)));
  else if (/^[1-5]$/.test(key)) opened.setView(["all", "axial", "coronal", "sagittal", "render"][key - 1]);
  else if (actions[key]) actions[key]();
  else return false;
  return true;
}
