//! The order in which events leave their publisher, checked topic by topic and connection by connection.
//!
//! This module does no I/O. Unlike the events that a subscriber sees, these have not passed the broker. They are in
//! order if, on one topic and connection, each event is later than the one before, and none is sent ahead of an earlier
//! event that a previous connection carried without an acknowledgement, and that is sent again later. With QoS 2, a
//! broker may forward a message when it is released, so releases must follow the order of the broker's PUBRECs. The
//! rules do not apply if the broker defers events, because the publisher may then step back.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::proxy::PacketKind;

/// An event that was sent after a later one, or should have been sent before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken {
    /// The overtaken event.
    pub seq: u64,
    /// The later event.
    pub by: u64,
    /// The connection that carried the later event.
    pub connection: usize,
}

/// What one publisher sent to one broker.
#[derive(Debug, Default)]
pub struct Wire {
    /// The newest connection that has carried an event.
    connection: usize,
    topics: HashMap<String, Topic>,
    /// Unacknowledged events on this connection, with their topics, by packet id.
    in_flight: HashMap<u16, (u64, String)>,
    /// Events on this connection that are received but not released, in the order of receipt.
    unreleased: VecDeque<u64>,
    sent: BTreeMap<u64, Vec<usize>>,
    overtaken: Vec<Overtaken>,
}

/// What was sent to one topic.
#[derive(Debug, Default)]
struct Topic {
    /// The newest event on this connection.
    last: u64,
    /// The highest event on any connection.
    highest: u64,
    /// Events of earlier connections that are unacknowledged and not resent on this one.
    unsettled: BTreeSet<u64>,
    /// Those of them that were skipped, and the first event that was sent instead.
    skipped: BTreeMap<u64, u64>,
}

impl Wire {
    fn sent(&mut self, connection: usize, packet_id: u16, topic: &str, seq: u64) {
        let carried = self.sent.entry(seq).or_default();
        let is_new = carried.is_empty();
        carried.push(connection);
        if connection < self.connection {
            // These are leftovers that a stalled network delivered from an abandoned connection.
            return;
        }
        if connection > self.connection {
            self.connection = connection;
            self.unreleased.clear();
            self.topics.values_mut().for_each(|topic| topic.last = 0);
            for (seq, topic) in self.in_flight.drain().map(|(_, sent)| sent) {
                self.topics.entry(topic).or_default().unsettled.insert(seq);
            }
        }
        let mut fault = |seq, by| self.overtaken.push(Overtaken { seq, by, connection });
        let on = self.topics.entry(topic.to_owned()).or_default();
        if seq <= on.last {
            fault(seq, on.last);
        } else if is_new && seq < on.highest {
            fault(seq, on.highest);
        } else if let Some(by) = on.skipped.remove(&seq) {
            fault(seq, by);
        }
        let later = on.unsettled.split_off(&seq);
        for waiting in std::mem::replace(&mut on.unsettled, later) {
            on.skipped.entry(waiting).or_insert(seq);
        }
        on.unsettled.remove(&seq);
        // With QoS 0, the packet id is 0, and no acknowledgement follows.
        if packet_id != 0 {
            self.in_flight.insert(packet_id, (seq, topic.to_owned()));
        }
        on.last = seq;
        on.highest = on.highest.max(seq);
    }

    /// Records a packet; `seq` extracts the seq of an event, or returns `None` for an event to ignore.
    pub fn record(&mut self, connection: usize, packet: &PacketKind, seq: impl FnOnce(&[u8]) -> Option<u64>) {
        match packet {
            PacketKind::Event(publish) => {
                if let Some(seq) = seq(&publish.payload) {
                    self.sent(connection, publish.packet_id, &publish.topic, seq);
                }
            }
            PacketKind::Received(packet_id) => self.received(connection, *packet_id),
            PacketKind::Released(packet_id) => self.released(connection, *packet_id),
            PacketKind::Settled(packet_id) => self.settled(connection, *packet_id),
        }
    }

    fn received(&mut self, connection: usize, packet_id: u16) {
        if connection == self.connection {
            self.unreleased.extend(self.in_flight.get(&packet_id).map(|(seq, _)| seq));
        }
    }

    fn released(&mut self, connection: usize, packet_id: u16) {
        let Some(&(seq, _)) = self.in_flight.get(&packet_id) else { return };
        if connection == self.connection
            && let Some(place) = self.unreleased.iter().position(|other| *other == seq)
        {
            let skipped = self.unreleased.drain(..=place).take(place);
            self.overtaken.extend(skipped.map(|waiting| Overtaken { seq: waiting, by: seq, connection }));
        }
    }

    fn settled(&mut self, connection: usize, packet_id: u16) {
        if connection == self.connection {
            self.in_flight.remove(&packet_id);
        }
    }

    /// Returns how many distinct events were sent.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sent.len()
    }

    /// Returns the events that were sent out of order.
    #[must_use]
    pub fn overtaken(&self) -> &[Overtaken] {
        &self.overtaken
    }

    /// Returns the connections that carried this event, in order.
    #[must_use]
    pub fn carried(&self, seq: u64) -> &[usize] {
        self.sent.get(&seq).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns connection 1 with the events 1 to 4. The events 1 and 2 are acknowledged.
    fn wire() -> Wire {
        let mut wire = Wire::default();
        (1..=4).for_each(|number| wire.sent(1, number, "t", number.into()));
        (1..=2).for_each(|packet_id| wire.settled(1, packet_id));
        wire
    }

    fn overtaken(wire: &Wire) -> Vec<(u64, u64)> {
        wire.overtaken().iter().map(|case| (case.seq, case.by)).collect()
    }

    #[test]
    fn a_resend_continues_at_the_first_unacknowledged_event() {
        let mut wire = wire();
        (3..=6).for_each(|number| wire.sent(2, number, "t", number.into()));
        assert_eq!(overtaken(&wire), []);
        assert_eq!((wire.carried(3), wire.carried(6)), ([1, 2].as_slice(), [2].as_slice()));
    }

    #[test]
    fn a_resend_may_begin_earlier() {
        let mut wire = wire();
        (1..=6).for_each(|number| wire.sent(2, number, "t", number.into()));
        assert_eq!(overtaken(&wire), []);
    }

    #[test]
    fn a_resend_that_skips_an_unacknowledged_event_overtakes_it() {
        let mut wire = wire();
        wire.sent(2, 1, "t", 4);
        wire.sent(2, 2, "history", 3);
        assert_eq!(overtaken(&wire), [], "it has become late");
        wire.sent(3, 1, "t", 3);
        assert_eq!(overtaken(&wire), [(3, 4)]);
    }

    #[test]
    fn an_event_sent_after_a_later_one_on_the_same_connection_is_overtaken() {
        let mut wire = wire();
        wire.sent(1, 5, "t", 6);
        wire.sent(1, 6, "t", 5);
        assert_eq!(overtaken(&wire), [(5, 6)]);
    }

    #[test]
    fn a_new_event_on_a_new_connection_must_be_later_than_all_sent_before() {
        let mut wire = wire();
        (3..=4).for_each(|packet_id| wire.settled(1, packet_id));
        wire.sent(1, 5, "t", 7);
        wire.settled(1, 5);
        wire.sent(2, 1, "t", 6);
        assert_eq!(overtaken(&wire), [(6, 7)]);
    }

    #[test]
    fn releases_must_follow_the_order_of_receipt() {
        let mut wire = wire();
        wire.sent(1, 5, "t", 5);
        for packet_id in [4, 3, 5] {
            wire.received(1, packet_id);
        }
        for packet_id in [4, 5, 3] {
            wire.released(1, packet_id);
        }
        assert_eq!(overtaken(&wire), [(3, 5)]);
    }

    #[test]
    fn an_event_with_qos_0_is_not_sent_again() {
        let mut wire = wire();
        (3..=4).for_each(|packet_id| wire.settled(1, packet_id));
        wire.sent(1, 0, "t", 5);
        wire.sent(1, 0, "t", 6);
        wire.sent(2, 0, "t", 7);
        assert_eq!(overtaken(&wire), []);
    }

    #[test]
    fn leftovers_of_an_abandoned_connection_are_ignored() {
        let mut wire = wire();
        wire.sent(2, 1, "t", 3);
        wire.sent(1, 9, "t", 5);
        wire.sent(2, 2, "t", 4);
        wire.sent(2, 3, "t", 5);
        assert_eq!(overtaken(&wire), []);
    }
}
