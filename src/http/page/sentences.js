// @ts-check
// The sentences of the server in the language of the page. The server writes English. A catalog has the patterns of its
// sentences, exactly as its source code contains them, such as `Connection refused at {broker}.`, and the sentences of
// the other language with the same names. What a catalog does not have is shown in English.

/** @import { Sentence, SentenceValues } from "./types" */

import { dateTime } from "./locale.js";

/** @typedef {{ form: RegExp, names: string[], translation: Sentence[1], weight: number }} Entry */

/** @type {Entry[]} */
let catalog = [];

// The status is drawn several times a second, mostly with the same sentences.
const MAX_KNOWN = 200;
/** @type {Map<string, string | undefined>} */
const known = new Map();

/** The `{name}`, `{}` and `{name:?}` of a pattern; times have a form of their own. */
const PLACE = /\{(\w*)(?::[^}]*)?\}|%F %T UTC/g;
const DAY = /^\d{4}-\d\d-\d\d$/;
const TIME = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC$/;
/** The end of a sentence, which is not a part of a name or a number. */
const SENTENCE_END = /[.?!](?: \p{Lu}|$)|; /u;

/** @param {string} text */
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/**
 * @param {Sentence} sentence
 * @returns {Entry}
 */
function compiled([pattern, translation]) {
  // A place without a name has its number.
  const places = [...pattern.matchAll(PLACE)];
  const names = places.map(([, name], i) => name || String(i));
  let form = "^";
  let at = 0;
  for (const { 0: place, index } of places) {
    const next = index + place.length;
    // Of two places without text between them, the first one is a word.
    form += escaped(pattern.slice(at, index)) + (pattern[next] === "{" ? "([^\\s,;(]*)" : "(.*?)");
    at = next;
  }
  form += `${escaped(pattern.slice(at))}$`;
  return { form: new RegExp(form, "s"), names, translation, weight: pattern.replace(PLACE, "").length };
}

/**
 * Sets the catalog.
 * @param {Sentence[]} sentences
 */
export function setSentences(sentences) {
  known.clear();
  // The most specific pattern comes first.
  catalog = sentences.map(compiled).sort((a, b) => b.weight - a.weight);
}

/**
 * Returns a value of a sentence as the language writes it; `undefined` if it contains a sentence that is not known.
 * @param {string} value
 */
function valueOf(value) {
  const text = value.trim();
  if (text === "") return value;
  if (DAY.test(text)) return dateTime(text, { dateStyle: "medium", timeZone: "UTC" });
  const [, day, time] = TIME.exec(text) ?? [];
  if (day) return dateTime(`${day}T${time}Z`, { dateStyle: "medium", timeStyle: "medium" });
  const translated = translate(text);
  if (translated !== undefined) return value.replace(text, () => translated);
  const quoted = /^"(.*)"$/s.exec(text);
  if (quoted) return `„${quoted[1]}“`;
  return SENTENCE_END.test(text) ? undefined : value;
}

/**
 * Returns the translation of a text that is a single sentence of the catalog, or a phrase.
 * @param {string} text
 */
function single(text) {
  for (const { form, names, translation } of catalog) {
    const found = form.exec(text);
    if (!found) continue;
    const values = found.slice(1).map(valueOf);
    if (values.includes(undefined)) continue;
    /** @type {SentenceValues} */
    const named = Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""]));
    if (typeof translation === "function") return translation(named);
    return translation.replace(PLACE, (place, name) => named[name] ?? place);
  }
  return undefined;
}

/**
 * Returns a text in the language of the page; `undefined` if the catalog does not have all of its sentences.
 * @param {string} text
 * @returns {string | undefined}
 */
function translate(text) {
  const whole = single(text);
  if (whole !== undefined) return whole;
  // The sentence explains the kind of failure that is before it.
  const [, explanation] = /^[a-z_]+: (.+)$/s.exec(text) ?? [];
  if (explanation) return translate(explanation);
  // Several sentences, of which the first ones may belong together.
  const ends = [...text.matchAll(/[.?!)] (?=\p{Lu})/gu)].map(({ index }) => index + 1).reverse();
  for (const end of ends) {
    const first = single(text.slice(0, end));
    const rest = first === undefined ? undefined : translate(text.slice(end + 1));
    if (rest !== undefined) return `${first} ${rest}`;
  }
  // A list, in which single words may be names.
  const items = text.split("; ");
  const translated = items.map((item) => (items.length > 1 ? translate(item) : undefined));
  const isList = translated.some(Boolean) && items.every((item, i) => translated[i] ?? !item.includes(" "));
  return isList ? items.map((item, i) => translated[i] ?? item).join("; ") : undefined;
}

/**
 * Returns a text of the server in the language of the page, and whether the catalog has it.
 * @param {string} text
 */
export function fromServer(text) {
  if (catalog.length === 0) return { text, isKnown: true };
  if (!known.has(text)) {
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(text, translate(text));
  }
  const translated = known.get(text);
  // Addresses and names need no translation.
  return { text: translated ?? text, isKnown: translated !== undefined || !/[a-z] +[a-z]/i.test(text) };
}
