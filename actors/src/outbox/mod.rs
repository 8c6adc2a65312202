//! The outbox: the durable log of events, and its delivery.
//!
//! Owns the log's writing side, the window of what is in flight, and the cursor. Promises: an event is answered as
//! accepted only when it is committed and synced; events leave in the order of their acceptance; each one ends delivered
//! or dead, never forgotten; memory is the same for ten waiting events and for a million. Knows nothing of networks: a
//! link is a recipient that comes and goes.

mod accept;
mod commit_queue;
mod decide;
mod delivery;
mod dispatch;
mod in_flight_limit;
mod pacer;
mod pictures;
mod poison;
mod publish;
mod read_ahead;
mod retry_prefetch;
mod warnings;
pub(crate) mod window;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture, SpawnHandle,
    WrapFuture as _,
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::Instant,
};

pub use self::pictures::Thumbnails;
use self::{
    commit_queue::CommitQueue,
    in_flight_limit::InFlightLimit,
    pacer::Pacer,
    pictures::PictureBudget,
    poison::PoisonDetector,
    read_ahead::ReadAhead,
    retry_prefetch::RetryPrefetch,
    warnings::Warnings,
    window::{Settled, Window},
};
use crate::{
    domain::{
        clock::{self, Timestamp},
        event_log::{EventRecord, LogPart, Position, QueryError},
        ids::Seq,
        settings::{MqttSettings, SettingsChange},
    },
    lifecycle::{CrashGuard, stops_on_request},
    messages::{
        cameras::CamerasSeen,
        config::SettingsChanged,
        connection::Deliver,
        link::{Answered, LinkDown, LinkUp},
        outbox::{Drain, GetEvent, GetOutbox, ListEvents, OutboxStatus, ReadLog},
        stream::LogWatch,
        thumbnails::Sweep,
    },
    metrics::Metrics,
    store::{CommitContext, DeadAndRetrying, Store, StoreError, Unmerged},
};

/// Requests that may wait in the mailbox: handlers answer at once, so it empties as fast as it fills.
const MAILBOX: usize = 1024;

/// The first sweep comes soon after the start, so that a service that is restarted every day is swept too.
const FIRST_SWEEP_AFTER: Duration = Duration::from_mins(1);
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// The outbox' bounds.
#[derive(Debug, Clone)]
pub struct OutboxLimits {
    /// How many events may wait.
    pub max_pending: u64,
    /// How many events may be in flight.
    pub window: u16,
    /// For how many days delivered and dead events are kept.
    pub retention_days: u32,
    /// What a commit has to know.
    pub commit: CommitContext,
}

/// What is known of an event that is in flight.
#[derive(Debug)]
struct InFlight {
    received_at: Timestamp,
    sent_at: Instant,
    topic: String,
    late: bool,
}

#[derive(Debug)]
struct Draining {
    answer: Option<oneshot::Sender<()>>,
    /// Whether what is in flight is not waited for any more.
    patience_is_over: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct OutboxActor {
    store: Store,
    metrics: Metrics,
    limits: OutboxLimits,
    settings: Arc<MqttSettings>,
    /// Told what the events of a commit tell of their cameras.
    cameras: Option<Recipient<CamerasSeen>>,
    _crash_guard: CrashGuard,

    /// Tells who watches that the log goes further.
    watch: Option<LogWatch>,

    // Writing.
    gather: CommitQueue,
    room: PictureBudget,
    thumbnails: Option<Thumbnails>,
    /// Events in the commit that is on its way; `None`: none is.
    committing: Option<usize>,
    /// The last place given; not certain after a commit whose outcome is not known.
    last_seq: Seq,
    last_seq_is_certain: bool,
    /// While commits fail, how many events were refused for it: the log tells of the beginning and the end. `None`: they work.
    away: Option<u64>,
    /// Settled events that no commit has noted yet.
    unnoted: usize,
    /// Since when the oldest note waits for a commit.
    notes_wait_since: Option<Instant>,
    /// The cursor, as it is on disk.
    noted: Seq,
    note_timer: Option<SpawnHandle>,
    unmerged: Unmerged,

    // Delivery.
    window: Window,
    feed: ReadAhead,
    ahead: RetryPrefetch,
    link: Option<Recipient<Deliver>>,
    /// How many events may be in flight on this link, if none is suspected.
    allowed: InFlightLimit,
    suspicion: PoisonDetector,
    flying: BTreeMap<Seq, InFlight>,
    /// How often each deferred event was deferred.
    deferrals: HashMap<Seq, u32>,
    pacer: Pacer,
    pump_timer: Option<SpawnHandle>,
    resume_timer: Option<SpawnHandle>,

    // Told.
    dead: u64,
    published: u64,
    refused: u64,
    /// When the first pending event was accepted.
    oldest: Option<(Seq, Timestamp)>,
    looking_up_oldest: bool,
    warnings: Warnings,
    draining: Option<Draining>,
}

impl OutboxActor {
    /// Recovers the log: where the cursor stands, what is dead above it, which place was given last. Takes the same time
    /// for ten waiting events and for a million.
    pub async fn recover(
        store: Store,
        metrics: Metrics,
        limits: OutboxLimits,
        settings: Arc<MqttSettings>,
        crashed: UnboundedSender<&'static str>,
    ) -> Result<Self, StoreError> {
        let cursor = store.cursor().await?;
        let mut settled = store.dead_above(cursor).await?;
        settled.extend(store.retries_above(cursor).await?);
        let DeadAndRetrying { dead, again } = store.dead_and_retrying().await?;
        let window = Window::new(cursor, settled, again);
        let last_seq = store.last_seq().await?;
        let feed = ReadAhead::new(window.cursor().next());
        let pacer = Pacer::new(settings.max_events_per_second);
        Ok(Self {
            store,
            metrics,
            limits,
            settings,
            cameras: None,
            _crash_guard: CrashGuard::new("outbox", crashed),
            watch: None,
            gather: CommitQueue::default(),
            room: PictureBudget::default(),
            thumbnails: None,
            committing: None,
            last_seq,
            last_seq_is_certain: true,
            away: None,
            unnoted: 0,
            notes_wait_since: None,
            unmerged: Unmerged::default(),
            noted: cursor,
            note_timer: None,
            window,
            feed,
            ahead: RetryPrefetch::default(),
            link: None,
            allowed: InFlightLimit::default(),
            suspicion: PoisonDetector::default(),
            flying: BTreeMap::new(),
            deferrals: HashMap::new(),
            pacer,
            pump_timer: None,
            resume_timer: None,
            dead,
            published: 0,
            refused: 0,
            oldest: None,
            looking_up_oldest: false,
            warnings: Warnings::default(),
            draining: None,
        })
    }

    /// Tells this one what the events of each commit tell of their cameras.
    #[must_use]
    pub fn telling(mut self, cameras: Recipient<CamerasSeen>) -> Self {
        self.cameras = Some(cameras);
        self
    }

    /// Hands the pictures that come with events to these.
    #[must_use]
    pub fn keeping(mut self, thumbnails: Thumbnails) -> Self {
        self.thumbnails = Some(thumbnails);
        self
    }

    /// Pokes these when the log goes further.
    #[must_use]
    pub fn watched_by(mut self, watch: LogWatch) -> Self {
        self.watch = Some(watch);
        self
    }

    fn pending(&self) -> u64 {
        let settled = i64::try_from(self.window.settled_above_cursor()).unwrap_or(i64::MAX);
        let first_time = u64::try_from(self.last_seq.0 - self.window.cursor().0 - settled).unwrap_or(0);
        first_time + u64::try_from(self.window.to_send_again()).unwrap_or(u64::MAX)
    }

    /// Brings what is told in line with what is: gauges, and the age of the oldest pending event.
    fn tell(&mut self, ctx: &mut Context<Self>) {
        self.metrics.outbox_pending.set(i64::try_from(self.pending()).unwrap_or(i64::MAX));
        self.metrics.outbox_in_flight.set(i64::try_from(self.window.in_flight()).unwrap_or(i64::MAX));
        let first = self.window.first_open();
        if first > self.last_seq {
            self.oldest = None;
        } else if self.oldest.is_none_or(|(seq, _)| seq != first) {
            let flying = self.flying.get(&first).map(|flying| flying.received_at);
            let ready = || self.feed.front().filter(|event| event.seq == first).map(|e| e.received_at);
            match flying.or_else(ready) {
                Some(at) => self.oldest = Some((first, at)),
                None => self.look_up_oldest(first, ctx),
            }
        }
        self.metrics.set_oldest_pending(self.oldest.map(|(_, at)| at));
    }

    fn link_gone(&mut self, ctx: &mut Context<Self>) {
        self.note_progress(ctx);
        self.tell(ctx);
        self.flying.clear();
        self.check_drained(ctx);
    }

    fn leave_link(&mut self, ctx: &mut Context<Self>) {
        if let Some(link) = self.window.link()
            && self.link_down(LinkDown { link, failure: None, sole_suspect: None })
        {
            self.link_gone(ctx);
        }
    }

    fn look_up_oldest(&mut self, first: Seq, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.looking_up_oldest, true) {
            return;
        }
        let store = self.store.clone();
        let lookup = async move { store.received_at(first).await };
        ctx.spawn(lookup.into_actor(self).map(move |found, act, ctx| {
            act.looking_up_oldest = false;
            if let Ok(Some(at)) = found {
                act.oldest = Some((first, at));
                act.tell(ctx);
            }
        }));
    }

    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let before = clock::now() - Duration::from_secs(u64::from(self.limits.retention_days) * 86_400);
        let store = self.store.clone();
        let sweep = async move { store.sweep(before).await };
        ctx.spawn(sweep.into_actor(self).map(|swept, act, _| match swept {
            Ok(swept) => {
                act.dead = act.dead.saturating_sub(swept.dead);
                act.sweep_pictures(swept.up_to);
                if swept.events > 0 {
                    tracing::info!(events = swept.events, dead = swept.dead, "removed old events");
                }
            }
            Err(error) => tracing::warn!(%error, "old events could not be removed; tried again in an hour"),
        }));
    }

    /// Also of events that an earlier sweep removed: it may have ended there, or a picture may have come meanwhile.
    fn sweep_pictures(&self, up_to: Option<Seq>) {
        if let (Some(up_to), Some(thumbnails)) = (up_to, &self.thumbnails) {
            #[expect(clippy::disallowed_methods, reason = "one an hour")]
            thumbnails.sweep.do_send(Sweep { up_to });
        }
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
        self.tell(ctx);
        tracing::info!(
            pending = self.pending(),
            dead = self.dead,
            last_seq = self.last_seq.0,
            "event log recovered"
        );
    }
}

impl Handler<LinkUp> for OutboxActor {
    type Result = ();

    fn handle(&mut self, msg: LinkUp, ctx: &mut Self::Context) {
        self.link_up(msg);
        self.pump(ctx);
        self.tell(ctx);
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

    fn handle(&mut self, Answered { link, outcomes }: Answered, ctx: &mut Self::Context) {
        for (seq, outcome) in outcomes {
            self.answered(link, seq, outcome, ctx);
        }
        self.note_progress(ctx);
        self.pump(ctx);
        self.tell(ctx);
        self.check_drained(ctx);
    }
}

impl Handler<SettingsChanged> for OutboxActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, change, .. }: SettingsChanged, ctx: &mut Self::Context) {
        self.pacer = Pacer::new(settings.max_events_per_second);
        if change == SettingsChange::Broker {
            // Nothing more goes where it is not wanted any more, while that link says goodbye.
            self.leave_link(ctx);
        }
        if change != SettingsChange::Other {
            // What nobody heard went to another place than the next one will.
            self.warnings.acknowledged(None);
        }
        self.settings = settings;
    }
}

impl Handler<GetOutbox> for OutboxActor {
    type Result = actix::MessageResult<GetOutbox>;

    fn handle(&mut self, _: GetOutbox, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(OutboxStatus {
            pending: self.pending(),
            in_flight: u64::try_from(self.window.in_flight()).unwrap_or(u64::MAX),
            dead: self.dead,
            oldest_pending_at: self.oldest.map(|(_, at)| at),
            published: self.published,
            refused: self.refused,
            database_is_away: self.away.is_some(),
            warnings: self.warnings.shown(Instant::now()),
            position: Position { seq: self.last_seq, noted: self.noted },
        })
    }
}

impl Handler<ListEvents> for OutboxActor {
    type Result = ResponseFuture<Result<Vec<EventRecord>, QueryError>>;

    fn handle(&mut self, ListEvents(query): ListEvents, _: &mut Self::Context) -> Self::Result {
        let (store, settings) = (self.store.clone(), Arc::clone(&self.settings));
        Box::pin(async move { store.list_events(&query, &settings, clock::now()).await.map_err(asked) })
    }
}

impl Handler<ReadLog> for OutboxActor {
    type Result = ResponseFuture<Result<LogPart, QueryError>>;

    fn handle(&mut self, ReadLog(query): ReadLog, _: &mut Self::Context) -> Self::Result {
        let (store, settings) = (self.store.clone(), Arc::clone(&self.settings));
        Box::pin(async move { store.read_log(query, &settings, clock::now()).await.map_err(asked) })
    }
}

impl Handler<GetEvent> for OutboxActor {
    type Result = ResponseFuture<Result<Option<EventRecord>, QueryError>>;

    fn handle(&mut self, GetEvent(id): GetEvent, _: &mut Self::Context) -> Self::Result {
        let (store, settings) = (self.store.clone(), Arc::clone(&self.settings));
        Box::pin(async move { store.get_event(&id, &settings, clock::now()).await.map_err(asked) })
    }
}

fn asked(error: StoreError) -> QueryError {
    tracing::error!(error = &error as &dyn std::error::Error, "the event log could not be read");
    QueryError(error.fault())
}

impl Handler<Drain> for OutboxActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Drain { patience }: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (answer, drained) = oneshot::channel();
        self.draining = Some(Draining { answer: Some(answer), patience_is_over: false });
        ctx.run_later(patience, |act, ctx| {
            if let Some(draining) = &mut act.draining {
                draining.patience_is_over = true;
            }
            act.check_drained(ctx);
        });
        self.check_drained(ctx);
        Box::pin(async move {
            // An actor that ended has nothing more to wait for.
            let _ended = drained.await;
        })
    }
}

stops_on_request!(OutboxActor);

#[cfg(test)]
mod tests;
