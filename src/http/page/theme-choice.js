// @ts-check
// The choice of the colors. `theme.js` applies it.

import { html, newId, toast } from "./dom.js";
import { texts } from "./texts.js";

const KEY = "liveobject-theme";

/** @type {("system" | "light" | "dark")[]} */
const THEMES = ["system", "light", "dark"];

/** Returns the stored choice. */
function stored() {
  try {
    return localStorage.getItem(KEY) ?? "system";
  } catch {
    return "system";
  }
}

/** @param {string} theme */
function choose(theme) {
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    toast(texts.theme.notStored, true);
  }
  window.dispatchEvent(new Event("theme-chosen"));
}

/** Creates the field that chooses the colors. */
export function themeChoice() {
  const id = newId();
  const select = html("select", { id, name: "theme", onchange: () => { choose(select.value); } },
    THEMES.map((name) => html("option", { value: name }, texts.theme.names[name])));
  select.value = stored();
  return html("div", { class: "field" }, html("label", { for: id }, texts.theme.label), select);
}
