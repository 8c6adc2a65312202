//! Reads certificates and keys from PEM, and describes them in messages.

use std::{fmt, net::IpAddr, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SigningKey},
};
use secrecy::zeroize::Zeroize as _;
use x509_cert::{
    TbsCertificate,
    certificate::Version,
    der::{Decode as _, Encode as _, SliceReader},
    ext::pkix::{BasicConstraints, SubjectAltName, name::GeneralName},
    time::Time,
};

use crate::domain::{
    clock::{self, Timestamp},
    pem::{self, Block},
};

/// The label of a certificate in PEM.
const CERTIFICATE: &str = "CERTIFICATE";

/// The contents of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject, such as `CN=broker.lan`.
    pub subject: String,
    /// The subject of the certificate that signed it.
    pub issuer: String,
    /// The names and addresses that it is valid for. Only subject alternative names count.
    pub names: Vec<String>,
    /// The beginning of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads a certificate. Returns `None` if it cannot be read. This does not decide whether the certificate
    /// is trusted; rustls decides that.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        // Trailing bytes are ignored.
        let mut reader = SliceReader::new(der).ok()?;
        let certificate = x509_cert::Certificate::decode(&mut reader).ok()?;
        let tbs = certificate.tbs_certificate();
        let validity = tbs.validity();
        Some(Self {
            subject: tbs.subject().to_string(),
            issuer: tbs.issuer().to_string(),
            names: names(tbs),
            not_before: timestamp(validity.not_before)?,
            not_after: timestamp(validity.not_after)?,
        })
    }

    /// Returns whether subject and issuer have the same name.
    pub fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer, not_after, .. } = self;
        write!(f, "certificate of {subject}, issued by {issuer}, valid until {}", date(*not_after))
    }
}

/// Formats the first or last day of a certificate's validity.
pub fn date(time: Timestamp) -> String {
    time.format("%Y-%m-%d").to_string()
}

fn timestamp(time: Time) -> Option<Timestamp> {
    let micros = i64::try_from(time.to_unix_duration().as_micros()).ok()?;
    Some(clock::from_micros(micros))
}

fn names(tbs: &TbsCertificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = tbs.get_extension::<SubjectAltName>() else {
        return Vec::new();
    };
    let name = |name: GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            v4 if v4.len() == 4 => <[u8; 4]>::try_from(v4).ok().map(|v4| IpAddr::from(v4).to_string()),
            v6 => <[u8; 16]>::try_from(v6).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    };
    names.into_iter().filter_map(name).collect()
}

/// Returns whether a certificate is a CA certificate. X.509 version 1 cannot express this, so such
/// certificates count as CA certificates.
fn is_authority(der: &CertificateDer<'_>) -> bool {
    let certificate =
        SliceReader::new(der).and_then(|mut reader| x509_cert::Certificate::decode(&mut reader));
    let Ok(certificate) = certificate else { return false };
    let tbs = certificate.tbs_certificate();
    match tbs.get_extension::<BasicConstraints>() {
        Ok(Some((_, constraints))) => constraints.ca,
        Ok(None) => tbs.version() == Version::V1,
        Err(_) => false,
    }
}

/// Returns the cryptography provider that all TLS connections use.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Reads the certificates in a PEM string. Fails if there are none, or if any block of the text is something
/// else: a certificate that is silently left out would be missed only when a connection fails. A private key
/// must not be there, because certificates are stored and shown in plain text.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let blocks = pem::blocks(pem)?;
    if let Some(key) = blocks.iter().find(|block| block.is_private_key()) {
        return Err(format!("must not contain a private key (block {} of {})", key.number, blocks.len()));
    }
    chain(&blocks)
}

/// Reads the certificates in the text of a file, which may also contain their private key.
pub fn certificates_in_file(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut blocks = pem::blocks(pem)?;
    blocks.retain(|block| !block.is_private_key() && !block.label.ends_with("PARAMETERS"));
    chain(&blocks)
}

fn chain(blocks: &[Block]) -> Result<Vec<CertificateDer<'static>>, String> {
    if !blocks.iter().any(|block| block.label == CERTIFICATE) {
        return Err("contains no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    let certificate = |block: &Block| {
        let Block { number, label, text } = block;
        if label != CERTIFICATE {
            return Err(format!("must contain only certificates, but block {number} is a {label}"));
        }
        CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| format!("is damaged: the encoding of block {number} cannot be read"))
    };
    blocks.iter().map(certificate).collect()
}

/// Returns whether two PEM strings contain the same certificates in the same order.
pub fn are_same(one: &str, other: &str) -> bool {
    one == other || matches!((certificates(one), certificates(other)), (Ok(one), Ok(other)) if one == other)
}

/// Returns whether the first certificates of two PEM strings are for the same key, as after a renewal.
pub fn have_same_key(one: &str, other: &str) -> bool {
    matches!((public_key(one), public_key(other)), (Some(one), Some(other)) if one == other)
}

/// Returns the public key of the first certificate, in DER.
fn public_key(pem: &str) -> Option<Vec<u8>> {
    let chain = certificates(pem).ok()?;
    let mut reader = SliceReader::new(chain.first()?).ok()?;
    let certificate = x509_cert::Certificate::decode(&mut reader).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}

/// Reads a PEM string into a store that trusts only the authorities in it. Certificates of servers in it are
/// checked, but do not become authorities for others.
pub fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (i, certificate) in certificates(pem)?.into_iter().enumerate() {
        let damaged = |_| format!("is damaged: certificate {} in it cannot be read", i + 1);
        let authority = is_authority(&certificate);
        let target = if authority { &mut roots } else { &mut RootCertStore::empty() };
        target.add(certificate).map_err(damaged)?;
    }
    Ok(roots)
}

const NOT_SUPPORTED: &str = "is not a supported key: RSA (at least 2048 bits), EC (P-256, P-384) or Ed25519";

/// A private key, wiped when it is dropped.
pub struct PrivateKey(PrivateKeyDer<'static>);

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PrivateKey {
    /// Returns the key as `provider` uses it for signatures.
    pub fn signing_key(&self, provider: &CryptoProvider) -> Result<Arc<dyn SigningKey>, String> {
        provider.key_provider.load_private_key(self.0.clone_key()).map_err(|_| NOT_SUPPORTED.to_owned())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// Reads the private key in a PEM string: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), without a passphrase.
pub fn private_key(pem: &str) -> Result<PrivateKey, String> {
    if pem.contains("ENCRYPTED") {
        let command = "openssl pkey -in KEY -out PLAIN";
        return Err(format!("has a passphrase, which is not supported; remove it with `{command}`"));
    }
    let mut keys = pem::blocks(pem)?;
    keys.retain(Block::is_private_key);
    let key = match keys.as_slice() {
        [] => return Err("contains no private key (-----BEGIN PRIVATE KEY-----)".to_owned()),
        [key] => key,
        keys => return Err(format!("contains {} private keys, must contain one", keys.len())),
    };
    let unreadable = |_| format!("is damaged: the encoding of block {} cannot be read", key.number);
    let key = PrivateKey(PrivateKeyDer::from_pem_slice(key.text.as_bytes()).map_err(unreadable)?);
    ring::sign::any_supported_type(&key.0).map_err(|_| NOT_SUPPORTED)?;
    Ok(key)
}

/// Combines our certificate chain with its key. Fails if they do not match.
pub fn identity(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<CertifiedKey, String> {
    let key = ring::sign::any_supported_type(&key.0).map_err(|error| error.to_string())?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        // If the keys cannot be compared, the broker will detect a mismatch.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => Err("does not match client_certificate".to_owned()),
        Err(_) => Err("cannot be used with client_certificate, which is damaged".to_owned()),
    }
}

#[cfg(test)]
mod tests;
