//! The settings and their secrets.
//!
//! [`ConfigActor`] owns the one row of `mqtt_config`, the age identity, and the secrets in plain text, which exist only
//! here and in what [`SettingsChanged`] carries. It promises: what is used is what is stored; a replacement is stored whole
//! or not at all, and told only then; replacements take place one after the other, in the order in which they came; a
//! stored secret is never sent where it was not entered for.
//!
//! It starts even when a secret cannot be read: what is wrong and how to mend it is then told instead, and neither the
//! identity file nor a ciphertext is overwritten until somebody enters the secret again. It does not connect; a trial
//! connection is the probe's work.

mod current;
pub mod identity;
mod identity_error;
pub mod identity_file;
mod open;
mod recover;
mod replace;
mod reseal;
pub mod rotate;
mod secrets;
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

pub use source::{GivenIdentity, IdentitySource};

use self::{
    current::Current,
    identity::PublicKey,
    replace::{Place, Replaced},
};
use crate::{
    domain::{
        fields::Invalid,
        probe_report::{TestProgress, TestReport},
        settings::{MqttSettings, SettingsChange},
    },
    lifecycle::CrashGuard,
    messages::config::{
        GetSettings, ReplaceError, ReplaceSettings, SettingsChanged, SettingsView, TestConnection,
    },
    store::{Store, StoreError},
};

/// Trial connections at once: each may take ten seconds and a connection of the broker's. One more is refused.
const MAX_TRIALS: usize = 2;

/// Tries a connection with these settings; takes at most ten seconds.
pub type Probe =
    fn(Arc<MqttSettings>, Option<UnboundedSender<TestProgress>>) -> LocalBoxFuture<'static, TestReport>;

/// Where the settings lie, and whom the actor works with.
pub struct ConfigOptions {
    /// Holds the settings.
    pub store: Store,
    /// The identity that secrets are encrypted with; a file is made when there is none and no ciphertext needs one.
    pub identity: IdentitySource,
    /// Who else can read the secrets; a change is made good at the start.
    pub recipients: Vec<PublicKey>,
    /// The first settings, used and stored only while the database holds none.
    pub initial: Option<Value>,
    /// Tries a connection.
    pub probe: Probe,
    /// Told the actor's name when it panics.
    pub crashed: UnboundedSender<&'static str>,
}

impl fmt::Debug for ConfigOptions {
    /// Without the first settings, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigOptions").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The actors that work by the settings, in the order in which they are notified.
#[derive(Debug, Clone)]
pub struct SettingsListeners {
    /// Stops delivering to a broker that is left.
    pub outbox: Recipient<SettingsChanged>,
    /// Drops the old connection before cameras and discovery send new state.
    pub retained: Recipient<SettingsChanged>,
    /// Publishes the states of cameras under the new topics.
    pub cameras: Recipient<SettingsChanged>,
    /// Announces the entities with the new topics.
    pub discovery: Recipient<SettingsChanged>,
    /// Connects with the new settings. It is the last one, so that all others know the settings that a new connection
    /// belongs to.
    pub supervisor: Recipient<SettingsChanged>,
}

impl SettingsListeners {
    fn notify(&self, changed: &SettingsChanged) {
        let Self { outbox, retained, cameras, discovery, supervisor } = self;
        for listener in [outbox, retained, cameras, discovery, supervisor] {
            #[expect(
                clippy::disallowed_methods,
                reason = "one a replacement, and replacements are handled one at a time"
            )]
            listener.do_send(changed.clone());
        }
    }
}

/// The settings as read from the database, before the actor that owns them is started.
#[derive(Debug)]
pub struct StoredSettings {
    place: Place,
    current: Current,
    probe: Probe,
    crashed: UnboundedSender<&'static str>,
}

impl StoredSettings {
    /// Reads the settings. At the first start it makes the row and the identity; it also finishes a key rotation that was
    /// interrupted. Fails only when the database does.
    pub async fn open(options: ConfigOptions) -> Result<Self, StoreError> {
        let ConfigOptions { store, identity, recipients, initial, probe, crashed } = options;
        let place = Place { store, identity, recipients: recipients.into() };
        let current = open::open(&place, initial).await?;
        Ok(Self { place, current, probe, crashed })
    }

    /// Returns the settings in force, secrets included.
    pub fn settings(&self) -> Arc<MqttSettings> {
        self.current.to_changed(SettingsChange::Other).settings
    }

    /// Tries a connection with these settings.
    pub async fn test_connection(&self) -> Result<TestReport, Invalid> {
        let settings = self.current.trial(None)?;
        Ok(run_probe(self.probe, settings, None).await)
    }

    /// Starts the actor. It notifies the listeners now, and after each replacement.
    pub fn start(self, listeners: SettingsListeners) -> Addr<ConfigActor> {
        let Self { place, current, probe, crashed } = self;
        let trials = Arc::new(Semaphore::new(MAX_TRIALS));
        let _crash_guard = CrashGuard::new("config", crashed);
        ConfigActor { place, current, listeners, probe, trials, _crash_guard }.start()
    }
}

/// Owns the MQTT *settings*, which change while the service runs. The *configuration*, which the process reads once from
/// its file and environment, belongs to the binary.
#[derive(Debug)]
pub struct ConfigActor {
    place: Place,
    current: Current,
    listeners: SettingsListeners,
    probe: Probe,
    trials: Arc<Semaphore>,
    _crash_guard: CrashGuard,
}

impl ConfigActor {
    fn notify(&self, change: SettingsChange) {
        let changed = self.current.to_changed(change);
        if let Some(why) = &changed.unreadable {
            tracing::warn!(%why, "the stored settings cannot be used to connect to the broker");
        }
        self.listeners.notify(&changed);
    }
}

impl Actor for ConfigActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.notify(SettingsChange::Other);
    }
}

impl Handler<GetSettings> for ConfigActor {
    type Result = MessageResult<GetSettings>;

    fn handle(&mut self, _: GetSettings, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.current.view())
    }
}

impl Handler<ReplaceSettings> for ConfigActor {
    type Result = AtomicResponse<Self, Result<SettingsView, ReplaceError>>;

    fn handle(&mut self, ReplaceSettings(value): ReplaceSettings, _: &mut Self::Context) -> Self::Result {
        let (place, current) = (self.place.clone(), self.current.clone());
        let replacing = async move { replace::replace(&place, current, value).await };
        AtomicResponse::new(Box::pin(replacing.into_actor(self).map(|replaced, act, _| {
            let Replaced { current, changed } = replaced?;
            let change = act.current.settings.change_to(&current.settings);
            act.current = current;
            tracing::info!(changed = changed.join(","), "settings changed");
            act.notify(change);
            Ok(act.current.view())
        })))
    }
}

impl Handler<TestConnection> for ConfigActor {
    type Result = ResponseFuture<Result<TestReport, Invalid>>;

    fn handle(
        &mut self,
        TestConnection { settings: object, watcher }: TestConnection,
        _: &mut Self::Context,
    ) -> Self::Result {
        let (settings, permit) = match (self.current.trial(object), self.trials.clone().try_acquire_owned()) {
            (Ok(settings), Ok(permit)) => (settings, permit),
            (Err(invalid), _) => return Box::pin(async move { Err(invalid) }),
            (_, Err(_)) => {
                let busy = format!("{MAX_TRIALS} tests are under way; try again in ten seconds");
                return Box::pin(async move { Err(Invalid::one("", busy)) });
            }
        };
        let probe = self.probe;
        Box::pin(async move {
            let _until_it_ends = permit;
            Ok(run_probe(probe, settings, watcher).await)
        })
    }
}

/// Runs a connection test. A panic in it is the test's failure, not the settings'.
async fn run_probe(
    probe: Probe,
    settings: MqttSettings,
    watcher: Option<UnboundedSender<TestProgress>>,
) -> TestReport {
    let trial = AssertUnwindSafe(async move { probe(Arc::new(settings), watcher).await });
    trial.catch_unwind().await.unwrap_or_else(|_| panicked())
}

fn panicked() -> TestReport {
    TestReport {
        success: false,
        message: "the test was ended by a fault in this program; the log has more".to_owned(),
        protocol: None,
        stages: Vec::new(),
    }
}
