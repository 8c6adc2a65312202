// @ts-check
// All text on the page in German, with the shape of `texts.js`. Buttons are infinitives, and people are addressed with
// "du", as in Home Assistant. This file is loaded only if it is needed, and imports nothing.

/** @import { CameraStatus, ConnectionState, DeadReason, ExampleName, FieldGroup, SettingName, Stage } from "./types" */
/** @import { Texts, WarningKind } from "./types" */

/** @type {Record<ConnectionState, string>} */
const connectionStates = {
  connected: "Verbunden",
  connecting: "Verbindet …",
  waiting: "Wartet auf den nächsten Versuch",
  disabled: "Nicht verbunden",
};

/** @type {Record<DeadReason, string>} */
const deadReasons = {
  not_authorized:
    "Die Zugriffsregeln des Brokers verbieten dieses Topic. Es dort erlauben, dann das Ereignis erneut senden.",
  topic_name_invalid: "Der Broker nimmt dieses Topic nicht an. Ein anderes Topic-Präfix versuchen.",
  payload_format_invalid: "Der Broker nimmt diese Nutzdaten nicht an.",
  packet_too_large:
    "Das Ereignis ist größer, als der Broker erlaubt. Die Grenze dort anheben, dann das Ereignis erneut senden.",
  expired: "Das Ereignis hat länger gewartet, als der Ablauf in den Einstellungen erlaubt.",
  unreadable: "Sein Eintrag in der Datenbank ist beschädigt. Eine Sicherung wiederherstellen, dann erneut senden.",
  refused_repeatedly:
    "Der Broker hat das Ereignis mehrmals ohne Angabe eines Grundes abgelehnt. Das Protokoll des Brokers prüfen.",
  connection_closed_by_broker:
    "Wegen dieses Ereignisses beendet der Broker die Verbindung. Seine Zugriffsregeln und Grenzen prüfen, dann erneut "
    + "senden.",
  ignored_by_broker:
    "Der Broker bestätigt andere Ereignisse, aber dieses nicht. Das Protokoll des Brokers prüfen, dann erneut senden.",
};

/** @type {Record<CameraStatus, string>} */
const cameraStatus = { online: "Online", offline: "Offline", unavailable: "Nicht verfügbar" };

/** @type {Record<WarningKind, string>} */
const warnings = {
  no_subscribers: "Keine Abonnenten",
  waiting_for_subscriber: "Ereignisse warten auf Home Assistant",
  late_on_arrival: "Ein Ereignis kam verspätet an",
  clock_jumped: "Die Uhr wurde verstellt",
  database_unavailable: "Die Datenbank ist nicht verfügbar",
  disk_almost_full: "Der Datenträger ist fast voll",
  database_asynchronous: "Angenommene Ereignisse können verloren gehen",
  node_away: "Ein Knoten meldet sich nicht",
  node_unable: "Ein Knoten kann die Einstellungen nicht entschlüsseln",
  node_keys_differ: "Ein Knoten kann die gemeinsamen Schlüssel nicht entschlüsseln",
  node_clock_differs: "Die Uhr eines Knotens geht falsch",
  events_unreadable: "Ereignisse sind beschädigt",
  events_missing: "Ereignisse fehlen",
  database_restored: "Die Datenbank wurde wiederhergestellt",
  seq_file_failed: "Eine Datei lässt sich nicht schreiben",
  too_many_cameras: "Zu viele Kameras",
  qos_lowered: "Der Broker begrenzt die QoS",
  retain_unavailable: "Der Broker bewahrt keine Nachrichten auf",
  client_id_taken_over: "Ein anderer Client benutzt diese Client-ID",
  availability_overwritten: "Ein anderer Client überschreibt die Verfügbarkeit",
  tls_insecure: "Das Zertifikat des Brokers wird nicht geprüft",
  certificate_expires: "Ein Zertifikat läuft ab",
  settings_ignored: "Einstellungen werden nicht beachtet",
  too_many_connections: "Zu viele Verbindungen",
  topic_refused: "Der Broker lehnt ein Topic ab",
  topic_unconfirmed: "Der Broker bestätigt ein Topic nicht",
  messages_left_out: "Nachrichten werden ausgelassen",
  broker_not_provided: "Home Assistant stellt keinen Broker bereit",
  restore_waiting: "Eine Sicherung wartet auf die Wiederherstellung",
  restore_failed: "Eine Sicherung ließ sich nicht wiederherstellen",
};

/** @type {Record<ExampleName, string>} */
const examples = {
  curl: "In einer Shell: curl",
  "home-assistant": "In Home Assistant: rest_command",
  python: "In Python",
};

/** @type {Record<FieldGroup["name"], string>} */
const groups = {
  broker: "Broker",
  security: "Sicherheit",
  topics: "Topics und Zustellung",
  ha: "Home Assistant",
  advanced: "Erweitert",
};

/** @type {Record<Stage, string>} */
const stages = {
  resolve: "Adresse auflösen",
  connect: "Verbinden",
  tls: "TLS",
  login: "Anmelden",
  publish: "Senden",
  loopback: "Zurückerhalten",
  availability: "Verfügbarkeits-Topic",
  discovery: "Erkennung",
  events: "Ereignis-Topics",
  states: "Zustands-Topics",
};

/** @type {Record<SettingName, [label: string, help: string]>} */
const fields = {
  enabled: ["Mit dem Broker verbinden", ""],
  broker_host: ["Adresse", "Hostname oder IP-Adresse, zum Beispiel homeassistant.local"],
  broker_port: ["Port", "Leer lassen für den Standardwert"],
  username: ["Benutzername", "Leer lassen für anonymen Zugriff"],
  password: ["Passwort", ""],
  transport: ["Transport", "WebSocket für einen Broker hinter einem Reverse-Proxy"],
  websocket_path: ["WebSocket-Pfad", ""],
  use_tls: ["Verbindung verschlüsseln (TLS)", ""],
  ca_certificate: [
    "CA-Zertifikat",
    "Gilt anstelle der CAs des Systems. Ist das Zertifikat des Brokers selbst signiert, dieses eintragen",
  ],
  client_certificate: ["Client-Zertifikat", "Für Broker, die eines verlangen; mit seiner Zertifikatskette"],
  client_key: ["Client-Schlüssel", "Ohne Passphrase"],
  tls_server_name: [
    "TLS-Servername (SNI)", "Der Name im Zertifikat des Brokers, wenn er von der Adresse oben abweicht",
  ],
  tls_insecure: ["Zertifikat des Brokers nicht prüfen", "Dann kann jeder im Netzwerk das Passwort mitlesen"],
  topic_prefix: ["Topic-Präfix", "Ereignisse werden an {prefix}/camera/{camera}/event gesendet"],
  qos: ["Dienstgüte (QoS)", "Mit 0 können Ereignisse verloren gehen"],
  retain_messages: [
    "Letztes Ereignis aufbewahren (retain)",
    "Neue Abonnenten erhalten es sofort, als wäre es gerade passiert",
  ],
  wait_for_subscribers: [
    "Auf Abonnenten warten",
    "Live-Ereignisse warten, wenn frühere Abonnenten fehlen oder Home Assistant neu startet",
  ],
  late_after_seconds: [
    "Verspätet nach (Sekunden)",
    "Ältere Ereignisse gehen an das History-Topic und lösen keine Automation aus. 0 = nie verspätet",
  ],
  max_events_per_second: [
    "Max. Ereignisse pro Sekunde", "Damit ein Rückstau den Broker nicht überflutet. 0 = keine Grenze",
  ],
  discovery_enabled: ["Kameras an Home Assistant melden", ""],
  discovery_prefix: ["Präfix der Erkennung", "Muss mit dem der MQTT-Integration von Home Assistant übereinstimmen"],
  discovery_format: ["Format der Erkennung", "„Pro Gerät“ braucht Home Assistant 2024.11 oder neuer"],
  activity_seconds: [
    "Aktivität bleibt an für (Sekunden)", "Wie lange eine Kamera nach einem Ereignis als aktiv gilt",
  ],
  protocol: ["MQTT-Version", ""],
  client_id: ["Client-ID", "Muss auf diesem Broker eindeutig sein"],
  keep_alive_seconds: [
    "Keep-Alive (Sekunden)", "Muss kürzer sein als der Leerlauf, nach dem ein Proxy die Verbindung trennt",
  ],
  connect_timeout_seconds: ["Zeitlimit für den Verbindungsaufbau (Sekunden)", ""],
  ack_timeout_seconds: [
    "Zeitlimit für Bestätigungen (Sekunden)",
    "Verbindet neu, wenn der Broker so lange nichts bestätigt",
  ],
  message_expiry_seconds: [
    "Ablauf der Ereignisse (Sekunden)",
    "Wie lange der Broker ein Ereignis für einen Abonnenten speichern darf (nur MQTT 5). 0 = läuft nie ab",
  ],
  availability_topic: ["Verfügbarkeits-Topic", "Leer lassen für {prefix}/status"],
  birth_message: ["Online-Nachricht", ""],
  will_message: ["Offline-Nachricht", ""],
};

/** @type {Record<"transport" | "qos" | "discovery_format" | "protocol", Record<string | number, string>>} */
const options = {
  transport: { tcp: "TCP", websocket: "WebSocket" },
  qos: { 0: "0: höchstens einmal", 1: "1: mindestens einmal", 2: "2: genau einmal" },
  discovery_format: { device: "Pro Gerät", component: "Pro Entität" },
  protocol: { auto: "Automatisch", 5: "5", "3.1.1": "3.1.1" },
};

/**
 * Returns the texts, with numbers in this format.
 * @param {(value: number) => string} number
 * @returns {Texts}
 */
export const germanTexts = (number) => ({
  name: "liveobject",
  skip: "Zum Inhalt springen",
  lost: "Verbindung zu liveobject verloren. Sie wird neu aufgebaut …",
  noAnswer: "Der Server antwortet nicht. Läuft er, und ist dieses Gerät in seinem Netzwerk?",
  views: { events: "Ereignisse", cameras: "Kameras", camera: "Kamera", settings: "Einstellungen", service: "Dienst" },
  tryAgain: "Erneut versuchen",

  signIn: {
    title: "Anmelden",
    token: "Token",
    help: "„liveobject token“ zeigt es an: auf dem Server ausführen, im Ordner des Dienstes.",
    button: "Anmelden",
    wrong:
      "Dieses Token gilt hier nicht. Ist es vollständig, und wurde „liveobject token“ im Ordner des Dienstes "
      + "ausgeführt?",
    linkUsed: "Dieser Link ist abgelaufen oder wurde schon benutzt. Bitte mit dem Token anmelden.",
    empty: "Zuerst das Token einfügen.",
    signOut: "Abmelden",
    sendOnly: "Dieses Token kann nur Ereignisse senden. Mit einem Token für „read“ oder „admin“ anmelden.",
  },

  connection: {
    title: "Verbindung",
    states: connectionStates,
    warnings,
    unknown: "Unbekannt",
    noContact: (time) => `Kein Kontakt zu liveobject seit ${time}`,
    show: "Einzelheiten anzeigen",
    hide: "Einzelheiten ausblenden",
    summary: (delivered, pending, warnings) => [
      `heute ${number(delivered)} zugestellt`,
      pending > 0 && `${number(pending)} in Warteschlange`,
      warnings > 0 && (warnings === 1 ? "1 Warnung" : `${number(warnings)} Warnungen`),
    ].filter(Boolean).join(" · "),
    disabled: "Kein Broker verbunden. Ereignisse werden gespeichert, bis es einen gibt.",
    next: (seconds) => `Nächster Versuch in ${seconds} s`,
    nextNow: "Versucht es gerade",
    tryNow: "Jetzt versuchen",
    attempts: (count) => (count === 1 ? "1 Versuch gescheitert" : `${number(count)} Versuche in Folge gescheitert`),
    broker: "Broker",
    protocol: "Protokoll",
    mqtt: (version) => `MQTT ${version}`,
    since: "Seit",
    last: "Zuletzt verbunden",
    never: "nie",
    delivered: "Heute zugestellt",
    deliveredHelp: "Ereignisse, die der Broker seit Mitternacht bestätigt hat",
    pending: "Wartend",
    inFlight: "Unterwegs",
    dead: "Gescheitert",
    deadHelp: "Ereignisse, die nicht zugestellt wurden. Der Grund steht in ihren Einzelheiten unter „Ereignisse“",
    timeLeft: (duration) => `Der Rückstau wird gesendet, noch etwa ${duration}`,
    lastError: "Letzter Fehler",
    warning: "Warnung",
    warningSince: "Seit",
    hideWarning: "Ausblenden, bis sie wieder auftritt oder sich verschlimmert",
    hiddenWarnings: (count) =>
      (count === 1 ? "1 ausgeblendete Warnung anzeigen" : `${number(count)} ausgeblendete Warnungen anzeigen`),
    test: "Testnachricht senden",
  },

  charts: {
    title: "Diagramme",
    rangesLabel: "Zeitraum der Diagramme",
    ranges: { "1h": "letzte Stunde", "24h": "letzte 24 Stunden", "7d": "letzte 7 Tage" },
    shortRanges: { "1h": "1 Std.", "24h": "24 Std.", "7d": "7 Tage" },
    key: "Gestrichelt: 95. Perzentil (P95). Grau: nicht in Betrieb oder nicht bekannt.",
    states: { not_running: "nicht in Betrieb", unknown: "nicht bekannt" },
    events: { title: "Ereignisse pro Minute", help: "Angenommene Ereignisse pro Minute" },
    latency: {
      title: "Zustelldauer (Median, P95)",
      help: "Von der Annahme bis zur Bestätigung durch den Broker",
    },
    pending: { title: "Größter Rückstau", help: "Die meisten Ereignisse, die gleichzeitig auf den Broker warteten" },
    label: (title, range, current, maximum) =>
      `${title}, ${range}. Jetzt ${current}, höchstens ${maximum}. Die Pfeiltasten lesen einzelne Punkte vor.`,
    peak: (maximum) => `▲ bis ${maximum}`,
    to: "jetzt",
    noValue: "–",
    under: "< 1 ms",
    over: "8 s oder mehr",
  },

  strip: {
    title: "Letzte 24 Stunden",
    now: "jetzt",
    more: "Alle anzeigen",
    kinds: {
      connected: "Verbunden", broker_away: "Broker nicht erreichbar", disabled: "Verbindung abgeschaltet",
      not_running: "Nicht in Betrieb", unknown: "Nicht bekannt",
    },
    reasons: {
      name_not_found: "Name nicht gefunden", unreachable: "nicht erreichbar", timeout: "keine Antwort",
      refused: "nimmt keine Verbindung an", busy: "überlastet", bad_credentials: "Anmeldung abgelehnt",
      not_authorized: "nicht berechtigt", protocol: "kein MQTT", tls: "TLS gescheitert",
      taken_over: "ein anderer Client hat diese Client-ID", stalled: "antwortete nicht mehr",
      closed: "Verbindung verloren", panicked: "interner Fehler", secret_unreadable: "ein Geheimnis ist nicht lesbar",
      broker_not_provided: "von Home Assistant nicht bereitgestellt",
      not_confirmed: "die Datenbank antwortete nicht",
    },
    waited: (count) => (count === 1 ? "1 Ereignis wartete" : `${number(count)} Ereignisse warteten`),
    outcomes: {
      nothing_waited: "nichts wartete", waiting: "wartet noch", failed: "nicht alle zugestellt",
      delivered: "alle zugestellt, einige nochmals und später", delivered_in_order: "alle zugestellt, der Reihe nach",
      unknown: "Ausgang nicht bekannt",
    },
    stillWaiting: (count) => (count === 1 ? "1 wartet noch" : `${number(count)} warten noch`),
    failed: (count) => `${number(count)} gescheitert`,
    late: (count) => `${number(count)} verspätet`,
    failures: (count) => (count === 1 ? "1 Zustellung gescheitert" : `${number(count)} Zustellungen gescheitert`),
    interruptions: (count, stops) => [
      count === 0 ? "Keine Unterbrechung" : `${number(count)} ${count === 1 ? "Unterbrechung" : "Unterbrechungen"}`,
      stops > 0 && `Dienst lief ${stops === 1 ? "einmal" : `${number(stops)}-mal`} nicht`,
    ].filter(Boolean).join(" · "),
    noneSince: (time) => `Keine Unterbrechung seit ${time}`,
    nothingLost: "nichts ging verloren",
    brief: (count) =>
      `${count === 1 ? "1 Unterbrechung" : `${number(count)} Unterbrechungen`} von wenigen Sekunden ohne Ereignis`,
  },

  find: {
    search: "Ereignisse suchen",
    placeholder: "Beschreibungen durchsuchen",
    filters: "Filter",
    filtersSet: (count) => `Filter (${number(count)})`,
    clear: "Filter entfernen",
    cameras: (count) => (count === 1 ? "1 Kamera" : `${number(count)} Kameras`),
    object: "Objekt",
    anyObject: "Beliebig",
    date: "Tag",
    from: "Von",
    to: "Bis",
    today: "Heute",
    yesterday: "Gestern",
    day: (day, events) => `${day} · ${events === 1 ? "1 Ereignis" : `${number(events)} Ereignisse`}`,
    hour: (period, events) => `${period}: ${events === 1 ? "1 Ereignis" : `${number(events)} Ereignisse`}`,
    hours: "Ereignisse pro Stunde",
    earlierDay: "Tag davor",
    laterDay: "Tag danach",
  },
  events: {
    camera: "Kamera",
    anyCamera: "Alle Kameras",
    state: "Zustellung",
    anyState: "Beliebig",
    states: { pending: "Wartet", delivered: "Zugestellt", dead: "Gescheitert" },
    deliveredIn: (duration) => `In ${duration} zugestellt`,
    dismissed: "Verworfen",
    late: "verspätet",
    lateHelp: "Zu alt für ein Live-Ereignis; wurde an das History-Topic gesendet",
    unheard: "kein Abonnent",
    unheardHelp: "Der Broker hat das Ereignis angenommen, aber niemand hatte sein Topic abonniert",
    none: "Noch keine Ereignisse. Sie erscheinen hier, sobald eine Kamera eines sendet.",
    noMatch: "Kein Ereignis passt zu diesen Filtern.",
    more: "Ältere Ereignisse anzeigen",
    loading: "Lädt …",
    end: "Keine älteren Ereignisse.",
    confidence: (percent) => `${percent} % Konfidenz`,
    picture: (camera) => `Bild von ${camera}`,
    topic: "Topic (mit den aktuellen Einstellungen)",
    payload: "Nutzdaten",
    accepted: "Angenommen",
    happened: "Passiert",
    deliveredAt: "Zugestellt",
    later: (time) => `${time} später`,
    copy: "Kopieren",
    copied: "Kopiert",
    reasons: deadReasons,
    retry: "Erneut senden",
    dismiss: "Verwerfen",
    sending: "Wird gesendet …",
    refusedAgain: (time) => `Um ${time} erneut gescheitert.`,
    arrived: (time) => `Um ${time} zugestellt.`,
    missing: "Dieses Ereignis gibt es nicht, oder es wurde aus dem Ereignisprotokoll entfernt.",
    link: "die Adresse dieser Ansicht",
    copyLink: "Link kopieren",
    newer: "Neuere Ereignisse anzeigen",
    newerCount: (count) => `${count === 1 ? "1 neues Ereignis" : `${number(count)} neue Ereignisse`} ↑`,
    searching: "Sucht in älteren Ereignissen …",
    onlyObject: (object) => `Nur Ereignisse mit „${object}“ anzeigen`,
    newerEvent: "Neueres Ereignis",
    olderEvent: "Älteres Ereignis",
    enlarge: "Bild vergrößern",
    pictureTitle: "Bild",
    pictureOf: (camera, time) => `${camera} · ${time}`,
    newerPicture: "Neueres Bild",
    olderPicture: "Älteres Bild",
    noneNearby: (label) => `${label}: keines in der Nähe`,
    zoomIn: "Vergrößern",
    zoomOut: "Verkleinern",
    download: "Herunterladen",
    noPicture: "Dieses Ereignis hat kein Bild.",
    open: (description) => `Einzelheiten: ${description}`,
  },

  failed: {
    label: "Gescheiterte Ereignisse",
    title: (count) => (count === 1
      ? "1 Ereignis ließ sich nicht zustellen"
      : `${number(count)} Ereignisse ließen sich nicht zustellen`),
    retryAll: "Alle erneut senden",
    dismissAll: "Alle verwerfen",
    show: "Anzeigen",
    onlyOf: (camera) => `Die Schaltflächen gelten nur für die Ereignisse von ${camera}.`,
    retried: (count) => (count === 1
      ? "1 Ereignis wird erneut gesendet."
      : `${number(count)} Ereignisse werden erneut gesendet.`),
    dismissed: (count) => (count === 1 ? "1 Ereignis verworfen." : `${number(count)} Ereignisse verworfen.`),
  },

  firstEvent: {
    title: "Das erste Ereignis senden",
    text:
      "liveobject erkennt selbst nichts. Ein anderes Programm sendet ihm die Ereignisse, zum Beispiel die Brücke für "
      + "Frigate, der Empfänger für UniFi Protect, eine Automation in Home Assistant oder ein eigenes Skript.",
    send: "Beispielereignis senden",
    cameraName: "Beispielkamera",
    description: "Beispielereignis: Eine Person bringt ein Paket an die Tür",
    sending: "Wird gesendet …",
    stored: "Gespeichert. Es wird zugestellt, sobald der Broker verbunden ist.",
    arrived:
      "Dem Broker zugestellt. Wenn Kameras an Home Assistant gemeldet werden, gibt es dort jetzt das Gerät "
      + "„Beispielkamera“ (Einstellungen > Geräte & Dienste > MQTT).",
    arrivedShort: "Das Beispielereignis wurde dem Broker zugestellt.",
    show: "Ereignis anzeigen",
    showCamera: "Beispielkamera anzeigen oder löschen",
    programs: "Um Ereignisse aus einem Programm zu senden, mit einem dieser Beispiele beginnen:",
    examples,
    example: {
      camera: "Haustür",
      description: "Person an der Haustür",
      otherCamera: "Garage",
      otherDescription: "Das Garagentor wurde geöffnet",
      action: "Die Aktion in einer Automation oder einem Skript:",
    },
    addressPlaceholder: "ADRESSE_VON_LIVEOBJECT/",
    tokenPlaceholder: "TOKEN",
    copyWithToken: "Mit Token kopieren",
    sharedToken:
      "Die Beispiele enthalten das Token „page-examples“, das nur Ereignisse senden kann. Es wird ersetzt, wenn nach "
      + "erneutem Laden der Seite ein Beispiel kopiert wird; Programme mit dem alten werden dann abgewiesen. Für ein "
      + "Programm, das bleibt, ein eigenes anlegen: „liveobject token create NAME --scope events:write“.",
    tokenCreated: "Das Token wird nur dieses eine Mal angezeigt. Den kopierten Text sicher aufbewahren.",
    noToken:
      "Hier ließ sich kein Token anlegen. Auf dem Server „liveobject token create NAME --scope events:write“ "
      + "ausführen.",
    framed:
      "ADRESSE_VON_LIVEOBJECT durch die Adresse von liveobject in deinem Netzwerk ersetzen. Ein TOKEN legt "
      + "„liveobject token create NAME --scope events:write“ auf dem Server an.",
    more:
      "docs/sources.md beschreibt die Brücken und was ein Programm tun muss, damit es kein Ereignis verliert (auf "
      + "Englisch).",
  },

  cameras: {
    one: "Kamera",
    back: "‹ Alle Kameras",
    search: "Suchen",
    order: "Sortieren nach",
    orders: { status: "Offline zuerst", name: "Name", newest: "Letztes Ereignis" },
    noMatch: "Keine Kamera passt.",
    ownName: (name) => `Von dir benannt. Der eigene Name der Kamera ist „${name}“.`,
    useOwnName: (name) => `Eigenen Namen der Kamera verwenden: ${name}`,
    entities: "Entitäten in Home Assistant",
    entitiesHelp: "Das sind die IDs, wenn du sie in Home Assistant nicht geändert hast.",
    missing: "Diese Kamera gibt es nicht, oder sie wurde gelöscht.",
    hidden: "Nicht in Home Assistant",
    none: "Noch keine Kameras. Jede Kamera wird mit ihrem ersten Ereignis hinzugefügt.",
    status: cameraStatus,
    counts: (today, week) => `${number(today)} heute · ${number(week)} in dieser Woche`,
    noEvent: "Noch kein Ereignis",
    enabled: "In Home Assistant anzeigen",
    enabledHelp: "Sendet Zustand und Entitäten der Kamera. Ihre Ereignisse werden in jedem Fall gesendet.",
    rename: "Umbenennen",
    renameTitle: (name) => `${name} umbenennen`,
    renamed: (name) => `In ${name} umbenannt.`,
    name: "Name",
    nameMissing: "Einen Namen eingeben.",
    nameHelp:
      "Bis zu 100 Zeichen. Gilt hier, in Ereignissen und in Home Assistant, egal welchen Namen die Kamera sendet.",
    remove: "Löschen",
    removeTitle: (name) => `${name} löschen?`,
    removed: (name) => `${name} wurde gelöscht.`,
    removeText:
      "Das Gerät und alle seine Entitäten werden aus Home Assistant entfernt; Automationen, die sie benutzen, "
      + "funktionieren nicht mehr. Die aufbewahrten MQTT-Nachrichten werden gelöscht. Vergangene Ereignisse bleiben im "
      + "Ereignisprotokoll. Sendet die Kamera wieder ein Ereignis, wird sie erneut hinzugefügt.",
  },

  week: {
    title: "Letzte sieben Tage",
    count: (count) => (count === 1 ? "1 Ereignis" : `${number(count)} Ereignisse`),
    hour: (hour, count) => `${hour}: ${count === 1 ? "1 Ereignis" : `${number(count)} Ereignisse`}`,
  },

  automation: {
    make: "Automation erstellen",
    name: "YAML für Home Assistant",
    help:
      "Kopiert YAML. In Home Assistant eine Automation erstellen, in ihrem Menü „Als YAML bearbeiten“ wählen und "
      + "einfügen. Dann die Benachrichtigung durch das ersetzen, was passieren soll.",
    ring: "Türklingel",
    any: "beliebiges Ereignis",
    restored: "Sonst gilt das letzte Ereignis beim Start von Home Assistant als neues.",
    replace: "Durch das ersetzen, was passieren soll.",
  },

  keys: {
    title: "Tastenkürzel",
    on: "Diese Tastenkürzel benutzen",
    list: [
      ["/", "Suchen"],
      ["j", "Nächster Eintrag der Liste; älteres Ereignis"],
      ["k", "Voriger Eintrag der Liste; neueres Ereignis"],
      ["r", "Das geöffnete Ereignis erneut senden, wenn es gescheitert ist"],
      ["Esc", "Schließen"],
      ["?", "Diese Hilfe anzeigen"],
    ],
  },

  settings: {
    groups,
    readOnly: "Dieses Token darf die Einstellungen ansehen, aber nicht ändern.",
    managed: "Diese Einstellungen kommen aus der Konfiguration des Dienstes ([mqtt] managed = true). Um sie zu ändern, "
      + "die Konfigurationsdatei oder die Umgebungsvariablen bearbeiten und den Dienst neu starten.",
    provided: "Home Assistant stellt den Broker bereit, darum lassen sich Adresse und Anmeldung hier nicht ändern. Für "
      + "einen anderen Broker in den Optionen der App mqtt_source auf „settings“ setzen und die App neu starten.",
    backup: {
      title: "Sicherung",
      help: "Eine Datei mit Ereignissen, Einstellungen, Bildern, Schlüsseln und Tokens. So aufbewahren, dass niemand "
        + "sonst sie lesen kann.",
      download: "Sicherung herunterladen",
      restore: "Sicherung wiederherstellen …",
      restoreTitle: "Sicherung wiederherstellen",
      restoreText:
        "Eine Datei wählen, die hier heruntergeladen oder mit „liveobject backup“ erstellt wurde. Sie wird hochgeladen "
        + "und geprüft. Nichts ändert sich vor der Bestätigung und dem Neustart des Dienstes.",
      file: "Sicherung (.tar)",
      disconnected: "Nach dem Neustart nicht mit dem Broker verbinden",
      disconnectedHelp: "Für eine Kopie, während der gesicherte Dienst noch läuft.",
      upload: "Hochladen und prüfen",
      uploading: "Lädt hoch …",
      checking: "Prüft die Sicherung …",
      confirmText:
        "Beim Neustart des Dienstes ersetzt diese Sicherung alle Ereignisse, Einstellungen, Kameras und Bilder. Die "
        + "jetzigen Daten bleiben auf dem Server mit der Endung .before-restore erhalten. Wenn die Sicherung Schlüssel "
        + "und Tokens enthält, meldest du dich danach mit dem Token aus der Sicherung an.",
      willBeDisconnected: "MQTT wird abgeschaltet. In den Einstellungen lässt es sich wieder einschalten.",
      confirm: "Beim nächsten Start wiederherstellen",
      waits: "Diese Sicherung wird beim Neustart des Dienstes wiederhergestellt.",
      failed: (reason) =>
        `Diese Sicherung ließ sich beim letzten Start nicht wiederherstellen: ${reason}. Sie wurde entfernt.`,
      discard: "Verwerfen",
      discarded: "Die Sicherung wurde verworfen.",
      madeAt: "Erstellt",
      version: "Version",
      events: "Ereignisse",
      cameras: "Kameras",
      pictures: "Bilder",
      secrets: "Schlüssel und Tokens",
      withSecrets: "enthalten",
      withoutSecrets: "nicht enthalten; die jetzigen bleiben",
      size: "Größe",
    },
    test: "Verbindung testen",
    failedAt: (stage) => `Der Test ist gescheitert: ${stage}.`,
    testing: "Testet die Verbindung … das dauert bis zu 10 Sekunden.",
    save: "Speichern",
    saved: "Gespeichert und angewendet.",
    discard: "Änderungen verwerfen",
    conflict: (time) => `Nichts wurde gespeichert: Die Einstellungen wurden um ${time} anderswo geändert.`,
    changedElsewhere: (time) =>
      `Die Einstellungen wurden um ${time} anderswo geändert. Hier gibt es nicht gespeicherte Änderungen.`,
    conflictUnseen:
      "Die Felder auf dieser Seite haben dieselben Werte wie vorher. Ein Passwort oder Schlüssel kann ein anderer "
      + "sein.",
    changed: (from, to) => `${from} → ${to}`,
    replaced: "ersetzt",
    on: "an",
    off: "aus",
    empty: "(leer)",
    takeOver: "Diese Änderungen anzeigen und meine behalten",
    overwrite: "Überschreiben",
    unsaved: "Nicht gespeicherte Änderungen",
    leave: "Abmelden, ohne die Änderungen zu speichern?",
    invalid: "Einige Felder sind ungültig. Nichts wurde gespeichert.",
    invalidTest: "Einige Felder sind ungültig. Nichts wurde getestet.",
    configured: "Gespeichert (verborgen)",
    neededAgain: "Erneut nötig, weil sich der Server oder der Benutzer ändert",
    replace: "Ersetzen",
    clear: "Entfernen",
    keep: "Jetzigen Wert behalten",
    cleared: "Wird beim Speichern entfernt",
    file: "Datei wählen",
    fileFor: (label) => `Datei wählen: ${label}`,
    notPem: "Diese Datei hat nicht das Format PEM (-----BEGIN …).",
    tooLarge: "Diese Datei ist größer als 64 KiB.",
    stages,
    passed: "bestanden",
    failed: "gescheitert",
    unknown: "unbekannt",
    inProgress: "läuft",
    announce: "Erneut an Home Assistant melden",
  },

  guide: {
    title: "Den MQTT-Broker verbinden",
    text: "Vier Schritte, um die Ereignisse deiner Kameras in Home Assistant zu sehen.",
    broker: "Adresse des Brokers sowie Benutzername und Passwort eingeben",
    test: "Verbindung testen",
    save: "Speichern",
    event: "Das erste Ereignis senden",
    done: "Ereignisse anzeigen",
  },

  finder: {
    search: "Broker suchen",
    searching: "Sucht Broker auf diesem Rechner und im lokalen Netzwerk …",
    none: "Es wurde kein Broker gefunden. Läuft er, und ist er im selben Netzwerk wie dieser Dienst? In Home Assistant "
      + "lässt sich die App „Mosquitto broker“ installieren. Sonst unten die Adresse des Brokers eingeben.",
    use: "Diesen verwenden",
    tls: "mit TLS",
    names: (names) => `Auch bekannt als ${names}`,
    leftOut: (count) => `Nicht getestet, weil es zu viele waren: ${number(count)}`,
    states: {
      accepted: "nimmt Clients ohne Anmeldung an",
      login_required: "verlangt eine Anmeldung",
      tls_failed: "TLS gescheitert",
      failed: "Test gescheitert",
      not_mqtt: "kein MQTT-Broker",
      unreachable: "antwortet nicht",
    },
  },

  service: {
    account: "Du",
    signedIn: (scopes) => `Du bist angemeldet und darfst ${scopes}.`,
    signedInAsAdmin:
      "Du bist mit dem Token des Administrators (api-token) angemeldet und darfst alles ansehen und ändern.",
    signedInWith: (name, scopes) => `Du bist mit dem Token „${name}“ angemeldet und darfst ${scopes}.`,
    framed: "Home Assistant hat geprüft, wer du bist. Du darfst alles ändern.",
    scopes: { "events:write": "Ereignisse senden", read: "alles ansehen", admin: "alles ansehen und ändern" },
    addresses: "Auf einem anderen Gerät öffnen",
    localOnly:
      "Der Dienst ist nur auf seinem eigenen Rechner erreichbar. Um diese Seite von einem anderen zu öffnen, in der "
      + "Konfiguration unter [http] bind = \"0.0.0.0:8080\" setzen und den Dienst neu starten.",
    unknownAddress:
      "Der Dienst läuft in einem Container und kennt die Adressen seines Rechners nicht. Öffne diese Seite mit dem "
      + "Namen oder der IP-Adresse des Rechners statt „localhost“. Dann steht sie hier, mit einem QR-Code.",
    showCode: "QR-Code zum Anmelden anzeigen",
    codeAlt: "QR-Code eines Links, der diese Seite öffnet und anmeldet",
    codeHelp: (minutes) =>
      `Mit einem Telefon im selben Netzwerk scannen. Der Code meldet innerhalb von ${minutes} Minuten einmal an, mit `
      + "deinen Rechten.",
    link: "den Link",
    tokens: "API-Tokens",
    tokensHelp:
      "Jedem Programm ein eigenes Token geben. Dann lässt es sich widerrufen, ohne dass die anderen betroffen sind.",
    noTokens: "Nur Administratoren sehen und ändern die Tokens. Dazu mit einem Token für „admin“ anmelden.",
    adminToken:
      "Das Token des Administrators. Es liegt im Datenverzeichnis; „liveobject token rotate“ ersetzt es.",
    name: "Name des Programms",
    nameMissing: "Einen Namen eingeben.",
    scope: "Es darf",
    create: "Token anlegen",
    created: (name) => `Neues Token: ${name}`,
    createdHelp: "Es wird nur dieses eine Mal angezeigt. Jetzt kopieren und sicher aufbewahren.",
    token: "das Token",
    createdAt: "Angelegt",
    usedAt: "zuletzt benutzt",
    neverUsed: "nie benutzt",
    revoke: "Widerrufen",
    revokeTitle: (name) => `${name} widerrufen?`,
    revokeText:
      "Programme mit diesem Token werden ab sofort abgewiesen. Wer sich damit angemeldet hat, wird abgemeldet.",
    revoked: (name) => `${name} wurde widerrufen.`,
    storage: "Speicher",
    events: "Ereignisse",
    eventCount: number,
    oldestFrom: "das älteste von",
    retention: "Aufbewahrt für",
    days: (count) => (count === 1 ? "1 Tag" : `${number(count)} Tage`),
    pictures: "Bilder",
    pictureCount: (count, size, limit) => `${number(count)}, ${size} von höchstens ${limit}`,
    database: "Datenbank",
    databaseOnServer: (size, name) =>
      `${size}, ${name.replace(" on ", " auf ").replace(" at /", " unter /")} (PostgreSQL)`,
    free: "Frei auf ihrem Datenträger",
    nodes: "Knoten",
    node: (name, url, state) => `${name} (${url}): ${state}`,
    nodeStates: { active: "aktiv", standby: "in Bereitschaft", away: "meldet sich nicht" },
    about: "Über",
    version: "Version",
    uptime: "Läuft seit",
    unknown: "unbekannt",
    documentation: "Dokumentation (Englisch)",
    changelog: "Neuerungen (Englisch)",
    openapi: "API (OpenAPI)",
    metrics: "Metriken",
  },

  log: {
    title: "Protokoll",
    help:
      "Die letzten 1.000 Zeilen seit dem Start des Dienstes, auf Englisch. Für mehr Einzelheiten in der Konfiguration "
      + "unter [log] den Filter ändern, zum Beispiel auf „debug“, und dem Dienst SIGHUP senden.",
    level: "Stufe",
    fromLevel: {
      error: "Nur Fehler", warn: "Warnungen und Fehler", info: "Ab Information", debug: "Ab Debug", trace: "Alles",
    },
    levels: { error: "Fehler", warn: "Warnung", info: "Info", debug: "Debug", trace: "Trace" },
    search: "Diese Zeilen durchsuchen",
    follow: "Mitlaufen",
    copy: "Alles kopieren",
    copied: (count) => (count === 1 ? "1 Zeile kopiert." : `${number(count)} Zeilen kopiert.`),
    download: "Herunterladen",
    count: (shown, all) => {
      if (shown !== all) return `${number(shown)} von ${number(all)} Zeilen`;
      return all === 1 ? "1 Zeile" : `${number(all)} Zeilen`;
    },
    truncated: "(abgeschnitten)",
    restarted: "Der Dienst wurde neu gestartet.",
    missed: (count) => (count === 1 ? "Hier fehlt 1 Zeile." : `Hier fehlen ${number(count)} Zeilen.`),
  },

  theme: {
    label: "Farben",
    names: { system: "Wie das System", light: "Hell", dark: "Dunkel" },
    notStored: "Dieser Browser speichert die Auswahl nicht.",
  },

  language: {
    label: "Sprache",
    automatic: "Automatisch",
    notStored: "Dieser Browser speichert die Auswahl nicht.",
  },

  dialog: { close: "Schließen", cancel: "Abbrechen" },

  time: { now: "gerade eben" },

  checks: {
    whole: (min, max) => `muss eine ganze Zahl von ${min} bis ${max} sein`,
    zeroOr: (min, max) => `muss 0 oder eine ganze Zahl von ${min} bis ${max} sein`,
    required: "darf nicht leer sein",
    control: "darf keine Steuerzeichen enthalten",
    host: "darf nur ein Hostname oder eine IP-Adresse sein, ohne Leerzeichen, / oder ://",
    topic: "darf kein + oder # enthalten, nicht mit $ oder / beginnen und nicht mit / enden",
    path: "muss mit / beginnen und ein gültiger URL-Pfad sein",
    long: (max) => `darf nicht länger als ${max} Bytes sein`,
    needsHost: "wird gebraucht, solange die Verbindung eingeschaltet ist",
    pem: "muss das Format PEM haben (-----BEGIN …)",
  },

  fields,
  options,
});
