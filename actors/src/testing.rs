//! Support for tests of actors: recording peers, and waiting until all actors are idle. For benchmarks: the
//! event log without its actor.

#[cfg(test)]
pub(crate) mod database;
pub mod log;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler, Message, MessageResult};

use crate::{
    domain::ids::LinkId,
    messages::{
        connection::{Deliver, PublishReplay, PublishState, Subscribe},
        link::LinkUp,
    },
};

/// Waits until every actor on this thread is idle if the clock is paused, because `sleep` returns only then.
/// If the clock is running, waits for a millisecond.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Waits until the condition is true; panics after five seconds. Checks it every five milliseconds.
#[cfg(test)]
pub(crate) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("did not happen within 5 s: {what}");
}

/// Returns the context of a commit for tests. The time zone is UTC.
pub(crate) fn commit_context() -> crate::store::CommitContext {
    let key = crate::domain::link_key::LinkKey::generate().expect("the system provides random bytes");
    crate::store::CommitContext {
        links: crate::domain::links::Links::new("http://here", 7, key),
        calendar: crate::domain::calendar::Calendar::new(chrono_tz::Tz::UTC),
        max_cameras: 1000,
        late_after_seconds: 300,
    }
}

/// Peers of an outbox that record or ignore what they receive.
#[cfg(test)]
pub(crate) fn outbox_peers() -> crate::outbox::OutboxPeers {
    let pictures = PictureSink.start();
    crate::outbox::OutboxPeers {
        cameras: Recorder::start_new().0.recipient(),
        thumbnails: crate::outbox::ThumbnailPeer {
            stage: pictures.clone().recipient(),
            adopt: pictures.clone().recipient(),
            have: pictures.recipient(),
            discard: Recorder::start_new().0.recipient(),
            sweep: Recorder::start_new().0.recipient(),
            free_space: Recorder::start_new().0.recipient(),
        },
        hand_over: Recorder::start_new().0.recipient(),
        log_watch: crate::messages::stream::LogWatch::new(Recorder::start_new().0.recipient()),
        history: crate::outbox::HistoryPeer {
            link_moved: Recorder::start_new().0.recipient(),
            missing: Recorder::start_new().0.recipient(),
        },
    }
}

/// The real thumbnail actor, for tests of the actors that use it.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct PictureKeeper {
    /// Stages pictures.
    pub stage: actix::Recipient<crate::messages::thumbnails::StageThumbnail>,
    /// Adopts staged pictures.
    pub adopt: actix::Recipient<crate::messages::thumbnails::AdoptThumbnails>,
    /// Finds out which events have a picture.
    pub have: actix::Recipient<crate::messages::thumbnails::HaveThumbnails>,
    /// Discards staged pictures.
    pub discard: actix::Recipient<crate::messages::thumbnails::DiscardThumbnails>,
    /// Finds pictures.
    pub get: actix::Recipient<crate::messages::thumbnails::GetThumbnailAt>,
    /// Removes pictures.
    pub sweep: actix::Recipient<crate::messages::thumbnails::Sweep>,
    /// Removes the oldest pictures.
    pub free_space: actix::Recipient<crate::messages::thumbnails::FreeSpace>,
}

#[cfg(test)]
impl PictureKeeper {
    /// Starts the actor, with a directory for the pictures unless they are in the database.
    pub(crate) async fn start(store: crate::store::Store, dir: &std::path::Path) -> Self {
        let crashed = tokio::sync::mpsc::unbounded_channel().0;
        let cameras = Recorder::start_new().0.recipient();
        let pictures = pictures(&store, dir).await;
        let actor = crate::thumbnails::ThumbnailActor::new(store, pictures, cameras, crashed).start();
        Self {
            stage: actor.clone().recipient(),
            adopt: actor.clone().recipient(),
            have: actor.clone().recipient(),
            discard: actor.clone().recipient(),
            get: actor.clone().recipient(),
            sweep: actor.clone().recipient(),
            free_space: actor.recipient(),
        }
    }
}

/// Opens the pictures of the events in this database, next to a file in this directory.
#[cfg(test)]
pub(crate) async fn pictures(
    store: &crate::store::Store,
    dir: &std::path::Path,
) -> crate::thumbnails::Pictures {
    let max_published_bytes = crate::domain::image::MAX_THUMBNAIL_BYTES;
    if store.is_on_server() {
        let opened = crate::thumbnails::Pictures::in_database(store, u64::MAX, max_published_bytes);
        return opened.await.expect("the database can be read");
    }
    let files = crate::thumbnails::Files::open(dir, u64::MAX).expect("the directory can be used");
    let storage = crate::thumbnails::Storage::Files(files);
    crate::thumbnails::Pictures { storage, recovered: Vec::new(), max_published_bytes }
}

/// An actor that accepts every picture and stores none.
#[cfg(test)]
struct PictureSink;

#[cfg(test)]
impl Actor for PictureSink {
    type Context = Context<Self>;
}

#[cfg(test)]
impl Handler<crate::messages::thumbnails::StageThumbnail> for PictureSink {
    type Result = Result<(), crate::messages::thumbnails::ThumbnailError>;

    fn handle(
        &mut self,
        _: crate::messages::thumbnails::StageThumbnail,
        _: &mut Self::Context,
    ) -> Self::Result {
        Ok(())
    }
}

#[cfg(test)]
impl Handler<crate::messages::thumbnails::HaveThumbnails> for PictureSink {
    type Result = Result<Vec<bool>, crate::domain::event_log::QueryError>;

    fn handle(
        &mut self,
        crate::messages::thumbnails::HaveThumbnails(seqs): crate::messages::thumbnails::HaveThumbnails,
        _: &mut Self::Context,
    ) -> Self::Result {
        Ok(vec![false; seqs.len()])
    }
}

#[cfg(test)]
impl Handler<crate::messages::thumbnails::AdoptThumbnails> for PictureSink {
    type Result = Vec<crate::domain::ids::EventId>;

    fn handle(
        &mut self,
        _: crate::messages::thumbnails::AdoptThumbnails,
        _: &mut Self::Context,
    ) -> Self::Result {
        Vec::new()
    }
}

/// From tests: makes an actor panic, to test how the crash is handled.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash;

macro_rules! crashes {
    ($($actor:ty),*) => {$(
        impl Handler<Crash> for $actor {
            type Result = ();

            fn handle(&mut self, _: Crash, _: &mut Self::Context) {
                panic!("crashed on request");
            }
        }
    )*};
}

crashes!(
    crate::cameras::CameraActor,
    crate::config::ConfigActor,
    crate::connection::ConnectionActor,
    crate::discovery::DiscoveryActor,
    crate::outbox::OutboxActor,
    crate::replay::ReplayActor,
    crate::retained::RetainedActor,
    crate::stream::StreamActor,
    crate::supervisor::SupervisorActor,
    crate::thumbnails::ThumbnailActor,
    crate::tokens::TokenActor
);

/// An actor that records the messages that it receives.
#[derive(Debug)]
pub struct Recorder<M> {
    recorded: Recorded<M>,
}

/// The messages that a [`Recorder`] received.
#[derive(Debug)]
pub struct Recorded<M>(Arc<Mutex<Vec<M>>>);

impl<M> Clone for Recorded<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Recorded<M> {
    /// Takes the messages that were recorded since the last call.
    pub fn take(&self) -> Vec<M> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, message: M) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

impl<M> Recorder<M>
where
    M: Message<Result = ()> + Send + Unpin + 'static,
{
    /// Starts a recorder. Returns its address and the messages that it records.
    pub fn start_new() -> (actix::Addr<Self>, Recorded<M>) {
        let recorded = Recorded(Arc::default());
        let address = Self { recorded: recorded.clone() }.start();
        (address, recorded)
    }
}

impl<M: Unpin + 'static> Actor for Recorder<M> {
    type Context = Context<Self>;
}

impl<M> Handler<M> for Recorder<M>
where
    M: Message<Result = ()> + Send + Unpin + 'static,
{
    type Result = ();

    fn handle(&mut self, msg: M, _: &mut Self::Context) {
        self.recorded.push(msg);
    }
}

/// A fake connection to a broker that accepts everything, and records the state that is published.
#[derive(Debug, Clone)]
pub struct FakeConnection {
    addr: Addr<FakeConnectionActor>,
    /// The state that was published, in order.
    pub published: Recorded<PublishState>,
    /// The replayed events, in order.
    pub replayed: Recorded<PublishReplay>,
    /// The subscriptions.
    pub subscribed: Recorded<Subscribe>,
}

/// The actor of a [`FakeConnection`].
#[derive(Debug)]
pub struct FakeConnectionActor {
    published: Recorded<PublishState>,
    replayed: Recorded<PublishReplay>,
    subscribed: Recorded<Subscribe>,
}

impl FakeConnection {
    /// Starts a fake connection.
    pub fn start_new() -> Self {
        let (published, subscribed) = (Recorded(Arc::default()), Recorded(Arc::default()));
        let replayed = Recorded(Arc::default());
        let actor = FakeConnectionActor {
            published: published.clone(),
            replayed: replayed.clone(),
            subscribed: subscribed.clone(),
        };
        Self { addr: actor.start(), published, replayed, subscribed }
    }

    /// Returns the message that reports this connection as established.
    pub fn link_up(&self, link: LinkId, broker: &str) -> LinkUp {
        LinkUp {
            link,
            receive_maximum: u16::MAX,
            reports_subscribers: true,
            suspected_events: 0,
            deliver: self.addr.clone().recipient(),
            broker: broker.to_owned(),
            publish: self.addr.clone().recipient(),
            replay: self.addr.clone().recipient(),
            subscribe: self.addr.clone().recipient(),
        }
    }
}

impl Actor for FakeConnectionActor {
    type Context = Context<Self>;
}

impl Handler<Deliver> for FakeConnectionActor {
    type Result = ();

    fn handle(&mut self, _: Deliver, _: &mut Self::Context) {}
}

impl Handler<Subscribe> for FakeConnectionActor {
    type Result = ();

    fn handle(&mut self, msg: Subscribe, _: &mut Self::Context) {
        self.subscribed.push(msg);
    }
}

impl Handler<PublishReplay> for FakeConnectionActor {
    type Result = MessageResult<PublishReplay>;

    fn handle(&mut self, msg: PublishReplay, _: &mut Self::Context) -> Self::Result {
        self.replayed.push(msg);
        MessageResult(Ok(Some(true)))
    }
}

impl Handler<PublishState> for FakeConnectionActor {
    type Result = MessageResult<PublishState>;

    fn handle(&mut self, msg: PublishState, _: &mut Self::Context) -> Self::Result {
        self.published.push(msg);
        MessageResult(Ok(Some(true)))
    }
}
