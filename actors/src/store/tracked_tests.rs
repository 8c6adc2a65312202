//! Cameras and counts are the same whether they come from memory or from the database, whatever happened before.

use std::time::Duration;

use chrono::TimeDelta;
use proptest::{collection::vec, prelude::*};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::*;
use crate::{
    domain::{
        camera::{CameraSighting, CameraStatus, ImageType, Thumbnail},
        clock::Timestamp,
        event::{DetectionEvent, EventInput},
    },
    store::{Batch, CommitContext},
    testing::{commit_context, database::TestDatabase},
};

const CAMERAS: usize = 4;
/// Fewer than there are, so that some events belong to cameras that are not registered.
const MAX_CAMERAS: u32 = 3;
const ZONES: [&str; 3] = ["UTC", "Pacific/Kiritimati", "America/New_York"];
const FIRST_DAY: Day = Day::MIN;

#[derive(Debug, Clone)]
enum Step {
    /// Events, each of a camera, this long ago, with one of two names. Reads the cameras again if the flag is set, as
    /// after a commit with an unknown outcome.
    Commit(Vec<(usize, Duration, bool)>, bool),
    /// Events that change nothing but the newest event and the counts.
    CommitMany(usize, usize),
    /// Sends an earlier event again, together with a new one that occurs twice.
    Resend(usize, usize),
    /// A commit that fails.
    Fail(usize),
    Rename(usize, bool),
    SetOffline(usize),
    /// Stores the picture of an event that happened this long ago.
    NotePicture(usize, Duration),
    Delete(usize),
    ChangeZone(usize),
    Reopen,
    WriteAll,
    /// Removes all events from the log.
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ago = || {
        let days = (0_u64..4).prop_map(|days| Duration::from_hours(days * 24));
        prop_oneof![3 => Just(Duration::ZERO), 1 => Just(Duration::from_secs(90)), 1 => days]
    };
    let events = || vec((0..CAMERAS, ago(), prop::bool::weighted(0.1)), 1..6);
    let step = prop_oneof![
        8 => (events(), prop::bool::weighted(0.2)).prop_map(|(events, reads)| Step::Commit(events, reads)),
        4 => (0..CAMERAS, 1_usize..40).prop_map(|(camera, count)| Step::CommitMany(camera, count)),
        2 => (any::<usize>(), 0..CAMERAS).prop_map(|(earlier, camera)| Step::Resend(earlier, camera)),
        1 => (0..CAMERAS).prop_map(Step::Fail),
        1 => (0..CAMERAS, any::<bool>()).prop_map(|(camera, name)| Step::Rename(camera, name)),
        1 => (0..CAMERAS).prop_map(Step::SetOffline),
        1 => (0..CAMERAS, ago()).prop_map(|(camera, ago)| Step::NotePicture(camera, ago)),
        1 => (0..CAMERAS).prop_map(Step::Delete),
        1 => (0..ZONES.len()).prop_map(Step::ChangeZone),
        2 => Just(Step::Reopen),
        1 => Just(Step::WriteAll),
        1 => Just(Step::Sweep),
    ];
    vec(step, 1..25)
}

fn id(camera: usize) -> CameraId {
    CameraId::parse(format!("c{camera}")).unwrap()
}

/// A database, and what it must contain.
struct Scene<'a> {
    database: &'a TestDatabase,
    store: Store,
    context: CommitContext,
    began: Timestamp,
    last_seq: Seq,
    /// Whether the outcome of the previous commit is known.
    is_certain: bool,
    /// The events in the log, in the order of their positions.
    log: Vec<DetectionEvent>,
    cameras: BTreeMap<CameraId, Camera>,
    counts: Counts,
}

impl<'a> Scene<'a> {
    async fn new(database: &'a TestDatabase) -> Self {
        let store = database.open().await;
        let context = CommitContext { max_cameras: MAX_CAMERAS, ..commit_context() };
        let (cameras, counts) = (BTreeMap::new(), Counts::new());
        let (began, last_seq, is_certain, log) = (clock::now(), Seq(0), true, Vec::new());
        Self { database, store, context, began, last_seq, is_certain, log, cameras, counts }
    }

    fn event(&self, camera: usize, ago: Duration, has_new_name: bool) -> DetectionEvent {
        let input = EventInput {
            camera_id: id(camera).as_str().to_owned(),
            camera_name: Some(if has_new_name { "New" } else { "Old" }.to_owned()),
            description: format!("Event after {}", self.last_seq.0),
            smart_detection_type: (camera > 0).then(|| "person".to_owned()),
            timestamp: Some(self.began - TimeDelta::from_std(ago).unwrap()),
            ..EventInput::default()
        };
        input.validate().unwrap()
    }

    async fn commit(&mut self, events: Vec<DetectionEvent>, reads: bool) {
        for event in &events {
            let id = event.camera_id();
            if self.log.iter().any(|earlier| earlier.event_id() == event.event_id()) {
                continue;
            }
            self.log.push(event.clone());
            let is_registered =
                self.counts.contains_key(id) || self.counts.len() < usize::try_from(MAX_CAMERAS).unwrap();
            if is_registered {
                let day = self.context.calendar.day(event.timestamp());
                *self.counts.entry(id.clone()).or_default().entry(day).or_default() += 1;
            }
        }
        let batch = Batch { events, ..Batch::default() };
        let last_seq = (self.is_certain && !reads).then_some(self.last_seq);
        self.is_certain = true;
        let committed = self.store.commit(&batch, last_seq, &self.context).await.unwrap();
        self.last_seq = committed.last_seq;
        for CameraSighting { camera, days } in committed.seen {
            let counts = &self.counts[&camera.camera_id];
            assert!(!days.is_empty() && days.iter().all(|(day, count)| counts[day] == *count), "{days:?}");
            self.cameras.insert(camera.camera_id.clone(), camera);
        }
    }

    async fn change(&mut self, camera: usize, change: impl FnOnce(&mut Camera)) {
        let id = id(camera);
        let changed = self.store.change_camera(&id, MAX_CAMERAS, |known, _| {
            let mut camera = known.ok_or(StoreError::timeout())?;
            change(&mut camera);
            Ok::<_, StoreError>(camera)
        });
        if let Ok(camera) = changed.await {
            self.cameras.insert(camera.camera_id.clone(), camera);
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Commit(events, reads) => {
                let event = |(camera, ago, has_new_name)| self.event(camera, ago, has_new_name);
                let events = events.into_iter().map(event).collect();
                self.commit(events, reads).await;
            }
            Step::CommitMany(camera, count) => {
                for _ in 0..count {
                    self.commit(vec![self.event(camera, Duration::ZERO, false)], false).await;
                }
            }
            Step::Resend(earlier, camera) => {
                let new = self.event(camera, Duration::ZERO, false);
                let earlier = self.log.get(earlier % self.log.len().max(1)).cloned();
                self.commit(earlier.into_iter().chain([new.clone(), new]).collect(), false).await;
            }
            Step::Fail(camera) => {
                let batch =
                    Batch { events: vec![self.event(camera, Duration::ZERO, true)], ..Batch::default() };
                let rename = async |from: &str, to: &str| {
                    self.store.execute(&format!("ALTER TABLE {from} RENAME TO {to}")).await.unwrap();
                };
                rename("events", "out_of_reach").await;
                self.store.commit(&batch, Some(self.last_seq), &self.context).await.unwrap_err();
                rename("out_of_reach", "events").await;
                self.is_certain = false;
            }
            Step::Rename(camera, true) => {
                self.change(camera, |camera| camera.give_name("Given".to_owned())).await;
            }
            Step::Rename(camera, false) => self.change(camera, Camera::use_own_name).await,
            Step::SetOffline(camera) => {
                self.change(camera, |camera| camera.status = CameraStatus::Offline).await;
            }
            Step::NotePicture(camera, ago) => {
                let happened = LogTime(clock::to_micros(self.began - TimeDelta::from_std(ago).unwrap()));
                let picture = Thumbnail { seq: self.last_seq, happened, format: ImageType::Jpeg };
                let pictures = BTreeMap::from([(id(camera), picture)]);
                for camera in self.store.note_pictures(&pictures).await.unwrap() {
                    self.cameras.insert(camera.camera_id.clone(), camera);
                }
            }
            Step::Delete(camera) => {
                let id = id(camera);
                assert_eq!(self.store.delete_camera(&id).await.unwrap(), self.cameras.remove(&id).is_some());
                self.counts.remove(&id);
            }
            Step::ChangeZone(zone) => self.context.calendar = Calendar::named(ZONES[zone]).unwrap(),
            Step::Reopen => {
                // Closing does not write any rows, so that this is like the end of the process.
                self.store.close().await;
                self.store = self.database.open().await;
            }
            Step::WriteAll => write_all(&self.store).await.unwrap(),
            Step::Sweep => {
                let Seq(up_to @ 1..) = self.last_seq else { return };
                let settled = format!(
                    "INSERT INTO deliveries (up_to_seq, acked_at, late, log_time) VALUES ({up_to}, 1, FALSE, 1) \
                     ON CONFLICT DO NOTHING"
                );
                self.store.execute(&settled).await.unwrap();
                if let Some(old) = self.store.find_old(LogTime(10)).await.unwrap() {
                    self.store.remove_old(&old).await.unwrap();
                    self.log.clear();
                }
                assert_eq!(rows(&self.store, "SELECT seq FROM events").await, Vec::<i64>::new());
            }
        }
    }

    async fn check(&self) {
        let cameras = self.store.list_cameras().await.unwrap();
        assert_eq!(cameras, self.cameras.values().cloned().collect::<Vec<_>>());
        assert_eq!(self.store.days_since(FIRST_DAY).await.unwrap(), self.counts);
    }
}

async fn rows(store: &Store, sql: &str) -> Vec<i64> {
    let rows = store.write.query_all_raw(dialect::statement(&store.write, sql, [])).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

const COUNTED: &str = "SELECT counted_up_to FROM cameras ORDER BY camera_id";
const IN_TABLE: &str = "SELECT count FROM camera_days ORDER BY camera_id, day";

fn check_steps(database: &TestDatabase, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut scene = Scene::new(database).await;
        for step in steps {
            scene.take(step).await;
            scene.check().await;
        }
        scene.take(Step::Reopen).await;
        scene.check().await;
        scene.store.close().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn cameras_and_counts_are_exact_after_any_steps(steps in steps()) {
        check_steps(&TestDatabase::sqlite(), steps);
    }

    #[test]
    fn cameras_and_counts_are_exact_after_any_steps_on_a_server(steps in steps()) {
        check_steps(&TestDatabase::postgres(), steps);
    }
}

#[tokio::test]
async fn the_row_of_a_camera_is_written_with_every_32nd_event() {
    for database in TestDatabase::each() {
        let mut scene = Scene::new(&database).await;
        scene.take(Step::CommitMany(0, 1)).await;
        assert_eq!(rows(&scene.store, COUNTED).await, [1], "it is new");
        scene.take(Step::CommitMany(0, 31)).await;
        assert_eq!(
            (rows(&scene.store, COUNTED).await, rows(&scene.store, IN_TABLE).await),
            (vec![1], vec![1])
        );
        scene.check().await;
        scene.take(Step::CommitMany(0, 1)).await;
        assert_eq!(
            (rows(&scene.store, COUNTED).await, rows(&scene.store, IN_TABLE).await),
            (vec![33], vec![33])
        );
        scene.take(Step::CommitMany(0, 3)).await;
        scene.take(Step::Reopen).await;
        assert_eq!(rows(&scene.store, IN_TABLE).await, [36], "it is written at the start");
        scene.check().await;
    }
}

#[tokio::test]
async fn an_event_that_changes_more_than_the_newest_event_writes_the_row() {
    for database in TestDatabase::each() {
        let mut scene = Scene::new(&database).await;
        let commit =
            |ago, has_new_name| Step::Commit(vec![(0, Duration::from_secs(ago), has_new_name)], false);
        scene.take(commit(60, false)).await;
        scene.take(commit(50, false)).await;
        assert_eq!(rows(&scene.store, COUNTED).await, [1]);
        scene.take(commit(40, true)).await;
        assert_eq!(rows(&scene.store, COUNTED).await, [3], "it has another name");
        scene.take(commit(30, false)).await;
        assert_eq!(rows(&scene.store, COUNTED).await, [4], "it has the first name again");
        scene.take(commit(20, false)).await;
        scene.take(Step::ChangeZone(1)).await;
        scene.take(commit(10, false)).await;
        assert_eq!(rows(&scene.store, COUNTED).await, [6], "its day is one of another time zone");
        scene.check().await;
    }
}

#[tokio::test]
async fn events_that_are_removed_stay_in_the_counts() {
    for database in TestDatabase::each() {
        let mut scene = Scene::new(&database).await;
        scene.take(Step::CommitMany(0, 5)).await;
        let settled = "INSERT INTO deliveries (up_to_seq, acked_at, late, log_time) VALUES (5, 1, FALSE, 1)";
        scene.store.write.execute_unprepared(settled).await.unwrap();
        let old = scene.store.find_old(LogTime(10)).await.unwrap().unwrap();
        assert_eq!(scene.store.remove_old(&old).await.unwrap().events, 5);
        assert_eq!(rows(&scene.store, "SELECT seq FROM events").await, Vec::<i64>::new());
        scene.check().await;
        scene.take(Step::CommitMany(0, 1)).await;
        scene.check().await;
    }
}

#[tokio::test]
async fn a_damaged_event_does_not_keep_its_camera_from_being_read() {
    for database in TestDatabase::each() {
        let mut scene = Scene::new(&database).await;
        for ago in [60, 50, 40, 30, 20] {
            scene.take(Step::Commit(vec![(0, Duration::from_secs(ago), false)], false)).await;
        }
        let damage = "UPDATE events SET payload = '' WHERE seq = 5";
        scene.store.write.execute_unprepared(damage).await.unwrap();
        scene.take(Step::Reopen).await;
        let cameras = scene.store.list_cameras().await.unwrap();
        let last = cameras[0].last_event.as_ref().unwrap();
        assert_eq!((last.seq, last.description.as_str()), (Seq(5), ""));
        assert_eq!(scene.store.days_since(FIRST_DAY).await.unwrap(), scene.counts);
        scene.take(Step::CommitMany(0, 1)).await;
        scene.check().await;
    }
}

/// Returns a batch of one event that fills most of a page.
fn large(camera: usize, number: i64) -> Batch {
    let input = EventInput {
        camera_id: id(camera).as_str().to_owned(),
        description: format!("Event {number}. {}", "x".repeat(1500)),
        ..EventInput::default()
    };
    Batch { events: vec![input.validate().unwrap()], ..Batch::default() }
}

/// Writes five events of each of two cameras, of which the first has a damaged one. Returns the cameras as they were.
async fn with_damage(path: &std::path::Path) -> Vec<Camera> {
    let store = Store::open_file(path).await.unwrap();
    for last in 0..10 {
        let batch = large(usize::from(last >= 5), last + 1);
        store.commit(&batch, Some(Seq(last)), &commit_context()).await.unwrap();
    }
    let cameras = store.list_cameras().await.unwrap();
    store.close().await;
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(8).position(|part| part == b"Event 2.").unwrap();
    let page = at / 2048 * 2048;
    bytes[page..page + 64].fill(0xa5);
    std::fs::write(path, bytes).unwrap();
    cameras
}

#[tokio::test]
async fn events_on_a_damaged_page_are_given_up_and_others_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.db");
    let before = with_damage(&path).await;
    let store = Store::open_file(&path).await.unwrap();
    let cameras = store.list_cameras().await.unwrap();
    assert_eq!(cameras[0].last_event.as_ref().unwrap().seq, Seq(1), "the later events cannot be read");
    assert_eq!(cameras[1], before[1], "the page has no event of this camera");
    let seen = store.commit(&large(0, 11), Some(Seq(10)), &commit_context()).await.unwrap().seen;
    assert_eq!(seen[0].days.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2]);
    let cameras = store.list_cameras().await.unwrap();
    assert_eq!(cameras, [seen[0].camera.clone(), before[1].clone()]);
    let counts = store.days_since(FIRST_DAY).await.unwrap();
    assert_eq!(counts[&id(1)].values().sum::<u64>(), 5);
}

#[tokio::test]
async fn a_camera_whose_events_are_given_up_does_not_return_to_an_earlier_revision() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.db");
    let before = with_damage(&path).await;
    let store = Store::open_file(&path).await.unwrap();
    let seen = store.commit(&large(0, 11), Some(Seq(10)), &commit_context()).await.unwrap().seen;
    assert!(seen[0].camera.revision > before[0].revision, "it would be taken for an earlier state");
}

#[tokio::test]
async fn more_cameras_than_are_written_at_once_are_all_written() {
    const MANY: usize = 2 * CAMERAS_PER_STEP + 1;
    for database in TestDatabase::each() {
        let scene = Scene::new(&database).await;
        for last_seq in [0, MANY] {
            let events = (0..MANY).map(|camera| scene.event(camera, Duration::ZERO, false)).collect();
            let batch = Batch { events, ..Batch::default() };
            let last_seq = Some(Seq(last_seq.try_into().unwrap()));
            scene.store.commit(&batch, last_seq, &commit_context()).await.unwrap();
        }
        let cameras = scene.store.list_cameras().await.unwrap();
        assert_eq!(rows(&scene.store, IN_TABLE).await, [1; MANY]);
        write_all(&scene.store).await.unwrap();
        assert_eq!(rows(&scene.store, IN_TABLE).await, [2; MANY]);
        assert_eq!(rows(&scene.store, COUNTED).await, [2 * i64::try_from(MANY).unwrap(); MANY]);
        assert_eq!(scene.store.list_cameras().await.unwrap(), cameras);
    }
}

#[tokio::test]
async fn an_event_in_a_leap_second_is_counted_on_one_day() {
    for database in TestDatabase::each() {
        let mut scene = Scene::new(&database).await;
        scene.take(Step::CommitMany(0, 1)).await;
        for _ in 0..3 {
            let leap_second = chrono::DateTime::parse_from_rfc3339("2016-12-31T23:59:60.5Z").unwrap();
            let input = EventInput {
                camera_id: id(0).as_str().to_owned(),
                description: "Somebody".to_owned(),
                timestamp: Some(leap_second.to_utc()),
                ..EventInput::default()
            };
            scene.commit(vec![input.validate().unwrap()], false).await;
            scene.check().await;
        }
    }
}

#[tokio::test]
async fn neither_engine_reads_the_whole_log_to_find_the_events_of_cameras() {
    for database in TestDatabase::each() {
        let store = database.open().await;
        let backend = store.write.get_database_backend();
        let explain = if backend == DbBackend::Sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
        for has_list in [false, true] {
            let sql =
                format!("{explain} {}", uncounted_sql(backend, has_list).replace("?1", "'[\"a\",\"b\"]'"));
            let sql = if backend == DbBackend::Sqlite { sql } else { dialect::to_postgres(&sql) };
            let plan = store.write.query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
            let column = if backend == DbBackend::Sqlite { 3 } else { 0 };
            let plan: Vec<String> = plan.iter().map(|row| row.try_get_by_index(column).unwrap()).collect();
            let plan = plan.join("\n");
            let searches = match backend {
                DbBackend::Sqlite => "SEARCH e USING INDEX events_camera_id_seq (camera_id=? AND seq>?)",
                _ => "Index Cond: ((camera_id = c.camera_id) AND (seq > c.counted_up_to))",
            };
            assert!(plan.contains(searches), "{plan}");
            if has_list && backend == DbBackend::Sqlite {
                assert!(plan.contains("SEARCH c USING INDEX"), "it reads the row of each camera: {plan}");
            }
        }
    }
}

#[tokio::test]
async fn the_upgrade_of_an_older_database_counts_no_event_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.db");
    let mut store = Store::open_file(&path).await.unwrap();
    let context = commit_context();
    let event = || {
        let input = EventInput {
            camera_id: "c0".to_owned(),
            description: "Somebody".to_owned(),
            ..EventInput::default()
        };
        Batch { events: vec![input.validate().unwrap()], ..Batch::default() }
    };
    for last in 0..3 {
        store.commit(&event(), Some(Seq(last)), &context).await.unwrap();
    }
    write_all(&store).await.unwrap();
    let before = store.days_since(FIRST_DAY).await.unwrap();
    for statement in [
        "ALTER TABLE cameras DROP COLUMN counted_up_to",
        "ALTER TABLE cameras DROP COLUMN counted_zone",
        "DELETE FROM seaql_migrations WHERE version = 'm20261129_000044_count_events_later'",
    ] {
        store.write.execute_unprepared(statement).await.unwrap();
    }
    store.close().await;
    store = Store::open_file(&path).await.unwrap();
    assert_eq!(store.days_since(FIRST_DAY).await.unwrap(), before);
    store.commit(&event(), Some(Seq(3)), &context).await.unwrap();
    let counts = store.days_since(FIRST_DAY).await.unwrap();
    assert_eq!(counts.values().flat_map(BTreeMap::values).sum::<u64>(), 4);
}
