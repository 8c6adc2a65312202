//! Which topics had a subscriber on the current broker before. No clock, no I/O.

use std::collections::HashMap;

use chrono::TimeDelta;

use crate::domain::clock::LogTime;

/// Maximum number of topics per broker. Topics above it are not learned, so their events wait for nobody.
pub const MAX_TOPICS: usize = 10_000;

/// How often it is recorded that a topic still has subscribers.
const NOTE_EVERY: TimeDelta = TimeDelta::days(1);

/// A topic is forgotten if no message on it was seen to have a subscriber for this long.
pub const FORGET_AFTER: TimeDelta = TimeDelta::days(30);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing is recorded: there is no broker, or nothing waits for subscribers.
    #[default]
    Off,
    Loading,
    Loaded,
}

/// The topics that had a subscriber on one broker.
#[derive(Debug, Default)]
pub struct HeardTopics {
    broker: String,
    phase: Phase,
    /// When a subscriber was last recorded, in log time.
    topics: HashMap<String, LogTime>,
    /// The topics whose time is not in the database.
    unwritten: HashMap<String, LogTime>,
}

impl HeardTopics {
    /// Starts recording on this broker. Returns whether the caller must read its topics from the database.
    pub fn start(&mut self, broker: &str) -> bool {
        if self.phase != Phase::Off && self.broker == broker {
            return false;
        }
        *self = Self { broker: broker.to_owned(), phase: Phase::Loading, ..Self::default() };
        true
    }

    /// Stops recording, and forgets everything.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// Returns whether the topics are still being read.
    pub fn is_loading(&self) -> bool {
        self.phase == Phase::Loading
    }

    /// Adds what was read from the database for this broker: the topics, or nothing if they cannot be read.
    pub fn loaded(&mut self, broker: &str, topics: Vec<(String, LogTime)>) {
        if self.phase == Phase::Off || self.broker != broker {
            return;
        }
        self.phase = Phase::Loaded;
        for (topic, at) in topics.into_iter().take(MAX_TOPICS.saturating_sub(self.topics.len())) {
            let known = self.topics.entry(topic).or_insert(at);
            *known = at.max(*known);
        }
    }

    /// Goes on without the topics, because reading them takes too long.
    pub fn give_up(&mut self) {
        if self.is_loading() {
            self.phase = Phase::Loaded;
        }
    }

    /// Returns whether the topic had a subscriber on this broker.
    pub fn was_heard(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Records that the topic has a subscriber. Returns whether there is something to write.
    pub fn heard(&mut self, topic: &str, now: LogTime) -> bool {
        let has_room = self.topics.len() < MAX_TOPICS;
        let must_note = match self.topics.get(topic) {
            Some(at) => *at <= now.before(NOTE_EVERY),
            None => has_room,
        };
        if must_note && self.phase != Phase::Off {
            self.topics.insert(topic.to_owned(), now);
            self.unwritten.insert(topic.to_owned(), now);
            return true;
        }
        false
    }

    /// Takes what must be written: the broker, and the topics with their times.
    pub fn take_unwritten(&mut self) -> Option<(String, Vec<(String, LogTime)>)> {
        let topics: Vec<_> = std::mem::take(&mut self.unwritten).into_iter().collect();
        (!topics.is_empty()).then(|| (self.broker.clone(), topics))
    }

    /// Takes back topics that could not be written, so that they are written with the next ones.
    pub fn not_written(&mut self, broker: &str, topics: Vec<(String, LogTime)>) {
        if self.phase != Phase::Off && self.broker == broker {
            for (topic, at) in topics {
                self.unwritten.entry(topic).or_insert(at);
            }
        }
    }

    /// Forgets the topics that last had a subscriber before this time.
    pub fn forget(&mut self, before: LogTime) {
        self.topics.retain(|_, at| *at >= before);
        self.unwritten.retain(|_, at| *at >= before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn loaded(topics: &[(&str, i64)]) -> HeardTopics {
        let mut heard = HeardTopics::default();
        assert!(heard.start("b:1"));
        heard.loaded("b:1", topics.iter().map(|(topic, at)| ((*topic).to_owned(), LogTime(*at))).collect());
        heard
    }

    #[test]
    fn a_topic_is_known_after_it_was_heard_once_and_is_written_once_a_day() {
        let mut heard = loaded(&[("a", 0)]);
        assert!(heard.was_heard("a") && !heard.was_heard("b"));
        assert!(!heard.heard("a", LogTime(DAY - 1)));
        assert!(heard.heard("b", LogTime(5)));
        assert!(!heard.heard("b", LogTime(6)));
        assert_eq!(heard.take_unwritten(), Some(("b:1".to_owned(), vec![("b".to_owned(), LogTime(5))])));
        assert_eq!(heard.take_unwritten(), None);
        assert!(heard.heard("a", LogTime(DAY)));
        assert!(heard.was_heard("b"));
    }

    #[test]
    fn topics_that_could_not_be_written_are_written_with_the_next_ones() {
        let mut heard = loaded(&[]);
        heard.heard("a", LogTime(1));
        let (broker, topics) = heard.take_unwritten().unwrap();
        heard.not_written(&broker, topics.clone());
        assert_eq!(heard.take_unwritten(), Some((broker, topics.clone())));
        heard.start("other:1");
        heard.not_written("b:1", topics);
        assert_eq!(heard.take_unwritten(), None, "that was another broker");
    }

    #[test]
    fn topics_are_read_once_per_broker_and_belong_to_it() {
        let mut heard = loaded(&[("a", 0)]);
        assert!(!heard.start("b:1"), "they are known after a reconnection");
        assert!(heard.start("c:1"));
        assert!(heard.is_loading() && !heard.was_heard("a"));
        heard.loaded("b:1", vec![("a".to_owned(), LogTime(0))]);
        assert!(heard.is_loading() && !heard.was_heard("a"), "that is the answer for another broker");
        heard.loaded("c:1", vec![("x".to_owned(), LogTime(0))]);
        assert!(!heard.is_loading() && heard.was_heard("x"));
    }

    #[test]
    fn topics_that_are_read_late_are_added_to_those_heard_since() {
        let mut heard = HeardTopics::default();
        heard.start("b:1");
        heard.give_up();
        assert!(!heard.is_loading());
        heard.heard("a", LogTime(5));
        heard.loaded("b:1", vec![("a".to_owned(), LogTime(1)), ("b".to_owned(), LogTime(1))]);
        assert!(heard.was_heard("b"));
        assert!(!heard.heard("a", LogTime(6)), "the later time counts");
    }

    #[test]
    fn the_number_of_topics_is_limited_and_old_ones_make_room() {
        let mut heard = loaded(&[]);
        for i in 0..MAX_TOPICS {
            assert!(heard.heard(&i.to_string(), LogTime(i64::from(i > 0))));
        }
        assert!(!heard.heard("one more", LogTime(1)) && !heard.was_heard("one more"));
        heard.forget(LogTime(1));
        assert!(!heard.was_heard("0"));
        assert!(heard.heard("one more", LogTime(1)));
    }

    #[test]
    fn nothing_is_recorded_while_nothing_waits() {
        let mut heard = loaded(&[("a", 0)]);
        heard.stop();
        assert!(!heard.is_loading() && !heard.was_heard("a"));
        assert!(!heard.heard("a", LogTime(1)));
        assert_eq!(heard.take_unwritten(), None);
    }
}
