//! Watches the service's own availability topic. Home Assistant shows every entity as unavailable if somebody
//! else publishes `offline` there: a second service with the same topic prefix, or the broker, which may publish
//! the last will of an old session after the new one has begun. Decides when to publish the birth message again.
//! Performs no I/O.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::domain::{
    clock::Timestamp,
    status::{Warning, WarningKind},
};

/// Minimum time between two corrections.
const CORRECT_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Maximum number of corrections in an hour. Without it, two services that correct each other would never stop.
const MAX_PER_HOUR: usize = 10;
const HOUR: Duration = Duration::from_hours(1);

/// How long the warning is shown after the last foreign message.
const SHOWN_FOR: Duration = HOUR;

/// A broker may close the connection because the subscription is not allowed. After this many connections in a
/// row that end without a message on the topic, the service does not subscribe for [`UNSUBSCRIBED_FOR`].
const MAX_UNCONFIRMED: u32 = 2;
const UNSUBSCRIBED_FOR: Duration = HOUR;

/// Maximum length of a foreign message in the warning.
const SHOWN_CHARS: usize = 32;

/// Messages on the availability topic that are not the birth message.
#[derive(Debug)]
struct Foreign {
    count: u64,
    since: Timestamp,
    newest: String,
    at: Instant,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Availability {
    foreign: Option<Foreign>,
    /// Whether a correction is due, now or later.
    must_correct: bool,
    /// The corrections of the last hour.
    corrections: VecDeque<Instant>,
    /// Whether nothing has arrived yet on the current connection, if it subscribes to the topic.
    is_unconfirmed: bool,
    unconfirmed_in_a_row: u32,
    subscribe_again_at: Option<Instant>,
}

impl Availability {
    /// Returns whether the new connection subscribes to the topic.
    pub fn connected(&mut self, now: Instant) -> bool {
        self.subscribe_again_at.take_if(|at| *at <= now);
        self.must_correct = false;
        self.is_unconfirmed = self.subscribe_again_at.is_none();
        self.is_unconfirmed
    }

    /// Records that the connection ended, but not on request.
    pub fn ended(&mut self, now: Instant) {
        self.must_correct = false;
        if std::mem::take(&mut self.is_unconfirmed) {
            self.unconfirmed_in_a_row += 1;
            if self.unconfirmed_in_a_row >= MAX_UNCONFIRMED {
                self.unconfirmed_in_a_row = 0;
                self.subscribe_again_at = Some(now + UNSUBSCRIBED_FOR);
            }
        }
    }

    /// Records a message on the topic. Returns after which time to call [`Availability::take_correction`], if
    /// the message is not the birth message and no correction is due yet.
    pub fn arrived(
        &mut self,
        payload: &[u8],
        birth: &str,
        now: Instant,
        wall: Timestamp,
    ) -> Option<Duration> {
        (self.is_unconfirmed, self.unconfirmed_in_a_row) = (false, 0);
        if payload == birth.as_bytes() {
            self.must_correct = false;
            return None;
        }
        let is_current = |foreign: &Foreign| now.saturating_duration_since(foreign.at) < SHOWN_FOR;
        let (count, since) = match self.foreign.take().filter(is_current) {
            Some(Foreign { count, since, .. }) => (count.saturating_add(1), since),
            None => (1, wall),
        };
        let newest = String::from_utf8_lossy(payload).chars().take(SHOWN_CHARS).collect();
        self.foreign = Some(Foreign { count, since, newest, at: now });
        if std::mem::replace(&mut self.must_correct, true) {
            return None;
        }
        Some(self.wait(now))
    }

    /// Returns how long to wait before the next correction.
    fn wait(&mut self, now: Instant) -> Duration {
        while self.corrections.front().is_some_and(|at| now.saturating_duration_since(*at) >= HOUR) {
            self.corrections.pop_front();
        }
        let is_full = self.corrections.len() >= MAX_PER_HOUR;
        let hourly = self.corrections.front().filter(|_| is_full).map(|at| *at + HOUR);
        let soonest = self.corrections.back().map(|at| *at + CORRECT_AGAIN_AFTER);
        soonest.max(hourly).map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Returns whether to publish the birth message now. If so, it counts as a correction.
    pub fn take_correction(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.must_correct) {
            return false;
        }
        self.corrections.push_back(now);
        if self.corrections.len() > MAX_PER_HOUR {
            self.corrections.pop_front();
        }
        true
    }

    /// Returns the warning about foreign messages on `topic`.
    pub fn warning(&self, topic: &str, now: Instant) -> Option<Warning> {
        let foreign = self.foreign.as_ref();
        let Foreign { count, since, newest, .. } =
            foreign.filter(|foreign| now.saturating_duration_since(foreign.at) < SHOWN_FOR)?;
        let times = if *count == 1 { "once" } else { &format!("{count} times") };
        Some(Warning {
            kind: WarningKind::AvailabilityOverwritten,
            message: format!(
                "Somebody else has published to the availability topic {topic} {times} since {}, the last time \
                 {newest:?}. Home Assistant then shows all entities as unavailable, so the birth message was \
                 published again (at most {MAX_PER_HOUR} times an hour). There is probably a second service with \
                 the same topic prefix: stop it, or give it a topic_prefix of its own. If it happened only once, \
                 the broker may have published the last will of an earlier connection late.",
                since.format("%F %T UTC")
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);

    fn arrived(availability: &mut Availability, payload: &str, now: Instant) -> Option<Duration> {
        availability.arrived(payload.as_bytes(), "online", now, clock::from_micros(0))
    }

    #[tokio::test]
    async fn a_foreign_message_is_corrected_at_once_and_then_at_most_every_five_seconds() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        assert!(availability.connected(start));
        assert_eq!(arrived(&mut availability, "online", start), None);
        assert_eq!(arrived(&mut availability, "offline", start), Some(Duration::ZERO));
        assert!(availability.take_correction(start));
        assert_eq!(arrived(&mut availability, "online", start), None, "our own message");
        assert_eq!(arrived(&mut availability, "", start + SECOND), Some(4 * SECOND));
        assert_eq!(arrived(&mut availability, "offline", start + SECOND), None, "the correction is planned");
        assert!(availability.take_correction(start + 5 * SECOND));
        assert!(!availability.take_correction(start + 5 * SECOND), "once");
        assert_eq!(arrived(&mut availability, "offline", start + 6 * SECOND), Some(4 * SECOND));
        assert_eq!(arrived(&mut availability, "online", start + 7 * SECOND), None);
        assert!(!availability.take_correction(start + 10 * SECOND), "somebody else has corrected it");
    }

    #[tokio::test]
    async fn two_services_that_correct_each_other_stop_after_ten_corrections_an_hour() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        let (mut now, mut corrections) = (start, 0);
        while now < start + HOUR {
            if let Some(wait) = arrived(&mut availability, "up", now) {
                now += wait;
                corrections += usize::from(availability.take_correction(now));
            }
            now += SECOND;
        }
        assert_eq!(corrections, 11, "the eleventh is an hour after the first");
    }

    #[tokio::test]
    async fn the_warning_ends_an_hour_after_the_last_foreign_message() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        assert_eq!(availability.warning("a/status", start), None);
        arrived(&mut availability, "offline", start);
        let warning = availability.warning("a/status", start).unwrap();
        assert!(warning.message.contains("topic a/status once since 1970-01-01 00:00:00 UTC"), "{warning:?}");
        arrived(&mut availability, "offline", start + MINUTE);
        let warning = availability.warning("a/status", start + HOUR).unwrap();
        assert!(warning.message.contains("2 times since 1970-01-01"), "{warning:?}");
        assert_eq!(availability.warning("a/status", start + MINUTE + HOUR), None);
    }

    #[tokio::test]
    async fn a_broker_that_closes_connections_because_of_the_subscription_is_not_asked_again_for_an_hour() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        assert!(availability.connected(start));
        arrived(&mut availability, "online", start);
        availability.ended(start);
        for _ in 0..2 {
            assert!(availability.connected(start));
            availability.ended(start);
        }
        assert!(!availability.connected(start + 59 * MINUTE));
        availability.ended(start);
        assert!(availability.connected(start + HOUR));
    }
}
