//! A real Caddy as a reverse proxy.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, DaemonKind};
use crate::mosquitto::program;

static KIND: DaemonKind = DaemonKind {
    name: "caddy",
    ready: "serving initial configuration",
    port_taken: "address already in use",
    start: Duration::from_secs(20),
};

/// A Caddy on a free loopback port. It is killed when dropped.
#[derive(Debug)]
pub struct Caddy {
    _daemon: Daemon,
    port: u16,
}

impl Caddy {
    /// Starts Caddy with these sites of a Caddyfile, in which `PORT` stands for the port to listen on. Apart from
    /// that, Caddy has its default settings.
    ///
    /// # Panics
    ///
    /// Panics if Caddy does not start.
    pub async fn start(sites: &str) -> Self {
        let mut daemon = Daemon::new(&KIND);
        let port = daemon.start(|dir, port| command(dir, &sites.replace("PORT", &port.to_string()))).await;
        Self { _daemon: daemon, port }
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn command(dir: &Path, sites: &str) -> Command {
    let config = dir.join("Caddyfile");
    // The port of its own API would be a fixed one, and certificates would need a network.
    let text = format!("{{\n    admin off\n    auto_https off\n    default_bind 127.0.0.1\n}}\n{sites}\n");
    fs::write(&config, text).expect("the configuration of Caddy can be written");
    let mut command = Command::new(program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config).current_dir(dir);
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(variable, dir);
    }
    command
}
