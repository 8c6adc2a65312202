//! Rows that are missing, and databases that were restored or replaced.

use super::*;

#[actix_rt::test(system = "crate::System")]
async fn rows_that_were_removed_from_the_database_do_not_block_later_events() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=6).await;
    let removed = "DELETE FROM events WHERE seq IN (2, 3, 6)";
    it.store.execute(removed).await.unwrap();
    it.link_up(100).await;
    assert_eq!(it.sent_seqs(3).await, [1, 4, 5]);
    it.acknowledge([1, 4, 5]).await;
    it.wait_for_checkpoint(6).await;
    let status = it.status().await;
    assert_eq!((status.pending, status.published, status.database_damaged), (0, 3, true));
    assert_eq!(status.warnings[0].kind, WarningKind::EventsMissing);
    assert!(status.warnings[0].message.starts_with("3 pending events"), "{status:?}");
}

/// Five events, of which the first two are delivered. Then a backup is made, five more events are accepted, and the
/// backup is restored.
async fn restored() -> (Fixture, tempfile::TempDir) {
    let mut it = Fixture::new().await;
    it.publish_many(1..=5).await;
    it.link_up(100).await;
    it.sent(5).await;
    it.acknowledge([1, 2]).await;
    it.wait_for_checkpoint(2).await;
    it.store.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    let file = it.dir.as_ref().unwrap().path().join("liveobject.db");
    let backup = std::fs::read(&file).unwrap();
    it.publish_many(6..=10).await;
    let dir = it.crash().await.unwrap();
    for suffix in ["-wal", "-shm"] {
        let _gone = std::fs::remove_file(dir.path().join(format!("liveobject.db{suffix}")));
    }
    std::fs::write(&file, backup).unwrap();
    (Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await, dir)
}

#[actix_rt::test(system = "crate::System")]
async fn a_restored_database_gives_no_seq_again_and_the_lost_events_are_a_known_gap() {
    if crate::testing::database::is_served() {
        return;
    }
    let (mut it, dir) = restored().await;
    let status = it.status().await;
    assert_eq!((status.pending, status.dead, status.database_damaged), (3, 0, false));
    assert_eq!(status.warnings.len(), 1, "{status:?}");
    assert_eq!(status.warnings[0].kind, WarningKind::DatabaseRestored);
    assert!(
        status.warnings[0].message.contains("5 events that had been accepted (seq 6 to 10)"),
        "{status:?}"
    );
    assert_eq!(it.publish(event("new")).await.unwrap().seq, Seq(11));
    for round in 0..2 {
        assert_eq!(it.status().await.pending, 4);
        it.link_up(100).await;
        assert_eq!(it.sent_seqs(4).await, [3, 4, 5, 11]);
        if round == 0 {
            // Before anything is settled, the gap is known again after a restart.
            it.crash().await;
            it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
            assert_eq!(it.status().await.warnings, []);
        }
    }
    it.acknowledge([3, 4, 5]).await;
    it.wait_for_checkpoint(10).await;
    it.acknowledge([11]).await;
    it.wait_for_checkpoint(11).await;
    let status = it.status().await;
    assert_eq!((status.pending, status.published, status.warnings), (0, 4, vec![]));
    let long_ago = clock::from_micros(0);
    assert_eq!(it.store.delivered_since(long_ago).await.unwrap(), 6, "the gap is not delivered");
    it.crash().await;
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    assert_eq!((it.status().await.pending, it.publish(event("newer")).await.unwrap().seq), (0, Seq(12)));
}

#[actix_rt::test(system = "crate::System")]
async fn rows_that_are_missing_next_to_a_known_gap_are_still_reported() {
    if crate::testing::database::is_served() {
        return;
    }
    let (mut it, _dir) = restored().await;
    it.publish(event("new")).await.unwrap();
    it.publish(event("newer")).await.unwrap();
    it.store.execute("DELETE FROM events WHERE seq IN (5, 11)").await.unwrap();
    it.link_up(100).await;
    assert_eq!(it.sent_seqs(3).await, [3, 4, 12]);
    let status = it.status().await;
    assert_eq!((status.pending, status.database_damaged), (3, true));
    assert!(status.warnings[0].message.starts_with("2 pending events"), "{status:?}");
}

#[actix_rt::test(system = "crate::System")]
async fn the_gap_of_a_restored_database_is_removed_with_its_neighbors() {
    if crate::testing::database::is_served() {
        return;
    }
    let (mut it, _dir) = restored().await;
    it.publish(event("new")).await.unwrap();
    it.link_up(100).await;
    it.sent(4).await;
    it.acknowledge([3, 4, 5, 11]).await;
    it.wait_for_checkpoint(11).await;
    let everything = it.store.clock().now().log.before(TimeDelta::days(-1));
    let old = it.store.find_old(everything).await.unwrap().unwrap();
    assert_eq!(it.store.remove_old(&old).await.unwrap().events, 6);
    assert_eq!(it.store.gaps_above(Seq(0)).await.unwrap(), []);
    assert_eq!(it.store.last_seq().await.unwrap(), Seq(11));
}

#[actix_rt::test(system = "crate::System")]
async fn events_that_were_written_while_the_file_was_away_are_known_and_counted_when_it_is_back() {
    if crate::testing::database::is_served() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (cameras, seen) = Recorder::<CamerasSeen>::start_new();
    let peers = OutboxPeers { cameras: cameras.recipient(), ..outbox_peers() };
    let it = Fixture::open_with(dir.path(), MqttSettings::defaults("c"), 100, peers).await;
    it.publish(event("e1")).await.unwrap();
    settle().await;
    seen.take();
    let (path, moved) = (dir.path().join("liveobject.db"), dir.path().join("moved"));
    std::fs::rename(&path, &moved).unwrap();
    for id in ["e2", "e3"] {
        let refused = it.publish(event(id)).await.unwrap_err();
        assert_eq!(refused, PublishError::Storage(StoreFault::Replaced));
    }
    settle().await;
    assert!(seen.take().is_empty(), "nothing is reported that may be lost");
    std::fs::rename(&moved, &path).unwrap();
    let again = it.publish(event("e2")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (Seq(2), true));
    settle().await;
    let seen: Vec<_> = seen.take().into_iter().flat_map(|CamerasSeen(seen)| seen).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].days.iter().map(|(_, events)| events).sum::<u64>(), 3, "{seen:?}");
    assert_eq!(it.status().await.pending, 3);
}
