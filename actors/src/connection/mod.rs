//! The connection: one MQTT session over one network connection.
//!
//! The actor owns the MQTT client for the duration of the session. It never reconnects: when the connection
//! is lost, the broker stops responding, or the client fails or panics, the actor reports the reason and
//! ends. Its state ends with it. It publishes `online` after the login, and `offline` before it closes on
//! request. When the connection is lost, the broker publishes `offline` (the will).

mod checks;
pub(crate) mod client;
pub(crate) mod dial;
mod packets;
pub mod probe;
pub(crate) mod reason;
mod send_queue;
mod sending;
mod slow_line;
mod warnings;

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Recipient,
    ResponseFuture, StreamHandler, WrapFuture as _,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::oneshot, time::Instant};

use self::{
    checks::{CHECK_INTERVAL, NextCheck},
    client::{Accepted, Answer, By, Client, Ended, Event, Limits, Message, SessionOptions, Traffic},
    dial::SessionTransport,
    packets::Packets,
    send_queue::SendQueue,
    sending::{Purpose, ReplySender, Submission, SubmitError},
    slow_line::SlowLine,
    warnings::Refusals,
};
use crate::{
    domain::{
        causes::with_causes,
        delivery::{DeadReason, Outcome},
        ids::{LinkId, Seq},
        mqtt_version::{Refusal, Version, VersionPolicy},
        poison::{Cause, End, Ending, MessageRef, Poison},
        settings::{MqttSettings, QoS},
        status::{Failure, FailureKind},
    },
    messages::{
        connection::{Arrived, Close, Deliver, Outgoing, PublishReplay, PublishState, Subscribe},
        link::{Answered, LinkDown, LinkUp},
        supervisor::{Connected, ConnectionEnded, TopicsRefused},
    },
    store::{Gate, StoreError},
};

/// Maximum number of client events that are handled together. Their acknowledgements are sent to the outbox
/// in one message.
const EVENTS_AT_ONCE: usize = 256;

/// How long closing may take, including the messages in flight and the `offline` message. After that the
/// socket is dropped, and the broker publishes the will.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of state and test messages that wait for the broker. The client's queue has room for them
/// in addition to the events.
const MAX_STATE_MESSAGES: usize = 32;

/// Capacity of the mailbox. The handlers never wait, so it is emptied as fast as it fills. It has room for all state
/// and test messages, so that none of them waits outside while an event that is sent later goes in.
const MAILBOX: usize = 1024;
/// Maximum number of replayed events that wait for the broker; the sender sends fewer. The client's queue has room
/// for them, too.
const MAX_REPLAYED_EVENTS: usize = 24;

/// Maximum number of subscriptions; more than the service uses.
const MAX_SUBSCRIPTIONS: usize = 8;

/// A broker that ends the connection because of a message that it has refused does so within this time.
const AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// State and test messages are always acknowledged, whatever the QoS of events.
const STATE_QOS: QoS = QoS::AtLeastOnce;

/// The actors that a connection notifies.
#[derive(Debug, Clone)]
pub struct Peers {
    /// Notified when the broker accepts the login.
    pub connected: Recipient<Connected>,
    /// Notified, once, when the connection has ended.
    pub ended: Recipient<ConnectionEnded>,
    /// Notified when the broker refuses or accepts other topics than before.
    pub refused: Recipient<TopicsRefused>,
    /// Notified when events can be delivered.
    pub link_up: Vec<Recipient<LinkUp>>,
    /// Notified when events can no longer be delivered.
    pub link_down: Vec<Recipient<LinkDown>>,
    /// Receives the broker's answers.
    pub answered: Recipient<Answered>,
}

/// See the module's documentation.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ConnectionActor {
    link: LinkId,
    settings: Arc<MqttSettings>,
    peers: Peers,
    /// Open while this node may publish.
    gate: Gate,
    /// Whether the database has confirmed, after the login, that this node owns the event log.
    is_confirmed: bool,
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
    queue: SendQueue<(Message, Submission)>,
    traffic: Traffic,
    slow_line: SlowLine,
    /// Since when the first unsent message has been delaying events.
    delaying_since: Option<Instant>,
    /// Whether the broker has accepted any message.
    accepted_any: bool,
    /// The last answered message, if the broker refused it, and when.
    last_refused: Option<(MessageRef, DeadReason, Instant)>,
    refusals: Refusals,
    /// Whether the availability is left out at the moment.
    birth_left_out: bool,
    /// At most [`MAX_SUBSCRIPTIONS`].
    subscribers: Vec<Subscribe>,
    closing: bool,
    failure: Option<Failure>,
    ended_by: By,
    /// The message because of which this actor ends the connection, and how.
    at_fault: Option<End>,
    next_check: Option<NextCheck>,
}

impl ConnectionActor {
    /// Creates a connection; it connects when the actor is started. `poison` is what earlier connections have
    /// shown.
    pub fn new(
        link: LinkId,
        settings: Arc<MqttSettings>,
        version_policy: VersionPolicy,
        poison: Poison,
        window: u16,
        gate: Gate,
        peers: Peers,
    ) -> Self {
        Self {
            link,
            settings,
            peers,
            is_confirmed: !gate.must_confirm(),
            gate,
            version_policy,
            window,
            session: None,
            version: version_policy.first(),
            answered_event: false,
            heard_at: Instant::now(),
            transport: SessionTransport::default(),
            packets: Packets::default(),
            queue: SendQueue::new(poison, Instant::now()),
            traffic: Traffic::default(),
            slow_line: SlowLine::default(),
            delaying_since: None,
            accepted_any: false,
            last_refused: None,
            refusals: Refusals::default(),
            birth_left_out: false,
            subscribers: Vec::new(),
            closing: false,
            failure: None,
            ended_by: By::Network,
            at_fault: None,
            next_check: None,
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

    /// Returns whether the broker reports, for QoS 1 and 2, that a message has no subscribers.
    fn reports_subscribers(&self) -> bool {
        let can_acknowledge = |(_, limits): &(Client, Limits)| limits.maximum_qos != QoS::AtMostOnce;
        self.version == Version::V5 && self.session.as_ref().is_some_and(can_acknowledge)
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

    fn publish_birth(&mut self) {
        let birth = self.availability(&self.settings.birth_message);
        let submitted = self.submit(birth, Purpose::Birth, Instant::now());
        self.birth_left_out = matches!(submitted, Err(SubmitError::LeftOut(_)));
        if let Err(reason) = submitted {
            tracing::debug!(?reason, "the availability is not published");
        }
    }

    fn on_accepted(&mut self, accepted: Accepted, ctx: &mut Context<Self>) {
        let Accepted { client, version, refused, limits, traffic } = accepted;
        self.queue.accepted(self.client_limit(limits), Instant::now());
        self.session = Some((client, limits));
        self.version = version;
        self.traffic = traffic;
        if self.is_confirmed {
            return self.open(refused, ctx);
        }
        // Another node may have connected before, and this login has ended its session. It is the owner if the
        // database confirms it now.
        let gate = self.gate.clone();
        let confirmed = async move { gate.confirm().await };
        ctx.spawn(confirmed.into_actor(self).map(move |confirmed, act, ctx| match confirmed {
            Ok(()) => {
                act.is_confirmed = true;
                if !act.closing {
                    act.open(refused, ctx);
                }
            }
            Err(error) => act.not_confirmed(&error, ctx),
        }));
    }

    /// Disconnects without a birth message.
    fn not_confirmed(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        if !self.closing {
            let message = format!(
                "The broker accepted the login, but the database did not confirm that this node owns the event log: \
                 {error}."
            );
            self.failure.get_or_insert(Failure::new(FailureKind::NotConfirmed, message));
        }
        self.close_silently(ctx);
    }

    fn close_silently(&mut self, ctx: &mut Context<Self>) {
        self.closing = true;
        self.disconnect();
        ctx.run_later(CLOSE_TIMEOUT, |_, ctx| ctx.stop());
    }

    /// Begins the session: publishes the birth message, and reports the link.
    fn open(&mut self, refused: Option<Refusal>, ctx: &mut Context<Self>) {
        let Some((_, limits)) = self.session.as_ref() else { return };
        let (limits, version) = (*limits, self.version);
        self.publish_birth();
        self.release(ctx);
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
                reports_subscribers: self.reports_subscribers(),
                suspected_events: self.queue.poison.suspected_events(),
                deliver: me.clone().recipient(),
                broker: self.settings.broker(),
                publish: me.clone().recipient(),
                replay: me.clone().recipient(),
                subscribe: me.recipient(),
            };
            #[expect(clippy::disallowed_methods, reason = "one message per connection")]
            peer.do_send(link_up);
        }
    }

    /// Handles a client event. Returns the event and its outcome if the broker answered an event from
    /// the event log.
    fn handle_event(
        &mut self,
        event: Event,
        now: Instant,
        ctx: &mut Context<Self>,
    ) -> Option<(Seq, Outcome)> {
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
            Event::Arrived { topic, payload, retained } => {
                self.packets.alive();
                self.forward(&topic, &payload, retained);
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
        self.learn(&submission, answer, now);
        self.on_answer(submission, answer)
    }

    /// Records what the answer shows about the broker.
    fn learn(&mut self, submission: &Submission, answer: Answer, now: Instant) {
        let message = &submission.message_ref;
        let accepted = matches!(answer, Answer::Accepted { .. });
        self.accepted_any |= accepted;
        let permitted = self.queue.answered(message, accepted, now);
        self.last_refused = match answer {
            Answer::Refused(reason) => Some((message.clone(), reason, now)),
            _ => None,
        };
        let changed = match answer {
            // The replay itself reports the refusal.
            Answer::Refused(_) if submission.is_replay() => false,
            Answer::Refused(reason) if message.seq.is_none() || concerns_topic(reason) => {
                self.refusals.refused(&message.topic, reason, &self.settings)
            }
            Answer::Accepted { .. } => self.refusals.accepted(&message.topic),
            _ => false,
        };
        if changed || permitted {
            let (link, warnings) = (self.link, self.refusals.warnings(&self.settings));
            let left_out = self.queue.poison.left_out();
            #[expect(clippy::disallowed_methods, reason = "at most one message per topic family and change")]
            self.peers.refused.do_send(TopicsRefused { link, warnings, left_out });
        }
    }

    fn on_answer(&mut self, submission: Submission, answer: Answer) -> Option<(Seq, Outcome)> {
        match submission.purpose {
            Purpose::Event(seq) => {
                self.answered_event = true;
                return Some((seq, to_outcome(answer)));
            }
            Purpose::State(reply) | Purpose::Replay(reply) => {
                // The sender may have stopped waiting.
                let result = sending::state_result(answer, &self.settings.broker());
                let reports = self.reports_subscribers();
                let _gone = reply.send(result.map(|heard| reports.then_some(heard)));
            }
            Purpose::Birth => {
                if let Err(Failure { message: reason, .. }) =
                    sending::state_result(answer, &self.settings.broker())
                {
                    let topic = submission.message_ref.topic;
                    tracing::warn!(topic, reason, "the broker refused the availability");
                }
            }
            Purpose::Offline => self.disconnect(),
        }
        None
    }

    fn disconnect(&self) {
        if let Some((client, _)) = &self.session
            && let Err(error) = client.disconnect(CLOSE_TIMEOUT)
        {
            tracing::debug!(error = %with_causes(&error), "no room for a clean disconnect");
        }
    }

    /// Publishes a message that is not an event from the outbox. Returns the broker's answer.
    fn publish(
        &mut self,
        message: Message,
        purpose: fn(ReplySender) -> Purpose,
        has_room: bool,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<Option<bool>, Failure>> {
        let (reply, result) = oneshot::channel();
        let submitted = if has_room {
            self.submit(message, purpose(reply), Instant::now())
        } else {
            Err(SubmitError::Overrun)
        };
        self.release(ctx);
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

    /// Gives events that were not sent back to the outbox.
    fn give_back(&mut self, events: Vec<Seq>) {
        self.report_answers(events.into_iter().map(|seq| (seq, Outcome::Returned)).collect());
    }

    /// Returns how the connection ended, as evidence for the poison rule.
    fn ending(&mut self, kind: Option<FailureKind>, closed_on_qos2: bool) -> Ending {
        let by_broker = matches!(self.ended_by, By::Broker | By::BrokerSilently);
        let end = match (self.at_fault.take(), self.last_refused.take()) {
            _ if kind.is_none() || kind == Some(FailureKind::Panicked) || closed_on_qos2 => End::Unrelated,
            (Some(end), _) => end,
            // The connection is reset if the broker closes it before it has read everything.
            (None, Some((message, reason, at)))
                if (by_broker || self.ended_by == By::Network) && at.elapsed() < AFTER_REFUSAL =>
            {
                End::AfterRefusal(message, reason)
            }
            (None, _) if by_broker => End::ByBroker,
            _ if self.ended_by == By::BrokerUnrelated => End::Unrelated,
            _ => End::Network,
        };
        let in_flight = self.packets.all().filter(|submission| !submission.is_offline());
        let in_flight = in_flight.map(|submission| submission.message_ref.clone()).collect();
        Ending { end, in_flight, accepted_any: self.accepted_any }
    }

    /// Forwards a message to the subscribers of its topic.
    fn forward(&self, topic: &[u8], payload: &Bytes, retained: bool) {
        let Ok(topic) = std::str::from_utf8(topic) else { return };
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.topic == topic) {
            let (topic, payload) = (topic.to_owned(), payload.clone());
            let arrived = Arrived { link: self.link, topic, payload, retained };
            // Dropping it is harmless: a subscriber with a full mailbox already has plenty of these messages.
            let _full = subscriber.to.try_send(arrived);
        }
    }

    fn report_answers(&mut self, outcomes: Vec<(Seq, Outcome)>) {
        if !outcomes.is_empty() {
            let answered = Answered { link: self.link, outcomes };
            if answered.pauses() {
                self.queue.paused();
            }
            #[expect(clippy::disallowed_methods, reason = "bounded by the window")]
            self.peers.answered.do_send(answered);
        }
    }
}

fn log_left_out(message: &MessageRef, cause: Cause) {
    let MessageRef { seq, topic, bytes } = message;
    let (seq, reason) = (seq.map(|seq| seq.0), cause.dead_reason().as_str());
    tracing::warn!(topic, seq, bytes, reason, "the connection ended because of this message; it is left out");
}

/// Returns whether a refusal concerns the topic. Otherwise, it concerns only the message.
fn concerns_topic(reason: DeadReason) -> bool {
    matches!(reason, DeadReason::NotAuthorized | DeadReason::TopicNameInvalid)
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
        ctx.set_mailbox_capacity(MAILBOX);
        let options = SessionOptions {
            client_id: self.settings.client_id.clone(),
            will: Some(self.availability(&self.settings.will_message)),
            capacity: self.window,
            transport: self.transport.clone(),
        };
        let events = client::open(&self.settings, options, self.version_policy);
        ctx.add_stream(events.ready_chunks(EVENTS_AT_ONCE));
        self.check_after(CHECK_INTERVAL, false, ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        // Runs however the actor ends, even after a panic. This is the only place that reports the end; it
        // must not panic itself.
        let failure = if std::thread::panicking() { Some(reason::panicked()) } else { self.failure.take() };
        let closed_on_qos2 = self.closed_on_qos2(failure.as_ref());
        let kind = failure.as_ref().map(|failure| failure.kind);
        let mut poison = std::mem::take(&mut self.queue.poison);
        let (mut failure, mut retry_soon, mut unanswered) = (failure, false, false);
        if self.session.is_some() {
            let ending = self.ending(kind, closed_on_qos2);
            unanswered = !ending.in_flight.is_empty();
            failure = failure.map(|failure| reason::with_evidence(failure, &ending, &self.settings.broker()));
            let lesson = poison.ended(ending, Instant::now().into_std());
            retry_soon = lesson.retry_soon;
            if let Some((message, cause)) = lesson.found {
                log_left_out(&message, cause);
            }
        }
        let link = self.link;
        for peer in &self.peers.link_down {
            #[expect(clippy::disallowed_methods, reason = "one message per connection")]
            peer.do_send(LinkDown { link });
        }
        let closed = self.ended_by == By::BrokerSilently;
        #[expect(clippy::disallowed_methods, reason = "one message per connection")]
        self.peers.ended.do_send(ConnectionEnded {
            link,
            failure,
            closed,
            idle: self.heard_at.elapsed(),
            unanswered,
            closed_on_qos2,
            poison,
            retry_soon,
        });
    }
}

impl StreamHandler<Vec<Result<Event, Ended>>> for ConnectionActor {
    fn handle(&mut self, events: Vec<Result<Event, Ended>>, ctx: &mut Self::Context) {
        let (mut outcomes, mut end) = (Vec::new(), None);
        // Once for all of them: to read the clock for each event takes 3% of the time with a full backlog.
        let now = Instant::now();
        for event in events {
            match event {
                Ok(event) => outcomes.extend(self.handle_event(event, now, ctx)),
                Err(ended) => end = Some(ended),
            }
        }
        // Nothing that has not been sent may overtake a deferred event.
        if outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Deferred { .. })) {
            let waiting = self.queue.take_events();
            outcomes.extend(waiting.into_iter().map(|seq| (seq, Outcome::Returned)));
        }
        // Answers that arrived before the end still count.
        self.report_answers(outcomes);
        if let Some(Ended { failure, by, .. }) = end {
            self.ended_by = by;
            return self.end(failure, ctx);
        }
        self.release(ctx);
    }
}

impl Handler<Deliver> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, Deliver { events, pauses }: Deliver, ctx: &mut Self::Context) {
        if self.closing {
            return;
        }
        if self.queue.is_outdated(pauses) {
            return self.give_back(events.into_iter().map(|event| event.seq).collect());
        }
        let (mut refused, now) = (Vec::new(), Instant::now());
        for event in events {
            let Outgoing { seq, topic, payload, qos, retain, expiry_seconds, asked } = event;
            if let Some(asked) = asked {
                self.queue.poison.sent_again(seq, asked);
            }
            let message = Message { topic, payload, qos, retain, expiry_seconds };
            match self.submit(message, Purpose::Event(seq), now).map_err(SubmitError::dead_reason) {
                Ok(()) => {}
                Err(Some(reason)) => {
                    self.queue.poison.executed(seq);
                    refused.push((seq, Outcome::Refused(reason)));
                }
                Err(None) => {
                    self.overran(ctx);
                    break;
                }
            }
        }
        self.report_answers(refused);
        self.release(ctx);
    }
}

impl Handler<PublishState> for ConnectionActor {
    type Result = ResponseFuture<Result<Option<bool>, Failure>>;

    fn handle(&mut self, msg: PublishState, ctx: &mut Self::Context) -> Self::Result {
        let PublishState { topic, payload, retain } = msg;
        let message = Message { topic, payload, qos: STATE_QOS, retain, expiry_seconds: None };
        let has_room = self.state_count() < MAX_STATE_MESSAGES;
        self.publish(message, Purpose::State, has_room, ctx)
    }
}

impl Handler<PublishReplay> for ConnectionActor {
    type Result = ResponseFuture<Result<Option<bool>, Failure>>;

    fn handle(&mut self, msg: PublishReplay, ctx: &mut Self::Context) -> Self::Result {
        let PublishReplay { topic, payload } = msg;
        let message = Message { topic, payload, qos: self.settings.qos, retain: false, expiry_seconds: None };
        let has_room = self.replay_count() < MAX_REPLAYED_EVENTS && !self.closing;
        self.publish(message, Purpose::Replay, has_room, ctx)
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

    fn handle(&mut self, close: Close, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        if self.session.is_none() {
            return ctx.stop();
        }
        if close == Close::Silent || !self.is_confirmed {
            return self.close_silently(ctx);
        }
        if !self.gate.is_open() {
            return ctx.stop();
        }
        let offline = self.availability(&self.settings.will_message);
        match self.submit(offline, Purpose::Offline, Instant::now()) {
            Ok(()) => {}
            Err(SubmitError::LeftOut(_)) => self.disconnect(),
            Err(SubmitError::TooLarge | SubmitError::Overrun) => return ctx.stop(),
        }
        ctx.run_later(CLOSE_TIMEOUT, |_, ctx| ctx.stop());
    }
}

#[cfg(test)]
mod tests;
