//! The move to another machine, as `docs/operation.md` describes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liveobject_test_support::{Api, Mosquitto, Subscriber, wait_until};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::helpers::{PASSWORD, PNG, TIMEOUT, accept, ids, login_settings, run, service, stop, text};

/// Longer than the time after which deliveries are recorded.
const RECORDED_AFTER: Duration = Duration::from_millis(500);

/// Returns how often each event arrived.
fn arrivals(subscriber: &Subscriber) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for event in subscriber.events() {
        *times.entry(event["event_id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    times
}

/// Submits events until it is dropped.
async fn send(api: Api, accepted: &std::sync::Mutex<Vec<(String, i64)>>) {
    for number in 0.. {
        let id = format!("load-{number}");
        let event = json!({ "event_id": id, "camera_id": "door", "description": "Person" });
        let receipt = api.submit(&event, TIMEOUT).await;
        accepted.lock().expect("no panic").push((id, receipt["seq"].as_i64().expect("a seq")));
    }
}

#[tokio::test]
async fn a_service_moves_to_another_machine_and_loses_nothing() {
    let broker = Mosquitto::builder().user("ann", PASSWORD).upgrade_outgoing_qos().start().await;
    let subscriber =
        Subscriber::builder(broker.port()).login("ann", PASSWORD).filter("liveobject/#").start().await;
    let mut old = service().env("LIVEOBJECT__HTTP__PUBLIC_URL", "http://old.example").start().await;
    let _ = old.put_config(&login_settings(&broker)).await.expect(200);
    old.wait_connected(TIMEOUT).await;
    let with_picture = json!({
        "event_id": "picture", "camera_id": "door", "description": "Person", "thumbnail": STANDARD.encode(PNG),
    });
    let _ = old.post_event(&with_picture).await.expect(202);
    let _ledger = accept(&old, ids("early", 20)).await;
    old.wait_outbox_empty(TIMEOUT).await;
    sleep(RECORDED_AFTER).await;
    let created =
        old.request(Method::POST, "/api/v1/tokens").json(&json!({ "name": "reader", "scopes": ["read"] }));
    let reader = Api::try_send(created).await.expect("a response").expect(201)["token"].clone();
    let config = old.get("/api/v1/integrations/mqtt/config").await.expect(200);

    // The backup is made while events arrive. The service accepts more after it, until it is stopped.
    let accepted = std::sync::Mutex::new(Vec::new());
    let count = || accepted.lock().expect("no panic").len();
    let dir = TempDir::new().expect("a temporary directory");
    let archive = dir.path().join("a.tar");
    let back_up = async {
        wait_until("events are accepted", TIMEOUT, async || count() > 20).await;
        let _output = run(&old, &["backup", text(&archive)], 0).await;
        let more = count() + 20;
        wait_until("more events are accepted", TIMEOUT, async || count() > more).await;
    };
    tokio::select! {
        () = back_up => {}
        () = send(old.api(), &accepted) => unreachable!("it sends forever"),
    }
    old.wait_outbox_empty(TIMEOUT).await;
    stop(&mut old).await;
    let sent = accepted.into_inner().expect("no panic");
    let before = arrivals(&subscriber);

    let mut new = service()
        .env("LIVEOBJECT__HTTP__PUBLIC_URL", "http://new.example")
        .data_dir(dir.path().join("elsewhere/data"))
        .build();
    let _output = run(&new, &["restore", text(&archive)], 0).await;
    new.start().await;
    new.wait_connected(TIMEOUT).await;
    new.wait_outbox_empty(TIMEOUT).await;
    let moved = new.get("/api/v1/integrations/mqtt/config").await.expect(200);
    for same in ["client_id", "broker_host", "username", "has_password", "topic_prefix"] {
        assert_eq!(moved[same], config[same], "{same}");
    }
    assert_eq!(new.token(), old.token());
    let reader = new.with_token(reader.as_str().expect("a token"));
    assert_eq!(reader.get("/api/v1/events/early-0").await.status, 200);

    // A link to a picture that was sent before works at the new address.
    let events = subscriber.events();
    let link =
        events.iter().find(|it| it["event_id"] == "picture").expect("it arrived")["thumbnail_url"].clone();
    let link = link
        .as_str()
        .expect("a link")
        .strip_prefix("http://old.example")
        .expect("the old address")
        .to_owned();
    let picture = new.api().without_token().request(Method::GET, &link).send().await.expect("a response");
    assert_eq!(picture.status(), 200);
    assert_eq!(picture.bytes().await.expect("a body"), PNG);

    let last = sent.iter().map(|(_, seq)| *seq).max().expect("events were accepted");
    let next = json!({ "event_id": "next", "camera_id": "door", "description": "Person" });
    let next = new.post_event(&next).await.expect(202);
    assert!(next["seq"].as_i64() > Some(last), "{next} follows {last}");
    subscriber
        .wait_for(|all| all.iter().any(|it| it.is_event() && it.json()["event_id"] == "next"), "it", TIMEOUT)
        .await;
    let after = arrivals(&subscriber);
    let missing: Vec<_> = sent.iter().filter(|(id, _)| !after.contains_key(id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Only events that the backup contains as pending are sent again, and each once.
    let repeated: BTreeSet<_> =
        after.iter().filter(|(id, times)| before.get(*id).is_some_and(|earlier| earlier < times)).collect();
    println!("{} of {} events were sent again", repeated.len(), sent.len());
    for (id, times) in repeated {
        assert!(id.starts_with("load-"), "{id} had been delivered long before the backup");
        assert!(*times == 2 && new.get(&format!("/api/v1/events/{id}")).await.status == 200, "{id}: {times}");
    }
    let status = new.status().await;
    assert_eq!(status["warnings"], json!([]), "{status}");
}
