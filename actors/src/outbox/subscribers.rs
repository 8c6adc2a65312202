//! Subscribers: learns which topics have subscribers, and holds live events while Home Assistant is away.
//!
//! [`HeardTopics`] and [`Presence`] decide. This module reads and writes the database, publishes the probes, and
//! receives Home Assistant's messages.

use std::time::Duration;

use actix::{
    ActorFutureExt as _, AsyncContext as _, Context, Handler, MailboxError, Recipient, SpawnHandle,
    WrapFuture as _,
};
use bytes::Bytes;
use futures_util::future::OptionFuture;
use tokio::time::Instant;

use super::{
    OutboxActor,
    delivery::InFlight,
    heard_topics::{FORGET_AFTER, HeardTopics, MAX_TOPICS},
    next_batch::Listeners,
    presence::Presence,
    reporting::Held,
};
use crate::{
    domain::{
        causes::with_causes,
        clock::Moment,
        home_assistant,
        ids::{LinkId, Seq},
        numbers::saturate,
        settings::{MqttSettings, SettingsChange},
        status::Failure,
    },
    messages::{
        connection::{Arrived, PublishState, Subscribe},
        link::LinkUp,
    },
};

/// How long events wait until the topics have been read.
const LOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// How often Home Assistant is looked for while live events wait for it.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How often the number of events that wait is updated. It changes with each event.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Maximum number of topics in the warning.
const REPORTED_TOPICS: usize = 3;

/// How long topics are collected before they are written, so that commits are not delayed.
const WRITE_AFTER: Duration = Duration::from_secs(1);

/// The current link.
#[derive(Debug)]
struct Link {
    id: LinkId,
    broker: String,
    /// Whether the broker reports missing subscribers.
    reports_subscribers: bool,
    publish: Recipient<PublishState>,
    subscribe: Recipient<Subscribe>,
    /// The topic on which Home Assistant reports its status, once it is subscribed to.
    status_topic: Option<String>,
    /// Whether a probe is on its way.
    probing: bool,
    /// Whether another client subscribes to everything below the discovery prefix, so that acknowledgements do not
    /// show whether Home Assistant listens.
    is_hidden: bool,
}

/// What the outbox knows about subscribers.
#[derive(Debug)]
pub struct Subscribers {
    pub heard: HeardTopics,
    presence: Presence,
    link: Option<Link>,
    /// Checks the gate while it is closed.
    timer: Option<SpawnHandle>,
    is_write_scheduled: bool,
    /// Whether the gate has been closed for a second, so that it is reported.
    is_holding: bool,
    /// When the waiting events were last reported; `None` if none wait.
    reported_at: Option<Instant>,
    /// The events that waited when the gate was opened last: the first and the last.
    released: Option<(Seq, Seq)>,
}

impl Subscribers {
    pub fn new(now: Instant) -> Self {
        Self {
            heard: HeardTopics::default(),
            presence: Presence::new(now),
            link: None,
            timer: None,
            is_write_scheduled: false,
            is_holding: false,
            reported_at: None,
            released: None,
        }
    }

    /// Returns what is known about the subscribers on this link.
    pub fn listeners(&self, settings: &MqttSettings) -> Listeners<'_> {
        let heard = settings.wait_for_subscribers.then_some(&self.heard);
        Listeners { live_may_go: self.presence.is_open(), heard }
    }
}

/// Returns whether a message had a subscriber; `None` if this is unknown, or the message was not published.
fn heard(answer: Result<Result<Option<bool>, Failure>, MailboxError>) -> Option<bool> {
    answer.ok()?.ok()?
}

fn watches_home_assistant(settings: &MqttSettings) -> bool {
    settings.wait_for_subscribers && settings.discovery_enabled
}

impl OutboxActor {
    /// Prepares for a new link, before events are sent on it.
    pub(super) fn subscribers_link_up(&mut self, link_up: &LinkUp, ctx: &mut Context<Self>) {
        let LinkUp { link, broker, reports_subscribers, publish, subscribe, .. } = link_up;
        self.subscribers.link = Some(Link {
            id: *link,
            broker: broker.clone(),
            reports_subscribers: *reports_subscribers,
            publish: publish.clone(),
            subscribe: subscribe.clone(),
            status_topic: None,
            probing: false,
            is_hidden: false,
        });
        if watches_home_assistant(&self.settings) {
            self.subscribers.presence.link_up(Instant::now());
        }
        self.watch_subscribers(ctx);
    }

    /// Records the end of the link.
    pub(super) fn subscribers_link_down(&mut self, ctx: &mut Context<Self>) {
        self.subscribers.link = None;
        self.subscribers.presence.link_down(Instant::now());
        self.subscribers.is_holding = false;
        self.cancel_gate_timer(ctx);
        self.delivery.holds.clear();
        self.report_held();
    }

    /// Applies new settings. Those that require a new connection apply to the next link.
    pub(super) fn subscribers_settings_changed(&mut self, change: SettingsChange, ctx: &mut Context<Self>) {
        if !watches_home_assistant(&self.settings) {
            self.subscribers.presence.open();
        }
        if !self.settings.wait_for_subscribers {
            self.write_heard_topics(ctx);
            self.subscribers.heard.stop();
        }
        if change != SettingsChange::Other {
            self.delivery.end_holds();
        }
        if change == SettingsChange::Outbox {
            self.watch_subscribers(ctx);
        }
        self.gate_changed(ctx);
    }

    /// Starts to learn who listens on the current link, as far as the settings require it.
    fn watch_subscribers(&mut self, ctx: &mut Context<Self>) {
        let Some(link) = &self.subscribers.link else { return };
        let (broker, reports_subscribers) = (link.broker.clone(), link.reports_subscribers);
        let watches = watches_home_assistant(&self.settings);
        if self.settings.wait_for_subscribers && (reports_subscribers || watches) {
            // `start` drops the topics of another broker, so they are written first.
            self.write_heard_topics(ctx);
            if self.subscribers.heard.start(&broker) {
                self.load_heard_topics(broker, ctx);
            } else {
                self.heard_topics_known();
            }
        }
        if watches {
            self.subscribe_to_status(ctx);
            self.probe(ctx);
        }
        self.check_gate(ctx);
    }

    fn load_heard_topics(&mut self, broker: String, ctx: &mut Context<Self>) {
        ctx.run_later(LOAD_TIMEOUT, |act, ctx| {
            if act.subscribers.heard.is_loading() {
                tracing::debug!(
                    "reading the topics that had a subscriber takes too long; events no longer wait for it"
                );
                act.subscribers.heard.give_up();
                act.heard_topics_known();
                act.gate_changed(ctx);
            }
        });
        let store = self.store.clone();
        let read = async move {
            let topics = store.heard_topics(&broker, saturate(MAX_TOPICS)).await;
            (broker, topics)
        };
        ctx.spawn(read.into_actor(self).map(|(broker, topics), act, ctx| {
            let topics = topics.unwrap_or_else(|error| {
                tracing::debug!(error = %with_causes(&error), "the topics that had a subscriber could not be read");
                Vec::new()
            });
            act.subscribers.heard.loaded(&broker, topics);
            act.heard_topics_known();
            act.gate_changed(ctx);
        }));
    }

    /// Opens the gate if Home Assistant was never seen on this broker.
    fn heard_topics_known(&mut self) {
        if !self.subscribers.heard.is_loading() && !self.knows_home_assistant() {
            self.subscribers.presence.open();
        }
    }

    fn knows_home_assistant(&self) -> bool {
        self.subscribers.heard.was_heard(self.settings.discovery_prefix.as_str())
    }

    fn subscribe_to_status(&mut self, ctx: &mut Context<Self>) {
        let topic = home_assistant::status_topic(&self.settings.discovery_prefix);
        let Some(link) = &mut self.subscribers.link else { return };
        if link.status_topic.as_ref() != Some(&topic) {
            let subscription = Subscribe { topic: topic.clone(), to: ctx.address().recipient() };
            #[expect(clippy::disallowed_methods, reason = "one message per connection")]
            link.subscribe.do_send(subscription);
            link.status_topic = Some(topic);
        }
    }

    /// Publishes a message that Home Assistant receives, and one that it does not receive, so that their
    /// acknowledgements show whether it listens. Home Assistant delays its birth message while discovery messages
    /// arrive, so the first one is left out while its acknowledgement would prove nothing.
    fn probe(&mut self, ctx: &mut Context<Self>) {
        let Some(link) = &mut self.subscribers.link else { return };
        if !link.reports_subscribers || link.probing {
            return;
        }
        link.probing = true;
        let (id, prefix) = (link.id, &self.settings.discovery_prefix);
        let publish = |topic| {
            let message = PublishState { topic, payload: Bytes::new(), retain: false };
            link.publish.send(message)
        };
        let others = publish(home_assistant::wildcard_probe_topic(prefix));
        let discovery = (!link.is_hidden).then(|| publish(home_assistant::probe_topic(prefix)));
        let probed = async move { futures_util::join!(OptionFuture::from(discovery), others) };
        ctx.spawn(probed.into_actor(self).map(move |(discovery, others), act, ctx| {
            act.probed(id, discovery.and_then(heard), heard(others), ctx);
        }));
    }

    /// Handles the result of a probe: whether the discovery topic and the other one have subscribers.
    fn probed(&mut self, id: LinkId, discovery: Option<bool>, others: Option<bool>, ctx: &mut Context<Self>) {
        let Some(link) = self.subscribers.link.as_mut().filter(|link| link.id == id) else { return };
        link.probing = false;
        link.is_hidden = others == Some(true);
        let Some(heard) = discovery.filter(|_| !link.is_hidden) else { return };
        if heard {
            self.home_assistant_seen(ctx);
        }
        self.subscribers.presence.probed(heard, Instant::now());
        self.gate_changed(ctx);
    }

    /// Records that Home Assistant uses this broker.
    fn home_assistant_seen(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        if self.subscribers.heard.heard(self.settings.discovery_prefix.as_str(), now.log) {
            self.schedule_write(ctx);
        }
    }

    fn gate_changed(&mut self, ctx: &mut Context<Self>) {
        self.check_gate(ctx);
        self.pump(ctx);
        self.report(ctx);
    }

    /// Opens the gate if it is time, and otherwise checks it again later.
    fn check_gate(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let was_waiting = self.subscribers.timer.is_some();
        self.subscribers.presence.check(now);
        let Some(at) = self.subscribers.presence.opens_at() else {
            if was_waiting {
                self.cancel_gate_timer(ctx);
                self.gate_opened();
            }
            return;
        };
        if !was_waiting {
            let wait = at.saturating_duration_since(now).min(PROBE_EVERY);
            self.subscribers.timer = Some(ctx.run_later(wait, |act, ctx| {
                act.subscribers.timer = None;
                act.check_closed_gate(ctx);
            }));
        }
    }

    fn check_closed_gate(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.subscribers.presence.check(now) {
            self.gate_opened();
        } else {
            if self.subscribers.presence.is_waiting() {
                self.probe(ctx);
            }
            self.subscribers.is_holding = true;
            self.report_held();
        }
        self.gate_changed(ctx);
    }

    fn gate_opened(&mut self) {
        let last = self.writer.last_seq();
        let has_waited = std::mem::take(&mut self.subscribers.is_holding);
        self.subscribers.released = has_waited.then(|| (self.delivery.first_open(), last));
        self.report_held();
    }

    /// Reports what waits for a subscriber.
    pub(super) fn report_held(&mut self) {
        let closed_for = self.subscribers.presence.closed_for(Instant::now());
        let closed_for = closed_for.filter(|_| self.subscribers.is_holding);
        let home_assistant_since = closed_for.map(|closed_for| self.clock.now().wall - closed_for);
        let waiting = self.delivery.holds.events();
        if home_assistant_since.is_none() && waiting == 0 {
            self.reporting.set_held(None);
            self.subscribers.reported_at = None;
            return;
        }
        let now = Instant::now();
        if self.subscribers.reported_at.is_some_and(|at| now < at + REPORT_EVERY) {
            return;
        }
        self.subscribers.reported_at = Some(now);
        let events = if home_assistant_since.is_some() { self.unsent() } else { saturate(waiting) };
        let topics = self.delivery.holds.topics(REPORTED_TOPICS);
        self.reporting.set_held(Some(Held { events, home_assistant_since, topics }));
    }

    /// Returns the number of pending events that are not in flight.
    fn unsent(&self) -> u64 {
        self.pending().saturating_sub(saturate(self.delivery.in_flight()))
    }

    fn cancel_gate_timer(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.subscribers.timer.take() {
            ctx.cancel_future(timer);
        }
    }

    /// Returns whether it is known which topics had a subscriber. No event is sent before that.
    pub(super) fn knows_subscribers(&self) -> bool {
        !self.subscribers.heard.is_loading()
    }

    /// Records an acknowledged live event; `heard` states whether it had a subscriber, if the broker reports this.
    pub(super) fn live_delivered(
        &mut self,
        seq: Seq,
        InFlight { topic, has_waited, .. }: &InFlight,
        heard: Option<bool>,
        now: Moment,
        ctx: &mut Context<Self>,
    ) {
        if heard == Some(true) && self.subscribers.heard.heard(topic, now.log) {
            self.schedule_write(ctx);
        }
        let released = self.subscribers.released.is_some_and(|(first, last)| first <= seq && seq <= last);
        if heard != Some(false) && (released || *has_waited) {
            self.reporting.heard_after_waiting();
        }
    }

    fn schedule_write(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.subscribers.is_write_scheduled, true) {
            ctx.run_later(WRITE_AFTER, |act, ctx| {
                act.subscribers.is_write_scheduled = false;
                act.write_heard_topics(ctx);
            });
        }
    }

    fn write_heard_topics(&mut self, ctx: &mut Context<Self>) {
        let Some((broker, topics)) = self.subscribers.heard.take_unwritten() else { return };
        let store = self.store.clone();
        let write = async move {
            let written = store.note_heard_topics(&broker, &topics).await;
            (broker, topics, written)
        };
        ctx.spawn(write.into_actor(self).map(|(broker, topics, written), act, _| {
            if let Err(error) = written {
                tracing::debug!(
                    error = %with_causes(&error),
                    "the topics that have a subscriber were not stored; will retry with the next ones"
                );
                act.subscribers.heard.not_written(&broker, topics);
            }
        }));
    }

    /// Forgets the topics that had no subscriber for a long time.
    pub(super) fn forget_heard_topics(&mut self, ctx: &mut Context<Self>) {
        let before = self.clock.now().log.before(FORGET_AFTER);
        self.subscribers.heard.forget(before);
        let store = self.store.clone();
        let forget = async move { store.forget_heard_topics(before).await };
        ctx.spawn(forget.into_actor(self).map(|forgotten, _, _| {
            if let Err(error) = forgotten {
                tracing::debug!(error = %with_causes(&error), "old topics were not removed; will retry in an hour");
            }
        }));
    }
}

impl Handler<Arrived> for OutboxActor {
    type Result = ();

    /// Handles Home Assistant's birth message and its will. Retained ones may be old, so they prove nothing.
    fn handle(&mut self, arrived: Arrived, ctx: &mut Self::Context) {
        let Arrived { link, topic, payload, retained } = arrived;
        let is_current = |current: &Link| current.id == link && current.status_topic.as_ref() == Some(&topic);
        let is_ours = self.subscribers.link.as_ref().is_some_and(is_current);
        if retained || !is_ours || !watches_home_assistant(&self.settings) {
            return;
        }
        match &*payload {
            home_assistant::ONLINE => {
                self.home_assistant_seen(ctx);
                self.subscribers.presence.came(Instant::now());
            }
            home_assistant::OFFLINE if self.knows_home_assistant() => {
                self.subscribers.presence.left(Instant::now());
            }
            _ => return,
        }
        self.gate_changed(ctx);
    }
}
