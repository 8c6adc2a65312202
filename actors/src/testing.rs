//! Help for tests of actors: peers that record, and waiting until all is quiet.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, Context, Handler, Message};

/// Waits until every actor on this thread is idle. With a paused clock `sleep` returns only then; with a running one it
/// gives them a moment.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
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
    crate::config::ConfigActor,
    crate::connection::ConnectionActor,
    crate::outbox::OutboxActor,
    crate::supervisor::SupervisorActor,
    crate::thumbnails::ThumbnailActor
);

/// An actor that keeps what it is told.
#[derive(Debug)]
pub struct Recorder<M> {
    told: Told<M>,
}

/// What a [`Recorder`] was told.
#[derive(Debug)]
pub struct Told<M>(Arc<Mutex<Vec<M>>>);

impl<M> Clone for Told<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Told<M> {
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
    pub fn start_new() -> (actix::Addr<Self>, Told<M>) {
        let told = Told(Arc::default());
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
