//! The certificate with which the broker and the service serve TLS in the measurements over TLS.

use std::{fs, io, path::PathBuf, sync::Arc};

use liveobject_test_support::{Authority, CertificateSpec, Listener, Mosquitto, MosquittoBuilder};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{database::Engine, service::directory};

const ADDRESS: &str = "127.0.0.1";

/// A certificate for the loopback address, and the authority that issued it.
pub struct Tls {
    authority: Authority,
    connector: TlsConnector,
    listener: Listener,
    files: TempDir,
}

impl Tls {
    pub fn new() -> Self {
        let authority = Authority::new("benchmark");
        let identity = authority.issue(&CertificateSpec::server(&[ADDRESS]));
        let files = directory();
        fs::write(files.path().join("certificate.pem"), &identity.certificate)
            .expect("a file can be written");
        fs::write(files.path().join("key.pem"), &identity.key).expect("a file can be written");
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate");
        roots.add(trusted).expect("a certificate of an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = Listener::tls(&identity);
        Self { authority, connector: TlsConnector::from(Arc::new(config)), listener, files }
    }

    /// Adds a TLS listener to a broker. [`Mosquitto::listener`] returns its port.
    pub fn add_to(&self, broker: MosquittoBuilder) -> MosquittoBuilder {
        broker.listener(self.listener.clone())
    }

    /// Returns the certificate that clients of the broker must trust, as PEM.
    pub fn authority(&self) -> &str {
        self.authority.pem()
    }

    /// Returns the files with the service's certificate and its key.
    pub fn files(&self) -> (PathBuf, PathBuf) {
        (self.files.path().join("certificate.pem"), self.files.path().join("key.pem"))
    }

    /// Connects to the service on this port.
    pub async fn connect(&self, port: u16) -> io::Result<TlsStream<TcpStream>> {
        connect(&self.connector, port).await
    }

    /// Forwards plain connections to the service on this port over TLS, for calls that are not measured. Returns the
    /// port to use instead.
    #[expect(
        clippy::disallowed_methods,
        reason = "a panic closes the connections, and the calls that use them fail"
    )]
    pub async fn forward(&self, port: u16) -> Forwarder {
        let listener = TcpListener::bind((ADDRESS, 0)).await.expect("a port is free");
        let local = listener.local_addr().expect("a bound socket has an address").port();
        let connector = self.connector.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut plain, _)) = listener.accept().await {
                let connector = connector.clone();
                tokio::spawn(async move {
                    // A failure closes the plain connection, which its client notices.
                    if let Ok(mut encrypted) = connect(&connector, port).await {
                        let _ = copy_bidirectional(&mut plain, &mut encrypted).await;
                    }
                });
            }
        });
        Forwarder { port: local, task: task.abort_handle() }
    }
}

async fn connect(connector: &TlsConnector, port: u16) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((ADDRESS, port)).await?;
    stream.set_nodelay(true)?;
    connector.connect(ServerName::try_from(ADDRESS).expect("an address"), stream).await
}

/// A port whose connections are forwarded. Accepts no more when dropped.
pub struct Forwarder {
    pub port: u16,
    task: AbortHandle,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How the measured service is connected: to the broker on this port, over TLS in both directions if there is a
/// certificate, and to its database.
#[derive(Clone, Copy)]
pub struct Links<'a> {
    pub port: u16,
    pub tls: Option<&'a Tls>,
    pub engine: Engine<'a>,
}

impl<'a> Links<'a> {
    /// Links without TLS, to the plain listener of the broker.
    pub fn plain(broker: &Mosquitto) -> Self {
        Self::to_port(broker.port())
    }

    /// Links without TLS, to the broker on this port.
    pub fn to_port(port: u16) -> Self {
        Self { port, tls: None, engine: Engine::Sqlite }
    }

    /// Links over TLS, to the additional listener of the broker.
    pub fn encrypted(broker: &Mosquitto, tls: &'a Tls) -> Self {
        Self { tls: Some(tls), ..Self::to_port(broker.listener(0)) }
    }

    /// Stores the events with this engine.
    pub fn with_engine(self, engine: Engine<'a>) -> Self {
        Self { engine, ..self }
    }
}
