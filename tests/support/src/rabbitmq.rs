//! A real RabbitMQ as an MQTT broker, with its MQTT plugin. The version in Debian speaks MQTT 3.1.1 only and closes the
//! connection on MQTT 5; it answers a QoS 2 message as if it were of QoS 1.
//!
//! It takes some ten seconds to start. Name server, node name, cookie and data are its own: nothing of a RabbitMQ that runs
//! on this machine is touched.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, Kind};
use crate::mosquitto::program;
use crate::ports::free_port;

/// Debian's own command would become another user and use that one's directories.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

static KIND: Kind = Kind {
    name: "rabbitmq-server",
    ready: "Server startup complete",
    port_taken: "eaddrinuse",
    start: Duration::from_mins(2),
};

/// Erlang's name server; it has no word for being ready.
static NAMES: Kind =
    Kind { name: "epmd", ready: "", port_taken: "Address already in use", start: Duration::from_secs(10) };

/// A running RabbitMQ with one user; killed when dropped. Port and data stay the same over [`RabbitMq::restart`].
#[derive(Debug)]
pub struct RabbitMq {
    daemon: Daemon,
    /// A name server of its own, so that the nodes of this machine do not see each other.
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
    /// A server with this user, on free loopback ports.
    ///
    /// # Panics
    ///
    /// When it is not ready within two minutes.
    pub async fn start(username: &str, password: &str) -> Self {
        let mut names = Daemon::new(&NAMES);
        let names_port = names.start(name_server).await;
        let setup = Setup { names_port, username: username.to_owned(), password: password.to_owned() };
        let mut daemon = Daemon::new(&KIND);
        let port = daemon.start(|dir, port| setup.server(dir, port)).await;
        Self { daemon, _names: names, setup, port }
    }

    /// Stops it in good order and starts it again.
    ///
    /// # Panics
    ///
    /// When its port is taken meanwhile.
    pub async fn restart(&mut self) {
        self.daemon.stop().await;
        self.daemon.resume(|dir, port| self.setup.server(dir, port), self.port).await;
    }

    /// The port for MQTT.
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
            "listeners.tcp.1 = 127.0.0.1:{}\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = false\n\
             default_user = {}\ndefault_pass = {}\nlog.console = true\n",
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
            // The cookie is made there.
            .env("HOME", dir)
            .env("RABBITMQ_NODENAME", format!("test-{port}@localhost"))
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
        command
    }
}
