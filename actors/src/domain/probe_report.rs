//! The result of a connection test, stage by stage.

use std::fmt;

use serde::Serialize;

#[cfg(feature = "openapi")]
use crate::domain::mqtt_version::Version;
use crate::domain::status::Failure;

/// A step of a connection test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Resolve the broker's name.
    Resolve,
    /// Open the TCP connection.
    Connect,
    /// Perform the TLS handshake.
    Tls,
    /// Log in over MQTT, including the WebSocket upgrade if there is one.
    Login,
    /// Publish a test message.
    Publish,
    /// Receive the test message back.
    Loopback,
    /// Publish on the availability topic, and log in with a last will there.
    Availability,
    /// Publish a discovery message.
    Discovery,
    /// Publish on the topics of a camera's events.
    Events,
    /// Publish on the topics of a camera's retained states.
    States,
}

/// The beginning of the payload that identifies a message of a connection test. On the availability topic, the
/// service ignores such messages.
pub const TEST_PAYLOAD: &str = "connection test ";

impl Stage {
    /// Returns the stage's name in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::Publish => "publish",
            Self::Loopback => "loopback",
            Self::Availability => "availability",
            Self::Discovery => "discovery",
            Self::Events => "events",
            Self::States => "states",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The progress of a running connection test. If the broker has several addresses, stages may be repeated for
/// each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestProgress {
    /// This stage has begun.
    Begun(Stage),
    /// This stage has ended.
    Stage(TestStage),
}

/// The result of a connection test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TestReport {
    /// Whether no stage failed.
    pub success: bool,
    /// The result in words; for a failure, the cause and how to fix it.
    pub message: String,
    /// The MQTT version in use, `"5"` or `"3.1.1"`, once known.
    #[cfg_attr(feature = "openapi", schema(required = true, value_type = Option<Version>))]
    pub protocol: Option<&'static str>,
    /// The stages that were tried, in order. The stages that need a failed one are missing.
    pub stages: Vec<TestStage>,
}

/// The result of the first stages of a connection test, up to the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginReport {
    /// The MQTT version in use, if the broker accepted the login.
    pub protocol: Option<&'static str>,
    /// The stages that were tried, in order.
    pub stages: Vec<TestStage>,
    /// Why the broker did not accept the login.
    pub failure: Option<Failure>,
}

impl LoginReport {
    /// Returns whether a server accepted the TCP connection.
    pub fn is_reachable(&self) -> bool {
        self.stages.iter().any(|stage| stage.name == Stage::Connect && stage.ok == Some(true))
    }
}

/// One stage of a connection test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TestStage {
    /// Which stage it is.
    pub name: Stage,
    /// Whether it passed; `None` if that could not be determined.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub ok: Option<bool>,
    /// How long it took.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub duration_ms: u64,
    /// What was found, or what went wrong.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_the_same_name_in_text_and_in_json() {
        use Stage::{
            Availability, Connect, Discovery, Events, Login, Loopback, Publish, Resolve, States, Tls,
        };
        for stage in
            [Resolve, Connect, Tls, Login, Publish, Loopback, Availability, Discovery, Events, States]
        {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
            assert_eq!(stage.to_string(), stage.as_str());
        }
        assert_eq!(format!("{Tls:<9}|"), "tls      |");
    }
}
