//! Many cameras and many events at once: states neither flood the broker nor lag behind, and do not delay
//! events.

use std::{collections::HashSet, time::Duration};

use liveobject_test_support::{Message, Mosquitto, Service, Subscriber};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    BATCH, LONG_TIMEOUT, TIMEOUT, connect, connected_service, event, event_of, service, state_topic,
};

const CAMERAS: usize = 500;
const STATES_OF_ALL: usize = CAMERAS * 5;
const EVENTS: usize = 10_000;
const BATCH_SIZE: usize = 1000;
/// The event topic of the camera `door`, to which all further events belong.
const EVENT: &str = "liveobject/camera/door/event";

/// How many states and discovery messages may arrive between the receipt of an event and the event. An event
/// that had to wait for all of them would arrive after more than twice as many.
const MAX_AHEAD: usize = STATES_OF_ALL / 2;

/// Maximum ratio of the time that all states and discovery take to the time that the same number of events
/// takes. In practice the ratio is about 1 after a reconnect, and 1.5 to 4 after the first connection, when
/// the events themselves are sent first.
const MAX_TIMES_BASELINE: u32 = 15;

/// How long the test listens for surplus messages after the last expected one.
const SURPLUS: Duration = Duration::from_secs(2);

/// How far states may lag behind events: ten times the interval in which the service publishes them.
const PROMPT: Duration = Duration::from_secs(2);

/// Starts a subscriber to the cameras' messages, at QoS 0 so that the broker need not wait for
/// acknowledgements.
async fn watcher(port: u16, filters: &[&str]) -> Subscriber {
    let builder = Subscriber::builder(port).client_id("watcher").qos(0);
    filters.iter().fold(builder, |builder, filter| builder.filter(filter)).start().await
}

/// Registers all cameras with one event each.
async fn register(service: &Service) {
    let event = |i: usize| event_of(&format!("cam{i}"), &format!("first-{i}"));
    let events: Vec<_> = (0..CAMERAS).map(event).collect();
    let _ = service.post(BATCH, &Value::from(events)).await.expect(202);
}

/// Waits until all states and discovery were published on connection number `nth`. Returns how long that
/// took.
async fn wait_for_all(watcher: &Subscriber, nth: usize) -> Duration {
    let is_complete = |messages: &[Message]| {
        let Some(online) = online(messages, nth) else { return false };
        let topics: HashSet<_> = messages.iter().skip(online).map(|message| &message.topic).collect();
        let count = |part: &str| {
            topics.iter().filter(|topic| topic.contains(part) && !topic.ends_with("/event")).count()
        };
        count("/camera/cam") >= STATES_OF_ALL && count("/liveobject_cam") >= CAMERAS
    };
    let messages = watcher.wait_for(is_complete, "all states and all discovery", LONG_TIMEOUT).await;
    let online = online(&messages, nth).expect("the wait succeeded");
    let mut topics = HashSet::new();
    let mut last = online;
    for (index, message) in messages.iter().enumerate().skip(online) {
        if topics.insert(&message.topic) {
            last = index;
        }
    }
    messages[last].at - messages[online].at
}

/// Returns the index of the birth message of the connection number `nth`.
fn online(messages: &[Message], nth: usize) -> Option<usize> {
    let is_online = |message: &Message| message.topic == "liveobject/status" && message.text() == "online";
    messages.iter().enumerate().filter(|(_, message)| is_online(message)).map(|(i, _)| i).nth(nth)
}

/// Sends as many events as there are states and discovery messages, and returns how long they took to arrive.
async fn measure_events(service: &Service, watcher: &Subscriber) -> Duration {
    let count = STATES_OF_ALL + CAMERAS;
    let before = watcher.count();
    for batch in 0..count / CAMERAS {
        let events: Vec<_> = (0..CAMERAS).map(|i| event(&format!("baseline-{batch}-{i}"))).collect();
        let _ = service.post(BATCH, &Value::from(events)).await.expect(202);
    }
    let times = |messages: &[Message]| -> Vec<_> {
        let is_baseline = |message: &&Message| message.topic == EVENT;
        messages.iter().skip(before).filter(is_baseline).map(|message| message.at).collect()
    };
    let all = |messages: &[Message]| times(messages).len() >= count;
    let times = times(&watcher.wait_for(all, "the baseline", LONG_TIMEOUT).await);
    times[count - 1] - times[0]
}

#[tokio::test]
async fn the_states_of_five_hundred_cameras_do_not_delay_events() {
    let mut broker = Mosquitto::builder().persistence(false).start().await;
    let filters = ["liveobject/status", "liveobject/camera/#", "homeassistant/#"];
    let watcher = watcher(broker.port(), &filters).await;
    let service = service().start().await;
    register(&service).await;
    connect(&service, broker.port(), &json!({})).await;
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    let first = wait_for_all(&watcher, 0).await;

    broker.restart().await;
    service.wait_connected(TIMEOUT).await;
    let _ = service.post_event(&event("during")).await.expect(202);
    let accepted = watcher.count();
    let is_event = |message: &Message| message.topic == EVENT;
    let messages = watcher.wait_for(|messages| messages.iter().any(is_event), "the event", TIMEOUT).await;
    let arrived = messages.iter().position(is_event).expect("the wait succeeded");
    let again = wait_for_all(&watcher, 1).await;
    let baseline = measure_events(&service, &watcher).await;
    let ahead = arrived.saturating_sub(accepted);
    assert!(ahead <= MAX_AHEAD, "{ahead} messages arrived between the receipt and the event");
    let limit = MAX_TIMES_BASELINE * baseline;
    assert!(
        first < limit && again < limit,
        "{first:?}, then {again:?}; the same number of events took {baseline:?}"
    );
}

/// Asserts that at most five messages per second arrived. A busy machine may also bunch up the messages that
/// were sent within half a second.
fn assert_paced(messages: &[Message]) {
    const JITTER: Duration = Duration::from_millis(500);
    for (i, first) in messages.iter().enumerate() {
        for (count, last) in (1_u32..).zip(&messages[i..]) {
            let within = last.at - first.at;
            let maximum = 5.0 * (1.0 + (within + JITTER).as_secs_f64());
            assert!(f64::from(count) <= maximum, "{count} messages within {within:?}: {messages:#?}");
        }
    }
}

#[tokio::test]
async fn a_burst_of_one_camera_neither_floods_the_broker_nor_lags_behind() {
    let broker = Mosquitto::start().await;
    let names = ["status", "activity", "counts", "last_event", "description", "thumbnail"];
    let topics = names.map(|name| state_topic("door", name));
    let watcher = watcher(broker.port(), &topics.each_ref().map(String::as_str)).await;
    let service = connected_service(broker.port(), &json!({})).await;
    let mut accepted = Instant::now();
    let started = accepted;
    for batch in 0..EVENTS / BATCH_SIZE {
        let events: Vec<_> = (0..BATCH_SIZE).map(|i| event(&format!("burst-{batch}-{i}"))).collect();
        let _ = service.post(BATCH, &Value::from(events)).await.expect(202);
        accepted = Instant::now();
    }
    let counts = state_topic("door", "counts");
    let counted = |message: &Message| message.topic == counts && message.json()["events_today"] == EVENTS;
    let all = |messages: &[Message]| messages.iter().any(counted);
    watcher.wait_for(all, "all events counted", TIMEOUT).await;
    sleep(SURPLUS).await;
    let messages = watcher.messages();

    let last = messages.iter().find(|message| counted(message)).expect("the wait succeeded");
    // On a slow machine, accepting the events takes a long time as well.
    let limit = PROMPT.max(accepted - started);
    let lag = last.at.saturating_duration_since(accepted);
    assert!(lag < limit, "the last count arrived {lag:?} after the last response");
    let times = messages.iter().filter(|message| message.topic == counts).map(|message| message.at);
    let times: Vec<_> = [started].into_iter().chain(times).take_while(|time| *time <= last.at).collect();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("two times");
    assert!(gap < limit, "no counts were published for {gap:?}");
    assert_paced(&messages);
    let newest_field = |name: &str, field: &str| {
        let newest = messages.iter().rev().find(|message| message.topic == state_topic("door", name));
        newest.map(|message| message.json()[field].clone())
    };
    let newest = format!("burst-{}-{}", EVENTS / BATCH_SIZE - 1, BATCH_SIZE - 1);
    assert_eq!(newest_field("last_event", "event_id"), Some(json!(newest)));
    service.wait_outbox_empty(LONG_TIMEOUT).await;
}
