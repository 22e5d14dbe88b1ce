// The list of earlier jobs: what they are, how they stand, and how to open or remove them.

import * as api from "./api.js";
import { byId, make, showProblem, timeWords } from "./dom.js";

const STATES = { queued: "waiting", running: "running", done: "", failed: "failed", cancelled: "cancelled" };

/** Show the jobs; `onOpen` gets the one that is chosen, `current` is the id of the one that is shown. */
export async function listJobs(current, onOpen) {
  const jobs = await api.jobs();
  const list = byId("jobs");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.job : null;
  list.replaceChildren(...jobs.map((job) => row(job, job.id === current, onOpen, () => listJobs(current, onOpen))));
  if (jobs.length === 0) list.append(make("li", { className: "soft small", textContent: "None yet." }));
  if (focused) list.querySelector(`[data-job="${focused}"]`)?.focus();
  return jobs;
}

function row(job, isCurrent, onOpen, onChange) {
  const state = STATES[job.state];
  const words = [timeWords(job.created), job.model, state].filter(Boolean).join(" · ");
  const name = job.name || "scan that is no longer kept";
  const open = make("button", { type: "button", className: "open", data: { job: job.id }, on: { click: () => onOpen(job) } },
    make("strong", { textContent: name }), make("small", { textContent: words, className: job.state === "failed" ? "failed" : "" }));
  if (isCurrent) open.setAttribute("aria-current", "true");
  const ended = !["queued", "running"].includes(job.state);
  const remove = make("button", {
    type: "button", className: "remove", textContent: "✕", title: ended ? "Delete" : "Cancel",
    "aria-label": `${ended ? "Delete" : "Cancel"} the job of ${name}`,
    on: { click: () => act(ended ? api.removeJob : api.cancel, job, onChange) },
  });
  return make("li", {}, open, remove);
}

async function act(change, job, onChange) {
  if (change === api.removeJob && !confirm("Delete this job and its results?")) return;
  try {
    await change(job.id);
    await onChange();
  } catch (problem) {
    showProblem(problem);
  }
}
