//! The log: which lines it contains, and that it never contains secrets.

use std::{fs, path::Path};

use liveobject_test_support::{Mosquitto, Service, Subscriber, api::MQTT};
use serde_json::{Value, json};

use crate::helpers::{
    EVENTS, TIMEOUT, connect, event, fails_with, logged, service, settings, wait_for_event,
};

const PASSWORD: &str = "Correct-Horse-7291-Battery";
const WRONG: &str = "Staple-4482-Incorrect-Horse";

fn messages(service: &Service, level: &str) -> Vec<String> {
    logged(service, level)
        .iter()
        .map(|line| line["message"].as_str().expect("a message").to_owned())
        .collect()
}

#[tokio::test]
async fn a_healthy_run_logs_connections_and_disconnections_but_no_warning() {
    let broker = Mosquitto::start().await;
    let subscriber = Subscriber::start(broker.port()).await;
    let mut service = service().start().await;
    connect(&service, broker.port(), &json!({})).await;
    let _ = service.post_event(&event("a")).await.expect(202);
    wait_for_event(&subscriber, "a").await;
    let _ = service.post(&format!("{MQTT}/test"), &Value::Null).await.expect(200);
    let _ = service.post(&format!("{MQTT}/test-message"), &json!({})).await.expect(200);
    connect(&service, broker.port(), &json!({ "qos": 2 })).await;
    let _ = service.post_event(&event("b")).await.expect(202);
    wait_for_event(&subscriber, "b").await;
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    assert_eq!(logged(&service, "WARN"), Vec::<Value>::new());
    assert_eq!(logged(&service, "ERROR"), Vec::<Value>::new());
    let logged_texts = messages(&service, "INFO");
    let count = |text: &str| logged_texts.iter().filter(|message| message.starts_with(text)).count();
    assert_eq!(
        (count("connected"), count("disconnected"), count("settings changed")),
        (2, 2, 2),
        "{logged_texts:?}"
    );
    assert!(
        logged_texts.iter().all(|message| !message.contains("event sent")),
        "sent events are logged at DEBUG: {logged_texts:?}"
    );
}

#[tokio::test]
async fn failures_are_logged_as_warnings() {
    let mut broker = Mosquitto::builder().user("camera", PASSWORD).start().await;
    let service = service().start().await;
    let login = |password: &str| json!({ "username": "camera", "password": password });
    fails_with(&service, &settings(broker.port(), &login(WRONG)), "not_authorized").await;
    connect(&service, broker.port(), &login(PASSWORD)).await;
    broker.stop().await;
    service.wait_status("disconnected", TIMEOUT, |status| status["connected"] == false).await;
    let warned = messages(&service, "WARN");
    assert!(warned.len() >= 2, "{warned:?}");
    let last =
        warned.iter().rposition(|message| message == "disconnected").expect("the disconnection is logged");
    assert!(warned.iter().take(last).all(|message| message == "connection attempt failed"), "{warned:?}");
    assert_eq!(logged(&service, "ERROR"), Vec::<Value>::new());
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory can be read");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn passwords_never_appear_in_logs_files_or_responses() {
    let mut broker = Mosquitto::builder().user("camera", PASSWORD).start().await;
    let mut service = service().env("LIVEOBJECT__LOG__FILTER", "trace,actix_http=trace").start().await;
    let login =
        |password: &str| settings(broker.port(), &json!({ "username": "camera", "password": password }));
    let mut responses = Vec::new();
    for password in [WRONG, PASSWORD] {
        responses.push(service.post(&format!("{MQTT}/test"), &login(password)).await.body);
        responses.push(service.put_config(&login(password)).await.body);
        responses.push(service.get(&format!("{MQTT}/config")).await.body);
        let tried = |status: &Value| status["connected"] == true || !status["last_error"].is_null();
        responses.push(service.wait_status("an outcome", TIMEOUT, tried).await);
    }
    service.wait_connected(TIMEOUT).await;
    assert_eq!(responses[2]["has_password"], true);
    let mut invalid = login(PASSWORD);
    invalid["password"] = json!([PASSWORD]);
    invalid["username"] = json!(7);
    responses.push(service.put_config(&invalid).await.expect(422));
    let _ = service.post_event(&event("a")).await.expect(202);
    service.wait_until_delivered("a", TIMEOUT).await;
    let settings = login(PASSWORD);
    broker.stop().await;
    responses.push(service.wait_status("lost", TIMEOUT, |status| status["connected"] == false).await);
    responses.push(service.post(&format!("{MQTT}/test"), &settings).await.body);
    for path in ["/metrics", EVENTS, "/openapi.json", "/health/ready"] {
        responses.push(service.get(path).await.body);
    }
    let mut on_disk = Vec::new();
    for path in files(service.data_dir()) {
        on_disk.push((path.clone(), fs::read(&path).expect("the service's files can be read")));
    }
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    for path in files(service.data_dir()) {
        on_disk.push((path.clone(), fs::read(&path).expect("the service's files can be read")));
    }
    assert!(on_disk.iter().any(|(path, _)| path.ends_with("liveobject.db")), "{on_disk:?}");
    assert!(service.log_text().contains("TRACE"), "everything is logged");
    for secret in [PASSWORD, WRONG] {
        assert!(!service.log_text().contains(secret), "in the log");
        assert!(!service.stdout_text().contains(secret), "on standard output");
        for response in &responses {
            assert!(!response.to_string().contains(secret), "in the response {response}");
        }
        for (path, bytes) in &on_disk {
            assert!(!contains(bytes, secret), "in {}", path.display());
        }
    }
}
