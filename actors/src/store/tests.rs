//! Opening database files (new, old, newer, damaged, locked), and commits of many events.

use std::{fs, os::unix::fs::PermissionsExt};

use sea_orm::{ConnectionTrait, EntityTrait, Statement};

use super::*;
use crate::domain::{
    event::{DetectionEvent, EventInput},
    event_log::LogRow,
    ids::Seq,
};
use crate::testing::database::TestDatabase;

fn temporary() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/l.db");
    (dir, path)
}

async fn pragma(connection: &impl sea_orm::ConnectionTrait, name: &str) -> String {
    let statement = Statement::from_string(sea_orm::DbBackend::Sqlite, format!("PRAGMA {name}"));
    let row = connection.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index::<i64>(0)
        .map(|n| n.to_string())
        .or_else(|_| row.try_get_by_index::<String>(0))
        .unwrap()
}

fn page_bytes(store: &Store) -> u32 {
    let Engine::Sqlite(file) = &store.engine else { panic!("it is a file") };
    file.page_bytes
}

#[tokio::test]
async fn a_new_file_is_private_and_synced() {
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(pragma(&store.write, "journal_mode").await, "wal");
    assert_eq!(pragma(&store.write, "synchronous").await, "2");
    assert_eq!(pragma(&store.write, "cache_size").await, CACHE_KIB);
    assert_eq!(pragma(&store.write, "journal_size_limit").await, JOURNAL_LIMIT_BYTES);
    assert_eq!(pragma(&store.write, "busy_timeout").await, "2000");
    assert_eq!(pragma(&store.write, "foreign_keys").await, "0");
}

#[tokio::test]
async fn readers_cannot_write() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        assert!(store.read.execute_unprepared("DELETE FROM events").await.is_err());
        assert!(store.write.execute_unprepared("DELETE FROM events").await.is_ok());
    }
}

#[tokio::test]
async fn a_position_in_the_log_is_never_reused() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        for statement in [
            "INSERT INTO events(seq, event_id, camera_id, occurred_at, received_at, payload) \
           VALUES (1,'a','c',1,1,''), (2,'b','c',1,1,''), (3,'c','c',1,1,'')",
            "INSERT INTO deliveries (up_to_seq, acked_at, late, log_time) VALUES (1,1,FALSE,1), (3,1,FALSE,1)",
        ] {
            store.write.execute_unprepared(statement).await.unwrap();
        }
        let old = store.find_old(crate::domain::clock::LogTime(10)).await.unwrap().unwrap();
        assert_eq!(store.remove_old(&old).await.unwrap().events, 3);
        assert_eq!(store.last_seq().await.unwrap(), Seq(3), "although the log is empty");
        store.close().await;
        assert_eq!(database.open().await.last_seq().await.unwrap(), Seq(3));
    }
}

#[tokio::test]
async fn the_upgrade_of_an_older_database_keeps_the_last_position() {
    let (_dir, path) = temporary();
    location::prepare(&path).unwrap();
    let store = Store::connect(&path, OpenFile::at(&path).unwrap()).await.unwrap();
    let before =
        Migrator::migrations().iter().position(|m| m.name() == "m20261129_000035_drop_autoincrement");
    Migrator::up(store.sqlite(), before.map(|steps| u32::try_from(steps).unwrap())).await.unwrap();
    for statement in [
        "INSERT INTO events(seq, event_id, camera_id, occurred_at, received_at, payload) \
           VALUES (6,'a','c',1,1,x''), (7,'b','c',1,1,x'')",
        "DELETE FROM events WHERE seq = 7",
    ] {
        store.write.execute_unprepared(statement).await.unwrap();
    }
    store.close().await;
    let store = Store::open_file(&path).await.unwrap();
    assert_eq!(store.last_seq().await.unwrap(), Seq(7));
    let insert = "INSERT INTO events(seq, event_id, camera_id, occurred_at, received_at, payload) \
        VALUES (8,'c','c',1,1,x'')";
    store.write.execute_unprepared(insert).await.unwrap();
    assert_eq!(store.last_seq().await.unwrap(), Seq(8));
    let sequence = "SELECT CAST(seq AS TEXT) FROM sqlite_sequence WHERE name = 'events'";
    let sequence = Statement::from_string(sea_orm::DbBackend::Sqlite, sequence);
    let row = store.write.query_one_raw(sequence).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "7", "a commit does not write it");
    assert_eq!(pragma(&store.write, "integrity_check").await, "ok");
    store.close().await;
}

#[tokio::test]
async fn the_pages_of_a_new_database_and_of_a_copy_are_small() {
    let (dir, path) = temporary();
    location::prepare(&path).unwrap();
    let options = SqliteConnectOptions::new().filename(&path).page_size(4096);
    let db: DatabaseConnection = SqlitePoolOptions::new().connect_with(options).await.unwrap().into();
    db.execute_unprepared("CREATE TABLE t (x)").await.unwrap();
    db.close().await.unwrap();
    let store = Store::open_file(&path).await.unwrap();
    assert_eq!((pragma(&store.write, "page_size").await.as_str(), page_bytes(&store)), ("4096", 4096));
    assert_eq!(pragma(&store.write, "wal_autocheckpoint").await, "4096", "16 MiB");
    let target = dir.path().join("copy.db");
    copy::copy(&path, &target, || true).await.unwrap();
    let copied = Store::open_file(&target).await.unwrap();
    assert_eq!((pragma(&copied.write, "page_size").await.as_str(), page_bytes(&copied)), ("2048", 2048));
    assert_eq!(pragma(&copied.write, "wal_autocheckpoint").await, "8192", "16 MiB");
}

#[tokio::test]
async fn a_commit_after_one_without_a_sync_is_synced() {
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    let context = crate::testing::commit_context();
    let settlement = crate::domain::delivery::Settlement::unpublished(store.clock().now());
    let batch = |up_to| commit::Batch {
        ranges: vec![crate::domain::delivery::SettledRange { up_to: Seq(up_to), settlement }],
        skips_sync: true,
        ..commit::Batch::default()
    };
    commit::commit(&store, &batch(3), Some(Seq(5)), &context).await.unwrap();
    assert_eq!(store.cursor().await.unwrap(), Seq(3));
    assert_eq!(pragma(&store.write, "synchronous").await, "2");
    // The commit fails between the statements that switch the sync off and on.
    store.write.execute_unprepared("ALTER TABLE deliveries RENAME TO other").await.unwrap();
    assert!(commit::commit(&store, &batch(4), Some(Seq(5)), &context).await.is_err());
    assert_eq!(pragma(&store.write, "synchronous").await, "2");
    store.write.execute_unprepared("ALTER TABLE other RENAME TO deliveries").await.unwrap();
    commit::commit(&store, &batch(5), Some(Seq(5)), &context).await.unwrap();
    assert_eq!(store.cursor().await.unwrap(), Seq(5));
}

#[tokio::test]
async fn a_copy_contains_what_was_noted() {
    let (dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    store.resume_deliveries().await.unwrap();
    let input = EventInput { camera_id: "c".into(), description: "d".into(), ..EventInput::default() };
    let batch = commit::Batch { events: vec![input.validate().unwrap()], ..commit::Batch::default() };
    let context = crate::testing::commit_context();
    let committed = commit::commit(&store, &batch, Some(Seq(0)), &context).await.unwrap();
    let event = &committed.stored[0];
    let settlement = crate::domain::delivery::Settlement::unpublished(store.clock().now());
    let notes = DeliveryNotes {
        after: Seq(0),
        newest: (event.seq, event.times.accepted),
        ranges: vec![crate::domain::delivery::SettledRange { up_to: event.seq, settlement }],
    };
    assert!(store.note_deliveries(&notes));
    assert_eq!(store.cursor().await.unwrap(), Seq(0));
    let target = dir.path().join("copy.db");
    copy::copy(&path, &target, || true).await.unwrap();
    assert_eq!(Store::open_file(&target).await.unwrap().cursor().await.unwrap(), event.seq);
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_reported_as_damaged() {
    let (_dir, path) = temporary();
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "a line of text in a long file\n".repeat(400)).unwrap();
    let error = Store::open_file(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("move the file away"), "{error}");
}

#[tokio::test]
async fn a_database_with_a_damaged_page_is_reported_as_damaged() {
    let (_dir, path) = temporary();
    Store::open_file(&path).await.unwrap().close().await;
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..200].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let error = Store::open_file(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_newer_schema_is_rejected_and_not_changed() {
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    let newer =
        "INSERT INTO seaql_migrations(version, applied_at) VALUES('m20990101_000001_flying_cameras', 0)";
    store.write.execute_unprepared(newer).await.unwrap();
    store.close().await;
    let before = fs::read(&path).unwrap();
    let error = Store::open_file(&path).await.unwrap_err();
    assert!(matches!(&error, OpenError::Newer { unknown, .. } if unknown.len() == 1), "{error:?}");
    assert!(error.to_string().contains("m20990101_000001_flying_cameras"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn before_an_upgrade_the_database_is_copied_and_one_copy_is_kept() {
    let (_dir, path) = temporary();
    let copy = before_upgrade(&path);
    for round in ["first", "second"] {
        let store = Store::open_file(&path).await.unwrap();
        // As an earlier version left it.
        let back = "DELETE FROM seaql_migrations WHERE version LIKE '%000035%'; CREATE TABLE ";
        store.write.execute_unprepared(&format!("{back} {round} (x)")).await.unwrap();
        store.close().await;
        let upgraded = Store::open_file(&path).await.unwrap();
        let applied = applied_migrations(upgraded.sqlite()).await.unwrap();
        assert!(applied.len() == Migrator::migrations().len() && unknown_migrations(&applied).is_empty());
        upgraded.close().await;
        assert!(fs::read(&copy).unwrap().windows(round.len()).any(|bytes| bytes == round.as_bytes()));
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Store::open_in_use(&copy).await, Err(OpenError::Older { .. })));
    }
    let store = Store::open_file(&path).await.unwrap();
    let newer = "INSERT INTO seaql_migrations(version, applied_at) VALUES('m20990101_000001_x', 0)";
    store.write.execute_unprepared(newer).await.unwrap();
    store.close().await;
    let error = Store::open_file(&path).await.unwrap_err().to_string();
    assert!(error.contains(&format!("rename {} to", copy.display())), "{error}");
}

#[tokio::test]
async fn no_upgrade_happens_without_its_copy() {
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    let back = "DROP TABLE heard_topics; DELETE FROM seaql_migrations WHERE version LIKE '%000034%'";
    store.write.execute_unprepared(back).await.unwrap();
    store.close().await;
    fs::create_dir(before_upgrade(&path)).unwrap();
    let error = Store::open_file(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::Copy { .. }), "{error:?}");
    fs::remove_dir(before_upgrade(&path)).unwrap();
    Store::open_file(&path).await.unwrap();
}

#[tokio::test]
async fn a_database_in_use_by_another_process_is_reported_as_locked() {
    let (_dir, path) = temporary();
    let other = Store::open_file(&path).await.unwrap();
    other.write.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
    let error = Store::open_file(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    other.write.execute_unprepared("ROLLBACK").await.unwrap();
    assert!(Store::open_file(&path).await.is_ok());
}

#[tokio::test]
async fn a_locked_database_is_reported_and_writes_succeed_afterwards() {
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    let other = Store::open_file(&path).await.unwrap();
    other.write.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
    let delete = || store.write.execute_unprepared("DELETE FROM events");
    let error = StoreError::from(delete().await.unwrap_err());
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    other.write.execute_unprepared("COMMIT").await.unwrap();
    assert!(delete().await.is_ok());
}

/// Runs `work` while another process holds the write lock of the database, for a time that is shorter than the
/// busy timeout.
async fn during_a_brief_lock<T>(path: &Path, work: impl Future<Output = T>) -> T {
    let other = Store::open_file(path).await.unwrap();
    other.write.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
    let unlock = async {
        tokio::time::sleep(BUSY_TIMEOUT / 8).await;
        // A transaction that reads before this commit and writes after it would fail.
        for sql in [
            "INSERT INTO dead_events(seq, reason, at) VALUES(99, '', 0)",
            "DELETE FROM dead_events",
            "COMMIT",
        ] {
            other.write.execute_unprepared(sql).await.unwrap();
        }
    };
    tokio::join!(work, unlock).0
}

#[tokio::test]
async fn a_transaction_that_begins_with_a_read_waits_for_a_lock_of_another_process_too() {
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    let (batch, context) =
        (Batch { events: events(0..1), ..Batch::default() }, crate::testing::commit_context());
    let committed = during_a_brief_lock(&path, Box::pin(store.commit(&batch, None, &context))).await.unwrap();
    assert_eq!(committed.receipts.len(), 1, "the event of a new camera");
    let camera = batch.events[0].camera_id();
    assert!(during_a_brief_lock(&path, store.delete_camera(camera)).await.unwrap());
    let everything = crate::domain::clock::LogTime(i64::MAX);
    store.execute("INSERT INTO deliveries (up_to_seq, acked_at, late) VALUES (1, 1, 0)").await.unwrap();
    let old = store.find_old(everything).await.unwrap().unwrap();
    during_a_brief_lock(&path, store.remove_old(&old)).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_reported_and_writes_succeed_afterwards() {
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    pragma(&store.write, "max_page_count = 1").await;
    let fill = "INSERT INTO dead_events(seq, reason, at) VALUES(1, hex(zeroblob(100000)), 0)";
    let error = StoreError::from(store.write.execute_unprepared(fill).await.unwrap_err());
    assert!(matches!(error, StoreError::DiskFull(_)), "{error:?}");
    pragma(&store.write, "max_page_count = 100000").await;
    assert!(store.write.execute_unprepared(fill).await.is_ok());
}

#[tokio::test]
async fn the_error_names_a_file_that_cannot_be_created() {
    let error = Store::open_file(Path::new("/proc/nowhere/l.db")).await.unwrap_err();
    assert!(matches!(error, OpenError::File { .. }), "{error:?}");
    assert!(error.to_string().contains("/proc/nowhere/l.db"));
}

fn events(numbers: std::ops::Range<usize>) -> Vec<DetectionEvent> {
    let event = |number| EventInput {
        event_id: Some(format!("e{number}")),
        camera_id: format!("c{}", number % 3),
        description: "d".into(),
        ..EventInput::default()
    };
    numbers.map(|number| event(number).validate().unwrap()).collect()
}

#[tokio::test]
async fn batches_of_every_size_are_written_completely_and_in_order() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        let context = crate::testing::commit_context();
        let (mut written, mut last_seq) = (0, Seq(0));
        for size in [1, 2, 3, 63, 255, 256, 257, 700] {
            let batch = commit::Batch { events: events(written..written + size), ..commit::Batch::default() };
            let committed = commit::commit(&store, &batch, Some(last_seq), &context).await.unwrap();
            let days: u64 = committed.seen.iter().flat_map(|seen| &seen.days).map(|(_, count)| count).sum();
            written += size;
            last_seq = committed.last_seq;
            assert_eq!(last_seq, Seq(i64::try_from(written).unwrap()));
            assert_eq!(days, if size < 3 { size as u64 } else { written as u64 }, "after {size}");
        }
        let page = page::read(&store.read, Seq(1), 10_000, last_seq).await.unwrap();
        assert_eq!(page.rows.len(), written);
        for (number, row) in page.rows.iter().enumerate() {
            let LogRow::Event(event) = row else { panic!("{row:?}") };
            let payload: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
            assert_eq!(
                (&payload["event_id"], &payload["seq"]),
                (&format!("e{number}").into(), &(number + 1).into())
            );
        }
    }
}

#[tokio::test]
async fn a_duplicate_among_new_events_keeps_its_position() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        let context = crate::testing::commit_context();
        let commit = async |events, last| {
            let batch = commit::Batch { events, ..commit::Batch::default() };
            commit::commit(&store, &batch, Some(Seq(last)), &context).await.unwrap()
        };
        commit(events(0..300), 0).await;
        let committed = commit(events(250..600), 300).await;
        let receipts: Vec<_> =
            committed.receipts.iter().map(|receipt| (receipt.seq.0, receipt.duplicate)).collect();
        let expected: Vec<_> = (250..600).map(|number| (number + 1, number < 300)).collect();
        assert_eq!(receipts, expected);
        assert_eq!(committed.stored.len(), 300);
        let today = committed.seen.iter().flat_map(|seen| &seen.days).map(|(_, count)| count).sum::<u64>();
        assert_eq!(today, 600, "the failed attempt did not count the events");
    }
}

#[tokio::test]
async fn the_upgrade_of_an_older_database_adds_the_cameras_of_dead_events() {
    let (_dir, path) = temporary();
    location::prepare(&path).unwrap();
    let store = Store::connect(&path, OpenFile::at(&path).unwrap()).await.unwrap();
    let before = Migrator::migrations().iter().position(|m| m.name() == "m20261125_000022_find_dead_events");
    Migrator::up(store.sqlite(), before.map(|steps| u32::try_from(steps).unwrap())).await.unwrap();
    for statement in [
        "INSERT INTO events(seq, event_id, camera_id, occurred_at, received_at, payload) VALUES(7,'e','c',1,1,x'')",
        "INSERT INTO dead_events(seq, reason, at) VALUES(7,'expired',1), (8,'expired',1)",
    ] {
        store.write.execute_unprepared(statement).await.unwrap();
    }
    store.close().await;
    let store = Store::open_file(&path).await.unwrap();
    let dead = dead_events::Entity::find().all(&store.read).await.unwrap();
    let cameras: Vec<_> = dead.iter().map(|row| (row.seq, row.camera_id.as_deref())).collect();
    assert_eq!(cameras, [(7, Some("c")), (8, None)]);
}

#[tokio::test]
async fn a_commit_counts_the_events_of_many_cameras() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        let event = |number: usize| {
            let input = EventInput {
                camera_id: format!("camera_{}", number % 450),
                camera_name: Some(format!("Camera {number}")),
                description: "Somebody".to_owned(),
                ..EventInput::default()
            };
            input.validate().unwrap()
        };
        let context = crate::testing::commit_context();
        for (round, last_seq) in [(1, Seq(0)), (2, Seq(1000))] {
            let batch = commit::Batch { events: (0..1000).map(event).collect(), ..commit::Batch::default() };
            let committed = commit::commit(&store, &batch, Some(last_seq), &context).await.unwrap();
            assert_eq!(committed.seen.len(), 450);
            for seen in committed.seen {
                // With 1,000 events, the first hundred cameras have a third event.
                let number: usize =
                    seen.camera.camera_id.as_str().strip_prefix("camera_").unwrap().parse().unwrap();
                let events = if number < 100 { 3 } else { 2 };
                assert_eq!(seen.days.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [round * events]);
                let id = std::slice::from_ref(&seen.camera.camera_id);
                assert_eq!(store.find_cameras(id).await.unwrap(), [seen.camera]);
            }
        }
    }
}

#[tokio::test]
async fn the_first_event_since_a_time_is_found_in_a_log_with_missing_rows() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        let rows = [(2, 10), (3, 20), (7, 20), (8, 30), (20, 40)]
            .map(|(seq, at)| format!("({seq}, 'e{seq}', 'c', 0, {at}, '', {at})"));
        let into =
            "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload, log_time)";
        store.write.execute_unprepared(&format!("{into} VALUES {}", rows.join(","))).await.unwrap();
        let find = |since, from, last| {
            store.first_accepted_since(crate::domain::clock::LogTime(since), Seq(from), Seq(last))
        };
        for (since, from, expected) in [
            (0, 1, Some(2)),
            (11, 1, Some(3)),
            (20, 1, Some(3)),
            (20, 4, Some(7)),
            (31, 1, Some(20)),
            (41, 1, None),
            (0, 21, None),
        ] {
            assert_eq!(find(since, from, 30).await.unwrap(), expected.map(Seq), "{since} from {from}");
        }
        assert_eq!(find(31, 1, 19).await.unwrap(), None, "later events are not part of the search");
    }
}

#[tokio::test]
async fn the_future_of_a_commit_to_a_file_has_no_room_for_what_a_server_needs() {
    const MAX_BYTES: usize = 8 * 1024;
    let (_dir, path) = temporary();
    let store = Store::open_file(&path).await.unwrap();
    let (batch, context) = (Batch::default(), crate::testing::commit_context());
    assert!(size_of_val(&store.commit(&batch, None, &context)) <= MAX_BYTES);
}
