//! Backups that are uploaded, and restored when the service is restarted.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
};

use liveobject_test_support::{Answer, Api, Service, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::helpers::{
    Database, Dice, PNG, SmallDisk, TIMEOUT, accept, connected_with_login, contains_bytes, entries, event,
    ids, names, replaced, run, service, stop, text, write_archive,
};

const BACKUP: &str = "/api/v1/backup";
const RESTORE: &str = "/api/v1/restore";
const RECORD: &str = "restore-waiting.json";
const ARCHIVE: &str = "restore-waiting.tar";

/// Downloads a backup.
async fn back_up(service: &Service, query: &str) -> Vec<u8> {
    let response =
        service.request(Method::GET, &format!("{BACKUP}{query}")).send().await.expect("a response");
    assert_eq!(response.status(), 200);
    response.bytes().await.expect("the whole body").to_vec()
}

async fn upload(service: &Service, query: &str, archive: Vec<u8>) -> Answer {
    let request = service.request(Method::POST, &format!("{RESTORE}{query}")).body(archive);
    Api::try_send(request).await.expect("a response")
}

async fn waiting(service: &Service) -> Value {
    service.get(RESTORE).await.expect(200)["restore"].clone()
}

/// Returns the message of a warning; `None` if there is none of this kind.
async fn warning(service: &Service, kind: &str) -> Option<String> {
    let status = service.status().await;
    let warnings = status["warnings"].as_array().expect("a list");
    let found = warnings.iter().find(|warning| warning["kind"] == kind)?;
    Some(found["message"].as_str().expect("a text").to_owned())
}

async fn wait_for_warning(service: &Service, kind: &str) -> String {
    wait_until(kind, TIMEOUT, async || warning(service, kind).await.is_some()).await;
    warning(service, kind).await.expect("a warning")
}

async fn has_event(service: &Service, id: &str) -> bool {
    service.get(&format!("/api/v1/events/{id}")).await.status == 200
}

/// Returns the names in the data directory that belong to a restore, except for what was replaced.
fn of_restores(service: &Service) -> Vec<String> {
    let names = names(service.data_dir()).into_iter();
    names.filter(|name| name.contains("restore") && !name.contains("before-restore")).collect()
}

/// Returns a service with the events `old-0` to `old-4` and a picture, its backup, and the last seq after five more
/// events.
async fn with_backup() -> (Service, Vec<u8>, i64) {
    let service = service().start().await;
    let _ledger = accept(&service, ids("old", 5)).await;
    let put = service.request(Method::PUT, "/api/v1/events/old-0/thumbnail").body(PNG);
    assert_eq!(put.send().await.expect("a response").status(), 204);
    let archive = back_up(&service, "").await;
    let _ledger = accept(&service, ids("new", 5)).await;
    let last = service.post_event(&event("last")).await.expect(202)["seq"].as_i64().expect("a seq");
    (service, archive, last)
}

#[tokio::test]
async fn an_uploaded_backup_is_restored_at_the_next_start() {
    let (mut service, archive, last) = with_backup().await;
    let size = archive.len();
    assert_eq!(waiting(&service).await, Value::Null);
    let uploaded = upload(&service, "", archive).await.expect(201)["restore"].clone();
    for (name, expected) in [
        ("state", json!("waiting")),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("events", json!(5)),
        ("first_seq", json!(1)),
        ("last_seq", json!(5)),
        ("cameras", json!(1)),
        ("pictures", json!(1)),
        ("secrets", json!(true)),
        ("disconnected", json!(false)),
        ("bytes", json!(size)),
        ("failure", Value::Null),
    ] {
        assert_eq!(uploaded[name], expected, "{name}: {uploaded}");
    }
    assert_eq!(waiting(&service).await, uploaded);
    let message = wait_for_warning(&service, "restore_waiting").await;
    assert!(message.contains("(5 events) replaces all data when the service is restarted"), "{message}");
    // Until then, nothing changes.
    assert!(has_event(&service, "new-4").await);
    let _ledger = accept(&service, ids("later", 1)).await;

    service.restart().await;
    assert!(has_event(&service, "old-4").await);
    for gone in ["new-0", "last", "later-0"] {
        assert!(!has_event(&service, gone).await, "{gone}");
    }
    let picture = service.get("/api/v1/events/old-0/thumbnail").await;
    assert_eq!(picture.status, 200);
    assert_eq!(waiting(&service).await, Value::Null);
    assert_eq!(of_restores(&service), Vec::<String>::new());
    assert!(contains_bytes(&service.data_dir().join("liveobject.db.before-restore"), b"later-0"));
    let next = service.post_event(&event("next")).await.expect(202);
    assert!(next["seq"].as_i64() > Some(last + 1), "{next} follows {last}");
    assert_eq!(service.status().await["warnings"], json!([]));
    assert!(service.log_text().contains("a backup was restored"), "{}", service.log_text());
    service.restart().await;
    assert!(has_event(&service, "next").await, "it is restored once");
}

#[tokio::test]
async fn a_backup_that_waits_can_be_replaced_and_discarded() {
    let (mut service, archive, _) = with_backup().await;
    let _ = upload(&service, "", archive.clone()).await.expect(201);
    let _ledger = accept(&service, ids("more", 1)).await;
    let newer = back_up(&service, "").await;
    let replaced = upload(&service, "?disconnected=true", newer).await.expect(201)["restore"].clone();
    assert_eq!((&replaced["events"], &replaced["disconnected"]), (&json!(12), &json!(true)));
    assert_eq!(of_restores(&service), [RECORD, ARCHIVE]);
    let _message = wait_for_warning(&service, "restore_waiting").await;
    for _ in 0..2 {
        assert_eq!(service.delete(RESTORE).await.status, 204);
        assert_eq!(waiting(&service).await, Value::Null);
    }
    let is_gone = async || warning(&service, "restore_waiting").await.is_none();
    wait_until("the warning is gone", TIMEOUT, is_gone).await;
    assert_eq!(of_restores(&service), Vec::<String>::new());
    service.restart().await;
    assert!(has_event(&service, "more-0").await);
    assert!(!service.data_dir().join("liveobject.db.before-restore").exists());
}

#[tokio::test]
async fn a_backup_without_secrets_leaves_the_keys_and_can_leave_mqtt_switched_off() {
    let (broker, mut service) = connected_with_login(service()).await;
    let _ledger = accept(&service, ids("old", 1)).await;
    let archive = back_up(&service, "?secrets=false").await;
    let kept = ["identity.age", "api-token", "thumbnail-key"].map(|name| service.data_dir().join(name));
    let read = || kept.clone().map(|path| fs::read(path).expect("a file"));
    let before = read();
    let uploaded = upload(&service, "?disconnected=true", archive).await.expect(201)["restore"].clone();
    assert_eq!(uploaded["secrets"], false);
    let _message = wait_for_warning(&service, "restore_waiting").await;
    let checked = service.run(&["check"]).await;
    assert!(checked.stdout.contains("replaces all data when the service is restarted"), "{checked:?}");
    service.restart().await;
    assert_eq!(read(), before);
    let config = service.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!((&config["enabled"], &config["has_password"]), (&json!(false), &json!(true)));
    drop(broker);
}

/// Returns the backup with a database that a newer version has migrated.
async fn of_newer_version(archive: &Path) -> Vec<u8> {
    let dir = TempDir::new().expect("a temporary directory");
    let copy = service().data_dir(dir.path().join("data")).build();
    let _output = run(&copy, &["restore", text(archive)], 0).await;
    let database = Database::open(&copy).await;
    let migration =
        "INSERT INTO seaql_migrations(version, applied_at) VALUES('m20990101_000001_flying_cameras', 0)";
    database.execute(migration).await;
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    database.close().await;
    let changed = fs::read(copy.data_dir().join("liveobject.db")).expect("the database");
    let newer = dir.path().join("newer.tar");
    write_archive(&newer, &replaced(&entries(archive), "liveobject.db", &changed));
    fs::read(newer).expect("the archive")
}

#[tokio::test]
async fn an_archive_that_cannot_be_restored_is_refused_and_nothing_is_left_of_it() {
    let (service_, archive, _) = with_backup().await;
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("a.tar");
    fs::write(&file, &archive).expect("the file can be written");
    let mut flipped = archive.clone();
    let database = archive.windows(15).position(|window| window == b"SQLite format 3").expect("a database");
    flipped[database + 5000] ^= 1;
    let write = |entries| {
        let path = dir.path().join("b.tar");
        write_archive(&path, &entries);
        fs::read(path).expect("the archive")
    };
    let known = entries(&file);
    let mut manifest: Value = serde_json::from_slice(&known[0].1).expect("JSON");
    manifest["last_seq"] = json!(i64::MAX);
    let impossible = write(replaced(&known, "manifest.json", manifest.to_string().as_bytes()));
    manifest["format"] = json!(99);
    let newer_format = write(replaced(&known, "manifest.json", manifest.to_string().as_bytes()));
    let mut twice = known.clone();
    twice.push(known.iter().find(|(name, _)| name.starts_with("thumbnails/")).expect("a picture").clone());
    let waits = upload(&service_, "", archive.clone()).await.expect(201)["restore"].clone();
    for (what, bytes, part) in [
        ("an empty body", Vec::new(), "its end is missing"),
        ("text", b"hello".repeat(1000), "not a backup"),
        ("a part", archive[..archive.len() / 2].to_vec(), "incomplete"),
        ("a changed byte", flipped, "its checksum is wrong"),
        ("gzip", [&[0x1f, 0x8b, 8, 0][..], &[0; 2000]].concat(), "it is compressed"),
        ("a picture twice", write(twice), "twice"),
        ("an impossible position", impossible, "impossible position"),
        ("a newer format", newer_format, "which is newer"),
        ("a newer database", of_newer_version(&file).await, "flying_cameras"),
        ("no database", write(replaced(&known, "liveobject.db", b"")), "its database cannot be used"),
    ] {
        let refused = upload(&service_, "", bytes).await;
        assert_eq!(refused.status, 422, "{what}: {refused:?}");
        assert!(refused.body["detail"].as_str().is_some_and(|it| it.contains(part)), "{what}: {refused:?}");
        assert_eq!(of_restores(&service_), [RECORD, ARCHIVE], "{what}");
        assert_eq!(waiting(&service_).await, waits, "{what}: the backup that waits is kept");
    }
    let _ = upload(&service_, "?disconnected=maybe", archive).await.expect(422);
}

#[tokio::test]
async fn an_archive_above_the_limit_is_refused_whether_or_not_its_size_is_announced() {
    let service_ = service().config("[http]\nmax_restore_mib = 1\n").start().await;
    let mut client = TcpStream::connect(("127.0.0.1", service_.port())).expect("a connection");
    let head = |length: &str| {
        let (port, token) = (service_.port(), service_.token());
        format!(
            "POST {RESTORE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n{length}\r\n\r\n"
        )
    };
    write!(client, "{}", head("Transfer-Encoding: chunked")).expect("the head can be sent");
    // The service stops reading at the limit, so not all of this can be sent.
    let chunk = format!("40000\r\n{}\r\n", "x".repeat(0x40000));
    let _refused = (0..16).try_for_each(|_| client.write_all(chunk.as_bytes()));
    let mut start = [0; 12];
    client.read_exact(&mut start).expect("a response");
    assert_eq!(&start, b"HTTP/1.1 413");

    let mut client = TcpStream::connect(("127.0.0.1", service_.port())).expect("a connection");
    write!(client, "{}", head("Content-Length: 1048577")).expect("the head can be sent");
    client.read_exact(&mut start).expect("a response without the body");
    assert_eq!(&start, b"HTTP/1.1 413");
    wait_until("nothing is left", TIMEOUT, async || of_restores(&service_).is_empty()).await;
}

/// Begins an upload of a megabyte and sends a part of it.
fn begin_upload(service: &Service) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", service.port())).expect("a connection");
    let (port, token) = (service.port(), service.token());
    let head = format!(
        "POST {RESTORE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 1000000\r\n\r\n"
    );
    client.write_all(head.as_bytes()).and_then(|()| client.write_all(&[b'x'; 2000])).expect("it can be sent");
    client
}

const RECEIVED: &str = "restore-waiting.tar.unfinished";

async fn wait_for_part(service: &Service) {
    let part = service.data_dir().join(RECEIVED);
    wait_until("a part is received", TIMEOUT, async || part.exists()).await;
}

#[tokio::test]
async fn one_backup_is_uploaded_at_a_time_and_an_interrupted_upload_leaves_nothing() {
    let (mut service, archive, _) = with_backup().await;
    let first = begin_upload(&service);
    wait_for_part(&service).await;
    assert_eq!(service.get(RESTORE).await.expect(200)["busy"], true);
    let second = upload(&service, "", archive.clone()).await.expect(409);
    assert!(second["detail"].as_str().is_some_and(|it| it.contains("another backup is being")), "{second}");
    assert_eq!(service.delete(RESTORE).await.status, 409);
    drop(first);
    let is_gone = async || of_restores(&service).is_empty();
    wait_until("nothing is left", TIMEOUT, is_gone).await;
    let is_idle = async || service.get(RESTORE).await.expect(200)["busy"] == false;
    wait_until("the upload has ended", TIMEOUT, is_idle).await;
    let _ = upload(&service, "", archive).await.expect(201);
    assert_eq!(service.delete(RESTORE).await.status, 204);
    // The start removes the files of an upload that was interrupted because the service was killed.
    let _client = begin_upload(&service);
    wait_for_part(&service).await;
    service.kill9().await;
    assert_eq!(of_restores(&service), [RECEIVED]);
    fs::create_dir(service.data_dir().join("restore-waiting.tar.check")).expect("a directory can be created");
    fs::write(service.data_dir().join(ARCHIVE), "without a record").expect("the file can be written");
    service.start().await;
    assert_eq!(of_restores(&service), Vec::<String>::new());
    assert!(has_event(&service, "new-4").await);
    // A service that stops does not wait for the rest.
    let _client = begin_upload(&service);
    wait_for_part(&service).await;
    stop(&mut service).await;
    assert_eq!(of_restores(&service), Vec::<String>::new());
}

/// Kills the service at random moments while it restores. Afterwards, the restore is complete, and what was there
/// before is kept.
#[tokio::test]
async fn a_start_that_is_killed_while_it_restores_is_completed_by_the_next_one() {
    let mut dice = Dice::new("restore at the start");
    let mut service = service().start().await;
    let _ledger = accept(&service, ids("old", 100)).await;
    let archive = back_up(&service, "").await;
    let mut last = 0;
    for round in 0..8 {
        let id = format!("new-{round}");
        let seq = service.post_event(&event(&id)).await.expect(202)["seq"].as_i64().expect("a seq");
        assert!(seq > last, "{seq} follows {last}");
        last = seq;
        let _ = upload(&service, "", archive.clone()).await.expect(201);
        stop(&mut service).await;
        for _ in 0..dice.below(3) {
            service.spawn();
            sleep(dice.millis(1, 150)).await;
            service.kill9().await;
        }
        service.start().await;
        assert!(has_event(&service, "old-99").await, "{round}");
        assert!(!has_event(&service, &id).await, "{round}: the old data is mixed with the new");
        assert_eq!(of_restores(&service), Vec::<String>::new());
        let kept = service.data_dir().join("liveobject.db.before-restore");
        assert!(contains_bytes(&kept, id.as_bytes()), "{round}: what was replaced is not kept");
        assert_eq!(service.status().await["warnings"], json!([]));
    }
}

#[tokio::test]
async fn a_start_that_is_killed_after_the_last_move_does_not_restore_again() {
    let (mut service, archive, _) = with_backup().await;
    let _ = upload(&service, "", archive).await.expect(201);
    stop(&mut service).await;
    // The record of moves that were all carried out.
    fs::write(service.data_dir().join("restore.json"), "[]").expect("the file can be written");
    service.start().await;
    assert!(
        has_event(&service, "new-4").await,
        "the restored data would be replaced, and what it replaced removed"
    );
    assert_eq!(waiting(&service).await, Value::Null);
    assert_eq!(of_restores(&service), Vec::<String>::new());
}

#[tokio::test]
async fn a_restore_that_fails_leaves_the_old_data_and_a_warning_and_is_not_repeated() {
    let (mut service, archive, _) = with_backup().await;
    for (what, reason) in [("damaged", "its checksum is wrong"), ("killed", "was interrupted 3 times")] {
        let _ = upload(&service, "", archive.clone()).await.expect(201);
        stop(&mut service).await;
        let (path, record) = (service.data_dir().join(ARCHIVE), service.data_dir().join(RECORD));
        if what == "damaged" {
            let mut bytes = fs::read(&path).expect("the archive");
            let database = bytes.windows(15).position(|it| it == b"SQLite format 3").expect("a database");
            bytes[database + 5000] ^= 1;
            fs::write(&path, bytes).expect("the file can be written");
        } else {
            let mut content: Value =
                serde_json::from_slice(&fs::read(&record).expect("the record")).expect("JSON");
            content["attempts"] = json!(3);
            fs::write(&record, content.to_string()).expect("the file can be written");
        }
        for start in 0..2 {
            service.start().await;
            assert!(has_event(&service, "new-4").await, "{what}");
            let message = wait_for_warning(&service, "restore_failed").await;
            assert!(
                message.contains(reason) && message.contains("upload the backup again"),
                "{what}: {message}"
            );
            let failed = waiting(&service).await;
            assert_eq!(failed["state"], "failed");
            assert!(failed["failure"].as_str().is_some_and(|it| it.contains(reason)), "{failed}");
            assert_eq!(of_restores(&service), [RECORD], "{what}: the archive is removed");
            if start == 0 {
                stop(&mut service).await;
            }
        }
        let times = service.log_text().matches("a backup was not restored").count();
        assert_eq!(times, if what == "damaged" { 1 } else { 2 }, "{}", service.log_text());
    }
    assert_eq!(service.delete(RESTORE).await.status, 204);
    let is_gone = async || warning(&service, "restore_failed").await.is_none();
    wait_until("the warning is gone", TIMEOUT, is_gone).await;
    service.restart().await;
    assert_eq!(service.status().await["warnings"], json!([]));
}

#[tokio::test]
async fn a_restore_by_command_discards_the_backup_that_waits() {
    let (mut service, archive, _) = with_backup().await;
    let dir = TempDir::new().expect("a temporary directory");
    let newer: PathBuf = dir.path().join("newer.tar");
    let _output = run(&service, &["backup", text(&newer)], 0).await;
    let _ = upload(&service, "", archive).await.expect(201);
    stop(&mut service).await;
    let refused = run(&service, &["backup", text(&service.data_dir().join(ARCHIVE))], 1).await;
    assert!(refused.contains("already exists") || refused.contains("own files"), "{refused}");
    let _output = run(&service, &["restore", text(&newer), "--replace"], 0).await;
    assert_eq!(of_restores(&service), Vec::<String>::new());
    service.start().await;
    assert!(has_event(&service, "last").await);
}

#[tokio::test]
async fn a_client_that_goes_away_during_the_check_leaves_nothing() {
    let service = service().start().await;
    let database = Database::open(&service).await;
    // The check of this takes a second.
    database.execute("CREATE TABLE ballast AS SELECT randomblob(30000000)").await;
    database.close().await;
    let archive = back_up(&service, "").await;
    let mut client = TcpStream::connect(("127.0.0.1", service.port())).expect("a connection");
    let (port, token, length) = (service.port(), service.token(), archive.len());
    let head = format!(
        "POST {RESTORE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    client.write_all(head.as_bytes()).and_then(|()| client.write_all(&archive)).expect("it can be sent");
    let check = service.data_dir().join("restore-waiting.tar.check");
    wait_until("the check has begun", TIMEOUT, async || check.exists()).await;
    drop(client);
    let is_idle = async || service.get(RESTORE).await.expect(200)["busy"] == false;
    wait_until("the check has ended", TIMEOUT, is_idle).await;
    assert_eq!(waiting(&service).await, Value::Null);
    assert_eq!(of_restores(&service), Vec::<String>::new());
}

#[tokio::test]
async fn a_restore_on_a_full_disk_does_not_prevent_the_start() {
    let Some(disk) = SmallDisk::mount(64 * 1024 * 1024) else { return };
    let mut service = service().data_dir(disk.data_dir()).start().await;
    let _ledger = accept(&service, ids("old", 5)).await;
    let archive = back_up(&service, "").await;
    let _ledger = accept(&service, ids("new", 5)).await;
    let _ = upload(&service, "", archive).await.expect(201);
    stop(&mut service).await;
    disk.fill_up();
    service.start().await;
    assert!(has_event(&service, "new-4").await);
    let message = wait_for_warning(&service, "restore_failed").await;
    assert!(message.contains("The service uses the data that it had before"), "{message}");
    assert_eq!(of_restores(&service), [RECORD]);
}

#[tokio::test]
async fn an_upload_leaves_space_for_events_and_for_the_restore() {
    let Some(disk) = SmallDisk::mount(64 * 1024 * 1024) else { return };
    let service = service().data_dir(disk.data_dir()).start().await;
    let _ledger = accept(&service, ids("old", 5)).await;
    let archive = back_up(&service, "").await;
    let mut client = TcpStream::connect(("127.0.0.1", service.port())).expect("a connection");
    let (port, token) = (service.port(), service.token());
    let head = format!(
        "POST {RESTORE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 40000000\r\n\r\n"
    );
    client.write_all(head.as_bytes()).expect("the head can be sent");
    let mut start = [0; 12];
    client.read_exact(&mut start).expect("a response without the body");
    assert_eq!(&start, b"HTTP/1.1 507");
    let _ = upload(&service, "", archive).await.expect(201);
}
