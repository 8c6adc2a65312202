//! The end of a connection is reported, whatever the cause, and no event overtakes one that was given back.

use actix::Addr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    domain::{ids::Seq, settings::Protocol},
    messages::connection::Outgoing,
    store::TestOwner,
    testing::{Crash, Recorded, Recorder},
};

struct Fixture {
    connection: Addr<ConnectionActor>,
    ended: Recorded<ConnectionEnded>,
    link_down: Recorded<LinkDown>,
    link_up: Recorded<LinkUp>,
    answered: Recorded<Answered>,
    /// Accepts connections and sends nothing.
    silent: TcpListener,
}

async fn connect_to_silent_server() -> Fixture {
    connect_through(Gate::default()).await
}

async fn connect_through(gate: Gate) -> Fixture {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = MqttSettings {
        broker_host: "127.0.0.1".to_owned(),
        broker_port: silent.local_addr().unwrap().port(),
        connect_timeout_seconds: 1,
        ..MqttSettings::defaults("c")
    };
    let (connected, _) = Recorder::start_new();
    let (ended_to, ended) = Recorder::start_new();
    let (link_up, up) = Recorder::start_new();
    let (link_down_to, link_down) = Recorder::start_new();
    let (answered, answers) = Recorder::start_new();
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
    let poison = Poison::default();
    let connection =
        ConnectionActor::new(LinkId(1), settings, version_policy, poison, 10, gate, peers).start();
    Fixture { connection, ended, link_down, silent, link_up: up, answered: answers }
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

#[actix_rt::test(system = "crate::System")]
async fn a_panic_is_reported_as_a_failed_connection() {
    let fixture = connect_to_silent_server().await;
    let _closed = fixture.connection.send(Crash).await;
    let ended = next_fact(&fixture.ended).await;
    assert_eq!(ended.failure.unwrap().kind, FailureKind::Panicked);
    assert_eq!(next_fact(&fixture.link_down).await.link, LinkId(1));
}

#[actix_rt::test(system = "crate::System")]
async fn a_login_that_the_broker_does_not_answer_times_out() {
    let fixture = connect_to_silent_server().await;
    let failure = next_fact(&fixture.ended).await.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.message.contains("accepts connections"), "{}", failure.message);
}

#[actix_rt::test(system = "crate::System")]
async fn closing_during_a_connection_attempt_ends_it_immediately() {
    let fixture = connect_to_silent_server().await;
    fixture.connection.send(Close::Offline).await.unwrap();
    assert!(next_fact(&fixture.ended).await.failure.is_none());
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;

/// Reads packets up to the next one of this type, and returns its body.
async fn next_packet(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let (first, mut length, mut shift) = (stream.read_u8().await.unwrap(), 0, 0);
        loop {
            let byte = usize::from(stream.read_u8().await.unwrap());
            length |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        if first >> 4 == kind {
            return body;
        }
    }
}

/// Reads the next message with QoS 1. Returns its topic and its packet id.
async fn next_message(stream: &mut TcpStream) -> (String, [u8; 2]) {
    let body = next_packet(stream, PUBLISH).await;
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
    (topic, [body[2 + length], body[3 + length]])
}

async fn acknowledge(stream: &mut TcpStream, [high, low]: [u8; 2]) {
    stream.write_all(&[0x40, 2, high, low]).await.unwrap();
}

fn outgoing(seq: i64) -> Outgoing {
    let (topic, payload) = (format!("e{seq}"), bytes::Bytes::from_static(b"{}"));
    let seq = Seq(seq);
    Outgoing { seq, topic, payload, qos: QoS::AtLeastOnce, retain: false, expiry_seconds: None, asked: None }
}

fn deliver(seqs: impl IntoIterator<Item = i64>, pauses: u64) -> Deliver {
    Deliver { events: seqs.into_iter().map(outgoing).collect(), pauses }
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_3_no_event_overtakes_one_that_was_given_back_in_the_same_moment() {
    let fixture = connect_to_silent_server().await;
    let (mut broker, _) = fixture.silent.accept().await.unwrap();
    let _connect = next_packet(&mut broker, CONNECT).await;
    // The broker takes one message at a time.
    broker.write_all(&[0x20, 6, 0, 0, 3, 0x21, 0, 1]).await.unwrap();
    let (_, birth) = next_message(&mut broker).await;
    acknowledge(&mut broker, birth).await;
    let _up = next_fact(&fixture.link_up).await;

    fixture.connection.send(deliver([1, 2], 0)).await.unwrap();
    let (topic, first) = next_message(&mut broker).await;
    assert_eq!(topic, "e1");
    let given_back = next_fact(&fixture.answered).await;
    assert_eq!(given_back.outcomes, [(Seq(2), Outcome::Returned)], "event 2 has waited too long");
    // The outbox sent this before it received the report.
    fixture.connection.send(deliver([3], 0)).await.unwrap();
    acknowledge(&mut broker, first).await;
    let mut outcomes = Vec::new();
    for _ in 0..1000 {
        if outcomes.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        outcomes.extend(fixture.answered.take().into_iter().flat_map(|answered| answered.outcomes));
    }
    let delivered = Outcome::Delivered { unheard: false };
    assert!(outcomes.contains(&(Seq(3), Outcome::Returned)) && outcomes.contains(&(Seq(1), delivered)));

    fixture.connection.send(deliver([2, 3], 2)).await.unwrap();
    assert_eq!(next_message(&mut broker).await.0, "e2");
}

const DISCONNECT: u8 = 14;

/// Accepts the connection and the login.
async fn accept_login(fixture: &Fixture) -> TcpStream {
    let (mut broker, _) = fixture.silent.accept().await.unwrap();
    let _connect = next_packet(&mut broker, CONNECT).await;
    broker.write_all(&[0x20, 3, 0, 0, 0]).await.unwrap();
    broker
}

/// Returns the types of all packets up to the end of the connection.
async fn packet_types(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let (mut types, mut rest) = (Vec::new(), &rest[..]);
    while let [first, length, after @ ..] = rest {
        types.push(first >> 4);
        rest = &after[usize::from(*length)..];
    }
    types
}

#[actix_rt::test(system = "crate::System")]
async fn nothing_is_published_while_another_node_may_own_the_event_log() {
    let owner = TestOwner::suspended();
    let fixture = connect_through(owner.gate()).await;
    let mut broker = accept_login(&fixture).await;
    let _up = next_fact(&fixture.link_up).await;
    fixture.connection.send(deliver([1], 0)).await.unwrap();
    let given_back = next_fact(&fixture.answered).await;
    assert_eq!(given_back.outcomes, [(Seq(1), Outcome::Returned)]);
    let nothing = tokio::time::timeout(Duration::from_millis(600), broker.read_u8()).await;
    assert!(nothing.is_err(), "{nothing:?}");

    owner.beat();
    let (topic, birth) = next_message(&mut broker).await;
    assert!(topic.ends_with("/status"), "{topic}");
    acknowledge(&mut broker, birth).await;
    fixture.connection.send(deliver([1], 1)).await.unwrap();
    assert_eq!(next_message(&mut broker).await.0, "e1");
}

#[actix_rt::test(system = "crate::System")]
async fn a_node_that_is_not_the_owner_any_more_disconnects_without_a_message() {
    let owner = TestOwner::suspended();
    owner.beat();
    let fixture = connect_through(owner.gate()).await;
    let mut broker = accept_login(&fixture).await;
    let (_, birth) = next_message(&mut broker).await;
    acknowledge(&mut broker, birth).await;
    let _up = next_fact(&fixture.link_up).await;
    owner.fenced();
    fixture.connection.send(Close::Silent).await.unwrap();
    assert_eq!(packet_types(broker).await, [DISCONNECT]);
    assert!(next_fact(&fixture.ended).await.failure.is_none());
}

#[actix_rt::test(system = "crate::System")]
async fn a_node_that_stops_while_another_one_may_be_the_owner_leaves_the_last_will_to_the_broker() {
    let fixture = connect_through(TestOwner::suspended().gate()).await;
    let broker = accept_login(&fixture).await;
    let _up = next_fact(&fixture.link_up).await;
    fixture.connection.send(Close::Offline).await.unwrap();
    assert_eq!(packet_types(broker).await, [0_u8; 0]);
}
