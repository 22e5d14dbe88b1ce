// The page: a scan goes in, its job is followed, and its mask and maps are shown.

import * as api from "./api.js";
import { askOrder } from "./channels.js";
import { watchServer } from "./connection.js";
import { announce, byId, clearProblem, make, percent, sentence, showProblem } from "./dom.js";
import { chosenFiles, droppedFiles, nameOf } from "./files.js";
import { listJobs } from "./jobs.js";
import { bindKeys } from "./keys.js";
import { Opened } from "./opened.js";
import { bindAccount, bindTheme } from "./settings.js";

const page = { models: [], studies: [], opened: null, task: null };
/** Where the viewer is below what one sends a scan with. */
const NARROW = matchMedia("(max-width: 45rem)");
const current = () => /^#job=([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
const chosenModel = () => page.models.find(({ name }) => name === byId("model").value);

async function start() {
  bindTheme();
  bindAccount();
  bindDrop();
  page.opened = new Opened();
  bindKeys(page.opened);
  byId("model").addEventListener("change", showModelChoice);
  byId("study-run").addEventListener("click", () => segment(byId("study").value, async () => byId("study").value));
  byId("cancel").addEventListener("click", () => page.task?.abort());
  addEventListener("hashchange", () => guarded(openCurrent));
  watchServer(() => guarded(refresh));
  await guarded(refresh);
}

/** Read what the server has, and open the job of the address where it is not open. */
async function refresh() {
  page.models = await api.models();
  const chosen = byId("model").value;
  byId("model").replaceChildren(...page.models.map(({ name }) => make("option", { value: name, textContent: name })));
  if (page.models.some(({ name }) => name === chosen)) byId("model").value = chosen;
  showModelChoice();
  await Promise.all([refreshStudies(), refreshJobs(), page.opened.ready]);
  if (page.opened.job?.id !== current()) await openCurrent();
}

/** Run an action and show what goes wrong with it. */
async function guarded(action) {
  try {
    await action();
  } catch (problem) {
    if (problem.name === "AbortError") return;
    showProblem(problem);
    if (!(problem instanceof api.Problem)) console.error(problem);
  }
}

function showModelChoice() {
  const model = chosenModel();
  if (!model) return;
  byId("model-about").textContent = sentence(model.description);
  byId("channels").textContent = model.channels.length > 1
    ? `; a file for each of ${model.channels.join(", ")}, in this order` : "";
  for (const name of ["attention", "explanation"]) {
    const box = document.querySelector(`[name="output"][value="${name}"]`);
    box.disabled = model.gates.length === 0;
    box.checked = box.checked && !box.disabled;
  }
}

async function refreshStudies() {
  page.studies = await api.studies();
  byId("studies").hidden = page.studies.length === 0;
  const chosen = byId("study").value;
  byId("study").replaceChildren(...page.studies.map(({ key, labels }) =>
    make("option", { value: key, textContent: labels.length ? `${key} (${labels.join(", ")})` : key })));
  if (page.studies.some(({ key }) => key === chosen)) byId("study").value = chosen;
}

const refreshJobs = () => listJobs(current(), (job) => {
  if (location.hash === `#job=${job.id}`) guarded(openCurrent);
  else location.hash = `job=${job.id}`;
});

function bindDrop() {
  for (const [button, input] of [["pick-files", "files"], ["pick-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", () => {
      const files = chosenFiles(byId(input));
      byId(input).value = "";
      send(files);
    });
  }
  const body = document.body;
  body.addEventListener("dragover", (event) => {
    event.preventDefault();
    body.classList.add("dragging");
  });
  body.addEventListener("dragleave", (event) => event.relatedTarget ?? body.classList.remove("dragging"));
  body.addEventListener("drop", (event) => {
    event.preventDefault();
    body.classList.remove("dragging");
    performance.mark("attunet:drop");
    droppedFiles(event.dataTransfer).then(send, showProblem);
  });
}

async function send(files) {
  const ordered = files.length > 0 && !isBusy() && (await askOrder(files, chosenModel()?.channels ?? []));
  if (!ordered) return;
  await segment(nameOf(ordered), async (signal) => {
    const scan = await api.upload(ordered, (share) => showWork(`Uploading, ${percent(share)}`, share), signal);
    return scan.id;
  });
}

/** Whether a scan is on its way, which is said. */
function isBusy() {
  if (page.task) showProblem({ detail: "another scan is being segmented", hint: "wait until it is done, or cancel it" });
  return page.task !== null;
}

/** Bring a scan to the server, submit a job, follow it, and show its results. */
async function segment(name, bring) {
  if (isBusy()) return;
  page.task = new AbortController();
  clearProblem();
  announce(`${name} is being sent`);
  await guarded(async () => {
    showWork("Sending", null);
    const job = await api.submit(requestOf(await bring(page.task.signal)));
    history.pushState(null, "", `#job=${job.id}`);
    await watch(job);
  });
  page.task = null;
  byId("working").hidden = true;
  await guarded(refreshJobs);
}

function requestOf(scan) {
  const wanted = [...document.querySelectorAll('[name="output"]:checked:not(:disabled)')].map(({ value }) => value);
  return { scan, model: chosenModel().name, outputs: ["image", ...wanted], series: byId("series").value.trim() || null };
}

/** Follow a job to its end, then open it. */
async function watch(job) {
  const { signal } = page.task;
  const stop = () => {
    showWork("Cancelling", null);
    api.cancel(job.id).catch(showProblem);
  };
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  let told = "";
  const ended = await api.follow(job.id, (event) => {
    if (signal.aborted) return;
    const [words, share] = progressOf(event);
    showWork(words, share);
    const quarters = share === null ? words : `${percent(Math.floor(share * 4) / 4)} segmented`;
    if (quarters !== told) announce(quarters);
    told = quarters;
  });
  if (current() === job.id) await open(ended);
}

/** How far a job is, in words and as a share, which is null while it is unknown. */
function progressOf(event) {
  if (event === null) return ["The server does not answer; trying again", null];
  if (event.state === "queued") return ["Waiting in the queue", null];
  if (event.total === 0) return ["Reading the scan", null];
  return [`Segmenting, ${percent(event.done / event.total)}`, event.done / event.total];
}

function showWork(words, share) {
  byId("working").hidden = false;
  byId("working-text").textContent = words;
  if (share === null) byId("bar").removeAttribute("value");
  else byId("bar").value = share;
}

async function openCurrent() {
  const id = current();
  if (!id) return;
  clearProblem();
  const job = await api.job(id);
  if (["queued", "running"].includes(job.state)) {
    if (page.task) return;
    page.task = new AbortController();
    try {
      await watch(job);
    } finally {
      page.task = null;
      byId("working").hidden = true;
      await refreshJobs();
    }
  } else {
    await open(job);
    await refreshJobs();
  }
}

async function open(job) {
  if (job.state === "failed") throw new api.Problem(0, { detail: `the scan ${job.name} was not segmented: ${job.reason}`, hint: job.hint });
  if (job.state === "cancelled") {
    announce("The job was cancelled");
    return;
  }
  const model = page.models.find(({ name }) => name === job.model);
  if (!model) throw new api.Problem(0, { detail: `the server no longer has the model ${job.model}`, hint: "ask for a server that was started with it" });
  await page.opened.show(job, model, page.studies.find(({ key }) => key === job.scan) ?? null);
  if (NARROW.matches) byId("viewer").scrollIntoView();
  announce(`${job.name || "The scan"} is segmented`);
}

start();
