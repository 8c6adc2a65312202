//! The event streams: clients receive events and changes as they happen.
//!
//! [`StreamActor`] owns the subscribers. While there is at least one, the outbox notifies it after each
//! commit, and five times a second it reads the new contents of the event log and requests the status. While
//! there is none, the other actors do no work for it.
//!
//! It guarantees that no actor waits for a subscriber (a subscriber that does not read is dropped), that it
//! reports only what the log contains, and that it reports a reset where it leaves something out. It does not
//! report each event of a burst: above a certain rate, it only reports a reset.

mod log_tracker;

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, AtomicResponse, Context, Handler,
    Recipient, SpawnHandle, WrapFuture as _,
};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, UnboundedSender},
    },
    time::Instant,
};

use self::log_tracker::{LogTracker, Update};
use crate::{
    domain::{
        causes::with_causes,
        event_log::{LogPart, Position, QueryError},
        ids::CameraId,
        numbers::saturate,
    },
    lifecycle::CrashGuard,
    messages::{
        outbox::{GetOutbox, OutboxStatus, ReadLog},
        service::Stop,
        stream::{
            LogMoved, LogWatch, OpenStream, Queued, SettingsRevised, StreamError, StreamEvent, StreamMessage,
            Subscription,
        },
        supervisor::{ConnectionStatus, GetStatus},
    },
    metrics::Metrics,
};

/// Maximum number of open streams.
pub const MAX_STREAMS: usize = 32;

/// Maximum number of queued messages for one client: enough for the messages that it may have missed, and for
/// a few seconds of a busy log. A client with a full queue is dropped; it can reconnect and receive what it
/// missed.
pub const MAX_QUEUED_MESSAGES: usize = 1500;

/// Maximum size of the messages that clients missed and have not read yet, for all of them together. A client
/// for whose messages there is no room receives a reset.
const MAX_MISSED_BYTES: usize = 16 * 1024 * 1024;

/// The interval between updates.
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);

/// The actors that the streams query.
#[derive(Debug, Clone)]
pub struct StreamPeers {
    /// Returns the outbox's state.
    pub outbox: Recipient<GetOutbox>,
    /// Reads a part of the event log.
    pub log: Recipient<ReadLog>,
    /// Returns the connection status.
    pub status: Recipient<GetStatus>,
}

type Status = (ConnectionStatus, OutboxStatus);

/// What the other actors returned for an update.
struct Fetched {
    status: Status,
    /// What to report: the requested update, or a reset.
    update: Update,
    part: LogPart,
    /// Whether the log could be read; `None` if that was not necessary.
    read: Option<Result<(), QueryError>>,
}

/// An open stream of one client.
#[derive(Debug)]
struct Stream {
    camera_id: Option<CameraId>,
    messages: mpsc::Sender<Queued>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct StreamActor {
    peers: StreamPeers,
    watch: LogWatch,
    metrics: Metrics,
    _crash_guard: CrashGuard,
    /// Each subscription owns a permit until the client drops it, even if the stream was dropped here.
    slots: Arc<Semaphore>,
    /// One permit for each byte of [`MAX_MISSED_BYTES`].
    missed_bytes: Arc<Semaphore>,
    streams: Vec<Stream>,
    /// `None` while no stream is open.
    tracker: Option<LogTracker>,
    /// The status that was reported last.
    status: Option<Status>,
    /// The revision of the settings; `None` until the config actor has started.
    settings: Option<String>,
    /// Whether the last read of the log failed.
    read_failed: bool,
    timer: Option<SpawnHandle>,
}

impl StreamActor {
    /// Creates the actor, without any subscribers.
    pub fn new(
        peers: StreamPeers,
        watch: LogWatch,
        metrics: Metrics,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        Self {
            peers,
            watch,
            metrics,
            _crash_guard: CrashGuard::new("stream", crashed),
            slots: Arc::new(Semaphore::new(MAX_STREAMS)),
            missed_bytes: Arc::new(Semaphore::new(MAX_MISSED_BYTES)),
            streams: Vec::new(),
            tracker: None,
            status: None,
            settings: None,
            read_failed: false,
            timer: None,
        }
    }

    /// Requests the status, and the part of the log that an update reports. If the log cannot be read, the update
    /// becomes a reset: the same range would fail again. Returns `None` if an actor does not respond.
    fn fetch(&self, update: Update) -> impl Future<Output = Option<Fetched>> + use<> {
        let StreamPeers { outbox, log, status } = self.peers.clone();
        async move {
            let connection = status.send(GetStatus).await.ok()?;
            let (update, part, read) = match update.query() {
                Some(query) => match log.send(ReadLog(query)).await.ok()? {
                    Ok(part) => (update, part, Some(Ok(()))),
                    Err(error) => (Update::Reset, LogPart::default(), Some(Err(error))),
                },
                None => (update, LogPart::default(), None),
            };
            Some(Fetched { status: (connection, outbox.send(GetOutbox).await.ok()?), update, part, read })
        }
    }

    /// Logs a failure to read the event log, but only the first one until a read succeeds.
    fn check_read(&mut self, read: Option<Result<(), QueryError>>) {
        let Some(read) = read else { return };
        let failed_before = std::mem::replace(&mut self.read_failed, read.is_err());
        if let Err(error) = read
            && !failed_before
        {
            tracing::error!(
                error = %with_causes(&error),
                "changes to the event log could not be read; clients of streams must reload"
            );
        }
    }

    /// Reports all changes to the streams.
    fn update(&mut self, ctx: &mut Context<Self>) {
        self.streams.retain(|stream| !stream.messages.is_closed());
        self.set_gauge();
        let Some(tracker) = self.tracker.as_ref().filter(|_| !self.streams.is_empty()) else {
            self.become_idle(ctx);
            return;
        };
        let update = tracker.next_update(Instant::now());
        let fetch = self.fetch(update).into_actor(self);
        // The actor waits for the result, so that the messages stay in order.
        ctx.wait(fetch.map(move |fetched, act, _| {
            if let Some(Fetched { status, update, part, read }) = fetched {
                act.check_read(read);
                act.report(&update, status, part);
            }
        }));
    }

    fn report(&mut self, update: &Update, mut status: Status, part: LogPart) {
        // The end of the log is not part of the status.
        status.1.position = Position::default();
        let Some(tracker) = &mut self.tracker else { return };
        let before = tracker.reported();
        if *update != Update::Nothing {
            tracker.mark_reported(update, Instant::now());
        }
        let after = tracker.reported();
        if self.status.as_ref() != Some(&status) {
            let event = StreamEvent::Status(Box::new(status.clone()));
            self.status = Some(status);
            self.send(&Broadcast::to_all(StreamMessage { position: before, event }));
        }
        if *update == Update::Reset {
            self.send(&Broadcast::to_all(StreamMessage { position: after, event: StreamEvent::Reset }));
        }
        for broadcast in broadcasts(part, before, after) {
            self.send(&broadcast);
        }
    }

    /// Sends a message to all streams that it concerns. Drops the streams whose queue is full.
    fn send(&mut self, broadcast: &Broadcast) {
        self.streams.retain(|stream| {
            let Some(message) = broadcast.for_stream(stream.camera_id.as_ref()) else { return true };
            let queued = Queued { message, _missed: None };
            let full = matches!(stream.messages.try_send(queued), Err(mpsc::error::TrySendError::Full(_)));
            if full {
                tracing::info!(queued = MAX_QUEUED_MESSAGES, "dropped a stream: its client does not read");
                self.metrics.streams_dropped.inc();
            }
            !full
        });
        self.set_gauge();
    }

    fn set_gauge(&self) {
        self.metrics.streams_open.set(saturate(self.streams.len()));
    }

    /// Stops all work until the next stream is opened.
    fn become_idle(&mut self, ctx: &mut Context<Self>) {
        self.watch.set_active(false);
        (self.tracker, self.status) = (None, None);
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
    }

    /// Adds a stream. Its first messages are the status, the revision of the settings, and the messages that its client
    /// missed.
    fn add(
        &mut self,
        stream: Stream,
        missed: &Update,
        resume: Option<Position>,
        mut status: Status,
        part: LogPart,
    ) {
        status.1.position = Position::default();
        let Some(tracker) = &self.tracker else { return };
        let reported = tracker.reported();
        let since = resume.unwrap_or(reported);
        self.status.get_or_insert_with(|| status.clone());
        let mut first = vec![Broadcast::to_all(StreamMessage {
            // A client that is disconnected before it has received what it missed resumes where it was.
            position: since,
            event: StreamEvent::Status(Box::new(status)),
        })];
        let revision = self.settings.clone().map(StreamEvent::Settings);
        first.extend(revision.map(|event| Broadcast::to_all(StreamMessage { position: since, event })));
        let bytes = part.approximate_bytes();
        let share = Arc::clone(&self.missed_bytes).try_acquire_many_owned(saturate(bytes)).ok();
        let has_room = share.is_some();
        if *missed == Update::Reset || !has_room {
            first.push(Broadcast::to_all(StreamMessage { position: reported, event: StreamEvent::Reset }));
        }
        if has_room {
            first.extend(broadcasts(part, since, reported));
        }
        let share = share.filter(|_| bytes > 0).map(Arc::new);
        for message in first.iter().filter_map(|first| first.for_stream(stream.camera_id.as_ref())) {
            // The queue is empty, and larger than the number of messages that a client can have missed.
            let _fits = stream.messages.try_send(Queued { message, _missed: share.clone() });
        }
        self.streams.push(stream);
        self.set_gauge();
    }
}

/// A message for all streams, or only for those of some cameras.
struct Broadcast {
    message: Arc<StreamMessage>,
    cameras: Option<Vec<CameraId>>,
}

impl Broadcast {
    fn to_all(message: StreamMessage) -> Self {
        Self { message: Arc::new(message), cameras: None }
    }

    /// Returns the message for a stream with this camera filter, or `None` if the message does not concern
    /// it.
    fn for_stream(&self, camera_id: Option<&CameraId>) -> Option<Arc<StreamMessage>> {
        let (Some(camera_id), Some(cameras)) = (camera_id, &self.cameras) else {
            return Some(Arc::clone(&self.message));
        };
        if !cameras.contains(camera_id) {
            return None;
        }
        let StreamMessage { position, event } = &*self.message;
        let StreamEvent::Deliveries(changes) = event else { return Some(Arc::clone(&self.message)) };
        let changes = changes.iter().filter(|change| change.camera_id == *camera_id).cloned().collect();
        Some(Arc::new(StreamMessage { position: *position, event: StreamEvent::Deliveries(changes) }))
    }
}

/// Returns the messages for clients that know the log up to `before`: its new events, and then the deliveries
/// up to `after`.
fn broadcasts(LogPart { events, changes }: LogPart, before: Position, after: Position) -> Vec<Broadcast> {
    let mut broadcasts: Vec<_> = events
        .into_iter()
        .map(|record| {
            let position = Position { seq: record.seq, checkpoint: before.checkpoint };
            let cameras = Some(vec![record.camera_id.clone()]);
            let event = StreamEvent::Event(Box::new(record));
            Broadcast { message: Arc::new(StreamMessage { position, event }), cameras }
        })
        .collect();
    if !changes.is_empty() {
        let mut cameras: Vec<_> = changes.iter().map(|change| change.camera_id.clone()).collect();
        cameras.sort_unstable();
        cameras.dedup();
        let message = StreamMessage { position: after, event: StreamEvent::Deliveries(changes) };
        broadcasts.push(Broadcast { message: Arc::new(message), cameras: Some(cameras) });
    }
    broadcasts
}

impl Actor for StreamActor {
    type Context = Context<Self>;
}

impl Handler<OpenStream> for StreamActor {
    type Result = AtomicResponse<Self, Result<Subscription, StreamError>>;

    fn handle(&mut self, msg: OpenStream, _: &mut Self::Context) -> Self::Result {
        let OpenStream { camera_id, resume } = msg;
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let too_many = Err(StreamError::TooMany { max: MAX_STREAMS });
            return AtomicResponse::new(Box::pin(async { too_many }.into_actor(self)));
        };
        // The watch must be active before the end of the log is requested, so that nothing after it is
        // missed.
        self.watch.set_active(true);
        let fetched = self.fetch(Update::Nothing).into_actor(self).then(move |fetched, act: &mut Self, _| {
            let missed = fetched.map_or(Update::Nothing, |Fetched { status: (_, outbox), .. }| {
                let tracker = act.tracker.get_or_insert_with(|| LogTracker::new(outbox.position));
                resume.map_or(Update::Nothing, |since| tracker.missed(since))
            });
            act.fetch(missed).into_actor(act)
        });
        let opened = fetched.map(move |fetched, act, ctx: &mut Context<Self>| {
            if act.timer.is_none() {
                act.timer = Some(ctx.run_interval(UPDATE_INTERVAL, Self::update));
            }
            let Fetched { status, update, part, read } = fetched.ok_or(StreamError::Unavailable)?;
            act.check_read(read);
            let (sender, messages) = mpsc::channel(MAX_QUEUED_MESSAGES);
            act.add(Stream { camera_id, messages: sender }, &update, resume, status, part);
            Ok(Subscription { messages, _slot: slot })
        });
        AtomicResponse::new(Box::pin(opened))
    }
}

impl Handler<LogMoved> for StreamActor {
    type Result = ();

    fn handle(&mut self, msg: LogMoved, _: &mut Self::Context) {
        if let Some(tracker) = &mut self.tracker {
            tracker.log_moved(msg);
        }
    }
}

impl Handler<SettingsRevised> for StreamActor {
    type Result = ();

    fn handle(&mut self, SettingsRevised(revision): SettingsRevised, _: &mut Self::Context) {
        if self.settings.as_ref() == Some(&revision) {
            return;
        }
        self.settings = Some(revision.clone());
        let Some(position) = self.tracker.as_ref().map(LogTracker::reported) else { return };
        self.send(&Broadcast::to_all(StreamMessage { position, event: StreamEvent::Settings(revision) }));
    }
}

impl Handler<Stop> for StreamActor {
    type Result = ();

    /// Ends all streams.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.streams.clear();
        self.set_gauge();
        ctx.stop();
    }
}

#[cfg(test)]
mod tests;
