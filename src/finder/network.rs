//! The networks that this machine is in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses and networks of this machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    own: Vec<IpAddr>,
    subnets: Vec<IpNet>,
}

impl Network {
    /// Reads the addresses of the network interfaces. If that fails, only private addresses are near.
    pub(super) fn of_this_machine() -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let networks = interfaces.iter().map(|interface| match &interface.addr {
            if_addrs::IfAddr::V4(v4) => IpNet::new(v4.ip.into(), v4.prefixlen),
            if_addrs::IfAddr::V6(v6) => IpNet::new(v6.ip.into(), v6.prefixlen),
        });
        Self::new(networks.filter_map(Result::ok))
    }

    /// Creates the network of a machine whose interfaces have these addresses and prefix lengths.
    pub(super) fn new(interfaces: impl IntoIterator<Item = IpNet>) -> Self {
        let interfaces: Vec<_> = interfaces.into_iter().collect();
        Self { own: interfaces.iter().map(IpNet::addr).collect(), subnets: interfaces }
    }

    /// Returns whether the address belongs to this machine or to a local network. Other addresses are not those of a
    /// broker of this site, and are not contacted. A link-local IPv6 address is not near, because it needs the name of
    /// an interface, which the settings cannot contain.
    pub(super) fn is_near(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() => false,
            IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() => false,
            IpAddr::V4(ip) if ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip) => {
                true
            }
            IpAddr::V6(ip) if ip.is_loopback() || ip.is_unique_local() => true,
            ip => self.subnets.iter().any(|subnet| subnet.contains(&ip)),
        }
    }

    /// Returns the addresses that are near, without loopback addresses, the most useful one first: one in a network of
    /// this machine before one behind a router. An address of this machine itself comes last: it may belong to a
    /// network that exists on every machine, such as Docker's.
    pub(super) fn reachable(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let addresses = addresses.iter().map(IpAddr::to_canonical);
        let mut reachable: Vec<_> = addresses.filter(|ip| !ip.is_loopback() && self.is_near(*ip)).collect();
        let is_attached = |ip: &IpAddr| self.subnets.iter().any(|subnet| subnet.contains(ip));
        reachable.sort_by_key(|ip| (self.own.contains(ip), !is_attached(ip), preference(*ip), *ip));
        reachable.dedup();
        reachable
    }

    /// Returns the address that identifies a machine: the same one for all addresses of this machine.
    pub(super) fn identity(&self, ip: IpAddr) -> IpAddr {
        let ip = ip.to_canonical();
        if ip.is_loopback() || self.own.contains(&ip) { Ipv4Addr::LOCALHOST.into() } else { ip }
    }
}

/// Returns whether the address is one that providers and VPNs share (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [100, 64..=127, ..])
}

/// Returns how useful this kind of address is as a setting; the smallest value is the best. Private addresses change
/// less often than others.
fn preference(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) if !ip.is_link_local() => 0,
        IpAddr::V6(ip) if Ipv6Addr::is_unique_local(&ip) => 1,
        IpAddr::V6(_) => 2,
        IpAddr::V4(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::new(["192.168.1.7/24", "2001:db8:1::7/64"].map(|net| net.parse().unwrap()))
    }

    #[test]
    fn only_local_addresses_are_near() {
        for near in
            ["127.0.0.1", "192.168.9.9", "10.1.2.3", "172.30.33.0", "169.254.1.1", "100.64.0.1", "::1"]
                .into_iter()
                .chain(["fd00::1", "2001:db8:1::99", "::ffff:10.0.0.1"])
        {
            assert!(network().is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["8.8.8.8", "2001:db8:2::1", "fe80::1", "0.0.0.0", "::", "224.0.0.251", "255.255.255.255"]
        {
            assert!(!network().is_near(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn an_address_in_a_network_of_this_machine_is_the_most_useful_one_and_its_own_is_the_least() {
        let network = Network::new(["172.17.0.1/16", "192.168.1.7/24"].map(|net| net.parse().unwrap()));
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let announced = parse(&["172.17.0.1", "10.0.0.5", "fd00::5", "fe80::1", "127.0.0.1", "192.168.1.5"]);
        assert_eq!(
            network.reachable(&announced),
            parse(&["192.168.1.5", "10.0.0.5", "fd00::5", "172.17.0.1"])
        );
    }

    #[test]
    fn all_addresses_of_this_machine_are_one_machine() {
        let own = network().identity("127.0.0.1".parse().unwrap());
        for address in ["192.168.1.7", "2001:db8:1::7", "::1", "127.0.1.1", "::ffff:192.168.1.7"] {
            assert_eq!(network().identity(address.parse().unwrap()), own, "{address}");
        }
        assert_ne!(network().identity("192.168.1.8".parse().unwrap()), own);
    }
}
