//! Property tests of the two parsers of external input, events and settings: they never panic, and values
//! that they accept are the same after a round trip.

use proptest::{collection::vec, option, prelude::*, sample::select};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};

use crate::domain::{
    camera::Camera,
    clock::{self, Moment},
    event::{DetectionEvent, EventInput},
    ids::Seq,
    settings::{MqttSettings, SecretUpdate, SettingsUpdate},
};

/// Any JSON value.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4).prop_map(|pairs| Value::from(Map::from_iter(pairs))),
        ]
    })
}

fn texts() -> impl Strategy<Value = Value> {
    let special = select(vec![
        "",
        " ",
        "a",
        "front_door",
        "a/b",
        "..",
        "[::1]",
        "[",
        "http://a",
        " broker.lan ",
        "x\u{0}",
        "ü",
        "\u{202e}",
        "auto",
        "5",
        "3.1.1",
        "tcp",
        "websocket",
        "/mqtt",
        "device",
        "component",
        "a+b",
        "$SYS",
        "home/a",
        "/a",
        "-----BEGIN CERTIFICATE-----",
    ]);
    let lengths = select(vec![1_usize, 63, 64, 65, 100, 101, 128, 129, 255, 256, 257, 4096, 4097]);
    prop_oneof![
        4 => special.prop_map(Value::from),
        1 => lengths.clone().prop_map(|n| Value::from("ü".repeat(n / 2) + &"x".repeat(n % 2))),
        1 => lengths.prop_map(|n| Value::from("x".repeat(n))),
        2 => "[ -~]{0,12}".prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
    ]
}

fn times() -> impl Strategy<Value = Value> {
    let special = select(vec![
        "2026-05-01T12:00:00Z",
        "2026-05-01T14:30:00.123456789+02:00",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.9999999Z",
        "9999-12-31T23:59:59-23:59",
        "2016-12-31T23:59:60Z",
        "2016-12-31T23:59:60.5-08:00",
        "2026-02-30T00:00:00Z",
        "2026-05-01 12:00:00Z",
        "2026-05-01T24:00:00Z",
        "+10000-01-01T00:00:00Z",
    ]);
    prop_oneof![
        special.prop_map(Value::from),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:00:00[+-][0-2][0-9]:00".prop_map(Value::from)
    ]
}

fn numbers() -> impl Strategy<Value = Value> {
    let special = vec![-1_i64, 0, 1, 2, 3, 4, 5, 59, 60, 100, 101, 600, 601, 65535, 65536, 604_800, 604_801];
    prop_oneof![select(special).prop_map(Value::from), any::<i64>().prop_map(Value::from)]
}

/// Values for the field of this name, most of them at or near a bound.
fn plausible_value(field: &'static str) -> BoxedStrategy<Value> {
    let defaults = serde_json::to_value(MqttSettings::defaults("c")).unwrap();
    let flags = ["is_doorbell_ring", "low_confidence"];
    if field == "timestamp" {
        times().boxed()
    } else if field == "objects_detected" {
        vec(select(vec!["person", "package", "", "ü"]), 0..66).prop_map(Value::from).boxed()
    } else if flags.contains(&field) || defaults[field].is_boolean() {
        any::<bool>().prop_map(Value::from).boxed()
    } else if field.ends_with("confidence") || defaults[field].is_number() {
        numbers().boxed()
    } else {
        texts().boxed()
    }
}

/// An object with some of these fields. Most values are plausible, some are arbitrary, and some fields are
/// unknown.
fn object(fields: &'static [&'static str], required: Value) -> impl Strategy<Value = Value> {
    let field = select(fields).prop_flat_map(|name| {
        let value = prop_oneof![15 => plausible_value(name), 1 => any_json()];
        value.prop_map(move |value| (name.to_owned(), value))
    });
    (vec(field, 0..6), option::weighted(0.02, any::<String>())).prop_map(move |(some, unknown)| {
        let mut object = required.as_object().cloned().unwrap_or_default();
        object.extend(some);
        object.extend(unknown.map(|name| (name, Value::Null)));
        Value::Object(object)
    })
}

fn payload(event: &DetectionEvent) -> Value {
    let camera = Camera::new(event.camera_id().clone(), Moment::at(clock::from_micros(0)));
    serde_json::from_slice(&event.payload(&camera, Seq(7), "http://here")).unwrap()
}

/// The input that results in this payload.
fn as_input(mut payload: Value) -> Value {
    payload.as_object_mut().unwrap().retain(|name, _| EventInput::FIELDS.contains(&name.as_str()));
    payload
}

fn secret(update: &SecretUpdate) -> Option<&str> {
    match update {
        SecretUpdate::Set(secret) => Some(secret.expose_secret()),
        SecretUpdate::Keep | SecretUpdate::Clear => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_accepted_or_rejected_with_a_list_of_faults(value in any_json()) {
        for faults in [
            DetectionEvent::from_json(value.clone()).err(),
            MqttSettings::read(value, "c").err(),
        ] {
            prop_assert!(faults.is_none_or(|faults| !faults.0.is_empty()));
        }
    }

    #[test]
    fn the_payload_of_an_event_is_the_same_after_a_round_trip(
        input in object(&EventInput::FIELDS, json!({"event_id": "e", "camera_id": "door", "description": "x"})),
    ) {
        let Ok(event) = DetectionEvent::from_json(input) else { return Ok(()) };
        let published = payload(&event);
        let again = DetectionEvent::from_json(as_input(published.clone()));
        prop_assert_eq!(payload(&again.unwrap()), published);
    }

    #[test]
    fn settings_are_the_same_after_a_round_trip(
        input in object(&MqttSettings::FIELDS, json!({"broker_host": "broker.lan"})),
    ) {
        let Ok(update) = MqttSettings::read(input, "c") else { return Ok(()) };
        let SettingsUpdate { settings, password, client_key } = update;
        let mut stored = serde_json::to_value(&settings).unwrap();
        for (name, update) in [("password", &password), ("client_key", &client_key)] {
            if let Some(text) = secret(update) {
                stored[name] = text.into();
            }
        }
        let again = MqttSettings::read(stored, "other").unwrap();
        prop_assert_eq!(serde_json::to_value(&again.settings).unwrap(), serde_json::to_value(&settings).unwrap());
        prop_assert_eq!(secret(&again.password), secret(&password));
        prop_assert_eq!(secret(&again.client_key), secret(&client_key));
    }
}
