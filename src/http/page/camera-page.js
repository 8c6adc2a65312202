// @ts-check
// The page of one camera: its newest picture, what can be changed about it, and its events.

/** @import { Camera, Navigation, Route } from "./types" */

import { entitiesOf } from "./automation.js";
import { cameraControls } from "./camera-actions.js";
import { blank, fill, foreign, html, picture } from "./dom.js";
import { eventList } from "./event-list.js";
import { copyButton } from "./event-parts.js";
import { cameraPicturePath } from "./pictures.js";
import { eventsAddress } from "./router.js";
import { texts } from "./texts.js";
import { week } from "./week.js";

const labels = texts.cameras;

/**
 * Creates the page. `refresh` fetches the cameras.
 * @param {boolean} canChange
 * @param {Navigation} navigation
 * @param {() => Promise<unknown>} refresh
 */
export function cameraPage(canChange, navigation, refresh) {
  let id = "";
  /** @type {Camera[] | null} */
  let cameras = null;
  let shown = "";
  const onObject = (/** @type {string} */ object) => navigation.open(eventsAddress({ camera: id, object }));
  const list = eventList(navigation.openEvent, { onObject });
  const hours = week(navigation.open);
  const place = html("div", { class: "camera-page" });
  const element = html("section", { "aria-label": labels.one },
    html("p", { class: "row spread" },
      html("a", { href: "#cameras" }, labels.back),
      copyButton(() => location.href, texts.events.link, { label: texts.events.copyLink })),
    place, hours.element, html("h2", { class: "visually-hidden" }, texts.views.events), list.element);

  /** @param {Camera} camera */
  function largePicture(camera) {
    if (camera.thumbnail_seq === null) return blank("large");
    const image = picture(cameraPicturePath(camera, 768), texts.events.picture(camera.camera_name), "large");
    const enlarge = () => {
      const event = list.findBySeq(camera.thumbnail_seq);
      if (event) navigation.openEvent(event.event_id, true);
    };
    return html("button", { type: "button", class: "enlarge", "aria-label": texts.events.enlarge, onclick: enlarge },
      image);
  }

  // Each event replaces the elements, and must not close what somebody has opened.
  let showsEntities = false;

  /** @param {Camera} camera */
  function entities(camera) {
    /** @type {HTMLDetailsElement} */
    const element = html("details", {
      class: "entities", open: showsEntities, ontoggle: () => { showsEntities = element.open; },
    },
    html("summary", {}, labels.entities),
    html("p", { class: "help" }, labels.entitiesHelp),
    html("ul", {}, entitiesOf(camera).map((entity) =>
      html("li", { class: "row" }, html("code", {}, entity), copyButton(() => entity, entity)))));
    return element;
  }

  function update() {
    if (!id || !cameras) return;
    const camera = cameras.find((one) => one.camera_id === id);
    hours.show(camera ? id : "");
    // An unchanged camera keeps its elements, and with them the keyboard focus.
    const next = JSON.stringify(camera ?? id);
    if (next === shown) return;
    shown = next;
    if (!camera) {
      fill(place, foreign("h2", {}, id), html("p", { class: "help" }, labels.missing));
      return;
    }
    const onRemoved = () => navigation.open("#cameras");
    fill(place, largePicture(camera),
      html("div", { class: "content", "data-status": camera.status },
        foreign("h2", {}, camera.camera_name),
        html("p", { class: "sub" },
          html("span", { class: "dot", "aria-hidden": "true" }), labels.status[camera.status],
          " · ", html("code", {}, camera.camera_id)),
        camera.reported_name !== null && foreign("p", { class: "sub" }, labels.ownName(camera.reported_name)),
        html("p", { class: "sub" }, labels.counts(camera.events_today, camera.events_this_week)),
        cameraControls(camera, canChange, { onChanged: refresh, onRemoved }),
        camera.enabled && entities(camera)));
  }

  /** @param {Route} route */
  function show(route) {
    id = route.camera;
    list.show({ camera: id, state: "" });
    update();
  }

  return {
    element, list, show,
    /** @param {Camera[]} next */
    setCameras(next) {
      cameras = next;
      update();
    },
  };
}
