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
    domain::status::ConnectionState,
    messages::{
        outbox::{AwaitCommit, GetOutbox, OutboxStatus},
        supervisor::{ConnectionStatus, GetStatus},
    },
    service::Handle,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

/// How often the status text is updated, if it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(3);

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
                tracing::warn!(%error, socket = %name.display(), "cannot report to the service manager");
                None
            }
        };
        Self { socket, watchdog, stopping: Cell::new(false) }
    }

    /// Reports that the start takes at least another minute, because a backup is being restored.
    pub fn restoring(&self) {
        self.send("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=restoring a backup");
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
            sleep(STATUS_EVERY).await;
        }
    }

    /// Sends a report. Returns whether that succeeded. A failure has no consequences here: the manager decides what to
    /// do without the report.
    fn send(&self, report: &str) -> bool {
        let Some((socket, address)) = &self.socket else { return false };
        let sent = socket.send_to_addr(report.as_bytes(), address);
        if let Err(error) = &sent {
            tracing::debug!(%error, report, "the service manager did not receive a report");
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
    fn signs_of_life_are_sent_only_if_they_are_expected_of_this_process() {
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
