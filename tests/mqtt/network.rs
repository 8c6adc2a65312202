//! Network failures: connections that are cut, reset or refused, and unknown host names.

use std::time::Duration;

use liveobject_test_support::{Proxy, wait_until};
use serde_json::json;

use crate::helpers::{
    LONG_TIMEOUT, Scene, Stream, TIMEOUT, assert_all_arrive, connect, error_message, fails_with, service,
    settings, wait_for_error,
};

#[tokio::test]
async fn connections_that_are_cut_or_reset_under_load_lose_nothing() {
    let scene = Scene::start().await;
    let proxy = Proxy::start(scene.broker.port()).await;
    connect(&scene.service, proxy.port(), &json!({})).await;
    let stream = Stream::start(&scene.service);
    for reset in [false, true, false] {
        stream.wait_for_more(50).await;
        if reset {
            proxy.reset().await;
        } else {
            proxy.cut().await;
        }
        let is_disconnected = |status: &serde_json::Value| status["connected"] == false;
        let status = scene.service.wait_status("the connection is lost", TIMEOUT, is_disconnected).await;
        assert_eq!(status["last_error"]["kind"], "closed", "{status}");
        scene.service.wait_connected(TIMEOUT).await;
    }
    stream.wait_for_more(50).await;
    let mut ledger = stream.stop().await;
    scene.assert_all_arrive(&mut ledger).await;
    assert!(ledger.unconfirmed().is_empty(), "{}", ledger.summary());
}

#[tokio::test]
async fn refused_connections_are_reported_and_nothing_is_lost() {
    let scene = Scene::start().await;
    let proxy = Proxy::start(scene.broker.port()).await;
    connect(&scene.service, proxy.port(), &json!({})).await;
    let stream = Stream::start(&scene.service);
    stream.wait_for_more(50).await;
    proxy.refuse().await;
    proxy.cut().await;
    let status = wait_for_error(&scene.service, "refused").await;
    assert_eq!(status["connected"], false);
    stream.wait_for_more(50).await;
    proxy.accept().await;
    scene.service.wait_connected(LONG_TIMEOUT).await;
    let mut ledger = stream.stop().await;
    assert_all_arrive(&scene.service, &[&scene.subscriber], &mut ledger).await;
}

#[tokio::test]
async fn a_slow_network_is_not_a_fault() {
    let scene = Scene::start().await;
    let proxy = Proxy::start(scene.broker.port()).await;
    proxy.delay(Duration::from_millis(300));
    connect(&scene.service, proxy.port(), &json!({})).await;
    let stream = Stream::start(&scene.service);
    stream.wait_for_more(200).await;
    let mut ledger = stream.stop().await;
    scene.assert_all_arrive(&mut ledger).await;
    assert_eq!(ledger.duplicates(), 0, "{}", ledger.summary());
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn an_unknown_host_name_is_reported() {
    let service = service().start().await;
    let nowhere = json!({ "broker_host": "no-such-host.invalid", "connect_timeout_seconds": 2 });
    let status = fails_with(&service, &settings(1883, &nowhere), "name_not_found").await;
    assert_eq!(status["broker"], "no-such-host.invalid:1883");
    let message = error_message(&status);
    assert!(message.contains("no-such-host.invalid"), "{message}");
}

#[tokio::test]
async fn a_port_that_closes_at_once_is_reported_as_closed() {
    // Nothing listens behind the proxy, so the proxy accepts connections and closes them.
    let unused_port = liveobject_test_support::free_port();
    let proxy = Proxy::start(unused_port).await;
    let service = service().start().await;
    let status = fails_with(&service, &settings(proxy.port(), &json!({})), "closed").await;
    assert!(status["last_error"]["message"].as_str().is_some_and(|text| text.contains("login")), "{status}");
    wait_until("the next attempt", TIMEOUT, async || proxy.unreachable() >= 2).await;
}
