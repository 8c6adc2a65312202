//! Decides when each message is passed to the MQTT client. No I/O.
//!
//! A message that was passed to the client cannot be taken back. So the client gets only as many messages as
//! the broker accepts without an acknowledgement, and the others wait here, in order:
//!
//! - *Events do not wait long.* An event that has waited for [`STALE_AFTER`] is given back, with all events
//!   behind it: it may have become late in the meantime, and must be planned again.
//! - *Nothing overtakes a deferred event.* When the broker defers one, all events that wait are given back.
//!   Events that the outbox sent before it knew of this are given back as well ([`SendQueue::is_outdated`]).
//! - *Suspects travel as the poison rule demands* (see [`Poison`]): alone, or alone after a quiet time.
//!   Messages behind a suspect wait, so the order is kept.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::domain::{
    ids::Seq,
    poison::{MessageRef, Poison, QUIET, Treatment},
};

/// How long an event may wait. Short enough that no event reaches a live topic more than a second after it
/// became late.
pub const STALE_AFTER: Duration = Duration::from_millis(500);

/// A message that waits here.
pub trait Queued {
    /// Returns how the poison rule identifies the message.
    fn message_ref(&self) -> &MessageRef;
}

/// See the module's documentation. `T` is a message.
#[derive(Debug)]
pub struct SendQueue<T> {
    /// The rule, with what earlier connections have shown.
    pub poison: Poison,
    /// Maximum number of messages in the client.
    limit: usize,
    waiting: VecDeque<(Instant, T)>,
    /// Whether the only message in flight is one that must be alone.
    alone: bool,
    /// The time of the login or of the last answer.
    quiet_since: Instant,
    /// How many reports to the outbox contained events that must be sent again.
    pauses: u64,
}

impl<T: Queued> SendQueue<T> {
    /// Creates the queue of a new connection.
    pub fn new(poison: Poison, now: Instant) -> Self {
        Self {
            poison,
            limit: usize::MAX,
            waiting: VecDeque::new(),
            alone: false,
            quiet_since: now,
            pauses: 0,
        }
    }

    /// Records the login, and how many messages may be unanswered.
    pub fn accepted(&mut self, limit: usize, now: Instant) {
        (self.limit, self.quiet_since) = (limit.max(1), now);
    }

    /// Returns whether a message could be sent now without waiting, while `in_flight` messages are in flight.
    pub fn is_open(&self, in_flight: usize) -> bool {
        self.waiting.is_empty() && in_flight < self.limit && self.poison.suspects_nobody() && !self.alone
    }

    /// Returns the messages that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, message)| message)
    }

    /// Adds a message at the end.
    pub fn push(&mut self, message: T, now: Instant) {
        self.waiting.push_back((now, message));
    }

    /// Takes the next message if it can be sent while `in_flight` messages are in flight.
    pub fn next(&mut self, in_flight: usize, now: Instant) -> Option<T> {
        let (_, message) = self.waiting.front()?;
        if in_flight >= self.limit || (in_flight > 0 && self.alone) {
            return None;
        }
        let treatment = self.poison.treatment(message.message_ref());
        let may_be_sent = match treatment {
            Treatment::Normal | Treatment::Watched => true,
            Treatment::Alone => in_flight == 0,
            Treatment::AloneAfterQuiet => {
                in_flight == 0 && now.saturating_duration_since(self.quiet_since) >= QUIET
            }
        };
        if !may_be_sent {
            return None;
        }
        self.alone = matches!(treatment, Treatment::Alone | Treatment::AloneAfterQuiet);
        self.waiting.pop_front().map(|(_, message)| message)
    }

    /// Records the broker's answer to a message. Returns whether messages that were left out are permitted
    /// again.
    pub fn answered(&mut self, message: &MessageRef, accepted: bool, now: Instant) -> bool {
        (self.alone, self.quiet_since) = (false, now);
        !self.poison.is_empty() && self.poison.answered(message, accepted)
    }

    /// Gives back the events that wait, if the first of them has waited too long.
    pub fn take_stale(&mut self, now: Instant) -> Vec<Seq> {
        let mut events = self.waiting.iter().filter(|(_, message)| message.message_ref().seq.is_some());
        let is_stale = events.next().is_some_and(|(since, _)| now.duration_since(*since) >= STALE_AFTER);
        if is_stale { self.take_events() } else { Vec::new() }
    }

    /// Records a report to the outbox that contains events that must be sent again.
    pub fn paused(&mut self) {
        self.pauses += 1;
    }

    /// Returns whether the outbox sent a message before it knew of all pauses. The events of the message would
    /// overtake those that must be sent again.
    pub fn is_outdated(&self, pauses: u64) -> bool {
        pauses < self.pauses
    }

    /// Gives back all events that wait.
    pub fn take_events(&mut self) -> Vec<Seq> {
        let seqs = self.waiting.iter().filter_map(|(_, message)| message.message_ref().seq).collect();
        self.waiting.retain(|(_, message)| message.message_ref().seq.is_none());
        seqs
    }
}

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::poison::{End, Ending};

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Test(MessageRef);

    impl Queued for Test {
        fn message_ref(&self) -> &MessageRef {
            &self.0
        }
    }

    fn event(seq: i64) -> Test {
        Test(MessageRef { seq: Some(Seq(seq)), topic: "e".to_owned(), bytes: 7 })
    }

    fn state(topic: &str) -> Test {
        Test(MessageRef { seq: None, topic: topic.to_owned(), bytes: 7 })
    }

    /// A queue with this limit after the broker ended a connection while these messages were in flight.
    fn after_end(in_flight: &[Test], limit: usize, now: Instant) -> SendQueue<Test> {
        let in_flight = in_flight.iter().map(|message| message.0.clone()).collect();
        let mut poison = Poison::default();
        poison.ended(Ending { end: End::ByBroker, in_flight, accepted_any: true }, now.into_std());
        let mut queue = SendQueue::new(poison, now);
        queue.accepted(limit, now);
        queue
    }

    fn queue_of(limit: usize, messages: impl IntoIterator<Item = Test>, now: Instant) -> SendQueue<Test> {
        let mut queue = SendQueue::new(Poison::default(), now);
        queue.accepted(limit, now);
        messages.into_iter().for_each(|message| queue.push(message, now));
        queue
    }

    #[tokio::test]
    async fn the_client_gets_no_more_than_the_broker_may_have_unanswered() {
        let now = Instant::now();
        let mut queue = queue_of(2, [event(1), state("s"), event(2)], now);
        assert_eq!(queue.next(0, now), Some(event(1)));
        assert_eq!(queue.next(1, now), Some(state("s")));
        assert_eq!(queue.next(2, now), None);
        assert_eq!(queue.next(1, now), Some(event(2)));
        assert!(queue.is_open(1) && !queue.is_open(2));
    }

    #[tokio::test]
    async fn suspects_are_sent_alone_and_messages_behind_them_wait_in_order() {
        let now = Instant::now();
        let mut queue = after_end(&[event(1), state("s")], 20, now);
        for message in [state("t"), event(1), event(2), state("s")] {
            queue.push(message, now);
        }
        assert_eq!(queue.next(0, now), Some(state("t")));
        assert_eq!(queue.next(1, now), None, "t is in flight");
        assert_eq!(queue.next(0, now), Some(event(1)));
        assert_eq!(queue.next(1, now), None, "event 1 is sent alone");
        queue.answered(&event(1).0, true, now);
        assert_eq!(queue.next(0, now), Some(event(2)));
        assert_eq!(queue.next(1, now), None, "s must be sent alone");
        assert_eq!(queue.next(0, now), Some(state("s")));
        queue.answered(&state("s").0, true, now);
        assert!(queue.is_open(5), "nothing is suspected any more");
    }

    #[tokio::test]
    async fn a_message_with_a_strike_waits_until_the_broker_has_been_quiet() {
        let now = Instant::now();
        let mut queue = after_end(&[event(1)], 20, now);
        queue.push(event(1), now);
        assert_eq!(queue.next(0, now), None);
        queue.answered(&state("s").0, true, now + QUIET / 2);
        assert_eq!(queue.next(0, now + QUIET), None, "the broker has just answered");
        assert_eq!(queue.next(0, now + QUIET + QUIET / 2), Some(event(1)));
    }

    #[tokio::test]
    async fn events_that_have_waited_too_long_are_given_back() {
        let now = Instant::now();
        let mut queue = queue_of(1, [state("s"), event(1)], now);
        queue.push(event(2), now + STALE_AFTER / 2);
        assert_eq!(queue.take_stale(now + STALE_AFTER / 2), []);
        assert_eq!(queue.take_stale(now + STALE_AFTER), [Seq(1), Seq(2)], "with those behind it");
        assert_eq!(queue.next(0, now), Some(state("s")), "states stay");
    }
}
