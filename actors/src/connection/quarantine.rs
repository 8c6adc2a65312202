//! Decides which messages are sent alone. Performs no I/O.
//!
//! A broker may end the connection because of a single message; mosquitto does this with a message above its
//! size limit. The message that caused it can only be identified if nothing else was in flight. So when a
//! link ends with a protocol error, all messages in flight become suspects. On the following links, each
//! suspect is sent alone: it waits until nothing else is in flight, and nothing else is sent until the broker
//! has answered it. Messages behind a suspect wait, so the order is kept. An answer clears the suspect. A
//! suspect that was alone when the link ended is reported, and the outbox (`PoisonDetector`) and the retained
//! actor (`SizeBans`) decide when to give up on it: see docs/architecture.md, Poison messages.

use std::collections::VecDeque;

use crate::domain::suspects::{MessageRef, Suspects};

/// Holds back messages so that suspects are sent alone. `T` is the message that is held back.
#[derive(Debug)]
pub struct Quarantine<T> {
    suspects: Suspects,
    /// Whether the last message that was sent is a suspect that has not been answered.
    is_suspect_in_flight: bool,
    waiting: VecDeque<(MessageRef, T)>,
}

impl<T> Quarantine<T> {
    /// Creates the quarantine of a new link.
    pub fn new(suspects: Suspects) -> Self {
        Self { suspects, is_suspect_in_flight: false, waiting: VecDeque::new() }
    }

    /// Returns whether there are no suspects and no waiting messages, so that every message can be sent
    /// immediately.
    pub fn is_empty(&self) -> bool {
        self.suspects.is_empty() && self.waiting.is_empty()
    }

    /// Returns the messages that are held back.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, message)| message)
    }

    /// Returns the message if it can be sent while `in_flight` messages are in flight. Otherwise holds it
    /// back.
    pub fn admit(&mut self, message_ref: MessageRef, message: T, in_flight: usize) -> Option<T> {
        if self.waiting.is_empty() && self.may_send(&message_ref, in_flight) {
            return Some(message);
        }
        self.waiting.push_back((message_ref, message));
        None
    }

    /// Returns the next message that was held back, if it can be sent while `in_flight` messages are in
    /// flight.
    pub fn release_next(&mut self, in_flight: usize) -> Option<T> {
        let (message_ref, message) = self.waiting.pop_front()?;
        if self.may_send(&message_ref, in_flight) {
            return Some(message);
        }
        self.waiting.push_front((message_ref, message));
        None
    }

    fn may_send(&mut self, message_ref: &MessageRef, in_flight: usize) -> bool {
        let is_suspect = self.suspects.contains(message_ref);
        let may_send = in_flight == 0 || !(is_suspect || self.is_suspect_in_flight);
        if may_send {
            self.is_suspect_in_flight = is_suspect;
        }
        may_send
    }

    /// Clears a message that the broker answered.
    pub fn clear(&mut self, message_ref: &MessageRef) {
        self.suspects.remove(message_ref);
        // If a suspect was in flight, nothing else was: the answer is for that suspect.
        self.is_suspect_in_flight = false;
    }

    /// Marks all messages that were in flight when the link ended with a protocol error as suspects. Returns
    /// the message if there was only one.
    pub fn link_broke(&mut self, mut in_flight: Vec<MessageRef>) -> Option<MessageRef> {
        for message_ref in &in_flight {
            self.suspects.insert(message_ref);
        }
        in_flight.pop().filter(|_| in_flight.is_empty())
    }

    /// Returns the suspects, for the next link.
    pub fn into_suspects(self) -> Suspects {
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

    /// The quarantine after a link broke while these messages were in flight.
    fn after_break(in_flight: Vec<MessageRef>) -> Quarantine<&'static str> {
        let mut quarantine = Quarantine::<&str>::new(Suspects::default());
        assert_eq!(quarantine.link_broke(in_flight), None, "one of several");
        Quarantine::new(quarantine.into_suspects())
    }

    #[test]
    fn nothing_is_held_back_without_a_suspect() {
        let mut quarantine = Quarantine::new(Suspects::default());
        assert!(quarantine.is_empty());
        assert_eq!(quarantine.admit(event(1), "e1", 20), Some("e1"));
        assert_eq!(quarantine.admit(state("s"), "s", 21), Some("s"));
    }

    #[test]
    fn suspects_are_sent_alone_and_messages_behind_them_wait_in_order() {
        let mut quarantine = after_break(vec![event(1), state("s")]);
        assert_eq!(quarantine.admit(state("t"), "t", 0), Some("t"));
        assert_eq!(quarantine.admit(event(1), "e1", 1), None, "t is in flight");
        assert_eq!(quarantine.admit(event(2), "e2", 1), None, "it would overtake e1");
        assert_eq!(quarantine.admit(state("s"), "s", 1), None);
        assert_eq!(quarantine.release_next(0), Some("e1"));
        assert_eq!(quarantine.release_next(1), None, "e1 is sent alone");
        quarantine.clear(&event(1));
        assert_eq!(quarantine.release_next(0), Some("e2"));
        assert_eq!(quarantine.release_next(1), None, "s must be sent alone");
        assert_eq!(quarantine.release_next(0), Some("s"));
        quarantine.clear(&state("s"));
        assert!(quarantine.is_empty());
        assert_eq!(quarantine.admit(event(1), "e1", 5), Some("e1"), "it was answered once");
    }

    #[test]
    fn a_message_behind_an_unanswered_suspect_waits_even_if_it_is_the_first_to_wait() {
        let mut quarantine = after_break(vec![event(1), event(2)]);
        assert_eq!(quarantine.admit(event(1), "e1", 0), Some("e1"));
        assert_eq!(quarantine.admit(event(9), "e9", 1), None);
        assert_eq!(quarantine.release_next(0), Some("e9"), "e1 was answered");
    }

    #[test]
    fn the_sole_suspect_is_returned_and_remains_suspected() {
        let mut quarantine = after_break(vec![event(1), state("s")]);
        assert_eq!(quarantine.link_broke(vec![state("s")]), Some(state("s")));
        assert_eq!(quarantine.link_broke(Vec::new()), None);
        let mut next = Quarantine::new(quarantine.into_suspects());
        assert_eq!(next.admit(state("s"), "s", 1), None);
        assert_eq!(next.admit(event(1), "e1", 1), None);
    }

    #[test]
    fn a_state_message_is_identified_by_its_topic() {
        let mut quarantine = after_break(vec![event(1), state("s")]);
        let other = MessageRef::State { topic: "s".to_owned(), bytes: 100 };
        assert_eq!(quarantine.admit(other, "s", 1), None);
    }
}
