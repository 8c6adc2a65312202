//! The metrics, checked with Prometheus's own parsers of both text formats.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use liveobject_test_support::{Answer, Api, wait_until};
use reqwest::{Method, header::ACCEPT};

use crate::helpers::{TIMEOUT, accept, broker_and_subscriber, event, ids, service};

const PROMTOOL: &str = "promtool";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Requests the metrics as OpenMetrics.
async fn openmetrics(api: &Api) -> Answer {
    let request = api.request(Method::GET, "/metrics").header(ACCEPT, OPENMETRICS);
    Api::try_send(request).await.expect("a response")
}

/// Imports OpenMetrics with promtool. Returns whether it accepted them, and its output.
fn import(metrics: &str) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("metrics");
    // The import needs the time of each sample.
    let mut stamped = String::new();
    for line in metrics.lines() {
        let stamp = if line.starts_with('#') { "" } else { " 1700000000" };
        writeln!(stamped, "{line}{stamp}").expect("a string");
    }
    fs::write(&file, stamped).expect("the directory is writable");
    let output = Command::new(PROMTOOL)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([file, dir.path().join("blocks")])
        .output()
        .expect("promtool can be run");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs `promtool check metrics`. Returns whether it accepted the metrics, and its output.
fn promtool(metrics: &str) -> (bool, String) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .any(|dir| dir.join(PROMTOOL).is_file());
    assert!(installed, "promtool is not installed: this test needs a real parser");
    let mut child = Command::new(PROMTOOL)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be run");
    let mut stdin = child.stdin.take().expect("the input is a pipe");
    stdin.write_all(metrics.as_bytes()).expect("promtool reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool exits");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn promtool_accepts_the_metrics_of_a_new_and_of_a_busy_service() {
    let (broker, _subscriber) = broker_and_subscriber().await;
    let service = service().start().await;
    let fresh = service.get("/metrics").await;
    let fresh_openmetrics = openmetrics(&service).await;
    let _ = service.post_event(&event("not/an/id")).await.expect(422);
    service.connect_to(broker.port()).await;
    let _ledger = accept(&service, ids("e", 20)).await;
    service.wait_outbox_empty(TIMEOUT).await;
    let busy = service.get("/metrics").await;
    for response in [fresh, busy] {
        assert_eq!(response.header("content-type"), PROMETHEUS);
        let body = response.expect(200);
        let (accepted, output) = promtool(body.as_str().expect("a string"));
        assert!(accepted && output.is_empty(), "{output}\n{body}");
    }
    for response in [fresh_openmetrics, openmetrics(&service).await] {
        assert_eq!(response.header("content-type"), OPENMETRICS);
        let body = response.expect(200);
        let text = body.as_str().expect("a string");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let (accepted, output) = import(text);
        assert!(accepted, "{output}\n{text}");
    }
}

#[tokio::test]
async fn promtool_rejects_invalid_metrics() {
    let service = service().start().await;
    let metrics = service.get("/metrics").await.expect(200);
    let text = metrics.as_str().expect("a string");
    for (valid, invalid) in
        [("_total 0", "_total zero"), ("# HELP liveobject_events_late_total", "# HELP nothing_total")]
    {
        assert!(text.contains(valid), "{text}");
        let (accepted, output) = promtool(&text.replace(valid, invalid));
        assert!(!accepted && !output.is_empty(), "{invalid} was accepted");
    }
    let metrics = openmetrics(&service).await.expect(200);
    let text = metrics.as_str().expect("a string");
    for (valid, invalid) in [("_total 0", "_total zero"), ("# EOF\n", "")] {
        assert!(text.contains(valid), "{text}");
        let (accepted, output) = import(&text.replace(valid, invalid));
        assert!(!accepted && !output.is_empty(), "{invalid} was accepted");
    }
}

#[tokio::test]
async fn the_metrics_count_accepted_and_published_events() {
    let (broker, _subscriber) = broker_and_subscriber().await;
    let service = service().start().await;
    let _ledger = accept(&service, ids("e", 7)).await;
    // The gauge changes just after the receipt.
    wait_until("seven events are pending", TIMEOUT, async || {
        let metrics = service.get("/metrics").await.expect(200);
        metrics.as_str().is_some_and(|text| text.contains("\nliveobject_outbox_pending_events 7\n"))
    })
    .await;
    assert_contains_lines(&service.get("/metrics").await.expect(200), &["mqtt_connection_status 0"]);
    service.connect_to(broker.port()).await;
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(service.post_event(&event("e-0")).await.expect(202)["duplicate"], true);
    let lines = [
        "liveobject_events_accepted_total 7",
        "mqtt_messages_published_total 7",
        "mqtt_connection_status 1",
        "liveobject_outbox_pending_events 0",
        "liveobject_outbox_in_flight_events 0",
        "liveobject_outbox_oldest_pending_seconds 0.0",
        "liveobject_event_delivery_seconds_count 7",
        "liveobject_events_unheard_total 0",
        "liveobject_events_late_total 0",
    ];
    assert_contains_lines(&service.get("/metrics").await.expect(200), &lines);
}

#[track_caller]
fn assert_contains_lines(metrics: &serde_json::Value, lines: &[&str]) {
    let text = metrics.as_str().expect("a string");
    for line in lines {
        assert!(text.lines().any(|present| present == *line), "{line} is not in\n{text}");
    }
}
