// @ts-check
// Keyboard shortcuts of one character, which can be turned off: speech input may trigger them by mistake.

import { html, openDialog } from "./dom.js";
import { texts } from "./texts.js";

const labels = texts.keys;
const STORED = "liveobject-keys";

/** Returns whether the shortcuts are on. */
function isOn() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true;
  }
}

/** @param {boolean} on */
function setOn(on) {
  try {
    if (on) localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, "off");
  } catch {
    // Without storage, they stay on.
  }
}

/** Shows the shortcuts, and the switch that turns them off. */
function openHelp() {
  /** @type {HTMLInputElement} */
  const toggle = html("input", {
    type: "checkbox", role: "switch", checked: isOn(), onchange: () => setOn(toggle.checked),
  });
  openDialog(labels.title, html("div", { class: "detail" },
    html("dl", { class: "facts keys" }, labels.list.map(([key, meaning]) => [
      html("dt", {}, html("kbd", {}, key)), html("dd", {}, meaning)])),
    html("label", { class: "switch" }, toggle, labels.on)));
}

/** Creates the button that shows the shortcuts. */
export const helpButton = () => html("button", {
  type: "button", class: "quiet keys-help", "aria-label": labels.title, title: labels.title, onclick: openHelp,
}, "?");

/** @param {EventTarget | null} target */
const isField = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"));

/** @param {string} selector */
const inView = (selector) =>
  [...document.querySelectorAll(selector)].filter((element) =>
    element instanceof HTMLElement && element.checkVisibility());

/**
 * Moves the focus to the next (1) or the previous (-1) item of the list in view.
 * @param {1 | -1} step
 */
function moveFocus(step) {
  const items = /** @type {HTMLElement[]} */ (inView(".events .open, .cameras .cover"));
  const at = items.findIndex((item) => item === document.activeElement);
  const firstVisible = items.find((item) => item.getBoundingClientRect().top > 0);
  (at < 0 ? firstVisible ?? items[0] : items[at + step])?.focus();
}

/**
 * Presses a button or link, if it is there.
 * @param {Element | null | undefined} element
 */
const press = (element) => { if (element instanceof HTMLElement) element.click(); };

/**
 * Makes the shortcuts work. `open` is called with an address. Returns a function that stops them.
 * @param {(address: string) => void} open
 */
export function shortcuts(open) {
  /** @returns {HTMLInputElement | undefined} */
  const search = () => /** @type {HTMLInputElement | undefined} */ (inView("main input[type=search]")[0]);

  function focusSearch() {
    if (!search()) open("#events");
    search()?.focus();
    search()?.select();
  }

  /**
   * @param {string} key
   * @param {HTMLDialogElement | undefined} dialog
   */
  function act(key, dialog) {
    if (dialog) {
      const steps = dialog.querySelectorAll(".step");
      if (key === "k") press(steps[0]);
      else if (key === "j") press(steps[1]);
      else if (key === "r") press(dialog.querySelector(".delivery button.primary"));
      else return false;
      return true;
    }
    if (key === "/") focusSearch();
    else if (key === "j") moveFocus(1);
    else if (key === "k") moveFocus(-1);
    else if (key === "?") openHelp();
    else return false;
    return true;
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || isField(event.target) || !isOn()) return;
    const dialogs = /** @type {NodeListOf<HTMLDialogElement>} */ (document.querySelectorAll("dialog[open]"));
    if (act(event.key, dialogs[dialogs.length - 1])) event.preventDefault();
  }

  document.addEventListener("keydown", onKey);
  return () => document.removeEventListener("keydown", onKey);
}
