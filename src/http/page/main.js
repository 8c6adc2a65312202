// @ts-check
// The page: signing in, the frame around the views, and the connections between the parts.

/** @import { BrokerCandidate, Camera, DeliveryChange, Navigation } from "./types" */
/** @import { Route, Scope, SettingsListener, ViewName } from "./types" */

import { messageOf, Problem, session } from "./api.js";
import { cameraPage } from "./camera-page.js";
import { camerasView } from "./cameras.js";
import { connectionCard } from "./connection.js";
import { busy, closeDialogs, fill, html, newId } from "./dom.js";
import { eventDetail } from "./event-detail.js";
import { eventsView } from "./events.js";
import { failedEvents } from "./failed-events.js";
import { brokerFinder } from "./finder.js";
import { firstEvent } from "./first-event.js";
import { helpButton, shortcuts } from "./keys.js";
import { applyLanguage } from "./language.js";
import { lightbox } from "./lightbox.js";
import { listen } from "./live.js";
import { createRouter, viewAddress } from "./router.js";
import { serviceView } from "./service.js";
import { settingsView } from "./settings.js";
import { texts } from "./texts.js";

/** @typedef {Exclude<ViewName, "camera">} TabName */

const app = /** @type {HTMLElement} */ (document.getElementById("app"));

/** @type {TabName[]} */
const TABS = ["events", "cameras", "settings", "service"];

/**
 * Stops what the signed-in page runs; `null` while nobody is signed in.
 * @type {(() => void) | null}
 */
let leave = null;

/** The one-time code in a link that signs in. */
const CODE = /^#code=(\w+)$/;

/** Returns the code in the link, if there is one, and removes it from the address bar. */
function takeCodeFromLink() {
  const found = CODE.exec(location.hash);
  if (!found) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  return found[1];
}

/** @param {Scope[]} scopes */
const canRead = (scopes) => scopes.includes("read") || scopes.includes("admin");

/** @param {unknown} error */
const signInError = (error) =>
  error instanceof Problem && error.status === 401 ? texts.signIn.wrong : messageOf(error);

/**
 * Signs in with the code of a link. Returns a message if that failed.
 * @param {string} code
 */
async function signInWithCode(code) {
  await language;
  try {
    await session.signInWithCode(code);
    return "";
  } catch (error) {
    return error instanceof Problem && error.status === 401 ? texts.signIn.linkUsed : messageOf(error);
  }
}

/** Resolves when the language of the page is loaded. */
const language = applyLanguage();

async function start() {
  const code = takeCodeFromLink();
  const failure = code ? await signInWithCode(code) : "";
  try {
    // The browser may be signed in even if the link was used before.
    const [{ scopes, can_sign_out: canSignOut }] = await Promise.all([session.check(), language]);
    if (scopes && canRead(scopes)) showPage(scopes, canSignOut);
    else showSignIn(scopes ? texts.signIn.sendOnly : failure);
  } catch (error) {
    await language;
    showSignIn(signInError(error));
  }
}

function brand() {
  const icon = html("img", { src: "page/icon.svg", alt: "", width: 28, height: 28 });
  return html("span", { class: "brand" }, icon, texts.name);
}

function showSignIn(message = "") {
  leave?.();
  leave = null;
  const input = html("input", {
    id: newId(), type: "password", name: "token", autocomplete: "current-password", spellcheck: "false",
    "aria-describedby": "token-help token-fault",
  });
  const fault = html("p", { class: "fault", id: "token-fault", role: "alert" }, message);
  const button = html("button", { class: "primary" }, texts.signIn.button);

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    const token = input.value.trim();
    if (token === "") {
      fault.textContent = texts.signIn.empty;
      input.focus();
      return;
    }
    button.disabled = true;
    try {
      const { scopes } = await session.signIn(token);
      if (scopes && canRead(scopes)) {
        showPage(scopes, true);
        return;
      }
      fault.textContent = texts.signIn.sendOnly;
    } catch (error) {
      fault.textContent = signInError(error);
    }
    button.disabled = false;
    input.select();
  }

  const form = html("form", { class: "card", onsubmit: submit },
    html("h1", {}, texts.signIn.title),
    html("div", { class: "field" },
      html("label", { for: input.id }, texts.signIn.token), input,
      html("p", { class: "help", id: "token-help" }, texts.signIn.help), fault),
    button);
  fill(app, html("main", { class: "sign-in" }, brand(), form));
  input.focus();
}

/** @typedef {"broker" | "test" | "save" | "event"} GuideStep */

/** @type {GuideStep[]} */
const GUIDE_STEPS = ["broker", "test", "save", "event"];

/**
 * Creates the guide to the first event. It ticks off the steps as they are completed. `first` is the content of its
 * last step. `onUse` is called with the broker that the user chooses.
 * @param {HTMLElement} first
 * @param {Navigation} navigation
 * @param {(candidate: BrokerCandidate) => void} onUse
 */
function guide(first, navigation, onUse) {
  const labels = texts.guide;
  const finder = brokerFinder(onUse);
  const steps = GUIDE_STEPS.map((name) => (
    { name, item: html("li", {}, html("div", {}, labels[name], name === "broker" && finder.element)) }));
  /** @type {Set<GuideStep>} */
  const done = new Set();
  const finish = () => {
    element.remove();
    navigation.open("#events");
  };
  const close = html("button", { type: "button", hidden: true, onclick: finish }, labels.done);
  const element = html("section", { class: "card guide", "aria-label": labels.title },
    html("h2", {}, labels.title),
    html("p", { class: "help" }, labels.text),
    html("ol", {}, steps.map(({ item }) => item)),
    first, close);

  function update() {
    const current = GUIDE_STEPS.find((name) => !done.has(name));
    for (const { name, item } of steps) {
      item.className = done.has(name) ? "done" : name === current ? "now" : "";
      if (name === current) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    finder.element.hidden = done.has("save");
    first.hidden = !done.has("save");
    close.hidden = done.size < steps.length;
  }

  /** @param {...GuideStep} names */
  function complete(...names) {
    for (const name of names) done.add(name);
    update();
  }

  /** @param {GuideStep} name */
  function reopen(name) {
    if (done.delete(name)) update();
  }

  update();
  finder.search();
  return { element, complete, reopen };
}

/** Creates the navigation between the views. */
function navigationBar() {
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
 * Creates the button that signs out. It asks for confirmation first when changes are not saved.
 * @param {() => boolean} hasUnsavedChanges
 */
function signOutButton(hasUnsavedChanges) {
  async function signOut() {
    if (hasUnsavedChanges() && !confirm(texts.settings.leave)) return;
    await session.signOut();
    showSignIn();
  }
  const onclick = () => { busy(button, signOut); };
  const button = html("button", { type: "button", class: "quiet", onclick }, texts.signIn.signOut);
  return button;
}

/**
 * Shows the frame: the skip link, the header, the connection card and the main content.
 * @param {{ header: Node[], lost: Node, aside: Node, content: Node[] }} parts
 */
function showFrame({ header, lost, aside, content }) {
  const main = html("main", { id: "content", tabindex: -1 }, content);
  /** @param {Event} event */
  const skip = (event) => {
    event.preventDefault();
    main.focus();
  };
  fill(app,
    html("a", { class: "skip", href: "#content", onclick: skip }, texts.skip),
    html("header", { class: "top" }, brand(), header),
    lost,
    html("div", { class: "columns" }, html("aside", {}, aside), main));
  document.body.append(html("p", { id: "toast", class: "toast", role: "status", popover: "manual" }));
}

/**
 * Creates all parts of the page and connects them with each other.
 * @param {Scope[]} scopes
 * @param {boolean} isFramed Whether the page is in the frame of Home Assistant.
 */
function createParts(scopes, isFramed) {
  const canChange = scopes.includes("admin");
  /** @type {ReturnType<typeof guide> | undefined} */
  let firstSteps;
  /** @type {Camera[]} */
  let known = [];
  const guidePlace = html("div");
  const options = { canChange, isFramed };
  const samples = {
    guide: firstEvent({ ...options, onArrived: () => firstSteps?.complete("event") }),
    events: firstEvent(options),
    cameras: firstEvent(options),
  };
  /** @type {Navigation} */
  const navigation = {
    open: (address, replaces) => router.open(address, replaces),
    openEvent: (id, isPicture) => router.openEvent(id, isPicture),
    close: () => router.close(),
  };
  const connection = connectionCard(canChange);
  const events = eventsView(navigation, samples.events.element);
  const failed = failedEvents(canChange, catchUp);
  const cameras = camerasView(setCameras, samples.cameras.element);
  const camera = cameraPage(canChange, navigation, cameras.refresh);
  const detail = eventDetail(canChange, navigation, updateLists);
  const picture = lightbox(navigation);
  const nav = navigationBar();

  /** @type {SettingsListener} */
  const settingsListener = {
    loaded(config) {
      detail.setTopicPrefix(config.topic_prefix);
      if (!canChange || config.managed || config.broker_host) return;
      firstSteps = guide(samples.guide.element, navigation, (broker) => {
        navigation.open("#settings");
        settings.useBroker(broker);
      });
      fill(guidePlace, firstSteps.element);
      if (!location.hash) navigation.open("#settings");
    },
    dirty(isDirty, isValid) {
      nav.tabs.settings.toggleAttribute("data-dirty", isDirty);
      if (isValid) firstSteps?.complete("broker");
      else firstSteps?.reopen("broker");
    },
    tested(success) {
      if (success) firstSteps?.complete("broker", "test");
    },
    saved(config) {
      detail.setTopicPrefix(config.topic_prefix);
      if (config.enabled) firstSteps?.complete("broker", "save");
    },
  };
  const settings = settingsView(canChange, settingsListener);
  const service = serviceView(scopes, isFramed);
  const views = {
    events: events.element, cameras: cameras.element, camera: camera.element, settings: settings.element,
    service: service.element,
  };

  /** @param {Camera[]} next */
  function setCameras(next) {
    known = next;
    events.setCameras(next);
    camera.setCameras(next);
    nav.setCameras(next);
  }

  /** @param {DeliveryChange[]} changes */
  function updateLists(changes) {
    events.list.updateDeliveries(changes);
    camera.list.updateDeliveries(changes);
  }

  function catchUp() {
    events.catchUp();
    camera.list.catchUp();
    failed.refresh();
  }

  const router = createRouter((route, previous) => {
    closeDialogs();
    for (const name of /** @type {ViewName[]} */ (Object.keys(views))) views[name].hidden = name !== route.view;
    if (previous && previous.view !== route.view) nav.remember(previous);
    nav.forget(route);
    nav.show(route);
    nav.setCameras(known);
    // The buttons apply to one camera, or to all.
    failed.setCamera(route.camera.includes(",") ? "" : route.camera, known);
    if (route.view === "events") events.show(route);
    if (route.view === "camera") camera.show(route);
    if (route.view === "cameras" && previous?.view !== "cameras") cameras.refresh();
    if (route.view === "settings" && previous && previous.view !== "settings") settings.refresh();
    if (route.view === "service" && previous?.view !== "service") service.refresh();
    const list = route.view === "camera" ? camera.list : events.list;
    if (route.view !== "camera" && route.event) events.show(route);
    detail.show(route.event ?? null, list);
    picture.show(route.event && route.isPicture ? route.event : null, list);
  });

  return {
    connection, events, cameras, camera, detail, failed, settings, service, nav, views, guidePlace, router, samples,
    updateLists, catchUp,
    // An established connection needs no test.
    onConnected: () => firstSteps?.complete("test"),
  };
}

/**
 * Passes the stream's messages to the parts of the page. Returns a function that stops it.
 * @param {ReturnType<typeof createParts>} parts
 * @param {HTMLElement} lost Shows that the connection to the server is lost.
 */
function followStream(parts, lost) {
  const { connection, events, cameras, camera, detail, failed, settings, nav, samples } = parts;
  return listen({
    status(status) {
      connection.update(status);
      failed.update(status);
      nav.setFailed(status.outbox.dead);
      if (status.connected) parts.onConnected();
    },
    event(event) {
      events.addEvent(event);
      camera.list.addEvent(event);
      cameras.refreshSoon();
    },
    delivery(changes) {
      parts.updateLists(changes);
      detail.updateDeliveries(changes);
      for (const sample of Object.values(samples)) sample.updateDeliveries(changes);
    },
    settings({ revision }) {
      settings.revised(revision);
    },
    reset() {
      parts.catchUp();
      cameras.refreshSoon();
    },
    lost(isLost) {
      lost.textContent = isLost ? texts.lost : "";
      connection.setLost(isLost);
      document.body.toggleAttribute("data-lost", isLost);
      if (isLost) return;
      if (!settings.isLoaded()) settings.load();
      events.list.recover();
      camera.list.recover();
      cameras.recover();
      detail.recover();
    },
  });
}

/**
 * Shows the page to somebody who has signed in with these scopes.
 * @param {Scope[]} scopes
 * @param {boolean} canSignOut
 */
function showPage(scopes, canSignOut) {
  leave?.();
  const parts = createParts(scopes, !canSignOut);
  const { connection, events, cameras, camera, failed, settings, service, nav, views, guidePlace, router } = parts;
  const lost = html("p", { class: "lost", role: "alert" });
  showFrame({
    header: [nav.element, helpButton(), ...(canSignOut ? [signOutButton(settings.isDirty)] : [])],
    lost,
    aside: connection.element,
    content: [nav.heading, guidePlace, failed.element, ...Object.values(views)],
  });

  const stopStream = followStream(parts, lost);
  const stopKeys = shortcuts(router.open);
  /** @param {Event} event */
  const warnOfUnsavedChanges = (event) => settings.isDirty() && event.preventDefault();
  window.addEventListener("beforeunload", warnOfUnsavedChanges);
  leave = () => {
    stopStream();
    stopKeys();
    router.stop();
    connection.stop();
    cameras.stop();
    events.stop();
    camera.list.stop();
    failed.stop();
    service.stop();
    nav.setFailed(0);
    window.removeEventListener("beforeunload", warnOfUnsavedChanges);
    document.body.removeAttribute("data-lost");
    for (const element of document.querySelectorAll("dialog, #toast")) element.remove();
  };
  router.route();
  settings.load();
  cameras.refresh();
}

document.addEventListener("signed-out", () => leave && showSignIn());
window.addEventListener("hashchange", () => CODE.test(location.hash) && start());
start();
