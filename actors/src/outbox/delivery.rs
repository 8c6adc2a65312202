//! Delivery: tracks the events in flight and their outcomes. `next_batch` decides which events are sent next.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use actix::Recipient;
use tokio::time::Instant;

use super::{
    commit_queue::Notes,
    holds::{Holds, Released},
    in_flight_limit::InFlightLimit,
    late_limit::LateLimit,
    live_start::{LiveStart, LiveStartRequest},
    next_batch::MAX_RANGES,
    pacer::Pacer,
    read_ahead::{PageRequest, ReadAhead},
    retry_prefetch::RetryPrefetch,
    window::{Lane, Settled, Window},
};
use crate::{
    domain::{
        clock::Moment,
        delivery::{EventTimes, SettledAhead, SettledRange, Settlement, Unwritten},
        event_log::{EventPage, StoredEvent},
        ids::{CameraId, LinkId, Seq},
        outage::LogExtent,
    },
    messages::{
        connection::{Deliver, Outgoing},
        link::{LinkDown, LinkUp},
    },
    store::RetryingEvent,
};

/// How long to wait before a deferred event is sent again. Doubles each time, up to a minute.
const DEFER_FIRST: Duration = Duration::from_secs(1);
const DEFER_LONGEST: Duration = Duration::from_mins(1);

/// An event in flight.
#[derive(Debug)]
pub struct InFlight {
    /// When it happened and when it was accepted.
    pub times: EventTimes,
    /// The camera that detected it.
    pub camera_id: CameraId,
    /// The topic it was sent to.
    pub topic: String,
    /// Whether that is the `history` topic.
    pub late: bool,
    /// Whether the broker reports if the message had a subscriber.
    pub reports_subscribers: bool,
    /// The size of the message, in bytes.
    pub bytes: usize,
    /// When it was handed to the connection.
    pub sent_at: Instant,
    /// The event, if it must wait for a subscriber when nobody hears it.
    pub awaited: Option<StoredEvent>,
    /// Whether it has waited for one.
    pub has_waited: bool,
}

impl InFlight {
    /// Returns whether the message had a subscriber, given what the broker reported; `None` if it does not
    /// report this.
    pub fn heard(&self, unheard: bool) -> Option<bool> {
        self.reports_subscribers.then_some(!unheard)
    }

    fn lane(&self) -> Lane {
        if self.late { Lane::Late } else { Lane::Live }
    }
}

/// The delivery side of the outbox.
#[derive(Debug)]
pub struct Delivery {
    pub(super) window: Window<InFlight>,
    /// The next events of the live lane. The late lane uses them, too, unless it is behind.
    pub(super) live_ahead: ReadAhead,
    /// The next events of the late lane while it is behind the live lane.
    pub(super) late_ahead: ReadAhead,
    pub(super) live_start: LiveStart,
    pub(super) late_limit: LateLimit,
    pub(super) holds: Holds,
    /// The live events in flight, except retries.
    pub(super) live_in_flight: BTreeSet<Seq>,
    pub(super) retries: RetryPrefetch,
    link: Option<Recipient<Deliver>>,
    /// See [`Deliver::pauses`].
    pauses: u64,
    /// Whether the broker on this link reports missing subscribers.
    pub(super) reports_subscribers: bool,
    /// Maximum number of events in flight, from the configuration.
    max_in_flight: u16,
    /// Maximum number of events in flight on this link, unless one of them is suspected.
    limit: InFlightLimit,
    /// How many of the next events may have ended earlier connections. They are sent one at a time, so that
    /// lateness is decided for each of them when it is actually sent.
    suspected_events: usize,
    /// The number of deferrals of each deferred event.
    deferrals: HashMap<Seq, u32>,
    pub(super) pacer: Pacer,
}

/// A temporary refusal of an event by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// How long to wait before sending resumes.
    pub wait: Duration,
    /// Whether the event has reached the maximum number of attempts. If so, it is settled, but not recorded
    /// as dead.
    pub is_last: bool,
}

/// The result of an attempt to resume after a deferral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// Sending has been resumed.
    Resumed,
    /// Events are still in flight: try again.
    Waiting,
    /// There was nothing to resume.
    NotPaused,
}

impl Delivery {
    /// Creates the state without a link. `rate` is the maximum number of events per second, or 0 for no
    /// limit.
    pub fn new(window: Window<InFlight>, max_in_flight: u16, rate: u32) -> Self {
        Self {
            live_ahead: ReadAhead::new(window.cursor().next(), Lane::Live),
            late_ahead: ReadAhead::new(window.cursor().next(), Lane::Late),
            live_start: LiveStart::default(),
            late_limit: LateLimit::default(),
            holds: Holds::default(),
            live_in_flight: BTreeSet::new(),
            window,
            retries: RetryPrefetch::default(),
            link: None,
            pauses: 0,
            reports_subscribers: false,
            max_in_flight,
            limit: InFlightLimit::default(),
            suspected_events: 0,
            deferrals: HashMap::new(),
            pacer: Pacer::new(rate),
        }
    }

    /// Returns the current link, to send events to.
    pub fn link(&self) -> Option<&Recipient<Deliver>> {
        self.link.as_ref()
    }

    /// Returns the current link's id.
    pub fn link_id(&self) -> Option<LinkId> {
        self.window.link()
    }

    /// Returns the number of events in flight.
    pub fn in_flight(&self) -> usize {
        self.window.in_flight()
    }

    /// Returns the number of retries that are waiting or in flight.
    pub fn retrying(&self) -> usize {
        self.window.to_send_again()
    }

    /// Returns the number of pending events, given the last seq that was assigned.
    pub fn pending(&self, last_seq: Seq) -> u64 {
        let settled = self.window.settled_above_cursor() + self.window.in_gaps();
        let first_time = last_seq.since(self.window.cursor()).saturating_sub(settled);
        first_time + u64::try_from(self.window.to_send_again()).unwrap_or(u64::MAX)
    }

    /// Returns how far the delivery of a log that ends at `last` has come.
    pub fn extent(&self, last: Seq) -> LogExtent {
        let cursor = self.window.cursor();
        LogExtent { cursor, last, pending: self.window.open_between(cursor, last) }
    }

    /// Returns the number of events after `after`, up to and including `last`, that are not settled.
    pub fn open_between(&self, after: Seq, last: Seq) -> u64 {
        self.window.open_between(after, last)
    }

    /// Returns the lowest seq that may belong to a pending event.
    pub fn first_open(&self) -> Seq {
        self.window.first_open()
    }

    /// Returns when an event was accepted, if it is in flight or the next one to be sent.
    pub fn times(&self, seq: Seq) -> Option<EventTimes> {
        let mut ready = [&self.live_ahead, &self.late_ahead].into_iter().filter_map(ReadAhead::front);
        let next = || ready.find(|event| event.seq == seq).map(|event| event.times);
        self.window.note(seq).map(|in_flight| in_flight.times).or_else(next)
    }

    /// Returns what is known about deliveries and not in the database: these notes, and what is settled above
    /// the cursor.
    pub fn unwritten(&self, notes: [&Notes; 2]) -> Unwritten {
        let notes = || notes.into_iter();
        Unwritten {
            cursor: self.window.cursor(),
            ranges: notes().flat_map(|notes| &notes.ranges).copied().collect(),
            above: self.window.above_cursor().collect(),
            ahead: notes().flat_map(|notes| &notes.ahead).copied().collect(),
            dead: notes().flat_map(|notes| &notes.dead).map(|dead| (dead.seq, dead.reason)).collect(),
            resent: notes().flat_map(|notes| &notes.resent).copied().collect(),
        }
    }

    /// Takes the ranges that the cursor has passed since the last call.
    pub fn take_ranges(&mut self) -> Vec<SettledRange> {
        self.window.take_ranges()
    }

    /// Takes the events that were delivered ahead of the cursor since the last call.
    pub fn take_ahead(&mut self) -> Vec<SettledAhead> {
        self.window.take_ahead()
    }

    /// Changes the maximum number of events per second; 0 means no limit.
    pub fn set_rate(&mut self, rate: u32) {
        self.pacer = Pacer::new(rate);
    }

    /// Starts a new link.
    pub fn link_up(&mut self, link_up: LinkUp) {
        let LinkUp { link, receive_maximum, suspected_events, reports_subscribers, deliver, .. } = link_up;
        self.reports_subscribers = reports_subscribers;
        self.limit = InFlightLimit::new(self.max_in_flight, receive_maximum);
        self.suspected_events = suspected_events;
        self.window.link_up(link, self.limit());
        self.late_limit = LateLimit::default();
        self.holds.clear();
        self.live_in_flight.clear();
        self.restart();
        self.link = Some(deliver);
        self.pauses = 0;
    }

    /// Returns the message that sends these events on this link.
    pub fn deliver(&self, events: Vec<Outgoing>) -> Deliver {
        Deliver { events, pauses: self.pauses }
    }

    /// Records that a report of this link contains events that must be sent again.
    pub fn paused(&mut self, link: LinkId) {
        if self.link_id() == Some(link) {
            self.pauses += 1;
        }
    }

    /// Returns how many events may be in flight.
    pub(super) fn limit(&self) -> usize {
        if self.suspected_events > 0 { 1 } else { self.limit.get() }
    }

    /// Ends the link. Returns whether it was the current one.
    pub fn link_down(&mut self, LinkDown { link }: LinkDown) -> bool {
        let was_current = self.window.link_down(link).is_some();
        if was_current {
            self.link = None;
        }
        was_current
    }

    /// Reads the events of both lanes again from their positions.
    pub(super) fn restart(&mut self) {
        self.live_start = self.live_start.restarted();
        if let Some(live) = self.window.next(Lane::Live)
            && let Some(late) = self.window.next(Lane::Late)
        {
            self.live_ahead.restart(live);
            self.late_ahead.restart(late);
        }
    }

    /// Settles an event that the broker has acknowledged; `unheard` states whether it reported that nobody
    /// subscribes to the topic. Returns `None` if the event was not in flight on this link.
    pub fn delivered(
        &mut self,
        link: LinkId,
        seq: Seq,
        unheard: bool,
        at: Moment,
        now: Instant,
    ) -> Option<(Settled<InFlight>, Settlement)> {
        let note = self.window.note(seq)?;
        let settlement = Settlement { at, late: note.late, heard: note.heard(unheard) };
        let mut settled = self.window.settle(link, seq, settlement)?;
        if settled.note.late {
            self.late_limit.acknowledged(settled.note.bytes, settled.note.sent_at, now);
        }
        self.deferrals.remove(&seq);
        self.limit.acknowledged(now);
        self.answered_one();
        let note = &mut settled.note;
        self.live_in_flight.remove(&seq);
        if note.reports_subscribers && !note.late && !settled.again {
            note.has_waited = self.holds.has_waited(&note.camera_id, seq);
            if unheard {
                self.holds.does_not_wait(&note.camera_id);
                self.first_is_gone(&note.camera_id, seq);
            } else if let Some(released) = self.holds.heard(&note.camera_id, seq) {
                self.heard_again(released, seq, at);
            }
        }
        Some((settled, settlement))
    }

    /// Holds an event that the broker has acknowledged, but that nobody heard although its topic had a subscriber
    /// before. Returns `false` and changes nothing if it does not wait, or was not in flight on this link.
    pub fn hold_unheard(&mut self, link: LinkId, seq: Seq, now: Instant, moment: Moment) -> bool {
        if self.link_id() != Some(link) || self.window.ranges_ahead() >= MAX_RANGES {
            return false;
        }
        let Some(InFlight { awaited: Some(event), topic, .. }) = self.window.note(seq) else { return false };
        if !self.holds.unheard(event, topic, now, moment) {
            return false;
        }
        self.window.take(link, seq);
        self.window.hold(seq);
        self.live_in_flight.remove(&seq);
        self.deferrals.remove(&seq);
        self.limit.acknowledged(now);
        self.answered_one();
        true
    }

    /// Sends the events of a camera that waited until this one was heard. Those before it that were sent, too, were
    /// overtaken, so they are not sent again.
    fn heard_again(&mut self, Released { waiting, sent }: Released, heard: Seq, at: Moment) {
        for seq in waiting {
            if seq < heard && sent.contains(&seq) {
                self.window.settle_held(seq, Settlement { at, late: false, heard: Some(false) });
            } else {
                self.window.release(seq, Lane::Live);
            }
        }
        self.restart();
    }

    /// If this was the first event of its camera that waited, the next one takes its place.
    pub(super) fn first_is_gone(&mut self, camera_id: &CameraId, seq: Seq) {
        if self.holds.is_first(camera_id, seq) {
            self.remove_first(camera_id);
            self.restart();
        }
    }

    /// Removes the first event of a camera that waits, and those after it that were settled in another way.
    pub(super) fn remove_first(&mut self, camera_id: &CameraId) {
        while let Some(next) = self.holds.remove_first(camera_id) {
            if !self.window.is_settled(next) {
                self.window.release(next, Lane::Live);
                return;
            }
        }
    }

    /// Ends all holds, so that the events that wait for a subscriber are sent.
    pub fn end_holds(&mut self) {
        let waiting = self.holds.end();
        self.release_all(waiting);
    }

    pub(super) fn release_all(&mut self, waiting: BTreeSet<Seq>) {
        if !waiting.is_empty() {
            for seq in waiting {
                self.window.release(seq, Lane::Live);
            }
            self.restart();
        }
    }

    fn answered_one(&mut self) {
        self.suspected_events = self.suspected_events.saturating_sub(1);
        self.window.set_limit(self.limit());
    }

    /// Settles an event that the broker has refused for good. Returns `None` if it was not in flight on this
    /// link.
    pub fn refused(&mut self, link: LinkId, seq: Seq, at: Moment) -> Option<InFlight> {
        let note = self.window.take(link, seq)?;
        self.gone(note.late, note.bytes);
        self.live_in_flight.remove(&seq);
        self.settle_dead(seq, at);
        self.answered_one();
        if note.awaited.is_some() {
            self.holds.does_not_wait(&note.camera_id);
        }
        Some(note)
    }

    /// Records that an event is not in flight any more, without an acknowledgement.
    fn gone(&mut self, late: bool, bytes: usize) {
        if late {
            self.late_limit.gone(bytes);
        }
    }

    /// Takes an event back that must be sent again. Returns `false` if it was not in flight on this link.
    fn defer(&mut self, link: LinkId, seq: Seq) -> bool {
        let Some(note) = self.window.note(seq).filter(|_| self.window.link() == Some(link)) else {
            return false;
        };
        let (is_late, bytes, sent_at, mut lane) = (note.late, note.bytes, note.sent_at, note.lane());
        let awaited = note.awaited.is_some().then(|| note.camera_id.clone());
        let is_held = awaited.as_ref().is_some_and(|camera_id| self.holds.retries(camera_id, seq));
        if is_held {
            lane = Lane::Late;
        }
        self.window.defer(link, seq, lane);
        if is_held {
            self.window.hold(seq);
        }
        self.live_in_flight.remove(&seq);
        if let Some(camera_id) = awaited {
            self.holds.gave_back(&camera_id, sent_at);
        }
        self.gone(is_late, bytes);
        true
    }

    /// Pauses sending because the broker has temporarily refused an event, which is allowed `attempts` times
    /// per event. Returns `None` if it was not in flight on this link.
    pub fn deferred(
        &mut self,
        link: LinkId,
        seq: Seq,
        attempts: Option<u32>,
        at: Moment,
    ) -> Option<Deferral> {
        if !self.defer(link, seq) {
            return None;
        }
        let count = self.deferrals.entry(seq).or_insert(0);
        *count += 1;
        let wait = DEFER_LONGEST.min(DEFER_FIRST * 2u32.saturating_pow((*count).min(10) - 1));
        let is_last = attempts.is_some_and(|attempts| *count >= attempts);
        if is_last {
            self.settle_dead(seq, at);
        }
        Some(Deferral { wait, is_last })
    }

    /// Takes an event back that the connection has not sent. Sending resumes with it when nothing is in flight.
    /// Returns `false` if it was not in flight on this link.
    pub fn returned(&mut self, link: LinkId, seq: Seq) -> bool {
        self.defer(link, seq)
    }

    /// Resumes after a deferral if nothing is in flight any more.
    pub fn resume(&mut self) -> Resumption {
        if self.window.resume() {
            self.restart();
            Resumption::Resumed
        } else if self.window.is_paused() {
            Resumption::Waiting
        } else {
            Resumption::NotPaused
        }
    }

    pub(super) fn settle_dead(&mut self, seq: Seq, at: Moment) {
        self.deferrals.remove(&seq);
        self.window.forget_again(seq);
        self.window.settle_unpublished(seq, at);
        if let Some(camera_id) = self.holds.camera_of_first(seq) {
            self.first_is_gone(&camera_id, seq);
        }
    }

    /// Schedules a dead event to be sent again.
    pub fn send_again(&mut self, seq: Seq) {
        self.window.send_again(seq);
    }

    /// Offers events that were just committed, so that they need not be read from the database.
    pub fn offer(&mut self, committed: &[StoredEvent]) {
        if self.link.is_some() {
            self.live_ahead.offer(committed);
        }
    }

    /// Returns the pages to read from the database now: one of each lane, if it is needed.
    pub fn wanted_pages(&mut self, last_seq: Seq) -> impl Iterator<Item = PageRequest> + use<> {
        let mut wanted = [None, None];
        if let Some(live) = self.window.next(Lane::Live) {
            self.live_ahead.skip_to(live);
            wanted[0] = self.live_ahead.wants(last_seq);
        }
        if let Some(late) = self.window.next(Lane::Late).filter(|_| self.window.is_split()) {
            self.late_ahead.skip_to(late);
            wanted[1] = self.late_ahead.wants(last_seq);
        }
        wanted.into_iter().flatten()
    }

    /// Returns the lookup of the first live event to carry out now, if it is needed.
    pub fn wanted_live_start(&mut self) -> Option<LiveStartRequest> {
        let live = self.window.next(Lane::Live);
        self.live_start.wanted(live)
    }

    /// Moves the live lane to the event that was looked up. `found` is the seq after the last event if there is none,
    /// and `None` if the lookup failed.
    pub fn live_start_found(&mut self, request: LiveStartRequest, found: Option<Seq>) {
        if !self.live_start.ended(request) {
            return;
        }
        let Some((found, live)) = found.zip(self.window.next(Lane::Live)) else { return };
        self.window.next(Lane::Late);
        if found > live {
            if !self.window.is_split() {
                std::mem::swap(&mut self.live_ahead, &mut self.late_ahead);
            }
            self.live_ahead.restart(found);
            self.window.pass_to(found);
        } else if live == request.late {
            // The time of the next event is ahead of the clock. It is late, but those after it need not be.
            self.pass(live);
        }
    }

    /// Adds a page that was read; `page` is `None` if the read failed.
    pub fn page_read(&mut self, request: PageRequest, page: Option<EventPage>) {
        let page = self.live_ahead.page(request, page);
        self.late_ahead.page(request, page);
    }

    /// Returns the retries to read from the database now, if any are needed.
    pub fn wanted_retries(&mut self) -> Option<Vec<Seq>> {
        self.retries.wants(self.window.next_again(Lane::Live))
    }

    /// Adds the retries that were read. Returns those whose rows cannot be read; they are settled, but not
    /// recorded as dead.
    #[must_use]
    pub fn retries_read(&mut self, wanted: Vec<Seq>, read: Vec<RetryingEvent>, at: Moment) -> Vec<Seq> {
        let unreadable = self.retries.page(wanted, read);
        for seq in &unreadable {
            self.settle_dead(*seq, at);
        }
        unreadable
    }

    /// Records that the retries could not be read.
    pub fn retries_failed(&mut self) {
        self.retries.failed();
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
