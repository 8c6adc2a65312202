//! The app of Home Assistant: its Supervisor provides the broker and the options.

use futures_util::future::join_all;
use liveobject_test_support::{
    Mosquitto, SUPERVISOR_TOKEN, ServiceBuilder, Subscriber, Supervisor, SupervisorReply as Reply, free_port,
    wait_until,
};
use serde_json::{Value, json};

use crate::helpers::{
    LONG_TIMEOUT, PASSWORD, TIMEOUT, broker_with_login, contains_bytes, event, run, service, stop, text,
};

const KIND: &str = "broker_not_provided";

/// Returns a service that asks the Supervisor on this port for its broker.
fn app(port: u16) -> ServiceBuilder {
    service()
        .env("LIVEOBJECT__MQTT__SOURCE", "supervisor")
        .env("LIVEOBJECT__HOME_ASSISTANT__SUPERVISOR_URL", format!("http://127.0.0.1:{port}"))
        .env("SUPERVISOR_TOKEN", SUPERVISOR_TOKEN)
}

/// Returns the warning that the Supervisor does not provide the broker.
fn warning(status: &Value) -> Option<String> {
    let warnings = status["warnings"].as_array().into_iter().flatten();
    warnings.filter(|warning| warning["kind"] == KIND).find_map(|w| w["message"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_user_of_the_app_types_nothing_and_the_password_is_stored_nowhere() {
    let broker = broker_with_login().await;
    let subscriber =
        Subscriber::builder(broker.port()).login("ann", PASSWORD).filter("liveobject/#").start().await;
    let port = free_port();
    let supervisor = Supervisor::start(port, Reply::broker(broker.port(), "ann", PASSWORD)).await;
    let mut service = app(port).env("LIVEOBJECT__LOG__FILTER", "trace").start().await;
    service.wait_connected(TIMEOUT).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    subscriber.wait_for_events(1, TIMEOUT).await;
    assert_eq!(supervisor.asked(), 1, "it is asked only once while the connection is up");

    // The page sends all fields that it received.
    let path = "/api/v1/integrations/mqtt/config";
    let mut settings = service.get(path).await.expect(200);
    assert_eq!((&settings["username"], &settings["has_password"]), (&json!("ann"), &json!(true)));
    assert!(settings["provided"].as_array().is_some_and(|names| names.contains(&json!("broker_host"))));
    settings["qos"] = 2.into();
    let _ = service.put_config(&settings).await.expect(200);
    settings["broker_port"] = 1.into();
    let problem = service.put_config(&settings).await.expect(409);
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("broker_port") && detail.contains("mqtt_source"), "{detail}");
    service.wait_connected(TIMEOUT).await;
    let checked = run(&service, &["check"], 0).await;
    assert!(checked.contains("no warnings"), "{checked}");

    let dir = tempfile::tempdir().expect("a directory");
    let backup = dir.path().join("backup");
    run(&service, &["backup", text(&backup)], 0).await;
    stop(&mut service).await;
    let warnings: Vec<_> = service.log_lines().into_iter().filter(|line| line["level"] == "WARN").collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    for secret in [PASSWORD, SUPERVISOR_TOKEN] {
        for place in [service.data_dir(), &backup] {
            assert!(!contains_bytes(place, secret.as_bytes()), "{}", place.display());
        }
        assert!(!service.log_text().contains(secret) && !checked.contains(secret));
    }
}

#[tokio::test]
async fn the_supervisor_is_asked_again_when_the_broker_refuses_the_login() {
    let mut broker = broker_with_login().await;
    let port = free_port();
    let supervisor = Supervisor::start(port, Reply::broker(broker.port(), "ann", PASSWORD)).await;
    let service = app(port).start().await;
    service.wait_connected(TIMEOUT).await;
    broker.stop().await;
    broker.set_password("ann", "changed");
    supervisor.set_reply(Reply::broker(broker.port(), "ann", "changed"));
    broker.resume().await;
    let _ = service.post_event(&event("a")).await.expect(202);
    service.wait_until_delivered("a", LONG_TIMEOUT).await;
    service.wait_connected(TIMEOUT).await;
    assert_eq!(warning(&service.status().await), None);
}

#[tokio::test]
async fn a_supervisor_that_comes_later_does_not_keep_the_service_from_accepting_events() {
    let broker = Mosquitto::start().await;
    let port = free_port();
    let service = app(port).start().await;
    let _ = service.post_event(&event("a")).await.expect(202);
    let status = service.wait_status("a warning", TIMEOUT, |status| warning(status).is_some()).await;
    assert_eq!((&status["state"], &status["last_error"]["kind"]), (&json!("waiting"), &json!(KIND)));
    let message = warning(&status).unwrap_or_default();
    assert!(message.contains("cannot be reached") && message.contains("restart Home Assistant"), "{message}");
    let checked = run(&service, &["check"], 1).await;
    assert!(checked.contains("cannot be reached"), "{checked}");

    let _supervisor = Supervisor::start(port, Reply::broker(broker.port(), "", "")).await;
    service.wait_until_delivered("a", TIMEOUT).await;
    assert_eq!(warning(&service.status().await), None);
}

#[tokio::test]
async fn without_an_mqtt_service_the_settings_are_used_until_there_is_one() {
    let (typed, provided) = (Mosquitto::start().await, Mosquitto::start().await);
    let port = free_port();
    let supervisor = Supervisor::start(port, Reply::NoService).await;
    let mut service = app(port).start().await;
    let named = |status: &Value| warning(status).is_some_and(|text| text.contains("Mosquitto broker"));
    service.wait_status("a warning that explains what to do", TIMEOUT, named).await;
    service.connect_to(typed.port()).await;
    service.wait_connected(TIMEOUT).await;
    assert_eq!(warning(&service.status().await), None);
    // The broker that was typed is stored, and used again.
    service.restart().await;
    service.wait_connected(TIMEOUT).await;

    supervisor.set_reply(Reply::broker(provided.port(), "", ""));
    let to_provided = |status: &Value| {
        status["connected"] == true && status["broker"] == format!("127.0.0.1:{}", provided.port())
    };
    service.wait_status("the provided broker", LONG_TIMEOUT, to_provided).await;
}

#[tokio::test]
async fn bad_answers_of_the_supervisor_are_reported_and_a_good_one_ends_them() {
    let nonsense = Reply::Bytes(b"HTTP/1.1 200 OK\r\n\r\n<html>".to_vec());
    let cases = [
        (Reply::Endless, "more than 65536 bytes"),
        (nonsense, "cannot be read"),
        (Reply::Silence, "has not answered within 5 s"),
    ];
    let broker = Mosquitto::start().await;
    join_all(cases.map(async |(bad, part)| {
        let port = free_port();
        let supervisor = Supervisor::start(port, bad).await;
        let service = app(port).start().await;
        let reported = |status: &Value| warning(status).is_some_and(|text| text.contains(part));
        service.wait_status(part, TIMEOUT, reported).await;
        supervisor.set_reply(Reply::broker(broker.port(), "", ""));
        service.wait_connected(TIMEOUT).await;
        wait_until("no warning", TIMEOUT, async || warning(&service.status().await).is_none()).await;
    }))
    .await;
}
