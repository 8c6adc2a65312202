//! Replays: events of the log are sent again, to topics on which no automation listens.

use std::time::Duration;

use liveobject_test_support::{
    Answer, Ledger, Mosquitto, Reply, Rule, ScriptedBroker, Service, Subscriber, wait_until,
};
use serde_json::{Value, json};

use crate::helpers::{
    LONG_TIMEOUT, Scene, assert_metrics, connect, connected_service, delivery, disable, event, event_ids,
    event_of, old_event, settings, submit, submit_batch, wait_for_event, warnings, with,
};

const REPLAYS: &str = "/api/v1/replays";
const EVENT: &str = "liveobject/camera/door/event";
const HISTORY: &str = "liveobject/camera/door/history";

/// Requests a replay of everything, with these other fields, and returns its id.
async fn start(service: &Service, other: &Value) -> i64 {
    let body = with(json!({ "from": "2020-01-01T00:00:00Z", "max_per_second": 1000 }), other.clone());
    service.post(REPLAYS, &body).await.expect(202)["id"].as_i64().expect("an id")
}

async fn get(service: &Service, id: i64) -> Value {
    service.get(&format!("{REPLAYS}/{id}")).await.expect(200)
}

async fn cancel(service: &Service, id: i64) -> Answer {
    service.delete(&format!("{REPLAYS}/{id}")).await
}

async fn wait_until_over(service: &Service, id: i64) -> Value {
    let is_over =
        async || !["queued", "running"].contains(&get(service, id).await["state"].as_str().expect("a text"));
    wait_until("the replay is over", LONG_TIMEOUT, is_over).await;
    get(service, id).await
}

/// Returns the ids of the events of replays that arrived on a topic.
fn replayed_on(subscriber: &Subscriber, topic: &str) -> Vec<String> {
    let messages = subscriber.on(topic).into_iter().map(|message| message.json());
    let replayed = messages.filter(|event| event["replay"] == true);
    replayed
        .map(|event| {
            assert_eq!(event["late"], true, "{event}");
            event["event_id"].as_str().expect("an id").to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_replay_of_a_camera_reaches_history_in_order_once_and_changes_no_delivery() {
    let scene = Scene::with(&json!({ "retain_messages": true })).await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "e", 300).await;
    submit(&scene.service, &mut ledger, [event_of("hall", "other")]).await;
    scene.assert_all_arrive(&mut ledger).await;
    scene.service.wait_until_delivered("e-1", LONG_TIMEOUT).await;
    let (before, live) = (delivery(&scene.service, "e-1").await, scene.subscriber.on(EVENT).len());
    let replay =
        wait_until_over(&scene.service, start(&scene.service, &json!({ "camera_id": "door" })).await).await;
    assert_eq!((&replay["state"], &replay["events"]), (&json!("finished"), &json!(300)), "{replay}");
    assert_eq!((&replay["published"], &replay["skipped"]), (&json!(300), &json!(0)), "{replay}");
    wait_until("all have arrived", LONG_TIMEOUT, async || scene.subscriber.on(HISTORY).len() >= 300).await;
    assert_eq!(replayed_on(&scene.subscriber, HISTORY), event_ids("e", 300));
    assert_eq!(scene.subscriber.on(EVENT).len(), live, "nothing on the live topic");
    assert!(scene.subscriber.on("liveobject/camera/hall/history").is_empty());
    assert!(scene.subscriber.on(HISTORY).iter().all(|message| !message.retain));
    assert_eq!(delivery(&scene.service, "e-1").await, before);
    assert_metrics(
        &scene.service,
        &[
            ("liveobject_replayed_events_total", 300.0),
            ("liveobject_events_late_total", 0.0),
            ("mqtt_messages_published_total", 301.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_backlog_and_live_events_go_first() {
    let scene = Scene::start().await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "old", 200).await;
    scene.assert_all_arrive(&mut ledger).await;
    let paced = json!({ "max_events_per_second": 50 });
    disable(&scene.service, scene.broker.port(), &paced).await;
    submit_batch(&scene.service, &mut ledger, "waiting", 150).await;
    let id = start(&scene.service, &json!({ "topic": "again", "max_per_second": 100 })).await;
    assert_eq!(get(&scene.service, id).await["waiting_for"], "connection");
    connect(&scene.service, scene.broker.port(), &paced).await;
    wait_until("it waits for events", LONG_TIMEOUT, async || {
        get(&scene.service, id).await["waiting_for"] == "events"
    })
    .await;
    wait_until("it begins", LONG_TIMEOUT, async || !scene.subscriber.on("again").is_empty()).await;
    let messages = scene.subscriber.messages();
    let first = messages.iter().position(|message| message.topic == "again").expect("it has begun");
    let before = messages[..first].iter().filter(|message| message.topic == EVENT).count();
    assert_eq!(before, 350, "all events were sent before");
    let _ = scene.service.post_event(&event("live")).await.expect(202);
    wait_for_event(&scene.subscriber, "live").await;
    assert_eq!(get(&scene.service, id).await["state"], "running", "the live event did not wait for it");
    assert_eq!(wait_until_over(&scene.service, id).await["published"], 350);
}

#[tokio::test]
async fn a_cancelled_replay_stops() {
    let scene = Scene::start().await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "e", 200).await;
    scene.assert_all_arrive(&mut ledger).await;
    let id = start(&scene.service, &json!({ "max_per_second": 20 })).await;
    wait_until("it begins", LONG_TIMEOUT, async || !scene.subscriber.on(HISTORY).is_empty()).await;
    let cancelled = cancel(&scene.service, id).await.expect(200);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let _ = scene.service.post_event(&event("later")).await.expect(202);
    wait_for_event(&scene.subscriber, "later").await;
    let sent = scene.subscriber.on(HISTORY).len();
    // A replay that runs would send twenty more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.subscriber.on(HISTORY).len(), sent);
    assert!(sent < 200);
}

#[tokio::test]
async fn a_replay_continues_on_another_broker_without_losing_an_event() {
    let scene = Scene::start().await;
    let mut ledger = Ledger::new();
    submit_batch(&scene.service, &mut ledger, "e", 100).await;
    scene.assert_all_arrive(&mut ledger).await;
    let other = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let listener = Subscriber::start(other.port()).await;
    let id = start(&scene.service, &json!({ "max_per_second": 50 })).await;
    wait_until("it begins", LONG_TIMEOUT, async || !scene.subscriber.on(HISTORY).is_empty()).await;
    let _ = scene.service.put_config(&settings(other.port(), &json!({}))).await.expect(200);
    let replay = wait_until_over(&scene.service, id).await;
    assert_eq!((&replay["state"], &replay["published"]), (&json!("finished"), &json!(100)), "{replay}");
    wait_until("the rest arrives", LONG_TIMEOUT, async || {
        replayed_on(&listener, HISTORY).last().is_some_and(|id| id == "e-100")
    })
    .await;
    let (here, there) = (replayed_on(&scene.subscriber, HISTORY), replayed_on(&listener, HISTORY));
    assert!(!there.is_empty() && here.len() < 100);
    let ids = event_ids("e", 100);
    assert_eq!(there, ids[100 - there.len()..], "in order, to the end");
    assert_eq!(here, ids[..here.len()]);
    assert!(here.len() + there.len() >= 100);
}

#[tokio::test]
async fn a_replay_that_the_broker_refuses_fails_and_endangers_no_event() {
    let acl = "topic readwrite #\ntopic deny forbidden\n";
    let broker = Mosquitto::builder().acl(acl).start().await;
    let service = connected_service(broker.port(), &json!({})).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    service.wait_until_delivered("a", LONG_TIMEOUT).await;
    let replay = wait_until_over(&service, start(&service, &json!({ "topic": "forbidden" })).await).await;
    assert_eq!(replay["state"], "failed", "{replay}");
    assert!(replay["reason"].as_str().expect("a text").contains("does not allow publishing"), "{replay}");
    let status = service.status().await;
    assert_eq!(
        (warnings(&status), &status["outbox"]["dead"]),
        (vec!["no_subscribers"], &json!(0)),
        "{status}"
    );
    let _ = service.post_event(&event("b")).await.expect(202);
    service.wait_until_delivered("b", LONG_TIMEOUT).await;
}

#[tokio::test]
async fn a_replay_over_which_the_broker_closes_fails_and_no_late_event_is_left_out() {
    let broker = ScriptedBroker::start().await;
    broker.rule(Rule::payload("\"replay\":true", Reply::Close));
    let service = connected_service(broker.port(), &json!({})).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    service.wait_until_delivered("a", LONG_TIMEOUT).await;
    let replay = wait_until_over(&service, start(&service, &json!({})).await).await;
    assert_eq!((&replay["state"], &replay["published"]), (&json!("failed"), &json!(0)), "{replay}");
    assert!(replay["reason"].as_str().expect("a text").contains("ended 3 times"), "{replay}");
    let sent = broker.received().iter().filter(|received| received.publish.topic == HISTORY).count();
    assert_eq!(sent, 3);
    // On the same topic.
    let _ = service.post_event(&old_event("late", 3600)).await.expect(202);
    service.wait_until_delivered("late", LONG_TIMEOUT).await;
    assert_eq!(delivery(&service, "late").await["late"], true);
    let _ = service.post_event(&event("b")).await.expect(202);
    service.wait_until_delivered("b", LONG_TIMEOUT).await;
    assert!(!warnings(&service.status().await).contains(&"messages_left_out"));
}
