//! A third-party server in its own directory, started and stopped by the test.

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
use crate::wait::POLL;

const PORT_ATTEMPTS: usize = 10;
const STOP: Duration = Duration::from_secs(20);

/// A server's name, and how to recognize that it is ready.
#[derive(Debug)]
pub(crate) struct DaemonKind {
    pub(crate) name: &'static str,
    /// The text that its log contains once it is ready.
    pub(crate) ready: &'static str,
    /// The text that its log contains if a port is taken.
    pub(crate) port_taken: &'static str,
    pub(crate) start: Duration,
}

/// A server, running or stopped. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    kind: &'static DaemonKind,
    dir: TempDir,
    child: Option<ChildProcess>,
}

enum Start {
    Ready,
    PortTaken,
}

impl Daemon {
    pub(crate) fn new(kind: &'static DaemonKind) -> Self {
        let dir =
            TempDir::with_prefix(format!("{}-", kind.name)).expect("a temporary directory can be created");
        Self { kind, dir, child: None }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the server for the first time on a free loopback port and returns the port. The command is
    /// built from the server's directory and the port.
    pub(crate) async fn start(&mut self, command: impl Fn(&Path, u16) -> Command) -> u16 {
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            if let Start::Ready = self.spawn(command(self.dir(), port), port).await {
                return port;
            }
        }
        panic!("{} found no free port in {PORT_ATTEMPTS} attempts: {}", self.kind.name, self.log());
    }

    /// Restarts the server on the same port.
    pub(crate) async fn resume(&mut self, command: impl Fn(&Path, u16) -> Command, port: u16) {
        let started = self.spawn(command(self.dir(), port), port).await;
        assert!(
            matches!(started, Start::Ready),
            "port {port} was taken while {} was stopped",
            self.kind.name
        );
    }

    /// Starts the process, and waits until its log reports that it is ready and the port accepts connections.
    async fn spawn(&mut self, mut command: Command, port: u16) -> Start {
        let DaemonKind { name, ready, port_taken, start } = *self.kind;
        let before = self.log().len();
        let log =
            File::options().create(true).append(true).open(self.log_file()).expect("a log can be opened");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log);
        let mut child = ChildProcess::spawn(name, &mut command);
        let deadline = Instant::now() + start;
        loop {
            let log = self.log();
            let new = log.get(before..).unwrap_or_default();
            if let Some(status) = child.exited() {
                assert!(new.contains(port_taken), "{name} ended ({status}): {new}");
                return Start::PortTaken;
            }
            if new.contains(ready) && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                self.child = Some(child);
                return Start::Ready;
            }
            assert!(Instant::now() < deadline, "{name} was not ready within {start:?}: {new}");
            sleep(POLL).await;
        }
    }

    /// Stops the server with SIGTERM.
    pub(crate) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.signal(Signal::TERM);
        let ended = child.wait(STOP).await.is_some();
        assert!(ended, "{} did not end within {STOP:?} of SIGTERM: {}", self.kind.name, self.log());
    }

    /// Returns the log output of all runs.
    fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }
}
