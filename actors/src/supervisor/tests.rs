//! The supervisor with fake connections that the tests control.
//! Tests named `invariant_N_…` prove the invariants of docs/architecture.md.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use actix::Addr;
use tokio::{sync::mpsc, time};

use super::*;
use crate::{
    domain::{
        delivery::DeadReason,
        mqtt_version::Refusal,
        poison::{End, Ending, MessageRef},
        settings::Protocol,
    },
    messages::supervisor::{PublishTestMessage, ReconnectError, ReconnectNow, TestMessageError},
    testing::{Recorder, settle},
};

/// The connections that were started, and the requests that they received.
#[derive(Default)]
struct Started {
    links: Vec<(LinkId, Recipient<Connected>, Recipient<ConnectionEnded>)>,
    policies: Vec<VersionPolicy>,
    subscribed: Vec<Subscribe>,
    published: Vec<PublishState>,
    closed: usize,
}

struct FakeConnection(Rc<RefCell<Started>>);

impl Actor for FakeConnection {
    type Context = Context<Self>;
}

impl Handler<Close> for FakeConnection {
    type Result = ();

    fn handle(&mut self, _: Close, _: &mut Self::Context) {
        self.0.borrow_mut().closed += 1;
    }
}

impl Handler<PublishState> for FakeConnection {
    type Result = ResponseFuture<Result<Option<bool>, Failure>>;

    fn handle(&mut self, msg: PublishState, _: &mut Self::Context) -> Self::Result {
        self.0.borrow_mut().published.push(msg);
        Box::pin(async { Ok(Some(true)) })
    }
}

impl Handler<Subscribe> for FakeConnection {
    type Result = ();

    fn handle(&mut self, msg: Subscribe, _: &mut Self::Context) {
        self.0.borrow_mut().subscribed.push(msg);
    }
}

struct Fixture {
    supervisor: Addr<SupervisorActor>,
    started: Rc<RefCell<Started>>,
    metrics: Metrics,
    /// What the next connection that ends reports.
    poison: RefCell<Poison>,
    retry_soon: Cell<bool>,
    unanswered: Cell<bool>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Gate::default())
    }

    fn with(gate: Gate) -> Self {
        let started = Rc::new(RefCell::new(Started::default()));
        let record = Rc::clone(&started);
        let factory = Box::new(move |start: ConnectionStart| {
            record.borrow_mut().links.push((start.link, start.connected, start.ended));
            record.borrow_mut().policies.push(start.version_policy);
            let fake = FakeConnection(Rc::clone(&record)).start();
            Running {
                close: fake.clone().recipient(),
                publish: fake.clone().recipient(),
                subscribe: fake.recipient(),
            }
        });
        let metrics = Metrics::new();
        let supervisor = SupervisorActor::new(
            factory,
            gate,
            Recorder::start_new().0.recipient(),
            Recorder::start_new().0.recipient(),
            metrics.clone(),
            mpsc::unbounded_channel().0,
        )
        .start();
        Self {
            supervisor,
            started,
            metrics,
            poison: RefCell::default(),
            retry_soon: Cell::new(false),
            unanswered: Cell::new(false),
        }
    }

    async fn settings(&self, enabled: bool) {
        let settings =
            MqttSettings { enabled, broker_host: "broker".to_owned(), ..MqttSettings::defaults("c") };
        let changed =
            SettingsChanged { settings: Arc::new(settings), change: SettingsChange::Other, unusable: None };
        self.supervisor.send(changed).await.unwrap();
        settle().await;
    }

    fn count(&self) -> usize {
        self.started.borrow().links.len()
    }

    async fn connect(&self) {
        self.connect_with(Version::V5, None).await;
    }

    async fn connect_with(&self, version: Version, refused: Option<Refusal>) {
        let (link, connected, _) = self.started.borrow().links.last().unwrap().clone();
        let accepted = Connected { link, version, refused, warnings: vec![], certificate_ends: None };
        connected.send(accepted).await.unwrap();
    }

    fn version_policy(&self) -> VersionPolicy {
        *self.started.borrow().policies.last().unwrap()
    }

    async fn end(&self, failure: Option<Failure>) {
        self.end_after_idle(failure, Duration::ZERO).await;
    }

    async fn end_after_idle(&self, failure: Option<Failure>, idle: Duration) {
        let (link, _, ended) = self.started.borrow().links.last().unwrap().clone();
        let closed = failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Closed);
        let (poison, retry_soon) = (self.poison.borrow().clone(), self.retry_soon.get());
        let (unanswered, closed_on_qos2) = (self.unanswered.get(), false);
        let ended_connection =
            ConnectionEnded { link, failure, closed, idle, unanswered, closed_on_qos2, poison, retry_soon };
        ended.send(ended_connection).await.unwrap();
        settle().await;
    }

    async fn status(&self) -> ConnectionStatus {
        self.supervisor.send(GetStatus).await.unwrap()
    }
}

fn refused() -> Failure {
    Failure::new(FailureKind::Refused, "refused")
}

fn closed() -> Failure {
    Failure::new(FailureKind::Closed, "closed")
}

#[actix_rt::test(system = "crate::System")]
async fn enabled_settings_connect_at_once() {
    let it = Fixture::new();
    assert_eq!(it.status().await.state, ConnectionState::Disabled);
    it.settings(true).await;
    assert_eq!((it.count(), it.status().await.state), (1, ConnectionState::Connecting));
    it.connect().await;
    let status = it.status().await;
    assert_eq!((status.state, status.protocol), (ConnectionState::Connected, Some("5")));
    assert_eq!(status.broker.as_deref(), Some("broker:1883"));
    assert_eq!(it.metrics.mqtt_connection_status.get(), 1);
}

#[actix_rt::test(system = "crate::System")]
async fn the_waits_grow_with_the_failures_in_a_row() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    for n in 0..8 {
        let seconds = backoff::wait_after(u32::try_from(n + 1).unwrap(), 0.0).as_secs();
        it.end(Some(refused())).await;
        let status = it.status().await;
        assert_eq!(status.state, ConnectionState::Waiting);
        assert_eq!(status.reconnect_attempt as usize, n + 1);
        assert_eq!(status.last_error.as_ref().unwrap().kind, FailureKind::Refused);
        assert!(status.next_attempt_at.is_some());
        time::sleep(Duration::from_millis(seconds * 800 - 20)).await;
        assert_eq!(it.count(), n + 1, "not before four fifths of {seconds} s");
        time::sleep(Duration::from_millis(seconds * 200 + 40)).await;
        assert_eq!(it.count(), n + 2, "after {seconds} s");
    }
    assert_eq!(it.metrics.mqtt_reconnect_attempts.get(), 8);
}

#[actix_rt::test(system = "crate::System")]
async fn a_broker_that_accepts_connections_and_drops_them_is_not_retried_in_a_tight_loop() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    for n in 1..=4 {
        it.connect().await;
        time::sleep(Duration::from_secs(29)).await;
        it.end(Some(refused())).await;
        assert_eq!(it.status().await.reconnect_attempt, n);
        time::sleep(Duration::from_secs(61)).await;
    }
    it.connect().await;
    time::sleep(Duration::from_secs(31)).await;
    assert_eq!(it.status().await.last_error, None, "the connection is stable");
    it.end(Some(refused())).await;
    assert_eq!(it.status().await.reconnect_attempt, 1, "and the wait starts again at the shortest");
}

#[actix_rt::test(system = "crate::System")]
async fn repeated_cuts_at_the_same_idle_time_name_the_keep_alive_setting() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    for cut in 1..=3 {
        it.connect().await;
        time::sleep(Duration::from_mins(1)).await;
        it.end_after_idle(Some(closed()), Duration::from_mins(1)).await;
        let error = it.status().await.last_error.unwrap();
        assert_eq!(error.kind, FailureKind::Closed);
        let named = error.message.contains("Set keep_alive_seconds to 30 (now 25)");
        assert_eq!(named, cut == 3, "{cut}: {}", error.message);
        time::sleep(Duration::from_secs(61)).await;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn a_panic_in_the_connection_counts_as_a_failed_attempt() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    it.end(Some(Failure::new(FailureKind::Panicked, "panicked"))).await;
    assert_eq!(it.status().await.last_error.unwrap().kind, FailureKind::Panicked);
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(it.count(), 2);
}

#[actix_rt::test(system = "crate::System")]
async fn invariant_9_new_settings_close_the_old_connection_before_they_connect() {
    let it = Fixture::new();
    it.settings(true).await;
    it.connect().await;
    it.settings(true).await;
    assert_eq!((it.started.borrow().closed, it.count()), (1, 1), "the old one is closed first");
    it.end(None).await;
    assert_eq!(it.count(), 2);
}

#[actix_rt::test(system = "crate::System")]
async fn a_requested_attempt_ends_a_wait_but_two_attempts_are_two_seconds_apart() {
    time::pause();
    let it = Fixture::new();
    let reconnect = async || it.supervisor.send(ReconnectNow).await.unwrap();
    assert_eq!(reconnect().await, Err(ReconnectError::NotWaiting), "disabled");
    it.settings(true).await;
    assert_eq!(reconnect().await, Err(ReconnectError::NotWaiting), "connecting");
    // The third wait is 4 s, less a fifth at most.
    for _ in 0..3 {
        time::sleep(Duration::from_secs(5)).await;
        it.end(Some(refused())).await;
    }
    let attempts = it.count();
    assert_eq!(reconnect().await, Ok(()));
    assert_eq!((it.count(), it.status().await.state), (attempts + 1, ConnectionState::Connecting));
    it.end(Some(refused())).await;
    assert_eq!(reconnect().await, Err(ReconnectError::TooSoon));
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(reconnect().await, Ok(()));
    it.connect().await;
    assert_eq!(reconnect().await, Err(ReconnectError::NotWaiting), "connected");
    // The cancelled waits start nothing.
    time::sleep(Duration::from_secs(70)).await;
    assert_eq!(it.count(), attempts + 2);
}

#[actix_rt::test(system = "crate::System")]
async fn new_settings_end_a_wait() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    it.end(Some(refused())).await;
    it.settings(true).await;
    assert_eq!(it.count(), 2, "at once");
    time::sleep(Duration::from_secs(5)).await;
    assert_eq!(it.count(), 2, "the old timer is cancelled");
    assert_eq!(it.status().await.reconnect_attempt, 0);
}

#[actix_rt::test(system = "crate::System")]
async fn disabling_closes_the_connection_and_opens_no_other() {
    let it = Fixture::new();
    it.settings(true).await;
    it.connect().await;
    it.settings(false).await;
    assert_eq!(it.started.borrow().closed, 1);
    it.end(None).await;
    assert_eq!((it.count(), it.status().await.state), (1, ConnectionState::Disabled));
}

#[actix_rt::test(system = "crate::System")]
async fn a_secret_that_cannot_be_read_is_reported_and_no_connection_is_attempted() {
    let it = Fixture::new();
    let settings = MqttSettings { enabled: true, ..MqttSettings::defaults("c") };
    let unusable = Some(Failure::new(FailureKind::SecretUnreadable, "put it back"));
    it.supervisor
        .send(SettingsChanged { settings: Arc::new(settings), change: SettingsChange::Other, unusable })
        .await
        .unwrap();
    let status = it.status().await;
    assert_eq!((it.count(), status.state), (0, ConnectionState::Waiting));
    assert_eq!(status.last_error.unwrap().kind, FailureKind::SecretUnreadable);
}

#[actix_rt::test(system = "crate::System")]
async fn shutdown_returns_when_the_connection_is_closed() {
    let it = Fixture::new();
    it.settings(true).await;
    it.connect().await;
    let mut shutdown = Box::pin(it.supervisor.send(Shutdown(Close::Offline)));
    assert!(time::timeout(Duration::from_millis(50), &mut shutdown).await.is_err());
    it.end(None).await;
    shutdown.await.unwrap();
    assert_eq!(it.count(), 1, "no new connection");
}

#[actix_rt::test(system = "crate::System")]
async fn a_test_message_needs_a_connection() {
    let it = Fixture::new();
    it.settings(true).await;
    let answer = it.supervisor.send(PublishTestMessage).await.unwrap();
    assert_eq!(answer, Err(TestMessageError::NotConnected));
    it.connect().await;
    let answer = it.supervisor.send(PublishTestMessage).await.unwrap();
    assert_eq!(answer.unwrap().topic, "liveobject/test");
}

#[actix_rt::test(system = "crate::System")]
async fn a_broker_that_refused_mqtt_5_is_tried_with_3_1_1_first_until_the_settings_change() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    assert_eq!(it.version_policy(), VersionPolicy::of_protocol(Protocol::Auto));
    it.connect_with(Version::V311, Some(Refusal::Reported)).await;
    assert_eq!(it.status().await.protocol, Some("3.1.1"));
    it.end(Some(closed())).await;
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(it.version_policy(), VersionPolicy::of_known(Version::V311));
    it.settings(true).await;
    it.end(None).await;
    assert_eq!(it.version_policy(), VersionPolicy::of_protocol(Protocol::Auto));
}

#[actix_rt::test(system = "crate::System")]
async fn a_broker_that_restarts_during_a_login_is_tried_with_mqtt_5_again() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    it.connect_with(Version::V311, Some(Refusal::Closed)).await;
    it.end(Some(closed())).await;
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(it.version_policy(), VersionPolicy::of_protocol(Protocol::Auto));
    it.connect().await;
    it.end(Some(closed())).await;
    time::sleep(Duration::from_secs(4)).await;
    assert_eq!(it.version_policy(), VersionPolicy::of_known(Version::V5));
    it.end(Some(refused())).await;
    time::sleep(Duration::from_secs(8)).await;
    assert_eq!(
        it.version_policy(),
        VersionPolicy::of_known(Version::V5),
        "a broker that is down still supports the same versions"
    );
    it.end(Some(closed())).await;
    time::sleep(Duration::from_secs(16)).await;
    assert_eq!(
        it.version_policy(),
        VersionPolicy::of_protocol(Protocol::Auto),
        "it may be another broker now"
    );
}

#[actix_rt::test(system = "crate::System")]
async fn connections_that_are_closed_soon_after_each_login_are_reported_as_a_probable_takeover() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    let mut kinds = Vec::new();
    for n in 1..=4 {
        it.connect_with(Version::V311, None).await;
        time::sleep(Duration::from_secs(3)).await;
        it.end(Some(closed())).await;
        let status = it.status().await;
        assert_eq!(status.reconnect_attempt, n, "the waits still grow");
        kinds.push(status.last_error.unwrap().kind);
        time::sleep(Duration::from_secs(9)).await;
    }
    let expected = [FailureKind::Closed, FailureKind::Closed, FailureKind::TakenOver, FailureKind::TakenOver];
    assert_eq!(kinds, expected);
    it.connect_with(Version::V311, None).await;
    let kinds =
        |status: ConnectionStatus| status.warnings.iter().map(|warning| warning.kind).collect::<Vec<_>>();
    assert_eq!(kinds(it.status().await), [WarningKind::ClientIdTakenOver]);
    time::sleep(Duration::from_secs(31)).await;
    assert_eq!(kinds(it.status().await), Vec::<WarningKind>::new(), "the other client is gone");
}

/// Delivers a message on the availability topic.
async fn availability_arrives(it: &Fixture, payload: &'static str) {
    let link = it.started.borrow().links.last().unwrap().0;
    let Subscribe { topic, to } = it.started.borrow().subscribed.last().unwrap().clone();
    to.send(Arrived { link, topic, payload: payload.into(), retained: false }).await.unwrap();
    // Longer than the wait before a correction.
    time::sleep(Duration::from_secs(2)).await;
    settle().await;
}

#[actix_rt::test(system = "crate::System")]
async fn the_birth_message_is_published_again_only_while_connected() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    it.connect().await;
    settle().await;
    availability_arrives(&it, "online").await;
    assert_eq!(it.started.borrow().published.len(), 0);
    availability_arrives(&it, "offline").await;
    let published = it.started.borrow().published.clone();
    let [PublishState { topic, payload, retain: true }] = &published[..] else { panic!("{published:?}") };
    assert_eq!((topic.as_str(), &payload[..]), ("liveobject/status", &b"online"[..]));
    assert_eq!(it.status().await.warnings[0].kind, WarningKind::AvailabilityOverwritten);

    it.settings(false).await;
    availability_arrives(&it, "offline").await;
    assert_eq!(it.started.borrow().published.len(), 1, "this is our own message");
}

#[actix_rt::test(system = "crate::System")]
async fn connections_that_end_while_a_message_is_unanswered_are_not_reported_as_a_takeover() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    it.unanswered.set(true);
    for _ in 0..5 {
        it.connect().await;
        it.end(Some(closed())).await;
        assert_eq!(it.status().await.last_error.unwrap().kind, FailureKind::Closed);
        time::sleep(Duration::from_secs(61)).await;
    }
}

#[actix_rt::test(system = "crate::System")]
async fn the_next_connection_follows_soon_while_it_shows_which_message_is_at_fault() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    it.retry_soon.set(true);
    for n in 1..=6 {
        it.connect().await;
        it.end(Some(closed())).await;
        assert_eq!(it.status().await.reconnect_attempt, n);
        time::sleep(Duration::from_millis(1050)).await;
        assert_eq!(it.count(), n as usize + 1);
    }
    it.retry_soon.set(false);
    for n in [7, 8] {
        it.connect().await;
        it.end(Some(closed())).await;
        time::sleep(Duration::from_millis(if n == 7 { 1050 } else { 2050 })).await;
        assert_eq!(it.count(), n + 1, "then the waits grow from the shortest");
    }
}

#[actix_rt::test(system = "crate::System")]
async fn messages_that_are_left_out_raise_a_warning_until_the_settings_are_saved() {
    time::pause();
    let it = Fixture::new();
    it.settings(true).await;
    it.connect().await;
    let birth = MessageRef { seq: None, topic: "liveobject/status".to_owned(), bytes: 6 };
    let end = End::AfterRefusal(birth, DeadReason::NotAuthorized);
    let ending = Ending { end, in_flight: Vec::new(), accepted_any: false };
    for _ in 0..2 {
        it.poison.borrow_mut().ended(ending.clone(), Instant::now().into_std());
    }
    it.end(Some(closed())).await;
    let left_out = async || {
        let warnings = it.status().await.warnings;
        warnings
            .into_iter()
            .filter(|warning| warning.kind == WarningKind::MessagesLeftOut)
            .collect::<Vec<_>>()
    };
    assert!(left_out().await[0].message.contains("liveobject/status"));
    it.settings(true).await;
    assert_eq!(left_out().await, []);
}

#[actix_rt::test(system = "crate::System")]
async fn topics_that_the_broker_refuses_raise_warnings_on_this_connection() {
    let it = Fixture::new();
    it.settings(true).await;
    it.connect().await;
    let link = it.started.borrow().links.last().unwrap().0;
    let warning = Warning::new(WarningKind::TopicRefused, "no");
    for (warnings, of) in [(vec![warning.clone()], link), (vec![], LinkId(99))] {
        it.supervisor.send(TopicsRefused { link: of, warnings, left_out: vec![] }).await.unwrap();
    }
    assert_eq!(it.status().await.warnings, [warning]);
    it.supervisor.send(TopicsRefused { link, warnings: vec![], left_out: vec![] }).await.unwrap();
    assert_eq!(it.status().await.warnings, []);
}

#[actix_rt::test(system = "crate::System")]
async fn no_connection_is_opened_before_the_database_shows_that_this_node_owns_the_event_log() {
    time::pause();
    let owner = crate::store::TestOwner::suspended();
    let it = Fixture::with(owner.gate());
    it.settings(true).await;
    time::sleep(Duration::from_mins(1)).await;
    assert_eq!((it.count(), it.status().await.state), (0, ConnectionState::Waiting));
    owner.beat();
    settle().await;
    assert_eq!(it.count(), 1);

    it.connect().await;
    it.end(Some(closed())).await;
    time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(it.count(), 1, "the last beat was before the end of the connection");
    owner.beat();
    settle().await;
    assert_eq!(it.count(), 2);
    it.end(Some(closed())).await;
    owner.fenced();
    time::sleep(Duration::from_mins(1)).await;
    assert_eq!(it.count(), 2, "another node is the owner");
}
