//! The real service as a process of its own, driven over REST, with its data on the disk that holds the build.

use std::{path::PathBuf, time::Duration};

use liveobject_test_support::Service;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{client, client::Connection, events};

const EVENTS: &str = "/api/v1/events";
const BATCH: &str = "/api/v1/events/batch";

/// How often it is asked whether it has finished: often enough that it does not matter, seldom enough that it costs
/// nothing.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running service and its data.
pub struct Running {
    pub service: Service,
    dir: TempDir,
}

/// A new directory on the disk that holds the build: temporary directories are in memory on some systems.
pub fn directory() -> TempDir {
    TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made")
}

/// The settings for the broker on this port.
pub fn settings(port: u16, qos: u8) -> Value {
    json!({ "enabled": true, "broker_host": "127.0.0.1", "broker_port": port, "qos": qos, "protocol": "5" })
}

impl Running {
    /// A service with an empty log.
    pub async fn start() -> Self {
        let dir = directory();
        let service = Service::builder(env!("CARGO_BIN_EXE_liveobject")).data_dir(dir.path().join("data"));
        Self { service: service.start().await, dir }
    }

    /// The same, connected to the broker on this port.
    pub async fn connected(port: u16, qos: u8) -> Self {
        let running = Self::start().await;
        running.connect(port, qos).await;
        running
    }

    pub async fn connect(&self, port: u16, qos: u8) {
        let _ = self.service.put_config(&settings(port, qos)).await.expect(200);
        self.service.wait_connected(Duration::from_secs(10)).await;
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Sends so many events by 100 a call over 4 connections; how long until all were accepted.
    pub async fn post_batches(&self, count: usize) -> Duration {
        self.post_all(count, 4, 100, BATCH, events::batch).await
    }

    /// The same by 1,000 a call: to fill the log.
    pub async fn fill(&self, count: usize) -> Duration {
        self.post_all(count, 4, 1000, BATCH, events::batch).await
    }

    /// Sends so many events one by one over 64 connections.
    pub async fn post_singles(&self, count: usize) -> Duration {
        self.post_all(count, 64, 1, EVENTS, |number, _| events::json(number)).await
    }

    async fn post_all(
        &self,
        count: usize,
        connections: usize,
        per_call: usize,
        path: &str,
        body: impl Fn(usize, usize) -> String,
    ) -> Duration {
        let (port, token) = (self.service.port(), self.service.token());
        let each = count / connections;
        assert_eq!(each * connections, count, "every connection sends as many");
        assert_eq!(each % per_call, 0, "every call holds as many");
        let mut tasks = Vec::new();
        for number in 0..connections {
            // Made before the clock starts, and used again: what is measured is the service.
            let texts = (each / per_call).min(64);
            let first = number * each;
            let requests: Vec<_> = (0..texts)
                .map(|call| client::post(path, &token, &body(first + call * per_call, per_call)))
                .collect();
            let mut connection = Connection::open(port).await;
            tasks.push(async move {
                for call in 0..each / per_call {
                    connection.accepted(&requests[call % requests.len()]).await;
                }
            });
        }
        let started = Instant::now();
        futures_util::future::join_all(tasks).await;
        started.elapsed()
    }

    /// Waits until the broker has acknowledged an event.
    pub async fn acknowledged_some(&self) {
        while self.service.status().await["messages_published"] == 0 {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until so many events were acknowledged by the broker.
    pub async fn acknowledged(&self, count: usize) {
        loop {
            let status = self.service.status().await;
            let published = status["messages_published"].as_u64().unwrap_or(0);
            if status["outbox"]["pending"] == 0 && published >= count as u64 {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
