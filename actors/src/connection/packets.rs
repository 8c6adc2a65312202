//! Which message travels under which packet id, and since when the broker owes an answer. Pure: time is given.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::client::Answer;

#[derive(Debug)]
struct InFlight<T> {
    what: T,
    unheard: bool,
}

/// The messages given to the client: first unsent, in order; then in flight, by packet id.
#[derive(Debug)]
pub struct Packets<T> {
    unsent: VecDeque<T>,
    flying: HashMap<u16, InFlight<T>>,
    /// Since when the broker has answered nothing while messages wait for an answer.
    silent_since: Option<Instant>,
    /// Since when a ping is unanswered.
    ping_since: Option<Instant>,
}

impl<T> Default for Packets<T> {
    fn default() -> Self {
        Self { unsent: VecDeque::new(), flying: HashMap::new(), silent_since: None, ping_since: None }
    }
}

impl<T> Packets<T> {
    /// A message was given to the client.
    pub fn given(&mut self, what: T, now: Instant) {
        self.unsent.push_back(what);
        self.silent_since.get_or_insert(now);
    }

    /// The oldest unsent message went out. Under packet id 0 (QoS 0) that was all: it is answered.
    pub fn sent(&mut self, packet_id: u16, now: Instant) -> Option<T> {
        let what = self.unsent.pop_front()?;
        if packet_id == 0 {
            self.progress(now);
            return Some(what);
        }
        self.flying.insert(packet_id, InFlight { what, unheard: false });
        None
    }

    /// QoS 2, first half.
    pub fn received(&mut self, packet_id: u16, unheard: bool, now: Instant) {
        if let Some(flying) = self.flying.get_mut(&packet_id) {
            flying.unheard = unheard;
        }
        self.progress(now);
    }

    /// The broker's last word on a message.
    pub fn answered(&mut self, packet_id: u16, answer: Answer, now: Instant) -> Option<(T, Answer)> {
        let InFlight { what, unheard: heard_before } = self.flying.remove(&packet_id)?;
        self.progress(now);
        let answer = match answer {
            Answer::Accepted { unheard } => Answer::Accepted { unheard: unheard || heard_before },
            refused => refused,
        };
        Some((what, answer))
    }

    /// What waits for an answer.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.unsent.iter().chain(self.flying.values().map(|flying| &flying.what))
    }

    /// How many messages wait for an answer.
    pub fn len(&self) -> usize {
        self.unsent.len() + self.flying.len()
    }

    /// How many of such messages wait for an answer.
    pub fn count(&self, is_such: impl Fn(&T) -> bool) -> usize {
        self.all().filter(|what| is_such(what)).count()
    }

    /// A ping went out.
    pub fn pinged(&mut self, now: Instant) {
        self.ping_since.get_or_insert(now);
    }

    /// The broker said something.
    pub fn alive(&mut self) {
        self.ping_since = None;
    }

    /// How long the broker has owed an answer, to messages or to a ping.
    pub fn silent_for(&self, now: Instant) -> Duration {
        let since = [self.silent_since, self.ping_since].into_iter().flatten().min();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn progress(&mut self, now: Instant) {
        self.alive();
        let waiting = !self.unsent.is_empty() || !self.flying.is_empty();
        self.silent_since = waiting.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: Answer = Answer::Accepted { unheard: false };

    #[tokio::test]
    async fn ids_are_matched_in_the_order_of_sending() {
        let now = Instant::now();
        let mut packets = Packets::default();
        for what in ["a", "b", "c"] {
            packets.given(what, now);
        }
        for id in [7, 3, 5] {
            assert_eq!(packets.sent(id, now), None);
        }
        assert_eq!(packets.answered(5, HEARD, now), Some(("c", HEARD)));
        assert_eq!(packets.answered(7, HEARD, now), Some(("a", HEARD)));
        assert_eq!(packets.answered(7, HEARD, now), None);
    }

    #[tokio::test]
    async fn qos_0_is_answered_when_it_is_sent() {
        let now = Instant::now();
        let mut packets = Packets::default();
        packets.given("a", now);
        assert_eq!(packets.sent(0, now), Some("a"));
        assert_eq!(packets.silent_for(now + Duration::from_secs(99)), Duration::ZERO);
    }

    #[tokio::test]
    async fn qos_2_remembers_that_nobody_heard() {
        let now = Instant::now();
        let mut packets = Packets::default();
        packets.given("a", now);
        packets.sent(1, now);
        packets.received(1, true, now);
        assert_eq!(packets.answered(1, HEARD, now), Some(("a", Answer::Accepted { unheard: true })));
    }

    #[tokio::test]
    async fn silence_is_counted_from_the_last_answer_while_something_waits() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut packets = Packets::default();
        assert_eq!(packets.silent_for(at(100)), Duration::ZERO);
        packets.given("a", at(0));
        packets.given("b", at(5));
        packets.sent(1, at(5));
        packets.sent(2, at(5));
        assert_eq!(packets.silent_for(at(10)).as_secs(), 10);
        packets.answered(1, HEARD, at(10));
        assert_eq!(packets.silent_for(at(12)).as_secs(), 2);
        packets.answered(2, HEARD, at(12));
        assert_eq!(packets.silent_for(at(100)), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_unanswered_ping_counts_too() {
        let start = Instant::now();
        let mut packets = Packets::<()>::default();
        packets.pinged(start);
        assert_eq!(packets.silent_for(start + Duration::from_secs(3)).as_secs(), 3);
        packets.alive();
        assert_eq!(packets.silent_for(start + Duration::from_secs(9)), Duration::ZERO);
    }
}
