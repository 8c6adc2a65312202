//! Why a connection ended, in words that an administrator can act on. Pure.

use std::io;

use crate::status::{Failure, FailureKind};

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
             and does the port expect TLS?"
        ),
        _ => format!(
            "{broker} did not answer within {seconds} s. Is the address right, and does a firewall let it through?"
        ),
    };
    Failure::new(FailureKind::Timeout, message)
}

/// The name has no address.
pub fn name_not_found(host: &str, error: &dyn std::fmt::Display) -> Failure {
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
pub fn closed_at_login(broker: &str) -> Failure {
    Failure::new(
        FailureKind::Closed,
        format!(
            "{broker} closed the connection during the MQTT login, without a reason. Does it speak MQTT 5, and does \
             the port expect TLS or WebSockets?"
        ),
    )
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
