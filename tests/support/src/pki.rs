//! Certificates for the brokers of tests: an authority of the test's own, what it issues, and what is wrong on purpose.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// A certificate (with its chain) and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key: PKCS#8.
    pub key: String,
}

/// What a certificate is to be like.
#[derive(Clone, Debug)]
pub struct Order {
    subject: String,
    names: Vec<String>,
    from: Duration,
    until: Duration,
    purpose: ExtendedKeyUsagePurpose,
    is_authority: bool,
}

impl Order {
    /// A server's, for these names and addresses; valid from yesterday, for a year.
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

    /// A client's.
    #[must_use]
    pub fn client(name: &str) -> Self {
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        Self { subject: name.to_owned(), purpose, ..Self::server(&[]) }
    }

    /// Valid from so many days after now until so many days after now; negative: before.
    #[must_use]
    pub fn valid(mut self, from: i64, until: i64) -> Self {
        // An hour more than whole days: whoever counts days counts as many.
        (self.from, self.until) = (Duration::days(from), Duration::days(until) + Duration::HOUR);
        self
    }

    /// Marked as an authority's, as `openssl req -x509` does without being asked.
    #[must_use]
    pub fn authority(mut self) -> Self {
        self.is_authority = true;
        self
    }

    /// Signed by itself.
    #[must_use]
    pub fn self_signed(self) -> Identity {
        let key = key();
        let certificate = self.params().self_signed(&key).expect("a certificate can be made");
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

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// What has to come with what it issues: itself, when it is not the root.
    chain: String,
}

impl Authority {
    /// One that signs itself.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (key, params) = (key(), authority(name));
        let pem = params.self_signed(&key).expect("a certificate can be made").pem();
        Self { issuer: Issuer::new(params, key), pem, chain: String::new() }
    }

    /// One below this one.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Self {
        let (key, params) = (key(), authority(name));
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate can be made").pem();
        Self { issuer: Issuer::new(params, key), chain: pem.clone() + &self.chain, pem }
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate to order.
    #[must_use]
    pub fn issue(&self, order: &Order) -> Identity {
        let key = key();
        self.certify(order, &key)
    }

    /// The same for a key that is there: PKCS#8, as PEM.
    ///
    /// # Panics
    ///
    /// When it is not a key.
    #[must_use]
    pub fn issue_for(&self, order: &Order, key: &str) -> Identity {
        self.certify(order, &KeyPair::from_pem(key).expect("a key"))
    }

    fn certify(&self, order: &Order, key: &KeyPair) -> Identity {
        let certificate = order.params().signed_by(key, &self.issuer).expect("a certificate can be made");
        Identity { certificate: certificate.pem() + &self.chain, key: key.serialize_pem() }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
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
