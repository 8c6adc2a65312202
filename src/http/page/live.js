// @ts-check
// The server's event stream. No other module uses it directly.
//
// The stream resumes where it was interrupted. Scripts cannot see heartbeats, so a silent stream is checked with a
// request. A page that is hidden for a while has no stream: over HTTP/1.1, a browser opens at most six connections to a
// server, so a seventh tab would wait forever.

/** @import { StreamListener, StreamMessages } from "./types" */

import { get } from "./api.js";

const RECONNECT_MS = 2000;
const SILENCE_MS = 15_000;
const CHECK_MS = 5000;
// Shorter interruptions are not shown.
const LOST_AFTER_MS = 2500;
// A page that is hidden for longer closes its stream.
const HIDDEN_MS = 3000;
// How often a hidden page updates its title and icon.
const HIDDEN_CHECK_MS = 60_000;

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
  /** @type {number | undefined} */
  let hiddenTimer;
  let lastSeen = Date.now();
  let isLost = false;
  let isStopped = false;
  let isPaused = false;

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
    isPaused = false;
    source?.close();
    const query = lastId === undefined ? "" : `?last_event_id=${encodeURIComponent(lastId)}`;
    const opened = new EventSource(`api/v1/stream${query}`);
    source = opened;
    opened.addEventListener("open", markAlive);
    forward(opened, "status");
    forward(opened, "event");
    forward(opened, "delivery");
    forward(opened, "reset");
    forward(opened, "settings");
    opened.addEventListener("error", () => {
      markLost();
      // Browsers do not reconnect after a response that is not an event stream.
      if (opened.readyState === EventSource.CLOSED) reconnectLater();
    });
  }

  /** Retries until the server responds. The request also detects that the session has ended. */
  function reconnectLater() {
    if (isPaused) return;
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
    if (isPaused) return;
    // The last id may be meaningless if the server was reinstalled.
    lastId = undefined;
    listener.reset({});
    open();
  }

  /** Closes the stream while the page is hidden. */
  function pause() {
    isPaused = true;
    source?.close();
    clearTimeout(reconnectTimer);
    clearTimeout(lostTimer);
    lostTimer = undefined;
    hiddenTimer = setTimeout(checkHidden, HIDDEN_CHECK_MS);
  }

  async function checkHidden() {
    try {
      listener.status(await get("integrations/mqtt/status"));
      markAlive();
    } catch {
      markLost();
    }
    if (isPaused && !isStopped) hiddenTimer = setTimeout(checkHidden, HIDDEN_CHECK_MS);
  }

  function visibilityChanged() {
    clearTimeout(hiddenTimer);
    if (document.hidden) {
      hiddenTimer = isPaused ? setTimeout(checkHidden, HIDDEN_CHECK_MS) : setTimeout(pause, HIDDEN_MS);
    } else if (isPaused) {
      open();
    } else {
      checkSilence();
    }
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
  visibilityChanged();
  const timer = setInterval(checkSilence, CHECK_MS);
  document.addEventListener("visibilitychange", visibilityChanged);
  window.addEventListener("online", checkSilence);
  return () => {
    isStopped = true;
    source?.close();
    clearInterval(timer);
    clearTimeout(reconnectTimer);
    clearTimeout(lostTimer);
    clearTimeout(hiddenTimer);
    document.removeEventListener("visibilitychange", visibilityChanged);
    window.removeEventListener("online", checkSilence);
  };
}
