//! The messages that `ConfigActor` handles, and the fact that it reports.

use std::{fmt, sync::Arc};

use actix::Message;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::domain::{
    clock::Timestamp,
    fields::Invalid,
    probe_report::{TestProgress, TestReport},
    settings::{MqttSettings, SettingsChange, provided::Provision, revision::Precondition},
    status::Failure,
    store_fault::StoreFault,
};

/// From the HTTP layer: returns the settings in effect.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "SettingsView")]
pub struct GetSettings;

/// The settings as clients see them: without the secrets, but with a flag for each one that shows whether it
/// is stored.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MqttSettings))]
pub struct SettingsView {
    /// All settings except the secrets.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(inline))]
    pub settings: MqttSettings,
    /// Whether a password is stored.
    pub has_password: bool,
    /// Whether a client key is stored.
    pub has_client_key: bool,
    /// When the settings were last replaced; `None` for defaults.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<String>, format = DateTime))]
    pub updated_at: Option<Timestamp>,
    /// Whether the settings come from the configuration (`[mqtt] managed`) and cannot be replaced.
    pub managed: bool,
    /// The settings that Home Assistant's Supervisor provides, and that cannot be replaced while it does.
    pub provided: Vec<&'static str>,
    /// Changes whenever something here or a secret changes. It is also the entity tag of the settings.
    pub revision: String,
}

/// From the HTTP layer: replaces the settings with a JSON object, and reconnects if that is necessary.
/// Returns once the settings are stored. If that fails, the settings are unchanged.
#[derive(Message)]
#[rtype(result = "Result<SettingsView, ReplaceError>")]
pub struct ReplaceSettings {
    /// The new settings.
    pub settings: Value,
    /// Which settings may be replaced. No other replacement can come between this check and the change.
    pub precondition: Precondition,
}

impl ReplaceSettings {
    /// Creates a message that replaces the settings, whatever they are.
    pub fn new(settings: Value) -> Self {
        Self { settings, precondition: Precondition::None }
    }
}

impl fmt::Debug for ReplaceSettings {
    /// Omits the object, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplaceSettings").finish_non_exhaustive()
    }
}

/// Why the settings were not replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// Some fields are invalid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The settings come from the configuration.
    #[error(
        "the MQTT settings are managed by the configuration ([mqtt] managed = true); change them in the \
         configuration file or the environment, and restart the service"
    )]
    Managed,
    /// Home Assistant's Supervisor provides these fields.
    #[error(
        "Home Assistant's Supervisor provides the MQTT broker, so these settings cannot be changed: {}. To use another \
         broker, set mqtt_source to \"settings\" in the options of the app, and restart the app",
        .0.join(", ")
    )]
    Provided(Vec<&'static str>),
    /// The settings do not have a required revision.
    #[error(
        "the settings have changed since they were read; nothing was replaced. Read them again, and repeat the \
         request with their new entity tag"
    )]
    Changed,
    /// The identity that encrypts the secrets cannot be used.
    #[error("the secrets cannot be stored: {0}")]
    Identity(String),
    /// The database could not store them.
    #[error("the settings could not be stored: {0}")]
    Storage(StoreFault),
}

/// From the HTTP layer: tests a connection, stage by stage, without saving anything.
#[derive(Message)]
#[rtype(result = "Result<TestReport, Invalid>")]
pub struct TestConnection {
    /// The settings to test; the stored settings if this is `None` or an empty object.
    pub settings: Option<Value>,
    /// Receives a message when a stage begins and when it ends: about ten for each broker address.
    pub watcher: Option<UnboundedSender<TestProgress>>,
}

impl TestConnection {
    /// Creates a test whose stages are reported only at its end.
    pub fn new(settings: Option<Value>) -> Self {
        Self { settings, watcher: None }
    }

    /// Creates a test that also reports each stage to `watcher` while it runs.
    pub fn watched(settings: Option<Value>, watcher: UnboundedSender<TestProgress>) -> Self {
        Self { settings, watcher: Some(watcher) }
    }
}

impl fmt::Debug for TestConnection {
    /// Omits the object, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestConnection").finish_non_exhaustive()
    }
}

/// Fact, from the config actor to all actors that use the settings: these settings are in effect now.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SettingsChanged {
    /// The settings, secrets included.
    pub settings: Arc<MqttSettings>,
    /// The differences from the previous settings.
    pub change: SettingsChange,
    /// Why these settings cannot be used to connect, and how to fix it. In this case, no connection is attempted.
    pub unusable: Option<Failure>,
}

/// From the process: what Home Assistant's Supervisor reports about its broker. It takes effect at once, and is never
/// stored. Ignored unless the Supervisor provides the broker (`ServiceOptions::mqtt_provided`).
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ProvideBroker(pub Provision);
