// @ts-check
// What Home Assistant calls a camera's entities, and an automation for events like a given one.

/** @import { Camera, EventRecord } from "./types" */

import { texts } from "./texts.js";

const labels = texts.automation;

/**
 * Returns the part of the entity ids that is made from the camera's id, as discovery announces it.
 * @param {string} cameraId
 */
const slug = (cameraId) => cameraId.toLowerCase().split(/[^a-z0-9]+/).filter(Boolean).join("_") || "liveobject";

/**
 * Returns the ids of a camera's entities, the most important one first.
 * @param {Camera} camera
 */
export function entitiesOf({ camera_id, is_doorbell }) {
  const name = slug(camera_id);
  return [
    `event.${name}_detection`,
    is_doorbell && `event.${name}_doorbell`,
    `binary_sensor.${name}_activity`,
    `image.${name}_thumbnail`,
    `sensor.${name}_description`,
    `sensor.${name}_last_event`,
    `sensor.${name}_events_today`,
    `sensor.${name}_events_this_week`,
    `binary_sensor.${name}_status`,
  ].filter((id) => id !== false);
}

/**
 * Returns text as a YAML string in double quotes.
 * @param {string} text
 */
const quoted = (text) => JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g,
  (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

/**
 * Returns text as a string of a Jinja template. No character can end the string or the template.
 * @param {string} text
 */
const literal = (text) => `'${text.replace(/[^A-Za-z0-9 _.-]/gu,
  (character) => `\\U${(character.codePointAt(0) ?? 0).toString(16).padStart(8, "0")}`)}'`;

/**
 * Returns the YAML of an automation that notifies of events like this one: of the same camera, with the same object.
 * @param {EventRecord} event
 */
export function automationFor({ camera_id, camera_name, objects_detected: [object], is_doorbell_ring: isRing }) {
  const alias = `${camera_name}: ${isRing ? labels.ring : object ?? labels.any}`;
  const lines = [
    `alias: ${quoted(alias)}`,
    "triggers:",
    "  - trigger: state",
    `    entity_id: event.${slug(camera_id)}_${isRing ? "doorbell" : "detection"}`,
    `    # ${labels.restored}`,
    "    not_from: unavailable",
    "    not_to:",
    "      - unavailable",
    "      - unknown",
    ...(object !== undefined && !isRing ? [
      "conditions:",
      "  - condition: template",
      "    value_template: >-",
      `      {{ ${literal(object)} in (trigger.to_state.attributes.objects_detected or []) }}`,
    ] : []),
    "actions:",
    `  # ${labels.replace}`,
    "  - action: persistent_notification.create",
    "    data:",
    "      title: \"{{ trigger.to_state.attributes.camera_name }}\"",
    "      message: \"{{ trigger.to_state.attributes.description }}\"",
    "mode: queued",
  ];
  return `${lines.join("\n")}\n`;
}
