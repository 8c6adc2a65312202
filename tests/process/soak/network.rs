//! The brokers, the network in front of them, and the faults of both.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use liveobject_test_support::{
    Authority, CertificateSpec, FaultLog, Listener, Mosquitto, Proxy, Subscriber, TappedPacket, wait_until,
};
use serde_json::{Value, json};
use tokio::{process::Command, sync::mpsc::UnboundedReceiver, task::JoinSet, time::sleep};

use super::{
    classifier::EMBEDDED_CAMERAS,
    clock::Clock,
    ledgers::{BROKERS, CAUGHT_UP, Ledgers, REPLAY_TOPIC},
    load::{CAMERAS, lock},
};
use crate::helpers::{Dice, LONG_TIMEOUT, TIMEOUT};

pub const USER: &str = "ann";
pub const PASSWORD: &str = "correct horse battery staple";
const COLLECT_EVERY: Duration = Duration::from_millis(50);

/// A broker, the proxy in front of it, and a subscriber that observes its messages.
#[derive(Debug)]
struct Site {
    broker: Mosquitto,
    proxy: Arc<Proxy>,
    subscriber: Arc<Subscriber>,
}

/// Both brokers, and the tasks that record what they deliver.
#[derive(Debug)]
pub struct Network {
    sites: Vec<Site>,
    authority: String,
    pub ledgers: Arc<Mutex<Ledgers>>,
    /// Held by the fault that currently affects the network.
    pub exclusive: Arc<tokio::sync::Mutex<()>>,
    _collector: JoinSet<()>,
}

impl Network {
    /// Starts both brokers. The first is reached through a proxy that records the traffic, the second over
    /// TLS.
    pub async fn start(ledgers: Arc<Mutex<Ledgers>>, clock: Arc<Clock>) -> Self {
        let authority = Authority::new("Test authority");
        // Valid whatever the clock shows.
        let certificate = CertificateSpec::server(&["127.0.0.1"]).valid(-20_700, 3650);
        let encrypted = Listener::tls(&authority.issue(&certificate));
        let broker = || Mosquitto::builder().user(USER, PASSWORD).upgrade_outgoing_qos();
        let (first, packets) = Site::start(broker().start().await, Mosquitto::port).await;
        let second = broker().listener(encrypted).start().await;
        let (second, _encrypted) = Site::start(second, |broker| broker.listener(0)).await;
        let sites = vec![first, second];
        let mut collector = JoinSet::new();
        collector.spawn(record_traffic(packets, Arc::clone(&ledgers)));
        for (number, site) in sites.iter().enumerate() {
            collector.spawn(record_deliveries(
                Arc::clone(&site.subscriber),
                number,
                Arc::clone(&ledgers),
                Arc::clone(&clock),
            ));
        }
        Self {
            sites,
            authority: authority.pem().to_owned(),
            ledgers,
            exclusive: Arc::default(),
            _collector: collector,
        }
    }

    /// Returns the port of the first broker itself.
    pub fn broker_port(&self) -> u16 {
        self.sites[0].broker.port()
    }

    /// Returns the proxies in front of both brokers.
    pub fn proxies(&self) -> Vec<Arc<Proxy>> {
        self.sites.iter().map(|site| Arc::clone(&site.proxy)).collect()
    }

    /// Returns the settings that connect to one of the brokers.
    pub fn settings(&self, broker: usize) -> Value {
        let mut settings = json!({
            "enabled": true, "broker_host": "127.0.0.1", "broker_port": self.sites[broker].proxy.port(),
            "username": USER, "password": PASSWORD,
            "connect_timeout_seconds": 2, "ack_timeout_seconds": 5, "keep_alive_seconds": 5,
        });
        if broker == 1 {
            settings["use_tls"] = json!(true);
            settings["ca_certificate"] = json!(self.authority);
        }
        settings
    }

    /// Injects a fault into one of the brokers or its network. When this returns, the fault is over.
    pub async fn inject_fault(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let exclusive = Arc::clone(&self.exclusive);
        let _exclusive = exclusive.lock().await;
        let (index, kind) = (dice.pick(&[0, 0, 1]).to_owned(), dice.below(13));
        if kind < 2 {
            // Mosquitto loses and repeats messages of a long queue when it restarts.
            self.sites[index].proxy.stall();
            self.deliver_all(index).await;
            self.sites[index].proxy.flow();
        }
        let Site { broker, proxy, .. } = &mut self.sites[index];
        let name = ["broker 0", "broker 1"][index];
        let record = |what: &str| fault_log.record(&format!("{name}: {what}"));
        match kind {
            0 => {
                record("restarted");
                broker.restart().await;
            }
            1 => {
                let pause = dice.millis(0, 3000);
                record(&format!("stopped for {pause:?}"));
                broker.stop().await;
                sleep(pause).await;
                broker.resume().await;
            }
            2 => {
                let pause = dice.millis(0, 8000);
                record(&format!("frozen for {pause:?}"));
                broker.freeze();
                sleep(pause).await;
                broker.thaw();
            }
            3 => {
                record("connections cut");
                proxy.cut().await;
            }
            4 => {
                record("connections reset");
                proxy.reset().await;
            }
            5 => {
                let pause = dice.millis(100, 7000);
                record(&format!("network stalled for {pause:?}"));
                proxy.stall();
                sleep(pause).await;
                proxy.flow();
            }
            6 => {
                let pause = dice.millis(100, 9000);
                record(&format!("half-open connections for {pause:?}"));
                proxy.half_open();
                sleep(pause).await;
                proxy.flow();
            }
            7 => {
                let pause = dice.millis(0, 2000);
                record(&format!("connections refused for {pause:?}"));
                proxy.refuse().await;
                proxy.cut().await;
                sleep(pause).await;
                proxy.accept().await;
            }
            8 | 9 => {
                let (delay, kib) = (dice.millis(5, 300), dice.pick(&[20, 100, 500]).to_owned());
                let pause = dice.millis(1000, 6000);
                record(&format!("slow network for {pause:?}: {delay:?} delay, {kib} KiB/s"));
                proxy.delay(delay);
                proxy.throttle(Some(kib << 10));
                sleep(pause).await;
                proxy.delay(Duration::ZERO);
                proxy.throttle(None);
            }
            10 | 11 => {
                let (kib, pause) = (dice.pick(&[3, 6, 12]).to_owned(), dice.millis(5000, 25_000));
                record(&format!("slow line for {pause:?}: {kib} KiB/s"));
                proxy.throttle(Some(kib << 10));
                sleep(pause).await;
                proxy.throttle(None);
            }
            _ => {
                record("kill -9");
                self.kill(index, dice.millis(0, 1500)).await;
            }
        }
    }

    /// Kills a broker with SIGKILL, and restarts it without its stored state.
    ///
    /// Messages that a broker has acknowledged but not delivered are lost with it, which is not the service's
    /// fault. The network is therefore stalled first, and the broker is killed only after it has delivered
    /// everything. The network resumes once the subscriber is connected again.
    async fn kill(&mut self, index: usize, pause: Duration) {
        self.sites[index].proxy.stall();
        self.deliver_all(index).await;
        let Site { broker, proxy, subscriber } = &mut self.sites[index];
        let connections = subscriber.connections();
        broker.kill().await;
        // The file exists only if the broker has been stopped gracefully before.
        let _ = fs::remove_file(broker.dir().join("mosquitto.db"));
        sleep(pause).await;
        broker.resume().await;
        let is_back = async || subscriber.connections() > connections && subscriber.is_subscribed();
        wait_until("the subscriber is back", TIMEOUT, is_back).await;
        proxy.cut().await;
        proxy.flow();
    }

    /// Waits until the broker has delivered everything that it has acknowledged: a message that follows it arrives.
    async fn deliver_all(&self, index: usize) {
        let port = self.sites[index].broker.port().to_string();
        let count = || lock(&self.ledgers).caught_up[index];
        let before = count();
        let published = Command::new("mosquitto_pub")
            .args(["-p", &port, "-u", USER, "-P", PASSWORD, "-q", "1", "-t", CAUGHT_UP, "-n"])
            .status()
            .await;
        assert!(published.is_ok_and(|status| status.success()), "nothing can be published");
        wait_until("the broker has delivered everything", LONG_TIMEOUT, async || count() > before).await;
    }
}

impl Site {
    /// Subscribes to the broker's events and starts a proxy to its port.
    async fn start(
        broker: Mosquitto,
        port: impl Fn(&Mosquitto) -> u16,
    ) -> (Self, UnboundedReceiver<TappedPacket>) {
        let mut subscriber = Subscriber::builder(broker.port()).login(USER, PASSWORD);
        // Each camera with a topic filter of its own: nobody else may listen to the camera whose listener leaves.
        for camera in (0..CAMERAS)
            .map(|n| format!("cam-{n}"))
            .chain((0..EMBEDDED_CAMERAS).map(|n| format!("embedded-{n}")))
        {
            subscriber = subscriber.filter(&format!("+/camera/{camera}/event"));
        }
        let filters = ["+/camera/+/history", &format!("{REPLAY_TOPIC}+")];
        let subscriber =
            filters.iter().fold(subscriber, |subscriber, filter| subscriber.filter(filter)).start().await;
        let (proxy, packets) = Proxy::tapped(port(&broker)).await;
        (Self { broker, proxy: Arc::new(proxy), subscriber: Arc::new(subscriber) }, packets)
    }
}

async fn record_deliveries(
    subscriber: Arc<Subscriber>,
    broker: usize,
    ledgers: Arc<Mutex<Ledgers>>,
    clock: Arc<Clock>,
) {
    loop {
        let messages = subscriber.take();
        for chunk in messages.chunks(500) {
            let mut ledgers = lock(&ledgers);
            for message in chunk {
                ledgers.delivered(broker, message, &clock);
            }
        }
        sleep(COLLECT_EVERY).await;
    }
}

async fn record_traffic(mut packets: UnboundedReceiver<TappedPacket>, ledgers: Arc<Mutex<Ledgers>>) {
    while let Some(packet) = packets.recv().await {
        lock(&ledgers).packet(&packet);
    }
}

const _: () = assert!(BROKERS == 2);
