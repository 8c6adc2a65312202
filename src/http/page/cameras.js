// @ts-check
// The cameras view: the newest picture and the state of each camera. Each card links to the camera's own page.

/** @import { Camera, CameraStatus, PictureWidth } from "./types" */

import { get, messageOf } from "./api.js";
import { blank, fill, foreign, html, newId, picture, time } from "./dom.js";
import { compareNames } from "./locale.js";
import { cameraPicturePath } from "./pictures.js";
import { cameraAddress } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.cameras;
const REFRESH_MS = 30_000;
// Events come in bursts; the cameras are fetched once per burst.
const BURST_MS = 2000;
// The search field is shown if there are more cameras than this.
const MANY = 8;

/** @param {Camera} camera */
function thumbnail(camera) {
  if (camera.thumbnail_seq === null) return blank("thumb");
  const image = picture(cameraPicturePath(camera, 384), "", "thumb");
  const address = (/** @type {PictureWidth} */ width) => `api/v1/${cameraPicturePath(camera, width)} ${width}w`;
  image.sizes = "auto, (max-width: 40rem) 100vw, 22rem";
  image.srcset = `${address(384)}, ${address(768)}`;
  return image;
}

/**
 * Creates the content of a camera's card.
 * @param {Camera} camera
 */
function facts(camera) {
  const last = camera.last_event;
  return html("div", { class: "content" },
    html("h2", {}, foreign("a", { class: "cover", href: cameraAddress(camera.camera_id) }, camera.camera_name)),
    html("p", { class: "sub" },
      html("span", { class: "dot", "aria-hidden": "true" }), labels.status[camera.status],
      !camera.enabled && ` · ${labels.hidden}`),
    html("p", { class: "sub" }, labels.counts(camera.events_today, camera.events_this_week)),
    html("p", { class: "last" },
      last ? [foreign("span", {}, last.description), time(last.timestamp)] : labels.noEvent));
}

/** @type {Record<CameraStatus, number>} */
const ORDER = { unavailable: 0, offline: 0, online: 1 };

/** @typedef {(a: Camera, b: Camera) => number} Compare */

/** @type {Compare} */
const byName = (a, b) => compareNames(a.camera_name, b.camera_name);

/**
 * The orders that can be chosen. The first one shows the cameras that need attention first.
 * @type {Record<keyof typeof labels.orders, Compare>}
 */
const COMPARE = {
  status: (a, b) => ORDER[a.status] - ORDER[b.status] || byName(a, b),
  name: byName,
  newest: (a, b) => (b.last_event?.timestamp ?? "").localeCompare(a.last_event?.timestamp ?? "") || byName(a, b),
};

/**
 * Creates the view. Calls `onCameras` with the list each time it is fetched. `firstEvent` is shown while there are no
 * cameras.
 * @param {(cameras: Camera[]) => void} onCameras
 * @param {HTMLElement} firstEvent
 */
export function camerasView(onCameras, firstEvent) {
  const list = html("ul", { class: "cameras" });
  const note = html("p", { class: "empty", role: "status" });
  const again = html("button", { type: "button", class: "more", hidden: true, onclick: () => { refresh(); } },
    texts.tryAgain);
  const search = html("input", { id: newId(), type: "search", autocomplete: "off", oninput: showCards });
  const names = /** @type {(keyof typeof COMPARE)[]} */ (Object.keys(COMPARE));
  /** @type {HTMLSelectElement} */
  const order = html("select", { id: newId(), onchange: showCards },
    names.map((name) => html("option", { value: name }, labels.orders[name])));
  const searchField = html("div", { class: "filters", hidden: true },
    html("div", { class: "field" }, html("label", { for: search.id }, labels.search), search),
    html("div", { class: "field" }, html("label", { for: order.id }, labels.order), order));
  const element = html("section", { "aria-label": texts.views.cameras }, searchField, list, note, again, firstEvent);
  firstEvent.hidden = true;
  /** @type {Map<string, { json: string, element: HTMLElement }>} */
  const cards = new Map();
  /** @type {Camera[]} */
  let cameras = [];
  let hasFailed = false;
  /** @type {number | undefined} */
  let due;

  /**
   * Returns the camera's card. An unchanged camera keeps its element.
   * @param {Camera} camera
   */
  function cardOf(camera) {
    const json = JSON.stringify(camera);
    const known = cards.get(camera.camera_id);
    if (known?.json === json) return known.element;
    const element = html("li", { class: "card camera", "data-status": camera.status },
      thumbnail(camera), facts(camera));
    cards.set(camera.camera_id, { json, element });
    return element;
  }

  /** Shows the cameras that match the search. */
  function showCards() {
    const words = search.value.trim().toLocaleLowerCase();
    const matching = cameras.filter(({ camera_id, camera_name }) =>
      `${camera_name} ${camera_id}`.toLocaleLowerCase().includes(words));
    const compare = COMPARE[names.find((name) => name === order.value) ?? "status"];
    show(matching.sort(compare).map(cardOf));
    searchField.hidden = cameras.length <= MANY;
    firstEvent.hidden = cameras.length > 0;
    if (cameras.length === 0) note.textContent = labels.none;
    else note.textContent = matching.length === 0 ? labels.noMatch : "";
  }

  async function refresh() {
    try {
      ({ cameras } = await get("cameras"));
      const ids = new Set(cameras.map((camera) => camera.camera_id));
      for (const id of cards.keys()) if (!ids.has(id)) cards.delete(id);
      hasFailed = false;
      showCards();
      onCameras(cameras);
    } catch (error) {
      hasFailed = true;
      note.textContent = messageOf(error);
    }
    again.hidden = !hasFailed;
  }

  /**
   * Shows these cards. An unchanged list is left as it is, so that it keeps the keyboard focus.
   * @param {HTMLElement[]} wanted
   */
  function show(wanted) {
    if (wanted.length === list.children.length && wanted.every((card, i) => list.children[i] === card)) return;
    const focused = document.activeElement;
    fill(list, wanted);
    if (focused instanceof HTMLElement && focused.isConnected && focused !== document.body) focused.focus();
  }

  function refreshSoon() {
    due ??= setTimeout(() => {
      due = undefined;
      refresh();
    }, BURST_MS);
  }

  function stop() {
    clearInterval(timer);
    clearTimeout(due);
  }

  const timer = setInterval(() => document.hidden || refresh(), REFRESH_MS);
  return { element, refresh, refreshSoon, recover: () => { if (hasFailed) refresh(); }, list: () => cameras, stop };
}
