use super::*;

const EC: &str = include_str!("testdata/ec.crt");
const RSA: &str = include_str!("testdata/rsa.crt");
const EC_SEC1: &str = include_str!("testdata/ec.sec1.key");
const EC_PKCS8: &str = include_str!("testdata/ec.pkcs8.key");
const RSA_PKCS1: &str = include_str!("testdata/rsa.pkcs1.key");
const ENCRYPTED: &str = include_str!("testdata/encrypted.key");

fn pair(certificate: &str, key: &str) -> Result<CertifiedKey, String> {
    identity(certificates(certificate).unwrap(), &private_key(key).unwrap())
}

#[test]
fn a_certificate_tells_whose_it_is_and_until_when() {
    let der = certificates(EC).unwrap();
    let certificate = Certificate::read(&der[0]).unwrap();
    assert_eq!(certificate.subject, "CN=broker.lan,O=Test");
    assert!(certificate.is_self_signed());
    assert_eq!(certificate.names, ["broker.lan", "*.example.org", "192.168.1.20", "fd00::1"]);
    assert!(certificate.not_before < clock::now() && certificate.not_after > clock::now());
    let text = certificate.to_string();
    assert!(text.starts_with("certificate of CN=broker.lan,O=Test, issued by CN="), "{text}");
    let end = text.rsplit_once(' ').unwrap().1;
    assert_eq!(end, date(certificate.not_after));
}

#[test]
fn every_form_of_a_key_is_read_and_belongs_to_its_certificate_alone() {
    for (certificate, key) in [(EC, EC_SEC1), (EC, EC_PKCS8), (RSA, RSA_PKCS1)] {
        pair(certificate, key).unwrap();
    }
    for (certificate, key) in [(RSA, EC_SEC1), (EC, RSA_PKCS1)] {
        assert_eq!(pair(certificate, key).unwrap_err(), "does not belong to client_certificate");
    }
}

#[test]
fn a_chain_may_come_with_its_key_and_with_text_around() {
    let text = format!("subject: me\n{EC}\n{RSA}\n{EC_SEC1}");
    assert_eq!(certificates(&text).unwrap().len(), 2);
    private_key(&text).unwrap();
    assert_eq!(authorities(&text).unwrap().len(), 2);
}

#[test]
fn what_is_no_certificate_or_no_key_says_so_and_shows_nothing() {
    assert!(certificates(EC_SEC1).unwrap_err().contains("holds no certificate"));
    assert!(private_key(EC).unwrap_err().contains("holds no private key"));
    assert!(private_key(ENCRYPTED).unwrap_err().contains("passphrase"));
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(authorities(damaged).unwrap_err().contains("certificate 1"));
    let other = EC_SEC1.replace("EC PRIVATE KEY", "PRIVATE KEY");
    let fault = private_key(&other).unwrap_err();
    assert!(fault.contains("not a key that can be used") && !fault.contains("MHc"), "{fault}");
    assert_eq!(format!("{:?}", private_key(EC_SEC1).unwrap()), "PrivateKey(…)");
}
