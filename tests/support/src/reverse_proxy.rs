//! Real reverse proxies: nginx and Caddy.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, DaemonKind};
use crate::mosquitto::program;

static NGINX: DaemonKind = DaemonKind {
    name: "nginx",
    ready: "event method",
    port_taken: "Address already in use",
    start: Duration::from_secs(20),
};

static CADDY: DaemonKind = DaemonKind {
    name: "caddy",
    ready: "serving initial configuration",
    port_taken: "address already in use",
    start: Duration::from_secs(20),
};

/// A reverse proxy on a free loopback port. It is killed when dropped.
#[derive(Debug)]
pub struct ReverseProxy {
    _daemon: Daemon,
    port: u16,
}

impl ReverseProxy {
    /// Starts nginx with this text within `http`, in which `PORT` stands for the port to listen on. Apart from that,
    /// nginx has its default settings.
    ///
    /// # Panics
    ///
    /// Panics if nginx does not start.
    pub async fn nginx(http: &str) -> Self {
        Self::start(&NGINX, nginx, http).await
    }

    /// Starts Caddy with these sites of a Caddyfile, in which `PORT` stands for the port to listen on. Apart from
    /// that, Caddy has its default settings.
    ///
    /// # Panics
    ///
    /// Panics if Caddy does not start.
    pub async fn caddy(sites: &str) -> Self {
        Self::start(&CADDY, caddy, sites).await
    }

    async fn start(kind: &'static DaemonKind, command: fn(&Path, &str) -> Command, text: &str) -> Self {
        let mut daemon = Daemon::new(kind);
        let port = daemon.start(|dir, port| command(dir, &text.replace("PORT", &port.to_string()))).await;
        Self { _daemon: daemon, port }
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn nginx(dir: &Path, http: &str) -> Command {
    let config = dir.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {}/{name};\n", dir.display()))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr notice;\npid {}/pid;\nevents {{}}\nhttp {{\n    \
         access_log off;\n{temporary}{http}\n}}\n",
        dir.display()
    );
    fs::write(&config, text).expect("the configuration of nginx can be written");
    let mut command = Command::new(program("nginx"));
    command.arg("-p").arg(dir).args(["-e", "stderr", "-c"]).arg(config);
    command
}

fn caddy(dir: &Path, sites: &str) -> Command {
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
