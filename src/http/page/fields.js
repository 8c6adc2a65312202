// The settings' fields: their groups, their kinds, and the server's bounds, so that a mistake shows while it is typed. The
// server has the last word.

import { T } from "./texts.js";

const C = T.checks;
const MAX_PEM = 65_536;
const bytes = (text) => new TextEncoder().encode(text).length;

const whole = (min, max) => (text) => (/^\d+$/.test(text) && +text >= min && +text <= max ? "" : C.whole(min, max));
const zeroOr = (min, max) => (text) => (/^\d+$/.test(text) && (+text === 0 || (+text >= min && +text <= max)) ? "" : C.zeroOr(min, max));
const plain = (text) => (/\p{Cc}/u.test(text) ? C.control : "");
const within = (min, max) => (text) => (bytes(text) > max ? C.long(max) : text.length < min ? C.required : "");
const host = (text) => (/[\s/]/.test(text) ? C.host : within(0, 255)(text));
const name = (text) => (/[+#]|^\$/.test(text) ? C.topic : plain(text));
const topic = (text) => within(1, 100)(text) || (/^\/|\/$/.test(text) ? C.topic : name(text));
const both = (one, other) => (text) => one(text) || other(text);
const path = (text) => within(1, 256)(text) || (/^\/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$/.test(text) ? "" : C.path);
const optional = (check) => (text) => (text === "" ? "" : check(text));
export const pem = (text) => (bytes(text) > MAX_PEM ? T.settings.tooLarge : text.includes("-----BEGIN ") ? "" : C.pem);

const text = (name, check, more = {}) => ({ name, kind: "text", check, ...more });
const number = (name, check, more = {}) => ({ name, kind: "number", check, ...more });
const flag = (name, more = {}) => ({ name, kind: "flag", ...more });
const choice = (name, values, more = {}) => ({ name, kind: "choice", values, ...more });
const tls = (values) => values.use_tls;
const announced = (values) => values.discovery_enabled;

/** Every field. `shown(values)`: when it is of use; `nullable`: empty means null; `number`: the choice's values are numbers. */
export const GROUPS = [
  { name: "broker", fields: [
    flag("enabled"),
    text("broker_host", host, { wide: true, needed: (values) => values.enabled }),
    number("broker_port", optional(whole(1, 65_535)), { omitEmpty: true }),
    text("username", both(within(0, 65_535), plain), { nullable: true, autocomplete: "off" }),
    { name: "password", kind: "secret" },
    choice("transport", ["tcp", "websocket"]),
    text("websocket_path", path, { shown: (values) => values.transport === "websocket" }),
  ] },
  { name: "security", fields: [
    flag("use_tls"),
    { name: "ca_certificate", kind: "file", check: optional(pem), shown: tls },
    { name: "client_certificate", kind: "file", check: optional(pem), shown: tls },
    { name: "client_key", kind: "secretFile", shown: tls },
    text("tls_server_name", host, { nullable: true, shown: tls }),
    flag("tls_insecure", { shown: tls }),
  ] },
  { name: "topics", fields: [
    text("topic_prefix", topic),
    choice("qos", [0, 1, 2], { number: true }),
    number("late_after_seconds", zeroOr(5, 604_800)),
    number("max_events_per_second", whole(0, 1_000_000)),
    flag("retain_messages"),
  ] },
  { name: "ha", fields: [
    flag("discovery_enabled"),
    text("discovery_prefix", topic, { shown: announced }),
    choice("discovery_format", ["device", "component"], { shown: announced }),
    number("activity_seconds", whole(5, 86_400)),
  ] },
  { name: "advanced", folded: true, fields: [
    choice("protocol", ["auto", "5", "3.1.1"]),
    text("client_id", both(within(1, 128), plain)),
    number("keep_alive_seconds", whole(5, 65_535)),
    number("connect_timeout_seconds", whole(1, 60)),
    number("ack_timeout_seconds", whole(5, 600)),
    number("message_expiry_seconds", zeroOr(60, 604_800)),
    text("availability_topic", optional(both(within(1, 256), name))),
    text("birth_message", within(1, 256)),
    text("will_message", within(1, 256)),
  ] },
];

/** Where brokers listen. */
export function usualPort({ transport, use_tls }) {
  return transport === "websocket" ? (use_tls ? 443 : 80) : use_tls ? 8883 : 1883;
}
