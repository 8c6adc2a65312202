//! The nodes, their database, their broker, and what is recorded of them.

mod database;
mod node;
mod router;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use age::{secrecy::ExposeSecret as _, x25519::Identity};
use liveobject_test_support::{
    Api, Mosquitto, PacketKind, Proxy, Subscriber, TappedPacket, happens, wait_until,
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{Instant, sleep},
};

use self::router::{Pids, Router};
pub use self::{database::Database, node::Node};
use crate::{
    broker_log::publications,
    records::{Arrival, Records, SentPacket, Session, Term, Write},
};

const USER: &str = "ann";
const PASSWORD: &str = "correct horse battery staple";
const TIMEOUT: Duration = Duration::from_secs(30);
const DAY: u64 = 86_400;
/// Time within which what one node has changed is valid at every node.
const SHARED_WITHIN: Duration = Duration::from_secs(2);
const COLLECT_EVERY: Duration = Duration::from_millis(50);

/// A packet that passed between a node and the broker.
#[derive(Debug)]
struct Passed {
    node: usize,
    connection: usize,
    what: PacketKind,
}

#[derive(Debug)]
pub struct Cluster {
    pub start: Instant,
    /// The same as a time since 1970.
    epoch: Duration,
    pub database: Database,
    /// Locked by the fault that affects the database server.
    pub server: tokio::sync::Mutex<()>,
    pub broker: tokio::sync::Mutex<Mosquitto>,
    broker_port: u16,
    /// Each is locked by the fault that affects it.
    pub nodes: Vec<tokio::sync::Mutex<Node>>,
    /// The nodes' lines to the database.
    lines: Vec<Arc<Proxy>>,
    /// The nodes' lines to the broker.
    pub to_broker: Vec<Arc<Proxy>>,
    ids: Mutex<BTreeMap<String, usize>>,
    /// A handle to each node's API, with a token that is valid at all of them.
    pub apis: Vec<Api>,
    packets: Arc<Mutex<Vec<Passed>>>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    router: Router,
    _collector: JoinSet<()>,
}

impl Cluster {
    /// Starts this many nodes. The first owns the log and is connected to the broker.
    pub async fn start(nodes: usize) -> Self {
        let start = Instant::now();
        let epoch = SystemTime::UNIX_EPOCH.elapsed().expect("the clock is set");
        let mut database = Database::start();
        let broker = Mosquitto::builder().user(USER, PASSWORD).upgrade_outgoing_qos().log_packets();
        let broker = broker.start().await;
        let identity = Identity::generate().to_string();
        let pids = Pids::new(nodes);
        let (mut members, mut collector) = (Vec::new(), JoinSet::new());
        let packets = Arc::<Mutex<Vec<Passed>>>::default();
        for index in 0..nodes {
            let new = Node::new(index, &database, broker.port(), identity.expose_secret(), pids.clone());
            let (node, passed) = new.await;
            members.push(node);
            collector.spawn(record_packets(index, passed, Arc::clone(&packets)));
        }
        let router = Router::start(pids, members.iter().map(|node| node.to_broker.port()).collect()).await;
        let subscriber = subscriber(broker.port()).await;
        let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
        collector.spawn(record_arrivals(subscriber, Arc::clone(&arrivals), start));

        let first = &mut members[0];
        first.start();
        first.wait_until_live().await;
        let admin = Api::on_port(first.port, &first.token());
        wait_until("the first node owns the log", TIMEOUT, async || {
            admin.try_get("/api/v1/cameras").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        database.observe();
        let _ = admin.put_config(&settings(router.port())).await.expect(200);
        admin.wait_connected(TIMEOUT).await;
        let token = create_token(&admin, "sources", &["read", "events:write"]).await;
        let apis = members.iter().map(|node| Api::on_port(node.port, &token)).collect();
        for node in &mut members[1..] {
            node.start();
            node.wait_until_live().await;
        }
        Self {
            start,
            epoch,
            database,
            server: tokio::sync::Mutex::default(),
            broker_port: broker.port(),
            broker: tokio::sync::Mutex::new(broker),
            lines: members.iter().map(|node| Arc::clone(&node.to_database)).collect(),
            to_broker: members.iter().map(|node| Arc::clone(&node.to_broker)).collect(),
            nodes: members.into_iter().map(tokio::sync::Mutex::new).collect(),
            ids: Mutex::default(),
            apis,
            packets,
            arrivals,
            router,
            _collector: collector,
        }
    }

    /// Returns the time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the node that owns the log, as far as it is known.
    pub fn owner(&self) -> Option<usize> {
        let owner = self.database.owner()?;
        if let Some(index) = lock(&self.ids).get(&owner) {
            return Some(*index);
        }
        for node in &self.nodes {
            let Ok(node) = node.try_lock() else { continue };
            if let Some(id) = node.id() {
                lock(&self.ids).insert(id, node.index);
            }
        }
        lock(&self.ids).get(&owner).copied()
    }

    /// Makes the standby the primary server, and starts another standby. The previous primary ends after this time.
    /// Until then, the owner of the log uses it, as if its network were cut off from the others.
    pub async fn fail_over(&self, after: Option<Duration>) {
        if !self.database.has_standby() {
            return;
        }
        let owner = self.owner().filter(|_| after.is_some());
        if after.is_none() {
            // It ends before the other one begins, like a server that has lost its power.
            Database::end_server(self.database.primary()).await;
        }
        let previous = self.database.promote().await;
        let port = self.database.port();
        for (_, line) in self.lines.iter().enumerate().filter(|(node, _)| owner != Some(*node)) {
            line.retarget(port);
            line.cut().await;
        }
        sleep(after.unwrap_or_default()).await;
        if let Some(previous) = previous {
            Database::end_server(previous).await;
        }
        if let Some(owner) = owner {
            self.lines[owner].retarget(port);
            self.lines[owner].cut().await;
        }
        self.database.add_standby().await;
    }

    /// Waits until no event is pending, and everything that the broker has acknowledged has arrived.
    pub async fn settle(&self, expected: usize) {
        let is_empty = |status: &Value| {
            status["connected"] == true
                && status["outbox"]["pending"] == 0
                && status["outbox"]["in_flight"] == 0
        };
        wait_until("no event is pending", TIMEOUT * 3, async || {
            for api in &self.apis {
                let status = api.try_get("/api/v1/integrations/mqtt/status").await;
                if status.is_ok_and(|answer| answer.status == 200 && is_empty(&answer.body)) {
                    return true;
                }
            }
            false
        })
        .await;
        let (mut count, mut since) = (0, Instant::now());
        wait_until("everything has arrived", TIMEOUT, async || {
            let arrived = lock(&self.arrivals).len();
            if arrived != count {
                (count, since) = (arrived, Instant::now());
            }
            let quiet = since.elapsed();
            quiet > TIMEOUT / 5 || (arrived >= expected && quiet > TIMEOUT / 30)
        })
        .await;
    }

    /// Changes a setting and creates a token through each node, and adds to the records where they are not valid.
    pub async fn check_shared(&self, records: &mut Records) {
        for (index, changing) in self.nodes.iter().enumerate() {
            let admin = {
                let node = changing.lock().await;
                Api::on_port(node.port, &node.token())
            };
            let late_after = 80_000 + index;
            let mut settings = settings(self.router.port());
            settings["late_after_seconds"] = late_after.into();
            // With the password, the service would connect again.
            settings.as_object_mut().expect("it is an object").remove("password");
            let _ = admin.put_config(&settings).await.expect(200);
            admin.wait_connected(TIMEOUT).await;
            let token = create_token(&admin, &format!("node-{index}"), &["read"]).await;
            let changed = Instant::now();
            for (number, node) in self.nodes.iter().enumerate() {
                let api = Api::on_port(node.lock().await.port, &token);
                let is_valid = async || {
                    let config = api.try_get("/api/v1/integrations/mqtt/config").await;
                    config.is_ok_and(|config| {
                        config.status == 200 && config.body["late_after_seconds"] == late_after
                    })
                };
                if !happens(SHARED_WITHIN.saturating_sub(changed.elapsed()), is_valid).await {
                    let problem = format!("what node {index} has changed is not valid at node {number}");
                    records.problems.push(problem);
                }
            }
        }
    }

    /// Adds to the records what was observed at the broker and in the database.
    pub async fn complete(&self, records: &mut Records) {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.push(node.lock().await);
        }
        let (mut sessions, mut to_database) = (Vec::new(), Vec::new());
        for node in &nodes {
            for connection in node.to_broker.connections() {
                let (number, port) = (connection.number, connection.outgoing_port);
                let began = connection.at - self.start;
                sessions.push(Session { node: node.index, number, port, began });
            }
            let connections = node.to_database.connections();
            to_database.extend(connections.into_iter().map(|connection| (connection, node.index)));
        }
        sessions.sort_by_key(|session| session.began);
        let session = |node, number| {
            sessions.iter().position(|session| session.node == node && session.number == number)
        };
        let packets = std::mem::take(&mut *lock(&self.packets));
        records.packets = packets
            .into_iter()
            .filter_map(|passed| {
                let session = session(passed.node, passed.connection)?;
                Some(SentPacket { session, what: passed.what })
            })
            .collect();
        records.publishes = publications(&self.broker.lock().await.log(), &sessions);
        records.sessions = sessions;
        records.arrivals = std::mem::take(&mut *lock(&self.arrivals));
        let index =
            |id: &str| nodes.iter().find(|node| node.id().as_deref() == Some(id)).map(|node| node.index);
        let terms = self.database.terms().await.into_iter();
        records.terms = terms
            .map(|(node, at)| Term { node: node.as_deref().and_then(index), at: self.since_start(at) })
            .collect();
        let groups = self.database.writes().await.into_iter();
        records.writes = groups
            .map(|(first, last, port, at)| {
                let at = self.since_start(at);
                let of_port = to_database.iter().filter(|(connection, _)| {
                    Some(i32::from(connection.outgoing_port)) == port && connection.at - self.start <= at
                });
                let writer = of_port.max_by_key(|(connection, _)| connection.at);
                let writer = writer.map(|(connection, node)| (*node, connection.at - self.start));
                let [first, last] = [first, last].map(|seq| u64::try_from(seq).expect("it is positive"));
                Write { first, last, writer, at }
            })
            .collect();
        records.end = self.database.end().await;
        if SystemTime::UNIX_EPOCH.elapsed().is_ok_and(|now| now.as_secs() / DAY == self.epoch.as_secs() / DAY)
        {
            records.end.counted = self.counted().await;
        }
        records.end.retained = retained(self.broker_port).await;
        for node in &mut nodes {
            records.problems.append(&mut node.problems);
        }
    }

    /// Returns the number of today's events of each camera, from the API of the owner.
    async fn counted(&self) -> BTreeMap<String, u64> {
        for api in &self.apis {
            let Ok(answer) = api.try_get("/api/v1/cameras").await else { continue };
            if let (200, Some(cameras)) = (answer.status, answer.body["cameras"].as_array()) {
                let count = |camera: &Value| {
                    let id = camera["camera_id"].as_str().unwrap_or_default();
                    (id.to_owned(), camera["events_today"].as_u64().unwrap_or_default())
                };
                return cameras.iter().map(count).collect();
            }
        }
        BTreeMap::new()
    }

    /// Converts a time of the database.
    fn since_start(&self, seconds_since_1970: f64) -> Duration {
        Duration::from_secs_f64(seconds_since_1970).saturating_sub(self.epoch)
    }
}

impl Drop for Cluster {
    /// Saves the logs of the nodes, of the server and of the broker next to the fault log.
    fn drop(&mut self) {
        let Some(log) = std::env::var_os("FAILOVER_LOG").map(PathBuf::from) else { return };
        let mut logs = vec![(
            "server".to_owned(),
            fs::read_to_string(self.database.primary().dir().join("log")).unwrap_or_default(),
        )];
        for node in &mut self.nodes {
            let node = node.get_mut();
            logs.push((format!("node{}", node.index), node.log()));
        }
        logs.push(("broker".to_owned(), self.broker.get_mut().log()));
        for (extension, text) in logs {
            if let Err(error) = fs::write(log.with_extension(extension), text) {
                println!("a log cannot be saved: {error}");
            }
        }
    }
}

/// Creates an access token with these scopes. Returns it.
async fn create_token(admin: &Api, name: &str, scopes: &[&str]) -> String {
    let token = json!({ "name": name, "scopes": scopes });
    let token = admin.post("/api/v1/tokens", &token).await.expect(201);
    token["token"].as_str().expect("the token is shown once").to_owned()
}

fn settings(broker_port: u16) -> Value {
    json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": broker_port,
        "username": USER, "password": PASSWORD, "late_after_seconds": 86_400,
        // So that a login may arrive while its node is paused.
        "connect_timeout_seconds": 30, "ack_timeout_seconds": 5, "keep_alive_seconds": 5,
    })
}

async fn subscriber(port: u16) -> Subscriber {
    let filters = ["+/camera/+/event", "+/camera/+/history"];
    let builder = Subscriber::builder(port).login(USER, PASSWORD);
    let builder = filters.iter().fold(builder, |builder, filter| builder.filter(filter));
    builder.start().await
}

/// Returns the retained messages.
async fn retained(port: u16) -> BTreeMap<String, Vec<u8>> {
    let subscriber = Subscriber::builder(port).login(USER, PASSWORD).client_id("retained").qos(0);
    let subscriber = subscriber.without_session().start().await;
    sleep(Duration::from_secs(1)).await;
    let retained = subscriber.messages().into_iter().filter(|message| message.retain);
    retained.map(|message| (message.topic, message.payload.to_vec())).collect()
}

async fn record_packets(
    node: usize,
    mut passed: UnboundedReceiver<TappedPacket>,
    packets: Arc<Mutex<Vec<Passed>>>,
) {
    while let Some(TappedPacket { connection, what }) = passed.recv().await {
        lock(&packets).push(Passed { node, connection, what });
    }
}

async fn record_arrivals(subscriber: Subscriber, arrivals: Arc<Mutex<Vec<Arrival>>>, start: Instant) {
    loop {
        let messages = subscriber.take();
        for message in messages.iter().filter(|message| message.is_event()) {
            let json = message.json();
            let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
            lock(&arrivals).push(Arrival {
                event: text("event_id"),
                camera: text("camera_id"),
                seq: json["seq"].as_u64().unwrap_or_default(),
                is_late: message.topic.ends_with("/history"),
                at: message.at - start,
            });
        }
        sleep(COLLECT_EVERY).await;
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
