// @ts-check
// One small chart with its scale. Plain SVG, no library.

/** @import { ChartKind, HistoryPoint, TimeRange, Timestamp } from "./types" */

import { fill, html, svg } from "./dom.js";
import { dateTime } from "./locale.js";
import { texts } from "./texts.js";

const labels = texts.charts;
const WIDTH = 300;
const HEIGHT = 44;
const MARGIN_TOP = 3;
// If the largest value is this many times the usual ones, the scale is that of the usual ones.
const CLIPPED_ABOVE = 8;
const USUAL_SHARE = 0.9;

/**
 * Formats the time of a point.
 * @param {Timestamp | number} time
 * @param {boolean} withDay
 */
export function pointTime(time, withDay) {
  const clock = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit" });
  return dateTime(time, withDay ? { weekday: "short", ...clock } : clock);
}

/**
 * Returns the top of a scale: the next 1, 2 or 5 times a power of ten.
 * @param {number} value
 */
function roundedUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 5, 10].find((one) => one * power >= value * 0.9999) ?? 10;
  return factor * power;
}

/**
 * Returns the top of the scale. A short peak does not flatten everything else: it is cut off.
 * @param {number[]} values
 */
export function scaleTop(values) {
  const maximum = Math.max(0, ...values);
  const sorted = values.filter((value) => value > 0).sort((a, b) => a - b);
  const usual = sorted[Math.floor((sorted.length - 1) * USUAL_SHARE)] ?? maximum;
  return roundedUp(maximum > CLIPPED_ABOVE * usual ? 2 * usual : maximum);
}

/**
 * Creates a chart. The pointer or the arrow keys choose a point, whose time and values are then shown.
 * @param {ChartKind} kind
 */
export function chart({ name, format, lines }) {
  const { title, help } = labels[name];
  const value = html("span", { class: "value" });
  const gaps = svg("path", { class: "gap" });
  const area = svg("path", { class: "area" });
  const strokes = lines.map((_, i) => svg("path", { class: i === 0 ? "line" : "line thin" }));
  const dots = svg("path", { class: "dots" });
  const cut = svg("path", { class: "cut" });
  const cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT });
  const grid = [MARGIN_TOP, HEIGHT - 0.5].map((y) => svg("line", { class: "ground", x1: 0, x2: WIDTH, y1: y, y2: y }));
  const drawing = svg("svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: 0 },
    gaps, grid, area, strokes, dots, cut, cursor);
  const top = html("span", { class: "top-label", "aria-hidden": "true" });
  const peak = html("span", { class: "peak", "aria-hidden": "true" });
  const announcement = html("span", { class: "visually-hidden", role: "status" });
  const element = html("figure", { class: `chart of-${name}` },
    html("figcaption", { title: help }, html("span", {}, title), value),
    html("div", { class: "plot" }, drawing, top, peak), announcement);
  /** @type {HistoryPoint[]} */
  let points = [];
  /** @type {TimeRange} */
  let range = { start: 0, end: 1, step: 60_000, name: "1h" };
  /** @type {number | null} */
  let chosen = null;

  /** @param {HistoryPoint} point */
  const valuesOf = (point) =>
    (point.state === "known" ? lines.map((line) => line(point, range.step / 60_000)) : lines.map(() => null));
  /** @param {HistoryPoint} point */
  function describe(point) {
    if (point.state !== "known") return labels.states[point.state];
    return valuesOf(point).map((n) => (n === null ? labels.noValue : format(n))).join(" · ");
  }
  /** @param {number} time */
  const place = (time) => Math.min(WIDTH, Math.max(0, WIDTH * (time - range.start) / (range.end - range.start)));
  /** @param {HistoryPoint} point */
  const x = (point) => place(Date.parse(point.at));

  /**
   * @param {HistoryPoint[]} nextPoints
   * @param {TimeRange} nextRange
   */
  function update(nextPoints, nextRange) {
    if (nextRange.name !== range.name) chosen = null;
    points = nextPoints;
    range = nextRange;
    const values = points.flatMap(valuesOf).filter((n) => n !== null);
    const maximum = Math.max(0, ...values);
    const scale = scaleTop(values);
    /** @param {number} n */
    const y = (n) => HEIGHT - 1 - (HEIGHT - MARGIN_TOP - 1) * Math.min(1, n / scale);
    const paths = lines.map((_, i) => segments(points, (point) => valuesOf(point)[i], x, y));
    paths.forEach((path, i) => strokes[i].setAttribute("d", path.map(strokeOf).join("")));
    area.setAttribute("d", paths[0].map(areaOf).join(""));
    const single = paths.flat().filter((segment) => segment.length === 1);
    dots.setAttribute("d", single.map(([place]) => `M${place.x} ${place.y}h.01`).join(""));
    const high = points.filter((point) => valuesOf(point).some((n) => n !== null && n > scale));
    cut.setAttribute("d", high.map((point) => `M${x(point).toFixed(1)} ${MARGIN_TOP}h.01`).join(""));
    gaps.setAttribute("d", points.filter(({ state }) => state !== "known").map(gapOf).join(""));
    top.textContent = format(scale);
    peak.textContent = high.length > 0 ? labels.peak(format(maximum)) : "";
    const current = points.length > 0 ? describe(points[points.length - 1]) : labels.noValue;
    drawing.setAttribute("aria-label", labels.label(
      title, labels.ranges[range.name], current,
      values.length > 0 ? format(maximum) : labels.noValue));
    showPoint();
  }

  /**
   * Returns the path of the area of a point whose values are not known.
   * @param {HistoryPoint} point
   */
  function gapOf(point) {
    const end = Date.parse(point.at);
    const [left, right] = [place(end - range.step), place(end)];
    return `M${left.toFixed(1)} 0H${right.toFixed(1)}V${HEIGHT}H${left.toFixed(1)}Z`;
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
    fill(value, chosen !== null && html("time", { class: "when" }, pointTime(point.at, range.name === "7d")),
      html("b", {}, describe(point)));
  }

  /**
   * @param {number | null} index
   * @param {boolean} [announce]
   */
  function choose(index, announce = false) {
    chosen = index;
    showPoint();
    announcement.textContent = announce && index !== null
      ? `${pointTime(points[index].at, range.name === "7d")}: ${describe(points[index])}` : "";
  }

  drawing.addEventListener("pointermove", (event) => {
    if (points.length === 0) return;
    const box = drawing.getBoundingClientRect();
    const time = range.start + (range.end - range.start) * (event.clientX - box.left) / box.width;
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
export function indexAfter(key, from, last) {
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

/** @param {Segment} segment */
const strokeOf = (segment) => `M${polyline(segment)}`;

/**
 * Returns the path of the area below a line.
 * @param {Segment} segment
 */
const areaOf = (segment) =>
  `M${segment[0].x} ${HEIGHT}L${polyline(segment)}L${segment[segment.length - 1].x} ${HEIGHT}Z`;
