//! The real `liveobject` binary as a child process, in its own directory.
//!
//! The service is configured to log JSON. Its address is read from the log line with the message `listening`,
//! field `address`. Data directory and port stay the same across restarts. A [`Service`] dereferences to its
//! [`Api`].

use std::fs::{self, File};
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
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

/// The service, running or stopped. It is killed when dropped.
#[derive(Debug)]
pub struct Service {
    settings: ServiceBuilder,
    dir: TempDir,
    data_dir: PathBuf,
    port: u16,
    /// The length of the log at the latest start.
    log_before: u64,
    child: Option<ChildProcess>,
    api: Api,
}

/// The result of a command that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code, or the negative signal number if a signal ended it.
    pub code: i32,
    /// The standard output of the command.
    pub stdout: String,
    /// The standard error of the command.
    pub stderr: String,
}

impl Service {
    /// Returns a builder for a service that runs this binary, such as `env!("CARGO_BIN_EXE_liveobject")`.
    pub fn builder(binary: impl Into<PathBuf>) -> ServiceBuilder {
        ServiceBuilder::new(binary.into())
    }

    /// Starts the service and waits until it is live (`GET /health/live` returns 200). The first start
    /// determines the port; later starts use the same one.
    ///
    /// # Panics
    ///
    /// Panics with the log if the service runs already, ends, or is not live within 30 s.
    pub async fn start(&mut self) {
        self.spawn();
        let deadline = Instant::now() + START;
        self.port = loop {
            match log::listening_port(&self.log_since(self.log_before)) {
                Some(port) => break port,
                None => self.wait_for_progress("listen", deadline).await,
            }
        };
        self.api.point_to(self.port, None);
        while !self.is_live().await {
            self.wait_for_progress("become live", deadline).await;
        }
        self.api.point_to(self.port, Some(self.token()));
    }

    /// Starts the service without waiting, for a start that is expected to fail. [`Service::wait`] returns
    /// its exit code.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the service is already running");
        self.log_before = fs::metadata(self.stderr_file()).map_or(0, |file| file.len());
        let mut command = self.settings.command(&["serve"], self.dir.path(), &self.data_dir, self.port);
        command.stdout(append(&self.stdout_file())).stderr(append(&self.stderr_file()));
        self.child = Some(ChildProcess::spawn("the service", &mut command));
    }

    /// Stops the service gracefully if it runs, and starts it again on the same data directory and port.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.sigterm();
            self.wait().await;
        }
        self.start().await;
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub async fn kill9(&mut self) {
        self.running().kill().await;
        self.child = None;
    }

    /// Sends SIGTERM. [`Service::wait`] returns the exit code.
    pub fn sigterm(&mut self) {
        self.running().signal(Signal::TERM);
    }

    /// Sends SIGHUP.
    pub fn sighup(&mut self) {
        self.running().signal(Signal::HUP);
    }

    /// Suspends the process (SIGSTOP) until [`Service::thaw`].
    pub fn freeze(&mut self) {
        self.running().signal(Signal::STOP);
    }

    /// Resumes the process (SIGCONT).
    pub fn thaw(&mut self) {
        self.running().signal(Signal::CONT);
    }

    /// Waits for the process to end and returns the exit code, or the negative signal number if a signal
    /// ended it.
    ///
    /// # Panics
    ///
    /// Panics if it does not end within 20 s.
    pub async fn wait(&mut self) -> i32 {
        let status = self.running().wait(STOP).await;
        let status = status
            .unwrap_or_else(|| panic!("the service did not end within {STOP:?}: {}", self.all_output()));
        self.child = None;
        code(status)
    }

    /// Returns whether the process is running.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.exited().is_none())
    }

    /// Runs another command of the binary, such as `["key", "rotate"]`, to its end, with the same
    /// configuration, environment and data directory.
    ///
    /// # Panics
    ///
    /// Panics if it does not end within 60 s.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with_output(arguments, None).await
    }

    /// Like [`Service::run`], with this standard output instead of one that is returned.
    ///
    /// # Panics
    ///
    /// Panics if it does not end within 60 s.
    pub async fn run_with_output(&self, arguments: &[&str], output: Option<Stdio>) -> Finished {
        let dir = TempDir::new_in(self.dir.path()).expect("a temporary directory can be created");
        let (stdout, stderr) = (dir.path().join("stdout"), dir.path().join("stderr"));
        let mut command = self.settings.command(arguments, self.dir.path(), &self.data_dir, self.port);
        let output = output.unwrap_or_else(|| append(&stdout).into());
        command.stdout(output).stderr(append(&stderr));
        let mut child = ChildProcess::spawn("liveobject", &mut command);
        let status = child.wait(COMMAND).await;
        let (stdout, stderr) = (read(&stdout), read(&stderr));
        match status {
            Some(status) => Finished { code: code(status), stdout, stderr },
            None => panic!("liveobject {arguments:?} did not end within {COMMAND:?}: {stdout}{stderr}"),
        }
    }

    /// Returns a handle to the API that can be cloned and follows the service across restarts.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// Returns the port on which the service listens; 0 before the first start.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the service is running").pid()
    }

    /// Returns the API token from the data directory.
    #[must_use]
    pub fn token(&self) -> String {
        let file = self.data_dir.join("api-token");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().to_owned()
    }

    /// Returns the data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the log output (standard error) of all runs.
    #[must_use]
    pub fn log_text(&self) -> String {
        read(&self.stderr_file())
    }

    /// Returns the log lines of all runs that are JSON objects, with their fields at the top level.
    #[must_use]
    pub fn log_lines(&self) -> Vec<Value> {
        log::lines(&self.log_text()).collect()
    }

    /// Returns the standard output of all runs.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        read(&self.stdout_file())
    }

    /// Returns the current resident set size in KiB.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        memory::resident_kib(self.pid()).expect("a running service has a resident set")
    }

    /// Waits one poll interval. Panics if the service has ended or the deadline has passed.
    async fn wait_for_progress(&mut self, what: &str, deadline: Instant) {
        if let Some(status) = self.running().exited() {
            panic!("the service ended ({status}) and did not {what}: {}", self.all_output());
        }
        assert!(
            Instant::now() < deadline,
            "the service did not {what} within {START:?}: {}",
            self.all_output()
        );
        sleep(POLL).await;
    }

    async fn is_live(&self) -> bool {
        self.api.without_token().try_get("/health/live").await.is_ok_and(|answer| answer.status == 200)
    }

    fn running(&mut self) -> &mut ChildProcess {
        self.child.as_mut().expect("the service is running")
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

    fn all_output(&self) -> String {
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
        .expect("a process has an exit code or a signal")
}

fn append(file: &Path) -> File {
    File::options().create(true).append(true).open(file).expect("an output file can be opened")
}

fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
