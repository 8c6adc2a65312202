//! Joins the places that are the same broker.
//!
//! What is joined appears as one broker, and the login goes to one of its addresses. A place is therefore joined only
//! if it leads to the same machine, never because it names that machine among others: an announcement may contain the
//! address of a stranger and that of the broker.

use std::{collections::BTreeSet, net::IpAddr};

use super::{BrokerAddress, Network, Source, sources::Place};

/// One broker, with everything that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broker {
    /// Its addresses for the settings, the best one first. At least one.
    pub(super) hosts: Vec<BrokerAddress>,
    /// All names and addresses, as people see them.
    pub(super) names: Vec<String>,
    /// How it was found.
    pub(super) sources: Vec<Source>,
    /// Where it may be instead if it does not respond.
    pub(super) others: Vec<Other>,
}

/// A further address in the announcement of a broker, perhaps of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) address: BrokerAddress,
    pub(super) label: Option<String>,
    pub(super) source: Source,
}

impl Other {
    /// Returns the broker with this address only.
    pub(super) fn broker(&self) -> Broker {
        let mut names = Vec::from_iter(self.label.clone());
        push_new(&mut names, Some(self.address.to_string()));
        Broker { hosts: vec![self.address.clone()], names, sources: vec![self.source], others: Vec::new() }
    }
}

struct Group {
    places: Vec<Place>,
    /// The machines to which every place leads.
    machines: BTreeSet<IpAddr>,
}

impl Group {
    fn is_same(&self, place: &Place, machines: &BTreeSet<IpAddr>) -> bool {
        let (one, other) = (&self.places[0].target.address, &place.target.address);
        (one.port, one.use_tls) == (other.port, other.use_tls)
            && (one == other || is_one_machine(&self.machines, machines))
    }
}

/// Returns whether places that lead to these addresses lead to the same machine. A name may have an IPv4 address and
/// several IPv6 addresses of one machine; if it has several IPv4 addresses, it may lead to several machines.
fn is_one_machine(one: &BTreeSet<IpAddr>, other: &BTreeSet<IpAddr>) -> bool {
    let is_single = |machines: &BTreeSet<IpAddr>| machines.iter().filter(|ip| ip.is_ipv4()).count() <= 1;
    !one.is_empty() && (one == other || is_single(one) && is_single(other) && !one.is_disjoint(other))
}

/// Joins the places that have the same port on the same machine. The brokers are in the order of their first place.
pub(super) fn merge(places: Vec<Place>, network: &Network) -> Vec<Broker> {
    let mut groups: Vec<Group> = Vec::new();
    for place in places {
        let machines = place.addresses.iter().map(|ip| network.identity(*ip)).collect();
        match groups.iter_mut().find(|group| group.is_same(&place, &machines)) {
            Some(group) => group.places.push(place),
            None => groups.push(Group { places: vec![place], machines }),
        }
    }
    groups.into_iter().map(broker).collect()
}

fn broker(Group { mut places, .. }: Group) -> Broker {
    places.sort_by_key(|place| rank(place.target.source));
    let (mut hosts, mut names, mut sources, mut others) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Place { target, .. } in places {
        let further = target.others.iter().map(|ip| Other {
            address: BrokerAddress { host: ip.to_string(), ..target.address.clone() },
            label: target.label.clone(),
            source: target.source,
        });
        others.extend(further);
        push_new(&mut names, target.label);
        push_new(&mut names, Some(target.address.to_string()));
        push_new(&mut hosts, Some(target.address));
        push_new(&mut sources, Some(target.source));
    }
    Broker { hosts, names, sources, others }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    list.extend(item.filter(|item| !list.contains(item)));
}

/// Returns how useful an address from this source is as a setting; the smallest value is the best. A name is better
/// than an IP address, which may change.
fn rank(source: Source) -> u8 {
    match source {
        Source::Configured => 0,
        Source::ThisMachine => 1,
        Source::UsualName => 2,
        Source::Announced | Source::HomeAssistant => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finder::sources::Target;

    fn place(source: Source, address: &str, label: &str, addresses: &[&str]) -> Place {
        let address = BrokerAddress::parse(address).unwrap();
        let label = Some(label.to_owned()).filter(|label| !label.is_empty());
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Place { target: Target { source, address, label, others: Vec::new() }, addresses }
    }

    fn network() -> Network {
        Network::new(["192.168.1.7/24".parse().unwrap()])
    }

    fn hosts(places: Vec<Place>) -> Vec<String> {
        let brokers = merge(places, &network());
        brokers.iter().map(|broker| broker.hosts[0].host.clone()).collect()
    }

    #[test]
    fn a_broker_with_several_names_appears_once_with_all_of_them() {
        let brokers = merge(
            vec![
                place(Source::UsualName, "homeassistant.local", "", &["192.168.1.5", "fd00::5", "fd00::6"]),
                place(Source::Announced, "192.168.1.5", "Mosquitto", &["192.168.1.5"]),
                place(Source::HomeAssistant, "192.168.1.5", "Home", &["192.168.1.5"]),
                place(Source::UsualName, "mqtt", "", &["192.168.1.6"]),
            ],
            &network(),
        );
        assert_eq!(brokers.len(), 2);
        assert_eq!(brokers[0].names, ["homeassistant.local:1883", "Mosquitto", "192.168.1.5:1883", "Home"]);
        assert_eq!(brokers[0].hosts[0].host, "homeassistant.local");
        assert_eq!(brokers[0].sources, [Source::UsualName, Source::Announced, Source::HomeAssistant]);
    }

    #[test]
    fn other_ports_and_encryption_are_other_brokers() {
        let all = ["mqtt:1883", "mqtt:1884", "mqtt:8883", "mqtt://mqtt:8883"];
        let places = all.map(|address| place(Source::UsualName, address, "", &["10.0.0.1"]));
        assert_eq!(hosts(places.into()).len(), 4);
    }

    #[test]
    fn the_addresses_of_this_machine_are_one_broker_and_loopback_is_preferred() {
        let announced = place(Source::Announced, "192.168.1.7", "Mosquitto", &["192.168.1.7"]);
        let loopback = place(Source::ThisMachine, "127.0.0.1", "", &["127.0.0.1"]);
        assert_eq!(hosts(vec![announced, loopback]), ["127.0.0.1"]);
    }

    #[test]
    fn a_name_of_several_machines_joins_none_of_them() {
        let places = vec![
            place(Source::Announced, "10.0.0.1", "a", &["10.0.0.1"]),
            place(Source::Announced, "10.0.0.2", "b", &["10.0.0.2"]),
            place(Source::UsualName, "mqtt", "", &["10.0.0.1", "10.0.0.2"]),
            place(Source::UsualName, "mosquitto", "", &["10.0.0.2", "10.0.0.1"]),
        ];
        assert_eq!(hosts(places), ["10.0.0.1", "10.0.0.2", "mqtt"]);
    }

    #[test]
    fn a_place_does_not_join_two_brokers() {
        let places = vec![
            place(Source::Announced, "10.0.0.1", "a", &["10.0.0.1"]),
            place(Source::UsualName, "mqtt", "", &["10.0.0.1", "fd00::2"]),
            place(Source::Announced, "fd00::2", "b", &["fd00::2"]),
        ];
        assert_eq!(hosts(places), ["mqtt", "fd00::2"]);
    }

    #[test]
    fn the_other_addresses_of_an_announcement_are_no_names_of_the_broker() {
        let mut evil = place(Source::Announced, "192.168.1.66", "Mosquitto", &["192.168.1.66"]);
        evil.target.others = vec!["192.168.1.99".parse().unwrap()];
        let real = place(Source::Announced, "192.168.1.99", "Mosquitto", &["192.168.1.99"]);
        let brokers = merge(vec![evil, real], &network());
        let names: Vec<_> = brokers.iter().map(|broker| broker.names.join(" ")).collect();
        assert_eq!(names, ["Mosquitto 192.168.1.66:1883", "Mosquitto 192.168.1.99:1883"]);
        let [other] = brokers[0].others.as_slice() else { panic!("{brokers:?}") };
        assert_eq!(other.broker().names, ["Mosquitto", "192.168.1.99:1883"]);
    }
}
