//! What can be said to the [`StreamActor`](super::StreamActor), and what it tells.

use actix::Recipient;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use actix::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    domain::{
        delivery::DeliveryChange,
        event_log::{EventRecord, Position},
        ids::{CameraId, Seq},
    },
    messages::{outbox::OutboxStatus, supervisor::ConnectionStatus},
};

/// From the HTTP layer: tell me what happens from now on, and what I missed since `resume`.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Subscription, StreamError>")]
pub struct OpenStream {
    /// Only events of this camera, and their deliveries.
    pub camera_id: Option<CameraId>,
    /// The position that was told last.
    pub resume: Option<Position>,
}

/// Why nothing is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// As many are told as may be.
    #[error("{max} streams are open already, as many as may be")]
    TooMany {
        /// How many may.
        max: usize,
    },
    /// The log cannot be read, or the service is stopping.
    #[error("the log does not answer")]
    NoAnswer,
}

/// What is told, and how far that goes.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamMessage {
    /// To come back with.
    pub position: Position,
    /// What happened.
    pub news: StreamEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// The connection or the outbox stands otherwise.
    Status(Box<(ConnectionStatus, OutboxStatus)>),
    /// An event was accepted; its delivery as it stands by now.
    Event(Box<EventRecord>),
    /// What became of events, in the order of their places. Never empty.
    Deliveries(Vec<DeliveryChange>),
    /// More happened than is told one by one: whoever shows events should ask for them again.
    Reset,
}

/// What one client is told. It ends when the client is too slow, or the service stops.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) messages: mpsc::Receiver<Arc<StreamMessage>>,
    /// Its place among the streams; given back when nobody waits for it any more.
    pub(crate) _room: OwnedSemaphorePermit,
}

impl Subscription {
    /// The next message; `None` at the end. May be given up and asked again.
    pub async fn next(&mut self) -> Option<Arc<StreamMessage>> {
        self.messages.recv().await
    }
}

/// Fact from the outbox, after a commit and only while somebody is told: how far the log goes.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LogMoved {
    /// The last event, and the last checkpoint.
    pub position: Position,
    /// Events whose state changed otherwise: they died, were delivered after they had been dead, or were decided about.
    pub others: Vec<Seq>,
}

/// Notifies the stream actor of changes in the log, but only while at least one stream is open.
#[derive(Debug, Clone)]
pub struct LogWatch {
    active: Arc<AtomicBool>,
    streams: Recipient<LogMoved>,
}

impl LogWatch {
    /// Makes an inactive watch that notifies this stream actor.
    pub fn new(streams: Recipient<LogMoved>) -> Self {
        Self { active: Arc::default(), streams }
    }

    /// Switches notifications on or off, for all clones.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    /// Sends what `moved` returns, which is called only while the watch is active.
    pub fn notify(&self, moved: impl FnOnce() -> LogMoved) {
        if self.active.load(Ordering::Relaxed) {
            #[expect(clippy::disallowed_methods, reason = "one message a commit")]
            self.streams.do_send(moved());
        }
    }
}
