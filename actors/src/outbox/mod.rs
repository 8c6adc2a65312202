//! The outbox: the durable event log, and its delivery.
//!
//! [`OutboxActor`] owns writing to the log, the window of events in flight, and the cursor. It guarantees:
//! - A sender gets a receipt only after its event is committed and synced.
//! - The events of a camera are sent to each topic in the order in which they were accepted.
//! - Each event ends up delivered or dead; none is lost.
//! - Memory use does not depend on the number of pending events.
//!
//! The outbox does no networking: a link is only a recipient of messages, which exists while a connection is
//! up.
//!
//! The actor is a driver. It runs the database operations and the timers, and sends the messages. Three plain
//! structs make the decisions: `Writer` (what is committed when), `Delivery` (what is sent when) and
//! `Reporting` (counts, metrics and warnings). `accept` drives the first one, `pump` the second. `subscribers`
//! holds live events while Home Assistant is away, and `holds` those whose topic has lost its subscriber.

mod accept;
mod commit_queue;
mod decide;
mod delivery;
mod dispatch;
mod hand_over;
mod head_start;
mod heard_topics;
mod holds;
mod in_flight_limit;
mod late_limit;
mod live_start;
mod next_batch;
mod pacer;
mod picture_first;
mod pictures;
mod presence;
mod progress;
mod publish;
mod pump;
mod read_ahead;
mod reporting;
mod retry_prefetch;
mod seq_ranges;
mod subscribers;
mod unconfirmed;
mod warnings;
pub(crate) mod window;
mod writer;

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture, SpawnHandle,
    WrapFuture as _,
};
use chrono::TimeDelta;
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    task::spawn_blocking,
    time::Instant,
};

use self::{
    accept::RETRY_AFTER, delivery::Delivery, head_start::HeadStart, picture_first::PictureFirst,
    pictures::PictureBudget, progress::Progress, reporting::Reporting, subscribers::Subscribers,
    unconfirmed::Unconfirmed, window::Window, writer::Writer,
};
use crate::{
    disk::disk_space,
    domain::{
        causes::with_causes,
        clock::{Clock, JumpDetector},
        event_log::{EventList, EventRecord, LogPart, QueryError},
        ids::{EventId, Seq},
        outage::LogExtent,
        settings::{MqttSettings, SettingsChange},
        store_fault::StoreFault,
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        cameras::CamerasSeen,
        config::SettingsChanged,
        history::{EventsMissing, LinkMoved},
        link::{Answered, LinkDown, LinkUp},
        outbox::{
            AwaitCommit, CountOpen, CountUnsent, Drain, GetEvent, GetExtent, GetOutbox, ListEvents,
            OpenEvents, OutboxStatus, ReadLog,
        },
        retained::HandOverPicture,
        stream::LogWatch,
        thumbnails::{AdoptThumbnails, DiscardThumbnails, FreeSpace, HaveThumbnails, StageThumbnail, Sweep},
    },
    metrics::Metrics,
    store::{CommitContext, DeadAndRetrying, Gate, OldEvents, QueryContext, Store, StoreError, Unmerged},
    ticks,
};

/// Capacity of the mailbox. The handlers never wait, so it is emptied as fast as it fills.
const MAILBOX: usize = 1024;

/// The first sweep runs soon after startup, so that a service that is restarted every day is swept as well.
const FIRST_SWEEP_AFTER: Duration = Duration::from_mins(1);
/// How much space is freed for events each second while the disk is full, by removing the oldest pictures.
const FREE_BYTES: u64 = 8 * 1024 * 1024;

const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// How often both clocks are stored. Rarely, so that an idle service does not write to the disk every hour.
const NOTE_CLOCK_EVERY: Duration = Duration::from_hours(6);

/// How often the size of a database on a server is measured: the server then looks at each of its files.
const MEASURE_ON_SERVER_EVERY: Duration = Duration::from_mins(1);
/// How often the file with the last seq is synced to disk.
const SYNC_SEQ_EVERY: Duration = Duration::from_mins(1);

/// How often the wall clock is compared with the log time, and the database file and the disk are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The bounds of the outbox.
#[derive(Debug, Clone)]
pub struct OutboxLimits {
    /// Maximum number of pending events.
    pub max_pending: u64,
    /// Maximum number of events in flight.
    pub window: u16,
    /// How many days delivered and dead events are kept.
    pub retention_days: u32,
    /// The parameters of a commit.
    pub commit: CommitContext,
}

/// The actors that the outbox sends messages to, apart from the connections.
#[derive(Debug, Clone)]
pub struct OutboxPeers {
    /// Receives the changes that the events of a commit made to their cameras.
    pub cameras: Recipient<CamerasSeen>,
    /// Receives the pictures of events.
    pub thumbnails: ThumbnailPeer,
    /// Publishes the picture of an event before the event.
    pub hand_over: Recipient<HandOverPicture>,
    /// Notified of each change to the log.
    pub log_watch: LogWatch,
    /// Records outages.
    pub history: HistoryPeer,
}

/// The actor that records outages.
#[derive(Debug, Clone)]
pub struct HistoryPeer {
    /// Notified when a link is up or down.
    pub link_moved: Recipient<LinkMoved>,
    /// Notified of events whose rows are missing.
    pub missing: Recipient<EventsMissing>,
}

/// The actor that stores pictures.
#[derive(Debug, Clone)]
pub struct ThumbnailPeer {
    /// Stages the picture of an event before it is committed.
    pub stage: Recipient<StageThumbnail>,
    /// Makes the staged pictures of committed events available.
    pub adopt: Recipient<AdoptThumbnails>,
    /// Finds out which events have a picture.
    pub have: Recipient<HaveThumbnails>,
    /// Removes the staged pictures of events that were not committed.
    pub discard: Recipient<DiscardThumbnails>,
    /// Removes the pictures of removed events.
    pub sweep: Recipient<Sweep>,
    /// Removes the oldest pictures when the disk is full.
    pub free_space: Recipient<FreeSpace>,
}

#[derive(Debug)]
struct Draining {
    answer: Option<oneshot::Sender<()>>,
    /// Whether the timeout for acknowledgements has expired.
    timed_out: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct OutboxActor {
    store: Store,
    /// Open while this node may publish.
    gate: Gate,
    /// Whether the next pump waits for the gate.
    awaits_gate: bool,
    clock: Clock,
    jumps: JumpDetector,
    limits: OutboxLimits,
    settings: Arc<MqttSettings>,
    peers: OutboxPeers,
    _crash_guard: CrashGuard,

    writer: Writer,
    delivery: Delivery,
    reporting: Reporting,
    progress: Progress,
    subscribers: Subscribers,
    pictures: PictureBudget,
    picture_first: PictureFirst,
    /// Number of events whose pictures are being staged.
    staging: usize,
    /// The events of failed commits that have staged pictures. A failed commit may have been written.
    undecided: Vec<EventId>,
    /// Number of requests whose events are being looked up, because the outbox is full.
    lookups: usize,

    commit_timer: Option<SpawnHandle>,
    /// When the next pump is scheduled, and the timer for it.
    pump_timer: Option<(Instant, SpawnHandle)>,
    /// When a pause ends, and the timer for it.
    resume_timer: Option<(Instant, SpawnHandle)>,
    unconfirmed: Unconfirmed,
    /// Delays events until the status of a camera that has come online is published.
    head_start: HeadStart,
    draining: Option<Draining>,
    /// Whether the unreadable events must be counted after the next commit.
    recount_unreadable: bool,
}

impl OutboxActor {
    /// Recovers the log: the last seq that was assigned, the cursor, and the dead events and gaps above it. The time
    /// this takes does not depend on the number of pending events.
    pub async fn recover(
        store: Store,
        metrics: Metrics,
        limits: OutboxLimits,
        settings: Arc<MqttSettings>,
        peers: OutboxPeers,
        crashed: UnboundedSender<&'static str>,
    ) -> Result<Self, StoreError> {
        let restored = store.resume_positions().await?;
        store.resume_deliveries().await?;
        let cursor = store.cursor().await?;
        let mut settled = store.dead_above(cursor).await?;
        settled.extend(store.retries_above(cursor).await?);
        let DeadAndRetrying { dead, again } = store.dead_and_retrying().await?;
        let (gaps, now) = (store.gaps_above(cursor).await?, store.clock().now());
        let window = Window::new(cursor, settled, again, now)
            .with_gaps(gaps)
            .with_ahead(store.ahead_of(cursor).await?);
        let mut reporting = Reporting::new(metrics, dead, limits.max_pending);
        if let Some(gap) = restored {
            reporting.database_restored(gap);
        }
        reporting.set_unreadable(store.count_unreadable().await?);
        let last_seq = store.last_seq().await?;
        Ok(Self {
            writer: Writer::new(last_seq, cursor, Unmerged::of(&store), store.place()),
            delivery: Delivery::new(window, limits.window, settings.max_events_per_second),
            reporting,
            progress: Progress::default(),
            subscribers: Subscribers::new(Instant::now()),
            pictures: PictureBudget::default(),
            picture_first: PictureFirst::new(last_seq),
            staging: 0,
            undecided: Vec::new(),
            lookups: 0,
            clock: store.clock(),
            jumps: store.jumps(),
            gate: store.gate(),
            awaits_gate: false,
            store,
            limits,
            settings,
            peers,
            _crash_guard: CrashGuard::new("outbox", crashed),
            commit_timer: None,
            pump_timer: None,
            resume_timer: None,
            unconfirmed: Unconfirmed::default(),
            head_start: HeadStart::default(),
            recount_unreadable: false,
            draining: None,
        })
    }

    fn pending(&self) -> u64 {
        self.delivery.pending(self.writer.last_seq())
    }

    /// Returns how far the log and its delivery have come.
    pub fn extent(&self) -> LogExtent {
        self.delivery.extent(self.writer.last_seq())
    }

    fn notify_link(&self, is_up: bool) {
        let moved = LinkMoved { is_up, extent: self.extent(), at: self.clock.now() };
        #[expect(clippy::disallowed_methods, reason = "two messages per connection")]
        self.peers.history.link_moved.do_send(moved);
    }

    /// Updates the gauges and the age of the oldest pending event.
    fn report(&mut self, ctx: &mut Context<Self>) {
        self.reporting.set_gauges(self.pending(), self.delivery.in_flight());
        let first = self.delivery.first_open();
        let (times, now) = (|| self.delivery.times(first), self.clock.now());
        if self.reporting.update_oldest(first, self.writer.last_seq(), times, now) {
            self.look_up_oldest(first, ctx);
        }
    }

    fn look_up_oldest(&mut self, first: Seq, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let lookup = async move { store.event_times(first).await };
        ctx.spawn(lookup.into_actor(self).map(move |found, act, ctx| {
            let times = found.ok().flatten();
            act.reporting.oldest_found(first, times);
            if times.is_some() {
                act.report(ctx);
            }
        }));
    }

    /// Returns what a query needs in addition to the database, which is up to 50 ms behind, or longer if it cannot
    /// be written to.
    fn query_context(&self) -> QueryContext {
        let unwritten = self.delivery.unwritten(self.writer.queue.unwritten());
        QueryContext { settings: Arc::clone(&self.settings), now: self.clock.now(), unwritten }
    }

    fn link_gone(&mut self, ctx: &mut Context<Self>) {
        self.notify_link(false);
        self.subscribers_link_down(ctx);
        self.note_progress(ctx);
        self.report(ctx);
        self.check_drained(ctx);
    }

    fn leave_link(&mut self, ctx: &mut Context<Self>) {
        if let Some(link) = self.delivery.link_id()
            && self.link_down(LinkDown { link })
        {
            self.link_gone(ctx);
        }
    }

    /// Removes old events, and first their pictures: if the disk is full, this makes room for the rest.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        self.forget_heard_topics(ctx);
        let before = self.clock.now().log.before(TimeDelta::days(self.limits.retention_days.into()));
        let store = self.store.clone();
        let find = async move { store.find_old(before).await };
        ctx.spawn(find.into_actor(self).map(|old, act, ctx| match old {
            Ok(Some(old)) => act.remove(old, ctx),
            Ok(None) => {}
            Err(error) => not_removed(&error),
        }));
    }

    fn remove(&mut self, old: OldEvents, ctx: &mut Context<Self>) {
        // This includes the pictures of events that an earlier sweep removed: that sweep may have been
        // interrupted, or a picture may have been stored in the meantime.
        let pictures = Sweep { up_to: old.up_to, kept: old.kept.clone() };
        #[expect(clippy::disallowed_methods, reason = "one message per hour")]
        self.peers.thumbnails.sweep.do_send(pictures);
        let store = self.store.clone();
        let remove = async move { store.remove_old(&old).await };
        ctx.spawn(remove.into_actor(self).map(|swept, act, ctx| match swept {
            Ok(swept) => {
                act.reporting.subtract_dead(swept.dead);
                act.count_unreadable(ctx);
                if swept.events > 0 {
                    tracing::info!(events = swept.events, dead = swept.dead, "removed old events");
                }
                if swept.damaged > 0 {
                    tracing::warn!(
                        events = swept.damaged,
                        "old events could not be removed because the database is damaged; all others were"
                    );
                }
            }
            Err(error) => not_removed(&error),
        }));
    }

    /// Counts the unreadable events again if some may have been dismissed, sent again or removed. Waits until all
    /// of them are written.
    fn count_unreadable(&mut self, ctx: &mut Context<Self>) {
        self.recount_unreadable = self.writer.is_committing() || self.writer.queue.has_unreadable();
        if self.recount_unreadable || !self.reporting.has_unreadable() {
            return;
        }
        let store = self.store.clone();
        let count = async move { store.count_unreadable().await };
        let before = self.reporting.unreadable_found();
        ctx.spawn(count.into_actor(self).map(move |count, act, ctx| {
            if act.reporting.unreadable_found() != before {
                act.count_unreadable(ctx);
            } else if let Ok(count) = count {
                act.reporting.set_unreadable(count);
            }
        }));
    }

    fn check_disk(&mut self) {
        self.reporting.disk_space(self.store.path().and_then(disk_space));
        if let Some(bytes) = self.store.size() {
            self.reporting.database_size(bytes);
        }
        self.reporting.set_failed_seq_file(self.store.failed_mark());
        // Fewer pictures do not free space on the disk of a server.
        if self.store.path().is_some() && self.writer.fault() == Some(StoreFault::DiskFull) {
            #[expect(clippy::disallowed_methods, reason = "one message per second")]
            self.peers.thumbnails.free_space.do_send(FreeSpace { bytes: FREE_BYTES });
        }
    }

    /// Measures a database on a server, and looks for what its operator may have overlooked. A file is measured with
    /// its disk.
    fn measure_on_server(&mut self, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let counted = async move { store.asynchronous_standbys().await };
        ctx.spawn(counted.into_actor(self).map(|standbys, act, _| {
            if let Ok(standbys) = standbys {
                act.reporting.asynchronous_standbys(standbys);
            }
        }));
        let store = self.store.clone();
        let measured = async move { store.size_on_server().await };
        ctx.spawn(measured.into_actor(self).map(|bytes, act, _| {
            // While the server is away, the last size is the best that is known.
            if let Ok(Some(bytes)) = bytes {
                act.reporting.database_size(bytes);
            }
        }));
    }

    fn sync_mark(&self) {
        let store = self.store.clone();
        // Nothing waits for it: the next time, it is synced again.
        let _synced = spawn_blocking(move || store.sync_mark());
    }

    /// Checks whether the database file is still in place, so that the status reports it even if
    /// nothing is written.
    fn check_file(&mut self, ctx: &mut Context<Self>) {
        if self.writer.is_committing() || self.writer.database_unavailable() {
            return;
        }
        if let Err(error) = self.store.check_file() {
            self.writer.database_fails(&error, 0);
            self.merge_now(ctx);
            self.commit_later(RETRY_AFTER, ctx);
        }
    }

    /// Compares the wall clock with the log time. Stores both after a change, so that it is reported once.
    fn check_clock(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        if let Some(jump) = self.jumps.check(now) {
            self.reporting.clock_jumped(jump);
            self.note_clock(ctx);
        }
    }

    fn note_clock(&mut self, ctx: &mut Context<Self>) {
        let (store, now) = (self.store.clone(), self.clock.now());
        let noted = async move { store.note_clock(now).await };
        ctx.spawn(noted.into_actor(self).map(|noted, _, _| {
            if let Err(error) = noted {
                tracing::debug!(
                    error = %with_causes(&error),
                    "the clocks were not stored; will retry within six hours"
                );
            }
        }));
    }
}

impl Actor for OutboxActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_later(FIRST_SWEEP_AFTER, |act, ctx| {
            act.sweep(ctx);
            ctx.run_interval(SWEEP_EVERY, Self::sweep);
        });
        ctx.run_interval(NOTE_CLOCK_EVERY, Self::note_clock);
        self.check_clock(ctx);
        self.check_disk();
        ticks::run(ctx, CHECK_EVERY, |act, ctx| {
            act.check_clock(ctx);
            act.check_file(ctx);
            act.check_disk();
            act.write_noted(ctx);
            act.progress.sample(act.pending(), Instant::now());
            act.report_held();
        });
        self.measure_on_server(ctx);
        ticks::run(ctx, MEASURE_ON_SERVER_EVERY, Self::measure_on_server);
        ticks::run(ctx, SYNC_SEQ_EVERY, |act, _| act.sync_mark());
        self.note_progress(ctx);
        self.report(ctx);
        tracing::info!(
            pending = self.pending(),
            dead = self.reporting.dead,
            last_seq = self.writer.last_seq().0,
            "event log recovered"
        );
    }
}

impl Handler<LinkUp> for OutboxActor {
    type Result = ();

    fn handle(&mut self, msg: LinkUp, ctx: &mut Self::Context) {
        self.subscribers_link_up(&msg, ctx);
        self.picture_first.link_down();
        self.notify_link(true);
        self.delivery.link_up(msg);
        self.cancel_pause(ctx);
        self.pump(ctx);
        self.report(ctx);
    }
}

impl Handler<LinkDown> for OutboxActor {
    type Result = ();

    fn handle(&mut self, msg: LinkDown, ctx: &mut Self::Context) {
        if self.link_down(msg) {
            self.link_gone(ctx);
        }
    }
}

impl Handler<Answered> for OutboxActor {
    type Result = ();

    fn handle(&mut self, answered: Answered, ctx: &mut Self::Context) {
        if answered.pauses() {
            self.delivery.paused(answered.link);
        }
        let Answered { link, outcomes } = answered;
        self.answered(link, outcomes, ctx);
        self.note_progress(ctx);
        self.pump(ctx);
        self.report(ctx);
        self.check_drained(ctx);
    }
}

impl Handler<SettingsChanged> for OutboxActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, change, .. }: SettingsChanged, ctx: &mut Self::Context) {
        self.delivery.set_rate(settings.max_events_per_second);
        if change == SettingsChange::Broker {
            // Send nothing more to the old broker while its connection is being closed.
            self.leave_link(ctx);
        }
        if matches!(change, SettingsChange::Broker | SettingsChange::Topics) {
            self.reporting.topics_changed();
        }
        self.limits.commit.late_after_seconds = settings.late_after_seconds;
        self.settings = settings;
        self.subscribers_settings_changed(change, ctx);
    }
}

impl Handler<GetOutbox> for OutboxActor {
    type Result = actix::MessageResult<GetOutbox>;

    fn handle(&mut self, _: GetOutbox, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(OutboxStatus {
            pending: self.pending(),
            in_flight: u64::try_from(self.delivery.in_flight()).unwrap_or(u64::MAX),
            dead: self.reporting.dead,
            held: self.reporting.held(),
            seconds_left: self.progress.seconds_left(),
            oldest_pending_at: self.reporting.oldest_pending_at(self.clock.now()),
            published: self.reporting.published,
            refused: self.reporting.refused,
            database_unavailable: self.writer.database_unavailable(),
            database_damaged: self.reporting.is_damaged(),
            warnings: self.reporting.warnings(self.writer.problem(), Instant::now()),
            position: self.writer.position(),
        })
    }
}

impl Handler<AwaitCommit> for OutboxActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: AwaitCommit, _: &mut Self::Context) -> Self::Result {
        let ended = self.writer.commit_ended();
        Box::pin(async move {
            // An error means that the actor has stopped, so there is nothing to wait for.
            let _stopped = ended.await;
        })
    }
}

impl Handler<GetExtent> for OutboxActor {
    type Result = actix::MessageResult<GetExtent>;

    fn handle(&mut self, _: GetExtent, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(self.extent())
    }
}

impl Handler<CountOpen> for OutboxActor {
    type Result = actix::MessageResult<CountOpen>;

    fn handle(&mut self, CountOpen(ranges): CountOpen, _: &mut Self::Context) -> Self::Result {
        let end = self.writer.last_seq();
        let open = |(after, last): (Seq, Seq)| self.delivery.open_between(after, last.min(end));
        let waiting = ranges.into_iter().map(open).collect();
        let unwritten = self.delivery.unwritten(self.writer.queue.unwritten());
        actix::MessageResult(OpenEvents { waiting, unwritten, last: end })
    }
}

impl Handler<CountUnsent> for OutboxActor {
    type Result = actix::MessageResult<CountUnsent>;

    fn handle(&mut self, _: CountUnsent, _: &mut Self::Context) -> Self::Result {
        // Events that wait for a subscriber do not hold up a replay.
        let waiting = self.delivery.in_flight() + self.delivery.holds.events();
        actix::MessageResult(self.pending().saturating_sub(u64::try_from(waiting).unwrap_or(u64::MAX)))
    }
}

impl Handler<ListEvents> for OutboxActor {
    type Result = ResponseFuture<Result<EventList, QueryError>>;

    fn handle(&mut self, ListEvents(query): ListEvents, _: &mut Self::Context) -> Self::Result {
        let (store, context) = (self.store.clone(), self.query_context());
        Box::pin(async move { store.list_events(&query, &context).await.map_err(unreadable) })
    }
}

impl Handler<ReadLog> for OutboxActor {
    type Result = ResponseFuture<Result<LogPart, QueryError>>;

    fn handle(&mut self, ReadLog(query): ReadLog, _: &mut Self::Context) -> Self::Result {
        let (store, context) = (self.store.clone(), self.query_context());
        Box::pin(async move {
            let part = store.read_log(query, &context).await;
            part.map_err(|error| {
                // The sender logs it, once.
                tracing::debug!(error = %with_causes(&error), "the event log could not be read");
                QueryError(error.fault())
            })
        })
    }
}

impl Handler<GetEvent> for OutboxActor {
    type Result = ResponseFuture<Result<Option<EventRecord>, QueryError>>;

    fn handle(&mut self, GetEvent(id): GetEvent, _: &mut Self::Context) -> Self::Result {
        let (store, context) = (self.store.clone(), self.query_context());
        Box::pin(async move { store.get_event(&id, &context).await.map_err(unreadable) })
    }
}

fn not_removed(error: &StoreError) {
    tracing::warn!(error = %with_causes(error), "old events could not be removed; will retry in an hour");
}

/// Logs the error of a failed read, and converts it for the sender of the request.
fn unreadable(error: StoreError) -> QueryError {
    tracing::error!(error = %with_causes(&error), "the event log could not be read");
    QueryError(error.fault())
}

impl Handler<Drain> for OutboxActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain { timeout }: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (answer, drained) = oneshot::channel();
        self.draining = Some(Draining { answer: Some(answer), timed_out: false });
        ctx.run_later(timeout, |act, ctx| {
            if let Some(draining) = &mut act.draining {
                draining.timed_out = true;
            }
            act.check_drained(ctx);
        });
        self.check_drained(ctx);
        Box::pin(async move {
            // An error means that the actor has stopped, so there is nothing to wait for.
            let _stopped = drained.await;
        })
    }
}

stops_on_request!(OutboxActor);

#[cfg(test)]
mod tests;
