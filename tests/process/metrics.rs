//! The metrics, checked with Prometheus's own parser.
//!
//! The service returns OpenMetrics, but `promtool check metrics` reads the older text format. The formats
//! differ in three ways that matter here: the older one has no type `info`, it names counters with `_total`
//! in `HELP` and `TYPE` as well, and it treats `# EOF` as a comment. [`to_text_format`] converts these and
//! nothing else.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::helpers::{TIMEOUT, accept, broker_and_subscriber, event, ids, service};

const PROMTOOL: &str = "promtool";

fn to_text_format(text: &str) -> String {
    let names_of_type = |wanted: &str| -> BTreeSet<String> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.filter(|(_, kind)| *kind == wanted).map(|(name, _)| name.to_owned()).collect()
    };
    let (counters, infos) = (names_of_type("counter"), names_of_type("info"));
    let line = |line: &str| {
        let Some((keyword, rest)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) else {
            return format!("{line}\n");
        };
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match name {
            _ if counters.contains(name) => format!("# {keyword} {name}_total {rest}\n"),
            _ if infos.contains(name) && keyword == "TYPE" => format!("# TYPE {name}_info gauge\n"),
            _ if infos.contains(name) => format!("# {keyword} {name}_info {rest}\n"),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
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
    let _ = service.post_event(&event("not/an/id")).await.expect(422);
    service.connect_to(broker.port()).await;
    let _ledger = accept(&service, ids("e", 20)).await;
    service.wait_outbox_empty(TIMEOUT).await;
    let busy = service.get("/metrics").await;
    for response in [fresh, busy] {
        assert_eq!(
            response.header("content-type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        let body = response.expect(200);
        let text = body.as_str().expect("a string");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let (accepted, output) = promtool(&to_text_format(text));
        assert!(accepted && output.is_empty(), "{output}\n{text}");
    }
}

#[tokio::test]
async fn promtool_rejects_invalid_metrics() {
    let service = service().start().await;
    let metrics = service.get("/metrics").await.expect(200);
    let text = to_text_format(metrics.as_str().expect("a string"));
    for (valid, invalid) in
        [("_total 0", "_total zero"), ("# HELP events_late_total", "# HELP nothing_total")]
    {
        assert!(text.contains(valid), "{text}");
        let (accepted, output) = promtool(&text.replace(valid, invalid));
        assert!(!accepted && !output.is_empty(), "{invalid} was accepted");
    }
}

#[tokio::test]
async fn the_metrics_count_accepted_and_published_events() {
    let (broker, _subscriber) = broker_and_subscriber().await;
    let service = service().start().await;
    let _ledger = accept(&service, ids("e", 7)).await;
    let lines = ["outbox_pending_events 7", "mqtt_connection_status 0"];
    assert_contains_lines(&service.get("/metrics").await.expect(200), &lines);
    service.connect_to(broker.port()).await;
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(service.post_event(&event("e-0")).await.expect(202)["duplicate"], true);
    let lines = [
        "events_accepted_total 7",
        "mqtt_messages_published_total 7",
        "mqtt_connection_status 1",
        "outbox_pending_events 0",
        "outbox_in_flight_events 0",
        "outbox_oldest_pending_seconds 0.0",
        "event_delivery_seconds_count 7",
        "events_unheard_total 0",
        "events_late_total 0",
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
