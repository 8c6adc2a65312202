//! Exactly once, while link and broker come and go under load: nothing overtakes, neither before the broker nor behind it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liveobject_test_support::{Api, Ledger, Mosquitto, Passed, Proxy, Subscriber, Wire};
use serde_json::{Value, json};
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinSet, time::interval};

use crate::helpers::{BATCH, SOON, connected, event, settings, settle};

/// Events at a time, 25 times a second.
const AT_ONCE: usize = 20;
const PERIOD: Duration = Duration::from_millis(40);
/// The subscriber is so far away that the broker has something queued for it when it is stopped.
const FAR: Duration = Duration::from_millis(20);
const ROUNDS: usize = 3;

async fn load(api: Api, stop: Arc<AtomicBool>) -> Ledger {
    let (mut ledger, mut ticks) = (Ledger::new(), interval(PERIOD));
    for batch in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        ticks.tick().await;
        let events: Vec<_> = (0..AT_ONCE).map(|i| event(&format!("load-{batch}-{i}"))).collect();
        let answer = api.post(BATCH, &Value::from(events)).await.expect(202);
        let receipts = answer["accepted"].as_array().expect("receipts");
        for receipt in receipts {
            ledger.accepted_receipt(receipt);
        }
    }
    ledger
}

async fn listen(mut passed: UnboundedReceiver<Passed>, wire: Arc<Mutex<Wire>>) {
    let seq = |payload: &[u8]| serde_json::from_slice::<Value>(payload).ok()?["seq"].as_u64();
    while let Some(Passed { connection, what }) = passed.recv().await {
        wire.lock().expect("nobody panics with it").passed(connection, &what, seq);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_qos_2_nothing_overtakes_while_the_broker_restarts_under_load() {
    let mut broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let far = Proxy::start(broker.port()).await;
    far.delay(FAR);
    let subscriber = Subscriber::start(far.port()).await;
    let (proxy, passed) = Proxy::tapped(broker.port()).await;
    let wire = Arc::<Mutex<Wire>>::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(listen(passed, Arc::clone(&wire)));
    let of_version = |version: &str| json!({ "qos": 2, "protocol": version, "ack_timeout_seconds": 5 });
    let service = connected(proxy.port(), &of_version("3.1.1")).await;
    let stop = Arc::<AtomicBool>::default();
    let mut source = JoinSet::new();
    source.spawn(load(service.api(), Arc::clone(&stop)));
    for round in 0..ROUNDS {
        proxy.stall();
        let changed = settings(proxy.port(), &of_version(["5", "3.1.1"][round % 2]));
        let _ = service.put_config(&changed).await.expect(200);
        proxy.flow();
        service.wait_connected(SOON).await;
        subscriber.wait_for_events(subscriber.count() + 50, SOON).await;
        broker.restart().await;
        service.wait_connected(SOON).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut ledger = source.join_next().await.expect("one source").expect("it did not panic");
    settle(&service, &[&subscriber], &mut ledger).await;
    {
        let wire = wire.lock().expect("nobody panics with it");
        assert_eq!((wire.overtaken(), wire.count()), ([].as_slice(), ledger.accepted_count()));
    }
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
}
