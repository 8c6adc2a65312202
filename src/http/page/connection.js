// The connection at a glance: the state, what went wrong last and what helps, and how many events wait.

import { call, now } from "./api.js";
import { charts } from "./charts.js";
import { busy, fill, foreign, h, time } from "./dom.js";
import { T } from "./texts.js";

const C = T.connection;

/** The card; `update(status)` shows another status, `sent(ok)` tells of test messages. */
export function connectionCard(canChange, sent = () => {}) {
  const state = h("p", { class: "state", role: "status" });
  const facts = h("dl", { class: "facts" });
  const counts = h("dl", { class: "counts" });
  const notes = h("div", { class: "notes" });
  const result = h("p", { class: "result", role: "status" });
  const button = h("button", { type: "button", onclick: () => busy(button, test) }, C.test);
  const hour = charts();
  const element = h("section", { class: "card connection", "aria-label": C.title }, state, facts, counts, notes, hour.element,
    canChange && h("div", { class: "test" }, button, result));
  let status;

  async function test() {
    fill(result);
    const answer = await call("POST", "integrations/mqtt/test-message", undefined, 20_000);
    result.className = answer.success ? "result good" : "result bad";
    result.textContent = answer.success ? C.arrived(answer.message) : answer.message;
    sent(answer.success);
  }

  function tick() {
    if (!status) return;
    let detail = "";
    if (status.state === "waiting" && status.next_attempt_at) {
      const seconds = Math.ceil((Date.parse(status.next_attempt_at) - now()) / 1000);
      detail = seconds > 0 ? C.next(seconds) : C.nextNow;
    } else if (status.state === "disabled") {
      detail = C.disabled;
    }
    const place = state.querySelector(".detail");
    if (place && place.textContent !== detail) place.textContent = detail;
  }

  const fact = (label, ...value) => [h("dt", {}, label), h("dd", {}, ...value)];
  const count = (label, n, help, bad) =>
    h("div", { title: help, class: bad && n > 0 ? "bad" : null }, h("dd", {}, n.toLocaleString()), h("dt", {}, label));

  function update(next) {
    const before = status?.state;
    status = next;
    element.dataset.state = status.state;
    if (before !== status.state) {
      // The countdown is not read out every second.
      fill(state, h("span", { class: "dot", "aria-hidden": "true" }), h("strong", {}, C.states[status.state]),
        h("span", { class: "detail", "aria-live": "off" }));
    }
    fill(facts,
      status.broker && fact(C.broker, foreign("span", {}, status.broker)),
      status.protocol && fact(C.protocol, C.mqtt(status.protocol)),
      status.state !== "disabled" &&
        fact(status.connected ? C.since : C.last, status.last_connected_at ? time(status.last_connected_at) : C.never),
      status.reconnect_attempt > 0 && fact("", C.attempt(status.reconnect_attempt)));
    fill(counts,
      count(C.pending, status.outbox.pending), count(C.inFlight, status.outbox.in_flight),
      count(C.delivered, status.outbox.delivered_today, C.deliveredHelp),
      count(C.dead, status.outbox.dead, C.deadHelp, true));
    const error = status.last_error;
    fill(notes,
      error && h("div", { class: status.connected ? "note" : "note bad" },
        h("h3", {}, C.lastError, " · ", time(error.at)), foreign("p", {}, error.message)),
      status.warnings.map((warning) =>
        h("div", { class: "note warn" }, h("h3", {}, C.warning), foreign("p", {}, warning.message))));
    button.disabled = !status.connected;
    tick();
  }

  const timer = setInterval(tick, 1000);
  return { element, update, stop: () => (clearInterval(timer), hour.stop()) };
}
