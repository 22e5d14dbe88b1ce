// Elements, words for numbers, and the two places where the page speaks: the banner of problems, and the live region.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; `on` holds listeners, `data` what goes into the dataset. */
export function make(tag, { on = {}, data = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "for" || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Say something to those who do not see the page. */
export function announce(text) {
  byId("announce").textContent = text;
}

/** Show a problem with its remedy until it is closed, or until the next action. */
export function showProblem(problem) {
  const banner = byId("problem");
  const close = make("button", { type: "button", textContent: "Close", on: { click: clearProblem } });
  const words = [make("strong", { textContent: sentence(problem.detail || problem.message) })];
  if (problem.hint) words.push(document.createElement("br"), sentence(problem.hint));
  if (problem.wait) words.push(` Try again in ${problem.wait} s.`);
  banner.replaceChildren(make("div", {}, ...words), close);
  banner.dataset.lost = problem.lost ? "yes" : "";
  banner.hidden = false;
}

export function clearProblem() {
  byId("problem").hidden = true;
  byId("problem").replaceChildren();
}

export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export function sizeWords(bytes) {
  for (const [unit, name] of [[2 ** 30, "GB"], [2 ** 20, "MB"], [2 ** 10, "kB"]]) {
    if (bytes >= unit) return `${(bytes / unit).toFixed(bytes < 10 * unit ? 1 : 0)} ${name}`;
  }
  return `${bytes} B`;
}

/** Millilitres with three figures that count. */
export function volumeWords(ml) {
  return ml === 0 ? "0" : Number(ml.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 6 });
}

export function timeWords(seconds) {
  const when = new Date(seconds * 1000);
  const today = when.toDateString() === new Date().toDateString();
  return when.toLocaleString("en-GB", { timeStyle: "short", ...(today ? {} : { dateStyle: "medium" }) });
}

/** Keep the text of an output beside its slider; `words` makes it of the value. */
export function bindSlider(id, words, onInput) {
  const slider = byId(id);
  const show = () => {
    const text = words(slider.valueAsNumber);
    slider.parentElement.querySelector("output").textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };
  slider.addEventListener("input", () => {
    show();
    onInput(slider.valueAsNumber);
  });
  show();
  return slider;
}

export const percent = (share) => `${Math.round(share * 100)}%`;
