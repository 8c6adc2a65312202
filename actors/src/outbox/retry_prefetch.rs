//! Dead events that are to be sent again, read a few at a time: however many wait, few of them are in memory. Pure.

use std::collections::BTreeMap;

use crate::{domain::ids::Seq, store::RetryingEvent};

/// So many may wait to be sent again at a time. Only their places are in memory.
pub const MAX_AGAIN: usize = 10_000;

/// Events a page.
pub const PAGE: usize = 64;

/// Those whose turn comes next.
#[derive(Debug, Default)]
pub struct RetryPrefetch {
    ready: BTreeMap<Seq, RetryingEvent>,
    reading: bool,
}

impl RetryPrefetch {
    /// Takes the event at this place; `None`: it has to be read.
    pub fn take(&mut self, seq: Seq) -> Option<RetryingEvent> {
        self.ready.remove(&seq)
    }

    /// Which of those that have their turn are to be read now.
    pub fn wants(&mut self, turn: impl Iterator<Item = Seq>) -> Option<Vec<Seq>> {
        if self.reading {
            return None;
        }
        let wanted: Vec<Seq> = turn.take(PAGE).filter(|seq| !self.ready.contains_key(seq)).collect();
        self.reading = !wanted.is_empty();
        self.reading.then_some(wanted)
    }

    /// A page was read. Answers which of those that were wanted are not there.
    pub fn page(&mut self, wanted: Vec<Seq>, read: Vec<RetryingEvent>) -> Vec<Seq> {
        self.reading = false;
        self.ready.extend(read.into_iter().map(|again| (again.event.seq, again)));
        let missing = wanted.into_iter().filter(|seq| !self.ready.contains_key(seq)).collect();
        while self.ready.len() > 2 * PAGE {
            self.ready.pop_last();
        }
        missing
    }

    /// A page could not be read.
    pub fn failed(&mut self) {
        self.reading = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{clock, event_log::StoredEvent, ids::CameraId};

    fn again(seq: i64) -> RetryingEvent {
        let at = clock::from_micros(0);
        let camera_id = CameraId::parse("c").unwrap();
        let event =
            StoredEvent { seq: Seq(seq), camera_id, occurred_at: at, received_at: at, payload: "{}".into() };
        RetryingEvent { event, asked_at: at }
    }

    #[test]
    fn a_page_at_a_time_is_read_and_what_is_missing_is_told() {
        let mut ahead = RetryPrefetch::default();
        let turn = || (1..1000).map(Seq);
        let wanted = ahead.wants(turn()).unwrap();
        assert_eq!(wanted.len(), PAGE);
        assert_eq!(ahead.wants(turn()), None, "one page at a time");
        let missing = ahead.page(wanted, (1..=64).filter(|seq| *seq != 7).map(again).collect());
        assert_eq!(missing, [Seq(7)]);
        assert!(ahead.take(Seq(1)).is_some());
        assert!(ahead.take(Seq(1)).is_none());
        let rest = (2..=64).filter(|seq| *seq != 7).map(Seq);
        assert_eq!(ahead.wants(rest), None, "all of them are there");
    }
}
