//! Events per second, measured from the first event submitted to the last event that the broker acknowledged.

use std::{collections::BTreeMap, time::Duration};

use liveobject_test_support::Mosquitto;
use rumqttc::mqttbytes::QoS;
use tokio::time::Instant;

use crate::{
    embedded::Embedded,
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
    /// CPU seconds of the publishing process per 100,000 events. NaN if it publishes within the benchmark's
    /// process.
    pub cpu: f64,
    /// CPU seconds of the broker per 100,000 events.
    pub broker_cpu: f64,
    /// Peak memory of the publishing process in MiB. NaN if it publishes within the benchmark's process.
    pub peak_mib: f64,
    /// Ratio to the speed of the baseline, which is measured right before and right after.
    pub ratio: f64,
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
        "rest_batch" => rest(broker, links, qos, counts.batch, true).await,
        "rest_single" => rest(broker, links, qos, counts.single, false).await,
        _ => drain(broker, links, qos, counts.drain).await,
    }
}

/// The resources that the processes use during a measurement.
struct Meter {
    broker: u32,
    publisher: Option<u32>,
    before: (Duration, Duration),
}

impl Meter {
    fn start(broker: &Mosquitto, publisher: Option<u32>) -> Self {
        let broker = broker.pid();
        Self { broker, publisher, before: (cpu_of(publisher), usage::cpu(broker)) }
    }

    fn sample(self, count: usize, took: Duration) -> Sample {
        let per_100k = |used: Duration| used.as_secs_f64() / number(count) * 100_000.0;
        let of_publisher = |value: f64| if self.publisher.is_some() { value } else { f64::NAN };
        Sample {
            per_second: rate(count, took),
            cpu: of_publisher(per_100k(cpu_of(self.publisher).saturating_sub(self.before.0))),
            broker_cpu: per_100k(usage::cpu(self.broker).saturating_sub(self.before.1)),
            peak_mib: self.publisher.map_or(f64::NAN, usage::peak_mib),
            ratio: 1.0,
        }
    }
}

fn cpu_of(pid: Option<u32>) -> Duration {
    pid.map_or(Duration::ZERO, usage::cpu)
}

async fn raw(broker: &Mosquitto, qos: u8, count: usize) -> Sample {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
    let mut publisher = Publisher::connect(broker.port(), WINDOW).await;
    let meter = Meter::start(broker, None);
    let took = publisher.publish_all(count, qos).await;
    meter.sample(count, took)
}

async fn in_process(broker: &Mosquitto, links: Links<'_>, qos: u8, count: usize) -> Sample {
    let embedded = Embedded::connected(links, qos).await;
    let meter = Meter::start(broker, None);
    let took = embedded.publish_all(count).await;
    meter.sample(count, took)
}

async fn rest(broker: &Mosquitto, links: Links<'_>, qos: u8, count: usize, batches: bool) -> Sample {
    let running = Running::connected(links, qos).await;
    let meter = Meter::start(broker, Some(running.pid()));
    let started = Instant::now();
    if batches {
        running.post_batches(count).await;
    } else {
        running.post_singles(count).await;
    }
    running.wait_acknowledged(count).await;
    meter.sample(count, started.elapsed())
}

/// Stores all events before a broker is configured, and starts measuring when one is configured.
async fn drain(broker: &Mosquitto, links: Links<'_>, qos: u8, count: usize) -> Sample {
    let running = Running::start(links).await;
    running.fill(count).await;
    let meter = Meter::start(broker, Some(running.pid()));
    let started = Instant::now();
    running.connect(qos).await;
    running.wait_acknowledged(count).await;
    meter.sample(count, started.elapsed())
}
