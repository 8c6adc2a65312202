//! What the service writes to the disk: bytes and syncs per event, at rates at which each event is on its own. Also the
//! CPU time per event and the wake-ups of the process at these rates.
//!
//! The bytes are those that the process hands to the page cache (`write_bytes` in `/proc/PID/io`). They do not include
//! the journal of the file system. The syncs are counted by strace; without it, they are not shown.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use liveobject_test_support::Mosquitto;
use tokio::time::{Instant, interval, sleep};

use crate::{
    client::{self, Connection},
    events,
    service::Running,
    stats::number,
    tls::Links,
    usage,
};

/// Number of events in the log before the measurement. With them, the write-ahead log has reached its final size: while
/// it grows, each sync also writes the file system's journal.
const FILL: usize = 32_000;

/// A connected service that has written nothing for this long has nothing more to do. It includes the first sweep of
/// the log, a minute after the start.
const SETTLED: Duration = Duration::from_secs(75);

/// Maximum time to wait for that. Until then, the events that were just filled in are added to the search index.
const MAX_SETTLE: Duration = Duration::from_mins(10);

const POLL: Duration = Duration::from_secs(1);

/// Time until strace is attached to all threads.
const ATTACHED: Duration = Duration::from_secs(2);

/// Time after the last event in which its delivery is recorded.
const RECORDED: Duration = Duration::from_millis(500);

/// One rate.
#[derive(Debug, Clone, Copy)]
struct Load {
    name: &'static str,
    /// Number of events in a request.
    batch: usize,
    every: Duration,
    /// Number of requests in a full measurement.
    requests: usize,
}

/// After it, the write-ahead log contains only events that were written like those that are measured: the log of the
/// first events was merged.
const WARM_UP: Load = Load { name: "warm-up", batch: 1, every: Duration::from_millis(1), requests: 1500 };

const LOADS: [Load; 4] = [
    Load { name: "1 event/s", batch: 1, every: Duration::from_secs(1), requests: 240 },
    Load { name: "10 events/s", batch: 1, every: Duration::from_millis(100), requests: 1200 },
    Load { name: "100 events/s", batch: 1, every: Duration::from_millis(10), requests: 6000 },
    Load {
        name: "100 events in a batch, every second",
        batch: 100,
        every: Duration::from_secs(1),
        requests: 60,
    },
];

/// What one rate costs.
#[derive(Debug)]
pub struct Wear {
    pub name: &'static str,
    pub events: usize,
    pub bytes_per_event: f64,
    /// NaN if strace is not installed.
    pub syncs_per_event: f64,
    pub cpu_millis_per_event: f64,
    pub wake_ups_per_second: f64,
}

/// What an idle service costs.
#[derive(Debug, Default)]
pub struct Idle {
    pub seconds: f64,
    pub bytes: u64,
    /// `None` if strace is not installed.
    pub syncs: Option<usize>,
    pub cpu_percent: f64,
    pub wake_ups_per_second: f64,
}

/// The costs of all rates.
#[derive(Debug, Default)]
pub struct Wears {
    pub idle: Idle,
    pub loads: Vec<Wear>,
}

/// Measures an idle service for this long, and each rate with a part of its requests.
pub async fn measure(broker: &Mosquitto, idle: Duration, divided_by: usize) -> Wears {
    let running = Running::connected(Links::plain(broker), 1).await;
    running.fill(FILL).await;
    running.wait_acknowledged(FILL).await;
    let mut connection = running.open().await;
    post(&running, &mut connection, WARM_UP, WARM_UP.requests).await;
    drop(connection);
    settle(running.pid(), SETTLED.min(idle)).await;
    let mut wears = Wears { idle: measure_idle(&running, idle).await, loads: Vec::new() };
    for load in LOADS {
        wears.loads.push(measure_load(&running, load, divided_by).await);
    }
    wears
}

/// Waits until the process has written nothing for this long.
async fn settle(pid: u32, quiet: Duration) {
    let started = Instant::now();
    let (mut bytes, mut since) = (usage::bytes_written(pid), started);
    while since.elapsed() < quiet && started.elapsed() < MAX_SETTLE {
        sleep(POLL).await;
        let now = usage::bytes_written(pid);
        if now != bytes {
            (bytes, since) = (now, Instant::now());
        }
    }
}

async fn measure_idle(running: &Running<'_>, time: Duration) -> Idle {
    let (pid, half) = (running.pid(), time / 2);
    let bytes = usage::bytes_written(pid);
    let before = (usage::fine_cpu(pid), usage::wake_ups(pid));
    sleep(half).await;
    let cpu = usage::fine_cpu(pid).saturating_sub(before.0);
    let wake_ups = usage::wake_ups(pid).saturating_sub(before.1);
    let syncs = Syncs::count(running).await;
    sleep(half).await;
    Idle {
        seconds: time.as_secs_f64(),
        bytes: usage::bytes_written(pid) - bytes,
        syncs: syncs.map(Syncs::finish),
        cpu_percent: cpu.as_secs_f64() / half.as_secs_f64() * 100.0,
        wake_ups_per_second: float(wake_ups) / half.as_secs_f64(),
    }
}

async fn measure_load(running: &Running<'_>, load: Load, divided_by: usize) -> Wear {
    let (pid, half) = (running.pid(), load.requests / divided_by / 2);
    let mut connection = running.open().await;
    // Nothing else uses the CPU in the first half; strace does in the second.
    let bytes = usage::bytes_written(pid);
    let (cpu, wake_ups, started) = (usage::fine_cpu(pid), usage::wake_ups(pid), Instant::now());
    post(running, &mut connection, load, half).await;
    let cpu = usage::fine_cpu(pid).saturating_sub(cpu);
    let wake_ups = float(usage::wake_ups(pid).saturating_sub(wake_ups)) / started.elapsed().as_secs_f64();
    let syncs = Syncs::count(running).await;
    post(running, &mut connection, load, half).await;
    sleep(RECORDED).await;
    let syncs = syncs.map(Syncs::finish);
    let (events, half) = (half * load.batch * 2, half * load.batch);
    Wear {
        name: load.name,
        events,
        bytes_per_event: float(usage::bytes_written(pid) - bytes) / number(events),
        syncs_per_event: syncs.map_or(f64::NAN, |syncs| number(syncs) / number(half)),
        cpu_millis_per_event: cpu.as_secs_f64() * 1000.0 / number(half),
        wake_ups_per_second: wake_ups,
    }
}

async fn post(running: &Running<'_>, connection: &mut Connection, load: Load, requests: usize) {
    let (token, mut clock) = (running.service.token(), interval(load.every));
    for request in 0..requests {
        let first = request * load.batch;
        let request = if load.batch == 1 {
            client::post("/api/v1/events", &token, &events::json(first))
        } else {
            client::post("/api/v1/events/batch", &token, &events::batch(first, load.batch))
        };
        clock.tick().await;
        connection.send_accepted(&request).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Counts the syncs of a process, with strace.
struct Syncs {
    strace: Child,
    calls: PathBuf,
}

impl Syncs {
    async fn count(running: &Running<'_>) -> Option<Self> {
        let calls = running.data_dir().with_file_name("syncs");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-p"]).arg(running.pid().to_string());
        let strace = strace.arg("-o").arg(&calls).stderr(Stdio::null()).spawn().ok()?;
        sleep(ATTACHED).await;
        Some(Self { strace, calls })
    }

    fn finish(mut self) -> usize {
        let pid = self.strace.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().expect("kill can be run");
        self.strace.wait().expect("strace ends");
        let calls = fs::read_to_string(self.calls).expect("strace has written its output");
        calls.lines().filter(|line| line.contains("sync(")).count()
    }
}
