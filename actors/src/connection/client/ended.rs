//! How a session ended, whichever client ran it. Pure.

use std::io;

use crate::{
    connection::reason,
    domain::{
        mqtt_version::{Refusal, Version},
        settings::MqttSettings,
        status::{Failure, FailureKind},
    },
};

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// As it is told.
    pub failure: Failure,
    /// What it says of the version, when it does.
    pub refusal: Option<Refusal>,
    /// Whether the other side closed the connection after the login, in good order and without a word. A network that
    /// fails does not do that.
    pub closed: bool,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { failure, refusal: None, closed: false }
    }
}

impl Ended {
    /// The other side closed the connection without a word. `accepted`: after it had accepted the login.
    pub fn closed(settings: &MqttSettings, accepted: bool) -> Self {
        if accepted {
            return Self { closed: true, ..reason::closed(&settings.broker()).into() };
        }
        Self { refusal: Some(Refusal::Closed), ..reason::closed_at_login(settings).into() }
    }

    /// The broker said that it does not speak this version.
    pub fn version_refused(settings: &MqttSettings, version: Version) -> Self {
        Self { refusal: Some(Refusal::Said), ..reason::version_refused(settings, version).into() }
    }

    /// The broker did not answer the login in time.
    pub fn login_timed_out(settings: &MqttSettings) -> Self {
        reason::timed_out(&settings.broker(), settings.connect_timeout_seconds, Some("login")).into()
    }

    /// An error of the network, or the dialler's own failure, which travels inside one.
    pub fn of_io(error: &io::Error, settings: &MqttSettings, accepted: bool) -> Self {
        use io::ErrorKind as E;
        if let Some(failure) = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()) {
            return failure.clone().into();
        }
        match error.kind() {
            E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe | E::UnexpectedEof if !accepted => {
                Self::closed(settings, accepted)
            }
            _ => reason::of_io(error, &settings.broker()).into(),
        }
    }

    /// The same, when the other version had been turned down in this way before it was tried.
    pub fn after(mut self, refusal: Option<Refusal>, broker: &str) -> Self {
        if (refusal, self.refusal) == (Some(Refusal::Closed), Some(Refusal::Closed)) {
            self.failure = Failure::new(
                FailureKind::Closed,
                format!(
                    "{broker} closed the connection during the MQTT login, without a reason, with MQTT 5 as with MQTT \
                     3.1.1. Is it restarting, does the port expect TLS or WebSockets, or is this client not welcome?"
                ),
            );
        }
        self
    }
}
