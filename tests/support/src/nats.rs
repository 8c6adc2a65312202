//! A real NATS server as an MQTT broker. It speaks MQTT 3.1.1 only and says so (a CONNACK with return code 1), keeps retained
//! messages and sessions on disk (JetStream), and knows QoS 0 and 1: it closes the connection on a QoS 2 message. A topic
//! must not contain a dot.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, Kind};
use crate::mosquitto::program;
use crate::ports::free_port;

static KIND: Kind = Kind {
    name: "nats-server",
    ready: "Server is ready",
    port_taken: "address already in use",
    start: Duration::from_secs(20),
};

/// A running (or stopped) NATS server; killed when dropped. Port and data stay the same over stops.
#[derive(Debug)]
pub struct Nats {
    daemon: Daemon,
    port: u16,
    /// A line of its configuration; empty when anybody may come.
    authorization: String,
}

impl Nats {
    /// A server that anybody may use, on free loopback ports.
    pub async fn start() -> Self {
        Self::with(String::new()).await
    }

    /// A server that wants this user name and password.
    pub async fn with_login(username: &str, password: &str) -> Self {
        Self::with(format!("authorization {{ user: {username:?}, password: {password:?} }}\n")).await
    }

    async fn with(authorization: String) -> Self {
        let mut daemon = Daemon::new(&KIND);
        let port = daemon.start(|dir, port| command(dir, port, &authorization)).await;
        Self { daemon, port, authorization }
    }

    /// Ends it with SIGTERM. What it acknowledges in that moment it may lose.
    pub async fn stop(&mut self) {
        self.daemon.stop().await;
    }

    /// Starts it again.
    ///
    /// # Panics
    ///
    /// When its port is taken meanwhile.
    pub async fn resume(&mut self) {
        self.daemon.resume(|dir, port| command(dir, port, &self.authorization), self.port).await;
    }

    /// The port for MQTT.
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
