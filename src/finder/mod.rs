//! Finds brokers that are probably the right one, for the page's guide and for `liveobject setup`.
//!
//! For one and a half seconds, `sources` collects places: usual addresses and names, those of the configuration, and
//! those that are announced by multicast DNS (`mdns`). Then `merge` joins the places that are the same broker, and
//! each broker is tested up to the login. The test sends no user name and no password, publishes nothing and subscribes
//! to nothing, because the broker may belong to somebody else. The service connects to none of them until a user
//! chooses one.

mod address;
mod candidate;
mod mdns;
mod merge;
mod network;
mod shared;
mod sources;

use std::{sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use liveobject_actors::{MqttSettings, connection::probe, domain::probe_report::LoginReport};
use tokio::time::Instant;

pub use self::{
    address::BrokerAddress,
    candidate::{Candidate, CandidateState, Found, Source},
    shared::{Finder, Search},
};
use self::{
    merge::{Broker, Other},
    network::Network,
};

/// How long announcements are collected. The query is sent at the beginning and again after a second, because packets
/// get lost, and because a machine does not repeat a response within a second.
const BROWSE: Duration = Duration::from_millis(1500);

/// How long a usual name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(1);

/// Maximum duration of the test of one broker at all its addresses. All brokers are tested at the same time.
const TEST: Duration = Duration::from_secs(4);

/// Maximum duration of the test of one address.
const TEST_ADDRESS: Duration = Duration::from_secs(3);

/// An address is not tried if less time than this is left for it.
const MIN_TEST: Duration = Duration::from_millis(500);

/// Maximum time until the connection is open. It is a part of [`TEST_ADDRESS`].
const CONNECT_SECONDS: u16 = 2;

/// Maximum number of brokers that are tested.
const MAX_TESTED: usize = 24;

/// Maximum number of addresses of one broker that are tried.
const MAX_HOSTS: usize = 3;

/// Finds brokers, within six seconds. `configured` are the additional addresses of the configuration.
pub async fn find(configured: &[BrokerAddress]) -> Found {
    let network = Network::of_this_machine();
    let guesses = sources::resolve(sources::usual(configured), RESOLVE, &network);
    let (announced, mut places) = join(mdns::browse(BROWSE), guesses).await;
    let mut left_out = announced.left_out;
    let targets = announced.services.iter().flat_map(|service| service.targets(&network)).collect();
    places.extend(sources::resolve(targets, RESOLVE, &network).await);
    let mut brokers = merge::merge(places, &network);
    left_out += brokers.len().saturating_sub(MAX_TESTED);
    brokers.truncate(MAX_TESTED);
    let tested = join_all(brokers.into_iter().map(test)).await;
    Found { candidates: candidate::select(tested), left_out }
}

/// Tests the addresses of a broker until one responds, then other addresses in its announcement. Returns the result of
/// the address that responds, otherwise of the best one.
async fn test(broker: Broker) -> Candidate {
    let deadline = Instant::now() + TEST;
    let others: Vec<Broker> = broker.others.iter().map(Other::broker).collect();
    let places = broker.hosts.iter().map(|address| (&broker, address));
    let places = places.chain(others.iter().map(|other| (other, &other.hosts[0])));
    let mut first = None;
    for (named, address) in places.take(MAX_HOSTS) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < MIN_TEST {
            break;
        }
        let report = log_in(address, left.min(TEST_ADDRESS)).await;
        let is_reachable = report.is_reachable();
        let candidate = Candidate::new(named, address, report);
        if is_reachable {
            return candidate;
        }
        first.get_or_insert(candidate);
    }
    first.expect("the first address is tried")
}

/// Tries to log in within `limit` without a user name, with a client id that reveals nothing about this installation.
async fn log_in(address: &BrokerAddress, limit: Duration) -> LoginReport {
    let settings = MqttSettings {
        broker_host: address.host.clone(),
        broker_port: address.port,
        use_tls: address.use_tls,
        connect_timeout_seconds: CONNECT_SECONDS,
        ..MqttSettings::defaults(&MqttSettings::new_client_id())
    };
    probe::log_in(Arc::new(settings), limit).await
}
