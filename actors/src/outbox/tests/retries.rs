//! Dead events that are retried or dismissed.
//! Tests named `invariant_N_…` prove the invariants of docs/architecture.md.

use super::*;
use crate::{
    domain::delivery::{DeadFilter, DecideError, Decided, DecidedAll, Decision},
    messages::outbox::{Decide, DecideAll},
};

impl Fixture {
    async fn decide(&self, id: &str, decision: Decision) -> Result<Decided, DecideError> {
        self.outbox.send(Decide { event_id: EventId::parse(id).unwrap(), decision }).await.unwrap()
    }

    async fn retry(&self, id: &str) {
        let decided = self.decide(id, Decision::Retry).await.unwrap();
        assert_eq!(decided.decision, Decision::Retry);
    }

    async fn refuse(&self, seqs: impl IntoIterator<Item = i64>) {
        let refused = Outcome::Refused(DeadReason::NotAuthorized);
        self.answer(seqs.into_iter().map(|seq| (seq, refused.clone()))).await;
    }

    /// Three events, all of them settled and recorded. The second one is dead.
    async fn with_a_dead_event() -> Self {
        let mut it = Self::new().await;
        it.publish_many(1..=3).await;
        it.link_up(100).await;
        it.sent(3).await;
        it.refuse([2]).await;
        it.acknowledge([1, 3]).await;
        it.wait_for_checkpoint(3).await;
        it
    }

    async fn reopen(self) -> Self {
        let dir = self.crash().await.unwrap();
        let mut it = Self::open(dir.path(), MqttSettings::defaults("c"), 100).await;
        it.dir = Some(dir);
        it
    }

    async fn listed(&self, state: DeliveryState) -> Vec<i64> {
        let list = ListEvents(EventQuery { state: Some(state), limit: 10, ..EventQuery::default() });
        let list = self.outbox.send(list).await.unwrap().unwrap();
        list.events.iter().map(|record| record.seq.0).collect()
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_retried_event_is_eventually_delivered() {
    let it = Fixture::with_a_dead_event().await;
    it.retry("e2").await;
    assert_eq!(it.delivery("e2").await.state, DeliveryState::Pending);
    let status = it.status().await;
    assert_eq!((status.pending, status.dead), (1, 0));
    assert_eq!(it.listed(DeliveryState::Pending).await, [2]);
    assert_eq!(it.listed(DeliveryState::Dead).await, [0i64; 0]);
    let sent = it.sent(1).await;
    assert_eq!((sent[0].seq, sent[0].topic.as_str()), (Seq(2), "liveobject/camera/door/event"));
    assert!(sent[0].asked.is_some(), "its earlier attempts do not count");
    it.acknowledge([2]).await;
    it.wait_until_recorded("e2", DeliveryState::Delivered).await;
    assert_eq!(it.listed(DeliveryState::Delivered).await, [3, 2, 1]);
    let status = it.status().await;
    assert_eq!((status.pending, status.dead, status.published), (0, 0, 3));
    let reason = crate::metrics::ReasonLabel { reason: "not_authorized" };
    assert_eq!(it.metrics.events_dead.get_or_create(&reason).get(), 1, "the metric does not decrease");
    let mut it = it.reopen().await;
    assert_eq!(it.delivery("e2").await.state, DeliveryState::Delivered);
    it.link_up(100).await;
    it.publish(event("e4")).await.unwrap();
    assert_eq!(it.sent_seqs(1).await, [4], "it is not sent a third time");
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_2_retries_survive_a_crash() {
    let it = Fixture::with_a_dead_event().await;
    it.retry("e2").await;
    let mut it = it.reopen().await;
    let status = it.status().await;
    assert_eq!((status.pending, status.dead), (1, 0));
    assert_eq!(it.delivery("e2").await.state, DeliveryState::Pending);
    it.publish(event("e4")).await.unwrap();
    it.link_up(100).await;
    it.sent(2).await;
    it.link_down().await;
    it.link_up(100).await;
    let mut again = it.sent_seqs(2).await;
    again.sort_unstable();
    assert_eq!(again, [2, 4], "it is sent again after a lost link");
    it.acknowledge([2, 4]).await;
    it.wait_until_recorded("e2", DeliveryState::Delivered).await;
}

#[actix_rt::test(system = "crate::System")]
async fn the_retry_of_an_event_above_the_cursor_keeps_the_order() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=4).await;
    it.link_up(100).await;
    it.sent(4).await;
    it.refuse([3]).await;
    it.wait_until_recorded("e3", DeliveryState::Dead).await;
    it.link_down().await;
    it.retry("e3").await;
    assert_eq!(it.status().await.pending, 4);
    let mut it = it.reopen().await;
    assert_eq!(it.status().await.pending, 4);
    it.link_up(100).await;
    let sent = it.sent_seqs(4).await;
    let first_time: Vec<_> = sent.iter().copied().filter(|seq| *seq != 3).collect();
    assert_eq!(first_time, [1, 2, 4]);
    assert_eq!(sent.iter().filter(|seq| **seq == 3).count(), 1, "once: {sent:?}");
    it.acknowledge([1, 2, 3, 4]).await;
    it.wait_for_checkpoint(4).await;
    it.wait_until_recorded("e3", DeliveryState::Delivered).await;
    assert_eq!(it.status().await.pending, 0);
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_10_the_retry_of_an_old_event_goes_to_history() {
    let it = Fixture::with_a_dead_event().await;
    let aged = "UPDATE events SET log_time = log_time - 400000000";
    it.store.execute(aged).await.unwrap();
    it.change(MqttSettings { message_expiry_seconds: 60, ..MqttSettings::defaults("c") }).await;
    it.retry("e2").await;
    let sent = it.sent(1).await;
    assert_eq!(sent[0].topic, "liveobject/camera/door/history");
    assert!(sent[0].expiry_seconds.is_some(), "the expiry is counted from the decision");
    it.acknowledge([2]).await;
    it.wait_until_recorded("e2", DeliveryState::Delivered).await;
    assert!(it.delivery("e2").await.late);
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_that_dies_again_can_be_retried_again() {
    let it = Fixture::with_a_dead_event().await;
    for _ in 0..2 {
        it.retry("e2").await;
        assert_eq!(it.sent_seqs(1).await, [2]);
        it.refuse([2]).await;
        it.wait_until_recorded("e2", DeliveryState::Dead).await;
        let status = it.status().await;
        assert_eq!((status.pending, status.dead), (0, 1));
    }
    let it = it.reopen().await;
    let status = it.status().await;
    assert_eq!((status.pending, status.dead), (0, 1));
}

#[actix_rt::test(system = "crate::System")]
async fn a_deferred_retry_is_sent_again() {
    let it = Fixture::with_a_dead_event().await;
    it.retry("e2").await;
    it.sent(1).await;
    it.answer([(2, Outcome::Deferred { reason: "quota_exceeded", attempts: None })]).await;
    it.publish(event("e4")).await.unwrap();
    let mut sent = it.sent_seqs(2).await;
    sent.sort_unstable();
    assert_eq!(sent, [2, 4]);
}

#[actix_rt::test(system = "crate::System")]
async fn a_dismissed_event_stays_dead_but_is_neither_listed_nor_counted() {
    let it = Fixture::with_a_dead_event().await;
    for _ in 0..2 {
        it.decide("e2", Decision::Dismiss).await.unwrap();
        let delivery = it.delivery("e2").await;
        assert_eq!((delivery.state, delivery.dismissed), (DeliveryState::Dead, true));
        assert_eq!(it.listed(DeliveryState::Dead).await, [0i64; 0]);
        assert_eq!(it.status().await.dead, 0);
    }
    let mut it = it.reopen().await;
    assert_eq!(it.status().await.dead, 0);
    it.link_up(100).await;
    it.retry("e2").await;
    assert_eq!(it.sent_seqs(1).await, [2], "it can still be retried");
    it.refuse([2]).await;
    wait_until("it is listed", async || it.listed(DeliveryState::Dead).await == [2]).await;
    assert_eq!(it.status().await.dead, 1, "it is counted again after it died again");
}

#[actix_rt::test(system = "crate::System")]
async fn only_dead_events_can_be_retried_or_dismissed() {
    let it = Fixture::with_a_dead_event().await;
    it.publish(event("e4")).await.unwrap();
    for decision in [Decision::Retry, Decision::Dismiss] {
        for (id, error) in
            [("e1", DecideError::NotDead), ("e4", DecideError::NotDead), ("nobody", DecideError::Unknown)]
        {
            assert_eq!(it.decide(id, decision).await.unwrap_err(), error, "{decision:?} {id}");
        }
    }
    it.retry("e2").await;
    assert_eq!(it.decide("e2", Decision::Retry).await.unwrap_err(), DecideError::NotDead);
    assert_eq!(it.decide("e2", Decision::Dismiss).await.unwrap_err(), DecideError::NotDead);
}

#[actix_rt::test(system = "crate::System")]
async fn waiting_retries_are_not_swept() {
    let mut it = Fixture::with_a_dead_event().await;
    it.link_down().await;
    it.retry("e2").await;
    let later = it.store.clock().now().log.before(TimeDelta::days(-1));
    let old = it.store.find_old(later).await.unwrap().unwrap();
    let swept = it.store.remove_old(&old).await.unwrap();
    assert_eq!((swept.events, swept.dead), (2, 0));
    assert_eq!(it.delivery("e2").await.state, DeliveryState::Pending);
    it.link_up(100).await;
    assert_eq!(it.sent_seqs(1).await, [2]);
    it.acknowledge([2]).await;
    it.wait_until_recorded("e2", DeliveryState::Delivered).await;
    let old = it.store.find_old(later).await.unwrap().unwrap();
    let swept = it.store.remove_old(&old).await.unwrap();
    assert_eq!(swept.events, 1);
    assert_eq!(it.store.retries_above(Seq(0)).await.unwrap(), [], "no row is left");
}

#[actix_rt::test(system = "crate::System")]
async fn a_decision_is_found_again_if_its_commit_failed_but_was_written() {
    let it = Fixture::with_a_dead_event().await;
    // The failed commit has written nothing, but the outbox cannot know that and reads the state again.
    let (broken, repaired) = if crate::testing::database::is_served() {
        ("ALTER TABLE retries ADD CONSTRAINT no CHECK (seq < 0)", "ALTER TABLE retries DROP CONSTRAINT no")
    } else {
        ("CREATE TRIGGER no BEFORE INSERT ON retries BEGIN SELECT RAISE(ABORT, 'no'); END", "DROP TRIGGER no")
    };
    it.store.execute(broken).await.unwrap();
    assert!(matches!(it.decide("e2", Decision::Retry).await, Err(DecideError::Storage(_))));
    it.store.execute(repaired).await.unwrap();
    let written = "DELETE FROM dead_events; INSERT INTO retries (seq, asked_at, late) VALUES (2, 0, FALSE)";
    it.store.execute(written).await.unwrap();
    it.publish(event("e4")).await.unwrap();
    let mut sent = it.sent_seqs(2).await;
    sent.sort_unstable();
    assert_eq!(sent, [2, 4]);
    let status = it.status().await;
    assert_eq!((status.pending, status.dead), (2, 0));
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_12_an_unreadable_row_is_dead_and_only_that_row() {
    let it = Fixture::new().await;
    it.publish_many(1..=9).await;
    it.store.execute("UPDATE events SET camera_id = 'no id' WHERE seq IN (2, 5)").await.unwrap();
    let mut it = it.reopen().await;
    it.link_up(1000).await;
    let sent = it.sent_seqs(7).await;
    assert!(!sent.contains(&2) && !sent.contains(&5) && sent.contains(&9));
    let status = it.status().await;
    assert_eq!((status.dead, status.database_damaged), (2, true));
    assert_eq!(status.warnings[0].kind, WarningKind::EventsUnreadable);
    it.acknowledge(sent).await;
    it.wait_for_checkpoint(9).await;
    assert_eq!(it.decide("e2", Decision::Dismiss).await.map(|done| done.seq), Ok(Seq(2)));
    it.store.execute("UPDATE events SET camera_id = 'door' WHERE seq = 5").await.unwrap();
    it.retry("e5").await;
    assert_eq!(it.sent_seqs(1).await, [5], "it was repaired");
    wait_until("the database is sound", async || !it.status().await.database_damaged).await;
    assert_eq!(it.status().await.warnings, []);
}

#[actix_rt::test(system = "crate::System")]
async fn an_unreadable_row_that_is_not_recorded_yet_is_not_forgotten_by_a_count() {
    let it = Fixture::new().await;
    it.publish_many(1..=1).await;
    it.store.execute("UPDATE events SET camera_id = 'no id'").await.unwrap();
    let mut it = it.reopen().await;
    it.link_up(1000).await;
    it.wait_for_checkpoint(1).await;
    it.link_down().await;
    it.publish_many(2..=2).await;
    it.store.execute("UPDATE events SET camera_id = 'no id'").await.unwrap();
    let mut it = it.reopen().await;
    let writer = it.store.occupy_writer().await.unwrap();
    let id = EventId::parse("e1").unwrap();
    let dismissed = it.outbox.send(Decide { event_id: id, decision: Decision::Dismiss });
    let found = async {
        // While the decision waits for the database.
        settle().await;
        it.link_up(1000).await;
        wait_until("the second row is found", async || it.status().await.dead == 2).await;
        drop(writer);
    };
    let (dismissed, ()) = tokio::join!(dismissed, found);
    dismissed.unwrap().unwrap();
    it.wait_for_checkpoint(2).await;
    let counted = async || {
        let status = it.status().await;
        let message = status.warnings.first().map_or("", |warning| &warning.message);
        assert_ne!(message, "", "the second row was forgotten: {status:?}");
        message.starts_with("1 event cannot be read")
    };
    wait_until("the rows are counted again", counted).await;
    let status = it.status().await;
    assert_eq!((status.dead, status.database_damaged), (1, true));
}

#[actix_rt::test(system = "crate::System")]
async fn a_retry_is_sent_before_a_backlog_of_events_that_were_never_sent() {
    let mut it = Fixture::with_a_dead_event().await;
    it.link_down().await;
    it.retry("e2").await;
    it.publish_many(4..=500).await;
    it.link_up(500).await;
    assert_eq!(it.sent_seqs(1).await[0], 2);
    let mut it = it.reopen().await;
    it.link_up(500).await;
    assert_eq!(it.sent_seqs(1).await[0], 2, "after a restart, too");
}

#[actix_rt::test(system = "crate::System")]
async fn retries_that_cannot_be_read_do_not_hold_up_new_events() {
    let mut it = Fixture::with_a_dead_event().await;
    it.link_down().await;
    it.retry("e2").await;
    it.publish(event("e4")).await.unwrap();
    it.store.execute("ALTER TABLE retries RENAME TO gone").await.unwrap();
    it.link_up(500).await;
    assert_eq!(it.sent_seqs(1).await, [4]);
}

/// 300 dead events of the camera `door`, and one of the camera `yard`, which has expired.
async fn many_dead_events() -> Fixture {
    let mut it = Fixture::new().await;
    it.publish_many(1..=300).await;
    let yard = EventInput { camera_id: "yard".into(), description: "d".into(), ..EventInput::default() };
    it.publish(yard.validate().unwrap()).await.unwrap();
    it.link_up(500).await;
    let mut refused = 0;
    while refused < 301 {
        let sent = it.sent_seqs(1).await;
        refused += sent.len();
        it.refuse(sent).await;
    }
    it.wait_for_checkpoint(301).await;
    it.store.execute("UPDATE dead_events SET reason = 'expired' WHERE seq = 301").await.unwrap();
    it.link_down().await;
    it
}

#[actix_rt::test(system = "crate::System")]
async fn all_dead_events_that_match_are_retried_or_dismissed() {
    let it = many_dead_events().await;
    let decide = async |filter: DeadFilter, decision| {
        it.outbox.send(DecideAll { filter, decision }).await.unwrap().unwrap()
    };
    let all = |events| DecidedAll { events, complete: true, next_after: None };
    let expired = DeadFilter { reason: Some(DeadReason::Expired), ..DeadFilter::default() };
    assert_eq!(decide(expired, Decision::Dismiss).await, all(1));
    let pool = DeadFilter { camera_id: CameraId::parse("pool").ok(), ..DeadFilter::default() };
    assert_eq!(decide(pool, Decision::Retry).await, all(0));
    let first = DeadFilter { before: Some(Seq(251)), ..DeadFilter::default() };
    assert_eq!(decide(first, Decision::Retry).await, all(250));
    assert_eq!((it.status().await.pending, it.status().await.dead), (250, 50));
    let later = DeadFilter { after: Some(Seq(290)), ..DeadFilter::default() };
    assert_eq!(decide(later, Decision::Dismiss).await, all(10));
    let door = DeadFilter { camera_id: CameraId::parse("door").ok(), ..DeadFilter::default() };
    assert_eq!(decide(door, Decision::Dismiss).await, all(40));
    assert_eq!(decide(DeadFilter::default(), Decision::Retry).await, all(0), "the others are dismissed");
    let mut it = it.reopen().await;
    it.link_up(500).await;
    assert_eq!(it.sent_seqs(10).await[..10], (1..=10).collect::<Vec<_>>());
}

#[actix_rt::test(system = "crate::System")]
async fn those_above_the_limit_are_reached_even_if_the_others_fail_again() {
    let mut it = many_dead_events().await;
    // 2,100 dead events of one camera.
    it.publish_many(302..=2101).await;
    it.link_up(3000).await;
    let mut refused = 0;
    while refused < 1800 {
        let sent = it.sent_seqs(1).await;
        refused += sent.len();
        it.refuse(sent).await;
    }
    it.wait_for_checkpoint(2101).await;
    let all = DecideAll { filter: DeadFilter::default(), decision: Decision::Retry };
    let decided = it.outbox.send(all).await.unwrap().unwrap();
    assert_eq!(decided, DecidedAll { events: 2000, complete: false, next_after: Some(Seq(2000)) });
    let mut refused = 0;
    while refused < 2000 {
        let sent = it.sent_seqs(1).await;
        refused += sent.len();
        it.refuse(sent).await;
    }
    let is_dead = async || it.status().await.dead == 2101;
    wait_until("all are dead again", is_dead).await;
    let filter = DeadFilter { after: decided.next_after, ..DeadFilter::default() };
    let decided = it.outbox.send(DecideAll { filter, decision: Decision::Retry }).await.unwrap().unwrap();
    assert_eq!(decided, DecidedAll { events: 101, complete: true, next_after: None });
    assert_eq!(it.sent_seqs(1).await[0], 2001);
}

#[actix_rt::test(system = "crate::System")]
async fn events_are_accepted_while_many_dead_events_are_retried() {
    let it = many_dead_events().await;
    let retry = it.outbox.send(DecideAll { filter: DeadFilter::default(), decision: Decision::Retry });
    let (decided, receipt) = tokio::join!(retry, it.publish(event("now")));
    assert_eq!(decided.unwrap().unwrap().events, 301);
    assert_eq!(receipt.unwrap().seq, Seq(302));
}

#[actix_rt::test(system = "crate::System")]
async fn a_retried_event_that_dies_again_during_a_sweep_is_never_reported_as_delivered() {
    let mut it = many_dead_events().await;
    let all = DecideAll { filter: DeadFilter::default(), decision: Decision::Retry };
    it.outbox.send(all).await.unwrap().unwrap();
    it.link_up(500).await;
    let mut refused = 0;
    while refused < 301 {
        let sent = it.sent_seqs(1).await;
        refused += sent.len();
        let everything = it.store.clock().now().log.before(TimeDelta::days(-1));
        let sweep = async {
            if let Some(old) = it.store.find_old(everything).await.unwrap() {
                it.store.remove_old(&old).await.unwrap();
            }
        };
        tokio::join!(sweep, it.refuse(sent));
        assert_eq!(it.listed(DeliveryState::Delivered).await, [0i64; 0]);
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_retry_is_reported_as_delivered_when_the_broker_acknowledges_it() {
    let it = Fixture::with_a_dead_event().await;
    it.retry("e2").await;
    it.sent(1).await;
    let occupied = it.store.occupy_writer().await.unwrap();
    let before = clock::now();
    it.acknowledge([2]).await;
    let acknowledged = before..=clock::now();
    let known = it.delivery("e2").await;
    assert_eq!(known.state, DeliveryState::Delivered);
    assert_eq!(it.listed(DeliveryState::Delivered).await, [3, 2, 1]);
    assert_eq!(it.listed(DeliveryState::Pending).await, [0i64; 0]);
    tokio::time::sleep(super::writer::NOTE_WITHIN * 2).await;
    drop(occupied);
    it.wait_until_recorded("e2", DeliveryState::Delivered).await;
    let recorded = it.recorded("e2").await;
    assert!(acknowledged.contains(&recorded.delivered_at.unwrap()), "{acknowledged:?} {recorded:?}");
    assert_eq!(it.delivery("e2").await, known);
}

#[actix_rt::test(system = "crate::System")]
async fn a_decision_about_all_dead_events_applies_to_those_that_are_not_recorded_yet() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=2).await;
    it.link_up(100).await;
    it.sent(2).await;
    it.refuse([1, 2]).await;
    assert_eq!(it.listed(DeliveryState::Dead).await, [2, 1]);
    let all = DecideAll { filter: DeadFilter::default(), decision: Decision::Dismiss };
    let decided = it.outbox.send(all).await.unwrap().unwrap();
    assert_eq!(decided, DecidedAll { events: 2, complete: true, next_after: None });
}
