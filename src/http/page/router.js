// @ts-check
// The addresses of the page: a view and its filters, a camera, an event. They are in the fragment, so they work below
// any path that a proxy or Home Assistant chooses. Each is an entry of the browser's history.

/** @import { DeliveryState, EventFilters, Route, ViewName } from "./types" */

/** @type {DeliveryState[]} */
export const STATES = ["pending", "delivered", "dead"];

const PLACES_KEY = "liveobject-places";
const MAX_PLACES = 50;
// How long a scroll position is restored while the content loads.
const RESTORE_MS = 4000;

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * The filters of the events in an address, and the form of their values.
 * @type {[keyof EventFilters, RegExp][]}
 */
const FILTERS = [
  ["camera", /^[\w-]+(,[\w-]+)*$/],
  ["state", /^(pending|delivered|dead)$/],
  ["q", /^[^]{1,200}$/],
  ["object", /^[^]{1,64}$/],
  ["day", /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/],
  ["from", /^([01]\d|2[0-3]):[0-5]\d$/],
  ["to", /^([01]\d|2[0-3]):[0-5]\d$/],
];

export const FILTER_NAMES = FILTERS.map(([name]) => name);

/**
 * Returns the address of the events view.
 * @param {Partial<EventFilters>} filters
 */
export function eventsAddress(filters) {
  const query = new URLSearchParams();
  for (const [name] of FILTERS) {
    const value = filters[name];
    if (value) query.set(name, value);
  }
  return query.size > 0 ? `#events?${query}` : "#events";
}

/**
 * Returns the filters of an address. Leaves out those that have no sense.
 * @param {string} query
 * @returns {EventFilters}
 */
function filtersIn(query) {
  const given = new URLSearchParams(query);
  /** @type {Record<string, string>} */
  const filters = {};
  for (const [name, form] of FILTERS) {
    const value = given.get(name) ?? "";
    if (form.test(value)) filters[name] = value;
  }
  const state = STATES.find((one) => one === filters.state) ?? "";
  return { ...filters, camera: filters.camera ?? "", state };
}

/** @param {string} id */
export const cameraAddress = (id) => `#camera/${encodeURIComponent(id)}`;

/**
 * @param {string} id
 * @param {boolean} [isPicture] Whether the picture fills the window.
 */
export const eventAddress = (id, isPicture = false) =>
  `#event/${encodeURIComponent(id)}${isPicture ? "/picture" : ""}`;

/**
 * Returns what an address shows. An unknown address shows the events.
 * @param {string} address
 * @param {string} [below] The address of the view below an event.
 * @returns {Route}
 */
export function parse(address, below = "") {
  const [path, query = ""] = address.replace(/^#/, "").split("?");
  const [name, id = "", part = ""] = path.split("/").map(decode);
  if (name === "event" && id) {
    const view = parse(below.startsWith("#event/") ? "" : below);
    return { ...view, event: id, isPicture: part === "picture" };
  }
  if (name === "camera" && id) return { view: "camera", camera: id, state: "" };
  if (name === "cameras" || name === "settings" || name === "service") return { view: name, camera: "", state: "" };
  return { view: "events", ...filtersIn(query) };
}

/**
 * Returns the address of the view of a route, without the event that is open above it.
 * @param {Route} route
 */
export function viewAddress(route) {
  if (route.view === "events") return eventsAddress(route);
  return route.view === "camera" ? cameraAddress(route.camera) : `#${route.view}`;
}

/**
 * What an entry of the history remembers.
 * @typedef {object} Entry
 * @property {string} [below] The address of the view below an event.
 * @property {boolean} [isOnTop] Whether the page itself opened this entry from the one before it.
 */

/** @returns {Entry} */
const entry = () => history.state ?? {};

/**
 * Follows the address. Calls `onRoute` with each route, and with the one before it.
 * @param {(route: Route, previous: Route | null) => void} onRoute
 */
export function createRouter(onRoute) {
  /** @type {Route | null} */
  let current = null;
  const places = scrollPlaces();

  function route() {
    const previous = current;
    const next = parse(location.hash, entry().below);
    // If the user has moved to another picture, its event stays open when the picture is closed.
    if (previous?.isPicture && previous.event && next.event && !next.isPicture && next.event !== previous.event) {
      next.event = previous.event;
      history.replaceState(entry(), "", eventAddress(previous.event));
    }
    current = next;
    places.leave();
    onRoute(next, previous);
    places.enter(viewAddress(next));
  }

  /**
   * Opens an address of a view.
   * @param {string} address
   * @param {boolean} [replaces] Whether it takes the place of the present one in the history.
   */
  function open(address, replaces = false) {
    if (address !== location.hash) history[replaces ? "replaceState" : "pushState"](null, "", address);
    route();
  }

  /**
   * Opens an event, or its picture, above the view. Within an open one, it replaces that one.
   * @param {string} id
   * @param {boolean} [isPicture]
   */
  function openEvent(id, isPicture = false) {
    const address = eventAddress(id, isPicture);
    const isSameKind = current?.event !== undefined && (current.isPicture ?? false) === isPicture;
    if (isSameKind) history.replaceState(entry(), "", address);
    else history.pushState({ below: current ? viewAddress(current) : "", isOnTop: true }, "", address);
    route();
  }

  /** Closes the open event, or its picture. */
  function close() {
    if (!current?.event) return;
    if (entry().isOnTop) {
      history.back();
      return;
    }
    const { below = "#events" } = entry();
    if (current.isPicture) history.replaceState({ below }, "", eventAddress(current.event));
    else history.replaceState(null, "", below);
    route();
  }

  window.addEventListener("popstate", route);
  window.addEventListener("hashchange", route);
  return {
    route, open, openEvent, close,
    /** Stops following the address. */
    stop() {
      places.stop();
      window.removeEventListener("popstate", route);
      window.removeEventListener("hashchange", route);
    },
  };
}

/** Returns the scroll positions that an earlier page in this tab stored. */
function storedPlaces() {
  try {
    return /** @type {[string, number][]} */ (JSON.parse(sessionStorage.getItem(PLACES_KEY) ?? "[]"));
  } catch {
    return [];
  }
}

/** Keeps the scroll position of each address, even when the page is loaded again. */
function scrollPlaces() {
  const places = new Map(storedPlaces());
  let key = "";
  /** @type {number | null} */
  let wanted = null;
  /** @type {number | undefined} */
  let timer;
  history.scrollRestoration = "manual";

  function remember() {
    if (!key || wanted !== null) return;
    places.delete(key);
    places.set(key, window.scrollY);
    const [oldest] = places.keys();
    if (places.size > MAX_PLACES) places.delete(oldest);
  }

  function giveUp() {
    clearTimeout(timer);
    wanted = null;
  }

  // The content may still be loading, so this is repeated whenever the content grows.
  function restore() {
    if (wanted === null) return;
    window.scrollTo({ top: wanted, behavior: "instant" });
    if (Math.abs(window.scrollY - wanted) <= 1) giveUp();
  }

  function store() {
    remember();
    try {
      sessionStorage.setItem(PLACES_KEY, JSON.stringify([...places]));
    } catch {
      // Without storage, the positions last as long as the page.
    }
  }

  const observer = new ResizeObserver(restore);
  observer.observe(document.body);
  const ownScrolling = /** @type {const} */ (["wheel", "touchmove", "keydown", "pointerdown"]);
  for (const name of ownScrolling) window.addEventListener(name, giveUp, { passive: true });
  window.addEventListener("scroll", remember, { passive: true });
  window.addEventListener("pagehide", store);

  return {
    leave: remember,
    /** @param {string} next */
    enter(next) {
      if (next === key) return;
      key = next;
      giveUp();
      wanted = places.get(next) ?? 0;
      timer = setTimeout(giveUp, RESTORE_MS);
      restore();
    },
    stop() {
      giveUp();
      observer.disconnect();
      for (const name of ownScrolling) window.removeEventListener(name, giveUp);
      window.removeEventListener("scroll", remember);
      window.removeEventListener("pagehide", store);
    },
  };
}
