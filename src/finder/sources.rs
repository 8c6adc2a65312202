//! Where brokers are looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{net::lookup_host, time::timeout};

use super::{BrokerAddress, Network, Source};

/// Usual names: Home Assistant's app for Mosquitto, services in a compose file, and Home Assistant's own machine.
const NAMES: [&str; 4] = ["core-mosquitto", "mosquitto", "mqtt", "homeassistant.local"];

/// Maximum number of addresses of one name.
const MAX_ADDRESSES: usize = 8;

/// An address at which there may be a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) source: Source,
    pub(super) address: BrokerAddress,
    /// The name under which it is announced.
    pub(super) label: Option<String>,
    /// Further addresses that the same announcement contains, the most useful one first. Nothing shows that they belong
    /// to the same machine.
    pub(super) others: Vec<IpAddr>,
}

/// A target whose name has been resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) target: Target,
    pub(super) addresses: Vec<IpAddr>,
}

/// Returns the places to try in any network. To add a source that needs no announcement, add it here, with a variant of
/// [`Source`].
pub(super) fn usual(configured: &[BrokerAddress]) -> Vec<Target> {
    let target = |source, address| Target { source, address, label: None, others: Vec::new() };
    let configured = configured.iter().cloned().map(|address| target(Source::Configured, address));
    let loopback = Ipv4Addr::LOCALHOST.to_string();
    let hosts = [(Source::ThisMachine, loopback.as_str())];
    let hosts = hosts.into_iter().chain(NAMES.map(|name| (Source::UsualName, name)));
    let usual = hosts.flat_map(|(source, host)| {
        [false, true].map(|use_tls| target(source, BrokerAddress::usual(host, use_tls)))
    });
    configured.chain(usual).collect()
}

/// Resolves the hosts of targets with the system's resolver, as a connection does. Leaves out those that are not
/// resolved within `limit`, and those that are not in a local network, unless they are configured.
pub(super) async fn resolve(targets: Vec<Target>, limit: Duration, network: &Network) -> Vec<Place> {
    let names: BTreeSet<&str> = targets.iter().map(|target| target.address.host.as_str()).collect();
    let resolved = join_all(names.into_iter().map(|name| async move {
        let addresses = match timeout(limit, lookup_host((name, 0))).await {
            Ok(Ok(addresses)) => addresses.map(|address| address.ip()).take(MAX_ADDRESSES).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        (name.to_owned(), addresses)
    }));
    let resolved: BTreeMap<String, Vec<IpAddr>> = resolved.await.into_iter().collect();
    let places = targets.into_iter().filter_map(|target| {
        let mut addresses = resolved.get(&target.address.host).cloned().unwrap_or_default();
        if target.source != Source::Configured {
            addresses = all_near(addresses, network)?;
        }
        let is_known = !addresses.is_empty() || target.source == Source::Configured;
        is_known.then_some(Place { target, addresses })
    });
    places.collect()
}

/// Returns the addresses, or `None` if one of them is not in a local network. (Some providers resolve every name, to an
/// address of their own.)
fn all_near(mut addresses: Vec<IpAddr>, network: &Network) -> Option<Vec<IpAddr>> {
    // A name often has such an address in addition to others.
    addresses.retain(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    addresses.iter().all(|ip| network.is_near(*ip)).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_addresses_come_first_and_each_usual_host_is_tried_with_and_without_tls() {
        let configured = BrokerAddress::parse("a.lan:7").unwrap();
        let targets = usual(std::slice::from_ref(&configured));
        assert_eq!((&targets[0].address, targets[0].source), (&configured, Source::Configured));
        let texts: Vec<String> = targets[1..].iter().map(|target| target.address.to_string()).collect();
        for host in ["127.0.0.1", "core-mosquitto", "mosquitto", "mqtt", "homeassistant.local"] {
            assert!(
                texts.contains(&format!("{host}:1883")) && texts.contains(&format!("{host}:8883")),
                "{texts:?}"
            );
        }
        assert_eq!(texts.len(), 10);
    }

    #[test]
    fn a_name_that_leads_out_of_the_local_networks_is_left_out() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let near = |texts: &[&str]| all_near(parse(texts), &Network::default());
        assert_eq!(near(&["10.0.0.1", "fe80::1"]), Some(parse(&["10.0.0.1"])));
        assert_eq!(near(&["10.0.0.1", "203.0.113.1"]), None);
        assert_eq!(near(&["fe80::1"]), Some(Vec::new()));
    }

    #[tokio::test]
    async fn a_configured_address_is_kept_even_if_it_is_far_or_has_no_address() {
        let configured = ["203.0.113.1", "name.invalid"].map(|text| BrokerAddress::parse(text).unwrap());
        let targets = usual(&configured).into_iter().filter(|target| target.source == Source::Configured);
        let places = resolve(targets.collect(), Duration::from_secs(5), &Network::default()).await;
        assert_eq!(places.len(), 2);
    }
}
