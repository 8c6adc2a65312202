//! Replays survive the end of the process, and the command `replay` follows them.

use liveobject_test_support::{Service, Subscriber, wait_until};
use serde_json::{Value, json};

use crate::helpers::{BATCH, LONG_TIMEOUT, broker_and_subscriber, event, service};

const HISTORY: &str = "liveobject/camera/door/history";
const EVENTS: usize = 400;
const RATE: usize = 100;

/// The maximum number of messages that are repeated after a crash: those of a second and those in flight.
const MAX_REPEATED: usize = RATE + 16;

async fn submit(service: &Service, count: usize) {
    let of_door = |number| {
        let mut event = event(&format!("e-{number}"));
        event["camera_id"] = "door".into();
        event
    };
    let events: Vec<Value> = (1..=count).map(of_door).collect();
    let _ = service.post(BATCH, &Value::from(events)).await.expect(202);
    service.wait_outbox_empty(LONG_TIMEOUT).await;
}

/// Returns the numbers of the replayed events, in the order of their arrival.
fn replayed(subscriber: &Subscriber) -> Vec<usize> {
    let messages = subscriber.on(HISTORY).into_iter().map(|message| message.json());
    let id = |event: Value| event["event_id"].as_str()?.strip_prefix("e-")?.parse().ok();
    messages.filter(|event| event["replay"] == true).filter_map(id).collect()
}

#[tokio::test]
async fn a_replay_continues_after_kills_and_repeats_only_a_few_messages() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut service = service().start().await;
    service.connect_to(broker.port()).await;
    submit(&service, EVENTS).await;
    let body = json!({ "from": "2020-01-01T00:00:00Z", "max_per_second": RATE });
    let id = service.post("/api/v1/replays", &body).await.expect(202)["id"].clone();
    let mut repeated = 0;
    for step in 1..=3 {
        let reached = EVENTS * step / 4;
        wait_until("the replay proceeds", LONG_TIMEOUT, async || replayed(&subscriber).contains(&reached))
            .await;
        service.kill9().await;
        let before = replayed(&subscriber);
        service.start().await;
        wait_until("the replay continues", LONG_TIMEOUT, async || replayed(&subscriber).len() > before.len())
            .await;
        let next = replayed(&subscriber)[before.len()];
        let last = before.into_iter().max().expect("something was sent");
        assert!(next <= last + 1, "events are missing between {last} and {next}");
        let again = last + 1 - next;
        assert!(again <= MAX_REPEATED, "{again} messages were repeated");
        repeated += again;
    }
    let replay = async || service.get(&format!("/api/v1/replays/{id}")).await.expect(200);
    wait_until("the replay ends", LONG_TIMEOUT, async || replay().await["state"] == "finished").await;
    assert_eq!(replay().await["published"], EVENTS, "repeated ones count once");
    wait_until("the last one arrives", LONG_TIMEOUT, async || replayed(&subscriber).contains(&EVENTS)).await;
    let arrived = replayed(&subscriber);
    assert!((1..=EVENTS).all(|number| arrived.contains(&number)), "events are missing");
    println!("{repeated} messages were repeated after 3 kills");
}

#[tokio::test]
async fn the_command_replays_the_events_of_a_camera_and_prints_the_progress() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let service = service().start().await;
    service.connect_to(broker.port()).await;
    submit(&service, 20).await;
    let arguments = ["replay", "--since", "2h", "--camera", "door", "--max-per-second", "1000"];
    let finished = service.run(&arguments).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    for part in ["Replay 1: 20 events.", "20 of 20 sent (finished)", "DELETE /api/v1/replays/1"] {
        assert!(finished.stdout.contains(part), "{finished:?}");
    }
    wait_until("all arrive", LONG_TIMEOUT, async || replayed(&subscriber).len() >= 20).await;
    assert_eq!(replayed(&subscriber), (1..=20).collect::<Vec<_>>());
    let topic = ["replay", "--since", "2h", "--topic", "liveobject/status"];
    let refused = service.run(&topic).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("topic: the service publishes its own state"), "{refused:?}");
}

#[tokio::test]
async fn the_command_explains_that_the_service_does_not_run() {
    let mut service = service().start().await;
    service.kill9().await;
    let finished = service.run(&["replay", "--since", "2h"]).await;
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains("is it running?"), "{finished:?}");
}
