// What the page asks the server for: the calls of /api/v1, and one of MONAI Label's, which keeps corrected labels.

const BASE = "/api/v1";
const PAUSE = 2000;
let login = null;
let lost = () => null;

/** An error of the server in words (RFC 9457), or of the way there. */
export class Problem extends Error {
  constructor(status, { title = "", detail = "", hint = "" } = {}, wait = null) {
    super(detail || title || `the server answered with ${status}`);
    Object.assign(this, { status, detail: this.message, hint, wait });
  }
}

/** There was no answer at all. */
export class LostProblem extends Problem {
  constructor(hint = "see whether attunet serve is still running") {
    super(0, { detail: "the server does not answer", hint });
    this.lost = true;
  }
}

/** Register what is called when the server does not answer. */
export function onLost(tell) {
  lost = tell;
}

/** Register what asks for a password; it resolves when the server has accepted one. */
export function onPassword(ask) {
  let asking = null;
  login = () => (asking ??= ask().finally(() => (asking = null)));
}

async function problemOf(response) {
  const wait = response.headers.get("Retry-After");
  const content = await response.json().catch(() => ({ title: response.statusText }));
  return new Problem(response.status, content, wait);
}

/** A response that is a success. Asks for a password, once for all who wait, where the server wants one. */
export async function request(path, options = {}) {
  for (;;) {
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      lost();
      throw new LostProblem();
    }
    if (response.ok) return response;
    if (response.status !== 401 || path === `${BASE}/session`) throw await problemOf(response);
    await login();
  }
}

async function read(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

const asJson = (method, content) => ({
  method,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(content),
});

export const models = async () => (await read(`${BASE}/models`)).models;
export const studies = async () => (await read(`${BASE}/studies`)).studies;
export const jobs = async () => (await read(`${BASE}/jobs?limit=50`)).jobs;
export const job = (id) => read(`${BASE}/jobs/${id}`);
export const submit = (content) => read(`${BASE}/jobs`, asJson("POST", content));
export const cancel = (id) => read(`${BASE}/jobs/${id}/cancel`, { method: "POST" });
export const removeJob = (id) => read(`${BASE}/jobs/${id}`, { method: "DELETE" });
export const results = (id) => read(`${BASE}/jobs/${id}/results`);
export const statistics = (id) => read(`${BASE}/jobs/${id}/results/statistics`);
export const resultUrl = (id, name) => `${BASE}/jobs/${id}/results/${name}`;
export const enter = (username, password) => read(`${BASE}/session`, asJson("POST", { username, password }));
export const leave = () => read(`${BASE}/session`, { method: "DELETE" });

/** The bytes of a result. */
export const bytesOf = async (url) => (await request(url)).arrayBuffer();

/** The bytes of a label of an image among the studies. */
export const labelOf = (image, tag) =>
  bytesOf(`/datastore/label?label=${encodeURIComponent(image)}&tag=${encodeURIComponent(tag)}`);

/** Keep a corrected label of an image among the studies; `label` is a NIfTI file as a Blob. */
export function saveLabel(image, tag, label) {
  const form = new FormData();
  form.append("label", label, "label.nii.gz");
  return read(`/datastore/label?image=${encodeURIComponent(image)}&tag=${encodeURIComponent(tag)}`, {
    method: "PUT",
    body: form,
  });
}

/** Upload the files of a scan; `onProgress` gets the share that was sent. fetch cannot tell that, XMLHttpRequest can. */
export async function upload(files, onProgress, signal) {
  for (;;) {
    try {
      return await send(files, onProgress, signal);
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      await login();
    }
  }
}

function send(files, onProgress, signal) {
  const form = new FormData();
  for (const { file, name } of files) form.append("file", file, name);
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", `${BASE}/scans`);
    call.responseType = "json";
    call.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    call.onload = () => {
      if (call.status < 300) resolve(call.response);
      else reject(new Problem(call.status, call.response ?? {}, call.getResponseHeader("Retry-After")));
    };
    call.onerror = () =>
      reject(new Problem(0, { detail: "the connection ended during the upload", hint: "send the scan again" }));
    call.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => call.abort(), { once: true });
    call.send(form);
  });
}

/** Whether the server answers. */
export const lives = () => fetch("/healthz", { cache: "no-store" }).then(({ ok }) => ok, () => false);

/**
 * Follow a job by server-sent events until it has ended, also beyond a restart of the server; `onEvent` gets
 * {state, done, total, reason}, and null while the server does not answer. Returns the job.
 */
export async function follow(id, onEvent) {
  for (;;) {
    await listen(id, onEvent);
    try {
      const now = await job(id);
      if (!["queued", "running"].includes(now.state)) return now;
    } catch (problem) {
      if (!problem.lost && problem.status < 500) throw problem;
    }
    onEvent(null);
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

/** Pass on the events of a job until it has ended, or the connection has. */
function listen(id, onEvent) {
  return new Promise((resolve) => {
    const source = new EventSource(`${BASE}/jobs/${id}/events`);
    source.addEventListener("progress", (event) => onEvent(JSON.parse(event.data)));
    const stop = () => {
      source.close();
      resolve();
    };
    source.addEventListener("end", stop);
    source.onerror = stop;
  });
}
