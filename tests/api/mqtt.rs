//! The MQTT integration.

use liveobject_actors::{
    Invalid,
    domain::{
        clock,
        status::{ConnectionState, Failure, FailureKind, LastError, Warning, WarningKind},
        store_fault::StoreFault,
    },
    messages::{
        config::ReplaceError,
        outbox::OutboxStatus,
        supervisor::{ReconnectError, TestMessageError},
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Answer, TestApp};

const CONFIG: &str = "/api/v1/integrations/mqtt/config";
const STATUS: &str = "/api/v1/integrations/mqtt/status";
const TEST: &str = "/api/v1/integrations/mqtt/test";
const TEST_MESSAGE: &str = "/api/v1/integrations/mqtt/test-message";
const RECONNECT: &str = "/api/v1/integrations/mqtt/reconnect";

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_settings_are_returned_without_secrets() {
    let app = TestApp::start();
    let before = app.get(CONFIG).await.expect(200);
    assert_eq!((&before["enabled"], &before["has_password"]), (&json!(false), &json!(false)));
    let sent = json!({"enabled": true, "broker_host": "broker.lan", "username": "u", "password": "hunter2"});
    let answer = app.put(CONFIG, &sent).await;
    assert_eq!(answer.expect(200)["has_password"], true);
    let after = app.get(CONFIG).await;
    assert_eq!(after.expect(200)["broker_host"], "broker.lan");
    for answer in [answer, after] {
        assert!(!answer.text.contains("hunter2"), "{}", answer.text);
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_settings_are_returned_as_documented() {
    let app = TestApp::start();
    let document = app.get("/openapi.json").await.expect(200);
    let schema = &document["components"]["schemas"]["MqttSettings"];
    let returned = app.get(CONFIG).await.expect(200);
    let documented: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(returned.as_object().unwrap().keys().collect::<Vec<_>>(), documented);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn settings_that_have_changed_since_they_were_read_are_not_replaced() {
    let app = TestApp::start();
    let read = app.get(CONFIG).await;
    let (tag, revision) = (read.header("etag").to_owned(), read.expect(200)["revision"].clone());
    assert_eq!(tag, format!("\"{}\"", revision.as_str().unwrap()));
    let put = async |condition: &str, qos: u8| {
        let request = app.request(Method::PUT, CONFIG).header("if-match", condition);
        Answer::send(request.json(&json!({ "qos": qos }))).await
    };
    let replaced = put(&tag, 2).await;
    assert_ne!(replaced.expect(200)["revision"], revision);
    for stale in [tag.as_str(), "\"\"", "\"a\", \"b\"", "*, *", "nonsense", ""] {
        let problem = put(stale, 0).await.problem(412);
        assert!(problem["detail"].as_str().unwrap().contains("have changed"), "{stale}: {problem}");
    }
    let current = app.get(CONFIG).await;
    assert_eq!(current.expect(200)["qos"], 2);
    let tag = current.header("etag");
    put(&format!("W/{tag}"), 0).await.problem(412);
    put(&format!("\"other\" ,{tag}"), 0).await.expect(200);
    put("*", 1).await.expect(200);
    app.put(CONFIG, &json!({"qos": 2})).await.expect(200);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn every_invalid_setting_is_reported() {
    let app = TestApp::start();
    let bad = json!({"qos": 3, "topic_prefix": "a/#", "colour": 1, "password": 7});
    let mut faults = app.put(CONFIG, &bad).await.faults();
    faults.sort_unstable();
    assert_eq!(faults, ["colour", "password", "qos", "topic_prefix"]);
    app.script().replace_error = Some(ReplaceError::Invalid(Invalid::one("password", "is needed again")));
    assert_eq!(app.put(CONFIG, &json!({})).await.faults(), ["password"]);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_failure_to_store_settings_reports_the_remedy_or_when_to_retry() {
    let app = TestApp::start();
    app.script().replace_error =
        Some(ReplaceError::Identity("identity.age is missing; put it back".to_owned()));
    let problem = app.put(CONFIG, &json!({})).await.problem(409);
    assert!(problem["detail"].as_str().unwrap().contains("put it back"), "{problem}");
    app.script().replace_error = Some(ReplaceError::Storage(StoreFault::DiskFull));
    let answer = app.put(CONFIG, &json!({})).await;
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), "5");
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_status_of_a_fresh_service_has_default_values() {
    let app = TestApp::start();
    let status = app.get(STATUS).await.expect(200);
    let expected = json!({
        "connected": false, "state": "disabled", "broker": null, "protocol": null, "last_connected_at": null,
        "messages_published": 0, "publish_errors": 0, "last_error": null, "reconnect_attempt": 0,
        "next_attempt_at": null, "warnings": [],
        "outbox": {
            "pending": 0, "in_flight": 0, "dead": 0, "held": 0, "seconds_left": null,
            "oldest_pending_at": null, "delivered_today": 0,
        },
    });
    assert_eq!(status, expected);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_status_combines_connection_and_outbox() {
    let app = TestApp::start();
    let at = clock::from_micros(1_777_636_800_000_000);
    let warning = |kind| Warning::new(kind, "…");
    {
        let mut script = app.script();
        script.connection.state = ConnectionState::Connected;
        script.connection.broker = Some("broker.lan:1883".to_owned());
        script.connection.protocol = Some("5");
        script.connection.last_connected_at = Some(at);
        let message = "the broker does not accept this password".to_owned();
        script.connection.last_error = Some(LastError { kind: FailureKind::BadCredentials, message, at });
        script.connection.warnings = vec![warning(WarningKind::QosLowered)];
        let warnings = vec![warning(WarningKind::NoSubscribers).with_severity(3)];
        let oldest_pending_at = Some(at);
        script.outbox = OutboxStatus {
            pending: 3,
            in_flight: 2,
            dead: 1,
            held: 1,
            seconds_left: Some(90),
            oldest_pending_at,
            published: 9,
            refused: 4,
            warnings,
            ..OutboxStatus::default()
        };
    }
    let status = app.get(STATUS).await.expect(200);
    assert_eq!((&status["connected"], &status["state"]), (&json!(true), &json!("connected")));
    assert_eq!((&status["messages_published"], &status["publish_errors"]), (&json!(9), &json!(4)));
    assert_eq!(status["last_connected_at"], "2026-05-01T12:00:00Z");
    assert_eq!(status["last_error"]["kind"], "bad_credentials");
    let outbox = json!({
        "pending": 3, "in_flight": 2, "dead": 1, "held": 1, "seconds_left": 90,
        "oldest_pending_at": "2026-05-01T12:00:00Z",
        "delivered_today": 0,
    });
    assert_eq!(status["outbox"], outbox);
    let kinds: Vec<_> =
        status["warnings"].as_array().unwrap().iter().map(|w| w["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["qos_lowered", "no_subscribers"]);
    assert_eq!(
        (&status["warnings"][0]["severity"], &status["warnings"][1]["severity"]),
        (&json!(0), &json!(3))
    );
    // A warning keeps its time while it lasts.
    let again = app.get(STATUS).await.expect(200);
    assert!(status["warnings"][0]["since"].is_string(), "{status}");
    assert_eq!(again["warnings"], status["warnings"]);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_connection_test_uses_the_stored_or_the_given_settings() {
    let app = TestApp::start();
    app.post(TEST, &Value::Null).await.expect(200);
    let report = Answer::send(app.request(Method::POST, TEST)).await.expect(200);
    let stage = json!({"name": "resolve", "ok": true, "duration_ms": 1, "detail": "127.0.0.1"});
    assert_eq!(report, json!({"success": true, "message": "it works", "protocol": "5", "stages": [stage]}));
    let settings = json!({"broker_host": "broker.lan"});
    app.post(TEST, &settings).await.expect(200);
    assert_eq!(app.script().tested, [None, None, Some(settings)]);
    assert_eq!(app.post(TEST, &json!({"qos": 3})).await.faults(), ["qos"]);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_connection_test_streams_its_progress_as_lines_or_events_on_request() {
    let app = TestApp::start();
    let lines = |body: Value| {
        let accept = "application/x-ndjson, application/problem+json";
        Answer::send(app.request(Method::POST, TEST).header("accept", accept).json(&body))
    };
    let answer = lines(json!({"broker_host": "broker.lan"})).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines_received: Vec<Value> =
        answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stage = json!({"name": "resolve", "ok": true, "duration_ms": 1, "detail": "127.0.0.1"});
    let report = json!({"success": true, "message": "it works", "protocol": "5", "stages": [stage]});
    assert_eq!(
        lines_received,
        [json!({"begun": "resolve"}), json!({ "stage": stage }), json!({ "report": report })]
    );
    assert_eq!(lines(json!({"qos": 3})).await.faults(), ["qos"]);

    let events =
        app.request(Method::POST, TEST).header("accept", "text/event-stream, application/problem+json");
    let events = Answer::send(events.json(&json!({"broker_host": "broker.lan"}))).await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    let data: Vec<&str> = events.text.split_terminator("\n\n").collect();
    let lines: Vec<_> = answer.text.lines().map(|line| format!("data: {line}")).collect();
    assert_eq!(data, lines);
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_test_message_reports_whether_it_was_acknowledged() {
    let app = TestApp::start();
    let sent = app.post(TEST_MESSAGE, &Value::Null).await.expect(200);
    assert_eq!(sent, json!({"success": true, "message": "Test message delivered to liveobject/test."}));
    let failure = Failure::new(FailureKind::NotAuthorized, "the broker does not permit it");
    for (error, message) in [
        (TestMessageError::NotConnected, "not connected to a broker"),
        (TestMessageError::Failed(failure), "the broker does not permit it"),
    ] {
        app.script().test_message_error = Some(error);
        let answer = app.post(TEST_MESSAGE, &Value::Null).await.expect(200);
        assert_eq!(answer, json!({"success": false, "message": message}));
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn a_request_to_connect_now_reports_whether_an_attempt_was_begun() {
    let app = TestApp::start();
    let begun = app.post(RECONNECT, &Value::Null).await.expect(200);
    assert_eq!(begun, json!({"success": true, "message": "Connecting to the broker."}));
    for error in [ReconnectError::NotWaiting, ReconnectError::TooSoon] {
        app.script().reconnect_error = Some(error);
        let answer = app.post(RECONNECT, &Value::Null).await.expect(200);
        assert_eq!(answer, json!({"success": false, "message": error.to_string()}));
    }
    app.stop().await;
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn the_search_for_brokers_returns_what_was_found_as_documented() {
    let app = TestApp::start();
    let path = "/api/v1/integrations/mqtt/candidates";
    let found = app.post(path, &json!({})).await.expect(200);
    let [only] = found["candidates"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&only["broker_host"], &only["state"]), (&json!("192.168.1.5"), &json!("login_required")));
    assert_eq!(found["left_out"], 0);
    let document = app.get("/openapi.json").await.expect(200);
    let schema = &document["components"]["schemas"]["BrokerCandidate"];
    let documented: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(only.as_object().unwrap().keys().collect::<Vec<_>>(), documented);
    app.stop().await;
}
