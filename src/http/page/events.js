// @ts-check
// The events view: the event log, newest first, updated live.

/** @import { Camera, Child, Delivery, DeliveryChange, DeliveryState, EventRecord, Timestamp } from "./types" */

import { call, get, messageOf } from "./api.js";
import { blank, busy, copy, elapsed, fill, foreign, html, newId, openDialog, picture, time } from "./dom.js";
import { texts } from "./texts.js";

/** @typedef {{ event: EventRecord, element: HTMLElement, place: HTMLElement }} Row The delivery is shown in `place`. */

const labels = texts.events;
const PAGE_SIZE = 30;
// Older rows are removed from the page; scrolling down loads them again.
const MAX_ROWS = 600;
// A client may upload the picture after the event, and the stream does not report it.
const PICTURE_RETRY_MS = [250, 1000, 4000, 15_000];

/** @type {DeliveryState[]} */
const STATES = ["pending", "delivered", "dead"];

/**
 * @param {EventRecord} event
 * @param {string} alt
 * @param {string} className
 */
function thumbnail(event, alt, className) {
  if (!event.has_thumbnail) return blank(className);
  return picture(`events/${encodeURIComponent(event.event_id)}/thumbnail`, alt, className);
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
function mark(event) {
  const { state, late, heard } = event.delivery;
  return html("span", { class: `mark ${state}` }, deliveryText(event),
    late && html("span", { class: "late", title: labels.lateHelp }, ` · ${labels.late}`),
    heard === false && html("span", { class: "late", title: labels.unheardHelp }, ` · ${labels.unheard}`));
}

/**
 * Creates the list of detected objects and the confidence.
 * @param {EventRecord} event
 * @param {...Child} more
 */
function tags(event, ...more) {
  return html("p", { class: "tags" },
    event.objects_detected.map((object) => foreign("span", { class: "tag" }, object)),
    event.confidence !== null && html("span", { class: "confidence" }, labels.confidence(event.confidence)),
    more);
}

/**
 * @param {string} label
 * @param {Timestamp | null} timestamp
 */
function timeFact(label, timestamp) {
  if (!timestamp) return null;
  const exact = new Date(timestamp).toLocaleString(undefined, { dateStyle: "full", timeStyle: "medium" });
  return [html("dt", {}, label), html("dd", {}, exact)];
}

/**
 * @param {string} text
 * @param {string} label The name of the text to copy.
 */
function copyButton(text, label) {
  const copyText = async () => {
    await copy(text);
    button.textContent = labels.copied;
  };
  const props = { type: "button", class: "quiet", "aria-label": `${labels.copy}: ${label}`, onclick: copyText };
  const button = html("button", props, labels.copy);
  return button;
}

/**
 * Creates a button that is disabled while `work` runs.
 * @param {string} label
 * @param {string} className
 * @param {() => Promise<void>} work
 */
function actionButton(label, className, work) {
  const onclick = () => { busy(button, work); };
  const button = html("button", { type: "button", class: className, onclick }, label);
  return button;
}

/**
 * Returns the published payload as formatted JSON.
 * @param {EventRecord} event
 */
function payloadOf(event) {
  const { received_at, delivery, has_thumbnail, ...payload } = event;
  return JSON.stringify(delivery.late ? { ...payload, late: true } : payload, null, 2);
}

/**
 * @param {string} label
 * @param {HTMLSelectElement} select
 */
const filter = (label, select) => html("div", { class: "field" }, html("label", { for: select.id }, label), select);

/**
 * Creates the view.
 * @param {boolean} canChange
 */
export function eventsView(canChange) {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  /** @type {number | null} */
  let nextBefore = null;
  let isLoading = false;
  // Responses to requests of an earlier generation are ignored.
  let generation = 0;
  let topicPrefix = "liveobject";
  /** @type {{ id: string, update: () => void } | null} */
  let openDetail = null;

  const cameraFilter = html("select", { id: newId(), onchange: () => reload() },
    html("option", { value: "" }, labels.anyCamera));
  const stateFilter = html("select", { id: newId(), onchange: () => reload() },
    html("option", { value: "" }, labels.anyState),
    STATES.map((state) => html("option", { value: state }, labels.states[state])));
  const decisions = html("div", { class: "row", hidden: true },
    actionButton(labels.retryAll, "", () => decideAll("POST events/dead/retry")),
    actionButton(labels.dismissAll, "", () => decideAll("DELETE events/dead")));
  const list = html("ol", { class: "events" });
  const note = html("p", { class: "empty", role: "status" });
  const more = html("button", { type: "button", class: "more", hidden: true, onclick: () => load() }, labels.more);
  const element = html("section", { "aria-label": texts.views.events },
    html("div", { class: "filters" }, filter(labels.camera, cameraFilter), filter(labels.state, stateFilter)),
    decisions, list, note, more);
  const loadWhenVisible = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && !more.hidden) load();
  }, { rootMargin: "400px" });
  loadWhenVisible.observe(more);

  /** @param {EventRecord} event */
  const matchesFilters = (event) =>
    (!cameraFilter.value || event.camera_id === cameraFilter.value) &&
    (!stateFilter.value || event.delivery.state === stateFilter.value);

  /**
   * Creates the row for an event.
   * @param {EventRecord} event
   */
  function addRow(event) {
    const place = html("span", { class: "place" }, mark(event));
    const open = html("button", {
      type: "button", class: "open", onclick: () => showDetail(event.event_id),
      "aria-label": labels.open(event.description.slice(0, 100)),
    });
    const element = html("li", {}, thumbnail(event, "", "thumb"),
      html("div", { class: "content" },
        html("p", { class: "headline" }, foreign("strong", {}, event.camera_name), " ", time(event.timestamp)),
        foreign("p", { class: "text" }, event.description),
        tags(event, place)),
      open);
    rows.set(event.event_id, { event, element, place });
    return element;
  }

  function noteText() {
    if (isLoading) return labels.loading;
    if (rows.size === 0) return cameraFilter.value || stateFilter.value ? labels.noMatch : labels.none;
    return nextBefore === null ? labels.end : "";
  }

  function updateNote() {
    note.textContent = noteText();
    more.hidden = nextBefore === null || isLoading;
  }

  /** Returns the query for the next page. */
  function pageQuery() {
    const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
    if (cameraFilter.value) query.set("camera_id", cameraFilter.value);
    if (stateFilter.value) query.set("state", stateFilter.value);
    if (nextBefore !== null) query.set("before", String(nextBefore));
    return query;
  }

  /** Loads the next page. */
  async function load() {
    if (isLoading) return;
    isLoading = true;
    updateNote();
    const started = generation;
    let failure = "";
    try {
      const page = await get(`events?${pageQuery()}`);
      if (started !== generation) return;
      nextBefore = page.next_before;
      for (const event of page.events) if (!rows.has(event.event_id)) list.append(addRow(event));
    } catch (error) {
      if (started !== generation) return;
      failure = messageOf(error);
    }
    isLoading = false;
    updateNote();
    if (failure) note.textContent = failure;
  }

  /**
   * Retries or dismisses all dead events of the chosen camera.
   * @param {"POST events/dead/retry" | "DELETE events/dead"} request
   */
  async function decideAll(request) {
    const query = new URLSearchParams(cameraFilter.value ? { camera_id: cameraFilter.value } : {});
    let isComplete = false;
    while (!isComplete) {
      const { complete } = request === "DELETE events/dead"
        ? await call("DELETE", `events/dead?${query}`)
        : await call("POST", `events/dead/retry?${query}`);
      isComplete = complete;
    }
    reload();
  }

  function reload() {
    decisions.hidden = !canChange || stateFilter.value !== "dead";
    generation++;
    isLoading = false;
    nextBefore = null;
    rows.clear();
    list.replaceChildren();
    load();
  }

  /**
   * Offers these cameras in the filter.
   * @param {Camera[]} cameras
   */
  function setCameras(cameras) {
    const chosen = cameraFilter.value;
    fill(cameraFilter, html("option", { value: "" }, labels.anyCamera),
      cameras.map((camera) => html("option", { value: camera.camera_id }, camera.camera_name)));
    cameraFilter.value = chosen;
    if (cameraFilter.value !== chosen) {
      cameraFilter.value = "";
      reload();
    }
  }

  /**
   * Shows a new event at the top.
   * @param {EventRecord} event
   */
  function addEvent(event) {
    if (rows.has(event.event_id) || !matchesFilters(event)) return;
    const added = addRow(event);
    added.classList.add("new");
    list.prepend(added);
    awaitPicture(event.event_id);
    if (list.children.length > MAX_ROWS) removeLastRow();
    updateNote();
  }

  function removeLastRow() {
    const last = [...rows].find(([, row]) => row.element === list.lastElementChild);
    if (!last) return;
    const [id, row] = last;
    row.element.remove();
    rows.delete(id);
    nextBefore = [...rows.values()].reduce((least, { event }) => Math.min(least, event.seq), Infinity);
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

  /** @param {Pick<DeliveryChange, "event_id" | "delivery">[]} changes */
  function updateDeliveries(changes) {
    for (const { event_id, delivery } of changes) {
      const row = rows.get(event_id);
      if (!row) continue;
      row.event.delivery = delivery;
      fill(row.place, mark(row.event));
      if (openDetail?.id === event_id) openDetail.update();
    }
  }

  /**
   * Retries or dismisses a dead event and shows the result, unless the stream has already reported a newer state.
   * @param {EventRecord} event
   * @param {() => Promise<Delivery>} request Returns the delivery after the request.
   */
  async function decide(event, request) {
    const before = event.delivery;
    const delivery = await request();
    if (event.delivery === before) updateDeliveries([{ event_id: event.event_id, delivery }]);
  }

  /** @param {EventRecord} event */
  function decisionButtons(event) {
    const path = /** @type {const} */ (`events/${encodeURIComponent(event.event_id)}`);
    const retry = () => decide(event, async () => (await call("POST", `${path}/retry`)).delivery);
    const dismiss = () => decide(event, async () => {
      const before = event.delivery;
      await call("DELETE", `${path}/dead`);
      return { ...before, dismissed: true };
    });
    return html("div", { class: "row" },
      actionButton(labels.retry, "primary", retry),
      !event.delivery.dismissed && actionButton(labels.dismiss, "", dismiss));
  }

  /**
   * Fills the delivery section of the details: the state, the reason and, for dead events, the buttons.
   * @param {Element} element
   * @param {EventRecord} event
   */
  function fillDelivery(element, event) {
    const { state, reason } = event.delivery;
    fill(element, mark(event),
      reason && foreign("p", { class: "reason" }, labels.reasons[reason] ?? reason),
      canChange && state === "dead" && decisionButtons(event));
  }

  /** @param {string} id */
  function showDetail(id) {
    const row = rows.get(id);
    if (!row) return;
    const { event } = row;
    const topic = `${topicPrefix}/camera/${event.camera_id}/${event.delivery.late ? "history" : "event"}`;
    const payload = payloadOf(event);
    const delivery = html("div", { class: "delivery" });
    const update = () => fillDelivery(delivery, event);
    update();
    const dialog = openDialog(event.camera_name, html("div", { class: "detail" },
      thumbnail(event, labels.picture(event.camera_name), "large"),
      foreign("p", { class: "text" }, event.description),
      tags(event),
      delivery,
      html("dl", { class: "facts" },
        timeFact(labels.happened, event.timestamp),
        timeFact(labels.accepted, event.received_at),
        timeFact(labels.deliveredAt, event.delivery.delivered_at)),
      html("h3", {}, labels.topic, copyButton(topic, labels.topic)),
      html("pre", { tabindex: 0 }, topic),
      html("h3", {}, labels.payload, copyButton(payload, labels.payload)),
      foreign("pre", { tabindex: 0 }, payload)));
    openDetail = { id, update };
    dialog.addEventListener("close", () => { openDetail = null; });
  }

  /** @param {string} prefix */
  function setTopicPrefix(prefix) {
    topicPrefix = prefix;
  }

  return { element, addEvent, updateDeliveries, reload, setCameras, setTopicPrefix };
}
