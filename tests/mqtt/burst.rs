//! Many cameras and many events at once: states neither flood the broker nor lag behind, and hold up no event.

use std::{collections::HashSet, time::Duration};

use liveobject_test_support::{Message, Mosquitto, Service, Subscriber};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{BATCH, LATER, SOON, connect, connected, event, service, state};

const CAMERAS: usize = 500;
const STATES_OF_ALL: usize = CAMERAS * 5;
const EVENTS: usize = 10_000;
const BATCH_SIZE: usize = 1000;

/// A subscriber to what is said of the cameras; at QoS 0, so that it is told without waiting for its answers.
async fn watcher(port: u16, filters: &[&str]) -> Subscriber {
    let builder = Subscriber::builder(port).client_id("watcher").qos(0);
    filters.iter().fold(builder, |builder, filter| builder.filter(filter)).start().await
}

/// Registers all cameras by an event of each.
async fn register(service: &Service) {
    let event = |i: usize| json!({"event_id": format!("first-{i}"), "camera_id": format!("cam{i}"), "description": "A person"});
    let events: Vec<_> = (0..CAMERAS).map(event).collect();
    let _ = service.post(BATCH, &Value::from(events)).await.expect(202);
}

/// Asserts that within 5 s of the `nth` connection all that stands of the cameras was told, and answers how long it took.
async fn told_all(watcher: &Subscriber, nth: usize) -> Duration {
    let is_told = |messages: &[Message]| {
        let Some(online) = online(messages, nth) else { return false };
        let topics: HashSet<_> = messages.iter().skip(online).map(|message| &message.topic).collect();
        let of = |part: &str| topics.iter().filter(|topic| topic.contains(part)).count();
        of("/camera/cam") >= STATES_OF_ALL && of("/liveobject_cam") >= CAMERAS
    };
    let messages = watcher.wait_for(is_told, "all states and all discovery", LATER).await;
    let online = online(&messages, nth).expect("it was waited for");
    let mut topics = HashSet::new();
    let last = messages.iter().skip(online).filter(|message| topics.insert(&message.topic)).last();
    last.expect("messages").at - messages[online].at
}

/// Where the `nth` connection is told of.
fn online(messages: &[Message], nth: usize) -> Option<usize> {
    let is_online = |message: &Message| message.topic == "liveobject/status" && message.text() == "online";
    messages.iter().enumerate().filter(|(_, message)| is_online(message)).map(|(i, _)| i).nth(nth)
}

#[tokio::test]
async fn five_hundred_cameras_stand_within_seconds_and_hold_up_no_event() {
    let mut broker = Mosquitto::builder().persistence(false).start().await;
    let filters = ["liveobject/status", "liveobject/camera/#", "homeassistant/#"];
    let watcher = watcher(broker.port(), &filters).await;
    let service = service().start().await;
    register(&service).await;
    connect(&service, broker.port(), &json!({})).await;
    service.wait_outbox_empty(LATER).await;
    let first = told_all(&watcher, 0).await;

    broker.restart().await;
    service.wait_connected(SOON).await;
    let posted = Instant::now();
    let _ = service.post_event(&event("meanwhile")).await.expect(202);
    let accepted = posted.elapsed();
    let brings = |message: &Message| message.topic == "liveobject/camera/door/event";
    let seen = watcher.wait_for(|messages| messages.iter().any(brings), "the event", SOON).await;
    let arrived = seen.iter().find(|message| brings(message)).expect("it was waited for");
    let took = arrived.at.duration_since(posted);
    let again = told_all(&watcher, 1).await;

    assert!(
        took < Duration::from_secs(1),
        "the event took {took:?}, {accepted:?} of it until it was accepted"
    );
    assert!(first < Duration::from_secs(5), "the first time it took {first:?}");
    assert!(again < Duration::from_secs(5), "after the restart it took {again:?}");
}

/// Asserts that no more than five messages came in a second. They leave with room to spare; on the way a busy machine may
/// bunch up what left within half a second.
fn assert_paced(messages: &[Message]) {
    const JITTER: Duration = Duration::from_millis(500);
    for (i, first) in messages.iter().enumerate() {
        for (count, last) in (1_u32..).zip(&messages[i..]) {
            let within = last.at - first.at;
            let most = 5.0 * (1.0 + (within + JITTER).as_secs_f64());
            assert!(f64::from(count) <= most, "{count} messages within {within:?}: {messages:#?}");
        }
    }
}

#[tokio::test]
async fn a_burst_of_one_camera_neither_floods_the_broker_nor_lags_behind() {
    let broker = Mosquitto::start().await;
    let names = ["status", "activity", "counts", "last_event", "description", "thumbnail"];
    let topics = names.map(|name| state("door", name));
    let watcher = watcher(broker.port(), &topics.each_ref().map(String::as_str)).await;
    let service = connected(broker.port(), &json!({})).await;
    let mut answered = Instant::now();
    let started = answered;
    for batch in 0..EVENTS / BATCH_SIZE {
        let events: Vec<_> = (0..BATCH_SIZE).map(|i| event(&format!("burst-{batch}-{i}"))).collect();
        let _ = service.post(BATCH, &Value::from(events)).await.expect(202);
        answered = Instant::now();
    }
    let counts = state("door", "counts");
    let counted = |message: &Message| message.topic == counts && message.json()["events_today"] == EVENTS;
    let all = |messages: &[Message]| messages.iter().any(counted);
    watcher.wait_for(all, "all events counted", SOON).await;
    // What would come too late or too often comes now.
    sleep(Duration::from_secs(2)).await;
    let messages = watcher.messages();

    let last = messages.iter().find(|message| counted(message)).expect("it was waited for");
    let lag = last.at.saturating_duration_since(answered);
    assert!(lag < Duration::from_secs(2), "the last count came {lag:?} after the last answer");
    let times = messages.iter().filter(|message| message.topic == counts).map(|message| message.at);
    let times: Vec<_> = [started].into_iter().chain(times).take_while(|at| *at <= last.at).collect();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("two times");
    assert!(gap < Duration::from_secs(2), "for {gap:?} nothing was counted");
    assert_paced(&messages);
    let is_last = |name: &str, field: &str| {
        let newest = messages.iter().rev().find(|message| message.topic == state("door", name));
        newest.map(|message| message.json()[field].clone())
    };
    let newest = format!("burst-{}-{}", EVENTS / BATCH_SIZE - 1, BATCH_SIZE - 1);
    assert_eq!(is_last("last_event", "event_id"), Some(json!(newest)));
    service.wait_outbox_empty(LATER).await;
}
