// @ts-check
// The events of a camera in the last seven days: a row for each day, a cell for each hour. More events are darker.

/** @import { EventDensity } from "./types" */

import { get } from "./api.js";
import { fill, html } from "./dom.js";
import { dayOf } from "./filtering.js";
import { dateTime, hourAndMinute, number } from "./locale.js";
import { eventsAddress } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.week;
const DAYS = 7;
const HOURS = 24;
const HOUR_MS = 3_600_000;
const REFRESH_MS = 60_000;
// One request counts a limited number of events if they are not in the index yet.
const MAX_REQUESTS = 20;

/**
 * The hour as addresses contain it.
 * @param {number} hour
 */
const clock = (hour) => `${String(hour % HOURS).padStart(2, "0")}:00`;

/**
 * The hour as people read it.
 * @param {number} hour
 */
const shownHour = (hour) => hourAndMinute(new Date(2000, 0, 1, hour % HOURS));

/**
 * Creates the week of a camera, which `show` fills. `open` is called with the address of the hour that is chosen.
 * @param {(address: string) => void} open
 */
export function week(open) {
  let id = "";
  let loadedAt = 0;
  const days = html("div", { class: "week" });
  const element = html("section", { "aria-label": labels.title, hidden: true },
    html("h2", { class: "minor" }, labels.title), days);

  /**
   * Returns the number of events in each hour since `from`.
   * @param {Date} from
   */
  async function count(from) {
    /** @type {number[]} */
    const counts = [];
    let before = "";
    for (let request = 0; request < MAX_REQUESTS; request++) {
      const query = new URLSearchParams({ camera_id: id, from: from.toISOString(), step: String(HOUR_MS / 1000) });
      query.set("to", new Date().toISOString());
      if (before) query.set("before", before);
      /** @type {unknown} */
      const density = await get(`events/density?${query}`);
      const { events, next_before: next } = /** @type {EventDensity} */ (density);
      events.forEach((n, i) => { counts[i] = (counts[i] ?? 0) + n; });
      if (next === null) break;
      before = String(next);
    }
    return counts;
  }

  /**
   * @param {Date} midnight
   * @param {(date: Date) => number} countAt
   * @param {number} most
   */
  function dayRow(midnight, countAt, most) {
    const day = dayOf(midnight);
    const name = dateTime(midnight, { weekday: "short", day: "numeric", month: "numeric" });
    let total = 0;
    const cells = Array.from({ length: HOURS }, (_, hour) => {
      const start = new Date(midnight);
      start.setHours(hour);
      const events = countAt(start);
      total += events;
      // The square root, so that a single event is visible next to an hour with many.
      const strength = events === 0 ? 0 : Math.round(20 + 80 * Math.sqrt(events / most));
      const cell = html("i", {
        title: labels.hour(`${name} ${shownHour(hour)}–${shownHour(hour + 1)}`, events),
        onclick: () => open(eventsAddress({ camera: id, day, from: clock(hour), to: clock(hour + 1) })),
      });
      cell.style.setProperty("--strength", `${strength}%`);
      return cell;
    });
    return html("div", { class: "week-day" },
      html("a", { href: eventsAddress({ camera: id, day }) }, name,
        html("span", { class: "visually-hidden" }, `: ${labels.count(total)}`)),
      html("span", { class: "hours-of-day", "aria-hidden": "true" }, cells),
      html("span", { class: "total", "aria-hidden": "true" }, number(total)));
  }

  async function load() {
    const shown = id;
    loadedAt = Date.now();
    const from = new Date();
    from.setHours(0, 0, 0, 0);
    from.setDate(from.getDate() - (DAYS - 1));
    const counts = await count(from).catch(() => null);
    if (shown !== id) return;
    if (!counts) {
      loadedAt = 0;
      return;
    }
    const most = Math.max(1, ...counts);
    const countAt = (/** @type {Date} */ date) => counts[Math.floor((date.getTime() - from.getTime()) / HOUR_MS)] ?? 0;
    fill(days, Array.from({ length: DAYS }, (_, i) => {
      const midnight = new Date(from);
      midnight.setDate(midnight.getDate() + DAYS - 1 - i);
      return dayRow(midnight, countAt, most);
    }), html("p", { class: "week-day scale", "aria-hidden": "true" },
      html("span"), html("span", {}, [0, 6, 12, 18].map((hour) => html("span", {}, shownHour(hour)))), html("span")));
    element.hidden = false;
  }

  return {
    element,
    /**
     * Shows this camera, again after a while if it is shown already; an empty id shows nothing.
     * @param {string} next
     */
    show(next) {
      if (next !== id) element.hidden = true;
      else if (Date.now() - loadedAt < REFRESH_MS) return;
      id = next;
      if (id) load();
    },
  };
}
