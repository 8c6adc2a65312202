//! All metrics of the service, with typed labels. Add a metric to the table below.

mod node;
mod process;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, text::encode},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};

pub use self::node::NodeMetrics;
use self::{
    Naming::{Fixed, Prefixed, Renamed, RenamedFrom},
    process::Process,
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
    /// `broker`, `client`, or `server` for the one of the HTTP server.
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
    Histogram::new(duration_bounds())
}

/// Returns the upper bounds of the buckets of all histograms, in seconds. One more bucket has no bound.
pub(crate) fn duration_bounds() -> impl Iterator<Item = f64> {
    exponential_buckets(FIRST_BUCKET_SECONDS, 2.0, BUCKETS)
}

/// The reason in `events_dead_total` for events whose rows another program removed.
pub const MISSING: &str = "missing";

/// The value of `oldest_pending_at` if no event is pending.
const NONE_PENDING: i64 = i64::MAX;

/// How a metric is named.
#[derive(Debug, Clone, Copy)]
enum Naming {
    /// The name in the table without a prefix, because other systems expect it.
    Fixed,
    /// With the prefix `liveobject_`.
    Prefixed,
    /// With the prefix, and also without it, as in earlier releases. The next release makes it `Prefixed`.
    Renamed,
    /// With the prefix, and also with this name, as in earlier releases. The next release makes it `Prefixed`.
    RenamedFrom(&'static str),
}

/// The prefix of the names of our own metrics.
const PREFIX: &str = "liveobject_";

impl Naming {
    fn register(
        self,
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        metric: impl Metric + Clone,
    ) {
        let old = match self {
            Self::Fixed => return registry.register(name, help, metric),
            Self::Prefixed => None,
            Self::Renamed => Some(name),
            Self::RenamedFrom(old) => Some(old),
        };
        let new = format!("{PREFIX}{name}");
        registry.register(&new, help, metric.clone());
        if let Some(old) = old {
            let suffix = if let MetricType::Counter = metric.metric_type() { "_total" } else { "" };
            let help = format!("Replaced by {new}{suffix}; this name will be removed in the next release");
            registry.register(old, help, metric);
        }
    }
}

/// A gauge that is missing until it is set.
#[derive(Debug, Clone)]
pub struct OptionalGauge(Arc<AtomicI64>);

/// The value of an [`OptionalGauge`] that is not set. Sizes are never negative.
const NOT_SET: i64 = -1;

impl Default for OptionalGauge {
    fn default() -> Self {
        Self(Arc::new(NOT_SET.into()))
    }
}

impl OptionalGauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the value; `None` if it is not set.
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|value| *value != NOT_SET)
    }
}

impl EncodeMetric for OptionalGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.get().map_or(Ok(()), |value| encoder.encode_gauge(&value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// Declares [`Metrics`]. Each metric is defined only by its entry in the table. The help text is also the
/// documentation of the field.
macro_rules! metrics {
    ($($visibility:vis $field:ident: $kind:ty = $value:expr, $name:literal, $naming:expr, $help:literal;)*) => {
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
            /// Creates and registers the metrics. Those of the node, if this is one, are registered with them.
            pub fn of_node(node: Option<&NodeMetrics>) -> Self {
                let mut registry = Registry::default();
                if let Some(node) = node {
                    node.register(&mut registry);
                }
                let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
                registry.register("liveobject_build", "The version of liveobject", build);
                $(
                    let $field: $kind = $value;
                    $naming.register(&mut registry, $name, $help, $field.clone());
                )*
                registry.register_collector(Box::new(Process::new(clock::now())));
                let metrics =
                    Self { registry: Arc::new(registry), $($field,)* oldest_pending_at: Arc::new(NONE_PENDING.into()) };
                metrics.create_known_labels();
                metrics
            }
        }
    };
}

// The encoder appends `_total` to the names of counters and a full stop to the help texts.
// `process.rs` has the metrics of the process.
metrics! {
    pub mqtt_connection_status: Gauge = Gauge::default(),
        "mqtt_connection_status", Fixed, "1 while connected to the broker, otherwise 0";
    pub streams_open: Gauge = Gauge::default(),
        "streams_open", Renamed, "Open event streams";
    pub streams_dropped: Counter = Counter::default(),
        "streams_dropped", Renamed, "Event streams that were closed because the client did not read";
    pub mqtt_messages_published: Counter = Counter::default(),
        "mqtt_messages_published", Fixed, "Events acknowledged by the broker";
    pub mqtt_publish_errors: Family<ReasonLabel, Counter> = Family::default(),
        "mqtt_publish_errors", Fixed, "Events rejected by the broker, by reason";
    pub mqtt_reconnect_attempts: Counter = Counter::default(),
        "mqtt_reconnect_attempts", Fixed, "Connection attempts after the first one with the current settings";
    certificate_expiry: Family<CertificateLabel, Gauge> = Family::default(),
        "certificate_expiry_timestamp_seconds", RenamedFrom("mqtt_certificate_expiry_timestamp_seconds"),
        "When the certificate of the broker, the client or the HTTP server expires, in seconds since 1970";
    pub events_accepted: Counter = Counter::default(),
        "events_accepted", Renamed, "Accepted events, without duplicates";
    pub events_late: Counter = Counter::default(),
        "events_late", Renamed, "Events published to the history topic because they were late";
    pub replayed_events: Counter = Counter::default(),
        "replayed_events", Renamed, "Events of the log that were published again by a replay";
    pub events_unheard: Counter = Counter::default(),
        "events_unheard", Renamed, "Events for which the broker had no matching subscribers";
    pub events_held: Gauge = Gauge::default(),
        "events_held", Renamed, "Events waiting for a subscriber that was there before";
    pub events_heard_after_waiting: Counter = Counter::default(),
        "events_heard_after_waiting", Renamed, "Events that waited for a subscriber and then had one";
    pub events_dead: Family<ReasonLabel, Counter> = Family::default(),
        "events_dead", Renamed, "Events that became dead, by reason";
    pub outbox_pending: Gauge = Gauge::default(),
        "outbox_pending_events", Renamed, "Events waiting to be acknowledged by the broker";
    oldest_pending_seconds: Gauge<f64, AtomicU64> = Gauge::default(),
        "outbox_oldest_pending_seconds", Renamed, "How long the oldest pending event has been waiting";
    pub outbox_in_flight: Gauge = Gauge::default(),
        "outbox_in_flight_events", Renamed, "Events sent to the broker but not acknowledged yet";
    pub outbox_dead: Gauge = Gauge::default(),
        "outbox_dead_events", Prefixed, "Dead events that are neither sent again nor dismissed";
    pub outbox_max_pending: Gauge = Gauge::default(),
        "outbox_max_pending", Prefixed, "The number of pending events above which no events are accepted";
    pub database_bytes: OptionalGauge = OptionalGauge::default(),
        "database_bytes", Prefixed,
        "Size of the database file and its write-ahead log, or of the database on its server";
    pub disk_free: OptionalGauge = OptionalGauge::default(),
        "disk_free_bytes", Renamed,
        "Free space on the disk of the database; missing if the database is on a server";
    pub outbox_commit_seconds: Histogram = durations(),
        "outbox_commit_seconds", Renamed, "Duration of a commit, including the sync to disk";
    pub event_delivery_seconds: Histogram = durations(),
        "event_delivery_seconds", Renamed,
        "Time from the acceptance of an event to the broker's acknowledgement";
    pub http_request_duration_seconds: Family<RequestLabels, Histogram, fn() -> Histogram>
        = Family::new_with_constructor(durations),
        "http_request_duration_seconds", Renamed, "Time from the first byte of a request to its response";
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
    /// Creates and registers the metrics of a service that is not a node.
    pub fn new() -> Self {
        Self::of_node(None)
    }

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

    /// Sets when the certificate of the `broker`, the `client` or the `server` expires, or `None` if there is
    /// no certificate.
    pub fn set_certificate_ends(&self, certificate: &'static str, end: Option<Timestamp>) {
        let label = CertificateLabel { certificate };
        match end {
            Some(end) => {
                self.certificate_expiry.get_or_create(&label).set(end.timestamp());
            }
            None => {
                self.certificate_expiry.remove(&label);
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
mod tests;
