// @ts-check
// The controls above the events: the search, and the filters.

/** @import { Camera, EventFilters } from "./types" */

import { fill, foreign, html, newId, openWhenWide } from "./dom.js";
import { activeFilters, camerasOf } from "./filtering.js";
import { STATES } from "./router.js";
import { texts } from "./texts.js";

const labels = texts.find;
// Typing shows results after this pause.
const TYPING_MS = 300;
const MAX_CAMERAS = 32;

/**
 * @param {string} label
 * @param {HTMLElement} control
 */
const field = (label, control) => html("div", { class: "field" }, html("label", { for: control.id }, label), control);

/**
 * Creates the controls. `change` is called with the filters that somebody has changed, and with whether a search is
 * being typed. `hours` is the timeline.
 * @param {(changed: Partial<EventFilters>, isTyping?: boolean) => void} change
 * @param {HTMLElement} hours
 */
export function filterPanel(change, hours) {
  /** @type {EventFilters} */
  let filters = { camera: "", state: "" };
  /** @type {number | undefined} */
  let typing;

  /** @param {string} q */
  function search(q) {
    clearTimeout(typing);
    typing = undefined;
    if (q !== (filters.q ?? "")) change({ q }, true);
  }
  const input = html("input", {
    id: newId(), type: "search", class: "search", maxlength: 200, autocomplete: "off", enterkeyhint: "search",
    placeholder: labels.placeholder, "aria-label": labels.search, "aria-keyshortcuts": "/",
    oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => search(input.value.trim()), TYPING_MS);
    },
  });
  const searchForm = html("form", {
    class: "search-form", role: "search", onsubmit: (event) => {
      event.preventDefault();
      search(input.value.trim());
    },
  }, input);

  const cameras = cameraPicker((camera) => change({ camera }));
  /** @type {HTMLSelectElement} */
  const state = html("select", {
    id: newId(), onchange: () => change({ state: STATES.find((one) => one === state.value) ?? "" }),
  }, html("option", { value: "" }, texts.events.anyState),
  STATES.map((one) => html("option", { value: one }, texts.events.states[one])));
  const objects = html("datalist", { id: newId() });
  /** @type {HTMLInputElement} */
  const object = html("input", {
    id: newId(), type: "text", list: objects.id, maxlength: 64, autocomplete: "off", autocapitalize: "none",
    placeholder: labels.anyObject, onchange: () => change({ object: object.value.trim() }),
  });
  /** @type {HTMLInputElement} */
  const day = html("input", { id: newId(), type: "date", onchange: () => change({ day: day.value }) });
  /** @type {HTMLInputElement} */
  const from = html("input", { id: newId(), type: "time", onchange: () => change({ from: from.value }) });
  /** @type {HTMLInputElement} */
  const to = html("input", { id: newId(), type: "time", onchange: () => change({ to: to.value }) });

  const summary = html("summary", {}, labels.filters);
  const clear = html("button", { type: "button", class: "quiet", hidden: true, onclick: clearAll }, labels.clear);
  const details = html("details", { class: "more-filters" }, summary,
    html("div", { class: "filters" },
      html("div", { class: "field" }, html("span", { class: "label" }, texts.events.camera), cameras.element),
      field(texts.events.state, state), field(labels.object, object), field(labels.date, day),
      field(labels.from, from), field(labels.to, to)),
    objects);
  openWhenWide(details);
  const element = html("div", { class: "find" }, html("div", { class: "row" }, searchForm, clear),
    html("div", { class: "panels" }, details, hours));

  function clearAll() {
    input.value = "";
    change({ camera: "", state: "", q: "", object: "", day: "", from: "", to: "" });
    input.focus();
  }

  /**
   * Shows these filters.
   * @param {EventFilters} next
   */
  function show(next) {
    filters = next;
    // The text of somebody who is typing must not change.
    if (typing === undefined && input.value.trim() !== (next.q ?? "")) input.value = next.q ?? "";
    cameras.choose(camerasOf(next));
    state.value = next.state;
    object.value = next.object ?? "";
    day.value = next.day ?? "";
    from.value = next.from ?? "";
    to.value = next.to ?? "";
    const active = activeFilters(next);
    clear.hidden = active.length === 0;
    const inPanel = active.filter((name) => name !== "q").length;
    summary.textContent = inPanel > 0 ? labels.filtersSet(inPanel) : labels.filters;
  }

  /** @type {Set<string>} */
  const knownObjects = new Set();
  /** @param {string[]} names */
  function addObjects(names) {
    for (const name of names) {
      if (knownObjects.has(name) || knownObjects.size >= 200) continue;
      knownObjects.add(name);
      objects.append(html("option", { value: name }));
    }
  }

  return {
    element, show, addObjects, clear: clearAll, setCameras: cameras.setCameras,
    stop() {
      clearTimeout(typing);
      cameras.stop();
    },
  };
}

/**
 * Creates a menu of cameras, of which several can be chosen.
 * @param {(camera: string) => void} change Called with the chosen ids, separated by commas.
 */
function cameraPicker(change) {
  /** @type {string[]} */
  let chosen = [];
  /** @type {Map<string, string>} */
  let names = new Map();
  let drawn = "";
  const summary = foreign("summary", {}, texts.events.anyCamera);
  const list = html("fieldset", {}, html("legend", { class: "visually-hidden" }, texts.events.camera));
  const element = html("details", { class: "picker", onkeydown: onKey }, summary, list);

  /** @param {Event} event */
  function onKey(event) {
    if (!(event instanceof KeyboardEvent) || event.key !== "Escape" || !element.open) return;
    event.stopPropagation();
    element.open = false;
    summary.focus();
  }

  /** @param {Event} event */
  function closeOutside(event) {
    if (event.target instanceof Node && !element.contains(event.target)) element.open = false;
  }
  document.addEventListener("pointerdown", closeOutside);

  function boxes() {
    return /** @type {HTMLInputElement[]} */ ([...list.querySelectorAll("input")]);
  }

  function onChange() {
    change(boxes().filter((box) => box.checked).map((box) => box.value).join(","));
  }

  function draw() {
    // A camera of the address that is not known is offered, too.
    for (const id of chosen) if (!names.has(id)) names.set(id, id);
    const next = JSON.stringify([...names]);
    if (next !== drawn) {
      drawn = next;
      const [legend] = list.children;
      fill(list, legend, [...names].map(([id, name]) => html("label", { class: "choice" },
        html("input", { type: "checkbox", value: id, onchange: onChange }), foreign("span", {}, name))));
    }
    for (const box of boxes()) {
      box.checked = chosen.includes(box.value);
      box.disabled = !box.checked && chosen.length >= MAX_CAMERAS;
    }
    const [first] = chosen;
    summary.textContent = chosen.length > 1 ? labels.cameras(chosen.length)
      : first === undefined ? texts.events.anyCamera : names.get(first) ?? first;
  }

  return {
    element,
    /** @param {string[]} ids */
    choose(ids) {
      chosen = ids;
      draw();
    },
    /** @param {Camera[]} cameras */
    setCameras(cameras) {
      names = new Map(cameras.map(({ camera_id, camera_name }) => [camera_id, camera_name]));
      draw();
    },
    stop: () => document.removeEventListener("pointerdown", closeOutside),
  };
}
