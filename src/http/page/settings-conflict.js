// @ts-check
// What to do about settings that somebody else saved while the form was open.

/** @import { Field, Settings } from "./types" */

import { actionButton, clockTime, fill, foreign, html } from "./dom.js";
import { texts } from "./texts.js";

const labels = texts.settings;

/**
 * Returns a stored value in words; an empty text for a secret or a file.
 * @param {Field} field
 * @param {Settings} settings
 */
function inWords(field, settings) {
  switch (field.kind) {
    case "secret":
    case "secretFile":
    case "file": return "";
    case "flag": return settings[field.name] ? labels.on : labels.off;
    case "choice": return texts.options[field.name][settings[field.name]] ?? String(settings[field.name]);
    default: return String(settings[field.name] ?? "") || labels.empty;
  }
}

/**
 * @param {Field} field
 * @param {Settings} before
 * @param {Settings} current
 */
function change(field, before, current) {
  const [from, to] = [inWords(field, before), inWords(field, current)];
  return html("li", {}, `${texts.fields[field.name][0]}: `,
    from && to ? foreign("span", {}, labels.changed(from, to)) : labels.replaced);
}

/** Creates the note, which is hidden at first. */
export function conflictNote() {
  const element = html("div", { class: "note warn conflict", role: "alert", hidden: true });

  /**
   * Shows what has changed, and what can be done.
   * @param {{ before: Settings | null, current: Settings, fields: Field[], isRefused: boolean }} changes
   * @param {{ takeOver: () => void, overwrite: () => Promise<void> }} actions
   */
  function show({ before, current, fields, isRefused }, { takeOver, overwrite }) {
    const time = current.updated_at ? clockTime(current.updated_at) : "";
    fill(element, html("p", {}, isRefused ? labels.conflict(time) : labels.changedElsewhere(time)),
      before && fields.length > 0
        ? html("ul", {}, fields.map((field) => change(field, before, current)))
        : html("p", {}, labels.conflictUnseen),
      html("div", { class: "row" },
        html("button", { type: "button", onclick: takeOver }, labels.takeOver),
        actionButton(labels.overwrite, "", overwrite)));
    element.hidden = false;
  }

  return { element, show, hide: () => { element.hidden = true; } };
}
