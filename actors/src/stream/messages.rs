//! What can be said to the [`StreamActor`](super::StreamActor), and what it tells.

use std::{fmt, str::FromStr, sync::Arc};

use actix::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    ids::{CameraId, Seq},
    outbox::{DeliveryChange, EventRecord, OutboxStatus},
    supervisor::ConnectionStatus,
};

/// How far a stream has told of the log: whoever comes back with it is told the rest. As text: `seq-noted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Events up to this place.
    pub seq: Seq,
    /// Deliveries up to this place.
    pub noted: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.noted)
    }
}

/// The text is no position that a stream has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of a message of this stream")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (seq, noted) = text.split_once('-').ok_or(NoPosition)?;
        let place = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).map(Seq).ok_or(NoPosition)
        };
        Ok(Self { seq: place(seq)?, noted: place(noted)? })
    }
}

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
    pub news: News,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
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
    pub(super) messages: mpsc::Receiver<Arc<StreamMessage>>,
    /// Its place among the streams; given back when nobody waits for it any more.
    pub(super) _room: OwnedSemaphorePermit,
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
