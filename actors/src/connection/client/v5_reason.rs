//! What MQTT 5's reason codes (section 2.4) and the client's errors mean to us. Pure.

use rumqttc::{
    ConnectionError, StateError,
    mqttbytes::{
        self,
        v5::{ConnectReturnCode, DisconnectReasonCode, PubAckReason, PubRecReason},
    },
};

use super::{Answer, Ended};
use crate::{
    connection::reason,
    domain::{
        delivery::DeadReason,
        mqtt_version::Version,
        settings::MqttSettings,
        status::{Failure, FailureKind},
    },
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
pub fn of_connection_error(error: &ConnectionError, settings: &MqttSettings, accepted: bool) -> Ended {
    match error {
        ConnectionError::Timeout(_) => Ended::login_timed_out(settings),
        ConnectionError::Io(error) => Ended::of_io(error, settings, accepted),
        ConnectionError::MqttState(error) => of_state_error(error, settings, accepted),
        ConnectionError::ConnectionRefused(code) => of_connack(*code, settings),
        ConnectionError::NotConnAck(_) => reason::not_mqtt(&settings.broker(), Version::V5, &error).into(),
        ConnectionError::DisconnectTimeout => reason::not_drained(&settings.broker()).into(),
        error => reason::failed(&settings.broker(), error).into(),
    }
}

fn of_state_error(error: &StateError, settings: &MqttSettings, accepted: bool) -> Ended {
    let broker = settings.broker();
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            Ended::of_io(error, settings, accepted)
        }
        StateError::ConnectionAborted => Ended::closed(settings, accepted),
        StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code)) => {
            of_old_connack(*code, settings)
                .unwrap_or_else(|| reason::not_mqtt(&broker, Version::V5, error).into())
        }
        StateError::ConnFail { reason } => of_connack(*reason, settings),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            of_disconnect(*reason_code, reason_string.as_deref(), &broker).into()
        }
        StateError::AwaitPingResp => reason::ping_unanswered(&broker).into(),
        error => reason::not_mqtt(&broker, Version::V5, error).into(),
    }
}

/// A return code of MQTT 3.1.1 in a CONNACK of MQTT 5, as some brokers answer that do not speak 5.
fn of_old_connack(code: u8, settings: &MqttSettings) -> Option<Ended> {
    use ConnectReturnCode as C;
    let code = match code {
        1 => C::RefusedProtocolVersion,
        2 => C::BadClientId,
        3 => C::ServiceUnavailable,
        4 => C::BadUserNamePassword,
        5 => C::NotAuthorized,
        _ => return None,
    };
    Some(of_connack(code, settings))
}

fn of_connack(code: ConnectReturnCode, settings: &MqttSettings) -> Ended {
    use ConnectReturnCode as C;
    let broker = settings.broker();
    match code {
        C::UnsupportedProtocolVersion | C::RefusedProtocolVersion => {
            Ended::version_refused(settings, Version::V5)
        }
        C::BadUserNamePassword | C::BadAuthenticationMethod => reason::bad_credentials(settings).into(),
        C::NotAuthorized | C::Banned => reason::login_not_permitted(settings).into(),
        C::ClientIdentifierNotValid | C::BadClientId => reason::client_id_refused(settings).into(),
        C::MalformedPacket | C::ProtocolError => {
            let message =
                format!("{broker} does not understand the login ({code:?}). Set protocol to \"3.1.1\".");
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
    use std::io;

    use super::*;
    use crate::domain::mqtt_version::Refusal;

    fn settings() -> MqttSettings {
        MqttSettings {
            broker_host: "broker".to_owned(),
            username: Some("camera".to_owned()),
            ..MqttSettings::defaults("c")
        }
    }

    fn at_login(error: ConnectionError) -> Ended {
        of_connection_error(&error, &settings(), false)
    }

    #[test]
    fn a_wrong_password_is_never_a_timeout_and_casts_no_doubt_on_the_version() {
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
    fn a_refused_version_is_told_apart_from_every_other_refusal() {
        use ConnectReturnCode as C;
        for code in [C::UnsupportedProtocolVersion, C::RefusedProtocolVersion] {
            let ended = at_login(ConnectionError::ConnectionRefused(code));
            assert_eq!((ended.failure.kind, ended.refusal), (FailureKind::Protocol, Some(Refusal::Said)));
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
    fn the_return_codes_of_3_1_1_mean_the_same_in_an_answer_of_mqtt_5() {
        let said = |code| {
            let error = StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(code));
            let Ended { failure, refusal, .. } = at_login(ConnectionError::MqttState(error));
            (failure.kind, refusal)
        };
        assert_eq!(said(1), (FailureKind::Protocol, Some(Refusal::Said)));
        assert_eq!(said(2), (FailureKind::Protocol, None));
        assert_eq!(said(3), (FailureKind::Refused, None));
        assert_eq!(said(4), (FailureKind::BadCredentials, None));
        assert_eq!(said(5), (FailureKind::NotAuthorized, None));
        assert_eq!(said(6), (FailureKind::Protocol, None));
    }

    #[test]
    fn the_diallers_failure_survives_the_client_and_casts_no_doubt_on_the_version() {
        for kind in [FailureKind::NameNotFound, FailureKind::Tls, FailureKind::Closed] {
            let dialled = Failure::new(kind, "why");
            let ended = at_login(ConnectionError::Io(io::Error::other(dialled.clone())));
            assert_eq!((ended.failure, ended.refusal), (dialled, None));
        }
    }

    #[test]
    fn a_reset_while_a_packet_is_read_is_a_lost_connection() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        for error in [StateError::Io(reset()), StateError::Deserialization(mqttbytes::Error::Io(reset()))] {
            let ended = of_connection_error(&ConnectionError::MqttState(error), &settings(), true);
            assert_eq!((ended.failure.kind, ended.refusal), (FailureKind::Closed, None));
        }
    }

    #[test]
    fn only_a_connection_closed_by_the_other_side_may_be_a_refusal() {
        use io::ErrorKind as E;
        let io = |kind: E| at_login(ConnectionError::MqttState(StateError::Io(kind.into()))).refusal;
        for kind in [E::ConnectionReset, E::ConnectionAborted, E::BrokenPipe, E::UnexpectedEof] {
            assert_eq!(io(kind), Some(Refusal::Closed), "{kind}");
        }
        // Among them how TLS alerts are told.
        for kind in [E::InvalidData, E::Other, E::TimedOut, E::HostUnreachable] {
            assert_eq!(io(kind), None, "{kind}");
        }
        let closed = at_login(ConnectionError::MqttState(StateError::ConnectionAborted));
        assert_eq!(closed.refusal, Some(Refusal::Closed));
    }

    #[test]
    fn taking_over_has_its_own_kind() {
        let error = StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            reason_string: None,
        };
        let ended = of_connection_error(&ConnectionError::MqttState(error), &settings(), true);
        assert_eq!(ended.failure.kind, FailureKind::TakenOver);
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
