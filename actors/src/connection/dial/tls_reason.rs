//! Explains TLS errors to the administrator. Performs no I/O.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::{
    first_bytes::PeerKind,
    handshake::{Handshake, tls_error},
};
use crate::{
    connection::reason,
    domain::{
        certificate::{self, Certificate},
        clock,
        status::{Failure, FailureKind},
    },
};

fn failure(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Tls, message)
}

/// Explains why the handshake failed. `first` contains the first bytes from the server, if any.
pub fn explain_handshake(error: &io::Error, first: &[u8], handshake: &Handshake) -> Failure {
    let broker = &handshake.broker;
    if let Some(failure) = not_tls(first, handshake) {
        return failure;
    }
    match (tls_error(error), error.kind()) {
        (Some(error), _) => explain(error, handshake),
        // The broker's alert may be lost if it resets the connection.
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            if handshake.observations.client_certificate_requested() =>
        {
            client_certificate_rejected(None, handshake)
        }
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            if first.is_empty() =>
        {
            failure(format!(
                "{broker} closed the connection instead of answering the TLS handshake: this port does not \
                 seem to support TLS. The TLS port is usually 8883 (443 for WebSockets). Check \
                 broker_port and use_tls."
            ))
        }
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            failure(format!(
                "{broker} closed the connection during the TLS handshake without giving a reason."
            ))
        }
        (None, _) => reason::io_error(error, broker),
    }
}

/// Explains the first bytes if they are not TLS.
fn not_tls(first: &[u8], handshake: &Handshake) -> Option<Failure> {
    let broker = &handshake.broker;
    match PeerKind::from_bytes(first) {
        PeerKind::Tls => None,
        PeerKind::Other if first.is_empty() => None,
        PeerKind::Http { .. } if handshake.is_websocket => Some(failure(format!(
            "{broker} responds without TLS. Set use_tls to false, or use the TLS port (usually 443)."
        ))),
        PeerKind::Http { .. } => Some(Failure::new(
            FailureKind::Protocol,
            format!(
                "{broker} is an HTTP server without TLS, not an MQTT broker with TLS (usually on port 8883). \
                 Check broker_port."
            ),
        )),
        PeerKind::Text(greeting) => Some(Failure::new(
            FailureKind::Protocol,
            format!("{broker} is not an MQTT broker: it responds with {greeting:?}. Check broker_port."),
        )),
        PeerKind::Other => Some(failure(format!(
            "{broker} responds without TLS. Set use_tls to false, or use the TLS port (usually 8883)."
        ))),
    }
}

/// Explains why TLS failed, during the handshake or later.
pub fn explain(error: &Error, handshake: &Handshake) -> Failure {
    let broker = &handshake.broker;
    match error {
        Error::InvalidCertificate(error) => certificate_failure(error, handshake),
        Error::AlertReceived(alert) => alert_failure(*alert, handshake),
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => too_old(broker),
        Error::InvalidMessage(_) => failure(format!("{broker} did not respond with TLS ({error}).")),
        error => failure(format!("TLS with {broker} failed: {error}.")),
    }
}

fn too_old(broker: &str) -> Failure {
    failure(format!(
        "{broker} supports neither TLS 1.2 nor 1.3. Older versions are insecure and are not used. Update the \
         broker, or enable TLS 1.2 there."
    ))
}

fn alert_failure(alert: AlertDescription, handshake: &Handshake) -> Failure {
    use AlertDescription as A;
    let broker = &handshake.broker;
    let may_be_about_client_certificate =
        handshake.observations.client_certificate_requested() || alert == A::CertificateRequired;
    match alert {
        A::ProtocolVersion => too_old(broker),
        A::UnrecognisedName => failure(format!(
            "{broker} does not recognize the name {:?}. Connect using the name in the broker's certificate, or \
             set tls_server_name to it.",
            handshake.name
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
            if may_be_about_client_certificate =>
        {
            client_certificate_rejected(Some(alert), handshake)
        }
        A::HandshakeFailure | A::InsufficientSecurity => failure(format!(
            "{broker} and liveobject have no cipher suite in common. Enable the standard ones of TLS 1.2 or \
             1.3 on the broker."
        )),
        alert => failure(format!("{broker} ended the TLS connection with the alert {alert:?}.")),
    }
}

/// Explains that the broker requires a client certificate and rejected ours, or that none is configured.
/// `alert` is the broker's reason, if it reported one.
pub fn client_certificate_rejected(alert: Option<AlertDescription>, handshake: &Handshake) -> Failure {
    use AlertDescription as A;
    let broker = &handshake.broker;
    let Some(ours) = &handshake.client_certificate else {
        return failure(format!(
            "{broker} requires a client certificate. Set client_certificate and client_key."
        ));
    };
    let expired = || format!("it expired on {}.", certificate::date(ours.not_after));
    let reason = match alert {
        Some(A::UnknownCA) => format!("it does not trust the issuer {}.", ours.issuer),
        Some(A::CertificateExpired) => expired(),
        _ if clock::now() > ours.not_after => expired(),
        Some(A::CertificateRevoked) => "it was revoked.".to_owned(),
        Some(alert) => format!("alert {alert:?}. Does the broker trust the issuer {}?", ours.issuer),
        None => format!("it did not report a reason. Does it trust the issuer {}?", ours.issuer),
    };
    failure(format!("{broker} does not accept our client certificate ({}): {reason}", ours.subject))
}

fn certificate_failure(error: &CertificateError, handshake: &Handshake) -> Failure {
    use CertificateError as E;
    let broker = &handshake.broker;
    let presented = handshake.observations.certificate();
    let subject = presented.as_ref().map_or("", |certificate| certificate.subject.as_str());
    let whose = if subject.is_empty() {
        format!("The certificate of {broker}")
    } else {
        format!("The certificate of {broker} ({subject})")
    };
    let date = |time: Option<clock::Timestamp>| time.map(certificate::date).unwrap_or_default();
    let today = certificate::date(clock::now());
    failure(match error {
        E::UnknownIssuer | E::BadSignature => {
            unknown_issuer(&whose, presented.as_ref(), handshake.has_ca_certificate)
        }
        E::Expired | E::ExpiredContext { .. } => {
            let end = date(presented.map(|certificate| certificate.not_after));
            format!("{whose} expired on {end} (today is {today} on this machine). Renew it on the broker.")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            let begin = date(presented.map(|certificate| certificate.not_before));
            format!(
                "{whose} is not valid before {begin} (today is {today} on this machine). Is this machine's \
                 clock correct?"
            )
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            let may_be_given =
                handshake.has_ca_certificate && presented.as_ref().is_some_and(Certificate::is_self_signed);
            let names = presented.as_ref().map_or(&[][..], |certificate| &certificate.names);
            wrong_name(&whose, names, &handshake.name, may_be_given)
        }
        E::Revoked => format!("{whose} was revoked. Install a new one on the broker."),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            format!(
                "{whose} is not a server certificate. Install one with the extended key usage serverAuth on \
                 the broker."
            )
        }
        other => match other.to_string() {
            text if text.contains("CaUsedAsEndEntity") => {
                if presented.as_ref().is_some_and(Certificate::is_self_signed) {
                    unknown_issuer(&whose, presented.as_ref(), handshake.has_ca_certificate)
                } else {
                    format!(
                        "{whose} is the certificate of an authority, not of a server. Install a server \
                         certificate on the broker."
                    )
                }
            }
            text if text.contains("EndEntityUsedAsCa") => format!(
                "{whose} was issued with a certificate that is not that of an authority. Issue it with one that \
                 has basicConstraints CA:TRUE."
            ),
            text if text.contains("UnsupportedCertVersion") => format!(
                "{whose} has an old format (X.509 version 1) that cannot contain server names. Create a new \
                 one with the broker's name as subjectAltName (openssl x509 -req … -extfile)."
            ),
            text => format!("{whose} cannot be verified: {text}."),
        },
    })
}

fn unknown_issuer(whose: &str, presented: Option<&Certificate>, has_ca_certificate: bool) -> String {
    match presented {
        Some(presented) if presented.is_self_signed() && has_ca_certificate => {
            format!(
                "{whose} is self-signed and is not the one in ca_certificate. If you trust it, set it as \
                 ca_certificate."
            )
        }
        Some(presented) if presented.is_self_signed() => {
            format!(
                "{whose} is self-signed and therefore not trusted. If you trust it, set it as ca_certificate."
            )
        }
        Some(presented) if has_ca_certificate => format!(
            "{whose} was issued by {}, not by an authority in ca_certificate. Set the certificate of that \
             issuer as ca_certificate; it must be that of an authority (CA:TRUE).",
            presented.issuer
        ),
        Some(presented) => format!(
            "{whose} was issued by {}, which this system does not trust. If you trust it, set that \
             authority's certificate as ca_certificate.",
            presented.issuer
        ),
        None => format!(
            "{whose} was issued by an unknown authority. If you trust it, set that authority's certificate \
             as ca_certificate."
        ),
    }
}

/// Explains that the certificate is for other names. `may_be_given`: it may be the one in `ca_certificate`.
fn wrong_name(whose: &str, names: &[String], expected: &str, may_be_given: bool) -> String {
    // A longer list would not help.
    const MAX_NAMES: usize = 5;
    let listed = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > MAX_NAMES { " …" } else { "" };
    match names {
        [] if may_be_given => format!(
            "{whose} contains no server name (subjectAltName), so that tls_server_name ({expected}) cannot be \
             checked. Remove tls_server_name, or create a new certificate with this name."
        ),
        [] => format!(
            "{whose} contains no server name (subjectAltName; the common name is not used). Create a new one \
             with the name {expected}."
        ),
        _ => format!(
            "{whose} is for {listed}{more}, not for {expected}. Connect using one of these names, or set \
             tls_server_name to one."
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn handshake() -> Handshake {
        Handshake {
            broker: "broker.lan:8883".to_owned(),
            name: "broker.lan".to_owned(),
            is_websocket: false,
            has_ca_certificate: false,
            client_certificate: None,
            observations: Arc::default(),
        }
    }

    fn eof() -> io::Error {
        io::ErrorKind::UnexpectedEof.into()
    }

    #[test]
    fn a_server_that_responds_without_tls_is_recognized_by_its_first_bytes() {
        for (first, kind, words) in [
            (b"HTTP/1.1 400 Bad Request".as_slice(), FailureKind::Protocol, "is an HTTP server without TLS"),
            (b"SSH-2.0-OpenSSH", FailureKind::Protocol, "\"SSH-2.0-OpenSSH\""),
            (&[0x20, 2, 0, 1], FailureKind::Tls, "without TLS"),
            (&[], FailureKind::Tls, "does not seem to support TLS"),
            (&[0x16, 3, 3], FailureKind::Tls, "without giving a reason"),
        ] {
            let failure = explain_handshake(&eof(), first, &handshake());
            assert_eq!(failure.kind, kind);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn alerts_are_explained_with_advice() {
        for (alert, words) in [
            (AlertDescription::CertificateRequired, "requires a client certificate"),
            (AlertDescription::ProtocolVersion, "neither TLS 1.2 nor 1.3"),
            (AlertDescription::HandshakeFailure, "no cipher suite in common"),
            (AlertDescription::UnrecognisedName, "tls_server_name"),
            (AlertDescription::InternalError, "InternalError"),
        ] {
            let failure = explain(&Error::AlertReceived(alert), &handshake());
            assert_eq!(failure.kind, FailureKind::Tls);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn an_old_server_must_be_updated() {
        let error = Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig);
        assert!(explain(&error, &handshake()).message.contains("Update the broker"));
    }
}
