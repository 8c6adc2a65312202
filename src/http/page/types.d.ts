// The types of all data that the server sends and accepts, and of the data that the page's modules exchange.
//
// Only the type check in tests/run reads this file; it is not part of the served page.

// --- The API ---

/** A point in time (RFC 3339). */
export type Timestamp = string;

export type Scope = "events:write" | "read" | "admin";

export interface Session {
  signed_in: boolean;
  /** Whether the user can sign out; not in the frame of Home Assistant. */
  can_sign_out: boolean;
  /** `null` when nobody is signed in. */
  scopes: Scope[] | null;
}

export type DeliveryState = "pending" | "delivered" | "dead";

export type DeadReason =
  | "not_authorized" | "topic_name_invalid" | "payload_format_invalid" | "packet_too_large" | "expired"
  | "refused_repeatedly" | "connection_closed_by_broker" | "ignored_by_broker" | "unreadable";

export interface Delivery {
  state: DeliveryState;
  delivered_at: Timestamp | null;
  /** Whether the event was published, or would now be published, to the `history` topic. */
  late: boolean;
  /** Whether a subscriber received the event; null while that is not known. */
  heard: boolean | null;
  /** Why the event is dead. */
  reason: DeadReason | null;
  /** Present only on dismissed events. */
  dismissed?: true;
}

/** The result of a decision about several dead events. */
export interface DecidedAll {
  events: number;
  /** Whether these were all. If not, the request must be repeated with `next_after` as `after`. */
  complete: boolean;
  next_after: number | null;
}

export interface EventRecord {
  event_id: string;
  camera_id: string;
  camera_name: string;
  description: string;
  objects_detected: string[];
  /** A percentage; `null` if the source did not report one. */
  confidence: number | null;
  source_type: string;
  smart_detection_type: string | null;
  /** When the event happened. */
  timestamp: Timestamp;
  thumbnail_url: string;
  seq: number;
  ai_confidence?: number;
  is_doorbell_ring?: boolean;
  provider_used?: string;
  analysis_mode?: string;
  low_confidence?: boolean;
  correlation_group_id?: string;
  delivery_carrier?: string;
  delivery_carrier_display?: string;
  /** When the event was accepted. */
  received_at: Timestamp;
  delivery: Delivery;
  /** Absent when the server does not know. A picture may still arrive later. */
  has_thumbnail?: boolean;
  /** The version of the picture; absent if there is none, or if that is not known. */
  thumbnail_version?: string;
}

/** The widths of small pictures, in pixels. */
export type PictureWidth = 192 | 384 | 768;

/** Events, newest first. */
export interface EventPage {
  events: EventRecord[];
  /** The `before` of the next page; `null` if no older event matches. */
  next_before: number | null;
}

/** The number of events in each step of a period. */
export interface EventDensity {
  from: Timestamp;
  to: Timestamp;
  step: number;
  events: number[];
  /** The `before` of the next request, whose numbers are to be added; usually `null`. */
  next_before: number | null;
}

export interface DeliveryChange {
  event_id: string;
  seq: number;
  camera_id: string;
  delivery: Delivery;
}

export interface Receipt {
  event_id: string;
  seq: number;
  duplicate: boolean;
}

/** What is known about a token, except the token itself. */
export interface TokenRecord {
  name: string;
  scopes: Scope[];
  created_at: Timestamp;
  last_used_at: Timestamp | null;
}

export interface TokenList {
  tokens: TokenRecord[];
}

export interface SignInLinks {
  links: string[];
  local_only: boolean;
  expires_in_seconds: number;
  /** An SVG picture; `null` when only the machine of the service can use the links. */
  qr_code: string | null;
}

/** Who has sent a request. */
export interface Caller {
  kind: "administrator" | "token" | "home_assistant";
  /** The name of the token; `null` unless `kind` is `token`. */
  name: string | null;
  scopes: Scope[];
}

export interface ServiceInfo {
  version: string;
  uptime_seconds: number;
  urls: string[];
  local_only: boolean;
  caller: Caller;
  /** `count` is `null` while it is not known. */
  events: { count: number | null; oldest_at: Timestamp | null; retention_days: number };
  /** `count` and `bytes` are `null` while they are not known. */
  pictures: { count: number | null; bytes: number | null; max_bytes: number | null };
  database: { engine: "sqlite" | "postgres"; name: string };
  database_bytes: number | null;
  disk_free_bytes: number | null;
  nodes: { name: string; url: string; version: string; state: "active" | "standby" | "away" }[];
  documentation_url: string;
  changelog_url: string;
}

export type LogLevel = "error" | "warn" | "info" | "debug" | "trace";

export interface LogLine {
  number: number;
  at: Timestamp;
  level: LogLevel;
  target: string;
  message: string;
  truncated: boolean;
}

export interface Log {
  /** Oldest first. */
  lines: LogLine[];
  next_after: number;
  /** How many lines after `after` the server does not have any more. */
  missed: number;
  /** Changes when the service is restarted. */
  began_at: Timestamp;
}

/** A token that was just created. */
export interface NewToken {
  name: string;
  scopes: Scope[];
  token: string;
}

export type CameraStatus = "online" | "offline" | "unavailable";

export interface LastEvent {
  event_id: string;
  timestamp: Timestamp;
  /** At most 255 characters. */
  description: string;
  smart_detection_type: string | null;
}

export interface Camera {
  camera_id: string;
  camera_name: string;
  /** The camera's own name, while a person has given it another one. */
  reported_name: string | null;
  source_type: string;
  is_doorbell: boolean;
  enabled: boolean;
  status: CameraStatus;
  last_event: LastEvent | null;
  events_today: number;
  events_this_week: number;
  /** The event that the newest picture belongs to; `null` when the camera has no picture. */
  thumbnail_seq: number | null;
  thumbnail_version: string | null;
}

export interface CameraList {
  cameras: Camera[];
}

/** The fields that the page changes; the server keeps the ones that are left out. */
export interface CameraUpdate {
  /** `null` returns to the camera's own name. */
  camera_name?: string | null;
  enabled?: boolean;
}

export type Protocol = "3.1.1" | "5";
export type Transport = "tcp" | "websocket";
export type DiscoveryFormat = "device" | "component";

/** The MQTT settings, without the secrets. */
export interface Settings {
  enabled: boolean;
  broker_host: string;
  broker_port: number;
  username: string | null;
  has_password: boolean;
  protocol: "auto" | Protocol;
  transport: Transport;
  websocket_path: string;
  use_tls: boolean;
  ca_certificate: string | null;
  client_certificate: string | null;
  has_client_key: boolean;
  tls_server_name: string | null;
  tls_insecure: boolean;
  client_id: string;
  keep_alive_seconds: number;
  connect_timeout_seconds: number;
  wait_for_subscribers: boolean;
  topic_prefix: string;
  qos: 0 | 1 | 2;
  retain_messages: boolean;
  message_expiry_seconds: number;
  late_after_seconds: number;
  max_events_per_second: number;
  ack_timeout_seconds: number;
  availability_topic: string;
  birth_message: string;
  will_message: string;
  discovery_enabled: boolean;
  discovery_prefix: string;
  discovery_format: DiscoveryFormat;
  activity_seconds: number;
  /** `null` when these are the defaults. */
  updated_at: Timestamp | null;
  /** Whether the settings come from the configuration and cannot be replaced. */
  managed: boolean;
  /** The settings that Home Assistant's Supervisor provides, and that cannot be replaced while it does. */
  provided: SettingName[];
  /** Changes whenever something here or a secret changes. */
  revision: string;
}

/** Secrets are sent, but never received. */
export type Secret = "password" | "client_key";

/** The name of a setting that can be changed and is not secret. */
export type PlainSettingName =
  Exclude<keyof Settings, `has_${Secret}` | "updated_at" | "managed" | "provided" | "revision">;
export type SettingName = PlainSettingName | Secret;

/** What a form field sends: `undefined` leaves it out; text is sent as typed when it is not a number. */
export type SettingValue = string | number | boolean | null | undefined;
export type SettingsInput = Partial<Record<SettingName, SettingValue>>;

export type ConnectionState = "disabled" | "connecting" | "connected" | "waiting";

export type FailureKind =
  | "name_not_found" | "unreachable" | "timeout" | "refused" | "busy" | "bad_credentials" | "not_authorized"
  | "protocol" | "tls" | "taken_over" | "stalled" | "closed" | "panicked" | "secret_unreadable"
  | "broker_not_provided" | "not_confirmed";

export interface LastError {
  kind: FailureKind;
  message: string;
  at: Timestamp;
}

export type WarningKind =
  | "no_subscribers" | "waiting_for_subscriber" | "late_on_arrival" | "clock_jumped" | "database_unavailable" | "disk_almost_full"
  | "database_asynchronous" | "node_away" | "node_unable" | "node_keys_differ" | "node_clock_differs"
  | "events_unreadable" | "events_missing" | "database_restored" | "restore_waiting" | "restore_failed"
  | "seq_file_failed" | "too_many_cameras" | "qos_lowered" | "retain_unavailable"
  | "client_id_taken_over" | "availability_overwritten" | "tls_insecure" | "certificate_expires"
  | "settings_ignored" | "too_many_connections" | "topic_refused" | "topic_unconfirmed" | "messages_left_out"
  | "broker_not_provided";

export interface Warning {
  kind: WarningKind;
  message: string;
  /** Grows when it gets clearly worse; comparable with that of the same kind. */
  severity: number;
  /** Since when it exists without interruption. */
  since: Timestamp;
}

/** A backup that was uploaded. `failure` is the reason why it was not restored, and `null` while it waits. */
export interface WaitingRestore {
  state: "waiting" | "failed";
  created_at: Timestamp;
  version: string;
  events: number;
  first_seq: number | null;
  last_seq: number;
  cameras: number;
  pictures: number;
  secrets: boolean;
  disconnected: boolean;
  bytes: number;
  uploaded_at: Timestamp;
  failure: string | null;
}

export interface Restore {
  restore: WaitingRestore | null;
  busy: boolean;
}

export interface OutboxStatus {
  pending: number;
  in_flight: number;
  dead: number;
  held: number;
  seconds_left: number | null;
  oldest_pending_at: Timestamp | null;
  delivered_today: number;
}

export interface MqttStatus {
  connected: boolean;
  state: ConnectionState;
  /** `host:port` */
  broker: string | null;
  protocol: Protocol | null;
  last_connected_at: Timestamp | null;
  messages_published: number;
  publish_errors: number;
  last_error: LastError | null;
  reconnect_attempt: number;
  next_attempt_at: Timestamp | null;
  outbox: OutboxStatus;
  warnings: Warning[];
}

export type Stage =
  | "resolve"
  | "connect"
  | "tls"
  | "login"
  | "publish"
  | "loopback"
  | "availability"
  | "discovery"
  | "events"
  | "states";

export interface TestStage {
  name: Stage;
  /** `null` when the result is unknown. */
  ok: boolean | null;
  duration_ms: number;
  detail: string;
}

export interface TestReport {
  success: boolean;
  message: string;
  protocol: Protocol | null;
  stages: TestStage[];
}

/** A line of the connection test: a stage that begins, one that has ended, or, as the last line, the outcome. */
export interface TestLine {
  begun?: Stage;
  stage?: TestStage;
  report?: TestReport;
  error?: string;
}

export type BrokerState = "accepted" | "login_required" | "tls_failed" | "failed" | "not_mqtt" | "unreachable";
export type BrokerSource = "configured" | "this_machine" | "usual_name" | "announced" | "home_assistant";

/** A broker that the search found, and the result of its test without a login. */
export interface BrokerCandidate {
  broker_host: string;
  broker_port: number;
  use_tls: boolean;
  /** All names and addresses. Those that are announced are not verified. */
  names: string[];
  found_by: BrokerSource[];
  state: BrokerState;
  message: string;
  protocol: Protocol | null;
  stages: TestStage[];
}

export interface BrokerCandidates {
  candidates: BrokerCandidate[];
  /** How many were not tested because there were too many. */
  left_out: number;
}

/** The result of an action, in words. */
export interface ActionResult {
  success: boolean;
  message: string;
}

export type HistoryRange = "1h" | "24h" | "7d";

/** The interval that ended at `at`. Figures are `null` unless `state` is `known`. */
export interface HistoryPoint {
  at: Timestamp;
  state: "known" | "not_running" | "unknown";
  events: number | null;
  late: number | null;
  dead: number | null;
  pending: number | null;
  delivery_p50_seconds: number | null;
  delivery_p95_seconds: number | null;
}

export interface History {
  interval_seconds: number;
  /** Oldest first. */
  points: HistoryPoint[];
}

export interface ChartKind {
  name: "events" | "latency" | "pending";
  format: (value: number) => string;
  /** The first one has a filled area. The minutes are the length of a point's interval. */
  lines: ((point: HistoryPoint, minutes: number) => number | null)[];
}

/** The period that a chart shows; all times in milliseconds. */
export interface TimeRange {
  start: number;
  end: number;
  step: number;
  name: HistoryRange;
}

export type Outcome = "nothing_waited" | "waiting" | "failed" | "delivered" | "delivered_in_order" | "unknown";

export interface Outage {
  id: number;
  kind: "broker_away" | "disabled" | "not_running" | "unknown";
  reason: FailureKind | null;
  from: Timestamp;
  /** `null` if it has not ended. */
  to: Timestamp | null;
  events: number;
  waiting: number;
  late: number;
  dead: number;
  outcome: Outcome;
}

export interface Outages {
  recorded_from: Timestamp;
  /** Oldest first. */
  outages: Outage[];
}

export interface FieldError {
  /** Empty when the error concerns the input as a whole. */
  field: string;
  message: string;
}

/** An error (RFC 9457). */
export interface ProblemDetails {
  type: string;
  title: string;
  status: number;
  detail: string;
  errors?: FieldError[];
}

export type Method = "GET" | "POST" | "PUT" | "DELETE";

/** The response body of every call that the page makes. */
export interface Responses {
  "GET session": Session;
  "POST session": Session;
  "DELETE session": null;
  "GET cameras": CameraList;
  [update: `PUT cameras/${string}`]: Camera;
  [remove: `DELETE cameras/${string}`]: null;
  [list: `GET events?${string}`]: EventPage;
  [event: `GET events/${string}`]: EventRecord;
  "POST events": Receipt;
  "POST tokens": NewToken;
  "GET tokens": TokenList;
  [revoke: `DELETE tokens/${string}`]: null;
  "POST sign-in-links": SignInLinks;
  "GET service": ServiceInfo;
  [log: `GET log?${string}`]: Log;
  [retry: `POST events/${string}/retry`]: EventRecord;
  [dismiss: `DELETE events/${string}/dead`]: null;
  [retryAll: `POST events/dead/retry?${string}`]: DecidedAll;
  [dismissAll: `DELETE events/dead?${string}`]: DecidedAll;
  [history: `GET history?${string}`]: History;
  "GET outages": Outages;
  "GET restore": Restore;
  "DELETE restore": null;
  "GET integrations/mqtt/status": MqttStatus;
  "GET integrations/mqtt/config": Settings;
  "POST integrations/mqtt/candidates": BrokerCandidates;
  "POST integrations/mqtt/test-message": ActionResult;
  "POST integrations/mqtt/reconnect": ActionResult;
  "POST integrations/mqtt/publish-discovery": ActionResult;
}

export type ResponseOf<Call extends string> = Call extends keyof Responses ? Responses[Call] : never;

/** The data of each message of the server's event stream. */
export interface StreamMessages {
  status: MqttStatus;
  event: EventRecord;
  delivery: DeliveryChange[];
  reset: Record<string, never>;
  settings: { revision: string };
}

// --- Between the modules ---

/** The texts of a language: the same as in English. */
export type Texts = typeof import("./texts.js").texts;

/** The values in a sentence of the server, by their names in the pattern. */
export type SentenceValues = Record<string, string>;

/**
 * The pattern of a sentence of the server, the sentence in another language, and the numbers of those places without a
 * name that stay as they are.
 */
export type Sentence = [
  pattern: string, translation: string | ((values: SentenceValues) => string), verbatim?: number[],
];

export type ViewName = "events" | "cameras" | "camera" | "settings" | "service";

/** Which events a list shows. Empty texts select all. */
export interface EventFilters {
  /** The ids of cameras, separated by commas. */
  camera: string;
  state: DeliveryState | "";
  /** Words. */
  q?: string;
  object?: string;
  /** `2026-11-27`, in the calendar of the browser. */
  day?: string;
  /** Times of day, such as `14:30`. */
  from?: string;
  to?: string;
}

/** What an address shows: a view, and the event that is open above it. */
export interface Route extends EventFilters {
  view: ViewName;
  event?: string;
  /** Whether the picture of the event fills the window. */
  isPicture?: boolean;
}

/** Changes the address. */
export interface Navigation {
  /** `replaces` keeps the present address out of the history. */
  open: (address: string, replaces?: boolean) => void;
  openEvent: (id: string, isPicture?: boolean) => void;
  /** Closes the open event, or its picture. */
  close: () => void;
}

/** The list that an open event is in. */
export interface EventNeighbors {
  find: (id: string) => EventRecord | undefined;
  /**
   * Returns the next event in a direction (1: older) that is wanted: `undefined` if there is none, `null` if none was
   * found among the next few hundred, or if the search was abandoned.
   */
  neighbor: (
    id: string, step: 1 | -1, isWanted?: (event: EventRecord) => boolean, isAbandoned?: () => boolean,
  ) => Promise<EventRecord | null | undefined>;
}

/** The examples for programs that send events. */
export type ExampleName = "curl" | "home-assistant" | "python";

/** What can be appended to an element. */
export type Child = Node | string | false | null | undefined | Child[];

/** Attributes, properties and event listeners of a new element. */
export interface Props {
  [name: string]: string | number | boolean | null | undefined | ((event: Event) => unknown);
}

export type StreamListener = {
  [Kind in keyof StreamMessages]: (data: StreamMessages[Kind]) => void;
} & { lost: (isLost: boolean) => void };

/** Returns what is wrong with an input, or an empty string. */
export type Check = (text: string) => string;

/** What the form contains at the moment. */
export type FormValues = Record<SettingName, SettingValue>;

interface FieldBase {
  name: PlainSettingName;
  check?: Check;
  /** Whether the field applies to these values. */
  isShown?: (values: FormValues) => boolean;
  /** Whether the field must be filled in. */
  isRequired?: (values: FormValues) => boolean;
  /** Whether the field takes the whole width. */
  wide?: boolean;
}

export interface TextField extends FieldBase {
  kind: "text";
  /** Whether an empty field means `null`. */
  nullable?: boolean;
}

export interface NumberField extends FieldBase {
  kind: "number";
  /** Whether an empty field is left out. */
  omitEmpty?: boolean;
}

export interface FlagField extends FieldBase {
  kind: "flag";
}

export interface ChoiceField extends FieldBase {
  name: "transport" | "qos" | "discovery_format" | "protocol";
  kind: "choice";
  values: (string | number)[];
  /** Whether the values are numbers. */
  numeric?: boolean;
}

interface SecretFieldBase extends Omit<FieldBase, "name"> {
  name: Secret;
}

export interface PasswordField extends SecretFieldBase {
  kind: "secret";
}

export interface SecretFileField extends SecretFieldBase {
  kind: "secretFile";
}

export interface FileField extends FieldBase {
  kind: "file";
}

export type Field = TextField | NumberField | FlagField | ChoiceField | FileField | PasswordField | SecretFileField;

export interface FieldGroup {
  name: "broker" | "security" | "topics" | "ha" | "advanced";
  /** Whether the group is collapsed at first. */
  collapsed?: boolean;
  fields: Field[];
}

/** The part of a field that is edited. */
export interface Control {
  element: HTMLElement;
  /** Returns the value to send; `undefined` leaves the field out. */
  get: () => SettingValue;
  /** Returns the text to check. */
  raw?: () => string;
  /** Shows a stored value. For a secret, the value is whether one is stored. */
  set: (value: SettingValue) => void;
  /** Lets the user enter a new secret instead of keeping the stored one. */
  replace?: () => void;
  /** Sets whether a stored secret must be entered again. */
  require?: (isNeeded: boolean) => void;
}

/** A form field on the page. */
export interface FieldInput extends Control {
  /** Shows what is wrong with the field; an empty string clears it. */
  showError: (message: string) => void;
}

export interface SettingsListener {
  loaded: (settings: Settings) => void;
  /** `isValid`: whether the form has an address and no invalid field. */
  dirty: (isDirty: boolean, isValid: boolean) => void;
  tested: (success: boolean) => void;
  saved: (settings: Settings) => void;
}

declare global {
  interface Window {
    /** The responses that `early.js` requested, by address. */
    earlyResponses: Map<string, Promise<Response>>;
  }
}
