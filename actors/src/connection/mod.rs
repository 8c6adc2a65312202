//! The connection: one MQTT session over one network connection.
//!
//! Owns the client while the session lasts. It never reconnects: when the connection is lost, the broker falls silent, or
//! the client fails or panics, it says why and ends; no state survives in it. It says `online` when it comes up and
//! `offline` before it is closed as asked; when it is lost, the broker says so for it (the will).

pub(crate) mod client;
pub(crate) mod dial;
mod packets;
pub mod probe;
mod quarantine;
pub(crate) mod reason;
mod sending;

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
        status::{Failure, FailureKind, Warning},
        suspects::Suspects,
    },
    messages::{
        connection::{Arrived, Close, Deliver, Outgoing, PublishState, Subscribe},
        link::{Answered, LinkDown, LinkUp},
        supervisor::{Connected, ConnectionEnded},
    },
};

/// Events of the client that are handled in one go: their acknowledgements reach the outbox in one message.
const EVENTS_AT_ONCE: usize = 256;

/// How often to look whether the broker has fallen silent.
const SILENCE_CHECK: Duration = Duration::from_millis(500);

/// How long a close may take: the `offline` message, and what is in flight before it. Past it the socket is dropped, and
/// the broker publishes the will.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// States and tests that may wait for the broker at a time; the client's queue has room for them beside the events.
const MAX_STATES: usize = 32;

/// More than anybody here subscribes to.
const MAX_SUBSCRIPTIONS: usize = 8;

/// State and tests are acknowledged messages, whatever the QoS of events.
const STATE_QOS: QoS = QoS::AtLeastOnce;

/// Whom a connection tells what.
#[derive(Debug, Clone)]
pub struct Peers {
    /// Told when the login was accepted.
    pub connected: Recipient<Connected>,
    /// Told, once, when the connection is over.
    pub ended: Recipient<ConnectionEnded>,
    /// Told when events can be delivered.
    pub link_up: Vec<Recipient<LinkUp>>,
    /// Told when they cannot any more.
    pub link_down: Vec<Recipient<LinkDown>>,
    /// Told the broker's answers.
    pub answered: Recipient<Answered>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct ConnectionActor {
    link: LinkId,
    settings: Arc<MqttSettings>,
    peers: Peers,
    /// Which MQTT to try.
    approach: VersionPolicy,
    /// How many events may be in flight.
    window: u16,
    /// There once the login is accepted.
    session: Option<(Client, Limits)>,
    version: Version,
    /// Whether the broker has answered an event.
    answered_event: bool,
    /// What carries it.
    line: SessionTransport,
    packets: Packets<Submission>,
    isolation: Quarantine<(Message, Submission)>,
    /// Who is told what arrives on which topic; at most [`MAX_SUBSCRIPTIONS`].
    subscribers: Vec<Subscribe>,
    closing: bool,
    failure: Option<Failure>,
    /// Whether the broker ended it, without a word.
    closed_by_broker: bool,
}

impl ConnectionActor {
    /// A connection that begins when the actor is started. `suspects`: what earlier ones say may have broken them.
    pub fn new(
        link: LinkId,
        settings: Arc<MqttSettings>,
        approach: VersionPolicy,
        suspects: Suspects,
        window: u16,
        peers: Peers,
    ) -> Self {
        Self {
            link,
            settings,
            peers,
            approach,
            window,
            session: None,
            version: approach.first(),
            answered_event: false,
            line: SessionTransport::default(),
            packets: Packets::default(),
            isolation: Quarantine::new(suspects),
            subscribers: Vec::new(),
            closing: false,
            failure: None,
            closed_by_broker: false,
        }
    }

    fn end(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        // While closing, a lost connection is what was asked for.
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
            && self.packets.count(|parcel| matches!(parcel, Submission::Event(_))) > 0
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

    fn accepted(&mut self, accepted: Accepted, ctx: &mut Context<Self>) {
        let Accepted { client, version, refused, limits } = accepted;
        self.session = Some((client, limits));
        self.version = version;
        let birth = self.availability(&self.settings.birth_message);
        if let Err(why) = self.submit_state(birth, None) {
            tracing::warn!(?why, "the birth message could not be published");
        }
        let warnings = broker_warnings(&self.settings, limits);
        let link = self.link;
        let certificate_ends = self.line.secured().and_then(|secured| Some(secured.certificate?.not_after));
        let connected = Connected { link, version, refused, warnings, certificate_ends };
        #[expect(clippy::disallowed_methods, reason = "one message a connection")]
        self.peers.connected.do_send(connected);
        for peer in &self.peers.link_up {
            let me = ctx.address();
            let link_up = LinkUp {
                link,
                receive_maximum: limits.receive_maximum,
                may_queue: limits.is_kept,
                deliver: me.clone().recipient(),
                broker: self.settings.broker(),
                publish: me.clone().recipient(),
                subscribe: me.recipient(),
            };
            #[expect(clippy::disallowed_methods, reason = "one message a connection")]
            peer.do_send(link_up);
        }
    }

    /// What an event of the client means; an answer to an event of ours is returned.
    fn happened(&mut self, event: Event, ctx: &mut Context<Self>) -> Option<(Seq, Outcome)> {
        let now = Instant::now();
        let answered = match event {
            Event::Accepted(accepted) => {
                self.accepted(accepted, ctx);
                None
            }
            Event::Sent(packet_id) => {
                let answer = Answer::Accepted { unheard: false };
                self.packets.sent(packet_id, now).map(|parcel| (parcel, answer))
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
                self.tell_arrived(&topic, payload);
                None
            }
            Event::Subscribed(granted) => {
                self.packets.alive();
                if !granted {
                    tracing::warn!(
                        "the broker does not permit a subscription; Home Assistant's start is not noticed"
                    );
                }
                None
            }
            Event::Alive => {
                self.packets.alive();
                None
            }
            Event::Nothing => None,
        };
        let (parcel, answer) = answered?;
        // `offline` is the last to leave.
        if !self.isolation.is_over() && !self.closing {
            self.release(&parcel, ctx);
        }
        self.arrived(parcel, answer)
    }

    fn arrived(&mut self, parcel: Submission, answer: Answer) -> Option<(Seq, Outcome)> {
        match parcel {
            Submission::Event(seq) => {
                self.answered_event = true;
                Some((seq, outcome(answer)))
            }
            Submission::State { asker, .. } => {
                if let Some(asker) = asker {
                    // Whoever asked may have stopped waiting.
                    let _gone = asker.send(self.state_answer(answer));
                }
                None
            }
            Submission::Offline => {
                if let Some((client, _)) = &self.session
                    && let Err(error) = client.disconnect(CLOSE_PATIENCE)
                {
                    tracing::debug!(%error, "no room for a clean disconnect");
                }
                None
            }
        }
    }

    fn state_answer(&self, answer: Answer) -> Result<(), Failure> {
        let reason = match answer {
            Answer::Accepted { .. } => return Ok(()),
            Answer::Refused(DeadReason::NotAuthorized) => {
                return Err(Failure::new(
                    FailureKind::NotAuthorized,
                    format!("{} does not permit publishing to this topic.", self.settings.broker()),
                ));
            }
            Answer::Refused(reason) => reason.as_str(),
            Answer::Deferred { attempts: None, reason } => {
                let message = format!("{} takes no more for now ({reason}).", self.settings.broker());
                return Err(Failure::new(FailureKind::Busy, message));
            }
            Answer::Deferred { attempts: Some(_), reason } => reason,
        };
        let message = format!("{} refused the message ({reason}).", self.settings.broker());
        Err(Failure::new(FailureKind::Refused, message))
    }

    fn check_silence(&mut self, ctx: &mut Context<Self>) {
        let bound = self.settings.ack_timeout_seconds;
        if self.packets.silent_for(Instant::now()) >= Duration::from_secs(bound.into()) {
            self.end(reason::stalled(&self.settings.broker(), bound), ctx);
        }
    }

    fn tell_arrived(&self, topic: &[u8], payload: Bytes) {
        let Ok(topic) = std::str::from_utf8(topic) else { return };
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.topic == topic) {
            let arrived = Arrived { link: self.link, topic: topic.to_owned(), payload: payload.clone() };
            // A subscriber that is behind by a mailbox has heard enough of the same.
            let _full = subscriber.to.try_send(arrived);
        }
    }

    fn tell_answered(&self, outcomes: Vec<(Seq, Outcome)>) {
        if !outcomes.is_empty() {
            #[expect(clippy::disallowed_methods, reason = "bounded by the window")]
            self.peers.answered.do_send(Answered { link: self.link, outcomes });
        }
    }
}

fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Accepted { unheard } => Outcome::Delivered { unheard },
        Answer::Refused(reason) => Outcome::Refused(reason),
        Answer::Deferred { reason, attempts } => Outcome::Deferred { reason, attempts },
    }
}

/// What the broker cannot do as the settings ask.
fn broker_warnings(settings: &MqttSettings, limits: Limits) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if settings.qos > limits.maximum_qos {
        warnings.push(Warning {
            kind: "qos_lowered",
            message: format!(
                "The broker takes QoS {} at most; events are sent with that instead of QoS {}.",
                limits.maximum_qos.level(),
                settings.qos.level()
            ),
        });
    }
    if !limits.retain_available {
        warnings.push(Warning {
            kind: "retain_unavailable",
            message:
                "The broker keeps no retained messages: a subscriber that comes later does not see the state."
                    .to_owned(),
        });
    }
    warnings
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let options = SessionOptions {
            client_id: self.settings.client_id.clone(),
            will: Some(self.availability(&self.settings.will_message)),
            capacity: self.window,
            line: self.line.clone(),
        };
        let events = client::open(&self.settings, options, self.approach);
        ctx.add_stream(events.ready_chunks(EVENTS_AT_ONCE));
        ctx.run_interval(SILENCE_CHECK, Self::check_silence);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        // Runs at every end, also at a panic: the one place that tells. It must not panic itself.
        let failure = if std::thread::panicking() { Some(reason::panicked()) } else { self.failure.take() };
        let closed_on_qos2 = self.closed_on_qos2(failure.as_ref());
        let kind = failure.as_ref().map(|failure| failure.kind);
        let mut isolation = std::mem::replace(&mut self.isolation, Quarantine::new(Suspects::default()));
        let mut alone = None;
        if self.session.is_some() && kind == Some(FailureKind::Protocol) {
            let in_flight = self.packets.all().filter_map(Submission::travelling).collect();
            alone = isolation.broke(in_flight);
        }
        let suspects = isolation.suspects();
        let link = self.link;
        for peer in &self.peers.link_down {
            #[expect(clippy::disallowed_methods, reason = "one message a connection")]
            peer.do_send(LinkDown { link, failure: kind, alone: alone.clone() });
        }
        let closed = self.closed_by_broker;
        #[expect(clippy::disallowed_methods, reason = "one message a connection")]
        self.peers.ended.do_send(ConnectionEnded { link, failure, closed, closed_on_qos2, suspects });
    }
}

impl StreamHandler<Vec<Result<Event, Ended>>> for ConnectionActor {
    fn handle(&mut self, events: Vec<Result<Event, Ended>>, ctx: &mut Self::Context) {
        let mut outcomes = Vec::new();
        let mut end = None;
        for event in events {
            match event {
                Ok(event) => outcomes.extend(self.happened(event, ctx)),
                Err(ended) => end = Some(ended),
            }
        }
        // What was acknowledged before the end is acknowledged.
        self.tell_answered(outcomes);
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
                    refused.push((seq, Outcome::Refused(DeadReason::PacketTooLarge)))
                }
                Err(SubmitError::Overrun) => {
                    self.overran(ctx);
                    break;
                }
            }
        }
        self.tell_answered(refused);
    }
}

impl Handler<PublishState> for ConnectionActor {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, msg: PublishState, _: &mut Self::Context) -> Self::Result {
        let (asker, answer) = oneshot::channel();
        let PublishState { topic, payload, retain } = msg;
        let message = Message { topic, payload, qos: STATE_QOS, retain, expiry_seconds: None };
        let given = if self.states() >= MAX_STATES {
            Err(SubmitError::Overrun)
        } else {
            self.submit_state(message, Some(asker))
        };
        if let Err(why) = given {
            let failure = match why {
                SubmitError::TooLarge => {
                    let message = format!("The message is larger than {} takes.", self.settings.broker());
                    Failure::new(FailureKind::Refused, message)
                }
                SubmitError::Overrun => {
                    let message = "Too many messages wait for the broker; try again in a second.";
                    Failure::new(FailureKind::Busy, message)
                }
            };
            return Box::pin(async { Err(failure) });
        }
        Box::pin(async {
            answer.await.unwrap_or_else(|_| {
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
            tracing::warn!(topic = msg.topic, "no room for a subscription");
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
        ctx.run_later(CLOSE_PATIENCE, |_, ctx| ctx.stop());
    }
}

#[cfg(test)]
mod tests;
