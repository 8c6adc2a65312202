// @ts-check
// The details of one event: its picture, its delivery, and buttons to send it again or dismiss it.

/** @import { Delivery, DeliveryChange, EventRecord, EventNeighbors, Navigation, Timestamp } from "./types" */

import { call, get, messageOf, now, Problem } from "./api.js";
import { automationFor } from "./automation.js";
import { actionButton, clockTime, elapsed, fill, foreign, html, openDialog, stepButton } from "./dom.js";
import { copyButton, mark, reasonOf, tags, thumbnail } from "./event-parts.js";
import { onArrowKeys, onSwipe } from "./gestures.js";
import { dateTime } from "./locale.js";
import { cameraAddress } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.events;

// Up to this time after the previous step, only the difference is shown: the date would be the same.
const NEAR_MS = 60_000;

/**
 * @param {string} label
 * @param {Timestamp | null} timestamp
 * @param {Timestamp} [previous] The time of the previous step.
 */
function timeFact(label, timestamp, previous) {
  if (!timestamp) return null;
  const exact = dateTime(timestamp, { dateStyle: "full", timeStyle: "medium" });
  const after = Date.parse(timestamp) - Date.parse(previous ?? "");
  const isNear = after >= 0 && after < NEAR_MS;
  return [html("dt", {}, label), previous && isNear
    ? html("dd", { title: exact }, labels.later(elapsed(previous, timestamp)))
    : html("dd", {}, exact)];
}

/**
 * Returns the published payload as formatted JSON.
 * @param {EventRecord} event
 */
function payloadOf(event) {
  const { received_at, delivery, has_thumbnail, thumbnail_version, ...payload } = event;
  return JSON.stringify(delivery.late ? { ...payload, late: true } : payload, null, 2);
}

/**
 * Creates the dialog, which is closed at first. `onDecided` is called with each change that this page makes.
 * @param {boolean} canChange
 * @param {Navigation} navigation
 * @param {(changes: DeliveryChange[]) => void} onDecided
 */
export function eventDetail(canChange, navigation, onDecided) {
  let topicPrefix = "liveobject";
  /** @type {string | null} */
  let id = null;
  /** @type {EventRecord | null} */
  let event = null;
  /** @type {EventNeighbors | null} */
  let source = null;
  /** @type {HTMLDialogElement | null} */
  let dialog = null;
  // The result of the last retry or dismissal, as text.
  let outcome = "";
  let isRetrying = false;

  const body = html("div", { class: "detail" });
  const delivery = html("div", { class: "delivery" });
  const result = html("p", { class: "outcome", role: "status" });
  const facts = html("dl", { class: "facts" });
  const newer = stepButton(-1, "‹", labels.newerEvent, move);
  const older = stepButton(1, "›", labels.olderEvent, move);

  /** @param {1 | -1} step */
  async function move(step) {
    const next = id && (await source?.neighbor(id, step));
    if (next) navigation.openEvent(next.event_id);
  }

  async function updateSteps() {
    const shown = id;
    for (const [button, step] of /** @type {const} */ ([[newer, -1], [older, 1]])) {
      const next = shown && (await source?.neighbor(shown, step));
      if (shown === id) button.setAttribute("aria-disabled", String(!next));
    }
  }

  /**
   * Retries or dismisses a dead event and shows the result, unless the stream has already reported a newer state.
   * @param {EventRecord} decided
   * @param {() => Promise<Delivery>} request Returns the delivery after the request.
   */
  async function decide(decided, request) {
    const before = decided.delivery;
    const { event_id, seq, camera_id } = decided;
    const after = await request();
    if (decided.delivery !== before) return;
    const changes = [{ event_id, seq, camera_id, delivery: after }];
    onDecided(changes);
    updateDeliveries(changes);
  }

  /** @param {EventRecord} dead */
  function decisionButtons(dead) {
    const path = /** @type {const} */ (`events/${encodeURIComponent(dead.event_id)}`);
    const retry = () => decide(dead, async () => {
      isRetrying = true;
      outcome = labels.sending;
      fillDelivery();
      try {
        return (await call("POST", `${path}/retry`)).delivery;
      } catch (error) {
        isRetrying = false;
        outcome = messageOf(error);
        fillDelivery();
        throw error;
      }
    });
    const dismiss = () => decide(dead, async () => {
      const before = dead.delivery;
      await call("DELETE", `${path}/dead`);
      outcome = "";
      return { ...before, dismissed: true };
    });
    return html("div", { class: "row" },
      actionButton(labels.retry, "primary", retry),
      !dead.delivery.dismissed && actionButton(labels.dismiss, "", dismiss));
  }

  /** Fills the delivery section: the state, the reason and, for dead events, the buttons. Also fills the facts. */
  function fillDelivery() {
    if (!event) return;
    const reason = reasonOf(event);
    fill(delivery, mark(event),
      reason && html("p", { class: "reason" }, reason),
      canChange && event.delivery.state === "dead" && !isRetrying && decisionButtons(event));
    if (result.textContent !== outcome) result.textContent = outcome;
    fill(facts,
      html("dt", {}, labels.camera),
      html("dd", {}, html("a", { href: cameraAddress(event.camera_id), dir: "auto" }, event.camera_name)),
      timeFact(labels.happened, event.timestamp),
      timeFact(labels.accepted, event.received_at, event.timestamp),
      timeFact(labels.deliveredAt, event.delivery.delivered_at, event.received_at));
  }

  /** @param {EventRecord} shown */
  function fillBody(shown) {
    const topic = `${topicPrefix}/camera/${shown.camera_id}/${shown.delivery.late ? "history" : "event"}`;
    const payload = payloadOf(shown);
    const image = thumbnail(shown, labels.picture(shown.camera_name), "large", 768);
    const enlarge = () => navigation.openEvent(shown.event_id, true);
    fillDelivery();
    fill(body,
      shown.has_thumbnail
        ? html("button", { type: "button", class: "enlarge", "aria-label": labels.enlarge, onclick: enlarge }, image)
        : image,
      foreign("p", { class: "text" }, shown.description),
      tags(shown, null),
      delivery, result, facts,
      html("div", {},
        copyButton(() => automationFor(shown), texts.automation.name, { label: texts.automation.make, class: "" }),
        html("p", { class: "help" }, texts.automation.help)),
      html("h3", {}, labels.topic, copyButton(() => topic, labels.topic)),
      html("pre", { tabindex: 0 }, topic),
      html("h3", {}, labels.payload, copyButton(() => payload, labels.payload)),
      foreign("pre", { tabindex: 0 }, payload));
  }

  function openEmptyDialog() {
    const opened = openDialog("", body, [], [newer, older, copyButton(() => location.href, labels.link,
      { label: labels.copyLink })]);
    opened.classList.add("event-dialog", "has-address");
    // Escape, the close button and a click outside all end here. The address must change as well.
    opened.addEventListener("close", () => {
      if (dialog !== opened) return;
      dialog = null;
      navigation.close();
    });
    onArrowKeys(opened, move);
    onSwipe(body, move);
    return opened;
  }

  /** Fetches the event if the list does not contain it. */
  async function load() {
    const wanted = id;
    if (!wanted) return;
    event = source?.find(wanted) ?? null;
    if (!event) {
      fill(body, html("p", { role: "status" }, labels.loading));
      try {
        const fetched = await get(`events/${encodeURIComponent(wanted)}`);
        if (wanted !== id) return;
        event = fetched;
      } catch (error) {
        if (wanted !== id) return;
        const isMissing = error instanceof Problem && error.status === 404;
        fill(body, html("p", { role: "alert" }, isMissing ? labels.missing : messageOf(error)),
          !isMissing && html("div", {}, actionButton(texts.tryAgain, "", load)));
        return;
      }
    }
    const heading = dialog?.querySelector("h2");
    if (heading) heading.textContent = event.camera_name;
    fillBody(event);
    updateSteps();
  }

  /**
   * Shows this event, or closes the dialog. `from` is the list that it is in.
   * @param {string | null} next
   * @param {EventNeighbors} from
   */
  function show(next, from) {
    source = from;
    if (next === id && (dialog !== null) === (next !== null)) return;
    id = next;
    event = null;
    outcome = "";
    isRetrying = false;
    if (next === null) {
      const closing = dialog;
      dialog = null;
      closing?.close();
      return;
    }
    dialog ??= openEmptyDialog();
    dialog.scrollTop = 0;
    load();
  }

  /** @param {Pick<DeliveryChange, "event_id" | "delivery">[]} changes */
  function updateDeliveries(changes) {
    const change = changes.find(({ event_id }) => event_id === id);
    if (!change || !event) return;
    event.delivery = change.delivery;
    if (isRetrying && change.delivery.state !== "pending") {
      isRetrying = false;
      const time = clockTime(now());
      outcome = change.delivery.state === "dead" ? labels.refusedAgain(time) : labels.arrived(time);
    }
    fillDelivery();
  }

  return {
    show, updateDeliveries,
    /** Loads the event again after a failure. */
    recover: () => { if (id && !event) load(); },
    /** @param {string} prefix */
    setTopicPrefix(prefix) { topicPrefix = prefix; },
  };
}
