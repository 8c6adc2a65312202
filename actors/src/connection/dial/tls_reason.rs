//! What TLS's errors mean to the administrator. Pure.

use std::{io, sync::Arc};

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::{
    first_bytes::PeerKind,
    tls::{self, TlsObservations},
};
use crate::{
    connection::reason,
    domain::{
        certificate::{self, Certificate},
        clock,
        status::{Failure, FailureKind},
    },
};

/// What we came with, and what the broker has shown.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// `host:port`.
    pub broker: String,
    /// The name that the certificate must have.
    pub name: String,
    /// Whether a WebSocket is to follow.
    pub is_websocket: bool,
    /// Whether `ca_certificate` says whom to trust.
    pub ca_given: bool,
    /// Our certificate.
    pub ours: Option<Certificate>,
    /// What the broker has shown and asked for.
    pub witness: Arc<TlsObservations>,
}

fn failure(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Tls, message)
}

/// Why the handshake failed. `first`: what the server said first, if anything.
pub fn of_handshake(error: &io::Error, first: &[u8], it: &Handshake) -> Failure {
    let broker = &it.broker;
    if let Some(failure) = foreign(first, it) {
        return failure;
    }
    match (tls::inside(error), error.kind()) {
        (Some(error), _) => of_error(error, it),
        // Its alert may be lost in the reset that follows.
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            if it.witness.was_asked() =>
        {
            not_accepted(None, it)
        }
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            if first.is_empty() =>
        {
            failure(format!(
                "{broker} closed the connection instead of answering TLS: this port seems to take none. With TLS it is \
                 usually 8883 (WebSockets: 443); check broker_port and use_tls."
            ))
        }
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            failure(format!("{broker} closed the connection during the TLS handshake, without a reason."))
        }
        (None, _) => reason::of_io(error, broker),
    }
}

/// An answer to TLS that is none.
fn foreign(first: &[u8], it: &Handshake) -> Option<Failure> {
    let broker = &it.broker;
    match PeerKind::of(first) {
        PeerKind::Tls => None,
        PeerKind::Other if first.is_empty() => None,
        PeerKind::Http { .. } if it.is_websocket => Some(failure(format!(
            "{broker} answers without TLS. Set use_tls to false, or take the port with TLS (usually 443)."
        ))),
        PeerKind::Http { .. } => Some(Failure::new(
            FailureKind::Protocol,
            format!(
                "An HTTP server without TLS answers at {broker}: this is not the port of a broker with TLS (usually 8883). \
                 Check broker_port."
            ),
        )),
        PeerKind::Text(words) => Some(Failure::new(
            FailureKind::Protocol,
            format!("{broker} answers {words:?}: that is no MQTT broker. Check broker_port."),
        )),
        PeerKind::Other => Some(failure(format!(
            "{broker} answers without TLS. Set use_tls to false, or take the port with TLS (usually 8883)."
        ))),
    }
}

/// Why TLS failed, in the handshake or later.
pub fn of_error(error: &Error, it: &Handshake) -> Failure {
    let broker = &it.broker;
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, it),
        Error::AlertReceived(alert) => of_alert(*alert, it),
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => too_old(broker),
        Error::InvalidMessage(_) => failure(format!("What {broker} answers is not TLS ({error}).")),
        error => failure(format!("TLS with {broker} failed: {error}.")),
    }
}

fn too_old(broker: &str) -> Failure {
    failure(format!(
        "{broker} speaks neither TLS 1.2 nor 1.3; older versions are not safe and not used. Update the broker, or permit \
         TLS 1.2 there."
    ))
}

fn of_alert(alert: AlertDescription, it: &Handshake) -> Failure {
    use AlertDescription as A;
    let broker = &it.broker;
    let is_about_us = it.witness.was_asked() || alert == A::CertificateRequired;
    match alert {
        A::ProtocolVersion => too_old(broker),
        A::UnrecognisedName => failure(format!(
            "{broker} does not serve the name {:?}. Connect by the broker's own name, or set tls_server_name to it.",
            it.name
        )),
        A::CertificateRequired
        | A::HandshakeFailure
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied
        | A::DecryptError
            if is_about_us =>
        {
            not_accepted(Some(alert), it)
        }
        A::HandshakeFailure | A::InsufficientSecurity => failure(format!(
            "{broker} and this program have no cipher in common. The broker must permit the usual ones of TLS 1.2 or 1.3."
        )),
        alert => failure(format!("{broker} ended TLS with the alert {alert:?}.")),
    }
}

/// The broker asked for our certificate, and was not content. `None`: it did not say why.
pub fn not_accepted(alert: Option<AlertDescription>, it: &Handshake) -> Failure {
    use AlertDescription as A;
    let broker = &it.broker;
    let Some(ours) = &it.ours else {
        return failure(format!(
            "{broker} wants a client certificate. Set client_certificate and client_key."
        ));
    };
    let why = match alert {
        Some(A::UnknownCA) => format!("it does not know the authority {}", ours.issuer),
        Some(A::CertificateExpired) => format!("it has expired, on {}", certificate::date(ours.not_after)),
        _ if clock::now() > ours.not_after => {
            format!("it has expired, on {}", certificate::date(ours.not_after))
        }
        Some(A::CertificateRevoked) => "it was revoked".to_owned(),
        Some(alert) => {
            format!("alert {alert:?}; was it issued by the authority {} that the broker knows", ours.issuer)
        }
        None => format!("was it issued by the authority {} that the broker knows", ours.issuer),
    };
    let end = if why.contains("was it issued") { "?" } else { "." };
    failure(format!("{broker} does not accept our client certificate ({}): {why}{end}", ours.subject))
}

fn of_certificate(error: &CertificateError, it: &Handshake) -> Failure {
    use CertificateError as E;
    let broker = &it.broker;
    let shown = it.witness.certificate();
    let subject = shown.as_ref().map_or("", |certificate| certificate.subject.as_str());
    let whose = if subject.is_empty() {
        format!("The certificate of {broker}")
    } else {
        format!("The certificate of {broker} ({subject})")
    };
    let day = |at: Option<clock::Timestamp>| at.map(certificate::date).unwrap_or_default();
    let today = certificate::date(clock::now());
    failure(match error {
        E::UnknownIssuer | E::BadSignature => unknown_issuer(&whose, shown.as_ref(), it.ca_given),
        E::Expired | E::ExpiredContext { .. } => {
            let end = day(shown.map(|certificate| certificate.not_after));
            format!("{whose} expired on {end}; today is {today} here. Renew it on the broker.")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            let begin = day(shown.map(|certificate| certificate.not_before));
            format!(
                "{whose} is valid only from {begin}; today is {today} here. Is this machine's clock right?"
            )
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            wrong_name(&whose, shown.as_ref().map_or(&[], |certificate| &certificate.names), &it.name)
        }
        E::Revoked => format!("{whose} was revoked. The broker needs a new one."),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            format!("{whose} is not one for servers. The broker needs one with the purpose serverAuth.")
        }
        other => match other.to_string() {
            text if text.contains("CaUsedAsEndEntity") => {
                if shown.as_ref().is_some_and(Certificate::is_self_signed) {
                    unknown_issuer(&whose, shown.as_ref(), it.ca_given)
                } else {
                    format!("{whose} is an authority's, not a server's. The broker needs one of its own.")
                }
            }
            text if text.contains("UnsupportedCertVersion") => format!(
                "{whose} is of an old form (X.509 version 1) that names no servers. Make it anew with the broker's name as \
                 subjectAltName (openssl x509 -req … -extfile)."
            ),
            text => format!("{whose} cannot be verified: {text}."),
        },
    })
}

fn unknown_issuer(whose: &str, shown: Option<&Certificate>, ca_given: bool) -> String {
    match shown {
        Some(shown) if shown.is_self_signed() && ca_given => {
            format!(
                "{whose} is self-signed, and is not the one in ca_certificate. Give the broker's certificate there."
            )
        }
        Some(shown) if shown.is_self_signed() => {
            format!(
                "{whose} is self-signed, so nobody vouches for it. If it is the right one, give it as ca_certificate."
            )
        }
        Some(shown) if ca_given => format!(
            "{whose} was issued by {}, and not by an authority in ca_certificate. Give the certificate of the authority that \
             issued it.",
            shown.issuer
        ),
        Some(shown) => format!(
            "{whose} was issued by {}, which this system does not know. Give that authority's certificate as ca_certificate.",
            shown.issuer
        ),
        None => format!(
            "{whose} was issued by an unknown authority. Give that authority's certificate as ca_certificate."
        ),
    }
}

fn wrong_name(whose: &str, names: &[String], expected: &str) -> String {
    // A long list helps nobody.
    const TOLD: usize = 5;
    let told = names.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > TOLD { " …" } else { "" };
    match names {
        [] => format!(
            "{whose} names no server at all (subjectAltName; the common name does not count), so not {expected} either. Make \
             it anew with that name."
        ),
        _ => format!(
            "{whose} is for {told}{more}, not for {expected}. Connect by a name that it has, or set tls_server_name to one."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Handshake {
        Handshake {
            broker: "broker.lan:8883".to_owned(),
            name: "broker.lan".to_owned(),
            is_websocket: false,
            ca_given: false,
            ours: None,
            witness: Arc::default(),
        }
    }

    fn eof() -> io::Error {
        io::ErrorKind::UnexpectedEof.into()
    }

    #[test]
    fn what_answers_without_tls_is_told_by_its_first_bytes() {
        for (first, kind, words) in [
            (b"HTTP/1.1 400 Bad Request".as_slice(), FailureKind::Protocol, "An HTTP server"),
            (b"SSH-2.0-OpenSSH", FailureKind::Protocol, "\"SSH-2.0-OpenSSH\""),
            (&[0x20, 2, 0, 1], FailureKind::Tls, "without TLS"),
            (&[], FailureKind::Tls, "take none"),
            (&[0x16, 3, 3], FailureKind::Tls, "without a reason"),
        ] {
            let failure = of_handshake(&eof(), first, &handshake());
            assert_eq!(failure.kind, kind);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn alerts_say_what_to_do() {
        for (alert, words) in [
            (AlertDescription::CertificateRequired, "wants a client certificate"),
            (AlertDescription::ProtocolVersion, "neither TLS 1.2 nor 1.3"),
            (AlertDescription::HandshakeFailure, "no cipher in common"),
            (AlertDescription::UnrecognisedName, "tls_server_name"),
            (AlertDescription::InternalError, "InternalError"),
        ] {
            let failure = of_error(&Error::AlertReceived(alert), &handshake());
            assert_eq!(failure.kind, FailureKind::Tls);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn an_old_server_is_too_old() {
        let error = Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig);
        assert!(of_error(&error, &handshake()).message.contains("Update the broker"));
    }
}
