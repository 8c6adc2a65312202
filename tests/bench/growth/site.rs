//! A data directory. The benchmark fills it, appends to it through the library, and starts the real program
//! on it.

use std::{
    cell::Cell,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt as _, future::join, stream};
use liveobject_actors::{
    DetectionEvent, PublishBatch, PublishEvent, Seq, Service, ServiceOptions, domain::clock::LogTime,
    testing::log::Log,
};
use liveobject_test_support as support;
use sea_orm::{ConnectionTrait as _, Database};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    events::{event, events, old_events},
    figures::Row,
    stats::{median, millis, number, quantile, rate},
};

/// One in this many events is dead. With ten cameras, all dead events belong to the first one.
pub const DEAD_EVERY: usize = 1000;

const BATCH: usize = 1000;
const BATCHES: usize = 50;
const SINGLES: usize = 200;
/// Number of appends before the measurement. After them the write-ahead log has reached the size at which it
/// is merged and then overwritten, which is the usual state of a service.
const UNMEASURED: usize = 500;
/// Duration of the measurement while nothing is removed.
const CALM: Duration = Duration::from_secs(10);
/// Maximum duration of the measurement during a sweep.
const MAX_SWEEP: Duration = Duration::from_mins(1);
const BETWEEN_APPENDS: Duration = Duration::from_millis(2);

/// A data directory; see the module's documentation.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    cameras: usize,
    filled: usize,
}

impl Site {
    /// Creates an empty data directory for events from this many cameras.
    pub fn new(cameras: usize) -> Self {
        let dir = TempDir::with_prefix("liveobject-growth-").expect("a temporary directory can be created");
        Self { dir, cameras, filled: 0 }
    }

    pub fn cameras(&self) -> usize {
        self.cameras
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("liveobject.db")
    }

    /// Returns the database size in MiB.
    pub fn mib(&self) -> f64 {
        let bytes = fs::metadata(self.database()).map_or(0, |file| file.len());
        number(bytes / 1024) / 1024.0
    }

    /// Fills the log up to `size` settled events without waiting for the disk. Returns the time by which nine
    /// in ten of them were settled.
    pub async fn fill(&mut self, size: usize, row: &mut Row) -> LogTime {
        let mut log = Log::open(&self.database()).await.expect("the log opens");
        log.disable_sync().await.expect("the database accepts a pragma");
        let (batch, start, before) = ((size / 10).min(BATCH), Instant::now(), self.filled);
        let mut cut = None;
        while self.filled < size {
            let count = batch.min(size - self.filled);
            let dead = |seq: Seq| usize::try_from(seq.0).is_ok_and(|seq| seq.is_multiple_of(DEAD_EVERY));
            log.append_settled(old_events(self.filled, count, self.cameras), dead).await.expect("a commit");
            self.filled += count;
            if cut.is_none() && self.filled >= size / 10 * 9 {
                cut = Some(log.now());
            }
        }
        row.record("fill_per_s", rate(self.filled - before, start.elapsed()));
        let cut = cut.unwrap_or_else(|| log.now());
        log.close().await;
        sync(&self.database());
        cut
    }

    /// Adds all events to the index for the search, and measures how long single appends take in the meantime.
    pub async fn index(&self, row: &mut Row) {
        let mut log = Log::open(&self.database()).await.expect("the log opens");
        let (start, before) = (Instant::now(), self.mib());
        let indexed = Cell::new(0);
        let index = Box::pin(log.index());
        let times = self
            .append_until(&mut log, async { indexed.set(index.await.expect("the log can be read")) })
            .await;
        row.record("indexed_per_s", rate(indexed.get() * 2048, start.elapsed()));
        row.record("index_p99_ms", quantile(&times, 0.99));
        row.record("index_longest_ms", quantile(&times, 1.0));
        log.close().await;
        row.record("index_mib", self.mib() - before);
    }

    /// Returns the real program for this directory without starting it.
    pub fn program(&self) -> support::Service {
        let builder = support::Service::builder(env!("CARGO_BIN_EXE_liveobject")).data_dir(self.dir.path());
        // The whole log may be pending.
        builder.env("LIVEOBJECT__OUTBOX__MAX_PENDING", 100_000_000).build()
    }

    /// Makes the whole log pending while `measure` runs, which receives the program for this directory.
    pub async fn with_everything_pending(&self, measure: impl AsyncFnOnce(support::Service)) {
        self.execute(&[
            "CREATE TABLE saved AS SELECT * FROM deliveries",
            "DELETE FROM deliveries",
            "DELETE FROM deliveries_ahead",
        ])
        .await;
        measure(self.program()).await;
        self.execute(&[
            "DELETE FROM deliveries",
            "INSERT INTO deliveries SELECT * FROM saved",
            "DROP TABLE saved",
        ])
        .await;
    }

    async fn execute(&self, statements: &[&str]) {
        let url = format!("sqlite://{}", self.database().display());
        let connection = Database::connect(url).await.expect("the database opens");
        for statement in statements {
            connection.execute_unprepared(statement).await.expect("the statement is valid");
        }
        connection.close().await.expect("the connection closes");
    }

    /// Measures durable appends through a service in this process: batches of 1,000, two at a time, then
    /// single events.
    pub async fn append(&mut self, row: &mut Row) {
        let service =
            Service::start(ServiceOptions::in_dir(self.dir.path())).await.expect("the service starts");
        let handle = service.handle();
        let batches: Vec<Vec<DetectionEvent>> =
            (0..BATCHES).map(|number| events(self.filled + number * BATCH, BATCH, self.cameras)).collect();
        let start = Instant::now();
        let sent = stream::iter(batches).map(|batch| handle.publish_batch.send(PublishBatch::new(batch)));
        let results: Vec<_> = sent.buffer_unordered(2).collect().await;
        let took = start.elapsed();
        let accepted =
            results.into_iter().map(|result| result.expect("the service runs").expect("accepted").len());
        row.record("append_per_s", rate(accepted.sum::<usize>(), took));
        let mut times = Vec::with_capacity(SINGLES);
        for number in 0..UNMEASURED + SINGLES {
            let event = event(self.filled + number, self.cameras);
            let start = Instant::now();
            handle.publish.send(PublishEvent::new(event)).await.expect("the service runs").expect("accepted");
            times.push(millis(start.elapsed()));
        }
        row.record("append_one_ms", median(&times[UNMEASURED..]));
        service.stop().await;
    }

    /// Measures appends while nothing else happens, and while a sweep removes the events that were settled
    /// before `cut`. It works on a copy of the database, unless this is the last measurement of this
    /// directory.
    pub async fn sweep(&self, cut: LogTime, is_last: bool, row: &mut Row) {
        let copy = TempDir::with_prefix("liveobject-growth-").expect("a temporary directory can be created");
        let path = if is_last { self.database() } else { copy.path().join("liveobject.db") };
        if !is_last {
            fs::copy(self.database(), &path).expect("the database can be copied");
            sync(&path);
        }
        let mut log = Log::open(&path).await.expect("the log opens");
        let first = log.first_seq().await.expect("the log can be read");
        for number in 0..UNMEASURED {
            log.append(vec![event(number, self.cameras)]).await.expect("a commit");
        }
        let calm = self.append_until(&mut log, async { sleep(CALM).await }).await;
        row.record("calm_median_ms", median(&calm));
        row.record("calm_p99_ms", quantile(&calm, 0.99));
        row.record("calm_longest_ms", quantile(&calm, 1.0));
        let (sweep, start) = (Box::pin(log.sweep(cut)), Instant::now());
        let done = async {
            // A large sweep is observed only for a limited time, not until it ends.
            if let Ok(result) = timeout(MAX_SWEEP, sweep).await {
                result.expect("the sweep succeeds");
            }
        };
        let swept = self.append_until(&mut log, done).await;
        let took = start.elapsed();
        let removed = log.first_seq().await.expect("the log can be read").0 - first.0;
        row.record("swept", number(removed));
        row.record("swept_per_s", rate(removed, took));
        row.record("swept_median_ms", median(&swept));
        row.record("swept_p99_ms", quantile(&swept, 0.99));
        row.record("swept_longest_ms", quantile(&swept, 1.0));
        log.close().await;
    }

    /// Appends one event after the other until `done` is ready. Returns the duration of each append in
    /// milliseconds.
    async fn append_until(&self, log: &mut Log, done: impl Future<Output = ()>) -> Vec<f64> {
        let is_done = Cell::new(false);
        let done = async {
            done.await;
            is_done.set(true);
        };
        let appends = async {
            let mut times = Vec::new();
            loop {
                let event = event(times.len(), self.cameras);
                let start = Instant::now();
                log.append(vec![event]).await.expect("a commit");
                times.push(millis(start.elapsed()));
                if is_done.get() {
                    return times;
                }
                sleep(BETWEEN_APPENDS).await;
            }
        };
        join(done, appends).await.1
    }
}

/// Syncs the data that was written without waiting for the disk. Otherwise a later, measured sync would have
/// to wait for that data.
fn sync(file: &Path) {
    File::open(file).and_then(|file| file.sync_all()).expect("the database can be synced");
}
