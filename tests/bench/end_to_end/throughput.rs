//! How many events a second, from the first one given to the last one acknowledged by the broker.

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
    usage,
};

/// As the service's default.
pub const WINDOW: u16 = 500;

/// What all are compared with: a bare publisher.
pub const YARDSTICK: &str = "raw";

/// The ways that are measured, in the order of the table.
pub const WAYS: [&str; 4] = ["in_process", "rest_batch", "rest_single", "drain"];

/// How many events each way publishes in a round.
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
    /// For the other ways to publish, where less is enough.
    pub const PART: Self =
        Self { raw: 100_000, in_process: 40_000, batch: 40_000, single: 16_000, drain: 50_000 };

    pub fn divided(self, by: usize) -> Self {
        // Connections and calls share them without a rest.
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

/// What was measured of one way, once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Events a second.
    pub per_second: f64,
    /// Seconds of processor time of the publishing process per 100,000 events; NaN where it is not a process of its own.
    pub cpu: f64,
    /// The same of the broker.
    pub broker_cpu: f64,
    /// The most memory that the publishing process held, in MiB; NaN likewise.
    pub peak_mib: f64,
    /// The speed as a share of the yardstick's, which was measured right before and right after it.
    pub share: f64,
}

/// All samples of all ways.
pub type Samples = BTreeMap<&'static str, Vec<Sample>>;

/// Measures each of these ways once, one after the other, and the yardstick before, between and after them: a machine's speed
/// wanders, and what lies side by side wanders together.
pub async fn round(
    broker: &Mosquitto,
    ways: &[&'static str],
    qos: u8,
    subscriber: bool,
    counts: Counts,
    samples: &mut Samples,
) {
    let measured = async |way| {
        let _sink = if subscriber { Some(Sink::subscribe(broker.port(), qos).await) } else { None };
        match way {
            YARDSTICK => raw(broker, qos, counts.raw).await,
            "in_process" => in_process(broker, qos, counts.in_process).await,
            "rest_batch" => rest(broker, qos, counts.batch, true).await,
            "rest_single" => rest(broker, qos, counts.single, false).await,
            _ => drain(broker, qos, counts.drain).await,
        }
    };
    let mut before = measured(YARDSTICK).await;
    samples.entry(YARDSTICK).or_default().push(before);
    for way in ways.iter().copied() {
        let sample = measured(way).await;
        let after = measured(YARDSTICK).await;
        let share = sample.per_second / f64::midpoint(before.per_second, after.per_second);
        samples.entry(way).or_default().push(Sample { share, ..sample });
        samples.entry(YARDSTICK).or_default().push(after);
        before = after;
    }
}

/// What the processes used while something went on.
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
            share: 1.0,
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

async fn in_process(broker: &Mosquitto, qos: u8, count: usize) -> Sample {
    let embedded = Embedded::connected(broker.port(), qos).await;
    let meter = Meter::start(broker, None);
    let took = embedded.publish_all(count).await;
    meter.sample(count, took)
}

async fn rest(broker: &Mosquitto, qos: u8, count: usize, batches: bool) -> Sample {
    let running = Running::connected(broker.port(), qos).await;
    let meter = Meter::start(broker, Some(running.pid()));
    let started = Instant::now();
    if batches {
        running.post_batches(count).await;
    } else {
        running.post_singles(count).await;
    }
    running.acknowledged(count).await;
    meter.sample(count, started.elapsed())
}

/// Everything is on disk before the broker is there; the clock starts when it is.
async fn drain(broker: &Mosquitto, qos: u8, count: usize) -> Sample {
    let running = Running::start().await;
    running.fill(count).await;
    let meter = Meter::start(broker, Some(running.pid()));
    let started = Instant::now();
    running.connect(broker.port(), qos).await;
    running.acknowledged(count).await;
    meter.sample(count, started.elapsed())
}
