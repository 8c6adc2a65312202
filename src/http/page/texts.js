// @ts-check
// All text on the page, in one place, in English. Other languages have the same texts in files of their own, which
// replace these. Text from the server is in `sentences.js`.

/** @import { CameraStatus, ConnectionState, DeadReason, ExampleName, FieldGroup, SettingName, Stage } from "./types" */
/** @import { FailureKind, Texts, WarningKind } from "./types" */

import { number } from "./locale.js";

/** @type {Record<ConnectionState, string>} */
const connectionStates = {
  connected: "Connected",
  connecting: "Connecting …",
  waiting: "Waiting to reconnect",
  disabled: "Not connected",
};

/** @type {Record<DeadReason, string>} */
const deadReasons = {
  not_authorized: "The broker’s access rules refuse this topic. Allow it there, then send the event again.",
  topic_name_invalid: "The broker does not accept this topic. Try another topic prefix.",
  payload_format_invalid: "The broker does not accept this payload.",
  packet_too_large:
    "The event is larger than the broker accepts. Raise the broker’s limit, then send the event again.",
  expired: "The event was queued for longer than the event expiry in the settings.",
  unreadable: "Its row in the database is damaged. Restore a backup, then send it again.",
  refused_repeatedly: "The broker refused the event repeatedly without giving a reason. Check the broker’s log.",
  connection_closed_by_broker:
    "This event makes the broker close the connection. Check the broker’s access rules and limits, then send it again.",
  ignored_by_broker:
    "The broker acknowledges other events but not this one. Check the broker’s log, then send the event again.",
};

/** @type {Record<CameraStatus, string>} */
const cameraStatus = { online: "Online", offline: "Offline", unavailable: "Unavailable" };

/**
 * The headings of the warnings.
 * @type {Record<WarningKind, string>}
 */
const warnings = {
  no_subscribers: "No subscribers",
  waiting_for_subscriber: "Events are waiting for Home Assistant",
  late_on_arrival: "An event arrived late",
  clock_jumped: "The clock was changed",
  database_unavailable: "The database is unavailable",
  disk_almost_full: "The disk is almost full",
  database_asynchronous: "Accepted events can be lost",
  node_away: "A node is away",
  node_unable: "A node cannot decrypt the settings",
  node_keys_differ: "A node cannot decrypt the shared keys",
  node_clock_differs: "The clock of a node differs",
  events_unreadable: "Events are damaged",
  events_missing: "Events are missing",
  database_restored: "The database was restored",
  seq_file_failed: "A file cannot be written",
  too_many_cameras: "Too many cameras",
  qos_lowered: "The broker limits the QoS",
  retain_unavailable: "The broker does not retain messages",
  client_id_taken_over: "Another client uses this client ID",
  availability_overwritten: "Another client overwrites the availability",
  tls_insecure: "The broker’s certificate is not verified",
  certificate_expires: "A certificate expires",
  settings_ignored: "Settings are ignored",
  too_many_connections: "Too many connections",
  topic_refused: "The broker refuses a topic",
  topic_unconfirmed: "The broker does not confirm a topic",
  messages_left_out: "Messages are left out",
  broker_not_provided: "Home Assistant provides no broker",
  restore_waiting: "A backup is waiting to be restored",
  restore_failed: "A backup could not be restored",
};

/** @type {Record<ExampleName, string>} */
const examples = {
  curl: "From a shell: curl",
  "home-assistant": "From Home Assistant: rest_command",
  python: "From Python",
};

/** @type {Record<FieldGroup["name"], string>} */
const groups = {
  broker: "Broker",
  security: "Security",
  topics: "Topics and delivery",
  ha: "Home Assistant",
  advanced: "Advanced",
};

/** @type {Record<Stage, string>} */
const stages = {
  resolve: "Resolve address",
  connect: "Connect",
  tls: "TLS",
  login: "Log in",
  publish: "Publish",
  loopback: "Receive it back",
  availability: "Availability topic",
  discovery: "Discovery",
  events: "Event topics",
  states: "State topics",
};

/**
 * The label and the help text of each setting.
 * @type {Record<SettingName, [label: string, help: string]>}
 */
const fields = {
  enabled: ["Connect to the broker", ""],
  broker_host: ["Address", "Host name or IP address, such as homeassistant.local"],
  broker_port: ["Port", "Leave empty for the default"],
  username: ["User name", "Leave empty for anonymous access"],
  password: ["Password", ""],
  transport: ["Transport", "Use WebSocket for a broker behind a reverse proxy"],
  websocket_path: ["WebSocket path", ""],
  use_tls: ["Encrypt the connection (TLS)", ""],
  ca_certificate: [
    "CA certificate",
    "Trusted instead of the system’s CAs. If the broker’s certificate is self-signed, enter that certificate",
  ],
  client_certificate: ["Client certificate", "For brokers that require one; include its chain"],
  client_key: ["Client key", "Without a passphrase"],
  tls_server_name: ["TLS server name (SNI)", "The name in the broker’s certificate, if it is not the address above"],
  tls_insecure: ["Do not verify the broker’s certificate", "Anyone on the network can then read the password"],
  topic_prefix: ["Topic prefix", "Events are published to {prefix}/camera/{camera}/event"],
  qos: ["Quality of service (QoS)", "With 0, events can be lost"],
  retain_messages: [
    "Retain the latest event",
    "New subscribers get it immediately, as if it just happened",
  ],
  wait_for_subscribers: [
    "Wait for subscribers",
    "Live events wait while nobody listens who did before, and while Home Assistant restarts",
  ],
  late_after_seconds: [
    "Late after (seconds)",
    "Older events go to the history topic and trigger no automations. 0 = never late",
  ],
  max_events_per_second: ["Max. events per second", "Keeps a backlog from flooding the broker. 0 = no limit"],
  discovery_enabled: ["Announce cameras to Home Assistant", ""],
  discovery_prefix: ["Discovery prefix", "Must match Home Assistant’s MQTT integration"],
  discovery_format: ["Discovery format", "“Per device” needs Home Assistant 2024.11 or newer"],
  activity_seconds: ["Activity stays on for (seconds)", "How long a camera is shown as active after an event"],
  protocol: ["MQTT version", ""],
  client_id: ["Client ID", "Must be unique on this broker"],
  keep_alive_seconds: ["Keep-alive (seconds)", "Must be shorter than the idle timeout of any proxy in between"],
  connect_timeout_seconds: ["Connection timeout (seconds)", ""],
  ack_timeout_seconds: [
    "Acknowledgement timeout (seconds)",
    "Reconnects if the broker acknowledges nothing for this long",
  ],
  message_expiry_seconds: [
    "Event expiry (seconds)",
    "How long the broker may store an event for a subscriber (MQTT 5 only). 0 = never expires",
  ],
  availability_topic: ["Availability topic", "Leave empty for {prefix}/status"],
  birth_message: ["Online message", ""],
  will_message: ["Offline message", ""],
};

/** @type {Record<"transport" | "qos" | "discovery_format" | "protocol", Record<string | number, string>>} */
const options = {
  transport: { tcp: "TCP", websocket: "WebSocket" },
  qos: { 0: "0: at most once", 1: "1: at least once", 2: "2: exactly once" },
  discovery_format: { device: "Per device", component: "Per entity" },
  protocol: { auto: "Automatic", 5: "5", "3.1.1": "3.1.1" },
};

export const texts = {
  name: "liveobject",
  skip: "Skip to content",
  lost: "Connection to liveobject lost. Reconnecting …",
  noAnswer: "The server is not responding. Is it running, and is this device on its network?",
  views: { events: "Events", cameras: "Cameras", camera: "Camera", settings: "Settings", service: "Service" },
  tryAgain: "Try again",

  signIn: {
    title: "Sign in",
    token: "Token",
    help: "Run “liveobject token” on the server, in the service’s folder, to see it.",
    button: "Sign in",
    wrong:
      "This token isn’t valid here. Check that it is complete, and that “liveobject token” ran in the " +
      "service’s folder.",
    linkUsed: "This link has expired or was already used. Sign in with the token.",
    empty: "Paste the token first.",
    signOut: "Sign out",
    sendOnly: "This token can only send events. Sign in with a “read” or “admin” token.",
  },

  connection: {
    title: "Connection",
    states: connectionStates,
    warnings,
    unknown: "Unknown",
    /** @param {string} time */
    noContact: (time) => `No contact with liveobject since ${time}`,
    show: "Show details",
    hide: "Hide details",
    /**
     * @param {number} delivered
     * @param {number} pending
     * @param {number} warnings
     */
    summary: (delivered, pending, warnings) => [
      `${number(delivered)} delivered today`,
      pending > 0 && `${number(pending)} queued`,
      warnings > 0 && (warnings === 1 ? "1 warning" : `${warnings} warnings`),
    ].filter(Boolean).join(" · "),
    disabled: "No broker connected. Events are stored until there is one.",
    /** @param {number} seconds */
    next: (seconds) => `Next attempt in ${seconds} s`,
    nextNow: "Trying now",
    tryNow: "Try now",
    /** @param {number} count */
    attempts: (count) => (count === 1 ? "1 attempt failed" : `${count} attempts in a row failed`),
    broker: "Broker",
    protocol: "Protocol",
    /** @param {string} version */
    mqtt: (version) => `MQTT ${version}`,
    since: "Since",
    last: "Last connected",
    never: "never",
    delivered: "Delivered today",
    deliveredHelp: "Events that the broker has acknowledged since midnight",
    pending: "Queued",
    inFlight: "Sending",
    dead: "Failed",
    deadHelp: "Events that were not delivered. Their details on the Events tab show the reason",
    /** @param {string} duration */
    timeLeft: (duration) => `Sending the backlog; about ${duration} left`,
    lastError: "Last error",
    warning: "Warning",
    warningSince: "Since",
    hideWarning: "Hide until it comes again or gets worse",
    /** @param {number} count */
    hiddenWarnings: (count) => (count === 1 ? "Show 1 hidden warning" : `Show ${count} hidden warnings`),
    test: "Send a test message",
  },

  charts: {
    title: "Charts",
    rangesLabel: "Period of the charts",
    ranges: { "1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days" },
    shortRanges: { "1h": "1 h", "24h": "24 h", "7d": "7 d" },
    key: "Dashed: 95th percentile. Grey: not running or not known.",
    states: { not_running: "not running", unknown: "not known" },
    events: { title: "Events per minute", help: "Events accepted per minute" },
    latency: {
      title: "Delivery time (median, 95th percentile)",
      help: "From acceptance to the broker’s acknowledgement",
    },
    pending: { title: "Largest backlog", help: "Most events queued for the broker at one time" },
    /**
     * @param {string} title
     * @param {string} range
     * @param {string} current
     * @param {string} maximum
     */
    label: (title, range, current, maximum) =>
      `${title}, ${range}. Now ${current}, maximum ${maximum}. Use the arrow keys to read single points.`,
    /** @param {string} maximum */
    peak: (maximum) => `▲ up to ${maximum}`,
    to: "now",
    noValue: "–",
    under: "< 1 ms",
    over: "8 s or more",
  },

  strip: {
    title: "Last 24 hours",
    now: "now",
    more: "Show all",
    kinds: {
      connected: "Connected", broker_away: "Broker away", disabled: "Connection disabled", not_running: "Not running",
      unknown: "Not known",
    },
    /** @type {Record<FailureKind, string>} */
    reasons: {
      name_not_found: "name not found", unreachable: "not reachable", timeout: "no answer", refused: "not listening",
      busy: "busy", bad_credentials: "login refused", not_authorized: "not authorized", protocol: "not MQTT",
      tls: "TLS failed", taken_over: "another client has this client ID", stalled: "stopped answering",
      closed: "connection lost", panicked: "internal error", secret_unreadable: "a secret cannot be read",
      broker_not_provided: "not provided by Home Assistant", not_confirmed: "the database did not answer",
    },
    /** @param {number} count */
    waited: (count) => `${number(count)} ${count === 1 ? "event" : "events"} waited`,
    outcomes: {
      nothing_waited: "nothing waited", waiting: "still waiting", failed: "not all delivered",
      delivered: "all delivered, some again and later", delivered_in_order: "all delivered, in order",
      unknown: "outcome not known",
    },
    /** @param {number} count */
    stillWaiting: (count) => `${number(count)} still waiting`,
    /** @param {number} count */
    failed: (count) => `${number(count)} failed`,
    /** @param {number} count */
    late: (count) => `${number(count)} late`,
    /**
     * The same event can fail more than once.
     * @param {number} count
     */
    failures: (count) => (count === 1 ? "1 delivery failed" : `${number(count)} deliveries failed`),
    /**
     * @param {number} count
     * @param {number} stops
     */
    interruptions: (count, stops) => [
      count === 0 ? "No interruption" : `${number(count)} ${count === 1 ? "interruption" : "interruptions"}`,
      stops > 0 && `service not running ${stops === 1 ? "once" : `${number(stops)} times`}`,
    ].filter(Boolean).join(" · "),
    /** @param {string} time */
    noneSince: (time) => `No interruption since ${time}`,
    nothingLost: "nothing was lost",
    /** @param {number} count */
    brief: (count) =>
      `${count === 1 ? "1 interruption" : `${number(count)} interruptions`} of a few seconds without an event`,
  },

  find: {
    search: "Search events",
    placeholder: "Search descriptions",
    filters: "Filters",
    /** @param {number} count */
    filtersSet: (count) => `Filters (${count})`,
    clear: "Clear filters",
    /** @param {number} count */
    cameras: (count) => `${count} cameras`,
    object: "Object",
    anyObject: "Any",
    date: "Day",
    from: "From",
    to: "To",
    today: "Today",
    yesterday: "Yesterday",
    /**
     * @param {string} day
     * @param {number} events
     */
    day: (day, events) => `${day} · ${events === 1 ? "1 event" : `${number(events)} events`}`,
    /**
     * @param {string} period
     * @param {number} events
     */
    hour: (period, events) => `${period}: ${events === 1 ? "1 event" : `${number(events)} events`}`,
    hours: "Events per hour",
    earlierDay: "Day before",
    laterDay: "Day after",
  },
  events: {
    camera: "Camera",
    anyCamera: "All cameras",
    state: "Delivery",
    anyState: "Any",
    states: { pending: "Queued", delivered: "Delivered", dead: "Failed" },
    /** @param {string} duration */
    deliveredIn: (duration) => `Delivered in ${duration}`,
    dismissed: "Dismissed",
    late: "late",
    lateHelp: "Too old to count as live; sent to the history topic",
    unheard: "no subscriber",
    unheardHelp: "The broker accepted the event, but nobody was subscribed to its topic",
    none: "No events yet. They appear here as soon as a camera sends one.",
    noMatch: "No events match these filters.",
    more: "Show older events",
    loading: "Loading …",
    end: "No older events.",
    /** @param {number} percent */
    confidence: (percent) => `${percent}% confidence`,
    /** @param {string} camera */
    picture: (camera) => `Picture from ${camera}`,
    topic: "Topic (with current settings)",
    payload: "Payload",
    accepted: "Accepted",
    happened: "Happened",
    deliveredAt: "Delivered",
    /** @param {string} time */
    later: (time) => `${time} later`,
    copy: "Copy",
    copied: "Copied",
    reasons: deadReasons,
    retry: "Send again",
    dismiss: "Dismiss",
    sending: "Sending …",
    /** @param {string} time */
    refusedAgain: (time) => `Failed again at ${time}.`,
    /** @param {string} time */
    arrived: (time) => `Delivered at ${time}.`,
    missing: "This event does not exist, or it has been removed from the log.",
    link: "the address of this view",
    copyLink: "Copy link",
    newer: "Show newer events",
    /** @param {number} count */
    newerCount: (count) => `${count === 1 ? "1 new event" : `${number(count)} new events`} ↑`,
    searching: "Searching older events …",
    /** @param {string} object */
    onlyObject: (object) => `Show only events with ${object}`,
    newerEvent: "Newer event",
    olderEvent: "Older event",
    enlarge: "Enlarge the picture",
    pictureTitle: "Picture",
    /**
     * @param {string} camera
     * @param {string} time
     */
    pictureOf: (camera, time) => `${camera} · ${time}`,
    newerPicture: "Newer picture",
    olderPicture: "Older picture",
    /** @param {string} label */
    noneNearby: (label) => `${label}: none nearby`,
    zoomIn: "Zoom in",
    zoomOut: "Zoom out",
    download: "Download",
    noPicture: "This event has no picture.",
    /** @param {string} description */
    open: (description) => `Details: ${description}`,
  },

  failed: {
    label: "Failed events",
    /** @param {number} count */
    title: (count) => (count === 1
      ? "1 event could not be delivered"
      : `${number(count)} events could not be delivered`),
    retryAll: "Send all again",
    dismissAll: "Dismiss all",
    show: "Show them",
    /** @param {string} camera */
    onlyOf: (camera) => `The buttons apply only to the events of ${camera}.`,
    /** @param {number} count */
    retried: (count) => (count === 1 ? "1 event is sent again." : `${number(count)} events are sent again.`),
    /** @param {number} count */
    dismissed: (count) => (count === 1 ? "1 event dismissed." : `${number(count)} events dismissed.`),
  },

  firstEvent: {
    title: "Send the first event",
    text:
      "liveobject does not detect anything itself. Another program sends it the events, such as the bridge for "
      + "Frigate, the receiver for UniFi Protect, a Home Assistant automation, or your own script.",
    send: "Send a sample event",
    cameraName: "Sample camera",
    description: "Sample event: a person brings a parcel to the door",
    sending: "Sending …",
    stored: "Stored. It is delivered as soon as the broker is connected.",
    arrived:
      "Delivered to the broker. If cameras are announced to Home Assistant, it now has the device “Sample camera” "
      + "(Settings > Devices & services > MQTT).",
    arrivedShort: "The sample event was delivered to the broker.",
    show: "Show the event",
    showCamera: "Show or delete the sample camera",
    programs: "To send events from a program, start with one of these examples:",
    examples,
    /** What the examples contain. */
    example: {
      camera: "Front Door",
      description: "Person at the front door",
      otherCamera: "Garage",
      otherDescription: "The garage door opened",
      action: "The action in an automation or a script:",
    },
    addressPlaceholder: "LIVEOBJECT_ADDRESS/",
    tokenPlaceholder: "TOKEN",
    copyWithToken: "Copy with a token",
    sharedToken:
      "The examples contain the token “page-examples”, which can only send events. It is replaced when you copy an "
      + "example after the page was loaded again; programs with the previous one are then refused. For a program that "
      + "stays, create its own: “liveobject token create NAME --scope events:write”.",
    tokenCreated: "The token is shown this one time, so store the copied text safely.",
    noToken:
      "No token could be created here. Run “liveobject token create NAME --scope events:write” on the server.",
    framed:
      "Replace LIVEOBJECT_ADDRESS with the address of liveobject in your network. For TOKEN, run "
      + "“liveobject token create NAME --scope events:write” on the server.",
    more: "docs/sources.md describes the bridges, and what a program must do so that it loses no event.",
  },

  cameras: {
    one: "Camera",
    back: "‹ All cameras",
    search: "Search",
    order: "Sort by",
    orders: { status: "Offline first", name: "Name", newest: "Latest event" },
    noMatch: "No cameras match.",
    /** @param {string} name */
    ownName: (name) => `Named by you. The camera’s own name is “${name}”.`,
    /** @param {string} name */
    useOwnName: (name) => `Use the camera’s own name: ${name}`,
    entities: "Entities in Home Assistant",
    entitiesHelp: "These are the ids unless you have changed them in Home Assistant.",
    missing: "There is no such camera, or it has been deleted.",
    hidden: "Not shown in Home Assistant",
    none: "No cameras yet. Each camera is added with its first event.",
    status: cameraStatus,
    /**
     * @param {number} today
     * @param {number} week
     */
    counts: (today, week) => `${number(today)} today · ${number(week)} this week`,
    noEvent: "No event yet",
    enabled: "Show in Home Assistant",
    enabledHelp: "Publishes the camera’s state and entities. Its events are published either way.",
    rename: "Rename",
    /** @param {string} name */
    renameTitle: (name) => `Rename ${name}`,
    /** @param {string} name */
    renamed: (name) => `Renamed to ${name}.`,
    name: "Name",
    nameMissing: "Enter a name.",
    nameHelp: "Up to 100 characters. Used here, in events and in Home Assistant, whatever name the camera sends.",
    remove: "Delete",
    /** @param {string} name */
    removeTitle: (name) => `Delete ${name}?`,
    /** @param {string} name */
    removed: (name) => `${name} was deleted.`,
    removeText:
      "Its device and all its entities are removed from Home Assistant, and automations that use them stop " +
      "working. Its retained MQTT topics are cleared. Its past events stay in the event log. If it sends another " +
      "event, it will be added again.",
  },

  week: {
    title: "Last seven days",
    /** @param {number} count */
    count: (count) => (count === 1 ? "1 event" : `${number(count)} events`),
    /**
     * @param {string} hour
     * @param {number} count
     */
    hour: (hour, count) => `${hour}: ${count === 1 ? "1 event" : `${number(count)} events`}`,
  },

  automation: {
    make: "Make an automation",
    name: "YAML for Home Assistant",
    help:
      "Copies YAML. In Home Assistant, create an automation, choose “Edit in YAML” in its menu, and paste it. Then "
      + "replace the notification with what should happen.",
    ring: "doorbell",
    any: "any event",
    restored: "Without this, the last event is taken for a new one when Home Assistant starts.",
    replace: "Replace this with what should happen.",
  },

  keys: {
    title: "Keyboard shortcuts",
    on: "Use these shortcuts",
    list: [
      ["/", "Search"],
      ["j", "Next item of the list; older event"],
      ["k", "Previous item of the list; newer event"],
      ["r", "Send the open event again, if it failed"],
      ["Esc", "Close"],
      ["?", "Show this help"],
    ],
  },

  settings: {
    groups,
    readOnly: "This token can view the settings, but not change them.",
    managed: "These settings come from the configuration of the service ([mqtt] managed = true). To change them, edit "
      + "the configuration file or the environment, and restart the service.",
    provided: "Home Assistant provides the broker, so its address and login cannot be changed here. To use another "
      + "broker, set mqtt_source to “settings” in the options of the app, and restart the app.",
    backup: {
      title: "Backup",
      help: "One file with the events, settings, pictures, keys and tokens. Store it where nobody else can read it.",
      download: "Download backup",
      restore: "Restore a backup …",
      restoreTitle: "Restore a backup",
      restoreText:
        "Choose a file that was downloaded here or made with “liveobject backup”. It is uploaded and checked. " +
        "Nothing changes before you confirm and restart the service.",
      file: "Backup (.tar)",
      disconnected: "Do not connect to the broker after the restore",
      disconnectedHelp: "Use this for a copy while the service that made the backup is still running.",
      upload: "Upload and check",
      uploading: "Uploading …",
      checking: "Checking the backup …",
      confirmText:
        "When the service is restarted, this backup replaces all events, settings, cameras and pictures. The " +
        "current data is kept on the server with the suffix .before-restore. If the backup contains keys and tokens, " +
        "you then sign in with the token in it.",
      willBeDisconnected: "MQTT will be switched off. You can switch it on in the settings.",
      confirm: "Restore at the next start",
      waits: "This backup will be restored when the service is restarted.",
      /** @param {string} reason */
      failed: (reason) => `This backup could not be restored at the last start: ${reason}. It was removed.`,
      discard: "Discard",
      discarded: "The backup was discarded.",
      madeAt: "Created",
      version: "Version",
      events: "Events",
      cameras: "Cameras",
      pictures: "Pictures",
      secrets: "Keys and tokens",
      withSecrets: "included",
      withoutSecrets: "not included; the current ones are kept",
      size: "Size",
    },
    test: "Test connection",
    /** @param {string} stage */
    failedAt: (stage) => `The test failed: ${stage}.`,
    testing: "Testing the connection … this takes up to 10 seconds.",
    save: "Save",
    saved: "Saved and applied.",
    discard: "Discard changes",
    /** @param {string} time */
    conflict: (time) => `Nothing was saved: the settings were changed elsewhere at ${time}.`,
    /** @param {string} time */
    changedElsewhere: (time) => `The settings were changed elsewhere at ${time}. You have unsaved changes.`,
    conflictUnseen: "The fields on this page have the same values as before. A password or a key may be another one.",
    /**
     * @param {string} from
     * @param {string} to
     */
    changed: (from, to) => `${from} → ${to}`,
    replaced: "replaced",
    on: "on",
    off: "off",
    empty: "(empty)",
    takeOver: "Show these changes and keep mine",
    overwrite: "Overwrite them",
    unsaved: "Unsaved changes",
    leave: "Sign out without saving your changes?",
    invalid: "Some fields are invalid. Nothing was saved.",
    invalidTest: "Some fields are invalid. Nothing was tested.",
    configured: "Saved (hidden)",
    neededAgain: "Needed again, because the server or the user changes",
    replace: "Replace",
    clear: "Clear",
    keep: "Keep current",
    cleared: "Will be cleared when you save",
    file: "Choose a file",
    /** @param {string} label */
    fileFor: (label) => `Choose a file: ${label}`,
    notPem: "This file is not in PEM format (-----BEGIN …).",
    tooLarge: "This file is larger than 64 KiB.",
    stages,
    passed: "passed",
    failed: "failed",
    unknown: "unknown",
    inProgress: "in progress",
    announce: "Announce to Home Assistant again",
  },

  guide: {
    title: "Connect your MQTT broker",
    text: "Four steps to get your cameras’ events into Home Assistant.",
    broker: "Enter the broker’s address, and your user name and password for it",
    test: "Test the connection",
    save: "Save",
    event: "Send the first event",
    done: "Show the events",
  },

  finder: {
    search: "Look for a broker",
    searching: "Looking for brokers on this machine and in the local network …",
    none: "No broker was found. Is it running, and in the same network as this service? In Home Assistant, install the "
      + "app “Mosquitto broker”. Otherwise, enter the address of your broker below.",
    use: "Use this one",
    tls: "with TLS",
    /** @param {string} names */
    names: (names) => `Also known as ${names}`,
    /** @param {number} count */
    leftOut: (count) => `Not tested, because there were too many: ${count}`,
    states: {
      accepted: "accepts clients without a login",
      login_required: "requires a login",
      tls_failed: "TLS failed",
      failed: "test failed",
      not_mqtt: "not an MQTT broker",
      unreachable: "does not respond",
    },
  },

  service: {
    account: "You",
    /** @param {string} scopes */
    signedIn: (scopes) => `You are signed in and can ${scopes}.`,
    signedInAsAdmin: "You are signed in with the administrator’s token (api-token) and can view and change everything.",
    /**
     * @param {string} name
     * @param {string} scopes
     */
    signedInWith: (name, scopes) => `You are signed in with the token “${name}” and can ${scopes}.`,
    framed: "Home Assistant has checked who you are. You can change everything.",
    scopes: { "events:write": "send events", read: "view everything", admin: "view and change everything" },
    addresses: "Open on another device",
    localOnly:
      "The service listens only on its own machine. To open this page from another one, set bind = \"0.0.0.0:8080\" "
      + "in [http] of the configuration, and restart the service.",
    unknownAddress:
      "The service runs in a container and does not know the addresses of its machine. Open this page with the name or "
      + "the IP address of the machine instead of “localhost”. Then it is shown here, with a QR code.",
    showCode: "Show a QR code that signs in",
    codeAlt: "QR code of a link that opens this page and signs in",
    /** @param {number} minutes */
    codeHelp: (minutes) =>
      `Scan it with a phone in the same network. It signs in once, with your rights, within ${minutes} minutes.`,
    link: "the link",
    tokens: "API tokens",
    tokensHelp: "Give each program a token of its own, so that you can revoke it without affecting the others.",
    noTokens: "Only an administrator can see and change the tokens. Sign in with an “admin” token.",
    adminToken: "The administrator’s token. It is stored in the data directory; “liveobject token rotate” replaces it.",
    name: "Name of the program",
    nameMissing: "Enter a name.",
    scope: "It can",
    create: "Create token",
    /** @param {string} name */
    created: (name) => `New token: ${name}`,
    createdHelp: "It is shown this one time. Copy it now, and store it safely.",
    token: "the token",
    createdAt: "Created",
    usedAt: "last used",
    neverUsed: "never used",
    revoke: "Revoke",
    /** @param {string} name */
    revokeTitle: (name) => `Revoke ${name}?`,
    revokeText:
      "Programs that use this token are refused from now on. Everybody who signed in with it is signed out.",
    /** @param {string} name */
    revoked: (name) => `${name} was revoked.`,
    storage: "Storage",
    events: "Events",
    /** @param {number} count */
    eventCount: (count) => number(count),
    oldestFrom: "the oldest from",
    retention: "Kept for",
    /** @param {number} count */
    days: (count) => (count === 1 ? "1 day" : `${number(count)} days`),
    pictures: "Pictures",
    /**
     * @param {number} count
     * @param {string} size
     * @param {string} limit
     */
    pictureCount: (count, size, limit) => `${number(count)}, ${size} of at most ${limit}`,
    database: "Database",
    /**
     * @param {string} size
     * @param {string} name
     */
    databaseOnServer: (size, name) => `${size}, ${name} (PostgreSQL)`,
    free: "Free on its disk",
    nodes: "Nodes",
    /**
     * @param {string} name
     * @param {string} url
     * @param {string} state
     */
    node: (name, url, state) => `${name} (${url}): ${state}`,
    nodeStates: { active: "active", standby: "standby", away: "away" },
    about: "About",
    version: "Version",
    uptime: "Running for",
    unknown: "unknown",
    documentation: "Documentation",
    changelog: "Changelog",
    openapi: "API (OpenAPI)",
    metrics: "Metrics",
  },

  log: {
    title: "Log",
    help:
      "The last 1,000 lines since the start of the service. For more details, set the filter in [log] of the "
      + "configuration, for example to “debug”, and send SIGHUP to the service.",
    level: "Level",
    fromLevel: {
      error: "Errors only", warn: "Warnings and errors", info: "Information and above", debug: "Debug and above",
      trace: "Everything",
    },
    levels: { error: "Error", warn: "Warning", info: "Info", debug: "Debug", trace: "Trace" },
    search: "Search these lines",
    follow: "Follow",
    copy: "Copy all",
    /** @param {number} count */
    copied: (count) => (count === 1 ? "1 line copied." : `${number(count)} lines copied.`),
    download: "Download",
    /**
     * @param {number} shown
     * @param {number} all
     */
    count: (shown, all) => (shown === all
      ? (all === 1 ? "1 line" : `${number(all)} lines`)
      : `${number(shown)} of ${number(all)} lines`),
    truncated: "(cut off)",
    restarted: "The service was restarted.",
    /** @param {number} count */
    missed: (count) => (count === 1 ? "1 line is missing here." : `${number(count)} lines are missing here.`),
  },

  theme: {
    label: "Colors",
    names: { system: "Like the system", light: "Light", dark: "Dark" },
    notStored: "This browser does not store the choice.",
  },

  dialog: { close: "Close", cancel: "Cancel" },

  language: {
    label: "Language",
    automatic: "Automatic",
    notStored: "This browser does not store the choice.",
  },

  time: { now: "just now" },

  checks: {
    /**
     * @param {number} min
     * @param {number} max
     */
    whole: (min, max) => `must be a whole number from ${min} to ${max}`,
    /**
     * @param {number} min
     * @param {number} max
     */
    zeroOr: (min, max) => `must be 0, or a whole number from ${min} to ${max}`,
    required: "must not be empty",
    control: "must not contain control characters",
    host: "must be a host name or an IP address only, without spaces, / or ://",
    topic: "must not contain + or #, start with $ or /, or end with /",
    path: "must start with / and be a valid URL path",
    /** @param {number} max */
    long: (max) => `must not be longer than ${max} bytes`,
    needsHost: "is required while the connection is turned on",
    pem: "must be in PEM format (-----BEGIN …)",
  },

  fields,
  options,
};

/**
 * Replaces the texts of a group, and of the groups in it. The groups themselves stay, because modules refer to them.
 * @param {Record<string, any>} group
 * @param {Record<string, any>} others
 */
function replace(group, others) {
  for (const [name, other] of Object.entries(others)) {
    if (typeof other === "object" && !Array.isArray(other)) replace(group[name], other);
    else group[name] = other;
  }
}

/**
 * Replaces all texts by those of another language. Modules must read texts when they draw, not when they are loaded.
 * @param {Texts} others
 */
export const setTexts = (others) => replace(texts, others);
