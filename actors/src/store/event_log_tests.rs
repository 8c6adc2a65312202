//! Pages of the event log: they contain the requested events, and SQLite finds these without scanning the
//! whole log.

use std::sync::atomic::{AtomicU64, Ordering};

use sea_orm::{ConnectOptions, Database, DbBackend, Statement};

use super::*;
use crate::{
    domain::{
        delivery::{DeadReason, Resent, SettledAhead, SettledRange, Settlement},
        search::EventFilter,
    },
    store::{
        Store,
        dead_events::{self, DeadEvent},
    },
    testing::database::TestDatabase,
};

/// Creates events 1 to 40 of the cameras `a` and `b` in turn, with the cursor at 30. Events 4, 8 (dismissed),
/// 20 and 35 are dead. Events 5 and 10 were retried, of which 10 is delivered.
async fn example_log(database: &TestDatabase) -> Store {
    let store = database.open().await;
    let mut statements = vec![
        "INSERT INTO deliveries (up_to_seq, acked_at, late) VALUES (10, 1, FALSE), (30, 2, FALSE)".to_owned(),
        "INSERT INTO retries (seq, asked_at, acked_at, late) VALUES (5, 1, NULL, FALSE), (10, 1, 2, FALSE)"
            .to_owned(),
    ];
    for seq in 1..=40 {
        let camera = if seq % 2 == 1 { "a" } else { "b" };
        statements.push(format!(
            "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) \
             VALUES ({seq}, 'e{seq}', '{camera}', 1, 1, '{{}}')"
        ));
    }
    for statement in statements {
        store.write.execute_unprepared(&statement).await.unwrap();
    }
    let at = Moment::at(clock::from_micros(1));
    let deaths = [4, 8, 20, 35].map(|seq| DeadEvent { seq: Seq(seq), reason: DeadReason::Expired, at });
    dead_events::insert(&store.write, &deaths).await.unwrap();
    store.write.execute_unprepared("UPDATE dead_events SET dismissed_at = 3 WHERE seq = 8").await.unwrap();
    store
}

fn query(camera: Option<&str>, state: DeliveryState) -> EventQuery {
    let cameras = camera.map(|camera| CameraId::parse(camera).unwrap()).into_iter().collect();
    let filter = EventFilter { cameras, ..EventFilter::default() };
    EventQuery { filter, state: Some(state), before: None, limit: 500 }
}

async fn page(store: &Store, query: EventQuery) -> Vec<i64> {
    page_with(store, query, Unwritten::default()).await
}

async fn page_with(store: &Store, query: EventQuery, unwritten: Unwritten) -> Vec<i64> {
    let (settings, now) = (Arc::new(MqttSettings::defaults("c")), Moment::at(clock::now()));
    let page = list(&store.read, &store.search, &query, &QueryContext { settings, now, unwritten })
        .await
        .unwrap()
        .events;
    if let Some(state) = query.state {
        assert!(page.iter().all(|record| record.delivery.state == state), "{page:?}");
    }
    page.into_iter().map(|record| record.seq.0).collect()
}

#[tokio::test]
async fn pending_events_on_both_sides_of_the_cursor_are_listed() {
    for database in TestDatabase::each() {
        let store = example_log(&database).await;
        let pending = query(None, DeliveryState::Pending);
        let all = page(&store, pending.clone()).await;
        assert_eq!(all, [40, 39, 38, 37, 36, 34, 33, 32, 31, 5]);
        let of_a = page(&store, query(Some("a"), DeliveryState::Pending)).await;
        assert_eq!(of_a, [39, 37, 33, 31, 5]);
        assert_eq!(page(&store, query(Some("b"), DeliveryState::Pending)).await, [40, 38, 36, 34, 32]);
        let before = EventQuery { before: Some(Seq(33)), limit: 2, ..pending };
        assert_eq!(page(&store, before.clone()).await, [32, 31]);
        assert_eq!(page(&store, EventQuery { before: Some(Seq(31)), ..before.clone() }).await, [5]);
        assert_eq!(page(&store, EventQuery { before: Some(Seq(5)), ..before }).await, [0; 0]);
    }
}

#[tokio::test]
async fn dead_events_are_listed_by_camera_and_page_unless_they_are_dismissed() {
    for database in TestDatabase::each() {
        let store = example_log(&database).await;
        let dead = query(None, DeliveryState::Dead);
        assert_eq!(page(&store, dead.clone()).await, [35, 20, 4]);
        assert_eq!(page(&store, query(Some("a"), DeliveryState::Dead)).await, [35]);
        assert_eq!(page(&store, query(Some("b"), DeliveryState::Dead)).await, [20, 4]);
        let before = EventQuery { before: Some(Seq(35)), limit: 1, ..dead };
        assert_eq!(page(&store, before).await, [20]);
    }
}

#[tokio::test]
async fn delivered_events_are_neither_dead_nor_pending() {
    for database in TestDatabase::each() {
        let store = example_log(&database).await;
        let delivered = page(&store, query(None, DeliveryState::Delivered)).await;
        let expected: Vec<i64> = (1..=30).rev().filter(|seq| ![4, 5, 8, 20].contains(seq)).collect();
        assert_eq!(delivered, expected);
        let before = EventQuery { before: Some(Seq(7)), ..query(Some("a"), DeliveryState::Delivered) };
        assert_eq!(page(&store, before).await, [3, 1]);
    }
}

/// Events 31 and 32 are delivered up to the cursor, 34 and 37 above it. Event 36 is dead, and the retry of event 5
/// is delivered.
#[tokio::test]
async fn each_page_contains_what_is_known_and_not_in_the_database() {
    for database in TestDatabase::each() {
        let store = example_log(&database).await;
        let settlement = Settlement { at: Moment::at(clock::from_micros(5)), late: true, heard: Some(true) };
        let unwritten = Unwritten {
            cursor: Seq(32),
            ranges: vec![SettledRange { up_to: Seq(32), settlement }],
            above: [34, 35, 36, 37].map(|seq| (Seq(seq), settlement)).to_vec(),
            ahead: Vec::new(),
            dead: vec![(Seq(36), DeadReason::NotAuthorized)],
            resent: vec![Resent { seq: Seq(5), settlement }],
        };
        let known = |camera, state| page_with(&store, query(camera, state), unwritten.clone());
        assert_eq!(known(None, DeliveryState::Pending).await, [40, 39, 38, 33]);
        assert_eq!(known(Some("b"), DeliveryState::Pending).await, [40, 38]);
        assert_eq!(known(None, DeliveryState::Dead).await, [36, 35, 20, 4]);
        assert_eq!(known(Some("a"), DeliveryState::Dead).await, [35]);
        let delivered = known(None, DeliveryState::Delivered).await;
        assert_eq!(delivered[..5], [37, 34, 32, 31, 30]);
        assert!(delivered.contains(&5));
        let before = EventQuery { before: Some(Seq(36)), limit: 2, ..query(None, DeliveryState::Dead) };
        assert_eq!(page_with(&store, before, unwritten.clone()).await, [35, 20]);

        let settings = Arc::new(MqttSettings::defaults("c"));
        let context = QueryContext { settings, now: Moment::at(clock::now()), unwritten };
        for id in ["e31", "e37", "e5"] {
            let event = get(&store.read, &EventId::parse(id).unwrap(), &context).await.unwrap().unwrap();
            let Delivery { delivered_at, late, heard, .. } = event.delivery;
            assert_eq!((delivered_at, late, heard), (Some(clock::from_micros(5)), true, Some(true)), "{id}");
        }
    }
}

/// Events 33 and 34 and 37 to 39 are delivered ahead of the cursor; the last one is not in the database yet.
#[tokio::test]
async fn events_that_were_delivered_ahead_of_the_cursor_are_delivered_and_those_between_them_are_pending() {
    for database in TestDatabase::each() {
        let store = example_log(&database).await;
        let rows = "INSERT INTO deliveries_ahead VALUES (33, 34, 7, FALSE, TRUE), (37, 38, 8, FALSE, NULL)";
        store.write.execute_unprepared(rows).await.unwrap();
        let settlement =
            Settlement { at: Moment::at(clock::from_micros(9)), late: false, heard: Some(false) };
        let range = SettledAhead { first: Seq(39), last: Seq(39), settlement };
        let unwritten = || Unwritten { cursor: Seq(30), ahead: vec![range], ..Unwritten::default() };
        let known = |camera, state| page_with(&store, query(camera, state), unwritten());
        assert_eq!(known(None, DeliveryState::Pending).await, [40, 36, 32, 31, 5]);
        assert_eq!(known(Some("b"), DeliveryState::Pending).await, [40, 36, 32]);
        assert_eq!(known(None, DeliveryState::Delivered).await[..7], [39, 38, 37, 34, 33, 30, 29]);
        assert_eq!(known(Some("b"), DeliveryState::Delivered).await[..4], [38, 34, 30, 28]);
        let before = EventQuery { before: Some(Seq(38)), limit: 2, ..query(None, DeliveryState::Delivered) };
        assert_eq!(page_with(&store, before, unwritten()).await, [37, 34]);

        let context = || QueryContext {
            settings: Arc::new(MqttSettings::defaults("c")),
            now: Moment::at(clock::now()),
            unwritten: unwritten(),
        };
        let delivery = async |id: &str| {
            let event = get(&store.read, &EventId::parse(id).unwrap(), &context()).await.unwrap().unwrap();
            (event.delivery.delivered_at.map(clock::to_micros), event.delivery.heard)
        };
        assert_eq!(delivery("e34").await, (Some(7), Some(true)));
        assert_eq!(delivery("e39").await, (Some(9), Some(false)));
        assert_eq!(delivery("e35").await, (None, None), "it is dead");
        // The cursor passes the ranges later, when the events before them are delivered.
        let later = "INSERT INTO deliveries (up_to_seq, acked_at, late) VALUES (36, 100, TRUE)";
        store.write.execute_unprepared(later).await.unwrap();
        assert_eq!(delivery("e34").await, (Some(7), Some(true)));
        assert_eq!(delivery("e36").await, (Some(100), None));
        assert_eq!(known(None, DeliveryState::Pending).await, [40, 5]);
        let since = |micros| store.delivered_since(clock::from_micros(micros));
        assert_eq!(since(8).await.unwrap(), 5, "31, 32, 36, 37 and 38");
        assert_eq!(
            since(0).await.unwrap(),
            33,
            "all but 4 dead ones, 2 pending ones, and one that is not written"
        );
    }
}

/// Returns SQLite's query plan, one step per line.
async fn plan(store: &Store, state: Option<DeliveryState>, of_camera: bool) -> Vec<String> {
    let query = query(of_camera.then_some("a"), DeliveryState::Pending);
    let values = page_values(&query, query.filter.cameras.first(), &Unwritten::default());
    let sql = format!("EXPLAIN QUERY PLAN {}", page_sql(state, of_camera));
    let rows = store.read.query_all_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await;
    rows.unwrap().iter().map(|row| row.try_get("", "detail").unwrap()).collect()
}

#[tokio::test]
async fn no_page_requires_a_scan_of_the_whole_log() {
    let database = TestDatabase::sqlite();
    let store = example_log(&database).await;
    for of_camera in [false, true] {
        for state in
            [None, Some(DeliveryState::Pending), Some(DeliveryState::Delivered), Some(DeliveryState::Dead)]
        {
            let plan = plan(&store, state, of_camera).await;
            // A scan over the results of a subquery is fine, and so is one over what is not in the database.
            let small = ["subquery", "json_each", "SCAN part", "SCAN listed", "SCAN waiting", "SCAN again"];
            let is_small = |step: &str| small.iter().any(|name| step.contains(name));
            let scan = plan.iter().find(|step| step.starts_with("SCAN") && !is_small(step));
            assert_eq!(scan, None, "{state:?}, of a camera: {of_camera}: {plan:#?}");
            let used = |index: &str| plan.iter().any(|step| step.contains(index));
            match (state, of_camera) {
                (Some(DeliveryState::Dead), false) => {
                    assert!(used("dead_events_listed (seq<?)"), "{plan:#?}");
                }
                (Some(DeliveryState::Dead), true) => {
                    assert!(used("dead_events_listed_of_camera (camera_id=? AND seq<?)"), "{plan:#?}");
                }
                (Some(DeliveryState::Pending), _) => assert!(used("retries_waiting (seq<?)"), "{plan:#?}"),
                (_, true) => assert!(used("events_camera_id_seq (camera_id=? AND seq<?)"), "{plan:#?}"),
                (_, false) => {}
            }
        }
    }
}

/// Returns how many steps SQLite takes for the newest page, for each state with and without a camera.
async fn steps(pending: i64) -> Vec<(String, u64)> {
    let database = TestDatabase::sqlite();
    let store = example_log(&database).await;
    let rows = format!(
        "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) \
         WITH RECURSIVE n(seq) AS (SELECT 1000 UNION ALL SELECT seq + 1 FROM n WHERE seq < {}) \
         SELECT seq, 'n' || seq, CASE seq % 2 WHEN 0 THEN 'a' ELSE 'b' END, 1, 1, x'7b7d' FROM n",
        1500 + pending
    );
    store.write.execute_unprepared(&rows).await.unwrap();
    let cursor = "INSERT INTO deliveries (up_to_seq, acked_at, late) VALUES (1500, 100, 1)";
    store.write.execute_unprepared(cursor).await.unwrap();
    let url = format!("sqlite://{}", store.path().unwrap().display());
    let db = Database::connect(ConnectOptions::new(url).max_connections(1).to_owned()).await.unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let mut connection = db.get_sqlite_connection_pool().acquire().await.unwrap();
    connection.lock_handle().await.unwrap().set_progress_handler(1, {
        let count = Arc::clone(&count);
        move || count.fetch_add(1, Ordering::Relaxed) < u64::MAX
    });
    drop(connection);
    let mut steps = Vec::new();
    for of_camera in [false, true] {
        for state in
            [None, Some(DeliveryState::Pending), Some(DeliveryState::Delivered), Some(DeliveryState::Dead)]
        {
            let mut query = query(of_camera.then_some("a"), DeliveryState::Pending);
            query.limit = 20;
            let values = page_values(&query, query.filter.cameras.first(), &Unwritten::default());
            let sql = page_sql(state, of_camera);
            let before = count.load(Ordering::Relaxed);
            let _rows = db
                .query_all_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values))
                .await
                .unwrap();
            steps.push((
                format!("{state:?}, of a camera: {of_camera}"),
                count.load(Ordering::Relaxed) - before,
            ));
        }
    }
    steps
}

#[tokio::test]
async fn a_page_does_not_take_longer_with_more_pending_events() {
    let (few, many) = (steps(100).await, steps(10_000).await);
    for ((page, few), (_, many)) in few.into_iter().zip(many) {
        assert!(few > 0 && many < few * 2, "{page}: {few} and {many} steps");
    }
}
