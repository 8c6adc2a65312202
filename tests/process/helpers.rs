//! Helpers that these tests share: the binary, events, ledgers, the database, certificates, random numbers.

mod archive;
mod database;
mod dice;
mod load;
mod small_disk;
mod stand_in;
mod tls;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use liveobject_test_support::{Ledger, Mosquitto, Service, ServiceBuilder, Subscriber};
use serde_json::{Value, json};

pub use self::{
    archive::{entries, replaced, write_archive},
    database::Database,
    dice::Dice,
    load::Load,
    small_disk::SmallDisk,
    stand_in::StandIn,
    tls::{Pair, TlsResponse, try_get, try_send},
};

pub const BATCH: &str = "/api/v1/events/batch";
pub const PASSWORD: &str = "correct horse battery staple";

/// Timeout for operations that normally complete at once. It is generous because the machine may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Timeout for operations that normally take a while, such as sending a backlog.
pub const LONG_TIMEOUT: Duration = Duration::from_secs(100);

/// A red pixel, the smallest picture.
pub const PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8,
    2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// Returns a picture that differs from those with other numbers: the smallest one, followed by `size` bytes.
pub fn picture(number: usize, size: usize) -> Vec<u8> {
    let number = number.to_le_bytes();
    [PNG, &number.repeat(size / number.len())].concat()
}

/// Returns a builder for the service.
pub fn service() -> ServiceBuilder {
    Service::builder(env!("CARGO_BIN_EXE_liveobject"))
}

/// Starts a broker that requires a login.
pub async fn broker_with_login() -> Mosquitto {
    Mosquitto::builder().user("ann", PASSWORD).start().await
}

/// Returns the settings that connect to a [`broker_with_login`].
pub fn login_settings(broker: &Mosquitto) -> Value {
    json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker.port(),
        "username": "ann", "password": PASSWORD,
    })
}

/// Starts a broker that requires a login and a service that is connected to it.
pub async fn connected_with_login(builder: ServiceBuilder) -> (Mosquitto, Service) {
    let broker = broker_with_login().await;
    let service = builder.start().await;
    let _ = service.put_config(&login_settings(&broker)).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    (broker, service)
}

/// Stops the service with SIGTERM, and asserts that it exits with 0.
pub async fn stop(service: &mut Service) {
    service.sigterm();
    assert_eq!(service.wait().await, 0, "{}", service.log_text());
}

/// Starts the service, and asserts that it exits with this code and that its log of this run contains every
/// part. Returns that log.
pub async fn assert_exits(service: &mut Service, code: i32, parts: &[&str]) -> String {
    let before = service.log_text().len();
    service.spawn();
    let exited = service.wait().await;
    let log = service.log_text()[before..].to_owned();
    assert_eq!(exited, code, "{log}");
    for part in parts {
        assert!(log.contains(part), "{part:?} is missing in: {log}");
    }
    log
}

/// Asserts that the first error in the log contains `part`.
#[track_caller]
pub fn assert_error_logged(service: &Service, part: &str) {
    let error = service.log_lines().into_iter().find(|line| line["level"] == "ERROR");
    let error = error.expect("an error in the log");
    assert!(error.to_string().contains(part), "{error}");
}

/// Returns an event with this id.
pub fn event(event_id: &str) -> Value {
    json!({
        "event_id": event_id, "camera_id": "front_door", "description": "Person at the door with a package",
    })
}

/// Submits events with these ids one after the other. Each must be accepted at the first attempt.
pub async fn accept(service: &Service, ids: impl IntoIterator<Item = String>) -> Ledger {
    let mut ledger = Ledger::new();
    for id in ids {
        ledger.accepted_receipt(&service.post_event(&event(&id)).await.expect(202));
    }
    ledger
}

/// Returns the ids `{prefix}-0`, `{prefix}-1` and so on.
pub fn ids(prefix: &str, count: usize) -> impl Iterator<Item = String> + use<'_> {
    (0..count).map(move |i| format!("{prefix}-{i}"))
}

/// Starts a broker that neither loses nor repeats messages, and a subscriber whose session survives every
/// restart.
pub async fn broker_and_subscriber() -> (Mosquitto, Subscriber) {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::builder(broker.port()).filter("liveobject/#").start().await;
    (broker, subscriber)
}

/// Waits until the outbox is empty and the subscriber has received every accepted event, and records these
/// deliveries in the ledger.
pub async fn settle(service: &Service, subscriber: &Subscriber, ledger: &mut Ledger, accepted: usize) {
    service.wait_outbox_empty(LONG_TIMEOUT).await;
    let mut event_ids = std::collections::HashSet::new();
    let mut read = 0;
    subscriber
        .wait_for(
            |messages| {
                let new = messages[read..].iter().filter(|message| message.is_event());
                event_ids
                    .extend(new.filter_map(|message| message.json()["event_id"].as_str().map(str::to_owned)));
                read = messages.len();
                event_ids.len() >= accepted
            },
            &format!("{accepted} different events"),
            TIMEOUT,
        )
        .await;
    subscriber.events().iter().for_each(|event| ledger.delivered_event(event));
}

/// Asserts that no event was lost or overtaken, and that every delivered event had been accepted.
#[track_caller]
pub fn assert_kept(ledger: &Ledger) {
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
    assert!(ledger.unconfirmed().is_empty(), "{}", ledger.summary());
}

/// Returns the mode of a file or directory.
pub fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}

/// Returns whether a file, or any file below a directory, contains these bytes.
pub fn contains_bytes(path: &Path, bytes: &[u8]) -> bool {
    if path.is_dir() {
        return names(path).iter().any(|name| contains_bytes(&path.join(name), bytes));
    }
    let content = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    content.windows(bytes.len()).any(|part| part == bytes)
}

/// Returns the names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("the entry can be read").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

/// Returns a path as an argument of a command.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// Runs a command, checks its exit code, and returns everything that it printed.
pub async fn run(service: &Service, arguments: &[&str], code: i32) -> String {
    let finished = service.run(arguments).await;
    assert_eq!(finished.code, code, "{arguments:?}: {finished:?}");
    format!("{}{}", finished.stdout, finished.stderr)
}
