//! A node: a process with its own data directory, port, clock, and lines to the database and to the broker.

use std::{fs, sync::Arc, time::Duration};

use liveobject_test_support::{Api, FakeClock, Proxy, Service, TappedPacket, free_port, wait_until};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{database::Database, router::Pids};

const LIVE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Node {
    pub index: usize,
    service: Service,
    /// Whether the process was started and not ended.
    has_started: bool,
    pub port: u16,
    pub to_database: Arc<Proxy>,
    pub to_broker: Arc<Proxy>,
    pub clock: FakeClock,
    pids: Pids,
    /// What the node has done that it must not do.
    pub problems: Vec<String>,
}

impl Node {
    /// Creates a node. It does not run yet.
    pub async fn new(
        index: usize,
        database: &Database,
        broker_port: u16,
        identity: &str,
        pids: Pids,
    ) -> (Self, UnboundedReceiver<TappedPacket>) {
        let to_database = Arc::new(Proxy::start(database.port()).await);
        let (to_broker, packets) = Proxy::tapped(broker_port).await;
        let to_broker = Arc::new(to_broker);
        let (clock, port) = (FakeClock::new(), free_port());
        let built = || env!("CARGO_BIN_EXE_liveobject").into();
        let builder = Service::builder(std::env::var_os("FAILOVER_PROGRAM").unwrap_or_else(built))
            .port(port)
            .env("LIVEOBJECT_IDENTITY", identity)
            .env("LIVEOBJECT__DATABASE__URL", Database::url_through(to_database.port()));
        let builder =
            clock.environment().into_iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        let service = builder.build();
        let problems = Vec::new();
        (
            Self { index, service, has_started: false, port, to_database, to_broker, clock, pids, problems },
            packets,
        )
    }

    /// Starts the process.
    pub fn start(&mut self) {
        self.service.spawn();
        self.has_started = true;
        self.pids.set(self.index, Some(self.service.pid()));
    }

    /// Waits until the process responds.
    pub async fn wait_until_live(&mut self) {
        let api = Api::on_port(self.port, "").without_token();
        let service = &mut self.service;
        wait_until("the node is live", LIVE, async || {
            assert!(service.is_running(), "the node has exited: {}", tail(&service.log_text()));
            api.try_get("/health/live").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Ends the process with SIGKILL.
    pub async fn kill(&mut self) {
        if self.is_running().await {
            let pid = self.service.pid();
            self.service.kill9().await;
            self.has_started = false;
            FakeClock::remove_shared_memory(pid);
        }
        self.pids.set(self.index, None);
    }

    /// Ends the process with SIGTERM, and waits for its end.
    pub async fn stop(&mut self) {
        if self.is_running().await {
            self.service.sigterm();
            let code = self.service.wait().await;
            self.has_started = false;
            if code != 0 {
                self.note_end(code, "SIGTERM");
            }
        }
        self.pids.set(self.index, None);
    }

    /// Suspends the process.
    pub async fn freeze(&mut self) {
        if self.is_running().await {
            self.service.freeze();
        }
    }

    /// Resumes the process.
    pub fn thaw(&mut self) {
        if self.service.is_running() {
            self.service.thaw();
        }
    }

    /// Starts the process again if it has exited without a reason, and notes this as a problem.
    pub async fn revive(&mut self) {
        if !self.is_running().await {
            self.start();
        }
    }

    /// Returns whether the process runs. If it has exited without a reason, notes this as a problem.
    async fn is_running(&mut self) -> bool {
        let runs = self.service.is_running();
        if !runs && self.has_started {
            let code = self.service.wait().await;
            self.note_end(code, "nothing");
        }
        self.has_started = runs;
        runs
    }

    fn note_end(&mut self, code: i32, after: &str) {
        let log = tail(&self.service.log_text());
        self.problems.push(format!("node {} has exited with {code} after {after}: {log}", self.index));
    }

    /// Returns the id by which the others know it.
    pub fn id(&self) -> Option<String> {
        let id = fs::read_to_string(self.service.data_dir().join("node-id")).ok()?;
        Some(id.trim().to_owned())
    }

    /// Returns the token of the process's own file.
    pub fn token(&self) -> String {
        self.service.token()
    }

    pub fn log(&self) -> String {
        self.service.log_text()
    }
}

/// Returns the last 15 lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
