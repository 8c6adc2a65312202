// @ts-check
// Downloading a backup, and uploading one that is restored when the service is restarted.

/** @import { Restore, WaitingRestore } from "./types" */

import { Problem, call, get, messageOf, upload } from "./api.js";
import { busy, fill, html, newId, openDialog, time, toast } from "./dom.js";
import { decimal, number, percent } from "./locale.js";
import { fromServer } from "./sentences.js";
import { texts } from "./texts.js";

const labels = texts.settings.backup;
// The check of a large backup takes minutes.
const ATTEMPT_EVERY_MS = 1000;
const MAX_ATTEMPTS = 1800;

/**
 * Formats a size.
 * @param {number} bytes
 */
const mib = (bytes) => `${decimal(bytes / 1_048_576)} MiB`;

/** @param {WaitingRestore} restore */
function summary(restore) {
  const { first_seq: first, last_seq: last } = restore;
  /** @type {[string, import("./types").Child][]} */
  const rows = [
    [labels.madeAt, time(restore.created_at)],
    [labels.version, restore.version],
    [labels.events, first === null ? "0" : `${number(restore.events)} (seq ${first} – ${last})`],
    [labels.cameras, number(restore.cameras)],
    [labels.pictures, number(restore.pictures)],
    [labels.secrets, restore.secrets ? labels.withSecrets : labels.withoutSecrets],
    [labels.size, mib(restore.bytes)],
  ];
  return html("dl", { class: "facts" }, rows.map(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]));
}

/** Creates the section. */
export function backupSection() {
  /** @type {WaitingRestore | null} */
  let current = null;
  const state = html("div", { class: "restore-state" });
  const ask = () => askFile(current, refresh);
  const open = html("button", { type: "button", hidden: true, onclick: ask }, labels.restore);
  const element = html("section", { class: "card", "aria-label": labels.title },
    html("h2", {}, labels.title),
    html("p", {}, labels.help),
    html("div", { class: "row" },
      html("a", { class: "button", href: "api/v1/backup", download: true }, labels.download), open),
    state);

  async function refresh() {
    try {
      show(await get("restore"));
    } catch (error) {
      // Not available, for example in the frame of Home Assistant. A database on a server has no backup here, either.
      open.hidden = true;
      element.hidden = error instanceof Problem && error.status === 409;
      fill(state);
    }
  }

  /** @param {Restore} answer */
  function show({ restore }) {
    open.hidden = false;
    current = null;
    if (!restore) {
      fill(state);
      return;
    }
    const discard = html("button", { type: "button", onclick: () => { busy(discard, discardAndRefresh); } },
      labels.discard);
    const text = restore.failure === null ? labels.waits : labels.failed(fromServer(restore.failure).text);
    current = restore;
    fill(state, html("div", { class: "note warn" }, html("p", {}, text), summary(restore), discard));
  }

  async function discardAndRefresh() {
    await call("DELETE", "restore");
    toast(labels.discarded);
    await refresh();
  }

  return { element, refresh };
}

/**
 * Discards an uploaded backup that the user has not confirmed. The server may still be checking it.
 * @param {WaitingRestore | null} before
 */
async function discardUnconfirmed(before) {
  try {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      const { busy: isBusy, restore } = await get("restore");
      if (!isBusy) {
        if (restore && restore.uploaded_at !== before?.uploaded_at) await call("DELETE", "restore");
        return;
      }
      await new Promise((resolve) => { setTimeout(resolve, ATTEMPT_EVERY_MS); });
    }
  } catch (error) {
    toast(messageOf(error), true);
  }
}

/**
 * Asks for a backup, uploads it, and shows what it contains. If the dialog closes without a confirmation, the backup is
 * discarded.
 * @param {WaitingRestore | null} before
 * @param {() => Promise<void>} refresh
 */
function askFile(before, refresh) {
  const file = html("input", { id: newId(), type: "file", accept: ".tar,application/x-tar", required: true });
  const offline = html("input", { id: newId(), type: "checkbox" });
  const bar = html("progress", { max: "1", value: "0", "aria-label": labels.uploading });
  const progress = html("p", { class: "upload", role: "status" });
  const fault = html("p", { class: "result bad", role: "alert" });
  const cancel = html("button", { type: "button", onclick: () => { dialog.close(); } }, texts.dialog.cancel);
  const send = html("button", { class: "primary" }, labels.upload);
  const cancelled = new AbortController();
  let isSending = false;
  let isUnconfirmed = false;
  const form = html("form", { onsubmit: submit },
    html("p", { class: "prose" }, labels.restoreText),
    html("div", { class: "field" }, html("label", { for: file.id }, labels.file), file),
    html("div", { class: "field" },
      html("label", { class: "switch", for: offline.id }, offline, labels.disconnected),
      html("p", { class: "help" }, labels.disconnectedHelp)),
    progress, fault,
    html("div", { class: "row end" }, cancel, send));
  const content = html("div", { class: "restore" }, form);
  const dialog = openDialog(labels.restoreTitle, content);
  dialog.addEventListener("close", () => {
    cancelled.abort();
    if (isUnconfirmed || isSending) discardUnconfirmed(before).finally(refresh);
  });

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    const archive = file.files?.[0];
    if (!archive || isSending) return;
    isSending = true;
    send.disabled = true;
    fault.textContent = "";
    fill(progress, bar, html("span", {}, labels.uploading));
    try {
      const path = offline.checked ? "restore?disconnected=true" : "restore";
      const { restore } = await upload(path, archive, showProgress, cancelled.signal);
      if (restore) confirm(restore);
    } catch (error) {
      fault.textContent = messageOf(error);
    } finally {
      fill(progress);
      send.disabled = false;
      isSending = false;
    }
  }

  /** @param {number} share */
  function showProgress(share) {
    bar.value = share;
    const text = share < 1 ? `${labels.uploading} ${percent(share)}` : labels.checking;
    if (progress.lastElementChild) progress.lastElementChild.textContent = text;
  }

  /** @param {WaitingRestore} restore */
  function confirm(restore) {
    isUnconfirmed = dialog.open;
    if (!dialog.open) return;
    const keep = html("button", {
      type: "button", class: "danger solid",
      onclick: async () => {
        isUnconfirmed = false;
        dialog.close();
        await refresh();
      },
    }, labels.confirm);
    const discard = html("button", { type: "button", onclick: () => { dialog.close(); } }, labels.discard);
    fill(content, html("p", { class: "prose" }, labels.confirmText), summary(restore),
      restore.disconnected ? html("p", { class: "note" }, labels.willBeDisconnected) : null,
      html("div", { class: "row end" }, discard, keep));
    discard.focus();
  }
}
