//! The besieged: the service and the classifier with the actors in it, and what befalls them and their settings.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liveobject_test_support::{Api, Proxy, Service, wait_until};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    ledgers::{BROKERS, Ledgers, Origin},
    classifier::Embedded,
    clock::{Clock, LATE_AFTER},
    fault_log::FaultLog,
    load::lock,
    network::Network,
    monitor::Monitor,
};
use crate::helpers::{Dice, LATER, SOON, SmallDisk, service};

const CONFIG: &str = "/api/v1/integrations/mqtt/config";
/// How far the clock goes wrong: minutes and hours, never so far that events are too old to be kept.
const JUMPS: [i64; 8] = [0, 0, 90, -90, 600, -600, 3 * 3600, -5 * 3600];
/// Guests leave after so long at most.
const STAY: Duration = Duration::from_secs(15);
/// When no event has come for so long, none is under way.
const QUIET: Duration = Duration::from_millis(800);
/// Within it the besieged have looked at their clock: libfaketime looks when more than one whole second has passed.
const NOTICED: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_millis(100);

/// Both services, and where they live.
#[derive(Debug)]
pub struct SystemUnderTest {
    pub service: Service,
    pub embedded: Embedded,
    pub clock: Arc<Clock>,
    pub monitor: Monitor,
    /// Whether as many events are wanted as can be had: else a full disk goes unnoticed.
    pub flood: Arc<AtomicBool>,
    disk: Option<SmallDisk>,
    ways: Vec<Value>,
    proxies: Vec<Arc<Proxy>>,
    /// Held by who is at the network.
    turn: Arc<tokio::sync::Mutex<()>>,
    ledgers: Arc<Mutex<Ledgers>>,
    guests: JoinSet<()>,
    /// Who must not be restarted now, so that memory that grows has the time to.
    pub exempt: Option<Origin>,
}

impl SystemUnderTest {
    pub async fn start(disk: Option<SmallDisk>, clock: Arc<Clock>, network: &Network) -> Self {
        let ways = vec![network.settings(0), network.way(1)];
        let mut builder = service();
        for (name, value) in clock.environment() {
            builder = builder.env(name, value);
        }
        let embedded_dir = disk.as_ref().map(|disk| disk.data_dir().with_file_name("embedded"));
        if let Some(disk) = &disk {
            builder = builder.data_dir(disk.data_dir());
        }
        let service = builder.start().await;
        let mut embedded = Embedded::new(embedded_dir, clock.environment());
        embedded.set(with(&ways[0], json!({ "late_after_seconds": LATE_AFTER })));
        embedded.start();
        let system = Self {
            service,
            embedded,
            clock,
            monitor: Monitor::start(),
            flood: Arc::default(),
            disk,
            ways,
            proxies: network.proxies(),
            turn: Arc::clone(&network.turn),
            ledgers: Arc::clone(&network.ledgers),
            guests: JoinSet::new(),
            exempt: None,
        };
        system.look();
        system.put(&system.plain()).await;
        system.service.wait_connected(LATER).await;
        system
    }

    /// Something befalls one of them; when this returns, it is over.
    pub async fn inject_fault(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (kind, pause) = (dice.below(20), dice.millis(0, 1500));
        let restarts_rest = matches!(kind, 0..4);
        let restarts_actors = matches!(kind, 4 | 5);
        match kind {
            _ if restarts_rest && self.exempt == Some(Origin::Rest) => self.clients(dice, fault_log),
            _ if restarts_actors && self.exempt == Some(Origin::Actors) => self.clients(dice, fault_log),
            0 => {
                fault_log.record("the service: restarted");
                self.stop_service().await;
                self.start_service().await;
            }
            1 | 2 => {
                fault_log.record(&format!("the service: kill -9, back after {pause:?}"));
                self.kill_service().await;
                sleep(pause).await;
                self.start_service().await;
            }
            3 => self.rotate(fault_log).await,
            4 => {
                fault_log.record("the classifier: restarted");
                assert!(
                    self.embedded.stop().await,
                    "the classifier did not stop: {}",
                    tail(&self.embedded.log())
                );
                self.embedded.start();
            }
            5 => {
                fault_log.record(&format!("the classifier: kill -9, back after {pause:?}"));
                self.embedded.kill9();
                sleep(pause).await;
                self.embedded.start();
            }
            6 | 7 => self.clock_at_rest(dice, fault_log).await,
            8 => {
                let seconds = *dice.pick(&JUMPS);
                fault_log.record(&format!("the clock: {seconds:+} s from the right time"));
                self.clock.set(seconds, false);
            }
            9 | 10 => self.disk_full(dice, fault_log).await,
            11 => {
                fault_log.record(&format!("the service: frozen for {pause:?}"));
                self.service.freeze();
                sleep(pause).await;
                self.service.thaw();
            }
            12 | 13 => self.clients(dice, fault_log),
            14 => self.cameras(dice, fault_log).await,
            _ => self.settings(dice, fault_log).await,
        }
        self.look();
        assert!(!self.embedded.has_ended(), "the classifier has ended: {}", tail(&self.embedded.log()));
        assert!(self.service.is_running(), "the service has ended: {}", tail(&self.service.log_text()));
    }

    /// Settings under which everything can leave, at the first broker.
    fn plain(&self) -> Value {
        with(&self.ways[0], json!({ "late_after_seconds": LATE_AFTER }))
    }

    /// No more misfortunes: everything leaves, to the first broker.
    pub async fn heal(&mut self) {
        self.guests.shutdown().await;
        self.put(&self.plain()).await;
        self.embedded.set(self.plain());
    }

    fn look(&self) {
        let pid = |runs: bool| if runs { self.service.pid() } else { 0 };
        self.monitor.at(Origin::Rest, pid(true));
        self.monitor.at(Origin::Actors, self.embedded.pid());
    }

    async fn start_service(&mut self) {
        self.service.start().await;
        self.look();
    }

    async fn stop_service(&mut self) {
        self.service.sigterm();
        assert_eq!(self.service.wait().await, 0, "{}", tail(&self.service.log_text()));
    }

    async fn kill_service(&mut self) {
        let pid = self.service.pid();
        self.service.kill9().await;
        Clock::remove_shared_memory(pid);
    }

    async fn rotate(&mut self, fault_log: &FaultLog) {
        fault_log.record("the service: stopped, its key rotated, and started");
        self.stop_service().await;
        let finished = self.service.run(&["key", "rotate"]).await;
        assert_eq!(finished.code, 0, "{finished:?}");
        self.start_service().await;
    }

    /// The clock jumps, sometimes at a restart, while both are cut off from the brokers and events gather: every one of
    /// them is sent by the new time.
    async fn clock_at_rest(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().await;
        let (seconds, restarts) = (*dice.pick(&JUMPS), dice.below(2) == 0 && self.exempt != Some(Origin::Rest));
        fault_log.record(&format!("the clock: {seconds:+} s from the right time, after a while without brokers"));
        for proxy in &self.proxies {
            proxy.refuse().await;
            proxy.cut().await;
        }
        self.wait_until_idle().await;
        if restarts {
            fault_log.record("the service: stopped and started meanwhile");
            self.stop_service().await;
        }
        self.clock.set(seconds, true);
        if restarts {
            self.start_service().await;
        }
        sleep(NOTICED).await;
        for proxy in &self.proxies {
            proxy.accept().await;
        }
    }

    async fn wait_until_idle(&self) {
        let (mut seen, mut since) = ([0; BROKERS], Instant::now());
        wait_until("nothing is under way", LATER, async || {
            let now = lock(&self.ledgers).received;
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            since.elapsed() > QUIET
        })
        .await;
    }

    async fn disk_full(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (pause, killed) = (dice.millis(500, 5000), dice.below(3) == 0);
        let Some(disk) = &self.disk else { return };
        disk.narrow();
        self.flood.store(true, Ordering::Relaxed);
        if killed && self.exempt != Some(Origin::Rest) {
            fault_log.record(&format!("the disk: full for {pause:?}, and the service kill -9"));
            sleep(pause / 2).await;
            self.kill_service().await;
            sleep(pause / 2).await;
            self.room();
            self.start_service().await;
        } else {
            fault_log.record(&format!("the disk: full for {pause:?}"));
            sleep(pause).await;
            self.room();
        }
    }

    fn room(&self) {
        self.flood.store(false, Ordering::Relaxed);
        if let Some(disk) = &self.disk {
            disk.widen();
        }
    }

    /// Clients that send half a request, or ask for the stream and do not read it.
    fn clients(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let (count, reads_stream) = (dice.below(5) + 1, dice.below(2) == 0);
        let (port, token) = (self.service.port(), self.service.token());
        let stuck =
            if reads_stream { "read the stream no further" } else { "stop in the middle of a request" };
        fault_log.record(&format!("{count} clients that {stuck}"));
        for _ in 0..count {
            let head = format!("Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n");
            let request = if reads_stream {
                format!("GET /api/v1/stream HTTP/1.1\r\n{head}\r\n")
            } else {
                format!("POST /api/v1/events HTTP/1.1\r\n{head}Content-Length: 500\r\n\r\n{{\"camera_id\":")
            };
            let stay = dice.shorter_than(STAY);
            self.guests.spawn(async move {
                // The service may be away, or end the connection.
                let Ok(mut client) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let _ = client.write_all(request.as_bytes()).await;
                sleep(stay).await;
            });
        }
        while self.guests.try_join_next().is_some() {}
    }

    async fn cameras(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
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
        let answer = Api::try_send(request).await;
        fault_log.record(&format!("{camera}: {what}"));
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(matches!(answer.status, 200 | 204 | 404 | 503), "{path}: {answer:?}");
    }

    async fn settings(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let by = *dice.pick(&Origin::ALL);
        let place = dice.pick(&[0, 0, 1]).to_owned();
        let changes = json!({
            "late_after_seconds": LATE_AFTER,
            "qos": dice.pick(&[1, 1, 2]),
            "topic_prefix": dice.pick(&["liveobject", "cams", "house-1"]),
            "protocol": dice.pick(&["auto", "5", "3.1.1"]),
            "max_events_per_second": dice.pick(&[0, 0, 0, 3000, 800]),
            "discovery_enabled": dice.below(3) != 0,
            "retain_messages": dice.below(4) == 0,
        });
        fault_log.record(&format!("settings of {by:?}: broker {place}, {changes}"));
        let settings = with(&self.ways[place], changes);
        match by {
            Origin::Rest => self.put(&settings).await,
            Origin::Actors => self.embedded.set(settings),
        }
    }

    /// Again and again, until there is room for them.
    async fn put(&self, settings: &Value) {
        let api = self.service.api();
        wait_until("the settings are replaced", SOON, async || {
            let answer = Api::try_send(api.request(reqwest::Method::PUT, CONFIG).json(settings)).await;
            match answer {
                Ok(answer) if answer.status == 200 => true,
                Ok(answer) if answer.status < 500 => panic!("{settings} were answered {answer:?}"),
                _ => {
                    sleep(RETRY).await;
                    false
                }
            }
        })
        .await;
    }
}

impl Drop for SystemUnderTest {
    /// What they logged stays beside the fault_log.
    fn drop(&mut self) {
        let Some(fault_log) = std::env::var_os("SOAK_LOG").map(PathBuf::from) else { return };
        for (name, log) in [("service", self.service.log_text()), ("classifier", self.embedded.log())] {
            if let Err(error) = fs::write(fault_log.with_extension(name), log) {
                println!("the log of the {name} is lost: {error}");
            }
        }
    }
}

fn with(way: &Value, changes: Value) -> Value {
    let (mut settings, Value::Object(changes)) = (way.clone(), changes) else {
        unreachable!("changes are an object")
    };
    settings.as_object_mut().expect("an object").extend(changes);
    settings
}

pub fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
