//! The real `liveobject` binary as a child process, in a directory of its own.
//!
//! The service is told to log JSON; where it listens is read from its log: the line with the message `listening` and
//! the field `address`. Data directory and port stay the same over restarts. Everything that its [`Api`] can do can
//! be asked of the [`Service`] itself.

use std::fs::{self, File};
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::api::Api;
use crate::child::ChildProcess;
use crate::memory;
use crate::wait::POLL;

mod builder;
mod log;

pub use builder::ServiceBuilder;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
const COMMAND: Duration = Duration::from_mins(1);

/// The service, running or not; killed when dropped.
#[derive(Debug)]
pub struct Service {
    settings: ServiceBuilder,
    dir: TempDir,
    data_dir: PathBuf,
    port: u16,
    /// The log's length at the last start.
    log_before: u64,
    child: Option<ChildProcess>,
    api: Api,
}

/// A command that has run to its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; the negative signal number when a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Service {
    /// A service of this binary, such as `env!("CARGO_BIN_EXE_liveobject")`.
    pub fn builder(binary: impl Into<PathBuf>) -> ServiceBuilder {
        ServiceBuilder::new(binary.into())
    }

    /// Starts it and waits until it lives (`GET /health/live` answers 200). A service that has not run yet listens on
    /// a port that it gets now; later it listens there again.
    ///
    /// # Panics
    ///
    /// When it runs already, ends, or does not live within 30 s: with its log.
    pub async fn start(&mut self) {
        self.spawn();
        let deadline = Instant::now() + START;
        self.port = loop {
            match log::listening_port(&self.log_since(self.log_before)) {
                Some(port) => break port,
                None => self.not_yet("listen", deadline).await,
            }
        };
        self.api.point_to(self.port, None);
        while !self.is_live().await {
            self.not_yet("live", deadline).await;
        }
        self.api.point_to(self.port, Some(self.token()));
    }

    /// Starts it without waiting for anything: for a start that is to fail. [`Service::wait`] tells how it ended.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the service runs already");
        self.log_before = fs::metadata(self.stderr_file()).map_or(0, |file| file.len());
        let mut command = self.settings.command(&["serve"], self.dir.path(), &self.data_dir, self.port);
        command.stdout(append(&self.stdout_file())).stderr(append(&self.stderr_file()));
        self.child = Some(ChildProcess::spawn("the service", &mut command));
    }

    /// Stops it in good order if it runs, and starts it again on the same data directory and port.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.sigterm();
            self.wait().await;
        }
        self.start().await;
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill9(&mut self) {
        self.running().kill().await;
        self.child = None;
    }

    /// SIGTERM; [`Service::wait`] tells how it ended.
    pub fn sigterm(&mut self) {
        self.running().signal(Signal::TERM);
    }

    /// SIGSTOP: it stays, but does nothing, until [`Service::thaw`].
    pub fn freeze(&mut self) {
        self.running().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.running().signal(Signal::CONT);
    }

    /// Waits for its end and returns the exit code, or the negative signal number when a signal ended it.
    ///
    /// # Panics
    ///
    /// When it does not end within 20 s.
    pub async fn wait(&mut self) -> i32 {
        let status = self.running().wait(STOP).await;
        let status = status
            .unwrap_or_else(|| panic!("the service did not end within {STOP:?}: {}", self.everything()));
        self.child = None;
        code(status)
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.exited().is_none())
    }

    /// Runs another command of the binary, such as `["key", "rotate"]`, with the same configuration, environment and
    /// data directory, to its end.
    ///
    /// # Panics
    ///
    /// When it does not end within 60 s.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        let dir = TempDir::new_in(self.dir.path()).expect("a temporary directory can be made");
        let (stdout, stderr) = (dir.path().join("stdout"), dir.path().join("stderr"));
        let mut command = self.settings.command(arguments, self.dir.path(), &self.data_dir, self.port);
        command.stdout(append(&stdout)).stderr(append(&stderr));
        let mut child = ChildProcess::spawn("liveobject", &mut command);
        let status = child.wait(COMMAND).await;
        let (stdout, stderr) = (read(&stdout), read(&stderr));
        match status {
            Some(status) => Finished { code: code(status), stdout, stderr },
            None => panic!("liveobject {arguments:?} did not end within {COMMAND:?}: {stdout}{stderr}"),
        }
    }

    /// A handle to its API which can be cloned and follows it over restarts.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// The port it listens on; 0 before its first start.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the service runs").pid()
    }

    /// The API token, from the data directory.
    #[must_use]
    pub fn token(&self) -> String {
        let file = self.data_dir.join("api-token");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().to_owned()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// All that it has logged (standard error), over all its starts.
    #[must_use]
    pub fn log_text(&self) -> String {
        read(&self.stderr_file())
    }

    /// The log lines that are JSON objects, over all its starts, with the fields at the top.
    #[must_use]
    pub fn log_lines(&self) -> Vec<Value> {
        log::lines(&self.log_text()).collect()
    }

    /// All that it has written to standard output, over all its starts.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        read(&self.stdout_file())
    }

    /// The memory that it holds now (resident set), in KiB.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        memory::resident_kib(self.pid()).expect("a running service holds memory")
    }

    /// Waits a little, as long as there is hope.
    async fn not_yet(&mut self, what: &str, deadline: Instant) {
        if let Some(status) = self.running().exited() {
            panic!("the service ended ({status}) and did not {what}: {}", self.everything());
        }
        assert!(
            Instant::now() < deadline,
            "the service did not {what} within {START:?}: {}",
            self.everything()
        );
        sleep(POLL).await;
    }

    async fn is_live(&self) -> bool {
        self.api.without_token().try_get("/health/live").await.is_ok_and(|answer| answer.status == 200)
    }

    fn running(&mut self) -> &mut ChildProcess {
        self.child.as_mut().expect("the service has been started")
    }

    fn stdout_file(&self) -> PathBuf {
        self.dir.path().join("stdout.log")
    }

    fn stderr_file(&self) -> PathBuf {
        self.dir.path().join("stderr.log")
    }

    fn log_since(&self, start: u64) -> String {
        let bytes = fs::read(self.stderr_file()).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }

    fn everything(&self) -> String {
        format!("{}\n{}", self.stdout_text(), self.log_text())
    }
}

impl Deref for Service {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
        .expect("a process ends by itself or by a signal")
}

fn append(file: &Path) -> File {
    File::options().create(true).append(true).open(file).expect("a file for the output can be opened")
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
