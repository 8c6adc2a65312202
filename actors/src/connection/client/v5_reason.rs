//! Explains the reason codes of MQTT 5 (section 2.4) and the client's errors. Performs no I/O.

use rumqttc::{
    ConnectionError, StateError,
    mqttbytes::{
        self,
        v5::{ConnectReturnCode, DisconnectReasonCode, PubAckReason, PubRecReason},
    },
};

use super::{Answer, By, Ended};
use crate::{
    connection::reason,
    domain::{
        delivery::DeadReason,
        mqtt_version::Version,
        settings::MqttSettings,
        status::{Failure, FailureKind},
    },
};

/// Maximum number of attempts for a message when the broker's refusal does not show whether it is permanent.
/// With the pauses in between, this takes 15 s, during which no other message is sent.
const MAX_ATTEMPTS: u32 = 5;

/// Converts the reason code of a PUBACK.
pub fn puback_answer(reason: PubAckReason) -> Answer {
    match reason {
        PubAckReason::Success => Answer::Accepted { unheard: false },
        PubAckReason::NoMatchingSubscribers => Answer::Accepted { unheard: true },
        PubAckReason::NotAuthorized => Answer::Refused(DeadReason::NotAuthorized),
        PubAckReason::TopicNameInvalid => Answer::Refused(DeadReason::TopicNameInvalid),
        PubAckReason::PayloadFormatInvalid => Answer::Refused(DeadReason::PayloadFormatInvalid),
        PubAckReason::QuotaExceeded => Answer::Deferred { reason: "quota_exceeded", attempts: None },
        PubAckReason::PacketIdentifierInUse => {
            Answer::Deferred { reason: "packet_identifier_in_use", attempts: Some(MAX_ATTEMPTS) }
        }
        PubAckReason::UnspecifiedError => {
            Answer::Deferred { reason: "unspecified_error", attempts: Some(MAX_ATTEMPTS) }
        }
        PubAckReason::ImplementationSpecificError => {
            Answer::Deferred { reason: "implementation_specific_error", attempts: Some(MAX_ATTEMPTS) }
        }
    }
}

/// Converts the reason code of a PUBREC, which has the same reasons as PUBACK.
pub fn pubrec_answer(reason: PubRecReason) -> Answer {
    puback_answer(match reason {
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

/// Returns a more specific answer for a message that the broker refused as too large. It uses a reason code
/// that MQTT 5 does not define for this answer, so the client does not know it.
pub fn explained(answer: Answer, is_too_large: impl FnOnce() -> bool) -> Answer {
    match answer {
        Answer::Deferred { attempts: Some(_), .. } if is_too_large() => {
            Answer::Refused(DeadReason::PacketTooLarge)
        }
        answer => answer,
    }
}

/// Explains why the client's event loop ended. `accepted` states whether the login was accepted.
pub fn connection_error(error: &ConnectionError, settings: &MqttSettings, accepted: bool) -> Ended {
    match error {
        ConnectionError::Timeout(_) => Ended::login_timed_out(settings),
        ConnectionError::Io(error) => Ended::from_io(error, settings, accepted),
        ConnectionError::MqttState(error) => state_error(error, settings, accepted),
        ConnectionError::ConnectionRefused(code) => connack_refusal(*code, settings),
        ConnectionError::NotConnAck(_) => reason::not_mqtt(&settings.broker(), Version::V5, &error).into(),
        ConnectionError::DisconnectTimeout => reason::disconnect_timed_out(&settings.broker()).into(),
        error => reason::failed(&settings.broker(), error).into(),
    }
}

fn state_error(error: &StateError, settings: &MqttSettings, accepted: bool) -> Ended {
    let broker = settings.broker();
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            Ended::from_io(error, settings, accepted)
        }
        StateError::ConnectionAborted => Ended::closed(settings, accepted),
        StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code)) => {
            v311_connack_refusal(*code, settings)
                .unwrap_or_else(|| reason::not_mqtt(&broker, Version::V5, error).into())
        }
        StateError::ConnFail { reason } => connack_refusal(*reason, settings),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            let failure = disconnect_failure(*reason_code, reason_string.as_deref(), &broker);
            Ended { by: who_disconnects(*reason_code), ..failure.into() }
        }
        StateError::AwaitPingResp => reason::ping_unanswered(&broker).into(),
        error => Ended::by_broker(reason::not_mqtt(&broker, Version::V5, error)),
    }
}

/// Returns whether a DISCONNECT with this reason may concern a message.
fn who_disconnects(code: DisconnectReasonCode) -> By {
    use DisconnectReasonCode as D;
    match code {
        D::SessionTakenOver
        | D::ServerShuttingDown
        | D::KeepAliveTimeout
        | D::UseAnotherServer
        | D::ServerMoved
        | D::ConnectionRateExceeded
        | D::MaximumConnectTime => By::BrokerUnrelated,
        _ => By::Broker,
    }
}

/// Explains a return code of MQTT 3.1.1 in a CONNACK of MQTT 5. Some brokers without MQTT 5 answer like this.
fn v311_connack_refusal(code: u8, settings: &MqttSettings) -> Option<Ended> {
    use ConnectReturnCode as C;
    let code = match code {
        1 => C::RefusedProtocolVersion,
        2 => C::BadClientId,
        3 => C::ServiceUnavailable,
        4 => C::BadUserNamePassword,
        5 => C::NotAuthorized,
        _ => return None,
    };
    Some(connack_refusal(code, settings))
}

fn connack_refusal(code: ConnectReturnCode, settings: &MqttSettings) -> Ended {
    use ConnectReturnCode as C;
    let broker = settings.broker();
    match code {
        C::UnsupportedProtocolVersion | C::RefusedProtocolVersion => {
            Ended::version_refused(settings, Version::V5)
        }
        C::BadUserNamePassword | C::BadAuthenticationMethod => reason::bad_credentials(settings).into(),
        C::NotAuthorized | C::Banned => reason::login_refused(settings).into(),
        C::ClientIdentifierNotValid | C::BadClientId => reason::client_id_refused(settings).into(),
        C::MalformedPacket | C::ProtocolError => {
            let message = format!("{broker} cannot parse the login ({code:?}). Set protocol to \"3.1.1\".");
            Failure::new(FailureKind::Protocol, message).into()
        }
        C::TopicNameInvalid
        | C::PacketTooLarge
        | C::PayloadFormatInvalid
        | C::RetainNotSupported
        | C::QoSNotSupported => {
            let message =
                format!("{broker} does not accept the will message ({code:?}). Check availability_topic.");
            Failure::new(FailureKind::Protocol, message).into()
        }
        _ => reason::unavailable(&broker, &format!("{code:?}")).into(),
    }
}

fn disconnect_failure(code: DisconnectReasonCode, text: Option<&str>, broker: &str) -> Failure {
    use DisconnectReasonCode as D;
    let detail = text.map(|text| format!(", {text:?}")).unwrap_or_default();
    let because = text.map(|text| format!(" ({text:?})")).unwrap_or_default();
    let (kind, message) = match code {
        D::SessionTakenOver => (
            FailureKind::TakenOver,
            format!(
                "Another client connected to {broker} with the same client id and took over this connection. \
                 Give each client its own client_id."
            ),
        ),
        D::NotAuthorized => (
            FailureKind::NotAuthorized,
            format!(
                "{broker} closed the connection because an action is not allowed{because}. Check its access \
                 rules."
            ),
        ),
        D::KeepAliveTimeout => (
            FailureKind::Stalled,
            format!("{broker} received nothing for too long and closed the connection{because}."),
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
            format!("{broker} closed the connection because of a message ({code:?}{detail})."),
        ),
        _ => (FailureKind::Closed, format!("{broker} closed the connection ({code:?}{detail}).")),
    };
    Failure::new(kind, message)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::domain::{delivery::DEFERRAL_REASONS, mqtt_version::Refusal};

    fn settings() -> MqttSettings {
        MqttSettings {
            broker_host: "broker".to_owned(),
            username: Some("camera".to_owned()),
            ..MqttSettings::defaults("c")
        }
    }

    fn at_login(error: ConnectionError) -> Ended {
        connection_error(&error, &settings(), false)
    }

    #[test]
    fn a_wrong_password_is_neither_a_timeout_nor_a_version_refusal() {
        for (code, kind) in [
            (ConnectReturnCode::BadUserNamePassword, FailureKind::BadCredentials),
            (ConnectReturnCode::NotAuthorized, FailureKind::NotAuthorized),
        ] {
            let Ended { failure, refusal, .. } = at_login(ConnectionError::ConnectionRefused(code));
            assert_eq!((failure.kind, refusal), (kind, None));
            assert!(failure.message.contains("camera") && failure.message.contains("password"));
        }
    }

    #[test]
    fn a_version_refusal_is_distinguished_from_every_other_refusal() {
        use ConnectReturnCode as C;
        for code in [C::UnsupportedProtocolVersion, C::RefusedProtocolVersion] {
            let ended = at_login(ConnectionError::ConnectionRefused(code));
            assert_eq!((ended.failure.kind, ended.refusal), (FailureKind::Protocol, Some(Refusal::Reported)));
        }
        for code in [
            C::BadClientId,
            C::ServiceUnavailable,
            C::UnspecifiedError,
            C::MalformedPacket,
            C::ProtocolError,
            C::ServerUnavailable,
            C::ServerBusy,
            C::Banned,
            C::QuotaExceeded,
            C::UseAnotherServer,
            C::ConnectionRateExceeded,
        ] {
            assert_eq!(at_login(ConnectionError::ConnectionRefused(code)).refusal, None, "{code:?}");
        }
    }

    #[test]
    fn the_return_codes_of_3_1_1_mean_the_same_in_a_connack_of_mqtt_5() {
        let refused_with = |code| {
            let error = StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code));
            let Ended { failure, refusal, .. } = at_login(ConnectionError::MqttState(error));
            (failure.kind, refusal)
        };
        assert_eq!(refused_with(1), (FailureKind::Protocol, Some(Refusal::Reported)));
        assert_eq!(refused_with(2), (FailureKind::Protocol, None));
        assert_eq!(refused_with(3), (FailureKind::Refused, None));
        assert_eq!(refused_with(4), (FailureKind::BadCredentials, None));
        assert_eq!(refused_with(5), (FailureKind::NotAuthorized, None));
        assert_eq!(refused_with(6), (FailureKind::Protocol, None));
    }

    #[test]
    fn a_failure_found_while_dialing_passes_through_the_client_and_is_not_a_version_refusal() {
        for kind in [FailureKind::NameNotFound, FailureKind::Tls, FailureKind::Closed] {
            let dial_failure = Failure::new(kind, "why");
            let ended = at_login(ConnectionError::Io(io::Error::other(dial_failure.clone())));
            assert_eq!((ended.failure, ended.refusal), (dial_failure, None));
        }
    }

    #[test]
    fn a_reset_while_a_packet_is_read_is_a_lost_connection() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        for error in [StateError::Io(reset()), StateError::Deserialization(mqttbytes::Error::Io(reset()))] {
            let ended = connection_error(&ConnectionError::MqttState(error), &settings(), true);
            assert_eq!((ended.failure.kind, ended.refusal), (FailureKind::Closed, None));
        }
    }

    #[test]
    fn only_a_connection_closed_by_the_broker_may_be_a_version_refusal() {
        use io::ErrorKind as E;
        let io = |kind: E| at_login(ConnectionError::MqttState(StateError::Io(kind.into()))).refusal;
        for kind in [E::ConnectionReset, E::ConnectionAborted, E::BrokenPipe, E::UnexpectedEof] {
            assert_eq!(io(kind), Some(Refusal::Closed), "{kind}");
        }
        // TLS alerts are among these.
        for kind in [E::InvalidData, E::Other, E::TimedOut, E::HostUnreachable] {
            assert_eq!(io(kind), None, "{kind}");
        }
        let closed = at_login(ConnectionError::MqttState(StateError::ConnectionAborted));
        assert_eq!(closed.refusal, Some(Refusal::Closed));
    }

    #[test]
    fn a_takeover_has_its_own_failure_kind() {
        let error = StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            reason_string: None,
        };
        let ended = connection_error(&ConnectionError::MqttState(error), &settings(), true);
        assert_eq!(ended.failure.kind, FailureKind::TakenOver);
    }

    #[test]
    fn the_reason_of_every_temporary_refusal_is_listed() {
        use PubAckReason as R;
        for code in
            [R::QuotaExceeded, R::PacketIdentifierInUse, R::UnspecifiedError, R::ImplementationSpecificError]
        {
            let Answer::Deferred { reason, .. } = puback_answer(code) else {
                panic!("{code:?} is permanent")
            };
            assert!(DEFERRAL_REASONS.contains(&reason), "{reason}");
        }
    }

    #[test]
    fn quota_errors_are_retried_without_limit_and_unclear_refusals_a_limited_number_of_times() {
        assert!(matches!(
            puback_answer(PubAckReason::QuotaExceeded),
            Answer::Deferred { attempts: None, .. }
        ));
        assert!(matches!(
            pubrec_answer(PubRecReason::UnspecifiedError),
            Answer::Deferred { attempts: Some(MAX_ATTEMPTS), .. }
        ));
        assert_eq!(puback_answer(PubAckReason::NotAuthorized), Answer::Refused(DeadReason::NotAuthorized));
    }
}
