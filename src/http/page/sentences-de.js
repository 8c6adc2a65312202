// @ts-check
// The sentences of the server in German: the patterns are the texts in its source code, which `tests/page/types/check`
// compares. Names of settings and of commands stay as they are. This file is loaded only if it is needed, and imports
// nothing.

/** @import { Sentence } from "./types" */

/** @param {string} count */
const isOne = (count) => count === "1";

/**
 * Returns a number of events, with an adjective for one or several.
 * @param {string} count
 * @param {string} [one]
 * @param {string} [several]
 */
const events = (count, one = "", several = "") =>
  [count, isOne(count) ? one : several, isOne(count) ? "Ereignis" : "Ereignisse"].filter(Boolean).join(" ");

/**
 * Returns a list of topics. All of them have the same first level, which may contain the word "and".
 * @param {string} topics
 */
const listed = (topics) => topics.replace(/ and (\d+) more$/, " und $1 weiteren")
  .replace(/ and (\d+) similar topics$/, " und $1 ähnlichen Topics")
  .replace(/^([^/]+\/)(.*) and (\1.*)$/, "$1$2 und $3");

/** @param {string} waiting A number of events that wait. */
const sentWhen = (waiting) => (waiting.startsWith("1 ") ? "Es wird gesendet" : "Sie werden gesendet");

/** @param {string} name */
const secret = (name) => (name === "password" ? "das Passwort" : "den Client-Schlüssel");

/** @param {string} name */
const stored = (name) => (name === "password" ? "Das gespeicherte Passwort" : "Der gespeicherte Client-Schlüssel");

/** @type {Sentence[]} */
export const ofServer = [
  // Failed connections.
  [
    "Connection refused at {broker}. Is the broker running, and is the port correct?",
    "{broker} nimmt keine Verbindung an. Läuft der Broker, und stimmt der Port?",
  ],
  [
    "{broker} does not respond. Is the address correct? Is a firewall blocking the connection?",
    "{broker} antwortet nicht. Stimmt die Adresse? Blockiert eine Firewall die Verbindung?",
  ],
  [
    "{broker} is unreachable: {error}. Check this machine's network and the address.",
    "{broker} ist nicht erreichbar: {error}. Das Netzwerk dieses Rechners und die Adresse prüfen.",
  ],
  ["The connection to {broker} was lost ({error}).", "Die Verbindung zu {broker} ist abgebrochen ({error})."],
  ["The connection to {broker} failed: {error}.", "Die Verbindung zu {broker} ist gescheitert: {error}."],
  [
    "{broker} accepts connections but did not answer the TLS handshake within {seconds} s. Is this the TLS port "
    + "(usually 8883, or 443 for WebSockets)?",
    "{broker} nimmt Verbindungen an, hat aber den TLS-Handshake nicht innerhalb von {seconds} s beantwortet. Ist "
    + "das der TLS-Port (meist 8883, bei WebSockets 443)?",
  ],
  [
    "{broker} accepts connections but did not answer the MQTT login within {seconds} s. Is it an MQTT broker? "
    + "Does the port expect TLS or WebSockets?",
    "{broker} nimmt Verbindungen an, hat aber die MQTT-Anmeldung nicht innerhalb von {seconds} s beantwortet. Ist "
    + "es ein MQTT-Broker? Erwartet der Port TLS oder WebSockets?",
  ],
  [
    "{broker} accepted the MQTT login but did not complete the test within {seconds} s. Is the broker overloaded?",
    "{broker} hat die MQTT-Anmeldung angenommen, aber den Test nicht innerhalb von {seconds} s beendet. Ist der "
    + "Broker überlastet?",
  ],
  [
    "{broker} did not respond within {seconds} s. Is the address correct? Is a firewall blocking the connection?",
    "{broker} hat nicht innerhalb von {seconds} s geantwortet. Stimmt die Adresse? Blockiert eine Firewall die "
    + "Verbindung?",
  ],
  [
    "Cannot resolve the name {host:?} ({error}). Check its spelling and the name server.",
    "Der Name {host} lässt sich nicht auflösen ({error}). Die Schreibweise und den Nameserver prüfen.",
  ],
  [
    "Cannot resolve the name {host:?} ({error}). Check its spelling, or use the IP address: names in .local need "
    + "multicast DNS on this machine (on Debian, the package libnss-mdns).",
    "Der Name {host} lässt sich nicht auflösen ({error}). Die Schreibweise prüfen oder die IP-Adresse verwenden: Namen "
    + "mit .local brauchen Multicast-DNS auf diesem Rechner (unter Debian das Paket libnss-mdns).",
  ],
  ["the name server did not answer in time", "der Nameserver hat nicht rechtzeitig geantwortet"],
  ["the name server returned no address", "der Nameserver hat keine Adresse geliefert"],
  [
    "{broker} is connected but has acknowledged nothing for {seconds} s. Reconnecting.",
    "{broker} ist verbunden, hat aber seit {seconds} s nichts bestätigt. Die Verbindung wird neu aufgebaut.",
  ],
  [
    "{broker} has not acknowledged a message on {topic} for {seconds} s, although it acknowledged others. "
    + "Reconnecting.",
    "{broker} hat eine Nachricht auf {topic} seit {seconds} s nicht bestätigt, obwohl er andere bestätigt hat. "
    + "Die Verbindung wird neu aufgebaut.",
  ],
  [
    "The connection to {broker} is too slow for a message of {} KiB on {topic}: events have waited for {seconds} "
    + "s. Reconnecting without it.",
    "Die Verbindung zu {broker} ist zu langsam für eine Nachricht von {1} KiB auf {topic}: Ereignisse haben "
    + "{seconds} s gewartet. Die Verbindung wird ohne sie neu aufgebaut.",
  ],
  [
    "{broker} refused a message on {topic} ({}) and closed the connection. Let this user publish to this topic.",
    "{broker} hat eine Nachricht auf {topic} abgelehnt ({2}) und die Verbindung beendet. Diesem Benutzer "
    + "erlauben, an dieses Topic zu senden.",
  ],
  ["The only unanswered message was on {topic}.", "Die einzige unbeantwortete Nachricht war auf {topic}."],
  [
    "A bug in this program ended the connection; see the log. Reconnecting.",
    "Ein Fehler in diesem Programm hat die Verbindung beendet; siehe Protokoll. Die Verbindung wird neu aufgebaut.",
  ],
  [
    "Is it restarting, or does the port expect TLS or WebSockets?",
    "Startet er gerade neu, oder erwartet der Port TLS oder WebSockets?",
  ],
  [
    "Does it support MQTT 5 (protocol \"auto\" detects the version)? Does the port expect TLS or WebSockets?",
    "Unterstützt er MQTT 5 (protocol „auto“ erkennt die Version)? Erwartet der Port TLS oder WebSockets?",
  ],
  [
    "Does it support MQTT 3.1.1 (protocol \"auto\" detects the version)? Does the port expect TLS or WebSockets?",
    "Unterstützt er MQTT 3.1.1 (protocol „auto“ erkennt die Version)? Erwartet der Port TLS oder WebSockets?",
  ],
  [
    "{broker} closed the connection during the MQTT login without giving a reason. {question}",
    "{broker} hat die Verbindung während der MQTT-Anmeldung ohne Angabe eines Grundes beendet. {question}",
  ],
  [
    "{broker} closed the connection during the MQTT login without giving a reason, with both MQTT 5 and MQTT "
    + "3.1.1. Is it restarting, does the port expect TLS or WebSockets, or does it reject this client?",
    "{broker} hat die Verbindung während der MQTT-Anmeldung ohne Angabe eines Grundes beendet, mit MQTT 5 und mit "
    + "MQTT 3.1.1. Startet er gerade neu, erwartet der Port TLS oder WebSockets, oder weist er diesen Client ab?",
  ],
  [
    "{broker} closed the connection. Was the broker restarted?",
    "{broker} hat die Verbindung beendet. Wurde der Broker neu gestartet?",
  ],
  [
    "{broker} is connected but does not answer pings. Reconnecting.",
    "{broker} ist verbunden, beantwortet aber keine Pings. Die Verbindung wird neu aufgebaut.",
  ],
  [
    "{broker} did not acknowledge everything before the connection was closed.",
    "{broker} hat nicht alles bestätigt, bevor die Verbindung beendet wurde.",
  ],
  [
    "{broker} did not respond like an MQTT {version} broker ({error}). Is this the port of an MQTT broker? Does "
    + "it expect TLS?",
    "{broker} hat nicht wie ein Broker für MQTT {version} geantwortet ({error}). Ist das der Port eines "
    + "MQTT-Brokers? Erwartet er TLS?",
  ],
  [
    "{broker} supports neither MQTT 5 nor MQTT 3.1.1. It may be too old; update it.",
    "{broker} unterstützt weder MQTT 5 noch MQTT 3.1.1. Er ist vielleicht zu alt und braucht eine Aktualisierung.",
  ],
  [
    "{broker} does not support MQTT {version}, the configured version. Set protocol to \"auto\" to detect the "
    + "version.",
    "{broker} unterstützt die eingestellte Version MQTT {version} nicht. protocol auf „auto“ setzen, um die "
    + "Version zu erkennen.",
  ],
  [
    "{broker} does not accept the user name {user:?} with this password. Check both.",
    "{broker} nimmt den Benutzernamen {user} mit diesem Passwort nicht an. Beides prüfen.",
  ],
  [
    "{broker} refused the login without a user name and password. Set username and password.",
    "{broker} hat die Anmeldung ohne Benutzername und Passwort abgelehnt. Benutzername und Passwort eintragen.",
  ],
  [
    "{broker} refused the login as {user:?}: the user name or password is incorrect, or the user is not allowed "
    + "to connect.",
    "{broker} hat die Anmeldung als {user} abgelehnt: Benutzername oder Passwort ist falsch, oder der Benutzer "
    + "darf sich nicht verbinden.",
  ],
  [
    "{} does not accept the client id {:?}. Set another client_id.",
    "{0} nimmt die Client-ID {1} nicht an. Eine andere client_id wählen.",
    [0],
  ],
  [
    "{broker} is not accepting connections at the moment ({reason}).",
    "{broker} nimmt im Moment keine Verbindungen an ({reason}).",
  ],
  [
    "{broker} cannot parse the login ({code:?}). Set protocol to \"3.1.1\".",
    "{broker} versteht die Anmeldung nicht ({code}). protocol auf „3.1.1“ setzen.",
  ],
  [
    "{broker} does not accept the will message ({code:?}). Check availability_topic.",
    "{broker} nimmt die Offline-Nachricht (Last Will) nicht an ({code}). availability_topic prüfen.",
  ],
  [
    "Another client connected to {broker} with the same client id and took over this connection. Give each client "
    + "its own client_id.",
    "Ein anderer Client hat sich mit derselben Client-ID mit {broker} verbunden und diese Verbindung übernommen. "
    + "Jedem Client eine eigene client_id geben.",
  ],
  [
    "{broker} closed the connection because an action is not allowed{because}. Check its access rules.",
    "{broker} hat die Verbindung beendet, weil etwas nicht erlaubt ist{because}. Seine Zugriffsregeln prüfen.",
  ],
  [
    "{broker} received nothing for too long and closed the connection{because}.",
    "{broker} hat zu lange nichts empfangen und die Verbindung beendet{because}.",
  ],
  [
    "{broker} closed the connection because of a message ({code:?}{detail}).",
    "{broker} hat die Verbindung wegen einer Nachricht beendet ({code}{detail}).",
  ],
  ["{broker} closed the connection ({code:?}{detail}).", "{broker} hat die Verbindung beendet ({code}{detail})."],
  [
    "{broker} accepts each login but closes the connection soon after. There is probably another client with the "
    + "same client id {client_id:?}; the two displace each other. Give each client its own client_id. If there is "
    + "no other client, look for the reason in the broker's log.",
    "{broker} nimmt jede Anmeldung an, beendet die Verbindung aber kurz danach. Wahrscheinlich gibt es einen "
    + "anderen Client mit derselben Client-ID {client_id}; beide verdrängen einander. Jedem Client eine eigene "
    + "client_id geben. Gibt es keinen anderen, steht der Grund vielleicht im Protokoll des Brokers.",
  ],
  [
    "The connection to {broker} is cut whenever nothing was received for {seconds} s. There is probably a proxy, "
    + "firewall or router with this timeout in between. Set keep_alive_seconds to {shorter} (now {}), or raise its "
    + "timeout.",
    "Die Verbindung zu {broker} wird immer getrennt, wenn {seconds} s lang nichts empfangen wurde. Wahrscheinlich "
    + "ist ein Proxy, eine Firewall oder ein Router mit diesem Zeitlimit dazwischen. keep_alive_seconds auf "
    + "{shorter} setzen (jetzt {3}) oder das Zeitlimit dort erhöhen.",
  ],
  ["The connection ended without a reason.", "Die Verbindung endete ohne Angabe eines Grundes."],
  [
    "The connection was lost before the broker acknowledged the message.",
    "Die Verbindung ist abgebrochen, bevor der Broker die Nachricht bestätigt hat.",
  ],
  [
    "The MQTT client's queue is full. Reconnecting.",
    "Die Warteschlange des MQTT-Clients ist voll. Die Verbindung wird neu aufgebaut.",
  ],
  ["The MQTT client's queue is full.", "Die Warteschlange des MQTT-Clients ist voll."],
  ["The connection was closed.", "Die Verbindung wurde beendet."],
  // Wrong port or protocol.
  [
    "{} expects TLS on this port. Set use_tls to true, or use the port without TLS.",
    "{0} erwartet TLS auf diesem Port. use_tls einschalten oder den Port ohne TLS verwenden.",
    [0],
  ],
  [
    "{broker} is an HTTPS server, not an MQTT broker. MQTT usually uses port 1883, or 8883 with TLS. For MQTT "
    + "over WebSockets, set transport to \"websocket\" and use_tls to true.",
    "{broker} ist ein HTTPS-Server, kein MQTT-Broker. MQTT benutzt meist Port 1883, mit TLS 8883. Für MQTT über "
    + "WebSockets transport auf „websocket“ setzen und use_tls einschalten.",
  ],
  [
    "{broker} is an HTTP server, not an MQTT broker. MQTT usually uses port 1883, or 8883 with TLS. For MQTT over "
    + "WebSockets, set transport to \"websocket\".",
    "{broker} ist ein HTTP-Server, kein MQTT-Broker. MQTT benutzt meist Port 1883, mit TLS 8883. Für MQTT über "
    + "WebSockets transport auf „websocket“ setzen.",
  ],
  [
    "{broker} is not an MQTT broker: it responds with {greeting:?}. Check broker_port.",
    "{broker} ist kein MQTT-Broker: Er antwortet mit {greeting}. broker_port prüfen.",
  ],
  [
    "{path:?} at {broker} is not a valid URL. Check broker_host and websocket_path.",
    "{path} bei {broker} ist keine gültige URL. broker_host und websocket_path prüfen.",
  ],
  [
    "{broker} has a WebSocket at {path}, but not for MQTT (it does not accept the subprotocol \"{SUBPROTOCOL}\"). "
    + "Check websocket_path.",
    "{broker} hat einen WebSocket unter {path}, aber nicht für MQTT (er nimmt das Unterprotokoll {SUBPROTOCOL} "
    + "nicht an). websocket_path prüfen.",
  ],
  [
    "{broker} is not a web server: it responds with {greeting:?}. Check broker_port.",
    "{broker} ist kein Webserver: Er antwortet mit {greeting}. broker_port prüfen.",
  ],
  [
    "{broker} closed the connection instead of opening a WebSocket. If this is the port for MQTT over TCP, set "
    + "transport to \"tcp\"; otherwise check broker_port.",
    "{broker} hat die Verbindung beendet, statt einen WebSocket zu öffnen. Ist das der Port für MQTT über TCP, "
    + "transport auf „tcp“ setzen; sonst broker_port prüfen.",
  ],
  [
    "{broker} did not open a WebSocket at {path} ({error}).",
    "{broker} hat keinen WebSocket unter {path} geöffnet ({error}).",
  ],
  [
    "{broker} expects TLS (it requires HTTPS). Set use_tls to true.",
    "{broker} erwartet TLS (er verlangt HTTPS). use_tls einschalten.",
  ],
  [
    "{broker} has no WebSocket at {path} (404). Set websocket_path to the broker's path, usually /mqtt, / or /ws.",
    "{broker} hat keinen WebSocket unter {path} (404). websocket_path auf den Pfad des Brokers setzen, meist "
    + "/mqtt, / oder /ws.",
  ],
  [
    "The web server at {broker} refused the WebSocket at {path} ({status}). It requires a login of its own, "
    + "before the MQTT login; this is not supported.",
    "Der Webserver bei {broker} hat den WebSocket unter {path} abgelehnt ({status}). Er verlangt vor der "
    + "MQTT-Anmeldung eine eigene; das wird nicht unterstützt.",
  ],
  [
    "{broker} redirects {path} to {location:?}. Set broker_host, broker_port and websocket_path to that address.",
    "{broker} leitet {path} nach {location} um. broker_host, broker_port und websocket_path auf diese Adresse "
    + "setzen.",
  ],
  [
    "The web server at {broker} responds with {status}. Is the broker behind it running?",
    "Der Webserver bei {broker} antwortet mit {status}. Läuft der Broker dahinter?",
  ],
  [
    "{broker} is an HTTP server but does not open a WebSocket at {path} ({status}). Check broker_port and "
    + "websocket_path.",
    "{broker} ist ein HTTP-Server, öffnet aber keinen WebSocket unter {path} ({status}). broker_port und "
    + "websocket_path prüfen.",
  ],
  [
    "The WebSocket sends text messages, which MQTT does not use. Check websocket_path.",
    "Der WebSocket sendet Textnachrichten, die MQTT nicht benutzt. websocket_path prüfen.",
  ],
  [
    "The WebSocket connection violates its protocol ({error}).",
    "Die WebSocket-Verbindung verletzt ihr Protokoll ({error}).",
  ],
  // TLS.
  [
    "{broker} closed the connection instead of answering the TLS handshake: this port does not seem to support "
    + "TLS. The TLS port is usually 8883 (443 for WebSockets). Check broker_port and use_tls.",
    "{broker} hat die Verbindung beendet, statt den TLS-Handshake zu beantworten: Dieser Port scheint TLS nicht "
    + "zu unterstützen. Der TLS-Port ist meist 8883 (bei WebSockets 443). broker_port und use_tls prüfen.",
  ],
  [
    "{broker} closed the connection during the TLS handshake without giving a reason.",
    "{broker} hat die Verbindung während des TLS-Handshakes ohne Angabe eines Grundes beendet.",
  ],
  [
    "{broker} responds without TLS. Set use_tls to false, or use the TLS port (usually 443).",
    "{broker} antwortet ohne TLS. use_tls ausschalten oder den TLS-Port verwenden (meist 443).",
  ],
  [
    "{broker} responds without TLS. Set use_tls to false, or use the TLS port (usually 8883).",
    "{broker} antwortet ohne TLS. use_tls ausschalten oder den TLS-Port verwenden (meist 8883).",
  ],
  [
    "{broker} is an HTTP server without TLS, not an MQTT broker with TLS (usually on port 8883). Check broker_port.",
    "{broker} ist ein HTTP-Server ohne TLS, kein MQTT-Broker mit TLS (meist auf Port 8883). broker_port prüfen.",
  ],
  ["{broker} did not respond with TLS ({error}).", "{broker} hat nicht mit TLS geantwortet ({error})."],
  ["TLS with {broker} failed: {error}.", "TLS mit {broker} ist gescheitert: {error}."],
  [
    "{broker} supports neither TLS 1.2 nor 1.3. Older versions are insecure and are not used. Update the broker, "
    + "or enable TLS 1.2 there.",
    "{broker} unterstützt weder TLS 1.2 noch 1.3. Ältere Versionen sind unsicher und werden nicht benutzt. Den "
    + "Broker aktualisieren oder dort TLS 1.2 einschalten.",
  ],
  [
    "{broker} does not recognize the name {:?}. Connect using the name in the broker's certificate, or set "
    + "tls_server_name to it.",
    "{broker} kennt den Namen {1} nicht. Mit dem Namen im Zertifikat des Brokers verbinden oder tls_server_name "
    + "auf ihn setzen.",
    [1],
  ],
  [
    "{broker} and liveobject have no cipher suite in common. Enable the standard ones of TLS 1.2 or 1.3 on the "
    + "broker.",
    "{broker} und liveobject haben kein gemeinsames Verschlüsselungsverfahren. Auf dem Broker die üblichen von "
    + "TLS 1.2 oder 1.3 einschalten.",
  ],
  [
    "{broker} ended the TLS connection with the alert {alert:?}.",
    "{broker} hat die TLS-Verbindung mit der Meldung {alert} beendet.",
  ],
  [
    "{broker} requires a client certificate. Set client_certificate and client_key.",
    "{broker} verlangt ein Client-Zertifikat. client_certificate und client_key eintragen.",
  ],
  ["it expired on {}.", "es ist am {0} abgelaufen."],
  ["it does not trust the issuer {}.", "er vertraut dem Aussteller {0} nicht.", [0]],
  ["it was revoked.", "es wurde widerrufen."],
  [
    "alert {alert:?}. Does the broker trust the issuer {}?",
    "Meldung {alert}. Vertraut der Broker dem Aussteller {1}?",
    [1],
  ],
  [
    "it did not report a reason. Does it trust the issuer {}?",
    "er hat keinen Grund genannt. Vertraut er dem Aussteller {0}?",
    [0],
  ],
  [
    "{broker} does not accept our client certificate ({}): {reason}",
    "{broker} nimmt unser Client-Zertifikat ({1}) nicht an: {reason}",
    [1],
  ],
  ["The certificate of {broker}", "Das Zertifikat von {broker}"],
  ["The certificate of {broker} ({subject})", "Das Zertifikat von {broker} ({subject})"],
  [
    "{whose} expired on {end} (today is {today} on this machine). Renew it on the broker.",
    "{whose} ist am {end} abgelaufen (heute ist auf diesem Rechner der {today}). Es auf dem Broker erneuern.",
  ],
  [
    "{whose} is not valid before {begin} (today is {today} on this machine). Is this machine's clock correct?",
    "{whose} gilt erst ab dem {begin} (heute ist auf diesem Rechner der {today}). Geht die Uhr dieses Rechners "
    + "richtig?",
  ],
  [
    "{whose} was revoked. Install a new one on the broker.",
    "{whose} wurde widerrufen. Auf dem Broker ein neues einrichten.",
  ],
  [
    "{whose} is not a server certificate. Install one with the extended key usage serverAuth on the broker.",
    "{whose} ist kein Server-Zertifikat. Auf dem Broker eines mit der erweiterten Schlüsselverwendung serverAuth "
    + "einrichten.",
  ],
  [
    "{whose} is the certificate of an authority, not of a server. Install a server certificate on the broker.",
    "{whose} gehört einer Zertifizierungsstelle, nicht einem Server. Auf dem Broker ein Server-Zertifikat "
    + "einrichten.",
  ],
  [
    "{whose} was issued with a certificate that is not that of an authority. Issue it with one that has "
    + "basicConstraints CA:TRUE.",
    "{whose} wurde mit einem Zertifikat ausgestellt, das keiner Zertifizierungsstelle gehört. Es mit einem "
    + "ausstellen, das basicConstraints CA:TRUE hat.",
  ],
  [
    "{whose} has an old format (X.509 version 1) that cannot contain server names. Create a new one with the "
    + "broker's name as subjectAltName (openssl x509 -req … -extfile).",
    "{whose} hat ein altes Format (X.509 Version 1), das keine Servernamen enthalten kann. Ein neues mit dem "
    + "Namen des Brokers als subjectAltName erstellen (openssl x509 -req … -extfile).",
  ],
  ["{whose} cannot be verified: {text}.", "{whose} lässt sich nicht prüfen: {text}."],
  [
    "{whose} is self-signed and is not the one in ca_certificate. If you trust it, set it as ca_certificate.",
    "{whose} ist selbst signiert und nicht das in ca_certificate. Wenn du ihm vertraust, es als ca_certificate "
    + "eintragen.",
  ],
  [
    "{whose} is self-signed and therefore not trusted. If you trust it, set it as ca_certificate.",
    "{whose} ist selbst signiert, ihm wird darum nicht vertraut. Wenn du ihm vertraust, es als ca_certificate "
    + "eintragen.",
  ],
  [
    "{whose} was issued by {}, not by an authority in ca_certificate. Set the certificate of that issuer as "
    + "ca_certificate; it must be that of an authority (CA:TRUE).",
    "{whose} wurde von {1} ausgestellt, nicht von einer Stelle in ca_certificate. Das Zertifikat dieses "
    + "Ausstellers als ca_certificate eintragen; er muss eine Zertifizierungsstelle sein (CA:TRUE).",
    [1],
  ],
  [
    "{whose} was issued by {}, which this system does not trust. If you trust it, set that authority's "
    + "certificate as ca_certificate.",
    "{whose} wurde von {1} ausgestellt, dem dieses System nicht vertraut. Wenn du ihm vertraust, dessen "
    + "Zertifikat als ca_certificate eintragen.",
    [1],
  ],
  [
    "{whose} was issued by an unknown authority. If you trust it, set that authority's certificate as "
    + "ca_certificate.",
    "{whose} wurde von einer unbekannten Stelle ausgestellt. Wenn du ihr vertraust, deren Zertifikat als "
    + "ca_certificate eintragen.",
  ],
  [
    "{whose} contains no server name (subjectAltName), so that tls_server_name ({expected}) cannot be checked. "
    + "Remove tls_server_name, or create a new certificate with this name.",
    "{whose} enthält keinen Servernamen (subjectAltName), darum lässt sich tls_server_name ({expected}) nicht "
    + "prüfen. tls_server_name leeren oder ein neues Zertifikat mit diesem Namen erstellen.",
  ],
  [
    "{whose} contains no server name (subjectAltName; the common name is not used). Create a new one with the "
    + "name {expected}.",
    "{whose} enthält keinen Servernamen (subjectAltName; der Common Name gilt nicht). Ein neues mit dem Namen "
    + "{expected} erstellen.",
  ],
  [
    "{whose} is for {listed}{more}, not for {expected}. Connect using one of these names, or set tls_server_name "
    + "to one.",
    "{whose} gilt für {listed}{more}, nicht für {expected}. Mit einem dieser Namen verbinden oder "
    + "tls_server_name auf einen davon setzen.",
  ],
  [
    "{name:?} is not a valid TLS server name. Set tls_server_name.",
    "{name} ist kein gültiger TLS-Servername. tls_server_name setzen.",
  ],
  [
    "This system trusts no certificate authorities. Install the package ca-certificates, or set the broker's "
    + "authority as ca_certificate.",
    "Dieses System vertraut keiner Zertifizierungsstelle. Das Paket ca-certificates installieren oder die des "
    + "Brokers als ca_certificate eintragen.",
  ],
  [
    "client_certificate requires client_key. Set both or neither.",
    "client_certificate braucht client_key. Beides eintragen oder keines von beiden.",
  ],
  [
    "client_key requires client_certificate. Set both or neither.",
    "client_key braucht client_certificate. Beides eintragen oder keines von beiden.",
  ],
  // Refused messages and topics.
  ["The message is larger than {broker} accepts.", "Die Nachricht ist größer, als {broker} erlaubt."],
  [
    "The message is left out, because {broker} ends the connection over it or does not acknowledge it.",
    "Die Nachricht wird ausgelassen, weil {broker} ihretwegen die Verbindung beendet oder sie nicht bestätigt.",
  ],
  [
    "Too many messages are waiting for the broker. Try again in a second.",
    "Zu viele Nachrichten warten auf den Broker. In einer Sekunde erneut versuchen.",
  ],
  ["{broker} does not allow publishing to this topic.", "{broker} erlaubt nicht, an dieses Topic zu senden."],
  [
    "{broker} accepts no more messages at the moment ({reason}).",
    "{broker} nimmt im Moment keine weiteren Nachrichten an ({reason}).",
  ],
  ["{broker} refused the message ({reason}).", "{broker} hat die Nachricht abgelehnt ({reason})."],
  ["not_authorized", "nicht berechtigt"],
  ["topic_name_invalid", "ungültiges Topic"],
  ["payload_format_invalid", "ungültige Nutzdaten"],
  ["packet_too_large", "zu groß"],
  ["refused_repeatedly", "mehrmals abgelehnt"],
  ["quota_exceeded", "Kontingent erschöpft"],
  ["unspecified_error", "Fehler ohne Angabe"],
  ["implementation_specific_error", "Fehler des Brokers"],
  [
    "The broker refuses messages on {topic} ({}).",
    ({ topic, 1: reason }) => `Der Broker lehnt Nachrichten auf ${listed(topic)} ab (${reason}).`,
  ],
  [
    "The broker refuses messages on {topic} ({reason}) and then closes the connection.",
    ({ topic, reason }) =>
      `Der Broker lehnt Nachrichten auf ${listed(topic)} ab (${reason}) und beendet dann die Verbindung.`,
  ],
  [
    "The broker closed the connection when a message was published on {topic}.",
    "Der Broker hat die Verbindung beendet, als eine Nachricht auf {topic} gesendet wurde.",
  ],
  [
    "The broker does not acknowledge messages on {topic}.",
    ({ topic }) => `Der Broker bestätigt Nachrichten auf ${listed(topic)} nicht.`,
  ],
  [
    "The connection to the broker is too slow for messages on {topic}.",
    "Die Verbindung zum Broker ist zu langsam für Nachrichten auf {topic}.",
  ],
  [
    "Home Assistant may show every entity as unavailable.",
    "Home Assistant zeigt vielleicht alle Entitäten als nicht verfügbar.",
  ],
  ["Home Assistant cannot discover the cameras.", "Home Assistant kann die Kameras nicht erkennen."],
  ["Nobody receives these events.", "Niemand erhält diese Ereignisse."],
  ["Home Assistant does not see these states.", "Home Assistant sieht diese Zustände nicht."],
  [", or set another availability_topic", ", oder ein anderes availability_topic wählen"],
  [", or set discovery_enabled to false", ", oder discovery_enabled ausschalten"],
  [
    "Send smaller pictures, or use a faster network.",
    "Kleinere Bilder senden oder ein schnelleres Netzwerk benutzen.",
  ],
  [
    "Raise the broker's limit for the size of messages.",
    "Die Grenze des Brokers für die Größe von Nachrichten anheben.",
  ],
  ["The broker's log may show why.", "Das Protokoll des Brokers nennt vielleicht den Grund."],
  [
    "If it is allowed, check the broker's limit for the size of messages.",
    "Ist das erlaubt, die Grenze des Brokers für die Größe von Nachrichten prüfen.",
  ],
  [
    "Let this user publish to {} (in Mosquitto's ACL file: \"{}\"){alternative}.",
    "Diesem Benutzer erlauben, an {0} zu senden (in Mosquittos ACL-Datei: „{1}“){alternative}.",
    [0, 1],
  ],
  [
    "Whether the broker accepts messages on {topic} cannot be known with {version}: a message was published but "
    + "did not come back. Either this user is not allowed to publish to the topic, or not allowed to read it. If "
    + "publishing is not allowed: {} {}",
    "Ob der Broker Nachrichten auf {topic} annimmt, lässt sich mit {version} nicht feststellen: Eine Nachricht "
    + "wurde gesendet, kam aber nicht zurück. Dieser Benutzer darf entweder nicht an das Topic senden oder es nicht "
    + "lesen. Ist das Senden verboten: {2} {3}",
  ],
  // The connection test.
  [
    "{broker} accepted the login and all test messages.",
    "{broker} hat die Anmeldung und alle Testnachrichten angenommen.",
  ],
  [
    "{broker} accepted the login and the test messages, as far as this can be known (see the stages).",
    "{broker} hat die Anmeldung und die Testnachrichten angenommen, soweit sich das feststellen lässt (siehe die "
    + "einzelnen Schritte).",
  ],
  [
    "{} ({count} more {stages} failed.)",
    ({ 0: first, count }) =>
      `${first} (${isOne(count) ? "Ein weiterer Schritt ist" : `${count} weitere Schritte sind`} gescheitert.)`,
  ],
  [
    "the broker does not allow this user to subscribe, so this could not be tested",
    "der Broker erlaubt diesem Benutzer kein Abonnement, darum ließ sich das nicht testen",
  ],
  ["received the test message back", "die Testnachricht kam zurück"],
  [
    "the broker accepted the test message but does not allow this user to read the topic",
    "der Broker hat die Testnachricht angenommen, erlaubt diesem Benutzer aber nicht, das Topic zu lesen",
  ],
  [
    "{broker} closed the connection when the test message was published. Is this user not allowed to publish to "
    + "{topic}?",
    "{broker} hat die Verbindung beendet, als die Testnachricht gesendet wurde. Darf dieser Benutzer nicht an "
    + "{topic} senden?",
  ],
  ["{broker} acknowledged the test message on {topic}", "{broker} hat die Testnachricht auf {topic} bestätigt"],
  [
    "sent the test message on {topic} to {broker}, which acknowledges nothing because it supports only QoS 0",
    "Testnachricht auf {topic} an {broker} gesendet, der nichts bestätigt, weil er nur QoS 0 unterstützt",
  ],
  [
    "{broker} does not allow this user to publish to {topic}. Add {}/# to its access rules.",
    "{broker} erlaubt diesem Benutzer nicht, an {topic} zu senden. {2}/# in die Zugriffsregeln aufnehmen.",
    [2],
  ],
  ["the broker closed the connection", "der Broker hat die Verbindung beendet"],
  [
    "the broker accepts no messages at the moment ({reason})",
    "der Broker nimmt im Moment keine Nachrichten an ({reason})",
  ],
  [
    "The broker refuses the login with a last will on {}. {}",
    "Der Broker lehnt die Anmeldung mit einer Offline-Nachricht (Last Will) auf {0} ab. {1}",
    [0],
  ],
  [
    "the broker accepts messages on {}",
    ({ 0: topics }) => `der Broker nimmt Nachrichten auf ${listed(topics)} an`,
    [0],
  ],
  [
    "{} {received} the test message on {topic} but did not deliver it. Its access rules probably drop the "
    + "message: allow this user to publish and to read the topic. ({version}, only reading the message back proves "
    + "that publishing is allowed.)",
    ({ 0: broker, received, topic, version }) =>
      `${broker} hat die Testnachricht auf ${topic} ${received === "acknowledged" ? "bestätigt" : "erhalten"}, aber `
      + "nicht zugestellt. Wahrscheinlich verwerfen die Zugriffsregeln sie: Diesem Benutzer erlauben, an das Topic zu "
      + `senden und es zu lesen. (${version} zeigt nur eine zurückerhaltene Nachricht, dass das Senden erlaubt ist.)`,
    [0],
  ],
  ["With MQTT 3.1.1", "Mit MQTT 3.1.1"],
  ["With QoS 0", "Mit QoS 0"],
  ["{broker} refused the test message ({reason}).", "{broker} hat die Testnachricht abgelehnt ({reason})."],
  ["connected to {address}{before}", "verbunden mit {address}{before}"],
  [
    "certificate of {subject}, issued by {issuer}, valid until {}",
    "Zertifikat von {subject}, ausgestellt von {issuer}, gültig bis {2}",
  ],
  ["the broker's certificate cannot be parsed", "das Zertifikat des Brokers ist nicht lesbar"],
  ["NOT VERIFIED (tls_insecure)", "NICHT GEPRÜFT (tls_insecure)"],
  ["presented the client certificate", "das Client-Zertifikat wurde vorgelegt"],
  ["(after {})", "(nach {0})"],
  [
    "{websocket}MQTT {version}{fallback}; up to QoS {}, at most {} in flight, retained messages {}",
    "{websocket}MQTT {version}{fallback}; bis QoS {3}, höchstens {4} unterwegs, aufbewahrte Nachrichten {5}",
  ],
  [
    "{websocket}MQTT {version}{fallback}; with this version, brokers do not report their limits",
    "{websocket}MQTT {version}{fallback}; mit dieser Version nennen Broker ihre Grenzen nicht",
  ],
  ["WebSocket at {};", "WebSocket unter {0};", [0]],
  [", because MQTT {other} {refusal}", ", weil MQTT {other} {refusal}"],
  ["was refused", "abgelehnt wurde"],
  ["was answered by closing the connection", "mit dem Abbruch der Verbindung beantwortet wurde"],
  ["supported", "unterstützt"],
  ["not supported", "nicht unterstützt"],
  // Actions.
  ["Test message delivered to {}.", "Testnachricht an {0} zugestellt.", [0]],
  ["Connecting to the broker.", "Die Verbindung zum Broker wird aufgebaut."],
  ["Announced 1 camera to Home Assistant.", "1 Kamera an Home Assistant gemeldet."],
  ["Announced {n} cameras to Home Assistant.", "{n} Kameras an Home Assistant gemeldet."],
  ["discovery is switched off (discovery_enabled)", "die Erkennung ist ausgeschaltet (discovery_enabled)"],
  ["not connected to a broker", "nicht mit einem Broker verbunden"],
  [
    "The broker refused the announcement of {}. Let this user publish to `{prefix}/#`; liveobject retries on the "
    + "next connection.",
    "Der Broker hat die Meldung an Home Assistant abgelehnt: {0}. Diesem Benutzer erlauben, an `{prefix}/#` zu "
    + "senden; liveobject versucht es bei der nächsten Verbindung erneut.",
  ],
  ["the device {example}", "Gerät {example}"],
  ["{devices} devices ({example}, …)", "{devices} Geräte ({example}, …)"],
  [
    "The broker did not acknowledge every message within {} s. The others are still being sent.",
    "Der Broker hat nicht jede Nachricht innerhalb von {0} s bestätigt. Die übrigen werden noch gesendet.",
  ],
  [
    "no attempt to connect is due: the service is connected, connecting or disabled",
    "es steht kein Versuch an: Der Dienst ist verbunden, verbindet gerade oder ist abgeschaltet",
  ],
  [
    "the previous attempt began less than 2 seconds ago; try again in a moment",
    "der vorige Versuch begann vor weniger als 2 Sekunden; gleich erneut versuchen",
  ],
  ["Requires a user name and a password.", "Verlangt Benutzername und Passwort."],
  [
    "Home Assistant is announced here, but no MQTT broker responds at {address}. Install the app \"Mosquitto "
    + "broker\" in Home Assistant, or enter the address of your broker.",
    "Home Assistant meldet sich hier, aber bei {address} antwortet kein MQTT-Broker. In Home Assistant die App "
    + "„Mosquitto broker“ installieren oder die Adresse deines Brokers eingeben.",
  ],
  ["Accepts clients without a user name.", "Nimmt Clients ohne Benutzernamen an."],
  [
    "other searches for brokers take too long; try again in a few seconds",
    "andere Suchen nach Brokern dauern zu lange; in ein paar Sekunden erneut versuchen",
  ],
  // Warnings.
  [
    "The broker's certificate is not verified: anyone on the network path can read the password and the events. "
    + "Set ca_certificate, and set tls_insecure to false.",
    "Das Zertifikat des Brokers wird nicht geprüft: Jeder auf dem Weg durchs Netzwerk kann Passwort und "
    + "Ereignisse lesen. ca_certificate eintragen und tls_insecure ausschalten.",
  ],
  ["The broker's certificate (seen at the last connection)", "Das Zertifikat des Brokers (bei der letzten Verbindung)"],
  ["The client certificate", "Das Client-Zertifikat"],
  [
    "{whose} expired on {day}. The next connection will fail; renew the certificate.",
    "{whose} ist am {day} abgelaufen. Die nächste Verbindung wird scheitern; das Zertifikat erneuern.",
  ],
  [
    "{whose} expires within a day ({day}). Renew it before connections fail.",
    "{whose} läuft innerhalb eines Tages ab ({day}). Es erneuern, bevor Verbindungen scheitern.",
  ],
  [
    "{whose} expires in 1 day ({day}). Renew it before connections fail.",
    "{whose} läuft in 1 Tag ab ({day}). Es erneuern, bevor Verbindungen scheitern.",
  ],
  [
    "{whose} expires in {days} days ({day}). Renew it before connections fail.",
    "{whose} läuft in {days} Tagen ab ({day}). Es erneuern, bevor Verbindungen scheitern.",
  ],
  [
    "The configuration ([mqtt] in the file, or LIVEOBJECT__MQTT__ variables) contains other values than the "
    + "stored settings for {fields}. It applies only to the first start. To use its values, save them in the "
    + "settings; to keep the stored ones, remove these values from the configuration and restart.",
    "Die Konfiguration ([mqtt] in der Datei oder Variablen LIVEOBJECT__MQTT__) hat andere Werte als die "
    + "gespeicherten Einstellungen für {fields}. Sie gilt nur beim ersten Start. Um ihre Werte zu benutzen, sie in "
    + "den Einstellungen speichern; um die gespeicherten zu behalten, diese Werte aus der Konfiguration entfernen "
    + "und neu starten.",
  ],
  [
    "Somebody else has published to the availability topic {topic} {times} since {}, the last time {newest:?}. "
    + "Home Assistant then shows all entities as unavailable, so the birth message was published again (at most "
    + "{MAX_PER_HOUR} times an hour). There is probably a second service with the same topic prefix: stop it, or "
    + "give it a topic_prefix of its own. If it happened only once, the broker may have published the last will of "
    + "an earlier connection late.",
    "Jemand anders hat seit {2} an das Verfügbarkeits-Topic {topic} gesendet ({times}), zuletzt {newest}. Home "
    + "Assistant zeigt dann alle Entitäten als nicht verfügbar, darum wurde die Online-Nachricht erneut gesendet "
    + "(höchstens {MAX_PER_HOUR}-mal pro Stunde). Wahrscheinlich gibt es einen zweiten Dienst mit demselben "
    + "Topic-Präfix: ihn beenden oder ihm ein eigenes topic_prefix geben. Geschah es nur einmal, hat der Broker "
    + "vielleicht die Offline-Nachricht (Last Will) einer früheren Verbindung verspätet gesendet.",
  ],
  ["once", "einmal"],
  ["{count} times", "{count}-mal"],
  [
    "An event from camera {camera_id} was {} old when it arrived, and was sent to the history topic. Either a "
    + "clock is wrong (here or at the source) or the source is slow.",
    "Ein Ereignis der Kamera {camera_id} war bei der Ankunft {1} alt und wurde an das History-Topic gesendet. "
    + "Entweder geht eine Uhr falsch (hier oder an der Quelle), oder die Quelle ist langsam.",
  ],
  ["{seconds} s", "{seconds} s"],
  ["{} min", "{0} Min."],
  ["{} h", "{0} Std."],
  ["{} days", "{0} Tage"],
  [
    "Camera {camera_id} is not registered, because the limit of {max} cameras is reached. Its events are "
    + "published, but it has no state and is not announced to Home Assistant. Delete cameras that no longer exist, "
    + "or raise [cameras] max.",
    "Die Kamera {camera_id} ist nicht registriert, weil die Grenze von {max} Kameras erreicht ist. Ihre "
    + "Ereignisse werden gesendet, aber sie hat keinen Zustand und wird nicht an Home Assistant gemeldet. Kameras "
    + "löschen, die es nicht mehr gibt, oder [cameras] max erhöhen.",
  ],
  [
    "The disk of the database is almost full: {} of {} MiB are free. When it is full, the oldest pictures are "
    + "removed first, and then no events are accepted. Free some space, or lower [pictures] max_bytes or [outbox] "
    + "retention_days.",
    "Der Datenträger der Datenbank ist fast voll: {0} von {1} MiB sind frei. Ist er voll, werden zuerst die "
    + "ältesten Bilder entfernt und dann keine Ereignisse mehr angenommen. Platz schaffen, [pictures] "
    + "max_bytes oder [outbox] retention_days verringern.",
  ],
  [
    "Commits of the database server do not wait for a standby. If the server fails and a standby takes over, it can "
    + "lack events that were accepted, and their seq is given to other events. Set synchronous_standby_names on the "
    + "server, for example to ANY 1 (*), or let no standby take over.",
    "Die Commits des Datenbankservers warten auf keinen Standby. Fällt der Server aus und übernimmt ein Standby, "
    + "können diesem angenommene Ereignisse fehlen, und andere Ereignisse erhalten deren seq. Auf dem Server "
    + "synchronous_standby_names setzen, zum Beispiel auf ANY 1 (*), oder keinen Standby übernehmen lassen.",
  ],
  [
    "Node {name} has not reported to the database since {since}. Another standby can take over. Start it again. If it "
    + "is gone for good, nothing needs to be done: this warning goes away after a day.",
    "Der Knoten {name} hat sich seit {since} nicht bei der Datenbank gemeldet. Ein Knoten in Bereitschaft kann "
    + "übernehmen. Den Knoten wieder starten. Gibt es ihn nicht mehr, ist nichts zu tun: Diese Warnung verschwindet "
    + "nach einem Tag.",
  ],
  [
    "Node {name} has not reported to the database since {since}, and no other standby is left: if the active node "
    + "fails, no node takes over. Start it again. If it is gone for good and no standby is needed, nothing needs to be "
    + "done: this warning goes away after 7 days.",
    "Der Knoten {name} hat sich seit {since} nicht bei der Datenbank gemeldet, und kein anderer Knoten ist in "
    + "Bereitschaft: Fällt der aktive Knoten aus, übernimmt keiner. Den Knoten wieder starten. Gibt es ihn nicht mehr "
    + "und wird kein anderer gebraucht, ist nichts zu tun: Diese Warnung verschwindet nach 7 Tagen.",
  ],
  [
    "Node {name} cannot decrypt the settings with its identity, so it cannot log in to the broker if it becomes "
    + "active. Stop it, copy identity.age there from the data directory of a node without this warning, and start it "
    + "again. Do not enter the password of the broker again: the other nodes could not decrypt it then.",
    "Der Knoten {name} kann die Einstellungen mit seiner Identität nicht entschlüsseln und sich deshalb nicht beim "
    + "Broker anmelden, wenn er aktiv wird. Den Knoten anhalten, identity.age aus dem Datenverzeichnis eines Knotens "
    + "ohne diese Warnung dorthin kopieren und ihn wieder starten. Das Passwort des Brokers nicht erneut eingeben: "
    + "Die anderen Knoten könnten es dann nicht entschlüsseln.",
  ],
  [
    "Node {name} cannot decrypt the keys that the nodes share: while it is active, links to pictures and sessions of "
    + "the page from other nodes are not valid, nor are its own on other nodes. Stop it, copy identity.age there "
    + "from the data directory of a node without this warning, and start it again.",
    "Der Knoten {name} kann die gemeinsamen Schlüssel der Knoten nicht entschlüsseln: Solange er aktiv ist, gelten die "
    + "Links zu Bildern und die Sitzungen der anderen Knoten nicht, und seine eigenen gelten bei anderen Knoten nicht. "
    + "Den Knoten anhalten, identity.age aus dem Datenverzeichnis eines Knotens ohne diese Warnung dorthin kopieren "
    + "und ihn wieder starten.",
  ],
  [
    "Node {name} has a clock that is {seconds} s {direction} that of the database server, so the times of events "
    + "jump when another node becomes active, and live events may count as late. Synchronize the clocks of all "
    + "nodes and of the database server with NTP, for example with chrony.",
    "Die Uhr des Knotens {name} geht gegenüber der des Datenbankservers {seconds} s {direction}. Deshalb springen die "
    + "Zeiten von Ereignissen, wenn ein anderer Knoten aktiv wird, und Live-Ereignisse können als verspätet gelten. "
    + "Die Uhren aller Knoten und des Datenbankservers mit NTP synchronisieren, zum Beispiel mit chrony.",
  ],
  ["ahead of", "vor"],
  ["behind", "nach"],
  [
    "{} {events} cannot be read because the database is damaged, and {are} dead. Stop the service and restore a "
    + "backup, or repair the file with `sqlite3 FILE .recover`; then send {them} again. To give {them} up, dismiss "
    + "the dead events with the reason unreadable.",
    ({ 0: count }) =>
      `Wegen einer beschädigten Datenbank ${isOne(count) ? "ist" : "sind"} ${events(count)} nicht lesbar und `
      + `${isOne(count) ? "gilt" : "gelten"} als gescheitert. Den Dienst beenden und eine Sicherung wiederherstellen, `
      + "oder die Datei mit `sqlite3 FILE .recover` reparieren; dann erneut senden. Zum Aufgeben die gescheiterten "
      + "Ereignisse mit dem Grund unreadable verwerfen.",
  ],
  [
    "{} pending {events} {are} no longer in the database. This service did not remove {them} and cannot deliver "
    + "{them}. Another program has changed the database, or it is damaged: stop the service and check it with "
    + "`sqlite3 FILE \"PRAGMA integrity_check\"`, or restore a backup. This warning is shown until the service is "
    + "restarted.",
    ({ 0: count }) =>
      `${events(count, "wartendes", "wartende")} ${isOne(count) ? "fehlt" : "fehlen"} in der Datenbank. Dieser Dienst `
      + "hat nichts davon entfernt und kann nichts davon zustellen. Ein anderes Programm hat die Datenbank geändert, "
      + "oder sie ist beschädigt: Den Dienst beenden und sie mit `sqlite3 FILE \"PRAGMA integrity_check\"` prüfen, "
      + "oder eine Sicherung wiederherstellen. Diese Warnung bleibt bis zum Neustart des Dienstes.",
  ],
  [
    "The clock of this machine was set {direction} by {}, to {}. The ages of events are measured independently of "
    + "it, but times that were recorded before may be wrong. Synchronize the clock with NTP, and start the service "
    + "after it is synchronized.",
    "Die Uhr dieses Rechners wurde um {1} {direction}gestellt, auf {2}. Das Alter von Ereignissen wird unabhängig "
    + "davon gemessen, aber früher festgehaltene Zeiten können falsch sein. Die Uhr mit NTP stellen und den Dienst "
    + "erst danach starten.",
  ],
  ["back", "zurück"],
  ["forward", "vor"],
  [
    "Somebody subscribes to it again. Automations have missed these events.",
    "Jemand abonniert es wieder. Automationen haben diese Ereignisse verpasst.",
  ],
  [
    "Check that the subscriber is connected, and that it uses the same topic prefix.",
    "Prüfen, ob der Abonnent verbunden ist und dasselbe Topic-Präfix benutzt.",
  ],
  [
    "The broker has accepted {count} {events} since {since} for which there was no subscriber, the newest on "
    + "{topic}. {advice}",
    ({ count, since, topic, advice }) =>
      `Der Broker hat seit ${since} ${events(count)} angenommen, für ${isOne(count) ? "das" : "die"} es keinen `
      + `Abonnenten gab, zuletzt auf ${topic}. ${advice}`,
  ],
  [
    "{events}, because nobody subscribes to {topic} (since {}){others}. They are sent when somebody does, or go "
    + "to the history topic when they are late. Check that the subscriber is connected. If it was only a test, "
    + "nothing needs to be done: a topic without subscribers is forgotten after 30 days. To wait for no subscriber "
    + "at all, not even for Home Assistant, set wait_for_subscribers to false.",
    ({ events: waiting, topic, 2: since, others }) =>
      `${waiting}, weil niemand ${topic} abonniert hat (seit ${since})${others}. ${sentWhen(waiting)}, sobald es `
      + "jemand tut, oder verspätet an das History-Topic. Prüfen, ob der Abonnent verbunden ist. War es nur ein Test, "
      + "ist nichts zu tun: Ein Topic ohne Abonnenten wird nach 30 Tagen vergessen. Um auf keinen Abonnenten zu "
      + "warten, auch nicht auf Home Assistant, wait_for_subscribers ausschalten.",
  ],
  ["and one other topic", "und ein weiteres Topic"],
  ["and other topics", "und weitere Topics"],
  [
    "{events} for Home Assistant{since}, which is not connected to the broker or is still starting. They are sent "
    + "when it is back, but at the latest after 30 seconds. If Home Assistant is no longer used with this broker, "
    + "set discovery_enabled or wait_for_subscribers to false.",
    ({ events: waiting, since }) =>
      `${waiting} auf Home Assistant${since}, das nicht mit dem Broker verbunden ist oder noch startet. `
      + `${sentWhen(waiting)}, wenn Home Assistant zurück ist, aber spätestens nach 30 Sekunden. Wird Home Assistant `
      + "mit diesem Broker nicht mehr benutzt, discovery_enabled oder wait_for_subscribers ausschalten.",
  ],
  ["(since %F %T UTC)", "(seit {0})"],
  ["1 live event waits", "1 Live-Ereignis wartet"],
  ["{events} live events wait", "{events} Live-Ereignisse warten"],
  [
    "The database is older than the one that was used last: {} {events} that had been accepted (seq {} to {}) "
    + "{are} not in it. New events get higher seqs. If this is not intended, stop the service and restore a newer "
    + "backup. This warning is shown until the service is restarted.",
    ({ 0: count, 2: first, 3: last }) =>
      `Die Datenbank ist älter als die zuletzt benutzte: ${events(count, "angenommenes", "angenommene")} (seq ${first} `
      + `bis ${last}) ${isOne(count) ? "fehlt" : "fehlen"} darin. Neue Ereignisse erhalten höhere Nummern. War das `
      + "nicht beabsichtigt, den Dienst beenden und eine neuere Sicherung wiederherstellen. Diese Warnung bleibt bis "
      + "zum Neustart des Dienstes.",
  ],
  [
    "The file {} cannot be written. Events are accepted and delivered, but if the database is restored from a "
    + "backup or deleted, seqs may be reused. Check the permissions of the file and its directory, and the free "
    + "space on the disk.",
    "Die Datei {0} lässt sich nicht schreiben. Ereignisse werden angenommen und zugestellt, aber wenn die "
    + "Datenbank aus einer Sicherung wiederhergestellt oder gelöscht wird, können Nummern (seq) doppelt vorkommen. "
    + "Die Rechte der Datei und ihres Verzeichnisses und den freien Platz prüfen.",
    [0],
  ],
  ["No events are accepted, because {fault}. {remedy}", "Es werden keine Ereignisse angenommen: {fault}. {remedy}"],
  ["the disk is full", "Der Datenträger ist voll"],
  ["the database is locked or busy", "Die Datenbank ist gesperrt oder ausgelastet"],
  ["the database server cannot be reached", "Der Datenbankserver ist nicht erreichbar"],
  [
    "Check that the database server is running, and that this machine can reach it.",
    "Prüfen, ob der Datenbankserver läuft und von diesem Rechner aus erreichbar ist.",
  ],
  ["the database is damaged", "Die Datenbank ist beschädigt"],
  [
    "the database file, or its -wal file, was moved, deleted or replaced",
    "Die Datenbankdatei oder ihre -wal-Datei wurde verschoben, gelöscht oder ersetzt",
  ],
  ["another node owns the event log", "Das Ereignisprotokoll gehört einem anderen Knoten"],
  [
    "Nothing needs to be done: another node takes the events.",
    "Es ist nichts zu tun: Ein anderer Knoten nimmt die Ereignisse an.",
  ],
  ["the storage failed unexpectedly", "Das Speichern ist unerwartet gescheitert"],
  ["Free some space on the disk of the database.", "Auf dem Datenträger der Datenbank Platz schaffen."],
  [
    "Another program may have locked the database: find it with `fuser`, and stop it. The disk may also be too slow.",
    "Vielleicht hat ein anderes Programm die Datenbank gesperrt: Es mit `fuser` finden und beenden. Oder der "
    + "Datenträger ist zu langsam.",
  ],
  [
    "The database server is too slow, waits for a synchronous standby that is away, or has too few connections; or "
    + "another session holds a lock. Look at `pg_stat_activity` there.",
    "Der Datenbankserver ist zu langsam, wartet auf einen synchronen Standby, der nicht läuft, oder hat zu wenige "
    + "Verbindungen; oder eine andere Sitzung hält eine Sperre. Dort `pg_stat_activity` ansehen.",
  ],
  [
    "See the log of the database server, and restore a backup of the database.",
    "Das Protokoll des Datenbankservers ansehen und eine Sicherung der Datenbank wiederherstellen.",
  ],
  [
    "Stop the service, and restore a backup of the database, or repair it with `sqlite3 FILE .recover`.",
    "Den Dienst beenden, dann eine Sicherung der Datenbank wiederherstellen oder sie mit `sqlite3 FILE .recover` "
    + "reparieren.",
  ],
  [
    "Put the file back, with its -wal and -shm files. If only the -wal file was deleted, restart the service. To "
    + "use another database, stop the service first; events that were accepted since the last backup are then "
    + "missing.",
    "Die Datei mit ihren -wal- und -shm-Dateien zurücklegen. Wurde nur die -wal-Datei gelöscht, den Dienst neu "
    + "starten. Für eine andere Datenbank zuerst den Dienst beenden; Ereignisse seit der letzten Sicherung fehlen "
    + "dann.",
  ],
  ["See the log of the service for the cause.", "Das Protokoll des Dienstes nennt den Grund."],
  [
    "Then save the MQTT settings, even unchanged, so that the service reconnects and tries again.",
    "Danach die MQTT-Einstellungen speichern, auch unverändert, damit der Dienst neu verbindet und es erneut versucht.",
  ],
  [
    "The broker supports QoS {0} at most. Events are sent with QoS {0} instead of QoS {1}.",
    "Der Broker unterstützt höchstens QoS {0}. Ereignisse werden mit QoS {0} statt QoS {1} gesendet.",
  ],
  [
    "The broker does not support retained messages. Clients that subscribe later do not see the current state.",
    "Der Broker unterstützt keine aufbewahrten Nachrichten. Clients, die später abonnieren, sehen den aktuellen "
    + "Zustand nicht.",
  ],
  [
    "Events on this topic become dead; send them again once the cause is fixed.",
    "Ereignisse auf diesem Topic gelten als gescheitert; erneut senden, wenn die Ursache behoben ist.",
  ],
  ["These messages are left out for an hour.", "Diese Nachrichten werden eine Stunde lang ausgelassen."],
  [
    "To try again at once, save the MQTT settings.",
    "Um es sofort erneut zu versuchen, die MQTT-Einstellungen speichern.",
  ],
  [
    "{address}{others} has {per_address} connections open, the maximum for one address, and tries to open more "
    + "([http] max_connections_per_address). If it is a reverse proxy, add it to [http] trusted_proxies; otherwise "
    + "look for the program that opens them.",
    "{address}{others} hat {per_address} Verbindungen offen, so viele wie für eine Adresse erlaubt, und will "
    + "weitere öffnen ([http] max_connections_per_address). Ist es ein Reverse-Proxy, ihn in [http] trusted_proxies "
    + "aufnehmen; sonst das Programm suchen, das sie öffnet.",
  ],
  ["(and {n} more)", "(und {n} weitere)"],
  [
    "All {max_connections} connections are in use. If you expect this number of clients, raise [http] "
    + "max_connections; otherwise restrict who can reach this service.",
    "Alle {max_connections} Verbindungen sind belegt. Werden so viele Clients erwartet, [http] max_connections "
    + "erhöhen; sonst einschränken, wer diesen Dienst erreicht.",
  ],
  [
    "The backup of {made} UTC was not restored: {failure}. The service uses the data that it had before. Remove "
    + "the cause and upload the backup again, or discard it in the settings of the page (or with DELETE "
    + "/api/v1/restore).",
    "Die Sicherung vom {made} wurde nicht wiederhergestellt: {failure}. Der Dienst benutzt die vorherigen "
    + "Daten. Die Ursache beheben und die Sicherung erneut hochladen oder sie in den Einstellungen der Seite "
    + "verwerfen.",
  ],
  [
    "The backup of {made} UTC ({} events) replaces all data when the service is restarted: {}. To keep the "
    + "present data, discard it in the settings of the page (or with DELETE /api/v1/restore).",
    "Die Sicherung vom {made} (Ereignisse: {1}) ersetzt beim Neustart des Dienstes alle Daten: {2}. Um die "
    + "jetzigen Daten zu behalten, sie in den Einstellungen der Seite verwerfen.",
  ],
  [
    "restart its container or app, for example with `docker restart {name}`",
    "seinen Container oder seine App neu starten, zum Beispiel mit `docker restart {name}`",
  ],
  ["run `systemctl restart liveobject` as root", "als root `systemctl restart liveobject` ausführen"],
  ["stop `liveobject serve` and start it again", "`liveobject serve` beenden und wieder starten"],
  [
    "Home Assistant's Supervisor is being asked for the MQTT broker.",
    "Der Supervisor von Home Assistant wird nach dem MQTT-Broker gefragt.",
  ],
  [
    "The MQTT broker is not known: Home Assistant's Supervisor {reason}. Events are stored until it is known; the "
    + "Supervisor is asked again at least every 30 seconds. If this persists, restart Home Assistant, or set "
    + "mqtt_source to \"settings\" in the options of the app, restart the app, and enter the broker in the settings.",
    "Der MQTT-Broker ist nicht bekannt: Der Supervisor von Home Assistant {reason}. Ereignisse werden bis dahin "
    + "gespeichert; der Supervisor wird mindestens alle 30 Sekunden wieder gefragt. Bleibt es so, Home Assistant "
    + "neu starten oder in den Optionen der App mqtt_source auf „settings“ setzen, die App neu starten und den "
    + "Broker in den Einstellungen eingeben.",
  ],
  [
    "Home Assistant has no MQTT broker, so events are stored and not sent. Install the app Mosquitto broker in "
    + "Home Assistant and start it, or enter a broker in the settings and enable the connection.",
    "Home Assistant hat keinen MQTT-Broker, darum werden Ereignisse gespeichert und nicht gesendet. In Home "
    + "Assistant die App „Mosquitto broker“ installieren und starten oder in den Einstellungen einen Broker eingeben "
    + "und die Verbindung einschalten.",
  ],
  [
    "cannot be asked, because SUPERVISOR_TOKEN is not set (only apps of Home Assistant have it)",
    "lässt sich nicht fragen, weil SUPERVISOR_TOKEN nicht gesetzt ist (nur Apps von Home Assistant haben es)",
  ],
  ["cannot be reached at {} ({error})", "ist unter {0} nicht erreichbar ({error})", [0]],
  ["has not answered within {} s", "hat nicht innerhalb von {0} s geantwortet"],
  ["does not accept the token of the app (status {status})", "nimmt das Token der App nicht an (Status {status})"],
  ["has sent an unexpected response (status {status})", "hat eine unerwartete Antwort gesendet (Status {status})"],
  ["the stored {name} cannot be read", ({ name }) => `${stored(name)} ist nicht lesbar`],
  ["enter the {name} again", ({ name }) => `${secret(name)} erneut eingeben`],
  [
    "enter the {name} again if no other node uses the database",
    ({ name }) => `${secret(name)} erneut eingeben, wenn kein anderer Knoten die Datenbank benutzt`,
  ],
  [
    "{problem}: the identity file {path} is missing; put it back and restart, or {remedy}",
    "{problem}: Die Identitätsdatei {path} fehlt. Sie zurücklegen und neu starten oder {remedy}.",
  ],
  [
    "{problem}: it was encrypted with an identity other than {other}, or {remedy}",
    "{problem}: Verschlüsselt wurde mit einer anderen Identität als {other} oder {remedy}.",
  ],
  [
    "the one in the identity file; restore the correct file and restart",
    "der in der Identitätsdatei; die richtige Datei zurücklegen und neu starten",
  ],
  [
    "{problem}: its ciphertext is damaged; {remedy}",
    "{problem}: Die verschlüsselten Daten sind beschädigt; {remedy}.",
  ],

  // Rejected settings and other input.
  ["must not be empty", "darf nicht leer sein"],
  ["must not be empty while enabled is true", "darf nicht leer sein, solange die Verbindung eingeschaltet ist"],
  ["{n} bytes, must be {min} to {max}", "{n} Bytes, es müssen {min} bis {max} sein"],
  ["must not contain control characters", "darf keine Steuerzeichen enthalten"],
  [
    "must not contain control characters other than line endings and tabs",
    "darf außer Zeilenenden und Tabulatoren keine Steuerzeichen enthalten",
  ],
  ["{value} is not a whole number from {min} to {max}", "{value} ist keine ganze Zahl von {min} bis {max}"],
  ["expected a whole number from {min} to {max}, found {found}", "muss eine ganze Zahl von {min} bis {max} sein"],
  [
    "{n} is neither 0 nor a whole number from {min} to {max}",
    "{n} ist weder 0 noch eine ganze Zahl von {min} bis {max}",
  ],
  ["must have at most {MAX_CREDENTIAL_BYTES} bytes", "darf höchstens {MAX_CREDENTIAL_BYTES} Bytes haben"],
  ["must be a host name or an IP address", "muss ein Hostname oder eine IP-Adresse sein"],
  ["{A_HOST}, without {scheme}://", "{A_HOST}, ohne {scheme}://"],
  ["{A_HOST}, without quotation marks", "{A_HOST}, ohne Anführungszeichen"],
  [
    "{A_HOST}, without @: the user name belongs in username",
    "{A_HOST}, ohne @: Der Benutzername gehört in das Feld „Benutzername“",
  ],
  ["{A_HOST}, without spaces or /", "{A_HOST}, ohne Leerzeichen oder /"],
  [
    "{A_HOST}, without a port: the port belongs in broker_port",
    "{A_HOST}, ohne Port: Der Port gehört in das Feld „Port“",
  ],
  [
    "must be a host name or an IP address, as in the certificate",
    "muss ein Hostname oder eine IP-Adresse sein, wie im Zertifikat",
  ],
  ["must not start or end with /", "darf nicht mit / beginnen oder enden"],
  ["must not start or end with a quotation mark", "darf nicht mit einem Anführungszeichen beginnen oder enden"],
  ["must not start or end with a space", "darf nicht mit einem Leerzeichen beginnen oder enden"],
  ["must not contain {c:?}", "darf {c} nicht enthalten"],
  ["must not start with $", "darf nicht mit $ beginnen"],
  ["is required because client_certificate is set", "ist nötig, weil client_certificate gesetzt ist"],
  [
    "is required because client_key is set; set it, or remove the key with null",
    "ist nötig, weil client_key gesetzt ist; es eintragen oder den Schlüssel entfernen",
  ],
  [
    "requires use_tls to be true: the connection would not be encrypted",
    "braucht use_tls: Die Verbindung wäre sonst nicht verschlüsselt",
  ],
  ["must be the path of a URL and start with /", "muss der Pfad einer URL sein und mit / beginnen"],
  ["is damaged: a certificate in it cannot be read", "ist beschädigt: Ein Zertifikat darin ist nicht lesbar"],
  ["must not contain a private key (block {} of {})", "darf keinen privaten Schlüssel enthalten (Block {0} von {1})"],
  ["contains no certificate (-----BEGIN CERTIFICATE-----)", "enthält kein Zertifikat (-----BEGIN CERTIFICATE-----)"],
  [
    "must contain only certificates, but block {number} is a {label}",
    "darf nur Zertifikate enthalten, aber Block {number} ist {label}",
  ],
  ["is damaged: the encoding of block {number} cannot be read", "ist beschädigt: Block {number} ist nicht lesbar"],
  ["is damaged: certificate {} in it cannot be read", "ist beschädigt: Zertifikat {0} darin ist nicht lesbar"],
  ["is damaged: block {number} of {} is incomplete", "ist beschädigt: Block {number} von {1} ist unvollständig"],
  [
    "is not a supported key: RSA (at least 2048 bits), EC (P-256, P-384) or Ed25519",
    "ist kein unterstützter Schlüssel: RSA (mindestens 2048 Bit), EC (P-256, P-384) oder Ed25519",
  ],
  [
    "has a passphrase, which is not supported; remove it with `{command}`",
    "hat eine Passphrase, was nicht unterstützt wird; sie mit `{command}` entfernen",
  ],
  [
    "contains no private key (-----BEGIN PRIVATE KEY-----)",
    "enthält keinen privaten Schlüssel (-----BEGIN PRIVATE KEY-----)",
  ],
  ["contains {} private keys, must contain one", "enthält {0} private Schlüssel, es muss einer sein"],
  ["is damaged: the encoding of block {} cannot be read", "ist beschädigt: Block {0} ist nicht lesbar"],
  ["does not match client_certificate", "passt nicht zu client_certificate"],
  [
    "cannot be used with client_certificate, which is damaged",
    "lässt sich mit client_certificate nicht benutzen, das beschädigt ist",
  ],
  ["may contain only A-Z a-z 0-9 _ -, found {c:?}", "darf nur A-Z a-z 0-9 _ - enthalten, gefunden: {c}"],
  ["may contain only A-Z a-z 0-9 _ - . :, found {c:?}", "darf nur A-Z a-z 0-9 _ - . : enthalten, gefunden: {c}"],
  [
    "may contain only A-Z a-z 0-9 . _ - and must start with a letter or a digit",
    "darf nur A-Z a-z 0-9 . _ - enthalten und muss mit einem Buchstaben oder einer Ziffer beginnen",
  ],
  ["unknown field", "unbekanntes Feld"],
  ["{n} characters, must be 1 to {MAX_CAMERA_NAME_CHARS}", "{n} Zeichen, es müssen 1 bis {MAX_CAMERA_NAME_CHARS} sein"],
  [
    "{length} characters, must be at most {MAX_TEXT_CHARS}",
    "{length} Zeichen, es dürfen höchstens {MAX_TEXT_CHARS} sein",
  ],
  ["must contain a letter or a digit", "muss einen Buchstaben oder eine Ziffer enthalten"],
  ["more than {MAX_WORDS} words", "mehr als {MAX_WORDS} Wörter"],
  ["more than {MAX_CHARACTERS} Chinese or Japanese characters",
    "mehr als {MAX_CHARACTERS} chinesische oder japanische Zeichen"],
  [
    "some fields are invalid; nothing was changed or accepted",
    "Einige Felder sind ungültig; nichts wurde geändert oder angenommen",
  ],
  // Errors.
  [
    "too many failed logins from this address; try again later",
    "Zu viele gescheiterte Anmeldungen von dieser Adresse; später erneut versuchen",
  ],
  [
    "this request needs a valid token in the header `Authorization: Bearer TOKEN`; `liveobject token` prints the "
    + "admin token",
    "Dafür ist eine gültige Anmeldung nötig",
  ],
  [
    "this request needs a token with the scope `{scope}`; this one has `{has}`",
    "Dafür ist ein Token mit dem Recht „{scope}“ nötig; dieses hat „{has}“",
  ],
  [
    "the host name in `Host` is not known to the service; use its IP address, or add the name to allowed_hosts in "
    + "[http] of the configuration",
    "Der Hostname in der Adresse ist dem Dienst nicht bekannt; seine IP-Adresse benutzen oder den Namen in der "
    + "Konfiguration unter [http] in allowed_hosts aufnehmen",
  ],
  [
    "the address of this page is not known to the service; set public_url in [http] of its configuration to the "
    + "address in the browser, or add its host to allowed_hosts",
    "Die Adresse dieser Seite ist dem Dienst nicht bekannt; in der Konfiguration unter [http] public_url auf die "
    + "Adresse im Browser setzen oder den Hostnamen in allowed_hosts aufnehmen",
  ],
  [
    "this is not available through Home Assistant, where every user could use it; use the service's own address "
    + "and the admin token",
    "Das geht nicht über Home Assistant, wo es jeder Benutzer tun könnte; die eigene Adresse des Dienstes und das "
    + "Token des Administrators benutzen",
  ],
  [
    "sign-in and sign-out are not available here: Home Assistant has checked the user",
    "An- und Abmelden geht hier nicht: Home Assistant hat den Benutzer geprüft",
  ],
  ["there is no resource at this path", "Unter diesem Pfad gibt es nichts"],
  ["the body is larger than {max} bytes", "Die Anfrage ist größer als {max} Bytes"],
  [
    "the body arrived too slowly while other clients waited; try again",
    "Die Anfrage kam zu langsam an, während andere warteten; erneut versuchen",
  ],
  ["no response in time: {OUTCOME_UNKNOWN}", "Keine Antwort in der erwarteten Zeit: {OUTCOME_UNKNOWN}"],
  [
    "the request may have been processed; it is safe to send an event again with the same event_id",
    "Die Anfrage wurde vielleicht ausgeführt; ein Ereignis lässt sich mit derselben event_id gefahrlos erneut senden",
  ],
  ["and {more} more errors", "und {more} weitere Fehler"],
  ["the database could not store it: {OUTCOME_UNKNOWN}", "Die Datenbank konnte es nicht speichern: {OUTCOME_UNKNOWN}"],
  [
    "the backup could not be made; see the service's log",
    "Die Sicherung ließ sich nicht erstellen; siehe das Protokoll des Dienstes",
  ],
  [
    "the backup could not be stored or checked; see the service's log",
    "Die Sicherung ließ sich nicht speichern oder prüfen; siehe das Protokoll des Dienstes",
  ],
  [
    "another node owns the event log; repeat the request",
    "Das Ereignisprotokoll gehört einem anderen Knoten; die Anfrage wiederholen",
  ],
  [
    "the picture could not be stored; see the service's log",
    "Das Bild ließ sich nicht speichern; siehe das Protokoll des Dienstes",
  ],
  [
    "the database cannot be read; see the service's log",
    "Die Datenbank ist nicht lesbar; siehe das Protokoll des Dienstes",
  ],
  [
    "the change may not have been stored; see the service's log",
    "Die Änderung wurde vielleicht nicht gespeichert; siehe das Protokoll des Dienstes",
  ],
  [
    "the settings could not be stored; see the service's log",
    "Die Einstellungen ließen sich nicht speichern; siehe das Protokoll des Dienstes",
  ],
  [
    "the change could not be stored; see the service's log",
    "Die Änderung ließ sich nicht speichern; siehe das Protokoll des Dienstes",
  ],
  [
    "the token could not be created; see the service's log",
    "Das Token ließ sich nicht anlegen; siehe das Protokoll des Dienstes",
  ],
  [
    "the token may still be valid; revoke it again, and see the service's log",
    "Das Token gilt vielleicht noch; es erneut widerrufen und das Protokoll des Dienstes ansehen",
  ],
  [
    "the service is stopping or restarting: {OUTCOME_UNKNOWN}",
    "Der Dienst wird beendet oder neu gestartet: {OUTCOME_UNKNOWN}",
  ],
  ["the service is stopping", "Der Dienst wird beendet"],
  [
    "the outbox is full: {pending} events are waiting for the broker (max_pending = {max_pending})",
    "Die Warteschlange ist voll: {pending} Ereignisse warten auf den Broker (max_pending = {max_pending})",
  ],
  [
    "too many events at once; try again in a second",
    "Zu viele Ereignisse auf einmal; in einer Sekunde erneut versuchen",
  ],
  ["there is no such event, or it has been removed", "Dieses Ereignis gibt es nicht, oder es wurde entfernt"],
  [
    "the event is not dead: it is waiting to be sent, or is delivered",
    "Das Ereignis ist nicht gescheitert: Es wartet oder ist zugestellt",
  ],
  [
    "too many dead events are waiting to be sent again; try again when some of them have been sent",
    "Zu viele gescheiterte Ereignisse warten auf erneutes Senden; später erneut versuchen",
  ],
  ["there is no such camera", "Diese Kamera gibt es nicht"],
  ["there is no such token", "Dieses Token gibt es nicht"],
  ["there is no token named {0}", "Es gibt kein Token mit dem Namen {0}", [0]],
  [
    "a token named {0} already exists; revoke it first, or choose another name",
    "Ein Token mit dem Namen {0} gibt es schon; es zuerst widerrufen oder einen anderen Namen wählen",
    [0],
  ],
  [
    "there are already {MAX_TOKENS} tokens, which is the maximum; revoke one that is no longer used",
    "Es gibt schon {MAX_TOKENS} Tokens, mehr sind nicht erlaubt; eines widerrufen, das nicht mehr benutzt wird",
  ],
  [
    "the limit of {max} cameras is reached. Remove a camera, or raise [cameras] max",
    "Die Grenze von {max} Kameras ist erreicht. Eine Kamera löschen oder [cameras] max erhöhen",
  ],
  [
    "the MQTT settings are managed by the configuration ([mqtt] managed = true); change them in the configuration "
    + "file or the environment, and restart the service",
    "Die MQTT-Einstellungen kommen aus der Konfiguration ([mqtt] managed = true); sie in der Konfigurationsdatei "
    + "oder den Umgebungsvariablen ändern und den Dienst neu starten",
  ],
  [
    "Home Assistant's Supervisor provides the MQTT broker, so these settings cannot be changed: {}. To use "
    + "another broker, set mqtt_source to \"settings\" in the options of the app, and restart the app",
    "Der Supervisor von Home Assistant stellt den MQTT-Broker bereit, darum lassen sich diese Einstellungen nicht "
    + "ändern: {0}. Für einen anderen Broker in den Optionen der App mqtt_source auf „settings“ setzen und die App "
    + "neu starten",
    [0],
  ],
  [
    "{max} streams are already open, which is the maximum; close one, or try again later",
    "Es sind schon {max} Verbindungen für Live-Ansichten offen, mehr sind nicht erlaubt; eine schließen oder "
    + "später erneut versuchen",
  ],
  ["the event log cannot be read at the moment", "Das Ereignisprotokoll ist im Moment nicht lesbar"],
  [
    "another backup is being uploaded or checked; try again when it is done",
    "Eine andere Sicherung wird gerade hochgeladen oder geprüft; danach erneut versuchen",
  ],
  [
    "the backup is larger than {max_mib} MiB ([http] max_restore_mib); raise this limit, or restore the backup "
    + "with `liveobject restore`",
    "Die Sicherung ist größer als {max_mib} MiB ([http] max_restore_mib); diese Grenze erhöhen oder sie mit "
    + "`liveobject restore` wiederherstellen",
  ],
  [
    "the restore needs {needed_mib} MiB of free space in {} (for the backup, its contents and a reserve for "
    + "events), but only {free_mib} MiB are free; free some space and upload the backup again",
    "Die Wiederherstellung braucht {needed_mib} MiB freien Platz in {1} (für die Sicherung, ihren Inhalt und eine "
    + "Reserve für Ereignisse), aber nur {free_mib} MiB sind frei; Platz schaffen und die Sicherung erneut hochladen",
    [1],
  ],
  [
    "the upload was interrupted; upload the backup again",
    "Das Hochladen wurde unterbrochen; die Sicherung erneut hochladen",
  ],
  [
    "this is not a backup of liveobject, or it is damaged or incomplete: {0}",
    "Das ist keine Sicherung von liveobject, oder sie ist beschädigt oder unvollständig: {0}",
  ],
  [
    "the backup was made by liveobject {0}, which is newer than this version: install that version first",
    "Die Sicherung stammt von liveobject {0}, das neuer ist als die installierte Version: zuerst {0} installieren",
  ],
  ["it is compressed; decompress it first", "sie ist komprimiert; zuerst entpacken"],
  ["it contains something other than files", "sie enthält etwas anderes als Dateien"],
  ["it has no manifest", "sie hat kein Inhaltsverzeichnis"],
  ["its checksum is wrong", "ihre Prüfsumme ist falsch"],
  ["it has no database", "sie hat keine Datenbank"],
  ["its first file is not a manifest", "ihre erste Datei ist kein Inhaltsverzeichnis"],
  ["its end is missing", "ihr Ende fehlt"],
  [
    "another backup is being made; try again when it is complete",
    "Eine andere Sicherung wird gerade erstellt; danach erneut versuchen",
  ],
  [
    "the backup needs a copy of the database in {}: {needed_mib} MiB are needed there, {free_mib} MiB are free",
    "Die Sicherung braucht eine Kopie der Datenbank in {0}: {needed_mib} MiB sind dort nötig, {free_mib} MiB sind "
    + "frei",
    [0],
  ],
  ["the body could not be read: {cause}", "Die Anfrage war nicht lesbar: {cause}"],
  ["the sender paused for too long", "Beim Hochladen gab es eine zu lange Pause"],
  ["the restore was interrupted {MAX_ATTEMPTS} times", "die Wiederherstellung wurde {MAX_ATTEMPTS}-mal unterbrochen"],
  ["the data directory cannot be written to ({error})", "das Datenverzeichnis ist nicht beschreibbar ({error})"],
];

/**
 * The most frequent errors of the operating system (Linux), which the server quotes.
 * @type {Sentence[]}
 */
const ofSystem = [
  ["Connection refused (os error 111)", "Verbindung abgelehnt"],
  ["Connection reset by peer (os error 104)", "von der Gegenseite zurückgesetzt"],
  ["Broken pipe (os error 32)", "von der Gegenseite beendet"],
  ["No route to host (os error 113)", "keine Route zum Ziel"],
  ["Network is unreachable (os error 101)", "das Netzwerk ist nicht erreichbar"],
  ["Host is down (os error 112)", "das Ziel ist nicht erreichbar"],
  ["Connection timed out (os error 110)", "keine Antwort"],
  ["Cannot assign requested address (os error 99)", "die Adresse lässt sich nicht benutzen"],
  ["unexpected end of file", "unerwartetes Ende"],
  ["failed to lookup address information: Name or service not known", "der Name ist nicht bekannt"],
  [
    "failed to lookup address information: Temporary failure in name resolution",
    "der Nameserver ist vorübergehend nicht erreichbar",
  ],
  ["failed to lookup address information: No address associated with hostname", "zu dem Namen gibt es keine Adresse"],
];

export const sentences = [...ofServer, ...ofSystem];
