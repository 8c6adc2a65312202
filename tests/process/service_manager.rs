//! The service as the service manager sees it: a socket of the test receives its reports.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram as StdDatagram},
    },
    time::Duration,
};

use liveobject_test_support::{Service, ServiceBuilder, wait_until};
use tempfile::TempDir;
use tokio::{
    net::UnixDatagram,
    time::{sleep, timeout},
};

use crate::helpers::{Database, TIMEOUT, broker_and_subscriber, event, service, stop};

/// How long a commit hangs. In this time, a service that works would send seven keep-alive reports.
const HANG: Duration = Duration::from_millis(1500);
const WATCHDOG_USEC: u64 = 400_000;

/// The receiver of the reports.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _dir: TempDir,
}

impl Manager {
    /// Listens on a socket in the file system.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the socket can be bound");
        Self { socket, name: path.display().to_string(), _dir: dir }
    }

    /// Listens on an abstract socket.
    fn abstract_socket() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let name = dir.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).expect("a valid name");
        let socket = StdDatagram::bind_addr(&address).expect("the socket can be bound");
        socket.set_nonblocking(true).expect("the socket can be changed");
        let socket = UnixDatagram::from_std(socket).expect("the socket is valid");
        Self { socket, name: format!("@{name}"), _dir: dir }
    }

    /// Returns a builder for a service that reports here.
    fn service(&self) -> ServiceBuilder {
        service().env("NOTIFY_SOCKET", &self.name)
    }

    /// Returns the reports up to the first one that contains `part`.
    async fn until(&self, part: &str) -> Vec<String> {
        let mut reports = Vec::new();
        let until = async {
            while !reports.last().is_some_and(|last: &String| last.contains(part)) {
                let mut buffer = [0; 4096];
                let length = self.socket.recv(&mut buffer).await.expect("a report");
                reports.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        };
        let found = timeout(TIMEOUT, until).await;
        found.unwrap_or_else(|_| panic!("{part:?} was not reported: {reports:#?}"));
        reports
    }

    /// Returns the reports that have arrived.
    fn arrived(&self) -> Vec<String> {
        let mut reports = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.try_recv(&mut buffer) {
            reports.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        reports
    }
}

fn keep_alive_reports(reports: &[String]) -> usize {
    reports.iter().filter(|report| *report == "WATCHDOG=1").count()
}

#[tokio::test]
async fn the_service_manager_learns_when_events_are_accepted_the_status_and_when_the_service_stops() {
    let manager = Manager::new();
    let (broker, _subscriber) = broker_and_subscriber().await;
    let mut service = manager.service().start().await;
    assert_eq!(manager.until("READY=1").await, ["STATUS=starting", "READY=1"]);
    let _ = service.post_event(&event("a")).await.expect(202);
    manager.until("STATUS=no broker configured, 1 waiting, 0 dead").await;
    service.connect_to(broker.port()).await;
    manager.until(&format!("STATUS=connected to 127.0.0.1:{}, 0 waiting, 0 dead", broker.port())).await;
    stop(&mut service).await;
    assert_eq!(
        manager.until("STOPPING=1").await,
        ["STOPPING=1\nSTATUS=stopping"],
        "nothing has changed before"
    );
    assert!(!service.log_text().contains("WARN"), "{}", service.log_text());
}

#[tokio::test]
async fn an_abstract_socket_of_the_service_manager_is_supported() {
    let manager = Manager::abstract_socket();
    let mut service = manager.service().build();
    service.spawn();
    manager.until("READY=1").await;
    assert_eq!(service.run(&["health"]).await.code, 0, "events are accepted");
}

#[tokio::test]
async fn a_socket_of_the_service_manager_that_cannot_be_used_does_not_disturb_the_service() {
    for name in ["/nowhere/notify", "relative", &"/x".repeat(200)] {
        let service = service().env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", 1000).start().await;
        let _ = service.post_event(&event("a")).await.expect(202);
    }
}

#[tokio::test]
async fn keep_alive_reports_stop_while_a_commit_hangs() {
    let manager = Manager::new();
    let service = manager.service().env("WATCHDOG_USEC", WATCHDOG_USEC).start().await;
    for _ in 0..3 {
        manager.until("WATCHDOG=1").await;
    }
    let other = Database::open(&service).await;
    let lock = other.lock().await;
    let body = event("hangs");
    let hang = async {
        // The commit begins a moment after the request.
        sleep(HANG / 3).await;
        manager.arrived();
        sleep(HANG).await;
        let reports = manager.arrived();
        lock.rollback().await.expect("the lock can be released");
        reports
    };
    let (response, while_hanging) = tokio::join!(service.post_event(&body), hang);
    assert_eq!(keep_alive_reports(&while_hanging), 0, "{while_hanging:?}");
    let _ = response.expect(202);
    manager.until("WATCHDOG=1").await;
    manager.until("WATCHDOG=1").await;
}

#[tokio::test]
async fn a_reload_is_reported_with_its_time() {
    let manager = Manager::new();
    let mut service = manager.service().build();
    service.spawn();
    manager.until("READY=1").await;
    service.sighup();
    let reports = manager.until("READY=1").await;
    let reloading = reports.iter().find_map(|report| report.strip_prefix("RELOADING=1\nMONOTONIC_USEC="));
    let at: u64 = reloading.expect("a report of the reload").parse().expect("a number");
    assert!(at > 0);
    assert!(reports.iter().all(|report| !report.contains("WATCHDOG")), "nobody requested keep-alive reports");
}

/// Starts a service whose database is locked, and returns the service and the connection that holds the lock.
async fn starting() -> (Service, Database) {
    let mut service = service().start().await;
    stop(&mut service).await;
    let other = Database::open(&service).await;
    other.execute("BEGIN EXCLUSIVE").await;
    let before = service.log_text().matches("configuration read").count();
    service.spawn();
    wait_until("the service starts", TIMEOUT, async || {
        service.log_text().matches("configuration read").count() > before
    })
    .await;
    (service, other)
}

#[tokio::test]
async fn sighup_during_the_start_is_carried_out_after_it() {
    let (mut service, lock) = starting().await;
    service.sighup();
    lock.execute("ROLLBACK").await;
    wait_until("events are accepted", TIMEOUT, async || service.run(&["health"]).await.code == 0).await;
    wait_until("the configuration is read again", TIMEOUT, async || {
        service.log_text().contains("SIGHUP: reading the configuration again")
    })
    .await;
    stop(&mut service).await;
}

#[tokio::test]
async fn sigterm_during_the_start_stops_the_service_with_exit_code_0() {
    let (mut service, _lock) = starting().await;
    stop(&mut service).await;
    assert!(service.log_text().contains("stopped during the start"), "{}", service.log_text());
}
