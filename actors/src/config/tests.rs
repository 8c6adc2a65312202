//! The actor with a real database and real files, and a recorder as its peer.

mod actor;
mod broken;
mod managed;
mod provided;
mod recipients;
mod rotation;

use std::{
    fs,
    path::{Path, PathBuf},
};

use actix::{Actor, Addr};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::testing::{Recorded, Recorder};

const PASSWORD: &str = "correct-horse-battery";

/// A data directory in which the actor can be started several times.
struct Home {
    dir: tempfile::TempDir,
    given: Option<GivenIdentity>,
    recipients: Vec<PublicKey>,
    managed: bool,
    provided: bool,
}

struct Running {
    addr: Addr<ConfigActor>,
    notified: Recorded<SettingsChanged>,
    revisions: Recorded<SettingsRevised>,
    store: Store,
    crashed: UnboundedReceiver<&'static str>,
    _listener: Addr<Recorder<SettingsChanged>>,
    _streams: Addr<Recorder<SettingsRevised>>,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            given: None,
            recipients: Vec::new(),
            managed: false,
            provided: false,
        }
    }

    fn identity(&self) -> PathBuf {
        self.dir.path().join("identity.age")
    }

    async fn store(&self) -> Store {
        crate::testing::database::open(&self.dir.path().join("l.db")).await
    }

    async fn start(&self) -> Running {
        self.start_with(None).await
    }

    async fn start_with(&self, initial: Option<Value>) -> Running {
        let store = self.store().await;
        let (crash, crashed) = unbounded_channel();
        let options = ConfigOptions {
            store: store.clone(),
            identity: self
                .given
                .clone()
                .map_or_else(|| IdentitySource::File(self.identity()), IdentitySource::Given),
            recipients: self.recipients.clone(),
            initial,
            managed: self.managed,
            provided: self.provided,
            probe: |settings, _| Box::pin(echo(settings)),
            crashed: crash,
        };
        assert!(!format!("{options:?}").contains(PASSWORD));
        let (listener, notified) = Recorder::start_new();
        let (streams, revisions) = Recorder::start_new();
        let ignored = Recorder::start_new().0.recipient();
        let listeners = SettingsListeners {
            outbox: listener.clone().recipient(),
            retained: ignored.clone(),
            replays: ignored.clone(),
            cameras: ignored.clone(),
            discovery: ignored.clone(),
            supervisor: ignored,
            status: Recorder::start_new().0.recipient(),
            streams: streams.clone().recipient(),
        };
        let config = StoredSettings::open(options).await.unwrap();
        assert!(!format!("{config:?}").contains(PASSWORD));
        let running = Running {
            addr: config.start(listeners),
            notified,
            revisions,
            store,
            crashed,
            _listener: listener,
            _streams: streams,
        };
        running.view().await;
        running
    }

    /// Returns all files in the directory.
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn contains(&self, text: &str) -> bool {
        let file_contains =
            |path: &Path| fs::read(path).unwrap().windows(text.len()).any(|w| w == text.as_bytes());
        self.files().iter().any(|path| file_contains(path))
    }
}

/// A probe that returns its input. It panics for the broker `fault`, and never returns for the broker `slow`.
async fn echo(settings: Arc<MqttSettings>) -> TestReport {
    assert!(settings.broker_host != "fault", "panic on request");
    if settings.broker_host == "slow" {
        std::future::pending::<()>().await;
    }
    let message = format!("{} {:?}", settings.broker(), settings.exposed_password());
    TestReport { success: true, message, protocol: None, stages: Vec::new() }
}

impl Running {
    async fn view(&self) -> SettingsView {
        self.addr.send(GetSettings).await.unwrap()
    }

    async fn put(&self, value: Value) -> Result<SettingsView, ReplaceError> {
        self.addr.send(ReplaceSettings::new(value)).await.unwrap()
    }

    /// Replaces the settings if they have this revision.
    async fn put_if(&self, revision: &str, settings: Value) -> Result<SettingsView, ReplaceError> {
        let precondition = Precondition::OneOf(vec![revision.to_owned()]);
        self.addr.send(ReplaceSettings { settings, precondition }).await.unwrap()
    }

    async fn test_connection(&self, value: Value) -> Result<TestReport, Invalid> {
        self.addr.send(TestConnection::new(Some(value))).await.unwrap()
    }

    /// Returns the password in the last notification, and why it is unreadable, if it is.
    async fn last_notification(&self) -> (Option<String>, Option<String>) {
        crate::testing::settle().await;
        let last = self.notified.take().pop().expect("a notification");
        (last.settings.exposed_password().map(str::to_owned), last.unusable.map(|failure| failure.message))
    }

    async fn stop(self) {
        self.store.close().await;
    }
}

/// Settings that connect with the password.
fn broker() -> Value {
    json!({"enabled": true, "broker_host": "broker.lan", "username": "cam", "password": PASSWORD})
}

/// The same, without `password`.
fn without_password() -> Value {
    let mut value = broker();
    value.as_object_mut().unwrap().remove("password");
    value
}

/// Settings that connect with the password and with a client certificate.
fn secured() -> Value {
    let key = include_str!("../domain/certificate/testdata/ec.sec1.key");
    with(secured_without_key(), "client_key", key)
}

/// The same, without `client_key`.
fn secured_without_key() -> Value {
    let certificate = include_str!("../domain/certificate/testdata/ec.crt");
    with(with(broker(), "use_tls", true), "client_certificate", certificate)
}

/// The same, with one field changed.
fn with(mut value: Value, field: &str, new: impl Into<Value>) -> Value {
    value[field] = new.into();
    value
}
