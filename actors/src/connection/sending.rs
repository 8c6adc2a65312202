//! Submits messages to the MQTT client, in order, within the broker's limits and the poison rule.

use actix::Context;
use tokio::{sync::oneshot, time::Instant};

use super::{
    ConnectionActor,
    client::{self, Answer, Message},
    send_queue::Queued,
};
use crate::domain::{
    delivery::DeadReason,
    ids::Seq,
    poison::{Cause, MessageRef},
    settings::QoS,
    status::{Failure, FailureKind},
};

/// Receives the result of publishing a state message: see [`PublishState`](crate::messages::connection::PublishState).
pub type ReplySender = oneshot::Sender<Result<Option<bool>, Failure>>;

/// What is done with the broker's answer.
#[derive(Debug)]
pub enum Purpose {
    /// It settles an event.
    Event(Seq),
    /// It is passed to the sender of a state or test message.
    State(ReplySender),
    /// It is passed to the sender of a replayed event.
    Replay(ReplySender),
    /// It completes the login.
    Birth,
    /// The connection is closed: this is the last message before a clean disconnect.
    Offline,
}

/// A message that was submitted to the client.
#[derive(Debug)]
pub struct Submission {
    pub purpose: Purpose,
    pub message_ref: MessageRef,
}

impl Submission {
    pub fn new(purpose: Purpose, message: &Message) -> Self {
        let seq = if let Purpose::Event(seq) = purpose { Some(seq) } else { None };
        let (topic, bytes) = (message.topic.clone(), message.payload.len());
        Self { purpose, message_ref: MessageRef { seq, topic, bytes } }
    }

    pub fn is_event(&self) -> bool {
        self.message_ref.seq.is_some()
    }

    pub fn is_replay(&self) -> bool {
        matches!(self.purpose, Purpose::Replay(_))
    }

    pub fn is_offline(&self) -> bool {
        matches!(self.purpose, Purpose::Offline)
    }
}

impl Queued for (Message, Submission) {
    fn message_ref(&self) -> &MessageRef {
        &self.1.message_ref
    }
}

/// Why a message was not submitted to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// It is larger than the broker accepts.
    TooLarge,
    /// It is left out, for this reason.
    LeftOut(Cause),
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
            Self::LeftOut(_) => Failure::new(
                FailureKind::Refused,
                format!(
                    "The message is left out, because {broker} ends the connection over it or does not \
                     acknowledge it."
                ),
            ),
            Self::Overrun => {
                let message = "Too many messages are waiting for the broker. Try again in a second.";
                Failure::new(FailureKind::Busy, message)
            }
        }
    }

    /// Returns why an event that was not submitted is dead, unless it can be sent on the next connection.
    pub fn dead_reason(self) -> Option<DeadReason> {
        match self {
            Self::TooLarge => Some(DeadReason::PacketTooLarge),
            Self::LeftOut(cause) => Some(cause.dead_reason()),
            Self::Overrun => None,
        }
    }
}

/// Converts the broker's answer to a result: whether the message had a subscriber, as far as the broker reports this.
pub fn state_result(answer: Answer, broker: &str) -> Result<bool, Failure> {
    let reason = match answer {
        Answer::Accepted { unheard } => return Ok(!unheard),
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
    /// Sends the message within the broker's limits, now or when it is its turn.
    pub(super) fn submit(
        &mut self,
        mut message: Message,
        purpose: Purpose,
        now: Instant,
    ) -> Result<(), SubmitError> {
        let Some((_, limits)) = &self.session else { return Err(SubmitError::Overrun) };
        message.qos = message.qos.min(limits.maximum_qos);
        message.retain &= limits.retain_available;
        let max = limits.maximum_packet_size.map_or(usize::MAX, |max| max as usize);
        if client::packet_size(&message) > max {
            return Err(SubmitError::TooLarge);
        }
        let submission = Submission::new(purpose, &message);
        if !self.queue.poison.is_empty()
            && let Some(cause) = self.queue.poison.verdict(&submission.message_ref, now.into_std())
        {
            return Err(SubmitError::LeftOut(cause));
        }
        let is_last = matches!(submission.purpose, Purpose::Offline);
        if is_last || (self.queue.is_open(self.packets.len()) && self.gate.is_open()) {
            return self.send_to_client(message, submission, now);
        }
        self.queue.push((message, submission), now);
        Ok(())
    }

    /// Sends the messages whose turn it is, unless another node may own the event log. They then wait for the next
    /// check; events that have waited for too long are given back.
    pub(super) fn release(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        // `offline` must be the last message.
        while !self.closing
            && self.gate.is_open()
            && let Some((message, submission)) = self.queue.next(self.packets.len(), now)
        {
            if self.send_to_client(message, submission, now).is_err() {
                return self.overran(ctx);
            }
        }
        self.check_soon(ctx);
    }

    /// Ends the link. Otherwise, later messages would overtake the one that did not fit; the next link sends
    /// them again, in order.
    pub(super) fn overran(&mut self, ctx: &mut Context<Self>) {
        self.end(Failure::new(FailureKind::Closed, "The MQTT client's queue is full. Reconnecting."), ctx);
    }

    fn send_to_client(
        &mut self,
        message: Message,
        submission: Submission,
        now: Instant,
    ) -> Result<(), SubmitError> {
        let Some((client, _)) = &self.session else { return Err(SubmitError::Overrun) };
        client.publish(message).map_err(|client::Overrun| SubmitError::Overrun)?;
        self.packets.submitted(submission, now);
        Ok(())
    }

    /// Returns how many messages the client may have. Without acknowledgements (QoS 0), the socket is the
    /// limit; the client writes several messages at once.
    pub(super) fn client_limit(&self, limits: client::Limits) -> usize {
        let limit = usize::from(limits.receive_maximum);
        let is_unacknowledged = self.settings.qos.min(limits.maximum_qos) == QoS::AtMostOnce;
        if is_unacknowledged { limit.max(client::BATCH) } else { limit }
    }

    /// Returns how many state and test messages wait for the broker.
    pub(super) fn state_count(&self) -> usize {
        self.count(|submission| !submission.is_event() && !submission.is_replay())
    }

    /// Returns how many replayed events wait for the broker.
    pub(super) fn replay_count(&self) -> usize {
        self.count(Submission::is_replay)
    }

    fn count(&self, is_counted: impl Fn(&Submission) -> bool) -> usize {
        let waiting = self.queue.waiting().filter(|(_, submission)| is_counted(submission));
        waiting.count() + self.packets.count(&is_counted)
    }
}
