// @ts-check
// The timeline of a day: a bar for each hour, whose height shows the number of events. A click shows that hour.

/** @import { EventDensity, EventFilters } from "./types" */

import { get } from "./api.js";
import { fill, html, openWhenWide } from "./dom.js";
import { addToQuery, dayOf, shiftDay, timeOf } from "./filtering.js";
import { dateTime, hourAndMinute } from "./locale.js";
import { texts } from "./texts.js";

const labels = texts.find;
const HOUR_MS = 3_600_000;
// New events appear after this time.
const REFRESH_MS = 10_000;
// One request counts a limited number of events if they are not in the index yet.
const MAX_REQUESTS = 20;

/** @param {Date} date */
const timeValue = (date) => date.toTimeString().slice(0, 5);

/**
 * Formats a day for a heading: `Today`, `Yesterday`, `Friday, 27 November`.
 * @param {string} day
 */
export function dayName(day) {
  const today = dayOf(new Date());
  if (day === today) return labels.today;
  if (day === shiftDay(today, -1)) return labels.yesterday;
  const isThisYear = day.slice(0, 4) === today.slice(0, 4);
  return dateTime(timeOf(day),
    { weekday: "long", day: "numeric", month: "long", ...(isThisYear ? {} : { year: "numeric" }) });
}

/**
 * Creates the timeline. `choose` is called with the changed filters.
 * @param {(changed: Partial<EventFilters>) => void} choose
 */
export function timeline(choose) {
  /** @type {EventFilters} */
  let filters = { camera: "", state: "" };
  let isShown = false;
  let generation = 0;
  /** @type {number | undefined} */
  let timer;
  // Whether the events could not be counted.
  let hasFailed = false;
  let focused = 0;

  const heading = html("summary", {});
  const move = (/** @type {number} */ step) => choose({ day: shiftDay(day(), step), from: "", to: "" });
  const earlier = html("button",
    { type: "button", class: "quiet step", "aria-label": labels.earlierDay, onclick: () => move(-1) }, "‹");
  const later = html("button",
    { type: "button", class: "quiet step", "aria-label": labels.laterDay, onclick: () => move(1) }, "›");
  const hours = html("div", { class: "hours", role: "group", "aria-label": labels.hours, onkeydown: onKey });
  const element = html("details", { class: "timeline" }, heading,
    html("div", { class: "days" }, earlier, hours, later));
  openWhenWide(element);

  function day() {
    return filters.day || dayOf(new Date());
  }

  /** Returns the beginnings of the hours of the day, which has 23 or 25 when the clocks change. */
  function starts() {
    const [begin, end] = [timeOf(day()).getTime(), timeOf(day(), "00:00", 1).getTime()];
    return Array.from({ length: Math.ceil((end - begin) / HOUR_MS) }, (_, i) => new Date(begin + i * HOUR_MS));
  }

  /** @param {Event} event */
  function onKey(event) {
    if (!(event instanceof KeyboardEvent)) return;
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -99, End: 99 };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    if (step === undefined) return;
    event.preventDefault();
    focused = Math.min(hours.children.length - 1, Math.max(0, focused + step));
    updateFocus();
    /** @type {HTMLElement} */ (hours.children[focused]).focus();
  }

  function updateFocus() {
    [...hours.children].forEach((button, i) => button.setAttribute("tabindex", i === focused ? "0" : "-1"));
  }

  /** @param {number[] | null} counts `null` while they are not known. */
  function draw(counts) {
    const most = Math.max(1, ...counts ?? []);
    const hadFocus = hours.contains(document.activeElement);
    const now = Date.now();
    fill(hours, starts().map((start, i) => {
      const end = new Date(start.getTime() + HOUR_MS);
      const isChosen = filters.from === timeValue(start) && filters.to === timeValue(end);
      const count = counts?.[i] ?? 0;
      const bar = html("span", { class: "bar-of-hour", "aria-hidden": "true" });
      // At least a visible line for a single event.
      bar.style.height = count === 0 ? "0" : `${Math.max(6, Math.round(count / most * 100))}%`;
      const period = `${hourAndMinute(start)}–${hourAndMinute(end)}`;
      const label = counts ? labels.hour(period, count) : period;
      const onclick = () => {
        focused = i;
        choose(isChosen ? { from: "", to: "" } : { day: day(), from: timeValue(start), to: timeValue(end) });
      };
      const hour = html("span", { class: "hour" }, String(start.getHours()),
        html("span", { class: "visually-hidden" }, ` – ${label}`));
      return html("button", {
        type: "button", title: label, "aria-pressed": String(isChosen), onclick,
        class: start.getTime() > now ? "future" : "",
      }, html("span", { class: "bar-place" }, bar), hour);
    }));
    focused = Math.min(focused, hours.children.length - 1);
    updateFocus();
    if (hadFocus) /** @type {HTMLElement} */ (hours.children[focused]).focus();
    const total = counts?.reduce((sum, count) => sum + count, 0);
    heading.textContent = total === undefined ? dayName(day()) : labels.day(dayName(day()), total);
    later.disabled = day() >= dayOf(new Date());
  }

  /** Counts the events of the day. */
  async function count() {
    const query = new URLSearchParams({
      from: timeOf(day()).toISOString(), to: timeOf(day(), "00:00", 1).toISOString(),
    });
    addToQuery(query, filters);
    /** @type {number[]} */
    let sum = [];
    for (let i = 0; i < MAX_REQUESTS; i++) {
      /** @type {unknown} */
      const density = await get(`events/density?${query}`);
      const { events, next_before: next } = /** @type {EventDensity} */ (density);
      sum = events.map((number, place) => number + (sum[place] ?? 0));
      if (next === null) break;
      query.set("before", String(next));
    }
    return sum;
  }

  async function refresh() {
    clearTimeout(timer);
    timer = undefined;
    const started = ++generation;
    const counts = await count().catch(() => null);
    if (started !== generation) return;
    hasFailed = counts === null;
    if (counts) draw(counts);
  }

  /** Counts again after a failure. */
  function recover() {
    if (hasFailed) refresh();
  }

  /**
   * Shows the day of these filters.
   * @param {EventFilters} next
   */
  function show(next) {
    const key = (/** @type {EventFilters} */ { camera, q, object, day: of }) =>
      JSON.stringify([camera, q ?? "", object ?? "", of ?? ""]);
    const isSame = isShown && key(next) === key(filters);
    const isOtherHour = isSame && (next.from !== filters.from || next.to !== filters.to);
    filters = next;
    isShown = true;
    if (next.day && !isSame) element.open = true;
    if (!isSame) draw(null);
    if (!isSame || isOtherHour) refresh();
  }

  /** Counts again soon, because of new events. */
  function refreshSoon() {
    if (isShown && day() === dayOf(new Date())) timer ??= setTimeout(refresh, REFRESH_MS);
  }

  return { element, show, refresh, refreshSoon, recover, stop: () => clearTimeout(timer) };
}
