//! QoS 2 while connection and broker restart under load: no event is overtaken, neither on the way to the
//! broker nor on the way to the subscriber.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liveobject_test_support::{Api, Ledger, Mosquitto, Proxy, Subscriber, TappedPacket, Wire};
use serde_json::{Value, json};
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinSet, time::interval};

use crate::helpers::{BATCH, TIMEOUT, connected_service, event, settings, settle};

/// Events per batch, at 25 batches per second.
const BATCH_SIZE: usize = 20;
const PERIOD: Duration = Duration::from_millis(40);
/// The delay of the subscriber's connection, so that the broker has messages queued for it when it stops.
const SUBSCRIBER_DELAY: Duration = Duration::from_millis(20);
const ROUNDS: usize = 3;

async fn load(api: Api, stop: Arc<AtomicBool>) -> Ledger {
    let (mut ledger, mut ticks) = (Ledger::new(), interval(PERIOD));
    for batch in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        ticks.tick().await;
        let events: Vec<_> = (0..BATCH_SIZE).map(|i| event(&format!("load-{batch}-{i}"))).collect();
        let answer = api.post(BATCH, &Value::from(events)).await.expect(202);
        let receipts = answer["accepted"].as_array().expect("receipts");
        for receipt in receipts {
            ledger.accepted_receipt(receipt);
        }
    }
    ledger
}

async fn record(mut packets: UnboundedReceiver<TappedPacket>, wire: Arc<Mutex<Wire>>) {
    let seq = |payload: &[u8]| serde_json::from_slice::<Value>(payload).ok()?["seq"].as_u64();
    while let Some(TappedPacket { connection, what }) = packets.recv().await {
        wire.lock().expect("no panic while locked").record(connection, &what, seq);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_qos_2_nothing_is_overtaken_while_the_broker_restarts_under_load() {
    let mut broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let far = Proxy::start(broker.port()).await;
    far.delay(SUBSCRIBER_DELAY);
    let subscriber = Subscriber::start(far.port()).await;
    let (proxy, packets) = Proxy::tapped(broker.port()).await;
    let wire = Arc::<Mutex<Wire>>::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(record(packets, Arc::clone(&wire)));
    let with_version = |version: &str| json!({ "qos": 2, "protocol": version, "ack_timeout_seconds": 5 });
    let service = connected_service(proxy.port(), &with_version("3.1.1")).await;
    let stop = Arc::<AtomicBool>::default();
    let mut source = JoinSet::new();
    source.spawn(load(service.api(), Arc::clone(&stop)));
    for round in 0..ROUNDS {
        proxy.stall();
        let changed = settings(proxy.port(), &with_version(["5", "3.1.1"][round % 2]));
        let _ = service.put_config(&changed).await.expect(200);
        proxy.flow();
        service.wait_connected(TIMEOUT).await;
        subscriber.wait_for_events(subscriber.count() + 50, TIMEOUT).await;
        broker.restart().await;
        service.wait_connected(TIMEOUT).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut ledger = source.join_next().await.expect("one source").expect("the source did not panic");
    settle(&service, &[&subscriber], &mut ledger).await;
    {
        let wire = wire.lock().expect("no panic while locked");
        assert_eq!((wire.overtaken(), wire.count()), ([].as_slice(), ledger.accepted_count()));
    }
    ledger.assert_nothing_lost();
    ledger.assert_in_order();
}
