//! Reporting: the counts, metrics, warnings and log lines of the outbox.

use std::time::Duration;

use tokio::time::Instant;

use super::{delivery::InFlight, warnings::Warnings};
use crate::{
    domain::{
        clock::Timestamp,
        delivery::{DeadReason, is_late},
        event::DetectionEvent,
        ids::{CameraId, Seq},
        settings::MqttSettings,
        status::Warning,
    },
    metrics::{Metrics, ReasonLabel},
};

/// What the outbox reports about itself.
#[derive(Debug)]
pub struct Reporting {
    metrics: Metrics,
    /// Number of dead events that are not dismissed.
    pub dead: u64,
    /// Number of events that the broker has acknowledged since startup.
    pub published: u64,
    /// Number of refusals by the broker since startup.
    pub refused: u64,
    /// The first pending event, and when it was accepted.
    oldest: Option<(Seq, Timestamp)>,
    looking_up_oldest: bool,
    warnings: Warnings,
}

impl Reporting {
    /// Creates the report of a log with this number of dead events.
    pub fn new(metrics: Metrics, dead: u64) -> Self {
        Self {
            metrics,
            dead,
            published: 0,
            refused: 0,
            oldest: None,
            looking_up_oldest: false,
            warnings: Warnings::default(),
        }
    }

    /// Returns when the oldest pending event was accepted.
    pub fn oldest_pending_at(&self) -> Option<Timestamp> {
        self.oldest.map(|(_, at)| at)
    }

    /// Returns the current warnings.
    pub fn warnings(&self, now: Instant) -> Vec<Warning> {
        self.warnings.shown(now)
    }

    /// Sets the gauges.
    pub fn set_gauges(&self, pending: u64, in_flight: usize) {
        self.metrics.outbox_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.metrics.outbox_in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }

    /// Updates the age of the oldest pending event, where `first` is the lowest seq that may be pending.
    /// Returns whether the caller must look up in the database when that event was accepted, and then call
    /// [`Reporting::oldest_found`].
    pub fn update_oldest(
        &mut self,
        first: Seq,
        last_seq: Seq,
        received_at: impl FnOnce() -> Option<Timestamp>,
    ) -> bool {
        let mut must_look_up = false;
        if first > last_seq {
            self.oldest = None;
        } else if self.oldest.is_none_or(|(seq, _)| seq != first) {
            match received_at() {
                Some(at) => self.oldest = Some((first, at)),
                None => must_look_up = !std::mem::replace(&mut self.looking_up_oldest, true),
            }
        }
        self.metrics.set_oldest_pending(self.oldest_pending_at());
        must_look_up
    }

    /// Records the result of the lookup; `at` is `None` if it failed or the event is gone.
    pub fn oldest_found(&mut self, seq: Seq, at: Option<Timestamp>) {
        self.looking_up_oldest = false;
        if let Some(at) = at {
            self.oldest = Some((seq, at));
        }
    }

    /// Records a commit of this many new events.
    pub fn committed(&self, events: usize, took: Duration) {
        self.metrics.outbox_commit_seconds.observe(took.as_secs_f64());
        self.metrics.events_accepted.inc_by(u64::try_from(events).unwrap_or(0));
    }

    /// Records an event that the broker has acknowledged. `unheard` states whether it had no subscriber.
    pub fn delivered(&mut self, seq: Seq, in_flight: InFlight, unheard: bool, now: Timestamp) {
        let InFlight { received_at, topic, late, .. } = in_flight;
        self.published += 1;
        self.metrics.mqtt_messages_published.inc();
        let waited = (now - received_at).to_std().unwrap_or_default();
        self.metrics.event_delivery_seconds.observe(waited.as_secs_f64());
        if late {
            self.metrics.events_late.inc();
        }
        if unheard {
            self.metrics.events_unheard.inc();
        }
        tracing::debug!(seq = seq.0, topic, late, unheard, "event acknowledged");
        self.warnings.acknowledged(unheard.then_some(topic));
    }

    /// Records a refusal by the broker.
    pub fn refused(&mut self, reason: &'static str) {
        self.refused += 1;
        self.metrics.count_error(reason);
    }

    /// Records a dead event.
    pub fn died(&mut self, seq: Seq, reason: DeadReason, topic: Option<String>) {
        tracing::warn!(seq = seq.0, reason = reason.as_str(), topic, "event is dead");
        self.dead += 1;
        self.metrics.events_dead.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// Subtracts events that are no longer dead, or no longer listed as dead.
    pub fn subtract_dead(&mut self, events: u64) {
        self.dead = self.dead.saturating_sub(events);
    }

    /// Warns about events that are late when they arrive.
    pub fn check_late_arrivals(
        &mut self,
        events: &[DetectionEvent],
        settings: &MqttSettings,
        now: Timestamp,
    ) {
        for event in events {
            if !is_late(settings, event.timestamp(), now, now) {
                continue;
            }
            let seconds = (now - event.timestamp()).num_seconds();
            if self.warnings.late_on_arrival(event.camera_id(), seconds, Instant::now()) {
                tracing::warn!(
                    camera_id = %event.camera_id(),
                    seconds,
                    "an event was late when it arrived: a clock is wrong, or the source is slow"
                );
            }
        }
    }

    /// Warns about a camera that was not registered because the limit is reached.
    pub fn camera_not_registered(&mut self, camera_id: CameraId, max: u32) {
        if self.warnings.too_many_cameras(camera_id.clone(), max, Instant::now()) {
            tracing::warn!(%camera_id, max, "a camera was not registered: the camera limit is reached");
        }
    }

    /// Drops the warning about missing subscribers, because events go to other topics from now on.
    pub fn topics_changed(&mut self) {
        self.warnings.acknowledged(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    fn reporting() -> Reporting {
        Reporting::new(Metrics::new(), 0)
    }

    fn timestamp(micros: i64) -> Timestamp {
        clock::from_micros(micros)
    }

    #[test]
    fn the_oldest_pending_event_is_looked_up_once_if_it_is_not_in_memory() {
        let mut reporting = reporting();
        assert!(!reporting.update_oldest(Seq(1), Seq(0), || None), "nothing is pending");
        assert!(reporting.update_oldest(Seq(1), Seq(5), || None));
        assert!(!reporting.update_oldest(Seq(1), Seq(5), || None), "the lookup is running");
        reporting.oldest_found(Seq(1), Some(timestamp(7)));
        assert!(!reporting.update_oldest(Seq(1), Seq(5), || None), "it is known");
        assert_eq!(reporting.oldest_pending_at(), Some(timestamp(7)));
        assert!(!reporting.update_oldest(Seq(2), Seq(5), || Some(timestamp(8))));
        assert_eq!(reporting.oldest_pending_at(), Some(timestamp(8)));
        assert!(!reporting.update_oldest(Seq(6), Seq(5), || None));
        assert_eq!(reporting.oldest_pending_at(), None);
    }

    #[test]
    fn a_failed_lookup_is_repeated() {
        let mut reporting = reporting();
        assert!(reporting.update_oldest(Seq(1), Seq(5), || None));
        reporting.oldest_found(Seq(1), None);
        assert!(reporting.update_oldest(Seq(1), Seq(5), || None));
    }

    #[tokio::test]
    async fn a_delivered_event_is_counted_and_its_topic_checked_for_subscribers() {
        let mut reporting = reporting();
        let in_flight = |late| InFlight { received_at: timestamp(0), topic: "a/b".to_owned(), late };
        reporting.delivered(Seq(1), in_flight(true), true, timestamp(1));
        assert_eq!(
            reporting.warnings(Instant::now())[0].kind,
            crate::domain::status::WarningKind::NoSubscribers
        );
        reporting.delivered(Seq(2), in_flight(false), false, timestamp(1));
        assert_eq!(reporting.warnings(Instant::now()), []);
        let metrics = &reporting.metrics;
        assert_eq!((reporting.published, metrics.mqtt_messages_published.get()), (2, 2));
        assert_eq!((metrics.events_late.get(), metrics.events_unheard.get()), (1, 1));
    }

    #[test]
    fn dead_events_are_counted_until_they_are_no_longer_listed() {
        let mut reporting = reporting();
        reporting.died(Seq(1), DeadReason::Expired, None);
        reporting.died(Seq(2), DeadReason::Expired, None);
        reporting.subtract_dead(1);
        assert_eq!(reporting.dead, 1);
        let reason = ReasonLabel { reason: "expired" };
        assert_eq!(reporting.metrics.events_dead.get_or_create(&reason).get(), 2, "the metric stays");
    }
}
