//! The window: which events are in flight on this link, which are settled, and which one is sent next.
//!
//! An event is *settled* when nothing more is done for it: the broker has acknowledged it, or it is dead. The
//! *cursor* is the highest seq up to which all events are settled. Settled events above the cursor are
//! tracked individually, so that they are not sent again. A dead event can be *retried*: it stays settled, so
//! that the cursor does not move back, and is tracked separately. A *gap* is a range of positions without events;
//! the cursor and the next position skip it.
//!
//! Guarantees:
//! - Events are sent in the order of their seqs.
//! - After a lost link, or when the broker has deferred an event, sending restarts at the first event that is
//!   not settled, so a resent event never overtakes another one.
//! - Outcomes that belong to an earlier link are ignored.
//! - Retries are sent before events that this link has not sent yet, in the order of their seqs.
//!
//! This module has no clock and does no I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    clock::Moment,
    delivery::{SettledRange, Settlement},
    event_log::SeqGap,
    ids::{LinkId, Seq},
};

/// The maximum distance between the cursor and the newest sent event, as a multiple of the limit.
/// Acknowledgements may arrive in any order, so without this bound one unacknowledged event would let the
/// settled events above it accumulate forever.
const SPAN_WINDOWS: i64 = 8;

/// An event that was in flight and is now settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled<T> {
    /// Whether it was a retry.
    pub again: bool,
    /// The note that was passed when it was sent.
    pub note: T,
}

#[derive(Debug)]
struct Link<T> {
    id: LinkId,
    limit: usize,
    in_flight: BTreeMap<Seq, T>,
    /// The part of [`Window::again`] that is not in flight.
    waiting: BTreeSet<Seq>,
    /// The next event to send.
    next: Seq,
    /// Set when the broker defers an event. Nothing is sent until all events in flight are settled and
    /// [`Window::resume`] is called.
    paused: bool,
}

/// See the module's documentation. `T` is a note that the caller attaches to each event in flight.
#[derive(Debug)]
pub struct Window<T> {
    cursor: Seq,
    /// The settled events above the cursor.
    settled: BTreeMap<Seq, Settlement>,
    /// The gaps above the cursor: the first and the last of positions at which there are no events.
    gaps: BTreeMap<Seq, Seq>,
    /// The settlement that is recorded for a gap that no other range precedes. Its time is that of the latest
    /// settlement.
    gap: Settlement,
    /// Dead events that must be sent again.
    again: BTreeSet<Seq>,
    link: Option<Link<T>>,
    /// Ranges that the cursor has passed since the last [`Window::take_ranges`].
    ranges: Vec<SettledRange>,
}

impl<T> Window<T> {
    /// Creates a window without a link. Everything up to `cursor` is settled, and so are the events in
    /// `settled`, all of which were dead once. The events in `again` must be sent again.
    pub fn new(
        cursor: Seq,
        settled: impl IntoIterator<Item = Seq>,
        again: impl IntoIterator<Item = Seq>,
        now: Moment,
    ) -> Self {
        let how = Settlement::unpublished(now);
        let settled = settled.into_iter().filter(|seq| *seq > cursor).map(|seq| (seq, how)).collect();
        let again = again.into_iter().collect();
        let (gaps, ranges) = (BTreeMap::new(), Vec::new());
        let mut window = Self { cursor, settled, gaps, gap: how, again, link: None, ranges };
        window.advance();
        window
    }

    /// Adds positions at which there are no events. They are neither sent nor pending.
    #[must_use]
    pub fn with_gaps(mut self, gaps: impl IntoIterator<Item = SeqGap>) -> Self {
        let above = gaps.into_iter().filter(|gap| gap.last > self.cursor);
        self.gaps = above.map(|gap| (gap.first.max(self.cursor.next()), gap.last)).collect();
        self.advance();
        self
    }

    /// Returns the current link.
    pub fn link(&self) -> Option<LinkId> {
        self.link.as_ref().map(|link| link.id)
    }

    /// Returns the highest seq up to which all events are settled.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Returns the number of settled events above the cursor.
    pub fn settled_above_cursor(&self) -> usize {
        self.settled.len()
    }

    /// Returns the settled events above the cursor, in order.
    pub fn above_cursor(&self) -> impl Iterator<Item = (Seq, Settlement)> {
        self.settled.iter().map(|(seq, settlement)| (*seq, *settlement))
    }

    /// Returns the number of positions above the cursor at which there are no events.
    pub fn in_gaps(&self) -> u64 {
        self.gaps.iter().map(|(first, last)| last.since(first.previous())).sum()
    }

    /// Returns the number of retries that are waiting or in flight.
    pub fn to_send_again(&self) -> usize {
        self.again.len()
    }

    /// Returns the lowest seq that may belong to a pending event.
    pub fn first_open(&self) -> Seq {
        let next = self.cursor.next();
        self.again.first().map_or(next, |again| next.min(*again))
    }

    /// Schedules a dead event to be sent again.
    pub fn send_again(&mut self, seq: Seq) {
        debug_assert!(self.is_settled(seq), "only dead events are sent again");
        if self.again.insert(seq)
            && let Some(link) = &mut self.link
        {
            link.waiting.insert(seq);
        }
    }

    /// Returns the retries that may be sent now, in order. Excludes those that this link has not reached yet,
    /// because they would overtake the events before them.
    pub fn next_again(&self) -> impl Iterator<Item = Seq> {
        let link = self.link.as_ref().filter(|link| !link.paused);
        link.into_iter().flat_map(|link| link.waiting.range(..link.next).copied())
    }

    /// Records that one of [`Window::next_again`] was sent.
    pub fn sent_again(&mut self, seq: Seq, note: T) {
        if let Some(link) = &mut self.link {
            let was_waiting = link.waiting.remove(&seq);
            debug_assert!(was_waiting, "only waiting retries are sent again");
            link.in_flight.insert(seq, note);
        }
    }

    /// Drops a retry: its event died again, or is gone.
    pub fn forget_again(&mut self, seq: Seq) {
        self.again.remove(&seq);
        if let Some(link) = &mut self.link {
            link.waiting.remove(&seq);
        }
    }

    /// Returns whether nothing more is done for the event, apart from a retry.
    pub fn is_settled(&self, seq: Seq) -> bool {
        seq <= self.cursor || self.settled.contains_key(&seq)
    }

    /// Returns the number of events in flight.
    pub fn in_flight(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.in_flight.len())
    }

    /// Returns the note of an event in flight.
    pub fn note(&self, seq: Seq) -> Option<&T> {
        self.link.as_ref()?.in_flight.get(&seq)
    }

    /// Returns the next seq to send, or `None` without a link.
    pub fn next(&self) -> Option<Seq> {
        self.link.as_ref().map(|link| link.next)
    }

    /// Starts a new link that allows up to `limit` events in flight. Forgets the events that were in flight
    /// before; sending starts at the first event that is not settled.
    pub fn link_up(&mut self, id: LinkId, limit: usize) {
        self.link = Some(Link {
            id,
            limit: limit.max(1),
            in_flight: BTreeMap::new(),
            waiting: self.again.clone(),
            next: self.cursor.next(),
            paused: false,
        });
    }

    /// Changes the maximum number of events in flight.
    pub fn set_limit(&mut self, limit: usize) {
        if let Some(link) = &mut self.link {
            link.limit = limit.max(1);
        }
    }

    /// Ends the link if it is the current one. Returns the notes of the events in flight, or `None` for an
    /// earlier link.
    pub fn link_down(&mut self, id: LinkId) -> Option<BTreeMap<Seq, T>> {
        self.link.take_if(|link| link.id == id).map(|link| link.in_flight)
    }

    /// Returns how many more events may be sent now.
    pub fn room(&self) -> usize {
        let Some(link) = self.link.as_ref().filter(|link| !link.paused) else { return 0 };
        let limit = i64::try_from(link.limit).unwrap_or(i64::MAX);
        let in_gaps: i64 = self.gaps.range(..link.next).map(|(first, last)| last.0 - first.0 + 1).sum();
        let span = link.next.0 - self.cursor.next().0 - in_gaps;
        let span_left = usize::try_from(limit.saturating_mul(SPAN_WINDOWS) - span).unwrap_or(0);
        link.limit.saturating_sub(link.in_flight.len()).min(span_left)
    }

    /// Records that the event at [`Window::next`] was sent.
    pub fn sent(&mut self, seq: Seq, note: T) {
        if let Some(link) = &mut self.link {
            debug_assert_eq!(link.next, seq, "events are sent in order");
            link.in_flight.insert(seq, note);
            link.next = after_gaps(&self.gaps, seq.next());
        }
    }

    /// Records that the event at [`Window::next`] need not be sent, because it is settled or is about to be.
    pub fn skipped(&mut self, seq: Seq) {
        if let Some(link) = &mut self.link {
            debug_assert_eq!(link.next, seq, "events are skipped in order");
            link.next = after_gaps(&self.gaps, seq.next());
        }
    }

    /// Settles an event after the broker's final answer. Returns `None` and changes nothing if the event was
    /// not in flight on this link.
    pub fn settle(&mut self, id: LinkId, seq: Seq, settlement: Settlement) -> Option<Settled<T>> {
        let note = self.current(id)?.in_flight.remove(&seq)?;
        let again = self.again.remove(&seq);
        if !again {
            self.settle_unsent(seq, settlement);
        }
        Some(Settled { again, note })
    }

    /// Settles an event that is not in flight.
    pub fn settle_unsent(&mut self, seq: Seq, settlement: Settlement) {
        if seq > self.cursor {
            self.settled.entry(seq).or_insert(settlement);
            self.advance();
        }
    }

    /// Pauses sending after the broker has temporarily refused an event, which is sent again after
    /// [`Window::resume`]. Returns `false` and changes nothing if the event was not in flight on this link.
    pub fn defer(&mut self, id: LinkId, seq: Seq) -> bool {
        let again = self.again.contains(&seq);
        let Some(link) = self.current(id) else { return false };
        let known = link.in_flight.remove(&seq).is_some();
        link.paused |= known;
        if known && again {
            link.waiting.insert(seq);
        }
        known
    }

    /// Returns whether an event was deferred and sending has not been resumed.
    pub fn is_paused(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.paused)
    }

    /// Resumes sending at the first event that is not settled, provided that nothing is in flight any more;
    /// otherwise a resent event would overtake others. Returns whether sending was resumed.
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

    /// Takes the ranges that the cursor has passed since the last call, for the next checkpoint.
    pub fn take_ranges(&mut self) -> Vec<SettledRange> {
        std::mem::take(&mut self.ranges)
    }

    fn current(&mut self, id: LinkId) -> Option<&mut Link<T>> {
        self.link.as_mut().filter(|link| link.id == id)
    }

    fn advance(&mut self) {
        loop {
            let next = self.cursor.next();
            if let Some(last) = self.gaps.remove(&next) {
                self.cursor = last;
                match self.ranges.last_mut() {
                    Some(range) => range.up_to = last,
                    None => self.ranges.push(SettledRange { up_to: last, settlement: self.gap }),
                }
            } else if let Some(settlement) = self.settled.remove(&next) {
                self.cursor = next;
                self.gap.at = settlement.at;
                SettledRange { up_to: next, settlement }.append(&mut self.ranges, usize::MAX);
            } else {
                return;
            }
        }
    }
}

/// Returns this position, or the first one after the gaps that begin there.
fn after_gaps(gaps: &BTreeMap<Seq, Seq>, mut seq: Seq) -> Seq {
    while let Some(last) = gaps.get(&seq) {
        seq = last.next();
    }
    seq
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
