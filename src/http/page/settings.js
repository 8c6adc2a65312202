// @ts-check
// The settings form. It checks values while they are typed, tests the connection before they are saved, and warns about
// unsaved changes.

/** @import { BrokerCandidate, Field, FieldGroup, FieldInput, FormValues, SettingName, Settings } from "./types" */
/** @import { SettingsInput, SettingsListener, Stage, TestStage } from "./types" */

import { call, get, messageOf, Problem, replaceSettings, testConnection } from "./api.js";
import { createControl } from "./controls.js";
import { busy, fill, followHeight, hideToast, html, newId, serverText, toast } from "./dom.js";
import { defaultPort, GROUPS } from "./fields.js";
import { backupSection } from "./restore.js";
import { fromServer } from "./sentences.js";
import { conflictNote } from "./settings-conflict.js";
import { texts } from "./texts.js";

const labels = texts.settings;
const ANNOUNCE_TIMEOUT_MS = 25_000;
const FIELDS = GROUPS.flatMap((group) => group.fields);

/** @type {SettingName[]} */
const ONLY_WITH_TLS = ["ca_certificate", "client_certificate", "client_key", "tls_server_name"];

/**
 * The settings that determine which server receives the stored secrets.
 * @type {SettingName[]}
 */
const DESTINATION = [
  "broker_host", "broker_port", "username", "transport", "websocket_path", "use_tls", "ca_certificate",
  "tls_server_name", "tls_insecure",
];

/**
 * Creates a field: its label, its control, its help text, and the place for its error.
 * @param {Field} field
 * @returns {FieldInput}
 */
function createField(field) {
  const [label, help] = texts.fields[field.name];
  const id = newId();
  const helpId = `${id}-help`;
  const faultId = `${id}-fault`;
  const props = { id, name: field.name, "aria-describedby": `${helpId} ${faultId}` };
  const fault = html("p", { class: "fault", id: faultId });
  const control = createControl(field, props, label);
  const isWide = field.wide || field.kind === "file" || field.kind === "secretFile";
  const labelled = field.kind === "flag"
    ? html("label", { class: "switch", for: id }, control.element, label)
    : [html("label", { for: id }, label), control.element];
  const element = html("div", { class: `field of-${field.kind}${isWide ? " wide" : ""}` },
    labelled, html("p", { class: "help", id: helpId }, help), fault);

  /** @param {string} message */
  function showError(message) {
    fault.textContent = message;
    const target = element.querySelector(`#${id}`);
    if (message === "") target?.removeAttribute("aria-invalid");
    else target?.setAttribute("aria-invalid", "true");
  }

  return { ...control, element, showError };
}

/**
 * Returns the stored value that a field shows.
 * @param {Field} field
 * @param {Settings} settings
 */
function storedValue(field, settings) {
  if (field.kind === "secret" || field.kind === "secretFile") return settings[`has_${field.name}`];
  return settings[field.name];
}

/**
 * Creates the name of a test stage.
 * @param {Stage} name
 */
const stageName = (name) => html("span", { class: "name" }, labels.stages[name] ?? name);

/** @param {Stage} name */
function runningStage(name) {
  const tick = html("span", { class: "tick", role: "img", "aria-label": labels.inProgress }, "…");
  return html("li", { class: "stage now" }, tick, stageName(name));
}

/** @param {boolean | null} ok */
function outcome(ok) {
  if (ok === null) return { className: "unsure", label: labels.unknown, sign: "?" };
  return ok
    ? { className: "good", label: labels.passed, sign: "✓" }
    : { className: "bad", label: labels.failed, sign: "✕" };
}

/**
 * The fields to check when a stage of the test fails.
 * @type {Partial<Record<Stage, SettingName>>}
 */
const FIELD_OF_STAGE = {
  resolve: "broker_host", connect: "broker_port", tls: "use_tls", login: "password", publish: "topic_prefix",
  availability: "availability_topic", discovery: "discovery_prefix", events: "topic_prefix", states: "topic_prefix",
};

/**
 * Returns the detail without the kind of the failure, which is for programs.
 * @param {TestStage} stage
 */
const sentenceOf = ({ ok, detail }) => (ok === false ? detail.replace(/^[a-z_]+: /, "") : detail);

/** @param {TestStage} stage */
function finishedStage(stage) {
  const { name, ok, duration_ms } = stage;
  const detail = sentenceOf(stage);
  const { className, label, sign } = outcome(ok);
  return html("li", { class: `stage ${className}` },
    html("span", { class: "tick", role: "img", "aria-label": label }, sign),
    stageName(name), serverText("span", { class: "stage-detail" }, detail),
    html("span", { class: "ms" }, `${duration_ms} ms`));
}

/**
 * Opens a field's group, if it is collapsed, and moves the focus to the field.
 * @param {FieldInput | undefined} input
 */
function focus(input) {
  input?.element.closest("details")?.setAttribute("open", "");
  /** @type {HTMLElement | null | undefined} */
  const target = input?.element.querySelector("input, select, button");
  target?.focus();
}

/**
 * Creates the view.
 * @param {boolean} canChange
 * @param {SettingsListener} listener
 */
export function settingsView(canChange, listener) {
  const inputs = /** @type {Record<SettingName, FieldInput>} */ (
    Object.fromEntries(FIELDS.map((field) => [field.name, createField(field)])));
  /** @type {Settings | null} */
  let stored = null;
  // The stored values as the form shows them, as JSON.
  let storedValues = "";
  let currentDefaultPort = 1883;
  let isSaving = false;
  // The revision that the server reported last.
  let latestRevision = "";
  // The revision of the settings that the note about changes elsewhere shows.
  let askedRevision = "";

  const banner = html("p", { class: "result bad", role: "alert" });
  const testResult = html("div", { class: "test-result", role: "status", tabindex: 0, "aria-label": labels.test });
  const test = html("button", { type: "button", onclick: () => { busy(test, runTest); } }, labels.test);
  const save = html("button", {}, labels.save);
  const discard = html("button", { type: "button", class: "quiet", onclick: discardChanges },
    labels.discard);
  const conflict = conflictNote();
  const unsaved = html("span", { class: "unsaved" }, labels.unsaved);
  const announce = html("button", { type: "button", onclick: () => { busy(announce, announceCameras); } },
    labels.announce);
  const managed = html("p", { class: "note warn", hidden: true }, labels.managed);
  const provided = html("p", { class: "note", hidden: true }, labels.provided);
  /** @type {Map<HTMLElement, FieldGroup>} */
  const groups = new Map();
  const backup = backupSection();
  if (canChange) void backup.refresh();
  // Until the settings have arrived, they would replace what somebody enters.
  const fields = html("fieldset", { disabled: true, class: "plain" }, GROUPS.map(createGroup));
  const bar = html("div", { class: "bar" }, testResult, conflict.element, banner,
    canChange && html("div", { class: "row" }, test, save, unsaved, discard));
  // Messages appear above it.
  followHeight(bar, "--bar");
  const form = html("form", {
    class: "settings", novalidate: true, oninput: onChange, onchange: onChange,
    onsubmit: (event) => {
      event.preventDefault();
      busy(save, saveSettings);
    },
  },
    !canChange && html("p", { class: "note warn" }, labels.readOnly),
    managed, provided, fields,
    canChange && backup.element,
    bar);
  const element = html("section", { "aria-label": texts.views.settings }, form);

  /** @param {FieldGroup} group */
  function createGroup(group) {
    const { name, fields, collapsed } = group;
    const title = labels.groups[name];
    const body = html("fieldset", { class: "plain" }, html("div", { class: "grid" },
      fields.map((field) => inputs[field.name].element),
      name === "ha" && canChange && html("div", { class: "field wide" }, html("div", {}, announce))));
    groups.set(body, group);
    return collapsed
      ? html("details", { class: "card" }, html("summary", {}, html("h2", {}, title)), body)
      : html("section", { class: "card", "aria-label": title }, html("h2", {}, title), body);
  }

  function formValues() {
    return /** @type {FormValues} */ (Object.fromEntries(FIELDS.map(({ name }) => [name, inputs[name].get()])));
  }

  /** Returns the settings to send. The server keeps a secret that is left out, and uses the default port. */
  function settingsToSend() {
    /** @type {SettingsInput} */
    const settings = formValues();
    // JSON leaves out undefined values. The server rejects TLS options without TLS.
    if (!settings.use_tls) {
      for (const name of ONLY_WITH_TLS) settings[name] = null;
      settings.tls_insecure = false;
    }
    return settings;
  }

  /**
   * Returns what is wrong with a field, or an empty string.
   * @param {Field} field
   * @param {FormValues} values
   */
  function faultOf({ name, check, isRequired }, values) {
    const text = (inputs[name].raw?.() ?? "").trim();
    if (!check) return "";
    return isRequired?.(values) && text === "" ? texts.checks.needsHost : check(text);
  }

  /** Checks all values and shows the errors. Returns the first invalid field, if there is one. */
  function validate() {
    const values = formValues();
    /** @type {FieldInput | undefined} */
    let invalid;
    for (const field of FIELDS) {
      const input = inputs[field.name];
      const isShown = field.isShown?.(values) ?? true;
      const fault = isShown ? faultOf(field, values) : "";
      input.element.hidden = !isShown;
      input.showError(fault);
      if (fault) invalid ??= input;
    }
    inputs.broker_port.element.querySelector("input")?.setAttribute("placeholder", String(defaultPort(values)));
    return invalid;
  }

  /** Changes a default port along with the settings that it depends on. */
  function updatePort() {
    const port = inputs.broker_port;
    const next = defaultPort(formValues());
    if (next !== currentDefaultPort && port.raw?.() === String(currentDefaultPort)) port.set(next);
    currentDefaultPort = next;
  }

  function onChange() {
    updatePort();
    askForSecrets();
    validate();
    banner.textContent = "";
    showDirty(isDirty());
  }

  /** Asks for the stored secrets again when they would be sent to another server: the service refuses that. */
  function askForSecrets() {
    /** @type {Partial<FormValues>} */
    const before = JSON.parse(storedValues || "{}");
    const now = formValues();
    const isElsewhere = DESTINATION.some((name) => JSON.stringify(now[name]) !== JSON.stringify(before[name]));
    for (const { name } of FIELDS) inputs[name].require?.(isElsewhere);
  }

  const isDirty = () => stored !== null && canChange && JSON.stringify(formValues()) !== storedValues;

  /** @param {boolean} dirty */
  function showDirty(dirty) {
    form.toggleAttribute("data-dirty", dirty);
    // Without changes, it still reconnects.
    save.classList.toggle("primary", dirty);
    const hasAddress = (inputs.broker_host.raw?.() ?? "").trim() !== "";
    listener.dirty(dirty, hasAddress && form.querySelector("[aria-invalid=true]") === null);
  }

  /** Returns the fields that differ from the stored settings. */
  function changedFields() {
    /** @type {Partial<FormValues>} */
    const before = JSON.parse(storedValues || "{}");
    const now = formValues();
    return FIELDS.filter(({ name }) => JSON.stringify(now[name]) !== JSON.stringify(before[name]));
  }

  /**
   * Shows these settings.
   * @param {Settings} settings
   * @param {Field[]} [kept] Fields that keep what the user entered.
   */
  function show(settings, kept = []) {
    stored = settings;
    banner.textContent = "";
    conflict.hide();
    managed.hidden = !settings.managed;
    provided.hidden = settings.provided.length === 0;
    for (const [body, group] of groups) {
      body.toggleAttribute("disabled", group.fields.some((field) => settings.provided.includes(field.name)));
    }
    if (canChange) {
      fields.toggleAttribute("disabled", settings.managed);
      for (const button of [save, discard]) button.hidden = settings.managed;
    }
    for (const field of FIELDS) if (!kept.includes(field)) inputs[field.name].set(storedValue(field, settings));
    currentDefaultPort = defaultPort(settings);
    // The first broker is used as soon as it is saved. Presetting the switch does not count as an unsaved change.
    const isFirst = !settings.broker_host;
    if (isFirst && canChange && !settings.managed) inputs.enabled.set(true);
    const values = formValues();
    for (const field of kept) {
      const isSecret = field.kind === "secret" || field.kind === "secretFile";
      values[field.name] = isSecret ? undefined : storedValue(field, settings);
    }
    storedValues = JSON.stringify(values);
    validate();
    inputs.broker_host.showError("");
    showDirty(isDirty());
  }

  /**
   * Asks what to do about settings that somebody else saved while this form was open.
   * @param {Settings} current
   * @param {boolean} isRefused Whether the form was not saved because of them.
   */
  function askAboutConflict(current, isRefused) {
    askedRevision = current.revision;
    const before = stored;
    const theirs = FIELDS.filter((field) => before !== null &&
      JSON.stringify(storedValue(field, before)) !== JSON.stringify(storedValue(field, current)));
    conflict.show({ before, current, fields: theirs, isRefused }, {
      takeOver: () => show(current, changedFields()),
      overwrite: async () => {
        stored = current;
        await saveSettings();
      },
    });
  }

  /**
   * Shows a rejection by the server: each error at its field, the others in the banner below `summary`.
   * @param {unknown} error
   * @param {string} summary
   */
  function showRejection(error, summary) {
    if (!(error instanceof Problem) || error.errors.length === 0) {
      banner.textContent = messageOf(error);
      return;
    }
    /** @type {FieldInput | undefined} */
    let first;
    /** @type {string[]} */
    const others = [];
    for (const { field, message: english } of error.errors) {
      const message = fromServer(english).text;
      /** @type {FieldInput | undefined} */
      const input = inputs[/** @type {SettingName} */ (field)];
      if (!input) {
        others.push(field ? `${field}: ${message}` : message);
        continue;
      }
      input.element.hidden = false;
      input.element.closest("details")?.setAttribute("open", "");
      input.replace?.();
      input.showError(message);
      first ??= input;
    }
    banner.textContent = [summary, ...others].join(" ");
    focus(first);
  }

  /**
   * Checks the form before it is sent. Shows `summary` and moves to the first invalid field when there is one.
   * @param {string} summary
   */
  function isValid(summary) {
    const invalid = validate();
    banner.textContent = invalid ? summary : "";
    if (invalid) focus(invalid);
    return !invalid;
  }

  /** Tests the connection with the form's values, and shows each stage as it happens. */
  async function runTest() {
    hideToast();
    fill(testResult);
    if (!isValid(labels.invalidTest)) return;
    const stages = html("ol", { class: "stages" });
    /** @type {Map<Stage, HTMLElement>} */
    const rows = new Map();
    /**
     * @param {Stage} name
     * @param {HTMLElement} row
     */
    const put = (name, row) => {
      // Stages are repeated when the broker has several addresses.
      const previous = rows.get(name);
      rows.set(name, row);
      if (previous) previous.replaceWith(row);
      else stages.append(row);
      row.scrollIntoView({ block: "nearest" });
    };
    fill(testResult, html("p", { class: "testing" }, labels.testing), stages);
    try {
      const { success, message, stages: finished } = await testConnection(settingsToSend(), ({ begun, stage }) => {
        if (begun) put(begun, runningStage(begun));
        if (stage) put(stage.name, finishedStage(stage));
      });
      const failed = finished.find(({ ok }) => ok === false);
      const isShown = failed !== undefined && sentenceOf(failed) === message;
      fill(testResult, html("ol", { class: "stages" }, finished.map(finishedStage)),
        isShown
          ? html("p", { class: "result bad" }, labels.failedAt(labels.stages[failed.name]))
          : serverText("p", { class: success ? "result good" : "result bad" }, message));
      testResult.scrollTop = testResult.scrollHeight;
      if (failed) markField(failed);
      listener.tested(success);
    } catch (error) {
      fill(testResult);
      showRejection(error, labels.invalidTest);
    }
  }

  /**
   * Shows the reason of a failed stage at the field that it is about, and moves there.
   * @param {TestStage} failed
   */
  function markField(failed) {
    const name = FIELD_OF_STAGE[failed.name];
    const input = name && inputs[name];
    if (!input || input.element.hidden) return;
    input.showError(fromServer(sentenceOf(failed)).text);
    focus(input);
    input.element.scrollIntoView({ block: "center" });
  }

  async function saveSettings() {
    if (!isValid(labels.invalid)) return;
    conflict.hide();
    isSaving = true;
    try {
      const settings = await replaceSettings(settingsToSend(), stored?.revision ?? "");
      if (!settings) {
        askAboutConflict(await get("integrations/mqtt/config"), true);
        return;
      }
      show(settings);
      fill(testResult);
      toast(labels.saved);
      listener.saved(settings);
    } catch (error) {
      showRejection(error, labels.invalid);
    } finally {
      isSaving = false;
      // The server may have reported a change by somebody else while the form was being saved.
      if (conflict.element.hidden && latestRevision) revised(latestRevision);
    }
  }

  async function announceCameras() {
    const { success, message } =
      await call("POST", "integrations/mqtt/publish-discovery", undefined, ANNOUNCE_TIMEOUT_MS);
    toast(fromServer(message).text, !success);
  }

  /**
   * Fills in the address of a broker, and moves to the field that comes next.
   * @param {BrokerCandidate} broker
   */
  function useBroker({ broker_host: host, broker_port: port, use_tls: useTls }) {
    inputs.broker_host.set(host);
    inputs.transport.set("tcp");
    inputs.use_tls.set(useTls);
    updatePort();
    inputs.broker_port.set(port);
    onChange();
    focus(inputs.username);
  }

  async function load() {
    try {
      const settings = await get("integrations/mqtt/config");
      show(settings);
      listener.loaded(settings);
    } catch (error) {
      banner.textContent = messageOf(error);
    }
  }

  /** Shows the stored settings, which somebody else may have changed. */
  async function discardChanges() {
    if (stored) show(stored);
    await refresh();
  }

  /** Shows what somebody else saved, unless there are unsaved changes. */
  async function refresh() {
    if (!stored || isDirty()) return;
    const current = await get("integrations/mqtt/config").catch(() => null);
    if (current && !isDirty() && current.revision !== stored.revision) show(current);
  }

  /**
   * Called when the stored settings have this revision. Shows them, or asks what to do about them if there are unsaved
   * changes.
   * @param {string} revision
   */
  async function revised(revision) {
    latestRevision = revision;
    // The response to a save is the newer one.
    if (!stored || isSaving || revision === stored.revision) return;
    if (revision === askedRevision && !conflict.element.hidden) return;
    const current = await get("integrations/mqtt/config").catch(() => null);
    if (!current || isSaving || current.revision === stored.revision) return;
    if (isDirty()) askAboutConflict(current, false);
    else show(current);
    listener.saved(current);
  }

  return { element, load, refresh, revised, useBroker, isDirty, isLoaded: () => stored !== null };
}
