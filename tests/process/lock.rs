//! A database that another process has locked, such as a backup or a shell.

use crate::helpers::{
    Database, TIMEOUT, accept, assert_error_logged, assert_exits, assert_kept, broker_and_subscriber, event,
    ids, service, settle, stop,
};

#[tokio::test]
async fn events_are_refused_while_another_process_holds_the_lock_and_accepted_afterwards() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let service = service().start().await;
    service.connect_to(broker.port()).await;
    let mut ledger = accept(&service, ids("before", 3)).await;
    let other = Database::open(&service).await;
    let lock = other.lock().await;

    let response = service.post_event(&event("during-outage")).await;
    assert_eq!(response.header("content-type"), "application/problem+json");
    assert!(!response.header("retry-after").is_empty());
    let _ = response.expect(503);
    let _ = service.get("/health/live").await.expect(200);
    assert_eq!(service.get("/api/v1/events/before-0").await.expect(200)["event_id"], "before-0");
    assert_error_logged(&service, "locked");

    lock.rollback().await.expect("the lock can be released");
    ledger.accepted_receipt(&service.submit(&event("during-outage"), TIMEOUT).await);
    settle(&service, &subscriber, &mut ledger, 4).await;
    assert_kept(&ledger);
}

#[tokio::test]
async fn the_service_does_not_start_while_another_process_has_locked_the_database() {
    let mut service = service().start().await;
    let _ledger = accept(&service, ids("kept", 3)).await;
    stop(&mut service).await;
    let other = Database::open(&service).await;
    let lock = other.lock().await;

    let parts = ["liveobject.db", "is locked by another process", "fuser", "stop it and start again"];
    assert_exits(&mut service, 1, &parts).await;

    lock.rollback().await.expect("the lock can be released");
    service.start().await;
    assert_eq!(service.status().await["outbox"]["pending"], 3);
}
