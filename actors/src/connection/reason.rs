//! Why a connection ended, in words that an administrator can act on. Pure.

use std::{fmt, io};

use crate::domain::{
    mqtt_version::Version,
    settings::{MqttSettings, Protocol},
    status::{Failure, FailureKind},
};

/// How an error of the operating system looks to the administrator.
pub fn of_io(error: &io::Error, broker: &str) -> Failure {
    use io::ErrorKind as E;
    let (kind, message) = match error.kind() {
        E::ConnectionRefused => (
            FailureKind::Refused,
            format!("Nothing accepts connections at {broker}. Is the broker running, and is the port right?"),
        ),
        E::TimedOut => (
            FailureKind::Timeout,
            format!("{broker} does not answer. Is the address right, and does a firewall let it through?"),
        ),
        E::HostUnreachable | E::NetworkUnreachable | E::NetworkDown | E::AddrNotAvailable => (
            FailureKind::Unreachable,
            format!("There is no way to {broker}: {error}. Check this machine's network and the address."),
        ),
        E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe | E::UnexpectedEof | E::NotConnected => {
            (FailureKind::Closed, format!("The connection to {broker} was lost ({error})."))
        }
        _ => (FailureKind::Closed, format!("The connection to {broker} failed: {error}.")),
    };
    Failure::new(kind, message)
}

/// No answer within the connect timeout, in this stage of the way.
pub fn timed_out(broker: &str, seconds: u16, stage: Option<&str>) -> Failure {
    let message = match stage {
        Some("tls") => format!(
            "{broker} accepts connections, but did not answer the TLS handshake within {seconds} s. Is it the port with TLS \
             (usually 8883; WebSockets: 443)?"
        ),
        Some("login" | "publish" | "loopback") => format!(
            "{broker} accepts connections, but did not answer the MQTT login within {seconds} s. Is it an MQTT broker, \
             and does the port expect TLS or WebSockets?"
        ),
        _ => format!(
            "{broker} did not answer within {seconds} s. Is the address right, and does a firewall let it through?"
        ),
    };
    Failure::new(FailureKind::Timeout, message)
}

/// The name has no address.
pub fn name_not_found(host: &str, error: &dyn fmt::Display) -> Failure {
    Failure::new(
        FailureKind::NameNotFound,
        format!("The name {host:?} has no address ({error}). Check the spelling and the name server."),
    )
}

/// Connected, but nothing was answered for too long.
pub fn stalled(broker: &str, seconds: u16) -> Failure {
    Failure::new(
        FailureKind::Stalled,
        format!("{broker} is connected, but has acknowledged nothing for {seconds} s. Connecting anew."),
    )
}

/// The connection's code panicked.
pub fn panicked() -> Failure {
    Failure::new(
        FailureKind::Panicked,
        "A fault in this program ended the connection; the log tells which. Connecting anew.",
    )
}

/// The broker closed the connection before it answered the login.
pub fn closed_at_login(settings: &MqttSettings) -> Failure {
    let broker = settings.broker();
    let question = match settings.protocol {
        Protocol::Auto => "Is it restarting, and does the port expect TLS or WebSockets?",
        Protocol::V5 => {
            "Does it speak MQTT 5 (with protocol \"auto\" that is found out), and does the port expect TLS or WebSockets?"
        }
        Protocol::V311 => {
            "Does it speak MQTT 3.1.1 (with protocol \"auto\" that is found out), and does the port expect TLS or WebSockets?"
        }
    };
    Failure::new(
        FailureKind::Closed,
        format!("{broker} closed the connection during the MQTT login, without a reason. {question}"),
    )
}

/// The broker closed the connection after the login, without a reason.
pub fn closed(broker: &str) -> Failure {
    Failure::new(FailureKind::Closed, format!("{broker} closed the connection. Was the broker restarted?"))
}

/// What looks like another client with the same client id, where the broker does not say so.
pub fn probably_taken_over(settings: &MqttSettings) -> Failure {
    let (broker, client_id) = (settings.broker(), &settings.client_id);
    Failure::new(
        FailureKind::TakenOver,
        format!(
            "{broker} accepts each login and closes the connection soon after: probably another client with the same \
             client id {client_id:?} connects in turn. Give each client its own client_id. If there is no other, the \
             broker's log tells why it closes; a message that is not permitted is a reason, too."
        ),
    )
}

/// A ping stayed unanswered.
pub fn ping_unanswered(broker: &str) -> Failure {
    Failure::new(
        FailureKind::Stalled,
        format!("{broker} is connected, but does not answer pings. Connecting anew."),
    )
}

/// A clean disconnect took too long.
pub fn not_drained(broker: &str) -> Failure {
    Failure::new(
        FailureKind::Closed,
        format!("{broker} did not acknowledge everything before the connection was closed."),
    )
}

/// An error of the client that has no better words.
pub fn failed(broker: &str, error: &dyn fmt::Display) -> Failure {
    Failure::new(FailureKind::Closed, format!("The connection to {broker} failed: {error}."))
}

/// What was answered is no MQTT, or not in its order.
pub fn not_mqtt(broker: &str, version: Version, error: &dyn fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Protocol,
        format!(
            "What {broker} answers is not the MQTT {version} that was expected ({error}). Is it an MQTT broker's port, \
             and does it expect TLS?"
        ),
    )
}

/// The broker said that it does not speak this version.
pub fn version_refused(settings: &MqttSettings, version: Version) -> Failure {
    let broker = settings.broker();
    let message = match settings.protocol {
        Protocol::Auto => {
            format!("{broker} speaks neither MQTT 5 nor MQTT 3.1.1. Is it a broker of the years before?")
        }
        Protocol::V5 | Protocol::V311 => format!(
            "{broker} does not speak MQTT {version} as it was asked to. Set protocol to \"auto\", and it is asked for \
             what it speaks."
        ),
    };
    Failure::new(FailureKind::Protocol, message)
}

/// The broker said that user name or password is wrong.
pub fn bad_credentials(settings: &MqttSettings) -> Failure {
    let (broker, user) = (settings.broker(), settings.username.as_deref().unwrap_or(""));
    Failure::new(
        FailureKind::BadCredentials,
        format!("{broker} does not accept the user name {user:?} with this password."),
    )
}

/// The broker said that this login is not permitted.
pub fn login_not_permitted(settings: &MqttSettings) -> Failure {
    let broker = settings.broker();
    let message = match settings.username.as_deref().unwrap_or("") {
        "" => format!("{broker} does not permit the login without a user name and password."),
        user => format!(
            "{broker} does not permit the login of {user:?}: the user name or password is wrong, or this user may not \
             connect."
        ),
    };
    Failure::new(FailureKind::NotAuthorized, message)
}

/// The broker said that it does not like the client id.
pub fn client_id_refused(settings: &MqttSettings) -> Failure {
    Failure::new(
        FailureKind::Protocol,
        format!(
            "{} does not accept the client id {:?}. Set another client_id.",
            settings.broker(),
            settings.client_id
        ),
    )
}

/// The broker said that it is not there for anybody now.
pub fn unavailable(broker: &str, said: &str) -> Failure {
    Failure::new(FailureKind::Refused, format!("{broker} refuses connections at the moment ({said})."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_the_kind_that_users_act_on() {
        for (error, kind) in [
            (io::ErrorKind::ConnectionRefused, FailureKind::Refused),
            (io::ErrorKind::TimedOut, FailureKind::Timeout),
            (io::ErrorKind::HostUnreachable, FailureKind::Unreachable),
            (io::ErrorKind::ConnectionReset, FailureKind::Closed),
            (io::ErrorKind::Other, FailureKind::Closed),
        ] {
            assert_eq!(of_io(&error.into(), "b:1883").kind, kind);
        }
    }
}
