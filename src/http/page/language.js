// @ts-check
// The language of the page: the one that was chosen in this browser, or the first one of the browser's own languages
// that the page has. English is always loaded; another language replaces its texts before anything is drawn.

import { number, setLocale } from "./locale.js";
import { setTranslation } from "./sentences.js";
import { setTexts } from "./texts.js";

const KEY = "liveobject-language";

/** The languages, by their own names. */
export const LANGUAGES = { en: "English", de: "Deutsch" };

/** @typedef {keyof typeof LANGUAGES} Language */

/** @type {(name: string | null) => name is Language} */
const isLanguage = (name) => name !== null && Object.hasOwn(LANGUAGES, name);

/**
 * Returns the language that was chosen in this browser.
 * @returns {Language | "auto"}
 */
export function chosenLanguage() {
  try {
    const stored = localStorage.getItem(KEY);
    return isLanguage(stored) ? stored : "auto";
  } catch {
    // Browsers can forbid all storage.
    return "auto";
  }
}

/**
 * Stores the choice, which applies when the page is loaded again. Throws if the browser does not store it.
 * @param {string} language
 */
export function storeLanguage(language) {
  if (isLanguage(language)) localStorage.setItem(KEY, language);
  else localStorage.removeItem(KEY);
}

/** @returns {Language} */
function preferredLanguage() {
  const chosen = chosenLanguage();
  if (chosen !== "auto") return chosen;
  return navigator.languages.map((tag) => tag.toLowerCase().split("-")[0]).find(isLanguage) ?? "en";
}

/** Loads the German texts. This is the only place that loads texts. */
async function loadGerman() {
  const [{ germanTexts }, { sentences }, { translator }] = await Promise.all([
    import("./texts-de.js"), import("./sentences-de.js"), import("./translate.js"),
  ]);
  setTexts(germanTexts(number));
  setTranslation(translator(sentences));
}

/** Applies the language. The page is drawn afterwards. */
export async function applyLanguage() {
  let language = preferredLanguage();
  try {
    if (language === "de") await loadGerman();
  } catch {
    // English is better than no page.
    language = "en";
  }
  setLocale(language);
  document.documentElement.lang = language;
}
