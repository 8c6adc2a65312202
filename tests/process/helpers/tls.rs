//! Certificates that are made in the test, and a client that shows the one it was given.

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

/// A certificate for `localhost` and its key, on their way into files.
#[derive(Debug)]
pub struct Pair {
    _dir: TempDir,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// An answer, and the certificate that it came under.
#[derive(Debug)]
pub struct TlsAnswer {
    pub certificate: CertificateDer<'static>,
    pub text: String,
}

impl Pair {
    /// A new one, in files.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
        let pair = Self { _dir: dir, certificate, key };
        pair.renew();
        pair
    }

    /// Writes a new certificate and its key into the files, as a tool for certificates does.
    pub fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(&self.certificate, made.cert.pem()).expect("it can be written");
        fs::write(&self.key, made.signing_key.serialize_pem()).expect("it can be written");
        fs::set_permissions(&self.key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("it can be closed");
        made.cert.der().clone()
    }

    /// The section of the configuration that names the files.
    pub fn config(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("[http]\ntls_certificate = \"{certificate}\"\ntls_key = \"{key}\"\n")
    }
}

/// GET with further headers, each with its end of line. See [`try_send`].
pub async fn try_get(
    port: u16,
    trusted: &CertificateDer<'static>,
    path: &str,
    headers: &str,
) -> Result<TlsAnswer, String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    try_send(port, trusted, &request).await
}

/// Sends a request over TLS to a server whose certificate is this one, and reads the answer to its end, within five
/// seconds.
pub async fn try_send(
    port: u16,
    trusted: &CertificateDer<'static>,
    request: &str,
) -> Result<TlsAnswer, String> {
    let asking = async {
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
        Ok(TlsAnswer { certificate, text: String::from_utf8_lossy(&text).into_owned() })
    };
    timeout(Duration::from_secs(5), asking).await.map_err(|_| "no answer in time".to_owned())?
}
