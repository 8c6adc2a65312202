//! Services that are announced by multicast DNS (RFC 6762, RFC 6763).
//!
//! Any machine of the network can announce anything, including the name or the address of another one. Therefore names
//! are cleaned, shortened and only shown, never used to connect; only local addresses are used; and host names and TXT
//! records are not used at all.

use std::{net::IpAddr, time::Duration};

use futures_util::{StreamExt as _, stream::select_all};
use liveobject_actors::domain::causes::with_causes;
use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use tokio::time::{Instant, timeout_at};

use super::{
    BrokerAddress, Network, Source,
    address::{PORT, TLS_PORT},
    sources::Target,
};
use crate::terminal::is_harmless;

/// Maximum number of announcements.
const MAX_SERVICES: usize = 32;

/// Maximum number of addresses of one announcement.
const MAX_ADDRESSES: usize = 8;

/// Maximum length of a service's name, as in RFC 6763.
const MAX_LABEL_CHARS: usize = 63;

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
    port: u16,
    addresses: Vec<IpAddr>,
}

/// The announced services, and the number of announcements above the limit, in which a service may be counted twice.
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

/// Asks the local networks for brokers, and collects the responses for `limit`. Finds nothing without multicast, for
/// example in the network of a container.
pub(super) async fn browse(limit: Duration) -> Announced {
    let deadline = Instant::now() + limit;
    let daemon = match ServiceDaemon::new() {
        Ok(daemon) => Stop(daemon),
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "cannot search for brokers by multicast DNS");
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
    let addresses = addresses.take(MAX_ADDRESSES).collect();
    Service { kind, label: clean(label), port: service.port, addresses }
}

/// Returns the name, shortened, without its final dot and without characters that are invisible or that a terminal
/// interprets.
fn clean(label: &str) -> String {
    let label = label.strip_suffix('.').unwrap_or(label);
    label.chars().filter(|c| is_harmless(*c)).take(MAX_LABEL_CHARS).collect::<String>().trim().to_owned()
}

impl Service {
    /// Returns where the broker may be: at its most useful address, and at others if it does not respond there. An
    /// announcement must not lead to this machine's loopback address or out of the local networks.
    pub(super) fn targets(&self, network: &Network) -> Vec<Target> {
        let reachable = network.reachable(&self.addresses);
        let Some((best, others)) = reachable.split_first() else { return Vec::new() };
        let (source, ports) = match self.kind {
            Kind::Mqtt => (Source::Announced, vec![(self.port, false)]),
            Kind::MqttWithTls => (Source::Announced, vec![(self.port, true)]),
            Kind::HomeAssistant => (Source::HomeAssistant, vec![(PORT, false), (TLS_PORT, true)]),
        };
        let ports = ports.into_iter().filter(|(port, _)| *port > 0);
        let targets = ports.map(|(port, use_tls)| Target {
            source,
            address: BrokerAddress { host: best.to_string(), port, use_tls },
            label: Some(self.label.clone()).filter(|label| !label.is_empty()),
            others: others.to_vec(),
        });
        targets.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(kind: Kind, addresses: &[&str]) -> Service {
        Service {
            kind,
            label: "Mosquitto".to_owned(),
            port: 1884,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn addresses(service: &Service) -> Vec<String> {
        let targets = service.targets(&Network::default());
        targets.iter().map(|target| target.address.to_string()).collect()
    }

    #[test]
    fn a_broker_is_tried_at_its_most_useful_address_and_then_at_the_others() {
        let targets =
            service(Kind::Mqtt, &["fe80::1", "fd00::5", "192.168.1.5"]).targets(&Network::default());
        let [only] = targets.as_slice() else { panic!("{targets:?}") };
        assert_eq!(
            (only.address.to_string(), only.source),
            ("192.168.1.5:1884".to_owned(), Source::Announced)
        );
        assert_eq!(only.others, ["fd00::5".parse::<IpAddr>().unwrap()]);
        let home_assistant = service(Kind::HomeAssistant, &["192.168.1.5"]);
        assert_eq!(addresses(&home_assistant), ["192.168.1.5:1883", "192.168.1.5:8883"]);
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
