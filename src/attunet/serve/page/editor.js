// Corrections: NiiVue's drawing, which begins as a copy of the mask, and its file.

const LARGEST = 255;
/** Strokes that can be undone. */
const STEPS = 31;

export class Editor {
  /** `viewer` shows the mask that is corrected. */
  constructor(viewer) {
    Object.assign(this, { viewer, active: false, changed: false, steps: 0, value: 1, erasing: false, fill: false });
    viewer.nv.opts.maxDrawUndoBitmaps = STEPS + 1; // with the one before the first stroke
    viewer.nv.onDrawingChanged = (action) => action === "draw" && this.#count();
  }

  #count() {
    this.steps = Math.min(this.steps + 1, STEPS);
    this.changed = true;
  }

  /** Why the labels cannot be painted, in words; an empty text when they can. */
  static obstacle(labels) {
    const large = labels.find(({ value }) => value > LARGEST);
    return large ? `${large.name} has the value ${large.value}; this page paints values up to ${LARGEST}` : "";
  }

  /** Begin with the mask, or with a label of `Viewer.readLabel`. */
  start(labels, label = this.viewer.mask) {
    const { nv, mask } = this.viewer;
    if (!nv.loadDrawing(label)) throw new Error("the saved label is on another grid than the scan");
    nv.setDrawingEnabled(true);
    this.active = true;
    this.changed = false;
    this.steps = 0;
    nv.setOpacity(nv.volumes.indexOf(mask), 0);
    this.viewer.colorLabels(labels);
    nv.setDrawOpacity(this.viewer.maskOpacity);
    this.choose({});
  }

  stop() {
    const { nv, mask } = this.viewer;
    nv.setDrawingEnabled(false);
    nv.closeDrawing();
    this.active = this.changed = false;
    if (mask) nv.setOpacity(nv.volumes.indexOf(mask), this.viewer.maskOpacity);
  }

  /** Choose a label, the eraser, the size in voxels, or filling of outlines. */
  choose({ value = this.value, erasing = this.erasing, size = this.viewer.nv.opts.penSize, fill = this.fill }) {
    Object.assign(this, { value, erasing, fill });
    this.viewer.nv.opts.penSize = size;
    if (this.active) this.viewer.nv.setPenValue(erasing ? 0 : value, fill && !erasing);
  }

  /** Paint at the cross-hairs, for those who use the keyboard. */
  dab() {
    const { nv } = this.viewer;
    nv.drawPenAxCorSag = Math.max(0, ["axial", "coronal", "sagittal"].indexOf(this.viewer.view));
    nv.drawPt(...this.viewer.voxel, this.erasing ? 0 : this.value);
    nv.drawPenAxCorSag = -1;
    nv.drawAddUndoBitmap();
    nv.refreshDrawing(true);
    this.#count();
  }

  /** Take the last stroke back; whether there was one. NiiVue by itself would go round in circles. */
  undo() {
    if (this.steps === 0) return false;
    this.viewer.nv.drawUndo();
    this.steps -= 1;
    this.changed = true;
    return true;
  }

  /** The corrected mask as a .nii.gz file. */
  async file() {
    const bytes = await this.viewer.nv.saveImage({ filename: "", isSaveDrawing: true });
    const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
    return new Response(packed, { headers: { "Content-Type": "application/gzip" } }).blob();
  }
}
