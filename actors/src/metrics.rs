//! All metrics of the service, with typed labels. Add a metric to the table below.

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

use crate::domain::{
    clock::{self, Timestamp},
    delivery::{DEFERRAL_REASONS, DeadReason},
};

/// A text format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, which every collector reads.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

const FIRST_BUCKET_SECONDS: f64 = 0.000_25;
const BUCKETS: u16 = 16;

/// The label of counters that are divided by reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The name of the kind of failure or of the reason for a rejection.
    pub reason: &'static str,
}

/// The label that identifies a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabel {
    /// `broker` or `client`.
    pub certificate: &'static str,
}

/// The labels of the request histogram.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The request's method, such as `GET`.
    pub method: String,
    /// The pattern of the route, such as `/api/v1/events/{event_id}`, never the path of a request.
    /// `unmatched` if no route matches.
    pub route: String,
    /// The status code of the response.
    pub status: u16,
}

/// Creates a histogram with buckets from 0.25 ms (one disk sync) to 8 s (a slow broker).
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(FIRST_BUCKET_SECONDS, 2.0, BUCKETS))
}

/// The reason in `events_dead_total` for events whose rows another program removed.
pub const MISSING: &str = "missing";

/// The value of `oldest_pending_at` if no event is pending.
const NONE_PENDING: i64 = i64::MAX;

/// Declares [`Metrics`]. Each metric is defined only by its entry in the table. The help text is also the
/// documentation of the field.
macro_rules! metrics {
    ($($visibility:vis $field:ident: $kind:ty = $value:expr, $name:literal, $help:literal;)*) => {
        /// All metrics of the service. Cloning shares them.
        #[derive(Clone)]
        pub struct Metrics {
            registry: Arc<Registry>,
            $(#[doc = $help] $visibility $field: $kind,)*
            /// The uptime at which the oldest pending event was accepted, in microseconds. `NONE_PENDING` if no
            /// event is pending.
            oldest_pending_at: Arc<AtomicI64>,
        }

        impl Metrics {
            /// Creates and registers the metrics.
            pub fn new() -> Self {
                let mut registry = Registry::default();
                let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
                registry.register("liveobject_build", "The version of liveobject", build);
                $(
                    let $field: $kind = $value;
                    registry.register($name, $help, $field.clone());
                )*
                let metrics =
                    Self { registry: Arc::new(registry), $($field,)* oldest_pending_at: Arc::new(NONE_PENDING.into()) };
                metrics.create_known_labels();
                metrics
            }
        }
    };
}

// The encoder appends `_total` to the names of counters and a full stop to the help texts.
metrics! {
    pub mqtt_connection_status: Gauge = Gauge::default(),
        "mqtt_connection_status", "1 while connected to the broker, otherwise 0";
    pub streams_open: Gauge = Gauge::default(),
        "streams_open", "Open event streams";
    pub streams_dropped: Counter = Counter::default(),
        "streams_dropped", "Event streams that were closed because the client did not read";
    pub mqtt_messages_published: Counter = Counter::default(),
        "mqtt_messages_published", "Events acknowledged by the broker";
    pub mqtt_publish_errors: Family<ReasonLabel, Counter> = Family::default(),
        "mqtt_publish_errors", "Events rejected by the broker, by reason";
    pub mqtt_reconnect_attempts: Counter = Counter::default(),
        "mqtt_reconnect_attempts", "Connection attempts after the first one with the current settings";
    mqtt_certificate_expiry: Family<CertificateLabel, Gauge> = Family::default(),
        "mqtt_certificate_expiry_timestamp_seconds",
        "When the broker's certificate and the client certificate expire, in seconds since 1970";
    pub events_accepted: Counter = Counter::default(),
        "events_accepted", "Accepted events, without duplicates";
    pub events_late: Counter = Counter::default(),
        "events_late", "Events published to the history topic because they were late";
    pub replayed_events: Counter = Counter::default(),
        "replayed_events", "Events of the log that were published again by a replay";
    pub events_unheard: Counter = Counter::default(),
        "events_unheard", "Events for which the broker had no matching subscribers";
    pub events_held: Gauge = Gauge::default(),
        "events_held", "Events waiting for a subscriber that was there before";
    pub events_heard_after_waiting: Counter = Counter::default(),
        "events_heard_after_waiting", "Events that waited for a subscriber and then had one";
    pub events_dead: Family<ReasonLabel, Counter> = Family::default(),
        "events_dead", "Events that became dead, by reason";
    pub outbox_pending: Gauge = Gauge::default(),
        "outbox_pending_events", "Events waiting to be acknowledged by the broker";
    oldest_pending_seconds: Gauge<f64, AtomicU64> = Gauge::default(),
        "outbox_oldest_pending_seconds", "How long the oldest pending event has been waiting";
    pub outbox_in_flight: Gauge = Gauge::default(),
        "outbox_in_flight_events", "Events sent to the broker but not acknowledged yet";
    pub disk_free: Gauge = Gauge::default(),
        "disk_free_bytes", "Free space on the disk of the database";
    pub outbox_commit_seconds: Histogram = durations(),
        "outbox_commit_seconds", "Duration of a commit, including the sync to disk";
    pub event_delivery_seconds: Histogram = durations(),
        "event_delivery_seconds", "Time from the acceptance of an event to the broker's acknowledgement";
    pub http_request_duration_seconds: Family<RequestLabels, Histogram, fn() -> Histogram>
        = Family::new_with_constructor(durations),
        "http_request_duration_seconds", "Time from the first byte of a request to its response";
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates the counters of all known reasons, with 0. Otherwise, a query for an error that has not occurred
    /// yet finds nothing, and `increase` misses the first error.
    fn create_known_labels(&self) {
        for reason in DeadReason::ALL.map(DeadReason::as_str).into_iter().chain([MISSING]) {
            drop(self.events_dead.get_or_create(&ReasonLabel { reason }));
        }
        // An expired or unreadable event is not sent, and a repeated refusal is counted with the broker's reasons.
        let not_refusals = [DeadReason::Expired, DeadReason::RefusedRepeatedly, DeadReason::Unreadable];
        let refusals = DeadReason::ALL.into_iter().filter(|reason| !not_refusals.contains(reason));
        for reason in refusals.map(DeadReason::as_str).chain(DEFERRAL_REASONS) {
            drop(self.mqtt_publish_errors.get_or_create(&ReasonLabel { reason }));
        }
    }

    /// Sets the age of the oldest pending event, or `None` if no event is pending. From now on, it increases.
    pub fn set_oldest_pending(&self, age: Option<Duration>) {
        let micros = |age: Duration| i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let at = age.map_or(NONE_PENDING, |age| clock::uptime().saturating_sub(micros(age)));
        self.oldest_pending_at.store(at, Ordering::Relaxed);
    }

    /// Sets when the certificate of the `broker` or the `client` expires, or `None` if there is no
    /// certificate.
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

    /// Counts an event that the broker rejected.
    pub fn count_error(&self, reason: &'static str) {
        self.mqtt_publish_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Encodes all metrics.
    pub fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        let waiting = match self.oldest_pending_at.load(Ordering::Relaxed) {
            NONE_PENDING => Duration::ZERO,
            at => Duration::from_micros(u64::try_from(clock::uptime() - at).unwrap_or(0)),
        };
        self.oldest_pending_seconds.set(waiting.as_secs_f64());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => to_prometheus(&text),
        })
    }
}

/// Converts OpenMetrics to the older format of Prometheus. As far as our metrics are concerned, they differ in
/// three ways: the older format has no type `info`; it names counters and infos with their suffix in `HELP`
/// and `TYPE`, too; and it has no end marker.
fn to_prometheus(text: &str) -> String {
    let mut converted = String::with_capacity(text.len() + 1024);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(keyword @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            if line != "# EOF" {
                converted.extend([line, "\n"]);
            }
            continue;
        };
        // The type follows the help of the same metric.
        let kind = match keyword {
            "TYPE" => rest,
            _ => lines.peek().and_then(|next| next.rsplit(' ').next()).unwrap_or_default(),
        };
        let (suffix, rest) = match (kind, keyword) {
            ("counter", _) => ("_total", rest),
            ("info", "TYPE") => ("_info", "gauge"),
            ("info", _) => ("_info", rest),
            _ => ("", rest),
        };
        converted.extend(["# ", keyword, " ", name, suffix, " ", rest, "\n"]);
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_metric_is_exposed() {
        let metrics = Metrics::new();
        metrics.count_error("refused");
        metrics.events_dead.get_or_create(&ReasonLabel { reason: "expired" }).inc();
        metrics.set_certificate_ends("broker", Some(clock::from_micros(1_777_636_800_500_000)));
        metrics.set_certificate_ends("client", Some(clock::now()));
        metrics.set_certificate_ends("client", None);
        let text = metrics.encode(Format::OpenMetrics).unwrap();
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
            "replayed_events_total 0",
            "events_unheard_total 0",
            "events_held 0",
            "events_heard_after_waiting_total 0",
            "events_dead_total{reason=\"expired\"} 1",
            "disk_free_bytes 0",
            "outbox_commit_seconds_count 0",
            "event_delivery_seconds_count 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_known_reason_is_counted_from_zero() {
        let text = Metrics::new().encode(Format::OpenMetrics).unwrap();
        for reason in ["not_authorized", "packet_too_large", "quota_exceeded", "unspecified_error"] {
            let line = format!("mqtt_publish_errors_total{{reason=\"{reason}\"}} 0");
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        for reason in DeadReason::ALL.map(DeadReason::as_str) {
            let line = format!("events_dead_total{{reason=\"{reason}\"}} 0");
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_format_of_prometheus_has_the_same_samples_and_the_names_with_suffixes() {
        let metrics = Metrics::new();
        let samples = |text: &str| -> Vec<_> {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        let text = metrics.encode(Format::Prometheus).unwrap();
        assert_eq!(samples(&text), samples(&metrics.encode(Format::OpenMetrics).unwrap()));
        for line in [
            "# HELP liveobject_build_info The version of liveobject.",
            "# TYPE liveobject_build_info gauge",
            "# HELP events_accepted_total Accepted events, without duplicates.",
            "# TYPE events_accepted_total counter",
            "# TYPE outbox_pending_events gauge",
            "# TYPE outbox_commit_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("EOF"), "{text}");
    }

    #[test]
    fn the_age_of_the_oldest_pending_event_increases() {
        let metrics = Metrics::new();
        metrics.set_oldest_pending(Some(Duration::from_secs(90)));
        let text = metrics.encode(Format::Prometheus).unwrap();
        assert!(text.contains("outbox_oldest_pending_seconds 90."), "{text}");
    }
}
