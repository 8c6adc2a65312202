//! What comes next from the log, read ahead by a page: memory stays the same whatever the backlog. Pure.

use std::collections::VecDeque;

use crate::domain::{event_log::StoredEvent, ids::Seq};

/// Events a page.
pub const PAGE: usize = 256;

/// Events that were just committed are taken while no more are held than this, and no more bytes of payload. Others are read
/// back when their turn comes, which costs processor time just when there is much to do: a burst is to fit.
const CAPACITY: usize = 16_384;
const CAPACITY_BYTES: usize = 16 * 1024 * 1024;

/// Events that are ready to be sent, in order, and the place from which the next page is read.
#[derive(Debug)]
pub struct ReadAhead {
    ready: VecDeque<StoredEvent>,
    /// Of the payloads that are ready.
    bytes: usize,
    next_read: Seq,
    reading: bool,
    /// Counts restarts, so that a page asked for before one is not taken for a page after it.
    generation: u64,
}

/// A page that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// The first place.
    pub from: Seq,
    /// The last place that was committed when it was asked for.
    pub last: Seq,
    generation: u64,
}

/// What is at a place of the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This event.
    Event(StoredEvent),
    /// Nothing, up to the place before this one: rows were removed from the database.
    Gap(Seq),
    /// It is not known yet.
    Unread,
}

impl ReadAhead {
    /// Nothing is ready; the first page starts at `from`.
    pub fn new(from: Seq) -> Self {
        Self { ready: VecDeque::new(), bytes: 0, next_read: from, reading: false, generation: 0 }
    }

    /// Starts again at `from`.
    pub fn restart(&mut self, from: Seq) {
        let generation = self.generation + 1;
        *self = Self { generation, ..Self::new(from) };
    }

    /// Events that were just committed: they need not be read back, if they are the next ones, as far as there is room.
    pub fn offer(&mut self, committed: &[StoredEvent]) {
        let follows = committed.first().is_some_and(|event| event.seq == self.next_read);
        if !follows || self.reading {
            return;
        }
        for event in committed {
            if self.ready.len() >= CAPACITY || self.bytes + event.payload.len() > CAPACITY_BYTES {
                break;
            }
            self.next_read = event.seq.next();
            self.hold(event.clone());
        }
    }

    fn hold(&mut self, event: StoredEvent) {
        self.bytes += event.payload.len();
        self.ready.push_back(event);
    }

    fn drop_first(&mut self) -> Option<StoredEvent> {
        let event = self.ready.pop_front()?;
        self.bytes -= event.payload.len();
        if self.ready.is_empty() {
            // What a burst needed is given back.
            self.ready.shrink_to(PAGE);
        }
        Some(event)
    }

    /// The page to read now, if one is due; `last` is the last committed place.
    pub fn wants(&mut self, last: Seq) -> Option<PageRequest> {
        if self.reading || self.ready.len() >= PAGE || self.next_read > last {
            return None;
        }
        self.reading = true;
        Some(PageRequest { from: self.next_read, last, generation: self.generation })
    }

    /// A page was read; `None` when it could not be.
    pub fn page(&mut self, request: PageRequest, rows: Option<Vec<StoredEvent>>) {
        if request.generation != self.generation {
            return;
        }
        self.reading = false;
        if let Some(rows) = rows {
            let complete = rows.len() < PAGE;
            for event in rows {
                self.hold(event);
            }
            self.next_read =
                if complete { request.last.next().max(self.after_ready()) } else { self.after_ready() };
        }
    }

    fn after_ready(&self) -> Seq {
        self.ready.back().map_or(self.next_read, |event| event.seq.next())
    }

    /// What is at the place `seq`; events before it are dropped.
    pub fn at(&mut self, seq: Seq) -> Next {
        while self.ready.front().is_some_and(|event| event.seq < seq) {
            self.drop_first();
        }
        match self.ready.front().map(|event| event.seq) {
            Some(first) if first == seq => self.drop_first().map_or(Next::Unread, Next::Event),
            Some(first) => Next::Gap(first),
            None if !self.reading && self.next_read > seq => Next::Gap(self.next_read),
            None => Next::Unread,
        }
    }

    /// The first event that is ready.
    pub fn front(&self) -> Option<&StoredEvent> {
        self.ready.front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{clock, ids::CameraId};

    fn events(places: impl IntoIterator<Item = i64>) -> Vec<StoredEvent> {
        let camera_id = CameraId::parse("c").unwrap();
        let event = |seq| StoredEvent {
            seq: Seq(seq),
            camera_id: camera_id.clone(),
            occurred_at: clock::from_micros(0),
            received_at: clock::from_micros(0),
            payload: "{}".into(),
        };
        places.into_iter().map(event).collect()
    }

    fn place(next: &Next) -> Option<i64> {
        match next {
            Next::Event(event) => Some(event.seq.0),
            _ => None,
        }
    }

    #[test]
    fn what_was_just_committed_is_not_read_back() {
        let mut feed = ReadAhead::new(Seq(5));
        feed.offer(&events(5..8));
        assert_eq!(feed.wants(Seq(7)), None);
        assert_eq!(place(&feed.at(Seq(5))), Some(5));
    }

    #[test]
    fn of_what_was_just_committed_as_much_is_held_as_there_is_room_for() {
        let capacity = i64::try_from(CAPACITY).unwrap();
        let last = capacity + 2000;
        let mut feed = ReadAhead::new(Seq(1));
        feed.offer(&events(1..2001));
        feed.offer(&events(2001..last));
        assert_eq!(feed.ready.len(), CAPACITY);
        feed.offer(&events(last..=last));
        assert_eq!(feed.ready.len(), CAPACITY, "what does not follow is not taken");
        for seq in 1..=capacity {
            assert_eq!(feed.wants(Seq(last)), None);
            assert_eq!(place(&feed.at(Seq(seq))), Some(seq));
            if feed.ready.len() == PAGE - 1 {
                break;
            }
        }
        assert_eq!(feed.wants(Seq(last)).unwrap().from, Seq(capacity + 1), "the rest is read back");
    }

    #[test]
    fn large_payloads_take_their_room() {
        let large = |seq| StoredEvent { payload: vec![b'x'; 1024 * 1024].into(), ..events([seq]).remove(0) };
        let mut feed = ReadAhead::new(Seq(1));
        feed.offer(&(1..20).map(large).collect::<Vec<_>>());
        assert_eq!(feed.ready.len(), 16);
        for seq in 1..17 {
            assert_eq!(place(&feed.at(Seq(seq))), Some(seq));
        }
        assert_eq!(feed.bytes, 0);
        assert_eq!(feed.wants(Seq(19)).unwrap().from, Seq(17));
    }

    #[test]
    fn what_does_not_follow_is_read_from_disk() {
        let mut feed = ReadAhead::new(Seq(1));
        feed.offer(&events(5..8));
        let request = feed.wants(Seq(7)).unwrap();
        assert_eq!(request.from, Seq(1));
        assert_eq!(feed.wants(Seq(7)), None, "one page at a time");
        feed.page(request, Some(events(1..8)));
        assert_eq!(place(&feed.at(Seq(1))), Some(1));
        assert_eq!(feed.wants(Seq(7)), None, "all is read");
    }

    #[test]
    fn a_backlog_is_read_in_pages() {
        let mut feed = ReadAhead::new(Seq(1));
        let last = Seq(10_000);
        let mut seq = Seq(1);
        while seq <= last {
            if let Some(request) = feed.wants(last) {
                let end = (request.from.0 + i64::try_from(PAGE).unwrap() - 1).min(last.0);
                feed.page(request, Some(events(request.from.0..=end)));
            }
            assert!(feed.ready.len() <= 2 * PAGE);
            assert_eq!(place(&feed.at(seq)), Some(seq.0));
            seq = seq.next();
        }
    }

    #[test]
    fn rows_that_are_missing_are_a_gap() {
        let mut feed = ReadAhead::new(Seq(1));
        let request = feed.wants(Seq(9)).unwrap();
        feed.page(request, Some(events([3, 4])));
        assert_eq!(feed.at(Seq(1)), Next::Gap(Seq(3)));
        feed.at(Seq(3));
        feed.at(Seq(4));
        assert_eq!(feed.at(Seq(5)), Next::Gap(Seq(10)));
    }

    #[test]
    fn a_page_from_before_a_restart_is_dropped() {
        let mut feed = ReadAhead::new(Seq(1));
        let request = feed.wants(Seq(9)).unwrap();
        feed.restart(Seq(4));
        feed.page(request, Some(events(1..10)));
        assert_eq!(feed.wants(Seq(9)).unwrap().from, Seq(4));
    }
}
