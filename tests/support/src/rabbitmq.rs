//! A real RabbitMQ as an MQTT broker, with its MQTT plugin. The version in Debian speaks only MQTT 3.1.1 and
//! closes the connection on MQTT 5. It acknowledges a QoS 2 message as if it were QoS 1.
//!
//! It takes about ten seconds to start. It has its own name server, node name, cookie and data: no other
//! RabbitMQ on this machine is affected.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, DaemonKind};
use crate::mosquitto::program;
use crate::ports::free_port;

/// Debian's own command would switch to another user and use that user's directories.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

static KIND: DaemonKind = DaemonKind {
    name: "rabbitmq-server",
    ready: "Server startup complete",
    port_taken: "eaddrinuse",
    start: Duration::from_mins(2),
};

/// Erlang's name server, which does not log that it is ready.
static NAMES: DaemonKind = DaemonKind {
    name: "epmd",
    ready: "",
    port_taken: "Address already in use",
    start: Duration::from_secs(10),
};

/// A running RabbitMQ with one user. It is killed when dropped. Port and data survive [`RabbitMq::restart`].
#[derive(Debug)]
pub struct RabbitMq {
    daemon: Daemon,
    /// A private name server, so that nodes on this machine do not see each other.
    _names: Daemon,
    setup: Setup,
    port: u16,
}

#[derive(Debug)]
struct Setup {
    names_port: u16,
    username: String,
    password: String,
}

impl RabbitMq {
    /// Starts a server with this user, on free loopback ports.
    ///
    /// # Panics
    ///
    /// Panics if it is not ready within two minutes.
    pub async fn start(username: &str, password: &str) -> Self {
        let mut names = Daemon::new(&NAMES);
        let names_port = names.start(name_server).await;
        let setup = Setup { names_port, username: username.to_owned(), password: password.to_owned() };
        let mut daemon = Daemon::new(&KIND);
        let port = daemon.start(|dir, port| setup.server(dir, port)).await;
        Self { daemon, _names: names, setup, port }
    }

    /// Stops the server gracefully and starts it again.
    ///
    /// # Panics
    ///
    /// Panics if the port was taken in the meantime.
    pub async fn restart(&mut self) {
        self.daemon.stop().await;
        self.daemon.resume(|dir, port| self.setup.server(dir, port), self.port).await;
    }

    /// Returns the port for MQTT.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn name_server(_: &Path, port: u16) -> Command {
    let mut command = Command::new(program("epmd"));
    command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    command
}

impl Setup {
    fn server(&self, dir: &Path, port: u16) -> Command {
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\n\
             mqtt.allow_anonymous = false\ndefault_user = {}\ndefault_pass = {}\nlog.console = true\n",
            free_port(),
            self.username,
            self.password,
        );
        fs::write(dir.join("rabbitmq.conf"), config).expect("the configuration can be written");
        fs::write(dir.join("enabled_plugins"), "[rabbitmq_mqtt].")
            .expect("the list of plugins can be written");
        let mut command = Command::new(SERVER);
        command
            .current_dir(dir)
            // The cookie is created there.
            .env("HOME", dir)
            .env("RABBITMQ_NODENAME", format!("test-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            // Without a shell in between, the server itself receives the signals.
            .env("NOTIFY_SOCKET", dir.join("nobody"))
            .env("RABBITMQ_LOGS", "-");
        for (name, file) in [
            ("RABBITMQ_CONF_ENV_FILE", "none"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
        ] {
            command.env(name, dir.join(file));
        }
        command
    }
}
