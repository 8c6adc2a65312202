//! The stages of connecting to a broker: those that have ended, and the one in progress.

use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use crate::domain::{
    probe_report::{Stage, TestProgress, TestStage},
    status::Failure,
};

/// Records the stages, and reports them as they begin and end.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    done: Vec<TestStage>,
    current: Option<(Stage, Instant)>,
    watcher: Option<UnboundedSender<TestProgress>>,
}

impl Stages {
    /// Creates an empty record that reports its progress to `watcher`, if there is one.
    pub fn reporting_to(watcher: Option<UnboundedSender<TestProgress>>) -> Self {
        Self { watcher, ..Self::default() }
    }

    fn report(&self, progress: TestProgress) {
        if let Some(watcher) = &self.watcher {
            // The receiver may have been dropped.
            let _gone = watcher.send(progress);
        }
    }

    /// Begins a stage, unless it is already in progress.
    pub fn begin(&mut self, stage: Stage) {
        if self.current() != Some(stage) {
            self.current = Some((stage, Instant::now()));
            self.report(TestProgress::Begun(stage));
        }
    }

    /// Returns the stage in progress.
    pub fn current(&self) -> Option<Stage> {
        self.current.map(|(stage, _)| stage)
    }

    /// Returns how many stages have ended.
    pub fn completed(&self) -> usize {
        self.done.len()
    }

    /// Ends the stage in progress.
    pub fn end(&mut self, ok: Option<bool>, detail: impl Into<String>) {
        if let Some((name, started)) = self.current.take() {
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let stage = TestStage { name, ok, duration_ms, detail: detail.into() };
            self.report(TestProgress::Stage(stage.clone()));
            self.done.push(stage);
        }
    }

    /// Ends the stage in progress as passed.
    pub fn pass(&mut self, detail: impl Into<String>) {
        self.end(Some(true), detail);
    }

    /// Ends the stage in progress as failed.
    pub fn fail(&mut self, failure: &Failure) {
        self.end(Some(false), format!("{}: {}", failure.kind, failure.message));
    }

    /// Returns all stages, in order.
    pub fn finish(self) -> Vec<TestStage> {
        self.done
    }
}
