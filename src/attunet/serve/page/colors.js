// Colours of labels and maps, those of attunet's figures.

/** Okabe and Ito's colours, then colours that are far from all before; as in attunet's reports. */
const PALETTE = [
  "#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#f0e442", "#999999",
  "#9669f0", "#f02d5a", "#69690f", "#69f078", "#ffd296", "#c30f96", "#964b3c", "#5af0f0",
  "#1e8700", "#b4e196", "#f0d2ff", "#0f6969", "#ff96ff", "#694b96", "#0087ff", "#ff9687",
];

/** matplotlib's inferno at nine points; nothing is drawn where a map has no coefficients, which is stored as 0. */
const INFERNO = [
  [0, 0, 4], [33, 12, 74], [87, 16, 110], [138, 34, 106], [188, 55, 84], [228, 90, 49], [249, 142, 9],
  [249, 203, 53], [252, 255, 164],
];

export const MAP_COLORS = {
  R: [0, ...INFERNO.map((color) => color[0])],
  G: [0, ...INFERNO.map((color) => color[1])],
  B: [0, ...INFERNO.map((color) => color[2])],
  A: [0, ...INFERNO.map(() => 255)],
  I: [0, 1, ...INFERNO.slice(1).map((_, position) => Math.round(((position + 1) * 255) / 8))],
};

export const colorOf = (position) => PALETTE[position % PALETTE.length];

/** A table for NiiVue of labels [{value, color, shown}], which draws all that are shown equally opaque. */
export function labelTable(labels) {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const { value, color, shown, name } of labels) {
    const [red, green, blue] = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
    table.R.push(red);
    table.G.push(green);
    table.B.push(blue);
    table.A.push(shown ? 255 : 0);
    table.I.push(value);
    table.labels.push(name);
  }
  return table;
}

/** Draw the colours of maps from 0 to 1 into a canvas. */
export function drawScale(canvas) {
  const paper = canvas.getContext("2d");
  const gradient = paper.createLinearGradient(0, 0, canvas.width, 0);
  INFERNO.forEach(([red, green, blue], position) =>
    gradient.addColorStop(position / (INFERNO.length - 1), `rgb(${red} ${green} ${blue})`));
  paper.fillStyle = gradient;
  paper.fillRect(0, 0, canvas.width, canvas.height);
}
