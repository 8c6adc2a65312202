// @ts-check
// The connection card: the connection's state, the last error with its fix, and the number of queued events.

/** @import { Child, MqttStatus, OutboxStatus } from "./types" */

import { call, now } from "./api.js";
import { charts } from "./charts.js";
import { busy, fill, foreign, html, time } from "./dom.js";
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
 * @param {{ help?: string, bad?: boolean }} [more]
 */
const count = (label, value, { help, bad } = {}) =>
  html("div", { title: help, class: bad ? "bad" : null },
    html("dd", {}, value.toLocaleString()), html("dt", {}, label));

/** @param {OutboxStatus} outbox */
function counts(outbox) {
  return [
    count(labels.pending, outbox.pending),
    count(labels.inFlight, outbox.in_flight),
    count(labels.delivered, outbox.delivered_today, { help: labels.deliveredHelp }),
    count(labels.dead, outbox.dead, { help: labels.deadHelp, bad: outbox.dead > 0 }),
  ];
}

/**
 * Creates the notes: the last error and the warnings.
 * @param {MqttStatus} status
 */
function notes({ connected, last_error: error, warnings }) {
  return [
    error && html("div", { class: connected ? "note" : "note bad" },
      html("h3", {}, labels.lastError, " · ", time(error.at)), foreign("p", {}, error.message)),
    warnings.map(({ message }) =>
      html("div", { class: "note warn" }, html("h3", {}, labels.warning), foreign("p", {}, message))),
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
 * Creates the card. Calls `onTestMessage` with the result of each test message.
 * @param {boolean} canChange
 * @param {(success: boolean) => void} onTestMessage
 */
export function connectionCard(canChange, onTestMessage) {
  const state = html("p", { class: "state", role: "status" });
  const factList = html("dl", { class: "facts" });
  const countList = html("dl", { class: "counts" });
  const noteList = html("div", { class: "notes" });
  const result = html("p", { class: "result", role: "status" });
  const button = html("button", { type: "button", onclick: () => { busy(button, sendTestMessage); } }, labels.test);
  const lastHour = charts();
  const element = html("section", { class: "card connection", "aria-label": labels.title },
    state, factList, countList, noteList, lastHour.element,
    canChange && html("div", { class: "test" }, button, result));
  /** @type {MqttStatus | undefined} */
  let status;

  async function sendTestMessage() {
    fill(result);
    const { success, message } =
      await call("POST", "integrations/mqtt/test-message", undefined, TEST_MESSAGE_TIMEOUT_MS);
    result.className = success ? "result good" : "result bad";
    result.textContent = message;
    onTestMessage(success);
  }

  function showDetail() {
    const place = state.querySelector(".detail");
    if (!status || !place) return;
    const text = detail(status);
    if (place.textContent !== text) place.textContent = text;
  }

  /** @param {MqttStatus} next */
  function update(next) {
    const previousState = status?.state;
    status = next;
    element.dataset.state = status.state;
    if (status.state !== previousState) {
      // Screen readers must not announce the countdown every second.
      fill(state, html("span", { class: "dot", "aria-hidden": "true" }),
        html("strong", {}, labels.states[status.state]),
        html("span", { class: "detail", "aria-live": "off" }));
    }
    fill(factList, facts(status));
    fill(countList, counts(status.outbox));
    fill(noteList, notes(status));
    button.disabled = !status.connected;
    showDetail();
  }

  function stop() {
    clearInterval(timer);
    lastHour.stop();
  }

  const timer = setInterval(showDetail, 1000);
  return { element, update, stop };
}
