//! The latency from the start of publishing an event until a subscriber receives it, at 100 events per
//! second.

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
    tls::Links,
};

const EVERY: Duration = Duration::from_millis(10);

/// Number of events per turn of a path. A turn takes two seconds, so that a disk or another process that is
/// slow for some seconds affects all paths.
const TURN: usize = 200;

/// Minimum number of bytes that one write to the log takes: two pages.
const WRITE_BYTES: usize = 8192;

/// Time after the first events in which the service stores and announces their cameras.
const CAMERAS_STORED: Duration = Duration::from_millis(500);

/// Latencies of each path in milliseconds, one for each event.
#[derive(Debug, Default)]
pub struct Latencies {
    pub raw: Vec<f64>,
    pub in_process: Vec<f64>,
    pub rest: Vec<f64>,
    /// Time from the start of the POST request to its response, when the event is on disk.
    pub rest_accepted: Vec<f64>,
    /// One write with `fdatasync` on the same disk, at the same pace.
    pub sync: Vec<f64>,
}

/// Measures the paths in turn, `turns` times.
pub async fn measure(broker: &Mosquitto, turns: usize) -> Latencies {
    let listener = Listener::subscribe(broker.port(), TURN * turns * 3);
    let running = Running::connected(Links::plain(broker), 1).await;
    let embedded = Embedded::connected(Links::plain(broker), 1).await;
    let mut raw = Publisher::connect(broker.port(), WINDOW).await;
    let mut latencies = Latencies::default();
    // The first events introduce the cameras, which must not be part of the measurement.
    let mut connection = running.open().await;
    for _ in 0..2 {
        warm_up(&running, &mut connection, &embedded).await;
    }
    for turn in 0..turns {
        let start = turn * TURN * 3;
        let numbers = start..start + TURN;
        let sent_at = raw.publish_paced(numbers.clone(), EVERY).await;
        latencies.raw.extend(differences(&sent_at, &listener.wait_for(numbers).await));

        let numbers = start + TURN..start + TURN * 2;
        let sent_at = embedded.publish_paced(numbers.clone(), EVERY).await;
        latencies.in_process.extend(differences(&sent_at, &listener.wait_for(numbers).await));

        let numbers = start + TURN * 2..start + TURN * 3;
        let (sent_at, accepted) = post_paced(&running, &mut connection, numbers.clone()).await;
        latencies.rest.extend(differences(&sent_at, &listener.wait_for(numbers).await));
        latencies.rest_accepted.extend(accepted);
        events::check_payload(&listener.last_payload());

        latencies.sync.extend(measure_syncs(TURN).await);
    }
    latencies
}

async fn warm_up(running: &Running<'_>, connection: &mut Connection, embedded: &Embedded) {
    let numbers = 0..events::CAMERAS;
    embedded.publish_all(events::CAMERAS).await;
    let _ = post_paced(running, connection, numbers).await;
    tokio::time::sleep(CAMERAS_STORED).await;
}

fn differences(sent_at: &[Instant], arrived: &[Instant]) -> Vec<f64> {
    let pairs = sent_at.iter().zip(arrived);
    pairs.map(|(sent, arrived)| millis(arrived.saturating_duration_since(*sent))).collect()
}

/// Posts these events one at a time. Returns the time at which each was sent, and the milliseconds until its
/// response.
async fn post_paced(
    running: &Running<'_>,
    connection: &mut Connection,
    numbers: std::ops::Range<usize>,
) -> (Vec<Instant>, Vec<f64>) {
    let token = running.service.token();
    let mut clock = tokio::time::interval(EVERY);
    let (mut sent_at, mut accepted) = (Vec::new(), Vec::new());
    for number in numbers {
        let request = client::post("/api/v1/events", &token, &events::json(number));
        clock.tick().await;
        let start = Instant::now();
        sent_at.push(start);
        connection.send_accepted(&request).await;
        accepted.push(millis(start.elapsed()));
    }
    (sent_at, accepted)
}

/// Measures disk syncs at the same pace, in milliseconds.
async fn measure_syncs(count: usize) -> Vec<f64> {
    let dir = directory();
    let mut file = File::create(dir.path().join("synced")).expect("a file can be created");
    let mut clock = tokio::time::interval(EVERY);
    let mut times = Vec::new();
    for _ in 0..count {
        clock.tick().await;
        let start = Instant::now();
        file.write_all(&[7; WRITE_BYTES]).and_then(|()| file.sync_data()).expect("the disk has space");
        times.push(millis(start.elapsed()));
    }
    times
}
