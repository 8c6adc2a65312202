//! Random faults while events keep arriving: the broker restarts and freezes, connections are cut, reset,
//! stalled and refused, and the service is killed and restarted.

use std::time::Duration;

use liveobject_test_support::{
    Authority, CertificateSpec, Ledger, Listener, Mosquitto, Proxy, Service, Subscriber,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helpers::{Dice, LONG_TIMEOUT, Load, assert_kept, service, settle};

const EVENTS_PER_SECOND: u32 = 300;
const SECONDS: u64 = 20;
/// Duration of the tests with another protocol version or transport.
const SECONDS_VARIANT: u64 = 10;

struct World {
    dice: Dice,
    broker: Mosquitto,
    proxy: Proxy,
    service: Service,
    /// Additional settings for the broker connection.
    connection: Value,
}

#[tokio::test]
async fn no_event_is_lost_or_overtaken_in_chaos() {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let port = broker.port();
    chaos(broker, port, json!({}), SECONDS).await;
}

#[tokio::test]
async fn no_event_is_lost_or_overtaken_in_chaos_over_3_1_1() {
    let broker = Mosquitto::builder().upgrade_outgoing_qos().start().await;
    let port = broker.port();
    chaos(broker, port, json!({ "protocol": "3.1.1" }), SECONDS_VARIANT).await;
}

#[tokio::test]
async fn no_event_is_lost_or_overtaken_in_chaos_over_tls() {
    let authority = Authority::new("Test authority");
    let server = authority.issue(&CertificateSpec::server(&["127.0.0.1"]));
    let client = authority.issue(&CertificateSpec::client("camera"));
    let encrypted = Listener::tls(&server).for_clients_of(authority.pem());
    let broker = Mosquitto::builder().upgrade_outgoing_qos().listener(encrypted).start().await;
    let port = broker.listener(0);
    let connection = json!({
        "use_tls": true, "ca_certificate": authority.pem(),
        "client_certificate": client.certificate, "client_key": client.key,
    });
    chaos(broker, port, connection, SECONDS_VARIANT).await;
}

#[tokio::test]
async fn no_event_is_lost_or_overtaken_in_chaos_over_web_sockets_and_tls() {
    let authority = Authority::new("Test authority");
    let server = authority.issue(&CertificateSpec::server(&["127.0.0.1"]));
    let encrypted = Listener::tls(&server).and_websockets();
    let broker = Mosquitto::builder().upgrade_outgoing_qos().listener(encrypted).start().await;
    let port = broker.listener(0);
    let connection = json!({ "use_tls": true, "ca_certificate": authority.pem(), "transport": "websocket" });
    chaos(broker, port, connection, SECONDS_VARIANT).await;
}

/// Runs the test against the broker's `port` with these connection settings. `CHAOS_SECONDS` overrides its
/// duration.
async fn chaos(broker: Mosquitto, port: u16, connection: Value, seconds: u64) {
    let seconds = std::env::var("CHAOS_SECONDS")
        .map_or(seconds, |text| text.parse().expect("CHAOS_SECONDS is a number"));
    let dice = Dice::new("chaos");
    let seed = dice.seed();
    let subscriber = Subscriber::builder(broker.port()).filter("liveobject/#").start().await;
    let proxy = Proxy::start(port).await;
    let service = service().start().await;
    let mut world = World { dice, broker, proxy, service, connection };
    connect(&world).await;
    world.service.wait_connected(LONG_TIMEOUT).await;

    let load = Load::start(&world.service, EVENTS_PER_SECOND);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut faults = 0;
    while Instant::now() < end {
        let pause = world.dice.millis(50, 2500);
        sleep(pause).await;
        inject_fault(&mut world).await;
        faults += 1;
    }
    let (mut ledger, accepted) = load.stop().await;
    // After many failures the next automatic attempt may be a minute away. With new settings the service
    // connects at once.
    connect(&world).await;
    settle(&world.service, &subscriber, &mut ledger, accepted).await;
    println!("{faults} faults in {seconds} s");
    println!("{}", summary(&ledger, accepted, seed));
    assert_kept(&ledger);
    let expected = usize::try_from(seconds).expect("small") * 10;
    assert!(accepted > expected, "too few events were accepted for a meaningful test: {accepted}");
}

async fn connect(world: &World) {
    let port = world.proxy.port();
    let mut settings = json!({
        "enabled": true, "broker_host": "127.0.0.1", "broker_port": port,
        "connect_timeout_seconds": 2, "ack_timeout_seconds": 5,
    });
    let connection = world.connection.as_object().expect("an object").clone();
    settings.as_object_mut().expect("an object").extend(connection);
    let _ = world.service.put_config(&settings).await.expect(200);
}

async fn inject_fault(World { dice, broker, proxy, service, .. }: &mut World) {
    match dice.below(10) {
        0 => broker.restart().await,
        1 => {
            broker.stop().await;
            sleep(dice.millis(0, 2000)).await;
            broker.resume().await;
        }
        2 => {
            broker.freeze();
            sleep(dice.millis(0, 2000)).await;
            broker.thaw();
        }
        3 => proxy.cut().await,
        4 => proxy.reset().await,
        5 => {
            proxy.stall();
            // This is sometimes longer than the service waits for an acknowledgement.
            sleep(dice.millis(100, 7000)).await;
            proxy.flow();
        }
        6 => {
            proxy.refuse().await;
            proxy.cut().await;
            sleep(dice.millis(0, 1500)).await;
            proxy.accept().await;
        }
        7 => service.restart().await,
        _ => {
            service.kill9().await;
            sleep(dice.millis(0, 300)).await;
            service.start().await;
        }
    }
}

fn summary(ledger: &Ledger, accepted: usize, seed: u64) -> String {
    format!(
        "accepted={accepted} delivered={} lost={} out_of_order={} duplicates={} seed={seed}",
        accepted - ledger.lost().len(),
        ledger.lost().len(),
        ledger.out_of_order().len(),
        ledger.duplicates(),
    )
}
