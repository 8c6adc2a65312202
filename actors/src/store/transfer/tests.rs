//! Moves from a file to a server and back: each table arrives equal, and each refusal changes nothing.

use std::{collections::BTreeSet, fs, path::PathBuf, pin::pin};

use bytes::Bytes;
use liveobject_test_support::Postgres;
use sea_orm::Value;
use tokio::sync::oneshot;

use super::{super::dialect::Type, *};
use crate::domain::ids::Seq;

/// A data directory, a file in it that is moved, and an empty database on a server.
struct Ends {
    dir: tempfile::TempDir,
    file: Location,
    server: Location,
    database: String,
}

impl Ends {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = Location::File(dir.path().join("l.db"));
        let database = Postgres::shared().create_database();
        let server = Location::parse(&Postgres::shared().url(&database)).unwrap();
        Self { dir, file, server, database }
    }

    fn path(&self) -> PathBuf {
        self.file.path().unwrap()
    }

    /// Returns another file, which does not exist.
    fn other_file(&self) -> Location {
        Location::File(self.dir.path().join("other.db"))
    }

    async fn transfer(&self, from: &Location, to: &Location) -> Result<Moved, MoveError> {
        Box::pin(transfer(from, to, &NoFiles, |_| {})).await
    }

    async fn refusal(&self, from: &Location, to: &Location) -> String {
        chain(&self.transfer(from, to).await.unwrap_err())
    }

    /// Begins a move, and returns once the first rows were copied. Drops the move in the middle.
    async fn cut_off(&self) {
        let (begun, has_begun) = oneshot::channel();
        let mut begun = Some(begun);
        let progress = |_: Progress<'_>| begun.take().map_or((), |begun| begun.send(()).unwrap());
        tokio::select! {
            biased;
            _ = has_begun => {}
            moved = Box::pin(transfer(&self.file, &self.server, &NoFiles, progress)) => panic!("{moved:?}"),
        }
    }
}

/// There are no picture files.
#[derive(Debug)]
struct NoFiles;

impl PictureFiles for NoFiles {
    fn seqs(&self) -> Result<Vec<Seq>, FileError> {
        Ok(Vec::new())
    }

    fn load(&self, _: Seq) -> Result<Option<Bytes>, FileError> {
        Ok(None)
    }

    fn store(&self, _: Seq, _: &Bytes) -> Result<(), FileError> {
        Ok(())
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

async fn open(location: &Location) -> Store {
    Store::open(location, Access::Service).await.unwrap()
}

async fn not_opened(location: &Location) -> String {
    Store::open(location, Access::Service).await.unwrap_err().to_string()
}

/// Fills each table with rows of all kinds of values.
async fn fill(store: &Store) {
    for table in schema::tables(&store.write).await.unwrap() {
        let optional = optional_columns(store, &table).await;
        store.execute(&format!("DELETE FROM {}", table.name)).await.unwrap();
        let is_single = ["log_clock", "mqtt_config"].contains(&table.name.as_str());
        let rows: Vec<_> = (1..=if is_single { 1 } else { 700 }).map(|n| row(&table, n, &optional)).collect();
        for rows in rows.chunks(100) {
            let insertion = rows::insertion(&store.write, &table, rows.to_vec());
            store.write.execute_raw(insertion).await.unwrap();
        }
    }
    // The last rows were removed.
    store.execute("UPDATE sqlite_sequence SET seq = 5000 WHERE name = 'replays'").await.unwrap();
}

fn row(table: &Table, n: i64, optional: &BTreeSet<String>) -> Vec<Value> {
    let value = |(index, column): (usize, &schema::Column)| {
        let in_key = table.key.contains(&index);
        let is_null = optional.contains(&column.name) && !in_key && n % 3 == 0;
        match column.kind {
            // Of a key with two columns, the first is often the same.
            Type::Number if in_key && table.key[0] == index && table.key.len() > 1 => Value::from(n / 10),
            Type::Number if in_key => Value::from(n),
            Type::Number => Value::BigInt((!is_null).then_some(n * 12_345_678_901)),
            Type::Text if in_key && table.key[0] == index && table.key.len() > 1 => {
                Value::from(format!("first {}", n / 10))
            }
            Type::Text => Value::String((!is_null).then(|| format!("{n} \"Türe\" 'a?$1' 🚪\n"))),
            Type::Bytes => Value::Bytes((!is_null).then(|| [&n.to_le_bytes()[..], &[0, 0xff]].concat())),
            Type::Truth => Value::Bool((!is_null).then_some(n % 2 == 0)),
        }
    };
    table.columns.iter().enumerate().map(value).collect()
}

async fn optional_columns(store: &Store, table: &Table) -> BTreeSet<String> {
    let sql = format!("SELECT name FROM pragma_table_info('{}') WHERE \"notnull\" = 0", table.name);
    let rows = store.write.query_all_raw(dialect::statement(&store.write, sql, [])).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// Returns all rows of each table, read with one statement.
async fn contents(location: &Location) -> Vec<(String, Vec<Vec<Value>>)> {
    let store = Store::open(location, Access::MoveFrom).await.unwrap();
    let mut contents = Vec::new();
    for table in schema::tables(&store.write).await.unwrap().into_iter().filter(|table| !table.is_shared()) {
        let columns = table.columns.iter().map(|column| match column.kind {
            Type::Number => format!("CAST({} AS BIGINT)", column.name),
            _ => format!("{} AS {}", column.name, column.name),
        });
        let columns: Vec<_> = columns.collect();
        let key = table.key.iter().map(|&index| format!("t.{}", table.columns[index].name));
        let key: Vec<_> = key.collect();
        let sql = format!("SELECT {} FROM {} t ORDER BY {}", columns.join(", "), table.name, key.join(", "));
        let rows = store.write.query_all_raw(dialect::statement(&store.write, sql, [])).await.unwrap();
        let row = |row| {
            let columns = table.columns.iter().enumerate();
            columns.map(|(index, column)| rows::value(row, index, column).unwrap()).collect()
        };
        // A start writes the clock again.
        if table.name != "log_clock" {
            contents.push((table.name.clone(), rows.iter().map(row).collect()));
        }
    }
    store.close().await;
    contents
}

#[tokio::test]
async fn each_table_arrives_equal_and_comes_back_equal() {
    let ends = Ends::new();
    let store = open(&ends.file).await;
    fill(&store).await;
    store.close().await;
    let before = contents(&ends.file).await;
    assert!(before.len() > 12 && before.iter().all(|(_, rows)| !rows.is_empty()), "{before:?}");

    let moved = ends.transfer(&ends.file, &ends.server).await.unwrap();
    assert_eq!((moved.rows_of("events"), moved.rows_of("mqtt_config")), (700, 1));
    assert_eq!(moved.tables.len(), before.len() + 1, "all of them, and the clock");
    for (after, before) in contents(&ends.server).await.iter().zip(&before) {
        assert_eq!(after, before);
    }
    let id = "INSERT INTO replays (state, from_at, to_at, topic, max_per_second, events, published, skipped, \
        position, last_seq, created_at) VALUES ('', 0, 0, '', 0, 0, 0, 0, 0, 0, 0) RETURNING id";
    let server = Postgres::shared();
    assert_eq!(server.execute(&ends.database, &id.replace("replays", "liveobject_0.replays")), "5001");

    let back = ends.other_file();
    ends.transfer(&ends.server, &back).await.unwrap();
    let mut after = contents(&back).await;
    let replays = after.iter_mut().find(|(table, _)| table == "replays").unwrap();
    replays.1.pop();
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after, before);
    }
    let store = open(&back).await;
    let row = store.write.query_one_raw(dialect::statement(&store.write, id, [])).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 5002);
    store.close().await;
}

#[tokio::test]
async fn no_table_is_forgotten() {
    let ends = Ends::new();
    let (file, server) = (open(&ends.file).await, open(&ends.server).await);
    let tables = schema::tables(&file.write).await.unwrap();
    let mut of_server = schema::tables(&server.write).await.unwrap();
    of_server.retain(|table| !table.is_shared());
    assert_eq!(tables, of_server);
    let names: BTreeSet<_> = tables.iter().map(|table| table.name.as_str()).collect();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let rows = file.write.query_all_raw(dialect::statement(&file.write, sql, [])).await.unwrap();
    let all: BTreeSet<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    let left: Vec<_> = all.iter().filter(|name| !names.contains(name.as_str())).collect();
    assert_eq!(left, ["event_blocks", "event_index", "moved", "seaql_migrations"]);

    // A table that only one of them has must be noticed.
    server.execute("CREATE TABLE dogs (id BIGINT PRIMARY KEY)").await.unwrap();
    server.close().await;
    file.close().await;
    let refusal = ends.refusal(&ends.file, &ends.server).await;
    assert!(refusal.contains("do not have the same tables"), "{refusal}");
    open(&ends.file).await.close().await;
}

#[tokio::test]
async fn the_old_database_is_not_used_again_by_mistake() {
    let ends = Ends::new();
    let store = open(&ends.file).await;
    store.execute("INSERT INTO deliveries (up_to_seq, acked_at) VALUES (7, 1)").await.unwrap();
    store.close().await;
    // The database was restored: later positions were given before.
    fs::write(ends.path().with_extension("db.seq"), crate::store::seq_mark::content(Seq(900))).unwrap();
    ends.transfer(&ends.file, &ends.server).await.unwrap();
    let store = open(&ends.server).await;
    assert_eq!((store.last_seq().await.unwrap(), store.cursor().await.unwrap()), (Seq(900), Seq(7)));
    store.close().await;

    for access in [Access::Service, Access::Exclusive, Access::Command] {
        let error = Store::open(&ends.file, access).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, OpenError::Marked { .. }), "{error:?}");
        assert!(text.contains(&format!("was moved to {} on ", ends.server)), "{text}");
    }
    let elsewhere = Location::parse(&Postgres::shared().url(&Postgres::shared().create_database())).unwrap();
    let refusal = ends.refusal(&ends.file, &elsewhere).await;
    assert!(refusal.contains("was moved to"), "{refusal}");
    let refusal = ends.refusal(&ends.server, &ends.file).await;
    assert!(
        refusal.contains("contains the data that was moved from it") && refusal.contains("`mv "),
        "{refusal}"
    );

    for expected in [Some(ends.server.to_string()), None] {
        assert_eq!(take_back(&ends.file).await.unwrap(), expected);
    }
    open(&ends.file).await.close().await;
}

#[tokio::test]
async fn a_move_that_was_cut_off_is_recognized_and_begins_again() {
    let ends = Ends::new();
    let store = open(&ends.file).await;
    fill(&store).await;
    store.close().await;
    let before = contents(&ends.file).await;
    ends.cut_off().await;
    assert_ne!(
        Postgres::shared().execute(&ends.database, "SELECT count(*) FROM liveobject_0.camera_days"),
        "0"
    );
    let error = not_opened(&ends.server).await;
    assert!(error.contains("is incomplete, because the move from") && error.contains("again"), "{error}");
    open(&ends.file).await.close().await;
    // That of another service.
    let other = ends.other_file();
    open(&other).await.close().await;
    let refusal = ends.refusal(&other, &ends.server).await;
    assert!(refusal.contains(&format!("the move from {}", ends.file)), "{refusal}");

    ends.transfer(&ends.file, &ends.server).await.unwrap();
    assert_eq!(contents(&ends.server).await, before);
    // It was cut off between its last two steps: neither database can be used.
    let again = format!(
        "INSERT INTO liveobject_0.moved SELECT 1, 'incomplete', '{}', {}",
        ends.file,
        mark_of(&ends.file).await
    );
    Postgres::shared().execute(&ends.database, &again);
    assert!(not_opened(&ends.server).await.contains("incomplete"));
    assert!(not_opened(&ends.file).await.contains("was moved to"));
    ends.transfer(&ends.file, &ends.server).await.unwrap();
    assert_eq!(contents(&ends.server).await, before);
    open(&ends.server).await.close().await;
}

async fn mark_of(location: &Location) -> i64 {
    let store = Store::open(location, Access::MoveFrom).await.unwrap();
    let mark = moved::find(&store.write).await.unwrap().unwrap();
    store.close().await;
    clock::to_micros(mark.at)
}

#[tokio::test]
async fn nothing_else_writes_to_the_old_database_during_the_move() {
    let ends = Ends::new();
    let store = open(&ends.file).await;
    fill(&store).await;
    store.close().await;
    let (begun, has_begun) = oneshot::channel();
    let mut begun = Some(begun);
    let progress = |_: Progress<'_>| begun.take().map_or((), |begun| begun.send(()).unwrap());
    let mut moving = pin!(transfer(&ends.file, &ends.server, &NoFiles, progress));
    tokio::select! {
        biased;
        _ = has_begun => {}
        moved = &mut moving => panic!("{moved:?}"),
    }
    let error = Store::open(&ends.file, Access::Command).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let error = Store::open(&ends.server, Access::Service).await.unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    moving.await.unwrap();
}

#[tokio::test]
async fn a_database_that_contains_anything_is_refused_and_not_changed() {
    let ends = Ends::new();
    open(&ends.file).await.close().await;
    let store = open(&ends.server).await;
    store.execute("INSERT INTO mqtt_config (id, client_id) VALUES (1, 'new')").await.unwrap();
    store
        .execute(
            "INSERT INTO cameras (camera_id, camera_name, source_type, is_doorbell, enabled, status, \
        status_at, event_types, revision) VALUES ('c', '', '', FALSE, TRUE, '', 0, '', 0)",
        )
        .await
        .unwrap();
    store.close().await;
    let before = contents(&ends.server).await;
    let refusal = ends.refusal(&ends.file, &ends.server).await;
    assert!(refusal.contains("is not empty (cameras: 1). Nothing was changed"), "{refusal}");
    assert_eq!(contents(&ends.server).await, before);
    let store = open(&ends.server).await;
    store.execute("DELETE FROM cameras").await.unwrap();
    store.close().await;
    ends.transfer(&ends.file, &ends.server).await.unwrap();
    let clients = "SELECT count(*) FROM liveobject.mqtt_config";
    assert_eq!(Postgres::shared().execute(&ends.database, clients), "0", "a service was only started");
}

#[tokio::test]
async fn a_target_that_makes_no_sense_is_refused() {
    let ends = Ends::new();
    open(&ends.file).await.close().await;
    let refusal = ends.refusal(&ends.file, &ends.other_file()).await;
    assert!(refusal.contains("both databases are SQLite files"), "{refusal}");
    open(&ends.server).await.close().await;
    let refusal = ends.refusal(&ends.server, &ends.server).await;
    assert!(refusal.contains("names the database that is configured"), "{refusal}");
    let text = Location::File(ends.dir.path().join("text.db"));
    fs::write(text.path().unwrap(), "no database").unwrap();
    let refusal = ends.refusal(&ends.server, &text).await;
    assert!(refusal.contains("not a SQLite database"), "{refusal}");
    assert_eq!(fs::read(text.path().unwrap()).unwrap(), b"no database");
    let missing = Location::parse(&Postgres::shared().url("missing")).unwrap();
    let refusal = ends.refusal(&ends.file, &missing).await;
    assert!(refusal.contains("does not exist: create it"), "{refusal}");
    assert!(!ends.other_file().path().unwrap().exists());
    open(&ends.file).await.close().await;
}
