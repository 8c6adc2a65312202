//! A table of misconfigurations. For each, the connection test names the stage, and the connection test,
//! the status and the command `check` report the same kind and cause.

use liveobject_test_support::{
    Authority, CannedServer, CertificateSpec, Listener, Mosquitto, ScriptedBroker, Service, api::MQTT,
    free_port, mqtt5::ConnAck,
};
use serde_json::{Value, json};

use crate::helpers::{TIMEOUT, service, settings, tls, with};

/// A misconfiguration.
struct Row {
    what: &'static str,
    settings: Value,
    /// The stage in which it fails.
    stage: &'static str,
    kind: &'static str,
    /// Words that the error message must contain.
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

/// Tests and applies the configuration of each row. Reports all mismatches at once.
#[expect(clippy::print_stdout, reason = "prints the messages for readers of the test's output")]
async fn check(service: &Service, rows: Vec<Row>) {
    let count = rows.len();
    let mut mismatches = Vec::new();
    for mut row in rows {
        // Secrets stored for another row must not be used for this one.
        let secrets = row.settings.as_object_mut().expect("an object");
        for secret in ["password", "client_key"] {
            secrets.entry(secret).or_insert(Value::Null);
        }
        let report = service.post(&format!("{MQTT}/test"), &row.settings).await.expect(200);
        let _ = service.put_config(&row.settings).await.expect(200);
        let has_failed = |status: &Value| !status["last_error"].is_null();
        let status = service.wait_status(row.what, TIMEOUT, has_failed).await;
        let (error, message) = (&status["last_error"], &report["message"]);
        let stages = report["stages"].as_array().cloned().unwrap_or_default();
        let failed = stages.into_iter().find(|stage| stage["ok"] == false).unwrap_or_default();
        let contains_words = |text: &Value| text.as_str().is_some_and(|text| text.contains(row.words));
        let detail = format!("{}: {}", row.kind, message.as_str().unwrap_or_default());
        let command = service.run(&["check"]).await;
        let printed = command.stdout.lines().find(|line| line.contains("FAILED")).unwrap_or_default();
        let command_reports_it = command.code == 1
            && printed.contains(&format!(" {} ", row.stage))
            && printed.contains(&format!(" {}: ", row.kind))
            && printed.contains(row.words);
        let is_right = command_reports_it
            && report["success"] == false
            && failed["name"] == row.stage
            && failed["detail"] == detail
            && error["kind"] == row.kind
            && contains_words(message)
            && contains_words(&error["message"])
            && status["connected"] == false;
        if !is_right {
            mismatches
                .push(format!("{} ({}, {}): {failed}; {error}; {command:?}", row.what, row.stage, row.kind));
        }
        println!(
            "{:<48} {:<8} {:<15} {}",
            row.what,
            row.stage,
            row.kind,
            message.as_str().unwrap_or_default()
        );
    }
    assert!(mismatches.is_empty(), "{} of {count} rows:\n{}", mismatches.len(), mismatches.join("\n"));
}

fn tls_settings(port: u16, authority: &str) -> Value {
    settings(port, &tls(authority))
}

fn websocket(port: u16) -> Value {
    settings(port, &json!({ "transport": "websocket" }))
}

#[tokio::test]
async fn wrong_addresses_ports_and_logins_are_reported() {
    let broker = Mosquitto::builder().user("camera", "right").start().await;
    let scripted = ScriptedBroker::start().await;
    scripted.set_connack(ConnAck { reason: 0x85, ..ConnAck::default() });
    let ssh = CannedServer::replying("SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await;
    let https = CannedServer::replying(
        "HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port",
    )
    .await;
    let other = CannedServer::replying(vec![0, 1, 2, 3, 4, 5, 6, 7]).await;
    let closing = CannedServer::replying("").await;
    let silent = CannedServer::silent().await;
    let service = service().start().await;
    let plain = |port| settings(port, &json!({}));
    let short_timeout = |settings| with(settings, json!({ "connect_timeout_seconds": 1 }));
    let login = |name: &str, password: &str| json!({ "username": name, "password": password });
    check(
        &service,
        vec![
            row(
                "an unknown host name",
                short_timeout(settings(1883, &json!({ "broker_host": "no-such-host.invalid" }))),
                "resolve",
                "name_not_found",
                "no-such-host.invalid",
            ),
            row("a closed port", plain(free_port()), "connect", "refused", "Is the broker running"),
            row("an HTTP server", plain(service.port()), "login", "protocol", "is an HTTP server"),
            row("an HTTPS server", plain(https.port()), "login", "protocol", "is an HTTPS server"),
            row("an SSH server", plain(ssh.port()), "login", "protocol", "SSH-2.0-OpenSSH_9.2p1 Debian"),
            row(
                "a server of another kind",
                plain(other.port()),
                "login",
                "protocol",
                "did not respond like an MQTT",
            ),
            row("a server that closes", plain(closing.port()), "login", "closed", "without giving a reason"),
            row("a silent server", short_timeout(plain(silent.port())), "login", "timeout", "MQTT login"),
            row(
                "a wrong password",
                settings(broker.port(), &login("camera", "wrong")),
                "login",
                "not_authorized",
                "\"camera\"",
            ),
            row("a missing user name", plain(broker.port()), "login", "not_authorized", "without a user"),
            row("a client id that is refused", plain(scripted.port()), "login", "protocol", "client_id"),
        ],
    )
    .await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one row per fault")]
async fn wrong_tls_settings_are_reported_and_never_fall_back_to_plain_text() {
    let authority = Authority::new("Test authority");
    let stranger = Authority::new("Stranger");
    let here = &["127.0.0.1"];
    let good = authority.issue(&CertificateSpec::server(here));
    let own = CertificateSpec::server(here).self_signed();
    let nameless = CertificateSpec::server(&[]).self_signed();
    let leaf = CertificateSpec::server(&["leaf.lan"]).named("Leaf").self_signed();
    let issued_by_leaf = Authority::pretended("Leaf", &leaf).issue(&CertificateSpec::server(here));
    let listener = |spec: CertificateSpec| Listener::tls(&authority.issue(&spec));
    let broker = Mosquitto::builder()
        .listener(Listener::tls(&good))
        .listener(Listener::tls(&own))
        .listener(listener(CertificateSpec::server(here).valid(-30, -3)))
        .listener(listener(CertificateSpec::server(here).valid(3, 30)))
        .listener(listener(CertificateSpec::server(&["broker.lan", "10.0.0.1"])))
        .listener(listener(CertificateSpec::server(&[])))
        .listener(listener(CertificateSpec::server(here).authority()))
        .listener(listener(CertificateSpec::client("not a server")))
        .listener(Listener::tls(&nameless))
        .listener(Listener::tls(&issued_by_leaf))
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
    let ssh = CannedServer::replying("SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await;
    let other = CannedServer::replying(vec![0x20, 3, 0, 0, 0, 1, 2, 3]).await;
    let silent = CannedServer::silent().await;
    let system = broker.dir().join("system.pem");
    std::fs::write(&system, stranger.pem()).expect("a file");
    let service = service().env("SSL_CERT_FILE", system.display()).start().await;
    let ca = |port| tls_settings(port, authority.pem());
    let system_trust = |port| settings(port, &json!({ "use_tls": true }));
    let with_server_name = |port, name: &str| with(ca(port), json!({ "tls_server_name": name }));
    let short_timeout = with(ca(silent.port()), json!({ "connect_timeout_seconds": 1 }));
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
            row("TLS to a port without TLS", ca(broker.port()), "tls", "tls", "does not seem to support TLS"),
            row(
                "TLS to an HTTP server",
                ca(service.port()),
                "tls",
                "protocol",
                "is an HTTP server without TLS",
            ),
            row("TLS to an SSH server", ca(ssh.port()), "tls", "protocol", "SSH-2.0-OpenSSH_9.2p1"),
            row("a server without TLS", ca(other.port()), "tls", "tls", "responds without TLS"),
            row("TLS to a silent server", short_timeout, "tls", "timeout", "TLS handshake"),
            row("an unknown authority", system_trust(port(0)), "tls", "tls", "which this system does not"),
            row(
                "another authority configured",
                tls_settings(port(0), stranger.pem()),
                "tls",
                "tls",
                "CN=Test authority",
            ),
            row(
                "self-signed",
                system_trust(port(1)),
                "tls",
                "tls",
                "is self-signed and therefore not trusted",
            ),
            row(
                "self-signed, another configured",
                ca(port(1)),
                "tls",
                "tls",
                "not the one in ca_certificate",
            ),
            row("expired", ca(port(2)), "tls", "tls", "expired on 20"),
            row("not yet valid", ca(port(3)), "tls", "tls", "clock"),
            row("another name", ca(port(4)), "tls", "tls", "broker.lan, 10.0.0.1, not for 127.0.0.1"),
            row(
                "another tls_server_name",
                with_server_name(port(0), "wrong.lan"),
                "tls",
                "tls",
                "not for wrong.lan",
            ),
            row("a certificate without names", ca(port(5)), "tls", "tls", "contains no server name"),
            row(
                "tls_server_name and a given certificate without names",
                with(
                    tls_settings(port(8), &nameless.certificate),
                    json!({ "tls_server_name": "broker.lan" }),
                ),
                "tls",
                "tls",
                "contains no server name (subjectAltName), so that tls_server_name (broker.lan)",
            ),
            row(
                "a certificate issued by a given certificate that is no authority",
                tls_settings(port(9), &leaf.certificate),
                "tls",
                "tls",
                "was issued by CN=Leaf, not by an authority in ca_certificate",
            ),
            row(
                "a CA certificate",
                ca(port(6)),
                "tls",
                "tls",
                "the certificate of an authority, not of a server",
            ),
            row("a client certificate", ca(port(7)), "tls", "tls", "is not a server certificate"),
            row("no cipher in common", ca(unusual.listener(0)), "tls", "tls", "no cipher suite in common"),
            row("an old version", ca(old.listener(0)), "tls", "tls", "neither TLS 1.2 nor 1.3"),
        ],
    )
    .await;
    let logins = broker.log().matches("New client connected").count();
    assert_eq!(logins, 0, "nothing fell back to plain text: {}", broker.log());
}

#[tokio::test]
async fn wrong_client_certificates_are_reported() {
    let authority = Authority::new("Test authority");
    let stranger = Authority::new("Stranger");
    let good = authority.issue(&CertificateSpec::server(&["127.0.0.1"]));
    let strict = || Listener::tls(&good).for_clients_of(authority.pem());
    let newer = Mosquitto::builder().listener(strict()).listener(strict().and_websockets()).start().await;
    let older = Mosquitto::builder().openssl("MaxProtocol = TLSv1.2").listener(strict()).start().await;
    let ports = [newer.listener(0), older.listener(0), newer.listener(1)];
    let service = service().start().await;
    let own = |place: usize, identity: liveobject_test_support::Identity| {
        let own = json!({ "client_certificate": identity.certificate, "client_key": identity.key });
        with(tls_settings(ports[place], authority.pem()), own)
    };
    let none = |place: usize| with(tls_settings(ports[place], authority.pem()), json!({}));
    let foreign = || stranger.issue(&CertificateSpec::client("stranger"));
    let expired = || authority.issue(&CertificateSpec::client("camera").valid(-30, -3));
    check(
        &service,
        vec![
            row("no client certificate, TLS 1.3", none(0), "login", "tls", "requires a client certificate"),
            row("no client certificate, TLS 1.2", none(1), "tls", "tls", "requires a client certificate"),
            row(
                "another authority's certificate, TLS 1.3",
                own(0, foreign()),
                "login",
                "tls",
                "does not accept our client certificate",
            ),
            row(
                "another authority's certificate, TLS 1.2",
                own(1, foreign()),
                "tls",
                "tls",
                "does not accept our client certificate",
            ),
            row("an expired certificate, TLS 1.3", own(0, expired()), "login", "tls", "it expired on 20"),
            row("an expired certificate, TLS 1.2", own(1, expired()), "tls", "tls", "it expired on 20"),
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
async fn wrong_websocket_settings_are_reported() {
    let authority = Authority::new("Test authority");
    let good = authority.issue(&CertificateSpec::server(&["127.0.0.1"]));
    let broker = Mosquitto::builder()
        .listener(Listener::websockets())
        .listener(Listener::tls(&good).and_websockets())
        .start()
        .await;
    let http = async |status: &str| {
        CannedServer::replying(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await
    };
    let (missing, closed, away) =
        (http("404 Not Found").await, http("401 Unauthorized").await, http("502 Bad Gateway").await);
    let moved = http("301 Moved Permanently\r\nLocation: https://broker.lan/ws").await;
    let upgrade = http("426 Upgrade Required").await;
    let https =
        CannedServer::replying("HTTP/1.1 400 Bad Request\r\n\r\nplain HTTP request was sent to HTTPS port")
            .await;
    let other = CannedServer::websockets().await;
    let ssh = CannedServer::replying("SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await;
    let service = service().start().await;
    let encrypted = |port| with(tls_settings(port, authority.pem()), json!({ "transport": "websocket" }));
    let path = with(websocket(missing.port()), json!({ "websocket_path": "/elsewhere" }));
    check(
        &service,
        vec![
            row("another path", path, "login", "protocol", "no WebSocket at /elsewhere (404)"),
            row(
                "a web server that requires a login",
                websocket(closed.port()),
                "login",
                "not_authorized",
                "(401 Unauthorized)",
            ),
            row("an unavailable broker", websocket(away.port()), "login", "refused", "502"),
            row("a redirect", websocket(moved.port()), "login", "protocol", "https://broker.lan/ws"),
            row(
                "a web server that requires an upgrade",
                websocket(upgrade.port()),
                "login",
                "protocol",
                "426",
            ),
            row("this service itself", websocket(service.port()), "login", "protocol", "404"),
            row("another subprotocol", websocket(other.port()), "login", "protocol", "not for MQTT"),
            row("MQTT over TCP", websocket(broker.port()), "login", "protocol", "set transport to \"tcp\""),
            row("an SSH server", websocket(ssh.port()), "login", "protocol", "SSH-2.0-OpenSSH_9.2p1"),
            row("a port with TLS", websocket(broker.listener(1)), "login", "tls", "Set use_tls to true"),
            row("a port that asks for HTTPS", websocket(https.port()), "login", "tls", "Set use_tls to true"),
            row(
                "TLS to a port without TLS",
                encrypted(broker.listener(0)),
                "tls",
                "tls",
                "Set use_tls to false",
            ),
            row(
                "MQTT over TCP to a WebSocket port",
                settings(broker.listener(0), &json!({})),
                "login",
                "protocol",
                "set transport to \"websocket\"",
            ),
            row(
                "MQTT over TLS to a WebSocket port",
                tls_settings(broker.listener(1), authority.pem()),
                "login",
                "protocol",
                "set transport to \"websocket\"",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn check_prints_nothing_from_a_certificate_that_a_terminal_interprets() {
    let evil = CertificateSpec::server(&["other.lan"])
        .named("\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31mEvil")
        .self_signed();
    let broker = Mosquitto::builder().listener(Listener::tls(&evil)).start().await;
    let service = service().start().await;
    for settings in [
        tls_settings(broker.listener(0), &evil.certificate),
        settings(broker.listener(0), &json!({ "use_tls": true, "tls_insecure": true })),
    ] {
        let _ = service.put_config(&settings).await.expect(200);
        let command = service.run(&["check"]).await;
        let output = format!("{}{}", command.stdout, command.stderr);
        assert!(output.contains("Evil"), "{output:?}");
        assert!(output.chars().all(|c| c == '\n' || !c.is_control()), "{output:?}");
    }
}
