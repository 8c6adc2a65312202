//! Which messages travel alone. Pure.
//!
//! A broker may end the connection over one message: mosquitto does so with one above its size limit. Which one it was
//! shows only when nothing else was in flight. So all that was in flight when a link ended over a protocol error is
//! suspected, and on the next links each of these travels alone until it is answered. What comes behind one of them waits
//! meanwhile, so that the order is kept.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::Seq;

/// A message between us and the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Travelling {
    /// An event.
    Event(Seq),
    /// Anything else.
    State {
        /// Where it goes.
        topic: String,
        /// The length of its payload.
        bytes: usize,
    },
}

/// What was in flight when a link ended over a protocol error, and has not been answered since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    events: BTreeSet<Seq>,
    topics: BTreeSet<String>,
}

impl Suspects {
    fn add(&mut self, what: &Travelling) {
        match what {
            Travelling::Event(seq) => self.events.insert(*seq),
            Travelling::State { topic, .. } => self.topics.insert(topic.clone()),
        };
    }

    fn remove(&mut self, what: &Travelling) {
        match what {
            Travelling::Event(seq) => self.events.remove(seq),
            Travelling::State { topic, .. } => self.topics.remove(topic),
        };
    }

    fn contain(&self, what: &Travelling) -> bool {
        match what {
            Travelling::Event(seq) => self.events.contains(seq),
            Travelling::State { topic, .. } => self.topics.contains(topic),
        }
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.topics.is_empty()
    }
}

/// See the module's documentation. `T` is what waits.
#[derive(Debug)]
pub struct Isolation<T> {
    suspects: Suspects,
    /// The newest message that left is suspected.
    alone: bool,
    waiting: VecDeque<(Travelling, T)>,
}

impl<T> Isolation<T> {
    /// For a new link.
    pub fn new(suspects: Suspects) -> Self {
        Self { suspects, alone: false, waiting: VecDeque::new() }
    }

    /// Whether everything may leave as it comes.
    pub fn is_over(&self) -> bool {
        self.suspects.is_empty() && self.waiting.is_empty()
    }

    /// What waits.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, message)| message)
    }

    /// A message is to leave, and so many are in flight. Answers the message when it may; else it waits.
    pub fn admit(&mut self, what: Travelling, message: T, in_flight: usize) -> Option<T> {
        if self.waiting.is_empty() && self.may_leave(&what, in_flight) {
            return Some(message);
        }
        self.waiting.push_back((what, message));
        None
    }

    /// The next one of those that wait, if it may leave while so many are in flight.
    pub fn next(&mut self, in_flight: usize) -> Option<T> {
        let (what, message) = self.waiting.pop_front()?;
        if self.may_leave(&what, in_flight) {
            return Some(message);
        }
        self.waiting.push_front((what, message));
        None
    }

    fn may_leave(&mut self, what: &Travelling, in_flight: usize) -> bool {
        let suspected = self.suspects.contain(what);
        let may = in_flight == 0 || !(suspected || self.alone);
        if may {
            self.alone = suspected;
        }
        may
    }

    /// The broker answered.
    pub fn answered(&mut self, what: &Travelling) {
        self.suspects.remove(what);
        // If one is alone, the answer is to that one.
        self.alone = false;
    }

    /// The link ended over a protocol error while all this was in flight. Answers the one that was alone.
    pub fn broke(&mut self, mut in_flight: Vec<Travelling>) -> Option<Travelling> {
        for what in &in_flight {
            self.suspects.add(what);
        }
        in_flight.pop().filter(|_| in_flight.is_empty())
    }

    /// For the next link.
    pub fn suspects(self) -> Suspects {
        self.suspects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64) -> Travelling {
        Travelling::Event(Seq(seq))
    }

    fn state(topic: &str) -> Travelling {
        Travelling::State { topic: topic.to_owned(), bytes: 7 }
    }

    /// After a link that broke with these in flight.
    fn after(in_flight: Vec<Travelling>) -> Isolation<&'static str> {
        let mut isolation = Isolation::<&str>::new(Suspects::default());
        assert_eq!(isolation.broke(in_flight), None, "one of several");
        Isolation::new(isolation.suspects())
    }

    #[test]
    fn nothing_is_held_up_without_a_suspect() {
        let mut isolation = Isolation::new(Suspects::default());
        assert!(isolation.is_over());
        assert_eq!(isolation.admit(event(1), "e1", 20), Some("e1"));
        assert_eq!(isolation.admit(state("s"), "s", 21), Some("s"));
    }

    #[test]
    fn suspects_travel_alone_and_what_comes_behind_waits_in_order() {
        let mut isolation = after(vec![event(1), state("s")]);
        assert_eq!(isolation.admit(state("t"), "t", 0), Some("t"));
        assert_eq!(isolation.admit(event(1), "e1", 1), None, "t is in flight");
        assert_eq!(isolation.admit(event(2), "e2", 1), None, "it would overtake");
        assert_eq!(isolation.admit(state("s"), "s", 1), None);
        assert_eq!(isolation.next(0), Some("e1"));
        assert_eq!(isolation.next(1), None, "e1 travels alone");
        isolation.answered(&event(1));
        assert_eq!(isolation.next(0), Some("e2"));
        assert_eq!(isolation.next(1), None, "s is to travel alone");
        assert_eq!(isolation.next(0), Some("s"));
        isolation.answered(&state("s"));
        assert!(isolation.is_over());
        assert_eq!(isolation.admit(event(1), "e1", 5), Some("e1"), "it was answered once");
    }

    #[test]
    fn what_follows_an_unanswered_suspect_waits_although_nothing_waited_before() {
        let mut isolation = after(vec![event(1), event(2)]);
        assert_eq!(isolation.admit(event(1), "e1", 0), Some("e1"));
        assert_eq!(isolation.admit(event(9), "e9", 1), None);
        assert_eq!(isolation.next(0), Some("e9"), "e1 was answered");
    }

    #[test]
    fn the_one_that_was_alone_is_told_and_stays_suspected() {
        let mut isolation = after(vec![event(1), state("s")]);
        assert_eq!(isolation.broke(vec![state("s")]), Some(state("s")));
        assert_eq!(isolation.broke(Vec::new()), None);
        let mut next = Isolation::new(isolation.suspects());
        assert_eq!(next.admit(state("s"), "s", 1), None);
        assert_eq!(next.admit(event(1), "e1", 1), None);
    }

    #[test]
    fn a_state_is_known_by_its_topic() {
        let mut isolation = after(vec![event(1), state("s")]);
        let other = Travelling::State { topic: "s".to_owned(), bytes: 100 };
        assert_eq!(isolation.admit(other, "s", 1), None);
    }
}
