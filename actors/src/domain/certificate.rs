//! Certificates and keys: as people give them (PEM), and as people are told of them. Pure.

use std::{fmt, net::IpAddr, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use secrecy::zeroize::Zeroize as _;
use x509_cert::{
    TbsCertificate,
    der::{Decode as _, SliceReader},
    ext::pkix::{SubjectAltName, name::GeneralName},
    time::Time,
};

use crate::domain::clock::{self, Timestamp};

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, such as `CN=broker.lan`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The names and addresses that it is good for (subject alternative names; nothing else counts).
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads it; `None` when it is not one that can be read, which decides nothing: whether a certificate is trusted is
    /// rustls's word.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        // Only the signed part: what follows it is for machines.
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

    /// Whether it vouches for itself, as far as the names tell.
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

/// The day of a certificate's end or beginning, as people write it.
pub fn date(at: Timestamp) -> String {
    at.format("%Y-%m-%d").to_string()
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

/// The cryptography that all TLS here uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates in a PEM text, at least one.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = read.map_err(|_| "is damaged: its PEM text cannot be read".to_owned())?;
    if found.is_empty() {
        return Err("holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(found)
}

/// The authorities in a PEM text, and nobody else.
pub fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (i, certificate) in certificates(pem)?.into_iter().enumerate() {
        let damaged = |_| format!("is damaged: certificate {} in it cannot be read", i + 1);
        roots.add(certificate).map_err(damaged)?;
    }
    Ok(roots)
}

/// A private key, wiped when it is dropped.
pub struct PrivateKey(PrivateKeyDer<'static>);

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// The private key in a PEM text: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), without a passphrase.
pub fn private_key(pem: &str) -> Result<PrivateKey, String> {
    if pem.contains("ENCRYPTED") {
        let how = "openssl pkey -in KEY -out PLAIN";
        return Err(format!("has a passphrase, which cannot be entered here: take it off ({how})"));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "holds no private key (-----BEGIN PRIVATE KEY-----)".to_owned())?;
    let key = PrivateKey(key);
    ring::sign::any_supported_type(&key.0)
        .map_err(|_| "is not a key that can be used: RSA (2048 bits and more), EC (P-256, P-384), Ed25519")?;
    Ok(key)
}

/// Our certificate with its chain, and its key: only if they belong together.
pub fn identity(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<CertifiedKey, String> {
    let key = ring::sign::any_supported_type(&key.0).map_err(|error| error.to_string())?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        // A kind of key that cannot be compared shows at the broker.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => Err("does not belong to client_certificate".to_owned()),
        Err(_) => Err("cannot be used with client_certificate: that is damaged".to_owned()),
    }
}

#[cfg(test)]
mod tests;
