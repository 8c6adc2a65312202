// @ts-check
// The texts of the server, which writes English, in the language of the page. What has no translation stays English.

/** @typedef {(text: string) => string | undefined} Translate */

/** @type {Translate | null} */
let translate = null;

// The status is drawn several times a second, mostly with the same texts.
const MAX_KNOWN = 200;
/** @type {Map<string, string | undefined>} */
const known = new Map();

/**
 * Sets how texts are translated.
 * @param {Translate} next
 */
export function setTranslation(next) {
  translate = next;
  known.clear();
}

/**
 * Returns a text of the server in the language of the page, and whether it is in that language.
 * @param {string} text
 */
export function fromServer(text) {
  if (!translate) return { text, isKnown: true };
  if (!known.has(text)) {
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(text, translate(text));
  }
  const translated = known.get(text);
  // Addresses and names need no translation.
  return { text: translated ?? text, isKnown: translated !== undefined || !/[a-z] +[a-z]/i.test(text) };
}
