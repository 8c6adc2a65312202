//! Reads some metrics at one point in time. The charts show the differences between two readings.

use std::fmt;

use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::metrics::{Metrics, duration_bounds};

/// The values of some metrics at one point in time. Counters start at 0 when the process starts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Events accepted.
    pub accepted: u64,
    /// Events acknowledged by the broker.
    pub published: u64,
    /// Pending events.
    pub pending: u64,
    /// The distribution of delivery times.
    pub delivery: Distribution,
}

/// A distribution of durations: the number of durations up to each bound, in seconds. The last bound is
/// infinite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution(Vec<(f64, u64)>);

impl Reading {
    /// Reads the current values of the metrics.
    pub fn take(metrics: &Metrics) -> Result<Self, fmt::Error> {
        Ok(Self {
            accepted: metrics.events_accepted.get(),
            published: metrics.mqtt_messages_published.get(),
            pending: u64::try_from(metrics.outbox_pending.get()).unwrap_or(0),
            delivery: Distribution::of_deliveries(metrics)?,
        })
    }
}

impl Distribution {
    /// Reads the histogram of delivery times. Parses the encoded text, because a histogram exposes its
    /// buckets only to an encoder.
    fn of_deliveries(metrics: &Metrics) -> Result<Self, fmt::Error> {
        let mut registry = Registry::default();
        registry.register("d", "", metrics.event_delivery_seconds.clone());
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(Self(text.lines().filter_map(bucket).collect()))
    }

    /// Returns the distribution whose buckets contain these numbers of durations, in the order of their bounds.
    pub fn of_buckets(counts: &[u64]) -> Self {
        let mut total = 0;
        let bounds = duration_bounds().chain([f64::INFINITY]).enumerate();
        let bucket = |(i, bound): (usize, f64)| {
            total += counts.get(i).copied().unwrap_or(0);
            (bound, total)
        };
        Self(bounds.map(bucket).collect())
    }

    /// Returns the number of durations in each bucket.
    pub fn buckets(&self) -> Vec<u64> {
        let before = [0].into_iter().chain(self.0.iter().map(|(_, count)| *count));
        self.0.iter().zip(before).map(|((_, count), before)| count.saturating_sub(before)).collect()
    }

    /// Returns the durations that were added since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |i: usize| earlier.0.get(i).map_or(0, |(_, count)| *count);
        Self(self.0.iter().enumerate().map(|(i, (le, n))| (*le, n.saturating_sub(before(i)))).collect())
    }

    /// Estimates a quantile in seconds, on the assumption that durations are distributed evenly within a
    /// bucket. If the quantile is above the last finite bound, returns that bound. Returns `None` if there
    /// are no durations.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "the result is an estimate")]
        let (wanted, as_f64) = (share * total as f64, |count: u64| count as f64);
        let mut lower = (0.0, 0);
        for &(bound, count) in &self.0 {
            if as_f64(count) >= wanted && count > lower.1 {
                let within = (wanted - as_f64(lower.1)) / as_f64(count - lower.1);
                return Some(if bound.is_finite() { lower.0 + (bound - lower.0) * within } else { lower.0 });
            }
            lower = (bound, count);
        }
        None
    }
}

/// Parses a line such as `d_bucket{le="0.5"} 7`.
fn bucket(line: &str) -> Option<(f64, u64)> {
    let (bound, count) = line.strip_prefix("d_bucket{le=\"")?.split_once("\"} ")?;
    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
    Some((bound, count.split(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(metrics: &Metrics) -> Reading {
        Reading::take(metrics).unwrap()
    }

    #[test]
    fn a_reading_contains_the_values_of_the_metrics() {
        let metrics = Metrics::new();
        metrics.events_accepted.inc_by(3);
        metrics.mqtt_messages_published.inc_by(2);
        metrics.outbox_pending.set(1);
        metrics.event_delivery_seconds.observe(0.000_3);
        let Reading { accepted, published, pending, delivery } = reading(&metrics);
        assert_eq!((accepted, published, pending), (3, 2, 1));
        assert_eq!(delivery.0.len(), 17);
        assert_eq!((delivery.0[0], delivery.0[1]), ((0.000_25, 0), (0.000_5, 1)));
        assert_eq!(delivery.0[16], (f64::INFINITY, 1));
    }

    #[test]
    fn a_distribution_is_the_same_after_a_round_trip_through_its_buckets() {
        let metrics = Metrics::new();
        for seconds in [0.000_1, 0.003, 0.003, 1.5, 1e6] {
            metrics.event_delivery_seconds.observe(seconds);
        }
        let delivery = reading(&metrics).delivery;
        assert_eq!(delivery.buckets().iter().sum::<u64>(), 5);
        assert_eq!(Distribution::of_buckets(&delivery.buckets()), delivery);
    }

    #[test]
    fn only_durations_since_the_earlier_reading_count() {
        let metrics = Metrics::new();
        (0..100).for_each(|_| metrics.event_delivery_seconds.observe(5.0));
        let before = reading(&metrics);
        assert_eq!(reading(&metrics).delivery.since(&before.delivery).quantile(0.5), None);
        (0..10).for_each(|_| metrics.event_delivery_seconds.observe(0.003));
        let median = reading(&metrics).delivery.since(&before.delivery).quantile(0.5).unwrap();
        assert!((0.002..=0.004).contains(&median), "{median}");
    }

    #[test]
    fn quantiles_are_within_their_bucket_and_at_most_the_last_bound() {
        let metrics = Metrics::new();
        (0..90).for_each(|_| metrics.event_delivery_seconds.observe(0.003));
        (0..10).for_each(|_| metrics.event_delivery_seconds.observe(1.5));
        let delivery = reading(&metrics).delivery;
        let quantile = |share| delivery.quantile(share).unwrap();
        assert!((0.002..=0.004).contains(&quantile(0.5)), "{}", quantile(0.5));
        assert!((1.024..=2.048).contains(&quantile(0.95)), "{}", quantile(0.95));
        metrics.event_delivery_seconds.observe(1e6);
        let longest = reading(&metrics).delivery.quantile(1.0).unwrap();
        assert!((longest - 8.192).abs() < 1e-9, "{longest}");
        assert_eq!(Distribution::default().quantile(0.5), None);
    }
}
