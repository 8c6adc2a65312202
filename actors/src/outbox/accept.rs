//! Accepting: from a request to a commit that is synced to disk.

use std::{panic::resume_unwind, time::Duration};

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use futures_util::future::Either;
use tokio::{
    runtime::Handle,
    task::{spawn_blocking, yield_now},
    time::Instant,
};

use super::{
    OutboxActor,
    commit_queue::{Answer, InFlightCommit, MAX_GATHERED},
};
use crate::{
    domain::{clock, delivery::is_late, event::DetectionEvent, event_log::Position},
    messages::{cameras::CamerasSeen, outbox::PublishError, stream::LogMoved},
    store::{Committed, StoreError, is_small},
};

/// A checkpoint is at most so far behind the acknowledgements: after a crash at most that much is sent twice.
const NOTE_WITHIN: Duration = Duration::from_millis(50);
const NOTE_EVERY: usize = 500;

/// How long to wait before notes are written again after a commit failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Does this on another thread than the actors'. Payloads are made there, and a commit in several goes does not wait for what the
/// actors do between them. A panic in it is ours.
async fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = Handle::current();
    match spawn_blocking(move || runtime.block_on(work)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and whoever waits for this with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// How much longer notes may wait of which the oldest waits since then.
fn still_to_wait(since: Option<Instant>, now: Instant) -> Option<Duration> {
    NOTE_WITHIN.checked_sub(now.saturating_duration_since(since?)).filter(|left| !left.is_zero())
}

impl OutboxActor {
    /// Takes the events into the next commit, or says why not.
    pub(super) fn accept(
        &mut self,
        events: Vec<DetectionEvent>,
        answer: Answer,
        ctx: &mut Context<Self>,
    ) -> Result<(), PublishError> {
        if self.draining.is_some() {
            return Err(PublishError::Stopping);
        }
        let gathered = self.gather.events();
        if gathered > 0 && gathered + events.len() > MAX_GATHERED {
            return Err(PublishError::Busy);
        }
        let waiting = self.committing.unwrap_or(0) + gathered + events.len();
        let pending = self.pending() + u64::try_from(waiting).unwrap_or(u64::MAX);
        if pending > self.limits.max_pending {
            let max_pending = self.limits.max_pending;
            return Err(PublishError::Full { pending: self.pending(), max_pending });
        }
        self.warn_of_late_arrivals(&events);
        self.gather.add(events, answer);
        self.commit(ctx);
        Ok(())
    }

    fn warn_of_late_arrivals(&mut self, events: &[DetectionEvent]) {
        let now = clock::now();
        for event in events {
            if !is_late(&self.settings, event.timestamp(), now, now) {
                continue;
            }
            let seconds = (now - event.timestamp()).num_seconds();
            if self.warnings.late_on_arrival(event.camera_id(), seconds, Instant::now()) {
                tracing::warn!(
                    camera_id = %event.camera_id(),
                    seconds,
                    "an event was late when it arrived: a clock is wrong, or the source is slow"
                );
            }
        }
    }

    /// Starts the next commit, unless one is on its way or nothing waits: once everybody else on this thread had their turn, so
    /// that under load more events share a commit, and without load none waits.
    pub(super) fn commit(&mut self, ctx: &mut Context<Self>) {
        if self.committing.is_some() {
            return;
        }
        if self.gather.is_empty() {
            if self.away.is_some() {
                self.try_database(ctx);
            }
            return;
        }
        self.committing = Some(0);
        ctx.spawn(yield_now().into_actor(self).map(|(), act, ctx| act.commit_gathered(ctx)));
    }

    fn commit_gathered(&mut self, ctx: &mut Context<Self>) {
        let Some((batch, on_its_way)) = self.gather.take() else {
            self.committing = None;
            return;
        };
        self.committing = Some(batch.events.len());
        self.unnoted = 0;
        self.notes_wait_since = None;
        let is_small = is_small(batch.events.len());
        let store = self.store.clone();
        let last_seq = self.last_seq_is_certain.then_some(self.last_seq);
        let context = self.limits.commit.clone();
        let started = Instant::now();
        let commit = async move { store.commit(&batch, last_seq, &context).await };
        let commit = if is_small { Either::Left(commit) } else { Either::Right(beside(commit)) };
        ctx.spawn(commit.into_actor(self).map(move |result, act, ctx| {
            act.committing = None;
            match result {
                Ok(committed) => {
                    act.metrics.outbox_commit_seconds.observe(started.elapsed().as_secs_f64());
                    act.committed(committed, on_its_way);
                    act.commit_what_waits(ctx);
                }
                Err(error) => act.commit_failed(error, on_its_way, ctx),
            }
            act.pump(ctx);
            act.tell(ctx);
            act.check_drained(ctx);
            act.merge_log(ctx);
        }));
    }

    /// While nothing waits for a commit.
    fn merge_log(&mut self, ctx: &mut Context<Self>) {
        if self.committing.is_some() || !self.unmerged.is_due() {
            return;
        }
        let store = self.store.clone();
        let merged = async move { store.merge_wal().await };
        ctx.spawn(merged.into_actor(self).map(|merged, _, _| {
            if let Err(error) = merged {
                // Nothing is lost: it is in the log, and the next commits tell whether the disk is full.
                tracing::debug!(%error, "the write-ahead log was not merged");
            }
        }));
    }

    /// Nothing waits to be written, but whether the database works again is asked for: by those who send events only to a
    /// service that says it is ready.
    fn try_database(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let tried = async move { store.check_writable().await };
        ctx.spawn(tried.into_actor(self).map(|result, act, ctx| match result {
            Ok(()) => act.database_works(),
            Err(_) => act.note_later(RETRY_AFTER, ctx),
        }));
    }

    fn database_works(&mut self) {
        if let Some(refused) = self.away.take() {
            tracing::info!(
                refused,
                "the database works again; senders were asked to send the refused events again"
            );
        }
    }

    fn committed(&mut self, committed: Committed, on_its_way: InFlightCommit) {
        self.database_works();
        self.last_seq = committed.last_seq;
        self.last_seq_is_certain = true;
        self.unmerged.add(&committed.stored);
        self.metrics.events_accepted.inc_by(u64::try_from(committed.stored.len()).unwrap_or(0));
        if let Some(run) = on_its_way.ranges().last() {
            self.noted = self.noted.max(run.up_to);
        }
        if let Some(watch) = &self.watch {
            let position = Position { seq: self.last_seq, noted: self.noted };
            watch.notify(|| LogMoved { position, others: on_its_way.others(&committed) });
        }
        self.decided(&committed.decided, committed.afterlife.as_ref());
        on_its_way.succeeded(&committed);
        if let Some(camera_id) = committed.unregistered {
            let max = self.limits.commit.max_cameras;
            if self.warnings.too_many_cameras(camera_id.clone(), max, Instant::now()) {
                tracing::warn!(%camera_id, max, "a camera was not registered: as many are known as may be");
            }
        }
        if let Some(cameras) = self.cameras.as_ref().filter(|_| !committed.seen.is_empty()) {
            #[expect(clippy::disallowed_methods, reason = "one message a commit")]
            cameras.do_send(CamerasSeen(committed.seen));
        }
        if self.link.is_some() {
            self.feed.offer(&committed.stored);
        }
    }

    fn commit_failed(&mut self, error: StoreError, on_its_way: InFlightCommit, ctx: &mut Context<Self>) {
        self.last_seq_is_certain = false;
        if self.away.is_none() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the database is away: no event is accepted until it works again"
            );
        }
        *self.away.get_or_insert(0) += on_its_way.events();
        self.gather.failed(on_its_way, error.fault());
        if let Some(draining) = self.draining.as_mut().filter(|draining| draining.patience_is_over) {
            // Stopping: what could not be noted is sent again at the next start.
            draining.answer.take();
        }
        if self.gather.is_asked() {
            self.commit(ctx);
        } else {
            self.note_later(RETRY_AFTER, ctx);
        }
    }

    /// Sees to it that what the cursor has passed is noted, soon.
    pub(super) fn note_progress(&mut self, ctx: &mut Context<Self>) {
        self.gather.add_runs(self.window.take_ranges());
        self.commit_notes(ctx);
    }

    /// Notes alone wait until they are worth a commit.
    fn commit_notes(&mut self, ctx: &mut Context<Self>) {
        if self.gather.notes() == 0 {
            return;
        }
        self.notes_wait_since.get_or_insert_with(Instant::now);
        if self.unnoted >= NOTE_EVERY && self.away.is_none() {
            self.commit(ctx);
        } else {
            self.note_later(NOTE_WITHIN, ctx);
        }
    }

    fn commit_what_waits(&mut self, ctx: &mut Context<Self>) {
        if self.gather.is_asked() || self.draining.is_some() {
            self.commit(ctx);
        } else {
            self.commit_notes(ctx);
        }
    }

    fn note_later(&mut self, after: Duration, ctx: &mut Context<Self>) {
        if self.note_timer.is_none() {
            self.note_timer = Some(ctx.run_later(after, |act, ctx| {
                act.note_timer = None;
                match still_to_wait(act.notes_wait_since, Instant::now()) {
                    // The notes for which it was set went with events.
                    Some(left) if act.away.is_none() => act.note_later(left, ctx),
                    _ => act.commit(ctx),
                }
            }));
        }
    }

    /// While draining: answers once everything is written and answered.
    pub(super) fn check_drained(&mut self, ctx: &mut Context<Self>) {
        let Some(draining) = &self.draining else { return };
        let answered = self.window.in_flight() == 0 || draining.patience_is_over;
        if self.committing.is_some() || !answered {
            return;
        }
        self.gather.add_runs(self.window.take_ranges());
        self.commit(ctx);
        if self.committing.is_none()
            && let Some(answer) = self.draining.as_mut().and_then(|draining| draining.answer.take())
        {
            // Whoever asked may have stopped waiting.
            let _gone = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_wait_for_events_that_take_them_along_but_not_for_long() {
        let noted = Instant::now();
        let left = |millis| still_to_wait(Some(noted), noted + Duration::from_millis(millis));
        assert_eq!(left(10), Some(Duration::from_millis(40)), "those before went with an event");
        assert_eq!(left(50), None);
        assert_eq!(left(5000), None);
        assert_eq!(still_to_wait(None, noted), None, "nothing waits");
    }
}
