// @ts-check
// Requests what the page shows first, before its modules have arrived. This file is not a module: it is inserted into
// the HTML. `api.js` uses the responses.
"use strict";

{
  const TIMEOUT_MS = 15_000;
  const paths = ["session"];
  // Other addresses show something else first. Before a link signs in, nothing is requested.
  if (/^(#events)?$/.test(location.hash)) paths.push("api/v1/events?limit=30");
  /** @type {Map<string, Promise<Response>>} */
  const responses = new Map();
  if (!location.hash.startsWith("#code=")) {
    for (const path of paths) {
      const response = fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      // The module that uses the response handles the error.
      response.catch(() => {});
      responses.set(path, response);
    }
  }
  window.earlyResponses = responses;
}
