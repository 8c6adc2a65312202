//! Describes why a connection failed or ended, with advice that an administrator can act on. Performs no I/O.

use std::{fmt, io};

use crate::domain::{
    delivery::DeadReason,
    mqtt_version::Version,
    poison::{End, Ending, MessageRef},
    probe_report::Stage,
    settings::{MqttSettings, Protocol},
    status::{Failure, FailureKind},
};

/// Explains an I/O error of the operating system.
pub fn io_error(error: &io::Error, broker: &str) -> Failure {
    use io::ErrorKind as E;
    let (kind, message) = match error.kind() {
        E::ConnectionRefused => (
            FailureKind::Refused,
            format!("Connection refused at {broker}. Is the broker running, and is the port correct?"),
        ),
        E::TimedOut => (
            FailureKind::Timeout,
            format!(
                "{broker} does not respond. Is the address correct? Is a firewall blocking the connection?"
            ),
        ),
        E::HostUnreachable | E::NetworkUnreachable | E::NetworkDown | E::AddrNotAvailable => (
            FailureKind::Unreachable,
            format!("{broker} is unreachable: {error}. Check this machine's network and the address."),
        ),
        E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe | E::UnexpectedEof | E::NotConnected => {
            (FailureKind::Closed, format!("The connection to {broker} was lost ({error})."))
        }
        _ => (FailureKind::Closed, format!("The connection to {broker} failed: {error}.")),
    };
    Failure::new(kind, message)
}

/// Explains that there was no response in this stage within the timeout.
pub fn timed_out(broker: &str, seconds: u16, stage: Option<Stage>) -> Failure {
    let message = match stage {
        Some(Stage::Tls) => format!(
            "{broker} accepts connections but did not answer the TLS handshake within {seconds} s. Is this \
             the TLS port (usually 8883, or 443 for WebSockets)?"
        ),
        Some(Stage::Login) => format!(
            "{broker} accepts connections but did not answer the MQTT login within {seconds} s. Is it an \
             MQTT broker? Does the port expect TLS or WebSockets?"
        ),
        Some(
            Stage::Publish
            | Stage::Loopback
            | Stage::Availability
            | Stage::Discovery
            | Stage::Events
            | Stage::States,
        ) => format!(
            "{broker} accepted the MQTT login but did not complete the test within {seconds} s. Is the \
             broker overloaded?"
        ),
        Some(Stage::Resolve | Stage::Connect) | None => format!(
            "{broker} did not respond within {seconds} s. Is the address correct? Is a firewall blocking \
             the connection?"
        ),
    };
    Failure::new(FailureKind::Timeout, message)
}

/// Explains that the broker's name cannot be resolved.
pub fn name_not_found(host: &str, error: &dyn fmt::Display) -> Failure {
    let message = if host.to_ascii_lowercase().ends_with(".local") {
        format!(
            "Cannot resolve the name {host:?} ({error}). Check its spelling, or use the IP address: names in .local \
             need multicast DNS on this machine (on Debian, the package libnss-mdns)."
        )
    } else {
        format!("Cannot resolve the name {host:?} ({error}). Check its spelling and the name server.")
    };
    Failure::new(FailureKind::NameNotFound, message)
}

/// Explains that the broker is connected but has acknowledged nothing for too long.
pub fn stalled(broker: &str, seconds: u16) -> Failure {
    Failure::new(
        FailureKind::Stalled,
        format!("{broker} is connected but has acknowledged nothing for {seconds} s. Reconnecting."),
    )
}

/// Explains that the broker acknowledges other messages but not the one on this topic.
pub fn ignored(broker: &str, topic: &str, seconds: u64) -> Failure {
    Failure::new(
        FailureKind::Stalled,
        format!(
            "{broker} has not acknowledged a message on {topic} for {seconds} s, although it acknowledged \
             others. Reconnecting."
        ),
    )
}

/// Explains that a large message delays events for too long.
pub fn too_slow(broker: &str, topic: &str, bytes: usize, seconds: u64) -> Failure {
    Failure::new(
        FailureKind::Stalled,
        format!(
            "The connection to {broker} is too slow for a message of {} KiB on {topic}: events have waited for \
             {seconds} s. Reconnecting without it.",
            bytes / 1024
        ),
    )
}

/// Adds to the text of a failure which message the broker refused or did not answer, if that is known.
pub fn with_evidence(failure: Failure, ending: &Ending, broker: &str) -> Failure {
    match (&ending.end, ending.in_flight.as_slice()) {
        (End::AfterRefusal(MessageRef { topic, .. }, reason), _) => {
            let kind = match reason {
                DeadReason::NotAuthorized => FailureKind::NotAuthorized,
                _ => failure.kind,
            };
            let message = format!(
                "{broker} refused a message on {topic} ({}) and closed the connection. Let this user publish \
                 to this topic.",
                reason.as_str()
            );
            Failure::new(kind, message)
        }
        (End::ByBroker, [MessageRef { topic, .. }]) => {
            let message = format!("{} The only unanswered message was on {topic}.", failure.message);
            Failure::new(failure.kind, message)
        }
        _ => failure,
    }
}

/// Explains that the connection actor panicked.
pub fn panicked() -> Failure {
    Failure::new(
        FailureKind::Panicked,
        "A bug in this program ended the connection; see the log. Reconnecting.",
    )
}

/// Explains that the broker closed the connection instead of answering the login.
pub fn closed_at_login(settings: &MqttSettings) -> Failure {
    let broker = settings.broker();
    let question = match settings.protocol {
        Protocol::Auto => "Is it restarting, or does the port expect TLS or WebSockets?",
        Protocol::V5 => {
            "Does it support MQTT 5 (protocol \"auto\" detects the version)? Does the port expect TLS or \
             WebSockets?"
        }
        Protocol::V311 => {
            "Does it support MQTT 3.1.1 (protocol \"auto\" detects the version)? Does the port expect \
             TLS or WebSockets?"
        }
    };
    Failure::new(
        FailureKind::Closed,
        format!("{broker} closed the connection during the MQTT login without giving a reason. {question}"),
    )
}

/// Explains that the broker closed the connection after the login without giving a reason.
pub fn closed(broker: &str) -> Failure {
    Failure::new(FailureKind::Closed, format!("{broker} closed the connection. Was the broker restarted?"))
}

/// Explains that the broker did not answer a ping.
pub fn ping_unanswered(broker: &str) -> Failure {
    Failure::new(
        FailureKind::Stalled,
        format!("{broker} is connected but does not answer pings. Reconnecting."),
    )
}

/// Explains that the broker did not acknowledge everything before a clean disconnect.
pub fn disconnect_timed_out(broker: &str) -> Failure {
    Failure::new(
        FailureKind::Closed,
        format!("{broker} did not acknowledge everything before the connection was closed."),
    )
}

/// Describes a client error that has no better explanation.
pub fn failed(broker: &str, error: &dyn fmt::Display) -> Failure {
    Failure::new(FailureKind::Closed, format!("The connection to {broker} failed: {error}."))
}

/// Explains that the server's response violates MQTT.
pub fn not_mqtt(broker: &str, version: Version, error: &dyn fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Protocol,
        format!(
            "{broker} did not respond like an MQTT {version} broker ({error}). Is this the port of an MQTT \
             broker? Does it expect TLS?"
        ),
    )
}

/// Explains that the broker does not support this MQTT version.
pub fn version_refused(settings: &MqttSettings, version: Version) -> Failure {
    let broker = settings.broker();
    let message = match settings.protocol {
        Protocol::Auto => {
            format!("{broker} supports neither MQTT 5 nor MQTT 3.1.1. It may be too old; update it.")
        }
        Protocol::V5 | Protocol::V311 => format!(
            "{broker} does not support MQTT {version}, the configured version. Set protocol to \"auto\" to \
             detect the version."
        ),
    };
    Failure::new(FailureKind::Protocol, message)
}

/// Explains that the broker rejected the user name or password.
pub fn bad_credentials(settings: &MqttSettings) -> Failure {
    let (broker, user) = (settings.broker(), settings.username.as_deref().unwrap_or(""));
    Failure::new(
        FailureKind::BadCredentials,
        format!("{broker} does not accept the user name {user:?} with this password. Check both."),
    )
}

/// Explains that the broker does not allow this login.
pub fn login_refused(settings: &MqttSettings) -> Failure {
    let broker = settings.broker();
    let message = match settings.username.as_deref().unwrap_or("") {
        "" => {
            format!("{broker} refused the login without a user name and password. Set username and password.")
        }
        user => format!(
            "{broker} refused the login as {user:?}: the user name or password is incorrect, or the user is \
             not allowed to connect."
        ),
    };
    Failure::new(FailureKind::NotAuthorized, message)
}

/// Explains that the broker does not accept the client id.
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

/// Explains that the broker is not accepting connections at the moment.
pub fn unavailable(broker: &str, reason: &str) -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!("{broker} is not accepting connections at the moment ({reason})."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_needs_multicast_dns_gets_a_cure_of_its_own() {
        let about = |host: &str| name_not_found(host, &"unknown").message;
        assert!(about("nas.lan").ends_with("Check its spelling and the name server."));
        assert!(about("HomeAssistant.local").contains("multicast DNS"));
    }

    #[test]
    fn each_io_error_maps_to_a_failure_kind() {
        for (error, kind) in [
            (io::ErrorKind::ConnectionRefused, FailureKind::Refused),
            (io::ErrorKind::TimedOut, FailureKind::Timeout),
            (io::ErrorKind::HostUnreachable, FailureKind::Unreachable),
            (io::ErrorKind::ConnectionReset, FailureKind::Closed),
            (io::ErrorKind::Other, FailureKind::Closed),
        ] {
            assert_eq!(io_error(&error.into(), "b:1883").kind, kind);
        }
    }
}
