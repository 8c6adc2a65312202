//! The search with the index finds what a plain filter finds.

use std::{fmt::Write as _, ops::Range, sync::Arc};

use proptest::{collection::vec, option, prelude::*, sample::select};
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::{
    domain::{
        clock::{self, LogTime, Moment},
        delivery::{DeliveryState, EventTimes, Unwritten},
        event_log::{EventQuery, LogSize, StoredEvent},
        ids::CameraId,
        search::{DensityQuery, EventFilter, SearchText, parse_object},
        settings::MqttSettings,
    },
    store::QueryContext,
    testing::database::{TestDatabase, hex},
};

const WORDS: [&str; 9] = ["red", "car", "cart", "person", "perhaps", "dog", "Straße", "Tür", "门"];
const CAMERAS: [&str; 4] = ["door", "yard", "garage", "street"];
/// Times are minutes of this day.
const DAY: i64 = 1_780_012_800;
const EVENTS: Range<i64> = 1..700;

fn at(minutes: i64) -> clock::Timestamp {
    clock::from_micros((DAY + minutes * 60) * 1_000_000)
}

/// An event of a log to be made.
#[derive(Debug, Clone)]
struct Sketch {
    words: Vec<&'static str>,
    camera: &'static str,
    /// How many minutes its time is behind those of its neighbours.
    minutes_late: i64,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let late = prop_oneof![9 => Just(0), 1 => 0..600_i64];
    (vec(select(&WORDS[..]), 0..4), select(&CAMERAS[..]), late)
        .prop_map(|(words, camera, minutes_late)| Sketch { words, camera, minutes_late })
}

/// A log: sketches that repeat, without the positions in the gaps.
#[derive(Debug, Clone)]
struct Log {
    sketches: Vec<Sketch>,
    gaps: Vec<Range<i64>>,
    /// Blocks that are not in the index.
    missing: Vec<i64>,
    /// Every event up to this one is delivered, except for dead ones.
    cursor: i64,
    dead: Vec<i64>,
}

fn log() -> impl Strategy<Value = Log> {
    let gap = (EVENTS, 1..300_i64).prop_map(|(from, length)| from..from + length);
    (vec(sketch(), 30..60), vec(gap, 0..3), vec(0..6_i64, 0..3), EVENTS, vec(EVENTS, 0..20))
        .prop_map(|(sketches, gaps, missing, cursor, dead)| Log { sketches, gaps, missing, cursor, dead })
}

impl Log {
    fn events(&self) -> Vec<StoredEvent> {
        let is_there = |seq: &i64| !self.gaps.iter().any(|gap| gap.contains(seq));
        let event = |seq: i64| {
            let place = usize::try_from(seq * 7).unwrap() % self.sketches.len();
            let Sketch { words, camera, minutes_late } = &self.sketches[place];
            let payload = serde_json::json!({
                "camera_name": camera,
                "description": words.join(" - "),
                "objects_detected": words.first().into_iter().collect::<Vec<_>>(),
            });
            StoredEvent {
                seq: Seq(seq),
                camera_id: CameraId::parse(*camera).unwrap(),
                times: EventTimes {
                    occurred_at: at(seq * 2 - minutes_late),
                    received_at: at(seq * 2),
                    accepted: LogTime(seq),
                },
                payload: payload.to_string().into(),
            }
        };
        EVENTS.filter(is_there).map(event).collect()
    }

    /// Returns a SQLite database, and for some logs one on a server, too, which takes longer to create.
    fn databases(&self) -> impl Iterator<Item = TestDatabase> {
        TestDatabase::each().take(if self.cursor % 6 == 0 { 2 } else { 1 })
    }

    fn state(&self, seq: Seq) -> DeliveryState {
        match seq.0 {
            seq if self.dead.contains(&seq) => DeliveryState::Dead,
            seq if seq <= self.cursor => DeliveryState::Delivered,
            _ => DeliveryState::Pending,
        }
    }

    async fn store(&self, database: &TestDatabase) -> Store {
        self.fill(database.open().await).await
    }

    async fn fill(&self, store: Store) -> Store {
        let mut sql = "BEGIN; INSERT INTO events VALUES (0, 'e0', 'c', 0, 0, '{}', NULL); ".to_owned();
        for event in self.events() {
            let StoredEvent { seq, camera_id, times, payload } = event;
            let occurred_at = clock::to_micros(times.occurred_at);
            let payload = hex(&payload);
            write!(
                sql,
                "INSERT INTO events (seq, event_id, camera_id, occurred_at, received_at, payload) \
                 VALUES ({seq}, 'e{seq}', '{camera_id}', {occurred_at}, 1, x'{payload}'); "
            )
            .unwrap();
        }
        for StoredEvent { seq, camera_id, .. } in self.events() {
            if self.dead.contains(&seq.0) {
                write!(
                    sql,
                    "INSERT INTO dead_events (seq, camera_id, reason, at) \
                     VALUES ({seq}, '{camera_id}', 'expired', 1); "
                )
                .unwrap();
            }
        }
        let cursor = self.cursor;
        write!(sql, "INSERT INTO deliveries (up_to_seq, acked_at, late) VALUES ({cursor}, 1, FALSE); ")
            .unwrap();
        store.execute(&format!("{sql} DELETE FROM events WHERE seq = 0; COMMIT")).await.unwrap();
        store.index_events(&mut Progress::default()).await.unwrap();
        for block in &self.missing {
            store.execute(&format!("DELETE FROM event_blocks WHERE block = {block}")).await.unwrap();
        }
        store
    }
}

fn filter() -> impl Strategy<Value = EventFilter> {
    let text =
        vec(select(vec!["red", "car", "person", "dog", "straße", "门", "per", "c", "yar", "none"]), 1..3);
    let object = select(vec!["person", "CAR", "straße", "none"]);
    let time = || option::of(-100..1500_i64);
    (vec(select(&CAMERAS[..]), 0..3), option::of(object), option::of(text), time(), time()).prop_map(
        |(cameras, object, text, from, to)| EventFilter {
            cameras: cameras.into_iter().map(|id| CameraId::parse(id).unwrap()).collect(),
            object: object.map(|object| parse_object(object).unwrap()),
            text: text.map(|words| SearchText::parse(&words.join(" ")).unwrap()),
            from: from.map(at),
            to: to.map(at),
        },
    )
}

fn context() -> QueryContext {
    QueryContext {
        settings: Arc::new(MqttSettings::defaults("c")),
        now: Moment::at(clock::now()),
        unwritten: Unwritten::default(),
    }
}

/// Returns all events that match, page by page.
async fn all(store: &Store, mut query: EventQuery) -> Vec<i64> {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let list = store.list_events(&query, &context()).await.unwrap();
        assert!(list.events.len() as u64 <= query.limit);
        found.extend(list.events.iter().map(|event| event.seq.0));
        let Some(next) = list.next_before else { return found };
        assert!(query.before.is_none_or(|before| next < before), "no progress at {next}");
        query.before = Some(next);
        pages += 1;
        assert!(pages < 2000, "it does not end");
    }
}

async fn counted(store: &Store, mut query: DensityQuery) -> Vec<u64> {
    let mut sum: Vec<u64> = Vec::new();
    loop {
        let density = store.density(&query).await.unwrap();
        sum.resize(density.events.len(), 0);
        sum.iter_mut().zip(&density.events).for_each(|(sum, events)| *sum += events);
        let Some(next) = density.next_before else { return sum };
        assert!(query.before.is_none_or(|before| next < before), "no progress at {next}");
        query.before = Some(next);
    }
}

fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_number_of_events_is_that_of_the_rows_whatever_is_in_the_index(log in log()) {
        within(async {
            for database in log.databases() {
                let store = log.store(&database).await;
                let LogSize { events, oldest } = store.log_size().await.unwrap();
                assert_eq!(events, Some(log.events().len() as u64));
                assert_eq!(oldest, Some(clock::from_micros(1)));
            }
        });
    }

    #[test]
    fn a_search_finds_what_a_plain_filter_finds(
        log in log(),
        queries in vec((filter(), option::of(0..3_u8), 1..70_u64), 12),
        before in option::of(EVENTS),
    ) {
        within(async {
            for database in log.databases() {
                let store = log.store(&database).await;
                for (filter, state, limit) in queries.clone() {
                    let states = [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Dead];
                    let state = state.map(|state| states[usize::from(state)]);
                    let mut expected: Vec<i64> = log.events().iter().filter(|event| {
                        filter.matches(event)
                            && state.is_none_or(|state| log.state(event.seq) == state)
                            && before.is_none_or(|before| event.seq.0 < before)
                    }).map(|event| event.seq.0).collect();
                    expected.reverse();
                    let query = EventQuery { filter, state, before: before.map(Seq), limit };
                    prop_assert_eq!(all(&store, query.clone()).await, expected, "{:?}", query);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn the_events_of_each_step_are_counted(
        log in log(),
        queries in vec((filter(), -100..1400_i64, 1..500_i64, 1..90_u32), 12),
    ) {
        within(async {
            for database in log.databases() {
                let store = log.store(&database).await;
                for (filter, from, length, step) in queries.clone() {
                    let filter = EventFilter { from: None, to: None, ..filter };
                    let (from, to, step_seconds) = (at(from), at(from + length), step * 60);
                    let step = i64::from(step_seconds);
                    let steps = usize::try_from((length * 60 + step - 1) / step).unwrap();
                    let mut expected = vec![0; steps];
                    for event in log.events().iter().filter(|event| filter.matches(event)) {
                        let time = event.times.occurred_at;
                        if from <= time && time < to {
                            expected[usize::try_from((time - from).num_seconds() / step).unwrap()] += 1;
                        }
                    }
                    let query = DensityQuery { from, to, step_seconds, filter, before: None };
                    prop_assert_eq!(counted(&store, query.clone()).await, expected, "{:?}", query);
                }
            }
            Ok(())
        })?;
    }
}

/// Returns a log of this many events, without gaps, all delivered.
fn plain_log(missing: Vec<i64>) -> Log {
    let words = vec!["red", "car"];
    let sketches = vec![Sketch { words, camera: "door", minutes_late: 0 }];
    Log { sketches, gaps: Vec::new(), missing, cursor: EVENTS.end, dead: Vec::new() }
}

async fn numbers(store: &Store, sql: &str) -> Vec<i64> {
    let rows = store
        .read
        .query_all_raw(statement(&store.read, Box::leak(sql.to_owned().into_boxed_str()), []))
        .await;
    rows.unwrap().iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test]
async fn only_complete_blocks_are_added_and_only_once() {
    for database in TestDatabase::each() {
        let store = plain_log(Vec::new()).store(&database).await;
        let blocks = "SELECT block FROM event_blocks ORDER BY block";
        assert_eq!(
            numbers(&store, blocks).await,
            [0, 1, 2, 3, 4],
            "699 events are five blocks of 128 and a rest"
        );
        let mut progress = Progress::default();
        assert_eq!(store.index_events(&mut progress).await.unwrap(), 0);
        store.execute("DELETE FROM event_blocks WHERE block IN (1, 2)").await.unwrap();
        assert_eq!(store.index_events(&mut progress).await.unwrap(), 0, "nothing is new");
        assert_eq!(store.index_events(&mut Progress::default()).await.unwrap(), 2, "after a restart");
        assert_eq!(numbers(&store, blocks).await, [0, 1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn removed_events_leave_the_index_first_and_their_blocks_do_not_come_back() {
    for database in TestDatabase::each() {
        let store = plain_log(Vec::new()).store(&database).await;
        store.execute("UPDATE deliveries SET up_to_seq = 300, log_time = 1").await.unwrap();
        let old = store.find_old(LogTime(10)).await.unwrap().unwrap();
        assert_eq!(store.remove_old(&old).await.unwrap().events, 300);
        let blocks =
            "SELECT DISTINCT block FROM event_index UNION SELECT block FROM event_blocks ORDER BY block";
        assert_eq!(numbers(&store, blocks).await, [3, 4]);
        assert_eq!(store.index_events(&mut Progress::default()).await.unwrap(), 0);
        let filter = EventFilter { text: SearchText::parse("car").ok(), ..EventFilter::default() };
        let found = all(&store, EventQuery { filter, limit: 500, ..EventQuery::default() }).await;
        assert_eq!((found.len(), found.last()), (399, Some(&301)));
    }
}

#[tokio::test]
async fn a_block_whose_events_are_removed_while_it_is_added_does_not_get_into_the_index() {
    let database = TestDatabase::sqlite();
    let store = plain_log(Vec::new()).store(&database).await;
    store.execute("DELETE FROM event_blocks WHERE block = 1").await.unwrap();
    // As if a sweep had begun after the events of the block were read.
    forget_up_to(&store, Seq(first_of(2) - 1)).await.unwrap();
    assert!(!build::add(&store, 1).await.unwrap());
    assert_eq!(numbers(&store, "SELECT block FROM event_blocks ORDER BY block").await, [2, 3, 4]);
}

/// How long a search is seen to wait.
const A_WHILE: std::time::Duration = std::time::Duration::from_millis(100);

#[tokio::test]
async fn one_search_runs_at_a_time_and_leaves_a_connection_for_the_delivery_of_events() {
    let database = TestDatabase::sqlite();
    let store = plain_log(Vec::new()).store(&database).await;
    let filter = EventFilter { text: SearchText::parse("car").ok(), ..EventFilter::default() };
    let query = EventQuery { filter: filter.clone(), limit: 500, ..EventQuery::default() };
    let density = DensityQuery { from: at(0), to: at(1500), step_seconds: 3600, filter, before: None };
    let turn = store.search.turn().await.unwrap();
    let mut listing = std::pin::pin!(all(&store, query));
    let mut counting = std::pin::pin!(counted(&store, density));
    assert!(tokio::time::timeout(A_WHILE, &mut listing).await.is_err());
    assert!(tokio::time::timeout(A_WHILE, &mut counting).await.is_err());
    let plain = EventQuery { limit: 500, ..EventQuery::default() };
    assert_eq!(all(&store, plain).await.len(), 699, "a list without a search does not wait");
    assert_eq!(store.read_page(Seq(1), 10, Seq(10)).await.unwrap().rows.len(), 10);
    drop(turn);
    let (found, counts) = tokio::join!(listing, counting);
    assert_eq!((found.len(), counts.iter().sum::<u64>()), (699, 699));
}

#[tokio::test]
async fn damaged_pages_of_the_index_change_no_result() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.db");
    let store = plain_log(Vec::new()).fill(Store::open_file(&path).await.unwrap()).await;
    store.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let page_bytes = usize::try_from(crate::store::PAGE_BYTES).unwrap();
    // Only the index contains this.
    let is_of_index = |page: &[u8]| page.windows(5).any(|part| part == b"@door");
    let damaged =
        bytes.chunks_exact_mut(page_bytes).filter(|page| is_of_index(page)).map(|page| page[..64].fill(0xa5));
    assert!(damaged.count() > 0);
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open_file(&path).await.unwrap();
    let filter = EventFilter { text: SearchText::parse("car").ok(), ..EventFilter::default() };
    let query = EventQuery { filter: filter.clone(), limit: 500, ..EventQuery::default() };
    assert_eq!(all(&store, query).await.len(), 699);
    let density = DensityQuery { from: at(0), to: at(1500), step_seconds: 3600, filter, before: None };
    assert_eq!(counted(&store, density.clone()).await.iter().sum::<u64>(), 699);
    // What is damaged is not used any more, and does not prevent that old events are removed.
    store.index_events(&mut Progress::default()).await.unwrap();
    assert_eq!(numbers(&store, "SELECT block FROM event_blocks").await, [0; 0]);
    store.execute("UPDATE deliveries SET up_to_seq = 300, log_time = 1").await.unwrap();
    let old = store.find_old(LogTime(10)).await.unwrap().unwrap();
    assert_eq!(store.remove_old(&old).await.unwrap().events, 300);
    assert_eq!(counted(&store, density).await.iter().sum::<u64>(), 399);
}

#[tokio::test]
async fn a_damaged_block_is_added_again() {
    let database = TestDatabase::sqlite();
    let store = plain_log(Vec::new()).store(&database).await;
    let mut progress = Progress::default();
    store.index_events(&mut progress).await.unwrap();
    let rows = "SELECT COUNT(*) FROM event_index WHERE positions = x'ffffff'";
    store.execute("UPDATE event_index SET positions = x'ffffff' WHERE block IN (1, 3)").await.unwrap();
    let filter = EventFilter { text: SearchText::parse("car").ok(), ..EventFilter::default() };
    let query = EventQuery { filter, limit: 500, ..EventQuery::default() };
    assert_eq!(all(&store, query.clone()).await.len(), 699);
    assert!(numbers(&store, rows).await > vec![0]);
    assert_eq!(store.index_events(&mut progress).await.unwrap(), 2);
    assert_eq!(numbers(&store, rows).await, [0]);
    assert_eq!(numbers(&store, "SELECT COUNT(*) FROM event_blocks").await, [5]);
}

#[tokio::test]
async fn a_damaged_index_changes_no_result() {
    for database in TestDatabase::each() {
        let store = plain_log(Vec::new()).store(&database).await;
        for damage in
            ["UPDATE event_index SET positions = x'ffffff'", "DELETE FROM event_index WHERE term = ''"]
        {
            store.execute(damage).await.unwrap();
            let filter = EventFilter {
                text: SearchText::parse("red ca").ok(),
                from: Some(at(600)),
                ..EventFilter::default()
            };
            let found = all(&store, EventQuery { filter, limit: 500, ..EventQuery::default() }).await;
            assert_eq!((found.len(), found.last()), (400, Some(&300)), "{damage}");
        }
    }
}

#[tokio::test]
async fn events_that_are_not_in_the_index_are_counted_only_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_file(&dir.path().join("l.db")).await.unwrap();
    assert_eq!(store.log_size().await.unwrap(), LogSize { events: Some(0), oldest: None });
    let rows = |from: usize, to: usize| {
        let values = |seq| format!("({seq}, 'e{seq}', 'c', 0, 1, x'7b7d', NULL)");
        format!("INSERT INTO events VALUES {}", (from..=to).map(values).collect::<Vec<_>>().join(","))
    };
    store.execute(&rows(1, 4 * BLOCK)).await.unwrap();
    assert_eq!(store.log_size().await.unwrap().events, Some(4 * BLOCK as u64));
    store.execute(&rows(4 * BLOCK + 1, 4 * BLOCK + 1)).await.unwrap();
    assert_eq!(store.log_size().await.unwrap().events, None);
    store.index_events(&mut Progress::default()).await.unwrap();
    assert_eq!(store.log_size().await.unwrap().events, Some(4 * BLOCK as u64 + 1));
}

/// Returns the steps of SQLite's plans for the statements of a search that has all kinds of conditions.
async fn plans(store: &Store) -> Vec<String> {
    let filter = EventFilter {
        cameras: ["door", "yard"].map(|id| CameraId::parse(id).unwrap()).to_vec(),
        object: Some("car".to_owned()),
        text: SearchText::parse("red ca").ok(),
        from: Some(at(0)),
        to: Some(at(900)),
    };
    let mut steps = Vec::new();
    for statement in part::statements(store, &filter).await {
        let sql = format!("EXPLAIN QUERY PLAN {}", statement.sql);
        let values = statement.values.unwrap_or(sea_orm::Values(Vec::new()));
        let explain = Statement::from_sql_and_values(sea_orm::DbBackend::Sqlite, sql, values);
        let rows = store.read.query_all_raw(explain).await.unwrap();
        steps.extend(rows.iter().map(|row| row.try_get::<String>("", "detail").unwrap()));
    }
    steps
}

#[tokio::test]
async fn no_search_requires_a_scan_of_the_log_or_of_the_index() {
    let database = TestDatabase::sqlite();
    let store = plain_log(Vec::new()).store(&database).await;
    let steps = plans(&store).await;
    // Lists of a few values, and subqueries whose own steps are checked.
    let is_subquery = |name: &str| steps.iter().any(|step| *step == format!("CO-ROUTINE {name}"));
    let is_small = |step: &str| {
        step.contains("VIRTUAL TABLE") || step.contains("CONSTANT") || is_subquery(&step["SCAN ".len()..])
    };
    let scan = steps.iter().find(|step| step.starts_with("SCAN") && !is_small(step));
    assert_eq!(scan, None, "{steps:#?}");
    for wanted in [
        "SEARCH b USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        "SEARCH i USING PRIMARY KEY (block=? AND term=?)",
        "SEARCH i USING PRIMARY KEY (block=? AND term>? AND term<?)",
        "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    ] {
        assert!(steps.iter().any(|step| step.contains(wanted)), "{wanted}: {steps:#?}");
    }
}

#[tokio::test]
async fn the_database_is_read_only_if_events_were_committed_since_the_last_time() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        let mut progress = Progress::default();
        assert_eq!(store.index_events(&mut progress).await.unwrap(), 0);
        store.close().await;
        assert_eq!(store.index_events(&mut progress).await.unwrap(), 0);
        store.search.note_last(Seq(5000));
        let _closed = store.index_events(&mut progress).await.unwrap_err();
    }
}
