//! The facts about a TLS handshake, for the messages that explain later errors.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::pki_types::CertificateDer;

use crate::domain::certificate::Certificate;

/// The parameters of the handshake, and what the broker presented.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// `host:port` of the broker.
    pub broker: String,
    /// The name that the certificate must contain.
    pub name: String,
    /// Whether a WebSocket follows.
    pub is_websocket: bool,
    /// Whether the certificates in `ca_certificate` decide what is trusted.
    pub has_ca_certificate: bool,
    /// Our client certificate.
    pub client_certificate: Option<Certificate>,
    /// What the broker presented and requested.
    pub observations: Arc<TlsObservations>,
}

/// What the broker presented and requested during the handshake.
#[derive(Debug, Default)]
pub struct TlsObservations {
    certificate: OnceLock<CertificateDer<'static>>,
    client_certificate_requested: AtomicBool,
}

impl TlsObservations {
    /// Returns the broker's certificate, or `None` if there is none yet or it cannot be parsed.
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::read(self.certificate.get()?)
    }

    /// Records the broker's certificate.
    pub fn record_certificate(&self, certificate: &CertificateDer<'_>) {
        self.certificate.get_or_init(|| certificate.clone().into_owned());
    }

    /// Returns whether the broker requested a client certificate.
    pub fn client_certificate_requested(&self) -> bool {
        self.client_certificate_requested.load(Ordering::Relaxed)
    }

    /// Records that the broker requested a client certificate.
    pub fn record_client_certificate_request(&self) {
        self.client_certificate_requested.store(true, Ordering::Relaxed);
    }
}

/// Returns the TLS error inside an error of the stream.
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
