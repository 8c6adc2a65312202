//! The addresses under which browsers can open the page.

use std::{
    collections::HashSet,
    env,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use rustix::process::geteuid;

use crate::config::host_name;

/// Maximum number of addresses.
const MAX_URLS: usize = 8;

/// Interfaces of containers and virtual machines on this machine. Nobody else can reach their addresses.
const VIRTUAL: [&str; 6] = ["br-", "docker", "lxc", "podman", "veth", "virbr"];

/// Where the server listens, and how the configuration describes it.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The URL of the service as clients see it, without a trailing `/`.
    pub public_url: String,
    /// Whether the configuration contains this URL.
    pub is_configured: bool,
    /// The addresses on which the server listens.
    pub bound: Vec<SocketAddr>,
}

/// The URLs of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The URLs, the most useful one first. At least one.
    pub urls: Vec<String>,
    /// Whether only browsers on this machine can use them.
    pub is_local_only: bool,
}

impl Addresses {
    /// Returns the URLs under which the page can be opened now. Addresses of the machine can change. `host` is the name
    /// or the address, with its port, under which the caller reaches the service.
    pub fn reach(&self, host: Option<&str>) -> Reach {
        let interfaces = if is_in_container() { None } else { Some(interface_addresses()) };
        reach(self, interfaces.as_deref(), host)
    }
}

/// Returns the URLs. `interfaces` are the addresses of this machine's network interfaces, or `None` in a container:
/// others have no use for the addresses of a container, and only callers know how they reach its machine.
fn reach(addresses: &Addresses, interfaces: Option<&[IpAddr]>, host: Option<&str>) -> Reach {
    let Addresses { public_url, is_configured, bound } = addresses;
    let scheme = if public_url.starts_with("https://") { "https" } else { "http" };
    let mut urls = Vec::new();
    if *is_configured {
        urls.push(public_url.clone());
    }
    for address in bound.iter().filter(|address| !address.ip().is_loopback()) {
        if !address.ip().is_unspecified() {
            urls.push(format!("{scheme}://{address}"));
            continue;
        }
        // `[::]` also accepts IPv4 connections, unless the system is configured otherwise.
        let is_usable = |ip: &&IpAddr| ip.is_ipv4() || address.is_ipv6();
        for ip in interfaces.unwrap_or_default().iter().filter(is_usable) {
            urls.push(format!("{scheme}://{}", SocketAddr::new(*ip, address.port())));
        }
    }
    let is_local_only = !is_configured && bound.iter().all(|address| address.ip().is_loopback());
    match (interfaces, bound.first()) {
        (None, Some(first)) if first.ip().is_unspecified() => {
            let own = match host.filter(|host| !is_loopback(host)) {
                Some(host) => format!("{scheme}://{host}"),
                None => format!("{scheme}://localhost:{}", first.port()),
            };
            urls.extend((!is_configured).then_some(own));
        }
        _ => urls.push(public_url.clone()),
    }
    let mut known = HashSet::new();
    urls.retain(|url| known.insert(url.clone()));
    urls.truncate(MAX_URLS);
    Reach { urls, is_local_only }
}

/// Returns the name by which other devices in the network find this machine without a name server (mDNS). Like an IP
/// address, it is safe to accept: no website can have a name below `.local`.
pub fn mdns_name() -> Option<String> {
    mdns_name_of(&host_name()?)
}

fn mdns_name_of(host_name: &str) -> Option<String> {
    let label = host_name.split('.').next().filter(|label| !label.is_empty() && *label != "localhost")?;
    Some(format!("{label}.local"))
}

/// Returns whether a host name or an address, with or without a port, means the machine of the caller itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Returns the command that prints a link to the page.
pub fn sign_in_command() -> String {
    command_for(is_in_container(), host_name().as_deref(), geteuid().as_raw())
}

/// Returns the command for a service that runs as this user. The host name of a container is its id, which
/// `docker exec` and `podman exec` accept. People do not log in as a system user, so they need `sudo` to read its data.
fn command_for(is_in_container: bool, host_name: Option<&str>, user: u32) -> String {
    match host_name {
        Some(name) if is_in_container => format!("docker exec {name} liveobject sign-in"),
        _ if cfg!(target_os = "linux") && (1..1000).contains(&user) => "sudo liveobject sign-in".to_owned(),
        _ => "liveobject sign-in".to_owned(),
    }
}

/// Returns the addresses that others may be able to reach: IPv4 before IPv6, without those of virtual networks.
fn interface_addresses() -> Vec<IpAddr> {
    // An error leaves the host name.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let is_virtual = |name: &str| VIRTUAL.iter().any(|prefix| name.starts_with(prefix));
    let mut addresses: Vec<_> = interfaces
        .iter()
        .filter(|interface| {
            !interface.is_loopback() && !interface.is_link_local() && !is_virtual(&interface.name)
        })
        .map(if_addrs::Interface::ip)
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// Returns whether this process runs in a container of Docker, Podman, Kubernetes or systemd-nspawn.
pub fn is_in_container() -> bool {
    env::var_os("container").is_some()
        || env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(configured: Option<&str>, bound: &[&str], interfaces: Option<&[&str]>) -> (Vec<String>, bool) {
        let bound: Vec<SocketAddr> = bound.iter().map(|text| text.parse().unwrap()).collect();
        let derived = format!("http://box:{}", bound[0].port());
        let addresses = Addresses {
            public_url: configured.map_or(derived, str::to_owned),
            is_configured: configured.is_some(),
            bound,
        };
        let interfaces: Option<Vec<IpAddr>> =
            interfaces.map(|list| list.iter().map(|text| text.parse().unwrap()).collect());
        let Reach { urls, is_local_only } = reach(&addresses, interfaces.as_deref(), None);
        (urls, is_local_only)
    }

    #[test]
    fn a_service_on_all_addresses_has_those_of_its_interfaces_and_its_name() {
        let (all, v4): (&[_], &[_]) = (&["192.168.1.5", "fd00::5"], &["192.168.1.5"]);
        assert_eq!(
            urls(None, &["[::]:8080"], Some(all)).0,
            ["http://192.168.1.5:8080", "http://[fd00::5]:8080", "http://box:8080"]
        );
        assert_eq!(
            urls(None, &["0.0.0.0:80"], Some(all)),
            (vec!["http://192.168.1.5:80".to_owned(), "http://box:80".to_owned()], false)
        );
        assert_eq!(
            urls(Some("https://cams.example.org"), &["0.0.0.0:80"], Some(v4)).0,
            ["https://cams.example.org", "https://192.168.1.5:80"]
        );
    }

    #[test]
    fn a_service_on_loopback_is_local_only() {
        let (list, is_local_only) = urls(None, &["127.0.0.1:8080"], Some(&["192.168.1.5"]));
        assert_eq!((list.len(), is_local_only), (1, true));
        assert_eq!(
            urls(Some("https://cams.example.org/live"), &["127.0.0.1:8080"], Some(&["192.168.1.5"])),
            (vec!["https://cams.example.org/live".to_owned()], false)
        );
    }

    #[test]
    fn the_addresses_of_a_container_are_not_given_to_anybody() {
        assert_eq!(urls(None, &["0.0.0.0:8080"], None), (vec!["http://localhost:8080".to_owned()], false));
        assert_eq!(urls(None, &["127.0.0.1:8080"], None), (vec!["http://box:8080".to_owned()], true));
    }

    #[test]
    fn the_name_in_the_network_is_that_of_the_machine_without_its_domain() {
        assert_eq!(mdns_name_of("box").as_deref(), Some("box.local"));
        assert_eq!(mdns_name_of("Box.example.org").as_deref(), Some("Box.local"));
        assert_eq!(mdns_name_of("localhost.localdomain"), None);
    }

    #[test]
    fn in_a_container_only_the_caller_knows_an_address_that_others_can_use() {
        let addresses = |public_url: &str, is_configured| Addresses {
            public_url: public_url.to_owned(),
            is_configured,
            bound: vec!["0.0.0.0:8080".parse().unwrap()],
        };
        let urls = |host| reach(&addresses("http://3f2a:8080", false), None, Some(host)).urls;
        for own in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9"] {
            assert_eq!(urls(own), ["http://localhost:8080"], "{own}");
        }
        for host in ["192.168.1.5:18080", "nas.local:8080", "[fd00::5]:8080"] {
            assert_eq!(urls(host), [format!("http://{host}")]);
        }
        let configured = reach(&addresses("https://cams.lan", true), None, Some("nas.local:8080"));
        assert_eq!(configured.urls, ["https://cams.lan"]);
    }

    #[test]
    fn the_command_for_a_link_fits_the_user_of_the_service() {
        assert_eq!(command_for(true, Some("3f2a"), 65532), "docker exec 3f2a liveobject sign-in");
        assert_eq!(command_for(false, Some("box"), 0), "liveobject sign-in");
        assert_eq!(command_for(false, Some("box"), 1000), "liveobject sign-in");
        assert_eq!(command_for(false, None, 999), "sudo liveobject sign-in");
    }

    #[test]
    fn the_number_of_urls_is_limited() {
        let many: Vec<String> = (0..100).map(|i| format!("10.0.0.{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(urls(None, &["0.0.0.0:80"], Some(&many)).0.len(), MAX_URLS);
    }
}
