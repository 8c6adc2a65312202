//! What can be said to the [`ConfigActor`](super::ConfigActor), and what it answers.

use std::{fmt, sync::Arc};

use actix::Message;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::domain::{
    clock::Timestamp,
    fields::Invalid,
    probe_report::{TestProgress, TestReport},
    settings::{MqttSettings, SettingsChange},
    store_fault::StoreFault,
};

/// From the HTTP layer: the settings in force.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "SettingsView")]
pub struct GetSettings;

/// The settings as they are shown: no secret, only whether there is one.
#[derive(Debug, Clone, Serialize)]
pub struct SettingsView {
    /// Everything but the secrets.
    #[serde(flatten)]
    pub settings: MqttSettings,
    /// Whether a password is stored.
    pub has_password: bool,
    /// Whether a client key is stored.
    pub has_client_key: bool,
    /// When the settings were last replaced; `None` for defaults.
    pub updated_at: Option<Timestamp>,
}

/// From the HTTP layer: replace the settings by this JSON object, and connect anew. Answered when they are stored; every
/// fault leaves them as they were.
#[derive(Message)]
#[rtype(result = "Result<SettingsView, ReplaceError>")]
pub struct ReplaceSettings(pub Value);

impl fmt::Debug for ReplaceSettings {
    /// Without the object, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplaceSettings").finish_non_exhaustive()
    }
}

/// Why the settings were not replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// Fields are at fault.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The identity that secrets are encrypted with cannot be used.
    #[error("secrets cannot be stored: {0}")]
    Identity(String),
    /// The database could not store them.
    #[error("the settings could not be stored: {0}")]
    Storage(StoreFault),
}

/// From the HTTP layer and `liveobject check`: try a connection, stage by stage, without saving anything; with the stored
/// settings when the object is `None` or empty.
#[derive(Message)]
#[rtype(result = "Result<TestReport, Invalid>")]
pub struct TestConnection {
    /// The settings to try.
    pub settings: Option<Value>,
    /// Told of each stage as it begins and ends: some ten messages for each address of the broker.
    pub watcher: Option<UnboundedSender<TestProgress>>,
}

impl TestConnection {
    /// A trial that is told of at its end only.
    pub fn new(settings: Option<Value>) -> Self {
        Self { settings, watcher: None }
    }

    /// A trial that is told of as it goes.
    pub fn watched(settings: Option<Value>, watcher: UnboundedSender<TestProgress>) -> Self {
        Self { settings, watcher: Some(watcher) }
    }
}

impl fmt::Debug for TestConnection {
    /// Without the object, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestConnection").finish_non_exhaustive()
    }
}

/// Fact, to everybody who works by them: these settings hold from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SettingsChanged {
    /// The settings, secrets included.
    pub settings: Arc<MqttSettings>,
    /// What changed since the settings before them.
    pub change: SettingsChange,
    /// Why a stored secret cannot be read, and how to mend it; a connection is not tried then.
    pub unreadable: Option<String>,
}
