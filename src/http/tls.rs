//! The server's certificate: read from its files, and read again when they change.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{task::spawn_blocking, time::sleep};

/// How often the files are looked at. A change is taken when a look finds it unchanged: both files are there then.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Far above any chain.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where the certificate and its key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, without a passphrase.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file.
    #[error("{} {what}", path.display())]
    Certificate {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The key's file.
    #[error("{} {what}", path.display())]
    Key {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it. Never holds its text.
        what: String,
    },
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// The certificate in use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Certificates {
    files: TlsFiles,
    current: Arc<RwLock<Arc<CertifiedKey>>>,
    provider: Arc<CryptoProvider>,
}

impl Certificates {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let current = Arc::new(RwLock::new(Arc::new(read(&files, &provider)?)));
        Ok(Self { files, current, provider })
    }

    /// What the server needs: TLS 1.2 and 1.3, and whatever certificate is in use when a client comes.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        Ok(config)
    }

    /// Looks after the files for ever: a new certificate is used from the next connection on; one that cannot be used is
    /// told once, and the old one stays.
    pub async fn watch(self) -> std::convert::Infallible {
        let (mut used, mut seen) = (stamps(&self.files), None);
        loop {
            sleep(LOOK_EVERY).await;
            let files = self.files.clone();
            let now = spawn_blocking(move || stamps(&files)).await.unwrap_or_default();
            if now == used || seen.replace(now) != Some(now) {
                continue;
            }
            used = now;
            let certificates = self.clone();
            match spawn_blocking(move || certificates.renew()).await {
                Ok(Ok(())) => {
                    tracing::info!(file = %self.files.certificate.display(), "new TLS certificate in use");
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the new TLS certificate cannot be used; the old one stays");
                }
                Err(error) => {
                    tracing::error!(%error, "a panic beside the TLS certificate; the old one stays");
                }
            }
        }
    }

    fn renew(&self) -> Result<(), TlsError> {
        let new = Arc::new(read(&self.files, &self.provider)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
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
    let chain = text(path).map_err(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|error| certificate(format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(certificate("holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    let private = text(key_path).map_err(key)?;
    let private = PrivateKeyDer::from_pem_slice(&private).map_err(|error| {
        key(match error {
            pem::Error::NoItemsFound => {
                "holds no private key (-----BEGIN PRIVATE KEY-----), or one with a passphrase".to_owned()
            }
            _ => "is not PEM".to_owned(),
        })
    })?;
    let private = provider.key_provider.load_private_key(private).map_err(|_| {
        key("holds a key that cannot be used: RSA from 2048 bits, ECDSA and Ed25519 can".to_owned())
    })?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(key(format!("is not the key of the certificate in {}", path.display())))
        }
        Err(rustls::Error::InconsistentKeys(_)) | Ok(()) => Ok(certified),
        Err(error) => Err(certificate(format!("holds a certificate that cannot be read: {error}"))),
    }
}

fn text(path: &Path) -> Result<secrecy::zeroize::Zeroizing<Vec<u8>>, String> {
    let read = || {
        let length = fs::metadata(path)?.len();
        if length > MAX_BYTES {
            return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
        }
        fs::read(path)
    };
    read().map(Into::into).map_err(|error| format!("cannot be read: {error}"))
}

/// What tells that a file is another one: device, inode, size, and when it was written.
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

    struct Made {
        dir: tempfile::TempDir,
        files: TlsFiles,
    }

    fn made() -> Made {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: dir.path().join("c.pem"), key: dir.path().join("k.pem") };
        let made = Made { dir, files };
        made.write(&certificate("a.lan"));
        made
    }

    impl Made {
        fn write(&self, (certificate, key): &(String, String)) {
            fs::write(&self.files.certificate, certificate).unwrap();
            fs::write(&self.files.key, key).unwrap();
        }

        fn fault(&self) -> String {
            let error = Certificates::load(self.files.clone()).unwrap_err().to_string();
            error.replace(&format!("{}/", self.dir.path().display()), "")
        }
    }

    fn certificate(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_used() {
        let made = made();
        Certificates::load(made.files.clone()).unwrap().server_config().unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_told_by_file_without_the_key() {
        let made = made();
        let (good, key) = certificate("a.lan");
        let (_, other_key) = certificate("a.lan");
        for (certificate, key, fault) in [
            (good.as_str(), other_key.as_str(), "k.pem is not the key of the certificate in c.pem"),
            ("", &key, "c.pem holds no certificate"),
            (&key, &key, "c.pem holds no certificate"),
            (&good, "", "k.pem holds no private key"),
            (&good, &good, "k.pem holds no private key"),
            (
                &good,
                "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n",
                "k.pem holds a key that cannot",
            ),
            (&good, "-----BEGIN PRIVATE KEY-----\nsecret", "k.pem"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &key,
                "c.pem holds a certificate that cannot be read",
            ),
        ] {
            made.write(&(certificate.to_owned(), key.to_owned()));
            let told = made.fault();
            assert!(told.starts_with(fault), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
        fs::remove_file(&made.files.key).unwrap();
        made.write(&(good, String::new()));
        fs::remove_file(&made.files.key).unwrap();
        assert!(made.fault().starts_with("k.pem cannot be read: No such file"), "{}", made.fault());
    }

    #[test]
    fn a_file_that_was_written_or_replaced_is_another_one() {
        let made = made();
        let before = stamps(&made.files);
        assert_eq!(stamps(&made.files), before);
        let beside = made.dir.path().join("new");
        fs::copy(&made.files.key, &beside).unwrap();
        fs::rename(&beside, &made.files.key).unwrap();
        assert_ne!(stamps(&made.files), before);
        fs::remove_file(&made.files.key).unwrap();
        assert_eq!(stamps(&made.files)[1], None);
    }

    #[test]
    fn a_new_pair_that_cannot_be_used_leaves_the_old_one() {
        let made = made();
        let certificates = Certificates::load(made.files.clone()).unwrap();
        let current = || certificates.current.read().unwrap().cert.clone();
        let before = current();
        fs::write(&made.files.certificate, certificate("b.lan").0).unwrap();
        assert!(certificates.renew().is_err());
        assert_eq!(current(), before);
        made.write(&certificate("b.lan"));
        certificates.renew().unwrap();
        assert_ne!(current(), before);
    }
}
