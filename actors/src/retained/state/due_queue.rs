//! What is to be looked at, and when.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

/// Topics, each once, in the order of their times; at one time, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct DueQueue {
    by_time: BTreeMap<(Instant, u64), String>,
    by_topic: HashMap<String, (Instant, u64)>,
    order: u64,
}

impl DueQueue {
    /// Has the topic looked at, at `at`, or before if that was planned.
    pub(super) fn add(&mut self, topic: &str, at: Instant) {
        if self.by_topic.get(topic).is_some_and(|(planned, _)| *planned <= at) {
            return;
        }
        self.remove(topic);
        self.order += 1;
        self.by_time.insert((at, self.order), topic.to_owned());
        self.by_topic.insert(topic.to_owned(), (at, self.order));
    }

    /// Takes the first topic that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<String> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let topic = first.remove();
        self.by_topic.remove(&topic);
        Some(topic)
    }

    /// When the first one is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn remove(&mut self, topic: &str) {
        if let Some(planned) = self.by_topic.remove(topic) {
            self.by_time.remove(&planned);
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_time.clear();
        self.by_topic.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_comes_first_and_each_once() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut agenda = DueQueue::default();
        for (topic, seconds) in [("late", 9), ("b", 1), ("a", 1), ("late", 2), ("b", 5)] {
            agenda.add(topic, at(seconds));
        }
        assert_eq!((agenda.first(), agenda.pop(at(0))), (Some(at(1)), None));
        let mut all = || std::iter::from_fn(|| agenda.pop(at(9))).collect::<Vec<_>>();
        assert_eq!(all(), ["b", "a", "late"]);
        assert_eq!(all(), [""; 0]);
    }
}
