// The settings form: checked while it is typed, tried before it is saved, and guarded until it is.

import { call, follow, get, Problem } from "./api.js";
import { busy, fill, foreign, h, newId, toast } from "./dom.js";
import { GROUPS, pem, usualPort } from "./fields.js";
import { T } from "./texts.js";

const S = T.settings;
const TRIAL_MS = 25_000;
const FIELDS = GROUPS.flatMap((group) => group.fields);

/** The view; `on.loaded(settings)`, `on.dirty(bool)`, `on.tested(ok)` and `on.saved(settings)` tell what happens. */
export function settingsView(canChange, on) {
  const inputs = new Map();
  let stored = null, first = false;

  const banner = h("p", { class: "result", role: "alert" });
  const trial = h("div", { class: "trial", role: "status" });
  const test = h("button", { type: "button", onclick: () => busy(test, tryIt) }, S.test);
  const save = h("button", { class: "primary" }, S.save);
  const discard = h("button", { type: "button", class: "quiet", onclick: () => show(stored) }, S.discard);
  const unsaved = h("span", { class: "unsaved" }, S.unsaved);
  const again = h("button", { type: "button", onclick: () => busy(again, publishAgain) }, S.discovery);
  const groups = GROUPS.map(group);
  const form = h("form", { class: "settings", novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    busy(save, store);
  }, oninput: changed, onchange: changed },
    !canChange && h("p", { class: "note warn" }, S.readOnly),
    h("fieldset", { disabled: !canChange, class: "plain" }, groups),
    trial, banner,
    canChange && h("div", { class: "bar" }, test, save, unsaved, discard));
  const element = h("section", { "aria-label": T.views.settings }, form);

  function group({ name, fields, folded }) {
    const controls = fields.map(control);
    const body = h("div", { class: "grid" }, controls, name === "ha" && canChange && h("div", { class: "field wide" }, h("div", {}, again)));
    return folded
      ? h("details", { class: "card" }, h("summary", {}, h("h2", {}, S.groups[name])), body)
      : h("section", { class: "card", "aria-label": S.groups[name] }, h("h2", {}, S.groups[name]), body);
  }

  /** A field: its label, its control, its help, and the place for what is wrong with it. */
  function control(field) {
    const [label, help] = T.fields[field.name];
    const id = newId(), helpId = `${id}-help`, faultId = `${id}-fault`;
    const described = { id, name: field.name, "aria-describedby": `${helpId} ${faultId}` };
    const fault = h("p", { class: "fault", id: faultId });
    const about = h("p", { class: "help", id: helpId }, help);
    const made = MAKERS[field.kind](field, described, label);
    const element = h("div", { class: `field of-${field.kind}${field.wide || field.kind.endsWith("ile") ? " wide" : ""}` },
      field.kind === "flag" ? h("label", { class: "switch", for: id }, made.element, label) : [h("label", { for: id }, label), made.element],
      about, fault);
    inputs.set(field.name, { ...made, element, fault, field, complain: (text) => {
      fault.textContent = text;
      const target = element.querySelector(`#${id}`);
      target?.toggleAttribute("aria-invalid", text !== "");
      if (text !== "") target?.setAttribute("aria-invalid", "true");
    } });
    return element;
  }

  function values() {
    return Object.fromEntries(FIELDS.map(({ name }) => [name, inputs.get(name).get()]));
  }

  /** What is sent: fields that are left out keep a secret, or take the usual port. */
  function body() {
    const sent = {};
    for (const [name, value] of Object.entries(values())) if (value !== undefined) sent[name] = value;
    // What is only of use with TLS is refused without it.
    if (!sent.use_tls) {
      for (const name of ["ca_certificate", "client_certificate", "client_key", "tls_server_name"]) sent[name] = null;
      sent.tls_insecure = false;
    }
    return sent;
  }

  /** Checks what is typed; the first field that is at fault, or nothing. */
  function check() {
    const all = values();
    let wrong;
    for (const { name, check, shown, needed } of FIELDS) {
      const input = inputs.get(name);
      const used = !shown || shown(all);
      input.element.hidden = !used;
      const text = String(input.raw?.() ?? "");
      const fault = !used || !check ? "" : needed?.(all) && text.trim() === "" ? T.checks.needsHost : check(text.trim());
      input.complain(fault);
      if (fault) wrong ??= input;
    }
    inputs.get("broker_port").element.querySelector("input").placeholder = usualPort(all);
    return wrong;
  }

  let usual = 1883;
  function changed() {
    // A port that is the usual one goes with what makes it so.
    const port = inputs.get("broker_port"), all = values(), now = usualPort(all);
    if (now !== usual && port.raw() === String(usual)) port.set(now);
    usual = now;
    check();
    banner.textContent = "";
    const dirty = isDirty();
    form.toggleAttribute("data-dirty", dirty);
    on.dirty(dirty);
  }

  const isDirty = () => stored !== null && canChange && JSON.stringify(values()) !== clean;
  let clean = "";

  function show(settings) {
    stored = settings;
    for (const [name, input] of inputs) input.set(settings[name], settings);
    usual = usualPort(settings);
    first = !settings.broker_host;
    // Whoever enters a first broker wants it used.
    clean = JSON.stringify(values());
    if (first && canChange) inputs.get("enabled").set(true);
    if (first) clean = JSON.stringify(values());
    check();
    inputs.get("broker_host").complain("");
    form.toggleAttribute("data-dirty", false);
    on.dirty(false);
  }

  /** Shows the server's faults at their fields. */
  function refused(problem, text) {
    if (!(problem instanceof Problem) || problem.errors.length === 0) {
      fill(banner, problem.message);
      banner.className = "result bad";
      banner.scrollIntoView({ block: "nearest" });
      return;
    }
    let target;
    const rest = [];
    for (const { field, message } of problem.errors) {
      const input = inputs.get(field);
      if (!input) {
        rest.push(field ? `${field}: ${message}` : message);
        continue;
      }
      input.element.hidden = false;
      input.element.closest("details")?.setAttribute("open", "");
      input.complain(message);
      target ??= input;
    }
    banner.className = "result bad";
    fill(banner, text, rest.map((one) => ` ${one}`));
    focus(target);
  }

  function focus(input) {
    input?.element.closest("details")?.setAttribute("open", "");
    input?.element.querySelector("input, select, button")?.focus();
  }

  function isFine(text) {
    const wrong = check();
    if (!wrong) return true;
    banner.className = "result bad";
    banner.textContent = text;
    focus(wrong);
    return false;
  }

  async function tryIt() {
    fill(trial);
    banner.textContent = "";
    if (!isFine(S.faultsTest)) return;
    const stages = h("ol", { class: "stages" });
    const rows = new Map();
    // With several addresses of the broker a stage may come again.
    const put = (name, row) => {
      const before = rows.get(name);
      rows.set(name, row);
      if (before) before.replaceWith(row);
      else stages.append(row);
      trial.scrollIntoView({ block: "nearest" });
    };
    fill(trial, h("p", { class: "trying" }, S.testing), stages);
    trial.scrollIntoView({ block: "nearest" });
    try {
      const { report } = await follow("POST", "integrations/mqtt/test", body(), ({ begun, stage: ended }) => {
        if (begun) put(begun, underWay(begun));
        if (ended) put(ended.name, stage(ended));
      }, TRIAL_MS);
      fill(trial, h("ol", { class: "stages" }, report.stages.map(stage)),
        foreign("p", { class: report.success ? "result good" : "result bad" }, report.message));
      trial.scrollIntoView({ block: "nearest" });
      on.tested(report.success);
    } catch (problem) {
      fill(trial);
      refused(problem, S.faultsTest);
    }
  }

  function underWay(name) {
    return h("li", { class: "stage now" }, h("span", { class: "tick", role: "img", "aria-label": S.underWay }, "…"),
      h("span", { class: "name" }, S.stages[name] ?? name));
  }

  function stage({ name, ok, duration_ms, detail }) {
    const word = ok === true ? S.ok : ok === false ? S.failed : S.unknown;
    return h("li", { class: `stage ${ok === true ? "good" : ok === false ? "bad" : "open"}` },
      h("span", { class: "tick", role: "img", "aria-label": word }, ok === true ? "✓" : ok === false ? "✕" : "?"),
      h("span", { class: "name" }, S.stages[name] ?? name), foreign("span", { class: "say" }, detail),
      h("span", { class: "ms" }, `${duration_ms} ms`));
  }

  async function store() {
    banner.textContent = "";
    if (!isFine(S.faults)) return;
    try {
      const settings = await call("PUT", "integrations/mqtt/config", body());
      show(settings);
      fill(trial);
      toast(S.saved);
      on.saved(settings);
    } catch (problem) {
      refused(problem, S.faults);
    }
  }

  async function publishAgain() {
    const { success, message } = await call("POST", "integrations/mqtt/publish-discovery", undefined, TRIAL_MS);
    toast(message, !success);
  }

  async function load() {
    try {
      const settings = await get("integrations/mqtt/config");
      show(settings);
      on.loaded(settings);
    } catch (problem) {
      banner.className = "result bad";
      banner.textContent = problem.message;
    }
  }

  return { element, load, isDirty, isLoaded: () => stored !== null };
}

// How each kind of field is made. `get`: what is sent (undefined: left out); `raw`: what is checked; `set`: what is shown.
const MAKERS = {
  text(field, described) {
    const input = h("input", { ...described, type: "text", autocomplete: field.autocomplete ?? "off", autocapitalize: "none", spellcheck: "false" });
    const raw = () => input.value;
    return { element: input, raw, get: () => (field.nullable && raw().trim() === "" ? null : raw().trim()), set: (value) => { input.value = value ?? ""; } };
  },
  number(field, described) {
    const input = h("input", { ...described, type: "text", inputmode: "numeric", autocomplete: "off" });
    const get = () => {
      const text = input.value.trim();
      return text === "" && field.omitEmpty ? undefined : /^\d+$/.test(text) ? Number(text) : text;
    };
    return { element: input, raw: () => input.value, get, set: (value) => { input.value = value ?? ""; } };
  },
  flag(_, described) {
    const input = h("input", { ...described, type: "checkbox", role: "switch" });
    return { element: input, get: () => input.checked, set: (value) => { input.checked = value; } };
  },
  choice(field, described) {
    const input = h("select", described, field.values.map((value) => h("option", { value: String(value) }, T.options[field.name][value])));
    return { element: input, get: () => (field.number ? Number(input.value) : input.value), set: (value) => { input.value = String(value); } };
  },
  secret(field, described, label) {
    const input = h("input", { ...described, type: "password", autocomplete: "new-password" });
    return secret(field, label, input, () => (input.value === "" ? undefined : input.value), () => { input.value = ""; });
  },
  file(field, described, label) {
    const area = h("textarea", { ...described, rows: "3", spellcheck: "false", autocomplete: "off", placeholder: "-----BEGIN CERTIFICATE-----" });
    return { element: h("div", { class: "file" }, area, chooser(label, area)), raw: () => area.value,
      get: () => (area.value.trim() === "" ? null : area.value), set: (value) => { area.value = value ?? ""; } };
  },
  secretFile(field, described, label) {
    const area = h("textarea", { ...described, rows: "3", spellcheck: "false", autocomplete: "off", placeholder: "-----BEGIN PRIVATE KEY-----" });
    return secret(field, label, h("div", { class: "file" }, area, chooser(label, area)), () => (area.value.trim() === "" ? undefined : area.value), () => { area.value = ""; });
  },
};

/** A button that reads a file into a text area. */
function chooser(label, area) {
  const input = h("input", { type: "file", class: "visually-hidden", tabindex: "-1", "aria-hidden": "true", accept: ".pem,.crt,.cer,.key", onchange: async () => {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    const text = await file.text();
    const fault = pem(text);
    if (fault) return toast(file.size > 65_536 ? T.settings.tooLarge : T.settings.notPem, true);
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
  } });
  return h("span", {}, h("button", { type: "button", "aria-label": T.settings.fileFor(label), onclick: () => input.click() }, T.settings.file), input);
}

/** A secret that may be stored already: kept, replaced or cleared. What is stored is never shown. */
function secret(field, label, entry, typed, wipe) {
  let isStored = false, mode = "replace";
  const choose = (to) => (event) => {
    mode = to;
    wipe();
    draw();
    element.dispatchEvent(new Event("input", { bubbles: true }));
    if (to === "replace") (entry.querySelector("textarea") ?? entry).focus();
    event.preventDefault();
  };
  const button = (text, to) => h("button", { type: "button", class: "quiet", "aria-label": `${text}: ${label}`, onclick: choose(to) }, text);
  const element = h("div", { class: "secret" });
  function draw() {
    if (mode === "keep") fill(element, h("span", { class: "kept" }, "••••••••"), h("span", { class: "help" }, T.settings.configured), button(T.settings.replace, "replace"), button(T.settings.clear, "clear"));
    else if (mode === "clear") fill(element, h("span", { class: "kept" }, T.settings.cleared), button(T.settings.keep, "keep"));
    else fill(element, entry, isStored && button(T.settings.keep, "keep"));
  }
  return {
    element,
    get: () => (mode === "clear" ? null : mode === "keep" ? undefined : typed()),
    set: (_, settings) => {
      isStored = settings[`has_${field.name}`];
      mode = isStored ? "keep" : "replace";
      wipe();
      draw();
    },
  };
}
