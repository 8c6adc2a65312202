//! A node: one of the services that share a database on a server. At most one of them, the active node, owns the event
//! log and runs the actors. The others wait for it to end.

use std::{path::Path, sync::Arc, time::Duration};

use actix::{Actor as _, Addr};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, UnboundedReceiver},
        watch,
    },
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{Service, ServiceOptions, StartError};
use crate::{
    config::ReadableCheck,
    data_dir::DataDir,
    domain::{
        causes::with_causes,
        lease::{Lease, Term},
        node::{NodeName, NodeRole, NodeView, Readable},
    },
    keeper::{Inspection, KeeperActor, node_id},
    messages::keeper::{GiveUp, Release, ServiceStarted},
    metrics::{Metrics, NodeMetrics},
    store::{
        Access, Location, NodeConnection, NodeDescription, OpenError, Ownership, ServerLocation, Store,
        StoreError,
    },
};

/// How long [`Service::start`] waits until this node is active.
const ACTIVE_WITHIN: Duration = Duration::from_secs(15);

/// How long a start waits for the first beats.
const FIRST_BEATS: Duration = Duration::from_secs(3);

/// How long a start waits for a server that cannot be reached. At the start of a machine, the server may be ready later
/// than this program.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before the database is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// For how long a start is tried again with one term. An attempt that takes longer is not interrupted: there may be
/// much to recover.
const START_WITHIN: Duration = Duration::from_secs(15);

/// How long closing the database may take after a start that has failed.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// How long giving the event log back may take, including a beat under way.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Why a node has ended.
#[derive(Debug)]
pub enum NodeEnd {
    /// An actor has panicked. Contains its name.
    Crashed(&'static str),
    /// Another node has the same id.
    Duplicate(StartError),
}

/// See the module's documentation. It must be started within a [`System`](crate::System).
#[derive(Debug)]
pub struct Node {
    options: ServiceOptions,
    location: Box<ServerLocation>,
    data_dir: Arc<DataDir>,
    ownership: Ownership,
    metrics: NodeMetrics,
    keeper: Addr<KeeperActor>,
    view: watch::Receiver<NodeView>,
    crashed: UnboundedReceiver<&'static str>,
}

impl Node {
    /// Locks the data directory, and begins to take part in the ownership of the event log. Waits for a while if the
    /// server cannot be reached.
    pub async fn join(options: ServiceOptions) -> Result<Self, StartError> {
        let data_dir = DataDir::lock_soon(&options.data_dir).await?;
        let Location::Server(location) = options.database()? else {
            unreachable!("only services with a database on a server are nodes");
        };
        let me = node_id::load_or_create(data_dir.path())
            .map_err(|source| StartError::NodeId { path: data_dir.path().join(node_id::FILE), source })?;
        let (name, place) = (options.node_name(), data_dir.place());
        let mut about = NodeDescription {
            name: name.name.clone(),
            url: name.url.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reads: Readable::ALL,
        };
        let mut connection =
            when_reachable(async || NodeConnection::open(&location, me, place, about.clone()).await).await?;
        let mut check = ReadableCheck::new(options.identity_source(), options.mqtt_managed);
        about.reads = readable(&mut check, &location, false).await.unwrap_or(Readable::ALL);
        // If there is no other node, nothing is gained by waiting for it.
        about.reads.settings |= !connection.has_able_others().await.unwrap_or(true);
        if !about.reads.settings {
            tracing::warn!(
                "this node cannot decrypt the secrets in the settings, because they belong to another identity; it \
                 becomes active only if no other node can. Copy identity.age from the data directory of another \
                 node, and start this node again"
            );
        }
        connection.describe(about.clone());
        let inspect = inspection(check, location.clone());
        let metrics = NodeMetrics::default();
        let ownership = Ownership::new(Lease::new(me, about.reads.settings));
        let (crash, crashed) = mpsc::unbounded_channel();
        let (keeper, view) =
            KeeperActor::new(connection, name, ownership.clone(), metrics.clone(), inspect, crash);
        let (keeper, data_dir) = (keeper.start(), Arc::new(data_dir));
        Ok(Self { options, location, data_dir, ownership, metrics, keeper, view, crashed })
    }

    /// Returns what this node knows about itself and the active node, now and after each change.
    pub fn view(&self) -> watch::Receiver<NodeView> {
        self.view.clone()
    }

    /// Returns the metrics of this node.
    pub fn metrics(&self) -> NodeMetrics {
        self.metrics.clone()
    }

    /// Waits until this node is active. Returns the period of ownership.
    pub async fn active(&mut self) -> Result<Term, NodeEnd> {
        self.until(NodeRole::term).await
    }

    /// Waits until this period of ownership has ended.
    pub async fn inactive(&mut self, term: Term) -> Result<(), NodeEnd> {
        self.until(|role| (role.term() != Some(term)).then_some(())).await
    }

    async fn until<T>(&mut self, is_met: impl Fn(NodeRole) -> Option<T>) -> Result<T, NodeEnd> {
        loop {
            let role = self.view.borrow_and_update().role;
            if role == NodeRole::Duplicate {
                let path = self.data_dir.path().join(node_id::FILE);
                return Err(NodeEnd::Duplicate(StartError::DuplicateNode { path }));
            }
            if let Some(met) = is_met(role) {
                return Ok(met);
            }
            tokio::select! {
                Some(actor) = self.crashed.recv() => return Err(NodeEnd::Crashed(actor)),
                changed = self.view.changed() => if changed.is_err() {
                    return Err(NodeEnd::Crashed("keeper"));
                },
            }
        }
    }

    /// Waits for the keeper to panic and returns its name. The node must not be used after that.
    pub async fn crashed(&mut self) -> &'static str {
        match self.crashed.recv().await {
            Some(actor) => actor,
            // It has stopped, but it has not panicked.
            None => std::future::pending().await,
        }
    }

    /// Recovers the event log and starts the service for this period of ownership. Tries again while the database
    /// cannot be reached, but only for a while: then another node may be able to start. Returns `None` if the period
    /// ends before the service has started.
    pub async fn start(&mut self, term: Term) -> Result<Option<Service>, StartError> {
        let deadline = Instant::now() + START_WITHIN;
        let mut is_reported = self.ownership.read(Lease::has_failed);
        let mut has_failed_before = false;
        loop {
            let mut view = self.view.clone();
            let started = tokio::select! {
                biased;
                started = self.try_start(term) => started,
                // A server that is gone may never answer, and this node may be needed for its next term.
                Ok(_) = view.wait_for(|view| view.role.term() != Some(term)) => return Ok(lost_during_start()),
            };
            let error = match started {
                Ok(service) => {
                    let _full = self.keeper.try_send(ServiceStarted(term));
                    if self.ownership.update(Lease::service_started) {
                        tracing::info!("this node became active, and the service has started");
                    }
                    return Ok(Some(service));
                }
                Err(error) => error,
            };
            if self.view.borrow().role.term() != Some(term) || self.ownership.term() != Some(term) {
                return Ok(lost_during_start());
            }
            if !may_pass(&error) {
                return Err(error);
            }
            if !std::mem::replace(&mut is_reported, true) {
                tracing::warn!(error = %with_causes(&error), "the event log cannot be opened; trying again");
            }
            // After a long attempt that failed, the next one may succeed.
            if std::mem::replace(&mut has_failed_before, true) && Instant::now() >= deadline {
                self.give_up(term).await;
                return Ok(None);
            }
            sleep(RETRY).await;
        }
    }

    /// Gives the event log back, because the service does not start.
    async fn give_up(&self, term: Term) {
        if !self.ownership.read(Lease::has_failed) {
            tracing::warn!(
                "the service does not start; another node takes over, or this one goes on trying until the service \
                 has started"
            );
        }
        if self.keeper.send(GiveUp(term)).timeout(LEAVE_WITHIN).await.is_err() {
            tracing::debug!("the event log was not given back in time");
        }
    }

    async fn try_start(&self, term: Term) -> Result<Service, StartError> {
        let store = Store::open_owned(&self.location, self.ownership.clone(), term).await?;
        let metrics = Metrics::of_node(Some(&self.metrics));
        let started =
            Service::start_on(self.options.clone(), Arc::clone(&self.data_dir), store.clone(), metrics).await;
        if started.is_err() && timeout(CLOSE_WITHIN, store.close()).await.is_err() {
            tracing::debug!("the database was not closed in time");
        }
        started
    }

    /// Starts the service, unless the first beats show that another node is active. Returns it with the period of
    /// ownership.
    pub async fn start_unless_standby(&mut self) -> Result<Option<(Service, Term)>, StartError> {
        let deadline = Instant::now() + FIRST_BEATS;
        let mut view = self.view.clone();
        loop {
            let seen = view.borrow_and_update().clone();
            match (seen.role, seen.active) {
                (NodeRole::Active { term, .. }, _) => {
                    return Ok(self.start(term).await?.map(|service| (service, term)));
                }
                (NodeRole::Standby, None) => {}
                (NodeRole::Standby | NodeRole::Duplicate, _) => return Ok(None),
            }
            if !matches!(timeout_at(deadline, view.changed()).await, Ok(Ok(()))) {
                return Ok(None);
            }
        }
    }

    /// Like [`active`](Self::active) and then [`start`](Self::start), but waits only for a while.
    pub(super) async fn start_soon(&mut self) -> Result<(Service, Term), StartError> {
        let deadline = Instant::now() + ACTIVE_WITHIN;
        loop {
            let Ok(active) = timeout_at(deadline, self.active()).await else {
                return Err(StartError::NotActive(self.view.borrow().active.clone()));
            };
            let term = match active {
                Ok(term) => term,
                Err(NodeEnd::Duplicate(error)) => return Err(error),
                // The caller sees the panic.
                Err(NodeEnd::Crashed(_)) => return Err(StartError::NotActive(None)),
            };
            if let Some(service) = self.start(term).await? {
                return Ok((service, term));
            }
        }
    }

    /// Gives the event log back, if this node owns it, and ends. The service must have stopped.
    pub async fn leave(self) {
        if self.keeper.send(Release).timeout(LEAVE_WITHIN).await.is_err() {
            tracing::warn!(
                "the event log was not given back in time; another node claims it after a few seconds"
            );
        }
    }
}

fn lost_during_start() -> Option<Service> {
    tracing::info!("another node became active during the start");
    None
}

/// Returns whether the same start may succeed in a moment.
fn may_pass(error: &StartError) -> bool {
    let of_store = |error: &StoreError| matches!(error, StoreError::Away(_) | StoreError::Locked(_));
    match error {
        StartError::Database(OpenError::Server { fault, .. }) => fault.may_pass(),
        StartError::Settings(error)
        | StartError::Log(error)
        | StartError::Cameras(error)
        | StartError::SharedKeys(error)
        | StartError::Pictures(error) => of_store(error),
        _ => false,
    }
}

/// Returns what this node can decrypt; `None` if that cannot be determined now.
async fn readable(check: &mut ReadableCheck, location: &ServerLocation, is_active: bool) -> Option<Readable> {
    let location = Location::Server(Box::new(location.clone()));
    ask(&location, async |store| check.run(store, is_active).await).await
}

/// Asks the database something that changes nothing, on connections of its own: this node need not be active. Returns
/// `None` if it cannot be asked now.
pub(super) async fn ask<T>(
    location: &Location,
    question: impl AsyncFnOnce(&Store) -> Result<T, StoreError>,
) -> Option<T> {
    let store = Store::open(location, Access::Command).await.ok()?;
    let answer = question(&store).await;
    store.close().await;
    answer.ok()
}

fn inspection(check: ReadableCheck, location: Box<ServerLocation>) -> Inspection {
    let check = Arc::new(Mutex::new(check));
    Box::new(move |is_active| {
        let (check, location) = (Arc::clone(&check), location.clone());
        Box::pin(async move { readable(&mut *check.lock().await, &location, is_active).await })
    })
}

/// Opens something in the database. A fault that may pass is reported at once, and returned only after a while.
async fn when_reachable<T>(open: impl AsyncFn() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let deadline = Instant::now() + START_PATIENCE;
    let mut is_waiting = false;
    loop {
        match open().await {
            Err(error @ OpenError::Server { .. }) if is_passing(&error) && Instant::now() < deadline => {
                if !std::mem::replace(&mut is_waiting, true) {
                    tracing::warn!(error = %with_causes(&error), "waiting for the database server");
                }
            }
            opened => return opened,
        }
        sleep(RETRY).await;
    }
}

fn is_passing(error: &OpenError) -> bool {
    matches!(error, OpenError::Server { fault, .. } if fault.may_pass())
}

impl ServiceOptions {
    /// Returns how other nodes see this one.
    fn node_name(&self) -> NodeName {
        let url = self.node_url.as_ref().unwrap_or(&self.public_url);
        NodeName { name: self.node_name.clone(), url: url.clone() }
    }
}

/// Describes the active node in an error message.
pub(super) fn describe(active: Option<&NodeName>) -> String {
    match active {
        Some(NodeName { name, url }) => format!("another node is active: {name} at {url}"),
        None => "this node did not become active in time".to_owned(),
    }
}

/// Returns the remedy for two nodes with the same id.
pub(super) fn remedy(path: &Path) -> String {
    format!(
        "another node that uses the database has the id in {}, because a data directory was copied. Stop both, remove \
         this file on one of them, and start them again",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use liveobject_test_support::Postgres;

    use super::{super::ABANDON_WITHIN, *};

    #[actix_rt::test(system = "crate::System")]
    async fn a_service_that_another_one_keeps_from_being_active_is_refused_and_starts_when_that_has_stopped()
    {
        let server = Postgres::shared();
        let url = server.url(&server.create_database());
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = dirs.each_ref().map(|dir| ServiceOptions {
            database_url: Some(url.clone().into()),
            node_name: "other".to_owned(),
            ..ServiceOptions::in_dir(dir.path())
        });
        let service = Service::start(first.clone()).await.unwrap();
        assert!(dirs[0].path().join(node_id::FILE).exists());
        let mut standby = Node::join(second).await.unwrap();
        let refused = standby.start_unless_standby().await.unwrap();
        assert!(refused.is_none());
        let refused = tokio::time::timeout(ACTIVE_WITHIN / 3, standby.active()).await;
        assert!(refused.is_err(), "{refused:?}");
        service.stop().await;
        let term = standby.active().await.unwrap();
        let service = standby.start(term).await.unwrap().unwrap();
        let error = Service::start(first).await.unwrap_err();
        assert!(matches!(&error, StartError::NotActive(Some(_))), "{error}");
        assert!(error.to_string().contains("another node is active: other at http://"), "{error}");
        service.stop().await;
        standby.leave().await;
    }

    struct Database {
        server: &'static Postgres,
        name: String,
        dirs: [tempfile::TempDir; 2],
    }

    impl Database {
        fn new() -> Self {
            let server = Postgres::shared();
            let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
            Self { server, name: server.create_database(), dirs }
        }

        fn options(&self, number: usize) -> ServiceOptions {
            ServiceOptions {
                database_url: Some(self.server.url(&self.name).into()),
                ..ServiceOptions::in_dir(self.dirs[number].path())
            }
        }
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_node_whose_service_does_not_start_leaves_the_event_log_to_another_one() {
        let database = Database::new();
        let mut first = Node::join(database.options(0)).await.unwrap();
        let term = first.active().await.unwrap();
        // As if the writing session of this term had been lost, and the server did not know it yet.
        let lock = format!(
            "SELECT pg_advisory_lock(hashtextextended('liveobject-term:{}', 0)); SELECT pg_sleep(60)",
            term.0
        );
        let name = database.name.clone();
        let blocked = std::thread::spawn(move || Postgres::shared().execute(&name, &lock));
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'";
        while database.server.execute(&database.name, held) == "0" {
            sleep(Duration::from_millis(20)).await;
        }
        let mut second = Node::join(database.options(1)).await.unwrap();
        assert!(first.start(term).await.unwrap().is_none());
        let service = {
            let term = second.active().await.unwrap();
            second.start(term).await.unwrap().unwrap()
        };
        assert_eq!(first.view().borrow().role, NodeRole::Standby);
        database.server.execute(
            &database.name,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' \
             AND datname = current_database() AND pid <> pg_backend_pid()",
        );
        assert!(blocked.join().is_err(), "it was ended");
        service.stop().await;
        second.leave().await;
        first.leave().await;
    }

    #[actix_rt::test(system = "crate::System")]
    async fn a_service_that_has_lost_the_event_log_stops_even_if_its_connection_is_blocked() {
        let database = Database::new();
        let service = Service::start(database.options(0)).await.unwrap();
        let store = service.store.clone();
        let occupied = store.occupy().await;
        timeout(ABANDON_WITHIN * 3, service.abandon()).await.expect("it has a limit");
        drop(occupied);
    }
}
