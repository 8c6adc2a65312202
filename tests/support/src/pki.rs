//! Certificates for test brokers: a private certificate authority, the certificates that it issues, and
//! deliberate faults.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// A certificate (with its chain) and its private key, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate chain.
    pub certificate: String,
    /// The private key in PKCS#8 format.
    pub key: String,
}

/// The properties of a certificate to create.
#[derive(Clone, Debug)]
pub struct CertificateSpec {
    subject: String,
    names: Vec<String>,
    from: Duration,
    until: Duration,
    purpose: ExtendedKeyUsagePurpose,
    is_authority: bool,
}

impl CertificateSpec {
    /// Describes a server certificate for these names and addresses, valid from yesterday for a year.
    #[must_use]
    pub fn server(names: &[&str]) -> Self {
        Self {
            subject: "Test broker".to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            from: -Duration::DAY,
            until: Duration::days(365),
            purpose: ExtendedKeyUsagePurpose::ServerAuth,
            is_authority: false,
        }
    }

    /// Describes a client certificate.
    #[must_use]
    pub fn client(name: &str) -> Self {
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        Self { subject: name.to_owned(), purpose, ..Self::server(&[]) }
    }

    /// Sets the subject's common name.
    #[must_use]
    pub fn named(mut self, subject: &str) -> Self {
        subject.clone_into(&mut self.subject);
        self
    }

    /// Sets the validity period in days relative to now. Negative values are in the past.
    #[must_use]
    pub fn valid(mut self, from: i64, until: i64) -> Self {
        // One extra hour, so that a count of whole days does not round down.
        (self.from, self.until) = (Duration::days(from), Duration::days(until) + Duration::HOUR);
        self
    }

    /// Marks the certificate as a CA certificate, as `openssl req -x509` does by default.
    #[must_use]
    pub fn authority(mut self) -> Self {
        self.is_authority = true;
        self
    }

    /// Creates a self-signed certificate.
    #[must_use]
    pub fn self_signed(self) -> Identity {
        let key = key();
        let certificate = self.params().self_signed(&key).expect("a certificate can be created");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn params(&self) -> CertificateParams {
        let mut params = params(&self.subject, &self.names);
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now + self.from, now + self.until);
        params.extended_key_usages = vec![self.purpose.clone()];
        if self.is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// The chain to include in issued certificates: this certificate, unless it is the root.
    chain: String,
}

impl Authority {
    /// Creates a self-signed root authority.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (key, params) = (key(), authority(name));
        let pem = params.self_signed(&key).expect("a certificate can be created").pem();
        Self { issuer: Issuer::new(params, key), pem, chain: String::new() }
    }

    /// Creates an intermediate authority below this one.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Self {
        let (key, params) = (key(), authority(name));
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate can be created").pem();
        Self { issuer: Issuer::new(params, key), chain: pem.clone() + &self.chain, pem }
    }

    /// Uses a certificate with this common name, and its key, as an authority, even if it is none.
    ///
    /// # Panics
    ///
    /// Panics if the key cannot be read.
    #[must_use]
    pub fn pretended(name: &str, identity: &Identity) -> Self {
        let key = KeyPair::from_pem(&identity.key).expect("a key");
        let pem = identity.certificate.clone();
        Self { issuer: Issuer::new(params(name, &[]), key), chain: String::new(), pem }
    }

    /// Returns the authority's certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate with a new key.
    #[must_use]
    pub fn issue(&self, spec: &CertificateSpec) -> Identity {
        let key = key();
        self.certify(spec, &key)
    }

    /// Issues a certificate for an existing key (PKCS#8, as PEM).
    ///
    /// # Panics
    ///
    /// Panics if `key` is not a private key.
    #[must_use]
    pub fn issue_for(&self, spec: &CertificateSpec, key: &str) -> Identity {
        self.certify(spec, &KeyPair::from_pem(key).expect("a key"))
    }

    fn certify(&self, spec: &CertificateSpec, key: &KeyPair) -> Identity {
        let certificate = spec.params().signed_by(key, &self.issuer).expect("a certificate can be created");
        Identity { certificate: certificate.pem() + &self.chain, key: key.serialize_pem() }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be created")
}

fn params(subject: &str, names: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("names of servers");
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
