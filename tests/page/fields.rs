//! The checks that the form performs while the user types agree with those of the server.

use serde_json::{Value, json};

use crate::helpers::{service, signed_in};

/// Values at and beyond every limit, except those that only the server can check, such as certificates.
fn samples() -> Vec<(&'static str, Value)> {
    let numbers = |field, values: &[u64]| values.iter().map(|n| (field, json!(n))).collect::<Vec<_>>();
    let strings = |field, values: &[&str]| values.iter().map(|t| (field, json!(t))).collect::<Vec<_>>();
    let (long, longer) = ("x".repeat(100), "é".repeat(51));
    let (host, path) = ("h".repeat(256), format!("/{}", "p".repeat(256)));
    let (id, message) = ("i".repeat(129), "m".repeat(257));
    let prefixes = ["a", "home/é", "a+b", "a/#", "/a", "a/", "$a", "a\u{7}b", &long, &longer];
    [
        numbers("broker_port", &[0, 1, 65_535, 65_536]),
        numbers("keep_alive_seconds", &[4, 5, 65_535, 65_536]),
        numbers("connect_timeout_seconds", &[0, 1, 60, 61]),
        numbers("ack_timeout_seconds", &[4, 5, 600, 601]),
        numbers("message_expiry_seconds", &[0, 1, 59, 60, 604_800, 604_801]),
        numbers("late_after_seconds", &[0, 1, 4, 5, 604_800, 604_801]),
        numbers("max_events_per_second", &[0, 1, 1_000_000, 1_000_001]),
        numbers("activity_seconds", &[4, 5, 86_400, 86_401]),
        strings("broker_host", &["", "a.lan", "::1", "[::1]", "a b", "a/b", "mqtt://a", &host[1..], &host]),
        strings("username", &["", "ann", "a\u{1}b"]),
        strings("websocket_path", &["/", "/mqtt?a=b", "mqtt", "/a b", "/é", &path[..256], &path]),
        strings("topic_prefix", &prefixes),
        strings("discovery_prefix", &prefixes),
        strings(
            "availability_topic",
            &["", "a/b", "/a", "a/", "a+", "#", "$SYS", "a\u{1}", &message, &message[1..]],
        ),
        strings("birth_message", &["", "on", &message[1..], &message]),
        strings("will_message", &["", "off", &message[1..], &message]),
        strings("client_id", &["", "a", "a\u{2}", &id[1..], &id]),
    ]
    .concat()
}

const CHECK_SAMPLES: &str = "return import('./page/modules/fields.js').then(({GROUPS}) => { \
    const fields = new Map(GROUPS.flatMap(g => g.fields).map(f => [f.name, f])); \
    return arguments[0].map(([name, value]) => fields.get(name).check(String(value)) === ''); })";

#[tokio::test]
async fn the_form_accepts_exactly_what_the_server_accepts() {
    let service = service().await;
    let browser = signed_in(&service).await;
    let samples = samples();
    let form = browser.run(CHECK_SAMPLES, json!([samples])).await;
    for ((field, value), form) in samples.iter().zip(form.as_array().unwrap()) {
        let answer = service.put("/api/v1/integrations/mqtt/config", &json!({ *field: value })).await;
        let server = answer.status == 200;
        assert_eq!(form, server, "{field} = {value}: {}", answer.body);
    }
}
