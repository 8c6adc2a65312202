//! From the begin of the publishing to the receipt by a subscriber, at 100 events a second.

use std::{fs::File, io::Write as _, time::Duration};

use liveobject_test_support::Mosquitto;
use tokio::time::Instant;

use crate::{
    client::{self, Connection},
    embedded::Embedded,
    events,
    listener::Listener,
    raw::Publisher,
    service::{Running, directory},
    stats::millis,
    throughput::WINDOW,
};

const EVERY: Duration = Duration::from_millis(10);

/// How many events each way has its turn for: two seconds, so that a disk or a neighbour that is slow for some seconds is slow
/// for all ways.
const TURN: usize = 200;

/// What one write to the log costs at least, in bytes: two pages.
const WRITE: usize = 8192;

/// Milliseconds, one for each event.
#[derive(Debug, Default)]
pub struct Latencies {
    pub raw: Vec<f64>,
    pub in_process: Vec<f64>,
    pub rest: Vec<f64>,
    /// From the begin of the POST to its answer: the event is on disk.
    pub rest_accepted: Vec<f64>,
    /// One write with `fdatasync`, on the same disk at the same pace.
    pub sync: Vec<f64>,
}

/// Measures each way, one after the other, `turns` times.
pub async fn measure(broker: &Mosquitto, turns: usize) -> Latencies {
    let listener = Listener::subscribe(broker.port(), TURN * turns * 3);
    let running = Running::connected(broker.port(), 1).await;
    let embedded = Embedded::connected(broker.port(), 1).await;
    let mut raw = Publisher::connect(broker.port(), WINDOW).await;
    let mut latencies = Latencies::default();
    // The first events make the cameras known, which is not what is measured.
    let mut connection = Connection::open(running.service.port()).await;
    for _ in 0..2 {
        warm_up(&running, &mut connection, &embedded).await;
    }
    for turn in 0..turns {
        let start = turn * TURN * 3;
        let numbers = start..start + TURN;
        let begun = raw.publish_paced(numbers.clone(), EVERY).await;
        latencies.raw.extend(between(&begun, &listener.arrived(numbers).await));

        let numbers = start + TURN..start + TURN * 2;
        let begun = embedded.publish_paced(numbers.clone(), EVERY).await;
        latencies.in_process.extend(between(&begun, &listener.arrived(numbers).await));

        let numbers = start + TURN * 2..start + TURN * 3;
        let (begun, accepted) = post_paced(&running, &mut connection, numbers.clone()).await;
        latencies.rest.extend(between(&begun, &listener.arrived(numbers).await));
        latencies.rest_accepted.extend(accepted);
        events::check_payload(&listener.last_payload());

        latencies.sync.extend(syncs(TURN).await);
    }
    latencies
}

async fn warm_up(running: &Running, connection: &mut Connection, embedded: &Embedded) {
    let numbers = 0..events::CAMERAS;
    embedded.publish_all(events::CAMERAS).await;
    let _ = post_paced(running, connection, numbers).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn between(begun: &[Instant], arrived: &[Instant]) -> Vec<f64> {
    begun
        .iter()
        .zip(arrived)
        .map(|(begun, arrived)| millis(arrived.saturating_duration_since(*begun)))
        .collect()
}

/// One at a time; when each was begun, and after how many milliseconds it was answered.
async fn post_paced(
    running: &Running,
    connection: &mut Connection,
    numbers: std::ops::Range<usize>,
) -> (Vec<Instant>, Vec<f64>) {
    let token = running.service.token();
    let mut clock = tokio::time::interval(EVERY);
    let (mut begun, mut answered) = (Vec::new(), Vec::new());
    for number in numbers {
        let request = client::post("/api/v1/events", &token, &events::json(number));
        clock.tick().await;
        let start = Instant::now();
        begun.push(start);
        connection.accepted(&request).await;
        answered.push(millis(start.elapsed()));
    }
    (begun, answered)
}

/// What a disk sync takes here, at the same pace.
async fn syncs(count: usize) -> Vec<f64> {
    let dir = directory();
    let mut file = File::create(dir.path().join("synced")).expect("a file can be made");
    let mut clock = tokio::time::interval(EVERY);
    let mut took = Vec::new();
    for _ in 0..count {
        clock.tick().await;
        let start = Instant::now();
        file.write_all(&[7; WRITE]).and_then(|()| file.sync_data()).expect("the disk takes it");
        took.push(millis(start.elapsed()));
    }
    took
}
