// @ts-check
// The controls of a camera: rename it, show it in Home Assistant or not, and delete it.

/** @import { Camera, CameraUpdate } from "./types" */

import { call, messageOf, Problem } from "./api.js";
import { busy, foreign, html, newId, openDialog, toast } from "./dom.js";
import { fromServer } from "./sentences.js";
import { texts } from "./texts.js";

const labels = texts.cameras;

/**
 * @param {Camera} camera
 * @returns {`cameras/${string}`}
 */
export const pathOf = (camera) => `cameras/${encodeURIComponent(camera.camera_id)}`;

/**
 * Creates the switch and the buttons. `onChanged` is called after each request, `onRemoved` after the camera was
 * deleted.
 * @param {Camera} camera
 * @param {boolean} canChange
 * @param {{ onChanged: () => Promise<unknown>, onRemoved: () => void }} listener
 */
export function cameraControls(camera, canChange, { onChanged, onRemoved }) {
  const enabled = html("input", {
    type: "checkbox", role: "switch", checked: camera.enabled, disabled: !canChange, "aria-describedby": "enabled-help",
    onchange: async () => {
      await busy(enabled, () => call("PUT", pathOf(camera), { enabled: enabled.checked }));
      await onChanged();
    },
  });

  function askName() {
    const own = camera.reported_name;
    const help = html("p", { class: "help", id: newId() }, labels.nameHelp);
    const fault = html("p", { class: "fault", id: newId(), role: "alert" });
    const input = html("input", {
      id: newId(), maxlength: "100", value: camera.camera_name, "aria-describedby": `${help.id} ${fault.id}`,
    });
    const save = html("button", { class: "primary" }, texts.settings.save);
    /** @param {string} message */
    function showFault(message) {
      fault.textContent = message;
      input.toggleAttribute("aria-invalid", false);
      if (!message) return;
      input.setAttribute("aria-invalid", "true");
      input.focus();
    }
    /** @param {Event} event */
    const submit = async (event) => {
      event.preventDefault();
      const name = input.value.trim();
      if (name === "") {
        showFault(labels.nameMissing);
        return;
      }
      await rename(name);
    };
    /** @param {string | null} name `null` for the camera's own name. */
    async function rename(name) {
      save.disabled = true;
      try {
        /** @type {CameraUpdate} */
        const update = { camera_name: name };
        const { camera_name: now } = await call("PUT", pathOf(camera), update);
        dialog.close();
        toast(labels.renamed(now));
      } catch (error) {
        const field = error instanceof Problem ? error.errors.find((one) => one.field === "camera_name") : undefined;
        showFault(field ? fromServer(field.message).text : messageOf(error));
      }
      save.disabled = false;
      await onChanged();
    }
    const form = html("form", { id: newId(), novalidate: true, onsubmit: submit },
      html("div", { class: "field" }, html("label", { for: input.id }, labels.name), input, help, fault),
      own !== null && foreign("button", { type: "button", class: "quiet", onclick: () => rename(null) },
        labels.useOwnName(own)),
      html("div", { class: "row end" },
        html("button", { type: "button", onclick: () => dialog.close() }, texts.dialog.cancel), save));
    const dialog = openDialog(labels.renameTitle(camera.camera_name), form);
    input.select();
  }

  function askRemove() {
    const removeCamera = async () => {
      const removed = await busy(remove, async () => (await call("DELETE", pathOf(camera)), true));
      await onChanged();
      if (!removed) return;
      dialog.close();
      toast(labels.removed(camera.camera_name));
      onRemoved();
    };
    const remove = html("button", { type: "button", class: "danger solid", onclick: removeCamera }, labels.remove);
    const cancel = html("button", { type: "button", onclick: () => dialog.close() }, texts.dialog.cancel);
    const explanation = html("p", { class: "prose" }, labels.removeText);
    const dialog = openDialog(labels.removeTitle(camera.camera_name), explanation, [cancel, remove]);
    cancel.focus();
  }

  return [
    html("div", {},
      html("label", { class: "switch" }, enabled, labels.enabled),
      html("p", { class: "help", id: "enabled-help" }, labels.enabledHelp)),
    canChange && html("div", { class: "row" },
      html("button", { type: "button", onclick: askName }, labels.rename),
      html("button", { type: "button", class: "danger", onclick: askRemove }, labels.remove)),
  ];
}
