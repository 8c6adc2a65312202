//! A real nginx as a reverse proxy.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, DaemonKind};
use crate::mosquitto::program;

static KIND: DaemonKind = DaemonKind {
    name: "nginx",
    ready: "event method",
    port_taken: "Address already in use",
    start: Duration::from_secs(20),
};

/// An nginx on a free loopback port. It is killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    _daemon: Daemon,
    port: u16,
}

impl Nginx {
    /// Starts nginx with this text within `http`, in which `PORT` stands for the port to listen on. Apart from that,
    /// nginx has its default settings.
    ///
    /// # Panics
    ///
    /// Panics if nginx does not start.
    pub async fn start(http: &str) -> Self {
        let mut daemon = Daemon::new(&KIND);
        let port = daemon.start(|dir, port| command(dir, &http.replace("PORT", &port.to_string()))).await;
        Self { _daemon: daemon, port }
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn command(dir: &Path, http: &str) -> Command {
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
