//! `liveobject move`: everything on a server as it was in the file, and back; and no moment at which a service can use
//! both.

use std::{fs, path::Path, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liveobject_test_support::{Mosquitto, Postgres, Service, Subscriber, served_database};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    helpers::{
        Database, Dice, PASSWORD, PNG, TIMEOUT, accept, assert_exits, event, ids, login_settings, run,
        service, stop,
    },
    postgres::{DATABASE_PASSWORD, Server, URL},
};

const KILLS: usize = 6;
const LISTS: [&str; 9] = [
    "/api/v1/events?limit=100",
    "/api/v1/events?limit=100&state=pending",
    "/api/v1/events?limit=100&state=delivered",
    "/api/v1/events?limit=100&state=dead",
    "/api/v1/events?limit=100&q=package",
    "/api/v1/cameras",
    "/api/v1/tokens",
    "/api/v1/replays",
    "/api/v1/integrations/mqtt/config",
];

/// Returns what clients see, without what depends on when they ask.
async fn seen(service: &Service) -> Vec<Value> {
    let mut seen = Vec::new();
    for list in LISTS {
        let mut list = service.get(list).await.expect(200);
        for rows in list.as_object_mut().into_iter().flatten().filter_map(|(_, rows)| rows.as_array_mut()) {
            // It only has to change when the picture does. A copy has a new one.
            for version in rows.iter_mut().filter_map(|row| row.get_mut("thumbnail_version")) {
                *version = json!(version.is_string());
            }
        }
        seen.push(list);
    }
    let outbox = service.status().await["outbox"].clone();
    seen.push(json!([outbox["pending"], outbox["dead"]]));
    seen
}

fn assert_same(after: Vec<Value>, before: &[Value]) {
    assert_eq!(after.len(), before.len());
    for (after, before) in after.into_iter().zip(before) {
        assert_eq!(&after, before);
    }
}

/// Changes the configuration as the command requests.
fn follow(service: &Service, output: &str) {
    let (_, lines) = output.split_once("[database]\n").expect("the lines to change");
    let url = lines.lines().next().expect("a line with the URL");
    let file = service.data_dir().with_file_name("config.toml");
    assert!(output.contains(&format!("set in {}:", file.display())), "{output}");
    fs::write(file, format!("[database]\n{url}\n")).expect("the configuration can be written");
}

#[tokio::test]
async fn everything_moves_to_a_server_and_back() {
    let server = Server::start();
    let mut broker = Mosquitto::builder().user("ann", PASSWORD).upgrade_outgoing_qos().start().await;
    let subscriber =
        Subscriber::builder(broker.port()).login("ann", PASSWORD).filter("liveobject/#").start().await;
    let builder = service().config("").env("LIVEOBJECT_DATABASE_PASSWORD", DATABASE_PASSWORD);
    let mut service = builder.build();
    if served_database(service.data_dir()).is_some() {
        return;
    }
    service.start().await;
    let _ = service.put_config(&login_settings(&broker)).await.expect(200);
    service.wait_connected(TIMEOUT).await;
    let mut sent = accept(&service, ids("sent", 4)).await;
    let with_picture = json!({
        "event_id": "picture", "camera_id": "garage", "description": "A car", "thumbnail": STANDARD.encode(PNG),
    });
    sent.accepted_receipt(&service.post_event(&with_picture).await.expect(202));
    service.wait_outbox_empty(TIMEOUT).await;
    assert_eq!(subscriber.wait_for_events(5, TIMEOUT).await.len(), 5);
    broker.stop().await;
    let _waiting = accept(&service, ids("waiting", 3)).await;
    let panel = run(&service, &["token", "create", "panel", "--scope", "read"], 0).await;
    stop(&mut service).await;
    let database = Database::open(&service).await;
    let dead = "INSERT INTO dead_events (seq, reason, at, camera_id, log_time) \
        VALUES (2, 'packet_too_large', 1795000000000000, 'front_door', 1795000000000000)";
    database.execute(dead).await;
    database.close().await;
    service.start().await;
    let before = seen(&service).await;
    assert_eq!(before.last(), Some(&json!([3, 1])));
    stop(&mut service).await;

    let target = format!("postgres://u@127.0.0.1:{}/d", server.port);
    let output = run(&service, &["move", "--to", &target], 0).await;
    assert!(
        output.contains("\n8 events, 1 picture, 1 dead event, 2 cameras, 1 token, the settings"),
        "{output}"
    );
    assert!(!output.contains(DATABASE_PASSWORD), "{output}");
    for unused in ["liveobject.db", "liveobject.db.seq", "thumbnails"] {
        let line = format!("\n  {}\n", service.data_dir().join(unused).display());
        assert!(output.contains(&line), "{output}");
    }
    assert_exits(&mut service, 78, &["was moved to d on 127.0.0.1", "set `[database] url` to that one"])
        .await;
    let refused = run(&service, &["token", "create", "late", "--scope", "read"], 1).await;
    assert!(refused.contains("was moved to"), "{refused}");
    follow(&service, &output);

    // The pictures are in the database.
    fs::remove_dir_all(service.data_dir().join("thumbnails")).expect("the pictures were files");
    service.start().await;
    assert_same(seen(&service).await, &before);
    let known = service.post_event(&event("waiting-1")).await.expect(202);
    assert_eq!((&known["duplicate"], &known["seq"]), (&json!(true), &json!(7)));
    let next = service.post_event(&event("next")).await.expect(202);
    assert_eq!(next["seq"], 9, "{next}");
    broker.resume().await;
    let events = subscriber.wait_for_events(9, TIMEOUT).await;
    let delivered: Vec<_> = events[5..].iter().map(|event| event["seq"].as_u64()).collect();
    assert_eq!(delivered, [Some(6), Some(7), Some(8), Some(9)], "what was delivered is not sent again");
    service.wait_outbox_empty(TIMEOUT).await;
    let _ = service.with_token(panel.trim()).get("/api/v1/events").await.expect(200);
    let image = service.get("/api/v1/events/picture/thumbnail").await;
    assert_eq!(image.status, 200);
    stop(&mut service).await;
    service.start().await;
    let before = seen(&service).await;
    stop(&mut service).await;

    let back = service.data_dir().join("back.db");
    let output = run(&service, &["move", "--to", &format!("sqlite://{}", back.display())], 0).await;
    assert_exits(&mut service, 78, &["was moved to", "back.db"]).await;
    follow(&service, &output);
    service.start().await;
    assert_same(seen(&service).await, &before);
    assert_eq!(service.get("/api/v1/events/picture/thumbnail").await.status, 200);
    let last = service.post_event(&event("last")).await.expect(202);
    assert_eq!(last["seq"], 10, "{last}");
    service.wait_connected(TIMEOUT).await;
    assert_eq!(subscriber.wait_for_events(10, TIMEOUT).await[9]["seq"], 10);
    stop(&mut service).await;
    assert!(!service.log_text().contains(DATABASE_PASSWORD));
}

#[tokio::test]
async fn a_move_that_cannot_succeed_changes_nothing() {
    let server = Server::start();
    let target = format!("postgres://u@127.0.0.1:{}/d", server.port);
    let mut service = service().build();
    if served_database(service.data_dir()).is_some() {
        return;
    }
    let missing = run(&service, &["move", "--to", &target], 1).await;
    assert!(missing.contains("there is no data of a liveobject service"), "{missing}");
    service.start().await;
    let _ledger = accept(&service, ids("a", 2)).await;
    let running = run(&service, &["move", "--to", &target], 1).await;
    assert!(running.contains("another liveobject process is using the data directory"), "{running}");
    let back = run(&service, &["move", "--back"], 1).await;
    assert!(back.contains("another liveobject process is using the data directory"), "{back}");
    stop(&mut service).await;

    let with_password = server.url(DATABASE_PASSWORD, "d");
    let refused = run(&service, &["move", "--to", &with_password], 2).await;
    assert!(refused.contains("LIVEOBJECT_MOVE_PASSWORD_FILE") && !refused.contains("hunter2"), "{refused}");
    let unknown = run(&service, &["move", "--to", "mysql://u:hunter2@h/d"], 2).await;
    assert!(
        unknown.contains("--to: the database URL has the scheme") && !unknown.contains("hunter2"),
        "{unknown}"
    );
    let refused = run(&service, &["move", "--to", &target], 1).await;
    assert!(refused.contains("does not accept the user or the password"), "{refused}");
    let file = run(&service, &["move", "--to", "sqlite://other.db"], 1).await;
    assert!(file.contains("both databases are SQLite files"), "{file}");
    let not_moved = run(&service, &["move", "--back"], 0).await;
    assert!(not_moved.contains("was not moved"), "{not_moved}");

    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'liveobject%'";
    assert_eq!(server.postgres.execute("d", schemas), "0");
    service.start().await;
    let next = service.post_event(&event("next")).await.expect(202);
    assert_eq!(next["seq"], 3, "{next}");
}

/// Returns whether a service could use the database at this URL. Otherwise, a move has left or not completed it.
async fn is_usable(service: &Service, dir: &Path, url: &str) -> bool {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_liveobject"));
    command.args(["token", "list"]).env("LIVEOBJECT__DATA_DIR", service.data_dir()).env(URL, url);
    let output =
        command.current_dir(dir).stdin(Stdio::null()).output().await.expect("the command can be run");
    let text = String::from_utf8_lossy(&output.stderr);
    let is_refused =
        ["was moved to", "is incomplete", "has no schema"].iter().any(|part| text.contains(part));
    assert!(output.status.success() != is_refused, "{text}");
    output.status.success()
}

#[tokio::test]
async fn a_move_that_is_killed_at_any_moment_leaves_at_most_one_database_that_can_be_used() {
    let mut dice = Dice::new("moving");
    let mut service = service().build();
    if served_database(service.data_dir()).is_some() {
        return;
    }
    service.start().await;
    let _ledger = accept(&service, ids("a", 1)).await;
    stop(&mut service).await;
    let database = Database::open(&service).await;
    let many = "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) \
        WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) \
        SELECT i, 'many-' || i, 'door', i, i, CAST('{}' AS BLOB) FROM n";
    database.execute(many).await;
    database.close().await;
    let dir = TempDir::new().expect("a temporary directory");
    let file = format!("sqlite://{}", service.data_dir().join("liveobject.db").display());
    let server = Postgres::shared();
    let (mut whole, mut unfinished) = (Duration::from_secs(2), 0);
    for _ in 0..KILLS {
        let name = server.create_database();
        let url = server.url(&name);
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_liveobject"));
        command.args(["move", "--to", &url]).env("LIVEOBJECT__DATA_DIR", service.data_dir());
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (started, mut moving) = (Instant::now(), command.spawn().expect("the command can be run"));
        let moment = dice.shorter_than(whole);
        tokio::select! {
            _ = moving.wait() => whole = started.elapsed(),
            () = sleep(moment) => moving.kill().await.expect("a child process can be killed"),
        }
        let mut usable =
            [is_usable(&service, dir.path(), &file).await, is_usable(&service, dir.path(), &url).await];
        // It has only got its tables so far, as any empty database gets them from a service.
        usable[1] = usable[1] && server.execute(&name, "SELECT count(*) FROM liveobject_0.events") != "0";
        assert!(usable != [true, true], "both can be used");
        if usable != [false, true] {
            unfinished += 1;
            let output = run(&service, &["move", "--to", &url], 0).await;
            assert!(output.contains("30000 events"), "{output}");
        }
        assert!(!is_usable(&service, dir.path(), &file).await && is_usable(&service, dir.path(), &url).await);
        let output = run(&service, &["move", "--back"], 0).await;
        assert!(output.contains("can use"), "{output}");
    }
    println!("a whole move takes at most {whole:?}; of {KILLS} kills, {unfinished} interrupted one");
    assert!(unfinished > 0, "every move finished before it was killed");
}
