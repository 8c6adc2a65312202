// @ts-check
// A list of events, newest first, updated live: all events, or those of one camera or in one delivery state.

/** @import { DeliveryChange, EventFilters, EventRecord } from "./types" */

import { get, messageOf } from "./api.js";
import { fill, foreign, html, time } from "./dom.js";
import { activeFilters, camerasOf, dayOf, filtersOf, isMatch, listQuery } from "./filtering.js";
import { mark, reasonOf, rowPicture, tags } from "./event-parts.js";
import { eventAddress } from "./router.js";
import { texts } from "./texts.js";
import { dayName } from "./timeline.js";

/** @typedef {{ event: EventRecord, element: HTMLElement, place: HTMLElement, reason: HTMLElement }} Row */

/**
 * What else a list does.
 * @typedef {object} ListOptions
 * @property {(isEmpty: boolean) => void} [onEmpty] Called with whether there are no events at all.
 * @property {(object: string) => void} [onObject] Called with an object that is chosen.
 * @property {() => void} [onClear] Removes all filters.
 * @property {(events: EventRecord[]) => void} [onLoaded] Called with events that are shown.
 */

const labels = texts.events;
const PAGE_SIZE = 30;
// The server's limit.
const LARGEST_PAGE = 500;
// Older rows are removed from the page; scrolling down loads them again.
const MAX_ROWS = 600;
// A client may upload the picture after the event, and the stream does not report it.
const PICTURE_RETRY_MS = [250, 1000, 4000, 15_000];
const CATCH_UP_MS = 1000;
// A search for an event with a picture must not load the whole log.
const MAX_SEARCHED_PAGES = 10;
// Within this distance from the top, people look at the newest events.
const TOP_PX = 300;

/**
 * Creates a list. `openEvent` is called with the id of an event that is chosen.
 * @param {(id: string) => void} openEvent
 * @param {ListOptions} [options]
 */
export function eventList(openEvent, { onEmpty, onObject, onClear, onLoaded } = {}) {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  /** @type {EventFilters | null} */
  let filters = null;
  /** @type {number | null} */
  let nextBefore = null;
  let isLoading = false;
  let failure = "";
  // Whether the list may lack events, and must be updated when it is loaded.
  let isOutdated = false;
  // Responses to requests of an earlier generation are ignored.
  let generation = 0;
  /** @type {number | undefined} */
  let catchUpTimer;
  // New events that are not shown, because the list is full and somebody reads older ones.
  let held = 0;

  const list = html("ol", { class: "events" });
  const note = html("p", { class: "empty", role: "status" });
  const more = html("button", { type: "button", class: "more", hidden: true, onclick: () => load() }, labels.more);
  const again = html("button", { type: "button", class: "more", hidden: true, onclick: () => load() }, texts.tryAgain);
  const newer = html("button", { type: "button", class: "newer primary", hidden: true, onclick: showNewest },
    labels.newer);
  const clear = html("button", { type: "button", class: "more", hidden: true, onclick: () => onClear?.() },
    texts.find.clear);
  const element = html("div", { class: "event-list" }, newer, list, note, clear, again, more);
  const loadWhenVisible = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && !more.hidden) load();
  }, { rootMargin: "400px" });
  loadWhenVisible.observe(more);

  /** @param {EventRecord} event */
  const matches = (event) => filters !== null && isMatch(filters, event);

  const hasFilters = () => filters !== null && activeFilters(filters).length > 0;
  const isReadingOlder = () => element.offsetParent !== null && window.scrollY >= TOP_PX;

  /** Shows the day above the first event of each day. */
  function updateDays() {
    let above = "";
    for (const row of list.children) {
      const [heading] = row.children;
      const day = dayOf(new Date(/** @type {HTMLElement} */ (row).dataset.at ?? ""));
      const text = day === above ? "" : dayName(day);
      if (heading.textContent !== text) heading.textContent = text;
      above = day;
    }
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
    const element = html("li", { "data-at": event.timestamp }, html("h2", { class: "day" }),
      rowPicture(event),
      html("div", { class: "content" },
        html("p", { class: "headline" }, foreign("strong", {}, event.camera_name), " ",
          time(event.timestamp, true)),
        foreign("p", { class: "text" }, event.description),
        tags(event, onObject ?? null, place), reason),
      link);
    rows.set(event.event_id, { event, element, place, reason });
    return element;
  }

  function noteText() {
    if (isLoading) return nextBefore !== null && hasFilters() ? labels.searching : labels.loading;
    if (failure) return failure;
    if (rows.size === 0) return hasFilters() ? labels.noMatch : labels.none;
    return nextBefore === null ? labels.end : "";
  }

  function updateNote() {
    const isEmpty = rows.size === 0 && nextBefore === null && !isLoading && !failure;
    updateDays();
    note.textContent = noteText();
    clear.hidden = !isEmpty || !hasFilters() || !onClear;
    again.hidden = !failure || isLoading;
    more.hidden = nextBefore === null || isLoading || failure !== "";
    onEmpty?.(isEmpty && !hasFilters());
  }

  /**
   * Fetches a page of the events that the list shows.
   * @param {number} limit
   * @param {number | null} before
   */
  function fetchPage(limit, before) {
    return get(`events?${listQuery(filters ?? { camera: "", state: "" }, limit, before)}`);
  }

  /** Loads the next page. */
  async function load() {
    if (isLoading || !filters) return;
    isLoading = true;
    failure = "";
    updateNote();
    const started = generation;
    try {
      let wanted = PAGE_SIZE;
      // A search returns what it has found in a part of the log.
      do {
        const page = await fetchPage(PAGE_SIZE, nextBefore);
        if (started !== generation) return;
        nextBefore = page.next_before;
        wanted -= page.events.length;
        for (const event of page.events) if (!rows.has(event.event_id)) list.append(addRow(event));
        onLoaded?.(page.events);
        updateNote();
      } while (wanted > 0 && nextBefore !== null && element.offsetParent !== null);
    } catch (error) {
      if (started !== generation) return;
      failure = messageOf(error);
    }
    isLoading = false;
    updateNote();
    // The observer reports changes only: none if the button was hidden and is reached again within one frame.
    loadWhenVisible.unobserve(more);
    loadWhenVisible.observe(more);
    if (isOutdated) update();
  }

  function reload() {
    generation++;
    isLoading = false;
    nextBefore = null;
    held = 0;
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
    const chosen = filtersOf(next);
    if (filters && JSON.stringify(filters) === JSON.stringify(chosen)) return;
    filters = chosen;
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
   * Notifies the reader of older events of new ones. `atLeast` is set if there may be more of them.
   * @param {number} count
   * @param {boolean} [atLeast]
   */
  function hold(count, atLeast = false) {
    held += count;
    newer.textContent = atLeast ? labels.newer : labels.newerCount(held);
    newer.hidden = false;
  }

  /** Brings the list up to date after changes that the stream did not report. Keeps the place of the reader. */
  async function catchUp() {
    if (!filters || rows.size === 0 || !isReadingOlder()) return reload();
    const started = generation;
    const page = await fetchPage(rows.size > PAGE_SIZE ? LARGEST_PAGE : PAGE_SIZE, null).catch(() => undefined);
    if (!page || started !== generation) return undefined;
    const isConnected = page.events.some((event) => rows.has(event.event_id));
    const unknown = page.events.filter((event) => !rows.has(event.event_id));
    if (!isConnected || held > 0 || rows.size + unknown.length > MAX_ROWS) {
      held = 0;
      hold(unknown.length, !isConnected);
      updateDeliveries(page.events.filter((event) => rows.has(event.event_id)));
      return undefined;
    }
    const [first] = list.children;
    for (const event of unknown) list.insertBefore(addRow(event), first);
    limitRows();
    updateDeliveries(page.events);
    return undefined;
  }

  /** Adds what the stream has not reported, because the list was loaded before the stream was open. */
  async function update() {
    isOutdated = isLoading;
    if (isOutdated || failure || !filters) return;
    const started = generation;
    const page = await fetchPage(PAGE_SIZE, null).catch(() => undefined);
    if (!page || started !== generation) return;
    const { events } = page;
    if (!events.some((event) => rows.has(event.event_id))) {
      if (rows.size > 0 || events.length > 0) reload();
      return;
    }
    const oldest = events[events.length - 1].seq;
    const current = new Set(events.map((event) => event.event_id));
    for (const [id, { event, element: row }] of rows) {
      if (event.seq < oldest || current.has(id)) continue;
      row.remove();
      rows.delete(id);
    }
    for (const event of events) if (!rows.has(event.event_id)) insert(event);
    updateDeliveries(events);
  }

  /**
   * Shows an event above the older ones.
   * @param {EventRecord} event
   */
  function insert(event) {
    const older = [...rows.values()].filter((row) => row.event.seq < event.seq);
    const below = older.sort((a, b) => b.event.seq - a.event.seq)[0]?.element ?? null;
    list.insertBefore(addRow(event), below);
    onLoaded?.([event]);
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
    if (held > 0 || (rows.size >= MAX_ROWS && isReadingOlder())) {
      hold(1);
      return;
    }
    onLoaded?.([event]);
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
      for (const { event_id, has_thumbnail, thumbnail_version } of page?.events ?? []) {
        if (has_thumbnail && awaited.delete(event_id)) showPicture(event_id, thumbnail_version);
      }
      if (awaited.size > 0) checkPictures(delays);
    }, delay);
  }

  /**
   * @param {string} id
   * @param {string} [version]
   */
  function showPicture(id, version) {
    const row = rows.get(id);
    if (!row) return;
    row.event.has_thumbnail = true;
    row.event.thumbnail_version = version;
    row.element.querySelector(".thumb")?.replaceWith(rowPicture(row.event));
  }

  /** @param {Pick<DeliveryChange, "event_id" | "camera_id" | "delivery">[]} changes */
  function updateDeliveries(changes) {
    for (const { event_id, camera_id, delivery } of changes) {
      const row = rows.get(event_id);
      if (!row) {
        const isMissing = filters?.state === delivery.state
          && (!filters.camera || camerasOf(filters).includes(camera_id));
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
   * Returns the event next to this one in the list, or `undefined` at its end. Loads more events when needed, but not
   * without limit: returns `null` if none was found, or if the search was abandoned.
   * @param {string} id
   * @param {1 | -1} step 1 for the older one.
   * @param {(event: EventRecord) => boolean} [isWanted]
   * @param {() => boolean} [isAbandoned]
   */
  async function neighbor(id, step, isWanted = () => true, isAbandoned = () => false) {
    for (let pages = 0; ; pages++) {
      const events = [...rows.values()].map((row) => row.event).sort((a, b) => b.seq - a.seq);
      const at = events.findIndex((event) => event.event_id === id);
      if (at < 0) return undefined;
      const candidates = step === 1 ? events.slice(at + 1) : events.slice(0, at).reverse();
      const found = candidates.find(isWanted);
      if (found || step === -1 || nextBefore === null || isLoading) return found;
      if (pages === MAX_SEARCHED_PAGES || isAbandoned()) return null;
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
    element, show, reload, catchUp, update, recover, addEvent, updateDeliveries, neighbor, stop,
    /** @param {string} id */
    find: (id) => rows.get(id)?.event,
    /** @param {number | null} seq */
    findBySeq: (seq) => [...rows.values()].find((row) => row.event.seq === seq)?.event,
  };
}
