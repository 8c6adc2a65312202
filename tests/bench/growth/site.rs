//! A data directory: filled, written to by the library in this process, asked over REST in the real program.

use std::{
    cell::Cell,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt as _, future::join, stream};
use liveobject_actors::{
    DetectionEvent, PublishBatch, PublishEvent, Seq, Service, ServiceOptions,
    domain::clock::{self, Timestamp},
    testing::log::Log,
};
use liveobject_test_support as support;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    events::{event, events},
    figures::{Row, median, number, percentile},
};

/// One event in so many is dead. All of them are of the first camera when there are ten.
pub const DEAD_EVERY: usize = 1000;

const BATCH: usize = 1000;
const BATCHES: usize = 50;
const SINGLES: usize = 200;
/// Until the write-ahead log has the size at which it is merged, and is written over from then on: appends as they are later.
const UNMEASURED: usize = 500;
/// How long appends are watched while nothing is removed, and while a sweep removes.
const CALM: Duration = Duration::from_secs(10);
const SWEPT_FOR: Duration = Duration::from_mins(1);
const BETWEEN_APPENDS: Duration = Duration::from_millis(2);

/// See the module's documentation.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    cameras: usize,
    filled: usize,
}

impl Site {
    /// An empty one, with events of so many cameras.
    pub fn new(cameras: usize) -> Self {
        let dir = TempDir::with_prefix("liveobject-growth-").expect("a temporary directory can be made");
        Self { dir, cameras, filled: 0 }
    }

    /// How many cameras it has.
    pub fn cameras(&self) -> usize {
        self.cameras
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("liveobject.db")
    }

    /// The size of its database.
    pub fn mib(&self) -> f64 {
        let bytes = fs::metadata(self.database()).map_or(0, |file| file.len());
        number(bytes / 1024) / 1024.0
    }

    /// Fills the log up to so many settled events, without waiting for the disk. Answers when nine in ten were settled.
    pub async fn fill(&mut self, size: usize, row: &mut Row) -> Timestamp {
        let mut log = Log::open(&self.database()).await.expect("the log opens");
        log.disable_sync().await.expect("the database takes a pragma");
        let (batch, start, before) = ((size / 10).min(BATCH), Instant::now(), self.filled);
        let mut cut = None;
        while self.filled < size {
            let count = batch.min(size - self.filled);
            let dead = |seq: Seq| usize::try_from(seq.0).is_ok_and(|seq| seq.is_multiple_of(DEAD_EVERY));
            log.append_settled(events(self.filled, count, self.cameras), dead).await.expect("a commit");
            self.filled += count;
            if cut.is_none() && self.filled >= size / 10 * 9 {
                cut = Some(clock::now());
            }
        }
        row.note("fill_per_s", number(self.filled - before) / start.elapsed().as_secs_f64());
        log.close().await;
        sync(&self.database());
        cut.unwrap_or_else(clock::now)
    }

    /// The real program on this directory, not started.
    pub fn program(&self) -> support::Service {
        support::Service::builder(env!("CARGO_BIN_EXE_liveobject")).data_dir(self.dir.path()).build()
    }

    /// Appends through the service in this process, safely: batches of 1,000, two at a time, and one by one.
    pub async fn append(&mut self, row: &mut Row) {
        let service = Service::start(ServiceOptions::in_dir(self.dir.path())).await.expect("it starts");
        let handle = service.handle();
        let batches: Vec<Vec<DetectionEvent>> =
            (0..BATCHES).map(|number| events(self.filled + number * BATCH, BATCH, self.cameras)).collect();
        let start = Instant::now();
        let sent = stream::iter(batches).map(|batch| handle.publish_batch.send(PublishBatch(batch)));
        let receipts: Vec<_> = sent.buffer_unordered(2).collect().await;
        let took = start.elapsed();
        let accepted = receipts.into_iter().map(|answer| answer.expect("it lives").expect("accepted").len());
        row.note("append_per_s", number(accepted.sum::<usize>()) / took.as_secs_f64());
        let mut times = Vec::with_capacity(SINGLES);
        for number in 0..UNMEASURED + SINGLES {
            let event = event(self.filled + number, self.cameras);
            let start = Instant::now();
            handle.publish.send(PublishEvent::new(event)).await.expect("it lives").expect("accepted");
            times.push(start.elapsed());
        }
        row.note_ms("append_one_ms", median(times.split_off(UNMEASURED)));
        service.stop().await;
    }

    /// The longest append while nothing else happens, and while a sweep removes what was settled before `cut`. On a copy,
    /// unless this is the last that is measured here.
    pub async fn sweep(&self, cut: Timestamp, is_last: bool, row: &mut Row) {
        let copy = TempDir::with_prefix("liveobject-growth-").expect("a temporary directory can be made");
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
        row.note_ms("calm_median_ms", median(calm.clone()));
        row.note_ms("calm_p99_ms", percentile(calm.clone(), 99));
        row.note_ms("calm_longest_ms", calm.into_iter().max().unwrap_or_default());
        let (sweep, start) = (Box::pin(log.sweep(cut)), Instant::now());
        let done = async {
            // A large one is watched for a while, not to its end.
            if let Ok(swept) = timeout(SWEPT_FOR, sweep).await {
                swept.expect("the sweep works");
            }
        };
        let swept = self.append_until(&mut log, done).await;
        let took = start.elapsed();
        let gone = log.first_seq().await.expect("the log can be read").0 - first.0;
        row.note("swept", number(gone));
        row.note("swept_per_s", number(gone) / took.as_secs_f64());
        row.note_ms("swept_median_ms", median(swept.clone()));
        row.note_ms("swept_p99_ms", percentile(swept.clone(), 99));
        row.note_ms("swept_longest_ms", swept.into_iter().max().unwrap_or_default());
        log.close().await;
    }

    /// Appends one event after the other until something is done: how long each took.
    async fn append_until(&self, log: &mut Log, done: impl Future<Output = ()>) -> Vec<Duration> {
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
                times.push(start.elapsed());
                if is_done.get() {
                    return times;
                }
                sleep(BETWEEN_APPENDS).await;
            }
        };
        join(done, appends).await.1
    }
}

/// Has the disk take what was written in a hurry: otherwise it does so while others wait for their own sync.
fn sync(file: &Path) {
    File::open(file).and_then(|file| file.sync_all()).expect("the database can be synced");
}
