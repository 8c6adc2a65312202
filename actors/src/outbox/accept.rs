//! Accepting: from a request to a commit that is synced to disk.

use std::{
    collections::{HashMap, HashSet},
    panic::resume_unwind,
    time::Duration,
};

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use futures_util::future::Either;
use tokio::{
    runtime::Handle,
    task::{spawn_blocking, yield_now},
    time::Instant,
};

use super::{
    OutboxActor, ThumbnailPeer,
    commit_queue::{Answer, InFlightCommit},
    writer::{NotesDue, Start},
};
use crate::{
    domain::{
        camera::CameraSighting,
        causes::with_causes,
        event::DetectionEvent,
        event_log::Receipt,
        ids::{EventId, Seq},
        store_fault::StoreFault,
    },
    messages::{
        cameras::CamerasSeen,
        outbox::PublishError,
        stream::LogMoved,
        thumbnails::{AdoptThumbnails, DiscardThumbnails},
    },
    store::{CommitError, Committed, Store, StoreError, is_small},
};

/// Maximum number of requests whose events are looked up while the outbox is full.
pub(super) const MAX_LOOKUPS: usize = 64;

/// Maximum number of staged pictures that are kept because it is not known whether their events were committed.
const MAX_UNDECIDED: usize = 1000;

/// How long to wait before notes are written again after a commit has failed.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs a large commit on a thread that no actor uses. The payloads are serialized there, and other actors do
/// not delay the commit between its round trips to the database. Propagates panics.
async fn run_on_another_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = Handle::current();
    match spawn_blocking(move || runtime.block_on(work)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and will drop this future.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Makes the staged pictures of committed events available. Those of earlier commits with an unknown outcome
/// are among them. Returns the events whose pictures could not be adopted.
async fn adopt_pictures(
    store: &Store,
    thumbnails: &ThumbnailPeer,
    committed: &Committed,
    mut staged: Vec<EventId>,
) -> Vec<EventId> {
    let receipts: HashMap<&EventId, Seq> =
        committed.receipts.iter().map(|receipt| (&receipt.event_id, receipt.seq)).collect();
    let mut found: Vec<_> = staged.iter().filter_map(|id| Some((id.clone(), *receipts.get(id)?))).collect();
    staged.retain(|event_id| !receipts.contains_key(event_id));
    if !staged.is_empty() {
        // An error leaves the pictures for the next start.
        let known = store.find_seqs(&staged).await;
        if let Ok(known) = known {
            staged.retain(|event_id| !known.iter().any(|(known, _)| known == event_id));
            let _stopped = thumbnails.discard.send(DiscardThumbnails(staged)).await;
            found.extend(known);
        }
    }
    let all = found.iter().map(|(event_id, _)| event_id.clone()).collect();
    // If the actor has stopped, the service stops, too.
    thumbnails.adopt.send(AdoptThumbnails(found)).await.unwrap_or(all)
}

impl OutboxActor {
    /// Adds the events to the next commit, or answers why they are not accepted. The pictures of the events in
    /// `staged` are staged; they are discarded if the events are not accepted.
    pub(super) fn accept(
        &mut self,
        events: Vec<DetectionEvent>,
        staged: Vec<EventId>,
        answer: Answer,
        ctx: &mut Context<Self>,
    ) {
        let room = if self.gate.has_ended() {
            Err(PublishError::Storage(StoreFault::NotOwner))
        } else if self.draining.is_some() {
            Err(PublishError::Stopping)
        } else {
            self.writer.check_room(events.len(), self.pending(), self.limits.max_pending)
        };
        match room {
            Ok(()) => self.enqueue(events, staged, answer, ctx),
            Err(full @ PublishError::Full { .. }) if self.lookups < MAX_LOOKUPS => {
                self.accept_repeated(events, staged, answer, full, ctx);
            }
            Err(error) => {
                self.discard(staged);
                answer.send(Err(error));
            }
        }
    }

    fn enqueue(
        &mut self,
        events: Vec<DetectionEvent>,
        staged: Vec<EventId>,
        answer: Answer,
        ctx: &mut Context<Self>,
    ) {
        self.reporting.check_late_arrivals(&events, &self.settings, self.clock.now());
        self.writer.queue.add(events, staged, answer);
        self.commit(ctx);
    }

    fn keep_undecided(&mut self, mut undecided: Vec<EventId>) {
        undecided.sort_unstable();
        undecided.dedup();
        if undecided.len() > MAX_UNDECIDED {
            self.discard(undecided.split_off(MAX_UNDECIDED));
        }
        self.undecided = undecided;
    }

    /// Removes the staged pictures of events that were not committed.
    pub(super) fn discard(&self, staged: Vec<EventId>) {
        if !staged.is_empty() {
            #[expect(clippy::disallowed_methods, reason = "at most one message per stored picture")]
            self.peers.thumbnails.discard.do_send(DiscardThumbnails(staged));
        }
    }

    /// Looks up which of the events were accepted before: they need no room. `full` is the answer if there is
    /// no room for the others.
    fn accept_repeated(
        &mut self,
        events: Vec<DetectionEvent>,
        staged: Vec<EventId>,
        answer: Answer,
        full: PublishError,
        ctx: &mut Context<Self>,
    ) {
        self.lookups += 1;
        let (store, ids) = (self.store.clone(), events.iter().map(|event| event.event_id().clone()));
        let ids: Vec<EventId> = ids.collect();
        let lookup = async move { store.find_seqs(&ids).await };
        ctx.spawn(lookup.into_actor(self).map(move |known, act, ctx| {
            act.lookups -= 1;
            let known: HashMap<EventId, Seq> = known.unwrap_or_default().into_iter().collect();
            let repeated = |event: &DetectionEvent| {
                let (event_id, seq) = known.get_key_value(event.event_id())?;
                Some(Receipt { event_id: event_id.clone(), seq: *seq, duplicate: true })
            };
            let receipts: Vec<Receipt> = events.iter().filter_map(repeated).collect();
            let new = events.len() - receipts.len();
            if new == 0 && staged.is_empty() {
                answer.send(Ok(receipts));
            } else if act.draining.is_none()
                && act.writer.check_room(new, act.pending(), act.limits.max_pending).is_ok()
            {
                act.enqueue(events, staged, answer, ctx);
            } else {
                act.discard(staged);
                answer.send(Err(full));
            }
        }));
    }

    /// Starts the next commit, unless one is running or nothing is queued. Yields first, so that the other
    /// tasks on this thread can add to the commit: under load more events share a commit, and without load
    /// none is delayed.
    pub(super) fn commit(&mut self, ctx: &mut Context<Self>) {
        match self.writer.start() {
            Start::Nothing => {}
            Start::CheckDatabase => self.check_database(ctx),
            Start::Commit => {
                ctx.spawn(yield_now().into_actor(self).map(|(), act, ctx| act.commit_queued(ctx)));
            }
        }
    }

    fn commit_queued(&mut self, ctx: &mut Context<Self>) {
        let Some((mut batch, in_flight)) = self.writer.take() else { return };
        // A service that is stopping syncs every commit, and with it what was not synced before.
        batch.skips_sync &= self.draining.is_none();
        let is_small = is_small(batch.events.len());
        let store = self.store.clone();
        let last_seq = self.writer.certain_last_seq();
        let context = self.limits.commit.clone();
        let started = Instant::now();
        let (mut staged, thumbnails) = (in_flight.staged(), self.peers.thumbnails.clone());
        staged.append(&mut self.undecided);
        let undecided = staged.clone();
        let commit = async move {
            let committed = store.commit(&batch, last_seq, &context).await?;
            let took = started.elapsed();
            // No event is sent before its picture is available.
            let not_adopted = if staged.is_empty() {
                Vec::new()
            } else {
                adopt_pictures(&store, &thumbnails, &committed, staged).await
            };
            Ok((committed, not_adopted, took))
        };
        let commit =
            if is_small { Either::Left(commit) } else { Either::Right(run_on_another_thread(commit)) };
        ctx.spawn(commit.into_actor(self).map(move |result, act, ctx| {
            match result {
                Ok((committed, not_adopted, took)) => {
                    act.reporting.committed(committed.stored.len(), took);
                    act.note_pictures(&committed, &undecided, &not_adopted);
                    act.committed(committed, in_flight, &not_adopted, ctx);
                    act.commit_more(ctx);
                }
                Err(CommitError { error, written }) => {
                    if written.is_some() && act.writer.fault() != Some(error.fault()) {
                        act.merge_now(ctx);
                    }
                    act.unconfirmed.extend(written.map(|written| written.seen));
                    // The events may have been committed nevertheless. The next successful commit shows it.
                    act.keep_undecided(undecided);
                    act.commit_failed(&error, in_flight, ctx);
                }
            }
            act.pump(ctx);
            act.report(ctx);
            act.check_drained(ctx);
            act.merge_wal(ctx);
        }));
    }

    /// Notes which of the committed events have a picture.
    fn note_pictures(&mut self, committed: &Committed, staged: &[EventId], not_adopted: &[EventId]) {
        if staged.is_empty() {
            return;
        }
        let adopted: HashSet<&EventId> = staged.iter().filter(|id| !not_adopted.contains(id)).collect();
        let receipts = committed.receipts.iter();
        let with_picture = receipts.filter(|receipt| adopted.contains(&receipt.event_id));
        let first_open = self.delivery.first_open();
        let last_seq = committed.receipts.iter().map(|receipt| receipt.seq).max();
        let last_seq = last_seq.unwrap_or_default().max(self.writer.last_seq());
        self.picture_first.committed(with_picture.map(|receipt| receipt.seq), first_open, last_seq);
    }

    fn committed(
        &mut self,
        committed: Committed,
        commit: InFlightCommit,
        not_adopted: &[EventId],
        ctx: &mut Context<Self>,
    ) {
        let notes = self.writer.succeeded(&committed);
        let position = self.writer.position();
        self.peers.log_watch.notify(|| LogMoved { position, others: notes.others(&committed) });
        self.decided(&committed.decided, committed.dead_and_retrying.as_ref());
        if !committed.decided.is_empty() || self.recount_unreadable {
            self.count_unreadable(ctx);
        }
        commit.succeeded(&committed, not_adopted);
        if let Some(camera_id) = committed.unregistered {
            self.reporting.camera_not_registered(camera_id, self.limits.commit.max_cameras);
        }
        self.cameras_seen(committed.seen);
        if committed.came_online {
            self.head_start.give(Instant::now());
        }
        self.delivery.offer(&committed.stored);
    }

    /// Reports the cameras of a commit, and first those of earlier ones that turned out to be written.
    fn cameras_seen(&mut self, seen: Vec<CameraSighting>) {
        for seen in self.unconfirmed.take().into_iter().chain([seen]).filter(|seen| !seen.is_empty()) {
            #[expect(clippy::disallowed_methods, reason = "one or two messages per commit")]
            self.peers.cameras.do_send(CamerasSeen(seen));
        }
    }

    fn commit_failed(&mut self, error: &StoreError, commit: InFlightCommit, ctx: &mut Context<Self>) {
        self.writer.failed(error, commit);
        if let Some(draining) = self.draining.as_mut().filter(|draining| draining.timed_out) {
            // The service is stopping. Events whose outcome was not recorded are sent again after the next
            // start.
            draining.answer.take();
        }
        if self.writer.queue.has_requests() {
            self.commit(ctx);
        } else {
            self.commit_later(RETRY_AFTER, ctx);
        }
    }

    /// Merges the write-ahead log into the database file if that is due and nothing waits for a commit.
    fn merge_wal(&mut self, ctx: &mut Context<Self>) {
        if self.writer.is_merge_due() {
            self.merge_now(ctx);
        }
    }

    /// Merges the write-ahead log. Also called when its file was deleted, because its contents would otherwise be lost
    /// when the process ends.
    pub(super) fn merge_now(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let merged = async move { store.merge_wal().await };
        ctx.spawn(merged.into_actor(self).map(|merged, _, _| {
            if let Err(error) = merged {
                // Nothing is lost. If the disk is full, the next commit reports it.
                tracing::debug!(
                    error = %with_causes(&error),
                    "the write-ahead log was not merged"
                );
            }
        }));
    }

    /// Checks whether the database works again, even if nothing waits to be written: some senders send events
    /// only to a service that reports that it is ready.
    fn check_database(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let check = async move { store.check_writable().await };
        ctx.spawn(check.into_actor(self).map(|result, act, ctx| match result {
            Ok(()) => {
                act.writer.database_works();
                act.cameras_seen(Vec::new());
                act.pump(ctx);
            }
            Err(_) => act.commit_later(RETRY_AFTER, ctx),
        }));
    }

    /// Queues a checkpoint for the events that the cursor has passed.
    pub(super) fn note_progress(&mut self, ctx: &mut Context<Self>) {
        self.add_progress();
        self.commit_notes(ctx);
    }

    fn add_progress(&mut self) {
        self.writer.add_ranges(self.delivery.take_ranges());
        self.writer.queue.add_ahead(self.delivery.take_ahead());
    }

    /// Notes the progress in the file if there is little of it, and commits it otherwise.
    fn commit_notes(&mut self, ctx: &mut Context<Self>) {
        if let Some(notes) = self.writer.notable()
            && self.store.note_deliveries(&notes)
        {
            self.writer.noted(&notes, Instant::now());
            let position = self.writer.position();
            self.peers.log_watch.notify(|| LogMoved { position, others: Vec::new() });
        }
        match self.writer.notes_due(Instant::now()) {
            NotesDue::Never => {}
            NotesDue::Now => self.commit(ctx),
            NotesDue::After(delay) => self.commit_later(delay, ctx),
        }
    }

    /// Commits what has been in the file for long.
    pub(super) fn write_noted(&mut self, ctx: &mut Context<Self>) {
        if self.writer.is_noted_for_long(Instant::now()) {
            self.writer.write_noted();
            self.commit(ctx);
        }
    }

    /// Commits the requests and notes that were queued during a commit.
    fn commit_more(&mut self, ctx: &mut Context<Self>) {
        if self.writer.queue.has_requests() || self.draining.is_some() {
            self.commit(ctx);
        } else {
            self.commit_notes(ctx);
        }
    }

    pub(super) fn commit_later(&mut self, delay: Duration, ctx: &mut Context<Self>) {
        if self.commit_timer.is_none() {
            self.commit_timer = Some(ctx.run_later(delay, |act, ctx| {
                act.commit_timer = None;
                match act.writer.notes_may_wait(Instant::now()) {
                    Some(left) => act.commit_later(left, ctx),
                    None => act.commit(ctx),
                }
            }));
        }
    }

    /// While draining: replies to [`Drain`](crate::messages::outbox::Drain) once everything is written and
    /// acknowledged.
    pub(super) fn check_drained(&mut self, ctx: &mut Context<Self>) {
        let Some(draining) = &self.draining else { return };
        let all_answered = self.delivery.in_flight() == 0 || draining.timed_out;
        if self.writer.is_committing() || !all_answered {
            return;
        }
        self.add_progress();
        self.writer.write_noted();
        self.commit(ctx);
        if !self.writer.is_committing()
            && let Some(answer) = self.draining.as_mut().and_then(|draining| draining.answer.take())
        {
            // The sender may have stopped waiting.
            let _gone = answer.send(());
        }
    }
}
