//! The wiring: starts every actor, connects them, and hands out their addresses.

use std::path::PathBuf;

use actix::Recipient;
use serde_json::Value;

use crate::{
    config::{GetSettings, ReplaceSettings, TestConnection},
    metrics::Metrics,
    outbox::{GetEvent, GetOutbox, ListEvents, PublishBatch, PublishEvent},
    supervisor::{GetStatus, PublishTestMessage},
};

/// Where the service lives and what its bounds are.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Holds the database, the identity and the lock; made when missing, mode 0700.
    pub data_dir: PathBuf,
    /// `sqlite://PATH`; `None`: `liveobject.db` in the data directory.
    pub database_url: Option<String>,
    /// The age identity that secrets are encrypted with; `None`: `identity.age` in the data directory.
    pub identity_file: Option<PathBuf>,
    /// Where this service is reached from elsewhere (in `thumbnail_url`), without a trailing `/`.
    pub public_url: String,
    /// How many events may wait.
    pub max_pending: u64,
    /// How many events may be in flight (the broker may ask for fewer): 1–10,000.
    pub window: u16,
    /// For how many days delivered and dead events are kept.
    pub retention_days: u32,
    /// The first MQTT settings, used only while the database holds none.
    pub initial_mqtt: Option<Value>,
}

impl ServiceOptions {
    /// The defaults, in `data_dir`.
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            database_url: None,
            identity_file: None,
            public_url: "http://127.0.0.1:8080".to_owned(),
            max_pending: 1_000_000,
            window: 500,
            retention_days: 7,
            initial_mqtt: None,
        }
    }
}

/// What others need to talk to the service. Cheap to clone, and `Send`.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Takes one event: what a classifier needs.
    pub publish: Recipient<PublishEvent>,
    /// Takes several events, all or none.
    pub publish_batch: Recipient<PublishBatch>,
    /// Lists events.
    pub list_events: Recipient<ListEvents>,
    /// Finds one event.
    pub get_event: Recipient<GetEvent>,
    /// Tells how the log stands.
    pub outbox: Recipient<GetOutbox>,
    /// Tells how the connection stands.
    pub status: Recipient<GetStatus>,
    /// Publishes a test message.
    pub test_message: Recipient<PublishTestMessage>,
    /// Tells the settings.
    pub settings: Recipient<GetSettings>,
    /// Replaces the settings.
    pub replace_settings: Recipient<ReplaceSettings>,
    /// Tries a connection.
    pub test_connection: Recipient<TestConnection>,
    /// All metrics.
    pub metrics: Metrics,
}
