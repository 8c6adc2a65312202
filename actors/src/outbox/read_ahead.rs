//! The next events in the log, read one page ahead, so that memory use does not depend on the backlog. No
//! I/O.

use std::collections::VecDeque;

use crate::domain::{
    event_log::{EventPage, LogRow, StoredEvent},
    ids::Seq,
};

/// Number of events per page.
pub const PAGE: usize = 256;

/// Maximum number of buffered events, and maximum size of their payloads. New events beyond these limits are
/// read back from the database later, which costs CPU time when the load is already high. Therefore the
/// limits should be large enough for a burst.
const CAPACITY: usize = 16_384;
const CAPACITY_BYTES: usize = 16 * 1024 * 1024;

/// The events that are ready to be sent, in order, and where the next page starts.
#[derive(Debug)]
pub struct ReadAhead {
    ready: VecDeque<LogRow>,
    /// Total payload size of `ready`.
    bytes: usize,
    next_read: Seq,
    reading: bool,
    /// Number of restarts, to recognize pages that were requested before the latest restart.
    generation: u64,
}

/// A page that must be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// The first seq.
    pub from: Seq,
    /// The last seq that was committed when the page was requested.
    pub last: Seq,
    generation: u64,
}

/// What the log contains at a seq.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This event.
    Event(StoredEvent),
    /// A row that cannot be read.
    Unreadable,
    /// No event before this seq, because rows were removed from the database.
    Gap(Seq),
    /// Not known yet.
    Unread,
}

impl ReadAhead {
    /// Creates an empty buffer; the first page starts at `from`.
    pub fn new(from: Seq) -> Self {
        Self { ready: VecDeque::new(), bytes: 0, next_read: from, reading: false, generation: 0 }
    }

    /// Drops everything and starts again at `from`.
    pub fn restart(&mut self, from: Seq) {
        let generation = self.generation + 1;
        *self = Self { generation, ..Self::new(from) };
    }

    /// Adds events that were just committed if they are the next ones, up to the capacity.
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
            self.push(LogRow::Event(event.clone()));
        }
    }

    fn push(&mut self, row: LogRow) {
        self.bytes += row.bytes();
        self.ready.push_back(row);
    }

    fn drop_first(&mut self) -> Option<LogRow> {
        let row = self.ready.pop_front()?;
        self.bytes -= row.bytes();
        if self.ready.is_empty() {
            // Release the memory that a burst needed.
            self.ready.shrink_to(PAGE);
        }
        Some(row)
    }

    /// Continues at `next`, because nothing before it is needed.
    pub fn skip_to(&mut self, next: Seq) {
        if !self.reading && self.ready.is_empty() {
            self.next_read = self.next_read.max(next);
        }
    }

    /// Returns the page to read now, if one is needed; `last` is the last committed seq.
    pub fn wants(&mut self, last: Seq) -> Option<PageRequest> {
        if self.reading || self.ready.len() >= PAGE || self.next_read > last {
            return None;
        }
        self.reading = true;
        Some(PageRequest { from: self.next_read, last, generation: self.generation })
    }

    /// Adds a page, or `None` if it could not be read.
    pub fn page(&mut self, request: PageRequest, page: Option<EventPage>) {
        if request.generation != self.generation {
            return;
        }
        self.reading = false;
        if let Some(EventPage { rows, end }) = page {
            for row in rows {
                self.push(row);
            }
            self.next_read = end.unwrap_or(request.last).next().max(self.after_ready());
        }
    }

    fn after_ready(&self) -> Seq {
        self.ready.back().map_or(self.next_read, |row| row.seq().next())
    }

    /// Takes the event at `seq`; drops the events before it.
    pub fn at(&mut self, seq: Seq) -> Next {
        while self.ready.front().is_some_and(|row| row.seq() < seq) {
            self.drop_first();
        }
        match self.ready.front().map(LogRow::seq) {
            Some(first) if first == seq => match self.drop_first() {
                Some(LogRow::Event(event)) => Next::Event(event),
                Some(LogRow::Unreadable(_)) => Next::Unreadable,
                None => Next::Unread,
            },
            Some(first) => Next::Gap(first),
            None if !self.reading && self.next_read > seq => Next::Gap(self.next_read),
            None => Next::Unread,
        }
    }

    /// Puts back the event that was taken last, because it is not sent yet.
    pub fn put_back(&mut self, event: StoredEvent) {
        let row = LogRow::Event(event);
        self.bytes += row.bytes();
        self.ready.push_front(row);
    }

    /// Returns the first event that is ready.
    pub fn front(&self) -> Option<&StoredEvent> {
        match self.ready.front()? {
            LogRow::Event(event) => Some(event),
            LogRow::Unreadable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock::{self, Moment},
        delivery::EventTimes,
        ids::CameraId,
    };

    fn events(seqs: impl IntoIterator<Item = i64>) -> Vec<StoredEvent> {
        let (camera_id, at) = (CameraId::parse("c").unwrap(), clock::from_micros(0));
        let event = |seq| StoredEvent {
            seq: Seq(seq),
            camera_id: camera_id.clone(),
            times: EventTimes::new(at, Moment::at(at)),
            payload: "{}".into(),
        };
        seqs.into_iter().map(event).collect()
    }

    /// The rest of the log.
    fn whole(seqs: impl IntoIterator<Item = i64>) -> EventPage {
        EventPage { rows: events(seqs).into_iter().map(LogRow::Event).collect(), end: None }
    }

    fn seq_of(next: &Next) -> Option<i64> {
        match next {
            Next::Event(event) => Some(event.seq.0),
            _ => None,
        }
    }

    #[test]
    fn events_that_were_just_committed_are_not_read_back() {
        let mut read_ahead = ReadAhead::new(Seq(5));
        read_ahead.offer(&events(5..8));
        assert_eq!(read_ahead.wants(Seq(7)), None);
        assert_eq!(seq_of(&read_ahead.at(Seq(5))), Some(5));
    }

    #[test]
    fn events_that_were_just_committed_are_buffered_up_to_the_capacity() {
        let capacity = i64::try_from(CAPACITY).unwrap();
        let last = capacity + 2000;
        let mut read_ahead = ReadAhead::new(Seq(1));
        read_ahead.offer(&events(1..2001));
        read_ahead.offer(&events(2001..last));
        assert_eq!(read_ahead.ready.len(), CAPACITY);
        read_ahead.offer(&events(last..=last));
        assert_eq!(read_ahead.ready.len(), CAPACITY, "an event that is not the next one is not buffered");
        for seq in 1..=capacity {
            assert_eq!(read_ahead.wants(Seq(last)), None);
            assert_eq!(seq_of(&read_ahead.at(Seq(seq))), Some(seq));
            if read_ahead.ready.len() == PAGE - 1 {
                break;
            }
        }
        assert_eq!(read_ahead.wants(Seq(last)).unwrap().from, Seq(capacity + 1), "the rest is read back");
    }

    #[test]
    fn the_size_of_payloads_is_limited() {
        let large = |seq| StoredEvent { payload: vec![b'x'; 1024 * 1024].into(), ..events([seq]).remove(0) };
        let mut read_ahead = ReadAhead::new(Seq(1));
        read_ahead.offer(&(1..20).map(large).collect::<Vec<_>>());
        assert_eq!(read_ahead.ready.len(), 16);
        for seq in 1..17 {
            assert_eq!(seq_of(&read_ahead.at(Seq(seq))), Some(seq));
        }
        assert_eq!(read_ahead.bytes, 0);
        assert_eq!(read_ahead.wants(Seq(19)).unwrap().from, Seq(17));
    }

    #[test]
    fn events_that_are_not_the_next_ones_are_read_from_the_database() {
        let mut read_ahead = ReadAhead::new(Seq(1));
        read_ahead.offer(&events(5..8));
        let request = read_ahead.wants(Seq(7)).unwrap();
        assert_eq!(request.from, Seq(1));
        assert_eq!(read_ahead.wants(Seq(7)), None, "one page at a time");
        read_ahead.page(request, Some(whole(1..8)));
        assert_eq!(seq_of(&read_ahead.at(Seq(1))), Some(1));
        assert_eq!(read_ahead.wants(Seq(7)), None, "everything is read");
    }

    #[test]
    fn a_backlog_is_read_in_pages() {
        let mut read_ahead = ReadAhead::new(Seq(1));
        let last = Seq(10_000);
        let mut seq = Seq(1);
        while seq <= last {
            if let Some(request) = read_ahead.wants(last) {
                let end = (request.from.0 + i64::try_from(PAGE).unwrap() - 1).min(last.0);
                read_ahead
                    .page(request, Some(EventPage { end: Some(Seq(end)), ..whole(request.from.0..=end) }));
            }
            assert!(read_ahead.ready.len() <= 2 * PAGE);
            assert_eq!(seq_of(&read_ahead.at(seq)), Some(seq.0));
            seq = seq.next();
        }
    }

    #[test]
    fn positions_before_the_next_event_are_not_read() {
        let mut read_ahead = ReadAhead::new(Seq(1));
        read_ahead.skip_to(Seq(1_000));
        let request = read_ahead.wants(Seq(1_001)).unwrap();
        assert_eq!(request.from, Seq(1_000));
        read_ahead.skip_to(Seq(2_000));
        read_ahead.page(request, Some(whole([1_000, 1_001])));
        read_ahead.skip_to(Seq(2_000));
        assert_eq!(seq_of(&read_ahead.at(Seq(1_000))), Some(1_000), "what was read is not dropped");
    }

    #[test]
    fn missing_rows_are_a_gap() {
        let mut read_ahead = ReadAhead::new(Seq(1));
        let request = read_ahead.wants(Seq(9)).unwrap();
        read_ahead.page(request, Some(whole([3, 4])));
        assert_eq!(read_ahead.at(Seq(1)), Next::Gap(Seq(3)));
        read_ahead.at(Seq(3));
        read_ahead.at(Seq(4));
        assert_eq!(read_ahead.at(Seq(5)), Next::Gap(Seq(10)));
    }

    #[test]
    fn invariant_12_an_unreadable_row_does_not_hide_the_rows_after_it() {
        let mut read_ahead = ReadAhead::new(Seq(1));
        let request = read_ahead.wants(Seq(9)).unwrap();
        let mut page = EventPage { end: Some(Seq(3)), ..whole([1, 3]) };
        page.rows.insert(1, LogRow::Unreadable(Seq(2)));
        read_ahead.page(request, Some(page));
        assert_eq!(seq_of(&read_ahead.at(Seq(1))), Some(1));
        assert_eq!(read_ahead.at(Seq(2)), Next::Unreadable);
        assert_eq!(seq_of(&read_ahead.at(Seq(3))), Some(3));
        assert_eq!(read_ahead.at(Seq(4)), Next::Unread, "the page ended there");
        assert_eq!(read_ahead.wants(Seq(9)).unwrap().from, Seq(4));
    }

    #[test]
    fn a_page_that_was_requested_before_a_restart_is_dropped() {
        let mut read_ahead = ReadAhead::new(Seq(1));
        let request = read_ahead.wants(Seq(9)).unwrap();
        read_ahead.restart(Seq(4));
        read_ahead.page(request, Some(whole(1..10)));
        assert_eq!(read_ahead.wants(Seq(9)).unwrap().from, Seq(4));
    }
}
