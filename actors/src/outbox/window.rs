//! What is in flight: which events were sent on this link, which are settled, and which comes next.
//!
//! An event is *settled* when nothing more will be done for it: the broker acknowledged it, or it is dead. The *cursor*
//! is the last place up to which all events are settled; what is settled above it is remembered one by one, so that it
//! is not sent again. An event that died may have to be sent *again*: it stays settled, so that the cursor keeps its
//! place, and waits beside the others. Pure: no clock, no I/O.
//!
//! Promises: events are sent in the order of their places; after a link is lost, or the broker deferred an event, sending
//! starts again at the first event that is not settled, so a resend never overtakes; what an earlier link still says is
//! ignored. What is sent again goes before what was never sent on this link, in the order of its places.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    delivery::SettledRange,
    ids::{LinkId, Seq},
};

/// How far the newest sent event may be from the cursor, in windows. Acknowledgements may come in any order, so one
/// event without an answer must not let the memory of the later ones grow for ever.
const SPAN_WINDOWS: i64 = 8;

/// An event that the broker answered for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Whether it had been sent again.
    pub again: bool,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    limit: usize,
    in_flight: BTreeSet<Seq>,
    /// Those of [`Window::again`] that are not in flight.
    waiting: BTreeSet<Seq>,
    /// The next place to send.
    next: Seq,
    /// The broker deferred an event: nothing is sent until what is in flight is answered and [`Window::resume`] is called.
    paused: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Window {
    cursor: Seq,
    /// Settled above the cursor, and whether each was late.
    settled: BTreeMap<Seq, bool>,
    /// Died, and to be sent again.
    again: BTreeSet<Seq>,
    link: Option<Link>,
    /// Runs that the cursor passed since [`Window::take_ranges`].
    ranges: Vec<SettledRange>,
}

impl Window {
    /// A window without a link. Everything up to `cursor` is settled, and so are the events `dead` above it, also those
    /// that were dead once. The events `again` are to be sent again.
    pub fn new(
        cursor: Seq,
        dead: impl IntoIterator<Item = Seq>,
        again: impl IntoIterator<Item = Seq>,
    ) -> Self {
        let settled = dead.into_iter().filter(|seq| *seq > cursor).map(|seq| (seq, false)).collect();
        let again = again.into_iter().collect();
        let mut window = Self { cursor, settled, again, link: None, ranges: Vec::new() };
        window.advance();
        window
    }

    /// The link of now.
    pub fn link(&self) -> Option<LinkId> {
        self.link.as_ref().map(|link| link.id)
    }

    /// The last place up to which all events are settled.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// How many events above the cursor are settled.
    pub fn settled_above_cursor(&self) -> usize {
        self.settled.len()
    }

    /// How many events are to be sent again, or were and are not answered.
    pub fn to_send_again(&self) -> usize {
        self.again.len()
    }

    /// The first place where an event may be that waits.
    pub fn first_open(&self) -> Seq {
        let next = self.cursor.next();
        self.again.first().map_or(next, |again| next.min(*again))
    }

    /// Sends a dead event again.
    pub fn send_again(&mut self, seq: Seq) {
        debug_assert!(self.is_settled(seq), "only what died is sent again");
        if self.again.insert(seq)
            && let Some(link) = &mut self.link
        {
            link.waiting.insert(seq);
        }
    }

    /// Which of those that are to be sent again have their turn, in order. None that this link has yet to pass: they would
    /// overtake what lies before them.
    pub fn next_again(&self) -> impl Iterator<Item = Seq> {
        let link = self.link.as_ref().filter(|link| !link.paused);
        link.into_iter().flat_map(|link| link.waiting.range(..link.next).copied())
    }

    /// One of [`Window::next_again`] was sent.
    pub fn sent_again(&mut self, seq: Seq) {
        if let Some(link) = &mut self.link {
            let waited = link.waiting.remove(&seq);
            debug_assert!(waited, "only what waits is sent again");
            link.in_flight.insert(seq);
        }
    }

    /// It will not be sent again: it died once more, or is gone.
    pub fn forget_again(&mut self, seq: Seq) {
        self.again.remove(&seq);
        if let Some(link) = &mut self.link {
            link.waiting.remove(&seq);
        }
    }

    /// Whether nothing more will be done for the event, unless it is to be sent again.
    pub fn is_settled(&self, seq: Seq) -> bool {
        seq <= self.cursor || self.settled.contains_key(&seq)
    }

    /// How many events are sent and not answered.
    pub fn in_flight(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.in_flight.len())
    }

    /// The next place to send; `None` without a link.
    pub fn next(&self) -> Option<Seq> {
        self.link.as_ref().map(|link| link.next)
    }

    /// A new link, on which up to `limit` events may be in flight. What was in flight before is forgotten; sending
    /// starts at the first event that is not settled.
    pub fn link_up(&mut self, id: LinkId, limit: usize) {
        self.link = Some(Link {
            id,
            limit: limit.max(1),
            in_flight: BTreeSet::new(),
            waiting: self.again.clone(),
            next: self.cursor.next(),
            paused: false,
        });
    }

    /// From now on up to `limit` events may be in flight.
    pub fn set_limit(&mut self, limit: usize) {
        if let Some(link) = &mut self.link {
            link.limit = limit.max(1);
        }
    }

    /// The link is gone. Answers whether it was the current one.
    pub fn link_down(&mut self, id: LinkId) -> bool {
        let current = self.link.as_ref().is_some_and(|link| link.id == id);
        if current {
            self.link = None;
        }
        current
    }

    /// How many more events may be sent now.
    pub fn room(&self) -> usize {
        let Some(link) = self.link.as_ref().filter(|link| !link.paused) else { return 0 };
        let limit = i64::try_from(link.limit).unwrap_or(i64::MAX);
        let span = link.next.0 - self.cursor.next().0;
        let span_left = usize::try_from(limit.saturating_mul(SPAN_WINDOWS) - span).unwrap_or(0);
        link.limit.saturating_sub(link.in_flight.len()).min(span_left)
    }

    /// The event at [`Window::next`] was sent.
    pub fn sent(&mut self, seq: Seq) {
        if let Some(link) = &mut self.link {
            debug_assert_eq!(link.next, seq, "events are sent in order");
            link.in_flight.insert(seq);
            link.next = seq.next();
        }
    }

    /// The event at [`Window::next`] need not be sent: it is settled already.
    pub fn skipped(&mut self, seq: Seq) {
        if let Some(link) = &mut self.link {
            debug_assert_eq!(link.next, seq, "events are passed in order");
            link.next = seq.next();
        }
    }

    /// The broker answered for good. Answers `None`, and does nothing, when the event was not in flight on this link.
    pub fn settle(&mut self, id: LinkId, seq: Seq, late: bool) -> Option<Settled> {
        if !self.on(id)?.in_flight.remove(&seq) {
            return None;
        }
        let again = self.again.remove(&seq);
        if !again {
            self.settle_unsent(seq, late);
        }
        Some(Settled { again })
    }

    /// The event will never be sent, or was answered for good.
    pub fn settle_unsent(&mut self, seq: Seq, late: bool) {
        if seq > self.cursor {
            self.settled.entry(seq).or_insert(late);
            self.advance();
        }
    }

    /// The broker refused the event for now: nothing is sent until [`Window::resume`], which will send it again. Answers
    /// `false`, and does nothing, when the event was not in flight on this link.
    pub fn defer(&mut self, id: LinkId, seq: Seq) -> bool {
        let again = self.again.contains(&seq);
        let Some(link) = self.on(id) else { return false };
        let known = link.in_flight.remove(&seq);
        link.paused |= known;
        if known && again {
            link.waiting.insert(seq);
        }
        known
    }

    /// Whether an event was deferred and sending has not been resumed.
    pub fn is_paused(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.paused)
    }

    /// Resumes at the first event that is not settled; only when nothing is in flight any more, so that nothing is
    /// overtaken. Answers whether it did.
    pub fn resume(&mut self) -> bool {
        let next = self.cursor.next();
        match &mut self.link {
            Some(link) if link.paused && link.in_flight.is_empty() => {
                link.paused = false;
                link.next = next;
                true
            }
            _ => false,
        }
    }

    /// The runs that the cursor has passed since the last call: what a checkpoint must note.
    pub fn take_ranges(&mut self) -> Vec<SettledRange> {
        std::mem::take(&mut self.ranges)
    }

    fn on(&mut self, id: LinkId) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| link.id == id)
    }

    fn advance(&mut self) {
        while let Some(late) = self.settled.remove(&self.cursor.next()) {
            self.cursor = self.cursor.next();
            match self.ranges.last_mut() {
                Some(run) if run.late == late => run.up_to = self.cursor,
                _ => self.ranges.push(SettledRange { up_to: self.cursor, late }),
            }
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
