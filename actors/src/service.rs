//! The wiring: starts every actor, connects them, and returns their addresses. This is the only file that
//! depends on every actor.

mod handle;
mod keys;
mod node;
mod node_key;
mod node_token;
mod options;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix::{Actor as _, Addr, AsyncContext as _, Context, Message, Recipient, dev::ToEnvelope};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    time::timeout,
};

use self::keys::Keys;
pub use self::{
    handle::Handle,
    keys::SharedSessions,
    node::{Node, NodeEnd},
    node_token::PublishTokenError,
    options::ServiceOptions,
};
use crate::{
    cameras::{CameraActor, CameraPeers},
    config::{ConfigActor, SettingsListeners, StoredSettings},
    connection::{ConnectionActor, Peers},
    data_dir::{DataDir, DataDirError},
    discovery::{DiscoveryActor, DiscoveryPeers},
    domain::{
        clock::{self, Clock},
        lease::Term,
        links::Links,
        node::NodeName,
    },
    history::{HistoryActor, HistoryPeers},
    messages::{
        connection::Close,
        link::{Answered, LinkDown, LinkUp},
        outbox::Drain,
        service::Stop,
        stream::LogWatch,
        supervisor::Shutdown,
    },
    metrics::Metrics,
    outbox::{HistoryPeer, OutboxActor, OutboxPeers, ThumbnailPeer},
    replay::{ReplayActor, ReplayPeers},
    retained::{RetainedActor, RetainedPeers},
    search::SearchActor,
    store::{Gate, Location, OpenError, Store, StoreError},
    stream::{StreamActor, StreamPeers},
    supervisor::{ConnectionFactory, ConnectionStart, Running, SupervisorActor},
    thumbnails::{Files, FilesError, LinkKeyError, Pictures, Storage, ThumbnailActor, recover_staged},
    tokens::TokenActor,
};

/// How long to wait for acknowledgements on shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for an actor that is asked to stop. An actor that takes longer is broken, and the
/// shutdown continues without it.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// How long [`Service::abandon`] waits for all of it.
const ABANDON_WITHIN: Duration = Duration::from_secs(5);

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The id of this node cannot be read or created.
    #[error("the id of this node, {}, cannot be used", path.display())]
    NodeId {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another service that uses the database is active: this one, if it is known.
    #[error("{}", node::describe(.0.as_ref()))]
    NotActive(Option<NodeName>),
    /// Another service that uses the database has the id of this one.
    #[error("{}", node::remedy(path))]
    DuplicateNode {
        /// The file with the id.
        path: PathBuf,
    },
    /// The settings cannot be read.
    #[error("the settings cannot be read")]
    Settings(#[source] StoreError),
    /// The event log cannot be read.
    #[error("the event log cannot be read")]
    Log(#[source] StoreError),
    /// The cameras cannot be read.
    #[error("the cameras cannot be read")]
    Cameras(#[source] StoreError),
    /// The key that signs links to pictures cannot be used.
    #[error(transparent)]
    LinkKey(#[from] LinkKeyError),
    /// The link key that was given is not that of the other nodes.
    #[error(
        "the link key that was given is not the one that the nodes with this database share: give all nodes the same \
         key, or none; to replace the shared one, stop all nodes, and remove it (UPDATE liveobject.cluster SET \
         link_key = NULL)"
    )]
    LinkKeyDiffers,
    /// What the nodes share cannot be read or stored.
    #[error("the keys that the nodes with this database share cannot be read or stored")]
    SharedKeys(#[source] StoreError),
    /// The pictures in the database cannot be read.
    #[error("the pictures in the database cannot be read")]
    Pictures(#[source] StoreError),
    /// The picture directory cannot be used.
    #[error(transparent)]
    Thumbnails(#[from] FilesError),
}

impl ThumbnailPeer {
    fn new(actor: &Addr<ThumbnailActor>) -> Self {
        Self {
            stage: recipient(actor),
            adopt: recipient(actor),
            have: recipient(actor),
            discard: recipient(actor),
            sweep: recipient(actor),
            free_space: recipient(actor),
        }
    }
}

/// The running actors. [`Service::stop`] stops them in order; a service that is dropped instead keeps running
/// until its system ends.
///
/// It must be started within a [`System`](crate::System). All actors share its main thread.
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    outbox: Addr<OutboxActor>,
    supervisor: Addr<SupervisorActor>,
    streams: Addr<StreamActor>,
    replays: Addr<ReplayActor>,
    history: Addr<HistoryActor>,
    /// These actors hold each other's addresses, so each must be stopped by a message.
    others: Vec<Recipient<Stop>>,
    crashed: UnboundedReceiver<&'static str>,
    store: Store,
    delivered_today: u64,
    shared_sessions: Option<SharedSessions>,
    /// Keeps the data directory locked.
    _data_dir: Arc<DataDir>,
    /// The node that this service has started with, and the period of ownership.
    node: Option<(Node, Term)>,
}

/// The actors that handle requests from outside.
struct Actors {
    outbox: Addr<OutboxActor>,
    streams: Addr<StreamActor>,
    replays: Addr<ReplayActor>,
    history: Addr<HistoryActor>,
    cameras: Addr<CameraActor>,
    discovery: Addr<DiscoveryActor>,
    supervisor: Addr<SupervisorActor>,
    config: Addr<ConfigActor>,
    thumbnails: Addr<ThumbnailActor>,
    tokens: Addr<TokenActor>,
    search: Addr<SearchActor>,
}

impl Actors {
    /// Returns those that stop after all others, in order.
    fn others(&self, retained: Recipient<Stop>) -> Vec<Recipient<Stop>> {
        let (cameras, discovery) = (recipient(&self.cameras), recipient(&self.discovery));
        let (thumbnails, tokens) = (recipient(&self.thumbnails), recipient(&self.tokens));
        vec![cameras, discovery, retained, thumbnails, tokens, recipient(&self.search)]
    }

    fn handle(&self, links: Links, clock: Clock, metrics: Metrics) -> Handle {
        Handle {
            publish: recipient(&self.outbox),
            publish_batch: recipient(&self.outbox),
            list_events: recipient(&self.outbox),
            count_events: recipient(&self.search),
            measure_log: recipient(&self.search),
            get_event: recipient(&self.outbox),
            decide: recipient(&self.outbox),
            decide_all: recipient(&self.outbox),
            create_replay: recipient(&self.replays),
            list_replays: recipient(&self.replays),
            get_replay: recipient(&self.replays),
            cancel_replay: recipient(&self.replays),
            open_stream: recipient(&self.streams),
            outages: recipient(&self.history),
            history: recipient(&self.history),
            outbox: recipient(&self.outbox),
            await_commit: recipient(&self.outbox),
            list_cameras: recipient(&self.cameras),
            get_camera: recipient(&self.cameras),
            put_camera: recipient(&self.cameras),
            set_camera_status: recipient(&self.cameras),
            delete_camera: recipient(&self.cameras),
            publish_discovery: recipient(&self.discovery),
            status: recipient(&self.supervisor),
            report_warnings: recipient(&self.supervisor),
            test_message: recipient(&self.supervisor),
            reconnect: recipient(&self.supervisor),
            settings: recipient(&self.config),
            replace_settings: recipient(&self.config),
            provide_broker: recipient(&self.config),
            test_connection: recipient(&self.config),
            put_thumbnail: recipient(&self.thumbnails),
            get_thumbnail: recipient(&self.thumbnails),
            get_thumbnail_at: recipient(&self.thumbnails),
            thumbnail_versions: recipient(&self.thumbnails),
            picture_stock: recipient(&self.thumbnails),
            authenticate: recipient(&self.tokens),
            list_tokens: recipient(&self.tokens),
            create_token: recipient(&self.tokens),
            revoke_token: recipient(&self.tokens),
            end_sessions: recipient(&self.tokens),
            links,
            clock,
            metrics,
        }
    }
}

/// Locks the data directory and opens the database file.
async fn open_file(options: &ServiceOptions, database: &Path) -> Result<(DataDir, Store), StartError> {
    let mut data_dir = DataDir::lock_soon(&options.data_dir).await?;
    // The schema may only be upgraded under the lock.
    Store::create_file(database)?;
    data_dir.lock_database(database)?;
    Ok((data_dir, Store::open_file(database).await?))
}

fn outbox_peers(
    cameras: &Addr<CameraActor>,
    thumbnails: &Addr<ThumbnailActor>,
    retained: &Addr<RetainedActor>,
    history: &Addr<HistoryActor>,
    watch: &LogWatch,
) -> OutboxPeers {
    OutboxPeers {
        cameras: recipient(cameras),
        thumbnails: ThumbnailPeer::new(thumbnails),
        hand_over: recipient(retained),
        log_watch: watch.clone(),
        history: HistoryPeer { link_moved: recipient(history), missing: recipient(history) },
    }
}

fn discovery_peers(retained: &Addr<RetainedActor>, outbox: &Addr<OutboxActor>) -> DiscoveryPeers {
    DiscoveryPeers {
        retain: recipient(retained),
        retain_all: recipient(retained),
        republish: recipient(retained),
        outbox: recipient(outbox),
    }
}

fn camera_peers(retained: &Addr<RetainedActor>, discovery: &Addr<DiscoveryActor>) -> CameraPeers {
    CameraPeers {
        retain: recipient(retained),
        retain_all: recipient(retained),
        discovery: recipient(discovery),
    }
}

impl Service {
    /// Locks the data directory, recovers the event log, and starts every actor. Events are accepted once it
    /// returns. With a database on a server, waits for up to 15 s until no other service owns the event log.
    pub async fn start(options: ServiceOptions) -> Result<Self, StartError> {
        let Location::File(database) = options.database()? else {
            return Self::start_as_node(options).await;
        };
        let (data_dir, store) = open_file(&options, &database).await?;
        Self::start_on(options, Arc::new(data_dir), store, Metrics::new()).await
    }

    async fn start_as_node(options: ServiceOptions) -> Result<Self, StartError> {
        let mut node = Node::join(options).await?;
        match Box::pin(node.start_soon()).await {
            Ok((service, term)) => Ok(Self { node: Some((node, term)), ..service }),
            Err(error) => {
                node.leave().await;
                Err(error)
            }
        }
    }

    /// Recovers the event log, and starts every actor.
    async fn start_on(
        options: ServiceOptions,
        data_dir: Arc<DataDir>,
        store: Store,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let clock = store.clock();
        let midnight = options.calendar.start(options.calendar.day(clock::now()));
        let delivered_today = store.delivered_since(midnight).await.map_err(StartError::Log)?;
        let (crash, crashed) = mpsc::unbounded_channel();

        let config = StoredSettings::open(options.config_options(store.clone(), crash.clone()));
        let config = Box::pin(config).await.map_err(StartError::Settings)?;
        let keys = Box::pin(Keys::open(&options, &store, &config, &data_dir)).await?;
        let links = keys.links(&options);
        let pictures = open_pictures(&options, &store).await?;
        // These actors refer to each other, so their addresses are needed before they start.
        let (thumbnails_context, cameras_context, streams_context, history_context) =
            (Context::new(), Context::new(), Context::new(), Context::new());
        let history = history_context.address();
        let thumbnails_addr = thumbnails_context.address();
        let peers = RetainedPeers { thumbnails: recipient(&thumbnails_addr) };
        let retained = RetainedActor::new(store.clone(), peers, crash.clone()).start();
        let watch = LogWatch::new(recipient(&streams_context.address()));
        let settings = config.settings();
        let replay_settings = Arc::clone(&settings);
        let outbox = OutboxActor::recover(
            store.clone(),
            metrics.clone(),
            options.outbox_limits(&links, &settings),
            Arc::clone(&settings),
            outbox_peers(&cameras_context.address(), &thumbnails_addr, &retained, &history, &watch),
            crash.clone(),
        );
        let outbox_actor = Box::pin(outbox).await.map_err(StartError::Log)?;
        let extent = outbox_actor.extent();
        let outbox_context = Context::new();
        let outbox = outbox_context.address();

        let peers = discovery_peers(&retained, &outbox);
        let discovery =
            DiscoveryActor::new(Arc::clone(&settings), options.public_url, peers, crash.clone()).start();
        let peers = camera_peers(&retained, &discovery);
        let (calendar, max_cameras) = (options.calendar, options.max_cameras);
        let (camera_store, camera_crash) = (store.clone(), crash.clone());
        let cameras =
            CameraActor::open(camera_store, settings, calendar, clock, max_cameras, peers, camera_crash);
        let cameras = cameras_context.run(Box::pin(cameras).await.map_err(StartError::Cameras)?);
        let tokens = TokenActor::new(store.clone(), crash.clone()).start();
        let search = SearchActor::new(store.clone(), crash.clone()).start();
        let thumbnails = ThumbnailActor::new(store.clone(), pictures, recipient(&cameras), crash.clone());
        let thumbnails = thumbnails_context.run(thumbnails);
        let outbox = outbox_context.run(outbox_actor);
        let peers = HistoryPeers { extent: recipient(&outbox), open: recipient(&outbox) };
        let (retention, history_crash) = (options.retention_days, crash.clone());
        let history =
            HistoryActor::open(store.clone(), metrics.clone(), peers, retention, extent, history_crash);
        let history = history_context.run(Box::pin(history).await.map_err(StartError::Log)?);
        let peers = ReplayPeers { unsent: recipient(&outbox) };
        let replays =
            ReplayActor::open(store.clone(), replay_settings, peers, metrics.clone(), crash.clone());
        let replays = Box::pin(replays).await.map_err(StartError::Log)?.start();

        let listeners = Listeners::new(&outbox, &retained, &discovery, &replays);
        let factory = connections(listeners, options.window, store.gate());
        let (broker, steps) = (recipient(&retained), recipient(&history));
        let supervisor =
            SupervisorActor::new(factory, store.gate(), broker, steps, metrics.clone(), crash.clone())
                .start();
        let streams = stream_peers(&outbox, &supervisor);
        let streams = streams_context.run(StreamActor::new(streams, watch, metrics.clone(), crash));
        let listeners =
            settings_listeners(&outbox, &retained, &replays, &cameras, &discovery, &supervisor, &streams);
        let config = config.start(listeners);

        let actors = Actors {
            outbox,
            streams,
            replays,
            history,
            cameras,
            discovery,
            supervisor,
            config,
            thumbnails,
            tokens,
            search,
        };
        let handle = actors.handle(links, clock, metrics);
        let others = actors.others(recipient(&retained));
        let Actors { outbox, streams, replays, history, supervisor, .. } = actors;
        Ok(Self {
            handle,
            outbox,
            supervisor,
            streams,
            replays,
            history,
            others,
            crashed,
            store,
            delivered_today,
            shared_sessions: keys.sessions,
            _data_dir: data_dir,
            node: None,
        })
    }

    /// Returns the service's addresses.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns how many events had been delivered on the day of the start before the service started.
    pub fn delivered_today(&self) -> u64 {
        self.delivered_today
    }

    /// Returns what the nodes with this database share about the sessions of the page; `None` if this node shares
    /// nothing.
    pub fn shared_sessions(&self) -> Option<SharedSessions> {
        self.shared_sessions.clone()
    }

    /// Waits for an actor to panic and returns its name. The service must not be used after that: end the
    /// process and start it again.
    pub async fn crashed(&mut self) -> &'static str {
        let keeper = async {
            match &mut self.node {
                Some((node, _)) => node.crashed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(actor) = self.crashed.recv() => actor,
            actor = keeper => actor,
            // Every actor has stopped, but none of them panicked.
            else => std::future::pending().await,
        }
    }

    /// Waits until another service that uses the database owns the event log. Requests are then refused; call
    /// [`abandon`](Self::abandon), and start again. Never returns if the database is a file.
    pub async fn lost(&mut self) {
        if let Some((node, term)) = &mut self.node {
            // If the keeper has panicked, `crashed` returns.
            if !matches!(node.inactive(*term).await, Err(NodeEnd::Crashed(_))) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Makes the outbox panic, so that [`crashed`](Self::crashed) returns.
    #[cfg(any(test, feature = "testing"))]
    pub async fn crash_an_actor(&self) {
        // The actor is gone before it can reply.
        let _closed = self.outbox.send(crate::testing::Crash).await;
    }

    /// Stops the service in order: it refuses new events, finishes the commit, waits up to five seconds for
    /// acknowledgements, publishes `offline`, and closes the database.
    pub async fn stop(self) {
        self.stop_with(Close::Offline, DRAIN_TIMEOUT).await;
    }

    /// Stops the service because another node owns the event log: publishes nothing more and disconnects from the
    /// broker, and refuses the requests that wait. Takes a few seconds at most, so that this node can wait for its next
    /// term.
    ///
    /// What has not stopped by then ends later, without any effect: its gate belongs to a term that has ended, so it
    /// publishes nothing, and each of its writes depends on that term, so the database refuses them.
    pub async fn abandon(mut self) {
        let (node, supervisor) = (self.node.take(), self.supervisor.clone());
        let (outbox, history) = (recipient(&self.outbox), recipient(&self.history));
        let first = [recipient(&self.streams), recipient(&self.replays), history, outbox];
        let actors: Vec<Recipient<Stop>> = first.into_iter().chain(self.others.clone()).collect();
        if timeout(ABANDON_WITHIN, self.stop_with(Close::Silent, Duration::ZERO)).await.is_err() {
            tracing::warn!("the service did not stop in time after another node had become active");
            stop_later(supervisor, &actors);
        }
        if let Some((node, _)) = node {
            node.leave().await;
        }
    }

    async fn stop_with(self, close: Close, drain_within: Duration) {
        if close == Close::Silent {
            // First, so that the other node finds no session.
            let _closed = self.supervisor.send(Shutdown(close)).timeout(STOP_TIMEOUT).await;
        }
        // Open streams would keep the HTTP server from stopping.
        let _ended = self.streams.send(Stop).timeout(STOP_TIMEOUT).await;
        // Before the outbox drains, so that nothing else is published in the meantime.
        let _ended = self.replays.send(Stop).timeout(STOP_TIMEOUT).await;
        let drain = self.outbox.send(Drain { timeout: drain_within });
        if drain.timeout(STOP_TIMEOUT).await.is_err() {
            tracing::warn!(
                "the outbox did not stop in time; events that were delivered after the last checkpoint are sent \
                 again after a restart"
            );
        }
        if self.supervisor.send(Shutdown(close)).timeout(STOP_TIMEOUT).await.is_err() {
            tracing::warn!("the connection did not close in time; the broker publishes the last will");
        }
        // Before the outbox stops, which it asks how far the log has come.
        if self.history.send(Stop).timeout(STOP_TIMEOUT).await.is_err() {
            tracing::warn!("the history was not stored in time; the next start will show a gap");
        }
        // The outbox may already have stopped.
        let _ended = self.outbox.send(Stop).timeout(STOP_TIMEOUT).await;
        for other in &self.others {
            let _ended = other.send(Stop).timeout(STOP_TIMEOUT).await;
        }
        self.store.close().await;
        if let Some((node, _)) = self.node {
            node.leave().await;
        }
    }
}

/// Lets the actors stop when they can.
#[expect(clippy::disallowed_methods, reason = "it happens once, and each gets one message")]
fn stop_later(supervisor: Addr<SupervisorActor>, actors: &[Recipient<Stop>]) {
    supervisor.do_send(Shutdown(Close::Silent));
    for actor in actors {
        actor.do_send(Stop);
    }
}

/// Opens the pictures. Removes files of pictures whose positions are above the end of the log: the database was
/// replaced by an older one, which does not contain their events. Recovers the pictures whose events were being
/// committed when the service crashed.
async fn open_pictures(options: &ServiceOptions, store: &Store) -> Result<Pictures, StartError> {
    let max_published_bytes = options.max_published_picture_bytes;
    if store.is_on_server() {
        let opened = Pictures::in_database(store, options.max_picture_bytes, max_published_bytes);
        return opened.await.map_err(StartError::Pictures);
    }
    let files = Files::open(&options.data_dir, options.max_picture_bytes)?;
    let last_seq = store.last_seq().await.map_err(StartError::Log)?;
    let removed = files.remove_above(last_seq)?;
    if removed > 0 {
        tracing::warn!(pictures = removed, "removed pictures of events that are not in the database");
    }
    let recovered = recover_staged(store, &files).await?;
    Ok(Pictures { storage: Storage::Files(files), recovered, max_published_bytes })
}

fn settings_listeners(
    outbox: &Addr<OutboxActor>,
    retained: &Addr<RetainedActor>,
    replays: &Addr<ReplayActor>,
    cameras: &Addr<CameraActor>,
    discovery: &Addr<DiscoveryActor>,
    supervisor: &Addr<SupervisorActor>,
    streams: &Addr<StreamActor>,
) -> SettingsListeners {
    SettingsListeners {
        outbox: recipient(outbox),
        retained: recipient(retained),
        replays: recipient(replays),
        cameras: recipient(cameras),
        discovery: recipient(discovery),
        supervisor: recipient(supervisor),
        status: recipient(supervisor),
        streams: recipient(streams),
    }
}

fn stream_peers(outbox: &Addr<OutboxActor>, supervisor: &Addr<SupervisorActor>) -> StreamPeers {
    StreamPeers { outbox: recipient(outbox), log: recipient(outbox), status: recipient(supervisor) }
}

fn recipient<A, M>(addr: &Addr<A>) -> Recipient<M>
where
    A: actix::Actor + actix::Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result: Send> + Send + 'static,
{
    addr.clone().recipient()
}

/// The actors that every connection notifies, in addition to the supervisor.
#[derive(Clone)]
struct Listeners {
    link_up: Vec<Recipient<LinkUp>>,
    link_down: Vec<Recipient<LinkDown>>,
    answered: Recipient<Answered>,
}

impl Listeners {
    fn new(
        outbox: &Addr<OutboxActor>,
        retained: &Addr<RetainedActor>,
        discovery: &Addr<DiscoveryActor>,
        replays: &Addr<ReplayActor>,
    ) -> Self {
        Self {
            // The outbox is the first one, so that events are sent before replays.
            link_up: vec![recipient(outbox), recipient(retained), recipient(discovery), recipient(replays)],
            link_down: vec![recipient(outbox), recipient(retained), recipient(replays)],
            answered: recipient(outbox),
        }
    }
}

/// Returns a factory of connections that report to these listeners.
fn connections(listeners: Listeners, window: u16, gate: Gate) -> ConnectionFactory {
    Box::new(move |ConnectionStart { link, settings, version_policy, poison, connected, refused, ended }| {
        let Listeners { link_up, link_down, answered } = listeners.clone();
        let peers = Peers { connected, ended, refused, link_up, link_down, answered };
        let gate = gate.clone();
        let connection =
            ConnectionActor::new(link, settings, version_policy, poison, window, gate, peers).start();
        Running {
            close: recipient(&connection),
            publish: recipient(&connection),
            subscribe: recipient(&connection),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventInput, messages::outbox::PublishEvent, supervisor::SupervisorActor, testing::Crash};

    fn event(id: &str) -> PublishEvent {
        let input = EventInput {
            event_id: Some(id.to_owned()),
            camera_id: "door".to_owned(),
            description: "Somebody".to_owned(),
            ..EventInput::default()
        };
        PublishEvent::new(input.validate().unwrap())
    }

    #[actix_rt::test(system = "crate::System")]
    async fn one_call_starts_the_service_and_a_recipient_accepts_events() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::start(ServiceOptions::in_dir(dir.path())).await.unwrap();
        let receipt = service.handle().publish.send(event("a")).await.unwrap().unwrap();
        assert_eq!((receipt.seq.0, receipt.duplicate), (1, false));
        service.stop().await;
        let service = Service::start(ServiceOptions::in_dir(dir.path())).await.unwrap();
        assert!(service.handle().publish.send(event("a")).await.unwrap().unwrap().duplicate);
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_data_directory_is_used_by_one_service_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Service::start(ServiceOptions::in_dir(dir.path())).await.unwrap();
        let second = Service::start(ServiceOptions::in_dir(dir.path())).await.unwrap_err();
        assert!(matches!(second, StartError::DataDir(DataDirError::InUse { .. })), "{second}");
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_panic_in_an_actor_is_escalated() {
        let dir = tempfile::tempdir().unwrap();
        let mut service = Service::start(ServiceOptions::in_dir(dir.path())).await.unwrap();
        service.crash_an_actor().await;
        assert_eq!(service.crashed().await, "outbox");
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_panic_in_the_supervisor_is_escalated() {
        let (crash, mut crashed) = mpsc::unbounded_channel();
        let factory: ConnectionFactory = Box::new(|_| unreachable!("no settings were sent"));
        let supervisor = SupervisorActor::new(
            factory,
            Gate::default(),
            crate::testing::Recorder::start_new().0.recipient(),
            crate::testing::Recorder::start_new().0.recipient(),
            Metrics::new(),
            crash,
        )
        .start();
        let _closed = supervisor.send(Crash).await;
        assert_eq!(crashed.recv().await, Some("supervisor"));
    }
}
