//! Topics that the broker does not accept. The connection test, the command `check` and the status report the same
//! about the same broker, whether it refuses the messages or closes the connection.

use std::time::Duration;

use liveobject_test_support::{
    Finished, Mosquitto, Reply, Rule, ScriptedBroker, Service, Subscriber, api::MQTT, wait_until,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{LONG_TIMEOUT, TIMEOUT, connect, connected_service, event, service, settings, warnings};

/// Longer than the service waits for its own birth message.
const LONGER_THAN_CONFIRMING: Duration = Duration::from_secs(7);

/// A kind of topic.
#[derive(Clone, Copy, Debug)]
struct Kind {
    stage: &'static str,
    /// The topic, or a filter of the topics.
    family: &'static str,
    /// The rules of Mosquitto's ACL file that forbid the topics and nothing else.
    acl: &'static str,
    /// The rule that the message recommends.
    advice: &'static str,
    is_it: fn(&str) -> bool,
}

const KINDS: [Kind; 4] = [
    Kind {
        stage: "availability",
        family: "liveobject/status",
        acl: "topic deny liveobject/status\ntopic readwrite liveobject/#\ntopic readwrite homeassistant/#",
        advice: "topic readwrite liveobject/status",
        is_it: |topic| topic == "liveobject/status",
    },
    Kind {
        stage: "discovery",
        family: "homeassistant/#",
        acl: "topic readwrite liveobject/#\ntopic read homeassistant/#",
        advice: "topic readwrite homeassistant/#",
        is_it: |topic| topic.starts_with("homeassistant/"),
    },
    Kind {
        stage: "events",
        family: "liveobject/camera/+/event",
        acl: "topic deny liveobject/camera/+/event\ntopic readwrite liveobject/#\ntopic readwrite homeassistant/#",
        advice: "topic write liveobject/camera/#",
        is_it: |topic| topic.starts_with("liveobject/camera/") && topic.ends_with("/event"),
    },
    Kind {
        stage: "states",
        family: "liveobject/camera/+/status",
        acl: "topic deny liveobject/camera/+/status\ntopic readwrite liveobject/#\ntopic readwrite homeassistant/#",
        advice: "topic write liveobject/camera/#",
        is_it: |topic| topic.starts_with("liveobject/camera/") && topic.ends_with("/status"),
    },
];

async fn tested(service: &Service) -> Value {
    service.post(&format!("{MQTT}/test"), &Value::Null).await.expect(200)
}

/// Returns the detail of a stage, after asserting that it is the only one with a result other than passed.
fn only_detail(report: &Value, kind: Kind, ok: Option<bool>) -> String {
    let stages = report["stages"].as_array().expect("stages");
    let others: Vec<_> = stages.iter().filter(|stage| stage["ok"] != true).collect();
    assert_eq!(others.len(), 1, "{kind:?}: {report}");
    assert_eq!(
        (&others[0]["name"], &others[0]["ok"]),
        (&kind.stage.into(), &json!(ok)),
        "{kind:?}: {report}"
    );
    assert_eq!(stages.last().expect("a stage")["name"], "states", "the later stages are tested: {report}");
    others[0]["detail"].as_str().expect("a detail").to_owned()
}

/// Waits for a warning of this kind that contains this text, and returns its message.
async fn warning(service: &Service, kind: &str, text: &str) -> String {
    let find = async || {
        let status = service.status().await;
        let warnings = status["warnings"].as_array().expect("a list").iter();
        let mut of_kind = warnings.filter(|warning| warning["kind"] == kind);
        of_kind.find_map(|warning| {
            let message = warning["message"].as_str().expect("a message");
            message.contains(text).then(|| message.to_owned())
        })
    };
    wait_until(&format!("a warning {kind} about {text}"), LONG_TIMEOUT, async || find().await.is_some())
        .await;
    find().await.expect("it was found")
}

/// Asserts that the command prints the failed stage and the warning of the running service.
fn assert_printed(check: &Finished, stage: &str, detail: &str, warning: &str) {
    let failed: Vec<_> = check.stdout.lines().filter(|line| line.contains("FAILED")).collect();
    assert!(check.code == 1 && failed.len() == 1, "{check:?}");
    assert!(failed[0].contains(&format!(" {stage} ")) && failed[0].ends_with(detail), "{check:?}");
    assert!(check.stdout.lines().any(|line| line.trim() == warning), "{warning}: {check:?}");
    assert!(check.stdout.lines().last().is_some_and(|line| line.starts_with("Failed: ")), "{check:?}");
}

#[tokio::test]
async fn a_refused_topic_is_reported_alike_by_the_test_the_check_and_the_status() {
    for kind in KINDS {
        let broker = Mosquitto::builder().acl(kind.acl).start().await;
        let service = connected_service(broker.port(), &json!({})).await;
        let _ = service.post_event(&event("e1")).await.expect(202);
        let message = warning(&service, "topic_refused", kind.family).await;
        for part in [
            format!("The broker refuses messages on {} (not_authorized).", kind.family),
            format!("\"{}\"", kind.advice),
        ] {
            assert!(message.contains(&part), "{kind:?}: {message}");
        }
        let (shared, _) = message.split_once(" Then save the MQTT settings").expect("how to try again");
        let report = tested(&service).await;
        assert_eq!((&report["success"], &report["message"]), (&false.into(), &shared.into()));
        let detail = only_detail(&report, kind, Some(false));
        assert_eq!(detail, format!("not_authorized: {shared}"), "{kind:?}");
        let check = service.run(&["check"]).await;
        assert_printed(&check, kind.stage, &detail, &format!("topic_refused: {message}"));
    }
}

#[tokio::test]
async fn a_topic_over_which_the_broker_closes_is_reported_alike_by_the_test_the_check_and_the_status() {
    assert_closes_are_reported_alike("5").await;
}

#[tokio::test]
async fn with_mqtt_3_1_1_a_topic_over_which_the_broker_closes_is_reported_alike() {
    assert_closes_are_reported_alike("3.1.1").await;
}

async fn assert_closes_are_reported_alike(protocol: &str) {
    for kind in KINDS {
        let broker = ScriptedBroker::start().await;
        broker.rule(Rule::when(move |publish| (kind.is_it)(&publish.topic), Reply::Close));
        let service = service().start().await;
        let protocol = json!({ "protocol": protocol });
        let _ = service.put_config(&settings(broker.port(), &protocol)).await.expect(200);
        for id in ["e1", "e2"] {
            let _ = service.post_event(&event(id)).await.expect(202);
        }
        let closed = "The broker closed the connection when a message was published on";
        let message = warning(&service, "messages_left_out", closed).await;
        let report = tested(&service).await;
        let stages = report["stages"].as_array().expect("stages");
        let failed: Vec<_> = stages.iter().filter(|stage| stage["ok"] == false).collect();
        // The scripted broker delivers nothing, so with MQTT 3.1.1 the loopback fails as well.
        let of_topics: Vec<_> = failed.into_iter().filter(|stage| stage["name"] != "loopback").collect();
        let [only] = of_topics.as_slice() else { panic!("{kind:?}: {report}") };
        assert_eq!(only["name"], kind.stage, "{report}");
        assert_eq!(stages.last().expect("a stage")["name"], "states", "{report}");
        let detail = only["detail"].as_str().expect("a detail");
        assert!(detail.starts_with(&format!("closed: {closed} {}. ", kind.family)), "{detail}");
        assert!(detail.contains(&format!("\"{}\"", kind.advice)), "{detail}");
        // The status names the topics one by one until three of the family are known.
        let (_, effect_and_cure) = detail.split_once(&format!(" {}. ", kind.family)).expect("the topic");
        assert!(message.contains(effect_and_cure), "{kind:?}:\n{message}\n{detail}");
        let check = service.run(&["check"]).await;
        let printed = |line: &str| check.stdout.lines().any(|printed| printed.ends_with(line));
        assert!(check.code == 1 && printed(detail), "{check:?}");
        assert!(check.stdout.contains("  messages_left_out: The broker closed the connection"), "{check:?}");
    }
}

#[tokio::test]
async fn mosquitto_that_closes_after_a_refusal_is_reported_like_a_refusal() {
    let [availability, ..] = KINDS;
    let broker = Mosquitto::builder().acl(availability.acl).max_queued_messages(0).start().await;
    let service = service().start().await;
    let _ = service.put_config(&settings(broker.port(), &json!({}))).await.expect(200);
    let refuses = "The broker refuses messages on liveobject/status (not_authorized)";
    let message = warning(&service, "messages_left_out", refuses).await;
    let detail = only_detail(&tested(&service).await, availability, Some(false));
    let (_, effect_and_cure) = detail.split_once("(not_authorized). ").expect("the reason");
    assert!(detail.contains(refuses) && message.contains(effect_and_cure), "{message}\n{detail}");
}

#[tokio::test]
async fn with_mqtt_3_1_1_a_topic_that_mosquitto_drops_silently_is_not_reported_as_accepted() {
    for kind in KINDS {
        let broker = Mosquitto::builder().acl(kind.acl).start().await;
        let service = connected_service(broker.port(), &json!({ "protocol": "3.1.1" })).await;
        let report = tested(&service).await;
        assert_eq!(report["success"], true, "{report}");
        assert!(report["message"].as_str().is_some_and(|text| text.contains("as far as this can be known")));
        let detail = only_detail(&report, kind, None);
        for part in
            [format!("on {} cannot be known with MQTT 3.1.1", kind.family), format!("\"{}\"", kind.advice)]
        {
            assert!(detail.contains(&part), "{kind:?}: {detail}");
        }
        let check = service.run(&["check"]).await;
        let unknown: Vec<_> =
            check.stdout.lines().filter(|line| line.trim_start().starts_with('?')).collect();
        assert!(check.code == 0 && unknown.len() == 1 && unknown[0].ends_with(&detail), "{check:?}");
    }
}

#[tokio::test]
async fn with_mqtt_3_1_1_an_availability_that_mosquitto_drops_silently_is_a_warning() {
    let [availability, discovery, ..] = KINDS;
    let broker = Mosquitto::builder().acl(availability.acl).start().await;
    let service = connected_service(broker.port(), &json!({ "protocol": "3.1.1" })).await;
    let message = warning(&service, "topic_unconfirmed", "liveobject/status").await;
    assert_eq!(only_detail(&tested(&service).await, availability, None), message);
    let check = service.run(&["check"]).await;
    let printed = format!("  topic_unconfirmed: {message}");
    assert!(check.stdout.lines().any(|line| line == printed), "{check:?}");
    let accepting = Mosquitto::builder().acl(discovery.acl).start().await;
    connect(&service, accepting.port(), &json!({ "protocol": "3.1.1" })).await;
    let end = Instant::now() + LONGER_THAN_CONFIRMING;
    while Instant::now() < end {
        assert_eq!(warnings(&service.status().await), [""; 0]);
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn with_mqtt_3_1_1_a_topic_that_can_be_read_back_passes() {
    let broker = Mosquitto::start().await;
    let service = connected_service(broker.port(), &json!({ "protocol": "3.1.1" })).await;
    let report = tested(&service).await;
    let stages = report["stages"].as_array().expect("stages");
    assert!(stages.iter().all(|stage| stage["ok"] == true), "{report}");
}

#[tokio::test]
async fn a_topic_that_the_broker_ignores_fails_its_stage_only() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::when(|publish| publish.topic.starts_with("homeassistant/"), Reply::Withhold));
    let service = service().start().await;
    let tested = settings(broker.port(), &json!({ "protocol": "5" }));
    let report = service.post(&format!("{MQTT}/test"), &tested).await.expect(200);
    let stages = report["stages"].as_array().expect("stages");
    let failed: Vec<_> = stages.iter().filter(|stage| stage["ok"] == false).collect();
    assert!(failed.len() == 1 && failed[0]["name"] == "discovery", "{report}");
    let detail = failed[0]["detail"].as_str().expect("a detail");
    assert!(
        detail.starts_with("stalled: The broker does not acknowledge messages on homeassistant/#"),
        "{detail}"
    );
}

#[tokio::test]
async fn the_test_leaves_nothing_behind_and_publishes_no_event_and_no_device() {
    for format in ["device", "component"] {
        let broker = Mosquitto::start().await;
        let subscriber = Subscriber::builder(broker.port()).client_id("during").start().await;
        let service = service().start().await;
        let tested = settings(broker.port(), &json!({ "discovery_format": format, "retain_messages": true }));
        let report = service.post(&format!("{MQTT}/test"), &tested).await.expect(200);
        assert_eq!(report["success"], true, "{report}");
        let last = "liveobject/camera/~test/thumbnail";
        let seen = |messages: &[liveobject_test_support::Message]| {
            messages.iter().any(|message| message.topic == last)
        };
        let messages = subscriber.wait_for(seen, last, TIMEOUT).await;
        for message in &messages {
            let text = message.text();
            let harmless = text.is_empty()
                || text.starts_with("connection test ")
                || text.starts_with("{\"test\":\"connection test ");
            assert!(harmless, "{message:?}");
        }
        let configs: Vec<_> =
            messages.iter().filter(|message| message.topic.starts_with("homeassistant/")).collect();
        assert_eq!(configs.len(), if format == "device" { 1 } else { 4 });
        assert!(configs.iter().all(|config| config.payload.is_empty()), "{configs:?}");
        // A marker shows that everything retained has arrived.
        let _ = service.put_config(&tested).await.expect(200);
        service.wait_connected(TIMEOUT).await;
        let newcomer = Subscriber::builder(broker.port()).client_id("newcomer").start().await;
        let marker = |messages: &[liveobject_test_support::Message]| {
            messages.iter().any(|message| message.topic == "liveobject/status")
        };
        let retained = newcomer.wait_for(marker, "the birth message", TIMEOUT).await;
        let of_test = |message: &&liveobject_test_support::Message| {
            message.topic.contains("~test") || message.topic.contains("connection-test")
        };
        assert_eq!(retained.iter().filter(of_test).count(), 0, "{retained:?}");
    }
}
