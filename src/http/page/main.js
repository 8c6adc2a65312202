// @ts-check
// What `start.js` does not show: all parts of the page except the list of events, and their connections.

/** @import { FirstView } from "./start.js" */
/** @import { BrokerCandidate, Camera, DeliveryChange, Navigation } from "./types" */
/** @import { Scope, SettingsListener, ViewName } from "./types" */

import { session } from "./api.js";
import { cameraPage } from "./camera-page.js";
import { camerasView } from "./cameras.js";
import { connectionCard } from "./connection.js";
import { busy, closeDialogs, fill, html } from "./dom.js";
import { eventDetail } from "./event-detail.js";
import { failedEvents } from "./failed-events.js";
import { brokerFinder } from "./finder.js";
import { firstEvent } from "./first-event.js";
import { helpButton, shortcuts } from "./keys.js";
import { lightbox } from "./lightbox.js";
import { listen } from "./live.js";
import { serviceView } from "./service.js";
import { settingsView } from "./settings.js";
import { texts } from "./texts.js";

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

/**
 * Creates the button that signs out. It asks for confirmation first when changes are not saved.
 * @param {() => boolean} hasUnsavedChanges
 */
function signOutButton(hasUnsavedChanges) {
  async function signOut() {
    if (hasUnsavedChanges() && !confirm(texts.settings.leave)) return;
    await session.signOut();
    document.dispatchEvent(new Event("signed-out"));
  }
  const onclick = () => { busy(button, signOut); };
  const button = html("button", { type: "button", class: "quiet", onclick }, texts.signIn.signOut);
  return button;
}

/**
 * Creates all parts of the page and connects them with each other.
 * @param {FirstView} first
 * @param {Scope[]} scopes
 * @param {boolean} isFramed Whether the page is in the frame of Home Assistant.
 */
function createParts({ nav, navigation, noEvents, events, router }, scopes, isFramed) {
  const canChange = scopes.includes("admin");
  /** @type {ReturnType<typeof guide> | undefined} */
  let firstSteps;
  /** @type {Camera[]} */
  let known = [];
  const guidePlace = html("div");
  const options = { canChange, isFramed };
  const samples = {
    guide: firstEvent({ ...options, onArrived: () => firstSteps?.complete("event") }),
    events: firstEvent({ ...options, element: noEvents }),
    cameras: firstEvent(options),
  };
  const connection = connectionCard(canChange);
  const failed = failedEvents(canChange, catchUp);
  const cameras = camerasView(setCameras, samples.cameras.element);
  const camera = cameraPage(canChange, navigation, cameras.refresh);
  const detail = eventDetail(canChange, navigation, updateLists);
  const picture = lightbox(navigation);

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
    failed.setCameras(next);
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

  /** @type {Parameters<FirstView["takeOver"]>[0]} */
  const follow = (route, previous) => {
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
  };

  return {
    connection, events, cameras, camera, detail, failed, settings, service, nav, views, guidePlace, follow, samples,
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
  let isOpen = false;
  return listen({
    status(status) {
      // The stream's first message. The list of events was loaded before.
      if (!isOpen) events.list.update();
      isOpen = true;
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
      events.recover();
      camera.list.recover();
      cameras.recover();
      detail.recover();
    },
  });
}

/**
 * Adds everything else to the first view. Returns a function that stops the page.
 * @param {FirstView} first
 * @param {Scope[]} scopes
 * @param {boolean} canSignOut
 */
export function completePage(first, scopes, canSignOut) {
  const parts = createParts(first, scopes, !canSignOut);
  const { connection, cameras, camera, failed, settings, service, views, guidePlace } = parts;
  const { header, lost, aside, main } = first.frame;
  header.append(helpButton(), ...(canSignOut ? [signOutButton(settings.isDirty)] : []));
  fill(aside, connection.element);
  first.events.element.before(guidePlace, failed.element);
  main.append(...Object.values(views).filter((view) => view !== first.events.element));

  const stopStream = followStream(parts, lost);
  const stopKeys = shortcuts(first.router.open);
  /** @param {Event} event */
  const warnOfUnsavedChanges = (event) => settings.isDirty() && event.preventDefault();
  window.addEventListener("beforeunload", warnOfUnsavedChanges);
  first.takeOver(parts.follow);
  settings.load();
  cameras.refresh();
  return () => {
    first.stop();
    stopStream();
    stopKeys();
    connection.stop();
    cameras.stop();
    camera.list.stop();
    failed.stop();
    service.stop();
    window.removeEventListener("beforeunload", warnOfUnsavedChanges);
    document.body.removeAttribute("data-lost");
  };
}
