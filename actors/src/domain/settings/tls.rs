//! The settings of the transport to the broker: ports, paths and certificates.

use rustls::pki_types::ServerName;
use secrecy::ExposeSecret as _;

use crate::domain::{
    certificate::{self, Certificate},
    fields::{Faults, bytes_within},
    settings::{
        MqttSettings, SecretUpdate, SettingsUpdate, Transport,
        read::{MAX_PEM_BYTES, MAX_TOPIC_BYTES, host},
    },
};

impl SettingsUpdate {
    /// Checks that a client certificate and its key are present together. `key_is_stored` states whether
    /// there is a stored key, which is used if the update does not contain one.
    pub fn check_client_identity(&self, key_is_stored: bool, faults: &mut Faults) {
        let has_key = match &self.client_key {
            SecretUpdate::Keep => key_is_stored,
            SecretUpdate::Clear => false,
            SecretUpdate::Set(_) => true,
        };
        match (&self.settings.client_certificate, has_key) {
            (Some(_), false) if !faults.has("client_key") => {
                faults.push("client_key", "is required because client_certificate is set");
            }
            (None, true) if !faults.has("client_key") => {
                faults.push(
                    "client_certificate",
                    "is required because client_key is set; set it, or remove the key with null",
                );
            }
            _ => {}
        }
    }
}

/// Returns the port on which brokers usually listen.
pub(super) fn usual_port(transport: Transport, use_tls: bool) -> u16 {
    match (transport, use_tls) {
        (Transport::Tcp, false) => 1883,
        (Transport::Tcp, true) => 8883,
        (Transport::Websocket, false) => 80,
        (Transport::Websocket, true) => 443,
    }
}

/// Checks the client key, and rejects TLS settings while `use_tls` is off: a user who sets a certificate but
/// forgets `use_tls` would send the password in plain text without noticing.
pub(super) fn check(settings: &MqttSettings, client_key: &SecretUpdate, faults: &mut Faults) {
    let key = match client_key {
        SecretUpdate::Set(key) => faults.check("client_key", certificate::private_key(key.expose_secret())),
        SecretUpdate::Keep | SecretUpdate::Clear => None,
    };
    if let (Some(chain), Some(key)) = (&settings.client_certificate, &key) {
        let pair = certificate::certificates(chain).and_then(|chain| certificate::identity(chain, key));
        faults.check("client_key", pair);
    }
    if settings.use_tls {
        return;
    }
    for (field, is_given) in [
        ("ca_certificate", settings.ca_certificate.is_some()),
        ("client_certificate", settings.client_certificate.is_some()),
        ("client_key", matches!(client_key, SecretUpdate::Set(_))),
        ("tls_server_name", settings.tls_server_name.is_some()),
        ("tls_insecure", settings.tls_insecure),
    ] {
        if is_given && !faults.has(field) {
            faults.push(field, "requires use_tls to be true: the connection would not be encrypted");
        }
    }
}

pub(super) fn websocket_path(text: String) -> Result<String, String> {
    let text = bytes_within(text, 1, MAX_TOPIC_BYTES)?;
    // The characters of a path (RFC 3986, section 3.3) and of a query.
    let is_permitted = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%/?".contains(c);
    if !text.starts_with('/') || !text.chars().all(is_permitted) {
        return Err("must be the path of a URL and start with /".to_owned());
    }
    Ok(text)
}

pub(super) fn authorities(text: String) -> Result<String, String> {
    let text = bytes_within(text, 1, MAX_PEM_BYTES)?;
    certificate::authorities(&text).map(|_| text)
}

pub(super) fn certificates(text: String) -> Result<String, String> {
    let text = bytes_within(text, 1, MAX_PEM_BYTES)?;
    let chain = certificate::certificates(&text)?;
    let is_readable = chain.iter().all(|certificate| Certificate::read(certificate).is_some());
    if is_readable { Ok(text) } else { Err("is damaged: a certificate in it cannot be read".to_owned()) }
}

pub(super) fn server_name(text: String) -> Result<String, String> {
    let text = host(text)?;
    if !text.is_empty() && ServerName::try_from(text.as_str()).is_err() {
        return Err("must be a host name or an IP address, as in the certificate".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::fields::Invalid;

    fn read(value: Value) -> Result<SettingsUpdate, Invalid> {
        MqttSettings::read(value, "liveobject-00000000")
    }

    fn fault(value: Value) -> String {
        read(value).unwrap_err().to_string()
    }

    #[test]
    fn the_default_port_depends_on_transport_and_tls() {
        for (value, port) in [
            (json!({}), 1883),
            (json!({"use_tls": true}), 8883),
            (json!({"transport": "websocket"}), 80),
            (json!({"transport": "websocket", "use_tls": true, "broker_port": null}), 443),
            (json!({"use_tls": true, "broker_port": 1883}), 1883),
        ] {
            assert_eq!(read(value).unwrap().settings.broker_port, port);
        }
    }

    const CERTIFICATE: &str = include_str!("../certificate/testdata/ec.crt");
    const KEY: &str = include_str!("../certificate/testdata/ec.sec1.key");
    const OTHER_KEY: &str = include_str!("../certificate/testdata/rsa.pkcs1.key");

    #[test]
    fn an_error_names_the_tls_setting_that_cannot_be_used() {
        let tls = |mut value: Value| {
            value["use_tls"] = json!(true);
            value
        };
        let valid =
            json!({"ca_certificate": CERTIFICATE, "client_certificate": CERTIFICATE, "client_key": KEY});
        read(tls(valid)).unwrap();
        for (value, message) in [
            (
                json!({"ca_certificate": "x"}),
                "ca_certificate: contains no certificate (-----BEGIN CERTIFICATE-----)",
            ),
            (
                json!({"client_certificate": KEY}),
                "client_certificate: must not contain a private key (block 1 of 1)",
            ),
            (json!({"client_key": CERTIFICATE}), "client_key: contains no private key"),
            (
                json!({"client_certificate": CERTIFICATE, "client_key": OTHER_KEY}),
                "client_key: does not match client_certificate",
            ),
            (
                json!({"tls_server_name": "not a name"}),
                "tls_server_name: must be a host name or an IP address",
            ),
            (json!({"tls_server_name": "-.-"}), "tls_server_name: must be a host name or an IP address"),
        ] {
            let fault = fault(tls(value));
            assert!(fault.starts_with(message), "{fault}");
        }
        assert!(fault(json!({"websocket_path": "/mqtt#x"})).starts_with("websocket_path: "));
    }

    #[test]
    fn tls_settings_are_rejected_without_use_tls() {
        for (field, value) in [
            ("ca_certificate", CERTIFICATE.into()),
            ("client_certificate", CERTIFICATE.into()),
            ("client_key", KEY.into()),
            ("tls_server_name", json!("broker.lan")),
            ("tls_insecure", json!(true)),
        ] {
            let fault = fault(json!({ field: value }));
            assert_eq!(
                fault,
                format!("{field}: requires use_tls to be true: the connection would not be encrypted")
            );
        }
    }

    #[test]
    fn a_client_certificate_and_its_key_require_each_other() {
        let faults = |value, stored| {
            let mut faults = Faults::default();
            read(value).unwrap().check_client_identity(stored, &mut faults);
            faults.finish().map_err(|Invalid(faults)| faults[0].field.clone())
        };
        let certificate = || json!({"use_tls": true, "client_certificate": CERTIFICATE});
        assert_eq!(faults(certificate(), true), Ok(()));
        assert_eq!(faults(certificate(), false), Err("client_key".to_owned()));
        let mut cleared = certificate();
        cleared["client_key"] = Value::Null;
        assert_eq!(faults(cleared, true), Err("client_key".to_owned()));
        let key = json!({"use_tls": true, "client_key": KEY});
        assert_eq!(faults(key, false), Err("client_certificate".to_owned()));
        assert_eq!(faults(json!({"use_tls": true}), true), Err("client_certificate".to_owned()));
        assert_eq!(faults(json!({}), false), Ok(()));
    }
}
