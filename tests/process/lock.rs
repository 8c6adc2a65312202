//! A database that another process holds: a backup, a shell.

use crate::helpers::{
    Database, SOON, accept, assert_kept, broker_and_subscriber, event, ids, service, settle,
};

#[tokio::test]
async fn while_another_process_holds_the_lock_events_are_put_off_and_afterwards_taken() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let service = service().start().await;
    service.connect_to(broker.port()).await;
    let mut ledger = accept(&service, ids("before", 3)).await;
    let other = Database::of(&service).await;
    let held = other.lock().await;

    let refused = service.post_event(&event("meanwhile")).await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(!refused.header("retry-after").is_empty());
    let _ = refused.expect(503);
    let _ = service.get("/health/live").await.expect(200);
    assert_eq!(service.get("/api/v1/events/before-0").await.expect(200)["event_id"], "before-0");
    let told =
        service.log_lines().into_iter().find(|line| line["level"] == "ERROR").expect("an error in the log");
    assert!(told.to_string().contains("locked"), "{told}");

    held.rollback().await.expect("the lock can be given back");
    ledger.accepted_receipt(&service.submit(&event("meanwhile"), SOON).await);
    settle(&service, &subscriber, &mut ledger, 4).await;
    assert_kept(&ledger);
}

#[tokio::test]
async fn a_service_does_not_start_on_a_database_that_another_process_holds() {
    let mut service = service().start().await;
    let _ledger = accept(&service, ids("kept", 3)).await;
    service.sigterm();
    assert_eq!(service.wait().await, 0);
    let other = Database::of(&service).await;
    let held = other.lock().await;

    let before = service.log_text().len();
    service.spawn();
    assert_eq!(service.wait().await, 1);
    let log = service.log_text();
    let said = &log[before..];
    for part in ["liveobject.db", "is locked by another process", "fuser", "stop it and start again"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }

    held.rollback().await.expect("the lock can be given back");
    service.start().await;
    assert_eq!(service.status().await["outbox"]["pending"], 3);
}
