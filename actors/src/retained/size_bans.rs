//! The part of the poison rule that applies to state messages: it stops sending a message because of which
//! the broker ends the connection. See docs/architecture.md, Poison messages.
//!
//! If two connections end with a protocol error while the same topic is alone in flight, messages to that
//! topic are banned for an hour when they are at least as long as the shortest one that ended a connection.
//! After the hour, one more such connection is enough for the next ban. An accepted message of at least that
//! length lifts the ban and resets the count.
//!
//! Time is passed in; there is no I/O.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Number of connections that must end before a topic is banned. A single one may be a coincidence; a higher
/// number would delay events for the sake of a state.
const STRIKES: u32 = 2;

/// How long a ban lasts. By then, somebody may have changed the broker's limits.
pub const BAN_DURATION: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct SizeBan {
    strikes: u32,
    /// Length of the shortest payload that ended a connection. Brokers usually limit the size of messages.
    bytes: usize,
    /// When the ban ends; `None` until there are enough strikes.
    until: Option<Instant>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct SizeBans {
    broker: String,
    topics: BTreeMap<String, SizeBan>,
}

impl SizeBans {
    /// Forgets all bans if the new connection leads to another broker, which may have other limits.
    pub fn link_up(&mut self, broker: &str) {
        if self.broker != broker {
            broker.clone_into(&mut self.broker);
            self.topics.clear();
        }
    }

    /// Counts a connection that ended with a protocol error while only this message was in flight. Returns
    /// whether such messages are banned from now on.
    pub fn link_ended(&mut self, topic: &str, bytes: usize, now: Instant) -> bool {
        let first = SizeBan { strikes: 0, bytes, until: None };
        let ban = self.topics.entry(topic.to_owned()).or_insert(first);
        ban.strikes = ban.strikes.saturating_add(1);
        ban.bytes = ban.bytes.min(bytes);
        if ban.strikes >= STRIKES {
            ban.until = Some(now + BAN_DURATION);
        }
        ban.until.is_some()
    }

    /// Returns whether a message of this length is banned from the topic.
    pub fn is_banned(&self, topic: &str, bytes: usize, now: Instant) -> bool {
        let Some(SizeBan { bytes: shortest, until: Some(until), .. }) = self.topics.get(topic) else {
            return false;
        };
        bytes >= *shortest && now < *until
    }

    /// Lifts the ban if the broker accepted a message of a banned length.
    pub fn accepted(&mut self, topic: &str, bytes: usize) {
        if self.topics.get(topic).is_some_and(|ban| bytes >= ban.bytes) {
            self.topics.remove(topic);
        }
    }

    /// Forgets all topics for which the predicate is false.
    pub fn retain(&mut self, predicate: impl Fn(&str) -> bool) {
        self.topics.retain(|topic, _| predicate(topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns bans with one topic, banned from 1,500 bytes on.
    fn banned(now: Instant) -> SizeBans {
        let mut bans = SizeBans::default();
        bans.link_up("broker:1883");
        assert!(!bans.link_ended("picture", 2000, now));
        assert!(!bans.is_banned("picture", 2000, now), "once may be a coincidence");
        assert!(bans.link_ended("picture", 1500, now));
        bans
    }

    #[tokio::test]
    async fn a_message_that_ended_two_connections_is_not_sent_for_an_hour() {
        let now = Instant::now();
        let mut bans = banned(now);
        assert!(bans.is_banned("picture", 1500, now));
        assert!(bans.is_banned("picture", 9999, now));
        assert!(!bans.is_banned("picture", 1499, now), "a shorter one may be accepted");
        assert!(!bans.is_banned("other", 9999, now));
        assert!(!bans.is_banned("picture", 1500, now + BAN_DURATION));
        assert!(bans.link_ended("picture", 1500, now + BAN_DURATION), "one more connection is enough");
        assert!(bans.is_banned("picture", 1500, now + BAN_DURATION));
    }

    #[tokio::test]
    async fn an_accepted_message_lifts_the_ban() {
        let now = Instant::now();
        let mut bans = banned(now);
        bans.accepted("picture", 1499);
        assert!(bans.is_banned("picture", 1500, now), "a shorter one proves nothing");
        bans.accepted("picture", 1500);
        assert!(!bans.is_banned("picture", 1500, now));
        assert!(!bans.link_ended("picture", 1500, now), "the count starts again");
    }

    #[tokio::test]
    async fn another_broker_has_other_limits() {
        let now = Instant::now();
        let mut bans = banned(now);
        bans.link_up("broker:1883");
        assert!(bans.is_banned("picture", 1500, now));
        bans.link_up("other:1883");
        assert!(!bans.is_banned("picture", 1500, now));
    }

    #[tokio::test]
    async fn removed_topics_are_forgotten() {
        let now = Instant::now();
        let mut bans = banned(now);
        bans.retain(|topic| topic != "picture");
        assert!(!bans.is_banned("picture", 1500, now));
    }
}
