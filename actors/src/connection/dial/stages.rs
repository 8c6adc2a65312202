//! The stages of the way to a broker, as they are gone through.

use tokio::time::Instant;

use crate::{config::TestStage, status::Failure};

/// What was passed, and what is under way.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    done: Vec<TestStage>,
    current: Option<(&'static str, Instant)>,
}

impl Stages {
    /// A stage begins, unless it has already.
    pub fn begin(&mut self, name: &'static str) {
        if self.current() != Some(name) {
            self.current = Some((name, Instant::now()));
        }
    }

    /// The stage that is under way.
    pub fn current(&self) -> Option<&'static str> {
        self.current.map(|(name, _)| name)
    }

    /// How many were passed: how far the way led.
    pub fn passed(&self) -> usize {
        self.done.len()
    }

    /// The stage under way ends.
    pub fn end(&mut self, ok: Option<bool>, detail: impl Into<String>) {
        if let Some((name, started)) = self.current.take() {
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.done.push(TestStage { name, ok, duration_ms, detail: detail.into() });
        }
    }

    /// The stage under way is passed.
    pub fn pass(&mut self, detail: impl Into<String>) {
        self.end(Some(true), detail);
    }

    /// The stage under way has failed.
    pub fn fail(&mut self, failure: &Failure) {
        self.end(Some(false), format!("{}: {}", failure.kind, failure.message));
    }

    /// All of them, in order.
    pub fn finish(self) -> Vec<TestStage> {
        self.done
    }
}
