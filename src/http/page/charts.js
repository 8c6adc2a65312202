// The last hour, drawn small: events per minute, how long deliveries took, and what waits. Plain SVG, no library.

import { get, now } from "./api.js";
import { fill, h, s, span } from "./dom.js";
import { T } from "./texts.js";

const C = T.charts;
const HOUR_MS = 3_600_000;
// A service that has just started is drawn over a shorter time.
const LEAST_MS = 300_000;
const REFRESH_MS = 15_000;
const EMPTY_MS = 3000;
const WIDTH = 300, HEIGHT = 44, TOP = 3;

const number = (n) => n.toLocaleString();
/** Seconds as an estimate is told: of what is past the histogram's last bound only that is known. */
const duration = (s) => (s > 8.19 ? C.longer : s < 0.001 ? C.under : s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(1)} s`);
const clock = (at) => new Date(at).toLocaleTimeString(undefined, { timeStyle: "short" });

/** The three charts, and what each point says; below the first line it is filled. */
const CHARTS = [
  { name: "events", show: number, lines: [(p) => p.events_per_minute] },
  { name: "latency", show: duration, lines: [(p) => p.delivery_p50_seconds, (p) => p.delivery_p95_seconds] },
  { name: "pending", show: number, lines: [(p) => p.pending] },
];

/** The part of the card; it keeps itself up to date until `stop`. */
export function charts() {
  const drawn = CHARTS.map(chart);
  const from = h("span");
  const note = h("p", { class: "help" }, C.none);
  const body = h("div", { class: "charts" }, note, drawn.map((one) => one.element),
    h("p", { class: "axis", "aria-hidden": "true" }, from, h("span", {}, C.to)));
  // On a telephone the events come first.
  const element = h("details", { class: "hour", open: matchMedia("(min-width: 60rem)").matches, ontoggle: () => refresh() },
    h("summary", {}, h("h3", {}, C.title)), body);
  let asked = 0, first;

  async function refresh() {
    if (!element.open || document.hidden) return;
    clearTimeout(first);
    asked = Date.now();
    try {
      const { points } = await get("history");
      note.hidden = points.length > 0;
      body.toggleAttribute("data-empty", points.length === 0);
      if (points.length === 0) {
        first = setTimeout(refresh, EMPTY_MS);
        return;
      }
      const scale = scaleOf(points);
      from.textContent = C.from(span(scale.width / 1000));
      for (const one of drawn) one.update(points, scale);
    } catch {
      // The page tells by itself that the server is lost; the charts stand still meanwhile.
    }
  }

  const seen = () => Date.now() - asked > REFRESH_MS && refresh();
  const timer = setInterval(refresh, REFRESH_MS);
  document.addEventListener("visibilitychange", seen);
  refresh();
  return { element, stop: () => (clearInterval(timer), clearTimeout(first), document.removeEventListener("visibilitychange", seen)) };
}

/** The time that is drawn: from the first point to now, in whole minutes. */
function scaleOf(points) {
  const end = Math.max(now(), Date.parse(points.at(-1).at));
  const age = Math.ceil((end - Date.parse(points[0].at)) / 60_000) * 60_000;
  return { end, width: Math.min(HOUR_MS, Math.max(LEAST_MS, age)) };
}

function chart({ name, show, lines }) {
  const [title, help] = C.of[name];
  const value = h("span", { class: "value" });
  const area = s("path", { class: "area" });
  const strokes = lines.map((_, i) => s("path", { class: i === 0 ? "line" : "line thin" }));
  const cursor = s("line", { class: "cursor", y1: 0, y2: HEIGHT });
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: 0 },
    area, strokes, s("line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), cursor);
  const said = h("span", { class: "visually-hidden", role: "status" });
  const element = h("figure", { class: `chart of-${name}` },
    h("figcaption", { title: help }, h("span", {}, title), value), picture, said);
  let points = [], scale, chosen = null;

  const of = (point) => lines.map((line) => line(point)).map((n) => (n === null ? C.nothing : show(n))).join(" · ");
  const x = (point) => Math.max(0, WIDTH * (1 - (scale.end - Date.parse(point.at)) / scale.width));

  function update(nextPoints, nextScale) {
    points = nextPoints;
    scale = nextScale;
    const all = points.flatMap((point) => lines.map((line) => line(point))).filter((n) => n !== null);
    const most = Math.max(0, ...all);
    const y = (n) => HEIGHT - 1 - (HEIGHT - TOP - 1) * (most > 0 ? n / most : 0);
    const place = (point, n) => `${x(point).toFixed(1)} ${y(n).toFixed(1)}`;
    // Where nothing is known the line has a gap.
    const runs = (line) => points.reduce((runs, point) => {
      if (line(point) === null) runs.push([]);
      else runs.at(-1).push(point);
      return runs;
    }, [[]]).filter((run) => run.length > 0);
    strokes.forEach((stroke, i) => stroke.setAttribute("d", runs(lines[i])
      .map((run) => `M${run.map((point) => place(point, lines[i](point))).join("L")}${run.length === 1 ? "h1.5" : ""}`).join("")));
    area.setAttribute("d", runs(lines[0]).map((run) =>
      `M${x(run[0]).toFixed(1)} ${HEIGHT}L${run.map((point) => place(point, lines[0](point))).join("L")}L${x(run.at(-1)).toFixed(1)} ${HEIGHT}Z`).join(""));
    picture.setAttribute("aria-label", C.label(title, of(points.at(-1)), all.length > 0 ? show(most) : C.nothing));
    mark();
  }

  /** What the value says, and where the cursor stands: the point under the pointer, else the newest one. */
  function mark() {
    const point = points[chosen ?? points.length - 1];
    cursor.toggleAttribute("data-on", chosen !== null);
    if (!point) return;
    if (chosen !== null) {
      const at = x(point);
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
    }
    fill(value, chosen !== null && h("time", { class: "when" }, clock(point.at)), h("b", {}, of(point)));
  }

  function choose(index, isKey) {
    chosen = index;
    mark();
    said.textContent = isKey && index !== null ? `${clock(points[index].at)}: ${of(points[index])}` : "";
  }

  picture.addEventListener("pointermove", (event) => {
    if (points.length === 0) return;
    const box = picture.getBoundingClientRect();
    const at = scale.end - scale.width * (1 - (event.clientX - box.left) / box.width);
    const distance = (i) => Math.abs(Date.parse(points[i].at) - at);
    choose(points.reduce((nearest, _, i) => (distance(i) < distance(nearest) ? i : nearest), 0));
  });
  picture.addEventListener("pointerleave", () => choose(null));
  picture.addEventListener("blur", () => choose(null));
  picture.addEventListener("keydown", (event) => {
    const last = points.length - 1, from = chosen ?? last;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    choose(Math.min(last, Math.max(0, to)), true);
  });
  return { element, update };
}
