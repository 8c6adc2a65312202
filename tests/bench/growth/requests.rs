//! Measurements of the real program: its start, its responses over REST, and the delivery of a backlog.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Service, Subscriber};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use liveobject_actors::domain::clock::rfc3339;

use crate::{
    events::time_of,
    figures::Row,
    stats::{median, millis, number, quantile, rate},
};

const REQUESTS: usize = 9;
const STARTS: usize = 3;
const POLL: Duration = Duration::from_millis(5);
const DRAIN_TIMEOUT: Duration = Duration::from_mins(5);
/// Age at which an event is late, so that the whole log soon is.
const LATE_AFTER: Duration = Duration::from_secs(5);
const LIVE_EVENTS: usize = 200;
const BETWEEN_LIVE_EVENTS: Duration = Duration::from_millis(20);
/// Time after which the memory that only startup needs has been released.
const STARTED_UP: Duration = Duration::from_secs(1);

/// Measures the time from the start of the process until it is live, and its memory afterwards.
pub async fn measure_start(service: &mut Service, row: &mut Row) {
    let mut times = Vec::new();
    for round in 0..STARTS {
        if round > 0 {
            service.kill9().await;
        }
        let start = Instant::now();
        service.start().await;
        times.push(millis(start.elapsed()));
    }
    row.record("start_ms", median(&times));
    sleep(STARTED_UP).await;
    row.record("idle_mib", mib(service));
}

/// Returns the median duration of a GET request, in milliseconds.
async fn time_get(service: &Service, path: &str) -> f64 {
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let start = Instant::now();
        let response = service.request(Method::GET, path).send().await.expect("a response");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.bytes().await.expect("the whole response");
        times.push(millis(start.elapsed()));
    }
    median(&times)
}

/// Measures requests for pages of a log with `size` settled events, which are followed by pending ones. Every
/// thousandth event is dead. `camera_1`, the second camera, has no dead events.
pub async fn measure_pages(service: &Service, size: usize, row: &mut Row) {
    let events = |query: &str| format!("/api/v1/events?{query}");
    let middle = size / 2;
    let dead = service.get(&events(&format!("state=dead&limit=1&before={}", size / 2 + 1))).await.expect(200);
    if let Some(id) = dead["events"][0]["event_id"].as_str() {
        // An old event that will be sent again is pending although later events were delivered.
        let retry = format!("/api/v1/events/{id}/retry");
        let _ = service.post(&retry, &json!({})).await.expect(202);
    }
    let queries = [
        ("first_ms", String::new()),
        ("middle_ms", format!("before={middle}")),
        ("end_ms", "before=60".to_owned()),
        ("camera_first_ms", "camera_id=camera_1".to_owned()),
        ("camera_middle_ms", format!("camera_id=camera_1&before={middle}")),
        ("pending_first_ms", "state=pending".to_owned()),
        ("pending_end_ms", format!("state=pending&before={}", size + 20)),
        ("pending_camera_end_ms", format!("state=pending&camera_id=camera_1&before={}", size + 20)),
        ("delivered_first_ms", "state=delivered".to_owned()),
        ("delivered_middle_ms", format!("state=delivered&before={middle}")),
        ("delivered_camera_ms", format!("state=delivered&camera_id=camera_1&before={middle}")),
        ("dead_first_ms", "state=dead".to_owned()),
        ("dead_middle_ms", format!("state=dead&before={middle}")),
        ("dead_camera_ms", "state=dead&camera_id=camera_0".to_owned()),
        ("dead_none_ms", "state=dead&camera_id=camera_1".to_owned()),
    ];
    for (name, query) in queries {
        row.record(name, time_get(service, &events(&query)).await);
    }
    row.record("status_ms", time_get(service, "/api/v1/integrations/mqtt/status").await);
    row.record("cameras_ms", time_get(service, "/api/v1/cameras").await);
}

/// Measures searches in the log. Each event has the number of its house, so a search for one reads the whole index.
pub async fn measure_search(service: &Service, size: usize, row: &mut Row) {
    let events = |query: &str| format!("/api/v1/events?{query}");
    let time = |number: usize| rfc3339(time_of(number));
    let (day, next_day) = (time(size / 2), time(size / 2 + 4 * 86_400));
    let period = format!("from={day}&to={next_day}");
    let queries = [
        ("common_ms", events("q=package")),
        ("begun_ms", events("q=person+pack")),
        ("oldest_ms", events("q=house+5")),
        ("no_word_ms", events("q=elephant")),
        ("object_ms", events("object=package")),
        ("no_object_ms", events("object=elephant")),
        ("two_cameras_ms", events("camera_id=camera_1,camera_2")),
        ("day_ms", events(&period)),
        ("day_camera_word_ms", events(&format!("{period}&camera_id=camera_1&q=package"))),
        ("delivered_word_ms", events("state=delivered&q=package")),
        ("dead_word_ms", events("state=dead&q=elephant")),
        ("density_ms", format!("/api/v1/events/density?{period}")),
        ("density_camera_ms", format!("/api/v1/events/density?{period}&camera_id=camera_1")),
    ];
    for (name, path) in queries {
        row.record(name, time_get(service, &path).await);
    }
}

/// Connects the service to a broker, and measures how fast pending events are sent and how long it takes
/// until every device is announced.
pub async fn measure_drain(service: &Service, devices: usize, row: &mut Row) {
    let broker = Mosquitto::start().await;
    let home = Subscriber::builder(broker.port()).filter("homeassistant/#").start().await;
    let backlog = pending(&service.status().await);
    let settings = json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port() });
    let start = Instant::now();
    let _ = service.put_config(&settings).await.expect(200);
    let (mut drained, mut announced) = (None, None);
    while drained.is_none() || announced.is_none() {
        if drained.is_none() && pending(&service.status().await) == 0 {
            drained = Some(start.elapsed());
        }
        if announced.is_none() && home.count() >= devices {
            announced = Some(start.elapsed());
        }
        assert!(
            start.elapsed() < DRAIN_TIMEOUT,
            "{} of {devices} devices, {}",
            home.count(),
            service.status().await
        );
        sleep(POLL).await;
    }
    row.record("drain_per_s", rate(backlog, drained.unwrap_or(DRAIN_TIMEOUT)));
    row.record("announced_ms", millis(announced.unwrap_or(DRAIN_TIMEOUT)));
    row.record("connected_mib", mib(service));
}

/// Measures how long a live event takes from its request to its arrival while the whole log is pending and late.
pub async fn measure_live(service: &mut Service, row: &mut Row) {
    let broker = Mosquitto::start().await;
    let listener = Subscriber::builder(broker.port()).filter("liveobject/camera/+/event").start().await;
    let start = Instant::now();
    service.start().await;
    row.record("start_pending_ms", millis(start.elapsed()));
    // The newest events of the log must be late too.
    sleep(LATE_AFTER).await;
    let settings = json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "late_after_seconds": LATE_AFTER.as_secs(),
    });
    let _ = service.put_config(&settings).await.expect(200);
    service.wait_connected(DRAIN_TIMEOUT).await;
    let backlog = pending(&service.status().await);
    row.record("backlog", number(backlog));
    let prefix = format!("live-{backlog}-");
    let mut sent = Vec::with_capacity(LIVE_EVENTS);
    for number in 0..LIVE_EVENTS {
        let event =
            json!({ "event_id": format!("{prefix}{number}"), "camera_id": "camera_1", "description": "x" });
        sent.push(Instant::now());
        let _ = service.post_event(&event).await.expect(202);
        sleep(BETWEEN_LIVE_EVENTS).await;
    }
    row.record("backlog_left", number(pending(&service.status().await)));
    let is_live = |id: &str| id.strip_prefix(&prefix).and_then(|number| number.parse::<usize>().ok());
    listener.wait_for_events(LIVE_EVENTS, DRAIN_TIMEOUT).await;
    let arrived = listener.messages().into_iter().filter_map(|message| {
        let number = is_live(message.json()["event_id"].as_str()?)?;
        Some(millis(message.at - sent[number]))
    });
    let times: Vec<_> = arrived.collect();
    assert_eq!(times.len(), LIVE_EVENTS, "each live event arrives once, and no late one on its topic");
    row.record("live_median_ms", median(&times));
    row.record("live_longest_ms", quantile(&times, 1.0));
    row.record("live_mib", mib(service));
}

fn pending(status: &Value) -> u64 {
    status["outbox"]["pending"].as_u64().expect("the status has the number of pending events")
}

fn mib(service: &Service) -> f64 {
    number(service.rss_kib()) / 1024.0
}
