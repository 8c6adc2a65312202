//! How a session ended, with either MQTT client.

use std::io;

use crate::{
    connection::reason,
    domain::{
        mqtt_version::{Refusal, Version},
        probe_report::Stage,
        settings::MqttSettings,
        status::{Failure, FailureKind},
    },
};

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The failure to report.
    pub failure: Failure,
    /// How the broker refused the MQTT version, if it did.
    pub refusal: Option<Refusal>,
    /// Who ended it.
    pub by: By,
}

/// Who ended a session, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The broker closed the connection cleanly after the login, without giving a reason. A failing network
    /// does not end a connection in this way.
    BrokerSilently,
    /// The broker gave a reason that may concern a message, or violated the protocol.
    Broker,
    /// The broker gave a reason that concerns no message.
    BrokerUnrelated,
    /// The network failed, or the login did.
    Network,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { failure, refusal: None, by: By::Network }
    }
}

impl Ended {
    /// Explains that the broker closed the connection without giving a reason. `accepted` states whether it
    /// had accepted the login.
    pub fn closed(settings: &MqttSettings, accepted: bool) -> Self {
        if accepted {
            return Self { by: By::BrokerSilently, ..reason::closed(&settings.broker()).into() };
        }
        Self { refusal: Some(Refusal::Closed), ..reason::closed_at_login(settings).into() }
    }

    /// Explains a failure that the broker caused.
    pub fn by_broker(failure: Failure) -> Self {
        Self { by: By::Broker, ..failure.into() }
    }

    /// Explains that the broker does not support this version.
    pub fn version_refused(settings: &MqttSettings, version: Version) -> Self {
        Self { refusal: Some(Refusal::Reported), ..reason::version_refused(settings, version).into() }
    }

    /// Explains that the broker did not respond to the login in time.
    pub fn login_timed_out(settings: &MqttSettings) -> Self {
        reason::timed_out(&settings.broker(), settings.connect_timeout_seconds, Some(Stage::Login)).into()
    }

    /// Converts an I/O error. A failure from `dial` is wrapped in the error and is returned unchanged.
    pub fn from_io(error: &io::Error, settings: &MqttSettings, accepted: bool) -> Self {
        use io::ErrorKind as E;
        if let Some(failure) = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()) {
            return failure.clone().into();
        }
        match error.kind() {
            E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe | E::UnexpectedEof if !accepted => {
                Self::closed(settings, accepted)
            }
            _ => reason::io_error(error, &settings.broker()).into(),
        }
    }

    /// Adjusts the message if the broker closed the connection with both versions. `refusal` states how it
    /// refused the other version.
    pub fn after_refusal(mut self, refusal: Option<Refusal>, broker: &str) -> Self {
        if (refusal, self.refusal) == (Some(Refusal::Closed), Some(Refusal::Closed)) {
            self.failure = Failure::new(
                FailureKind::Closed,
                format!(
                    "{broker} closed the connection during the MQTT login without giving a reason, with both \
                     MQTT 5 and MQTT 3.1.1. Is it restarting, does the port expect TLS or WebSockets, or \
                     does it reject this client?"
                ),
            );
        }
        self
    }
}
