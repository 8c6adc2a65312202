//! The system under test: the service and the classifier that embeds the actors, and the faults of both.

mod dead_events;
mod listener;
mod qos_0;
mod replays;
mod storage;
mod token_changes;

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use liveobject_test_support::{Api, FakeClock, FaultLog, Proxy, Service, wait_until};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::OwnedMutexGuard,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    classifier::Embedded,
    clock::{Clock, LATE_AFTER, NOTICED_WITHIN},
    ledgers::{BROKERS, Ledgers, Origin},
    load::{Demand, lock},
    monitor::Monitor,
    network::Network,
    tokens::Tokens,
};
use crate::helpers::{Dice, LONG_TIMEOUT, SmallDisk, TIMEOUT, service};

const CONFIG: &str = "/api/v1/integrations/mqtt/config";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Offsets of the clock in seconds. The last one is about 1970.
const JUMPS: [i64; 9] = [0, 0, 90, -90, HOUR, -HOUR, 30 * DAY, -30 * DAY, -20_400 * DAY];
/// Maximum time that a misbehaving client stays connected.
const MAX_CLIENT_STAY: Duration = Duration::from_secs(15);
/// If no event arrives for this long, none is in transit.
const QUIET: Duration = Duration::from_millis(800);
const RETRY_DELAY: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(100);
/// Maximum size of all pictures of the service.
pub const MAX_PICTURE_BYTES: u64 = 128 << 20;

/// Both processes and their environment.
#[derive(Debug)]
pub struct SystemUnderTest {
    pub service: Service,
    pub embedded: Embedded,
    pub clock: Arc<Clock>,
    pub monitor: Monitor,
    /// The rates that the current fault needs.
    pub demand: Arc<Mutex<Demand>>,
    pub tokens: Arc<Tokens>,
    tokens_created: u32,
    disk: Option<SmallDisk>,
    /// Settings that connect to each of the brokers.
    broker_settings: Vec<Value>,
    proxies: Vec<Arc<Proxy>>,
    /// The port of the first broker itself.
    broker_port: u16,
    /// Number of events of the camera whose listener leaves.
    porch_events: u32,
    /// The topic of each replay, by its id.
    replays: HashMap<u64, String>,
    /// Held by the fault that currently affects the network.
    network_lock: Arc<tokio::sync::Mutex<()>>,
    ledgers: Arc<Mutex<Ledgers>>,
    clients: JoinSet<()>,
    /// The process that is exempt from restarts, so that a memory leak has time to show.
    pub exempt: Option<Origin>,
    /// Maximum duration of a fault that can take minutes.
    pub longest_fault: Duration,
}

impl SystemUnderTest {
    pub async fn start(disk: Option<SmallDisk>, clock: Arc<Clock>, network: &Network) -> Self {
        let broker_settings = vec![network.settings(0), network.settings(1)];
        let mut builder = service();
        for (name, value) in clock.environment() {
            builder = builder.env(name, value);
        }
        let embedded_dir = disk.as_ref().map(|disk| disk.data_dir().with_file_name("embedded"));
        if let Some(disk) = &disk {
            builder = builder.data_dir(disk.data_dir());
        }
        let service = builder
            .env("LIVEOBJECT__OUTBOX__RETENTION_DAYS", 1)
            .env("LIVEOBJECT__PICTURES__MAX_BYTES", MAX_PICTURE_BYTES)
            // As in packages.
            .env("MIMALLOC_PURGE_DELAY", 10)
            .start()
            .await;
        let tokens = Arc::new(Tokens::new(service.token()));
        let mut embedded = Embedded::new(embedded_dir, clock.environment());
        embedded
            .set_settings(merged(&broker_settings[0], json!({ "late_after_seconds": LATE_AFTER.as_secs() })));
        embedded.start();
        let system = Self {
            service,
            embedded,
            clock,
            monitor: Monitor::start(),
            demand: Arc::default(),
            tokens,
            tokens_created: 0,
            disk,
            broker_settings,
            proxies: network.proxies(),
            broker_port: network.broker_port(),
            porch_events: 0,
            replays: HashMap::new(),
            network_lock: Arc::clone(&network.exclusive),
            ledgers: Arc::clone(&network.ledgers),
            clients: JoinSet::new(),
            exempt: None,
            longest_fault: Duration::MAX,
        };
        system.update_pids();
        system.put_settings(&system.plain_settings()).await;
        system.service.wait_connected(LONG_TIMEOUT).await;
        system
    }

    /// Injects a fault into one of the processes or its environment. When this returns, the fault is over,
    /// except for a changed clock, changed settings and misbehaving clients.
    pub async fn inject_fault(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (kind, pause) = (dice.below(34), dice.millis(0, 1500));
        let restarts_rest = matches!(kind, 0..4);
        let restarts_actors = matches!(kind, 4 | 5);
        match kind {
            _ if restarts_rest && !self.can_restart() => {
                self.connect_stuck_clients(dice, fault_log);
            }
            _ if restarts_actors && self.exempt == Some(Origin::Actors) => {
                self.connect_stuck_clients(dice, fault_log);
            }
            0 => {
                fault_log.record("service: restarted");
                self.stop_service().await;
                self.start_service().await;
            }
            1 | 2 => {
                fault_log.record(&format!("service: kill -9, started again after {pause:?}"));
                self.kill_service().await;
                sleep(pause).await;
                self.start_service().await;
            }
            3 => self.rotate_key(fault_log).await,
            4 => {
                fault_log.record("classifier: restarted");
                assert!(
                    self.embedded.stop().await,
                    "the classifier did not stop: {}",
                    tail(&self.embedded.log())
                );
                self.embedded.start();
            }
            5 => {
                fault_log.record(&format!("classifier: kill -9, started again after {pause:?}"));
                self.embedded.kill9();
                sleep(pause).await;
                self.embedded.start();
            }
            6 | 7 => self.set_clock_while_idle(dice, fault_log).await,
            8 => {
                let seconds = *dice.pick(&JUMPS);
                fault_log.record(&format!("clock: set to {seconds:+} s from the right time"));
                self.clock.set(seconds);
            }
            9 | 10 => self.fill_disk(dice, fault_log).await,
            11 => {
                fault_log.record(&format!("service: frozen for {pause:?}"));
                self.service.freeze();
                sleep(pause).await;
                self.service.thaw();
            }
            12 | 13 => self.connect_stuck_clients(dice, fault_log),
            14 => self.change_camera(dice, fault_log).await,
            15 | 16 => self.close_on_a_camera(dice, fault_log).await,
            17 | 18 => self.use_qos_0(dice, fault_log).await,
            19 | 20 => self.replace_token(dice, fault_log).await,
            21 => self.replace_database(dice, fault_log).await,
            22 => self.fill_disk_with_pictures(dice, fault_log).await,
            23 | 24 => self.let_a_listener_leave(dice, fault_log).await,
            25..28 => self.replay(dice, fault_log).await,
            _ => self.change_settings(dice, fault_log).await,
        }
        self.update_pids();
        assert!(!self.embedded.has_ended(), "the classifier has exited: {}", tail(&self.embedded.log()));
        assert!(self.service.is_running(), "the service has exited: {}", tail(&self.service.log_text()));
    }

    /// Returns settings under which every event can be published to the first broker.
    fn plain_settings(&self) -> Value {
        merged(&self.broker_settings[0], json!({ "late_after_seconds": LATE_AFTER.as_secs() }))
    }

    /// Reverts the changes that outlast a fault, so that every event can be published to the first broker.
    pub async fn heal(&mut self) {
        self.clients.shutdown().await;
        self.put_settings(&self.plain_settings()).await;
        self.embedded.set_settings(self.plain_settings());
    }

    fn set_demand(&self, demand: Demand) {
        *self.demand.lock().unwrap_or_else(PoisonError::into_inner) = demand;
    }

    /// Makes events arrive at a low rate. The fault must call [`SystemUnderTest::set_demand`] at its end.
    fn steady(&mut self) {
        self.set_demand(Demand::Steady);
        self.embedded.set_rate(20);
    }

    /// Waits until no other fault affects the network, makes events arrive at a low rate, and connects the service with
    /// these settings. No other fault affects the network while the result exists. The fault must call
    /// [`SystemUnderTest::set_demand`] at its end.
    async fn alone_with(&mut self, settings: &Value) -> OwnedMutexGuard<()> {
        let network = Arc::clone(&self.network_lock).lock_owned().await;
        self.steady();
        // Under other settings this may take minutes: with QoS 2 and MQTT 3.1.1, one message is in flight at a time.
        self.put_settings(&self.plain_settings()).await;
        self.service.wait_connected(LONG_TIMEOUT).await;
        self.wait_for_backlog().await;
        self.put_settings(settings).await;
        self.service.wait_connected(LONG_TIMEOUT).await;
        network
    }

    /// Returns whether the service is not exempt from restarts.
    fn can_restart(&self) -> bool {
        self.exempt != Some(Origin::Rest)
    }

    fn violation(&self, text: String) {
        lock(&self.ledgers).other_violations.push(text);
    }

    fn update_pids(&self) {
        self.monitor.set_pid(Origin::Rest, self.service.pid());
        self.monitor.set_pid(Origin::Actors, self.embedded.pid());
    }

    async fn start_service(&mut self) {
        self.service.start().await;
        self.update_pids();
    }

    async fn stop_service(&mut self) {
        self.service.sigterm();
        assert_eq!(self.service.wait().await, 0, "{}", tail(&self.service.log_text()));
    }

    async fn kill_service(&mut self) {
        let pid = self.service.pid();
        self.service.kill9().await;
        FakeClock::remove_shared_memory(pid);
    }

    async fn rotate_key(&mut self, fault_log: &FaultLog) {
        fault_log.record("service: stopped, its key rotated, and started");
        self.stop_service().await;
        let finished = self.service.run(&["key", "rotate"]).await;
        assert_eq!(finished.code, 0, "{finished:?}");
        self.start_service().await;
    }

    /// Sets the clock while neither process can reach a broker, sometimes during a restart of the service.
    /// The new time must determine whether the pending events are late.
    async fn set_clock_while_idle(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let network_lock = Arc::clone(&self.network_lock);
        let _network_lock = network_lock.lock().await;
        let seconds = *dice.pick(&JUMPS);
        let restarts = dice.below(2) == 0 && self.can_restart();
        fault_log.record(&format!(
            "clock: set to {seconds:+} s from the right time, while no broker is reachable"
        ));
        for proxy in &self.proxies {
            proxy.refuse().await;
            proxy.cut().await;
        }
        self.wait_until_idle().await;
        if restarts {
            fault_log.record("service: stopped and started during the clock change");
            self.stop_service().await;
        }
        self.clock.set(seconds);
        if restarts {
            self.start_service().await;
        }
        sleep(NOTICED_WITHIN).await;
        for proxy in &self.proxies {
            proxy.accept().await;
        }
    }

    async fn wait_until_idle(&self) {
        let (mut last, mut since) = ([0; BROKERS], Instant::now());
        wait_until("no event is in transit", LONG_TIMEOUT, async || {
            let received = lock(&self.ledgers).received;
            if received != last {
                (last, since) = (received, Instant::now());
            }
            since.elapsed() > QUIET
        })
        .await;
    }

    async fn fill_disk(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (pause, killed) = (dice.millis(500, 5000), dice.below(3) == 0);
        let Some(disk) = &self.disk else { return };
        disk.shrink();
        self.set_demand(Demand::Flood);
        if killed && self.can_restart() {
            fault_log.record(&format!("disk: full for {pause:?}; service: kill -9"));
            sleep(pause / 2).await;
            self.kill_service().await;
            sleep(pause / 2).await;
            self.free_disk();
            self.start_service().await;
        } else {
            fault_log.record(&format!("disk: full for {pause:?}"));
            sleep(pause).await;
            self.free_disk();
        }
    }

    fn free_disk(&self) {
        self.set_demand(Demand::Random);
        if let Some(disk) = &self.disk {
            disk.grow();
        }
    }

    /// Connects clients that send half a request, or that request the stream and do not read it.
    fn connect_stuck_clients(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (count, reads_stream) = (dice.below(5) + 1, dice.below(2) == 0);
        let (port, token) = (self.service.port(), self.service.token());
        let stuck = if reads_stream { "do not read the stream" } else { "stop in the middle of a request" };
        fault_log.record(&format!("clients: {count} that {stuck}"));
        for _ in 0..count {
            let head = format!("Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n");
            let request = if reads_stream {
                format!("GET /api/v1/stream HTTP/1.1\r\n{head}\r\n")
            } else {
                format!("POST /api/v1/events HTTP/1.1\r\n{head}Content-Length: 500\r\n\r\n{{\"camera_id\":")
            };
            let stay = dice.shorter_than(MAX_CLIENT_STAY);
            self.clients.spawn(async move {
                // The service may be down, or close the connection.
                let Ok(mut client) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let _ = client.write_all(request.as_bytes()).await;
                sleep(stay).await;
            });
        }
        while self.clients.try_join_next().is_some() {}
    }

    async fn change_camera(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let camera = format!("cam-{}", dice.below(20));
        let path = format!("/api/v1/cameras/{camera}");
        let api = self.service.api();
        let (what, request) = match dice.below(4) {
            0 => ("deleted", api.request(reqwest::Method::DELETE, &path)),
            1 => ("disabled", api.request(reqwest::Method::PUT, &path).json(&json!({ "enabled": false }))),
            2 => ("enabled", api.request(reqwest::Method::PUT, &path).json(&json!({ "enabled": true }))),
            _ => {
                let name = json!({ "camera_name": format!("Camera {}", dice.below(1000)) });
                ("renamed", api.request(reqwest::Method::PUT, &path).json(&name))
            }
        };
        let response = Api::try_send(request).await;
        fault_log.record(&format!("camera {camera}: {what}"));
        let response = response.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(matches!(response.status, 200 | 204 | 404 | 503), "{path}: {response:?}");
    }

    async fn change_settings(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let origin = *dice.pick(&Origin::ALL);
        let broker = dice.pick(&[0, 0, 1]).to_owned();
        let changes = json!({
            "late_after_seconds": LATE_AFTER.as_secs(),
            "qos": dice.pick(&[1, 1, 2]),
            "topic_prefix": dice.pick(&["liveobject", "cams", "house-1"]),
            "protocol": dice.pick(&["auto", "5", "3.1.1"]),
            "max_events_per_second": dice.pick(&[0, 0, 0, 3000, 800]),
            "discovery_enabled": dice.below(3) != 0,
            "retain_messages": dice.below(4) == 0,
        });
        let process = match origin {
            Origin::Rest => "service",
            Origin::Actors => "classifier",
        };
        fault_log.record(&format!("{process}: settings for broker {broker}, {changes}"));
        let settings = merged(&self.broker_settings[broker], changes);
        match origin {
            Origin::Rest => self.put_settings(&settings).await,
            Origin::Actors => self.embedded.set_settings(settings),
        }
    }

    /// Replaces the service's settings, retrying while its disk is full.
    async fn put_settings(&self, settings: &Value) {
        let api = self.service.api();
        wait_until("the settings are replaced", TIMEOUT, async || {
            let response = Api::try_send(api.request(reqwest::Method::PUT, CONFIG).json(settings)).await;
            match response {
                Ok(response) if response.status == 200 => true,
                Ok(response) if response.status < 500 => panic!("{settings} were refused: {response:?}"),
                _ => {
                    sleep(RETRY_DELAY).await;
                    false
                }
            }
        })
        .await;
    }
}

impl Drop for SystemUnderTest {
    /// Saves the logs and the memory of both processes next to the fault log.
    fn drop(&mut self) {
        let Some(fault_log) = std::env::var_os("SOAK_LOG").map(PathBuf::from) else { return };
        for (name, log) in [
            ("service", self.service.log_text()),
            ("classifier", self.embedded.log()),
            ("service.memory", self.monitor.samples(Origin::Rest)),
            ("classifier.memory", self.monitor.samples(Origin::Actors)),
        ] {
            if let Err(error) = fs::write(fault_log.with_extension(name), log) {
                println!("cannot save the log of the {name}: {error}");
            }
        }
    }
}

fn merged(settings: &Value, changes: Value) -> Value {
    let (mut settings, Value::Object(changes)) = (settings.clone(), changes) else {
        unreachable!("changes are an object")
    };
    settings.as_object_mut().expect("an object").extend(changes);
    settings
}

/// Returns the last 20 lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
