// @ts-check
// Small charts of the last hour: events per minute, delivery times and the backlog. Plain SVG, no library.

/** @import { HistoryPoint, Timestamp } from "./types" */

import { get, now } from "./api.js";
import { duration, fill, html, svg } from "./dom.js";
import { texts } from "./texts.js";

/**
 * @typedef {object} ChartKind
 * @property {"events" | "latency" | "pending"} name
 * @property {(value: number) => string} format
 * @property {((point: HistoryPoint) => number | null)[]} lines The area below the first line is filled.
 */

/** @typedef {{ end: number, width: number }} TimeRange The last moment and the length, in milliseconds. */

const labels = texts.charts;
const HOUR_MS = 3_600_000;
// Right after the service has started, the charts cover a shorter time.
const SHORTEST_MS = 300_000;
const REFRESH_MS = 15_000;
const RETRY_EMPTY_MS = 3000;
const WIDTH = 300;
const HEIGHT = 44;
const MARGIN_TOP = 3;
// The upper bound of the histogram's last bucket. Longer times cannot be distinguished.
const LONGEST_SECONDS = 8.19;

/** @param {number} value */
const formatCount = (value) => value.toLocaleString();

/** @param {number} seconds */
function formatSeconds(seconds) {
  if (seconds > LONGEST_SECONDS) return labels.over;
  if (seconds < 0.001) return labels.under;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

/** @param {Timestamp} timestamp */
const clockTime = (timestamp) => new Date(timestamp).toLocaleTimeString(undefined, { timeStyle: "short" });

/** @type {ChartKind[]} */
const CHARTS = [
  { name: "events", format: formatCount, lines: [(point) => point.events_per_minute] },
  {
    name: "latency",
    format: formatSeconds,
    lines: [(point) => point.delivery_p50_seconds, (point) => point.delivery_p95_seconds],
  },
  { name: "pending", format: formatCount, lines: [(point) => point.pending] },
];

/** Creates the charts, which stay up to date until `stop` is called. */
export function charts() {
  const all = CHARTS.map(chart);
  const start = html("span");
  const note = html("p", { class: "help" }, labels.empty);
  const body = html("div", { class: "charts" }, note, all.map((one) => one.element),
    html("p", { class: "axis", "aria-hidden": "true" }, start, html("span", {}, labels.to)));
  // On a phone, the charts are collapsed, so that the events are nearer to the top.
  const open = matchMedia("(min-width: 60rem)").matches;
  const element = html("details", { class: "hour", open, ontoggle: onToggle },
    html("summary", {}, html("h3", {}, labels.title)), body);
  let refreshedAt = 0;
  /** @type {number | undefined} */
  let retryTimer;

  async function refresh() {
    if (!element.open || document.hidden) return;
    clearTimeout(retryTimer);
    refreshedAt = Date.now();
    try {
      const { points } = await get("history");
      note.hidden = points.length > 0;
      body.toggleAttribute("data-empty", points.length === 0);
      if (points.length === 0) {
        retryTimer = setTimeout(refresh, RETRY_EMPTY_MS);
        return;
      }
      const range = rangeOf(points);
      start.textContent = labels.from(duration(range.width / 1000));
      for (const one of all) one.update(points, range);
    } catch {
      // The page already reports the lost connection; the charts keep showing the last data.
    }
  }

  // Browsers report an element that is open from the beginning, too.
  function onToggle() {
    if (Date.now() - refreshedAt > RETRY_EMPTY_MS) refresh();
  }

  const onVisible = () => Date.now() - refreshedAt > REFRESH_MS && refresh();

  function stop() {
    clearInterval(timer);
    clearTimeout(retryTimer);
    document.removeEventListener("visibilitychange", onVisible);
  }

  const timer = setInterval(refresh, REFRESH_MS);
  document.addEventListener("visibilitychange", onVisible);
  refresh();
  return { element, stop };
}

/**
 * Returns the time range to draw: from the first point to now, in whole minutes.
 * @param {HistoryPoint[]} points
 * @returns {TimeRange}
 */
function rangeOf(points) {
  const times = points.map((point) => Date.parse(point.at));
  const end = Math.max(now(), times[times.length - 1]);
  const age = Math.ceil((end - times[0]) / 60_000) * 60_000;
  return { end, width: Math.min(HOUR_MS, Math.max(SHORTEST_MS, age)) };
}

/**
 * Creates a chart. The pointer or the arrow keys choose a point, whose time and values are then shown.
 * @param {ChartKind} kind
 */
function chart({ name, format, lines }) {
  const { title, help } = labels[name];
  const value = html("span", { class: "value" });
  const area = svg("path", { class: "area" });
  const strokes = lines.map((_, i) => svg("path", { class: i === 0 ? "line" : "line thin" }));
  const cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT });
  const ground = svg("line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 });
  const drawing = svg("svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: 0 },
    area, strokes, ground, cursor);
  const announcement = html("span", { class: "visually-hidden", role: "status" });
  const element = html("figure", { class: `chart of-${name}` },
    html("figcaption", { title: help }, html("span", {}, title), value), drawing, announcement);
  /** @type {HistoryPoint[]} */
  let points = [];
  /** @type {TimeRange} */
  let range = { end: 0, width: HOUR_MS };
  /** @type {number | null} */
  let chosen = null;

  /** @param {HistoryPoint} point */
  const describe = (point) =>
    lines.map((line) => line(point)).map((n) => (n === null ? labels.noValue : format(n))).join(" · ");
  /** @param {HistoryPoint} point */
  const x = (point) => Math.max(0, WIDTH * (1 - (range.end - Date.parse(point.at)) / range.width));

  /**
   * @param {HistoryPoint[]} nextPoints
   * @param {TimeRange} nextRange
   */
  function update(nextPoints, nextRange) {
    points = nextPoints;
    range = nextRange;
    const values = points.flatMap((point) => lines.map((line) => line(point))).filter((n) => n !== null);
    const maximum = Math.max(0, ...values);
    /** @param {number} n */
    const y = (n) => HEIGHT - 1 - (HEIGHT - MARGIN_TOP - 1) * (maximum > 0 ? n / maximum : 0);
    const paths = lines.map((line) => segments(points, line, x, y));
    paths.forEach((path, i) => strokes[i].setAttribute("d", path.map(strokeOf).join("")));
    area.setAttribute("d", paths[0].map(areaOf).join(""));
    const current = describe(points[points.length - 1]);
    drawing.setAttribute("aria-label",
      labels.label(title, current, values.length > 0 ? format(maximum) : labels.noValue));
    showPoint();
  }

  /** Shows the values and the cursor of the chosen point, or the values of the newest one. */
  function showPoint() {
    const point = points[chosen ?? points.length - 1];
    cursor.toggleAttribute("data-on", chosen !== null);
    if (!point) return;
    if (chosen !== null) {
      cursor.setAttribute("x1", String(x(point)));
      cursor.setAttribute("x2", String(x(point)));
    }
    fill(value, chosen !== null && html("time", { class: "when" }, clockTime(point.at)),
      html("b", {}, describe(point)));
  }

  /**
   * @param {number | null} index
   * @param {boolean} [announce]
   */
  function choose(index, announce = false) {
    chosen = index;
    showPoint();
    announcement.textContent =
      announce && index !== null ? `${clockTime(points[index].at)}: ${describe(points[index])}` : "";
  }

  drawing.addEventListener("pointermove", (event) => {
    if (points.length === 0) return;
    const box = drawing.getBoundingClientRect();
    const time = range.end - range.width * (1 - (event.clientX - box.left) / box.width);
    /** @param {number} i */
    const distance = (i) => Math.abs(Date.parse(points[i].at) - time);
    choose(points.reduce((nearest, _, i) => (distance(i) < distance(nearest) ? i : nearest), 0));
  });
  drawing.addEventListener("pointerleave", () => choose(null));
  drawing.addEventListener("blur", () => choose(null));
  drawing.addEventListener("keydown", (event) => {
    const last = points.length - 1;
    const target = indexAfter(event.key, chosen ?? last, last);
    if (target === undefined || last < 0) return;
    event.preventDefault();
    choose(Math.min(last, Math.max(0, target)), true);
  });
  return { element, update };
}

/**
 * Returns the index that a key moves to, which may be out of bounds.
 * @param {string} key
 * @param {number} from
 * @param {number} last
 */
function indexAfter(key, from, last) {
  switch (key) {
    case "ArrowLeft": return from - 1;
    case "ArrowRight": return from + 1;
    case "Home": return 0;
    case "End": return last;
    default: return undefined;
  }
}

/** @typedef {{ x: string, y: string }[]} Segment */

/**
 * Returns the coordinates of a line, split where values are missing.
 * @param {HistoryPoint[]} points
 * @param {(point: HistoryPoint) => number | null} line
 * @param {(point: HistoryPoint) => number} x
 * @param {(value: number) => number} y
 */
function segments(points, line, x, y) {
  /** @type {Segment[]} */
  const all = [[]];
  for (const point of points) {
    const value = line(point);
    if (value === null) all.push([]);
    else all[all.length - 1].push({ x: x(point).toFixed(1), y: y(value).toFixed(1) });
  }
  return all.filter((segment) => segment.length > 0);
}

/** @param {Segment} segment */
const polyline = (segment) => segment.map(({ x, y }) => `${x} ${y}`).join("L");

/**
 * Returns the path of a line. A single point becomes a short dash.
 * @param {Segment} segment
 */
const strokeOf = (segment) => `M${polyline(segment)}${segment.length === 1 ? "h1.5" : ""}`;

/**
 * Returns the path of the area below a line.
 * @param {Segment} segment
 */
const areaOf = (segment) =>
  `M${segment[0].x} ${HEIGHT}L${polyline(segment)}L${segment[segment.length - 1].x} ${HEIGHT}Z`;
