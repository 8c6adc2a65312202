//! Several services that share a database on a server. One of them is active, the others wait for it to end.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use liveobject_test_support::{
    FakeClock, Ledger, Message, Mosquitto, Postgres, PostgresOptions, Proxy, Service, Subscriber, free_port,
    wait_until,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    helpers::{
        LONG_TIMEOUT, TIMEOUT, accept, assert_kept, broker_and_subscriber, event, ids, service, settle, stop,
    },
    shared::IDENTITY,
    standby::metric,
};

const URL: &str = "LIVEOBJECT__DATABASE__URL";
const NODE_NAME: &str = "LIVEOBJECT__DATABASE__NODE_NAME";
const STATUS: &str = "liveobject/status";

/// Longer than another node waits before it takes over.
const PAUSE: Duration = Duration::from_secs(8);

/// How often a node in a crash loop starts. It beats in this time.
const CRASH_LOOP: Duration = Duration::from_millis(1500);

/// How long a node that is restarted is away. A standby that can decrypt the settings would take over.
const RESTART: Duration = Duration::from_secs(4);

/// Longer than it takes until deliveries are noted in the database.
const NOTED: Duration = Duration::from_secs(2);

/// Nodes with a broker.
struct Scene {
    database: String,
    url: String,
    broker: Mosquitto,
    subscriber: Subscriber,
}

impl Scene {
    async fn new() -> Self {
        let postgres = Postgres::shared();
        let (broker, subscriber) = broker_and_subscriber().await;
        let database = postgres.create_database();
        Self { url: postgres.url(&database), database, broker, subscriber }
    }

    /// Executes SQL as an administrator of the database.
    fn execute(&self, sql: &str) -> String {
        Postgres::shared().execute(&self.database, sql)
    }

    /// Returns a node that does not run yet.
    fn node(&self) -> Service {
        service().env(URL, &self.url).build()
    }

    /// Starts a node that is active, and connects it to the broker.
    async fn active(&self) -> Service {
        let mut node = self.node();
        node.start().await;
        assert_eq!(role(&node).await, "ready");
        node.connect_to(self.broker.port()).await;
        node
    }

    async fn standby(&self) -> Service {
        let mut node = self.node();
        node.start().await;
        assert_eq!(role(&node).await, "standby");
        node
    }

    fn statuses(&self) -> Vec<String> {
        self.subscriber.on(STATUS).iter().map(Message::text).collect()
    }
}

/// Starts a server. Returns it with its port.
fn server() -> (Postgres, u16) {
    let port = free_port();
    let access = Some("host all all 127.0.0.1/32 trust".to_owned());
    (Postgres::start(&PostgresOptions { port: Some(port), access, ..PostgresOptions::default() }), port)
}

/// Returns the URL of the database of this server, or of a proxy to it.
fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

/// Returns what the health check of a node reports.
async fn role(node: &Service) -> String {
    let ready = node.without_token().get("/health/ready").await.expect(200);
    ready["status"].as_str().unwrap_or_default().to_owned()
}

/// Returns whether the health check of a node reports this role. A node that does not respond reports none.
async fn reports(node: &Service, role: &str) -> bool {
    let ready = node.without_token().try_get("/health/ready").await;
    ready.is_ok_and(|ready| ready.body["status"] == role)
}

async fn wait_until_active(node: &Service) {
    let started = Instant::now();
    wait_until("the other node is active", TIMEOUT, async || reports(node, "ready").await).await;
    println!("taking over took {:.1} s", started.elapsed().as_secs_f64());
    node.wait_connected(TIMEOUT).await;
}

/// Submits an event until it is accepted.
async fn submit(node: &Service, ledger: &mut Ledger, id: &str) {
    ledger.accepted_receipt(&node.submit(&event(id), TIMEOUT).await);
}

fn logged(node: &Service, message: &str) -> usize {
    node.log_lines()
        .iter()
        .filter(|line| line["message"].as_str().is_some_and(|m| m.contains(message)))
        .count()
}

/// Returns why a node has become active the last time, as it has logged.
fn cause(node: &Service) -> String {
    let lines = node.log_lines();
    let mut became = lines.iter().rev().filter(|line| line["message"] == "this node became active");
    became.next().expect("it became active")["cause"].as_str().unwrap_or_default().to_owned()
}

/// Returns the messages of the warnings of this kind in the status.
async fn warnings(node: &Service, kind: &str) -> Vec<String> {
    let status = node.status().await;
    let of_kind =
        status["warnings"].as_array().into_iter().flatten().filter(|warning| warning["kind"] == kind);
    of_kind.map(|warning| warning["message"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn another_node_takes_over_when_the_active_one_is_killed() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = scene.standby().await;
    let mut ledger = accept(&a, ids("a", 50)).await;
    a.kill9().await;
    wait_until_active(&b).await;
    let (first, taken_over) = (cause(&a), cause(&b));
    assert_eq!(first, "no node was active");
    assert!(taken_over.contains(" has not reported to the database for "), "{taken_over}");
    for id in ids("b", 5) {
        submit(&b, &mut ledger, &id).await;
    }
    settle(&b, &scene.subscriber, &mut ledger, 55).await;
    assert_kept(&ledger);

    a.start().await;
    assert_eq!(role(&a).await, "standby");
    b.kill9().await;
    wait_until_active(&a).await;
    submit(&a, &mut ledger, "again").await;
    settle(&a, &scene.subscriber, &mut ledger, 56).await;
    assert_kept(&ledger);
    stop(&mut a).await;
}

#[tokio::test]
async fn a_node_that_is_stopped_hands_over() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = scene.standby().await;
    let mut ledger = accept(&a, ids("a", 20)).await;
    stop(&mut a).await;
    wait_until_active(&b).await;
    assert!(cause(&b).ends_with("was stopped, or has given the event log back"), "{}", cause(&b));
    submit(&b, &mut ledger, "b").await;
    settle(&b, &scene.subscriber, &mut ledger, 21).await;
    assert_kept(&ledger);
    assert_eq!(ledger.duplicates(), 0);
    assert_eq!(scene.statuses().last().map(String::as_str), Some("online"));

    a.start().await;
    assert_eq!(role(&a).await, "standby");
    let before = Instant::now();
    stop(&mut a).await;
    println!("a standby stopped after {:.1} s", before.elapsed().as_secs_f64());
    assert_eq!(role(&b).await, "ready");
    stop(&mut b).await;
}

#[tokio::test]
async fn a_node_that_starts_again_is_active_at_once_if_it_had_been_so_for_a_while() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = scene.standby().await;
    a.kill9().await;
    scene.execute("UPDATE liveobject_0.owner SET since = since - interval '2 minutes'");
    a.start().await;
    assert_eq!(role(&a).await, "ready");
    assert_eq!(cause(&a), "the database still named this node as the active one");
    sleep(PAUSE).await;
    assert_eq!((role(&a).await.as_str(), role(&b).await.as_str()), ("ready", "standby"));
    assert_eq!(logged(&b, "this node became active"), 0);
    stop(&mut b).await;
    stop(&mut a).await;
}

#[tokio::test]
async fn a_node_in_a_crash_loop_leaves_the_event_log_to_the_other_one() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = scene.standby().await;
    let started = Instant::now();
    while role(&b).await != "ready" {
        assert!(started.elapsed() < TIMEOUT, "{}", b.log_text());
        a.kill9().await;
        a.spawn();
        sleep(CRASH_LOOP).await;
    }
    println!("taking over took {:.1} s", started.elapsed().as_secs_f64());
    b.wait_connected(TIMEOUT).await;
    let mut ledger = accept(&b, ids("b", 5)).await;
    settle(&b, &scene.subscriber, &mut ledger, 5).await;
    assert_eq!(scene.execute("SELECT terms FROM liveobject_0.owner"), "2");
    a.kill9().await;
    stop(&mut b).await;
}

#[tokio::test]
async fn a_node_alone_is_active_at_once_in_a_crash_loop_too() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    for _ in 0..3 {
        a.kill9().await;
        a.start().await;
        assert_eq!(role(&a).await, "ready");
    }
    stop(&mut a).await;
}

#[tokio::test]
async fn a_node_that_was_suspended_publishes_nothing_when_it_wakes_up() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = scene.standby().await;
    let mut ledger = accept(&a, ids("a", 20)).await;
    a.wait_outbox_empty(TIMEOUT).await;
    // Their delivery is noted in the database.
    sleep(NOTED).await;
    a.freeze();
    wait_until_active(&b).await;
    for id in ids("b", 20) {
        submit(&b, &mut ledger, &id).await;
    }
    a.thaw();
    wait_until("the first node is a standby", TIMEOUT, async || reports(&a, "standby").await).await;
    settle(&b, &scene.subscriber, &mut ledger, 40).await;
    assert_kept(&ledger);
    assert_eq!((ledger.duplicates(), scene.statuses().last().map(String::as_str)), (0, Some("online")));
    assert_eq!(role(&b).await, "ready");
    let is_misleading = |line: &&Value| {
        line["level"] == "WARN"
            && line["message"].as_str().is_some_and(|text| text.starts_with("disconnected"))
    };
    let lines = a.log_lines();
    assert_eq!(lines.iter().find(is_misleading), None, "the broker was not restarted");

    b.kill9().await;
    wait_until_active(&a).await;
    submit(&a, &mut ledger, "again").await;
    settle(&a, &scene.subscriber, &mut ledger, 41).await;
    assert_kept(&ledger);
    stop(&mut a).await;
}

#[tokio::test]
async fn a_node_without_its_database_stays_connected_and_resumes() {
    let (_server, port) = server();
    let to_database = Proxy::start(port).await;
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut node = service().env(URL, url(to_database.port())).start().await;
    node.connect_to(broker.port()).await;
    let mut ledger = accept(&node, ids("before", 5)).await;
    settle(&node, &subscriber, &mut ledger, 5).await;
    let statuses = subscriber.on(STATUS).len();

    to_database.refuse().await;
    to_database.cut().await;
    wait_until("the node is suspended", TIMEOUT, async || logged(&node, "suspended") == 1).await;
    let _ = node.post_event(&event("refused")).await.expect(503);
    sleep(PAUSE).await;
    to_database.accept().await;
    wait_until("the node resumes", TIMEOUT, async || logged(&node, "resumed") == 1).await;
    submit(&node, &mut ledger, "after").await;
    settle(&node, &subscriber, &mut ledger, 6).await;
    assert_kept(&ledger);
    assert_eq!(subscriber.on(STATUS).len(), statuses, "{:?}", subscriber.on(STATUS));

    to_database.half_open();
    wait_until("the node is suspended again", TIMEOUT, async || logged(&node, "suspended") == 2).await;
    to_database.flow();
    submit(&node, &mut ledger, "last").await;
    settle(&node, &subscriber, &mut ledger, 7).await;
    assert_eq!(logged(&node, "this node became active"), 1);
    assert_eq!(subscriber.on(STATUS).len(), statuses, "{:?}", subscriber.on(STATUS));
    stop(&mut node).await;
}

#[tokio::test]
async fn a_node_that_cannot_open_the_event_log_gives_it_to_another_one() {
    let (_server, port) = server();
    let to_database = Proxy::start(port).await;
    let (broker, subscriber) = broker_and_subscriber().await;
    let mut first = service().env(URL, url(port)).start().await;
    first.connect_to(broker.port()).await;
    let mut ledger = accept(&first, ids("first", 5)).await;
    settle(&first, &subscriber, &mut ledger, 5).await;

    let mut unable = service().env(URL, url(to_database.port())).start().await;
    let mut spare = service().env(URL, url(port)).start().await;
    // The connection over which it claims the log remains.
    to_database.refuse().await;
    spare.freeze();
    stop(&mut first).await;
    wait_until("the log is claimed", TIMEOUT, async || logged(&unable, "this node became active") == 1).await;
    spare.thaw();
    wait_until("another node is active", LONG_TIMEOUT, async || reports(&spare, "ready").await).await;
    assert_eq!(logged(&unable, "the service does not start; another node takes over"), 1);
    submit(&spare, &mut ledger, "spare").await;
    settle(&spare, &subscriber, &mut ledger, 6).await;
    assert_kept(&ledger);

    to_database.accept().await;
    stop(&mut spare).await;
    wait_until_active(&unable).await;
    submit(&unable, &mut ledger, "unable").await;
    settle(&unable, &subscriber, &mut ledger, 7).await;
    assert_kept(&ledger);
    stop(&mut unable).await;
}

#[tokio::test]
async fn the_active_node_warns_about_a_clock_that_differs_until_it_is_right() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let clock = FakeClock::new();
    let builder = service().env(URL, &scene.url).env(NODE_NAME, "hasty");
    let builder =
        clock.environment().into_iter().fold(builder, |builder, (name, value)| builder.env(name, value));
    clock.set(60);
    let mut b = builder.start().await;
    if clock.environment().is_empty() {
        return;
    }
    wait_until("the status warns", TIMEOUT, async || !warnings(&a, "node_clock_differs").await.is_empty())
        .await;
    let found = warnings(&a, "node_clock_differs").await;
    assert!(
        found.len() == 1 && found[0].starts_with("Node hasty has a clock that is 60 s ahead of"),
        "{found:?}"
    );
    clock.set(0);
    wait_until("the warning is gone", TIMEOUT, async || warnings(&a, "node_clock_differs").await.is_empty())
        .await;
    stop(&mut b).await;
    stop(&mut a).await;
}

#[tokio::test]
async fn a_node_with_a_copied_data_directory_ends_whatever_the_other_one_does() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut standby = scene.standby().await;
    for original in [&a, &standby] {
        let mut copy = scene.node();
        let mut copying = Command::new("cp");
        let copied = copying.arg("-a").arg(original.data_dir()).arg(copy.data_dir()).status().unwrap();
        assert!(copied.success());
        copy.spawn();
        assert_eq!(copy.wait().await, 78, "{}", copy.log_text());
        assert!(copy.log_text().contains("remove this file on one of them"), "{}", copy.log_text());
    }
    assert_eq!((role(&a).await.as_str(), role(&standby).await.as_str()), ("ready", "standby"));
    assert_eq!(scene.execute("SELECT terms FROM liveobject_0.owner"), "1");
    let mut ledger = accept(&a, ids("a", 5)).await;
    settle(&a, &scene.subscriber, &mut ledger, 5).await;
    stop(&mut standby).await;
    stop(&mut a).await;
}

#[tokio::test]
async fn the_active_node_warns_about_a_standby_that_is_away_until_it_is_back() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = service().env(URL, &scene.url).env(NODE_NAME, "spare").start().await;
    assert_eq!(warnings(&a, "node_away").await, [""; 0]);
    b.kill9().await;
    wait_until("the status warns", LONG_TIMEOUT, async || !warnings(&a, "node_away").await.is_empty()).await;
    let found = warnings(&a, "node_away").await;
    assert!(
        found[0].starts_with("Node spare has not reported") && found[0].contains("no other standby is left")
    );
    assert_eq!(metric(&a, "liveobject_nodes_away").await, "1");
    assert_eq!(logged(&a, "there is a warning about a node"), 1);
    let checked = a.run(&["check"]).await;
    assert!(checked.stdout.contains("node_away: Node spare has not reported"), "{checked:?}");
    b.start().await;
    wait_until("the warning is gone", TIMEOUT, async || warnings(&a, "node_away").await.is_empty()).await;
    assert_eq!(logged(&a, "a warning about a node has ended"), 1);
    stop(&mut b).await;
    stop(&mut a).await;
}

#[tokio::test]
async fn the_active_node_warns_about_a_node_with_another_identity_until_it_has_the_right_one() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = service().env(URL, &scene.url).env(NODE_NAME, "stranger").build();
    fs::create_dir(b.data_dir()).unwrap();
    let file = b.data_dir().join("identity.age");
    fs::write(&file, IDENTITY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    b.start().await;
    let kinds = ["node_keys_differ", "node_unable"];
    wait_until("the status warns", TIMEOUT, async || !warnings(&a, kinds[0]).await.is_empty()).await;
    assert!(warnings(&a, kinds[0]).await[0].contains("copy identity.age there"));
    assert_eq!(metric(&a, "liveobject_nodes_unable").await, "1");
    let settings = json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": scene.broker.port(),
        "username": "u", "password": "p",
    });
    let _ = a.put_config(&settings).await.expect(200);
    wait_until("it is checked again", LONG_TIMEOUT, async || !warnings(&a, kinds[1]).await.is_empty()).await;
    let found = warnings(&a, kinds[1]).await;
    assert!(
        found.len() == 1 && found[0].starts_with("Node stranger cannot decrypt the settings"),
        "{found:?}"
    );
    assert_eq!(warnings(&a, kinds[0]).await, [""; 0], "the same remedy is enough");
    stop(&mut a).await;
    sleep(RESTART).await;
    assert_eq!(role(&b).await, "standby", "the one that can connect is being restarted");
    a.start().await;
    wait_until_active(&a).await;
    stop(&mut b).await;
    wait_until("a node that has ended is not reported", TIMEOUT, async || {
        warnings(&a, kinds[1]).await.is_empty()
    })
    .await;
    fs::copy(a.data_dir().join("identity.age"), &file).unwrap();
    b.start().await;
    wait_until("both nodes are alive", TIMEOUT, async || metric(&a, "liveobject_nodes_alive").await == "2")
        .await;
    for kind in kinds {
        assert_eq!(warnings(&a, kind).await, [""; 0]);
    }
    assert_eq!(metric(&a, "liveobject_nodes_unable").await, "0");
    stop(&mut b).await;
    stop(&mut a).await;
}

#[tokio::test]
async fn the_commands_of_a_standby_reach_the_active_node() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = scene.standby().await;
    let checked = b.run(&["check"]).await;
    assert!(checked.code == 0 && checked.stdout.contains("Running service: connected"), "{checked:?}");
    let links = b.run(&["sign-in"]).await;
    assert!(links.code == 0 && links.stdout.contains("/#code="), "{links:?}");
    a.kill9().await;
    let refused = b.run(&["sign-in"]).await;
    assert!(
        refused.code == 1 && refused.stderr.contains("another node takes over if it has ended"),
        "{refused:?}"
    );
    wait_until_active(&b).await;
    let checked = a.run(&["check"]).await;
    let names_b = checked.stdout.contains("The active node is ")
        && checked.stdout.contains(&format!(":{}).", b.port()));
    assert!(checked.code == 0 && names_b, "{checked:?}");
    stop(&mut b).await;
    let checked = b.run(&["check"]).await;
    assert!(checked.code == 0 && checked.stdout.contains("No node is active"), "{checked:?}");
}
