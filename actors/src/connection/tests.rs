//! The end of a connection is reported, whatever the cause.

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
    /// Accepts connections and sends nothing.
    _silent: TcpListener,
}

async fn connect_to_silent_server() -> Fixture {
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
    let (refused, _) = Recorder::start_new();
    let peers = Peers {
        connected: connected.recipient(),
        ended: ended_to.recipient(),
        refused: refused.recipient(),
        link_up: vec![link_up.recipient()],
        link_down: vec![link_down_to.recipient()],
        answered: answered.recipient(),
    };
    let (settings, version_policy) = (Arc::new(settings), VersionPolicy::of_protocol(Protocol::Auto));
    let connection =
        ConnectionActor::new(LinkId(1), settings, version_policy, Poison::default(), 10, peers).start();
    Fixture { connection, ended, link_down, _silent: silent }
}

async fn next_fact<M>(recorded: &Recorded<M>) -> M {
    for _ in 0..1000 {
        if let Some(fact) = recorded.take().pop() {
            return fact;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no fact was reported within 5 s");
}

#[actix::test]
async fn a_panic_is_reported_as_a_failed_connection() {
    let fixture = connect_to_silent_server().await;
    let _closed = fixture.connection.send(Crash).await;
    let ended = next_fact(&fixture.ended).await;
    assert_eq!(ended.failure.unwrap().kind, FailureKind::Panicked);
    assert_eq!(next_fact(&fixture.link_down).await.link, LinkId(1));
}

#[actix::test]
async fn a_login_that_the_broker_does_not_answer_times_out() {
    let fixture = connect_to_silent_server().await;
    let failure = next_fact(&fixture.ended).await.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.message.contains("accepts connections"), "{}", failure.message);
}

#[actix::test]
async fn closing_during_a_connection_attempt_ends_it_immediately() {
    let fixture = connect_to_silent_server().await;
    fixture.connection.send(Close).await.unwrap();
    assert!(next_fact(&fixture.ended).await.failure.is_none());
}
