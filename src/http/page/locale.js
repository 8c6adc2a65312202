// @ts-check
// Numbers, dates and times as the language of the page writes them.

let locale = "en";

// Creating a format takes much longer than using it, and lists have hundreds of times.
/** @type {Map<string, Intl.NumberFormat | Intl.DateTimeFormat | Intl.RelativeTimeFormat>} */
const formats = new Map();

/**
 * Returns the format with this key, which `create` creates once.
 * @template {Intl.NumberFormat | Intl.DateTimeFormat | Intl.RelativeTimeFormat} Format
 * @param {string} key
 * @param {() => Format} create
 */
function cached(key, create) {
  const known = /** @type {Format | undefined} */ (formats.get(key));
  const format = known ?? create();
  if (!known) formats.set(key, format);
  return format;
}

/**
 * Sets the language, with the region that the browser prefers for it: `de` may become `de-AT`.
 * @param {string} language
 */
export function setLocale(language) {
  const isOf = (/** @type {string} */ tag) => tag.toLowerCase().split("-")[0] === language;
  locale = navigator.languages.find(isOf) ?? language;
  formats.clear();
}

/**
 * Formats a number.
 * @param {number} value
 * @param {Intl.NumberFormatOptions} [options]
 */
export const number = (value, options) =>
  cached(`number ${JSON.stringify(options)}`, () => new Intl.NumberFormat(locale, options)).format(value);

/**
 * Formats a number with one decimal place.
 * @param {number} value
 */
export const decimal = (value) => number(value, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/**
 * Formats a part from 0 to 1 as a percentage.
 * @param {number} share
 */
export const percent = (share) => number(share, { style: "percent" });

/**
 * Formats a date, a time, or both.
 * @param {Date | number | string} time
 * @param {Intl.DateTimeFormatOptions} options
 */
export const dateTime = (time, options) =>
  cached(`time ${JSON.stringify(options)}`, () => new Intl.DateTimeFormat(locale, options)).format(new Date(time));

/**
 * Formats a time of day without its seconds.
 * @param {Date | number | string} time
 */
export const hourAndMinute = (time) => dateTime(time, { hour: "2-digit", minute: "2-digit" });

/** @type {["day" | "hour" | "minute" | "second", number][]} */
const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]];

/**
 * Returns the largest unit that fits into a number of seconds, and how often it does.
 * @param {number} seconds
 */
function inUnits(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? UNITS[UNITS.length - 1];
  return { unit, count: Math.floor(seconds / size) };
}

/**
 * Formats a duration: `5 min`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const { unit, count } = inUnits(seconds);
  return number(count, { style: "unit", unit, unitDisplay: "short" });
}

/**
 * Formats a time relative to now: `5 min. ago`. Negative seconds are in the future.
 * @param {number} seconds
 */
export function relativeTime(seconds) {
  const { unit, count } = inUnits(Math.abs(seconds));
  const format = cached("relative", () => new Intl.RelativeTimeFormat(locale, { style: "short" }));
  return format.format(seconds < 0 ? count : -count, unit);
}

/**
 * Lists values in a sentence: `a, b and c`.
 * @param {string[]} values
 */
export const listOf = (values) => new Intl.ListFormat(locale).format(values);

/**
 * Compares two names for sorting.
 * @param {string} a
 * @param {string} b
 */
export const compareNames = (a, b) => a.localeCompare(b, locale, { numeric: true });
