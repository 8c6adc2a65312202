//! Reports to the service manager, such as systemd, in the protocol of `sd_notify(3)`.
//!
//! The crate sd-notify is not used: it does not support abstract sockets, and waits without a limit if the manager does
//! not read.

use std::{
    cell::Cell,
    convert::Infallible,
    ffi::OsStr,
    fmt::Write as _,
    future::pending,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use futures_util::future::join;
use liveobject_actors::{
    domain::{causes::with_causes, node::NodeView, status::ConnectionState},
    messages::{
        outbox::{AwaitCommit, GetOutbox, OutboxStatus},
        supervisor::{ConnectionStatus, GetStatus},
    },
    service::Handle,
    ticks,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// How often the status text is updated, if it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(3);

/// How often the start is checked for progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// How long the manager is asked to wait until the start is complete or has made further progress.
const EXTENSION: Duration = Duration::from_mins(3);

/// The processor time between two checks below which the process counts as idle. The checks themselves need far less.
const IDLE: Duration = Duration::from_millis(20);

/// How long a report may wait until the manager reads earlier ones. It delays all actors.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// The shortest pause between two keep-alive reports.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The time within which the manager expects a keep-alive report. `None` if it expects none.
    watchdog: Option<Duration>,
    /// Whether the service is stopping. The status text no longer changes then.
    stopping: Cell<bool>,
}

impl ServiceManager {
    /// Connects to the manager that the environment names. A name that cannot be used is logged.
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let text = |name| std::env::var(name).ok();
        let watchdog = watchdog(text("WATCHDOG_USEC"), text("WATCHDOG_PID"), std::process::id());
        let socket = match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(
                    error = %with_causes(&error), socket = %name.display(),
                    "cannot report to the service manager"
                );
                None
            }
        };
        Self { socket, watchdog, stopping: Cell::new(false) }
    }

    /// Asks for more time while the start makes progress. Runs forever. The upgrade of a large database on a slow disk
    /// may take longer than the manager waits, and would then begin again at each start. A start that hangs gets no
    /// more time.
    pub async fn starting(&self) -> Infallible {
        self.report_progress(Work::of_process).await
    }

    async fn report_progress(&self, work: impl Fn() -> Work) -> Infallible {
        if self.socket.is_none() {
            return pending().await;
        }
        self.send("STATUS=starting");
        let (began, mut before) = (Instant::now(), work());
        loop {
            sleep(PROGRESS_EVERY).await;
            let now = work();
            if now.is_progress_since(before) {
                self.send(&format!(
                    "EXTEND_TIMEOUT_USEC={}\nSTATUS=starting: preparing the database for {} s",
                    EXTENSION.as_micros(),
                    began.elapsed().as_secs()
                ));
            }
            before = now;
        }
    }

    /// Reports that events are accepted, after the start or after a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that the configuration is being read again. Call [`ready`](Self::ready) afterwards.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// Reports that the service is stopping.
    pub fn stopping(&self) {
        self.stopping.set(true);
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Reports the status, and that the service is alive, forever.
    pub async fn run(&self, handle: &Handle) -> Infallible {
        if self.socket.is_none() {
            return pending().await;
        }
        join(self.keep_alive(handle), self.report_status(handle)).await.0
    }

    /// Like [`run`](Self::run), for a standby.
    pub async fn run_standby(&self, mut view: watch::Receiver<NodeView>) -> Infallible {
        if self.socket.is_none() {
            return pending().await;
        }
        let keep_alive = async {
            let Some(within) = self.watchdog else { return pending().await };
            loop {
                self.send("WATCHDOG=1");
                sleep((within / 2).max(SHORTEST_PAUSE)).await;
            }
        };
        let report = async {
            loop {
                let active = view.borrow_and_update().active.as_ref().map(|active| active.name.clone());
                let active = active.unwrap_or_else(|| "no node".to_owned());
                self.send(&format!("STATUS=standby; {active} is active"));
                if view.changed().await.is_err() {
                    return pending().await;
                }
            }
        };
        let (never, _): (Infallible, Infallible) = join(keep_alive, report).await;
        never
    }

    /// Sends keep-alive reports while the event log works. Each one follows a response of the outbox, which waits for
    /// the running commit. A failed commit does not stop the reports, but a commit that hangs does.
    async fn keep_alive(&self, handle: &Handle) -> Infallible {
        let Some(within) = self.watchdog else { return pending().await };
        loop {
            if handle.await_commit.send(AwaitCommit).await.is_err() {
                // The outbox has stopped, so the process ends soon.
                return pending().await;
            }
            self.send("WATCHDOG=1");
            sleep((within / 2).max(SHORTEST_PAUSE)).await;
        }
    }

    async fn report_status(&self, handle: &Handle) -> Infallible {
        let mut reported = String::new();
        loop {
            if let (Ok(connection), Ok(outbox)) =
                join(handle.status.send(GetStatus), handle.outbox.send(GetOutbox)).await
                && !self.stopping.get()
            {
                let status = status(&connection, &outbox);
                if status != reported && self.send(&format!("STATUS={status}")) {
                    reported = status;
                }
            }
            sleep(ticks::until_next(STATUS_EVERY)).await;
        }
    }

    /// Sends a report. Returns whether that succeeded. A failure has no consequences here: the manager decides what to
    /// do without the report.
    fn send(&self, report: &str) -> bool {
        let Some((socket, address)) = &self.socket else { return false };
        let sent = socket.send_to_addr(report.as_bytes(), address);
        if let Err(error) = &sent {
            tracing::debug!(error = %with_causes(&error), report, "the service manager did not receive a report");
        }
        sent.is_ok()
    }
}

/// Opens a socket for reports to `name`: a path, or `@` and the name of an abstract socket.
fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

/// What the process has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Work {
    processor_time: Duration,
    /// Bytes read from disks and written to them; 0 if unknown.
    disk_bytes: u64,
}

impl Work {
    fn of_process() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let bytes = |line: &str| {
            let (name, bytes) = line.split_once(": ")?;
            if matches!(name, "read_bytes" | "write_bytes") { bytes.parse::<u64>().ok() } else { None }
        };
        let disk_bytes = io.lines().filter_map(bytes).sum();
        Self { processor_time: Duration::new(seconds, nanoseconds), disk_bytes }
    }

    fn is_progress_since(self, before: Self) -> bool {
        self.disk_bytes != before.disk_bytes
            || self.processor_time.saturating_sub(before.processor_time) >= IDLE
    }
}

/// Returns the time within which the manager expects a keep-alive report from the process `own`, according to these
/// variables.
fn watchdog(usec: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

/// Returns the status in one line.
fn status(connection: &ConnectionStatus, outbox: &OutboxStatus) -> String {
    let broker = connection.broker.as_deref();
    let mut text = match (connection.state, broker) {
        (_, None) => "no broker configured".to_owned(),
        (ConnectionState::Disabled, _) => "MQTT is switched off".to_owned(),
        (ConnectionState::Connected, Some(broker)) => format!("connected to {broker}"),
        (ConnectionState::Connecting, Some(broker)) => format!("connecting to {broker}"),
        (ConnectionState::Waiting, Some(broker)) => format!("not connected to {broker}"),
    };
    let _infallible = write!(text, ", {} waiting, {} dead", outbox.pending, outbox.dead);
    if outbox.database_unavailable {
        text.push_str("; the database does not work, no events are accepted");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_reports_are_sent_only_if_they_are_expected_of_this_process() {
        let of = |usec: &str, pid: Option<&str>| watchdog(Some(usec.to_owned()), pid.map(str::to_owned), 7);
        assert_eq!(of("30000000", Some("7")), Some(Duration::from_secs(30)));
        assert_eq!(of("30000000", None), Some(Duration::from_secs(30)));
        for (usec, pid) in
            [("30000000", Some("8")), ("30000000", Some("")), ("0", None), ("", None), ("x", None)]
        {
            assert_eq!(of(usec, pid), None, "{usec} {pid:?}");
        }
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[actix_rt::test(system = "liveobject_actors::System")]
    async fn a_start_gets_more_time_while_it_makes_progress() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let received = || {
            let mut buffer = [0; 4096];
            receiver
                .recv(&mut buffer)
                .ok()
                .map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        let socket = Some(connect(path.as_os_str()).unwrap());
        let manager = ServiceManager { socket, ..ServiceManager::default() };
        let disk_bytes = Cell::new(0);
        let work = || Work { processor_time: IDLE / 2, disk_bytes: disk_bytes.get() };
        tokio::time::pause();
        let mut starting = std::pin::pin!(manager.report_progress(work));
        let mut pass = async || {
            tokio::select! {
                never = &mut starting => match never {},
                () = sleep(PROGRESS_EVERY + IDLE) => {}
            }
        };
        pass().await;
        assert_eq!(received().as_deref(), Some("STATUS=starting"));
        assert_eq!(received(), None, "a start that hangs gets no more time");
        disk_bytes.set(1);
        pass().await;
        let extended = received().unwrap();
        assert!(extended.starts_with("EXTEND_TIMEOUT_USEC=180000000\nSTATUS=starting: "), "{extended}");
        pass().await;
        assert_eq!(received(), None);
    }

    #[test]
    fn the_process_itself_makes_progress_while_it_computes() {
        let before = Work::of_process();
        assert!(!before.is_progress_since(before));
        while !Work::of_process().is_progress_since(before) {}
    }

    #[test]
    fn the_status_names_the_broker_and_what_waits() {
        let connection = |state, broker: Option<&str>| ConnectionStatus {
            state,
            broker: broker.map(str::to_owned),
            protocol: None,
            last_connected_at: None,
            last_error: None,
            reconnect_attempt: 0,
            next_attempt_at: None,
            warnings: Vec::new(),
        };
        let outbox = OutboxStatus { pending: 5, dead: 1, ..OutboxStatus::default() };
        let broker = Some("ha.lan:1883");
        for (state, broker, expected) in [
            (ConnectionState::Connected, broker, "connected to ha.lan:1883, 5 waiting, 1 dead"),
            (ConnectionState::Waiting, broker, "not connected to ha.lan:1883, 5 waiting, 1 dead"),
            (ConnectionState::Disabled, broker, "MQTT is switched off, 5 waiting, 1 dead"),
            (ConnectionState::Disabled, None, "no broker configured, 5 waiting, 1 dead"),
        ] {
            assert_eq!(status(&connection(state, broker), &outbox), expected);
        }
        let outbox = OutboxStatus { database_unavailable: true, ..OutboxStatus::default() };
        let text = status(&connection(ConnectionState::Disabled, None), &outbox);
        assert!(text.ends_with("0 dead; the database does not work, no events are accepted"), "{text}");
    }
}
