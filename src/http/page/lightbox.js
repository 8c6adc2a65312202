// @ts-check
// The picture of an event, as large as the window, with the pictures of the events before and after it.

/** @import { EventRecord, EventNeighbors, Navigation } from "./types" */

import { get } from "./api.js";
import { exactTime, foreign, html, openDialog, stepButton, time } from "./dom.js";
import { onArrowKeys, onSwipe } from "./gestures.js";
import { picturePath } from "./pictures.js";
import { texts } from "./texts.js";

const labels = texts.events;
const ZOOM = 2.5;

/** @param {EventRecord} event */
const hasPicture = (event) => event.has_thumbnail === true;

/**
 * Creates the window, which is closed at first.
 * @param {Navigation} navigation
 */
export function lightbox(navigation) {
  /** @type {string | null} */
  let id = null;
  /** @type {EventNeighbors | null} */
  let source = null;
  /** @type {HTMLDialogElement | null} */
  let dialog = null;

  const image = html("img", { alt: "", draggable: "false" });
  const frame = html("button", { type: "button", class: "zoom", onclick: (event) => zoom(event) }, image);
  const caption = html("p", { class: "caption" });
  const download = html("a", { class: "button", download: true }, labels.download);
  // Names the camera and the time, as soon as they are known.
  let heading = labels.pictureTitle;
  const newer = stepButton(-1, "‹", labels.newerPicture, move);
  const older = stepButton(1, "›", labels.olderPicture, move);
  image.addEventListener("error", () => { caption.textContent = labels.noPicture; });

  /** @param {1 | -1} step */
  async function move(step) {
    const from = id;
    const next = from && (await source?.neighbor(from, step, hasPicture, () => from !== id));
    if (next && from === id) navigation.openEvent(next.event_id, true);
  }

  /** @param {boolean} isZoomed */
  function setZoomed(isZoomed) {
    frame.toggleAttribute("data-zoomed", isZoomed);
    frame.setAttribute("aria-label", isZoomed ? labels.zoomOut : labels.zoomIn);
    frame.setAttribute("aria-pressed", String(isZoomed));
    image.style.width = isZoomed ? `${frame.clientWidth * ZOOM}px` : "";
  }

  /**
   * Enlarges the place that was clicked, or shows the whole picture again.
   * @param {Event} event
   */
  function zoom(event) {
    const box = image.getBoundingClientRect();
    const isKey = !(event instanceof MouseEvent) || event.detail === 0;
    const x = isKey ? 0.5 : (event.clientX - box.left) / box.width;
    const y = isKey ? 0.5 : (event.clientY - box.top) / box.height;
    setZoomed(!frame.hasAttribute("data-zoomed"));
    frame.scrollTo({
      left: x * image.clientWidth - frame.clientWidth / 2, top: y * image.clientHeight - frame.clientHeight / 2,
    });
  }

  /** @param {string} text */
  function setHeading(text) {
    heading = text;
    const element = dialog?.querySelector("h2");
    if (element) element.textContent = text;
  }

  function open() {
    const opened = openDialog(heading, [frame, caption], [], [newer, older, download]);
    opened.classList.add("lightbox", "has-address");
    opened.addEventListener("close", () => {
      if (dialog !== opened) return;
      dialog = null;
      navigation.close();
    });
    onArrowKeys(opened, move, () => !frame.hasAttribute("data-zoomed"));
    return opened;
  }
  onSwipe(frame, move, () => !frame.hasAttribute("data-zoomed") && (window.visualViewport?.scale ?? 1) === 1);

  async function load() {
    const shown = id;
    if (!shown) return;
    const event = source?.find(shown) ?? (await get(`events/${encodeURIComponent(shown)}`).catch(() => null));
    if (shown !== id) return;
    if (!event) {
      setHeading(labels.pictureTitle);
      caption.textContent = labels.missing;
      return;
    }
    setHeading(labels.pictureOf(event.camera_name, exactTime(event.timestamp)));
    setZoomed(false);
    const path = `api/v1/${picturePath(event)}`;
    image.src = path;
    image.alt = labels.picture(event.camera_name);
    download.href = path;
    download.download = `${event.camera_id}-${event.timestamp.slice(0, 19).replace(/[:T]/g, "-")}`;
    caption.replaceChildren(foreign("span", {}, event.description), " ", time(event.timestamp));
    for (const [button, step, label] of /** @type {const} */ ([
      [newer, -1, labels.newerPicture], [older, 1, labels.olderPicture],
    ])) {
      const next = await source?.neighbor(shown, step, hasPicture, () => shown !== id);
      if (shown !== id) return;
      button.setAttribute("aria-disabled", String(!next));
      button.title = next === null ? labels.noneNearby(label) : label;
      button.setAttribute("aria-label", button.title);
    }
  }

  /**
   * Shows the picture of this event, or closes the window. `from` is the list that the event is in.
   * @param {string | null} next
   * @param {EventNeighbors} from
   */
  function show(next, from) {
    source = from;
    if (next === id && (dialog !== null) === (next !== null)) return;
    id = next;
    if (next === null) {
      const closing = dialog;
      dialog = null;
      closing?.close();
      return;
    }
    dialog ??= open();
    load();
  }

  return { show };
}
