//! The brokers, the network before them, and what befalls both.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use liveobject_test_support::{Authority, Listener, Mosquitto, Order, Passed, Proxy, Subscriber, wait_until};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    ledgers::{BROKERS, Ledgers},
    clock::Clock,
    fault_log::FaultLog,
    load::lock,
};
use crate::helpers::{Dice, SOON};

pub const USER: &str = "ann";
pub const PASSWORD: &str = "correct horse battery staple";
/// When nothing new has come for so long, nothing is under way in the broker.
const QUIET: Duration = Duration::from_millis(400);
const COLLECT: Duration = Duration::from_millis(50);

/// A broker, the way to it, and the witness at it.
#[derive(Debug)]
struct Site {
    broker: Mosquitto,
    proxy: Arc<Proxy>,
    witness: Arc<Subscriber>,
}

/// Both.
#[derive(Debug)]
pub struct Network {
    sites: Vec<Site>,
    authority: String,
    pub ledgers: Arc<Mutex<Ledgers>>,
    /// Held by who is at the network.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    _collector: JoinSet<()>,
}

impl Network {
    /// The second one is reached over TLS; on the way to the first one it is heard what passes.
    pub async fn start(ledgers: Arc<Mutex<Ledgers>>, clock: Arc<Clock>) -> Self {
        let authority = Authority::new("Test authority");
        let encrypted = Listener::tls(&authority.issue(&Order::server(&["127.0.0.1"])));
        let broker = || Mosquitto::builder().user(USER, PASSWORD).upgrade_outgoing_qos();
        let (first, passed) = Site::at(broker().start().await, Mosquitto::port).await;
        let second = broker().listener(encrypted).start().await;
        let (second, _encrypted) = Site::at(second, |broker| broker.listener(0)).await;
        let sites = vec![first, second];
        let mut collector = JoinSet::new();
        collector.spawn(listen(passed, Arc::clone(&ledgers)));
        for (number, site) in sites.iter().enumerate() {
            collector.spawn(collect(
                Arc::clone(&site.witness),
                number,
                Arc::clone(&ledgers),
                Arc::clone(&clock),
            ));
        }
        Self {
            sites,
            authority: authority.pem().to_owned(),
            ledgers,
            turn: Arc::default(),
            _collector: collector,
        }
    }

    /// The ways to both.
    pub fn proxies(&self) -> Vec<Arc<Proxy>> {
        self.sites.iter().map(|site| Arc::clone(&site.proxy)).collect()
    }

    /// The settings that lead to one of them.
    pub fn way(&self, broker: usize) -> Value {
        let mut way = json!({
            "enabled": true, "broker_host": "127.0.0.1", "broker_port": self.sites[broker].proxy.port(),
            "username": USER, "password": PASSWORD,
            "connect_timeout_seconds": 2, "ack_timeout_seconds": 5, "keep_alive_seconds": 5,
        });
        if broker == 1 {
            way["use_tls"] = json!(true);
            way["ca_certificate"] = json!(self.authority);
        }
        way
    }

    /// Something befalls one of the brokers or the way to it; when this returns, it is over.
    pub async fn inject_fault(&mut self, dice: &mut Dice, fault_log: &FaultLog) {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().await;
        let place = dice.pick(&[0, 0, 1]).to_owned();
        let Site { broker, proxy, .. } = &mut self.sites[place];
        let name = ["the broker", "the other broker"][place];
        let say = |what: &str| fault_log.record(&format!("{name}: {what}"));
        match dice.below(11) {
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
            _ => {
                record("kill -9");
                self.kill(place, dice.millis(0, 1500)).await;
            }
        }
    }

    /// SIGKILL. What a broker has acknowledged and not handed on dies with it, and is its loss, not ours: it is killed at a
    /// moment when it has nothing in its hands, while the way to it is stalled. It comes back without any memory, and
    /// the way is open again when the witness is there.
    async fn kill(&mut self, place: usize, pause: Duration) {
        self.sites[place].proxy.stall();
        self.quiet(place).await;
        let Site { broker, proxy, witness } = &mut self.sites[place];
        let connections = witness.connections();
        broker.kill().await;
        // It is there once the broker has been stopped in good order.
        let _ = fs::remove_file(broker.dir().join("mosquitto.db"));
        sleep(pause).await;
        broker.resume().await;
        let back = async || witness.connections() > connections && witness.is_subscribed();
        wait_until("the witness is back", SOON, back).await;
        proxy.cut().await;
        proxy.flow();
    }

    async fn quiet(&self, place: usize) {
        let (mut seen, mut since) = (0, Instant::now());
        wait_until("the broker has handed everything on", SOON * 3, async || {
            let now = lock(&self.ledgers).received[place] + self.sites[place].witness.count();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            since.elapsed() > QUIET
        })
        .await;
    }
}

impl Site {
    async fn at(broker: Mosquitto, port: impl Fn(&Mosquitto) -> u16) -> (Self, UnboundedReceiver<Passed>) {
        let witness = Subscriber::builder(broker.port()).login(USER, PASSWORD);
        let witness = witness.filter("+/camera/+/event").filter("+/camera/+/history").start().await;
        let (proxy, passed) = Proxy::tapped(port(&broker)).await;
        (Self { broker, proxy: Arc::new(proxy), witness: Arc::new(witness) }, passed)
    }
}

async fn collect(witness: Arc<Subscriber>, broker: usize, ledgers: Arc<Mutex<Ledgers>>, clock: Arc<Clock>) {
    loop {
        let messages = witness.take();
        for some in messages.chunks(500) {
            let mut ledgers = lock(&ledgers);
            for message in some {
                ledgers.delivered(broker, message, &clock);
            }
        }
        sleep(COLLECT).await;
    }
}

async fn listen(mut passed: UnboundedReceiver<Passed>, ledgers: Arc<Mutex<Ledgers>>) {
    while let Some(passed) = passed.recv().await {
        lock(&ledgers).passed(&passed);
    }
}

const _: () = assert!(BROKERS == 2);
