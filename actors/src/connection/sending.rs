//! Giving messages to the client, in order, as the broker's limits and what is suspected allow it.

use actix::Context;
use tokio::{sync::oneshot, time::Instant};

use super::{
    ConnectionActor,
    client::{self, Message},
};
use crate::domain::{
    ids::Seq,
    status::{Failure, FailureKind},
    suspects::MessageRef,
};

/// What travels under a packet id.
#[derive(Debug)]
pub enum Submission {
    Event(Seq),
    State {
        topic: String,
        bytes: usize,
        /// Told what became of it.
        asker: Option<oneshot::Sender<Result<(), Failure>>>,
    },
    /// The last message before a clean disconnect.
    Offline,
}

impl Submission {
    pub fn travelling(&self) -> Option<MessageRef> {
        match self {
            Self::Event(seq) => Some(MessageRef::Event(*seq)),
            Self::State { topic, bytes, .. } => {
                Some(MessageRef::State { topic: topic.clone(), bytes: *bytes })
            }
            Self::Offline => None,
        }
    }

    pub fn is_state(&self) -> bool {
        matches!(self, Self::State { .. })
    }
}

/// Why a message was not given to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// It is larger than the broker takes.
    TooLarge,
    /// The client's queue is full.
    Overrun,
}

impl ConnectionActor {
    /// Sends the message as the broker's limits allow it, at once or when its turn comes.
    pub(super) fn submit(&mut self, mut message: Message, parcel: Submission) -> Result<(), SubmitError> {
        let Some((_, limits)) = &self.session else { return Err(SubmitError::Overrun) };
        message.qos = message.qos.min(limits.maximum_qos);
        message.retain &= limits.retain_available;
        let max = limits.maximum_packet_size.map_or(usize::MAX, |max| max as usize);
        if client::packet_size(&message) > max {
            return Err(SubmitError::TooLarge);
        }
        if self.isolation.is_over() {
            return self.give(message, parcel);
        }
        let Some(travelling) = parcel.travelling() else { return self.give(message, parcel) };
        match self.isolation.admit(travelling, (message, parcel), self.packets.len()) {
            Some((message, parcel)) => self.give(message, parcel),
            None => Ok(()),
        }
    }

    /// The broker answered: what waited for that may leave.
    pub(super) fn release(&mut self, answered: &Submission, ctx: &mut Context<Self>) {
        if let Some(travelling) = answered.travelling() {
            self.isolation.answered(&travelling);
        }
        while let Some((message, parcel)) = self.isolation.next(self.packets.len()) {
            if self.give(message, parcel).is_err() {
                return self.overran(ctx);
            }
        }
    }

    /// What found no room would be overtaken by the next one: the next link sends it again, in order.
    pub(super) fn overran(&mut self, ctx: &mut Context<Self>) {
        self.end(Failure::new(FailureKind::Closed, "The MQTT client's queue overran."), ctx);
    }

    /// Gives the message to the client.
    fn give(&mut self, message: Message, parcel: Submission) -> Result<(), SubmitError> {
        let Some((client, _)) = &self.session else { return Err(SubmitError::Overrun) };
        client.publish(message).map_err(|client::Overrun| SubmitError::Overrun)?;
        self.packets.given(parcel, Instant::now());
        Ok(())
    }

    pub(super) fn submit_state(
        &mut self,
        message: Message,
        asker: Option<oneshot::Sender<Result<(), Failure>>>,
    ) -> Result<(), SubmitError> {
        let (topic, bytes) = (message.topic.clone(), message.payload.len());
        self.submit(message, Submission::State { topic, bytes, asker })
    }

    /// How many states and tests wait for the broker.
    pub(super) fn states(&self) -> usize {
        let waiting = self.isolation.waiting().filter(|(_, parcel)| parcel.is_state());
        self.packets.count(Submission::is_state) + waiting.count()
    }
}
