//! Submits messages to the MQTT client, in order, within the broker's limits and the quarantine.

use actix::Context;
use tokio::{sync::oneshot, time::Instant};

use super::{
    ConnectionActor,
    client::{self, Answer, Message},
};
use crate::domain::{
    delivery::DeadReason,
    ids::Seq,
    status::{Failure, FailureKind},
    suspects::MessageRef,
};

/// Receives the result of publishing a state message.
pub type ReplySender = oneshot::Sender<Result<(), Failure>>;

/// A message that was submitted to the client.
#[derive(Debug)]
pub enum Submission {
    Event(Seq),
    State {
        topic: String,
        bytes: usize,
        /// Receives the result.
        reply: Option<ReplySender>,
    },
    /// The last message before a clean disconnect.
    Offline,
}

impl Submission {
    /// Returns how the quarantine identifies the message, or `None` if the message is exempt from it.
    pub fn message_ref(&self) -> Option<MessageRef> {
        match self {
            Self::Event(seq) => Some(MessageRef::Event(*seq)),
            Self::State { topic, bytes, .. } => {
                Some(MessageRef::State { topic: topic.clone(), bytes: *bytes })
            }
            Self::Offline => None,
        }
    }

    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event(_))
    }

    pub fn is_state(&self) -> bool {
        matches!(self, Self::State { .. })
    }
}

/// Why a message was not submitted to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// It is larger than the broker accepts.
    TooLarge,
    /// The client's queue is full.
    Overrun,
}

impl SubmitError {
    /// Converts the error to the failure that the sender of a state message receives.
    pub fn to_failure(self, broker: &str) -> Failure {
        match self {
            Self::TooLarge => {
                Failure::new(FailureKind::Refused, format!("The message is larger than {broker} accepts."))
            }
            Self::Overrun => {
                let message = "Too many messages are waiting for the broker. Try again in a second.";
                Failure::new(FailureKind::Busy, message)
            }
        }
    }
}

/// Converts the broker's answer to the result that the sender of a state message receives.
pub fn state_result(answer: Answer, broker: &str) -> Result<(), Failure> {
    let reason = match answer {
        Answer::Accepted { .. } => return Ok(()),
        Answer::Refused(DeadReason::NotAuthorized) => {
            let message = format!("{broker} does not allow publishing to this topic.");
            return Err(Failure::new(FailureKind::NotAuthorized, message));
        }
        Answer::Refused(reason) => reason.as_str(),
        Answer::Deferred { attempts: None, reason } => {
            let message = format!("{broker} accepts no more messages at the moment ({reason}).");
            return Err(Failure::new(FailureKind::Busy, message));
        }
        Answer::Deferred { attempts: Some(_), reason } => reason,
    };
    Err(Failure::new(FailureKind::Refused, format!("{broker} refused the message ({reason}).")))
}

impl ConnectionActor {
    /// Sends the message within the broker's limits, now or when the quarantine releases it.
    pub(super) fn submit(&mut self, mut message: Message, submission: Submission) -> Result<(), SubmitError> {
        let Some((_, limits)) = &self.session else { return Err(SubmitError::Overrun) };
        message.qos = message.qos.min(limits.maximum_qos);
        message.retain &= limits.retain_available;
        let max = limits.maximum_packet_size.map_or(usize::MAX, |max| max as usize);
        if client::packet_size(&message) > max {
            return Err(SubmitError::TooLarge);
        }
        if self.quarantine.is_empty() {
            return self.send_to_client(message, submission);
        }
        let Some(message_ref) = submission.message_ref() else {
            return self.send_to_client(message, submission);
        };
        match self.quarantine.admit(message_ref, (message, submission), self.packets.len()) {
            Some((message, submission)) => self.send_to_client(message, submission),
            None => Ok(()),
        }
    }

    /// Sends messages that were held back, after the broker answered one.
    pub(super) fn release(&mut self, answered: &Submission, ctx: &mut Context<Self>) {
        if let Some(message_ref) = answered.message_ref() {
            self.quarantine.clear(&message_ref);
        }
        while let Some((message, submission)) = self.quarantine.release_next(self.packets.len()) {
            if self.send_to_client(message, submission).is_err() {
                return self.overran(ctx);
            }
        }
    }

    /// Ends the link. Otherwise, later messages would overtake the one that did not fit; the next link sends
    /// them again, in order.
    pub(super) fn overran(&mut self, ctx: &mut Context<Self>) {
        self.end(Failure::new(FailureKind::Closed, "The MQTT client's queue is full. Reconnecting."), ctx);
    }

    fn send_to_client(&mut self, message: Message, submission: Submission) -> Result<(), SubmitError> {
        let Some((client, _)) = &self.session else { return Err(SubmitError::Overrun) };
        client.publish(message).map_err(|client::Overrun| SubmitError::Overrun)?;
        self.packets.submitted(submission, Instant::now());
        Ok(())
    }

    pub(super) fn submit_state(
        &mut self,
        message: Message,
        reply: Option<ReplySender>,
    ) -> Result<(), SubmitError> {
        let (topic, bytes) = (message.topic.clone(), message.payload.len());
        self.submit(message, Submission::State { topic, bytes, reply })
    }

    /// Returns how many state and test messages wait for the broker.
    pub(super) fn state_count(&self) -> usize {
        let waiting = self.quarantine.waiting().filter(|(_, submission)| submission.is_state());
        self.packets.count(Submission::is_state) + waiting.count()
    }
}
