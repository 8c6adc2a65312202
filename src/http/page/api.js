// Calls of the API. The cookie goes with them by itself.

import { T } from "./texts.js";

/** An error as the API answers it (RFC 9457); status 0: no answer. */
export class Problem extends Error {
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

/** Beside the API: whoever calls it has no token yet. */
const SESSION = "session";

let skew = 0;
/** The server's time: countdowns must not depend on this machine's clock. */
export const now = () => Date.now() + skew;

function compareClocks(response) {
  const there = Date.parse(response.headers.get("date") ?? "");
  // The header is to a second.
  const difference = there + 500 - Date.now();
  if (Number.isFinite(difference)) skew = Math.abs(difference) > 2000 ? difference : 0;
}

/** Calls; answers the body, or throws a Problem. Whoever is not signed in any more is told by the event `signed-out`. */
export async function call(method, path, body, timeout = 15_000) {
  return answerOf(await send(method, path, body, timeout), path);
}

async function send(method, path, body, timeout, headers = {}) {
  let response;
  try {
    response = await fetch(path === SESSION ? path : `api/v1/${path}`, {
      method, headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(timeout),
    });
  } catch {
    throw new Problem(0, T.noAnswer);
  }
  compareClocks(response);
  return response;
}

async function answerOf(response, path) {
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  if (response.status === 401 && path !== SESSION) document.dispatchEvent(new Event("signed-out"));
  throw new Problem(response.status, answer?.detail ?? `${response.status} ${response.statusText}`, answer?.errors);
}

/**
 * Calls, and tells of each line of the answer as it comes; answers the last one. What is refused at once is a Problem, as
 * with `call`.
 */
export async function follow(method, path, body, each, timeout) {
  const response = await send(method, path, body, timeout, { Accept: "application/x-ndjson, application/problem+json" });
  if (!response.ok) return answerOf(response, path);
  let rest = "", last;
  const take = (line) => {
    if (line === "") return;
    last = JSON.parse(line);
    each(last);
  };
  try {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.forEach(take);
    }
    take(rest);
  } catch {
    throw new Problem(0, T.noAnswer);
  }
  if (last?.error) throw new Problem(0, last.error);
  return last;
}

export const get = (path) => call("GET", path);
export const session = {
  look: () => get(SESSION),
  signIn: (token) => call("POST", SESSION, { token }),
  signOut: () => call("DELETE", SESSION),
};
