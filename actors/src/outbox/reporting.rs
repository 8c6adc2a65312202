//! Reporting: the counts, metrics, warnings and log lines of the outbox.

use std::{path::Path, time::Duration};

use chrono::TimeDelta;
use tokio::time::Instant;

use super::{delivery::InFlight, warnings::Warnings};
use crate::{
    disk::DiskSpace,
    domain::{
        clock::{Jump, Moment, Timestamp},
        delivery::{DeadReason, EventTimes, is_late},
        event::DetectionEvent,
        event_log::SeqGap,
        ids::{CameraId, Seq},
        numbers::saturate,
        settings::MqttSettings,
        status::{Warning, WarningKind},
        store_fault::StoreFault,
    },
    metrics::{MISSING, Metrics, ReasonLabel},
};

/// The live events that wait for a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Their number.
    pub events: u64,
    /// Since when they have been waiting for Home Assistant, if they are.
    pub home_assistant_since: Option<Timestamp>,
    /// Some of the topics that have no subscriber any more, and since when events have been waiting for each of them.
    pub topics: Vec<(String, Timestamp)>,
}

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
    oldest: Option<(Seq, EventTimes)>,
    looking_up_oldest: bool,
    /// Number of damaged rows found since startup.
    unreadable_found: u64,
    warnings: Warnings,
}

impl Reporting {
    /// Creates the report of a log with this number of dead events, of which at most `max_pending` may be
    /// pending.
    pub fn new(metrics: Metrics, dead: u64, max_pending: u64) -> Self {
        metrics.outbox_dead.set(gauge(dead));
        metrics.outbox_max_pending.set(gauge(max_pending));
        Self {
            metrics,
            dead,
            published: 0,
            refused: 0,
            oldest: None,
            looking_up_oldest: false,
            unreadable_found: 0,
            warnings: Warnings::default(),
        }
    }

    /// Returns when the oldest pending event was accepted, as the wall clock would have shown it if it had
    /// not been set since.
    pub fn oldest_pending_at(&self, now: Moment) -> Option<Timestamp> {
        self.oldest.map(|(_, times)| match now.age(times.accepted) {
            Some(age) if !is_close(now.wall - age, times.received_at) => now.wall - age,
            _ => times.received_at,
        })
    }

    /// Returns the current warnings. `problem` is why the database does not work, and what to do about it.
    pub fn warnings(&self, problem: Option<(StoreFault, &'static str)>, now: Instant) -> Vec<Warning> {
        let unavailable = problem.map(|(fault, remedy)| {
            let message = format!("No events are accepted, because {fault}. {remedy}");
            Warning::new(WarningKind::DatabaseUnavailable, message)
        });
        unavailable.into_iter().chain(self.warnings.shown(now)).collect()
    }

    /// Sets the gauges.
    pub fn set_gauges(&self, pending: u64, in_flight: usize) {
        self.metrics.outbox_pending.set(gauge(pending));
        self.metrics.outbox_in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }

    /// Updates the age of the oldest pending event, where `first` is the lowest seq that may be pending.
    /// Returns whether the caller must look up in the database when that event was accepted, and then call
    /// [`Reporting::oldest_found`].
    pub fn update_oldest(
        &mut self,
        first: Seq,
        last_seq: Seq,
        times: impl FnOnce() -> Option<EventTimes>,
        now: Moment,
    ) -> bool {
        let mut must_look_up = false;
        if first > last_seq {
            self.oldest = None;
        } else if self.oldest.is_none_or(|(seq, _)| seq != first) {
            match times() {
                Some(times) => self.oldest = Some((first, times)),
                None => must_look_up = !std::mem::replace(&mut self.looking_up_oldest, true),
            }
        }
        let age = |(_, times): (Seq, EventTimes)| now.estimated_age(times.accepted, times.received_at);
        self.metrics.set_oldest_pending(self.oldest.map(age));
        must_look_up
    }

    /// Records the result of the lookup; `times` is `None` if it failed or the event is gone.
    pub fn oldest_found(&mut self, seq: Seq, times: Option<EventTimes>) {
        self.looking_up_oldest = false;
        if let Some(times) = times {
            self.oldest = Some((seq, times));
        }
    }

    /// Records a commit of this many new events.
    pub fn committed(&self, events: usize, took: Duration) {
        self.metrics.outbox_commit_seconds.observe(took.as_secs_f64());
        self.metrics.events_accepted.inc_by(u64::try_from(events).unwrap_or(0));
    }

    /// Records an event that the broker has acknowledged. `unheard` states whether it had no subscriber.
    pub fn delivered(&mut self, seq: Seq, in_flight: InFlight, unheard: bool, now: Moment) {
        let InFlight { times, topic, late, .. } = in_flight;
        self.published += 1;
        self.metrics.mqtt_messages_published.inc();
        let waited = now.estimated_age(times.accepted, times.received_at);
        self.metrics.event_delivery_seconds.observe(waited.as_secs_f64());
        if late {
            self.metrics.events_late.inc();
        }
        if unheard {
            self.metrics.events_unheard.inc();
        }
        tracing::debug!(seq = seq.0, topic, late, unheard, "event acknowledged");
        if unheard {
            self.warnings.unheard(topic, late, Instant::now(), now.wall);
        } else {
            self.warnings.heard(&topic, late);
        }
    }

    /// Sets what waits for a subscriber. The start and the end of the wait are logged.
    pub fn set_held(&mut self, held: Option<Held>) {
        self.metrics.events_held.set(held.as_ref().map_or(0, |held| saturate(held.events)));
        match (&self.warnings.held, &held) {
            (None, Some(Held { home_assistant_since: Some(_), .. })) => {
                tracing::info!("live events wait for Home Assistant");
            }
            (None, Some(Held { topics, .. })) => {
                let topic = topics.first().map(|(topic, _)| topic);
                tracing::info!(topic, "live events wait for a subscriber");
            }
            (Some(Held { events, .. }), None) => tracing::info!(events, "live events no longer wait"),
            _ => {}
        }
        self.warnings.held = held;
    }

    /// Returns the number of events that wait for a subscriber.
    pub fn held(&self) -> u64 {
        self.warnings.held.as_ref().map_or(0, |held| held.events)
    }

    /// Records events that waited for a subscriber until they were late.
    pub fn given_up(&mut self, events: u64) {
        self.metrics.events_unheard.inc_by(events);
    }

    /// Records an event that waited for a subscriber and then had one.
    pub fn heard_after_waiting(&self) {
        self.metrics.events_heard_after_waiting.inc();
    }

    /// Records a refusal by the broker.
    pub fn refused(&mut self, reason: &'static str) {
        self.refused += 1;
        self.metrics.count_error(reason);
    }

    /// Records a dead event.
    pub fn died(&mut self, seq: Seq, reason: DeadReason, topic: Option<String>) {
        if reason == DeadReason::Unreadable {
            self.warnings.unreadable += 1;
            self.unreadable_found += 1;
        }
        tracing::warn!(seq = seq.0, reason = reason.as_str(), topic, "event is dead");
        self.dead += 1;
        self.metrics.outbox_dead.set(gauge(self.dead));
        self.metrics.events_dead.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// Warns about a database that is older than the one that was used last.
    pub fn database_restored(&mut self, gap: SeqGap) {
        tracing::warn!(
            events = gap.events(),
            from = gap.first.0,
            to = gap.last.0,
            "the database is older than the one that was used last: events that had been accepted are \
             not in it; new events get higher seqs"
        );
        self.warnings.restored = Some(gap);
    }

    /// Sets the path of the file with the last seq, if it cannot be written.
    pub fn set_failed_seq_file(&mut self, path: Option<&Path>) {
        if self.warnings.failed_seq_file.as_deref() != path {
            self.warnings.failed_seq_file = path.map(Path::to_owned);
        }
    }

    /// Records the space on the disk.
    pub fn disk_space(&mut self, space: Option<DiskSpace>) {
        let Some(space) = space else { return };
        self.metrics.disk_free.set(gauge(space.free));
        self.warnings.low_disk = space.is_low().then_some(space);
    }

    /// Records how many standbys of the database server can lack accepted events.
    pub fn asynchronous_standbys(&mut self, standbys: u64) {
        if standbys > 0 && self.warnings.asynchronous_standbys == 0 {
            tracing::warn!(
                standbys,
                "the database server has standbys, but commits do not wait for one: if one of them takes over, it can \
                 lack accepted events; set synchronous_standby_names on the server"
            );
        }
        self.warnings.asynchronous_standbys = standbys;
    }

    /// Records the size of the database with its write-ahead log.
    pub fn database_size(&self, bytes: u64) {
        self.metrics.database_bytes.set(gauge(bytes));
    }

    /// Returns whether dead events are listed whose rows are damaged.
    pub fn has_unreadable(&self) -> bool {
        self.warnings.unreadable > 0
    }

    /// Returns the number of damaged rows that were found since startup.
    pub fn unreadable_found(&self) -> u64 {
        self.unreadable_found
    }

    /// Sets the number of dead events whose rows are damaged and that are not dismissed.
    pub fn set_unreadable(&mut self, events: u64) {
        self.warnings.unreadable = events;
    }

    /// Returns whether events in the database are damaged or missing.
    pub fn is_damaged(&self) -> bool {
        self.warnings.unreadable > 0 || self.warnings.missing > 0
    }

    /// Records that the rows of this many events are missing in the database.
    pub fn missing(&mut self, events: u64) {
        if events > 0 {
            self.metrics.events_dead.get_or_create(&ReasonLabel { reason: MISSING }).inc_by(events);
            self.warnings.missing += events;
        }
    }

    /// Subtracts events that are no longer dead, or no longer listed as dead.
    pub fn subtract_dead(&mut self, events: u64) {
        self.dead = self.dead.saturating_sub(events);
        self.metrics.outbox_dead.set(gauge(self.dead));
    }

    /// Warns about events that are late when they arrive.
    pub fn check_late_arrivals(&mut self, events: &[DetectionEvent], settings: &MqttSettings, now: Moment) {
        for event in events {
            let times = event.times(now);
            if !is_late(settings, times, now) {
                continue;
            }
            let seconds = times.age_on_arrival().num_seconds();
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

    /// Warns about a wall clock that was set.
    pub fn clock_jumped(&mut self, jump: Jump) {
        tracing::warn!(
            seconds = jump.by.num_seconds(),
            now = %jump.to.format("%F %T UTC"),
            "the clock of this machine was set; the ages of events are not affected"
        );
        self.warnings.clock_jumped(jump, Instant::now());
    }

    /// Drops the warning about missing subscribers, because events go to other topics from now on.
    pub fn topics_changed(&mut self) {
        self.warnings.topics_changed();
    }
}

/// Returns a number as the value of a gauge.
fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns whether two times differ by so little that the wall clock cannot have been set in between.
fn is_close(a: Timestamp, b: Timestamp) -> bool {
    (a - b).abs() < TimeDelta::seconds(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    fn reporting() -> Reporting {
        Reporting::new(Metrics::new(), 0, 10)
    }

    fn moment(micros: i64) -> Moment {
        Moment::at(clock::from_micros(micros))
    }

    fn times(micros: i64) -> EventTimes {
        EventTimes::new(clock::from_micros(micros), moment(micros))
    }

    #[test]
    fn the_oldest_pending_event_is_looked_up_once_if_it_is_not_in_memory() {
        let mut reporting = reporting();
        assert!(!reporting.update_oldest(Seq(1), Seq(0), || None, moment(9)), "nothing is pending");
        assert!(reporting.update_oldest(Seq(1), Seq(5), || None, moment(9)));
        assert!(!reporting.update_oldest(Seq(1), Seq(5), || None, moment(9)), "the lookup is running");
        reporting.oldest_found(Seq(1), Some(times(7)));
        assert!(!reporting.update_oldest(Seq(1), Seq(5), || None, moment(9)), "it is known");
        assert_eq!(reporting.oldest_pending_at(moment(9)), Some(clock::from_micros(7)));
        assert!(!reporting.update_oldest(Seq(2), Seq(5), || Some(times(8)), moment(9)));
        assert_eq!(reporting.oldest_pending_at(moment(9)), Some(clock::from_micros(8)));
        assert!(!reporting.update_oldest(Seq(6), Seq(5), || None, moment(9)));
        assert_eq!(reporting.oldest_pending_at(moment(9)), None);
    }

    #[test]
    fn the_age_of_the_oldest_pending_event_is_not_affected_by_a_changed_clock() {
        let mut reporting = reporting();
        reporting.update_oldest(Seq(1), Seq(5), || Some(times(0)), moment(9));
        let hour_later = 3_600_000_000;
        let set_forward = Moment { wall: clock::from_micros(10 * hour_later), ..moment(hour_later) };
        assert_eq!(reporting.oldest_pending_at(moment(hour_later)), Some(clock::from_micros(0)));
        assert_eq!(reporting.oldest_pending_at(set_forward), Some(clock::from_micros(9 * hour_later)));
    }

    #[test]
    fn a_failed_lookup_is_repeated() {
        let mut reporting = reporting();
        assert!(reporting.update_oldest(Seq(1), Seq(5), || None, moment(9)));
        reporting.oldest_found(Seq(1), None);
        assert!(reporting.update_oldest(Seq(1), Seq(5), || None, moment(9)));
    }

    #[tokio::test]
    async fn a_delivered_event_is_counted_and_its_topic_checked_for_subscribers() {
        let mut reporting = reporting();
        let in_flight = |late| InFlight {
            times: times(0),
            camera_id: CameraId::parse("c").unwrap(),
            topic: "a/b".to_owned(),
            late,
            reports_subscribers: true,
            bytes: 1,
            awaited: None,
            has_waited: false,
            sent_at: Instant::now(),
        };
        reporting.delivered(Seq(1), in_flight(true), true, moment(1));
        assert_eq!(reporting.warnings(None, Instant::now()), [], "nobody needs to subscribe to late events");
        reporting.delivered(Seq(2), in_flight(false), false, moment(1));
        assert_eq!(reporting.warnings(None, Instant::now()), []);
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
        assert_eq!((reporting.dead, reporting.metrics.outbox_dead.get()), (1, 1));
        let reason = ReasonLabel { reason: "expired" };
        assert_eq!(reporting.metrics.events_dead.get_or_create(&reason).get(), 2, "the metric stays");
    }
}
