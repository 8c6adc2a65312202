//! All metrics, with typed labels. Registered once; handed out as one shared value.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use crate::domain::clock::{self, Timestamp};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

// 0.25 ms to 8 s: from one disk sync to a broker that has to be waited for.
const FIRST_BUCKET_SECONDS: f64 = 0.000_25;
const BUCKETS: u16 = 16;

/// The label of counters that say why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// A name of a kind of failure or refusal.
    pub reason: &'static str,
}

/// The label that says whose certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabel {
    /// `broker` or `client`.
    pub certificate: &'static str,
}

/// The labels of the request histogram. `route` is the route's pattern, never the path of one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `GET`, `POST` …
    pub method: String,
    /// `/api/v1/events/{event_id}`; `unmatched` for paths that no route has.
    pub route: String,
    /// The answer's status code.
    pub status: u16,
}

/// All metrics of the service. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// 1 while connected to the broker, else 0.
    pub mqtt_connection_status: Gauge,
    /// Events acknowledged by the broker.
    pub mqtt_messages_published: Counter,
    /// Answers of the broker that refused an event, by reason.
    pub mqtt_publish_errors: Family<ReasonLabel, Counter>,
    /// Attempts to connect after the first one of some settings.
    pub mqtt_reconnect_attempts: Counter,
    /// When certificates expire, in seconds since 1970; those that are known.
    mqtt_certificate_expiry: Family<CertificateLabel, Gauge>,
    /// Events accepted, repeats not counted.
    pub events_accepted: Counter,
    /// Events sent to `history` because they were late.
    pub events_late: Counter,
    /// Events acknowledged with *no matching subscribers*.
    pub events_unheard: Counter,
    /// Events that will never be published, by reason.
    pub events_dead: Family<ReasonLabel, Counter>,
    /// Events that wait for the broker.
    pub outbox_pending: Gauge,
    /// Events on their way to the broker.
    pub outbox_in_flight: Gauge,
    /// From the start of a commit to its sync.
    pub outbox_commit_seconds: Histogram,
    /// From acceptance to the broker's acknowledgement.
    pub event_delivery_seconds: Histogram,
    /// From the first byte of a request to its answer.
    pub http_request_duration_seconds: Family<RequestLabels, Histogram, fn() -> Histogram>,
    /// Streams that are open.
    pub streams_open: Gauge,
    /// Streams that were dropped because their client did not read.
    pub streams_dropped: Counter,
    oldest_pending_seconds: Gauge<f64, AtomicU64>,
    /// Microseconds since 1970; 0: nothing waits.
    oldest_pending_at: Arc<AtomicI64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn durations() -> Histogram {
    Histogram::new(exponential_buckets(FIRST_BUCKET_SECONDS, 2.0, BUCKETS))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics of a service that just starts. Counters are registered without `_total`: the encoder adds it.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("liveobject_build", "Which version runs", build);
        let metrics = Self {
            registry: Arc::default(),
            mqtt_connection_status: Gauge::default(),
            mqtt_messages_published: Counter::default(),
            mqtt_publish_errors: Family::default(),
            mqtt_reconnect_attempts: Counter::default(),
            mqtt_certificate_expiry: Family::default(),
            events_accepted: Counter::default(),
            events_late: Counter::default(),
            events_unheard: Counter::default(),
            events_dead: Family::default(),
            outbox_pending: Gauge::default(),
            outbox_in_flight: Gauge::default(),
            outbox_commit_seconds: durations(),
            event_delivery_seconds: durations(),
            http_request_duration_seconds: Family::new_with_constructor(durations),
            streams_open: Gauge::default(),
            streams_dropped: Counter::default(),
            oldest_pending_seconds: Gauge::default(),
            oldest_pending_at: Arc::default(),
        };
        metrics.register(&mut registry);
        Self { registry: Arc::new(registry), ..metrics }
    }

    fn register(&self, registry: &mut Registry) {
        let m = self;
        registry.register(
            "mqtt_connection_status",
            "1 while connected to the broker, else 0",
            m.mqtt_connection_status.clone(),
        );
        registry.register("streams_open", "Streams that are open", m.streams_open.clone());
        let about = "Streams that were dropped because their client did not read";
        registry.register("streams_dropped", about, m.streams_dropped.clone());
        registry.register(
            "mqtt_messages_published",
            "Events acknowledged by the broker",
            m.mqtt_messages_published.clone(),
        );
        registry.register(
            "mqtt_publish_errors",
            "Answers of the broker that refused an event, by reason",
            m.mqtt_publish_errors.clone(),
        );
        registry.register(
            "mqtt_reconnect_attempts",
            "Attempts to connect again",
            m.mqtt_reconnect_attempts.clone(),
        );
        registry.register(
            "mqtt_certificate_expiry_timestamp_seconds",
            "When the broker's certificate and ours expire, as far as they are known",
            m.mqtt_certificate_expiry.clone(),
        );
        registry.register(
            "events_accepted",
            "Events accepted, repeats not counted",
            m.events_accepted.clone(),
        );
        registry.register(
            "events_late",
            "Events sent to the history topic because they were late",
            m.events_late.clone(),
        );
        registry.register(
            "events_unheard",
            "Events acknowledged with no matching subscribers",
            m.events_unheard.clone(),
        );
        registry.register(
            "events_dead",
            "Events that will never be published, by reason",
            m.events_dead.clone(),
        );
        registry.register(
            "outbox_pending_events",
            "Events that wait for the broker",
            m.outbox_pending.clone(),
        );
        registry.register(
            "outbox_oldest_pending_seconds",
            "How long the oldest waiting event has waited",
            m.oldest_pending_seconds.clone(),
        );
        registry.register(
            "outbox_in_flight_events",
            "Events on their way to the broker",
            m.outbox_in_flight.clone(),
        );
        registry.register(
            "outbox_commit_seconds",
            "From the start of a commit to its sync",
            m.outbox_commit_seconds.clone(),
        );
        registry.register(
            "event_delivery_seconds",
            "From acceptance to the broker's acknowledgement",
            m.event_delivery_seconds.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "From the first byte of a request to its answer",
            m.http_request_duration_seconds.clone(),
        );
    }

    /// Notes since when the oldest pending event waits; `None` when nothing does.
    pub fn set_oldest_pending(&self, at: Option<Timestamp>) {
        self.oldest_pending_at.store(at.map_or(0, clock::to_micros), Ordering::Relaxed);
    }

    /// Notes when a certificate expires, `broker`'s or `client`'s; `None` when there is none.
    pub fn set_certificate_ends(&self, certificate: &'static str, end: Option<Timestamp>) {
        let label = CertificateLabel { certificate };
        match end {
            Some(end) => {
                self.mqtt_certificate_expiry.get_or_create(&label).set(end.timestamp());
            }
            None => {
                self.mqtt_certificate_expiry.remove(&label);
            }
        }
    }

    /// Counts one event that the broker refused.
    pub fn count_error(&self, reason: &'static str) {
        self.mqtt_publish_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Everything in the OpenMetrics text format, [`CONTENT_TYPE`].
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let waiting = match self.oldest_pending_at.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            micros => (clock::now() - clock::from_micros(micros)).to_std().unwrap_or_default(),
        };
        self.oldest_pending_seconds.set(waiting.as_secs_f64());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_contract_is_there() {
        let metrics = Metrics::new();
        metrics.count_error("refused");
        metrics.events_dead.get_or_create(&ReasonLabel { reason: "expired" }).inc();
        metrics.set_certificate_ends("broker", Some(clock::from_micros(1_777_636_800_500_000)));
        metrics.set_certificate_ends("client", Some(clock::now()));
        metrics.set_certificate_ends("client", None);
        let text = metrics.encode().unwrap();
        assert!(!text.contains("certificate=\"client\""), "{text}");
        for line in [
            "mqtt_certificate_expiry_timestamp_seconds{certificate=\"broker\"} 1777636800",
            "mqtt_connection_status 0",
            "mqtt_messages_published_total 0",
            "mqtt_publish_errors_total{reason=\"refused\"} 1",
            "mqtt_reconnect_attempts_total 0",
            "events_accepted_total 0",
            "outbox_pending_events 0",
            "outbox_oldest_pending_seconds 0.0",
            "outbox_in_flight_events 0",
            "events_late_total 0",
            "events_unheard_total 0",
            "events_dead_total{reason=\"expired\"} 1",
            "outbox_commit_seconds_count 0",
            "event_delivery_seconds_count 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_oldest_pending_event_ages() {
        let metrics = Metrics::new();
        metrics.set_oldest_pending(Some(clock::now() - Duration::from_secs(90)));
        let text = metrics.encode().unwrap();
        assert!(text.contains("outbox_oldest_pending_seconds 90."), "{text}");
    }
}
