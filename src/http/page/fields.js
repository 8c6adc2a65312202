// @ts-check
// The fields in the settings form: their groups, their kinds, and the server's limits, so that mistakes are shown while
// the user types. The server checks everything again.

/** @import { Check, ChoiceField, Field, FieldGroup, FormValues, PlainSettingName, Settings } from "./types" */
/** @import { FlagField, NumberField, TextField } from "./types" */

import { texts } from "./texts.js";

const messages = texts.checks;
export const MAX_PEM_BYTES = 65_536;

/** @param {string} text */
const byteLength = (text) => new TextEncoder().encode(text).length;

/** @type {(min: number, max: number) => Check} */
const whole = (min, max) => (text) =>
  /^\d+$/.test(text) && +text >= min && +text <= max ? "" : messages.whole(min, max);

/** @type {(min: number, max: number) => Check} */
const zeroOr = (min, max) => (text) =>
  /^\d+$/.test(text) && (+text === 0 || (+text >= min && +text <= max)) ? "" : messages.zeroOr(min, max);

/** @type {Check} */
const noControl = (text) => (/\p{Cc}/u.test(text) ? messages.control : "");

/** @type {(min: number, max: number) => Check} */
const length = (min, max) => (text) => {
  if (byteLength(text) > max) return messages.long(max);
  return text.length < min ? messages.required : "";
};

/** @type {Check} */
const host = (text) => (/[\s/]/.test(text) ? messages.host : length(0, 255)(text));

/** @type {Check} */
const topicName = (text) => (/[+#]|^\$/.test(text) ? messages.topic : noControl(text));

/** @type {Check} */
const topicPrefix = (text) => length(1, 100)(text) || (/^\/|\/$/.test(text) ? messages.topic : topicName(text));

/** @type {Check} */
const path = (text) =>
  length(1, 256)(text) || (/^\/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$/.test(text) ? "" : messages.path);

/** @type {Check} */
export const pem = (text) => {
  if (byteLength(text) > MAX_PEM_BYTES) return texts.settings.tooLarge;
  return text.includes("-----BEGIN ") ? "" : messages.pem;
};

/** @type {(first: Check, second: Check) => Check} */
const both = (first, second) => (text) => first(text) || second(text);

/** @type {(check: Check) => Check} */
const optional = (check) => (text) => (text === "" ? "" : check(text));

/** @type {(name: PlainSettingName, check: Check, more?: Partial<TextField>) => TextField} */
const text = (name, check, more) => ({ name, kind: "text", check, ...more });

/** @type {(name: PlainSettingName, check: Check, more?: Partial<NumberField>) => NumberField} */
const number = (name, check, more) => ({ name, kind: "number", check, ...more });

/** @type {(name: PlainSettingName, more?: Partial<FlagField>) => FlagField} */
const flag = (name, more) => ({ name, kind: "flag", ...more });

/** @type {(name: ChoiceField["name"], values: (string | number)[], more?: Partial<ChoiceField>) => ChoiceField} */
const choice = (name, values, more) => ({ name, kind: "choice", values, ...more });

/** @param {FormValues} values */
const withTls = (values) => values.use_tls === true;
/** @param {FormValues} values */
const withDiscovery = (values) => values.discovery_enabled === true;

/** @type {Field[]} */
const broker = [
  flag("enabled"),
  text("broker_host", host, { wide: true, isRequired: (values) => values.enabled === true }),
  number("broker_port", optional(whole(1, 65_535)), { omitEmpty: true }),
  text("username", both(length(0, 65_535), noControl), { nullable: true }),
  { name: "password", kind: "secret" },
  choice("transport", ["tcp", "websocket"]),
  text("websocket_path", path, { isShown: (values) => values.transport === "websocket" }),
];

/** @type {Field[]} */
const security = [
  flag("use_tls"),
  { name: "ca_certificate", kind: "file", check: optional(pem), isShown: withTls },
  { name: "client_certificate", kind: "file", check: optional(pem), isShown: withTls },
  { name: "client_key", kind: "secretFile", isShown: withTls },
  text("tls_server_name", host, { nullable: true, isShown: withTls }),
  flag("tls_insecure", { isShown: withTls }),
];

/** @type {Field[]} */
const topics = [
  text("topic_prefix", topicPrefix),
  choice("qos", [0, 1, 2], { numeric: true }),
  number("late_after_seconds", zeroOr(5, 604_800)),
  number("max_events_per_second", whole(0, 1_000_000)),
  flag("retain_messages"),
  flag("wait_for_subscribers"),
];

/** @type {Field[]} */
const homeAssistant = [
  flag("discovery_enabled"),
  text("discovery_prefix", topicPrefix, { isShown: withDiscovery }),
  choice("discovery_format", ["device", "component"], { isShown: withDiscovery }),
  number("activity_seconds", whole(5, 86_400)),
];

/** @type {Field[]} */
const advanced = [
  choice("protocol", ["auto", "5", "3.1.1"]),
  text("client_id", both(length(1, 128), noControl)),
  number("keep_alive_seconds", whole(5, 65_535)),
  number("connect_timeout_seconds", whole(1, 60)),
  number("ack_timeout_seconds", whole(5, 600)),
  number("message_expiry_seconds", zeroOr(60, 604_800)),
  text("availability_topic", optional(both(length(1, 256), topicName))),
  text("birth_message", length(1, 256)),
  text("will_message", length(1, 256)),
];

/** @type {FieldGroup[]} */
export const GROUPS = [
  { name: "broker", fields: broker },
  { name: "security", fields: security },
  { name: "topics", fields: topics },
  { name: "ha", fields: homeAssistant },
  { name: "advanced", collapsed: true, fields: advanced },
];

/**
 * Returns the port that brokers listen on by default.
 * @param {Pick<FormValues | Settings, "transport" | "use_tls">} settings
 */
export function defaultPort({ transport, use_tls }) {
  if (transport === "websocket") return use_tls ? 443 : 80;
  return use_tls ? 8883 : 1883;
}
