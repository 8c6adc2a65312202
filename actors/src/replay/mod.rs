//! Replays: sends events of the log again, on request.
//!
//! [`ReplayActor`] owns the table of replays. It guarantees:
//! - A replay never publishes to a topic for live events or to another topic of the service, and does not change the
//!   delivery of any event.
//! - Events that have not been sent yet go first, except those that wait because their topic has lost its subscriber.
//! - Each event is sent at least once, in the order of the log. After a crash, at most one second's messages
//!   (`max_per_second`) and those in flight (`run::MAX_IN_FLIGHT`) are repeated.
//! - Its memory does not depend on the number of events.
//!
//! One replay is sent at a time, the oldest one first. The actor is a driver; `run::Run` decides.

mod requests;
mod run;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient,
    ResponseFuture, SpawnHandle, WrapFuture as _,
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::Instant,
};

use self::run::{MAX_ENDS, Run, Turn, Wanted};
use crate::{
    domain::{
        causes::with_causes,
        clock,
        event::marked_replayed,
        event_log::StoredEvent,
        ids::{LinkId, Seq},
        replay::{MAX_FINISHED, ReplayRecord, ReplayState},
        settings::{MqttSettings, SettingsChange},
        status::{Failure, FailureKind},
        store_fault::StoreFault,
    },
    lifecycle::CrashGuard,
    messages::{
        config::SettingsChanged,
        connection::PublishReplay,
        link::{LinkDown, LinkUp},
        outbox::CountUnsent,
        service::Stop,
    },
    metrics::Metrics,
    store::{Store, StoreError},
};

/// Maximum number of requests in the mailbox. Facts bypass this limit; their senders limit their number.
const MAILBOX: usize = 256;

/// How long after a change the progress is stored.
const WRITE_AFTER: Duration = Duration::from_secs(1);

/// How long to wait before the log is read again after a failure.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often to ask whether other events still wait.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long to wait for acknowledgements when the service stops.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// The actors that the `ReplayActor` sends messages to, apart from the connections.
#[derive(Debug, Clone)]
pub struct ReplayPeers {
    /// Returns how many events wait to be sent.
    pub unsent: Recipient<CountUnsent>,
}

#[derive(Debug, Clone)]
struct Link {
    id: LinkId,
    broker: String,
    publish: Recipient<PublishReplay>,
}

/// See the module's documentation.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ReplayActor {
    store: Store,
    settings: Arc<MqttSettings>,
    peers: ReplayPeers,
    metrics: Metrics,
    /// At most [`MAX_ACTIVE`] unfinished and [`MAX_FINISHED`] finished ones.
    replays: BTreeMap<i64, ReplayRecord>,
    /// The number of replays that are being created.
    creating: usize,
    link: Option<Link>,
    /// The replay that is being sent.
    run: Option<Run>,
    is_reading: bool,
    is_asking: bool,
    is_writing: bool,
    /// Whether a timer is set to store what has changed.
    will_write: bool,
    /// Whether other events waited when the outbox was last asked.
    events_wait: bool,
    /// The replays that have changed since they were stored.
    changed: BTreeSet<i64>,
    removed: Vec<i64>,
    wake: Option<SpawnHandle>,
    stopping: Option<oneshot::Sender<()>>,
    _crash_guard: CrashGuard,
}

impl ReplayActor {
    /// Reads the replays. Those that are not finished continue.
    pub async fn open(
        store: Store,
        settings: Arc<MqttSettings>,
        peers: ReplayPeers,
        metrics: Metrics,
        crashed: UnboundedSender<&'static str>,
    ) -> Result<Self, StoreError> {
        let replays = store.list_replays().await?;
        Ok(Self {
            store,
            settings,
            peers,
            metrics,
            replays: replays.into_iter().map(|record| (record.replay.id, record)).collect(),
            creating: 0,
            link: None,
            run: None,
            is_reading: false,
            is_asking: false,
            is_writing: false,
            will_write: false,
            events_wait: false,
            changed: BTreeSet::new(),
            removed: Vec::new(),
            wake: None,
            stopping: None,
            _crash_guard: CrashGuard::new("replay", crashed),
        })
    }

    /// Does what can be done now: reads, asks the outbox, or waits.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        if self.stopping.is_some() {
            return self.stop_when_answered(ctx);
        }
        self.start_next();
        self.write_soon(ctx);
        let Some(run) = &self.run else { return };
        if run.is_complete() {
            return self.finish(ctx);
        }
        if self.link.is_none() || self.is_reading || self.is_asking {
            return;
        }
        if let Some(wanted) = run.wanted() {
            return self.read(wanted, ctx);
        }
        match run.turn(Instant::now()) {
            Turn::Now => self.ask(ctx),
            Turn::At(at) => self.wake_after(at.saturating_duration_since(Instant::now()), ctx),
            Turn::Later => {}
        }
    }

    fn start_next(&mut self) {
        if self.run.is_some() {
            return;
        }
        if let Some(record) = self.replays.values_mut().find(|record| !record.replay.state.is_over()) {
            record.replay.state = ReplayState::Running;
            self.run = Some(Run::new(record, Instant::now()));
        }
    }

    fn wake_after(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.wake.take() {
            ctx.cancel_future(earlier);
        }
        self.wake = Some(ctx.run_later(wait, |act, ctx| {
            act.wake = None;
            act.drive(ctx);
        }));
    }

    /// Reads the next part of the log.
    fn read(&mut self, wanted: Wanted, ctx: &mut Context<Self>) {
        let Some((record, run)) = self.current() else { return };
        let (store, request, last) = (self.store.clone(), record.replay.request.clone(), run.last());
        let of = (run.id, run.generation);
        self.is_reading = true;
        match wanted {
            Wanted::Positions(after) => {
                let find = async move { store.find_events(&request, after, last).await };
                ctx.spawn(find.into_actor(self).map(move |found, act, ctx| {
                    act.has_read(of, found, Run::found, ctx);
                }));
            }
            Wanted::Events(seqs) => {
                let read = async move { store.read_events(&seqs).await.map(|rows| (seqs, rows)) };
                ctx.spawn(read.into_actor(self).map(move |read, act, ctx| {
                    act.has_read(of, read, |run, (seqs, rows)| run.read(&seqs, rows), ctx);
                }));
            }
        }
    }

    fn has_read<T>(
        &mut self,
        of: (i64, u64),
        read: Result<T, StoreError>,
        add: impl FnOnce(&mut Run, T),
        ctx: &mut Context<Self>,
    ) {
        self.is_reading = false;
        match read {
            Ok(read) => {
                if let Some(run) = self.run_of(of) {
                    add(run, read);
                }
                self.drive(ctx);
            }
            Err(error) => {
                tracing::warn!(
                    error = %with_causes(&error),
                    "the events of a replay could not be read; will retry in a second"
                );
                self.wake_after(READ_AGAIN_AFTER, ctx);
            }
        }
    }

    fn current(&self) -> Option<(&ReplayRecord, &Run)> {
        let run = self.run.as_ref()?;
        Some((self.replays.get(&run.id)?, run))
    }

    /// Returns the current run if it is still this one.
    fn run_of(&mut self, (id, generation): (i64, u64)) -> Option<&mut Run> {
        self.run.as_mut().filter(|run| (run.id, run.generation) == (id, generation))
    }

    /// Asks the outbox whether other events wait. If not, sends the next messages.
    fn ask(&mut self, ctx: &mut Context<Self>) {
        self.is_asking = true;
        let unsent = self.peers.unsent.send(CountUnsent).into_actor(self);
        ctx.spawn(unsent.map(|unsent, act, ctx| {
            act.is_asking = false;
            // An outbox that does not reply is stopping.
            act.events_wait = unsent.map_or(true, |unsent| unsent > 0);
            if act.events_wait {
                act.wake_after(ASK_AGAIN_AFTER, ctx);
            } else {
                act.send(ctx);
            }
        }));
    }

    fn send(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        while self.stopping.is_none()
            && let (Some(_), Some(run)) = (&self.link, &mut self.run)
            && let Some(event) = run.next(now)
        {
            self.publish(event, ctx);
        }
        self.note_progress();
        self.drive(ctx);
    }

    fn publish(&mut self, event: StoredEvent, ctx: &mut Context<Self>) {
        let (Some((record, run)), Some(link)) = (self.current(), &self.link) else { return };
        let topic = record.replay.request.topic.for_camera(&event.camera_id, &self.settings);
        let (of, seq) = ((run.id, run.generation), event.seq);
        let payload = marked_replayed(event.payload.to_vec()).into();
        let published = link.publish.send(PublishReplay { topic, payload }).into_actor(self);
        ctx.spawn(published.map(move |answer, act, ctx| {
            // A connection that has stopped does not answer.
            let closed = |_| Err(Failure::new(FailureKind::Closed, "The connection was lost."));
            act.answered(of, seq, answer.unwrap_or_else(closed).map(drop), ctx);
        }));
    }

    fn answered(&mut self, of: (i64, u64), seq: Seq, answer: Result<(), Failure>, ctx: &mut Context<Self>) {
        if answer.is_ok() {
            self.metrics.replayed_events.inc();
        }
        let Some(run) = self.run_of(of) else { return self.drive(ctx) };
        match answer {
            Ok(()) => run.acknowledged(seq, Instant::now()),
            // The link is down; that is reported, too.
            Err(failure) if failure.kind == FailureKind::Closed => return,
            Err(failure) if failure.kind == FailureKind::Busy => run.returned(seq, Instant::now()),
            Err(failure) => {
                let reason = format!("The event at position {seq} was not published: {}", failure.message);
                self.end(of.0, ReplayState::Failed, Some(reason));
            }
        }
        self.note_progress();
        self.drive(ctx);
    }

    /// Copies the progress of the current run.
    fn note_progress(&mut self) {
        if let Some(run) = &self.run
            && let Some(record) = self.replays.get_mut(&run.id)
            && record.position != run.position
        {
            record.position = run.position;
            (record.replay.published, record.replay.skipped) = (run.published, run.skipped);
            self.changed.insert(run.id);
        }
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        self.note_progress();
        if let Some(run) = &self.run {
            let id = run.id;
            if let Some(ReplayRecord { replay, .. }) = self.replays.get_mut(&id) {
                // This includes those that were removed from the log before they were found.
                replay.skipped = replay.events.saturating_sub(replay.published);
            }
            self.end(id, ReplayState::Finished, None);
        }
        self.drive(ctx);
    }

    /// Ends a replay.
    fn end(&mut self, id: i64, state: ReplayState, reason: Option<String>) {
        self.note_progress();
        if self.run.as_ref().is_some_and(|run| run.id == id) {
            self.run = None;
        }
        let Some(record) = self.replays.get_mut(&id) else { return };
        let replay = &mut record.replay;
        (replay.state, replay.reason, replay.ended_at) = (state, reason, Some(clock::now()));
        let (published, skipped, reason) = (replay.published, replay.skipped, replay.reason.as_deref());
        if state == ReplayState::Failed {
            tracing::warn!(id, published, skipped, reason, "a replay failed");
        } else {
            tracing::info!(id, published, skipped, state = state.as_str(), "a replay ended");
        }
        self.changed.insert(id);
        self.remove_oldest();
    }

    /// Removes finished replays above the limit.
    fn remove_oldest(&mut self) {
        let over = |(id, record): (&i64, &ReplayRecord)| record.replay.state.is_over().then_some(*id);
        let finished: Vec<i64> = self.replays.iter().filter_map(over).collect();
        for id in &finished[..finished.len().saturating_sub(MAX_FINISHED)] {
            self.replays.remove(id);
            self.changed.remove(id);
            self.removed.push(*id);
        }
    }

    /// Stores what has changed, a second later.
    fn write_soon(&mut self, ctx: &mut Context<Self>) {
        let is_changed = !self.changed.is_empty() || !self.removed.is_empty();
        if is_changed && !self.is_writing && !std::mem::replace(&mut self.will_write, true) {
            ctx.run_later(WRITE_AFTER, |act, ctx| {
                act.will_write = false;
                act.write(ctx);
            });
        }
    }

    /// Stores what has changed.
    fn write(&mut self, ctx: &mut Context<Self>) {
        if self.is_writing || (self.changed.is_empty() && self.removed.is_empty()) {
            return;
        }
        self.is_writing = true;
        let (changed, removed) = (std::mem::take(&mut self.changed), std::mem::take(&mut self.removed));
        let records: Vec<ReplayRecord> =
            changed.iter().filter_map(|id| self.replays.get(id)).cloned().collect();
        let unwritten = self.run.as_ref().map(|run| (run.id, run.unwritten()));
        let store = self.store.clone();
        let write = async move {
            let written = store.write_replays(&records, &removed).await;
            written.map_err(|error| (error, removed))
        };
        ctx.spawn(write.into_actor(self).map(move |written, act, ctx| {
            act.is_writing = false;
            match written {
                Ok(()) => {
                    if let (Some(run), Some((id, unwritten))) = (&mut act.run, unwritten)
                        && run.id == id
                    {
                        run.written(unwritten);
                    }
                    act.drive(ctx);
                }
                Err((error, removed)) => {
                    tracing::warn!(
                        error = %with_causes(&error),
                        "the progress of a replay was not stored; will retry in a second"
                    );
                    act.changed.extend(changed);
                    act.removed.extend(removed);
                    act.write_soon(ctx);
                }
            }
        }));
    }

    /// Ends the replays whose topics are now used by the service.
    fn check_topics(&mut self) {
        let active = self.replays.values().filter(|record| !record.replay.state.is_over());
        let refused: Vec<(i64, String)> = active
            .filter_map(|record| {
                let reason = record.replay.request.topic.check(&self.settings).err()?;
                let reason = format!(
                    "The MQTT settings have changed, and the topic is not allowed any more: {reason}."
                );
                Some((record.replay.id, reason))
            })
            .collect();
        for (id, reason) in refused {
            self.end(id, ReplayState::Failed, Some(reason));
        }
    }

    fn stop_when_answered(&mut self, ctx: &mut Context<Self>) {
        if !self.run.as_ref().is_some_and(Run::has_open) {
            self.stop(ctx);
        }
    }

    /// Stores the progress, and stops.
    fn stop(&mut self, ctx: &mut Context<Self>) {
        let Some(reply) = self.stopping.take() else { return };
        self.note_progress();
        let changed: Vec<ReplayRecord> =
            self.changed.iter().filter_map(|id| self.replays.get(id)).cloned().collect();
        let (store, removed) = (self.store.clone(), std::mem::take(&mut self.removed));
        let write = async move { store.write_replays(&changed, &removed).await };
        ctx.wait(write.into_actor(self).map(|written, _, ctx| {
            if let Err(error) = written
                && error.fault() != StoreFault::NotOwner
            {
                tracing::warn!(
                    error = %with_causes(&error),
                    "the progress of a replay was not stored; some events are sent again"
                );
            }
            let _gone = reply.send(());
            ctx.stop();
        }));
    }
}

impl Actor for ReplayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.check_topics();
        self.drive(ctx);
    }
}

impl Handler<LinkUp> for ReplayActor {
    type Result = ();

    fn handle(&mut self, LinkUp { link, broker, replay, .. }: LinkUp, ctx: &mut Self::Context) {
        if let Some(run) = &mut self.run {
            run.interrupted();
        }
        self.link = Some(Link { id: link, broker, publish: replay });
        self.events_wait = false;
        self.drive(ctx);
    }
}

impl Handler<LinkDown> for ReplayActor {
    type Result = ();

    fn handle(&mut self, LinkDown { link }: LinkDown, ctx: &mut Self::Context) {
        let Some(Link { broker, .. }) = self.link.take_if(|current| current.id == link) else { return };
        if let Some(run) = &mut self.run
            && run.connection_ended()
        {
            let id = run.id;
            let reason = format!(
                "The connection to {broker} ended {MAX_ENDS} times while messages of this replay were being sent, \
                 and none of them was acknowledged. The broker may not accept them on this topic."
            );
            self.end(id, ReplayState::Failed, Some(reason));
        }
        self.drive(ctx);
    }
}

impl Handler<SettingsChanged> for ReplayActor {
    type Result = ();

    fn handle(&mut self, SettingsChanged { settings, change, .. }: SettingsChanged, ctx: &mut Self::Context) {
        self.settings = settings;
        if change != SettingsChange::Outbox {
            // The connection is replaced; nothing more is sent on the old one.
            self.link = None;
            if let Some(run) = &mut self.run {
                run.interrupted();
            }
        }
        self.check_topics();
        self.drive(ctx);
    }
}

impl Handler<Stop> for ReplayActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        let (reply, stopped) = oneshot::channel();
        self.stopping = Some(reply);
        ctx.run_later(STOP_WITHIN, Self::stop);
        self.stop_when_answered(ctx);
        Box::pin(async move {
            // An error means that the actor has stopped.
            let _stopped = stopped.await;
        })
    }
}
