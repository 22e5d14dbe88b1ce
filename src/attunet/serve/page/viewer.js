// The scan in NiiVue, with up to two layers over it: a map in [0, 1], and the mask.

import "./vendor/niivue.umd.js";
import { MAP_COLORS, labelTable } from "./colors.js";

const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER, MULTIPLANAR_TYPE, DRAG_MODE } = globalThis.niivue;
const PLANES = ["axial", "coronal", "sagittal"];

export const VIEWS = {
  all: { title: "All", type: SLICE_TYPE.MULTIPLANAR },
  axial: { title: "Axial", type: SLICE_TYPE.AXIAL, axis: 2 },
  coronal: { title: "Coronal", type: SLICE_TYPE.CORONAL, axis: 1 },
  sagittal: { title: "Sagittal", type: SLICE_TYPE.SAGITTAL, axis: 0 },
  render: { title: "3-D", type: SLICE_TYPE.RENDER },
};
/** Axes, right-anterior-superior, that the arrow keys move along, and the one of Page Up and Page Down. */
const MOVES = { all: [0, 1, 2], axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0], render: [0, 1, 2] };

export class Viewer {
  /** `onMove` gets {mm, image, label, map} whenever the cross-hairs move. Throws where there is no WebGL2. */
  static async start(canvas, onMove) {
    const viewer = new Viewer();
    viewer.view = "all";
    viewer.map = null;
    viewer.maskOpacity = 0.5;
    viewer.nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 0.85, 0.3, 0.9],
      crosshairWidth: 0.25,
      crosshairWidthUnit: "percent",
      fontColor: [0.85, 0.88, 0.91, 1],
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      multiplanarPadPixels: 2,
      dragMode: DRAG_MODE.contrast,
      dragAndDropEnabled: false,
      loadingText: "",
      logLevel: "error",
    });
    if (!canvas.getContext("webgl2")) throw new Error("this browser has no WebGL2, which the viewer needs");
    viewer.nv.addColormap("attention", MAP_COLORS);
    viewer.nv.onLocationChange = () => onMove(viewer.here());
    await viewer.nv.attachToCanvas(canvas);
    return viewer;
  }

  get image() {
    return this.nv.volumes[0] ?? null;
  }

  get shape() {
    return this.image.dimsRAS.slice(1, 4);
  }

  /** Show a scan and its mask, both as bytes of NIfTI files. */
  async open(image, mask, labels) {
    this.close();
    const [scan, segmentation] = await Promise.all([
      NVImage.loadFromUrl({ url: image, name: "image.nii.gz", colormap: "gray" }),
      NVImage.loadFromUrl({ url: mask, name: "mask.nii.gz", opacity: this.maskOpacity }),
    ]);
    this.mask = segmentation;
    this.nv.addVolume(scan);
    this.colorLabels(labels, false);
    this.nv.addVolume(segmentation);
    this.center();
    this.setView(this.shape[2] === 1 ? "axial" : this.view);
  }

  close() {
    this.nv.closeDrawing();
    this.nv.opts.drawingEnabled = false;
    for (const volume of [...this.nv.volumes]) this.nv.removeVolume(volume);
    this.mask = this.map = null;
    this.nv.opts.multiplanarShowRender = SHOW_RENDER.ALWAYS;
  }

  /** Colours of the labels: [{value, color, shown}]. Only values that occur there are coloured. */
  colorLabels(labels, redraw = true) {
    const table = labelTable(labels);
    this.mask.setColormapLabel(table);
    if (this.nv.drawBitmap) this.nv.setDrawColormap(table);
    else if (redraw) this.nv.updateGLVolume();
  }

  /** How opaque the labels are, or their correction. */
  setMaskOpacity(opacity) {
    this.maskOpacity = opacity;
    if (this.nv.drawBitmap) this.nv.setDrawOpacity(opacity);
    else if (this.mask) this.#setOpacity(this.mask, opacity);
  }

  #setOpacity(volume, opacity) {
    this.nv.setOpacity(this.nv.volumes.indexOf(volume), opacity);
  }

  /** A map from the bytes of a NIfTI file, which may have several channels. */
  readMap(bytes, title) {
    return NVImage.loadFromUrl({
      url: bytes, name: `${title}.nii.gz`, colormap: "attention", cal_min: 0, cal_max: 1, opacity: 0,
    });
  }

  /** A label from the bytes of a NIfTI file. */
  readLabel(bytes) {
    return NVImage.loadFromUrl({ url: bytes, name: "label.nii.gz" });
  }

  /** Show a channel of a map of `readMap` between scan and mask; null for none. */
  showMap(map, frame, opacity) {
    if (this.map && this.map !== map) this.nv.removeVolume(this.map);
    const added = map !== null && this.map !== map;
    this.map = map;
    this.nv.opts.multiplanarShowRender = map ? SHOW_RENDER.NEVER : SHOW_RENDER.ALWAYS;
    if (map === null) return;
    if (added) {
      map._opacity = opacity;
      this.nv.addVolume(map);
      this.nv.setVolume(map, 1);
    }
    this.nv.setFrame4D(map.id, frame);
    this.setMapOpacity(opacity);
  }

  /** A map has a value everywhere, also in the air: in 3-D it would hide everything, and is not drawn. */
  setMapOpacity(opacity) {
    this.mapOpacity = opacity;
    if (this.map) this.#setOpacity(this.map, this.view === "render" ? 0 : opacity);
  }

  /** Show intensities from `low` to `high`. */
  setWindow(low, high) {
    Object.assign(this.image, { cal_min: low, cal_max: high });
    this.nv.updateGLVolume();
  }

  /** The window that suits the intensities of the scan by themselves. */
  get ownWindow() {
    return [this.image.robust_min, this.image.robust_max];
  }

  setChannel(channel) {
    this.nv.setFrame4D(this.image.id, channel);
  }

  setSmooth(smooth) {
    this.nv.setInterpolation(!smooth);
  }

  setView(view) {
    this.view = view;
    if (this.map) this.setMapOpacity(this.mapOpacity);
    this.nv.setSliceType(VIEWS[view].type);
  }

  center() {
    this.nv.scene.crosshairPos = [0.5, 0.5, 0.5];
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.nv.createOnLocationChange();
  }

  /** Move the cross-hairs by voxels to the right and up on the screen, and out of it. */
  step(right, up, out) {
    const moves = [0, 0, 0];
    const [across, along, through] = MOVES[this.view];
    moves[across] -= right; // radiological: the patient's right, and in sagittal slices the front, is on the left
    moves[along] += up;
    moves[through] += out;
    this.nv.moveCrosshairInVox(...moves);
  }

  /** The slice of the single plane that is shown: {axis, index, count, plane}; null with several planes. */
  get slice() {
    const { axis } = VIEWS[this.view];
    if (axis === undefined || !this.image) return null;
    return { axis, index: this.voxel[axis], count: this.shape[axis], plane: PLANES[2 - axis] };
  }

  setSlice(index) {
    const move = [0, 0, 0];
    move[this.slice.axis] = index - this.slice.index;
    this.nv.moveCrosshairInVox(...move);
  }

  get voxel() {
    return [...this.nv.frac2vox(this.nv.scene.crosshairPos)];
  }

  /** What is under the cross-hairs. */
  here() {
    if (!this.image) return null;
    const [mm, voxel] = [this.nv.frac2mm(this.nv.scene.crosshairPos, 0, true), this.voxel];
    const value = (volume) => volume.getValue(...voxel, volume.frame4D);
    const [width, height] = this.shape;
    const drawn = this.nv.drawBitmap?.[voxel[0] + width * (voxel[1] + height * voxel[2])];
    return {
      mm: [...mm].slice(0, 3),
      voxel,
      image: value(this.image),
      label: drawn ?? (this.mask ? value(this.mask) : null),
      map: this.map ? value(this.map) : null,
    };
  }
}
