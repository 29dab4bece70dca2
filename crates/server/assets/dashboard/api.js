// The server's REST API. Errors come as problem details (RFC 9457).

import { token } from "./token.js";

const PATIENCE = 15_000;

/** What went wrong, in the server's words; status 0 when there was no answer. */
export class Problem extends Error {
  constructor(status, detail, { field = null } = {}) {
    super(detail);
    this.status = status;
    this.field = field;
  }
}

/** Calls with the token; any answer but a success is thrown as a `Problem`. */
export async function open(path, { method = "GET", body, headers = {}, signal } = {}) {
  const request = { method, headers: { ...headers, authorization: `Bearer ${token() ?? ""}` }, signal, cache: "no-store" };
  if (body !== undefined) {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (signal?.aborted && signal.reason?.name !== "TimeoutError") throw error;
    throw new Problem(0, "The server does not answer.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail || problem.title || `The server answers with status ${response.status}.`;
  if (response.status === 401) dispatchEvent(new CustomEvent("token-refused"));
  throw new Problem(response.status, detail, problem);
}

/** JSON, or null where there is none. `left` is a signal of those who no longer want it. */
export async function api(path, { left, ...options } = {}) {
  const late = AbortSignal.timeout(PATIENCE);
  const signal = left ? AbortSignal.any([left, late]) : late;
  const response = await open(path, { ...options, signal });
  try {
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  } catch (error) {
    if (left?.aborted) throw error;
    throw new Problem(0, "The server’s answer is incomplete.");
  }
}

export const clientPath = (id, rest = "") => `/api/clients/${encodeURIComponent(id)}${rest}`;

/** Parameters for an address; what is null is left out. */
export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value != null && value !== "");
  return given.length > 0 ? `?${new URLSearchParams(given)}` : "";
}

/** Whether somebody went away meanwhile, so that nobody has to be told of the error. */
export const isLeft = (error) => error?.name === "AbortError";

/** Fetches a file with the token, and hands it to the browser to save. */
export async function save(path, name) {
  const response = await open(path);
  const given = /filename="?([\w.+-]+)"?/.exec(response.headers.get("content-disposition") ?? "");
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = given?.[1] ?? name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
