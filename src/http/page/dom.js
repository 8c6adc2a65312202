// @ts-check
// Helpers that build elements. Text is always inserted as text, never as markup, so events cannot inject HTML.

/** @import { Child, Props, Timestamp } from "./types" */

import { messageOf, now } from "./api.js";
import { dateTime, decimal, duration, relativeTime } from "./locale.js";
import { fromServer } from "./sentences.js";
import { texts } from "./texts.js";

/**
 * Creates an HTML element: `html("button", { class: "quiet", onclick: close }, "Close", icon)`.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} [props]
 * @param {...Child} children
 */
export function html(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice("on".length), value);
    else if (name in element && typeof value !== "string") Object.assign(element, { [name]: value });
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/**
 * Creates an SVG element.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number>} [props]
 * @param {...Child} children
 */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, String(value));
  append(element, children);
  return element;
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== undefined && child !== null && child !== false) element.append(child);
  }
}

/**
 * Replaces the content of an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * Opens an element where there is room for it, and closes it elsewhere.
 * @param {HTMLDetailsElement} details
 */
export function openWhenWide(details) {
  const wide = matchMedia("(min-width: 60rem)");
  const update = () => { details.open = wide.matches; };
  update();
  wide.addEventListener("change", update);
}

/**
 * Keeps the height of an element in a custom property, for styles of other elements. It is 0 while it is not shown.
 * @param {HTMLElement} element
 * @param {string} property
 */
export function followHeight(element, property) {
  const update = () => document.documentElement.style.setProperty(property, `${element.offsetHeight}px`);
  new ResizeObserver(update).observe(element);
}

let ids = 0;
export const newId = () => `id-${++ids}`;

/**
 * Creates an element for untrusted text, which may be long, malformed or hostile. The text keeps its own writing
 * direction.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} props
 * @param {string} text
 */
export const foreign = (tag, props, text) => html(tag, { dir: "auto", ...props }, text);

/**
 * Creates an element for a text of the server, in the language of the page if its words are known.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} props
 * @param {string} english
 */
export function serverText(tag, props, english) {
  const { text, isKnown } = fromServer(english);
  return foreign(tag, isKnown ? props : { lang: "en", ...props }, text);
}

/** @param {Timestamp} timestamp */
function untilNow(timestamp) {
  const seconds = Math.round((now() - Date.parse(timestamp)) / 1000);
  return Math.abs(seconds) < 3 ? texts.time.now : relativeTime(seconds);
}

/** @param {Timestamp} timestamp */
export const exactTime = (timestamp) => dateTime(timestamp, { dateStyle: "medium", timeStyle: "medium" });

/**
 * Formats the time between two timestamps.
 * @param {Timestamp | number} from
 * @param {Timestamp | number} to
 */
export function elapsed(from, to) {
  const ms = Math.max(0, new Date(to).getTime() - new Date(from).getTime());
  if (ms < 1000) return `${ms} ms`;
  return ms < 60_000 ? `${decimal(ms / 1000)} s` : duration(ms / 1000);
}

// After this time, "5 h ago" is less useful than the time of day.
const CLOCK_AFTER_MS = 3_600_000;

/** @param {Timestamp} timestamp */
const timeOfDay = (timestamp) => (now() - Date.parse(timestamp) < CLOCK_AFTER_MS
  ? untilNow(timestamp)
  : dateTime(timestamp, { timeStyle: "short" }));

/**
 * Creates a relative time that is kept current and shows the exact time on hover.
 * @param {Timestamp} timestamp
 * @param {boolean} [belowDay] Whether it is below a heading with its day: then an older one is a time of day.
 */
export function time(timestamp, belowDay = false) {
  return html("time", { datetime: timestamp, title: exactTime(timestamp), "data-below-day": belowDay },
    belowDay ? timeOfDay(timestamp) : untilNow(timestamp));
}

setInterval(() => {
  for (const element of /** @type {NodeListOf<HTMLTimeElement>} */ (document.querySelectorAll("time[datetime]"))) {
    const text = element.hasAttribute("data-below-day") ? timeOfDay(element.dateTime) : untilNow(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}, 5000);

/**
 * Creates a placeholder for a picture.
 * @param {string} className
 */
export const blank = (className) => html("span", { class: `${className} blank`, "aria-hidden": "true" });

/**
 * Creates a picture. A placeholder replaces it if the picture has been deleted.
 * @param {string} path
 * @param {string} alt
 * @param {string} className
 */
export function picture(path, alt, className) {
  const image = html("img", { class: className, alt, loading: "lazy", decoding: "async", src: `api/v1/${path}` });
  image.addEventListener("error", () => image.replaceWith(blank(className)));
  return image;
}

/**
 * Formats a time of today.
 * @param {Timestamp | number} time
 */
export const clockTime = (time) => dateTime(time, { timeStyle: "medium" });

/**
 * Opens a dialog. It is removed from the page when it closes.
 * @param {string} title
 * @param {Child} content
 * @param {Child[]} [actions]
 * @param {Child[]} [tools] Small controls in its header.
 */
export function openDialog(title, content, actions = [], tools = []) {
  const headingId = newId();
  const dialog = html("dialog", { "aria-labelledby": headingId },
    // Without the role, it would be a second banner of the page.
    html("header", { role: "none" },
      foreign("h2", { id: headingId }, title),
      html("span", { class: "tools" }, tools,
        html("button", { class: "quiet", type: "button", onclick: () => { dialog.close(); } }, texts.dialog.close))),
    content,
    actions.length > 0 && html("footer", {}, actions));
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    rescueToast(dialog);
    dialog.remove();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
  return dialog;
}

/** Closes all dialogs that have no address of their own. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog:not(.has-address)")) {
    if (dialog instanceof HTMLDialogElement) dialog.close();
  }
}

/** @type {number | undefined} */
let toastTimer;

/**
 * Shows a message for a few seconds, above everything else. Screen readers announce it.
 * @param {string} text
 * @param {boolean} [isError]
 */
export function toast(text, isError = false) {
  const element = document.getElementById("toast");
  if (!element) return;
  // Elements outside the topmost dialog are behind its backdrop, and hidden from screen readers.
  const dialogs = document.querySelectorAll("dialog[open]");
  const place = dialogs[dialogs.length - 1] ?? document.body;
  if (element.parentElement !== place) place.append(element);
  element.className = isError ? "toast bad" : "toast";
  element.hidePopover();
  element.showPopover();
  element.textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hideToast, isError ? 12_000 : 6000);
}

export function hideToast() {
  const element = document.getElementById("toast");
  if (!element) return;
  element.textContent = "";
  if (element.matches(":popover-open")) element.hidePopover();
}

/**
 * Keeps the message when the dialog that shows it is removed.
 * @param {Element} dialog
 */
function rescueToast(dialog) {
  const element = document.getElementById("toast");
  if (!element || !dialog.contains(element)) return;
  document.body.append(element);
  if (element.textContent) element.showPopover();
}

/**
 * Copies text to the clipboard. Also works on pages without TLS, where browsers offer no clipboard API.
 * @param {string} text
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = html("textarea", { class: "hidden-copy", readonly: true });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/**
 * Disables a control while `work` runs, and shows an error as a toast. Returns `undefined` after an error.
 * @template Result
 * @param {HTMLButtonElement | HTMLInputElement} control
 * @param {() => Promise<Result>} work
 */
export async function busy(control, work) {
  control.disabled = true;
  try {
    return await work();
  } catch (error) {
    toast(messageOf(error), true);
    return undefined;
  } finally {
    control.disabled = false;
  }
}

/**
 * Creates a button that is disabled while `work` runs.
 * @param {string} label
 * @param {string} className
 * @param {() => Promise<unknown>} work
 */
export function actionButton(label, className, work) {
  const onclick = () => { busy(button, work); };
  const button = html("button", { type: "button", class: className, onclick }, label);
  return button;
}

/**
 * Creates a button that moves to the previous or next item. It calls `move` with the step.
 * @param {1 | -1} step
 * @param {string} sign
 * @param {string} label
 * @param {(step: 1 | -1) => void} move
 */
export function stepButton(step, sign, label, move) {
  const onclick = () => { move(step); };
  const props = {
    type: "button", class: "quiet step", "aria-label": label, title: label, autofocus: step === 1, onclick,
  };
  return html("button", props, sign);
}
