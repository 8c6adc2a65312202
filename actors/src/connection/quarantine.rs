//! Which messages travel alone. Pure.
//!
//! A broker may end the connection over one message: mosquitto does so with one above its size limit. Which one it was
//! shows only when nothing else was in flight. So all that was in flight when a link ended over a protocol error is
//! suspected, and on the next links each of these travels alone until it is answered. What comes behind one of them waits
//! meanwhile, so that the order is kept.

use std::collections::VecDeque;

use crate::domain::suspects::{MessageRef, Suspects};

/// See the module's documentation. `T` is what waits.
#[derive(Debug)]
pub struct Quarantine<T> {
    suspects: Suspects,
    /// The newest message that left is suspected.
    alone: bool,
    waiting: VecDeque<(MessageRef, T)>,
}

impl<T> Quarantine<T> {
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
    pub fn admit(&mut self, what: MessageRef, message: T, in_flight: usize) -> Option<T> {
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

    fn may_leave(&mut self, what: &MessageRef, in_flight: usize) -> bool {
        let suspected = self.suspects.contain(what);
        let may = in_flight == 0 || !(suspected || self.alone);
        if may {
            self.alone = suspected;
        }
        may
    }

    /// The broker answered.
    pub fn answered(&mut self, what: &MessageRef) {
        self.suspects.remove(what);
        // If one is alone, the answer is to that one.
        self.alone = false;
    }

    /// The link ended over a protocol error while all this was in flight. Answers the one that was alone.
    pub fn broke(&mut self, mut in_flight: Vec<MessageRef>) -> Option<MessageRef> {
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
    use crate::domain::ids::Seq;

    fn event(seq: i64) -> MessageRef {
        MessageRef::Event(Seq(seq))
    }

    fn state(topic: &str) -> MessageRef {
        MessageRef::State { topic: topic.to_owned(), bytes: 7 }
    }

    /// After a link that broke with these in flight.
    fn after(in_flight: Vec<MessageRef>) -> Quarantine<&'static str> {
        let mut isolation = Quarantine::<&str>::new(Suspects::default());
        assert_eq!(isolation.broke(in_flight), None, "one of several");
        Quarantine::new(isolation.suspects())
    }

    #[test]
    fn nothing_is_held_up_without_a_suspect() {
        let mut isolation = Quarantine::new(Suspects::default());
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
        let mut next = Quarantine::new(isolation.suspects());
        assert_eq!(next.admit(state("s"), "s", 1), None);
        assert_eq!(next.admit(event(1), "e1", 1), None);
    }

    #[test]
    fn a_state_is_known_by_its_topic() {
        let mut isolation = after(vec![event(1), state("s")]);
        let other = MessageRef::State { topic: "s".to_owned(), bytes: 100 };
        assert_eq!(isolation.admit(other, "s", 1), None);
    }
}
