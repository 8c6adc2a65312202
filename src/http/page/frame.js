// @ts-check
// The frame around the views: the header with the navigation, the skip link, and the places for everything else.

/** @import { Camera, Route, ViewName } from "./types" */

import { fill, followHeight, html } from "./dom.js";
import { viewAddress } from "./router.js";
import { texts } from "./texts.js";

/** @typedef {Exclude<ViewName, "camera">} TabName */

/** @type {TabName[]} */
const TABS = ["events", "cameras", "settings", "service"];

export function brand() {
  const icon = html("img", { src: "page/icon.svg", alt: "", width: 28, height: 28 });
  return html("span", { class: "brand" }, icon, texts.name);
}

/** Creates the navigation between the views. */
export function navigationBar() {
  /** @param {TabName} name */
  const link = (name) => html("a", { href: `#${name}` }, texts.views[name]);
  const tabs = {
    events: link("events"), cameras: link("cameras"), settings: link("settings"), service: link("service"),
  };
  const badge = html("span", { class: "badge", hidden: true });
  tabs.events.append(badge);
  const element = html("nav", { "aria-label": texts.name }, Object.values(tabs));
  // For screen readers; the tabs already show the view's name.
  const heading = html("h1", { class: "visually-hidden" });
  /** @type {Route | undefined} */
  let current;
  let cameraName = "";
  let failed = 0;

  function updateTitle() {
    if (!current) return;
    const name = current.view === "camera" ? cameraName || current.camera : texts.views[current.view];
    heading.textContent = name;
    document.title = `${failed > 0 ? `(${failed}) ` : ""}${name} · ${texts.name}`;
  }

  /**
   * Marks the tab of a view.
   * @param {Route} route
   */
  function show(route) {
    current = route;
    const tab = route.view === "camera" ? "cameras" : route.view;
    for (const name of TABS) {
      if (name === tab) tabs[name].setAttribute("aria-current", "page");
      else tabs[name].removeAttribute("aria-current");
    }
    updateTitle();
  }

  /**
   * Lets the tab of a view that is left lead back to it, with its filters or its camera.
   * @param {Route} left
   */
  function remember(left) {
    tabs[left.view === "camera" ? "cameras" : left.view].href = viewAddress(left);
  }

  /**
   * Lets the tab of the current view lead to the view without filters.
   * @param {Route} entered
   */
  function forget(entered) {
    const tab = entered.view === "camera" ? "cameras" : entered.view;
    tabs[tab].href = `#${tab}`;
  }

  /** @param {number} count */
  function setFailed(count) {
    if (count === failed) return;
    failed = count;
    badge.hidden = count === 0;
    fill(badge, html("span", { "aria-hidden": "true" }, count > 99 ? "99+" : String(count)),
      html("span", { class: "visually-hidden" }, ` (${texts.failed.title(count)})`));
    const icon = /** @type {HTMLLinkElement | null} */ (document.querySelector("link[rel=icon]"));
    if (icon) icon.href = count > 0 ? "page/icon-alert.svg" : "page/icon.svg";
    updateTitle();
  }

  /** @param {Camera[]} cameras */
  function setCameras(cameras) {
    cameraName = cameras.find(({ camera_id }) => camera_id === current?.camera)?.camera_name ?? "";
    updateTitle();
  }

  return { element, heading, tabs, show, remember, forget, setFailed, setCameras };
}

/**
 * Shows the frame. Returns the places for the buttons of the header, for the connection, and for the views.
 * @param {HTMLElement} app
 * @param {ReturnType<typeof navigationBar>} nav
 * @param {HTMLElement} view The view that is shown first.
 */
export function showFrame(app, nav, view) {
  const main = html("main", { id: "content", tabindex: -1 }, nav.heading, view);
  /** @param {Event} event */
  const skip = (event) => {
    event.preventDefault();
    main.focus();
  };
  const header = html("header", { class: "top" }, brand(), nav.element);
  const lost = html("p", { class: "lost", role: "alert" });
  // As tall as the closed card of the connection on a phone, so that the list does not move when it arrives.
  const aside = html("aside", {}, html("div", { class: "card placeholder", "aria-hidden": "true" }));
  followHeight(aside, "--aside");
  fill(app,
    html("a", { class: "skip", href: "#content", onclick: skip }, texts.skip),
    header, lost, html("div", { class: "columns" }, aside, main));
  document.body.append(html("p", { id: "toast", class: "toast", role: "status", popover: "manual" }));
  return { header, lost, aside, main };
}
