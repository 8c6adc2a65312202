// The page: signing in, the frame, and who tells whom.

import { session } from "./api.js";
import { camerasView } from "./cameras.js";
import { connectionCard } from "./connection.js";
import { busy, fill, h, newId } from "./dom.js";
import { eventsView } from "./events.js";
import { listen } from "./live.js";
import { settingsView } from "./settings.js";
import { T } from "./texts.js";

const app = document.getElementById("app");
const VIEWS = ["events", "cameras", "settings"];
let leave = null;

/** A link with the token signs in, once; then the address is clean, in the history as well. */
function tokenOfLink() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return found[1];
  }
}

const mayLook = (scopes) => scopes?.some((scope) => scope === "read" || scope === "admin");

async function start() {
  const token = tokenOfLink();
  try {
    const { scopes } = token ? await session.signIn(token) : await session.look();
    if (mayLook(scopes)) return showPage(scopes);
    showSignIn(scopes ? T.signIn.lacks : "");
  } catch (problem) {
    showSignIn(problem.status === 401 ? T.signIn.wrong : problem.message);
  }
}

function brand() {
  return h("span", { class: "brand" }, h("img", { src: "page/icon.svg", alt: "", width: 28, height: 28 }), T.name);
}

function showSignIn(message = "") {
  leave?.();
  leave = null;
  const input = h("input", { id: newId(), type: "password", name: "token", autocomplete: "current-password", spellcheck: "false", "aria-describedby": "token-help token-fault" });
  const fault = h("p", { class: "fault", id: "token-fault", role: "alert" }, message);
  const button = h("button", { class: "primary" }, T.signIn.button);
  const form = h("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    const token = input.value.trim();
    if (token === "") {
      fault.textContent = T.signIn.empty;
      return input.focus();
    }
    button.disabled = true;
    try {
      const { scopes } = await session.signIn(token);
      if (mayLook(scopes)) return showPage(scopes);
      fault.textContent = T.signIn.lacks;
    } catch (problem) {
      fault.textContent = problem.status === 401 ? T.signIn.wrong : problem.message;
    }
    button.disabled = false;
    input.select();
  } }, h("h1", {}, T.signIn.title), h("div", { class: "field" }, h("label", { for: input.id }, T.signIn.token), input,
    h("p", { class: "help", id: "token-help" }, T.signIn.help), fault), button);
  fill(app, h("main", { class: "sign-in" }, brand(), form));
  input.focus();
}

/** The first start, step by step. */
function guide() {
  const G = T.guide;
  const steps = ["broker", "test", "save", "message"].map((name) => [name, h("li", {}, G[name])]);
  const done = new Set();
  const close = h("button", { type: "button", hidden: true, onclick: () => element.remove() }, G.done);
  const element = h("section", { class: "card guide", "aria-label": G.title }, h("h2", {}, G.title), h("p", { class: "help" }, G.text),
    h("ol", {}, steps.map(([, step]) => step)), close);
  function draw() {
    const now = steps.find(([name]) => !done.has(name))?.[0];
    for (const [name, step] of steps) {
      step.className = done.has(name) ? "done" : name === now ? "now" : "";
      step.toggleAttribute("aria-current", name === now);
      if (name === now) step.setAttribute("aria-current", "step");
    }
    close.hidden = done.size < steps.length;
  }
  draw();
  return { element, mark: (...names) => (names.forEach((name) => done.add(name)), draw()) };
}

function showPage(scopes) {
  leave?.();
  const canChange = scopes.includes("admin");
  let firstSteps = null;
  const lost = h("p", { class: "lost", role: "alert" });
  const connection = connectionCard(canChange, (ok) => ok && firstSteps?.mark("message"));
  const events = eventsView(canChange);
  const cameras = camerasView(canChange, (known) => events.knowCameras(known));
  const guidePlace = h("div");
  // The tabs say it to those who see.
  const heading = h("h1", { class: "visually-hidden" });
  const settings = settingsView(canChange, {
    loaded(config) {
      events.usePrefix(config.topic_prefix);
      if (canChange && !config.broker_host) {
        firstSteps = guide();
        fill(guidePlace, firstSteps.element);
        if (!location.hash) location.hash = "#settings";
      }
    },
    dirty: (is) => {
      tabs.settings.toggleAttribute("data-dirty", is);
      if (is) firstSteps?.mark("broker");
    },
    tested: (ok) => ok && firstSteps?.mark("broker", "test"),
    saved: (config) => {
      events.usePrefix(config.topic_prefix);
      if (config.enabled) firstSteps?.mark("broker", "save");
    },
  });
  const views = { events: events.element, cameras: cameras.element, settings: settings.element };
  const tabs = Object.fromEntries(VIEWS.map((name) => [name, h("a", { href: `#${name}` }, T.views[name])]));
  const out = h("button", { type: "button", class: "quiet", onclick: () => busy(out, async () => {
    if (settings.isDirty() && !confirm(T.settings.leave)) return;
    await session.signOut();
    showSignIn();
  }) }, T.signIn.out);

  function route() {
    const name = VIEWS.find((one) => location.hash === `#${one}`) ?? VIEWS[0];
    for (const one of VIEWS) {
      views[one].hidden = one !== name;
      if (one === name) tabs[one].setAttribute("aria-current", "page");
      else tabs[one].removeAttribute("aria-current");
    }
    heading.textContent = T.views[name];
    document.title = `${T.views[name]} · ${T.name}`;
    if (name === "cameras") cameras.refresh();
  }
  const guard = (event) => settings.isDirty() && event.preventDefault();

  fill(app,
    h("a", { class: "skip", href: "#content", onclick: (event) => {
      event.preventDefault();
      content.focus();
    } }, T.skip),
    h("header", { class: "top" }, brand(), h("nav", { "aria-label": T.name }, Object.values(tabs)), out),
    lost,
    h("div", { class: "columns" }, h("aside", {}, connection.element),
      h("main", { id: "content", tabindex: -1 }, heading, guidePlace, Object.values(views))),
    h("p", { id: "toast", class: "toast", role: "status" }));
  const content = document.getElementById("content");

  const stop = listen({
    status: (status) => {
      connection.update(status);
      // A connection that stands needs no trial any more.
      if (status.connected) firstSteps?.mark("test");
    },
    event: (event) => {
      events.event(event);
      cameras.soon();
    },
    delivery: events.delivery,
    reset: () => {
      events.reset();
      cameras.soon();
    },
    lost: (is) => {
      lost.textContent = is ? T.lost : "";
      document.body.toggleAttribute("data-lost", is);
      if (!is && !settings.isLoaded()) settings.load();
    },
  });
  window.addEventListener("hashchange", route);
  window.addEventListener("beforeunload", guard);
  leave = () => {
    stop();
    connection.stop();
    cameras.stop();
    window.removeEventListener("hashchange", route);
    window.removeEventListener("beforeunload", guard);
    document.body.removeAttribute("data-lost");
    for (const box of document.querySelectorAll("dialog")) box.remove();
  };
  route();
  settings.load();
  cameras.refresh();
  events.reset();
}

document.addEventListener("signed-out", () => leave && showSignIn());
window.addEventListener("hashchange", () => /^#token=/.test(location.hash) && start());
start();
