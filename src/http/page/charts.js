// @ts-check
// The charts: events per minute, delivery times and the backlog, of the last hour, day or week.

/** @import { ChartKind, HistoryPoint, HistoryRange, TimeRange } from "./types" */

import { now } from "./api.js";
import { chart, pointTime } from "./chart.js";
import { fill, html } from "./dom.js";
import { history } from "./history.js";
import { decimal, number } from "./locale.js";
import { texts } from "./texts.js";

const labels = texts.charts;
/** @type {Record<HistoryRange, { ms: number, refreshMs: number }>} */
const RANGES = {
  "1h": { ms: 3_600_000, refreshMs: 15_000 },
  "24h": { ms: 86_400_000, refreshMs: 60_000 },
  "7d": { ms: 604_800_000, refreshMs: 300_000 },
};
// The upper bound of the histogram's last bucket. Longer times cannot be distinguished.
const LONGEST_SECONDS = 8.19;

/** @param {number} value */
const formatCount = (value) => number(value, { maximumFractionDigits: value < 10 ? 1 : 0 });

/** @param {number} seconds */
function formatSeconds(seconds) {
  if (seconds > LONGEST_SECONDS) return labels.over;
  if (seconds < 0.001) return labels.under;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${decimal(seconds)} s`;
}

/** @type {ChartKind[]} */
const CHARTS = [
  { name: "events", format: formatCount, lines: [({ events }, minutes) => (events ?? 0) / minutes] },
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
  const axis = html("p", { class: "axis", "aria-hidden": "true" });
  const key = html("p", { class: "help key" }, labels.key);
  // The same range as the strip, so that one request serves both at first.
  /** @type {HistoryRange} */
  let range = "24h";
  const names = /** @type {HistoryRange[]} */ (Object.keys(RANGES));
  const buttons = names.map((name) => html("button", {
    type: "button", "aria-pressed": String(name === range), title: labels.ranges[name],
    onclick: () => choose(name),
  }, labels.shortRanges[name]));
  const body = html("div", { class: "charts" },
    html("div", { class: "ranges", role: "group", "aria-label": labels.rangesLabel }, buttons),
    all.map((one) => one.element), axis, key);
  // On a phone, the charts are collapsed, so that the events are nearer to the top.
  const open = matchMedia("(min-width: 60rem)").matches;
  const element = html("details", { class: "hour", open, ontoggle: () => refreshIfOld() },
    html("summary", {}, html("h3", {}, labels.title)), body);
  let refreshedAt = 0;

  /** @param {HistoryRange} next */
  function choose(next) {
    range = next;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(names[i] === range)));
    refresh();
  }

  async function refresh() {
    if (!element.open || document.hidden) return;
    refreshedAt = Date.now();
    const wanted = range;
    try {
      const { points, interval_seconds: interval } = await history(wanted);
      if (wanted === range) draw(points, interval * 1000);
    } catch {
      // The page already reports the lost connection; the charts keep showing the last data.
    }
  }

  /**
   * @param {HistoryPoint[]} points
   * @param {number} step
   */
  function draw(points, step) {
    const last = points[points.length - 1];
    const end = last ? Date.parse(last.at) : now();
    const { ms } = RANGES[range];
    /** @type {TimeRange} */
    const time = { start: end - ms, end, step, name: range };
    for (const one of all) one.update(points, time);
    const places = [time.start, end - ms / 2];
    fill(axis, places.map((at) => html("span", {}, pointTime(at, range === "7d"))), html("span", {}, labels.to));
  }

  const refreshIfOld = () => Date.now() - refreshedAt >= RANGES[range].refreshMs && refresh();

  function stop() {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", refreshIfOld);
  }

  const timer = setInterval(refreshIfOld, RANGES["1h"].refreshMs);
  document.addEventListener("visibilitychange", refreshIfOld);
  refresh();
  return { element, stop };
}
