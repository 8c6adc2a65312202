//! A real NATS server as an MQTT broker. It speaks MQTT 3.1.1 only and says so (a CONNACK with return code 1), keeps retained
//! messages and sessions on disk (JetStream), and knows QoS 0 and 1: it closes the connection on a QoS 2 message. A topic
//! must not contain a dot.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, Kind, Start};
use crate::mosquitto::program;
use crate::ports::free_port;

const ATTEMPTS: usize = 10;

static KIND: Kind = Kind {
    name: "nats-server",
    ready: "Server is ready",
    port_taken: "address already in use",
    start: Duration::from_secs(20),
};

/// A running (or stopped) NATS server; killed when dropped. Port and data stay the same over [`Nats::restart`].
#[derive(Debug)]
pub struct Nats {
    daemon: Daemon,
    port: u16,
    login: Option<(String, String)>,
}

impl Nats {
    /// A server that anybody may use, on free loopback ports.
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// A server that wants this user name and password.
    pub async fn with_login(username: &str, password: &str) -> Self {
        Self::with(Some((username.to_owned(), password.to_owned()))).await
    }

    async fn with(login: Option<(String, String)>) -> Self {
        let mut nats = Self { daemon: Daemon::new(&KIND), port: 0, login };
        for _ in 0..ATTEMPTS {
            nats.port = free_port();
            if let Start::Ready = nats.spawn().await {
                return nats;
            }
        }
        panic!("nats-server found no free port in {ATTEMPTS} attempts: {}", nats.daemon.log());
    }

    /// Stops it in good order and starts it again.
    ///
    /// # Panics
    ///
    /// When its port is taken meanwhile.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.resume().await;
    }

    /// Ends it with SIGTERM.
    pub async fn stop(&mut self) {
        self.daemon.stop().await;
    }

    /// Starts it again.
    ///
    /// # Panics
    ///
    /// When its port is taken meanwhile.
    pub async fn resume(&mut self) {
        let started = self.spawn().await;
        assert!(matches!(started, Start::Ready), "port {} was taken while nats-server was away", self.port);
    }

    /// The port for MQTT.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn spawn(&mut self) -> Start {
        let config = self.daemon.dir().join("nats.conf");
        let login = self.login.as_ref().map(|(username, password)| {
            format!("authorization {{ user: {username:?}, password: {password:?} }}\n")
        });
        let text = format!(
            "server_name: test\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\n\
             mqtt {{ listen: \"127.0.0.1:{}\" }}\n{}",
            free_port(),
            self.daemon.dir().join("jetstream").display(),
            self.port,
            login.unwrap_or_default(),
        );
        fs::write(&config, text).expect("the configuration of nats-server can be written");
        let mut command = Command::new(program("nats-server"));
        command.arg("-c").arg(config);
        self.daemon.start(command, self.port).await
    }
}
