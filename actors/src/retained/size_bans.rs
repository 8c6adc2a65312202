//! Which of our topics make the broker end the connection. Pure: time is given.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// So many links must have ended over a protocol error with nothing else in flight. One may be chance; many would keep
/// events waiting for the sake of a state.
const STRIKES: u32 = 2;

/// How long nothing like it is sent: somebody may have changed the broker's limits meanwhile.
pub const LASTS: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct SizeBan {
    strikes: u32,
    /// The shortest payload with which it happened: a broker's limit is one of size, as a rule.
    bytes: usize,
    /// Until then nothing of this length is sent.
    until: Option<Instant>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct SizeBans {
    broker: String,
    topics: BTreeMap<String, SizeBan>,
}

impl SizeBans {
    /// A link to this broker came up: what was learnt of another one is of no use.
    pub fn link_up(&mut self, broker: &str) {
        if self.broker != broker {
            broker.clone_into(&mut self.broker);
            self.topics.clear();
        }
    }

    /// A link ended over a protocol error with only this message in flight. Answers whether from now on it is not sent.
    pub fn link_ended(&mut self, topic: &str, bytes: usize, now: Instant) -> bool {
        let first = SizeBan { strikes: 0, bytes, until: None };
        let blame = self.topics.entry(topic.to_owned()).or_insert(first);
        blame.strikes = blame.strikes.saturating_add(1);
        blame.bytes = blame.bytes.min(bytes);
        if blame.strikes >= STRIKES {
            blame.until = Some(now + LASTS);
        }
        blame.until.is_some()
    }

    /// Whether such a message must not be sent.
    pub fn forbid(&self, topic: &str, bytes: usize, now: Instant) -> bool {
        let Some(SizeBan { bytes: blamed, until: Some(until), .. }) = self.topics.get(topic) else {
            return false;
        };
        bytes >= *blamed && now < *until
    }

    /// The broker took such a message.
    pub fn taken(&mut self, topic: &str, bytes: usize) {
        if self.topics.get(topic).is_some_and(|blame| bytes >= blame.bytes) {
            self.topics.remove(topic);
        }
    }

    /// Forgets all topics but such.
    pub fn keep(&mut self, is_such: impl Fn(&str) -> bool) {
        self.topics.retain(|topic, _| is_such(topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(now: Instant) -> SizeBans {
        let mut blames = SizeBans::default();
        blames.link_up("broker:1883");
        assert!(!blames.link_ended("picture", 2000, now));
        assert!(!blames.forbid("picture", 2000, now), "once may be chance");
        assert!(blames.link_ended("picture", 1500, now));
        blames
    }

    #[tokio::test]
    async fn what_broke_two_links_is_not_sent_for_an_hour() {
        let now = Instant::now();
        let mut blames = blamed(now);
        assert!(blames.forbid("picture", 1500, now));
        assert!(blames.forbid("picture", 9999, now));
        assert!(!blames.forbid("picture", 1499, now), "a shorter one may pass");
        assert!(!blames.forbid("other", 9999, now));
        assert!(!blames.forbid("picture", 1500, now + LASTS));
        assert!(blames.link_ended("picture", 1500, now + LASTS), "the next time it is known at once");
        assert!(blames.forbid("picture", 1500, now + LASTS));
    }

    #[tokio::test]
    async fn what_the_broker_takes_is_not_to_blame() {
        let now = Instant::now();
        let mut blames = blamed(now);
        blames.taken("picture", 1499);
        assert!(blames.forbid("picture", 1500, now), "a shorter one says nothing");
        blames.taken("picture", 1500);
        assert!(!blames.forbid("picture", 1500, now));
        assert!(!blames.link_ended("picture", 1500, now), "it counts anew");
    }

    #[tokio::test]
    async fn another_broker_has_other_limits() {
        let now = Instant::now();
        let mut blames = blamed(now);
        blames.link_up("broker:1883");
        assert!(blames.forbid("picture", 1500, now));
        blames.link_up("other:1883");
        assert!(!blames.forbid("picture", 1500, now));
    }

    #[tokio::test]
    async fn removed_topics_are_forgotten() {
        let now = Instant::now();
        let mut blames = blamed(now);
        blames.keep(|topic| topic != "picture");
        assert!(!blames.forbid("picture", 1500, now));
    }
}
