// @ts-check
// The parts of an event that the list, the details and the picture window share.

/** @import { Child, EventRecord, PictureWidth } from "./types" */

import { blank, copy, elapsed, foreign, html, picture } from "./dom.js";
import { picturePath } from "./pictures.js";
import { eventsAddress } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.events;

/**
 * Creates the picture of an event for its row, in the smallest rendition that suffices.
 * @param {EventRecord} event
 */
export function rowPicture(event) {
  const isLarge = matchMedia("(min-width: 110rem), (min-width: 76rem) and (min-resolution: 1.5dppx)").matches;
  return thumbnail(event, "", "thumb", isLarge ? 384 : 192);
}

/**
 * Creates the small picture of an event.
 * @param {EventRecord} event
 * @param {string} alt
 * @param {string} className
 * @param {PictureWidth} width
 */
export function thumbnail(event, alt, className, width) {
  if (!event.has_thumbnail) return blank(className);
  return picture(picturePath(event, width), alt, className);
}

/** @param {EventRecord} event */
function deliveryText({ received_at, delivery: { state, delivered_at, dismissed } }) {
  if (state === "delivered" && delivered_at) return labels.deliveredIn(elapsed(received_at, delivered_at));
  return state === "dead" && dismissed ? labels.dismissed : labels.states[state];
}

/**
 * Creates a short description of an event's delivery state.
 * @param {EventRecord} event
 */
export function mark(event) {
  const { state, late, heard, dismissed } = event.delivery;
  return html("span", { class: `mark ${dismissed ? "dismissed" : state}` }, deliveryText(event),
    late && html("span", { class: "late", title: labels.lateHelp }, ` · ${labels.late}`),
    heard === false && html("span", { class: "late", title: labels.unheardHelp }, ` · ${labels.unheard}`));
}

/**
 * Returns why an event is dead, or an empty string.
 * @param {EventRecord} event
 */
export function reasonOf({ delivery: { state, reason, dismissed } }) {
  if (state !== "dead" || !reason || dismissed) return "";
  return labels.reasons[reason] ?? reason;
}

/**
 * Creates the list of detected objects and the confidence. An object is a link if `onObject` is given.
 * @param {EventRecord} event
 * @param {((object: string) => void) | null} onObject
 * @param {...Child} more
 */
export function tags(event, onObject, ...more) {
  /** @param {string} object */
  function tag(object) {
    if (!onObject) return foreign("span", { class: "tag" }, object);
    /** @param {Event} click */
    const onclick = (click) => {
      if (click instanceof MouseEvent && (click.ctrlKey || click.metaKey || click.shiftKey)) return;
      click.preventDefault();
      onObject(object);
    };
    return foreign("a", { class: "tag", href: eventsAddress({ object }), title: labels.onlyObject(object), onclick },
      object);
  }
  return html("p", { class: "tags" },
    event.objects_detected.map(tag),
    event.confidence !== null && html("span", { class: "confidence" }, labels.confidence(event.confidence)),
    more);
}

const COPIED_MS = 3000;

/**
 * Creates a button that copies a text, which `getText` may create first.
 * @param {() => string | Promise<string>} getText
 * @param {string} name The name of the text to copy.
 * @param {{ label?: string, class?: string }} [more]
 */
export function copyButton(getText, name, { label = labels.copy, class: className = "quiet" } = {}) {
  async function copyText() {
    await copy(await getText());
    button.textContent = labels.copied;
    setTimeout(() => { button.textContent = label; }, COPIED_MS);
  }
  const props = { type: "button", class: className, "aria-label": `${label}: ${name}`, onclick: copyText };
  const button = html("button", props, label);
  return button;
}
