// The panels beside the scan: labels with volumes, maps, window, warnings, downloads and the model.

import { byId, make, percent, sentence, sizeWords, volumeWords } from "./dom.js";
import { colorOf, drawScale } from "./colors.js";

const CT_WINDOWS = {
  "Soft tissue": [40, 400], Abdomen: [60, 400], Liver: [80, 150], Lung: [-600, 1500], Mediastinum: [50, 350],
  Bone: [400, 1800], Brain: [40, 80],
};

/** The labels of a mask as the viewer and the panels share them. */
export function labelsOf(model) {
  return Object.entries(model.labels)
    .filter(([, value]) => value !== 0 && Object.values(model.labels)[0] !== value)
    .map(([name, value], position) => ({ name, value, color: colorOf(position), shown: true }));
}

/** The rows of the panel Mask; `onChange` is called when colours change. */
export function showLabels(labels, statistics, onChange) {
  const rows = labels.map((label) => labelRow(label, statistics.labels[label.name], onChange));
  const others = Object.entries(statistics.labels).filter(([name]) => !labels.some((label) => label.name === name));
  byId("label-rows").replaceChildren(...rows, ...others.map(([name, found]) => make("div", { className: "label" },
    make("span"), make("span"), make("span", { className: "name", textContent: name }), ...volumeParts(found))));
  byId("dice").textContent = diceWords(statistics);
  byId("labels").hidden = false;
}

function labelRow(label, found, onChange) {
  const change = (field, value) => {
    label[field] = value;
    onChange();
  };
  const name = `label-${label.value}`;
  return make("div", { className: "label" },
    make("input", { type: "checkbox", checked: true, id: name, "aria-label": `Show ${label.name}`,
      on: { change: (event) => change("shown", event.target.checked) } }),
    make("input", { type: "color", value: label.color, "aria-label": `Colour of ${label.name}`,
      on: { input: (event) => change("color", event.target.value) } }),
    make("label", { className: "name", htmlFor: name, textContent: label.name }),
    ...volumeParts(found));
}

function volumeParts(found) {
  if (!found) return [make("span")];
  const parts = [make("span", { className: "volume", textContent: `${volumeWords(found.volume_ml)} ml` })];
  const facts = [];
  if (found.interval_ml) {
    const [low, high] = found.interval_ml.map(volumeWords);
    facts.push(`${percent(found.level)} interval ${low}–${high} ml`);
  }
  if (found.expected_dice !== null) facts.push(`expected Dice ${found.expected_dice.toFixed(2)}`);
  if (facts.length) {
    parts.push(make("span", { className: "facts small soft", textContent: facts.join(" · "), title: found.interval_reason }));
  }
  return parts;
}

/** The Dice of the whole mask that was calibrated; else where those of the labels come from. */
function diceWords({ labels, predicted_dice: dice, dice_interval: interval, dice_reason: reason }) {
  if (dice === null) {
    const guessed = Object.values(labels).some((found) => found.expected_dice !== null);
    return guessed ? "The expected Dice follows from the network's own probabilities, which may be overconfident." : "";
  }
  const ends = interval ? ` (${interval.map((end) => end.toFixed(2)).join("–")})` : "";
  return `Expected Dice, calibrated on held-out cases: ${dice.toFixed(2)}${ends}. ${interval ? "" : sentence(reason)}`.trim();
}

/** The choices of the panel of maps; `onChoose` gets {result, channel, title} or null. */
export function showMaps(results, model, onChoose) {
  const choices = [];
  for (const result of results.filter(({ name }) => name.startsWith("attention-"))) {
    choices.push({
      group: "Attention", title: result.title, spoken: `Attention of ${result.title}`, words: attentionWords(result.title),
      result, channel: 0,
    });
  }
  const probabilities = results.find(({ name }) => name === "probabilities");
  if (probabilities) {
    Object.keys(model.labels).forEach((title, channel) =>
      choices.push({
        group: "Probability", title, spoken: `Probability of ${title}`, words: `Probability of ${title}.`,
        result: probabilities, channel,
      }));
  }
  byId("maps").hidden = choices.length === 0;
  const rows = [chip("None", true, () => choose(null))];
  for (const group of new Set(choices.map((choice) => choice.group))) {
    rows.push(make("h3", { textContent: group }));
    rows.push(...choices.filter((choice) => choice.group === group)
      .map((choice) => chip(choice.title, false, () => choose(choice), group)));
  }
  byId("map-rows").replaceChildren(...rows);
  const choose = (choice) => {
    byId("scale").hidden = choice === null;
    byId("scale-text").textContent = choice?.words ?? "";
    onChoose(choice);
  };
  byId("scale").hidden = true;
  drawScale(byId("scale-bar"));
}

function chip(title, checked, onChange, group = "") {
  return make("label", {},
    make("input", { type: "radio", name: "map", checked, value: `${group} ${title}`.trim(), on: { change: onChange },
      "aria-label": `${group} ${title}`.trim() }), title);
}

function attentionWords(gate) {
  return gate === "localizer"
    ? "How likely each place is to be near a label, as the localizer estimates on a coarse grid."
    : `Attention coefficients of the gate at ${gate} (level1 is the finest): at 0 it blocks the features of the skip ` +
      "connection, at 1 it passes them.";
}

/** Presets of the window: those of CT where the model is for CT; `onWindow` gets lower and upper intensity. */
export function showWindow(own, isCT, onWindow) {
  const presets = { Automatic: null, ...(isCT ? CT_WINDOWS : {}) };
  const [select, level, width] = ["preset", "level", "width"].map(byId);
  select.replaceChildren(...Object.keys(presets).map((name) => make("option", { textContent: name })),
    make("option", { textContent: "Custom", disabled: true }));
  const apply = () => onWindow(level.valueAsNumber - width.valueAsNumber / 2, level.valueAsNumber + width.valueAsNumber / 2);
  const fill = ([low, high]) => {
    level.value = Number(((low + high) / 2).toPrecision(4));
    width.value = Number((high - low).toPrecision(4));
  };
  select.onchange = () => {
    const preset = presets[select.value];
    fill(preset ? [preset[0] - preset[1] / 2, preset[0] + preset[1] / 2] : own);
    apply();
  };
  level.onchange = width.onchange = () => {
    if (!(width.valueAsNumber > 0) || !Number.isFinite(level.valueAsNumber)) return;
    select.value = "Custom";
    apply();
  };
  select.value = isCT ? "Soft tissue" : "Automatic";
  select.onchange();
  byId("window").hidden = false;
}

/** Show the window that the mouse chose, by dragging with its right button. */
export function tellWindow(low, high) {
  byId("preset").value = "Custom";
  byId("level").value = Number(((low + high) / 2).toPrecision(4));
  byId("width").value = Number((high - low).toPrecision(4));
}

export function showWarnings(warnings) {
  byId("warnings").hidden = warnings.length === 0;
  byId("warnings").querySelector("ul").replaceChildren(
    ...warnings.map((text) => make("li", { textContent: sentence(text) })));
}

export function showDownloads(results) {
  byId("downloads").hidden = false;
  byId("downloads").querySelector("ul").replaceChildren(...results.map(({ name, title, url, bytes, media_type: type }) => {
    const words = name.startsWith("attention-") ? `Attention, ${title}` : title;
    const opens = type.startsWith("text/") || type.startsWith("image/");
    const link = make("a", { href: url }, words, make("span", { textContent: sizeWords(bytes) }));
    if (opens) Object.assign(link, { target: "_blank", rel: "noopener" });
    else link.setAttribute("download", "");
    return make("li", {}, link);
  }));
}

export function showModel(model, statistics) {
  const scored = Object.entries(model.dice).filter(([, dice]) => dice !== null);
  const rows = scored.map(([name, dice]) =>
    make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { textContent: dice.toFixed(3) })));
  const table = scored.length
    ? make("table", {}, make("caption", { textContent: "Mean Dice on held-out cases" }), make("tbody", {}, ...rows))
    : make("p", { className: "small soft", textContent: "There are no scores on held-out cases." });
  const facts = `${statistics.windows === 1 ? "1 window" : `${statistics.windows} windows`} on ${statistics.engine} in ${statistics.seconds.toFixed(1)} s` +
    `${statistics.skipped_windows ? `; ${statistics.skipped_windows} more were skipped` : ""}.`;
  byId("model-card").querySelector("div").replaceChildren(
    make("p", { className: "small" }, make("strong", { textContent: model.name }), `: ${sentence(model.description)}`),
    table,
    make("ul", { className: "notes" }, ...[facts, ...model.warnings].map((text) => make("li", { textContent: sentence(text) }))));
  byId("model-card").hidden = false;
}
