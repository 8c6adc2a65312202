//! The stages of the way to a broker, as they are gone through.

use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use crate::domain::{
    probe_report::{TestProgress, TestStage},
    status::Failure,
};

/// What was passed, and what is under way.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    done: Vec<TestStage>,
    current: Option<(&'static str, Instant)>,
    watched_by: Option<UnboundedSender<TestProgress>>,
}

impl Stages {
    /// Stages that are told to somebody as they come; to nobody when that is `None`.
    pub fn watched_by(watcher: Option<UnboundedSender<TestProgress>>) -> Self {
        Self { watched_by: watcher, ..Self::default() }
    }

    fn tell(&self, progress: TestProgress) {
        if let Some(watcher) = &self.watched_by {
            // Whoever has gone misses nothing.
            let _gone = watcher.send(progress);
        }
    }

    /// A stage begins, unless it has already.
    pub fn begin(&mut self, name: &'static str) {
        if self.current() != Some(name) {
            self.current = Some((name, Instant::now()));
            self.tell(TestProgress::Begun(name));
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
            let stage = TestStage { name, ok, duration_ms, detail: detail.into() };
            self.tell(TestProgress::Stage(stage.clone()));
            self.done.push(stage);
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
