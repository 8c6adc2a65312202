//! The actor with a real database, and recorders as its link and peers.
//! Tests named `invariant_N_…` prove the invariants of docs/architecture.md.

use std::path::Path;

use actix::Addr;
use tokio::sync::mpsc;

use super::*;
use crate::{
    domain::{
        clock,
        delivery::{DeadReason, Delivery, DeliveryState, Outcome, Unwritten},
        event::{DetectionEvent, EventInput},
        event_log::{EventQuery, LogRow, Receipt},
        ids::{CameraId, EventId, LinkId},
        search::EventFilter,
        settings::QoS,
        status::WarningKind,
    },
    messages::{
        connection::{Deliver, Outgoing},
        outbox::{PublishBatch, PublishError, PublishEvent},
        service::Stop,
    },
    testing::{FakeConnection, Recorded, Recorder, commit_context, outbox_peers, settle, wait_until},
};

mod crashes;
mod gate;
mod heard;
mod missing;
mod pictures;
mod retries;

fn event(id: &str) -> DetectionEvent {
    event_of(id, 0)
}

fn event_of(id: &str, seconds_ago: i64) -> DetectionEvent {
    EventInput {
        event_id: Some(id.to_owned()),
        camera_id: "door".to_owned(),
        description: format!("event {id}"),
        timestamp: Some(clock::now() - chrono::Duration::seconds(seconds_ago)),
        ..EventInput::default()
    }
    .validate()
    .unwrap()
}

/// Commits what is noted, as the actor does after a while.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct WriteNoted;

impl Handler<WriteNoted> for OutboxActor {
    type Result = ();

    fn handle(&mut self, _: WriteNoted, ctx: &mut Self::Context) {
        self.writer.write_noted();
        self.commit(ctx);
    }
}

struct Fixture {
    store: Store,
    outbox: Addr<OutboxActor>,
    metrics: Metrics,
    delivered: Option<(LinkId, Recorded<Deliver>)>,
    links: u64,
    dir: Option<tempfile::TempDir>,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut it = Self::open(dir.path(), MqttSettings::defaults("c"), 1_000_000).await;
        it.dir = Some(dir);
        it
    }

    async fn with(settings: MqttSettings) -> Self {
        let it = Self::new().await;
        it.change(settings).await;
        it
    }

    async fn open(dir: &Path, settings: MqttSettings, max_pending: u64) -> Self {
        Self::open_with(dir, settings, max_pending, outbox_peers()).await
    }

    async fn open_with(dir: &Path, settings: MqttSettings, max_pending: u64, peers: OutboxPeers) -> Self {
        let metrics = Metrics::new();
        let actor = Self::recover(dir, settings, max_pending, peers, metrics.clone()).await;
        let store = actor.store.clone();
        Self { store, outbox: actor.start(), metrics, delivered: None, links: 0, dir: None }
    }

    async fn recover(
        dir: &Path,
        settings: MqttSettings,
        max_pending: u64,
        peers: OutboxPeers,
        metrics: Metrics,
    ) -> OutboxActor {
        let store = crate::testing::database::open(&dir.join("liveobject.db")).await;
        let limits = OutboxLimits { max_pending, window: 10, retention_days: 7, commit: commit_context() };
        let crashed = mpsc::unbounded_channel().0;
        OutboxActor::recover(store, metrics, limits, Arc::new(settings), peers, crashed).await.unwrap()
    }

    /// Returns a fixture whose actor publishes only while this gate is open.
    async fn with_gate(gate: Gate) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (settings, metrics) = (MqttSettings::defaults("c"), Metrics::new());
        let mut actor = Self::recover(dir.path(), settings, 100, outbox_peers(), metrics.clone()).await;
        actor.gate = gate;
        let store = actor.store.clone();
        Self { store, outbox: actor.start(), metrics, delivered: None, links: 0, dir: Some(dir) }
    }

    /// Stops the actor as a crash would: nothing more is written.
    async fn crash(self) -> Option<tempfile::TempDir> {
        self.outbox.send(Stop).await.unwrap();
        self.store.close().await;
        self.dir
    }

    async fn change(&self, settings: MqttSettings) {
        let change = MqttSettings::defaults("c").change_to(&settings, &[]);
        let changed = SettingsChanged { settings: Arc::new(settings), change, unusable: None };
        self.outbox.send(changed).await.unwrap();
    }

    async fn publish(&self, event: DetectionEvent) -> Result<Receipt, PublishError> {
        self.outbox.send(PublishEvent::new(event)).await.unwrap()
    }

    async fn publish_many(&self, ids: impl IntoIterator<Item = i64>) {
        let events = ids.into_iter().map(|n| event(&format!("e{n}")));
        self.outbox.send(PublishBatch::new(events)).await.unwrap().unwrap();
    }

    async fn link_up(&mut self, receive_maximum: u16) {
        self.link_up_with(receive_maximum, true).await;
    }

    async fn link_up_with(&mut self, receive_maximum: u16, reports_subscribers: bool) {
        self.links += 1;
        let (recorder, messages) = Recorder::start_new();
        let link = LinkId(self.links);
        let mut link_up = FakeConnection::start_new().link_up(link, "broker:1883");
        link_up.deliver = recorder.recipient();
        link_up.receive_maximum = receive_maximum;
        link_up.reports_subscribers = reports_subscribers;
        self.outbox.send(link_up).await.unwrap();
        self.delivered = Some((link, messages));
    }

    async fn link_down(&mut self) {
        let (link, _) = self.delivered.take().unwrap();
        self.outbox.send(LinkDown { link }).await.unwrap();
    }

    /// Waits for at least `count` events on the current link, and returns those that were sent since the last
    /// call.
    async fn sent(&self, count: usize) -> Vec<Outgoing> {
        let (_, messages) = self.delivered.as_ref().unwrap();
        let mut sent = Vec::new();
        for _ in 0..1000 {
            sent.extend(messages.take().into_iter().flat_map(|deliver| deliver.events));
            if sent.len() >= count {
                tokio::time::sleep(Duration::from_millis(10)).await;
                sent.extend(messages.take().into_iter().flat_map(|deliver| deliver.events));
                return sent;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {} of {count} events were sent within 5 s", sent.len());
    }

    async fn sent_seqs(&self, count: usize) -> Vec<i64> {
        self.sent(count).await.iter().map(|outgoing| outgoing.seq.0).collect()
    }

    async fn answer(&self, outcomes: impl IntoIterator<Item = (i64, Outcome)>) {
        let (link, _) = self.delivered.as_ref().unwrap();
        let outcomes = outcomes.into_iter().map(|(seq, outcome)| (Seq(seq), outcome)).collect();
        self.outbox.send(Answered { link: *link, outcomes }).await.unwrap();
    }

    async fn acknowledge(&self, seqs: impl IntoIterator<Item = i64>) {
        let delivered = Outcome::Delivered { unheard: false };
        self.answer(seqs.into_iter().map(|seq| (seq, delivered.clone()))).await;
    }

    async fn status(&self) -> OutboxStatus {
        self.outbox.send(GetOutbox).await.unwrap()
    }

    async fn delivery(&self, id: &str) -> Delivery {
        let id = EventId::parse(id).unwrap();
        self.outbox.send(GetEvent(id)).await.unwrap().unwrap().unwrap().delivery
    }

    /// Returns the delivery that the database contains.
    async fn recorded(&self, id: &str) -> Delivery {
        let settings = Arc::new(MqttSettings::defaults("c"));
        let context =
            QueryContext { settings, now: self.store.clock().now(), unwritten: Unwritten::default() };
        let id = EventId::parse(id).unwrap();
        self.store.get_event(&id, &context).await.unwrap().unwrap().delivery
    }

    async fn wait_until_recorded(&self, id: &str, state: DeliveryState) {
        let what = format!("{id} is recorded as {state:?}");
        wait_until(&what, async || {
            self.outbox.send(WriteNoted).await.unwrap();
            self.recorded(id).await.state == state
        })
        .await;
    }

    async fn wait_for_checkpoint(&self, cursor: i64) {
        wait_until("the checkpoint is written", || async {
            self.outbox.send(WriteNoted).await.unwrap();
            self.store.cursor().await.unwrap() == Seq(cursor)
        })
        .await;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_1_an_event_with_a_receipt_is_in_the_database() {
    let it = Fixture::new().await;
    let receipt = it.publish(event("a")).await.unwrap();
    assert_eq!((receipt.seq, receipt.duplicate), (Seq(1), false));
    let rows = it.store.read_page(Seq(1), 10, Seq(1)).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    let LogRow::Event(event) = &rows[0] else { panic!("{rows:?}") };
    assert!(std::str::from_utf8(&event.payload).unwrap().contains("\"seq\":1"));
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_4_a_repeated_event_gets_the_first_receipt() {
    let it = Fixture::new().await;
    it.publish(event("a")).await.unwrap();
    it.publish(event("b")).await.unwrap();
    let again = it.publish(event("a")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (Seq(1), true));

    let batch = vec![event("c"), event("b"), event("c")];
    let receipts = it.outbox.send(PublishBatch::new(batch)).await.unwrap().unwrap();
    let seqs: Vec<_> = receipts.iter().map(|r| (r.seq.0, r.duplicate)).collect();
    assert_eq!(seqs, [(3, false), (2, true), (3, true)]);

    let dir = it.crash().await.unwrap();
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    let again = it.publish(event("a")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (Seq(1), true), "even after a restart");
    assert_eq!(it.publish(event("d")).await.unwrap().seq, Seq(4));
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_3_events_are_sent_in_the_order_of_acceptance() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=5).await;
    it.link_up(100).await;
    it.publish_many(6..=8).await;
    assert_eq!(it.sent_seqs(8).await, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[actix_rt::test(system = "crate::System")]
async fn no_more_than_the_window_and_the_brokers_receive_maximum_are_in_flight() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=30).await;
    it.link_up(65_535).await;
    assert_eq!(it.sent_seqs(10).await.len(), 10, "the window");
    it.link_down().await;
    it.link_up(4).await;
    assert_eq!(it.sent_seqs(4).await, [1, 2, 3, 4], "the broker's Receive Maximum");
    it.acknowledge([3]).await;
    assert_eq!(it.sent_seqs(2).await, [5, 6], "one more waits in the connection");
    assert_eq!(it.status().await.in_flight, 5);
}

#[actix_rt::test(system = "crate::System")]
async fn a_new_link_starts_at_the_first_unacknowledged_event() {
    let settings = MqttSettings { wait_for_subscribers: false, ..MqttSettings::defaults("c") };
    let mut it = Fixture::with(settings).await;
    it.publish_many(1..=5).await;
    it.link_up(100).await;
    it.sent(5).await;
    it.acknowledge([1, 2, 4]).await;
    it.link_down().await;
    it.link_up(100).await;
    assert_eq!(it.sent_seqs(2).await, [3, 5]);
}

#[actix_rt::test(system = "crate::System")]
async fn a_refused_event_is_dead_and_later_ones_are_still_delivered() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=3).await;
    it.link_up(100).await;
    it.sent(3).await;
    it.answer([(1, Outcome::Refused(DeadReason::NotAuthorized))]).await;
    it.acknowledge([2, 3]).await;
    it.wait_for_checkpoint(3).await;
    let dead = it.delivery("e1").await;
    assert_eq!((dead.state, dead.reason.as_deref()), (DeliveryState::Dead, Some("not_authorized")));
    assert_eq!(it.delivery("e2").await.state, DeliveryState::Delivered);
    let status = it.status().await;
    assert_eq!((status.pending, status.dead, status.published, status.refused), (0, 1, 2, 1));
    let dir = it.crash().await.unwrap();
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    assert_eq!((it.status().await.pending, it.status().await.dead), (0, 1), "even after a restart");
}

#[actix_rt::test(system = "crate::System")]
async fn a_deferred_event_is_sent_again_before_later_ones() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=12).await;
    it.link_up(3).await;
    it.sent(3).await;
    it.answer([(1, Outcome::Deferred { reason: "quota_exceeded", attempts: None })]).await;
    it.acknowledge([2, 3]).await;
    assert_eq!(it.sent_seqs(3).await[..3], [1, 4, 5]);
}

/// Less than the shortest pause after a deferral, and more than the delay after which returned events are sent.
const DURING_PAUSE: Duration = Duration::from_millis(600);

#[actix_rt::test(system = "crate::System")]
async fn a_returned_event_does_not_shorten_the_pause_after_a_deferral() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=3).await;
    it.link_up(3).await;
    it.sent(3).await;
    it.answer([(3, Outcome::Returned)]).await;
    it.answer([(1, Outcome::Deferred { reason: "quota_exceeded", attempts: None })]).await;
    it.acknowledge([2]).await;
    tokio::time::sleep(DURING_PAUSE).await;
    assert!(it.sent_seqs(0).await.is_empty(), "the pause lasts a second");
    assert_eq!(it.sent_seqs(2).await, [1, 3]);
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_that_is_deferred_too_often_dies() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=2).await;
    it.link_up(1).await;
    let unclear = Outcome::Deferred { reason: "unspecified_error", attempts: Some(2) };
    it.sent(1).await;
    it.answer([(1, unclear.clone())]).await;
    assert_eq!(it.sent_seqs(1).await, [1]);
    it.answer([(1, unclear)]).await;
    assert_eq!(it.sent_seqs(1).await, [2]);
    it.wait_for_checkpoint(1).await;
    assert_eq!(it.delivery("e1").await.reason.as_deref(), Some("refused_repeatedly"));
}

#[actix_rt::test(system = "crate::System")]
async fn returned_events_are_sent_again_in_order_when_nothing_is_in_flight() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=6).await;
    it.link_up(4).await;
    assert_eq!(it.sent_seqs(4).await, [1, 2, 3, 4]);
    it.answer([(3, Outcome::Returned), (4, Outcome::Returned)]).await;
    it.acknowledge([1]).await;
    assert!(it.sent_seqs(0).await.is_empty(), "event 2 is in flight");
    it.acknowledge([2]).await;
    assert_eq!(it.sent_seqs(4).await[..4], [3, 4, 5, 6]);
    assert_eq!(it.status().await.refused, 0);
}

#[actix_rt::test(system = "crate::System")]
async fn a_message_to_the_connection_contains_how_many_pauses_the_outbox_has_handled() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=6).await;
    it.link_up(2).await;
    let pauses = async |it: &Fixture| {
        let (_, messages) = it.delivered.as_ref().unwrap();
        for _ in 0..1000 {
            if let Some(deliver) = messages.take().pop() {
                return deliver.pauses;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nothing was sent within 5 s");
    };
    assert_eq!(pauses(&it).await, 0);
    it.answer([(1, Outcome::Returned), (2, Outcome::Returned)]).await;
    assert_eq!(pauses(&it).await, 1, "one report");
    it.acknowledge([1, 2]).await;
    assert_eq!(pauses(&it).await, 1);
    it.link_down().await;
    it.link_up(2).await;
    assert_eq!(pauses(&it).await, 0, "each link counts from the start");
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_13_a_full_outbox_refuses_events_and_keeps_the_pending_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 3).await;
    it.publish_many(1..=3).await;
    let refused = it.publish(event("x")).await.unwrap_err();
    assert_eq!(refused, PublishError::Full { pending: 3, max_pending: 3 });
    it.link_up(100).await;
    assert_eq!(it.sent_seqs(3).await, [1, 2, 3]);
    it.acknowledge([1]).await;
    assert_eq!(it.publish(event("x")).await.unwrap().seq, Seq(4));
}

#[actix_rt::test(system = "crate::System")]
async fn a_backlog_is_sent_completely_and_in_order() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=1500).await;
    it.link_up(100).await;
    let mut all = Vec::new();
    while all.len() < 1500 {
        let sent = it.sent_seqs(1).await;
        it.acknowledge(sent.clone()).await;
        all.extend(sent);
    }
    assert_eq!(all, (1..=1500).collect::<Vec<_>>());
    it.wait_for_checkpoint(1500).await;
    let status = it.status().await;
    assert_eq!((status.pending, status.published, status.oldest_pending_at), (0, 1500, None));
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_10_late_events_go_to_history_and_are_reported() {
    let mut it = Fixture::new().await;
    it.publish(event_of("old", 301)).await.unwrap();
    it.publish(event("new")).await.unwrap();
    it.link_up(100).await;
    let sent = it.sent(2).await;
    let topics: Vec<_> = sent.iter().map(|outgoing| outgoing.topic.as_str()).collect();
    assert_eq!(topics, ["liveobject/camera/door/event", "liveobject/camera/door/history"]);
    assert_eq!(it.status().await.warnings[0].kind, WarningKind::LateOnArrival);
    it.acknowledge([1, 2]).await;
    it.wait_for_checkpoint(2).await;
    assert!(it.delivery("old").await.late);
    assert!(!it.delivery("new").await.late);
    assert_eq!(it.metrics.events_late.get(), 1);
}

#[actix_rt::test(system = "crate::System")]
async fn an_expired_event_is_dead_and_not_sent() {
    let it = Fixture::with(MqttSettings { message_expiry_seconds: 60, ..MqttSettings::defaults("c") });
    let mut it = it.await;
    it.publish(event("a")).await.unwrap();
    it.publish(event("b")).await.unwrap();
    let aged = "UPDATE events SET log_time = log_time - 61000000 WHERE event_id = 'a'";
    it.store.execute(aged).await.unwrap();
    it.link_up(100).await;
    let sent = it.sent(1).await;
    assert_eq!((sent[0].seq, sent[0].expiry_seconds), (Seq(2), Some(60)));
    it.acknowledge([2]).await;
    it.wait_for_checkpoint(2).await;
    assert_eq!(it.delivery("a").await.reason.as_deref(), Some("expired"));
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_9_events_are_sent_with_the_settings_at_that_time() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=1).await;
    let settings = MqttSettings {
        qos: crate::domain::settings::QoS::ExactlyOnce,
        topic_prefix: crate::domain::topic::TopicPrefix::parse("home").unwrap(),
        ..MqttSettings::defaults("c")
    };
    it.change(settings).await;
    it.link_up(100).await;
    let sent = it.sent(1).await;
    assert_eq!(sent[0].topic, "home/camera/door/event");
    assert_eq!(sent[0].qos.level(), 2);
}

#[actix_rt::test(system = "crate::System")]
async fn a_backlog_is_sent_no_faster_than_the_rate_limit() {
    let settings = MqttSettings { max_events_per_second: 50, ..MqttSettings::defaults("c") };
    let mut it = Fixture::with(settings).await;
    it.publish_many(1..=40).await;
    let started = Instant::now();
    it.link_up(100).await;
    let mut count = 0;
    while count < 30 {
        let sent = it.sent_seqs(1).await;
        it.acknowledge(sent.clone()).await;
        count += sent.len();
    }
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?} for {count}", started.elapsed());
}

#[actix_rt::test(system = "crate::System")]
async fn events_are_listed_newest_first_by_camera_and_state() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=5).await;
    it.link_up(3).await;
    it.sent(3).await;
    it.answer([(1, Outcome::Refused(DeadReason::NotAuthorized))]).await;
    it.acknowledge([2]).await;
    it.wait_for_checkpoint(2).await;
    let list = |query: EventQuery| {
        let outbox = it.outbox.clone();
        async move {
            let list = outbox.send(ListEvents(query)).await.unwrap().unwrap();
            list.events.iter().map(|record| record.seq.0).collect::<Vec<_>>()
        }
    };
    let all = EventQuery { limit: 10, ..EventQuery::default() };
    assert_eq!(list(all.clone()).await, [5, 4, 3, 2, 1]);
    assert_eq!(list(EventQuery { limit: 2, before: Some(Seq(4)), ..all.clone() }).await, [3, 2]);
    for (state, expected) in [
        (DeliveryState::Pending, vec![5, 4, 3]),
        (DeliveryState::Delivered, vec![2]),
        (DeliveryState::Dead, vec![1]),
    ] {
        assert_eq!(list(EventQuery { state: Some(state), ..all.clone() }).await, expected, "{state:?}");
    }
    let elsewhere = vec![CameraId::parse("garden").unwrap()];
    let filter = EventFilter { cameras: elsewhere, ..EventFilter::default() };
    assert_eq!(list(EventQuery { filter, ..all }).await, [0i64; 0]);
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_is_delivered_when_the_broker_acknowledges_it_even_if_this_is_recorded_later() {
    let mut it = Fixture::new().await;
    it.publish(event("a")).await.unwrap();
    it.link_up(100).await;
    it.sent(1).await;
    let occupied = it.store.occupy_writer().await.unwrap();
    let before = clock::now();
    it.acknowledge([1]).await;
    let acknowledged = before..=clock::now();
    tokio::time::sleep(writer::NOTE_WITHIN * 2).await;
    assert_eq!(it.store.cursor().await.unwrap(), Seq(0), "nothing is recorded");
    let known = it.delivery("a").await;
    assert_eq!(known.state, DeliveryState::Delivered);
    drop(occupied);
    it.wait_for_checkpoint(1).await;
    let recorded = it.recorded("a").await;
    assert!(acknowledged.contains(&recorded.delivered_at.unwrap()), "{acknowledged:?} {recorded:?}");
    assert_eq!(known, recorded);
}

#[actix_rt::test(system = "crate::System")]
async fn an_event_is_reported_as_delivered_or_dead_as_soon_as_the_outbox_knows_it() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=5).await;
    it.link_up(100).await;
    it.sent(5).await;
    let _occupied = it.store.occupy_writer().await.unwrap();
    let unheard = Outcome::Delivered { unheard: true };
    let refused = Outcome::Refused(DeadReason::NotAuthorized);
    it.answer([(1, unheard.clone()), (3, unheard), (4, refused)]).await;
    let status = it.status().await;
    assert_eq!((status.pending, status.dead), (2, 1));
    for (seq, state, heard) in [
        (1, DeliveryState::Delivered, Some(false)),
        (2, DeliveryState::Pending, None),
        (3, DeliveryState::Delivered, Some(false)),
        (4, DeliveryState::Dead, None),
    ] {
        let delivery = it.delivery(&format!("e{seq}")).await;
        assert_eq!((delivery.state, delivery.heard), (state, heard), "{seq}");
    }
    for (state, expected) in [
        (DeliveryState::Pending, vec![5, 2]),
        (DeliveryState::Delivered, vec![3, 1]),
        (DeliveryState::Dead, vec![4]),
    ] {
        let query = ListEvents(EventQuery { state: Some(state), limit: 10, ..EventQuery::default() });
        let listed = it.outbox.send(query).await.unwrap().unwrap();
        assert_eq!(
            listed.events.iter().map(|record| record.seq.0).collect::<Vec<_>>(),
            expected,
            "{state:?}"
        );
    }
}

#[actix_rt::test(system = "crate::System")]
async fn the_write_ahead_log_is_merged_between_commits_when_there_is_time() {
    if crate::testing::database::is_served() {
        return;
    }
    let it = Fixture::new().await;
    let file = it.dir.as_ref().unwrap().path().join("liveobject.db");
    let size = || std::fs::metadata(&file).unwrap().len();
    let before = size();
    // More than half of the size at which SQLite merges the log during a commit, but less than the whole.
    for batch in 0..16 {
        it.publish_many(batch * 1000..batch * 1000 + 1000).await;
    }
    wait_until("the log is merged", async || size() > before).await;
}

#[actix_rt::test(system = "crate::System")]
async fn draining_refuses_new_events_and_waits_for_those_in_flight() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=20).await;
    it.link_up(5).await;
    it.sent(5).await;
    let drain = it.outbox.send(Drain { timeout: Duration::from_secs(5) });
    let mut drain = Box::pin(drain);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut drain).await.is_err());
    assert_eq!(it.publish(event("x")).await.unwrap_err(), PublishError::Stopping);
    it.acknowledge(1..=5).await;
    drain.await.unwrap();
    assert_eq!(it.store.cursor().await.unwrap(), Seq(5), "the checkpoint is written before the reply");
}

#[actix_rt::test(system = "crate::System")]
async fn draining_ends_after_its_timeout() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=3).await;
    it.link_up(5).await;
    it.sent(3).await;
    it.outbox.send(Drain { timeout: Duration::from_millis(100) }).await.unwrap();
}

#[actix_rt::test(system = "crate::System")]
async fn old_events_are_removed_and_seqs_are_never_reused() {
    let mut it = Fixture::new().await;
    it.publish_many(1..=5).await;
    it.link_up(100).await;
    it.sent(5).await;
    it.answer([(1, Outcome::Refused(DeadReason::NotAuthorized))]).await;
    it.acknowledge(2..=3).await;
    it.wait_for_checkpoint(3).await;
    let old = it.store.find_old(it.store.clock().now().log.before(TimeDelta::days(-1))).await.unwrap();
    let swept = it.store.remove_old(&old.unwrap()).await.unwrap();
    assert_eq!((swept.events, swept.dead), (3, 1));
    let left = it.store.read_page(Seq(0), 10, Seq(5)).await.unwrap().rows;
    assert_eq!(left.iter().map(|row| row.seq().0).collect::<Vec<_>>(), [4, 5], "pending events are kept");
    let dir = it.crash().await.unwrap();
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 100).await;
    assert_eq!(it.publish(event("new")).await.unwrap().seq, Seq(6));
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_4_a_repeated_event_gets_its_receipt_while_the_outbox_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 3).await;
    it.publish_many(1..=3).await;
    let full = PublishError::Full { pending: 3, max_pending: 3 };
    assert_eq!(it.publish(event("e4")).await.unwrap_err(), full);
    let again = it.publish(event("e2")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (Seq(2), true));
    let batch =
        async |ids: [&str; 2]| it.outbox.send(PublishBatch::new(ids.map(event).to_vec())).await.unwrap();
    let seqs: Vec<_> = batch(["e3", "e1"]).await.unwrap().iter().map(|receipt| receipt.seq.0).collect();
    assert_eq!(seqs, [3, 1]);
    assert_eq!(batch(["e1", "e4"]).await.unwrap_err(), full);
    assert_eq!(it.status().await.pending, 3);
}

#[actix_rt::test(system = "crate::System")]
async fn a_batch_needs_room_only_for_its_new_events() {
    let dir = tempfile::tempdir().unwrap();
    let it = Fixture::open(dir.path(), MqttSettings::defaults("c"), 3).await;
    it.publish_many(1..=2).await;
    let batch = ["e1", "e2", "e3"].map(event).to_vec();
    let receipts = it.outbox.send(PublishBatch::new(batch)).await.unwrap().unwrap();
    let receipts: Vec<_> = receipts.iter().map(|receipt| (receipt.seq.0, receipt.duplicate)).collect();
    assert_eq!(receipts, [(1, true), (2, true), (3, false)]);
}
