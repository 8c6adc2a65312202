// @ts-check
// The service view: who is signed in, the colors, the API tokens, the addresses of the page, and the service itself.

/** @import { Caller, Child, Scope, ServiceInfo, TokenRecord } from "./types" */

import { call, get, messageOf, Problem } from "./api.js";
import { actionButton, busy, fill, foreign, html, newId, openDialog, time, toast } from "./dom.js";
import { copyButton } from "./event-parts.js";
import { languageChoice } from "./language-choice.js";
import { decimal, duration, listOf, number } from "./locale.js";
import { logView } from "./log.js";
import { fromServer } from "./sentences.js";
import { texts } from "./texts.js";
import { themeChoice } from "./theme-choice.js";

const labels = texts.service;

/** @type {Scope[]} */
const SCOPES = ["events:write", "read", "admin"];

/**
 * Formats a size.
 * @param {number | null} bytes
 */
function size(bytes) {
  if (bytes === null) return labels.unknown;
  const gib = bytes / 2 ** 30;
  if (gib >= 1) return `${decimal(gib)} GiB`;
  const mib = bytes / 2 ** 20;
  return mib >= 1 ? `${decimal(mib)} MiB` : `${number(Math.ceil(bytes / 1024))} KiB`;
}

/**
 * @param {string} title
 * @param {...Child} content
 */
const card = (title, ...content) =>
  html("section", { class: "card", "aria-label": title }, html("h2", {}, title), content);

/** @param {[string, Child][]} rows */
const facts = (rows) =>
  html("dl", { class: "facts" }, rows.map(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]));

/**
 * Asks before a token is revoked.
 * @param {TokenRecord} token
 * @param {() => Promise<void>} onRevoked
 */
function askRevoke(token, onRevoked) {
  const revoke = html("button", {
    type: "button", class: "danger solid", onclick: async () => {
      const done = await busy(revoke, async () =>
        (await call("DELETE", `tokens/${encodeURIComponent(token.name)}`), true));
      if (!done) return;
      dialog.close();
      toast(labels.revoked(token.name));
      await onRevoked();
    },
  }, labels.revoke);
  const cancel = html("button", { type: "button", onclick: () => dialog.close() }, texts.dialog.cancel);
  const dialog = openDialog(labels.revokeTitle(token.name),
    html("p", { class: "prose" }, labels.revokeText), [cancel, revoke]);
  cancel.focus();
}

/** Creates the list of the tokens, and the form for a new one. */
function tokens() {
  const list = html("ul", { class: "tokens" });
  const input = html("input", {
    id: newId(), name: "token_name", autocomplete: "off", spellcheck: "false", maxlength: 64,
    "aria-describedby": "token-name-fault",
  });
  const select = html("select", { id: newId(), name: "token_scope" },
    SCOPES.map((scope) => html("option", { value: scope }, labels.scopes[scope])));
  const fault = html("p", { class: "fault", id: "token-name-fault", role: "alert" });
  const created = html("div", { class: "created note", role: "status", hidden: true });
  const button = html("button", {}, labels.create);
  const form = html("form", { class: "new-token", novalidate: true, onsubmit: create },
    html("div", { class: "grid" },
      html("div", { class: "field" }, html("label", { for: input.id }, labels.name), input, fault),
      html("div", { class: "field" }, html("label", { for: select.id }, labels.scope), select)),
    html("div", { class: "row" }, button));

  /** @param {Event} event */
  async function create(event) {
    event.preventDefault();
    const name = input.value.trim();
    fault.textContent = name === "" ? labels.nameMissing : "";
    created.hidden = true;
    if (name === "") {
      input.focus();
      return;
    }
    button.disabled = true;
    try {
      const { token } = await call("POST", "tokens", { name, scopes: [select.value] });
      fill(created, html("h3", {}, labels.created(name)), html("p", {}, labels.createdHelp),
        html("pre", {}, token), html("div", { class: "row" }, copyButton(async () => token, labels.token)));
      created.hidden = false;
      input.value = "";
      await refresh();
    } catch (error) {
      const [field] = error instanceof Problem ? error.errors : [];
      fault.textContent = field ? fromServer(field.message).text : messageOf(error);
    }
    button.disabled = false;
  }

  /** @param {TokenRecord} token */
  const row = (token) => html("li", {},
    html("div", { class: "what" },
      html("strong", {}, token.name), " ",
      html("span", { class: "sub" }, token.scopes.map((scope) => labels.scopes[scope]).join(", "))),
    html("p", { class: "sub" }, labels.createdAt, " ", time(token.created_at), " · ",
      token.last_used_at ? [labels.usedAt, " ", time(token.last_used_at)] : labels.neverUsed),
    html("button", {
      type: "button", class: "danger", "aria-label": labels.revokeTitle(token.name),
      onclick: () => askRevoke(token, refresh),
    }, labels.revoke));

  const administrator = html("li", {},
    html("div", { class: "what" }, html("strong", {}, "api-token"), " ",
      html("span", { class: "sub" }, labels.scopes.admin)),
    html("p", { class: "sub" }, labels.adminToken));

  async function refresh() {
    try {
      const { tokens } = await get("tokens");
      fill(list, administrator, tokens.map(row));
    } catch (error) {
      fill(list, html("li", {}, messageOf(error)));
    }
  }

  const help = html("p", { class: "help" }, labels.tokensHelp);
  return { element: card(labels.tokens, help, list, form, created), refresh };
}

/**
 * Creates the addresses of the page, and the QR code that signs in.
 * @param {boolean} canChange
 */
function addresses(canChange) {
  const list = html("ul", { class: "addresses" });
  const warning = html("p", { class: "note warn", hidden: true }, labels.localOnly);
  const code = html("div", { class: "qr-code" });
  const show = actionButton(labels.showCode, "", async () => {
    const { links, qr_code: image, expires_in_seconds: seconds } = await call("POST", "sign-in-links");
    fill(code,
      image && html("img", { src: `data:image/svg+xml,${encodeURIComponent(image)}`, alt: labels.codeAlt }),
      html("p", { class: "help" }, labels.codeHelp(Math.round(seconds / 60))),
      html("div", { class: "row" }, copyButton(async () => links[0] ?? "", labels.link)));
  });
  const element = card(labels.addresses, warning, list, canChange && html("div", { class: "row" }, show), code);

  /** @param {ServiceInfo} info */
  function update({ urls, local_only: isLocal }) {
    // In a container, the service does not know the addresses of its machine.
    const isUnknown = !isLocal && urls.every((url) => new URL(url).hostname === "localhost");
    warning.textContent = isUnknown ? labels.unknownAddress : labels.localOnly;
    warning.hidden = !isLocal && !isUnknown;
    show.hidden = isLocal || isUnknown;
    const shown = isUnknown ? [] : urls;
    fill(list, shown.map((url) => html("li", {}, foreign("a", { href: url, rel: "noreferrer" }, url))));
  }

  return { element, update };
}

/** @param {Scope[]} scopes */
const rights = (scopes) => listOf(scopes.map((scope) => labels.scopes[scope]));

/** @param {Caller} caller */
function whoIs({ kind, name, scopes }) {
  if (kind === "home_assistant") return labels.framed;
  return name === null ? labels.signedInAsAdmin : labels.signedInWith(name, rights(scopes));
}

/** @param {ServiceInfo} info */
function storageFacts({ events, pictures, database, database_bytes: bytes, disk_free_bytes: free, nodes }) {
  const isOnServer = database.engine === "postgres";
  const { count, oldest_at: oldest } = events;
  return facts([
    [labels.events, [count === null ? labels.unknown : labels.eventCount(count),
      oldest && [", ", labels.oldestFrom, " ", time(oldest)]]],
    [labels.retention, labels.days(events.retention_days)],
    [labels.pictures, pictures.count === null
      ? labels.unknown
      : labels.pictureCount(pictures.count, size(pictures.bytes), size(pictures.max_bytes))],
    [labels.database, isOnServer ? labels.databaseOnServer(size(bytes), database.name) : size(bytes)],
    // The disk of a server is not known.
    ...(isOnServer ? [] : [/** @type {[string, Child]} */ ([labels.free, size(free)])]),
    ...(nodes.length > 1
      ? [/** @type {[string, Child]} */ ([labels.nodes, listOf(nodes.map(({ name, url, state }) =>
        labels.node(name, url, labels.nodeStates[state])))])]
      : []),
  ]);
}

/**
 * @param {string} href
 * @param {string} text
 */
const link = (href, text) => html("a", { href, target: "_blank", rel: "noreferrer" }, text);

/**
 * Creates the view.
 * @param {Scope[]} scopes
 * @param {boolean} isFramed Whether the page is in the frame of Home Assistant.
 */
export function serviceView(scopes, isFramed) {
  const canChange = scopes.includes("admin");
  const reach = addresses(canChange);
  const access = canChange ? tokens() : null;
  const log = canChange ? logView() : null;
  const about = html("div");
  const storage = html("div");
  const links = html("p", { class: "row links" });
  const who = html("p", {}, isFramed ? labels.framed : labels.signedIn(rights(scopes)));
  const element = html("section", { class: "service", "aria-label": texts.views.service },
    card(labels.account, who, themeChoice(), languageChoice()),
    reach.element,
    access?.element ?? card(labels.tokens, html("p", {}, labels.noTokens)),
    card(labels.storage, storage),
    log?.element,
    card(labels.about, about, links));

  async function refresh() {
    void access?.refresh();
    try {
      const info = await get("service");
      reach.update(info);
      fill(about, facts([
        [labels.version, info.version],
        [labels.uptime, duration(info.uptime_seconds)],
      ]));
      fill(storage, storageFacts(info));
      fill(links, link(info.documentation_url, labels.documentation), link(info.changelog_url, labels.changelog),
        link("openapi.json", labels.openapi), link("metrics", labels.metrics));
      who.textContent = whoIs(info.caller);
    } catch (error) {
      fill(about, html("p", { class: "result bad" }, messageOf(error)),
        actionButton(texts.tryAgain, "", refresh));
    }
  }

  return { element, refresh, stop: () => log?.stop() };
}
