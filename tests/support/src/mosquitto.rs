//! A real mosquitto broker on a private loopback port, in its own directory.
//!
//! The port and the directory stay the same across [`Mosquitto::stop`], [`Mosquitto::kill`] and
//! [`Mosquitto::restart`]. With persistence (the default), retained messages and persistent sessions survive
//! a stop. They survive a *kill* only if the broker has already written them: see
//! [`MosquittoBuilder::save_every_change`].

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::child::ChildProcess;
use crate::ports::free_port;
use crate::wait::{POLL, wait_until};

mod builder;
mod listener;

pub use builder::MosquittoBuilder;
pub use listener::Listener;

const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(10);
const PORT_ATTEMPTS: usize = 10;

/// A broker, running or stopped. It is killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    settings: MosquittoBuilder,
    dir: TempDir,
    port: u16,
    /// The ports of the additional listeners, in the order of the builder.
    ports: Vec<u16>,
    child: Option<ChildProcess>,
}

enum Start {
    Ready,
    PortTaken,
}

impl Mosquitto {
    /// Returns a builder for a broker with anonymous access, persistence and no limits.
    #[must_use]
    pub fn builder() -> MosquittoBuilder {
        MosquittoBuilder::default()
    }

    /// Starts a broker with the builder's defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    async fn start_with(settings: MosquittoBuilder) -> Self {
        let dir = TempDir::with_prefix("mosquitto-").expect("a temporary directory can be created");
        settings.write_users(dir.path());
        let mut broker = Self { settings, dir, port: 0, ports: Vec::new(), child: None };
        for _ in 0..PORT_ATTEMPTS {
            broker.port = free_port();
            broker.ports = broker.settings.listeners.iter().map(|_| free_port()).collect();
            if let Start::Ready = broker.spawn().await {
                return broker;
            }
        }
        panic!("mosquitto found no free port in {PORT_ATTEMPTS} attempts: {}", broker.log());
    }

    /// Stops the broker if it is running, and starts it again on the same port.
    ///
    /// # Panics
    ///
    /// Panics if it does not accept connections within 10 s.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.resume().await;
    }

    /// Starts the broker again on the same port after [`Mosquitto::stop`] or [`Mosquitto::kill`].
    ///
    /// # Panics
    ///
    /// Panics if it is already running, or does not accept connections within 10 s.
    pub async fn resume(&mut self) {
        assert!(self.child.is_none(), "mosquitto is already running");
        let deadline = Instant::now() + START;
        while let Start::PortTaken = self.spawn().await {
            assert!(Instant::now() < deadline, "port {} was taken while mosquitto was stopped", self.port);
            sleep(POLL).await;
        }
    }

    /// Stops the broker with SIGTERM: it closes its connections and writes its persistent state.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        child.signal(Signal::CONT);
        child.signal(Signal::TERM);
        let exited = child.wait(STOP).await.is_some();
        assert!(exited, "mosquitto did not exit within {STOP:?} of SIGTERM: {}", self.log());
    }

    /// Kills the broker with SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await;
        }
    }

    /// Suspends the broker with SIGSTOP: connections stay open and the kernel still accepts new ones, but
    /// nothing responds.
    pub fn freeze(&mut self) {
        self.running().signal(Signal::STOP);
    }

    /// Resumes the broker after [`Mosquitto::freeze`].
    pub fn thaw(&mut self) {
        self.running().signal(Signal::CONT);
    }

    /// Changes the password of a user. It takes effect at the next start.
    pub fn set_password(&mut self, name: &str, password: &str) {
        self.settings.set_password(name, password);
        self.settings.write_users(self.dir.path());
    }

    /// Replaces the access rules without a restart. The broker must have been built with rules.
    pub async fn set_acl(&mut self, rules: &str) {
        assert!(self.settings.acl.is_some(), "mosquitto was started without an ACL file");
        self.settings.acl = Some(rules.to_owned());
        self.settings.write_acl(self.dir.path());
        let before = self.log().len();
        self.running().signal(Signal::HUP);
        let log = self.log_file();
        wait_until("mosquitto reloaded its access rules", START, async || {
            read(&log).get(before..).is_some_and(|new| new.contains("Reloading config"))
        })
        .await;
    }

    /// Returns the port, which never changes.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port of an additional listener by its index in the builder.
    #[must_use]
    pub fn listener(&self, index: usize) -> u16 {
        self.ports[index]
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("mosquitto is running").pid()
    }

    /// Returns the directory that contains the configuration, log and persistent state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the log output of all runs.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("mosquitto.log")
    }

    fn running(&mut self) -> &mut ChildProcess {
        self.child.as_mut().expect("mosquitto is running")
    }

    async fn spawn(&mut self) -> Start {
        let config = self.settings.write_config(self.dir.path(), self.port, &self.ports);
        let before = self.log().len();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("mosquitto's log can be opened");
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(config).stdin(Stdio::null());
        if let Some(openssl) = self.settings.write_openssl(self.dir.path()) {
            command.env("OPENSSL_CONF", openssl);
        }
        command.stdout(log.try_clone().expect("a file handle can be cloned")).stderr(log);
        let child = ChildProcess::spawn("mosquitto", &mut command);
        self.wait_until_accepting(child, before).await
    }

    /// Waits until the broker logs that it is running, and then for its port: a port alone could belong to
    /// another process.
    async fn wait_until_accepting(&mut self, mut child: ChildProcess, log_before: usize) -> Start {
        let deadline = Instant::now() + START;
        loop {
            let log = self.log();
            let new = log.get(log_before..).unwrap_or_default();
            if let Some(status) = child.exited() {
                assert!(new.contains("Address already in use"), "mosquitto exited ({status}): {new}");
                return Start::PortTaken;
            }
            if new.contains(" running") && accepts_connections(self.port).await {
                self.child = Some(child);
                return Start::Ready;
            }
            let port = self.port;
            assert!(
                Instant::now() < deadline,
                "mosquitto did not accept connections on port {port} within {START:?}: {log}"
            );
            sleep(POLL).await;
        }
    }
}

async fn accepts_connections(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Finds a program. Servers are often installed in directories that only root has in its PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    file.unwrap_or_else(|| panic!("{name} is not installed: these tests need a real broker"))
}
