// @ts-check
// The server's event stream. No other module uses it directly.
//
// The stream resumes where it was interrupted. Scripts cannot see heartbeats, so a silent stream is checked with a
// request.

/** @import { StreamListener, StreamMessages } from "./types" */

import { get } from "./api.js";

const RECONNECT_MS = 2000;
const SILENCE_MS = 15_000;
const CHECK_MS = 5000;
// Shorter interruptions are not shown.
const LOST_AFTER_MS = 2500;

/**
 * Follows the stream, and returns a function that stops it. `reset` means that lists must be fetched again.
 * @param {StreamListener} listener
 */
export function listen(listener) {
  /** @type {EventSource | undefined} */
  let source;
  /** @type {string | undefined} */
  let lastId;
  /** @type {number | undefined} */
  let lostTimer;
  /** @type {number | undefined} */
  let reconnectTimer;
  let lastSeen = Date.now();
  let isLost = false;
  let isStopped = false;

  function markAlive() {
    lastSeen = Date.now();
    clearTimeout(lostTimer);
    lostTimer = undefined;
    if (isLost) {
      isLost = false;
      listener.lost(false);
    }
  }

  function markLost() {
    lostTimer ??= setTimeout(() => {
      isLost = true;
      listener.lost(true);
    }, LOST_AFTER_MS);
  }

  /**
   * Passes messages of one kind on to the listener.
   * @template {keyof StreamMessages} Kind
   * @param {EventSource} opened
   * @param {Kind} kind
   */
  function forward(opened, kind) {
    opened.addEventListener(kind, (/** @type {MessageEvent<string>} */ message) => {
      markAlive();
      lastId = message.lastEventId || lastId;
      listener[kind](JSON.parse(message.data));
    });
  }

  function open() {
    if (isStopped) return;
    clearTimeout(reconnectTimer);
    source?.close();
    const query = lastId === undefined ? "" : `?last_event_id=${encodeURIComponent(lastId)}`;
    const opened = new EventSource(`api/v1/stream${query}`);
    source = opened;
    opened.addEventListener("open", markAlive);
    forward(opened, "status");
    forward(opened, "event");
    forward(opened, "delivery");
    forward(opened, "reset");
    opened.addEventListener("error", () => {
      markLost();
      // Browsers do not reconnect after a response that is not an event stream.
      if (opened.readyState === EventSource.CLOSED) reconnectLater();
    });
  }

  /** Retries until the server responds. The request also detects that the session has ended. */
  function reconnectLater() {
    clearTimeout(reconnectTimer);
    reconnectTimer = setTimeout(reconnect, RECONNECT_MS);
  }

  async function reconnect() {
    if (isStopped) return;
    let status;
    try {
      status = await get("integrations/mqtt/status");
    } catch {
      reconnectLater();
      return;
    }
    listener.status(status);
    // The last id may be meaningless if the server was reinstalled.
    lastId = undefined;
    listener.reset({});
    open();
  }

  async function checkSilence() {
    const isSilent = Date.now() - lastSeen >= SILENCE_MS;
    if (isStopped || document.hidden || lostTimer !== undefined || !isSilent) return;
    let status;
    try {
      status = await get("integrations/mqtt/status");
    } catch {
      markLost();
      source?.close();
      reconnectLater();
      return;
    }
    lastSeen = Date.now();
    listener.status(status);
  }

  open();
  const timer = setInterval(checkSilence, CHECK_MS);
  document.addEventListener("visibilitychange", checkSilence);
  window.addEventListener("online", checkSilence);
  return () => {
    isStopped = true;
    source?.close();
    clearInterval(timer);
    clearTimeout(reconnectTimer);
    clearTimeout(lostTimer);
    document.removeEventListener("visibilitychange", checkSilence);
    window.removeEventListener("online", checkSilence);
  };
}
