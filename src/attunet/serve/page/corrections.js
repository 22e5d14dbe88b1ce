// The panel of corrections: paint and erase on the mask, and keep it as a label among the studies.

import * as api from "./api.js";
import { announce, bindSlider, byId, clearProblem, make, showProblem } from "./dom.js";
import { Editor } from "./editor.js";

const TAG = "final";

export class Corrections {
  constructor(viewer) {
    this.editor = new Editor(viewer);
    const { editor } = this;
    byId("edit").addEventListener("click", () => (editor.active ? this.leave(true) : this.enter()));
    byId("edit-saved").addEventListener("click", () => this.#enterSaved());
    byId("paint").addEventListener("click", () => this.use(false));
    byId("erase").addEventListener("click", () => this.use(true));
    byId("undo").addEventListener("click", () => this.undo());
    byId("pen").addEventListener("change", () => this.use(false));
    byId("fill").addEventListener("change", (event) => editor.choose({ fill: event.target.checked }));
    bindSlider("pen-size", String, (size) => editor.choose({ size }));
    byId("save-label").addEventListener("click", () => this.#save());
    byId("download-label").addEventListener("click", () => this.#download());
    addEventListener("beforeunload", (event) => editor.changed && event.preventDefault());
  }

  /** Offer corrections of a mask; only a study of the server can keep them there. */
  offer(job, labels, study) {
    Object.assign(this, { job, labels, study });
    const obstacle = Editor.obstacle(labels);
    byId("corrections").hidden = false;
    byId("edit").disabled = obstacle !== "";
    byId("edit").title = obstacle;
    byId("save-label").hidden = study === null;
    byId("download-label").className = study ? "" : "primary";
    byId("save-about").textContent = obstacle || (study
      ? `Saved with the studies as the label “${TAG}”, which attunet train learns from.`
      : "This scan was uploaded: download its corrections. Those of a scan on the server can be saved there.");
    byId("pen").replaceChildren(...labels.map(({ name, value }) => make("option", { value, textContent: name })));
    this.#show();
  }

  async #enterSaved() {
    clearProblem();
    try {
      this.enter(await this.editor.viewer.readLabel(await api.labelOf(this.study.key, TAG)));
    } catch (problem) {
      showProblem(problem);
    }
  }

  enter(label) {
    this.editor.start(this.labels, label);
    this.#show();
    this.use(false);
    announce("Paint on a slice with the mouse, a finger, or with the space bar at the cross-hairs");
  }

  /** End the corrections; where some are not saved, ask first. */
  leave(asks = false) {
    if (!this.editor.active) return;
    if (asks && this.editor.changed && !confirm("Discard the corrections that are not saved?")) return;
    this.editor.stop();
    this.#show();
  }

  undo() {
    announce(this.editor.undo() ? "The last stroke is undone" : "There is nothing to undo");
  }

  use(erasing) {
    this.editor.choose({ value: Number(byId("pen").value), erasing });
    byId("paint").setAttribute("aria-pressed", String(!erasing));
    byId("erase").setAttribute("aria-pressed", String(erasing));
  }

  #show() {
    const { active } = this.editor;
    byId("tools").hidden = !active;
    byId("edit").textContent = active ? "Stop" : "Start";
    byId("edit").setAttribute("aria-pressed", String(active));
    const isSaved = this.study?.labels.includes(TAG) ?? false;
    byId("saved").hidden = active || !isSaved;
    byId("save-label").textContent = isSaved ? "Replace final" : "Save as final";
  }

  async #save() {
    clearProblem();
    byId("save-label").disabled = true;
    byId("save-about").textContent = "Saving…";
    try {
      await api.saveLabel(this.job.scan, TAG, await this.editor.file());
      this.editor.changed = false;
      if (!this.study.labels.includes(TAG)) this.study.labels.push(TAG);
      this.#show();
      byId("save-about").textContent = `Saved at ${new Date().toLocaleTimeString("en-GB")} as the label “${TAG}” of ${this.job.scan}.`;
      announce("The corrected mask is saved");
    } catch (problem) {
      byId("save-about").textContent = "Not saved.";
      showProblem(problem);
    }
    byId("save-label").disabled = false;
  }

  async #download() {
    const url = URL.createObjectURL(await this.editor.file());
    make("a", { href: url, download: "corrected.nii.gz" }).click();
    this.editor.changed = false;
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}
