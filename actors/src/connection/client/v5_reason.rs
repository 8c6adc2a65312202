//! What MQTT 5's reason codes (section 2.4) and the client's errors mean to us. Pure.

use std::io;

use rumqttc::{
    ConnectionError, StateError,
    mqttbytes::{
        self,
        v5::{ConnectReturnCode, DisconnectReasonCode, PubAckReason, PubRecReason},
    },
};

use super::Answer;
use crate::{
    connection::reason,
    outbox::DeadReason,
    settings::MqttSettings,
    status::{Failure, FailureKind},
};

/// A refusal that does not say whether it will pass is believed after so many times.
const ATTEMPTS: u32 = 10;

pub fn of_puback(reason: PubAckReason) -> Answer {
    match reason {
        PubAckReason::Success => Answer::Accepted { unheard: false },
        PubAckReason::NoMatchingSubscribers => Answer::Accepted { unheard: true },
        PubAckReason::NotAuthorized => Answer::Refused(DeadReason::NotAuthorized),
        PubAckReason::TopicNameInvalid => Answer::Refused(DeadReason::TopicNameInvalid),
        PubAckReason::PayloadFormatInvalid => Answer::Refused(DeadReason::PayloadFormatInvalid),
        PubAckReason::QuotaExceeded => Answer::Deferred { reason: "quota_exceeded", attempts: None },
        PubAckReason::PacketIdentifierInUse => {
            Answer::Deferred { reason: "packet_identifier_in_use", attempts: Some(ATTEMPTS) }
        }
        PubAckReason::UnspecifiedError => {
            Answer::Deferred { reason: "unspecified_error", attempts: Some(ATTEMPTS) }
        }
        PubAckReason::ImplementationSpecificError => {
            Answer::Deferred { reason: "implementation_specific_error", attempts: Some(ATTEMPTS) }
        }
    }
}

/// PUBREC has the same reasons as PUBACK.
pub fn of_pubrec(reason: PubRecReason) -> Answer {
    of_puback(match reason {
        PubRecReason::Success => PubAckReason::Success,
        PubRecReason::NoMatchingSubscribers => PubAckReason::NoMatchingSubscribers,
        PubRecReason::NotAuthorized => PubAckReason::NotAuthorized,
        PubRecReason::TopicNameInvalid => PubAckReason::TopicNameInvalid,
        PubRecReason::PayloadFormatInvalid => PubAckReason::PayloadFormatInvalid,
        PubRecReason::QuotaExceeded => PubAckReason::QuotaExceeded,
        PubRecReason::PacketIdentifierInUse => PubAckReason::PacketIdentifierInUse,
        PubRecReason::UnspecifiedError => PubAckReason::UnspecifiedError,
        PubRecReason::ImplementationSpecificError => PubAckReason::ImplementationSpecificError,
    })
}

/// Why the client's event loop ended. `accepted`: after the login was.
pub fn of_connection_error(error: &ConnectionError, settings: &MqttSettings, accepted: bool) -> Failure {
    let broker = settings.broker();
    match error {
        ConnectionError::Io(error) => of_io(error, &broker, accepted),
        ConnectionError::MqttState(error) => of_state_error(error, settings, accepted),
        ConnectionError::ConnectionRefused(code) => of_connack(*code, settings),
        ConnectionError::NotConnAck(_) => not_mqtt(&broker, &error),
        ConnectionError::DisconnectTimeout => Failure::new(
            FailureKind::Closed,
            format!("{broker} did not acknowledge everything before the connection was closed."),
        ),
        error => Failure::new(FailureKind::Closed, format!("The connection to {broker} failed: {error}.")),
    }
}

fn of_io(error: &io::Error, broker: &str, accepted: bool) -> Failure {
    // The dialler's own failure, which travelled inside the error.
    if let Some(failure) = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()) {
        return failure.clone();
    }
    let failure = reason::of_io(error, broker);
    if !accepted && failure.kind == FailureKind::Closed {
        return reason::closed_at_login(broker);
    }
    failure
}

fn of_state_error(error: &StateError, settings: &MqttSettings, accepted: bool) -> Failure {
    let broker = settings.broker();
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            of_io(error, &broker, accepted)
        }
        StateError::ConnectionAborted if accepted => Failure::new(
            FailureKind::Closed,
            format!("{broker} closed the connection. Was the broker restarted?"),
        ),
        StateError::ConnectionAborted => reason::closed_at_login(&broker),
        StateError::ConnFail { reason } => of_connack(*reason, settings),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            of_disconnect(*reason_code, reason_string.as_deref(), &broker)
        }
        StateError::AwaitPingResp => Failure::new(
            FailureKind::Stalled,
            format!("{broker} is connected, but does not answer pings. Connecting anew."),
        ),
        error => not_mqtt(&broker, error),
    }
}

fn not_mqtt(broker: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Protocol,
        format!(
            "What {broker} answers is not the MQTT 5 that was expected ({error}). Is it an MQTT broker's port, and does \
             it expect TLS?"
        ),
    )
}

fn of_connack(code: ConnectReturnCode, settings: &MqttSettings) -> Failure {
    use ConnectReturnCode as C;
    let broker = settings.broker();
    let user = settings.username.as_deref().unwrap_or("");
    let (kind, message) = match code {
        C::BadUserNamePassword | C::BadAuthenticationMethod => (
            FailureKind::BadCredentials,
            format!("{broker} does not accept the user name {user:?} with this password."),
        ),
        C::NotAuthorized | C::Banned => (
            FailureKind::NotAuthorized,
            if user.is_empty() {
                format!("{broker} does not permit the login without a user name and password.")
            } else {
                format!(
                    "{broker} does not permit the login of {user:?}: the user name or password is wrong, or this user \
                     may not connect."
                )
            },
        ),
        C::UnsupportedProtocolVersion | C::RefusedProtocolVersion | C::MalformedPacket | C::ProtocolError => {
            (FailureKind::Protocol, format!("{broker} does not speak MQTT 5 as it was asked to ({code:?})."))
        }
        C::ClientIdentifierNotValid | C::BadClientId => (
            FailureKind::Protocol,
            format!(
                "{broker} does not accept the client id {:?}. Set another client_id.",
                settings.client_id
            ),
        ),
        C::TopicNameInvalid
        | C::PacketTooLarge
        | C::PayloadFormatInvalid
        | C::RetainNotSupported
        | C::QoSNotSupported => (
            FailureKind::Protocol,
            format!("{broker} does not accept the will message ({code:?}). Check availability_topic."),
        ),
        _ => (FailureKind::Refused, format!("{broker} refuses connections at the moment ({code:?}).")),
    };
    Failure::new(kind, message)
}

fn of_disconnect(code: DisconnectReasonCode, text: Option<&str>, broker: &str) -> Failure {
    use DisconnectReasonCode as D;
    let said = text.map(|text| format!(", saying {text:?}")).unwrap_or_default();
    let (kind, message) = match code {
        D::SessionTakenOver => (
            FailureKind::TakenOver,
            format!(
                "Another client connected to {broker} with the same client id, and took this connection over. Give \
                 each client its own client_id."
            ),
        ),
        D::NotAuthorized => (
            FailureKind::NotAuthorized,
            format!("{broker} closed the connection because something is not permitted{said}."),
        ),
        D::KeepAliveTimeout => (
            FailureKind::Stalled,
            format!("{broker} heard nothing for too long and closed the connection{said}."),
        ),
        D::MalformedPacket
        | D::ProtocolError
        | D::TopicNameInvalid
        | D::ReceiveMaximumExceeded
        | D::PacketTooLarge
        | D::PayloadFormatInvalid
        | D::RetainNotSupported
        | D::QoSNotSupported => (
            FailureKind::Protocol,
            format!("{broker} closed the connection over a message ({code:?}{said})."),
        ),
        _ => (FailureKind::Closed, format!("{broker} closed the connection ({code:?}{said}).")),
    };
    Failure::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> MqttSettings {
        MqttSettings {
            broker_host: "broker".to_owned(),
            username: Some("camera".to_owned()),
            ..MqttSettings::defaults("c")
        }
    }

    #[test]
    fn a_wrong_password_is_never_a_timeout() {
        for (code, kind) in [
            (ConnectReturnCode::BadUserNamePassword, FailureKind::BadCredentials),
            (ConnectReturnCode::NotAuthorized, FailureKind::NotAuthorized),
        ] {
            let error = ConnectionError::ConnectionRefused(code);
            let failure = of_connection_error(&error, &settings(), false);
            assert_eq!(failure.kind, kind);
            assert!(failure.message.contains("camera") && failure.message.contains("password"));
        }
    }

    #[test]
    fn the_diallers_failure_survives_the_client() {
        let dialled = Failure::new(FailureKind::NameNotFound, "no such name");
        let error = ConnectionError::Io(io::Error::other(dialled.clone()));
        assert_eq!(of_connection_error(&error, &settings(), false), dialled);
    }

    #[test]
    fn a_reset_while_a_packet_is_read_is_a_lost_connection() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        for error in [StateError::Io(reset()), StateError::Deserialization(mqttbytes::Error::Io(reset()))] {
            let failure = of_connection_error(&ConnectionError::MqttState(error), &settings(), true);
            assert_eq!(failure.kind, FailureKind::Closed);
        }
    }

    #[test]
    fn taking_over_has_its_own_kind() {
        let error = StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            reason_string: None,
        };
        let failure = of_connection_error(&ConnectionError::MqttState(error), &settings(), true);
        assert_eq!(failure.kind, FailureKind::TakenOver);
    }

    #[test]
    fn quota_is_waited_out_and_unclear_refusals_are_believed_in_the_end() {
        assert!(matches!(of_puback(PubAckReason::QuotaExceeded), Answer::Deferred { attempts: None, .. }));
        assert!(matches!(
            of_pubrec(PubRecReason::UnspecifiedError),
            Answer::Deferred { attempts: Some(ATTEMPTS), .. }
        ));
        assert_eq!(of_puback(PubAckReason::NotAuthorized), Answer::Refused(DeadReason::NotAuthorized));
    }
}
