//! Writing: the queue for the next commit, the running commit, and the state on disk.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::commit_queue::{CommitQueue, InFlightCommit, MAX_QUEUED, Notes};
use crate::{
    domain::{
        causes::with_causes,
        clock::{LogTime, Moment},
        delivery::{DeadReason, SettledRange},
        event_log::Position,
        ids::Seq,
        store_fault::{DatabasePlace, StoreFault},
    },
    messages::outbox::PublishError,
    store::{Batch, Committed, DeadEvent, DeliveryNotes, MAX_NOTED_RANGES, StoreError, Unmerged},
};

/// How far a checkpoint may lag behind the acknowledgements. After a crash, at most this much is sent twice.
pub const NOTE_WITHIN: Duration = Duration::from_millis(50);
const NOTE_EVERY: usize = 500;

/// Maximum number of delivered events whose checkpoints are noted in the file of the delivery notes or committed, but
/// not synced to disk. An event that is delivered alone then costs one sync and not two, and the checkpoints of several
/// events share a commit. After a power failure, at most this many more events are sent twice.
const MAX_UNSYNCED: usize = 8;

/// How long deliveries may be only in the file of the delivery notes. Programs that read the database do not know of
/// them for this long.
const NOTED_FOR: Duration = Duration::from_secs(10);

/// Maximum number of notes in memory while the database cannot store them. Above it, delivery pauses.
const MAX_NOTES: usize = 10_000;

/// The write side of the outbox.
///
/// A *note* is anything in a commit that is not a new event or a decision: a checkpoint, a dead event, a
/// delivered retry. Checkpoints are *noted* if the file of the delivery notes contains them; they may then wait for
/// a commit.
#[derive(Debug)]
pub struct Writer {
    /// The requests and notes that wait for the next commit.
    pub queue: CommitQueue,
    /// Number of events in the running commit; `None` if no commit is running.
    committing: Option<usize>,
    /// The last seq that was assigned.
    last_seq: Seq,
    /// False after a commit with an unknown outcome.
    last_seq_is_certain: bool,
    /// The cursor, as it is on disk.
    checkpoint: Seq,
    /// Why commits fail, and how many events were refused because of that. `None` while the database works.
    failing: Option<Failing>,
    /// Number of settled events that are not in a checkpoint yet.
    unnoted: usize,
    /// Number of settled events whose notes were taken since the last commit that was synced.
    unsynced: usize,
    /// Whether the running commit is not synced.
    skips_sync: bool,
    /// When the oldest note that waits for a commit was queued.
    notes_wait_since: Option<Instant>,
    /// The cursor, as it is noted. Not above that in `checkpoint` if nothing was noted since.
    noted: Seq,
    /// Since when checkpoints are noted and not committed.
    noted_since: Option<Instant>,
    /// Whether the next commit contains the noted checkpoints, too.
    writes_noted: bool,
    /// The newest event that this process has committed, and when it was accepted.
    newest: Option<(Seq, LogTime)>,
    unmerged: Unmerged,
    place: DatabasePlace,
    /// Who waits for the end of the running commit. The process waits once at a time.
    awaiting_end: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    fault: StoreFault,
    refused: u64,
}

/// What to do when a commit is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Start a commit.
    Commit,
    /// There is nothing to write, but the database failed last time: check whether it works again.
    CheckDatabase,
    /// Nothing: a commit is running, or there is nothing to write.
    Nothing,
}

/// When to commit the waiting notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotesDue {
    /// There are none.
    Never,
    /// Now.
    Now,
    /// After this time, unless new events are committed earlier.
    After(Duration),
}

impl Writer {
    /// Creates the state for a log that was recovered with this last seq and this cursor.
    pub fn new(last_seq: Seq, cursor: Seq, unmerged: Unmerged, place: DatabasePlace) -> Self {
        Self {
            queue: CommitQueue::default(),
            committing: None,
            last_seq,
            last_seq_is_certain: true,
            checkpoint: cursor,
            failing: None,
            unnoted: 0,
            unsynced: 0,
            skips_sync: false,
            notes_wait_since: None,
            noted: cursor,
            noted_since: None,
            writes_noted: false,
            newest: None,
            unmerged,
            place,
            awaiting_end: Vec::new(),
        }
    }

    /// Returns the last seq that was assigned.
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Returns the last seq that was assigned, or `None` if a failed commit may have assigned more.
    pub fn certain_last_seq(&self) -> Option<Seq> {
        self.last_seq_is_certain.then_some(self.last_seq)
    }

    /// Returns the end of the log and of its checkpoints, which are committed or noted.
    pub fn position(&self) -> Position {
        Position { seq: self.last_seq, checkpoint: self.checkpoint.max(self.noted) }
    }

    /// Returns whether a commit is running.
    pub fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// Returns whether the last commit failed.
    pub fn database_unavailable(&self) -> bool {
        self.failing.is_some()
    }

    /// Returns why the database does not work, if it does not.
    pub fn fault(&self) -> Option<StoreFault> {
        self.failing.map(|failing| failing.fault)
    }

    /// Returns why the database does not work, and what to do about it.
    pub fn problem(&self) -> Option<(StoreFault, &'static str)> {
        self.fault().map(|fault| (fault, fault.remedy(self.place)))
    }

    /// Returns whether delivery must pause because too many notes are waiting.
    pub fn has_too_many_notes(&self) -> bool {
        self.queue.notes() > MAX_NOTES
    }

    /// Checks whether this many more events may be accepted, while `pending` events are in the log.
    pub fn check_room(&self, events: usize, pending: u64, max_pending: u64) -> Result<(), PublishError> {
        let queued = self.queue.events();
        if queued > 0 && queued + events > MAX_QUEUED {
            return Err(PublishError::Busy);
        }
        let waiting = self.committing.unwrap_or(0) + queued + events;
        if pending + u64::try_from(waiting).unwrap_or(u64::MAX) > max_pending {
            return Err(PublishError::Full { pending, max_pending });
        }
        Ok(())
    }

    /// Queues the ranges that the cursor has passed.
    pub fn add_ranges(&mut self, ranges: Vec<SettledRange>) {
        self.queue.add_ranges(ranges);
    }

    /// Queues a dead event.
    pub fn add_dead(&mut self, seq: Seq, reason: DeadReason, at: Moment) {
        self.unnoted += 1;
        self.queue.add_dead(DeadEvent { seq, reason, at });
    }

    /// Counts a delivered event.
    pub fn count_delivered(&mut self) {
        self.unnoted += 1;
    }

    /// Decides whether to start a commit. After [`Start::Commit`] the caller must call [`Writer::take`].
    pub fn start(&mut self) -> Start {
        if self.committing.is_some() {
            return Start::Nothing;
        }
        if self.queue.is_empty() || (self.is_noted() && !self.queue.has_requests()) {
            return if self.database_unavailable() { Start::CheckDatabase } else { Start::Nothing };
        }
        self.committing = Some(0);
        Start::Commit
    }

    /// Takes the next commit from the queue. If the queue is empty, the writer is idle afterwards.
    pub fn take(&mut self) -> Option<(Batch, InFlightCommit)> {
        let keeps_notes = self.is_noted()
            && self.unnoted < MAX_UNSYNCED
            && self.queue.has_requests()
            && self.queue.decisions() == 0;
        let Some((mut batch, commit)) = self.queue.take(keeps_notes) else {
            self.ended();
            return None;
        };
        self.committing = Some(batch.events.len());
        if !keeps_notes {
            self.unsynced += std::mem::take(&mut self.unnoted);
            self.notes_wait_since = None;
            self.noted_since = None;
            self.writes_noted = false;
        }
        self.skips_sync =
            batch.has_only_checkpoints() && self.unsynced <= MAX_UNSYNCED && self.last_seq_is_certain;
        batch.skips_sync = self.skips_sync;
        Some((batch, commit))
    }

    /// Returns a channel that receives a value once the running commit has ended; at once if none is running.
    pub fn commit_ended(&mut self) -> oneshot::Receiver<()> {
        let (sender, ended) = oneshot::channel();
        self.awaiting_end.push(sender);
        if self.committing.is_none() {
            self.ended();
        }
        ended
    }

    /// Records that no commit is running.
    fn ended(&mut self) {
        self.committing = None;
        for waiting in self.awaiting_end.drain(..) {
            // It may have stopped waiting.
            let _gone = waiting.send(());
        }
    }

    /// Records that the running commit succeeded. Returns its notes.
    pub fn succeeded(&mut self, committed: &Committed) -> Notes {
        let notes = self.queue.succeeded();
        if !self.skips_sync {
            self.unsynced = 0;
        }
        self.ended();
        self.database_works();
        self.last_seq = committed.last_seq;
        self.last_seq_is_certain = true;
        self.unmerged.add(&committed.stored);
        self.newest = committed.stored.last().map(|event| (event.seq, event.times.accepted)).or(self.newest);
        if let Some(range) = notes.ranges.last() {
            self.checkpoint = self.checkpoint.max(range.up_to);
        }
        notes
    }

    /// Records that the running commit failed. Its notes are queued again, and its requests are answered.
    pub fn failed(&mut self, error: &StoreError, commit: InFlightCommit) {
        self.ended();
        self.last_seq_is_certain = false;
        self.database_fails(error, commit.events());
        self.queue.failed(commit, error.fault());
    }

    /// Records that the database does not work, and logs the cause if it is a new one.
    pub fn database_fails(&mut self, error: &StoreError, refused: u64) {
        let fault = error.fault();
        let is_new = self.fault().is_none_or(|before| !before.alternates_with(fault));
        if is_new && fault == StoreFault::NotOwner {
            // That is no fault of the database.
            tracing::info!("another node has taken over; senders are asked to resend refused events");
        } else if is_new {
            tracing::error!(
                error = %with_causes(error),
                remedy = fault.remedy(self.place),
                "the database does not work: no events are accepted until it works again"
            );
        }
        let before = self.failing.map_or(0, |failing| failing.refused);
        self.failing = Some(Failing { fault, refused: before + refused });
    }

    /// Records that the database works, and logs it if it did not before.
    pub fn database_works(&mut self) {
        if let Some(Failing { refused, .. }) = self.failing.take() {
            tracing::info!(
                refused,
                "the database works again; senders were asked to resend the refused events"
            );
        }
    }

    /// Returns what should be noted now: the queued checkpoints, unless they must be committed or are noted already.
    pub fn notable(&self) -> Option<DeliveryNotes> {
        let ranges = self.queue.only_ranges().filter(|ranges| ranges.len() <= MAX_NOTED_RANGES)?;
        let (last, newest) = (ranges.last()?.up_to, self.newest?);
        let is_allowed = self.may_note() && self.unnoted + self.unsynced <= MAX_UNSYNCED;
        let is_new = last > self.noted && last <= newest.0;
        let notes = || DeliveryNotes { after: self.checkpoint, newest, ranges: ranges.to_vec() };
        (is_allowed && is_new).then(notes)
    }

    /// Records that these checkpoints are noted.
    pub fn noted(&mut self, notes: &DeliveryNotes, now: Instant) {
        self.noted = notes.ranges.last().map_or(self.noted, |range| range.up_to);
        self.noted_since.get_or_insert(now);
        self.notes_wait_since = None;
    }

    fn may_note(&self) -> bool {
        !self.writes_noted && !self.database_unavailable() && self.last_seq_is_certain
    }

    /// Returns whether all queued notes are noted checkpoints, which may wait for a commit.
    fn is_noted(&self) -> bool {
        let last = self.queue.only_ranges().and_then(|ranges| ranges.last());
        self.may_note() && last.is_some_and(|last| last.up_to == self.noted)
    }

    /// Returns whether checkpoints have been noted for [`NOTED_FOR`], so that they should be committed.
    pub fn is_noted_for_long(&self, now: Instant) -> bool {
        let since = self.noted_since.filter(|_| self.queue.notes() > 0);
        since.is_some_and(|since| now.saturating_duration_since(since) >= NOTED_FOR)
    }

    /// Makes the next commit contain the noted checkpoints.
    pub fn write_noted(&mut self) {
        self.writes_noted = true;
    }

    /// Returns when the waiting notes must be committed. Without new events, notes wait until a commit is
    /// worthwhile.
    pub fn notes_due(&mut self, now: Instant) -> NotesDue {
        if self.queue.notes() == 0 || self.is_noted() {
            return NotesDue::Never;
        }
        self.notes_wait_since.get_or_insert(now);
        if self.unnoted >= NOTE_EVERY && !self.database_unavailable() {
            NotesDue::Now
        } else {
            NotesDue::After(NOTE_WITHIN)
        }
    }

    /// Returns how much longer the notes may wait when their timer fires, or `None` if they must be committed
    /// now. They may wait longer if the notes for which the timer was set have been committed together with
    /// events.
    pub fn notes_may_wait(&self, now: Instant) -> Option<Duration> {
        let since = self.notes_wait_since.filter(|_| !self.database_unavailable())?;
        NOTE_WITHIN.checked_sub(now.saturating_duration_since(since)).filter(|left| !left.is_zero())
    }

    /// Returns whether the write-ahead log should be merged now: enough was written, and no commit is
    /// running.
    pub fn is_merge_due(&mut self) -> bool {
        self.committing.is_none() && self.unmerged.is_due()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
