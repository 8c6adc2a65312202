// @ts-check
// The events view: the event log with its filters.

/** @import { Camera, Route } from "./types" */

import { html, fill, newId } from "./dom.js";
import { eventList } from "./event-list.js";
import { eventsAddress, STATES } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.events;

/**
 * @param {string} label
 * @param {HTMLSelectElement} select
 */
const filter = (label, select) => html("div", { class: "field" }, html("label", { for: select.id }, label), select);

/**
 * Creates the view. `open` is called with an address when the filters change, `openEvent` with the event that is
 * chosen. `firstEvent` is shown while there are no events.
 * @param {(address: string) => void} open
 * @param {(id: string) => void} openEvent
 * @param {HTMLElement} firstEvent
 */
export function eventsView(open, openEvent, firstEvent) {
  /** @returns {void} */
  const onChange = () => open(eventsAddress({ camera: cameraFilter.value, state: stateFilter.value }));
  const anyCamera = () => html("option", { value: "" }, labels.anyCamera);
  /** @type {HTMLSelectElement} */
  const cameraFilter = html("select", { id: newId(), onchange: onChange }, anyCamera());
  /** @type {HTMLSelectElement} */
  const stateFilter = html("select", { id: newId(), onchange: onChange },
    html("option", { value: "" }, labels.anyState),
    STATES.map((state) => html("option", { value: state }, labels.states[state])));
  const list = eventList(openEvent, (isEmpty) => { firstEvent.hidden = !isEmpty; });
  firstEvent.hidden = true;
  const element = html("section", { "aria-label": texts.views.events },
    html("div", { class: "filters" }, filter(labels.camera, cameraFilter), filter(labels.state, stateFilter)),
    list.element, firstEvent);
  let camera = "";

  /** Selects the camera that the address names, even if it is unknown. */
  function chooseCamera() {
    const isKnown = [...cameraFilter.options].some((option) => option.value === camera);
    if (!isKnown) cameraFilter.append(html("option", { value: camera }, camera));
    cameraFilter.value = camera;
  }

  /** @param {Route} route */
  function show(route) {
    camera = route.camera;
    chooseCamera();
    stateFilter.value = route.state;
    list.show(route);
  }

  /**
   * Offers these cameras in the filter.
   * @param {Camera[]} cameras
   */
  function setCameras(cameras) {
    // A menu must not change while it is open, so unchanged options are left as they are.
    const options = cameras.map(({ camera_id, camera_name }) => [camera_id, camera_name]);
    if (JSON.stringify(options) === cameraFilter.dataset.options) return;
    cameraFilter.dataset.options = JSON.stringify(options);
    fill(cameraFilter, anyCamera(), options.map(([value, name]) => html("option", { value }, name)));
    chooseCamera();
  }

  return { element, list, show, setCameras };
}
