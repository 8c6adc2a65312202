//! The window: which events are in flight on this link, which are settled, and which ones are sent next.
//!
//! An event is *settled* when nothing more is done for it: the broker has acknowledged it, or it is dead. The
//! *cursor* is the highest seq up to which all events are settled. What is settled above the cursor is kept as
//! ranges, so that it is not sent again. A dead event can be *retried*: it stays settled, so that the cursor does
//! not move back, and is tracked separately. A *gap* is a range of positions without events; the cursor and the
//! lanes skip it.
//!
//! There are two [lanes](Lane). Usually, both are at the same position, and every event is sent in its turn. If a
//! backlog of late events waits, the live lane moves ahead of it. The late lane sends what the live lane has
//! passed.
//!
//! Guarantees:
//! - On each lane, events are sent in the order of their seqs. Only events that wait for a subscriber are overtaken, by
//!   those of other cameras.
//! - After a lost link, or when the broker has deferred an event, sending restarts at the first event that is
//!   not settled, so a resent event never overtakes another one.
//! - Outcomes that belong to an earlier link are ignored.
//! - Retries are sent before events that their lane has not reached, in the order of their seqs.
//!
//! This module has no clock and does no I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::seq_ranges::SeqRanges;
use crate::domain::{
    clock::Moment,
    delivery::{SettledAhead, SettledRange, Settlement},
    event_log::SeqGap,
    ids::{LinkId, Seq},
};

/// Maximum number of events that are settled but not in a range yet, as a multiple of the limit. Acknowledgements
/// may arrive in any order, so without this bound one unacknowledged event would let them accumulate forever.
const SPAN_WINDOWS: usize = 8;

/// Which events are sent from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Live events, ahead of those that are late.
    Live,
    /// What the live lane has passed.
    Late,
}

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
    /// The position of the late lane: the next event to send, unless the live lane has sent it.
    late: Seq,
    /// The position of the live lane, which is never before that of the late lane.
    live: Seq,
    /// Set when the broker defers an event. Nothing is sent until all events in flight are settled and
    /// [`Window::resume`] is called.
    paused: bool,
    /// The first event of the live lane that was deferred since sending was paused.
    deferred: Option<Seq>,
    /// Events that wait for a subscriber. Neither lane sends them.
    held: SeqRanges,
}

impl<T> Link<T> {
    fn position(&self, lane: Lane) -> Seq {
        match lane {
            Lane::Live => self.live,
            Lane::Late => self.late,
        }
    }
}

/// See the module's documentation. `T` is a note that the caller attaches to each event in flight.
#[derive(Debug)]
pub struct Window<T> {
    cursor: Seq,
    /// The events above the cursor that were settled recently.
    settled: BTreeMap<Seq, Settlement>,
    /// Those of them that were not published.
    unpublished: BTreeSet<Seq>,
    /// The other settled events above the cursor.
    ahead: SeqRanges,
    /// The part of them that must be recorded.
    unrecorded: Vec<SettledAhead>,
    /// The positions above the cursor at which there are no events.
    gaps: SeqRanges,
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
        let mut window = Self {
            cursor,
            settled: BTreeMap::new(),
            unpublished: BTreeSet::new(),
            ahead: SeqRanges::default(),
            unrecorded: Vec::new(),
            gaps: SeqRanges::default(),
            gap: Settlement::unpublished(now),
            again: again.into_iter().collect(),
            link: None,
            ranges: Vec::new(),
        };
        for seq in settled {
            window.add_ahead(seq, seq);
        }
        window.advance();
        window
    }

    /// Adds positions at which there are no events. They are neither sent nor pending.
    #[must_use]
    pub fn with_gaps(mut self, gaps: impl IntoIterator<Item = SeqGap>) -> Self {
        for SeqGap { first, last } in gaps {
            let first = first.max(self.cursor.next());
            if first <= last {
                self.gaps.insert(first, last);
            }
        }
        self.advance();
        self
    }

    /// Adds ranges of events that were delivered ahead of the cursor.
    #[must_use]
    pub fn with_ahead(mut self, ranges: impl IntoIterator<Item = (Seq, Seq)>) -> Self {
        for (first, last) in ranges {
            self.add_ahead(first, last);
        }
        self.advance();
        self
    }

    /// Adds this range to [`Window::ahead`]. Parts of it may already be there, or below the cursor.
    fn add_ahead(&mut self, first: Seq, last: Seq) {
        let mut first = first.max(self.cursor.next());
        while first <= last {
            if let Some(end) = self.ahead.end_of(first) {
                first = end.next();
            } else {
                let end = self.ahead.next_start(first).map_or(last, |next| last.min(next.previous()));
                self.ahead.insert(first, end);
                first = end.next();
            }
        }
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
    pub fn settled_above_cursor(&self) -> u64 {
        self.ahead.seqs() + u64::try_from(self.settled.len()).unwrap_or(u64::MAX)
    }

    /// Returns the number of ranges in which the settled events above the cursor are kept.
    pub fn ranges_ahead(&self) -> usize {
        self.ahead.ranges()
    }

    /// Returns the events above the cursor that were settled since the last [`Window::take_ahead`], in order.
    pub fn above_cursor(&self) -> impl Iterator<Item = (Seq, Settlement)> {
        self.settled.iter().map(|(seq, settlement)| (*seq, *settlement))
    }

    /// Returns the number of positions above the cursor at which there are no events.
    pub fn in_gaps(&self) -> u64 {
        self.gaps.seqs()
    }

    /// Returns the number of events after `after`, up to and including `last`, that are not settled.
    pub fn open_between(&self, after: Seq, last: Seq) -> u64 {
        let after = after.max(self.cursor);
        if last <= after {
            return 0;
        }
        let settled = self.settled.range(after.next()..=last).count();
        let settled = u64::try_from(settled).unwrap_or(u64::MAX);
        let others = self.ahead.within(after, last) + self.gaps.within(after, last);
        last.since(after).saturating_sub(settled + others)
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

    /// Returns the retries that may be sent now on a lane, in order. Excludes those that the lane has not reached yet,
    /// because they would overtake the events before them.
    pub fn next_again(&self, lane: Lane) -> impl Iterator<Item = Seq> {
        let link = self.link.as_ref().filter(|link| !link.paused);
        link.into_iter().flat_map(move |link| link.waiting.range(..link.position(lane)).copied())
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
        seq <= self.cursor || self.settled.contains_key(&seq) || self.ahead.end_of(seq).is_some()
    }

    /// Returns the number of events in flight.
    pub fn in_flight(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.in_flight.len())
    }

    /// Returns the notes of the events in flight before this one.
    pub fn notes_before(&self, seq: Seq) -> impl Iterator<Item = &T> {
        self.link.iter().flat_map(move |link| link.in_flight.range(..seq).map(|(_, note)| note))
    }

    /// Returns the note of an event in flight.
    pub fn note(&self, seq: Seq) -> Option<&T> {
        self.link.as_ref()?.in_flight.get(&seq)
    }

    /// Returns the next seq to send on a lane, or `None` without a link.
    pub fn next(&mut self, lane: Lane) -> Option<Seq> {
        let link = self.link.as_ref()?;
        let from = link.position(lane);
        let next = self.next_open(from.max(self.cursor.next()), link);
        let link = self.link.as_mut()?;
        match lane {
            Lane::Live => {
                if link.late == link.live {
                    link.late = next;
                }
                link.live = next;
            }
            Lane::Late => {
                link.late = next;
                link.live = link.live.max(next);
            }
        }
        Some(next)
    }

    /// Returns the first position from this one on whose event is neither settled, nor in flight, nor held.
    fn next_open(&self, mut seq: Seq, link: &Link<T>) -> Seq {
        let has_ranges = !(self.gaps.is_empty() && self.ahead.is_empty() && link.held.is_empty());
        let last = link.in_flight.last_key_value().map(|(last, _)| *last);
        let last = last.max(self.settled.last_key_value().map(|(last, _)| *last));
        if !has_ranges && last.is_none_or(|last| last < seq) {
            // This is the usual case, and this method is called several times for each event.
            return seq;
        }
        loop {
            let skipped = self.gaps.end_of(seq).or_else(|| self.ahead.end_of(seq));
            if let Some(end) = skipped.or_else(|| link.held.end_of(seq)) {
                seq = end.next();
            } else if self.settled.contains_key(&seq) || link.in_flight.contains_key(&seq) {
                seq = seq.next();
            } else {
                return seq;
            }
        }
    }

    /// Returns whether the live lane is ahead of the late lane.
    pub fn is_split(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.late < link.live)
    }

    /// Starts a new link that allows up to `limit` events in flight. Forgets the events that were in flight
    /// before; sending starts at the first event that is not settled.
    pub fn link_up(&mut self, id: LinkId, limit: usize) {
        self.keep_as_ranges(self.cursor.next());
        self.link = Some(Link {
            id,
            limit: limit.max(1),
            in_flight: BTreeMap::new(),
            waiting: self.again.clone(),
            late: self.cursor.next(),
            live: self.cursor.next(),
            paused: false,
            deferred: None,
            held: SeqRanges::default(),
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
        let span = link.limit * SPAN_WINDOWS;
        link.limit.min(span.saturating_sub(self.settled.len())).saturating_sub(link.in_flight.len())
    }

    /// Records that the event at [`Window::next`] was sent.
    pub fn sent(&mut self, lane: Lane, seq: Seq, note: T) {
        if let Some(link) = &mut self.link {
            link.in_flight.insert(seq, note);
        }
        self.skipped(lane, seq);
    }

    /// Records that the event at [`Window::next`] need not be sent, because it is settled or is about to be.
    pub fn skipped(&mut self, lane: Lane, seq: Seq) {
        let Some(link) = &mut self.link else { return };
        let is_split = link.late < link.live;
        match lane {
            Lane::Live => {
                debug_assert_eq!(link.live, seq, "events are sent in order");
                link.live = seq.next();
                if !is_split {
                    link.late = link.live;
                }
            }
            Lane::Late => {
                debug_assert_eq!(link.late, seq, "events are sent in order");
                link.late = seq.next();
                link.live = link.live.max(link.late);
            }
        }
    }

    /// Moves the live lane to this position, if it is further ahead. The late lane sends what is in between.
    pub fn pass_to(&mut self, seq: Seq) {
        if let Some(link) = &mut self.link {
            link.live = link.live.max(seq);
        }
    }

    /// Holds an event that is neither settled nor in flight: neither lane sends it until it is released.
    pub fn hold(&mut self, seq: Seq) {
        if !self.is_settled(seq)
            && let Some(link) = &mut self.link
            && link.held.end_of(seq).is_none()
        {
            link.held.insert(seq, seq);
        }
    }

    /// Releases an event that was held. Both lanes, or only the late one, are moved back to it if they are further
    /// ahead.
    pub fn release(&mut self, seq: Seq, lane: Lane) {
        let first = seq.max(self.cursor.next());
        if let Some(link) = &mut self.link {
            link.held.remove(seq);
            link.late = link.late.min(first);
            if lane == Lane::Live {
                link.live = link.live.min(first);
            }
        }
    }

    /// Records that an event that was held was sent again.
    pub fn sent_held(&mut self, seq: Seq, note: T) {
        if let Some(link) = &mut self.link {
            link.held.remove(seq);
            link.in_flight.insert(seq, note);
        }
    }

    /// Settles an event that was held.
    pub fn settle_held(&mut self, seq: Seq, settlement: Settlement) {
        if let Some(link) = &mut self.link {
            link.held.remove(seq);
        }
        self.settle_above(seq, settlement);
    }

    /// Settles an event after the broker's final answer. Returns `None` and changes nothing if the event was
    /// not in flight on this link.
    pub fn settle(&mut self, id: LinkId, seq: Seq, settlement: Settlement) -> Option<Settled<T>> {
        let note = self.current(id)?.in_flight.remove(&seq)?;
        let again = self.again.remove(&seq);
        if !again {
            self.settle_above(seq, settlement);
        }
        Some(Settled { again, note })
    }

    /// Takes an event that was in flight on this link: it is dead, or must be sent again.
    pub fn take(&mut self, id: LinkId, seq: Seq) -> Option<T> {
        self.current(id)?.in_flight.remove(&seq)
    }

    /// Settles an event that is not published.
    pub fn settle_unpublished(&mut self, seq: Seq, at: Moment) {
        if let Some(link) = &mut self.link {
            link.held.remove(seq);
        }
        if seq > self.cursor {
            self.unpublished.insert(seq);
            self.settle_above(seq, Settlement::unpublished(at));
        }
    }

    fn settle_above(&mut self, seq: Seq, settlement: Settlement) {
        if !self.is_settled(seq) {
            self.settled.insert(seq, settlement);
        }
        self.advance();
    }

    /// Pauses sending after the broker has temporarily refused an event, which is sent again after
    /// [`Window::resume`]. `lane` is the one that sent it. Returns `false` and changes nothing if the event was
    /// not in flight on this link.
    pub fn defer(&mut self, id: LinkId, seq: Seq, lane: Lane) -> bool {
        let again = self.again.contains(&seq);
        let Some(link) = self.current(id) else { return false };
        let known = link.in_flight.remove(&seq).is_some();
        link.paused |= known;
        if known && again {
            link.waiting.insert(seq);
        } else if known && lane == Lane::Live {
            link.deferred = Some(link.deferred.map_or(seq, |deferred| deferred.min(seq)));
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
                link.late = next;
                link.live = link.deferred.take().map_or(link.live, |seq| link.live.min(seq)).max(next);
                true
            }
            _ => false,
        }
    }

    /// Takes the ranges that the cursor has passed since the last call, for the next checkpoint.
    pub fn take_ranges(&mut self) -> Vec<SettledRange> {
        std::mem::take(&mut self.ranges)
    }

    /// Takes the events above the cursor that were delivered since the last call and that the cursor will not
    /// pass soon, so that they are recorded now. From now on, only their ranges are in memory.
    pub fn take_ahead(&mut self) -> Vec<SettledAhead> {
        let first = self.cursor.next();
        let passed_soon = match &self.link {
            Some(link) if link.in_flight.contains_key(&first) => link.late,
            _ => first,
        };
        self.keep_as_ranges(passed_soon);
        std::mem::take(&mut self.unrecorded)
    }

    /// Keeps only the ranges of the events from `first` on. Those that were not published are recorded elsewhere.
    fn keep_as_ranges(&mut self, first: Seq) {
        for (seq, settlement) in self.settled.split_off(&first) {
            self.ahead.insert(seq, seq);
            if !self.unpublished.remove(&seq) {
                SettledAhead { first: seq, last: seq, settlement }.append(&mut self.unrecorded, usize::MAX);
            }
        }
    }

    fn current(&mut self, id: LinkId) -> Option<&mut Link<T>> {
        self.link.as_mut().filter(|link| link.id == id)
    }

    fn advance(&mut self) {
        loop {
            let next = self.cursor.next();
            if let Some(last) = self.gaps.take(next).or_else(|| self.ahead.take(next)) {
                self.cursor = last;
                match self.ranges.last_mut() {
                    Some(range) => range.up_to = last,
                    None => self.ranges.push(SettledRange { up_to: last, settlement: self.gap }),
                }
            } else if let Some(settlement) = self.settled.remove(&next) {
                self.cursor = next;
                self.gap.at = settlement.at;
                self.unpublished.remove(&next);
                SettledRange { up_to: next, settlement }.append(&mut self.ranges, usize::MAX);
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
