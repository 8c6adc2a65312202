//! Several services that share a database on a server. One of them is active, the others wait for it to end.

use std::{process::Command, time::Duration};

use liveobject_test_support::{
    Ledger, Message, Mosquitto, Postgres, PostgresOptions, Proxy, Service, Subscriber, free_port, wait_until,
};
use tokio::time::{Instant, sleep};

use crate::helpers::{
    TIMEOUT, accept, assert_kept, broker_and_subscriber, event, ids, service, settle, stop,
};

const URL: &str = "LIVEOBJECT__DATABASE__URL";
const STATUS: &str = "liveobject/status";

/// Longer than another node waits before it takes over.
const PAUSE: Duration = Duration::from_secs(8);

/// How often a node in a crash loop starts. It beats in this time.
const CRASH_LOOP: Duration = Duration::from_millis(1500);

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

/// Returns what the health check of a node reports.
async fn role(node: &Service) -> String {
    let ready = node.without_token().get("/health/ready").await.expect(200);
    ready["status"].as_str().unwrap_or_default().to_owned()
}

async fn wait_until_active(node: &Service) {
    let started = Instant::now();
    wait_until("the other node is active", TIMEOUT, async || {
        let ready = node.without_token().try_get("/health/ready").await;
        ready.is_ok_and(|ready| ready.body["status"] == "ready")
    })
    .await;
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

#[tokio::test]
async fn another_node_takes_over_when_the_active_one_is_killed() {
    let scene = Scene::new().await;
    let mut a = scene.active().await;
    let mut b = scene.standby().await;
    let mut ledger = accept(&a, ids("a", 50)).await;
    a.kill9().await;
    wait_until_active(&b).await;
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
    wait_until("the first node is a standby", TIMEOUT, async || {
        let ready = a.without_token().try_get("/health/ready").await;
        ready.is_ok_and(|ready| ready.body["status"] == "standby")
    })
    .await;
    settle(&b, &scene.subscriber, &mut ledger, 40).await;
    assert_kept(&ledger);
    assert_eq!((ledger.duplicates(), scene.statuses().last().map(String::as_str)), (0, Some("online")));
    assert_eq!(role(&b).await, "ready");

    b.kill9().await;
    wait_until_active(&a).await;
    submit(&a, &mut ledger, "again").await;
    settle(&a, &scene.subscriber, &mut ledger, 41).await;
    assert_kept(&ledger);
    stop(&mut a).await;
}

#[tokio::test]
async fn a_node_without_its_database_stays_connected_and_resumes() {
    let port = free_port();
    let access = Some("host all all 127.0.0.1/32 trust".to_owned());
    let _server =
        Postgres::start(&PostgresOptions { port: Some(port), access, ..PostgresOptions::default() });
    let to_database = Proxy::start(port).await;
    let (broker, subscriber) = broker_and_subscriber().await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", to_database.port());
    let mut node = service().env(URL, url).start().await;
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
