//! A table of wrong set-ups: for each the trial names the stage, and trial, status and the command `check` name the same kind
//! and cause.

use liveobject_test_support::{
    Authority, Canned, Listener, Mosquitto, Order, ScriptedBroker, Service, api::MQTT, free_port,
    mqtt5::ConnAck,
};
use serde_json::{Value, json};

use crate::helpers::{SOON, service, settings};

/// A way in which a set-up is wrong.
struct Row {
    what: &'static str,
    settings: Value,
    /// In which stage it shows.
    stage: &'static str,
    kind: &'static str,
    /// What the administrator must be told.
    words: &'static str,
}

fn row(
    what: &'static str,
    settings: Value,
    stage: &'static str,
    kind: &'static str,
    words: &'static str,
) -> Row {
    Row { what, settings, stage, kind, words }
}

/// Tries each row, and puts it in force; what is wrong with the table is told all at once.
#[expect(clippy::print_stdout, reason = "the messages, for those who read the test's output")]
async fn check(service: &Service, rows: Vec<Row>) {
    let count = rows.len();
    let mut wrong = Vec::new();
    for mut row in rows {
        // What was stored for another row stays with that one.
        let secrets = row.settings.as_object_mut().expect("an object");
        for secret in ["password", "client_key"] {
            secrets.entry(secret).or_insert(Value::Null);
        }
        let report = service.post(&format!("{MQTT}/test"), &row.settings).await.expect(200);
        let _ = service.put_config(&row.settings).await.expect(200);
        let failed = |status: &Value| !status["last_error"].is_null();
        let status = service.wait_status(row.what, SOON, failed).await;
        let (error, message) = (&status["last_error"], &report["message"]);
        let last = report["stages"].as_array().and_then(|stages| stages.last()).cloned().unwrap_or_default();
        let says = |text: &Value| text.as_str().is_some_and(|text| text.contains(row.words));
        let detail = format!("{}: {}", row.kind, message.as_str().unwrap_or_default());
        let command = service.run(&["check"]).await;
        let printed = command.stdout.lines().find(|line| line.contains("FAILED")).unwrap_or_default();
        let is_told = command.code == 1
            && printed.contains(&format!(" {} ", row.stage))
            && printed.contains(&format!(" {}: ", row.kind))
            && printed.contains(row.words);
        let is_right = is_told
            && report["success"] == false
            && (&last["name"], &last["ok"]) == (&row.stage.into(), &false.into())
            && last["detail"] == detail
            && error["kind"] == row.kind
            && says(message)
            && says(&error["message"])
            && status["connected"] == false;
        if !is_right {
            wrong.push(format!("{} ({}, {}): {last}; {error}; {command:?}", row.what, row.stage, row.kind));
        }
        println!(
            "{:<48} {:<8} {:<15} {}",
            row.what,
            row.stage,
            row.kind,
            message.as_str().unwrap_or_default()
        );
    }
    assert!(wrong.is_empty(), "{} of {count} rows:\n{}", wrong.len(), wrong.join("\n"));
}

fn tls(port: u16, ca: &str) -> Value {
    settings(port, &json!({ "use_tls": true, "ca_certificate": ca }))
}

fn with(mut settings: Value, other: Value) -> Value {
    let Value::Object(other) = other else { panic!("{other} is no object") };
    settings.as_object_mut().expect("an object").extend(other);
    settings
}

fn websocket(port: u16) -> Value {
    settings(port, &json!({ "transport": "websocket" }))
}

#[tokio::test]
async fn wrong_addresses_ports_and_logins_are_named() {
    let broker = Mosquitto::builder().user("camera", "right").start().await;
    let scripted = ScriptedBroker::start().await;
    scripted.set_connack(ConnAck { reason: 0x85, ..ConnAck::default() });
    let ssh = Canned::saying("SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await;
    let https =
        Canned::saying("HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port").await;
    let other = Canned::saying(vec![0, 1, 2, 3, 4, 5, 6, 7]).await;
    let closing = Canned::saying("").await;
    let silent = Canned::silent().await;
    let service = service().start().await;
    let plain = |port| settings(port, &json!({}));
    let impatient = |settings| with(settings, json!({ "connect_timeout_seconds": 1 }));
    let login = |name: &str, password: &str| json!({ "username": name, "password": password });
    check(
        &service,
        vec![
            row(
                "a name without an address",
                impatient(settings(1883, &json!({ "broker_host": "no-such-host.invalid" }))),
                "resolve",
                "name_not_found",
                "no-such-host.invalid",
            ),
            row("nobody listens", plain(free_port()), "connect", "refused", "Is the broker running"),
            row("an HTTP server", plain(service.port()), "login", "protocol", "is an HTTP server"),
            row("an HTTPS server", plain(https.port()), "login", "protocol", "is an HTTPS server"),
            row("an SSH server", plain(ssh.port()), "login", "protocol", "SSH-2.0-OpenSSH_9.2p1 Debian"),
            row(
                "a server of another kind",
                plain(other.port()),
                "login",
                "protocol",
                "did not respond as an MQTT",
            ),
            row("a server that closes", plain(closing.port()), "login", "closed", "without giving a reason"),
            row(
                "a server that says nothing",
                impatient(plain(silent.port())),
                "login",
                "timeout",
                "MQTT login",
            ),
            row(
                "a wrong password",
                settings(broker.port(), &login("camera", "wrong")),
                "login",
                "not_authorized",
                "\"camera\"",
            ),
            row(
                "no user where one is needed",
                plain(broker.port()),
                "login",
                "not_authorized",
                "without a user",
            ),
            row("a client id that is not liked", plain(scripted.port()), "login", "protocol", "client_id"),
        ],
    )
    .await;
}

#[tokio::test]
async fn wrong_tls_is_named_and_never_falls_back_to_plain_text() {
    let authority = Authority::new("Test authority");
    let stranger = Authority::new("Stranger");
    let here = &["127.0.0.1"];
    let good = authority.issue(&Order::server(here));
    let own = Order::server(here).self_signed();
    let listener = |order: Order| Listener::tls(&authority.issue(&order));
    let broker = Mosquitto::builder()
        .listener(Listener::tls(&good))
        .listener(Listener::tls(&own))
        .listener(listener(Order::server(here).valid(-30, -3)))
        .listener(listener(Order::server(here).valid(3, 30)))
        .listener(listener(Order::server(&["broker.lan", "10.0.0.1"])))
        .listener(listener(Order::server(&[])))
        .listener(listener(Order::server(here).authority()))
        .listener(listener(Order::client("not a server")))
        .start()
        .await;
    let openssl = |lines: &str| Mosquitto::builder().openssl(lines);
    let unusual = openssl("MaxProtocol = TLSv1.2")
        .listener(Listener::tls(&good).line("ciphers AES256-SHA"))
        .start()
        .await;
    let old = openssl("MinProtocol = TLSv1\nMaxProtocol = TLSv1.1\nCipherString = DEFAULT@SECLEVEL=0")
        .listener(Listener::tls(&good).line("tls_version tlsv1.1"))
        .start()
        .await;
    let port = |place: usize| broker.listener(place);
    let ssh = Canned::saying("SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await;
    let other = Canned::saying(vec![0x20, 3, 0, 0, 0, 1, 2, 3]).await;
    let silent = Canned::silent().await;
    let system = broker.dir().join("system.pem");
    std::fs::write(&system, stranger.pem()).expect("a file");
    let service = service().env("SSL_CERT_FILE", system.display()).start().await;
    let ca = |port| tls(port, authority.pem());
    let systems = |port| settings(port, &json!({ "use_tls": true }));
    let named = |port, name: &str| with(ca(port), json!({ "tls_server_name": name }));
    let impatient = with(ca(silent.port()), json!({ "connect_timeout_seconds": 1 }));
    check(
        &service,
        vec![
            row(
                "plain text to a port with TLS",
                settings(port(0), &json!({})),
                "login",
                "tls",
                "Set use_tls to true",
            ),
            row("TLS to a port without", ca(broker.port()), "tls", "tls", "does not seem to support TLS"),
            row(
                "TLS to an HTTP server",
                ca(service.port()),
                "tls",
                "protocol",
                "is an HTTP server without TLS",
            ),
            row("TLS to an SSH server", ca(ssh.port()), "tls", "protocol", "SSH-2.0-OpenSSH_9.2p1"),
            row("TLS to one that answers without", ca(other.port()), "tls", "tls", "responds without TLS"),
            row("TLS to one that says nothing", impatient, "tls", "timeout", "TLS handshake"),
            row(
                "an authority that the system does not know",
                systems(port(0)),
                "tls",
                "tls",
                "which this system does not",
            ),
            row(
                "another authority than the given one",
                tls(port(0), stranger.pem()),
                "tls",
                "tls",
                "CN=Test authority",
            ),
            row("self-signed", systems(port(1)), "tls", "tls", "is self-signed and therefore not trusted"),
            row("self-signed, another one given", ca(port(1)), "tls", "tls", "not the one in ca_certificate"),
            row("expired", ca(port(2)), "tls", "tls", "expired on 20"),
            row("not yet valid", ca(port(3)), "tls", "tls", "clock"),
            row("another name", ca(port(4)), "tls", "tls", "broker.lan, 10.0.0.1, not for 127.0.0.1"),
            row("another tls_server_name", named(port(0), "wrong.lan"), "tls", "tls", "not for wrong.lan"),
            row("no name", ca(port(5)), "tls", "tls", "contains no server name"),
            row(
                "an authority's own certificate",
                ca(port(6)),
                "tls",
                "tls",
                "the certificate of an authority, not of a server",
            ),
            row("a client's certificate", ca(port(7)), "tls", "tls", "is not a server certificate"),
            row("no cipher in common", ca(unusual.listener(0)), "tls", "tls", "no cipher suite in common"),
            row("an old version", ca(old.listener(0)), "tls", "tls", "neither TLS 1.2 nor 1.3"),
        ],
    )
    .await;
    let logins = broker.log().matches("New client connected").count();
    assert_eq!(logins, 0, "nothing fell back to plain text: {}", broker.log());
}

#[tokio::test]
async fn wrong_client_certificates_are_named() {
    let authority = Authority::new("Test authority");
    let stranger = Authority::new("Stranger");
    let good = authority.issue(&Order::server(&["127.0.0.1"]));
    let strict = || Listener::tls(&good).for_clients_of(authority.pem());
    let newer = Mosquitto::builder().listener(strict()).listener(strict().and_websockets()).start().await;
    let older = Mosquitto::builder().openssl("MaxProtocol = TLSv1.2").listener(strict()).start().await;
    let ports = [newer.listener(0), older.listener(0), newer.listener(1)];
    let service = service().start().await;
    let own = |place: usize, identity: liveobject_test_support::Identity| {
        let own = json!({ "client_certificate": identity.certificate, "client_key": identity.key });
        with(tls(ports[place], authority.pem()), own)
    };
    let none = |place: usize| with(tls(ports[place], authority.pem()), json!({}));
    let strange = || stranger.issue(&Order::client("stranger"));
    let expired = || authority.issue(&Order::client("camera").valid(-30, -3));
    check(
        &service,
        vec![
            row("no client certificate, TLS 1.3", none(0), "login", "tls", "requires a client certificate"),
            row("no client certificate, TLS 1.2", none(1), "tls", "tls", "requires a client certificate"),
            row(
                "another authority's, TLS 1.3",
                own(0, strange()),
                "login",
                "tls",
                "does not accept our client certificate",
            ),
            row(
                "another authority's, TLS 1.2",
                own(1, strange()),
                "tls",
                "tls",
                "does not accept our client certificate",
            ),
            row("an expired one, TLS 1.3", own(0, expired()), "login", "tls", "it expired on 20"),
            row("an expired one, TLS 1.2", own(1, expired()), "tls", "tls", "it expired on 20"),
            row(
                "no client certificate, WebSocket",
                with(none(2), json!({ "transport": "websocket" })),
                "login",
                "tls",
                "requires a client certificate",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn wrong_web_sockets_are_named() {
    let authority = Authority::new("Test authority");
    let good = authority.issue(&Order::server(&["127.0.0.1"]));
    let broker = Mosquitto::builder()
        .listener(Listener::websockets())
        .listener(Listener::tls(&good).and_websockets())
        .start()
        .await;
    let http =
        async |status: &str| Canned::saying(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
    let (missing, closed, away) =
        (http("404 Not Found").await, http("401 Unauthorized").await, http("502 Bad Gateway").await);
    let moved = http("301 Moved Permanently\r\nLocation: https://broker.lan/ws").await;
    let upgrade = http("426 Upgrade Required").await;
    let https =
        Canned::saying("HTTP/1.1 400 Bad Request\r\n\r\nplain HTTP request was sent to HTTPS port").await;
    let other = Canned::web_sockets().await;
    let ssh = Canned::saying("SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await;
    let service = service().start().await;
    let encrypted = |port| with(tls(port, authority.pem()), json!({ "transport": "websocket" }));
    let path = with(websocket(missing.port()), json!({ "websocket_path": "/elsewhere" }));
    check(
        &service,
        vec![
            row("another path", path, "login", "protocol", "no WebSocket at /elsewhere (404)"),
            row(
                "a login of the web server's",
                websocket(closed.port()),
                "login",
                "not_authorized",
                "(401 Unauthorized)",
            ),
            row("a broker that is away", websocket(away.port()), "login", "refused", "502"),
            row("a redirection", websocket(moved.port()), "login", "protocol", "https://broker.lan/ws"),
            row("a web server that does not", websocket(upgrade.port()), "login", "protocol", "426"),
            row("this service itself", websocket(service.port()), "login", "protocol", "404"),
            row("another subprotocol", websocket(other.port()), "login", "protocol", "not for MQTT"),
            row("MQTT over TCP", websocket(broker.port()), "login", "protocol", "set transport to \"tcp\""),
            row("an SSH server", websocket(ssh.port()), "login", "protocol", "SSH-2.0-OpenSSH_9.2p1"),
            row("a port with TLS", websocket(broker.listener(1)), "login", "tls", "Set use_tls to true"),
            row("a port that asks for HTTPS", websocket(https.port()), "login", "tls", "Set use_tls to true"),
            row("TLS to a port without", encrypted(broker.listener(0)), "tls", "tls", "Set use_tls to false"),
            row(
                "MQTT over TCP to a WebSocket port",
                settings(broker.listener(0), &json!({})),
                "login",
                "protocol",
                "set transport to \"websocket\"",
            ),
            row(
                "MQTT over TLS to a WebSocket port",
                tls(broker.listener(1), authority.pem()),
                "login",
                "protocol",
                "set transport to \"websocket\"",
            ),
        ],
    )
    .await;
}
