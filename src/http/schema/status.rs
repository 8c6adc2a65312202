//! How the connection stands, and how a trial went.

use serde::Deserialize;
use utoipa::ToSchema;

/// Where the connection stands.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum ConnectionState {
    Disabled,
    Connecting,
    Connected,
    Waiting,
}

/// What a broker speaks.
#[derive(Deserialize, ToSchema)]
pub(in crate::http) enum BrokerProtocol {
    #[serde(rename = "5")]
    V5,
    #[serde(rename = "3.1.1")]
    V311,
}

/// Why a connection failed or ended.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum FailureKind {
    NameNotFound,
    Unreachable,
    Timeout,
    Refused,
    BadCredentials,
    NotAuthorized,
    Protocol,
    Tls,
    TakenOver,
    Stalled,
    Closed,
    Panicked,
    SecretUnreadable,
}

/// The newest failure.
#[derive(ToSchema)]
pub(in crate::http) struct LastError {
    kind: FailureKind,
    /// What happened and what can be done.
    message: String,
    #[schema(format = DateTime)]
    at: String,
}

/// What works, but not as its user would wish.
#[derive(ToSchema)]
pub(in crate::http) struct Warning {
    /// A short name (`no_subscribers`, `qos_lowered`, `client_id_taken_over` …).
    kind: String,
    /// What it means and what can be done.
    message: String,
}

/// How a trial connection went.
#[derive(ToSchema)]
pub(in crate::http) struct TestReport {
    /// Whether every stage that could be tried was passed.
    success: bool,
    /// The outcome in words; at a failure, its cause and the likely remedy.
    message: String,
    /// What the broker speaks, once known.
    #[schema(required = true)]
    protocol: Option<BrokerProtocol>,
    /// What was tried, in order; what comes after the first failure was not.
    stages: Vec<TestStage>,
}

/// One stage of a trial connection.
#[derive(ToSchema)]
pub(in crate::http) struct TestStage {
    name: Stage,
    /// Whether it was passed; `null` when it could not be told.
    #[schema(required = true)]
    ok: Option<bool>,
    #[schema(minimum = 0)]
    duration_ms: u64,
    /// What was found, or what went wrong.
    detail: String,
}

/// What is tried.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Stage {
    Resolve,
    Connect,
    Tls,
    Login,
    Publish,
    Loopback,
}
