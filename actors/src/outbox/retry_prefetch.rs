//! The next retries, read a page at a time, so that only a few of them are in memory. No I/O.

use std::collections::BTreeMap;

use crate::{domain::ids::Seq, store::RetryingEvent};

/// Maximum number of waiting retries. Most of them are in memory only as seqs.
pub const MAX_RETRIES: usize = 10_000;

/// Number of events per page.
pub const PAGE: usize = 64;

/// The retries that are sent next.
#[derive(Debug, Default)]
pub struct RetryPrefetch {
    ready: BTreeMap<Seq, RetryingEvent>,
    reading: bool,
    /// Whether the last read failed.
    has_failed: bool,
}

impl RetryPrefetch {
    /// Takes the event with this seq, or returns `None` if it must be read first.
    pub fn take(&mut self, seq: Seq) -> Option<RetryingEvent> {
        self.ready.remove(&seq)
    }

    /// Puts back an event that was taken, because it is not sent yet.
    pub fn put_back(&mut self, retry: RetryingEvent) {
        self.ready.insert(retry.event.seq, retry);
    }

    /// Returns which of the `next` retries must be read now.
    pub fn wants(&mut self, next: impl Iterator<Item = Seq>) -> Option<Vec<Seq>> {
        if self.reading {
            return None;
        }
        let wanted: Vec<Seq> = next.take(PAGE).filter(|seq| !self.ready.contains_key(seq)).collect();
        self.reading = !wanted.is_empty();
        self.reading.then_some(wanted)
    }

    /// Adds a page. Returns which of the wanted events are missing in the database.
    pub fn page(&mut self, wanted: Vec<Seq>, read: Vec<RetryingEvent>) -> Vec<Seq> {
        (self.reading, self.has_failed) = (false, false);
        self.ready.extend(read.into_iter().map(|retry| (retry.event.seq, retry)));
        let missing = wanted.into_iter().filter(|seq| !self.ready.contains_key(seq)).collect();
        while self.ready.len() > 2 * PAGE {
            self.ready.pop_last();
        }
        missing
    }

    /// Records that a page could not be read.
    pub fn failed(&mut self) {
        (self.reading, self.has_failed) = (false, true);
    }

    /// Returns whether the last read failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock::{self, Moment},
        delivery::EventTimes,
        event_log::StoredEvent,
        ids::CameraId,
    };

    fn retry(seq: i64) -> RetryingEvent {
        let at = clock::from_micros(0);
        let camera_id = CameraId::parse("c").unwrap();
        let event = StoredEvent {
            seq: Seq(seq),
            camera_id,
            times: EventTimes::new(at, Moment::at(at)),
            payload: "{}".into(),
        };
        RetryingEvent { event, asked: Moment::at(at).log }
    }

    #[test]
    fn one_page_is_read_at_a_time_and_missing_events_are_reported() {
        let mut retries = RetryPrefetch::default();
        let next = || (1..1000).map(Seq);
        let wanted = retries.wants(next()).unwrap();
        assert_eq!(wanted.len(), PAGE);
        assert_eq!(retries.wants(next()), None, "one page at a time");
        let missing = retries.page(wanted, (1..=64).filter(|seq| *seq != 7).map(retry).collect());
        assert_eq!(missing, [Seq(7)]);
        assert!(retries.take(Seq(1)).is_some());
        assert!(retries.take(Seq(1)).is_none());
        let rest = (2..=64).filter(|seq| *seq != 7).map(Seq);
        assert_eq!(retries.wants(rest), None, "all of them are in memory");
    }
}
