//! What keeps the service from starting: another one in its directory, another program on its port.

use std::net::TcpListener;

use crate::helpers::{SOON, accept, assert_kept, broker_and_subscriber, event, ids, service, settle};

#[tokio::test]
async fn a_second_instance_on_the_same_data_directory_is_refused_and_the_first_goes_on() {
    let (broker, subscriber) = broker_and_subscriber().await;
    let first = service().start().await;
    first.connect_to(broker.port()).await;
    let mut ledger = accept(&first, ids("before", 3)).await;

    let mut second = service().data_dir(first.data_dir()).build();
    second.spawn();
    assert_eq!(second.wait().await, 1);
    let said = second.log_text();
    for part in [
        "another liveobject uses the data directory",
        &first.data_dir().display().to_string(),
        "stop it first",
    ] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }

    ledger.accepted_receipt(&first.post_event(&event("after")).await.expect(202));
    settle(&first, &subscriber, &mut ledger, 4).await;
    assert_kept(&ledger);
    let connections = subscriber.on("liveobject/status").len();
    assert_eq!(connections, 1, "the first one's connection was disturbed");
}

#[tokio::test]
async fn a_killed_instance_leaves_no_lock_behind() {
    let mut first = service().start().await;
    first.kill9().await;
    let second = service().data_dir(first.data_dir()).start().await;
    let _ = second.post_event(&event("taken")).await.expect(202);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let mut service = service().port(address.port()).build();
    service.spawn();
    assert_eq!(service.wait().await, 1);
    let said = service.log_text();
    for part in [&address.to_string(), "[http] bind", "already in use. Is another program running there?"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    drop(taken);
    service.start().await;
    let _ = service.post_event(&event("taken")).await.expect(202);
    liveobject_test_support::wait_until("ready", SOON, async || {
        service.get("/health/ready").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_made_is_named_with_a_remedy() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let mut service = service().data_dir(file.path().join("data")).build();
    service.spawn();
    assert_eq!(service.wait().await, 1);
    let said = service.log_text();
    assert!(said.contains(&file.path().join("data").display().to_string()), "{said}");
}
