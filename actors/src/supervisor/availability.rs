//! Watches the service's own availability topic. Home Assistant shows every entity as unavailable if somebody
//! else publishes `offline` there: a second service with the same topic prefix, or the broker, which may publish
//! the last will of an old session after the new one has begun. Decides when to publish the birth message again.
//! Performs no I/O.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::domain::{
    clock::Timestamp,
    probe_report::TEST_PAYLOAD,
    status::{Warning, WarningKind, severity_of},
};

/// How long a foreign message must stay uncorrected by anybody else, on a connection that stays up, before the
/// service corrects it. A broker that stops publishes the last wills of its clients before it closes their
/// connections.
const CORRECT_AFTER: Duration = Duration::from_secs(1);

/// A connection that ends within this time after the service's own last will has arrived on it was probably ended by
/// the broker. A broker that ends a session publishes the last will first.
const WILL_BEFORE_END: Duration = Duration::from_secs(2);

/// Minimum time between two corrections.
const CORRECT_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Maximum number of corrections in an hour. Without it, two services that correct each other would never stop.
const MAX_PER_HOUR: usize = 10;
const HOUR: Duration = Duration::from_hours(1);

/// How long the warning is shown after the last correction.
const SHOWN_FOR: Duration = HOUR;

/// A broker may close the connection because the subscription is not allowed. After this many connections in a
/// row that end without a message on the topic, the service does not subscribe for [`UNSUBSCRIBED_FOR`].
const MAX_UNCONFIRMED: u32 = 2;
const UNSUBSCRIBED_FOR: Duration = HOUR;

/// Maximum length of a foreign message in the warning.
const SHOWN_CHARS: usize = 32;

/// Messages on the availability topic that the service has corrected.
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
    /// The newest foreign message, while its correction is due.
    to_correct: Option<String>,
    /// When the service's own last will arrived on the current connection, if nothing has followed it.
    will_arrived_at: Option<Instant>,
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
        (self.to_correct, self.will_arrived_at) = (None, None);
        self.is_unconfirmed = self.subscribe_again_at.is_none();
        self.is_unconfirmed
    }

    /// Returns whether the current connection subscribes to the topic, but nothing has arrived yet. The birth message
    /// is retained, so it arrives at once if publishing and reading are allowed.
    pub fn is_unconfirmed(&self) -> bool {
        self.is_unconfirmed
    }

    /// Records that the connection ended, but not on request. Returns whether the service's own last will had arrived
    /// shortly before.
    pub fn ended(&mut self, now: Instant) -> bool {
        self.to_correct = None;
        if std::mem::take(&mut self.is_unconfirmed) {
            self.unconfirmed_in_a_row += 1;
            if self.unconfirmed_in_a_row >= MAX_UNCONFIRMED {
                self.unconfirmed_in_a_row = 0;
                self.subscribe_again_at = Some(now + UNSUBSCRIBED_FOR);
            }
        }
        let arrived_at = self.will_arrived_at.take();
        arrived_at.is_some_and(|at| now.saturating_duration_since(at) < WILL_BEFORE_END)
    }

    /// Records a message on the topic. Returns after which time to call [`Availability::take_correction`], if
    /// the message is not the birth message or one of a connection test, and no correction is due yet.
    pub fn arrived(&mut self, payload: &[u8], birth: &str, will: &str, now: Instant) -> Option<Duration> {
        (self.is_unconfirmed, self.unconfirmed_in_a_row) = (false, 0);
        self.will_arrived_at = (payload == will.as_bytes()).then_some(now);
        if payload.starts_with(TEST_PAYLOAD.as_bytes()) {
            return None;
        }
        if payload == birth.as_bytes() {
            self.to_correct = None;
            return None;
        }
        let text = String::from_utf8_lossy(payload).chars().take(SHOWN_CHARS).collect();
        self.to_correct.replace(text).is_none().then(|| self.wait(now))
    }

    /// Returns how long to wait before the next correction.
    fn wait(&mut self, now: Instant) -> Duration {
        while self.corrections.front().is_some_and(|at| now.saturating_duration_since(*at) >= HOUR) {
            self.corrections.pop_front();
        }
        let is_full = self.corrections.len() >= MAX_PER_HOUR;
        let hourly = self.corrections.front().filter(|_| is_full).map(|at| *at + HOUR);
        let soonest = self.corrections.back().map(|at| *at + CORRECT_AGAIN_AFTER);
        let limited = soonest.max(hourly).map(|at| at.saturating_duration_since(now));
        limited.unwrap_or_default().max(CORRECT_AFTER)
    }

    /// Returns whether to publish the birth message now. If so, this is recorded as a correction.
    pub fn take_correction(&mut self, now: Instant, wall: Timestamp) -> bool {
        let Some(newest) = self.to_correct.take() else { return false };
        self.corrections.push_back(now);
        if self.corrections.len() > MAX_PER_HOUR {
            self.corrections.pop_front();
        }
        let is_current = |foreign: &Foreign| now.saturating_duration_since(foreign.at) < SHOWN_FOR;
        let (count, since) = match self.foreign.take().filter(is_current) {
            Some(Foreign { count, since, .. }) => (count.saturating_add(1), since),
            None => (1, wall),
        };
        self.foreign = Some(Foreign { count, since, newest, at: now });
        true
    }

    /// Returns the warning about foreign messages on `topic`.
    pub fn warning(&self, topic: &str, now: Instant) -> Option<Warning> {
        let foreign = self.foreign.as_ref();
        let Foreign { count, since, newest, .. } =
            foreign.filter(|foreign| now.saturating_duration_since(foreign.at) < SHOWN_FOR)?;
        let times = if *count == 1 { "once" } else { &format!("{count} times") };
        let message = format!(
            "Somebody else has published to the availability topic {topic} {times} since {}, the last time \
             {newest:?}. Home Assistant then shows all entities as unavailable, so the birth message was \
             published again (at most {MAX_PER_HOUR} times an hour). There is probably a second service with \
             the same topic prefix: stop it, or give it a topic_prefix of its own. If it happened only once, \
             the broker may have published the last will of an earlier connection late.",
            since.format("%F %T UTC")
        );
        let severity = severity_of(*count);
        Some(Warning::new(WarningKind::AvailabilityOverwritten, message).with_severity(severity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);

    fn arrived(availability: &mut Availability, payload: &str, now: Instant) -> Option<Duration> {
        availability.arrived(payload.as_bytes(), "online", "offline", now)
    }

    fn corrects(availability: &mut Availability, now: Instant) -> bool {
        availability.take_correction(now, clock::from_micros(0))
    }

    #[tokio::test]
    async fn a_foreign_message_is_corrected_soon_and_then_at_most_every_five_seconds() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        let at = |seconds| start + seconds * SECOND;
        assert!(availability.connected(start));
        assert_eq!(arrived(&mut availability, "online", start), None);
        assert_eq!(arrived(&mut availability, "connection test 1f", start), None, "it changes nothing");
        assert_eq!(arrived(&mut availability, "offline", start), Some(SECOND));
        assert!(corrects(&mut availability, at(1)));
        assert_eq!(arrived(&mut availability, "online", at(1)), None, "our own message");
        assert_eq!(arrived(&mut availability, "", at(2)), Some(4 * SECOND));
        assert_eq!(arrived(&mut availability, "offline", at(2)), None, "the correction is planned");
        assert!(corrects(&mut availability, at(6)));
        assert!(!corrects(&mut availability, at(6)), "once");
        assert_eq!(arrived(&mut availability, "offline", at(7)), Some(4 * SECOND));
        assert_eq!(arrived(&mut availability, "online", at(8)), None);
        assert!(!corrects(&mut availability, at(11)), "somebody else has corrected it");
    }

    #[tokio::test]
    async fn our_own_last_will_at_the_end_of_the_connection_is_not_a_foreign_message() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        availability.connected(start);
        assert_eq!(arrived(&mut availability, "offline", start), Some(SECOND));
        availability.ended(start);
        assert!(availability.connected(start));
        assert!(!corrects(&mut availability, start + SECOND));
        assert_eq!(availability.warning("a/status", start + SECOND), None);
    }

    #[tokio::test]
    async fn two_services_that_correct_each_other_stop_after_ten_corrections_an_hour() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        let (mut now, mut corrections) = (start, 0);
        while now < start + HOUR {
            if let Some(wait) = arrived(&mut availability, "up", now) {
                now += wait;
                corrections += usize::from(corrects(&mut availability, now));
            }
            now += SECOND;
        }
        assert_eq!(corrections, 11, "the eleventh is an hour after the first");
    }

    #[tokio::test]
    async fn the_warning_ends_an_hour_after_the_last_correction() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        assert_eq!(availability.warning("a/status", start), None);
        arrived(&mut availability, "offline", start);
        corrects(&mut availability, start);
        let warning = availability.warning("a/status", start).unwrap();
        assert!(warning.message.contains("topic a/status once since 1970-01-01 00:00:00 UTC"), "{warning:?}");
        arrived(&mut availability, "offline", start + MINUTE);
        corrects(&mut availability, start + MINUTE);
        let warning = availability.warning("a/status", start + HOUR).unwrap();
        assert!(warning.message.contains("2 times since 1970-01-01"), "{warning:?}");
        assert_eq!(availability.warning("a/status", start + MINUTE + HOUR), None);
    }

    #[tokio::test]
    async fn a_broker_that_closes_connections_because_of_the_subscription_is_not_asked_again_for_an_hour() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        assert!(availability.connected(start));
        arrived(&mut availability, "online", start);
        assert!(!availability.is_unconfirmed());
        availability.ended(start);
        for _ in 0..2 {
            assert!(availability.connected(start));
            assert!(availability.is_unconfirmed());
            availability.ended(start);
        }
        assert!(!availability.connected(start + 59 * MINUTE));
        availability.ended(start);
        assert!(availability.connected(start + HOUR));
    }

    #[tokio::test]
    async fn an_end_just_after_the_own_last_will_is_recognized() {
        let (mut availability, start) = (Availability::default(), Instant::now());
        let mut ended_after = |payloads: &[&str], wait: Duration| {
            availability.connected(start);
            for payload in payloads {
                arrived(&mut availability, payload, start);
            }
            availability.ended(start + wait)
        };
        assert!(ended_after(&["online", "offline"], SECOND));
        assert!(!ended_after(&["online", "offline"], 3 * SECOND), "for another reason");
        assert!(!ended_after(&["online"], SECOND), "the one before ended a connection before this one");
        assert!(!ended_after(&["offline", "online"], SECOND), "an earlier session's");
        assert!(!ended_after(&["offline", "down"], SECOND), "somebody else's followed");
    }
}
