// @ts-check
// The warnings of the connection card. Each opens to what it means and what to do. A person can hide one in this
// browser, until it comes again or gets worse.

/** @import { Warning, WarningKind } from "./types" */

import { fill, html, serverText, time } from "./dom.js";
import { texts } from "./texts.js";

const labels = texts.connection;
const KEY = "liveobject-hidden-warnings";

/**
 * What a warning was like when it was hidden.
 * @typedef {{ since: string, severity: number }} Hidden
 */

/**
 * Returns what was hidden in this browser, also by other tabs; `null` if the browser stores nothing.
 * @returns {Partial<Record<WarningKind, Hidden>> | null}
 */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return null;
  }
}

/** @param {Partial<Record<WarningKind, Hidden>>} hidden */
function store(hidden) {
  try {
    localStorage.setItem(KEY, JSON.stringify(hidden));
  } catch {
    // Without storage, they are hidden until the page is loaded again.
  }
}

/**
 * The warnings of a kind.
 * @typedef {{ kind: WarningKind, messages: string[], since: string, severity: number }} Group
 */

/**
 * @param {Warning[]} warnings
 * @returns {Group[]}
 */
function groups(warnings) {
  /** @type {Map<WarningKind, Group>} */
  const found = new Map();
  for (const { kind, message, since, severity } of warnings) {
    const group = found.get(kind);
    if (!group) {
      found.set(kind, { kind, messages: [message], since, severity });
      continue;
    }
    group.messages.push(message);
    if (Date.parse(since) > Date.parse(group.since)) group.since = since;
    group.severity = Math.max(group.severity, severity);
  }
  return [...found.values()];
}

/** Creates the list. */
export function warningList() {
  const list = html("div", { class: "warning-list" });
  const show = html("button", { type: "button", class: "quiet", onclick: showAll });
  const hiddenNote = html("p", { class: "hidden-warnings", hidden: true }, show);
  const element = html("div", { class: "warnings" }, list, hiddenNote);
  /** @type {Map<WarningKind, { element: HTMLDetailsElement, update: (group: Group) => void }>} */
  const shown = new Map();
  /** @type {Warning[]} */
  let current = [];
  let hidden = stored() ?? {};

  /**
   * Creates a warning. Its content is only replaced when it changes, so that it stays open and can be read.
   * @param {WarningKind} kind
   * @param {boolean} isOpen
   */
  function createItem(kind, isOpen) {
    const content = html("div");
    let text = "";
    /** @type {Group} */
    let last;
    const hide = html("button", {
      type: "button", class: "quiet", onclick: () => {
        hidden[kind] = { since: last.since, severity: last.severity };
        store(hidden);
        update(current);
        show.focus();
      },
    }, labels.hideWarning);
    const item = html("details", { class: "note warn", open: isOpen },
      html("summary", {}, html("h3", {}, labels.warnings[kind] ?? labels.warning)), content,
      html("div", { class: "row" }, hide));

    return {
      element: item,
      /** @param {Group} group */
      update(group) {
        last = group;
        const next = JSON.stringify([group.messages, group.since]);
        if (next === text) return;
        text = next;
        fill(content, group.messages.map((message) => serverText("p", {}, message)),
          html("p", { class: "sub" }, labels.warningSince, " ", time(group.since)));
      },
    };
  }

  /**
   * Returns whether a person has hidden these warnings, and they have neither come again nor got worse.
   * @param {Group} group
   */
  function isHidden({ kind, since, severity }) {
    const known = hidden[kind];
    return known !== undefined && known.since === since && severity <= known.severity;
  }

  /**
   * Shows these warnings.
   * @param {Warning[]} warnings
   */
  function update(warnings) {
    current = warnings;
    hidden = stored() ?? hidden;
    const all = groups(warnings);
    const visible = all.filter((group) => !isHidden(group));
    for (const [kind, item] of shown) {
      if (visible.some((group) => group.kind === kind)) continue;
      item.element.remove();
      shown.delete(kind);
    }
    for (const group of visible) {
      const item = shown.get(group.kind) ?? createItem(group.kind, all.length === 1);
      if (!shown.has(group.kind)) {
        shown.set(group.kind, item);
        list.append(item.element);
      }
      item.update(group);
    }
    const count = all.length - visible.length;
    hiddenNote.hidden = count === 0;
    const text = labels.hiddenWarnings(count);
    if (show.textContent !== text) show.textContent = text;
  }

  function showAll() {
    hidden = {};
    store(hidden);
    update(current);
    list.querySelector("summary")?.focus();
  }

  return { element, update };
}
