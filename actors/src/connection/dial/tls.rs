//! TLS: the trusted certificates, the client certificate, and the handshake.

use std::{fmt, sync::Arc};

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
    handshake::{Handshake, TlsObservations},
    tls_reason,
};
use crate::domain::{
    causes::with_causes,
    certificate::{self, Certificate},
    clock,
    settings::{MqttSettings, Transport},
    status::{Failure, FailureKind},
};

/// The TLS settings, parsed and ready for use.
#[derive(Debug, Clone)]
pub struct Tls {
    broker: String,
    name: ServerName<'static>,
    /// Whether `name` comes from `tls_server_name`, and must be in the certificate in any case.
    has_server_name: bool,
    is_websocket: bool,
    trust: Trust,
    identity: Option<Arc<CertifiedKey>>,
}

/// Which certificates are trusted.
#[derive(Clone)]
enum Trust {
    /// Certificates that these authorities signed, and the certificates in `given` themselves.
    Authorities { roots: Arc<RootCertStore>, given: Arc<[CertificateDer<'static>]> },
    /// All certificates (`tls_insecure`).
    Anyone,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Anyone) { "Anyone" } else { "Authorities" })
    }
}

impl Tls {
    /// Parses the settings. Anything invalid is a failure; nothing is skipped.
    pub async fn new(settings: &MqttSettings) -> Result<Self, Failure> {
        let failure = |message: String| Failure::new(FailureKind::Tls, message);
        let name = settings.tls_server_name.as_ref().unwrap_or(&settings.broker_host);
        let name = ServerName::try_from(name.clone())
            .map_err(|_| failure(format!("{name:?} is not a valid TLS server name. Set tls_server_name.")))?;
        let trust = match &settings.ca_certificate {
            _ if settings.tls_insecure => Trust::Anyone,
            Some(pem) => {
                given_authorities(pem).map_err(|error| failure(format!("ca_certificate {error}.")))?
            }
            None => system_authorities().await?,
        };
        let identity = client_identity(settings).map_err(failure)?.map(Arc::new);
        let is_websocket = settings.transport == Transport::Websocket;
        let has_server_name = settings.tls_server_name.is_some();
        Ok(Self { broker: settings.broker(), name, has_server_name, is_websocket, trust, identity })
    }

    /// Performs the handshake on the stream.
    pub async fn secure<S>(&self, stream: S) -> Result<(TlsStream<Recorded<S>>, Secured), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let observations = Arc::new(TlsObservations::default());
        let handshake = Handshake {
            broker: self.broker.clone(),
            name: self.name.to_str().into_owned(),
            is_websocket: self.is_websocket,
            has_ca_certificate: matches!(&self.trust, Trust::Authorities { given, .. } if !given.is_empty()),
            client_certificate: self
                .identity
                .as_ref()
                .and_then(|identity| Certificate::read(identity.cert.first()?)),
            observations: Arc::clone(&observations),
        };
        if let Trust::Anyone = self.trust {
            tracing::warn!(
                broker = self.broker,
                "the broker's certificate is not verified (tls_insecure): anyone on the network path can \
                 read the password"
            );
        }
        let config =
            self.client_config(&observations).map_err(|error| tls_reason::explain(&error, &handshake))?;
        let (stream, first) = Recorded::new(stream);
        let secured = TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream).await;
        let stream =
            secured.map_err(|error| tls_reason::explain_handshake(&error, first.bytes(), &handshake))?;
        let version = match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS 1.3",
        };
        let certificate = observations.certificate();
        let is_verified = !matches!(self.trust, Trust::Anyone);
        Ok((stream, Secured { version, certificate, is_verified, handshake }))
    }

    fn client_config(&self, observations: &Arc<TlsObservations>) -> Result<ClientConfig, rustls::Error> {
        let provider = certificate::provider();
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Verifier {
            trust: self.trust.clone(),
            needs_name: self.has_server_name,
            algorithms,
            observations: Arc::clone(observations),
        };
        let resolver =
            ClientCertResolver { identity: self.identity.clone(), observations: Arc::clone(observations) };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver)))
    }
}

/// The properties of an encrypted connection.
#[derive(Debug, Clone)]
pub struct Secured {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// The broker's certificate; `None` if it cannot be parsed.
    pub certificate: Option<Certificate>,
    /// Whether the certificate was verified.
    pub is_verified: bool,
    /// The handshake, to explain later errors.
    pub handshake: Handshake,
}

impl fmt::Display for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version)?;
        match &self.certificate {
            Some(certificate) => write!(f, "; {certificate}")?,
            None => f.write_str("; the broker's certificate cannot be parsed")?,
        }
        if !self.is_verified {
            f.write_str("; NOT VERIFIED (tls_insecure)")?;
        }
        if self.handshake.observations.client_certificate_requested()
            && self.handshake.client_certificate.is_some()
        {
            f.write_str("; presented the client certificate")?;
        }
        Ok(())
    }
}

/// Trusts only `ca_certificate`.
fn given_authorities(pem: &str) -> Result<Trust, String> {
    let roots = Arc::new(certificate::authorities(pem)?);
    let given = certificate::certificates(pem)?.into();
    Ok(Trust::Authorities { roots, given })
}

/// Trusts the system's authorities, which are read on each call.
async fn system_authorities() -> Result<Trust, Failure> {
    let mut roots = RootCertStore::empty();
    // This reads about a hundred small files.
    if let Ok(found) = spawn_blocking(rustls_native_certs::load_native_certs).await {
        for error in &found.errors {
            tracing::debug!(error = %with_causes(&error), "cannot read some of the system's authorities");
        }
        roots.add_parsable_certificates(found.certs);
    }
    if roots.is_empty() {
        return Err(Failure::new(
            FailureKind::Tls,
            "This system trusts no certificate authorities. Install the package ca-certificates, or set \
             the broker's authority as ca_certificate.",
        ));
    }
    Ok(Trust::Authorities { roots: Arc::new(roots), given: Arc::new([]) })
}

fn client_identity(settings: &MqttSettings) -> Result<Option<CertifiedKey>, String> {
    let (chain, key) = match (&settings.client_certificate, settings.exposed_client_key()) {
        (Some(chain), Some(key)) => (chain, key),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err("client_certificate requires client_key. Set both or neither.".to_owned());
        }
        (None, Some(_)) => {
            return Err("client_key requires client_certificate. Set both or neither.".to_owned());
        }
    };
    let chain = certificate::certificates(chain).map_err(|error| format!("client_certificate {error}."))?;
    let identity = certificate::private_key(key).and_then(|key| certificate::identity(chain, &key));
    identity.map(Some).map_err(|error| format!("client_key {error}."))
}

/// Presents the client certificate, and records that it was requested.
#[derive(Debug)]
struct ClientCertResolver {
    identity: Option<Arc<CertifiedKey>>,
    observations: Arc<TlsObservations>,
}

impl ResolvesClientCert for ClientCertResolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.observations.record_client_certificate_request();
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

/// Records the broker's certificate and verifies it.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    /// Whether a certificate without names is refused, even if it is the given one.
    needs_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
    observations: Arc<TlsObservations>,
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
        self.observations.record_certificate(end_entity);
        let Trust::Authorities { roots, given } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if given.contains(end_entity) {
            // This exact certificate is trusted; no authority is needed.
            check_validity(end_entity)?;
            if Certificate::read(end_entity).is_some_and(|certificate| certificate.names.is_empty()) {
                if self.needs_name {
                    return Err(CertificateError::NotValidForName.into());
                }
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

fn check_validity(certificate: &CertificateDer<'_>) -> Result<(), CertificateError> {
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

/// Returns the first bytes of a handshake (the `ClientHello`), to check whether a port expects TLS.
pub fn client_hello(name: &str) -> Option<Vec<u8>> {
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
