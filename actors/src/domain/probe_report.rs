//! The result of a connection test, stage by stage.

use serde::Serialize;

/// How far a trial connection has come. Where the broker has several addresses, stages begin again with each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestProgress {
    /// This stage has begun.
    Begun(&'static str),
    /// This stage has ended.
    Stage(TestStage),
}

/// How a trial connection went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// Whether every stage that could be tried was passed.
    pub success: bool,
    /// The outcome in words; at a failure, its cause and the likely remedy.
    pub message: String,
    /// What the broker speaks, once known.
    pub protocol: Option<&'static str>,
    /// What was tried, in order; what comes after the first failure was not.
    pub stages: Vec<TestStage>,
}

/// One stage of a trial connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestStage {
    /// `resolve`, `connect`, `tls`, `login`, `publish` or `loopback`.
    pub name: &'static str,
    /// Whether it was passed; `None` when it could not be told.
    pub ok: Option<bool>,
    /// How long it took.
    pub duration_ms: u64,
    /// What was found, or what went wrong.
    pub detail: String,
}
