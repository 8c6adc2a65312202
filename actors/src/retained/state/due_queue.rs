//! A queue of topics, ordered by the time at which each is due.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

/// Topics that must be examined, each with its due time. A topic is queued at most once. Topics that are due
/// at the same time are returned in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct DueQueue {
    by_time: BTreeMap<(Instant, u64), String>,
    by_topic: HashMap<String, (Instant, u64)>,
    order: u64,
}

impl DueQueue {
    /// Schedules the topic for `at`, unless it is already scheduled for an earlier time.
    pub(super) fn add(&mut self, topic: &str, at: Instant) {
        if self.by_topic.get(topic).is_some_and(|(scheduled, _)| *scheduled <= at) {
            return;
        }
        self.remove(topic);
        self.order += 1;
        self.by_time.insert((at, self.order), topic.to_owned());
        self.by_topic.insert(topic.to_owned(), (at, self.order));
    }

    /// Removes and returns the first topic that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<String> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let topic = first.remove();
        self.by_topic.remove(&topic);
        Some(topic)
    }

    /// Returns the earliest due time.
    pub(super) fn first(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn remove(&mut self, topic: &str) {
        if let Some(scheduled) = self.by_topic.remove(topic) {
            self.by_time.remove(&scheduled);
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
    fn each_topic_is_returned_once_and_the_earliest_first() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut queue = DueQueue::default();
        for (topic, seconds) in [("late", 9), ("b", 1), ("a", 1), ("late", 2), ("b", 5)] {
            queue.add(topic, after(seconds));
        }
        assert_eq!((queue.first(), queue.pop(after(0))), (Some(after(1)), None));
        let mut all = || std::iter::from_fn(|| queue.pop(after(9))).collect::<Vec<_>>();
        assert_eq!(all(), ["b", "a", "late"]);
        assert_eq!(all(), [""; 0]);
    }
}
