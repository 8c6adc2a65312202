//! The messages that `StreamActor` handles, and those that it sends to its subscribers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix::{Message, Recipient};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    domain::{
        delivery::DeliveryChange,
        event_log::{EventRecord, Position},
        ids::{CameraId, Seq},
    },
    messages::{outbox::OutboxStatus, supervisor::ConnectionStatus},
};

/// From the HTTP layer: subscribes to future events, and to those that were missed since `resume`.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Subscription, StreamError>")]
pub struct OpenStream {
    /// Restricts the stream to the events of this camera and their deliveries.
    pub camera_id: Option<CameraId>,
    /// The position of the last message that the client received.
    pub resume: Option<Position>,
}

/// Why a stream was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The maximum number of streams is open.
    #[error("{max} streams are already open, which is the maximum; close one, or try again later")]
    TooMany {
        /// The maximum number.
        max: usize,
    },
    /// The event log cannot be read, or the service is stopping.
    #[error("the event log cannot be read at the moment")]
    Unavailable,
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamMessage {
    /// Where to resume the stream after this message.
    pub position: Position,
    /// What happened.
    pub event: StreamEvent,
}

/// The kinds of messages in a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// The connection status or the outbox status changed.
    Status(Box<(ConnectionStatus, OutboxStatus)>),
    /// An event was accepted. The record contains its current delivery state.
    Event(Box<EventRecord>),
    /// The delivery state of these events changed. The list is in the order of their positions and never
    /// empty.
    Deliveries(Vec<DeliveryChange>),
    /// Too much happened to report each event. Clients that show events should request them again.
    Reset,
    /// The settings have this revision now. Also sent at the beginning of a stream.
    Settings(String),
}

/// A message in the queue of one client.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: Arc<StreamMessage>,
    /// The memory of the messages that this client missed; returned with the last of them.
    pub(crate) _missed: Option<Arc<OwnedSemaphorePermit>>,
}

/// The messages for one client. They end when the client is too slow or the service stops.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) messages: mpsc::Receiver<Queued>,
    /// Counts this stream until the client drops it.
    pub(crate) _slot: OwnedSemaphorePermit,
}

impl Subscription {
    /// Waits for the next message. Returns `None` at the end of the stream. This method is cancel safe.
    pub async fn next(&mut self) -> Option<Arc<StreamMessage>> {
        Some(self.messages.recv().await?.message)
    }
}

/// Fact, from the outbox: the event log changed. Sent after a commit, and only while a stream is open.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LogMoved {
    /// The end of the log: its last event and its last checkpoint.
    pub position: Position,
    /// Events whose state changed without the checkpoint: they became dead, were delivered ahead of it or after they
    /// had been dead, or were retried or dismissed.
    pub others: Vec<Seq>,
}

/// Notifies the stream actor of changes in the log, but only while at least one stream is open.
#[derive(Debug, Clone)]
pub struct LogWatch {
    active: Arc<AtomicBool>,
    streams: Recipient<LogMoved>,
}

impl LogWatch {
    /// Creates an inactive watch that notifies this stream actor.
    pub fn new(streams: Recipient<LogMoved>) -> Self {
        Self { active: Arc::default(), streams }
    }

    /// Turns notifications on or off, for all clones.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    /// Sends the message that `moved` creates. While the watch is inactive, `moved` is not called.
    pub fn notify(&self, moved: impl FnOnce() -> LogMoved) {
        if self.active.load(Ordering::Relaxed) {
            #[expect(clippy::disallowed_methods, reason = "one message per commit")]
            self.streams.do_send(moved());
        }
    }
}

/// Fact, from the config actor: the settings have this revision now.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SettingsRevised(pub String);
