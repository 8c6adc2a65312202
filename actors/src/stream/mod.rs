//! The streams: what happens, told to whoever watches, as it happens.
//!
//! Owns the subscribers. While there is one, it is poked after each commit, and five times a second reads from the log what
//! is new and asks how things stand; while there is none, the others spend nothing on it. Promises: nobody waits for a
//! subscriber, and one that does not read is dropped; what is told is what the log holds; nothing is left out without
//! saying so. Does not promise to tell a burst event by event: past a rate it says that much has happened.

mod log;

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

use self::log::{Log, Step};
use crate::{
    domain::{
        event_log::{LogPart, LogQuery, Position},
        ids::CameraId,
    },
    lifecycle::CrashGuard,
    messages::{
        outbox::{GetOutbox, OutboxStatus, ReadLog},
        service::Stop,
        stream::{LogMoved, LogWatch, OpenStream, StreamError, StreamEvent, StreamMessage, Subscription},
        supervisor::{ConnectionStatus, GetStatus},
    },
    metrics::Metrics,
};

/// So many streams may be open.
pub const MAX_STREAMS: usize = 32;

/// So many messages wait for one client: what one that comes back may have missed, and some seconds of a busy log. A client
/// for whom more would wait is dropped; it comes back and is told what it missed.
pub const MAX_WAITING: usize = 1500;

/// How often what is new is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Whom the streams ask.
#[derive(Debug, Clone)]
pub struct StreamPeers {
    /// How does the log stand?
    pub outbox: Recipient<GetOutbox>,
    /// What is in the log?
    pub log: Recipient<ReadLog>,
    /// How does the connection stand?
    pub status: Recipient<GetStatus>,
}

type Status = (ConnectionStatus, OutboxStatus);

#[derive(Debug)]
struct Stream {
    camera_id: Option<CameraId>,
    messages: mpsc::Sender<Arc<StreamMessage>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct StreamActor {
    peers: StreamPeers,
    watch: LogWatch,
    metrics: Metrics,
    _crash_guard: CrashGuard,
    /// Held by each subscription until nobody waits for it any more, also when it was dropped here.
    room: Arc<Semaphore>,
    streams: Vec<Stream>,
    /// While anybody watches.
    log: Option<Log>,
    /// As it was told last.
    status: Option<Status>,
    timer: Option<SpawnHandle>,
}

impl StreamActor {
    /// Streams that nobody watches yet.
    pub fn new(
        peers: StreamPeers,
        watch: LogWatch,
        metrics: Metrics,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(MAX_STREAMS));
        Self {
            peers,
            watch,
            metrics,
            _crash_guard: CrashGuard::new("stream", crashed),
            room,
            streams: Vec::new(),
            log: None,
            status: None,
            timer: None,
        }
    }

    /// How things stand, and what is in the log.
    fn look(&self, query: Option<LogQuery>) -> impl Future<Output = Option<(Status, LogPart)>> + use<> {
        let StreamPeers { outbox, log, status } = self.peers.clone();
        async move {
            let connection = status.send(GetStatus).await.ok()?;
            let part = match query {
                // What cannot be read now is read the next time.
                Some(query) => log.send(ReadLog(query)).await.ok()?.ok()?,
                None => LogPart::default(),
            };
            Some(((connection, outbox.send(GetOutbox).await.ok()?), part))
        }
    }

    /// Tells what is new.
    fn tell(&mut self, ctx: &mut Context<Self>) {
        self.streams.retain(|stream| !stream.messages.is_closed());
        self.count();
        let Some(log) = self.log.as_ref().filter(|_| !self.streams.is_empty()) else {
            self.rest(ctx);
            return;
        };
        let step = log.step(Instant::now());
        let read = if let Step::Read(read) = &step { Some(read.clone()) } else { None };
        let look = self.look(read).into_actor(self);
        // Nothing else is done meanwhile: what is told stays in order.
        ctx.wait(look.map(move |looked, act, _| {
            if let Some((status, part)) = looked {
                act.tell_step(&step, status, part);
            }
        }));
    }

    fn tell_step(&mut self, step: &Step, mut status: Status, part: LogPart) {
        // How far the log goes is no news of how it stands.
        status.1.position = Position::default();
        let Some(log) = &mut self.log else { return };
        let before = log.told();
        if self.status.as_ref() != Some(&status) {
            let news = StreamEvent::Status(Box::new(status.clone()));
            self.status = Some(status);
            self.push(&Told::all(StreamMessage { position: before, news }));
        }
        if *step == Step::Nothing {
            return;
        }
        let Some(log) = &mut self.log else { return };
        log.has_told(step, Instant::now());
        let after = log.told();
        if *step == Step::Reset {
            self.push(&Told::all(StreamMessage { position: after, news: StreamEvent::Reset }));
        }
        for told in messages_of(part, before, after) {
            self.push(&told);
        }
    }

    /// Hands one message to everybody whom it concerns. Who has no room for it is dropped.
    fn push(&mut self, told: &Told) {
        self.streams.retain(|stream| {
            let Some(message) = told.to(stream.camera_id.as_ref()) else { return true };
            let full = matches!(stream.messages.try_send(message), Err(mpsc::error::TrySendError::Full(_)));
            if full {
                tracing::info!(waiting = MAX_WAITING, "a stream was dropped: its client does not read");
                self.metrics.streams_dropped.inc();
            }
            !full
        });
        self.count();
    }

    fn count(&self) {
        self.metrics.streams_open.set(i64::try_from(self.streams.len()).unwrap_or(i64::MAX));
    }

    /// Nobody watches any more.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        self.watch.set_active(false);
        (self.log, self.status) = (None, None);
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
    }

    /// One more watches: what it is told first goes before anything else.
    fn add(
        &mut self,
        stream: Stream,
        step: &Step,
        resume: Option<Position>,
        mut status: Status,
        part: LogPart,
    ) {
        status.1.position = Position::default();
        let Some(log) = &self.log else { return };
        let told = log.told();
        let since = resume.unwrap_or(told);
        self.status.get_or_insert_with(|| status.clone());
        let mut first = vec![Told::all(StreamMessage {
            // Whoever is cut off before it was told what it missed comes back with what it knew.
            position: since,
            news: StreamEvent::Status(Box::new(status)),
        })];
        if *step == Step::Reset {
            first.push(Told::all(StreamMessage { position: told, news: StreamEvent::Reset }));
        }
        first.extend(messages_of(part, since, told));
        for message in first.iter().filter_map(|told| told.to(stream.camera_id.as_ref())) {
            // It has room for all that whoever comes back is told.
            let _fits = stream.messages.try_send(message);
        }
        self.streams.push(stream);
        self.count();
    }
}

/// A message for everybody, or for those who watch a camera.
struct Told {
    message: Arc<StreamMessage>,
    cameras: Option<Vec<CameraId>>,
}

impl Told {
    fn all(message: StreamMessage) -> Self {
        Self { message: Arc::new(message), cameras: None }
    }

    /// The message as whoever watches this camera gets it, if it concerns it.
    fn to(&self, camera_id: Option<&CameraId>) -> Option<Arc<StreamMessage>> {
        let (Some(camera_id), Some(cameras)) = (camera_id, &self.cameras) else {
            return Some(Arc::clone(&self.message));
        };
        if !cameras.contains(camera_id) {
            return None;
        }
        let StreamMessage { position, news } = &*self.message;
        let StreamEvent::Deliveries(changes) = news else { return Some(Arc::clone(&self.message)) };
        let theirs = changes.iter().filter(|change| change.camera_id == *camera_id).cloned().collect();
        Some(Arc::new(StreamMessage { position: *position, news: StreamEvent::Deliveries(theirs) }))
    }
}

/// What was read, as it is told to who knows the log up to `before`: its events, and then the deliveries up to `after`.
fn messages_of(LogPart { events, changes }: LogPart, before: Position, after: Position) -> Vec<Told> {
    let mut told: Vec<_> = events
        .into_iter()
        .map(|record| {
            let position = Position { seq: record.seq, noted: before.noted };
            let cameras = Some(vec![record.camera_id.clone()]);
            let news = StreamEvent::Event(Box::new(record));
            Told { message: Arc::new(StreamMessage { position, news }), cameras }
        })
        .collect();
    if !changes.is_empty() {
        let mut cameras: Vec<_> = changes.iter().map(|change| change.camera_id.clone()).collect();
        cameras.sort_unstable();
        cameras.dedup();
        let message = StreamMessage { position: after, news: StreamEvent::Deliveries(changes) };
        told.push(Told { message: Arc::new(message), cameras: Some(cameras) });
    }
    told
}

impl Actor for StreamActor {
    type Context = Context<Self>;
}

impl Handler<OpenStream> for StreamActor {
    type Result = AtomicResponse<Self, Result<Subscription, StreamError>>;

    fn handle(&mut self, msg: OpenStream, _: &mut Self::Context) -> Self::Result {
        let OpenStream { camera_id, resume } = msg;
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            let too_many = Err(StreamError::TooMany { max: MAX_STREAMS });
            return AtomicResponse::new(Box::pin(async { too_many }.into_actor(self)));
        };
        // Before the log's end is asked for, so that nothing that comes after it is missed.
        self.watch.set_active(true);
        let looked = self.look(None).into_actor(self).then(move |looked, act: &mut Self, _| {
            let step = looked.map_or(Step::Nothing, |((_, outbox), _)| {
                let log = act.log.get_or_insert_with(|| Log::new(outbox.position));
                resume.map_or(Step::Nothing, |since| log.missed(since))
            });
            let read = if let Step::Read(read) = &step { Some(read.clone()) } else { None };
            act.look(read).into_actor(act).map(|looked, _, _| (step, looked))
        });
        let opened = looked.map(move |(step, looked), act, ctx: &mut Context<Self>| {
            if act.timer.is_none() {
                act.timer = Some(ctx.run_interval(TELL_EVERY, Self::tell));
            }
            let (status, part) = looked.ok_or(StreamError::NoAnswer)?;
            let (sender, messages) = mpsc::channel(MAX_WAITING);
            act.add(Stream { camera_id, messages: sender }, &step, resume, status, part);
            Ok(Subscription { messages, _room: room })
        });
        AtomicResponse::new(Box::pin(opened))
    }
}

impl Handler<LogMoved> for StreamActor {
    type Result = ();

    fn handle(&mut self, msg: LogMoved, _: &mut Self::Context) {
        if let Some(log) = &mut self.log {
            log.moved(msg);
        }
    }
}

impl Handler<Stop> for StreamActor {
    type Result = ();

    /// Every stream ends.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.streams.clear();
        self.count();
        ctx.stop();
    }
}

#[cfg(test)]
mod tests;
