//! Events per second, measured from the first event submitted to the last event that the broker acknowledged.

use std::{collections::BTreeMap, time::Duration};

use liveobject_test_support::{Mosquitto, Postgres};
use rumqttc::mqttbytes::QoS;
use tokio::time::Instant;

use crate::{
    database::{Engine, Work},
    embedded::Embedded,
    events::{BATCHES, SINGLES, Sources},
    listener::Sink,
    raw::Publisher,
    service::Running,
    stats::{number, rate},
    tls::{Links, Tls},
    usage,
};

/// The service's default window.
pub const WINDOW: u16 = 500;

/// The bare publisher, with which all paths are compared.
pub const BASELINE: &str = "raw";

/// The measured paths, in the order of the table.
pub const PATHS: [&str; 4] = ["in_process", "rest_batch", "rest_single", "drain"];

/// The paths that are measured with each engine. The first two submit events in the process of the service, from as
/// many sources and in batches of the same size as over REST.
pub const ENGINE_PATHS: [&str; 5] =
    ["in_process_batch", "in_process_single", "rest_batch", "rest_single", "drain"];

/// Number of events that each path publishes in a round.
#[derive(Clone, Copy)]
pub struct Counts {
    pub raw: usize,
    pub in_process: usize,
    pub batch: usize,
    pub single: usize,
    pub drain: usize,
}

impl Counts {
    pub const FULL: Self =
        Self { raw: 100_000, in_process: 100_000, batch: 100_000, single: 32_000, drain: 200_000 };
    /// Fewer events, for another QoS or with a subscriber.
    pub const PART: Self =
        Self { raw: 100_000, in_process: 40_000, batch: 40_000, single: 16_000, drain: 50_000 };

    pub fn divided(self, by: usize) -> Self {
        // The counts must be divisible by the number of connections and the number of events per request.
        let part = |count: usize| (count / by).div_ceil(6400) * 6400;
        Self {
            raw: part(self.raw),
            in_process: part(self.in_process),
            batch: part(self.batch),
            single: part(self.single),
            drain: part(self.drain).div_ceil(8000) * 8000,
        }
    }
}

/// One measurement of one path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Events per second.
    pub per_second: f64,
    /// Events per second until all were accepted. NaN if that was not measured.
    pub accepted: f64,
    /// CPU seconds of the publishing process per 100,000 events. NaN if it publishes within the benchmark's
    /// process.
    pub cpu: f64,
    /// CPU seconds of the broker per 100,000 events.
    pub broker_cpu: f64,
    /// CPU seconds of this process per 100,000 events: of the load generator, or of what publishes within it.
    pub own_cpu: f64,
    /// What the database server did for an event. NaN without one.
    pub server: ServerCost,
    /// Peak memory of the publishing process in MiB. NaN if it publishes within the benchmark's process.
    pub peak_mib: f64,
    /// Ratio to the speed of the baseline, which is measured right before and right after.
    pub ratio: f64,
}

/// What a database server did.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerCost {
    /// CPU seconds per 100,000 events.
    pub cpu: f64,
    /// Transactions that wrote something, per 100 events.
    pub commits: f64,
    /// Bytes of the write-ahead log per event.
    pub wal_bytes: f64,
}

/// All samples of all paths.
pub type Samples = BTreeMap<&'static str, Vec<Sample>>;

/// Measures each of these paths once, and the baseline before and after each of them. The speed of a machine
/// drifts, and measurements that directly follow each other drift together.
pub async fn round(
    broker: &Mosquitto,
    paths: &[&'static str],
    qos: u8,
    subscriber: bool,
    counts: Counts,
    samples: &mut Samples,
) {
    let measure = async |path| {
        let _sink = if subscriber { Some(Sink::subscribe(broker.port(), qos).await) } else { None };
        measure(broker, Links::plain(broker), path, qos, counts).await
    };
    let mut before = measure(BASELINE).await;
    samples.entry(BASELINE).or_default().push(before);
    for path in paths.iter().copied() {
        let sample = measure(path).await;
        let after = measure(BASELINE).await;
        let ratio = sample.per_second / f64::midpoint(before.per_second, after.per_second);
        samples.entry(path).or_default().push(Sample { ratio, ..sample });
        samples.entry(BASELINE).or_default().push(after);
        before = after;
    }
}

/// The samples of the paths over TLS, and of the same paths without it.
#[derive(Debug, Default)]
pub struct Encrypted {
    pub plain: Samples,
    /// The ratio of each sample is that to the same path without TLS.
    pub tls: Samples,
}

/// Measures each of these paths once with each of two engines. The ratio of the second sample is that to the first.
pub async fn engines_round(
    broker: &Mosquitto,
    engines: [Engine<'_>; 2],
    paths: &[&'static str],
    counts: Counts,
    samples: &mut [Samples; 2],
) {
    for path in paths.iter().copied() {
        let measure =
            async |engine| measure(broker, Links::plain(broker).with_engine(engine), path, 1, counts).await;
        let [first, second] = [measure(engines[0]).await, measure(engines[1]).await];
        let second = Sample { ratio: second.per_second / first.per_second, ..second };
        for (samples, sample) in samples.iter_mut().zip([first, second]) {
            samples.entry(path).or_default().push(sample);
        }
    }
}

/// Measures each path with QoS 1 once over TLS, to the broker and to the service, and once without it before and after.
pub async fn encrypted_round(broker: &Mosquitto, tls: &Tls, counts: Counts, samples: &mut Encrypted) {
    for path in PATHS {
        let plain = async || measure(broker, Links::plain(broker), path, 1, counts).await;
        let before = plain().await;
        let sample = measure(broker, Links::encrypted(broker, tls), path, 1, counts).await;
        let after = plain().await;
        let ratio = sample.per_second / f64::midpoint(before.per_second, after.per_second);
        samples.tls.entry(path).or_default().push(Sample { ratio, ..sample });
        samples.plain.entry(path).or_default().extend([before, after]);
    }
}

async fn measure(broker: &Mosquitto, links: Links<'_>, path: &str, qos: u8, counts: Counts) -> Sample {
    match path {
        BASELINE => raw(broker, qos, counts.raw).await,
        "in_process" => in_process(broker, links, qos, counts.in_process).await,
        "in_process_batch" => in_process_from(broker, links, qos, BATCHES, counts.batch).await,
        "in_process_single" => in_process_from(broker, links, qos, SINGLES, counts.single).await,
        "rest_batch" => rest(broker, links, qos, BATCHES, counts.batch).await,
        "rest_single" => rest(broker, links, qos, SINGLES, counts.single).await,
        _ => drain(broker, links, qos, counts.drain).await,
    }
}

/// The resources that the processes use during a measurement.
struct Meter<'a> {
    broker: u32,
    publisher: Option<u32>,
    server: Option<(&'a Postgres, Work)>,
    /// The CPU time of the publisher, the broker and this process.
    before: [Duration; 3],
}

impl<'a> Meter<'a> {
    fn start(broker: &Mosquitto, engine: Engine<'a>, publisher: Option<u32>) -> Self {
        let broker = broker.pid();
        let server = engine.server().map(|server| (server, Work::of(server)));
        Self { broker, publisher, server, before: cpu_of_all(publisher, broker) }
    }

    fn sample(self, count: usize, took: Duration) -> Sample {
        self.accepted_sample(count, None, took)
    }

    fn accepted_sample(self, count: usize, accepted: Option<Duration>, took: Duration) -> Sample {
        let after = cpu_of_all(self.publisher, self.broker);
        let per_100k = |process: usize| {
            let used = after[process].saturating_sub(self.before[process]);
            used.as_secs_f64() / number(count) * 100_000.0
        };
        let of_publisher = |value: f64| if self.publisher.is_some() { value } else { f64::NAN };
        Sample {
            per_second: rate(count, took),
            accepted: accepted.map_or(f64::NAN, |accepted| rate(count, accepted)),
            server: self.server.map_or(ServerCost::NONE, |(server, before)| before.cost(server, count)),
            cpu: of_publisher(per_100k(0)),
            broker_cpu: per_100k(1),
            own_cpu: per_100k(2),
            peak_mib: self.publisher.map_or(f64::NAN, usage::peak_mib),
            ratio: 1.0,
        }
    }
}

impl Sample {
    /// Returns how many cores were busy with it. The kernel's share is included, as far as it belongs to a process.
    pub fn busy_cores(&self) -> f64 {
        let publisher = if self.cpu.is_nan() { 0.0 } else { self.cpu };
        (publisher + self.broker_cpu + self.own_cpu) * self.per_second / 100_000.0
    }
}

impl ServerCost {
    const NONE: Self = Self { cpu: f64::NAN, commits: f64::NAN, wal_bytes: f64::NAN };
}

/// Returns the CPU time of the publisher, if it is another process, of the broker, and of this process.
fn cpu_of_all(publisher: Option<u32>, broker: u32) -> [Duration; 3] {
    [publisher, Some(broker), Some(std::process::id())].map(|pid| pid.map_or(Duration::ZERO, usage::cpu))
}

async fn raw(broker: &Mosquitto, qos: u8, count: usize) -> Sample {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
    let mut publisher = Publisher::connect(broker.port(), WINDOW).await;
    let meter = Meter::start(broker, Engine::Sqlite, None);
    let took = publisher.publish_all(count, qos).await;
    meter.sample(count, took)
}

async fn in_process(broker: &Mosquitto, links: Links<'_>, qos: u8, count: usize) -> Sample {
    let embedded = Embedded::connected(links, qos).await;
    let meter = Meter::start(broker, links.engine, None);
    let took = embedded.publish_all(count).await;
    meter.sample(count, took)
}

async fn in_process_from(
    broker: &Mosquitto,
    links: Links<'_>,
    qos: u8,
    sources: Sources,
    count: usize,
) -> Sample {
    let embedded = Embedded::connected(links, qos).await;
    let meter = Meter::start(broker, links.engine, None);
    let (accepted, took) = embedded.publish_from(sources, count).await;
    meter.accepted_sample(count, Some(accepted), took)
}

async fn rest(broker: &Mosquitto, links: Links<'_>, qos: u8, sources: Sources, count: usize) -> Sample {
    let running = Running::connected(links, qos).await;
    let meter = Meter::start(broker, links.engine, Some(running.pid()));
    let started = Instant::now();
    let accepted = running.post_from(sources, count).await;
    running.wait_acknowledged(count).await;
    meter.accepted_sample(count, Some(accepted), started.elapsed())
}

/// Stores all events before a broker is configured, and starts measuring when one is configured.
async fn drain(broker: &Mosquitto, links: Links<'_>, qos: u8, count: usize) -> Sample {
    let running = Running::start(links).await;
    running.fill(count).await;
    let meter = Meter::start(broker, links.engine, Some(running.pid()));
    let started = Instant::now();
    running.connect(qos).await;
    running.wait_acknowledged(count).await;
    meter.sample(count, started.elapsed())
}
