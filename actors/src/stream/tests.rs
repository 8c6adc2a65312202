//! The streams, with peers that answer as a test tells them to.

use std::sync::Mutex;

use actix::{Addr, MessageResult};

use super::{log::DELIVERIES_AT_ONCE, *};
use crate::{
    domain::{
        clock,
        delivery::{Delivery, DeliveryChange},
        event_log::{EventRecord, QueryError},
        ids::{EventId, Seq},
        status::ConnectionState,
    },
    testing::settle,
};

/// A log of events, all pending, of the cameras `door` (even places) and `yard`.
#[derive(Default)]
struct Behind {
    outbox: OutboxStatus,
    fails: bool,
}

struct Peers(Arc<Mutex<Behind>>);

impl Actor for Peers {
    type Context = Context<Self>;
}

impl Handler<GetStatus> for Peers {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(ConnectionStatus {
            state: ConnectionState::Disabled,
            broker: None,
            protocol: None,
            last_connected_at: None,
            last_error: None,
            reconnect_attempt: 0,
            next_attempt_at: None,
            warnings: Vec::new(),
        })
    }
}

impl Handler<GetOutbox> for Peers {
    type Result = MessageResult<GetOutbox>;

    fn handle(&mut self, _: GetOutbox, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.lock().unwrap().outbox.clone())
    }
}

impl Handler<ReadLog> for Peers {
    type Result = Result<LogPart, QueryError>;

    fn handle(&mut self, ReadLog(read): ReadLog, _: &mut Self::Context) -> Self::Result {
        if self.0.lock().unwrap().fails {
            return Err(QueryError(crate::domain::store_fault::StoreFault::Locked));
        }
        let places = |(after, to): (Seq, Seq)| (after.0 + 1..=to.0).map(Seq);
        let camera_id = |seq: Seq| CameraId::parse(if seq.0 % 2 == 0 { "door" } else { "yard" }).unwrap();
        let event = |seq| EventRecord {
            seq,
            camera_id: camera_id(seq),
            received_at: clock::from_micros(0),
            payload: serde_json::Value::Null,
            delivery: Delivery::default(),
        };
        let change = |seq: Seq| DeliveryChange {
            event_id: EventId::parse(seq.to_string()).unwrap(),
            seq,
            camera_id: camera_id(seq),
            delivery: Delivery::default(),
        };
        let changes = places(read.noted).chain(read.others).map(change).collect();
        Ok(LogPart { events: places(read.events).map(event).collect(), changes })
    }
}

struct Fixture {
    behind: Arc<Mutex<Behind>>,
    streams: Addr<StreamActor>,
    watch: LogWatch,
    metrics: Metrics,
}

impl Fixture {
    fn new(position: Position) -> Self {
        let behind = Arc::<Mutex<Behind>>::default();
        behind.lock().unwrap().outbox.position = position;
        let peers = Peers(Arc::clone(&behind)).start();
        let peers = StreamPeers {
            outbox: peers.clone().recipient(),
            log: peers.clone().recipient(),
            status: peers.recipient(),
        };
        let context = Context::new();
        let watch = LogWatch::new(context.address().recipient());
        let metrics = Metrics::new();
        let crashed = mpsc::unbounded_channel().0;
        let streams = context.run(StreamActor::new(peers, watch.clone(), metrics.clone(), crashed));
        Self { behind, streams, watch, metrics }
    }

    async fn open(
        &self,
        camera_id: Option<&str>,
        resume: Option<Position>,
    ) -> Result<Subscription, StreamError> {
        let camera_id = camera_id.map(|id| CameraId::parse(id).unwrap());
        self.streams.send(OpenStream { camera_id, resume }).await.unwrap()
    }

    async fn moved(&self, seq: i64, noted: i64, others: &[i64]) {
        let others = others.iter().copied().map(Seq).collect();
        self.watch.notify(|| LogMoved { position: at(seq, noted), others });
        tokio::time::sleep(TELL_EVERY * 2).await;
        settle().await;
    }
}

fn at(seq: i64, noted: i64) -> Position {
    Position { seq: Seq(seq), noted: Seq(noted) }
}

/// What waits, in short.
fn read(subscription: &mut Subscription) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(message) = subscription.messages.try_recv() {
        let news = match &message.news {
            StreamEvent::Status(_) => "status".to_owned(),
            StreamEvent::Event(record) => format!("event {}", record.seq),
            StreamEvent::Deliveries(changes) => {
                let places: Vec<_> = changes.iter().map(|change| change.seq.to_string()).collect();
                format!("delivery {}", places.join(","))
            }
            StreamEvent::Reset => "reset".to_owned(),
        };
        told.push(format!("{} {news}", message.position));
    }
    told
}

#[actix::test]
async fn whoever_watches_is_told_the_status_first_and_then_what_happens() {
    tokio::time::pause();
    let it = Fixture::new(at(10, 8));
    let mut one = it.open(None, None).await.unwrap();
    let mut door = it.open(Some("door"), None).await.unwrap();
    it.moved(12, 10, &[3]).await;
    assert_eq!(read(&mut one), ["10-8 status", "11-8 event 11", "12-8 event 12", "12-10 delivery 9,10,3"]);
    assert_eq!(read(&mut door), ["10-8 status", "12-8 event 12", "12-10 delivery 10"]);
    it.moved(12, 10, &[]).await;
    assert_eq!(read(&mut one), [""; 0], "nothing is told twice");
    it.behind.lock().unwrap().outbox.pending = 7;
    it.moved(12, 10, &[]).await;
    assert_eq!(read(&mut door), ["12-10 status"], "the status when it changes");
}

#[actix::test]
async fn whoever_comes_back_is_told_what_it_missed() {
    tokio::time::pause();
    let it = Fixture::new(at(10, 8));
    let mut back = it.open(None, Some(at(8, 6))).await.unwrap();
    assert_eq!(read(&mut back), ["8-6 status", "9-6 event 9", "10-6 event 10", "10-8 delivery 7,8"]);
    let mut gone_long = it.open(None, Some(at(0, 0))).await.unwrap();
    assert_eq!(read(&mut gone_long)[0], "0-0 status");
    let it = Fixture::new(at(5000, 5000));
    let mut gone_long = it.open(None, Some(at(0, 0))).await.unwrap();
    assert_eq!(read(&mut gone_long), ["0-0 status", "5000-5000 reset"]);
}

#[actix::test]
async fn a_burst_is_a_reset() {
    tokio::time::pause();
    let it = Fixture::new(at(0, 0));
    let mut one = it.open(None, None).await.unwrap();
    it.moved(0, DELIVERIES_AT_ONCE + 1, &[]).await;
    assert_eq!(read(&mut one), ["0-0 status".to_owned(), format!("0-{} reset", DELIVERIES_AT_ONCE + 1)]);
}

#[actix::test]
async fn what_cannot_be_read_is_told_later() {
    tokio::time::pause();
    let it = Fixture::new(at(0, 0));
    let mut one = it.open(None, None).await.unwrap();
    it.behind.lock().unwrap().fails = true;
    it.moved(1, 0, &[]).await;
    assert_eq!(read(&mut one), ["0-0 status"]);
    it.behind.lock().unwrap().fails = false;
    it.moved(1, 0, &[]).await;
    assert_eq!(read(&mut one), ["1-0 event 1"]);
}

#[actix::test]
async fn a_client_that_does_not_read_is_dropped_and_the_others_go_on() {
    tokio::time::pause();
    let it = Fixture::new(at(0, 0));
    let (mut stuck, mut reads) = (it.open(None, None).await.unwrap(), it.open(None, None).await.unwrap());
    let mut told = 0;
    let mut seq = 0;
    while it.metrics.streams_dropped.get() == 0 {
        assert!(seq < 10_000);
        seq += 200;
        it.moved(seq, 0, &[]).await;
        told += read(&mut reads).len();
    }
    it.moved(seq + 1, 0, &[]).await;
    assert_eq!(read(&mut reads), [format!("{}-0 event {}", seq + 1, seq + 1)]);
    assert_eq!(told, usize::try_from(seq).unwrap() + 1, "every event, and the status");
    assert_eq!(read(&mut stuck).len(), MAX_WAITING);
    assert!(stuck.next().await.is_none(), "it ends");
}

#[actix::test]
async fn the_number_of_streams_is_bounded_and_one_that_is_gone_makes_room() {
    tokio::time::pause();
    let it = Fixture::new(at(0, 0));
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(it.open(None, None).await.unwrap());
    }
    assert_eq!(it.open(None, None).await.unwrap_err(), StreamError::TooMany { max: MAX_STREAMS });
    open.pop();
    open.push(it.open(None, None).await.unwrap());
    open.clear();
    it.moved(1, 0, &[]).await;
    let made = std::cell::Cell::new(false);
    it.watch.notify(|| {
        made.set(true);
        LogMoved { position: at(2, 0), others: Vec::new() }
    });
    assert!(!made.get(), "nothing is made for nobody");
}

#[actix::test]
async fn every_stream_ends_when_the_service_stops() {
    tokio::time::pause();
    let it = Fixture::new(at(0, 0));
    let mut one = it.open(None, None).await.unwrap();
    it.streams.send(Stop).await.unwrap();
    read(&mut one);
    assert!(one.next().await.is_none());
}
