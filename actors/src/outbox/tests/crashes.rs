//! What is written and what survives a crash.

use super::*;

#[actix_rt::test(system = "crate::System")]
async fn after_a_crash_events_without_a_checkpoint_are_sent_again() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=6).await;
    it.link_up(100).await;
    it.sent(6).await;
    it.acknowledge([1, 2, 3]).await;
    it.wait_for_checkpoint(3).await;
    let dir = it.crash().await.unwrap();
    let mut it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    assert_eq!(it.status().await.pending, 3);
    it.link_up(100).await;
    assert_eq!(it.sent_seqs(3).await, [4, 5, 6]);
}

#[actix_rt::test(system = "crate::System")]
async fn what_is_noted_survives_a_crash_and_is_committed_with_later_events() {
    if crate::testing::database::is_served() {
        return;
    }
    let mut it = Fixture::new().await;
    it.link_up(100).await;
    for seq in 1..=7 {
        it.publish(event(&format!("e{seq}"))).await.unwrap();
        it.sent(1).await;
        it.acknowledge([seq]).await;
        assert_eq!(it.status().await.position.checkpoint, Seq(seq), "it is noted at once");
        assert_eq!(it.store.cursor().await.unwrap(), Seq(0), "it is not committed");
    }
    let known = it.delivery("e3").await;
    let dir = it.crash().await.unwrap();
    let mut it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    assert_eq!((it.status().await.pending, it.store.cursor().await.unwrap()), (0, Seq(7)));
    assert_eq!((known.state, it.recorded("e3").await), (DeliveryState::Delivered, known));

    it.link_up(100).await;
    for seq in 8..=15 {
        it.publish(event(&format!("e{seq}"))).await.unwrap();
        it.sent(1).await;
        it.acknowledge([seq]).await;
        assert_eq!(it.store.cursor().await.unwrap(), Seq(7));
    }
    it.publish(event("last")).await.unwrap();
    assert_eq!(it.store.cursor().await.unwrap(), Seq(15), "eight are committed with the next event");
}

/// Returns the number of pages in a write-ahead log that was never merged, and the number of commits.
fn pages_and_commits(log: &Path) -> (usize, usize) {
    const HEADER: usize = 32;
    const PAGE_HEADER: usize = 24;
    let log = std::fs::read(log).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let pages = log[HEADER..].chunks(PAGE_HEADER + page);
    let commits = pages.clone().filter(|page| page[4..8] != [0; 4]).count();
    (pages.count(), commits)
}

#[actix_rt::test(system = "crate::System")]
async fn a_lone_event_writes_less_than_five_pages_in_one_commit() {
    const EVENTS: usize = 200;
    if crate::testing::database::is_served() {
        return;
    }
    let mut it = Fixture::new().await;
    let log = it.dir.as_ref().unwrap().path().join("liveobject.db-wal");
    it.link_up(100).await;
    let mut before = (0, 0);
    // The indexes have more than one page after the first ones.
    for number in 0..EVENTS * 2 {
        if number == EVENTS {
            before = pages_and_commits(&log);
        }
        let input = EventInput {
            camera_id: format!("camera-{}", number % 4),
            description: "A person with a package walks up to the door. ".repeat(8),
            ..EventInput::default()
        };
        let seq = it.publish(input.validate().unwrap()).await.unwrap().seq;
        wait_until("it is sent", async || it.status().await.in_flight == 1).await;
        it.acknowledge([seq.0]).await;
    }
    let after = pages_and_commits(&log);
    let per_event = |count: usize| count * 100 / EVENTS;
    let (pages, commits) = (per_event(after.0 - before.0), per_event(after.1 - before.1));
    assert!((300..500).contains(&pages), "{pages} hundredths of a page");
    assert!((100..103).contains(&commits), "{commits} hundredths of a commit");
}

#[actix_rt::test(system = "crate::System")]
async fn what_was_noted_for_another_database_is_ignored() {
    if crate::testing::database::is_served() {
        return;
    }
    let mut it = Fixture::new().await;
    it.publish_many(1..=2).await;
    it.link_up(100).await;
    it.sent(2).await;
    it.acknowledge([1, 2]).await;
    assert_eq!(it.status().await.position.checkpoint, Seq(2));
    let dir = it.crash().await.unwrap();
    for suffix in ["", "-wal", "-shm", ".seq"] {
        let _gone = std::fs::remove_file(dir.path().join(format!("liveobject.db{suffix}")));
    }
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    it.publish_many(1..=2).await;
    it.crash().await;
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    assert_eq!(it.status().await.pending, 2, "these are other events");
}
