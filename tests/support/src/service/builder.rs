//! The configuration and command line of a [`Service`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Service;
use crate::api::Api;
use crate::ports::free_port;
use crate::postgres::served_database;

/// Settings for starting a [`Service`].
#[derive(Clone, Debug)]
pub struct ServiceBuilder {
    binary: PathBuf,
    config: Option<String>,
    environment: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
    port: Option<u16>,
    umask: Option<u32>,
}

impl ServiceBuilder {
    pub(super) fn new(binary: PathBuf) -> Self {
        Self { binary, config: None, environment: Vec::new(), data_dir: None, port: None, umask: None }
    }

    /// Sets the contents of the configuration file. Environment variables override it.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// Sets an environment variable, such as `LIVEOBJECT__OUTBOX__MAX_PENDING`. By default,
    /// `LIVEOBJECT__DATA_DIR`, `LIVEOBJECT__HTTP__BIND` and `LIVEOBJECT__LOG__FORMAT` are set; the test's own
    /// `LIVEOBJECT_…` variables are not inherited.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Uses a data directory owned by the test, which is kept when the service is dropped.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Sets the port to listen on; 0 lets the kernel choose one. The default is a port from
    /// [`free_port`](crate::free_port), which stays reserved while the service is down.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the umask of the process, instead of the test's own.
    #[must_use]
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = Some(umask);
        self
    }

    /// Builds the service and its directories without starting it.
    #[must_use]
    pub fn build(self) -> Service {
        let dir = TempDir::with_prefix("liveobject-").expect("a temporary directory can be created");
        let data_dir = self.data_dir.clone().unwrap_or_else(|| dir.path().join("data"));
        if let Some(config) = &self.config {
            fs::write(dir.path().join("config.toml"), config).expect("the configuration file can be written");
        }
        let port = self.port.unwrap_or_else(free_port);
        Service { settings: self, dir, data_dir, port, log_before: 0, child: None, api: Api::new() }
    }

    /// Builds and starts the service.
    ///
    /// # Panics
    ///
    /// See [`Service::start`].
    pub async fn start(self) -> Service {
        let mut service = self.build();
        service.start().await;
        service
    }

    pub(super) fn command(&self, arguments: &[&str], dir: &Path, data_dir: &Path, port: u16) -> Command {
        let mut command = match self.umask {
            None => Command::new(&self.binary),
            Some(umask) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("umask {umask:04o}; exec \"$0\" \"$@\"")]).arg(&self.binary);
                shell
            }
        };
        command.args(arguments).current_dir(dir).stdin(Stdio::null());
        if self.config.is_some() {
            command.arg("--config").arg(dir.join("config.toml"));
        }
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"LIVEOBJECT_") {
                command.env_remove(name);
            }
        }
        command.env("LIVEOBJECT__DATA_DIR", data_dir);
        command.env("LIVEOBJECT__HTTP__BIND", format!("127.0.0.1:{port}"));
        command.env("LIVEOBJECT__LOG__FORMAT", "json");
        if let Some(url) = served_database(data_dir) {
            command.env("LIVEOBJECT__DATABASE__URL", url);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
