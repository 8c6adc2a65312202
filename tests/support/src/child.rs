//! A child process that never outlives its value: dropping it kills the process by its pid.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::wait::POLL;

#[derive(Debug)]
pub(crate) struct ChildProcess {
    name: &'static str,
    child: Child,
}

impl ChildProcess {
    /// Starts the command, with the output streams that the caller has configured.
    pub(crate) fn spawn(name: &'static str, command: &mut Command) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} could not be started ({command:?}): {error}"));
        Self { name, child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status if the process has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{} cannot be waited for: {error}", self.name))
    }

    /// Sends a signal, unless the process has already ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.exited().is_some() {
            return;
        }
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("{} cannot be sent {signal:?}: {error}", self.name));
    }

    /// Waits at most `timeout` for the process to end.
    pub(crate) async fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(POLL).await;
        }
    }

    /// Sends SIGKILL and waits for the process to end.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        let name = self.name;
        self.wait(Duration::from_secs(10))
            .await
            .unwrap_or_else(|| panic!("{name} survived SIGKILL for 10 s"));
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Both calls fail only if the process has already been reaped, which is the desired state.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
