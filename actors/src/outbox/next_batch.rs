//! The next batch: decides which events are sent now, on which lane.
//!
//! Live events go first: retries, then events that nobody heard, and then new ones. Late retries
//! follow, and then the events that the live lane has passed.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    delivery::{Delivery, InFlight},
    dispatch::{Plan, plan},
    heard_topics::HeardTopics,
    holds::Turn,
    read_ahead::Next,
    retry_prefetch::PAGE,
    window::Lane,
};
use crate::{
    domain::{
        clock::{LogTime, Moment},
        delivery::is_late,
        event_log::StoredEvent,
        ids::{CameraId, Seq},
        settings::{MqttSettings, QoS},
    },
    messages::connection::Outgoing,
    store::RetryingEvent,
};

/// Maximum number of ranges in which the settled events above the cursor are kept, about 2 MiB. At this bound, the
/// live lane waits until the late lane has made progress.
pub const MAX_RANGES: usize = 50_000;

/// The result of [`Delivery::next_batch`].
#[derive(Debug, Default)]
pub struct NextBatch {
    /// The events to send now.
    pub events: Vec<Outgoing>,
    /// Events that have waited longer than `message_expiry_seconds`. They are settled; the caller records
    /// them as dead.
    pub expired: Vec<Seq>,
    /// Events whose rows cannot be read. They are settled; the caller records them as dead.
    pub unreadable: Vec<Seq>,
    /// The number of events that waited for a subscriber until they were late.
    pub given_up: u64,
    /// The number of events whose rows are missing. They are settled.
    pub missing: u64,
    /// The first and the last position of each range in which rows are missing.
    pub missing_ranges: Vec<(Seq, Seq)>,
    /// How long to wait before the next batch: until the rate limit allows more events, or until an event that nobody
    /// heard is sent again.
    pub wait: Option<Duration>,
}

/// The shortest time between two attempts to send an event that nobody heard, so that waiting for room takes no
/// processor time.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// What is known about the subscribers on this link.
#[derive(Debug, Clone, Copy)]
pub struct Listeners<'a> {
    /// Whether live events may be sent.
    pub live_may_go: bool,
    /// The topics that had a subscriber before; `None` if `wait_for_subscribers` is off.
    pub heard: Option<&'a HeardTopics>,
}

impl Listeners<'_> {
    fn was_heard(&self, settings: &MqttSettings, event: &StoredEvent) -> bool {
        self.heard.is_some_and(|heard| heard.was_heard(&settings.topic_prefix.event(&event.camera_id)))
    }
}

/// What was done about the next event of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It was sent.
    Sent,
    /// It is settled, or the other lane sends it.
    Moved,
    /// Nothing, because there is none, or it must wait.
    Nothing,
    /// Nothing, and the lanes after this one wait, too.
    Blocked,
}

/// What the decisions depend on, apart from the state.
#[derive(Debug, Clone, Copy)]
struct Context<'a> {
    settings: &'a MqttSettings,
    listeners: Listeners<'a>,
    now: Moment,
    sent_at: Instant,
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From the position of this lane.
    Lane(Lane),
    /// From the retries.
    Retry,
    /// From those that wait for a subscriber.
    Hold,
}

/// An event that is about to be sent.
#[derive(Debug)]
struct Candidate {
    event: StoredEvent,
    /// When it was accepted or, if it is a retry, when that was requested.
    waiting_since: LogTime,
    source: Source,
    late: bool,
}

impl Delivery {
    /// Takes the events that may be sent now. The caller must send them. [`Listeners::live_may_go`] has no effect on
    /// late events.
    pub fn next_batch(
        &mut self,
        settings: &MqttSettings,
        listeners: Listeners<'_>,
        now: Moment,
        sent_at: Instant,
    ) -> NextBatch {
        let context = Context { settings, listeners, now, sent_at };
        let mut batch = NextBatch::default();
        let mut allowance = self.pacer.allowance(sent_at);
        while self.window.room() > 0 {
            if allowance == 0 {
                batch.wait = Some(self.pacer.wait());
                break;
            }
            match self.step(context, &mut batch) {
                Step::Sent => {
                    allowance -= 1;
                    self.pacer.spend();
                }
                Step::Moved => {}
                Step::Nothing | Step::Blocked => break,
            }
        }
        if let Some(due) = self.holds.next_due().filter(|_| listeners.live_may_go) {
            let wait = due.saturating_duration_since(sent_at).max(SHORTEST_WAIT);
            batch.wait = Some(batch.wait.map_or(wait, |other| other.min(wait)));
        }
        batch
    }

    fn step(&mut self, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let steps =
            [Self::step_live_retry, Self::step_held, Self::step_live, Self::step_late_retry, Self::step_late];
        let first =
            steps.into_iter().map(|step| step(self, context, batch)).find(|step| *step != Step::Nothing);
        first.unwrap_or(Step::Nothing)
    }

    /// Sends the next event of the live lane, or passes it if it is late. If both lanes are at the same position,
    /// rows without an event are left to the late lane.
    fn step_live(&mut self, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let Some(live) = self.window.next(Lane::Live) else { return Step::Nothing };
        self.window.next(Lane::Late);
        let is_split = self.window.is_split();
        if is_split && self.window.ranges_ahead() >= MAX_RANGES {
            return Step::Nothing;
        }
        let event = match self.live_ahead.at(live) {
            Next::Event(event) => event,
            Next::Unreadable if is_split => return self.pass(live),
            Next::Gap(end) if is_split => {
                self.window.pass_to(end);
                return Step::Moved;
            }
            Next::Unreadable | Next::Gap(_) | Next::Unread => return Step::Nothing,
        };
        let Context { settings, listeners, now, .. } = context;
        let late = is_late(settings, event.times, now);
        let is_awaited = || self.reports_subscribers && listeners.was_heard(settings, event);
        match self.holds.turn(&event.camera_id, live, is_awaited) {
            Turn::Held => {
                let event = self.live_ahead.take();
                return self.hold(event, context);
            }
            Turn::First if late => {
                let camera_id = event.camera_id.clone();
                self.remove_first(&camera_id);
                batch.given_up += 1;
                return self.pass(live);
            }
            Turn::Blocked if !late => return Step::Nothing,
            Turn::First | Turn::Blocked | Turn::Free => {}
        }
        if late {
            let passes = self.live_start.passes(live, event.times, is_split, settings, now);
            return if passes { self.pass(live) } else { Step::Nothing };
        }
        self.live_start.reached_live();
        if !listeners.live_may_go {
            return Step::Nothing;
        }
        let Some(event) = self.live_ahead.take() else { return Step::Nothing };
        let waiting_since = event.times.accepted;
        let source = Source::Lane(Lane::Live);
        self.send(Candidate { event, waiting_since, source, late: false }, context, batch)
    }

    /// Holds the next event of a lane, because an earlier one of its camera waits for a subscriber.
    fn hold(&mut self, event: Option<StoredEvent>, context: Context<'_>) -> Step {
        if let Some(StoredEvent { seq, camera_id, .. }) = event {
            if self.holds.add(&camera_id, seq) {
                self.window.hold(seq);
            } else {
                let waiting = self.holds.suspend(context.sent_at);
                self.release_all(waiting.into_iter().chain([seq]).collect());
            }
        }
        Step::Moved
    }

    /// Sends an event again that nobody heard. If it is late now, the late lane sends it.
    fn step_held(&mut self, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let Context { settings, listeners, now, sent_at } = context;
        if !listeners.live_may_go {
            return Step::Nothing;
        }
        // An earlier event that was deferred is sent first.
        let live = self.window.next(Lane::Live);
        let all = Seq(i64::MAX);
        let in_flight = |camera_id: &CameraId| {
            self.window.notes_before(all).any(|note| note.camera_id == *camera_id && !note.late)
        };
        let due =
            self.holds.due(sent_at, in_flight).filter(|event| live.is_some_and(|live| event.seq < live));
        let Some(event) = due.cloned() else { return Step::Nothing };
        if is_late(settings, event.times, now) {
            batch.given_up += 1;
            self.window.release(event.seq, Lane::Late);
            self.first_is_gone(&event.camera_id, event.seq);
            return Step::Moved;
        }
        let waiting_since = event.times.accepted;
        self.send(Candidate { event, waiting_since, source: Source::Hold, late: false }, context, batch)
    }

    /// Leaves the next event of the live lane to the late lane.
    pub(super) fn pass(&mut self, live: Seq) -> Step {
        if !self.window.is_split() {
            self.late_ahead.restart(live);
        }
        if let Some(event) = self.live_ahead.take() {
            // If the late lane has read all events before this one, it need not read this one from the database.
            self.late_ahead.offer(&[event]);
        }
        self.window.pass_to(live.next());
        Step::Moved
    }

    /// Sends the next live retry. New events wait until the next retries have been read, unless they cannot be read.
    fn step_live_retry(&mut self, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let Context { settings, listeners, now, .. } = context;
        let mut next = None;
        for seq in self.window.next_again(Lane::Live).take(PAGE) {
            match self.retries.get(seq) {
                Some(RetryingEvent { event, .. }) => {
                    // It must not overtake an earlier event of its camera.
                    let waits = self.holds.holds_late(&event.camera_id, seq);
                    if listeners.live_may_go && !waits && !is_late(settings, event.times, now) {
                        next = Some(seq);
                        break;
                    }
                }
                None if !self.retries.has_failed() => return Step::Blocked,
                None => {}
            }
        }
        next.map_or(Step::Nothing, |seq| self.send_retry(seq, false, context, batch))
    }

    /// Sends the next retry, which is late.
    fn step_late_retry(&mut self, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let Some(seq) = self.window.next_again(Lane::Late).next() else { return Step::Nothing };
        let Some(retry) = self.retries.get(seq) else { return Step::Nothing };
        if !is_late(context.settings, retry.event.times, context.now) {
            return Step::Nothing;
        }
        if !self.late_limit.allows(retry.event.payload.len(), self.limit()) {
            return Step::Blocked;
        }
        self.send_retry(seq, true, context, batch)
    }

    fn send_retry(&mut self, seq: Seq, late: bool, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let Some(RetryingEvent { event, asked }) = self.retries.take(seq) else { return Step::Nothing };
        self.send(Candidate { event, waiting_since: asked, source: Source::Retry, late }, context, batch)
    }

    /// Sends the next event of the late lane. Everything that the live lane has passed is late.
    fn step_late(&mut self, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let Some(next) = self.window.next(Lane::Late) else { return Step::Nothing };
        let is_split = self.window.is_split();
        let ready = if is_split { &mut self.late_ahead } else { &mut self.live_ahead };
        let event = match ready.at(next) {
            Next::Event(event) => event,
            Next::Unread => return Step::Nothing,
            Next::Unreadable => {
                ready.take();
                self.window.skipped(Lane::Late, next);
                self.settle_dead(next, context.now);
                batch.unreadable.push(next);
                return Step::Moved;
            }
            Next::Gap(end) => {
                batch.missing += self.skip_gap(next, end, context.now);
                batch.missing_ranges.push((next, end.previous()));
                return Step::Moved;
            }
        };
        let is_live = !is_split && !is_late(context.settings, event.times, context.now);
        // A live event of the camera that is in flight may have to be sent again when it is late: if the connection
        // ends, or nobody hears it. It must then come before this one.
        let is_before =
            |seq: &Seq| self.window.note(*seq).is_some_and(|note| note.camera_id == event.camera_id);
        if self.live_in_flight.range(..next).any(is_before) {
            return Step::Nothing;
        }
        if is_split && self.holds.holds_late(&event.camera_id, next) {
            let event = self.late_ahead.take();
            return self.hold(event, context);
        }
        if !is_live && self.holds.is_first(&event.camera_id, next) {
            let camera_id = event.camera_id.clone();
            self.first_is_gone(&camera_id, next);
            return Step::Moved;
        }
        let bytes = event.payload.len();
        if is_live || !self.late_limit.allows(bytes, self.limit()) {
            return Step::Nothing;
        }
        let ready = if is_split { &mut self.late_ahead } else { &mut self.live_ahead };
        let Some(event) = ready.take() else { return Step::Nothing };
        let waiting_since = event.times.accepted;
        let source = Source::Lane(Lane::Late);
        self.send(Candidate { event, waiting_since, source, late: true }, context, batch)
    }

    fn send(&mut self, candidate: Candidate, context: Context<'_>, batch: &mut NextBatch) -> Step {
        let Candidate { event, waiting_since, source, late } = candidate;
        let Context { settings, listeners, now, sent_at } = context;
        let seq = event.seq;
        let mut outgoing = match plan(&event, waiting_since, late, settings, now) {
            Plan::Send(outgoing) => outgoing,
            Plan::Expired => {
                if let Source::Lane(lane) = source {
                    self.window.skipped(lane, seq);
                }
                self.settle_dead(seq, now);
                batch.expired.push(seq);
                return Step::Moved;
            }
        };
        outgoing.asked = (source == Source::Retry).then_some(waiting_since);
        tracing::debug!(seq = seq.0, topic = outgoing.topic, late, "event sent");
        let reports_subscribers = self.reports_subscribers && outgoing.qos != QoS::AtMostOnce;
        let (times, topic, bytes) = (event.times, outgoing.topic.clone(), event.payload.len());
        if late {
            self.late_limit.sent(bytes);
        }
        let had_subscriber = || listeners.heard.is_some_and(|heard| heard.was_heard(&topic));
        let is_new = !late && reports_subscribers && source != Source::Retry;
        let is_awaited = is_new && (self.holds.is_first(&event.camera_id, seq) || had_subscriber());
        if is_awaited {
            self.holds.sent(&event.camera_id);
        }
        let camera_id = event.camera_id.clone();
        let awaited = is_awaited.then_some(event);
        let has_waited = false;
        let in_flight = InFlight {
            times,
            camera_id,
            topic,
            late,
            reports_subscribers,
            bytes,
            sent_at,
            awaited,
            has_waited,
        };
        if !late && source != Source::Retry {
            self.live_in_flight.insert(seq);
        }
        match source {
            Source::Lane(lane) => self.window.sent(lane, seq, in_flight),
            Source::Retry => self.window.sent_again(seq, in_flight),
            Source::Hold => self.window.sent_held(seq, in_flight),
        }
        batch.events.push(outgoing);
        Step::Sent
    }

    /// Settles events whose rows were removed from the database, because there is nothing to send. Returns
    /// their number, which does not include known gaps.
    fn skip_gap(&mut self, from: Seq, end: Seq, now: Moment) -> u64 {
        let mut missing = 0;
        while let Some(seq) = self.window.next(Lane::Late).filter(|seq| *seq < end) {
            self.window.skipped(Lane::Late, seq);
            self.settle_dead(seq, now);
            missing += 1;
        }
        tracing::error!(missing, from = from.0, to = end.previous().0, "events are missing in the database");
        missing
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
