//! Several nodes on one server: what the owner writes, and who becomes the owner.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::future::join;
use liveobject_test_support::Postgres;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        camera::{ImageType, Thumbnail},
        clock::LogTime,
        delivery::{SettledRange, Settlement},
        event::{DetectionEvent, EventInput},
        ids::{CameraId, Seq},
        lease::{Claim, ClaimOutcome, Lease, NodeId, Owner, TRUST},
        node::Readable,
    },
    store::{Batch, CommitError, Committed, Location as AnyLocation, StoreError, ownership::now},
    testing::commit_context,
};

/// How long to observe that something waits. It must be less than the timeouts of a lock and of a statement.
const WAITS: Duration = Duration::from_millis(400);
/// How often each node owns the log in the test of random actions.
const TERMS: u32 = 4;

/// A database.
struct Database {
    name: String,
    location: Location,
}

impl Database {
    fn new() -> Self {
        let server = Postgres::shared();
        let name = server.create_database();
        let AnyLocation::Server(location) = AnyLocation::parse(&server.url(&name)).unwrap() else {
            panic!("it is on a server")
        };
        Self { name, location: *location }
    }

    async fn node(&self, number: u128) -> NodeConnection {
        self.node_in(Some(place(number)), number).await
    }

    /// Connects a node whose data directory is there.
    async fn node_in(&self, place: Option<Uuid>, number: u128) -> NodeConnection {
        NodeConnection::open(&self.location, id(number), place, about(number)).await.unwrap()
    }

    /// Executes SQL as an administrator.
    fn execute(&self, sql: &str) -> String {
        Postgres::shared().execute(&self.name, sql)
    }

    /// Executes SQL as an administrator, in a session of its own, until it has ended.
    fn execute_in_thread(&self, sql: &str) -> std::thread::JoinHandle<String> {
        let (name, sql) = (self.name.clone(), sql.to_owned());
        std::thread::spawn(move || Postgres::shared().execute(&name, &sql))
    }

    fn count(&self, table: &str) -> String {
        self.execute(&format!("SELECT count(*) FROM liveobject_0.{table}"))
    }

    async fn open(&self, (ownership, term): &(Ownership, Term)) -> Store {
        Store::open_owned(&self.location, ownership.clone(), *term).await.unwrap()
    }
}

fn about(number: u128) -> NodeDescription {
    NodeDescription {
        name: format!("node {number}"),
        url: format!("http://{number}"),
        version: "1".to_owned(),
        reads: Readable::ALL,
    }
}

fn place(number: u128) -> Uuid {
    Uuid::from_u128(1000 + number)
}

fn id(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

/// Returns a claim of the log from its owner as it was seen.
fn claim_from(seen: Owner) -> Claim {
    Claim { seen: seen.term, beat: seen.node.map(|_| seen.beat), term: new_term() }
}

/// Makes a node the owner, and ends the term of the previous one.
async fn take(node: &mut NodeConnection) -> (Ownership, Term) {
    let seen = Owner { node: None, ..node.beat(None).await.unwrap().seen.owner };
    let claim = claim_from(seen);
    assert_eq!(node.claim(&claim).await, ClaimOutcome::Granted);
    (owner_since_now(claim.term).0, claim.term)
}

/// Returns the ownership of a node whose claim has just been granted, and the current time.
fn owner_since_now(term: Term) -> (Ownership, std::time::Instant) {
    let ownership = Ownership::new(Lease::new(NodeId(Uuid::from_u128(99)), true));
    let now = now();
    ownership.update(|lease| {
        assert_eq!(lease.beat_answered(now, now, Owner { node: None, term: new_term(), beat: 0 }), None);
        let claim = lease.wanted_claim(now, term).unwrap();
        lease.claim_answered(claim, ClaimOutcome::Granted, now, now);
    });
    (ownership, now)
}

fn event(number: i64) -> DetectionEvent {
    let input = EventInput {
        event_id: Some(format!("e{number}")),
        camera_id: "c".into(),
        description: "d".into(),
        ..EventInput::default()
    };
    input.validate().unwrap()
}

/// Commits the event that follows `last`. Only the first one of a camera needs a query.
async fn commit(store: &Store, last: i64) -> Result<Committed, CommitError> {
    let batch = Batch { events: vec![event(last + 1)], ..Batch::default() };
    store.commit(&batch, Some(Seq(last)), &commit_context()).await
}

fn insert(up_to: i64) -> String {
    format!("INSERT INTO deliveries (up_to_seq, acked_at) VALUES ({up_to}, 1)")
}

#[tokio::test]
async fn nothing_is_written_with_a_term_that_has_ended() {
    let database = Database::new();
    let (mut first, mut second) = (database.node(1).await, database.node(2).await);
    let owned = take(&mut first).await;
    let store = database.open(&owned).await;
    let picture = Thumbnail { seq: Seq(1), happened: LogTime(1), format: ImageType::Jpeg };
    let pictures = BTreeMap::from([(CameraId::parse("c").unwrap(), picture)]);
    let unsynced = async || store.write_unsynced(vec![statement(&insert(7))]).await;
    for last in 0..2 {
        commit(&store, last).await.unwrap();
    }
    store.execute(&insert(1)).await.unwrap();
    assert_eq!(owned.0.term(), Some(owned.1));

    let other = database.open(&take(&mut second).await).await;
    let before = database.execute(ROWS);
    // In one statement, and with queries.
    assert!(matches!(commit(&store, 2).await, Err(CommitError { error: StoreError::NotOwner, .. })));
    assert!(matches!(commit(&store, 2).await, Err(CommitError { error: StoreError::NotOwner, .. })));
    assert_eq!((owned.0.term(), store.gate().is_open(), other.gate().is_open()), (None, false, true));
    let fenced = |result: Result<(), StoreError>| matches!(result, Err(StoreError::NotOwner));
    assert!(fenced(store.confirm().await));
    assert!(fenced(store.execute(&insert(5)).await));
    assert!(fenced(store.execute("DELETE FROM deliveries").await));
    assert!(fenced(unsynced().await.map_err(StoreError::from)));
    assert!(fenced(store.note_pictures(&pictures).await.map(drop)));
    assert!(fenced(store.write.execute_raw(statement(&insert(6))).await.map(drop).map_err(StoreError::from)));
    let returning = statement(&format!("{} RETURNING up_to_seq", insert(8)));
    assert!(fenced(store.write.query_all_raw(returning).await.map(drop).map_err(StoreError::from)));
    assert_eq!(database.execute(ROWS), before);

    // Queries, and the new owner, are not affected.
    assert_eq!(crate::store::events::last_seq(&store.write).await.unwrap(), Seq(2));
    assert_eq!(commit(&other, 2).await.unwrap().last_seq, Seq(3));
    other.confirm().await.unwrap();
    store.close().await;
    let reopened = Store::open_owned(&database.location, owned.0, owned.1).await.unwrap_err();
    assert!(matches!(reopened, OpenError::Server { fault: ServerFault::NotOwner, .. }), "{reopened:?}");
    other.close().await;
}

/// The rows of the tables that the test above writes to.
const ROWS: &str = "SELECT (SELECT count(*) FROM liveobject_0.events), \
    (SELECT string_agg(deliveries::text, ',') FROM liveobject_0.deliveries), \
    (SELECT string_agg(cameras::text, ',') FROM liveobject_0.cameras), \
    (SELECT string_agg(camera_days::text, ',') FROM liveobject_0.camera_days)";

fn statement(sql: &str) -> sea_orm::Statement {
    sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql)
}

#[tokio::test]
async fn a_claim_waits_for_a_transaction_under_way() {
    let database = Database::new();
    let (mut first, mut second) = (database.node(1).await, database.node(2).await);
    let store = database.open(&take(&mut first).await).await;
    let transaction = store.begin().await.unwrap();
    transaction.execute_unprepared(&insert(7)).await.unwrap();
    let seen = second.beat(None).await.unwrap().seen.owner;
    let (claimed, committed) = join(second.claim(&claim_from(seen)), async {
        sleep(WAITS).await;
        assert_eq!(database.execute("SELECT terms FROM liveobject_0.owner"), "1", "the claim waits");
        transaction.commit().await
    })
    .await;
    committed.unwrap();
    assert_eq!(claimed, ClaimOutcome::Granted);
    assert_eq!(database.count("deliveries"), "1");
    assert!(matches!(store.execute(&insert(8)).await, Err(StoreError::NotOwner)));
    store.close().await;
}

#[tokio::test]
async fn a_claim_waits_for_a_commit_under_way_and_sees_its_events() {
    let database = Database::new();
    let (mut first, mut second) = (database.node(1).await, database.node(2).await);
    let store = database.open(&take(&mut first).await).await;
    commit(&store, 0).await.unwrap();
    // An uncommitted row with the same key stops the commit in the middle of its statement.
    let blocker = database.execute_in_thread(
        "BEGIN; INSERT INTO liveobject_0.events (seq, event_id, camera_id, occurred_at, received_at, payload) \
         VALUES (2, 'x', 'x', 1, 1, ''); SELECT pg_sleep(1); ROLLBACK",
    );
    wait_for(
        &database,
        "SELECT count(*) FROM pg_locks WHERE relation = 'liveobject_0.events'::regclass \
        AND mode = 'RowExclusiveLock'",
        "1",
    )
    .await;
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
    let (committed, (claimed, events)) = join(commit(&store, 1), async {
        wait_for(&database, waits, "1").await;
        let seen = second.beat(None).await.unwrap().seen.owner;
        let claimed = second.claim(&claim_from(seen)).await;
        (claimed, database.count("events"))
    })
    .await;
    assert_eq!(claimed, ClaimOutcome::Granted);
    assert_eq!((committed.unwrap().last_seq, events.as_str()), (Seq(2), "2"));
    blocker.join().unwrap();
    store.close().await;
}

/// Waits until a query of an administrator returns this.
async fn wait_for(database: &Database, sql: &str, expected: &str) {
    let mut attempts = 500;
    while database.execute(sql) != expected {
        attempts -= 1;
        assert!(attempts > 0, "{sql} never returned {expected}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_claim_is_refused_if_the_owner_has_beaten_or_another_node_was_faster() {
    let database = Database::new();
    let (mut first, mut second, mut third) =
        (database.node(1).await, database.node(2).await, database.node(3).await);
    let nobody = first.beat(None).await.unwrap();
    assert_eq!((nobody.seen.owner.node, nobody.owner_url, nobody.owner_name), (None, None, None));
    assert!(nobody.clock_ahead.abs() < chrono::TimeDelta::seconds(2), "{}", nobody.clock_ahead);
    let first_claim = claim_from(nobody.seen.owner);
    assert_eq!(first.claim(&first_claim).await, ClaimOutcome::Granted);
    assert_eq!(second.claim(&claim_from(nobody.seen.owner)).await, ClaimOutcome::Refused);

    let seen = second.beat(None).await.unwrap();
    assert_eq!((seen.seen.owner.node, seen.seen.owner.term), (Some(id(1)), first_claim.term));
    assert_eq!(seen.owner_url.as_deref(), Some("http://1"));
    assert_eq!(seen.owner_name.as_deref(), Some("node 1"));
    let seen = seen.seen.owner;
    let own = first.beat(Some(first_claim.term)).await.unwrap().seen.owner;
    assert_eq!(own, Owner { beat: seen.beat + 1, ..seen }, "its own beat is included");
    assert_eq!(second.claim(&claim_from(seen)).await, ClaimOutcome::Refused, "it has beaten");

    let seen = second.beat(None).await.unwrap().seen.owner;
    let claims = (claim_from(seen), claim_from(seen));
    let outcomes = join(second.claim(&claims.0), third.claim(&claims.1)).await;
    let winner = match outcomes {
        (ClaimOutcome::Granted, ClaimOutcome::Refused) => (Some(id(2)), claims.0.term),
        (ClaimOutcome::Refused, ClaimOutcome::Granted) => (Some(id(3)), claims.1.term),
        other => panic!("{other:?}"),
    };
    let owner = first.beat(None).await.unwrap().seen.owner;
    assert_eq!((owner.node, owner.term), winner);
    // Its beat was seen long ago, in another term.
    assert_eq!(third.claim(&claim_from(seen)).await, ClaimOutcome::Refused);
    assert_eq!(database.execute("SELECT terms FROM liveobject_0.owner"), "2");
}

#[tokio::test]
async fn a_beat_that_shows_the_owner_prevents_a_claim_that_does_not_know_the_beat() {
    let database = Database::new();
    let (mut first, mut second) = (database.node(1).await, database.node(2).await);
    let (mut granted, mut refused, mut pause) = (0, 0, Duration::from_micros(300));
    while granted < 10 || refused < 10 {
        let (_, term) = take(&mut first).await;
        let claim = claim_from(second.beat(None).await.unwrap().seen.owner);
        let (beat, outcome) = join(first.beat(Some(term)), async {
            sleep(pause).await;
            second.claim(&claim).await
        })
        .await;
        let is_owner = beat.unwrap().seen.owner.term == term;
        assert_eq!(outcome == ClaimOutcome::Refused, is_owner, "after {pause:?}");
        // So that sometimes one of them is first, and sometimes the other one.
        match outcome {
            ClaimOutcome::Granted => (granted, pause) = (granted + 1, pause * 5 / 4),
            ClaimOutcome::Refused => (refused, pause) = (refused + 1, pause * 4 / 5),
            ClaimOutcome::Unknown => panic!("the server responds"),
        }
    }
}

#[tokio::test]
async fn a_log_that_was_released_can_be_claimed_at_once() {
    let database = Database::new();
    let (mut first, mut second) = (database.node(1).await, database.node(2).await);
    let (_, term) = take(&mut first).await;
    assert!(!second.release(new_term()).await.unwrap(), "it is not its term");
    assert!(first.release(term).await.unwrap());
    let seen = second.beat(None).await.unwrap().seen.owner;
    assert_eq!((seen.node, seen.term), (None, term));
    assert_eq!(second.claim(&claim_from(seen)).await, ClaimOutcome::Granted);
    assert!(!first.release(term).await.unwrap(), "the term has ended");
    assert_eq!(first.beat(None).await.unwrap().seen.owner.node, Some(id(2)));
}

#[tokio::test]
async fn a_node_that_starts_again_goes_on_with_its_row() {
    let database = Database::new();
    let mut node = database.node(1).await;
    let row = "SELECT id, boot FROM liveobject.node";
    assert_eq!(database.execute(row), "", "it has not beaten");
    node.beat(None).await.unwrap();
    let before = database.execute(row);
    node.close().await;
    let mut again = database.node(1).await;
    assert_eq!(database.execute(row), before, "it has not beaten again");
    again.beat(None).await.unwrap();
    let after = database.execute(row);
    assert!(after.starts_with("00000000-0000-0000-0000-000000000001|") && before != after, "{after}");
    again.describe(NodeDescription { reads: Readable { settings: false, keys: true }, ..about(8) });
    again.beat(None).await.unwrap();
    let shown = "SELECT name, url, able, beat FROM liveobject.node";
    assert_eq!(database.execute(shown), "node 8|http://8|f|3", "the counter never goes back");
    again.set_reads(Readable { settings: true, keys: false }, true);
    again.beat(None).await.unwrap();
    // The answer contains the rows as they were before.
    let seen = again.beat(None).await.unwrap().nodes;
    assert_eq!(seen[0].reads, Readable { settings: true, keys: false });
    again.set_reads(Readable { settings: false, keys: true }, false);
    again.beat(None).await.unwrap();
    // The answer contains the rows as they were before.
    let seen = again.beat(None).await.unwrap().nodes;
    assert_eq!(seen[0].reads, Readable::ALL, "no other node can decrypt the settings");
    assert_eq!(seen[0].clock_ahead_seconds, 0, "it is the same machine");
    database.execute("DELETE FROM liveobject.node");
    again.beat(None).await.unwrap();
    assert_eq!(database.execute(shown), "node 8|http://8|t|1");
}

#[tokio::test]
async fn only_the_beats_of_the_run_that_owns_the_log_keep_others_from_claiming_it() {
    let database = Database::new();
    let (mut first, mut waiting) = (database.node(1).await, database.node(2).await);
    let (_, term) = take(&mut first).await;
    let before = waiting.beat(None).await.unwrap().seen;
    let mut again = NodeConnection::open(&database.location, id(1), Some(place(1)), about(7)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(again.beat(None).await.unwrap().seen.owner, before.owner);
        assert_eq!(again.beat(Some(new_term())).await.unwrap().seen.owner, before.owner);
    }
    let now = waiting.beat(None).await.unwrap();
    assert_eq!((now.seen.owner, now.owner_name.as_deref()), (before.owner, Some("node 1")));
    assert_eq!(first.beat(Some(term)).await.unwrap().seen.owner.beat, before.owner.beat + 1);
    assert_eq!(waiting.beat(None).await.unwrap().seen.owner.beat, before.owner.beat + 1);
    assert_eq!(waiting.claim(&claim_from(before.owner)).await, ClaimOutcome::Refused);
    let seen = waiting.beat(None).await.unwrap().seen.owner;
    again.beat(None).await.unwrap();
    assert_eq!(waiting.claim(&claim_from(seen)).await, ClaimOutcome::Granted);
}

#[tokio::test]
async fn a_run_knows_that_the_owner_has_ended_in_its_directory_or_was_silent_before() {
    let database = Database::new();
    let mut first = database.node(1).await;
    let seen = first.beat(None).await.unwrap().seen;
    assert_eq!((seen.term_age, seen.has_others), (Duration::ZERO, false));
    let (_, term) = take(&mut first).await;
    let seen = database.node(1).await.beat(None).await.unwrap().seen;
    assert!(seen.owner_has_ended && seen.term_age < Duration::from_mins(1) && !seen.has_others, "{seen:?}");
    for place in [None, Some(place(2))] {
        let mut copy = database.node_in(place, 1).await;
        assert!(!copy.beat(None).await.unwrap().seen.owner_has_ended);
        first.beat(Some(term)).await.unwrap();
        let age = "UPDATE liveobject.node SET seen_at = seen_at - interval '6 seconds'";
        database.execute(age);
        assert!(!copy.beat(None).await.unwrap().seen.owner_has_ended, "it has beaten before");
        database.execute(age);
        let mut later = database.node_in(place, 1).await;
        assert!(later.beat(None).await.unwrap().seen.owner_has_ended);
    }
    let mut other = database.node(2).await;
    assert!(other.beat(None).await.unwrap().seen.has_others);
    assert_eq!(first.beat(Some(term)).await.unwrap().seen.term_age, Duration::ZERO);
    first.service_started(term).await.unwrap();
    database.execute("UPDATE liveobject_0.owner SET since = since - interval '2 minutes'");
    let seen = first.beat(Some(term)).await.unwrap().seen;
    assert!(seen.has_others && seen.term_age > Duration::from_mins(2), "{seen:?}");
    database.execute("UPDATE liveobject.node SET able = false");
    assert!(!first.beat(Some(term)).await.unwrap().seen.has_others);
}

#[tokio::test]
async fn the_run_that_has_started_later_sees_that_the_earlier_one_beats() {
    let database = Database::new();
    let (mut first, mut second) = (database.node(1).await, database.node(1).await);
    let twin = async |node: &mut NodeConnection| node.beat(None).await.unwrap().seen.has_older_twin;
    assert!(!twin(&mut first).await);
    assert!(!twin(&mut second).await, "it is the first beat; an earlier run may have ended");
    for _ in 0..2 {
        assert!(!twin(&mut first).await, "it is the older one");
        assert!(twin(&mut second).await);
        assert!(!twin(&mut second).await, "the other one has not beaten");
    }
}

#[tokio::test]
async fn a_node_that_has_not_beaten_for_a_week_is_forgotten() {
    let database = Database::new();
    let [mut first, mut second, mut third] =
        [database.node(1).await, database.node(2).await, database.node(3).await];
    for node in [&mut third, &mut second, &mut first] {
        node.beat(None).await.unwrap();
    }
    database
        .execute("UPDATE liveobject.node SET seen_at = seen_at - interval '8 days' WHERE name <> 'node 2'");
    first.forget_absent().await.unwrap();
    assert_eq!(database.execute("SELECT name FROM liveobject.node ORDER BY id"), "node 1\nnode 2");
    third.beat(None).await.unwrap();
    assert_eq!(database.execute("SELECT count(*) FROM liveobject.node"), "3");
}

#[tokio::test]
async fn the_nodes_that_have_beaten_last_are_listed() {
    let database = Database::new();
    let mut oldest = database.node(1).await;
    oldest.beat(None).await.unwrap();
    database.execute(
        "INSERT INTO liveobject.node (id, boot, name, url, version, able, beat, started_at, seen_at) \
         SELECT gen_random_uuid(), gen_random_uuid(), 'gone', '', '1', true, 1, now() + interval '1 hour', \
           now() - interval '1 day' FROM generate_series(1, 40)",
    );
    let nodes = oldest.beat(None).await.unwrap().nodes;
    assert_eq!((nodes.len(), nodes.iter().filter(|node| node.id == id(1)).count()), (32, 1));
}

#[tokio::test]
async fn a_connection_that_was_lost_is_replaced() {
    let database = Database::new();
    let mut node = database.node(1).await;
    let end_all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(database.execute(end_all), "1");
    assert!(matches!(node.beat(None).await, Err(StoreError::Away(_))));
    let seen = node.beat(None).await.unwrap().seen.owner;
    database.execute(end_all);
    assert_eq!(node.claim(&claim_from(seen)).await, ClaimOutcome::Unknown);
    let seen = node.beat(None).await.unwrap().seen.owner;
    assert_eq!(seen.node, None, "it was not granted");
    assert_eq!(node.claim(&claim_from(seen)).await, ClaimOutcome::Granted);
    database.execute(end_all);
    assert!(node.release(new_term()).await.is_err());
    assert!(!node.release(new_term()).await.unwrap());
}

#[tokio::test]
async fn a_writer_that_has_lost_its_connection_waits_for_the_end_of_the_session() {
    let database = Database::new();
    let mut node = database.node(1).await;
    let owned = take(&mut node).await;
    let store = database.open(&owned).await;
    let term = owned.1.0;
    let lock = format!("pg_advisory_lock(hashtextextended('liveobject-term:{term}', 0))");
    let holder = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let first = database.execute(holder);
    assert!(!first.is_empty(), "the session has a lock of its own");
    // This session is in place of the one that was lost, and that the server has not ended yet.
    let lost = format!("SELECT pg_terminate_backend({first}); SELECT {lock}; SELECT pg_sleep(60)");
    let lost = database.execute_in_thread(&lost);
    while [first.as_str(), ""].contains(&database.execute(holder).as_str()) {
        sleep(Duration::from_millis(20)).await;
    }
    let error = store.execute(&insert(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Away(_) | StoreError::Locked(_)), "{error:?}");
    let error = store.execute(&insert(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    // The log cannot be opened a second time in this term, either. It is tried again.
    let opened = Store::open_owned(&database.location, owned.0.clone(), owned.1).await.unwrap_err();
    assert!(matches!(&opened, OpenError::Server { fault, .. } if fault.may_pass()), "{opened:?}");
    // Beats and the claim of another node do not wait for it.
    assert_eq!(node.beat(None).await.unwrap().seen.owner.term, owned.1);
    database.execute(&format!("SELECT pg_terminate_backend(pid) FROM ({holder}) holder"));
    assert!(lost.join().is_err(), "it was ended");
    store.execute(&insert(1)).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn the_trust_is_renewed_by_what_is_durable_in_the_current_term() {
    type Write = fn(Store) -> futures_util::future::BoxFuture<'static, ()>;
    let database = Database::new();
    let mut node = database.node(1).await;
    let synced: [Write; 4] = [
        |store| Box::pin(async move { commit(&store, 0).await.map(drop).unwrap() }),
        |store| Box::pin(async move { store.confirm().await.unwrap() }),
        |store| Box::pin(async move { store.execute(&insert(1)).await.unwrap() }),
        |store| Box::pin(async move { store.note_clock(store.clock().now()).await.unwrap() }),
    ];
    let others: [Write; 4] = [
        |store| Box::pin(async move { store.write_unsynced(vec![statement(&insert(2))]).await.unwrap() }),
        |store| Box::pin(async move { commit_unsynced(&store).await }),
        |store| Box::pin(async move { store.begin().await.unwrap().rollback().await.unwrap() }),
        |store| Box::pin(async move { store.list_replays().await.map(drop).unwrap() }),
    ];
    let all = synced.map(|write| (write, true)).into_iter().chain(others.map(|write| (write, false)));
    for (number, (write, is_renewed)) in all.enumerate() {
        let (ownership, term) = take(&mut node).await;
        let store = database.open(&(ownership.clone(), term)).await;
        let (ownership, began) = owner_since_now(term);
        let fence = Fence { term, ownership: Some(ownership.clone()) };
        store.close().await;
        let store = connect(options(&database.location), Access::Service, Some(fence)).await.unwrap();
        let is_trusted_later = || ownership.update(|lease| lease.is_trusted(began + TRUST));
        assert!(!is_trusted_later());
        write(store.clone()).await;
        assert_eq!(is_trusted_later(), is_renewed, "{number}");
        store.close().await;
    }
}

/// Commits nothing but a checkpoint.
async fn commit_unsynced(store: &Store) {
    let settlement = Settlement::unpublished(store.clock().now());
    let ranges = vec![SettledRange { up_to: Seq(1), settlement }];
    let batch = Batch { ranges, skips_sync: true, ..Batch::default() };
    store.commit(&batch, Some(Seq(1)), &commit_context()).await.unwrap();
}

/// Makes the row look as if another machine had written it.
const ELSEWHERE: &str = "UPDATE liveobject_0.log_clock SET boot_id = 'other', uptime_offset = 5";

#[tokio::test]
async fn the_ages_of_events_stay_known_when_another_machine_takes_over() {
    let database = Database::new();
    let mut node = database.node(1).await;
    let store = database.open(&take(&mut node).await).await;
    let accepted = store.clock().now().log;
    store.close().await;
    database.execute(ELSEWHERE);
    sleep(WAITS).await;
    let store = database.open(&take(&mut node).await).await;
    let age = store.clock().now().age(accepted).expect("the server's clock shows it");
    assert!((WAITS..WAITS * 100).contains(&age), "{age:?}");
    store.note_clock(store.clock().now()).await.unwrap();
    store.close().await;
    // The server may have been off.
    database.execute(ELSEWHERE);
    database.execute("UPDATE liveobject_0.log_clock SET server_clock = server_clock - 86400000000");
    let store = database.open(&take(&mut node).await).await;
    assert_eq!(store.clock().now().age(accepted), None);
    store.close().await;
}

#[tokio::test]
async fn a_command_does_not_change_the_clock_of_the_log() {
    let database = Database::new();
    let mut node = database.node(1).await;
    database.open(&take(&mut node).await).await.close().await;
    let row = "SELECT log_clock::text FROM liveobject_0.log_clock";
    let before = database.execute(row);
    let location = AnyLocation::Server(Box::new(database.location.clone()));
    Store::open(&location, Access::Command).await.unwrap().close().await;
    assert_eq!(database.execute(row), before);
}

#[tokio::test]
async fn a_command_that_must_be_alone_and_nodes_exclude_each_other() {
    let database = Database::new();
    let location = AnyLocation::Server(Box::new(database.location.clone()));
    let node = database.node(1).await;
    let is_refused = |error: OpenError| matches!(error, OpenError::Server { fault: ServerFault::InUse, .. });
    assert!(is_refused(Store::open(&location, Access::Exclusive).await.unwrap_err()));
    Store::open(&location, Access::Command).await.unwrap().close().await;
    node.close().await;
    let command = Store::open(&location, Access::Exclusive).await.unwrap();
    let refused = NodeConnection::open(&database.location, id(2), None, about(2)).await;
    assert!(is_refused(refused.unwrap_err()));
    // It is alone, so it needs no term.
    commit(&command, 0).await.unwrap();
    commit(&command, 1).await.unwrap();
    command.close().await;
    assert_eq!(database.count("events"), "2");
    database.node(2).await.close().await;
}

#[tokio::test]
async fn nodes_that_start_at_once_create_the_tables_together() {
    let database = Database::new();
    let nodes = (1..=4).map(|number| database.node(number));
    let mut nodes = futures_util::future::join_all(nodes).await;
    for node in &mut nodes {
        assert_eq!(node.beat(None).await.unwrap().seen.owner.node, None);
    }
    assert_eq!(database.execute("SELECT count(*) FROM liveobject.node"), "4");
}

#[tokio::test]
async fn nodes_that_beat_claim_and_commit_at_random_never_block_each_other_or_number_an_event_twice() {
    let database = Database::new();
    database.node(1).await.close().await;
    let terms: [AtomicU32; 3] = Default::default();
    let acting = (0..terms.len()).map(|number| act(&database, number, &terms));
    let commits: Vec<Vec<Seq>> = futures_util::future::join_all(acting).await;
    let mut all: Vec<_> = commits.concat();
    all.sort_unstable();
    let expected: Vec<_> = (1..=i64::try_from(all.len()).unwrap()).map(Seq).collect();
    assert_eq!(all, expected, "the commits of all owners form one sequence");
}

/// Acts as a node that claims the log for no reason, until each has owned it often. Returns the positions of the events
/// that were committed.
async fn act(database: &Database, number: usize, terms: &[AtomicU32]) -> Vec<Seq> {
    let mut random = StdRng::seed_from_u64(u64::try_from(number).unwrap());
    let number_of_node = u128::try_from(number).unwrap() + 1;
    let mut node = database.node(number_of_node).await;
    let mut committed = Vec::new();
    while terms.iter().any(|terms| terms.load(Ordering::Relaxed) < TERMS) {
        let seen = node.beat(None).await.unwrap().seen.owner;
        let claim = claim_from(seen);
        match node.claim(&claim).await {
            ClaimOutcome::Granted => {}
            ClaimOutcome::Refused => continue,
            ClaimOutcome::Unknown => panic!("the server responds"),
        }
        let ownership = Ownership::new(Lease::new(NodeId(Uuid::from_u128(number_of_node)), true));
        let opened = Store::open_owned(&database.location, ownership, claim.term).await;
        let Ok(store) = opened else { continue };
        let last = crate::store::events::last_seq(&store.write).await.unwrap();
        let (mut last, count) = (last.0, random.random_range(1..40));
        for _ in 0..count {
            let (done, beat) = join(commit(&store, last), node.beat(Some(claim.term))).await;
            beat.unwrap();
            match done {
                Ok(done) => {
                    last += 1;
                    assert_eq!((done.last_seq, done.receipts[0].duplicate), (Seq(last), false));
                    committed.push(done.last_seq);
                }
                Err(CommitError { error: StoreError::NotOwner, .. }) => break,
                Err(failed) => panic!("{failed:?}"),
            }
        }
        store.close().await;
        terms[number].fetch_add(1, Ordering::Relaxed);
        // So that another one can take over.
        sleep(Duration::from_millis(random.random_range(0..30))).await;
    }
    committed
}

#[tokio::test]
async fn the_password_of_the_database_is_not_printed() {
    let server = Postgres::shared();
    let url = server.url(&server.create_database()).replacen("postgres@", "postgres:hunter2@", 1);
    let location = AnyLocation::parse(&url).unwrap();
    let AnyLocation::Server(server) = &location else { panic!("it is on a server") };
    let node = NodeConnection::open(server, NodeId(Uuid::from_u128(1)), None, about(1)).await.unwrap();
    let store = Store::open(&location, Access::Service).await.unwrap();
    let transaction = store.begin().await.unwrap();
    for text in [
        format!("{location:?} {server:?}"),
        format!("{node:?}"),
        format!("{store:?}"),
        format!("{transaction:?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    transaction.rollback().await.unwrap();
    store.close().await;
    node.close().await;
}
