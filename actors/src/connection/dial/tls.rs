//! TLS: whom we trust, what we show of ourselves, and the handshake.

use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    first_bytes::Recorded,
    tls_reason::{self, Handshake},
};
use crate::domain::{
    certificate::{self, Certificate},
    clock,
    settings::{MqttSettings, Transport},
    status::{Failure, FailureKind},
};

/// What the settings say of TLS, ready for use.
#[derive(Debug, Clone)]
pub struct Tls {
    broker: String,
    name: ServerName<'static>,
    is_websocket: bool,
    trust: Trust,
    identity: Option<Arc<CertifiedKey>>,
}

/// Whose word counts.
#[derive(Clone)]
enum Trust {
    /// These authorities', and that of the certificates themselves that were given.
    Authorities { roots: Arc<RootCertStore>, given: Arc<[CertificateDer<'static>]> },
    /// Anybody's: `tls_insecure`.
    Anyone,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Anyone) { "Anyone" } else { "Authorities" })
    }
}

impl Tls {
    /// What these settings ask for. A part of it that cannot be had is a failure: nothing is left out.
    pub async fn new(settings: &MqttSettings) -> Result<Self, Failure> {
        let failure = |message: String| Failure::new(FailureKind::Tls, message);
        let name = settings.tls_server_name.as_ref().unwrap_or(&settings.broker_host);
        let name = ServerName::try_from(name.clone()).map_err(|_| {
            failure(format!("{name:?} is no name that a certificate can have. Set tls_server_name."))
        })?;
        let trust = match &settings.ca_certificate {
            _ if settings.tls_insecure => Trust::Anyone,
            Some(pem) => given(pem).map_err(|why| failure(format!("ca_certificate {why}.")))?,
            None => system().await?,
        };
        let identity = identity(settings).map_err(failure)?.map(Arc::new);
        let is_websocket = settings.transport == Transport::Websocket;
        Ok(Self { broker: settings.broker(), name, is_websocket, trust, identity })
    }

    /// Sets the encrypted connection up.
    pub async fn secure<S>(&self, stream: S) -> Result<(TlsStream<Recorded<S>>, Secured), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let witness = Arc::new(TlsObservations::default());
        let handshake = Handshake {
            broker: self.broker.clone(),
            name: self.name.to_str().into_owned(),
            is_websocket: self.is_websocket,
            ca_given: matches!(&self.trust, Trust::Authorities { given, .. } if !given.is_empty()),
            ours: self.identity.as_ref().and_then(|own| Certificate::read(own.cert.first()?)),
            witness: Arc::clone(&witness),
        };
        if let Trust::Anyone = self.trust {
            tracing::warn!(
                broker = self.broker,
                "the broker's certificate is not verified (tls_insecure): anybody on the way can read the password"
            );
        }
        let config = self.config(&witness).map_err(|error| tls_reason::of_error(&error, &handshake))?;
        let (stream, first) = Recorded::new(stream);
        let secured = TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream).await;
        let stream = secured.map_err(|error| tls_reason::of_handshake(&error, first.bytes(), &handshake))?;
        let version = match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS 1.3",
        };
        let certificate = witness.certificate();
        let is_verified = !matches!(self.trust, Trust::Anyone);
        Ok((stream, Secured { version, certificate, is_verified, handshake }))
    }

    fn config(&self, witness: &Arc<TlsObservations>) -> Result<ClientConfig, rustls::Error> {
        let provider = certificate::provider();
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Verifier { trust: self.trust.clone(), algorithms, witness: Arc::clone(witness) };
        let own = Own { identity: self.identity.clone(), witness: Arc::clone(witness) };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(own)))
    }
}

/// What an encrypted connection is like.
#[derive(Debug, Clone)]
pub struct Secured {
    /// Such as `TLS 1.3`.
    pub version: &'static str,
    /// The broker's; `None` when it cannot be read.
    pub certificate: Option<Certificate>,
    /// Whether the certificate was verified.
    pub is_verified: bool,
    /// How it came about, for what is told of it later.
    pub handshake: Handshake,
}

impl fmt::Display for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version)?;
        match &self.certificate {
            Some(certificate) => write!(f, "; {certificate}")?,
            None => f.write_str("; the broker's certificate cannot be read")?,
        }
        if !self.is_verified {
            f.write_str("; NOT VERIFIED (tls_insecure)")?;
        }
        if self.handshake.witness.was_asked() && self.handshake.ours.is_some() {
            f.write_str("; showed our certificate")?;
        }
        Ok(())
    }
}

/// What the broker has shown, and asked for.
#[derive(Debug, Default)]
pub struct TlsObservations {
    certificate: OnceLock<CertificateDer<'static>>,
    asked: AtomicBool,
}

impl TlsObservations {
    /// The broker's certificate.
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::read(self.certificate.get()?)
    }

    /// Whether it asked for ours.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// `ca_certificate` alone.
fn given(pem: &str) -> Result<Trust, String> {
    let roots = Arc::new(certificate::authorities(pem)?);
    let given = certificate::certificates(pem)?.into();
    Ok(Trust::Authorities { roots, given })
}

/// The system's authorities, as they are now.
async fn system() -> Result<Trust, Failure> {
    let mut roots = RootCertStore::empty();
    // Some hundred small files.
    if let Ok(found) = spawn_blocking(rustls_native_certs::load_native_certs).await {
        for error in &found.errors {
            tracing::debug!(%error, "some of the system's authorities cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
    }
    if roots.is_empty() {
        return Err(Failure::new(
            FailureKind::Tls,
            "This system knows no certificate authorities. Install them (ca-certificates), or give the broker's as \
             ca_certificate.",
        ));
    }
    Ok(Trust::Authorities { roots: Arc::new(roots), given: Arc::new([]) })
}

fn identity(settings: &MqttSettings) -> Result<Option<CertifiedKey>, String> {
    let (chain, key) = match (&settings.client_certificate, settings.exposed_client_key()) {
        (Some(chain), Some(key)) => (chain, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err("client_certificate is of no use without client_key.".to_owned()),
        (None, Some(_)) => return Err("client_key is of no use without client_certificate.".to_owned()),
    };
    let chain = certificate::certificates(chain).map_err(|why| format!("client_certificate {why}."))?;
    let identity = certificate::private_key(key).and_then(|key| certificate::identity(chain, &key));
    identity.map(Some).map_err(|why| format!("client_key {why}."))
}

/// Our certificate; notes that it was asked for.
#[derive(Debug)]
struct Own {
    identity: Option<Arc<CertifiedKey>>,
    witness: Arc<TlsObservations>,
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.witness.asked.store(true, Ordering::Relaxed);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

/// Notes the broker's certificate, and judges it.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
    witness: Arc<TlsObservations>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.witness.certificate.get_or_init(|| end_entity.clone().into_owned());
        let Trust::Authorities { roots, given } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if given.contains(end_entity) {
            // It is the very certificate that was given: there is nothing that an authority could add.
            is_in_force(end_entity)?;
            if Certificate::read(end_entity).is_some_and(|certificate| certificate.names.is_empty()) {
                return Ok(ServerCertVerified::assertion());
            }
        } else {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.trust {
            Trust::Anyone => Ok(HandshakeSignatureValid::assertion()),
            Trust::Authorities { .. } => {
                verify_tls12_signature(message, certificate, signed, &self.algorithms)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.trust {
            Trust::Anyone => Ok(HandshakeSignatureValid::assertion()),
            Trust::Authorities { .. } => {
                verify_tls13_signature(message, certificate, signed, &self.algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_in_force(certificate: &CertificateDer<'_>) -> Result<(), CertificateError> {
    let Some(certificate) = Certificate::read(certificate) else { return Err(CertificateError::BadEncoding) };
    let now = clock::now();
    if now < certificate.not_before {
        Err(CertificateError::NotValidYet)
    } else if now > certificate.not_after {
        Err(CertificateError::Expired)
    } else {
        Ok(())
    }
}

/// The first flight of a client, to see whether a port answers to it.
pub fn hello(name: &str) -> Option<Vec<u8>> {
    let name = ServerName::try_from(name.to_owned()).ok()?;
    let config = ClientConfig::builder_with_provider(certificate::provider())
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).ok()?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).ok()?;
    Some(bytes)
}

/// The TLS error that travels inside an error of the stream.
pub fn inside(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
