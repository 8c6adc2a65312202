// @ts-check
// Calls to the HTTP API. The browser adds the session cookie.

/** @import { FieldError, Method, ProblemDetails, ResponseOf, Restore } from "./types" */
/** @import { Settings, SettingsInput, TestLine, TestReport } from "./types" */

import { fromServer } from "./sentences.js";
import { texts } from "./texts.js";

/** An error response of the API (RFC 9457), or status 0 when there was no response. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} [detail] In the words of the server.
   * @param {FieldError[]} [errors]
   */
  constructor(status, detail = "", errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

/**
 * Returns the message of an error, or of any other value that was thrown, in the language of the page.
 * @param {unknown} error
 */
export function messageOf(error) {
  if (!(error instanceof Error)) return String(error);
  return error.message === "" ? texts.noAnswer : fromServer(error.message).text;
}

/** The session is not under `api/v1`, because its callers have no token yet. */
const SESSION = "session";

const DEFAULT_TIMEOUT_MS = 15_000;
const TEST_TIMEOUT_MS = 25_000;

let clockOffset = 0;

/** Returns the server's time, so that countdowns do not depend on this machine's clock. */
export const now = () => Date.now() + clockOffset;

/** @param {Response} response */
function compareClocks(response) {
  const serverTime = Date.parse(response.headers.get("date") ?? "");
  // The header has a resolution of one second.
  const difference = serverTime + 500 - Date.now();
  if (Number.isFinite(difference)) clockOffset = Math.abs(difference) > 2000 ? difference : 0;
}

/**
 * Sends a request and returns the response body, or throws a Problem. Dispatches the event `signed-out` when the
 * session has ended.
 * @template {Method} M
 * @template {string} Path
 * @param {M} method
 * @param {Path} path
 * @param {unknown} [body]
 * @param {number} [timeout]
 * @returns {Promise<ResponseOf<`${M} ${Path}`>>}
 */
export async function call(method, path, body, timeout = DEFAULT_TIMEOUT_MS) {
  return bodyOf(await send(method, path, body, timeout), path);
}

/**
 * Returns the response that `early.js` requested before the modules were loaded. It is used once, and not after a
 * change, such as signing in.
 * @param {Method} method
 * @param {string} address
 */
function takeEarly(method, address) {
  const early = window.earlyResponses;
  const response = method === "GET" ? early.get(address) : undefined;
  if (response) early.delete(address);
  if (method !== "GET") early.clear();
  return response;
}

/**
 * @param {Method} method
 * @param {string} path
 * @param {unknown} body
 * @param {number} timeout
 * @param {Record<string, string>} [headers]
 */
async function send(method, path, body, timeout, headers = {}) {
  const address = path === SESSION ? path : `api/v1/${path}`;
  let response;
  try {
    response = await (takeEarly(method, address) ?? fetch(address, {
      method,
      // The server requires the content type of every change, so that pages on other ports cannot make one.
      headers: method === "GET" ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(timeout),
    }));
  } catch {
    throw new Problem(0);
  }
  compareClocks(response);
  return response;
}

/**
 * @param {Response} response
 * @param {string} path
 * @returns {Promise<any>}
 */
async function bodyOf(response, path) {
  const body = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return body;
  if (response.status === 401 && path !== SESSION) document.dispatchEvent(new Event("signed-out"));
  /** @type {Partial<ProblemDetails>} */
  const problem = body ?? {};
  throw new Problem(response.status, problem.detail ?? `${response.status} ${response.statusText}`, problem.errors);
}

/**
 * Uploads a file. Calls `onProgress` with the part that was sent, from 0 to 1, which `fetch` does not report. `signal`
 * aborts the upload.
 * @param {string} path
 * @param {Blob} file
 * @param {(share: number) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<Restore>}
 */
export function upload(path, file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `api/v1/${path}`);
    request.setRequestHeader("Content-Type", "application/x-tar");
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total > 0 ? loaded / total : 0));
    request.addEventListener("load", () => {
      const body = request.status === 204 ? null : request.responseText;
      resolve(bodyOf(new Response(body, { status: request.status, statusText: request.statusText }), path));
    });
    request.addEventListener("error", () => reject(new Problem(0)));
    request.addEventListener("abort", () => reject(new Problem(0)));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/**
 * Tests the connection with these settings. Calls `onProgress` for each step as it arrives, and returns the report.
 * Throws a Problem when the server rejects the settings, as `call` does.
 * @param {SettingsInput} settings
 * @param {(line: TestLine) => void} onProgress
 * @returns {Promise<TestReport>}
 */
export async function testConnection(settings, onProgress) {
  const path = "integrations/mqtt/test";
  const accept = { Accept: "text/event-stream, application/problem+json" };
  const response = await send("POST", path, settings, TEST_TIMEOUT_MS, accept);
  if (!response.ok) return bodyOf(response, path);
  const last = await readEvents(response, onProgress);
  if (last?.report) return last.report;
  throw new Problem(0, last?.error);
}

/**
 * Replaces the settings if they still have this revision. Returns `null` if they have changed.
 * @param {SettingsInput} settings
 * @param {string} revision
 * @returns {Promise<Settings | null>}
 */
export async function replaceSettings(settings, revision) {
  const path = "integrations/mqtt/config";
  const response = await send("PUT", path, settings, DEFAULT_TIMEOUT_MS, { "If-Match": `"${revision}"` });
  return response.status === 412 ? null : bodyOf(response, path);
}

/**
 * Reads a response of server-sent events, one JSON value each. (An EventSource cannot send settings.) Returns the last
 * value.
 * @param {Response} response
 * @param {(line: TestLine) => void} onLine
 */
async function readEvents(response, onLine) {
  /** @type {TestLine | undefined} */
  let last;
  /** @param {string} line */
  const take = (line) => {
    if (!line.startsWith("data: ")) return;
    /** @type {TestLine} */
    const value = JSON.parse(line.slice("data: ".length));
    last = value;
    onLine(value);
  };
  try {
    let rest = "";
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = (await reader?.read()) ?? { done: true };
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      lines.forEach(take);
    }
    take(rest);
  } catch {
    throw new Problem(0);
  }
  return last;
}

/**
 * @template {string} Path
 * @param {Path} path
 */
export const get = (path) => call("GET", path);

export const session = {
  check: () => get(SESSION),
  /** @param {string} token */
  signIn: (token) => call("POST", SESSION, { token }),
  /** @param {string} code */
  signInWithCode: (code) => call("POST", SESSION, { code }),
  signOut: () => call("DELETE", SESSION),
};
