//! Events are accepted, but not sent, while another node may own the event log.

use super::*;
use crate::store::TestOwner;

#[actix_rt::test(system = "crate::System")]
async fn events_wait_while_another_node_may_own_the_event_log_and_are_sent_when_it_does_not() {
    let owner = TestOwner::suspended();
    let mut it = Fixture::with_gate(owner.gate()).await;
    it.publish(event("a")).await.unwrap();
    it.link_up(100).await;
    it.publish(event("b")).await.unwrap();
    settle().await;
    let (_, messages) = it.delivered.as_ref().unwrap();
    assert!(messages.take().is_empty());
    owner.beat();
    assert_eq!(it.sent_seqs(2).await, [1, 2]);
    it.acknowledge([1, 2]).await;
    it.wait_for_checkpoint(2).await;
    owner.fenced();
    assert_eq!(it.publish(event("c")).await, Err(PublishError::Storage(StoreFault::NotOwner)));
    settle().await;
    let (_, messages) = it.delivered.as_ref().unwrap();
    assert!(messages.take().is_empty());
}
