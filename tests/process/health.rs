//! `liveobject health`: whether the running service accepts events, and the JSON output of the commands.

use std::{fs, net::Ipv4Addr};

use liveobject_test_support::{Service, free_port, wait_until};
use serde_json::{Value, json};

use crate::helpers::{Pair, TIMEOUT, names, service, stop};

/// Returns the exit code of `health` and what it prints.
async fn health(service: &Service) -> (i32, String) {
    let finished = service.run(&["health"]).await;
    assert_eq!(finished.stderr, "");
    (finished.code, finished.stdout)
}

#[tokio::test]
async fn health_reports_a_service_that_accepts_events() {
    let mut service = service().start().await;
    assert_eq!(health(&service).await, (0, "the service accepts events\n".to_owned()));
    let finished = service.run(&["health", "--json"]).await;
    let reported: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((finished.code, &reported["ready"]), (0, &json!(true)));
    stop(&mut service).await;
    let (code, text) = health(&service).await;
    let expected = format!(
        "cannot query the service: no response from 127.0.0.1:{}: Connection refused",
        service.port()
    );
    assert!(code == 1 && text.starts_with(&expected), "{text}");
}

#[tokio::test]
async fn health_reports_why_events_are_not_accepted() {
    let service = service().start().await;
    let database = service.data_dir().join("liveobject.db");
    fs::rename(&database, service.data_dir().join("moved")).expect("the file can be moved");
    let is_unready = async || health(&service).await.0 == 1;
    wait_until("the service notices that the database is gone", TIMEOUT, is_unready).await;
    let finished = service.run(&["health", "--json"]).await;
    let reported: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let message = reported["message"].as_str().expect("a message");
    assert_eq!((finished.code, &reported["ready"]), (1, &json!(false)));
    assert!(message.starts_with("the service does not accept events: the database"), "{message}");
}

#[tokio::test]
async fn health_asks_a_service_on_all_addresses_over_loopback() {
    for address in ["0.0.0.0", "[::]"] {
        let bind = format!("{address}:{}", free_port());
        let service = service().env("LIVEOBJECT__HTTP__BIND", bind).start().await;
        assert_eq!(health(&service).await.0, 0, "{address}");
    }
}

#[tokio::test]
async fn health_and_the_commands_that_ask_the_service_use_tls_with_its_own_certificate() {
    let pair = Pair::new();
    let mut service = service().config(&pair.config()).build();
    service.spawn();
    wait_until("the service is healthy", TIMEOUT, async || health(&service).await.0 == 0).await;
    let replay = ["replay", "--since", "1h"];
    let finished = service.run(&replay).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    // A service with another certificate may be another program: it does not get the token.
    let other = Pair::new();
    fs::copy(&other.certificate, &pair.certificate).expect("the file can be replaced");
    fs::copy(&other.key, &pair.key).expect("the file can be replaced");
    let refused = service.run(&replay).await;
    assert!(refused.code == 1 && refused.stderr.contains("invalid peer certificate"), "{refused:?}");
    assert_eq!(health(&service).await.0, 0);
}

#[tokio::test]
async fn health_gives_up_on_a_service_that_does_not_respond() {
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let directory = tempfile::tempdir().expect("a directory");
    let service = service().port(port).data_dir(directory.path()).build();
    let (code, text) = health(&service).await;
    assert_eq!(code, 1);
    assert!(text.ends_with("timed out\n"), "{text}");
    assert!(names(directory.path()).is_empty(), "a health check must create nothing");
}

#[tokio::test]
async fn tokens_and_the_connection_test_are_printed_as_json() {
    let service = service().start().await;
    let run = async |arguments: &[&str]| {
        let finished = service.run(arguments).await;
        (finished.code, serde_json::from_str::<Value>(&finished.stdout).unwrap_or_default())
    };
    assert_eq!(service.run(&["token", "create", "door", "--scope", "read"]).await.code, 0);
    let (code, listed) = run(&["token", "list", "--json"]).await;
    assert_eq!((code, &listed["tokens"][0]["name"]), (0, &json!("door")));
    assert_eq!(listed["tokens"][0]["scopes"], json!(["read"]));
    let (code, unset) = run(&["check", "--json"]).await;
    assert_eq!((code, &unset["success"], &unset["stages"]), (1, &json!(false), &json!([])));
    let _ = service.put_config(&json!({"broker_host": "127.0.0.1", "broker_port": 1})).await.expect(200);
    let (code, failed) = run(&["check", "--json"]).await;
    assert_eq!(
        (code, &failed["success"], &failed["stages"][0]["name"]),
        (1, &json!(false), &json!("resolve"))
    );
    assert!(failed["warnings"].is_array(), "{failed}");
}
