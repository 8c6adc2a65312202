// @ts-check
// The last lines of the service's log. They are loaded when the section is opened, and followed while it is visible.

/** @import { Log, LogLevel, LogLine } from "./types" */

import { get, messageOf } from "./api.js";
import { clockTime, copy, fill, foreign, html, newId, toast } from "./dom.js";
import { dateTime } from "./locale.js";
import { texts } from "./texts.js";

const labels = texts.log;
const FOLLOW_MS = 3000;
/** The server keeps the same number. */
const MAX_LINES = 1000;

/** @type {LogLevel[]} */
const LEVELS = ["error", "warn", "info", "debug", "trace"];

/** @param {string} at */
function shownTime(at) {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clockTime(at) : dateTime(at, { dateStyle: "short", timeStyle: "medium" });
}

/** @param {LogLine} line */
const asText = ({ at, level, target, message }) => `${at} ${level.toUpperCase().padStart(5)} ${target}: ${message}`;

/**
 * A line of the list: its element, and its text for the search and for copies.
 * @typedef {{ element: HTMLElement, text: string }} Row
 */

/**
 * @param {LogLine} line
 * @returns {Row}
 */
function lineRow(line) {
  const { at, level, target, message, truncated } = line;
  const element = html("li", { class: `of-${level}` },
    html("span", { class: "at", title: at }, shownTime(at)),
    html("span", { class: "level" }, labels.levels[level]),
    html("span", { class: "target" }, target),
    foreign("span", { class: "message", lang: "en" }, message),
    truncated && html("span", { class: "sub" }, labels.truncated));
  return { element, text: asText(line) };
}

/**
 * Creates a row that is not a line of the log.
 * @param {string} text
 * @returns {Row}
 */
const noteRow = (text) => ({ element: html("li", { class: "log-note" }, text), text: `--- ${text}` });

/** @param {string} text */
function download(text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  html("a", { href: address, download: `liveobject-${new Date().toISOString().replaceAll(":", "-")}.log` }).click();
  // Browsers begin the download at once.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Creates the section. */
export function logView() {
  /** @type {Row[]} */
  let rows = [];
  /** @type {number | null} */
  let after = null;
  let beganAt = "";
  let isLoading = false;
  /** @type {number | undefined} */
  let timer;

  const level = html("select", { id: newId(), name: "log_level", onchange: restart },
    LEVELS.map((name) => html("option", { value: name }, labels.fromLevel[name])));
  level.value = "info";
  const search = html("input", {
    id: newId(), name: "log_search", type: "search", autocomplete: "off", spellcheck: "false", oninput: filter,
  });
  const follow = html("input", { id: newId(), type: "checkbox", role: "switch", name: "log_follow", checked: true });
  const list = html("ol", {});
  const box = html("div", {
    class: "log-lines", role: "log", "aria-live": "off", "aria-label": labels.title, tabindex: 0,
  }, list);
  const count = html("p", { class: "sub", role: "status" });
  const fault = html("p", { class: "result bad", role: "alert" });
  const element = html("details", { class: "card log", ontoggle: toggled },
    html("summary", {}, html("h2", {}, labels.title)),
    html("p", { class: "help" }, labels.help),
    html("div", { class: "grid" },
      html("div", { class: "field" }, html("label", { for: level.id }, labels.level), level),
      html("div", { class: "field" }, html("label", { for: search.id }, labels.search), search)),
    html("label", { class: "switch", for: follow.id }, follow, labels.follow),
    box, fault,
    html("div", { class: "row" },
      html("button", { type: "button", onclick: copyAll }, labels.copy),
      html("button", { type: "button", onclick: () => download(shownText()) }, labels.download), count));

  const shownRows = () => rows.filter((row) => !row.element.hidden);
  const shownText = () => `${shownRows().map((row) => row.text).join("\n")}\n`;

  async function copyAll() {
    const number = shownRows().length;
    await copy(shownText());
    toast(labels.copied(number));
  }

  /** @param {Row} row */
  const isWanted = (row) => row.text.toLowerCase().includes(search.value.trim().toLowerCase());

  function filter() {
    for (const row of rows) row.element.hidden = !isWanted(row);
    count.textContent = labels.count(shownRows().length, rows.length);
  }

  /** @param {Row[]} more */
  function append(more) {
    const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
    for (const row of more) row.element.hidden = !isWanted(row);
    rows.push(...more);
    for (const row of rows.splice(0, Math.max(0, rows.length - MAX_LINES))) row.element.remove();
    list.append(...more.map((row) => row.element).filter((_, index) => index >= more.length - MAX_LINES));
    count.textContent = labels.count(shownRows().length, rows.length);
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }

  /** @param {Log} log */
  function take(log) {
    const isFirst = beganAt === "";
    const isRestarted = !isFirst && log.began_at !== beganAt;
    beganAt = log.began_at;
    if (isRestarted) {
      // Its lines have other numbers, so they are all loaded.
      after = null;
      append([noteRow(labels.restarted)]);
      return load();
    }
    after = log.next_after;
    const missed = log.missed > 0 ? [noteRow(labels.missed(log.missed))] : [];
    append([...missed, ...log.lines.map(lineRow)]);
    return undefined;
  }

  /** @returns {Promise<void>} */
  async function load() {
    const wanted = level.value;
    const query = after === null ? "" : `&after=${after}`;
    try {
      const log = await get(`log?level=${wanted}${query}`);
      fault.textContent = "";
      // If the level was changed in the meantime, the lines are loaded again.
      if (wanted === level.value) await take(log);
    } catch (error) {
      fault.textContent = messageOf(error);
    }
  }

  async function loadOnce() {
    if (isLoading) return;
    isLoading = true;
    await load();
    isLoading = false;
  }

  function schedule() {
    clearTimeout(timer);
    timer = setTimeout(tick, FOLLOW_MS);
  }

  async function tick() {
    // In another view or tab, nobody sees the log.
    if (follow.checked && !document.hidden && element.checkVisibility()) await loadOnce();
    if (element.open) schedule();
  }

  /** Loads the lines of another level. */
  async function restart() {
    rows = [];
    after = null;
    beganAt = "";
    fill(list);
    isLoading = false;
    await loadOnce();
    schedule();
  }

  function toggled() {
    if (element.open) restart();
    else clearTimeout(timer);
  }

  /** Stops following the log. */
  function stop() {
    element.open = false;
    clearTimeout(timer);
  }

  return { element, stop };
}
