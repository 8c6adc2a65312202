// Building elements. Texts are set as text, never as markup: whatever an event says stays a text.

import { T } from "./texts.js";
import { now } from "./api.js";

/** An element: `h("button", { class: "quiet", onclick: f }, "Text", otherElement)`. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

/** An element of a drawing. */
export function s(tag, props = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== undefined && child !== null && child !== false) element.append(child);
  }
}

/** Replaces what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

let ids = 0;
export const newId = () => `id-${++ids}`;

/** What may be long, broken and hostile: shown in its own direction. */
export const foreign = (tag, props, text) => h(tag, { dir: "auto", ...props }, text);

const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** Seconds as one number with a unit. */
export function span(seconds) {
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? UNITS.at(-1);
  return `${Math.floor(seconds / size)} ${unit}`;
}

export function relative(iso) {
  const seconds = Math.round((now() - Date.parse(iso)) / 1000);
  if (Math.abs(seconds) < 3) return T.time.now;
  return seconds > 0 ? T.time.ago(span(seconds)) : T.time.soon(span(-seconds));
}

export const exact = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** How long from one moment to another, as people say it. */
export function took(from, to) {
  const ms = Math.max(0, Date.parse(to) - Date.parse(from));
  return ms < 1000 ? `${ms} ms` : ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : span(ms / 1000);
}

/** A time that stays true: relative, the exact one on hover. */
export function time(iso) {
  return h("time", { datetime: iso, title: exact(iso) }, relative(iso));
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const text = relative(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}, 5000);

/** Where a picture would be. */
export const blank = (className) => h("span", { class: `${className} blank`, "aria-hidden": "true" });

/** A picture that is there; one that has gone meanwhile leaves its place empty. */
export function picture(address, alt, className) {
  const image = h("img", { class: className, alt, loading: "lazy", decoding: "async", src: `api/v1/${address}` });
  image.addEventListener("error", () => image.replaceWith(blank(className)));
  return image;
}

/** Opens a dialog; resolves when it is closed. */
export function dialog(title, content, actions = []) {
  const heading = newId();
  const box = h("dialog", { "aria-labelledby": heading },
    h("header", {}, foreign("h2", { id: heading }, title),
      h("button", { class: "quiet", type: "button", onclick: () => box.close() }, T.dialog.close)),
    content,
    actions.length > 0 && h("footer", {}, actions));
  document.body.append(box);
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => event.target === box && box.close());
  box.showModal();
  return box;
}

let toastTimer;
/** Says something for some seconds, to readers of screens as well. */
export function toast(text, bad = false) {
  const place = document.getElementById("toast");
  if (!place) return;
  place.className = bad ? "toast bad" : "toast";
  place.textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { place.textContent = ""; }, bad ? 12_000 : 6000);
}

/** Puts a text on the clipboard, also where the page came without TLS. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "hidden-copy", readonly: true });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** Does `work` with a button that cannot be pressed meanwhile; a failure is told. */
export async function busy(button, work) {
  button.disabled = true;
  try {
    return await work();
  } catch (problem) {
    toast(problem.message, true);
    return undefined;
  } finally {
    button.disabled = false;
  }
}
