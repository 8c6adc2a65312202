//! The server's TLS certificate: reads it from its files, and again when they change.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use liveobject_actors::{
    domain::{
        causes::with_causes,
        certificate::{Certificate, certificates_in_file, private_key},
    },
    metrics::Metrics,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use secrecy::zeroize::Zeroizing;
use tokio::{task::spawn_blocking, time::sleep};

/// How often the files are checked. A change is applied once the next check finds no further change, so that
/// both files have been written.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Far more than any certificate chain needs.
const MAX_BYTES: u64 = 1024 * 1024;

/// The files of the certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with its intermediate certificates, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM, without a passphrase.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads the certificate, without its key and its intermediate certificates.
    pub fn certificate(&self) -> Result<CertificateDer<'static>, TlsError> {
        let failed = |what: String| TlsError::Certificate { path: self.certificate.clone(), what };
        let chain =
            read_file(&self.certificate).and_then(|text| certificates_in_file(&text)).map_err(failed)?;
        chain.into_iter().next().ok_or_else(|| failed("contains no certificate".to_owned()))
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file is not usable.
    #[error("{} {what}", path.display())]
    Certificate {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The key file is not usable.
    #[error("{} {what}", path.display())]
    Key {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it. Never contains the key.
        what: String,
    },
    /// The TLS library rejects its configuration.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// The certificate in use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Certificates {
    files: TlsFiles,
    current: Arc<RwLock<Arc<CertifiedKey>>>,
    provider: Arc<CryptoProvider>,
    /// Those of the service that runs.
    metrics: Arc<RwLock<Option<Metrics>>>,
}

impl Certificates {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let current = Arc::new(RwLock::new(Arc::new(read(&files, &provider)?)));
        Ok(Self { files, current, provider, metrics: Arc::default() })
    }

    /// Keeps the expiry time of the current certificate in these metrics from now on.
    pub fn measure(&self, metrics: Metrics) {
        *self.metrics.write().unwrap_or_else(PoisonError::into_inner) = Some(metrics);
        self.update_metrics();
    }

    fn update_metrics(&self) {
        let metrics = self.metrics.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(metrics) = metrics {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner).cert.first().cloned();
            let certificate = current.as_ref().and_then(Certificate::read);
            metrics.set_certificate_ends("server", certificate.map(|certificate| certificate.not_after));
        }
    }

    /// Returns the server configuration: TLS 1.2 and 1.3, with the certificate that is current when a client
    /// connects.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        Ok(config)
    }

    /// Watches the files forever. A new certificate is used from the next connection on. One that is not
    /// usable is logged once, and the old one stays in use.
    pub async fn watch(self) -> std::convert::Infallible {
        let (mut current, mut candidate) = (stamps(&self.files), None);
        loop {
            sleep(CHECK_INTERVAL).await;
            let files = self.files.clone();
            let now = spawn_blocking(move || stamps(&files)).await.unwrap_or_default();
            if now == current || candidate.replace(now) != Some(now) {
                continue;
            }
            current = now;
            self.reload_and_log().await;
        }
    }

    /// Reads the files again, and uses the certificate from the next connection on. One that is not usable is
    /// logged, and the old one stays in use.
    pub async fn reload_and_log(&self) {
        let certificates = self.clone();
        match spawn_blocking(move || certificates.reload()).await {
            Ok(Ok(())) => {
                tracing::info!(file = %self.files.certificate.display(), "using the new TLS certificate");
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    error = %with_causes(&error),
                    "the new TLS certificate is not usable; keeping the old one"
                );
            }
            Err(error) => {
                tracing::error!(
                    error = %with_causes(&error),
                    "panic while reading the TLS certificate; keeping the old one"
                );
            }
        }
    }

    fn reload(&self) -> Result<(), TlsError> {
        let new = Arc::new(read(&self.files, &self.provider)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.update_metrics();
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let TlsFiles { certificate: path, key: key_path } = files;
    let certificate = |what: String| TlsError::Certificate { path: path.clone(), what };
    let key = |what: String| TlsError::Key { path: key_path.clone(), what };
    let chain = read_file(path).and_then(|text| certificates_in_file(&text)).map_err(certificate)?;
    let private = read_file(key_path).and_then(|text| private_key(&text)).map_err(key)?;
    let certified = CertifiedKey::new(chain, private.signing_key(provider).map_err(key)?);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(key(format!("is not the key of the certificate in {}", path.display())))
        }
        Err(rustls::Error::InconsistentKeys(_)) | Ok(()) => Ok(certified),
        Err(error) => Err(certificate(format!("contains a certificate that cannot be read: {error}"))),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let read = || {
        let length = fs::metadata(path)?.len();
        if length > MAX_BYTES {
            return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
        }
        fs::read_to_string(path)
    };
    read().map(Into::into).map_err(|error| format!("cannot be read: {error}"))
}

/// Detects whether a file has changed: its device, inode, size and modification time.
type Stamp = (u64, u64, u64, i64, i64);

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        dir: tempfile::TempDir,
        files: TlsFiles,
    }

    fn pair() -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: dir.path().join("c.pem"), key: dir.path().join("k.pem") };
        let pair = Pair { dir, files };
        pair.write(&certificate("a.lan"));
        pair
    }

    impl Pair {
        fn write(&self, (certificate, key): &(String, String)) {
            fs::write(&self.files.certificate, certificate).unwrap();
            fs::write(&self.files.key, key).unwrap();
        }

        fn error(&self) -> String {
            let error = Certificates::load(self.files.clone()).unwrap_err().to_string();
            error.replace(&format!("{}/", self.dir.path().display()), "")
        }
    }

    fn certificate(name: &str) -> (String, String) {
        let generated = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (generated.cert.pem(), generated.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_used() {
        let pair = pair();
        Certificates::load(pair.files.clone()).unwrap().server_config().unwrap();
    }

    #[test]
    fn an_error_names_the_file_and_does_not_contain_the_key() {
        let pair = pair();
        let (good, key) = certificate("a.lan");
        let (_, other_key) = certificate("a.lan");
        for (certificate, key, expected) in [
            (good.as_str(), other_key.as_str(), "k.pem is not the key of the certificate in c.pem"),
            ("", &key, "c.pem contains no certificate"),
            (&key, &key, "c.pem contains no certificate"),
            (&good, "", "k.pem contains no private key"),
            (&good, &good, "k.pem contains no private key"),
            (
                &good,
                "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n",
                "k.pem is not a supported key",
            ),
            (&good, "-----BEGIN PRIVATE KEY-----\nsecret", "k.pem"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &key,
                "c.pem contains a certificate that cannot be read",
            ),
        ] {
            pair.write(&(certificate.to_owned(), key.to_owned()));
            let error = pair.error();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        fs::remove_file(&pair.files.key).unwrap();
        pair.write(&(good, String::new()));
        fs::remove_file(&pair.files.key).unwrap();
        assert!(pair.error().starts_with("k.pem cannot be read: No such file"), "{}", pair.error());
    }

    #[test]
    fn files_are_read_however_they_were_written_and_no_certificate_is_left_out() {
        let pair = pair();
        let (good, key) = certificate("a.lan");
        for notation in [
            |pem: &str| format!("\u{feff}{pem}"),
            |pem: &str| pem.replace('\n', "\r\n"),
            |pem: &str| pem.replace('\n', "\n  "),
        ] {
            let chain = notation(&format!("{good}{}", certificate("b.lan").0));
            pair.write(&(chain, notation(&key)));
            let certificates = Certificates::load(pair.files.clone()).unwrap();
            assert_eq!(certificates.current.read().unwrap().cert.len(), 2);
        }
        pair.write(&(format!("{good}{key}"), format!("{good}{key}")));
        Certificates::load(pair.files.clone()).expect("both may be in one file");
        let odd = certificate("b.lan").0.replace("-----END", "END");
        pair.write(&(format!("{good}{odd}"), key));
        assert_eq!(pair.error(), "c.pem is damaged: block 2 of 2 is incomplete");
    }

    #[test]
    fn the_metrics_show_when_the_current_certificate_expires() {
        let pair = pair();
        let certificates = Certificates::load(pair.files.clone()).unwrap();
        let metrics = Metrics::new();
        certificates.measure(metrics.clone());
        let expiry = |metrics: &Metrics| {
            let text = metrics.encode(liveobject_actors::metrics::Format::Prometheus).unwrap();
            let name = "liveobject_certificate_expiry_timestamp_seconds{certificate=\"server\"} ";
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned()
        };
        let before = expiry(&metrics);
        let mut parameters = rcgen::CertificateParams::new(["a.lan".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2100, 1, 2);
        let key = rcgen::KeyPair::generate().unwrap();
        let renewed = parameters.self_signed(&key).unwrap();
        pair.write(&(renewed.pem(), key.serialize_pem()));
        certificates.reload().unwrap();
        assert_eq!(expiry(&metrics), "4102531200");
        assert_ne!(before, "4102531200");
    }

    #[test]
    fn a_replaced_or_removed_file_is_detected() {
        let pair = pair();
        let before = stamps(&pair.files);
        assert_eq!(stamps(&pair.files), before);
        let other = pair.dir.path().join("new");
        fs::copy(&pair.files.key, &other).unwrap();
        fs::rename(&other, &pair.files.key).unwrap();
        assert_ne!(stamps(&pair.files), before);
        fs::remove_file(&pair.files.key).unwrap();
        assert_eq!(stamps(&pair.files)[1], None);
    }

    #[test]
    fn an_unusable_new_pair_leaves_the_old_one_in_use() {
        let pair = pair();
        let certificates = Certificates::load(pair.files.clone()).unwrap();
        let current = || certificates.current.read().unwrap().cert.clone();
        let before = current();
        fs::write(&pair.files.certificate, certificate("b.lan").0).unwrap();
        assert!(certificates.reload().is_err());
        assert_eq!(current(), before);
        pair.write(&certificate("b.lan"));
        certificates.reload().unwrap();
        assert_ne!(current(), before);
    }
}
