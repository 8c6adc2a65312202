//! The real service in its own process, driven over REST. Its data is on the disk of the build directory.

use std::{path::PathBuf, time::Duration};

use liveobject_test_support::{Api, Service, ServiceBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    client,
    client::Connection,
    database::Storage,
    events::{self, Sources},
    tls::{Forwarder, Links, Tls},
};

const EVENTS: &str = "/api/v1/events";
const BATCH: &str = "/api/v1/events/batch";

/// Interval of the requests that check whether all events were acknowledged. It is short enough to be
/// accurate and long enough to cost almost nothing.
const POLL: Duration = Duration::from_millis(5);

/// Time within which a service starts.
const START: Duration = Duration::from_secs(30);

/// A running service and its data directory.
pub struct Running<'a> {
    pub service: Service,
    links: Links<'a>,
    /// The API, for calls that are not measured.
    api: Api,
    storage: Storage<'a>,
    _forwarder: Option<Forwarder>,
}

/// Creates a directory on the disk of the build directory, because the default one for temporary files is in
/// memory on some systems.
pub fn directory() -> TempDir {
    TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR")).expect("a directory can be created")
}

/// Returns the settings for the broker.
pub fn settings(links: Links<'_>, qos: u8) -> Value {
    json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": links.port, "qos": qos, "protocol": "5",
        "use_tls": links.tls.is_some(), "ca_certificate": links.tls.map(Tls::authority),
    })
}

fn builder(data_dir: PathBuf, storage: &Storage<'_>) -> ServiceBuilder {
    let built = || env!("CARGO_BIN_EXE_liveobject").into();
    let program = std::env::var_os("BENCH_PROGRAM").unwrap_or_else(built);
    let builder = Service::builder(program).data_dir(data_dir);
    match storage.url() {
        Some(url) => builder.env("LIVEOBJECT__DATABASE__URL", url),
        None => builder,
    }
}

impl<'a> Running<'a> {
    /// Starts a service with an empty log.
    pub async fn start(links: Links<'a>) -> Self {
        let storage = Storage::new(links.engine);
        let service = builder(storage.data_dir(), &storage);
        // The load comes from one address, over 64 connections at once.
        let service = service.env("LIVEOBJECT__HTTP__MAX_CONNECTIONS_PER_ADDRESS", 128);
        let Some(tls) = links.tls else {
            let service = service.start().await;
            return Self { api: service.api(), service, links, storage, _forwarder: None };
        };
        let (certificate, key) = tls.files();
        let service = service
            .env("LIVEOBJECT__HTTP__TLS_CERTIFICATE", certificate.display())
            .env("LIVEOBJECT__HTTP__TLS_KEY", key.display());
        let mut service = service.build();
        service.spawn();
        let forwarder = tls.forward(service.port()).await;
        let api = Api::on_port(forwarder.port, "");
        let started = Instant::now();
        while !api.without_token().try_get("/health/live").await.is_ok_and(|answer| answer.status == 200) {
            assert!(started.elapsed() < START, "the service did not start: {}", service.log_text());
            sleep(POLL).await;
        }
        let api = api.with_token(&service.token());
        Self { service, links, api, storage, _forwarder: Some(forwarder) }
    }

    /// Starts a service with an empty log, and connects it to the broker.
    pub async fn connected(links: Links<'a>, qos: u8) -> Self {
        let running = Self::start(links).await;
        running.connect(qos).await;
        running
    }

    pub async fn connect(&self, qos: u8) {
        let _ = self.api.put_config(&settings(self.links, qos)).await.expect(200);
        self.api.wait_connected(Duration::from_secs(10)).await;
    }

    /// Opens a connection for events.
    pub async fn open(&self) -> Connection {
        match self.links.tls {
            Some(tls) => Connection::open_encrypted(tls, self.service.port()).await,
            None => Connection::open(self.service.port()).await,
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.storage.data_dir()
    }

    /// Starts another service with the same database on a server, which waits until it can own the event log.
    pub async fn start_standby(&self) -> Service {
        builder(self.storage.other_data_dir(), &self.storage).start().await
    }

    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Sends this many events, each source over a connection of its own. Returns the time until all were accepted.
    pub async fn post_from(&self, sources: Sources, count: usize) -> Duration {
        if sources.at_once == 1 {
            self.post_all(count, sources, EVENTS, |number, _| events::json(number)).await
        } else {
            self.post_all(count, sources, BATCH, events::batch).await
        }
    }

    /// Fills the log with this many events, 1,000 per request over 4 connections.
    pub async fn fill(&self, count: usize) -> Duration {
        self.post_from(Sources { number: 4, at_once: 1000 }, count).await
    }

    async fn post_all(
        &self,
        count: usize,
        Sources { number: connections, at_once: per_request }: Sources,
        path: &str,
        body: impl Fn(usize, usize) -> String,
    ) -> Duration {
        let token = self.service.token();
        let each = count / connections;
        assert_eq!(each * connections, count, "the events cannot be split evenly between the connections");
        assert_eq!(each % per_request, 0, "the events of a connection cannot be split evenly into requests");
        let mut tasks = Vec::new();
        for number in 0..connections {
            // Requests are prepared in advance and reused, so that only the service is measured.
            let prepared = (each / per_request).min(64);
            let first = number * each;
            let requests: Vec<_> = (0..prepared)
                .map(|call| client::post(path, &token, &body(first + call * per_request, per_request)))
                .collect();
            let mut connection = self.open().await;
            tasks.push(async move {
                for call in 0..each / per_request {
                    connection.send_accepted(&requests[call % requests.len()]).await;
                }
            });
        }
        let started = Instant::now();
        futures_util::future::join_all(tasks).await;
        started.elapsed()
    }

    /// Waits until the broker has acknowledged the first event.
    pub async fn wait_first_acknowledged(&self) {
        while self.api.status().await["messages_published"] == 0 {
            sleep(POLL).await;
        }
    }

    /// Waits until the broker has acknowledged this many events and none is pending.
    pub async fn wait_acknowledged(&self, count: usize) {
        loop {
            let status = self.api.status().await;
            let published = status["messages_published"].as_u64().unwrap_or(0);
            if status["outbox"]["pending"] == 0 && published >= count as u64 {
                return;
            }
            sleep(POLL).await;
        }
    }
}
