// @ts-check
// The controls in the settings form, one for each kind of field.

/** @import { ChoiceField, Control, Field, NumberField, Props, TextField } from "./types" */

import { fill, html, toast } from "./dom.js";
import { MAX_PEM_BYTES, pem } from "./fields.js";
import { texts } from "./texts.js";

const labels = texts.settings;

/**
 * Creates the control for a field. The editable element receives `props`.
 * @param {Field} field
 * @param {Props} props
 * @param {string} label
 * @returns {Control}
 */
export function createControl(field, props, label) {
  switch (field.kind) {
    case "text": return textControl(field, props);
    case "number": return numberControl(field, props);
    case "flag": return flagControl(props);
    case "choice": return choiceControl(field, props);
    case "file": return fileControl(props, label);
    case "secret": return passwordControl(props, label);
    case "secretFile": return secretFileControl(props, label);
  }
}

/** @type {(field: TextField, props: Props) => Control} */
function textControl(field, props) {
  const input = html("input",
    { ...props, type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  const get = () => {
    const text = input.value.trim();
    return field.nullable && text === "" ? null : text;
  };
  return { element: input, raw: () => input.value, get, set: (value) => { input.value = String(value ?? ""); } };
}

/** @type {(field: NumberField, props: Props) => Control} */
function numberControl(field, props) {
  const input = html("input", { ...props, type: "text", inputmode: "numeric", autocomplete: "off" });
  const get = () => {
    const text = input.value.trim();
    if (text === "" && field.omitEmpty) return undefined;
    return /^\d+$/.test(text) ? Number(text) : text;
  };
  return { element: input, raw: () => input.value, get, set: (value) => { input.value = String(value ?? ""); } };
}

/** @type {(props: Props) => Control} */
function flagControl(props) {
  const input = html("input", { ...props, type: "checkbox", role: "switch" });
  return { element: input, get: () => input.checked, set: (value) => { input.checked = value === true; } };
}

/** @type {(field: ChoiceField, props: Props) => Control} */
function choiceControl(field, props) {
  const options = texts.options[field.name];
  const select = html("select", props,
    field.values.map((value) => html("option", { value: String(value) }, options[value])));
  return {
    element: select,
    get: () => (field.numeric ? Number(select.value) : select.value),
    set: (value) => { select.value = String(value); },
  };
}

/**
 * @param {Props} props
 * @param {string} placeholder
 */
const pemArea = (props, placeholder) =>
  html("textarea", { ...props, rows: "3", spellcheck: "false", autocomplete: "off", placeholder });

/** @type {(props: Props, label: string) => Control} */
function fileControl(props, label) {
  const area = pemArea(props, "-----BEGIN CERTIFICATE-----");
  return {
    element: html("div", { class: "file" }, area, fileChooser(label, area)),
    raw: () => area.value,
    get: () => (area.value.trim() === "" ? null : area.value),
    set: (value) => { area.value = String(value ?? ""); },
  };
}

/** @type {(props: Props, label: string) => Control} */
function passwordControl(props, label) {
  const input = html("input", { ...props, type: "password", autocomplete: "new-password" });
  return secretControl(label, {
    element: input,
    input,
    get: () => (input.value === "" ? undefined : input.value),
  });
}

/** @type {(props: Props, label: string) => Control} */
function secretFileControl(props, label) {
  const area = pemArea(props, "-----BEGIN PRIVATE KEY-----");
  return secretControl(label, {
    element: html("div", { class: "file" }, area, fileChooser(label, area)),
    input: area,
    get: () => (area.value.trim() === "" ? undefined : area.value),
  });
}

/**
 * Creates a button that reads a file into a text area.
 * @param {string} label
 * @param {HTMLTextAreaElement} area
 */
function fileChooser(label, area) {
  async function read() {
    const file = input.files?.[0];
    input.value = "";
    if (!file) return;
    const text = await file.text();
    if (pem(text)) {
      toast(file.size > MAX_PEM_BYTES ? labels.tooLarge : labels.notPem, true);
      return;
    }
    area.value = text;
    notifyOfInput(area);
  }
  const input = html("input", {
    type: "file", class: "visually-hidden", tabindex: "-1", "aria-hidden": "true", accept: ".pem,.crt,.cer,.key",
    onchange: read,
  });
  const props = { type: "button", "aria-label": labels.fileFor(label), onclick: () => input.click() };
  return html("span", {}, html("button", props, labels.file), input);
}

/** @param {Element} element */
const notifyOfInput = (element) => element.dispatchEvent(new Event("input", { bubbles: true }));

/** @typedef {"keep" | "replace" | "clear"} SecretMode */

/**
 * Creates the control for a secret. A stored secret can be kept, replaced or cleared; it is never shown.
 * @param {string} label
 * @param {{ element: HTMLElement, input: HTMLInputElement | HTMLTextAreaElement, get: Control["get"] }} entry
 * @returns {Control}
 */
function secretControl(label, entry) {
  const element = html("div", { class: "secret" });
  let isStored = false;
  // Whether the stored secret cannot be kept.
  let isNeeded = false;
  /** @type {SecretMode} */
  let mode = "replace";

  /** @param {SecretMode} next */
  function setMode(next) {
    mode = next;
    entry.input.value = "";
    show();
  }

  function show() {
    if (mode === "keep") fill(element, keepContent());
    else if (mode === "clear") fill(element, html("span", { class: "kept" }, labels.cleared),
      isNeeded ? modeButton(labels.replace, "replace") : keepButton());
    else if (isNeeded) fill(element, entry.element, html("span", { class: "help" }, labels.neededAgain), clearButton());
    else fill(element, entry.element, isStored && keepButton());
  }

  /**
   * Asks for the secret as soon as the stored one cannot be kept. It comes back if the other settings do.
   * @param {boolean} next
   */
  function require(next) {
    if (!isStored || isNeeded === next) return;
    isNeeded = next;
    if (isNeeded && mode === "keep") setMode("replace");
    else if (!isNeeded && mode === "replace" && entry.input.value === "") setMode("keep");
    else show();
  }

  /**
   * @param {string} text
   * @param {SecretMode} next
   */
  const modeButton = (text, next) => html("button", {
    type: "button", class: "quiet", "aria-label": `${text}: ${label}`, onclick: (event) => {
      setMode(next);
      notifyOfInput(element);
      if (next === "replace") entry.input.focus();
      event.preventDefault();
    },
  }, text);
  const keepButton = () => modeButton(labels.keep, "keep");
  const clearButton = () => modeButton(labels.clear, "clear");
  const keepContent = () => [
    html("span", { class: "kept" }, "••••••••"), html("span", { class: "help" }, labels.configured),
    modeButton(labels.replace, "replace"), clearButton(),
  ];

  function get() {
    if (mode === "clear") return null;
    return mode === "keep" ? undefined : entry.get();
  }

  return {
    element,
    get,
    replace: () => { if (mode === "keep") setMode("replace"); },
    require,
    set: (value) => {
      isStored = value === true;
      isNeeded = false;
      setMode(isStored ? "keep" : "replace");
    },
  };
}
