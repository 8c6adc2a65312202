use super::*;

const EC: &str = include_str!("testdata/ec.crt");
/// Another certificate for the key of `EC`.
const EC_RENEWED: &str = include_str!("testdata/ec.renewed.crt");
const RSA: &str = include_str!("testdata/rsa.crt");
const EC_SEC1: &str = include_str!("testdata/ec.sec1.key");
const EC_PKCS8: &str = include_str!("testdata/ec.pkcs8.key");
const RSA_PKCS1: &str = include_str!("testdata/rsa.pkcs1.key");
const ENCRYPTED: &str = include_str!("testdata/encrypted.key");

fn pair(certificate: &str, key: &str) -> Result<CertifiedKey, String> {
    identity(certificates(certificate).unwrap(), &private_key(key).unwrap())
}

#[test]
fn a_certificate_is_read_with_its_names_and_validity() {
    let der = certificates(EC).unwrap();
    let certificate = Certificate::read(&der[0]).unwrap();
    assert_eq!(certificate.subject, "CN=broker.lan,O=Test");
    assert!(certificate.is_self_signed());
    assert_eq!(certificate.names, ["broker.lan", "*.example.org", "192.168.1.20", "fd00::1"]);
    assert!(certificate.not_before < clock::now() && certificate.not_after > clock::now());
    let text = certificate.to_string();
    assert!(text.starts_with("certificate of CN=broker.lan,O=Test, issued by CN="), "{text}");
    let last_day = text.rsplit_once(' ').unwrap().1;
    assert_eq!(last_day, date(certificate.not_after));
}

#[test]
fn every_key_format_is_read_and_matches_only_its_own_certificate() {
    for (certificate, key) in [(EC, EC_SEC1), (EC, EC_PKCS8), (RSA, RSA_PKCS1)] {
        pair(certificate, key).unwrap();
    }
    for (certificate, key) in [(RSA, EC_SEC1), (EC, RSA_PKCS1)] {
        assert_eq!(pair(certificate, key).unwrap_err(), "does not match client_certificate");
    }
}

#[test]
fn a_file_may_contain_a_chain_a_key_and_other_text() {
    let text = format!("subject: me\n{EC}\n{RSA}\n{EC_SEC1}");
    assert_eq!(certificates_in_file(&text).unwrap().len(), 2);
    private_key(&text).unwrap();
}

#[test]
fn certificates_and_keys_are_read_however_they_were_pasted() {
    let pasted = |pem: &str| {
        [
            format!("\u{feff}{pem}"),
            pem.replace('\n', "\r\n"),
            pem.replace('\n', "\\n"),
            pem.replace('\n', "\n        "),
        ]
    };
    for (one, other) in pasted(EC).iter().zip(pasted(RSA)) {
        assert_eq!(authorities(&format!("{one}{other}")).unwrap().len(), 2);
        assert!(are_same(one, EC) && !are_same(one, &other));
    }
    for key in pasted(EC_SEC1) {
        pair(EC, &key).unwrap();
    }
}

#[test]
fn a_block_of_a_bundle_that_is_not_a_certificate_is_named() {
    let trusted = RSA.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    for (odd, message) in [
        (EC_SEC1.to_owned(), "must not contain a private key (block 2 of 3)"),
        (trusted, "must contain only certificates, but block 2 is a TRUSTED CERTIFICATE"),
        (RSA.replace("-----END", "END"), "is damaged: block 2 of 3 is incomplete"),
        (RSA.replacen("MII", "MI*", 1), "is damaged: block 2 of 3 is incomplete"),
        (RSA.replacen("MII", "MIIA", 1), "is damaged: the encoding of block 2 cannot be read"),
    ] {
        assert_eq!(certificates(&format!("{EC}{odd}{EC}")).unwrap_err(), message);
    }
}

#[test]
fn a_key_must_be_the_only_one() {
    assert_eq!(private_key(&EC_SEC1.repeat(2)).unwrap_err(), "contains 2 private keys, must contain one");
}

#[test]
fn a_renewed_certificate_has_the_same_key() {
    assert!(!are_same(EC, EC_RENEWED) && have_same_key(EC, EC_RENEWED));
    assert!(!have_same_key(EC, RSA));
}

#[test]
fn errors_describe_what_is_wrong_and_reveal_no_key() {
    assert!(certificates("x").unwrap_err().contains("contains no certificate"));
    assert!(certificates_in_file(EC_SEC1).unwrap_err().contains("contains no certificate"));
    assert!(private_key(EC).unwrap_err().contains("contains no private key"));
    assert!(private_key(ENCRYPTED).unwrap_err().contains("passphrase"));
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(authorities(damaged).unwrap_err().contains("certificate 1"));
    let other = EC_SEC1.replace("EC PRIVATE KEY", "PRIVATE KEY");
    let fault = private_key(&other).unwrap_err();
    assert!(fault.contains("not a supported key") && !fault.contains("MHc"), "{fault}");
    assert_eq!(format!("{:?}", private_key(EC_SEC1).unwrap()), "PrivateKey(…)");
}
