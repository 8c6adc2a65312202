// @ts-check
// The first module: signs in, and shows the frame and the list of events. The rest of the page (`main.js`) is in a file
// of its own, which is loaded in the meantime. What is imported here delays the first events on slow networks.

/** @import { Navigation, Route, Scope } from "./types" */

import { session } from "./api.js";
import { fill, html } from "./dom.js";
import { eventsView } from "./events.js";
import { navigationBar, showFrame } from "./frame.js";
import { applyLanguage } from "./language.js";
import { createRouter } from "./router.js";
import { canRead, hasCode, showSignInForm, signInError, signInWithCode, takeCode } from "./sign-in.js";
import { texts } from "./texts.js";

const app = /** @type {HTMLElement} */ (document.getElementById("app"));

/** Resolves when the texts of the page's language are loaded. Nothing is drawn before. */
const language = applyLanguage();

const rest = language.then(() => import("./main.js"));
// `showPage` handles the error.
rest.catch(() => {});

/**
 * Stops what the signed-in page runs; `null` while nobody is signed in.
 * @type {(() => void) | null}
 */
let leave = null;

async function start() {
  const code = takeCode();
  if (code) await language;
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

function showSignIn(message = "") {
  leave?.();
  leave = null;
  showSignInForm(app, message, (scopes) => showPage(scopes, true));
}

/**
 * Shows the frame with the list of events, and follows the address until the rest of the page does.
 * @typedef {ReturnType<typeof firstView>} FirstView
 */
function firstView() {
  const nav = navigationBar();
  /** @type {Navigation} */
  const navigation = {
    open: (address, replaces) => router.open(address, replaces),
    openEvent: (id, isPicture) => router.openEvent(id, isPicture),
    close: () => router.close(),
  };
  // What the list shows if there are no events.
  const noEvents = html("section", { class: "first-event", "aria-label": texts.firstEvent.title });
  const events = eventsView(navigation, noEvents);
  const frame = showFrame(app, nav, events.element);
  // In place of the views that `main.js` contains.
  const skeleton = html("div", { class: "skeleton-rows", "aria-hidden": "true" },
    Array.from({ length: 3 }, () => html("i")));
  frame.main.append(skeleton);
  /** @type {Route | null} */
  let current = null;
  /** @type {(route: Route, previous: Route | null) => void} */
  let follow = (route) => {
    nav.show(route);
    events.element.hidden = route.view !== "events";
    skeleton.hidden = route.view === "events";
    if (route.view === "events") events.show(route);
  };
  const router = createRouter((route, previous) => {
    current = route;
    follow(route, previous);
  });
  router.route();

  return {
    nav, navigation, noEvents, events, frame, router,
    /**
     * Lets `next` follow the address from now on.
     * @param {typeof follow} next
     */
    takeOver(next) {
      skeleton.remove();
      follow = next;
      if (current) follow(current, null);
    },
    stop() {
      router.stop();
      events.stop();
      nav.setFailed(0);
      for (const element of document.querySelectorAll("dialog, #toast")) element.remove();
    },
  };
}

/**
 * Shows the page to somebody who has signed in with these scopes.
 * @param {Scope[]} scopes
 * @param {boolean} canSignOut
 */
async function showPage(scopes, canSignOut) {
  leave?.();
  const first = firstView();
  const { stop } = first;
  leave = stop;
  const loaded = await rest.catch(() => null);
  // Somebody may have signed out in the meantime.
  if (leave !== stop) return;
  if (loaded) {
    leave = loaded.completePage(first, scopes, canSignOut);
    return;
  }
  // The service may have another version of the page by now.
  const reload = html("button", { type: "button", class: "quiet", onclick: () => location.reload() }, texts.tryAgain);
  fill(first.frame.lost, texts.noAnswer, " ", reload);
}

document.addEventListener("signed-out", () => leave && showSignIn());
window.addEventListener("hashchange", () => hasCode() && start());
start();
