//! The connection: one MQTT session over one network connection.
//!
//! The actor owns the MQTT client for the duration of the session. It never reconnects: when the connection
//! is lost, the broker stops responding, or the client fails or panics, the actor reports the reason and
//! ends. Its state ends with it. It publishes `online` after the login, and `offline` before it closes on
//! request. When the connection is lost, the broker publishes `offline` (the will).

pub(crate) mod client;
pub(crate) mod dial;
mod packets;
pub mod probe;
mod quarantine;
pub(crate) mod reason;
mod sending;
mod warnings;

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, AsyncContext as _, Context, Handler, Recipient, ResponseFuture, StreamHandler,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::oneshot, time::Instant};

use self::{
    client::{Accepted, Answer, Client, Ended, Event, Limits, Message, SessionOptions},
    dial::SessionTransport,
    packets::Packets,
    quarantine::Quarantine,
    sending::{Submission, SubmitError},
};
use crate::{
    domain::{
        delivery::{DeadReason, Outcome},
        ids::{LinkId, Seq},
        mqtt_version::{Version, VersionPolicy},
        settings::{MqttSettings, QoS},
        status::{Failure, FailureKind},
        suspects::Suspects,
    },
    messages::{
        connection::{Arrived, Close, Deliver, Outgoing, PublishState, Subscribe},
        link::{Answered, LinkDown, LinkUp},
        supervisor::{Connected, ConnectionEnded},
    },
};

/// Maximum number of client events that are handled together. Their acknowledgements are sent to the outbox
/// in one message.
const EVENTS_AT_ONCE: usize = 256;

/// How often to check whether the broker still responds.
const SILENCE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How long closing may take, including the messages in flight and the `offline` message. After that the
/// socket is dropped, and the broker publishes the will.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of state and test messages that wait for the broker. The client's queue has room for them
/// in addition to the events.
const MAX_STATE_MESSAGES: usize = 32;

/// Maximum number of subscriptions; more than the service uses.
const MAX_SUBSCRIPTIONS: usize = 8;

/// State and test messages are always acknowledged, whatever the QoS of events.
const STATE_QOS: QoS = QoS::AtLeastOnce;

/// The actors that a connection notifies.
#[derive(Debug, Clone)]
pub struct Peers {
    /// Notified when the broker accepts the login.
    pub connected: Recipient<Connected>,
    /// Notified, once, when the connection has ended.
    pub ended: Recipient<ConnectionEnded>,
    /// Notified when events can be delivered.
    pub link_up: Vec<Recipient<LinkUp>>,
    /// Notified when events can no longer be delivered.
    pub link_down: Vec<Recipient<LinkDown>>,
    /// Receives the broker's answers.
    pub answered: Recipient<Answered>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct ConnectionActor {
    link: LinkId,
    settings: Arc<MqttSettings>,
    peers: Peers,
    /// Which MQTT versions to try.
    version_policy: VersionPolicy,
    /// Maximum number of events in flight.
    window: u16,
    /// Set once the login is accepted.
    session: Option<(Client, Limits)>,
    version: Version,
    /// Whether the broker has answered any event.
    answered_event: bool,
    /// When something was last received.
    heard_at: Instant,
    transport: SessionTransport,
    packets: Packets<Submission>,
    quarantine: Quarantine<(Message, Submission)>,
    /// At most [`MAX_SUBSCRIPTIONS`].
    subscribers: Vec<Subscribe>,
    closing: bool,
    failure: Option<Failure>,
    /// Whether the broker closed the connection without giving a reason.
    closed_by_broker: bool,
}

impl ConnectionActor {
    /// Creates a connection; it connects when the actor is started. `suspects` are messages that may have
    /// broken earlier connections.
    pub fn new(
        link: LinkId,
        settings: Arc<MqttSettings>,
        version_policy: VersionPolicy,
        suspects: Suspects,
        window: u16,
        peers: Peers,
    ) -> Self {
        Self {
            link,
            settings,
            peers,
            version_policy,
            window,
            session: None,
            version: version_policy.first(),
            answered_event: false,
            heard_at: Instant::now(),
            transport: SessionTransport::default(),
            packets: Packets::default(),
            quarantine: Quarantine::new(suspects),
            subscribers: Vec::new(),
            closing: false,
            failure: None,
            closed_by_broker: false,
        }
    }

    fn end(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        // While closing, the loss of the connection is not a failure.
        if !self.closing {
            self.failure.get_or_insert(failure);
        }
        ctx.stop();
    }

    /// See [`ConnectionEnded::closed_on_qos2`].
    fn closed_on_qos2(&self, failure: Option<&Failure>) -> bool {
        let qos = self.session.as_ref().map(|(_, limits)| self.settings.qos.min(limits.maximum_qos));
        self.version == Version::V311
            && qos == Some(QoS::ExactlyOnce)
            && failure.is_some_and(|failure| failure.kind == FailureKind::Closed)
            && !self.answered_event
            && self.packets.count(Submission::is_event) > 0
    }

    fn availability(&self, text: &str) -> Message {
        Message {
            topic: self.settings.availability_topic(),
            payload: Bytes::from(text.to_owned()),
            qos: STATE_QOS,
            retain: true,
            expiry_seconds: None,
        }
    }

    fn on_accepted(&mut self, accepted: Accepted, ctx: &mut Context<Self>) {
        let Accepted { client, version, refused, limits } = accepted;
        self.session = Some((client, limits));
        self.version = version;
        let birth = self.availability(&self.settings.birth_message);
        if let Err(reason) = self.submit_state(birth, None) {
            tracing::warn!(?reason, "could not publish the birth message");
        }
        let warnings = warnings::unsupported(&self.settings, limits);
        let link = self.link;
        let certificate_ends =
            self.transport.secured().and_then(|secured| Some(secured.certificate?.not_after));
        let connected = Connected { link, version, refused, warnings, certificate_ends };
        #[expect(clippy::disallowed_methods, reason = "one message per connection")]
        self.peers.connected.do_send(connected);
        for peer in &self.peers.link_up {
            let me = ctx.address();
            let link_up = LinkUp {
                link,
                receive_maximum: limits.receive_maximum,
                may_queue: limits.client_queues_excess,
                reports_subscribers: version == Version::V5 && limits.maximum_qos != QoS::AtMostOnce,
                deliver: me.clone().recipient(),
                broker: self.settings.broker(),
                publish: me.clone().recipient(),
                subscribe: me.recipient(),
            };
            #[expect(clippy::disallowed_methods, reason = "one message per connection")]
            peer.do_send(link_up);
        }
    }

    /// Handles a client event. Returns the event and its outcome if the broker answered an event from
    /// the event log.
    fn handle_event(&mut self, event: Event, ctx: &mut Context<Self>) -> Option<(Seq, Outcome)> {
        let now = Instant::now();
        if !matches!(event, Event::Sent(_) | Event::Ping | Event::Ignored) {
            self.heard_at = now;
        }
        let answered = match event {
            Event::Accepted(accepted) => {
                self.on_accepted(accepted, ctx);
                None
            }
            Event::Sent(packet_id) => {
                let answer = Answer::Accepted { unheard: false };
                self.packets.sent(packet_id, now).map(|submission| (submission, answer))
            }
            Event::Received { packet_id, unheard } => {
                self.packets.received(packet_id, unheard, now);
                None
            }
            Event::Answered(packet_id, answer) => self.packets.answered(packet_id, answer, now),
            Event::Ping => {
                self.packets.pinged(now);
                None
            }
            Event::Arrived { topic, payload } => {
                self.packets.alive();
                self.forward(&topic, payload);
                None
            }
            Event::Subscribed(granted) => {
                self.packets.alive();
                if !granted {
                    tracing::warn!(
                        "the broker refused a subscription; restarts of Home Assistant, or foreign messages on the \
                         availability topic, will go unnoticed"
                    );
                }
                None
            }
            Event::Alive => {
                self.packets.alive();
                None
            }
            Event::Ignored => None,
        };
        let (submission, answer) = answered?;
        // `offline` must be the last message.
        if !self.quarantine.is_empty() && !self.closing {
            self.release(&submission, ctx);
        }
        self.on_answer(submission, answer)
    }

    fn on_answer(&mut self, submission: Submission, answer: Answer) -> Option<(Seq, Outcome)> {
        match submission {
            Submission::Event(seq) => {
                self.answered_event = true;
                Some((seq, to_outcome(answer)))
            }
            Submission::State { reply, .. } => {
                if let Some(reply) = reply {
                    // The sender may have stopped waiting.
                    let _gone = reply.send(sending::state_result(answer, &self.settings.broker()));
                }
                None
            }
            Submission::Offline => {
                if let Some((client, _)) = &self.session
                    && let Err(error) = client.disconnect(CLOSE_TIMEOUT)
                {
                    tracing::debug!(%error, "no room for a clean disconnect");
                }
                None
            }
        }
    }

    fn check_silence(&mut self, ctx: &mut Context<Self>) {
        let bound = self.settings.ack_timeout_seconds;
        if self.packets.silent_for(Instant::now()) >= Duration::from_secs(bound.into()) {
            self.end(reason::stalled(&self.settings.broker(), bound), ctx);
        }
    }

    /// Forwards a message to the subscribers of its topic.
    fn forward(&self, topic: &[u8], payload: Bytes) {
        let Ok(topic) = std::str::from_utf8(topic) else { return };
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.topic == topic) {
            let arrived = Arrived { link: self.link, topic: topic.to_owned(), payload: payload.clone() };
            // Dropping it is harmless: a subscriber with a full mailbox already has plenty of these messages.
            let _full = subscriber.to.try_send(arrived);
        }
    }

    fn report_answers(&self, outcomes: Vec<(Seq, Outcome)>) {
        if !outcomes.is_empty() {
            #[expect(clippy::disallowed_methods, reason = "bounded by the window")]
            self.peers.answered.do_send(Answered { link: self.link, outcomes });
        }
    }
}

fn to_outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Accepted { unheard } => Outcome::Delivered { unheard },
        Answer::Refused(reason) => Outcome::Refused(reason),
        Answer::Deferred { reason, attempts } => Outcome::Deferred { reason, attempts },
    }
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let options = SessionOptions {
            client_id: self.settings.client_id.clone(),
            will: Some(self.availability(&self.settings.will_message)),
            capacity: self.window,
            transport: self.transport.clone(),
        };
        let events = client::open(&self.settings, options, self.version_policy);
        ctx.add_stream(events.ready_chunks(EVENTS_AT_ONCE));
        ctx.run_interval(SILENCE_CHECK_INTERVAL, Self::check_silence);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        // Runs however the actor ends, even after a panic. This is the only place that reports the end; it
        // must not panic itself.
        let failure = if std::thread::panicking() { Some(reason::panicked()) } else { self.failure.take() };
        let closed_on_qos2 = self.closed_on_qos2(failure.as_ref());
        let kind = failure.as_ref().map(|failure| failure.kind);
        let mut quarantine = std::mem::replace(&mut self.quarantine, Quarantine::new(Suspects::default()));
        let mut sole_suspect = None;
        if self.session.is_some() && kind == Some(FailureKind::Protocol) {
            let in_flight = self.packets.all().filter_map(Submission::message_ref).collect();
            sole_suspect = quarantine.link_broke(in_flight);
        }
        let suspects = quarantine.into_suspects();
        let link = self.link;
        for peer in &self.peers.link_down {
            #[expect(clippy::disallowed_methods, reason = "one message per connection")]
            peer.do_send(LinkDown { link, failure: kind, sole_suspect: sole_suspect.clone() });
        }
        let closed = self.closed_by_broker;
        #[expect(clippy::disallowed_methods, reason = "one message per connection")]
        self.peers.ended.do_send(ConnectionEnded {
            link,
            failure,
            closed,
            idle: self.heard_at.elapsed(),
            closed_on_qos2,
            suspects,
        });
    }
}

impl StreamHandler<Vec<Result<Event, Ended>>> for ConnectionActor {
    fn handle(&mut self, events: Vec<Result<Event, Ended>>, ctx: &mut Self::Context) {
        let mut outcomes = Vec::new();
        let mut end = None;
        for event in events {
            match event {
                Ok(event) => outcomes.extend(self.handle_event(event, ctx)),
                Err(ended) => end = Some(ended),
            }
        }
        // Answers that arrived before the end still count.
        self.report_answers(outcomes);
        if let Some(Ended { failure, closed, .. }) = end {
            self.closed_by_broker = closed;
            self.end(failure, ctx);
        }
    }
}

impl Handler<Deliver> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, Deliver(events): Deliver, ctx: &mut Self::Context) {
        if self.closing {
            return;
        }
        let mut refused = Vec::new();
        for event in events {
            let Outgoing { seq, topic, payload, qos, retain, expiry_seconds } = event;
            let message = Message { topic, payload, qos, retain, expiry_seconds };
            match self.submit(message, Submission::Event(seq)) {
                Ok(()) => {}
                Err(SubmitError::TooLarge) => {
                    refused.push((seq, Outcome::Refused(DeadReason::PacketTooLarge)));
                }
                Err(SubmitError::Overrun) => {
                    self.overran(ctx);
                    break;
                }
            }
        }
        self.report_answers(refused);
    }
}

impl Handler<PublishState> for ConnectionActor {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, msg: PublishState, _: &mut Self::Context) -> Self::Result {
        let (reply, result) = oneshot::channel();
        let PublishState { topic, payload, retain } = msg;
        let message = Message { topic, payload, qos: STATE_QOS, retain, expiry_seconds: None };
        let submitted = if self.state_count() >= MAX_STATE_MESSAGES {
            Err(SubmitError::Overrun)
        } else {
            self.submit_state(message, Some(reply))
        };
        if let Err(error) = submitted {
            let failure = error.to_failure(&self.settings.broker());
            return Box::pin(async { Err(failure) });
        }
        Box::pin(async {
            result.await.unwrap_or_else(|_| {
                Err(Failure::new(
                    FailureKind::Closed,
                    "The connection was lost before the broker acknowledged the message.",
                ))
            })
        })
    }
}

impl Handler<Subscribe> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, msg: Subscribe, _: &mut Self::Context) {
        let Some((client, _)) = self.session.as_ref().filter(|_| !self.closing) else { return };
        if self.subscribers.len() >= MAX_SUBSCRIPTIONS || client.subscribe(&msg.topic).is_err() {
            tracing::warn!(topic = msg.topic, "too many subscriptions");
            return;
        }
        self.subscribers.push(msg);
    }
}

impl Handler<Close> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        if self.session.is_none() {
            return ctx.stop();
        }
        let offline = self.availability(&self.settings.will_message);
        if self.submit(offline, Submission::Offline).is_err() {
            return ctx.stop();
        }
        ctx.run_later(CLOSE_TIMEOUT, |_, ctx| ctx.stop());
    }
}

#[cfg(test)]
mod tests;
