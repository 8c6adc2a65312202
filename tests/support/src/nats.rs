//! A real NATS server as an MQTT broker.
//!
//! NATS speaks only MQTT 3.1.1 and rejects other versions with CONNACK return code 1. It stores retained messages and
//! sessions on disk (JetStream). The highest QoS that it supports is 1: it closes the connection when it
//! receives a QoS 2 message. A topic must not contain a dot.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, DaemonKind};
use crate::mosquitto::program;
use crate::ports::free_port;

static KIND: DaemonKind = DaemonKind {
    name: "nats-server",
    ready: "Server is ready",
    port_taken: "address already in use",
    start: Duration::from_secs(20),
};

/// A NATS server, running or stopped. It is killed when dropped. Its port and data survive a stop.
#[derive(Debug)]
pub struct Nats {
    daemon: Daemon,
    port: u16,
    /// The authorization line of its configuration; empty if anonymous access is allowed.
    authorization: String,
}

impl Nats {
    /// Starts a server with anonymous access, on free loopback ports.
    pub async fn start() -> Self {
        Self::with(String::new()).await
    }

    /// Starts a server that requires this user name and password.
    pub async fn with_login(username: &str, password: &str) -> Self {
        Self::with(format!("authorization {{ user: {username:?}, password: {password:?} }}\n")).await
    }

    async fn with(authorization: String) -> Self {
        let mut daemon = Daemon::new(&KIND);
        let port = daemon.start(|dir, port| command(dir, port, &authorization)).await;
        Self { daemon, port, authorization }
    }

    /// Stops the server with SIGTERM. It may lose messages that it acknowledges at that moment.
    pub async fn stop(&mut self) {
        self.daemon.stop().await;
    }

    /// Starts the server again.
    ///
    /// # Panics
    ///
    /// Panics if the port was taken in the meantime.
    pub async fn resume(&mut self) {
        self.daemon.resume(|dir, port| command(dir, port, &self.authorization), self.port).await;
    }

    /// Returns the port for MQTT.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn command(dir: &Path, port: u16, authorization: &str) -> Command {
    let config = dir.join("nats.conf");
    let text = format!(
        "server_name: test\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\n\
         mqtt {{ listen: \"127.0.0.1:{port}\" }}\n{authorization}",
        free_port(),
        dir.join("jetstream").display(),
    );
    fs::write(&config, text).expect("the configuration of nats-server can be written");
    let mut command = Command::new(program("nats-server"));
    command.arg("-c").arg(config);
    command
}
