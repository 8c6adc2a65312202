//! What these tests share: the binary, events, the ledger of a run, a look into the database.

mod database;
mod dice;
mod load;
mod small_disk;
mod tls;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use liveobject_test_support::{Ledger, Mosquitto, Service, ServiceBuilder, Subscriber};
use serde_json::{Value, json};

pub use self::{
    database::Database,
    dice::Dice,
    load::Load,
    small_disk::SmallDisk,
    tls::{Pair, TlsAnswer, try_get, try_send},
};

pub const BATCH: &str = "/api/v1/events/batch";

/// What takes a moment, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(20);

/// What takes a while: a backlog to be sent.
pub const LATER: Duration = Duration::from_secs(100);

/// The service, to be started.
pub fn service() -> ServiceBuilder {
    Service::builder(env!("CARGO_BIN_EXE_liveobject"))
}

/// An event with an id of the test's own.
pub fn event(event_id: &str) -> Value {
    json!({ "event_id": event_id, "camera_id": "front_door", "description": "Person at the door with a package" })
}

/// Submits events with these ids, one after the other; each must be accepted at once.
pub async fn accept(service: &Service, ids: impl IntoIterator<Item = String>) -> Ledger {
    let mut ledger = Ledger::new();
    for id in ids {
        ledger.accepted_receipt(&service.post_event(&event(&id)).await.expect(202));
    }
    ledger
}

/// `{prefix}-0`, `{prefix}-1` …
pub fn ids(prefix: &str, count: usize) -> impl Iterator<Item = String> + use<'_> {
    (0..count).map(move |i| format!("{prefix}-{i}"))
}

/// A broker without loss or repeats of its own, and a witness whose session outlives every restart.
pub async fn broker_and_subscriber() -> (Mosquitto, Subscriber) {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let subscriber = Subscriber::builder(broker.port()).filter("liveobject/#").start().await;
    (broker, subscriber)
}

/// Waits until the outbox is empty and every accepted event has been seen; then the ledger holds what was delivered.
pub async fn settle(service: &Service, subscriber: &Subscriber, ledger: &mut Ledger, accepted: usize) {
    service.wait_outbox_empty(LATER).await;
    let mut seen = std::collections::HashSet::new();
    let mut read = 0;
    subscriber
        .wait_for(
            |messages| {
                let new = messages[read..].iter().filter(|message| message.is_event());
                seen.extend(new.filter_map(|message| message.json()["event_id"].as_str().map(str::to_owned)));
                read = messages.len();
                seen.len() >= accepted
            },
            &format!("{accepted} different events"),
            SOON,
        )
        .await;
    subscriber.events().iter().for_each(|event| ledger.delivered_event(event));
}

/// Nothing lost, nothing overtaken, nothing that was never accepted.
#[track_caller]
pub fn assert_kept(ledger: &Ledger) {
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
    assert!(ledger.unconfirmed().is_empty(), "{}", ledger.summary());
}

/// The permissions of a file or a directory.
pub fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o777
}

/// Whether a file, or a file in a directory, holds these bytes.
pub fn holds(path: &Path, bytes: &[u8]) -> bool {
    if path.is_dir() {
        return names(path).iter().any(|name| holds(&path.join(name), bytes));
    }
    let content = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    content.windows(bytes.len()).any(|part| part == bytes)
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("its entries too").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}
