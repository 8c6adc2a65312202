//! The service with a database on a PostgreSQL server.

use std::fs;

use liveobject_test_support::{Postgres, PostgresOptions, Proxy, Service, free_port, wait_until};
use serde_json::json;

use crate::helpers::{
    LONG_TIMEOUT, TIMEOUT, accept, assert_exits, assert_kept, broker_and_subscriber, broker_with_login,
    event, ids, login_settings, service, settle, stop,
};

pub const DATABASE_PASSWORD: &str = "hunter2";

/// A server that requires a password on a port of loopback, and the user `u` with the database `d`.
pub struct Server {
    pub postgres: Postgres,
    pub port: u16,
}

impl Server {
    pub fn start() -> Self {
        let port = free_port();
        let access = Some("host all all 127.0.0.1/32 scram-sha-256".to_owned());
        let options = PostgresOptions { port: Some(port), access, ..PostgresOptions::default() };
        let postgres = Postgres::start(&options);
        postgres.execute("postgres", &format!("CREATE ROLE u LOGIN PASSWORD '{DATABASE_PASSWORD}'"));
        postgres.execute("postgres", "CREATE DATABASE d OWNER u TEMPLATE template0 ENCODING UTF8");
        Self { postgres, port }
    }

    pub fn url(&self, password: &str, database: &str) -> String {
        format!("postgres://u:{password}@127.0.0.1:{}/{database}", self.port)
    }

    fn service(&self) -> Service {
        service().env(URL, self.url(DATABASE_PASSWORD, "d")).build()
    }
}

pub const URL: &str = "LIVEOBJECT__DATABASE__URL";

#[tokio::test]
async fn events_settings_tokens_and_cameras_are_kept_on_a_server() {
    let server = Server::start();
    let broker = broker_with_login().await;
    let mut service = server.service();
    service.start().await;
    let mut ledger = accept(&service, ids("before", 3)).await;
    let _ = service.put_config(&login_settings(&broker)).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    let created = service.run(&["token", "create", "panel", "--scope", "read"]).await;
    assert_eq!(created.code, 0, "{created:?}");
    let checked = service.run(&["check"]).await;
    assert_eq!(checked.code, 0, "{checked:?}");
    let database = format!("Database: d on 127.0.0.1:{} (PostgreSQL)", server.port);
    assert!(checked.stdout.contains(&database), "{checked:?}");

    service.kill9().await;
    service.start().await;
    ledger.accepted_receipt(&service.post_event(&event("after")).await.expect(202));
    assert!(service.post_event(&event("before-1")).await.expect(202)["duplicate"] == json!(true));
    let panel = service.with_token(created.stdout.trim());
    wait_until("all events are delivered", LONG_TIMEOUT, async || {
        panel.get("/api/v1/events?limit=10&state=delivered").await.expect(200)["events"]
            .as_array()
            .is_some_and(|events| events.len() == 4)
    })
    .await;
    let cameras = panel.get("/api/v1/cameras").await.expect(200);
    assert_eq!(cameras["cameras"][0]["events_today"], 4, "{cameras}");
    let found = panel.get("/api/v1/events?q=package").await.expect(200);
    assert_eq!(found["events"].as_array().map(Vec::len), Some(4), "{found}");

    let shown = service.get("/api/v1/service").await.expect(200);
    let name = format!("d on 127.0.0.1:{}", server.port);
    assert_eq!(shown["database"], json!({ "engine": "postgres", "name": name }));
    assert_eq!(shown["disk_free_bytes"], json!(null));
    assert!(shown["database_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{shown}");
    let metrics = service.get("/metrics").await.expect(200);
    let metrics = metrics.as_str().unwrap_or_default();
    assert!(
        metrics.contains("liveobject_database_bytes")
            && !metrics.lines().any(|line| line.starts_with("liveobject_disk_free_bytes ")),
        "{metrics}"
    );
    stop(&mut service).await;
    assert!(!service.data_dir().join("liveobject.db").exists());
    assert!(!service.log_text().contains(DATABASE_PASSWORD), "{}", service.log_text());
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_reported_with_the_remedy() {
    let server = Server::start();
    let mut service = server.service();
    let cases = [
        ("mysql://u:hunter2@db/d".to_owned(), 2, "must be sqlite:// followed by a file path, or postgres://"),
        ("postgres://u:hunter2@db".to_owned(), 2, "does not contain the name of a database"),
        (server.url("hunter2x", "d"), 78, "does not accept the user or the password: check both"),
        (server.url("hunter2", "e"), 78, "does not exist: create it with `createdb"),
    ];
    for (url, code, part) in cases {
        let mut service = crate::helpers::service().env(URL, url).build();
        let log = assert_exits(&mut service, code, &[part]).await;
        assert!(!log.contains("hunter2"), "{log}");
        assert!(!service.data_dir().join("liveobject.db").exists());
    }
    service.start().await;
    let rotated = server.service().run(&["key", "rotate"]).await;
    let reason = "is in use by another liveobject service or command: stop it, on each machine";
    assert!(rotated.code == 1 && rotated.stderr.contains(reason), "{rotated:?}");
    let _ = service.post_event(&event("e")).await.expect(202);
    stop(&mut service).await;

    server.postgres.execute("d", "ALTER DATABASE d SET default_transaction_read_only = on");
    assert_exits(&mut service, 1, &["is read-only for this user"]).await;
    server
        .postgres
        .execute("d", "BEGIN READ WRITE; ALTER DATABASE d RESET default_transaction_read_only; COMMIT");
    let newer = "INSERT INTO liveobject_0.seaql_migrations VALUES ('m20990101_000001_new', 0)";
    server.postgres.execute("d", newer);
    assert_exits(&mut service, 78, &["was written by a newer version of liveobject", "m20990101_000001_new"])
        .await;
}

#[tokio::test]
async fn the_password_may_be_in_a_file_and_replaces_the_one_in_the_url() {
    let server = Server::start();
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be created");
    fs::write(file.path(), format!("{DATABASE_PASSWORD}\n")).expect("the file can be written");
    let builder = service().env(URL, server.url("wrong", "d"));
    let mut service = builder.env("LIVEOBJECT_DATABASE_PASSWORD_FILE", file.path().display()).build();
    service.start().await;
    let _ = service.post_event(&event("e")).await.expect(202);
    stop(&mut service).await;
}

#[tokio::test]
async fn a_backup_is_refused_with_the_way_to_make_one() {
    let server = Server::start();
    let mut service = server.service();
    service.start().await;
    let refused = service.run(&["backup", "b.tar"]).await;
    assert!(refused.code == 1 && refused.stderr.contains("pg_dump"), "{refused:?}");
    assert!(!refused.stderr.contains(DATABASE_PASSWORD), "{refused:?}");
    let problem = service.get("/api/v1/backup").await.expect(409);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("pg_dump")), "{problem}");
    let problem = service.get("/api/v1/restore").await.expect(409);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("pg_restore")), "{problem}");
    let config = service.run(&["config", "check"]).await;
    let database = format!("Database: d on 127.0.0.1:{} (PostgreSQL)", server.port);
    assert!(config.code == 0 && config.stdout.contains(&database), "{config:?}");
    stop(&mut service).await;
}

#[tokio::test]
async fn the_start_waits_for_a_server_that_is_not_ready_yet() {
    let port = free_port();
    let access = Some("host all all 127.0.0.1/32 trust".to_owned());
    let options = PostgresOptions { port: Some(port), access, ..PostgresOptions::default() };
    let mut service = service().env(URL, format!("postgres://postgres@127.0.0.1:{port}/postgres")).build();
    service.spawn();
    wait_until("the service waits", TIMEOUT, async || {
        service.log_text().contains("waiting for the database server")
    })
    .await;
    let _server = Postgres::start(&options);
    wait_until("events are accepted", TIMEOUT, async || service.run(&["health"]).await.code == 0).await;
    stop(&mut service).await;
}

#[tokio::test]
async fn a_server_that_is_away_for_a_while_loses_nothing() {
    let server = Server::start();
    let to_database = Proxy::start(server.port).await;
    let url = format!("postgres://u:{DATABASE_PASSWORD}@127.0.0.1:{}/d", to_database.port());
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut service = service().env(URL, url).start().await;
    service.connect_to(broker.port()).await;
    let mut ledger = accept(&service, ids("before", 3)).await;

    to_database.cut().await;
    ledger.accepted_receipt(&service.submit(&event("cut"), TIMEOUT).await);
    to_database.stall();
    let _ = service.post_event(&event("stalled")).await.expect(503);
    wait_until("the status reports it", TIMEOUT, async || {
        let status = service.get("/api/v1/integrations/mqtt/status").await.expect(200);
        status["warnings"].to_string().contains("Check that the database server is running")
    })
    .await;
    to_database.flow();
    ledger.accepted_receipt(&service.submit(&event("stalled"), TIMEOUT).await);
    settle(&service, &subscriber, &mut ledger, 5).await;
    assert_kept(&ledger);
    stop(&mut service).await;
}

#[tokio::test]
async fn a_standby_that_can_lack_accepted_events_is_warned_about() {
    let postgres = Postgres::start(&PostgresOptions::default());
    let url = postgres.url(&postgres.create_database());
    let standby = postgres.start_standby();
    let (broker, _subscriber) = broker_and_subscriber().await;
    let mut service = service().env(URL, url).start().await;
    service.connect_to(broker.port()).await;
    wait_until("the status warns", TIMEOUT, async || {
        service.status().await["warnings"].to_string().contains("database_asynchronous")
    })
    .await;
    let checked = service.run(&["check"]).await;
    assert!(checked.stdout.contains("Set synchronous_standby_names on the server"), "{checked:?}");
    assert!(service.log_text().contains("it can lack accepted events"), "{}", service.log_text());
    drop(standby);
    wait_until("the warning goes away within a minute", LONG_TIMEOUT, async || {
        service.status().await["warnings"] == json!([])
    })
    .await;
    stop(&mut service).await;
}
