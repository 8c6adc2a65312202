//! Joins the places that are the same broker.

use std::net::IpAddr;

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
}

struct Group {
    places: Vec<Place>,
    machines: Vec<IpAddr>,
}

impl Group {
    fn is_same(&self, place: &Place, machines: &[IpAddr]) -> bool {
        let (one, other) = (&self.places[0].target.address, &place.target.address);
        (one.port, one.use_tls) == (other.port, other.use_tls)
            && (self.machines.iter().any(|machine| machines.contains(machine))
                || self.places.iter().any(|known| known.target.address == place.target.address))
    }
}

/// Joins the places that have the same port on the same machine. The brokers are in the order of their first place.
pub(super) fn merge(places: Vec<Place>, network: &Network) -> Vec<Broker> {
    let mut groups: Vec<Group> = Vec::new();
    for place in places {
        let machines: Vec<_> = place.addresses.iter().map(|ip| network.identity(*ip)).collect();
        let same = groups.iter().position(|group| group.is_same(&place, &machines));
        let Some(first) = same else {
            groups.push(Group { places: vec![place], machines });
            continue;
        };
        // The place may also show that two groups are one.
        for i in (first + 1..groups.len()).rev() {
            if groups[i].is_same(&place, &machines) {
                let other = groups.remove(i);
                groups[first].places.extend(other.places);
                groups[first].machines.extend(other.machines);
            }
        }
        groups[first].places.push(place);
        groups[first].machines.extend(machines);
    }
    groups.into_iter().map(broker).collect()
}

fn broker(Group { mut places, .. }: Group) -> Broker {
    places.sort_by_key(rank);
    let (mut hosts, mut names, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for Place { target, .. } in places {
        push_new(&mut names, target.label);
        push_new(&mut names, Some(target.address.to_string()));
        push_new(&mut hosts, Some(target.address));
        push_new(&mut sources, Some(target.source));
    }
    Broker { hosts, names, sources }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: Option<T>) {
    list.extend(item.filter(|item| !list.contains(item)));
}

/// Returns how useful an address is as a setting; the smallest is the best. A name that resolves is better than an
/// address, which may change.
fn rank(place: &Place) -> u8 {
    let is_name = place.target.announced.is_empty();
    match place.target.source {
        Source::Configured => 0,
        Source::ThisMachine => 1,
        Source::UsualName => 2,
        Source::Announced | Source::HomeAssistant if is_name => 3,
        Source::Announced | Source::HomeAssistant => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finder::sources::Target;

    fn place(source: Source, address: &str, label: &str, addresses: &[&str]) -> Place {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let is_address = address.starts_with(|c: char| c.is_ascii_digit());
        let target = Target {
            source,
            address: BrokerAddress::parse(address).unwrap(),
            label: Some(label.to_owned()).filter(|label| !label.is_empty()),
            announced: if is_address { addresses.clone() } else { Vec::new() },
        };
        Place { target, addresses }
    }

    fn network() -> Network {
        Network::new(["192.168.1.7/24".parse().unwrap()])
    }

    #[test]
    fn a_broker_with_several_names_appears_once_with_all_of_them() {
        let brokers = merge(
            vec![
                place(Source::UsualName, "homeassistant.local", "", &["192.168.1.5"]),
                place(Source::Announced, "192.168.1.5", "Mosquitto", &["192.168.1.5", "fd00::5"]),
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
        let brokers = merge(
            vec![
                place(Source::UsualName, "mqtt:1883", "", &["10.0.0.1"]),
                place(Source::UsualName, "mqtt:1884", "", &["10.0.0.1"]),
                place(Source::UsualName, "mqtt:8883", "", &["10.0.0.1"]),
                place(Source::UsualName, "mqtt://mqtt:8883", "", &["10.0.0.1"]),
            ],
            &network(),
        );
        assert_eq!(brokers.len(), 4);
    }

    #[test]
    fn the_addresses_of_this_machine_are_one_broker_and_loopback_is_preferred() {
        let brokers = merge(
            vec![
                place(Source::Announced, "192.168.1.7", "Mosquitto", &["192.168.1.7"]),
                place(Source::ThisMachine, "127.0.0.1", "", &["127.0.0.1"]),
            ],
            &network(),
        );
        assert_eq!(brokers.len(), 1);
        assert_eq!(brokers[0].hosts[0].host, "127.0.0.1");
    }

    #[test]
    fn a_place_that_connects_two_brokers_makes_them_one() {
        let brokers = merge(
            vec![
                place(Source::Announced, "10.0.0.1", "a", &["10.0.0.1"]),
                place(Source::Announced, "10.0.0.2", "b", &["10.0.0.2"]),
                place(Source::UsualName, "mqtt", "", &["10.0.0.1", "10.0.0.2"]),
            ],
            &network(),
        );
        assert_eq!(brokers.len(), 1);
        assert_eq!(brokers[0].hosts[0].host, "mqtt");
    }
}
