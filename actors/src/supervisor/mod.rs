//! The supervisor: owns the connection, and is the one place that knows how it stands.
//!
//! Starts a connection from the current settings, learns of its end, waits, starts a new one: never the same value again,
//! so that no state of a failed connection lives on. New settings take effect at once; the old connection is closed
//! first, since both have the same client id.

mod backoff;
mod broker_profile;
mod security;
mod takeover;

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
use self::{broker_profile::BrokerProfile, security::Security, takeover::TakeoverDetector};
use crate::{
    connection::reason,
    domain::{
        clock::{self, Timestamp},
        ids::LinkId,
        mqtt_version::{Version, VersionPolicy},
        settings::{MqttSettings, SettingsChange},
        status::{ConnectionState, Failure, FailureKind, LastError, Warning},
        suspects::Suspects,
    },
    lifecycle::CrashGuard,
    messages::{
        config::SettingsChanged,
        connection::{Close, PublishState},
        retained::ClearBroker,
        supervisor::{
            Connected, ConnectionEnded, ConnectionStatus, GetStatus, PublishTestMessage, Shutdown,
            TestMessageError, TestMessageSent,
        },
    },
    metrics::Metrics,
};

/// How often it is logged that a certificate ends soon, while a connection stays up.
const SECURITY_CHECK: Duration = Duration::from_hours(24);

/// How long to wait for the broker to acknowledge a test message.
const TEST_MESSAGE_PATIENCE: Duration = Duration::from_secs(10);

/// What a new connection is made from.
#[derive(Debug)]
pub struct ConnectionStart {
    /// Its number.
    pub link: LinkId,
    /// The settings of this moment.
    pub settings: Arc<MqttSettings>,
    /// Which MQTT to try.
    pub approach: VersionPolicy,
    /// What is to be sent alone.
    pub suspects: Suspects,
    /// Told when the login was accepted.
    pub connected: Recipient<Connected>,
    /// Told when the connection is over.
    pub ended: Recipient<ConnectionEnded>,
}

/// A connection that was started.
#[derive(Debug, Clone)]
pub struct Running {
    /// Closes it.
    pub close: Recipient<Close>,
    /// Publishes on it what is not an event.
    pub publish: Recipient<PublishState>,
}

/// How long clearing what stands at a broker may take that is left for another one.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(5);

/// Starts a new connection.
pub type ConnectionFactory = Box<dyn Fn(ConnectionStart) -> Running>;

/// Where the connection stands, with what belongs to it.
#[derive(Debug)]
enum Mode {
    /// No settings yet, settings that say not to connect, or a secret that cannot be read.
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
    },
    Waiting {
        next_attempt_at: Timestamp,
        timer: SpawnHandle,
    },
    /// The old connection says goodbye before the settings of now take effect.
    Closing {
        link: LinkId,
    },
}

/// See the module's documentation.
pub struct SupervisorActor {
    start: ConnectionFactory,
    metrics: Metrics,
    _crash_guard: CrashGuard,
    /// Clears what of ours stands at a broker that is left for another one.
    farewell: Option<Recipient<ClearBroker>>,
    settings: Option<Arc<MqttSettings>>,
    /// Why a stored secret cannot be read.
    unreadable: Option<String>,
    security: Security,
    mode: Mode,
    links: u64,
    /// Failures in a row, since settings changed or a connection was up for good.
    failures: u32,
    /// What is known of the broker of the settings.
    acquaintance: BrokerProfile,
    twin: TakeoverDetector,
    /// What may have broken earlier connections.
    suspects: Suspects,
    last_connected_at: Option<Timestamp>,
    last_error: Option<LastError>,
    /// Asked to stop: who is told when the connection is closed.
    stopping: Option<Vec<oneshot::Sender<()>>>,
}

impl fmt::Debug for SupervisorActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorActor").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl SupervisorActor {
    /// A supervisor that waits for its first settings.
    pub fn new(start: ConnectionFactory, metrics: Metrics, crashed: UnboundedSender<&'static str>) -> Self {
        Self {
            start,
            metrics,
            _crash_guard: CrashGuard::new("supervisor", crashed),
            farewell: None,
            settings: None,
            unreadable: None,
            security: Security::default(),
            mode: Mode::Idle,
            links: 0,
            failures: 0,
            acquaintance: BrokerProfile::default(),
            twin: TakeoverDetector::default(),
            suspects: Suspects::default(),
            last_connected_at: None,
            last_error: None,
            stopping: None,
        }
    }

    /// Has this one clear what of ours stands at a broker before it is left for another one.
    #[must_use]
    pub fn saying_farewell(mut self, farewell: Recipient<ClearBroker>) -> Self {
        self.farewell = Some(farewell);
        self
    }

    /// Leaves the connected broker for another one: first what of ours stands there is cleared, as long as it can be
    /// reached. Answers whether there is anything to leave.
    fn leave(&mut self, ctx: &mut Context<Self>) -> bool {
        let (Mode::Connected { link, running, .. }, Some(farewell)) = (&self.mode, &self.farewell) else {
            return false;
        };
        let (link, close) = (*link, running.close.clone());
        let cleared = farewell.send(ClearBroker).timeout(FAREWELL_PATIENCE).into_actor(self);
        ctx.spawn(cleared.map(move |cleared, _, _| {
            if cleared.is_err() {
                tracing::warn!("not all that stands at the broker that is left could be cleared; it is when it is used again");
            }
            // It may have ended meanwhile.
            let _ended = close.try_send(Close);
        }));
        self.metrics.mqtt_connection_status.set(0);
        self.mode = Mode::Closing { link };
        true
    }

    /// Does what the settings of now ask for; only when there is no connection.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        self.mode = Mode::Idle;
        if let Some(told) = &mut self.stopping {
            for asker in told.drain(..) {
                // Whoever asked may have stopped waiting.
                let _gone = asker.send(());
            }
            return;
        }
        let Some(settings) = self.settings.clone().filter(|settings| settings.enabled) else { return };
        if let Some(message) = self.unreadable.clone() {
            tracing::warn!(reason = message, "not connecting: a stored secret cannot be read");
            self.fail(Failure::new(FailureKind::SecretUnreadable, message));
            return;
        }
        self.links += 1;
        let link = LinkId(self.links);
        tracing::debug!(link = link.0, broker = settings.broker(), "connecting");
        let start = ConnectionStart {
            link,
            approach: self.acquaintance.approach(settings.protocol, Instant::now()),
            suspects: std::mem::take(&mut self.suspects),
            settings,
            connected: ctx.address().recipient(),
            ended: ctx.address().recipient(),
        };
        let running = (self.start)(start);
        self.mode = Mode::Connecting { link, running };
    }

    /// Closes what runs, if anything does, and then does what the settings of now ask for.
    fn start_over(&mut self, ctx: &mut Context<Self>) {
        self.metrics.mqtt_connection_status.set(0);
        match std::mem::replace(&mut self.mode, Mode::Idle) {
            Mode::Connecting { link, running } | Mode::Connected { link, running, .. } => {
                #[expect(clippy::disallowed_methods, reason = "one message a connection")]
                running.close.do_send(Close);
                self.mode = Mode::Closing { link };
            }
            closing @ Mode::Closing { .. } => self.mode = closing,
            Mode::Waiting { timer, .. } => {
                ctx.cancel_future(timer);
                self.proceed(ctx);
            }
            Mode::Idle => self.proceed(ctx),
        }
    }

    fn fail(&mut self, Failure { kind, message }: Failure) {
        self.last_error = Some(LastError { kind, message, at: clock::now() });
    }

    /// What a connection's end tells of the broker, and of a client with our id; and the failure as it is to be told.
    fn learn(&mut self, failure: Failure, closed: bool) -> Failure {
        let Mode::Connected { since, .. } = &self.mode else {
            self.twin.unlikely();
            if failure.kind == FailureKind::Closed {
                self.acquaintance.turned_away();
            }
            return failure;
        };
        if since.elapsed() >= STABLE_AFTER {
            self.failures = 0;
        }
        match (self.twin.ended(closed, since.elapsed()), &self.settings) {
            (true, Some(settings)) => reason::probably_taken_over(settings),
            _ => failure,
        }
    }

    fn lost(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        self.metrics.mqtt_connection_status.set(0);
        self.failures = self.failures.saturating_add(1);
        let wait = backoff::wait_after(self.failures, rand::random());
        let broker = self.settings.as_ref().map(|settings| settings.broker()).unwrap_or_default();
        let (kind, reason) = (failure.kind.as_str(), failure.message.as_str());
        let (attempt, again_in_seconds) = (self.failures, wait.as_secs_f64());
        if matches!(self.mode, Mode::Connected { .. }) {
            tracing::warn!(broker, kind, reason, again_in_seconds, "disconnected");
        } else {
            tracing::warn!(broker, kind, reason, attempt, again_in_seconds, "connecting failed");
        }
        self.fail(failure);
        let timer = ctx.run_later(wait, |act, ctx| {
            act.metrics.mqtt_reconnect_attempts.inc();
            act.proceed(ctx);
        });
        let next_attempt_at = clock::truncated(clock::now() + wait);
        self.mode = Mode::Waiting { next_attempt_at, timer };
    }

    /// The warning that another client has our id, until a connection has stayed.
    fn taken_over(&self) -> Option<Warning> {
        let LastError { message, .. } =
            self.last_error.as_ref().filter(|error| error.kind == FailureKind::TakenOver)?;
        Some(Warning { kind: "client_id_taken_over", message: message.clone() })
    }

    fn status(&self) -> ConnectionStatus {
        let enabled = self.settings.as_ref().is_some_and(|settings| settings.enabled);
        let (state, protocol, warnings, next_attempt_at) = match &self.mode {
            Mode::Idle if enabled && self.unreadable.is_some() => {
                (ConnectionState::Waiting, None, Vec::new(), None)
            }
            Mode::Idle => (ConnectionState::Disabled, None, Vec::new(), None),
            Mode::Closing { .. } if !enabled => (ConnectionState::Disabled, None, Vec::new(), None),
            Mode::Connecting { .. } | Mode::Closing { .. } => {
                (ConnectionState::Connecting, None, Vec::new(), None)
            }
            Mode::Connected { version, warnings, .. } => {
                let warnings = warnings.iter().cloned().chain(self.taken_over()).collect();
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
            warnings: warnings.into_iter().chain(self.security.warnings(clock::now())).collect(),
        }
    }

    /// A connection may stay up for weeks: what the status tells is logged too, once a day.
    fn log_security(&self) {
        for Warning { kind, message } in self.security.warnings(clock::now()) {
            tracing::warn!(kind, reason = message, "the connection's security needs care");
        }
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SECURITY_CHECK, |act, _| act.log_security());
    }
}

impl Handler<SettingsChanged> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, msg: SettingsChanged, ctx: &mut Self::Context) {
        let SettingsChanged { settings, change, unreadable } = msg;
        let moves = settings.enabled && change == SettingsChange::Broker;
        self.settings = Some(settings);
        self.unreadable = unreadable;
        self.security = self.settings.as_deref().map(Security::of).unwrap_or_default();
        self.security.measure(&self.metrics);
        self.failures = 0;
        self.last_error = None;
        self.acquaintance = BrokerProfile::default();
        self.twin.unlikely();
        if self.stopping.is_none() && !(moves && self.leave(ctx)) {
            self.start_over(ctx);
        }
    }
}

impl Handler<Connected> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, msg: Connected, ctx: &mut Self::Context) {
        let Connected { link, version, refused, warnings, certificate_ends } = msg;
        let running = match &self.mode {
            Mode::Connecting { link: current, running } if *current == link => running.clone(),
            // It was told to close meanwhile.
            _ => return,
        };
        let broker = self.settings.as_ref().map(|settings| settings.broker()).unwrap_or_default();
        tracing::info!(broker, protocol = version.as_str(), "connected");
        for Warning { kind, message } in &warnings {
            tracing::warn!(kind, reason = message, "the broker cannot do as the settings ask");
        }
        self.security.connected(certificate_ends);
        self.security.measure(&self.metrics);
        self.log_security();
        self.metrics.mqtt_connection_status.set(1);
        self.last_connected_at = Some(clock::now());
        let since = Instant::now();
        self.acquaintance.accepted(version, refused, since);
        self.mode = Mode::Connected { link, running, since, version, warnings };
        ctx.run_later(STABLE_AFTER, move |act, _| {
            if matches!(&act.mode, Mode::Connected { link: current, .. } if *current == link) {
                act.failures = 0;
                act.last_error = None;
            }
        });
    }
}

impl Handler<ConnectionEnded> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, ended: ConnectionEnded, ctx: &mut Self::Context) {
        let ConnectionEnded { link, failure, closed, closed_on_qos2, suspects } = ended;
        match &self.mode {
            Mode::Closing { link: current } if *current == link => {
                self.suspects = suspects;
                tracing::info!("disconnected, as asked");
                self.proceed(ctx);
            }
            Mode::Connecting { link: current, .. } | Mode::Connected { link: current, .. }
                if *current == link =>
            {
                self.suspects = suspects;
                self.acquaintance.ended(closed_on_qos2);
                let unknown = || Failure::new(FailureKind::Closed, "The connection ended without a reason.");
                let failure = self.learn(failure.unwrap_or_else(unknown), closed);
                self.lost(failure, ctx);
            }
            _ => tracing::debug!(link = link.0, "an earlier connection ended"),
        }
    }
}

impl Handler<GetStatus> for SupervisorActor {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.status())
    }
}

impl Handler<PublishTestMessage> for SupervisorActor {
    type Result = ResponseFuture<Result<TestMessageSent, TestMessageError>>;

    fn handle(&mut self, _: PublishTestMessage, _: &mut Self::Context) -> Self::Result {
        let connected = match (&self.mode, &self.settings) {
            (Mode::Connected { running, .. }, Some(settings)) => {
                Some((running.publish.clone(), settings.topic_prefix.test()))
            }
            _ => None,
        };
        let sent = async move {
            let (publish, topic) = connected.ok_or(TestMessageError::NotConnected)?;
            let text = serde_json::json!({
                "message": "Test message from liveobject",
                "timestamp": clock::rfc3339(clock::now()),
            });
            let message =
                PublishState { topic: topic.clone(), payload: text.to_string().into(), retain: false };
            match publish.send(message).timeout(TEST_MESSAGE_PATIENCE).await {
                Ok(answer) => answer?,
                Err(actix::MailboxError::Closed) => return Err(TestMessageError::NotConnected),
                Err(actix::MailboxError::Timeout) => {
                    let text = "The broker has not acknowledged the message within 10 s.";
                    return Err(Failure::new(FailureKind::Timeout, text).into());
                }
            }
            Ok(TestMessageSent { topic })
        };
        Box::pin(async move {
            let result = sent.await;
            if let Err(TestMessageError::Failed(failure)) = &result {
                tracing::warn!(kind = failure.kind.as_str(), "the test message was not published");
            }
            result
        })
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (asker, closed) = oneshot::channel();
        self.stopping.get_or_insert_default().push(asker);
        self.start_over(ctx);
        Box::pin(async {
            // An actor that ended has no connection any more.
            let _ended = closed.await;
        })
    }
}

#[cfg(test)]
mod tests;
