//! The options of a service.

use std::{fmt, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    config::{ConfigOptions, GivenIdentity, IdentitySource, identity::PublicKey},
    connection::probe,
    domain::{calendar::Calendar, link_key::LinkKey, links::Links, settings::MqttSettings},
    outbox::OutboxLimits,
    store::{Access, CommitContext, Location, OpenError, Store},
};

/// The service's options: its paths, its limits and its initial settings.
#[derive(Clone)]
pub struct ServiceOptions {
    /// Directory for the database, the identity and the lock. It is created with mode 0700 if it is missing.
    pub data_dir: PathBuf,
    /// `sqlite://PATH`, `postgres://USER:PASSWORD@HOST/DATABASE`, or `None` for `liveobject.db` in the data directory.
    pub database_url: Option<SecretString>,
    /// The password for a database on a server. It takes precedence over the one in the URL.
    pub database_password: Option<SecretString>,
    /// File of the age identity that encrypts the secrets, or `None` for `identity.age` in the data
    /// directory.
    pub identity_file: Option<PathBuf>,
    /// The identity itself, if it is not stored in a file. It takes precedence over `identity_file`.
    pub identity: Option<GivenIdentity>,
    /// The key that signs links to pictures, if it is not stored in a file.
    pub link_key: Option<LinkKey>,
    /// Additional keys that can decrypt the secrets.
    pub recipients: Vec<PublicKey>,
    /// URL under which clients reach this service (used in `thumbnail_url`), without a trailing `/`.
    pub public_url: String,
    /// With a database on a server: the name of this service for people, among those that share the database.
    pub node_name: String,
    /// With a database on a server: the URL under which the other services that share the database reach this one,
    /// without a trailing `/`, or `None` for `public_url`.
    pub node_url: Option<String>,
    /// Maximum number of pending events.
    pub max_pending: u64,
    /// Maximum number of events in flight, 1–10,000. The broker may allow fewer.
    pub window: u16,
    /// Number of days for which delivered and dead events are kept.
    pub retention_days: u32,
    /// Maximum number of known cameras.
    pub max_cameras: u32,
    /// Maximum size of all pictures, in bytes.
    pub max_picture_bytes: u64,
    /// Maximum size of a picture that is published over MQTT, in bytes. Larger ones are replaced by a rendition.
    pub max_published_picture_bytes: usize,
    /// Calendar of the cameras' time zone.
    pub calendar: Calendar,
    /// Initial MQTT settings. Unless `mqtt_managed` is set, they are used only while the database contains none.
    pub initial_mqtt: Option<Value>,
    /// Whether `initial_mqtt` replaces the settings in the database at each start, and nothing else changes them.
    pub mqtt_managed: bool,
    /// Whether Home Assistant's Supervisor provides the broker. Report it with
    /// [`Handle::provide_broker`](crate::Handle::provide_broker).
    pub mqtt_provided: bool,
}

impl fmt::Debug for ServiceOptions {
    /// Omits the initial settings, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceOptions").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl ServiceOptions {
    /// Default of [`max_pending`](Self::max_pending).
    pub const MAX_PENDING: u64 = 1_000_000;
    /// Default of [`window`](Self::window).
    pub const WINDOW: u16 = 500;
    /// Default of [`retention_days`](Self::retention_days).
    pub const RETENTION_DAYS: u32 = 7;
    /// Default of [`max_picture_bytes`](Self::max_picture_bytes): 2 GiB.
    pub const MAX_PICTURE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
    /// Default of [`max_published_picture_bytes`](Self::max_published_picture_bytes): 256 KiB.
    pub const MAX_PUBLISHED_PICTURE_BYTES: usize = 256 * 1024;
    /// Default of [`max_cameras`](Self::max_cameras).
    pub const MAX_CAMERAS: u32 = 1000;

    /// Returns the defaults, with everything stored in `data_dir`.
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            database_url: None,
            database_password: None,
            identity_file: None,
            identity: None,
            link_key: None,
            recipients: Vec::new(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            node_name: "liveobject".to_owned(),
            node_url: None,
            max_pending: Self::MAX_PENDING,
            window: Self::WINDOW,
            retention_days: Self::RETENTION_DAYS,
            max_cameras: Self::MAX_CAMERAS,
            max_picture_bytes: Self::MAX_PICTURE_BYTES,
            max_published_picture_bytes: Self::MAX_PUBLISHED_PICTURE_BYTES,
            calendar: Calendar::system().0,
            initial_mqtt: None,
            mqtt_managed: false,
            mqtt_provided: false,
        }
    }

    /// Returns where the database is.
    pub fn database(&self) -> Result<Location, OpenError> {
        let location = match &self.database_url {
            Some(url) => Location::parse(url.expose_secret())?,
            None => Location::File(self.data_dir.join("liveobject.db")),
        };
        Ok(match &self.database_password {
            Some(password) => location.with_password(password.clone()),
            None => location,
        })
    }

    /// Opens the database for a command that nothing else may disturb. The caller must hold the lock of the data
    /// directory.
    pub async fn open_store(&self) -> Result<Store, OpenError> {
        Store::open(&self.database()?, Access::Exclusive).await
    }

    /// Opens the database for a command that a running service does not disturb. Fails if it is that of an earlier
    /// version and a service runs. `is_locked` is whether the caller holds the lock of the data directory, so that no
    /// service runs. A database on a server may be in use by a service with another data directory.
    pub async fn open_store_in_use(&self, is_locked: bool) -> Result<Store, OpenError> {
        let database = self.database()?;
        let is_alone = is_locked && !database.is_on_server();
        Store::open(&database, if is_alone { Access::Exclusive } else { Access::Command }).await
    }

    /// Returns the options of the config actor.
    pub fn config_options(&self, store: Store, crashed: UnboundedSender<&'static str>) -> ConfigOptions {
        ConfigOptions {
            store,
            identity: self.identity_source(),
            recipients: self.recipients.clone(),
            initial: self.initial_mqtt.clone(),
            managed: self.mqtt_managed,
            provided: self.mqtt_provided,
            probe: |settings, watcher| Box::pin(probe::run(settings, watcher)),
            crashed,
        }
    }

    pub(super) fn outbox_limits(&self, links: &Links, settings: &MqttSettings) -> OutboxLimits {
        let (calendar, max_cameras) = (self.calendar, self.max_cameras);
        OutboxLimits {
            max_pending: self.max_pending,
            window: self.window,
            retention_days: self.retention_days,
            commit: CommitContext {
                links: links.clone(),
                calendar,
                max_cameras,
                late_after_seconds: settings.late_after_seconds,
            },
        }
    }

    /// Returns the source of the identity. A given identity takes precedence over a file.
    pub fn identity_source(&self) -> IdentitySource {
        let default = || self.data_dir.join("identity.age");
        match &self.identity {
            Some(given) => IdentitySource::Given(given.clone()),
            None => IdentitySource::File(self.identity_file.clone().unwrap_or_else(default)),
        }
    }
}
