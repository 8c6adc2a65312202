// @ts-check
// The banner about failed events: how many there are, why they failed, and buttons to send them again or dismiss them.

/** @import { Camera, DeadReason, MqttStatus } from "./types" */

import { call, get } from "./api.js";
import { actionButton, fill, foreign, html, toast } from "./dom.js";
import { eventsAddress } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.failed;
// The reasons and cameras of this many failed events are shown.
const SAMPLE = 100;
const REFRESH_MS = 1000;

/**
 * Creates the banner. `onDecided` is called after all events of a filter have been decided.
 * @param {boolean} canChange
 * @param {() => void} onDecided
 */
export function failedEvents(canChange, onDecided) {
  let count = 0;
  /** The camera whose failed events the buttons apply to; empty for all cameras. */
  let camera = "";
  /** The camera that the view shows; empty for all cameras. */
  let viewed = "";
  /** @type {Camera[]} */
  let cameras = [];
  // The cameras of the failed events, `null` if they are not all known.
  /** @type {Set<string> | null} */
  let concerned = null;
  /** @type {number | undefined} */
  let timer;
  const title = html("h2", {});
  const reasons = html("ul", { class: "reasons" });
  const show = html("a", { class: "button", href: eventsAddress({ state: "dead" }) }, labels.show);
  const retry = actionButton(labels.retryAll, "primary", () => decide("POST events/dead/retry"));
  const dismiss = actionButton(labels.dismissAll, "", () => decide("DELETE events/dead"));
  const scope = html("p", { class: "help" });
  const element = html("section", { class: "card failed-events", "aria-label": labels.label, hidden: true },
    title, reasons, scope, html("div", { class: "row" }, canChange && [retry, dismiss], show));

  /** @param {"POST events/dead/retry" | "DELETE events/dead"} request */
  async function decide(request) {
    const query = new URLSearchParams(camera ? { camera_id: camera } : {});
    let decided = 0;
    for (let isComplete = false; !isComplete;) {
      const { events, complete, next_after } = request === "DELETE events/dead"
        ? await call("DELETE", `events/dead?${query}`)
        : await call("POST", `events/dead/retry?${query}`);
      decided += events;
      isComplete = complete;
      // Those that have failed again in the meantime are not decided again and again.
      if (next_after !== null) query.set("after", String(next_after));
    }
    toast(request === "DELETE events/dead" ? labels.dismissed(decided) : labels.retried(decided));
    onDecided();
  }

  /** Shows why the newest failed events failed, with the cameras concerned. */
  async function updateReasons() {
    const page = await get(`events?state=dead&limit=${SAMPLE}`).catch(() => undefined);
    if (!page) return;
    /** @type {Map<DeadReason | null, Map<string, number>>} */
    const found = new Map();
    for (const { delivery: { reason }, camera_name } of page.events) {
      const cameras = found.get(reason) ?? new Map();
      found.set(reason, cameras.set(camera_name, (cameras.get(camera_name) ?? 0) + 1));
    }
    const items = [...found].map(([reason, cameras]) => {
      const text = reason ? texts.events.reasons[reason] ?? reason : texts.events.states.dead;
      return html("li", {}, foreign("b", {}, [...cameras.keys()].slice(0, 5).join(", ")), ": ", text);
    });
    fill(reasons, items);
    concerned = page.events.length < SAMPLE ? new Set(page.events.map(({ camera_id }) => camera_id)) : null;
    applyCamera();
  }

  function updateReasonsSoon() {
    timer ??= setTimeout(() => {
      timer = undefined;
      if (count > 0) updateReasons();
    }, REFRESH_MS);
  }

  /** @param {MqttStatus} status */
  function update({ outbox: { dead } }) {
    if (dead === count) return;
    const isFirst = count === 0;
    count = dead;
    element.hidden = count === 0;
    title.textContent = labels.title(count);
    if (count === 0) fill(reasons);
    else if (isFirst) updateReasons();
    else updateReasonsSoon();
  }

  /**
   * Applies the buttons to the events of one camera only, or to all.
   * @param {string} id
   * @param {Camera[]} known
   */
  function setCamera(id, known) {
    viewed = id;
    cameras = known;
    applyCamera();
  }

  /** @param {Camera[]} known */
  function setCameras(known) {
    cameras = known;
    applyCamera();
  }

  /** Leaves out a camera without failed events: buttons for it would do nothing. */
  function applyCamera() {
    camera = concerned?.has(viewed) === false ? "" : viewed;
    const name = cameras.find(({ camera_id }) => camera_id === camera)?.camera_name ?? camera;
    scope.textContent = camera ? labels.onlyOf(name) : "";
    scope.hidden = camera === "";
    show.href = eventsAddress({ camera, state: "dead" });
  }

  setCamera("", []);
  return { element, update, setCamera, setCameras, refresh: updateReasonsSoon, stop: () => clearTimeout(timer) };
}
