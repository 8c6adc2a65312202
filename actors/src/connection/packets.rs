//! Tracks which message has which packet id, and for how long the broker has not responded. Pure: the time is
//! an argument.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::client::Answer;

#[derive(Debug)]
struct InFlight<T> {
    message: T,
    unheard: bool,
    /// Messages are numbered in the order in which they are sent.
    number: u64,
}

/// The messages that were submitted to the client: those that are not sent yet, in order, and those in
/// flight, by packet id.
#[derive(Debug)]
pub struct Packets<T> {
    unsent: VecDeque<T>,
    in_flight: HashMap<u16, InFlight<T>>,
    /// The packet ids of the messages that were sent, in order. Those that are answered are removed when they
    /// are the first.
    order: VecDeque<(u64, u16)>,
    /// How many messages were sent.
    sent: u64,
    /// The number of the latest message that is answered.
    latest_answered: Option<u64>,
    /// The number of the first unanswered message, and since when a later one is answered.
    overtaken: Option<(u64, Instant)>,
    /// The time of the last answer (or of the first submission) while messages wait for an answer.
    silent_since: Option<Instant>,
    /// When the unanswered ping was sent.
    ping_since: Option<Instant>,
}

impl<T> Default for Packets<T> {
    fn default() -> Self {
        Self {
            unsent: VecDeque::new(),
            in_flight: HashMap::new(),
            order: VecDeque::new(),
            sent: 0,
            latest_answered: None,
            overtaken: None,
            silent_since: None,
            ping_since: None,
        }
    }
}

impl<T> Packets<T> {
    /// Records that a message was submitted to the client.
    pub fn submitted(&mut self, message: T, now: Instant) {
        self.unsent.push_back(message);
        self.silent_since.get_or_insert(now);
    }

    /// Records that the oldest unsent message was sent. Packet id 0 means QoS 0: no answer follows, so the
    /// message is returned.
    pub fn sent(&mut self, packet_id: u16, now: Instant) -> Option<T> {
        let message = self.unsent.pop_front()?;
        if packet_id == 0 {
            self.progress(now);
            return Some(message);
        }
        self.sent += 1;
        self.order.push_back((self.sent, packet_id));
        self.in_flight.insert(packet_id, InFlight { message, unheard: false, number: self.sent });
        None
    }

    /// Records the first half of a QoS 2 answer (PUBREC).
    pub fn received(&mut self, packet_id: u16, unheard: bool, now: Instant) {
        if let Some(entry) = self.in_flight.get_mut(&packet_id) {
            entry.unheard = unheard;
        }
        self.progress(now);
    }

    /// Records the broker's final answer to a message, and returns the message with the answer.
    pub fn answered(&mut self, packet_id: u16, answer: Answer, now: Instant) -> Option<(T, Answer)> {
        let InFlight { message, unheard: unheard_before, number } = self.in_flight.remove(&packet_id)?;
        self.latest_answered = self.latest_answered.max(Some(number));
        self.note_overtaking(now);
        self.progress(now);
        let answer = match answer {
            Answer::Accepted { unheard } => Answer::Accepted { unheard: unheard || unheard_before },
            refused => refused,
        };
        Some((message, answer))
    }

    /// Notes whether the first unanswered message was sent before one that is answered.
    fn note_overtaking(&mut self, now: Instant) {
        let is_answered = |&(number, packet_id): &(u64, u16)| {
            self.in_flight.get(&packet_id).is_none_or(|entry| entry.number != number)
        };
        while self.order.front().is_some_and(is_answered) {
            self.order.pop_front();
        }
        let first = self.order.front().map(|(number, _)| *number);
        let overtaken = first.filter(|first| self.latest_answered > Some(*first));
        self.overtaken = overtaken.map(|first| match self.overtaken {
            Some((number, since)) if number == first => (first, since),
            _ => (first, now),
        });
    }

    /// Returns the first unanswered message if later ones are answered, and for how long they have been.
    pub fn overtaken(&self, now: Instant) -> Option<(&T, Duration)> {
        let (number, since) = self.overtaken?;
        let (_, packet_id) = self.order.front()?;
        let entry = self.in_flight.get(packet_id).filter(|entry| entry.number == number)?;
        Some((&entry.message, now.saturating_duration_since(since)))
    }

    /// Returns the messages that wait for an answer.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.unsent.iter().chain(self.in_flight.values().map(|entry| &entry.message))
    }

    /// Returns the only message that waits for an answer.
    pub fn sole(&self) -> Option<&T> {
        self.all().next().filter(|_| self.len() == 1)
    }

    /// Returns how many messages wait for an answer.
    pub fn len(&self) -> usize {
        self.unsent.len() + self.in_flight.len()
    }

    /// Returns how many of the messages that wait for an answer match.
    pub fn count(&self, matches: impl Fn(&T) -> bool) -> usize {
        self.all().filter(|message| matches(message)).count()
    }

    /// Records that the network connection accepts more of a large message: it is slow, but alive.
    pub fn sending(&mut self, now: Instant) {
        self.silent_since = self.silent_since.map(|_| now);
        self.ping_since = self.ping_since.map(|_| now);
    }

    /// Returns the first message that is being sent, or waits to be sent.
    pub fn first_unsent(&self) -> Option<&T> {
        self.unsent.front()
    }

    /// Records that a ping was sent.
    pub fn pinged(&mut self, now: Instant) {
        self.ping_since.get_or_insert(now);
    }

    /// Records that something arrived from the broker.
    pub fn alive(&mut self) {
        self.ping_since = None;
    }

    /// Returns for how long the broker has not answered any message, or has not answered a ping.
    pub fn silent_for(&self, now: Instant) -> Duration {
        let since = [self.silent_since, self.ping_since].into_iter().flatten().min();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn progress(&mut self, now: Instant) {
        self.alive();
        let waiting = !self.unsent.is_empty() || !self.in_flight.is_empty();
        self.silent_since = waiting.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: Answer = Answer::Accepted { unheard: false };

    #[tokio::test]
    async fn packet_ids_are_assigned_in_the_order_of_sending() {
        let now = Instant::now();
        let mut packets = Packets::default();
        for message in ["a", "b", "c"] {
            packets.submitted(message, now);
        }
        for id in [7, 3, 5] {
            assert_eq!(packets.sent(id, now), None);
        }
        assert_eq!(packets.answered(5, HEARD, now), Some(("c", HEARD)));
        assert_eq!(packets.answered(7, HEARD, now), Some(("a", HEARD)));
        assert_eq!(packets.answered(7, HEARD, now), None);
    }

    #[tokio::test]
    async fn a_qos_0_message_is_complete_when_it_is_sent() {
        let now = Instant::now();
        let mut packets = Packets::default();
        packets.submitted("a", now);
        assert_eq!(packets.sent(0, now), Some("a"));
        assert_eq!(packets.silent_for(now + Duration::from_secs(99)), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_qos_2_message_is_unheard_if_only_the_first_answer_reports_it() {
        let now = Instant::now();
        let mut packets = Packets::default();
        packets.submitted("a", now);
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
        packets.submitted("a", at(0));
        packets.submitted("b", at(5));
        packets.sent(1, at(5));
        packets.sent(2, at(5));
        assert_eq!(packets.silent_for(at(10)).as_secs(), 10);
        packets.answered(1, HEARD, at(10));
        assert_eq!(packets.silent_for(at(12)).as_secs(), 2);
        packets.answered(2, HEARD, at(12));
        assert_eq!(packets.silent_for(at(100)), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_message_is_overtaken_since_the_first_answer_to_a_later_one() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut packets = Packets::default();
        for (id, message) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            packets.submitted(message, start);
            packets.sent(id, start);
        }
        packets.answered(1, HEARD, at(1));
        assert_eq!(packets.overtaken(at(9)), None, "answered in order");
        packets.answered(3, HEARD, at(2));
        packets.answered(4, HEARD, at(5));
        assert_eq!(packets.overtaken(at(9)), Some((&"b", Duration::from_secs(7))));
        packets.answered(2, HEARD, at(9));
        assert_eq!(packets.overtaken(at(9)), None);
        packets.submitted("e", at(9));
        packets.sent(3, at(9));
        assert_eq!(packets.overtaken(at(99)), None, "nothing was sent after it");
    }

    #[tokio::test]
    async fn nothing_is_silent_while_a_large_message_is_being_sent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut packets = Packets::default();
        packets.submitted("picture", at(0));
        packets.sending(at(20));
        assert_eq!(packets.silent_for(at(25)).as_secs(), 5);
        packets.sent(1, at(40));
        packets.answered(1, HEARD, at(41));
        packets.sending(at(42));
        assert_eq!(packets.silent_for(at(99)), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_unanswered_ping_counts_as_silence() {
        let start = Instant::now();
        let mut packets = Packets::<()>::default();
        packets.pinged(start);
        assert_eq!(packets.silent_for(start + Duration::from_secs(3)).as_secs(), 3);
        packets.alive();
        assert_eq!(packets.silent_for(start + Duration::from_secs(9)), Duration::ZERO);
    }
}
