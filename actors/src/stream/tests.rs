//! The stream actor, with scripted peers.

use std::sync::Mutex;

use actix::{Addr, MessageResult};

use super::{log_tracker::DELIVERIES_AT_ONCE, *};
use crate::{
    domain::{
        clock,
        delivery::{Delivery, DeliveryChange},
        event_log::{EventRecord, QueryError, StoredPayload},
        ids::{EventId, Seq},
        status::ConnectionState,
    },
    testing::settle,
};

/// What the peers return. The log contains pending events of the cameras `door` (even positions) and `yard`.
#[derive(Default)]
struct Script {
    outbox: OutboxStatus,
    read_fails: bool,
    reads: usize,
    payload_bytes: usize,
}

struct Peers(Arc<Mutex<Script>>);

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
        self.0.lock().unwrap().reads += 1;
        if self.0.lock().unwrap().read_fails {
            return Err(QueryError(crate::domain::store_fault::StoreFault::Locked));
        }
        let payload_bytes = self.0.lock().unwrap().payload_bytes;
        let range = |(after, to): (Seq, Seq)| (after.0 + 1..=to.0).map(Seq);
        let camera_id = |seq: Seq| CameraId::parse(if seq.0 % 2 == 0 { "door" } else { "yard" }).unwrap();
        let event = |seq| EventRecord {
            seq,
            camera_id: camera_id(seq),
            received_at: clock::from_micros(0),
            payload: StoredPayload("x".repeat(payload_bytes).into()),
            delivery: Delivery::default(),
        };
        let change = |seq: Seq| DeliveryChange {
            event_id: EventId::parse(seq.to_string()).unwrap(),
            seq,
            camera_id: camera_id(seq),
            delivery: Delivery::default(),
        };
        let changes = range(read.checkpoint).chain(read.others).map(change).collect();
        Ok(LogPart { events: range(read.events).map(event).collect(), changes })
    }
}

struct Fixture {
    script: Arc<Mutex<Script>>,
    streams: Addr<StreamActor>,
    watch: LogWatch,
    metrics: Metrics,
}

impl Fixture {
    fn new(end: Position) -> Self {
        let script = Arc::<Mutex<Script>>::default();
        script.lock().unwrap().outbox.position = end;
        let peers = Peers(Arc::clone(&script)).start();
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
        Self { script, streams, watch, metrics }
    }

    async fn open(
        &self,
        camera_id: Option<&str>,
        resume: Option<Position>,
    ) -> Result<Subscription, StreamError> {
        let camera_id = camera_id.map(|id| CameraId::parse(id).unwrap());
        self.streams.send(OpenStream { camera_id, resume }).await.unwrap()
    }

    async fn moved(&self, seq: i64, checkpoint: i64, others: &[i64]) {
        let others = others.iter().copied().map(Seq).collect();
        self.watch.notify(|| LogMoved { position: position(seq, checkpoint), others });
        tokio::time::sleep(UPDATE_INTERVAL * 2).await;
        settle().await;
    }
}

fn position(seq: i64, checkpoint: i64) -> Position {
    Position { seq: Seq(seq), checkpoint: Seq(checkpoint) }
}

/// Takes the queued messages, in a short notation.
fn take(subscription: &mut Subscription) -> Vec<String> {
    let mut messages = Vec::new();
    while let Ok(Queued { message, .. }) = subscription.messages.try_recv() {
        let event = match &message.event {
            StreamEvent::Status(_) => "status".to_owned(),
            StreamEvent::Event(record) => format!("event {}", record.seq),
            StreamEvent::Deliveries(changes) => {
                let seqs: Vec<_> = changes.iter().map(|change| change.seq.to_string()).collect();
                format!("delivery {}", seqs.join(","))
            }
            StreamEvent::Reset => "reset".to_owned(),
            StreamEvent::Settings(revision) => format!("settings {revision}"),
        };
        messages.push(format!("{} {event}", message.position));
    }
    messages
}

#[actix_rt::test(system = "crate::System")]
async fn a_client_receives_the_status_first_and_then_the_changes() {
    tokio::time::pause();
    let it = Fixture::new(position(10, 8));
    let mut one = it.open(None, None).await.unwrap();
    let mut door = it.open(Some("door"), None).await.unwrap();
    it.moved(12, 10, &[3]).await;
    assert_eq!(take(&mut one), ["10-8 status", "11-8 event 11", "12-8 event 12", "12-10 delivery 9,10,3"]);
    assert_eq!(take(&mut door), ["10-8 status", "12-8 event 12", "12-10 delivery 10"]);
    it.moved(12, 10, &[]).await;
    assert_eq!(take(&mut one), [""; 0], "nothing is reported twice");
    it.script.lock().unwrap().outbox.pending = 7;
    it.moved(12, 10, &[]).await;
    assert_eq!(take(&mut door), ["12-10 status"], "the status is reported when it changes");
}

#[actix_rt::test(system = "crate::System")]
async fn every_client_receives_the_revision_of_the_settings_at_first_and_when_it_changes() {
    tokio::time::pause();
    let it = Fixture::new(position(10, 8));
    let revised = |revision: &str| it.streams.send(SettingsRevised(revision.to_owned()));
    revised("a").await.unwrap();
    let mut resumed = it.open(None, Some(position(9, 8))).await.unwrap();
    assert_eq!(take(&mut resumed), ["9-8 status", "9-8 settings a", "10-8 event 10"]);
    let mut door = it.open(Some("door"), None).await.unwrap();
    assert_eq!(take(&mut door), ["10-8 status", "10-8 settings a"]);
    revised("a").await.unwrap();
    revised("b").await.unwrap();
    assert_eq!(
        (take(&mut resumed), take(&mut door)),
        (vec!["10-8 settings b".to_owned()], vec!["10-8 settings b".to_owned()])
    );
}

#[actix_rt::test(system = "crate::System")]
async fn a_client_that_resumes_receives_what_it_missed() {
    tokio::time::pause();
    let it = Fixture::new(position(10, 8));
    let mut resumed = it.open(None, Some(position(8, 6))).await.unwrap();
    assert_eq!(take(&mut resumed), ["8-6 status", "9-6 event 9", "10-6 event 10", "10-8 delivery 7,8"]);
    let mut long_absent = it.open(None, Some(position(0, 0))).await.unwrap();
    assert_eq!(take(&mut long_absent)[0], "0-0 status");
    let it = Fixture::new(position(5000, 5000));
    let mut long_absent = it.open(None, Some(position(0, 0))).await.unwrap();
    assert_eq!(take(&mut long_absent), ["0-0 status", "5000-5000 reset"]);
}

#[actix_rt::test(system = "crate::System")]
async fn clients_that_resume_and_do_not_read_take_a_bounded_amount_of_memory() {
    tokio::time::pause();
    let it = Fixture::new(position(100, 100));
    it.script.lock().unwrap().payload_bytes = MAX_MISSED_BYTES / 150;
    let resume = || it.open(None, Some(position(0, 100)));
    let mut first = resume().await.unwrap();
    let mut second = resume().await.unwrap();
    assert_eq!(take(&mut second), ["0-100 status", "100-100 reset"], "there is no room for its events");
    let mut received = take(&mut first);
    assert_eq!((received.len(), received.pop().as_deref()), (101, Some("100-100 event 100")));
    let mut third = resume().await.unwrap();
    assert_eq!(take(&mut third).len(), 101, "the first one has read its events");
    it.script.lock().unwrap().payload_bytes = MAX_MISSED_BYTES / 50;
    let mut fourth = resume().await.unwrap();
    assert_eq!(take(&mut fourth), ["0-100 status", "100-100 reset"]);
}

#[actix_rt::test(system = "crate::System")]
async fn a_burst_is_reported_as_a_reset() {
    tokio::time::pause();
    let it = Fixture::new(position(0, 0));
    let mut one = it.open(None, None).await.unwrap();
    it.moved(0, DELIVERIES_AT_ONCE + 1, &[]).await;
    assert_eq!(take(&mut one), ["0-0 status".to_owned(), format!("0-{} reset", DELIVERIES_AT_ONCE + 1)]);
}

#[actix_rt::test(system = "crate::System")]
async fn events_that_cannot_be_read_are_reported_as_a_reset_and_the_stream_goes_on() {
    tokio::time::pause();
    let it = Fixture::new(position(0, 0));
    let mut one = it.open(None, None).await.unwrap();
    it.script.lock().unwrap().read_fails = true;
    it.moved(1, 0, &[]).await;
    assert_eq!(take(&mut one), ["0-0 status", "1-0 reset"]);
    it.moved(1, 0, &[]).await;
    assert_eq!(it.script.lock().unwrap().reads, 1, "the same range is not read again");
    it.script.lock().unwrap().outbox.pending = 7;
    it.moved(1, 0, &[]).await;
    assert_eq!(take(&mut one), ["1-0 status"]);
    let mut resumed = it.open(None, Some(position(0, 0))).await.unwrap();
    assert_eq!(take(&mut resumed), ["0-0 status", "1-0 reset"]);
    it.script.lock().unwrap().read_fails = false;
    tokio::time::sleep(Duration::from_secs(1)).await;
    it.moved(2, 0, &[]).await;
    assert_eq!(take(&mut one), ["2-0 event 2"]);
}

#[actix_rt::test(system = "crate::System")]
async fn a_client_that_does_not_read_is_dropped_and_the_others_are_served() {
    tokio::time::pause();
    let it = Fixture::new(position(0, 0));
    let (mut stuck, mut reads) = (it.open(None, None).await.unwrap(), it.open(None, None).await.unwrap());
    let mut received = 0;
    let mut seq = 0;
    while it.metrics.streams_dropped.get() == 0 {
        assert!(seq < 10_000);
        seq += 200;
        it.moved(seq, 0, &[]).await;
        received += take(&mut reads).len();
    }
    it.moved(seq + 1, 0, &[]).await;
    assert_eq!(take(&mut reads), [format!("{}-0 event {}", seq + 1, seq + 1)]);
    assert_eq!(received, usize::try_from(seq).unwrap() + 1, "every event, and the status");
    assert_eq!(take(&mut stuck).len(), MAX_QUEUED_MESSAGES);
    assert!(stuck.next().await.is_none(), "the stream ends");
}

#[actix_rt::test(system = "crate::System")]
async fn the_number_of_streams_is_limited_and_a_closed_stream_frees_its_slot() {
    tokio::time::pause();
    let it = Fixture::new(position(0, 0));
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(it.open(None, None).await.unwrap());
    }
    assert_eq!(it.open(None, None).await.unwrap_err(), StreamError::TooMany { max: MAX_STREAMS });
    open.pop();
    open.push(it.open(None, None).await.unwrap());
    open.clear();
    it.moved(1, 0, &[]).await;
    let called = std::cell::Cell::new(false);
    it.watch.notify(|| {
        called.set(true);
        LogMoved { position: position(2, 0), others: Vec::new() }
    });
    assert!(!called.get(), "no message is created without subscribers");
}

#[actix_rt::test(system = "crate::System")]
async fn all_streams_end_when_the_service_stops() {
    tokio::time::pause();
    let it = Fixture::new(position(0, 0));
    let mut one = it.open(None, None).await.unwrap();
    it.streams.send(Stop).await.unwrap();
    take(&mut one);
    assert!(one.next().await.is_none());
}
