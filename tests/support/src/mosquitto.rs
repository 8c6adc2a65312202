//! A real mosquitto broker on a private loopback port, in a directory of its own.
//!
//! The port and the directory stay the same over [`Mosquitto::stop`], [`Mosquitto::kill`] and
//! [`Mosquitto::restart`]. With persistence (the default) retained messages and persistent sessions survive a stop.
//! They survive a *kill* only as far as the broker has written them: see [`MosquittoBuilder::save_every_change`].

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

/// A running (or stopped) broker; killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    settings: MosquittoBuilder,
    dir: TempDir,
    port: u16,
    /// Those of further listeners, in the order of the builder.
    ports: Vec<u16>,
    child: Option<ChildProcess>,
}

enum Start {
    Accepts,
    PortTaken,
}

impl Mosquitto {
    /// A broker which anybody may use, with persistence and without bounds; the builder changes that.
    #[must_use]
    pub fn builder() -> MosquittoBuilder {
        MosquittoBuilder::default()
    }

    /// A broker with the builder's defaults, started.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    async fn start_with(settings: MosquittoBuilder) -> Self {
        let dir = TempDir::with_prefix("mosquitto-").expect("a temporary directory can be made");
        settings.write_users(dir.path());
        let mut broker = Self { settings, dir, port: 0, ports: Vec::new(), child: None };
        for _ in 0..PORT_ATTEMPTS {
            broker.port = free_port();
            broker.ports = broker.settings.listeners.iter().map(|_| free_port()).collect();
            if let Start::Accepts = broker.spawn().await {
                return broker;
            }
        }
        panic!("mosquitto found no free port in {PORT_ATTEMPTS} attempts: {}", broker.log());
    }

    /// Starts it again on the same port, after stopping it if it runs.
    ///
    /// # Panics
    ///
    /// When it does not accept within 10 s.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.resume().await;
    }

    /// Starts it again on the same port after [`Mosquitto::stop`] or [`Mosquitto::kill`].
    ///
    /// # Panics
    ///
    /// When it runs, or does not accept within 10 s.
    pub async fn resume(&mut self) {
        assert!(self.child.is_none(), "mosquitto runs already");
        let deadline = Instant::now() + START;
        while let Start::PortTaken = self.spawn().await {
            assert!(Instant::now() < deadline, "port {} was taken while mosquitto was away", self.port);
            sleep(POLL).await;
        }
    }

    /// Ends it with SIGTERM: connections are closed, the persistent state is written.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        child.signal(Signal::CONT);
        child.signal(Signal::TERM);
        let ended = child.wait(STOP).await.is_some();
        assert!(ended, "mosquitto did not end within {STOP:?} of SIGTERM: {}", self.log());
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await;
        }
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open, the kernel still accepts new ones, nobody answers.
    pub fn freeze(&mut self) {
        self.running().signal(Signal::STOP);
    }

    /// Lets it go on after [`Mosquitto::freeze`].
    pub fn thaw(&mut self) {
        self.running().signal(Signal::CONT);
    }

    /// Puts other access rules in force, without a restart. The broker must have been built with rules.
    pub async fn set_acl(&mut self, rules: &str) {
        assert!(self.settings.acl.is_some(), "mosquitto was started without an ACL file");
        self.settings.acl = Some(rules.to_owned());
        self.settings.write_acl(self.dir.path());
        let before = self.log().len();
        self.running().signal(Signal::HUP);
        let log = self.log_file();
        wait_until("mosquitto read its access rules again", START, async || {
            read(&log).get(before..).is_some_and(|new| new.contains("Reloading config"))
        })
        .await;
    }

    /// The port, the same for its whole life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of a further listener, by its place in the builder.
    #[must_use]
    pub fn listener(&self, place: usize) -> u16 {
        self.ports[place]
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("mosquitto runs").pid()
    }

    /// The directory with its configuration, log and persistent state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// All that it has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("mosquitto.log")
    }

    fn running(&mut self) -> &mut ChildProcess {
        self.child.as_mut().expect("mosquitto runs")
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
        self.accepting(child, before).await
    }

    /// Waits for the broker's own word that it runs, and then for its port: a port that answers could be another's.
    async fn accepting(&mut self, mut child: ChildProcess, log_before: usize) -> Start {
        let deadline = Instant::now() + START;
        loop {
            let log = self.log();
            let new = log.get(log_before..).unwrap_or_default();
            if let Some(status) = child.exited() {
                assert!(new.contains("Address already in use"), "mosquitto ended ({status}): {new}");
                return Start::PortTaken;
            }
            if new.contains(" running") && connects(self.port).await {
                self.child = Some(child);
                return Start::Accepts;
            }
            let port = self.port;
            assert!(
                Instant::now() < deadline,
                "mosquitto did not accept on port {port} within {START:?}: {log}"
            );
            sleep(POLL).await;
        }
    }
}

async fn connects(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Servers are often installed where only root looks for programs.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    file.unwrap_or_else(|| panic!("{name} is not installed: these tests need a real broker"))
}
