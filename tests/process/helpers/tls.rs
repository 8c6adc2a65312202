//! Certificates for the tests, and an HTTPS client that returns the server's certificate.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The files of a certificate for `localhost` and of its key.
#[derive(Debug)]
pub struct Pair {
    _dir: TempDir,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A response and the certificate of the server that sent it.
#[derive(Debug)]
pub struct TlsResponse {
    pub certificate: CertificateDer<'static>,
    pub text: String,
}

impl Pair {
    /// Creates a new certificate and its key.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
        let pair = Self { _dir: dir, certificate, key };
        pair.renew();
        pair
    }

    /// Writes a new certificate and its key to the files, as a certificate manager does.
    pub fn renew(&self) -> CertificateDer<'static> {
        let new = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(&self.certificate, new.cert.pem()).expect("the file can be written");
        fs::write(&self.key, new.signing_key.serialize_pem()).expect("the file can be written");
        fs::set_permissions(&self.key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("the mode can be changed");
        new.cert.der().clone()
    }

    /// Returns the configuration section that names the files.
    pub fn config(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("[http]\ntls_certificate = \"{certificate}\"\ntls_key = \"{key}\"\n")
    }
}

/// Sends a GET request with further headers, each of which ends with a line break. See [`try_send`].
pub async fn try_get(
    port: u16,
    trusted: &CertificateDer<'static>,
    path: &str,
    headers: &str,
) -> Result<TlsResponse, String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    try_send(port, trusted, &request).await
}

/// Sends a request over TLS, trusts this certificate only, and reads the whole response within
/// [`RESPONSE_TIMEOUT`].
pub async fn try_send(
    port: u16,
    trusted: &CertificateDer<'static>,
    request: &str,
) -> Result<TlsResponse, String> {
    let exchange = async {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).map_err(|error| error.to_string())?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
        let mut stream = connecting.await.map_err(|error| error.to_string())?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let certificate = certificate.ok_or("no certificate")?.into_owned();
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.map_err(|error| error.to_string())?;
        Ok(TlsResponse { certificate, text: String::from_utf8_lossy(&text).into_owned() })
    };
    timeout(RESPONSE_TIMEOUT, exchange).await.map_err(|_| "no response in time".to_owned())?
}
