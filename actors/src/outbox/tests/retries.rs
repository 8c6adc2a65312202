//! Dead events that are retried or dismissed.
//! Tests named `invariant_N_…` prove the invariants of docs/architecture.md.

use super::*;
use crate::{
    domain::delivery::{DecideError, Decided, Decision},
    messages::outbox::Decide,
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
        let events = self.outbox.send(list).await.unwrap().unwrap();
        events.iter().map(|record| record.seq.0).collect()
    }

    async fn delivered(&self, id: &str) {
        let what = format!("{id} is delivered");
        wait_until(&what, async || self.delivery(id).await.state == DeliveryState::Delivered).await;
    }
}

#[actix::test]
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
    it.acknowledge([2]).await;
    it.delivered("e2").await;
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

#[actix::test]
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
    it.delivered("e2").await;
}

#[actix::test]
async fn the_retry_of_an_event_above_the_cursor_keeps_the_order() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=4).await;
    it.link_up(100).await;
    it.sent(4).await;
    it.refuse([3]).await;
    wait_until("the dead event is written", async || it.delivery("e3").await.state == DeliveryState::Dead)
        .await;
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
    it.delivered("e3").await;
    assert_eq!(it.status().await.pending, 0);
}

#[actix::test]
async fn invariant_10_the_retry_of_an_old_event_goes_to_history() {
    let it = Fixture::with_a_dead_event().await;
    let aged =
        "UPDATE events SET received_at = received_at - 400000000, occurred_at = occurred_at - 400000000";
    it.store.execute(aged).await.unwrap();
    it.change(MqttSettings { message_expiry_seconds: 60, ..MqttSettings::defaults("c") }).await;
    it.retry("e2").await;
    let sent = it.sent(1).await;
    assert_eq!(sent[0].topic, "liveobject/camera/door/history");
    assert!(sent[0].expiry_seconds.is_some(), "the expiry is counted from the decision");
    it.acknowledge([2]).await;
    it.delivered("e2").await;
    assert!(it.delivery("e2").await.late);
}

#[actix::test]
async fn an_event_that_dies_again_can_be_retried_again() {
    let it = Fixture::with_a_dead_event().await;
    for _ in 0..2 {
        it.retry("e2").await;
        assert_eq!(it.sent_seqs(1).await, [2]);
        it.refuse([2]).await;
        wait_until("it is dead", async || it.delivery("e2").await.state == DeliveryState::Dead).await;
        let status = it.status().await;
        assert_eq!((status.pending, status.dead), (0, 1));
    }
    let it = it.reopen().await;
    let status = it.status().await;
    assert_eq!((status.pending, status.dead), (0, 1));
}

#[actix::test]
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

#[actix::test]
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

#[actix::test]
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

#[actix::test]
async fn waiting_retries_are_not_swept() {
    let mut it = Fixture::with_a_dead_event().await;
    it.link_down().await;
    it.retry("e2").await;
    let later = clock::now() + chrono::Duration::seconds(DAY);
    let swept = it.store.sweep(later).await.unwrap();
    assert_eq!((swept.events, swept.dead), (2, 0));
    assert_eq!(it.delivery("e2").await.state, DeliveryState::Pending);
    it.link_up(100).await;
    assert_eq!(it.sent_seqs(1).await, [2]);
    it.acknowledge([2]).await;
    it.delivered("e2").await;
    let swept = it.store.sweep(later).await.unwrap();
    assert_eq!(swept.events, 1);
    assert_eq!(it.store.retries_above(Seq(0)).await.unwrap(), [], "no row is left");
}

#[actix::test]
async fn a_decision_is_found_again_if_its_commit_failed_but_was_written() {
    let it = Fixture::with_a_dead_event().await;
    // The failed commit has written nothing, but the outbox cannot know that and reads the state again.
    let broken = "CREATE TRIGGER no BEFORE INSERT ON retries BEGIN SELECT RAISE(ABORT, 'no'); END";
    it.store.execute(broken).await.unwrap();
    assert!(matches!(it.decide("e2", Decision::Retry).await, Err(DecideError::Storage(_))));
    let repaired = "DROP TRIGGER no; DELETE FROM dead_events; INSERT INTO retries VALUES (2, 0, NULL, 0)";
    it.store.execute(repaired).await.unwrap();
    it.publish(event("e4")).await.unwrap();
    let mut sent = it.sent_seqs(2).await;
    sent.sort_unstable();
    assert_eq!(sent, [2, 4]);
    let status = it.status().await;
    assert_eq!((status.pending, status.dead), (2, 0));
}
