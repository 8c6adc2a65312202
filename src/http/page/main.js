// @ts-check
// The page: signing in, the frame around the views, and the connections between the parts.

/** @import { BrokerCandidate, Scope, SettingsListener } from "./types" */

import { messageOf, Problem, session } from "./api.js";
import { camerasView } from "./cameras.js";
import { connectionCard } from "./connection.js";
import { busy, fill, html, newId } from "./dom.js";
import { eventsView } from "./events.js";
import { brokerFinder } from "./finder.js";
import { listen } from "./live.js";
import { settingsView } from "./settings.js";
import { texts } from "./texts.js";

/** @typedef {"events" | "cameras" | "settings"} ViewName */

const app = /** @type {HTMLElement} */ (document.getElementById("app"));

/** @type {ViewName[]} */
const VIEWS = ["events", "cameras", "settings"];

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
  try {
    await session.signInWithCode(code);
    return "";
  } catch (error) {
    return error instanceof Problem && error.status === 401 ? texts.signIn.linkUsed : messageOf(error);
  }
}

async function start() {
  const code = takeCodeFromLink();
  const failure = code ? await signInWithCode(code) : "";
  try {
    // The browser may be signed in even if the link was used before.
    const { scopes, can_sign_out: canSignOut } = await session.check();
    if (scopes && canRead(scopes)) showPage(scopes, canSignOut);
    else showSignIn(scopes ? texts.signIn.sendOnly : failure);
  } catch (error) {
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

/** @typedef {"broker" | "test" | "save" | "message"} GuideStep */

/** @type {GuideStep[]} */
const GUIDE_STEPS = ["broker", "test", "save", "message"];

/**
 * Creates the guide to the first connection. It ticks off the steps as they are completed. `onUse` is called with the
 * broker that the user chooses.
 * @param {(candidate: BrokerCandidate) => void} onUse
 */
function guide(onUse) {
  const labels = texts.guide;
  const finder = brokerFinder(onUse);
  const steps = GUIDE_STEPS.map((name) => (
    { name, item: html("li", {}, html("div", {}, labels[name], name === "broker" && finder.element)) }));
  /** @type {Set<GuideStep>} */
  const done = new Set();
  const close = html("button", { type: "button", hidden: true, onclick: () => { element.remove(); } }, labels.done);
  const element = html("section", { class: "card guide", "aria-label": labels.title },
    html("h2", {}, labels.title),
    html("p", { class: "help" }, labels.text),
    html("ol", {}, steps.map(({ item }) => item)),
    close);

  function update() {
    const current = GUIDE_STEPS.find((name) => !done.has(name));
    for (const { name, item } of steps) {
      item.className = done.has(name) ? "done" : name === current ? "now" : "";
      if (name === current) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    finder.element.hidden = done.has("save");
    close.hidden = done.size < steps.length;
  }

  /** @param {...GuideStep} names */
  function complete(...names) {
    for (const name of names) done.add(name);
    update();
  }

  update();
  finder.search();
  return { element, complete };
}

/**
 * Creates the navigation between the views. `onShow` is called with the name of each view that is opened.
 * @param {Record<ViewName, HTMLElement>} views
 * @param {(name: ViewName) => void} onShow
 */
function navigation(views, onShow) {
  /** @param {ViewName} name */
  const link = (name) => html("a", { href: `#${name}` }, texts.views[name]);
  const tabs = { events: link("events"), cameras: link("cameras"), settings: link("settings") };
  const element = html("nav", { "aria-label": texts.name }, Object.values(tabs));
  // For screen readers; the tabs already show the view's name.
  const heading = html("h1", { class: "visually-hidden" });

  /** Shows the view that the address names, by default the first one. */
  function route() {
    const current = VIEWS.find((name) => location.hash === `#${name}`) ?? "events";
    for (const name of VIEWS) {
      views[name].hidden = name !== current;
      if (name === current) tabs[name].setAttribute("aria-current", "page");
      else tabs[name].removeAttribute("aria-current");
    }
    heading.textContent = texts.views[current];
    document.title = `${texts.views[current]} · ${texts.name}`;
    onShow(current);
  }

  return { element, heading, tabs, route };
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
    html("div", { class: "columns" }, html("aside", {}, aside), main),
    html("p", { id: "toast", class: "toast", role: "status" }));
}

/**
 * Creates all parts of the page and connects them with each other.
 * @param {boolean} canChange
 */
function createParts(canChange) {
  /** @type {ReturnType<typeof guide> | undefined} */
  let firstSteps;
  const guidePlace = html("div");
  const connection = connectionCard(canChange, (success) => success && firstSteps?.complete("message"));
  const events = eventsView(canChange);
  const cameras = camerasView(canChange, events.setCameras);

  /** @type {SettingsListener} */
  const settingsListener = {
    loaded(config) {
      events.setTopicPrefix(config.topic_prefix);
      if (!canChange || config.managed || config.broker_host) return;
      firstSteps = guide((broker) => {
        location.hash = "#settings";
        settings.useBroker(broker);
      });
      fill(guidePlace, firstSteps.element);
      if (!location.hash) location.hash = "#settings";
    },
    dirty(isDirty) {
      nav.tabs.settings.toggleAttribute("data-dirty", isDirty);
      if (isDirty) firstSteps?.complete("broker");
    },
    tested(success) {
      if (success) firstSteps?.complete("broker", "test");
    },
    saved(config) {
      events.setTopicPrefix(config.topic_prefix);
      if (config.enabled) firstSteps?.complete("broker", "save");
    },
  };
  const settings = settingsView(canChange, settingsListener);
  const views = { events: events.element, cameras: cameras.element, settings: settings.element };
  const nav = navigation(views, (name) => name === "cameras" && cameras.refresh());
  // An established connection needs no test.
  const onConnected = () => firstSteps?.complete("test");
  return { connection, events, cameras, settings, nav, views, guidePlace, onConnected };
}

/**
 * Passes the stream's messages to the parts of the page. Returns a function that stops it.
 * @param {ReturnType<typeof createParts>} parts
 * @param {HTMLElement} lost Shows that the connection to the server is lost.
 */
function followStream({ connection, events, cameras, settings, onConnected }, lost) {
  return listen({
    status(status) {
      connection.update(status);
      if (status.connected) onConnected();
    },
    event(event) {
      events.addEvent(event);
      cameras.refreshSoon();
    },
    delivery: events.updateDeliveries,
    reset() {
      events.reload();
      cameras.refreshSoon();
    },
    lost(isLost) {
      lost.textContent = isLost ? texts.lost : "";
      document.body.toggleAttribute("data-lost", isLost);
      if (!isLost && !settings.isLoaded()) settings.load();
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
  const parts = createParts(scopes.includes("admin"));
  const { connection, events, cameras, settings, nav, views, guidePlace } = parts;
  const lost = html("p", { class: "lost", role: "alert" });
  showFrame({
    header: canSignOut ? [nav.element, signOutButton(settings.isDirty)] : [nav.element],
    lost,
    aside: connection.element,
    content: [nav.heading, guidePlace, ...Object.values(views)],
  });

  const stopStream = followStream(parts, lost);
  /** @param {Event} event */
  const warnOfUnsavedChanges = (event) => settings.isDirty() && event.preventDefault();
  window.addEventListener("hashchange", nav.route);
  window.addEventListener("beforeunload", warnOfUnsavedChanges);
  leave = () => {
    stopStream();
    connection.stop();
    cameras.stop();
    window.removeEventListener("hashchange", nav.route);
    window.removeEventListener("beforeunload", warnOfUnsavedChanges);
    document.body.removeAttribute("data-lost");
    for (const dialog of document.querySelectorAll("dialog")) dialog.remove();
  };
  nav.route();
  settings.load();
  cameras.refresh();
  events.reload();
}

document.addEventListener("signed-out", () => leave && showSignIn());
window.addEventListener("hashchange", () => CODE.test(location.hash) && start());
start();
