//! What the real program answers over REST, and how long it takes.

use std::time::Duration;

use liveobject_test_support::{Mosquitto, Service, Subscriber};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::figures::{Row, median, number};

const TIMES: usize = 9;
const STARTS: usize = 3;
const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_mins(5);

/// How long it takes from the start of the process until it lives, and how much memory it holds then.
pub async fn start(service: &mut Service, row: &mut Row) {
    let mut times = Vec::new();
    for round in 0..STARTS {
        if round > 0 {
            service.kill9().await;
        }
        let start = Instant::now();
        service.start().await;
        times.push(start.elapsed());
    }
    row.note_ms("start_ms", median(times));
    // What belongs to the start alone is given back by then.
    sleep(Duration::from_secs(1)).await;
    row.note("idle_mib", mib(service));
}

/// How long a `GET` takes.
pub async fn get(service: &Service, path: &str) -> Duration {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let start = Instant::now();
        let answer = service.request(Method::GET, path).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.bytes().await.expect("the whole answer");
        times.push(start.elapsed());
    }
    median(times)
}

/// Pages of a log with so many settled events, and some that wait behind them. Every thousandth is dead; the second of the
/// cameras has no dead one.
pub async fn pages(service: &Service, size: usize, row: &mut Row) {
    let events = |query: &str| format!("/api/v1/events?{query}");
    let middle = size / 2;
    let dead = service.get(&events(&format!("state=dead&limit=1&before={}", size / 2 + 1))).await.expect(200);
    if let Some(id) = dead["events"][0]["event_id"].as_str() {
        // An old event that is to be sent again, behind all that were delivered since.
        let retry = format!("/api/v1/events/{id}/retry");
        let _ = service.post(&retry, &json!({})).await.expect(202);
    }
    let asked = [
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
    for (name, query) in asked {
        row.note_ms(name, get(service, &events(&query)).await);
    }
    row.note_ms("status_ms", get(service, "/api/v1/integrations/mqtt/status").await);
    row.note_ms("cameras_ms", get(service, "/api/v1/cameras").await);
}

/// Connects it to a broker: how fast what waits goes out, and how long it takes until every device is announced.
pub async fn drain(service: &Service, devices: usize, row: &mut Row) {
    let broker = Mosquitto::start().await;
    let home = Subscriber::builder(broker.port()).filter("homeassistant/#").start().await;
    let waiting = pending(&service.status().await);
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
            start.elapsed() < PATIENCE,
            "{} of {devices} devices, {}",
            home.count(),
            service.status().await
        );
        sleep(POLL).await;
    }
    row.note("drain_per_s", number(waiting) / drained.unwrap_or(PATIENCE).as_secs_f64());
    row.note_ms("announced_ms", announced.unwrap_or(PATIENCE));
    row.note("connected_mib", mib(service));
}

fn pending(status: &Value) -> u64 {
    status["outbox"]["pending"].as_u64().expect("the status tells what is pending")
}

fn mib(service: &Service) -> f64 {
    number(service.rss_kib()) / 1024.0
}
