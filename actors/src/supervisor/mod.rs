//! The supervisor: owns the connection, and is the only actor that knows its status.
//!
//! It starts a connection from the current settings. When the connection ends, it waits and starts a new one.
//! The new connection is a new actor, so no state of a failed connection remains. New settings take effect
//! immediately; the old connection is closed first, because both have the same client id.

mod availability;
mod backoff;
mod broker_profile;
mod idle_cuts;
mod reconnect;
mod security;
mod takeover;
mod test_message;

use std::{fmt, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, MessageResult, Recipient,
    ResponseFuture, SpawnHandle, WrapFuture as _,
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot},
    time::Instant,
};

pub use self::backoff::STABLE_AFTER;
use self::{
    availability::Availability,
    broker_profile::BrokerProfile,
    idle_cuts::IdleCuts,
    security::Security,
    takeover::{Sign, TakeoverDetector},
};
use crate::{
    domain::{
        clock::{self, Timestamp},
        ids::LinkId,
        mqtt_version::{Version, VersionPolicy},
        poison::{LeftOut, Poison},
        settings::{MqttSettings, SettingsChange},
        status::{ConnectionState, Failure, FailureKind, LastError, Warning, WarningKind},
        topic_use,
    },
    lifecycle::CrashGuard,
    messages::{
        config::SettingsChanged,
        connection::{Arrived, Close, PublishState, Subscribe},
        history::ConnectionStep,
        retained::ClearBroker,
        supervisor::{
            Connected, ConnectionEnded, ConnectionStatus, GetStatus, ReportWarnings, SettingsIgnored,
            Shutdown, TopicsRefused,
        },
    },
    metrics::Metrics,
    store::Gate,
};

/// How often security warnings are logged.
const SECURITY_LOG_INTERVAL: Duration = Duration::from_hours(24);

/// How long clearing the retained messages on the old broker may take when another broker is configured.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the retained birth message may take to arrive on a new connection.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

/// Everything that a new connection needs.
#[derive(Debug)]
pub struct ConnectionStart {
    /// Its link id.
    pub link: LinkId,
    /// The current settings.
    pub settings: Arc<MqttSettings>,
    /// Which MQTT versions to try.
    pub version_policy: VersionPolicy,
    /// What earlier connections have shown about messages.
    pub poison: Poison,
    /// Notified when the broker accepts the login.
    pub connected: Recipient<Connected>,
    /// Notified when the broker refuses other topics than before.
    pub refused: Recipient<TopicsRefused>,
    /// Notified when the connection has ended.
    pub ended: Recipient<ConnectionEnded>,
}

/// A started connection.
#[derive(Debug, Clone)]
pub struct Running {
    /// Closes the connection.
    pub close: Recipient<Close>,
    /// Publishes messages that are not events.
    pub publish: Recipient<PublishState>,
    /// Subscribes to a topic.
    pub subscribe: Recipient<Subscribe>,
}

/// Starts a new connection.
pub type ConnectionFactory = Box<dyn Fn(ConnectionStart) -> Running>;

/// The connection state, with its data.
#[derive(Debug)]
enum Mode {
    /// There are no settings yet, the connection is disabled, or a secret cannot be read.
    Idle,
    Connecting {
        link: LinkId,
        running: Running,
    },
    Connected {
        link: LinkId,
        running: Running,
        since: Instant,
        version: Version,
        warnings: Vec<Warning>,
        /// Warnings about topics that the broker refuses.
        refusals: Vec<Warning>,
    },
    Waiting {
        next_attempt_at: Timestamp,
        timer: SpawnHandle,
    },
    /// The old connection publishes `offline` and disconnects; then the current settings take effect.
    Closing {
        link: LinkId,
    },
}

/// See the module's documentation.
pub struct SupervisorActor {
    start: ConnectionFactory,
    /// Open while this node may publish.
    gate: Gate,
    metrics: Metrics,
    _crash_guard: CrashGuard,
    /// Clears our retained messages on the old broker when another one is configured.
    clear_broker: Recipient<ClearBroker>,
    /// Records outages.
    history: Recipient<ConnectionStep>,
    settings: Option<Arc<MqttSettings>>,
    /// Why the settings cannot be used to connect.
    unusable: Option<Failure>,
    security: Security,
    /// The initial settings that differ from the current ones.
    ignored: Vec<&'static str>,
    mode: Mode,
    /// When the latest attempt to connect began.
    attempt_began: Option<Instant>,
    /// When the latest connection ended. The reason may be that another node has connected.
    ended_at: Option<std::time::Instant>,
    links: u64,
    /// Failures in a row since the settings changed or a connection was stable.
    failures: u32,
    /// Those of them that decide how long to wait: the latest ones that did not show anything new.
    backoff_step: u32,
    /// What earlier connections have shown about the configured broker.
    broker_profile: BrokerProfile,
    takeover_detector: TakeoverDetector,
    idle_cuts: IdleCuts,
    availability: Availability,
    /// What earlier connections have shown about messages. The current connection has it, and returns it.
    poison: Poison,
    /// The messages that are left out.
    left_out: Vec<LeftOut>,
    last_connected_at: Option<Timestamp>,
    last_error: Option<LastError>,
    /// The warnings of the HTTP layer.
    reported: Vec<Warning>,
    /// While stopping: notified when the connection is closed.
    stopping: Option<Vec<oneshot::Sender<()>>>,
}

impl fmt::Debug for SupervisorActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorActor").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl SupervisorActor {
    /// Creates a supervisor that waits for its first settings.
    pub fn new(
        start: ConnectionFactory,
        gate: Gate,
        clear_broker: Recipient<ClearBroker>,
        history: Recipient<ConnectionStep>,
        metrics: Metrics,
        crashed: UnboundedSender<&'static str>,
    ) -> Self {
        Self {
            start,
            gate,
            metrics,
            _crash_guard: CrashGuard::new("supervisor", crashed),
            clear_broker,
            history,
            settings: None,
            unusable: None,
            security: Security::default(),
            ignored: Vec::new(),
            mode: Mode::Idle,
            attempt_began: None,
            ended_at: None,
            links: 0,
            failures: 0,
            backoff_step: 0,
            broker_profile: BrokerProfile::default(),
            takeover_detector: TakeoverDetector::default(),
            idle_cuts: IdleCuts::default(),
            availability: Availability::default(),
            poison: Poison::default(),
            left_out: Vec::new(),
            last_connected_at: None,
            last_error: None,
            reported: Vec::new(),
            stopping: None,
        }
    }

    /// Requests that our retained messages on the connected broker are cleared, then closes the connection.
    /// Returns `false`, and does nothing, if there is no connection.
    fn leave_broker(&mut self, ctx: &mut Context<Self>) -> bool {
        let Mode::Connected { link, running, .. } = &self.mode else {
            return false;
        };
        let (link, close) = (*link, running.close.clone());
        let cleared = self.clear_broker.send(ClearBroker).timeout(CLEAR_TIMEOUT).into_actor(self);
        ctx.spawn(cleared.map(move |cleared, _, _| {
            if cleared.is_err() {
                tracing::warn!(
                    "could not clear all retained messages on the old broker; will retry when it is used \
                     again"
                );
            }
            // The connection may have ended in the meantime.
            let _ended = close.try_send(Close::Offline);
        }));
        self.metrics.mqtt_connection_status.set(0);
        self.mode = Mode::Closing { link };
        true
    }

    /// Connects if the current settings enable the connection. Called only while there is no connection.
    fn apply_settings(&mut self, ctx: &mut Context<Self>) {
        self.mode = Mode::Idle;
        if let Some(waiting) = &mut self.stopping {
            for reply in waiting.drain(..) {
                // The caller may have stopped waiting.
                let _gone = reply.send(());
            }
            return;
        }
        let Some(settings) = self.settings.clone().filter(|settings| settings.enabled) else {
            self.note_step(ConnectionStep::Disabled);
            return;
        };
        if let Some(failure) = self.unusable.clone() {
            self.note_step(ConnectionStep::Failed(failure.kind));
            // The config actor has logged the reason.
            tracing::debug!(kind = failure.kind.as_str(), "not connecting: the settings cannot be used");
            self.set_last_error(failure);
            return;
        }
        if !self.gate.is_confirmed_since(self.ended_at) {
            return self.await_gate(ctx);
        }
        self.note_step(ConnectionStep::Connecting);
        self.links += 1;
        let link = LinkId(self.links);
        tracing::debug!(link = link.0, broker = settings.broker(), "connecting");
        let start = ConnectionStart {
            link,
            version_policy: self.broker_profile.version_policy(settings.protocol, Instant::now()),
            poison: std::mem::take(&mut self.poison),
            settings,
            connected: ctx.address().recipient(),
            refused: ctx.address().recipient(),
            ended: ctx.address().recipient(),
        };
        self.attempt_began = Some(Instant::now());
        let running = (self.start)(start);
        self.mode = Mode::Connecting { link, running };
    }

    /// Connects when the database shows that this node owns the event log.
    fn await_gate(&mut self, ctx: &mut Context<Self>) {
        tracing::debug!("not connecting before the database shows that this node owns the event log");
        let (gate, ended_at) = (self.gate.clone(), self.ended_at);
        let confirmed = async move { gate.confirmed_since(ended_at).await };
        let timer = ctx.spawn(confirmed.into_actor(self).map(|(), act, ctx| act.apply_settings(ctx)));
        self.mode = Mode::Waiting { next_attempt_at: clock::truncated(clock::now()), timer };
    }

    fn note_step(&self, step: ConnectionStep) {
        #[expect(clippy::disallowed_methods, reason = "two messages per connection")]
        self.history.do_send(step);
    }

    /// Closes the connection, if there is one, and then applies the current settings.
    fn restart(&mut self, close: Close, ctx: &mut Context<Self>) {
        self.metrics.mqtt_connection_status.set(0);
        match std::mem::replace(&mut self.mode, Mode::Idle) {
            Mode::Connecting { link, running } | Mode::Connected { link, running, .. } => {
                #[expect(clippy::disallowed_methods, reason = "one message per connection")]
                running.close.do_send(close);
                self.mode = Mode::Closing { link };
            }
            closing @ Mode::Closing { .. } => self.mode = closing,
            Mode::Waiting { timer, .. } => {
                ctx.cancel_future(timer);
                self.apply_settings(ctx);
            }
            Mode::Idle => self.apply_settings(ctx),
        }
    }

    fn set_last_error(&mut self, Failure { kind, message }: Failure) {
        self.last_error = Some(LastError { kind, message, at: clock::now() });
    }

    /// Updates the broker profile and the detectors after a connection ended, and returns the failure to report.
    fn diagnose(&mut self, failure: Failure, sign: Sign, idle: Duration) -> Failure {
        let Mode::Connected { since, .. } = &self.mode else {
            self.takeover_detector.reset();
            if failure.kind == FailureKind::Closed {
                self.broker_profile.closed_at_login();
            }
            return failure;
        };
        if since.elapsed() >= STABLE_AFTER {
            (self.failures, self.backoff_step) = (0, 0);
        }
        if sign == Sign::Unclear {
            return failure;
        }
        let up = since.elapsed();
        let is_taken_over = self.takeover_detector.connection_ended(sign, up);
        let is_idle_cut = self.idle_cuts.connection_ended(failure.kind == FailureKind::Closed, up, idle);
        match &self.settings {
            Some(settings) if is_taken_over => takeover::probable_takeover(settings),
            Some(settings) if is_idle_cut => idle_cuts::probable_idle_timeout(settings, idle),
            _ => failure,
        }
    }

    /// Logs and counts the failure, and schedules the next attempt. `soon` states whether the next connection
    /// will show which message is at fault.
    fn retry_later(&mut self, failure: Failure, soon: bool, ctx: &mut Context<Self>) {
        self.metrics.mqtt_connection_status.set(0);
        self.failures = self.failures.saturating_add(1);
        self.backoff_step = if soon { 0 } else { self.backoff_step.saturating_add(1) };
        let wait = backoff::wait_after(self.backoff_step, rand::random());
        let broker = self.settings.as_ref().map(|settings| settings.broker()).unwrap_or_default();
        let (kind, reason) = (failure.kind.as_str(), failure.message.as_str());
        let (attempt, retry_in_seconds) = (self.failures, (wait.as_secs_f64() * 10.0).round() / 10.0);
        let is_connected = matches!(self.mode, Mode::Connected { .. });
        if is_connected && !self.gate.is_open() {
            // The broker ends this connection when another node takes over.
            tracing::info!(
                broker,
                "disconnected: another node has taken over, or the database has not confirmed for a while that this \
                 node is active"
            );
        } else if is_connected {
            tracing::warn!(broker, kind, reason, retry_in_seconds, "disconnected");
        } else {
            tracing::warn!(broker, kind, reason, attempt, retry_in_seconds, "connection attempt failed");
        }
        self.note_step(ConnectionStep::Failed(failure.kind));
        self.set_last_error(failure);
        let timer = ctx.run_later(wait, |act, ctx| {
            act.metrics.mqtt_reconnect_attempts.inc();
            act.apply_settings(ctx);
        });
        let next_attempt_at = clock::truncated(clock::now() + wait);
        self.mode = Mode::Waiting { next_attempt_at, timer };
    }

    /// Returns the warning that another client has our client id, until a connection is stable.
    fn takeover_warning(&self) -> Option<Warning> {
        let LastError { message, .. } =
            self.last_error.as_ref().filter(|error| error.kind == FailureKind::TakenOver)?;
        Some(Warning::new(WarningKind::ClientIdTakenOver, message.as_str()))
    }

    /// Returns the warning that values in the configuration have no effect.
    fn ignored_warning(&self) -> Option<Warning> {
        if self.ignored.is_empty() {
            return None;
        }
        let fields = self.ignored.join(", ");
        let message = format!(
            "The configuration ([mqtt] in the file, or LIVEOBJECT__MQTT__ variables) contains other values than the \
             stored settings for {fields}. It applies only to the first start. To use its values, save them in the \
             settings; to keep the stored ones, remove these values from the configuration and restart."
        );
        Some(Warning::new(WarningKind::SettingsIgnored, message))
    }

    /// Returns the warning that Home Assistant's Supervisor does not provide the broker.
    fn provision_warning(&self) -> Option<Warning> {
        let failure = self.unusable.as_ref()?;
        let applies = failure.kind == FailureKind::BrokerNotProvided;
        applies.then(|| Warning::new(WarningKind::BrokerNotProvided, failure.message.as_str()))
    }

    /// Subscribes to our own availability topic.
    fn watch_availability(&mut self, running: &Running, ctx: &Context<Self>) {
        let Some(settings) = &self.settings else { return };
        if self.availability.connected(Instant::now()) {
            let (topic, to) = (settings.availability_topic(), ctx.address().recipient());
            #[expect(clippy::disallowed_methods, reason = "one message per connection")]
            running.subscribe.do_send(Subscribe { topic, to });
        }
    }

    /// Publishes the birth message again if somebody else has overwritten it and the connection is still up.
    fn correct_availability(&mut self, link: LinkId, ctx: &mut Context<Self>) {
        let Mode::Connected { link: current, running, .. } = &self.mode else { return };
        let Some(settings) = self.settings.as_ref().filter(|_| *current == link) else { return };
        if !self.availability.take_correction(Instant::now(), clock::now()) {
            return;
        }
        let (topic, birth) = (settings.availability_topic(), settings.birth_message.clone());
        tracing::warn!(
            topic,
            "somebody else has published to the availability topic; publishing the birth message again"
        );
        let message = PublishState { topic, payload: birth.into(), retain: true };
        ctx.spawn(running.publish.send(message).into_actor(self).map(|published, _, _| {
            if let Ok(Err(Failure { message, .. })) = published {
                tracing::warn!(reason = message, "the birth message could not be published again");
            }
        }));
    }

    fn availability_warning(&self) -> Option<Warning> {
        let settings = self.settings.as_ref()?;
        self.availability.warning(&settings.availability_topic(), Instant::now())
    }

    /// Returns the warning that the broker may drop the availability. With MQTT 5, it reports a refusal.
    fn unconfirmed_warning(&self, version: Version, since: Instant) -> Option<Warning> {
        let settings = self.settings.as_ref()?;
        let topic = settings.availability_topic();
        let is_left_out = self.left_out.iter().any(|left_out| left_out.topic == topic);
        let applies = version == Version::V311
            && self.availability.is_unconfirmed()
            && since.elapsed() >= CONFIRMED_WITHIN
            && !is_left_out;
        applies.then(|| {
            let message = topic_use::describe_unknown(&topic, &format!("MQTT {version}"), settings);
            Warning::new(WarningKind::TopicUnconfirmed, message)
        })
    }

    fn status(&self) -> ConnectionStatus {
        let enabled = self.settings.as_ref().is_some_and(|settings| settings.enabled);
        let (state, protocol, warnings, next_attempt_at) = match &self.mode {
            Mode::Idle if enabled && self.unusable.is_some() => {
                (ConnectionState::Waiting, None, Vec::new(), None)
            }
            Mode::Idle => (ConnectionState::Disabled, None, Vec::new(), None),
            Mode::Closing { .. } if !enabled => (ConnectionState::Disabled, None, Vec::new(), None),
            Mode::Connecting { .. } | Mode::Closing { .. } => {
                (ConnectionState::Connecting, None, Vec::new(), None)
            }
            Mode::Connected { version, since, warnings, refusals, .. } => {
                let of_connection = warnings.iter().chain(refusals).cloned();
                let warnings = of_connection
                    .chain(self.takeover_warning())
                    .chain(self.availability_warning())
                    .chain(self.unconfirmed_warning(*version, *since))
                    .collect();
                (ConnectionState::Connected, Some(version.as_str()), warnings, None)
            }
            Mode::Waiting { next_attempt_at, .. } => {
                (ConnectionState::Waiting, None, Vec::new(), Some(*next_attempt_at))
            }
        };
        let settings = self.settings.as_ref().filter(|settings| !settings.broker_host.is_empty());
        ConnectionStatus {
            state,
            broker: settings.map(|settings| settings.broker()),
            protocol,
            last_connected_at: self.last_connected_at,
            last_error: self.last_error.clone(),
            reconnect_attempt: if state == ConnectionState::Connected { 0 } else { self.failures },
            next_attempt_at,
            warnings: warnings
                .into_iter()
                .chain(self.left_out_warnings())
                .chain(self.security.warnings(clock::now()))
                .chain(self.ignored_warning())
                .chain(self.provision_warning())
                .chain(self.reported.iter().cloned())
                .collect(),
        }
    }

    fn left_out_warnings(&self) -> impl Iterator<Item = Warning> {
        let now = Instant::now().into_std();
        let current = self.left_out.iter().filter(move |left_out| left_out.is_current(now));
        let settings = self.settings.as_deref();
        current.filter_map(move |left_out| Some(left_out.warning(settings?)))
    }

    /// Logs the security warnings of the status. A connection may stay up for weeks, so this is repeated
    /// daily.
    fn log_security(&self) {
        for Warning { kind, message, .. } in self.security.warnings(clock::now()) {
            tracing::warn!(kind = kind.as_str(), reason = message, "connection security warning");
        }
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SECURITY_LOG_INTERVAL, |act, _| act.log_security());
    }
}

impl Handler<SettingsChanged> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, msg: SettingsChanged, ctx: &mut Self::Context) {
        let SettingsChanged { settings, change, unusable } = msg;
        let moves = settings.enabled && change == SettingsChange::Broker;
        self.settings = Some(settings);
        if change == SettingsChange::Outbox && self.unusable == unusable {
            return;
        }
        self.unusable = unusable;
        self.security = self.settings.as_deref().map(Security::from_settings).unwrap_or_default();
        self.security.update_metrics(&self.metrics);
        (self.failures, self.backoff_step) = (0, 0);
        self.last_error = None;
        self.broker_profile = BrokerProfile::default();
        self.takeover_detector.reset();
        self.idle_cuts.reset();
        self.availability = Availability::default();
        // New settings may have removed the cause, so everything is tried again.
        self.poison = self.settings.as_deref().map(Poison::new).unwrap_or_default();
        self.left_out.clear();
        if self.stopping.is_none() && !(moves && self.leave_broker(ctx)) {
            self.restart(Close::Offline, ctx);
        }
    }
}

impl Handler<SettingsIgnored> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, SettingsIgnored(fields): SettingsIgnored, _: &mut Self::Context) {
        self.ignored = fields;
    }
}

impl Handler<Connected> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, msg: Connected, ctx: &mut Self::Context) {
        let Connected { link, version, refused, warnings, certificate_ends } = msg;
        let running = match &self.mode {
            Mode::Connecting { link: current, running } if *current == link => running.clone(),
            // The connection was asked to close in the meantime.
            _ => return,
        };
        let broker = self.settings.as_ref().map(|settings| settings.broker()).unwrap_or_default();
        tracing::info!(broker, protocol = version.as_str(), "connected");
        for Warning { kind, message, .. } in &warnings {
            tracing::warn!(
                kind = kind.as_str(),
                reason = message,
                "the broker does not support all settings"
            );
        }
        self.security.connected(certificate_ends);
        self.security.update_metrics(&self.metrics);
        self.log_security();
        self.metrics.mqtt_connection_status.set(1);
        self.last_connected_at = Some(clock::now());
        let since = Instant::now();
        self.broker_profile.accepted(version, refused, since);
        self.watch_availability(&running, ctx);
        self.mode = Mode::Connected { link, running, since, version, warnings, refusals: Vec::new() };
        ctx.run_later(STABLE_AFTER, move |act, _| {
            if matches!(&act.mode, Mode::Connected { link: current, .. } if *current == link) {
                (act.failures, act.backoff_step) = (0, 0);
                act.last_error = None;
            }
        });
    }
}

impl Handler<TopicsRefused> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, msg: TopicsRefused, _: &mut Self::Context) {
        let TopicsRefused { link, warnings, left_out } = msg;
        if let Mode::Connected { link: current, refusals, .. } = &mut self.mode
            && *current == link
        {
            *refusals = warnings;
            self.left_out = left_out;
        }
    }
}

impl Handler<ConnectionEnded> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ended: ConnectionEnded, ctx: &mut Self::Context) {
        let ConnectionEnded { link, failure, closed, idle, unanswered, closed_on_qos2, poison, retry_soon } =
            ended;
        self.ended_at = Some(Instant::now().into_std());
        let is_connected = matches!(&self.mode, Mode::Connected { link: current, .. } if *current == link);
        let after_will = is_connected && self.availability.ended(Instant::now());
        match &self.mode {
            Mode::Closing { link: current } if *current == link => {
                tracing::info!("disconnected on request");
                self.apply_settings(ctx);
            }
            Mode::Connecting { link: current, .. } | Mode::Connected { link: current, .. }
                if *current == link =>
            {
                self.left_out = poison.left_out();
                self.poison = poison;
                self.broker_profile.ended(closed_on_qos2);
                let unknown = || Failure::new(FailureKind::Closed, "The connection ended without a reason.");
                let sign = Sign::of(closed, unanswered, after_will);
                let failure = self.diagnose(failure.unwrap_or_else(unknown), sign, idle);
                self.retry_later(failure, retry_soon, ctx);
            }
            _ => tracing::debug!(link = link.0, "an earlier connection ended"),
        }
    }
}

impl Handler<Arrived> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, Arrived { link, topic, payload, .. }: Arrived, ctx: &mut Self::Context) {
        let Mode::Connected { link: current, .. } = &self.mode else { return };
        let Some(settings) = self.settings.as_ref().filter(|_| *current == link) else { return };
        if topic != settings.availability_topic() {
            return;
        }
        let MqttSettings { birth_message, will_message, .. } = &**settings;
        if let Some(wait) = self.availability.arrived(&payload, birth_message, will_message, Instant::now()) {
            ctx.run_later(wait, move |act, ctx| act.correct_availability(link, ctx));
        }
    }
}

impl Handler<GetStatus> for SupervisorActor {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.status())
    }
}

impl Handler<ReportWarnings> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ReportWarnings(warnings): ReportWarnings, _: &mut Self::Context) {
        self.reported = warnings;
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Shutdown(close): Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (reply, closed) = oneshot::channel();
        self.stopping.get_or_insert_default().push(reply);
        self.restart(close, ctx);
        Box::pin(async {
            // If the actor has ended, there is no connection.
            let _ended = closed.await;
        })
    }
}

#[cfg(test)]
mod tests;
