// The job whose scan, mask and maps are shown, and what its controls do to the viewer.

import * as api from "./api.js";
import { announce, bindSlider, byId, make, percent, showProblem } from "./dom.js";
import { Corrections } from "./corrections.js";
import {
  labelsOf, showDownloads, showLabels, showMaps, showModel, showWarnings, showWindow, tellWindow,
} from "./result.js";
import { VIEWS, Viewer } from "./viewer.js";

export class Opened {
  constructor() {
    Object.assign(this, { job: null, model: null, labels: [], maps: new Map(), viewer: null, corrections: null });
    this.ready = this.#start();
    this.mapSlider = bindSlider("map-opacity", percent, (opacity) => this.viewer?.setMapOpacity(opacity));
    bindSlider("mask-opacity", percent, (opacity) => this.viewer?.setMaskOpacity(opacity));
    byId("views").replaceChildren(...Object.entries(VIEWS).map(([view, { title }]) => make("button", {
      type: "button", textContent: title, "aria-pressed": String(view === "all"), data: { view },
      on: { click: () => this.setView(view) },
    })));
    byId("slice").addEventListener("input", (event) => this.viewer.setSlice(event.target.valueAsNumber));
    byId("smooth").addEventListener("change", (event) => this.viewer?.setSmooth(event.target.checked));
    byId("channel").addEventListener("change", (event) => this.viewer.setChannel(Number(event.target.value)));
  }

  async #start() {
    try {
      this.viewer = await Viewer.start(byId("canvas"), (place) => this.#tell(place));
    } catch (error) {
      byId("empty").querySelector("p").textContent = `${error.message}. Masks can be downloaded all the same.`;
      return;
    }
    this.corrections = new Corrections(this.viewer);
    this.viewer.nv.onIntensityChange = (volume) => {
      if (volume === this.viewer.image) tellWindow(volume.cal_min, volume.cal_max);
    };
  }

  /** Show a job that is done; `study` is its scan among the server's studies, which takes corrections, or null. */
  async show(job, model, study) {
    Object.assign(this, { job, model, labels: labelsOf(model), maps: new Map() });
    const [bytes, statistics, results] = await Promise.all([
      Promise.all(["image", "mask"].map((name) => api.bytesOf(api.resultUrl(job.id, name)).catch(absent))),
      api.statistics(job.id),
      api.results(job.id),
    ]);
    document.querySelector("main").classList.add("opened");
    const title = job.name || "Scan";
    byId("viewer-title").textContent = title;
    document.title = `${title} · attunet`;
    const [image, mask] = bytes;
    showLabels(this.labels, statistics, () => this.viewer?.colorLabels(this.labels));
    if (this.viewer) await this.#draw(image ?? mask, mask, results, study);
    showWarnings(statistics.warnings);
    showDownloads(results);
    showModel(model, statistics);
  }

  async #draw(image, mask, results, study) {
    this.corrections.leave();
    await this.viewer.open(image, mask, this.labels);
    performance.mark("attunet:mask");
    byId("empty").hidden = true;
    byId("canvas").setAttribute("aria-label", `${this.job.name || "Scan"}, with its mask`);
    showWindow(this.viewer.ownWindow, this.model.modality === "ct", (low, high) => this.viewer.setWindow(low, high));
    const channels = this.viewer.image.nFrame4D;
    byId("channel-field").hidden = channels < 2;
    byId("channel").replaceChildren(...Array.from({ length: channels }, (_, number) =>
      make("option", { value: number, textContent: this.model.channels[number] ?? number + 1 })));
    showMaps(results, this.model, (choice) => this.#chooseMap(choice));
    this.corrections.offer(this.job, this.labels, study);
    this.setView(this.viewer.view);
  }

  async #chooseMap(choice) {
    this.choice = choice;
    if (choice === null) {
      this.viewer.showMap(null);
      this.#tell();
      return;
    }
    const { result, channel, spoken } = choice;
    try {
      if (!this.maps.has(result.name)) {
        this.maps.set(result.name, api.bytesOf(result.url).then((bytes) => this.viewer.readMap(bytes, result.name)));
      }
      const map = await this.maps.get(result.name);
      if (this.choice !== choice) return; // another one was chosen meanwhile
      this.viewer.showMap(map, channel, this.mapSlider.valueAsNumber);
      this.#tell();
      announce(`${spoken} is shown`);
    } catch (problem) {
      this.maps.delete(result.name);
      showProblem(problem);
    }
  }

  setView(view) {
    if (!this.viewer?.image) return;
    this.viewer.setView(view);
    for (const button of byId("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    this.#tell();
  }

  /** Toggle the mask, or the map, or change the map's opacity. */
  toggleMask() {
    const slider = byId("mask-opacity");
    if (slider.valueAsNumber > 0) this.before = slider.value;
    slider.value = slider.valueAsNumber > 0 ? 0 : this.before ?? 0.5;
    slider.dispatchEvent(new Event("input"));
    announce(`Mask ${percent(slider.valueAsNumber)}`);
  }

  changeMap(by) {
    this.mapSlider.value = this.mapSlider.valueAsNumber + by;
    this.mapSlider.dispatchEvent(new Event("input"));
    announce(`Map ${percent(this.mapSlider.valueAsNumber)}`);
  }

  nextMap() {
    const choices = [...document.querySelectorAll('[name="map"]')];
    const next = choices[(choices.findIndex((choice) => choice.checked) + 1) % choices.length];
    next?.click();
  }

  /** In words what is under the cross-hairs. */
  words(place = this.viewer?.here()) {
    if (!place) return "";
    const label = this.labels.find(({ value }) => value === place.label);
    return [
      `${place.mm.map((value) => value.toFixed(1)).join(", ")} mm`,
      `intensity ${Number(place.image.toPrecision(4))}`,
      label?.name ?? "no label",
      ...(place.map === null ? [] : [`${this.choice?.spoken ?? "map"} ${place.map.toFixed(2)}`]),
      ...(place.map !== null && this.viewer.view === "render" ? ["maps are shown on slices"] : []),
    ].join(" · ");
  }

  #tell(place = this.viewer.here()) {
    byId("readout").hidden = !place;
    byId("readout").textContent = this.words(place);
    const slice = this.viewer?.slice ?? null;
    byId("slices").hidden = slice === null;
    if (slice === null) return;
    byId("slice-label").textContent = `${slice.plane[0].toUpperCase()}${slice.plane.slice(1)}`;
    byId("slice").max = slice.count - 1;
    byId("slice").value = slice.index;
    byId("slice-out").textContent = `${slice.index + 1} of ${slice.count}`;
  }
}

/** A job that was not asked for its image has none; its mask is shown alone. */
function absent(problem) {
  if (problem.status === 404) return null;
  throw problem;
}
