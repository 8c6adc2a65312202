//! Settings that are read, compared and refused.

use serde_json::{Value, json};

use super::*;

fn read(value: Value) -> Result<SettingsUpdate, Invalid> {
    MqttSettings::read(value, "liveobject-00000000")
}

fn fault(value: Value) -> String {
    read(value).unwrap_err().to_string()
}

#[test]
fn an_empty_object_means_the_defaults() {
    let update = read(json!({})).unwrap();
    let defaults = MqttSettings::defaults("liveobject-00000000");
    assert_eq!(serde_json::to_value(&update.settings).unwrap(), serde_json::to_value(&defaults).unwrap());
    assert!(matches!(update.password, SecretUpdate::Keep));
}

#[test]
fn a_response_can_be_sent_back() {
    let defaults = MqttSettings::defaults("liveobject-00000000");
    let settings = serde_json::to_value(&defaults).unwrap();
    let mut response = settings.clone();
    for field in MqttSettings::READ_ONLY {
        response[field] = json!(true);
    }
    let read_back = read(response).unwrap().settings;
    assert_eq!(serde_json::to_value(&read_back).unwrap(), settings);
}

#[test]
fn every_setting_is_in_the_list_of_fields() {
    let defaults = serde_json::to_value(MqttSettings::defaults("x")).unwrap();
    let mut written: Vec<_> = defaults.as_object().unwrap().keys().cloned().collect();
    written.extend(["password".to_owned(), "client_key".to_owned()]);
    written.sort();
    let mut listed = MqttSettings::FIELDS.map(str::to_owned).to_vec();
    listed.sort();
    assert_eq!(written, listed);
}

#[test]
fn each_bound_has_a_clear_error() {
    for (value, message) in [
        (json!({"qos": 3}), "qos: 3 is not a whole number from 0 to 2"),
        (json!({"broker_port": 0}), "broker_port: 0 is not a whole number from 1 to 65535"),
        (json!({"topic_prefix": "a/#"}), "topic_prefix: must not contain '#'"),
        (json!({"topic_prefix": "$a"}), "topic_prefix: must not start with $"),
        (json!({"keep_alive_seconds": 4}), "keep_alive_seconds: 4 is not a whole number from 5 to 65535"),
        (
            json!({"message_expiry_seconds": 59}),
            "message_expiry_seconds: 59 is neither 0 nor a whole number from 60 to 604800",
        ),
        (json!({"enabled": true}), "broker_host: must not be empty while enabled is true"),
        (
            json!({"broker_host": "mqtt://x"}),
            "broker_host: must be a host name or an IP address, without mqtt://",
        ),
        (
            json!({"broker_host": "broker.lan:1883"}),
            "broker_host: must be a host name or an IP address, without a port: \
             the port belongs in broker_port",
        ),
        (
            json!({"broker_host": "\"broker.lan\""}),
            "broker_host: must be a host name or an IP address, without quotation marks",
        ),
        (
            json!({"broker_host": "me@broker.lan"}),
            "broker_host: must be a host name or an IP address, without @: \
             the user name belongs in username",
        ),
        (json!({"topic_prefix": "\"cams\""}), "topic_prefix: must not start or end with a quotation mark"),
        (json!({"birth_message": "on\u{0}"}), "birth_message: must not contain control characters"),
        (json!({"colour": 1}), "colour: unknown field"),
        (json!({"protocol": "4"}), "protocol: must be \"auto\", \"5\" or \"3.1.1\""),
    ] {
        assert_eq!(fault(value), message);
    }
}

#[test]
fn a_host_is_a_name_or_an_address_and_nothing_else() {
    for (text, host) in [
        ("broker", "broker"),
        (" homeassistant.local ", "homeassistant.local"),
        ("core_mosquitto", "core_mosquitto"),
        ("bücher.example", "bücher.example"),
        ("192.168.1.20", "192.168.1.20"),
        ("::1", "::1"),
        ("[fd00::1]", "fd00::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
    ] {
        assert_eq!(super::read::host(text.to_owned()).as_deref(), Ok(host), "{text}");
    }
    for text in [
        "broker:1883",
        "[::1]:1883",
        "192.168.1.20:8883",
        "broker:",
        "::1:x",
        "[broker]",
        "[::1",
        "a,b",
        "a b",
        "a/b",
        "'broker'",
        "“broker”",
        "`broker`",
        "tcp://broker",
        "u:p@broker",
        "a\u{0}b",
        "broker?",
        "<broker>",
    ] {
        assert!(super::read::host(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn a_password_is_kept_cleared_or_set() {
    let stored = || Some(SecretString::from("old"));
    let after = |value| {
        let password = read(value).unwrap().password.apply(stored());
        password.map(|s| s.expose_secret().to_owned())
    };
    assert_eq!(after(json!({})).as_deref(), Some("old"));
    assert_eq!(after(json!({"password": null})), None);
    assert_eq!(after(json!({"password": "new"})).as_deref(), Some("new"));
}

#[test]
fn an_invalid_password_is_not_repeated_in_the_error() {
    let long = "s3cret".repeat(20_000);
    assert!(!fault(json!({"password": long})).contains("s3cret"));
}

#[test]
fn secrets_are_neither_printed_nor_serialized() {
    let mut settings = MqttSettings::defaults("x");
    settings.password = Some(SecretString::from("hunter2"));
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&settings).unwrap().contains("hunter2"));
}

#[test]
fn a_change_of_broker_outranks_one_of_topics_and_the_host_name_ignores_case() {
    let change = |broker_host: &str, broker_port, prefix| {
        let old = MqttSettings { broker_host: "broker".to_owned(), ..MqttSettings::defaults("c") };
        let new = MqttSettings {
            broker_host: broker_host.to_owned(),
            broker_port,
            topic_prefix: TopicPrefix::parse(prefix).unwrap(),
            qos: QoS::ExactlyOnce,
            ..old.clone()
        };
        old.change_to(&new, &["wait_for_subscribers", "qos"])
    };
    assert_eq!(change("BROKER", 1883, "liveobject"), SettingsChange::Other);
    assert_eq!(change("broker", 1883, "house"), SettingsChange::Topics);
    assert_eq!(change("other", 1883, "house"), SettingsChange::Broker);
    assert_eq!(change("broker", 1884, "liveobject"), SettingsChange::Broker);
}

#[test]
fn a_change_that_needs_no_new_connection_is_recognized() {
    let old = MqttSettings::defaults("c");
    let new = MqttSettings { wait_for_subscribers: false, ..old.clone() };
    assert_eq!(old.change_to(&new, &["wait_for_subscribers"]), SettingsChange::Outbox);
    assert_eq!(old.change_to(&new, &["wait_for_subscribers", "password"]), SettingsChange::Other);
    assert_eq!(old.change_to(&old, &[]), SettingsChange::Other, "saving again connects again");
}
