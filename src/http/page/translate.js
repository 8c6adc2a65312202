// @ts-check
// Translates the sentences of the server. A catalog has their patterns, exactly as in the source code of the server:
// `Connection refused at {broker}.`, for example. The other language has the same names in its sentences. This file is
// loaded only with a catalog.

/** @import { Sentence, SentenceValues } from "./types" */

import { dateTime } from "./locale.js";

/** @typedef {{ name: string, isVerbatim: boolean }} Place */
/** @typedef {{ form: RegExp, places: Place[], translation: Sentence[1], weight: number }} Entry */

/** The `{name}`, `{}` and `{name:?}` of a pattern; times have a form of their own. */
const PLACE = /\{(\w*)(?::[^}]*)?\}|%F %T UTC/g;
const DAY = /^\d{4}-\d\d-\d\d$/;
/** A time in UTC, which the page shows in its own time zone. */
const TIME = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d(?::\d\d)?)(?: UTC)?$/;
/**
 * The places with what people or other machines have named. It stays as it is, even if it is a word that the server
 * uses: a camera may be called "back".
 */
const VERBATIM = new Set([
  "address", "alert", "broker", "c", "camera_id", "client_id", "command", "example", "expected", "fields", "found",
  "greeting", "has", "host", "issuer", "label", "listed", "location", "name", "newest", "path", "prefix", "scheme",
  "scope", "status", "subject", "topic", "user", "value",
]);
/** The forms of places that would otherwise contain the end of a name before them. */
const FORMS = new Map([["times", "(once|\\d+ times)"], ["received", "(acknowledged|received)"]]);
/** A string as Rust's `{:?}` writes it. */
const QUOTED = /^"((?:[^"\\]|\\.)*)"$/s;
/** The end of a sentence, which is not a part of a number or a phrase. */
const SENTENCE_END = /[.?!](?: \p{Lu}|$)|; /u;
/** The end of a sentence before another one. A name may end with a full stop. */
const NEXT_SENTENCE = /[.?!] \p{Lu}|; /u;

/** @param {string} text */
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/**
 * @param {Sentence} sentence
 * @returns {Entry}
 */
function compiled([pattern, translation, verbatim = []]) {
  const found = [...pattern.matchAll(PLACE)];
  // A place without a name has its number.
  const places = found.map(([, name], i) => name || String(i))
    .map((name) => ({ name, isVerbatim: VERBATIM.has(name) || verbatim.includes(Number(name)) }));
  let form = "^";
  let at = 0;
  for (const { 0: place, 1: name, index } of found) {
    const next = index + place.length;
    // Of two places without text between them, the first one is a word.
    const any = pattern[next] === "{" ? "([^\\s,;(]*)" : "(.*?)";
    form += escaped(pattern.slice(at, index)) + (FORMS.get(name) ?? any);
    at = next;
  }
  form += `${escaped(pattern.slice(at))}$`;
  return { form: new RegExp(form, "s"), places, translation, weight: pattern.replace(PLACE, "").length };
}

/**
 * Returns a function that translates a text of the server with these sentences. It returns `undefined` if they do not
 * contain all sentences of the text.
 * @param {Sentence[]} sentences
 */
export function translator(sentences) {
  // The most specific pattern comes first.
  const catalog = sentences.map(compiled).sort((a, b) => b.weight - a.weight);
  return (/** @type {string} */ text) => translate(catalog, text);
}

/**
 * Returns a name in a sentence; `undefined` if it contains a sentence.
 * @param {string} value
 */
function nameOf(value) {
  const quoted = QUOTED.exec(value);
  if (quoted) return `„${quoted[1]}“`;
  return NEXT_SENTENCE.test(value) ? undefined : value;
}

/**
 * Returns a value of a sentence as the language writes it; `undefined` if it contains a sentence that is not known.
 * @param {Entry[]} catalog
 * @param {string} value
 */
function valueOf(catalog, value) {
  const text = value.trim();
  if (text === "") return value;
  if (DAY.test(text)) return dateTime(text, { dateStyle: "medium", timeZone: "UTC" });
  const [, day, time] = TIME.exec(text) ?? [];
  if (day) {
    return dateTime(`${day}T${time}Z`, { dateStyle: "medium", timeStyle: time.length > 5 ? "medium" : "short" });
  }
  const translated = translate(catalog, text);
  if (translated !== undefined) return value.replace(text, () => translated);
  const quoted = QUOTED.exec(text);
  if (quoted) return `„${quoted[1]}“`;
  return SENTENCE_END.test(text) ? undefined : value;
}

/**
 * Returns the translation of a text that is a single sentence of the catalog, or a phrase.
 * @param {Entry[]} catalog
 * @param {string} text
 */
function single(catalog, text) {
  for (const { form, places, translation } of catalog) {
    const found = form.exec(text);
    if (!found) continue;
    const values = places.map(({ isVerbatim }, i) =>
      (isVerbatim ? nameOf(found[i + 1]) : valueOf(catalog, found[i + 1])));
    if (values.includes(undefined)) continue;
    /** @type {SentenceValues} */
    const named = Object.fromEntries(places.map(({ name }, i) => [name, values[i] ?? ""]));
    if (typeof translation === "function") return translation(named);
    return translation.replace(PLACE, (place, name) => named[name] ?? place);
  }
  return undefined;
}

/**
 * Returns a text in the other language; `undefined` if the catalog does not have all of its sentences.
 * @param {Entry[]} catalog
 * @param {string} text
 * @returns {string | undefined}
 */
function translate(catalog, text) {
  const whole = single(catalog, text);
  if (whole !== undefined) return whole;
  // The sentence explains the kind of failure that is before it.
  const [, explanation] = /^[a-z_]+: (.+)$/s.exec(text) ?? [];
  if (explanation) return translate(catalog, explanation);
  // Several sentences, of which the first ones may belong together.
  const ends = [...text.matchAll(/[.?!)] (?=\p{Lu})/gu)].map(({ index }) => index + 1).reverse();
  for (const end of ends) {
    const first = single(catalog, text.slice(0, end));
    const rest = first === undefined ? undefined : translate(catalog, text.slice(end + 1));
    if (rest !== undefined) return `${first} ${rest}`;
  }
  // A list, in which single words may be names.
  const items = text.split("; ");
  const translated = items.map((item) => (items.length > 1 ? translate(catalog, item) : undefined));
  const isList = translated.some(Boolean) && items.every((item, i) => translated[i] ?? !item.includes(" "));
  return isList ? items.map((item, i) => translated[i] ?? item).join("; ") : undefined;
}
