//! One actor in place of all real ones.

use std::sync::{Arc, Mutex, MutexGuard};

use actix::{
    Actor, ActorContext, Addr, AsyncContext as _, Context, Handler, Message, MessageResult, Recipient,
    ResponseFuture,
};
use actix_web::web::Bytes;
use liveobject_actors::{
    CameraId, DetectionEvent, EventId, Handle, MqttSettings, PublishBatch, PublishError, PublishEvent,
    Receipt, Seq,
    domain::{
        camera::{Camera, ImageType, Thumbnail},
        clock::{self, Clock, Moment, Timestamp},
        delivery::{DecideError, Decided, DecidedAll, Delivery},
        event_log::{
            EventList, EventQuery, EventRecord, LogPart, LogQuery, LogSize, Position, QueryError,
            StoredPayload,
        },
        history::{Figures, HistoryPoint, PointState},
        image::{Picture, PictureVersion, StoredPicture},
        link_key::LinkKey,
        links::Links,
        outage::{Facts, LogExtent, Outage, OutageKind, OutageReport, Outages},
        probe_report::{Stage, TestProgress, TestReport, TestStage},
        replay::{Replay, ReplayRequest, ReplayState, WaitingFor},
        search::Density,
        settings::revision::revision_of,
        status::{ConnectionState, FailureKind},
        store_fault::StoreFault,
        token::{Scopes, TokenHash, TokenName, TokenRecord},
    },
    messages::{
        cameras::{
            CameraError, CameraView, DeleteCamera, GetCamera, ListCameras, PutCamera, SetCameraStatus,
        },
        config::{GetSettings, ProvideBroker, ReplaceError, ReplaceSettings, SettingsView, TestConnection},
        discovery::{DiscoveryError, PublishDiscovery},
        history::{GetHistory, GetOutages},
        outbox::{AwaitCommit, Decide, DecideAll, GetEvent, GetOutbox, ListEvents, OutboxStatus, ReadLog},
        replay::{CancelReplay, CreateReplay, GetReplay, ListReplays, ReplayError},
        search::{CountEvents, MeasureLog},
        stream::{LogMoved, LogWatch, SettingsRevised},
        supervisor::{
            ConnectionStatus, GetStatus, PublishTestMessage, ReconnectError, ReconnectNow, ReportWarnings,
            TestMessageError, TestMessageSent,
        },
        thumbnails::{
            GetPictureStock, GetThumbnail, GetThumbnailAt, GetThumbnailVersions, PictureStock, PutThumbnail,
            ThumbnailError,
        },
        tokens::{
            Authenticate, Authenticated, CreateToken, CreateTokenError, EndSessions, ListTokens, NewToken,
            RevokeToken, RevokeTokenError, TokensUnavailable,
        },
    },
    metrics::Metrics,
    stream::{StreamActor, StreamPeers},
};
use serde_json::{Value, json};

/// The state of the scripted actors, and the failures that a test has set.
pub struct Script {
    /// Every accepted event, in order.
    pub accepted: Vec<DetectionEvent>,
    /// The pictures that came with events.
    pub thumbnails: Vec<(EventId, Bytes)>,
    /// Error that publishing returns, if any.
    pub publish_error: Option<PublishError>,
    /// Error that database queries return, if any.
    pub query_error: Option<QueryError>,
    /// Error that a decision about a dead event returns, if any.
    pub decide_error: Option<DecideError>,
    /// The decisions made so far.
    pub decided: Vec<Decide>,
    /// The decisions about several dead events.
    pub decided_all: Vec<DecideAll>,
    /// Receives a notification for every event.
    notifier: Option<LogWatch>,
    /// Receives the revision of the settings.
    pub streams: Option<Recipient<SettingsRevised>>,
    /// Error that storing a picture returns, if any.
    pub put_thumbnail_error: Option<ThumbnailError>,
    /// Error that replacing the settings returns, if any.
    pub replace_error: Option<ReplaceError>,
    /// Error that a test message returns, if any.
    pub test_message_error: Option<TestMessageError>,
    pub reconnect_error: Option<ReconnectError>,
    /// Whether the outbox accepts messages but never responds.
    pub outbox_hangs: bool,
    /// The latest list query.
    pub listed: Option<EventQuery>,
    /// The settings that each connection test received.
    pub tested: Vec<Option<Value>>,
    /// The connection status.
    pub connection: ConnectionStatus,
    /// The outbox status.
    pub outbox: OutboxStatus,
    /// The settings.
    pub settings: MqttSettings,
    /// The tokens and their scopes.
    pub tokens: Vec<(String, Scopes)>,
    /// Whether the token database is unavailable.
    pub tokens_unavailable: bool,
}

impl Default for Script {
    fn default() -> Self {
        let connection = ConnectionStatus {
            state: ConnectionState::Disabled,
            broker: None,
            protocol: None,
            last_connected_at: None,
            last_error: None,
            reconnect_attempt: 0,
            next_attempt_at: None,
            warnings: Vec::new(),
        };
        Self {
            accepted: Vec::new(),
            thumbnails: Vec::new(),
            publish_error: None,
            query_error: None,
            decide_error: None,
            decided: Vec::new(),
            decided_all: Vec::new(),
            notifier: None,
            streams: None,
            put_thumbnail_error: None,
            replace_error: None,
            test_message_error: None,
            reconnect_error: None,
            outbox_hangs: false,
            listed: None,
            tested: Vec::new(),
            connection,
            outbox: OutboxStatus::default(),
            settings: MqttSettings::defaults("liveobject-00000000"),
            tokens: Vec::new(),
            tokens_unavailable: false,
        }
    }
}

/// The only camera that the actors know.
pub const KNOWN_CAMERA: &str = "known";

fn known_camera(id: CameraId) -> Option<CameraView> {
    let now = Moment::at(clock::now());
    let thumbnail = Thumbnail { seq: Seq(1), happened: now.log, format: ImageType::Jpeg };
    let camera =
        (id.as_str() == KNOWN_CAMERA).then(|| Camera { thumbnail: Some(thumbnail), ..Camera::new(id, now) });
    camera.map(|camera| CameraView { camera, events_today: 0, events_this_week: 0 })
}

impl Script {
    fn publish(&mut self, events: Vec<PublishEvent>) -> Result<Vec<Receipt>, PublishError> {
        self.publish_error.clone().map_or(Ok(()), Err)?;
        let receipts = events.into_iter().map(|PublishEvent { event, thumbnail }| {
            self.thumbnails.extend(thumbnail.map(|image| (event.event_id().clone(), image)));
            self.accept(event)
        });
        Ok(receipts.collect())
    }

    fn accept(&mut self, event: DetectionEvent) -> Receipt {
        let event_id = event.event_id().clone();
        let seq = |i: usize| Seq(i64::try_from(i).unwrap() + 1);
        if let Some(i) = self.accepted.iter().position(|e| *e.event_id() == event_id) {
            return Receipt { event_id, seq: seq(i), duplicate: true };
        }
        self.accepted.push(event);
        let position = self.position();
        if let Some(watch) = &self.notifier {
            watch.notify(|| LogMoved { position, others: Vec::new() });
        }
        Receipt { event_id, seq: seq(self.accepted.len() - 1), duplicate: false }
    }

    /// Returns the event log, newest first.
    fn records(&self) -> Result<Vec<EventRecord>, QueryError> {
        self.query_error.clone().map_or(Ok(()), Err)?;
        let delivery = Delivery::default();
        let record = |(i, event): (usize, &DetectionEvent)| {
            let seq = Seq(i64::try_from(i).unwrap() + 1);
            let camera = Camera::new(event.camera_id().clone(), Moment::at(clock::now()));
            let payload = StoredPayload(event.payload(&camera, seq, "http://here").into());
            let camera_id = event.camera_id().clone();
            EventRecord { seq, camera_id, received_at: clock::now(), payload, delivery: delivery.clone() }
        };
        Ok(self.accepted.iter().enumerate().map(record).rev().collect())
    }

    fn authenticate(&self, hash: TokenHash) -> Result<Option<Authenticated>, TokensUnavailable> {
        if self.tokens_unavailable {
            return Err(TokensUnavailable(StoreFault::Locked));
        }
        let found = self.tokens.iter().find(|(token, _)| TokenHash::of(token) == hash);
        let token = |scopes: &Scopes| token(TokenName::parse("one").unwrap(), scopes.clone());
        Ok(found.map(|(_, scopes)| Authenticated::Token(token(scopes))))
    }

    fn position(&self) -> Position {
        Position { seq: Seq(i64::try_from(self.accepted.len()).unwrap()), checkpoint: Seq(0) }
    }

    fn read(&self, read: &LogQuery) -> Result<LogPart, QueryError> {
        let (after, to) = read.events;
        let mut events = self.records()?;
        events.retain(|record| after < record.seq && record.seq <= to);
        events.reverse();
        Ok(LogPart { events, changes: Vec::new() })
    }

    fn decide_all(&mut self, decide: DecideAll) -> Result<DecidedAll, DecideError> {
        self.decide_error.clone().map_or(Ok(()), Err)?;
        self.decided_all.push(decide);
        Ok(DecidedAll { events: 3, complete: false, next_after: Some(Seq(7)) })
    }

    fn decide(&mut self, decide: Decide) -> Result<Decided, DecideError> {
        self.decide_error.clone().map_or(Ok(()), Err)?;
        let place = self.accepted.iter().position(|event| *event.event_id() == decide.event_id);
        let seq = Seq(i64::try_from(place.ok_or(DecideError::Unknown)?).unwrap() + 1);
        let decision = decide.decision;
        self.decided.push(decide);
        Ok(Decided { seq, decision, was_listed: true })
    }

    fn view(&self) -> SettingsView {
        let revision = revision_of(&self.settings);
        SettingsView {
            settings: self.settings.clone(),
            has_password: self.settings.password.is_some(),
            has_client_key: self.settings.client_key.is_some(),
            updated_at: None,
            managed: false,
            provided: Vec::new(),
            revision,
        }
    }

    fn replace(&mut self, message: ReplaceSettings) -> Result<SettingsView, ReplaceError> {
        let ReplaceSettings { settings: value, precondition } = message;
        self.replace_error.clone().map_or(Ok(()), Err)?;
        if !precondition.allows(&self.view().revision) {
            return Err(ReplaceError::Changed);
        }
        let update = MqttSettings::read(value, "liveobject-00000000")?;
        let password = update.password.apply(self.settings.password.clone());
        self.settings = MqttSettings { password, ..update.settings };
        Ok(self.view())
    }
}

/// One outage that began at this time and has not ended.
fn outages(from: Timestamp) -> Outages {
    let moment = Moment::at(from);
    let extent = LogExtent { cursor: Seq(1), last: Seq(2), pending: 1 };
    let outage = Outage {
        id: 1,
        kind: OutageKind::BrokerAway,
        reason: Some(FailureKind::Refused),
        began: moment.into(),
        ended: None,
        before: extent,
        last: Seq(4),
        missing: false,
        charts_until: None,
    };
    let facts = Facts { waiting: 2, complete: true, ..Facts::default() };
    Outages { recorded_from: from, reports: vec![OutageReport::new(outage, facts)] }
}

/// A point that is known, and one that is not.
fn history() -> Vec<HistoryPoint> {
    let figures = Figures { accepted: 3, pending: 2, ..Figures::default() };
    let (at, delivery_p50, delivery_p95) = (clock::now(), Some(0.5), Some(1.0));
    let known = HistoryPoint { at, state: PointState::Known, figures, delivery_p50, delivery_p95 };
    let unknown = HistoryPoint {
        state: PointState::NotRunning,
        figures: Figures::default(),
        delivery_p50: None,
        delivery_p95: None,
        ..known
    };
    vec![unknown, known]
}

/// The scripted actor.
pub struct Actors(Arc<Mutex<Script>>);

impl Actors {
    pub fn new(script: &Arc<Mutex<Script>>) -> Self {
        Self(Arc::clone(script))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

impl Actor for Actors {
    type Context = Context<Self>;
}

macro_rules! handlers {
    ($($message:ty, |$script:ident, $taken:pat_param| $answer:expr;)+) => {$(
        impl Handler<$message> for Actors {
            type Result = MessageResult<$message>;

            fn handle(&mut self, $taken: $message, _: &mut Context<Self>) -> Self::Result {
                #[allow(unused_mut, reason = "some handlers only read")]
                let mut $script = self.script();
                MessageResult($answer)
            }
        }
    )+};
}

fn to_json(payload: &StoredPayload) -> serde_json::Value {
    serde_json::to_value(payload).unwrap()
}

handlers! {
    PublishEvent, |script, event| script.publish(vec![event]).map(|mut receipts| receipts.remove(0));
    PublishBatch, |script, PublishBatch(events)| script.publish(events);
    GetEvent, |script, GetEvent(id)|
        script.records().map(|r| r.into_iter().find(|r| to_json(&r.payload)["event_id"] == id.as_str()));
    ReadLog, |script, ReadLog(query)| script.read(&query);
    Decide, |script, decide| script.decide(decide);
    DecideAll, |script, decide| script.decide_all(decide);
    PutThumbnail, |script, PutThumbnail { .. }| script.put_thumbnail_error.clone().map_or(Ok(()), Err);
    GetThumbnail, |script, GetThumbnail { .. }| script.query_error.clone().map_or(Ok(Some(picture())), Err);
    GetThumbnailAt, |script, GetThumbnailAt { .. }| script.query_error.clone().map_or(Ok(Some(picture())), Err);
    GetThumbnailVersions, |script, GetThumbnailVersions(seqs)| {
        script.query_error.clone().map_or(Ok(vec![None; seqs.len()]), Err)
    };
    ListEvents, |script, ListEvents(list)| {
        let records = script.records().map(|records| {
            let before = |r: &EventRecord| list.before.is_none_or(|before| r.seq < before);
            let limit = usize::try_from(list.limit).unwrap();
            let events: Vec<_> = records.into_iter().filter(before).take(limit).collect();
            let next_before = events.last().map(|r| r.seq).filter(|_| events.len() == limit);
            EventList { events, next_before }
        });
        script.listed = Some(list);
        records
    };
    MeasureLog, |script, MeasureLog| script.query_error.clone().map_or_else(
        || Ok(LogSize { events: Some(script.accepted.len() as u64), oldest: Some(clock::from_micros(0)) }),
        Err,
    );
    GetPictureStock, |_script, GetPictureStock| PictureStock { stored: Some((2, 3000)), max_bytes: 1 << 31 };
    CountEvents, |script, CountEvents(query)| {
        let density = Density { events: vec![1, 0], next_before: query.before };
        script.query_error.clone().map_or(Ok(density), Err)
    };
    GetOutages, |script, GetOutages { from, .. }| script.query_error.clone().map_or_else(|| Ok(outages(from)), Err);
    GetHistory, |script, GetHistory(_)| script.query_error.clone().map_or_else(|| Ok(history()), Err);
    GetStatus, |script, GetStatus| script.connection.clone();
    ReconnectNow, |script, ReconnectNow| script.reconnect_error.map_or(Ok(()), Err);
    ReportWarnings, |script, ReportWarnings(warnings)| script.connection.warnings = warnings;
    GetSettings, |script, GetSettings| script.view();
    ReplaceSettings, |script, message| script.replace(message);
    ProvideBroker, |_script, _provided| ();
    TestConnection, |script, TestConnection { settings: value, watcher }| {
        let settings = MqttSettings::read(value.clone().unwrap_or_else(|| json!({})), "x");
        script.tested.push(value);
        let report = settings.map(|_| report());
        if let (Some(watcher), Ok(report)) = (watcher, &report) {
            watcher.send(TestProgress::Begun(Stage::Resolve)).unwrap();
            watcher.send(TestProgress::Stage(report.stages[0].clone())).unwrap();
        }
        report
    };
    Authenticate, |script, Authenticate(hash)| script.authenticate(hash);
    EndSessions, |script, _end| if script.tokens_unavailable { Err(StoreFault::Locked) } else { Ok(()) };
    ListTokens, |script, ListTokens| if script.tokens_unavailable {
        Err(TokensUnavailable(StoreFault::Locked))
    } else {
        Ok(Vec::new())
    };
    CreateToken, |script, CreateToken { name, scopes }| {
        if name.as_str() == "taken" {
            Err(CreateTokenError::Exists(name))
        } else if script.tokens_unavailable {
            Err(CreateTokenError::Storage(StoreFault::Locked))
        } else {
            Ok(NewToken { record: token(name, scopes), secret: "lo_secret".into() })
        }
    };
    CreateReplay, |script, CreateReplay(body)| {
        if body["camera_id"] == "busy" {
            return MessageResult(Err(ReplayError::TooMany));
        }
        ReplayRequest::from_json(body, &script.settings, clock::from_micros(0)).map(replay).map_err(Into::into)
    };
    ListReplays, |script, ListReplays| vec![known_replay(&script.settings)];
    GetReplay, |script, GetReplay(id)| (id == 7).then(|| known_replay(&script.settings));
    CancelReplay, |script, CancelReplay(id)| {
        let replay = Replay { state: ReplayState::Cancelled, ..known_replay(&script.settings) };
        if id == 7 { Ok(replay) } else { Err(ReplayError::Unknown) }
    };
    RevokeToken, |_script, RevokeToken(name)| {
        if name.as_str() == "unknown" { Err(RevokeTokenError::Unknown(name)) } else { Ok(()) }
    };
    ListCameras, |_script, ListCameras| Vec::new();
    GetCamera, |_script, GetCamera(id)| known_camera(id);
    PutCamera, |_script, PutCamera { .. }| Err(CameraError::TooMany { max: 7 });
    SetCameraStatus, |_script, SetCameraStatus { camera_id, .. }|
        known_camera(camera_id).ok_or(CameraError::Unknown);
    DeleteCamera, |_script, DeleteCamera(id)| known_camera(id).map(|_| ()).ok_or(CameraError::Unknown);
    PublishDiscovery, |_script, PublishDiscovery| Err(DiscoveryError::NotConnected);
    PublishTestMessage, |script, PublishTestMessage| {
        let sent = TestMessageSent { topic: script.settings.topic_prefix.test() };
        script.test_message_error.clone().map_or(Ok(sent), Err)
    };
}

impl Handler<AwaitCommit> for Actors {
    type Result = ();

    fn handle(&mut self, _: AwaitCommit, _: &mut Context<Self>) {}
}

impl Handler<GetOutbox> for Actors {
    type Result = ResponseFuture<OutboxStatus>;

    fn handle(&mut self, _: GetOutbox, _: &mut Context<Self>) -> Self::Result {
        let script = self.script();
        let status = OutboxStatus { position: script.position(), ..script.outbox.clone() };
        let hangs = script.outbox_hangs;
        Box::pin(async move { if hangs { std::future::pending().await } else { status } })
    }
}

/// The only replay that the actors know; its id is 7.
fn known_replay(settings: &MqttSettings) -> Replay {
    let body = json!({"from": "1969-12-31T23:00:00Z"});
    replay(ReplayRequest::from_json(body, settings, clock::from_micros(0)).unwrap())
}

fn replay(request: ReplayRequest) -> Replay {
    Replay {
        id: 7,
        state: ReplayState::Running,
        waiting_for: Some(WaitingFor::Connection),
        request,
        events: 3,
        published: 1,
        skipped: 0,
        reason: None,
        created_at: clock::from_micros(0),
        ended_at: None,
    }
}

/// Stops the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopActors;

impl Handler<StopActors> for Actors {
    type Result = ();

    fn handle(&mut self, _: StopActors, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

fn token(name: TokenName, scopes: Scopes) -> TokenRecord {
    TokenRecord { name, scopes, created_at: clock::from_micros(0), last_used_at: None }
}

fn picture() -> StoredPicture {
    let picture = Picture { format: ImageType::Jpeg, image: b"\xff\xd8\xff".as_slice().into() };
    StoredPicture { picture, version: PictureVersion(7) }
}

fn report() -> TestReport {
    let stage =
        TestStage { name: Stage::Resolve, ok: Some(true), duration_ms: 1, detail: "127.0.0.1".to_owned() };
    TestReport { success: true, message: "it works".to_owned(), protocol: Some("5"), stages: vec![stage] }
}

/// Returns a handle in which the scripted actor replaces every actor except the stream actor, which is real.
pub fn handle(actors: &Addr<Actors>, script: &Arc<Mutex<Script>>) -> Handle {
    let actors = || actors.clone();
    let peers =
        StreamPeers { outbox: actors().recipient(), log: actors().recipient(), status: actors().recipient() };
    let context = Context::new();
    let watch = LogWatch::new(context.address().recipient());
    script.lock().unwrap().notifier = Some(watch.clone());
    let crashed = tokio::sync::mpsc::unbounded_channel().0;
    let streams = context.run(StreamActor::new(peers, watch, Metrics::new(), crashed));
    script.lock().unwrap().streams = Some(streams.clone().recipient());
    Handle {
        publish: actors().recipient(),
        publish_batch: actors().recipient(),
        list_events: actors().recipient(),
        count_events: actors().recipient(),
        measure_log: actors().recipient(),
        get_event: actors().recipient(),
        decide: actors().recipient(),
        decide_all: actors().recipient(),
        create_replay: actors().recipient(),
        list_replays: actors().recipient(),
        get_replay: actors().recipient(),
        cancel_replay: actors().recipient(),
        open_stream: streams.recipient(),
        outages: actors().recipient(),
        history: actors().recipient(),
        outbox: actors().recipient(),
        await_commit: actors().recipient(),
        status: actors().recipient(),
        list_cameras: actors().recipient(),
        get_camera: actors().recipient(),
        put_camera: actors().recipient(),
        set_camera_status: actors().recipient(),
        delete_camera: actors().recipient(),
        publish_discovery: actors().recipient(),
        test_message: actors().recipient(),
        reconnect: actors().recipient(),
        report_warnings: actors().recipient(),
        settings: actors().recipient(),
        replace_settings: actors().recipient(),
        provide_broker: actors().recipient(),
        test_connection: actors().recipient(),
        put_thumbnail: actors().recipient(),
        get_thumbnail: actors().recipient(),
        get_thumbnail_at: actors().recipient(),
        thumbnail_versions: actors().recipient(),
        picture_stock: actors().recipient(),
        authenticate: actors().recipient(),
        list_tokens: actors().recipient(),
        create_token: actors().recipient(),
        revoke_token: actors().recipient(),
        end_sessions: actors().recipient(),
        links: Links::new("http://here", 7, LinkKey::generate().unwrap()),
        clock: Clock::following(|| (clock::now(), clock::to_micros(clock::now()))),
        metrics: Metrics::new(),
    }
}
