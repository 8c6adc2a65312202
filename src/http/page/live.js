// What happens, as it happens: the server's stream. Everything else asks this module, and nothing else knows of it.
//
// The stream resumes by itself where it broke off. Heartbeats are not seen by scripts, so a silent stream is asked after.

import { get } from "./api.js";

const COME_BACK_MS = 2000;
const SILENCE_MS = 15_000;
const LOST_AFTER_MS = 2500;

/** Listens; `on` has `status`, `event`, `delivery`, `reset` (ask for lists again) and `lost(bool)`. Returns how to stop. */
export function listen(on) {
  let source, lastId, heard = Date.now(), lost = false, stopped = false, lostTimer, backTimer;

  const found = () => {
    heard = Date.now();
    clearTimeout(lostTimer);
    lostTimer = undefined;
    if (lost) {
      lost = false;
      on.lost(false);
    }
  };
  const missing = () => {
    lostTimer ??= setTimeout(() => {
      lost = true;
      on.lost(true);
    }, LOST_AFTER_MS);
  };
  const open = () => {
    if (stopped) return;
    clearTimeout(backTimer);
    source?.close();
    const place = lastId === undefined ? "" : `?last_event_id=${encodeURIComponent(lastId)}`;
    source = new EventSource(`api/v1/stream${place}`);
    source.addEventListener("open", found);
    for (const kind of ["status", "event", "delivery", "reset"]) {
      source.addEventListener(kind, (message) => {
        found();
        lastId = message.lastEventId || lastId;
        on[kind](JSON.parse(message.data));
      });
    }
    source.addEventListener("error", () => {
      missing();
      // It does not come back by itself after an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) again();
    });
  };
  const again = () => {
    clearTimeout(backTimer);
    // Whoever is signed out learns it here; a server that is away, or has too many streams, is asked again.
    backTimer = setTimeout(() => {
      if (stopped) return;
      get("integrations/mqtt/status").then((status) => {
        on.status(status);
        // Where it broke off may mean nothing to a server that was set up anew.
        lastId = undefined;
        on.reset();
        open();
      }, () => again());
    }, COME_BACK_MS);
  };
  const look = () => {
    if (stopped || document.hidden || lostTimer !== undefined || Date.now() - heard < SILENCE_MS) return;
    get("integrations/mqtt/status").then((status) => {
      heard = Date.now();
      on.status(status);
    }, () => {
      missing();
      source?.close();
      again();
    });
  };

  open();
  const timer = setInterval(look, 5000);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("online", look);
  return () => {
    stopped = true;
    source?.close();
    clearInterval(timer);
    clearTimeout(backTimer);
    clearTimeout(lostTimer);
    document.removeEventListener("visibilitychange", look);
    window.removeEventListener("online", look);
  };
}
