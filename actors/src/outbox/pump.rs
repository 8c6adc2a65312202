//! Pumping: sends the events that may be sent, reads ahead, and handles the outcomes.

use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use tokio::time::Instant;

use super::{
    OutboxActor,
    delivery::{Deferral, Resumption},
    live_start::LiveStartRequest,
    next_batch::NextBatch,
    read_ahead::{PAGE, PageRequest},
};
use crate::{
    domain::{
        causes::with_causes,
        clock::Moment,
        delivery::{DeadReason, Outcome, Resent},
        ids::{LinkId, Seq},
        store_fault::StoreFault,
    },
    messages::{connection::Outgoing, history::EventsMissing, link::LinkDown},
};

/// How long to wait before the log is read again after a failure.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often to check whether everything in flight is acknowledged, so that a deferred event can be sent
/// again.
const RESUME_POLL: Duration = Duration::from_millis(100);

impl OutboxActor {
    /// Ends a link. Returns whether it was the current one.
    pub(super) fn link_down(&mut self, link_down: LinkDown) -> bool {
        let was_current = self.delivery.link_down(link_down);
        if was_current {
            self.picture_first.link_down();
        }
        was_current
    }

    /// Sends the events that may be sent now, and reads ahead.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        // Another file at the same path may be missing events that are in this one.
        let is_replaced = self.writer.fault() == Some(StoreFault::Replaced);
        if self.draining.is_some()
            || self.writer.has_too_many_notes()
            || is_replaced
            || !self.knows_subscribers()
        {
            return;
        }
        let Some(link) = self.delivery.link().cloned() else { return };
        if !self.gate.is_open() {
            return self.pump_when_open(ctx);
        }
        if let Some(wait) = self.head_start.remaining(Instant::now()) {
            self.pump_later(wait, ctx);
            return;
        }
        let events = self.next_batch(ctx);
        if !events.is_empty() {
            self.send_events(&link, events, ctx);
        }
        for request in self.delivery.wanted_pages(self.writer.last_seq()) {
            self.read_page(request, ctx);
        }
        if let Some(request) = self.delivery.wanted_live_start() {
            self.find_live_start(request, ctx);
        }
        if let Some(wanted) = self.delivery.wanted_retries() {
            self.read_retries(wanted, ctx);
        }
    }

    /// Pumps again when this node may publish.
    fn pump_when_open(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.awaits_gate, true) {
            return;
        }
        let gate = self.gate.clone();
        let opened = async move { gate.opened().await };
        ctx.spawn(opened.into_actor(self).map(|(), act, ctx| {
            act.awaits_gate = false;
            act.pump(ctx);
            act.report(ctx);
        }));
    }

    fn next_batch(&mut self, ctx: &mut Context<Self>) -> Vec<Outgoing> {
        let (now, sent_at) = (self.clock.now(), Instant::now());
        let listeners = self.subscribers.listeners(&self.settings);
        let NextBatch { events, expired, unreadable, given_up, missing, missing_ranges, wait } =
            self.delivery.next_batch(&self.settings, listeners, now, sent_at);
        for seq in expired {
            self.died(seq, DeadReason::Expired, None);
        }
        self.died_unreadable(unreadable);
        self.reporting.given_up(given_up);
        self.reporting.missing(missing);
        for (first, last) in missing_ranges {
            #[expect(clippy::disallowed_methods, reason = "one message per damaged part of the log")]
            self.peers.history.missing.do_send(EventsMissing { first, last });
        }
        self.report_held();
        if let Some(wait) = wait {
            self.pump_later(wait, ctx);
        }
        self.note_progress(ctx);
        events
    }

    /// Pumps again after this time, or earlier if that is scheduled already.
    fn pump_later(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        let at = Instant::now() + wait;
        if self.pump_timer.is_some_and(|(other, _)| other <= at) {
            return;
        }
        let timer = ctx.run_later(wait, |act, ctx| {
            act.pump_timer = None;
            act.pump(ctx);
            act.report(ctx);
        });
        if let Some((_, later)) = self.pump_timer.replace((at, timer)) {
            ctx.cancel_future(later);
        }
    }

    fn read_page(&mut self, request: PageRequest, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let limit = u64::try_from(PAGE).unwrap_or(u64::MAX);
        let read = async move { store.read_page(request.from, limit, request.last).await };
        ctx.spawn(read.into_actor(self).map(move |result, act, ctx| match result {
            Ok(page) => {
                let is_ours = act.store.check_file().is_ok();
                act.delivery.page_read(request, Some(page).filter(|_| is_ours));
                act.pump(ctx);
                act.report(ctx);
            }
            Err(error) => {
                tracing::error!(
                    error = %with_causes(&error),
                    "the event log could not be read; will retry in a second"
                );
                ctx.run_later(READ_AGAIN_AFTER, move |act, ctx| {
                    act.delivery.page_read(request, None);
                    act.pump(ctx);
                });
            }
        }));
    }

    fn find_live_start(&mut self, request: LiveStartRequest, ctx: &mut Context<Self>) {
        let (store, last) = (self.store.clone(), self.writer.last_seq());
        let LiveStartRequest { from, since, .. } = request;
        let lookup = async move { store.first_accepted_since(since, from, last).await };
        ctx.spawn(lookup.into_actor(self).map(move |found, act, ctx| match found {
            Ok(found) => {
                act.delivery.live_start_found(request, Some(found.unwrap_or(last.next())));
                act.pump(ctx);
            }
            Err(error) => {
                tracing::error!(
                    error = %with_causes(&error),
                    "the first live event could not be found; will retry in a second"
                );
                ctx.run_later(READ_AGAIN_AFTER, move |act, ctx| {
                    act.delivery.live_start_found(request, None);
                    act.pump(ctx);
                });
            }
        }));
    }

    fn read_retries(&mut self, wanted: Vec<Seq>, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let seqs = wanted.clone();
        let read = async move { store.read_retries(&seqs).await };
        ctx.spawn(read.into_actor(self).map(move |result, act, ctx| match result {
            Ok(read) => {
                let unreadable = act.delivery.retries_read(wanted, read, act.clock.now());
                act.died_unreadable(unreadable);
                act.pump(ctx);
                act.report(ctx);
            }
            Err(error) => {
                tracing::error!(
                    error = %with_causes(&error),
                    "events to be sent again could not be read; will retry in a second"
                );
                ctx.run_later(READ_AGAIN_AFTER, |act, ctx| {
                    act.delivery.retries_failed();
                    act.pump(ctx);
                });
            }
        }));
    }

    /// Handles the outcomes of events.
    pub(super) fn answered(&mut self, link: LinkId, outcomes: Vec<(Seq, Outcome)>, ctx: &mut Context<Self>) {
        // Once for all of them: to read the clock for each event takes 3% of the time with a full backlog.
        let (now, at) = (self.clock.now(), Instant::now());
        for (seq, outcome) in outcomes {
            self.outcome(link, seq, outcome, (now, at), ctx);
        }
    }

    fn outcome(
        &mut self,
        link: LinkId,
        seq: Seq,
        outcome: Outcome,
        (now, at): (Moment, Instant),
        ctx: &mut Context<Self>,
    ) {
        match outcome {
            Outcome::Delivered { unheard } => self.delivered(link, seq, unheard, (now, at), ctx),
            Outcome::Refused(reason) => {
                if let Some(in_flight) = self.delivery.refused(link, seq, now) {
                    self.reporting.refused(reason.as_str());
                    self.died(seq, reason, Some(in_flight.topic));
                }
            }
            Outcome::Deferred { reason, attempts } => {
                if let Some(deferral) = self.delivery.deferred(link, seq, attempts, now) {
                    self.reporting.refused(reason);
                    self.deferred(seq, reason, deferral, ctx);
                }
            }
            Outcome::Returned => {
                if self.delivery.returned(link, seq) {
                    self.resume_after(Duration::ZERO, ctx);
                }
            }
        }
    }

    fn delivered(
        &mut self,
        link: LinkId,
        seq: Seq,
        unheard: bool,
        (now, at): (Moment, Instant),
        ctx: &mut Context<Self>,
    ) {
        let waits = unheard && self.settings.wait_for_subscribers;
        if waits && self.delivery.hold_unheard(link, seq, at, now) {
            return;
        }
        let delivered = self.delivery.delivered(link, seq, unheard, now, at);
        let Some((settled, settlement)) = delivered else { return };
        if settled.again {
            self.writer.queue.add_resent(Resent { seq, settlement });
        }
        self.writer.count_delivered();
        if !settled.note.late {
            self.live_delivered(seq, &settled.note, settlement.heard, now, ctx);
        }
        self.reporting.delivered(seq, settled.note, unheard, now);
    }

    /// Records a dead event. [`Delivery`](super::delivery::Delivery) has already settled it, so it does not
    /// block later events.
    fn died(&mut self, seq: Seq, reason: DeadReason, topic: Option<String>) {
        self.reporting.died(seq, reason, topic);
        self.writer.add_dead(seq, reason, self.clock.now());
    }

    fn died_unreadable(&mut self, seqs: Vec<Seq>) {
        for seq in seqs {
            self.died(seq, DeadReason::Unreadable, None);
        }
    }

    /// Schedules the end of a pause. The deferred event and those after it are then sent again, in order.
    fn deferred(&mut self, seq: Seq, reason: &'static str, deferral: Deferral, ctx: &mut Context<Self>) {
        let Deferral { wait, is_last } = deferral;
        if is_last {
            self.died(seq, DeadReason::RefusedRepeatedly, None);
        } else {
            tracing::warn!(seq = seq.0, reason, retry_in_seconds = wait.as_secs(), "event refused for now");
        }
        self.resume_after(wait, ctx);
    }

    /// Schedules the end of a pause. If there are several, the one that ends last counts.
    fn resume_after(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        let at = Instant::now() + wait;
        if self.resume_timer.is_none_or(|(other, _)| other < at) {
            self.cancel_pause(ctx);
            self.resume_timer = Some((at, ctx.run_later(wait, Self::resume)));
        }
    }

    /// Cancels the pause of an earlier link.
    pub(super) fn cancel_pause(&mut self, ctx: &mut Context<Self>) {
        if let Some((_, timer)) = self.resume_timer.take() {
            ctx.cancel_future(timer);
        }
    }

    fn resume(&mut self, ctx: &mut Context<Self>) {
        self.resume_timer = None;
        match self.delivery.resume() {
            Resumption::Resumed => {
                self.pump(ctx);
                self.report(ctx);
            }
            Resumption::Waiting => self.resume_after(RESUME_POLL, ctx),
            Resumption::NotPaused => {}
        }
    }
}
