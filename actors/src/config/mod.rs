//! The settings and their secrets.
//!
//! [`ConfigActor`] owns the MQTT *settings*, which change while the service runs: the single row of
//! `mqtt_config`, the age identity, and the decrypted secrets, which exist only here and in
//! [`SettingsChanged`]. The *configuration*, which the process reads once from its file and the environment,
//! belongs to the binary.
//!
//! It guarantees that the settings in effect are the stored ones; that a replacement is stored as a whole or
//! not at all, and is reported only after it is stored; that replacements are handled one at a time, in the order in
//! which they arrive; and that a stored secret is sent only to the destination that it was entered for.
//!
//! It starts even if a secret cannot be read. It then reports what is wrong and how to fix it, and overwrites
//! neither the identity file nor a ciphertext until someone enters the secret again. It does not connect to
//! the broker: the probe runs the connection tests.

mod current;
pub mod identity;
mod identity_error;
pub mod identity_file;
mod identity_state;
mod initial;
mod open;
mod provision;
mod readable;
mod recover;
mod replace;
mod reseal;
pub mod rotate;
mod secrets;
mod shared_keys;
mod source;
#[cfg(test)]
mod tests;

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use actix::{
    Actor, ActorFutureExt, Addr, AtomicResponse, Context, Handler, MessageResult, Recipient, ResponseFuture,
    WrapFuture,
};
use futures_util::{FutureExt, future::LocalBoxFuture};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc::UnboundedSender};

pub use self::{
    identity_state::{GivenIdentity, IdentityState},
    readable::ReadableCheck,
    shared_keys::{ShareError, SharedKey, SharedKeys, shared_link_key},
    source::IdentitySource,
};

use self::{
    current::Current,
    identity::PublicKey,
    initial::Initial,
    replace::{Replacement, SecretsContext},
};
use crate::{
    domain::{
        fields::Invalid,
        probe_report::{TestProgress, TestReport},
        settings::{
            MqttSettings, SettingsChange, SettingsUpdate, provided::Provision, revision::Precondition,
        },
    },
    lifecycle::CrashGuard,
    messages::{
        config::{
            GetSettings, ProvideBroker, ReplaceError, ReplaceSettings, SettingsChanged, SettingsView,
            TestConnection,
        },
        stream::SettingsRevised,
        supervisor::SettingsIgnored,
    },
    store::{Store, StoreError},
};

/// Maximum number of concurrent connection tests. Each may take ten seconds and uses one connection to the
/// broker.
const MAX_TESTS: usize = 2;

/// A function that tests a connection with the given settings, in at most ten seconds.
pub type Probe =
    fn(Arc<MqttSettings>, Option<UnboundedSender<TestProgress>>) -> LocalBoxFuture<'static, TestReport>;

/// What the config actor needs.
pub struct ConfigOptions {
    /// The database that stores the settings.
    pub store: Store,
    /// The identity that encrypts the secrets. A missing file is created if no ciphertext needs a previous
    /// identity.
    pub identity: IdentitySource,
    /// The additional recipients. If they differ from those of the stored secrets, the secrets are encrypted
    /// again at startup.
    pub recipients: Vec<PublicKey>,
    /// The initial settings. Unless `managed` is set, they are stored and used only if the database contains none.
    pub initial: Option<Value>,
    /// Whether the initial settings replace the stored ones at each start and cannot be changed at run time.
    pub managed: bool,
    /// Whether Home Assistant's Supervisor provides the broker. The settings then contain everything else.
    pub provided: bool,
    /// Tests a connection.
    pub probe: Probe,
    /// Receives the actor's name if it panics.
    pub crashed: UnboundedSender<&'static str>,
}

impl fmt::Debug for ConfigOptions {
    /// Omits the initial settings, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigOptions").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The actors that use the settings, in the order in which they are notified.
#[derive(Debug, Clone)]
pub struct SettingsListeners {
    /// Stops the delivery to the old broker.
    pub outbox: Recipient<SettingsChanged>,
    /// Drops the old connection before cameras and discovery send new state.
    pub retained: Recipient<SettingsChanged>,
    /// Stops replaying over the old connection, and ends replays to topics that are no longer allowed.
    pub replays: Recipient<SettingsChanged>,
    /// Publishes the states of cameras under the new topics.
    pub cameras: Recipient<SettingsChanged>,
    /// Announces the entities with the new topics.
    pub discovery: Recipient<SettingsChanged>,
    /// Connects with the new settings. It is the last one, so that all others know the new settings before a
    /// connection is made with them.
    pub supervisor: Recipient<SettingsChanged>,
    /// Reports in the status which initial settings are ignored.
    pub status: Recipient<SettingsIgnored>,
    /// Notifies the clients that show the settings.
    pub streams: Recipient<SettingsRevised>,
}

impl SettingsListeners {
    fn notify(&self, changed: &SettingsChanged) {
        let Self { outbox, retained, replays, cameras, discovery, supervisor, status: _, streams: _ } = self;
        for listener in [outbox, retained, replays, cameras, discovery, supervisor] {
            #[expect(
                clippy::disallowed_methods,
                reason = "one per replacement, and replacements are handled one at a time"
            )]
            listener.do_send(changed.clone());
        }
    }
}

/// The settings as read from the database, before the actor that owns them is started.
#[derive(Debug)]
pub struct StoredSettings {
    context: SecretsContext,
    current: Current,
    initial: Option<Initial>,
    managed: bool,
    provision: Option<Provision>,
    probe: Probe,
    crashed: UnboundedSender<&'static str>,
}

impl StoredSettings {
    /// Reads the settings. Creates the row and the identity on first start, and finishes or undoes a key
    /// rotation that was interrupted. Fails only if the database does.
    pub async fn open(options: ConfigOptions) -> Result<Self, StoreError> {
        let ConfigOptions { store, identity, recipients, initial, managed, provided, probe, crashed } =
            options;
        let context = SecretsContext { store, identity, recipients: recipients.into() };
        let current = open::open(&context, initial.clone(), managed).await?;
        let initial = initial.and_then(|value| Initial::read(value, &current.client_id));
        let provision = provided.then_some(Provision::Asking);
        Ok(Self { context, current, initial, managed, provision, probe, crashed })
    }

    /// Returns the settings in effect, with the secrets.
    pub fn settings(&self) -> Arc<MqttSettings> {
        self.to_changed().settings
    }

    /// Returns why these settings cannot be used to connect, if they cannot.
    pub fn unreadable(&self) -> Option<String> {
        self.to_changed().unusable.map(|failure| failure.message)
    }

    /// Sets what Home Assistant's Supervisor reports about its broker. Does nothing unless it provides the broker.
    pub fn provide(&mut self, provision: Provision) {
        self.provision = self.provision.take().map(|_| provision);
    }

    fn to_changed(&self) -> SettingsChanged {
        provision::to_changed(&self.current, self.provision.as_ref(), SettingsChange::Other)
    }

    /// Returns the settings as clients see them, without the secrets.
    pub fn view(&self) -> SettingsView {
        provision::view(&self.current, self.provision.as_ref(), self.managed)
    }

    /// Replaces all settings, while no service runs with this database. If this fails, the stored settings are
    /// unchanged.
    pub async fn replace(&self, update: SettingsUpdate) -> Result<SettingsView, ReplaceError> {
        if self.managed {
            return Err(ReplaceError::Managed);
        }
        let Replacement { current, .. } =
            replace::update_all(&self.context, self.current.clone(), update).await?;
        Ok(provision::view(&current, self.provision.as_ref(), false))
    }

    /// Tests a connection with these settings. Its progress is sent to `watcher`.
    pub async fn test_connection(
        &self,
        watcher: Option<UnboundedSender<TestProgress>>,
    ) -> Result<TestReport, Invalid> {
        let settings = provision::shown(&self.current, self.provision.as_ref()).test_settings(None)?;
        Ok(run_probe(self.probe, settings, watcher).await)
    }

    /// Starts the actor. It notifies the listeners when it starts and after each replacement.
    pub fn start(self, listeners: SettingsListeners) -> Addr<ConfigActor> {
        let Self { context, current, initial, managed, provision, probe, crashed } = self;
        let tests_in_progress = Arc::new(Semaphore::new(MAX_TESTS));
        ConfigActor {
            context,
            current,
            initial,
            managed,
            provision,
            listeners,
            probe,
            tests_in_progress,
            _crash_guard: CrashGuard::new("config", crashed),
        }
        .start()
    }
}

/// Owns the MQTT settings and their secrets; see the module's documentation.
#[derive(Debug)]
pub struct ConfigActor {
    context: SecretsContext,
    current: Current,
    /// The initial settings, which are compared with those in effect.
    initial: Option<Initial>,
    /// Whether the settings come from the configuration and cannot be replaced.
    managed: bool,
    /// What Home Assistant's Supervisor reports about its broker; `None` if it does not provide the broker.
    provision: Option<Provision>,
    listeners: SettingsListeners,
    probe: Probe,
    tests_in_progress: Arc<Semaphore>,
    _crash_guard: CrashGuard,
}

impl ConfigActor {
    fn notify(&self, change: SettingsChange) {
        let changed = self.to_changed(change);
        let is_asking = self.provision == Some(Provision::Asking);
        if let Some(reason) = changed.unusable.as_ref().filter(|_| !is_asking) {
            tracing::warn!(%reason, "the settings cannot be used to connect to the broker");
        }
        self.listeners.notify(&changed);
        let ignored = self.ignored();
        #[expect(
            clippy::disallowed_methods,
            reason = "one per replacement, and replacements are handled one at a time"
        )]
        self.listeners.status.do_send(SettingsIgnored(ignored));
        #[expect(
            clippy::disallowed_methods,
            reason = "one per replacement, and replacements are handled one at a time"
        )]
        self.listeners.streams.do_send(SettingsRevised(self.view().revision));
    }

    fn to_changed(&self, change: SettingsChange) -> SettingsChanged {
        provision::to_changed(&self.current, self.provision.as_ref(), change)
    }

    /// Returns the settings as clients see and test them.
    fn shown(&self) -> Current {
        provision::shown(&self.current, self.provision.as_ref())
    }

    fn view(&self) -> SettingsView {
        provision::view(&self.current, self.provision.as_ref(), self.managed)
    }

    fn may_replace(&self, precondition: &Precondition) -> Result<(), ReplaceError> {
        if self.managed {
            return Err(ReplaceError::Managed);
        }
        if precondition.allows(&self.view().revision) { Ok(()) } else { Err(ReplaceError::Changed) }
    }

    fn ignored(&self) -> Vec<&'static str> {
        if self.managed {
            return Vec::new();
        }
        self.initial.as_ref().map(|initial| initial.ignored(&self.current)).unwrap_or_default()
    }
}

impl Actor for ConfigActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.notify(SettingsChange::Other);
        let fields = self.ignored();
        if !fields.is_empty() {
            tracing::warn!(
                settings = fields.join(","),
                "initial MQTT settings are ignored, because settings are already stored"
            );
        }
    }
}

impl Handler<GetSettings> for ConfigActor {
    type Result = MessageResult<GetSettings>;

    fn handle(&mut self, _: GetSettings, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.view())
    }
}

impl Handler<ReplaceSettings> for ConfigActor {
    type Result = AtomicResponse<Self, Result<SettingsView, ReplaceError>>;

    fn handle(&mut self, message: ReplaceSettings, _: &mut Self::Context) -> Self::Result {
        let ReplaceSettings { settings: value, precondition } = message;
        if let Err(error) = self.may_replace(&precondition) {
            return AtomicResponse::new(Box::pin(async { Err(error) }.into_actor(self)));
        }
        let value = match provision::without_provided(value, &self.current, self.provision.as_ref()) {
            Ok(value) => value,
            Err(fields) => {
                let refused = async { Err(ReplaceError::Provided(fields)) };
                return AtomicResponse::new(Box::pin(refused.into_actor(self)));
            }
        };
        let (context, current) = (self.context.clone(), self.current.clone());
        let replacing = async move { replace::replace(&context, current, value).await };
        AtomicResponse::new(Box::pin(replacing.into_actor(self).map(|replaced, act, _| {
            let Replacement { current, changed } = replaced?;
            let before = act.to_changed(SettingsChange::Other).settings;
            act.current = current;
            let after = act.to_changed(SettingsChange::Other).settings;
            let change = before.change_to(&after, &changed);
            tracing::info!(changed = changed.join(","), "settings changed");
            act.notify(change);
            Ok(act.view())
        })))
    }
}

impl Handler<ProvideBroker> for ConfigActor {
    type Result = ();

    fn handle(&mut self, ProvideBroker(provision): ProvideBroker, _: &mut Self::Context) {
        if !self.provision.as_ref().is_some_and(|known| provision.replaces(known)) {
            return;
        }
        if let Provision::Broker(broker) = &provision {
            tracing::info!(broker = broker.address(), "Home Assistant's Supervisor provides the broker");
        }
        let before = self.to_changed(SettingsChange::Other).settings;
        let was_open = self.provision.as_ref().is_some_and(Provision::is_open);
        self.provision = Some(provision);
        let after = self.to_changed(SettingsChange::Other).settings;
        // The first answer is the start of the connection, and not a move to another broker.
        let change = if was_open { SettingsChange::Other } else { before.change_to(&after, &[]) };
        self.notify(change);
    }
}

impl Handler<TestConnection> for ConfigActor {
    type Result = ResponseFuture<Result<TestReport, Invalid>>;

    fn handle(
        &mut self,
        TestConnection { settings: object, watcher }: TestConnection,
        _: &mut Self::Context,
    ) -> Self::Result {
        let (settings, permit) =
            match (self.shown().test_settings(object), self.tests_in_progress.clone().try_acquire_owned()) {
                (Ok(settings), Ok(permit)) => (settings, permit),
                (Err(invalid), _) => return Box::pin(async move { Err(invalid) }),
                (_, Err(_)) => {
                    let busy =
                        format!("{MAX_TESTS} connection tests are already running; try again in ten seconds");
                    return Box::pin(async move { Err(Invalid::one("", busy)) });
                }
            };
        let probe = self.probe;
        Box::pin(async move {
            let _permit = permit;
            Ok(run_probe(probe, settings, watcher).await)
        })
    }
}

/// Runs a connection test. A panic in it fails the test and does not affect the actor.
async fn run_probe(
    probe: Probe,
    settings: MqttSettings,
    watcher: Option<UnboundedSender<TestProgress>>,
) -> TestReport {
    let test = AssertUnwindSafe(async move { probe(Arc::new(settings), watcher).await });
    test.catch_unwind().await.unwrap_or_else(|_| panicked())
}

fn panicked() -> TestReport {
    TestReport {
        success: false,
        message: "the test failed because of a bug in liveobject; see the log for details".to_owned(),
        protocol: None,
        stages: Vec::new(),
    }
}
