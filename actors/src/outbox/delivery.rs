//! Delivering: what may leave now, and what the broker's answers mean.

use std::time::Duration;

use actix::{AsyncContext as _, Context};
use tokio::time::Instant;

use super::{
    InFlight, OutboxActor, Settled,
    dispatch::{Plan, plan},
    in_flight_limit::InFlightLimit,
    read_ahead::{Next, PAGE, PageRequest},
};
use actix::{ActorFutureExt as _, WrapFuture as _};

use crate::{
    domain::{
        clock,
        delivery::{DeadReason, Outcome, Resent},
        event_log::StoredEvent,
        ids::{LinkId, Seq},
        status::FailureKind,
        suspects::MessageRef,
    },
    messages::{
        connection::{Deliver, Outgoing},
        link::{LinkDown, LinkUp},
    },
    metrics::ReasonLabel,
    store::{DeadEvent, RetryingEvent},
};

/// While the database cannot note what was settled, so many notes are kept in memory; then delivery pauses.
const MAX_NOTES: usize = 10_000;

/// How long to wait before a page is asked for again that could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long to wait before a deferred event is sent again: twice as long each time, up to a minute.
const DEFER_FIRST: Duration = Duration::from_secs(1);
const DEFER_LONGEST: Duration = Duration::from_mins(1);

/// How often to look whether everything in flight is answered, so that a deferred event can be sent again.
const RESUME_POLL: Duration = Duration::from_millis(100);

impl OutboxActor {
    pub(super) fn link_up(&mut self, LinkUp { link, receive_maximum, may_queue, deliver, .. }: LinkUp) {
        self.flying.clear();
        self.allowed = InFlightLimit::new(self.limits.window, receive_maximum, may_queue);
        self.window.link_up(link, self.suspicion.limit(self.allowed.at_first()));
        self.feed.restart(self.window.cursor().next());
        self.link = Some(deliver);
    }

    /// The link is gone. Answers whether it was the current one.
    pub(super) fn link_down(&mut self, LinkDown { link, failure, sole_suspect }: LinkDown) -> bool {
        let in_flight = self.window.in_flight();
        if !self.window.link_down(link) {
            return false;
        }
        self.link = None;
        let alone = match sole_suspect {
            Some(MessageRef::Event(seq)) => Some(seq),
            Some(MessageRef::State { .. }) | None => None,
        };
        if failure == Some(FailureKind::Protocol)
            && let Some(blamed) = self.suspicion.link_ended(alone, in_flight)
        {
            self.metrics.count_error(DeadReason::RefusedRepeatedly.as_str());
            self.refused += 1;
            self.died(blamed, DeadReason::RefusedRepeatedly);
        }
        true
    }

    /// Sends what may be sent, and reads ahead.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.draining.is_some() || self.gather.notes() > MAX_NOTES {
            return;
        }
        let Some(link) = self.link.clone() else { return };
        let batch = self.next_batch(ctx);
        if !batch.is_empty() {
            #[expect(clippy::disallowed_methods, reason = "bounded by the window")]
            link.do_send(Deliver(batch));
        }
        if let Some(request) = self.feed.wants(self.last_seq) {
            self.read_page(request, ctx);
        }
        if let Some(wanted) = self.ahead.wants(self.window.next_again()) {
            self.read_again(wanted, ctx);
        }
    }

    fn next_batch(&mut self, ctx: &mut Context<Self>) -> Vec<Outgoing> {
        let now = clock::now();
        let mut batch = Vec::new();
        let sent_at = Instant::now();
        let mut allowance = self.pacer.allowance(sent_at);
        while self.window.room() > 0 {
            let Some(seq) = self.window.next() else { break };
            if allowance == 0 {
                self.pump_later(ctx);
                break;
            }
            let again = self.window.next_again().next();
            // What has to be read first holds up nothing.
            let (event, since, again) = match again.and_then(|again| self.ahead.take(again)) {
                Some(RetryingEvent { event, asked_at }) => (event, asked_at, true),
                None if self.window.is_settled(seq) => {
                    self.window.skipped(seq);
                    continue;
                }
                None => match self.feed.at(seq) {
                    Next::Unread => break,
                    Next::Gap(end) => {
                        self.pass_over(seq, end);
                        continue;
                    }
                    Next::Event(event) => {
                        let since = event.received_at;
                        (event, since, false)
                    }
                },
            };
            match (plan(&event, since, &self.settings, now), again) {
                (Plan::Expired, true) => self.died(event.seq, DeadReason::Expired),
                (Plan::Expired, false) => {
                    self.window.skipped(seq);
                    self.died(seq, DeadReason::Expired);
                }
                (Plan::Send { outgoing, late }, again) => {
                    allowance -= 1;
                    self.pacer.spend();
                    if again {
                        self.window.sent_again(event.seq);
                    } else {
                        self.window.sent(seq);
                    }
                    self.note_flying(event, sent_at, &outgoing, late);
                    batch.push(outgoing);
                }
            }
        }
        self.note_progress(ctx);
        batch
    }

    fn note_flying(&mut self, event: StoredEvent, sent_at: Instant, outgoing: &Outgoing, late: bool) {
        tracing::debug!(seq = event.seq.0, topic = outgoing.topic, late, "event sent");
        let flying =
            InFlight { received_at: event.received_at, sent_at, topic: outgoing.topic.clone(), late };
        self.flying.insert(event.seq, flying);
    }

    /// Rows that somebody removed from the database: there is nothing to send.
    fn pass_over(&mut self, from: Seq, end: Seq) {
        tracing::error!(from = from.0, to = end.previous().0, "events are missing in the database");
        let mut seq = from;
        while seq < end && self.window.next() == Some(seq) {
            self.window.skipped(seq);
            self.window.settle_unsent(seq, false);
            seq = seq.next();
        }
    }

    fn pump_later(&mut self, ctx: &mut Context<Self>) {
        if self.pump_timer.is_none() {
            self.pump_timer = Some(ctx.run_later(self.pacer.wait(), |act, ctx| {
                act.pump_timer = None;
                act.pump(ctx);
                act.tell(ctx);
            }));
        }
    }

    fn read_page(&mut self, request: PageRequest, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let limit = u64::try_from(PAGE).unwrap_or(u64::MAX);
        let read = async move { store.read_page(request.from, limit).await };
        ctx.spawn(read.into_actor(self).map(move |result, act, ctx| match result {
            Ok(rows) => {
                act.feed.page(request, Some(rows));
                act.pump(ctx);
                act.tell(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "the event log could not be read; tried again in a second");
                ctx.run_later(READ_AGAIN_AFTER, move |act, ctx| {
                    act.feed.page(request, None);
                    act.pump(ctx);
                });
            }
        }));
    }

    fn read_again(&mut self, wanted: Vec<Seq>, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let seqs = wanted.clone();
        let read = async move { store.read_retries(&seqs).await };
        ctx.spawn(read.into_actor(self).map(move |result, act, ctx| match result {
            Ok(read) => {
                for gone in act.ahead.page(wanted, read) {
                    tracing::error!(seq = gone.0, "an event that was to be sent again is missing in the database");
                    act.window.forget_again(gone);
                }
                act.pump(ctx);
                act.tell(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "events that are to be sent again could not be read; tried again in a second");
                ctx.run_later(READ_AGAIN_AFTER, |act, ctx| {
                    act.ahead.failed();
                    act.pump(ctx);
                });
            }
        }));
    }

    /// What the broker says of one event.
    pub(super) fn answered(&mut self, link: LinkId, seq: Seq, outcome: Outcome, ctx: &mut Context<Self>) {
        match outcome {
            Outcome::Delivered { unheard } => self.delivered(link, seq, unheard),
            Outcome::Refused(reason) => {
                if self.window.settle(link, seq, false).is_some() {
                    self.refused += 1;
                    self.metrics.count_error(reason.as_str());
                    self.died(seq, reason);
                }
            }
            Outcome::Deferred { reason, attempts } => {
                if self.window.defer(link, seq) {
                    self.refused += 1;
                    self.metrics.count_error(reason);
                    self.deferred(seq, reason, attempts, ctx);
                }
            }
        }
    }

    fn delivered(&mut self, link: LinkId, seq: Seq, unheard: bool) {
        let late = self.flying.get(&seq).is_some_and(|flying| flying.late);
        let Some(Settled { again }) = self.window.settle(link, seq, late) else { return };
        if again {
            self.gather.add_resent(Resent { seq, late });
        }
        self.suspicion.answered();
        self.unnoted += 1;
        self.published += 1;
        self.metrics.mqtt_messages_published.inc();
        self.deferrals.remove(&seq);
        let Some(InFlight { received_at, sent_at, topic, late }) = self.flying.remove(&seq) else { return };
        self.window.set_limit(self.suspicion.limit(self.allowed.after(sent_at.elapsed())));
        let waited = (clock::now() - received_at).to_std().unwrap_or_default();
        self.metrics.event_delivery_seconds.observe(waited.as_secs_f64());
        if late {
            self.metrics.events_late.inc();
        }
        if unheard {
            self.metrics.events_unheard.inc();
        }
        tracing::debug!(seq = seq.0, topic, late, unheard, "event acknowledged");
        self.warnings.acknowledged(unheard.then_some(topic));
    }

    /// The event will never be published: it is listed as dead, and the ones behind it go on.
    fn died(&mut self, seq: Seq, reason: DeadReason) {
        let topic = self.flying.remove(&seq).map(|flying| flying.topic);
        tracing::warn!(seq = seq.0, reason = reason.as_str(), topic, "event is dead");
        self.deferrals.remove(&seq);
        self.dead += 1;
        self.unnoted += 1;
        self.metrics.events_dead.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
        self.gather.add_death(DeadEvent { seq, reason, at: clock::now() });
        self.window.forget_again(seq);
        self.window.settle_unsent(seq, false);
    }

    /// The broker refused the event for now: it and what follows is sent again after a pause, in order.
    fn deferred(&mut self, seq: Seq, reason: &'static str, attempts: Option<u32>, ctx: &mut Context<Self>) {
        self.flying.remove(&seq);
        let count = self.deferrals.entry(seq).or_insert(0);
        *count += 1;
        let count = *count;
        let wait = DEFER_LONGEST.min(DEFER_FIRST * 2u32.saturating_pow(count.min(10) - 1));
        if attempts.is_some_and(|attempts| count >= attempts) {
            self.died(seq, DeadReason::RefusedRepeatedly);
        } else {
            tracing::warn!(seq = seq.0, reason, again_in_seconds = wait.as_secs(), "event refused for now");
        }
        if self.resume_timer.is_none() {
            self.resume_timer = Some(ctx.run_later(wait, Self::resume));
        }
    }

    fn resume(&mut self, ctx: &mut Context<Self>) {
        self.resume_timer = None;
        if self.window.resume() {
            self.feed.restart(self.window.cursor().next());
            self.pump(ctx);
            self.tell(ctx);
        } else if self.window.is_paused() {
            self.resume_timer = Some(ctx.run_later(RESUME_POLL, Self::resume));
        }
    }
}
