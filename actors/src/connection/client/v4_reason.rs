//! What MQTT 3.1.1's return codes (section 3.2.2.3) and the client's errors mean to us. Pure.

use rumqttc_v4::{
    ConnectionError, StateError,
    mqttbytes::{self, v4::ConnectReturnCode},
};

use super::Ended;
use crate::{
    connection::reason,
    domain::{mqtt_version::Version, settings::MqttSettings},
};

/// Why the client's event loop ended. `accepted`: after the login was.
pub fn of_connection_error(error: &ConnectionError, settings: &MqttSettings, accepted: bool) -> Ended {
    let broker = settings.broker();
    match error {
        ConnectionError::NetworkTimeout => Ended::login_timed_out(settings),
        ConnectionError::FlushTimeout => reason::stalled(&broker, settings.ack_timeout_seconds).into(),
        ConnectionError::Io(error) => Ended::of_io(error, settings, accepted),
        ConnectionError::MqttState(error) => of_state_error(error, settings, accepted),
        ConnectionError::ConnectionRefused(code) => of_connack(*code, settings),
        ConnectionError::NotConnAck(_) => reason::not_mqtt(&broker, Version::V311, &error).into(),
        ConnectionError::DisconnectTimeout => reason::not_drained(&broker).into(),
        error => reason::failed(&broker, error).into(),
    }
}

fn of_state_error(error: &StateError, settings: &MqttSettings, accepted: bool) -> Ended {
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            Ended::of_io(error, settings, accepted)
        }
        StateError::ConnectionAborted => Ended::closed(settings, accepted),
        StateError::AwaitPingResp => reason::ping_unanswered(&settings.broker()).into(),
        error => reason::not_mqtt(&settings.broker(), Version::V311, error).into(),
    }
}

fn of_connack(code: ConnectReturnCode, settings: &MqttSettings) -> Ended {
    use ConnectReturnCode as C;
    match code {
        C::RefusedProtocolVersion => Ended::version_refused(settings, Version::V311),
        C::BadClientId => reason::client_id_refused(settings).into(),
        C::BadUserNamePassword => reason::bad_credentials(settings).into(),
        C::NotAuthorized => reason::login_not_permitted(settings).into(),
        C::ServiceUnavailable | C::Success => {
            reason::unavailable(&settings.broker(), &format!("{code:?}")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
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
    fn each_return_code_has_its_kind_and_only_the_first_is_about_the_version() {
        use ConnectReturnCode as C;
        for protocol in [Protocol::Auto, Protocol::V311] {
            for (code, kind, refusal, words) in [
                (C::RefusedProtocolVersion, FailureKind::Protocol, Some(Refusal::Said), "3.1.1"),
                (C::BadClientId, FailureKind::Protocol, None, "client_id"),
                (C::ServiceUnavailable, FailureKind::Refused, None, "at the moment"),
                (C::BadUserNamePassword, FailureKind::BadCredentials, None, "password"),
                (C::NotAuthorized, FailureKind::NotAuthorized, None, "camera"),
            ] {
                let error = ConnectionError::ConnectionRefused(code);
                let Ended { failure, refusal: told, .. } =
                    of_connection_error(&error, &settings(protocol), false);
                assert_eq!((failure.kind, told), (kind, refusal), "{code:?}");
                assert!(failure.message.contains(words), "{code:?}: {}", failure.message);
            }
        }
    }

    #[test]
    fn nobody_who_asked_for_3_1_1_is_told_of_mqtt_5() {
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
                let message =
                    of_connection_error(&error, &settings(Protocol::V311), accepted).failure.message;
                assert!(!message.contains("MQTT 5"), "{message}");
            }
        }
    }

    #[test]
    fn a_connection_closed_during_the_login_may_be_a_refusal_and_one_closed_later_is_none() {
        for (accepted, refusal) in [(false, Some(Refusal::Closed)), (true, None)] {
            for error in [
                StateError::ConnectionAborted,
                StateError::Io(io::ErrorKind::ConnectionReset.into()),
                StateError::Deserialization(mqttbytes::Error::Io(io::ErrorKind::ConnectionReset.into())),
            ] {
                let error = ConnectionError::MqttState(error);
                let ended = of_connection_error(&error, &settings(Protocol::Auto), accepted);
                assert_eq!((ended.failure.kind, ended.refusal), (FailureKind::Closed, refusal));
            }
        }
    }

    #[test]
    fn a_broker_that_closes_is_told_apart_from_a_network_that_fails() {
        let closed = |error| {
            of_connection_error(&ConnectionError::MqttState(error), &settings(Protocol::Auto), true).closed
        };
        assert!(closed(StateError::ConnectionAborted));
        assert!(!closed(StateError::Io(io::ErrorKind::ConnectionReset.into())));
    }

    #[test]
    fn the_diallers_failure_survives_the_client() {
        let dialled = Failure::new(FailureKind::NameNotFound, "no such name");
        let error = ConnectionError::Io(io::Error::other(dialled.clone()));
        assert_eq!(of_connection_error(&error, &settings(Protocol::Auto), false), dialled.into());
    }
}
