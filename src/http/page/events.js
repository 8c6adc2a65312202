// @ts-check
// The events view: the event log with its filters.

/** @import { Camera, EventFilters, EventRecord, Navigation, Route } from "./types" */

import { filterPanel } from "./event-filters.js";
import { eventList } from "./event-list.js";
import { filtersOf } from "./filtering.js";
import { html } from "./dom.js";
import { eventsAddress } from "./router.js";
import { texts } from "./texts.js";
import { timeline } from "./timeline.js";

/**
 * Creates the view. `firstEvent` is shown while there are no events.
 * @param {Navigation} navigation
 * @param {HTMLElement} firstEvent
 */
export function eventsView(navigation, firstEvent) {
  /** @type {EventFilters} */
  let filters = { camera: "", state: "" };
  const day = timeline(change);
  const panel = filterPanel(change, day.element);
  const list = eventList(navigation.openEvent, {
    onEmpty: (isEmpty) => { firstEvent.hidden = !isEmpty; },
    onObject: (object) => change({ object }),
    onClear: panel.clear,
    onLoaded: (events) => panel.addObjects(events.flatMap((event) => event.objects_detected)),
  });
  firstEvent.hidden = true;
  const element = html("section", { "aria-label": texts.views.events },
    panel.element, list.element, firstEvent);

  /**
   * Shows other events. A search that is being typed is one entry of the history.
   * @param {Partial<EventFilters>} changed
   * @param {boolean} [isTyping]
   */
  function change(changed, isTyping = false) {
    const replaces = isTyping && Boolean(filters.q) && Boolean(changed.q);
    navigation.open(eventsAddress({ ...filters, ...changed }), replaces);
  }

  /** @param {Route} route */
  function show(route) {
    filters = filtersOf(route);
    panel.show(filters);
    day.show(filters);
    list.show(filters);
  }

  return {
    element, list, show,
    /** @param {Camera[]} cameras */
    setCameras: (cameras) => panel.setCameras(cameras),
    /**
     * Shows a new event.
     * @param {EventRecord} event
     */
    addEvent(event) {
      list.addEvent(event);
      day.refreshSoon();
    },
    /** Brings the view up to date after changes that the stream did not report. */
    catchUp() {
      day.refreshSoon();
      return list.catchUp();
    },
    /** Loads what could not be loaded. */
    recover() {
      list.recover();
      day.recover();
    },
    stop() {
      panel.stop();
      day.stop();
      list.stop();
    },
  };
}
