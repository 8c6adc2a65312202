// @ts-check
// The choice of the language.

import { html, newId, toast } from "./dom.js";
import { chosenLanguage, LANGUAGES, storeLanguage } from "./language.js";
import { texts } from "./texts.js";

/** @param {string} language */
function choose(language) {
  try {
    storeLanguage(language);
  } catch {
    toast(texts.language.notStored, true);
    return;
  }
  location.reload();
}

/** Creates the field that chooses the language. Each language is offered in its own words. */
export function languageChoice() {
  const id = newId();
  const select = html("select", { id, name: "language", onchange: () => { choose(select.value); } },
    html("option", { value: "auto" }, texts.language.automatic),
    Object.entries(LANGUAGES).map(([language, name]) => html("option", { value: language, lang: language }, name)));
  select.value = chosenLanguage();
  return html("div", { class: "field" }, html("label", { for: id }, texts.language.label), select);
}
