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
    byId("paint").addEventListener("click", () => this.use(false));
    byId("erase").addEventListener("click", () => this.use(true));
    byId("undo").addEventListener("click", () => editor.undo());
    byId("pen").addEventListener("change", () => this.use(false));
    byId("fill").addEventListener("change", (event) => editor.choose({ fill: event.target.checked }));
    bindSlider("pen-size", String, (size) => editor.choose({ size }));
    byId("save-label").addEventListener("click", () => this.#save());
    byId("download-label").addEventListener("click", () => this.#download());
    addEventListener("beforeunload", (event) => editor.changed && event.preventDefault());
  }

  /** Offer corrections of a mask; only an image among the studies can keep them on the server. */
  offer(job, labels, isStudy) {
    Object.assign(this, { job, labels });
    const obstacle = Editor.obstacle(labels);
    byId("corrections").hidden = false;
    byId("edit").disabled = obstacle !== "";
    byId("edit").title = obstacle;
    byId("save-label").hidden = !isStudy;
    byId("download-label").className = isStudy ? "" : "primary";
    byId("save-about").textContent = obstacle || (isStudy
      ? "Saved among the studies as the label “final”, on which attunet train learns."
      : "This scan was uploaded. To keep corrections on the server, choose a scan of --studies.");
    byId("pen").replaceChildren(...labels.map(({ name, value }) => make("option", { value, textContent: name })));
  }

  enter() {
    this.editor.start(this.labels);
    this.#show();
    this.use(false);
    announce("Paint on a slice with the mouse, a finger, or with the space bar at the cross-hairs");
  }

  /** End the corrections; where some are not saved, ask first. */
  leave(asks = false) {
    if (!this.editor.active) return;
    if (asks && this.editor.changed && !confirm("Drop the corrections that are not saved?")) return;
    this.editor.stop();
    this.#show();
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
  }

  async #save() {
    clearProblem();
    byId("save-label").disabled = true;
    try {
      await api.saveLabel(this.job.scan, TAG, await this.editor.file());
      this.editor.changed = false;
      byId("save-about").textContent = `Saved at ${new Date().toLocaleTimeString("en-GB")} as the label “${TAG}” of ${this.job.scan}.`;
      announce("The corrected mask is saved");
    } catch (problem) {
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
