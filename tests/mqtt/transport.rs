//! TLS and WebSockets with real brokers: correct settings work both in the connection test and for events.

use std::collections::BTreeMap;

use liveobject_test_support::{
    Authority, CertificateSpec, Identity, Listener, Mosquitto, Proxy, Service, Subscriber, api::MQTT,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{
    Stream, TIMEOUT, assert_all_arrive, connect, event, logged, metric, service, settings, tls,
    wait_for_event, warnings, with,
};

const RSA_PKCS8: &str = include_str!("testdata/rsa.pkcs8.key");
const RSA_PKCS1: &str = include_str!("testdata/rsa.pkcs1.key");
const EC_PKCS8: &str = include_str!("testdata/ec.pkcs8.key");
const EC_SEC1: &str = include_str!("testdata/ec.sec1.key");

fn authority() -> Authority {
    Authority::new("Test authority")
}

fn server(authority: &Authority) -> Identity {
    authority.issue(&CertificateSpec::server(&["127.0.0.1", "broker.lan"]))
}

/// Tests and applies these settings, and asserts that every stage passes and that an event arrives. Returns
/// the details of the stages.
async fn assert_works(
    service: &Service,
    observer: &Subscriber,
    settings: &Value,
) -> BTreeMap<String, String> {
    let report = service.post(&format!("{MQTT}/test"), settings).await.expect(200);
    assert_eq!(report["success"], true, "{report}");
    let stages = report["stages"].as_array().expect("stages");
    assert!(stages.iter().all(|stage| stage["ok"] == true), "{report}");
    let names: Vec<_> = stages.iter().filter_map(|stage| stage["name"].as_str()).collect();
    let tls: &[_] = if settings["use_tls"] == true { &["tls"] } else { &[] };
    let rest = ["login", "publish", "loopback", "availability", "discovery", "events", "states"];
    let expected = [&["resolve", "connect"], tls, &rest].concat();
    assert_eq!(names, expected);
    let _ = service.put_config(settings).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    let id =
        format!("e-{}", report["stages"][1]["detail"]).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let _ = service.post_event(&event(&id)).await.expect(202);
    wait_for_event(observer, &id).await;
    let command = service.run(&["check"]).await;
    assert!(command.code == 0 && !command.stdout.contains("FAILED"), "{command:?}");
    let text = |stage: &Value, key: &str| stage[key].as_str().expect("a string").to_owned();
    stages.iter().map(|stage| (text(stage, "name"), text(stage, "detail"))).collect()
}

#[tokio::test]
async fn every_valid_way_to_reach_a_broker_passes_the_test_and_delivers_events() {
    let authority = authority();
    let server = server(&authority);
    let intermediate = authority.intermediate("Intermediate").issue(&CertificateSpec::server(&["127.0.0.1"]));
    let host_certificate = authority.issue(&CertificateSpec::server(&["broker.lan"]));
    let pinned = CertificateSpec::server(&["127.0.0.1"]).authority().self_signed();
    let nameless = CertificateSpec::server(&[]).self_signed();
    let broker = Mosquitto::builder()
        .listener(Listener::tls(&server))
        .listener(Listener::websockets())
        .listener(Listener::tls(&server).and_websockets())
        .listener(Listener::tls(&intermediate))
        .listener(Listener::tls(&host_certificate))
        .listener(Listener::tls(&pinned))
        .listener(Listener::tls(&nameless))
        .start()
        .await;
    let observer = Subscriber::start(broker.port()).await;
    let service = service().start().await;
    let ca = tls(authority.pem());
    let websocket = json!({ "transport": "websocket" });
    let to = |place: usize, other: &Value| settings(broker.listener(place), other);

    let found = assert_works(&service, &observer, &to(0, &ca)).await;
    assert!(found["connect"].starts_with("connected to 127.0.0.1:"), "{found:?}");
    let certificate = "certificate of CN=Test broker, issued by CN=Test authority, valid until 20";
    assert!(found["tls"].starts_with(&format!("TLS 1.3; {certificate}")), "{found:?}");
    assert!(found["login"].contains("in flight"), "{found:?}");

    let found = assert_works(&service, &observer, &to(1, &websocket)).await;
    assert!(found["login"].starts_with("WebSocket at /mqtt; MQTT 5"), "{found:?}");
    assert_works(&service, &observer, &to(2, &with(ca.clone(), websocket))).await;
    assert_works(&service, &observer, &to(3, &ca)).await;
    assert_works(&service, &observer, &to(4, &with(ca.clone(), json!({ "tls_server_name": "broker.lan" }))))
        .await;
    let bundle = format!("{}{}", Authority::new("Another").pem(), authority.pem());
    assert_works(&service, &observer, &to(0, &tls(&bundle))).await;
    assert_works(&service, &observer, &to(5, &tls(&pinned.certificate))).await;
    assert_works(&service, &observer, &to(6, &tls(&nameless.certificate))).await;

    let older =
        Mosquitto::builder().openssl("MaxProtocol = TLSv1.2").listener(Listener::tls(&server)).start().await;
    let observer = Subscriber::start(older.port()).await;
    let found = assert_works(&service, &observer, &settings(older.listener(0), &ca)).await;
    assert!(found["tls"].starts_with("TLS 1.2; "), "{found:?}");
    assert_eq!(logged(&service, "WARN"), Vec::<Value>::new());
}

#[tokio::test]
async fn a_client_certificate_works_with_every_key_format() {
    let authority = authority();
    let server = server(&authority);
    let broker = Mosquitto::builder()
        .listener(
            Listener::tls(&server).for_clients_of(authority.pem()).line("use_identity_as_username true"),
        )
        .listener(Listener::tls(&server).for_clients_of(authority.pem()).and_websockets())
        .start()
        .await;
    let observer = Subscriber::start(broker.port()).await;
    let service = service().start().await;
    for (place, pkcs8, key) in [
        (0, EC_PKCS8, EC_PKCS8),
        (0, EC_PKCS8, EC_SEC1),
        (0, RSA_PKCS8, RSA_PKCS8),
        (0, RSA_PKCS8, RSA_PKCS1),
        (1, EC_PKCS8, EC_SEC1),
    ] {
        let client = authority.issue_for(&CertificateSpec::client("camera"), pkcs8);
        let transport = if place == 1 { "websocket" } else { "tcp" };
        let own =
            json!({ "client_certificate": client.certificate, "client_key": key, "transport": transport });
        let settings = settings(broker.listener(place), &with(tls(authority.pem()), own));
        let found = assert_works(&service, &observer, &settings).await;
        assert!(found["tls"].ends_with("presented the client certificate"), "{found:?}");
    }
    let config = service.get(&format!("{MQTT}/config")).await.expect(200);
    assert_eq!((&config["has_client_key"], config.get("client_key")), (&true.into(), None));
    assert!(!service.log_text().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn the_system_authorities_are_trusted_by_default() {
    let authority = authority();
    let broker = Mosquitto::builder().listener(Listener::tls(&server(&authority))).start().await;
    let observer = Subscriber::start(broker.port()).await;
    let file = broker.dir().join("system.pem");
    std::fs::write(&file, authority.pem()).expect("a file");
    let service = service().env("SSL_CERT_FILE", file.display()).start().await;
    assert_works(&service, &observer, &settings(broker.listener(0), &json!({ "use_tls": true }))).await;
}

#[tokio::test]
async fn an_unverified_broker_works_and_logs_a_warning_at_each_connection() {
    let mut broker = Mosquitto::builder()
        .listener(Listener::tls(&CertificateSpec::server(&["other"]).valid(-9, -2).self_signed()))
        .start()
        .await;
    let observer = Subscriber::start(broker.port()).await;
    let service = service().start().await;
    let insecure = settings(broker.listener(0), &json!({ "use_tls": true, "tls_insecure": true }));
    let found = assert_works(&service, &observer, &insecure).await;
    assert!(found["tls"].contains("NOT VERIFIED"), "{found:?}");
    let status = service.status().await;
    assert!(warnings(&status).contains(&"tls_insecure"), "{status}");
    let unverified = || {
        let is_unverified =
            |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("not verified"));
        logged(&service, "WARN").iter().filter(|line| is_unverified(line)).count()
    };
    let before = unverified();
    assert!(before >= 2, "the connection test and the connection itself");
    broker.restart().await;
    let newer =
        |now: &Value| now["connected"] == true && now["last_connected_at"] != status["last_connected_at"];
    let _ = service.wait_status("connected again", TIMEOUT, newer).await;
    assert!(unverified() > before);
}

#[tokio::test]
async fn certificates_that_expire_soon_raise_warnings_and_set_metrics() {
    let authority = authority();
    let (days, names) = (13, &["127.0.0.1"]);
    let expiring = authority.issue(&CertificateSpec::server(names).valid(-1, days));
    let client = authority.issue(&CertificateSpec::client("camera").valid(-1, 2));
    let broker = Mosquitto::builder()
        .listener(Listener::tls(&expiring).for_clients_of(authority.pem()))
        .listener(Listener::tls(&authority.issue(&CertificateSpec::server(names).valid(-1, 15))))
        .start()
        .await;
    let service = service().start().await;
    let own = json!({ "client_certificate": client.certificate, "client_key": client.key });
    connect(&service, broker.listener(0), &with(tls(authority.pem()), own)).await;
    let status = service.status().await;
    let entries: Vec<_> = status["warnings"].as_array().expect("an array").iter().collect();
    assert_eq!(warnings(&status), ["certificate_expires", "certificate_expires"], "{status}");
    let text = |place: usize| entries[place]["message"].as_str().expect("a string");
    assert!(text(0).contains("expires in 13 days"), "{status}");
    assert!(text(1).starts_with("The client certificate expires in 2 days"), "{status}");
    let now = liveobject_actors::domain::clock::now().timestamp();
    for (certificate, days) in [("broker", 13), ("client", 2)] {
        let name =
            format!("liveobject_certificate_expiry_timestamp_seconds{{certificate=\"{certificate}\"}}");
        let end = metric(&service, &name).await;
        #[expect(clippy::cast_possible_truncation, reason = "a time in seconds")]
        let remaining = end as i64 - now;
        assert!((days * 86_400..days * 86_400 + 3_700).contains(&remaining), "{certificate}: {remaining} s");
    }
    let logged = logged(&service, "WARN");
    assert_eq!(logged.iter().filter(|line| line["kind"] == "certificate_expires").count(), 2, "{logged:?}");

    let cleared = with(tls(authority.pem()), json!({ "client_key": null }));
    connect(&service, broker.listener(1), &cleared).await;
    let status = service.status().await;
    assert_eq!(warnings(&status), Vec::<&str>::new(), "{status}");
    let name = "liveobject_certificate_expiry_timestamp_seconds{certificate=\"client\"}";
    assert!(metric(&service, name).await.abs() < f64::EPSILON);
}

#[tokio::test]
async fn restarts_cuts_and_resets_lose_nothing_over_tls_and_websockets() {
    let authority = authority();
    let server = server(&authority);
    let mut broker = Mosquitto::builder()
        .upgrade_outgoing_qos()
        .listener(Listener::tls(&server))
        .listener(Listener::tls(&server).and_websockets())
        .start()
        .await;
    let subscriber = Subscriber::start(broker.port()).await;
    for (place, transport) in [(0, "tcp"), (1, "websocket")] {
        let proxy = Proxy::start(broker.listener(place)).await;
        let service = service().start().await;
        let encrypted =
            with(tls(authority.pem()), json!({ "transport": transport, "topic_prefix": transport }));
        connect(&service, proxy.port(), &encrypted).await;
        let stream = Stream::start(&service);
        for fault in 0..3 {
            stream.wait_for_more(50).await;
            match fault {
                0 => proxy.cut().await,
                1 => proxy.reset().await,
                _ => broker.restart().await,
            }
            let is_disconnected = |status: &Value| status["connected"] == false;
            let status = service.wait_status("the connection is lost", TIMEOUT, is_disconnected).await;
            assert_eq!(status["last_error"]["kind"], "closed", "{status}");
            service.wait_connected(TIMEOUT).await;
        }
        stream.wait_for_more(50).await;
        let mut ledger = stream.stop().await;
        assert_all_arrive(&service, &[&subscriber], &mut ledger).await;
    }
}

#[tokio::test]
async fn stored_secrets_are_used_only_for_the_same_destination() {
    let authority = authority();
    let server = server(&authority);
    let broker =
        Mosquitto::builder().listener(Listener::tls(&server).for_clients_of(authority.pem())).start().await;
    let elsewhere =
        Mosquitto::builder().listener(Listener::tls(&server).for_clients_of(authority.pem())).start().await;
    let service = service().start().await;
    let client = authority.issue(&CertificateSpec::client("camera"));
    let mut own = with(
        settings(broker.listener(0), &tls(authority.pem())),
        json!({
            "client_certificate": client.certificate, "client_key": client.key, "password": "hush-hush",
        }),
    );
    let _ = service.put_config(&own).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    for secret in ["client_key", "password"] {
        own.as_object_mut().expect("an object").remove(secret);
    }
    let _ = service.put_config(&own).await.expect(200);
    let report = service.post(&format!("{MQTT}/test"), &own).await.expect(200);
    assert_eq!(report["success"], true, "{report}");
    for (field, value) in [
        ("broker_port", json!(elsewhere.listener(0))),
        ("tls_insecure", json!(true)),
        ("ca_certificate", json!(Authority::new("Another").pem())),
        ("tls_server_name", json!("broker.lan")),
        ("transport", json!("websocket")),
    ] {
        let mut changed = own.clone();
        changed[field] = value;
        for (method, path) in [(Method::PUT, "config"), (Method::POST, "test")] {
            let request = service.request(method, &format!("{MQTT}/{path}")).json(&changed);
            let refused =
                liveobject_test_support::Api::try_send(request).await.expect("a response").expect(422);
            let faults = refused["errors"].as_array().expect("an array");
            let fields: Vec<_> =
                faults.iter().map(|fault| fault["field"].as_str().expect("a name")).collect();
            assert_eq!(fields, ["password", "client_key"], "{field}: {refused}");
        }
    }
    let by_the_test = format!("on port {}.", elsewhere.port());
    let log = elsewhere.log();
    assert!(
        log.lines().filter(|line| line.contains("New connection")).all(|line| line.contains(&by_the_test)),
        "{log}"
    );
}
