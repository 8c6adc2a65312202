//! The outbox at its limit: pending events are kept, and new ones are refused with 503 and `Retry-After`.

use liveobject_test_support::Answer;
use serde_json::json;

use crate::helpers::{BATCH, accept, assert_kept, broker_and_subscriber, event, ids, service, settle};

const MAX_PENDING: usize = 25;

#[track_caller]
fn assert_full(response: Answer) {
    assert_eq!(response.header("content-type"), "application/problem+json");
    let seconds: u32 = response.header("retry-after").parse().expect("Retry-After in seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    let problem = response.expect(503);
    assert_eq!(problem["status"], 503);
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(&MAX_PENDING.to_string()), "{detail}");
}

#[tokio::test]
async fn a_full_outbox_keeps_pending_events_and_accepts_events_again_once_there_is_space() {
    let mut service = service().env("LIVEOBJECT__OUTBOX__MAX_PENDING", MAX_PENDING).start().await;
    let mut ledger = accept(&service, ids("waits", MAX_PENDING)).await;
    assert_full(service.post_event(&event("refused")).await);
    assert_full(service.post(BATCH, &json!([event("refused-1"), event("refused-2")])).await);
    assert_eq!(service.status().await["outbox"]["pending"], MAX_PENDING);
    let _ = service.get("/health/live").await.expect(200);

    service.kill9().await;
    service.start().await;
    assert_full(service.post_event(&event("refused")).await);

    let (broker, subscriber) = broker_and_subscriber().await;
    service.connect_to(broker.port()).await;
    settle(&service, &subscriber, &mut ledger, MAX_PENDING).await;
    assert_kept(&ledger);
    assert_eq!(ledger.duplicates(), 0, "{}", ledger.summary());

    let receipt = service.post_event(&event("refused")).await.expect(202);
    assert_eq!(receipt["duplicate"], false, "the refused event had been accepted: {receipt}");
    service.wait_until_delivered("refused", crate::helpers::TIMEOUT).await;
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_refused_as_a_whole() {
    let service = service().env("LIVEOBJECT__OUTBOX__MAX_PENDING", MAX_PENDING).start().await;
    let _ledger = accept(&service, ids("waits", MAX_PENDING - 1)).await;
    assert_full(service.post(BATCH, &json!([event("one"), event("two")])).await);
    assert_eq!(service.status().await["outbox"]["pending"], MAX_PENDING - 1);
    let _ = service.post_event(&event("one")).await.expect(202);
}
