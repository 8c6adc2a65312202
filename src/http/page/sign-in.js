// @ts-check
// Signing in: with a token in a form, or with the one-time code in a link.

/** @import { Scope } from "./types" */

import { messageOf, Problem, session } from "./api.js";
import { fill, html, newId } from "./dom.js";
import { brand } from "./frame.js";
import { texts } from "./texts.js";

const CODE = /^#code=(\w+)$/;

/** Returns whether the address is a link that signs in. */
export const hasCode = () => CODE.test(location.hash);

/** Returns the code in the link, if there is one, and removes it from the address bar. */
export function takeCode() {
  const found = CODE.exec(location.hash);
  if (!found) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  return found[1];
}

/** @param {Scope[]} scopes */
export const canRead = (scopes) => scopes.includes("read") || scopes.includes("admin");

/** @param {unknown} error */
export const signInError = (error) =>
  error instanceof Problem && error.status === 401 ? texts.signIn.wrong : messageOf(error);

/**
 * Signs in with the code of a link. Returns a message if that failed.
 * @param {string} code
 */
export async function signInWithCode(code) {
  try {
    await session.signInWithCode(code);
    return "";
  } catch (error) {
    return error instanceof Problem && error.status === 401 ? texts.signIn.linkUsed : messageOf(error);
  }
}

/**
 * Shows the form in place of the page. `onSignedIn` is called with the scopes of the token.
 * @param {HTMLElement} app
 * @param {string} message
 * @param {(scopes: Scope[]) => void} onSignedIn
 */
export function showSignInForm(app, message, onSignedIn) {
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
        onSignedIn(scopes);
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
