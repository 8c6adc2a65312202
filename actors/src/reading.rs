//! What some of the metrics say at one moment, as numbers: what is drawn over time is made of the differences.

use std::fmt;

use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::metrics::Metrics;

/// Metrics at one moment. Counters count from the start of the process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Events accepted.
    pub accepted: u64,
    /// Events acknowledged by the broker.
    pub published: u64,
    /// Events that wait.
    pub pending: u64,
    /// How long deliveries took.
    pub delivery: Distribution,
}

/// How durations are distributed: for each bound, in seconds, how many were not longer. The last bound is infinite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution(Vec<(f64, u64)>);

impl Reading {
    /// The metrics as they stand.
    pub fn of(metrics: &Metrics) -> Result<Self, fmt::Error> {
        Ok(Self {
            accepted: metrics.events_accepted.get(),
            published: metrics.mqtt_messages_published.get(),
            pending: u64::try_from(metrics.outbox_pending.get()).unwrap_or(0),
            delivery: Distribution::of_deliveries(metrics)?,
        })
    }
}

impl Distribution {
    /// A histogram tells its buckets to an encoder only.
    fn of_deliveries(metrics: &Metrics) -> Result<Self, fmt::Error> {
        let mut registry = Registry::default();
        registry.register("d", "", metrics.event_delivery_seconds.clone());
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(Self(text.lines().filter_map(bucket).collect()))
    }

    /// What was added since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |i: usize| earlier.0.get(i).map_or(0, |(_, count)| *count);
        Self(self.0.iter().enumerate().map(|(i, (le, n))| (*le, n.saturating_sub(before(i)))).collect())
    }

    /// About how long the given share of them took at most, in seconds: within a bucket they are taken to be spread evenly.
    /// Of what lies past the last bound nothing is known but that. `None` when there is none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "a share of a count, and an estimate")]
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

/// `d_bucket{le="0.5"} 7`
fn bucket(line: &str) -> Option<(f64, u64)> {
    let (bound, count) = line.strip_prefix("d_bucket{le=\"")?.split_once("\"} ")?;
    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
    Some((bound, count.split(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(metrics: &Metrics) -> Reading {
        Reading::of(metrics).unwrap()
    }

    #[test]
    fn a_reading_is_what_the_metrics_say() {
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
    fn only_what_was_added_since_counts() {
        let metrics = Metrics::new();
        (0..100).for_each(|_| metrics.event_delivery_seconds.observe(5.0));
        let before = reading(&metrics);
        assert_eq!(reading(&metrics).delivery.since(&before.delivery).quantile(0.5), None);
        (0..10).for_each(|_| metrics.event_delivery_seconds.observe(0.003));
        let median = reading(&metrics).delivery.since(&before.delivery).quantile(0.5).unwrap();
        assert!((0.002..=0.004).contains(&median), "{median}");
    }

    #[test]
    fn quantiles_are_within_their_bucket_and_end_at_the_last_bound() {
        let metrics = Metrics::new();
        (0..90).for_each(|_| metrics.event_delivery_seconds.observe(0.003));
        (0..10).for_each(|_| metrics.event_delivery_seconds.observe(1.5));
        let delivery = reading(&metrics).delivery;
        let at = |share| delivery.quantile(share).unwrap();
        assert!((0.002..=0.004).contains(&at(0.5)), "{}", at(0.5));
        assert!((1.024..=2.048).contains(&at(0.95)), "{}", at(0.95));
        metrics.event_delivery_seconds.observe(1e6);
        let longest = reading(&metrics).delivery.quantile(1.0).unwrap();
        assert!((longest - 8.192).abs() < 1e-9, "{longest}");
        assert_eq!(Distribution::default().quantile(0.5), None);
    }
}
