// The cameras: how they stand, and what may be changed of them.

import { call, get } from "./api.js";
import { blank, busy, dialog, fill, foreign, h, newId, picture, time } from "./dom.js";
import { T } from "./texts.js";

const C = T.cameras;
const REFRESH_MS = 30_000;
// Events come in bursts; the cameras are asked for once in so long.
const CALM_MS = 2000;

/** The view; `known(cameras)` is told of each answer. */
export function camerasView(canChange, known) {
  const list = h("ul", { class: "cameras" });
  const note = h("p", { class: "empty", role: "status" });
  const element = h("section", { "aria-label": T.views.cameras }, list, note);
  const cards = new Map();
  let due;

  const path = (camera) => `cameras/${encodeURIComponent(camera.camera_id)}`;

  function card(camera) {
    const text = JSON.stringify(camera);
    const before = cards.get(camera.camera_id);
    if (before?.text === text) return before.element;
    const last = camera.last_event;
    const enabled = h("input", { type: "checkbox", role: "switch", checked: camera.enabled, disabled: !canChange, onchange: () => change(camera, { enabled: enabled.checked }, enabled) });
    const rename = h("button", { type: "button", onclick: () => askName(camera) }, C.rename);
    const remove = h("button", { type: "button", class: "danger", onclick: () => askRemove(camera) }, C.remove);
    const element = h("li", { class: "card camera", "data-status": camera.status },
      camera.thumbnail_seq === null ? blank("thumb")
        : picture(`${path(camera)}/thumbnail?seq=${camera.thumbnail_seq}`, T.events.picture(camera.camera_name), "thumb"),
      h("div", { class: "what" },
        foreign("h2", {}, camera.camera_name),
        h("p", { class: "sub" }, h("span", { class: "dot", "aria-hidden": "true" }), C.status[camera.status], " · ", h("code", {}, camera.camera_id)),
        h("p", { class: "sub" }, h("b", {}, camera.events_today.toLocaleString()), ` ${C.today} · `, h("b", {}, camera.events_this_week.toLocaleString()), ` ${C.week}`),
        h("p", { class: "last" }, last ? [foreign("span", {}, last.description), time(last.timestamp)] : C.noEvent)),
      h("div", { class: "row" }, h("label", { class: "switch", title: C.enabledHelp }, enabled, C.enabled), canChange && [rename, remove]));
    cards.set(camera.camera_id, { text, element });
    return element;
  }

  async function change(camera, update, control) {
    const done = await busy(control, () => call("PUT", path(camera), update));
    cards.delete(camera.camera_id);
    await refresh();
    return done !== undefined;
  }

  function askName(camera) {
    const input = h("input", { id: newId(), required: true, maxlength: "100", value: camera.camera_name, "aria-describedby": "rename-help" });
    const save = h("button", { class: "primary" }, T.settings.save);
    const form = h("form", { id: newId(), onsubmit: async (event) => {
      event.preventDefault();
      if (await change(camera, { camera_name: input.value.trim() }, save)) box.close();
    } }, h("div", { class: "field" }, h("label", { for: input.id }, C.name), input, h("p", { class: "help", id: "rename-help" }, C.nameHelp)),
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => box.close() }, T.dialog.cancel), save));
    const box = dialog(C.rename, form);
    input.select();
  }

  function askRemove(camera) {
    const remove = h("button", { type: "button", class: "danger solid", onclick: async () => {
      const done = await busy(remove, async () => (await call("DELETE", path(camera)), true));
      await refresh();
      if (done) box.close();
    } }, C.remove);
    const cancel = h("button", { type: "button", onclick: () => box.close() }, T.dialog.cancel);
    const box = dialog(C.removeTitle(camera.camera_name), h("p", { class: "prose" }, C.removeText), [cancel, remove]);
    cancel.focus();
  }

  async function refresh() {
    try {
      const { cameras } = await get("cameras");
      const ids = new Set(cameras.map((camera) => camera.camera_id));
      for (const id of cards.keys()) if (!ids.has(id)) cards.delete(id);
      const wanted = cameras.map(card);
      // What has not changed stays in its place, with the keyboard's focus.
      if (wanted.length !== list.children.length || wanted.some((one, i) => list.children[i] !== one)) {
        const focused = document.activeElement;
        fill(list, wanted);
        if (focused?.isConnected && focused !== document.body) focused.focus();
      }
      note.textContent = cameras.length === 0 ? C.none : "";
      known(cameras);
    } catch (problem) {
      note.textContent = problem.message;
    }
  }

  function soon() {
    due ??= setTimeout(() => {
      due = undefined;
      refresh();
    }, CALM_MS);
  }

  const timer = setInterval(() => document.hidden || refresh(), REFRESH_MS);
  return { element, refresh, soon, stop: () => (clearInterval(timer), clearTimeout(due)) };
}
