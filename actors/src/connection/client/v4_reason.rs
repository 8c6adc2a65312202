//! Explains the return codes of MQTT 3.1.1 (section 3.2.2.3) and the client's errors. Performs no I/O.

use rumqttc_v4::{
    ConnectionError, StateError,
    mqttbytes::{self, v4::ConnectReturnCode},
};

use super::Ended;
use crate::{
    connection::reason,
    domain::{mqtt_version::Version, settings::MqttSettings},
};

/// Explains why the client's event loop ended. `accepted` states whether the login was accepted.
pub fn connection_error(error: &ConnectionError, settings: &MqttSettings, accepted: bool) -> Ended {
    let broker = settings.broker();
    match error {
        ConnectionError::NetworkTimeout => Ended::login_timed_out(settings),
        ConnectionError::FlushTimeout => reason::stalled(&broker, settings.ack_timeout_seconds).into(),
        ConnectionError::Io(error) => Ended::from_io(error, settings, accepted),
        ConnectionError::MqttState(error) => state_error(error, settings, accepted),
        ConnectionError::ConnectionRefused(code) => connack_refusal(*code, settings),
        ConnectionError::NotConnAck(_) => reason::not_mqtt(&broker, Version::V311, &error).into(),
        ConnectionError::DisconnectTimeout => reason::disconnect_timed_out(&broker).into(),
        error => reason::failed(&broker, error).into(),
    }
}

fn state_error(error: &StateError, settings: &MqttSettings, accepted: bool) -> Ended {
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            Ended::from_io(error, settings, accepted)
        }
        StateError::ConnectionAborted => Ended::closed(settings, accepted),
        StateError::AwaitPingResp => reason::ping_unanswered(&settings.broker()).into(),
        error => Ended::by_broker(reason::not_mqtt(&settings.broker(), Version::V311, error)),
    }
}

fn connack_refusal(code: ConnectReturnCode, settings: &MqttSettings) -> Ended {
    use ConnectReturnCode as C;
    match code {
        C::RefusedProtocolVersion => Ended::version_refused(settings, Version::V311),
        C::BadClientId => reason::client_id_refused(settings).into(),
        C::BadUserNamePassword => reason::bad_credentials(settings).into(),
        C::NotAuthorized => reason::login_refused(settings).into(),
        C::ServiceUnavailable | C::Success => {
            reason::unavailable(&settings.broker(), &format!("{code:?}")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{super::By, *};
    use crate::domain::{
        mqtt_version::Refusal,
        settings::Protocol,
        status::{Failure, FailureKind},
    };

    fn settings(protocol: Protocol) -> MqttSettings {
        MqttSettings {
            broker_host: "broker".to_owned(),
            username: Some("camera".to_owned()),
            protocol,
            ..MqttSettings::defaults("c")
        }
    }

    #[test]
    fn each_return_code_has_its_failure_kind_and_only_the_first_one_refuses_the_version() {
        use ConnectReturnCode as C;
        for protocol in [Protocol::Auto, Protocol::V311] {
            for (code, kind, refusal, words) in [
                (C::RefusedProtocolVersion, FailureKind::Protocol, Some(Refusal::Reported), "3.1.1"),
                (C::BadClientId, FailureKind::Protocol, None, "client_id"),
                (C::ServiceUnavailable, FailureKind::Refused, None, "at the moment"),
                (C::BadUserNamePassword, FailureKind::BadCredentials, None, "password"),
                (C::NotAuthorized, FailureKind::NotAuthorized, None, "camera"),
            ] {
                let error = ConnectionError::ConnectionRefused(code);
                let Ended { failure, refusal: found, .. } =
                    connection_error(&error, &settings(protocol), false);
                assert_eq!((failure.kind, found), (kind, refusal), "{code:?}");
                assert!(failure.message.contains(words), "{code:?}: {}", failure.message);
            }
        }
    }

    #[test]
    fn with_protocol_3_1_1_no_failure_message_mentions_mqtt_5() {
        let state = |error| ConnectionError::MqttState(error);
        for error in [
            ConnectionError::NetworkTimeout,
            ConnectionError::FlushTimeout,
            ConnectionError::DisconnectTimeout,
            ConnectionError::RequestsDone,
            ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion),
            ConnectionError::NotConnAck(Box::new(mqttbytes::v4::Packet::PingResp)),
            state(StateError::ConnectionAborted),
            state(StateError::AwaitPingResp),
            state(StateError::InvalidState),
            state(StateError::Io(io::ErrorKind::ConnectionReset.into())),
        ] {
            for accepted in [false, true] {
                let message = connection_error(&error, &settings(Protocol::V311), accepted).failure.message;
                assert!(!message.contains("MQTT 5"), "{message}");
            }
        }
    }

    #[test]
    fn a_connection_closed_during_the_login_may_be_a_version_refusal_but_one_closed_later_is_not() {
        for (accepted, refusal) in [(false, Some(Refusal::Closed)), (true, None)] {
            for error in [
                StateError::ConnectionAborted,
                StateError::Io(io::ErrorKind::ConnectionReset.into()),
                StateError::Deserialization(mqttbytes::Error::Io(io::ErrorKind::ConnectionReset.into())),
            ] {
                let error = ConnectionError::MqttState(error);
                let ended = connection_error(&error, &settings(Protocol::Auto), accepted);
                assert_eq!((ended.failure.kind, ended.refusal), (FailureKind::Closed, refusal));
            }
        }
    }

    #[test]
    fn a_broker_that_closes_the_connection_is_distinguished_from_a_network_failure() {
        let closed =
            |error| connection_error(&ConnectionError::MqttState(error), &settings(Protocol::Auto), true).by;
        assert_eq!(closed(StateError::ConnectionAborted), By::BrokerSilently);
        assert_eq!(closed(StateError::Io(io::ErrorKind::ConnectionReset.into())), By::Network);
    }

    #[test]
    fn a_failure_found_while_dialing_passes_through_the_client() {
        let failure = Failure::new(FailureKind::NameNotFound, "no such name");
        let error = ConnectionError::Io(io::Error::other(failure.clone()));
        assert_eq!(connection_error(&error, &settings(Protocol::Auto), false), failure.into());
    }
}
