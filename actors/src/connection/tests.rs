//! The connection's end is told, whatever the cause.

use actix::Addr;
use tokio::net::TcpListener;

use super::*;
use crate::{
    domain::settings::Protocol,
    testing::{Crash, Recorded, Recorder},
};

struct Fixture {
    connection: Addr<ConnectionActor>,
    ended: Recorded<ConnectionEnded>,
    link_down: Recorded<LinkDown>,
    /// Accepts, and says nothing.
    _silent: TcpListener,
}

async fn connecting() -> Fixture {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = MqttSettings {
        broker_host: "127.0.0.1".to_owned(),
        broker_port: silent.local_addr().unwrap().port(),
        connect_timeout_seconds: 1,
        ..MqttSettings::defaults("c")
    };
    let (connected, _) = Recorder::start_new();
    let (ended_to, ended) = Recorder::start_new();
    let (link_up, _) = Recorder::start_new();
    let (link_down_to, link_down) = Recorder::start_new();
    let (answered, _) = Recorder::start_new();
    let peers = Peers {
        connected: connected.recipient(),
        ended: ended_to.recipient(),
        link_up: vec![link_up.recipient()],
        link_down: vec![link_down_to.recipient()],
        answered: answered.recipient(),
    };
    let (settings, approach) = (Arc::new(settings), VersionPolicy::to(Protocol::Auto));
    let connection =
        ConnectionActor::new(LinkId(1), settings, approach, Suspects::default(), 10, peers).start();
    Fixture { connection, ended, link_down, _silent: silent }
}

async fn told<M>(told: &Recorded<M>) -> M {
    for _ in 0..1000 {
        if let Some(fact) = told.take().pop() {
            return fact;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was told within 5 s");
}

#[actix::test]
async fn a_panic_is_told_as_a_failed_connection() {
    let it = connecting().await;
    let _closed = it.connection.send(Crash).await;
    let ended = told(&it.ended).await;
    assert_eq!(ended.failure.unwrap().kind, FailureKind::Panicked);
    assert_eq!(told(&it.link_down).await.failure, Some(FailureKind::Panicked));
}

#[actix::test]
async fn a_broker_that_does_not_answer_the_login_is_a_timeout() {
    let it = connecting().await;
    let failure = told(&it.ended).await.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.message.contains("accepts connections"), "{}", failure.message);
}

#[actix::test]
async fn closing_while_it_connects_ends_it_at_once() {
    let it = connecting().await;
    it.connection.send(Close).await.unwrap();
    assert!(told(&it.ended).await.failure.is_none());
}
