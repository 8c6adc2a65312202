//! Backups that are made while the service runs, and restores.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liveobject_test_support::{Api, Service, wait_until};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::{task::JoinSet, time::sleep};

use crate::helpers::{
    Database, Dice, LONG_TIMEOUT, PNG, TIMEOUT, accept, broker_and_subscriber, connected_with_login, ids,
    picture, run, service, stop, text,
};

const SENDERS: usize = 4;
const PICTURE_BYTES: usize = 4000;
/// Size of a picture that does not fit into the buffers of a connection.
const LARGE: u64 = 16 * 1024 * 1024;

/// Adds a picture to the event `a-1`.
async fn put_picture(service: &Service) {
    let put =
        service.request(Method::PUT, "/api/v1/events/a-1/thumbnail").header("content-type", "image/png");
    assert_eq!(put.body(picture(1, PICTURE_BYTES)).send().await.expect("a response").status(), 204);
}

/// Makes a backup of a running service.
async fn back_up(service: &Service, dir: &TempDir, name: &str) -> PathBuf {
    let file = dir.path().join(name);
    let _output = run(service, &["backup", text(&file)], 0).await;
    assert_eq!(fs::metadata(&file).expect("the archive exists").permissions().mode() & 0o777, 0o600);
    file
}

/// Sends events, each with a picture, one after the other, and counts the accepted ones in `accepted`.
async fn send(api: Api, sender: usize, accepted: Arc<[AtomicUsize; SENDERS]>) {
    for number in 0.. {
        let event = json!({
            "event_id": format!("s{sender}-{number}"), "camera_id": "door", "description": "Person",
            "thumbnail": STANDARD.encode(picture(number, PICTURE_BYTES)),
        });
        let _ = api.submit(&event, TIMEOUT).await;
        accepted[sender].store(number + 1, Ordering::SeqCst);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_backup_under_load_contains_every_event_that_was_accepted_before_it_began() {
    let (broker, service_) = connected_with_login(service()).await;
    let accepted: Arc<[AtomicUsize; SENDERS]> = Arc::default();
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send(service_.api(), sender, Arc::clone(&accepted)));
    }
    let dir = TempDir::new().expect("a temporary directory");
    let counts = || accepted.each_ref().map(|count| count.load(Ordering::SeqCst));
    let is_enough = async || counts().iter().sum::<usize>() > 200;
    wait_until("events are accepted", LONG_TIMEOUT, is_enough).await;
    let before = counts();
    let archive = back_up(&service_, &dir, "a.tar").await;
    sleep(Duration::from_millis(300)).await;
    senders.shutdown().await;
    let last = service_
        .submit(&json!({ "event_id": "extra-1", "camera_id": "door", "description": "x" }), TIMEOUT)
        .await;
    let token = service_.token();
    drop((service_, broker));

    let mut copy = service().data_dir(dir.path().join("new/data")).build();
    let output = run(&copy, &["restore", text(&archive)], 0).await;
    assert!(output.contains("Restored the backup of"), "{output}");
    assert!(output.contains("client id of the original"), "{output}");
    copy.start().await;
    assert_eq!(copy.token(), token);
    for (sender, count) in before.into_iter().enumerate() {
        for number in 0..count {
            let path = format!("/api/v1/events/s{sender}-{number}");
            assert_eq!(copy.get(&path).await.status, 200, "{path}");
            let thumbnail =
                copy.request(Method::GET, &format!("{path}/thumbnail")).send().await.expect("a response");
            assert!(thumbnail.bytes().await.expect("a body") == picture(number, PICTURE_BYTES), "{path}");
        }
    }
    let next = copy
        .submit(&json!({ "event_id": "extra-2", "camera_id": "door", "description": "y" }), TIMEOUT)
        .await;
    assert!(next["seq"].as_u64() > last["seq"].as_u64(), "{next} follows {last}");
    let config = copy.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!(config["has_password"], true);
    let status = copy.status().await;
    assert_ne!(status["last_error"]["kind"], "secret_unreadable", "{status}");
}

#[tokio::test]
async fn events_that_were_pending_at_the_time_of_the_backup_are_sent_after_the_restore() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let service_ = service().start().await;
    let _ledger = accept(&service_, ids("waiting", 5)).await;
    let dir = TempDir::new().expect("a temporary directory");
    let archive = back_up(&service_, &dir, "a.tar").await;
    let mut copy = service().data_dir(dir.path().join("data")).build();
    let _output = run(&copy, &["restore", text(&archive)], 0).await;
    copy.start().await;
    copy.connect_to(broker.port()).await;
    assert_eq!(subscriber.wait_for_events(5, TIMEOUT).await.len(), 5);
    copy.wait_outbox_empty(TIMEOUT).await;
    let status = copy.status().await;
    assert_eq!(status["warnings"], json!([]), "{status}");
}

#[tokio::test]
async fn a_backup_without_secrets_keeps_the_existing_ones() {
    let (broker, mut original) = connected_with_login(service()).await;
    let _ledger = accept(&original, ids("a", 3)).await;
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("a.tar");
    let output = run(&original, &["backup", text(&file), "--without-secrets"], 0).await;
    assert!(output.contains("Without keys and tokens"), "{output}");
    let bytes = fs::read(&file).expect("the archive");
    let secret = fs::read_to_string(original.data_dir().join("identity.age")).expect("the identity");
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).expect("a key").to_owned();
    for secret in [secret, original.token()] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
    let _ledger = accept(&original, ids("b", 3)).await;
    let last = original
        .submit(&json!({ "event_id": "extra-3", "camera_id": "door", "description": "x" }), TIMEOUT)
        .await;
    let refused = run(&original, &["restore", text(&file), "--replace"], 1).await;
    assert!(refused.contains("another liveobject process is using"), "{refused}");
    stop(&mut original).await;
    let refused = run(&original, &["restore", text(&file)], 1).await;
    assert!(refused.contains("--replace"), "{refused}");
    let output = run(&original, &["restore", text(&file), "--replace"], 0).await;
    assert!(output.contains("kept with the suffix .before-restore"), "{output}");
    original.start().await;
    original.wait_connected(TIMEOUT).await;
    assert_eq!(original.get("/api/v1/events/a-0").await.status, 200);
    assert_eq!(original.get("/api/v1/events/b-0").await.status, 404);
    let next = original
        .submit(&json!({ "event_id": "extra-4", "camera_id": "door", "description": "y" }), TIMEOUT)
        .await;
    assert!(next["seq"].as_u64() > last["seq"].as_u64(), "{next} follows {last}");
    assert!(original.data_dir().join("liveobject.db.before-restore").exists());
    drop(broker);
}

#[tokio::test]
async fn a_disconnected_copy_does_not_disturb_the_original() {
    let (_broker, original) = connected_with_login(service()).await;
    let dir = TempDir::new().expect("a temporary directory");
    let archive = back_up(&original, &dir, "a.tar").await;
    let mut copy = service().data_dir(dir.path().join("data")).build();
    let output = run(&copy, &["restore", text(&archive), "--disconnected"], 0).await;
    assert!(output.contains("MQTT is switched off"), "{output}");
    copy.start().await;
    let config = copy.get("/api/v1/integrations/mqtt/config").await.expect(200);
    assert_eq!((&config["enabled"], &config["has_password"]), (&json!(false), &json!(true)));
    assert_eq!(copy.status().await["state"], "disabled");
}

#[tokio::test]
async fn files_that_root_restores_belong_to_the_owner_of_the_data() {
    const NOBODY: u32 = 65_534;
    let original = service().start().await;
    let _ledger = accept(&original, ids("a", 3)).await;
    put_picture(&original).await;
    let dir = TempDir::new().expect("a temporary directory");
    let archive = back_up(&original, &dir, "a.tar").await;
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("the directory can be created");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the mode can be changed");
    if chown(&data, Some(NOBODY), Some(NOBODY)).is_err() {
        println!("skipped: only root can give files away");
        return;
    }
    let copy = service().data_dir(&data).build();
    let _output = run(&copy, &["restore", text(&archive)], 0).await;
    for (path, _) in files(&data) {
        assert_eq!(fs::metadata(&path).expect("a file").uid(), NOBODY, "{}", path.display());
    }
    assert!(data.join("thumbnails/0/2").exists());
}

/// Returns the names of all files in a directory with their contents.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn a_damaged_archive_changes_nothing() {
    let mut original = service().start().await;
    let _ledger = accept(&original, ids("a", 50)).await;
    put_picture(&original).await;
    let dir = TempDir::new().expect("a temporary directory");
    let archive = back_up(&original, &dir, "a.tar").await;
    stop(&mut original).await;
    // This leaves the lock files behind, so that the snapshot below contains them.
    let refused = run(&original, &["restore", text(&archive)], 1).await;
    assert!(refused.contains("--replace"), "{refused}");
    let (good, before) = (fs::read(&archive).expect("the archive"), files(original.data_dir()));
    let bad = dir.path().join("bad.tar");
    // Padding between the files is not checked, so each position is within a file.
    let find = |part: &[u8]| {
        good.windows(part.len()).position(|window| window == part).expect("it is in the archive")
    };
    let database = find(b"SQLite format 3");
    let inside =
        [find(b"\"format\""), find(PNG) + PNG.len() + 100, find(b"checksum") + 512, find(b"AGE-SECRET-KEY")];
    let positions = (0..16).map(|part| database + 1024 * part + 100).chain(inside);
    let mut cases: Vec<Vec<u8>> = positions
        .map(|position| {
            let mut bytes = good.clone();
            bytes[position] ^= 0x41;
            bytes
        })
        .collect();
    cases.extend([0, 100, 512, good.len() / 2, good.len() - 2048].map(|length| good[..length].to_vec()));
    for (number, bytes) in cases.into_iter().enumerate() {
        fs::write(&bad, &bytes).expect("the file can be written");
        let finished = original.run(&["restore", text(&bad), "--replace"]).await;
        assert_eq!(finished.code, 1, "case {number}: {finished:?}");
        assert!(files(original.data_dir()) == before, "case {number}");
    }
    original.start().await;
    assert_eq!(original.get("/api/v1/events/a-49").await.status, 200);
}

#[tokio::test]
async fn a_newer_backup_is_refused() {
    let mut original = service().start().await;
    let dir = TempDir::new().expect("a temporary directory");
    let database = Database::open(&original).await;
    database
        .execute(
            "INSERT INTO seaql_migrations(version, applied_at) VALUES('m20990101_000001_flying_cameras', 0)",
        )
        .await;
    database.close().await;
    let file = dir.path().join("a.tar");
    let refused = run(&original, &["backup", text(&file)], 1).await;
    assert!(refused.contains("flying_cameras"), "{refused}");
    assert!(!file.exists());
    original.kill9().await;
}

/// Kills a restore at random moments. Afterwards, the service has either the old or the new data.
#[tokio::test]
async fn a_restore_that_is_killed_leaves_the_old_or_the_new_data() {
    let mut dice = Dice::new("restore");
    let mut original = service().start().await;
    let _ledger = accept(&original, ids("old", 200)).await;
    let dir = TempDir::new().expect("a temporary directory");
    let archive = back_up(&original, &dir, "a.tar").await;
    let _ledger = accept(&original, ids("new", 5)).await;
    stop(&mut original).await;
    let (mut restored, mut kept) = (0, 0);
    for _ in 0..12 {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_liveobject"))
            .args(["restore", text(&archive), "--replace"])
            .env("LIVEOBJECT__DATA_DIR", original.data_dir())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the command starts");
        sleep(dice.millis(1, 150)).await;
        let _ended = (child.kill(), child.wait());
        original.start().await;
        assert_eq!(original.get("/api/v1/events/old-199").await.status, 200);
        let is_kept = original.get("/api/v1/events/new-4").await.status == 200;
        if is_kept {
            kept += 1;
        } else {
            restored += 1;
        }
        assert!(!original.data_dir().join("restore.json").exists());
        if !is_kept {
            let _ledger = accept(&original, ids("new", 5)).await;
        }
        stop(&mut original).await;
    }
    println!("{restored} restored, {kept} kept");
}

#[tokio::test]
async fn only_one_backup_is_made_at_a_time_and_leftovers_are_removed() {
    let mut original = service().start().await;
    let copy = original.data_dir().join("liveobject.db.unfinished-backup");
    let leftover = fs::File::create(&copy).expect("the file can be created");
    leftover.lock().expect("the file can be locked");
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("a.tar");
    let refused = run(&original, &["backup", text(&file)], 1).await;
    assert!(refused.contains("another backup is being made"), "{refused}");
    drop(leftover);
    original.restart().await;
    assert!(!copy.exists(), "a start removes what a killed backup left");
    let _archive = back_up(&original, &dir, "a.tar").await;
    let refused = run(&original, &["backup", text(&file)], 1).await;
    assert!(refused.contains("already exists; remove it"), "an existing file is not replaced: {refused}");
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
}

const BACKUP: &str = "/api/v1/backup";

#[tokio::test]
async fn a_backup_that_is_downloaded_under_load_can_be_restored() {
    let service_ = service().start().await;
    let accepted: Arc<[AtomicUsize; SENDERS]> = Arc::default();
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send(service_.api(), sender, Arc::clone(&accepted)));
    }
    let counts = || accepted.each_ref().map(|count| count.load(Ordering::SeqCst));
    let is_enough = async || counts().iter().sum::<usize>() > 200;
    wait_until("events are accepted", LONG_TIMEOUT, is_enough).await;
    let before = counts();
    let response = service_.request(Method::GET, BACKUP).send().await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-tar");
    let name = response.headers()["content-disposition"].to_str().expect("text").to_owned();
    assert!(name.starts_with("attachment; filename=\"liveobject-20") && name.ends_with("Z.tar\""), "{name}");
    let dir = TempDir::new().expect("a temporary directory");
    let archive = dir.path().join("a.tar");
    fs::write(&archive, response.bytes().await.expect("the whole body")).expect("the file can be written");
    senders.shutdown().await;
    let token = service_.token();
    drop(service_);

    let mut copy = service().data_dir(dir.path().join("data")).build();
    let _output = run(&copy, &["restore", text(&archive)], 0).await;
    copy.start().await;
    assert_eq!(copy.token(), token);
    for (sender, count) in before.into_iter().enumerate() {
        for number in 0..count {
            let path = format!("/api/v1/events/s{sender}-{number}");
            assert_eq!(copy.get(&path).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_download_without_secrets_contains_none_and_only_admins_may_download() {
    let service_ = service().start().await;
    let secret = fs::read_to_string(service_.data_dir().join("identity.age")).expect("the identity");
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).expect("a key").to_owned();
    let contains = async |query: &str| {
        let request = service_.request(Method::GET, &format!("{BACKUP}{query}"));
        let bytes = request.send().await.expect("a response").bytes().await.expect("a body");
        [secret.clone(), service_.token()]
            .map(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
    };
    assert_eq!(contains("").await, [true; 2]);
    assert_eq!(contains("?secrets=false").await, [false; 2]);
    assert_eq!(service_.get(&format!("{BACKUP}?secrets=no")).await.status, 422);
    let created = Api::try_send(
        service_
            .request(Method::POST, "/api/v1/tokens")
            .json(&json!({ "name": "reader", "scopes": ["read", "events:write"] })),
    );
    let token = created.await.expect("a response").expect(201)["token"].as_str().expect("a token").to_owned();
    let _ = service_.with_token(&token).get(BACKUP).await.expect(403);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_copy_and_a_second_download_waits_for_none() {
    let service_ = service().start().await;
    let _ledger = accept(&service_, ids("a", 1)).await;
    let pictures = service_.data_dir().join("thumbnails/0");
    fs::create_dir_all(&pictures).expect("the directory can be created");
    let large = fs::File::create(pictures.join("1")).expect("the file can be created");
    large.set_len(LARGE).expect("the file can be enlarged");
    let copy = service_.data_dir().join("liveobject.db.unfinished-backup");

    let first = service_.request(Method::GET, BACKUP).send().await.expect("a response");
    assert_eq!(first.status(), 200);
    assert!(copy.exists());
    let second = service_.get(BACKUP).await.expect(409);
    assert!(second["detail"].as_str().expect("a text").contains("another backup is being made"), "{second}");
    drop(first);
    wait_until("the copy is removed", TIMEOUT, async || !copy.exists()).await;
    let third = service_.request(Method::GET, BACKUP).send().await.expect("a response");
    assert_eq!(third.status(), 200);
    let archive = third.bytes().await.expect("the whole body");
    assert!(u64::try_from(archive.len()).is_ok_and(|length| length > LARGE), "{}", archive.len());
    wait_until("the copy is removed", TIMEOUT, async || !copy.exists()).await;
    assert!(service_.log_text().contains("a backup was downloaded"), "{}", service_.log_text());
}

#[tokio::test]
async fn a_service_that_stops_breaks_a_download_off() {
    let mut service_ = service().start().await;
    let _ledger = accept(&service_, ids("a", 1)).await;
    let pictures = service_.data_dir().join("thumbnails/0");
    fs::create_dir_all(&pictures).expect("the directory can be created");
    let large = fs::File::create(pictures.join("1")).expect("the file can be created");
    large.set_len(LARGE).expect("the file can be enlarged");
    let response = service_.request(Method::GET, BACKUP).send().await.expect("a response");
    let reading = async {
        // Until the service has begun to stop.
        sleep(Duration::from_secs(1)).await;
        response.bytes().await
    };
    let (read, ()) = tokio::join!(reading, stop(&mut service_));
    assert!(read.is_err(), "a part was taken for the whole archive");
    assert!(!service_.data_dir().join("liveobject.db.unfinished-backup").exists());
}
