// @ts-check
// A list of events, newest first, updated live: all events, or those of one camera or in one delivery state.

/** @import { DeliveryChange, EventFilters, EventRecord } from "./types" */

import { get, messageOf } from "./api.js";
import { fill, foreign, html, time } from "./dom.js";
import { mark, reasonOf, tags, thumbnail } from "./event-parts.js";
import { eventAddress } from "./router.js";
import { texts } from "./texts.js";

/** @typedef {{ event: EventRecord, element: HTMLElement, place: HTMLElement, reason: HTMLElement }} Row */

const labels = texts.events;
const PAGE_SIZE = 30;
// The server's limit.
const LARGEST_PAGE = 500;
// Older rows are removed from the page; scrolling down loads them again.
const MAX_ROWS = 600;
// A client may upload the picture after the event, and the stream does not report it.
const PICTURE_RETRY_MS = [250, 1000, 4000, 15_000];
const CATCH_UP_MS = 1000;
// Within this distance from the top, the reader is assumed to follow the newest events.
const TOP_PX = 300;

/**
 * Creates a list. `openEvent` is called with the id of an event that is chosen, `onEmpty` with whether there are no
 * events at all.
 * @param {(id: string) => void} openEvent
 * @param {(isEmpty: boolean) => void} [onEmpty]
 */
export function eventList(openEvent, onEmpty = () => {}) {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  /** @type {EventFilters | null} */
  let filters = null;
  /** @type {number | null} */
  let nextBefore = null;
  let isLoading = false;
  let failure = "";
  // Responses to requests of an earlier generation are ignored.
  let generation = 0;
  /** @type {number | undefined} */
  let catchUpTimer;

  const list = html("ol", { class: "events" });
  const note = html("p", { class: "empty", role: "status" });
  const more = html("button", { type: "button", class: "more", hidden: true, onclick: () => load() }, labels.more);
  const again = html("button", { type: "button", class: "more", hidden: true, onclick: () => load() }, texts.tryAgain);
  const newer = html("button", { type: "button", class: "newer primary", hidden: true, onclick: showNewest },
    labels.newer);
  const element = html("div", { class: "event-list" }, newer, list, note, again, more);
  const loadWhenVisible = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && !more.hidden) load();
  }, { rootMargin: "400px" });
  loadWhenVisible.observe(more);

  /** @param {EventRecord} event */
  function matches({ camera_id, delivery }) {
    if (!filters || (filters.camera && camera_id !== filters.camera)) return false;
    return !filters.state || (delivery.state === filters.state && !delivery.dismissed);
  }

  /**
   * Creates the row for an event.
   * @param {EventRecord} event
   */
  function addRow(event) {
    const place = html("span", { class: "place" }, mark(event));
    const reason = html("p", { class: "reason" }, reasonOf(event));
    /** @param {Event} click */
    const open = (click) => {
      if (click instanceof MouseEvent && (click.ctrlKey || click.metaKey || click.shiftKey)) return;
      click.preventDefault();
      openEvent(event.event_id);
    };
    const link = html("a", {
      href: eventAddress(event.event_id), class: "open", onclick: open,
      "aria-label": labels.open(event.description.slice(0, 100)),
    });
    const element = html("li", {}, thumbnail(event, "", "thumb"),
      html("div", { class: "content" },
        html("p", { class: "headline" }, foreign("strong", {}, event.camera_name), " ", time(event.timestamp)),
        foreign("p", { class: "text" }, event.description),
        tags(event, place), reason),
      link);
    rows.set(event.event_id, { event, element, place, reason });
    return element;
  }

  function noteText() {
    if (isLoading) return labels.loading;
    if (failure) return failure;
    if (rows.size === 0) return filters?.camera || filters?.state ? labels.noMatch : labels.none;
    return nextBefore === null ? labels.end : "";
  }

  function updateNote() {
    note.textContent = noteText();
    again.hidden = !failure || isLoading;
    more.hidden = nextBefore === null || isLoading || failure !== "";
    onEmpty(rows.size === 0 && !isLoading && !failure && !filters?.camera && !filters?.state);
  }

  /**
   * Fetches a page of the events that the list shows.
   * @param {number} limit
   * @param {number | null} before
   */
  function fetchPage(limit, before) {
    const query = new URLSearchParams({ limit: String(limit) });
    if (filters?.camera) query.set("camera_id", filters.camera);
    if (filters?.state) query.set("state", filters.state);
    if (before !== null) query.set("before", String(before));
    return get(`events?${query}`);
  }

  /** Loads the next page. */
  async function load() {
    if (isLoading || !filters) return;
    isLoading = true;
    failure = "";
    updateNote();
    const started = generation;
    try {
      const page = await fetchPage(PAGE_SIZE, nextBefore);
      if (started !== generation) return;
      nextBefore = page.next_before;
      for (const event of page.events) if (!rows.has(event.event_id)) list.append(addRow(event));
    } catch (error) {
      if (started !== generation) return;
      failure = messageOf(error);
    }
    isLoading = false;
    updateNote();
  }

  function reload() {
    generation++;
    isLoading = false;
    nextBefore = null;
    newer.hidden = true;
    rows.clear();
    list.replaceChildren();
    return load();
  }

  /**
   * Shows the events that match. Does nothing if the list already shows them.
   * @param {EventFilters} next
   */
  function show(next) {
    if (filters && filters.camera === next.camera && filters.state === next.state) return;
    filters = { camera: next.camera, state: next.state };
    reload();
  }

  /** Loads the list again after a failure. */
  function recover() {
    if (failure) load();
  }

  function showNewest() {
    reload();
    window.scrollTo({ top: 0 });
  }

  /**
   * Brings the list up to date after changes that the stream did not report. Keeps the scroll position, unless it is at
   * the top.
   */
  async function catchUp() {
    const isAtTop = element.offsetParent === null || window.scrollY < TOP_PX;
    if (!filters || rows.size === 0 || isAtTop) return reload();
    const started = generation;
    const page = await fetchPage(rows.size > PAGE_SIZE ? LARGEST_PAGE : PAGE_SIZE, null).catch(() => undefined);
    if (!page || started !== generation) return undefined;
    const isConnected = page.events.some((event) => rows.has(event.event_id));
    if (!isConnected) {
      newer.hidden = false;
      return undefined;
    }
    const unknown = page.events.filter((event) => !rows.has(event.event_id));
    const [first] = list.children;
    for (const event of unknown) list.insertBefore(addRow(event), first);
    limitRows();
    updateDeliveries(page.events);
    return undefined;
  }

  function catchUpSoon() {
    catchUpTimer ??= setTimeout(() => {
      catchUpTimer = undefined;
      catchUp();
    }, CATCH_UP_MS);
  }

  /**
   * Shows a new event at the top.
   * @param {EventRecord} event
   */
  function addEvent(event) {
    if (rows.has(event.event_id) || !matches(event)) return;
    const added = addRow(event);
    added.classList.add("new");
    list.prepend(added);
    awaitPicture(event.event_id);
    limitRows();
    updateNote();
  }

  function limitRows() {
    while (list.children.length > MAX_ROWS) {
      const last = [...rows].find(([, row]) => row.element === list.lastElementChild);
      if (!last) return;
      const [id, row] = last;
      row.element.remove();
      rows.delete(id);
      nextBefore = [...rows.values()].reduce((least, { event }) => Math.min(least, event.seq), Infinity);
    }
  }

  /** @type {Set<string>} */
  const awaited = new Set();
  /** @type {number | undefined} */
  let pictureTimer;
  let isFirstCheckPending = false;

  /** @param {string} id */
  function awaitPicture(id) {
    awaited.add(id);
    // Further events must not postpone the first check.
    if (isFirstCheckPending) return;
    isFirstCheckPending = true;
    clearTimeout(pictureTimer);
    checkPictures([...PICTURE_RETRY_MS]);
  }

  /**
   * Checks for the pictures of all new events with one request after each of these delays, then gives up.
   * @param {number[]} delays
   */
  function checkPictures([delay, ...delays]) {
    if (delay === undefined) {
      awaited.clear();
      return;
    }
    pictureTimer = setTimeout(async () => {
      isFirstCheckPending = false;
      const page = await get(`events?limit=${PAGE_SIZE}`).catch(() => undefined);
      for (const { event_id, has_thumbnail } of page?.events ?? []) {
        if (has_thumbnail && awaited.delete(event_id)) showPicture(event_id);
      }
      if (awaited.size > 0) checkPictures(delays);
    }, delay);
  }

  /** @param {string} id */
  function showPicture(id) {
    const row = rows.get(id);
    if (!row) return;
    row.event.has_thumbnail = true;
    row.element.querySelector(".thumb")?.replaceWith(thumbnail(row.event, "", "thumb"));
  }

  /** @param {Pick<DeliveryChange, "event_id" | "camera_id" | "delivery">[]} changes */
  function updateDeliveries(changes) {
    for (const { event_id, camera_id, delivery } of changes) {
      const row = rows.get(event_id);
      if (!row) {
        const isMissing = filters?.state === delivery.state && (!filters.camera || filters.camera === camera_id);
        if (isMissing && !delivery.dismissed) catchUpSoon();
        continue;
      }
      row.event.delivery = delivery;
      if (matches(row.event)) {
        fill(row.place, mark(row.event));
        row.reason.textContent = reasonOf(row.event);
        continue;
      }
      row.element.remove();
      rows.delete(event_id);
    }
    updateNote();
  }

  /**
   * Returns the event next to this one in the list, or `undefined` at its end. Loads more events when needed.
   * @param {string} id
   * @param {1 | -1} step 1 for the older one.
   * @param {(event: EventRecord) => boolean} [isWanted]
   */
  async function neighbor(id, step, isWanted = () => true) {
    for (;;) {
      const events = [...rows.values()].map((row) => row.event).sort((a, b) => b.seq - a.seq);
      const at = events.findIndex((event) => event.event_id === id);
      if (at < 0) return undefined;
      const candidates = step === 1 ? events.slice(at + 1) : events.slice(0, at).reverse();
      const found = candidates.find(isWanted);
      if (found || step === -1 || nextBefore === null || isLoading) return found;
      await load();
      if (failure) return undefined;
    }
  }

  function stop() {
    generation++;
    loadWhenVisible.disconnect();
    clearTimeout(pictureTimer);
    clearTimeout(catchUpTimer);
  }

  return {
    element, show, reload, catchUp, recover, addEvent, updateDeliveries, neighbor, stop,
    /** @param {string} id */
    find: (id) => rows.get(id)?.event,
    /** @param {number | null} seq */
    findBySeq: (seq) => [...rows.values()].find((row) => row.event.seq === seq)?.event,
  };
}
