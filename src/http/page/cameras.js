// @ts-check
// The cameras view: shows the state of each camera, and lets people change or delete it.

/** @import { Camera, CameraUpdate } from "./types" */

import { call, get, messageOf } from "./api.js";
import { blank, busy, fill, foreign, html, newId, openDialog, picture, time } from "./dom.js";
import { texts } from "./texts.js";

const labels = texts.cameras;
const REFRESH_MS = 30_000;
// Events come in bursts; the cameras are fetched once per burst.
const BURST_MS = 2000;

/**
 * @param {Camera} camera
 * @returns {`cameras/${string}`}
 */
const pathOf = (camera) => `cameras/${encodeURIComponent(camera.camera_id)}`;

/** @param {Camera} camera */
function thumbnail(camera) {
  if (camera.thumbnail_seq === null) return blank("thumb");
  const path = `${pathOf(camera)}/thumbnail?seq=${camera.thumbnail_seq}`;
  return picture(path, texts.events.picture(camera.camera_name), "thumb");
}

/**
 * Creates the content of a camera's card.
 * @param {Camera} camera
 */
function facts(camera) {
  const last = camera.last_event;
  return html("div", { class: "content" },
    foreign("h2", {}, camera.camera_name),
    html("p", { class: "sub" },
      html("span", { class: "dot", "aria-hidden": "true" }), labels.status[camera.status],
      " · ", html("code", {}, camera.camera_id)),
    html("p", { class: "sub" },
      html("b", {}, camera.events_today.toLocaleString()), ` ${labels.today} · `,
      html("b", {}, camera.events_this_week.toLocaleString()), ` ${labels.week}`),
    html("p", { class: "last" },
      last ? [foreign("span", {}, last.description), time(last.timestamp)] : labels.noEvent));
}

/**
 * Creates the view. Calls `onCameras` with the list each time it is fetched.
 * @param {boolean} canChange
 * @param {(cameras: Camera[]) => void} onCameras
 */
export function camerasView(canChange, onCameras) {
  const list = html("ul", { class: "cameras" });
  const note = html("p", { class: "empty", role: "status" });
  const element = html("section", { "aria-label": texts.views.cameras }, list, note);
  /** @type {Map<string, { json: string, element: HTMLElement }>} */
  const cards = new Map();
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
      thumbnail(camera), facts(camera), controls(camera));
    cards.set(camera.camera_id, { json, element });
    return element;
  }

  /** @param {Camera} camera */
  function controls(camera) {
    const enabled = html("input", {
      type: "checkbox", role: "switch", checked: camera.enabled, disabled: !canChange,
      onchange: () => { change(camera, { enabled: enabled.checked }, enabled); },
    });
    return html("div", { class: "row" },
      html("label", { class: "switch", title: labels.enabledHelp }, enabled, labels.enabled),
      canChange && [
        html("button", { type: "button", onclick: () => askName(camera) }, labels.rename),
        html("button", { type: "button", class: "danger", onclick: () => askRemove(camera) }, labels.remove),
      ]);
  }

  /**
   * Changes the camera. Returns whether the server accepted it.
   * @param {Camera} camera
   * @param {CameraUpdate} update
   * @param {HTMLButtonElement | HTMLInputElement} control
   */
  async function change(camera, update, control) {
    const changed = await busy(control, () => call("PUT", pathOf(camera), update));
    cards.delete(camera.camera_id);
    await refresh();
    return changed !== undefined;
  }

  /** @param {Camera} camera */
  function askName(camera) {
    const input = html("input", {
      id: newId(), required: true, maxlength: "100", value: camera.camera_name, "aria-describedby": "rename-help",
    });
    const save = html("button", { class: "primary" }, texts.settings.save);
    /** @param {Event} event */
    const submit = async (event) => {
      event.preventDefault();
      if (await change(camera, { camera_name: input.value.trim() }, save)) dialog.close();
    };
    const form = html("form", { id: newId(), onsubmit: submit },
      html("div", { class: "field" },
        html("label", { for: input.id }, labels.name), input,
        html("p", { class: "help", id: "rename-help" }, labels.nameHelp)),
      html("div", { class: "row end" },
        html("button", { type: "button", onclick: () => dialog.close() }, texts.dialog.cancel), save));
    const dialog = openDialog(labels.rename, form);
    input.select();
  }

  /** @param {Camera} camera */
  function askRemove(camera) {
    const removeCamera = async () => {
      const removed = await busy(remove, async () => (await call("DELETE", pathOf(camera)), true));
      await refresh();
      if (removed) dialog.close();
    };
    const remove = html("button", { type: "button", class: "danger solid", onclick: removeCamera }, labels.remove);
    const cancel = html("button", { type: "button", onclick: () => dialog.close() }, texts.dialog.cancel);
    const explanation = html("p", { class: "prose" }, labels.removeText);
    const dialog = openDialog(labels.removeTitle(camera.camera_name), explanation, [cancel, remove]);
    cancel.focus();
  }

  async function refresh() {
    try {
      const { cameras } = await get("cameras");
      const ids = new Set(cameras.map((camera) => camera.camera_id));
      for (const id of cards.keys()) if (!ids.has(id)) cards.delete(id);
      show(cameras.map(cardOf));
      note.textContent = cameras.length === 0 ? labels.none : "";
      onCameras(cameras);
    } catch (error) {
      note.textContent = messageOf(error);
    }
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
  return { element, refresh, refreshSoon, stop };
}
