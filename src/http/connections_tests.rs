//! Limits of connections, and what they count.

use tokio::time::timeout;

use super::*;

const HERE: [u8; 4] = [192, 168, 1, 20];

fn limits() -> Limits {
    Limits {
        max_connections: 6,
        max_connections_per_address: 3,
        max_loopback_connections: 2,
        max_health_connections: 2,
        ..Limits::default()
    }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn admit(connections: &Connections, ip: [u8; 4], now: Instant) -> Place {
    connections.admit(ip.into(), false, now).unwrap()
}

#[test]
fn connections_of_a_trusted_proxy_are_limited_only_in_total() {
    let proxies = TrustedProxies::new(&["192.168.1.0/24".parse().unwrap()]);
    let (connections, now) = (Connections::new(limits(), proxies), Instant::now());
    let places: Vec<_> = (0..6).map(|_| admit(&connections, HERE, now)).collect();
    for place in &places {
        begin(place, now);
    }
    assert!(connections.warnings(now).is_empty());
    assert!(admit(&connections, HERE, now).connection.is_health_only);
    assert_eq!(connections.warnings(now).len(), 1);
}

fn begin(place: &Place, now: Instant) {
    place.connection.begin(false, now);
}

#[test]
fn a_new_connection_takes_the_place_of_the_one_that_waited_longest() {
    let (connections, now) = (Connections::new(limits(), TrustedProxies::default()), Instant::now());
    let places: Vec<_> = (0..3).map(|i| admit(&connections, HERE, after(now, i))).collect();
    begin(&places[0], now);
    let new = admit(&connections, HERE, after(now, 3));
    assert!(!new.connection.is_health_only);
    let closed: Vec<_> = places.iter().map(|place| place.connection.is_closed()).collect();
    assert_eq!(closed, [false, true, false], "the first one is busy");
    assert_eq!(connections.table().public, 3);
    drop((places, new));
    let table = connections.table();
    assert_eq!((table.public, table.networks.len()), (0, 0));
}

#[test]
fn while_all_connections_of_an_address_are_busy_a_new_one_may_only_ask_for_health() {
    let (connections, now) = (Connections::new(limits(), TrustedProxies::default()), Instant::now());
    let places: Vec<_> = (0..3).map(|_| admit(&connections, HERE, now)).collect();
    for place in &places {
        begin(place, now);
    }
    let health: Vec<_> = (0..3).map(|i| admit(&connections, HERE, after(now, i))).collect();
    assert!(health.iter().all(|place| place.connection.is_health_only));
    assert!(health[0].connection.is_closed() && !health[1].connection.is_closed());
    let other = admit(&connections, [192, 168, 1, 21], now);
    assert!(!other.connection.is_health_only, "other addresses are not affected");
}

#[test]
fn at_the_total_limit_the_address_with_the_most_connections_gives_up_one() {
    let (connections, now) = (Connections::new(limits(), TrustedProxies::default()), Instant::now());
    let few = admit(&connections, [10, 0, 0, 1], now);
    let two: Vec<_> = (0..2).map(|_| admit(&connections, [10, 0, 0, 2], after(now, 1))).collect();
    let three: Vec<_> = (0..3).map(|_| admit(&connections, [10, 0, 0, 3], after(now, 2))).collect();
    let _new = admit(&connections, [10, 0, 0, 4], after(now, 3));
    assert!(!few.connection.is_closed() && two.iter().all(|place| !place.connection.is_closed()));
    assert_eq!(three.iter().filter(|place| place.connection.is_closed()).count(), 1);
    assert_eq!(connections.warnings(after(now, 3)).len(), 1);
}

#[test]
fn connections_from_this_machine_have_their_own_places() {
    let (connections, now) = (Connections::new(limits(), TrustedProxies::default()), Instant::now());
    let public: Vec<_> = (0..6).map(|i| admit(&connections, [10, 0, 0, i], now)).collect();
    for place in &public {
        begin(place, now);
    }
    assert!(admit(&connections, HERE, now).connection.is_health_only);
    assert!(!admit(&connections, [127, 0, 0, 1], now).connection.is_health_only);
}

#[test]
fn every_wait_for_a_client_has_an_end() {
    let (connections, now) = (Connections::new(limits(), TrustedProxies::default()), Instant::now());
    let place = admit(&connections, HERE, now);
    let connection = &place.connection;
    let expires = |at: u64| connection.has_expired(&limits(), after(now, at));
    assert!(!expires(9) && expires(10), "the first request head");
    begin(&place, now);
    assert!(!expires(10_000), "the handler has its own limits");
    connection.end(after(now, 20));
    assert!(!expires(99) && expires(100), "an idle connection");
    connection.received(after(now, 30));
    connection.received(after(now, 39));
    assert!(!expires(39) && expires(40), "a later request head that trickles");
    connection.begin(true, after(now, 50));
    connection.end(after(now, 50));
    assert!(!expires(59) && expires(60), "the unread rest of a body");
    connection.begin(true, after(now, 70));
    connection.begin_body(after(now, 70));
    connection.end_body(true, after(now, 71));
    connection.end(after(now, 71));
    assert!(!expires(150) && expires(151), "the body was read");
    assert!(!connection.is_closed());
    connections.sweep(after(now, 151));
    assert!(connection.is_closed());
}

#[actix_rt::test(system = "liveobject_actors::System")]
async fn connections_are_checked_only_while_there_are_any() {
    tokio::time::pause();
    let connections = Connections::new(limits(), TrustedProxies::default());
    let others = connections.another_group(limits(), TrustedProxies::default());
    let day = Duration::from_hours(24);
    let is_due = async |within| timeout(within, connections.next_check(false)).await.is_ok();
    assert!(!is_due(day).await, "no connection, no check");
    for group in [&connections, &others] {
        let place = admit(group, HERE, Instant::now());
        assert!(is_due(SWEEP_INTERVAL * 2).await, "the first connection");
        let second = admit(group, HERE, Instant::now());
        assert!(!group.is_empty() && !is_due(day).await, "one more is no reason to start again");
        timeout(SWEEP_INTERVAL * 2, group.next_check(true)).await.expect("regular while there are any");
        drop((place, second));
        assert!(group.is_empty() && !is_due(day).await, "all are closed");
    }
}

#[test]
fn the_warning_names_the_address_and_goes_away_a_minute_after_its_cause() {
    let (connections, now) = (Connections::new(limits(), TrustedProxies::default()), Instant::now());
    let _places: Vec<_> = (0..3).map(|_| admit(&connections, HERE, now)).collect();
    assert_eq!(connections.warnings(now), []);
    let _more = admit(&connections, HERE, now);
    let warnings = connections.warnings(after(now, 59));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.starts_with("192.168.1.20 has 3 connections"), "{warnings:?}");
    assert_eq!(connections.warnings(after(now, 60)), []);
}

#[test]
fn an_ipv6_network_is_one_caller_and_a_mapped_ipv4_address_is_that_address() {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    assert_eq!(network(ip("2001:db8:1:2:3:4:5:6")), network(ip("2001:db8:1:2::1")));
    assert_ne!(network(ip("2001:db8:1:2::1")), network(ip("2001:db8:1:3::1")));
    assert_eq!(network(ip("::ffff:192.168.1.20")), ip("192.168.1.20"));
    assert_ne!(network(ip("192.168.1.20")), network(ip("192.168.1.21")));
}
