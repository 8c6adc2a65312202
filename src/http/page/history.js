// @ts-check
// The history that the strip and the charts show. Both use the same response.

/** @import { HistoryPoint, HistoryRange } from "./types" */

import { get } from "./api.js";

/** @typedef {{ points: HistoryPoint[], interval_seconds: number }} History */

// A response of this age is used again.
const FRESH_MS = 2000;

/** @type {Map<HistoryRange, { at: number, response: Promise<History> }>} */
const requests = new Map();

/**
 * Returns the history of a range.
 * @param {HistoryRange} range
 * @returns {Promise<History>}
 */
export function history(range) {
  const last = requests.get(range);
  if (last && Date.now() - last.at < FRESH_MS) return last.response;
  const response = get(`history?range=${range}`);
  requests.set(range, { at: Date.now(), response });
  // What failed is requested again.
  response.catch(() => requests.delete(range));
  return response;
}
