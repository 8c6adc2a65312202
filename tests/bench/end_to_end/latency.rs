//! The latency from the start of publishing an event until a subscriber receives it, at 100 events per
//! second.

use std::{fs::File, io::Write as _, ops::Range, time::Duration};

use liveobject_test_support::Mosquitto;
use tokio::time::Instant;

use crate::{
    client::{self, Connection},
    database::Engine,
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
    let mut arrivals = Arrivals::new(broker, TURN * turns * 3);
    let mut site = Site::start(Links::plain(broker)).await;
    let mut raw = Publisher::connect(broker.port(), WINDOW).await;
    let mut latencies = Latencies::default();
    for _ in 0..turns {
        let numbers = arrivals.next_turn();
        let sent_at = raw.publish_paced(numbers.clone(), EVERY).await;
        latencies.raw.extend(arrivals.latencies(&sent_at, numbers).await);
        site.measure(&mut arrivals, &mut latencies).await;
        latencies.sync.extend(measure_syncs(TURN).await);
    }
    latencies
}

/// Measures services with each of these engines in turn, `turns` times, without the bare publisher and the disk.
pub async fn measure_engines(broker: &Mosquitto, engines: &[Engine<'_>], turns: usize) -> Vec<Latencies> {
    let mut arrivals = Arrivals::new(broker, TURN * turns * 2 * engines.len());
    let mut sites = Vec::new();
    for engine in engines {
        let site = Site::start(Links::plain(broker).with_engine(*engine)).await;
        sites.push((site, Latencies::default()));
    }
    for _ in 0..turns {
        for (site, latencies) in &mut sites {
            site.measure(&mut arrivals, latencies).await;
        }
    }
    sites.into_iter().map(|(_, latencies)| latencies).collect()
}

/// A subscriber that receives the events of all turns.
struct Arrivals {
    listener: Listener,
    next: usize,
}

impl Arrivals {
    fn new(broker: &Mosquitto, count: usize) -> Self {
        Self { listener: Listener::subscribe(broker.port(), count), next: 0 }
    }

    /// Returns the numbers of the events of the next turn.
    fn next_turn(&mut self) -> Range<usize> {
        let first = self.next;
        self.next += TURN;
        first..self.next
    }

    /// Waits for the events, which were sent at these times.
    async fn latencies(&self, sent_at: &[Instant], numbers: Range<usize>) -> Vec<f64> {
        let arrived = self.listener.wait_for(numbers).await;
        let pairs = sent_at.iter().zip(arrived);
        pairs.map(|(sent, arrived)| millis(arrived.saturating_duration_since(*sent))).collect()
    }
}

/// A service in its own process and one in this process.
struct Site<'a> {
    running: Running<'a>,
    connection: Connection,
    embedded: Embedded<'a>,
}

impl<'a> Site<'a> {
    async fn start(links: Links<'a>) -> Self {
        let running = Running::connected(links, 1).await;
        let embedded = Embedded::connected(links, 1).await;
        let mut connection = running.open().await;
        // The first events introduce the cameras, which must not be part of the measurement.
        for _ in 0..2 {
            warm_up(&running, &mut connection, &embedded).await;
        }
        Self { running, connection, embedded }
    }

    /// Measures one turn of each path.
    async fn measure(&mut self, arrivals: &mut Arrivals, latencies: &mut Latencies) {
        let numbers = arrivals.next_turn();
        let sent_at = self.embedded.publish_paced(numbers.clone(), EVERY).await;
        latencies.in_process.extend(arrivals.latencies(&sent_at, numbers).await);

        let numbers = arrivals.next_turn();
        let (sent_at, accepted) = post_paced(&self.running, &mut self.connection, numbers.clone()).await;
        latencies.rest.extend(arrivals.latencies(&sent_at, numbers).await);
        latencies.rest_accepted.extend(accepted);
        events::check_payload(&arrivals.listener.last_payload());
    }
}

async fn warm_up(running: &Running<'_>, connection: &mut Connection, embedded: &Embedded<'_>) {
    let numbers = 0..events::CAMERAS;
    embedded.publish_all(events::CAMERAS).await;
    let _ = post_paced(running, connection, numbers).await;
    tokio::time::sleep(CAMERAS_STORED).await;
}

/// Posts these events one at a time. Returns the time at which each was sent, and the milliseconds until its
/// response.
async fn post_paced(
    running: &Running<'_>,
    connection: &mut Connection,
    numbers: Range<usize>,
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
