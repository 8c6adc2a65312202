// @ts-check
// The filters of the events: as a query for the server, and applied to events that the stream brings.

/** @import { EventFilters, EventRecord } from "./types" */

import { FILTER_NAMES } from "./router.js";

/**
 * Returns the filters alone, without what else a route contains.
 * @param {EventFilters} route
 * @returns {EventFilters}
 */
export function filtersOf({ camera, state, q, object, day, from, to }) {
  return { camera, state, q, object, day, from, to };
}

/**
 * Returns the names of the filters that are set.
 * @param {EventFilters} filters
 */
export const activeFilters = (filters) => FILTER_NAMES.filter((name) => Boolean(filters[name]));

/** @param {EventFilters} filters */
export const camerasOf = ({ camera }) => (camera ? camera.split(",") : []);

/** @param {number} number */
const two = (number) => String(number).padStart(2, "0");

/**
 * Returns a day of this browser's calendar as `2026-11-27`.
 * @param {Date} date
 */
export const dayOf = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

/**
 * Returns a time of day as `14:30`.
 * @param {Date} date
 */
export const minuteOf = (date) => `${two(date.getHours())}:${two(date.getMinutes())}`;

/**
 * Returns the time at which a day begins, or a time of day of it. `shift` is a number of days.
 * @param {string} day
 * @param {string} [time] `14:30`
 * @param {number} [shift]
 */
export function timeOf(day, time = "00:00", shift = 0) {
  const [year, month, date] = day.split("-").map(Number);
  const [hours, minutes] = time.split(":").map(Number);
  return new Date(year, month - 1, date + shift, hours, minutes);
}

/**
 * Returns the day that is this many days later.
 * @param {string} day
 * @param {number} shift
 */
export const shiftDay = (day, shift) => dayOf(timeOf(day, "00:00", shift));

/**
 * Returns the period of the filters: from the first time, before the second one. `null` is no limit. Times of day
 * without a day apply to today; an end that is not after the beginning is the end of the day.
 * @param {EventFilters} filters
 * @returns {[Date | null, Date | null]}
 */
export function period({ day = "", from = "", to = "" }) {
  if (!day && !from && !to) return [null, null];
  const date = day || dayOf(new Date());
  const begin = timeOf(date, from || "00:00");
  const end = to ? timeOf(date, to) : timeOf(date, "00:00", 1);
  return [begin, end > begin ? end : timeOf(date, "00:00", 1)];
}

/**
 * Adds the filters that lists and counts have in common.
 * @param {URLSearchParams} query
 * @param {EventFilters} filters
 */
export function addToQuery(query, { camera, object, q }) {
  if (camera) query.set("camera_id", camera);
  if (object) query.set("object", object);
  if (q && wordsOf(q).length > 0) query.set("q", q);
}

/**
 * Returns the query for a page of a list.
 * @param {EventFilters} filters
 * @param {number} limit
 * @param {number | null} before
 */
export function listQuery(filters, limit, before) {
  const query = new URLSearchParams({ limit: String(limit) });
  addToQuery(query, filters);
  if (filters.state) query.set("state", filters.state);
  const [from, to] = period(filters);
  if (from && to) {
    query.set("from", from.toISOString());
    query.set("to", to.toISOString());
  }
  if (before !== null) query.set("before", String(before));
  return query;
}

// As the server does: each Chinese character and each Japanese syllable is a word.
const ALONE = "[\\u3041-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{2fa1f}]";
const WORD = new RegExp(`${ALONE}|(?:(?!${ALONE})[\\p{Alphabetic}\\p{N}])+`, "gu");

/**
 * Returns a text with Latin letters without their accents. Other letters stay as they are.
 * @param {string} text
 */
const withoutAccents = (text) => text.replace(/[\u00c0-\u1eff]/g, (letter) => {
  const [base] = letter.normalize("NFD");
  if (/[a-z]/.test(base)) return base;
  return /[\u0300-\u036f]/.test(letter) ? "" : letter;
});

/**
 * @param {string} text
 * @returns {string[]}
 */
export const wordsOf = (text) => withoutAccents(text.normalize("NFC").toLowerCase()).match(WORD) ?? [];

/**
 * @param {string} search
 * @param {EventRecord} event
 */
function hasWords(search, { camera_name, description, objects_detected }) {
  const words = wordsOf(search);
  const prefix = words.pop();
  if (prefix === undefined) return true;
  const known = wordsOf([camera_name, description, ...objects_detected].join(" "));
  return words.every((word) => known.includes(word)) && known.some((word) => word.startsWith(prefix));
}

/**
 * Returns whether an event matches, as the server decides it.
 * @param {EventFilters} filters
 * @param {EventRecord} event
 */
export function isMatch(filters, event) {
  const { state, q, object } = filters;
  const { camera_id, delivery, objects_detected, timestamp } = event;
  const cameras = camerasOf(filters);
  if (cameras.length > 0 && !cameras.includes(camera_id)) return false;
  if (state && (delivery.state !== state || delivery.dismissed)) return false;
  if (object && !objects_detected.some((one) => one.trim().toLowerCase() === object.trim().toLowerCase())) return false;
  const [from, to] = period(filters);
  const at = Date.parse(timestamp);
  if (from && to && (at < from.getTime() || at >= to.getTime())) return false;
  return !q || hasWords(q, event);
}
