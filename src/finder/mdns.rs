//! Services that are announced by multicast DNS (RFC 6762, RFC 6763).
//!
//! Everything in an announcement is a stranger's text: names are shortened and cleaned, only local addresses are used,
//! and TXT records are not used at all.

use std::{net::IpAddr, time::Duration};

use futures_util::{StreamExt as _, stream::select_all};
use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use tokio::time::{Instant, timeout_at};

use super::{
    BrokerAddress, Network, Source,
    address::{PORT, TLS_PORT},
    network::preference,
    sources::Target,
};
use crate::terminal::is_harmless;

/// Maximum number of announcements.
const MAX_SERVICES: usize = 32;

/// Maximum number of addresses of one announcement.
const MAX_ADDRESSES: usize = 8;

/// Maximum length of a service's name, as in RFC 6763.
const MAX_LABEL_CHARS: usize = 63;

const MAX_HOST_BYTES: usize = 255;

/// What is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mqtt,
    MqttWithTls,
    /// Home Assistant's page. A broker may run on the same machine.
    HomeAssistant,
}

const KINDS: [Kind; 3] = [Kind::Mqtt, Kind::MqttWithTls, Kind::HomeAssistant];

impl Kind {
    fn service_type(self) -> &'static str {
        match self {
            Self::Mqtt => "_mqtt._tcp.local.",
            Self::MqttWithTls => "_secure-mqtt._tcp.local.",
            Self::HomeAssistant => "_home-assistant._tcp.local.",
        }
    }
}

/// An announced service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    kind: Kind,
    label: String,
    /// The name of its host, which ends with `.local`.
    host: Option<String>,
    port: u16,
    addresses: Vec<IpAddr>,
}

/// The announced services, and how many more there were.
#[derive(Debug, Default)]
pub(super) struct Announced {
    pub(super) services: Vec<Service>,
    pub(super) left_out: usize,
}

/// Stops the thread that receives announcements.
struct Stop(ServiceDaemon);

impl Drop for Stop {
    fn drop(&mut self) {
        // It fails if the thread has ended.
        let _ended = self.0.shutdown();
    }
}

/// Asks the local networks for brokers, and collects the responses for `limit`. Without multicast, for example in the
/// network of a container, there are none.
pub(super) async fn browse(limit: Duration) -> Announced {
    let deadline = Instant::now() + limit;
    let daemon = match ServiceDaemon::new() {
        Ok(daemon) => Stop(daemon),
        Err(error) => {
            tracing::warn!(%error, "cannot search for brokers by multicast DNS");
            return Announced::default();
        }
    };
    let browse = |kind: Kind| {
        let events = daemon.0.browse(kind.service_type()).ok()?.into_stream();
        Some(events.map(move |event| (kind, event)).boxed())
    };
    let mut events = select_all(KINDS.into_iter().filter_map(browse));
    let mut found = Announced::default();
    while let Ok(Some((kind, event))) = timeout_at(deadline, events.next()).await {
        if let ServiceEvent::ServiceResolved(service) = event {
            found.add(read(kind, &service));
        }
    }
    found
}

impl Announced {
    /// Adds a service. A service is reported again when another of its addresses becomes known.
    fn add(&mut self, service: Service) {
        let is_same = |known: &Service| {
            (known.kind, &known.label, known.port) == (service.kind, &service.label, service.port)
        };
        match self.services.iter().position(is_same) {
            Some(i) => self.services[i] = service,
            None if self.services.len() < MAX_SERVICES => self.services.push(service),
            None => self.left_out += 1,
        }
    }
}

fn read(kind: Kind, service: &ResolvedService) -> Service {
    let label = service.fullname.strip_suffix(kind.service_type()).unwrap_or(&service.fullname);
    let addresses = service.addresses.iter().map(|address| address.to_ip_addr().to_canonical());
    let mut addresses: Vec<IpAddr> = addresses.take(MAX_ADDRESSES).collect();
    addresses.sort_by_key(|ip| (preference(*ip), *ip));
    Service { kind, label: clean(label), host: local_host(&service.host), port: service.port, addresses }
}

/// Returns the name without its final dot and without characters that are invisible or that a terminal interprets.
fn clean(label: &str) -> String {
    let label = label.strip_suffix('.').unwrap_or(label);
    label.chars().filter(|c| is_harmless(*c)).take(MAX_LABEL_CHARS).collect::<String>().trim().to_owned()
}

/// Returns the name of a host in the local network, in lower case.
fn local_host(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_plain = name.len() <= MAX_HOST_BYTES
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c));
    let host =
        name.strip_suffix(".local").is_some_and(|host| !host.is_empty() && !host.starts_with(['-', '.']));
    (is_plain && host).then_some(name)
}

impl Service {
    /// Returns the places where the broker may be: its best address, and the name of its host, which may outlive the
    /// address. An announcement must not lead to this machine's loopback address or out of the local networks.
    pub(super) fn targets(&self, network: &Network) -> Vec<Target> {
        let addresses = self.addresses.iter().copied();
        let near: Vec<IpAddr> = addresses.filter(|ip| !ip.is_loopback() && network.is_near(*ip)).collect();
        let Some(best) = near.first() else { return Vec::new() };
        let (source, ports) = match self.kind {
            Kind::Mqtt => (Source::Announced, vec![(self.port, false)]),
            Kind::MqttWithTls => (Source::Announced, vec![(self.port, true)]),
            Kind::HomeAssistant => (Source::HomeAssistant, vec![(PORT, false), (TLS_PORT, true)]),
        };
        let mut targets = Vec::new();
        for (port, use_tls) in ports.into_iter().filter(|(port, _)| *port > 0) {
            let target = |host: &str, announced: &[IpAddr]| Target {
                source,
                address: BrokerAddress { host: host.to_owned(), port, use_tls },
                label: Some(self.label.clone()).filter(|label| !label.is_empty()),
                announced: announced.to_vec(),
            };
            targets.push(target(&best.to_string(), &near));
            targets.extend(self.host.as_ref().map(|host| target(host, &[])));
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(kind: Kind, addresses: &[&str]) -> Service {
        Service {
            kind,
            label: "Mosquitto".to_owned(),
            host: Some("ha.local".to_owned()),
            port: 1884,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn addresses(service: &Service) -> Vec<String> {
        let targets = service.targets(&Network::default());
        targets.iter().map(|target| target.address.to_string()).collect()
    }

    #[test]
    fn a_broker_is_tried_at_its_best_address_and_by_its_name() {
        assert_eq!(
            addresses(&service(Kind::Mqtt, &["fe80::1", "192.168.1.5"])),
            ["192.168.1.5:1884", "ha.local:1884"]
        );
        let home_assistant = service(Kind::HomeAssistant, &["192.168.1.5"]);
        assert_eq!(
            addresses(&home_assistant),
            ["192.168.1.5:1883", "ha.local:1883", "192.168.1.5:8883", "ha.local:8883"]
        );
    }

    #[test]
    fn an_announcement_leads_neither_to_loopback_nor_out_of_the_local_networks() {
        for evil in [&["127.0.0.1"][..], &["::1"], &["203.0.113.5"], &["fe80::1"], &["224.0.0.1"], &[]] {
            assert!(addresses(&service(Kind::Mqtt, evil)).is_empty(), "{evil:?}");
        }
        assert!(addresses(&Service { port: 0, ..service(Kind::Mqtt, &["10.0.0.1"]) }).is_empty());
    }

    #[test]
    fn names_of_announcements_are_cleaned_and_shortened() {
        assert_eq!(clean("Bro\u{1b}[2Jker\u{202e}."), "Bro[2Jker");
        assert_eq!(clean(&"x".repeat(1000)).len(), MAX_LABEL_CHARS);
        assert_eq!(local_host("HA-1.local."), Some("ha-1.local".to_owned()));
        for bad in ["example.org.", "local.", ".local.", "a b.local.", "-a.local.", "<b>.local.", ""] {
            assert_eq!(local_host(bad), None, "{bad}");
        }
        assert_eq!(local_host(&format!("{}.local", "a".repeat(300))), None);
    }

    #[test]
    fn announcements_are_limited_and_a_repeated_one_replaces_the_first() {
        let mut announced = Announced::default();
        for i in 0..40 {
            announced.add(Service { label: i.to_string(), ..service(Kind::Mqtt, &["10.0.0.1"]) });
        }
        announced.add(Service { label: "0".to_owned(), ..service(Kind::Mqtt, &["10.0.0.1", "10.0.0.2"]) });
        assert_eq!((announced.services.len(), announced.left_out), (MAX_SERVICES, 8));
        assert_eq!(announced.services[0].addresses.len(), 2);
    }
}
