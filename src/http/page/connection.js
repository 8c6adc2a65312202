// @ts-check
// The connection card: the connection's state, the last error with its fix, and the number of queued events.

/** @import { Child, MqttStatus, OutboxStatus } from "./types" */

import { call, messageOf, now } from "./api.js";
import { charts } from "./charts.js";
import { busy, clockTime, fill, foreign, html, newId, serverText, time, toast } from "./dom.js";
import { duration, number } from "./locale.js";
import { eventsAddress } from "./router.js";
import { fromServer } from "./sentences.js";
import { strip } from "./strip.js";
import { texts } from "./texts.js";

const labels = texts.connection;
const TEST_MESSAGE_TIMEOUT_MS = 20_000;

/**
 * @param {string} label
 * @param {...Child} value
 */
const fact = (label, ...value) => [html("dt", {}, label), html("dd", {}, ...value)];

/** @param {MqttStatus} status */
function facts(status) {
  return [
    status.broker && fact(labels.broker, foreign("span", {}, status.broker)),
    status.protocol && fact(labels.protocol, labels.mqtt(status.protocol)),
    status.state !== "disabled" && fact(
      status.connected ? labels.since : labels.last,
      status.last_connected_at ? time(status.last_connected_at) : labels.never),
    status.reconnect_attempt > 0 && fact("", labels.attempts(status.reconnect_attempt)),
  ];
}

/**
 * @param {string} label
 * @param {number} value
 * @param {{ help?: string, link?: string }} [more] A link marks the number as a problem.
 */
const count = (label, value, { help, link } = {}) =>
  html("div", { title: help, class: link ? "bad" : null },
    html("dd", {}, link ? html("a", { href: link }, number(value)) : number(value)),
    html("dt", {}, label));

/** @param {OutboxStatus} outbox */
function counts(outbox) {
  return [
    count(labels.pending, outbox.pending),
    count(labels.inFlight, outbox.in_flight),
    count(labels.delivered, outbox.delivered_today, { help: labels.deliveredHelp }),
    count(labels.dead, outbox.dead, {
      help: labels.deadHelp, link: outbox.dead > 0 ? eventsAddress({ state: "dead" }) : undefined,
    }),
  ];
}

/**
 * Creates the notes: the last error and the warnings.
 * @param {MqttStatus} status
 */
function notes({ connected, last_connected_at: connectedAt, last_error: error, warnings }) {
  // An error from before the current connection is not relevant any more.
  const isOver = error && connected && connectedAt && Date.parse(error.at) < Date.parse(connectedAt);
  return [
    error && !isOver && html("div", { class: connected ? "note" : "note bad" },
      html("h3", {}, labels.lastError, " · ", time(error.at)), serverText("p", {}, error.message)),
    warnings.map(({ kind, message }) => html("div", { class: "note warn" },
      html("h3", {}, labels.warnings[kind] ?? labels.warning), serverText("p", {}, message))),
  ];
}

/** @param {MqttStatus} status */
function detail({ state, next_attempt_at: nextAttempt }) {
  if (state === "disabled") return labels.disabled;
  if (state !== "waiting" || !nextAttempt) return "";
  const seconds = Math.ceil((Date.parse(nextAttempt) - now()) / 1000);
  return seconds > 0 ? labels.next(seconds) : labels.nextNow;
}

/**
 * Creates the card.
 * @param {boolean} canChange
 */
export function connectionCard(canChange) {
  const state = html("p", { class: "state", role: "status" });
  const summary = html("p", { class: "summary" });
  const factList = html("dl", { class: "facts" });
  const countList = html("dl", { class: "counts" });
  const backlog = html("p", { class: "help", hidden: true });
  const noteList = html("div", { class: "notes" });
  const result = html("p", { class: "result", role: "status" });
  const button = html("button", { type: "button", onclick: () => { busy(button, sendTestMessage); } }, labels.test);
  const tryNow = html("button", { type: "button", class: "try-now", hidden: true, onclick: () => { reconnect(); } },
    labels.tryNow);
  const lastHour = charts();
  const lastDay = strip();
  const body = html("div", { class: "body", id: newId() },
    canChange && tryNow, factList, countList, backlog, noteList, lastDay.element, lastHour.element,
    canChange && html("div", { class: "test" }, button, result));
  // In a narrow window, the card is collapsed to a summary, which the button expands.
  const toggle = html("button", {
    type: "button", class: "quiet toggle", "aria-controls": body.id, onclick: () => setOpen(!isOpen),
  });
  const element = html("section", { class: "card connection", "aria-label": labels.title },
    state, summary, toggle, body);
  let isOpen = false;
  /** @type {MqttStatus | undefined} */
  let status;
  // When the page lost its connection to the server.
  let lostAt = 0;
  let shownState = "";

  /** @param {boolean} open */
  function setOpen(open) {
    isOpen = open;
    element.toggleAttribute("data-open", open);
    toggle.setAttribute("aria-expanded", String(open));
    toggle.setAttribute("aria-label", open ? labels.hide : labels.show);
    toggle.title = open ? labels.hide : labels.show;
  }

  async function sendTestMessage() {
    fill(result);
    const { success, message } =
      await call("POST", "integrations/mqtt/test-message", undefined, TEST_MESSAGE_TIMEOUT_MS);
    result.className = success ? "result good" : "result bad";
    result.textContent = fromServer(message).text;
  }

  /** Begins the next attempt. The button keeps the focus while the attempt runs. */
  async function reconnect() {
    if (status?.state !== "waiting") return;
    try {
      const { success, message } = await call("POST", "integrations/mqtt/reconnect");
      if (!success) toast(fromServer(message).text, true);
    } catch (error) {
      toast(messageOf(error), true);
    }
  }

  function showTryNow() {
    const isConnecting = status?.state === "connecting" && status.reconnect_attempt > 0;
    tryNow.hidden = lostAt > 0 || !(isConnecting || status?.state === "waiting");
    tryNow.setAttribute("aria-disabled", String(isConnecting));
  }

  function showDetail() {
    const place = state.querySelector(".detail");
    if (!status || !place) return;
    const text = lostAt ? labels.noContact(clockTime(lostAt)) : detail(status);
    if (place.textContent !== text) place.textContent = text;
  }

  function showState() {
    const next = lostAt || !status ? "unknown" : status.state;
    element.dataset.state = next;
    if (next !== shownState) {
      if (shownState) lastDay.refreshSoon();
      shownState = next;
      // Screen readers must not announce the countdown every second.
      fill(state, html("span", { class: "dot", "aria-hidden": "true" }),
        html("strong", {}, next === "unknown" ? labels.unknown : labels.states[next]),
        html("span", { class: "detail", "aria-live": "off" }));
    }
    showDetail();
    showTryNow();
  }

  /** @param {MqttStatus} next */
  function update(next) {
    status = next;
    lostAt = 0;
    showState();
    const { delivered_today: delivered, pending } = status.outbox;
    summary.textContent = labels.summary(delivered, pending, status.warnings.length);
    summary.toggleAttribute("data-warning", status.warnings.length > 0);
    fill(factList, facts(status));
    fill(countList, counts(status.outbox));
    const { seconds_left: left } = status.outbox;
    backlog.hidden = left === null;
    backlog.textContent = left === null ? "" : labels.timeLeft(duration(Math.max(1, left)));
    fill(noteList, notes(status));
    button.disabled = !status.connected;
  }

  /**
   * Shows whether the page is connected to the server. If not, the state of the broker connection is unknown.
   * @param {boolean} isLost
   */
  function setLost(isLost) {
    lostAt = isLost ? now() : 0;
    if (status) showState();
  }

  function stop() {
    clearInterval(timer);
    lastHour.stop();
    lastDay.stop();
  }

  setOpen(false);
  const timer = setInterval(showDetail, 1000);
  return { element, update, setLost, stop };
}
