//! A real RabbitMQ as an MQTT broker, with its MQTT plugin. The version in Debian speaks MQTT 3.1.1 only and closes the
//! connection on MQTT 5; it answers a QoS 2 message as if it were of QoS 1.
//!
//! It takes some ten seconds to start. Name server, node name, cookie and data are its own: nothing of a RabbitMQ that runs
//! on this machine is touched.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, Kind, Start};
use crate::mosquitto::program;
use crate::ports::free_port;

/// Debian's own command would become another user and use that one's directories.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

const ATTEMPTS: usize = 5;

static KIND: Kind = Kind {
    name: "rabbitmq-server",
    ready: "Server startup complete",
    port_taken: "eaddrinuse",
    start: Duration::from_mins(2),
};

/// Erlang's name server; it knows no better word for being ready than to run.
static NAMES: Kind =
    Kind { name: "epmd", ready: "", port_taken: "Address already in use", start: Duration::from_secs(10) };

/// A running (or stopped) RabbitMQ with one user; killed when dropped. Port and data stay the same over
/// [`RabbitMq::restart`].
#[derive(Debug)]
pub struct RabbitMq {
    daemon: Daemon,
    _names: Daemon,
    names_port: u16,
    port: u16,
    login: (String, String),
}

impl RabbitMq {
    /// A server with this user, on free loopback ports.
    ///
    /// # Panics
    ///
    /// When it is not ready within two minutes.
    pub async fn start(username: &str, password: &str) -> Self {
        let (names, names_port) = start_names().await;
        let login = (username.to_owned(), password.to_owned());
        let mut server = Self { daemon: Daemon::new(&KIND), _names: names, names_port, port: 0, login };
        for _ in 0..ATTEMPTS {
            server.port = free_port();
            if let Start::Ready = server.spawn().await {
                return server;
            }
        }
        panic!("rabbitmq-server found no free port in {ATTEMPTS} attempts: {}", server.daemon.log());
    }

    /// Stops it in good order and starts it again.
    ///
    /// # Panics
    ///
    /// When its port is taken meanwhile.
    pub async fn restart(&mut self) {
        self.daemon.stop().await;
        let started = self.spawn().await;
        assert!(
            matches!(started, Start::Ready),
            "port {} was taken while rabbitmq-server was away",
            self.port
        );
    }

    /// The port for MQTT.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn spawn(&mut self) -> Start {
        let dir = self.daemon.dir();
        let (username, password) = &self.login;
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nmqtt.listeners.tcp.1 = 127.0.0.1:{}\nmqtt.allow_anonymous = false\n\
             default_user = {username}\ndefault_pass = {password}\nlog.console = true\n",
            free_port(),
            self.port,
        );
        fs::write(dir.join("rabbitmq.conf"), config).expect("the configuration can be written");
        fs::write(dir.join("enabled_plugins"), "[rabbitmq_mqtt].")
            .expect("the list of plugins can be written");
        let mut command = Command::new(SERVER);
        command
            .current_dir(dir)
            // The cookie is made there.
            .env("HOME", dir)
            .env("RABBITMQ_NODENAME", format!("test-{}@localhost", self.port))
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            // Without a shell between: the server itself gets the signals.
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
        self.daemon.start(command, self.port).await
    }
}

/// A name server of its own, so that the nodes of this machine do not see each other.
async fn start_names() -> (Daemon, u16) {
    let mut names = Daemon::new(&NAMES);
    for _ in 0..ATTEMPTS {
        let port = free_port();
        let mut command = Command::new(program("epmd"));
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        if let Start::Ready = names.start(command, port).await {
            return (names, port);
        }
    }
    panic!("epmd found no free port in {ATTEMPTS} attempts: {}", names.log());
}
