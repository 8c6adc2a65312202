// @ts-check
// The search for brokers in the guide. The server tests each broker without a login; the user chooses one.

/** @import { BrokerCandidate, BrokerState } from "./types" */

import { call, messageOf } from "./api.js";
import { busy, fill, foreign, html, serverText } from "./dom.js";
import { texts } from "./texts.js";

const labels = texts.finder;

/** @type {(candidate: BrokerCandidate) => string} */
const addressOf = ({ broker_host: host, broker_port: port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`;

/**
 * Returns the color and the sign for a state.
 * @param {BrokerState} state
 */
function mark(state) {
  if (state === "accepted" || state === "login_required") return { className: "good", sign: "✓" };
  return state === "unreachable" || state === "not_mqtt"
    ? { className: "bad", sign: "✕" }
    : { className: "unsure", sign: "?" };
}

/**
 * @param {BrokerCandidate} candidate
 * @param {(candidate: BrokerCandidate) => void} onUse
 */
function item(candidate, onUse) {
  const address = addressOf(candidate);
  const others = candidate.names.filter((name) => name !== address);
  const { className, sign } = mark(candidate.state);
  const use = html("button", {
    type: "button", "aria-label": `${labels.use}: ${address}`, onclick: () => { onUse(candidate); },
  }, labels.use);
  return html("li", { class: `broker ${className}` },
    html("span", { class: "tick", role: "img", "aria-label": labels.states[candidate.state] }, sign),
    html("div", {},
      foreign("strong", {}, address), candidate.use_tls && ` ${labels.tls}`,
      serverText("p", {}, candidate.message),
      others.length > 0 && foreign("p", { class: "help" }, labels.names(others.join(", ")))),
    use);
}

/**
 * Creates the search. `onUse` is called with the broker that the user chooses.
 * @param {(candidate: BrokerCandidate) => void} onUse
 */
export function brokerFinder(onUse) {
  const result = html("div", { class: "brokers", role: "status" });
  const button = html("button", { type: "button", onclick: () => { search(); } }, labels.search);
  const element = html("div", { class: "finder" }, button, result);

  async function find() {
    fill(result, html("p", { class: "help" }, labels.searching));
    try {
      const { candidates, left_out: leftOut } = await call("POST", "integrations/mqtt/candidates");
      fill(result,
        candidates.length === 0
          ? html("p", {}, labels.none)
          : html("ul", {}, candidates.map((candidate) => item(candidate, onUse))),
        leftOut > 0 && html("p", { class: "help" }, labels.leftOut(leftOut)));
    } catch (error) {
      fill(result, html("p", { class: "result bad" }, messageOf(error)));
    }
  }

  const search = () => busy(button, find);
  return { element, search };
}
