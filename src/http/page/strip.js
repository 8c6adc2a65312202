// @ts-check
// The strip of the last 24 hours: when there was no connection to the broker, and what became of the events that
// waited. What it claims comes from the server, which reads it from the event log.

/** @import { HistoryPoint, Outage, Outages } from "./types" */

import { get, now } from "./api.js";
import { indexAfter } from "./chart.js";
import { elapsed, fill, html } from "./dom.js";
import { dayOf, minuteOf } from "./filtering.js";
import { history } from "./history.js";
import { hourAndMinute } from "./locale.js";
import { eventsAddress } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.strip;
const DAY_MS = 86_400_000;
const REFRESH_MS = 30_000;
// While something changes, the strip follows it sooner.
const REFRESH_SOON_MS = 3000;
const CHANGES_FOR_MS = 60_000;
const LISTED = 4;
// Shorter periods in which nothing waited are only counted.
const BRIEF_MS = 10_000;

/** @typedef {"connected" | Outage["kind"]} SegmentKind */

/**
 * @typedef {object} Segment
 * @property {SegmentKind} kind
 * @property {number} from
 * @property {number} to
 * @property {Outage} [outage]
 */

/**
 * Returns the address of the events of a period: those of the day on which it begins.
 * @param {number} from
 * @param {number} to
 */
function eventsBetween(from, to) {
  const start = new Date(from);
  const end = new Date(Math.ceil(to / 60_000) * 60_000);
  const day = dayOf(start);
  return eventsAddress({ day, from: minuteOf(start), to: dayOf(end) === day ? minuteOf(end) : "" });
}

/**
 * Returns the segments of a period without gaps, oldest first.
 * @param {Outages} data
 * @param {number} start
 * @param {number} end
 */
function segmentsOf({ recorded_from: recordedFrom, outages }, start, end) {
  /** @type {Segment[]} */
  const segments = [];
  let done = start;
  /**
   * @param {SegmentKind} kind
   * @param {number} to
   * @param {Outage} [outage]
   */
  const add = (kind, to, outage) => {
    if (to > done) segments.push({ kind, from: done, to, outage });
    done = Math.max(done, to);
  };
  add("unknown", Math.min(end, Date.parse(recordedFrom)));
  for (const outage of outages) {
    add("connected", Math.min(end, Date.parse(outage.from)));
    add(outage.kind, outage.to ? Math.min(end, Date.parse(outage.to)) : end, outage);
  }
  add("connected", end);
  return segments;
}

/** @param {Outage} outage */
const isGood = ({ outcome }) => ["nothing_waited", "delivered", "delivered_in_order"].includes(outcome);

/** @param {Segment} segment */
const isBrief = ({ from, to, outage }) =>
  outage !== undefined && outage.to !== null && outage.events === 0 && isGood(outage) && to - from < BRIEF_MS;

/**
 * Formats a period. One within a minute has a duration instead of an end.
 * @param {number} from
 * @param {number} to
 */
function periodOf(from, to) {
  const [begin, end] = [hourAndMinute(from), hourAndMinute(to)];
  return begin === end && to - from < 60_000 ? `${begin}, ${elapsed(from, to)}` : `${begin}–${end}`;
}

/** @param {Segment} segment */
function sentence({ kind, from, to, outage }) {
  const begin = outage ? Date.parse(outage.from) : from;
  const period = outage && !outage.to ? `${hourAndMinute(begin)}–${labels.now}` : periodOf(begin, to);
  const parts = [`${labels.kinds[kind]} ${period}`];
  if (outage?.reason && kind === "broker_away") parts.push(labels.reasons[outage.reason] ?? outage.reason);
  if (outage && outage.events > 0) parts.push(labels.waited(outage.events));
  if (outage && (outage.events > 0 || !isGood(outage))) parts.push(outcomeOf(outage));
  return parts.join(" · ");
}

/** @param {Outage} outage */
function outcomeOf({ outcome, waiting, dead, late }) {
  const parts = [labels.outcomes[outcome]];
  if (outcome === "waiting") parts[0] = labels.stillWaiting(waiting);
  if (dead > 0) parts[outcome === "waiting" ? 1 : 0] = labels.failed(dead);
  if (late > 0) parts.push(labels.late(late));
  return parts.join(", ");
}

/** Creates the strip, which stays up to date until `stop` is called. */
export function strip() {
  const track = html("div", { class: "track", role: "group", "aria-label": labels.title });
  const marks = html("div", { class: "marks", "aria-hidden": "true" });
  const summary = html("p", { class: "strip-summary" });
  const list = html("ul", { class: "outages" });
  const more = html("button", { type: "button", class: "quiet", hidden: true, onclick: showAll }, labels.more);
  const axis = html("p", { class: "axis", "aria-hidden": "true" });
  const element = html("div", { class: "strip", hidden: true },
    html("h3", {}, labels.title), summary, track, marks, axis, list, more);
  let isWhole = false;
  let refreshedAt = 0;
  let changedAt = Date.now();
  let shown = "";

  async function refresh() {
    if (document.hidden) return;
    refreshedAt = Date.now();
    try {
      const [outages, { points }] = await Promise.all([get("outages"), history("24h")]);
      draw(outages, points);
    } catch {
      // The page already reports the lost connection; the strip keeps showing the last data.
    }
  }

  /**
   * @param {Outages} data
   * @param {HistoryPoint[]} points
   */
  function draw(data, points) {
    element.hidden = false;
    const end = now();
    const start = end - DAY_MS;
    const segments = segmentsOf(data, start, end);
    fill(axis, [start, end - DAY_MS / 2].map((at) => html("span", {}, hourAndMinute(at))),
      html("span", {}, texts.charts.to));
    // Segments that somebody reads or has focused are only replaced if they have changed.
    const next = JSON.stringify([data, isWhole]);
    if (next !== shown || !track.contains(document.activeElement)) drawSegments(segments, start);
    if (next !== shown) {
      drawList(segments);
      changedAt = Date.now();
    }
    shown = next;
    drawMarks(marks, points, start);
    const recordedFrom = Date.parse(data.recorded_from);
    const text = summaryOf(data.outages, points, recordedFrom > start ? recordedFrom : null);
    if (summary.textContent !== text) summary.textContent = text;
  }

  /**
   * @param {Segment[]} segments
   * @param {number} start
   */
  function drawSegments(segments, start) {
    const focused = [...track.children].findIndex((one) => one === document.activeElement);
    fill(track, segments.map((segment) => segmentLink(segment, start)));
    const links = /** @type {HTMLElement[]} */ ([...track.children]);
    const current = links[focused] ?? links[links.length - 1];
    if (current) current.tabIndex = 0;
    if (focused >= 0) current?.focus();
  }

  /** @param {Segment[]} segments */
  function drawList(segments) {
    const all = segments.filter(({ outage }) => outage && outage.from !== outage.to).reverse();
    const outages = all.filter((segment) => !isBrief(segment));
    const visible = isWhole ? outages : outages.slice(0, LISTED);
    const brief = all.length - outages.length;
    fill(list, visible.map((segment) => html("li", { class: classOf(segment) },
      html("a", { href: eventsBetween(segment.from, segment.to) }, sentence(segment)))),
    brief > 0 && html("li", { class: "brief" }, labels.brief(brief)));
    more.hidden = visible.length === outages.length;
  }

  function showAll() {
    isWhole = true;
    refresh();
  }

  track.addEventListener("keydown", moveFocus);

  function refreshIfOld() {
    const interval = Date.now() - changedAt < CHANGES_FOR_MS ? REFRESH_SOON_MS : REFRESH_MS;
    // A timer may be a little early.
    if (Date.now() - refreshedAt >= interval - 100) refresh();
  }
  const timer = setInterval(refreshIfOld, REFRESH_SOON_MS);
  document.addEventListener("visibilitychange", refreshIfOld);
  refresh();
  return {
    element,
    /** The connection has changed. */
    refreshSoon() {
      changedAt = Date.now();
      refresh();
    },
    stop() {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", refreshIfOld);
    },
  };
}

/** @param {Segment} segment */
function classOf({ kind, outage }) {
  const isBad = outage && (outage.outcome === "waiting" || outage.outcome === "failed");
  return `of-${kind}${isBad ? " bad" : ""}`;
}

/**
 * Creates the link of a segment. Its name is the whole sentence.
 * @param {Segment} segment
 * @param {number} start
 */
function segmentLink(segment, start) {
  const text = sentence(segment);
  const link = html("a", {
    href: eventsBetween(segment.from, segment.to), class: classOf(segment), title: text, "aria-label": text,
    tabindex: -1,
  });
  link.style.left = `${100 * (segment.from - start) / DAY_MS}%`;
  link.style.width = `${100 * (segment.to - segment.from) / DAY_MS}%`;
  return link;
}

/**
 * Marks the periods in which events were late or failed.
 * @param {HTMLElement} marks
 * @param {HistoryPoint[]} points
 * @param {number} start
 */
function drawMarks(marks, points, start) {
  fill(marks, points.filter(({ late, dead }) => late || dead).map(({ at, dead }) => {
    const mark = html("span", { class: dead ? "failed" : "late" });
    mark.style.left = `${100 * (Date.parse(at) - start) / DAY_MS}%`;
    return mark;
  }));
}

/**
 * Returns the sentence above the strip. It claims that nothing was lost only if no event waits or has failed.
 * @param {Outage[]} outages
 * @param {HistoryPoint[]} points
 * @param {number | null} since Since when something is known, if that is not the whole day.
 */
function summaryOf(outages, points, since) {
  /** @param {Outage["kind"]} wanted */
  const number = (wanted) => outages.filter(({ kind, from, to }) => kind === wanted && from !== to).length;
  const stops = number("not_running");
  const interruptions = number("broker_away") + stops;
  const parts = [interruptions === 0 && since !== null
    ? labels.noneSince(hourAndMinute(since)) : labels.interruptions(interruptions, stops)];
  const waiting = Math.max(0, ...outages.map((outage) => outage.waiting));
  /** @param {"late" | "dead"} name */
  const total = (name) => points.reduce((sum, point) => sum + (point[name] ?? 0), 0);
  const [late, dead] = [total("late"), total("dead")];
  const isLossless = outages.every(isGood) && dead === 0 && outages.some(({ events }) => events > 0);
  if (waiting > 0) parts.push(labels.stillWaiting(waiting));
  else if (isLossless) parts.push(labels.nothingLost);
  if (late > 0) parts.push(labels.late(late));
  if (dead > 0) parts.push(labels.failures(dead));
  return parts.join(" · ");
}

/**
 * Moves the focus between the segments with the arrow keys.
 * @param {KeyboardEvent} event
 */
function moveFocus(event) {
  const track = /** @type {HTMLElement} */ (event.currentTarget);
  const links = /** @type {HTMLElement[]} */ ([...track.children]);
  const from = links.findIndex((link) => link === document.activeElement);
  const target = indexAfter(event.key, from, links.length - 1);
  const link = target === undefined ? undefined : links[Math.min(links.length - 1, Math.max(0, target))];
  if (!link || from < 0) return;
  event.preventDefault();
  links[from].tabIndex = -1;
  link.tabIndex = 0;
  link.focus();
}
