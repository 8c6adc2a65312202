//! Help for tests of actors: peers that record, and waiting until all is quiet; and for benchmarks, the pieces alone.

pub mod log;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler, Message, MessageResult};

use crate::{
    domain::{ids::LinkId, status::Failure},
    messages::{
        connection::{Deliver, PublishState, Subscribe},
        link::LinkUp,
    },
};

/// Waits until every actor on this thread is idle. With a paused clock `sleep` returns only then; with a running one it
/// gives them a moment.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What a commit has to know, in tests: everything happens in UTC.
pub(crate) fn commit_context() -> crate::store::commit::Context {
    let key = crate::domain::link_key::LinkKey::generate().expect("the system gives random bytes");
    crate::store::commit::Context {
        links: crate::domain::links::Links::new("http://here", 7, key),
        calendar: crate::domain::calendar::Calendar::new(chrono_tz::Tz::UTC),
        max_cameras: 1000,
    }
}

/// Makes an actor panic, to see what becomes of it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash;

macro_rules! crashes {
    ($($actor:ty),*) => {$(
        impl Handler<Crash> for $actor {
            type Result = ();

            fn handle(&mut self, _: Crash, _: &mut Self::Context) {
                panic!("crashed as asked");
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
    crate::retained::RetainedActor,
    crate::stream::StreamActor,
    crate::supervisor::SupervisorActor,
    crate::thumbnails::ThumbnailActor,
    crate::tokens::TokenActor
);

/// An actor that keeps what it is told.
#[derive(Debug)]
pub struct Recorder<M> {
    told: Recorded<M>,
}

/// What a [`Recorder`] was told.
#[derive(Debug)]
pub struct Recorded<M>(Arc<Mutex<Vec<M>>>);

impl<M> Clone for Recorded<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Recorded<M> {
    /// Takes everything that was told since the last time.
    pub fn take(&self) -> Vec<M> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<M> Recorder<M>
where
    M: Message<Result = ()> + Send + Unpin + 'static,
{
    /// A recorder, and what it is told.
    pub fn start_new() -> (actix::Addr<Self>, Recorded<M>) {
        let told = Recorded(Arc::default());
        let recorder = Self { told: told.clone() }.start();
        (recorder, told)
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
        self.told.0.lock().unwrap_or_else(PoisonError::into_inner).push(msg);
    }
}

/// A connection to a broker that takes everything, and keeps what is retained.
#[derive(Debug, Clone)]
pub struct FakeConnection {
    addr: Addr<FakeConnectionActor>,
    /// Every state that was published, in order.
    pub published: Recorded<PublishState>,
    /// Every subscription.
    pub subscribed: Recorded<Subscribe>,
}

/// Behind a [`FakeConnection`].
#[derive(Debug)]
pub struct FakeConnectionActor {
    published: Recorded<PublishState>,
    subscribed: Recorded<Subscribe>,
}

impl FakeConnection {
    /// A new one.
    pub fn start_new() -> Self {
        let (published, subscribed) = (Recorded(Arc::default()), Recorded(Arc::default()));
        let addr =
            FakeConnectionActor { published: published.clone(), subscribed: subscribed.clone() }.start();
        Self { addr, published, subscribed }
    }

    /// The fact that it is up.
    pub fn link_up(&self, link: LinkId, broker: &str) -> LinkUp {
        LinkUp {
            link,
            receive_maximum: u16::MAX,
            may_queue: false,
            deliver: self.addr.clone().recipient(),
            broker: broker.to_owned(),
            publish: self.addr.clone().recipient(),
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
        self.subscribed.0.lock().unwrap_or_else(PoisonError::into_inner).push(msg);
    }
}

impl Handler<PublishState> for FakeConnectionActor {
    type Result = MessageResult<PublishState>;

    fn handle(&mut self, msg: PublishState, _: &mut Self::Context) -> Self::Result {
        self.published.0.lock().unwrap_or_else(PoisonError::into_inner).push(msg);
        MessageResult(Ok::<(), Failure>(()))
    }
}
